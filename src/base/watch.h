/* watch.h - how long work is watched from outside: cancel flag and progress callback.
 *
 * Lives below the stages so that the vision encoder and the decoder can tick it between layers. */
#ifndef QVL_BASE_WATCH_H
#define QVL_BASE_WATCH_H

#include <stdatomic.h>
#include <stdint.h>

#include "qvl.h"

struct qvl_watch {
    atomic_int *cancel;       /* may be NULL */
    qvl_progress_fn progress; /* may be NULL */
    void *ud;
    const char *stage;
    uint64_t done, total;
    double last_ms;           /* of the last call of progress */
    int stopped;              /* progress asked to stop */
};

/* Monotonic clock in milliseconds. */
double qvl_now_ms(void);
/* Adds to done and reports at most some twenty times a second (and when done reaches total). Returns 1 when the work
 * should stop. Call from the thread that called the library. */
int qvl_watch_tick(struct qvl_watch *w, uint64_t more);
/* 1 when somebody asked to stop, seen by a tick or not. */
static inline int qvl_watch_stopped(const struct qvl_watch *w)
{
    return w && (w->stopped || (w->cancel && atomic_load_explicit(w->cancel, memory_order_relaxed)));
}

#endif
