/* matmul_quant.c - y = x W^T + bias for packed integer weights: quantises the activations, cuts the work for a team, calls
 * the inner kernels of the level. Layouts and the order of sums are in quant.h.
 *
 * Few tokens: every member quantises all of them for itself (cheaper than a barrier) and streams one contiguous range of
 * panels, eight tokens at a time; a second pass finds the panels in its second-level cache.
 *
 * Many tokens: the team packs a chunk of activations once, [block of 256 inputs][tile of mr tokens], each tile as a struct
 * qvl_act. Then each member takes nv panels at a time: expands a block of their inputs into its first-level cache and runs
 * over the tiles, with the f32 sums [tile][mr][nv*16] in its second-level cache. */
#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/quant.h"

#define FEW_TOKENS   48         /* the most that few() takes at once */
#define FEW_BYTES    (192 << 10) /* of weights that its passes share in the second-level cache */
#define CHUNK_TOKENS 512 /* packed at once, and summed in one task */
#define MIN_TASK     48  /* below this, expanding the weights costs more than balance gains */
#define BLOCK_GROUPS (QVL_ACT_BLOCK / QVL_GROUP)
#define BLOCK_UNITS  (QVL_ACT_BLOCK / QVL_UNIT_INPUTS)
#define COUNTER_BYTES QVL_ALIGN /* of the next task, in front of the chunk: whoever is free takes it */

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Activations of n_in inputs for `rows` tokens, in one piece of memory. */
struct act_size {
    int64_t n_pad, n_group, n_block;
    size_t q, start, scale, term, all; /* bytes */
};

static struct act_size act_size(int64_t n_in, int64_t rows)
{
    struct act_size s = {.n_block = ceil_div(n_in, QVL_ACT_BLOCK),
                         .n_pad = ceil_div(n_in, QVL_UNIT_INPUTS) * QVL_UNIT_INPUTS};
    s.n_group = s.n_pad / QVL_GROUP;
    s.q = qvl_round_up((size_t)(s.n_pad * rows), QVL_ALIGN);
    s.start = qvl_round_up((size_t)(s.n_group * rows) * 4, QVL_ALIGN);
    s.scale = qvl_round_up((size_t)(s.n_block * rows) * 4, QVL_ALIGN);
    s.term = qvl_round_up((size_t)(s.n_group * rows) * 4, QVL_ALIGN);
    s.all = s.q + s.start + s.scale + s.term;
    return s;
}

/* Writable views into such memory. */
struct act_mem {
    int8_t *q;
    int32_t *start;
    float *scale;
    float *term; /* [n_group][rows] scale of the block times sum of the group: what a minimum is multiplied by (q4m) */
};

static struct act_mem act_mem(char *p, const struct act_size *s)
{
    return (struct act_mem){(int8_t *)p, (int32_t *)(void *)(p + s->q), (float *)(void *)(p + s->q + s->start),
                            (float *)(void *)(p + s->q + s->start + s->scale)};
}

struct plan {
    struct act_size row, chunk;
    size_t expanded, scales, sums; /* private to a member; sums twice, for the minima */
    size_t own;                    /* all that is private, with one row */
};

static int64_t tokens_in_chunk(const struct qvl_quant_kernels *k, int64_t m)
{
    int64_t chunks = ceil_div(m, CHUNK_TOKENS), tile = k->mr ? k->mr : 1;
    return ceil_div(ceil_div(m, chunks), tile) * tile;
}

static struct plan make_plan(const struct qvl_quant_kernels *k, int64_t tokens, int64_t n_in)
{
    struct plan p = {.row = act_size(n_in, 1), .chunk = act_size(n_in, tokens)};
    p.expanded = (size_t)k->nv * QVL_ACT_BLOCK * QVL_PANEL_ROWS;
    p.scales = (size_t)k->nv * BLOCK_GROUPS * QVL_PANEL_ROWS * 4;
    p.sums = qvl_round_up((size_t)tokens * (size_t)k->nv * QVL_PANEL_ROWS * 4, QVL_ALIGN);
    p.own = p.row.all + p.expanded + p.scales + 2 * p.sums;
    return p;
}

static int is_few(const struct qvl_quant_kernels *k, int64_t m) { return m <= k->few || !k->mr; }

