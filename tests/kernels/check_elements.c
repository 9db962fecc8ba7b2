/* check_elements.c - conversions (bit-exact), norms, rotation and activations against double. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kcheck.h"

static const int64_t lengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 100, 128, 1000, 2560};

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* All 65536 values of both half types, at every alignment of the vector loop. */
static void check_widening(struct check *c)
{
    for (int t = 0; t < 2; t++)
        for (size_t shift = 0; shift < 4; shift++) {
            enum qvl_dtype type = t ? QVL_DT_F16 : QVL_DT_BF16;
            struct guarded src = guard_open(65536, 2, shift), dst = guard_open(65536, 4, 4 * shift);
            for (int i = 0; i < 65536; i++) {
                uint16_t h = (uint16_t)i;
                memcpy((char *)src.p + 2 * i, &h, 2);
            }
            c->k->to_f32(dst.p, src.p, type, 65536);
            long bad = 0;
            for (int i = 0; i < 65536; i++) {
                float got;
                memcpy(&got, (char *)dst.p + 4 * i, 4);
                double want = to_double(src.p, i, type);
                bad += isnan(want) ? !isnan(got) : bits(got) != bits((float)want);
            }
            expect(c, bad == 0, "to_f32 type %d: %ld values wrong", (int)type, bad);
            guard_close(c, &src, "to_f32 source");
            guard_close(c, &dst, "to_f32");
        }
    for (size_t i = 0; i < QVL_COUNT(lengths); i++)
        for (int t = 0; t < 3; t++) {
            static const enum qvl_dtype types[] = {QVL_DT_F32, QVL_DT_F16, QVL_DT_BF16};
            int64_t n = lengths[i];
            struct stored s = make_matrix(c, 1, n, types[t], 0, 0, t ? 1 : 3, 0);
            struct guarded dst = guard_open((size_t)n, 4, 4);
            c->k->to_f32(dst.p, s.mat.data, types[t], n);
            expect_close(c, dst.p, s.value, n, 0, 0, 0, "to_f32 tail");
            guard_close(c, &dst, "to_f32 tail");
            free_matrix(c, &s);
        }
}

/* Ties, neighbours of ties, denormals, overflow to infinity, NaN with only low bits. */
static void check_to_bf16(struct check *c)
{
    enum { N = 40000 };
    static const uint32_t special[] = {0,          0x80000000u, 1,          0x7fff,     0x8000,     0x8001,
                                       0x00018000, 0x007fffff,  0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff,
                                       0x7f7f8000, 0x7f7f7fff,  0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001,
                                       0xff800001, 0x7fc00000,  0x7fffffff, 0xffffffffu};
    struct guarded src = guard_open(N, 4, 4), dst = guard_open(N, 2, 2);
    float *x = src.p;
    uint16_t *y = dst.p;
    for (int i = 0; i < N; i++) {
        uint32_t u = (uint32_t)next_u64(c);
        if (i % 3 == 0)
            u = (u & 0xffff0000u) | 0x8000u;
        x[i] = from_bits(i < (int)QVL_COUNT(special) ? special[i] : u);
    }
    c->k->to_bf16(y, x, N);
    long bad = 0;
    for (int i = 0; i < N; i++) {
        uint16_t want = qvl_f32_to_bf16(x[i]);
        bad += isnan(x[i]) ? !isnan(qvl_bf16_to_f32(y[i])) : y[i] != want;
        if (!isnan(x[i]) && fabsf(x[i]) >= 0x1p-126f) /* the header's function itself against arithmetic */
            bad += (double)qvl_bf16_to_f32(want) != round_to_bf16(x[i]);
    }
    expect(c, bad == 0, "to_bf16: %ld values wrong", bad);
    for (size_t i = 0; i < QVL_COUNT(lengths); i++) {
        struct guarded d = guard_open((size_t)lengths[i], 2, 2);
        c->k->to_bf16(d.p, x, lengths[i]);
        expect(c, !memcmp(d.p, y, (size_t)lengths[i] * 2), "to_bf16: tail of %d", (int)lengths[i]);
        guard_close(c, &d, "to_bf16 tail");
    }
    guard_close(c, &src, "to_bf16 source");
    guard_close(c, &dst, "to_bf16");
}

static void check_norms(struct check *c, int64_t n, float scale, float offset)
{
    struct guarded x = guard_open((size_t)n, 4, 4), w = guard_open((size_t)n, 4, 0), b = guard_open((size_t)n, 4, 8),
                   y = guard_open((size_t)n, 4, 12);
    float *xf = x.p, *wf = w.p, *bf = b.p, eps = 1e-6f;
    double *want = qvl_alloc((size_t)n, 8), sum = 0, sq = 0, var = 0;
    char what[80];
    fill_normal(c, xf, n, scale);
    fill_normal(c, wf, n, 1);
    fill_normal(c, bf, n, 1);
    for (int64_t i = 0; i < n; i++)
        xf[i] += offset;
    for (int64_t i = 0; i < n; i++) {
        sum += xf[i];
        sq += (double)xf[i] * xf[i];
    }
    for (int64_t i = 0; i < n; i++)
        var += (xf[i] - sum / (double)n) * (xf[i] - sum / (double)n);
    for (int64_t i = 0; i < n; i++)
        want[i] = wf[i] * (xf[i] / sqrt(sq / (double)n + eps));
    snprintf(what, sizeof what, "rmsnorm n=%d scale=%g", (int)n, (double)scale);
    c->k->rmsnorm(y.p, xf, wf, n, eps);
    expect_close(c, y.p, want, n, 3e-7, 5e-7, 1e-30, what);
    for (int64_t i = 0; i < n; i++)
        want[i] = (xf[i] - sum / (double)n) / sqrt(var / (double)n + eps) * wf[i] + bf[i];
    snprintf(what, sizeof what, "layernorm n=%d scale=%g offset=%g", (int)n, (double)scale, (double)offset);
    c->k->layernorm(y.p, xf, wf, bf, n, eps);
    /* The mean is rounded: an offset that dwarfs the spread costs as many bits as it has more. */
    double loss = 1 + fabs(sum / (double)n) / sqrt(var / (double)n + eps);
    expect_close(c, y.p, want, n, 1e-6 * loss, 0, 2e-6 * loss, what);
    memcpy(y.p, xf, (size_t)n * 4); /* in place */
    c->k->layernorm(y.p, y.p, wf, bf, n, eps);
    expect_close(c, y.p, want, n, 1e-6 * loss, 0, 2e-6 * loss, "layernorm in place");
    guard_close(c, &x, "norm x");
    guard_close(c, &w, "norm w");
    guard_close(c, &b, "norm b");
    guard_close(c, &y, what);
    qvl_mem_free(want);
}

