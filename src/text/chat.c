/* chat.c - messages in the OpenAI form -> struct qvl_chat.
 *
 * Everything that the template will read is checked here, so that rendering cannot meet a value of the wrong type. Fields
 * that have no meaning for it (name, tool_call_id, detail, ...) are passed over. Nothing is opened or decoded. */
#include "text/chat.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { MAX_MESSAGES = 1 << 16, MAX_ITEMS = 1 << 16, MAX_CALLS = 1 << 12, MAX_TOOLS = 1 << 12 };
#define MAX_JSON ((size_t)1 << 30) /* pictures may come inside, as data: URLs */

void qvl_message_free(struct qvl_message *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n_items; i++)
        qvl_mem_free(m->items[i].text);
    qvl_mem_free(m->items);
    qvl_mem_free(m->reasoning);
    json_decref(m->tool_calls);
    qvl_mem_free(m->ids);
    *m = (struct qvl_message){0};
}

void qvl_chat_truncate(struct qvl_chat *c, size_t n)
{
    while (c->n > n)
        qvl_message_free(&c->msg[--c->n]);
}

void qvl_chat_free(struct qvl_chat *c)
{
    if (!c)
        return;
    qvl_chat_truncate(c, 0);
    qvl_mem_free(c->msg);
    json_decref(c->tools);
    *c = (struct qvl_chat){0};
}

int qvl_chat_add(struct qvl_chat *c, struct qvl_message *m, qvl_err *err)
{
    if (c->n == MAX_MESSAGES)
        return qvl_fail(err, QVL_E_LIMIT, "conversation: more than %d messages", MAX_MESSAGES);
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        struct qvl_message *p = qvl_realloc(c->msg, c->n * sizeof *p, cap, sizeof *p);
        if (!p)
            return qvl_fail_nomem(err, cap * sizeof *p, "conversation");
        c->msg = p;
        c->cap = cap;
    }
    c->msg[c->n++] = *m;
    *m = (struct qvl_message){0};
    return 0;
}

/* Where the parser stands, for messages. */
struct place {
    const char *what;
    size_t message;
    qvl_err *err;
};

static int parse_role(const struct place *at, const json_t *v, qvl_role *role)
{
    static const struct {
        const char *name;
        qvl_role role;
    } names[] = {{"system", QVL_ROLE_SYSTEM},
                 {"user", QVL_ROLE_USER},
                 {"assistant", QVL_ROLE_ASSISTANT},
                 {"tool", QVL_ROLE_TOOL},
                 {"developer", QVL_ROLE_SYSTEM} /* OpenAI's newer name of system */};
    const char *s = json_string_value(v);
    if (!s)
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: role is missing or not a string", at->what, at->message);
    for (size_t i = 0; i < QVL_COUNT(names); i++)
        if (strcmp(s, names[i].name) == 0) {
            *role = names[i].role;
            return 0;
        }
    return qvl_fail(at->err, QVL_E_UNSUPPORTED, "%s: message %zu: role \"%.40s\" is none of system, user, assistant, tool",
                    at->what, at->message, s);
}

/* Appends an item; s = NULL for media without a source. */
static int add_item(const struct place *at, struct qvl_message *m, enum qvl_item_kind kind, const char *s, size_t len)
{
    struct qvl_item *it = &m->items[m->n_items];
    *it = (struct qvl_item){.kind = kind, .len = len, .media = -1};
    if (s && !(it->text = qvl_strndup(s, len)))
        return qvl_fail_nomem(at->err, len, "message");
    m->n_items++;
    return 0;
}

/* The source of a picture or video: a string or {"url": string}, under the first of the keys that is there. */
static int media_source(const struct place *at, size_t i, const json_t *part, const char *const *keys, const json_t **source)
{
    *source = NULL;
    for (; *keys; keys++) {
        const json_t *v = json_object_get(part, *keys);
        if (!v || json_is_null(v))
            continue;
        if (json_is_object(v))
            v = json_object_get(v, "url");
        if (!json_is_string(v))
            return qvl_fail(at->err, QVL_E_UNSUPPORTED,
                            "%s: message %zu: content[%zu].%s: neither a string nor {\"url\": string}", at->what,
                            at->message, i, *keys);
        if (strlen(json_string_value(v)) != json_string_length(v))
            return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: content[%zu].%s: holds a NUL", at->what, at->message, i,
                            *keys);
        *source = json_string_length(v) ? v : NULL;
        return 0;
    }
    return 0;
}

