/* qv_avx2.h - the vectors that quant_group.h, quant_minima.h and attn_int8.h ask for, in 256 bits. */
#ifndef QVL_KERNELS_X86_QV_AVX2_H
#define QVL_KERNELS_X86_QV_AVX2_H

#include "kernels/x86/vec_avx2.h"

#define QV_LANES 8
typedef __m256 qv;
typedef __m256i qvi;
QVL_INLINE qv qv_set(float a) { return _mm256_set1_ps(a); }
QVL_INLINE qv qv_load(const float *p) { return _mm256_loadu_ps(p); }
QVL_INLINE void qv_store(float *p, qv v) { _mm256_storeu_ps(p, v); }
QVL_INLINE qv qv_mul(qv a, qv b) { return _mm256_mul_ps(a, b); }
QVL_INLINE qv qv_add(qv a, qv b) { return _mm256_add_ps(a, b); }
QVL_INLINE qv qv_sub(qv a, qv b) { return _mm256_sub_ps(a, b); }
QVL_INLINE qv qv_div(qv a, qv b) { return _mm256_div_ps(a, b); }
QVL_INLINE qv qv_fma(qv a, qv b, qv c) { return _mm256_fmadd_ps(a, b, c); }
QVL_INLINE qv qv_min(qv a, qv b) { return _mm256_min_ps(a, b); }
QVL_INLINE qv qv_max(qv a, qv b) { return _mm256_max_ps(a, b); }
QVL_INLINE qv qv_pick(qv a, qv b, qv x, qv y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
QVL_INLINE qv qv_rint(qv a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
QVL_INLINE qv qv_pow2(qv n) { return pow2(_mm256_cvtps_epi32(n)); }
QVL_INLINE qv qv_from_ints(const float *p) { return _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
QVL_INLINE qv qv_half(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
QVL_INLINE qvi qvi_from(qv v) { return _mm256_cvtps_epi32(v); }
QVL_INLINE qvi qvi_zero(void) { return _mm256_setzero_si256(); }
QVL_INLINE qvi qvi_max(qvi a, qvi b) { return _mm256_max_epi32(a, b); }
QVL_INLINE qvi qvi_or(qvi a, qvi b) { return _mm256_or_si256(a, b); }
QVL_INLINE qvi qvi_shl(qvi a, int bits) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits)); }
QVL_INLINE void qvi_store(void *p, qvi v) { _mm256_storeu_si256((__m256i *)p, v); }
QVL_INLINE qvi qvi_bits(qv v) { return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff)); }

#endif
