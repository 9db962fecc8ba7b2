/* quantised.c - see quantised.h. Names of the tensors of a matrix X:
 *
 *   AWQ, GPTQ            X.qweight X.qzeros X.scales, GPTQ X.g_idx
 *   compressed-tensors   X.weight_packed or X.weight, X.weight_scale X.weight_zero_point X.weight_g_idx X.weight_shape
 *   FP8                  X.weight X.weight_scale_inv (or X.weight_scale); fused experts: X X_scale_inv
 *   bitsandbytes         X.weight X.weight.absmax X.weight.quant_map X.weight.nested_absmax X.weight.nested_quant_map
 *                        X.weight.quant_state.bitsandbytes__nf4; int8: X.weight X.SCB X.weight_format
 *   MLX                  X.weight X.scales X.biases */
#include "model/quantised.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/tensor_set.h"
#include "model/weights_slots.h"

enum { NAME_BYTES = 160 };

struct qvl_coded_item {
    struct qvl_coded_item *next;
    struct qvl_coded coded;
    char name[2 * NAME_BYTES];
};

struct entry {
    const char *name;            /* canonical */
    const struct qvl_tensor *t;
    int used;                    /* by a quantised matrix: not handed on */
};

struct builder {
    struct qvl_quantised *m;
    const struct qvl_config *c;
    struct entry *entry;         /* [n], sorted by name */
    size_t n, n_coded;
    char *strings;
    qvl_err *err;
};

typedef int (*reader_fn)(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);

/* ---- names ---- */

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int index_names(struct builder *b)
{
    const struct qvl_tensors *t = b->m->source;
    size_t n = qvl_tensors_count(t), bytes = 0, used = 0;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(qvl_tensors_at(t, i)->name) + sizeof "language_model.";
    b->entry = qvl_alloc(n, sizeof *b->entry);
    b->strings = qvl_alloc(bytes, 1);
    if (!b->entry || !b->strings)
        return qvl_fail_nomem(b->err, bytes + n * sizeof *b->entry, "the names of the tensors");
    for (size_t i = 0; i < n; i++) {
        char *s = b->strings + used;
        qvl_canonical_name(s, bytes - used, qvl_tensors_at(t, i)->name);
        used += strlen(s) + 1;
        b->entry[i] = (struct entry){.name = s, .t = qvl_tensors_at(t, i)};
    }
    b->n = n;
    qsort(b->entry, n, sizeof *b->entry, by_name);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(b->entry[i - 1].name, b->entry[i].name))
            return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensors %s and %s are the same one by their names", qvl_tensors_path(t),
                            b->entry[i - 1].t->name, b->entry[i].t->name);
    return 0;
}

static struct entry *find(const struct builder *b, const char *stem, const char *tail)
{
    char name[2 * NAME_BYTES];
    struct entry key = {.name = name};
    snprintf(name, sizeof name, "%s%s", stem, tail);
    return bsearch(&key, b->entry, b->n, sizeof key, by_name);
}

static const struct qvl_tensor *tensor(const struct builder *b, const char *stem, const char *tail)
{
    const struct entry *e = find(b, stem, tail);
    return e ? e->t : NULL;
}

/* Every tensor of the matrix is spoken for, those of its inputs' quantisation included: inputs are not quantised here. */
static void mark_used(struct builder *b, const char *stem)
{
    static const char *const tails[] = {
        ".qweight", ".qzeros", ".scales", ".g_idx", ".biases", ".weight", ".weight_packed", ".weight_scale", ".weight_scale_inv",
        ".weight_zero_point", ".weight_g_idx", ".weight_shape", ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax",
        ".weight.nested_quant_map", ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4", ".SCB",
        ".weight_format", ".input_scale", ".input_zero_point", ".output_scale", ".output_zero_point", ".activation_scale",
        "", "_scale_inv"};
    for (size_t i = 0; i < QVL_COUNT(tails); i++) {
        struct entry *e = find(b, stem, tails[i]);
        if (e)
            e->used = 1;
    }
}

/* ---- the tensors of one matrix ---- */

static int is_float8(enum qvl_dtype t) { return t == QVL_DT_F8_E4M3 || t == QVL_DT_F8_E5M2; }

