/* check_pack.c - packing: layout, error against the plain choice of scales, extremes, equal bytes at all levels. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "qcheck.h"

/* Values of one kind of matrix. */
enum fill { NORMAL, EQUAL, ZERO, OUTLIER, DENORMAL, HUGE_VALUES, TINY_SCALE, WILD, BAD_ROWS, FILLS };

static float value(struct qcheck *c, enum fill fill, int64_t row, int64_t col)
{
    switch (fill) {
    case EQUAL: return row % 2 ? -0.37f : 0.37f;
    case ZERO: return row % 2 ? -0.0f : 0.0f;
    case OUTLIER: return col % 32 == row % 32 ? 3000.0f : 0.01f * next_normal(c);
    case DENORMAL: return 1e-39f * next_normal(c);
    case HUGE_VALUES: return 1e37f * next_normal(c);
    case TINY_SCALE: return 4e-7f * next_normal(c); /* scales are denormal in f16 */
    case WILD: return next_normal(c) * expf(10 * next_normal(c));
    case BAD_ROWS:
        if (row % 4 == 1 && col == 40)
            return row % 8 == 1 ? NAN : INFINITY;
        return next_normal(c);
    default: return next_normal(c);
    }
}

static size_t width(enum qvl_dtype type) { return type == QVL_DT_F32 ? 4 : 2; }

/* A matrix and what it holds when read back. */
struct source {
    struct guarded mem;
    struct qvl_mat mat;
    float *value; /* [n_out][n_in] */
};

static struct source make_source(struct qcheck *c, int64_t n_out, int64_t n_in, enum qvl_dtype type, int transposed,
                                 enum fill fill)
{
    int64_t rows = transposed ? n_in : n_out, cols = transposed ? n_out : n_in, stride = cols + next_int(c, 0, 3);
    struct source s = {.mem = guard_open((size_t)((rows - 1) * stride + cols) * width(type), (size_t)next_int(c, 0, 3) * 2)};
    s.mat = (struct qvl_mat){
        .data = s.mem.p, .type = type, .transposed = transposed, .n_out = n_out, .n_in = n_in, .stride = stride};
    s.value = qvl_calloc((size_t)(n_out * n_in), 4);
    if (!s.value)
        exit(1);
    for (int64_t r = 0; r < n_out; r++)
        for (int64_t k = 0; k < n_in; k++) {
            float f = value(c, fill, r, k);
            int64_t i = transposed ? k * stride + r : r * stride + k;
            if (type == QVL_DT_F32) {
                memcpy((char *)s.mem.p + 4 * i, &f, 4);
            } else {
                uint16_t h = qvl_f32_to_bf16(f);
                if (type == QVL_DT_F16) {
                    h = qvl_f32_to_f16(f);
                    f = (float)half_value(h);
                } else {
                    f = qvl_bf16_to_f32(h);
                }
                memcpy((char *)s.mem.p + 2 * i, &h, 2);
            }
            s.value[r * n_in + k] = f;
        }
    return s;
}

/* Weighted error of one group with the plain scale max/-8 in f16, the largest element (of two that are equally large the positive
 * one, as quant.h says) to the end of the range. */
static double plain_error(const float *x, const float *weight, int64_t n)
{
    double m = 0, e = 0;
    for (int64_t i = 0; i < n; i++)
        m = fabs(x[i]) > fabs(m) || (fabs(x[i]) == fabs(m) && x[i] > m) ? (double)x[i] : m;
    if (fabs(m) < 0x1p-30)
        m = 0;
    double d = m / -8;
    d = fmin(fmax(d, -65504), 65504);
    double s = half_value(qvl_f32_to_f16((float)d));
    for (int64_t i = 0; i < n; i++) {
        double q = s != 0 ? fmin(fmax(nearbyint(x[i] / s), -8), 7) : 0, t = x[i] - s * q;
        e += t * t * (weight ? (double)weight[i] : 1);
    }
    return e;
}

