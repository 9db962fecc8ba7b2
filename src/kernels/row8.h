/* row8.h - 8-bit weights with one scale for each row: the fast mode of the vision encoder.
 *
 * Compared with q8 (quant.h) a dot product has no scales inside a block of 256 inputs: the product of many tokens runs at nine
 * tenths of the machine's integer rate. It is made for many tokens, and in memory only.
 *
 * Layout: codes [panels][n_pad/4][16][4] as q + 128, q = -127..127, then scales [panels][16] f32; panels of 16 rows, their number
 * rounded up to a multiple of four, n_pad = n_in rounded up to 64. Rows and inputs beyond the matrix are zero.
 *
 * Activations: as in quant.h, int8 with one scale for each block of QVL_ACT_BLOCK inputs.
 *
 * Product, in one order at every level and for any number of tokens, so that results are equal bit for bit:
 *   d[b] = sum over block b of q*x                  int32, exact
 *   c    = fma(xs[b], (float)d[b], c)               over the blocks in ascending order, from 0
 *   y[n] = s[n]*c + bias[n], or y[n] + (s[n]*c + bias[n]), each operation rounded */
#ifndef QVL_KERNELS_ROW8_H
#define QVL_KERNELS_ROW8_H

#include "kernels/kernels.h"
#include "kernels/quant.h"

enum { QVL_ROW8_PANELS = 4 }; /* the number of panels is a multiple of it */

/* 0 on overflow. */
size_t qvl_row8_bytes(int64_t n_out, int64_t n_in);
/* Packs rows [row0, row1) of a full-precision matrix: multiples of 16, but for row1 = n_out, with which the rest becomes zero.
 * work: [n_in] floats. A row with a non-finite weight gets scale NaN, one below 2^-100 becomes zero. */
void qvl_row8_pack(void *dst, const struct qvl_mat *w, int64_t row0, int64_t row1, const struct qvl_kernels *k, float *work);

/* The product for op->w of QVL_DT_ROW8: what qvl_matmul calls, with the contract of team operations. */
size_t qvl_row8_scratch(const struct qvl_kernels *k, int64_t m, int64_t n_in, int n_threads);
void qvl_row8_matmul(const struct qvl_team *t, const struct qvl_kernels *k, const struct qvl_matmul *op, const struct qvl_scratch *s);

/* ------------------------------------------------------------------ inner kernels, private to src/kernels */

/* mr tokens x nv panels, one block of inputs. */
struct qvl_row8_tile {
    const uint8_t *w;     /* the block in the first panel: [n4][16][4] */
    size_t panel;         /* bytes from a panel to the next */
    const int8_t *x;      /* [n4][mr][4] */
    const int32_t *start; /* [mr]: -128 * sum of x */
    const float *scale;   /* [mr] of the activations */
    const float *last;    /* [nv*16] of the rows, after the last block; else NULL */
    int64_t n4;           /* quadruples of inputs, a multiple of 16 */
    int first;
};

struct qvl_row8_kernels {
    int mr, nv; /* nv divides QVL_ROW8_PANELS */
    /* c[mr][nv*16] = fma(scale, (float)(dot product), c), c taken as 0 when first; then times last. */
    void (*tile)(float *c, const struct qvl_row8_tile *t);
};

extern const struct qvl_row8_kernels qvl_row8_kernels_ref;
#if defined(__x86_64__)
extern const struct qvl_row8_kernels qvl_row8_kernels_avx2, qvl_row8_kernels_avx_vnni, qvl_row8_kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const struct qvl_row8_kernels qvl_row8_kernels_neon_dotprod;
#endif

#endif
