/* weights_slots.c - every tensor of the model in one list, with its canonical name and its dimensions. */
#include "model/weights_slots.h"

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

struct walk {
    qvl_slot_fn fn;
    void *ud;
    int rc;         /* first non-zero result; nothing is called afterwards */
    int dry;        /* no destinations */
    char prefix[80];
};

static void call(struct walk *k, struct qvl_slot *s, const char *tail)
{
    char name[128];
    if (k->rc)
        return;
    snprintf(name, sizeof name, "%s%s", k->prefix, tail);
    s->name = name;
    if (k->dry) {
        s->mat = NULL;
        s->vec = NULL;
        s->layer = NULL;
    }
    k->rc = k->fn(k->ud, s);
}

static void mat(struct walk *k, const char *tail, struct qvl_mat *m, int64_t n_out, int64_t n_in)
{
    call(k, &(struct qvl_slot){.kind = QVL_SLOT_MAT, .n_out = n_out, .n_in = n_in, .mat = m}, tail);
}

static void vec(struct walk *k, const char *tail, const float **v, int64_t n, int ones)
{
    call(k, &(struct qvl_slot){.kind = QVL_SLOT_VEC, .n_out = n, .n_in = 1, .vec = v, .ones = ones}, tail);
}

/* name.weight [n_out][n_in] and name.bias [n_out] */
static void linear(struct walk *k, const char *tail, struct qvl_mat *m, const float **bias, int64_t n_out, int64_t n_in)
{
    char s[48];
    snprintf(s, sizeof s, "%s.weight", tail);
    mat(k, s, m, n_out, n_in);
    snprintf(s, sizeof s, "%s.bias", tail);
    vec(k, s, bias, n_out, 0);
}

static void norm(struct walk *k, const char *tail, struct qvl_norm_weights *n, int64_t width)
{
    char s[48];
    snprintf(s, sizeof s, "%s.weight", tail);
    vec(k, s, &n->w, width, 1);
    snprintf(s, sizeof s, "%s.bias", tail);
    vec(k, s, &n->b, width, 0);
}

/* Both kinds of merger see merge^2 patches at once; the main one normalises each patch, a DeepStack one all of them. */
static void merger(struct walk *k, struct qvl_merger_weights *m, const struct qvl_vision_config *v, int64_t norm_width)
{
    int64_t wide = (int64_t)v->merge * v->merge * v->d_model;
    norm(k, "norm", &m->norm, norm_width);
    linear(k, "linear_fc1", &m->fc1, &m->fc1_b, wide, wide);
    linear(k, "linear_fc2", &m->fc2, &m->fc2_b, v->d_out, wide);
}

static void vision(struct walk *k, struct qvl_vision_weights *w, const struct qvl_vision_config *v)
{
    struct qvl_vision_block_weights scratch = {0};
    int64_t c = v->d_model, wide = (int64_t)v->merge * v->merge * c;
    int64_t patch = (int64_t)v->n_channel * v->temporal_patch * v->patch * v->patch;
    snprintf(k->prefix, sizeof k->prefix, "visual.");
    call(k, &(struct qvl_slot){.kind = QVL_SLOT_PATCH, .n_out = c, .n_in = patch, .mat = &w->patch}, "patch_embed.proj.weight");
    vec(k, "patch_embed.proj.bias", &w->patch_b, c, 0);
    mat(k, "pos_embed.weight", &w->pos, (int64_t)v->n_pos_side * v->n_pos_side, c);
    for (int i = 0; i < v->depth && !k->rc; i++) {
        struct qvl_vision_block_weights *b = k->dry ? &scratch : &w->blocks[i];
        snprintf(k->prefix, sizeof k->prefix, "visual.blocks.%d.", i);
        norm(k, "norm1", &b->norm1, c);
        norm(k, "norm2", &b->norm2, c);
        linear(k, "attn.qkv", &b->qkv, &b->qkv_b, 3 * c, c);
        linear(k, "attn.proj", &b->proj, &b->proj_b, c, c);
        linear(k, "mlp.linear_fc1", &b->fc1, &b->fc1_b, v->d_ff, c);
        linear(k, "mlp.linear_fc2", &b->fc2, &b->fc2_b, c, v->d_ff);
    }
    snprintf(k->prefix, sizeof k->prefix, "visual.merger.");
    merger(k, &w->merger, v, c);
    for (int i = 0; i < v->n_tap; i++) {
        snprintf(k->prefix, sizeof k->prefix, "visual.deepstack_merger_list.%d.", i);
        merger(k, &w->tap[i], v, wide);
    }
}

