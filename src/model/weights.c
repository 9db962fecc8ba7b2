/* weights.c - checkpoint tensors → struct qvl_weights: names folded, shapes checked, matrices left where they are mapped,
 * vectors widened to f32. Experts are bound in weights_experts.c. */
#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/half.h"
#include "base/mem.h"
#include "kernels/quant.h"
#include "model/weights_bind.h"

static int by_canonical(const void *a, const void *b)
{
    const struct qvl_bind_name *x = a, *y = b;
    return strcmp(x->canonical, y->canonical);
}

/* All names in canonical form, sorted. Names too long to be any of ours keep their own spelling. */
static int index_names(struct qvl_binder *b, qvl_err *err)
{
    size_t n = qvl_tensors_count(b->source), bytes = 0, used = 0;
    for (size_t i = 0; i < n; i++)
        bytes += strlen(qvl_tensors_at(b->source, i)->name) + sizeof "language_model.";
    b->names = qvl_alloc(n, sizeof *b->names);
    b->strings = qvl_alloc(bytes, 1);
    if (!b->names || !b->strings)
        return qvl_fail_nomem(err, bytes + n * sizeof *b->names, "the names of the tensors");
    for (size_t i = 0; i < n; i++) {
        const struct qvl_tensor *t = qvl_tensors_at(b->source, i);
        char *s = b->strings + used;
        qvl_canonical_name(s, bytes - used, t->name);
        used += strlen(s) + 1;
        b->names[i] = (struct qvl_bind_name){.canonical = s, .tensor = t};
    }
    b->n_names = n;
    qsort(b->names, n, sizeof *b->names, by_canonical);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(b->names[i - 1].canonical, b->names[i].canonical))
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensors %s and %s are the same one by their names",
                            qvl_tensors_path(b->source), b->names[i - 1].tensor->name, b->names[i].tensor->name);
    return 0;
}

const struct qvl_tensor *qvl_bind_find(struct qvl_binder *b, const char *canonical)
{
    struct qvl_bind_name key = {.canonical = canonical};
    struct qvl_bind_name *f = bsearch(&key, b->names, b->n_names, sizeof key, by_canonical);
    if (!f)
        return NULL;
    if (!f->used)
        b->n_used++;
    f->used = 1;
    return f->tensor;
}

/* Missing tensors are counted, so that the message can tell one lost tensor from a wrong kind of file. */
void qvl_bind_missing(struct qvl_binder *b, const char *canonical)
{
    if (!b->n_missing++)
        snprintf(b->first_missing, sizeof b->first_missing, "%s%s", strncmp(canonical, "lm_head.", 8) ? "model." : "", canonical);
}

int qvl_bind_shape_is(const struct qvl_tensor *t, int rank, const int64_t *dims)
{
    return t->rank == rank && !memcmp(t->shape, dims, (size_t)rank * sizeof *dims);
}

int qvl_bind_wrong_shape(struct qvl_binder *b, const struct qvl_tensor *t, int rank, const int64_t *dims)
{
    struct qvl_tensor want = {.rank = rank, .type = t->type, .type_name = t->type_name};
    char found[128], expected[128];
    memcpy(want.shape, dims, (size_t)rank * sizeof *dims);
    return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: found %s, expected %s", t->file, t->name,
                    qvl_tensor_describe(t, found, sizeof found), qvl_tensor_describe(&want, expected, sizeof expected));
}

int qvl_bind_type(struct qvl_binder *b, const struct qvl_tensor *t)
{
    char found[128];
    if (t->type == QVL_DT_F32 || t->type == QVL_DT_F16 || t->type == QVL_DT_BF16)
        return 0;
    return qvl_fail(b->err, QVL_E_UNSUPPORTED, "%s: tensor %s: found %s, expected the type BF16, F16 or F32", t->file, t->name,
                    qvl_tensor_describe(t, found, sizeof found));
}

int qvl_bind_mat_type(struct qvl_binder *b, const struct qvl_tensor *t)
{
    if (qvl_dtype_is_nbits(t->type) || t->type == QVL_DT_CODED || qvl_dtype_is_packed(t->type)) /* checked where they were made */
        return 0;
    unsigned elems = qvl_dtype_block_elems(t->type); /* readers of block formats have checked that rows are whole blocks */
    return elems && t->rank && t->shape[t->rank - 1] % elems == 0 ? 0 : qvl_bind_type(b, t);
}

static int bind_mat(struct qvl_binder *b, const struct qvl_slot *s, const struct qvl_tensor *t)
{
    const int64_t dims[2] = {s->n_out, s->n_in};
    if (!qvl_bind_shape_is(t, 2, dims))
        return qvl_bind_wrong_shape(b, t, 2, dims);
    QVL_TRY(qvl_bind_mat_type(b, t));
    if (b->checking)
        return 0;
    *s->mat = (struct qvl_mat){.data = t->data, .type = t->type, .n_out = s->n_out, .n_in = s->n_in, .aux = t->aux,
                               .transposed = t->transposed != 0, .stride = t->transposed ? t->transposed : s->n_in};
    b->w->mapped_bytes += t->bytes;
    return 0;
}

