/* ref_attn.c - the scalar truth of one attention block: scores, softmax and sums in double. */
#include <math.h>

#include "base/half.h"
#include "kernels/pack.h"
#include "kernels/ref/qv_ref.h"

#include "kernels/attn_int8.h"

static inline void put_weights(uint8_t *row, int64_t j, qvi q)
{
    int16_t h = (int16_t)q;
    memcpy(row + 2 * j, &h, 2);
}

static double k_at(const struct qvl_attn_block *b, int bf16, int64_t pos, int d)
{
    int64_t panel = pos / QVL_KV_PANEL * b->head_dim * QVL_KV_PANEL, lane = pos % QVL_KV_PANEL;
    if (bf16)
        return qvl_bf16_to_f32(((const uint16_t *)b->k)[panel + d / 2 * QVL_KV_PANEL * 2 + lane * 2 + d % 2]);
    return ((const float *)b->k)[panel + d * QVL_KV_PANEL + lane];
}

static double v_at(const struct qvl_attn_block *b, int bf16, int64_t pos, int d)
{
    if (bf16)
        return qvl_bf16_to_f32(((const uint16_t *)b->v)[(pos / 2 * b->dv + d) * 2 + pos % 2]);
    return ((const float *)b->v)[pos * b->dv + d];
}

static void block(const struct qvl_attn_block *b, int bf16)
{
    for (int i = 0; i < b->rows; i++) {
        float *s = b->work, top = -INFINITY;
        double sum = 0;
        for (int64_t p = 0; p < b->limit[i]; p++) {
            double dot = 0;
            for (int d = 0; d < b->head_dim; d++)
                dot += b->q[i * QVL_HEAD_MAX + d] * k_at(b, bf16, p, d);
            s[p] = (float)dot;
            top = s[p] > top || s[p] != s[p] ? s[p] : top;
        }
        for (int64_t p = 0; p < b->limit[i]; p++) {
            double e = exp(((double)s[p] - top) * b->scale);
            sum += e;
            s[p] = bf16 ? qvl_bf16_to_f32(qvl_f32_to_bf16((float)e)) : (float)e;
        }
        for (int d = 0; d < b->dv; d++) {
            double o = 0;
            for (int64_t p = 0; p < b->limit[i]; p++)
                o += s[p] * v_at(b, bf16, p, d);
            b->o[i * b->dv + d] = (float)o;
        }
        b->m[i] = top;
        b->l[i] = (float)sum;
    }
}

static void block_f32(const struct qvl_attn_block *b) { block(b, 0); }
static void block_bf16(const struct qvl_attn_block *b) { block(b, 1); }

static void block_int8(const struct qvl_attn_block *b)
{
    struct work8 *w = b->work;
    const int64_t kp = qvl_panel8_bytes(b->head_dim), vp = qvl_panel8_bytes(b->dv);
    const int64_t n16 = (b->n + QVL_KV_PANEL - 1) / QVL_KV_PANEL * QVL_KV_PANEL;
    for (int i = 0; i < b->rows; i++)
        for (int64_t p = 0; p < n16; p++) {
            const uint8_t *k = (const uint8_t *)b->k + p / QVL_KV_PANEL * kp + p % QVL_KV_PANEL * 4;
            int32_t sum = b->q8[i].start;
            for (int d = 0; d < b->head_dim; d++)
                sum += b->q8[i].q[d] * k[d / 4 * QVL_KV_PANEL * 4 + d % 4];
            memcpy(&w->s[i][p], &sum, 4);
        }
    softmax8(b, w);
    for (int i = 0; i < b->rows; i++)
        for (int d = 0; d < b->dv; d++) {
            float o = 0;
            for (int64_t p = 0; p < n16;) {
                const int64_t part = p / QVL_ATTN_PART, end = (part + 1) * QVL_ATTN_PART;
                int32_t sum = 0;
                for (; p < n16 && p < end; p++) {
                    const int8_t *v = (const int8_t *)b->v + p / QVL_KV_PANEL * vp;
                    int16_t weight;
                    memcpy(&weight, w->w[i] + 2 * p, 2);
                    sum += weight * v[(p % QVL_KV_PANEL / 4 * b->dv + d) * 4 + p % 4];
                }
                o = fmaf((float)sum, w->scale[i][part], o);
            }
            b->o[i * b->dv + d] = o;
        }
}

static void merge(float *acc, const float *o, float a, float b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        acc[i] = fmaf(acc[i], a, o[i] * b);
}

const struct qvl_attn_kernels qvl_attn_kernels_ref = {
    .block_f32 = block_f32, .block_bf16 = block_bf16, .block_int8 = block_int8, .merge = merge};
