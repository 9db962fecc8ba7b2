/* Models of quantised safetensors: goldens of transformers with the weights that the published packages make of the same tensors. */
#include "qvl.h"
#include "unit/quantised_help.h"

static const char *const goldens[] = {"text", "one"};

struct seen {
    int logits;
    double worst; /* of the logits: largest relative error (L2) */
};

static void on_row(void *ud, const qvl_verify_row *r)
{
    struct seen *s = ud;
    if (!strncmp(r->name, "logits", 6)) {
        s->logits++;
        if (!(r->rel_l2 <= s->worst))
            s->worst = r->rel_l2;
    }
    if (!r->pass)
        printf("    %-24s %-22s max_abs %.3g rel_l2 %.3g limit %.3g %s\n", r->name, r->shape, r->max_abs, r->rel_l2, r->limit, r->note);
}

static void verify(const char *dir, const char *name, const char *cpu, struct seen *s)
{
    qvl_err err = {0};
    qvl_model *m = NULL;
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = dir;
    p.precision = QVL_PRECISION_F32;
    p.cpu = cpu;
    if (qvl_model_open(&m, &p, &err) != 0)
        fail_msg("%s: %s", name, err.msg);
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        char golden[300];
        qvl_session_params sp;
        int passed = 0;
        qvl_session_params_default(&sp);
        sp.n_threads = 1 + (uint32_t)i;
        sp.n_ctx = 512;
        snprintf(golden, sizeof golden, QUANTISED "%s/%s.safetensors", name, goldens[i]);
        if (qvl_verify(m, &sp, golden, on_row, s, &passed, &err) != 0)
            fail_msg("%s: %s", golden, err.msg);
        if (!passed)
            fail_msg("%s: does not pass", golden);
    }
    qvl_model_close(&m);
}

static void every_format_gives_the_reference_s_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_QUANTISED; i++) {
        char dir[64];
        struct seen s = {0};
        make_quantised(dir, quantised_names[i], NULL);
        verify(dir, quantised_names[i], NULL, &s);
        verify(dir, quantised_names[i], "ref", &s);
        remove_quantised(dir);
        assert_int_equal(s.logits, 4);
        if (!(s.worst <= 1e-4))
            fail_msg("%s: logits differ by %g", quantised_names[i], s.worst);
        print_message("%s: logits differ by %.2g\n", quantised_names[i], s.worst);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_format_gives_the_reference_s_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
