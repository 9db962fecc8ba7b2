/* gguf_config.c - metadata of GGUF files → struct qvl_config.
 *
 * Keys begin with the architecture ("qwen3vl.block_count") or, in a vision file, with "clip.vision.". What the weights show as
 * well (sizes of the vocabulary, of the position table, ...) is taken from their shapes or compared with them, and binding
 * compares every other shape with the configuration. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/config_read.h"
#include "model/gguf_parts.h"

enum {
    MAX_LAYERS = 1024, MAX_HEADS = 1024, MAX_WIDTH = 1 << 20, MAX_FF = 1 << 22, MAX_VOCAB = 1 << 24, MAX_EXPERTS = 4096,
    MAX_HEAD_DIM = 256 /* the kernels' limit; they also want a multiple of 4 */
};
#define MAX_PIXELS (INT64_C(1) << 40)

/* Keys of one prefix. */
struct keys {
    const struct qvl_gguf *g;
    const char *prefix;
    char key[128];
    qvl_err *err;
};

static const char *key(struct keys *k, const char *tail)
{
    snprintf(k->key, sizeof k->key, "%s.%s", k->prefix, tail);
    return k->key;
}

static int get_int(struct keys *k, const char *tail, int hi, int64_t def, int *out)
{
    return qvl_gguf_i32(k->g, key(k, tail), 1, hi, def, out, k->err);
}

static int conflict(struct keys *k, const char *tail, int found, const char *other, int expected)
{
    return qvl_fail(k->err, QVL_E_FORMAT, "%s: %s: found %d, but %s says %d", qvl_gguf_path(k->g), key(k, tail), found,
                    other, expected);
}

static const struct qvl_tensor *tensor(const struct qvl_gguf *g, const char *name)
{
    return qvl_tensors_find(qvl_gguf_tensors(g), name);
}

/* ---------------------------------------------------------------- what kind of file */

int qvl_gguf_text_arch(const struct qvl_gguf *g, const char **arch, qvl_err *err)
{
    struct qvl_gguf_text name, type;
    QVL_TRY(qvl_gguf_string(g, "general.architecture", &name, err));
    QVL_TRY(qvl_gguf_string(g, "general.type", &type, err));
    if (!name.s)
        return qvl_gguf_missing(g, "general.architecture", err);
    if (qvl_gguf_text_is(name, "clip"))
        return qvl_fail(err, QVL_E_UNSUPPORTED,
                        "%s: is the vision half of a model (mmproj): open the text model and name this file as its "
                        "mmproj",
                        qvl_gguf_path(g));
    *arch = qvl_gguf_text_is(name, "qwen3vl") ? "qwen3vl" : qvl_gguf_text_is(name, "qwen3vlmoe") ? "qwen3vlmoe" : NULL;
    if (!*arch)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: general.architecture: found %.*s, expected qwen3vl or qwen3vlmoe",
                        qvl_gguf_path(g), (int)(name.len < 64 ? name.len : 64), name.s);
    if (type.s && !qvl_gguf_text_is(type, "model"))
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: general.type: found %.*s, expected model", qvl_gguf_path(g),
                        (int)(type.len < 64 ? type.len : 64), type.s);
    return 0;
}

int qvl_gguf_single(const struct qvl_gguf *g, const char *arch)
{
    char name[64];
    snprintf(name, sizeof name, "%s.vision.block_count", arch);
    return qvl_gguf_has(g, name);
}

/* ---------------------------------------------------------------- text */

static int head_dim(struct keys *k, struct qvl_text_config *t)
{
    const struct qvl_tensor *norm = tensor(k->g, "blk.0.attn_q_norm.weight");
    int value;
    QVL_TRY(get_int(k, "attention.key_length", MAX_HEAD_DIM,
                    norm && norm->rank == 1 && norm->shape[0] <= MAX_HEAD_DIM ? norm->shape[0] : QVL_GGUF_REQUIRED,
                    &t->d_head));
    QVL_TRY(get_int(k, "attention.value_length", MAX_HEAD_DIM, t->d_head, &value));
    if (value != t->d_head)
        return conflict(k, "attention.value_length", value, "attention.key_length", t->d_head);
    QVL_TRY(get_int(k, "rope.dimension_count", MAX_HEAD_DIM, t->d_head, &value));
    if (value != t->d_head)
        return conflict(k, "rope.dimension_count", value, "attention.key_length", t->d_head);
    if (t->d_head < 4 || t->d_head % 4)
        return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: %s: found %d, expected a multiple of 4 up to %d", qvl_gguf_path(k->g),
                        key(k, "attention.key_length"), t->d_head, MAX_HEAD_DIM);
    return 0;
}

