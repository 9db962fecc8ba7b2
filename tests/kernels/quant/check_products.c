/* check_products.c - products of packed weights: every m, odd sizes, strides, bias, team sizes, extremes; bits must be
 * equal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "qcheck.h"

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "qcheck: out of memory\n");
        exit(1);
    }
    return p;
}

/* What the weights and the activations of a case are. */
enum content { RANDOM, SATURATED, SIGNS, BAD };

enum { KINDS = 3 };
static const char *const kind_name[KINDS] = {"q4", "q8", "q4m"};
static const enum qvl_dtype kind_type[KINDS] = {QVL_DT_Q4, QVL_DT_Q8, QVL_DT_Q4M};

struct product {
    int64_t m, n_out, n_in, x_stride, y_stride;
    int kind, add, bias;
    enum content content;
};

static void fill_weights(struct qcheck *c, void *packed, const struct product *p)
{
    memset(packed, 0, stored_bytes(p->kind, p->n_out, p->n_in));
    int64_t rows = (p->n_out + 15) / 16 * 16, cols = (p->n_in + 63) / 64 * 64;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k++) {
            int inside = r < p->n_out && k < p->n_in, top = p->kind == 1 ? 255 : 15, u = (int)next_int(c, p->kind == 1, top);
            if (p->content == SATURATED)
                u = r % 2 ? top : 0; /* 0 in q8 is -128, which packing never makes but a file may hold */
            else if (p->content == SIGNS)
                u = (r + k) % 2 ? top : p->kind == 1;
            set_code(packed, p->kind, p->n_in, r, k, inside ? u : code_offset(p->kind));
            if (k % 32)
                continue;
            uint16_t s = qvl_f32_to_f16(0.02f * next_normal(c));
            if (p->content == SATURATED)
                s = 0x3c00;
            if (p->content == BAD && r % 5 == 2 && k == 0)
                s = 0x7e00;
            set_scale(packed, p->kind, p->n_in, r, k, inside ? s : 0);
            if (p->kind == 2) {
                uint16_t m = qvl_f32_to_f16(p->content == SATURATED ? -60000.0f : 0.1f * next_normal(c));
                set_min(packed, p->n_in, r, k, inside ? p->content == BAD && r % 7 == 3 && k == 32 ? 0xfc00 : m : 0);
            }
        }
}

static float activation(struct qcheck *c, const struct product *p, int64_t token, int64_t k)
{
    switch (p->content) {
    case SATURATED: return token % 2 ? -3.0f : 3.0f;
    case SIGNS: return k % 2 ? -2.0f : 2.0f;
    case BAD:
        if (token % 4 == 1)
            return k == p->n_in / 2 ? (token % 8 == 1 ? NAN : -INFINITY) : next_normal(c);
        if (token % 4 == 2)
            return 1e-38f * next_normal(c);
        if (token % 4 == 3)
            return k == 0 ? 3.4e38f : next_normal(c);
        return k < 256 ? 0 : 1e-25f * next_normal(c);
    default: return next_normal(c) * (token % 3 == 1 && k % 97 == 5 ? 100.0f : 1.0f); /* outlier channels */
    }
}

struct call {
    struct qvl_matmul op;
    struct qvl_scratch scratch;
    const struct qvl_kernels *k;
};

static void run_quant(void *ud, const struct qvl_team *t)
{
    const struct call *call = ud;
    qvl_quant_matmul(t, call->k->quant, &(struct qvl_quant_set){.op = &call->op, .n = 1}, &call->scratch);
}

/* The way that callers take: the kind is that of the matrix, the arithmetic does not matter. */
static void run_f32(void *ud, const struct qvl_team *t)
{
    const struct call *call = ud;
    qvl_matmul(t, call->k, QVL_ARITH_F32, &call->op, &call->scratch);
}

static void run_bf16(void *ud, const struct qvl_team *t)
{
    const struct call *call = ud;
    qvl_matmul(t, call->k, QVL_ARITH_BF16, &call->op, &call->scratch);
}

