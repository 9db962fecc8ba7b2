/* check_attention.c - cache and attention of a team against softmax sums in double. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kcheck.h"

struct problem {
    int64_t n_tok, first, n_key; /* n_key: not causal */
    int n_head, n_kv, head_dim, causal;
    enum qvl_kv_type type;
    float spread; /* of queries and keys: large ones make the softmax sharp */
};

struct data {
    struct problem p;
    int64_t n_pos;
    float *q, *k, *v; /* [n_tok][n_head*hd], [n_kv][n_pos][hd] */
    struct qvl_kv *kv;
    struct guarded *mem; /* [2*n_kv] */
};

static struct data make_data(struct check *c, const struct problem *p)
{
    struct data d = {.p = *p, .n_pos = p->causal ? p->first + p->n_tok : p->n_key};
    int64_t capacity = d.n_pos + next_int(c, 0, 20);
    size_t bytes = qvl_kv_bytes(p->type, p->head_dim, capacity);
    d.q = qvl_alloc((size_t)(p->n_tok * p->n_head * p->head_dim), 4);
    d.k = qvl_alloc((size_t)(p->n_kv * d.n_pos * p->head_dim), 4);
    d.v = qvl_alloc((size_t)(p->n_kv * d.n_pos * p->head_dim), 4);
    d.kv = qvl_calloc((size_t)p->n_kv, sizeof *d.kv);
    d.mem = qvl_calloc((size_t)p->n_kv * 2, sizeof *d.mem);
    fill_normal(c, d.q, p->n_tok * p->n_head * p->head_dim, p->spread);
    fill_normal(c, d.k, p->n_kv * d.n_pos * p->head_dim, p->spread);
    fill_normal(c, d.v, p->n_kv * d.n_pos * p->head_dim, 1);
    for (int h = 0; h < p->n_kv; h++) {
        d.mem[2 * h] = guard_open(bytes, 1, 0);
        d.mem[2 * h + 1] = guard_open(bytes, 1, 0);
        memset(d.mem[2 * h].p, 0, bytes);
        memset(d.mem[2 * h + 1].p, 0, bytes);
        d.kv[h] = (struct qvl_kv){.k = d.mem[2 * h].p, .v = d.mem[2 * h + 1].p, .head_dim = p->head_dim, .n_max = capacity};
        for (int64_t i = 0; i < d.n_pos; i++)
            qvl_kv_store(p->type, &d.kv[h], i, d.k + (h * d.n_pos + i) * p->head_dim,
                         d.v + (h * d.n_pos + i) * p->head_dim);
    }
    return d;
}

static void free_data(struct check *c, struct data *d)
{
    for (int h = 0; h < 2 * d->p.n_kv; h++)
        guard_close(c, &d->mem[h], "cache");
    qvl_mem_free(d->q);
    qvl_mem_free(d->k);
    qvl_mem_free(d->v);
    qvl_mem_free(d->kv);
    qvl_mem_free(d->mem);
}

struct run {
    const struct qvl_kernels *k;
    enum qvl_kv_type type;
    const struct qvl_attention *op;
    const struct qvl_scratch *s;
};

static void run_team(void *ud, const struct qvl_team *t)
{
    const struct run *r = ud;
    qvl_attention(t, r->k, r->type, r->op, r->s);
}

static void attend(struct check *c, const struct qvl_kernels *k, enum qvl_kv_type type, const struct qvl_attention *op,
                   unsigned threads)
{
    struct qvl_pool *pool;
    qvl_err err;
    int64_t n_key = op->causal ? op->first + op->n_tok : op->n_key;
    struct qvl_scratch s = {
        .bytes = qvl_attention_scratch(k, type, op->n_tok, op->n_head, op->n_kv, op->head_dim, n_key, (int)threads)};
    struct guarded mem = guard_open(s.bytes, 1, 0);
    s.mem = mem.p;
    if (qvl_pool_open(&pool, threads, &err))
        return;
    struct run r = {.k = k, .type = type, .op = op, .s = &s};
    qvl_pool_run(pool, run_team, &r);
    qvl_pool_close(&pool);
    guard_close(c, &mem, "attention scratch");
}

