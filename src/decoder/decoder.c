/* decoder.c - token ids, positions and picture features -> hidden states -> logits.
 *
 *   x = embedding, or the picture's feature row
 *   n_layer times:  a = RMS(x);  x += Wo attention(rope(norm(Wq a)), rope(norm(Wk a)), Wv a)
 *                   a = RMS(x);  x += Wdown(silu(Wgate a) * Wup a)        (or the experts of moe.c)
 *                   after layer i < n_tap: picture rows += DeepStack features i
 *   logits = head(RMS(x)) for the rows that need them
 *   Adapters (adapt.h) add to any of the products W.
 *
 * One loop for any number of tokens, inside one qvl_pool_run. It does not choose tokens or know about text. */
#include "decoder/decoder.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/pages.h"
#include "decoder/moe.h"
#include "decoder/refine.h"
#include "kernels/quant.h"
#include "kernels/rotary.h"
#include "model/foreign.h"

enum { LOGIT_ROWS = 16 }; /* rows of logits computed at once when a trace asks for all */

struct qvl_decoder {
    struct qvl_decoder_params p;
    struct qvl_arena arena;
    struct qvl_pages kv_pages;
    struct qvl_kv *kv;       /* [n_layer][n_kv] */
    float *inv;              /* [d_head/2] rotary frequencies */
    uint8_t *axis;           /* [d_head/2] 0 T, 1 H, 2 W */
    float rope_scale;        /* of cos and sin */
    /* work memory for n_chunk tokens */
    float *x, *h;            /* [n][d_model] */
    float *q, *att;          /* [n][n_head*d_head] */
    float *k, *v;            /* [n][n_kv*d_head] */
    float *gate, *up;        /* [n][d_ff] */
    float *cs, *sn;          /* [n][d_head/2] */
    const float **row;       /* [n] feature row of a picture token, or NULL */
    int32_t *row_index;      /* [n] its index within the picture's features */
    const struct qvl_vision_features **row_of; /* [n] */
    struct qvl_moe moe;
    struct qvl_adapt adapt;
    struct qvl_moments *moments; /* of a calibration run, or NULL */
    struct qvl_refine refine;
    int refines;             /* the best logits come from the full-precision table */
    struct qvl_scratch scratch;
};

static size_t scratch_bytes(const struct qvl_decoder *d, int n_threads)
{
    const struct qvl_decoder_params *p = &d->p;
    const struct qvl_text_config *c = p->config;
    const struct qvl_kernels *k = p->kernels;
    int64_t D = c->d_model, Q = (int64_t)c->n_head * c->d_head, K = (int64_t)c->n_kv * c->d_head;
    const int64_t shape[][2] = {{Q, D}, {K, D}, {D, Q}, {c->d_ff, D}, {D, c->d_ff}, {c->n_vocab, D},
                                {c->n_expert, D}, {c->d_ff_expert, D}, {D, c->d_ff_expert}};
    size_t most = qvl_attention_scratch(k, p->kv, p->n_chunk, c->n_head, c->n_kv, c->d_head, p->n_ctx, n_threads);
    for (size_t i = 0; i < QVL_COUNT(shape); i++)
        for (int a = 0; a < 2 && shape[i][0] > 0 && shape[i][1] > 0; a++) { /* the router runs in f32 always */
            size_t b = qvl_matmul_scratch(k, (enum qvl_arith)a, p->n_chunk, shape[i][0], shape[i][1], n_threads);
            most = b > most ? b : most;
        }
    size_t low = qvl_adapt_scratch(&d->adapt, c, k, p->n_chunk, n_threads);
    return low > most ? low : most;
}

