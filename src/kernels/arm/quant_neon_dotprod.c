/* quant_neon_dotprod.c - integer kinds with sdot: one 128-bit vector is four inputs of 4 rows, a quarter of a stored vector. */
#include "kernels/arm/quant_neon.h"

#include "kernels/quant_group.h"
#include "kernels/quant_minima.h"

/* ------------------------------------------------------------------ activations */

/* Largest bit pattern without sign: NaN above infinity above all numbers. n is a multiple of 4. */
QVL_INLINE uint32_t largest_bits(const float *x, int64_t n)
{
    uint32x4_t a = vdupq_n_u32(0);
    for (int64_t i = 0; i < n; i += 4)
        a = vmaxq_u32(a, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7fffffff)));
    return vmaxvq_u32(a);
}

/* 32 values to bytes, and their sum. */
QVL_INLINE int32_t quantise_group(int8_t *q, const float *x, float inverse)
{
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 0; i < QVL_GROUP; i += 8) {
        const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
        const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
        vst1_s8(q + i, vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b))));
        sum = vaddq_s32(sum, vaddq_s32(a, b));
    }
    return vaddvq_s32(sum);
}

static void quantise(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n_in)
{
    float last[QVL_ACT_BLOCK]; /* a block that is not whole, zeros behind it */
    for (int64_t k0 = 0; k0 < n_in; k0 += QVL_ACT_BLOCK, scale++) {
        const float *block = x + k0;
        int64_t n = QVL_ACT_BLOCK;
        if (n_in - k0 < n) {
            n = (n_in - k0 + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS * QVL_UNIT_INPUTS;
            memset(last, 0, sizeof last);
            memcpy(last, block, (size_t)(n_in - k0) * 4);
            block = last;
        }
        const uint32_t bits = largest_bits(block, n);
        float largest;
        memcpy(&largest, &bits, 4);
        if (bits < 0x7f800000u && largest >= 0x1p-100f) {
            *scale = largest / 127;
            for (int64_t i = 0; i < n; i += QVL_GROUP, q += QVL_GROUP)
                *sum++ = quantise_group(q, block + i, 127 / largest);
        } else {
            *scale = bits >= 0x7f800000u ? NAN : 0;
            memset(q, 0, (size_t)n);
            memset(sum, 0, (size_t)(n / QVL_GROUP) * 4);
            q += n;
            sum += n / QVL_GROUP;
        }
    }
}

/* ------------------------------------------------------------------ few tokens */

QVL_INLINE void block_rows(float32x4_t (*c)[QVL_QUANT_GEMV_MAX], const struct part *p, int kind, int M)
{
    const int64_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES, half = kind ? 512 : 256, r = p->r;
    const uint8_t *w = p->w, *ws = p->ws;
    const int8_t *q = p->q;
    const int32_t *start = p->start;
    float32x4_t b[4][QUARTERS];
    QVL_UNROLL
    for (int j = 0; j < M * QUARTERS; j++)
        b[j / QUARTERS][j % QUARTERS] = vdupq_n_f32(0);
    for (int64_t u = 0; u < p->n_unit; u++, w += unit, ws += unit)
        for (int g = 0; g < 2; g++, q += 32 * r, start += r) {
            int32x4_t s[4][QUARTERS];
            QVL_UNROLL
            for (int j = 0; j < M * QUARTERS; j++)
                s[j / QUARTERS][j % QUARTERS] = vdupq_n_s32(kind ? 0 : start[j / QUARTERS]);
            QVL_UNROLL
            for (int i = 0; i < 8; i++) {
                int8x16_t wv[QUARTERS];
                KEEP_ORDER;
                QVL_UNROLL
                for (int h = 0; h < QUARTERS; h++)
                    wv[h] = operand(w + g * half + h * 16, i, kind);
                QVL_UNROLL
                for (int j = 0; j < M; j++) {
                    const int8x16_t x = word(q + 4 * (i * r + j));
                    QVL_UNROLL
                    for (int h = 0; h < QUARTERS; h++)
                        s[j][h] = vdotq_s32(s[j][h], wv[h], x);
                }
            }
            QVL_UNROLL
            for (int j = 0; j < M * QUARTERS; j++) {
                const int h = j % QUARTERS, t = j / QUARTERS;
                b[t][h] = vfmaq_f32(b[t][h], half_scales(ws + g * 32 + h * 8), vcvtq_f32_s32(s[t][h]));
            }
        }
    QVL_UNROLL
    for (int j = 0; j < M * QUARTERS; j++) {
        const int h = j % QUARTERS, t = j / QUARTERS;
        c[h][t] = vfmaq_f32(c[h][t], vdupq_n_f32(p->scale[t]), b[t][h]);
    }
}

static void gemv_q4(const struct qvl_quant_gemv *g) { gemv(g, 0); }
static void gemv_q8(const struct qvl_quant_gemv *g) { gemv(g, 1); }

/* ------------------------------------------------------------------ many tokens */

#define MR 4 /* x 4 quarters of a panel: 16 integer sums, 4 vectors of weights, a broadcast */
#define NV 1

QVL_INLINE void expand(uint8_t *w, float *scale, const void *packed, int64_t n_units, int kind)
{
    const uint8_t *p = packed;
    const int64_t half = kind ? 512 : 256;
    for (int64_t u = 0; u < n_units; u++, p += 2 * half + 64, w += 1024, scale += 32) {
        for (int g = 0; g < 2; g++)
            for (int i = 0; i < 8; i++)
                for (int h = 0; h < 64; h += 16)
                    vst1q_u8(w + g * 512 + i * 64 + h, vreinterpretq_u8_s8(operand(p + g * half + h, i, kind)));
        for (int i = 0; i < 8; i++)
            vst1q_f32(scale + 4 * i, half_scales(p + 2 * half + 8 * i));
    }
}

static void expand_q4(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    expand(w, scale, packed, n_units, 0);
}
static void expand_q8(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    expand(w, scale, packed, n_units, 1);
}

QVL_INLINE void tile(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first,
                     int kind)
{
    const int8_t *q = x->q;
    const int32_t *start = x->start;
    float32x4_t b[MR][QUARTERS];
    QVL_UNROLL
    for (int j = 0; j < MR * QUARTERS; j++)
        b[j / QUARTERS][j % QUARTERS] = vdupq_n_f32(0);
    for (int64_t g = 0; g < n_groups; g++, ws += 16, start += MR) {
        int32x4_t s[MR][QUARTERS];
        QVL_UNROLL
        for (int j = 0; j < MR * QUARTERS; j++)
            s[j / QUARTERS][j % QUARTERS] = vdupq_n_s32(kind ? 0 : start[j / QUARTERS]);
        QVL_UNROLL
        for (int i = 0; i < 8; i++, w += 64, q += 4 * MR) {
            KEEP_ORDER;
            const int8x16_t v = vld1q_s8(q); /* lane j: the four inputs of token j */
            QVL_UNROLL
            for (int h = 0; h < QUARTERS; h++) {
                const int8x16_t wv = vreinterpretq_s8_u8(vld1q_u8(w + 16 * h));
                s[0][h] = vdotq_laneq_s32(s[0][h], wv, v, 0);
                s[1][h] = vdotq_laneq_s32(s[1][h], wv, v, 1);
                s[2][h] = vdotq_laneq_s32(s[2][h], wv, v, 2);
                s[3][h] = vdotq_laneq_s32(s[3][h], wv, v, 3);
            }
        }
        QVL_UNROLL
        for (int j = 0; j < MR * QUARTERS; j++) {
            const int h = j % QUARTERS, t = j / QUARTERS;
            b[t][h] = vfmaq_f32(b[t][h], vld1q_f32(ws + 4 * h), vcvtq_f32_s32(s[t][h]));
        }
    }
    for (int j = 0; j < MR; j++)
        for (int h = 0; h < QUARTERS; h++) {
            float *o = c + j * 16 + h * 4;
            const float32x4_t old = first ? vdupq_n_f32(0) : vld1q_f32(o);
            vst1q_f32(o, vfmaq_f32(old, vdupq_n_f32(x->scale[j]), b[j][h]));
        }
}

static void tile_q4(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first)
{
    tile(c, w, ws, x, n_groups, first, 0);
}

static void tile_q8(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first)
{
    tile(c, w, ws, x, n_groups, first, 1);
}

static double probe(int64_t iterations)
{
    int32x4_t acc[16];
    int8x16_t a = vdupq_n_s8(1), b = a;
    QVL_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = vdupq_n_s32(0);
        __asm__("" : "+w"(acc[i])); /* otherwise all are known to be equal, and one is computed */
    }
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+w"(a), "+w"(b));
        QVL_UNROLL
        for (int i = 0; i < 16; i++)
            acc[i] = vdotq_s32(acc[i], a, b);
    }
    QVL_UNROLL
    for (int i = 0; i < 16; i++)
        __asm__ volatile("" : : "w"(acc[i]));
    return 16.0 * 32.0 * (double)iterations;
}

const struct qvl_quant_kernels qvl_quant_kernels_neon_dotprod = {
    .name = "neon_dotprod",
    .quantise = quantise,
    .gemv = {gemv_q4, gemv_q8},
    .pack_group = {pack_q4, pack_q8},
    .mr = MR,
    .nv = NV,
    .few = 8,
    .expand = {expand_q4, expand_q8},
    .tile = {tile_q4, tile_q8},
    .minima = minima,
    .probe = probe,
};
