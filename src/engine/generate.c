/* generate.c - one answer: prompt, pictures, prefill, and the loop from token to token.
 *
 * The prompt of the whole conversation is built each time and compared with what the KV cache holds; only the tokens
 * behind the common beginning are computed. That one mechanism serves second turns, /retry, removed messages and changed
 * pictures alike. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/draft.h"
#include "engine/internal.h"

/* Leaves a loop on failure. */
#define QVL_TRY_BREAK(rc, call) \
    if (((rc) = (call)) < 0)    \
    break

enum { PIECE = 1024 }; /* bytes of one token's text that are handled without allocation; longer tokens go in parts */
#define TRACE_LOGITS_BYTES ((size_t)256 << 20) /* logits of all positions are recorded up to this size */

struct answer { /* text on its way out */
    struct qvl_session *s;
    const qvl_gen_params *p;
    struct qvl_utf8_stream utf8;
    struct qvl_stopper stopper;
    int has_stop, stopped;   /* stopped: a stop string was found */
    int cancelled;           /* on_text asked to stop */
    int thought_open;        /* a thinking model ended in front of </think> */
};

void qvl_gen_params_default(qvl_gen_params *p, const qvl_model *m)
{
    *p = (qvl_gen_params){.struct_size = sizeof *p, .greedy = 1, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    if (!m)
        return;
    const struct qvl_generation_config *g = &m->config.gen;
    p->greedy = !g->do_sample;
    p->temperature = g->temperature;
    p->top_k = (uint32_t)g->top_k;
    p->top_p = g->top_p;
    p->min_p = g->min_p;
    p->repetition_penalty = g->repetition_penalty;
}

/* ---- prompt ---- */

/* Token ids with single pads -> sequence with the pads of every picture and three positions for each token. */
static int expand(struct qvl_session *s, const struct qvl_ids *ids, const struct qvl_prompt *prompt, qvl_err *err)
{
    const struct qvl_config *c = &s->model->config;
    size_t media = 0;
    int64_t total = (int64_t)ids->n;
    for (size_t i = 0; i < prompt->n_media; i++) {
        const struct qvl_media *m = s->media[prompt->media[i]->media];
        total += (int64_t)m->rows * m->cols - 1;
    }
    if (total >= s->p.n_ctx)
        return qvl_fail(err, QVL_E_LIMIT,
                        "the prompt has %lld tokens, the context holds %u; raise --context, lower --max-pixels or start anew",
                        (long long)total, s->p.n_ctx);
    QVL_TRY(qvl_sequence_reserve(&s->want, s->p.n_ctx, err));
    qvl_sequence_clear(&s->want);
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->id[i] != c->image_token) {
            qvl_sequence_add_text(&s->want, ids->id[i]);
            continue;
        }
        if (QVL_NEVER(media >= prompt->n_media))
            return qvl_fail(err, QVL_E_STATE, "more picture places than pictures in the prompt");
        int index = prompt->media[media++]->media;
        const struct qvl_media *m = s->media[index];
        QVL_TRY(qvl_sequence_add_media(&s->want, c->image_token, m->rows, m->cols, index, m->key, err));
    }
    if (QVL_NEVER(media != prompt->n_media))
        return qvl_fail(err, QVL_E_STATE, "fewer picture places than pictures in the prompt");
    return s->want.n ? 0 : qvl_fail(err, QVL_E_ARG, "the prompt is empty");
}

static int build_prompt(struct qvl_session *s, const qvl_gen_params *p, qvl_err *err)
{
    struct qvl_chat_options opt = {.add_generation_prompt = !p->no_generation_prompt, .add_vision_id = s->p.add_vision_id};
    struct qvl_prompt prompt = {0};
    struct qvl_ids ids = {0};
    int rc = qvl_template_render(s->model->template, &s->chat, &opt, 1, &prompt, err);
    if (rc == 0)
        rc = qvl_prompt_encode(&prompt, s->model->tokenizer, &ids, err);
    if (rc == 0)
        rc = expand(s, &ids, &prompt, err);
    qvl_prompt_free(&prompt);
    qvl_ids_free(&ids);
    return rc;
}

