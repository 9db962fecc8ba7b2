/* attn_avx512.h - the softmax of one attention block, shared by the AVX-512 levels. */
#ifndef QVL_KERNELS_X86_ATTN_AVX512_H
#define QVL_KERNELS_X86_ATTN_AVX512_H

#include "kernels/pack.h"
#include "kernels/x86/vec_avx512.h"

/* The tile for the number of rows: 2, 4 or 6. */
#define ATTN_BY_ROWS(rows, name, ...)  \
    do {                               \
        if ((rows) > 4)                \
            name##6(__VA_ARGS__);      \
        else if ((rows) > 2)           \
            name##4(__VA_ARGS__);      \
        else                           \
            name##2(__VA_ARGS__);      \
    } while (0)

/* Scores s[n16] (n16 a multiple of 16) to their maximum; those from `limit` on become -inf. */
QVL_INLINE float attn_max(float *s, int64_t n16, int64_t limit)
{
    __m512 top = _mm512_set1_ps(-__builtin_inff());
    int64_t j = 0;
    for (; j + 16 <= limit; j += 16)
        top = _mm512_max_ps(_mm512_loadu_ps(s + j), top);
    for (; j < n16; j += 16) {
        __m512 v = _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), limit > j ? lanes16(limit - j) : 0, s + j);
        _mm512_storeu_ps(s + j, v);
        top = _mm512_max_ps(v, top);
    }
    return _mm512_reduce_max_ps(top);
}

/* exp(scale * (s - m)) of 16 scores. The difference first: it is exact where it matters. */
QVL_INLINE __m512 attn_exp(const float *s, __m512 scale, __m512 m)
{
    return exp16(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(s), m), scale));
}

#endif
