/* matmul.c - y = x W^T + bias for a team: cuts the work, packs activations, calls the inner kernels of the level.
 *
 * Scratch, products of few tokens in BF16 arithmetic: one private copy of x for each member (rounding a few rows again
 * is cheaper than a second barrier). Products of many tokens: a counter of tasks, one packed chunk of x for the team, then for
 * each member a weight panel and a block of sums. Who takes which task is open, so that a member that the machine held up
 * does not hold up the others; a task's sums are the same whoever does it. See pack.h for the layouts. */
#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/quant.h"
#include "kernels/row8.h"

#define CHUNK_TOKENS 2048 /* packed at once: bounds scratch for long inputs */
#define TASK_TOKENS  1536 /* sums of one task: 1536 x 64 f32 (384 KiB) in the second-level cache; each task packs its weights */
#define TASKS_EACH   4    /* for each member, at least */
#define MIN_TASK     48   /* below this, packing the weights costs more than balance gains */

#define COUNTER_BYTES QVL_ALIGN

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* f32 rounded to bf16, as f32. */
static void round_row(const struct qvl_kernels *k, float *dst, const float *src, int64_t n)
{
    uint16_t part[256];
    for (int64_t i = 0; i < n; i += 256) {
        int64_t m = min_i64(256, n - i);
        k->to_bf16(part, src + i, m);
        k->to_f32(dst + i, part, QVL_DT_BF16, m);
    }
}

/* Uses dot products on bf16 pairs rather than f32? */
static int is_native(const struct qvl_matmul_kernels *mk, enum qvl_arith a, const struct qvl_mat *w)
{
    return a == QVL_ARITH_BF16 && w->type == QVL_DT_BF16 && mk->tile_bf16 != NULL;
}

static int uses_gemv(const struct qvl_matmul_kernels *mk, int64_t m) { return m <= QVL_GEMV_MAX || !mk->mr; }

/* Bytes from one row to the next in a member's copy of x for gemv. An odd number of cache lines: rows a power of two apart
 * would compete for the same places in the first-level cache. */
static size_t copy_stride(int64_t n_in, size_t elem)
{
    return ((size_t)n_in * elem / QVL_ALIGN + 1) / 2 * 2 * QVL_ALIGN + QVL_ALIGN;
}

static size_t gemv_copy_bytes(int64_t m, int64_t n_in)
{
    size_t n;
    if (qvl_mul_size(&n, (size_t)min_i64(m, QVL_GEMV_MAX), copy_stride(n_in, 4)))
        return SIZE_MAX / 2;
    return n;
}

/* ------------------------------------------------------------------ rows from product to product */

struct qvl_rows qvl_rows_view(const struct qvl_kernels *k, enum qvl_arith a, enum qvl_dtype weights, int64_t m, int64_t n, void *mem)
{
    const struct qvl_matmul_kernels *mk = k->matmul;
    const struct qvl_mat w = {.type = weights};
    struct qvl_rows r = {.mem = mem, .m = m, .n = n, .elem = sizeof(float)};
    if (uses_gemv(mk, m) || weights == QVL_DT_ROW8 || qvl_dtype_is_packed(weights))
        return r;
    r.mr = mk->mr;
    r.tiles = ceil_div(m, mk->mr);
    r.kb = is_native(mk, a, &w) ? mk->kb_bf16 : mk->kb;
    r.elem = is_native(mk, a, &w) ? 2 : 4;
    r.round = a == QVL_ARITH_BF16;
    return r;
}

static size_t rows_bytes(const struct qvl_rows *r)
{
    size_t rows = (size_t)(r->mr ? r->tiles * r->mr : r->m), width = r->mr ? qvl_round_up((size_t)r->n, (size_t)r->kb) : (size_t)r->n, all;
    return qvl_mul_size(&all, rows, width * r->elem) ? SIZE_MAX : all;
}