/* Memory of one member in few(): a row, and the tokens of each pass. */
static size_t few_bytes(int64_t m, int64_t n_in)
{
    int64_t passes = ceil_div(min_i64(m, FEW_TOKENS), QVL_QUANT_GEMV_MAX);
    return act_size(n_in, 1).all + (size_t)passes * act_size(n_in, min_i64(m, QVL_QUANT_GEMV_MAX)).all;
}

size_t qvl_quant_scratch(const struct qvl_quant_kernels *k, int64_t m, int64_t n_in, int n_threads)
{
    size_t need, n;
    if (n_in > (int64_t)1 << 40) /* so that the sizes below cannot overflow */
        return SIZE_MAX;
    /* Enough for every m up to this one: a session sizes its scratch once. */
    if (qvl_mul_size(&need, few_bytes(m, n_in), (size_t)n_threads))
        return SIZE_MAX;
    if (!is_few(k, m)) {
        struct plan p = make_plan(k, min_i64(m, CHUNK_TOKENS) + k->mr, n_in);
        if (qvl_mul_size(&n, p.own, (size_t)n_threads) || qvl_add_size(&n, n, p.chunk.all + COUNTER_BYTES))
            return SIZE_MAX;
        need = n > need ? n : need;
    }
    return need;
}

/* Copies one quantised row to place j of r: every fourth-byte word, group and block at a stride of r. */
static void place_row(const struct act_mem *dst, const struct act_mem *row, const struct act_size *s, int64_t r, int64_t j,
                      enum qvl_dtype kind)
{
    const int32_t offset = kind == QVL_DT_Q8 ? 128 : kind == QVL_DT_Q4 ? 8 : 0;
    for (int64_t i = 0; i < s->n_pad / 4; i++)
        memcpy(dst->q + (i * r + j) * 4, row->q + i * 4, 4);
    for (int64_t i = 0; i < s->n_group; i++)
        dst->start[i * r + j] = -offset * row->start[i];
    for (int64_t i = 0; i < s->n_block; i++)
        dst->scale[i * r + j] = row->scale[i];
    if (kind == QVL_DT_Q4M)
        for (int64_t i = 0; i < s->n_group; i++)
            dst->term[i * r + j] = row->scale[i / BLOCK_GROUPS] * (float)row->start[i];
}

/* First minimum of a panel. */
static const unsigned char *minima_of(const struct qvl_mat *w, int64_t panel)
{
    const unsigned char *first = (const unsigned char *)w->data + (size_t)panel * qvl_quant_panel_bytes(w->type, w->n_in);
    return first + ceil_div(w->n_in, QVL_UNIT_INPUTS) * QVL_Q4_UNIT_BYTES;
}

/* ------------------------------------------------------------------ few tokens */

/* Up to QVL_QUANT_GEMV_MAX tokens from `first` on. */
struct pass {
    struct qvl_quant_gemv g;
    const float *term; /* see struct act_mem */
    int64_t first;
};

/* Quantises the tokens of each pass; returns the number of passes. Sizes are even: 9 tokens are 5 and 4. */
static int begin_passes(struct pass *pass, const struct qvl_quant_kernels *k, const struct qvl_matmul *op, int64_t first, char *mem)
{
    const struct qvl_mat *w = op->w;
    const int64_t m = min_i64(op->m - first, FEW_TOKENS), n = ceil_div(m, QVL_QUANT_GEMV_MAX);
    const struct act_size row_size = act_size(w->n_in, 1);
    const struct act_mem row = act_mem(mem, &row_size);
    mem += row_size.all;
    for (int64_t i = 0; i < n; i++) {
        const int64_t t0 = first + m * i / n, t1 = first + m * (i + 1) / n, r = t1 - t0;
        const struct act_size size = act_size(w->n_in, r);
        const struct act_mem all = act_mem(mem, &size);
        for (int64_t t = t0; t < t1; t++) {
            k->quantise(row.q, row.scale, row.start, op->x + t * op->x_stride, w->n_in);
            place_row(&all, &row, &row_size, r, t - t0, w->type);
        }
        pass[i] = (struct pass){.g = {.x = {all.q, all.start, all.scale}, .n_in = w->n_in, .m = (int)r}, .term = all.term, .first = t0};
        mem += size.all;
    }
    return (int)n;
}

