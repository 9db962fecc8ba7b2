/* interrupt.c - the handler of SIGINT. Its state is the program's only mutable global. */
#include "interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "options.h"

enum { END_PROGRAM, CANCEL_SESSION, COLLECT, DEFER };

static struct {
    _Atomic(qvl_session *) session;
    atomic_int mode, count;
} state;

static void on_sigint(int sig)
{
    int saved = errno, mode = atomic_load(&state.mode), before = atomic_fetch_add(&state.count, 1);
    (void)sig;
    if (mode == END_PROGRAM || (mode != COLLECT && before > 0)) {
        if (isatty(STDERR_FILENO) && write(STDERR_FILENO, "\n", 1) < 0)
            _exit(QVL_EXIT_INTERRUPTED);
        _exit(QVL_EXIT_INTERRUPTED);
    }
    if (mode == CANCEL_SESSION)
        qvl_session_cancel(atomic_load(&state.session));
    errno = saved;
}

void qvl_interrupt_install(void)
{
    struct sigaction a = {.sa_handler = on_sigint}; /* no SA_RESTART: a blocked read of a line has to return */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    a.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &a, NULL);
}

void qvl_interrupt_watch(qvl_session *s)
{
    atomic_store(&state.mode, END_PROGRAM);
    atomic_store(&state.session, s);
    atomic_store(&state.count, 0);
    if (s)
        atomic_store(&state.mode, CANCEL_SESSION);
}

void qvl_interrupt_defer(void)
{
    atomic_store(&state.count, 0);
    atomic_store(&state.mode, DEFER);
}

void qvl_interrupt_mark(void)
{
    atomic_store(&state.session, NULL);
    atomic_store(&state.count, 0);
    atomic_store(&state.mode, CANCEL_SESSION);
}

void qvl_interrupt_collect(void)
{
    if (atomic_exchange(&state.mode, COLLECT) != COLLECT) /* presses between two waits stay: none is lost */
        atomic_store(&state.count, 0);
}

int qvl_interrupt_pending(void) { return atomic_load(&state.count) > 0; }

int qvl_interrupt_take(void)
{
    if (atomic_load(&state.count) <= 0)
        return 0;
    atomic_fetch_sub(&state.count, 1);
    return 1;
}
