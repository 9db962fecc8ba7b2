/* template_file.c - finds a model's template text and tells the two published templates apart. */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/chat.h"
#include "text/template.h"

enum { MAX_TEMPLATE = 4 << 20, MAX_CONFIG = 64 << 20 };

static const char *find_text(const char *s, size_t n, const char *word)
{
    size_t k = strlen(word);
    for (const char *p; n >= k && (p = memchr(s, word[0], n - k + 1)); n -= (size_t)(p + 1 - s), s = p + 1)
        if (memcmp(p, word, k) == 0)
            return p;
    return NULL;
}

/* The template's text after the last mention of add_generation_prompt: what the generation prompt consists of. */
static const char *generation_prompt(const char *s, size_t n)
{
    static const char word[] = "add_generation_prompt";
    const char *last = NULL;
    for (const char *p = s; (p = find_text(p, (size_t)(s + n - p), word));)
        last = p += strlen(word);
    return last;
}

int qvl_template_parse(struct qvl_template **out, const char *jinja, size_t len, const char *what, qvl_err *err)
{
    static const char *const needed[] = {"<|im_start|>", "<|im_end|>", "<|image_pad|>"};
    *out = NULL;
    if (len > MAX_TEMPLATE)
        return qvl_fail(err, QVL_E_LIMIT, "%s: chat template of %zu bytes, the limit is %d", what, len, MAX_TEMPLATE);
    for (size_t i = 0; i < QVL_COUNT(needed); i++)
        if (!find_text(jinja, len, needed[i]))
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: not a Qwen3-VL chat template: it never writes %s", what, needed[i]);
    const char *tail = generation_prompt(jinja, len);
    if (!tail)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: not a Qwen3-VL chat template: no add_generation_prompt", what);
    size_t rest = (size_t)(jinja + len - tail);
    int thinking = find_text(tail, rest, "<think>") != NULL;
    if (thinking && find_text(tail, rest, "</think>"))
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: a chat template that switches thinking on and off is not supported",
                        what);
    struct qvl_template *t = qvl_calloc(1, sizeof *t);
    if (!t)
        return qvl_fail_nomem(err, sizeof *t, what);
    t->source = qvl_strndup(jinja, len);
    if (!t->source) {
        qvl_template_close(&t);
        return qvl_fail_nomem(err, len, what);
    }
    t->source_len = len;
    t->thinking = thinking;
    t->by_content = !thinking && find_text(jinja, len, "loop.first and message.content") != NULL;
    *out = t;
    return 0;
}

/* The template in a JSON file: a string, or a list of {"name", "template"} with one named "default". *found stays 0 when
 * the file has none. */
static int from_json(struct qvl_template **out, const char *path, int *found, qvl_err *err)
{
    json_t *root = NULL;
    QVL_TRY(qvl_json_read_texts(&root, path, MAX_CONFIG, err)); /* "no limit" is written as the integer 10^30 in there */
    const json_t *v = json_object_get(root, "chat_template");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *entry = json_array_get(v, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0) {
            v = json_object_get(entry, "template");
            break;
        }
    }
    int rc = 0;
    if (json_is_string(v)) {
        *found = 1;
        rc = qvl_template_parse(out, json_string_value(v), json_string_length(v), path, err);
    } else if (v && !json_is_null(v)) {
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: chat_template: neither a string nor a list with a \"default\"", path);
    }
    json_decref(root);
    return rc;
}

static int from_text(struct qvl_template **out, const char *path, int *found, qvl_err *err)
{
    char *text;
    size_t len;
    QVL_TRY(qvl_file_read(&text, &len, path, MAX_TEMPLATE, err));
    *found = 1;
    int rc = qvl_template_parse(out, text, len, path, err);
    qvl_mem_free(text);
    return rc;
}

int qvl_template_open(struct qvl_template **out, const char *dir, qvl_err *err)
{
    static const char *const name[] = {"chat_template.jinja", "chat_template.json", "tokenizer_config.json"};
    int found = 0;
    *out = NULL;
    for (size_t i = 0; i < QVL_COUNT(name) && !found; i++) {
        char *path = qvl_path_join(dir, name[i]);
        if (!path)
            return qvl_fail_nomem(err, strlen(dir), "chat template");
        int rc = !qvl_file_exists(path) ? 0 : i == 0 ? from_text(out, path, &found, err) : from_json(out, path, &found, err);
        qvl_mem_free(path);
        QVL_TRY(rc);
    }
    if (found)
        return 0;
    *out = qvl_calloc(1, sizeof **out);
    return *out ? 0 : qvl_fail_nomem(err, sizeof **out, "chat template");
}

void qvl_template_close(struct qvl_template **t)
{
    if (!t || !*t)
        return;
    qvl_mem_free((*t)->source);
    qvl_mem_free(*t);
    *t = NULL;
}

int qvl_template_thinking(const struct qvl_template *t)
{
    return t->thinking;
}

const char *qvl_template_source(const struct qvl_template *t, size_t *len)
{
    *len = t->source_len;
    return t->source;
}
