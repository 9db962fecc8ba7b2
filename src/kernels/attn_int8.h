/* attn_int8.h - the softmax of a block of an INT8 cache, written once for all levels: integer products of queries and keys ->
 * integer weights for the values. The order of operations is that of pack.h; nothing but exact integers is left to a level.
 *
 * The file that includes it defines, for vectors of QV_LANES values (a divisor of 16):
 *   qv, qvi                                    f32 and int32 lanes
 *   qv_set qv_load qv_store qv_mul qv_add qv_sub
 *   qv_fma(a, b, c) = a*b + c, rounded once
 *   qv_max(a, b) = a > b ? a : b               (b when either is NaN)
 *   qv_pick(a, b, x, y) = a > b ? x : y
 *   qv_rint(a)                                 nearest even
 *   qv_from_ints(p)                            int32 in memory as f32
 *   qv_pow2(n)                                 2^n for integral n in -126..0, anything for others
 *   qvi_from(a) nearest even, qvi_zero(), qvi_max, qvi_store
 *   qvi_bits(a)                                the bits of a without the sign
 *   put_weights(row, j, q)                     stores integers 0..QVL_Q16 of the positions j.. of a row
 */
#ifndef QVL_KERNELS_ATTN_INT8_H
#define QVL_KERNELS_ATTN_INT8_H

#include <math.h>
#include <string.h>

#include "kernels/pack.h"

#define PARTS (QVL_ATTN_BLOCK / QVL_ATTN_PART)

/* How a level keeps its operands; bytes of the high and of the low half of 16-bit factors follow each other, or they are
 * int16. */
struct work8 {
    float s[QVL_ATTN_ROWS][QVL_ATTN_BLOCK];       /* products as int32, then scores, then weights */
    float scale[QVL_ATTN_ROWS][PARTS];            /* of the integer weights */
    uint8_t w[QVL_ATTN_ROWS][2 * QVL_ATTN_BLOCK]; /* integer weights */
    int8_t q[QVL_ATTN_ROWS][2 * QVL_HEAD_MAX];    /* queries */
};
_Static_assert(sizeof(struct work8) <= QVL_ATTN_WORK, "work memory of an attention block");

static inline void put_weights(uint8_t *row, int64_t j, qvi q);

/* 2^t for t <= 0: t = n + f, 2^f minimax of degree 5 (9e-8); 0 from -126 down, NaN stays. */
static inline qv exp2_qv(qv t)
{
    const qv n = qv_rint(t), f = qv_sub(t, n);
    qv p = qv_fma(qv_set(0.0013264587614685297f), f, qv_set(0.009671619161963463f));
    p = qv_fma(p, f, qv_set(0.0555073507130146f));
    p = qv_fma(p, f, qv_set(0.24022240936756134f));
    p = qv_fma(p, f, qv_set(0.6931470036506653f));
    p = qv_mul(qv_fma(p, f, qv_set(1)), qv_pow2(n));
    return qv_pick(qv_set(-126), t, qv_set(0), p);
}

/* Integer products of a row to scores, in place; returns the largest. Scores from `limit` on become -inf. */
static inline float scores_of_row(const struct qvl_attn_block *b, int row, float *s)
{
    const int64_t panel = qvl_panel8_bytes(b->head_dim), limit = b->limit[row];
    const char *scale = (const char *)b->k + b->head_dim * QVL_KV_PANEL;
    const qv f = qv_set(b->q8[row].scale * b->scale);
    qv top = qv_set(-INFINITY);
    float lanes[QV_LANES], most = -INFINITY;
    for (int64_t j = 0; j < b->n; j += QVL_KV_PANEL, scale += panel) {
        const float *ks = (const float *)(const void *)scale;
        for (int l = 0; l < QVL_KV_PANEL; l += QV_LANES)
            qv_store(s + j + l, qv_mul(qv_from_ints(s + j + l), qv_mul(qv_load(ks + l), f)));
        for (int64_t i = limit > j ? limit : j; i < j + QVL_KV_PANEL; i++)
            s[i] = -INFINITY;
        for (int l = 0; l < QVL_KV_PANEL; l += QV_LANES)
            top = qv_max(qv_load(s + j + l), top);
    }
    qv_store(lanes, top);
    for (int l = 0; l < QV_LANES; l++)
        most = lanes[l] > most ? lanes[l] : most;
    return most;
}

