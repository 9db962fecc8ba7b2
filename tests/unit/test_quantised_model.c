/* Quantised safetensors as models: what is refused and how that is said, integer weights, descriptions. */
#include "qvl.h"
#include "quantised_help.h"

#include "base/json.h"
#include "formats/coded.h"
#include "model/quantised.h"

static int open_model(qvl_model **m, const char *dir, qvl_precision precision, qvl_err *err)
{
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = dir;
    p.precision = precision;
    p.no_cache = 1;
    return qvl_model_open(m, &p, err);
}

static void refuse(const char *name, struct quantised_change change, int code, const char *text)
{
    char dir[64];
    qvl_model *m = NULL;
    qvl_err err = {0};
    make_quantised(dir, name, &change);
    int rc = open_model(&m, dir, QVL_PRECISION_F32, &err);
    remove_quantised(dir);
    if (rc != code || m || !strstr(err.msg, text))
        fail_msg("%s: drop %s, %s: %d \"%s\", expected %d \"%s\"", name, change.drop ? change.drop : "nothing",
                 change.to ? change.to : "-", rc, err.msg, code, text);
}

static void missing_tensors(void **state)
{
    static const struct {
        const char *model, *drop, *text;
        int code;
    } bad[] = {
        {"awq", "o_proj.qweight", "layers.0.self_attn.o_proj.weight: missing", QVL_E_FORMAT},
        {"awq", "o_proj.qzeros", "qzeros are missing", QVL_E_FORMAT},
        {"awq", "o_proj.scales", "o_proj: quantised (AWQ), but its scales are missing", QVL_E_FORMAT},
        {"gptq-order", "up_proj.scales", "scales are missing", QVL_E_FORMAT},
        {"gptq-order", "up_proj.qzeros", "qzeros are missing", QVL_E_FORMAT},
        {"ct-w4a16", "q_proj.weight_scale", "scales are missing", QVL_E_FORMAT},
        {"ct-w8a8", "q_proj.weight_scale", "scales are missing", QVL_E_FORMAT},
        {"ct-fp8", "q_proj.weight_scale", "scales are missing", QVL_E_FORMAT},
        {"fp8", "q_proj.weight_scale_inv", "scales are missing", QVL_E_FORMAT},
        {"fp8-moe", "down_proj_scale_inv", "experts in FP8", QVL_E_FORMAT},
        {"fp8-moe", "experts.down_proj", "experts in FP8", QVL_E_FORMAT},
        {"bnb-nf4", "k_proj.weight.absmax", "scales are missing", QVL_E_FORMAT},
        {"bnb-nf4", "k_proj.weight.quant_map", "quant_map is missing", QVL_E_FORMAT},
        {"bnb-nf4", "k_proj.weight.quant_state.bitsandbytes__nf4", "quant_state is missing", QVL_E_FORMAT},
        {"bnb-nf4", "k_proj.weight.nested_quant_map", "nested_quant_map", QVL_E_FORMAT},
        {"bnb-nf4", "k_proj.weight.nested_absmax", "F32", QVL_E_FORMAT},
        {"bnb-int8", "k_proj.SCB", "scales are missing", QVL_E_FORMAT},
        {"mlx", "embed_tokens.scales", "scales are missing", QVL_E_FORMAT},
        {"mlx", "k_proj.biases", "expected [32,2] U8", QVL_E_FORMAT},
        {"mlx-moe", "switch_mlp.up_proj.scales", "scales are missing", QVL_E_FORMAT},
        {"mlx-moe", "switch_mlp.up_proj.weight", "up_proj.weight: missing", QVL_E_FORMAT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(bad[i].model, (struct quantised_change){.drop = bad[i].drop}, bad[i].code, bad[i].text);
}

static void configurations(void **state)
{
    static const struct {
        const char *model, *from, *to, *text;
        int code;
    } bad[] = {
        {"awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"hqq\"", "found hqq, supported are awq", QVL_E_UNSUPPORTED},
        {"awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"aqlm\"", "found aqlm", QVL_E_UNSUPPORTED},
        {"awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"quanto\"", "found quanto", QVL_E_UNSUPPORTED},
        {"awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"torchao\"", "found torchao", QVL_E_UNSUPPORTED},
        {"awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"gguf\"", "found gguf", QVL_E_UNSUPPORTED},
        {"awq", "\"quant_method\": \"awq\"", "\"quant_method\": 4", "quant_method", QVL_E_FORMAT},
        {"awq", "\"version\": \"gemm\"", "\"version\": \"gemv_fast\"", "found gemv_fast", QVL_E_UNSUPPORTED},
        {"awq", "\"bits\": 4", "\"bits\": 3", "bits: found 3", QVL_E_UNSUPPORTED},
        {"awq", "\"group_size\": 32", "\"group_size\": 64", "groups of 64", QVL_E_FORMAT},
        {"awq", "\"group_size\": 32", "\"group_size\": 48", "groups of 48", QVL_E_FORMAT},
        {"awq", "\"group_size\": 32", "\"group_size\": 1e9", "group_size", QVL_E_FORMAT},
        {"awq", "\"quantization_config\"", "\"other_config\"", "does not say how", QVL_E_UNSUPPORTED},
        {"gptq-sym", "\"checkpoint_format\": \"gptq\"", "\"checkpoint_format\": \"marlin\"", "found marlin", QVL_E_UNSUPPORTED},
        {"gptq-sym", "\"bits\": 4", "\"bits\": 8", "(8 bits)", QVL_E_FORMAT},
        {"gptq-sym", "\"bits\": 4", "\"bits\": 5", "bits: found 5", QVL_E_UNSUPPORTED},
        {"gptq-sym", "\"pack_dtype\": \"int32\"", "\"pack_dtype\": \"int64\"", "found int64", QVL_E_UNSUPPORTED},
        {"gptq-sym", "\"quant_method\": \"gptq\"", "\"quant_method\": \"awq\"", "q_proj", QVL_E_FORMAT},
        {"ct-w4a16", "\"transform_config\": {}", "\"transform_config\": {\"R1\": {}}", "rotated weights", QVL_E_UNSUPPORTED},
        {"ct-w4a16", "\"sparsity_config\": {}", "\"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}", "sparse-24", QVL_E_UNSUPPORTED},
        {"ct-w4a16", "\"format\": \"pack-quantized\"", "\"format\": \"nvfp4-pack-quantized\"", "found nvfp4-pack-quantized", QVL_E_UNSUPPORTED},
        {"ct-w4a16", "\"num_bits\": 4", "\"num_bits\": 8", "I32", QVL_E_FORMAT},
        {"ct-w4a16", "\"strategy\": \"group\"", "\"strategy\": \"tensor_group\"", "found tensor_group", QVL_E_UNSUPPORTED},
        {"ct-fp8", "\"num_bits\": 8", "\"num_bits\": 4", "4 (float)", QVL_E_UNSUPPORTED},
        {"fp8", "\"weight_block_size\": [\n      32,", "\"weight_block_size\": [\n      64,", "a block", QVL_E_FORMAT},
        {"fp8", "\"fmt\": \"e4m3\"", "\"fmt\": \"e3m4\"", "found e3m4", QVL_E_UNSUPPORTED},
        {"bnb-nf4", "\"nf4\"", "\"int2\"", "found int2", QVL_E_UNSUPPORTED},
        {"bnb-int8", "\"quantization_config\"", "\"other_config\"", "does not say how", QVL_E_UNSUPPORTED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(bad[i].model, (struct quantised_change){.from = bad[i].from, .to = bad[i].to}, bad[i].code, bad[i].text);
}

static void tensors_beside(void **state)
{
    static unsigned char zeros[64 * 64 * 2], ones[128];
    struct qvl_tensor bias = {.name = "model.language_model.layers.0.self_attn.q_proj.bias", .data = zeros, .bytes = 128,
                              .type = QVL_DT_F16, .type_name = "F16", .rank = 1, .shape = {64}};
    struct qvl_tensor plain = {.name = "model.language_model.layers.0.self_attn.q_proj.weight", .data = zeros, .bytes = sizeof zeros,
                               .type = QVL_DT_F16, .type_name = "F16", .rank = 2, .shape = {64, 64}};
    struct quantised_change change = {.extra = &bias};
    qvl_model *m = NULL;
    qvl_err err = {0};
    char dir[64];
    (void)state;
    make_quantised(dir, "gptq-sym", &change); /* quantisers write zeros for what is not there */
    if (open_model(&m, dir, QVL_PRECISION_F32, &err) != 0)
        fail_msg("%s", err.msg);
    qvl_model_close(&m);
    remove_quantised(dir);
    ones[9] = 1;
    bias.data = ones;
    refuse("gptq-sym", change, QVL_E_UNSUPPORTED, "a bias that is not zero");
    change.extra = &plain;
    refuse("gptq-sym", change, QVL_E_FORMAT, "both are weights of one matrix");
    refuse("ct-w4a16", change, QVL_E_FORMAT, "both are weights of one matrix");
}

/* AutoGPTQ's file instead of quantization_config. */
static void a_file_of_its_own(void **state)
{
    char dir[64], path[100];
    const struct quantised_change change = {.from = "\"quantization_config\"", .to = "\"other_config\""};
    qvl_model *m = NULL;
    qvl_err err = {0};
    (void)state;
    make_quantised(dir, "gptq-sym", &change);
    snprintf(path, sizeof path, "%s/quantize_config.json", dir);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs("{\"bits\": 4, \"group_size\": 32, \"desc_act\": false, \"sym\": true, \"damp_percent\": 0.01}", f);
    fclose(f);
    if (open_model(&m, dir, QVL_PRECISION_F32, &err) != 0)
        fail_msg("%s", err.msg);
    qvl_model_close(&m);
    remove_quantised(dir);
}

/* Every format at every precision: opens, answers, and says what packing lost. */
static void every_precision(void **state)
{
    static const qvl_precision precisions[] = {QVL_PRECISION_AUTO, QVL_PRECISION_BF16, QVL_PRECISION_Q8, QVL_PRECISION_Q4};
    (void)state;
    for (size_t i = 0; i < N_QUANTISED; i++) {
        char dir[64];
        make_quantised(dir, quantised_names[i], NULL);
        for (size_t k = 0; k < sizeof precisions / sizeof *precisions; k++) {
            qvl_model *m = NULL;
            qvl_session *s = NULL;
            qvl_err err = {0};
            qvl_part part = {.kind = QVL_PART_TEXT, .data = "Hello", .len = 5};
            qvl_model_info info = {.struct_size = sizeof info};
            qvl_gen_params gp;
            qvl_result result = {0};
            if (open_model(&m, dir, precisions[k], &err) != 0 || qvl_session_open(&s, m, NULL, &err) != 0 ||
                qvl_session_add(s, QVL_ROLE_USER, &part, 1, &err) != 0)
                fail_msg("%s: %s", quantised_names[i], err.msg);
            qvl_gen_params_default(&gp, m);
            gp.max_tokens = 4;
            if (qvl_session_generate(s, &gp, &result, &err) != 0)
                fail_msg("%s: %s", quantised_names[i], err.msg);
            assert_int_equal(qvl_model_get_info(m, &info, &err), 0);
            int packed = precisions[k] == QVL_PRECISION_Q8 || precisions[k] == QVL_PRECISION_Q4;
            assert_true((info.packed_bytes > 0) == packed);
            assert_true(!packed || (info.pack_error > 0 && info.pack_error < (precisions[k] == QVL_PRECISION_Q8 ? 0.01 : 0.12)));
            qvl_session_close(&s);
            qvl_model_close(&m);
        }
        remove_quantised(dir);
    }
}

/* The decoder of one quantised folder beside the vision half of another: the decoder's own golden. */
static void a_quantised_half(void **state)
{
    char dir[64], text[64];
    qvl_model *m = NULL;
    qvl_model_params p;
    qvl_err err = {0};
    int passed = 0;
    (void)state;
    make_quantised(dir, "gptq-sym", NULL);
    make_quantised(text, "awq", NULL);
    qvl_model_params_default(&p);
    p.path = dir;
    p.text = text;
    p.precision = QVL_PRECISION_F32;
    if (qvl_model_open(&m, &p, &err) != 0 || qvl_verify(m, NULL, QUANTISED "awq/one.safetensors", NULL, NULL, &passed, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(passed);
    qvl_model_close(&m);
    remove_quantised(text);
    remove_quantised(dir);
}

static void descriptions(void **state)
{
    static const struct {
        const char *model, *method, *group, *values;
        int bits;
    } want[] = {
        {"awq", "AWQ", "32", "zero points", 4},         {"gptq-order", "GPTQ", "32", "zero points · act-order", 4},
        {"gptq-sym", "GPTQ", "32", "symmetric", 4},
        {"ct-w4a16", "compressed-tensors", "32", "zero points", 4}, {"ct-w8a8", "compressed-tensors", "row", "symmetric", 8},
        {"ct-fp8", "compressed-tensors", "row", "E4M3", 8}, {"fp8", "FP8", "32 x 32", "E4M3", 8},
        {"bnb-nf4", "bitsandbytes", "64", "table", 4},  {"bnb-int8", "bitsandbytes", "row", "symmetric", 8},
        {"mlx", "MLX", "32", "biases", 4},
    };
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char dir[64], *json = NULL;
        json_t *root = NULL;
        qvl_err err = {0};
        make_quantised(dir, want[i].model, NULL);
        if (qvl_inspect(dir, &json, &err) != 0 || qvl_json_parse(&root, json, strlen(json), "inspect", &err) != 0)
            fail_msg("%s: %s", want[i].model, err.msg);
        const json_t *q = json_object_get(root, "quantisation"), *kind = json_array_get(json_object_get(q, "kinds"), 0);
        assert_string_equal(json_string_value(json_object_get(q, "method")), want[i].method);
        assert_string_equal(json_string_value(json_object_get(kind, "group")), want[i].group);
        assert_string_equal(json_string_value(json_object_get(kind, "values")), want[i].values);
        assert_int_equal(json_integer_value(json_object_get(kind, "bits")), want[i].bits);
        /* seven matrices of a layer; bitsandbytes has one of the vision tower, MLX the embedding */
        int more = !strcmp(want[i].model, "bnb-nf4") || !strcmp(want[i].model, "mlx");
        assert_int_equal(json_integer_value(json_object_get(kind, "matrices")), 7 + more);
        /* 61,440 text weights in two layers, 2 bytes each when widened, and the vectors */
        const json_t *memory = json_object_get(root, "memory");
        assert_true(json_integer_value(json_object_get(memory, "weights_copied_bytes")) > 2 * 30720);
        json_decref(root);
        qvl_free(json);
        remove_quantised(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_tensors), cmocka_unit_test(configurations),   cmocka_unit_test(tensors_beside),
        cmocka_unit_test(a_file_of_its_own), cmocka_unit_test(every_precision), cmocka_unit_test(descriptions),
        cmocka_unit_test(a_quantised_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
