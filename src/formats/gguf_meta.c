/* gguf_meta.c - reading values of GGUF metadata by key and type. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "formats/gguf_file.h"

const struct qvl_gguf_value *qvl_gguf_find(const struct qvl_gguf *g, const char *key)
{
    size_t lo = 0, hi = g->n_kv;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(key, g->kv[mid].key);
        if (c == 0)
            return &g->kv[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

int qvl_gguf_has(const struct qvl_gguf *g, const char *key) { return qvl_gguf_find(g, key) != NULL; }

int qvl_gguf_missing(const struct qvl_gguf *g, const char *key, qvl_err *err)
{
    return qvl_fail(err, QVL_E_FORMAT, "%s: %s: missing", qvl_gguf_path(g), key);
}

static int wrong_type(const struct qvl_gguf *g, const struct qvl_gguf_value *v, const char *expected, qvl_err *err)
{
    return qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %s%s, expected %s", qvl_gguf_path(g), v->key,
                    v->is_list ? "a list of " : "", qvl_gguf_types[v->type].name, expected);
}

static uint64_t bits_at(const struct qvl_gguf_value *v, size_t i)
{
    unsigned width = qvl_gguf_types[v->type].bytes;
    const unsigned char *p = v->data + i * width;
    uint64_t u = 0;
    for (unsigned k = width; k-- > 0;)
        u = u << 8 | p[k];
    return u;
}

/* Returns 0 when element i is no integer, or none that fits. */
static int int_at(const struct qvl_gguf_value *v, size_t i, int64_t *out)
{
    switch (v->type) {
    case QVL_GGUF_U8: case QVL_GGUF_U16: case QVL_GGUF_U32: *out = (int64_t)bits_at(v, i); return 1;
    case QVL_GGUF_I8: *out = (int8_t)bits_at(v, i); return 1;
    case QVL_GGUF_I16: *out = (int16_t)bits_at(v, i); return 1;
    case QVL_GGUF_I32: *out = (int32_t)bits_at(v, i); return 1;
    case QVL_GGUF_I64: *out = (int64_t)bits_at(v, i); return 1;
    case QVL_GGUF_U64: *out = (int64_t)bits_at(v, i); return *out >= 0;
    case QVL_GGUF_F32: case QVL_GGUF_F64: case QVL_GGUF_BOOL: case QVL_GGUF_STRING: case QVL_GGUF_ARRAY: case QVL_GGUF_N_TYPES:
    default: return 0;
    }
}

static int real_at(const struct qvl_gguf_value *v, size_t i, double *out)
{
    if (v->type == QVL_GGUF_F32) {
        uint32_t u = (uint32_t)bits_at(v, i);
        float f;
        memcpy(&f, &u, 4);
        *out = (double)f;
        return 1;
    }
    if (v->type == QVL_GGUF_F64) {
        uint64_t u = bits_at(v, i);
        memcpy(out, &u, 8);
        return 1;
    }
    return 0;
}

static int range_int(const struct qvl_gguf *g, const struct qvl_gguf_value *v, size_t i, int64_t lo, int64_t hi,
                     int64_t *out, qvl_err *err)
{
    if (!int_at(v, i, out))
        return wrong_type(g, v, "integers", err);
    if (*out < lo || *out > hi)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %" PRId64 ", expected %" PRId64 " to %" PRId64, qvl_gguf_path(g),
                        v->key, *out, lo, hi);
    return 0;
}

int qvl_gguf_int(const struct qvl_gguf *g, const char *key, int64_t lo, int64_t hi, int64_t def, int64_t *out, qvl_err *err)
{
    const struct qvl_gguf_value *v = qvl_gguf_find(g, key);
    *out = def;
    if (!v)
        return def == QVL_GGUF_REQUIRED ? qvl_gguf_missing(g, key, err) : 0;
    if (!v->count)
        return wrong_type(g, v, "an integer", err);
    QVL_TRY(range_int(g, v, 0, lo, hi, out, err));
    for (size_t i = 1; i < v->count; i++) {
        int64_t other;
        QVL_TRY(range_int(g, v, i, lo, hi, &other, err));
        if (other != *out)
            return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: found different values by layer (%" PRId64 " and %" PRId64 ")",
                            qvl_gguf_path(g), key, *out, other);
    }
    return 0;
}