/* Scores to weights e * v_scale, in place, 0 from `limit` on; returns the sum of e. */
static inline float weights_of_row(const struct qvl_attn_block *b, int row, float *s, float most)
{
    const int64_t panel = qvl_panel8_bytes(b->dv), limit = b->limit[row];
    const char *scale = (const char *)b->v + b->dv * QVL_KV_PANEL;
    const qv m = qv_set(most);
    qv sum[QVL_KV_PANEL / QV_LANES];
    float lanes[QVL_KV_PANEL];
    for (int l = 0; l < QVL_KV_PANEL / QV_LANES; l++)
        sum[l] = qv_set(0);
    for (int64_t j = 0; j < b->n; j += QVL_KV_PANEL, scale += panel) {
        const float *vs = (const float *)(const void *)scale;
        for (int l = 0; l < QVL_KV_PANEL / QV_LANES; l++) {
            const qv e = exp2_qv(qv_sub(qv_load(s + j + l * QV_LANES), m));
            sum[l] = qv_add(sum[l], e);
            qv_store(s + j + l * QV_LANES, qv_mul(e, qv_load(vs + l * QV_LANES)));
        }
        for (int64_t i = limit > j ? limit : j; i < j + QVL_KV_PANEL; i++)
            s[i] = 0; /* not -inf's 0 times a scale that may be NaN */
    }
    for (int l = 0; l < QVL_KV_PANEL / QV_LANES; l++)
        qv_store(lanes + l * QV_LANES, sum[l]);
    for (int half = QVL_KV_PANEL / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            lanes[l] += lanes[l + half];
    return lanes[0];
}

/* The weights of a part (n16 positions, at most QVL_ATTN_PART) as integers; returns their scale. */
static inline float integers_of_part(uint8_t *row, int64_t j0, const float *s, int64_t n16)
{
    int32_t lanes[QV_LANES], bits = 0;
    qvi top = qvi_zero();
    float largest;
    for (int64_t j = 0; j < n16; j += QV_LANES)
        top = qvi_max(top, qvi_bits(qv_load(s + j)));
    qvi_store(lanes, top);
    for (int l = 0; l < QV_LANES; l++)
        bits = lanes[l] > bits ? lanes[l] : bits;
    memcpy(&largest, &bits, 4);
    if (bits < 0x7f800000 && largest >= 0x1p-100f) {
        const qv inverse = qv_set(QVL_Q16 / largest);
        for (int64_t j = 0; j < n16; j += QV_LANES)
            put_weights(row, j0 + j, qvi_from(qv_mul(qv_load(s + j), inverse)));
        return largest / QVL_Q16;
    }
    for (int64_t j = 0; j < n16; j += QV_LANES)
        put_weights(row, j0 + j, qvi_zero());
    return bits >= 0x7f800000 ? NAN : 0;
}

/* Products w->s of all rows to integer weights w->w and w->scale, b->m and b->l. */
static void softmax8(const struct qvl_attn_block *b, struct work8 *w)
{
    const int64_t n16 = (b->n + QVL_KV_PANEL - 1) / QVL_KV_PANEL * QVL_KV_PANEL;
    for (int i = 0; i < b->rows; i++) {
        float *s = w->s[i];
        b->m[i] = scores_of_row(b, i, s);
        b->l[i] = weights_of_row(b, i, s, b->m[i]);
        for (int64_t j = 0; j < n16; j += QVL_ATTN_PART)
            w->scale[i][j / QVL_ATTN_PART] =
                integers_of_part(w->w[i], j, s + j, n16 - j < QVL_ATTN_PART ? n16 - j : QVL_ATTN_PART);
    }
}

#endif
