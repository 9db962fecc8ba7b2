/* Adapters against what PEFT computes with them (tests/golden/lora, made by tools/reference/make_lora.py); what they must not change;
 * adapters that have to be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/tensor_source.h"
#include "qvl.h"

#define LORA QVL_SOURCE_DIR "/tests/golden/lora/"
#define MODELS QVL_SOURCE_DIR "/tests/golden/models/"

static const struct {
    const char *trace, *model;
    qvl_adapter adapter[2];
    size_t n;
} cases[] = {{"all-text", "untied-f32", {{LORA "all", 1}}, 1},
             {"all-picture", "untied-f32", {{LORA "all", 1}}, 1},
             {"all-half", "untied-f32", {{LORA "all", 0.5}}, 1},
             {"head-text", "untied-f32", {{LORA "head", 1}}, 1},
             {"both-picture", "untied-f32", {{LORA "all", 1}, {LORA "head", -0.5}}, 2},
             {"patterns-picture", "sharded-bf16", {{LORA "patterns", 1}}, 1},
             {"experts-picture", "moe-bf16", {{LORA "experts", 1}}, 1},
             {"mixed-text", "moe-mixed-f32", {{LORA "mixed", 1}}, 1}};

static qvl_model *open_with(const char *model, const char *cpu, qvl_precision precision, const qvl_adapter *a, size_t n, int *rc, qvl_err *err)
{
    char path[600];
    qvl_model_params p;
    qvl_model *m = NULL;
    snprintf(path, sizeof path, "%s%s", MODELS, model);
    qvl_model_params_default(&p);
    p.path = path;
    p.cpu = cpu;
    p.precision = precision;
    p.no_cache = 1;
    p.lora = a;
    p.n_lora = n;
    *rc = qvl_model_open(&m, &p, err);
    return m;
}

struct seen {
    const char *label; /* NULL: failures are not shown */
    double logits; /* rel_l2 */
    int layers;    /* rows that passed */
};

static void on_row(void *ud, const qvl_verify_row *r)
{
    struct seen *s = ud;
    if (r->pass == 0 && s->label)
        printf("%s: %s: rel_l2 %g, limit %g, %s\n", s->label, r->name, r->rel_l2, r->limit, r->note);
    if (strcmp(r->name, "logits") == 0)
        s->logits = r->rel_l2;
    s->layers += strncmp(r->name, "text.layer.", 11) == 0 && r->pass == 1;
}

/* All cases at one level and precision; limit: of the logits' relative L2 error. Of a mixture of experts twice that: a rounding that
 * changes the choice of an expert costs more, without adapters, too. */
static void run_cases(const char *cpu, qvl_precision precision, double limit, int exact)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[600];
        struct seen s = {.label = exact ? cases[i].trace : NULL, .logits = NAN};
        qvl_session_params p;
        qvl_err err = {0};
        int rc, passed = 0;
        qvl_model *m = open_with(cases[i].model, cpu, precision, cases[i].adapter, cases[i].n, &rc, &err);
        if (rc == QVL_E_UNSUPPORTED && cpu)
            return; /* this machine lacks the level */
        if (rc < 0)
            fail_msg("%s: %s", cases[i].trace, err.msg);
        snprintf(path, sizeof path, LORA "%s.safetensors", cases[i].trace);
        for (uint32_t threads = 1; threads <= 3; threads++) {
            qvl_session_params_default(&p);
            p.n_threads = threads;
            p.n_ctx = 512;
            p.n_chunk = threads == 2 ? 7 : 0; /* the prompt in pieces */
            rc = qvl_verify(m, &p, path, on_row, &s, &passed, &err);
            if (rc < 0)
                fail_msg("%s: %s", cases[i].trace, err.msg);
            const double most = exact || strncmp(cases[i].model, "moe", 3) != 0 ? limit : 2 * limit;
            if ((exact && !passed) || !(s.logits <= most))
                fail_msg("%s, cpu %s, precision %d, %u threads: logits differ by %g, the limit is %g", cases[i].trace, cpu ? cpu : "best",
                         (int)precision, threads, s.logits, most);
        }
        if (exact)
            assert_true(s.layers >= 6);
        qvl_model_close(&m);
    }
}