static void check_product(struct qcheck *c, const struct product *p)
{
    char what[160];
    snprintf(what, sizeof what, "%s %dx%d m=%d%s%s, content %d", kind_name[p->kind], (int)p->n_out, (int)p->n_in,
             (int)p->m, p->add ? " add" : "", p->bias ? " bias" : "", (int)p->content);
    const int64_t n_block = (p->n_in + 255) / 256;
    struct guarded w = guard_open(stored_bytes(p->kind, p->n_out, p->n_in), (size_t)next_int(c, 0, 5));
    struct guarded x = guard_open((size_t)((p->m - 1) * p->x_stride + p->n_in) * 4, 0);
    const size_t y_elems = (size_t)((p->m - 1) * p->y_stride + p->n_out);
    float *before = must(qvl_calloc(y_elems, 4)), *want = must(qvl_calloc(y_elems, 4)),
          *bias = must(qvl_calloc((size_t)p->n_out, 4));
    int8_t *q = must(qvl_calloc((size_t)p->n_in, 1));
    float *scale = must(qvl_calloc((size_t)n_block, 4));
    fill_weights(c, w.p, p);
    for (int64_t i = 0; i < p->n_out; i++)
        bias[i] = next_normal(c);
    for (size_t i = 0; i < y_elems; i++)
        before[i] = want[i] = next_normal(c);
    for (size_t i = 0; i < x.bytes / 4; i++)
        ((float *)x.p)[i] = NAN; /* between rows: must never be used */
    for (int64_t t = 0; t < p->m; t++) {
        float *row = (float *)x.p + t * p->x_stride;
        for (int64_t k = 0; k < p->n_in; k++)
            row[k] = activation(c, p, t, k);
        expected_row(q, scale, row, p->n_in);
        for (int64_t n = 0; n < p->n_out; n++) {
            float v = expected_sum(w.p, p->kind, p->n_in, n, q, scale), *y = want + t * p->y_stride + n;
            v = p->bias ? v + bias[n] : v;
            *y = p->add ? *y + v : v;
            if (p->kind == 2)
                *y += expected_minima(w.p, p->n_in, n, q, scale);
        }
    }
    for (int team = 0; team < 3; team++) {
        static const qvl_team_fn run[] = {run_quant, run_f32, run_bf16};
        const size_t need = team == 0
                                ? qvl_quant_scratch(c->q, p->m, p->n_in, team + 1)
                                : qvl_matmul_scratch(c->k, (enum qvl_arith)(team - 1), p->m, p->n_out, p->n_in, team + 1);
        struct guarded y = guard_open(y_elems * 4, 0), scratch = guard_open(need, 0);
        struct qvl_mat mat = {.data = w.p, .type = kind_type[p->kind], .n_out = p->n_out, .n_in = p->n_in};
        struct call call = {.k = c->k, .scratch = {.mem = scratch.p, .bytes = need}};
        call.op = (struct qvl_matmul){.y = y.p,
                                      .x = x.p,
                                      .w = &mat,
                                      .bias = p->bias ? bias : NULL,
                                      .m = p->m,
                                      .y_stride = p->y_stride,
                                      .x_stride = p->x_stride,
                                      .add = p->add};
        memcpy(y.p, before, y_elems * 4);
        qvl_pool_run(c->pool[team], run[team], &call);
        size_t bad = 0, first = 0;
        for (size_t i = 0; i < y_elems; i++)
            if (!same_float(((float *)y.p)[i], want[i]) && !bad++)
                first = i;
        expect(c, bad == 0, "%s, team of %d: %zu of %zu differ, first [%zu][%zu]: found %.9g, expected %.9g", what, team + 1,
               bad, y_elems, first / (size_t)p->y_stride, first % (size_t)p->y_stride, (double)((float *)y.p)[first],
               (double)want[first]);
        guard_close(c, &y, what);
        guard_close(c, &scratch, what);
    }
    guard_close(c, &w, what);
    guard_close(c, &x, what);
    qvl_mem_free(before);
    qvl_mem_free(want);
    qvl_mem_free(bias);
    qvl_mem_free(q);
    qvl_mem_free(scale);
}

/* Activations alone: bytes, scales and sums of a row. */
static void check_rows(struct qcheck *c)
{
    for (int64_t n_in = 1; n_in < 600; n_in += next_int(c, 1, 9))
        for (int content = 0; content < 4; content++) {
            const struct product p = {.n_in = n_in, .content = (enum content)content};
            const int64_t n_pad = (n_in + 63) / 64 * 64, n_block = (n_in + 255) / 256;
            struct guarded q = guard_open((size_t)n_pad, 0), scale = guard_open((size_t)n_block * 4, 0);
            struct guarded sum = guard_open((size_t)n_pad / 32 * 4, 0), x = guard_open((size_t)n_in * 4, 4);
            int8_t want[640] = {0};
            float want_scale[3];
            for (int64_t k = 0; k < n_in; k++)
                ((float *)x.p)[k] = activation(c, &p, next_int(c, 0, 7), k);
            c->q->quantise(q.p, scale.p, sum.p, x.p, n_in);
            expected_row(want, want_scale, x.p, n_in);
            int bad = memcmp(q.p, want, (size_t)n_pad) != 0;
            for (int64_t b = 0; b < n_block; b++)
                bad += !same_float(((float *)scale.p)[b], want_scale[b]);
            for (int64_t g = 0; g < n_pad / 32; g++) {
                int32_t s = 0;
                for (int i = 0; i < 32; i++)
                    s += want[g * 32 + i];
                bad += ((int32_t *)sum.p)[g] != s;
            }
            expect(c, bad == 0, "activations of %d inputs, content %d: bytes, scales or sums differ", (int)n_in, content);
            guard_close(c, &q, "activations");
            guard_close(c, &scale, "activations");
            guard_close(c, &sum, "activations");
            guard_close(c, &x, "activations");
        }
}

