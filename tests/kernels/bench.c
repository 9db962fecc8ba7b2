/* bench.c - kcheck --bench: speeds of one level beside the probes of the same minute.
 *
 * Weights cycle through more memory than the caches hold, as in a model. A line shows the best and the median of the
 * rounds; the share is that of the best, of the read probe (bound by memory) or of the arithmetic probe. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/half.h"
#include "base/mem.h"
#include "kcheck.h"
#include "kernels/pack.h"
#include "kernels/quant.h"
#include "kernels/probe.h"

#define ROUNDS       9
#define WEIGHT_BYTES ((size_t)400 << 20)

static clockid_t clock_used = CLOCK_MONOTONIC;

struct setting {
    const struct qvl_kernels *k;
    struct qvl_pool *pool;
    int threads;
    double read, f32, bf16, int8; /* probes; an INT8 cache multiplies 16 bits by 8: half of int8 */
    uint16_t *weights;      /* WEIGHT_BYTES */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct timing {
    double best, median;
};

static struct timing measure(struct setting *s, qvl_team_fn fn, void *ud)
{
    double t[ROUNDS];
    qvl_pool_run(s->pool, fn, ud);
    for (int i = 0; i < ROUNDS; i++) {
        double start = now();
        qvl_pool_run(s->pool, fn, ud);
        t[i] = now() - start;
    }
    qsort(t, ROUNDS, sizeof *t, by_value);
    return (struct timing){t[0], t[ROUNDS / 2]};
}

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "kcheck: out of memory\n");
        exit(1);
    }
    return p;
}

static float *normals(int64_t n)
{
    struct check c = {.seed = 7};
    float *x = must(qvl_alloc((size_t)n, 4));
    fill_normal(&c, x, n, 1);
    return x;
}

/* ------------------------------------------------------------------ matrix products */

struct products {
    const struct setting *s;
    enum qvl_arith a;
    struct qvl_matmul op;
    struct qvl_mat mat;
    struct qvl_scratch scratch;
    int copies;
};

static void run_products(void *ud, const struct qvl_team *t)
{
    struct products *p = ud;
    for (int i = 0; i < p->copies; i++) {
        struct qvl_mat mat = p->mat;
        struct qvl_matmul op = p->op;
        mat.data =
            (const char *)p->s->weights + (size_t)i * (size_t)(mat.n_out * mat.n_in) * (mat.type == QVL_DT_F32 ? 4 : 2);
        op.w = &mat;
        qvl_matmul(t, p->s->k, p->a, &op, &p->scratch);
        qvl_team_barrier(t);
    }
}

static void bench_product(struct setting *s, int64_t m, int64_t n_out, int64_t n_in, enum qvl_arith a, enum qvl_dtype type,
                          int copies, int transposed)
{
    struct products p = {
        .s = s,
        .a = a,
        .mat = {.type = type, .n_out = n_out, .n_in = n_in, .stride = transposed ? n_out : n_in, .transposed = transposed}};
    size_t bytes = (size_t)(n_out * n_in) * (type == QVL_DT_F32 ? 4 : 2);
    int fit = (int)(WEIGHT_BYTES / bytes);
    p.copies = copies && copies < fit ? copies : fit;
    float *x = normals(m * n_in), *y = must(qvl_calloc((size_t)(m * n_out), 4));
    p.scratch.bytes = qvl_matmul_scratch(s->k, a, m, n_out, n_in, s->threads);
    p.scratch.mem = must(qvl_calloc(p.scratch.bytes, 1));
    p.op = (struct qvl_matmul){.y = y, .x = x, .m = m, .y_stride = n_out, .x_stride = n_in};
    struct timing t = measure(s, run_products, &p);
    double best = t.best / p.copies, median = t.median / p.copies, flops = 2.0 * (double)m * (double)n_out * (double)n_in;
    double peak = a == QVL_ARITH_BF16 && type == QVL_DT_BF16 && s->bf16 > 0 ? s->bf16 : s->f32;
    printf("%-5s %s x %s%s  %5d x %5d  m=%-4d %8.3f ms (median %8.3f)", m <= 8 ? "gemv" : "gemm",
           a == QVL_ARITH_BF16 ? "bf16" : "f32 ",
           type == QVL_DT_BF16  ? "bf16"
           : type == QVL_DT_F16 ? "f16 "
                                : "f32 ",
           transposed ? "T" : " ", (int)n_out, (int)n_in, (int)m, best * 1e3, median * 1e3);
    if (m <= 8)
        printf("  %6.1f GB/s  %3.0f %% of read\n", (double)bytes / best * 1e-9, 100 * (double)bytes / best * 1e-9 / s->read);
    else
        printf("  %6.0f GFLOP/s  %3.0f %% of peak\n", flops / best * 1e-9, 100 * flops / best * 1e-9 / peak);
    fflush(stdout);
    qvl_mem_free(x);
    qvl_mem_free(y);
    qvl_mem_free(p.scratch.mem);
}