/* Hands out work memory; a counting arena adds up. */
static void layout(struct qvl_decoder *d, struct qvl_arena *a, int n_threads)
{
    const struct qvl_text_config *c = d->p.config;
    size_t n = (size_t)d->p.n_chunk, D = (size_t)c->d_model, half = (size_t)c->d_head / 2;
    size_t Q = (size_t)c->n_head * (size_t)c->d_head, K = (size_t)c->n_kv * (size_t)c->d_head, f = sizeof(float);
    d->kv = qvl_arena_take(a, (size_t)c->n_layer * (size_t)c->n_kv, sizeof *d->kv);
    d->inv = qvl_arena_take(a, half, f);
    d->axis = qvl_arena_take(a, half, 1);
    d->x = qvl_arena_take(a, n, D * f);
    d->h = qvl_arena_take(a, n, D * f);
    d->q = qvl_arena_take(a, n, Q * f);
    d->att = qvl_arena_take(a, n, Q * f);
    d->k = qvl_arena_take(a, n, K * f);
    d->v = qvl_arena_take(a, n, K * f);
    d->gate = qvl_arena_take(a, n, (size_t)c->d_ff * f);
    d->up = qvl_arena_take(a, n, (size_t)c->d_ff * f);
    d->cs = qvl_arena_take(a, n, half * f);
    d->sn = qvl_arena_take(a, n, half * f);
    d->row = qvl_arena_take(a, n, sizeof *d->row);
    d->row_of = qvl_arena_take(a, n, sizeof *d->row_of);
    d->row_index = qvl_arena_take(a, n, sizeof *d->row_index);
    qvl_refine_take(&d->refine, a, n_threads);
    if (c->n_expert)
        qvl_moe_take(&d->moe, a, c, d->p.n_chunk);
    qvl_adapt_take(&d->adapt, a, d->p.n_chunk);
    d->scratch.bytes = scratch_bytes(d, n_threads);
    d->scratch.mem = qvl_arena_take(a, d->scratch.bytes, 1);
}

static int kv_total(const struct qvl_decoder_params *p, size_t *one, size_t *total)
{
    *one = qvl_kv_bytes(p->kv, p->config->d_head, p->n_ctx);
    if (*one > SIZE_MAX / 4)
        return -1;
    *one = qvl_round_up(*one, QVL_ALIGN);
    return qvl_mul_size(total, *one, 2 * (size_t)p->config->n_layer * (size_t)p->config->n_kv);
}

int qvl_decoder_bytes(const struct qvl_decoder_params *p, int n_threads, size_t *kv, size_t *work)
{
    struct qvl_decoder d = {.p = *p};
    struct qvl_arena count = {0};
    size_t one;
    qvl_adapt_init(&d.adapt, p->lora, p->n_lora, p->config->n_layer);
    layout(&d, &count, n_threads);
    if (count.overflow || kv_total(p, &one, kv))
        return QVL_E_LIMIT;
    *work = count.used;
    return 0;
}

/* Axis of frequency j (6.4): T everywhere, H at 1,4,7,... below 3*section[1], W at 2,5,8,... below 3*section[2]. */
static void rope_axes(uint8_t *axis, const struct qvl_text_config *c)
{
    for (int j = 0; j < c->d_head / 2; j++)
        axis[j] = j % 3 == 1 && j < 3 * c->rope_section[1] ? 1 : j % 3 == 2 && j < 3 * c->rope_section[2] ? 2 : 0;
}

int qvl_decoder_open(struct qvl_decoder **out, const struct qvl_decoder_params *p, qvl_err *err)
{
    const struct qvl_text_config *c = p->config;
    int n_threads = (int)qvl_pool_size(p->pool);
    size_t kv, work, one;
    *out = NULL;
    if (qvl_decoder_bytes(p, n_threads, &kv, &work) < 0 || kv_total(p, &one, &kv))
        return qvl_fail(err, QVL_E_LIMIT, "a context of %lld tokens: size overflows", (long long)p->n_ctx);
    struct qvl_decoder *d = qvl_calloc(1, sizeof *d);
    if (!d)
        return qvl_fail_nomem(err, sizeof *d, "decoder");
    d->p = *p;
    qvl_adapt_init(&d->adapt, p->lora, p->n_lora, c->n_layer);
    int rc = qvl_arena_open(&d->arena, work, err);
    if (rc == 0)
        rc = qvl_pages_reserve(&d->kv_pages, kv, "the KV cache", err); /* each head begins small and grows */
    if (rc < 0) {
        qvl_decoder_close(&d);
        return rc;
    }
    layout(d, &d->arena, n_threads);
    for (int i = 0; i < c->n_layer * c->n_kv; i++) {
        unsigned char *at = (unsigned char *)d->kv_pages.data + (size_t)i * 2 * one;
        d->kv[i] = (struct qvl_kv){.k = at, .v = at + one, .head_dim = c->d_head, .n_max = p->n_ctx};
    }
    d->rope_scale = 1.0f;
    if (c->rope_original > 0)
        d->rope_scale = qvl_rotary_yarn(d->inv, c->d_head, c->rope_theta, c->rope_factor, c->rope_original);
    else
        qvl_rotary_frequencies(d->inv, c->d_head, c->rope_theta);
    rope_axes(d->axis, c);
    d->refines = c->tied && qvl_refine_can(&p->weights->head, &p->weights->embed, p->kernels);
    *out = d;
    return 0;
}