static void widen(float *dst, const struct qvl_tensor *t, int64_t n)
{
    const unsigned char *p = t->data; /* of any alignment */
    uint16_t h;
    if (t->type == QVL_DT_F32) {
        memcpy(dst, p, (size_t)n * 4);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy(&h, p + 2 * i, 2);
        dst[i] = t->type == QVL_DT_BF16 ? qvl_bf16_to_f32(h) : qvl_f16_to_f32(h);
    }
}

static int bind_vec(struct qvl_binder *b, const struct qvl_slot *s, const struct qvl_tensor *t)
{
    float *dst = b->vectors;
    if (!qvl_bind_shape_is(t, 1, &s->n_out))
        return qvl_bind_wrong_shape(b, t, 1, &s->n_out);
    QVL_TRY(qvl_bind_type(b, t));
    if (b->checking)
        return 0;
    b->vectors += qvl_vector_elems(s->n_out);
    widen(dst, t, s->n_out);
    *s->vec = dst;
    b->w->copied_bytes += (uint64_t)qvl_vector_elems(s->n_out) * 4;
    return 0;
}

/* [C][t][y][x][channel] → [C][channel][t][y][x], the element order of patch rows. */
static int reorder_patch(struct qvl_binder *b, const struct qvl_tensor *t, int64_t n_out, int64_t n_site, int64_t n_channel,
                         const void **out)
{
    struct qvl_weights_owned *o = b->w->owned;
    size_t width = qvl_dtype_bits(t->type) / 8;
    const unsigned char *src = t->data;
    unsigned char *dst = o->patch = qvl_alloc(t->bytes, 1);
    if (!dst)
        return qvl_fail_nomem(b->err, t->bytes, "the patch weight");
    for (int64_t i = 0; i < n_out; i++)
        for (int64_t ch = 0; ch < n_channel; ch++)
            for (int64_t s = 0; s < n_site; s++, dst += width)
                memcpy(dst, src + (size_t)((i * n_site + s) * n_channel + ch) * width, width);
    *out = o->patch;
    b->w->copied_bytes += t->bytes;
    return 0;
}

static int bind_patch(struct qvl_binder *b, const struct qvl_slot *s, const struct qvl_tensor *t)
{
    const struct qvl_vision_config *v = &b->config->vision;
    int64_t first[5] = {s->n_out, v->n_channel, v->temporal_patch, v->patch, v->patch};
    int64_t last[5] = {s->n_out, v->temporal_patch, v->patch, v->patch, v->n_channel};
    const void *data = t->data;
    int in_order = qvl_bind_shape_is(t, 5, first);
    if (!in_order && !qvl_bind_shape_is(t, 5, last))
        return qvl_bind_wrong_shape(b, t, 5, first);
    QVL_TRY(qvl_bind_type(b, t));
    if (b->checking)
        return 0;
    if (in_order)
        b->w->mapped_bytes += t->bytes;
    else
        QVL_TRY(reorder_patch(b, t, s->n_out, s->n_in / v->n_channel, v->n_channel, &data));
    *s->mat = (struct qvl_mat){.data = data, .type = t->type, .n_out = s->n_out, .n_in = s->n_in, .stride = s->n_in};
    return 0;
}

static int bind_slot(void *ud, const struct qvl_slot *s)
{
    struct qvl_binder *b = ud;
    if (s->kind == QVL_SLOT_EXPERTS)
        return qvl_bind_experts(b, s);
    const struct qvl_tensor *t = qvl_bind_find(b, s->name);
    if (!t && s->kind == QVL_SLOT_HEAD && b->config->text.tied) {
        if (!b->checking)
            *s->mat = b->w->text.embed;
        return 0;
    }
    if (!t) {
        qvl_bind_missing(b, s->name);
        return 0;
    }
    int again = s->kind == QVL_SLOT_HEAD && b->config->text.tied && (!b->config->text.tied_unsaid || qvl_dtype_is_packed(t->type));
    if (!b->checking && !again) /* again: the embedding's numbers, stored once more */
        b->w->n_params += (uint64_t)s->n_out * (uint64_t)s->n_in;
    switch (s->kind) {
    case QVL_SLOT_VEC: return bind_vec(b, s, t);
    case QVL_SLOT_PATCH: return bind_patch(b, s, t);
    case QVL_SLOT_MAT: case QVL_SLOT_HEAD: case QVL_SLOT_EXPERTS: default: return bind_mat(b, s, t);
    }
}

