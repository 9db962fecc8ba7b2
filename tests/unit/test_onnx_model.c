/* Decoders from ONNX Runtime GenAI folders, as models: what makes them refused, a model without a decoder of its own, integer weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "formats/tensor_source.h"
#include "qvl.h"

#define DATA QVL_SOURCE_DIR "/tests/data/onnx/"
#define MODELS QVL_SOURCE_DIR "/tests/golden/models/"

static char scratch[64];

static int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/qvl-onnx-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static const char *const files[] = {"genai_config.json", "model.onnx", "model.onnx.data", "config.json", "tokenizer.json",
                                    "tokenizer_config.json", "chat_template.jinja", "preprocessor_config.json", "model.safetensors"};

static void empty_scratch(void)
{
    char path[200];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", scratch, files[i]);
        unlink(path);
    }
}

static int remove_scratch(void **state)
{
    (void)state;
    empty_scratch();
    return rmdir(scratch);
}

/* Copies dir/name into the scratch folder with `from` replaced by `to` of the same or, in text, any length (NULL: nothing); returns
 * how often that was found. cut: bytes taken off the end. */
static int copy(const char *dir, const char *name, const char *from, const char *to, size_t cut)
{
    char path[600], *data, *at;
    size_t n, len = from ? strlen(from) : 0;
    int found = 0;
    qvl_err err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (qvl_file_read(&data, &n, path, 1 << 24, &err) != 0)
        fail_msg("%s", err.msg);
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    at = data;
    for (char *p = data; from && p + len <= data + n; p++)
        if (!memcmp(p, from, len)) {
            fwrite(at, 1, (size_t)(p - at), f);
            fputs(to, f);
            at = p + len;
            p = at - 1;
            found++;
        }
    fwrite(at, 1, (size_t)(data + n - cut - at), f);
    fclose(f);
    qvl_mem_free(data);
    return found;
}

static int open_model(qvl_model **m, const char *path, const char *text, qvl_precision precision, qvl_err *err)
{
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = path;
    p.text = text;
    p.precision = precision;
    p.no_cache = 1;
    *err = (qvl_err){0};
    return qvl_model_open(m, &p, err);
}

static void expect_refused(const char *text, int code, const char *says)
{
    qvl_model *m = NULL;
    qvl_err err;
    int rc = open_model(&m, MODELS "untied-f32", text, QVL_PRECISION_F32, &err);
    if (rc != code || m || !strstr(err.msg, says))
        fail_msg("found %d \"%s\", expected %d \"...%s...\"", rc, err.msg, code, says);
}

/* The export "asym" with one file changed. */
static void refused_with(const char *name, const char *from, const char *to, int code, const char *says)
{
    empty_scratch();
    for (int i = 0; i < 3; i++) {
        int changed = !strcmp(files[i], name), n = copy(DATA "asym", files[i], changed ? from : NULL, to, 0);
        assert_true(!changed || n > 0);
    }
    expect_refused(scratch, code, says);
}

