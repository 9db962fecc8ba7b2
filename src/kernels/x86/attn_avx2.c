/* attn_avx2.c - attention blocks in f32, and in bf16 by widening, with AVX2. */
#include "kernels/pack.h"
#include "kernels/x86/tile_avx2.h"

TILE_FN(f32_6, TILE_ROWS6, TILE_STEP_F32)
TILE_FN(f32_4, TILE_ROWS4, TILE_STEP_F32)
TILE_FN(f32_2, TILE_ROWS2, TILE_STEP_F32)
TILE_FN(pair_6, TILE_ROWS6, TILE_STEP_PAIR)
TILE_FN(pair_4, TILE_ROWS4, TILE_STEP_PAIR)
TILE_FN(pair_2, TILE_ROWS2, TILE_STEP_PAIR)

#define BY_ROWS(rows, name, ...)       \
    do {                               \
        if ((rows) > 4)                \
            name##6(__VA_ARGS__);      \
        else if ((rows) > 2)           \
            name##4(__VA_ARGS__);      \
        else                           \
            name##2(__VA_ARGS__);      \
    } while (0)

/* Maximum of the scores s[n16]; those from `limit` on become -inf. A NaN score does not become the maximum
 * (max_ps returns its second operand then); it makes its own probability, and so the row, NaN. */
static float row_max(float *s, int64_t n16, int64_t limit)
{
    __m256 top = _mm256_set1_ps(-__builtin_inff());
    for (int64_t j = limit; j < n16; j++)
        s[j] = -__builtin_inff();
    for (int64_t j = 0; j < n16; j += 8)
        top = _mm256_max_ps(_mm256_loadu_ps(s + j), top);
    return max8(top);
}

/* Rows of scores become rows of probabilities in place; `pair` rounds them to bf16. */
static void softmax(const struct qvl_attn_block *b, float *s, int64_t n16, int pair)
{
    const __m256 scale = _mm256_set1_ps(b->scale);
    for (int i = 0; i < b->rows; i++, s += QVL_ATTN_BLOCK) {
        b->m[i] = row_max(s, n16, b->limit[i]);
        __m256 m = _mm256_set1_ps(b->m[i]), sum0 = _mm256_setzero_ps(), sum1 = sum0;
        for (int64_t j = 0; j < n16; j += 16) {
            __m256 e0 = exp8(_mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(s + j), m), scale));
            __m256 e1 = exp8(_mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(s + j + 8), m), scale));
            sum0 = _mm256_add_ps(sum0, e0);
            sum1 = _mm256_add_ps(sum1, e1);
            _mm256_storeu_ps(s + j, pair ? round_bf16(e0) : e0);
            _mm256_storeu_ps(s + j + 8, pair ? round_bf16(e1) : e1);
        }
        b->l[i] = sum8(_mm256_add_ps(sum0, sum1));
    }
}

static void block_f32(const struct qvl_attn_block *b)
{
    float *s = b->work;
    const char *k = b->k, *v = b->v;
    const int64_t panels = (b->n + 15) / 16, hd = b->head_dim, dv = b->dv;
    for (int64_t p = 0; p < panels; p++)
        BY_ROWS(b->rows, f32_, s + p * 16, QVL_ATTN_BLOCK, 0, b->q, QVL_HEAD_MAX, 1, k + p * hd * 64, 64, hd);
    softmax(b, s, panels * 16, 0);
    for (int64_t d = 0; d < dv; d += 16)
        BY_ROWS(b->rows, f32_, b->o + d, dv, 0, s, QVL_ATTN_BLOCK, 1, v + d * 4, dv * 4, b->n);
}

static void block_bf16(const struct qvl_attn_block *b)
{
    float *s = b->work;
    const char *k = b->k, *v = b->v;
    const int64_t panels = (b->n + 15) / 16, hd = b->head_dim, dv = b->dv;
    for (int64_t p = 0; p < panels; p++)
        BY_ROWS(b->rows, pair_, s + p * 16, QVL_ATTN_BLOCK, 0, b->q, QVL_HEAD_MAX, 2, k + p * hd * 32, 64, hd / 2);
    softmax(b, s, panels * 16, 1);
    for (int64_t d = 0; d < dv; d += 16)
        BY_ROWS(b->rows, pair_, b->o + d, dv, 0, s, QVL_ATTN_BLOCK, 2, v + d * 4, dv * 4, (b->n + 1) / 2);
}

const struct qvl_attn_kernels qvl_attn_kernels_avx2 = {.block_f32 = block_f32, .block_bf16 = block_bf16};