static reader_fn compressed(const struct builder *b, const char *stem, struct qvl_coded_parts *p)
{
    p->scales = tensor(b, stem, ".weight_scale");
    p->zeros = tensor(b, stem, ".weight_zero_point");
    p->groups = tensor(b, stem, ".weight_g_idx");
    p->shape = tensor(b, stem, ".weight_shape");
    if ((p->weight = tensor(b, stem, ".weight_packed")) != NULL)
        return qvl_coded_packed;
    p->weight = tensor(b, stem, ".weight");
    return p->weight && (p->weight->type == QVL_DT_I8 || is_float8(p->weight->type)) ? qvl_coded_bytes8 : NULL;
}

static reader_fn bitsandbytes(const struct builder *b, const char *stem, struct qvl_coded_parts *p)
{
    p->weight = tensor(b, stem, ".weight");
    p->scales = tensor(b, stem, ".weight.absmax");
    if (p->weight && (p->scales || p->weight->type == QVL_DT_U8)) { /* codes may be stored as any type */
        p->map = tensor(b, stem, ".weight.quant_map");
        p->nested = tensor(b, stem, ".weight.nested_absmax");
        p->nested_map = tensor(b, stem, ".weight.nested_quant_map");
        p->state = tensor(b, stem, ".weight.quant_state.bitsandbytes__nf4");
        if (!p->state)
            p->state = tensor(b, stem, ".weight.quant_state.bitsandbytes__fp4");
        return qvl_coded_bnb4;
    }
    p->scales = tensor(b, stem, ".SCB");
    p->state = tensor(b, stem, ".weight_format");
    return p->weight && p->weight->type == QVL_DT_I8 ? qvl_coded_bnb8 : NULL;
}

/* NULL when the matrix is not quantised. */
static reader_fn parts_of(const struct builder *b, const char *stem, struct qvl_coded_parts *p)
{
    const struct qvl_quant_config *q = &b->c->quant;
    *p = (struct qvl_coded_parts){.bits = q->bits, .group = q->group, .block = {q->block[0], q->block[1]},
                                  .block_only = q->method == QVL_QUANT_FP8, .what = stem};
    switch (q->method) {
    case QVL_QUANT_AWQ: case QVL_QUANT_GPTQ:
        p->weight = tensor(b, stem, ".qweight");
        p->zeros = tensor(b, stem, ".qzeros");
        p->scales = tensor(b, stem, ".scales");
        p->zero_add = q->zero_add;
        if (q->method == QVL_QUANT_GPTQ)
            p->groups = tensor(b, stem, ".g_idx");
        return !p->weight ? NULL : q->method == QVL_QUANT_AWQ ? qvl_coded_awq : qvl_coded_gptq;
    case QVL_QUANT_COMPRESSED: return compressed(b, stem, p);
    case QVL_QUANT_BNB: return bitsandbytes(b, stem, p);
    case QVL_QUANT_FP8:
        p->weight = tensor(b, stem, ".weight");
        p->scales = tensor(b, stem, ".weight_scale_inv");
        if (!p->scales)
            p->scales = tensor(b, stem, ".weight_scale");
        return p->weight && is_float8(p->weight->type) ? qvl_coded_bytes8 : NULL;
    case QVL_QUANT_MLX:
        p->weight = tensor(b, stem, ".weight");
        p->scales = tensor(b, stem, ".scales");
        p->biases = tensor(b, stem, ".biases");
        return p->weight && p->weight->type == QVL_DT_U32 ? qvl_coded_mlx : NULL;
    case QVL_QUANT_NONE: default: return NULL;
    }
}

/* ---- the new set ---- */

/* A tensor with a name of its own, and room for a description. */
static int add_item(struct builder *b, const char *stem, const struct qvl_tensor *t, struct qvl_coded_item **out)
{
    struct qvl_tensors *set = b->m->tensors;
    struct qvl_coded_item *it = qvl_alloc(1, sizeof *it);
    if (!it)
        return qvl_fail_nomem(b->err, sizeof *it, "the list of tensors");
    it->next = b->m->items;
    b->m->items = it;
    snprintf(it->name, sizeof it->name, "%s.weight", stem);
    QVL_TRY(qvl_tensors_reserve(set, 1, b->err));
    set->list[set->n] = *t;
    set->list[set->n++].name = it->name;
    *out = it;
    return 0;
}