struct packing {
    const struct source *s;
    int kind;
    const float *importance;
    const void *packed;
};

/* Every group: finite, not worse than the plain choice (q4) or half a step (q8). Returns the total error and norm. */
static struct qvl_quant_error check_groups(struct qcheck *c, const struct packing *p, const char *what)
{
    const int64_t n_in = p->s->mat.n_in;
    struct qvl_quant_error total = {0};
    for (int64_t r = 0; r < p->s->mat.n_out; r++)
        for (int64_t k0 = 0; k0 < n_in; k0 += 32) {
            const float *x = p->s->value + r * n_in + k0, *w = p->importance ? p->importance + k0 : NULL;
            int64_t n = n_in - k0 < 32 ? n_in - k0 : 32;
            double s = half_value(stored_scale(p->packed, p->kind, n_in, r, k0)), error = 0, norm = 0, worst = 0,
                   largest = 0;
            int bad = 0;
            for (int64_t i = 0; i < n; i++) {
                int q = stored_code(p->packed, p->kind, n_in, r, k0 + i) - (p->kind ? 128 : 8);
                double d = x[i] - s * q, weight = w ? (double)w[i] : 1;
                bad |= !isfinite(x[i]);
                error += weight * d * d;
                norm += weight * x[i] * x[i];
                worst = fmax(worst, fabs(d));
                largest = fmax(largest, fabs((double)x[i]));
            }
            if (bad) {
                expect(c, isnan(s), "%s: row %d, group at %d: a non-finite weight, but scale %g", what, (int)r, (int)k0, s);
                continue;
            }
            expect(c, isfinite(s), "%s: row %d, group at %d: scale %g", what, (int)r, (int)k0, s);
            if (!p->kind) {
                double plain = plain_error(x, w, n);
                expect(c, error <= plain * (1 + 1e-5) + norm * 1e-12, "%s: row %d, group at %d: error %g, max/-8 gives %g",
                       what, (int)r, (int)k0, error, plain);
            } else if (largest < 65504 * 127.0 && largest > 0x1p-10) {
                /* half a step; the largest element may miss by what rounding the scale to f16 lost */
                expect(c, worst <= s * 0.50002 + largest * 0x1p-11, "%s: row %d, group at %d: off by %g, scale %g", what,
                       (int)r, (int)k0, worst, s);
            }
            total.error += error;
            total.norm += norm;
        }
    return total;
}

/* What lies beyond the matrix is zero. */
static void check_padding(struct qcheck *c, const void *packed, int kind, int64_t n_out, int64_t n_in, const char *what)
{
    int64_t rows = (n_out + 15) / 16 * 16, cols = (n_in + 63) / 64 * 64, bad = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = r < n_out ? n_in : 0; k < cols; k++) {
            bad += stored_code(packed, kind, n_in, r, k) != (kind ? 128 : 8);
            if (r >= n_out || k / 32 * 32 >= n_in)
                bad += stored_scale(packed, kind, n_in, r, k) != 0;
        }
    expect(c, bad == 0, "%s: %d elements beyond the matrix are not zero", what, (int)bad);
}

static void check_rows(struct qcheck *c, const void *packed, int kind, int64_t n_out, int64_t n_in, const char *what)
{
    struct qvl_mat m = {.data = packed, .type = kind ? QVL_DT_Q8 : QVL_DT_Q4, .n_out = n_out, .n_in = n_in};
    for (int64_t r = 0; r < n_out; r++) {
        struct guarded row = guard_open((size_t)n_in * 4, 0);
        int64_t bad = 0;
        qvl_quant_row(row.p, &m, r);
        for (int64_t k = 0; k < n_in; k++) {
            double s = half_value(stored_scale(packed, kind, n_in, r, k));
            bad += !same_float(((float *)row.p)[k], (float)(s * (stored_code(packed, kind, n_in, r, k) - (kind ? 128 : 8))));
        }
        expect(c, bad == 0, "%s: row %d read back: %d of %d differ", what, (int)r, (int)bad, (int)n_in);
        guard_close(c, &row, what);
    }
}

