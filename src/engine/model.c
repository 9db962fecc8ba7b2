/* model.c - opening a model: configuration, tokenizer, template, weights, arithmetic. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/internal.h"

const char *qvl_version(void) { return "0.1.0"; }

/* Copies the caller's struct over the defaults: fields that an older caller does not know keep their default. */
static int take_params(void *dst, size_t known, const void *src, size_t given, const char *what, qvl_err *err)
{
    if (given < sizeof(size_t) || given > 4096)
        return qvl_fail(err, QVL_E_ARG, "%s.struct_size is %zu: use the ..._default() function first", what, given);
    memcpy(dst, src, given < known ? given : known);
    return 0;
}

void qvl_model_params_default(qvl_model_params *p) { *p = (qvl_model_params){.struct_size = sizeof *p}; }

static int choose_arith(enum qvl_arith *out, qvl_precision precision, uint64_t weight_bytes, qvl_err *err)
{
    switch (precision) {
    case QVL_PRECISION_AUTO: *out = weight_bytes <= QVL_AUTO_F32_BYTES ? QVL_ARITH_F32 : QVL_ARITH_BF16; return 0;
    case QVL_PRECISION_F32: *out = QVL_ARITH_F32; return 0;
    case QVL_PRECISION_BF16: case QVL_PRECISION_Q8: case QVL_PRECISION_Q4: *out = QVL_ARITH_BF16; return 0;
    default: return qvl_fail(err, QVL_E_ARG, "precision %d is unknown", (int)precision);
    }
}

static int is_packed(qvl_precision p) { return p == QVL_PRECISION_Q4 || p == QVL_PRECISION_Q8; }

static int check_shapes(const struct qvl_config *c, const char *dir, qvl_err *err)
{
    int vision_head = c->vision.d_model / c->vision.n_head;
    if (c->text.d_head % 4 || c->text.d_head > 256)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: text head_dim %d, supported are multiples of 4 up to 256", dir,
                        c->text.d_head);
    if (vision_head % 4 || vision_head > 256)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: vision head size %d, supported are multiples of 4 up to 256", dir,
                        vision_head);
    return 0;
}

/* The template writes one pad a picture by its name; the prompt finds it by the number in the configuration. */
static int check_pad(const struct qvl_model *m, qvl_err *err)
{
    int32_t found = qvl_tokenizer_find(m->tokenizer, "<|image_pad|>");
    if (found == m->config.image_token)
        return 0;
    return qvl_fail(err, QVL_E_FORMAT, "%s: tokenizer: <|image_pad|>: found id %d%s, expected the configuration's image_token_id %d",
                    m->dir, (int)found, found < 0 ? " (no such token)" : "", (int)m->config.image_token);
}

/* Rows of the head that have no text (padding of the vocabulary) and media pads can never be an answer. */
static int ban_ids(struct qvl_model *m, qvl_err *err)
{
    const struct qvl_config *c = &m->config;
    m->banned = qvl_calloc((size_t)c->text.n_vocab, 1);
    if (!m->banned)
        return qvl_fail_nomem(err, (size_t)c->text.n_vocab, "vocabulary mask");
    for (int i = 0; i < c->text.n_vocab; i++)
        m->banned[i] = !qvl_tokenizer_has_text(m->tokenizer, i) || i == c->image_token || i == c->video_token;
    for (int i = 0; i < c->gen.n_eos; i++)
        if (c->gen.eos[i] >= 0 && c->gen.eos[i] < c->text.n_vocab)
            m->banned[c->gen.eos[i]] = 0;
    return 0;
}

/* The tensors of a packed folder under the names of the matrices they stand for. */
static int packed_views(struct qvl_model *m, qvl_err *err)
{
    struct qvl_tensors *views;
    QVL_TRY(qvl_pack_views(&views, &m->packing, &m->packed_bytes, m->tensors, &m->config, err));
    if (!views)
        return 0;
    m->held[m->n_held++] = m->tensors;
    m->tensors = views;
    return 0;
}