static void as_the_reference(void **state)
{
    static const char *const levels[] = {"ref", "avx2", "avx512", "avx512_bf16"};
    (void)state;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        run_cases(levels[i], QVL_PRECISION_F32, 1e-4, 1);
    run_cases(NULL, QVL_PRECISION_BF16, 0.05, 0);
}

/* The same tokens without a trace, when only rows that become logits go through the last layer. */
static void answers_of_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[600];
        struct qvl_tensors *t;
        qvl_err err = {0};
        int rc;
        if (!strstr(cases[i].trace, "-text") && !strstr(cases[i].trace, "-half"))
            continue;
        snprintf(path, sizeof path, LORA "%s.safetensors", cases[i].trace);
        assert_int_equal(qvl_safetensors_open(&t, path, &err), 0);
        const struct qvl_tensor *want = qvl_tensors_find(t, "generated_ids");
        assert_non_null(want);
        qvl_model *m = open_with(cases[i].model, NULL, QVL_PRECISION_F32, cases[i].adapter, cases[i].n, &rc, &err);
        assert_non_null(m);
        for (uint32_t chunk = 5; chunk <= 105; chunk += 50) {
            qvl_session *s;
            qvl_session_params sp;
            qvl_gen_params g;
            qvl_result r;
            qvl_part part = {.kind = QVL_PART_TEXT, .data = "Hello! What can you do?", .len = 23};
            qvl_session_params_default(&sp);
            sp.n_chunk = chunk;
            assert_int_equal(qvl_session_open(&s, m, &sp, &err), 0);
            assert_int_equal(qvl_session_add(s, QVL_ROLE_USER, &part, 1, &err), 0);
            qvl_gen_params_default(&g, NULL);
            g.max_tokens = (uint32_t)want->shape[0];
            assert_int_equal(qvl_session_generate(s, &g, &r, &err), 0);
            assert_int_equal(r.n_ids, want->shape[0]);
            assert_memory_equal(r.ids, want->data, want->bytes);
            qvl_session_close(&s);
        }
        qvl_model_close(&m);
        qvl_tensors_close(&t);
    }
}

/* Without its adapter a trace is missed by the length of the logits themselves; packing alone costs far less. */
static void on_packed_weights(void **state)
{
    char path[600];
    qvl_err err = {0};
    int rc, passed;
    struct seen s = {.logits = NAN};
    (void)state;
    run_cases(NULL, QVL_PRECISION_Q8, 0.1, 0);
    run_cases(NULL, QVL_PRECISION_Q4, 0.5, 0);
    qvl_model *m = open_with("untied-f32", NULL, QVL_PRECISION_F32, NULL, 0, &rc, &err);
    assert_int_equal(rc, 0);
    snprintf(path, sizeof path, LORA "all-text.safetensors");
    assert_int_equal(qvl_verify(m, NULL, path, on_row, &s, &passed, &err), 0);
    assert_true(s.logits > 1);
    qvl_model_close(&m);
}

/* The trace file of one answer. */
static char *trace_of(qvl_model *m, uint32_t chunk, int no_draft, size_t *len)
{
    char path[600], *data;
    qvl_err err = {0};
    qvl_session *s;
    qvl_gen_params g;
    qvl_session_params sp;
    qvl_part part = {.kind = QVL_PART_TEXT, .data = "Hello! What can you do?", .len = 23};
    qvl_session_params_default(&sp);
    sp.n_chunk = chunk;
    snprintf(path, sizeof path, "%s/lora-trace.safetensors", QVL_BINARY_DIR);
    assert_int_equal(qvl_session_open(&s, m, &sp, &err), 0);
    assert_int_equal(qvl_session_add(s, QVL_ROLE_USER, &part, 1, &err), 0);
    qvl_gen_params_default(&g, NULL);
    g.max_tokens = 24;
    g.trace_path = path;
    g.no_draft = no_draft;
    assert_int_equal(qvl_session_generate(s, &g, NULL, &err), 0);
    qvl_session_close(&s);
    assert_int_equal(qvl_file_read(&data, len, path, 64 << 20, &err), 0);
    return data;
}

