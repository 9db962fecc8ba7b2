/* tile_avx512_bf16.h - the step of the register tile on pairs of bf16 with dot-product instructions. */
#ifndef QVL_KERNELS_X86_TILE_AVX512_BF16_H
#define QVL_KERNELS_X86_TILE_AVX512_BF16_H

#include "kernels/x86/tile_avx512.h"

#define TILE_LOAD_DP(i, v) __m512bh w##v = (__m512bh)_mm512_loadu_si512(w + v * wvec);
#define TILE_DP(i, v) c##i##_##v = _mm512_dpbf16_ps(c##i##_##v, w##v, b);
#define TILE_DP_ROW(i, V)                                              \
    {                                                                  \
        __m512bh b = (__m512bh)_mm512_set1_epi32((int)a[i * arow]);    \
        V(TILE_DP, i)                                                  \
    }
#define TILE_STEP_DP(ROWS, V) V(TILE_LOAD_DP, 0) ROWS(TILE_DP_ROW, V)

#endif
