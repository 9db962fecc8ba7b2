/* attn_avx_vnni.c - attention over an INT8 cache with 256-bit dot products of bytes; see attn_avx512_vnni.c, whose tile this is
 * with half as many registers: up to 6 rows against 2 vectors of 8 positions or outputs. */
#include "kernels/x86/qv_avx2.h"

#include "kernels/attn_int8.h"

static inline void put_weights(uint8_t *row, int64_t j, qvi q)
{
    const __m128i lo = _mm256_castsi256_si128(q), hi = _mm256_extracti128_si256(q, 1);
    const __m128i words = _mm_packus_epi32(lo, hi), low = _mm_and_si128(words, _mm_set1_epi16(255));
    const __m128i bytes = _mm_packus_epi16(_mm_srli_epi16(words, 8), low);
    _mm_storel_epi64((__m128i *)(void *)(row + j), bytes);
    _mm_storel_epi64((__m128i *)(void *)(row + QVL_ATTN_BLOCK + j), _mm_unpackhi_epi64(bytes, bytes));
}

#define ROWS2(X) X(0) X(1)
#define ROWS4(X) ROWS2(X) X(2) X(3)
#define ROWS6(X) ROWS4(X) X(4) X(5)

#define ZERO(i) __m256i c##i##_0 = _mm256_setzero_si256(), c##i##_1 = c##i##_0;
#define DOT(c, u, x) __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(c) : "x"(u), "x"(x));
#define DOT_KEY(i)                                                        \
    {                                                                     \
        const __m256i b = _mm256_set1_epi32(word(a + i * t->pitch));      \
        DOT(c##i##_0, w0, b)                                              \
        DOT(c##i##_1, w1, b)                                              \
    }
#define DOT_VALUE(i)                                                      \
    {                                                                     \
        const __m256i b = _mm256_set1_epi32(word(a + i * t->pitch));      \
        DOT(c##i##_0, b, w0)                                              \
        DOT(c##i##_1, b, w1)                                              \
    }
#define SHIFT(i)                                                          \
    c##i##_0 = _mm256_slli_epi32(c##i##_0, 8);                            \
    c##i##_1 = _mm256_slli_epi32(c##i##_1, 8);
#define SCORE(i)                                                                                              \
    {                                                                                                         \
        const __m256i start = _mm256_set1_epi32(t->query[i].start);                                           \
        _mm256_storeu_si256((__m256i *)(void *)(out + i * t->ldo), _mm256_add_epi32(c##i##_0, start));        \
        _mm256_storeu_si256((__m256i *)(void *)(out + i * t->ldo + 8), _mm256_add_epi32(c##i##_1, start));    \
    }
#define OUTPUT(i)                                                                                             \
    {                                                                                                         \
        const __m256 scale = _mm256_set1_ps(t->scale[i * PARTS]);                                             \
        float *o = out + i * t->ldo;                                                                          \
        const __m256 o0 = t->first ? _mm256_setzero_ps() : _mm256_loadu_ps(o);                                \
        const __m256 o1 = t->first ? _mm256_setzero_ps() : _mm256_loadu_ps(o + 8);                            \
        _mm256_storeu_ps(o, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c##i##_0), scale, o0));                        \
        _mm256_storeu_ps(o + 8, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c##i##_1), scale, o1));                    \
    }

struct tile {
    const void *a;  /* high bytes of row 0; row i is `pitch` further, low bytes `low` */
    int64_t pitch, low;
    int64_t step;   /* bytes from one step of four dimensions or positions to the next; `inner` of them, then `outer` times on */
    int64_t inner, outer, next;
    int64_t ahead;  /* bytes to prefetch ahead, 0: nothing */
    int64_t ldo;
    const struct qvl_query8 *query; /* scores */
    const float *scale;             /* outputs */
    int first;
};

QVL_INLINE int32_t word(const void *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

#define LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))

#define PASS(ROWS, ROW, bytes, fetch)                                                \
    {                                                                                \
        const char *panel = operand, *a = (const char *)t->a + (bytes);              \
        for (int64_t o = 0; o < t->outer; o++, panel += t->next) {                   \
            const char *w = panel;                                                   \
            for (int64_t s = 0; s < t->inner; s++, a += 4, w += t->step) {           \
                const __m256i w0 = LOAD(w), w1 = LOAD(w + 32);                       \
                ROWS(ROW)                                                            \
                if (fetch)                                                           \
                    _mm_prefetch(w + t->ahead, _MM_HINT_T0);                         \
            }                                                                        \
        }                                                                            \
    }

#define TILE(name, ROWS, ROW, FINISH)                                                \
    QVL_INLINE void name(const struct tile *t, float *out, const char *operand)      \
    {                                                                                \
        ROWS(ZERO)                                                                   \
        PASS(ROWS, ROW, 0, t->ahead)                                                 \
        ROWS(SHIFT)                                                                  \
        PASS(ROWS, ROW, t->low, 0)                                                   \
        ROWS(FINISH)                                                                 \
    }

TILE(key_6, ROWS6, DOT_KEY, SCORE)
TILE(key_4, ROWS4, DOT_KEY, SCORE)
TILE(key_2, ROWS2, DOT_KEY, SCORE)
TILE(value_6, ROWS6, DOT_VALUE, OUTPUT)
TILE(value_4, ROWS4, DOT_VALUE, OUTPUT)
TILE(value_2, ROWS2, DOT_VALUE, OUTPUT)

static void scores(const struct qvl_attn_block *b, struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->head_dim);
    const int first = attn_first(b->rows);
    for (int64_t p = 0; p < panels; p++)
        for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first) {
            const struct tile t = {.a = w->q[r], .pitch = sizeof w->q[0], .low = QVL_HEAD_MAX, .step = 64,
                                   .inner = b->head_dim / 4, .outer = 1, .ahead = n > 4 ? 0 : 2 * panel,
                                   .ldo = QVL_ATTN_BLOCK, .query = b->q8 + r};
            BY_ROWS(n, key_, &t, w->s[r] + p * 16, (const char *)b->k + p * panel);
        }
}

static void outputs(const struct qvl_attn_block *b, const struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->dv), part = QVL_ATTN_PART / 16, dv = b->dv;
    const int first = attn_first(b->rows);
    for (int64_t p = 0; p < panels; p += part)
        for (int64_t d = 0; d < dv; d += 16)
            for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first) {
                const struct tile t = {.a = w->w[r] + p * 16, .pitch = sizeof w->w[0], .low = QVL_ATTN_BLOCK, .step = dv * 4,
                                       .inner = 4, .outer = panels - p < part ? panels - p : part, .next = panel,
                                       .ahead = n > 4 ? 0 : part * panel, .ldo = dv, .scale = &w->scale[r][p / part],
                                       .first = p == 0};
                BY_ROWS(n, value_, &t, b->o + r * dv + d, (const char *)b->v + p * panel + d * 4);
            }
}

/* Bytes of 256 high + low, both signed. Rows are computed in even numbers. */
static void split_queries(const struct qvl_attn_block *b, struct work8 *w)
{
    for (int i = 0; i < b->rows + b->rows % 2; i++)
        for (int d = 0; d < b->head_dim; d++) {
            const int16_t q = b->q8[i].q[d];
            w->q[i][d] = (int8_t)((q + 128) >> 8);
            w->q[i][QVL_HEAD_MAX + d] = (int8_t)q;
        }
}

void qvl_attn_int8_avx_vnni(const struct qvl_attn_block *b)
{
    struct work8 *w = b->work;
    split_queries(b, w);
    scores(b, w);
    softmax8(b, w);
    outputs(b, w);
}

static void block_f32(const struct qvl_attn_block *b) { qvl_attn_kernels_avx2.block_f32(b); }
static void block_bf16(const struct qvl_attn_block *b) { qvl_attn_kernels_avx2.block_bf16(b); }
static void merge(float *acc, const float *o, float a, float b, int64_t n) { qvl_attn_kernels_avx2.merge(acc, o, a, b, n); }

const struct qvl_attn_kernels qvl_attn_kernels_avx_vnni = {
    .block_f32 = block_f32, .block_bf16 = block_bf16, .block_int8 = qvl_attn_int8_avx_vnni, .merge = merge};
