/* spawn.c - see spawn.h. Failures end the test through cmocka. */
#define _XOPEN_SOURCE 700 /* pseudo-terminals */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_MS = 120000, EXPECT_MS = 60000, MAX_ARGS = 64 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

struct sink {
    int fd;
    char *text;
    size_t len;
};

/* Reads what is there. Returns 0 at the end. */
static int drain(struct sink *s)
{
    char part[65536];
    ssize_t n = read(s->fd, part, sizeof part);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 1;
    if (n <= 0) /* EIO: the other side of a pseudo-terminal is closed */
        return 0;
    char *p = realloc(s->text, s->len + (size_t)n + 1);
    if (!p)
        abort();
    s->text = p;
    memcpy(p + s->len, part, (size_t)n);
    s->len += (size_t)n;
    p[s->len] = 0;
    return 1;
}

static void prepare_child(const struct how *how)
{
    static const char *const cleared[] = {"QVL_MODEL", "QVL_THREADS", "QVL_CPU", "QVL_PRECISION", "QVL_CONTEXT", "NO_COLOR"};
    for (size_t i = 0; i < sizeof cleared / sizeof *cleared; i++)
        unsetenv(cleared[i]);
    setenv("XDG_STATE_HOME", scratch(), 1);
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    for (size_t i = 0; how && i < 8 && how->env[i]; i++) {
        char name[64];
        const char *eq = strchr(how->env[i], '=');
        snprintf(name, sizeof name, "%.*s", (int)(eq ? eq - how->env[i] : 63), how->env[i]);
        if (eq)
            setenv(name, eq + 1, 1);
        else
            unsetenv(name);
    }
    if (chdir(how && how->dir ? how->dir : QVL_SOURCE_DIR) != 0)
        _exit(125);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
}

static void become(const char *const *args)
{
    char *argv[MAX_ARGS + 2];
    static char name[] = "qvl";
    int n = 0;
    argv[n++] = name;
    for (; *args && n < MAX_ARGS; args++)
        memcpy(&argv[n++], args, sizeof *args);
    argv[n] = NULL;
    execv(QVL_PROGRAM, argv);
    _exit(126);
}

static int status_of(int w) { return WIFEXITED(w) ? WEXITSTATUS(w) : 1000 + WTERMSIG(w); }

static void nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

static void make_pipe(int fd[2])
{
    assert_int_equal(pipe(fd), 0);
    fcntl(fd[0], F_SETFD, FD_CLOEXEC);
    fcntl(fd[1], F_SETFD, FD_CLOEXEC);
}

/* Feeds stdin and collects both outputs until they end, sending signals on the way. */
static void pump(struct run *r, const struct how *how, pid_t pid, int in, int out, int err)
{
    struct sink so = {.fd = out}, se = {.fd = err};
    const char *feed = how && how->in ? how->in : "";
    size_t left = how && how->in_len ? how->in_len : strlen(feed);
    double start = now_ms(), first = 0;
    int signals = 0, wanted = how && how->signal_after_ms ? 1 + how->signal_twice : 0;
    if (!left) {
        close(in);
        in = -1;
    }
    while (so.fd >= 0 || se.fd >= 0) {
        struct pollfd p[3] = {{.fd = so.fd, .events = POLLIN}, {.fd = se.fd, .events = POLLIN}, {.fd = in, .events = POLLOUT}};
        poll(p, 3, 20);
        if (p[0].revents && !drain(&so))
            so.fd = -1;
        if (p[1].revents && !drain(&se))
            se.fd = -1;
        if (p[2].revents) {
            ssize_t n = write(in, feed, left < 4096 ? left : 4096);
            feed += n > 0 ? n : 0;
            left = n > 0 ? left - (size_t)n : n < 0 && errno == EAGAIN ? left : 0;
            if (!left) {
                close(in);
                in = -1;
            }
        }
        if (!(first > 0) && so.len)
            first = now_ms();
        if (signals < wanted && first > 0 && now_ms() - first >= how->signal_after_ms + 30 * signals) {
            kill(pid, SIGINT);
            signals++;
        }
        if (now_ms() - start > LIMIT_MS) {
            kill(pid, SIGKILL);
            break;
        }
    }
    if (in >= 0)
        close(in);
    *r = (struct run){.out = so.text ? so.text : calloc(1, 1), .err = se.text ? se.text : calloc(1, 1), .out_len = so.len,
                      .err_len = se.len};
}

