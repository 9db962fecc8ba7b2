/* vec_avx2.h - helpers on 256-bit vectors, for the files compiled with AVX2, FMA, F16C. */
#ifndef QVL_KERNELS_X86_VEC_AVX2_H
#define QVL_KERNELS_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"
#include "kernels/x86/inline.h"

QVL_INLINE __m256 from_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }

/* 8 elements of memory of any alignment, exactly widened. */
QVL_INLINE __m256 load8(const void *p, enum qvl_dtype type)
{
    if (type == QVL_DT_F32)
        return _mm256_loadu_ps(p);
    __m128i h = _mm_loadu_si128(p);
    return type == QVL_DT_BF16 ? from_bf16(h) : _mm256_cvtph_ps(h);
}

/* The first n < 8 elements, the rest zero; nothing beyond them is read. */
QVL_INLINE __m256 load8_part(const void *p, int64_t n, enum qvl_dtype type)
{
    unsigned char buf[32] = {0};
    memcpy(buf, p, (size_t)n * (type == QVL_DT_F32 ? 4 : 2));
    return load8(buf, type);
}

QVL_INLINE __m256 load8_n(const void *p, int64_t n, enum qvl_dtype type)
{
    return n >= 8 ? load8(p, type) : load8_part(p, n, type);
}

QVL_INLINE void store8_n(float *p, int64_t n, __m256 v)
{
    float buf[8];
    if (n >= 8) {
        _mm256_storeu_ps(p, v);
    } else {
        _mm256_storeu_ps(buf, v);
        memcpy(p, buf, (size_t)n * 4);
    }
}

QVL_INLINE float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* Ordered so that a NaN in the first operand of max_ps is dropped, see attn_avx2.c. */
QVL_INLINE float max8(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* Nearest even, in the low half of each lane; NaN stays NaN. */
QVL_INLINE __m256i round_bf16_u32(__m256 v)
{
    __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16), lsb = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), lsb), 16);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
}

QVL_INLINE __m256 round_bf16(__m256 v) { return _mm256_castsi256_ps(_mm256_slli_epi32(round_bf16_u32(v), 16)); }

QVL_INLINE __m256 pow2(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* exp(x), see vec_avx512.h. The factor 2^n goes in two halves, because n reaches beyond the exponents of f32. */
QVL_INLINE __m256 exp8(__m256 x)
{
    x = _mm256_min_ps(_mm256_set1_ps(130.0f), _mm256_max_ps(_mm256_set1_ps(-130.0f), x));
    __m256 n =
        _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(0x1.6a23ccp-10f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.123a20p-7f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f2p-5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555492p-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
    p = _mm256_mul_ps(_mm256_add_ps(p, _mm256_set1_ps(1.0f)), pow2(half));
    return _mm256_mul_ps(p, pow2(_mm256_sub_epi32(i, half)));
}

/* Transposes 8 vectors of 8 lanes in place. */
QVL_INLINE void transpose8(__m256 r[8])
{
    __m256 t[8];
    QVL_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    QVL_UNROLL
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    QVL_UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    QVL_UNROLL
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

#endif
