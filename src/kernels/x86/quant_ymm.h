/* quant_ymm.h - integer kinds with 256-bit vectors: one vector is four inputs of 8 rows, half of a stored vector.
 *
 * The file that includes it defines how the bytes of one group are multiplied:
 *   dots_begin(start)      an accumulator
 *   dots_q4(acc, u, x)     adds u*x, u = 0..15
 *   dots_q8(acc, w, x)     adds w*x, w in the form that q8_operand makes of stored bytes
 *   dots_end_q4(acc, start), dots_end_q8(acc)   int32 sums of the group */
#ifndef QVL_KERNELS_X86_QUANT_YMM_H
#define QVL_KERNELS_X86_QUANT_YMM_H

#include <string.h>

#include "kernels/quant.h"
#include "kernels/x86/qv_avx2.h"
#include "kernels/quant_group.h"
#include "kernels/quant_minima.h"

#define PREFETCH 6144 /* bytes ahead in the stream of weights: hardware prefetch stops at the end of a page */
#define BLOCK_UNITS (QVL_ACT_BLOCK / QVL_UNIT_INPUTS)

QVL_INLINE __m256i load_bytes(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

QVL_INLINE __m256i word(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

QVL_INLINE __m256 half_scales(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

/* ------------------------------------------------------------------ activations */

QVL_INLINE int32_t sum_lanes(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* Largest bit pattern without sign: NaN above infinity above all numbers. n is a multiple of 8. */
QVL_INLINE uint32_t largest_bits(const float *x, int64_t n)
{
    __m256i a = _mm256_setzero_si256(), mask = _mm256_set1_epi32(0x7fffffff);
    for (int64_t i = 0; i < n; i += 8)
        a = _mm256_max_epi32(a, _mm256_and_si256(load_bytes(x + i), mask));
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}

/* 32 values to bytes, and their sum. */
QVL_INLINE int32_t quantise_group(int8_t *q, const float *x, float inverse)
{
    const __m256 f = _mm256_set1_ps(inverse);
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), f)),
            b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), f));
    __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16), f)),
            d = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 24), f));
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)); /* 128-bit halves interleave */
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
    return sum_lanes(_mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
}

static void quantise(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n_in)
{
    float last[QVL_ACT_BLOCK]; /* a block that is not whole, zeros behind it */
    for (int64_t k0 = 0; k0 < n_in; k0 += QVL_ACT_BLOCK, scale++) {
        const float *block = x + k0;
        int64_t n = QVL_ACT_BLOCK;
        if (n_in - k0 < n) {
            n = (n_in - k0 + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS * QVL_UNIT_INPUTS;
            memset(last, 0, sizeof last);
            memcpy(last, block, (size_t)(n_in - k0) * 4);
            block = last;
        }
        const uint32_t bits = largest_bits(block, n);
        float largest;
        memcpy(&largest, &bits, 4);
        if (bits < 0x7f800000u && largest >= 0x1p-100f) {
            *scale = largest / 127;
            for (int64_t i = 0; i < n; i += QVL_GROUP, q += QVL_GROUP)
                *sum++ = quantise_group(q, block + i, 127 / largest);
        } else {
            *scale = bits >= 0x7f800000u ? NAN : 0;
            memset(q, 0, (size_t)n);
            memset(sum, 0, (size_t)(n / QVL_GROUP) * 4);
            q += n;
            sum += n / QVL_GROUP;
        }
    }
}

/* ------------------------------------------------------------------ few tokens */

/* Where a call works: a block of inputs of a panel, some of r tokens. */
struct part {
    const char *w, *ws; /* the first unit, and its scales */
    const int8_t *q;
    const int32_t *start;
    const float *scale;
    int64_t r, n_unit;
};

/* Sums of one group for M tokens: s[2*token + half of the panel]. */
QVL_INLINE void group_dots(__m256i *s, const char *w, const int8_t *q, const int32_t *start, int64_t r, int kind, int M)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    QVL_UNROLL
    for (int j = 0; j < 2 * M; j++)
        s[j] = dots_begin(start[j / 2]);
    QVL_UNROLL
    for (int i = 0; i < 8; i++) { /* four inputs each; q4 has two of them in a vector */
        __m256i b[2];
        QVL_UNROLL
        for (int h = 0; h < 2; h++) {
            if (kind)
                b[h] = q8_operand(load_bytes(w + i * 64 + h * 32));
            else if (i % 2 == 0)
                b[h] = _mm256_and_si256(load_bytes(w + i / 2 * 64 + h * 32), nibble);
            else
                b[h] = _mm256_and_si256(_mm256_srli_epi16(load_bytes(w + i / 2 * 64 + h * 32), 4), nibble);
        }
        QVL_UNROLL
        for (int j = 0; j < M; j++) {
            const __m256i x = word(q + 4 * (i * r + j));
            QVL_UNROLL
            for (int h = 0; h < 2; h++)
                s[j * 2 + h] = kind ? dots_q8(s[j * 2 + h], b[h], x) : dots_q4(s[j * 2 + h], b[h], x);
        }
    }
    QVL_UNROLL
    for (int j = 0; j < 2 * M; j++)
        s[j] = kind ? dots_end_q8(s[j]) : dots_end_q4(s[j], start[j / 2]);
}

