/* cmd_bench.c - qvl bench: the library's measurements as a table, JSON, CSV or Markdown. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

enum form { FORM_TABLE, FORM_JSON, FORM_CSV, FORM_MD };

struct sink {
    struct qvl_ui *ui;
    enum form form;
    int rows;
    json_t *list;
};

static const char *percent(char *out, size_t size, double share, const char *of)
{
    *out = 0;
    if (!isnan(share))
        snprintf(out, size, "%.0f %%%s%s", 100 * share, *of ? " of " : "", of);
    return out;
}

/* Four figures, never as a power of ten. */
static const char *value(char *out, size_t size, double v)
{
    int digits = v >= 1000 ? 0 : v >= 100 ? 1 : v >= 10 ? 2 : 3;
    snprintf(out, size, "%.*f", digits, v);
    return out;
}

static void csv_text(const char *s)
{
    putchar('"');
    for (; *s; s++)
        printf(*s == '"' ? "\"\"" : "%c", *s);
    putchar('"');
}

static void csv_row(const qvl_bench_row *r)
{
    csv_text(r->name);
    putchar(',');
    csv_text(r->what);
    printf(",%.9g,", r->value);
    csv_text(r->unit);
    if (isnan(r->share))
        fputs(",,", stdout);
    else
        printf(",%.4f,", r->share);
    csv_text(r->of);
    if (isnan(r->spread))
        puts(",");
    else
        printf(",%.4f\n", r->spread);
}

static void json_row(json_t *list, const qvl_bench_row *r)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(r->name));
    json_object_set_new(o, "what", json_string(r->what));
    json_object_set_new(o, "value", qvl_json_number(r->value));
    json_object_set_new(o, "unit", json_string(r->unit));
    json_object_set_new(o, "share", qvl_json_number(r->share));
    json_object_set_new(o, "of", json_string(r->of));
    json_object_set_new(o, "spread", qvl_json_number(r->spread));
    json_array_append_new(list, o);
}

static void on_row(void *ud, const qvl_bench_row *row)
{
    struct sink *s = ud;
    char share[128], spread[16], v[48];
    qvl_bench_row r = *row;
    r.what = r.what ? r.what : "";
    r.of = r.of ? r.of : "";
    qvl_ui_clear(s->ui);
    switch (s->form) {
    case FORM_JSON: json_row(s->list, &r); break;
    case FORM_CSV:
        if (!s->rows)
            puts("name,what,value,unit,share,of,spread");
        csv_row(&r);
        break;
    case FORM_MD:
        if (!s->rows)
            puts("| name | what | value | unit | spread | share |\n|---|---|---:|---|---:|---|");
        printf("| %s | %s | %s | %s | %s | %s |\n", r.name, r.what, value(v, sizeof v, r.value), r.unit,
               percent(spread, sizeof spread, r.spread, ""), percent(share, sizeof share, r.share, r.of));
        break;
    case FORM_TABLE:
        if (!s->rows)
            printf("%-12s %-32s %10s %-11s %7s  %s\n", "", "", "median", "", "spread", "share");
        printf("%-12s %-32s %10s %-11s %7s  %s\n", r.name, r.what, value(v, sizeof v, r.value), r.unit,
               percent(spread, sizeof spread, r.spread, ""), percent(share, sizeof share, r.share, r.of));
        break;
    }
    s->rows++;
    fflush(stdout); /* rows come slowly */
}

static enum form form_of(const struct qvl_options *o)
{
    if (!o->format)
        return o->json ? FORM_JSON : FORM_TABLE;
    return strcmp(o->format, "json") == 0 ? FORM_JSON
           : strcmp(o->format, "csv") == 0 ? FORM_CSV
           : strcmp(o->format, "md") == 0  ? FORM_MD
                                           : FORM_TABLE;
}

/* NULL when the option was not given: the library has the defaults. */
static const uint32_t *list(const struct qvl_numbers *v, size_t *n)
{
    *n = v->n;
    return v->given ? v->v : NULL;
}

int qvl_cmd_bench(const struct qvl_options *o, struct qvl_ui *ui)
{
    qvl_bench_params p;
    qvl_err err = {0};
    struct sink s = {.ui = ui, .form = form_of(o)};
    char named[1024];
    if (o->shape && o->args.n) {
        qvl_ui_error("give MODEL or --shape, not both (see qvl bench --help)");
        return QVL_EXIT_USAGE;
    }
    qvl_bench_params_default(&p);
    p.path = o->args.n ? o->args.v[0] : o->shape ? NULL : o->env_model;
    if (p.path && !(p.path = qvl_with_revision(named, sizeof named, o, p.path)))
        return QVL_EXIT_USAGE;
    if (!p.path)
        p.shape = o->shape ? o->shape : "4b";
    p.precision = qvl_precision_of(o->precision, p.precision);
    p.vision_precision = qvl_precision_of(o->vision_precision, p.vision_precision);
    p.cpu = o->cpu;
    p.kv = qvl_kv_of(o->kv);
    p.n_threads = (uint32_t)o->threads;
    p.n_threads_vision = (uint32_t)o->threads_vision;
    p.n_decode = (uint32_t)o->bench_decode;
    p.prompts = list(&o->bench_prompts, &p.n_prompts);
    p.prompt_depths = list(&o->bench_prompt_depths, &p.n_prompt_depths);
    p.depths = list(&o->bench_depths, &p.n_depths);
    p.images = list(&o->bench_images, &p.n_images);
    p.n_images /= 2;
    struct qvl_lora_options lora;
    int status = qvl_lora_read(&lora, o);
    if (status) {
        qvl_lora_free(&lora);
        return status;
    }
    p.lora = lora.v;
    p.n_lora = lora.n;
    if (ui->verbose)
        qvl_ui_note(ui, "qvl %s, %s%s, precision %s, cpu level %s", qvl_version(), p.path ? "model " : "random weights ",
                    p.path ? p.path : p.shape, o->precision ? o->precision : "auto", o->cpu ? o->cpu : "best");
    s.list = s.form == FORM_JSON ? json_array() : NULL;
    int rc = qvl_bench(&p, on_row, &s, &err);
    qvl_lora_free(&lora);
    if (rc < 0) {
        json_decref(s.list);
        return qvl_ui_close_out(ui, qvl_report(ui, rc, &err));
    }
    if (s.list)
        return qvl_print_json(ui, json_pack("{s:s, s:s, s:o}", "version", qvl_version(), "model", p.path ? p.path : p.shape,
                                            "rows", s.list), 2);
    return qvl_ui_close_out(ui, QVL_EXIT_OK);
}