/* y += minima times terms. */
static void add_minima(const struct qvl_quant_kernels *k, const struct pass *p, const struct qvl_matmul *op, int64_t panel)
{
    const int64_t n0 = panel * QVL_PANEL_ROWS, n = min_i64(QVL_PANEL_ROWS, op->w->n_out - n0);
    float c[QVL_QUANT_GEMV_MAX * QVL_PANEL_ROWS];
    struct qvl_quant_minima g = {.c = c, .term = p->term, .c_stride = QVL_PANEL_ROWS,
                                 .n_group = ceil_div(op->w->n_in, QVL_UNIT_INPUTS) * 2, .m = p->g.m, .n_panel = 1, .first = 1};
    g.min = minima_of(op->w, panel);
    k->minima(&g);
    for (int j = 0; j < p->g.m; j++)
        for (int64_t i = 0; i < n; i++)
            op->y[(p->first + j) * op->y_stride + n0 + i] += c[j * QVL_PANEL_ROWS + i];
}

/* Panels [p0, p1) of one matrix for the tokens of a pass. */
static void run_pass(const struct qvl_quant_kernels *k, struct pass *p, const struct qvl_matmul *op, int64_t p0, int64_t p1)
{
    struct qvl_quant_gemv *g = &p->g;
    g->y = op->y + p->first * op->y_stride;
    g->w = op->w->data;
    g->bias = op->bias;
    g->y_stride = op->y_stride;
    g->n_out = op->w->n_out;
    g->add = op->add;
    g->p0 = p0;
    g->p1 = p1;
    if (op->w->type != QVL_DT_Q4M) {
        k->gemv[op->w->type == QVL_DT_Q8](g);
        return;
    }
    g->p0 = 0; /* panels lie farther apart than those of q4: one at a time, and its minima while they are near */
    g->p1 = 1;
    for (int64_t panel = p0; panel < p1; panel++) {
        const int64_t n0 = panel * QVL_PANEL_ROWS;
        g->w = (const char *)op->w->data + (size_t)panel * qvl_quant_panel_bytes(QVL_DT_Q4M, op->w->n_in);
        g->y = op->y + p->first * op->y_stride + n0;
        g->bias = op->bias ? op->bias + n0 : NULL;
        g->n_out = op->w->n_out - n0;
        k->gemv[0](g);
        add_minima(k, p, op, panel);
    }
}

static void gate_pass(const struct qvl_quant_set *set, const struct pass *p, int64_t p0, int64_t p1)
{
    const struct qvl_matmul *gate = &set->op[0], *up = &set->op[1];
    const int64_t n0 = p0 * QVL_PANEL_ROWS, n = min_i64(p1 * QVL_PANEL_ROWS, gate->w->n_out) - n0;
    for (int64_t i = p->first; i < p->first + p->g.m; i++) {
        float *y = gate->y + i * gate->y_stride + n0;
        set->gated(y, y, up->y + i * up->y_stride + n0, n);
    }
}

static int64_t panels_of(const struct qvl_matmul *op) { return ceil_div(op->w->n_out, QVL_PANEL_ROWS); }

/* How many matrices lie side by side: the two of a gated pair are walked through together. */
static int set_width(const struct qvl_quant_set *set) { return set->gated ? 1 : set->n; }

static void few(const struct qvl_team *t, const struct qvl_quant_kernels *k, const struct qvl_quant_set *set, const struct qvl_scratch *s)
{
    const struct qvl_matmul *op = set->op;
    const int64_t n_in = op->w->n_in;
    const size_t own = few_bytes(op->m, n_in);
    const int64_t panel_bytes = (int64_t)qvl_quant_panel_bytes(op->w->type, n_in);
    struct pass pass[FEW_TOKENS / QVL_QUANT_GEMV_MAX];
    int64_t all = 0, lo, hi;
    assert(s->bytes >= own * (size_t)t->n);
    for (int i = 0; i < set_width(set); i++)
        all += panels_of(&op[i]);
    qvl_team_share(t, all, 1, &lo, &hi);
    qvl_team_barrier(t);
    for (int64_t first = 0; first < op->m; first += FEW_TOKENS) {
        const int n = begin_passes(pass, k, op, first, (char *)s->mem + own * (size_t)t->id);
        int64_t before = 0; /* panels of the matrices passed */
        for (int w = 0; w < set_width(set); before += panels_of(&op[w++])) {
            const int64_t p_lo = (lo > before ? lo : before) - before, p_hi = min_i64(hi - before, panels_of(&op[w]));
            const int64_t step = n > 1 ? 1 + FEW_BYTES / (panel_bytes + 1) : p_hi - p_lo;
            for (int64_t p = p_lo; p < p_hi; p += step)
                for (int i = 0; i < n; i++) {
                    const int64_t p1 = min_i64(p + step, p_hi);
                    run_pass(k, &pass[i], &op[w], p, p1);
                    if (set->gated) {
                        run_pass(k, &pass[i], &op[1], p, p1);
                        gate_pass(set, &pass[i], p, p1);
                    }
                }
        }
    }
}

