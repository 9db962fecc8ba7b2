/* lineedit.h - reading lines from a terminal, with editing and a history that is kept. */
#ifndef QVL_CLI_LINEEDIT_H
#define QVL_CLI_LINEEDIT_H

struct qvl_lineedit;

enum { QVL_LINE = 0, QVL_LINE_END = 1, QVL_LINE_INTERRUPTED = 2 };

/* NULL when there is no terminal to edit on. */
struct qvl_lineedit *qvl_lineedit_open(void);
void qvl_lineedit_close(struct qvl_lineedit **e);
/* *line: without its line feed, valid until the next call. */
int qvl_lineedit_read(struct qvl_lineedit *e, const char *prompt, const char **line);
/* Keeps a line (or several) in the history. */
void qvl_lineedit_remember(struct qvl_lineedit *e, const char *text);

#endif