/* Tokens at the beginning of `want` that the cache already holds; at least one is left to compute. */
static int64_t cached_prefix(const struct qvl_session *s)
{
    int64_t n = qvl_sequence_common(&s->kv, &s->want);
    return n < s->want.n ? n : s->want.n - 1;
}

static int check_kv_memory(const struct qvl_session *s, int64_t from, int64_t to, qvl_err *err)
{
    struct qvl_decoder_params d = qvl_decoder_params_of(s->model, &s->p, s->pool);
    size_t kv, work;
    char what[96];
    if (s->p.no_memory_check || qvl_decoder_bytes(&d, (int)s->p.n_threads, &kv, &work) < 0)
        return 0;
    if (to > s->p.n_ctx)
        to = s->p.n_ctx;
    snprintf(what, sizeof what, "a KV cache for %lld more tokens", (long long)(to - from));
    return qvl_memory_check((uint64_t)kv / s->p.n_ctx * (uint64_t)(to - from), what, "lower --max-pixels or --max-tokens", err);
}

/* Encodes the pictures whose rows are still to be computed and ties their features to the spans. */
static int encode_pictures(struct qvl_session *s, int64_t from, const qvl_gen_params *p, struct qvl_trace *trace, qvl_result *r,
                           qvl_err *err)
{
    struct qvl_watch watch = {.cancel = &s->cancel, .progress = p->progress, .ud = p->progress_ud, .stage = "vision"};
    double start = qvl_now_ms();
    uint64_t steps = (uint64_t)s->model->config.vision.depth + 1;
    for (int64_t k = 0; k < s->want.n_span; k++) {
        struct qvl_media *m = s->media[s->want.span[k].media];
        if (s->want.span[k].first + s->want.span[k].n > from && (!m->features.mem || trace))
            watch.total += steps;
    }
    for (int64_t k = 0; k < s->want.n_span; k++) {
        struct qvl_span *sp = &s->want.span[k];
        struct qvl_media *m = s->media[sp->media];
        if (sp->first + sp->n <= from)
            continue;
        int encoded;
        QVL_TRY(qvl_media_encode(s, m, &watch, trace, &encoded, err));
        sp->features = &m->features;
        r->n_images += (uint32_t)encoded;
        r->n_image_tokens += encoded ? (uint32_t)sp->n : 0;
    }
    r->vision_ms = qvl_now_ms() - start;
    return 0;
}

/* Computes tokens from..want.n; afterwards s->logits belongs to the last one. The cache is valid at every moment:
 * s->kv describes exactly what it holds. */
static int prefill(struct qvl_session *s, int64_t from, const qvl_gen_params *p, struct qvl_trace *trace, float *all_logits,
                   qvl_err *err)
{
    struct qvl_sequence swap = s->kv;
    int64_t n = s->want.n;
    struct qvl_watch watch = {.cancel = &s->cancel, .progress = p->progress, .ud = p->progress_ud, .stage = "prompt",
                              .total = (uint64_t)(n - from) * (uint64_t)s->model->config.text.n_layer};
    s->kv = s->want;
    s->want = swap;
    size_t V = (size_t)s->model->config.text.n_vocab;
    for (int64_t at = from; at < n;) {
        int64_t to = at + s->p.n_chunk < n ? at + s->p.n_chunk : n;
        s->kv.n = n; /* the step reads ids up to `to` */
        int rc = all_logits ? qvl_decoder_step(s->decoder, &s->kv, at, to, to - at, all_logits + (size_t)at * V, &watch, trace, err)
                            : qvl_decoder_step(s->decoder, &s->kv, at, to, to == n, s->logits, &watch, trace, err);
        s->kv.n = rc < 0 ? at : to;
        if (rc < 0)
            return rc;
        at = to;
    }
    if (all_logits)
        memcpy(s->logits, all_logits + (size_t)(n - 1) * V, V * sizeof(float));
    return 0;
}

