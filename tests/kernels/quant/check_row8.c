/* check_row8.c - 8-bit weights with row scales: packed bytes and products against the formulas of row8.h, to the last bit, for every
 * team size. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kernels/row8.h"
#include "qcheck.h"

enum content { NORMAL, WIDE, SIGNS, ODD, CONTENTS };

struct problem {
    int64_t m, n_out, n_in;
    enum content content;
    enum qvl_dtype type;
    int transposed, add, bias;
    enum qvl_then then;
};

static void *must(void *p)
{
    if (!p)
        exit(1);
    return p;
}

static float weight(struct qcheck *c, enum content content, int64_t row, int64_t col)
{
    switch (content) {
    case WIDE: return next_normal(c) * expf(6 * next_normal(c));
    case SIGNS: return (row + col) % 2 ? 1.5f : -1.5f;
    case ODD: return row % 5 == 1 ? 0.0f : row % 5 == 2 ? 1e-39f : row % 5 == 3 && col == 0 ? (row % 2 ? INFINITY : NAN) : next_normal(c);
    default: return next_normal(c);
    }
}

static float activation(struct qcheck *c, enum content content, int64_t token, int64_t k)
{
    if (content == SIGNS)
        return k % 2 ? -2.0f : 2.0f;
    if (content == ODD && token % 3 == 1)
        return k == 3 ? INFINITY : next_normal(c);
    return next_normal(c) * (k % 97 == 5 ? 100.0f : 1.0f);
}

/* The matrix as stored, and its values as they read back. */
static struct guarded store(struct qcheck *c, const struct problem *p, float *value)
{
    const size_t width = p->type == QVL_DT_F32 ? 4 : 2;
    struct guarded mem = guard_open((size_t)(p->n_out * p->n_in) * width, 2);
    for (int64_t r = 0; r < p->n_out; r++)
        for (int64_t k = 0; k < p->n_in; k++) {
            float *v = &value[r * p->n_in + k];
            const int64_t at = p->transposed ? k * p->n_out + r : r * p->n_in + k;
            *v = weight(c, p->content, r, k);
            if (p->type == QVL_DT_F32) {
                memcpy((char *)mem.p + 4 * at, v, 4);
                continue;
            }
            const uint16_t h = p->type == QVL_DT_F16 ? qvl_f32_to_f16(*v) : qvl_f32_to_bf16(*v);
            memcpy((char *)mem.p + 2 * at, &h, 2);
            *v = p->type == QVL_DT_F16 ? qvl_f16_to_f32(h) : qvl_bf16_to_f32(h);
        }
    return mem;
}

/* Codes and scale of one row by the formula. */
static float expected_codes(int8_t *q, const float *x, int64_t n)
{
    float largest = 0;
    int bad = 0;
    for (int64_t k = 0; k < n; k++) {
        bad |= !isfinite(x[k]);
        largest = fmaxf(largest, fabsf(x[k]));
    }
    const int zero = bad || largest < 0x1p-100f;
    for (int64_t k = 0; k < n; k++) {
        volatile float inverse = 127 / largest, v = x[k] * inverse;
        q[k] = zero ? 0 : (int8_t)nearbyintf(v);
    }
    return bad ? NAN : zero ? 0 : largest / 127;
}

static void check_packed(struct qcheck *c, const struct problem *p, const uint8_t *packed, const int8_t *q, const float *s, const char *what)
{
    const int64_t n_pad = (p->n_in + 63) / 64 * 64, rows = (p->n_out + 63) / 64 * 64;
    long wrong = 0, scales = 0;
    for (int64_t r = 0; r < rows; r++) {
        float scale;
        for (int64_t k = 0; k < n_pad; k++) {
            const int want = r < p->n_out && k < p->n_in ? q[r * p->n_in + k] : 0;
            wrong += packed[r / 16 * 16 * n_pad + k / 4 * 64 + r % 16 * 4 + k % 4] != want + 128;
        }
        memcpy(&scale, packed + rows * n_pad + r * 4, 4);
        scales += !same_float(scale, r < p->n_out ? s[r] : 0);
    }
    expect(c, wrong == 0 && scales == 0, "%s: %ld codes and %ld scales differ", what, wrong, scales);
}

struct call {
    struct qvl_matmul op;
    struct qvl_scratch scratch;
    const struct qvl_kernels *k;
};

static void run(void *ud, const struct qvl_team *t)
{
    const struct call *call = ud;
    qvl_matmul(t, call->k, QVL_ARITH_BF16, &call->op, &call->scratch);
}