/* T, H, W and an unused fourth; the sizes that all published models have when the key is absent. */
static int rope_sections(struct keys *k, struct qvl_text_config *t)
{
    int s[4] = {24, 20, 20, 0}, n;
    QVL_TRY(qvl_gguf_ints(k->g, key(k, "rope.dimension_sections"), 0, MAX_HEAD_DIM, 4, s, &n, k->err));
    if (n < 0 && t->d_head != 128)
        return qvl_gguf_missing(k->g, k->key, k->err);
    if ((n >= 0 && n < 3) || s[3] || 2 * (s[0] + s[1] + s[2]) != t->d_head)
        return qvl_fail(k->err, QVL_E_FORMAT, "%s: %s: found %d, %d, %d, %d, expected three values with the sum %d, then 0",
                        qvl_gguf_path(k->g), k->key, s[0], s[1], s[2], s[3], t->d_head / 2);
    memcpy(t->rope_section, s, sizeof t->rope_section);
    return 0;
}

/* Plain YaRN, or nothing. */
static int rope_scaling(struct keys *k, struct qvl_text_config *t)
{
    static const struct {
        const char *key;
        double plain;
    } extras[] = {{"rope.scaling.yarn_ext_factor", 1}, {"rope.scaling.yarn_attn_factor", 1}, {"rope.scaling.yarn_beta_fast", 32},
                  {"rope.scaling.yarn_beta_slow", 1}, {"rope.scaling.attn_factor", 1}};
    struct qvl_gguf_text type;
    t->rope_factor = 1;
    QVL_TRY(qvl_gguf_string(k->g, key(k, "rope.scaling.type"), &type, k->err));
    if (!type.s || qvl_gguf_text_is(type, "none"))
        return 0;
    if (!qvl_gguf_text_is(type, "yarn"))
        return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: %s: found %.*s, expected none or yarn", qvl_gguf_path(k->g), k->key,
                        (int)(type.len < 64 ? type.len : 64), type.s);
    double factor = 0;
    QVL_TRY(qvl_gguf_real(k->g, key(k, "rope.scaling.factor"), 1, 1e6, &factor, k->err));
    if (!(factor > 0))
        return qvl_gguf_missing(k->g, k->key, k->err);
    QVL_TRY(get_int(k, "rope.scaling.original_context_length", INT32_MAX, QVL_GGUF_REQUIRED, &t->rope_original));
    for (size_t i = 0; i < QVL_COUNT(extras); i++) {
        double v = extras[i].plain;
        QVL_TRY(qvl_gguf_real(k->g, key(k, extras[i].key), -1, 1e6, &v, k->err));
        if (v >= 0 && (v < extras[i].plain || v > extras[i].plain)) /* -1: not set */
            return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: %s: found %g, only %g is supported", qvl_gguf_path(k->g), k->key, v,
                            extras[i].plain);
    }
    t->rope_factor = factor;
    if (!(factor > 1)) /* YaRN by one is no YaRN */
        t->rope_original = 0;
    return 0;
}

/* A layer is sparse when it has a router. */
static int experts(struct keys *k, struct qvl_text_config *t)
{
    int dense = 0;
    QVL_TRY(get_int(k, "expert_count", MAX_EXPERTS, QVL_GGUF_REQUIRED, &t->n_expert));
    QVL_TRY(get_int(k, "expert_used_count", MAX_EXPERTS, QVL_GGUF_REQUIRED, &t->n_expert_used));
    QVL_TRY(get_int(k, "expert_feed_forward_length", MAX_FF, QVL_GGUF_REQUIRED, &t->d_ff_expert));
    if (t->n_expert_used > t->n_expert)
        return conflict(k, "expert_used_count", t->n_expert_used, "expert_count", t->n_expert);
    t->norm_topk = 1;
    t->is_sparse = qvl_calloc((size_t)t->n_layer, 1);
    if (!t->is_sparse)
        return qvl_fail_nomem(k->err, (size_t)t->n_layer, "the list of sparse layers");
    for (int i = 0; i < t->n_layer; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.ffn_gate_inp.weight", i);
        t->is_sparse[i] = tensor(k->g, name) != NULL;
        dense |= !t->is_sparse[i];
    }
    return get_int(k, "feed_forward_length", MAX_FF, dense ? QVL_GGUF_REQUIRED : 0, &t->d_ff);
}

