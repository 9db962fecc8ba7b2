/* session.c - a conversation: opening, adding and removing messages. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/draft.h"
#include "engine/internal.h"

enum { AUTO_CONTEXT = 32768, AUTO_CHECKED = 4096, DEFAULT_CHUNK = 512 };
#define THREAD_BYTES ((uint64_t)32 << 20) /* weights that a thread should have to itself */

void qvl_session_params_default(qvl_session_params *p) { *p = (qvl_session_params){.struct_size = sizeof *p}; }

/* Fills in what the caller left at 0. */
static int complete_params(qvl_session_params *p, const struct qvl_model *m, const qvl_session_params *given, qvl_err *err)
{
    const struct qvl_text_config *t = &m->config.text;
    qvl_session_params_default(p);
    if (given) {
        if (given->struct_size < sizeof(size_t) || given->struct_size > 4096)
            return qvl_fail(err, QVL_E_ARG, "qvl_session_params.struct_size is %zu: use qvl_session_params_default()",
                            given->struct_size);
        memcpy(p, given, given->struct_size < sizeof *p ? given->struct_size : sizeof *p);
    }
    if (p->n_ctx > (uint32_t)t->max_positions)
        return qvl_fail(err, QVL_E_ARG, "a context of %u tokens, the model's limit is %d", p->n_ctx, t->max_positions);
    if (!p->n_ctx)
        p->n_ctx = t->max_positions < AUTO_CONTEXT ? (uint32_t)t->max_positions : AUTO_CONTEXT;
    if (!p->n_threads) { /* meeting at barriers costs small models more than a second thread brings */
        uint64_t useful = 1 + (m->weights.mapped_bytes + m->weights.copied_bytes) / THREAD_BYTES;
        p->n_threads = qvl_cpu_threads();
        if (p->n_threads > useful)
            p->n_threads = (uint32_t)useful;
    }
    if (!p->n_threads_vision)
        p->n_threads_vision = p->n_threads;
    uint32_t most = p->n_threads > p->n_threads_vision ? p->n_threads : p->n_threads_vision;
    if (most > 1024)
        return qvl_fail(err, QVL_E_ARG, "%u threads, the limit is 1024", most);
    if (!p->n_chunk)
        p->n_chunk = DEFAULT_CHUNK;
    if (p->n_chunk > p->n_ctx)
        p->n_chunk = p->n_ctx;
    if (!p->min_pixels)
        p->min_pixels = m->config.image.min_pixels;
    if (!p->max_pixels)
        p->max_pixels = m->config.image.max_pixels;
    if (p->alpha != QVL_ALPHA_WHITE && p->alpha != QVL_ALPHA_DROP)
        return qvl_fail(err, QVL_E_ARG, "alpha %d is unknown", (int)p->alpha);
    if (p->kv < QVL_KV_AUTO || p->kv > QVL_KV_INT8)
        return qvl_fail(err, QVL_E_ARG, "kv type %d is unknown", (int)p->kv);
    p->kv = qvl_kv_choose(p->kv, m->arith_text, m->kind);
    p->no_memory_check |= m->no_memory_check;
    return 0;
}

/* Beside 4-bit weights the loss of an int8 cache disappears: less than a hundredth of their divergence (docs/perf-log.md). */
enum qvl_kv_type qvl_kv_choose(enum qvl_kv_type asked, enum qvl_arith text, qvl_precision weights)
{
    return asked != QVL_KV_AUTO ? asked : weights == QVL_PRECISION_Q4 ? QVL_KV_INT8 : qvl_kv_type_of(text);
}

const char *qvl_kv_name(enum qvl_kv_type kv)
{
    return kv == QVL_KV_INT8 ? "int8" : kv == QVL_KV_BF16 ? "bf16" : kv == QVL_KV_F32 ? "f32" : "auto";
}

uint64_t qvl_kv_token_bytes(const struct qvl_text_config *c, enum qvl_kv_type kv)
{
    return qvl_kv_bytes(kv, c->d_head, 16) / 16 * 2 * (uint64_t)c->n_layer * (uint64_t)c->n_kv;
}

void qvl_session_kv(const qvl_session *s, const char **type, uint64_t *bytes_per_token)
{
    if (type)
        *type = s ? qvl_kv_name(s->p.kv) : "";
    if (bytes_per_token)
        *bytes_per_token = s ? qvl_kv_token_bytes(&s->model->config.text, s->p.kv) : 0;
}

struct qvl_decoder_params qvl_decoder_params_of(const struct qvl_model *m, const struct qvl_session_params *p,
                                                struct qvl_pool *pool)
{
    return (struct qvl_decoder_params){.config = &m->config.text, .weights = &m->weights.text, .kernels = m->kernels,
                                       .lora = m->lora, .n_lora = m->n_lora, .arith = m->arith_text, .kv = p->kv,
                                       .n_ctx = p->n_ctx, .n_chunk = p->n_chunk, .pool = pool};
}