void qvl_decoder_close(struct qvl_decoder **d)
{
    if (!d || !*d)
        return;
    qvl_pages_close(&(*d)->kv_pages);
    qvl_arena_close(&(*d)->arena);
    qvl_mem_free(*d);
    *d = NULL;
}

struct fill {
    struct qvl_decoder *d;
    int64_t n_pos;
};

static void fill(void *ud, const struct qvl_team *t)
{
    const struct fill *f = ud;
    const struct qvl_text_config *c = f->d->p.config;
    float value[2][256]; /* head_dim is at most 256 */
    int64_t lo, hi;
    qvl_team_share(t, (int64_t)c->n_layer * c->n_kv, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++)
        for (int64_t pos = 0; pos < f->n_pos; pos++) {
            for (int j = 0; j < 2 * 256; j++)
                value[j / 256][j % 256] = (float)(((uint64_t)(pos * 512 + j) * 2654435761u) >> 13 & 1023) / 512.0f - 1.0f;
            qvl_kv_store(f->d->p.kv, &f->d->kv[i], pos, value[0], value[1]);
        }
}

void qvl_decoder_fill(struct qvl_decoder *d, int64_t n_pos)
{
    struct fill f = {.d = d, .n_pos = n_pos};
    qvl_pool_run(d->p.pool, fill, &f);
}

void qvl_decoder_observe(struct qvl_decoder *d, struct qvl_moments *m) { d->moments = d->moe.moments = m; }

/* ---- one step; every member of the team runs these in order ---- */

struct step {
    struct qvl_decoder *d;
    const struct qvl_sequence *seq;
    int64_t from, n;         /* tokens [from, from+n) */
    int64_t n_logits;
    float *logits;
    struct qvl_watch *watch;
    struct qvl_trace *trace;
    int stop;
};

static void matmul(const struct qvl_decoder *d, const struct qvl_team *t, float *y, const float *x, int64_t m,
                   const struct qvl_mat *w, int add)
{
    struct qvl_matmul op = {.y = y, .x = x, .w = w, .m = m, .y_stride = w->n_out, .x_stride = w->n_in, .add = add};
    qvl_matmul(t, d->p.kernels, d->p.arith, &op, &d->scratch);
    qvl_team_barrier(t);
}

/* m rows of products of d->h, from row `first` on. */
static struct qvl_matmul of_h(const struct qvl_decoder *d, float *y, int64_t first, int64_t m, const struct qvl_mat *w)
{
    return (struct qvl_matmul){.y = y, .x = d->h + first * w->n_in, .w = w, .m = m, .y_stride = w->n_out, .x_stride = w->n_in};
}

/* First row that a layer has to compute beside keys and values: in the last layer only rows that become logits go on. */
static int64_t first_needed(const struct step *s, const struct qvl_layer_weights *w)
{
    const struct qvl_decoder *d = s->d;
    int last = w == d->p.weights->layers + d->p.config->n_layer - 1;
    return last && !s->trace && !d->moments ? s->n - s->n_logits : 0;
}

/* Adapters' part of up to three products of the same rows. */
static void adapt(const struct qvl_decoder *d, const struct qvl_team *t, int layer, const float *x, int64_t n, const struct qvl_adapt_to *to,
                  int n_to)
{
    qvl_adapt_run(t, d->p.kernels, &d->adapt, layer, to, n_to, x, n, &d->scratch);
}

static void norm_rows(const struct qvl_decoder *d, const struct qvl_team *t, float *y, const float *x, int64_t m, const float *w)
{
    int64_t D = d->p.config->d_model, lo, hi;
    qvl_team_share(t, m, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++)
        d->p.kernels->rmsnorm(y + i * D, x + i * D, w, D, (float)d->p.config->rms_eps);
    qvl_team_barrier(t);
}

