/* calibrate.c - requests from a file, run through the decoder as it is stored: what its matrices are multiplied by (moments.h).
 *
 * A line is a request in the form of qvl_session_add_json, or {"text": "..."}: text as it is, without a template, cut to the context. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/calibrate.h"

enum { MAX_CALIBRATION = 1 << 30 };

struct calibration {
    const char *path;
    char *base; /* folder of the file, for pictures */
    qvl_session *s;
    struct qvl_calibrated *out;
    struct qvl_watch watch;
};

/* Tokens of a text, window by window. */
static int run_text(struct calibration *c, const char *text, size_t len, qvl_err *err)
{
    struct qvl_session *s = c->s;
    struct qvl_stretch all = {.len = len, .trust = QVL_TRUST_NONE};
    struct qvl_ids ids = {0};
    int rc = qvl_tokenizer_encode(s->model->tokenizer, text, len, &all, 1, &ids, err);
    for (size_t at = 0; rc == 0 && at < ids.n;) {
        size_t n = ids.n - at < s->p.n_ctx ? ids.n - at : s->p.n_ctx;
        rc = qvl_sequence_reserve(&s->kv, s->p.n_ctx, err);
        if (rc < 0)
            break;
        qvl_sequence_clear(&s->kv);
        for (size_t i = 0; i < n; i++)
            qvl_sequence_add_text(&s->kv, ids.id[at + i]);
        for (size_t from = 0, to; rc == 0 && from < n; from = to) {
            to = from + s->p.n_chunk < n ? from + s->p.n_chunk : n;
            rc = qvl_decoder_step(s->decoder, &s->kv, (int64_t)from, (int64_t)to, 0, s->logits, NULL, NULL, err);
        }
        at += n;
        c->out->n_tokens += n;
    }
    qvl_sequence_clear(&s->kv);
    qvl_ids_free(&ids);
    return rc;
}

/* A conversation as its template writes it; an answer at its end is part of it. */
static int run_messages(struct calibration *c, const json_t *root, const char *line, size_t len, qvl_err *err)
{
    const json_t *list = json_is_object(root) ? json_object_get(root, "messages") : root;
    const char *role = json_string_value(json_object_get(json_array_get(list, json_array_size(list) - 1), "role"));
    qvl_gen_params g;
    qvl_result r = {0};
    qvl_gen_params_default(&g, NULL);
    g.max_tokens = 1; /* its logits come with the prompt's last token: nothing more is computed */
    g.no_generation_prompt = role && strcmp(role, "assistant") == 0;
    int rc = qvl_session_add_json(c->s, line, len, c->base, err);
    if (rc == 0)
        rc = qvl_session_generate(c->s, &g, &r, err);
    c->out->n_tokens += r.n_prompt;
    qvl_session_clear(c->s);
    qvl_sequence_clear(&c->s->kv); /* what requests have in common counts for each */
    return rc;
}

static int run_line(struct calibration *c, const char *line, size_t len, int number, qvl_err *err)
{
    json_t *root = NULL;
    char what[300];
    qvl_err why = {0};
    snprintf(what, sizeof what, "%.250s: line %d", c->path, number);
    QVL_TRY(qvl_json_parse(&root, line, len, what, err));
    const json_t *text = json_object_get(root, "text");
    int rc = json_is_string(text) ? run_text(c, json_string_value(text), json_string_length(text), &why)
                                  : run_messages(c, root, line, len, &why);
    json_decref(root);
    c->out->n_requests += rc == 0;
    return rc < 0 ? qvl_fail(err, rc, "%s: %s", what, why.msg) : 0;
}

static int run_lines(struct calibration *c, const char *text, size_t len, qvl_err *err)
{
    int number = 1;
    c->watch.total = len;
    for (size_t at = 0, n; at < len; at += n + 1, number++) {
        const char *end = memchr(text + at, '\n', len - at);
        n = end ? (size_t)(end - text) - at : len - at;
        if (strspn(text + at, " \t\r") < n)
            QVL_TRY(run_line(c, text + at, n, number, err));
        if (qvl_watch_tick(&c->watch, n + (end != NULL)))
            return qvl_fail(err, QVL_E_CANCELLED, "cancelled while the calibration ran");
    }
    return c->out->n_tokens ? 0 : qvl_fail(err, QVL_E_FORMAT, "%s: holds no request", c->path);
}

int qvl_calibrate(struct qvl_calibrated *out, qvl_model *m, const char *path, const qvl_session_params *p, struct qvl_watch *watch,
                  qvl_err *err)
{
    struct calibration c = {.path = path, .out = out, .watch = *watch};
    char *text = NULL;
    size_t len = 0;
    int rc;
    *out = (struct qvl_calibrated){0};
    QVL_TRY_DONE(qvl_file_read(&text, &len, path, MAX_CALIBRATION, err));
    c.base = qvl_path_dir(path);
    if (!c.base) {
        rc = qvl_fail_nomem(err, strlen(path), path);
        goto done;
    }
    QVL_TRY_DONE(qvl_moments_open(&out->moments, &m->config.text, err));
    QVL_TRY_DONE(qvl_session_open(&c.s, m, p, err));
    qvl_decoder_observe(c.s->decoder, out->moments);
    rc = run_lines(&c, text, len, err);
done:
    if (rc < 0)
        qvl_moments_close(&out->moments);
    qvl_session_close(&c.s);
    qvl_mem_free(c.base);
    qvl_mem_free(text);
    return rc;
}
