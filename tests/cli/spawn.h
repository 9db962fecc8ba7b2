/* spawn.h - runs the program with pipes or on a pseudo-terminal, and reads the tiny model's example answers. */
#ifndef QVL_TESTS_CLI_SPAWN_H
#define QVL_TESTS_CLI_SPAWN_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <sys/types.h>

#define MODEL QVL_SOURCE_DIR "/models/tiny"
#define EXAMPLES MODEL "/examples/"

struct run {
    int status;   /* exit status; 1000 + signal when killed by one */
    char *out, *err;
    size_t out_len, err_len;
};

/* What a run may differ in from the usual. Zero is the usual. */
struct how {
    const char *in;          /* standard input; NULL = empty */
    size_t in_len;           /* 0 = strlen(in) */
    const char *env[8];      /* "NAME=VALUE" or "NAME" to unset; NULL-terminated */
    const char *dir;         /* working folder; NULL = the source folder */
    const char *stdout_path; /* standard output goes to this file instead of a pipe */
    int close_stdout;        /* standard output is a pipe that nobody reads */
    int signal_after_ms;     /* send SIGINT this long after the first output ... */
    int signal_twice;        /* ... and once more */
};

/* Arguments behind the program's name, NULL-terminated. The result is released with run_free. */
struct run run_how(const struct how *how, const char *const *args);
#define RUN(how, ...) run_how((how), (const char *const[]){__VA_ARGS__, NULL})
void run_free(struct run *r);

/* The program on a pseudo-terminal. */
struct pty {
    int fd;      /* the terminal's other side */
    int out;     /* pipe of standard output, or -1: on the terminal, too */
    pid_t pid;
    char *seen;  /* everything the terminal showed */
    size_t len, at; /* at: behind the last match */
};
void pty_start(struct pty *p, const struct how *how, int separate_stdout, const char *const *args);
void pty_send(struct pty *p, const char *text);
/* Waits until `text` shows up behind the last match; fails the test after 60 s. Returns where it begins in `seen`. */
size_t pty_expect(struct pty *p, const char *text);
/* Waits for the end and returns the exit status as in struct run. */
int pty_end(struct pty *p);
/* What came out of the pipe of standard output, until it is closed. From malloc. */
char *pty_stdout(struct pty *p);

/* Answer number `turn` of models/tiny/examples/NAME.json. Borrowed until the program ends. */
const char *example_prompt(const char *name, size_t turn);
const char *example_answer(const char *name, size_t turn);

/* A new empty folder under the build folder; borrowed, removed never (the build folder is). */
const char *scratch(void);
void write_text(const char *path, const char *text);
char *read_whole(const char *path, size_t *len);
/* Fails the test with the run's stderr when the condition does not hold. */
void expect_status(const struct run *r, int status);
void expect_contains(const char *text, const char *part);

#endif
