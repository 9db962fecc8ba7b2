/* bench.c - how fast a model runs here, beside what the machine can do at best in the same minute.
 *
 * Runs the vision encoder and the decoder directly, with a real model or with random weights of a published shape: dense
 * layers do the same work whatever the numbers are. Deep caches are filled with numbers instead of being computed. Shares:
 * decoding against the streaming-read probe (bytes of weights and cache that one token must read), prompts and pictures
 * against the arithmetic probes of the types in use. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "kernels/probe.h"
#include "model/vision_quant.h"

enum { ROUNDS = 3, DEFAULT_DECODE = 16, MAX_DECODE = 1024, MAX_LIST = 16, MAX_LENGTH = 262144, MAX_SIDE = 65536 };

static const uint32_t default_prompts[] = {128, 512}, default_prompt_depths[] = {0, 3584}, default_depths[] = {128, 1024, 8192},
                      default_steps[] = {4, 8}, default_images[] = {400, 300, 1024, 768};

struct bench {
    qvl_bench_fn fn;
    void *ud;
    qvl_bench_params p;
    const struct qvl_config *config;
    const struct qvl_weights *weights;
    const struct qvl_kernels *kernels;
    const struct qvl_lora *lora; /* [n_lora] */
    int n_lora;
    enum qvl_arith text, vision;
    enum qvl_kv_type kv;
    struct qvl_pool *pool, *vision_pool; /* may be the same */
    int vision_q8;
    double read_gbs, gflops[2], int8_gops; /* of the last probe; gflops by qvl_arith */
};

/* What several rounds took, in milliseconds. */
struct times {
    double ms[MAX_DECODE];
    int n;
};

void qvl_bench_params_default(qvl_bench_params *p) { *p = (qvl_bench_params){.struct_size = sizeof *p}; }