/* c[half][token] = fma(x scale, sum over groups, c). */
QVL_INLINE void block_rows(__m256 (*c)[QVL_QUANT_GEMV_MAX], const struct part *p, int kind, int M)
{
    const int64_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES, half = kind ? 512 : 256, r = p->r;
    const char *w = p->w, *ws = p->ws;
    const int8_t *q = p->q;
    const int32_t *start = p->start;
    __m256 b[8];
    QVL_UNROLL
    for (int j = 0; j < 2 * M; j++)
        b[j] = _mm256_setzero_ps();
    for (int64_t u = 0; u < p->n_unit; u++, w += unit, ws += unit)
        for (int g = 0; g < 2; g++, q += 32 * r, start += r) {
            __m256i s[8];
            group_dots(s, w + g * half, q, start, r, kind, M);
            QVL_UNROLL
            for (int j = 0; j < 2 * M; j++)
                b[j] = _mm256_fmadd_ps(half_scales(ws + g * 32 + j % 2 * 16), _mm256_cvtepi32_ps(s[j]), b[j]);
        }
    QVL_UNROLL
    for (int j = 0; j < 2 * M; j++)
        c[j % 2][j / 2] = _mm256_fmadd_ps(_mm256_set1_ps(p->scale[j / 2]), b[j], c[j % 2][j / 2]);
}

/* 16 registers hold the integer sums of 16 rows x 4 tokens. After its first pass the block is in the first-level cache. */
QVL_INLINE void block_tokens(__m256 (*c)[QVL_QUANT_GEMV_MAX], const struct part *p, int kind, int m)
{
    for (int j = 0; j < m; j += 4) {
        const struct part now = {p->w, p->ws, p->q + 4 * j, p->start + j, p->scale + j, p->r, p->n_unit};
        __m256(*out)[QVL_QUANT_GEMV_MAX] = (__m256(*)[QVL_QUANT_GEMV_MAX])(c[0] + j);
        switch (m - j) {
        case 1: block_rows(out, &now, kind, 1); break;
        case 2: block_rows(out, &now, kind, 2); break;
        case 3: block_rows(out, &now, kind, 3); break;
        default: block_rows(out, &now, kind, 4); break;
        }
    }
}

QVL_INLINE void store_rows(const struct qvl_quant_gemv *g, const __m256 *c, int64_t row)
{
    const int64_t n = g->n_out - row;
    if (n <= 0)
        return;
    for (int j = 0; j < g->m; j++) {
        float *y = g->y + j * g->y_stride + row;
        __m256 v = c[j];
        if (g->bias)
            v = _mm256_add_ps(v, load8_n(g->bias + row, n, QVL_DT_F32));
        if (g->add)
            v = _mm256_add_ps(load8_n(y, n, QVL_DT_F32), v);
        store8_n(y, n, v);
    }
}