/* Embeddings or picture rows into x; cosines and sines of every token. */
static void begin(const struct step *s, const struct qvl_team *t)
{
    struct qvl_decoder *d = s->d;
    const struct qvl_text_config *c = d->p.config;
    const struct qvl_mat *e = &d->p.weights->embed;
    size_t D = (size_t)c->d_model, width = qvl_dtype_bits(e->type) / 8;
    int64_t lo, hi, half = c->d_head / 2;
    qvl_team_share(t, s->n, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        float *x = d->x + i * c->d_model;
        if (d->row[i])
            memcpy(x, d->row[i], D * sizeof(float));
        else if (qvl_dtype_is_packed(e->type))
            qvl_quant_row(x, e, s->seq->id[s->from + i]);
        else if (qvl_dtype_is_foreign(e->type))
            qvl_foreign_row(x, e, s->seq->id[s->from + i]);
        else
            d->p.kernels->to_f32(x, (const char *)e->data + (size_t)(s->seq->id[s->from + i] * e->stride) * width, e->type,
                                 c->d_model);
        for (int64_t j = 0; j < half; j++) {
            float angle = (float)s->seq->pos[d->axis[j] * s->seq->cap + s->from + i] * d->inv[j];
            d->cs[i * half + j] = cosf(angle) * d->rope_scale;
            d->sn[i * half + j] = sinf(angle) * d->rope_scale;
        }
    }
    qvl_team_barrier(t);
}

/* q and k: RMS per head, rotation; k and v into the cache. Split by heads: a head's cache has one writer. After a request to
 * stop the products are unfinished and nothing is stored: what lies behind the valid positions has to stay finite. */
static void rotate_and_store(const struct step *s, const struct qvl_team *t, const struct qvl_layer_weights *w, struct qvl_kv *kv,
                             int64_t first)
{
    struct qvl_decoder *d = s->d;
    const struct qvl_text_config *c = d->p.config;
    const struct qvl_kernels *kn = d->p.kernels;
    int64_t lo, hi, hd = c->d_head, half = hd / 2;
    float eps = (float)c->rms_eps;
    qvl_team_share(t, c->n_head, 1, &lo, &hi);
    for (int64_t i = first; i < s->n; i++)
        for (int64_t head = lo; head < hi; head++) {
            float *q = d->q + (i * c->n_head + head) * hd;
            kn->rmsnorm(q, q, w->q_norm, hd, eps);
            kn->rope(q, d->cs + i * half, d->sn + i * half, hd);
        }
    qvl_team_share(t, c->n_kv, 1, &lo, &hi);
    for (int64_t i = 0; i < s->n && !qvl_scratch_cancelled(&d->scratch); i++)
        for (int64_t head = lo; head < hi; head++) {
            float *k = d->k + (i * c->n_kv + head) * hd;
            kn->rmsnorm(k, k, w->k_norm, hd, eps);
            kn->rope(k, d->cs + i * half, d->sn + i * half, hd);
            qvl_kv_store(d->p.kv, &kv[head], s->from + i, k, d->v + (i * c->n_kv + head) * hd);
        }
    qvl_team_barrier(t);
}

static void observe(const struct qvl_decoder *d, const struct qvl_team *t, int layer, enum qvl_moment_place place, const float *x, int64_t n)
{
    if (d->moments)
        qvl_moments_add(d->moments, t, layer, place, 0, x, n);
}

static void attention(const struct step *s, const struct qvl_team *t, const struct qvl_layer_weights *w, struct qvl_kv *kv)
{
    struct qvl_decoder *d = s->d;
    const struct qvl_text_config *c = d->p.config;
    int64_t Q = (int64_t)c->n_head * c->d_head, D = c->d_model, first = first_needed(s, w), n = s->n - first;
    int layer = (int)(w - d->p.weights->layers);
    norm_rows(d, t, d->h, d->x, s->n, w->norm1);
    observe(d, t, layer, QVL_MOMENT_QKV, d->h, s->n);
    const struct qvl_matmul kvq[] = {of_h(d, d->k, 0, s->n, &w->k), of_h(d, d->v, 0, s->n, &w->v),
                                     of_h(d, d->q + first * Q, first, n, &w->q)};
    qvl_matmul_set(t, d->p.kernels, d->p.arith, kvq, first ? 2 : 3, &d->scratch);
    if (first)
        qvl_matmul(t, d->p.kernels, d->p.arith, &kvq[2], &d->scratch);
    qvl_team_barrier(t);
    adapt(d, t, layer, d->h, s->n, (struct qvl_adapt_to[]){{QVL_LORA_K, d->k}, {QVL_LORA_V, d->v}}, 2);
    adapt(d, t, layer, d->h + first * D, n, &(struct qvl_adapt_to){QVL_LORA_Q, d->q + first * Q}, 1);
    rotate_and_store(s, t, w, kv, first);
    if (!n)
        return;
    struct qvl_attention op = {.out = d->att + first * Q, .q = d->q + first * Q, .kv = kv, .n_tok = n, .out_stride = Q, .q_stride = Q,
                               .n_head = c->n_head, .n_kv = c->n_kv, .head_dim = c->d_head, .causal = 1, .first = s->from + first,
                               .n_key = s->from + s->n, .scale = 1.0f / sqrtf((float)c->d_head)};
    qvl_attention(t, d->p.kernels, d->p.kv, &op, &d->scratch);
    qvl_team_barrier(t);
    observe(d, t, layer, QVL_MOMENT_O, d->att, s->n);
    matmul(d, t, d->x + first * D, d->att + first * Q, n, &w->o, 1);
    adapt(d, t, layer, d->att + first * Q, n, &(struct qvl_adapt_to){QVL_LORA_O, d->x + first * D}, 1);
}

