/* inspect.c - a path → a JSON description, without loading weights.
 *
 * A model folder (keys in this order; null = unknown; names that end in "bytes" count bytes):
 *   name, path, format ("safetensors", "gguf"), architecture ("qwen3_vl", "qwen3_vl_moe"), thinking (answers begin with <think>)
 *   parameters       {total, vision, text}
 *   text             {layers, width, heads, kv_heads, head_size, ff_width, vocabulary, max_context, rope_theta, rope_factor,
 *                     tied, experts, experts_used, expert_ff_width}: the last three for mixtures of experts only
 *   vision           {layers, width, heads, ff_width, patch, temporal_patch, merge, position_side, deepstack [block, ...]}
 *   image            {min_pixels, max_pixels, min_tokens, max_tokens, mean, std}
 *   generation       {sample, temperature, top_p, top_k, min_p, repetition_penalty, end_tokens}
 *   tokens           {image, video, vision_start, vision_end}
 *   quantisation     {method, format, kinds [{bits, group, values, matrices, bytes}]}: of quantised safetensors only
 *   precision        "BF16", or "mixed"; types [{type, tensors, bytes}], tensors: their number
 *   packing          {text, head: "q4", "q8" or (head) "bf16", group, packed_bytes}: packed folders only
 *   memory           {weights_mapped_bytes, weights_copied_bytes, kv_token_bf16_bytes, kv_token_f32_bytes, context,
 *                     kv_context_bytes (bf16), needed_bytes, available_bytes, total_bytes, limit, fits}
 *   files            [{name, bytes}]
 *   missing          [name, ...] companion files that a complete folder has
 *   warnings         [text, ...]
 *   problem          null, or why the folder's weights cannot be used although the configuration can
 * A tensor file, or a folder of tensor files without config.json:
 *   name, path, format, file_bytes, metadata {key: text}, parameters, tensor_count, types, warnings,
 *   tensors          [{name, type, shape, bytes, offset}] and, in folders, file
 * A GGUF file also, in front of these: kind, shards (their number), text, generation, memory and vision_file (what lies beside it), or
 *   vision, image and text_width (of the decoder it goes with); problem, missing.
 * An .onnx file, or a folder of ONNX Runtime GenAI: inspect_onnx.c. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "cpu/cpu.h"
#include "engine/inspect_parts.h"
#include "engine/internal.h"
#include "formats/gguf.h"
#include "formats/tensor_source.h"
#include "hub/hub.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/gguf_model.h"
#include "model/gguf_parts.h"
#include "model/onnx_model.h"
#include "model/packed.h"
#include "model/quantised.h"
#include "model/weights.h"
#include "text/chat.h"

#define CONTEXT 4096
#define MAX_FILES 10000
#define MAX_TYPES 32
#define MAX_KINDS 16

/* File names need not be UTF-8; JSON must be. */
json_t *qvl_inspect_text(const char *s)
{
    json_t *v = json_string(s);
    if (v)
        return v;
    char *copy = qvl_strdup(s);
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    v = copy ? json_string(copy) : NULL;
    qvl_mem_free(copy);
    return v;
}

static json_t *text(const char *s) { return qvl_inspect_text(s); }

/* What was read as float (0.7f) is written as it was spelled (0.7). */
static json_t *real(double v)
{
    char s[32];
    snprintf(s, sizeof s, "%.6g", v);
    return json_real(strtod(s, NULL));
}

static json_t *child(struct builder *b, json_t *obj, const char *key)
{
    json_t *c = json_object();
    put(b, obj, key, c);
    return c;
}

static json_t *child_list(struct builder *b, json_t *obj, const char *key)
{
    json_t *c = json_array();
    put(b, obj, key, c);
    return c;
}

static void put_name(struct builder *b, json_t *root, const char *path, const char *format)
{
    char name[256];
    snprintf(name, sizeof name, "%s", qvl_path_base(path));
    for (size_t n = strlen(name); n > 1 && name[n - 1] == '/'; n--)
        name[n - 1] = 0;
    put(b, root, "name", text(name));
    put(b, root, "path", text(path));
    put(b, root, "format", text(format));
}

/* ---------------------------------------------------------------- configuration */

