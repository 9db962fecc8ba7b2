/* probe.c - times the probe loops of a level on a team. */
#include "kernels/probe.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "kernels/pack.h"
#include "kernels/quant.h"

#define ROUNDS     7
#define READ_BYTES ((size_t)256 << 20) /* eight times a large third-level cache */
#define READ_STEP  256                 /* the loops read multiples of this */

struct probe {
    const struct qvl_probe_kernels *kernels;
    char *mem;
    int64_t iterations;
    double (*arithmetic)(int64_t iterations);
    double operations; /* of one member */
    atomic_ullong sink;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void touch(void *ud, const struct qvl_team *t)
{
    struct probe *p = ud;
    int64_t lo, hi;
    qvl_team_share(t, READ_BYTES, READ_STEP, &lo, &hi);
    memset(p->mem + lo, 1, (size_t)(hi - lo));
}

static void read_share(void *ud, const struct qvl_team *t)
{
    struct probe *p = ud;
    int64_t lo, hi;
    qvl_team_share(t, READ_BYTES, READ_STEP, &lo, &hi);
    atomic_fetch_xor_explicit(&p->sink, p->kernels->read(p->mem + lo, (size_t)(hi - lo)), memory_order_relaxed);
}

static void calculate(void *ud, const struct qvl_team *t)
{
    struct probe *p = ud;
    double n = p->arithmetic(p->iterations);
    if (t->id == 0)
        p->operations = n;
}

double qvl_probe_read_gbs(struct qvl_pool *pool, const struct qvl_kernels *k)
{
    struct probe p = {.kernels = k->probe, .mem = qvl_alloc(READ_BYTES, 1)};
    double best = 0;
    if (!p.mem)
        return 0;
    qvl_pool_run(pool, touch, &p);
    for (int i = 0; i < ROUNDS; i++) {
        double t = now();
        qvl_pool_run(pool, read_share, &p);
        t = READ_BYTES / (now() - t);
        best = t > best ? t : best;
    }
    qvl_mem_free(p.mem);
    return best * 1e-9;
}

static double arithmetic(struct qvl_pool *pool, double (*fn)(int64_t))
{
    struct probe p = {.arithmetic = fn, .iterations = 10000};
    double best = 0;
    for (int i = 0; i < ROUNDS;) {
        double t = now();
        qvl_pool_run(pool, calculate, &p);
        t = now() - t;
        if (t < 0.01 && p.iterations < (int64_t)1 << 40) { /* until a round is long enough to be timed */
            p.iterations *= 2;
            continue;
        }
        double rate = p.operations * qvl_pool_size(pool) / t;
        best = rate > best ? rate : best;
        i++;
    }
    return best * 1e-9;
}

double qvl_probe_f32_gflops(struct qvl_pool *pool, const struct qvl_kernels *k) { return arithmetic(pool, k->probe->f32); }

double qvl_probe_bf16_gflops(struct qvl_pool *pool, const struct qvl_kernels *k)
{
    return k->probe->bf16 ? arithmetic(pool, k->probe->bf16) : 0;
}

double qvl_probe_int8_gops(struct qvl_pool *pool, const struct qvl_kernels *k) { return arithmetic(pool, k->quant->probe); }
