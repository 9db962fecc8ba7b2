/* bench.c - how fast a model runs here, beside what the machine can do at best in the same minute.
 *
 * Runs the vision encoder and the decoder directly, with a real model or with random weights of a published shape: dense
 * layers do the same work whatever the numbers are. Shares: decoding against the streaming-read probe (bytes of weights and
 * cache that one token must read), prompts and pictures against the arithmetic probe of the type in use. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "kernels/probe.h"

enum { DEFAULT_PROMPT = 512, DEFAULT_DECODE = 16, DEFAULT_WIDTH = 640, DEFAULT_HEIGHT = 480, ROUNDS = 3 };

struct bench {
    qvl_bench_fn fn;
    void *ud;
    qvl_bench_params p;
    const struct qvl_config *config;
    const struct qvl_weights *weights;
    const struct qvl_kernels *kernels;
    enum qvl_arith text, vision;
    struct qvl_pool *pool;
    double read_gbs, gflops[2]; /* gflops: by qvl_arith */
};

void qvl_bench_params_default(qvl_bench_params *p) { *p = (qvl_bench_params){.struct_size = sizeof *p}; }

static void row(const struct bench *b, const char *name, const char *what, double value, const char *unit, double share, const char *of)
{
    qvl_bench_row r = {.name = name, .what = what, .value = value, .unit = unit, .share = share, .of = of};
    if (b->fn)
        b->fn(b->ud, &r);
}

static const char *arith_name(enum qvl_arith a) { return a == QVL_ARITH_F32 ? "f32" : "bf16"; }

static void probe(struct bench *b)
{
    char what[64];
    snprintf(what, sizeof what, "%u threads, %s", qvl_pool_size(b->pool), b->kernels->name);
    b->read_gbs = qvl_probe_read_gbs(b->pool, b->kernels);
    b->gflops[QVL_ARITH_F32] = qvl_probe_f32_gflops(b->pool, b->kernels);
    b->gflops[QVL_ARITH_BF16] = qvl_probe_bf16_gflops(b->pool, b->kernels);
    row(b, "read probe", what, b->read_gbs, "GB/s", NAN, "");
    row(b, "f32 probe", what, b->gflops[QVL_ARITH_F32], "GFLOP/s", NAN, "");
    if (b->gflops[QVL_ARITH_BF16] > 0)
        row(b, "bf16 probe", what, b->gflops[QVL_ARITH_BF16], "GFLOP/s", NAN, "");
    else
        b->gflops[QVL_ARITH_BF16] = b->gflops[QVL_ARITH_F32]; /* bf16 products run on the f32 units */
}

static double mat_elems(const struct qvl_mat *m) { return (double)m->n_out * (double)m->n_in; }

static double mat_bytes(const struct qvl_mat *m)
{
    size_t packed = qvl_quant_bytes(m->type, m->n_out, m->n_in);
    return packed ? (double)packed : mat_elems(m) * qvl_dtype_bits(m->type) / 8;
}

/* Elements (or bytes) of the matrices that one token passes through, without the head. */
static double text_matrices(const struct bench *b, double (*measure)(const struct qvl_mat *))
{
    const struct qvl_text_config *c = &b->config->text;
    double sum = 0;
    for (int i = 0; i < c->n_layer; i++) {
        const struct qvl_layer_weights *w = &b->weights->text.layers[i];
        sum += measure(&w->q) + measure(&w->k) + measure(&w->v) + measure(&w->o);
        if (w->e_gate)
            sum += measure(&w->router) + c->n_expert_used * (measure(w->e_gate) + measure(w->e_up) + measure(w->e_down));
        else
            sum += measure(&w->gate) + measure(&w->up) + measure(&w->down);
    }
    return sum;
}

/* Two operations for each multiply-add of QK and PV, over all pairs of a query and a position it sees. */
static double attention_flop(double pairs, int n_layer, int n_head, int d_head) { return 4.0 * pairs * n_layer * n_head * d_head; }

