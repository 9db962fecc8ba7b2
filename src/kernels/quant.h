/* quant.h - integer weight kinds: layouts, packing, and products with int8 activations.
 *
 * Kinds. Groups of QVL_GROUP consecutive inputs of one output row share a scale (f16).
 *   q4   w = s * (u - 8), u = 0..15                        4.5 bits a weight
 *   q4m  w = s * u + m,   u = 0..15, m f16, a group too    5 bits a weight: codes with a minimum or zero point, as many files have
 *   q8   w = s * q,       q = -127..127                    8.5 bits a weight
 *
 * Layout: rows in panels of 16, inputs in units of two groups (64 inputs). A matrix [n_out][n_in] is stored as
 * [ceil(n_out/16)][ceil(n_in/64)] units; rows and inputs beyond the matrix are zero (q4: u = 8) with scale 0.
 *   q4 unit, 576 bytes:  2 groups x 4 vectors x 64 bytes, then scales [2 groups][16 rows] f16.
 *       In vector i of a group, 32-bit lane r belongs to row r: low nibbles are inputs 8i..8i+3 (byte 0 first), high
 *       nibbles inputs 8i+4..8i+7.
 *   q8 unit, 1088 bytes: 2 groups x 8 vectors x 64 bytes, then scales [2][16] f16.
 *       In vector i of a group, lane r holds inputs 4i..4i+3 of row r as q + 128 (unsigned, for dot products that want
 *       one unsigned operand).
 *   q4m: a panel is that of q4 for the codes u, and behind it its minima [2*ceil(n_in/64) groups][16 rows] f16 (0 beyond the matrix).
 * Inputs beyond the matrix in a group that begins inside have the scale of the group.
 *
 * Activations: int8 with one f32 scale for each block of QVL_ACT_BLOCK inputs (the last may be shorter), largest magnitude
 * 127, nearest even; beside them int32 sums of each group of 32 for the constant that the unsigned weights carry.
 *
 * Product, with one fixed order of operations at every level and for any number of tokens:
 *   d[g] = sum over the group of u*x, minus offset * sum of x       int32, exact; offset 8 (q4), 0 (q4m) or 128 (q8)
 *   B[b] = fma(s[n][g], (float)d[g], B[b])   over the groups of block b in ascending order, from 0
 *   c    = fma(xs[b], B[b], c)               over the blocks in ascending order, from 0
 *   y[n] = c + bias[n], or y[n] + (c + bias[n])
 *   q4m: y[n] += e, where e = fma(m[n][g], t[g], e) over all groups in ascending order, from 0, and t[g] = xs[b] * (float)(sum of x)
 * So results are equal bit for bit at all levels, for any m, team size and way of cutting tokens into chunks.
 * A block or weight row with non-finite values gives non-finite results, never a trap. */
#ifndef QVL_KERNELS_QUANT_H
#define QVL_KERNELS_QUANT_H

#include "kernels/kernels.h"

enum { QVL_GROUP = 32, QVL_PANEL_ROWS = 16, QVL_UNIT_INPUTS = 64, QVL_ACT_BLOCK = 256 };
enum { QVL_Q4_UNIT_BYTES = 576, QVL_Q8_UNIT_BYTES = 1088, QVL_Q4M_MIN_BYTES = 64 /* minima of one unit */ };
enum { QVL_QUANT_GEMV_MAX = 8 };

struct qvl_quant_kernels;

/* 1 for the packed kinds QVL_DT_Q4, QVL_DT_Q4M and QVL_DT_Q8. */
static inline int qvl_dtype_is_packed(enum qvl_dtype t) { return t == QVL_DT_Q4 || t == QVL_DT_Q4M || t == QVL_DT_Q8; }

