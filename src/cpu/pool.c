/* pool.c - the thread team: one start word, one barrier, one place to sleep.
 *
 * Members wait for a word to change: they spin for a while, because the usual wait inside a forward pass is shorter
 * than a system call, and then sleep on a condition variable. A writer changes the word first and looks for sleepers
 * afterwards; a sleeper announces itself first and looks at the word afterwards. Both sides are sequentially
 * consistent, so one of them always sees the other. */
#include "cpu/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/cpu.h"

#define MAX_THREADS 4096
#define SPIN_NS     40000 /* longer than any barrier inside a layer, shorter than a time slice */
#define SPIN_BURST  32    /* pauses between two looks at the clock */

struct member {
    struct qvl_pool *pool;
    pthread_t thread;
    int id;
};

struct qvl_pool {
    /* Words that are spun on live in cache lines of their own. */
    _Alignas(64) atomic_uint start; /* +1 for each run */
    _Alignas(64) atomic_uint phase; /* +1 for each completed barrier: the sense, with more than two values */
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_uint sleepers;
    int64_t spin_ns; /* 0 when there are more members than cores */
    unsigned n;
    int quit;
    qvl_team_fn fn;
    void *ud;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct member *members; /* [n], member 0 is the caller */
};

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void wait_change(struct qvl_pool *p, atomic_uint *word, unsigned old)
{
    if (p->spin_ns) {
        int64_t end = 0;
        for (;;) {
            for (int i = 0; i < SPIN_BURST; i++) {
                if (atomic_load_explicit(word, memory_order_acquire) != old)
                    return;
                pause_cpu();
            }
            int64_t t = now_ns();
            if (!end)
                end = t + p->spin_ns;
            else if (t >= end)
                break;
        }
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(word) == old)
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void change(struct qvl_pool *p, atomic_uint *word)
{
    atomic_fetch_add(word, 1);
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

static void barrier(struct qvl_pool *p)
{
    unsigned phase = atomic_load_explicit(&p->phase, memory_order_acquire);
    if (atomic_fetch_add(&p->arrived, 1) + 1 == p->n) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed); /* published by the change of phase */
        change(p, &p->phase);
    } else {
        wait_change(p, &p->phase, phase);
    }
}

void qvl_team_barrier(const struct qvl_team *team)
{
    if (team->n > 1)
        barrier(team->pool);
}

static void *worker(void *arg)
{
    struct member *m = arg;
    struct qvl_pool *p = m->pool;
    struct qvl_team team = {.id = m->id, .n = (int)p->n, .pool = p};
    for (unsigned seen = 0;; seen++) {
        wait_change(p, &p->start, seen);
        if (p->quit)
            return NULL;
        p->fn(p->ud, &team);
        barrier(p);
    }
}

void qvl_pool_run(struct qvl_pool *p, qvl_team_fn fn, void *ud)
{
    struct qvl_team team = {.id = 0, .n = (int)p->n, .pool = p};
    if (p->n == 1) {
        fn(ud, &team);
        return;
    }
    p->fn = fn;
    p->ud = ud;
    change(p, &p->start);
    fn(ud, &team);
    barrier(p);
}

unsigned qvl_pool_size(const struct qvl_pool *p) { return p->n; }

/* Ends and joins the first `started` workers and frees everything. */
static void destroy(struct qvl_pool *p, unsigned started)
{
    p->quit = 1;
    change(p, &p->start);
    for (unsigned i = 1; i <= started; i++)
        pthread_join(p->members[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    qvl_mem_free(p->members);
    qvl_mem_free(p);
}

int qvl_pool_open(struct qvl_pool **out, unsigned n, qvl_err *err)
{
    *out = NULL;
    if (n < 1 || n > MAX_THREADS)
        return qvl_fail(err, QVL_E_ARG, "threads: found %u, expected 1 to %d", n, MAX_THREADS);
    struct qvl_pool *p = qvl_calloc(1, sizeof *p);
    struct member *members = qvl_calloc(n, sizeof *members);
    if (!p || !members) {
        qvl_mem_free(p);
        qvl_mem_free(members);
        return qvl_fail_nomem(err, sizeof *p + n * sizeof *members, "the thread pool");
    }
    p->n = n;
    p->members = members;
    p->spin_ns = n <= qvl_cpu_threads() ? SPIN_NS : 0;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);

    /* Signals are for the program's own threads: a worker inherits a mask that blocks all of them. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    unsigned started = 0;
    int rc = 0;
    for (unsigned i = 1; i < n && !rc; i++) {
        members[i] = (struct member){.pool = p, .id = (int)i};
        rc = pthread_create(&members[i].thread, NULL, worker, &members[i]);
        started += !rc;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        destroy(p, started);
        return qvl_fail_errno(err, rc == EAGAIN ? ENOMEM : rc, "cannot start thread %u of %u", started + 2, n);
    }
    *out = p;
    return 0;
}

void qvl_pool_close(struct qvl_pool **pool)
{
    if (!*pool)
        return;
    destroy(*pool, (*pool)->n - 1);
    *pool = NULL;
}