static void bench_gemv(struct setting *s)
{
    static const int64_t shapes[][2] = {{6144, 2560}, {2560, 4096}, {19456, 2560}, {2560, 9728}};
    static const int64_t ms[] = {1, 2, 4, 8};
    for (size_t i = 0; i < QVL_COUNT(shapes); i++)
        for (size_t j = 0; j < QVL_COUNT(ms); j++)
            bench_product(s, ms[j], shapes[i][0], shapes[i][1], QVL_ARITH_BF16, QVL_DT_BF16, 0, 0);
    for (size_t j = 0; j < QVL_COUNT(ms); j++)
        bench_product(s, ms[j], 6144, 2560, QVL_ARITH_F32, QVL_DT_BF16, 0, 0);
    for (size_t j = 0; j < QVL_COUNT(ms); j++)
        bench_product(s, ms[j], 6144, 2560, QVL_ARITH_F32, QVL_DT_F32, 0, 0);
    bench_product(s, 1, 1536, 2048, QVL_ARITH_BF16, QVL_DT_BF16, 0, 1);
    bench_product(s, 4, 1536, 2048, QVL_ARITH_BF16, QVL_DT_BF16, 0, 1);
    bench_product(s, 1, 2048, 768, QVL_ARITH_BF16, QVL_DT_BF16, 0, 1);
}

static void bench_gemm(struct setting *s)
{
    static const int64_t shapes[][2] = {{6144, 2560}, {2560, 9728}, {4096, 1024}, {1024, 4096}};
    for (size_t i = 0; i < QVL_COUNT(shapes); i++)
        for (int a = 0; a < 2; a++)
            bench_product(s, 512, shapes[i][0], shapes[i][1], (enum qvl_arith)a, QVL_DT_BF16, 2, 0);
    bench_product(s, 512, 6144, 2560, QVL_ARITH_F32, QVL_DT_F32, 2, 0);
    bench_product(s, 512, 1536, 2048, QVL_ARITH_BF16, QVL_DT_BF16, 4, 1);
    bench_product(s, 3072, 4096, 1024, QVL_ARITH_BF16, QVL_DT_BF16, 1, 0);
    bench_product(s, 32, 6144, 2560, QVL_ARITH_BF16, QVL_DT_BF16, 4, 0);
    bench_product(s, 12, 6144, 2560, QVL_ARITH_BF16, QVL_DT_BF16, 4, 0);
}

/* ------------------------------------------------------------------ attention */

struct attentions {
    const struct setting *s;
    enum qvl_kv_type a;
    struct qvl_attention op;
    struct qvl_scratch scratch;
    int layers; /* caches to cycle through */
    struct qvl_kv *kv;
};

static void run_attentions(void *ud, const struct qvl_team *t)
{
    struct attentions *p = ud;
    for (int i = 0; i < p->layers; i++) {
        struct qvl_attention op = p->op;
        op.kv = p->kv + i * op.n_kv;
        qvl_attention(t, p->s->k, p->a, &op, &p->scratch);
        qvl_team_barrier(t);
    }
}