static void expect_same_traces(const qvl_adapter *a, size_t n, const qvl_adapter *b, size_t m, qvl_precision precision, int same)
{
    qvl_err err = {0};
    size_t x, y;
    int rc;
    qvl_model *one = open_with("untied-f32", NULL, precision, a, n, &rc, &err), *two = open_with("untied-f32", NULL, precision, b, m, &rc, &err);
    assert_non_null(one);
    assert_non_null(two);
    char *p = trace_of(one, 0, 0, &x), *q = trace_of(two, 0, 1, &y);
    assert_int_equal(x == y && memcmp(p, q, x) == 0, same);
    qvl_mem_free(p);
    qvl_mem_free(q);
    qvl_model_close(&one);
    qvl_model_close(&two);
}

/* Beside packed weights, too, a row has the same bytes however a prompt is cut: alone, in a few, in many. */
static void chunks_do_not_matter(void **state)
{
    static const qvl_adapter both[] = {{LORA "all", 1}, {LORA "head", -0.5}};
    static const uint32_t chunks[] = {1, 5, 8, 9, 11};
    (void)state;
    for (int precision = QVL_PRECISION_Q8; precision <= QVL_PRECISION_Q4; precision++) {
        qvl_err err = {0};
        size_t len, n;
        int rc;
        qvl_model *m = open_with("untied-f32", NULL, (qvl_precision)precision, both, 2, &rc, &err);
        assert_non_null(m);
        char *whole = trace_of(m, 0, 0, &len);
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            char *cut = trace_of(m, chunks[i], 0, &n);
            if (n != len || memcmp(whole, cut, len) != 0)
                fail_msg("precision %d: a prompt in pieces of %u tokens has another trace", precision, chunks[i]);
            qvl_mem_free(cut);
        }
        qvl_mem_free(whole);
        qvl_model_close(&m);
    }
}

static void scales(void **state)
{
    static const qvl_adapter zero[] = {{LORA "all", 0}, {LORA "head", 0}}, one[] = {{LORA "all", 1}};
    (void)state;
    for (int precision = QVL_PRECISION_F32; precision <= QVL_PRECISION_Q4; precision++) {
        expect_same_traces(zero, 2, NULL, 0, (qvl_precision)precision, 1); /* the same bytes as without */
        expect_same_traces(one, 1, NULL, 0, (qvl_precision)precision, 0);
    }
    expect_same_traces(one, 1, one, 1, QVL_PRECISION_F32, 1); /* drafting changes nothing here either */
}

/* ---------------------------------------------------------------- refusals */

