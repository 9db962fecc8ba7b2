/* attention.c - softmax attention over a packed cache for a team.
 *
 * All query heads of a key/value head form the rows of one problem: row = token * group + head in group. A tile of up to
 * TILE_ROWS rows walks over the blocks of positions, so that each block is read from memory once for the tile. With few
 * rows and many threads (decoding), the blocks of one tile are shared out instead and merged afterwards; the merge is
 * the same in both cases, so results are too. Layouts: pack.h. */
#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

#define TILE_ROWS  96 /* sums of a tile: 96 x 128 f32; a block of K and V is read from the second-level cache 16 times */
#define SPLIT_ROWS 48 /* at most this many rows in total share out blocks */
#define LOG2E      1.4426950408889634f
#define LN2        0.6931471805599453f

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Running softmax of one row: maximum m, sum l of exp(scale*(s - m)), o = sum exp(scale*(s - m)) v. */
struct merge {
    const struct qvl_attn_kernels *kernels;
    float scale; /* from units of m to the exponent of e */
    float *o, *m, *l;
};

/* Takes in the next block of a row. */
static void merge_block(struct merge to, int64_t row, int dv, const float *o, float m, float l)
{
    float *acc = to.o + row * dv;
    if (to.m[row] == -INFINITY) { /* the first block, or nothing but -inf so far */
        memcpy(acc, o, (size_t)dv * sizeof *o);
        to.m[row] = m;
        to.l[row] = l;
        return;
    }
    if (m == -INFINITY)
        return;
    /* One of the two factors is 1. A NaN maximum goes the second way and spoils the row, as it must. */
    float a = 1, b = 1;
    if (m > to.m[row]) {
        a = expf((to.m[row] - m) * to.scale);
        to.m[row] = m;
    } else {
        b = expf((m - to.m[row]) * to.scale);
    }
    to.kernels->merge(acc, o, a, b, dv);
    to.l[row] = to.l[row] * a + l * b;
}

static void store_row(const struct qvl_attention *op, int64_t kvh, int64_t row, const float *o, float l)
{
    int64_t group = op->n_head / op->n_kv;
    float *out = op->out + row / group * op->out_stride + (kvh * group + row % group) * op->head_dim, inv = 1.0f / l;
    for (int d = 0; d < op->head_dim; d++)
        out[d] = o[d] * inv;
}

/* What a member needs for itself. */
struct work {
    float *q;  /* [TILE_ROWS + QVL_ATTN_ROWS][QVL_HEAD_MAX] ... */
    struct qvl_query8 *q8; /* ... or, in the same place, for an INT8 cache */
    float *o;  /* [TILE_ROWS][dv] */
    float *ob; /* [QVL_ATTN_ROWS][dv] */
    float *m, *l; /* [TILE_ROWS] */
    void *block;
};

#define WORK_BYTES                                                                                                    \
    (sizeof(float) * ((TILE_ROWS + QVL_ATTN_ROWS) * QVL_HEAD_MAX * 2 + TILE_ROWS * 2) + QVL_ATTN_WORK)

_Static_assert(sizeof(struct qvl_query8) <= sizeof(float) * QVL_HEAD_MAX, "a query in its place");

static struct work make_work(void *mem)
{
    struct work w;
    float *p = mem;
    w.block = p;
    p += QVL_ATTN_WORK / sizeof *p;
    w.q = p;
    w.q8 = (struct qvl_query8 *)(void *)p;
    p += (TILE_ROWS + QVL_ATTN_ROWS) * QVL_HEAD_MAX;
    w.o = p;
    p += TILE_ROWS * QVL_HEAD_MAX;
    w.ob = p;
    p += QVL_ATTN_ROWS * QVL_HEAD_MAX;
    w.m = p;
    w.l = p + TILE_ROWS;
    return w;
}

struct attn {
    const struct qvl_attention *op;
    const struct qvl_attn_kernels *kernels;
    const struct qvl_kernels *convert;
    void (*block)(const struct qvl_attn_block *b);
    enum qvl_kv_type type;
    int64_t group, rows; /* rows = n_tok * group */
    int dv;
    int64_t k_panel, v_panel; /* bytes of QVL_KV_PANEL positions */
    float scale, merge_scale; /* of the scores in a block; of its maxima */
};

static struct attn make_attn(const struct qvl_kernels *k, enum qvl_kv_type type, const struct qvl_attention *op)
{
    const struct qvl_attn_kernels *a = k->attn;
    const int hd = op->head_dim, elem = type == QVL_KV_BF16 ? 2 : 4;
    struct attn at = {.op = op, .kernels = a, .convert = k, .type = type, .group = op->n_head / op->n_kv,
                      .dv = qvl_attn_dv(hd)};
    at.rows = op->n_tok * at.group;
    at.block = type == QVL_KV_INT8 ? a->block_int8 : type == QVL_KV_BF16 ? a->block_bf16 : a->block_f32;
    at.k_panel = type == QVL_KV_INT8 ? qvl_panel8_bytes(hd) : (int64_t)hd * elem * QVL_KV_PANEL;
    at.v_panel = type == QVL_KV_INT8 ? qvl_panel8_bytes(at.dv) : (int64_t)at.dv * elem * QVL_KV_PANEL;
    at.scale = type == QVL_KV_INT8 ? op->scale * LOG2E / (float)qvl_rotation_gain(hd) : op->scale;
    at.merge_scale = type == QVL_KV_INT8 ? LN2 : op->scale;
    return at;
}