static void what_does_not_belong_together_is_refused(void **state)
{
    static const char config[] = "genai_config.json", graph[] = "model.onnx";
    (void)state;
    refused_with(config, "\"hidden_size\": 48", "\"hidden_size\": 56", QVL_E_FORMAT, "hidden_size");
    refused_with(config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", QVL_E_FORMAT, "num_hidden_layers");
    refused_with(config, "\"num_attention_heads\": 3", "\"num_attention_heads\": \"3\"", QVL_E_FORMAT, "num_attention_heads");
    refused_with(config, "\"vocab_size\": 384", "\"vocab_size\": 383", QVL_E_FORMAT, "vocab_size");
    refused_with(config, "\"qwen3_vl_text\"", "\"llama\"", QVL_E_UNSUPPORTED, "llama");
    refused_with(config, "\"type\"", "\"kind\"", QVL_E_FORMAT, "type");
    refused_with(config, "\"model.onnx\"", "\"../model.onnx\"", QVL_E_FORMAT, "filename");
    refused_with(config, "\"model.onnx\"", "\"other.onnx\"", QVL_E_NOTFOUND, "other.onnx");
    refused_with(config, "\"decoder\"", "\"encoder\"", QVL_E_FORMAT, "decoder");
    refused_with(config, "{", "[", QVL_E_FORMAT, "genai_config.json");
    refused_with(graph, "k_proj", "x_proj", QVL_E_FORMAT, "self_attn.k_proj.weight: missing");
    refused_with(graph, "v_proj", "k_proj", QVL_E_FORMAT, "twice");
    refused_with(graph, "final_norm_layernorm", "other_norm_layernorm", QVL_E_FORMAT, "language_model.norm.weight: missing");
    refused_with(graph, "model.onnx.data", "../../onnx.data", QVL_E_FORMAT, "location");
    refused_with(graph, "model.onnx.data", "model.onnx.none", QVL_E_NOTFOUND, "model.onnx.none");
    expect_refused(DATA, QVL_E_UNSUPPORTED, "genai_config.json");
    expect_refused(DATA "nowhere", QVL_E_NOTFOUND, "nowhere");
    expect_refused(DATA "ops/sym4-32.onnx", QVL_E_NOTFOUND, "genai_config.json");
    expect_refused(DATA "shared", QVL_E_FORMAT, "56");
    empty_scratch();
    copy(DATA "asym", files[0], NULL, "", 0);
    copy(DATA "asym", files[1], NULL, "", 0);
    copy(DATA "asym", files[2], NULL, "", 1);
    expect_refused(scratch, QVL_E_FORMAT, "model.onnx.data");
    copy(DATA "asym", files[2], NULL, "", 0);
    for (size_t cut = 1; cut < 20000; cut += 997) { /* a graph cut off anywhere */
        copy(DATA "asym", files[1], NULL, "", cut);
        expect_refused(scratch, QVL_E_FORMAT, "");
    }
}

/* The answer to a prompt, greedy. */
static void answer(qvl_model *m, char *out, size_t size)
{
    qvl_session *s = NULL;
    qvl_session_params sp;
    qvl_gen_params g;
    qvl_result r = {0};
    qvl_err err = {0};
    const char prompt[] = "Hello! What can you do?";
    qvl_part part = {.kind = QVL_PART_TEXT, .data = prompt, .len = strlen(prompt)};
    qvl_session_params_default(&sp);
    sp.n_ctx = 256;
    qvl_gen_params_default(&g, m);
    g.greedy = 1;
    g.max_tokens = 12;
    if (qvl_session_open(&s, m, &sp, &err) != 0 || qvl_session_add(s, QVL_ROLE_USER, &part, 1, &err) != 0 ||
        qvl_session_generate(s, &g, &r, &err) != 0)
        fail_msg("%s", err.msg);
    snprintf(out, size, "%.*s", (int)r.text_len, r.text);
    qvl_session_close(&s);
}

/* A node whose tensor has a name that says nothing is known by its own name. */
static void names_of_nodes_do_when_tensors_have_others(void **state)
{
    qvl_model *m = NULL;
    qvl_err err;
    char a[256], b[256];
    (void)state;
    assert_int_equal(open_model(&m, MODELS "untied-f32", DATA "asym", QVL_PRECISION_F32, &err), 0);
    answer(m, a, sizeof a);
    qvl_model_close(&m);
    for (int i = 0; i < 3; i++)
        copy(DATA "asym", files[i], i == 1 ? "layers.1.attn.k_proj" : NULL, "layers.1.attn.x_proj", 0);
    if (open_model(&m, MODELS "untied-f32", scratch, QVL_PRECISION_F32, &err) != 0)
        fail_msg("%s", err.msg);
    answer(m, b, sizeof b);
    qvl_model_close(&m);
    assert_string_equal(a, b);
    /* The same by the file's name. */
    char path[128];
    snprintf(path, sizeof path, "%s/model.onnx", scratch);
    assert_int_equal(open_model(&m, MODELS "untied-f32", path, QVL_PRECISION_F32, &err), 0);
    answer(m, b, sizeof b);
    qvl_model_close(&m);
    assert_string_equal(a, b);
}

/* A folder that has the vision half alone. */
static void write_vision_half(const char *dir)
{
    char path[600];
    struct qvl_tensors *t = NULL;
    struct qvl_tensor *half;
    qvl_err err;
    size_t n = 0;
    for (int i = 3; i < 8; i++)
        copy(dir, files[i], NULL, "", 0);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(qvl_safetensors_open(&t, path, &err), 0);
    half = calloc(qvl_tensors_count(t), sizeof *half);
    assert_non_null(half);
    for (size_t i = 0; i < qvl_tensors_count(t); i++)
        if (strstr(qvl_tensors_at(t, i)->name, "visual."))
            half[n++] = *qvl_tensors_at(t, i);
    assert_true(n > 10 && n < qvl_tensors_count(t));
    snprintf(path, sizeof path, "%s/model.safetensors", scratch);
    assert_int_equal(qvl_safetensors_write(path, half, n, NULL, 0, &err), 0);
    free(half);
    qvl_tensors_close(&t);
}

static void the_model_s_own_decoder_need_not_be_there(void **state)
{
    qvl_model *m = NULL;
    qvl_err err;
    char a[256], b[256];
    (void)state;
    write_vision_half(MODELS "untied-f32");
    assert_int_equal(open_model(&m, scratch, NULL, QVL_PRECISION_F32, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "missing"));
    if (open_model(&m, scratch, DATA "asym", QVL_PRECISION_F32, &err) != 0)
        fail_msg("%s", err.msg);
    answer(m, a, sizeof a);
    qvl_model_close(&m);
    assert_int_equal(open_model(&m, MODELS "untied-f32", DATA "asym", QVL_PRECISION_F32, &err), 0);
    answer(m, b, sizeof b);
    qvl_model_close(&m);
    assert_string_equal(a, b);
    /* Without an embedding in the export either, a tied head is the table. */
    empty_scratch();
    write_vision_half(MODELS "taps-f16");
    if (open_model(&m, scratch, DATA "f16", QVL_PRECISION_F32, &err) != 0)
        fail_msg("%s", err.msg);
    answer(m, a, sizeof a);
    assert_true(strlen(a) > 0);
    qvl_model_close(&m);
}

static double pack_error(const char *base, const char *text, qvl_precision precision)
{
    qvl_model *m = NULL;
    qvl_err err;
    char a[256];
    qvl_model_info info = {.struct_size = sizeof info};
    if (open_model(&m, base, text, precision, &err) != 0 || qvl_model_get_info(m, &info, &err) != 0)
        fail_msg("%s", err.msg);
    answer(m, a, sizeof a);
    qvl_model_close(&m);
    return info.pack_error;
}

static void integer_weights_lose_nothing_where_that_is_possible(void **state)
{
    (void)state;
    /* f16 scales: the same weights. */
    double e = pack_error(MODELS "taps-f16", DATA "f16", QVL_PRECISION_Q4);
    if (!(e == 0))
        fail_msg("f16 scales: %g", e);
    /* f32 scales of a bf16 checkpoint: eighths of bf16 numbers, which f16 has, too. */
    e = pack_error(MODELS "sharded-bf16", DATA "shared", QVL_PRECISION_Q4);
    if (!(e == 0))
        fail_msg("f32 scales: %g", e);
    /* Zero points: the codes stay. Scale and minimum are rounded to f16, each by at most 2^-12 of 15 steps, and codes of a uniform
     * spread have a root mean square of 4.6 steps around their mean. */
    e = pack_error(MODELS "untied-f32", DATA "asym", QVL_PRECISION_Q4);
    if (!(e > 1e-5 && e < 30 * 0x1p-12 / 4.6))
        fail_msg("zero points: %g", e);
    /* Shorter blocks: quantised again. */
    e = pack_error(MODELS "untied-f32", DATA "fused", QVL_PRECISION_Q4);
    if (!(e > 1e-3 && e < 0.15))
        fail_msg("blocks of 16: %g", e);
    e = pack_error(MODELS "untied-f32", DATA "asym", QVL_PRECISION_Q8);
    if (!(e > 1e-4 && e < 0.01))
        fail_msg("zero points in q8: %g", e);
    e = pack_error(MODELS "taps-f16", DATA "float", QVL_PRECISION_Q8); /* transposed matrices */
    if (!(e > 1e-4 && e < 0.01))
        fail_msg("transposed in q8: %g", e);
}

static void large_decoders_choose_their_kind(void **state)
{
    static const struct {
        const char *base, *text;
        qvl_precision want;
    } cases[] = {{MODELS "sharded-bf16", DATA "shared", QVL_PRECISION_Q4}, {MODELS "taps-f16", DATA "f16", QVL_PRECISION_Q4},
                 {MODELS "untied-f32", DATA "asym", QVL_PRECISION_Q4},     {MODELS "untied-f32", DATA "fused", QVL_PRECISION_Q8},
                 {MODELS "taps-f16", DATA "float", QVL_PRECISION_AUTO},    {MODELS "untied-f32", DATA "mixed", QVL_PRECISION_Q4}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct qvl_model m = {0};
        qvl_err err = {0};
        qvl_model_params p;
        qvl_model_params_default(&p);
        p.text = cases[i].text;
        if (qvl_config_load(&m.config, cases[i].base, &err) || qvl_safetensors_open(&m.tensors, cases[i].base, &err) ||
            qvl_model_halves(&m, &p, &err) || qvl_weights_bind(&m.weights, &m.config, m.tensors, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(qvl_model_text_precision(&m), cases[i].want);
        assert_string_equal(qvl_weights_warnings(&m.weights), "");
        /* Only what is used counts: the export and the vision half. */
        uint64_t bytes = qvl_tensors_bytes(m.tensors), own = qvl_tensors_bytes(m.held[0]);
        assert_true(bytes > m.weights.mapped_bytes / 2 && bytes < own + qvl_tensors_bytes(qvl_onnx_tensors(m.onnx.graph)));
        qvl_weights_free(&m.weights);
        qvl_tensors_close(&m.tensors);
        qvl_onnx_model_close(&m.onnx);
        qvl_tensors_close(&m.held[0]);
        qvl_config_free(&m.config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_does_not_belong_together_is_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(names_of_nodes_do_when_tensors_have_others, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(the_model_s_own_decoder_need_not_be_there, make_scratch, remove_scratch),
        cmocka_unit_test(large_decoders_choose_their_kind),
        cmocka_unit_test(integer_weights_lose_nothing_where_that_is_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
