/* matmul_avx512.h - the parts of the matrix product that the two AVX-512 levels share. */
#ifndef QVL_KERNELS_X86_MATMUL_AVX512_H
#define QVL_KERNELS_X86_MATMUL_AVX512_H

#include "kernels/pack.h"

#define QVL_AVX512_MR 6
#define QVL_AVX512_NR 64
#define QVL_AVX512_KB 128      /* a panel of 64 x 128 f32 fills two thirds of a 48 KiB first-level cache */
#define QVL_AVX512_KB_BF16 256 /* the same bytes */

/* How far ahead gemv asks for weights: the same place in the next group of rows, if that is near enough to stay in the
 * first-level cache until its turn; otherwise a page, where the hardware stops looking ahead. */
static inline int64_t prefetch_distance(int64_t group_bytes) { return group_bytes <= 16384 ? group_bytes : 4096; }

void qvl_gemv_avx512(const struct qvl_gemv *g);
void qvl_pack_w_avx512(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb);
void qvl_store_avx512(const struct qvl_store *s);
void qvl_tile_avx512(float *c, const float *x, const float *w, int64_t kb, int first);

#endif