/* The tensors of the model's folder, or of it and of the halves that come from elsewhere. */
static int open_tensors(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    if ((p->text || p->vision) && qvl_model_is_packed(m->dir))
        return qvl_fail(err, QVL_E_ARG, "%s: is packed as a whole: no half of it can be replaced", m->dir);
    if (p->text || p->vision)
        return qvl_model_halves(m, p, err);
    if (m->tensors) /* those of GGUF files are there already */
        return 0;
    QVL_TRY(qvl_safetensors_open(&m->tensors, m->dir, err));
    QVL_TRY(packed_views(m, err));
    if (m->packing.text)
        return 0;
    return qvl_model_quantised(m, &m->config, &m->tensors, err);
}

static int load_weights(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    if (p->progress && p->progress(p->progress_ud, "load", 0, 1))
        return qvl_fail(err, QVL_E_CANCELLED, "cancelled while the model was opened");
    QVL_TRY(open_tensors(m, p, err));
    QVL_TRY(qvl_weights_bind(&m->weights, &m->config, m->tensors, err));
    if (m->packing.decoded_table) /* logits are the head's alone, as with the source */
        m->config.text.tied = 0;
    if (p->progress && p->progress(p->progress_ud, "load", 1, 1))
        return qvl_fail(err, QVL_E_CANCELLED, "cancelled while the model was opened");
    return 0;
}

/* How the text decoder runs: as asked for, as the folder is packed, or by its size. */
static int choose_precision(struct qvl_model *m, qvl_model_params *p, qvl_err *err)
{
    qvl_precision packed = m->packing.text == QVL_DT_Q4 ? QVL_PRECISION_Q4 : QVL_PRECISION_Q8;
    if (m->packing.text) {
        if (p->precision != QVL_PRECISION_AUTO && p->precision != packed)
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: its text decoder is packed to %s: another precision needs the model it was "
                            "made from", m->dir, qvl_pack_kind(m->packing.text));
        p->precision = packed;
    }
    if (p->precision != QVL_PRECISION_AUTO || m->weights.mapped_bytes <= QVL_AUTO_F32_BYTES)
        return 0;
    if (p->text || m->gguf.text || m->n_quantised)
        p->precision = qvl_model_text_precision(m);
    m->keep_codes = p->precision != QVL_PRECISION_AUTO;
    if (p->precision == QVL_PRECISION_AUTO)
        p->precision = QVL_PRECISION_Q4;
    return 0;
}

/* Mapped weights count: they have to be in memory to be fast. */
static int check_memory(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    uint64_t packed, need = m->weights.mapped_bytes + m->weights.copied_bytes + qvl_model_lora_bytes(m);
    struct qvl_pack_options o = {.text = p->precision == QVL_PRECISION_Q8 ? QVL_DT_Q8 : QVL_DT_Q4};
    o.head = qvl_pack_default_head(o.text);
    if (is_packed(p->precision) && !m->packing.text) { /* the matrices that were packed are not read again */
        QVL_TRY(qvl_pack_bytes(NULL, &m->config, &o, 0, &packed, err));
        need += packed - qvl_pack_replaced_bytes(&m->weights, &m->config, &o);
    }
    return qvl_memory_check(need, "the model", "use --precision q4, a smaller model, or try anyway with --no-memory-check", err);
}

/* Everything but the weights, from the JSON files of a folder. */
static int folder_parts(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    if (!qvl_dir_exists(m->dir))
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: is neither a .gguf file nor a folder with config.json, *.safetensors and "
                        "tokenizer.json", m->dir);
    if (p->mmproj)
        return qvl_fail(err, QVL_E_ARG, "%s: an mmproj goes with a GGUF model only: --vision takes one for a folder", m->dir);
    int rc = qvl_config_load(&m->config, m->dir, err);
    if (rc == QVL_E_NOTFOUND && qvl_onnx_model_is(m->dir))
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: a folder of ONNX Runtime GenAI has the text decoder only: give the Hugging Face "
                        "folder as the model, and this one as its text decoder (--text)", m->dir);
    QVL_TRY(rc);
    QVL_TRY(qvl_tokenizer_open(&m->tokenizer, m->dir, err));
    return qvl_template_open(&m->template, m->dir, err);
}