static int add_coded(struct builder *b, const char *stem, const struct qvl_coded *q, const struct qvl_tensor *weight)
{
    struct qvl_tensor t = {.type = QVL_DT_CODED, .type_name = qvl_dtype_name(QVL_DT_CODED), .rank = 2, .shape = {q->n_out, q->n_in},
                           .data = q->codes.data, .bytes = q->bytes, .file = weight->file, .offset = weight->offset};
    struct qvl_coded_item *it;
    QVL_TRY(add_item(b, stem, &t, &it));
    it->coded = *q;
    b->m->tensors->list[b->m->tensors->n - 1].aux = &it->coded;
    b->n_coded++;
    return 0;
}

/* The decoder's matrices have no biases; quantisers store zeros. */
static int check_bias(struct builder *b, const char *stem)
{
    struct entry *e = strncmp(stem, "visual.", 7) ? find(b, stem, ".bias") : NULL;
    const unsigned char *p = e ? e->t->data : NULL;
    for (size_t i = 0; e && i < e->t->bytes; i++)
        if (p[i])
            return qvl_fail(b->err, QVL_E_UNSUPPORTED, "%s: tensor %s: a bias that is not zero, and this model has none", e->t->file,
                            e->t->name);
    if (e)
        e->used = 1;
    return 0;
}

static int linear(struct builder *b, const char *stem, int64_t n_out, int64_t n_in)
{
    struct qvl_coded_parts p;
    struct qvl_coded q;
    reader_fn read = parts_of(b, stem, &p);
    if (!read)
        return 0;
    p.n_out = n_out;
    p.n_in = n_in;
    const struct qvl_tensor *plain = tensor(b, stem, ".weight");
    if (plain && plain != p.weight)
        return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensors %s and %s: both are weights of one matrix", p.weight->file, p.weight->name,
                        plain->name);
    QVL_TRY(read(&q, &p, b->err));
    QVL_TRY(check_bias(b, stem));
    mark_used(b, stem);
    return add_coded(b, stem, &q, p.weight);
}

/* ---- experts ---- */

/* Tensor number e of a stack. */
static struct qvl_tensor slice(const struct qvl_tensor *t, int64_t e)
{
    struct qvl_tensor s = *t;
    s.bytes = t->bytes / (size_t)t->shape[0];
    s.data = (const char *)t->data + (size_t)e * s.bytes;
    s.offset += (uint64_t)e * s.bytes;
    s.rank = t->rank - 1;
    memmove(s.shape, t->shape + 1, (size_t)s.rank * sizeof *s.shape);
    return s;
}

static int check_stack(const struct builder *b, const struct qvl_tensor *t, int64_t n)
{
    char found[128];
    if (!t || (t->rank == 3 && t->shape[0] == n))
        return 0;
    return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: found %s, expected %lld experts in three dimensions", t->file, t->name,
                    qvl_tensor_describe(t, found, sizeof found), (long long)n);
}

/* MLX: [E][n_out][...] each of weight, scales, biases. Weights that are not quantised are cut up all the same. */
static int stacked(struct builder *b, const struct qvl_slot *s, const char *which, int64_t n_out, int64_t n_in)
{
    char stem[NAME_BYTES];
    struct qvl_coded_parts all;
    struct qvl_coded q;
    struct qvl_tensor w, sc, bi;
    struct qvl_coded_item *it;
    snprintf(stem, sizeof stem, "%sswitch_mlp.%s", s->name, which);
    reader_fn read = parts_of(b, stem, &all);
    if (!all.weight)
        return 0; /* binding says what is missing */
    QVL_TRY(check_stack(b, all.weight, s->n_expert));
    QVL_TRY(check_stack(b, all.scales, s->n_expert));
    QVL_TRY(check_stack(b, all.biases, s->n_expert));
    mark_used(b, stem);
    for (int64_t e = 0; e < s->n_expert; e++) {
        struct qvl_coded_parts p = all;
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%sexperts.%lld.%s", s->name, (long long)e, which);
        w = slice(all.weight, e);
        if (!read) {
            QVL_TRY(add_item(b, name, &w, &it));
            continue;
        }
        p.n_out = n_out;
        p.n_in = n_in;
        p.weight = &w;
        if (all.scales)
            p.scales = (sc = slice(all.scales, e), &sc);
        if (all.biases)
            p.biases = (bi = slice(all.biases, e), &bi);
        QVL_TRY(read(&q, &p, b->err));
        QVL_TRY(add_coded(b, name, &q, &w));
    }
    return 0;
}

