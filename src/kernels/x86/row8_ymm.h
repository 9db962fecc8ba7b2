/* row8_ymm.h - 8-bit weights with row scales in 256-bit vectors: 4 tokens x 1 panel (two vectors). The file that includes it defines
 *   dots_begin(start)   an accumulator
 *   dots_operand(u)     weights in the form that dots takes, from the stored bytes q + 128
 *   dots(acc, w, x)     adds the products */
#ifndef QVL_KERNELS_X86_ROW8_YMM_H
#define QVL_KERNELS_X86_ROW8_YMM_H

#include <string.h>

#define MR 4

static void tile(float *c, const struct qvl_row8_tile *t)
{
    const uint8_t *w = t->w;
    const int8_t *x = t->x;
    __m256i s[2][MR];
    QVL_UNROLL
    for (int j = 0; j < MR; j++)
        s[0][j] = s[1][j] = dots_begin(t->start[j]);
    for (int64_t i = 0; i < t->n4; i++, w += 64, x += 4 * MR) {
        const __m256i w0 = dots_operand(_mm256_loadu_si256((const __m256i *)(const void *)w)),
                      w1 = dots_operand(_mm256_loadu_si256((const __m256i *)(const void *)(w + 32)));
        QVL_UNROLL
        for (int j = 0; j < MR; j++) {
            int32_t four;
            memcpy(&four, x + 4 * j, 4);
            const __m256i v = _mm256_set1_epi32(four);
            s[0][j] = dots(s[0][j], w0, v);
            s[1][j] = dots(s[1][j], w1, v);
        }
    }
    QVL_UNROLL
    for (int j = 0; j < MR; j++)
        for (int h = 0; h < 2; h++) {
            float *o = c + j * QVL_PANEL_ROWS + h * 8;
            __m256 old = t->first ? _mm256_setzero_ps() : _mm256_loadu_ps(o);
            old = _mm256_fmadd_ps(_mm256_set1_ps(t->scale[j]), _mm256_cvtepi32_ps(s[h][j]), old);
            _mm256_storeu_ps(o, t->last ? _mm256_mul_ps(old, _mm256_loadu_ps(t->last + h * 8)) : old);
        }
}

#endif