size_t qvl_rows_bytes(const struct qvl_kernels *k, enum qvl_arith a, enum qvl_dtype weights, int64_t m, int64_t n)
{
    const struct qvl_rows all = qvl_rows_view(k, a, weights, m, n, NULL),
                          few = qvl_rows_view(k, a, weights, min_i64(m, QVL_GEMV_MAX), n, NULL);
    return rows_bytes(&all) > rows_bytes(&few) ? rows_bytes(&all) : rows_bytes(&few);
}

/* n values of a token from k0 on to their place in rows that are not plain; k0..k0+n lies in one block. */
static void put_row(const struct qvl_rows *r, const struct qvl_kernels *k, int64_t row, int64_t k0, const float *x, int64_t n)
{
    char *block = (char *)r->mem + (size_t)((k0 / r->kb * r->tiles + row / r->mr) * r->mr * r->kb) * r->elem;
    size_t at = (size_t)(row % r->mr * r->kb + k0 % r->kb);
    if (r->elem == 2) {
        uint16_t *dst = (uint16_t *)(void *)block + at;
        k->to_bf16(dst, x, n);
        if ((k0 + n) & 1) /* the end of an odd row: pairs are multiplied */
            dst[n] = 0;
    } else if (r->round) {
        round_row(k, (float *)(void *)block + at, x, n);
    } else {
        memcpy((float *)(void *)block + at, x, (size_t)n * sizeof *x);
    }
}

void qvl_rows_put(const struct qvl_rows *r, const struct qvl_kernels *k, int64_t row, const float *x)
{
    if (!r->mr) {
        memcpy((float *)r->mem + row * r->n, x, (size_t)r->n * sizeof *x);
        return;
    }
    for (int64_t k0 = 0; k0 < r->n; k0 += r->kb)
        put_row(r, k, row, k0, x + k0, min_i64(r->kb, r->n - k0));
    if (row == r->m - 1) /* missing tokens of the last tile */
        for (int64_t k0 = 0; k0 < r->n; k0 += r->kb) {
            char *tile = (char *)r->mem + (size_t)((k0 / r->kb * r->tiles + row / r->mr) * r->mr * r->kb) * r->elem;
            memset(tile + (size_t)((row % r->mr + 1) * r->kb) * r->elem, 0, (size_t)((r->mr - 1 - row % r->mr) * r->kb) * r->elem);
        }
}

/* ------------------------------------------------------------------ sizes */

struct plan {
    int64_t chunk;   /* tokens packed at once, a multiple of mr */
    size_t x_bytes;  /* packed chunk */
    size_t w_bytes, c_bytes; /* private parts of a member */
};

static struct plan make_plan(const struct qvl_matmul_kernels *mk, int64_t m, int64_t n_in)
{
    struct plan p;
    p.chunk = ceil_div(min_i64(m, CHUNK_TOKENS), mk->mr) * mk->mr;
    /* Enough for both forms of x: whole blocks of kb f32, or of kb_bf16 bf16. */
    size_t wide = qvl_round_up((size_t)n_in, (size_t)mk->kb) * 4;
    size_t narrow = mk->kb_bf16 ? qvl_round_up((size_t)n_in, (size_t)mk->kb_bf16) * 2 : 0;
    p.x_bytes = qvl_round_up((size_t)p.chunk * (wide > narrow ? wide : narrow), QVL_ALIGN);
    p.w_bytes = qvl_round_up((size_t)(mk->kb > mk->kb_bf16 ? mk->kb : mk->kb_bf16) * (size_t)mk->nr * 4, QVL_ALIGN);
    p.c_bytes = qvl_round_up((size_t)(TASK_TOKENS + QVL_MR_MAX) * (size_t)mk->nr * 4, QVL_ALIGN);
    return p;
}

