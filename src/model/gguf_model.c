/* gguf_model.c - GGUF tensors → one set in canonical names.
 *
 * Most tensors only get another name; fused ones (q, k, v in one matrix; gate and up of all experts) become views of their
 * rows. What the engine wants in one piece and the file has in several is put together in memory of our own: the patch weight
 * (one tensor for each of the two frames) and q, k, v of the vision tower when they are stored apart. Tensors that nothing
 * here knows keep their name, so that binding reports them; those that would change the result are refused. */
#include "model/gguf_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/ggml_blocks.h"
#include "formats/tensor_set.h"
#include "model/gguf_names.h"
#include "model/gguf_parts.h"

enum { NAME_BYTES = 112 };

struct builder {
    struct qvl_gguf_model *m;
    const struct qvl_config *c;
    int counting;     /* first pass: only n grows */
    size_t n;         /* tensors of the set */
    char *strings;    /* where the next name goes */
    qvl_err *err;
};

static int begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static int ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);
    return n >= m && strcmp(s + n - m, with) == 0;
}

/* "17.rest" → 17 and "rest"; -1 when it is no such thing. */
static int number(const char *s, const char **rest)
{
    int n = 0, digits = 0;
    for (; *s >= '0' && *s <= '9' && digits < 6; s++, digits++)
        n = 10 * n + (*s - '0');
    *rest = s + 1;
    return digits && *s == '.' ? n : -1;
}

/* Appends a view; `name` is copied. */
static void emit(struct builder *b, const char *name, const struct qvl_tensor *t)
{
    b->n++;
    if (b->counting)
        return;
    struct qvl_tensors *set = b->m->tensors;
    struct qvl_tensor *d = &set->list[set->n++];
    *d = *t;
    d->name = b->strings;
    b->strings += snprintf(b->strings, NAME_BYTES, "%s", name) + 1;
}

/* Elements that a needed tensor holds must be readable. */
static int readable(struct builder *b, const struct qvl_tensor *t)
{
    const struct qvl_ggml_type *type = qvl_ggml_type_of(t->type);
    if (type && type->to_f32)
        return 0;
    return qvl_fail(b->err, QVL_E_UNSUPPORTED,
                    "%s: tensor %s: type %s is not supported; use a file with the types Q2_K to Q8_0, IQ4_NL, "
                    "IQ4_XS, MXFP4, F16, BF16 or F32",
                    t->file, t->name, t->type_name);
}

/* Rows [first, first + n) of a tensor seen as a matrix of `width` columns, as a matrix of its own. */
static void emit_rows(struct builder *b, const char *name, const struct qvl_tensor *t, int64_t first, int64_t n)
{
    const struct qvl_ggml_type *type = qvl_ggml_type_of(t->type);
    int64_t width = t->shape[t->rank - 1];
    size_t row = (size_t)width / type->elems * type->bytes;
    struct qvl_tensor v = *t;
    v.rank = 2;
    v.shape[0] = n;
    v.shape[1] = width;
    v.data = (const unsigned char *)t->data + (size_t)first * row;
    v.offset += (size_t)first * row;
    v.bytes = (size_t)n * row;
    emit(b, name, &v);
}

static int wrong_shape(struct builder *b, const struct qvl_tensor *t, const char *expected)
{
    char found[128];
    return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: found %s, expected %s", t->file, t->name,
                    qvl_tensor_describe(t, found, sizeof found), expected);
}

/* ---------------------------------------------------------------- text */