static void check_rope(struct check *c, int64_t n)
{
    int64_t half = n / 2;
    struct guarded x = guard_open((size_t)n, 4, 4), cs = guard_open((size_t)half, 4, 0), sn = guard_open((size_t)half, 4, 4);
    double *want = qvl_alloc((size_t)n, 8);
    float *xf = x.p;
    fill_normal(c, xf, n, 1);
    for (int64_t i = 0; i < half; i++) {
        double a = next_uniform(c) * 1e3;
        ((float *)cs.p)[i] = (float)cos(a);
        ((float *)sn.p)[i] = (float)sin(a);
    }
    for (int64_t i = 0; i < half; i++) {
        double co = ((float *)cs.p)[i], si = ((float *)sn.p)[i];
        want[i] = xf[i] * co - xf[i + half] * si;
        want[i + half] = xf[i + half] * co + xf[i] * si;
    }
    c->k->rope(xf, cs.p, sn.p, n);
    expect_close(c, xf, want, n, 2e-7, 0, 5e-7, "rope");
    guard_close(c, &x, "rope");
    guard_close(c, &cs, "rope cos");
    guard_close(c, &sn, "rope sin");
    qvl_mem_free(want);
}

/* Activations: dense over the interesting range, then wild values and the special ones. */
static float activation_input(struct check *c, int64_t i)
{
    static const float special[] = {1.0f,  0.0f,   -0.0f, 1e-40f, -1e-40f, 88.0f,  -88.0f,  104.0f, -104.0f,  1e4f,   -1e4f,
                                    1e10f, -1e10f, 1e30f, -1e30f, 14.5f,   -14.5f, -1e-20f, NAN,    INFINITY, 3.0e38f};
    if (i < (int64_t)QVL_COUNT(special))
        return special[i];
    return (float)(next_uniform(c) * 24 - 12);
}

static void check_activations(struct check *c, int64_t n)
{
    struct guarded x = guard_open((size_t)n, 4, 4), u = guard_open((size_t)n, 4, 8), y = guard_open((size_t)n, 4, 12);
    double *want = qvl_alloc((size_t)n, 8);
    float *xf = x.p, *uf = u.p, *yf = y.p;
    for (int64_t i = 0; i < n; i++)
        xf[i] = activation_input(c, i);
    fill_normal(c, uf, n, 1);
    for (int64_t i = 0; i < n; i++)
        want[i] = (double)xf[i] / (1 + exp(-(double)xf[i])) * uf[i];
    c->k->silu_mul(yf, xf, uf, n);
    expect_close(c, yf, want, n, 2e-7, 5e-7, 1e-37, "silu_mul");
    memcpy(yf, xf, (size_t)n * 4);
    c->k->silu_mul(yf, yf, uf, n);
    expect_close(c, yf, want, n, 2e-7, 5e-7, 1e-37, "silu_mul onto the gate");

    for (int64_t i = 0; i < n; i++) {
        double v = xf[i];
        want[i] = 0.5 * v * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
    }
    memcpy(yf, xf, (size_t)n * 4);
    c->k->gelu_tanh(yf, n);
    expect_close(c, yf, want, n, 2e-7, 2e-7, 2e-7, "gelu_tanh");

    for (int64_t i = 0; i < n; i++)
        want[i] = 0.5 * xf[i] * erfc(-(double)xf[i] / sqrt(2));
    memcpy(yf, xf, (size_t)n * 4);
    c->k->gelu_erf(yf, n);
    expect_close(c, yf, want, n, 2e-7, 2e-7, 2e-7, "gelu_erf");

    for (int64_t i = 0; i < n; i++)
        want[i] = (double)(xf[i] + uf[i]); /* one rounding: exact */
    memcpy(yf, xf, (size_t)n * 4);
    c->k->add(yf, uf, n);
    expect_close(c, yf, want, n, 0, 0, 0, "add");
    guard_close(c, &x, "activation x");
    guard_close(c, &u, "activation u");
    guard_close(c, &y, "activation y");
    qvl_mem_free(want);
}

void check_elements(struct check *c)
{
    check_widening(c);
    check_to_bf16(c);
    for (size_t i = 0; i < QVL_COUNT(lengths); i++) {
        check_norms(c, lengths[i], 1, 0);
        check_norms(c, lengths[i], 1e-4f, 0);
        check_norms(c, lengths[i], 1e4f, 0);
        check_norms(c, lengths[i], 1, 30);
        check_activations(c, lengths[i]);
        if (lengths[i] % 2 == 0)
            check_rope(c, lengths[i]);
    }
    check_norms(c, 25600, 1, 1);
    check_rope(c, 72);
    check_activations(c, 1 << 18);
}
