/* ui.c - messages, progress bars, human numbers, and text that is safe for a terminal. */
#include "ui.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "interrupt.h"
#include "options.h"

enum { BAR_DELAY_MS = 200, BAR_CELLS = 24 };

double qvl_ui_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

void qvl_ui_init(struct qvl_ui *ui, int quiet, int verbose)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    int dumb = !term || !*term || strcmp(term, "dumb") == 0;
    *ui = (struct qvl_ui){.quiet = quiet, .verbose = verbose, .out_tty = isatty(STDOUT_FILENO), .err_tty = isatty(STDERR_FILENO)};
    ui->bars = ui->err_tty && !dumb && !quiet;
    ui->colour = ui->err_tty && !dumb && !(no_color && *no_color);
}

/* ---- text ---- */

/* C0 (line feed and tab may stay), DEL, and C1 in UTF-8 (C2 80..C2 9F). Invalid bytes 80..9F alone count as C1, too. */
size_t qvl_ui_strip(char *out, const char *text, size_t len, int keep_lines)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t size = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        if (size > len - i)
            size = len - i;
        for (size_t k = 1; k < size; k++) /* a broken character ends where its continuation bytes do */
            if (((unsigned char)text[i + k] & 0xc0) != 0x80)
                size = k;
        int control = c < 0x20 ? !(keep_lines && (c == '\n' || c == '\t')) : c == 0x7f;
        control |= size == 1 && c >= 0x80;
        control |= size == 2 && c == 0xc2 && (unsigned char)text[i + 1] < 0xa0;
        if (!control) {
            memmove(out + n, text + i, size);
            n += size;
        }
        i += size;
    }
    return n;
}

static void message(const char *lead, const char *trail, const char *fmt, va_list ap)
{
    char text[2048];
    int n = vsnprintf(text, sizeof text, fmt, ap);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    for (size_t i = 0; i < len; i++) /* names of files may hold anything */
        if (text[i] == '\n' || text[i] == '\r')
            text[i] = ' ';
    len = qvl_ui_strip(text, text, len, 0);
    fflush(stdout);
    fprintf(stderr, "%s%.*s%s\n", lead, (int)len, text, trail);
}

void qvl_ui_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    message("qvl: ", "", fmt, ap);
    va_end(ap);
}

void qvl_ui_note(struct qvl_ui *ui, const char *fmt, ...)
{
    va_list ap;
    if (ui->quiet)
        return;
    qvl_ui_clear(ui);
    va_start(ap, fmt);
    message(ui->colour ? "\033[2m" : "", ui->colour ? "\033[0m" : "", fmt, ap);
    va_end(ap);
}

static int write_out(struct qvl_ui *ui, const char *text, size_t len)
{
    if (ui->out_failed)
        return -1;
    for (size_t at = 0; at < len;) { /* not stdio: Ctrl-C may interrupt a write, which is no failure */
        ssize_t n = write(STDOUT_FILENO, text + at, len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            ui->out_failed = errno;
            return -1;
        }
        at += (size_t)n;
    }
    ui->out_last = text[len - 1];
    return 0;
}

int qvl_ui_out(struct qvl_ui *ui, const char *text, size_t len)
{
    char part[1024];
    qvl_ui_clear(ui);
    if (!ui->out_tty)
        return len ? write_out(ui, text, len) : 0;
    while (len) {
        size_t take = len < sizeof part ? len : sizeof part;
        while (take < len && take > 1 && ((unsigned char)text[take] & 0xc0) == 0x80)
            take--; /* do not cut a character */
        size_t n = qvl_ui_strip(part, text, take, 1);
        if (n && write_out(ui, part, n))
            return -1;
        text += take;
        len -= take;
    }
    return 0;
}

int qvl_ui_out_end_line(struct qvl_ui *ui)
{
    int rc = ui->out_last && ui->out_last != '\n' ? write_out(ui, "\n", 1) : 0;
    ui->out_last = 0;
    return rc;
}

int qvl_ui_close_out(struct qvl_ui *ui, int status)
{
    errno = 0;
    if (!ui->out_failed && (fflush(stdout) != 0 || ferror(stdout)))
        ui->out_failed = errno ? errno : EIO;
    if (!ui->out_failed)
        return status;
    qvl_ui_error("standard output: %s", strerror(ui->out_failed));
    return QVL_EXIT_ERROR;
}

