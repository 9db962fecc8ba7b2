/* quant_avx512_vnni.c - integer kinds with 512-bit dot products of bytes: one vector is four inputs of 16 rows. */
#include "kernels/quant.h"
#include "kernels/x86/qv_avx512.h"

#include "kernels/quant_group.h"
#include "kernels/quant_minima.h"

#define PREFETCH 6144 /* bytes ahead in the stream of weights: hardware prefetch stops at the end of a page */

/* ------------------------------------------------------------------ activations */

/* Largest bit pattern without sign: NaN above infinity above all numbers. */
QVL_INLINE uint32_t largest_bits(const float *x, int64_t n)
{
    __m512i a = _mm512_setzero_si512(), b = a, mask = _mm512_set1_epi32(0x7fffffff);
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        a = _mm512_max_epi32(a, _mm512_and_si512(_mm512_loadu_si512(x + i), mask));
        b = _mm512_max_epi32(b, _mm512_and_si512(_mm512_loadu_si512(x + i + 16), mask));
    }
    for (; i < n; i += 16)
        a = _mm512_max_epi32(a, _mm512_and_si512(_mm512_maskz_loadu_epi32(lanes16(n - i), x + i), mask));
    return (uint32_t)_mm512_reduce_max_epi32(_mm512_max_epi32(a, b));
}

static void quantise(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t n_in)
{
    for (int64_t k0 = 0; k0 < n_in; k0 += QVL_ACT_BLOCK, scale++, x += QVL_ACT_BLOCK) {
        const int64_t n = n_in - k0 < QVL_ACT_BLOCK ? n_in - k0 : QVL_ACT_BLOCK;
        const uint32_t bits = largest_bits(x, n);
        float largest, inverse = 0;
        memcpy(&largest, &bits, 4);
        *scale = bits >= 0x7f800000u ? NAN : 0;
        __mmask16 keep = 0;
        if (bits < 0x7f800000u && largest >= 0x1p-100f) {
            *scale = largest / 127;
            inverse = 127 / largest;
            keep = 0xffff;
        }
        for (int64_t i = 0; i < n; i += QVL_UNIT_INPUTS, q += QVL_UNIT_INPUTS, sum += 2)
            for (int h = 0; h < 2; h++) {
                const int64_t left = n - i - 32 * h;
                __m512 lo = _mm512_maskz_loadu_ps(left > 0 ? keep & lanes16(left) : 0, x + i + 32 * h);
                __m512 hi = _mm512_maskz_loadu_ps(left > 16 ? keep & lanes16(left - 16) : 0, x + i + 32 * h + 16);
                __m512i ilo = _mm512_cvtps_epi32(_mm512_mul_ps(lo, _mm512_set1_ps(inverse)));
                __m512i ihi = _mm512_cvtps_epi32(_mm512_mul_ps(hi, _mm512_set1_ps(inverse)));
                _mm_storeu_si128((__m128i *)(void *)(q + 32 * h), _mm512_cvtepi32_epi8(ilo));
                _mm_storeu_si128((__m128i *)(void *)(q + 32 * h + 16), _mm512_cvtepi32_epi8(ihi));
                sum[h] = _mm512_reduce_add_epi32(_mm512_add_epi32(ilo, ihi));
            }
    }
}

/* ------------------------------------------------------------------ few tokens */

QVL_INLINE __m512i word(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* Dot products of one group with M tokens; two sums for a token while there are registers, to hide latency. */
QVL_INLINE void group_dots(__m512i *s, const char *w, const int8_t *q, const int32_t *start, int kind, int M)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i odd[QVL_QUANT_GEMV_MAX];
    QVL_UNROLL
    for (int j = 0; j < M; j++) {
        s[j] = _mm512_set1_epi32(start[j]);
        odd[j] = _mm512_setzero_si512();
    }
    QVL_UNROLL
    for (int i = 0; i < 4; i++, q += 8 * M) {
        __m512i even_w, odd_w;
        if (kind) {
            even_w = _mm512_loadu_si512(w + i * 128);
            odd_w = _mm512_loadu_si512(w + i * 128 + 64);
        } else {
            __m512i both = _mm512_loadu_si512(w + i * 64);
            even_w = _mm512_and_si512(both, nibble);
            odd_w = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
        }
        QVL_UNROLL
        for (int j = 0; j < M; j++)
            s[j] = _mm512_dpbusd_epi32(s[j], even_w, word(q + 4 * j));
        QVL_UNROLL
        for (int j = 0; j < M; j++)
            if (M <= 2)
                odd[j] = _mm512_dpbusd_epi32(odd[j], odd_w, word(q + 4 * (M + j)));
            else
                s[j] = _mm512_dpbusd_epi32(s[j], odd_w, word(q + 4 * (M + j)));
    }
    if (M <= 2)
        QVL_UNROLL
        for (int j = 0; j < M; j++)
            s[j] = _mm512_add_epi32(s[j], odd[j]);
}