/* Weights and arithmetic, as chosen. */
static int use_weights(struct qvl_model *m, qvl_model_params *p, qvl_err *err)
{
    QVL_TRY(choose_precision(m, p, err));
    if (!p->no_memory_check)
        QVL_TRY(check_memory(m, p, err));
    if (is_packed(p->precision) && !m->packing.text)
        QVL_TRY(qvl_model_pack(m, p, err));
    return 0;
}

static void describe_precision(struct qvl_model *m)
{
    const char *vision = m->vision_q8 ? "q8 (rows)" : m->arith_vision == QVL_ARITH_F32 ? "f32" : "bf16";
    const char *text = m->arith_text == QVL_ARITH_F32 ? "f32" : "bf16";
    enum qvl_dtype body = m->kind == QVL_PRECISION_Q4 ? QVL_DT_Q4 : QVL_DT_Q8;
    enum qvl_dtype head = m->packing.text ? m->packing.head : qvl_pack_default_head(body);
    if (!is_packed(m->kind))
        snprintf(m->precision, sizeof m->precision, "vision %s · text %s", vision, text);
    else if (head == body)
        snprintf(m->precision, sizeof m->precision, "vision %s · text %s (group 32)", vision, qvl_pack_kind(body));
    else
        snprintf(m->precision, sizeof m->precision, "vision %s · text %s (group 32), head %s", vision, qvl_pack_kind(body),
                 qvl_pack_kind(head));
    size_t n = strlen(m->precision);
    if (m->n_lora)
        snprintf(m->precision + n, sizeof m->precision - n, " · %d adapter%s", m->n_lora, m->n_lora > 1 ? "s" : "");
}

/* A model found by its name keeps it; one found by a path is called by the last component. */
static int name_model(struct qvl_model *m, qvl_err *err)
{
    if (!m->found.name) {
        const char *base = qvl_path_base(m->dir);
        size_t n = strlen(base);
        while (n && base[n - 1] == '/')
            n--;
        m->found.name = qvl_strndup(base, n);
    }
    m->name = m->found.name;
    return m->name ? 0 : qvl_fail_nomem(err, strlen(m->dir), "model name");
}

/* A half from elsewhere may be a name, too: ORG/NAME that is no path. */
static int find_half(struct qvl_hub_found *f, const char **path, qvl_err *err)
{
    struct qvl_hub_name n;
    qvl_err no_name;
    if (!*path || qvl_file_exists(*path) || qvl_dir_exists(*path) || qvl_hub_name_parse(&n, *path, NULL, &no_name) < 0 ||
        !strchr(n.repo, '/'))
        return 0;
    QVL_TRY(qvl_hub_resolve(f, *path, NULL, 0, err));
    *path = f->path;
    return 0;
}

static int open_parts(struct qvl_model *m, const qvl_model_params *given, qvl_err *err)
{
    enum qvl_cpu_level level;
    qvl_model_params chosen = *given, *p = &chosen;
    m->no_memory_check = p->no_memory_check;
    QVL_TRY(qvl_cpu_level_parse(&level, p->cpu, err));
    m->kernels = qvl_kernels_get(level);
    QVL_TRY(qvl_hub_resolve(&m->found, p->path, NULL, !p->no_weights, err));
    m->dir = m->found.path;
    if (!p->mmproj)
        p->mmproj = m->found.mmproj;
    QVL_TRY(name_model(m, err));
    QVL_TRY(find_half(&m->found_text, &p->text, err));
    QVL_TRY(find_half(&m->found_vision, &p->vision, err));
    QVL_TRY(qvl_gguf_model_is(m->dir) ? qvl_model_gguf_parts(m, p, err) : folder_parts(m, p, err));
    QVL_TRY(check_shapes(&m->config, m->dir, err));
    QVL_TRY(ban_ids(m, err));
    if (!p->no_weights) {
        QVL_TRY(check_pad(m, err));
        QVL_TRY(qvl_model_lora(m, p, err));
        QVL_TRY(load_weights(m, p, err));
    }
    if (p->vision_precision == QVL_PRECISION_Q4)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "vision weights are used in f32, bf16 or q8 only");
    if (m->as_stored)
        return 0;
    if (!p->no_weights)
        QVL_TRY(use_weights(m, p, err));
    uint64_t bytes = m->weights.mapped_bytes + m->weights.copied_bytes;
    QVL_TRY(choose_arith(&m->arith_text, p->precision, bytes, err));
    QVL_TRY(choose_arith(&m->arith_vision, p->vision_precision ? p->vision_precision : p->precision, bytes, err));
    if (!p->no_weights)
        QVL_TRY(qvl_model_widen(m, p, err));
    if (p->vision_precision == QVL_PRECISION_Q8 && !p->no_weights)
        QVL_TRY(qvl_model_pack_vision(m, p, err));
    m->kind = p->precision;
    describe_precision(m);
    return 0;
}