/* Rows of which the bits differ from what an INT8 cache must give. */
static long count_unequal(const struct data *d, const float *got, float scale)
{
    const struct problem *p = &d->p;
    long unequal = 0;
    float want[256];
    for (int64_t i = 0; i < p->n_tok; i++)
        for (int j = 0; j < p->n_head; j++) {
            int64_t kv = j / (p->n_head / p->n_kv) * d->n_pos * p->head_dim, row = (i * p->n_head + j) * p->head_dim;
            expected_int8_row(want, d->q + row, d->k + kv, d->v + kv, p->causal ? p->first + i + 1 : p->n_key, p->head_dim,
                              scale);
            unequal += memcmp(want, got + row, (size_t)p->head_dim * 4) != 0;
        }
    return unequal;
}

/* Row i, head j of the exact result. */
static void exact(const struct data *d, int64_t i, int j, double scale, double *out, double *weight)
{
    const struct problem *p = &d->p;
    int bf16 = p->type == QVL_KV_BF16, hd = p->head_dim, h = j / (p->n_head / p->n_kv);
    int64_t n = p->causal ? p->first + i + 1 : p->n_key;
    double top = -INFINITY, sum = 0;
    for (int64_t t = 0; t < n; t++) {
        double s = 0;
        for (int e = 0; e < hd; e++) {
            double q = d->q[(i * p->n_head + j) * hd + e], k = d->k[(h * d->n_pos + t) * hd + e];
            s += bf16 ? round_to_bf16(q) * round_to_bf16(k) : q * k;
        }
        weight[t] = s * scale;
        top = weight[t] > top ? weight[t] : top;
    }
    for (int64_t t = 0; t < n; t++)
        sum += weight[t] = exp(weight[t] - top);
    for (int e = 0; e < hd; e++) {
        out[e] = 0;
        for (int64_t t = 0; t < n; t++) {
            double v = d->v[(h * d->n_pos + t) * hd + e];
            out[e] += weight[t] / sum * (bf16 ? round_to_bf16(v) : v);
        }
    }
}

