/* encoder.c - patch rows [n_patch][n_elem] -> features [n_patch/merge^2][d_out] and one such set per DeepStack tap.
 *
 *   x = patch embedding + position table
 *   depth times:  x += proj(attention(LN1 x));  x += fc2(gelu(fc1(LN2 x)))
 *   tap mergers after their blocks, main merger at the end
 *
 * Everything runs inside one qvl_pool_run. Rows pass through the wide layers (3C, d_ff, merge^2*C) in chunks, so that work
 * memory is a few [n_patch][C] arrays however large the picture is. It does not decode or resize pictures. */
#include "vision/encoder.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/mem.h"
#include "kernels/rotary.h"
#include "vision/position.h"

/* The most patch rows that pass through the wide layers at once: each chunk packs the weights again, which costs about as much as
 * 30 rows do. Panels of the cache are written whole: chunks are multiples of this and of merge^2. */
enum { CHUNK = 1536, PANEL = 16 };
/* Neither is in config.json; both are the same everywhere in the tower. */
static const float LN_EPS = 1e-6f;
static const double ROPE_THETA = 10000.0;

struct run {
    const struct qvl_vision *v;
    const struct qvl_patches *p;
    struct qvl_vision_features *out;
    struct qvl_watch *watch;
    struct qvl_trace *trace;
    int64_t n_seg;        /* patches of one temporal step */
    int64_t chunk;
    int tap_order[QVL_MAX_TAPS]; /* place in out->tap of the k-th merger: taps come out in the order blocks run */
    int stop;             /* written by member 0 between barriers */
    /* work memory, shared by the team */
    float *x, *q, *att;   /* [n_patch][C]; q and att: [n_seg][C] */
    void *normed;         /* rows for qkv and fc1: [chunk][C] or, in the mergers, [chunk/merge^2][merge^2*C] */
    float *row;           /* [threads][merge^2*C]: a member's row on its way there */
    float *wide;          /* [chunk][3C] */
    void *mid;            /* rows between fc1 and fc2: [chunk][d_ff] or, in the mergers, [chunk/merge^2][merge^2*C] */
    float *cs, *sn;       /* [n_seg][d_head/2]: the rotation of each patch */
    float *side_cs, *side_sn; /* [max side][d_head/4] */
    struct qvl_kv *kv;    /* [n_head] of one temporal step */
    struct qvl_scratch scratch;
};

static int64_t chunk_rows(const struct qvl_vision_config *c, int64_t n_patch)
{
    int64_t unit = (int64_t)c->merge * c->merge, step = unit * PANEL; /* a common multiple */
    int64_t parts = (n_patch + CHUNK - 1) / CHUNK, rows = ((n_patch + parts - 1) / parts + step - 1) / step * step;
    return rows < n_patch ? rows : n_patch;
}

static void larger(size_t *most, const struct qvl_vision *v, const struct qvl_mat *w, int64_t m)
{
    size_t b = qvl_rows_bytes(v->kernels, v->arith, w->type, m, w->n_in);
    *most = b > *most ? b : *most;
}

/* Of the rows in front of qkv and fc1, and between fc1 and fc2, in a chunk. */
static void rows_bytes(const struct qvl_vision *v, int64_t chunk, size_t *normed, size_t *mid)
{
    const struct qvl_vision_config *c = v->config;
    const struct qvl_vision_weights *w = v->weights;
    int64_t merged = chunk / ((int64_t)c->merge * c->merge);
    *normed = *mid = 0;
    for (int i = 0; i < c->depth; i++) {
        larger(normed, v, &w->blocks[i].qkv, chunk);
        larger(normed, v, &w->blocks[i].fc1, chunk);
        larger(mid, v, &w->blocks[i].fc2, chunk);
    }
    for (int k = -1; k < c->n_tap; k++) {
        const struct qvl_merger_weights *m = k < 0 ? &w->merger : &w->tap[k];
        larger(normed, v, &m->fc1, merged);
        larger(mid, v, &m->fc2, merged);
    }
}