int qvl_model_open(qvl_model **out, const qvl_model_params *params, qvl_err *err)
{
    if (!out)
        return qvl_fail(err, QVL_E_ARG, "qvl_model_open: out is NULL");
    return qvl_model_open_as(out, params, 0, err);
}

int qvl_model_open_as(qvl_model **out, const qvl_model_params *params, int as_stored, qvl_err *err)
{
    qvl_model_params p;
    *out = NULL;
    qvl_model_params_default(&p);
    if (!params)
        return qvl_fail(err, QVL_E_ARG, "qvl_model_open: params is NULL");
    QVL_TRY(take_params(&p, sizeof p, params, params->struct_size, "qvl_model_params", err));
    if (!p.path || !*p.path)
        return qvl_fail(err, QVL_E_ARG, "qvl_model_open: no path");
    if (p.vision && p.mmproj)
        return qvl_fail(err, QVL_E_ARG, "qvl_model_open: an mmproj is a vision encoder: two were given");
    struct qvl_model *m = qvl_calloc(1, sizeof *m);
    if (!m)
        return qvl_fail_nomem(err, sizeof *m, "model");
    m->as_stored = as_stored;
    int rc = open_parts(m, &p, err);
    if (rc < 0) {
        qvl_model_close(&m);
        return rc;
    }
    *out = m;
    return 0;
}

void qvl_model_close(qvl_model **model)
{
    if (!model || !*model)
        return;
    struct qvl_model *m = *model;
    qvl_weights_free(&m->weights);
    qvl_model_lora_close(m);
    qvl_tensors_close(&m->packed);
    qvl_pages_close(&m->packed_pages);
    qvl_pages_close(&m->vision_pages);
    qvl_tensors_close(&m->tensors);
    qvl_onnx_model_close(&m->onnx);
    while (m->n_held)
        qvl_tensors_close(&m->held[--m->n_held]);
    while (m->n_quantised)
        qvl_quantised_close(&m->quantised[--m->n_quantised]);
    qvl_gguf_model_close(&m->gguf_vision);
    qvl_gguf_model_close(&m->gguf_text);
    qvl_gguf_model_close(&m->gguf);
    qvl_mem_free(m->warnings);
    qvl_template_close(&m->template);
    qvl_tokenizer_close(&m->tokenizer);
    qvl_config_free(&m->config);
    qvl_mem_free(m->banned);
    qvl_hub_found_free(&m->found);
    qvl_hub_found_free(&m->found_text);
    qvl_hub_found_free(&m->found_vision);
    qvl_mem_free(m);
    *model = NULL;
}

int qvl_model_get_info(const qvl_model *m, qvl_model_info *info, qvl_err *err)
{
    if (!m || !info || info->struct_size < sizeof(size_t))
        return qvl_fail(err, QVL_E_ARG, "qvl_model_get_info: model or info is missing, or struct_size is not set");
    const struct qvl_text_config *t = &m->config.text;
    const struct qvl_vision_config *v = &m->config.vision;
    qvl_model_info full = {
        .struct_size = info->struct_size,
        .name = m->name,
        .cpu = m->kernels->name,
        .precision = m->precision,
        .weight_bytes = m->weights.mapped_bytes + qvl_model_lora_bytes(m),
        .copied_bytes = m->weights.copied_bytes,
        .kv_bytes_per_token = qvl_kv_token_bytes(t, qvl_kv_choose(QVL_KV_AUTO, m->arith_text, m->kind)),
        .n_params = m->weights.n_params,
        .n_layer = (uint32_t)t->n_layer,
        .d_model = (uint32_t)t->d_model,
        .n_head = (uint32_t)t->n_head,
        .n_kv = (uint32_t)t->n_kv,
        .d_head = (uint32_t)t->d_head,
        .d_ff = (uint32_t)t->d_ff,
        .n_vocab = (uint32_t)t->n_vocab,
        .n_expert = (uint32_t)t->n_expert,
        .v_depth = (uint32_t)v->depth,
        .v_model = (uint32_t)v->d_model,
        .v_head = (uint32_t)v->n_head,
        .max_context = (uint32_t)t->max_positions,
        .thinking = qvl_template_thinking(m->template),
        .packed_bytes = m->packed_bytes,
        .pack_error = m->pack_error,
        .warnings = m->warnings ? m->warnings : "",
    };
    memcpy(info, &full, info->struct_size < sizeof full ? info->struct_size : sizeof full);
    return 0;
}