QVL_INLINE void panels(const struct qvl_quant_gemv *g, int kind, int M)
{
    const int64_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES,
                  n_unit = (g->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    const int64_t half = kind ? 512 : 256;
    const char *w = (const char *)g->w + g->p0 * n_unit * unit;
    for (int64_t p = g->p0; p < g->p1; p++) {
        const int8_t *q = g->x.q;
        const int32_t *start = g->x.start;
        const float *scale = g->x.scale;
        __m512 c[QVL_QUANT_GEMV_MAX];
        QVL_UNROLL
        for (int j = 0; j < M; j++)
            c[j] = _mm512_setzero_ps();
        for (int64_t u0 = 0; u0 < n_unit; u0 += QVL_ACT_BLOCK / QVL_UNIT_INPUTS, scale += M) {
            const int64_t left = n_unit - u0,
                          n = left < QVL_ACT_BLOCK / QVL_UNIT_INPUTS ? left : QVL_ACT_BLOCK / QVL_UNIT_INPUTS;
            __m512 b[QVL_QUANT_GEMV_MAX];
            QVL_UNROLL
            for (int j = 0; j < M; j++)
                b[j] = _mm512_setzero_ps();
            for (int64_t u = 0; u < n; u++, w += unit) {
                QVL_UNROLL
                for (int i = 0; i < unit / 64; i++)
                    _mm_prefetch(w + PREFETCH + i * 64, _MM_HINT_T0);
                QVL_UNROLL
                for (int h = 0; h < 2; h++, q += 32 * M, start += M) {
                    __m512i s[QVL_QUANT_GEMV_MAX];
                    group_dots(s, w + h * half, q, start, kind, M);
                    __m512 ws = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(w + 2 * half + h * 32)));
                    QVL_UNROLL
                    for (int j = 0; j < M; j++)
                        b[j] = _mm512_fmadd_ps(ws, _mm512_cvtepi32_ps(s[j]), b[j]);
                }
            }
            QVL_UNROLL
            for (int j = 0; j < M; j++)
                c[j] = _mm512_fmadd_ps(_mm512_set1_ps(scale[j]), b[j], c[j]);
        }
        const __mmask16 rows = lanes16(g->n_out - p * QVL_PANEL_ROWS);
        QVL_UNROLL
        for (int j = 0; j < M; j++) {
            float *y = g->y + j * g->y_stride + p * QVL_PANEL_ROWS;
            if (g->bias)
                c[j] = _mm512_add_ps(c[j], _mm512_maskz_loadu_ps(rows, g->bias + p * QVL_PANEL_ROWS));
            if (g->add)
                c[j] = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, y), c[j]);
            _mm512_mask_storeu_ps(y, rows, c[j]);
        }
    }
}

QVL_INLINE void gemv(const struct qvl_quant_gemv *g, int kind)
{
    switch (g->m) {
    case 1: panels(g, kind, 1); break;
    case 2: panels(g, kind, 2); break;
    case 3: panels(g, kind, 3); break;
    case 4: panels(g, kind, 4); break;
    case 5: panels(g, kind, 5); break;
    case 6: panels(g, kind, 6); break;
    case 7: panels(g, kind, 7); break;
    default: panels(g, kind, 8); break;
    }
}

static void gemv_q4(const struct qvl_quant_gemv *g) { gemv(g, 0); }
static void gemv_q8(const struct qvl_quant_gemv *g) { gemv(g, 1); }

/* ------------------------------------------------------------------ many tokens */

QVL_INLINE void expand_scales(float *scale, const char *half_scales)
{
    QVL_UNROLL
    for (int h = 0; h < 2; h++)
        _mm512_storeu_ps(scale + 16 * h,
                         _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(half_scales + 32 * h))));
}

static void expand_q4(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    const char *p = packed;
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int64_t u = 0; u < n_units; u++, p += QVL_Q4_UNIT_BYTES, w += 1024, scale += 32) {
        QVL_UNROLL
        for (int i = 0; i < 8; i++) {
            __m512i both = _mm512_loadu_si512(p + i * 64);
            _mm_prefetch(p + i * 64 + PREFETCH, _MM_HINT_T0);
            _mm512_storeu_si512(w + i * 128, _mm512_and_si512(both, nibble));
            _mm512_storeu_si512(w + i * 128 + 64, _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
        }
        expand_scales(scale, p + 512);
    }
}