static char folder[400];

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    char command[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static void refuse(const char *model, int code, const char *part)
{
    qvl_adapter a = {folder, 1};
    qvl_err err = {0};
    int rc;
    qvl_model *m = open_with(model, NULL, QVL_PRECISION_F32, &a, 1, &rc, &err);
    assert_null(m);
    if (rc != code || !strstr(err.msg, part))
        fail_msg("found %d, \"%s\"; expected %d, \"%s\"", rc, err.msg, code, part);
}

/* A fresh copy of the adapter whose configuration has FIELD replaced by VALUE. */
static void edit(const char *field, const char *value)
{
    shell("rm -rf '%s' && cp -r " LORA "all '%s'", folder, folder);
    if (field) {
        shell("sed -i '/^ \"%s\":/d; s/^{/{ \"%s\": %s,/' '%s/adapter_config.json'", field, field, value, folder);
    }
}

static void configurations(void **state)
{
    static const struct {
        const char *field, *value;
        int code;
        const char *part;
    } bad[] = {{"use_dora", "true", QVL_E_UNSUPPORTED, "DoRA"},
               {"modules_to_save", "[\"lm_head\"]", QVL_E_UNSUPPORTED, "modules_to_save"},
               {"bias", "\"all\"", QVL_E_UNSUPPORTED, "bias: found all"},
               {"lora_bias", "true", QVL_E_UNSUPPORTED, "lora_bias"},
               {"target_parameters", "[\"mlp.experts.gate_up_proj\"]", QVL_E_UNSUPPORTED, "target_parameters"},
               {"trainable_token_indices", "[1]", QVL_E_UNSUPPORTED, "trainable_token_indices"},
               {"layer_replication", "[[0, 2]]", QVL_E_UNSUPPORTED, "layer_replication"},
               {"init_lora_weights", "\"pissa\"", QVL_E_UNSUPPORTED, "changes the base weights"},
               {"kasa_config", "{\"x\": 1}", QVL_E_UNSUPPORTED, "kasa_config"},
               {"peft_type", "\"IA3\"", QVL_E_UNSUPPORTED, "found IA3, expected LORA"},
               {"r", "0", QVL_E_FORMAT, "r: expected a number"},
               {"r", "\"4\"", QVL_E_FORMAT, "r: expected a number"},
               {"r", "5", QVL_E_FORMAT, "expected [5,"},
               {"lora_alpha", "null", QVL_E_FORMAT, "lora_alpha"},
               {"rank_pattern", "{\"q_proj\": 3}", QVL_E_FORMAT, "q_proj"},
               {"rank_pattern", "{\"(?i)q_proj\": 4}", QVL_E_UNSUPPORTED, "no simple expression"},
               {"rank_pattern", "{\"q_proj\\\\\\\\\": 4}", QVL_E_UNSUPPORTED, "no simple expression"},
               {"rank_pattern", "{\"(q_proj\": 4}", QVL_E_UNSUPPORTED, "no simple expression"},
               {"rank_pattern", "{\"q++_proj\": 4}", QVL_E_UNSUPPORTED, "no simple expression"},
               {"rank_pattern", "{\"(q|v)+_proj\": 4}", QVL_E_UNSUPPORTED, "no simple expression"},
               {"rank_pattern", "{\"*proj\": 4}", QVL_E_UNSUPPORTED, "no simple expression"},
               {"rank_pattern", "[4]", QVL_E_FORMAT, "rank_pattern"},
               {"alpha_pattern", "{\"q_proj\": 1e300}", QVL_E_FORMAT, "alpha_pattern"}};
    qvl_err err = {0};
    qvl_adapter a = {folder, 1};
    int rc;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        edit(bad[i].field, bad[i].value);
        refuse("untied-f32", bad[i].code, bad[i].part);
    }
    static const char *const fine[][2] = {{"modules_to_save", "[]"}, {"init_lora_weights", "\"gaussian\""}, {"lora_alpha", "8.5"},
                                          {"rank_pattern", "{\"layers\\\\\\\\.\\\\\\\\d+\\\\\\\\.mlp\\\\\\\\..*\": 4}"}, {"alpha_pattern", "{\"^model.*\": 1}"}};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        edit(fine[i][0], fine[i][1]);
        qvl_model *m = open_with("untied-f32", NULL, QVL_PRECISION_F32, &a, 1, &rc, &err);
        if (!m)
            fail_msg("%s %s: %s", fine[i][0], fine[i][1], err.msg);
        qvl_model_close(&m);
    }
}

/* The adapter's tensors, the first of them under another name, or left out (NULL). */
static void rename_first(const char *name)
{
    struct qvl_tensors *t;
    struct qvl_tensor list[64];
    char path[500];
    qvl_err err = {0};
    size_t n = 0;
    edit(NULL, NULL);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    assert_int_equal(qvl_safetensors_open(&t, LORA "all/adapter_model.safetensors", &err), 0);
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        list[n] = *qvl_tensors_at(t, i);
        if (i == 0 && name)
            list[n].name = name;
        n += i > 0 || name;
    }
    assert_int_equal(qvl_safetensors_write(path, list, n, NULL, 0, &err), 0);
    qvl_tensors_close(&t);
}

