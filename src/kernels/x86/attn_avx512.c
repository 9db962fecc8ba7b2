/* attn_avx512.c - attention blocks in f32, and in bf16 by widening, with AVX-512. */
#include "kernels/x86/attn_avx512.h"
#include "kernels/x86/tile_avx512.h"

TILE_FN(f32x4_6, float, TILE_ROWS6, TILE_VEC4, TILE_STEP_F32)
TILE_FN(f32x4_4, float, TILE_ROWS4, TILE_VEC4, TILE_STEP_F32)
TILE_FN(f32x4_2, float, TILE_ROWS2, TILE_VEC4, TILE_STEP_F32)
TILE_FN(f32x1_6, float, TILE_ROWS6, TILE_VEC1, TILE_STEP_F32)
TILE_FN(f32x1_4, float, TILE_ROWS4, TILE_VEC1, TILE_STEP_F32)
TILE_FN(f32x1_2, float, TILE_ROWS2, TILE_VEC1, TILE_STEP_F32)
TILE_FN(pairx4_6, float, TILE_ROWS6, TILE_VEC4, TILE_STEP_PAIR)
TILE_FN(pairx4_4, float, TILE_ROWS4, TILE_VEC4, TILE_STEP_PAIR)
TILE_FN(pairx4_2, float, TILE_ROWS2, TILE_VEC4, TILE_STEP_PAIR)
TILE_FN(pairx1_6, float, TILE_ROWS6, TILE_VEC1, TILE_STEP_PAIR)
TILE_FN(pairx1_4, float, TILE_ROWS4, TILE_VEC1, TILE_STEP_PAIR)
TILE_FN(pairx1_2, float, TILE_ROWS2, TILE_VEC1, TILE_STEP_PAIR)

ATTN_PRODUCTS(f32, float, f32x4_, f32x1_, 1, 1)
ATTN_PRODUCTS(pair, float, pairx4_, pairx1_, 2, 2)

/* Rows of scores become rows of probabilities in place; `pair` rounds them to bf16. */
QVL_INLINE void softmax(const struct qvl_attn_block *b, float *s, int pair)
{
    const __m512 scale = _mm512_set1_ps(b->scale * LOG2E);
    const int64_t n16 = (b->n + 15) / 16 * 16;
    for (int i = 0; i < b->rows; i++, s += QVL_ATTN_BLOCK) {
        b->m[i] = attn_max(s, n16, b->limit[i]);
        __m512 m = _mm512_set1_ps(b->m[i]), s0 = _mm512_setzero_ps(), s1 = s0;
        for (int64_t j = 0; j < n16; j += 32) {
            __m512 e = attn_exp(s + j, scale, m, 6);
            s0 = _mm512_add_ps(s0, e);
            _mm512_storeu_ps(s + j, pair ? round_bf16(e) : e);
            if (j + 16 == n16)
                break;
            e = attn_exp(s + j + 16, scale, m, 6);
            s1 = _mm512_add_ps(s1, e);
            _mm512_storeu_ps(s + j + 16, pair ? round_bf16(e) : e);
        }
        b->l[i] = _mm512_reduce_add_ps(_mm512_add_ps(s0, s1));
    }
}

static void block_f32(const struct qvl_attn_block *b)
{
    float *s = b->work;
    f32_scores(b, s, b->q, QVL_HEAD_MAX);
    softmax(b, s, 0);
    f32_outputs(b, s, QVL_ATTN_BLOCK);
}

static void block_bf16(const struct qvl_attn_block *b)
{
    float *s = b->work;
    pair_scores(b, s, b->q, QVL_HEAD_MAX);
    softmax(b, s, 1);
    pair_outputs(b, s, QVL_ATTN_BLOCK);
}

static void merge(float *acc, const float *o, float a, float b, int64_t n)
{
    const __m512 va = _mm512_set1_ps(a), vb = _mm512_set1_ps(b);
    for (int64_t i = 0; i < n; i += 16)
        _mm512_storeu_ps(acc + i, _mm512_fmadd_ps(_mm512_loadu_ps(acc + i), va, _mm512_mul_ps(_mm512_loadu_ps(o + i), vb)));
}

const struct qvl_attn_kernels qvl_attn_kernels_avx512 = {
    .block_f32 = block_f32, .block_bf16 = block_bf16, .block_int8 = qvl_attn_int8_avx2, .merge = merge};
