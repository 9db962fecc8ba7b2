/* watch.c - cancelling and progress. */
#include "base/watch.h"

#include <time.h>

double qvl_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

int qvl_watch_tick(struct qvl_watch *w, uint64_t more)
{
    if (!w)
        return 0;
    w->done += more;
    if (w->cancel && atomic_load_explicit(w->cancel, memory_order_relaxed))
        w->stopped = 1;
    if (w->progress && !w->stopped) {
        double now = qvl_now_ms();
        if (now - w->last_ms >= 50 || w->done >= w->total) {
            w->last_ms = now;
            if (w->progress(w->ud, w->stage, w->done < w->total ? w->done : w->total, w->total))
                w->stopped = 1;
        }
    }
    return w->stopped;
}