static size_t scratch_bytes(const struct qvl_vision *v, int64_t n_seg, int64_t chunk, int n_elem, int n_threads)
{
    const struct qvl_vision_config *c = v->config;
    const struct qvl_kernels *k = v->kernels;
    int64_t C = c->d_model, M = (int64_t)c->merge * c->merge * C;
    const int64_t shape[][2] = {{C, n_elem}, {3 * C, C}, {C, C}, {c->d_ff, C}, {C, c->d_ff}, {M, M}, {c->d_out, M}};
    size_t most = qvl_attention_scratch(k, qvl_kv_type_of(v->arith), n_seg, c->n_head, c->n_head, c->d_model / c->n_head, n_seg, n_threads);
    for (size_t i = 0; i < QVL_COUNT(shape); i++) {
        size_t b = qvl_matmul_scratch(k, v->arith, chunk, shape[i][0], shape[i][1], n_threads);
        if (b > most)
            most = b;
    }
    return most;
}

/* A pair of layers with an activation between them. */
struct two {
    const struct qvl_mat *fc1, *fc2;
    const float *b1, *b2;
};

/* Hands out the work memory; with a counting arena it only adds up. */
static void layout(struct run *r, struct qvl_arena *a, const struct qvl_vision *v, int64_t n_patch, int64_t n_seg, int side,
                   int n_elem, int n_threads)
{
    const struct qvl_vision_config *c = v->config;
    size_t C = (size_t)c->d_model;
    int hd = c->d_model / c->n_head;
    r->chunk = chunk_rows(c, n_patch);
    r->x = qvl_arena_take(a, (size_t)n_patch, C * sizeof(float));
    r->q = qvl_arena_take(a, (size_t)n_seg, C * sizeof(float));
    r->att = qvl_arena_take(a, (size_t)n_seg, C * sizeof(float));
    size_t normed, mid;
    rows_bytes(v, r->chunk, &normed, &mid);
    r->normed = qvl_arena_take(a, normed, 1);
    r->row = qvl_arena_take(a, (size_t)n_threads, (size_t)(c->merge * c->merge) * C * sizeof(float));
    r->wide = qvl_arena_take(a, (size_t)r->chunk, 3 * C * sizeof(float));
    r->mid = qvl_arena_take(a, mid, 1);
    r->cs = qvl_arena_take(a, (size_t)n_seg, (size_t)(hd / 2) * sizeof(float));
    r->sn = qvl_arena_take(a, (size_t)n_seg, (size_t)(hd / 2) * sizeof(float));
    r->side_cs = qvl_arena_take(a, (size_t)side, (size_t)(hd / 4) * sizeof(float));
    r->side_sn = qvl_arena_take(a, (size_t)side, (size_t)(hd / 4) * sizeof(float));
    r->kv = qvl_arena_take(a, (size_t)c->n_head, sizeof *r->kv);
    size_t one = qvl_kv_bytes(qvl_kv_type_of(v->arith), hd, n_seg);
    for (int i = 0; i < c->n_head; i++) {
        void *k = qvl_arena_take(a, one, 1), *val = qvl_arena_take(a, one, 1);
        if (a->base && !a->overflow)
            r->kv[i] = (struct qvl_kv){.k = k, .v = val, .head_dim = hd, .n_max = n_seg};
    }
    r->scratch.bytes = scratch_bytes(v, n_seg, r->chunk, n_elem, n_threads);
    r->scratch.mem = qvl_arena_take(a, r->scratch.bytes, 1);
}

static int n_elem(const struct qvl_vision_config *c) { return c->n_channel * c->temporal_patch * c->patch * c->patch; }

int qvl_vision_bytes(const struct qvl_vision *v, int64_t n_patch, int64_t n_seg, int n_threads, size_t *work, size_t *features)
{
    struct qvl_arena count = {0};
    struct run r = {0};
    const struct qvl_vision_config *c = v->config;
    if (n_patch <= 0 || n_seg <= 0 || n_seg > n_patch)
        return QVL_E_ARG;
    layout(&r, &count, v, n_patch, n_seg, (int)(n_seg / c->merge), n_elem(c), n_threads);
    size_t rows = (size_t)n_patch / (size_t)(c->merge * c->merge), f = 0;
    if (count.overflow || qvl_mul_size(&f, rows, (size_t)c->d_out * sizeof(float) * (size_t)(1 + c->n_tap)))
        return QVL_E_LIMIT;
    *work = count.used;
    *features = f;
    return 0;
}