static void expand_q8(uint8_t *w, float *scale, const void *packed, int64_t n_units)
{
    const char *p = packed;
    for (int64_t u = 0; u < n_units; u++, p += QVL_Q8_UNIT_BYTES, w += 1024, scale += 32) {
        QVL_UNROLL
        for (int i = 0; i < 16; i++)
            _mm512_storeu_si512(w + i * 64, _mm512_loadu_si512(p + i * 64));
        expand_scales(scale, p + 1024);
    }
}

/* 3 tokens x 4 panels: 12 integer and 12 f32 sums, 4 vectors of weights and 3 broadcasts are 31 registers. The sums are
 * named variables and the dot products asm, because compilers otherwise reorder the loads and then spill. */
#define MR 3
#define NV 4
#define VECS(X, j) X(j, 0) X(j, 1) X(j, 2) X(j, 3)
#define SUMS(X) VECS(X, 0) VECS(X, 1) VECS(X, 2)
#define LOAD(j, v) \
    __m512i w##v;  \
    __asm__ volatile("vmovdqu64 %1, %0" : "=v"(w##v) : "m"(*(const __m512i_u *)(const void *)(w + i * 64 + v * 4096)));
#define DOT(j, v) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(s##j##v) : "v"(w##v), "v"(x##j));
#define STEP(j)                                                                                                       \
    __m512i x##j;                                                                                                     \
    __asm__ volatile("vpbroadcastd %1, %0" : "=v"(x##j) : "m"(*(const int32_t *)(const void *)(q + i * 4 * MR + j * 4))); \
    VECS(DOT, j)
#define ZERO_F(j, v) __m512 b##j##v = _mm512_setzero_ps();
#define START(j, v) __m512i s##j##v = _mm512_set1_epi32(start[j]);
#define SCALES(j, v) __m512 f##v = _mm512_loadu_ps(ws + v * 128);
#define SCALE(j, v) b##j##v = _mm512_fmadd_ps(f##v, _mm512_cvtepi32_ps(s##j##v), b##j##v);
#define OUT(j, v)                                                                                                     \
    {                                                                                                                 \
        float *o = c + (j * NV + v) * 16;                                                                             \
        __m512 old = first ? _mm512_setzero_ps() : _mm512_loadu_ps(o);                                                \
        _mm512_storeu_ps(o, _mm512_fmadd_ps(_mm512_set1_ps(x->scale[j]), b##j##v, old));                              \
    }

static void tile(float *c, const uint8_t *w, const float *ws, const struct qvl_act *x, int64_t n_groups, int first)
{
    const int8_t *q = x->q;
    const int32_t *start = x->start;
    for (int i = 0; i < MR * NV; i++)
        _mm_prefetch((const char *)(c + i * 16), _MM_HINT_T0);
    SUMS(ZERO_F)
    for (int64_t g = 0; g < n_groups; g++, w += 512, ws += 16, q += 32 * MR, start += MR) {
        SUMS(START)
        QVL_UNROLL
        for (int i = 0; i < 8; i++) {
            VECS(LOAD, 0)
            STEP(0)
            STEP(1)
            STEP(2)
        }
        VECS(SCALES, 0)
        SUMS(SCALE)
    }
    SUMS(OUT)
}

static double probe(int64_t iterations)
{
    __m512i acc[16], a = _mm512_set1_epi8(1), b = a;
    QVL_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = _mm512_setzero_si512();
        __asm__("" : "+v"(acc[i])); /* otherwise all are known to be equal, and one is computed */
    }
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+v"(a), "+v"(b));
        QVL_UNROLL
        for (int i = 0; i < 16; i++)
            acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
    }
    QVL_UNROLL
    for (int i = 0; i < 16; i++)
        __asm__ volatile("" : : "v"(acc[i]));
    return 16.0 * 128.0 * (double)iterations;
}

const struct qvl_quant_kernels qvl_quant_kernels_avx512_vnni = {
    .name = "avx512_vnni",
    .quantise = quantise,
    .gemv = {gemv_q4, gemv_q8},
    .pack_group = {pack_q4, pack_q8},
    .mr = MR,
    .nv = NV,
    .few = 48,
    .expand = {expand_q4, expand_q8},
    .tile = {tile, tile},
    .minima = minima,
    .probe = probe,
};