/* ---- text out ---- */

static int emit(struct answer *a, const char *text, size_t len, qvl_err *err)
{
    if (!len)
        return 0;
    if (qvl_buf_add(&a->s->text, text, len))
        return qvl_fail_nomem(err, a->s->text.len, "answer");
    if (a->p->on_text && a->p->on_text(a->p->on_text_ud, text, len))
        a->cancelled = 1;
    return 0;
}

static int through_stopper(struct answer *a, const char *text, size_t len, qvl_err *err)
{
    if (!a->has_stop)
        return emit(a, text, len, err);
    const char *out;
    size_t n;
    a->stopped = qvl_stopper_push(&a->stopper, text, len, &out, &n);
    return emit(a, out, n, err);
}

/* The text of one token; special tokens have none. */
static int put_token(struct answer *a, int32_t id, qvl_err *err)
{
    const struct qvl_tokenizer *t = a->s->model->tokenizer;
    char piece[3 * PIECE + 16];
    size_t len;
    const char *bytes = qvl_tokenizer_bytes(t, id, &len);
    if (!bytes || qvl_tokenizer_is_special(t, id))
        return 0;
    for (size_t at = 0; at < len && !a->stopped; at += PIECE) {
        size_t part = len - at < PIECE ? len - at : PIECE;
        QVL_TRY(through_stopper(a, piece, qvl_utf8_push(&a->utf8, piece, bytes + at, part), err));
    }
    return 0;
}

static int finish_text(struct answer *a, qvl_err *err)
{
    char piece[16];
    const char *out;
    size_t n;
    if (a->stopped)
        return 0;
    QVL_TRY(through_stopper(a, piece, qvl_utf8_flush(&a->utf8, piece), err));
    if (a->has_stop && !a->stopped) {
        qvl_stopper_flush(&a->stopper, &out, &n);
        return emit(a, out, n, err);
    }
    return 0;
}

/* ---- tokens ---- */

static int is_end(const struct qvl_model *m, int32_t id)
{
    for (int i = 0; i < m->config.gen.n_eos; i++)
        if (m->config.gen.eos[i] == id)
            return 1;
    return 0;
}

/* Tokens on their way through the decoder: rows of logits of the last step, and the draft they were computed for. */
struct steps {
    struct qvl_draft draft;
    int32_t guess[QVL_DRAFT_MAX];
    int n_guess;  /* drafted tokens of the last step */
    int row;      /* of them, already confirmed; logits row in use */
    double ms;    /* time of the last step */
};

/* Takes the tokens of the last draft that were not confirmed out of the sequence. */
static void drop_rest(struct qvl_session *s, struct steps *st)
{
    qvl_sequence_drop_text(&s->kv, st->n_guess - st->row);
    if (st->ms > 0)
        qvl_draft_learn(&st->draft, st->n_guess, st->row, st->ms);
    st->n_guess = st->row = 0;
    st->ms = 0;
}

/* Makes the logits that follow `id` available, by confirming a drafted token or by a new step. */
static int advance(struct qvl_session *s, struct steps *st, int32_t id, int64_t left, qvl_err *err)
{
    const struct qvl_config *c = &s->model->config;
    if (st->row < st->n_guess && st->guess[st->row] == id) {
        st->row++;
        return 0;
    }
    drop_rest(s, st);
    qvl_sequence_add_text(&s->kv, id);
    if (left > s->p.n_ctx - s->kv.n)
        left = s->p.n_ctx - s->kv.n;
    if (left > s->p.n_chunk - 1)
        left = s->p.n_chunk - 1;
    st->n_guess = qvl_draft_guess(&st->draft, st->guess, s->kv.id, s->kv.n, c->image_token, c->video_token, left);
    for (int i = 0; i < st->n_guess; i++)
        qvl_sequence_add_text(&s->kv, st->guess[i]);
    double start = qvl_now_ms();
    qvl_alloc_guard_up();
    int rc = qvl_decoder_step(s->decoder, &s->kv, s->kv.n - 1 - st->n_guess, s->kv.n, 1 + st->n_guess, s->logits, NULL, NULL, err);
    qvl_alloc_guard_down();
    st->ms = qvl_now_ms() - start;
    if (rc < 0) {
        qvl_sequence_drop_text(&s->kv, 1 + st->n_guess);
        st->n_guess = 0;
    }
    return rc;
}