/* Bytes of a packed matrix; 0 on overflow or for another type. */
size_t qvl_quant_bytes(enum qvl_dtype type, int64_t n_out, int64_t n_in);
/* Bytes of one panel; the sizes must be those of a matrix that qvl_quant_bytes accepts. */
static inline size_t qvl_quant_panel_bytes(enum qvl_dtype type, int64_t n_in)
{
    const size_t unit = type == QVL_DT_Q8 ? QVL_Q8_UNIT_BYTES : type == QVL_DT_Q4 ? QVL_Q4_UNIT_BYTES : QVL_Q4_UNIT_BYTES + QVL_Q4M_MIN_BYTES;
    return (size_t)((n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS) * unit;
}

/* Quantises rows [row0, row1) of a full-precision matrix (f32, f16, bf16; `transposed` allowed) into the packed matrix `dst`
 * of w->n_out rows. row0 must be a multiple of 16; row1 too, unless it is n_out. Different ranges may run in parallel.
 *   q4: for every group the scale is searched (24 candidates around max/8 of either sign and max/7, then the closed-form
 *       least-squares scale for the chosen integers, rounded to f16) that minimises sum_i weight[i]*(w_i - s*(u_i-8))^2;
 *       the result is never worse than s = max/-8, where max is the weight of largest magnitude, the positive one of two.
 *   q4m: a grid s*k + m that all weights of the group lie on is looked for, among the widths (max - min)/1 ... /15: matrices that come
 *       from such codes are found again, up to the rounding of s and m to f16. Without one: s = (max - min)/15, m = min.
 *   q8: s = max/127 rounded to f16, nearest even.
 *   Scales beyond f16 are clamped to 65504; groups below 2^-30 become zero; groups with a non-finite weight get scale NaN.
 * importance: [n_in] non-negative, finite weights (mean square of the inputs in a calibration run), or NULL for equal ones.
 * work: at least qvl_quant_work_bytes(n_in), 64-byte aligned.
 * Returns the weighted square error and the weighted square norm summed over rows (NaN when a weight is not finite).
 * The packed bytes are equal at all levels. */
struct qvl_quant_error {
    double error, norm;
};
size_t qvl_quant_work_bytes(int64_t n_in);
struct qvl_quant_error qvl_quant_pack(void *dst, enum qvl_dtype type, const struct qvl_mat *w, int64_t row0, int64_t row1,
                                      const float *importance, const struct qvl_kernels *k, void *work);

/* One row of a packed matrix as f32 [n_in]: embedding look-up, tests. */
void qvl_quant_row(float *dst, const struct qvl_mat *packed, int64_t row);

/* Products of the same rows with matrices of one packed kind: what qvl_matmul, qvl_matmul_set and
 * qvl_matmul_gated call, with the contract of team operations. */
struct qvl_quant_set {
    const struct qvl_matmul *op; /* [n], equal in x, x_stride, m, n_in and kind */
    int n;
    void (*gated)(float *y, const float *g, const float *u, int64_t n); /* silu_mul: op[0].y = silu(op[0]) * op[1]; or NULL */
};
size_t qvl_quant_scratch(const struct qvl_quant_kernels *k, int64_t m, int64_t n_in, int n_threads);
void qvl_quant_matmul(const struct qvl_team *t, const struct qvl_quant_kernels *k, const struct qvl_quant_set *set,
                      const struct qvl_scratch *s);

/* ------------------------------------------------------------------ inner kernels, private to src/kernels */

/* r tokens side by side, as the kernels read them; n_pad = n_in rounded up to QVL_UNIT_INPUTS. */
struct qvl_act {
    const int8_t *q;      /* [n_pad/4][r][4], zero behind n_in */
    const int32_t *start; /* [n_pad/QVL_GROUP][r]: -offset * sum of the group, where a dot product starts */
    const float *scale;   /* [ceil(n_in/QVL_ACT_BLOCK)][r] */
};

/* Minima of n_panel panels times the terms of m tokens: c = fma over the groups, c taken as 0 when `first`. */
struct qvl_quant_minima {
    float *c;            /* [m][n_panel*16], rows c_stride apart */
    const void *min;     /* [n_group][16] f16 of the first panel, any alignment; panels are panel_stride numbers apart */
    const float *term;   /* [n_group][m] */
    int64_t c_stride, panel_stride, n_group;
    int m, n_panel, first; /* m <= QVL_QUANT_GEMV_MAX */
};

/* Panels p0 <= p < p1 of a product for m <= QVL_QUANT_GEMV_MAX tokens. */
struct qvl_quant_gemv {
    float *y; /* [m][n_out] */
    const void *w;
    struct qvl_act x; /* r = m */
    const float *bias;
    int64_t y_stride, n_in, n_out, p0, p1;
    int m, add;
};

/* One group of 16 rows, for packing. */
struct qvl_quant_group {
    float x[QVL_GROUP][QVL_PANEL_ROWS]; /* overwritten */
    float weight[QVL_GROUP];            /* largest 1 */
    int weighted;                       /* 0: weights are 1, and not read */
    void *codes;                        /* out: the vectors of the group */
    uint16_t scale[QVL_PANEL_ROWS];     /* out: f16 */
    double error, norm;                 /* out: summed over rows */
};

/* The same for q4m, at all levels. n: inputs of the group inside the matrix; min: [16] f16. */
void qvl_quant_pack_q4m(struct qvl_quant_group *g, int n, uint16_t *min);

/* What a level provides. Index 0 is q4 and the codes of q4m, 1 is q8. */
struct qvl_quant_kernels {
    const char *name;
    /* One row: x[n_in] f32 -> q[n_pad], scale[blocks], sum[n_pad/QVL_GROUP]. A block that holds a non-finite value gets
     * scale NaN and zeros, one whose largest magnitude is below 2^-100 zeros. */
    void (*quantise)(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n_in);
    void (*gemv[2])(const struct qvl_quant_gemv *g); /* streams the weights once */
    void (*pack_group[2])(struct qvl_quant_group *g);
    /* Many tokens, in tiles of mr tokens x nv panels; mr = 0: gemv does everything. Work on one block of activations:
     * expand: n_units consecutive units of one panel to w [2*n_units][8][64] bytes, scale [2*n_units][16] f32.
     * tile:   c[mr][nv*16] = fma(x scale, sum over groups, c), c taken as 0 when `first`.
     *         w [nv][QVL_ACT_BLOCK/4][64], ws [nv][QVL_ACT_BLOCK/QVL_GROUP][16]. */
    int mr, nv, few; /* few: up to this many tokens gemv is faster, pass by pass */
    void (*expand[2])(uint8_t *w, float *scale, const void *packed, int64_t n_units);
    void (*tile[2])(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first);
    void (*minima)(const struct qvl_quant_minima *g);
    /* Independent int8 dot products on registers; returns the operations done (2 per multiply-add). */
    double (*probe)(int64_t iterations);
};

extern const struct qvl_quant_kernels qvl_quant_kernels_ref;
#if defined(__x86_64__)
extern const struct qvl_quant_kernels qvl_quant_kernels_avx2, qvl_quant_kernels_avx_vnni, qvl_quant_kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const struct qvl_quant_kernels qvl_quant_kernels_neon_dotprod, qvl_quant_kernels_neon_i8mm;
#endif

#endif
