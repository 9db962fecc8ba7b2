/* ui.h - what the user sees: messages, progress bars, and the generated text on its way to standard output. */
#ifndef QVL_CLI_UI_H
#define QVL_CLI_UI_H

#include <stddef.h>
#include <stdint.h>

struct qvl_ui {
    int quiet, verbose;
    int out_tty, err_tty, bars, colour;
    int out_failed;   /* errno of the first failed write to standard output */
    char out_last;    /* last character written, 0 at the beginning */
    int bar_shown;
    const char *stage; /* the bar's, with the time it began */
    double stage_ms;
    uint64_t stage_start; /* what was done at that time */
};

void qvl_ui_init(struct qvl_ui *ui, int quiet, int verbose);

/* "qvl: ..." as one line on standard error. */
void qvl_ui_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A remark on standard error, dim on a terminal. Not shown when quiet. */
void qvl_ui_note(struct qvl_ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Generated text to standard output, flushed. On a terminal control characters are left out: a picture must not be able to
 * send escape sequences. Returns 0, or -1 after a failed write (out_failed says why). */
int qvl_ui_out(struct qvl_ui *ui, const char *text, size_t len);
/* A line feed on standard output unless the text ended with one or there was none. */
int qvl_ui_out_end_line(struct qvl_ui *ui);
/* Reports a failed write or a failed flush of standard output. Returns an exit status: `status`, or QVL_EXIT_ERROR. */
int qvl_ui_close_out(struct qvl_ui *ui, int status);

/* A qvl_progress_fn; ud is the struct qvl_ui. Stops the work after Ctrl-C. */
int qvl_ui_progress(void *ud, const char *stage, uint64_t done, uint64_t total);
/* Takes the bar off the screen. */
void qvl_ui_clear(struct qvl_ui *ui);

/* Copies text without control characters (line feed and tab may stay); returns the length. out may be text itself. */
size_t qvl_ui_strip(char *out, const char *text, size_t len, int keep_lines);

/* "3.1 GB", "640 KB" */
const char *qvl_ui_bytes(char *out, size_t size, uint64_t bytes);
/* "0.41 s", "12 s", "3 min 20 s" */
const char *qvl_ui_time(char *out, size_t size, double ms);
double qvl_ui_now_ms(void);

#endif