/* ---- stages; every member of the team runs them in step ---- */

static void matmul(const struct run *r, const struct qvl_team *t, float *y, int64_t ys, const float *x, int64_t xs, int64_t m,
                   const struct qvl_mat *w, const float *bias, int add)
{
    struct qvl_matmul op = {.y = y, .x = x, .w = w, .bias = bias, .m = m, .y_stride = ys, .x_stride = xs, .add = add};
    qvl_matmul(t, r->v->kernels, r->v->arith, &op, &r->scratch);
    qvl_team_barrier(t);
}

/* x[p] = W row[p] + b + position(p); the position term in float32. */
static void embed(const struct run *r, const struct qvl_team *t)
{
    const struct qvl_vision_config *c = r->v->config;
    const struct qvl_vision_weights *w = r->v->weights;
    const struct qvl_kernels *k = r->v->kernels;
    int64_t C = c->d_model, lo, hi;
    for (int64_t at = 0; at < r->p->n_patch; at += r->chunk) {
        int64_t m = r->p->n_patch - at < r->chunk ? r->p->n_patch - at : r->chunk;
        matmul(r, t, r->x + at * C, C, r->p->rows + at * r->p->n_elem, r->p->n_elem, m, &w->patch, w->patch_b, 0);
    }
    const size_t width = qvl_dtype_bits(w->pos.type) / 8;
    qvl_team_share(t, r->p->n_patch, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        int row, col;
        int64_t index[4];
        float share[4], part[64];
        float *x = r->x + i * C;
        qvl_patch_place(i % r->n_seg, r->p->grid_w, c->merge, &row, &col);
        qvl_position_bilinear(row, col, r->p->grid_h, r->p->grid_w, c->n_pos_side, index, share);
        for (int64_t d = 0; d < C; d += 64) {
            int64_t n = C - d < 64 ? C - d : 64;
            float sum[64] = {0};
            for (int j = 0; j < 4; j++) {
                k->to_f32(part, (const char *)w->pos.data + (size_t)(index[j] * w->pos.stride + d) * width, w->pos.type, n);
                for (int64_t e = 0; e < n; e++)
                    sum[e] += share[j] * part[e];
            }
            for (int64_t e = 0; e < n; e++)
                x[d + e] += sum[e];
        }
    }
    qvl_team_barrier(t);
}

/* Cosines and sines of each patch of a step: the angles of its row, then those of its column. */
static void rotations(const struct run *r, const struct qvl_team *t)
{
    const struct qvl_vision_config *c = r->v->config;
    const int64_t quarter = c->d_model / c->n_head / 4;
    const size_t part = (size_t)quarter * sizeof(float);
    int64_t lo, hi;
    qvl_team_share(t, r->n_seg, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        int row, col;
        qvl_patch_place(i, r->p->grid_w, c->merge, &row, &col);
        memcpy(r->cs + i * 2 * quarter, r->side_cs + row * quarter, part);
        memcpy(r->sn + i * 2 * quarter, r->side_sn + row * quarter, part);
        memcpy(r->cs + (2 * i + 1) * quarter, r->side_cs + col * quarter, part);
        memcpy(r->sn + (2 * i + 1) * quarter, r->side_sn + col * quarter, part);
    }
}

/* Rotates q and k of the rows at..at+m of a step, stores k and v in the step's cache and q in r->q. Split by panels of the cache,
 * each of which is written by one member. qkv: [m][3C], overwritten. */
static void rotate_and_store(const struct run *r, const struct qvl_team *t, float *qkv, int64_t at, int64_t m)
{
    const struct qvl_vision_config *c = r->v->config;
    const struct qvl_kernels *k = r->v->kernels;
    const int64_t C = c->d_model, hd = C / c->n_head;
    int64_t lo, hi;
    qvl_team_share(t, m, PANEL, &lo, &hi);
    for (int64_t p = lo; p < hi; p += PANEL) {
        const int64_t end = p + PANEL < hi ? p + PANEL : hi;
        for (int64_t i = p; i < end; i++) {
            float *row = qkv + i * 3 * C;
            for (int64_t d = 0; d < 2 * C; d += hd) /* the heads of q, then those of k */
                k->rope(row + d, r->cs + (at + i) * (hd / 2), r->sn + (at + i) * (hd / 2), hd);
            memcpy(r->q + (at + i) * C, row, (size_t)C * sizeof(float));
        }
        for (int64_t head = 0; head < c->n_head; head++) {
            const float *key = qkv + p * 3 * C + C + head * hd;
            qvl_kv_store_rows(k, qvl_kv_type_of(r->v->arith), &r->kv[head], at + p, end - p, key, key + C, 3 * C);
        }
    }
}

