/* session_help.h - what the session tests share: the tiny model, a picture, one question. */
#ifndef QVL_TESTS_SESSION_HELP_H
#define QVL_TESTS_SESSION_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "qvl.h"

#define TINY QVL_SOURCE_DIR "/models/tiny"
#define PICTURE TINY "/examples/one-shape.png"
#define OTHER_PICTURE TINY "/examples/two-shapes.png"

static inline qvl_model_params tiny_params(qvl_precision precision)
{
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = TINY;
    p.precision = precision;
    return p;
}

static inline qvl_model *must_open(const qvl_model_params *p)
{
    qvl_model *m = NULL;
    qvl_err err = {0};
    if (qvl_model_open(&m, p, &err) < 0)
        fail_msg("%s", err.msg);
    return m;
}

static inline qvl_model *open_tiny(qvl_precision precision)
{
    qvl_model_params p = tiny_params(precision);
    return must_open(&p);
}

static inline qvl_session_params small_session(unsigned threads, unsigned chunk)
{
    qvl_session_params p;
    qvl_session_params_default(&p);
    p.n_threads = threads;
    p.n_chunk = chunk;
    p.n_ctx = 1024;
    return p;
}

static inline qvl_session *must_open_session(qvl_model *m, const qvl_session_params *p)
{
    qvl_session *s = NULL;
    qvl_err err = {0};
    if (qvl_session_open(&s, m, p, &err) < 0)
        fail_msg("%s", err.msg);
    return s;
}

static inline qvl_session *open_session(qvl_model *m, unsigned threads, unsigned chunk)
{
    qvl_session_params p = small_session(threads, chunk);
    return must_open_session(m, &p);
}

static inline int ask(qvl_session *s, const char *picture, const char *text, qvl_err *err)
{
    qvl_part part[2] = {{.kind = QVL_PART_IMAGE_FILE, .data = picture}, {.kind = QVL_PART_TEXT, .data = text, .len = strlen(text)}};
    return picture ? qvl_session_add(s, QVL_ROLE_USER, part, 2, err) : qvl_session_add(s, QVL_ROLE_USER, part + 1, 1, err);
}

/* Greedy answer; the ids are copied to ids[*n]. */
static inline qvl_result answer(qvl_session *s, unsigned max_tokens, int32_t *ids, size_t *n)
{
    qvl_gen_params g;
    qvl_result r = {0};
    qvl_err err = {0};
    qvl_gen_params_default(&g, NULL);
    g.max_tokens = max_tokens;
    if (qvl_session_generate(s, &g, &r, &err) < 0)
        fail_msg("%s", err.msg);
    if (ids) {
        assert_true(r.n_ids <= 256);
        memcpy(ids, r.ids, r.n_ids * sizeof *ids);
        *n = r.n_ids;
    }
    return r;
}

#endif