static void row(const struct bench *b, const char *name, const char *what, double value, const char *unit, double share, const char *of,
                double spread)
{
    qvl_bench_row r = {.name = name, .what = what, .value = value, .unit = unit, .share = share, .of = of, .spread = spread};
    if (b->fn)
        b->fn(b->ud, &r);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts; the middle one is what a user gets, the distance of the outer ones how far to trust it. */
static double median(struct times *t, double *spread)
{
    qsort(t->ms, (size_t)t->n, sizeof *t->ms, ascending);
    double m = t->n % 2 ? t->ms[t->n / 2] : (t->ms[t->n / 2 - 1] + t->ms[t->n / 2]) / 2;
    *spread = (t->ms[t->n - 1] - t->ms[0]) / m;
    return m;
}

/* Arithmetic limits, taken again in front of each measurement: a neighbour on the machine moves both. */
static void probe_arithmetic(struct bench *b)
{
    b->gflops[QVL_ARITH_F32] = qvl_probe_f32_gflops(b->pool, b->kernels);
    b->gflops[QVL_ARITH_BF16] = qvl_probe_bf16_gflops(b->pool, b->kernels);
    if (!(b->gflops[QVL_ARITH_BF16] > 0))
        b->gflops[QVL_ARITH_BF16] = b->gflops[QVL_ARITH_F32]; /* bf16 products run on the f32 units */
    b->int8_gops = qvl_probe_int8_gops(b->pool, b->kernels);
}

static void probe(struct bench *b)
{
    char what[64];
    snprintf(what, sizeof what, "%u threads, %s", qvl_pool_size(b->pool), b->kernels->name);
    b->read_gbs = qvl_probe_read_gbs(b->pool, b->kernels);
    probe_arithmetic(b);
    row(b, "read probe", what, b->read_gbs, "GB/s", NAN, "", NAN);
    row(b, "f32 probe", what, b->gflops[QVL_ARITH_F32], "GFLOP/s", NAN, "", NAN);
    row(b, "bf16 probe", what, b->gflops[QVL_ARITH_BF16], "GFLOP/s", NAN, "", NAN);
    row(b, "int8 probe", what, b->int8_gops, "GOP/s", NAN, "", NAN);
}

static double mat_elems(const struct qvl_mat *m) { return (double)m->n_out * (double)m->n_in; }

static double mat_bytes(const struct qvl_mat *m)
{
    size_t packed = qvl_quant_bytes(m->type, m->n_out, m->n_in);
    return packed ? (double)packed : mat_elems(m) * qvl_dtype_bits(m->type) / 8;
}

static double keys_and_values(const struct qvl_layer_weights *w, double (*measure)(const struct qvl_mat *))
{
    return measure(&w->k) + measure(&w->v);
}

static double the_rest(const struct qvl_text_config *c, const struct qvl_layer_weights *w, double (*measure)(const struct qvl_mat *))
{
    double sum = measure(&w->q) + measure(&w->o);
    if (w->e_gate)
        return sum + measure(&w->router) + c->n_expert_used * (measure(w->e_gate) + measure(w->e_up) + measure(w->e_down));
    return sum + measure(&w->gate) + measure(&w->up) + measure(&w->down);
}

/* Elements (or bytes) of the matrices that one token passes through, without the head. */
static double text_matrices(const struct bench *b, double (*measure)(const struct qvl_mat *))
{
    const struct qvl_text_config *c = &b->config->text;
    double sum = 0;
    for (int i = 0; i < c->n_layer; i++)
        sum += keys_and_values(&b->weights->text.layers[i], measure) + the_rest(c, &b->weights->text.layers[i], measure);
    return sum;
}

/* Two operations for each multiply-add of QK and PV, over all pairs of a query and a position it sees. */
static double attention_flop(double pairs, int n_layer, int n_head, int d_head) { return 4.0 * pairs * n_layer * n_head * d_head; }

/* Kind of the decoder's matrices: what one calls the precision of the text. */
static const char *text_kind(const struct bench *b)
{
    enum qvl_dtype t = b->weights->text.layers[0].q.type;
    return t == QVL_DT_Q4 ? "q4" : t == QVL_DT_Q8 ? "q8" : b->text == QVL_ARITH_F32 ? "f32" : "bf16";
}

/* "q4, kv bf16" */
static const char *text_kinds(char *buf, size_t size, const struct bench *b)
{
    snprintf(buf, size, "%s, kv %s", text_kind(b), qvl_kv_name(b->kv));
    return buf;
}

/* Operations a second that attention over the cache can have at best; an int8 cache multiplies 16 bits by 8, twice a byte. */
static double attention_gops(const struct bench *b)
{
    return b->kv == QVL_KV_INT8 ? b->int8_gops / 2 : b->gflops[b->kv == QVL_KV_F32 ? QVL_ARITH_F32 : QVL_ARITH_BF16];
}

/* Seconds that the arithmetic of n tokens behind `depth` positions takes at the limits of the last probe, the head for one. */
static double ideal_prefill(const struct bench *b, double n, double depth, const char **limit)
{
    const struct qvl_text_config *c = &b->config->text;
    int packed = *text_kind(b) == 'q';
    /* In the last layer only the last token goes on behind keys and values. */
    double skipped = (n - 1) * the_rest(c, &b->weights->text.layers[c->n_layer - 1], mat_elems);
    double linear = 2 * (n * text_matrices(b, mat_elems) - skipped + mat_elems(&b->weights->text.head));
    double all_pairs = n * depth + n * (n + 1) / 2, pairs = all_pairs * (c->n_layer - 1) / c->n_layer + (depth + n) / c->n_layer, peak = packed ? b->int8_gops : b->gflops[b->text];
    *limit = packed && b->kv == QVL_KV_INT8                   ? "int8 probe"
             : packed && b->kv == QVL_KV_BF16                 ? "int8 and bf16 probes"
             : packed                                         ? "int8 and f32 probes"
             : b->kv != qvl_kv_type_of(b->text)   ? "arithmetic probes"
             : b->text                                        ? "bf16 probe"
                                                              : "f32 probe";
    return linear / peak / 1e9 + attention_flop(pairs, c->n_layer, c->n_head, c->d_head) / attention_gops(b) / 1e9;
}

struct text_bench {
    struct bench *b;
    struct qvl_decoder *d;
    struct qvl_sequence seq;
    float *logits;
    int64_t n_chunk;
};

/* `n` prompt tokens with `depth` positions in the cache already. */
static int bench_prefill(struct text_bench *t, int64_t n, int64_t depth, qvl_err *err)
{
    struct bench *b = t->b;
    struct times times = {.n = ROUNDS};
    const char *limit;
    char what[96], kinds[24];
    double spread;
    probe_arithmetic(b);
    for (int round = 0; round < ROUNDS; round++) {
        double start = qvl_now_ms();
        for (int64_t at = depth; at < depth + n; at += t->n_chunk) {
            int64_t to = at + t->n_chunk < depth + n ? at + t->n_chunk : depth + n;
            QVL_TRY(qvl_decoder_step(t->d, &t->seq, at, to, to == depth + n, t->logits, NULL, NULL, err));
        }
        times.ms[round] = qvl_now_ms() - start;
    }
    double ms = median(&times, &spread), ideal = ideal_prefill(b, (double)n, (double)depth, &limit);
    if (depth)
        snprintf(what, sizeof what, "%lld tokens behind %lld, %s", (long long)n, (long long)depth, text_kinds(kinds, sizeof kinds, b));
    else
        snprintf(what, sizeof what, "%lld tokens, %s", (long long)n, text_kinds(kinds, sizeof kinds, b));
    row(b, "prefill", what, (double)n / ms * 1e3, "tok/s", ideal / ms * 1e3, limit, spread);
    return 0;
}

/* Median time of n_decode steps of m tokens behind `depth` positions, with logits for all of them. */
static int time_steps(struct text_bench *t, int64_t m, int64_t depth, double *ms, double *spread, qvl_err *err)
{
    struct times times = {.n = (int)t->b->p.n_decode};
    for (int i = 0; i < times.n; i++) {
        int64_t at = depth + i;
        double start = qvl_now_ms();
        QVL_TRY(qvl_decoder_step(t->d, &t->seq, at, at + m, m, t->logits, NULL, NULL, err));
        times.ms[i] = qvl_now_ms() - start;
    }
    *ms = median(&times, spread);
    return 0;
}

static int bench_decode(struct text_bench *t, int64_t depth, double *ms, qvl_err *err)
{
    struct bench *b = t->b;
    const struct qvl_text_config *c = &b->config->text;
    double spread, positions = (double)depth + b->p.n_decode / 2.0;
    double bytes = text_matrices(b, mat_bytes) + mat_bytes(&b->weights->text.head) +
                   (double)qvl_kv_token_bytes(c, b->kv) * positions;
    char what[96], kinds[24];
    b->read_gbs = qvl_probe_read_gbs(b->pool, b->kernels);
    QVL_TRY(time_steps(t, 1, depth, ms, &spread, err));
    snprintf(what, sizeof what, "at %lld positions, %s", (long long)depth, text_kinds(kinds, sizeof kinds, b));
    row(b, "decode", what, 1e3 / *ms, "tok/s", bytes / *ms / 1e6 / b->read_gbs, "read probe", spread);
    return 0;
}

/* Several tokens in one step, as drafting and several conversations use them: in units of a step of one token. */
static int bench_steps(struct text_bench *t, int64_t depth, qvl_err *err)
{
    struct bench *b = t->b;
    for (size_t i = 0; i < QVL_COUNT(default_steps); i++) {
        double one, many, spread;
        char what[64];
        QVL_TRY(time_steps(t, 1, depth, &one, &spread, err));
        QVL_TRY(time_steps(t, default_steps[i], depth, &many, &spread, err));
        snprintf(what, sizeof what, "%u tokens in one, %s", default_steps[i], text_kind(b));
        row(b, "step", what, many / one, "x one token", NAN, "", spread);
    }
    return 0;
}

static int text_rows(struct text_bench *t, qvl_err *err)
{
    const qvl_bench_params *p = &t->b->p;
    int64_t limit = t->b->config->text.max_positions;
    double ms;
    for (size_t k = 0; k < p->n_prompt_depths; k++)
        for (size_t i = 0; i < p->n_prompts; i++) /* only the longest prompt at a depth */
            if ((!p->prompt_depths[k] || i + 1 == p->n_prompts) && p->prompt_depths[k] + p->prompts[i] < limit)
                QVL_TRY(bench_prefill(t, p->prompts[i], p->prompt_depths[k], err));
    for (size_t i = 0; i < p->n_depths; i++)
        if (p->depths[i] + p->n_decode + default_steps[QVL_COUNT(default_steps) - 1] < limit) {
            QVL_TRY(bench_decode(t, p->depths[i], &ms, err));
            if (i == 0)
                QVL_TRY(bench_steps(t, p->depths[i], err));
        }
    return 0;
}

static int64_t largest(const uint32_t *v, size_t n)
{
    int64_t most = 0;
    for (size_t i = 0; i < n; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

static int bench_text(struct bench *b, qvl_err *err)
{
    const struct qvl_text_config *c = &b->config->text;
    const qvl_bench_params *p = &b->p;
    int64_t prompt = largest(p->prompts, p->n_prompts), filled = largest(p->prompt_depths, p->n_prompt_depths);
    int64_t depth = largest(p->depths, p->n_depths), most_rows = default_steps[QVL_COUNT(default_steps) - 1];
    int64_t n_ctx = filled + prompt > depth ? filled + prompt : depth;
    struct text_bench t = {.b = b, .n_chunk = prompt < 16 ? 16 : prompt < 512 ? prompt : 512};
    n_ctx += p->n_decode + most_rows;
    n_ctx = n_ctx < c->max_positions ? n_ctx : c->max_positions;
    filled = filled > depth ? filled : depth;
    filled = filled < n_ctx ? filled : n_ctx;
    struct qvl_decoder_params dp = {.config = c, .weights = &b->weights->text, .kernels = b->kernels, .lora = b->lora, .n_lora = b->n_lora,
                                    .arith = b->text, .kv = b->kv, .n_ctx = n_ctx, .n_chunk = t.n_chunk, .pool = b->pool};
    size_t n_logits = (size_t)c->n_vocab * (size_t)most_rows;
    t.logits = qvl_alloc(n_logits, sizeof *t.logits);
    int rc = t.logits ? qvl_sequence_reserve(&t.seq, n_ctx, err) : qvl_fail_nomem(err, n_logits * sizeof(float), "logits");
    if (rc < 0)
        goto done;
    for (int64_t i = 0; i < n_ctx; i++)
        qvl_sequence_add_text(&t.seq, (int32_t)((uint64_t)i * 2654435761u % (uint64_t)c->n_vocab));
    QVL_TRY_DONE(qvl_decoder_open(&t.d, &dp, err));
    qvl_decoder_fill(t.d, filled);
    rc = text_rows(&t, err);
done:
    qvl_decoder_close(&t.d);
    qvl_sequence_free(&t.seq);
    qvl_mem_free(t.logits);
    return rc;
}

static double vision_flop(const struct bench *b, double n_patch)
{
    const struct qvl_vision_config *c = &b->config->vision;
    const struct qvl_vision_weights *w = &b->weights->vision;
    double linear = mat_elems(&w->patch) + c->depth * (mat_elems(&w->blocks[0].qkv) + mat_elems(&w->blocks[0].proj) +
                                                        mat_elems(&w->blocks[0].fc1) + mat_elems(&w->blocks[0].fc2));
    double merger = (1 + c->n_tap) * (mat_elems(&w->merger.fc1) + mat_elems(&w->merger.fc2)) / (c->merge * c->merge);
    return 2 * n_patch * (linear + merger) + attention_flop(n_patch * n_patch, c->depth, c->n_head, c->d_model / c->n_head);
}

static int bench_vision(struct bench *b, uint32_t w, uint32_t h, qvl_err *err)
{
    const struct qvl_vision_config *c = &b->config->vision;
    struct qvl_arena work = {0}; /* as in a session: the second picture finds the memory of the first */
    struct qvl_vision v = {.config = c, .weights = &b->weights->vision, .kernels = b->kernels, .arith = b->vision, .work = &work};
    uint32_t factor = (uint32_t)(c->patch * c->merge);
    struct qvl_patches p = {.grid_t = 1, .n_elem = c->n_channel * c->temporal_patch * c->patch * c->patch};
    struct times times = {.n = ROUNDS};
    double spread;
    char what[64];
    int rc = 0;
    w = w < factor ? factor : w / factor * factor;
    h = h < factor ? factor : h / factor * factor;
    p.grid_w = (int)(w / (uint32_t)c->patch);
    p.grid_h = (int)(h / (uint32_t)c->patch);
    p.n_patch = (int64_t)p.grid_w * p.grid_h;
    p.rows = qvl_alloc((size_t)p.n_patch, (size_t)p.n_elem * sizeof(float));
    if (!p.rows)
        return qvl_fail_nomem(err, (size_t)p.n_patch * (size_t)p.n_elem * sizeof(float), "a picture");
    for (int64_t i = 0; i < p.n_patch * p.n_elem; i++)
        p.rows[i] = (float)((uint64_t)i * 2654435761u >> 8 & 255) / 127.5f - 1.0f;
    probe_arithmetic(b);
    for (int round = 0; round < ROUNDS && rc == 0; round++) {
        struct qvl_vision_features f;
        double start = qvl_now_ms();
        rc = qvl_vision_encode(&f, &v, &p, b->vision_pool, NULL, NULL, err);
        times.ms[round] = qvl_now_ms() - start;
        qvl_vision_features_free(&f);
    }
    double n_patch = (double)p.n_patch;
    qvl_arena_close(&work);
    qvl_patches_free(&p);
    if (rc < 0)
        return rc;
    double ms = median(&times, &spread);
    snprintf(what, sizeof what, "%ux%u, %s", w, h, b->vision_q8 ? "q8" : b->vision == QVL_ARITH_F32 ? "f32" : "bf16");
    if (b->vision_q8) /* integers in the blocks, bf16 beside them: a share of neither */
        row(b, "picture", what, ms / 1e3, "s", NAN, "", spread);
    else
        row(b, "picture", what, ms / 1e3, "s", vision_flop(b, n_patch) / ms / 1e6 / b->gflops[b->vision],
            b->vision ? "bf16 probe" : "f32 probe", spread);
    return 0;
}

static int run(struct bench *b, qvl_err *err)
{
    uint32_t n = b->p.n_threads ? b->p.n_threads : qvl_cpu_threads();
    int rc = 0;
    QVL_TRY(qvl_pool_open(&b->pool, n, err));
    b->vision_pool = b->pool;
    if (b->p.n_threads_vision && b->p.n_threads_vision != n)
        QVL_TRY_DONE(qvl_pool_open(&b->vision_pool, b->p.n_threads_vision, err));
    probe(b);
    for (size_t i = 0; i < b->p.n_images && rc == 0; i++)
        rc = bench_vision(b, b->p.images[2 * i], b->p.images[2 * i + 1], err);
    if (rc == 0)
        rc = bench_text(b, err);
    if (rc == 0)
        row(b, "peak memory", "whole process", (double)qvl_peak_memory() / 1e9, "GB", NAN, "", NAN);
done:
    if (b->vision_pool != b->pool)
        qvl_pool_close(&b->vision_pool);
    qvl_pool_close(&b->pool);
    return rc;
}

static int with_model(struct bench *b, qvl_err *err)
{
    qvl_model *m = NULL;
    qvl_model_params mp;
    double start = qvl_now_ms();
    qvl_model_params_default(&mp);
    mp.path = b->p.path;
    mp.precision = b->p.precision;
    mp.vision_precision = b->p.vision_precision;
    mp.cpu = b->p.cpu;
    mp.lora = b->p.lora;
    mp.n_lora = b->p.n_lora;
    QVL_TRY(qvl_model_open(&m, &mp, err));
    row(b, "load", m->name, (qvl_now_ms() - start) / 1e3, "s", NAN, "", NAN);
    b->config = &m->config;
    b->weights = &m->weights;
    b->kernels = m->kernels;
    b->lora = m->lora;
    b->n_lora = m->n_lora;
    b->text = m->arith_text;
    b->kv = qvl_kv_choose(b->p.kv, b->text, m->kind);
    b->vision = m->arith_vision;
    b->vision_q8 = m->vision_q8;
    int rc = run(b, err);
    qvl_model_close(&m);
    return rc;
}

/* What the model does to the encoder when it is opened in its fast mode. */
static int pack_vision(struct bench *b, struct qvl_pages *pages, struct qvl_weights *w, qvl_err *err)
{
    struct qvl_pool *pool = NULL;
    QVL_TRY(qvl_pool_open(&pool, qvl_cpu_threads(), err));
    double start = qvl_now_ms();
    int rc = qvl_vision_quantise(pages, &w->vision, &b->config->vision, b->kernels, pool, err);
    qvl_pool_close(&pool);
    b->vision_q8 = rc == 0;
    row(b, "pack", "vision, q8", (qvl_now_ms() - start) / 1e3, "s", NAN, "", NAN);
    return rc;
}

/* What a model of that size would run in; f32 arithmetic uses the bf16 numbers of a checkpoint. */
static enum qvl_dtype shape_type(qvl_precision p)
{
    return p == QVL_PRECISION_Q4 || p == QVL_PRECISION_AUTO ? QVL_DT_Q4 : p == QVL_PRECISION_Q8 ? QVL_DT_Q8 : QVL_DT_BF16;
}

static int with_shape(struct bench *b, qvl_err *err)
{
    struct qvl_config config;
    struct qvl_weights weights = {0};
    struct qvl_pages pages = {0};
    enum qvl_cpu_level level;
    QVL_TRY(qvl_cpu_level_parse(&level, b->p.cpu, err));
    QVL_TRY(qvl_config_shape(&config, b->p.shape, err));
    double start = qvl_now_ms();
    enum qvl_dtype type = shape_type(b->p.precision);
    int rc = qvl_weights_random(&weights, &config, type, err);
    if (rc == 0) {
        b->kernels = qvl_kernels_get(level);
        b->text = b->vision = b->p.precision == QVL_PRECISION_F32 ? QVL_ARITH_F32 : QVL_ARITH_BF16;
        if (b->p.vision_precision != QVL_PRECISION_AUTO)
            b->vision = b->p.vision_precision == QVL_PRECISION_F32 ? QVL_ARITH_F32 : QVL_ARITH_BF16;
        b->kv = qvl_kv_choose(b->p.kv, b->text, b->p.precision);
        b->config = &config;
        b->weights = &weights;
        row(b, "fill", b->p.shape, (qvl_now_ms() - start) / 1e3, "s", NAN, "", NAN);
        if (b->p.vision_precision == QVL_PRECISION_Q8)
            rc = pack_vision(b, &pages, &weights, err);
        if (rc == 0)
            rc = run(b, err);
    }
    qvl_pages_close(&pages);
    qvl_weights_free(&weights);
    qvl_config_free(&config);
    return rc;
}

static int check_list(const char *what, const uint32_t *v, size_t n, uint32_t min, uint32_t max, qvl_err *err)
{
    if (n > 2 * MAX_LIST)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: %s: %zu values, at most %d", what, n, 2 * MAX_LIST);
    for (size_t i = 0; i < n; i++)
        if (v[i] < min || v[i] > max)
            return qvl_fail(err, QVL_E_ARG, "qvl_bench: %s: found %u, expected %u to %u", what, v[i], min, max);
    return 0;
}

int qvl_bench(const qvl_bench_params *params, qvl_bench_fn on_row, void *ud, qvl_err *err)
{
    struct bench b = {.fn = on_row, .ud = ud};
    if (!params || params->struct_size < sizeof(size_t) || params->struct_size > 4096)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: parameters are missing or struct_size is not set");
    qvl_bench_params_default(&b.p);
    memcpy(&b.p, params, params->struct_size < sizeof b.p ? params->struct_size : sizeof b.p);
    if (b.p.kv < QVL_KV_AUTO || b.p.kv > QVL_KV_INT8)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: kv type %d is unknown", (int)b.p.kv);
    if (!b.p.path == !b.p.shape)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: give either a model folder or a shape");
    if (b.p.n_lora && !b.p.path)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: adapters go with a model, not with random weights");
    b.p.n_decode = b.p.n_decode ? b.p.n_decode : DEFAULT_DECODE;
    if (b.p.n_decode > MAX_DECODE)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: n_decode: found %u, expected at most %d", b.p.n_decode, MAX_DECODE);
    if (!b.p.prompts)
        b.p.prompts = default_prompts, b.p.n_prompts = QVL_COUNT(default_prompts);
    if (!b.p.prompt_depths)
        b.p.prompt_depths = default_prompt_depths, b.p.n_prompt_depths = QVL_COUNT(default_prompt_depths);
    if (!b.p.depths)
        b.p.depths = default_depths, b.p.n_depths = QVL_COUNT(default_depths);
    if (!b.p.images)
        b.p.images = default_images, b.p.n_images = QVL_COUNT(default_images) / 2;
    QVL_TRY(check_list("prompt lengths", b.p.prompts, b.p.n_prompts, 1, MAX_LENGTH, err));
    QVL_TRY(check_list("prompt depths", b.p.prompt_depths, b.p.n_prompt_depths, 0, MAX_LENGTH, err));
    QVL_TRY(check_list("depths", b.p.depths, b.p.n_depths, 0, MAX_LENGTH, err));
    QVL_TRY(check_list("picture sizes", b.p.images, b.p.n_images * 2, 1, MAX_SIDE, err));
    return b.p.path ? with_model(&b, err) : with_shape(&b, err);
}
