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

/* Rows of scores become rows of probabilities in place; `pair` rounds them to bf16. */
static void softmax(const struct qvl_attn_block *b, float *s, int64_t n16, int pair)
{
    const __m512 scale = _mm512_set1_ps(b->scale);
    for (int i = 0; i < b->rows; i++, s += QVL_ATTN_BLOCK) {
        b->m[i] = attn_max(s, n16, b->limit[i]);
        __m512 m = _mm512_set1_ps(b->m[i]), sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t j = 0; j < n16; j += 16) {
            __m512 e = attn_exp(s + j, scale, m);
            sum[j / 16 % 2] = _mm512_add_ps(sum[j / 16 % 2], e);
            _mm512_storeu_ps(s + j, pair ? round_bf16(e) : e);
        }
        b->l[i] = _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
    }
}

static void block_f32(const struct qvl_attn_block *b)
{
    float *s = b->work;
    const char *k = b->k, *v = b->v;
    const int64_t panels = (b->n + 15) / 16, hd = b->head_dim, dv = b->dv;
    int64_t p = 0, d = 0;
    for (; p + 4 <= panels; p += 4)
        ATTN_BY_ROWS(b->rows, f32x4_, s + p * 16, QVL_ATTN_BLOCK, 0, b->q, QVL_HEAD_MAX, 1, k + p * hd * 64, 64, hd * 64, hd);
    for (; p < panels; p++)
        ATTN_BY_ROWS(b->rows, f32x1_, s + p * 16, QVL_ATTN_BLOCK, 0, b->q, QVL_HEAD_MAX, 1, k + p * hd * 64, 64, 0, hd);
    softmax(b, s, panels * 16, 0);
    for (; d + 64 <= dv; d += 64)
        ATTN_BY_ROWS(b->rows, f32x4_, b->o + d, dv, 0, s, QVL_ATTN_BLOCK, 1, v + d * 4, dv * 4, 64, b->n);
    for (; d < dv; d += 16)
        ATTN_BY_ROWS(b->rows, f32x1_, b->o + d, dv, 0, s, QVL_ATTN_BLOCK, 1, v + d * 4, dv * 4, 0, b->n);
}

static void block_bf16(const struct qvl_attn_block *b)
{
    float *s = b->work;
    const char *k = b->k, *v = b->v;
    const int64_t panels = (b->n + 15) / 16, hd = b->head_dim, dv = b->dv;
    int64_t p = 0, d = 0;
    for (; p + 4 <= panels; p += 4)
        ATTN_BY_ROWS(b->rows, pairx4_, s + p * 16, QVL_ATTN_BLOCK, 0, b->q, QVL_HEAD_MAX, 2, k + p * hd * 32, 64, hd * 32, hd / 2);
    for (; p < panels; p++)
        ATTN_BY_ROWS(b->rows, pairx1_, s + p * 16, QVL_ATTN_BLOCK, 0, b->q, QVL_HEAD_MAX, 2, k + p * hd * 32, 64, 0, hd / 2);
    softmax(b, s, panels * 16, 1);
    for (; d + 64 <= dv; d += 64)
        ATTN_BY_ROWS(b->rows, pairx4_, b->o + d, dv, 0, s, QVL_ATTN_BLOCK, 2, v + d * 4, dv * 4, 64, (b->n + 1) / 2);
    for (; d < dv; d += 16)
        ATTN_BY_ROWS(b->rows, pairx1_, b->o + d, dv, 0, s, QVL_ATTN_BLOCK, 2, v + d * 4, dv * 4, 0, (b->n + 1) / 2);
}

const struct qvl_attn_kernels qvl_attn_kernels_avx512 = {.block_f32 = block_f32, .block_bf16 = block_bf16};
