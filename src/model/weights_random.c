/* weights_random.c - weights of a configuration's shapes without a checkpoint, for measuring.
 *
 * All tensors lie in one anonymous mapping, in the published layout (experts input first). Matrix elements are drawn
 * from 4096 quantiles of N(0, 1/n_in), twelve random bits each: the first touch of the memory takes most of the time, and
 * the draw stays below it. Integer kinds get random codes and one scale that gives the same variance. The same
 * configuration gives the same bytes everywhere. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/half.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "kernels/quant.h"
#include "model/weights_bind.h"

#define N_QUANTILE 4096

struct fill {
    struct qvl_weights *w;
    const struct qvl_config *config;
    enum qvl_dtype type;
    size_t width;            /* bytes of a matrix element */
    enum qvl_dtype packed;   /* QVL_DT_Q4 or QVL_DT_Q8: the decoder's matrices; QVL_DT_UNKNOWN: none */
    unsigned char *base;     /* NULL: only count */
    size_t used;
    uint64_t state[2];       /* xorshift128+ */
    double normal[N_QUANTILE]; /* quantiles of N(0, 1) */
    int64_t table_n_in;      /* what the table below was made for */
    union {
        uint16_t bf16[N_QUANTILE];
        float f32[N_QUANTILE];
    } table;
};

/* Quantiles in the middle of 4096 slices of equal probability, by bisection of the distribution function. */
static void make_quantiles(double *q)
{
    for (int i = 0; i < N_QUANTILE / 2; i++) {
        double p = (i + 0.5) / N_QUANTILE, lo = -8, hi = 0;
        for (int step = 0; step < 45; step++) {
            double mid = (lo + hi) / 2;
            if (0.5 * erfc(-mid * 0.70710678118654752440) < p)
                lo = mid;
            else
                hi = mid;
        }
        q[i] = lo;
        q[N_QUANTILE - 1 - i] = -lo;
    }
}

