/* quant_neon.h - products of integer kinds on ARM: what sdot and smmla share. 128-bit vectors, a quarter of a stored one.
 *
 * Both operands are signed: the nibbles 0..15 of q4 are used as they are (with the start that their offset asks for), the
 * bytes of q8 lose their offset by a flipped bit and need no start.
 *
 * The file that includes it defines block_rows. */
#ifndef QVL_KERNELS_ARM_QUANT_NEON_H
#define QVL_KERNELS_ARM_QUANT_NEON_H

#include <string.h>

#include "kernels/arm/qv_neon.h"
#include "kernels/quant.h"

#define QUARTERS   (QVL_PANEL_ROWS / 4)
#if defined(__clang__)
#define QVL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define QVL_UNROLL _Pragma("GCC unroll 16")
#endif

/* Loads stay in their step: gcc otherwise begins with those of all steps, and the sums go to the stack. */
#define KEEP_ORDER __asm__ volatile("" : : : "memory")

#define PREFETCH    4096
#define BLOCK_UNITS (QVL_ACT_BLOCK / QVL_UNIT_INPUTS)

QVL_INLINE int8x16_t word(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

QVL_INLINE float32x4_t half_scales(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }

/* Four inputs of four rows, step i (0..7) of a group, from the first row of the quarter on. */
QVL_INLINE int8x16_t operand(const uint8_t *w, int i, int kind)
{
    if (kind)
        return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + i * 64), vdupq_n_u8(0x80)));
    const uint8x16_t both = vld1q_u8(w + i / 2 * 64);
    return vreinterpretq_s8_u8(i % 2 ? vshrq_n_u8(both, 4) : vandq_u8(both, vdupq_n_u8(15)));
}

/* Where a call works: a block of inputs of a panel, some of r tokens. */
struct part {
    const uint8_t *w, *ws; /* the first unit, and its scales */
    const int8_t *q;
    const int32_t *start;
    const float *scale;
    int64_t r, n_unit;
};

/* c[quarter][token] = fma(x scale, sum over groups, c), for M = 1..4 tokens. */
QVL_INLINE void block_rows(float32x4_t (*c)[QVL_QUANT_GEMV_MAX], const struct part *p, int kind, int M);

/* 32 registers hold the integer sums of 16 rows x 4 tokens. */
QVL_INLINE void block_tokens(float32x4_t (*c)[QVL_QUANT_GEMV_MAX], const struct part *p, int kind, int m)
{
    for (int j = 0; j < m; j += 4) {
        const struct part now = {p->w, p->ws, p->q + 4 * j, p->start + j, p->scale + j, p->r, p->n_unit};
        float32x4_t(*out)[QVL_QUANT_GEMV_MAX] = (float32x4_t(*)[QVL_QUANT_GEMV_MAX])(c[0] + j);
        switch (m - j) {
        case 1: block_rows(out, &now, kind, 1); break;
        case 2: block_rows(out, &now, kind, 2); break;
        case 3: block_rows(out, &now, kind, 3); break;
        default: block_rows(out, &now, kind, 4); break;
        }
    }
}

QVL_INLINE void store_rows(const struct qvl_quant_gemv *g, float32x4_t (*c)[QVL_QUANT_GEMV_MAX], int64_t row)
{
    const int64_t n = g->n_out - row < QVL_PANEL_ROWS ? g->n_out - row : QVL_PANEL_ROWS;
    for (int j = 0; j < g->m; j++) {
        float sums[QVL_PANEL_ROWS], *y = g->y + j * g->y_stride + row;
        for (int h = 0; h < QUARTERS; h++)
            vst1q_f32(sums + 4 * h, c[h][j]);
        for (int64_t i = 0; i < n; i++) {
            const float v = g->bias ? sums[i] + g->bias[row + i] : sums[i];
            y[i] = g->add ? y[i] + v : v;
        }
    }
}

QVL_INLINE void gemv(const struct qvl_quant_gemv *g, int kind)
{
    const int64_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES,
                  n_unit = (g->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    const uint8_t *w = (const uint8_t *)g->w + g->p0 * n_unit * unit;
    for (int64_t panel = g->p0; panel < g->p1; panel++) {
        struct part p = {.q = g->x.q, .start = g->x.start, .scale = g->x.scale, .r = g->m};
        float32x4_t c[QUARTERS][QVL_QUANT_GEMV_MAX];
        for (int h = 0; h < QUARTERS; h++)
            for (int j = 0; j < QVL_QUANT_GEMV_MAX; j++)
                c[h][j] = vdupq_n_f32(0);
        for (int64_t u = 0; u < n_unit; u += BLOCK_UNITS) {
            p.n_unit = n_unit - u < BLOCK_UNITS ? n_unit - u : BLOCK_UNITS;
            p.w = w;
            p.ws = w + unit - 64;
            for (int64_t i = 0; i < p.n_unit * unit; i += 64)
                __builtin_prefetch(w + PREFETCH + i);
            block_tokens(c, &p, kind, g->m);
            w += p.n_unit * unit;
            p.q += p.n_unit * QVL_UNIT_INPUTS * p.r;
            p.start += p.n_unit * 2 * p.r;
            p.scale += p.r;
        }
        store_rows(g, c, panel * QVL_PANEL_ROWS);
    }
}

#endif
