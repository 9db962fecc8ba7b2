/* check_matmul.c - the matrix product of a team against sums in double.
 *
 * Tolerance: relative to sum |x w|, which is what rounding of partial sums scales with. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kcheck.h"

#define TOLERANCE 1e-6 /* of sum |x w|: 32 or more lanes of f32 */
#define FLUSH     1e-33 /* vdpbf16ps treats denormals as zero: 2^-126 times the largest factor here */

struct product {
    int64_t m, n_out, n_in;
    enum qvl_dtype type;
    enum qvl_arith arith;
    int transposed, add, bias, wild;
    int64_t extra;
    size_t shift;
};

struct run {
    const struct qvl_kernels *k;
    enum qvl_arith a;
    const struct qvl_matmul *op;
    const struct qvl_scratch *s;
};

static void run_team(void *ud, const struct qvl_team *t)
{
    const struct run *r = ud;
    qvl_matmul(t, r->k, r->a, r->op, r->s);
}

static void multiply(const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op, unsigned threads)
{
    struct qvl_pool *pool;
    qvl_err err;
    struct qvl_scratch s = {.bytes = qvl_matmul_scratch(k, a, op->m, op->w->n_out, op->w->n_in, (int)threads)};
    struct guarded mem = guard_open(s.bytes, 1, 0);
    struct check none = {.k = k};
    s.mem = mem.p;
    if (qvl_pool_open(&pool, threads, &err))
        return;
    struct run r = {.k = k, .a = a, .op = op, .s = &s};
    qvl_pool_run(pool, run_team, &r);
    qvl_pool_close(&pool);
    guard_close(&none, &mem, "scratch");
    if (none.failures)
        *(op->y ? op->y : (float *)op->y_rows->mem) = NAN; /* makes the comparison fail */
}

static void one(struct check *c, const struct product *p)
{
    char what[160];
    snprintf(what, sizeof what,
             "matmul m=%d n_out=%d n_in=%d type=%d arith=%d transposed=%d add=%d bias=%d shift=%d wild=%d", (int)p->m,
             (int)p->n_out, (int)p->n_in, (int)p->type, (int)p->arith, p->transposed, p->add, p->bias, (int)p->shift,
             p->wild);
    int64_t x_stride = p->n_in + p->extra, y_stride = p->n_out + p->extra;
    struct stored w = make_matrix(c, p->n_out, p->n_in, p->type, p->transposed, p->extra, p->shift, p->wild);
    struct guarded x = guard_open((size_t)((p->m - 1) * x_stride + p->n_in), 4, 4),
                   bias = guard_open((size_t)p->n_out, 4, 8);
    size_t y_elems = (size_t)((p->m - 1) * y_stride + p->n_out);
    struct guarded y0 = guard_open(y_elems, 4, 4);
    float *xf = x.p, *yf = y0.p;
    for (int64_t i = 0; i < (p->m - 1) * x_stride + p->n_in; i++)
        xf[i] = NAN; /* between rows */
    for (int64_t i = 0; i < p->m; i++) {
        if (p->wild)
            fill_wild(c, xf + i * x_stride, p->n_in, 1e4f);
        else
            fill_normal(c, xf + i * x_stride, p->n_in, 1);
    }
    fill_normal(c, bias.p, p->n_out, 3);
    fill_normal(c, yf, (int64_t)y_elems, 5);

    struct qvl_matmul op = {.x = xf, .w = &w.mat, .bias = p->bias ? bias.p : NULL, .m = p->m, .y_stride = y_stride,
                            .x_stride = x_stride, .add = p->add};
    float *first = NULL;
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct guarded y = guard_open(y_elems, 4, 4);
        memcpy(y.p, yf, y_elems * 4);
        op.y = y.p;
        multiply(c->k, p->arith, &op, threads);
        if (threads == 1) {
            first = qvl_alloc(y_elems, 4);
            memcpy(first, y.p, y_elems * 4);
        } else {
            expect(c, !memcmp(first, y.p, y_elems * 4), "%s: %u threads give other bytes than one", what, threads);
        }
        guard_close(c, &y, what);
    }
    long bad = 0;
    double worst = 0, err2 = 0, norm2 = 0;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t n = 0; n < p->n_out; n++) {
            double sum = 0, mag = 0, old = yf[i * y_stride + n];
            for (int64_t k = 0; k < p->n_in; k++) {
                double xv = xf[i * x_stride + k];
                if (p->arith == QVL_ARITH_BF16)
                    xv = round_to_bf16(xv);
                sum += xv * w.value[n * p->n_in + k];
                mag += fabs(xv * w.value[n * p->n_in + k]);
            }
            if (p->bias)
                sum += ((float *)bias.p)[n], mag += fabs(((float *)bias.p)[n]);
            if (p->add)
                sum += old, mag += fabs(old);
            double d = fabs(first[i * y_stride + n] - sum);
            bad += !(d <= TOLERANCE * mag + FLUSH);
            worst = d / mag > worst ? d / mag : worst;
            err2 += d * d;
            norm2 += sum * sum;
        }
    expect(c, bad == 0, "%s: %ld elements differ, worst %.3g of sum |x w|", what, bad, worst);
    if (!p->wild)
        expect(c, sqrt(err2) <= 1e-6 * sqrt(norm2), "%s: relative L2 error %.3g", what, sqrt(err2 / norm2));
    long touched = 0;
    for (int64_t i = 0; i + 1 < p->m; i++)
        touched +=
            memcmp(first + i * y_stride + p->n_out, yf + i * y_stride + p->n_out, (size_t)(y_stride - p->n_out) * 4) != 0;
    expect(c, touched == 0, "%s: wrote between rows of y", what);
    qvl_mem_free(first);
    guard_close(c, &x, what);
    guard_close(c, &bias, what);
    guard_close(c, &y0, what);
    free_matrix(c, &w);
}