/* One part of a content list. What it is follows the templates: the type, or else the key that is there. */
static int parse_part(const struct place *at, size_t i, const json_t *part, struct qvl_message *m)
{
    static const char *const image_keys[] = {"image", "image_url", "url", "path", NULL};
    static const char *const video_keys[] = {"video", "video_url", "url", "path", NULL};
    if (!json_is_object(part))
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: content[%zu] is not an object", at->what, at->message, i);
    const json_t *t = json_object_get(part, "type"), *text = json_object_get(part, "text"), *source;
    const char *type = t ? json_string_value(t) : "";
    if (!type)
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: content[%zu].type is not a string", at->what, at->message,
                        i);
    int none = !*type;
    int image = strcmp(type, "image") == 0 || strcmp(type, "image_url") == 0 || json_object_get(part, "image") ||
                json_object_get(part, "image_url");
    int video = strcmp(type, "video") == 0 || strcmp(type, "video_url") == 0 || json_object_get(part, "video") ||
                json_object_get(part, "video_url");
    if (image || video) {
        QVL_TRY(media_source(at, i, part, image ? image_keys : video_keys, &source));
        return add_item(at, m, image ? QVL_ITEM_IMAGE : QVL_ITEM_VIDEO, json_string_value(source),
                        json_string_length(source));
    }
    if (strcmp(type, "text") != 0 && !(none && text))
        return qvl_fail(at->err, QVL_E_UNSUPPORTED, "%s: message %zu: content[%zu]: type \"%.40s\" is not supported",
                        at->what, at->message, i, none ? "(none)" : type);
    if (!json_is_string(text))
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: content[%zu].text is missing or not a string", at->what,
                        at->message, i);
    return add_item(at, m, QVL_ITEM_TEXT, json_string_value(text), json_string_length(text));
}

static int parse_content(const struct place *at, const json_t *content, struct qvl_message *m)
{
    size_t n = json_is_array(content) ? json_array_size(content) : json_is_string(content) ? 1 : 0;
    if (!content && m->role != QVL_ROLE_ASSISTANT)
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: no content", at->what, at->message);
    if (content && !json_is_null(content) && !json_is_string(content) && !json_is_array(content))
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: content is neither a string nor null nor a list", at->what,
                        at->message);
    if (n > MAX_ITEMS)
        return qvl_fail(at->err, QVL_E_LIMIT, "%s: message %zu: content: %zu parts, the limit is %d", at->what, at->message,
                        n, MAX_ITEMS);
    if (n == 0)
        return 0;
    m->items = qvl_calloc(n, sizeof *m->items);
    if (!m->items)
        return qvl_fail_nomem(at->err, n * sizeof *m->items, "message");
    if (json_is_string(content))
        return add_item(at, m, QVL_ITEM_TEXT, json_string_value(content), json_string_length(content));
    for (size_t i = 0; i < n; i++)
        QVL_TRY(parse_part(at, i, json_array_get(content, i), m));
    return 0;
}

/* {"name":, "arguments":} or {"function": {the same}}; arguments are JSON, or a string that is written as it stands. */
static int parse_tool_calls(const struct place *at, json_t *calls, struct qvl_message *m)
{
    if (!calls || json_is_null(calls))
        return 0;
    if (!json_is_array(calls))
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: tool_calls is not a list", at->what, at->message);
    if (json_array_size(calls) > MAX_CALLS)
        return qvl_fail(at->err, QVL_E_LIMIT, "%s: message %zu: tool_calls: %zu calls, the limit is %d", at->what,
                        at->message, json_array_size(calls), MAX_CALLS);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = qvl_tool_call_function(json_array_get(calls, i));
        if (!json_is_string(json_object_get(call, "name")))
            return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: tool_calls[%zu]: name is missing or not a string",
                            at->what, at->message, i);
        if (!json_object_get(call, "arguments"))
            return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: tool_calls[%zu]: no arguments", at->what, at->message,
                            i);
    }
    if (json_array_size(calls))
        m->tool_calls = json_incref(calls);
    return 0;
}

const json_t *qvl_tool_call_function(const json_t *call)
{
    const json_t *f = json_object_get(call, "function");
    return json_object_size(f) ? f : call;
}

