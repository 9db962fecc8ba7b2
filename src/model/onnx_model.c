/* onnx_model.c - an ONNX Runtime GenAI folder -> tensors in canonical names; see onnx_model.h. */
#include "model/onnx_model.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/tensor_set.h"
#include "model/onnx_parts.h"
#include "model/onnx_roles.h"
#include "model/weights.h"

enum { NAME_BYTES = 96 };

static const char embed_name[] = "language_model.embed_tokens.weight", head_name[] = "lm_head.weight";

struct builder {
    struct qvl_onnx_model *m;
    const struct qvl_config *c;
    const struct qvl_onnx *o;    /* the file being walked */
    size_t n, cap;               /* tensors of the export, each with a name and a description */
    char *names;                 /* [cap][NAME_BYTES] */
    qvl_err *err;
};

static const char *const tails[] = {
    [QVL_ONNX_Q] = "self_attn.q_proj", [QVL_ONNX_K] = "self_attn.k_proj", [QVL_ONNX_V] = "self_attn.v_proj",
    [QVL_ONNX_O] = "self_attn.o_proj", [QVL_ONNX_GATE] = "mlp.gate_proj", [QVL_ONNX_UP] = "mlp.up_proj",
    [QVL_ONNX_DOWN] = "mlp.down_proj", [QVL_ONNX_NORM1] = "input_layernorm", [QVL_ONNX_NORM2] = "post_attention_layernorm",
    [QVL_ONNX_Q_NORM] = "self_attn.q_norm", [QVL_ONNX_K_NORM] = "self_attn.k_norm",
};

static void canonical(char name[NAME_BYTES], struct qvl_onnx_place p)
{
    if (p.role == QVL_ONNX_EMBED)
        snprintf(name, NAME_BYTES, "%s", embed_name);
    else if (p.role == QVL_ONNX_HEAD)
        snprintf(name, NAME_BYTES, "%s", head_name);
    else if (p.role == QVL_ONNX_NORM)
        snprintf(name, NAME_BYTES, "language_model.norm.weight");
    else
        snprintf(name, NAME_BYTES, "language_model.layers.%d.%s.weight", p.layer, tails[p.role]);
}

static size_t width(enum qvl_dtype t) { return qvl_dtype_bits(t) / 8; }

/* Rows [row0, row0 + n) of a found matrix, or a whole vector, as a tensor of the set. */
static int emit(struct builder *b, const struct qvl_onnx_found *f, enum qvl_onnx_role role, int64_t row0, int64_t n)
{
    const struct qvl_onnx_place place = {role, f->place.layer};
    char name[NAME_BYTES];
    canonical(name, place);
    if (place.layer >= b->c->text.n_layer && role != QVL_ONNX_NORM)
        return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: is of layer %d, but the configuration has %d layers", f->tensor->file,
                        f->tensor->name, place.layer, b->c->text.n_layer);
    if (b->n == b->cap) /* more than there are names: one of them comes twice */
        return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: a weight of the decoder is found twice", f->tensor->file, f->tensor->name);
    char *kept = b->names + b->n * NAME_BYTES;
    memcpy(kept, name, NAME_BYTES);
    struct qvl_tensor t = *f->tensor;
    t.name = kept;
    if (qvl_onnx_role_is_vector(role)) {
        b->m->tensors->list[b->m->tensors->n++] = t;
        b->n++;
        return 0;
    }
    t.rank = 2;
    t.shape[0] = n;
    if (f->quantised) {
        struct qvl_nbits *q = &b->m->nbits[b->n];
        *q = qvl_nbits_rows(&f->nbits, row0, n);
        t.shape[1] = q->n_in;
        t.type = q->bits == 4 ? QVL_DT_NBITS4 : QVL_DT_NBITS8;
        t.type_name = qvl_dtype_name(t.type);
        t.bytes = qvl_nbits_bytes(q);
        t.aux = q;
    } else {
        int64_t n_out = f->tensor->shape[f->transposed ? 1 : 0], n_in = f->tensor->shape[f->transposed ? 0 : 1];
        t.shape[1] = n_in;
        t.bytes = (size_t)n * (size_t)n_in * width(t.type);
        t.transposed = f->transposed ? n_out : 0;
        t.data = (const char *)f->tensor->data + (size_t)row0 * (f->transposed ? 1 : (size_t)n_in) * width(t.type);
    }
    b->m->tensors->list[b->m->tensors->n++] = t;
    b->n++;
    return 0;
}

