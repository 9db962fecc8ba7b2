/* model_gguf.c - opening a model from GGUF files: what model.c takes from a folder's JSON files comes from metadata here. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "formats/tensor_set.h"
#include "text/tokenizer_lists.h"

enum { MAX_TOKENS = 1 << 22 };

/* A list of strings as views. */
static int read_list(struct qvl_token_text **out, size_t *n, const struct qvl_gguf *g, const char *key, qvl_err *err)
{
    struct qvl_gguf_list list;
    struct qvl_gguf_text t;
    *out = NULL;
    *n = 0;
    QVL_TRY(qvl_gguf_strings(g, key, &list, err));
    if (!list.at)
        return qvl_gguf_missing(g, key, err);
    if (list.left > MAX_TOKENS)
        return qvl_fail(err, QVL_E_LIMIT, "%s: %s: found %zu strings, the limit is %d", qvl_gguf_path(g), key, list.left,
                        MAX_TOKENS);
    *out = qvl_alloc(list.left, sizeof **out);
    if (!*out)
        return qvl_fail_nomem(err, list.left * sizeof **out, key);
    while (qvl_gguf_next(&list, &t))
        (*out)[(*n)++] = (struct qvl_token_text){t.s, t.len};
    return 0;
}

/* A file without kinds: fillers are called [PAD17] after their id, and control tokens look like <|this|>. */
static int32_t guess_kind(const struct qvl_token_text *t, size_t id)
{
    char name[32];
    size_t n = (size_t)snprintf(name, sizeof name, "[PAD%zu]", id);
    if (t->len == n && memcmp(t->s, name, n) == 0)
        return QVL_KIND_UNUSED;
    return t->len > 4 && memcmp(t->s, "<|", 2) == 0 && memcmp(t->s + t->len - 2, "|>", 2) == 0 ? QVL_KIND_CONTROL
                                                                                               : QVL_KIND_NORMAL;
}

static int read_kinds(int32_t **out, const struct qvl_gguf *g, const struct qvl_token_text *tokens, size_t n_tokens, qvl_err *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    int32_t *kinds = *out = qvl_alloc(n_tokens, sizeof *kinds);
    int n;
    if (!kinds)
        return qvl_fail_nomem(err, n_tokens * sizeof *kinds, key);
    QVL_TRY(qvl_gguf_ints(g, key, QVL_KIND_NORMAL, QVL_KIND_BYTE, (int)n_tokens, kinds, &n, err));
    if (n >= 0 && (size_t)n != n_tokens)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %d values, but there are %zu tokens", qvl_gguf_path(g), key, n,
                        n_tokens);
    for (size_t i = 0; n < 0 && i < n_tokens; i++)
        kinds[i] = guess_kind(&tokens[i], i);
    return 0;
}

static int check_kind_of_tokenizer(const struct qvl_gguf *g, qvl_err *err)
{
    static const struct {
        const char *key, *value;
    } want[] = {{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "qwen2"}};
    for (size_t i = 0; i < QVL_COUNT(want); i++) {
        struct qvl_gguf_text t;
        QVL_TRY(qvl_gguf_string(g, want[i].key, &t, err));
        if (!t.s)
            return qvl_gguf_missing(g, want[i].key, err);
        if (!qvl_gguf_text_is(t, want[i].value))
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: found %.*s, expected %s", qvl_gguf_path(g), want[i].key,
                            (int)(t.len < 64 ? t.len : 64), t.s, want[i].value);
    }
    return 0;
}

