/* row8_avx_vnni.c - 8-bit weights with row scales, 256-bit dot products of bytes. */
#include "kernels/row8.h"
#include "kernels/x86/vec_avx2.h"

QVL_INLINE __m256i dots_begin(int32_t start) { return _mm256_set1_epi32(start); }
QVL_INLINE __m256i dots_operand(__m256i u) { return u; }
QVL_INLINE __m256i dots(__m256i acc, __m256i w, __m256i x) { return _mm256_dpbusd_avx_epi32(acc, w, x); }

#include "kernels/x86/row8_ymm.h"

const struct qvl_row8_kernels qvl_row8_kernels_avx_vnni = {.mr = MR, .nv = 1, .tile = tile};