/* q, k and v in one matrix, one under the other. */
static int fused_qkv(struct builder *b, const struct qvl_tensor *t, int layer)
{
    const struct qvl_text_config *c = &b->c->text;
    const char *const names[] = {"q_proj", "k_proj", "v_proj"};
    int64_t rows[3] = {(int64_t)c->n_head * c->d_head, (int64_t)c->n_kv * c->d_head, (int64_t)c->n_kv * c->d_head}, at = 0;
    if (t->rank != 2 || t->shape[0] != rows[0] + rows[1] + rows[2])
        return wrong_shape(b, t, "rows of all query, key and value heads");
    for (int i = 0; i < 3; i++, at += rows[i - 1]) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "language_model.layers.%d.self_attn.%s.weight", layer, names[i]);
        emit_rows(b, name, t, at, rows[i]);
    }
    return 0;
}

/* Gate over up for each expert, [E][2F][H], with the down matrices [E][H][F] that go with it: one name a matrix, so that binding
 * need not guess a layout. */
static int fused_experts(struct builder *b, const struct qvl_tensor *gu, int layer)
{
    const struct qvl_text_config *c = &b->c->text;
    int64_t e = c->n_expert, f = c->d_ff_expert, h = c->d_model;
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "blk.%d.ffn_down_exps.weight", layer);
    const struct qvl_tensor *dn = qvl_tensors_find(qvl_gguf_tensors(b->m->text), name);
    if (gu->rank != 3 || gu->shape[0] != e || gu->shape[1] != 2 * f)
        return wrong_shape(b, gu, "[experts, 2 x expert width, width]");
    if (!dn)
        return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: missing", gu->file, name);
    if (dn->rank != 3 || dn->shape[0] != e || dn->shape[1] != h)
        return wrong_shape(b, dn, "[experts, width, expert width]");
    QVL_TRY(readable(b, dn));
    for (int64_t i = 0; i < e; i++) {
        static const char *const which[] = {"gate", "up", "down"};
        for (int k = 0; k < 3; k++) {
            snprintf(name, sizeof name, "language_model.layers.%d.mlp.experts.%lld.%s_proj.weight", layer, (long long)i,
                     which[k]);
            emit_rows(b, name, k < 2 ? gu : dn, k < 2 ? (2 * i + k) * f : i * h, k < 2 ? f : h);
        }
    }
    return 0;
}

static int refuse(struct builder *b, const struct qvl_tensor *t)
{
    return qvl_fail(b->err, QVL_E_UNSUPPORTED, "%s: tensor %s: it would change the result, and this model has no such part",
                    t->file, t->name);
}

static int has_fused_experts(const struct builder *b, int layer)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%d.ffn_gate_up_exps.weight", layer);
    return qvl_tensors_find(qvl_gguf_tensors(b->m->text), name) != NULL;
}

static int text_tensor(struct builder *b, const struct qvl_tensor *t)
{
    char name[NAME_BYTES];
    const char *tail, *to = qvl_gguf_to_canonical(QVL_GGUF_TEXT, t->name, strlen(t->name));
    if (to) {
        QVL_TRY(readable(b, t));
        emit(b, to, t);
        return 0;
    }
    int layer = begins(t->name, "blk.") ? number(t->name + 4, &tail) : -1;
    if (layer >= b->c->text.n_layer)
        return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: block_count says %d layers", t->file, t->name, b->c->text.n_layer);
    if (layer >= 0) {
        if (strcmp(tail, "attn_qkv.weight") == 0 || strcmp(tail, "ffn_gate_up_exps.weight") == 0) {
            QVL_TRY(readable(b, t));
            return *tail == 'a' ? fused_qkv(b, t, layer) : fused_experts(b, t, layer);
        }
        if (strcmp(tail, "ffn_down_exps.weight") == 0 && has_fused_experts(b, layer))
            return 0;
        to = qvl_gguf_to_canonical(QVL_GGUF_LAYER, tail, strlen(tail));
        if (to) {
            QVL_TRY(readable(b, t));
            snprintf(name, sizeof name, "language_model.layers.%d.%s", layer, to);
            emit(b, name, t);
            return 0;
        }
    }
    if (ends(t->name, ".bias") || ends(t->name, "scale") || begins(t->name, "rope_"))
        return refuse(b, t);
    emit(b, t->name, t);
    return 0;
}