static int decode(struct qvl_session *s, struct answer *a, const qvl_gen_params *p, const struct qvl_gen_extra *extra,
                  qvl_result *r, qvl_err *err)
{
    struct qvl_trace *logits_trace = extra->generated_logits ? extra->trace : NULL;
    struct steps st = {0};
    size_t V = (size_t)s->model->config.text.n_vocab;
    int64_t limit = s->p.n_ctx - s->kv.n + 1; /* the last token needs no place in the cache */
    int rc = 0;
    if (p->max_tokens && p->max_tokens < limit)
        limit = p->max_tokens;
    qvl_draft_init(&st.draft, p->no_draft || extra->trace);
    r->finish = QVL_FINISH_LENGTH;
    for (int64_t i = 0; i < limit; i++) {
        int32_t id;
        const float *logits = s->logits + (size_t)st.row * V;
        if (atomic_load_explicit(&s->cancel, memory_order_relaxed) || a->cancelled) {
            r->finish = QVL_FINISH_CANCELLED;
            break;
        }
        qvl_alloc_guard_up();
        rc = qvl_sampler_pick(&s->sampler, logits, &id, err);
        qvl_alloc_guard_down();
        if (rc < 0)
            break;
        qvl_trace_add(logits_trace, QVL_DT_F32, logits, 1, (int64_t)V, "generated_logits");
        QVL_TRY_BREAK(rc, qvl_ids_add(&s->ids, id, err));
        if (is_end(s->model, id)) {
            r->finish = QVL_FINISH_STOP;
            break;
        }
        QVL_TRY_BREAK(rc, put_token(a, id, err));
        if (a->stopped) {
            r->finish = QVL_FINISH_STOP;
            break;
        }
        if (i + 1 < limit)
            QVL_TRY_BREAK(rc, advance(s, &st, id, limit - i - 2, err));
    }
    drop_rest(s, &st);
    r->n_drafted = st.draft.drafted;
    r->n_accepted = st.draft.accepted;
    return rc < 0 ? rc : finish_text(a, err);
}

/* Splits "reasoning</think>answer" of thinking models; line feeds around both are dropped as the template does. */
static int split_reasoning(struct answer *a, qvl_err *err)
{
    struct qvl_session *s = a->s;
    static const char mark[] = "</think>";
    if (!qvl_template_thinking(s->model->template))
        return 0;
    const char *text = s->text.data ? s->text.data : "", *at = strstr(text, mark);
    size_t end = at ? (size_t)(at - text) : s->text.len, skip = at ? end + sizeof mark - 1 : end, from = 0;
    a->thought_open = !at;
    while (from < end && text[from] == '\n')
        from++;
    size_t to = end;
    while (to > from && text[to - 1] == '\n')
        to--;
    while (skip < s->text.len && text[skip] == '\n')
        skip++;
    if (qvl_buf_add(&s->reasoning, text + from, to - from))
        return qvl_fail_nomem(err, end, "reasoning");
    if (s->text.len) {
        memmove(s->text.data, s->text.data + skip, s->text.len - skip + 1);
        s->text.len -= skip;
    }
    return 0;
}

/* Appends the answer to the conversation. Its ids are kept when they say the same as its text, so that the next prompt
 * continues the cache. */