int qvl_session_bytes(const qvl_model *m, const qvl_session_params *given, uint64_t *bytes, qvl_err *err)
{
    qvl_session_params p;
    size_t kv, work;
    if (!m || !bytes)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_bytes: an argument is NULL");
    QVL_TRY(complete_params(&p, m, given, err));
    struct qvl_decoder_params d = qvl_decoder_params_of(m, &p, NULL);
    if (qvl_decoder_bytes(&d, (int)p.n_threads, &kv, &work) < 0)
        return qvl_fail(err, QVL_E_LIMIT, "a context of %u tokens: size overflows", p.n_ctx);
    *bytes = (uint64_t)kv + work;
    return 0;
}

/* Weights (mapped pages count: they have to be in memory to be fast), work memory, and the KV cache: all of it when the
 * caller chose the context, the part that a usual conversation fills otherwise. */
static int check_memory(const struct qvl_model *m, const qvl_session_params *p, int chosen, qvl_err *err)
{
    struct qvl_decoder_params d = qvl_decoder_params_of(m, p, NULL);
    size_t kv, work;
    char what[96];
    if (qvl_decoder_bytes(&d, (int)p->n_threads, &kv, &work) < 0)
        return qvl_fail(err, QVL_E_LIMIT, "a context of %u tokens: size overflows", p->n_ctx);
    uint32_t counted = chosen || p->n_ctx < AUTO_CHECKED ? p->n_ctx : AUTO_CHECKED;
    uint64_t need = m->weights.mapped_bytes + qvl_model_lora_bytes(m) + work + (uint64_t)kv / p->n_ctx * counted;
    snprintf(what, sizeof what, "the model with a context of %u tokens", counted);
    return qvl_memory_check(need, what,
                            p->kv == QVL_KV_F32    ? "lower --context, or use --precision bf16 (half the KV cache) or --kv int8 (a quarter)"
                            : p->kv == QVL_KV_BF16 ? "lower --context, use --kv int8 (half the KV cache) or a smaller model"
                                                   : "lower --context or use a smaller model",
                            err);
}

static int open_parts(struct qvl_session *s, int chosen_ctx, qvl_err *err)
{
    struct qvl_model *m = s->model;
    if (s->p.image_cache) {
        s->image_cache = qvl_strdup(s->p.image_cache);
        if (!s->image_cache)
            return qvl_fail_nomem(err, strlen(s->p.image_cache), "a path");
        s->p.image_cache = s->image_cache;
    }
    if (!s->p.no_memory_check)
        QVL_TRY(check_memory(m, &s->p, chosen_ctx, err));
    QVL_TRY(qvl_pool_open(&s->pool, s->p.n_threads, err));
    if (s->p.n_threads_vision != s->p.n_threads)
        QVL_TRY(qvl_pool_open(&s->vision_pool, s->p.n_threads_vision, err));
    struct qvl_decoder_params d = qvl_decoder_params_of(m, &s->p, s->pool);
    QVL_TRY(qvl_decoder_open(&s->decoder, &d, err));
    struct qvl_arena count = {0};
    size_t V = (size_t)m->config.text.n_vocab;
    qvl_sampler_take(&s->sampler, &count, m->config.text.n_vocab);
    qvl_arena_take(&count, (QVL_DRAFT_MAX + 1) * V, sizeof(float));
    if (count.overflow)
        return qvl_fail(err, QVL_E_LIMIT, "a vocabulary of %zu: size overflows", V);
    QVL_TRY(qvl_arena_open(&s->arena, count.used, err));
    qvl_sampler_take(&s->sampler, &s->arena, m->config.text.n_vocab);
    s->logits = qvl_arena_take(&s->arena, (QVL_DRAFT_MAX + 1) * V, sizeof(float));
    return 0;
}

int qvl_session_open(qvl_session **out, qvl_model *m, const qvl_session_params *params, qvl_err *err)
{
    if (!out)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_open: out is NULL");
    *out = NULL;
    if (!m)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_open: model is NULL");
    if (!m->weights.text.layers)
        return qvl_fail(err, QVL_E_STATE, "%s: the model was opened without weights", m->name);
    struct qvl_session *s = qvl_calloc(1, sizeof *s);
    if (!s)
        return qvl_fail_nomem(err, sizeof *s, "session");
    s->model = m;
    atomic_init(&s->cancel, 0);
    qvl_buf_init(&s->text, SIZE_MAX / 4);
    qvl_buf_init(&s->reasoning, SIZE_MAX / 4);
    int rc = complete_params(&s->p, m, params, err);
    if (rc == 0)
        rc = open_parts(s, params && params->struct_size >= offsetof(qvl_session_params, n_ctx) + sizeof params->n_ctx &&
                               params->n_ctx, err);
    if (rc < 0) {
        qvl_session_close(&s);
        return rc;
    }
    *out = s;
    return 0;
}

