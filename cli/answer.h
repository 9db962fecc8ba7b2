/* answer.h - one answer: sampling as the options say, text to standard output, figures behind it. */
#ifndef QVL_CLI_ANSWER_H
#define QVL_CLI_ANSWER_H

#include "command.h"

struct qvl_answer {
    struct qvl_ui *ui;
    qvl_gen_params gen;
    int silent;      /* 1: nothing is streamed (--json) */
    int thinking;    /* the model reasons in front of its answers */
    int sampling;    /* 0: greedy */
};

/* Defaults of the model, then what the options say. */
void qvl_answer_init(struct qvl_answer *a, const struct qvl_options *o, struct qvl_ui *ui, const qvl_model *m);
/* Generates and streams. Ctrl-C is watched meanwhile. Returns what qvl_session_generate does. */
int qvl_answer_generate(struct qvl_answer *a, qvl_session *s, qvl_result *r, qvl_err *err);
/* "2 images 216 tokens 0.41 s · prompt 240 tokens (180 cached) 1.9 s · 87 tokens 15.2 tok/s · peak 3.1 GB" */
void qvl_answer_figures(char *out, size_t size, const qvl_result *r);
/* The object of --json. */
json_t *qvl_answer_json(const struct qvl_answer *a, const qvl_result *r, const qvl_model *m, double load_ms);
/* What was chosen, for --verbose. */
void qvl_answer_tell(const struct qvl_answer *a, const qvl_model *m, const qvl_session *s);

#endif