static void one(struct check *c, const struct problem *p)
{
    char what[160];
    snprintf(what, sizeof what, "attention tok=%d first=%d n_key=%d heads=%d/%d hd=%d causal=%d type=%d spread=%g",
             (int)p->n_tok, (int)p->first, (int)p->n_key, p->n_head, p->n_kv, p->head_dim, p->causal, (int)p->type,
             (double)p->spread);
    struct data d = make_data(c, p);
    int64_t width = p->n_head * p->head_dim, stride = width + 5;
    float scale = (float)(1 / sqrt(p->head_dim));
    size_t elems = (size_t)((p->n_tok - 1) * stride + width);
    float *q = qvl_alloc((size_t)(p->n_tok * (width + 3)), 4), *first = qvl_alloc(elems, 4);
    for (int64_t i = 0; i < p->n_tok; i++)
        memcpy(q + i * (width + 3), d.q + i * width, (size_t)width * 4);
    struct qvl_attention op = {.q = q,
                               .kv = d.kv,
                               .n_tok = p->n_tok,
                               .out_stride = stride,
                               .q_stride = width + 3,
                               .n_head = p->n_head,
                               .n_kv = p->n_kv,
                               .head_dim = p->head_dim,
                               .causal = p->causal,
                               .first = p->first,
                               .n_key = p->n_key,
                               .scale = scale};
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct guarded out = guard_open(elems, 4, 4);
        op.out = out.p;
        attend(c, c->k, p->type, &op, threads);
        if (threads == 1)
            memcpy(first, out.p, elems * 4);
        else
            expect(c, !memcmp(first, out.p, elems * 4), "%s: %u threads give other bytes than one", what, threads);
        guard_close(c, &out, what);
    }
    double *want = qvl_alloc((size_t)(p->n_tok * width), 8), *weight = qvl_alloc((size_t)d.n_pos, 8);
    float *got = qvl_alloc((size_t)(p->n_tok * width), 4);
    for (int64_t i = 0; i < p->n_tok; i++) {
        memcpy(got + i * width, first + i * stride, (size_t)width * 4);
        for (int j = 0; j < p->n_head; j++)
            exact(&d, i, j, scale, want + i * width + j * p->head_dim, weight);
    }
    /* F32: scores of magnitude S carry an error of about S 2^-24 into the exponent. BF16: probabilities are rounded. */
    double sharp = 1 + p->spread * p->spread * sqrt(p->head_dim);
    if (p->type == QVL_KV_F32)
        expect_close(c, got, want, p->n_tok * width, 4e-7 * sharp, 0, 1.5e-6 * sharp, what);
    else if (p->type == QVL_KV_BF16)
        expect_close(c, got, want, p->n_tok * width, 4e-3, 0, 2e-2, what);
    else {
        /* Rounding to steps of largest/127, the largest being 2.7 of a normal row of 128: 0.6 % of a value. The error of a score
         * is that times spread^2, and both add up as squares; twice that for luck, and single outputs five times. */
        double error = 2 * 0.0061 * sqrt(1 + pow(p->spread, 4));
        long unequal = count_unequal(&d, got, scale);
        expect(c, unequal == 0, "%s: %ld rows do not have the expected bits", what, unequal);
        expect_close(c, got, want, p->n_tok * width, error, 0, 5 * error, what);
    }
    /* One token at a time gives the same bytes as all at once. */
    if (p->causal && p->n_tok <= 40) {
        long other = 0;
        float *row = qvl_alloc((size_t)width, 4);
        for (int64_t i = 0; i < p->n_tok; i++) {
            struct qvl_attention single = op;
            single.n_tok = 1;
            single.first = p->first + i;
            single.q = q + i * (width + 3);
            single.out = row;
            attend(c, c->k, p->type, &single, 2);
            other += memcmp(row, first + i * stride, (size_t)width * 4) != 0;
        }
        expect(c, other == 0, "%s: %ld rows differ when computed alone", what, other);
        qvl_mem_free(row);
    }
    qvl_mem_free(q);
    qvl_mem_free(first);
    qvl_mem_free(want);
    qvl_mem_free(weight);
    qvl_mem_free(got);
    free_data(c, &d);
}

/* NaN in one query row spoils that row and head only; a key that is far ahead wins alone without overflow. */
static void extremes(struct check *c, enum qvl_kv_type type)
{
    struct problem p = {.n_tok = 9, .n_head = 4, .n_kv = 2, .head_dim = 72, .n_key = 700, .type = type, .spread = 1};
    struct data d = make_data(c, &p);
    int64_t width = 4 * 72;
    float *out = qvl_alloc((size_t)(9 * width), 4);
    struct qvl_attention op = {.out = out,
                               .q = d.q,
                               .kv = d.kv,
                               .n_tok = 9,
                               .out_stride = width,
                               .q_stride = width,
                               .n_head = 4,
                               .n_kv = 2,
                               .head_dim = 72,
                               .n_key = 700,
                               .scale = 0.1f};
    d.q[4 * width + 72 + 7] = NAN; /* row 4, head 1 */
    attend(c, c->k, type, &op, 2);
    long wrong = 0;
    for (int64_t i = 0; i < 9 * width; i++) {
        int spoiled = i / width == 4 && i % width / 72 == 1;
        wrong += spoiled ? !isnan(out[i]) : !isfinite(out[i]);
    }
    expect(c, wrong == 0, "attention type=%d: %ld outputs wrong with a NaN in one query", (int)type, wrong);
    d.q[4 * width + 72 + 7] = 0;
    for (int64_t i = 0; i < 9 * width; i++)
        d.q[i] = 100;
    float key[72], value[72];
    for (int e = 0; e < 72; e++) {
        key[e] = 300;
        value[e] = (float)e;
    }
    qvl_kv_store(type, &d.kv[0], 613, key, value);
    qvl_kv_store(type, &d.kv[1], 0, key, value);
    attend(c, c->k, type, &op, 3);
    wrong = 0;
    for (int64_t i = 0; i < 9 * width; i++)
        wrong += !(fabs((double)out[i] - (double)(i % 72)) <= (type == QVL_KV_INT8 ? 71 / 253.9 : 1e-5)); /* half a step */
    expect(c, wrong == 0, "attention type=%d: %ld outputs wrong when one key takes it all", (int)type, wrong);
    qvl_mem_free(out);
    free_data(c, &d);
}

