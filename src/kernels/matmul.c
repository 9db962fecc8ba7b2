/* matmul.c - y = x W^T + bias for a team: cuts the work, packs activations, calls the inner kernels of the level.
 *
 * Scratch, products of few tokens in BF16 arithmetic: one private copy of x for each member (rounding a few rows again
 * is cheaper than a second barrier). Products of many tokens: one packed chunk of x for the team, then for each member
 * a weight panel and a block of sums. See pack.h for the layouts. */
#include <assert.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

#define CHUNK_TOKENS 2048 /* packed at once: bounds scratch for long inputs */
#define TASK_TOKENS  480  /* sums of one task: 480 x 64 f32 stay in the second-level cache */
#define MIN_TASK     48   /* below this, packing the weights costs more than balance gains */

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static float round_bf16(float f) { return qvl_bf16_to_f32(qvl_f32_to_bf16(f)); }

/* Uses dot products on bf16 pairs rather than f32? */
static int is_native(const struct qvl_matmul_kernels *mk, enum qvl_arith a, const struct qvl_mat *w)
{
    return a == QVL_ARITH_BF16 && w->type == QVL_DT_BF16 && mk->tile_bf16 != NULL;
}

static int uses_gemv(const struct qvl_matmul_kernels *mk, int64_t m) { return m <= QVL_GEMV_MAX || !mk->mr; }

/* Bytes from one row to the next in a member's copy of x for gemv. An odd number of cache lines: rows a power of two apart
 * would compete for the same places in the first-level cache. */
static size_t copy_stride(int64_t n_in, size_t elem) { return ((size_t)n_in * elem / QVL_ALIGN + 1) / 2 * 2 * QVL_ALIGN + QVL_ALIGN; }

static size_t gemv_copy_bytes(int64_t m, int64_t n_in)
{
    size_t n;
    if (qvl_mul_size(&n, (size_t)min_i64(m, QVL_GEMV_MAX), copy_stride(n_in, 4)))
        return SIZE_MAX / 2;
    return n;
}

struct plan {
    int64_t chunk;   /* tokens packed at once, a multiple of mr */
    size_t x_bytes;  /* packed chunk */
    size_t w_bytes, c_bytes; /* private parts of a member */
};

static struct plan make_plan(const struct qvl_matmul_kernels *mk, int64_t m, int64_t n_in)
{
    struct plan p;
    p.chunk = ceil_div(min_i64(m, CHUNK_TOKENS), mk->mr) * mk->mr;
    p.x_bytes = qvl_round_up((size_t)p.chunk * (size_t)(n_in + 1) * 4, QVL_ALIGN);
    p.w_bytes = qvl_round_up((size_t)(mk->kb > mk->kb_bf16 ? mk->kb : mk->kb_bf16) * (size_t)mk->nr * 4, QVL_ALIGN);
    p.c_bytes = qvl_round_up((size_t)TASK_TOKENS * (size_t)mk->nr * 4, QVL_ALIGN);
    return p;
}

size_t qvl_matmul_scratch(const struct qvl_kernels *k, enum qvl_arith a, int64_t m, int64_t n_out, int64_t n_in, int n_threads)
{
    const struct qvl_matmul_kernels *mk = k->matmul;
    size_t need = 0, n;
    (void)n_out;
    /* Enough for every m up to this one: a session sizes its scratch once. */
    if (a == QVL_ARITH_BF16)
        need = qvl_mul_size(&n, gemv_copy_bytes(m, n_in), (size_t)n_threads) ? SIZE_MAX : n;
    if (!uses_gemv(mk, m)) {
        struct plan p = make_plan(mk, m, n_in);
        if (qvl_mul_size(&n, p.w_bytes + p.c_bytes, (size_t)n_threads) || qvl_add_size(&n, n, p.x_bytes))
            n = SIZE_MAX;
        need = n > need ? n : need;
    }
    return need;
}

/* ------------------------------------------------------------------ few tokens */

