/* cmd_export.c - qvl export: a model as GGUF files. */
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "interrupt.h"

static void tell_file(struct qvl_ui *ui, const char *path, uint64_t bytes, double loss)
{
    char size[32], cost[64] = "";
    if (loss > 1e-6) /* below, all but the tiniest weights are as they were */
        snprintf(cost, sizeof cost, ", relative error of the weights %.2g %%", 100 * loss);
    qvl_ui_note(ui, "%s: %s%s", path, qvl_ui_bytes(size, sizeof size, bytes), cost);
}

static json_t *file_json(const char *path, uint64_t bytes, double loss)
{
    return json_pack("{s:s, s:I, s:f}", "path", path, "bytes", (json_int_t)bytes, "relative_rms_error", loss);
}

int qvl_cmd_export(const struct qvl_options *o, struct qvl_ui *ui)
{
    qvl_model_params model;
    qvl_export_params p;
    qvl_export_result r = {.struct_size = sizeof r};
    qvl_err err = {0};
    char named[1024];
    const char *path;
    if (!o->gguf || !o->output) {
        qvl_ui_error("export: %s", o->gguf ? "-o PATH says where to write" : "say what to write: --gguf");
        return QVL_EXIT_USAGE;
    }
    path = qvl_with_revision(named, sizeof named, o, qvl_model_path(o));
    if (!path)
        return QVL_EXIT_USAGE;
    qvl_model *m = NULL; /* without weights: tells whether there is such a model, with the exit status that says so */
    int status = qvl_open_model(&m, o, ui, path, 1, QVL_PRECISION_AUTO);
    qvl_model_close(&m);
    if (status)
        return status;
    qvl_model_options(&model, o, ui, path, QVL_PRECISION_AUTO);
    qvl_export_params_default(&p);
    p.out = o->output;
    p.type = o->type;
    p.mmproj_type = o->mmproj_type;
    p.force = o->force;
    p.progress = qvl_ui_progress;
    p.progress_ud = ui;
    qvl_interrupt_collect(); /* Ctrl-C ends the writing, which then removes what is unfinished */
    int rc = qvl_export_gguf(&model, &p, &r, &err);
    qvl_ui_clear(ui);
    if (rc < 0)
        return qvl_report(ui, rc, &err);
    status = QVL_EXIT_OK;
    if (o->json) {
        status = qvl_print_json(ui,
                                json_pack("{s:o, s:o}", "text", file_json(r.text_path, r.text_bytes, r.text_loss), "mmproj",
                                          file_json(r.mmproj_path, r.mmproj_bytes, r.mmproj_loss)),
                                2);
    } else {
        tell_file(ui, r.text_path, r.text_bytes, r.text_loss);
        tell_file(ui, r.mmproj_path, r.mmproj_bytes, r.mmproj_loss);
    }
    qvl_free(r.text_path);
    qvl_free(r.mmproj_path);
    return status;
}
