/* attn_int8_avx2.c - attention over an INT8 cache without dot products of bytes: bytes are widened to 16 bits and multiplied
 * as pairs. Eight 32-bit lanes hold two halves of four positions (or outputs), which are added when the tile leaves. */
#include "kernels/x86/qv_avx2.h"

#include "kernels/attn_int8.h"

static inline void put_weights(uint8_t *row, int64_t j, qvi q)
{
    _mm_storeu_si128((__m128i *)(void *)(row + 2 * j),
                     _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)));
}

/* Up to 6 rows against 2 vectors of four positions: 12 sums, 2 vectors, 1 broadcast of four factors. */
#define ROWS2(X) X(0) X(1)
#define ROWS4(X) ROWS2(X) X(2) X(3)
#define ROWS6(X) ROWS4(X) X(4) X(5)

#define ZERO(i) __m256i c##i##_0 = _mm256_setzero_si256(), c##i##_1 = c##i##_0;
#define DOT(i)                                                                        \
    {                                                                                 \
        const __m256i b = _mm256_set1_epi64x(four(a + i * t->pitch));                 \
        c##i##_0 = _mm256_add_epi32(c##i##_0, _mm256_madd_epi16(w0, b));              \
        c##i##_1 = _mm256_add_epi32(c##i##_1, _mm256_madd_epi16(w1, b));              \
        __asm__("" : "+x"(c##i##_0), "+x"(c##i##_1)); /* or gcc adds products in a tree, on the stack */ \
    }
#define SCORE(i)                                                                                     \
    _mm256_storeu_si256((__m256i *)(void *)(out + i * t->ldo),                                       \
                        _mm256_add_epi32(halves(c##i##_0, c##i##_1), _mm256_set1_epi32(t->query[i].start)));
#define OUTPUT(i)                                                                                            \
    _mm256_storeu_ps(out + i * t->ldo,                                                                       \
                     _mm256_fmadd_ps(_mm256_cvtepi32_ps(halves(c##i##_0, c##i##_1)),                         \
                                     _mm256_set1_ps(t->scale[i * PARTS]),                                    \
                                     t->first ? _mm256_setzero_ps() : _mm256_loadu_ps(out + i * t->ldo)));

struct tile {
    const void *a;  /* int16 factors of row 0, four a step; row i is `pitch` bytes further */
    int64_t pitch;
    int64_t step;   /* bytes from one step of four dimensions or positions to the next; `inner` of them, then `outer` times on */
    int64_t inner, outer, next;
    int64_t ahead;  /* bytes to prefetch ahead, 0: nothing */
    int64_t ldo;
    const struct qvl_query8 *query; /* scores */
    const float *scale;             /* outputs */
    int first;
};

QVL_INLINE long long four(const void *p)
{
    long long v;
    memcpy(&v, p, 8);
    return v;
}

/* Sums of the halves: 4 positions of c0, then those of c1. */
QVL_INLINE __m256i halves(__m256i c0, __m256i c1) { return _mm256_permute4x64_epi64(_mm256_hadd_epi32(c0, c1), 0xd8); }

#define LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))

#define TILE(name, ROWS, WIDEN, FINISH)                                              \
    QVL_INLINE void name(const struct tile *t, float *out, const char *operand)      \
    {                                                                                \
        const char *panel = operand, *a = t->a;                                      \
        ROWS(ZERO)                                                                   \
        for (int64_t o = 0; o < t->outer; o++, panel += t->next) {                   \
            const char *w = panel;                                                   \
            for (int64_t s = 0; s < t->inner; s++, a += 8, w += t->step) {           \
                const __m256i w0 = WIDEN(LOAD(w)), w1 = WIDEN(LOAD(w + 16));         \
                ROWS(DOT)                                                            \
                if (t->ahead)                                                        \
                    _mm_prefetch(w + t->ahead, _MM_HINT_T0);                         \
            }                                                                        \
        }                                                                            \
        ROWS(FINISH)                                                                 \
    }

TILE(key_6, ROWS6, _mm256_cvtepu8_epi16, SCORE)
TILE(key_4, ROWS4, _mm256_cvtepu8_epi16, SCORE)
TILE(key_2, ROWS2, _mm256_cvtepu8_epi16, SCORE)
TILE(value_6, ROWS6, _mm256_cvtepi8_epi16, OUTPUT)
TILE(value_4, ROWS4, _mm256_cvtepi8_epi16, OUTPUT)
TILE(value_2, ROWS2, _mm256_cvtepi8_epi16, OUTPUT)

static void scores(const struct qvl_attn_block *b, struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->head_dim);
    const int first = attn_first(b->rows);
    for (int64_t p = 0; p < 2 * panels; p++) /* half a panel at a time; the first half fetches for both */
        for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first) {
            const struct tile t = {.a = b->q8[r].q, .pitch = sizeof b->q8[0], .step = 64, .inner = b->head_dim / 4, .outer = 1,
                                   .ahead = n > 4 || p % 2 ? 0 : 2 * panel, .ldo = QVL_ATTN_BLOCK, .query = b->q8 + r};
            BY_ROWS(n, key_, &t, w->s[r] + p * 8, (const char *)b->k + p / 2 * panel + p % 2 * 32);
        }
}

static void outputs(const struct qvl_attn_block *b, const struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->dv), part = QVL_ATTN_PART / 16, dv = b->dv;
    const int first = attn_first(b->rows);
    for (int64_t p = 0; p < panels; p += part)
        for (int64_t d = 0; d < dv; d += 8)
            for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first) {
                const struct tile t = {.a = w->w[r] + 2 * p * 16, .pitch = sizeof w->w[0], .step = dv * 4, .inner = 4,
                                       .outer = panels - p < part ? panels - p : part, .next = panel,
                                       .ahead = n > 4 || d % 16 ? 0 : part * panel, .ldo = dv,
                                       .scale = &w->scale[r][p / part], .first = p == 0};
                BY_ROWS(n, value_, &t, b->o + r * dv + d, (const char *)b->v + p * panel + d * 4);
            }
}

void qvl_attn_int8_avx2(const struct qvl_attn_block *b)
{
    struct work8 *w = b->work;
    scores(b, w);
    softmax8(b, w);
    outputs(b, w);
}
