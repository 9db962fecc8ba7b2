/* quant.h - integer weight kinds: layouts, packing, and products with int8 activations.
 *
 * Kinds. Groups of QVL_GROUP consecutive inputs of one output row share a scale (f16).
 *   q4   w = s * (u - 8), u = 0..15                        4.5 bits a weight
 *   q8   w = s * q,       q = -127..127                    8.5 bits a weight
 *
 * Layout (both): rows in panels of 16, inputs in units of two groups (64 inputs). A matrix [n_out][n_in] is stored as
 * [ceil(n_out/16)][ceil(n_in/64)] units; rows and inputs beyond the matrix are zero (q4: u = 8) with scale 0.
 *   q4 unit, 576 bytes:  2 groups x 4 vectors x 64 bytes, then scales [2 groups][16 rows] f16.
 *       In vector i of a group, 32-bit lane r belongs to row r: low nibbles are inputs 8i..8i+3 (byte 0 first), high
 *       nibbles inputs 8i+4..8i+7.
 *   q8 unit, 1088 bytes: 2 groups x 8 vectors x 64 bytes, then scales [2][16] f16.
 *       In vector i of a group, lane r holds inputs 4i..4i+3 of row r as q + 128 (unsigned, for dot products that want
 *       one unsigned operand).
 *
 * Activations: int8 with one f32 scale for each block of QVL_ACT_BLOCK inputs (the last may be shorter), largest magnitude
 * 127, nearest even; beside them int32 sums of each group of 32 for the constant that the unsigned weights carry.
 *   y[n] = sum_blocks xs[b] * sum_groups_of_b s[n][g] * (dot(u, x) - offset * sum_x[g]),   offset 8 or 128
 * All integer sums are exact at every level; only the order of the f32 sums may differ between few tokens and many.
 * A block or weight row with non-finite values gives non-finite results, never a trap. */
#ifndef QVL_KERNELS_QUANT_H
#define QVL_KERNELS_QUANT_H

#include "kernels/kernels.h"

enum { QVL_GROUP = 32, QVL_PANEL_ROWS = 16, QVL_UNIT_INPUTS = 64, QVL_ACT_BLOCK = 256 };
enum { QVL_Q4_UNIT_BYTES = 576, QVL_Q8_UNIT_BYTES = 1088 };

/* Bytes of a packed matrix of QVL_DT_Q4 or QVL_DT_Q8; 0 on overflow or for another type. */
size_t qvl_quant_bytes(enum qvl_dtype type, int64_t n_out, int64_t n_in);

/* Quantises rows [row0, row1) of a full-precision matrix (f32, f16, bf16; `transposed` allowed) into the packed matrix `dst`
 * of w->n_out rows. row0 must be a multiple of 16; row1 too, unless it is n_out. Different ranges may run in parallel.
 *   q4: for every group the scale is searched (about 40 candidates around max/8 of either sign and max/7, then the closed-form
 *       least-squares scale for the chosen integers, rounded to f16) that minimises sum_i weight[i] * (w_i - s*(u_i-8))^2.
 *   q8: s = max/127 rounded to f16, nearest even.
 * importance: [n_in] non-negative weights (mean square of the inputs in a calibration run), or NULL for equal ones.
 * work: at least qvl_quant_work_bytes(n_in). Returns the weighted square error and the weighted square norm summed over rows. */
struct qvl_quant_error {
    double error, norm;
};
size_t qvl_quant_work_bytes(int64_t n_in);
struct qvl_quant_error qvl_quant_pack(void *dst, enum qvl_dtype type, const struct qvl_mat *w, int64_t row0, int64_t row1,
                                      const float *importance, const struct qvl_kernels *k, void *work);

/* One row of a packed matrix as f32 [n_in]: embedding look-up, tests. */
void qvl_quant_row(float *dst, const struct qvl_mat *packed, int64_t row);

/* Rows of activations, int8. */
struct qvl_act {
    int8_t *q;       /* [m][n_pad], n_pad = n_in rounded up to QVL_UNIT_INPUTS, zero behind n_in */
    float *scale;    /* [m][ceil(n_in/QVL_ACT_BLOCK)] */
    int32_t *sum;    /* [m][n_pad/QVL_GROUP] */
};

/* What a level provides; assembled in kernels.c like the other tables. */
struct qvl_quant_kernels {
    const char *name;
    /* One row: x[n_in] f32 -> q[n_pad], scale, sum. Bit-equal at every level. */
    void (*quantise)(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n_in);
    /* y[j*y_stride + n] for panels [p0, p1) and tokens j < m, 1 <= m <= 8: streams the weights once. */
    void (*gemv[2])(float *y, int64_t y_stride, const void *w, int64_t n_in, int64_t n_out, int64_t p0, int64_t p1,
                    const struct qvl_act *x, int m, const float *bias, int add); /* [0] q4, [1] q8 */
    /* Many tokens: internals of matmul_quant.c, see there. */
    const void *tile;
};

#endif