/* ------------------------------------------------------------------ many tokens */

struct many {
    const struct qvl_quant_kernels *k;
    const struct qvl_matmul *op; /* the one at work; all of a set agree in x, m, n_in and kind */
    struct plan plan;
    struct act_mem x;      /* packed chunk */
    struct act_mem row;    /* private */
    uint8_t *expanded;     /* private */
    float *scales, *sums, *minima; /* private; minima: sums of their part */
    int64_t row0, tiles;   /* the chunk: first token, tiles */
    int64_t n_unit;        /* of a panel */
};

/* Groups in block b. */
static int64_t block_groups(const struct many *g, int64_t b)
{
    return min_i64(BLOCK_GROUPS, g->plan.row.n_group - b * BLOCK_GROUPS);
}

static struct act_mem tile_of(const struct many *g, int64_t b, int64_t tile)
{
    const int64_t mr = g->k->mr, groups = block_groups(g, b);
    const int64_t group = (b * BLOCK_GROUPS * g->tiles + tile * groups) * mr; /* groups of one token before this tile */
    return (struct act_mem){g->x.q + group * QVL_GROUP, g->x.start + group, g->x.scale + (b * g->tiles + tile) * mr,
                            g->x.term + group};
}

/* Tiles [lo, hi) of the chunk: quantised, and zero where tokens are missing. */
static void pack_tiles(const struct many *g, int64_t lo, int64_t hi)
{
    const struct qvl_mat *w = g->op->w;
    const int64_t mr = g->k->mr;
    for (int64_t tile = lo; tile < hi; tile++)
        for (int64_t j = 0; j < mr; j++) {
            const int64_t token = g->row0 + tile * mr + j;
            if (token < g->op->m) {
                g->k->quantise(g->row.q, g->row.scale, g->row.start, g->op->x + token * g->op->x_stride, w->n_in);
            } else {
                memset(g->row.q, 0, g->plan.row.all);
            }
            for (int64_t b = 0; b < g->plan.row.n_block; b++) {
                const int64_t groups = block_groups(g, b), first = b * BLOCK_GROUPS;
                const struct act_size part = {.n_pad = groups * QVL_GROUP, .n_group = groups, .n_block = 1};
                const struct act_mem src = {g->row.q + first * QVL_GROUP, g->row.start + first, g->row.scale + b, NULL},
                                     dst = tile_of(g, b, tile);
                place_row(&dst, &src, &part, mr, j, w->type);
            }
        }
}

/* nv panels from p0 on, units of block b, to the private buffers; panels beyond the matrix become zero. */
static void expand(const struct many *g, int64_t p0, int64_t b)
{
    const struct qvl_mat *w = g->op->w;
    const int kind = w->type == QVL_DT_Q8;
    const size_t unit = kind ? QVL_Q8_UNIT_BYTES : QVL_Q4_UNIT_BYTES; /* q4m: as q4 */
    const int64_t panels = ceil_div(w->n_out, QVL_PANEL_ROWS);
    for (int64_t v = 0; v < g->k->nv; v++) {
        uint8_t *dst = g->expanded + v * QVL_ACT_BLOCK * QVL_PANEL_ROWS;
        float *scale = g->scales + v * BLOCK_GROUPS * QVL_PANEL_ROWS;
        if (p0 + v < panels) {
            const char *src = (const char *)w->data + (size_t)(p0 + v) * qvl_quant_panel_bytes(w->type, w->n_in) + (size_t)(b * BLOCK_UNITS) * unit;
            g->k->expand[kind](dst, scale, src, block_groups(g, b) / 2);
        } else {
            memset(dst, 0, QVL_ACT_BLOCK * QVL_PANEL_ROWS);
            memset(scale, 0, BLOCK_GROUPS * QVL_PANEL_ROWS * 4);
        }
    }
}