/* ---------------------------------------------------------------- vision */

/* Memory that lives as long as the model; NULL while counting. */
static int own(struct builder *b, size_t bytes, void **out)
{
    struct qvl_gguf_model *m = b->m;
    *out = NULL;
    if (b->counting)
        return 0;
    void **list = qvl_realloc(m->owned, m->n_owned * sizeof *list, m->n_owned + 1, sizeof *list);
    if (list)
        m->owned = list;
    void *p = list ? qvl_alloc(bytes, 1) : NULL;
    if (!p)
        return qvl_fail_nomem(b->err, bytes, "tensors of the vision tower");
    *out = m->owned[m->n_owned++] = p;
    return 0;
}

static size_t elems_of(const struct qvl_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->shape[i];
    return n;
}

/* [C][ch][y][x] of frame 0 and of frame 1 → [C][ch][2][y][x] */
static int patch_weight(struct builder *b, const struct qvl_tensor *t0, const struct qvl_tensor *t1)
{
    const struct qvl_vision_config *v = &b->c->vision;
    const int64_t want[4] = {v->d_model, v->n_channel, v->patch, v->patch};
    const struct qvl_tensor *frame[2] = {t0, t1};
    struct qvl_tensor out = *t0;
    void *mem;
    for (int i = 0; i < 2; i++) {
        QVL_TRY(readable(b, frame[i]));
        if (frame[i]->rank != 4 || memcmp(frame[i]->shape, want, sizeof want) != 0)
            return wrong_shape(b, frame[i], "[width, channels, patch, patch]");
    }
    int plain = t0->type == t1->type && qvl_dtype_bits(t0->type);
    size_t width = plain ? qvl_dtype_bits(t0->type) / 8 : 4, n = elems_of(t0);
    size_t site = (size_t)v->patch * (size_t)v->patch, sites = n / site;
    QVL_TRY(own(b, 2 * n * width, &mem));
    out.type = plain ? t0->type : QVL_DT_F32;
    out.type_name = qvl_dtype_name(out.type);
    out.rank = 5;
    memcpy(out.shape, (const int64_t[]){want[0], want[1], 2, want[2], want[3]}, 5 * sizeof *out.shape);
    out.data = mem;
    out.bytes = 2 * n * width;
    for (int i = 0; i < 2 && mem; i++) {
        unsigned char *dst = (unsigned char *)mem + (size_t)i * site * width;
        const struct qvl_ggml_type *type = qvl_ggml_type_of(frame[i]->type);
        if (n / type->elems * type->bytes != frame[i]->bytes || (!plain && site % type->elems))
            return wrong_shape(b, frame[i], "whole blocks");
        for (size_t s = 0; s < sites; s++, dst += 2 * site * width) {
            const unsigned char *src = (const unsigned char *)frame[i]->data + s * site / type->elems * type->bytes;
            if (plain)
                memcpy(dst, src, site * width);
            else
                type->to_f32((float *)(void *)dst, src, (int64_t)site);
        }
    }
    emit(b, "visual.patch_embed.proj.weight", &out);
    return 0;
}

/* The other half of what a converter cuts in two: a 2-D variant would have one tensor only. */
static int llama_patch(struct builder *b, const struct qvl_tensors *set, const struct qvl_tensor *t)
{
    const struct qvl_tensor *second = qvl_tensors_find(set, "v.patch_embd.weight.1");
    if (!second)
        return qvl_fail(b->err, QVL_E_FORMAT,
                        "%s: tensor v.patch_embd.weight.1: missing: the vision half is of another kind of model", t->file);
    return patch_weight(b, t, second);
}