/* Elements of all vectors together, so that one allocation holds them. */
static int count_slot(void *ud, const struct qvl_slot *s)
{
    size_t *sum = ud;
    return s->kind == QVL_SLOT_VEC && qvl_add_size(sum, *sum, qvl_vector_elems(s->n_out)) ? QVL_E_LIMIT : 0;
}

/* Buffers that old checkpoints carry and that are recomputed. */
static int harmless(const char *name)
{
    size_t n = strlen(name), m = strlen("rotary_emb.inv_freq");
    return n >= m && !strcmp(name + n - m, "rotary_emb.inv_freq");
}

static int unused(struct qvl_binder *b, qvl_err *err)
{
    struct qvl_weights_owned *o = b->w->owned;
    const struct qvl_tensor *first = NULL;
    struct qvl_buf text;
    size_t n = 0;
    for (size_t i = 0; i < b->n_names; i++) {
        if (b->names[i].used || harmless(b->names[i].canonical))
            continue;
        if (!n++)
            first = b->names[i].tensor;
    }
    if (!n)
        return 0;
    qvl_buf_init(&text, 16384);
    qvl_buf_printf(&text, "%zu tensor%s of the checkpoint %s not used, for example %s", n, n > 1 ? "s" : "",
                   n > 1 ? "are" : "is", first->name);
    o->warnings = qvl_buf_take(&text, NULL);
    if (!o->warnings)
        return qvl_fail_nomem(err, 256, "warnings");
    return 0;
}

static int missing(struct qvl_binder *b)
{
    return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: missing%s (%zu missing in all, %zu of the checkpoint's %zu are known)",
                    qvl_tensors_path(b->source), b->first_missing,
                    strcmp(b->first_missing, "lm_head.weight") ? "" : ", and tie_word_embeddings is false", b->n_missing,
                    b->n_used, b->n_names);
}

/* Twice over the list: first everything is looked for and checked, so that memory in the measure of the configuration is
 * taken only when the files hold as much. */
static int bind_all(struct qvl_binder *b, qvl_err *err)
{
    size_t n_vec = 0;
    QVL_TRY(index_names(b, err));
    b->checking = 1;
    QVL_TRY(qvl_weights_each(NULL, b->config, bind_slot, b));
    if (b->n_missing)
        return missing(b);
    if (qvl_weights_each(NULL, b->config, count_slot, &n_vec))
        return qvl_fail(err, QVL_E_LIMIT, "the vectors of this configuration are too large");
    QVL_TRY(qvl_weights_alloc(b->w, b->config, err));
    struct qvl_weights_owned *o = b->w->owned;
    b->vectors = o->vectors = qvl_alloc(n_vec, sizeof *o->vectors);
    if (!o->vectors)
        return qvl_fail_nomem(err, n_vec * sizeof *o->vectors, "norms and biases");
    b->checking = 0;
    QVL_TRY(qvl_weights_each(b->w, b->config, bind_slot, b));
    return unused(b, err);
}

int qvl_weights_bind(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_tensors *t, qvl_err *err)
{
    struct qvl_binder b = {.w = w, .config = c, .source = t, .err = err};
    *w = (struct qvl_weights){0};
    int rc = bind_all(&b, err);
    qvl_mem_free(b.names);
    qvl_mem_free(b.strings);
    if (rc)
        qvl_weights_free(w);
    return rc;
}

struct estimate {
    size_t width, mapped, copied, params;
    int tied;
};

static int estimate_slot(void *ud, const struct qvl_slot *s)
{
    struct estimate *e = ud;
    size_t elems, bytes;
    if (s->kind == QVL_SLOT_HEAD && e->tied)
        return 0;
    if (qvl_mul_size(&elems, (size_t)s->n_out, (size_t)s->n_in))
        return QVL_E_LIMIT;
    if (s->kind == QVL_SLOT_EXPERTS && qvl_mul_size(&elems, elems, 3 * (size_t)s->n_expert))
        return QVL_E_LIMIT;
    if (qvl_add_size(&e->params, e->params, elems))
        return QVL_E_LIMIT;
    if (s->kind == QVL_SLOT_VEC)
        return qvl_add_size(&e->copied, e->copied, qvl_vector_elems(s->n_out) * 4) ? QVL_E_LIMIT : 0;
    return qvl_mul_size(&bytes, elems, e->width) || qvl_add_size(&e->mapped, e->mapped, bytes) ? QVL_E_LIMIT : 0;
}

int qvl_weights_estimate(const struct qvl_config *c, enum qvl_dtype type, uint64_t *mapped, uint64_t *copied, uint64_t *n_params)
{
    struct estimate e = {.width = qvl_dtype_bits(type) / 8, .tied = c->text.tied};
    int rc = e.width ? qvl_weights_each(NULL, c, estimate_slot, &e) : QVL_E_ARG;
    *mapped = rc ? 0 : e.mapped;
    *copied = rc ? 0 : e.copied;
    *n_params = rc ? 0 : e.params;
    return rc;
}
