/* matmul_avx2.c - matrix products in f32 with AVX2 and FMA: widened weights.
 *
 * gemv: two accumulators for each (row, token), over alternating vectors of 8 inner indices, up to 4 tokens at once (16
 * registers); more tokens pass over the row again while it is in the first-level cache. The order of the sum is the same
 * for every number of tokens up to QVL_GEMV_MAX. */
#include "kernels/pack.h"
#include "kernels/x86/tile_avx2.h"

#define MR       6
#define NR       16
#define KB       256  /* a panel of 16 x 256 f32 takes half of a 32 KiB first-level cache */
#define PREFETCH 4096 /* bytes ahead: the hardware stops at 4 KiB pages */

/* ------------------------------------------------------------------ few tokens */

/* Row n for tokens i0 .. i0+M-1; M is constant after inlining. */
QVL_INLINE void row(const struct qvl_gemv *g, int64_t n, int i0, int M, enum qvl_dtype type)
{
    const struct qvl_mat *w = g->w;
    const int64_t n_in = w->n_in, size = type == QVL_DT_F32 ? 4 : 2;
    const char *base = (const char *)w->data + n * w->stride * size;
    const float *x = (const float *)g->x + i0 * g->x_stride;
    __m256 acc[2][4];
    QVL_UNROLL
    for (int i = 0; i < M; i++)
        acc[0][i] = acc[1][i] = _mm256_setzero_ps();
    int64_t k = 0;
    for (; k + 32 <= n_in; k += 32) {
        _mm_prefetch(base + k * size + PREFETCH, _MM_HINT_T0);
        if (type == QVL_DT_F32)
            _mm_prefetch(base + k * size + PREFETCH + 64, _MM_HINT_T0);
        QVL_UNROLL
        for (int h = 0; h < 4; h++) {
            __m256 wv = load8(base + (k + 8 * h) * size, type);
            QVL_UNROLL
            for (int i = 0; i < M; i++)
                acc[h % 2][i] = _mm256_fmadd_ps(wv, _mm256_loadu_ps(x + i * g->x_stride + k + 8 * h), acc[h % 2][i]);
        }
    }
    if (k < n_in) /* what is missing to 32 counts as zero */
        QVL_UNROLL
        for (int h = 0; h < 4; h++) {
            int64_t at = k + 8 * h < n_in ? k + 8 * h : n_in;
            __m256 wv = load8_n(base + at * size, n_in - at, type);
            QVL_UNROLL
            for (int i = 0; i < M; i++)
                acc[h % 2][i] = _mm256_fmadd_ps(wv, load8_n(x + i * g->x_stride + at, n_in - at, QVL_DT_F32), acc[h % 2][i]);
        }
    QVL_UNROLL
    for (int i = 0; i < M; i++) {
        float *y = g->y + (i0 + i) * g->y_stride + n, sum = sum8(_mm256_add_ps(acc[0][i], acc[1][i]));
        if (g->bias)
            sum += g->bias[n];
        *y = g->add ? *y + sum : sum;
    }
}

QVL_INLINE void gemv_rows(const struct qvl_gemv *g, enum qvl_dtype type)
{
    for (int64_t n = g->n0; n < g->n1; n++)
        for (int i = 0; i < g->m; i += 4)
            switch (g->m - i) {
            case 1: row(g, n, i, 1, type); break;
            case 2: row(g, n, i, 2, type); break;
            case 3: row(g, n, i, 3, type); break;
            default: row(g, n, i, 4, type); break;
            }
}

/* Transposed weights: for a strip of columns, add x[k] * w[k][strip]. Eight inner indices are summed from zero before
 * they are added to the strip, which shortens the chain of roundings and the traffic to the strip. */
#define STRIP 256
QVL_INLINE void gemv_transposed(const struct qvl_gemv *g, enum qvl_dtype type)
{
    const struct qvl_mat *w = g->w;
    const int64_t size = type == QVL_DT_F32 ? 4 : 2;
    float acc[QVL_GEMV_MAX][STRIP];
    for (int64_t n = g->n0; n < g->n1; n += STRIP) {
        int64_t cols = g->n1 - n < STRIP ? g->n1 - n : STRIP;
        memset(acc, 0, sizeof acc);
        for (int64_t k = 0; k < w->n_in; k += 8) {
            int64_t kn = w->n_in - k < 8 ? w->n_in - k : 8;
            const char *p = (const char *)w->data + (k * w->stride + n) * size;
            for (int i = 0; i < g->m; i++) {
                const float *x = (const float *)g->x + i * g->x_stride + k;
                for (int64_t j = 0; j < cols; j += 8) {
                    __m256 sum = _mm256_setzero_ps();
                    if (kn == 8 && cols - j >= 8) {
                        QVL_UNROLL
                        for (int u = 0; u < 8; u++) {
                            const char *row = p + (u * w->stride + j) * size;
                            sum = _mm256_fmadd_ps(_mm256_set1_ps(x[u]), load8(row, type), sum);
                        }
                    } else {
                        for (int u = 0; u < kn; u++) {
                            const char *row = p + (u * w->stride + j) * size;
                            sum = _mm256_fmadd_ps(_mm256_set1_ps(x[u]), load8_n(row, cols - j, type), sum);
                        }
                    }
                    _mm256_storeu_ps(acc[i] + j, _mm256_add_ps(_mm256_loadu_ps(acc[i] + j), sum));
                }
            }
        }
        for (int i = 0; i < g->m; i++) {
            float *y = g->y + i * g->y_stride + n;
            for (int64_t j = 0; j < cols; j++) {
                float sum = acc[i][j] + (g->bias ? g->bias[n + j] : 0.0f);
                y[j] = g->add ? y[j] + sum : sum;
            }
        }
    }
}