static int keep_answer(struct qvl_session *s, const struct answer *a, qvl_err *err)
{
    struct qvl_message m = {.role = QVL_ROLE_ASSISTANT};
    size_t n = s->ids.n;
    int rc = 0, usable = !a->stopped && !a->thought_open; /* the template closes every thought */
    if (n && is_end(s->model, s->ids.id[n - 1]))
        n--;
    for (size_t i = 0; i < n; i++)
        usable &= s->ids.id[i] != s->model->config.image_token && s->ids.id[i] != s->model->config.video_token;
    m.items = qvl_calloc(1, sizeof *m.items);
    if (!m.items)
        return qvl_fail_nomem(err, sizeof *m.items, "answer");
    m.n_items = 1;
    m.items[0] = (struct qvl_item){.kind = QVL_ITEM_TEXT, .len = s->text.len, .media = -1};
    m.items[0].text = qvl_strndup(s->text.len ? s->text.data : "", s->text.len);
    if (s->reasoning.len)
        m.reasoning = qvl_strdup(s->reasoning.data);
    if (usable && n) {
        m.ids = qvl_alloc(n, sizeof *m.ids);
        m.n_ids = n;
        if (m.ids)
            memcpy(m.ids, s->ids.id, n * sizeof *m.ids);
    }
    if (!m.items[0].text || (s->reasoning.len && !m.reasoning) || (usable && n && !m.ids))
        rc = qvl_fail_nomem(err, s->text.len, "answer");
    if (rc == 0)
        rc = qvl_chat_add(&s->chat, &m, err);
    if (rc < 0)
        qvl_message_free(&m);
    return rc;
}

static void trace_sequence(struct qvl_trace *t, const struct qvl_sequence *s)
{
    int32_t delta = (int32_t)(s->next - s->n);
    qvl_trace_add(t, QVL_DT_I32, s->id, s->n, 0, "input_ids");
    for (int axis = 0; axis < 3; axis++)
        qvl_trace_add(t, QVL_DT_I32, s->pos + axis * s->cap, 1, s->n, "position_ids");
    qvl_trace_add(t, QVL_DT_I32, &delta, 1, 0, "rope_delta");
}

static int begin_sampling(struct qvl_session *s, const qvl_gen_params *p, const struct qvl_gen_extra *extra, qvl_err *err)
{
    struct qvl_sampler_params sp = {
        .greedy = p->greedy || p->temperature <= 0, .temperature = p->temperature, .top_k = (int)p->top_k, .top_p = p->top_p,
        .min_p = p->min_p, .repetition_penalty = p->repetition_penalty, .presence_penalty = p->presence_penalty,
        .frequency_penalty = p->frequency_penalty, .seed = p->seed};
    if (p->top_k > INT32_MAX)
        return qvl_fail(err, QVL_E_ARG, "top_k is %u", p->top_k);
    return qvl_sampler_begin(&s->sampler, &sp, extra->no_ban ? NULL : s->model->banned, s->want.id, (size_t)s->want.n, err);
}

/* Prompt, pictures, prefill. On return the logits of the last prompt token are there. */
static int read_prompt(struct qvl_session *s, const qvl_gen_params *p, const struct qvl_gen_extra *extra, qvl_result *r, qvl_err *err)
{
    struct qvl_trace *trace = extra->trace;
    float *all_logits = NULL;
    size_t V = (size_t)s->model->config.text.n_vocab;
    QVL_TRY(build_prompt(s, p, err));
    QVL_TRY(begin_sampling(s, p, extra, err));
    int64_t n = s->want.n, from = trace ? 0 : cached_prefix(s);
    r->n_prompt = (uint32_t)n;
    r->n_prompt_new = (uint32_t)(n - from);
    QVL_TRY(check_kv_memory(s, from, n + (p->max_tokens ? p->max_tokens : 512), err));
    trace_sequence(trace, &s->want);
    QVL_TRY(encode_pictures(s, from, p, trace, r, err));
    if (trace && (size_t)n <= TRACE_LOGITS_BYTES / (V * sizeof(float))) {
        all_logits = qvl_alloc((size_t)n * V, sizeof(float));
        if (!all_logits)
            return qvl_fail_nomem(err, (size_t)n * V * sizeof(float), "logits of all positions");
    }
    double start = qvl_now_ms();
    int rc = prefill(s, from, p, trace, all_logits, err);
    r->prompt_ms = qvl_now_ms() - start;
    if (rc == 0)
        qvl_trace_add(trace, QVL_DT_F32, all_logits ? all_logits : s->logits, all_logits ? n : 1, (int64_t)V, "logits");
    qvl_mem_free(all_logits);
    return rc;
}