/* [3C][2][y][x], which is [C][ch][2][y][x] in memory. */
static int single_patch(struct builder *b, const struct qvl_tensor *t)
{
    const struct qvl_vision_config *v = &b->c->vision;
    const int64_t want[4] = {(int64_t)v->d_model * v->n_channel, 2, v->patch, v->patch};
    struct qvl_tensor out = *t;
    if (t->rank != 4 || memcmp(t->shape, want, sizeof want) != 0)
        return wrong_shape(b, t, "[width x channels, 2, patch, patch]");
    out.rank = 5;
    memcpy(out.shape, (const int64_t[]){v->d_model, v->n_channel, 2, v->patch, v->patch}, 5 * sizeof *out.shape);
    emit(b, "visual.patch_embed.proj.weight", &out);
    return 0;
}

/* q, k and v (weights [C][C] or biases [C]) one under the other; f32 when their types differ. Called for q. */
static int join_qkv(struct builder *b, const struct qvl_tensors *set, const struct qvl_tensor *q, int block, const char *suffix)
{
    const struct qvl_tensor *part[3] = {q};
    struct qvl_tensor out = *q;
    char name[NAME_BYTES];
    size_t n = elems_of(q), bytes = 0;
    void *mem;
    for (int i = 1; i < 3; i++) {
        snprintf(name, sizeof name, "v.blk.%d.attn_%c.%s", block, "qkv"[i], suffix);
        part[i] = qvl_tensors_find(set, name);
        if (!part[i])
            return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: missing", q->file, name);
        QVL_TRY(readable(b, part[i]));
        if (part[i]->rank != q->rank || memcmp(part[i]->shape, q->shape, (size_t)q->rank * sizeof *q->shape) != 0)
            return wrong_shape(b, part[i], "the shape of attn_q");
    }
    if (!q->rank)
        return wrong_shape(b, q, "a matrix or a vector");
    int equal = q->type == part[1]->type && q->type == part[2]->type;
    if (!equal) {
        out.type = QVL_DT_F32;
        out.type_name = qvl_dtype_name(QVL_DT_F32);
    }
    bytes = equal ? q->bytes : n * 4;
    out.shape[0] *= 3;
    out.bytes = 3 * bytes;
    QVL_TRY(own(b, out.bytes, &mem));
    out.data = mem;
    for (int i = 0; i < 3 && mem; i++) {
        unsigned char *dst = (unsigned char *)mem + (size_t)i * bytes;
        if (equal)
            memcpy(dst, part[i]->data, bytes);
        else
            qvl_ggml_type_of(part[i]->type)->to_f32((float *)(void *)dst, part[i]->data, (int64_t)n);
    }
    snprintf(name, sizeof name, "visual.blocks.%d.attn.qkv.%s", block, suffix);
    emit(b, name, &out);
    return 0;
}

/* Place in the list of mergers of what a file numbers by block or by place; -1 when there is none. */
static int tap_place(const struct qvl_vision_config *v, int number, int by_block)
{
    for (int i = 0; i < v->n_tap; i++)
        if (number == (by_block ? v->tap[i] : i))
            return i;
    return -1;
}

/* Splits "stem.weight" or "stem.bias"; NULL for other names. */
static const char *split_suffix(const char *s, size_t *stem)
{
    const char *dot = strrchr(s, '.');
    if (!dot || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0))
        return NULL;
    *stem = (size_t)(dot - s);
    return dot + 1;
}

/* A tensor of a block, already without "v.blk.N.". Returns 0 and *known = 0 for parts that do not exist in this model. */
static int block_tensor(struct builder *b, const struct qvl_tensors *set, const struct qvl_tensor *t, int block,
                        const char *tail, int *known)
{
    char name[NAME_BYTES];
    size_t stem;
    const char *suffix = split_suffix(tail, &stem),
               *to = suffix ? qvl_gguf_to_canonical(QVL_GGUF_BLOCK, tail, stem) : NULL;
    *known = 1;
    if (to) {
        snprintf(name, sizeof name, "visual.blocks.%d.%s.%s", block, to, suffix);
        emit(b, name, t);
        return 0;
    }
    if (suffix && stem == strlen("attn_q") && begins(tail, "attn_q"))
        return join_qkv(b, set, t, block, suffix);
    if (suffix && stem == strlen("attn_k") && (begins(tail, "attn_k") || begins(tail, "attn_v"))) {
        snprintf(name, sizeof name, "v.blk.%d.attn_q.%s", block, suffix);
        if (qvl_tensors_find(set, name)) /* came with q */
            return 0;
    }
    *known = 0;
    return 0;
}

