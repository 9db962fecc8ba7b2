/* repl.h - the chat on a terminal. */
#ifndef QVL_CLI_REPL_H
#define QVL_CLI_REPL_H

#include "answer.h"

/* Runs until /quit or Ctrl-D. Messages of --system and pictures of --image are taken in first. */
int qvl_repl(const struct qvl_options *o, struct qvl_ui *ui, qvl_model *m, qvl_session *s);

#endif
