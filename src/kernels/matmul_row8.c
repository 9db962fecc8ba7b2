/* matmul_row8.c - 8-bit weights with row scales: packing, and y = x W^T + bias for a team. Layout and order of sums: row8.h.
 *
 * The team quantises all tokens once, [block of 256 inputs][tile of mr tokens]. A task is nv panels times some tokens: block by block
 * the weights stay in the first-level cache, and the f32 sums [tile][mr][nv*16] in the second. Who takes which task is open. */
#include "kernels/row8.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/pack.h"

#define TASK_TOKENS 1536
#define TASKS_EACH  8 /* for each member, at least */
#define MIN_TASK    48
#define COUNTER_BYTES QVL_ALIGN

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t pad_in(int64_t n_in) { return ceil_div(n_in, QVL_UNIT_INPUTS) * QVL_UNIT_INPUTS; }
static int64_t panels_of(int64_t n_out)
{
    return ceil_div(n_out, QVL_PANEL_ROWS * QVL_ROW8_PANELS) * QVL_ROW8_PANELS;
}

size_t qvl_row8_bytes(int64_t n_out, int64_t n_in)
{
    size_t n;
    if (n_out < 0 || n_in < 0 || n_out > INT64_MAX / 2 || n_in > INT64_MAX / 2)
        return 0;
    return qvl_mul_size(&n, (size_t)panels_of(n_out) * QVL_PANEL_ROWS, (size_t)pad_in(n_in) + sizeof(float)) || n > PTRDIFF_MAX ? 0 : n;
}

/* ------------------------------------------------------------------ packing */

static void read_row(float *x, const struct qvl_mat *w, int64_t row, const struct qvl_kernels *k)
{
    const size_t width = qvl_dtype_bits(w->type) / 8;
    const char *p = w->data;
    if (!w->transposed)
        k->to_f32(x, p + (size_t)(row * w->stride) * width, w->type, w->n_in);
    else
        for (int64_t i = 0; i < w->n_in; i++)
            k->to_f32(x + i, p + (size_t)(i * w->stride + row) * width, w->type, 1);
}

/* One row to its lane of a panel: dst[n_in/4] at a distance of 64 bytes; returns its scale. */
static float pack_row(uint8_t *dst, float *x, int64_t n_in)
{
    float largest = 0;
    int finite = 1;
    for (int64_t i = 0; i < n_in; i++) {
        const float a = fabsf(x[i]);
        finite &= a <= 3.4028235e38f;
        largest = a > largest ? a : largest;
    }
    if (!finite || largest < 0x1p-100f)
        return finite ? 0 : NAN;
    const float inverse = 127 / largest;
    for (int64_t i = 0; i < n_in; i++) {
        int32_t bits; /* adding 1.5 * 2^23 rounds to the nearest even integer and leaves it in the low bits */
        const float shifted = x[i] * inverse + 12582912.0f;
        memcpy(&bits, &shifted, 4);
        dst[i / 4 * 64 + i % 4] = (uint8_t)(bits + 128);
    }
    return largest / 127;
}

void qvl_row8_pack(void *dst, const struct qvl_mat *w, int64_t row0, int64_t row1, const struct qvl_kernels *k, float *work)
{
    const int64_t panels = panels_of(w->n_out), n_pad = pad_in(w->n_in);
    const int64_t end = row1 == w->n_out ? panels * QVL_PANEL_ROWS : row1;
    uint8_t *codes = dst;
    float *scales = (float *)(void *)(codes + panels * QVL_PANEL_ROWS * n_pad);
    assert(row0 % QVL_PANEL_ROWS == 0 && (row1 % QVL_PANEL_ROWS == 0 || row1 == w->n_out));
    memset(codes + row0 * n_pad, 128, (size_t)((end - row0) * n_pad));
    for (int64_t row = row0; row < end; row++) {
        scales[row] = 0;
        if (row >= w->n_out)
            continue;
        read_row(work, w, row, k);
        scales[row] = pack_row(codes + row / QVL_PANEL_ROWS * QVL_PANEL_ROWS * n_pad + row % QVL_PANEL_ROWS * 4, work, w->n_in);
    }
}