/* A matrix that holds several: rows in the order of the list. */
static int emit_fused(struct builder *b, const struct qvl_onnx_found *f, int n_part, const enum qvl_onnx_role *roles, const int64_t *rows)
{
    int64_t have = f->quantised ? f->nbits.n_out : f->tensor->shape[f->transposed ? 1 : 0], need = 0, at = 0;
    for (int i = 0; i < n_part; i++)
        need += rows[i];
    if (have != need)
        return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: found %lld rows, expected %lld", f->tensor->file, f->tensor->name,
                        (long long)have, (long long)need);
    for (int i = 0; i < n_part; at += rows[i++])
        QVL_TRY(emit(b, f, roles[i], at, rows[i]));
    return 0;
}

static int emit_found(struct builder *b, const struct qvl_onnx_found *f)
{
    const struct qvl_text_config *t = &b->c->text;
    if (qvl_onnx_role_is_vector(f->place.role))
        return emit(b, f, f->place.role, 0, 0);
    if (f->place.role == QVL_ONNX_QKV) {
        int64_t kv = (int64_t)t->n_kv * t->d_head;
        return emit_fused(b, f, 3, (const enum qvl_onnx_role[]){QVL_ONNX_Q, QVL_ONNX_K, QVL_ONNX_V},
                          (const int64_t[]){(int64_t)t->n_head * t->d_head, kv, kv});
    }
    if (f->place.role == QVL_ONNX_GATE_UP)
        return emit_fused(b, f, 2, (const enum qvl_onnx_role[]){QVL_ONNX_GATE, QVL_ONNX_UP}, (const int64_t[]){t->d_ff, t->d_ff});
    return emit(b, f, f->place.role, 0, f->quantised ? f->nbits.n_out : f->tensor->shape[f->transposed ? 1 : 0]);
}

/* [d_model][n_vocab] -> [n_vocab][d_model], since single rows are looked up. */
static int order_table(struct builder *b, struct qvl_tensor *t)
{
    enum { SIDE = 32 }; /* squares of it stay in the cache */
    size_t w = width(t->type), rows = (size_t)t->shape[0], cols = (size_t)t->shape[1];
    const unsigned char *src = t->data;
    unsigned char *dst = b->m->table = qvl_alloc(rows * cols, w);
    if (!dst)
        return qvl_fail_nomem(b->err, rows * cols * w, "the embedding");
    for (size_t r0 = 0; r0 < rows; r0 += SIDE)
        for (size_t c0 = 0; c0 < cols; c0 += SIDE)
            for (size_t r = r0; r < r0 + SIDE && r < rows; r++)
                for (size_t c = c0; c < c0 + SIDE && c < cols; c++)
                    memcpy(dst + (r * cols + c) * w, src + (c * rows + r) * w, w);
    t->data = dst;
    t->transposed = 0;
    return 0;
}

/* Q and K norms inside the attention operator. */
static int walk_attention(struct builder *b, const struct qvl_onnx_node *n)
{
    for (size_t i = 0; i < n->n_input; i++) {
        const struct qvl_tensor *t = qvl_onnx_input_tensor(b->o, n, i);
        struct qvl_onnx_found f = {.tensor = t};
        if (t)
            f.place = qvl_onnx_place_of(t->name);
        if (f.place.role == QVL_ONNX_Q_NORM || f.place.role == QVL_ONNX_K_NORM)
            QVL_TRY(emit_found(b, &f));
    }
    return 0;
}

static int walk(struct builder *b, int any_table)
{
    for (size_t i = 0; i < qvl_onnx_count(b->o); i++) {
        const struct qvl_onnx_node *n = qvl_onnx_node(b->o, i);
        struct qvl_onnx_found f;
        if (any_table && strcmp(n->op, "Gather") != 0 && strcmp(n->op, "GatherBlockQuantized") != 0)
            continue;
        QVL_TRY(qvl_onnx_look(&f, b->o, n, b->c->text.n_vocab, b->c->text.d_model, any_table, b->err));
        if (f.place.role)
            QVL_TRY(emit_found(b, &f));
        if (!any_table)
            QVL_TRY(qvl_onnx_check_node(b->o, n, &b->c->text, b->err));
        if (!any_table && !strcmp(n->op, "GroupQueryAttention"))
            QVL_TRY(walk_attention(b, n));
    }
    return 0;
}

static struct qvl_tensor *find(struct builder *b, const char *name)
{
    struct qvl_tensors *t = b->m->tensors;
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->list[i].name, name))
            return &t->list[i];
    return NULL;
}