static void layer(struct walk *k, struct qvl_layer_weights *l, const struct qvl_text_config *t, int i)
{
    int64_t d = t->d_model, q = (int64_t)t->n_head * t->d_head, kv = (int64_t)t->n_kv * t->d_head;
    snprintf(k->prefix, sizeof k->prefix, "language_model.layers.%d.", i);
    vec(k, "input_layernorm.weight", &l->norm1, d, 1);
    mat(k, "self_attn.q_proj.weight", &l->q, q, d);
    mat(k, "self_attn.k_proj.weight", &l->k, kv, d);
    mat(k, "self_attn.v_proj.weight", &l->v, kv, d);
    mat(k, "self_attn.o_proj.weight", &l->o, d, q);
    vec(k, "self_attn.q_norm.weight", &l->q_norm, t->d_head, 1);
    vec(k, "self_attn.k_norm.weight", &l->k_norm, t->d_head, 1);
    vec(k, "post_attention_layernorm.weight", &l->norm2, d, 1);
    if (t->is_sparse && t->is_sparse[i]) {
        mat(k, "mlp.gate.weight", &l->router, t->n_expert, d);
        call(k, &(struct qvl_slot){.kind = QVL_SLOT_EXPERTS, .n_out = t->d_ff_expert, .n_in = d, .n_expert = t->n_expert,
                                   .layer = l}, "mlp.");
        return;
    }
    mat(k, "mlp.gate_proj.weight", &l->gate, t->d_ff, d);
    mat(k, "mlp.up_proj.weight", &l->up, t->d_ff, d);
    mat(k, "mlp.down_proj.weight", &l->down, d, t->d_ff);
}

int qvl_weights_each(struct qvl_weights *w, const struct qvl_config *c, qvl_slot_fn fn, void *ud)
{
    struct qvl_weights none = {0};
    struct qvl_layer_weights scratch = {0};
    const struct qvl_text_config *t = &c->text;
    struct walk k = {.fn = fn, .ud = ud, .dry = !w};
    if (!w)
        w = &none;
    vision(&k, &w->vision, &c->vision);
    snprintf(k.prefix, sizeof k.prefix, "language_model.");
    mat(&k, "embed_tokens.weight", &w->text.embed, t->n_vocab, t->d_model);
    for (int i = 0; i < t->n_layer && !k.rc; i++)
        layer(&k, k.dry ? &scratch : &w->text.layers[i], t, i);
    snprintf(k.prefix, sizeof k.prefix, "language_model.");
    vec(&k, "norm.weight", &w->text.norm, t->d_model, 1);
    k.prefix[0] = 0;
    call(&k, &(struct qvl_slot){.kind = QVL_SLOT_HEAD, .n_out = t->n_vocab, .n_in = t->d_model, .mat = &w->text.head},
         "lm_head.weight");
    return k.rc;
}

int qvl_weights_alloc(struct qvl_weights *w, const struct qvl_config *c, qvl_err *err)
{
    const struct qvl_text_config *t = &c->text;
    struct qvl_weights_owned *o;
    size_t n_sparse = 0, n_mat = 0;
    *w = (struct qvl_weights){0};
    w->owned = o = qvl_calloc(1, sizeof *o);
    if (!o)
        return qvl_fail_nomem(err, sizeof *o, "weights");
    for (int i = 0; i < t->n_layer && t->is_sparse; i++)
        n_sparse += t->is_sparse[i];
    if (qvl_mul_size(&n_mat, n_sparse * 3, (size_t)t->n_expert))
        return qvl_fail(err, QVL_E_LIMIT, "too many experts");
    w->vision.blocks = o->blocks = qvl_calloc((size_t)c->vision.depth, sizeof *o->blocks);
    w->text.layers = o->layers = qvl_calloc((size_t)t->n_layer, sizeof *o->layers);
    o->experts = n_mat ? qvl_calloc(n_mat, sizeof *o->experts) : NULL;
    if (!o->blocks || !o->layers || (n_mat && !o->experts))
        return qvl_fail_nomem(err, n_mat * sizeof *o->experts + (size_t)t->n_layer * sizeof *o->layers, "lists of weights");
    struct qvl_mat *next = o->experts;
    for (int i = 0; i < t->n_layer && n_mat; i++) {
        if (!t->is_sparse[i])
            continue;
        o->layers[i].e_gate = next;
        o->layers[i].e_up = next + t->n_expert;
        o->layers[i].e_down = next + 2 * (size_t)t->n_expert;
        next += 3 * (size_t)t->n_expert;
    }
    return 0;
}

void qvl_weights_free(struct qvl_weights *w)
{
    struct qvl_weights_owned *o = w->owned;
    if (o) {
        qvl_mem_free(o->blocks);
        qvl_mem_free(o->layers);
        qvl_mem_free(o->experts);
        qvl_mem_free(o->vectors);
        qvl_mem_free(o->patch);
        qvl_mem_free(o->warnings);
        qvl_pages_close(&o->pages);
        qvl_mem_free(o);
    }
    *w = (struct qvl_weights){0};
}

const char *qvl_weights_warnings(const struct qvl_weights *w)
{
    const struct qvl_weights_owned *o = w->owned;
    return o && o->warnings ? o->warnings : "";
}