static void bench_one_attention(struct setting *s, const char *name, enum qvl_kv_type a, int64_t n_tok, int64_t n_key,
                                int n_head, int n_kv, int hd, int causal, int layers)
{
    size_t bytes = qvl_kv_bytes(a, hd, n_key);
    int64_t width = n_head * hd;
    struct attentions p = {.s = s, .a = a, .layers = layers};
    float *q = normals(n_tok * width), *out = must(qvl_calloc((size_t)(n_tok * width), 4)), *row = normals(2 * hd + n_key);
    char *mem = must(qvl_calloc((size_t)(layers * n_kv) * 2, bytes));
    p.kv = must(qvl_calloc((size_t)(layers * n_kv), sizeof *p.kv));
    for (int h = 0; h < layers * n_kv; h++) {
        p.kv[h] = (struct qvl_kv){
            .k = mem + (size_t)h * 2 * bytes, .v = mem + ((size_t)h * 2 + 1) * bytes, .head_dim = hd, .n_max = n_key};
        for (int64_t i = 0; i < n_key; i++)
            qvl_kv_store(a, &p.kv[h], i, row + i, row + hd + i);
    }
    p.scratch.bytes = qvl_attention_scratch(s->k, a, n_tok, n_head, n_kv, hd, n_key, s->threads);
    p.scratch.mem = must(qvl_calloc(p.scratch.bytes, 1));
    p.op = (struct qvl_attention){.out = out,
                                  .q = q,
                                  .n_tok = n_tok,
                                  .out_stride = width,
                                  .q_stride = width,
                                  .n_head = n_head,
                                  .n_kv = n_kv,
                                  .head_dim = hd,
                                  .causal = causal,
                                  .first = n_key - n_tok,
                                  .n_key = n_key,
                                  .scale = 1 / sqrtf((float)hd)};
    struct timing t = measure(s, run_attentions, &p);
    double best = t.best / layers, seen = causal ? (double)n_key - (double)(n_tok - 1) / 2 : (double)n_key;
    double peak = a == QVL_KV_INT8 ? s->int8 / 2 : a == QVL_KV_BF16 && s->bf16 > 0 ? s->bf16 : s->f32, flops = 4.0 * (double)n_tok * seen * (double)width;
    printf("attn  %-7s %s  tok=%-5d keys=%-6d heads=%d/%d hd=%d %9.3f ms (median %9.3f)", name,
           a == QVL_KV_INT8 ? "int8" : a == QVL_KV_BF16 ? "bf16" : "f32 ", (int)n_tok, (int)n_key, n_head, n_kv, hd, best * 1e3,
           t.median / layers * 1e3);
    if (n_tok == 1)
        printf("  %6.1f GB/s  %3.0f %% of read\n", (double)bytes * 2 * n_kv / best * 1e-9,
               100 * (double)bytes * 2 * n_kv / best * 1e-9 / s->read);
    else
        printf("  %6.0f GFLOP/s  %3.0f %% of peak\n", flops / best * 1e-9, 100 * flops / best * 1e-9 / peak);
    fflush(stdout);
    qvl_mem_free(q);
    qvl_mem_free(out);
    qvl_mem_free(row);
    qvl_mem_free(mem);
    qvl_mem_free(p.kv);
    qvl_mem_free(p.scratch.mem);
}

static void bench_attention(struct setting *s)
{
    static const enum qvl_kv_type types[] = {QVL_KV_INT8, QVL_KV_BF16, QVL_KV_F32};
    static const int layers[][2] = {{72, 16}, {36, 8}, {18, 4}};
    for (size_t i = 0; i < QVL_COUNT(types); i++) {
        enum qvl_kv_type a = types[i];
        if (a != QVL_KV_INT8) {
            bench_one_attention(s, "vision", a, 1200, 1200, 16, 16, 64, 0, 1);
            bench_one_attention(s, "vision", a, 3072, 3072, 16, 16, 64, 0, 1);
            bench_one_attention(s, "vision", a, 1200, 1200, 16, 16, 72, 0, 1);
        }
        bench_one_attention(s, "prefill", a, 512, 4096, 32, 8, 128, 1, 1);
        bench_one_attention(s, "decode", a, 1, 1024, 32, 8, 128, 1, layers[i][0]);
        bench_one_attention(s, "decode", a, 1, 8192, 32, 8, 128, 1, layers[i][1]);
    }
}

/* ------------------------------------------------------------------ rows */

struct rows {
    const struct setting *s;
    float *x;
    int64_t n, count;
    int what;
};

