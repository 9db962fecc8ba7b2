/* cmd_pack.c - qvl pack: options -> a packed folder, and one line about it. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "interrupt.h"

static void tell(const struct qvl_options *o, struct qvl_ui *ui, const qvl_pack_result *r, double ms)
{
    char all[32], packed[32], time[32];
    qvl_ui_note(ui, "%s: %s, of which the packed decoder is %s; relative error of its weights %.2f %%; %s", o->output,
                qvl_ui_bytes(all, sizeof all, r->file_bytes), qvl_ui_bytes(packed, sizeof packed, r->packed_bytes), 100 * r->error,
                qvl_ui_time(time, sizeof time, ms));
}

int qvl_cmd_pack(const struct qvl_options *o, struct qvl_ui *ui)
{
    qvl_pack_params p;
    qvl_pack_result r = {.struct_size = sizeof r};
    qvl_err err = {0};
    double start = qvl_ui_now_ms();
    if (!o->output) {
        qvl_ui_error("-o DIR is missing (see qvl pack --help)");
        return QVL_EXIT_USAGE;
    }
    qvl_pack_params_default(&p);
    p.path = qvl_model_path(o);
    p.out = o->output;
    p.force = o->force;
    p.precision = qvl_precision_of(o->precision, QVL_PRECISION_AUTO);
    p.calibrate = o->calibrate;
    p.head = qvl_precision_of(o->head, QVL_PRECISION_AUTO);
    p.mmproj = o->mmproj;
    p.text = o->text;
    p.vision = o->vision;
    p.cpu = o->cpu;
    p.n_threads = (uint32_t)o->threads;
    p.progress = qvl_ui_progress;
    p.progress_ud = ui;
    qvl_interrupt_defer();
    int rc = qvl_pack(&p, &r, &err);
    qvl_interrupt_watch(NULL);
    qvl_ui_clear(ui);
    if (rc < 0) {
        rc = qvl_report(ui, rc, &err);
        return rc == QVL_EXIT_ERROR ? QVL_EXIT_MODEL : rc;
    }
    if (o->json)
        return qvl_print_json(ui, json_pack("{s:s, s:s, s:I, s:I, s:f}", "path", o->output, "model", p.path, "file_bytes",
                                            (json_int_t)r.file_bytes, "packed_bytes", (json_int_t)r.packed_bytes, "error", r.error), 2);
    tell(o, ui, &r, qvl_ui_now_ms() - start);
    return QVL_EXIT_OK;
}
