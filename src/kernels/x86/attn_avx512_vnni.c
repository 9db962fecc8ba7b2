/* attn_avx512_vnni.c - attention over an INT8 cache with dot products of bytes.
 *
 * A factor of 16 bits is two bytes, value = 256 high + low: the tile runs over its operands twice, with the high bytes first,
 * shifts the sums by 8, and goes on with the low ones. The second time K and V come from the first-level cache. One factor
 * of a product has to be unsigned: the stored key, and both bytes of a weight; query bytes and values are signed. */
#include "kernels/x86/attn_avx512.h"
#include "kernels/x86/qv_avx512.h"

#include "kernels/attn_int8.h"

static inline void put_weights(uint8_t *row, int64_t j, qvi q)
{
    _mm_storeu_si128((__m128i *)(void *)(row + j), _mm512_cvtepi32_epi8(_mm512_srli_epi32(q, 8)));
    _mm_storeu_si128((__m128i *)(void *)(row + QVL_ATTN_BLOCK + j), _mm512_cvtepi32_epi8(q));
}

/* ------------------------------------------------------------------ the tile: up to 6 rows against 4 vectors or 1 */

#define ROWS2(X, V) X(0, V) X(1, V)
#define ROWS4(X, V) ROWS2(X, V) X(2, V) X(3, V)
#define ROWS6(X, V) ROWS4(X, V) X(4, V) X(5, V)
#define VEC1(X, i) X(i, 0)
#define VEC4(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)

#define ZERO(i, v)       __m512i c##i##_##v = _mm512_setzero_si512();
#define ZERO_ROW(i, V)   V(ZERO, i)
#define LOAD(i, v)       __m512i w##v = _mm512_loadu_si512(w + v * t->vec);
/* Assembly, because gcc 12 copies the sums of the intrinsic from register to register, and some to the stack. */
#define DOT(c, u, x)     __asm__("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(u), "v"(x));
#define DOT_KEY(i, v)    DOT(c##i##_##v, w##v, b)
#define DOT_VALUE(i, v)  DOT(c##i##_##v, b, w##v)
#define BROADCAST(i)     const __m512i b = _mm512_set1_epi32(word(a + i * t->pitch));
#define KEY_ROW(i, V)    { BROADCAST(i) V(DOT_KEY, i) }
#define VALUE_ROW(i, V)  { BROADCAST(i) V(DOT_VALUE, i) }
#define SHIFT(i, v)      c##i##_##v = _mm512_slli_epi32(c##i##_##v, 8);
#define SHIFT_ROW(i, V)  V(SHIFT, i)

/* Scores leave as integers, with what the offset of the keys asks for. */
#define PUT_INT(i, v)    _mm512_storeu_si512(out + i * t->ldo + v * 16, _mm512_add_epi32(c##i##_##v, start));
#define SCORE_ROW(i, V)                                            \
    {                                                              \
        const __m512i start = _mm512_set1_epi32(t->query[i].start); \
        V(PUT_INT, i)                                              \
    }
/* Outputs are scaled and added up in f32. */
#define PUT_SUM(i, v)                                                                                               \
    _mm512_storeu_ps(out + i * t->ldo + v * 16,                                                                     \
                     _mm512_fmadd_ps(_mm512_cvtepi32_ps(c##i##_##v), scale,                                         \
                                     t->first ? _mm512_setzero_ps() : _mm512_loadu_ps(out + i * t->ldo + v * 16)));
#define OUTPUT_ROW(i, V)                                           \
    {                                                              \
        const __m512 scale = _mm512_set1_ps(t->scale[i * PARTS]);  \
        V(PUT_SUM, i)                                              \
    }

struct tile {
    const void *a;  /* high bytes of row 0; row i is `pitch` further, low bytes `low` */
    int64_t pitch, low;
    int64_t vec;    /* bytes from one vector to the next */
    int64_t step;   /* and from one step of four dimensions or positions to the next; `inner` of them, then `outer` times on */
    int64_t inner, outer, next;
    const char *fetch;  /* what will be read next: two lines are asked for in each step, then it moves on; NULL: nothing */
    int64_t fetch_step;
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

#define PASS(ROWS, V, ROW, bytes)                                                    \
    {                                                                                \
        const char *panel = operand;                                                 \
        const uint8_t *a = (const uint8_t *)t->a + (bytes);                          \
        for (int64_t o = 0; o < t->outer; o++, panel += t->next) {                   \
            const char *w = panel;                                                   \
            for (int64_t s = 0; s < t->inner; s++, a += 4, w += t->step) {           \
                V(LOAD, 0)                                                           \
                ROWS(ROW, V)                                                         \
                if (t->fetch) {                                                      \
                    _mm_prefetch(fetch, _MM_HINT_T0);                                \
                    _mm_prefetch(fetch + 64, _MM_HINT_T0);                           \
                    fetch += t->fetch_step;                                          \
                }                                                                    \
            }                                                                        \
        }                                                                            \
    }

#define TILE(name, ROWS, V, ROW, FINISH)                                             \
    QVL_INLINE void name(const struct tile *t, float *out, const char *operand)      \
    {                                                                                \
        ROWS(ZERO_ROW, V)                                                            \
        const char *fetch = t->fetch;      \
        PASS(ROWS, V, ROW, 0)                                              \
        ROWS(SHIFT_ROW, V)                                                           \
        PASS(ROWS, V, ROW, t->low)                                                \
        ROWS(FINISH, V)                                                              \
    }

TILE(key4_6, ROWS6, VEC4, KEY_ROW, SCORE_ROW)
TILE(key4_4, ROWS4, VEC4, KEY_ROW, SCORE_ROW)
TILE(key4_2, ROWS2, VEC4, KEY_ROW, SCORE_ROW)
TILE(key1_6, ROWS6, VEC1, KEY_ROW, SCORE_ROW)
TILE(key1_4, ROWS4, VEC1, KEY_ROW, SCORE_ROW)
TILE(key1_2, ROWS2, VEC1, KEY_ROW, SCORE_ROW)
TILE(value4_6, ROWS6, VEC4, VALUE_ROW, OUTPUT_ROW)
TILE(value4_4, ROWS4, VEC4, VALUE_ROW, OUTPUT_ROW)
TILE(value4_2, ROWS2, VEC4, VALUE_ROW, OUTPUT_ROW)
TILE(value1_6, ROWS6, VEC1, VALUE_ROW, OUTPUT_ROW)
TILE(value1_4, ROWS4, VEC1, VALUE_ROW, OUTPUT_ROW)
TILE(value1_2, ROWS2, VEC1, VALUE_ROW, OUTPUT_ROW)

static void scores(const struct qvl_attn_block *b, struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->head_dim);
    const int first = attn_first(b->rows);
    const char *k = b->k;
    for (int64_t p = 0; p < panels;) {
        const int vecs = p + 4 <= panels ? 4 : 1;
        for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first) {
            const struct tile t = {.a = w->q[r], .pitch = sizeof w->q[0], .low = QVL_HEAD_MAX, .vec = panel, .step = 64,
                                   .inner = b->head_dim / 4, .outer = 1, .fetch = n > 4 || vecs == 1 ? NULL : k + 8 * panel,
                                   .fetch_step = 4 * panel / (b->head_dim / 2), .ldo = QVL_ATTN_BLOCK, .query = b->q8 + r};
            if (vecs == 4)
                BY_ROWS(n, key4_, &t, w->s[r] + p * 16, k);
            else
                BY_ROWS(n, key1_, &t, w->s[r] + p * 16, k);
        }
        for (int i = 0; i < vecs; i++) /* the scales of these positions' values come next: they lie far apart */
            _mm_prefetch((const char *)b->v + (p + i + 1) * qvl_panel8_bytes(b->dv) - 64, _MM_HINT_T0);
        p += vecs;
        k += vecs * panel;
    }
}