static int vision_tensor(struct builder *b, const struct qvl_tensors *set, const struct qvl_tensor *t)
{
    const struct qvl_vision_config *v = &b->c->vision;
    char name[NAME_BYTES];
    const char *tail = NULL, *suffix, *to;
    size_t stem;
    int known = 0, n;
    if (strcmp(t->name, "v.patch_embd.weight.1") == 0)
        return 0; /* came with the first */
    QVL_TRY(readable(b, t));
    if (strcmp(t->name, "v.patch_embd.weight") == 0)
        return llama_patch(b, set, t);
    if (strcmp(t->name, "v.patch_embed.weight") == 0)
        return single_patch(b, t);
    suffix = split_suffix(t->name, &stem);
    to = suffix ? qvl_gguf_to_canonical(QVL_GGUF_VISION, t->name, stem) : NULL;
    if (to) {
        snprintf(name, sizeof name, "visual.%s.%s", to, suffix);
        emit(b, name, t);
        return 0;
    }
    if (begins(t->name, "v.blk.") && (n = number(t->name + strlen("v.blk."), &tail)) >= 0) {
        if (n >= v->depth)
            return qvl_fail(b->err, QVL_E_FORMAT, "%s: tensor %s: block_count says %d blocks", t->file, t->name, v->depth);
        QVL_TRY(block_tensor(b, set, t, n, tail, &known));
    }
    int by_block = begins(t->name, "v.deepstack."), by_place = begins(t->name, "v.deepstack_merger.");
    if (by_block || by_place) {
        n = number(t->name + strlen(by_block ? "v.deepstack." : "v.deepstack_merger."), &tail);
        int place = n < 0 ? -1 : tap_place(v, n, by_block);
        suffix = place < 0 ? NULL : split_suffix(tail, &stem);
        to = suffix ? qvl_gguf_to_canonical(QVL_GGUF_TAP, tail, stem) : NULL;
        if (to) {
            snprintf(name, sizeof name, "visual.deepstack_merger_list.%d.%s.%s", place, to, suffix);
            emit(b, name, t);
            known = 1;
        }
    }
    return known ? 0 : refuse(b, t);
}

/* ---------------------------------------------------------------- both halves */

static int is_vision_name(const char *s) { return begins(s, "v.") || begins(s, "mm."); }

static int walk(struct builder *b)
{
    const struct qvl_tensors *text = b->m->text ? qvl_gguf_tensors(b->m->text) : NULL;
    const struct qvl_tensors *vision = b->m->vision ? qvl_gguf_tensors(b->m->vision) : b->m->has_vision ? text : NULL;
    for (size_t i = 0; text && i < qvl_tensors_count(text); i++) {
        const struct qvl_tensor *t = qvl_tensors_at(text, i);
        if (!is_vision_name(t->name))
            QVL_TRY(text_tensor(b, t));
        else if (vision == text)
            QVL_TRY(vision_tensor(b, text, t));
        else if (vision)
            emit(b, t->name, t); /* a vision file was given although there is one inside */
    }
    for (size_t i = 0; vision && vision != text && i < qvl_tensors_count(vision); i++) {
        const struct qvl_tensor *t = qvl_tensors_at(vision, i);
        if (is_vision_name(t->name))
            QVL_TRY(vision_tensor(b, vision, t));
        else if (text)
            emit(b, t->name, t); /* audio encoders and other parts we do not run */
    }
    return 0;
}

