/* row8_avx512_vnni.c - 8-bit weights with row scales, 512-bit dot products of bytes: 6 tokens x 4 panels in 24 registers. */
#include "kernels/row8.h"
#include "kernels/x86/vec_avx512.h"

#define MR 6
#define NV 4
/* Named variables, and assembly for the dot products: compilers otherwise reorder the loads and then spill. */
#define VECS(X, j) X(j, 0) X(j, 1) X(j, 2) X(j, 3)
#define SUMS(X) VECS(X, 0) VECS(X, 1) VECS(X, 2) VECS(X, 3) VECS(X, 4) VECS(X, 5)
#define START(j, v) __m512i s##j##v = _mm512_set1_epi32(t->start[j]);
#define LOAD(j, v) \
    __m512i w##v;  \
    __asm__ volatile("vmovdqu64 %1, %0" : "=v"(w##v) : "m"(*(const __m512i_u *)(const void *)(w + v * t->panel)));
#define DOT(j, v) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(s##j##v) : "v"(w##v), "v"(b));
#define STEP(j)                                                                                                        \
    {                                                                                                                  \
        __m512i b;                                                                                                     \
        __asm__ volatile("vpbroadcastd %1, %0" : "=v"(b) : "m"(*(const int32_t *)(const void *)(x + j * 4)));          \
        VECS(DOT, j)                                                                                                   \
    }
#define OUT(j, v)                                                                                                      \
    {                                                                                                                  \
        float *o = c + (j * NV + v) * 16;                                                                              \
        __m512 old = t->first ? _mm512_setzero_ps() : _mm512_loadu_ps(o);                                              \
        old = _mm512_fmadd_ps(_mm512_set1_ps(t->scale[j]), _mm512_cvtepi32_ps(s##j##v), old);                          \
        _mm512_storeu_ps(o, t->last ? _mm512_mul_ps(old, _mm512_loadu_ps(t->last + v * 16)) : old);                    \
    }

static void tile(float *c, const struct qvl_row8_tile *t)
{
    const uint8_t *w = t->w;
    const int8_t *x = t->x;
    for (int i = 0; i < MR * NV; i++)
        _mm_prefetch((const char *)(c + i * 16), _MM_HINT_T0);
    SUMS(START)
    for (int64_t i = 0; i < t->n4; i++, w += 64, x += 4 * MR) {
        VECS(LOAD, 0)
        STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5)
    }
    SUMS(OUT)
}

const struct qvl_row8_kernels qvl_row8_kernels_avx512_vnni = {.mr = MR, .nv = NV, .tile = tile};