static void run_rows(void *ud, const struct qvl_team *t)
{
    struct rows *r = ud;
    int64_t lo, hi;
    qvl_team_share(t, r->count, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        float *x = r->x + i * r->n;
        switch (r->what) {
        case 0: r->s->k->gelu_tanh(x, r->n); break;
        case 1: r->s->k->gelu_erf(x, r->n); break;
        case 2: r->s->k->silu_mul(x, x, x, r->n); break;
        case 3: r->s->k->rmsnorm(x, x, r->x, r->n, 1e-6f); break;
        default: r->s->k->layernorm(x, x, r->x, r->x, r->n, 1e-6f); break;
        }
    }
}

static void bench_rows(struct setting *s)
{
    static const char *const names[] = {"gelu_tanh", "gelu_erf", "silu_mul", "rmsnorm", "layernorm"};
    struct rows r = {.s = s, .n = 4096, .count = 32};
    r.x = normals(r.n * r.count);
    for (r.what = 0; r.what < 5; r.what++) {
        struct timing t = measure(s, run_rows, &r);
        printf("rows  %-9s n=4096  %6.2f G elements/s\n", names[r.what], (double)(r.n * r.count) / t.best * 1e-9);
    }
    qvl_mem_free(r.x);
}

static void run_barriers(void *ud, const struct qvl_team *t)
{
    (void)ud;
    for (int i = 0; i < 1000; i++)
        qvl_team_barrier(t);
}

/* The probes in processor time. */
static double own_rate(double (*fn)(int64_t))
{
    double best = 0;
    for (int i = 0; fn && i < ROUNDS; i++) {
        double t = now(), n = fn(1000000), rate = n / (now() - t);
        best = rate > best ? rate : best;
    }
    return best * 1e-9;
}

static double own_read(const struct setting *s)
{
    double best = 0;
    uint64_t sink = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double t = now();
        sink ^= s->k->probe->read(s->weights, WEIGHT_BYTES);
        t = (double)WEIGHT_BYTES / (now() - t);
        best = t > best ? t : best;
    }
    return sink == 1 ? 0 : best * 1e-9; /* uses the sum, so that the reads stay */
}

static void probe_all(struct setting *s)
{
    int own = clock_used != CLOCK_MONOTONIC;
    s->read = own ? own_read(s) : qvl_probe_read_gbs(s->pool, s->k);
    s->f32 = own ? own_rate(s->k->probe->f32) : qvl_probe_f32_gflops(s->pool, s->k);
    s->bf16 = own ? own_rate(s->k->probe->bf16) : qvl_probe_bf16_gflops(s->pool, s->k);
    s->int8 = own ? own_rate(s->k->quant->probe) : qvl_probe_int8_gops(s->pool, s->k);
    printf("read %.1f GB/s, f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, int8 %.0f GOP/s\n", s->read, s->f32, s->bf16, s->int8);
}

int bench(enum qvl_cpu_level level, unsigned threads, const char *only)
{
    /* On a busy machine the time of one thread's own work still says what a kernel does. */
    if (threads == 1)
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
    struct setting s = {.k = qvl_kernels_get(level), .threads = (int)threads};
    qvl_err err;
    if (qvl_pool_open(&s.pool, threads, &err)) {
        fprintf(stderr, "kcheck: %s\n", err.msg);
        return 1;
    }
    s.weights = must(qvl_alloc(WEIGHT_BYTES, 1));
    struct check c = {.seed = 3};
    for (size_t i = 0; i < WEIGHT_BYTES / 2; i++)
        s.weights[i] = (uint16_t)(0x3c00 | (next_u64(&c) & 0x80ff)); /* finite in all three types */
    printf("level %s, %u threads%s: ", s.k->name, threads, threads == 1 ? " (processor time)" : "");
    probe_all(&s);
    printf("barrier %.2f us\n", measure(&s, run_barriers, NULL).best * 1e3);
    if (!only || !strcmp(only, "rows"))
        bench_rows(&s);
    if (!only || !strcmp(only, "gemv"))
        bench_gemv(&s);
    if (!only || !strcmp(only, "gemm"))
        bench_gemm(&s);
    if (!only || !strcmp(only, "attn"))
        bench_attention(&s);
    printf("after the run: ");
    probe_all(&s);
    qvl_mem_free(s.weights);
    qvl_pool_close(&s.pool);
    return 0;
}