/* Against arithmetic in double on the values that bytes and scales stand for. */
static void check_accuracy(struct qcheck *c)
{
    enum { N_OUT = 32, N_IN = 1100 };
    for (int kind = 0; kind < KINDS; kind++) {
        const struct product p = {.n_out = N_OUT, .n_in = N_IN, .kind = kind};
        struct guarded w = guard_open(stored_bytes(kind, N_OUT, N_IN), 0);
        float x[N_IN], scale[5];
        int8_t q[N_IN];
        fill_weights(c, w.p, &p);
        for (int k = 0; k < N_IN; k++)
            x[k] = next_normal(c);
        expected_row(q, scale, x, N_IN);
        for (int n = 0; n < N_OUT; n++) {
            double sum = 0, size = 0, exact = 0;
            for (int k = 0; k < N_IN; k++) {
                double weight = half_value(stored_scale(w.p, kind, N_IN, n, k)) *
                                (stored_code(w.p, kind, N_IN, n, k) - code_offset(kind));
                if (kind == 2)
                    weight += half_value(stored_min(w.p, N_IN, n, k));
                sum += weight * scale[k / 256] * q[k];
                exact += weight * x[k];
                size += weight * weight;
            }
            double got = expected_sum(w.p, kind, N_IN, n, q, scale) +
                         (kind == 2 ? expected_minima(w.p, N_IN, n, q, scale) : 0);
            expect(c, fabs(got - sum) <= 1e-6 * sqrt(size) * 3, "the order of sums loses %g of %g", fabs(got - sum), sum);
            expect(c, fabs(got - exact) <= 0.05 * sqrt(size), "int8 activations are off by %g of %g", fabs(got - exact),
                   sqrt(size));
        }
        guard_close(c, &w, "accuracy");
    }
}

/* ------------------------------------------------------------------ several products at once */

enum { SET = 3 };

struct set_call {
    struct qvl_matmul op[SET];
    struct qvl_scratch scratch;
    const struct qvl_kernels *k;
};

static void run_set(void *ud, const struct qvl_team *t)
{
    const struct set_call *call = ud;
    qvl_matmul_set(t, call->k, QVL_ARITH_BF16, call->op, SET, &call->scratch);
}

static void run_gated(void *ud, const struct qvl_team *t)
{
    const struct set_call *call = ud;
    qvl_matmul_gated(t, call->k, QVL_ARITH_BF16, call->op, &call->scratch);
}

static void run_each(void *ud, const struct qvl_team *t)
{
    const struct set_call *call = ud;
    for (int i = 0; i < SET; i++)
        qvl_matmul(t, call->k, QVL_ARITH_BF16, &call->op[i], &call->scratch);
}

/* Matrices of n_out[0..2] rows: as a set, and the first two (made equally high) gated, against one product after the other.
 * mixed: the last one is of the other kind, so that nothing can be shared. */
