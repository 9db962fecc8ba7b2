/* kv_cache.c - writing the cache of keys and values, and queries in the form that an INT8 cache wants. Layouts: pack.h. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

#define TINY 0x1p-100f /* what is smaller counts as zero: its reciprocal would not be finite */

size_t qvl_kv_bytes(enum qvl_kv_type type, int head_dim, int64_t n_max)
{
    size_t n;
    if (n_max < 0 || head_dim <= 0 || (uint64_t)n_max > SIZE_MAX - QVL_KV_PANEL)
        return SIZE_MAX;
    size_t panels = qvl_round_up((size_t)n_max, QVL_KV_PANEL) / QVL_KV_PANEL, dv = (size_t)qvl_attn_dv(head_dim);
    size_t panel = type == QVL_KV_INT8 ? (size_t)qvl_panel8_bytes((int)dv) : dv * QVL_KV_PANEL * (type == QVL_KV_BF16 ? 2 : 4);
    return qvl_mul_size(&n, panels, panel) ? SIZE_MAX : n;
}

int qvl_rotation_gain(int head_dim) { return head_dim & -head_dim; }

/* x <- H x in pieces of qvl_rotation_gain(n) values; H has the entries 1 and -1. */
static void rotate(float *x, int n)
{
    const int size = qvl_rotation_gain(n);
    for (int half = 1; half < size; half *= 2)
        for (int i = 0; i < n; i += 2 * half)
            for (int j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
}

/* Largest magnitude; NaN when a value is not finite, 0 when all count as zero. */
static float largest_of(const float *x, int n)
{
    uint32_t most = 0, u;
    float f;
    for (int i = 0; i < n; i++) { /* without their signs, bits grow with the value, NaN above infinity above all numbers */
        memcpy(&u, &x[i], 4);
        u &= 0x7fffffffu;
        most = u > most ? u : most;
    }
    memcpy(&f, &most, 4);
    return most >= 0x7f800000u ? NAN : f < TINY ? 0 : f;
}

/* q = nearest(x * top / largest) for n values; returns the scale. */
static float quantise(int16_t *q, const float *x, int n, float top)
{
    const float largest = largest_of(x, n);
    if (!(largest > 0)) {
        memset(q, 0, (size_t)n * sizeof *q);
        return largest;
    }
    const float inverse = top / largest;
    for (int i = 0; i < n; i++)
        q[i] = (int16_t)lrintf(x[i] * inverse);
    return largest / top;
}

void qvl_query8_make(struct qvl_query8 *to, const float *q, int head_dim)
{
    float x[QVL_HEAD_MAX];
    int32_t sum = 0;
    memcpy(x, q, (size_t)head_dim * sizeof *x);
    rotate(x, head_dim);
    to->scale = quantise(to->q, x, head_dim, QVL_Q16);
    for (int i = 0; i < head_dim; i++)
        sum += to->q[i];
    to->start = -128 * sum;
}

static void store_int8(const struct qvl_kv *kv, int64_t pos, const float *k, const float *v)
{
    const int hd = kv->head_dim, dv = qvl_attn_dv(hd);
    const int64_t panel = pos / QVL_KV_PANEL, lane = pos % QVL_KV_PANEL;
    uint8_t *kd = (uint8_t *)kv->k + panel * qvl_panel8_bytes(hd);
    int8_t *vd = (int8_t *)kv->v + panel * qvl_panel8_bytes(dv);
    int16_t q[QVL_HEAD_MAX];
    float x[QVL_HEAD_MAX];
    memcpy(x, k, (size_t)hd * sizeof *x);
    rotate(x, hd);
    float scale = quantise(q, x, hd, 127);
    memcpy(kd + hd * QVL_KV_PANEL + lane * 4, &scale, 4);
    for (int d = 0; d < hd; d++)
        kd[d / 4 * QVL_KV_PANEL * 4 + lane * 4 + d % 4] = (uint8_t)(q[d] + 128);
    scale = quantise(q, v, hd, 127);
    memcpy(vd + dv * QVL_KV_PANEL + lane * 4, &scale, 4);
    for (int d = 0; d < hd; d++)
        vd[(lane / 4 * dv + d) * 4 + lane % 4] = (int8_t)q[d];
}

void qvl_kv_store(enum qvl_kv_type type, const struct qvl_kv *kv, int64_t pos, const float *k, const float *v)
{
    int hd = kv->head_dim, dv = qvl_attn_dv(hd);
    int64_t panel = pos / QVL_KV_PANEL, lane = pos % QVL_KV_PANEL;
    assert(pos >= 0 && pos < kv->n_max);
    if (type == QVL_KV_INT8) {
        store_int8(kv, pos, k, v);
    } else if (type == QVL_KV_BF16) {
        uint16_t *kd = (uint16_t *)kv->k + panel * hd * QVL_KV_PANEL + lane * 2,
                 *vd = (uint16_t *)kv->v + pos / 2 * dv * 2 + pos % 2;
        for (int d = 0; d < hd; d++) {
            kd[d / 2 * QVL_KV_PANEL * 2 + d % 2] = qvl_f32_to_bf16(k[d]);
            vd[d * 2] = qvl_f32_to_bf16(v[d]);
        }
    } else {
        float *kd = (float *)kv->k + panel * hd * QVL_KV_PANEL + lane;
        for (int d = 0; d < hd; d++)
            kd[d * QVL_KV_PANEL] = k[d];
        memcpy((float *)kv->v + pos * dv, v, (size_t)hd * sizeof *v);
    }
}

void qvl_kv_store_rows(const struct qvl_kernels *kernels, enum qvl_kv_type type, const struct qvl_kv *kv, int64_t pos, int64_t n,
                       const float *k, const float *v, int64_t stride)
{
    const struct qvl_attn_kernels *ak = kernels->attn;
    const int64_t hd = kv->head_dim, dv = qvl_attn_dv(kv->head_dim);
    assert(pos % QVL_KV_PANEL == 0 && pos + n <= kv->n_max);
    int64_t i = 0;
    if (type == QVL_KV_BF16 && ak->store_bf16)
        for (; i + QVL_KV_PANEL <= n; i += QVL_KV_PANEL)
            ak->store_bf16((uint16_t *)kv->k + (pos + i) * hd, (uint16_t *)kv->v + (pos + i) * dv, k + i * stride, v + i * stride,
                           stride, kv->head_dim);
    for (; i < n; i++)
        qvl_kv_store(type, kv, pos + i, k + i * stride, v + i * stride);
}