static void put_text(struct builder *b, json_t *root, const struct qvl_text_config *t)
{
    json_t *o = child(b, root, "text");
    put(b, o, "layers", json_integer(t->n_layer));
    put(b, o, "width", json_integer(t->d_model));
    put(b, o, "heads", json_integer(t->n_head));
    put(b, o, "kv_heads", json_integer(t->n_kv));
    put(b, o, "head_size", json_integer(t->d_head));
    put(b, o, "ff_width", json_integer(t->d_ff));
    put(b, o, "vocabulary", json_integer(t->n_vocab));
    put(b, o, "max_context", json_integer(t->max_positions));
    put(b, o, "rope_theta", json_real(t->rope_theta));
    put(b, o, "rope_factor", json_real(t->rope_factor));
    put(b, o, "tied", t->tied_unsaid ? json_null() : json_boolean(t->tied));
    if (!t->n_expert)
        return;
    put(b, o, "experts", json_integer(t->n_expert));
    put(b, o, "experts_used", json_integer(t->n_expert_used));
    put(b, o, "expert_ff_width", json_integer(t->d_ff_expert));
}

static void put_vision(struct builder *b, json_t *root, const struct qvl_vision_config *v)
{
    json_t *o = child(b, root, "vision");
    put(b, o, "layers", json_integer(v->depth));
    put(b, o, "width", json_integer(v->d_model));
    put(b, o, "heads", json_integer(v->n_head));
    put(b, o, "ff_width", json_integer(v->d_ff));
    put(b, o, "patch", json_integer(v->patch));
    put(b, o, "temporal_patch", json_integer(v->temporal_patch));
    put(b, o, "merge", json_integer(v->merge));
    put(b, o, "position_side", json_integer(v->n_pos_side));
    json_t *taps = child_list(b, o, "deepstack");
    for (int i = 0; i < v->n_tap; i++)
        push(b, taps, json_integer(v->tap[i]));
}

static void put_image(struct builder *b, json_t *root, const struct qvl_config *c)
{
    uint64_t side = (uint64_t)c->vision.patch * (uint64_t)c->vision.merge, token = side * side;
    json_t *o = child(b, root, "image");
    put(b, o, "min_pixels", number(c->image.min_pixels));
    put(b, o, "max_pixels", number(c->image.max_pixels));
    put(b, o, "min_tokens", number((c->image.min_pixels + token - 1) / token));
    put(b, o, "max_tokens", number(c->image.max_pixels / token));
    json_t *mean = child_list(b, o, "mean"), *std = child_list(b, o, "std");
    for (int i = 0; i < 3; i++) {
        push(b, mean, real((double)c->image.mean[i]));
        push(b, std, real((double)c->image.std[i]));
    }
}

static void put_generation(struct builder *b, json_t *root, const struct qvl_config *c)
{
    const struct qvl_generation_config *g = &c->gen;
    json_t *o = child(b, root, "generation");
    put(b, o, "sample", json_boolean(g->do_sample));
    put(b, o, "temperature", real((double)g->temperature));
    put(b, o, "top_p", real((double)g->top_p));
    put(b, o, "top_k", json_integer(g->top_k));
    put(b, o, "min_p", real((double)g->min_p));
    put(b, o, "repetition_penalty", real((double)g->repetition_penalty));
    json_t *end = child_list(b, o, "end_tokens");
    for (int i = 0; i < g->n_eos; i++)
        push(b, end, json_integer(g->eos[i]));
    o = child(b, root, "tokens");
    put(b, o, "image", json_integer(c->image_token));
    put(b, o, "video", json_integer(c->video_token));
    put(b, o, "vision_start", json_integer(c->vision_start_token));
    put(b, o, "vision_end", json_integer(c->vision_end_token));
}

/* ---------------------------------------------------------------- tensors */

static uint64_t elements(const struct qvl_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (uint64_t)t->shape[i]; /* the product was checked when the file was opened */
    return n;
}

