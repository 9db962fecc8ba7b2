/* attn_neon_dotprod.c - attention over an INT8 cache with sdot; the other types go the scalar way.
 *
 * A factor of 16 bits is two signed bytes, value = 256 high + low: the tile runs over its operands with the high bytes first,
 * shifts the sums by 8, and goes on with the low ones. sdot wants both operands signed: stored keys lose their offset by a
 * flipped bit, so that the queries' `start` is not needed. */
#include "kernels/arm/qv_neon.h"

#include "kernels/attn_int8.h"

/* Four integers as bytes, high = (q + 128) >> 8. */
QVL_INLINE void put_split(uint8_t *high, uint8_t *low, int32x4_t q)
{
    const int16x4_t l = vmovn_s32(q), h = vmovn_s32(vshrq_n_s32(vaddq_s32(q, vdupq_n_s32(128)), 8));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(h, l));
    vst1_lane_s32((int32_t *)(void *)high, vreinterpret_s32_s8(bytes), 0);
    vst1_lane_s32((int32_t *)(void *)low, vreinterpret_s32_s8(bytes), 1);
}

static inline void put_weights(uint8_t *row, int64_t j, qvi q) { put_split(row + j, row + QVL_ATTN_BLOCK + j, q); }

/* The tile: 4 rows against 4 vectors of 4 positions or outputs: 16 sums, 4 vectors, 1 broadcast. */
struct tile {
    const void *a;  /* high bytes of row 0; row i is `pitch` further, low bytes `low` */
    int64_t pitch, low;
    int64_t step;   /* bytes from one step of four dimensions or positions to the next; `inner` of them, then `outer` times on */
    int64_t inner, outer, next;
    int64_t ahead;  /* bytes to prefetch ahead */
    uint8_t flip;   /* 0x80 for keys */
};

#define SUMS(X) X(0) X(1) X(2) X(3)
#define ZERO(i) int32x4_t c##i##_0 = vdupq_n_s32(0), c##i##_1 = c##i##_0, c##i##_2 = c##i##_0, c##i##_3 = c##i##_0;
#define DOT(i)                                                                                    \
    {                                                                                             \
        const int8x16_t b = word(a + i * t->pitch);                                               \
        c##i##_0 = vdotq_s32(c##i##_0, w0, b);                                                    \
        c##i##_1 = vdotq_s32(c##i##_1, w1, b);                                                    \
        c##i##_2 = vdotq_s32(c##i##_2, w2, b);                                                    \
        c##i##_3 = vdotq_s32(c##i##_3, w3, b);                                                    \
    }
#define SHIFT(i)                                                                                  \
    c##i##_0 = vshlq_n_s32(c##i##_0, 8);                                                          \
    c##i##_1 = vshlq_n_s32(c##i##_1, 8);                                                          \
    c##i##_2 = vshlq_n_s32(c##i##_2, 8);                                                          \
    c##i##_3 = vshlq_n_s32(c##i##_3, 8);
