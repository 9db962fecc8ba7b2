/* vec_avx512.h - helpers on 512-bit vectors, for the files compiled with AVX-512 F, BW, DQ, VL. */
#ifndef QVL_KERNELS_X86_VEC_AVX512_H
#define QVL_KERNELS_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "base/dtype.h"
#include "kernels/x86/inline.h"

/* The first n lanes, 0 <= n; all of them from 16 on. */
QVL_INLINE __mmask16 lanes16(int64_t n) { return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1); }

QVL_INLINE __m512 from_bf16(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }

/* 16 elements at index i of memory of any alignment, exactly widened; lanes outside of the mask are not read and zero. */
QVL_INLINE __m512 load16(const void *p, int64_t i, enum qvl_dtype type, __mmask16 mask)
{
    if (type == QVL_DT_F32)
        return _mm512_maskz_loadu_ps(mask, (const float *)p + i);
    __m256i h = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i);
    return type == QVL_DT_BF16 ? from_bf16(h) : _mm512_cvtph_ps(h);
}

/* Without a mask, so that the load can be part of the conversion. */
QVL_INLINE __m512 load16_full(const void *p, int64_t i, enum qvl_dtype type)
{
    if (type == QVL_DT_F32)
        return _mm512_loadu_ps((const float *)p + i);
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)p + i));
    return type == QVL_DT_BF16 ? from_bf16(h) : _mm512_cvtph_ps(h);
}

/* Nearest even in integer arithmetic: the conversion instruction would flush denormals. In the low half of each lane. */
QVL_INLINE __m512i round_bf16_u32(__m512 v)
{
    __m512i u = _mm512_castps_si512(v), lsb = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), lsb), 16);
    __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    return _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
}

QVL_INLINE __m512 round_bf16(__m512 v) { return _mm512_castsi512_ps(_mm512_slli_epi32(round_bf16_u32(v), 16)); }

/* exp(x), relative error below 1e-7 plus the rounding of x itself; 0 and infinity where they belong, NaN stays.
 * x = n ln2 + r, exp(x) = 2^n (1 + r + r^2 P(r)), P minimax of degree 4 on |r| <= ln2/2 (3e-9). */
QVL_INLINE __m512 exp16(__m512 x)
{
    /* Beyond these the result is 0 or infinity anyway, and n r would not be finite. min and max keep a NaN in x. */
    x = _mm512_min_ps(_mm512_set1_ps(130.0f), _mm512_max_ps(_mm512_set1_ps(-130.0f), x));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x); /* exact: the constant has few bits */
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(0x1.6a23ccp-10f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.123a20p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.5558f2p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.555492p-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fffffcp-2f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

/* 2^t for t <= 0, for softmax: t = n + f, 2^f minimax of degree 6 (2e-9) or, when the result is rounded to bf16, 5 (9e-8).
 * -inf gives 0, NaN stays. */
QVL_INLINE __m512 exp2_16(__m512 t, int degree)
{
    t = _mm512_max_ps(_mm512_set1_ps(-200.0f), t); /* -inf - (-inf) would be NaN */
    __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(t, n), p;
    if (degree == 6) {
        p = _mm512_set1_ps(0.00015353257185779512f);
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.001339900423772633f));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.00961843878030777f));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.05550331994891167f));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.24022647738456726f));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6931471824645996f));
    } else {
        p = _mm512_set1_ps(0.0013264587614685297f);
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.009671619161963463f));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0555073507130146f));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.24022240936756134f));
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6931470036506653f));
    }
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f)), n);
}

/* Transposes 16 vectors of 16 32-bit lanes in place. */
QVL_INLINE void transpose16(__m512i r[16])
{
    __m512i t[16];
    QVL_UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    QVL_UNROLL
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* r[4g+c], 128-bit lane l: rows 4g.., column 4l+c */
    QVL_UNROLL
    for (int c = 0; c < 4; c++) {
        t[c] = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);
        t[4 + c] = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
        t[8 + c] = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);
        t[12 + c] = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
    }
    QVL_UNROLL
    for (int c = 0; c < 4; c++) {
        r[c] = _mm512_shuffle_i32x4(t[c], t[4 + c], 0x88);
        r[8 + c] = _mm512_shuffle_i32x4(t[c], t[4 + c], 0xdd);
        r[4 + c] = _mm512_shuffle_i32x4(t[8 + c], t[12 + c], 0x88);
        r[12 + c] = _mm512_shuffle_i32x4(t[8 + c], t[12 + c], 0xdd);
    }
}

#endif