/* Sums to their place. */
static void store_sums(const struct many *g, int64_t row, int64_t rows, int64_t n0)
{
    const struct qvl_matmul *op = g->op;
    const int64_t width = (int64_t)g->k->nv * QVL_PANEL_ROWS, n = min_i64(width, op->w->n_out - n0);
    for (int64_t i = 0; i < rows; i++) {
        float *restrict y = op->y + (row + i) * op->y_stride + n0;
        const float *restrict c = g->sums + i * width, *b = op->bias ? op->bias + n0 : NULL;
        if (op->add && b)
            for (int64_t j = 0; j < n; j++)
                y[j] += c[j] + b[j];
        else if (op->add)
            for (int64_t j = 0; j < n; j++)
                y[j] += c[j];
        else if (b)
            for (int64_t j = 0; j < n; j++)
                y[j] = c[j] + b[j];
        else
            memcpy(y, c, (size_t)n * sizeof *y);
    }
}

/* Sums of the second matrix of a gated pair: y, which holds those of the first, becomes silu(y) * sums. */
static void gate_sums(const struct many *g, const struct qvl_quant_set *set, int64_t row, int64_t rows, int64_t n0)
{
    const struct qvl_matmul *op = &set->op[0];
    const int64_t width = (int64_t)g->k->nv * QVL_PANEL_ROWS, n = min_i64(width, op->w->n_out - n0);
    for (int64_t i = 0; i < rows; i++) {
        float *y = op->y + (row + i) * op->y_stride + n0;
        set->gated(y, y, g->sums + i * width, n);
    }
}

/* The minima of one block; .min = NULL for kinds that have none. */
static struct qvl_quant_minima task_minima(const struct many *g, int64_t p0, int64_t b)
{
    const struct qvl_mat *w = g->op->w;
    struct qvl_quant_minima m = {.c_stride = (int64_t)g->k->nv * QVL_PANEL_ROWS, .panel_stride = (int64_t)(qvl_quant_panel_bytes(w->type, w->n_in) / 2),
                                 .n_group = block_groups(g, b), .m = g->k->mr, .first = b == 0,
                                 .n_panel = (int)min_i64(g->k->nv, ceil_div(w->n_out, QVL_PANEL_ROWS) - p0)};
    if (w->type == QVL_DT_Q4M)
        m.min = minima_of(w, p0) + b * BLOCK_GROUPS * QVL_PANEL_ROWS * 2;
    return m;
}

/* y += the sums of the minima. */
static void store_minima(const struct many *g, float *first, int64_t stride, int64_t rows, int64_t n0)
{
    const int64_t width = (int64_t)g->k->nv * QVL_PANEL_ROWS, n = min_i64(width, g->op->w->n_out - n0);
    for (int64_t i = 0; i < rows && g->op->w->type == QVL_DT_Q4M; i++) {
        float *restrict y = first + i * stride;
        const float *restrict c = g->minima + i * width;
        for (int64_t j = 0; j < n; j++)
            y[j] += c[j];
    }
}

/* Tiles t0 <= tile < t1 times the panels from p0 on, to the private sums. */
static void run_task(const struct many *g, int64_t t0, int64_t t1, int64_t p0)
{
    const struct qvl_quant_kernels *k = g->k;
    const int kind = g->op->w->type == QVL_DT_Q8;
    const int64_t size = (int64_t)k->mr * k->nv * QVL_PANEL_ROWS;
    for (int64_t b = 0; b < g->plan.row.n_block; b++) {
        const int64_t groups = block_groups(g, b);
        struct qvl_quant_minima m = task_minima(g, p0, b);
        expand(g, p0, b);
        for (int64_t t = t0; t < t1; t++) {
            const struct act_mem a = tile_of(g, b, t);
            const struct qvl_act x = {a.q, a.start, a.scale};
            k->tile[kind](g->sums + (t - t0) * size, g->expanded, g->scales, &x, groups, b == 0);
            if (m.min) {
                m.c = g->minima + (t - t0) * size;
                m.term = a.term;
                k->minima(&m);
            }
        }
    }
}