void qvl_session_close(qvl_session **session)
{
    if (!session || !*session)
        return;
    struct qvl_session *s = *session;
    qvl_chat_free(&s->chat);
    qvl_media_free_all(s);
    qvl_mem_free(s->image_cache);
    qvl_sequence_free(&s->kv);
    qvl_sequence_free(&s->want);
    qvl_ids_free(&s->ids);
    qvl_buf_free(&s->text);
    qvl_buf_free(&s->reasoning);
    qvl_decoder_close(&s->decoder);
    qvl_pool_close(&s->pool);
    qvl_arena_close(&s->vision_work);
    qvl_pool_close(&s->vision_pool);
    qvl_arena_close(&s->arena);
    qvl_mem_free(s);
    *session = NULL;
}

/* Opens the pictures of the messages in `add`, then moves them to the conversation. All or nothing. */
int qvl_session_add_chat(struct qvl_session *s, struct qvl_chat *add, const char *base_dir, qvl_err *err)
{
    size_t before = s->chat.n;
    int rc = 0;
    for (size_t i = 0; i < add->n && rc == 0; i++) {
        for (size_t j = 0; j < add->msg[i].n_items && rc == 0; j++) {
            struct qvl_item *it = &add->msg[i].items[j];
            if (it->kind == QVL_ITEM_VIDEO)
                rc = qvl_fail(err, QVL_E_UNSUPPORTED, "message %zu: video is not supported in this version", i);
            else if (it->kind == QVL_ITEM_IMAGE && it->media < 0 && !it->text)
                rc = qvl_fail(err, QVL_E_ARG, "message %zu: a picture without a source", i);
            else if (it->kind == QVL_ITEM_IMAGE && it->media < 0)
                rc = qvl_media_add(s, it->text, base_dir, NULL, 0, &it->media, err);
        }
        if (rc == 0)
            rc = qvl_chat_add(&s->chat, &add->msg[i], err);
    }
    if (rc < 0) {
        qvl_chat_truncate(&s->chat, before);
        qvl_media_sweep(s);
        return rc;
    }
    if (add->tools) {
        json_decref(s->chat.tools);
        s->chat.tools = json_incref(add->tools);
    }
    return 0;
}

int qvl_session_add_json(qvl_session *s, const char *json, size_t len, const char *base_dir, qvl_err *err)
{
    if (!s || !json)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_add_json: an argument is NULL");
    struct qvl_chat add = {0};
    struct qvl_chat_options opt = {.add_generation_prompt = 1, .add_vision_id = s->p.add_vision_id};
    int rc = qvl_chat_parse(&add, &opt, json, len, "messages", err);
    if (rc == 0)
        rc = qvl_session_add_chat(s, &add, base_dir, err);
    if (rc == 0)
        s->p.add_vision_id = opt.add_vision_id;
    qvl_chat_free(&add);
    return rc;
}

/* Fills one item from the caller's part; pictures are opened here, since their bytes are the caller's. */
static int take_part(struct qvl_session *s, struct qvl_item *it, const qvl_part *p, qvl_err *err)
{
    static const char *const name = "(picture data)";
    it->media = -1;
    if (!p->data && (p->len || p->kind != QVL_PART_TEXT))
        return qvl_fail(err, QVL_E_ARG, "qvl_session_add: a part without data");
    switch (p->kind) {
    case QVL_PART_TEXT:
        it->kind = QVL_ITEM_TEXT;
        it->len = p->len;
        it->text = qvl_strndup(p->len ? p->data : "", p->len);
        return it->text ? 0 : qvl_fail_nomem(err, p->len, "message text");
    case QVL_PART_IMAGE_FILE:
        it->kind = QVL_ITEM_IMAGE;
        it->text = qvl_strdup(p->data);
        break;
    case QVL_PART_IMAGE_DATA:
    case QVL_PART_IMAGE_RGB:
        it->kind = QVL_ITEM_IMAGE;
        it->text = qvl_strdup(name);
        break;
    default: return qvl_fail(err, QVL_E_ARG, "qvl_session_add: part kind %d is unknown", (int)p->kind);
    }
    if (!it->text)
        return qvl_fail_nomem(err, 64, "picture name");
    it->len = strlen(it->text);
    if (p->kind == QVL_PART_IMAGE_FILE)
        return qvl_media_add(s, it->text, NULL, NULL, 0, &it->media, err);
    if (p->kind == QVL_PART_IMAGE_DATA)
        return qvl_media_add(s, name, NULL, p->data, p->len, &it->media, err);
    return qvl_media_add_rgb(s, p->data, p->width, p->height, &it->media, err);
}