/* Many positions at once give the bytes of one after the other. */
static void store_rows(struct check *c, enum qvl_kv_type type, int head_dim, int64_t n)
{
    const int64_t stride = head_dim + 3, capacity = n + 16;
    size_t bytes = qvl_kv_bytes(type, head_dim, capacity);
    float *k = qvl_alloc((size_t)(n * stride), 4), *v = qvl_alloc((size_t)(n * stride), 4);
    struct guarded mem[4];
    for (int i = 0; i < 4; i++) {
        mem[i] = guard_open(bytes, 1, 0);
        memset(mem[i].p, 0, bytes);
    }
    struct qvl_kv a = {.k = mem[0].p, .v = mem[1].p, .head_dim = head_dim, .n_max = capacity}, b = a;
    b.k = mem[2].p;
    b.v = mem[3].p;
    fill_wild(c, k, n * stride, 1e4f);
    fill_wild(c, v, n * stride, 1e4f);
    for (int64_t i = 0; i < n; i++)
        qvl_kv_store(type, &a, 16 + i, k + i * stride, v + i * stride);
    qvl_kv_store_rows(c->k, type, &b, 16, n, k, v, stride);
    expect(c, !memcmp(a.k, b.k, bytes) && !memcmp(a.v, b.v, bytes), "cache type=%d hd=%d: %d positions at once differ", (int)type,
           head_dim, (int)n);
    for (int i = 0; i < 4; i++)
        guard_close(c, &mem[i], "cache");
    qvl_mem_free(k);
    qvl_mem_free(v);
}

/* INT8: keys and values that are not finite spoil the rows that see them and no others. */
static void poison(struct check *c)
{
    enum { TOK = 40, AT = 17, HD = 32 };
    for (int what = 0; what < 3; what++) {
        struct problem p = {.n_tok = TOK, .n_head = 2, .n_kv = 1, .head_dim = HD, .causal = 1, .first = 500,
                            .type = QVL_KV_INT8, .spread = 1};
        struct data d = make_data(c, &p);
        float out[TOK * 2 * HD], key[HD] = {0}, value[HD] = {0};
        struct qvl_attention op = {.out = out, .q = d.q, .kv = d.kv, .n_tok = TOK, .out_stride = 2 * HD, .q_stride = 2 * HD,
                                   .n_head = 2, .n_kv = 1, .head_dim = HD, .causal = 1, .first = 500, .scale = 0.2f};
        if (what != 1)
            key[3] = what ? INFINITY : NAN;
        if (what != 0)
            value[5] = what == 1 ? NAN : -INFINITY;
        qvl_kv_store(QVL_KV_INT8, &d.kv[0], 500 + AT, key, value);
        attend(c, c->k, QVL_KV_INT8, &op, 2);
        long wrong = 0;
        for (int i = 0; i < TOK * 2 * HD; i++)
            wrong += i / (2 * HD) >= AT ? !isnan(out[i]) : !isfinite(out[i]);
        expect(c, wrong == 0, "int8 cache: %ld outputs wrong with something not finite at one position, case %d", wrong, what);
        free_data(c, &d);
    }
}