static void gemv(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op,
                 const struct qvl_scratch *s)
{
    const struct qvl_matmul_kernels *mk = k->matmul;
    const struct qvl_mat *w = op->w;
    int native = is_native(mk, a, w) && !w->transposed && mk->gemv_bf16;
    struct qvl_gemv g = {.w = w, .bias = op->bias, .y_stride = op->y_stride, .add = op->add};
    qvl_team_share(t, w->n_out, 16, &g.n0, &g.n1);
    char *copy = NULL;
    if (a == QVL_ARITH_BF16) {
        size_t bytes = gemv_copy_bytes(op->m, w->n_in);
        assert(s->bytes >= bytes * (size_t)t->n);
        copy = (char *)s->mem + bytes * (size_t)t->id;
        qvl_team_barrier(t);
    }
    for (int64_t i = 0; i < op->m; i += QVL_GEMV_MAX) {
        const float *x = op->x + i * op->x_stride;
        g.m = (int)min_i64(op->m - i, QVL_GEMV_MAX);
        g.y = op->y + i * op->y_stride;
        g.x = x;
        g.x_stride = op->x_stride;
        if (copy) {
            g.x = copy;
            g.x_stride = (int64_t)(native ? copy_stride(w->n_in, 2) / 2 : copy_stride(w->n_in, 4) / 4);
            for (int j = 0; j < g.m; j++) {
                const float *xr = x + j * op->x_stride;
                if (native) {
                    k->to_bf16((uint16_t *)copy + j * g.x_stride, xr, w->n_in);
                } else {
                    float *d = (float *)copy + j * g.x_stride;
                    for (int64_t c = 0; c < w->n_in; c++)
                        d[c] = round_bf16(xr[c]);
                }
            }
        }
        if (native)
            mk->gemv_bf16(&g);
        else
            mk->gemv(&g);
    }
}

/* ------------------------------------------------------------------ many tokens */

/* x block of one tile: dst[kb][mr], optionally rounded to bf16. */
static void pack_x(float *dst, const struct qvl_matmul *op, int64_t row, int mr, int64_t k0, int64_t kb, int round)
{
    int64_t rows = min_i64(mr, op->m - row);
    if (rows < mr)
        memset(dst, 0, (size_t)(kb * mr) * sizeof *dst);
    for (int64_t i = 0; i < rows; i++) {
        const float *x = op->x + (row + i) * op->x_stride + k0;
        float *d = dst + i;
        if (round)
            for (int64_t j = 0; j < kb; j++)
                d[j * mr] = round_bf16(x[j]);
        else
            for (int64_t j = 0; j < kb; j++)
                d[j * mr] = x[j];
    }
}

/* dst[kb/2][mr] pairs, the even inner index in the low half. */
static void pack_x_bf16(uint32_t *dst, const struct qvl_matmul *op, int64_t row, int mr, int64_t k0, int64_t kb)
{
    int64_t rows = min_i64(mr, op->m - row);
    if (rows < mr)
        memset(dst, 0, (size_t)((kb + 1) / 2 * mr) * sizeof *dst);
    for (int64_t i = 0; i < rows; i++) {
        const float *x = op->x + (row + i) * op->x_stride + k0;
        for (int64_t j = 0; j + 1 < kb; j += 2)
            dst[j / 2 * mr + i] = (uint32_t)qvl_f32_to_bf16(x[j]) | (uint32_t)qvl_f32_to_bf16(x[j + 1]) << 16;
        if (kb & 1)
            dst[kb / 2 * mr + i] = qvl_f32_to_bf16(x[kb - 1]);
    }
}

/* Sums to their place: y = c + bias, or y += c + bias. */
static void store_sums(const struct qvl_matmul *op, const float *c, int64_t row, int64_t rows, int64_t n0, int64_t n, int nr)
{
    for (int64_t i = 0; i < rows; i++) {
        float *restrict y = op->y + (row + i) * op->y_stride + n0;
        const float *restrict ci = c + i * nr, *b = op->bias ? op->bias + n0 : NULL;
        if (op->add && b)
            for (int64_t j = 0; j < n; j++)
                y[j] += ci[j] + b[j];
        else if (op->add)
            for (int64_t j = 0; j < n; j++)
                y[j] += ci[j];
        else if (b)
            for (int64_t j = 0; j < n; j++)
                y[j] = ci[j] + b[j];
        else
            memcpy(y, ci, (size_t)n * sizeof *y);
    }
}

struct gemm {
    const struct qvl_matmul_kernels *mk;
    const struct qvl_matmul *op;
    uint32_t *x;  /* packed chunk: block b, tile t at (b*kb*tiles + t*kb_b)*mr words; half of that for pairs */
    void *w;      /* private panel */
    float *c;     /* private sums */
    int64_t tiles; /* in the chunk */
    int64_t row0;  /* first token of the chunk */
    int64_t kb;
    int native, round;
};

/* Words of one tile of the block that begins at k0, divided by mr. */
static int64_t block_depth(const struct gemm *g, int64_t k0)
{
    int64_t kb = min_i64(g->kb, g->op->w->n_in - k0);
    return g->native ? (kb + 1) / 2 : kb;
}