/* ---- progress ---- */

static const struct {
    const char *name, *shown;
} stages[] = {{"load", "loading model"}, {"calibrate", "calibrating"}, {"pack", "packing weights"}, {"vision", "reading pictures"},
            {"prompt", "reading prompt"}, {"write", "writing"}, {"pull", "downloading"}};

static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

/* A download's bytes and rate: "1.2 GB of 8.9 GB · 42 MB/s". What was there at the beginning counts for no rate. */
static const char *amounts(char *out, size_t size, const struct qvl_ui *ui, uint64_t done, uint64_t total, double ms)
{
    char a[32], b[32], c[32];
    double rate = ms > 0 ? (double)(done - ui->stage_start) / ms * 1e3 : 0;
    snprintf(out, size, "  %s of %s · %s/s", qvl_ui_bytes(a, sizeof a, done), qvl_ui_bytes(b, sizeof b, total),
             qvl_ui_bytes(c, sizeof c, (uint64_t)rate));
    return out;
}

static void draw(struct qvl_ui *ui, const char *shown, uint64_t done, uint64_t total, double ms, const char *more)
{
    double share = total ? (double)done / (double)total : 0, gained = (double)(done - ui->stage_start);
    char bar[BAR_CELLS * 3 + 1] = "", left[32];
    int room = columns() - 40 - (int)strlen(more), cells = room < BAR_CELLS ? room : BAR_CELLS;
    for (int i = 0; i < cells; i++) {
        size_t n = strlen(bar);
        memcpy(bar + n, i < share * cells ? "█" : "░", sizeof "█");
    }
    const char *rest = gained > 0.02 * (double)total ? qvl_ui_time(left, sizeof left, ms * (double)(total - done) / gained) : "";
    fprintf(stderr, "\r\033[K%s%-16s %s%s%3.0f %%%s%s%s", ui->colour ? "\033[2m" : "", shown, bar, *bar ? " " : "", 100 * share, more,
            *rest && room > -10 ? "  " : "", room > -10 ? rest : "");
    fputs(ui->colour ? "\033[0m" : "", stderr);
    fflush(stderr);
    ui->bar_shown = 1;
}

void qvl_ui_clear(struct qvl_ui *ui)
{
    if (!ui->bar_shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    ui->bar_shown = 0;
}

int qvl_ui_progress(void *ud, const char *stage, uint64_t done, uint64_t total)
{
    struct qvl_ui *ui = ud;
    const char *shown = stage;
    char more[128];
    double now = qvl_ui_now_ms();
    if (qvl_interrupt_pending())
        return 1;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (strcmp(stage, stages[i].name) == 0)
            shown = stages[i].shown;
    if (!ui->stage || strcmp(ui->stage, shown) != 0) {
        ui->stage = shown;
        ui->stage_ms = now;
        ui->stage_start = done;
    }
    if (done >= total) {
        qvl_ui_clear(ui);
        ui->stage = NULL;
    } else if (ui->bars && now - ui->stage_ms >= BAR_DELAY_MS) {
        double ms = now - ui->stage_ms;
        draw(ui, shown, done, total, ms, strcmp(stage, "pull") == 0 ? amounts(more, sizeof more, ui, done, total, ms) : "");
    }
    return 0;
}

/* ---- numbers ---- */

const char *qvl_ui_bytes(char *out, size_t size, uint64_t bytes)
{
    static const char *const unit[] = {"bytes", "KB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 999.5 && u < 4) {
        v /= 1000;
        u++;
    }
    snprintf(out, size, u > 0 && v < 9.95 ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return out;
}

const char *qvl_ui_time(char *out, size_t size, double ms)
{
    double s = ms / 1e3;
    if (s < 9.995)
        snprintf(out, size, "%.2f s", s);
    else if (s < 99.95)
        snprintf(out, size, "%.1f s", s);
    else if (s < 3600)
        snprintf(out, size, "%d min %d s", (int)s / 60, (int)s % 60);
    else
        snprintf(out, size, "%d h %d min", (int)(s / 3600), (int)(s / 60) % 60);
    return out;
}