/* Rows for the layer `next`: each is `parts` vectors of x side by side, of which each is normed. */
static struct qvl_rows norm_rows(const struct run *r, const struct qvl_team *t, const struct qvl_mat *next, const float *x, int64_t m,
                                 int parts, const struct qvl_norm_weights *w)
{
    const struct qvl_vision_config *c = r->v->config;
    const struct qvl_kernels *k = r->v->kernels;
    const struct qvl_rows to = qvl_rows_view(k, r->v->arith, next->type, m, next->n_in, r->normed);
    const int64_t n = next->n_in / parts;
    float *row = r->row + (int64_t)t->id * c->merge * c->merge * c->d_model;
    int64_t lo, hi;
    qvl_team_share(t, m, to.mr ? to.mr : 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        for (int p = 0; p < parts; p++)
            k->layernorm(row + p * n, x + (i * parts + p) * n, w->w, w->b, n, LN_EPS);
        qvl_rows_put(&to, k, i, row);
    }
    qvl_team_barrier(t);
    return to;
}

/* x of one temporal step += proj(attention(LN1 x)) */
static void attention_half(const struct run *r, const struct qvl_team *t, const struct qvl_vision_block_weights *b, float *x)
{
    const struct qvl_vision_config *c = r->v->config;
    int64_t C = c->d_model;
    int hd = c->d_model / c->n_head;
    for (int64_t at = 0; at < r->n_seg; at += r->chunk) {
        int64_t m = r->n_seg - at < r->chunk ? r->n_seg - at : r->chunk;
        const struct qvl_rows in = norm_rows(r, t, &b->qkv, x + at * C, m, 1, &b->norm1);
        struct qvl_matmul op = {.y = r->wide, .x_rows = &in, .w = &b->qkv, .bias = b->qkv_b, .m = m, .y_stride = 3 * C};
        qvl_matmul(t, r->v->kernels, r->v->arith, &op, &r->scratch);
        qvl_team_barrier(t);
        rotate_and_store(r, t, r->wide, at, m);
    }
    qvl_team_barrier(t);
    struct qvl_attention op = {
        .out = r->att, .q = r->q, .kv = r->kv, .n_tok = r->n_seg, .out_stride = C, .q_stride = C, .n_head = c->n_head,
        .n_kv = c->n_head, .head_dim = hd, .n_key = r->n_seg, .scale = 1.0f / sqrtf((float)hd)};
    qvl_attention(t, r->v->kernels, qvl_kv_type_of(r->v->arith), &op, &r->scratch);
    qvl_team_barrier(t);
    for (int64_t at = 0; at < r->n_seg; at += r->chunk) {
        int64_t m = r->n_seg - at < r->chunk ? r->n_seg - at : r->chunk;
        matmul(r, t, x + at * C, C, r->att + at * C, C, m, &b->proj, b->proj_b, 1);
    }
}

/* y = fc2(then(fc1(x))), y += when add; what is between stays in the form that fc2 reads. */
static void two_layers(const struct run *r, const struct qvl_team *t, float *y, const struct qvl_rows *x, const struct two *w,
                       enum qvl_then then, int add)
{
    const struct qvl_vision *v = r->v;
    const struct qvl_rows mid = qvl_rows_view(v->kernels, v->arith, w->fc2->type, x->m, w->fc2->n_in, r->mid);
    struct qvl_matmul first = {.y_rows = &mid, .x_rows = x, .w = w->fc1, .bias = w->b1, .m = x->m, .then = then},
                      second = {.y = y, .x_rows = &mid, .w = w->fc2, .bias = w->b2, .m = x->m, .y_stride = w->fc2->n_out, .add = add};
    qvl_matmul(t, v->kernels, v->arith, &first, &r->scratch);
    qvl_team_barrier(t);
    qvl_matmul(t, v->kernels, v->arith, &second, &r->scratch);
    qvl_team_barrier(t);
}

