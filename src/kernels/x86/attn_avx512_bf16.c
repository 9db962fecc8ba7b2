/* attn_avx512_bf16.c - attention blocks with bf16 dot products. The f32 form is that of attn_avx512.c.
 *
 * Softmax needs about 14 operations for 16 scores that cost 64 dot products, and only six of them use the two units that dot
 * products run on. A full block (two register tiles of 6 rows) therefore takes the exponentials of one tile into the steps
 * of the other's products, one vector a step: q k^T of the second tile with the softmax of the first, p v of the first with
 * the softmax of the second. Both ways of computing a row have the same bytes. */
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
    float sum[QVL_ATTN_ROWS][2][16];               /* of the probabilities: even and odd vectors */
    float m[QVL_ATTN_ROWS];                        /* maximum of the scores */
    float c[8];                                    /* constants of exp_step */
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

/* ------------------------------------------------------------------ softmax inside of products */

/* Exponentials of whole rows that are still to be computed: at bytes at .. end of the scores. The place of everything else follows
 * from the place of the scores, so that the loop around has little to carry. */
struct pending {
    struct work *w;
    size_t at, end, row_bytes; /* row_bytes: of a row that are used, of SCORE_ROW */
};
#define SCORE_ROW ((size_t)QVL_ATTN_BLOCK * 4)

static struct pending pending(const struct qvl_attn_block *b, struct work *w, int first, int rows)
{
    const float c[8] = {b->scale * LOG2E,      -200.0f, /* then 2^f of exp2_16 in degree 5 */
                        0.0013264587614685297f, 0.009671619161963463f, 0.0555073507130146f, 0.24022240936756134f,
                        0.6931470036506653f,    1.0f};
    const int64_t n16 = (b->n + 15) / 16 * 16;
    memcpy(w->c, c, sizeof c);
    for (int i = first; i < first + rows; i++) {
        b->m[i] = w->m[i] = attn_max(w->s[i], n16, b->limit[i]);
        _mm512_store_ps(w->sum[i][0], _mm512_setzero_ps());
        _mm512_store_ps(w->sum[i][1], _mm512_setzero_ps());
    }
    return (struct pending){.w = w, .at = (size_t)first * SCORE_ROW, .end = (size_t)(first + rows) * SCORE_ROW, .row_bytes = (size_t)n16 * 4};
}

/* One vector: exp2_16(scale*(s - m), 5), added to its sum and rounded. Assembly, so that it takes three registers beside the 29
 * of a tile. */
QVL_INLINE void exp_step(struct pending *e)
{
    struct work *w = e->w;
    const size_t row = e->at / SCORE_ROW;
    __m512 t, n, r;
    __asm__ volatile("vmovups %[s], %[t]\n\t"
                     "vsubps %[m]%{1to16%}, %[t], %[t]\n\t"
                     "vmulps %[scale]%{1to16%}, %[t], %[t]\n\t"
                     "vbroadcastss %[least], %[n]\n\t"
                     "vmaxps %[t], %[n], %[t]\n\t" /* keeps a NaN */
                     "vrndscaleps $8, %[t], %[n]\n\t"
                     "vsubps %[n], %[t], %[t]\n\t"
                     "vbroadcastss %[c5], %[r]\n\t"
                     "vfmadd213ps %[c4]%{1to16%}, %[t], %[r]\n\t"
                     "vfmadd213ps %[c3]%{1to16%}, %[t], %[r]\n\t"
                     "vfmadd213ps %[c2]%{1to16%}, %[t], %[r]\n\t"
                     "vfmadd213ps %[c1]%{1to16%}, %[t], %[r]\n\t"
                     "vfmadd213ps %[c0]%{1to16%}, %[t], %[r]\n\t"
                     "vscalefps %[n], %[r], %[r]\n\t"
                     "vcvtneps2bf16 %[r], %t[t]\n\t"
                     "vmovdqu %t[t], %[p]\n\t"
                     "vaddps %[sum], %[r], %[r]\n\t"
                     "vmovaps %[r], %[sum]"
                     : [t] "=&v"(t), [n] "=&v"(n), [r] "=&v"(r), [p] "=m"(*(__m256i *)(void *)((char *)w->p + e->at / 2)),
                       [sum] "+m"(*(__m512 *)(void *)((char *)w->sum + row * 128 + (e->at & 64)))
                     : [s] "m"(*(const __m512 *)(const void *)((const char *)w->s + e->at)), [m] "m"(w->m[row]),
                       [scale] "m"(w->c[0]), [least] "m"(w->c[1]), [c5] "m"(w->c[2]), [c4] "m"(w->c[3]), [c3] "m"(w->c[4]),
                       [c2] "m"(w->c[5]), [c1] "m"(w->c[6]), [c0] "m"(w->c[7]));
    e->at += 64;
    if (e->at % SCORE_ROW == e->row_bytes) /* the last block may be shorter */
        e->at += SCORE_ROW - e->row_bytes;
}