/* qvl_matmul_gated with adapters between the products and SwiGLU. */
static void gated_adapted(const struct qvl_decoder *d, const struct qvl_team *t, int layer, const struct qvl_matmul pair[2])
{
    int64_t F = d->p.config->d_ff, lo, hi;
    qvl_matmul_set(t, d->p.kernels, d->p.arith, pair, 2, &d->scratch);
    qvl_team_barrier(t);
    adapt(d, t, layer, pair->x, pair->m, (struct qvl_adapt_to[]){{QVL_LORA_GATE, d->gate}, {QVL_LORA_UP, d->up}}, 2);
    qvl_team_share(t, pair->m, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++)
        d->p.kernels->silu_mul(d->gate + i * F, d->gate + i * F, d->up + i * F, F);
}

static void mlp(const struct step *s, const struct qvl_team *t, const struct qvl_layer_weights *w, int sparse)
{
    struct qvl_decoder *d = s->d;
    const struct qvl_text_config *c = d->p.config;
    int64_t first = first_needed(s, w), n = s->n - first;
    float *x = d->x + first * c->d_model, *h = d->h + first * c->d_model;
    int layer = (int)(w - d->p.weights->layers);
    if (!n)
        return;
    if (t->id == 0)
        d->moe.layer = layer; /* read behind the next barrier */
    norm_rows(d, t, h, x, n, w->norm2);
    if (sparse) {
        qvl_moe_run(t, d->p.kernels, d->p.arith, c, w, &d->moe, x, h, n, &d->scratch);
        return;
    }
    observe(d, t, layer, QVL_MOMENT_GATE_UP, d->h, s->n);
    const struct qvl_matmul pair[] = {of_h(d, d->gate, first, n, &w->gate), of_h(d, d->up, first, n, &w->up)};
    if (qvl_adapt_has(&d->adapt, layer, QVL_LORA_GATE) || qvl_adapt_has(&d->adapt, layer, QVL_LORA_UP))
        gated_adapted(d, t, layer, pair);
    else
        qvl_matmul_gated(t, d->p.kernels, d->p.arith, pair, &d->scratch);
    qvl_team_barrier(t);
    observe(d, t, layer, QVL_MOMENT_DOWN, d->gate, s->n);
    matmul(d, t, x, d->gate, n, &w->down, 1);
    adapt(d, t, layer, d->gate, n, &(struct qvl_adapt_to){QVL_LORA_DOWN, x}, 1);
}

/* Rows of pictures += DeepStack features of this layer. */
static void add_tap(const struct step *s, const struct qvl_team *t, int layer)
{
    const struct qvl_decoder *d = s->d;
    int64_t D = d->p.config->d_model, lo, hi;
    qvl_team_share(t, s->n, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++)
        if (d->row[i] && layer < d->row_of[i]->n_tap)
            d->p.kernels->add(d->x + i * D, d->row_of[i]->tap[layer] + d->row_index[i] * D, D);
    qvl_team_barrier(t);
}