/* x += fc2(gelu(fc1(LN2 x))) */
static void mlp_half(const struct run *r, const struct qvl_team *t, const struct qvl_vision_block_weights *b)
{
    const struct qvl_vision_config *c = r->v->config;
    const struct two w = {&b->fc1, &b->fc2, b->fc1_b, b->fc2_b};
    int64_t C = c->d_model;
    for (int64_t at = 0; at < r->p->n_patch; at += r->chunk) {
        int64_t m = r->p->n_patch - at < r->chunk ? r->p->n_patch - at : r->chunk;
        const struct qvl_rows in = norm_rows(r, t, &b->fc1, r->x + at * C, m, 1, &b->norm2);
        two_layers(r, t, r->x + at * C, &in, &w, c->act_tanh ? QVL_THEN_GELU_TANH : QVL_THEN_GELU_ERF, 1);
    }
}

/* out[n_token][d_out] = fc2(gelu_erf(fc1(norm))). The main merger norms each patch (before the merge^2 patches of a block
 * are put side by side), a DeepStack merger norms the concatenated row. Block order makes concatenation free. */
static void merge(const struct run *r, const struct qvl_team *t, const struct qvl_merger_weights *w, int norm_before, float *out)
{
    const struct qvl_vision_config *c = r->v->config;
    const struct two layers = {&w->fc1, &w->fc2, w->fc1_b, w->fc2_b};
    int64_t C = c->d_model, unit = (int64_t)c->merge * c->merge;
    for (int64_t at = 0; at < r->p->n_patch; at += r->chunk) {
        int64_t m = r->p->n_patch - at < r->chunk ? r->p->n_patch - at : r->chunk;
        const struct qvl_rows in = norm_rows(r, t, &w->fc1, r->x + at * C, m / unit, norm_before ? (int)unit : 1, &w->norm);
        two_layers(r, t, out + at / unit * c->d_out, &in, &layers, QVL_THEN_GELU_ERF, 0);
    }
}

/* Member 0 looks at the watch and leaves rows in the trace; the others wait. Returns 1 when all should stop. */
static int between(struct run *r, const struct qvl_team *t, uint64_t more, const char *name, int index)
{
    if (t->id == 0) {
        r->stop = qvl_watch_tick(r->watch, more);
        if (index < 0)
            qvl_trace_add(r->trace, QVL_DT_F32, r->x, r->p->n_patch, r->v->config->d_model, "%s", name);
        else
            qvl_trace_add(r->trace, QVL_DT_F32, r->x, r->p->n_patch, r->v->config->d_model, "%s.%d", name, index);
    }
    qvl_team_barrier(t);
    int stop = r->stop;
    qvl_team_barrier(t);
    return stop;
}

static void encode(void *ud, const struct qvl_team *t)
{
    struct run *r = ud;
    const struct qvl_vision_config *c = r->v->config;
    rotations(r, t);
    embed(r, t);
    if (between(r, t, 1, "vision.embed", -1))
        return;
    for (int i = 0; i < c->depth; i++) {
        const struct qvl_vision_block_weights *b = &r->v->weights->blocks[i];
        for (int64_t at = 0; at < r->p->n_patch; at += r->n_seg)
            attention_half(r, t, b, r->x + at * c->d_model);
        mlp_half(r, t, b);
        if (between(r, t, 1, "vision.block", i))
            return;
        for (int k = 0; k < c->n_tap; k++)
            if (c->tap[k] == i)
                merge(r, t, &r->v->weights->tap[k], 0, r->out->tap[r->tap_order[k]]);
    }
    merge(r, t, &r->v->weights->merger, 1, r->out->main);
}

