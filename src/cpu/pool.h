/* pool.h - a persistent team of threads that runs one function in step.
 *
 * One wake per forward: qvl_pool_run makes every member call fn once (the caller is member 0), and inside fn the members
 * meet at barriers. Waiting spins for some microseconds and then sleeps. The team splits rows of results, never sums,
 * so the bytes do not depend on its size. */
#ifndef QVL_CPU_POOL_H
#define QVL_CPU_POOL_H

#include <stdint.h>

#include "qvl.h"

struct qvl_pool;

struct qvl_team { /* one member's view */
    int id, n;    /* 0 <= id < n */
    struct qvl_pool *pool;
};
typedef void (*qvl_team_fn)(void *ud, const struct qvl_team *team);

/* Starts n-1 threads (n >= 1). They block all signals. */
int qvl_pool_open(struct qvl_pool **out, unsigned n, qvl_err *err);
void qvl_pool_close(struct qvl_pool **pool);
unsigned qvl_pool_size(const struct qvl_pool *pool);
/* Runs fn on every member; returns when all are done. Everything written before the call is visible to the members,
 * everything the members wrote is visible afterwards. Not reentrant. */
void qvl_pool_run(struct qvl_pool *pool, qvl_team_fn fn, void *ud);
/* Every member must come by equally often. A full memory fence. No-op for a team of one. */
void qvl_team_barrier(const struct qvl_team *team);

/* The member's share [*lo,*hi) of n items, in multiples of `step` (but for the last). */
static inline void qvl_team_share(const struct qvl_team *team, int64_t n, int64_t step, int64_t *lo, int64_t *hi)
{
    int64_t units = (n + step - 1) / step;
    int64_t a = units * team->id / team->n * step, b = units * (team->id + 1) / team->n * step;
    *lo = a < n ? a : n;
    *hi = b < n ? b : n;
}

#endif
