/* The best logits of a packed head are those of the full-precision table; the others and the table of a different head stay. */
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/mem.h"
#include "decoder/refine.h"
#include "kernels/quant.h"

enum { V = 1003, D = 320, TOP = QVL_REFINE_ROWS };

struct problem {
    uint16_t *table;  /* [V][D] bf16 */
    struct qvl_mat head, embed;
    float h[D], before[V], after[V];
    double exact[V];
};

static float number(uint64_t *seed)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*seed >> 40) / 16777216.0f - 0.5f;
    }
    return sum;
}

struct job {
    struct problem *p;
    const struct qvl_kernels *k;
    struct qvl_refine *r;
    struct qvl_scratch scratch;
};

static void multiply(void *ud, const struct qvl_team *t)
{
    struct job *j = ud;
    struct qvl_matmul op = {.y = j->p->before, .x = j->p->h, .w = &j->p->head, .m = 1, .y_stride = V, .x_stride = D};
    qvl_matmul(t, j->k, QVL_ARITH_BF16, &op, &j->scratch);
}

static void refine(void *ud, const struct qvl_team *t)
{
    struct job *j = ud;
    qvl_refine_run(t, j->k, j->r, &j->p->embed, j->p->after, j->p->h);
}

static const struct qvl_kernels *best_level(void)
{
    enum qvl_cpu_level level;
    qvl_err err;
    assert_int_equal(qvl_cpu_level_parse(&level, NULL, &err), 0);
    return qvl_kernels_get(level);
}

static void run(struct problem *p, const struct qvl_kernels *k, unsigned threads)
{
    struct qvl_pool *pool;
    struct qvl_refine r;
    struct qvl_arena arena = {0};
    qvl_err err;
    assert_int_equal(qvl_pool_open(&pool, threads, &err), 0);
    qvl_refine_take(&r, &arena, (int)threads); /* counts */
    size_t need = arena.used;
    assert_int_equal(qvl_arena_open(&arena, need, &err), 0);
    qvl_refine_take(&r, &arena, (int)threads);
    struct job j = {.p = p, .k = k, .r = &r};
    j.scratch.bytes = qvl_matmul_scratch(k, QVL_ARITH_BF16, 1, V, D, (int)threads);
    j.scratch.mem = qvl_alloc(j.scratch.bytes, 1);
    assert_non_null(j.scratch.mem);
    qvl_pool_run(pool, multiply, &j);
    memcpy(p->after, p->before, sizeof p->after);
    qvl_pool_run(pool, refine, &j);
    qvl_mem_free(j.scratch.mem);
    qvl_arena_close(&arena);
    qvl_pool_close(&pool);
}

static void make(struct problem *p, enum qvl_dtype kind)
{
    uint64_t seed = 5;
    const size_t bytes = qvl_quant_bytes(kind, V, D);
    void *packed = qvl_alloc(bytes, 1), *work = qvl_alloc(qvl_quant_work_bytes(D), 1);
    p->table = qvl_alloc((size_t)V * D, sizeof *p->table);
    assert_true(packed && work && p->table);
    for (int i = 0; i < V * D; i++)
        p->table[i] = qvl_f32_to_bf16(0.1f * number(&seed));
    for (int i = 0; i < D; i++)
        p->h[i] = number(&seed);
    p->embed = (struct qvl_mat){.data = p->table, .type = QVL_DT_BF16, .n_out = V, .n_in = D, .stride = D};
    qvl_quant_pack(packed, kind, &p->embed, 0, V, NULL, best_level(), work);
    p->head = (struct qvl_mat){.data = packed, .type = kind, .n_out = V, .n_in = D};
    for (int i = 0; i < V; i++) {
        p->exact[i] = 0;
        for (int d = 0; d < D; d++)
            p->exact[i] += (double)qvl_bf16_to_f32(p->table[i * D + d]) * (double)p->h[d];
    }
    qvl_mem_free(work);
}

static void drop(struct problem *p)
{
    qvl_mem_free((void *)(uintptr_t)p->head.data);
    qvl_mem_free(p->table);
}

/* How many of all entries have a larger packed logit, or the same and a lower id. */
static int rank_of(const struct problem *p, int id)
{
    int n = 0;
    for (int i = 0; i < V; i++)
        n += p->before[i] > p->before[id] || (p->before[i] == p->before[id] && i < id);
    return n;
}

static void check(const struct problem *p)
{
    int changed = 0;
    for (int i = 0; i < V; i++) {
        if (rank_of(p, i) >= TOP) {
            assert_memory_equal(&p->before[i], &p->after[i], sizeof(float));
            continue;
        }
        changed++;
        if (!(fabs((double)p->after[i] - p->exact[i]) <= 1e-5))
            fail_msg("row %d: found %g, expected %g", i, (double)p->after[i], p->exact[i]);
    }
    assert_int_equal(changed, TOP);
}

static void best_rows_are_exact(void **state)
{
    static const enum qvl_dtype kinds[] = {QVL_DT_Q4, QVL_DT_Q8, QVL_DT_Q4M};
    (void)state;
    for (size_t k = 0; k < QVL_COUNT(kinds); k++) {
        struct problem *p = calloc(1, sizeof *p);
        float first[V];
        assert_non_null(p);
        make(p, kinds[k]);
        assert_true(qvl_refine_can(&p->head, &p->embed, best_level()));
        for (unsigned threads = 1; threads <= 3; threads++) {
            run(p, best_level(), threads);
            check(p);
            if (threads == 1)
                memcpy(first, p->after, sizeof first);
            assert_memory_equal(first, p->after, sizeof first);
        }
        memset(p->h, 0, sizeof p->h); /* equal logits: the lower ids win; NaN never does */
        memset(p->exact, 0, sizeof p->exact);
        run(p, best_level(), 2);
        check(p);
        p->h[3] = NAN;
        run(p, best_level(), 2);
        for (int i = 0; i < V; i++)
            assert_true(isnan(p->after[i]));
        drop(p);
        free(p);
    }
}

static void other_heads_are_left_alone(void **state)
{
    struct problem *p = calloc(1, sizeof *p);
    (void)state;
    assert_non_null(p);
    make(p, QVL_DT_Q4);
    for (int i = 0; i < V * D; i++) /* a table of its own, of the same size */
        p->table[i] = qvl_f32_to_bf16((float)(i % 17) - 8);
    assert_false(qvl_refine_can(&p->head, &p->embed, best_level()));
    p->embed.n_out--;
    assert_false(qvl_refine_can(&p->head, &p->embed, best_level()));
    p->embed.n_out++;
    assert_false(qvl_refine_can(&p->embed, &p->embed, best_level())); /* not packed: exact already */
    drop(p);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(best_rows_are_exact), cmocka_unit_test(other_heads_are_left_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