static int parse_message(const struct place *at, const json_t *v, struct qvl_message *m)
{
    if (!json_is_object(v))
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: is not an object", at->what, at->message);
    QVL_TRY(parse_role(at, json_object_get(v, "role"), &m->role));
    const json_t *content = json_object_get(v, "content"), *reasoning = json_object_get(v, "reasoning_content");
    m->is_list = json_is_array(content);
    QVL_TRY(parse_content(at, content, m));
    if (m->role != QVL_ROLE_ASSISTANT)
        return 0;
    if (json_is_string(reasoning)) {
        const char *s = json_string_value(reasoning);
        size_t len = json_string_length(reasoning);
        if (memchr(s, 0, len))
            return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: reasoning_content holds a NUL", at->what, at->message);
        m->reasoning = qvl_strndup(s, len);
        if (!m->reasoning)
            return qvl_fail_nomem(at->err, len, "message");
    } else if (reasoning && !json_is_null(reasoning)) {
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: message %zu: reasoning_content is not a string", at->what, at->message);
    }
    return parse_tool_calls(at, json_object_get(v, "tool_calls"), m);
}

static int parse_messages(struct qvl_chat *c, const json_t *list, struct place *at)
{
    if (!json_is_array(list))
        return qvl_fail(at->err, QVL_E_FORMAT,
                        "%s: neither a list of messages nor an object with such a list as \"messages\"", at->what);
    for (at->message = 0; at->message < json_array_size(list); at->message++) {
        struct qvl_message m = {0};
        int rc = parse_message(at, json_array_get(list, at->message), &m);
        if (rc == 0)
            rc = qvl_chat_add(c, &m, at->err);
        if (rc < 0) {
            qvl_message_free(&m);
            return rc;
        }
    }
    return 0;
}

/* An option that may be absent. */
static int parse_flag(const struct place *at, const json_t *root, const char *name, int *value)
{
    const json_t *v = json_object_get(root, name);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_boolean(v))
        return qvl_fail(at->err, QVL_E_FORMAT, "%s: %s is not true or false", at->what, name);
    *value = json_is_true(v);
    return 0;
}

static int parse_root(struct qvl_chat *c, struct qvl_chat_options *opt, json_t *root, struct place *at)
{
    struct qvl_chat_options o = *opt;
    json_t *tools = json_object_get(root, "tools");
    if (json_is_object(root)) {
        QVL_TRY(parse_flag(at, root, "add_generation_prompt", &o.add_generation_prompt));
        QVL_TRY(parse_flag(at, root, "add_vision_id", &o.add_vision_id));
        if (tools && !json_is_null(tools) && !json_is_array(tools))
            return qvl_fail(at->err, QVL_E_FORMAT, "%s: tools is not a list", at->what);
        if (json_array_size(tools) > MAX_TOOLS)
            return qvl_fail(at->err, QVL_E_LIMIT, "%s: %zu tools, the limit is %d", at->what, json_array_size(tools),
                            MAX_TOOLS);
        for (size_t i = 0; i < json_array_size(tools); i++)
            if (!json_is_object(json_array_get(tools, i)))
                return qvl_fail(at->err, QVL_E_FORMAT, "%s: tools[%zu] is not an object", at->what, i);
    }
    QVL_TRY(parse_messages(c, json_is_object(root) ? json_object_get(root, "messages") : root, at));
    if (json_is_array(tools)) {
        json_decref(c->tools);
        c->tools = json_array_size(tools) ? json_incref(tools) : NULL;
    }
    *opt = o;
    return 0;
}

int qvl_chat_parse(struct qvl_chat *c, struct qvl_chat_options *opt, const char *json, size_t len, const char *what,
                   qvl_err *err)
{
    json_t *root = NULL;
    struct qvl_chat_options unused = {0};
    struct place at = {.what = what, .err = err};
    size_t before = c->n;
    if (len > MAX_JSON)
        return qvl_fail(err, QVL_E_LIMIT, "%s: %zu bytes, the limit is %zu", what, len, MAX_JSON);
    QVL_TRY(qvl_json_parse(&root, json, len, what, err));
    int rc = parse_root(c, opt ? opt : &unused, root, &at);
    if (rc < 0)
        qvl_chat_truncate(c, before);
    json_decref(root);
    return rc;
}