int qvl_gguf_i32(const struct qvl_gguf *g, const char *key, int lo, int hi, int64_t def, int *out, qvl_err *err)
{
    int64_t v;
    QVL_TRY(qvl_gguf_int(g, key, lo, hi, def, &v, err));
    *out = (int)v;
    return 0;
}

static int range_real(const struct qvl_gguf *g, const struct qvl_gguf_value *v, size_t i, double lo, double hi, double *out,
                      qvl_err *err)
{
    double x = 0;
    if (!real_at(v, i, &x))
        return wrong_type(g, v, "floating point", err);
    if (!(x >= lo && x <= hi))
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %g, expected %g to %g", qvl_gguf_path(g), v->key, x, lo, hi);
    *out = x;
    return 0;
}

int qvl_gguf_real(const struct qvl_gguf *g, const char *key, double lo, double hi, double *out, qvl_err *err)
{
    const struct qvl_gguf_value *v = qvl_gguf_find(g, key);
    if (!v)
        return 0;
    return v->is_list ? wrong_type(g, v, "one number", err) : range_real(g, v, 0, lo, hi, out, err);
}

int qvl_gguf_bool(const struct qvl_gguf *g, const char *key, int def, int *out, qvl_err *err)
{
    const struct qvl_gguf_value *v = qvl_gguf_find(g, key);
    *out = def;
    if (!v)
        return 0;
    if (v->type != QVL_GGUF_BOOL || v->is_list)
        return wrong_type(g, v, "bool", err);
    *out = *v->data != 0;
    return 0;
}

int qvl_gguf_string(const struct qvl_gguf *g, const char *key, struct qvl_gguf_text *out, qvl_err *err)
{
    const struct qvl_gguf_value *v = qvl_gguf_find(g, key);
    *out = (struct qvl_gguf_text){0};
    if (!v)
        return 0;
    if (v->type != QVL_GGUF_STRING || v->is_list)
        return wrong_type(g, v, "string", err);
    *out = (struct qvl_gguf_text){(const char *)v->data, v->bytes};
    return 0;
}

/* The list of a key with at most max elements. */
static int find_list(const struct qvl_gguf *g, const char *key, size_t max, const struct qvl_gguf_value **out, qvl_err *err)
{
    const struct qvl_gguf_value *v = *out = qvl_gguf_find(g, key);
    if (v && !v->is_list)
        return wrong_type(g, v, "a list", err);
    if (v && v->count > max)
        return qvl_fail(err, QVL_E_LIMIT, "%s: %s: found %zu elements, expected at most %zu", qvl_gguf_path(g), key,
                        v->count, max);
    return 0;
}

int qvl_gguf_ints(const struct qvl_gguf *g, const char *key, int lo, int hi, int max, int *out, int *n, qvl_err *err)
{
    const struct qvl_gguf_value *v;
    *n = -1;
    QVL_TRY(find_list(g, key, (size_t)max, &v, err));
    for (size_t i = 0; v && i < v->count; i++) {
        int64_t x = 0;
        QVL_TRY(range_int(g, v, i, lo, hi, &x, err));
        out[i] = (int)x;
    }
    *n = v ? (int)v->count : -1;
    return 0;
}

int qvl_gguf_reals(const struct qvl_gguf *g, const char *key, double lo, double hi, int max, float *out, int *n, qvl_err *err)
{
    const struct qvl_gguf_value *v;
    *n = -1;
    QVL_TRY(find_list(g, key, (size_t)max, &v, err));
    for (size_t i = 0; v && i < v->count; i++) {
        double x = 0;
        QVL_TRY(range_real(g, v, i, lo, hi, &x, err));
        out[i] = (float)x;
    }
    *n = v ? (int)v->count : -1;
    return 0;
}

