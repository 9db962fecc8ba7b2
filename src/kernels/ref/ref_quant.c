/* ref_quant.c - the scalar truth of the integer kinds. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/quant.h"
#include "kernels/ref/qv_ref.h"

#include "kernels/quant_group.h"
#include "kernels/quant_minima.h"

static void quantise(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n_in)
{
    int64_t n_pad = (n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS * QVL_UNIT_INPUTS;
    memset(q, 0, (size_t)n_pad);
    for (int64_t k0 = 0, b = 0; k0 < n_in; k0 += QVL_ACT_BLOCK, b++) {
        int64_t k1 = k0 + QVL_ACT_BLOCK < n_in ? k0 + QVL_ACT_BLOCK : n_in;
        float largest = 0;
        int finite = 1;
        for (int64_t k = k0; k < k1; k++) {
            finite &= isfinite(x[k]) != 0;
            largest = fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
        }
        scale[b] = finite ? 0 : NAN;
        if (!finite || largest < 0x1p-100f)
            continue;
        scale[b] = largest / 127;
        float inverse = 127 / largest;
        for (int64_t k = k0; k < k1; k++)
            q[k] = (int8_t)lrintf(x[k] * inverse);
    }
    for (int64_t g = 0; g < n_pad / QVL_GROUP; g++) {
        sum[g] = 0;
        for (int i = 0; i < QVL_GROUP; i++)
            sum[g] += q[g * QVL_GROUP + i];
    }
}

/* Weight of row r, input i of a group, as the unsigned integer it is stored as. */
static int code(const unsigned char *group, int kind, int r, int i)
{
    if (kind)
        return group[i / 4 * 64 + r * 4 + i % 4];
    int byte = group[i / 8 * 64 + r * 4 + i % 4];
    return i / 4 % 2 ? byte >> 4 : byte & 15;
}

static float row_token(const struct qvl_quant_gemv *g, int kind, int64_t n, int j)
{
    const int64_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES,
                  n_units = (g->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    const int64_t group_bytes = kind ? 512 : 256, per_block = QVL_ACT_BLOCK / QVL_GROUP;
    const unsigned char *w = (const unsigned char *)g->w + n / QVL_PANEL_ROWS * n_units * unit;
    const int r = (int)(n % QVL_PANEL_ROWS);
    float c = 0, block = 0;
    for (int64_t group = 0; group < 2 * n_units; group++) {
        const unsigned char *codes = w + group / 2 * unit + group % 2 * group_bytes;
        uint16_t scale;
        memcpy(&scale, w + group / 2 * unit + 2 * group_bytes + group % 2 * 32 + r * 2, 2);
        int32_t d = g->x.start[group * g->m + j];
        for (int i = 0; i < QVL_GROUP; i++)
            d += code(codes, kind, r, i) * g->x.q[((group * QVL_GROUP + i) / 4 * g->m + j) * 4 + i % 4];
        block = fmaf(qvl_f16_to_f32(scale), (float)d, block);
        if ((group + 1) % per_block == 0 || group + 1 == 2 * n_units) {
            c = fmaf(g->x.scale[group / per_block * g->m + j], block, c);
            block = 0;
        }
    }
    return c;
}

static void gemv(const struct qvl_quant_gemv *g, int kind)
{
    for (int64_t n = g->p0 * QVL_PANEL_ROWS; n < g->p1 * QVL_PANEL_ROWS && n < g->n_out; n++)
        for (int j = 0; j < g->m; j++) {
            float *y = g->y + j * g->y_stride + n, c = row_token(g, kind, n, j);
            if (g->bias)
                c += g->bias[n];
            *y = g->add ? *y + c : c;
        }
}

static void gemv_q4(const struct qvl_quant_gemv *g) { gemv(g, 0); }
static void gemv_q8(const struct qvl_quant_gemv *g) { gemv(g, 1); }

static double probe(int64_t iterations)
{
    int32_t a[8] = {0};
    int8_t x[8];
    for (int j = 0; j < 8; j++)
        x[j] = (int8_t)(j + 1);
    for (int64_t i = 0; i < iterations; i++)
        for (int j = 0; j < 8; j++)
            a[j] = (a[j] + x[j] * x[7 - j]) & 0xffffff;
    volatile int32_t sink = a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
    (void)sink;
    return 16.0 * (double)iterations;
}

const struct qvl_quant_kernels qvl_quant_kernels_ref = {
    .name = "ref", .quantise = quantise, .gemv = {gemv_q4, gemv_q8}, .pack_group = {pack_q4, pack_q8}, .minima = minima, .probe = probe,
};
