/* tile_avx512.h - the register tile: out[i][v] = sum over s < steps of a(i, s) * w(s, v).
 *
 * Up to 6 rows of broadcast operands against 4 vectors: 24 accumulators, 4 vectors, 1 broadcast. The accumulators are
 * named variables made by macros, because gcc 12 keeps an array of 24 in memory. Used by the matrix product (rows are
 * tokens), by q k^T (rows are queries, vectors are positions) and by p v (vectors are outputs).
 *
 * TILE_FN(name, ELEM, ROWS, VECS, STEP) defines a function for
 *   a  row i, step s at a[i*arow + s*astep], elements of type ELEM (f32, or pairs of bf16 as uint32_t)
 *   w  vector v of step s at w + s*wstep + v*wvec bytes
 *   out  [rows][ldo], overwritten or added to; `ahead` bytes beyond each w are prefetched, 0 = nothing. */
#ifndef QVL_KERNELS_X86_TILE_AVX512_H
#define QVL_KERNELS_X86_TILE_AVX512_H

#include "kernels/x86/vec_avx512.h"

#define TILE_ROWS2(X, V) X(0, V) X(1, V)
#define TILE_ROWS4(X, V) TILE_ROWS2(X, V) X(2, V) X(3, V)
#define TILE_ROWS6(X, V) TILE_ROWS4(X, V) X(4, V) X(5, V)
#define TILE_VEC1(X, i) X(i, 0)
#define TILE_VEC4(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)

#define TILE_ZERO(i, v) __m512 c##i##_##v = _mm512_setzero_ps();
#define TILE_ZERO_ROW(i, V) V(TILE_ZERO, i)
#define TILE_STORE(i, v) _mm512_storeu_ps(out + i * ldo + v * 16, c##i##_##v);
#define TILE_ADD(i, v)                                                                                                \
    _mm512_storeu_ps(out + i * ldo + v * 16, _mm512_add_ps(_mm512_loadu_ps(out + i * ldo + v * 16), c##i##_##v));
#define TILE_STORE_ROW(i, V) V(TILE_STORE, i)
#define TILE_ADD_ROW(i, V) V(TILE_ADD, i)

#define TILE_AHEAD(i, v) _mm_prefetch(w + v * wvec + ahead, _MM_HINT_T0);

/* One f32 step. */
#define TILE_LOAD_F32(i, v) __m512 w##v = _mm512_loadu_ps((const float *)(const void *)(w + v * wvec));
#define TILE_FMA(i, v) c##i##_##v = _mm512_fmadd_ps(b, w##v, c##i##_##v);
#define TILE_F32_ROW(i, V)                         \
    {                                              \
        __m512 b = _mm512_set1_ps(a[i * arow]);    \
        V(TILE_FMA, i)                             \
    }
#define TILE_STEP_F32(ROWS, V) V(TILE_LOAD_F32, 0) ROWS(TILE_F32_ROW, V)

/* One step of bf16 pairs without dot products: a holds two f32, the even element first. */
#define TILE_LOAD_PAIR(i, v) __m512i u##v = _mm512_loadu_si512(w + v * wvec);
#define TILE_ODD(i, v) __m512 w##v = _mm512_castsi512_ps(_mm512_and_si512(u##v, _mm512_set1_epi32((int)0xffff0000)));
#define TILE_EVEN(i, v) w##v = _mm512_castsi512_ps(_mm512_slli_epi32(u##v, 16));
#define TILE_ODD_ROW(i, V)                         \
    {                                              \
        __m512 b = _mm512_set1_ps(a[i * arow + 1]); \
        V(TILE_FMA, i)                             \
    }
#define TILE_STEP_PAIR(ROWS, V)                                                                             \
    V(TILE_LOAD_PAIR, 0) V(TILE_ODD, 0) ROWS(TILE_ODD_ROW, V) V(TILE_EVEN, 0) ROWS(TILE_F32_ROW, V)

/* The function around it. Arguments that are constants in the caller fold into addresses. */
#define TILE_FN(name, ELEM, ROWS, V, STEP)                                                                            \
    QVL_INLINE void name(float *out, int64_t ldo, int add, const ELEM *a, int64_t arow, int64_t astep, const char *w, \
                         int64_t wstep, int64_t wvec, int64_t steps, int64_t ahead)                                   \
    {                                                                                                                 \
        ROWS(TILE_ZERO_ROW, V)                                                                                        \
        for (int64_t s = 0; s < steps; s++, a += astep, w += wstep) {                                                 \
            STEP(ROWS, V)                                                                                             \
            if (ahead) {                                                                                              \
                V(TILE_AHEAD, 0)                                                                                      \
            }                                                                                                         \
        }                                                                                                             \
        if (add) {                                                                                                    \
            ROWS(TILE_ADD_ROW, V)                                                                                     \
        } else {                                                                                                      \
            ROWS(TILE_STORE_ROW, V)                                                                                   \
        }                                                                                                             \
    }

#endif