/* A non-finite weight or activation changes the outputs it belongs to, and no other. */
static void non_finite(struct check *c, enum qvl_dtype type, enum qvl_arith arith, int64_t m, int transposed)
{
    enum { OUT = 70, IN = 45 };
    static const float specials[] = {NAN, INFINITY, -INFINITY};
    struct stored w = make_matrix(c, OUT, IN, type, transposed, 0, 0, 0);
    float *x = qvl_alloc((size_t)m * IN, 4), *y = qvl_alloc((size_t)m * OUT, 4);
    for (size_t s = 0; s < QVL_COUNT(specials); s++) {
        int64_t row = next_int(c, 0, OUT - 1), col = next_int(c, 0, IN - 1), token = next_int(c, 0, m - 1);
        int64_t at = transposed ? col * OUT + row : row * IN + col;
        char *p = (char *)w.mem.p + at * (type == QVL_DT_F32 ? 4 : 2), old[4];
        uint16_t h = type == QVL_DT_F16 ? bits_f16(specials[s]) : qvl_f32_to_bf16(specials[s]);
        size_t size = type == QVL_DT_F32 ? 4 : 2;
        memcpy(old, p, size);
        memcpy(p, size == 4 ? (const void *)&specials[s] : (const void *)&h, size);
        for (int64_t i = 0; i < m * IN; i++)
            x[i] = 0.5f + (float)next_uniform(c); /* no zero: infinity times it stays infinite */
        x[token * IN + (col + 1) % IN] = specials[s];
        struct qvl_matmul op = {.y = y, .x = x, .w = &w.mat, .m = m, .y_stride = OUT, .x_stride = IN};
        multiply(c->k, arith, &op, 2);
        long wrong = 0;
        for (int64_t i = 0; i < m; i++)
            for (int64_t n = 0; n < OUT; n++) {
                int must = i == token || n == row;
                wrong += must ? isfinite(y[i * OUT + n]) : !isfinite(y[i * OUT + n]);
                if (n == row && i != token)
                    wrong += isnan(specials[s]) ? !isnan(y[i * OUT + n]) : y[i * OUT + n] != specials[s];
            }
        expect(c, wrong == 0, "matmul type=%d arith=%d m=%d transposed=%d: %ld outputs wrong with a weight of %g", (int)type,
               (int)arith, (int)m, transposed, wrong, (double)specials[s]);
        memcpy(p, old, size);
    }
    qvl_mem_free(x);
    qvl_mem_free(y);
    free_matrix(c, &w);
}