/* Rows of the embedding, which is what ids are checked against. */
static int vocabulary(struct keys *k, struct qvl_text_config *t)
{
    const struct qvl_tensor *e = tensor(k->g, "token_embd.weight");
    int declared;
    if (!e || e->rank != 2 || e->shape[0] > MAX_VOCAB)
        return qvl_fail(k->err, QVL_E_FORMAT, "%s: tensor token_embd.weight: %s", qvl_gguf_path(k->g),
                        e ? "not a matrix of a supported size" : "missing");
    t->n_vocab = (int)e->shape[0];
    QVL_TRY(get_int(k, "vocab_size", MAX_VOCAB, t->n_vocab, &declared));
    return declared == t->n_vocab ? 0 : conflict(k, "vocab_size", declared, "the shape of token_embd.weight", t->n_vocab);
}

static int text_config(struct keys *k, struct qvl_text_config *t, int moe)
{
    int causal;
    QVL_TRY(get_int(k, "block_count", MAX_LAYERS, QVL_GGUF_REQUIRED, &t->n_layer));
    QVL_TRY(get_int(k, "embedding_length", MAX_WIDTH, QVL_GGUF_REQUIRED, &t->d_model));
    QVL_TRY(get_int(k, "attention.head_count", MAX_HEADS, QVL_GGUF_REQUIRED, &t->n_head));
    QVL_TRY(get_int(k, "attention.head_count_kv", MAX_HEADS, t->n_head, &t->n_kv));
    if (t->n_head % t->n_kv)
        return qvl_fail(k->err, QVL_E_FORMAT, "%s: %s: found %d, expected a divisor of %d heads", qvl_gguf_path(k->g),
                        k->key, t->n_kv, t->n_head);
    QVL_TRY(get_int(k, "context_length", INT32_MAX, QVL_GGUF_REQUIRED, &t->max_positions));
    QVL_TRY(qvl_gguf_bool(k->g, key(k, "attention.causal"), 1, &causal, k->err));
    if (!causal)
        return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: %s: found false: not a model that writes text", qvl_gguf_path(k->g),
                        k->key);
    QVL_TRY(head_dim(k, t));
    QVL_TRY(rope_sections(k, t));
    QVL_TRY(rope_scaling(k, t));
    t->rms_eps = 1e-6;
    QVL_TRY(qvl_gguf_real(k->g, key(k, "attention.layer_norm_rms_epsilon"), 1e-30, 1, &t->rms_eps, k->err));
    QVL_TRY(qvl_gguf_real(k->g, key(k, "rope.freq_base"), 1, 1e30, &t->rope_theta, k->err));
    if (!(t->rope_theta > 0)) /* not guessed */
        return qvl_gguf_missing(k->g, k->key, k->err);
    t->tied = t->tied_unsaid = 1;
    t->sparse_step = 1;
    QVL_TRY(vocabulary(k, t));
    return moe ? experts(k, t) : get_int(k, "feed_forward_length", MAX_FF, QVL_GGUF_REQUIRED, &t->d_ff);
}

/* ---------------------------------------------------------------- ids and sampling */

