/* template.c - the chat template: messages -> one text in stretches of trust.
 *
 * Two published templates exist, Instruct and Thinking; both are written out here rather than interpreted. They share the
 * turns, media and tools, and differ in how they treat an answer's reasoning, later system messages and pictures outside
 * user turns (sections 8.4 and 8.5 of the model notes). Each message's content is first rendered aside, because Thinking
 * looks into it and may drop a part. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "text/chat.h"
#include "text/template.h"

/* What the models were trained on, byte for byte. */
static const char TOOLS_HEAD[] =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided "
    "with function signatures within <tools></tools> XML tags:\n<tools>";
static const char TOOLS_TAIL[] =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
    "<args-json-object>}\n</tool_call>";
static const char IMAGE[] = "<|vision_start|><|image_pad|><|vision_end|>";
static const char VIDEO[] = "<|vision_start|><|video_pad|><|vision_end|>";

/* A rendering in progress. */
struct render {
    const struct qvl_chat *c;
    const struct qvl_chat_options *opt;
    struct qvl_prompt *p;
    struct qvl_prompt content; /* of one message; its inserts, without ids, say where its media stand */
    size_t n_images, n_videos; /* counted so far, for "Picture k: " */
    int thinking, by_content, use_ids;
    int nomem; /* a list could not grow; checked once at the end, like qvl_buf.failed */
};

/* ---------------------------------------------------------------- writing */

/* Room for one more element of a growing list: the list, moved if need be, or NULL (and nomem). */
static void *room(struct render *r, void *list, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return list;
    size_t more = *cap ? *cap * 2 : 16;
    void *p = qvl_realloc(list, n * size, more, size);
    if (p)
        *cap = more;
    else
        r->nomem = 1;
    return p;
}

static void put(struct render *r, struct qvl_prompt *p, const char *s, size_t len, enum qvl_trust trust)
{
    if (!len || qvl_buf_add(&p->text, s, len))
        return;
    if (p->n_stretches && p->stretches[p->n_stretches - 1].trust == trust) {
        p->stretches[p->n_stretches - 1].len += len;
        return;
    }
    struct qvl_stretch *v = room(r, p->stretches, p->n_stretches, &p->cap_stretches, sizeof *v);
    if (!v)
        return;
    p->stretches = v;
    v[p->n_stretches++] = (struct qvl_stretch){len, trust};
}

/* Text of the template itself. */
static void put_own(struct render *r, struct qvl_prompt *p, const char *s)
{
    put(r, p, s, strlen(s), QVL_TRUST_ALL);
}

static void put_insert(struct render *r, struct qvl_prompt *p, const int32_t *ids, size_t n_ids)
{
    struct qvl_insert *v = room(r, p->inserts, p->n_inserts, &p->cap_inserts, sizeof *v);
    if (!v)
        return;
    p->inserts = v;
    v[p->n_inserts++] = (struct qvl_insert){p->text.len, ids, n_ids};
}

static void put_media(struct render *r, struct qvl_prompt *p, const struct qvl_item *it)
{
    const struct qvl_item **v = room(r, p->media, p->n_media, &p->cap_media, sizeof *v);
    if (!v)
        return;
    p->media = v;
    v[p->n_media++] = it;
}

static void put_json(struct render *r, const json_t *value)
{
    struct qvl_buf b;
    qvl_buf_init(&b, SIZE_MAX / 4);
    qvl_json_dump_python(&b, value);
    r->nomem |= b.failed;
    put(r, r->p, b.data, b.len, QVL_TRUST_NONE);
    qvl_buf_free(&b);
}

/* ---------------------------------------------------------------- content */

enum media_rule {
    MEDIA_DROP, /* not rendered */
    MEDIA_SHOW, /* rendered, numbered, counted */
    MEDIA_AGAIN /* rendered with the number that the count has reached, not counted */
};