/* Rows of one product equal those of a longer one, byte for byte: all m up to 8 share one order of sums, all m above share
 * another. */
static void same_rows(struct check *c, enum qvl_dtype type, enum qvl_arith arith, int64_t m_long, int64_t m_short)
{
    enum { OUT = 83, IN = 700 };
    struct stored w = make_matrix(c, OUT, IN, type, 0, 0, 2, 0);
    float *x = qvl_alloc((size_t)m_long * IN, 4), *y = qvl_alloc((size_t)m_long * OUT, 4),
          *z = qvl_alloc((size_t)m_long * OUT, 4);
    fill_normal(c, x, m_long * IN, 1);
    struct qvl_matmul op = {.y = y, .x = x, .w = &w.mat, .m = m_long, .y_stride = OUT, .x_stride = IN};
    multiply(c->k, arith, &op, 2);
    op.m = m_short;
    op.y = z;
    multiply(c->k, arith, &op, 1);
    expect(c, !memcmp(y, z, (size_t)(m_short * OUT) * 4), "matmul type=%d arith=%d: rows of m=%d and m=%d differ", (int)type,
           (int)arith, (int)m_long, (int)m_short);
    qvl_mem_free(x);
    qvl_mem_free(y);
    qvl_mem_free(z);
    free_matrix(c, &w);
}

/* Two layers with an activation between them: in one go, through rows in the form of the second product, they have the bytes
 * of the three steps. */
static void two_layers(struct check *c, enum qvl_dtype type, enum qvl_arith arith, int64_t m, int64_t n_mid, enum qvl_then then)
{
    enum { IN = 75, OUT = 70 };
    struct stored w1 = make_matrix(c, n_mid, IN, type, 0, 0, 0, 0), w2 = make_matrix(c, OUT, n_mid, type, 0, 0, 0, 0);
    float *x = qvl_alloc((size_t)m * IN, 4), *mid = qvl_alloc((size_t)(m * n_mid), 4), *y = qvl_alloc((size_t)m * OUT, 4),
          *z = qvl_alloc((size_t)m * OUT, 4), bias[1000];
    struct guarded mem = guard_open(qvl_rows_bytes(c->k, arith, type, m, n_mid), 1, 0);
    fill_normal(c, x, m * IN, 1);
    fill_normal(c, bias, n_mid, 1);
    fill_normal(c, y, m * OUT, 1);
    memcpy(z, y, (size_t)m * OUT * 4);
    struct qvl_rows rows = qvl_rows_view(c->k, arith, type, m, n_mid, mem.p);
    struct qvl_matmul first = {.y = mid, .x = x, .w = &w1.mat, .bias = bias, .m = m, .y_stride = n_mid, .x_stride = IN},
                      second = {.y = y, .x = mid, .w = &w2.mat, .m = m, .y_stride = OUT, .x_stride = n_mid, .add = 1};
    multiply(c->k, arith, &first, 2);
    if (then == QVL_THEN_GELU_TANH)
        c->k->gelu_tanh(mid, m * n_mid);
    if (then == QVL_THEN_GELU_ERF)
        c->k->gelu_erf(mid, m * n_mid);
    multiply(c->k, arith, &second, 2);
    struct guarded in_mem = guard_open(qvl_rows_bytes(c->k, arith, type, m, IN), 1, 0);
    struct qvl_rows in = qvl_rows_view(c->k, arith, type, m, IN, in_mem.p);
    for (int64_t i = m - 1; i >= 0; i--)
        qvl_rows_put(&in, c->k, i, x + i * IN);
    first.then = then;
    first.x = NULL;
    first.x_rows = &in;
    first.y_rows = &rows;
    second.x_rows = &rows;
    second.x = NULL;
    second.y = z;
    multiply(c->k, arith, &first, 3);
    multiply(c->k, arith, &second, 3);
    expect(c, !memcmp(y, z, (size_t)m * OUT * 4), "two layers type=%d arith=%d m=%d n_mid=%d then=%d: other bytes than step by step",
           (int)type, (int)arith, (int)m, (int)n_mid, (int)then);
    float *direct = qvl_alloc((size_t)(m * n_mid), 4);
    first.y_rows = NULL;
    first.y = direct;
    multiply(c->k, arith, &first, 2);
    expect(c, !memcmp(direct, mid, (size_t)(m * n_mid) * 4), "matmul m=%d then=%d: other bytes than one after the other", (int)m,
           (int)then);
    guard_close(c, &mem, "rows");
    guard_close(c, &in_mem, "rows");
    qvl_mem_free(direct);
    qvl_mem_free(x);
    qvl_mem_free(mid);
    qvl_mem_free(y);
    qvl_mem_free(z);
    free_matrix(c, &w1);
    free_matrix(c, &w2);
}