static void check_one(struct qcheck *c, int64_t n_out, int64_t n_in, enum qvl_dtype type, int transposed, int kind,
                      enum fill fill, int weighted)
{
    char what[160];
    snprintf(what, sizeof what, "%s %dx%d from %s%s, fill %d%s", kind ? "q8" : "q4", (int)n_out, (int)n_in,
             qvl_dtype_name(type), transposed ? " transposed" : "", (int)fill, weighted ? ", weighted" : "");
    struct source s = make_source(c, n_out, n_in, type, transposed, fill);
    const enum qvl_dtype packed_type = kind ? QVL_DT_Q8 : QVL_DT_Q4;
    const size_t bytes = qvl_quant_bytes(packed_type, n_out, n_in);
    expect(c, bytes == stored_bytes(kind, n_out, n_in), "%s: %zu bytes, expected %zu", what, bytes,
           stored_bytes(kind, n_out, n_in));
    struct guarded dst = guard_open(bytes, (size_t)next_int(c, 0, 3)), parts = guard_open(bytes, 0),
                   ref = guard_open(bytes, 0);
    struct guarded work = guard_open(qvl_quant_work_bytes(n_in), 0);
    float *importance = qvl_calloc((size_t)n_in, 4);
    for (int64_t i = 0; i < n_in; i++)
        importance[i] = i / 32 % 5 == 3 ? 0 : expf(2 * next_normal(c)); /* some groups do not matter at all */
    const float *w = weighted ? importance : NULL;
    struct qvl_quant_error e = qvl_quant_pack(dst.p, packed_type, &s.mat, 0, n_out, w, c->k, work.p), sum = {0};
    qvl_quant_pack(ref.p, packed_type, &s.mat, 0, n_out, w, qvl_kernels_get(QVL_CPU_REF), work.p);
    for (int64_t r = 0; r < n_out; r += 32) {
        struct qvl_quant_error part =
            qvl_quant_pack(parts.p, packed_type, &s.mat, r, r + 32 < n_out ? r + 32 : n_out, w, c->k, work.p);
        sum.error += part.error;
        sum.norm += part.norm;
    }
    expect(c, !memcmp(dst.p, ref.p, bytes), "%s: bytes differ from those of the scalar level", what);
    expect(c, !memcmp(dst.p, parts.p, bytes), "%s: bytes depend on the split of rows", what);
    struct qvl_quant_error want = check_groups(c, &(struct packing){&s, kind, w, dst.p}, what);
    if (fill == BAD_ROWS) {
        expect(c, isnan(e.error) && isnan(e.norm), "%s: non-finite weights, but error %g", what, e.error);
    } else {
        expect(c, fabs(e.error - want.error) <= 1e-4 * want.error + 1e-9 * want.norm + 1e-60,
               "%s: reported error %g, found %g", what, e.error, want.error);
        expect(c, fabs(e.norm - want.norm) <= 1e-5 * want.norm + 1e-60, "%s: reported norm %g, found %g", what, e.norm,
               want.norm);
        expect(c, fabs(sum.error - e.error) <= 1e-12 * e.error, "%s: error of parts %g, of all %g", what, sum.error,
               e.error);
    }
    check_padding(c, dst.p, kind, n_out, n_in, what);
    check_rows(c, dst.p, kind, n_out, n_in, what);
    guard_close(c, &s.mem, what);
    guard_close(c, &dst, what);
    guard_close(c, &parts, what);
    guard_close(c, &ref, what);
    guard_close(c, &work, what);
    qvl_mem_free(importance);
    qvl_mem_free(s.value);
}