static void one(struct qcheck *c, const struct problem *p)
{
    char what[160];
    snprintf(what, sizeof what, "row8 %dx%d m=%d content %d type %d%s%s%s then %d", (int)p->n_out, (int)p->n_in, (int)p->m,
             (int)p->content, (int)p->type, p->transposed ? " transposed" : "", p->add ? " add" : "", p->bias ? " bias" : "", (int)p->then);
    const int64_t x_stride = p->n_in + 3, y_stride = p->n_out + 5, n_block = (p->n_in + 255) / 256;
    const size_t y_elems = (size_t)((p->m - 1) * y_stride + p->n_out), bytes = qvl_row8_bytes(p->n_out, p->n_in);
    float *value = must(qvl_calloc((size_t)(p->n_out * p->n_in), 4)), *s = must(qvl_calloc((size_t)p->n_out, 4)),
          *bias = must(qvl_calloc((size_t)p->n_out, 4)), *want = must(qvl_calloc(y_elems, 4)), *before = must(qvl_calloc(y_elems, 4)),
          *xs = must(qvl_calloc((size_t)n_block, 4)), *x = must(qvl_calloc((size_t)(p->m * x_stride), 4)),
          *work = must(qvl_calloc((size_t)p->n_in, 4));
    int8_t *q = must(qvl_calloc((size_t)(p->n_out * p->n_in), 1)), *xq = must(qvl_calloc((size_t)p->n_in, 1));
    struct guarded stored = store(c, p, value), packed = guard_open(bytes, 0);
    struct qvl_mat w = {.data = stored.p, .type = p->type, .transposed = p->transposed, .n_out = p->n_out, .n_in = p->n_in,
                        .stride = p->transposed ? p->n_out : p->n_in};
    for (int64_t r = 0; r < p->n_out; r++) {
        s[r] = expected_codes(q + r * p->n_in, value + r * p->n_in, p->n_in);
        bias[r] = next_normal(c);
    }
    const int64_t cut = p->n_out > 32 ? 32 : p->n_out; /* two calls, as two threads make them */
    if (cut < p->n_out)
        qvl_row8_pack(packed.p, &w, cut, p->n_out, c->k, work);
    qvl_row8_pack(packed.p, &w, 0, cut, c->k, work);
    check_packed(c, p, packed.p, q, s, what);
    for (size_t i = 0; i < y_elems; i++)
        before[i] = want[i] = next_normal(c);
    for (int64_t t = 0; t < p->m; t++) {
        for (int64_t k = 0; k < p->n_in; k++)
            x[t * x_stride + k] = activation(c, p->content, t, k);
        expected_row(xq, xs, x + t * x_stride, p->n_in);
        for (int64_t n = 0; n < p->n_out; n++) {
            float sum = 0, *y = want + t * y_stride + n;
            for (int64_t b = 0; b < n_block; b++) {
                int32_t d = 0;
                for (int64_t k = b * 256; k < p->n_in && k < b * 256 + 256; k++)
                    d += q[n * p->n_in + k] * xq[k];
                sum = fmaf(xs[b], (float)d, sum);
            }
            volatile float v = s[n] * sum;
            if (p->bias)
                v = v + bias[n];
            *y = p->add ? *y + v : v;
            if (p->then == QVL_THEN_GELU_TANH)
                c->k->gelu_tanh(y, 1);
        }
    }
    struct qvl_mat mat = {.data = packed.p, .type = QVL_DT_ROW8, .n_out = p->n_out, .n_in = p->n_in};
    for (int team = 0; team < 3; team++) {
        const size_t need = qvl_matmul_scratch(c->k, QVL_ARITH_BF16, p->m, p->n_out, p->n_in, team + 1);
        struct guarded y = guard_open(y_elems * 4, 4), scratch = guard_open(need, 0);
        struct call call = {.k = c->k, .scratch = {.mem = scratch.p, .bytes = need},
                            .op = {.y = y.p, .x = x, .w = &mat, .bias = p->bias ? bias : NULL, .m = p->m, .y_stride = y_stride,
                                   .x_stride = x_stride, .add = p->add, .then = p->then}};
        memcpy(y.p, before, y_elems * 4);
        qvl_pool_run(c->pool[team], run, &call);
        long wrong = 0;
        for (size_t i = 0; i < y_elems; i++)
            wrong += !same_float(((float *)y.p)[i], want[i]);
        expect(c, wrong == 0, "%s, team of %d: %ld of %zu values differ", what, team + 1, wrong, y_elems);
        guard_close(c, &y, what);
        guard_close(c, &scratch, what);
    }
    guard_close(c, &stored, what);
    guard_close(c, &packed, what);
    void *all[] = {value, s, bias, want, before, xs, x, work, q, xq};
    for (size_t i = 0; i < QVL_COUNT(all); i++)
        qvl_mem_free(all[i]);
}

void check_row8(struct qcheck *c)
{
    static const int64_t ms[] = {1, 2, 5, 6, 7, 13, 50}, shapes[][2] = {{1, 1}, {16, 64}, {17, 70}, {64, 256}, {130, 300}, {70, 1030}};
    static const enum qvl_dtype types[] = {QVL_DT_F32, QVL_DT_F16, QVL_DT_BF16};
    int n = 0;
    for (size_t i = 0; i < QVL_COUNT(ms); i++)
        for (size_t s = 0; s < QVL_COUNT(shapes); s++, n++) {
            struct problem p = {.m = ms[i], .n_out = shapes[s][0], .n_in = shapes[s][1], .content = (enum content)(n % CONTENTS),
                                .type = types[n % 3], .transposed = n / 3 % 2, .add = n / 2 % 2, .bias = n / 4 % 2};
            p.then = !p.add && n % 5 == 0 ? QVL_THEN_GELU_TANH : QVL_THEN_NOTHING;
            one(c, &p);
        }
    struct problem large = {.m = 1700, .n_out = 20, .n_in = 80, .type = QVL_DT_BF16, .bias = 1}; /* more tokens than a task */
    one(c, &large);
    expect(c, qvl_row8_bytes(INT64_MAX / 4, INT64_MAX / 4) == 0, "row8: a matrix of 2^122 weights has a size");
    expect(c, qvl_row8_bytes(17, 65) == 64 * 128 + 64 * 4, "row8: size of 17 x 65");
}