/* Positions that a row sees. */
static int64_t visible(const struct attn *at, int64_t row)
{
    return at->op->causal ? at->op->first + row / at->group + 1 : at->op->n_key;
}

static void load_q(const struct attn *at, int64_t kvh, int64_t r0, int64_t r1, const struct work *w)
{
    const struct qvl_attention *op = at->op;
    float *q = w->q;
    struct qvl_query8 *q8 = w->q8;
    for (int64_t r = r0; r < r1; r++, q += QVL_HEAD_MAX, q8++) {
        const float *src = op->q + r / at->group * op->q_stride + (kvh * at->group + r % at->group) * op->head_dim;
        if (at->type == QVL_KV_INT8) {
            qvl_query8_make(q8, src, op->head_dim);
        } else if (at->type == QVL_KV_BF16) {
            uint16_t part[QVL_HEAD_MAX];
            at->convert->to_bf16(part, src, op->head_dim);
            at->convert->to_f32(q, part, QVL_DT_BF16, op->head_dim);
        } else
            memcpy(q, src, (size_t)op->head_dim * sizeof *q);
    }
    /* Kernels compute even numbers of rows: what they read beyond the last one must be numbers. */
    for (int i = 0; i < QVL_ATTN_ROWS; i++)
        if (at->type == QVL_KV_INT8)
            memset(q8 + i, 0, sizeof *q8);
        else
            memset(q + i * QVL_HEAD_MAX, 0, (size_t)op->head_dim * sizeof *q);
}

/* Rows r0 <= r < r1 (at most TILE_ROWS, loaded into w->q) against block b of positions, merged into `to`, whose row 0 is
 * r0. Rows that see nothing of the block are left alone. */
static void run_block(const struct attn *at, int64_t kvh, int64_t r0, int64_t r1, int64_t b, const struct work *w,
                      struct merge to)
{
    const struct qvl_kv *kv = &at->op->kv[kvh];
    int64_t p0 = b * QVL_ATTN_BLOCK, limit[QVL_ATTN_ROWS], r = r0;
    float m[QVL_ATTN_ROWS], l[QVL_ATTN_ROWS];
    while (r < r1 && visible(at, r) <= p0) /* never falls with the row */
        r++;
    for (; r < r1; r += QVL_ATTN_ROWS) {
        int rows = (int)min_i64(QVL_ATTN_ROWS, r1 - r);
        int64_t n = min_i64(visible(at, r + rows - 1) - p0, QVL_ATTN_BLOCK);
        for (int i = 0; i < rows; i++)
            limit[i] = min_i64(visible(at, r + i) - p0, n);
        struct qvl_attn_block blk = {.q = w->q + (r - r0) * QVL_HEAD_MAX,
                                     .q8 = w->q8 + (r - r0),
                                     .k = (const char *)kv->k + p0 / QVL_KV_PANEL * at->k_panel,
                                     .v = (const char *)kv->v + p0 / QVL_KV_PANEL * at->v_panel,
                                     .limit = limit, .n = n, .rows = rows, .head_dim = at->op->head_dim, .dv = at->dv,
                                     .scale = at->scale, .o = w->ob, .m = m, .l = l, .work = w->block};
        at->block(&blk);
        for (int i = 0; i < rows; i++)
            merge_block(to, r - r0 + i, at->dv, w->ob + i * at->dv, m[i], l[i]);
    }
}

/* ------------------------------------------------------------------ splitting the work
 * Scratch: a counter of tasks (64 bytes), the members' work, and in the split form the partial results. */

struct split {
    int64_t blocks; /* of the longest row */
    int on;
    size_t floats; /* of one partial: o, m and l of all rows */
    size_t bytes;  /* of all partials */
};

static struct split make_split(int64_t rows, int n_kv, int dv, int64_t n_key, int n_threads)
{
    struct split s = {.blocks = ceil_div(n_key, QVL_ATTN_BLOCK)};
    s.on = rows <= SPLIT_ROWS && n_threads > 1 && s.blocks > 1 && n_kv < 2 * n_threads;
    s.floats = qvl_round_up((size_t)rows * ((size_t)dv + 2), 16);
    if (s.on && (qvl_mul_size(&s.bytes, s.floats * sizeof(float) * (size_t)n_kv, (size_t)s.blocks)))
        s.bytes = SIZE_MAX / 2;
    return s;
}