/* Types in the order of their first tensor, names beyond MAX_TYPES as "others"; "precision" is the only one, or "mixed". */
static void put_types(struct builder *b, json_t *root, const struct qvl_tensors *t, int precision)
{
    json_t *list = json_array();
    for (size_t i = 0; i < qvl_tensors_count(t) && !b->failed; i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        json_t *row = NULL;
        size_t n = json_array_size(list);
        for (size_t k = 0; k < n && !row; k++) {
            json_t *r = json_array_get(list, k);
            const char *name = json_string_value(json_object_get(r, "type"));
            if (k == MAX_TYPES || (name && !strcmp(name, x->type_name)))
                row = r;
        }
        if (!row) {
            push(b, list, row = json_object());
            put(b, row, "type", text(n == MAX_TYPES ? "others" : x->type_name));
            put(b, row, "tensors", json_integer(0));
            put(b, row, "bytes", json_integer(0));
        }
        put(b, row, "tensors", json_integer(json_integer_value(json_object_get(row, "tensors")) + 1));
        put(b, row, "bytes", number((uint64_t)json_integer_value(json_object_get(row, "bytes")) + x->bytes));
    }
    if (precision) {
        const char *only = json_string_value(json_object_get(json_array_get(list, 0), "type"));
        put(b, root, "precision", only ? text(json_array_size(list) == 1 ? only : "mixed") : json_null());
        put(b, root, "tensors", number(qvl_tensors_count(t)));
    }
    put(b, root, "types", list);
}

static void put_quantisation(struct builder *b, json_t *root, const struct qvl_quant_config *q, const struct qvl_tensors *t)
{
    struct qvl_quantised_kind kinds[MAX_KINDS];
    json_t *o = child(b, root, "quantisation");
    put(b, o, "method", text(qvl_quant_method_name(q->method)));
    put(b, o, "format", *q->format ? text(q->format) : json_null());
    json_t *list = child_list(b, o, "kinds");
    for (size_t i = 0, n = t ? qvl_quantised_kinds(kinds, MAX_KINDS, t) : 0; i < n; i++) {
        json_t *row = json_object();
        push(b, list, row);
        put(b, row, "bits", json_integer(kinds[i].bits));
        put(b, row, "group", text(kinds[i].group));
        put(b, row, "values", text(kinds[i].values));
        put(b, row, "matrices", number(kinds[i].matrices));
        put(b, row, "bytes", number(kinds[i].bytes));
    }
}

static void add_lines(struct builder *b, json_t *list, const char *lines)
{
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        push(b, list, json_stringn(lines, n));
        lines += n + (lines[n] != 0);
    }
}

static void put_tensor_list(struct builder *b, json_t *root, const struct qvl_tensors *t)
{
    const char *key, *value;
    uint64_t total = 0;
    int several = qvl_tensors_file(t, 1, NULL) != NULL;
    put(b, root, "file_bytes", number(qvl_tensors_bytes(t)));
    json_t *meta = child(b, root, "metadata");
    for (size_t i = 0; (key = qvl_tensors_meta_at(t, i, &value)) != NULL; i++)
        put(b, meta, key, text(value));
    for (size_t i = 0; i < qvl_tensors_count(t); i++)
        total += elements(qvl_tensors_at(t, i));
    put(b, root, "parameters", number(total));
    put(b, root, "tensor_count", number(qvl_tensors_count(t)));
    put_types(b, root, t, 0);
    add_lines(b, child_list(b, root, "warnings"), qvl_tensors_warnings(t));
    json_t *list = child_list(b, root, "tensors");
    for (size_t i = 0; i < qvl_tensors_count(t) && !b->failed; i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        json_t *row = json_object();
        push(b, list, row);
        put(b, row, "name", text(x->name));
        put(b, row, "type", text(x->type_name));
        json_t *shape = child_list(b, row, "shape");
        for (int k = 0; k < x->rank; k++)
            push(b, shape, json_integer(x->shape[k]));
        put(b, row, "bytes", number(x->bytes));
        put(b, row, "offset", number(x->offset));
        if (several)
            put(b, row, "file", text(qvl_path_base(x->file)));
    }
}

/* ---------------------------------------------------------------- the folder */

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static void put_file(struct builder *b, json_t *list, const char *dir, const char *name)
{
    struct stat st;
    char *path = qvl_path_join(dir, name);
    if (!path) {
        b->failed = 1;
        return;
    }
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
        json_t *row = json_object();
        push(b, list, row);
        put(b, row, "name", text(name));
        put(b, row, "bytes", number((uint64_t)st.st_size));
    }
    qvl_mem_free(path);
}

static void put_files(struct builder *b, json_t *root, const char *dir)
{
    json_t *list = child_list(b, root, "files");
    char **names = qvl_alloc(MAX_FILES, sizeof *names);
    const struct dirent *e;
    size_t n = 0;
    DIR *d = opendir(dir);
    while (names && d && n < MAX_FILES && (e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        names[n] = qvl_strdup(e->d_name);
        if (!names[n]) {
            b->failed = 1;
            break;
        }
        n++;
    }
    if (d)
        closedir(d);
    if (!names) {
        b->failed = 1;
        return;
    }
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        put_file(b, list, dir, names[i]);
        qvl_mem_free(names[i]);
    }
    qvl_mem_free(names);
}