/* Known integers and a known scale come back exactly. */
static void check_exact(struct qcheck *c)
{
    enum { ROWS = 16, COLS = 64 };
    float x[ROWS * COLS];
    _Alignas(64) unsigned char packed[QVL_Q8_UNIT_BYTES], work[sizeof(struct qvl_quant_group) + 8192];
    struct qvl_mat m = {.data = x, .type = QVL_DT_F32, .n_out = ROWS, .n_in = COLS, .stride = COLS};
    for (int kind = 0; kind < 2; kind++) {
        for (int r = 0; r < ROWS; r++)
            for (int k = 0; k < COLS; k++) {
                int q = k % 32 == 5 ? (kind ? -127 : -8) : (int)(kind ? next_int(c, -127, 127) : next_int(c, -8, 7));
                x[r * COLS + k] = (r % 2 ? -0.25f : 0.125f) * (float)(kind ? abs(q) * (q < 0 ? -1 : 1) : q);
            }
        expect(c, qvl_quant_work_bytes(COLS) <= sizeof work, "work memory: %zu bytes", qvl_quant_work_bytes(COLS));
        struct qvl_quant_error e = qvl_quant_pack(packed, kind ? QVL_DT_Q8 : QVL_DT_Q4, &m, 0, ROWS, NULL, c->k, work);
        expect(c, e.error <= 1e-12 * e.norm, "%s: representable weights have error %g", kind ? "q8" : "q4", e.error);
        m.data = packed;
        m.type = kind ? QVL_DT_Q8 : QVL_DT_Q4;
        for (int r = 0; r < ROWS; r++) {
            float row[COLS];
            qvl_quant_row(row, &m, r);
            expect(c, !memcmp(row, x + r * COLS, sizeof row) || (x[r * COLS] == row[0] && x[r * COLS + 63] == row[63]),
                   "%s: row %d is not what was packed", kind ? "q8" : "q4", r);
        }
        m.data = x;
        m.type = QVL_DT_F32;
    }
}

/* Normal weights: the search must reach what a fine search in double does (0.0809; the plain choice is 0.0859). For q8 an
 * error uniform within half a step of max/127 and the expected maximum of 32 normals give 0.0053. */
static void check_quality(struct qcheck *c)
{
    struct source s = make_source(c, 256, 2048, QVL_DT_F32, 0, NORMAL);
    for (int kind = 0; kind < 2; kind++) {
        enum qvl_dtype type = kind ? QVL_DT_Q8 : QVL_DT_Q4;
        struct guarded dst = guard_open(qvl_quant_bytes(type, 256, 2048), 0),
                       work = guard_open(qvl_quant_work_bytes(2048), 0);
        struct qvl_quant_error e = qvl_quant_pack(dst.p, type, &s.mat, 0, 256, NULL, c->k, work.p);
        double r = sqrt(e.error / e.norm), limit = kind ? 0.0055 : 0.0813;
        expect(c, r > 0 && r <= limit, "%s: relative error of normal weights %.5f, allowed %.5f", kind ? "q8" : "q4", r,
               limit);
        guard_close(c, &dst, "quality");
        guard_close(c, &work, "quality");
    }
    guard_close(c, &s.mem, "quality");
    qvl_mem_free(s.value);
}

/* q4m: matrices that come from 4-bit codes are found again; others lose at most half a step and what rounding costs. */
enum grid { F16_MINIMUM, ZERO_POINT, FEW_CODES, NO_GRID, GRID_FILLS };