int qvl_generate(struct qvl_session *s, const struct qvl_gen_params *p, const struct qvl_gen_extra *extra, qvl_result *out,
                 qvl_err *err)
{
    qvl_result r = {0};
    struct answer a = {.s = s, .p = p};
    s->clock++;
    atomic_store_explicit(&s->cancel, 0, memory_order_relaxed);
    qvl_buf_free(&s->text);
    qvl_buf_free(&s->reasoning);
    s->ids.n = 0;
    QVL_TRY(read_prompt(s, p, extra, &r, err));
    if (p->n_stop) {
        QVL_TRY(qvl_stopper_init(&a.stopper, p->stop, p->n_stop, sizeof(char) * (3 * PIECE + 16), err));
        a.has_stop = 1;
    }
    double start = qvl_now_ms();
    int rc = decode(s, &a, p, extra, &r, err);
    r.decode_ms = qvl_now_ms() - start;
    qvl_stopper_free(&a.stopper);
    if (rc == 0)
        qvl_trace_add(extra->trace, QVL_DT_I32, s->ids.id, (int64_t)s->ids.n, 0, "generated_ids");
    if (rc == 0)
        rc = split_reasoning(&a, err);
    if (rc == 0)
        rc = keep_answer(s, &a, err);
    if (rc < 0)
        return rc;
    r.text = s->text.data ? s->text.data : "";
    r.text_len = s->text.len;
    r.reasoning = s->reasoning.len ? s->reasoning.data : NULL;
    r.ids = s->ids.id;
    r.n_ids = s->ids.n;
    if (out)
        *out = r;
    return 0;
}

int qvl_session_generate(qvl_session *s, const qvl_gen_params *params, qvl_result *out, qvl_err *err)
{
    qvl_gen_params p;
    if (!s)
        return qvl_fail(err, QVL_E_ARG, "qvl_session_generate: session is NULL");
    qvl_gen_params_default(&p, s->model);
    if (params) {
        if (params->struct_size < sizeof(size_t) || params->struct_size > 4096)
            return qvl_fail(err, QVL_E_ARG, "qvl_gen_params.struct_size is %zu: use qvl_gen_params_default()", params->struct_size);
        memcpy(&p, params, params->struct_size < sizeof p ? params->struct_size : sizeof p);
    }
    if (p.n_stop && !p.stop)
        return qvl_fail(err, QVL_E_ARG, "qvl_gen_params: n_stop without stop");
    if (!p.trace_path) {
        struct qvl_gen_extra none = {0};
        return qvl_generate(s, &p, &none, out, err);
    }
    struct qvl_out probe; /* a path that cannot be written should not cost an answer */
    QVL_TRY(qvl_out_open(&probe, p.trace_path, err));
    qvl_out_close(&probe);
    struct qvl_trace trace = {0};
    struct qvl_gen_extra extra = {.trace = &trace, .generated_logits = 1};
    size_t before = s->chat.n;
    int rc = qvl_generate(s, &p, &extra, out, err);
    if (rc == 0) {
        struct qvl_session view = *s; /* the request is the conversation without the answer */
        view.chat.n = before;
        rc = qvl_trace_write(&view, &p, &trace, p.trace_path, err);
    }
    qvl_trace_free(&trace);
    return rc;
}
