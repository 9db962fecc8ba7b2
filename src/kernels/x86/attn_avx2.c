/* attn_avx2.c - attention blocks in f32, and in bf16 by widening, with AVX2. */
#include "kernels/pack.h"
#include "kernels/x86/tile_avx2.h"

TILE_FN(f32_6, TILE_ROWS6, TILE_STEP_F32)
TILE_FN(f32_4, TILE_ROWS4, TILE_STEP_F32)
TILE_FN(f32_2, TILE_ROWS2, TILE_STEP_F32)
TILE_FN(pair_6, TILE_ROWS6, TILE_STEP_PAIR)
TILE_FN(pair_4, TILE_ROWS4, TILE_STEP_PAIR)
TILE_FN(pair_2, TILE_ROWS2, TILE_STEP_PAIR)

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
static void softmax(const struct qvl_attn_block *b, float *s, int pair)
{
    const int64_t n16 = (b->n + 15) / 16 * 16;
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

/* Scores and outputs; see ATTN_PRODUCTS in attn_avx512.h. */
#define PRODUCTS(prefix, tile, PAIR)                                                                                  \
    static void prefix##_scores(const struct qvl_attn_block *b, float *s)                                             \
    {                                                                                                                 \
        const int64_t panels = (b->n + 15) / 16, hd = b->head_dim, panel = hd * 64 / PAIR;                            \
        const int first = attn_first(b->rows);                                                                        \
        for (int64_t p = 0; p < panels; p++)                                                                          \
            for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first)                                      \
                BY_ROWS(n, tile, s + r * QVL_ATTN_BLOCK + p * 16, QVL_ATTN_BLOCK, 0, b->q + r * QVL_HEAD_MAX,         \
                        QVL_HEAD_MAX, PAIR, (const char *)b->k + p * panel, 64, hd / PAIR);                           \
    }                                                                                                                 \
    static void prefix##_outputs(const struct qvl_attn_block *b, const float *s)                                      \
    {                                                                                                                 \
        const int64_t steps = (b->n + PAIR - 1) / PAIR, part = QVL_ATTN_PART / PAIR, dv = b->dv;                      \
        const int first = attn_first(b->rows);                                                                        \
        for (int64_t j = 0; j < steps; j += part)                                                                     \
            for (int64_t d = 0; d < dv; d += 16)                                                                      \
                for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first)                                  \
                    BY_ROWS(n, tile, b->o + r * dv + d, dv, j > 0, s + r * QVL_ATTN_BLOCK + j * PAIR, QVL_ATTN_BLOCK, \
                            PAIR, (const char *)b->v + (j * dv + d) * 4, dv * 4, steps - j < part ? steps - j : part); \
    }
PRODUCTS(f32, f32_, 1)
PRODUCTS(pair, pair_, 2)

static void block_f32(const struct qvl_attn_block *b)
{
    f32_scores(b, b->work);
    softmax(b, b->work, 0);
    f32_outputs(b, b->work);
}

static void block_bf16(const struct qvl_attn_block *b)
{
    pair_scores(b, b->work);
    softmax(b, b->work, 1);
    pair_outputs(b, b->work);
}

static void merge(float *acc, const float *o, float a, float b, int64_t n)
{
    const __m256 va = _mm256_set1_ps(a), vb = _mm256_set1_ps(b);
    for (int64_t i = 0; i < n; i += 8)
        _mm256_storeu_ps(acc + i, _mm256_fmadd_ps(_mm256_loadu_ps(acc + i), va, _mm256_mul_ps(_mm256_loadu_ps(o + i), vb)));
}

const struct qvl_attn_kernels qvl_attn_kernels_avx2 = {
    .block_f32 = block_f32, .block_bf16 = block_bf16, .block_int8 = qvl_attn_int8_avx2, .merge = merge};
