/* kcheck.c - checks every kernel of one CPU level against arithmetic in double written here, so that the scalar level is
 * judged by the same measure as the others: kcheck [--cpu LEVEL] [--seed N] [--part NAME] [--bench [WHAT]] [--threads N].
 *
 * Exits 0 when all checks hold, 1 when one failed, 77 when the machine lacks the level. */
#include "kcheck.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"

#define GUARD 256

uint64_t next_u64(struct check *c)
{
    uint64_t z = (c->seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double next_uniform(struct check *c) { return (double)(next_u64(c) >> 11) * 0x1p-53; }
int64_t next_int(struct check *c, int64_t lo, int64_t hi) { return lo + (int64_t)(next_u64(c) % (uint64_t)(hi - lo + 1)); }

float next_normal(struct check *c)
{
    double u = next_uniform(c), v = next_uniform(c);
    return (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
}

void fill_normal(struct check *c, float *x, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = scale * next_normal(c);
}

void fill_wild(struct check *c, float *x, int64_t n, float largest)
{
    for (int64_t i = 0; i < n; i++) {
        double s = next_u64(c) & 1 ? 1 : -1;
        switch (next_int(c, 0, 9)) {
        case 0: x[i] = (float)(s * 0); break;
        case 1: x[i] = (float)(s * 1e-40); break;
        case 2: x[i] = (float)(s * largest * next_uniform(c)); break;
        case 3: x[i] = (float)s; break;
        default: x[i] = (float)(s * exp(next_uniform(c) * 20 - 14)); break;
        }
    }
}

struct guarded guard_open(size_t n, size_t size, size_t shift)
{
    struct guarded g = {.bytes = n * size, .shift = shift};
    g.mem = qvl_alloc(1, g.bytes + 2 * GUARD + shift);
    if (!g.mem) {
        fprintf(stderr, "kcheck: out of memory\n");
        exit(1);
    }
    memset(g.mem, 0xa5, g.bytes + 2 * GUARD + shift);
    g.p = g.mem + GUARD + shift;
    return g;
}

void guard_close(struct check *c, struct guarded *g, const char *what)
{
    int ok = 1;
    for (size_t i = 0; i < GUARD + g->shift; i++)
        ok &= g->mem[i] == 0xa5;
    for (size_t i = 0; i < GUARD; i++)
        ok &= g->mem[GUARD + g->shift + g->bytes + i] == 0xa5;
    expect(c, ok, "%s: bytes outside of a buffer were written", what);
    qvl_mem_free(g->mem);
    g->mem = NULL;
}

void expect(struct check *c, int ok, const char *fmt, ...)
{
    c->checks++;
    if (ok)
        return;
    if (++c->failures <= 40) {
        va_list ap;
        va_start(ap, fmt);
        fprintf(stderr, "FAIL %s: ", c->k->name);
        vfprintf(stderr, fmt, ap);
        fputc('\n', stderr);
        va_end(ap);
    }
}

void expect_close(struct check *c, const float *got, const double *want, int64_t n, double l2, double rel, double abs,
                  const char *what)
{
    double err = 0, norm = 0;
    int64_t bad = 0, first = -1, non_finite = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = want[i], g = got[i], d = g - w;
        if (fabs(w) > 3.4028235677973366e38) /* rounds to infinity */
            w = w > 0 ? INFINITY : -INFINITY;
        if (!isfinite(w) || !isfinite(g)) {
            non_finite++;
            if (isnan(w) ? isnan(g) : w == g)
                continue;
        } else {
            err += d * d;
            norm += w * w;
        }
        if (!(fabs(d) <= abs + rel * fabs(w))) {
            bad++;
            first = first < 0 ? i : first;
        }
    }
    expect(c, bad == 0, "%s: %lld of %lld elements differ, first [%lld]: found %.9g, expected %.9g (%lld non-finite)", what,
           (long long)bad, (long long)n, (long long)first, first < 0 ? 0.0 : (double)got[first],
           first < 0 ? 0.0 : want[first], (long long)non_finite);
    double r = norm > 0 ? sqrt(err / norm) : sqrt(err);
    expect(c, r <= l2, "%s: relative L2 error %.3g, allowed %.3g", what, r, l2);
}

double to_double(const void *p, int64_t i, enum qvl_dtype type)
{
    uint16_t h;
    float f;
    if (type == QVL_DT_F32) {
        memcpy(&f, (const char *)p + 4 * i, 4);
        return f;
    }
    memcpy(&h, (const char *)p + 2 * i, 2);
    if (type == QVL_DT_BF16)
        return qvl_bf16_to_f32(h);
    int e = (h >> 10) & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

/* f32 to f16, nearest, for test data (overflow becomes infinity). */
uint16_t bits_f16(float f)
{
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    double a = fabs((double)f);
    if (isnan(f))
        return 0x7e00;
    if (a >= 65520)
        return sign | 0x7c00;
    if (a < 0x1p-14)
        return (uint16_t)(sign + (int)nearbyint(ldexp(a, 24)));
    int e;
    double m = frexp(a, &e); /* a = m 2^e, m in [0.5, 1) */
    return (uint16_t)(sign + ((e + 13) << 10) + ((int)nearbyint(ldexp(m, 11)) - 1024) + 1024);
}

double round_to_bf16(double x)
{
    if (!isfinite(x) || x == 0)
        return x;
    int e;
    frexp(x, &e);
    int shift = e < -125 ? -133 : e - 8; /* the last kept bit; denormals of f32 end at 2^-133 in bf16 */
    double r = ldexp(nearbyint(ldexp(x, -shift)), shift);
    return fabs(r) > 3.3895313892515355e38 ? (x > 0 ? INFINITY : -INFINITY) : r;
}

struct stored make_matrix(struct check *c, int64_t n_out, int64_t n_in, enum qvl_dtype type, int transposed,
                          int64_t extra_stride, size_t shift, int wild)
{
    int64_t rows = transposed ? n_in : n_out, cols = transposed ? n_out : n_in, stride = cols + extra_stride;
    size_t size = type == QVL_DT_F32 ? 4 : 2;
    /* The last row ends the memory: reading beyond it must show under a sanitizer. */
    struct stored s = {.mem = guard_open((size_t)((rows - 1) * stride + cols), size, shift)};
    s.mat = (struct qvl_mat){
        .data = s.mem.p, .type = type, .transposed = transposed, .n_out = n_out, .n_in = n_in, .stride = stride};
    s.value = qvl_alloc((size_t)(n_out * n_in), sizeof *s.value);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < stride && r * stride + j < (rows - 1) * stride + cols; j++) {
            float f;
            if (wild)
                fill_wild(c, &f, 1, type == QVL_DT_F16 ? 60000.0f : 1e4f);
            else
                f = next_normal(c);
            if (j >= cols)
                f = NAN; /* between rows: must never be used */
            uint16_t h = type == QVL_DT_F16 ? bits_f16(f) : qvl_f32_to_bf16(f);
            memcpy((char *)s.mem.p + (size_t)(r * stride + j) * size, size == 4 ? (void *)&f : (void *)&h, size);
            if (j < cols)
                s.value[transposed ? j * n_in + r : r * n_in + j] = to_double(s.mem.p, r * stride + j, type);
        }
    return s;
}

void free_matrix(struct check *c, struct stored *s)
{
    guard_close(c, &s->mem, "weights");
    qvl_mem_free(s->value);
}

static int run_checks(enum qvl_cpu_level level, uint64_t seed, const char *only)
{
    struct check c = {.k = qvl_kernels_get(level), .seed = seed};
    long before = 0;
    struct {
        const char *name;
        void (*fn)(struct check *);
    } part[] = {{"elements", check_elements}, {"matmul", check_matmul}, {"attention", check_attention}, {"int8", check_int8}};
    if (c.k->level != level) {
        fprintf(stderr, "kcheck: no kernels for level %s\n", qvl_cpu_level_name(level));
        return 1;
    }
    for (size_t i = 0; i < QVL_COUNT(part); i++) {
        if (only && strcmp(only, part[i].name))
            continue;
        part[i].fn(&c);
        printf("%-12s %-10s %7ld checks\n", c.k->name, part[i].name, c.checks - before);
        before = c.checks;
    }
    printf("%-12s %ld checks, %ld failures\n", c.k->name, c.checks, c.failures);
    return c.failures || !c.checks ? 1 : 0;
}

int main(int argc, char **argv)
{
    const char *level_name = NULL, *only = NULL, *part = NULL;
    uint64_t seed = 1;
    unsigned threads = 0;
    int want_bench = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--cpu") && i + 1 < argc)
            level_name = argv[++i];
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--part") && i + 1 < argc)
            part = argv[++i];
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = (unsigned)strtoul(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--bench")) {
            want_bench = 1;
            if (i + 1 < argc && argv[i + 1][0] != '-')
                only = argv[++i];
        } else {
            fprintf(stderr, "usage: kcheck [--cpu LEVEL] [--seed N] [--part NAME] [--bench [rows|gemv|gemm|attn]] [--threads N]\n");
            return 2;
        }
    }
    qvl_err err;
    enum qvl_cpu_level level;
    int rc = qvl_cpu_level_parse(&level, level_name, &err);
    if (rc) {
        fprintf(stderr, "kcheck: %s\n", err.msg);
        return rc == QVL_E_UNSUPPORTED ? 77 : 2;
    }
    if (want_bench)
        return bench(level, threads ? threads : qvl_cpu_threads(), only);
    if (level_name && strcmp(level_name, "auto"))
        return run_checks(level, seed, part);
    for (int l = QVL_CPU_REF; l <= (int)level; l++)
        rc |= run_checks((enum qvl_cpu_level)l, seed, part);
    return rc;
}