/* Final norm and head for the last n_logits rows. d->h is free here. */
static void head(const struct step *s, const struct qvl_team *t)
{
    struct qvl_decoder *d = s->d;
    const struct qvl_text_weights *w = d->p.weights;
    int64_t D = d->p.config->d_model, V = d->p.config->n_vocab;
    int64_t first = s->trace || d->moments ? 0 : s->n - s->n_logits;
    if (first >= s->n)
        return;
    norm_rows(d, t, d->h + first * D, d->x + first * D, s->n - first, w->norm);
    observe(d, t, d->p.config->n_layer, QVL_MOMENT_QKV, d->h, s->n);
    if (s->trace && t->id == 0)
        qvl_trace_add(s->trace, QVL_DT_F32, d->h, s->n, D, "text.norm");
    for (int64_t at = s->n - s->n_logits; at < s->n; at += LOGIT_ROWS) {
        int64_t m = s->n - at < LOGIT_ROWS ? s->n - at : LOGIT_ROWS;
        float *logits = s->logits + (at - (s->n - s->n_logits)) * V;
        matmul(d, t, logits, d->h + at * D, m, &w->head, 0);
        for (int64_t i = 0; i < m && d->refines; i++)
            qvl_refine_run(t, d->p.kernels, &d->refine, &w->embed, logits + i * V, d->h + (at + i) * D);
        adapt(d, t, d->p.config->n_layer, d->h + at * D, m, &(struct qvl_adapt_to){QVL_LORA_Q, logits}, 1);
    }
}

static void run(void *ud, const struct qvl_team *t)
{
    struct step *s = ud;
    struct qvl_decoder *d = s->d;
    const struct qvl_text_config *c = d->p.config;
    begin(s, t);
    if (s->trace && t->id == 0)
        qvl_trace_add(s->trace, QVL_DT_F32, d->x, s->n, c->d_model, "text.embed");
    for (int i = 0; i < c->n_layer; i++) {
        const struct qvl_layer_weights *w = &d->p.weights->layers[i];
        attention(s, t, w, d->kv + (size_t)i * (size_t)c->n_kv);
        mlp(s, t, w, c->n_expert && (!c->is_sparse || c->is_sparse[i]));
        if (i < QVL_MAX_TAPS)
            add_tap(s, t, i);
        if (t->id == 0) {
            if (s->trace)
                qvl_trace_add(s->trace, QVL_DT_F32, d->x, s->n, c->d_model, "text.layer.%d", i);
            s->stop = qvl_watch_tick(s->watch, (uint64_t)s->n);
        }
        if (s->watch || s->trace) { /* otherwise nobody can ask to stop, and d->x is not read from outside */
            qvl_team_barrier(t);
            if (s->stop)
                return;
            qvl_team_barrier(t);
        }
    }
    head(s, t);
}

int qvl_decoder_step(struct qvl_decoder *d, const struct qvl_sequence *seq, int64_t from, int64_t to, int64_t n_logits,
                     float *logits, struct qvl_watch *watch, struct qvl_trace *trace, qvl_err *err)
{
    const struct qvl_text_config *c = d->p.config;
    int64_t n = to - from;
    if (from < 0 || n <= 0 || n > d->p.n_chunk || to > seq->n || to > d->p.n_ctx || n_logits < 0 || n_logits > n)
        return qvl_fail(err, QVL_E_STATE, "decoder step over tokens %lld..%lld of %lld is out of range", (long long)from,
                        (long long)to, (long long)seq->n);
    for (int64_t i = 0; i < n; i++) {
        d->row[i] = NULL;
        if (seq->id[from + i] < 0 || seq->id[from + i] >= c->n_vocab)
            return qvl_fail(err, QVL_E_STATE, "token id %d, the model has %d", (int)seq->id[from + i], c->n_vocab);
    }
    for (int64_t k = 0; k < seq->n_span; k++) {
        const struct qvl_span *sp = &seq->span[k];
        int64_t a = sp->first > from ? sp->first : from, b = sp->first + sp->n < to ? sp->first + sp->n : to;
        if (a >= b)
            continue;
        if (!sp->features || sp->features->d_out != c->d_model || sp->features->n_token < sp->n)
            return qvl_fail(err, QVL_E_STATE, "picture %d has not been encoded", sp->media);
        for (int64_t i = a; i < b; i++) {
            d->row_index[i - from] = (int32_t)(i - sp->first);
            d->row_of[i - from] = sp->features;
            d->row[i - from] = sp->features->main + (i - sp->first) * c->d_model;
        }
    }
    struct step s = {.d = d, .seq = seq, .from = from, .n = n, .n_logits = n_logits, .logits = logits, .watch = watch,
                     .trace = trace};
    d->scratch.cancel = watch ? watch->cancel : NULL;
    qvl_pool_run(d->p.pool, run, &s);
    return qvl_watch_stopped(watch) ? qvl_fail(err, QVL_E_CANCELLED, "cancelled") : 0;
}
