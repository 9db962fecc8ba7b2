/* cmd_verify.c - qvl verify: goldens -> a table of errors, limits and verdicts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"
#include "interrupt.h"

enum { NAME_WIDTH = 22, SHAPE_WIDTH = 18 };

/* The rows of one golden on their way to the table or the JSON list. */
struct table {
    struct qvl_ui *ui;
    const char *golden;
    int quiet, head_shown;
    json_t *rows; /* NULL: a table on standard output */
};

static const char *verdict(int pass) { return pass == 1 ? "PASS" : pass == 0 ? "FAIL" : "-"; }

static const char *number(char *out, size_t size, double x)
{
    snprintf(out, size, isnan(x) ? "-" : x == 0 ? "0" : "%.2e", x);
    return out;
}

static const char *cosine(char *out, size_t size, double x)
{
    snprintf(out, size, isnan(x) ? "-" : "%.8f", x);
    return out;
}

static void show_head(struct table *t)
{
    if (t->head_shown)
        return;
    t->head_shown = 1;
    printf("%s\n  %-*s %-*s %9s %9s %11s %9s\n", t->golden, NAME_WIDTH, "tensor", SHAPE_WIDTH, "shape", "max abs", "rel L2",
           "min cosine", "limit");
}

static void add_json(json_t *rows, const qvl_verify_row *r)
{
    json_t *o = json_object();
    json_object_set_new(o, "tensor", json_string(r->name));
    json_object_set_new(o, "shape", json_string(r->shape));
    json_object_set_new(o, "max_abs", qvl_json_number(r->max_abs));
    json_object_set_new(o, "rel_l2", qvl_json_number(r->rel_l2));
    json_object_set_new(o, "min_cosine", qvl_json_number(r->min_cos));
    json_object_set_new(o, "limit", qvl_json_number(r->limit));
    json_object_set_new(o, "verdict", json_string(verdict(r->pass)));
    json_object_set_new(o, "note", json_string(r->note ? r->note : ""));
    json_array_append_new(rows, o);
}

static void on_row(void *ud, const qvl_verify_row *r)
{
    struct table *t = ud;
    char abs[32], l2[32], cos[32], limit[32];
    qvl_ui_clear(t->ui);
    if (t->rows) {
        add_json(t->rows, r);
        return;
    }
    if (t->quiet && r->pass != 0)
        return;
    show_head(t);
    printf("  %-*s %-*s %9s %9s %11s %9s  %s%s%s\n", NAME_WIDTH, r->name, SHAPE_WIDTH, r->shape,
           number(abs, sizeof abs, r->max_abs), number(l2, sizeof l2, r->rel_l2), cosine(cos, sizeof cos, r->min_cos),
           number(limit, sizeof limit, r->limit), verdict(r->pass), r->note && *r->note ? "  " : "", r->note ? r->note : "");
}

static int is_golden(const char *path)
{
    struct stat st;
    size_t n = strlen(path);
    return n > 12 && strcmp(path + n - 12, ".safetensors") == 0 && !(stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

static json_t *golden_json(const char *path, int passed, int rc, const qvl_err *err, json_t *rows)
{
    json_t *o = json_object();
    json_object_set_new(o, "golden", json_string(path));
    json_object_set_new(o, "pass", json_boolean(passed));
    json_object_set_new(o, "error", rc < 0 ? json_string(err->msg) : json_null());
    json_object_set_new(o, "tensors", rows);
    return o;
}

/* Runs every golden. Returns an exit status; *passed counts the good ones. */
static int run_goldens(const struct qvl_options *o, struct qvl_ui *ui, qvl_model *m, size_t first, json_t *list, size_t *passed)
{
    qvl_session_params p;
    int status = QVL_EXIT_OK;
    qvl_session_options(&p, o);
    for (size_t i = first; i < o->args.n; i++) {
        struct table t = {.ui = ui, .golden = o->args.v[i], .quiet = ui->quiet, .rows = list ? json_array() : NULL};
        qvl_err err = {0};
        int ok = 0, rc = qvl_verify(m, &p, t.golden, on_row, &t, &ok, &err);
        if (rc < 0) {
            ok = 0;
            int now = qvl_report(ui, rc, &err);
            status = status == QVL_EXIT_OK || status == QVL_EXIT_ERROR ? now : status;
        } else if (!ok && status == QVL_EXIT_OK) {
            status = QVL_EXIT_ERROR;
        }
        *passed += ok != 0;
        if (list)
            json_array_append_new(list, golden_json(t.golden, ok, rc, &err, t.rows));
        else
            fflush(stdout);
    }
    return status;
}

int qvl_cmd_verify(const struct qvl_options *o, struct qvl_ui *ui)
{
    /* With QVL_MODEL set the model may be left out. */
    size_t first = o->env_model && is_golden(o->args.v[0]) ? 0 : 1, passed = 0, n = o->args.n - first;
    qvl_model *m = NULL;
    if (!n) {
        qvl_ui_error("GOLDEN is missing (see qvl verify --help)");
        return QVL_EXIT_USAGE;
    }
    const char *path = first ? o->args.v[0] : o->env_model;
    int status = qvl_open_model(&m, o, ui, path, 0, qvl_model_is_packed(path) ? QVL_PRECISION_AUTO : QVL_PRECISION_F32);
    if (status)
        return status;
    qvl_model_info info = {.struct_size = sizeof info};
    qvl_model_get_info(m, &info, NULL);
    if (ui->verbose)
        qvl_ui_note(ui, "precision %s · cpu level %s", info.precision, info.cpu);
    json_t *list = o->json ? json_array() : NULL;
    status = run_goldens(o, ui, m, first, list, &passed);
    if (list) {
        json_t *all = json_object();
        json_object_set_new(all, "model", json_string(info.name));
        json_object_set_new(all, "precision", json_string(info.precision));
        json_object_set_new(all, "cpu", json_string(info.cpu));
        json_object_set_new(all, "passed", json_integer((json_int_t)passed));
        json_object_set_new(all, "total", json_integer((json_int_t)n));
        json_object_set_new(all, "goldens", list);
        int rc = qvl_print_json(ui, all, 2);
        status = rc ? rc : status;
    } else {
        printf("%zu of %zu goldens pass\n", passed, n);
    }
    qvl_model_close(&m);
    return qvl_ui_close_out(ui, status);
}