QVL_INLINE void gemv(const struct qvl_quant_gemv *g, int kind)
{
    const int64_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES,
                  n_unit = (g->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    const char *w = (const char *)g->w + g->p0 * n_unit * unit;
    for (int64_t panel = g->p0; panel < g->p1; panel++) {
        struct part p = {.q = g->x.q, .start = g->x.start, .scale = g->x.scale, .r = g->m};
        __m256 c[2][QVL_QUANT_GEMV_MAX];
        for (int j = 0; j < QVL_QUANT_GEMV_MAX; j++)
            c[0][j] = c[1][j] = _mm256_setzero_ps();
        for (int64_t u = 0; u < n_unit; u += BLOCK_UNITS) {
            p.n_unit = n_unit - u < BLOCK_UNITS ? n_unit - u : BLOCK_UNITS;
            for (int64_t i = 0; i < p.n_unit * unit; i += 64)
                _mm_prefetch(w + PREFETCH + i, _MM_HINT_T0);
            p.w = w;
            p.ws = w + unit - 64;
            block_tokens(c, &p, kind, g->m);
            w += p.n_unit * unit;
            p.q += p.n_unit * QVL_UNIT_INPUTS * p.r;
            p.start += p.n_unit * 2 * p.r;
            p.scale += p.r;
        }
        store_rows(g, c[0], panel * QVL_PANEL_ROWS);
        store_rows(g, c[1], panel * QVL_PANEL_ROWS + 8);
    }
}

static void gemv_q4(const struct qvl_quant_gemv *g) { gemv(g, 0); }
static void gemv_q8(const struct qvl_quant_gemv *g) { gemv(g, 1); }

/* ------------------------------------------------------------------ many tokens */

#define MR 4 /* x 2 vectors: 8 integer sums, 2 vectors of weights, a broadcast; the f32 sums live in memory */
#define NV 1

static void expand_q4(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    const char *p = packed;
    const __m256i nibble = _mm256_set1_epi8(15);
    for (int64_t u = 0; u < n_units; u++, p += QVL_Q4_UNIT_BYTES, w += 1024, scale += 32) {
        for (int i = 0; i < 8; i++)
            for (int h = 0; h < 64; h += 32) {
                __m256i both = load_bytes(p + i * 64 + h);
                _mm256_storeu_si256((__m256i *)(void *)(w + i * 128 + h), _mm256_and_si256(both, nibble));
                _mm256_storeu_si256((__m256i *)(void *)(w + i * 128 + 64 + h),
                                    _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble));
            }
        for (int i = 0; i < 4; i++)
            _mm256_storeu_ps(scale + 8 * i, half_scales(p + 512 + 16 * i));
    }
}

static void expand_q8(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    const char *p = packed;
    for (int64_t u = 0; u < n_units; u++, p += QVL_Q8_UNIT_BYTES, w += 1024, scale += 32) {
        for (int i = 0; i < 1024; i += 32)
            _mm256_storeu_si256((__m256i *)(void *)(w + i), q8_operand(load_bytes(p + i)));
        for (int i = 0; i < 4; i++)
            _mm256_storeu_ps(scale + 8 * i, half_scales(p + 1024 + 16 * i));
    }
}

QVL_INLINE void tile(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first,
                     int kind)
{
    const int8_t *q = x->q;
    const int32_t *start = x->start;
    __m256 b[2][MR];
    QVL_UNROLL
    for (int j = 0; j < MR; j++)
        b[0][j] = b[1][j] = _mm256_setzero_ps();
    for (int64_t g = 0; g < n_groups; g++, ws += 16, start += MR) {
        __m256i s[2][MR];
        QVL_UNROLL
        for (int j = 0; j < MR; j++)
            s[0][j] = s[1][j] = dots_begin(start[j]);
        QVL_UNROLL
        for (int i = 0; i < 8; i++, w += 64, q += 4 * MR) {
            const __m256i w0 = load_bytes(w), w1 = load_bytes(w + 32);
            QVL_UNROLL
            for (int j = 0; j < MR; j++) {
                const __m256i v = word(q + 4 * j);
                s[0][j] = kind ? dots_q8(s[0][j], w0, v) : dots_q4(s[0][j], w0, v);
                s[1][j] = kind ? dots_q8(s[1][j], w1, v) : dots_q4(s[1][j], w1, v);
            }
        }
        const __m256 f0 = _mm256_loadu_ps(ws), f1 = _mm256_loadu_ps(ws + 8);
        QVL_UNROLL
        for (int j = 0; j < MR; j++) {
            const __m256i d0 = kind ? dots_end_q8(s[0][j]) : dots_end_q4(s[0][j], start[j]);
            const __m256i d1 = kind ? dots_end_q8(s[1][j]) : dots_end_q4(s[1][j], start[j]);
            b[0][j] = _mm256_fmadd_ps(f0, _mm256_cvtepi32_ps(d0), b[0][j]);
            b[1][j] = _mm256_fmadd_ps(f1, _mm256_cvtepi32_ps(d1), b[1][j]);
        }
    }
    QVL_UNROLL
    for (int j = 0; j < MR; j++)
        for (int h = 0; h < 2; h++) {
            float *o = c + j * 16 + h * 8;
            const __m256 old = first ? _mm256_setzero_ps() : _mm256_loadu_ps(o);
            _mm256_storeu_ps(o, _mm256_fmadd_ps(_mm256_set1_ps(x->scale[j]), b[h][j], old));
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

#define QVL_QUANT_YMM                                                                                                  \
    .quantise = quantise, .gemv = {gemv_q4, gemv_q8}, .pack_group = {pack_q4, pack_q8}, .mr = MR, .nv = NV, .few = 48, \
    .expand = {expand_q4, expand_q8}, .tile = {tile_q4, tile_q8}, .minima = minima

#endif
