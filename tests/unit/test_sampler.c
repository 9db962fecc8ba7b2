/* test_sampler.c - filtered scores against transformers' logits processors (tests/data/text/sampler.json), and what those
 * do not know: penalties of the answer, the draw, broken logits, ranges. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "sample/sampler.h"

static const struct qvl_sampler_params OFF = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};

struct bench {
    struct qvl_arena arena;
    struct qvl_sampler s;
};

static void open_sampler(struct bench *b, int n)
{
    struct qvl_arena count = {0};
    qvl_err err;
    qvl_sampler_take(&b->s, &count, n);
    assert_int_equal(qvl_arena_open(&b->arena, count.used, &err), 0);
    qvl_sampler_take(&b->s, &b->arena, n);
    assert_int_equal(b->arena.overflow, 0);
    assert_non_null(b->s.score);
}

static void close_sampler(struct bench *b)
{
    qvl_arena_close(&b->arena);
}

static void begin(struct bench *b, const struct qvl_sampler_params *p, const int32_t *prompt, size_t n)
{
    qvl_err err = {0};
    if (qvl_sampler_begin(&b->s, p, NULL, prompt, n, &err) != 0)
        fail_msg("%s", err.msg);
}

static int32_t pick(struct bench *b, const float *logits)
{
    qvl_err err;
    int32_t id = -1;
    assert_int_equal(qvl_sampler_pick(&b->s, logits, &id, &err), 0);
    assert_in_range(id, 0, b->s.n_vocab - 1);
    return id;
}

/* ---------------------------------------------------------------- against the reference */

static float number(const json_t *p, const char *name, float absent)
{
    const json_t *v = json_object_get(p, name);
    return v ? (float)json_number_value(v) : absent;
}

/* See lcg() in make_sampler_cases.py. */
static float *make_logits(const json_t *c, int *n)
{
    const json_t *list = json_object_get(c, "logits"), *g = json_object_get(c, "lcg");
    *n = (int)(list ? json_array_size(list) : (size_t)json_integer_value(json_array_get(g, 0)));
    float *x = calloc((size_t)*n, sizeof *x);
    assert_non_null(x);
    uint32_t state = (uint32_t)json_integer_value(json_array_get(g, 1));
    int shift = (int)json_integer_value(json_array_get(g, 2));
    double scale = json_number_value(json_array_get(g, 3)), half = g ? (double)(1u << (31 - shift)) : 1;
    for (int i = 0; i < *n; i++) {
        uint32_t bits = (uint32_t)json_integer_value(json_array_get(list, (size_t)i));
        state = state * 1664525u + 1013904223u;
        if (list)
            memcpy(&x[i], &bits, sizeof bits);
        else
            x[i] = (float)(((double)(state >> shift) - half) / half * scale);
    }
    return x;
}

static uint32_t score_bits(const struct bench *b, size_t i)
{
    uint32_t bits;
    memcpy(&bits, &b->s.score[b->s.order[i]], sizeof bits);
    return bits;
}

static void check_case(size_t number_of_case, const json_t *c)
{
    const json_t *p = json_object_get(c, "params"), *seen = json_object_get(c, "seen"), *kept = json_object_get(c, "kept");
    int n;
    float *logits = make_logits(c, &n);
    struct qvl_sampler_params sp = {.temperature = number(p, "temperature", 1),
                                    .top_k = (int)number(p, "top_k", 0),
                                    .top_p = number(p, "top_p", 1),
                                    .min_p = number(p, "min_p", 0),
                                    .repetition_penalty = number(p, "repetition_penalty", 1)};
    int32_t prompt[256];
    size_t n_prompt = json_array_size(seen);
    assert_true(n_prompt <= 256);
    for (size_t i = 0; i < n_prompt; i++)
        prompt[i] = (int32_t)json_integer_value(json_array_get(seen, i));
    struct bench b;
    open_sampler(&b, n);
    begin(&b, &sp, prompt, n_prompt);
    size_t m = qvl_sampler_filter(&b.s, logits);
    if (json_is_array(json_array_get(kept, 0))) {
        if (m != json_array_size(kept))
            fail_msg("case %zu: %zu ids left, expected %zu", number_of_case, m, json_array_size(kept));
        for (size_t i = 0; i < m; i++) {
            const json_t *e = json_array_get(kept, i);
            if (b.s.order[i] != json_integer_value(json_array_get(e, 0)) ||
                score_bits(&b, i) != json_integer_value(json_array_get(e, 1)))
                fail_msg("case %zu: entry %zu is %d (%g)", number_of_case, i, (int)b.s.order[i],
                         (double)b.s.score[b.s.order[i]]);
        }
    } else if (json_is_true(json_object_get(c, "ties"))) {
        json_int_t sum = 0;
        for (size_t i = 0; i < m; i++)
            sum += score_bits(&b, i);
        if ((json_int_t)m != json_integer_value(json_array_get(kept, 0)) ||
            sum != json_integer_value(json_array_get(kept, 1)))
            fail_msg("case %zu: %zu ids left, or other scores", number_of_case, m);
    } else {
        uint32_t h = 0;
        for (size_t i = 0; i < m; i++)
            h = (h * 1000003u + (uint32_t)b.s.order[i]) * 1000003u + score_bits(&b, i);
        if ((json_int_t)m != json_integer_value(json_array_get(kept, 0)) || h != json_integer_value(json_array_get(kept, 1)))
            fail_msg("case %zu: %zu ids left, expected %d, or other scores", number_of_case, m,
                     (int)json_integer_value(json_array_get(kept, 0)));
    }
    close_sampler(&b);
    free(logits);
}

