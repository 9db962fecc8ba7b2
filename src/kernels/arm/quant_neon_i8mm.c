/* quant_neon_i8mm.c - integer kinds with smmla: 2 tokens x 2 rows x 8 inputs in one instruction, twice what sdot does.
 *
 * A vector is [row r: 8 inputs][row r + 1: 8 inputs]: two steps of four rows, zipped word by word, are the two vectors of those
 * rows. Two tokens are zipped in the same way. A sum is then [token j: rows r, r + 1][token j + 1: rows r, r + 1]. One token
 * alone fills half of that: it goes by sdot, as does everything that has no form here. */
#include "kernels/arm/quant_neon.h"

#define PAIRS (QVL_PANEL_ROWS / 2)

/* Eight inputs of four rows, or tokens: the first two, the last two. */
QVL_INLINE void zip_rows(int8x16_t out[2], int8x16_t a, int8x16_t b)
{
    const int32x4_t lo = vreinterpretq_s32_s8(a), hi = vreinterpretq_s32_s8(b);
    out[0] = vreinterpretq_s8_s32(vzip1q_s32(lo, hi));
    out[1] = vreinterpretq_s8_s32(vzip2q_s32(lo, hi));
}

/* Two tokens that lie side by side; `next` bytes on are their next four inputs. */
QVL_INLINE int8x16_t two_tokens(const int8_t *q, int64_t next)
{
    const int32x2_t a = vreinterpret_s32_s8(vld1_s8(q)), b = vreinterpret_s32_s8(vld1_s8(q + next));
    return vreinterpretq_s8_s32(vcombine_s32(vzip1_s32(a, b), vzip2_s32(a, b)));
}

QVL_INLINE int32x4_t two_starts(const int32_t *start)
{
    return vcombine_s32(vdup_n_s32(start[0]), vdup_n_s32(start[1]));
}

/* Four rows of token `odd` (0, 1) of a pair, from the sums of two pairs of rows. */
QVL_INLINE float32x4_t rows_of(const int32x4_t *s, int odd)
{
    const int64x2_t a = vreinterpretq_s64_s32(s[0]), b = vreinterpretq_s64_s32(s[1]);
    return vcvtq_f32_s32(vreinterpretq_s32_s64(odd ? vzip2q_s64(a, b) : vzip1q_s64(a, b)));
}

/* ------------------------------------------------------------------ few tokens */

/* Tokens in pairs, and the last of an odd number by itself. */
QVL_INLINE void block_rows(float32x4_t (*c)[QVL_QUANT_GEMV_MAX], const struct part *p, int kind, int M)
{
    const int64_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES, half = kind ? 512 : 256, r = p->r;
    const uint8_t *w = p->w, *ws = p->ws;
    const int8_t *q = p->q;
    const int32_t *start = p->start;
    const int last = M - 1;
    float32x4_t b[4][QUARTERS];
    QVL_UNROLL
    for (int j = 0; j < M * QUARTERS; j++)
        b[j / QUARTERS][j % QUARTERS] = vdupq_n_f32(0);
    for (int64_t u = 0; u < p->n_unit; u++, w += unit, ws += unit)
        for (int g = 0; g < 2; g++, q += 32 * r, start += r) {
            int32x4_t s[2][PAIRS], alone[QUARTERS];
            QVL_UNROLL
            for (int j = 0; j < M / 2 * PAIRS; j++)
                s[j / PAIRS][j % PAIRS] = kind ? vdupq_n_s32(0) : two_starts(start + j / PAIRS * 2);
            QVL_UNROLL
            for (int h = 0; h < QUARTERS; h++)
                alone[h] = vdupq_n_s32(kind ? 0 : start[last]);
            QVL_UNROLL
            for (int i = 0; i < 8; i += 2) {
                int8x16_t x[2];
                KEEP_ORDER;
                QVL_UNROLL
                for (int j = 0; j < M / 2; j++)
                    x[j] = two_tokens(q + 4 * (i * r + 2 * j), 4 * r);
                QVL_UNROLL
                for (int h = 0; h < QUARTERS; h++) {
                    const int8x16_t w0 = operand(w + g * half + h * 16, i, kind), w1 = operand(w + g * half + h * 16, i + 1, kind);
                    int8x16_t pair[2];
                    zip_rows(pair, w0, w1);
                    QVL_UNROLL
                    for (int j = 0; j < M / 2; j++) {
                        s[j][2 * h] = vmmlaq_s32(s[j][2 * h], x[j], pair[0]);
                        s[j][2 * h + 1] = vmmlaq_s32(s[j][2 * h + 1], x[j], pair[1]);
                    }
                    if (M % 2) {
                        alone[h] = vdotq_s32(alone[h], w0, word(q + 4 * (i * r + last)));
                        alone[h] = vdotq_s32(alone[h], w1, word(q + 4 * ((i + 1) * r + last)));
                    }
                }
            }
            QVL_UNROLL
            for (int j = 0; j < M * QUARTERS; j++) {
                const int h = j % QUARTERS, t = j / QUARTERS;
                const float32x4_t sum = M % 2 && t == last ? vcvtq_f32_s32(alone[h]) : rows_of(&s[t / 2][2 * h], t % 2);
                b[t][h] = vfmaq_f32(b[t][h], half_scales(ws + g * 32 + h * 8), sum);
            }
        }
    QVL_UNROLL
    for (int j = 0; j < M * QUARTERS; j++) {
        const int h = j % QUARTERS, t = j / QUARTERS;
        c[h][t] = vfmaq_f32(c[h][t], vdupq_n_f32(p->scale[t]), b[t][h]);
    }
}

static void gemv_q4(const struct qvl_quant_gemv *g)
{
    if (g->m == 1)
        qvl_quant_kernels_neon_dotprod.gemv[0](g);
    else
        gemv(g, 0);
}