#define STORE(i)                                                                                  \
    vst1q_s32(out + i * 16, c##i##_0);                                                            \
    vst1q_s32(out + i * 16 + 4, c##i##_1);                                                        \
    vst1q_s32(out + i * 16 + 8, c##i##_2);                                                        \
    vst1q_s32(out + i * 16 + 12, c##i##_3);

QVL_INLINE int8x16_t word(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

QVL_INLINE int8x16_t operand(const uint8_t *p, uint8x16_t flip) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), flip)); }

#define PASS(bytes)                                                                               \
    {                                                                                             \
        const uint8_t *panel = operands;                                                          \
        const int8_t *a = (const int8_t *)t->a + (bytes);                                         \
        for (int64_t o = 0; o < t->outer; o++, panel += t->next) {                                \
            const uint8_t *w = panel;                                                             \
            for (int64_t s = 0; s < t->inner; s++, a += 4, w += t->step) {                        \
                const int8x16_t w0 = operand(w, flip), w1 = operand(w + 16, flip);                \
                const int8x16_t w2 = operand(w + 32, flip), w3 = operand(w + 48, flip);           \
                __builtin_prefetch(w + t->ahead);                                                 \
                SUMS(DOT)                                                                         \
            }                                                                                     \
        }                                                                                         \
    }

/* out[4 rows][16] */
QVL_INLINE void tile(int32_t *out, const struct tile *t, const uint8_t *operands)
{
    const uint8x16_t flip = vdupq_n_u8(t->flip);
    SUMS(ZERO)
    PASS(0)
    SUMS(SHIFT)
    PASS(t->low)
    SUMS(STORE)
}

static void scores(const struct qvl_attn_block *b, struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->head_dim);
    int32_t sums[4 * 16];
    for (int64_t p = 0; p < panels; p++)
        for (int r = 0; r < b->rows; r += 4) {
            const struct tile t = {.a = w->q[r], .pitch = sizeof w->q[0], .low = QVL_HEAD_MAX, .step = 64,
                                   .inner = b->head_dim / 4, .outer = 1, .ahead = panel, .flip = 0x80};
            tile(sums, &t, (const uint8_t *)b->k + p * panel);
            for (int i = 0; i < 4; i++)
                memcpy(w->s[r + i] + p * 16, sums + i * 16, 64);
        }
}

static void outputs(const struct qvl_attn_block *b, const struct work8 *w)
{
    const int64_t panels = (b->n + 15) / 16, panel = qvl_panel8_bytes(b->dv), part = QVL_ATTN_PART / 16, dv = b->dv;
    int32_t sums[4 * 16];
    for (int64_t p = 0; p < panels; p += part)
        for (int64_t d = 0; d < dv; d += 16)
            for (int r = 0; r < b->rows; r += 4) {
                const struct tile t = {.a = w->w[r] + p * 16, .pitch = sizeof w->w[0], .low = QVL_ATTN_BLOCK, .step = dv * 4,
                                       .inner = 4, .outer = panels - p < part ? panels - p : part, .next = panel,
                                       .ahead = part * panel};
                tile(sums, &t, (const uint8_t *)b->v + p * panel + d * 4);
                for (int i = 0; i < 4 && r + i < b->rows; i++)
                    for (int j = 0; j < 16; j += 4) {
                        float *o = b->o + (r + i) * dv + d + j;
                        const float32x4_t old = p == 0 ? vdupq_n_f32(0) : vld1q_f32(o);
                        vst1q_f32(o, vfmaq_f32(old, vcvtq_f32_s32(vld1q_s32(sums + i * 16 + j)),
                                               vdupq_n_f32(w->scale[r + i][p / part])));
                    }
            }
}

/* A tile always computes four rows: those that are missing are zero in the scores, and not stored from the outputs. */
static void split_queries(const struct qvl_attn_block *b, struct work8 *w)
{
    for (int i = 0; i < (b->rows + 3) / 4 * 4; i++)
        for (int d = 0; d < b->head_dim; d += 4)
            put_split((uint8_t *)w->q[i] + d, (uint8_t *)w->q[i] + QVL_HEAD_MAX + d, vmovl_s16(vld1_s16(b->q8[i].q + d)));
}

static void block_int8(const struct qvl_attn_block *b)
{
    struct work8 *w = b->work;
    split_queries(b, w);
    scores(b, w);
    softmax8(b, w);
    outputs(b, w);
}

static void block_f32(const struct qvl_attn_block *b) { qvl_attn_kernels_ref.block_f32(b); }
static void block_bf16(const struct qvl_attn_block *b) { qvl_attn_kernels_ref.block_bf16(b); }

static void merge(float *acc, const float *o, float a, float b, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4)
        vst1q_f32(acc + i, vfmaq_n_f32(vmulq_n_f32(vld1q_f32(o + i), b), vld1q_f32(acc + i), a));
}

const struct qvl_attn_kernels qvl_attn_kernels_neon_dotprod = {
    .block_f32 = block_f32, .block_bf16 = block_bf16, .block_int8 = block_int8, .merge = merge};