static uint32_t *x_block(const struct gemm *g, int64_t k0, int64_t tile)
{
    int64_t before = g->native ? k0 / 2 : k0;
    return g->x + (before * g->tiles + tile * block_depth(g, k0)) * g->mk->mr;
}

static void pack_chunk(const struct gemm *g, const struct qvl_team *t)
{
    int64_t lo, hi, n_in = g->op->w->n_in;
    int mr = g->mk->mr;
    qvl_team_share(t, g->tiles, 1, &lo, &hi);
    for (int64_t tile = lo; tile < hi; tile++)
        for (int64_t k0 = 0; k0 < n_in; k0 += g->kb) {
            int64_t kb = min_i64(g->kb, n_in - k0), row = g->row0 + tile * mr;
            if (g->native)
                pack_x_bf16(x_block(g, k0, tile), g->op, row, mr, k0, kb);
            else
                pack_x((float *)(void *)x_block(g, k0, tile), g->op, row, mr, k0, kb, g->round);
        }
}

/* Tiles t0 <= tile < t1 of the chunk times the panel of output rows that begins at n0. */
static void run_task(const struct gemm *g, int64_t t0, int64_t t1, int64_t n0)
{
    const struct qvl_matmul_kernels *mk = g->mk;
    const struct qvl_mat *w = g->op->w;
    int64_t size = (int64_t)mk->mr * mk->nr;
    for (int64_t k0 = 0; k0 < w->n_in; k0 += g->kb) {
        int64_t kb = min_i64(g->kb, w->n_in - k0), depth = block_depth(g, k0);
        const uint32_t *x = x_block(g, k0, t0);
        if (g->native) {
            mk->pack_w_bf16(g->w, w, n0, k0, kb);
            for (int64_t t = t0; t < t1; t++, x += depth * mk->mr)
                mk->tile_bf16(g->c + (t - t0) * size, x, g->w, depth, k0 == 0);
        } else {
            mk->pack_w(g->w, w, n0, k0, kb);
            for (int64_t t = t0; t < t1; t++, x += depth * mk->mr)
                mk->tile(g->c + (t - t0) * size, (const float *)(const void *)x, g->w, depth, k0 == 0);
        }
    }
    int64_t row = g->row0 + t0 * mk->mr, rows = min_i64((t1 - t0) * mk->mr, g->op->m - row);
    store_sums(g->op, g->c, row, rows, n0, min_i64(mk->nr, w->n_out - n0), mk->nr);
}

static void gemm(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op,
                 const struct qvl_scratch *s)
{
    const struct qvl_matmul_kernels *mk = k->matmul;
    struct plan p = make_plan(mk, op->m, op->w->n_in);
    int native = is_native(mk, a, op->w);
    struct gemm g = {.mk = mk, .op = op, .x = s->mem, .native = native, .round = a == QVL_ARITH_BF16,
                     .kb = native ? mk->kb_bf16 : mk->kb};
    char *own = (char *)s->mem + p.x_bytes + (p.w_bytes + p.c_bytes) * (size_t)t->id;
    assert(s->bytes >= p.x_bytes + (p.w_bytes + p.c_bytes) * (size_t)t->n);
    g.w = own;
    g.c = (float *)(void *)(own + p.w_bytes);

    int64_t panels = ceil_div(op->w->n_out, mk->nr);
    for (g.row0 = 0; g.row0 < op->m; g.row0 += p.chunk) {
        g.tiles = ceil_div(min_i64(p.chunk, op->m - g.row0), mk->mr);
        /* Tall tasks pack each weight panel less often; shorter ones when there are too few for the team. */
        int64_t task = TASK_TOKENS / mk->mr;
        while (task * mk->mr > MIN_TASK && panels * ceil_div(g.tiles, task) < 4 * (int64_t)t->n)
            task = (task + 1) / 2;
        int64_t lo, hi;
        qvl_team_barrier(t);
        pack_chunk(&g, t);
        qvl_team_barrier(t);
        qvl_team_share(t, panels * ceil_div(g.tiles, task), 1, &lo, &hi);
        for (int64_t i = lo; i < hi; i++) {
            int64_t t0 = i / panels * task;
            run_task(&g, t0, min_i64(t0 + task, g.tiles), i % panels * mk->nr);
        }
    }
}

void qvl_matmul(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op,
                const struct qvl_scratch *s)
{
    if (op->m <= 0 || op->w->n_out <= 0)
        return;
    if (uses_gemv(k->matmul, op->m))
        gemv(t, k, a, op, s);
    else
        gemm(t, k, a, op, s);
}
