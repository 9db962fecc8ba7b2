/* matmul_avx512_bf16.c - matrix products of bf16 weights and bf16 activations with dot-product instructions. Everything
 * else at this level is the f32 product of matmul_avx512.c.
 *
 * vdpbf16ps adds two products to each f32 lane. It flushes denormal inputs and sums to zero, below 1.2e-38. */
#include "kernels/x86/matmul_avx512.h"
#include "kernels/x86/tile_avx512_bf16.h"

QVL_INLINE __m512bh load32(const void *p, __mmask32 m) { return (__m512bh)_mm512_maskz_loadu_epi16(m, p); }
QVL_INLINE __mmask32 lanes32(int64_t n) { return n >= 32 ? 0xffffffffu : (1u << n) - 1; }

/* ------------------------------------------------------------------ few tokens */

QVL_INLINE void rows(const struct qvl_gemv *g, int64_t n, int R, int M)
{
    const struct qvl_mat *w = g->w;
    const int64_t n_in = w->n_in;
    const uint16_t *base = (const uint16_t *)w->data + n * w->stride, *x = g->x;
    __m512 acc[4][QVL_GEMV_MAX];
    QVL_UNROLL
    for (int r = 0; r < R; r++)
        QVL_UNROLL
        for (int i = 0; i < M; i++)
            acc[r][i] = _mm512_setzero_ps();
    const int64_t ahead = prefetch_distance(R * w->stride * 2);
    int64_t k = 0;
    for (; k + 32 <= n_in; k += 32) {
        __m512bh wv[4];
        QVL_UNROLL
        for (int r = 0; r < R; r++) {
            const uint16_t *p = base + r * w->stride + k;
            wv[r] = (__m512bh)_mm512_loadu_si512(p);
            _mm_prefetch((const char *)p + ahead, _MM_HINT_T0);
        }
        QVL_UNROLL
        for (int i = 0; i < M; i++) {
            __m512bh xv = (__m512bh)_mm512_loadu_si512(x + i * g->x_stride + k);
            QVL_UNROLL
            for (int r = 0; r < R; r++)
                acc[r][i] = _mm512_dpbf16_ps(acc[r][i], wv[r], xv);
        }
    }
    if (k < n_in) {
        __mmask32 m = lanes32(n_in - k);
        QVL_UNROLL
        for (int r = 0; r < R; r++) {
            __m512bh wv = load32(base + r * w->stride + k, m);
            QVL_UNROLL
            for (int i = 0; i < M; i++)
                acc[r][i] = _mm512_dpbf16_ps(acc[r][i], wv, load32(x + i * g->x_stride + k, m));
        }
    }
    QVL_UNROLL
    for (int r = 0; r < R; r++)
        QVL_UNROLL
        for (int i = 0; i < M; i++) {
            float *y = g->y + i * g->y_stride + n + r, sum = _mm512_reduce_add_ps(acc[r][i]);
            if (g->bias)
                sum += g->bias[n + r];
            *y = g->add ? *y + sum : sum;
        }
}

QVL_INLINE void all_rows(const struct qvl_gemv *g, int M)
{
    int64_t n = g->n0;
    if (M > 1 && M <= 4 && M * g->w->n_in * 2 > 49152) /* x outgrows the first-level cache: fewer passes over it */
        for (; n + 4 <= g->n1; n += 4)
            rows(g, n, 4, M);
    for (; n + 2 <= g->n1; n += 2)
        rows(g, n, 2, M);
    for (; n < g->n1; n++)
        rows(g, n, 1, M);
}

static void gemv_bf16(const struct qvl_gemv *g)
{
    switch (g->m) {
    case 1: all_rows(g, 1); break;
    case 2: all_rows(g, 2); break;
    case 3: all_rows(g, 3); break;
    case 4: all_rows(g, 4); break;
    case 5: all_rows(g, 5); break;
    case 6: all_rows(g, 6); break;
    case 7: all_rows(g, 7); break;
    default: all_rows(g, 8); break;
    }
}

/* ------------------------------------------------------------------ many tokens */

/* Pairs of inner indices are 32-bit elements: 16 rows x 16 pairs are transposed like f32. */
static void pack_rows(uint32_t *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb)
{
    for (int64_t n = 0; n < QVL_AVX512_NR; n += 16)
        for (int64_t k = 0; k < kb; k += 32) {
            __mmask32 m = lanes32(kb - k);
            __m512i r[16];
            QVL_UNROLL
            for (int i = 0; i < 16; i++) {
                const uint16_t *p = (const uint16_t *)w->data + (n0 + n + i) * w->stride + k0 + k;
                r[i] = n0 + n + i < w->n_out ? _mm512_maskz_loadu_epi16(m, p) : _mm512_setzero_si512();
                /* The next block: its rows are far apart. */
                _mm_prefetch((const char *)(p + QVL_AVX512_KB_BF16), _MM_HINT_T1);
            }
            transpose16(r);
            uint32_t *d = dst + k / 2 * QVL_AVX512_NR + n;
            if (m == 0xffffffffu)
                QVL_UNROLL
                for (int i = 0; i < 16; i++)
                    _mm512_storeu_si512(d + i * QVL_AVX512_NR, r[i]);
            else
                for (int i = 0; i < (kb - k + 1) / 2; i++)
                    _mm512_storeu_si512(d + i * QVL_AVX512_NR, r[i]);
        }
}

/* Transposed: two stored rows are interleaved. */
static void pack_columns(uint32_t *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb)
{
    for (int64_t k = 0; k < kb; k += 2)
        for (int64_t n = 0; n < QVL_AVX512_NR; n += 16) {
            int64_t left = w->n_out - n0 - n;
            __mmask16 m = left > 0 ? lanes16(left) : 0;
            const uint16_t *p = (const uint16_t *)w->data + (k0 + k) * w->stride + n0 + n;
            if (n % 32 == 0) {
                _mm_prefetch((const char *)(p + QVL_AVX512_KB_BF16 * w->stride), _MM_HINT_T1);
                _mm_prefetch((const char *)(p + (QVL_AVX512_KB_BF16 + 1) * w->stride), _MM_HINT_T1);
            }
            __m512i lo = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), hi = _mm512_setzero_si512();
            if (k + 1 < kb)
                hi = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p + w->stride));
            _mm512_storeu_si512(dst + k / 2 * QVL_AVX512_NR + n, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
        }
}

static void pack_w_bf16(uint32_t *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb)
{
    if (w->transposed)
        pack_columns(dst, w, n0, k0, kb);
    else
        pack_rows(dst, w, n0, k0, kb);
}

TILE_FN(tile6x4, uint32_t, TILE_ROWS6, TILE_VEC4, TILE_STEP_DP)

static void tile_bf16(float *c, const uint32_t *x, const uint32_t *w, int64_t kp, int first)
{
    tile6x4(c, QVL_AVX512_NR, !first, x, QVL_AVX512_KB_BF16 / 2, 1, (const char *)w, QVL_AVX512_NR * 4, 64, kp, 0);
}

const struct qvl_matmul_kernels qvl_matmul_kernels_avx512_bf16 = {
    .store = qvl_store_avx512, .gemv = qvl_gemv_avx512, .gemv_bf16 = gemv_bf16, .mr = QVL_AVX512_MR, .nr = QVL_AVX512_NR, .kb = QVL_AVX512_KB,
    .kb_bf16 = QVL_AVX512_KB_BF16, .pack_w = qvl_pack_w_avx512, .pack_w_bf16 = pack_w_bf16, .tile = qvl_tile_avx512,
    .tile_bf16 = tile_bf16,
};
