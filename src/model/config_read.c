/* config_read.c - typed access to JSON fields. */
#include "model/config_read.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

const json_t *qvl_field(const struct qvl_fields *f, const char *key)
{
    const json_t *v = f->obj ? json_object_get(f->obj, key) : NULL;
    return v && !json_is_null(v) ? v : NULL;
}

int qvl_field_missing(const struct qvl_fields *f, const char *key)
{
    return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: missing", f->name, key);
}

static const char *kind(const json_t *v)
{
    static const char *const names[] = {"an object", "a list", "a string", "an integer", "a number with a fraction",
                                        "true", "false", "null"};
    return names[json_typeof(v)];
}

static int wrong(const struct qvl_fields *f, const char *key, const json_t *v, const char *expected)
{
    return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: found %s, expected %s", f->name, key, kind(v), expected);
}

static int check_int(const struct qvl_fields *f, const char *key, const json_t *v, int64_t lo, int64_t hi, int64_t *out)
{
    if (!json_is_integer(v))
        return wrong(f, key, v, "an integer");
    int64_t x = json_integer_value(v);
    if (x < lo || x > hi)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: found %" PRId64 ", expected %" PRId64 " to %" PRId64, f->name, key, x, lo,
                        hi);
    *out = x;
    return 0;
}

int qvl_field_int(const struct qvl_fields *f, const char *key, int64_t lo, int64_t hi, int64_t def, int64_t *out)
{
    const json_t *v = qvl_field(f, key);
    *out = def;
    if (v)
        return check_int(f, key, v, lo, hi, out);
    return def == QVL_REQUIRED ? qvl_field_missing(f, key) : 0;
}

int qvl_field_i32(const struct qvl_fields *f, const char *key, int lo, int hi, int64_t def, int *out)
{
    int64_t x;
    *out = 0;
    QVL_TRY(qvl_field_int(f, key, lo, hi, def, &x));
    *out = (int)x;
    return 0;
}

int qvl_field_real(const struct qvl_fields *f, const char *key, double lo, double hi, double *out)
{
    const json_t *v = qvl_field(f, key);
    if (!v)
        return 0;
    if (!json_is_number(v))
        return wrong(f, key, v, "a number");
    double x = json_number_value(v);
    if (!(x >= lo && x <= hi))
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: found %g, expected %g to %g", f->name, key, x, lo, hi);
    *out = x;
    return 0;
}

int qvl_field_bool(const struct qvl_fields *f, const char *key, int def, int *out)
{
    const json_t *v = qvl_field(f, key);
    *out = def;
    if (v && !json_is_boolean(v))
        return wrong(f, key, v, "true or false");
    if (v)
        *out = json_is_true(v);
    return 0;
}

int qvl_field_string(const struct qvl_fields *f, const char *key, const char **out)
{
    const json_t *v = qvl_field(f, key);
    *out = NULL;
    if (v && !json_is_string(v))
        return wrong(f, key, v, "a string");
    if (v)
        *out = json_string_value(v);
    return 0;
}

int qvl_field_ints(const struct qvl_fields *f, const char *key, int lo, int hi, int max, int lone, int *out, int *n)
{
    const json_t *v = qvl_field(f, key);
    int64_t x = 0;
    *n = -1;
    if (!v)
        return 0;
    if (lone && json_is_integer(v)) {
        QVL_TRY(check_int(f, key, v, lo, hi, &x));
        out[0] = (int)x;
        *n = 1;
        return 0;
    }
    if (!json_is_array(v))
        return wrong(f, key, v, lone ? "an integer or a list of integers" : "a list of integers");
    size_t len = json_array_size(v);
    if (len > (size_t)max)
        return qvl_fail(f->err, QVL_E_LIMIT, "%s: %s: found %zu entries, the limit is %d", f->name, key, len, max);
    for (size_t i = 0; i < len; i++) {
        QVL_TRY(check_int(f, key, json_array_get(v, i), lo, hi, &x));
        out[i] = (int)x;
    }
    *n = (int)len;
    return 0;
}

int qvl_field_object(const struct qvl_fields *f, const char *key, struct qvl_fields *out, char *buf, size_t size)
{
    const json_t *v = qvl_field(f, key);
    snprintf(buf, size, "%s: %s", f->name, key);
    *out = (struct qvl_fields){.obj = v, .name = buf, .err = f->err};
    if (v && !json_is_object(v))
        return wrong(f, key, v, "an object");
    return 0;
}