void check_matmul(struct check *c)
{
    static const int64_t ms[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 50};
    static const int64_t shapes[][2] = {{1, 1},    {3, 7},    {16, 16},  {17, 33},   {64, 128},
                                        {65, 257}, {130, 64}, {31, 300}, {200, 1030}};
    static const enum qvl_dtype types[] = {QVL_DT_F32, QVL_DT_F16, QVL_DT_BF16};
    for (size_t t = 0; t < 3; t++)
        for (int a = 0; a < 2; a++)
            for (size_t i = 0; i < QVL_COUNT(ms); i++) {
                for (size_t s = 0; s < QVL_COUNT(shapes); s++) {
                    /* Each combination of the flags comes by for each type, arithmetic and m. */
                    struct product p = {.m = ms[i], .n_out = shapes[s][0], .n_in = shapes[s][1], .type = types[t],
                                        .arith = (enum qvl_arith)a, .transposed = (int)(s + i) & 1, .add = (int)(s >> 1) & 1,
                                        .bias = (int)((s >> 2) + i) & 1, .wild = s % 3 == 2, .extra = (int64_t)(s % 4) * 3,
                                        .shift = (s % 5) * (types[t] == QVL_DT_F32 ? 4 : 2)};
                    one(c, &p);
                    p.transposed = !p.transposed;
                    p.shift = 1; /* mapped tensors may start at odd addresses */
                    one(c, &p);
                }
                non_finite(c, types[t], (enum qvl_arith)a, ms[i], 0);
                non_finite(c, types[t], (enum qvl_arith)a, ms[i], 1);
            }
    for (size_t t = 0; t < 3; t++)
        for (int a = 0; a < 2; a++) {
            for (int64_t m = 1; m < 8; m++)
                same_rows(c, types[t], (enum qvl_arith)a, 8, m);
            same_rows(c, types[t], (enum qvl_arith)a, 700, 9);
            same_rows(c, types[t], (enum qvl_arith)a, 31, 20);
        }
    for (int a = 0; a < 2; a++)
        for (size_t t = 0; t < 3; t++) {
            two_layers(c, types[t], (enum qvl_arith)a, 50, 129, QVL_THEN_GELU_TANH);
            two_layers(c, types[t], (enum qvl_arith)a, 12, 300, QVL_THEN_GELU_ERF);
            two_layers(c, types[t], (enum qvl_arith)a, 5, 65, QVL_THEN_GELU_TANH);
            two_layers(c, types[t], (enum qvl_arith)a, 1700, 64, QVL_THEN_NOTHING);
        }
    /* More tokens than are packed at once, and a long inner dimension. */
    struct product p = {.m = 2100, .n_out = 70, .n_in = 40, .type = QVL_DT_BF16, .arith = QVL_ARITH_BF16, .bias = 1};
    one(c, &p);
    p = (struct product){.m = 10, .n_out = 20, .n_in = 25601, .type = QVL_DT_BF16, .arith = QVL_ARITH_F32, .shift = 2};
    one(c, &p);
    p.m = 3;
    p.arith = QVL_ARITH_BF16;
    one(c, &p);
}