struct run run_how(const struct how *how, const char *const *args)
{
    struct run r;
    int in[2], out[2], err[2], w;
    signal(SIGPIPE, SIG_IGN);
    make_pipe(in);
    make_pipe(out);
    make_pipe(err);
    scratch();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        if (how && how->stdout_path) {
            int fd = open(how->stdout_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
            if (fd < 0 || dup2(fd, 1) < 0)
                _exit(125);
        }
        if (how && how->close_stdout)
            close(out[0]);
        prepare_child(how);
        become(args);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    nonblocking(in[1]);
    nonblocking(out[0]);
    nonblocking(err[0]);
    int no_out = how && how->close_stdout;
    if (no_out)
        close(out[0]);
    pump(&r, how, pid, in[1], no_out ? -1 : out[0], err[0]);
    if (!no_out)
        close(out[0]);
    close(err[0]);
    waitpid(pid, &w, 0);
    r.status = status_of(w);
    return r;
}

void run_free(struct run *r)
{
    free(r->out);
    free(r->err);
    *r = (struct run){0};
}

/* ---- pseudo-terminal ---- */

void pty_start(struct pty *p, const struct how *how, int separate_stdout, const char *const *args)
{
    int out[2] = {-1, -1};
    *p = (struct pty){.fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), .out = -1};
    assert_true(p->fd >= 0);
    assert_int_equal(grantpt(p->fd), 0);
    assert_int_equal(unlockpt(p->fd), 0);
    char name[128];
    snprintf(name, sizeof name, "%s", ptsname(p->fd));
    if (separate_stdout)
        make_pipe(out);
    scratch();
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        setsid();
        int tty = open(name, O_RDWR);
        struct winsize size = {.ws_row = 50, .ws_col = 200};
        if (tty < 0 || ioctl(tty, TIOCSCTTY, 0) < 0 || ioctl(tty, TIOCSWINSZ, &size) < 0)
            _exit(124);
        dup2(tty, 0);
        dup2(separate_stdout ? out[1] : tty, 1);
        dup2(tty, 2);
        if (tty > 2)
            close(tty);
        prepare_child(how);
        become(args);
    }
    if (separate_stdout) {
        close(out[1]);
        p->out = out[0];
    }
    nonblocking(p->fd);
}

void pty_send(struct pty *p, const char *text)
{
    size_t n = strlen(text);
    assert_int_equal(write(p->fd, text, n), (ssize_t)n);
}

static int pty_drain(struct pty *p, int wait_ms)
{
    struct pollfd f = {.fd = p->fd, .events = POLLIN};
    struct sink s = {.fd = p->fd, .text = p->seen, .len = p->len};
    if (poll(&f, 1, wait_ms) <= 0)
        return 1;
    int more = drain(&s);
    p->seen = s.text;
    p->len = s.len;
    return more;
}

size_t pty_expect(struct pty *p, const char *text)
{
    double start = now_ms();
    int more = 1;
    for (;;) {
        const char *at = p->seen && p->at <= p->len ? strstr(p->seen + p->at, text) : NULL;
        if (at) {
            size_t where = (size_t)(at - p->seen);
            p->at = where + strlen(text);
            return where;
        }
        if (!more || now_ms() - start > EXPECT_MS) {
            kill(p->pid, SIGKILL);
            fail_msg("the terminal never showed \"%s\"; since the last match: %s", text, p->seen ? p->seen + p->at : "(nothing)");
        }
        more = pty_drain(p, 50);
    }
}

int pty_end(struct pty *p)
{
    int w = 0;
    double start = now_ms(), again = start + 1000;
    while (waitpid(p->pid, &w, WNOHANG) == 0) {
        pty_drain(p, 20);
        if (now_ms() > again) { /* a Ctrl-D that comes between the prompt and the editor's raw mode is no key */
            again += 1000;
            pty_send(p, "\004");
        }
        if (now_ms() - start > EXPECT_MS) {
            kill(p->pid, SIGKILL);
            waitpid(p->pid, &w, 0);
            break;
        }
    }
    while (pty_drain(p, 0) && p->fd >= 0) {
        struct pollfd f = {.fd = p->fd, .events = POLLIN};
        if (poll(&f, 1, 0) <= 0)
            break;
    }
    close(p->fd);
    if (p->out >= 0)
        close(p->out);
    return status_of(w);
}

char *pty_stdout(struct pty *p)
{
    struct sink s = {.fd = p->out};
    double start = now_ms();
    nonblocking(p->out);
    while (now_ms() - start < EXPECT_MS) {
        struct pollfd f = {.fd = p->out, .events = POLLIN};
        if (poll(&f, 1, 50) > 0 && !drain(&s))
            break;
        pty_drain(p, 0);
    }
    return s.text ? s.text : calloc(1, 1);
}

/* ---- data ---- */

static const char *example(const char *name, size_t turn, const char *field)
{
    enum { KEPT = 16 };
    static struct {
        char name[64];
        json_t *root;
    } kept[KEPT];
    char path[512];
    size_t i = 0;
    while (i < KEPT && kept[i].root && strcmp(kept[i].name, name) != 0)
        i++;
    assert_true(i < KEPT);
    if (!kept[i].root) {
        snprintf(path, sizeof path, EXAMPLES "%s.json", name);
        snprintf(kept[i].name, sizeof kept[i].name, "%s", name);
        kept[i].root = json_load_file(path, 0, NULL);
        assert_non_null(kept[i].root);
    }
    const char *s = json_string_value(json_object_get(json_array_get(json_object_get(kept[i].root, "turns"), turn), field));
    assert_non_null(s);
    return s;
}

const char *example_prompt(const char *name, size_t turn) { return example(name, turn, "prompt"); }
const char *example_answer(const char *name, size_t turn) { return example(name, turn, "answer"); }

const char *scratch(void)
{
    static char path[256];
    if (!path[0]) {
        snprintf(path, sizeof path, "%s/cli-XXXXXX", QVL_BINARY_DIR);
        assert_non_null(mkdtemp(path));
    }
    return path;
}

void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

char *read_whole(const char *path, size_t *len)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    char *text = malloc((size_t)st.st_size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)st.st_size, f), (size_t)st.st_size);
    fclose(f);
    text[st.st_size] = 0;
    if (len)
        *len = (size_t)st.st_size;
    return text;
}

void expect_status(const struct run *r, int status)
{
    if (r->status != status)
        fail_msg("exit status %d, expected %d; stdout: %.500s; stderr: %.2000s", r->status, status, r->out, r->err);
}

void expect_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %.2000s", part, text);
}