static int in_folder(struct builder *b, const char *dir, const char *name)
{
    char *path = qvl_path_join(dir, name);
    if (!path)
        b->failed = 1;
    int yes = path && qvl_file_exists(path);
    qvl_mem_free(path);
    return yes;
}

/* Each line: alternatives, any of which will do; the first is the one that is reported. */
static void put_missing(struct builder *b, json_t *root, const char *dir)
{
    static const char *const wanted[][3] = {
        {"generation_config.json"},
        {"preprocessor_config.json", "processor_config.json"},
        {"tokenizer.json", "vocab.json"},
        {"tokenizer_config.json"},
        {"chat_template.jinja", "chat_template.json"},
    };
    json_t *list = child_list(b, root, "missing");
    for (size_t i = 0; i < QVL_COUNT(wanted); i++) {
        int found = 0;
        for (size_t k = 0; k < 3 && wanted[i][k] && !found; k++)
            found = in_folder(b, dir, wanted[i][k]);
        if (!found)
            push(b, list, text(wanted[i][0]));
    }
}

static void put_memory(struct builder *b, json_t *root, const struct qvl_config *c, uint64_t mapped, uint64_t copied)
{
    const struct qvl_text_config *t = &c->text;
    int64_t context = t->max_positions < CONTEXT ? t->max_positions : CONTEXT;
    uint64_t heads = 2 * (uint64_t)t->n_layer * (uint64_t)t->n_kv; /* keys and values */
    uint64_t kv = qvl_kv_bytes(QVL_KV_BF16, t->d_head, context) * heads, need = mapped + copied + kv;
    struct qvl_memory m;
    json_t *o = child(b, root, "memory");
    qvl_memory_get(&m);
    put(b, o, "weights_mapped_bytes", number(mapped));
    put(b, o, "weights_copied_bytes", number(copied));
    put(b, o, "kv_token_bf16_bytes", number(qvl_kv_token_bytes(t, QVL_KV_BF16)));
    put(b, o, "kv_token_f32_bytes", number(qvl_kv_token_bytes(t, QVL_KV_F32)));
    put(b, o, "kv_token_int8_bytes", number(qvl_kv_token_bytes(t, QVL_KV_INT8)));
    put(b, o, "context", json_integer(context));
    put(b, o, "kv_context_bytes", number(kv));
    put(b, o, "needed_bytes", number(need));
    put(b, o, "available_bytes", m.available == UINT64_MAX ? json_null() : number(m.available));
    put(b, o, "total_bytes", m.total == UINT64_MAX ? json_null() : number(m.total));
    put(b, o, "limit", text(m.limit));
    put(b, o, "fits", json_boolean(need <= m.available));
}

static int thinking(struct builder *b, json_t *root, const char *dir, json_t *warnings)
{
    struct qvl_template *tpl = NULL;
    qvl_err err = {0};
    int rc = qvl_template_open(&tpl, dir, &err);
    if (rc == QVL_E_NOMEM)
        return qvl_fail(b->err, rc, "%s", err.msg);
    put(b, root, "thinking", rc ? json_null() : json_boolean(qvl_template_thinking(tpl)));
    if (rc)
        push(b, warnings, text(err.msg));
    qvl_template_close(&tpl);
    return 0;
}

/* Numbers of the vision tower: all tensors whose canonical name is in "visual.". */
static void put_parameters(struct builder *b, json_t *root, const struct qvl_tensors *t, uint64_t total)
{
    json_t *o = child(b, root, "parameters");
    uint64_t vision = 0;
    char name[64];
    put(b, o, "total", number(total));
    if (!t)
        return;
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        qvl_canonical_name(name, sizeof name, qvl_tensors_at(t, i)->name);
        if (!strncmp(name, "visual.", 7) && !strstr(qvl_tensors_at(t, i)->name, "inv_freq"))
            vision += elements(qvl_tensors_at(t, i));
    }
    put(b, o, "vision", number(vision));
    put(b, o, "text", number(total > vision ? total - vision : 0));
}

