/* attn_avx512.h - what the AVX-512 levels share in an attention block: the walk over positions, and the softmax. */
#ifndef QVL_KERNELS_X86_ATTN_AVX512_H
#define QVL_KERNELS_X86_ATTN_AVX512_H

#include "kernels/pack.h"
#include "kernels/x86/vec_avx512.h"

#define LOG2E 1.4426950408889634f

/* The tile for 1..6 rows. Few rows are decoding, where memory is the limit: there the next piece is asked for. */
#define ATTN_TILE(rows, name, ahead, ...)   \
    do {                                    \
        if ((rows) > 4)                     \
            name##6(__VA_ARGS__, 0);        \
        else if ((rows) > 2)                \
            name##4(__VA_ARGS__, ahead);    \
        else                                \
            name##2(__VA_ARGS__, ahead);    \
    } while (0)

/* Defines the scores s[rows][QVL_ATTN_BLOCK] = q K^T and the outputs o[rows][dv] = p V of a block. pitch: elements from one
 * row of q or p to the next; step: elements used up by one step (a pair of dimensions or positions when PAIR is 2). */
#define ATTN_PRODUCTS(prefix, ELEM, t4, t1, PAIR, step)                                                               \
    static void prefix##_scores(const struct qvl_attn_block *b, float *s, const ELEM *q, int64_t pitch)               \
    {                                                                                                                 \
        const int64_t panels = (b->n + 15) / 16, hd = b->head_dim, panel = hd * 64 / PAIR;                            \
        const int first = attn_first(b->rows);                                                                        \
        const char *k = b->k;                                                                                         \
        int64_t p = 0;                                                                                                \
        for (; p + 4 <= panels; p += 4, k += 4 * panel)                                                               \
            for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first)                                      \
                ATTN_TILE(n, t4, 4 * panel, s + r * QVL_ATTN_BLOCK + p * 16, QVL_ATTN_BLOCK, 0, q + r * pitch, pitch, \
                          step, k, 64, panel, hd / PAIR);                                                             \
        for (; p < panels; p++, k += panel)                                                                           \
            for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first)                                      \
                ATTN_TILE(n, t1, panel, s + r * QVL_ATTN_BLOCK + p * 16, QVL_ATTN_BLOCK, 0, q + r * pitch, pitch,     \
                          step, k, 64, 0, hd / PAIR);                                                                 \
    }                                                                                                                 \
    static void prefix##_outputs(const struct qvl_attn_block *b, const ELEM *prob, int64_t pitch)                     \
    {                                                                                                                 \
        const int64_t steps = (b->n + PAIR - 1) / PAIR, part = QVL_ATTN_PART / PAIR, dv = b->dv;                      \
        const int first = attn_first(b->rows);                                                                        \
        for (int64_t j = 0; j < steps; j += part) {                                                                   \
            const int64_t count = steps - j < part ? steps - j : part;                                                \
            const char *v = (const char *)b->v + j * dv * 4;                                                          \
            const ELEM *pj = prob + j * step;                                                                         \
            int64_t d = 0;                                                                                            \
            for (; d + 64 <= dv; d += 64)                                                                             \
                for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first)                                  \
                    ATTN_TILE(n, t4, 16 * dv * 4, b->o + r * dv + d, dv, j > 0, pj + r * pitch, pitch, step,          \
                              v + d * 4, dv * 4, 64, count);                                                          \
            for (; d < dv; d += 16)                                                                                   \
                for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first)                                  \
                    ATTN_TILE(n, t1, 16 * dv * 4, b->o + r * dv + d, dv, j > 0, pj + r * pitch, pitch, step,          \
                              v + d * 4, dv * 4, 0, count);                                                           \
        }                                                                                                             \
    }

/* Scores s[n16] (n16 a multiple of 16) to their maximum; those from `limit` on become -inf. A NaN score does not become
 * the maximum (max returns its second operand then); it makes its own probability, and so the row, NaN. */
QVL_INLINE float attn_max(float *s, int64_t n16, int64_t limit)
{
    __m512 top = _mm512_set1_ps(-__builtin_inff()), top2 = top;
    int64_t j = 0;
    for (; j + 32 <= limit; j += 32) {
        top = _mm512_max_ps(_mm512_loadu_ps(s + j), top);
        top2 = _mm512_max_ps(_mm512_loadu_ps(s + j + 16), top2);
    }
    for (; j < n16; j += 16) {
        __m512 v = _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), limit > j ? lanes16(limit - j) : 0, s + j);
        _mm512_storeu_ps(s + j, v);
        top = _mm512_max_ps(v, top);
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(top, top2));
}

/* exp(scale * (s - m)) of 16 scores; scale2 = scale * log2(e). The difference first: it is exact where it matters. */
QVL_INLINE __m512 attn_exp(const float *s, __m512 scale2, __m512 m, int degree)
{
    return exp2_16(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(s), m), scale2), degree);
}

#endif