int qvl_tokenize(const qvl_model *m, const char *text, size_t len, int plain, int32_t **ids, size_t *n, qvl_err *err)
{
    if (!m || !ids || !n || (!text && len))
        return qvl_fail(err, QVL_E_ARG, "qvl_tokenize: an argument is NULL");
    struct qvl_ids list = {0};
    struct qvl_stretch all = {.len = len, .trust = plain ? QVL_TRUST_NONE : QVL_TRUST_ALL};
    *ids = NULL;
    *n = 0;
    int rc = qvl_tokenizer_encode(m->tokenizer, text, len, &all, 1, &list, err);
    if (rc < 0) {
        qvl_ids_free(&list);
        return rc;
    }
    *ids = list.id;
    *n = list.n;
    return 0;
}

int qvl_detokenize(const qvl_model *m, const int32_t *ids, size_t n, int skip_special, char **text, size_t *len, qvl_err *err)
{
    if (!m || !text || (!ids && n))
        return qvl_fail(err, QVL_E_ARG, "qvl_detokenize: an argument is NULL");
    struct qvl_buf out;
    struct qvl_utf8_stream stream = {0};
    char piece[64];
    qvl_buf_init(&out, SIZE_MAX / 4);
    *text = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t size;
        const char *bytes = qvl_tokenizer_bytes(m->tokenizer, ids[i], &size);
        if (!bytes && (ids[i] < 0 || ids[i] >= m->config.text.n_vocab)) {
            qvl_buf_free(&out);
            return qvl_fail(err, QVL_E_ARG, "token id %d is not in the vocabulary (0..%d)", (int)ids[i],
                            m->config.text.n_vocab - 1);
        }
        if (!bytes || (skip_special && qvl_tokenizer_is_special(m->tokenizer, ids[i])))
            continue;
        for (size_t at = 0; at < size; at += 8) { /* a piece of 8 bytes grows to 3*8+16 at most */
            size_t part = size - at < 8 ? size - at : 8;
            qvl_buf_add(&out, piece, qvl_utf8_push(&stream, piece, bytes + at, part));
        }
    }
    qvl_buf_add(&out, piece, qvl_utf8_flush(&stream, piece));
    *text = qvl_buf_take(&out, len);
    return *text ? 0 : qvl_fail_nomem(err, n, "text");
}

int qvl_render(const qvl_model *m, const char *json, size_t json_len, char **text, size_t *len, qvl_err *err)
{
    if (!m || !json || !text)
        return qvl_fail(err, QVL_E_ARG, "qvl_render: an argument is NULL");
    struct qvl_chat chat = {0};
    struct qvl_chat_options opt = {.add_generation_prompt = 1};
    struct qvl_prompt prompt = {0};
    *text = NULL;
    int rc = qvl_chat_parse(&chat, &opt, json, json_len, "messages", err);
    if (rc == 0)
        rc = qvl_template_render(m->template, &chat, &opt, 0, &prompt, err);
    if (rc == 0) {
        *text = qvl_buf_take(&prompt.text, len);
        if (!*text)
            rc = qvl_fail_nomem(err, json_len, "prompt");
    }
    qvl_prompt_free(&prompt);
    qvl_chat_free(&chat);
    return rc;
}
