/* command.h - the commands, and what they share. Each returns the program's exit status. */
#ifndef QVL_CLI_COMMAND_H
#define QVL_CLI_COMMAND_H

#include <jansson.h>

#include "options.h"
#include "qvl.h"
#include "ui.h"

int qvl_cmd_run(const struct qvl_options *o, struct qvl_ui *ui);
int qvl_cmd_verify(const struct qvl_options *o, struct qvl_ui *ui);
int qvl_cmd_tokenize(const struct qvl_options *o, struct qvl_ui *ui);
int qvl_cmd_inspect(const struct qvl_options *o, struct qvl_ui *ui);
int qvl_cmd_pack(const struct qvl_options *o, struct qvl_ui *ui);
int qvl_cmd_bench(const struct qvl_options *o, struct qvl_ui *ui);
int qvl_cmd_export(const struct qvl_options *o, struct qvl_ui *ui);
int qvl_cmd_pull(const struct qvl_options *o, struct qvl_ui *ui);

/* Prints the error and says what the program ends with. */
int qvl_report(struct qvl_ui *ui, int rc, const qvl_err *err);

/* The adapters of --lora. */
enum { QVL_MAX_LORA = 16 };
struct qvl_lora_options {
    qvl_adapter v[QVL_MAX_LORA];
    char *path[QVL_MAX_LORA];
    size_t n;
};
/* Returns an exit status; prints what fails. Release in both cases. */
int qvl_lora_read(struct qvl_lora_options *l, const struct qvl_options *o);
void qvl_lora_free(struct qvl_lora_options *l);

/* Opens the model at `path` as the options say; prints what fails. `fallback` is the precision when none was chosen. */
int qvl_open_model(qvl_model **m, const struct qvl_options *o, struct qvl_ui *ui, const char *path, int no_weights,
                   qvl_precision fallback);
/* What to open, as the options say. */
void qvl_model_options(qvl_model_params *p, const struct qvl_options *o, struct qvl_ui *ui, const char *path,
                       qvl_precision fallback);
void qvl_session_options(qvl_session_params *p, const struct qvl_options *o);
/* The model the command works on: its argument, else QVL_MODEL. */
const char *qvl_model_path(const struct qvl_options *o);
/* `model` with --revision as "NAME@REV" in buf, or model itself. Prints what fails and returns NULL. */
const char *qvl_with_revision(char *buf, size_t size, const struct qvl_options *o, const char *model);
qvl_precision qvl_precision_of(const char *name, qvl_precision fallback);
/* The same for --kv; NULL is auto. */
qvl_kv_type qvl_kv_of(const char *name);

/* Reads a file whole, "-" is standard input; NUL-terminated, release with free. Prints what fails. */
int qvl_read_text(char **text, size_t *len, const char *path);
/* Parses a JSON file that was read; prints what fails. Release with json_decref. */
int qvl_parse_json(json_t **out, const char *text, size_t len, const char *path);
/* Writes a JSON value and a line feed to standard output; takes the reference. Prints what fails. */
int qvl_print_json(struct qvl_ui *ui, json_t *value, int indent);
/* json_real, and null for what JSON cannot say. */
json_t *qvl_json_number(double x);

#endif