/* The same for block `b` of the set's panels, and on to y. */
static void run_block(struct many *g, const struct qvl_quant_set *set, int64_t t0, int64_t t1, int64_t b)
{
    const int64_t row = g->row0 + t0 * g->k->mr, rows = min_i64((t1 - t0) * g->k->mr, set->op->m - row);
    int w = 0;
    for (int64_t n; b >= (n = ceil_div(panels_of(&set->op[w]), g->k->nv)); w++)
        b -= n;
    const int64_t p0 = b * g->k->nv;
    g->op = &set->op[w];
    const int64_t n0 = p0 * QVL_PANEL_ROWS;
    run_task(g, t0, t1, p0);
    store_sums(g, row, rows, n0);
    store_minima(g, g->op->y + row * g->op->y_stride + n0, g->op->y_stride, rows, n0);
    if (set->gated) {
        g->op = &set->op[1];
        run_task(g, t0, t1, p0);
        store_minima(g, g->sums, (int64_t)g->k->nv * QVL_PANEL_ROWS, rows, n0);
        gate_sums(g, set, row, rows, p0 * QVL_PANEL_ROWS);
    }
}

static void many(const struct qvl_team *t, const struct qvl_quant_kernels *k, const struct qvl_quant_set *set,
                 const struct qvl_scratch *s)
{
    const struct qvl_matmul *op = set->op;
    const struct qvl_mat *w = op->w;
    const int64_t chunk = tokens_in_chunk(k, op->m);
    int64_t blocks = 0;
    for (int i = 0; i < set_width(set); i++)
        blocks += ceil_div(panels_of(&op[i]), k->nv);
    struct many g = {.k = k, .op = op, .plan = make_plan(k, chunk, w->n_in), .n_unit = ceil_div(w->n_in, QVL_UNIT_INPUTS)};
    assert(s->bytes >= COUNTER_BYTES + g.plan.chunk.all + g.plan.own * (size_t)t->n);
    atomic_llong *next = s->mem;
    char *shared = (char *)s->mem + COUNTER_BYTES, *own = shared + g.plan.chunk.all + g.plan.own * (size_t)t->id;
    g.x = act_mem(shared, &g.plan.chunk);
    g.row = act_mem(own, &g.plan.row);
    g.expanded = (uint8_t *)own + g.plan.row.all;
    g.scales = (float *)(void *)(g.expanded + g.plan.expanded);
    g.sums = (float *)(void *)(g.expanded + g.plan.expanded + g.plan.scales);
    g.minima = g.sums + g.plan.sums / sizeof *g.sums;
    for (g.row0 = 0; g.row0 < op->m; g.row0 += chunk) {
        g.op = op;
        g.tiles = ceil_div(min_i64(chunk, op->m - g.row0), k->mr);
        /* Tall tasks expand each panel once; shorter ones when there are too few for the team. */
        int64_t task = g.tiles, lo, hi;
        while (task * k->mr > MIN_TASK && blocks * ceil_div(g.tiles, task) < 4 * (int64_t)t->n)
            task = (task + 1) / 2;
        qvl_team_barrier(t);
        if (t->id == 0)
            atomic_store_explicit(next, 0, memory_order_relaxed);
        qvl_team_share(t, g.tiles, 1, &lo, &hi);
        pack_tiles(&g, lo, hi);
        qvl_team_barrier(t);
        for (;;) {
            const int64_t i = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
            if (i >= blocks * ceil_div(g.tiles, task) || qvl_scratch_cancelled(s))
                break;
            const int64_t t0 = i / blocks * task;
            run_block(&g, set, t0, min_i64(t0 + task, g.tiles), i % blocks);
        }
    }
}

void qvl_quant_matmul(const struct qvl_team *t, const struct qvl_quant_kernels *k, const struct qvl_quant_set *set,
                      const struct qvl_scratch *s)
{
    if (set->op->m <= 0)
        return;
    if (is_few(k, set->op->m) || set->op->w->n_in <= 0)
        few(t, k, set, s);
    else
        many(t, k, set, s);
}