static void check_set(struct qcheck *c, int64_t m, const int64_t n_out[SET], int64_t n_in, int kind, int mixed)
{
    char what[160];
    struct guarded w[SET], y[2][SET], x = guard_open((size_t)(m * n_in) * 4, 0);
    struct qvl_mat mat[SET];
    snprintf(what, sizeof what, "%s set of %d, %d, %d rows of %d, m=%d%s", kind_name[kind], (int)n_out[0], (int)n_out[1],
             (int)n_out[2], (int)n_in, (int)m, mixed ? ", mixed" : "");
    for (int64_t i = 0; i < m * n_in; i++)
        ((float *)x.p)[i] = next_normal(c);
    for (int i = 0; i < SET; i++) {
        const struct product p = {.n_out = n_out[i], .n_in = n_in, .kind = mixed && i == 2 ? (kind + 1) % KINDS : kind};
        w[i] = guard_open(stored_bytes(p.kind, p.n_out, n_in), 0);
        fill_weights(c, w[i].p, &p);
        mat[i] = (struct qvl_mat){.data = w[i].p, .type = kind_type[p.kind], .n_out = p.n_out, .n_in = n_in};
        for (int k = 0; k < 2; k++)
            y[k][i] = guard_open((size_t)(m * n_out[i]) * 4, 0);
    }
    for (int team = 0; team < 3; team++)
        for (int gated = 0; gated < 2 && (!gated || n_out[0] == n_out[1]); gated++) {
            size_t need = 0;
            for (int i = 0; i < SET; i++) {
                size_t n = qvl_matmul_scratch(c->k, QVL_ARITH_BF16, m, n_out[i], n_in, team + 1);
                need = n > need ? n : need;
            }
            struct guarded scratch = guard_open(need, 0);
            struct set_call call = {.k = c->k, .scratch = {.mem = scratch.p, .bytes = need}};
            for (int k = 0; k < 2; k++) {
                for (int i = 0; i < SET; i++) {
                    memset(y[k][i].p, 0xff, y[k][i].bytes); /* NaN */
                    call.op[i] = (struct qvl_matmul){.y = y[k][i].p, .x = x.p, .w = &mat[i], .m = m, .y_stride = n_out[i], .x_stride = n_in};
                }
                qvl_pool_run(c->pool[team], k ? gated ? run_gated : run_set : run_each, &call);
            }
            if (gated)
                c->k->silu_mul(y[0][0].p, y[0][0].p, y[0][1].p, m * n_out[0]);
            for (int i = 0; i < (gated ? 1 : SET); i++)
                expect(c, memcmp(y[0][i].p, y[1][i].p, y[0][i].bytes) == 0, "%s%s, team of %d: result %d differs", what,
                       gated ? ", gated" : "", team + 1, i);
            guard_close(c, &scratch, what);
        }
    for (int i = 0; i < SET; i++) {
        guard_close(c, &w[i], what);
        guard_close(c, &y[0][i], what);
        guard_close(c, &y[1][i], what);
    }
    guard_close(c, &x, what);
}

static void check_sets(struct qcheck *c)
{
    static const int64_t ms[] = {1, 2, 3, 4, 5, 8, 9, 17, 48, 49, 64, 70, 530}, n_ins[] = {64, 100, 515, 288};
    for (size_t i = 0; i < QVL_COUNT(ms); i++)
        for (int kind = 0; kind < KINDS; kind++) {
            const int64_t n_in = n_ins[next_int(c, 0, 3)], rows = next_int(c, 1, 300), other = next_int(c, 1, 90);
            check_set(c, ms[i], (const int64_t[]){next_int(c, 1, 200), 16, other}, n_in, kind, 0);
            check_set(c, ms[i], (const int64_t[]){rows, rows, other}, n_in, kind, 0);
            check_set(c, ms[i], (const int64_t[]){rows, rows, other}, n_in, kind, 1);
        }
}

void check_products(struct qcheck *c)
{
    check_sets(c);
    static const int64_t n_ins[] = {64, 256, 100, 33, 1, 320, 1056};
    static const int64_t n_outs[] = {16, 1, 37, 64, 130, 95};
    check_rows(c);
    check_accuracy(c);
    for (int64_t m = 1; m <= 70; m += m < 20 ? 1 : next_int(c, 1, 9))
        for (int kind = 0; kind < KINDS; kind++)
            for (int i = 0; i < 4; i++) {
                struct product p = {.m = m,
                                    .n_out = n_outs[next_int(c, 0, 5)],
                                    .n_in = n_ins[next_int(c, 0, 6)],
                                    .kind = kind,
                                    .add = i & 1,
                                    .bias = i >> 1,
                                    .content = i == 3 ? (enum content)(m % 4) : RANDOM};
                p.x_stride = p.n_in + next_int(c, 0, 5);
                p.y_stride = p.n_out + next_int(c, 0, 5);
                check_product(c, &p);
            }
    for (int kind = 0; kind < KINDS; kind++)
        for (int content = 0; content < 4; content++) {
            static const int64_t ms[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 40};
            for (size_t i = 0; i < QVL_COUNT(ms); i++)
                check_product(c, &(struct product){.m = ms[i],
                                                   .n_out = 40,
                                                   .n_in = 515,
                                                   .x_stride = 515,
                                                   .y_stride = 40,
                                                   .kind = kind,
                                                   .content = (enum content)content});
            check_product(c, &(struct product){.m = 1,
                                               .n_out = 19,
                                               .n_in = 4304,
                                               .x_stride = 4304,
                                               .y_stride = 19,
                                               .kind = kind,
                                               .content = (enum content)content});
            check_product(c, &(struct product){.m = 21,
                                               .n_out = 19,
                                               .n_in = 4304,
                                               .x_stride = 4304,
                                               .y_stride = 19,
                                               .kind = kind,
                                               .content = (enum content)content});
        }
    /* More tokens than one chunk holds. */
    check_product(c, &(struct product){.m = 1100, .n_out = 70, .n_in = 288, .x_stride = 288, .y_stride = 70, .bias = 1});
    check_product(
        c, &(struct product){.m = 513, .n_out = 300, .n_in = 64, .x_stride = 64, .y_stride = 300, .kind = 1, .add = 1});
}