size_t qvl_attention_scratch(const struct qvl_kernels *k, enum qvl_kv_type type, int64_t n_tok, int n_head, int n_kv,
                             int head_dim, int64_t n_key, int n_threads)
{
    size_t n, need = 0;
    int64_t group = n_head / n_kv;
    (void)k, (void)type;
    /* Enough for every smaller n_tok and n_key too: only few rows are split. */
    struct split s = make_split(min_i64(n_tok * group, SPLIT_ROWS), n_kv, qvl_attn_dv(head_dim), n_key, n_threads);
    if (s.on)
        need = s.bytes;
    if (qvl_mul_size(&n, qvl_round_up(WORK_BYTES, QVL_ALIGN), (size_t)n_threads) || qvl_add_size(&n, n, 64 + need))
        return SIZE_MAX;
    return n;
}

static struct merge partial(const struct attn *at, const struct split *s, void *mem, int64_t kvh, int64_t b)
{
    float *p = (float *)mem + s->floats * (size_t)(kvh * s->blocks + b);
    return (struct merge){.kernels = at->kernels,
                          .scale = at->merge_scale,
                          .o = p,
                          .m = p + at->rows * at->dv,
                          .l = p + at->rows * (at->dv + 1)};
}

static void clear(struct merge to, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        to.m[i] = -INFINITY;
        to.l[i] = 0;
    }
}

/* Few rows: tasks are (head, block); partial results meet in memory. */
static void attend_split(const struct attn *at, const struct split *s, const struct qvl_team *t, const struct work *w,
                         void *mem)
{
    int64_t lo, hi, n_kv = at->op->n_kv;
    qvl_team_share(t, n_kv * s->blocks, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        struct merge to = partial(at, s, mem, i / s->blocks, i % s->blocks);
        if (i == lo || i % s->blocks == 0)
            load_q(at, i / s->blocks, 0, at->rows, w);
        clear(to, at->rows);
        run_block(at, i / s->blocks, 0, at->rows, i % s->blocks, w, to);
    }
    qvl_team_barrier(t);
    qvl_team_share(t, n_kv * at->rows, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        int64_t kvh = i / at->rows, row = i % at->rows, n = ceil_div(visible(at, row), QVL_ATTN_BLOCK);
        struct merge sum = {.kernels = at->kernels, .scale = at->merge_scale, .o = w->o, .m = w->m, .l = w->l};
        clear(sum, 1);
        for (int64_t b = 0; b < n; b++) {
            struct merge p = partial(at, s, mem, kvh, b);
            merge_block(sum, 0, at->dv, p.o + row * at->dv, p.m[row], p.l[row]);
        }
        store_row(at->op, kvh, row, sum.o, sum.l[0]);
    }
}

/* One tile of rows against all its positions. */
static void attend_tile(const struct attn *at, int64_t kvh, int64_t r0, const struct work *w)
{
    int64_t r1 = min_i64(r0 + TILE_ROWS, at->rows), blocks = ceil_div(visible(at, r1 - 1), QVL_ATTN_BLOCK);
    struct merge to = {.kernels = at->kernels, .scale = at->merge_scale, .o = w->o, .m = w->m, .l = w->l};
    load_q(at, kvh, r0, r1, w);
    clear(to, r1 - r0);
    for (int64_t b = 0; b < blocks; b++)
        run_block(at, kvh, r0, r1, b, w, to);
    for (int64_t r = r0; r < r1; r++)
        store_row(at->op, kvh, r, w->o + (r - r0) * at->dv, w->l[r - r0]);
}

void qvl_attention(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_kv_type type,
                   const struct qvl_attention *op, const struct qvl_scratch *s)
{
    struct attn at = make_attn(k, type, op);
    if (at.rows <= 0)
        return;
    int64_t n_key = visible(&at, at.rows - 1), tiles = ceil_div(at.rows, TILE_ROWS);
    size_t own = qvl_round_up(WORK_BYTES, QVL_ALIGN);
    struct split split = make_split(at.rows, op->n_kv, at.dv, n_key, t->n);
    assert(op->head_dim <= QVL_HEAD_MAX && n_key > 0);
    assert(s->bytes >= 64 + own * (size_t)t->n + (split.on ? split.bytes : 0));
    struct work w = make_work((char *)s->mem + 64 + own * (size_t)t->id);
    atomic_llong *next = s->mem;

    qvl_team_barrier(t);
    if (split.on) {
        attend_split(&at, &split, t, &w, (char *)s->mem + 64 + own * (size_t)t->n);
        return;
    }
    if (t->id == 0)
        atomic_store_explicit(next, 0, memory_order_relaxed);
    qvl_team_barrier(t);
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        if (i >= op->n_kv * tiles || qvl_scratch_cancelled(s))
            return;
        attend_tile(&at, i / tiles, (tiles - 1 - i % tiles) * TILE_ROWS, &w); /* causal: the long ones first */
    }
}
