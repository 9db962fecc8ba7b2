/* command.c - what the commands share: opening models, files, JSON, exit statuses. */
#include "command.h"
#include "interrupt.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILE ((size_t)1 << 30)

int qvl_report(struct qvl_ui *ui, int rc, const qvl_err *err)
{
    if (ui)
        qvl_ui_clear(ui);
    if (rc != QVL_E_CANCELLED)
        qvl_ui_error("%s", err->msg[0] ? err->msg : qvl_strerror(rc));
    switch (rc) {
    case QVL_E_CANCELLED: return QVL_EXIT_INTERRUPTED;
    case QVL_E_NOMEM: return QVL_EXIT_MEMORY;
    case QVL_E_ARG: return QVL_EXIT_USAGE;
    default: return QVL_EXIT_ERROR;
    }
}

qvl_precision qvl_precision_of(const char *name, qvl_precision fallback)
{
    static const struct {
        const char *name;
        qvl_precision precision;
    } known[] = {{"f32", QVL_PRECISION_F32}, {"bf16", QVL_PRECISION_BF16}, {"q8", QVL_PRECISION_Q8}, {"q4", QVL_PRECISION_Q4}};
    if (!name)
        return fallback;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].precision;
    return QVL_PRECISION_AUTO;
}

qvl_kv_type qvl_kv_of(const char *name)
{
    return !name                       ? QVL_KV_AUTO
           : strcmp(name, "f32") == 0  ? QVL_KV_F32
           : strcmp(name, "bf16") == 0 ? QVL_KV_BF16
           : strcmp(name, "int8") == 0 ? QVL_KV_INT8
                                       : QVL_KV_AUTO;
}

const char *qvl_model_path(const struct qvl_options *o) { return o->args.n ? o->args.v[0] : o->env_model; }

const char *qvl_with_revision(char *buf, size_t size, const struct qvl_options *o, const char *model)
{
    if (!o->revision)
        return model;
    const char *at = strchr(model, '@');
    if (access(model, F_OK) == 0)
        qvl_ui_error("--revision: %s is a path; a revision goes with the name of a model", model);
    else if (at && strcmp(at + 1, o->revision) != 0)
        qvl_ui_error("--revision %s: %s names another one", o->revision, model);
    else if (snprintf(buf, size, "%.*s@%s", at ? (int)(at - model) : (int)strlen(model), model, o->revision) >= (int)size)
        qvl_ui_error("--revision: is too long");
    else
        return buf;
    return NULL;
}

/* "DIR:0.5": what stands behind the last colon is a scale when it is a number and the whole is no path. */
static double take_scale(char *path)
{
    char *colon = strrchr(path, ':'), *end = NULL;
    if (!colon || !colon[1] || access(path, F_OK) == 0)
        return 1;
    double scale = strtod(colon + 1, &end);
    if (*end || !isfinite(scale))
        return 1;
    *colon = 0;
    return scale;
}

int qvl_lora_read(struct qvl_lora_options *l, const struct qvl_options *o)
{
    *l = (struct qvl_lora_options){0};
    if (o->lora.n > QVL_MAX_LORA) {
        qvl_ui_error("--lora: found %zu adapters, expected at most %d", o->lora.n, (int)QVL_MAX_LORA);
        return QVL_EXIT_USAGE;
    }
    for (; l->n < o->lora.n; l->n++) {
        char *path = strdup(o->lora.v[l->n]);
        if (!path) {
            qvl_ui_error("out of memory");
            return QVL_EXIT_MEMORY;
        }
        l->path[l->n] = path;
        l->v[l->n].scale = take_scale(path);
        l->v[l->n].path = path;
    }
    return 0;
}

void qvl_lora_free(struct qvl_lora_options *l)
{
    while (l->n)
        free(l->path[--l->n]);
}

/* What the library found odd about the model, a line each. */
static void tell_warnings(struct qvl_ui *ui, const qvl_model *m)
{
    qvl_model_info info = {.struct_size = sizeof info};
    if (qvl_model_get_info(m, &info, NULL) < 0 || !info.warnings)
        return;
    for (const char *p = info.warnings; *p;) {
        int n = (int)strcspn(p, "\n");
        if (n)
            qvl_ui_note(ui, "warning: %.*s", n, p);
        p += n + (p[n] == '\n');
    }
}

void qvl_model_options(qvl_model_params *p, const struct qvl_options *o, struct qvl_ui *ui, const char *path,
                       qvl_precision fallback)
{
    qvl_model_params_default(p);
    p->path = path;
    p->precision = qvl_precision_of(o->precision, fallback);
    p->vision_precision = qvl_precision_of(o->vision_precision, QVL_PRECISION_AUTO);
    p->mmproj = o->mmproj;
    p->text = o->text;
    p->vision = o->vision;
    p->no_cache = o->no_cache;
    p->cpu = o->cpu;
    p->no_memory_check = o->no_memory_check;
    p->progress = qvl_ui_progress;
    p->progress_ud = ui;
}