/* ------------------------------------------------------------------ the product */

struct sizes {
    int64_t n_pad, n_block, tiles;
    size_t q, words;      /* bytes of the codes, and of starts or scales, of all tokens */
    size_t row, c, own;   /* private: one quantised row, the sums, both */
};

static struct sizes sizes_of(const struct qvl_row8_kernels *rk, int64_t m, int64_t n_in)
{
    struct sizes s = {.n_pad = pad_in(n_in), .n_block = ceil_div(n_in, QVL_ACT_BLOCK), .tiles = ceil_div(m, rk->mr)};
    const size_t tokens = (size_t)(s.tiles * rk->mr);
    s.q = qvl_round_up(tokens * (size_t)s.n_block * QVL_ACT_BLOCK, QVL_ALIGN);
    s.words = qvl_round_up(tokens * (size_t)s.n_block * 4, QVL_ALIGN);
    s.row = qvl_round_up((size_t)s.n_pad, QVL_ALIGN) + qvl_round_up((size_t)s.n_block * 4, QVL_ALIGN) +
            qvl_round_up((size_t)(s.n_pad / QVL_GROUP) * 4, QVL_ALIGN);
    s.c = qvl_round_up((size_t)(min_i64(m, TASK_TOKENS) + rk->mr) * (size_t)rk->nv * QVL_PANEL_ROWS * 4, QVL_ALIGN);
    s.own = s.row + s.c;
    return s;
}

size_t qvl_row8_scratch(const struct qvl_kernels *k, int64_t m, int64_t n_in, int n_threads)
{
    size_t own;
    if (m > (int64_t)1 << 31 || n_in > (int64_t)1 << 30) /* so that the sums below cannot overflow */
        return SIZE_MAX;
    const struct sizes s = sizes_of(k->row8, m, n_in);
    if (qvl_mul_size(&own, s.own, (size_t)n_threads) || qvl_add_size(&own, own, COUNTER_BYTES + s.q + 2 * s.words))
        return SIZE_MAX;
    return own;
}

struct product {
    const struct qvl_kernels *k;
    const struct qvl_matmul *op;
    struct sizes s;
    int8_t *q;       /* [block][tile][256/4][mr][4]; a shorter last block keeps the distance */
    int32_t *start;  /* [block][tile][mr] */
    float *scale;
    char *row;       /* private */
    float *c;
};

/* Tokens of tiles [lo, hi), quantised; zero where there are none. */
static void quantise(const struct product *p, int64_t lo, int64_t hi)
{
    const int64_t mr = p->k->row8->mr, n_in = p->op->w->n_in;
    int8_t *q = (int8_t *)p->row;
    float *scale = (float *)(void *)(p->row + qvl_round_up((size_t)p->s.n_pad, QVL_ALIGN));
    int32_t *sum = (int32_t *)(void *)((char *)scale + qvl_round_up((size_t)p->s.n_block * 4, QVL_ALIGN));
    for (int64_t token = lo * mr; token < hi * mr; token++) {
        if (token < p->op->m)
            p->k->quant->quantise(q, scale, sum, p->op->x + token * p->op->x_stride, n_in);
        else
            memset(q, 0, p->s.row);
        for (int64_t b = 0; b < p->s.n_block; b++) {
            const int64_t at = b * p->s.tiles + token / mr, first = b * QVL_ACT_BLOCK, n = min_i64(QVL_ACT_BLOCK, p->s.n_pad - first);
            int8_t *dst = p->q + at * mr * QVL_ACT_BLOCK + token % mr * 4;
            int32_t all = 0;
            for (int64_t i = 0; i < n / 4; i++)
                memcpy(dst + i * mr * 4, q + first + i * 4, 4);
            for (int64_t g = first / QVL_GROUP; g < (first + n) / QVL_GROUP; g++)
                all += sum[g];
            p->start[at * mr + token % mr] = -128 * all;
            p->scale[at * mr + token % mr] = scale[b];
        }
    }
}

/* Tiles t0 <= tile < t1 times the panels from p0 on. */
static void run_task(const struct product *p, int64_t t0, int64_t t1, int64_t p0)
{
    const struct qvl_row8_kernels *rk = p->k->row8;
    const struct qvl_matmul *op = p->op;
    const int64_t mr = rk->mr, width = (int64_t)rk->nv * QVL_PANEL_ROWS, n0 = p0 * QVL_PANEL_ROWS;
    const uint8_t *codes = op->w->data;
    const float *scales = (const float *)(const void *)(codes + panels_of(op->w->n_out) * QVL_PANEL_ROWS * p->s.n_pad);
    struct qvl_row8_tile tile = {.panel = (size_t)(QVL_PANEL_ROWS * p->s.n_pad)};
    for (int64_t b = 0; b < p->s.n_block; b++) {
        tile.w = codes + n0 * p->s.n_pad + b * QVL_ACT_BLOCK * QVL_PANEL_ROWS;
        tile.n4 = min_i64(QVL_ACT_BLOCK, p->s.n_pad - b * QVL_ACT_BLOCK) / 4;
        tile.first = b == 0;
        tile.last = b + 1 == p->s.n_block ? scales + n0 : NULL;
        for (int64_t t = t0; t < t1; t++) {
            const int64_t at = (b * p->s.tiles + t) * mr;
            tile.x = p->q + at * QVL_ACT_BLOCK;
            tile.start = p->start + at;
            tile.scale = p->scale + at;
            rk->tile(p->c + (t - t0) * mr * width, &tile);
        }
    }
    const int64_t row = t0 * mr, rows = min_i64((t1 - t0) * mr, op->m - row), n = min_i64(width, op->w->n_out - n0);
    const struct qvl_store s = {.y = op->y + row * op->y_stride + n0, .c = p->c, .bias = op->bias ? op->bias + n0 : NULL,
                                .y_stride = op->y_stride, .c_stride = width, .rows = rows, .n = n, .add = op->add};
    p->k->matmul->store(&s);
    qvl_apply_then(p->k, op->then, s.y, s.y_stride, rows, n);
}

void qvl_row8_matmul(const struct qvl_team *t, const struct qvl_kernels *k, const struct qvl_matmul *op, const struct qvl_scratch *s)
{
    const struct qvl_row8_kernels *rk = k->row8;
    struct product p = {.k = k, .op = op, .s = sizes_of(rk, op->m, op->w->n_in)};
    assert(s->bytes >= COUNTER_BYTES + p.s.q + 2 * p.s.words + p.s.own * (size_t)t->n && op->w->n_in > 0);
    atomic_llong *next = s->mem;
    char *mem = (char *)s->mem + COUNTER_BYTES;
    p.q = (int8_t *)mem;
    p.start = (int32_t *)(void *)(mem + p.s.q);
    p.scale = (float *)(void *)(mem + p.s.q + p.s.words);
    p.row = mem + p.s.q + 2 * p.s.words + p.s.own * (size_t)t->id;
    p.c = (float *)(void *)(p.row + p.s.row);

    /* Whole panels only: beyond the last row there is nothing to store. */
    int64_t lo, hi, strips = ceil_div(op->w->n_out, (int64_t)rk->nv * QVL_PANEL_ROWS);
    int64_t task = ceil_div(p.s.tiles, ceil_div(p.s.tiles * rk->mr, TASK_TOKENS));
    while (task * rk->mr > MIN_TASK && strips * ceil_div(p.s.tiles, task) < TASKS_EACH * (int64_t)t->n)
        task = (task + 1) / 2;
    const int64_t n_task = strips * ceil_div(p.s.tiles, task);
    qvl_team_barrier(t);
    if (t->id == 0)
        atomic_store_explicit(next, 0, memory_order_relaxed);
    qvl_team_share(t, p.s.tiles, 1, &lo, &hi);
    quantise(&p, lo, hi);
    qvl_team_barrier(t);
    for (;;) {
        const int64_t i = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        if (i >= n_task || qvl_scratch_cancelled(s))
            break;
        const int64_t t0 = i / strips * task;
        run_task(&p, t0, min_i64(t0 + task, p.s.tiles), i % strips * rk->nv);
    }
}