static void put_packing(struct builder *b, json_t *root, const struct qvl_pack_options *o, uint64_t bytes)
{
    if (!o->text)
        return;
    json_t *p = child(b, root, "packing");
    put(b, p, "text", text(qvl_pack_kind(o->text)));
    put(b, p, "head", text(qvl_pack_kind(o->head)));
    put(b, p, "group", json_integer(QVL_GROUP));
    put(b, p, "packed_bytes", number(bytes));
}

/* Weights that are not there are described by what they would take; damaged ones are an error. */
static int describe_model(struct builder *b, json_t *root, const char *dir, const struct qvl_config *c)
{
    struct qvl_tensors *t = NULL, *bound = NULL; /* as in the files, and as matrices of the model */
    struct qvl_tensors *views = NULL;            /* the latter, of a packed folder */
    struct qvl_quantised quantised = {0};
    struct qvl_pack_options packing = {0};
    struct qvl_weights w = {0};
    uint64_t mapped = 0, copied = 0, params = 0, packed = 0;
    qvl_err problem = {0};
    json_t *warnings = json_array();
    int rc = qvl_safetensors_open(&t, dir, &problem);
    if (rc && rc != QVL_E_NOTFOUND) {
        rc = qvl_fail(b->err, rc, "%s", problem.msg);
        goto done;
    }
    bound = t;
    if (t && c->quant.method) {
        rc = qvl_quantised_open(&quantised, t, c, b->err); /* owns t from here on */
        t = quantised.source;
        bound = quantised.tensors;
        QVL_TRY_DONE(rc);
    } else if (t) {
        QVL_TRY_DONE(qvl_pack_views(&views, &packing, &packed, t, c, b->err));
        bound = views ? views : t;
        QVL_TRY_DONE(qvl_quantised_check_none(t, b->err));
    }
    if (t) {
        QVL_TRY_DONE(qvl_weights_bind(&w, c, bound, b->err));
        mapped = w.mapped_bytes;
        copied = w.copied_bytes + qvl_weights_widened_bytes(&w, c, QVL_DT_BF16, QVL_DT_BF16);
        params = w.n_params;
        add_lines(b, warnings, qvl_tensors_warnings(bound));
        add_lines(b, warnings, qvl_weights_warnings(&w));
    } else if (qvl_weights_estimate(c, QVL_DT_BF16, &mapped, &copied, &params)) {
        rc = qvl_fail(b->err, QVL_E_LIMIT, "%s: the sizes of the configuration overflow", dir);
        goto done;
    }
    put_name(b, root, dir, "safetensors");
    put(b, root, "architecture", text(c->moe ? "qwen3_vl_moe" : "qwen3_vl"));
    QVL_TRY_DONE(thinking(b, root, dir, warnings));
    put_parameters(b, root, bound, params);
    put_text(b, root, &c->text);
    put_vision(b, root, &c->vision);
    put_image(b, root, c);
    put_generation(b, root, c);
    if (c->quant.method)
        put_quantisation(b, root, &c->quant, bound);
    if (t)
        put_types(b, root, views ? views : t, 1);
    put_packing(b, root, &packing, packed);
    put_memory(b, root, c, mapped, copied);
    put_files(b, root, dir);
    put_missing(b, root, dir);
    put(b, root, "warnings", json_incref(warnings));
    put(b, root, "problem", t ? json_null() : text(problem.msg));
    rc = 0;
done:
    json_decref(warnings);
    qvl_weights_free(&w);
    qvl_tensors_close(&views);
    if (t != quantised.source)
        qvl_tensors_close(&t);
    qvl_quantised_close(&quantised);
    return rc;
}

static int describe_tensors(struct builder *b, json_t *root, const char *path)
{
    struct qvl_tensors *t = NULL;
    QVL_TRY(qvl_safetensors_open(&t, path, b->err));
    put_name(b, root, path, "safetensors");
    put_tensor_list(b, root, t);
    qvl_tensors_close(&t);
    return 0;
}

/* ---------------------------------------------------------------- GGUF */