int qvl_session_add(qvl_session *s, qvl_role role, const qvl_part *parts, size_t n_parts, qvl_err *err)
{
    if (!s || (!parts && n_parts) || role < QVL_ROLE_SYSTEM || role > QVL_ROLE_TOOL)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_add: session, role or parts are wrong");
    struct qvl_message m = {.role = role, .is_list = 1};
    m.items = qvl_calloc(n_parts, sizeof *m.items);
    int rc = m.items ? 0 : qvl_fail_nomem(err, n_parts * sizeof *m.items, "message");
    for (size_t i = 0; i < n_parts && rc == 0; i++) {
        m.n_items = i + 1;
        rc = take_part(s, &m.items[i], &parts[i], err);
    }
    if (rc == 0)
        rc = qvl_chat_add(&s->chat, &m, err);
    if (rc < 0) {
        qvl_message_free(&m);
        qvl_media_sweep(s);
    }
    return rc;
}

int qvl_session_pop(qvl_session *s, size_t n, qvl_err *err)
{
    if (!s || n > s->chat.n)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_pop: %zu messages, the conversation has %zu", n, s ? s->chat.n : 0);
    qvl_chat_truncate(&s->chat, s->chat.n - n);
    qvl_media_sweep(s);
    return 0;
}

size_t qvl_session_count(const qvl_session *s) { return s ? s->chat.n : 0; }

void qvl_session_clear(qvl_session *s)
{
    if (!s)
        return;
    qvl_chat_truncate(&s->chat, 0);
    json_decref(s->chat.tools); /* they came with the messages */
    s->chat.tools = NULL;
    qvl_media_sweep(s);
}

void qvl_session_context(const qvl_session *s, uint32_t *used, uint32_t *total)
{
    if (used)
        *used = s ? (uint32_t)s->kv.n : 0;
    if (total)
        *total = s ? s->p.n_ctx : 0;
}

void qvl_session_cancel(qvl_session *s)
{
    if (s)
        atomic_store_explicit(&s->cancel, 1, memory_order_relaxed);
}

static void put_pair(struct qvl_buf *b, const char *key, const char *value, size_t len)
{
    qvl_buf_printf(b, "\"%s\": ", key);
    qvl_json_quote(b, value, len);
}

static void put_item(struct qvl_buf *b, const struct qvl_item *it)
{
    const char *kind = it->kind == QVL_ITEM_TEXT ? "text" : it->kind == QVL_ITEM_VIDEO ? "video" : "image";
    qvl_buf_printf(b, "{\"type\": \"%s\", ", kind);
    put_pair(b, kind, it->text ? it->text : "", it->len);
    qvl_buf_putc(b, '}');
}

static void put_message(struct qvl_buf *b, const struct qvl_message *m)
{
    static const char *const role[] = {"system", "user", "assistant", "tool"};
    qvl_buf_putc(b, '{');
    put_pair(b, "role", role[m->role], strlen(role[m->role]));
    qvl_buf_puts(b, ", ");
    if (m->n_items == 1 && m->items[0].kind == QVL_ITEM_TEXT) {
        put_pair(b, "content", m->items[0].text ? m->items[0].text : "", m->items[0].len);
    } else {
        qvl_buf_puts(b, "\"content\": [");
        for (size_t i = 0; i < m->n_items; i++) {
            qvl_buf_puts(b, i ? ", " : "");
            put_item(b, &m->items[i]);
        }
        qvl_buf_putc(b, ']');
    }
    if (m->reasoning) {
        qvl_buf_puts(b, ", ");
        put_pair(b, "reasoning_content", m->reasoning, strlen(m->reasoning));
    }
    if (m->tool_calls) {
        qvl_buf_puts(b, ", \"tool_calls\": ");
        qvl_json_dump_python(b, m->tool_calls);
    }
    qvl_buf_putc(b, '}');
}

int qvl_session_messages(const qvl_session *s, char **json, qvl_err *err)
{
    struct qvl_buf b;
    if (!s || !json)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_messages: an argument is NULL");
    qvl_buf_init(&b, SIZE_MAX / 4);
    qvl_buf_putc(&b, '[');
    for (size_t i = 0; i < s->chat.n; i++) {
        qvl_buf_puts(&b, i ? ",\n " : "");
        put_message(&b, &s->chat.msg[i]);
    }
    qvl_buf_putc(&b, ']');
    *json = qvl_buf_take(&b, NULL);
    return *json ? 0 : qvl_fail_nomem(err, b.len, "conversation");
}