/* Special tokens by their text: the files name no ids for them. */
static int special_tokens(struct qvl_config *c, const struct qvl_gguf *g, int *end, qvl_err *err)
{
    struct want {
        const char *text;
        int *id;
    } want[] = {{"<|image_pad|>", &c->image_token},           {"<|video_pad|>", &c->video_token},
                {"<|vision_start|>", &c->vision_start_token}, {"<|vision_end|>", &c->vision_end_token},
                {"<|im_end|>", &end[0]},                      {"<|endoftext|>", &end[1]}};
    struct qvl_gguf_list tokens;
    struct qvl_gguf_text t;
    for (size_t i = 0; i < QVL_COUNT(want); i++)
        *want[i].id = -1;
    QVL_TRY(qvl_gguf_strings(g, "tokenizer.ggml.tokens", &tokens, err));
    if (!tokens.at)
        return qvl_gguf_missing(g, "tokenizer.ggml.tokens", err);
    for (int id = 0; id < c->text.n_vocab && qvl_gguf_next(&tokens, &t); id++)
        for (size_t i = 0; i < QVL_COUNT(want) && t.len > 4 && t.s[0] == '<'; i++)
            if (*want[i].id < 0 && qvl_gguf_text_is(t, want[i].text))
                *want[i].id = id;
    for (size_t i = 0; i < 4; i++)
        if (*want[i].id < 0)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tokenizer.ggml.tokens: no %s: not a vision-language model",
                            qvl_gguf_path(g), want[i].text);
    return 0;
}

static void add_eos(struct qvl_generation_config *gen, int id)
{
    for (int i = 0; i < gen->n_eos; i++)
        if (gen->eos[i] == id)
            return;
    if (id >= 0 && gen->n_eos < QVL_MAX_EOS)
        gen->eos[gen->n_eos++] = id;
}

/* An answer ends at any of the ids that some key calls an end, and at the two ends of the chat format. */
static int generation(struct qvl_config *c, const struct qvl_gguf *g, const int *end, qvl_err *err)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    struct qvl_generation_config *gen = &c->gen;
    double temperature = 1, top_p = 1, min_p = 0, penalty = 1;
    for (size_t i = 0; i < QVL_COUNT(ends); i++) {
        int id;
        QVL_TRY(qvl_gguf_i32(g, ends[i], 0, c->text.n_vocab - 1, -1, &id, err));
        add_eos(gen, id);
    }
    add_eos(gen, end[0]);
    add_eos(gen, end[1]);
    QVL_TRY(qvl_gguf_real(g, "general.sampling.temp", 0, 1e6, &temperature, err));
    QVL_TRY(qvl_gguf_real(g, "general.sampling.top_p", 0, 1, &top_p, err));
    QVL_TRY(qvl_gguf_real(g, "general.sampling.min_p", 0, 1, &min_p, err));
    QVL_TRY(qvl_gguf_real(g, "general.sampling.penalty_repeat", 1e-6, 1e6, &penalty, err));
    QVL_TRY(qvl_gguf_i32(g, "general.sampling.top_k", -1, INT32_MAX, 50, &gen->top_k, err)); /* as without the field in JSON */
    if (gen->top_k < 0)
        gen->top_k = 0;
    gen->do_sample = qvl_gguf_has(g, "general.sampling.temp") && temperature > 0;
    gen->temperature = (float)temperature;
    gen->top_p = (float)top_p;
    gen->min_p = (float)min_p;
    gen->repetition_penalty = (float)penalty;
    return 0;
}

int qvl_gguf_config_text(struct qvl_config *c, const struct qvl_gguf *g, const char *arch, qvl_err *err)
{
    struct keys k = {.g = g, .prefix = arch, .err = err};
    int end[2];
    c->moe = strcmp(arch, "qwen3vlmoe") == 0;
    QVL_TRY(text_config(&k, &c->text, c->moe));
    QVL_TRY(special_tokens(c, g, end, err));
    return generation(c, g, end, err);
}

/* ---------------------------------------------------------------- vision */

static int projector(struct keys *k)
{
    struct qvl_gguf_text type;
    int use;
    QVL_TRY(qvl_gguf_string(k->g, "clip.projector_type", &type, k->err));
    if (!type.s)
        QVL_TRY(qvl_gguf_string(k->g, "clip.vision.projector_type", &type, k->err));
    if (!qvl_gguf_text_is(type, "qwen3vl_merger"))
        return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: clip.projector_type: found %.*s, expected qwen3vl_merger",
                        qvl_gguf_path(k->g), (int)(type.len < 64 ? type.len : 64), type.s ? type.s : "");
    QVL_TRY(qvl_gguf_bool(k->g, "clip.has_vision_encoder", 1, &use, k->err));
    if (!use)
        return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: clip.has_vision_encoder: found false", qvl_gguf_path(k->g));
    QVL_TRY(qvl_gguf_bool(k->g, "clip.use_silu", 0, &use, k->err));
    if (use)
        return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: clip.use_silu: found true, expected gelu", qvl_gguf_path(k->g));
    return 0;
}

