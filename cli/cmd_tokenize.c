/* cmd_tokenize.c - qvl tokenize: text -> ids, ids -> text, messages -> prompt. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

static int encode(const struct qvl_options *o, struct qvl_ui *ui, const qvl_model *m)
{
    char *text;
    size_t len, n;
    int32_t *ids;
    qvl_err err = {0};
    int rc = qvl_read_text(&text, &len, "-");
    if (rc)
        return rc;
    rc = qvl_tokenize(m, text, len, o->plain, &ids, &n, &err);
    free(text);
    if (rc < 0)
        return qvl_report(ui, rc, &err);
    putchar('[');
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i ? ", " : "", (int)ids[i]);
    puts("]");
    qvl_free(ids);
    return qvl_ui_close_out(ui, QVL_EXIT_OK);
}

/* "[1, 2, 3]" or "1 2 3"; fills at most len / 2 + 1 ids. */
static int parse_ids(const char *text, size_t len, int32_t *ids, size_t *n)
{
    const char *p = text, *end = text + len;
    int list = 0, closed = 0, comma = 0;
    *n = 0;
    for (;;) {
        while (p < end && (isspace((unsigned char)*p) || (*p == ',' && *n && !comma && !closed))) {
            comma |= *p == ',';
            p++;
        }
        if (p == end)
            break;
        if (*p == '[' && !list && !*n && !closed) {
            list = 1;
            p++;
            continue;
        }
        if (*p == ']' && list && !closed && !comma) {
            closed = 1;
            p++;
            continue;
        }
        char *stop;
        errno = 0;
        long v = closed || !(isdigit((unsigned char)*p) || *p == '-') ? -1 : strtol(p, &stop, 10);
        if (v < 0 || errno || v > INT32_MAX || (stop < end && !isspace((unsigned char)*stop) && *stop != ',' && *stop != ']')) {
            qvl_ui_error("standard input, byte %zu: found \"%.20s\", expected %s", (size_t)(p - text), p,
                         closed ? "the end" : "a token id");
            return QVL_EXIT_ERROR;
        }
        ids[(*n)++] = (int32_t)v;
        comma = 0;
        p = stop;
    }
    if (list == closed && !(comma && list))
        return 0;
    qvl_ui_error("standard input: the list of ids has no end");
    return QVL_EXIT_ERROR;
}

static int decode(const struct qvl_options *o, struct qvl_ui *ui, const qvl_model *m)
{
    char *text, *out;
    size_t len, n = 0, out_len;
    qvl_err err = {0};
    int rc = qvl_read_text(&text, &len, "-");
    if (rc)
        return rc;
    int32_t *ids = malloc((len / 2 + 1) * sizeof *ids);
    if (!ids) {
        qvl_ui_error("out of memory");
        rc = QVL_EXIT_MEMORY;
    } else {
        rc = parse_ids(text, len, ids, &n);
    }
    free(text);
    if (rc == 0) {
        rc = qvl_detokenize(m, ids, n, o->skip_special, &out, &out_len, &err);
        if (rc < 0) {
            rc = qvl_report(ui, rc, &err);
            rc = rc == QVL_EXIT_USAGE ? QVL_EXIT_ERROR : rc; /* an id out of range is bad data, not bad usage */
        } else {
            qvl_ui_out(ui, out, out_len);
            qvl_free(out);
        }
    }
    free(ids);
    return rc ? rc : qvl_ui_close_out(ui, QVL_EXIT_OK);
}

static int read_json(json_t **out, const char *path)
{
    char *text;
    size_t len;
    int rc = qvl_read_text(&text, &len, path);
    if (rc)
        return rc;
    rc = qvl_parse_json(out, text, len, path);
    free(text);
    return rc;
}

/* Messages with the options' wishes put into the object that qvl_render reads. */
static int merge_options(const struct qvl_options *o, char **text, size_t *len)
{
    json_t *root, *tools = NULL;
    int rc = qvl_parse_json(&root, *text, *len, o->template_file);
    if (rc == 0 && o->tools && (rc = read_json(&tools, o->tools)))
        json_decref(root);
    if (rc)
        return rc;
    if (json_is_object(tools) && json_object_get(tools, "tools")) {
        json_t *inner = json_incref(json_object_get(tools, "tools"));
        json_decref(tools);
        tools = inner;
    }
    if (!json_is_object(root)) {
        json_t *object = json_object();
        json_object_set_new(object, "messages", root);
        root = object;
    }
    if (tools)
        json_object_set_new(root, "tools", tools);
    if (o->no_generation_prompt)
        json_object_set_new(root, "add_generation_prompt", json_false());
    if (o->add_vision_id)
        json_object_set_new(root, "add_vision_id", json_true());
    free(*text);
    *text = json_dumps(root, 0);
    json_decref(root);
    if (!*text) {
        qvl_ui_error("out of memory");
        return QVL_EXIT_MEMORY;
    }
    *len = strlen(*text);
    return 0;
}

static int render(const struct qvl_options *o, struct qvl_ui *ui, const qvl_model *m)
{
    char *text = NULL, *out;
    size_t len, out_len;
    qvl_err err = {0};
    int rc = qvl_read_text(&text, &len, o->template_file);
    if (rc == 0 && (o->tools || o->no_generation_prompt || o->add_vision_id))
        rc = merge_options(o, &text, &len);
    if (rc == 0) {
        rc = qvl_render(m, text, len, &out, &out_len, &err);
        if (rc < 0) {
            rc = qvl_report(ui, rc, &err);
        } else {
            qvl_ui_out(ui, out, out_len);
            qvl_free(out);
        }
    }
    free(text);
    return rc ? rc : qvl_ui_close_out(ui, QVL_EXIT_OK);
}

static int check(const struct qvl_options *o)
{
    const char *wrong = NULL;
    if (o->decode && (o->template_file || o->plain))
        wrong = "--decode does not go with --template or --plain";
    else if (o->template_file && o->plain)
        wrong = "--plain does not go with --template";
    else if (o->skip_special && !o->decode)
        wrong = "--skip-special needs --decode";
    else if (!o->template_file && (o->tools || o->no_generation_prompt || o->add_vision_id))
        wrong = "--tools, --no-generation-prompt and --add-vision-id need --template";
    else if (o->tools && strcmp(o->tools, "-") == 0 && strcmp(o->template_file, "-") == 0)
        wrong = "standard input was asked for more than once";
    if (!wrong)
        return 0;
    qvl_ui_error("%s (see qvl tokenize --help)", wrong);
    return QVL_EXIT_USAGE;
}

int qvl_cmd_tokenize(const struct qvl_options *o, struct qvl_ui *ui)
{
    qvl_model *m = NULL;
    int rc = check(o);
    if (rc == 0)
        rc = qvl_open_model(&m, o, ui, qvl_model_path(o), 1, QVL_PRECISION_AUTO);
    if (rc == 0)
        rc = o->template_file ? render(o, ui, m) : o->decode ? decode(o, ui, m) : encode(o, ui, m);
    qvl_model_close(&m);
    return rc;
}