/* Rows [row0, row0 + n) of expert e of a fused FP8 tensor. */
static int fused_part(struct builder *b, const struct qvl_slot *s, const struct qvl_coded *q, const struct qvl_tensor *w, int64_t e,
                      const char *which, int64_t row0, int64_t n)
{
    char name[NAME_BYTES];
    struct qvl_coded part = qvl_coded_rows(q, row0, n);
    snprintf(name, sizeof name, "%sexperts.%lld.%s", s->name, (long long)e, which);
    return add_coded(b, name, &part, w);
}

static int fused_read(struct builder *b, struct qvl_coded *q, const struct qvl_tensor *weight, const struct qvl_tensor *scales,
                      const char *what, int64_t n_out, int64_t n_in, int input_first)
{
    const struct qvl_quant_config *c = &b->c->quant;
    struct qvl_coded_parts p = {.weight = weight, .scales = scales, .n_out = n_out, .n_in = n_in, .block = {c->block[0], c->block[1]},
                                .block_only = 1, .input_first = input_first, .what = what};
    return qvl_coded_bytes8(q, &p, b->err);
}

/* FP8 experts in one tensor, inputs first as published or outputs first: both tensors decide together, as for plain ones. */
static int fused(struct builder *b, const struct qvl_slot *s, const struct qvl_tensor *gu, const struct qvl_tensor *dn)
{
    const int64_t f = s->n_out, h = s->n_in, e_all = s->n_expert;
    char gu_stem[NAME_BYTES], dn_stem[NAME_BYTES];
    snprintf(gu_stem, sizeof gu_stem, "%sexperts.gate_up_proj", s->name);
    snprintf(dn_stem, sizeof dn_stem, "%sexperts.down_proj", s->name);
    const struct qvl_tensor *gs = tensor(b, gu_stem, "_scale_inv"), *ds = tensor(b, dn_stem, "_scale_inv");
    if (!dn || !is_float8(dn->type) || !gs || !ds)
        return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: experts in FP8 need gate_up_proj, down_proj and a _scale_inv of each",
                        gu->file, gu->name);
    QVL_TRY(check_stack(b, gu, e_all));
    QVL_TRY(check_stack(b, dn, e_all));
    QVL_TRY(check_stack(b, gs, e_all));
    QVL_TRY(check_stack(b, ds, e_all));
    int input_first = gu->shape[1] == h && gu->shape[2] == 2 * f && dn->shape[1] == f && dn->shape[2] == h;
    for (int64_t e = 0; e < e_all; e++) {
        const struct qvl_tensor w = slice(gu, e), sc = slice(gs, e), w2 = slice(dn, e), sc2 = slice(ds, e);
        struct qvl_coded q;
        QVL_TRY(fused_read(b, &q, &w, &sc, gu_stem, 2 * f, h, input_first));
        QVL_TRY(fused_part(b, s, &q, &w, e, "gate_proj", 0, f));
        QVL_TRY(fused_part(b, s, &q, &w, e, "up_proj", f, f));
        QVL_TRY(fused_read(b, &q, &w2, &sc2, dn_stem, h, f, input_first));
        QVL_TRY(fused_part(b, s, &q, &w2, e, "down_proj", 0, h));
    }
    mark_used(b, gu_stem);
    mark_used(b, dn_stem);
    return 0;
}

static int experts(struct builder *b, const struct qvl_slot *s)
{
    static const char *const which[3] = {"gate_proj", "up_proj", "down_proj"};
    const struct qvl_tensor *gu = tensor(b, s->name, "experts.gate_up_proj"), *t;
    if (gu && is_float8(gu->type))
        return fused(b, s, gu, tensor(b, s->name, "experts.down_proj"));
    int in_stacks = 0;
    for (int i = 0; i < 3; i++) {
        char tail[48];
        snprintf(tail, sizeof tail, "switch_mlp.%s.weight", which[i]);
        t = tensor(b, s->name, tail);
        in_stacks |= t && t->type == QVL_DT_U32;
    }
    for (int i = 0; i < 3; i++) {
        int64_t n_out = i < 2 ? s->n_out : s->n_in, n_in = i < 2 ? s->n_in : s->n_out;
        if (in_stacks)
            QVL_TRY(stacked(b, s, which[i], n_out, n_in));
        for (int64_t e = 0; !in_stacks && e < s->n_expert; e++) {
            char stem[NAME_BYTES];
            struct qvl_coded_parts p;
            snprintf(stem, sizeof stem, "%sexperts.%lld.%s", s->name, (long long)e, which[i]);
            if (!parts_of(b, stem, &p) && !tensor(b, stem, ".weight"))
                break; /* nothing of that name, or it ends here: binding says so */
            QVL_TRY(linear(b, stem, n_out, n_in));
        }
    }
    return 0;
}