/* Shards by their names: those that are not there go into `missing`. Returns the number of shards, 0 when the file says nonsense. */
static int put_shards(struct builder *b, json_t *missing, const struct qvl_gguf *g, const char *path)
{
    int n, no;
    if (qvl_gguf_i32(g, "split.count", 1, 99999, 1, &n, NULL) || qvl_gguf_i32(g, "split.no", 0, n - 1, 0, &no, NULL))
        return 0;
    char own[32];
    snprintf(own, sizeof own, "-%05d-of-%05d.gguf", no + 1, n);
    size_t len = strlen(path), tail = strlen(own);
    if (n == 1 || len < tail || strcmp(path + len - tail, own) != 0)
        return n;
    for (int i = 0; i < n && !b->failed; i++) {
        char *other = qvl_strndup(path, len);
        if (!other) {
            b->failed = 1;
            return n;
        }
        snprintf(other + len - tail, tail + 1, "-%05d-of-%05d.gguf", i + 1, n);
        if (!qvl_file_exists(other))
            push(b, missing, text(qvl_path_base(other)));
        qvl_mem_free(other);
    }
    return n;
}

static uint64_t tensor_bytes(const struct qvl_tensors *t, uint64_t *n_params)
{
    uint64_t bytes = 0;
    *n_params = 0;
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        bytes += qvl_tensors_at(t, i)->bytes;
        *n_params += elements(qvl_tensors_at(t, i));
    }
    return bytes;
}

/* The decoder's configuration and memory (with its matrices as bf16), and whether a vision half lies beside it. */
static int gguf_text_half(struct builder *b, json_t *root, json_t *missing, const char *path, qvl_err *err)
{
    struct qvl_gguf_model m;
    char *mmproj = NULL;
    uint64_t n_params;
    QVL_TRY(qvl_gguf_model_open_text(&m, path, 1, err));
    int single = qvl_gguf_has(m.text, m.config.moe ? "qwen3vlmoe.vision.block_count" : "qwen3vl.vision.block_count"), rc = 0;
    uint64_t bytes = tensor_bytes(qvl_gguf_tensors(m.text), &n_params);
    put(b, root, "kind", text(single ? "text decoder and vision encoder in one file" : "text decoder"));
    put_text(b, root, &m.config.text);
    put_generation(b, root, &m.config);
    put_memory(b, root, &m.config, bytes, bytes < 2 * n_params ? 2 * n_params : 0);
    if (!single)
        rc = qvl_gguf_find_mmproj(&mmproj, path, m.config.text.d_model, err);
    if (rc == 0 && !single)
        put(b, root, "vision_file", mmproj ? text(qvl_path_base(mmproj)) : json_null());
    if (rc == 0 && !single && !mmproj)
        push(b, missing, text("the vision half (mmproj-*.gguf)"));
    qvl_mem_free(mmproj);
    qvl_gguf_model_close(&m);
    return rc;
}

static int gguf_vision_half(struct builder *b, json_t *root, const char *path, const struct qvl_gguf *g, qvl_err *err)
{
    struct qvl_gguf_model m;
    int width;
    QVL_TRY(qvl_gguf_i32(g, "clip.vision.projection_dim", 1, 1 << 20, QVL_GGUF_REQUIRED, &width, err));
    QVL_TRY(qvl_gguf_model_open_vision(&m, path, width, err));
    put(b, root, "kind", text("vision encoder (mmproj)"));
    put_vision(b, root, &m.config.vision);
    put_image(b, root, &m.config);
    put(b, root, "text_width", json_integer(width));
    qvl_gguf_model_close(&m);
    return 0;
}

/* One file with all its keys, whatever it is part of. */
static int describe_gguf_file(struct builder *b, json_t *root, const char *path)
{
    struct qvl_gguf *g = NULL;
    struct qvl_gguf_text arch = {0};
    qvl_err problem = {0};
    json_t *missing = json_array();
    int rc = qvl_gguf_open_alone(&g, path, b->err);
    if (rc == 0) {
        put_name(b, root, path, "gguf");
        int n = put_shards(b, missing, g, path), whole = n && !json_array_size(missing);
        if (n > 1)
            put(b, root, "shards", json_integer(n));
        int half = qvl_gguf_string(g, "general.architecture", &arch, &problem);
        if (half == 0 && qvl_gguf_text_is(arch, "clip"))
            half = gguf_vision_half(b, root, path, g, &problem);
        else if (half == 0 && whole)
            half = gguf_text_half(b, root, missing, path, &problem);
        if (half == QVL_E_NOMEM)
            rc = qvl_fail(b->err, half, "%s", problem.msg);
        put(b, root, "problem", half ? text(problem.msg) : json_null());
        put(b, root, "missing", json_incref(missing));
        put_tensor_list(b, root, qvl_gguf_tensors(g));
    }
    json_decref(missing);
    qvl_gguf_close(&g);
    return rc;
}

