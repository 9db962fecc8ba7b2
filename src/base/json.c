/* json.c - JSON in through jansson, JSON out in Python's spelling. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

static int parse(json_t **out, const char *text, size_t len, size_t flags, const char *what, qvl_err *err)
{
    json_error_t e;
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | flags, &e);
    if (*out)
        return 0;
    if (json_error_code(&e) == json_error_out_of_memory || !e.text[0]) /* jansson names every mistake but this one */
        return qvl_fail_nomem(err, len, what);
    return qvl_fail(err, QVL_E_FORMAT, "%s: line %d: %s", what, e.line, e.text);
}

int qvl_json_parse(json_t **out, const char *text, size_t len, const char *what, qvl_err *err)
{
    return parse(out, text, len, 0, what, err);
}

static int read_file(json_t **out, const char *path, size_t max, size_t flags, qvl_err *err)
{
    char *text;
    size_t len;
    *out = NULL;
    QVL_TRY(qvl_file_read(&text, &len, path, max, err));
    int rc = parse(out, text, len, flags, path, err);
    qvl_mem_free(text);
    return rc;
}

int qvl_json_read(json_t **out, const char *path, size_t max, qvl_err *err) { return read_file(out, path, max, 0, err); }

int qvl_json_read_texts(json_t **out, const char *path, size_t max, qvl_err *err)
{
    return read_file(out, path, max, JSON_DECODE_INT_AS_REAL, err);
}

int qvl_json_quote(struct qvl_buf *b, const char *s, size_t len)
{
    qvl_buf_putc(b, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        switch (c) {
        case '"': qvl_buf_puts(b, "\\\""); break;
        case '\\': qvl_buf_puts(b, "\\\\"); break;
        case '\n': qvl_buf_puts(b, "\\n"); break;
        case '\r': qvl_buf_puts(b, "\\r"); break;
        case '\t': qvl_buf_puts(b, "\\t"); break;
        case '\b': qvl_buf_puts(b, "\\b"); break;
        case '\f': qvl_buf_puts(b, "\\f"); break;
        default:
            if (c < 0x20)
                qvl_buf_printf(b, "\\u%04x", c);
            else
                qvl_buf_putc(b, c);
        }
    }
    return qvl_buf_putc(b, '"');
}

/* Python's repr of a float: the shortest digits that read back to the same value; exponent form from 1e16 upwards and
 * below 1e-4. */
static int put_double(struct qvl_buf *b, double v)
{
    char digits[40];
    int prec = 0;
    for (; prec < 17; prec++) {
        snprintf(digits, sizeof digits, "%.*e", prec, v);
        if (strtod(digits, NULL) == v)
            break;
    }
    int exp = atoi(strchr(digits, 'e') + 1);
    if (v != 0 && (exp < -4 || exp >= 16)) {
        char *e = strchr(digits, 'e');
        *e = 0;
        return qvl_buf_printf(b, "%se%c%02d", digits, exp < 0 ? '-' : '+', abs(exp));
    }
    int decimals = prec - exp;
    return qvl_buf_printf(b, "%.*f", decimals < 1 ? 1 : decimals, v);
}

int qvl_json_dump_python(struct qvl_buf *b, const json_t *value)
{
    size_t i = 0, n;
    const char *key;
    json_t *v;
    switch (json_typeof(value)) {
    case JSON_OBJECT: {
        qvl_buf_putc(b, '{');
        json_t *obj;
        memcpy(&obj, &value, sizeof obj); /* jansson's iteration takes non-const pointers and does not write */
        json_object_foreach(obj, key, v) {
            if (i++)
                qvl_buf_puts(b, ", ");
            qvl_json_quote(b, key, strlen(key));
            qvl_buf_puts(b, ": ");
            qvl_json_dump_python(b, v);
        }
        return qvl_buf_putc(b, '}');
    }
    case JSON_ARRAY:
        qvl_buf_putc(b, '[');
        n = json_array_size(value);
        for (i = 0; i < n; i++) {
            if (i)
                qvl_buf_puts(b, ", ");
            qvl_json_dump_python(b, json_array_get(value, i));
        }
        return qvl_buf_putc(b, ']');
    case JSON_STRING: return qvl_json_quote(b, json_string_value(value), json_string_length(value));
    case JSON_INTEGER: return qvl_buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    case JSON_REAL: return put_double(b, json_real_value(value));
    case JSON_TRUE: return qvl_buf_puts(b, "true");
    case JSON_FALSE: return qvl_buf_puts(b, "false");
    case JSON_NULL: default: return qvl_buf_puts(b, "null");
    }
}