static void filters_as_the_reference(void **state)
{
    (void)state;
    json_t *root;
    qvl_err err;
    assert_int_equal(qvl_json_read(&root, QVL_SOURCE_DIR "/tests/data/text/sampler.json", 1 << 24, &err), 0);
    assert_true(json_array_size(root) > 200);
    for (size_t i = 0; i < json_array_size(root); i++)
        check_case(i, json_array_get(root, i));
    json_decref(root);
}

/* ---------------------------------------------------------------- penalties of the answer */

/* repetition, then frequency * count, then presence once: numbers by hand. */
static void penalties(void **state)
{
    (void)state;
    struct bench b;
    float logits[4] = {4, -4, 3.5f, 1};
    int32_t prompt[1] = {1};
    open_sampler(&b, 4);
    struct qvl_sampler_params p = OFF;
    p.greedy = 1;
    p.repetition_penalty = 2;
    p.presence_penalty = 0.5f;
    p.frequency_penalty = 0.25f;
    begin(&b, &p, prompt, 1);
    assert_int_equal(pick(&b, logits), 0);
    assert_true(b.s.score[0] == 4 && b.s.score[1] == -8 && b.s.score[2] == 3.5f);
    assert_int_equal(pick(&b, logits), 2); /* 0 is now 4/2 - 0.25 - 0.5 */
    assert_true(b.s.score[0] == 1.25f && b.s.score[1] == -8);
    assert_int_equal(pick(&b, logits), 0);
    assert_true(b.s.score[2] == 1);
    assert_int_equal(pick(&b, logits), 0); /* 0: 2 - 2*0.25 - 0.5 = 1; 2: 1; 3: 1: the tie goes to the first */
    close_sampler(&b);
}

/* Prompt ids do not count for presence and frequency. */
static void presence_is_about_the_answer(void **state)
{
    (void)state;
    struct bench b;
    float logits[2] = {1, 0};
    int32_t prompt[3] = {0, 0, 0};
    open_sampler(&b, 2);
    struct qvl_sampler_params p = OFF;
    p.greedy = 1;
    p.presence_penalty = p.frequency_penalty = 2;
    begin(&b, &p, prompt, 3);
    assert_int_equal(pick(&b, logits), 0);
    assert_int_equal(pick(&b, logits), 1);
    close_sampler(&b);
}

/* ---------------------------------------------------------------- the draw */

static void greedy_takes_the_first_largest(void **state)
{
    (void)state;
    struct bench b;
    float logits[5] = {1, 7, 7, NAN, 7};
    open_sampler(&b, 5);
    struct qvl_sampler_params p = OFF;
    p.temperature = 0;
    begin(&b, &p, NULL, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(pick(&b, logits), 1);
    close_sampler(&b);
}

/* Frequencies of 200,000 draws: within 5 standard deviations of the probabilities. */
static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct bench b;
    double prob[4] = {0.5, 0.25, 0.2, 0.05};
    float logits[4];
    int seen[4] = {0};
    for (int i = 0; i < 4; i++)
        logits[i] = (float)log(prob[i]);
    open_sampler(&b, 4);
    struct qvl_sampler_params p = OFF;
    p.seed = 42;
    begin(&b, &p, NULL, 0);
    for (int i = 0; i < N; i++)
        seen[pick(&b, logits)]++;
    for (int i = 0; i < 4; i++) {
        double sigma = sqrt(N * prob[i] * (1 - prob[i]));
        assert_true(fabs(seen[i] - N * prob[i]) < 5 * sigma);
    }
    close_sampler(&b);
}

/* xoshiro256** seeded by splitmix64(0): 0xe220a8397b1dcdaf is splitmix64's published first output for seed 0; the first
 * number of the generator is rotl(s1 * 5, 7) * 9, which decides the first draw. */
