/* Drafting: the guesses, the decision, and that answers are the same with and without. */
#include "unit/session_help.h"

#include "base/mem.h"
#include "decoder/decoder.h"
#include "engine/draft.h"
#include "engine/internal.h"

static void guesses_what_followed_before(void **state)
{
    const int32_t id[] = {1, 2, 3, 4, 5, 6, 9, 9, 2, 3, 4};
    int32_t out[QVL_DRAFT_MAX];
    struct qvl_draft d;
    (void)state;
    qvl_draft_init(&d, 0);
    assert_int_equal(qvl_draft_guess(&d, out, id, 11, 100, 101, 7), 0); /* nothing to compare with yet */
    qvl_draft_learn(&d, 0, 0, 10.0);
    assert_int_equal(qvl_draft_guess(&d, out, id, 11, 100, 101, 7), 4);
    assert_int_equal(out[0], 5);
    assert_int_equal(out[1], 6);
    assert_int_equal(out[3], 9);
    assert_int_equal(qvl_draft_guess(&d, out, id, 11, 100, 101, 2), 2); /* no more than asked for */
    assert_int_equal(qvl_draft_guess(&d, out, id, 11, 6, 101, 7), 1);   /* ends in front of a picture */
    assert_int_equal(qvl_draft_guess(&d, out, id, 10, 100, 101, 7), 4);
    assert_int_equal(out[0], 4);
    assert_int_equal(qvl_draft_guess(&d, out, id, 6, 100, 101, 7), 0);  /* nothing repeats */
    const int32_t same[] = {7, 7, 7, 7, 7};
    assert_int_equal(qvl_draft_guess(&d, out, same, 5, 100, 101, 7), 1);
    qvl_draft_init(&d, 1);
    qvl_draft_learn(&d, 0, 0, 10.0);
    assert_int_equal(qvl_draft_guess(&d, out, id, 11, 100, 101, 7), 0);
}

static void rests_when_it_does_not_pay(void **state)
{
    const int32_t id[] = {1, 2, 3, 4, 5, 6, 9, 9, 2, 3, 4};
    int32_t out[QVL_DRAFT_MAX];
    struct qvl_draft d;
    (void)state;
    qvl_draft_init(&d, 0);
    qvl_draft_learn(&d, 0, 0, 10.0);
    qvl_draft_learn(&d, 4, 4, 13.0); /* five tokens in 13 ms instead of 50 */
    assert_int_equal(d.length, 6);
    assert_true(qvl_draft_guess(&d, out, id, 11, 100, 101, 7) > 0);
    int wrong = 0;
    while (d.pause == 0 && wrong < 100) { /* one token in 15 ms instead of 10 */
        qvl_draft_learn(&d, 4, 0, 15.0);
        wrong++;
    }
    assert_true(wrong < 20);
    assert_int_equal(d.length, 2);
    int pauses = 0;
    while (qvl_draft_guess(&d, out, id, 11, 100, 101, 7) == 0 && pauses < 1000)
        pauses++;
    assert_true(pauses > 10 && pauses < 1000); /* rests, then tries again */
    assert_int_equal(d.drafted, 4 + 4 * wrong);
    assert_int_equal(d.accepted, 4);
}

/* The ground that drafting stands on: a step of several tokens computes each exactly as a step of one does. */
static void several_tokens_at_once_are_the_same_bytes(qvl_precision precision, const char *cpu)
{
    qvl_model_params p = tiny_params(precision);
    qvl_model *m = NULL;
    qvl_err err = {0};
    p.cpu = cpu;
    int rc = qvl_model_open(&m, &p, &err);
    if (rc == QVL_E_UNSUPPORTED)
        return; /* the machine lacks this level */
    assert_int_equal(rc, 0);
    qvl_session *s = open_session(m, 2, 0);
    struct qvl_sequence seq = {0};
    size_t V = (size_t)m->config.text.n_vocab;
    float *one = malloc(8 * V * sizeof *one), *many = malloc(8 * V * sizeof *many);
    assert_int_equal(qvl_sequence_reserve(&seq, 200, NULL), 0);
    for (int i = 0; i < 120; i++)
        qvl_sequence_add_text(&seq, (i * 7919 + 13) % 2400);
    assert_int_equal(qvl_decoder_step(s->decoder, &seq, 0, 100, 0, NULL, NULL, NULL, &err), 0);
    for (int n = 1; n <= 8; n++) {
        for (int i = 0; i < n; i++)
            assert_int_equal(qvl_decoder_step(s->decoder, &seq, 100 + i, 101 + i, 1, one + (size_t)i * V, NULL, NULL, &err), 0);
        assert_int_equal(qvl_decoder_step(s->decoder, &seq, 100, 100 + n, n, many, NULL, NULL, &err), 0);
        assert_memory_equal(many, one, (size_t)n * V * sizeof *one);
    }
    free(one);
    free(many);
    qvl_sequence_free(&seq);
    qvl_session_close(&s);
    qvl_model_close(&m);
}

static void same_bytes_on_every_level(void **state)
{
    (void)state;
    for (int level = 0; level < QVL_CPU_LEVELS; level++) {
        several_tokens_at_once_are_the_same_bytes(QVL_PRECISION_F32, qvl_cpu_level_name((enum qvl_cpu_level)level));
        several_tokens_at_once_are_the_same_bytes(QVL_PRECISION_BF16, qvl_cpu_level_name((enum qvl_cpu_level)level));
    }
}

static void answers_are_the_same(void **state)
{
    static const char *const question[] = {"Locate all shapes and report bbox coordinates in JSON format.",
                                           "Describe this image. Describe this image. Describe this image."};
    qvl_err err = {0};
    qvl_model *m = open_tiny(QVL_PRECISION_F32);
    (void)state;
    for (int sampled = 0; sampled < 2; sampled++)
        for (size_t q = 0; q < 2; q++) {
            int32_t ids[2][256];
            size_t n[2] = {0, 0};
            for (int off = 0; off < 2; off++) {
                qvl_gen_params g;
                qvl_result r;
                qvl_session *s = open_session(m, 2, 0);
                assert_int_equal(ask(s, TINY "/examples/three-shapes.png", question[q], &err), 0);
                qvl_gen_params_default(&g, NULL);
                g.greedy = !sampled;
                g.temperature = 0.7f;
                g.seed = 5;
                g.repetition_penalty = sampled ? 1.05f : 1;
                g.max_tokens = 200;
                g.no_draft = off;
                assert_int_equal(qvl_session_generate(s, &g, &r, &err), 0);
                n[off] = r.n_ids;
                memcpy(ids[off], r.ids, r.n_ids * sizeof *r.ids);
                assert_true(off == 0 || r.n_drafted == 0);
                assert_true(r.n_accepted <= r.n_drafted);
                qvl_session_close(&s);
            }
            assert_int_equal(n[0], n[1]);
            assert_memory_equal(ids[0], ids[1], n[0] * sizeof(int32_t));
        }
    qvl_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_what_followed_before),
        cmocka_unit_test(rests_when_it_does_not_pay),
        cmocka_unit_test(same_bytes_on_every_level),
        cmocka_unit_test(answers_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
