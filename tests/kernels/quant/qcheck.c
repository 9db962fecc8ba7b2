/* qcheck.c - checks the integer weight kinds: qcheck [--cpu LEVEL] [--seed N] [--bench [pack|gemv|gemm]] [--threads N].
 *
 * Exits 0 when all checks hold, 1 when one failed, 77 when the machine lacks the level. */
#include "qcheck.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define GUARD 256

uint64_t next_u64(struct qcheck *c)
{
    uint64_t z = (c->seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t next_int(struct qcheck *c, int64_t lo, int64_t hi) { return lo + (int64_t)(next_u64(c) % (uint64_t)(hi - lo + 1)); }

float next_normal(struct qcheck *c)
{
    double u = (double)(next_u64(c) >> 11) * 0x1p-53, v = (double)(next_u64(c) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
}

void expect(struct qcheck *c, int ok, const char *fmt, ...)
{
    c->checks++;
    if (ok)
        return;
    if (++c->failures <= 40) {
        va_list ap;
        va_start(ap, fmt);
        fprintf(stderr, "FAIL %s: ", c->q->name);
        vfprintf(stderr, fmt, ap);
        fputc('\n', stderr);
        va_end(ap);
    }
}

struct guarded guard_open(size_t bytes, size_t shift)
{
    struct guarded g = {.bytes = bytes, .shift = shift, .mem = qvl_alloc(1, bytes + 2 * GUARD + shift)};
    if (!g.mem) {
        fprintf(stderr, "qcheck: out of memory\n");
        exit(1);
    }
    memset(g.mem, 0xa5, bytes + 2 * GUARD + shift);
    g.p = g.mem + GUARD + shift;
    return g;
}

void guard_close(struct qcheck *c, struct guarded *g, const char *what)
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

/* ------------------------------------------------------------------ the layout */

static size_t unit_at(int kind, int64_t n_in, int64_t row, int64_t col)
{
    size_t per_panel = (size_t)((n_in + 63) / 64), unit = kind == 1 ? 16 * 64 + 2 * 16 * 2 : 16 * 64 / 2 + 2 * 16 * 2;
    size_t minima = kind == 2 ? per_panel * 2 * 16 * 2 : 0; /* behind each panel */
    return (size_t)(row / 16) * (per_panel * unit + minima) + (size_t)(col / 64) * unit;
}

/* Byte of a code; for q4 `high` tells which nibble. */
static size_t code_at(int kind, int64_t n_in, int64_t row, int64_t col, int *high)
{
    size_t i = (size_t)(col % 32), lane = (size_t)(row % 16) * 4, group = (size_t)(col % 64) / 32;
    *high = kind != 1 && i % 8 >= 4;
    return unit_at(kind, n_in, row, col) + group * (kind == 1 ? 512 : 256) + i / (kind == 1 ? 4 : 8) * 64 + lane + i % 4;
}

static size_t scale_at(int kind, int64_t n_in, int64_t row, int64_t col)
{
    return unit_at(kind, n_in, row, col) + (kind == 1 ? 1024 : 512) + (size_t)(col % 64) / 32 * 32 + (size_t)(row % 16) * 2;
}

int stored_code(const void *packed, int kind, int64_t n_in, int64_t row, int64_t col)
{
    int high;
    int byte = ((const unsigned char *)packed)[code_at(kind, n_in, row, col, &high)];
    return kind == 1 ? byte : high ? byte >> 4 : byte & 15;
}

uint16_t stored_scale(const void *packed, int kind, int64_t n_in, int64_t row, int64_t col)
{
    const unsigned char *p = (const unsigned char *)packed + scale_at(kind, n_in, row, col);
    return (uint16_t)(p[0] | p[1] << 8);
}

void set_code(void *packed, int kind, int64_t n_in, int64_t row, int64_t col, int u)
{
    int high;
    unsigned char *p = (unsigned char *)packed + code_at(kind, n_in, row, col, &high);
    *p = (unsigned char)(kind == 1 ? u : high ? (*p & 15) | u << 4 : (*p & 0xf0) | u);
}

void set_scale(void *packed, int kind, int64_t n_in, int64_t row, int64_t col, uint16_t half)
{
    unsigned char *p = (unsigned char *)packed + scale_at(kind, n_in, row, col);
    p[0] = (unsigned char)half;
    p[1] = (unsigned char)(half >> 8);
}

double half_value(uint16_t h)
{
    int e = (h >> 10) & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

size_t stored_bytes(int kind, int64_t n_out, int64_t n_in)
{
    return (size_t)((n_out + 15) / 16) * unit_at(kind, n_in, 16, 0);
}

int code_offset(int kind) { return kind == 1 ? 128 : kind == 0 ? 8 : 0; }

static size_t min_at(int64_t n_in, int64_t row, int64_t col)
{
    size_t codes = (size_t)((n_in + 63) / 64) * (16 * 64 / 2 + 2 * 16 * 2);
    return unit_at(2, n_in, row / 16 * 16, 0) + codes + (size_t)(col / 32 * 16 + row % 16) * 2;
}

uint16_t stored_min(const void *packed, int64_t n_in, int64_t row, int64_t col)
{
    const unsigned char *p = (const unsigned char *)packed + min_at(n_in, row, col);
    return (uint16_t)(p[0] | p[1] << 8);
}

void set_min(void *packed, int64_t n_in, int64_t row, int64_t col, uint16_t half)
{
    unsigned char *p = (unsigned char *)packed + min_at(n_in, row, col);
    p[0] = (unsigned char)half;
    p[1] = (unsigned char)(half >> 8);
}

/* ------------------------------------------------------------------ the product */

void expected_row(int8_t *q, float *scale, const float *x, int64_t n_in)
{
    for (int64_t k0 = 0; k0 < n_in; k0 += 256) {
        int64_t k1 = k0 + 256 < n_in ? k0 + 256 : n_in;
        float largest = 0, *s = scale + k0 / 256;
        int bad = 0;
        for (int64_t k = k0; k < k1; k++) {
            bad |= !isfinite(x[k]);
            largest = fmaxf(largest, fabsf(x[k]));
        }
        *s = bad ? NAN : largest < 0x1p-100f ? 0 : largest / 127;
        for (int64_t k = k0; k < k1; k++) {
            volatile float inverse = 127 / largest;
            volatile float v = x[k] * inverse;
            q[k] = bad || *s == 0 ? 0 : (int8_t)nearbyintf(v);
        }
    }
}

float expected_sum(const void *packed, int kind, int64_t n_in, int64_t row, const int8_t *q, const float *scale)
{
    float c = 0;
    for (int64_t k0 = 0; k0 < n_in; k0 += 256) {
        float block = 0;
        for (int64_t g = k0; g < n_in && g < k0 + 256; g += 32) {
            int64_t d = 0;
            for (int64_t k = g; k < n_in && k < g + 32; k++)
                d += (stored_code(packed, kind, n_in, row, k) - code_offset(kind)) * q[k];
            block = fmaf((float)half_value(stored_scale(packed, kind, n_in, row, g)), (float)d, block);
        }
        c = fmaf(scale[k0 / 256], block, c);
    }
    return c;
}

float expected_minima(const void *packed, int64_t n_in, int64_t row, const int8_t *q, const float *scale)
{
    float e = 0;
    for (int64_t g = 0; g < (n_in + 63) / 64 * 64; g += 32) {
        int sum = 0;
        for (int64_t k = g; k < n_in && k < g + 32; k++)
            sum += q[k];
        volatile float term = g < n_in ? scale[g / 256] * (float)sum : scale[(n_in - 1) / 256] * 0.0f;
        e = fmaf((float)half_value(stored_min(packed, n_in, row, g)), term, e);
    }
    return e;
}

int same_float(float a, float b)
{
    uint32_t x, y;
    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    return x == y || (isnan(a) && isnan(b));
}

int main(int argc, char **argv)
{
    const char *name = NULL, *only = NULL;
    unsigned threads = qvl_cpu_threads();
    struct qcheck c = {.seed = 1};
    int measure = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--bench")) {
            measure = 1;
            if (v && v[0] != '-') {
                only = v;
                i++;
            }
        } else if (v && !strcmp(a, "--cpu")) {
            name = argv[++i];
        } else if (v && !strcmp(a, "--seed")) {
            c.seed = strtoull(argv[++i], NULL, 10);
        } else if (v && !strcmp(a, "--threads")) {
            threads = (unsigned)strtoul(argv[++i], NULL, 10);
        } else {
            fprintf(stderr, "usage: qcheck [--cpu LEVEL] [--seed N] [--bench [pack|gemv|gemm]] [--threads N]\n");
            return 2;
        }
    }
    enum qvl_cpu_level level;
    qvl_err err;
    int rc = qvl_cpu_level_parse(&level, name, &err);
    if (rc) {
        fprintf(stderr, "qcheck: %s\n", err.msg);
        return rc == QVL_E_UNSUPPORTED ? 77 : 2;
    }
    c.k = qvl_kernels_get(level);
    c.q = c.k->quant;
    if (measure) {
        bench(&c, threads ? threads : 1, only);
        return 0;
    }
    for (unsigned i = 0; i < 3; i++)
        if (qvl_pool_open(&c.pool[i], i + 1, NULL)) {
            fprintf(stderr, "qcheck: no threads\n");
            return 1;
        }
    check_pack(&c);
    check_products(&c);
    check_row8(&c);
    for (int i = 0; i < 3; i++)
        qvl_pool_close(&c.pool[i]);
    printf("qcheck %s: %ld checks, %ld failed\n", c.k->name, c.checks, c.failures);
    return c.failures || !c.checks;
}
