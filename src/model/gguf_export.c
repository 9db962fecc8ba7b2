/* gguf_export.c - which tensors a GGUF file of a model has, in which types, and its model keys (gguf_export.h).
 *
 * Types follow llama.cpp's converter: vectors, position table and router in F32; the patch weight in F16 in an F16 file, else in F32;
 * all other matrices in the type asked for. When their rows are no whole blocks of it: Q5_0 for Q4_K, Q8_0 for Q6_K, else F16. In a
 * file of fewer than 8 bits the head (or the embedding that serves as one) stays at 8. Symmetric 4-bit codes of other formats keep
 * their codes in Q4_0. */
#include "model/gguf_export.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/convert_q4.h"
#include "model/foreign.h"
#include "model/gguf_names.h"
#include "model/weights_slots.h"

/* Types by name, with the number that general.file_type has for a file of mostly this type. Those without an encoder occur with
 * "auto" alone. */
static const struct {
    enum qvl_dtype type;
    uint32_t file_type;
    int vision; /* a choice for vision towers, too */
} kinds[] = {
    {QVL_DT_F32, 0, 1},       {QVL_DT_F16, 1, 1},        {QVL_DT_BF16, 32, 1},      {QVL_DT_GGML_Q8_0, 7, 1},
    {QVL_DT_GGML_Q4_0, 2, 0}, {QVL_DT_GGML_Q4_1, 3, 0},  {QVL_DT_GGML_Q5_0, 8, 0},  {QVL_DT_GGML_Q5_1, 9, 0},
    {QVL_DT_GGML_Q2_K, 10, 0}, {QVL_DT_GGML_Q3_K, 12, 0}, {QVL_DT_GGML_Q4_K, 15, 0}, {QVL_DT_GGML_Q5_K, 17, 0},
    {QVL_DT_GGML_Q6_K, 18, 0}, {QVL_DT_GGML_IQ4_NL, 25, 0}, {QVL_DT_GGML_IQ4_XS, 30, 0}, {QVL_DT_GGML_MXFP4, 38, 0},
};

static int same_name(const char *a, const char *b) /* but for case */
{
    for (; *a && *b; a++, b++)
        if ((*a >= 'a' && *a <= 'z' ? *a - 32 : *a) != (*b >= 'a' && *b <= 'z' ? *b - 32 : *b))
            return 0;
    return *a == *b;
}

