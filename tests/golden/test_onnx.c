/* Decoders from ONNX Runtime GenAI folders: goldens of transformers with the weights that onnxruntime makes of them, with the vision
 * half of the model they were exported from. tests/data/onnx/NAME holds the export and its goldens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/tensor_source.h"
#include "qvl.h"

static const struct {
    const char *name, *base; /* base: under tests/golden/models */
} exports[] = {{"shared", "sharded-bf16"}, {"asym", "untied-f32"}, {"fused", "untied-f32"}, {"mixed", "untied-f32"},
               {"f16", "taps-f16"},        {"qdq", "untied-f32"},  {"float", "taps-f16"},   {"slip", "sharded-bf16"}};
static const char *const cases[] = {"text", "one", "two"};

struct seen {
    int rows, failed, logits;
    double worst; /* of the logits: largest absolute error */
};

static void on_row(void *ud, const qvl_verify_row *r)
{
    struct seen *s = ud;
    s->rows++;
    if (!strncmp(r->name, "logits", 6)) {
        s->logits++;
        if (!(r->max_abs <= s->worst))
            s->worst = r->max_abs;
    }
    if (!r->pass) {
        s->failed++;
        printf("    %-24s %-22s max_abs %.3g rel_l2 %.3g limit %.3g %s\n", r->name, r->shape, r->max_abs, r->rel_l2, r->limit, r->note);
    }
}

static void verify(const char *dir, const char *name, const char *cpu, struct seen *s)
{
    char text[512], golden[600];
    qvl_err err = {0};
    qvl_model *m = NULL;
    qvl_model_params p;
    snprintf(text, sizeof text, QVL_SOURCE_DIR "/tests/data/onnx/%s", name);
    qvl_model_params_default(&p);
    p.path = dir;
    p.text = text;
    p.precision = QVL_PRECISION_F32;
    p.cpu = cpu;
    if (qvl_model_open(&m, &p, &err) != 0)
        fail_msg("%s: %s", name, err.msg);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qvl_session_params sp;
        int passed = 0;
        qvl_session_params_default(&sp);
        sp.n_threads = 1 + (uint32_t)i;
        sp.n_ctx = 512;
        snprintf(golden, sizeof golden, "%s/%s.safetensors", text, cases[i]);
        if (qvl_verify(m, &sp, golden, on_row, s, &passed, &err) != 0)
            fail_msg("%s: %s", golden, err.msg);
        if (!passed)
            fail_msg("%s: does not pass", golden);
    }
    qvl_model_close(&m);
}

static void every_export_gives_the_reference_s_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof exports / sizeof *exports; i++) {
        char base[512];
        struct seen s = {0};
        snprintf(base, sizeof base, QVL_SOURCE_DIR "/tests/golden/models/%s", exports[i].base);
        verify(base, exports[i].name, NULL, &s);
        verify(base, exports[i].name, "ref", &s);
        assert_int_equal(s.failed, 0);
        assert_int_equal(s.logits, 6);
        assert_true(s.rows > 30);
        if (!(s.worst <= 1e-4))
            fail_msg("%s: logits differ by %g", exports[i].name, s.worst);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_export_gives_the_reference_s_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