size_t qvl_matmul_scratch(const struct qvl_kernels *k, enum qvl_arith a, int64_t m, int64_t n_out, int64_t n_in,
                          int n_threads)
{
    const struct qvl_matmul_kernels *mk = k->matmul;
    size_t need = 0, n;
    (void)n_out;
    /* Enough for every m up to this one: a session sizes its scratch once. */
    if (a == QVL_ARITH_BF16)
        need = qvl_mul_size(&n, gemv_copy_bytes(m, n_in), (size_t)n_threads) ? SIZE_MAX : n;
    if (!uses_gemv(mk, m)) {
        struct plan p = make_plan(mk, m, n_in);
        if (qvl_mul_size(&n, p.w_bytes + p.c_bytes, (size_t)n_threads) || qvl_add_size(&n, n, COUNTER_BYTES + p.x_bytes))
            n = SIZE_MAX;
        need = n > need ? n : need;
    }
    n = qvl_quant_scratch(k->quant, m, n_in, n_threads);
    need = n > need ? n : need;
    n = qvl_row8_scratch(k, m, n_in, n_threads);
    return n > need ? n : need;
}

/* ------------------------------------------------------------------ few tokens */

void qvl_apply_then(const struct qvl_kernels *k, enum qvl_then then, float *y, int64_t y_stride, int64_t rows, int64_t n)
{
    if (then != QVL_THEN_NOTHING)
        for (int64_t i = 0; i < rows; i++)
            (then == QVL_THEN_GELU_TANH ? k->gelu_tanh : k->gelu_erf)(y + i * y_stride, n);
}

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
                    round_row(k, (float *)(void *)copy + j * g.x_stride, xr, w->n_in);
                }
            }
        }
        if (native)
            mk->gemv_bf16(&g);
        else
            mk->gemv(&g);
        qvl_apply_then(k, op->then, g.y + g.n0, g.y_stride, g.m, g.n1 - g.n0);
    }
}

/* ------------------------------------------------------------------ many tokens */

struct gemm {
    const struct qvl_kernels *k;
    const struct qvl_matmul_kernels *mk;
    const struct qvl_matmul *op;
    char *x;       /* packed chunk: [block][tile][mr][kb] */
    void *w;       /* private panel */
    float *c;      /* private sums */
    int64_t tiles; /* in the chunk */
    int64_t row0;  /* first token of the chunk */
    int64_t kb;
    size_t elem; /* bytes of an element of x */
    int native, round;
};

/* x block of one tile: dst[mr][kb of the level], f32. */
static void pack_x(float *dst, const struct gemm *g, int64_t row, int64_t k0, int64_t n)
{
    const struct qvl_matmul *op = g->op;
    int64_t rows = min_i64(g->mk->mr, op->m - row);
    for (int64_t i = 0; i < rows; i++)
        if (g->round)
            round_row(g->k, dst + i * g->kb, op->x + (row + i) * op->x_stride + k0, n);
        else
            memcpy(dst + i * g->kb, op->x + (row + i) * op->x_stride + k0, (size_t)n * sizeof *dst);
    memset(dst + rows * g->kb, 0, (size_t)((g->mk->mr - rows) * g->kb) * sizeof *dst);
}

/* The same in bf16: a pair of inner indices is a 32-bit word with the even one below. */
static void pack_x_bf16(uint16_t *dst, const struct gemm *g, int64_t row, int64_t k0, int64_t n)
{
    const struct qvl_matmul *op = g->op;
    int64_t rows = min_i64(g->mk->mr, op->m - row);
    for (int64_t i = 0; i < rows; i++) {
        g->k->to_bf16(dst + i * g->kb, op->x + (row + i) * op->x_stride + k0, n);
        if (n & 1)
            dst[i * g->kb + n] = 0;
    }
    memset(dst + rows * g->kb, 0, (size_t)((g->mk->mr - rows) * g->kb) * sizeof *dst);
}

/* Sums of rows from `row` on and the columns n0..n0+n to their place. */
static void finish(const struct gemm *g, int64_t row, int64_t rows, int64_t n0, int64_t n)
{
    const struct qvl_matmul *op = g->op;
    const struct qvl_rows *to = op->y_rows;
    struct qvl_store s = {.y = g->c, .c = g->c, .bias = op->bias ? op->bias + n0 : NULL, .y_stride = g->mk->nr, .c_stride = g->mk->nr,
                          .rows = rows, .n = n, .add = op->add};
    if (!to) {
        s.y = op->y + row * op->y_stride + n0;
        s.y_stride = op->y_stride;
    }
    g->mk->store(&s);
    qvl_apply_then(g->k, op->then, s.y, s.y_stride, rows, n);
    if (!to)
        return;
    for (int64_t i = 0; i < rows; i++)
        put_row(to, g->k, row + i, n0, g->c + i * g->mk->nr, n);
    if (row + rows == op->m) { /* missing tokens of the last tile */
        memset(g->c, 0, (size_t)n * sizeof *g->c);
        for (int64_t i = op->m; i < to->tiles * to->mr; i++)
            put_row(to, g->k, i, n0, g->c, n);
    }
}

