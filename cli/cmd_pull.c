/* cmd_pull.c - qvl pull: rows of files on standard error, the snapshot's folder on standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "interrupt.h"

struct sink {
    struct qvl_ui *ui;
    json_t *files;      /* NULL: rows for people */
    size_t fetched, present;
    uint64_t bytes;     /* of the files fetched */
};

static const char *const words[] = {[QVL_PULL_PRESENT] = "present", [QVL_PULL_FETCHED] = "fetched", [QVL_PULL_RESUMED] = "resumed",
                                    [QVL_PULL_WAITING] = "waiting"};

static void on_file(void *ud, const qvl_pull_row *r)
{
    struct sink *s = ud;
    char size[32];
    int done = r->status == QVL_PULL_FETCHED || r->status == QVL_PULL_RESUMED;
    s->fetched += done;
    s->present += r->status == QVL_PULL_PRESENT;
    s->bytes += done ? r->bytes : 0;
    if (s->files && r->status != QVL_PULL_WAITING)
        json_array_append_new(s->files, json_pack("{s:s, s:I, s:s}", "name", r->name, "bytes", (json_int_t)r->bytes, "status", words[r->status]));
    if (r->status == QVL_PULL_WAITING)
        qvl_ui_note(s->ui, "%s: another process is downloading it; waiting", r->name);
    else if (done && !s->files)
        qvl_ui_note(s->ui, "%s  %s%s", r->name, qvl_ui_bytes(size, sizeof size, r->bytes), r->status == QVL_PULL_RESUMED ? "  resumed" : "");
}

static void tell_summary(const struct sink *s, double ms)
{
    char size[32], rate[32], time[32];
    if (s->fetched)
        qvl_ui_note(s->ui, "%zu file%s fetched, %zu present · %s in %s · %s/s", s->fetched, s->fetched == 1 ? "" : "s", s->present,
                    qvl_ui_bytes(size, sizeof size, s->bytes), qvl_ui_time(time, sizeof time, ms),
                    qvl_ui_bytes(rate, sizeof rate, ms > 0 ? (uint64_t)((double)s->bytes / ms * 1e3) : 0));
    else
        qvl_ui_note(s->ui, "all %zu files are present", s->present);
}

int qvl_cmd_pull(const struct qvl_options *o, struct qvl_ui *ui)
{
    struct sink s = {.ui = ui, .files = o->json ? json_array() : NULL};
    qvl_pull_params p;
    qvl_err err = {0};
    char *folder = NULL;
    double start = qvl_ui_now_ms();
    qvl_pull_params_default(&p);
    p.repo = o->args.v[0];
    p.revision = o->revision;
    p.include = o->include.v;
    p.n_include = o->include.n;
    p.exclude = o->exclude.v;
    p.n_exclude = o->exclude.n;
    p.n_jobs = (uint32_t)o->jobs;
    p.force = o->force;
    p.progress = qvl_ui_progress;
    p.progress_ud = ui;
    p.on_file = on_file;
    p.on_file_ud = &s;
    qvl_interrupt_mark();
    int rc = qvl_pull(&p, &folder, &err);
    qvl_interrupt_watch(NULL);
    qvl_ui_clear(ui);
    if (rc < 0) {
        json_decref(s.files);
        if (rc == QVL_E_CANCELLED)
            qvl_ui_note(ui, "stopped; what is there is kept: the same command goes on with it");
        int status = qvl_report(ui, rc, &err);
        return rc == QVL_E_NOTFOUND ? QVL_EXIT_MODEL : status;
    }
    double ms = qvl_ui_now_ms() - start;
    if (!s.files)
        tell_summary(&s, ms);
    else
        rc = qvl_print_json(ui, json_pack("{s:s, s:s, s:o, s:I, s:f}", "repo", p.repo, "path", folder, "files", s.files, "fetched_bytes",
                                          (json_int_t)s.bytes, "seconds", ms / 1e3), 2);
    if (!s.files)
        puts(folder);
    qvl_free(folder);
    return s.files ? rc : qvl_ui_close_out(ui, QVL_EXIT_OK);
}