/* ---- all of it ---- */

static int slot(void *ud, const struct qvl_slot *s)
{
    char stem[NAME_BYTES];
    size_t n = strlen(s->name), m = strlen(".weight");
    if (s->kind == QVL_SLOT_EXPERTS)
        return experts(ud, s);
    if ((s->kind != QVL_SLOT_MAT && s->kind != QVL_SLOT_HEAD) || n < m)
        return 0;
    snprintf(stem, sizeof stem, "%.*s", (int)(n - m), s->name);
    return linear(ud, stem, s->n_out, s->n_in);
}

/* Files, warnings and what no quantised matrix took. */
static int take_rest(struct builder *b)
{
    const struct qvl_tensors *from = b->m->source;
    struct qvl_tensors *t = b->m->tensors;
    const char *path;
    uint64_t bytes;
    for (size_t i = 0; (path = qvl_tensors_file(from, i, &bytes)) != NULL; i++) {
        struct qvl_tensor_file *f = qvl_tensors_add_file(t, path);
        if (!f)
            return qvl_fail_nomem(b->err, strlen(path), path);
        f->size = (size_t)bytes;
    }
    if (*qvl_tensors_warnings(from))
        qvl_tensors_warn(t, "%s", qvl_tensors_warnings(from));
    if (!b->n_coded)
        qvl_tensors_warn(t, "%s: the configuration says %s, but no matrix is quantised", qvl_tensors_path(from),
                         qvl_quant_method_name(b->c->quant.method));
    QVL_TRY(qvl_tensors_reserve(t, b->n, b->err));
    for (size_t i = 0; i < b->n; i++)
        if (!b->entry[i].used)
            t->list[t->n++] = *b->entry[i].t;
    return qvl_tensors_index(t, b->err);
}

static int build(struct builder *b)
{
    QVL_TRY(index_names(b));
    QVL_TRY(qvl_tensors_new(&b->m->tensors, qvl_tensors_path(b->m->source), b->err));
    QVL_TRY(qvl_weights_each(NULL, b->c, slot, b));
    return take_rest(b);
}

int qvl_quantised_open(struct qvl_quantised *m, struct qvl_tensors *source, const struct qvl_config *c, qvl_err *err)
{
    struct builder b = {.m = m, .c = c, .err = err};
    *m = (struct qvl_quantised){.source = source, .quant = c->quant};
    int rc = build(&b);
    qvl_mem_free(b.entry);
    qvl_mem_free(b.strings);
    if (rc < 0)
        qvl_quantised_close(m);
    return rc;
}

void qvl_quantised_close(struct qvl_quantised *m)
{
    for (struct qvl_coded_item *it = m->items, *next; it; it = next) {
        next = it->next;
        qvl_mem_free(it);
    }
    qvl_tensors_close(&m->tensors);
    qvl_tensors_close(&m->source);
    *m = (struct qvl_quantised){0};
}

int qvl_quantised_check_none(const struct qvl_tensors *t, qvl_err *err)
{
    static const char *const tails[] = {".qweight", ".weight_packed", ".weight_scale_inv", ".weight_scale", ".weight.absmax", ".SCB",
                                        ".scales", ".qzeros"};
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        size_t n = strlen(x->name);
        for (size_t k = 0; k < QVL_COUNT(tails); k++) {
            size_t m = strlen(tails[k]);
            if (n > m && !strcmp(x->name + n - m, tails[k]))
                return qvl_fail(err, QVL_E_UNSUPPORTED,
                                "%s: tensor %s: the checkpoint is quantised, but config.json does not say how (quantization_config)",
                                x->file, x->name);
        }
    }
    return 0;
}