QVL_INLINE void gemv_any(const struct qvl_gemv *g, enum qvl_dtype type)
{
    if (g->w->transposed)
        gemv_transposed(g, type);
    else
        gemv_rows(g, type);
}

static void gemv(const struct qvl_gemv *g)
{
    switch (g->w->type) {
    case QVL_DT_F32: gemv_any(g, QVL_DT_F32); break;
    case QVL_DT_F16: gemv_any(g, QVL_DT_F16); break;
    default: gemv_any(g, QVL_DT_BF16); break;
    }
}

/* ------------------------------------------------------------------ many tokens */

/* Panel of plain rows: 8 x 8 blocks, widened and transposed in registers. */
QVL_INLINE void pack_rows(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb, enum qvl_dtype type)
{
    const int64_t size = type == QVL_DT_F32 ? 4 : 2;
    for (int64_t n = 0; n < NR; n += 8)
        for (int64_t k = 0; k < kb; k += 8) {
            int64_t left = kb - k < 8 ? kb - k : 8;
            __m256 r[8];
            QVL_UNROLL
            for (int i = 0; i < 8; i++) {
                const char *p = (const char *)w->data + ((n0 + n + i) * w->stride + k0 + k) * size;
                r[i] = n0 + n + i < w->n_out ? load8_n(p, left, type) : _mm256_setzero_ps();
                if (k % 16 == 0)
                    _mm_prefetch(p + KB * size, _MM_HINT_T1); /* the next block: its rows are far apart */
            }
            transpose8(r);
            float *d = dst + k * NR + n;
            if (left == 8)
                QVL_UNROLL
                for (int i = 0; i < 8; i++)
                    _mm256_storeu_ps(d + i * NR, r[i]);
            else
                for (int i = 0; i < left; i++)
                    _mm256_storeu_ps(d + i * NR, r[i]);
        }
}

QVL_INLINE void pack_columns(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb, enum qvl_dtype type)
{
    const int64_t size = type == QVL_DT_F32 ? 4 : 2;
    for (int64_t k = 0; k < kb; k++)
        for (int64_t n = 0; n < NR; n += 8) {
            int64_t left = w->n_out - n0 - n;
            const char *p = (const char *)w->data + ((k0 + k) * w->stride + n0 + n) * size;
            _mm256_storeu_ps(dst + k * NR + n, left > 0 ? load8_n(p, left, type) : _mm256_setzero_ps());
        }
}

QVL_INLINE void pack_any(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb, enum qvl_dtype type)
{
    if (w->transposed)
        pack_columns(dst, w, n0, k0, kb, type);
    else
        pack_rows(dst, w, n0, k0, kb, type);
}

static void pack_w(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb)
{
    switch (w->type) {
    case QVL_DT_F32: pack_any(dst, w, n0, k0, kb, QVL_DT_F32); break;
    case QVL_DT_F16: pack_any(dst, w, n0, k0, kb, QVL_DT_F16); break;
    default: pack_any(dst, w, n0, k0, kb, QVL_DT_BF16); break;
    }
}

TILE_FN(tile6, TILE_ROWS6, TILE_STEP_F32)

static void tile(float *c, const float *x, const float *w, int64_t kb, int first)
{
    tile6(c, NR, !first, x, KB, 1, (const char *)w, NR * 4, kb);
}

static void store(const struct qvl_store *s)
{
    for (int64_t i = 0; i < s->rows; i++) {
        float *y = s->y + i * s->y_stride;
        const float *c = s->c + i * s->c_stride;
        int64_t j = 0;
        for (; j + 8 <= s->n; j += 8) {
            __m256 sum = _mm256_loadu_ps(c + j);
            if (s->bias)
                sum = _mm256_add_ps(sum, _mm256_loadu_ps(s->bias + j));
            _mm256_storeu_ps(y + j, s->add ? _mm256_add_ps(_mm256_loadu_ps(y + j), sum) : sum);
        }
        for (; j < s->n; j++) {
            float sum = s->bias ? c[j] + s->bias[j] : c[j];
            y[j] = s->add ? y[j] + sum : sum;
        }
    }
}

const struct qvl_matmul_kernels qvl_matmul_kernels_avx2 = {
    .store = store, .gemv = gemv, .mr = MR, .nr = NR, .kb = KB, .pack_w = pack_w, .tile = tile};