/* The vision half, and what the export left out. Of those files no more is used, and counted. */
static int take_rest(struct builder *b, const struct qvl_tensors *rest)
{
    struct qvl_tensors *t = b->m->tensors;
    size_t bytes = 0;
    int no_embed = !find(b, embed_name), no_head = !find(b, head_name) && !b->c->text.tied;
    for (size_t i = 0; rest && i < qvl_tensors_count(rest); i++) {
        const struct qvl_tensor *r = qvl_tensors_at(rest, i);
        char name[160];
        qvl_canonical_name(name, sizeof name, r->name);
        int embed = no_embed && !strcmp(name, embed_name), head = no_head && !strcmp(name, head_name);
        if (!embed && !head && strncmp(name, "visual.", 7) != 0)
            continue;
        t->list[t->n] = *r;
        if (embed || head)
            t->list[t->n].name = embed ? embed_name : head_name;
        t->n++;
        bytes += r->bytes;
    }
    struct qvl_tensor_file *f = rest ? qvl_tensors_add_file(t, qvl_tensors_path(rest)) : NULL;
    if (f)
        f->size = bytes;
    return f || !rest ? 0 : qvl_fail_nomem(b->err, sizeof *f, "the list of files");
}

static int collect(struct builder *b, const struct qvl_tensors *rest)
{
    struct qvl_onnx_model *m = b->m;
    struct qvl_tensor *embed, *head;
    qvl_err *err = b->err;
    b->cap = (size_t)b->c->text.n_layer * 11 + 3;
    QVL_TRY(qvl_tensors_new(&m->tensors, m->path, err));
    QVL_TRY(qvl_tensors_list_files(m->tensors, qvl_onnx_tensors(m->graph), err));
    QVL_TRY(qvl_tensors_list_files(m->tensors, m->embedding ? qvl_onnx_tensors(m->embedding) : NULL, err));
    QVL_TRY(qvl_tensors_reserve(m->tensors, b->cap + 1 + (rest ? qvl_tensors_count(rest) : 0), err));
    b->names = m->tensors->files[0].strings = qvl_alloc(b->cap, NAME_BYTES);
    m->nbits = qvl_calloc(b->cap, sizeof *m->nbits);
    if (!b->names || !m->nbits)
        return qvl_fail_nomem(err, b->cap * (NAME_BYTES + sizeof *m->nbits), "the list of tensors");
    b->o = m->graph;
    QVL_TRY(walk(b, 0));
    if (m->embedding && !find(b, embed_name)) {
        b->o = m->embedding;
        QVL_TRY(walk(b, 1));
    }
    QVL_TRY(take_rest(b, rest));
    embed = find(b, embed_name);
    head = find(b, head_name);
    if (!embed && head && b->c->text.tied) { /* nothing else holds a table: one matrix serves as both */
        struct qvl_tensor shared = *head;
        shared.name = embed_name;
        m->tensors->list[m->tensors->n++] = shared;
        embed = find(b, embed_name);
    }
    if (embed && embed->transposed)
        QVL_TRY(order_table(b, embed));
    return qvl_tensors_index(m->tensors, err);
}

int qvl_onnx_model_collect(struct qvl_onnx_model *m, const struct qvl_config *c, const struct qvl_tensors *rest, qvl_err *err)
{
    struct builder b = {.m = m, .c = c, .err = err};
    QVL_TRY(qvl_onnx_check_rotation(m->graph, &c->text, err));
    return collect(&b, rest);
}

static int open_all(struct qvl_onnx_model *m, const char *path, const struct qvl_config *c, const struct qvl_tensors *rest, qvl_err *err)
{
    char *embedding = NULL;
    int rc = qvl_genai_files(path, &c->text, &m->path, &embedding, err);
    if (rc == 0)
        rc = qvl_onnx_open(&m->graph, m->path, err);
    if (rc == 0 && embedding)
        rc = qvl_onnx_open(&m->embedding, embedding, err);
    qvl_mem_free(embedding);
    return rc == 0 ? qvl_onnx_model_collect(m, c, rest, err) : rc;
}

int qvl_onnx_model_open(struct qvl_onnx_model *m, const char *path, const struct qvl_config *c, const struct qvl_tensors *rest,
                        qvl_err *err)
{
    *m = (struct qvl_onnx_model){0};
    if (c->text.n_expert)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: experts in ONNX files are not supported", path);
    int rc = open_all(m, path, c, rest, err);
    if (rc < 0)
        qvl_onnx_model_close(m);
    return rc;
}

void qvl_onnx_model_close(struct qvl_onnx_model *m)
{
    qvl_tensors_close(&m->tensors);
    qvl_onnx_close(&m->embedding);
    qvl_onnx_close(&m->graph);
    qvl_mem_free(m->table);
    qvl_mem_free(m->nbits);
    qvl_mem_free(m->path);
    *m = (struct qvl_onnx_model){0};
}
