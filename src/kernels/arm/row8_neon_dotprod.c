/* row8_neon_dotprod.c - 8-bit weights with row scales with sdot: 4 tokens x 1 panel (four vectors). Weights lose their offset by a
 * flipped bit, so that sums start at zero. */
#include <arm_neon.h>

#include "kernels/row8.h"

enum { MR = 4, QUARTERS = QVL_PANEL_ROWS / 4 };
#if defined(__clang__)
#define QVL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define QVL_UNROLL _Pragma("GCC unroll 16")
#endif

static void tile(float *c, const struct qvl_row8_tile *t)
{
    const uint8_t *w = t->w;
    const int8_t *x = t->x;
    int32x4_t s[MR][QUARTERS];
    QVL_UNROLL
    for (int j = 0; j < MR * QUARTERS; j++)
        s[j / QUARTERS][j % QUARTERS] = vdupq_n_s32(0);
    for (int64_t i = 0; i < t->n4; i++, w += 64, x += 4 * MR) {
        const int8x16_t v = vld1q_s8(x); /* lane j: the four inputs of token j */
        __asm__ volatile("" : : : "memory"); /* loads stay in their step */
        QVL_UNROLL
        for (int h = 0; h < QUARTERS; h++) {
            const int8x16_t wv = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + 16 * h), vdupq_n_u8(0x80)));
            s[0][h] = vdotq_laneq_s32(s[0][h], wv, v, 0);
            s[1][h] = vdotq_laneq_s32(s[1][h], wv, v, 1);
            s[2][h] = vdotq_laneq_s32(s[2][h], wv, v, 2);
            s[3][h] = vdotq_laneq_s32(s[3][h], wv, v, 3);
        }
    }
    for (int j = 0; j < MR; j++)
        for (int h = 0; h < QUARTERS; h++) {
            float *o = c + j * QVL_PANEL_ROWS + h * 4;
            float32x4_t old = t->first ? vdupq_n_f32(0) : vld1q_f32(o);
            old = vfmaq_f32(old, vdupq_n_f32(t->scale[j]), vcvtq_f32_s32(s[j][h]));
            vst1q_f32(o, t->last ? vmulq_f32(old, vld1q_f32(t->last + h * 4)) : old);
        }
}

const struct qvl_row8_kernels qvl_row8_kernels_neon_dotprod = {.mr = MR, .nv = 1, .tile = tile};