static char *x_block(const struct gemm *g, int64_t k0, int64_t tile)
{
    return g->x + (size_t)((k0 / g->kb * g->tiles + tile) * g->mk->mr * g->kb) * g->elem;
}

static void pack_chunk(const struct gemm *g, const struct qvl_team *t)
{
    int64_t lo, hi, n_in = g->op->w->n_in;
    qvl_team_share(t, g->tiles, 1, &lo, &hi);
    for (int64_t tile = lo; tile < hi; tile++)
        for (int64_t k0 = 0; k0 < n_in; k0 += g->kb) {
            int64_t n = min_i64(g->kb, n_in - k0), row = g->row0 + tile * g->mk->mr;
            void *dst = x_block(g, k0, tile);
            if (g->native)
                pack_x_bf16(dst, g, row, k0, n);
            else
                pack_x(dst, g, row, k0, n);
        }
}

/* Tiles t0 <= tile < t1 of the chunk times the panel of output rows that begins at n0. */
static void run_task(const struct gemm *g, int64_t t0, int64_t t1, int64_t n0)
{
    const struct qvl_matmul_kernels *mk = g->mk;
    const struct qvl_mat *w = g->op->w;
    int64_t size = (int64_t)mk->mr * mk->nr;
    for (int64_t k0 = 0; k0 < w->n_in; k0 += g->kb) {
        int64_t n = min_i64(g->kb, w->n_in - k0);
        if (g->native)
            mk->pack_w_bf16(g->w, w, n0, k0, n);
        else
            mk->pack_w(g->w, w, n0, k0, n);
        for (int64_t t = t0; t < t1; t++) {
            const void *x = x_block(g, k0, t);
            if (g->native)
                mk->tile_bf16(g->c + (t - t0) * size, x, g->w, (n + 1) / 2, k0 == 0);
            else
                mk->tile(g->c + (t - t0) * size, x, g->w, n, k0 == 0);
        }
    }
    int64_t row = g->row0 + t0 * mk->mr, rows = min_i64((t1 - t0) * mk->mr, g->op->m - row);
    finish(g, row, rows, n0, min_i64(mk->nr, w->n_out - n0));
}

static void gemm(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op,
                 const struct qvl_scratch *s)
{
    const struct qvl_matmul_kernels *mk = k->matmul;
    struct plan p = make_plan(mk, op->m, op->w->n_in);
    int native = is_native(mk, a, op->w);
    struct gemm g = {.k = k, .mk = mk, .op = op, .native = native, .round = a == QVL_ARITH_BF16,
                     .kb = native ? mk->kb_bf16 : mk->kb, .elem = native ? 2 : 4};
    char *own = (char *)s->mem + COUNTER_BYTES + p.x_bytes + (p.w_bytes + p.c_bytes) * (size_t)t->id;
    assert(s->bytes >= COUNTER_BYTES + p.x_bytes + (p.w_bytes + p.c_bytes) * (size_t)t->n);
    assert(!op->x_rows || (op->x_rows->mr == mk->mr && op->x_rows->m == op->m && op->x_rows->kb == g.kb && op->x_rows->elem == g.elem));
    assert(!op->y_rows || (op->y_rows->mr && op->y_rows->m == op->m && op->y_rows->kb % mk->nr == 0));
    atomic_llong *next = s->mem;
    g.x = op->x_rows ? op->x_rows->mem : (char *)s->mem + COUNTER_BYTES;
    g.w = own;
    g.c = (float *)(void *)(own + p.w_bytes);

    int64_t panels = ceil_div(op->w->n_out, mk->nr), chunk = op->x_rows ? op->m : p.chunk;
    for (g.row0 = 0; g.row0 < op->m; g.row0 += chunk) {
        g.tiles = ceil_div(min_i64(chunk, op->m - g.row0), mk->mr);
        /* Tall tasks pack each weight panel less often; shorter ones when there are too few for the team. */
        int64_t parts = ceil_div(g.tiles * mk->mr, TASK_TOKENS), task = ceil_div(g.tiles, parts);
        while (task * mk->mr > MIN_TASK && panels * ceil_div(g.tiles, task) < TASKS_EACH * (int64_t)t->n)
            task = (task + 1) / 2;
        int64_t n_task = panels * ceil_div(g.tiles, task);
        qvl_team_barrier(t);
        if (t->id == 0)
            atomic_store_explicit(next, 0, memory_order_relaxed);
        if (!op->x_rows)
            pack_chunk(&g, t);
        qvl_team_barrier(t);
        for (;;) {
            int64_t i = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
            if (i >= n_task || qvl_scratch_cancelled(s))
                break;
            int64_t t0 = i / panels * task;
            run_task(&g, t0, min_i64(t0 + task, g.tiles), i % panels * mk->nr);
        }
    }
}