static void gemv_q8(const struct qvl_quant_gemv *g)
{
    if (g->m == 1)
        qvl_quant_kernels_neon_dotprod.gemv[1](g);
    else
        gemv(g, 1);
}

/* ------------------------------------------------------------------ many tokens */

#define MR 4 /* 2 pairs of tokens x 8 pairs of rows: 16 integer sums, 2 vectors of tokens, one of weights at a time */
#define NV 1

/* Eight inputs are the 128 bytes of two steps: [pair of rows][2][8]. */
QVL_INLINE void expand(uint8_t *w, float *scale, const void *packed, int64_t n_units, int kind)
{
    const uint8_t *p = packed;
    const int64_t half = kind ? 512 : 256;
    for (int64_t u = 0; u < n_units; u++, p += 2 * half + 64, scale += 32) {
        for (int g = 0; g < 2; g++)
            for (int i = 0; i < 8; i += 2)
                for (int h = 0; h < 64; h += 16, w += 32) {
                    int8x16_t pair[2];
                    zip_rows(pair, operand(p + g * half + h, i, kind), operand(p + g * half + h, i + 1, kind));
                    vst1q_u8(w, vreinterpretq_u8_s8(pair[0]));
                    vst1q_u8(w + 16, vreinterpretq_u8_s8(pair[1]));
                }
        for (int i = 0; i < 8; i++)
            vst1q_f32(scale + 4 * i, half_scales(p + 2 * half + 8 * i));
    }
}

static void expand_q4(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    expand(w, scale, packed, n_units, 0);
}

static void expand_q8(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    expand(w, scale, packed, n_units, 1);
}

QVL_INLINE void tile(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first,
                     int kind)
{
    const int8_t *q = x->q;
    const int32_t *start = x->start;
    float32x4_t b[MR][QUARTERS];
    QVL_UNROLL
    for (int j = 0; j < MR * QUARTERS; j++)
        b[j / QUARTERS][j % QUARTERS] = vdupq_n_f32(0);
    for (int64_t g = 0; g < n_groups; g++, ws += 16, start += MR) {
        int32x4_t s[MR / 2][PAIRS];
        QVL_UNROLL
        for (int j = 0; j < MR / 2 * PAIRS; j++)
            s[j / PAIRS][j % PAIRS] = kind ? vdupq_n_s32(0) : two_starts(start + j / PAIRS * 2);
        QVL_UNROLL
        for (int i = 0; i < 4; i++, w += 128, q += 8 * MR) {
            int8x16_t v[2]; /* tokens 0 and 1, tokens 2 and 3 */
            KEEP_ORDER;
            zip_rows(v, vld1q_s8(q), vld1q_s8(q + 4 * MR));
            QVL_UNROLL
            for (int h = 0; h < PAIRS; h++) {
                const int8x16_t wv = vreinterpretq_s8_u8(vld1q_u8(w + 16 * h));
                s[0][h] = vmmlaq_s32(s[0][h], v[0], wv);
                s[1][h] = vmmlaq_s32(s[1][h], v[1], wv);
            }
        }
        QVL_UNROLL
        for (int j = 0; j < MR * QUARTERS; j++) {
            const int h = j % QUARTERS, t = j / QUARTERS;
            b[t][h] = vfmaq_f32(b[t][h], vld1q_f32(ws + 4 * h), rows_of(&s[t / 2][2 * h], t % 2));
        }
    }
    for (int j = 0; j < MR; j++)
        for (int h = 0; h < QUARTERS; h++) {
            float *o = c + j * 16 + h * 4;
            const float32x4_t old = first ? vdupq_n_f32(0) : vld1q_f32(o);
            vst1q_f32(o, vfmaq_f32(old, vdupq_n_f32(x->scale[j]), b[j][h]));
        }
}

static void tile_q4(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first)
{
    tile(c, w, ws, x, n_groups, first, 0);
}

static void tile_q8(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first)
{
    tile(c, w, ws, x, n_groups, first, 1);
}

/* ------------------------------------------------------------------ as with sdot */

static void quantise(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n_in)
{
    qvl_quant_kernels_neon_dotprod.quantise(q, scale, sum, x, n_in);
}
static void pack_q4(struct qvl_quant_group *g) { qvl_quant_kernels_neon_dotprod.pack_group[0](g); }
static void pack_q8(struct qvl_quant_group *g) { qvl_quant_kernels_neon_dotprod.pack_group[1](g); }
static void minima(const struct qvl_quant_minima *g) { qvl_quant_kernels_neon_dotprod.minima(g); }

static double probe(int64_t iterations)
{
    int32x4_t acc[16];
    int8x16_t a = vdupq_n_s8(1), b = a;
    QVL_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = vdupq_n_s32(0);
        __asm__("" : "+w"(acc[i])); /* otherwise all are known to be equal, and one is computed */
    }
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+w"(a), "+w"(b));
        QVL_UNROLL
        for (int i = 0; i < 16; i++)
            acc[i] = vmmlaq_s32(acc[i], a, b);
    }
    QVL_UNROLL
    for (int i = 0; i < 16; i++)
        __asm__ volatile("" : : "w"(acc[i]));
    return 16.0 * 64.0 * (double)iterations;
}

const struct qvl_quant_kernels qvl_quant_kernels_neon_i8mm = {
    .name = "neon_i8mm",
    .quantise = quantise,
    .gemv = {gemv_q4, gemv_q8},
    .pack_group = {pack_q4, pack_q8},
    .mr = MR,
    .nv = NV,
    .few = 8,
    .expand = {expand_q4, expand_q8},
    .tile = {tile_q4, tile_q8},
    .minima = minima,
    .probe = probe,
};