static int build(struct qvl_gguf_model *m, qvl_err *err)
{
    struct builder b = {.m = m, .c = &m->config, .counting = 1, .err = err};
    QVL_TRY(walk(&b));
    QVL_TRY(qvl_tensors_new(&m->tensors, qvl_gguf_path(m->text ? m->text : m->vision), err));
    QVL_TRY(qvl_tensors_reserve(m->tensors, b.n, err));
    if (m->text)
        QVL_TRY(qvl_tensors_list_files(m->tensors, qvl_gguf_tensors(m->text), err));
    if (m->vision)
        QVL_TRY(qvl_tensors_list_files(m->tensors, qvl_gguf_tensors(m->vision), err));
    b.strings = m->tensors->files[0].strings = qvl_alloc(b.n, NAME_BYTES);
    if (!b.strings)
        return qvl_fail_nomem(err, b.n * NAME_BYTES, "names of tensors");
    b.counting = 0;
    b.n = 0;
    QVL_TRY(walk(&b));
    return qvl_tensors_index(m->tensors, err);
}

/* Older files do not say it. */
int qvl_gguf_model_check_taps(const struct qvl_gguf_model *m, int n_tap, const char *where, qvl_err *err)
{
    char key[64];
    const char *arch;
    int n;
    QVL_TRY(qvl_gguf_text_arch(m->text, &arch, err));
    snprintf(key, sizeof key, "%s.n_deepstack_layers", arch);
    QVL_TRY(qvl_gguf_i32(m->text, key, 0, 1024, n_tap, &n, err));
    return n == n_tap ? 0
                      : qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %d, but %s has %d", qvl_gguf_path(m->text), key, n, where, n_tap);
}

static int check_vision_file(const struct qvl_gguf *g, qvl_err *err)
{
    struct qvl_gguf_text arch;
    QVL_TRY(qvl_gguf_string(g, "general.architecture", &arch, err));
    if (qvl_gguf_text_is(arch, "clip"))
        return 0;
    return qvl_fail(err, QVL_E_FORMAT,
                    "%s: general.architecture: found %.*s, expected clip: this is not the vision half of a model (mmproj)",
                    qvl_gguf_path(g), (int)(arch.len < 64 ? arch.len : 64), arch.s ? arch.s : "");
}

static int open_vision(struct qvl_gguf_model *m, const char *mmproj, const char *arch, int config_only, qvl_err *err)
{
    char *found = NULL;
    int single = qvl_gguf_single(m->text, arch), rc = 0;
    if (mmproj || !single) {
        if (!mmproj) {
            QVL_TRY(qvl_gguf_find_mmproj(&found, qvl_gguf_path(m->text), m->config.text.d_model, err));
            mmproj = found;
        }
        if (!mmproj && config_only)
            return 0;
        if (!mmproj)
            return qvl_fail(err, QVL_E_NOTFOUND,
                            "%s: this is the text half of a model, and no vision half (mmproj-*.gguf) was found beside "
                            "it: name one with --mmproj",
                            qvl_gguf_path(m->text));
        rc = qvl_gguf_open(&m->vision, mmproj, err);
        qvl_mem_free(found);
        QVL_TRY(rc);
        QVL_TRY(check_vision_file(m->vision, err));
        single = 0;
    }
    QVL_TRY(qvl_gguf_config_vision(&m->config, m->vision ? m->vision : m->text, arch, single, err));
    QVL_TRY(qvl_gguf_model_check_taps(m, m->config.vision.n_tap, qvl_gguf_path(m->vision ? m->vision : m->text), err));
    m->has_vision = 1;
    return 0;
}

/* The text file with its configuration. */
static int open_text(struct qvl_gguf_model *m, const char *path, const char **arch, qvl_err *err)
{
    char *text = NULL;
    QVL_TRY(qvl_gguf_find_text(&text, path, err));
    int rc = qvl_gguf_open(&m->text, text, err);
    qvl_mem_free(text);
    QVL_TRY(rc);
    QVL_TRY(qvl_gguf_text_arch(m->text, arch, err));
    return qvl_gguf_config_text(&m->config, m->text, *arch, err);
}

