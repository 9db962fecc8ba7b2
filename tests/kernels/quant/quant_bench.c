/* quant_bench.c - qcheck --bench: packing, products of few and of many tokens beside the probes of the same round.
 *
 * Each round takes the probe and every case once, one after the other, so that a neighbour on the machine slows all of them
 * alike. A line shows the best time, the share of the best probe, and the median over rounds of the share in that round. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/pages.h"
#include "kernels/pack.h"
#include "qcheck.h"

#define ROUNDS       11
#define WEIGHT_BYTES ((size_t)360 << 20)
#define MAX_CASES    16

struct bench {
    const struct qcheck *c;
    struct qvl_pool *pool;
    int threads;
    unsigned char *weights; /* WEIGHT_BYTES */
};

struct timed {
    char name[64];
    struct qvl_matmul op;
    struct qvl_mat mat;
    struct qvl_scratch scratch;
    int copies;
    size_t bytes;            /* of one copy */
    double ops;              /* of one copy */
    double seconds[ROUNDS];  /* for one copy */
};

/* With one thread its own processor time: other work on the machine then costs caches and bandwidth, but not time. */
static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "qcheck: out of memory\n");
        exit(1);
    }
    return p;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct job {
    const struct bench *b;
    struct timed *t;
    volatile uint64_t sink;
    int64_t iterations;
    double ops;
};

static void read_all(void *ud, const struct qvl_team *team)
{
    struct job *j = ud;
    int64_t lo, hi;
    qvl_team_share(team, (int64_t)WEIGHT_BYTES, 4096, &lo, &hi);
    uint64_t v = j->b->c->k->probe->read(j->b->weights + lo, (size_t)(hi - lo));
    if (team->id == 0)
        j->sink = v;
}

static void calculate(void *ud, const struct qvl_team *team)
{
    struct job *j = ud;
    double ops = j->b->c->q->probe(j->iterations);
    if (team->id == 0)
        j->ops = ops;
}

static void multiply(void *ud, const struct qvl_team *team)
{
    struct job *j = ud;
    for (int i = 0; i < j->t->copies; i++) {
        struct qvl_mat mat = j->t->mat;
        struct qvl_matmul op = j->t->op;
        mat.data = j->b->weights + (size_t)i * j->t->bytes;
        op.w = &mat;
        qvl_quant_matmul(team, j->b->c->q, &(struct qvl_quant_set){.op = &op, .n = 1}, &j->t->scratch);
        qvl_team_barrier(team);
    }
}

static double run(const struct bench *b, qvl_team_fn fn, struct job *j)
{
    double t = now();
    qvl_pool_run(b->pool, fn, j);
    return now() - t;
}

static void add_case(struct bench *b, struct timed *t, int kind, int64_t m, int64_t n_out, int64_t n_in)
{
    *t = (struct timed){.mat = {.type = kind ? QVL_DT_Q8 : QVL_DT_Q4, .n_out = n_out, .n_in = n_in}};
    snprintf(t->name, sizeof t->name, "%s %5dx%-5d m=%-4d", kind ? "q8" : "q4", (int)n_out, (int)n_in, (int)m);
    t->bytes = qvl_quant_bytes(t->mat.type, n_out, n_in);
    t->copies = m > 8 ? 1 : (int)(WEIGHT_BYTES / t->bytes);
    t->ops = 2.0 * (double)m * (double)n_out * (double)n_in;
    t->scratch.bytes = qvl_quant_scratch(b->c->q, m, n_in, b->threads);
    t->scratch.mem = must(qvl_calloc(t->scratch.bytes, 1));
    float *x = must(qvl_calloc((size_t)(m * n_in), 4));
    for (int64_t i = 0; i < m * n_in; i++)
        x[i] = (float)(i * 7919 % 1000 - 500);
    t->op = (struct qvl_matmul){
        .y = must(qvl_calloc((size_t)(m * n_out), 4)), .x = x, .m = m, .y_stride = n_out, .x_stride = n_in};
}