int qvl_gguf_export_type(enum qvl_dtype *out, const char *name, int vision, const char *what, qvl_err *err)
{
    char known[160] = "";
    *out = QVL_DT_UNKNOWN;
    if (!name || same_name(name, "auto"))
        return 0;
    for (size_t i = 0; i < QVL_COUNT(kinds); i++) {
        const struct qvl_ggml_type *t = qvl_ggml_type_of(kinds[i].type);
        if (!t->from_f32 || (vision && !kinds[i].vision))
            continue;
        if (same_name(name, t->name)) {
            *out = t->type;
            return 0;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s, ", t->name);
    }
    return qvl_fail(err, QVL_E_ARG, "%s: found %.40s, expected one of %sauto", what, name, known);
}

/* The type of most elements; ties go to the first. */
static enum qvl_dtype main_type(const struct qvl_gguf_export *x)
{
    enum qvl_dtype best = QVL_DT_F32;
    double most = 0;
    for (size_t i = 0; i < QVL_COUNT(kinds); i++) {
        double n = 0;
        for (size_t k = 0; k < x->w.n; k++) {
            const struct qvl_gguf_entry *e = &x->w.list[k];
            n += e->type->type == kinds[i].type ? (double)e->n_row * (double)e->shape[e->rank - 1] : 0;
        }
        if (n > most) {
            most = n;
            best = kinds[i].type;
        }
    }
    return best;
}

const char *qvl_gguf_export_label(const struct qvl_gguf_export *x, enum qvl_dtype type)
{
    return qvl_ggml_type_of(type == QVL_DT_UNKNOWN ? main_type(x) : type)->name;
}

/* ---------------------------------------------------------------- tensors */

struct planner {
    struct qvl_gguf_export *x;
    const struct qvl_weights *w;
    enum qvl_dtype type;
    int vision;
    qvl_err *err;
};

static int add(struct planner *p, const char *name, enum qvl_dtype type, int rank, const int64_t *shape, struct qvl_gguf_source src)
{
    struct qvl_gguf_export *x = p->x;
    if (x->w.n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 64;
        struct qvl_gguf_source *list = qvl_realloc(x->source, x->cap * sizeof *list, cap, sizeof *list);
        if (!list)
            return qvl_fail_nomem(p->err, cap * sizeof *list, "the list of tensors");
        x->source = list;
        x->cap = cap;
    }
    x->source[x->w.n] = src;
    return qvl_gguf_put_tensor(&x->w, name, type, rank, shape, p->err);
}

/* Fewer than eight bits a weight. */
static int is_narrow(enum qvl_dtype t)
{
    return qvl_dtype_is_ggml(t) && qvl_dtype_block_bytes(t) < qvl_dtype_block_elems(t);
}

int qvl_gguf_export_keeps(const struct qvl_mat *m)
{
    int exact;
    return qvl_dtype_is_foreign(m->type) && !qvl_dtype_is_ggml(m->type) && m->n_in % QVL_GROUP == 0 && qvl_convert_q4_can(m, &exact);
}

/* How a matrix is stored. `head`: it decides between tokens. */
static enum qvl_dtype matrix_type(const struct planner *p, const struct qvl_mat *m, int head)
{
    enum qvl_dtype t = p->type;
    if (t == QVL_DT_UNKNOWN)
        return qvl_ggml_type_of(m->type) ? m->type : qvl_gguf_export_keeps(m) ? QVL_DT_GGML_Q4_0 : QVL_DT_F16;
    if (head && is_narrow(t) && !(t == QVL_DT_GGML_Q4_0 && qvl_gguf_export_keeps(m)))
        t = QVL_DT_GGML_Q8_0;
    if (qvl_dtype_is_ggml(t) && m->n_in % qvl_dtype_block_elems(t)) /* shorter blocks of as many bits or more */
        t = t == QVL_DT_GGML_Q4_K ? QVL_DT_GGML_Q5_0 : t == QVL_DT_GGML_Q6_K ? QVL_DT_GGML_Q8_0 : QVL_DT_F16;
    return qvl_dtype_is_ggml(t) && m->n_in % qvl_dtype_block_elems(t) ? QVL_DT_F16 : t;
}

/* [E][F][H] twice and [E][H][F] */
static int add_experts(struct planner *p, const struct qvl_slot *s)
{
    static const char *const which[] = {"gate", "up", "down"};
    const struct qvl_mat *const mats[] = {s->layer->e_gate, s->layer->e_up, s->layer->e_down};
    for (int i = 0; i < 3; i++) {
        char canonical[160], name[96];
        const int64_t shape[3] = {s->n_expert, mats[i]->n_out, mats[i]->n_in};
        snprintf(canonical, sizeof canonical, "%sswitch_mlp.%s_proj.weight", s->name, which[i]);
        if (!qvl_gguf_name_of(name, sizeof name, canonical, p->x->c))
            return qvl_fail(p->err, QVL_E_STATE, "tensor %s: GGUF has no name for it", canonical);
        QVL_TRY(add(p, name, matrix_type(p, mats[i], 0), 3, shape,
                    (struct qvl_gguf_source){.mat = mats[i], .n_mat = s->n_expert, .frame = -1}));
    }
    return 0;
}

/* [C][ch][y][x] for each of the two frames */
static int add_patch(struct planner *p, const struct qvl_slot *s, const char *name)
{
    const struct qvl_vision_config *v = &p->x->c->vision;
    const int64_t shape[4] = {v->d_model, v->n_channel, v->patch, v->patch};
    enum qvl_dtype own = s->mat->type, type = p->type == QVL_DT_UNKNOWN ? own : p->type;
    char second[100];
    snprintf(second, sizeof second, "%s.1", name);
    if (v->temporal_patch != 2)
        return qvl_fail(p->err, QVL_E_UNSUPPORTED, "temporal_patch_size: found %d, GGUF has a place for 2", v->temporal_patch);
    type = type == QVL_DT_F16 ? QVL_DT_F16 : QVL_DT_F32;
    QVL_TRY(add(p, name, type, 4, shape, (struct qvl_gguf_source){.mat = s->mat, .n_mat = 1, .frame = 0}));
    return add(p, second, type, 4, shape, (struct qvl_gguf_source){.mat = s->mat, .n_mat = 1, .frame = 1});
}

static int visit(void *ud, const struct qvl_slot *s)
{
    struct planner *p = ud;
    char name[96];
    const int64_t shape[2] = {s->n_out, s->n_in};
    const struct qvl_mat *embed = &p->w->text.embed;
    if ((strncmp(s->name, "visual.", 7) == 0) != p->vision)
        return 0;
    if (s->kind == QVL_SLOT_EXPERTS)
        return add_experts(p, s);
    if (s->kind == QVL_SLOT_HEAD && s->mat->data == embed->data)
        return 0;
    if (!qvl_gguf_name_of(name, sizeof name, s->name, p->x->c))
        return qvl_fail(p->err, QVL_E_STATE, "tensor %s: GGUF has no name for it", s->name);
    if (s->kind == QVL_SLOT_PATCH)
        return add_patch(p, s, name);
    if (s->kind == QVL_SLOT_VEC)
        return add(p, name, QVL_DT_F32, 1, shape, (struct qvl_gguf_source){.vec = *s->vec, .frame = -1});
    int plain = strstr(name, "position_embd") || strstr(name, "ffn_gate_inp");
    int head = s->kind == QVL_SLOT_HEAD || (s->mat == embed && p->w->text.head.data == embed->data);
    return add(p, name, plain ? QVL_DT_F32 : matrix_type(p, s->mat, head), 2, shape,
               (struct qvl_gguf_source){.mat = s->mat, .n_mat = 1, .frame = -1});
}

/* ---------------------------------------------------------------- keys */

static const char *key(char buf[96], const char *prefix, const char *tail)
{
    snprintf(buf, 96, "%s.%s", prefix, tail);
    return buf;
}

static void put_sizes(struct qvl_gguf_writer *w, const char *prefix, const char *const *names, const int *values, size_t n)
{
    char k[96];
    for (size_t i = 0; i < n; i++)
        qvl_gguf_put_u32(w, key(k, prefix, names[i]), (uint32_t)values[i]);
}

static void put_rope(struct qvl_gguf_writer *w, const char *arch, const struct qvl_text_config *t)
{
    char k[96];
    const int32_t sections[4] = {t->rope_section[0], t->rope_section[1], t->rope_section[2], 0};
    qvl_gguf_put_i32s(w, key(k, arch, "rope.dimension_sections"), sections, 4);
    qvl_gguf_put_f32(w, key(k, arch, "rope.freq_base"), (float)t->rope_theta);
    if (t->rope_original) {
        qvl_gguf_put_text(w, key(k, arch, "rope.scaling.type"), "yarn", 4);
        qvl_gguf_put_f32(w, key(k, arch, "rope.scaling.factor"), (float)t->rope_factor);
        qvl_gguf_put_u32(w, key(k, arch, "rope.scaling.original_context_length"), (uint32_t)t->rope_original);
    }
}

static void put_text_keys(struct qvl_gguf_writer *w, const struct qvl_config *c)
{
    static const char *const names[] = {"block_count", "context_length", "embedding_length", "feed_forward_length",
                                        "attention.head_count", "attention.head_count_kv", "attention.key_length",
                                        "attention.value_length", "n_deepstack_layers"};
    static const char *const experts[] = {"expert_count", "expert_used_count", "expert_feed_forward_length"};
    const struct qvl_text_config *t = &c->text;
    const char *arch = c->moe ? "qwen3vlmoe" : "qwen3vl";
    /* of a model without dense layers: a width that readers ask for and nobody uses */
    const int d_ff = t->d_ff ? t->d_ff : t->d_ff_expert;
    const int values[] = {t->n_layer, t->max_positions, t->d_model, d_ff, t->n_head, t->n_kv, t->d_head, t->d_head, c->vision.n_tap};
    char k[96];
    put_sizes(w, arch, names, values, QVL_COUNT(names));
    if (c->moe)
        put_sizes(w, arch, experts, (const int[]){t->n_expert, t->n_expert_used, t->d_ff_expert}, QVL_COUNT(experts));
    put_rope(w, arch, t);
    qvl_gguf_put_f32(w, key(k, arch, "attention.layer_norm_rms_epsilon"), (float)t->rms_eps);
}

static void put_pixels(struct qvl_gguf_writer *w, const char *name, uint64_t n)
{
    qvl_gguf_put_u32(w, name, n < UINT32_MAX ? (uint32_t)n : UINT32_MAX);
}

static void put_vision_keys(struct qvl_gguf_writer *w, const struct qvl_config *c)
{
    static const char *const names[] = {"image_size", "patch_size", "embedding_length", "feed_forward_length", "block_count",
                                        "attention.head_count", "projection_dim", "spatial_merge_size"};
    const struct qvl_vision_config *v = &c->vision;
    const int values[] = {v->n_pos_side * v->patch, v->patch, v->d_model, v->d_ff, v->depth, v->n_head, v->d_out, v->merge};
    uint8_t flags[1024] = {0};
    qvl_gguf_put_bool(w, "clip.has_vision_encoder", 1);
    qvl_gguf_put_text(w, "clip.projector_type", "qwen3vl_merger", strlen("qwen3vl_merger"));
    qvl_gguf_put_bool(w, "clip.use_gelu", 1);
    put_sizes(w, "clip.vision", names, values, QVL_COUNT(names));
    qvl_gguf_put_f32(w, "clip.vision.attention.layer_norm_epsilon", 1e-6f); /* of the model class */
    qvl_gguf_put_f32s(w, "clip.vision.image_mean", c->image.mean, 3);
    qvl_gguf_put_f32s(w, "clip.vision.image_std", c->image.std, 3);
    put_pixels(w, "clip.vision.image_min_pixels", c->image.min_pixels);
    put_pixels(w, "clip.vision.image_max_pixels", c->image.max_pixels);
    for (int i = 0; i < v->n_tap; i++)
        flags[v->tap[i]] = 1;
    qvl_gguf_put_bools(w, "clip.vision.is_deepstack_layers", flags, (size_t)v->depth);
}

static void put_sampling(struct qvl_gguf_writer *w, const struct qvl_generation_config *g)
{
    if (!g->do_sample) /* greedy, which is what no key means */
        return;
    qvl_gguf_put_i32(w, "general.sampling.top_k", g->top_k);
    qvl_gguf_put_f32(w, "general.sampling.top_p", g->top_p);
    if (g->min_p > 0)
        qvl_gguf_put_f32(w, "general.sampling.min_p", g->min_p);
    qvl_gguf_put_f32(w, "general.sampling.temp", g->temperature);
    if (g->repetition_penalty > 1 || g->repetition_penalty < 1)
        qvl_gguf_put_f32(w, "general.sampling.penalty_repeat", g->repetition_penalty);
}

static int put_keys(struct planner *p, const char *name)
{
    struct qvl_gguf_writer *w = &p->x->w;
    const struct qvl_config *c = p->x->c;
    const char *arch = p->vision ? "clip" : c->moe ? "qwen3vlmoe" : "qwen3vl", *type = p->vision ? "mmproj" : "model";
    enum qvl_dtype most = main_type(p->x);
    uint32_t label = 0;
    for (int i = 1; i < c->vision.n_tap; i++)
        if (c->vision.tap[i] <= c->vision.tap[i - 1])
            return qvl_fail(p->err, QVL_E_UNSUPPORTED, "deepstack_visual_indexes: GGUF can say them in ascending order only");
    if (c->vision.depth > 1024 || !c->vision.act_tanh)
        return qvl_fail(p->err, QVL_E_UNSUPPORTED, "vision_config: %s", c->vision.act_tanh ? "more than 1024 blocks"
                        : "hidden_act: GGUF can say the tanh form of gelu only");
    for (size_t i = 0; i < QVL_COUNT(kinds); i++)
        label = kinds[i].type == most ? kinds[i].file_type : label;
    qvl_gguf_put_text(w, "general.architecture", arch, strlen(arch));
    qvl_gguf_put_text(w, "general.type", type, strlen(type));
    qvl_gguf_put_text(w, "general.name", name, strlen(name));
    qvl_gguf_put_u32(w, "general.file_type", label);
    qvl_gguf_put_u32(w, "general.quantization_version", 2);
    if (p->vision) {
        put_vision_keys(w, c);
    } else {
        put_text_keys(w, c);
        put_sampling(w, &c->gen);
    }
    return 0;
}

int qvl_gguf_export_plan(struct qvl_gguf_export *x, const struct qvl_config *c, struct qvl_weights *w, int vision,
                         enum qvl_dtype type, const char *name, qvl_err *err)
{
    struct planner p = {.x = x, .w = w, .type = type, .vision = vision, .err = err};
    *x = (struct qvl_gguf_export){.c = c};
    qvl_gguf_writer_init(&x->w);
    int rc = qvl_weights_each(w, c, visit, &p);
    return rc < 0 ? rc : put_keys(&p, name);
}

void qvl_gguf_export_free(struct qvl_gguf_export *x)
{
    qvl_gguf_writer_free(&x->w);
    qvl_mem_free(x->source);
    x->source = NULL;
}