static void seeds(void **state)
{
    (void)state;
    struct bench b;
    float logits[1000];
    int32_t first[50];
    int differs = 0;
    for (int i = 0; i < 1000; i++)
        logits[i] = 0;
    open_sampler(&b, 1000);
    struct qvl_sampler_params p = OFF;
    begin(&b, &p, NULL, 0);
    assert_true(b.s.rng[0] == 0xe220a8397b1dcdafu);
    uint64_t x = b.s.rng[1] * 5;
    double u = (double)((((x << 7) | (x >> 57)) * 9) >> 11) * 0x1p-53;
    for (int i = 0; i < 50; i++)
        first[i] = pick(&b, logits);
    assert_int_equal(first[0], (int)(u * 1000));
    begin(&b, &p, NULL, 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(pick(&b, logits), first[i]);
    p.seed = 1;
    begin(&b, &p, NULL, 0);
    for (int i = 0; i < 50; i++)
        differs += pick(&b, logits) != first[i];
    assert_true(differs > 40);
    close_sampler(&b);
}

static void never_allocates(void **state)
{
    (void)state;
    struct bench b;
    float logits[500];
    for (int i = 0; i < 500; i++)
        logits[i] = (float)((i * 7919) % 500) * 0.01f;
    open_sampler(&b, 500);
    struct qvl_sampler_params p = OFF;
    p.top_k = 50;
    p.top_p = 0.9f;
    p.min_p = 0.01f;
    begin(&b, &p, NULL, 0);
    uint64_t before = qvl_alloc_guard_hits();
    qvl_alloc_guard_up();
    for (int i = 0; i < 100; i++)
        pick(&b, logits);
    qvl_alloc_guard_down();
    assert_true(qvl_alloc_guard_hits() == before);
    close_sampler(&b);
}

/* ---------------------------------------------------------------- broken logits */

static void odd_logits(void **state)
{
    (void)state;
    struct bench b;
    qvl_err err;
    int32_t id;
    float nan[3] = {NAN, NAN, NAN}, low[3] = {-INFINITY, -INFINITY, -INFINITY}, one[3] = {NAN, -INFINITY, -5},
          inf[3] = {0, INFINITY, INFINITY}, big[3] = {3e38f, -3e38f, 0};
    uint8_t banned[3] = {0, 0, 1};
    open_sampler(&b, 3);
    for (int greedy = 0; greedy < 2; greedy++) {
        struct qvl_sampler_params p = OFF;
        p.greedy = greedy;
        p.top_k = 2;
        p.top_p = 0.9f;
        p.min_p = 0.1f;
        begin(&b, &p, NULL, 0);
        assert_int_equal(qvl_sampler_pick(&b.s, nan, &id, &err), QVL_E_STATE);
        assert_int_equal(qvl_sampler_pick(&b.s, low, &id, &err), QVL_E_STATE);
        assert_int_equal(pick(&b, one), 2);
        assert_int_equal(pick(&b, big), 0);
        for (int i = 0; i < 30; i++)
            assert_true(pick(&b, inf) != 0);
        assert_int_equal(qvl_sampler_begin(&b.s, &p, banned, NULL, 0, &err), 0);
        assert_int_equal(qvl_sampler_pick(&b.s, one, &id, &err), QVL_E_STATE);
        for (int i = 0; i < 30; i++)
            assert_int_equal(pick(&b, inf), 1);
        p.temperature = 1e-30f; /* scores overflow */
        begin(&b, &p, NULL, 0);
        assert_int_equal(pick(&b, big), 0);
    }
    close_sampler(&b);
}

static void ranges(void **state)
{
    (void)state;
    struct bench b;
    qvl_err err;
    const struct {
        const char *field;
        struct qvl_sampler_params p;
    } bad[] = {
        {"temperature", {.temperature = NAN, .top_p = 1, .repetition_penalty = 1}},
        {"temperature", {.temperature = INFINITY, .top_p = 1, .repetition_penalty = 1}},
        {"top_k", {.temperature = 1, .top_k = -1, .top_p = 1, .repetition_penalty = 1}},
        {"top_p", {.temperature = 1, .top_p = 1.01f, .repetition_penalty = 1}},
        {"top_p", {.temperature = 1, .top_p = -0.1f, .repetition_penalty = 1}},
        {"top_p", {.temperature = 1, .top_p = NAN, .repetition_penalty = 1}},
        {"min_p", {.temperature = 1, .top_p = 1, .min_p = 1.5f, .repetition_penalty = 1}},
        {"min_p", {.temperature = 1, .top_p = 1, .min_p = NAN, .repetition_penalty = 1}},
        {"repetition_penalty", {.temperature = 1, .top_p = 1}},
        {"repetition_penalty", {.temperature = 1, .top_p = 1, .repetition_penalty = -1}},
        {"repetition_penalty", {.greedy = 1, .repetition_penalty = NAN}},
        {"presence_penalty", {.greedy = 1, .repetition_penalty = 1, .presence_penalty = INFINITY}},
        {"frequency_penalty", {.greedy = 1, .repetition_penalty = 1, .frequency_penalty = NAN}},
    };
    int32_t outside[2][1] = {{-1}, {10}};
    open_sampler(&b, 10);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(qvl_sampler_begin(&b.s, &bad[i].p, NULL, NULL, 0, &err), QVL_E_ARG);
        assert_non_null(strstr(err.msg, bad[i].field));
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(qvl_sampler_begin(&b.s, &OFF, NULL, outside[i], 1, &err), QVL_E_ARG);
    close_sampler(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_as_the_reference),
        cmocka_unit_test(penalties),
        cmocka_unit_test(presence_is_about_the_answer),
        cmocka_unit_test(greedy_takes_the_first_largest),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(seeds),
        cmocka_unit_test(never_allocates),
        cmocka_unit_test(odd_logits),
        cmocka_unit_test(ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