static void gguf_thinking(struct builder *b, json_t *root, const struct qvl_gguf *g, json_t *warnings)
{
    struct qvl_template *tpl = NULL;
    struct qvl_gguf_text t;
    qvl_err err = {0};
    int rc = qvl_gguf_string(g, "tokenizer.chat_template", &t, &err);
    if (rc == 0 && t.s)
        rc = qvl_template_parse(&tpl, t.s, t.len, qvl_gguf_path(g), &err);
    put(b, root, "thinking", tpl ? json_boolean(qvl_template_thinking(tpl)) : json_null());
    if (rc)
        push(b, warnings, text(err.msg));
    qvl_template_close(&tpl);
}

/* A folder whose .gguf files make a model: the same description as of other models. */
static int describe_gguf_model(struct builder *b, json_t *root, const char *dir)
{
    struct qvl_gguf_model m;
    struct qvl_weights w = {0};
    json_t *warnings = json_array();
    int rc = qvl_gguf_model_open(&m, dir, NULL, 0, b->err);
    if (rc == 0)
        rc = qvl_weights_bind(&w, &m.config, m.tensors, b->err);
    if (rc == 0) {
        uint64_t widened = qvl_weights_widened_bytes(&w, &m.config, QVL_DT_BF16, QVL_DT_BF16);
        add_lines(b, warnings, qvl_tensors_warnings(m.tensors));
        add_lines(b, warnings, qvl_weights_warnings(&w));
        put_name(b, root, dir, "gguf");
        put(b, root, "architecture", text(m.config.moe ? "qwen3_vl_moe" : "qwen3_vl"));
        gguf_thinking(b, root, m.text, warnings);
        put_parameters(b, root, m.tensors, w.n_params);
        put_text(b, root, &m.config.text);
        put_vision(b, root, &m.config.vision);
        put_image(b, root, &m.config);
        put_generation(b, root, &m.config);
        put_types(b, root, m.tensors, 1);
        put_memory(b, root, &m.config, w.mapped_bytes, w.copied_bytes + widened);
        put_files(b, root, dir);
        put(b, root, "warnings", json_incref(warnings));
        put(b, root, "problem", json_null());
    }
    json_decref(warnings);
    qvl_weights_free(&w);
    qvl_gguf_model_close(&m);
    return rc;
}

/* A folder without config.json can still hold tensors worth listing. */
static int describe_folder(struct builder *b, json_t *root, const char *dir)
{
    struct qvl_config c = {0};
    int rc;
    if (qvl_gguf_model_is(dir))
        return describe_gguf_model(b, root, dir);
    if (!in_folder(b, dir, "config.json") && qvl_onnx_model_is(dir))
        return qvl_inspect_onnx(root, dir, b->err);
    if (!in_folder(b, dir, "config.json") && !b->failed) {
        rc = describe_tensors(b, root, dir);
        if (rc != QVL_E_NOTFOUND)
            return rc;
    }
    QVL_TRY(qvl_config_load(&c, dir, b->err));
    rc = describe_model(b, root, dir, &c);
    qvl_config_free(&c);
    return rc;
}

int qvl_inspect(const char *path, char **json, qvl_err *err)
{
    struct builder b = {.err = err};
    struct qvl_hub_found found;
    char *dump = NULL;
    int rc;
    if (!path || !*path || !json)
        return qvl_fail(err, QVL_E_ARG, "qvl_inspect: an argument is NULL or empty");
    *json = NULL;
    json_t *root = json_object();
    if (!root)
        return qvl_fail_nomem(err, 0, "a description");
    rc = qvl_hub_resolve(&found, path, NULL, 0, err);
    if (rc == 0)
        rc = qvl_dir_exists(found.path)         ? describe_folder(&b, root, found.path)
             : qvl_gguf_is(found.path)          ? describe_gguf_file(&b, root, found.path)
             : qvl_onnx_model_is(found.path)    ? qvl_inspect_onnx(root, found.path, err)
                                                : describe_tensors(&b, root, found.path);
    if (rc == 0 && found.name)
        put(&b, root, "name", text(found.name));
    qvl_hub_found_free(&found);
    if (!rc && !b.failed)
        dump = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (rc)
        return rc;
    *json = dump ? qvl_strdup(dump) : NULL;
    free(dump);
    return *json ? 0 : qvl_fail_nomem(err, 4096, "a description");
}