/* What packing the decoder's weights cost, when they were packed in this run and it cost anything. */
static void tell_packing(struct qvl_ui *ui, const qvl_model *m)
{
    qvl_model_info info = {.struct_size = sizeof info};
    if (qvl_model_get_info(m, &info, NULL) == 0 && info.pack_error > 0)
        qvl_ui_note(ui, "weights packed: %s, relative error %.2g %%", info.precision, 100 * info.pack_error);
}

int qvl_open_model(qvl_model **m, const struct qvl_options *o, struct qvl_ui *ui, const char *path, int no_weights,
                   qvl_precision fallback)
{
    qvl_err err = {0};
    qvl_model_params p;
    struct qvl_lora_options lora;
    char named[1024];
    path = qvl_with_revision(named, sizeof named, o, path);
    if (!path)
        return QVL_EXIT_USAGE;
    int status = qvl_lora_read(&lora, o);
    if (status) {
        qvl_lora_free(&lora);
        return status;
    }
    qvl_model_options(&p, o, ui, path, fallback);
    p.no_weights = no_weights;
    p.lora = lora.v;
    p.n_lora = lora.n;
    qvl_interrupt_defer(); /* packed weights that are half written are removed */
    int rc = qvl_model_open(m, &p, &err);
    if (rc == 0 && qvl_interrupt_pending()) {
        qvl_model_close(m);
        rc = QVL_E_CANCELLED;
    }
    qvl_interrupt_watch(NULL);
    qvl_lora_free(&lora);
    qvl_ui_clear(ui);
    if (rc == 0) {
        tell_warnings(ui, *m);
        tell_packing(ui, *m);
        return 0;
    }
    status = qvl_report(ui, rc, &err);
    return status == QVL_EXIT_ERROR ? QVL_EXIT_MODEL : status;
}

void qvl_session_options(qvl_session_params *p, const struct qvl_options *o)
{
    qvl_session_params_default(p);
    p->n_ctx = (uint32_t)o->context;
    p->n_threads = (uint32_t)o->threads;
    p->n_threads_vision = (uint32_t)o->threads_vision;
    p->min_pixels = o->min_pixels;
    p->max_pixels = o->max_pixels;
    p->alpha = o->alpha && strcmp(o->alpha, "drop") == 0 ? QVL_ALPHA_DROP : QVL_ALPHA_WHITE;
    p->add_vision_id = o->add_vision_id;
    p->no_memory_check = o->no_memory_check;
    p->image_cache = o->image_cache;
    p->kv = qvl_kv_of(o->kv);
}

static int read_failed(FILE *f, char *buf, const char *shown, const char *why, int status)
{
    qvl_ui_error("%s: %s", shown, why);
    if (f && f != stdin)
        fclose(f);
    free(buf);
    return status;
}

int qvl_read_text(char **text, size_t *len, const char *path)
{
    int is_stdin = strcmp(path, "-") == 0;
    const char *shown = is_stdin ? "standard input" : path;
    size_t n = 0, cap = 1 << 16;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    if (!f)
        return read_failed(NULL, NULL, shown, strerror(errno), QVL_EXIT_ERROR);
    char *buf = malloc(cap);
    if (!buf)
        return read_failed(f, NULL, shown, "out of memory", QVL_EXIT_MEMORY);
    for (;;) {
        n += fread(buf + n, 1, cap - 1 - n, f);
        if (ferror(f))
            return read_failed(f, buf, shown, strerror(errno), QVL_EXIT_ERROR);
        if (n < cap - 1)
            break;
        if (n >= MAX_FILE)
            return read_failed(f, buf, shown, "larger than 1 GB", QVL_EXIT_ERROR);
        char *more = realloc(buf, cap * 2);
        if (!more)
            return read_failed(f, buf, shown, "out of memory", QVL_EXIT_MEMORY);
        buf = more;
        cap *= 2;
    }
    if (f != stdin)
        fclose(f);
    buf[n] = 0;
    *text = buf;
    *len = n;
    return 0;
}

int qvl_parse_json(json_t **out, const char *text, size_t len, const char *path)
{
    json_error_t e;
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (*out)
        return 0;
    qvl_ui_error("%s: line %d, column %d: %s", strcmp(path, "-") == 0 ? "standard input" : path, e.line, e.column, e.text);
    return QVL_EXIT_ERROR;
}

int qvl_print_json(struct qvl_ui *ui, json_t *value, int indent)
{
    char *text = value ? json_dumps(value, (size_t)(indent ? JSON_INDENT(indent) : 0) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (!text) {
        qvl_ui_error("out of memory");
        return QVL_EXIT_MEMORY;
    }
    puts(text);
    free(text);
    return qvl_ui_close_out(ui, QVL_EXIT_OK);
}

json_t *qvl_json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }
