/* attn_avx512_bf16.c - attention blocks with bf16 dot products. The f32 form is that of attn_avx512.c. */
#include <string.h>

#include "kernels/x86/attn_avx512.h"
#include "kernels/x86/tile_avx512_bf16.h"

TILE_FN(dpx4_6, uint32_t, TILE_ROWS6, TILE_VEC4, TILE_STEP_DP)
TILE_FN(dpx4_4, uint32_t, TILE_ROWS4, TILE_VEC4, TILE_STEP_DP)
TILE_FN(dpx4_2, uint32_t, TILE_ROWS2, TILE_VEC4, TILE_STEP_DP)
TILE_FN(dpx1_6, uint32_t, TILE_ROWS6, TILE_VEC1, TILE_STEP_DP)
TILE_FN(dpx1_4, uint32_t, TILE_ROWS4, TILE_VEC1, TILE_STEP_DP)
TILE_FN(dpx1_2, uint32_t, TILE_ROWS2, TILE_VEC1, TILE_STEP_DP)

struct work {
    float s[QVL_ATTN_ROWS][QVL_ATTN_BLOCK];        /* scores */
    uint32_t p[QVL_ATTN_ROWS][QVL_ATTN_BLOCK / 2]; /* probabilities, pairs of positions */
    uint32_t q[QVL_ATTN_ROWS][QVL_HEAD_MAX / 2];   /* queries, pairs of dimensions */
};
_Static_assert(sizeof(struct work) <= QVL_ATTN_WORK, "work memory of an attention block");

ATTN_PRODUCTS(dp, uint32_t, dpx4_, dpx1_, 2, 1)

static void softmax(const struct qvl_attn_block *b, struct work *w)
{
    const __m512 scale = _mm512_set1_ps(b->scale * LOG2E);
    const int64_t n16 = (b->n + 15) / 16 * 16;
    for (int i = 0; i < b->rows; i++) {
        float *s = w->s[i];
        b->m[i] = attn_max(s, n16, b->limit[i]);
        __m512 m = _mm512_set1_ps(b->m[i]), s0 = _mm512_setzero_ps(), s1 = s0;
        int64_t j = 0;
        for (; j + 32 <= n16; j += 32) {
            __m512 e0 = attn_exp(s + j, scale, m, 5), e1 = attn_exp(s + j + 16, scale, m, 5);
            s0 = _mm512_add_ps(s0, e0);
            s1 = _mm512_add_ps(s1, e1);
            _mm512_storeu_si512(w->p[i] + j / 2, (__m512i)_mm512_cvtne2ps_pbh(e1, e0));
        }
        if (j < n16) {
            __m512 e = attn_exp(s + j, scale, m, 5);
            s0 = _mm512_add_ps(s0, e);
            _mm256_storeu_si256((__m256i *)(void *)(w->p[i] + j / 2), (__m256i)_mm512_cvtneps_pbh(e));
        }
        b->l[i] = _mm512_reduce_add_ps(_mm512_add_ps(s0, s1));
    }
}

static void block_bf16(const struct qvl_attn_block *b)
{
    struct work *w = b->work;
    for (int i = 0; i < b->rows; i++) /* already rounded: cutting is exact */
        for (int64_t j = 0; j < b->head_dim; j += 16) {
            __m512i u = _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes16(b->head_dim - j), b->q + i * QVL_HEAD_MAX + j));
            _mm256_storeu_si256((__m256i *)(void *)(w->q[i] + j / 2), _mm512_cvtepi32_epi16(_mm512_srli_epi32(u, 16)));
        }
    dp_scores(b, w->s[0], w->q[0], QVL_HEAD_MAX / 2);
    softmax(b, w);
    dp_outputs(b, w->p[0], QVL_ATTN_BLOCK / 2);
}

static void store_bf16(uint16_t *kd, uint16_t *vd, const float *k, const float *v, int64_t stride, int head_dim)
{
    const int64_t dv = qvl_attn_dv(head_dim);
    for (int64_t d = 0; d < head_dim; d += 32) { /* 16 positions x 16 pairs of dimensions */
        const __mmask16 lo = lanes16(head_dim - d), hi = head_dim - d > 16 ? lanes16(head_dim - d - 16) : 0;
        __m512i r[16];
        QVL_UNROLL
        for (int i = 0; i < 16; i++) {
            __m512i a = round_bf16_u32(_mm512_maskz_loadu_ps(lo, k + i * stride + d)),
                    b = round_bf16_u32(_mm512_maskz_loadu_ps(hi, k + i * stride + d + 16));
            r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)), _mm512_cvtepi32_epi16(b), 1);
        }
        transpose16(r);
        for (int64_t j = 0; j < 16 && d + 2 * j < head_dim; j++)
            _mm512_storeu_si512(kd + (d / 2 + j) * 32, r[j]);
    }
    for (int64_t i = 0; i < 16; i += 2, v += 2 * stride, vd += 2 * dv)
        for (int64_t d = 0; d < dv; d += 16) { /* zero behind the head */
            const __mmask16 m = head_dim > d ? lanes16(head_dim - d) : 0;
            __m512i even = round_bf16_u32(_mm512_maskz_loadu_ps(m, v + d)), odd = round_bf16_u32(_mm512_maskz_loadu_ps(m, v + stride + d));
            _mm512_storeu_si512(vd + d * 2, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
}

static void block_f32(const struct qvl_attn_block *b) { qvl_attn_kernels_avx512.block_f32(b); }
static void merge(float *acc, const float *o, float a, float b, int64_t n)
{
    qvl_attn_kernels_avx512.merge(acc, o, a, b, n);
}

const struct qvl_attn_kernels qvl_attn_kernels_avx512_bf16 = {
    .block_f32 = block_f32, .block_bf16 = block_bf16, .store_bf16 = store_bf16, .merge = merge};