/* INT8: zero keys and values, and tiny ones, count as zero; the mean of nothing else is zero. */
static void zeros(struct check *c)
{
    struct problem p = {.n_tok = 3, .n_head = 2, .n_kv = 1, .head_dim = 20, .n_key = 70, .type = QVL_KV_INT8, .spread = 0};
    struct data d = make_data(c, &p);
    float out[3 * 40], tiny[20];
    struct qvl_attention op = {.out = out, .q = d.q, .kv = d.kv, .n_tok = 3, .out_stride = 40, .q_stride = 40, .n_head = 2,
                               .n_kv = 1, .head_dim = 20, .n_key = 70, .scale = 1};
    for (int i = 0; i < 20; i++)
        tiny[i] = 1e-38f;
    for (int i = 0; i < 70; i++)
        qvl_kv_store(QVL_KV_INT8, &d.kv[0], i, tiny, tiny);
    for (int i = 0; i < 3 * 40; i++)
        d.q[i] = i < 40 ? 0 : 1e30f;
    attend(c, c->k, QVL_KV_INT8, &op, 1);
    long wrong = 0;
    for (int i = 0; i < 3 * 40; i++)
        wrong += !(out[i] == 0);
    expect(c, wrong == 0, "int8 cache of zeros: %ld outputs are not zero", wrong);
    free_data(c, &d);
}

/* INT8: one channel of all keys is 50 times larger than the others, as models have them. Rotation leaves its steps at about 2.6
 * times those of a normal key (50/sqrt(128) more in each); without, they would be 15 times as large. */
static void outlier_channel(struct check *c)
{
    struct problem p = {.n_tok = 8, .n_head = 4, .n_kv = 1, .head_dim = 128, .n_key = 600, .type = QVL_KV_INT8, .spread = 1};
    struct data d = make_data(c, &p);
    int64_t width = 4 * 128;
    float *out = qvl_alloc((size_t)(8 * width), 4), scale = (float)(1 / sqrt(128));
    double *want = qvl_alloc((size_t)(8 * width), 8), *weight = qvl_alloc(600, 8);
    struct qvl_attention op = {.out = out, .q = d.q, .kv = d.kv, .n_tok = 8, .out_stride = width, .q_stride = width,
                               .n_head = 4, .n_kv = 1, .head_dim = 128, .n_key = 600, .scale = scale};
    for (int64_t i = 0; i < 8 * 4; i++)
        d.q[i * 128 + 77] /= 50;
    for (int64_t i = 0; i < 600; i++) {
        d.k[i * 128 + 77] *= 50;
        qvl_kv_store(QVL_KV_INT8, &d.kv[0], i, d.k + i * 128, d.v + i * 128);
    }
    attend(c, c->k, QVL_KV_INT8, &op, 1);
    for (int64_t i = 0; i < 8; i++)
        for (int j = 0; j < 4; j++)
            exact(&d, i, j, scale, want + i * width + j * 128, weight);
    expect_close(c, out, want, 8 * width, 2 * 0.0061 * sqrt(1 + 2.6 * 2.6), 0, 0.02, "int8 cache with an outlier channel");
    qvl_mem_free(out);
    qvl_mem_free(want);
    qvl_mem_free(weight);
    free_data(c, &d);
}

static void sizes(struct check *c)
{
    expect(c, qvl_kv_bytes(QVL_KV_INT8, 256, INT64_MAX) == SIZE_MAX, "int8 cache of 2^63 positions has a size");
    expect(c, qvl_kv_bytes(QVL_KV_INT8, 128, 262144) == (size_t)262144 * (128 + 4), "int8 cache of 262144 positions");
    expect(c, qvl_kv_bytes(QVL_KV_INT8, 72, 17) == (size_t)32 * (80 + 4), "int8 cache of 17 positions of 72");
    expect(c, qvl_kv_bytes(QVL_KV_F32, 256, INT64_MAX) == SIZE_MAX, "cache of 2^63 positions has a size");
    expect(c, qvl_kv_bytes(QVL_KV_BF16, 128, 262144) == (size_t)262144 * 128 * 2, "cache of 262144 positions");
    expect(c, qvl_kv_bytes(QVL_KV_BF16, 72, 17) == (size_t)32 * 80 * 2, "cache of 17 positions of 72");
    expect(c, qvl_attention_scratch(c->k, QVL_KV_F32, 4096, 64, 8, 128, 262144, 64) != SIZE_MAX,
           "scratch of a long context");
}