static void render_media(struct render *r, const struct qvl_item *it, enum media_rule rule)
{
    struct qvl_prompt *p = &r->content;
    int image = it->kind == QVL_ITEM_IMAGE;
    size_t *count = image ? &r->n_images : &r->n_videos;
    char label[48];
    if (rule == MEDIA_DROP)
        return;
    *count += rule == MEDIA_SHOW;
    if (r->opt->add_vision_id) {
        snprintf(label, sizeof label, "%s %zu: ", image ? "Picture" : "Video", *count);
        put_own(r, p, label);
    }
    put_insert(r, p, NULL, 0);
    put_media(r, p, it);
    put_own(r, p, image ? IMAGE : VIDEO);
}

/* Renders the content of a message into r->content. */
static void render_content(struct render *r, const struct qvl_message *m, enum media_rule rule)
{
    struct qvl_prompt *p = &r->content;
    p->text.len = p->n_stretches = p->n_inserts = p->n_media = 0;
    for (size_t i = 0; i < m->n_items; i++) {
        const struct qvl_item *it = &m->items[i];
        if (it->kind == QVL_ITEM_TEXT)
            put(r, p, it->text, it->len, m->role == QVL_ROLE_ASSISTANT ? QVL_TRUST_PLAIN_ADDED : QVL_TRUST_NONE);
        else
            render_media(r, it, rule);
    }
}

/* Copies bytes [from, to) of the rendered content, with its stretches and media, to the prompt. */
static void put_content(struct render *r, size_t from, size_t to)
{
    const struct qvl_prompt *c = &r->content;
    size_t at = 0;
    for (size_t i = 0; i < c->n_stretches && at < to; at += c->stretches[i++].len) {
        size_t a = at > from ? at : from, b = at + c->stretches[i].len;
        if (b > to)
            b = to;
        if (a < b)
            put(r, r->p, c->text.data + a, b - a, c->stretches[i].trust);
    }
    for (size_t i = 0; i < c->n_media && i < c->n_inserts; i++)
        if (c->inserts[i].at >= from && c->inserts[i].at < to)
            put_media(r, r->p, c->media[i]);
}

static int begins(const char *s, size_t n, const char *word)
{
    size_t k = strlen(word);
    return n >= k && memcmp(s, word, k) == 0;
}

static int ends(const char *s, size_t n, const char *word)
{
    size_t k = strlen(word);
    return n >= k && memcmp(s + n - k, word, k) == 0;
}

/* First or last place of a word in s[from..to); to if there is none. */
static size_t find(const char *s, size_t from, size_t to, const char *word, int last)
{
    size_t best = to;
    for (size_t i = from; i < to && (last || best == to); i++) {
        const char *p = memchr(s + i, word[0], to - i);
        if (!p)
            break;
        i = (size_t)(p - s);
        if (begins(p, to - i, word))
            best = i;
    }
    return best;
}

/* Python's s.strip("\n") on a range. */
static void strip_lines(const char *s, size_t *from, size_t *to, int left, int right)
{
    while (left && *from < *to && s[*from] == '\n')
        ++*from;
    while (right && *from < *to && s[*to - 1] == '\n')
        --*to;
}

/* ---------------------------------------------------------------- turns */

static void open_turn(struct render *r, const char *role)
{
    put_own(r, r->p, "<|im_start|>");
    put_own(r, r->p, role);
    put_own(r, r->p, "\n");
}

static void close_turn(struct render *r)
{
    put_own(r, r->p, "<|im_end|>\n");
}

static void put_whole_content(struct render *r)
{
    put_content(r, 0, r->content.text.len);
}

/* The system turn: the first message if it is one, and the tools. */
static void render_head(struct render *r)
{
    const struct qvl_chat *c = r->c;
    int system = c->n && c->msg[0].role == QVL_ROLE_SYSTEM, tools = json_array_size(c->tools) > 0;
    if (!system && !tools)
        return;
    open_turn(r, "system");
    if (system) {
        render_content(r, &c->msg[0], r->thinking ? MEDIA_AGAIN : MEDIA_DROP);
        put_whole_content(r);
    }
    if (tools) {
        put_own(r, r->p, system ? "\n\n" : "");
        put_own(r, r->p, TOOLS_HEAD);
        for (size_t i = 0; i < json_array_size(c->tools); i++) {
            put_own(r, r->p, "\n");
            put_json(r, json_array_get(c->tools, i));
        }
        put_own(r, r->p, TOOLS_TAIL);
    }
    close_turn(r);
}

