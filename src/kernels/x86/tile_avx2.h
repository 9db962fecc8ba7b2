/* tile_avx2.h - the register tile of tile_avx512.h for 16 registers: up to 6 rows against 2 vectors of 8, that is 16
 * outputs: 12 accumulators, 2 vectors, 1 broadcast. The two vectors lie side by side. */
#ifndef QVL_KERNELS_X86_TILE_AVX2_H
#define QVL_KERNELS_X86_TILE_AVX2_H

#include "kernels/x86/vec_avx2.h"

#define TILE_ROWS2(X) X(0) X(1)
#define TILE_ROWS4(X) TILE_ROWS2(X) X(2) X(3)
#define TILE_ROWS6(X) TILE_ROWS4(X) X(4) X(5)

#define TILE_ZERO(i) __m256 c##i##_0 = _mm256_setzero_ps(), c##i##_1 = c##i##_0;
#define TILE_STORE(i)                                \
    _mm256_storeu_ps(out + i * ldo, c##i##_0);       \
    _mm256_storeu_ps(out + i * ldo + 8, c##i##_1);
#define TILE_ADD(i)                                                                             \
    _mm256_storeu_ps(out + i * ldo, _mm256_add_ps(_mm256_loadu_ps(out + i * ldo), c##i##_0));   \
    _mm256_storeu_ps(out + i * ldo + 8, _mm256_add_ps(_mm256_loadu_ps(out + i * ldo + 8), c##i##_1));
#define TILE_FMA_AT(i, e)                                        \
    {                                                            \
        __m256 b = _mm256_broadcast_ss(a + i * arow + e);        \
        c##i##_0 = _mm256_fmadd_ps(b, w0, c##i##_0);             \
        c##i##_1 = _mm256_fmadd_ps(b, w1, c##i##_1);             \
    }
#define TILE_FMA(i) TILE_FMA_AT(i, 0)
#define TILE_FMA_ODD(i) TILE_FMA_AT(i, 1)

#define TILE_STEP_F32(ROWS)                                                                                  \
    __m256 w0 = _mm256_loadu_ps((const float *)(const void *)w);                                             \
    __m256 w1 = _mm256_loadu_ps((const float *)(const void *)w + 8);                                         \
    ROWS(TILE_FMA)
/* Pairs of bf16: the odd element is the high half of a lane. */
#define TILE_STEP_PAIR(ROWS)                                                                                 \
    __m256i u0 = _mm256_loadu_si256((const __m256i *)(const void *)w);                                       \
    __m256i u1 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));                                \
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);                                                 \
    __m256 w0 = _mm256_castsi256_ps(_mm256_and_si256(u0, high));                                             \
    __m256 w1 = _mm256_castsi256_ps(_mm256_and_si256(u1, high));                                             \
    ROWS(TILE_FMA_ODD)                                                                                       \
    w0 = _mm256_castsi256_ps(_mm256_slli_epi32(u0, 16));                                                     \
    w1 = _mm256_castsi256_ps(_mm256_slli_epi32(u1, 16));                                                     \
    ROWS(TILE_FMA)

/* out[i][0..16) (+)= sum over s of a[i*arow + s*astep] * w(s), w(s) at w + s*wstep bytes. */
#define TILE_FN(name, ROWS, STEP)                                                                                     \
    QVL_INLINE void name(float *out, int64_t ldo, int add, const float *a, int64_t arow, int64_t astep, const char *w, \
                         int64_t wstep, int64_t steps)                                                                \
    {                                                                                                                 \
        ROWS(TILE_ZERO)                                                                                               \
        for (int64_t s = 0; s < steps; s++, a += astep, w += wstep) {                                                 \
            STEP(ROWS)                                                                                                \
        }                                                                                                             \
        if (add) {                                                                                                    \
            ROWS(TILE_ADD)                                                                                            \
        } else {                                                                                                      \
            ROWS(TILE_STORE)                                                                                          \
        }                                                                                                             \
    }

#endif