static void outputs(const struct qvl_attn_block *b, const struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->dv), part = QVL_ATTN_PART / 16, dv = b->dv;
    const int64_t fetch_step = part * panel / dv; /* a tile of 64 outputs has 64 steps in its two passes */
    const int first = attn_first(b->rows);
    for (int64_t p = 0; p < panels; p += part)
        for (int64_t d = 0; d < dv;) {
            const int vecs = d + 64 <= dv ? 4 : 1;
            const char *v = (const char *)b->v + p * panel + d * 4, *fetch = v - d * 4 + part * panel + d * fetch_step;
            for (int r = 0, n = first; r < b->rows; r += n, n = b->rows - first) {
                const struct tile t = {.a = w->w[r] + p * 16, .pitch = sizeof w->w[0], .low = QVL_ATTN_BLOCK, .vec = 64,
                                       .step = dv * 4, .inner = 4, .outer = panels - p < part ? panels - p : part,
                                       .next = panel, .fetch = n > 4 || vecs == 1 ? NULL : fetch,
                                       .fetch_step = fetch_step, .ldo = dv,
                                       .scale = &w->scale[r][p / part], .first = p == 0};
                if (vecs == 4)
                    BY_ROWS(n, value4_, &t, b->o + r * dv + d, v);
                else
                    BY_ROWS(n, value1_, &t, b->o + r * dv + d, v);
            }
            d += vecs * 16;
        }
}

/* Bytes of 256 high + low, both signed. Rows are computed in even numbers. */
static void split_queries(const struct qvl_attn_block *b, struct work8 *w)
{
    const __m512i round = _mm512_set1_epi16(128);
    for (int i = 0; i < b->rows + b->rows % 2; i++)
        for (int d = 0; d < b->head_dim; d += 32) {
            const __m512i q = _mm512_loadu_si512(b->q8[i].q + d);
            _mm256_storeu_si256((__m256i *)(void *)(w->q[i] + d),
                                _mm512_cvtepi16_epi8(_mm512_srai_epi16(_mm512_add_epi16(q, round), 8)));
            _mm256_storeu_si256((__m256i *)(void *)(w->q[i] + QVL_HEAD_MAX + d), _mm512_cvtepi16_epi8(q));
        }
}

void qvl_attn_int8_avx512_vnni(const struct qvl_attn_block *b)
{
    struct work8 *w = b->work;
    split_queries(b, w);
    scores(b, w);
    softmax8(b, w);
    outputs(b, w);
}

static void block_f32(const struct qvl_attn_block *b) { qvl_attn_kernels_avx512.block_f32(b); }
static void block_bf16(const struct qvl_attn_block *b) { qvl_attn_kernels_avx512.block_bf16(b); }
static void merge(float *acc, const float *o, float a, float b, int64_t n)
{
    qvl_attn_kernels_avx512.merge(acc, o, a, b, n);
}

const struct qvl_attn_kernels qvl_attn_kernels_avx512_vnni = {
    .block_f32 = block_f32, .block_bf16 = block_bf16, .block_int8 = qvl_attn_int8_avx512_vnni, .merge = merge};
