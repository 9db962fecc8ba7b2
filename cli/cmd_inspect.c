/* cmd_inspect.c - qvl inspect: the library's JSON as text. Written for any keys: objects are indented blocks of aligned
 * names, a list of objects is a table with a column for each key. What is empty is left out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

enum { MAX_CELL = 160, MAX_COLUMNS = 16, MAX_DEPTH = 8, NAME_WIDTH = 24 };

static int ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* 89210 -> "89,210"; up to four digits stay as they are. */
static void grouped(char *out, size_t size, json_int_t v)
{
    char digits[32];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)(v < 0 ? -v : v)), at = 0;
    if (v < 0 && at + 1 < size)
        out[at++] = '-';
    for (size_t i = 0; i < n && at + 2 < size; i++) {
        if (i && n > 4 && (n - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
}

/* Numbers and texts with commas between them; anything deeper as JSON. */
static void list_cell(char *out, size_t size, const json_t *v)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(v) && n < size; i++) {
        const json_t *x = json_array_get(v, i);
        char *text = json_is_string(x) ? NULL : json_dumps(x, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        int k = snprintf(out + n, size - n, "%s%s", i ? ", " : "", json_is_string(x) ? json_string_value(x) : text ? text : "?");
        free(text);
        n += k > 0 ? (size_t)k : 0;
    }
    n = qvl_ui_strip(out, out, strlen(out), 0);
    out[n] = 0;
}

/* One value as text without line feeds. Sizes in bytes: in units, and exact where there is room. */
static void cell(char *out, size_t size, const char *key, const json_t *v, int in_table)
{
    char number[48], unit[32];
    *out = 0;
    switch (json_typeof(v)) {
    case JSON_STRING: {
        size_t n = qvl_ui_strip(out, json_string_value(v), json_string_length(v) < size ? json_string_length(v) : size - 1, 0);
        out[n] = 0;
        break;
    }
    case JSON_INTEGER:
        grouped(number, sizeof number, json_integer_value(v));
        if (ends_with(key, "bytes") && json_integer_value(v) >= 0) {
            qvl_ui_bytes(unit, sizeof unit, (uint64_t)json_integer_value(v));
            int exact = !in_table && json_integer_value(v) >= 1000;
            snprintf(out, size, exact ? "%s (%s bytes)" : "%s", unit, number);
        } else
            snprintf(out, size, "%s", number);
        break;
    case JSON_REAL: snprintf(out, size, "%.9g", json_real_value(v)); break;
    case JSON_TRUE: snprintf(out, size, "yes"); break;
    case JSON_FALSE: snprintf(out, size, "no"); break;
    case JSON_NULL: snprintf(out, size, "-"); break;
    case JSON_ARRAY: list_cell(out, size, v); break;
    case JSON_OBJECT: snprintf(out, size, "{...}"); break;
    }
}

static int is_empty(const json_t *v) { return json_is_array(v) ? !json_array_size(v) : !json_object_size(v); }

static int is_table(const json_t *v)
{
    if (!json_is_array(v) || !json_array_size(v))
        return 0;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_object(json_array_get(v, i)))
            return 0;
    return 1;
}

/* Characters, not bytes, so that columns stay in line. */
static int width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void pad(int n)
{
    if (n > 0)
        printf("%*s", n, "");
}

static void print_table(json_t *rows, int indent)
{
    const char *keys[MAX_COLUMNS];
    int widths[MAX_COLUMNS], n = 0;
    char text[MAX_CELL];
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *key;
        json_t *v;
        json_object_foreach(json_array_get(rows, i), key, v)
        {
            int k = 0;
            while (k < n && strcmp(keys[k], key) != 0)
                k++;
            if (k == MAX_COLUMNS)
                continue;
            if (k == n) {
                keys[n] = key;
                widths[n++] = width(key);
            }
            cell(text, sizeof text, key, v, 1);
            widths[k] = width(text) > widths[k] ? width(text) : widths[k];
        }
    }
    for (size_t i = 0; i <= json_array_size(rows); i++) {
        pad(indent);
        for (int k = 0; k < n; k++) {
            const json_t *v = i ? json_object_get(json_array_get(rows, i - 1), keys[k]) : NULL;
            if (v)
                cell(text, sizeof text, keys[k], v, 1);
            else
                snprintf(text, sizeof text, "%s", i ? "" : keys[k]);
            int room = widths[k] - width(text) + 2;
            int right = i ? json_is_number(v) : json_is_number(json_object_get(json_array_get(rows, 0), keys[k]));
            pad(right ? room - 2 : 0);
            fputs(text, stdout);
            pad(k + 1 == n ? 0 : right ? 2 : room);
        }
        putchar('\n');
    }
}

static void print_object(json_t *o, int indent, int depth)
{
    const char *key;
    json_t *v;
    char text[1024];
    json_object_foreach(o, key, v)
    {
        if (json_is_null(v) || ((json_is_array(v) || json_is_object(v)) && is_empty(v)))
            continue;
        pad(indent);
        if (is_table(v)) {
            printf("%s (%zu)\n", key, json_array_size(v));
            print_table(v, indent + 2);
        } else if (json_is_object(v) && json_object_size(v) && depth < MAX_DEPTH) {
            printf("%s\n", key);
            print_object(v, indent + 2, depth + 1);
        } else {
            cell(text, sizeof text, key, v, 0);
            printf("%-*s  %s\n", NAME_WIDTH - indent, key, text);
        }
    }
}

int qvl_cmd_inspect(const struct qvl_options *o, struct qvl_ui *ui)
{
    char *text = NULL;
    json_t *root;
    qvl_err err = {0};
    char named[1024];
    const char *path = qvl_with_revision(named, sizeof named, o, o->args.v[0]);
    if (!path)
        return QVL_EXIT_USAGE;
    int rc = qvl_inspect(path, &text, &err);
    if (rc < 0) {
        rc = qvl_report(ui, rc, &err);
        return rc == QVL_EXIT_ERROR ? QVL_EXIT_MODEL : rc;
    }
    rc = qvl_parse_json(&root, text, strlen(text), o->args.v[0]);
    qvl_free(text);
    if (rc)
        return rc;
    if (o->json)
        return qvl_print_json(ui, root, 2);
    if (json_is_object(root))
        print_object(root, 0, 0);
    json_decref(root);
    return qvl_ui_close_out(ui, QVL_EXIT_OK);
}
