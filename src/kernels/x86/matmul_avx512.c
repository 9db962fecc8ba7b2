/* matmul_avx512.c - matrix products in f32 with AVX-512: widened weights, fused multiply-add.
 *
 * gemv: several rows at once share the loads of x, which for 8 tokens of f32 exceeds the first-level cache. One
 * accumulator for each (row, token): the order of the sum is the same for every number of tokens up to QVL_GEMV_MAX. */
#include "kernels/x86/matmul_avx512.h"

#include "kernels/x86/tile_avx512.h"

/* ------------------------------------------------------------------ few tokens */

/* Rows n .. n+R-1 for M tokens. R and M are constants after inlining. */
QVL_INLINE void rows(const struct qvl_gemv *g, int64_t n, int R, int M, enum qvl_dtype type)
{
    const struct qvl_mat *w = g->w;
    const int64_t n_in = w->n_in, size = type == QVL_DT_F32 ? 4 : 2;
    const char *base = (const char *)w->data + n * w->stride * size;
    const float *x = g->x;
    __m512 acc[4][QVL_GEMV_MAX];
    QVL_UNROLL
    for (int r = 0; r < R; r++)
        QVL_UNROLL
        for (int i = 0; i < M; i++)
            acc[r][i] = _mm512_setzero_ps();
    const int64_t ahead = prefetch_distance(R * w->stride * size);
    int64_t k = 0;
    for (; k + 16 <= n_in; k += 16) {
        __m512 wv[4];
        QVL_UNROLL
        for (int r = 0; r < R; r++) {
            const char *p = base + (r * w->stride + k) * size;
            wv[r] = load16_full(p, 0, type);
            _mm_prefetch(p + ahead, _MM_HINT_T0);
        }
        QVL_UNROLL
        for (int i = 0; i < M; i++) {
            __m512 xv = _mm512_loadu_ps(x + i * g->x_stride + k);
            QVL_UNROLL
            for (int r = 0; r < R; r++)
                acc[r][i] = _mm512_fmadd_ps(wv[r], xv, acc[r][i]);
        }
    }
    if (k < n_in) {
        __mmask16 m = lanes16(n_in - k);
        QVL_UNROLL
        for (int r = 0; r < R; r++) {
            __m512 wv = load16(base + (r * w->stride + k) * size, 0, type, m);
            QVL_UNROLL
            for (int i = 0; i < M; i++)
                acc[r][i] = _mm512_fmadd_ps(wv, _mm512_maskz_loadu_ps(m, x + i * g->x_stride + k), acc[r][i]);
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

QVL_INLINE void all_rows(const struct qvl_gemv *g, int M, enum qvl_dtype type)
{
    int64_t n = g->n0;
    if (M > 1 && M <= 4 && M * g->w->n_in * 4 > 49152) /* x outgrows the first-level cache: fewer passes over it */
        for (; n + 4 <= g->n1; n += 4)
            rows(g, n, 4, M, type);
    for (; n + 2 <= g->n1; n += 2)
        rows(g, n, 2, M, type);
    for (; n < g->n1; n++)
        rows(g, n, 1, M, type);
}

#define GEMV_TYPE(name, type)                       \
    static void name(const struct qvl_gemv *g)      \
    {                                               \
        switch (g->m) {                             \
        case 1: all_rows(g, 1, type); break;        \
        case 2: all_rows(g, 2, type); break;        \
        case 3: all_rows(g, 3, type); break;        \
        case 4: all_rows(g, 4, type); break;        \
        case 5: all_rows(g, 5, type); break;        \
        case 6: all_rows(g, 6, type); break;        \
        case 7: all_rows(g, 7, type); break;        \
        default: all_rows(g, 8, type); break;       \
        }                                           \
    }
GEMV_TYPE(gemv_from_f32, QVL_DT_F32)
GEMV_TYPE(gemv_from_f16, QVL_DT_F16)
GEMV_TYPE(gemv_from_bf16, QVL_DT_BF16)

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
        for (int i = 0; i < g->m; i++)
            for (int j = 0; j < STRIP; j += 16)
                _mm512_storeu_ps(acc[i] + j, _mm512_setzero_ps());
        for (int64_t k = 0; k < w->n_in; k += 8) {
            int64_t kn = w->n_in - k < 8 ? w->n_in - k : 8;
            const char *p = (const char *)w->data + (k * w->stride + n) * size;
            for (int i = 0; i < g->m; i++) {
                const float *x = (const float *)g->x + i * g->x_stride + k;
                for (int64_t j = 0; j < cols; j += 16) {
                    __m512 sum = _mm512_setzero_ps();
                    __mmask16 m = lanes16(cols - j);
                    if (i == 0 && j % 32 == 0) /* the next eight stored rows: their strips are not neighbours */
                        QVL_UNROLL
                        for (int u = 8; u < 16; u++)
                            _mm_prefetch(p + (u * w->stride + j) * size, _MM_HINT_T0);
                    if (kn == 8 && m == 0xffff) {
                        QVL_UNROLL
                        for (int u = 0; u < 8; u++) {
                            const char *row = p + (u * w->stride + j) * size;
                            sum = _mm512_fmadd_ps(_mm512_set1_ps(x[u]), load16_full(row, 0, type), sum);
                        }
                    } else {
                        for (int u = 0; u < kn; u++) {
                            const char *row = p + (u * w->stride + j) * size;
                            sum = _mm512_fmadd_ps(_mm512_set1_ps(x[u]), load16(row, 0, type, m), sum);
                        }
                    }
                    _mm512_storeu_ps(acc[i] + j, _mm512_add_ps(_mm512_loadu_ps(acc[i] + j), sum));
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

void qvl_gemv_avx512(const struct qvl_gemv *g)
{
    if (g->w->transposed) {
        switch (g->w->type) {
        case QVL_DT_F32: gemv_transposed(g, QVL_DT_F32); break;
        case QVL_DT_F16: gemv_transposed(g, QVL_DT_F16); break;
        default: gemv_transposed(g, QVL_DT_BF16); break;
        }
        return;
    }
    switch (g->w->type) {
    case QVL_DT_F32: gemv_from_f32(g); break;
    case QVL_DT_F16: gemv_from_f16(g); break;
    default: gemv_from_bf16(g); break;
    }
}

/* ------------------------------------------------------------------ many tokens */

/* Panel of plain rows: 16 x 16 blocks, widened and transposed in registers. */
QVL_INLINE void pack_rows(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb, enum qvl_dtype type)
{
    const int64_t size = type == QVL_DT_F32 ? 4 : 2;
    for (int64_t n = 0; n < QVL_AVX512_NR; n += 16)
        for (int64_t k = 0; k < kb; k += 16) {
            __mmask16 m = lanes16(kb - k);
            __m512i r[16];
            QVL_UNROLL
            for (int i = 0; i < 16; i++) {
                const char *p = (const char *)w->data + ((n0 + n + i) * w->stride + k0 + k) * size;
                r[i] = n0 + n + i < w->n_out ? _mm512_castps_si512(load16(p, 0, type, m)) : _mm512_setzero_si512();
                _mm_prefetch(p + QVL_AVX512_KB * size, _MM_HINT_T1); /* the next block: its rows are far apart */
            }
            transpose16(r);
            float *d = dst + k * QVL_AVX512_NR + n;
            if (m == 0xffff)
                QVL_UNROLL
                for (int i = 0; i < 16; i++)
                    _mm512_storeu_ps(d + i * QVL_AVX512_NR, _mm512_castsi512_ps(r[i]));
            else
                for (int i = 0; i < kb - k; i++)
                    _mm512_storeu_ps(d + i * QVL_AVX512_NR, _mm512_castsi512_ps(r[i]));
        }
}

QVL_INLINE void pack_columns(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb, enum qvl_dtype type)
{
    const int64_t size = type == QVL_DT_F32 ? 4 : 2;
    for (int64_t k = 0; k < kb; k++)
        for (int64_t n = 0; n < QVL_AVX512_NR; n += 16) {
            int64_t left = w->n_out - n0 - n;
            const char *p = (const char *)w->data + ((k0 + k) * w->stride + n0 + n) * size;
            _mm_prefetch(p + QVL_AVX512_KB * w->stride * size, _MM_HINT_T1);
            _mm512_storeu_ps(dst + k * QVL_AVX512_NR + n,
                             left > 0 ? load16(p, 0, type, lanes16(left)) : _mm512_setzero_ps());
        }
}

QVL_INLINE void pack_any(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb, enum qvl_dtype type)
{
    if (w->transposed)
        pack_columns(dst, w, n0, k0, kb, type);
    else
        pack_rows(dst, w, n0, k0, kb, type);
}

void qvl_pack_w_avx512(float *dst, const struct qvl_mat *w, int64_t n0, int64_t k0, int64_t kb)
{
    switch (w->type) {
    case QVL_DT_F32: pack_any(dst, w, n0, k0, kb, QVL_DT_F32); break;
    case QVL_DT_F16: pack_any(dst, w, n0, k0, kb, QVL_DT_F16); break;
    default: pack_any(dst, w, n0, k0, kb, QVL_DT_BF16); break;
    }
}

TILE_FN(tile6x4, float, TILE_ROWS6, TILE_VEC4, TILE_STEP_F32)

void qvl_tile_avx512(float *c, const float *x, const float *w, int64_t kb, int first)
{
    tile6x4(c, QVL_AVX512_NR, !first, x, QVL_AVX512_KB, 1, (const char *)w, QVL_AVX512_NR * 4, 64, kb, 0);
}

void qvl_store_avx512(const struct qvl_store *s)
{
    for (int64_t j = 0; j < s->n; j += 64) {
        __mmask16 m[4];
        __m512 b[4];
        QVL_UNROLL
        for (int v = 0; v < 4; v++) {
            m[v] = s->n > j + 16 * v ? lanes16(s->n - j - 16 * v) : 0;
            b[v] = s->bias ? _mm512_maskz_loadu_ps(m[v], s->bias + j + 16 * v) : _mm512_setzero_ps();
        }
        for (int64_t i = 0; i < s->rows; i++) {
            float *y = s->y + i * s->y_stride + j;
            const float *c = s->c + i * s->c_stride + j;
            QVL_UNROLL
            for (int v = 0; v < 4; v++) {
                __m512 sum = _mm512_maskz_loadu_ps(m[v], c + 16 * v);
                if (s->bias)
                    sum = _mm512_add_ps(sum, b[v]);
                if (s->add)
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(m[v], y + 16 * v), sum);
                _mm512_mask_storeu_ps(y + 16 * v, m[v], sum);
            }
        }
    }
}

const struct qvl_matmul_kernels qvl_matmul_kernels_avx512 = {
    .store = qvl_store_avx512, .gemv = qvl_gemv_avx512, .mr = QVL_AVX512_MR, .nr = QVL_AVX512_NR, .kb = QVL_AVX512_KB,
    .pack_w = qvl_pack_w_avx512, .tile = qvl_tile_avx512,
};