static void finish(const struct qvl_attn_block *b, struct work *w, struct pending *e, int first, int rows)
{
    while (e->at < e->end)
        exp_step(e);
    for (int i = first; i < first + rows; i++)
        b->l[i] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_load_ps(w->sum[i][0]), _mm512_load_ps(w->sum[i][1])));
}

/* A register tile of 6 x 4 as TILE_FN makes it, with one vector of e in each step. */
static void tile_exp(float *out, int64_t ldo, int add, const uint32_t *a, int64_t arow, const char *w, int64_t wstep, int64_t wvec,
                     int64_t steps, struct pending *pend)
{
    struct pending e = *pend;
    TILE_ROWS6(TILE_ZERO_ROW, TILE_VEC4)
    for (int64_t s = 0; s < steps; s++, a++, w += wstep) {
        TILE_STEP_DP(TILE_ROWS6, TILE_VEC4)
        if (e.at < e.end)
            exp_step(&e);
    }
    if (add) {
        TILE_ROWS6(TILE_ADD_ROW, TILE_VEC4)
    } else {
        TILE_ROWS6(TILE_STORE_ROW, TILE_VEC4)
    }
    *pend = e;
}

/* Scores of 6 rows; e may be NULL. */
static void six_scores(const struct qvl_attn_block *b, struct work *w, int first, struct pending *e)
{
    const int64_t panels = (b->n + 15) / 16, hd = b->head_dim, panel = hd * 32;
    const char *k = b->k;
    float *s = w->s[first];
    const uint32_t *q = w->q[first];
    int64_t p = 0;
    for (; p + 4 <= panels; p += 4, k += 4 * panel, s += 64)
        if (e && e->at < e->end)
            tile_exp(s, QVL_ATTN_BLOCK, 0, q, QVL_HEAD_MAX / 2, k, 64, panel, hd / 2, e);
        else
            dpx4_6(s, QVL_ATTN_BLOCK, 0, q, QVL_HEAD_MAX / 2, 1, k, 64, panel, hd / 2, 0);
    for (; p < panels; p++, k += panel, s += 16)
        dpx1_6(s, QVL_ATTN_BLOCK, 0, q, QVL_HEAD_MAX / 2, 1, k, 64, 0, hd / 2, 0);
}

/* Outputs of 6 rows, part by part as in dp_outputs. */
static void six_outputs(const struct qvl_attn_block *b, struct work *w, int first, struct pending *e)
{
    const int64_t steps = (b->n + 1) / 2, part = QVL_ATTN_PART / 2, dv = b->dv;
    float *o = b->o + first * dv;
    for (int64_t j = 0; j < steps; j += part) {
        const int64_t count = steps - j < part ? steps - j : part;
        const char *v = (const char *)b->v + j * dv * 4;
        const uint32_t *p = w->p[first] + j;
        int64_t d = 0;
        for (; d + 64 <= dv; d += 64)
            if (e && e->at < e->end)
                tile_exp(o + d, dv, j > 0, p, QVL_ATTN_BLOCK / 2, v + d * 4, dv * 4, 64, count, e);
            else
                dpx4_6(o + d, dv, j > 0, p, QVL_ATTN_BLOCK / 2, 1, v + d * 4, dv * 4, 64, count, 0);
        for (; d < dv; d += 16)
            dpx1_6(o + d, dv, j > 0, p, QVL_ATTN_BLOCK / 2, 1, v + d * 4, dv * 4, 0, count, 0);
    }
}

static void full_block(const struct qvl_attn_block *b, struct work *w)
{
    enum { SIX = QVL_ATTN_ROWS / 2 };
    six_scores(b, w, 0, NULL);
    struct pending e = pending(b, w, 0, SIX);
    six_scores(b, w, SIX, &e);
    finish(b, w, &e, 0, SIX);
    e = pending(b, w, SIX, SIX);
    six_outputs(b, w, 0, &e);
    finish(b, w, &e, SIX, SIX);
    six_outputs(b, w, SIX, NULL);
}

static void block_bf16(const struct qvl_attn_block *b)
{
    struct work *w = b->work;
    for (int i = 0; i < b->rows; i++) /* already rounded: cutting is exact */
        for (int64_t j = 0; j < b->head_dim; j += 16) {
            __m512i u = _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes16(b->head_dim - j), b->q + i * QVL_HEAD_MAX + j));
            _mm256_storeu_si256((__m256i *)(void *)(w->q[i] + j / 2), _mm512_cvtepi32_epi16(_mm512_srli_epi32(u, 16)));
        }
    if (b->rows == QVL_ATTN_ROWS) {
        full_block(b, w);
        return;
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
    .block_f32 = block_f32, .block_bf16 = block_bf16, .block_int8 = qvl_attn_int8_avx512_vnni, .store_bf16 = store_bf16,
    .merge = merge};