void qvl_matmul(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op,
                const struct qvl_scratch *s)
{
    struct qvl_matmul plain = *op;
    if (op->m <= 0 || op->w->n_out <= 0)
        return;
    assert(!op->uniform || (a == QVL_ARITH_F32 && !op->x_rows && !op->y_rows));
    assert(!op->add || (!op->y_rows && op->then == QVL_THEN_NOTHING));
    if (op->x_rows && !op->x_rows->mr) {
        plain.x = op->x_rows->mem;
        plain.x_stride = op->x_rows->n;
        plain.x_rows = NULL;
        op = &plain;
    }
    if (op->y_rows && !op->y_rows->mr) {
        plain.y = op->y_rows->mem;
        plain.y_stride = op->y_rows->n;
        plain.y_rows = NULL;
        op = &plain;
    }
    if (qvl_dtype_is_packed(op->w->type)) { /* int8 activations in either arithmetic */
        assert(op->then == QVL_THEN_NOTHING);
        qvl_quant_matmul(t, k->quant, &(struct qvl_quant_set){.op = op, .n = 1}, s);
    } else if (op->w->type == QVL_DT_ROW8)
        qvl_row8_matmul(t, k, op, s);
    else if (op->uniform || uses_gemv(k->matmul, op->m)) /* gemv has one order of sums, the tiles another */
        gemv(t, k, a, op, s);
    else
        gemm(t, k, a, op, s);
}

static int all_packed(const struct qvl_matmul *op, int n)
{
    int same = qvl_dtype_is_packed(op[0].w->type);
    for (int i = 1; i < n; i++)
        same &= op[i].w->type == op[0].w->type;
    return same;
}

void qvl_matmul_set(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul *op, int n,
                    const struct qvl_scratch *s)
{
    if (all_packed(op, n)) {
        qvl_quant_matmul(t, k->quant, &(struct qvl_quant_set){.op = op, .n = n}, s);
        return;
    }
    for (int i = 0; i < n; i++)
        qvl_matmul(t, k, a, &op[i], s);
}

void qvl_matmul_gated(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith a, const struct qvl_matmul op[2],
                      const struct qvl_scratch *s)
{
    int64_t lo, hi;
    if (all_packed(op, 2)) {
        qvl_quant_matmul(t, k->quant, &(struct qvl_quant_set){.op = op, .n = 2, .gated = k->silu_mul}, s);
        return;
    }
    qvl_matmul_set(t, k, a, op, 2, s);
    qvl_team_barrier(t);
    qvl_team_share(t, op[0].w->n_out, 16, &lo, &hi);
    for (int64_t i = 0; i < op[0].m && lo < hi; i++) {
        float *y = op[0].y + i * op[0].y_stride + lo;
        k->silu_mul(y, y, op[1].y + i * op[1].y_stride + lo, hi - lo);
    }
}