/* The tower of the 4B model in front of this text: readers of the configuration need not ask whether there is one. Whoever wants to
 * encode pictures gets the true one from where the encoder comes from (qvl_model_vision_config), or an error. */
static int assume_tower(struct qvl_gguf_model *m, qvl_err *err)
{
    struct qvl_config shape;
    QVL_TRY(qvl_config_shape(&shape, "4b", err));
    m->config.vision = shape.vision;
    m->config.vision.d_out = m->config.text.d_model;
    m->config.image = shape.image;
    qvl_config_free(&shape);
    return 0;
}

static int open_both(struct qvl_gguf_model *m, const char *path, const char *mmproj, int config_only, qvl_err *err)
{
    const char *arch = NULL;
    QVL_TRY(open_text(m, path, &arch, err));
    QVL_TRY(open_vision(m, mmproj, arch, config_only, err));
    if (!m->has_vision)
        return assume_tower(m, err);
    return config_only ? 0 : build(m, err);
}

int qvl_gguf_model_open(struct qvl_gguf_model *m, const char *path, const char *mmproj, int config_only, qvl_err *err)
{
    *m = (struct qvl_gguf_model){0};
    int rc = open_both(m, path, mmproj, config_only, err);
    if (rc < 0)
        qvl_gguf_model_close(m);
    return rc;
}

int qvl_gguf_model_open_text(struct qvl_gguf_model *m, const char *path, int config_only, qvl_err *err)
{
    const char *arch = NULL;
    *m = (struct qvl_gguf_model){0};
    int rc = open_text(m, path, &arch, err);
    if (rc == 0)
        rc = assume_tower(m, err);
    if (rc == 0 && !config_only)
        rc = build(m, err);
    if (rc < 0)
        qvl_gguf_model_close(m);
    return rc;
}

static int open_vision_alone(struct qvl_gguf_model *m, const char *path, int d_model, qvl_err *err)
{
    char *file = NULL;
    const char *arch = "clip";
    struct qvl_gguf_text kind;
    QVL_TRY(qvl_gguf_find_vision(&file, path, d_model, err));
    int rc = qvl_gguf_open(&m->vision, file, err);
    qvl_mem_free(file);
    QVL_TRY(rc);
    QVL_TRY(qvl_gguf_string(m->vision, "general.architecture", &kind, err));
    if (!qvl_gguf_text_is(kind, "clip"))
        QVL_TRY(qvl_gguf_text_arch(m->vision, &arch, err));
    int single = strcmp(arch, "clip") != 0 && qvl_gguf_single(m->vision, arch);
    if (!single)
        QVL_TRY(check_vision_file(m->vision, err));
    m->config.text.d_model = d_model;
    QVL_TRY(qvl_gguf_config_vision(&m->config, m->vision, arch, single, err));
    m->has_vision = 1;
    return build(m, err);
}

int qvl_gguf_model_open_vision(struct qvl_gguf_model *m, const char *path, int d_model, qvl_err *err)
{
    *m = (struct qvl_gguf_model){0};
    int rc = open_vision_alone(m, path, d_model, err);
    if (rc < 0)
        qvl_gguf_model_close(m);
    return rc;
}

void qvl_gguf_model_close(struct qvl_gguf_model *m)
{
    qvl_tensors_close(&m->tensors);
    qvl_gguf_close(&m->vision);
    qvl_gguf_close(&m->text);
    qvl_config_free(&m->config);
    for (size_t i = 0; i < m->n_owned; i++)
        qvl_mem_free(m->owned[i]);
    qvl_mem_free(m->owned);
    *m = (struct qvl_gguf_model){0};
}
