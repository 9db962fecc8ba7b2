/* lineedit.c - libedit behind lineedit.h.
 *
 * Prompt and echo go to standard error, so that standard output holds answers only. libedit's own signal handling is not
 * used (it sends signals to the whole process group); characters are read here, where Ctrl-C, a new window size and
 * coming back from Ctrl-Z end a blocked read. */
#include "lineedit.h"

#include <errno.h>
#include <histedit.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "interrupt.h"

enum { HISTORY_SIZE = 1000, PATH_SIZE = 4096 };

struct qvl_lineedit {
    EditLine *el;
    History *history;
    FILE *screen; /* opened here, or NULL */
    const char *prompt;
    char *line;
    char path[PATH_SIZE]; /* of the history file, "" = none */
    int interrupted;
    sigset_t usual; /* mask outside of the line; inside, signals come only while a key is waited for */
};

static atomic_int resized, stopped; /* set by the handlers below */

static void on_winch(int sig)
{
    (void)sig;
    atomic_store(&resized, 1);
}

static void on_tstp(int sig)
{
    (void)sig;
    atomic_store(&stopped, 1);
}

static void handle(int sig, void (*handler)(int))
{
    struct sigaction a = {.sa_handler = handler};
    sigemptyset(&a.sa_mask);
    sigaction(sig, &a, NULL);
}

static char *prompt_of(EditLine *el)
{
    struct qvl_lineedit *e;
    static char none[] = "";
    el_get(el, EL_CLIENTDATA, &e);
    char *p;
    memcpy(&p, &e->prompt, sizeof p); /* libedit's type lacks the const */
    return p ? p : none;
}

/* Ctrl-Z: the terminal is given back as it was, and made ready again afterwards. */
static void suspend(EditLine *el, const sigset_t *usual)
{
    sigset_t mask;
    el_set(el, EL_PREP_TERM, 0);
    handle(SIGTSTP, SIG_DFL);
    sigprocmask(SIG_SETMASK, usual, &mask);
    raise(SIGTSTP);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    handle(SIGTSTP, on_tstp);
    el_set(el, EL_PREP_TERM, 1);
    el_set(el, EL_REFRESH);
}

/* Waits for a key. Signals are let in only while waiting, so that none falls between a check and the wait.
 * 0, or -1 on Ctrl-C. */
static int wait_key(EditLine *el, struct qvl_lineedit *e)
{
    for (;;) {
        fd_set in;
        if (qvl_interrupt_take()) {
            e->interrupted = 1;
            return -1;
        }
        FD_ZERO(&in);
        FD_SET(STDIN_FILENO, &in);
        int n = pselect(STDIN_FILENO + 1, &in, NULL, NULL, NULL, &e->usual);
        if (n >= 0 || errno != EINTR)
            return 0;
        if (atomic_exchange(&resized, 0))
            el_resize(el);
        if (atomic_exchange(&stopped, 0))
            suspend(el, &e->usual);
    }
}

/* One character: 1, or 0 at the end, or -1 on Ctrl-C. */
static int read_char(EditLine *el, wchar_t *out)
{
    struct qvl_lineedit *e;
    mbstate_t state = {0};
    el_get(el, EL_CLIENTDATA, &e);
    for (;;) {
        char c;
        if (wait_key(el, e) < 0)
            return -1;
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return n == 0 ? 0 : -1;
        if (c == 0) /* no key: what the terminal makes of a Ctrl-D that was typed before the editor was ready */
            continue;
        size_t k = mbrtowc(out, &c, 1, &state);
        if (k == (size_t)-2)
            continue; /* more bytes of the character are to come */
        if (k == (size_t)-1)
            *out = L'\xfffd';
        return 1;
    }
}

/* Makes the folders of `path`, private to the user. */
static int make_folders(char *path)
{
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        int rc = mkdir(path, 0700);
        *p = '/';
        if (rc < 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}

static void open_history(struct qvl_lineedit *e)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    HistEvent event;
    e->history = history_init();
    if (!e->history)
        return;
    history(e->history, &event, H_SETSIZE, HISTORY_SIZE);
    history(e->history, &event, H_SETUNIQUE, 1);
    el_set(e->el, EL_HIST, history, e->history);
    int n = state && *state == '/' ? snprintf(e->path, sizeof e->path, "%s/qvl/history", state)
            : home && *home == '/' ? snprintf(e->path, sizeof e->path, "%s/.local/state/qvl/history", home)
                                   : -1;
    if (n < 0 || (size_t)n >= sizeof e->path || make_folders(e->path) < 0)
        e->path[0] = 0; /* without a file the history lasts as long as the chat */
    else
        history(e->history, &event, H_LOAD, e->path);
}

struct qvl_lineedit *qvl_lineedit_open(void)
{
    struct qvl_lineedit *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    FILE *out = isatty(STDERR_FILENO) ? stderr : isatty(STDOUT_FILENO) ? stdout : (e->screen = fopen("/dev/tty", "w"));
    e->el = out ? el_init("qvl", stdin, out, stderr) : NULL;
    if (!e->el) {
        qvl_lineedit_close(&e);
        return NULL;
    }
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_PROMPT, prompt_of);
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_SIGNAL, 0);
    el_set(e->el, EL_GETCFN, read_char);
    el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    open_history(e);
    el_source(e->el, NULL); /* the user's ~/.editrc */
    return e;
}

void qvl_lineedit_close(struct qvl_lineedit **editor)
{
    struct qvl_lineedit *e = editor ? *editor : NULL;
    if (!e)
        return;
    if (e->history)
        history_end(e->history);
    if (e->el)
        el_end(e->el);
    if (e->screen)
        fclose(e->screen);
    free(e->line);
    free(e);
    *editor = NULL;
}

int qvl_lineedit_read(struct qvl_lineedit *e, const char *prompt, const char **line)
{
    int n = 0;
    e->prompt = prompt;
    e->interrupted = 0;
    qvl_interrupt_collect();
    handle(SIGWINCH, on_winch);
    handle(SIGTSTP, on_tstp);
    sigset_t inside;
    sigemptyset(&inside);
    sigaddset(&inside, SIGINT);
    sigaddset(&inside, SIGTSTP);
    sigaddset(&inside, SIGWINCH);
    sigprocmask(SIG_BLOCK, &inside, &e->usual);
    const char *text = el_gets(e->el, &n);
    sigprocmask(SIG_SETMASK, &e->usual, NULL);
    handle(SIGWINCH, SIG_DFL);
    handle(SIGTSTP, SIG_DFL);
    if (e->interrupted) {
        el_set(e->el, EL_PREP_TERM, 0);
        el_reset(e->el); /* forget the half-typed line */
        return QVL_LINE_INTERRUPTED;
    }
    if (!text || n <= 0)
        return QVL_LINE_END;
    free(e->line);
    e->line = strdup(text);
    if (!e->line)
        return QVL_LINE_END;
    e->line[strcspn(e->line, "\n")] = 0;
    *line = e->line;
    return QVL_LINE;
}

void qvl_lineedit_remember(struct qvl_lineedit *e, const char *text)
{
    HistEvent event;
    if (!e->history || !*text)
        return;
    history(e->history, &event, H_ENTER, text);
    if (e->path[0])
        history(e->history, &event, H_SAVE, e->path);
}
