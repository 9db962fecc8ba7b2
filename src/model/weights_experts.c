/* weights_experts.c - the experts of one sparse layer, in the layouts that exist, as matrices [n_expert] of gate, up
 * and down. H = d_model, F = d_ff_expert, E = n_expert; all are used in place.
 *
 *   experts.gate_up_proj [E][H][2F], experts.down_proj [E][F][H]   published: input first ("transposed")
 *   experts.gate_up_proj [E][2F][H], experts.down_proj [E][H][F]   re-saved: output first
 *   switch_mlp.{gate,up}_proj.weight [E][F][H], .down_proj.weight [E][H][F]
 *   experts.N.{gate,up}_proj.weight [F][H], experts.N.down_proj.weight [H][F]
 * Gate is the first half of the 2F outputs, up the second. */
#include <stdio.h>

#include "base/err.h"
#include "model/weights_bind.h"

/* A matrix inside a fused tensor, `first` elements (whole rows) behind its start. */
static struct qvl_mat part(const struct qvl_tensor *t, int transposed, int64_t first, int64_t n_out, int64_t n_in, int64_t stride)
{
    const unsigned char *p = t->data;
    size_t at = qvl_dtype_is_ggml(t->type) ? (size_t)first / qvl_dtype_block_elems(t->type) * qvl_dtype_block_bytes(t->type)
                                           : (size_t)first * (qvl_dtype_bits(t->type) / 8);
    return (struct qvl_mat){.data = p + at, .type = t->type, .transposed = transposed,
                            .n_out = n_out, .n_in = n_in, .stride = stride};
}

static const struct qvl_tensor *find(struct qvl_binder *b, const struct qvl_slot *s, const char *tail)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", s->name, tail);
    return qvl_bind_find(b, name);
}

static void missing(struct qvl_binder *b, const struct qvl_slot *s, const char *tail)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", s->name, tail);
    qvl_bind_missing(b, name);
}

static void used(struct qvl_binder *b, const struct qvl_tensor *t, int64_t elems)
{
    b->w->mapped_bytes += t->bytes;
    b->w->n_params += (uint64_t)elems;
}

static int bind_fused(struct qvl_binder *b, const struct qvl_slot *s, const struct qvl_tensor *gu, const struct qvl_tensor *dn)
{
    int64_t e = s->n_expert, f = s->n_out, h = s->n_in;
    const int64_t gu_in[3] = {e, h, 2 * f}, gu_out[3] = {e, 2 * f, h}, dn_in[3] = {e, f, h}, dn_out[3] = {e, h, f};
    int input_first;
    if (!gu || !dn) {
        missing(b, s, gu ? "experts.down_proj" : "experts.gate_up_proj");
        return 0;
    }
    QVL_TRY(qvl_bind_type(b, gu));
    QVL_TRY(qvl_bind_type(b, dn));
    /* Both tensors must fit the same layout; that leaves no doubt even when one of them fits both. */
    if (qvl_bind_shape_is(gu, 3, gu_in) && qvl_bind_shape_is(dn, 3, dn_in))
        input_first = 1;
    else if (qvl_bind_shape_is(gu, 3, gu_out) && qvl_bind_shape_is(dn, 3, dn_out))
        input_first = 0;
    else if (qvl_bind_shape_is(gu, 3, gu_in) || qvl_bind_shape_is(gu, 3, gu_out))
        return qvl_bind_wrong_shape(b, dn, 3, qvl_bind_shape_is(gu, 3, gu_in) ? dn_in : dn_out);
    else
        return qvl_bind_wrong_shape(b, gu, 3, gu_in);
    if (b->checking)
        return 0;
    for (int64_t i = 0; i < e; i++) {
        int64_t at = i * h * 2 * f;
        s->layer->e_gate[i] = part(gu, input_first, at, f, h, input_first ? 2 * f : h);
        s->layer->e_up[i] = part(gu, input_first, at + (input_first ? f : f * h), f, h, input_first ? 2 * f : h);
        s->layer->e_down[i] = part(dn, input_first, i * h * f, h, f, input_first ? h : f);
    }
    used(b, gu, e * h * 2 * f);
    used(b, dn, e * h * f);
    return 0;
}

/* One of gate, up, down: [E][n_out][n_in] in one tensor. */
static int bind_stacked(struct qvl_binder *b, const struct qvl_slot *s, const char *tail, struct qvl_mat *m, int64_t n_out,
                        int64_t n_in)
{
    const int64_t dims[3] = {s->n_expert, n_out, n_in};
    const struct qvl_tensor *t = find(b, s, tail);
    if (!t) {
        missing(b, s, tail);
        return 0;
    }
    if (!qvl_bind_shape_is(t, 3, dims))
        return qvl_bind_wrong_shape(b, t, 3, dims);
    QVL_TRY(qvl_bind_mat_type(b, t));
    if (b->checking)
        return 0;
    for (int64_t i = 0; i < s->n_expert; i++)
        m[i] = part(t, 0, i * n_out * n_in, n_out, n_in, n_in);
    used(b, t, s->n_expert * n_out * n_in);
    return 0;
}

static int bind_single(struct qvl_binder *b, const struct qvl_slot *s, int64_t i, const char *which, struct qvl_mat *m,
                       int64_t n_out, int64_t n_in)
{
    const int64_t dims[2] = {n_out, n_in};
    char tail[64];
    snprintf(tail, sizeof tail, "experts.%lld.%s.weight", (long long)i, which);
    const struct qvl_tensor *t = find(b, s, tail);
    if (!t) {
        missing(b, s, tail);
        return 0;
    }
    if (!qvl_bind_shape_is(t, 2, dims))
        return qvl_bind_wrong_shape(b, t, 2, dims);
    QVL_TRY(qvl_bind_mat_type(b, t));
    if (b->checking)
        return 0;
    m[i] = part(t, 0, 0, n_out, n_in, n_in);
    m[i].aux = t->aux;
    used(b, t, n_out * n_in);
    return 0;
}

int qvl_bind_experts(struct qvl_binder *b, const struct qvl_slot *s)
{
    struct qvl_layer_weights none = {0}, *l = s->layer ? s->layer : &none;
    const struct qvl_tensor *gu = find(b, s, "experts.gate_up_proj"), *dn = find(b, s, "experts.down_proj");
    int64_t f = s->n_out, h = s->n_in;
    if (gu || dn)
        return bind_fused(b, s, gu, dn);
    if (find(b, s, "switch_mlp.gate_proj.weight")) {
        QVL_TRY(bind_stacked(b, s, "switch_mlp.gate_proj.weight", l->e_gate, f, h));
        QVL_TRY(bind_stacked(b, s, "switch_mlp.up_proj.weight", l->e_up, f, h));
        return bind_stacked(b, s, "switch_mlp.down_proj.weight", l->e_down, h, f);
    }
    if (!find(b, s, "experts.0.gate_proj.weight")) {
        missing(b, s, "experts.gate_up_proj");
        missing(b, s, "experts.down_proj");
        return 0;
    }
    for (int64_t i = 0; i < s->n_expert; i++) {
        QVL_TRY(bind_single(b, s, i, "gate_proj", l->e_gate, f, h));
        QVL_TRY(bind_single(b, s, i, "up_proj", l->e_up, f, h));
        QVL_TRY(bind_single(b, s, i, "down_proj", l->e_down, h, f));
    }
    return 0;
}