static void check_grid(struct qcheck *c, int64_t n_out, int64_t n_in, enum grid grid, int weighted)
{
    char what[96];
    snprintf(what, sizeof what, "q4m %dx%d, grid %d%s", (int)n_out, (int)n_in, (int)grid, weighted ? ", weighted" : "");
    float *x = qvl_calloc((size_t)(n_out * n_in), 4), *row = qvl_calloc((size_t)n_in, 4), *importance = qvl_calloc((size_t)n_in, 4);
    if (!x || !row || !importance)
        exit(1);
    for (int64_t i = 0; i < n_in; i++)
        importance[i] = expf(next_normal(c));
    for (int64_t r = 0; r < n_out; r++)
        for (int64_t k0 = 0; k0 < n_in; k0 += 32) {
            const double s = half_value(qvl_f32_to_f16(0.01f * expf(next_normal(c))));
            const double m = grid == F16_MINIMUM ? half_value(qvl_f32_to_f16(0.1f * next_normal(c))) : -s * (double)next_int(c, 0, 15);
            for (int64_t k = k0; k < n_in && k < k0 + 32; k++)
                x[r * n_in + k] = grid == NO_GRID      ? next_normal(c)
                                  : grid == FEW_CODES ? (float)(s * (double)next_int(c, 5, 6) + m)
                                                      : (float)(s * (double)next_int(c, 0, 15) + m);
        }
    struct qvl_mat from = {.data = x, .type = QVL_DT_F32, .n_out = n_out, .n_in = n_in, .stride = n_in}, to = from;
    const size_t bytes = qvl_quant_bytes(QVL_DT_Q4M, n_out, n_in);
    expect(c, bytes == stored_bytes(2, n_out, n_in), "%s: %zu bytes, expected %zu", what, bytes, stored_bytes(2, n_out, n_in));
    struct guarded dst = guard_open(bytes, (size_t)next_int(c, 0, 3)), work = guard_open(qvl_quant_work_bytes(n_in), 0);
    struct qvl_quant_error total = {0}, part;
    for (int64_t r = 0; r < n_out; r += 16) {
        part = qvl_quant_pack(dst.p, QVL_DT_Q4M, &from, r, r + 16 < n_out ? r + 16 : n_out, weighted ? importance : NULL, c->k, work.p);
        total.error += part.error;
        total.norm += part.norm;
    }
    to.data = dst.p;
    to.type = QVL_DT_Q4M;
    double error = 0, norm = 0;
    for (int64_t r = 0; r < n_out; r++) {
        qvl_quant_row(row, &to, r);
        for (int64_t k = 0; k < n_in; k++) {
            const double s = half_value(stored_scale(dst.p, 2, n_in, r, k)), m = half_value(stored_min(dst.p, n_in, r, k));
            const double d = x[r * n_in + k] - (s * stored_code(dst.p, 2, n_in, r, k) + m), w = weighted ? (double)importance[k] : 1;
            /* f16 keeps 11 bits: 2^-11 of the minimum, twice that of 15 steps for a scale that is not f16, and half a step off the grid */
            const double limit = grid == F16_MINIMUM ? fabs(x[r * n_in + k]) * 0x1p-22
                                 : grid == NO_GRID   ? 0.5001 * s + fabs(m) * 0x1p-11 + 15 * s * 0x1p-11
                                                     : fabs(m) * 0x1p-11 + fabs(s) * 0x1p-11;
            expect(c, fabs(d) <= limit, "%s: [%d][%d] %g is off by %g, allowed %g", what, (int)r, (int)k, (double)x[r * n_in + k], d, limit);
            expect(c, fabs(row[k] - (x[r * n_in + k] - d)) <= 1e-6 * (fabs(m) + 15 * s), "%s: read back %g", what, (double)row[k]);
            error += w * d * d;
            norm += w * x[r * n_in + k] * x[r * n_in + k];
        }
    }
    expect(c, fabs(total.error - error) <= 1e-4 * error + 1e-12 * norm && fabs(total.norm - norm) <= 1e-5 * norm,
           "%s: reported error %g of %g, found %g of %g", what, total.error, total.norm, error, norm);
    guard_close(c, &dst, what);
    guard_close(c, &work, what);
    qvl_mem_free(x);
    qvl_mem_free(row);
    qvl_mem_free(importance);
}