/* Blocks whose output goes to the decoder, in ascending order. */
static int taps_by_flags(struct keys *k, struct qvl_vision_config *v)
{
    uint8_t flag[MAX_LAYERS];
    int n;
    QVL_TRY(qvl_gguf_bools(k->g, key(k, "is_deepstack_layers"), MAX_LAYERS, flag, &n, k->err));
    if (n >= 0 && n != v->depth)
        return conflict(k, "is_deepstack_layers", n, "block_count", v->depth);
    for (int i = 0; i < n; i++) {
        if (!flag[i])
            continue;
        if (v->n_tap == QVL_MAX_TAPS)
            return qvl_fail(k->err, QVL_E_LIMIT, "%s: %s: more than %d layers", qvl_gguf_path(k->g), k->key, QVL_MAX_TAPS);
        v->tap[v->n_tap++] = i;
    }
    return 0;
}

/* The same as a list, ascending. */
static int taps_by_list(struct keys *k, struct qvl_vision_config *v)
{
    QVL_TRY(qvl_gguf_ints(k->g, key(k, "deepstack_visual_indexes"), 0, v->depth - 1, QVL_MAX_TAPS, v->tap, &v->n_tap, k->err));
    if (v->n_tap < 0)
        return qvl_gguf_missing(k->g, k->key, k->err);
    for (int i = 1; i < v->n_tap; i++)
        if (v->tap[i] <= v->tap[i - 1])
            return qvl_fail(k->err, QVL_E_FORMAT, "%s: %s: found %d behind %d, expected ascending blocks",
                            qvl_gguf_path(k->g), k->key, v->tap[i], v->tap[i - 1]);
    return 0;
}

/* The learned table is a square of positions. */
static int position_table(struct keys *k, struct qvl_vision_config *v, const char *name)
{
    const struct qvl_tensor *t = tensor(k->g, name);
    int image, side = 0;
    if (!t || t->rank != 2)
        return qvl_fail(k->err, QVL_E_FORMAT, "%s: tensor %s: %s", qvl_gguf_path(k->g), name, t ? "not a matrix" : "missing");
    while ((int64_t)side * side < t->shape[0] && side < 4096)
        side++;
    if ((int64_t)side * side != t->shape[0])
        return qvl_fail(k->err, QVL_E_FORMAT, "%s: tensor %s: found %lld rows, expected a square", qvl_gguf_path(k->g), name,
                        (long long)t->shape[0]);
    v->n_pos_side = side;
    QVL_TRY(get_int(k, "image_size", 1 << 20, (int64_t)side * v->patch, &image));
    return image == side * v->patch
               ? 0
               : conflict(k, "image_size", image, "the position table times patch_size", side * v->patch);
}

static int fixed(struct keys *k, const char *tail, int expected)
{
    int v;
    QVL_TRY(get_int(k, tail, INT32_MAX, expected, &v));
    return v == expected ? 0
                         : qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: %s: found %d, only %d is supported", qvl_gguf_path(k->g),
                                    k->key, v, expected);
}

/* Rows of a matrix, as the value of a key that may be missing. */
static int64_t rows_of(const struct qvl_gguf *g, const char *name)
{
    const struct qvl_tensor *t = tensor(g, name);
    return t && t->rank == 2 && t->shape[0] <= MAX_FF ? t->shape[0] : QVL_GGUF_REQUIRED;
}

static int three(struct keys *k, const char *tail, double lo, float out[3])
{
    int n;
    QVL_TRY(qvl_gguf_reals(k->g, key(k, tail), lo, 1e6, 3, out, &n, k->err));
    return n < 0 || n == 3
               ? 0
               : qvl_fail(k->err, QVL_E_FORMAT, "%s: %s: found %d numbers, expected 3", qvl_gguf_path(k->g), k->key, n);
}