static inline uint64_t next(uint64_t s[2])
{
    uint64_t a = s[0], b = s[1];
    s[0] = b;
    a ^= a << 23;
    s[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return s[1] + b;
}

static void make_table(struct fill *f, int64_t n_in)
{
    double scale = 1 / sqrt((double)n_in);
    if (f->table_n_in == n_in)
        return;
    f->table_n_in = n_in;
    for (int i = 0; i < N_QUANTILE; i++) {
        float v = (float)(f->normal[i] * scale);
        if (f->type == QVL_DT_BF16)
            f->table.bf16[i] = qvl_f32_to_bf16(v);
        else
            f->table.f32[i] = v;
    }
}

/* n elements, five from each draw; the highest bits of the generator are its best. */
static void fill_elems(struct fill *f, void *dst, size_t n)
{
    uint64_t s[2] = {f->state[0], f->state[1]};
    uint16_t *h = dst;
    float *x = dst;
    for (size_t i = 0; i < n;) {
        uint64_t r = next(s);
        size_t end = n - i < 5 ? n : i + 5;
        if (f->type == QVL_DT_BF16)
            for (; i < end; i++, r <<= 12)
                h[i] = f->table.bf16[r >> 52];
        else
            for (; i < end; i++, r <<= 12)
                x[i] = f->table.f32[r >> 52];
    }
    f->state[0] = s[0];
    f->state[1] = s[1];
}

/* The next n elements of `width` bytes at a multiple of 64. An overflow leaves used at SIZE_MAX. */
static void *take(struct fill *f, int64_t n, size_t width)
{
    size_t bytes, at = f->used;
    if (qvl_mul_size(&bytes, (size_t)n, width) || bytes > SIZE_MAX / 4 || f->used > SIZE_MAX / 4) {
        f->used = SIZE_MAX;
        return NULL;
    }
    f->used = at + qvl_round_up(bytes, QVL_ALIGN);
    return f->base ? f->base + at : NULL;
}

static void random_mat(struct fill *f, struct qvl_mat *m, int64_t n_out, int64_t n_in)
{
    void *p = take(f, n_out * n_in, f->width);
    if (!p)
        return;
    make_table(f, n_in);
    fill_elems(f, p, (size_t)(n_out * n_in));
    *m = (struct qvl_mat){.data = p, .type = f->type, .n_out = n_out, .n_in = n_in, .stride = n_in};
}

/* Codes are uniform: their variance is (16^2 - 1)/12 for q4 and (256^2 - 1)/12 for q8. */
static void random_packed(struct fill *f, struct qvl_mat *m, int64_t n_out, int64_t n_in)
{
    int q4 = f->packed == QVL_DT_Q4;
    size_t unit = q4 ? QVL_Q4_UNIT_BYTES : QVL_Q8_UNIT_BYTES, codes = unit - 64, bytes = qvl_quant_bytes(f->packed, n_out, n_in);
    uint16_t scale = qvl_f32_to_f16((float)(1 / sqrt((double)n_in * (q4 ? 255 : 65535) / 12)));
    unsigned char *p = take(f, (int64_t)bytes, 1);
    if (!p)
        return;
    for (size_t at = 0; at < bytes; at += unit) {
        for (size_t i = 0; i < codes; i += 8) {
            uint64_t r = next(f->state);
            memcpy(p + at + i, &r, 8);
        }
        for (size_t i = codes; i < unit; i += 2)
            memcpy(p + at + i, &scale, 2);
    }
    *m = (struct qvl_mat){.data = p, .type = f->packed, .n_out = n_out, .n_in = n_in, .stride = n_in};
}

static void random_vec(struct fill *f, const struct qvl_slot *s)
{
    float *p = take(f, s->n_out, sizeof *p);
    if (!p)
        return;
    for (int64_t i = 0; i < s->n_out; i++)
        p[i] = s->ones ? 1.0f : 0.0f;
    *s->vec = p;
}

/* gate_up [E][H][2F], down [E][F][H] */
static void random_experts(struct fill *f, const struct qvl_slot *s)
{
    int64_t ff = s->n_out, h = s->n_in;
    struct qvl_mat none = {0};
    for (int64_t e = 0; e < s->n_expert; e++) {
        if (f->packed) {
            random_packed(f, f->base ? &s->layer->e_gate[e] : &none, ff, h);
            random_packed(f, f->base ? &s->layer->e_up[e] : &none, ff, h);
            random_packed(f, f->base ? &s->layer->e_down[e] : &none, h, ff);
            continue;
        }
        unsigned char *gu = take(f, h * 2 * ff, f->width), *dn = take(f, h * ff, f->width);
        if (!gu || !dn)
            continue;
        struct qvl_mat m = {.data = gu, .type = f->type, .transposed = 1, .n_out = ff, .n_in = h, .stride = 2 * ff};
        make_table(f, h);
        fill_elems(f, gu, (size_t)(h * 2 * ff));
        make_table(f, ff);
        fill_elems(f, dn, (size_t)(h * ff));
        s->layer->e_gate[e] = m;
        m.data = gu + (size_t)ff * f->width;
        s->layer->e_up[e] = m;
        s->layer->e_down[e] = (struct qvl_mat){.data = dn, .type = f->type, .transposed = 1, .n_out = h, .n_in = ff, .stride = h};
    }
}

/* What packing a checkpoint would pack: the decoder's matrices and the head; not the embedding and the router. */
static int is_packed(const struct fill *f, const struct qvl_slot *s)
{
    if (!f->packed)
        return 0;
    size_t n = strlen(s->name);
    return s->kind == QVL_SLOT_HEAD || (s->kind == QVL_SLOT_MAT && !strncmp(s->name, "language_model.layers.", 22) &&
                                        (n < 16 || strcmp(s->name + n - 16, ".mlp.gate.weight")));
}

static int slot(void *ud, const struct qvl_slot *s)
{
    struct fill *f = ud;
    struct qvl_mat none = {0};
    if (is_packed(f, s)) {
        random_packed(f, f->base ? s->mat : &none, s->n_out, s->n_in);
        return f->used == SIZE_MAX ? QVL_E_LIMIT : 0;
    }
    if (s->kind == QVL_SLOT_HEAD && f->config->text.tied) {
        if (f->base)
            *s->mat = f->w->text.embed;
        return 0;
    }
    if (s->kind == QVL_SLOT_VEC)
        random_vec(f, s);
    else if (s->kind == QVL_SLOT_EXPERTS)
        random_experts(f, s);
    else
        random_mat(f, s->mat, s->n_out, s->n_in);
    return f->used == SIZE_MAX ? QVL_E_LIMIT : 0;
}

static int allocate(struct fill *f, size_t bytes, qvl_err *err)
{
    struct qvl_weights_owned *o = f->w->owned;
    struct qvl_memory mem;
    qvl_memory_get(&mem);
    if (bytes > mem.available)
        return qvl_fail(err, QVL_E_NOMEM, "random weights: %.1f GB needed, %.1f GB available (%s)", (double)bytes / 1e9,
                        (double)mem.available / 1e9, mem.limit);
    QVL_TRY(qvl_pages_open(&o->pages, bytes, "random weights", err));
    f->base = o->pages.data;
    return 0;
}

static int fill_all(struct fill *f, qvl_err *err)
{
    uint64_t mapped, copied;
    if (qvl_weights_each(NULL, f->config, slot, f))
        return qvl_fail(err, QVL_E_LIMIT, "random weights: the sizes overflow");
    size_t bytes = f->used;
    QVL_TRY(qvl_weights_alloc(f->w, f->config, err));
    QVL_TRY(allocate(f, bytes, err));
    f->used = 0;
    make_quantiles(f->normal);
    QVL_TRY(qvl_weights_each(f->w, f->config, slot, f));
    f->w->copied_bytes = f->used;
    return qvl_weights_estimate(f->config, f->type, &mapped, &copied, &f->w->n_params);
}

int qvl_weights_random(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype type, qvl_err *err)
{
    enum qvl_dtype packed = type == QVL_DT_Q4 || type == QVL_DT_Q8 ? type : QVL_DT_UNKNOWN;
    *w = (struct qvl_weights){0};
    if (packed)
        type = QVL_DT_BF16;
    if (type != QVL_DT_F32 && type != QVL_DT_BF16)
        return qvl_fail(err, QVL_E_ARG, "random weights: type: found %s, expected F32 or BF16", qvl_dtype_name(type));
    struct fill *f = qvl_calloc(1, sizeof *f);
    if (!f)
        return qvl_fail_nomem(err, sizeof *f, "random weights");
    *f = (struct fill){.w = w, .config = c, .type = type, .packed = packed, .width = qvl_dtype_bits(type) / 8,
                       .state = {UINT64_C(0x243f6a8885a308d3), UINT64_C(0x13198a2e03707344)}};
    int rc = fill_all(f, err);
    qvl_mem_free(f);
    if (rc)
        qvl_weights_free(w);
    return rc;
}
