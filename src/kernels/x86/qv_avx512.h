/* qv_avx512.h - the vectors that quant_group.h, quant_minima.h and attn_int8.h ask for, in 512 bits. */
#ifndef QVL_KERNELS_X86_QV_AVX512_H
#define QVL_KERNELS_X86_QV_AVX512_H

#include "kernels/x86/vec_avx512.h"

#define QV_LANES 16
typedef __m512 qv;
typedef __m512i qvi;
QVL_INLINE qv qv_set(float a) { return _mm512_set1_ps(a); }
QVL_INLINE qv qv_load(const float *p) { return _mm512_loadu_ps(p); }
QVL_INLINE void qv_store(float *p, qv v) { _mm512_storeu_ps(p, v); }
QVL_INLINE qv qv_mul(qv a, qv b) { return _mm512_mul_ps(a, b); }
QVL_INLINE qv qv_add(qv a, qv b) { return _mm512_add_ps(a, b); }
QVL_INLINE qv qv_sub(qv a, qv b) { return _mm512_sub_ps(a, b); }
QVL_INLINE qv qv_div(qv a, qv b) { return _mm512_div_ps(a, b); }
QVL_INLINE qv qv_fma(qv a, qv b, qv c) { return _mm512_fmadd_ps(a, b, c); }
QVL_INLINE qv qv_min(qv a, qv b) { return _mm512_min_ps(a, b); }
QVL_INLINE qv qv_max(qv a, qv b) { return _mm512_max_ps(a, b); }
QVL_INLINE qv qv_pick(qv a, qv b, qv x, qv y) { return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), x); }
QVL_INLINE qv qv_rint(qv a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
QVL_INLINE qv qv_pow2(qv n) { return _mm512_scalef_ps(_mm512_set1_ps(1), n); }
QVL_INLINE qv qv_from_ints(const float *p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }
QVL_INLINE qv qv_half(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
QVL_INLINE qvi qvi_from(qv v) { return _mm512_cvtps_epi32(v); }
QVL_INLINE qvi qvi_zero(void) { return _mm512_setzero_si512(); }
QVL_INLINE qvi qvi_max(qvi a, qvi b) { return _mm512_max_epi32(a, b); }
QVL_INLINE qvi qvi_or(qvi a, qvi b) { return _mm512_or_si512(a, b); }
QVL_INLINE qvi qvi_shl(qvi a, int bits) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits)); }
QVL_INLINE void qvi_store(void *p, qvi v) { _mm512_storeu_si512(p, v); }
QVL_INLINE qvi qvi_bits(qv v) { return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)); }

#endif
