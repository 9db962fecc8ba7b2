/* packed_items.c - the list of tensors that a packed model consists of. */
#include "model/packed_items.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/convert_q4.h"
#include "model/foreign.h"
#include "model/weights_slots.h"

struct walk {
    struct qvl_pack_list *l;
    const struct qvl_weights *w;
    const struct qvl_config *c;
    const struct qvl_pack_options *o;
    int kept; /* this walk is for what is not packed */
    qvl_err *err;
};

const char *qvl_pack_kind(enum qvl_dtype t)
{
    return t == QVL_DT_Q4 ? "q4" : t == QVL_DT_Q4M ? "q4m" : t == QVL_DT_Q8 ? "q8" : "bf16";
}

size_t qvl_pack_rows_bytes(const struct qvl_pack_item *it, int64_t rows)
{
    if (qvl_pack_is(it->type))
        return qvl_quant_bytes(it->type, rows, it->n_in);
    if (qvl_dtype_is_ggml(it->type))
        return (size_t)rows * ((size_t)it->n_in / qvl_dtype_block_elems(it->type) * qvl_dtype_block_bytes(it->type));
    return (size_t)rows * (size_t)it->n_in * (qvl_dtype_bits(it->type) / 8);
}

void qvl_pack_shape(struct qvl_pack_item *it)
{
    it->bytes = qvl_pack_rows_bytes(it, it->n_out);
    it->rank = qvl_pack_is(it->type) ? 3 : 2;
    it->shape[0] = it->n_out;
    it->shape[1] = (int64_t)(qvl_dtype_is_ggml(it->type) ? qvl_pack_rows_bytes(it, 1) : (size_t)it->n_in);
    if (!qvl_pack_is(it->type))
        return;
    it->shape[0] = (it->n_out + QVL_PANEL_ROWS - 1) / QVL_PANEL_ROWS;
    it->shape[1] = (it->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    it->shape[2] = (int64_t)qvl_quant_panel_bytes(it->type, QVL_UNIT_INPUTS); /* q4m: those of a panel, shared out */
}

/* Takes the item into the list; without memory for a list it is only counted. */
static void take(struct walk *k, const struct qvl_pack_item *it)
{
    struct qvl_pack_list *l = k->l;
    if (l->item)
        l->item[l->n] = *it;
    l->n++;
    l->bytes += it->bytes;
}

static int add_packed(struct walk *k, const char *name, const char *tail, enum qvl_dtype type, int64_t n_out, int64_t n_in,
                      struct qvl_mat *mat)
{
    struct qvl_pack_item it = {.type = type, .n_out = n_out, .n_in = n_in, .bytes = qvl_quant_bytes(type, n_out, n_in), .mat = mat};
    if (!it.bytes || it.bytes > UINT64_MAX / 2 - k->l->bytes)
        return qvl_fail(k->err, QVL_E_LIMIT, "matrix %s%s: packed size overflows", name, tail);
    snprintf(it.name, sizeof it.name, "%s%s", name, tail);
    qvl_pack_shape(&it);
    take(k, &it);
    return 0;
}

static int add_experts(struct walk *k, const struct qvl_slot *s)
{
    char tail[64];
    for (int64_t e = 0; e < s->n_expert; e++) {
        struct qvl_layer_weights *w = s->layer;
        snprintf(tail, sizeof tail, "experts.%d.gate_proj.weight", (int)e);
        QVL_TRY(add_packed(k, s->name, tail, k->o->text, s->n_out, s->n_in, w ? &w->e_gate[e] : NULL));
        snprintf(tail, sizeof tail, "experts.%d.up_proj.weight", (int)e);
        QVL_TRY(add_packed(k, s->name, tail, k->o->text, s->n_out, s->n_in, w ? &w->e_up[e] : NULL));
        snprintf(tail, sizeof tail, "experts.%d.down_proj.weight", (int)e);
        QVL_TRY(add_packed(k, s->name, tail, k->o->text, s->n_in, s->n_out, w ? &w->e_down[e] : NULL));
    }
    return 0;
}

/* Is this one packed? The router decides, with few weights, where a token goes: it keeps its type. */
static int is_packed(const struct qvl_slot *s, const struct qvl_pack_options *o)
{
    static const char layers[] = "language_model.layers.", router[] = ".mlp.gate.weight";
    size_t n = strlen(s->name), m = sizeof router - 1;
    if (s->kind == QVL_SLOT_HEAD)
        return qvl_pack_is(o->head);
    if (strncmp(s->name, layers, sizeof layers - 1) != 0)
        return 0;
    return s->kind == QVL_SLOT_EXPERTS || (s->kind == QVL_SLOT_MAT && !(n > m && strcmp(s->name + n - m, router) == 0));
}

/* An embedding in another program's blocks. As a head, too, it is multiplied by, as bf16. Otherwise its rows are looked up and must
 * stay what they are: GGUF blocks byte by byte, ONNX ones as q4 where that has the very numbers, else as numbers. */
static void keep_table(struct qvl_pack_item *it, const struct walk *k)
{
    int exact, is_head = k->w->text.head.data == it->mat->data && !qvl_pack_is(k->o->head);
    if (is_head)
        return;
    if (qvl_dtype_is_ggml(it->mat->type)) {
        it->type = it->mat->type;
    } else if (qvl_convert_q4_can(it->mat, &exact) && exact) {
        it->type = QVL_DT_Q4;
    } else {
        it->type = QVL_DT_F32;
    }
    qvl_pack_shape(it);
}

static void add_kept(struct walk *k, const struct qvl_slot *s)
{
    const struct qvl_vision_config *v = &k->c->vision;
    struct qvl_pack_item it = {.type = QVL_DT_F32, .n_out = s->n_out, .n_in = s->n_in, .mat = s->mat, .rank = 2,
                               .shape = {s->n_out, s->n_in}};
    if (s->kind == QVL_SLOT_HEAD && s->mat->data == k->w->text.embed.data) /* tied: the embedding is kept already */
        return;
    if (s->kind == QVL_SLOT_VEC) {
        it.vec = *s->vec;
        it.rank = 1;
    } else {
        it.type = qvl_dtype_is_foreign(s->mat->type) ? QVL_DT_BF16 : s->mat->type;
        if (s->mat == &k->w->text.embed && qvl_dtype_is_foreign(s->mat->type))
            keep_table(&it, k);
    }
    if (s->kind == QVL_SLOT_PATCH) {
        const int64_t shape[5] = {s->n_out, v->n_channel, v->temporal_patch, v->patch, v->patch};
        memcpy(it.shape, shape, sizeof shape);
        it.rank = 5;
    }
    it.bytes = qvl_pack_rows_bytes(&it, s->n_out); /* no overflow: about as much is in memory or mapped */
    snprintf(it.name, sizeof it.name, "%s", s->name);
    take(k, &it);
}

static int visit(void *ud, const struct qvl_slot *s)
{
    struct walk *k = ud;
    int packed = is_packed(s, k->o);
    if (packed == k->kept)
        return 0;
    if (!packed) {
        add_kept(k, s);
        return 0;
    }
    if (s->kind == QVL_SLOT_EXPERTS)
        return add_experts(k, s);
    return add_packed(k, s->name, "", s->kind == QVL_SLOT_HEAD ? k->o->head : k->o->text, s->n_out, s->n_in, s->mat);
}

static int walk_all(struct walk *k, struct qvl_weights *w, int whole)
{
    struct qvl_pack_list *l = k->l;
    l->n = 0;
    l->bytes = 0;
    k->kept = 0;
    QVL_TRY(qvl_weights_each(w, k->c, visit, k));
    l->n_packed = l->n;
    l->packed_bytes = l->bytes;
    k->kept = 1;
    return whole ? qvl_weights_each(w, k->c, visit, k) : 0;
}

int qvl_pack_collect(struct qvl_pack_list *l, struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o,
                     int whole, qvl_err *err)
{
    struct walk k = {.l = l, .w = w, .c = c, .o = o, .err = err};
    *l = (struct qvl_pack_list){0};
    if (!qvl_pack_is(o->text) || (!qvl_pack_is(o->head) && o->head != QVL_DT_UNKNOWN))
        return qvl_fail(err, QVL_E_ARG, "packing: the kinds are q4 and q8");
    QVL_TRY(walk_all(&k, w, whole));
    size_t n = l->n;
    l->item = qvl_alloc(n, sizeof *l->item);
    if (!l->item)
        return qvl_fail_nomem(err, n * sizeof *l->item, "the list of matrices");
    return walk_all(&k, w, whole);
}

static void set_kind(struct qvl_pack_list *l, struct qvl_pack_item *it, enum qvl_dtype type)
{
    l->bytes -= it->bytes;
    l->packed_bytes -= it->bytes;
    it->type = type;
    qvl_pack_shape(it);
    l->bytes += it->bytes;
    l->packed_bytes += it->bytes;
}

void qvl_pack_choose(struct qvl_pack_list *l, const struct qvl_pack_options *o)
{
    for (size_t i = 0; i < l->n_packed; i++) {
        struct qvl_pack_item *it = &l->item[i];
        int exact;
        if (it->type != QVL_DT_Q4 || !qvl_dtype_is_foreign(it->mat->type) || qvl_convert_q4_can(it->mat, &exact))
            continue;
        if (qvl_convert_q4m_can(it->mat))
            set_kind(l, it, QVL_DT_Q4M);
        else if (o->keep)
            set_kind(l, it, QVL_DT_Q8);
    }
}

void qvl_pack_as_stored(struct qvl_pack_list *l, const struct qvl_tensors *file)
{
    static const enum qvl_dtype others[] = {QVL_DT_Q4M, QVL_DT_Q8};
    for (size_t i = 0; i < l->n_packed; i++) {
        struct qvl_pack_item *it = &l->item[i];
        char name[QVL_PACK_FILE_NAME];
        qvl_pack_tensor(it, name);
        for (size_t k = 0; k < QVL_COUNT(others) && it->type == QVL_DT_Q4 && !qvl_tensors_find(file, name); k++) {
            struct qvl_pack_item other = *it;
            other.type = others[k];
            qvl_pack_tensor(&other, name);
            if (qvl_tensors_find(file, name))
                set_kind(l, it, others[k]);
        }
    }
}

struct qvl_tensor qvl_pack_tensor(const struct qvl_pack_item *it, char *name)
{
    int packed = qvl_pack_is(it->type), blocks = qvl_dtype_is_ggml(it->type);
    const char *suffix = packed ? qvl_pack_kind(it->type) : blocks ? qvl_dtype_name(it->type) : "";
    snprintf(name, QVL_PACK_FILE_NAME, "%s%s%s", it->name, *suffix ? "." : "", suffix);
    struct qvl_tensor t = {.name = name, .bytes = it->bytes, .type = packed || blocks ? QVL_DT_U8 : it->type, .rank = it->rank};
    t.type_name = qvl_dtype_name(t.type);
    memcpy(t.shape, it->shape, sizeof it->shape);
    return t;
}

int qvl_pack_bytes(const struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o, int whole,
                   uint64_t *bytes, qvl_err *err)
{
    struct qvl_pack_list l;
    struct qvl_weights seen = w ? *w : (struct qvl_weights){0}; /* the walk hands out places to write to; here they are only read */
    int rc = qvl_pack_collect(&l, w ? &seen : NULL, c, o, whole, err);
    if (rc == 0 && w)
        qvl_pack_choose(&l, o);
    *bytes = rc ? 0 : l.bytes;
    qvl_mem_free(l.item);
    return rc;
}