static void render_tool_calls(struct render *r, const struct qvl_message *m, int after_text)
{
    for (size_t i = 0; i < json_array_size(m->tool_calls); i++) {
        const json_t *call = qvl_tool_call_function(json_array_get(m->tool_calls, i));
        const json_t *name = json_object_get(call, "name"), *args = json_object_get(call, "arguments");
        put_own(r, r->p, i || after_text ? "\n<tool_call>\n{\"name\": \"" : "<tool_call>\n{\"name\": \"");
        put(r, r->p, json_string_value(name), json_string_length(name), QVL_TRUST_NONE);
        put_own(r, r->p, "\", \"arguments\": ");
        if (json_is_string(args))
            put(r, r->p, json_string_value(args), json_string_length(args), QVL_TRUST_NONE);
        else
            put_json(r, args);
        put_own(r, r->p, "}\n</tool_call>");
    }
}

/* Thinking: an answer after the last query keeps its reasoning if it has one, and as the last message always gets a
 * reasoning block; earlier answers lose theirs. Returns whether visible text was written in front of the tool calls. */
static int render_thoughts(struct render *r, const struct qvl_message *m, int current, int last)
{
    const char *s = r->content.text.data ? r->content.text.data : "";
    size_t n = r->content.text.len, from = 0, reason_from = 0, reason_to = 0;
    size_t reason_len = m->reasoning ? strlen(m->reasoning) : 0;
    if (!m->reasoning) {
        size_t end = find(s, 0, n, "</think>", 0);
        if (end < n) {
            reason_to = end;
            strip_lines(s, &reason_from, &reason_to, 0, 1);
            size_t open = find(s, 0, reason_to, "<think>", 1);
            reason_from = open < reason_to ? open + strlen("<think>") : 0;
            from = find(s, end, n, "</think>", 1) + strlen("</think>");
            strip_lines(s, &from, &n, 1, 0);
            strip_lines(s, &reason_from, &reason_to, 1, 0);
            reason_len = reason_to - reason_from;
        }
    }
    int after_text = from < n;
    if (current && (last || reason_len)) {
        put_own(r, r->p, "<think>\n");
        if (m->reasoning) {
            size_t a = 0, b = reason_len;
            strip_lines(m->reasoning, &a, &b, 1, 1);
            put(r, r->p, m->reasoning + a, b - a, QVL_TRUST_PLAIN_ADDED);
        } else {
            strip_lines(s, &reason_from, &reason_to, 1, 1);
            put_content(r, reason_from, reason_to);
        }
        put_own(r, r->p, "\n</think>\n\n");
        strip_lines(s, &from, &n, 1, 0);
    }
    put_content(r, from, n);
    return after_text;
}

static void render_assistant(struct render *r, const struct qvl_message *m, int current, int last)
{
    int after_text = 1;
    open_turn(r, "assistant");
    if (r->use_ids && m->n_ids && (!r->thinking || current)) {
        /* The ids follow the generation prompt, as when they were written. */
        put_own(r, r->p, r->thinking ? "<think>\n" : "");
        put_insert(r, r->p, m->ids, m->n_ids);
    } else if (r->thinking) {
        after_text = render_thoughts(r, m, current, last);
    } else {
        after_text = r->content.text.len > 0 || (r->by_content && m->is_list && m->n_items > 0);
        put_whole_content(r);
    }
    render_tool_calls(r, m, after_text);
    close_turn(r);
}

/* Neighbouring tool messages share one user turn. */
static void render_tool_result(struct render *r, size_t i)
{
    const struct qvl_chat *c = r->c;
    if (i == 0 || c->msg[i - 1].role != QVL_ROLE_TOOL)
        put_own(r, r->p, "<|im_start|>user");
    put_own(r, r->p, "\n<tool_response>\n");
    put_whole_content(r);
    put_own(r, r->p, "\n</tool_response>");
    if (i + 1 == c->n || c->msg[i + 1].role != QVL_ROLE_TOOL)
        close_turn(r);
}