static void tensors(void **state)
{
#define L "base_model.model.model."
    static const struct {
        const char *name;
        int code;
        const char *part;
    } bad[] = {{NULL, QVL_E_FORMAT, "only one of lora_A and lora_B"},
               {L "visual.blocks.0.attn.qkv.lora_A.weight", QVL_E_UNSUPPORTED, "vision encoder"},
               {L "language_model.layers.0.self_attn.q_proj.lora_magnitude_vector", QVL_E_UNSUPPORTED, "DoRA"},
               {L "language_model.embed_tokens.lora_embedding_A", QVL_E_UNSUPPORTED, "no matrix A or B"},
               {L "language_model.embed_tokens.weight", QVL_E_UNSUPPORTED, "a whole weight"},
               {L "language_model.norm.lora_A.weight", QVL_E_UNSUPPORTED, "no matrix of the decoder"},
               {L "language_model.layers.7.self_attn.q_proj.lora_A.weight", QVL_E_FORMAT, "found layer 7, the model has 2"},
               {L "language_model.layers.0.mlp.experts.0.up_proj.lora_A.weight", QVL_E_UNSUPPORTED, "experts"},
               {L "language_model.layers.0.self_attn.q_norm.lora_A.weight", QVL_E_UNSUPPORTED, "no matrix of the decoder"},
               {L "layers.0.self_attn.q_proj.lora_B.weight", QVL_E_FORMAT, "q_proj"},
               {"x.lora_A.weight", QVL_E_UNSUPPORTED, "no matrix of the decoder"},
               {"lora_A.weight", QVL_E_UNSUPPORTED, "no matrix A or B"}};
#undef L
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rename_first(bad[i].name);
        refuse("untied-f32", bad[i].code, bad[i].part);
    }
    edit(NULL, NULL);
    refuse("sharded-bf16", QVL_E_FORMAT, "expected ["); /* of another model */
    refuse("moe-bf16", QVL_E_UNSUPPORTED, "has experts instead");
    shell("rm '%s/adapter_model.safetensors'", folder);
    refuse("untied-f32", QVL_E_NOTFOUND, "adapter_model.safetensors is missing");
    shell("echo x >'%s/adapter_model.bin'", folder);
    refuse("untied-f32", QVL_E_UNSUPPORTED, "save the adapter as safetensors");
    shell("rm '%s/adapter_config.json'", folder);
    refuse("untied-f32", QVL_E_NOTFOUND, "adapter_config.json");
}

static void arguments(void **state)
{
    qvl_adapter many[17], bad = {LORA "all", NAN}, none = {NULL, 1};
    qvl_err err = {0};
    int rc;
    (void)state;
    for (size_t i = 0; i < 17; i++)
        many[i] = (qvl_adapter){LORA "all", 0};
    qvl_model *m = open_with("untied-f32", NULL, QVL_PRECISION_F32, many, 16, &rc, &err);
    assert_non_null(m);
    qvl_model_close(&m);
    open_with("untied-f32", NULL, QVL_PRECISION_F32, many, 17, &rc, &err);
    assert_int_equal(rc, QVL_E_ARG);
    open_with("untied-f32", NULL, QVL_PRECISION_F32, &bad, 1, &rc, &err);
    assert_int_equal(rc, QVL_E_ARG);
    open_with("untied-f32", NULL, QVL_PRECISION_F32, &none, 1, &rc, &err);
    assert_int_equal(rc, QVL_E_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_the_reference), cmocka_unit_test(answers_of_the_reference),
                                       cmocka_unit_test(on_packed_weights), cmocka_unit_test(chunks_do_not_matter), cmocka_unit_test(scales),
                                       cmocka_unit_test(configurations), cmocka_unit_test(tensors), cmocka_unit_test(arguments)};
    snprintf(folder, sizeof folder, "%s/lora-XXXXXX", QVL_BINARY_DIR);
    if (!mkdtemp(folder))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