int qvl_model_gguf_tokenizer(struct qvl_buf *json, const struct qvl_model *m, size_t *n_skipped, size_t *n_merges, qvl_err *err)
{
    const struct qvl_gguf *g = m->gguf.text;
    struct qvl_token_text *tokens = NULL, *merges = NULL;
    struct qvl_token_lists l = {0};
    int32_t *kinds = NULL;
    size_t rows = (size_t)m->config.text.n_vocab;
    int rc;
    QVL_TRY(check_kind_of_tokenizer(g, err));
    QVL_TRY_DONE(read_list(&tokens, &l.n_tokens, g, "tokenizer.ggml.tokens", err));
    QVL_TRY_DONE(read_list(&merges, &l.n_merges, g, "tokenizer.ggml.merges", err));
    QVL_TRY_DONE(read_kinds(&kinds, g, tokens, l.n_tokens, err));
    l.tokens = tokens;
    l.kinds = kinds;
    l.merges = merges;
    *n_merges = l.n_merges;
    if (l.n_tokens > rows) /* ids without a row in the embedding cannot be used */
        l.n_tokens = rows;
    rc = qvl_token_lists_json(json, &l, n_skipped, qvl_gguf_path(g), err);
done:
    qvl_mem_free(tokens);
    qvl_mem_free(merges);
    qvl_mem_free(kinds);
    return rc;
}

static int open_tokenizer(struct qvl_model *m, qvl_err *err)
{
    const char *path = qvl_gguf_path(m->gguf.text);
    struct qvl_buf json = {0};
    size_t n_skipped = 0, n_merges = 0;
    int rc = qvl_model_gguf_tokenizer(&json, m, &n_skipped, &n_merges, err);
    if (rc == 0)
        rc = qvl_tokenizer_parse(&m->tokenizer, json.data, json.len, path, err);
    qvl_buf_free(&json);
    if (rc == 0 && n_skipped && m->gguf.tensors)
        qvl_tensors_warn(m->gguf.tensors, "%s: tokenizer.ggml.merges: %zu of %zu are no pairs of tokens", path, n_skipped, n_merges);
    return rc;
}

/* The template in the file; without one, that of JSON files beside it, or else the published one. */
static int open_template(struct qvl_model *m, qvl_err *err)
{
    struct qvl_gguf_text t;
    const char *path = qvl_gguf_path(m->gguf.text);
    QVL_TRY(qvl_gguf_string(m->gguf.text, "tokenizer.chat_template", &t, err));
    if (t.s)
        return qvl_template_parse(&m->template, t.s, t.len, path, err);
    char *dir = qvl_path_dir(path);
    if (!dir)
        return qvl_fail_nomem(err, strlen(path), "chat template");
    int rc = qvl_template_open(&m->template, dir, err);
    qvl_mem_free(dir);
    return rc;
}

int qvl_model_gguf_parts(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    QVL_TRY(p->vision ? qvl_gguf_model_open_text(&m->gguf, m->dir, p->no_weights, err)
                      : qvl_gguf_model_open(&m->gguf, m->dir, p->mmproj, p->no_weights, err));
    m->config = m->gguf.config; /* moved */
    m->gguf.config = (struct qvl_config){0};
    if (p->vision)
        QVL_TRY(qvl_model_vision_config(m, p->vision, err));
    QVL_TRY(open_tokenizer(m, err));
    QVL_TRY(open_template(m, err));
    m->tensors = m->gguf.tensors; /* moved, too: views into what m->gguf keeps open */
    m->gguf.tensors = NULL;
    return 0;
}

int qvl_model_widen(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    enum qvl_dtype vision = m->arith_vision == QVL_ARITH_F32 ? QVL_DT_F32 : QVL_DT_BF16;
    enum qvl_dtype text = m->arith_text == QVL_ARITH_F32 ? QVL_DT_F32 : QVL_DT_BF16;
    uint64_t bytes = qvl_weights_widened_bytes(&m->weights, &m->config, vision, text);
    if (!bytes)
        return 0;
    if (!p->no_memory_check)
        QVL_TRY(qvl_memory_check(bytes, "the model's quantised weights as numbers",
                                 "use a smaller model, free memory, or try anyway with --no-memory-check", err));
    struct qvl_watch watch = {.progress = p->progress, .ud = p->progress_ud, .stage = "load", .total = bytes};
    struct qvl_pool *pool;
    QVL_TRY(qvl_pool_open(&pool, qvl_cpu_threads(), err));
    int rc = qvl_weights_widen(&m->weights, &m->config, vision, text, m->kernels, pool, &watch, err);
    qvl_pool_close(&pool);
    return rc;
}