static int image(struct keys *k, struct qvl_image_config *im, const char *min_key, const char *max_key)
{
    int64_t lo, hi;
    qvl_config_image_default(im);
    QVL_TRY(qvl_gguf_int(k->g, key(k, min_key), 1, MAX_PIXELS, (int64_t)im->min_pixels, &lo, k->err));
    QVL_TRY(qvl_gguf_int(k->g, key(k, max_key), 1, MAX_PIXELS, (int64_t)im->max_pixels, &hi, k->err));
    if (lo > hi)
        return qvl_fail(k->err, QVL_E_FORMAT, "%s: %s: found %lld, but the least number of pixels is %lld",
                        qvl_gguf_path(k->g), k->key, (long long)hi, (long long)lo);
    im->min_pixels = (uint64_t)lo;
    im->max_pixels = (uint64_t)hi;
    QVL_TRY(three(k, "image_mean", -1e6, im->mean));
    return three(k, "image_std", 1e-6, im->std);
}

/* attention.layer_norm_epsilon is not read: the converter writes the text model's there, and the tower's is a constant of the
 * model class. use_gelu means the tanh form. */
static int vision_sizes(struct keys *k, struct qvl_vision_config *v, const char *ff_tensor)
{
    QVL_TRY(get_int(k, "block_count", MAX_LAYERS, QVL_GGUF_REQUIRED, &v->depth));
    QVL_TRY(get_int(k, "embedding_length", MAX_WIDTH, QVL_GGUF_REQUIRED, &v->d_model));
    QVL_TRY(get_int(k, "attention.head_count", MAX_HEADS, QVL_GGUF_REQUIRED, &v->n_head));
    int head = v->d_model / v->n_head;
    if (v->d_model % v->n_head || head % 4 || head > MAX_HEAD_DIM)
        return qvl_fail(k->err, v->d_model % v->n_head ? QVL_E_FORMAT : QVL_E_UNSUPPORTED,
                        "%s: %s: found %d heads for the width %d, expected "
                        "heads of a multiple of 4 up to %d",
                        qvl_gguf_path(k->g), k->key, v->n_head, v->d_model, MAX_HEAD_DIM);
    QVL_TRY(get_int(k, "feed_forward_length", MAX_FF, rows_of(k->g, ff_tensor), &v->d_ff));
    QVL_TRY(get_int(k, "patch_size", 256, QVL_GGUF_REQUIRED, &v->patch));
    QVL_TRY(get_int(k, "spatial_merge_size", 16, 2, &v->merge));
    QVL_TRY(fixed(k, "temporal_patch_size", 2));
    QVL_TRY(fixed(k, "num_channels", 3));
    v->temporal_patch = 2;
    v->n_channel = 3;
    v->act_tanh = 1;
    double theta = 10000;
    QVL_TRY(qvl_gguf_real(k->g, key(k, "rope.freq_base"), 1, 1e30, &theta, k->err));
    if (theta < 10000 || theta > 10000)
        return qvl_fail(k->err, QVL_E_UNSUPPORTED, "%s: %s: found %g, only 10000 is supported", qvl_gguf_path(k->g), k->key,
                        theta);
    return 0;
}

int qvl_gguf_config_vision(struct qvl_config *c, const struct qvl_gguf *g, const char *arch, int single, qvl_err *err)
{
    struct qvl_vision_config *v = &c->vision;
    struct keys k = {.g = g, .prefix = "clip.vision", .err = err};
    char prefix[64];
    if (single) {
        snprintf(prefix, sizeof prefix, "%s.vision", arch);
        k.prefix = prefix;
    } else {
        QVL_TRY(projector(&k));
    }
    QVL_TRY(vision_sizes(&k, v, single ? "v.blk.0.mlp.linear_fc1.weight" : "v.blk.0.ffn_up.weight"));
    QVL_TRY(position_table(&k, v, single ? "v.pos_embed.weight" : "v.position_embd.weight"));
    QVL_TRY(get_int(&k, "projection_dim", MAX_WIDTH, c->text.d_model, &v->d_out));
    if (v->d_out != c->text.d_model)
        return conflict(&k, "projection_dim", v->d_out, "the text model's embedding_length", c->text.d_model);
    QVL_TRY(single ? taps_by_list(&k, v) : taps_by_flags(&k, v));
    QVL_TRY(image(&k, &c->image, single ? "shortest_edge" : "image_min_pixels", single ? "longest_edge" : "image_max_pixels"));
    return 0;
}