static int bench_text(struct bench *b, qvl_err *err)
{
    const struct qvl_text_config *c = &b->config->text;
    int64_t n = b->p.n_prompt, extra = b->p.n_decode;
    struct qvl_decoder_params dp = {.config = c, .weights = &b->weights->text, .kernels = b->kernels, .arith = b->text,
                                    .n_ctx = n + extra + 1, .n_chunk = n < 512 ? n : 512, .pool = b->pool};
    struct qvl_decoder *d = NULL;
    struct qvl_sequence seq = {0};
    float *logits = qvl_alloc((size_t)c->n_vocab, sizeof *logits);
    char what[64];
    int rc = logits ? qvl_sequence_reserve(&seq, n + extra + 1, err) : qvl_fail_nomem(err, (size_t)c->n_vocab * 4, "logits");
    if (rc < 0)
        goto done;
    QVL_TRY_DONE(qvl_decoder_open(&d, &dp, err));
    for (int64_t i = 0; i < n + extra; i++)
        qvl_sequence_add_text(&seq, (int32_t)((uint64_t)i * 2654435761u % (uint64_t)c->n_vocab));
    double best = INFINITY, flop = 2 * (double)n * text_matrices(b, mat_elems) + 2 * mat_elems(&b->weights->text.head) +
                                   attention_flop((double)n * (double)(n + 1) / 2, c->n_layer, c->n_head, c->d_head);
    for (int round = 0; round < ROUNDS; round++) {
        double start = qvl_now_ms();
        for (int64_t at = 0; at < n; at += dp.n_chunk) {
            int64_t to = at + dp.n_chunk < n ? at + dp.n_chunk : n;
            QVL_TRY_DONE(qvl_decoder_step(d, &seq, at, to, to == n, logits, NULL, NULL, err));
        }
        best = fmin(best, qvl_now_ms() - start);
    }
    snprintf(what, sizeof what, "%lld tokens, %s", (long long)n, arith_name(b->text));
    row(b, "prefill", what, (double)n / best * 1e3, "tok/s", flop / best / 1e6 / b->gflops[b->text], b->text ? "bf16 probe" : "f32 probe");

    double bytes = text_matrices(b, mat_bytes) + mat_bytes(&b->weights->text.head) +
                   (double)qvl_kv_bytes(b->text, c->d_head, 16) / 16 * 2 * c->n_layer * c->n_kv * (double)(n + extra / 2);
    best = INFINITY;
    for (int64_t i = n; i < n + extra; i++) { /* best: the others shared the machine */
        double start = qvl_now_ms();
        QVL_TRY_DONE(qvl_decoder_step(d, &seq, i, i + 1, 1, logits, NULL, NULL, err));
        best = fmin(best, qvl_now_ms() - start);
    }
    snprintf(what, sizeof what, "at %lld positions, %s", (long long)n, arith_name(b->text));
    row(b, "decode", what, 1e3 / best, "tok/s", bytes / best / 1e6 / b->read_gbs, "read probe");
done:
    qvl_decoder_close(&d);
    qvl_sequence_free(&seq);
    qvl_mem_free(logits);
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

static int bench_vision(struct bench *b, qvl_err *err)
{
    const struct qvl_vision_config *c = &b->config->vision;
    struct qvl_vision v = {.config = c, .weights = &b->weights->vision, .kernels = b->kernels, .arith = b->vision};
    uint32_t factor = (uint32_t)(c->patch * c->merge), w = b->p.image_width, h = b->p.image_height;
    struct qvl_patches p = {.grid_t = 1, .n_elem = c->n_channel * c->temporal_patch * c->patch * c->patch};
    char what[64];
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
    double best = INFINITY;
    int rc = 0;
    for (int round = 0; round < ROUNDS && rc == 0; round++) {
        struct qvl_vision_features f;
        double start = qvl_now_ms();
        rc = qvl_vision_encode(&f, &v, &p, b->pool, NULL, NULL, err);
        best = fmin(best, qvl_now_ms() - start);
        qvl_vision_features_free(&f);
    }
    double n_patch = (double)p.n_patch;
    qvl_patches_free(&p);
    if (rc < 0)
        return rc;
    snprintf(what, sizeof what, "%ux%u, %s", w, h, arith_name(b->vision));
    row(b, "vision", what, n_patch / best * 1e3, "patches/s", vision_flop(b, n_patch) / best / 1e6 / b->gflops[b->vision],
        b->vision ? "bf16 probe" : "f32 probe");
    row(b, "picture", what, best / 1e3, "s", NAN, "");
    return 0;
}

static int run(struct bench *b, qvl_err *err)
{
    uint32_t n = b->p.n_threads ? b->p.n_threads : qvl_cpu_threads();
    QVL_TRY(qvl_pool_open(&b->pool, n, err));
    probe(b);
    int rc = bench_vision(b, err);
    if (rc == 0)
        rc = bench_text(b, err);
    if (rc == 0)
        row(b, "peak memory", "whole process", (double)qvl_peak_memory() / 1e9, "GB", NAN, "");
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
    mp.cpu = b->p.cpu;
    QVL_TRY(qvl_model_open(&m, &mp, err));
    row(b, "load", m->name, (qvl_now_ms() - start) / 1e3, "s", NAN, "");
    b->config = &m->config;
    b->weights = &m->weights;
    b->kernels = m->kernels;
    b->text = m->arith_text;
    b->vision = m->arith_vision;
    int rc = run(b, err);
    qvl_model_close(&m);
    return rc;
}

static int with_shape(struct bench *b, qvl_err *err)
{
    struct qvl_config config;
    struct qvl_weights weights = {0};
    enum qvl_cpu_level level;
    QVL_TRY(qvl_cpu_level_parse(&level, b->p.cpu, err));
    QVL_TRY(qvl_config_shape(&config, b->p.shape, err));
    double start = qvl_now_ms();
    enum qvl_dtype type = b->p.precision == QVL_PRECISION_Q4 ? QVL_DT_Q4 : b->p.precision == QVL_PRECISION_Q8 ? QVL_DT_Q8 : QVL_DT_BF16;
    int rc = qvl_weights_random(&weights, &config, type, err);
    if (rc == 0) {
        b->kernels = qvl_kernels_get(level);
        b->text = b->vision = b->p.precision == QVL_PRECISION_F32 ? QVL_ARITH_F32 : QVL_ARITH_BF16;
        b->config = &config;
        b->weights = &weights;
        row(b, "fill", b->p.shape, (qvl_now_ms() - start) / 1e3, "s", NAN, "");
        rc = run(b, err);
    }
    qvl_weights_free(&weights);
    qvl_config_free(&config);
    return rc;
}

int qvl_bench(const qvl_bench_params *params, qvl_bench_fn on_row, void *ud, qvl_err *err)
{
    struct bench b = {.fn = on_row, .ud = ud};
    if (!params || params->struct_size < sizeof(size_t) || params->struct_size > 4096)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: parameters are missing or struct_size is not set");
    qvl_bench_params_default(&b.p);
    memcpy(&b.p, params, params->struct_size < sizeof b.p ? params->struct_size : sizeof b.p);
    if (!b.p.path == !b.p.shape)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: give either a model folder or a shape");
    b.p.n_prompt = b.p.n_prompt ? b.p.n_prompt : DEFAULT_PROMPT;
    b.p.n_decode = b.p.n_decode ? b.p.n_decode : DEFAULT_DECODE;
    b.p.image_width = b.p.image_width ? b.p.image_width : DEFAULT_WIDTH;
    b.p.image_height = b.p.image_height ? b.p.image_height : DEFAULT_HEIGHT;
    if (b.p.n_prompt > 262144 || b.p.n_decode > 65536 || b.p.image_width > 65536 || b.p.image_height > 65536)
        return qvl_fail(err, QVL_E_ARG, "qvl_bench: %u prompt tokens, %u answer tokens, %ux%u pixels: too many", b.p.n_prompt,
                        b.p.n_decode, b.p.image_width, b.p.image_height);
    return b.p.path ? with_model(&b, err) : with_shape(&b, err);
}