/* Index of the last user message that is not itself the answer of a tool; the last index if there is none. */
static size_t last_query(struct render *r)
{
    for (size_t i = r->c->n; i-- > 0;) {
        if (r->c->msg[i].role != QVL_ROLE_USER)
            continue;
        render_content(r, &r->c->msg[i], MEDIA_AGAIN);
        const struct qvl_buf *t = &r->content.text;
        if (!t->len || !begins(t->data, t->len, "<tool_response>") || !ends(t->data, t->len, "</tool_response>"))
            return i;
    }
    return r->c->n ? r->c->n - 1 : 0;
}

static void render_message(struct render *r, size_t i, size_t query)
{
    const struct qvl_message *m = &r->c->msg[i];
    int user_side = m->role == QVL_ROLE_USER || m->role == QVL_ROLE_TOOL;
    render_content(r, m, user_side || r->thinking ? MEDIA_SHOW : MEDIA_DROP);
    switch (m->role) {
    case QVL_ROLE_SYSTEM:
        if (!r->thinking || i == 0) /* the first one is in the head */
            break;
        open_turn(r, "system");
        put_whole_content(r);
        close_turn(r);
        break;
    case QVL_ROLE_USER:
        open_turn(r, "user");
        put_whole_content(r);
        close_turn(r);
        break;
    case QVL_ROLE_ASSISTANT: render_assistant(r, m, i > query, i + 1 == r->c->n); break;
    case QVL_ROLE_TOOL: render_tool_result(r, i); break;
    default: break;
    }
}

int qvl_template_render(const struct qvl_template *t, const struct qvl_chat *c, const struct qvl_chat_options *opt,
                        int use_ids, struct qvl_prompt *out, qvl_err *err)
{
    struct render r = {
        .c = c, .opt = opt, .p = out, .thinking = t->thinking, .by_content = t->by_content, .use_ids = use_ids};
    *out = (struct qvl_prompt){0};
    qvl_buf_init(&out->text, SIZE_MAX / 4);
    qvl_buf_init(&r.content.text, SIZE_MAX / 4);
    render_head(&r);
    size_t query = r.thinking ? last_query(&r) : 0;
    for (size_t i = 0; i < c->n; i++)
        render_message(&r, i, query);
    if (opt->add_generation_prompt) {
        open_turn(&r, "assistant");
        put_own(&r, out, r.thinking ? "<think>\n" : "");
    }
    int failed = r.nomem || out->text.failed || r.content.text.failed;
    size_t len = out->text.len;
    qvl_prompt_free(&r.content);
    if (failed) {
        qvl_prompt_free(out);
        return qvl_fail_nomem(err, len, "prompt");
    }
    return 0;
}

void qvl_prompt_free(struct qvl_prompt *p)
{
    if (!p)
        return;
    qvl_buf_free(&p->text);
    qvl_mem_free(p->stretches);
    qvl_mem_free(p->inserts);
    qvl_mem_free(p->media);
    *p = (struct qvl_prompt){0};
}

int qvl_prompt_encode(const struct qvl_prompt *p, const struct qvl_tokenizer *t, struct qvl_ids *out, qvl_err *err)
{
    struct qvl_stretch *part = qvl_alloc(p->n_stretches + 1, sizeof *part);
    if (!part)
        return qvl_fail_nomem(err, p->n_stretches * sizeof *part, "prompt");
    int rc = 0;
    size_t at = 0, k = 0, used = 0; /* used: of stretch k */
    for (size_t i = 0; i <= p->n_inserts && rc == 0; i++) {
        size_t end = i < p->n_inserts ? p->inserts[i].at : p->text.len, start = at, n = 0;
        while (at < end && k < p->n_stretches) {
            size_t len = p->stretches[k].len - used;
            if (len > end - at)
                len = end - at;
            part[n++] = (struct qvl_stretch){len, p->stretches[k].trust};
            at += len;
            used += len;
            if (used == p->stretches[k].len) {
                k++;
                used = 0;
            }
        }
        if (end > start)
            rc = qvl_tokenizer_encode(t, p->text.data + start, end - start, part, n, out, err);
        for (size_t j = 0; rc == 0 && i < p->n_inserts && j < p->inserts[i].n_ids; j++)
            rc = qvl_ids_add(out, p->inserts[i].ids[j], err);
    }
    qvl_mem_free(part);
    return rc;
}