static void free_case(struct timed *t)
{
    qvl_mem_free((void *)(uintptr_t)t->op.x);
    qvl_mem_free(t->op.y);
    qvl_mem_free(t->scratch.mem);
}

/* probe[] in units of work per second: bytes (memory) or operations. */
static void report(const struct timed *t, const double *probe, int memory)
{
    double share[ROUNDS], best = t->seconds[0], top = 0, work = memory ? (double)t->bytes : t->ops;
    for (int i = 0; i < ROUNDS; i++) {
        share[i] = work / t->seconds[i] / probe[i];
        best = fmin(best, t->seconds[i]);
        top = fmax(top, probe[i]);
    }
    qsort(share, ROUNDS, sizeof *share, by_value);
    printf("%s %8.3f ms  %6.1f GB/s %6.0f GOP/s  %3.0f %% of the best %s, median of rounds %3.0f %%\n", t->name, best * 1e3,
           (double)t->bytes / best * 1e-9, t->ops / best * 1e-9, 100 * work / best / top, memory ? "read" : "int8 peak",
           100 * share[ROUNDS / 2]);
}

static void bench_gemv(struct bench *b, int kind, int64_t n_out, int64_t n_in)
{
    struct timed t[MAX_CASES];
    double probe[ROUNDS];
    for (int m = 1; m <= 8; m++)
        add_case(b, &t[m - 1], kind, m, n_out, n_in);
    struct job j = {.b = b};
    run(b, read_all, &j);
    for (int r = 0; r < ROUNDS; r++) {
        probe[r] = (double)WEIGHT_BYTES / run(b, read_all, &j);
        for (int i = 0; i < 8; i++) {
            j.t = &t[i];
            t[i].seconds[r] = run(b, multiply, &j) / t[i].copies;
        }
        probe[r] = fmax(probe[r], (double)WEIGHT_BYTES / run(b, read_all, &j));
    }
    double top = 0, ratio[ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        top = fmax(top, probe[r]);
    printf("read probe %.1f GB/s\n", top * 1e-9);
    for (int i = 0; i < 8; i++) {
        report(&t[i], probe, 1);
        for (int r = 0; r < ROUNDS; r++)
            ratio[r] = t[i].seconds[r] / t[0].seconds[r];
        qsort(ratio, ROUNDS, sizeof *ratio, by_value);
        printf("    time against m=1: %.2f (median of rounds)\n", ratio[ROUNDS / 2]);
        free_case(&t[i]);
    }
}

static void bench_gemm(struct bench *b)
{
    static const int64_t cases[][4] = {{0, 512, 9728, 2560}, {0, 512, 2560, 9728}, {0, 512, 6144, 2560},
                                       {1, 512, 9728, 2560}, {0, 128, 9728, 2560}, {0, 64, 9728, 2560},
                                       {0, 48, 9728, 2560},  {0, 32, 9728, 2560},  {0, 24, 9728, 2560},
                                       {0, 16, 9728, 2560},  {0, 9, 9728, 2560},   {1, 512, 4096, 1024}};
    struct timed t[MAX_CASES];
    double probe[ROUNDS];
    const int n = (int)QVL_COUNT(cases);
    for (int i = 0; i < n; i++)
        add_case(b, &t[i], (int)cases[i][0], cases[i][1], cases[i][2], cases[i][3]);
    struct job j = {.b = b, .iterations = 1000};
    while (run(b, calculate, &j) < 0.01)
        j.iterations *= 2;
    for (int r = 0; r < ROUNDS; r++) {
        double s = run(b, calculate, &j);
        for (int i = 0; i < n; i++) {
            j.t = &t[i];
            t[i].seconds[r] = run(b, multiply, &j);
        }
        s = fmin(s, run(b, calculate, &j));
        probe[r] = j.ops * b->threads / s;
    }
    double top = 0;
    for (int r = 0; r < ROUNDS; r++)
        top = fmax(top, probe[r]);
    printf("int8 probe %.0f GOP/s\n", top * 1e-9);
    for (int i = 0; i < n; i++) {
        report(&t[i], probe, 0);
        free_case(&t[i]);
    }
}

struct packing {
    const struct bench *b;
    struct qvl_mat mat;
    enum qvl_dtype type;
    void *dst, *work;
    const float *importance;
    struct qvl_quant_error error; /* of member 0 */
};

static void pack_share(void *ud, const struct qvl_team *team)
{
    struct packing *p = ud;
    int64_t lo, hi;
    size_t work = qvl_round_up(qvl_quant_work_bytes(p->mat.n_in), QVL_ALIGN);
    qvl_team_share(team, p->mat.n_out, 16, &lo, &hi);
    struct qvl_quant_error e = qvl_quant_pack(p->dst, p->type, &p->mat, lo, hi, p->importance, p->b->c->k,
                                                   (char *)p->work + work * (size_t)team->id);
    if (team->id == 0)
        p->error = e;
}

static void bench_pack(struct bench *b)
{
    const int64_t n_out = 4096, n_in = 2560;
    struct qcheck c = {.seed = 3};
    uint16_t *w = must(qvl_alloc((size_t)(n_out * n_in), 2));
    float *importance = must(qvl_alloc((size_t)n_in, 4));
    for (int64_t i = 0; i < n_out * n_in; i++) {
        float f = next_normal(&c);
        uint32_t u;
        memcpy(&u, &f, 4);
        w[i] = (uint16_t)(u >> 16);
    }
    for (int64_t i = 0; i < n_in; i++)
        importance[i] = expf(next_normal(&c));
    struct packing p = {
        .b = b, .mat = {.data = w, .type = QVL_DT_BF16, .n_out = n_out, .n_in = n_in, .stride = n_in}, .dst = b->weights};
    p.work = must(qvl_calloc((size_t)b->threads, qvl_round_up(qvl_quant_work_bytes(n_in), QVL_ALIGN)));
    for (int i = 0; i < 3; i++) {
        p.type = i == 2 ? QVL_DT_Q8 : QVL_DT_Q4;
        p.importance = i == 1 ? importance : NULL;
        double best = 1e9;
        for (int r = 0; r < 5; r++) {
            double t = now();
            qvl_pool_run(b->pool, pack_share, &p);
            best = fmin(best, now() - t);
        }
        printf("pack %s%s: %.0f M weights/s, 4e9 weights in %.1f s, relative error %.5f\n", i == 2 ? "q8" : "q4",
               i == 1 ? " with importance" : "", (double)(n_out * n_in) / best * 1e-6, 4e9 / ((double)(n_out * n_in) / best),
               sqrt(p.error.error / p.error.norm));
    }
    qvl_mem_free(w);
    qvl_mem_free(importance);
    qvl_mem_free(p.work);
}

void bench(struct qcheck *c, unsigned threads, const char *only)
{
    struct bench b = {.c = c, .threads = (int)threads};
    struct qvl_pages pages;
    if (qvl_pool_open(&b.pool, threads, NULL) || qvl_pages_open(&pages, WEIGHT_BYTES + (1 << 20), "weights", NULL)) {
        fprintf(stderr, "qcheck: no memory or no threads\n");
        exit(1);
    }
    if (threads == 1)
        clock_used = CLOCK_THREAD_CPUTIME_ID;
    b.weights = pages.data;
    for (size_t i = 0; i < WEIGHT_BYTES; i += 2) { /* any bytes are weights; scales must not be NaN */
        b.weights[i] = (unsigned char)(i * 2654435761u >> 13);
        b.weights[i + 1] = (unsigned char)(b.weights[i] & 0x2f);
    }
    printf("qcheck --bench: level %s, %u threads\n", c->k->name, threads);
    if (!only || !strcmp(only, "gemv")) {
        bench_gemv(&b, 0, 9728, 2560);
        bench_gemv(&b, 0, 2560, 9728);
        bench_gemv(&b, 1, 9728, 2560);
    }
    if (!only || !strcmp(only, "gemm"))
        bench_gemm(&b);
    if (!only || !strcmp(only, "pack"))
        bench_pack(&b);
    qvl_pages_close(&pages);
    qvl_pool_close(&b.pool);
}