int qvl_vision_features_alloc(struct qvl_vision_features *f, const struct qvl_vision_config *c, int64_t n_token, qvl_err *err)
{
    size_t one, all;
    *f = (struct qvl_vision_features){.n_token = n_token, .d_out = c->d_out, .n_tap = c->n_tap};
    if (qvl_mul_size(&one, (size_t)n_token, (size_t)c->d_out) || qvl_mul_size(&all, one, sizeof(float) * (size_t)(1 + c->n_tap)))
        return qvl_fail(err, QVL_E_LIMIT, "picture features: size overflows");
    f->mem = qvl_alloc(all, 1);
    if (!f->mem)
        return qvl_fail_nomem(err, all, "picture features");
    f->bytes = all;
    f->main = f->mem;
    for (int k = 0; k < c->n_tap; k++)
        f->tap[k] = f->main + one * (size_t)(k + 1);
    return 0;
}

void qvl_vision_features_free(struct qvl_vision_features *f)
{
    qvl_mem_free(f->mem);
    *f = (struct qvl_vision_features){0};
}

int qvl_vision_encode(struct qvl_vision_features *out, const struct qvl_vision *v, const struct qvl_patches *p,
                      struct qvl_pool *pool, struct qvl_watch *watch, struct qvl_trace *trace, qvl_err *err)
{
    const struct qvl_vision_config *c = v->config;
    int unit = c->merge * c->merge, n_threads = (int)qvl_pool_size(pool);
    int side = p->grid_h > p->grid_w ? p->grid_h : p->grid_w;
    *out = (struct qvl_vision_features){0};
    if (p->n_elem != n_elem(c) || p->n_patch <= 0 || p->grid_h % c->merge || p->grid_w % c->merge ||
        p->n_patch != (int64_t)p->grid_t * p->grid_h * p->grid_w)
        return qvl_fail(err, QVL_E_ARG, "patch grid %dx%dx%d with rows of %d values does not fit the vision encoder", p->grid_t,
                        p->grid_h, p->grid_w, p->n_elem);

    struct run r = {.v = v, .p = p, .out = out, .watch = watch, .trace = trace, .n_seg = (int64_t)p->grid_h * p->grid_w};
    struct qvl_arena count = {0}, own = {0}, *arena = v->work ? v->work : &own;
    layout(&r, &count, v, p->n_patch, r.n_seg, side, p->n_elem, n_threads);
    if (count.overflow)
        return qvl_fail(err, QVL_E_LIMIT, "picture of %lld patches: work memory overflows", (long long)p->n_patch);
    QVL_TRY(qvl_arena_renew(arena, count.used, err));
    int rc = qvl_vision_features_alloc(out, c, p->n_patch / unit, err);
    if (rc < 0)
        goto done;
    layout(&r, arena, v, p->n_patch, r.n_seg, side, p->n_elem, n_threads);
    if (QVL_NEVER(arena->overflow)) {
        rc = qvl_fail(err, QVL_E_STATE, "vision work memory was counted wrongly");
        goto done;
    }
    r.scratch.cancel = watch ? watch->cancel : NULL;
    size_t one = qvl_kv_bytes(qvl_kv_type_of(v->arith), c->d_model / c->n_head, r.n_seg);
    for (int i = 0; i < c->n_head; i++) {
        memset(r.kv[i].k, 0, one);
        memset(r.kv[i].v, 0, one);
    }
    for (int k = 0; k < c->n_tap; k++) /* rank of the tap among all taps */
        for (int j = 0; j < c->n_tap; j++)
            r.tap_order[k] += c->tap[j] < c->tap[k];
    qvl_rotary_table(r.side_cs, r.side_sn, side, c->d_model / c->n_head / 2, ROPE_THETA);
    qvl_pool_run(pool, encode, &r);
    if (qvl_watch_stopped(watch)) {
        rc = qvl_fail(err, QVL_E_CANCELLED, "cancelled while a picture was encoded");
        goto done;
    }
    for (int k = 0; k < c->n_tap; k++)
        qvl_trace_add(trace, QVL_DT_F32, out->tap[k], out->n_token, c->d_out, "vision.deepstack.%d", k);
    qvl_trace_add(trace, QVL_DT_F32, out->main, out->n_token, c->d_out, "vision.output");
done:
    qvl_arena_close(&own);
    if (rc < 0)
        qvl_vision_features_free(out);
    return rc;
}