static void check_types(struct check *c, enum qvl_kv_type low, enum qvl_kv_type high)
{
    static const struct problem problems[] = {
        {.n_tok = 1, .first = 0, .n_head = 1, .n_kv = 1, .head_dim = 4, .causal = 1, .spread = 1},
        {.n_tok = 5, .first = 0, .n_head = 3, .n_kv = 3, .head_dim = 12, .causal = 1, .spread = 1},
        {.n_tok = 40, .first = 0, .n_head = 4, .n_kv = 2, .head_dim = 64, .causal = 1, .spread = 1},
        {.n_tok = 33, .first = 500, .n_head = 8, .n_kv = 2, .head_dim = 128, .causal = 1, .spread = 1},
        {.n_tok = 7, .first = 1100, .n_head = 10, .n_kv = 2, .head_dim = 20, .causal = 1, .spread = 2},
        {.n_tok = 3, .first = 1533, .n_head = 8, .n_kv = 1, .head_dim = 36, .causal = 1, .spread = 1},
        {.n_tok = 1, .first = 1535, .n_head = 7, .n_kv = 1, .head_dim = 128, .causal = 1, .spread = 1},
        {.n_tok = 1, .first = 2000, .n_head = 6, .n_kv = 1, .head_dim = 256, .causal = 1, .spread = 0.5f},
        {.n_tok = 130, .first = 0, .n_head = 2, .n_kv = 1, .head_dim = 44, .causal = 1, .spread = 1},
        {.n_tok = 101, .n_key = 101, .n_head = 2, .n_kv = 2, .head_dim = 64, .spread = 1},
        {.n_tok = 48, .n_key = 600, .n_head = 2, .n_kv = 2, .head_dim = 72, .spread = 1},
        {.n_tok = 200, .n_key = 513, .n_head = 1, .n_kv = 1, .head_dim = 80, .spread = 3},
        {.n_tok = 2, .n_key = 1, .n_head = 1, .n_kv = 1, .head_dim = 8, .spread = 1},
        {.n_tok = 17, .n_key = 64, .n_head = 3, .n_kv = 1, .head_dim = 28, .spread = 6},
    };
    for (size_t i = 0; i < QVL_COUNT(problems); i++)
        for (int a = low; a <= (int)high; a++) {
            struct problem p = problems[i];
            p.type = (enum qvl_kv_type)a;
            one(c, &p);
        }
    for (int n = 1; n <= 26; n++) /* every way in which rows share tiles, over several parts of a block */
        for (int a = low; a <= (int)high; a++) {
            struct problem p = {.n_tok = n, .n_key = 300, .n_head = 1, .n_kv = 1, .head_dim = 16, .spread = 1, .type = (enum qvl_kv_type)a};
            one(c, &p);
            p.causal = 1;
            p.first = 290;
            one(c, &p);
        }
    for (int a = low; a <= (int)high; a++)
        extremes(c, (enum qvl_kv_type)a);
}

void check_attention(struct check *c)
{
    check_types(c, QVL_KV_F32, QVL_KV_BF16);
    for (int hd = 4; hd <= 256; hd += hd < 80 ? 4 : 44)
        for (int a = QVL_KV_F32; a <= QVL_KV_INT8; a++)
            store_rows(c, (enum qvl_kv_type)a, hd, hd % 8 ? 16 : 37);
    sizes(c);
}

void check_int8(struct check *c)
{
    check_types(c, QVL_KV_INT8, QVL_KV_INT8);
    poison(c);
    zeros(c);
    outlier_channel(c);
}