int qvl_gguf_bools(const struct qvl_gguf *g, const char *key, int max, uint8_t *out, int *n, qvl_err *err)
{
    const struct qvl_gguf_value *v;
    *n = -1;
    QVL_TRY(find_list(g, key, (size_t)max, &v, err));
    if (v && v->type != QVL_GGUF_BOOL)
        return wrong_type(g, v, "a list of bool", err);
    for (size_t i = 0; v && i < v->count; i++)
        out[i] = v->data[i] != 0;
    *n = v ? (int)v->count : -1;
    return 0;
}

int qvl_gguf_strings(const struct qvl_gguf *g, const char *key, struct qvl_gguf_list *list, qvl_err *err)
{
    const struct qvl_gguf_value *v;
    *list = (struct qvl_gguf_list){0};
    QVL_TRY(find_list(g, key, SIZE_MAX, &v, err));
    if (v && v->type != QVL_GGUF_STRING)
        return wrong_type(g, v, "a list of strings", err);
    if (v)
        *list = (struct qvl_gguf_list){.at = v->data, .end = v->data + v->bytes, .left = v->count};
    return 0;
}

int qvl_gguf_next(struct qvl_gguf_list *list, struct qvl_gguf_text *out)
{
    uint64_t len = 0;
    if (!list->left) /* lengths were checked against the end when the file was opened */
        return 0;
    for (int i = 8; i-- > 0;)
        len = len << 8 | list->at[i];
    *out = (struct qvl_gguf_text){(const char *)list->at + 8, (size_t)len};
    list->at += 8 + len;
    list->left--;
    return 1;
}

int qvl_gguf_text_is(struct qvl_gguf_text t, const char *s) { return t.s && t.len == strlen(s) && memcmp(t.s, s, t.len) == 0; }

/* ---------------------------------------------------------------- for people */

static size_t put(char *buf, size_t size, size_t at, const char *s, size_t len)
{
    for (size_t i = 0; i < len && at + 1 < size; i++)
        buf[at++] = s[i] ? s[i] : ' ';
    buf[at] = 0;
    return at;
}

static size_t put_element(const struct qvl_gguf_value *v, size_t i, char *buf, size_t size, size_t at)
{
    char num[40];
    int64_t n;
    double x = 0;
    if (v->type == QVL_GGUF_BOOL)
        return put(buf, size, at, v->data[i] ? "true" : "false", v->data[i] ? 4 : 5);
    if (int_at(v, i, &n))
        snprintf(num, sizeof num, "%" PRId64, n);
    else if (real_at(v, i, &x))
        snprintf(num, sizeof num, "%.9g", x);
    else
        snprintf(num, sizeof num, "%" PRIu64, bits_at(v, i));
    return put(buf, size, at, num, strlen(num));
}

size_t qvl_gguf_value_text(const struct qvl_gguf_value *v, char *buf, size_t size)
{
    const size_t room = size - sizeof "...";
    char head[64];
    size_t at = 0, shown = v->count < 16 ? v->count : 16;
    buf[0] = 0;
    if (!v->is_list && v->type != QVL_GGUF_STRING)
        return put_element(v, 0, buf, size, 0);
    if (!v->is_list) {
        at = put(buf, v->bytes < size ? size : room, 0, (const char *)v->data, v->bytes);
        return v->bytes < size ? at : put(buf, size, at, "...", 3);
    }
    snprintf(head, sizeof head, "%s[%zu]", qvl_gguf_types[v->type].name, v->count);
    at = put(buf, size, 0, head, strlen(head));
    if (v->type == QVL_GGUF_STRING)
        return at;
    for (size_t i = 0; i < shown; i++) {
        at = put(buf, room, at, i ? ", " : ": ", 2);
        at = put_element(v, i, buf, room, at);
    }
    return shown < v->count || at + 1 >= room ? put(buf, size, at, "...", 3) : at;
}