static void check_grids(struct qcheck *c)
{
    for (int grid = 0; grid < GRID_FILLS; grid++)
        for (int weighted = 0; weighted < 2; weighted++) {
            check_grid(c, 37, 96, (enum grid)grid, weighted);
            check_grid(c, 16, 256, (enum grid)grid, weighted);
            check_grid(c, 3, 75, (enum grid)grid, weighted);
        }
    float x[32] = {[7] = NAN}, row[32];
    _Alignas(64) unsigned char packed[QVL_Q4_UNIT_BYTES + QVL_Q4M_MIN_BYTES], work[sizeof(struct qvl_quant_group) + 8192];
    struct qvl_mat m = {.data = x, .type = QVL_DT_F32, .n_out = 1, .n_in = 32, .stride = 32};
    struct qvl_quant_error e = qvl_quant_pack(packed, QVL_DT_Q4M, &m, 0, 1, NULL, c->k, work);
    m.data = packed;
    m.type = QVL_DT_Q4M;
    qvl_quant_row(row, &m, 0);
    expect(c, isnan(row[0]) && isnan(e.error), "q4m: a group with NaN has scale %g, error %g", (double)row[0], e.error);
}

static void check_half(struct qcheck *c)
{
    long bad = 0;
    for (int h = 0; h < 0x7c00; h++) { /* every finite value, the middle to the next, and just beside the middle */
        double a = half_value((uint16_t)h), b = h == 0x7bff ? 65536 : half_value((uint16_t)(h + 1)), mid = (a + b) / 2;
        bad += qvl_f32_to_f16((float)a) != h || qvl_f32_to_f16(-(float)a) != (h | 0x8000);
        bad += qvl_f32_to_f16((float)mid) != (h & 1 ? h + 1 : h);
        bad += qvl_f32_to_f16(nextafterf((float)mid, 0)) != h || qvl_f32_to_f16(nextafterf((float)mid, 1e9f)) != h + 1;
    }
    bad +=
        qvl_f32_to_f16(INFINITY) != 0x7c00 || qvl_f32_to_f16(-1e30f) != 0xfc00 || (qvl_f32_to_f16(NAN) & 0x7fff) <= 0x7c00;
    expect(c, bad == 0, "f32 to f16: %ld of 31744 values are rounded wrongly", bad);
}

static void check_bytes(struct qcheck *c)
{
    expect(c, qvl_quant_bytes(QVL_DT_BF16, 16, 64) == 0, "bytes of bf16");
    expect(c, qvl_quant_bytes(QVL_DT_Q4, 16, 64) == 576 && qvl_quant_bytes(QVL_DT_Q8, 17, 65) == 4 * 1088,
           "bytes of small matrices");
    expect(c, qvl_quant_bytes(QVL_DT_Q4, INT64_MAX, 64) == 0 && qvl_quant_bytes(QVL_DT_Q4, INT64_MAX / 2, INT64_MAX / 2) == 0
                  && qvl_quant_bytes(QVL_DT_Q8, 1, -1) == 0,
           "bytes that overflow");
}

void check_pack(struct qcheck *c)
{
    static const int64_t shapes[][2] = {{16, 64}, {1, 1}, {48, 256}, {35, 100}, {17, 33}, {70, 31}, {5, 4304}, {33, 96}};
    static const enum qvl_dtype types[] = {QVL_DT_F32, QVL_DT_BF16, QVL_DT_F16};
    check_half(c);
    check_bytes(c);
    check_exact(c);
    check_quality(c);
    check_grids(c);
    for (size_t s = 0; s < QVL_COUNT(shapes); s++)
        for (int kind = 0; kind < 2; kind++)
            for (int transposed = 0; transposed < 2; transposed++) {
                for (size_t t = 0; t < QVL_COUNT(types); t++)
                    check_one(c, shapes[s][0], shapes[s][1], types[t], transposed, kind, NORMAL, (int)(t + s) % 2);
                if (shapes[s][1] > 40)
                    for (int f = 1; f < FILLS; f++)
                        check_one(c, shapes[s][0], shapes[s][1], QVL_DT_F32, transposed, kind, (enum fill)f,
                                  (f + kind + transposed) % 2);
            }
}
