/* The thread team: everyone runs, barriers order memory, sleeping members wake up, more members than cores work. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "cpu/pool.h"

#define MAX 64

struct shared {
    int calls[MAX];
    int n_seen;
    int64_t values[MAX]; /* plain memory: a missing fence is a data race that ThreadSanitizer reports */
    long errors;
    int rounds, nap; /* nap: one member dawdles, the others go to sleep */
};

static void count_calls(void *ud, const struct qvl_team *t)
{
    struct shared *s = ud;
    s->calls[t->id]++;
    if (t->id == 0)
        s->n_seen = t->n;
}

static void test_everyone_runs(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 9; n++) {
        struct qvl_pool *p;
        struct shared s = {.n_seen = 0};
        assert_int_equal(qvl_pool_open(&p, n, NULL), 0);
        assert_int_equal(qvl_pool_size(p), n);
        for (int i = 0; i < 50; i++)
            qvl_pool_run(p, count_calls, &s);
        assert_int_equal(s.n_seen, n);
        for (unsigned i = 0; i < MAX; i++)
            assert_int_equal(s.calls[i], i < n ? 50 : 0);
        qvl_pool_close(&p);
        assert_null(p);
        qvl_pool_close(&p); /* NULL is fine */
    }
}

/* Each round every member writes its own cell, and after the barrier reads all others. */
static void exchange(void *ud, const struct qvl_team *t)
{
    struct shared *s = ud;
    for (int r = 1; r <= s->rounds; r++) {
        if (s->nap && t->id == r % t->n)
            nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
        s->values[t->id] = (int64_t)r * 1000 + t->id;
        qvl_team_barrier(t);
        long wrong = 0;
        for (int i = 0; i < t->n; i++)
            wrong += s->values[i] != (int64_t)r * 1000 + i;
        qvl_team_barrier(t);
        if (wrong && t->id == 0)
            s->errors += wrong;
    }
}

static void run_exchange(unsigned n, int rounds, int nap)
{
    struct qvl_pool *p;
    struct shared s = {.rounds = rounds, .nap = nap};
    assert_int_equal(qvl_pool_open(&p, n, NULL), 0);
    qvl_pool_run(p, exchange, &s);
    qvl_pool_run(p, exchange, &s);
    assert_int_equal(s.errors, 0);
    qvl_pool_close(&p);
}

static void test_barrier(void **state)
{
    (void)state;
    run_exchange(2, 3000, 0);
    run_exchange(3, 500, 0);
}

static void test_sleep_and_wake(void **state)
{
    (void)state;
    run_exchange(2, 100, 1);
    run_exchange(4, 50, 1);
}

/* 32 members on a few cores: 200 barriers took minutes if waiting meant spinning for whole time slices. */
static void test_oversubscribed(void **state)
{
    (void)state;
    struct timespec a, b;
    unsigned n = qvl_cpu_threads() * 4;
    n = n < 8 ? 8 : n > MAX ? MAX : n;
    clock_gettime(CLOCK_MONOTONIC, &a);
    run_exchange(n, 50, 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true(b.tv_sec - a.tv_sec < 60);
}

/* The workers have slept between runs. */
static void test_idle(void **state)
{
    (void)state;
    struct qvl_pool *p;
    struct shared s = {.n_seen = 0};
    assert_int_equal(qvl_pool_open(&p, 3, NULL), 0);
    for (int i = 0; i < 5; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        qvl_pool_run(p, count_calls, &s);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(s.calls[i], 5);
    qvl_pool_close(&p);
}

static void read_mask(void *ud, const struct qvl_team *t)
{
    sigset_t *masks = ud;
    pthread_sigmask(SIG_SETMASK, NULL, &masks[t->id]);
}

static void test_signals(void **state)
{
    (void)state;
    struct qvl_pool *p;
    sigset_t masks[3], before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(qvl_pool_open(&p, 3, NULL), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    qvl_pool_run(p, read_mask, masks);
    static const int signals[] = {SIGINT, SIGTERM, SIGALRM, SIGCHLD, SIGUSR1, SIGPIPE, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        assert_int_equal(sigismember(&after, signals[i]), sigismember(&before, signals[i]));
        assert_int_equal(sigismember(&masks[0], signals[i]), sigismember(&before, signals[i]));
        assert_int_equal(sigismember(&masks[1], signals[i]), 1);
        assert_int_equal(sigismember(&masks[2], signals[i]), 1);
    }
    qvl_pool_close(&p);
}

static void test_arguments(void **state)
{
    (void)state;
    struct qvl_pool *p;
    qvl_err err;
    assert_int_equal(qvl_pool_open(&p, 0, &err), QVL_E_ARG);
    assert_null(p);
    assert_int_equal(qvl_pool_open(&p, 1000000, &err), QVL_E_ARG);
    assert_null(p);
}

/* Shares are a partition, in multiples of the step. */
static void test_share(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 5, 16, 17, 64, 1000, 151936};
    static const int64_t steps[] = {1, 3, 16, 64};
    for (size_t i = 0; i < 8; i++)
        for (size_t j = 0; j < 4; j++)
            for (int n = 1; n <= 70; n += 3) {
                int64_t at = 0;
                for (int id = 0; id < n; id++) {
                    struct qvl_team t = {.id = id, .n = n};
                    int64_t lo, hi;
                    qvl_team_share(&t, sizes[i], steps[j], &lo, &hi);
                    assert_int_equal(lo, at);
                    assert_true(hi >= lo);
                    assert_true(lo == sizes[i] || lo % steps[j] == 0);
                    at = hi;
                }
                assert_int_equal(at, sizes[i]);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everyone_runs), cmocka_unit_test(test_barrier),   cmocka_unit_test(test_sleep_and_wake),
        cmocka_unit_test(test_oversubscribed), cmocka_unit_test(test_idle),     cmocka_unit_test(test_signals),
        cmocka_unit_test(test_arguments),     cmocka_unit_test(test_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
