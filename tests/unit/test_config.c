/* Configuration: the published shapes, the spellings of re-saved files, and every refusal. The base is a small valid
 * configuration; each case changes one field of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "model/config.h"
#include "model/weights.h"

static const char dense[] =
    "{\"architectures\":[\"Qwen3VLForConditionalGeneration\"],\"model_type\":\"qwen3_vl\",\"image_token_id\":90,"
    "\"video_token_id\":91,\"vision_start_token_id\":88,\"vision_end_token_id\":89,\"tie_word_embeddings\":false,"
    "\"text_config\":{\"model_type\":\"qwen3_vl_text\",\"hidden_size\":96,\"num_hidden_layers\":5,\"num_attention_heads\":6,"
    "\"num_key_value_heads\":2,\"head_dim\":32,\"intermediate_size\":128,\"vocab_size\":100,\"max_position_embeddings\":512,"
    "\"rms_norm_eps\":1e-05,\"rope_theta\":20000,\"rope_scaling\":{\"mrope_interleaved\":true,\"mrope_section\":[6,5,5],"
    "\"rope_type\":\"default\"},\"hidden_act\":\"silu\",\"attention_bias\":false,\"eos_token_id\":3,\"dtype\":\"bfloat16\"},"
    "\"vision_config\":{\"depth\":4,\"hidden_size\":48,\"num_heads\":4,\"intermediate_size\":64,\"out_hidden_size\":96,"
    "\"num_position_embeddings\":144,\"deepstack_visual_indexes\":[0,2],\"patch_size\":8,\"temporal_patch_size\":2,"
    "\"spatial_merge_size\":2,\"in_channels\":3,\"hidden_act\":\"gelu_pytorch_tanh\"}}";

static const char moe_fields[] =
    "{\"architectures\":[\"Qwen3VLMoeForConditionalGeneration\"],\"model_type\":\"qwen3_vl_moe\"}";
static const char moe_text[] =
    "{\"model_type\":\"qwen3_vl_moe_text\",\"num_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":24,"
    "\"decoder_sparse_step\":1,\"mlp_only_layers\":[],\"norm_topk_prob\":true}";

struct change {
    const char *path, *value; /* "text_config.rope_theta"; NULL removes the field */
};

/* "a.b" is field b of object a, which is made when it is missing. */
static void apply(json_t *root, const struct change *c)
{
    const char *dot = strchr(c->path, '.');
    json_t *obj = root;
    if (dot) {
        char first[64];
        snprintf(first, sizeof first, "%.*s", (int)(dot - c->path), c->path);
        obj = json_object_get(root, first);
        if (!json_is_object(obj)) {
            obj = json_object();
            json_object_set_new(root, first, obj);
        }
        apply(obj, &(struct change){dot + 1, c->value});
        return;
    }
    if (!c->value) {
        json_object_del(obj, c->path);
        return;
    }
    json_t *v = json_loads(c->value, JSON_DECODE_ANY, NULL);
    if (!v)
        fail_msg("test: %s", c->value);
    json_object_set_new(obj, c->path, v);
}

static char *changed(int moe, const struct change *list, size_t n)
{
    json_t *root = json_loads(dense, 0, NULL);
    assert_non_null(root);
    if (moe) {
        json_t *a = json_loads(moe_fields, 0, NULL), *b = json_loads(moe_text, 0, NULL);
        json_object_update(root, a);
        json_object_update(json_object_get(root, "text_config"), b);
        json_decref(a);
        json_decref(b);
    }
    for (size_t i = 0; i < n; i++)
        apply(root, &list[i]);
    char *text = json_dumps(root, 0);
    json_decref(root);
    assert_non_null(text);
    return text;
}

static int parse(struct qvl_config *c, int moe, const struct change *list, size_t n, qvl_err *err)
{
    char *text = changed(moe, list, n);
    *err = (qvl_err){0};
    int rc = qvl_config_parse(c, text, NULL, NULL, err);
    free(text);
    return rc;
}

static void base_is_read(void **state)
{
    struct qvl_config c;
    qvl_err err;
    (void)state;
    assert_int_equal(parse(&c, 0, NULL, 0, &err), 0);
    const struct qvl_text_config *t = &c.text;
    const struct qvl_vision_config *v = &c.vision;
    assert_int_equal(t->n_layer, 5);
    assert_int_equal(t->d_model, 96);
    assert_int_equal(t->n_head, 6);
    assert_int_equal(t->n_kv, 2);
    assert_int_equal(t->d_head, 32);
    assert_int_equal(t->d_ff, 128);
    assert_int_equal(t->n_vocab, 100);
    assert_int_equal(t->max_positions, 512);
    assert_true(t->rope_theta == 20000);
    assert_true(t->rms_eps == 1e-5);
    assert_true(t->rope_factor == 1);
    assert_int_equal(t->rope_section[0] * 100 + t->rope_section[1] * 10 + t->rope_section[2], 655);
    assert_int_equal(t->tied, 0);
    assert_int_equal(t->n_expert, 0);
    assert_null(t->is_sparse);
    assert_int_equal(v->depth, 4);
    assert_int_equal(v->d_model, 48);
    assert_int_equal(v->n_head, 4);
    assert_int_equal(v->d_ff, 64);
    assert_int_equal(v->d_out, 96);
    assert_int_equal(v->patch, 8);
    assert_int_equal(v->n_pos_side, 12);
    assert_int_equal(v->n_tap, 2);
    assert_int_equal(v->tap[1], 2);
    assert_int_equal(v->act_tanh, 1);
    assert_int_equal(c.image_token, 90);
    assert_int_equal(c.video_token, 91);
    assert_int_equal(c.vision_start_token, 88);
    assert_int_equal(c.vision_end_token, 89);
    assert_int_equal(c.moe, 0);
    /* nothing but config.json: greedy, its end token, published picture limits */
    assert_int_equal(c.gen.do_sample, 0);
    assert_int_equal(c.gen.n_eos, 1);
    assert_int_equal(c.gen.eos[0], 3);
    assert_true(c.gen.repetition_penalty == 1);
    assert_true(c.image.min_pixels == 65536 && c.image.max_pixels == 16777216);
    assert_true(c.image.mean[2] == 0.5f && c.image.std[0] == 0.5f);
    qvl_config_free(&c);
}

#define N(a) (sizeof(a) / sizeof *(a))

/* Changes that must be accepted; what they lead to is checked below. */
static void spellings_are_accepted(void **state)
{
    static const struct change lists[][4] = {
        {{"architectures", NULL}}, {{"model_type", NULL}}, {{"architectures", "[\"Qwen3VLModel\"]"}},
        {{"text_config.dtype", NULL}, {"torch_dtype", "\"bfloat16\""}}, {{"pad_token_id", "null"}}, {{"text_config.pad_token_id", "null"}},
        {{"text_config.rope_scaling.rope_type", NULL}, {"text_config.rope_scaling.type", "\"default\""}},
        {{"text_config.rope_scaling.rope_type", NULL}},
        {{"text_config.rope_scaling.type", "\"mrope\""}},
        {{"text_config.rope_theta", NULL}, {"text_config.rope_scaling.rope_theta", "20000.0"}},
        {{"text_config.rope_theta", NULL}, {"text_config.rope_scaling", NULL},
         {"text_config.rope_parameters", "{\"rope_theta\":20000.0,\"rope_type\":\"default\",\"mrope_section\":[6,5,5],"
                                         "\"mrope_interleaved\":true}"}},
        {{"text_config.rope_parameters", "{\"rope_theta\":20000}"}},
        {{"text_config.rms_norm_eps", NULL}}, {{"text_config.hidden_act", NULL}}, {{"quantization_config", "null"}},
        {{"text_config.attention_bias", NULL}}, {{"vision_config.patch_size", NULL}, {"vision_config.hidden_act", NULL}},
        {{"vision_config.rope_parameters", "{\"rope_theta\":10000.0,\"rope_type\":\"axial\"}"}},
        {{"vision_config.deepstack_visual_indexes", "[]"}}, {{"vision_config.deepstack_visual_indexes", "[3,1]"}},
        {{"anything", "{\"else\":[1,2,{}]}"}},
    };
    (void)state;
    for (size_t i = 0; i < N(lists); i++) {
        struct qvl_config c;
        qvl_err err;
        size_t n = 0;
        while (n < 4 && lists[i][n].path)
            n++;
        if (parse(&c, 0, lists[i], n, &err))
            fail_msg("%s: %s", lists[i][0].path, err.msg);
        assert_true(c.text.rope_theta == 20000);
        assert_true(c.text.rope_factor == 1);
        assert_int_equal(c.text.rope_section[0], 6);
        qvl_config_free(&c);
    }
}

static void tying(void **state)
{
    static const struct {
        const char *top, *text;
        int tied, unsaid;
    } cases[] = {{"true", NULL, 1, 0},   {NULL, "true", 1, 0},  {"false", NULL, 0, 0},     {NULL, "false", 0, 0},
                 {"true", "true", 1, 0}, {NULL, NULL, 1, 1},    {"false", "true", 1, 0},   {"true", "false", 1, 0}};
    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct qvl_config c;
        qvl_err err;
        struct change list[2] = {{"tie_word_embeddings", cases[i].top}, {"text_config.tie_word_embeddings", cases[i].text}};
        assert_int_equal(parse(&c, 0, list, 2, &err), 0);
        assert_int_equal(c.text.tied, cases[i].tied);
        assert_int_equal(c.text.tied_unsaid, cases[i].unsaid);
        qvl_config_free(&c);
    }
}

static void other_values(void **state)
{
    struct qvl_config c;
    qvl_err err;
    (void)state;
    /* head_dim from hidden_size / heads, here 96/6; then other sections fit */
    struct change no_head[] = {{"text_config.head_dim", NULL}, {"text_config.rope_scaling.mrope_section", "[4,2,2]"}};
    assert_int_equal(parse(&c, 0, no_head, 2, &err), 0);
    assert_int_equal(c.text.d_head, 16);
    qvl_config_free(&c);
    /* heads of 128: the class default of the sections */
    struct change wide[] = {{"text_config.head_dim", "128"}, {"text_config.rope_scaling", NULL}};
    assert_int_equal(parse(&c, 0, wide, 2, &err), 0);
    assert_int_equal(c.text.rope_section[0], 24);
    assert_int_equal(c.text.rope_section[2], 20);
    qvl_config_free(&c);
    struct change gelu[] = {{"vision_config.hidden_act", "\"gelu\""}};
    assert_int_equal(parse(&c, 0, gelu, 1, &err), 0);
    assert_int_equal(c.vision.act_tanh, 0);
    qvl_config_free(&c);
    struct change yarn[] = {{"text_config.rope_scaling.rope_type", "\"yarn\""}, {"text_config.rope_scaling.factor", "3.0"},
                            {"text_config.rope_scaling.original_max_position_embeddings", "256"}};
    assert_int_equal(parse(&c, 0, yarn, 3, &err), 0);
    assert_true(c.text.rope_factor == 3);
    assert_int_equal(c.text.rope_original, 256);
    qvl_config_free(&c);
    yarn[1].value = "1.0"; /* YaRN by one is none */
    assert_int_equal(parse(&c, 0, yarn, 3, &err), 0);
    assert_true(c.text.rope_factor == 1);
    assert_int_equal(c.text.rope_original, 0);
    qvl_config_free(&c);
}

struct refusal {
    struct change change;
    int code;
    const char *message;
};

#define TC "text_config."
#define VC "vision_config."

static const struct refusal refusals[] = {
    {{"architectures", "[\"Qwen2_5_VLForConditionalGeneration\"]"}, QVL_E_UNSUPPORTED, "Qwen2_5_VLForConditionalGeneration"},
    {{"architectures", "[\"LlamaForCausalLM\"]"}, QVL_E_UNSUPPORTED, "LlamaForCausalLM"},
    {{"architectures", "[]"}, QVL_E_FORMAT, "architectures"},
    {{"architectures", "\"x\""}, QVL_E_FORMAT, "architectures"},
    {{"architectures", "[\"Qwen3VLMoeForConditionalGeneration\"]"}, QVL_E_FORMAT, "model_type says qwen3_vl"},
    {{"model_type", "\"qwen2_vl\""}, QVL_E_UNSUPPORTED, "found qwen2_vl"},
    {{"model_type", "7"}, QVL_E_FORMAT, "model_type: found an integer"},
    {{"quantization_config", "{\"quant_method\":\"hqq\",\"bits\":4}"}, QVL_E_UNSUPPORTED, "hqq"},
    {{"quantization", "{\"group_size\":64}"}, QVL_E_UNSUPPORTED, "quantization"},
    {{"text_config", NULL}, QVL_E_FORMAT, "text_config: missing"},
    {{"text_config", "[]"}, QVL_E_FORMAT, "text_config: found a list"},
    {{"vision_config", "null"}, QVL_E_FORMAT, "vision_config: missing"},
    {{TC "model_type", "\"qwen2\""}, QVL_E_UNSUPPORTED, "found qwen2"},
    {{TC "hidden_size", NULL}, QVL_E_FORMAT, "text_config: hidden_size: missing"},
    {{TC "hidden_size", "0"}, QVL_E_FORMAT, "hidden_size: found 0"},
    {{TC "hidden_size", "-96"}, QVL_E_FORMAT, "hidden_size: found -96"},
    {{TC "hidden_size", "1048577"}, QVL_E_FORMAT, "hidden_size: found 1048577"},
    {{TC "hidden_size", "96.0"}, QVL_E_FORMAT, "hidden_size: found a number with a fraction"},
    {{TC "hidden_size", "\"96\""}, QVL_E_FORMAT, "hidden_size: found a string"},
    {{TC "hidden_size", "true"}, QVL_E_FORMAT, "hidden_size: found true"},
    {{TC "hidden_size", "128"}, QVL_E_FORMAT, "out_hidden_size: found 96"},
    {{TC "num_hidden_layers", NULL}, QVL_E_FORMAT, "num_hidden_layers: missing"},
    {{TC "num_hidden_layers", "1025"}, QVL_E_FORMAT, "num_hidden_layers"},
    {{TC "num_hidden_layers", "9223372036854775807"}, QVL_E_FORMAT, "num_hidden_layers"},
    {{TC "num_attention_heads", NULL}, QVL_E_FORMAT, "num_attention_heads: missing"},
    {{TC "num_attention_heads", "2048"}, QVL_E_FORMAT, "num_attention_heads"},
    {{TC "num_key_value_heads", NULL}, QVL_E_FORMAT, "num_key_value_heads: missing"},
    {{TC "num_key_value_heads", "4"}, QVL_E_FORMAT, "divisor"},
    {{TC "num_key_value_heads", "0"}, QVL_E_FORMAT, "num_key_value_heads"},
    {{TC "head_dim", "30"}, QVL_E_UNSUPPORTED, "head_dim: found 30"},
    {{TC "head_dim", "260"}, QVL_E_FORMAT, "head_dim: found 260"},
    {{TC "intermediate_size", NULL}, QVL_E_FORMAT, "intermediate_size: missing"},
    {{TC "vocab_size", NULL}, QVL_E_FORMAT, "vocab_size: missing"},
    {{TC "vocab_size", "16777217"}, QVL_E_FORMAT, "vocab_size"},
    {{TC "vocab_size", "91"}, QVL_E_FORMAT, "video_token_id: found 91"},
    {{TC "max_position_embeddings", NULL}, QVL_E_FORMAT, "max_position_embeddings: missing"},
    {{TC "rms_norm_eps", "0"}, QVL_E_FORMAT, "rms_norm_eps"},
    {{TC "rms_norm_eps", "-1e-6"}, QVL_E_FORMAT, "rms_norm_eps"},
    {{TC "hidden_act", "\"gelu\""}, QVL_E_UNSUPPORTED, "hidden_act: found gelu"},
    {{TC "attention_bias", "true"}, QVL_E_UNSUPPORTED, "attention_bias"},
    {{TC "rope_theta", NULL}, QVL_E_FORMAT, "rope_theta: missing"},
    {{TC "rope_theta", "null"}, QVL_E_FORMAT, "rope_theta: missing"},
    {{TC "rope_theta", "0"}, QVL_E_FORMAT, "rope_theta"},
    {{TC "rope_theta", "-5"}, QVL_E_FORMAT, "rope_theta"},
    {{TC "rope_theta", "\"5e6\""}, QVL_E_FORMAT, "rope_theta: found a string"},
    {{TC "rope_scaling.rope_theta", "30000"}, QVL_E_FORMAT, "rope_theta: found 30000"},
    {{TC "rope_scaling", "[]"}, QVL_E_FORMAT, "rope_scaling: found a list"},
    {{TC "rope_scaling.mrope_section", NULL}, QVL_E_FORMAT, "mrope_section"},
    {{TC "rope_scaling.mrope_section", "[6,5]"}, QVL_E_FORMAT, "mrope_section"},
    {{TC "rope_scaling.mrope_section", "[6,5,4]"}, QVL_E_FORMAT, "sum 15"},
    {{TC "rope_scaling.mrope_section", "[22,-1,-5]"}, QVL_E_FORMAT, "mrope_section"},
    {{TC "rope_scaling.mrope_section", "[6,5,5,0]"}, QVL_E_LIMIT, "mrope_section"},
    {{TC "rope_scaling.mrope_interleaved", "false"}, QVL_E_UNSUPPORTED, "mrope_interleaved"},
    {{TC "rope_scaling.rope_type", "\"llama3\""}, QVL_E_UNSUPPORTED, "llama3"},
    {{TC "rope_scaling.rope_type", "\"dynamic\""}, QVL_E_UNSUPPORTED, "dynamic"},
    {{TC "rope_scaling.rope_type", "\"linear\""}, QVL_E_UNSUPPORTED, "linear"},
    {{TC "rope_scaling.rope_type", "\"yarn\""}, QVL_E_FORMAT, "factor: missing"},
    {{TC "rope_parameters.partial_rotary_factor", "0.5"}, QVL_E_UNSUPPORTED, "partial_rotary_factor"},
    {{VC "depth", NULL}, QVL_E_FORMAT, "vision_config: depth: missing"},
    {{VC "depth", "2"}, QVL_E_FORMAT, "deepstack_visual_indexes: found 2"},
    {{VC "hidden_size", NULL}, QVL_E_FORMAT, "hidden_size: missing"},
    {{VC "hidden_size", "50"}, QVL_E_FORMAT, "num_heads"},
    {{VC "hidden_size", "40"}, QVL_E_UNSUPPORTED, "num_heads"},
    {{VC "num_heads", NULL}, QVL_E_FORMAT, "num_heads: missing"},
    {{VC "intermediate_size", NULL}, QVL_E_FORMAT, "intermediate_size: missing"},
    {{VC "out_hidden_size", NULL}, QVL_E_FORMAT, "out_hidden_size: missing"},
    {{VC "num_position_embeddings", NULL}, QVL_E_FORMAT, "num_position_embeddings: missing"},
    {{VC "num_position_embeddings", "145"}, QVL_E_FORMAT, "square"},
    {{VC "deepstack_visual_indexes", NULL}, QVL_E_FORMAT, "deepstack_visual_indexes: missing"},
    {{VC "deepstack_visual_indexes", "[0,0]"}, QVL_E_FORMAT, "twice"},
    {{VC "deepstack_visual_indexes", "[4]"}, QVL_E_FORMAT, "deepstack_visual_indexes: found 4"},
    {{VC "deepstack_visual_indexes", "[-1]"}, QVL_E_FORMAT, "deepstack_visual_indexes: found -1"},
    {{VC "deepstack_visual_indexes", "[0,1,2,3,0,1,2,3,0,1,2,3,0,1,2,3,0]"}, QVL_E_LIMIT, "17 entries"},
    {{VC "deepstack_visual_indexes", "3"}, QVL_E_FORMAT, "deepstack_visual_indexes: found an integer"},
    {{VC "patch_size", "0"}, QVL_E_FORMAT, "patch_size"},
    {{VC "spatial_merge_size", "0"}, QVL_E_FORMAT, "spatial_merge_size"},
    {{VC "temporal_patch_size", "-2"}, QVL_E_FORMAT, "temporal_patch_size"},
    {{VC "in_channels", "1"}, QVL_E_UNSUPPORTED, "in_channels"},
    {{VC "hidden_act", "\"silu\""}, QVL_E_UNSUPPORTED, "hidden_act: found silu"},
    {{VC "rope_parameters.rope_theta", "500"}, QVL_E_UNSUPPORTED, "rope_theta"},
    {{"image_token_id", NULL}, QVL_E_FORMAT, "image_token_id: missing"},
    {{"image_token_id", "100"}, QVL_E_FORMAT, "image_token_id: found 100"},
    {{"image_token_id", "-1"}, QVL_E_FORMAT, "image_token_id"},
    {{"image_token_id", "91"}, QVL_E_FORMAT, "video_token_id"},
    {{"video_token_id", NULL}, QVL_E_FORMAT, "video_token_id: missing"},
    {{"vision_start_token_id", NULL}, QVL_E_FORMAT, "vision_start_token_id: missing"},
    {{"vision_end_token_id", NULL}, QVL_E_FORMAT, "vision_end_token_id: missing"},
    {{"tie_word_embeddings", "1"}, QVL_E_FORMAT, "tie_word_embeddings: found an integer"},
    {{TC "eos_token_id", "100"}, QVL_E_FORMAT, "eos_token_id: found 100"},
};

static const struct refusal moe_refusals[] = {
    {{"text_config.num_experts", NULL}, QVL_E_FORMAT, "num_experts: missing"},
    {{"text_config.num_experts", "0"}, QVL_E_FORMAT, "num_experts"},
    {{"text_config.num_experts", "4097"}, QVL_E_FORMAT, "num_experts"},
    {{"text_config.num_experts_per_tok", "9"}, QVL_E_FORMAT, "num_experts_per_tok: found 9"},
    {{"text_config.num_experts_per_tok", NULL}, QVL_E_FORMAT, "num_experts_per_tok: missing"},
    {{"text_config.moe_intermediate_size", NULL}, QVL_E_FORMAT, "moe_intermediate_size: missing"},
    {{"text_config.decoder_sparse_step", "0"}, QVL_E_FORMAT, "decoder_sparse_step"},
    {{"text_config.mlp_only_layers", "[5]"}, QVL_E_FORMAT, "mlp_only_layers"},
    {{"text_config.model_type", "\"qwen3_vl_text\""}, QVL_E_UNSUPPORTED, "qwen3_vl_moe_text"},
};

static void refuse_all(int moe, const struct refusal *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct qvl_config c;
        qvl_err err;
        int rc = parse(&c, moe, &list[i].change, 1, &err);
        if (rc != list[i].code || err.code != rc || !strstr(err.msg, list[i].message) || !strstr(err.msg, "config.json"))
            fail_msg("%s = %s: %d \"%s\", expected %d \"%s\"", list[i].change.path, list[i].change.value, rc, err.msg,
                     list[i].code, list[i].message);
        assert_null(c.text.is_sparse);
    }
}

static void every_rule_refuses(void **state)
{
    (void)state;
    refuse_all(0, refusals, N(refusals));
    refuse_all(1, moe_refusals, N(moe_refusals));
}

static void yarn_refusals(void **state)
{
    static const struct {
        const char *key, *value;
        int code;
    } cases[] = {{"factor", "0.5", QVL_E_FORMAT}, {"factor", "\"2\"", QVL_E_FORMAT}, {"original_max_position_embeddings", NULL, QVL_E_FORMAT},
                 {"original_max_position_embeddings", "0", QVL_E_FORMAT}, {"beta_fast", "16", QVL_E_UNSUPPORTED},
                 {"attention_factor", "1.5", QVL_E_UNSUPPORTED}, {"mscale", "1", QVL_E_UNSUPPORTED},
                 {"truncate", "false", QVL_E_UNSUPPORTED}, {"beta_fast", "32", 0}, {"attention_factor", "null", 0}};
    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct qvl_config c;
        qvl_err err;
        char path[96];
        snprintf(path, sizeof path, "text_config.rope_scaling.%s", cases[i].key);
        struct change list[] = {{"text_config.rope_scaling.rope_type", "\"yarn\""}, {"text_config.rope_scaling.factor", "2"},
                                {"text_config.rope_scaling.original_max_position_embeddings", "256"}, {path, cases[i].value}};
        assert_int_equal(parse(&c, 0, list, 4, &err), cases[i].code);
        if (cases[i].code)
            assert_non_null(strstr(err.msg, cases[i].key));
        else
            qvl_config_free(&c);
    }
}

static void sparse_layers(void **state)
{
    struct qvl_config c;
    qvl_err err;
    (void)state;
    assert_int_equal(parse(&c, 1, NULL, 0, &err), 0);
    assert_int_equal(c.moe, 1);
    assert_int_equal(c.text.n_expert, 8);
    assert_int_equal(c.text.n_expert_used, 2);
    assert_int_equal(c.text.d_ff_expert, 24);
    assert_memory_equal(c.text.is_sparse, "\1\1\1\1\1", 5);
    qvl_config_free(&c);
    struct change mixed[] = {{"text_config.decoder_sparse_step", "2"}, {"text_config.mlp_only_layers", "[3]"},
                             {"text_config.norm_topk_prob", "false"}};
    assert_int_equal(parse(&c, 1, mixed, 3, &err), 0);
    assert_memory_equal(c.text.is_sparse, "\0\1\0\0\0", 5);
    assert_int_equal(c.text.norm_topk, 1); /* the reference does not look at norm_topk_prob */
    qvl_config_free(&c);
    struct change no_ff[] = {{"text_config.intermediate_size", NULL}}; /* needed by dense layers only */
    assert_int_equal(parse(&c, 1, no_ff, 1, &err), 0);
    qvl_config_free(&c);
    struct change need_ff[] = {{"text_config.intermediate_size", NULL}, {"text_config.mlp_only_layers", "[0]"}};
    assert_int_equal(parse(&c, 1, need_ff, 2, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "intermediate_size: missing"));
}

static void generation(void **state)
{
    static const struct {
        const char *text;
        int code, n_eos, eos0, top_k;
    } cases[] = {
        {"{\"do_sample\":true,\"eos_token_id\":[7,8],\"top_p\":0.8,\"top_k\":20,\"temperature\":0.7,\"repetition_penalty\":1.0}", 0, 2, 7, 20},
        {"{\"eos_token_id\":9}", 0, 1, 9, 50},
        {"{\"eos_token_id\":null,\"top_k\":null}", 0, 1, 3, 50},
        {"{\"eos_token_id\":[],\"top_k\":0}", 0, 1, 3, 0},
        {"{\"top_k\":-1}", 0, 1, 3, 0},
        {"{\"eos_token_id\":100}", QVL_E_FORMAT, 0, 0, 0},
        {"{\"eos_token_id\":\"x\"}", QVL_E_FORMAT, 0, 0, 0},
        {"{\"eos_token_id\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", QVL_E_LIMIT, 0, 0, 0},
        {"{\"do_sample\":1}", QVL_E_FORMAT, 0, 0, 0},
        {"{\"temperature\":-1}", QVL_E_FORMAT, 0, 0, 0},
        {"{\"top_p\":1.5}", QVL_E_FORMAT, 0, 0, 0},
        {"{\"min_p\":-0.1}", QVL_E_FORMAT, 0, 0, 0},
        {"{\"repetition_penalty\":0}", QVL_E_FORMAT, 0, 0, 0},
        {"[]", QVL_E_FORMAT, 0, 0, 0},
        {"{\"top_p\":0.5,\"top_p\":0.6}", QVL_E_FORMAT, 0, 0, 0},
        {"{", QVL_E_FORMAT, 0, 0, 0},
    };
    struct qvl_config c;
    qvl_err err;
    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        int rc = qvl_config_parse(&c, dense, cases[i].text, NULL, &err);
        if (rc != cases[i].code)
            fail_msg("%s: %d %s", cases[i].text, rc, err.msg);
        if (rc) {
            assert_non_null(strstr(err.msg, "generation_config.json"));
            continue;
        }
        assert_int_equal(c.gen.n_eos, cases[i].n_eos);
        assert_int_equal(c.gen.eos[0], cases[i].eos0);
        assert_int_equal(c.gen.top_k, cases[i].top_k);
        if (i == 0)
            assert_true(c.gen.do_sample && c.gen.temperature == 0.7f && c.gen.top_p == 0.8f && c.gen.eos[1] == 8);
        qvl_config_free(&c);
    }
    struct change top[] = {{"eos_token_id", "[5,6]"}}; /* the top level before text_config */
    assert_int_equal(parse(&c, 0, top, 1, &err), 0);
    assert_int_equal(c.gen.n_eos, 2);
    assert_int_equal(c.gen.eos[1], 6);
    qvl_config_free(&c);
    struct change none[] = {{"text_config.eos_token_id", NULL}};
    assert_int_equal(parse(&c, 0, none, 1, &err), 0);
    assert_int_equal(c.gen.n_eos, 0);
    qvl_config_free(&c);
}

static void preprocessor(void **state)
{
    static const struct {
        const char *text;
        int code;
        uint64_t lo, hi;
    } cases[] = {
        {"{\"size\":{\"shortest_edge\":1000,\"longest_edge\":2000},\"patch_size\":8,\"merge_size\":2,\"temporal_patch_size\":2}", 0, 1000, 2000},
        {"{\"min_pixels\":300,\"max_pixels\":400}", 0, 300, 400},
        {"{\"min_pixels\":300,\"max_pixels\":400,\"size\":{\"shortest_edge\":1000,\"longest_edge\":2000}}", 0, 300, 400},
        {"{\"min_pixels\":null,\"size\":{\"shortest_edge\":1000,\"longest_edge\":2000}}", 0, 1000, 2000},
        {"{}", 0, 65536, 16777216},
        {"{\"image_processor\":{\"size\":{\"shortest_edge\":5,\"longest_edge\":6},\"resample\":3,\"rescale_factor\":0.00392156862745098},"
         "\"processor_class\":\"Qwen3VLProcessor\"}", 0, 5, 6},
        {"{\"size\":{\"shortest_edge\":2000,\"longest_edge\":1000}}", QVL_E_FORMAT, 0, 0},
        {"{\"size\":{\"height\":224,\"width\":224}}", QVL_E_FORMAT, 0, 0},
        {"{\"size\":{\"shortest_edge\":0,\"longest_edge\":1000}}", QVL_E_FORMAT, 0, 0},
        {"{\"min_pixels\":-5}", QVL_E_FORMAT, 0, 0},
        {"{\"patch_size\":16}", QVL_E_FORMAT, 0, 0},
        {"{\"merge_size\":1}", QVL_E_FORMAT, 0, 0},
        {"{\"temporal_patch_size\":1}", QVL_E_FORMAT, 0, 0},
        {"{\"image_mean\":[0.5,0.5]}", QVL_E_FORMAT, 0, 0},
        {"{\"image_std\":[0.5,0,0.5]}", QVL_E_FORMAT, 0, 0},
        {"{\"image_std\":[0.5,0.5,\"a\"]}", QVL_E_FORMAT, 0, 0},
        {"{\"do_resize\":false}", QVL_E_UNSUPPORTED, 0, 0},
        {"{\"do_normalize\":false}", QVL_E_UNSUPPORTED, 0, 0},
        {"{\"rescale_factor\":1}", QVL_E_UNSUPPORTED, 0, 0},
        {"{\"resample\":2}", QVL_E_UNSUPPORTED, 0, 0},
        {"null", QVL_E_FORMAT, 0, 0},
    };
    struct qvl_config c;
    qvl_err err;
    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        int rc = qvl_config_parse(&c, dense, NULL, cases[i].text, &err);
        if (rc != cases[i].code)
            fail_msg("%s: %d %s", cases[i].text, rc, err.msg);
        if (rc) {
            assert_non_null(strstr(err.msg, "preprocessor_config.json"));
            continue;
        }
        assert_true(c.image.min_pixels == cases[i].lo && c.image.max_pixels == cases[i].hi);
        qvl_config_free(&c);
    }
    assert_int_equal(qvl_config_parse(&c, dense, NULL, "{\"image_mean\":[0.1,0.2,0.3],\"image_std\":[1,2,3]}", &err), 0);
    assert_true(c.image.mean[1] == 0.2f && c.image.std[2] == 3.0f);
    qvl_config_free(&c);
}

static void bad_json(void **state)
{
    static const char *const texts[] = {"", "{", "[]", "null", "3", "{\"a\":1,\"a\":2}", "\xff", "{\"model_type\":\"qwen3_vl\"} x"};
    struct qvl_config c;
    qvl_err err;
    (void)state;
    for (size_t i = 0; i < N(texts); i++) {
        assert_int_equal(qvl_config_parse(&c, texts[i], NULL, NULL, &err), QVL_E_FORMAT);
        assert_non_null(strstr(err.msg, "config.json"));
    }
    assert_int_equal(qvl_config_parse(&c, "version https://git-lfs.github.com/spec/v1\n", NULL, NULL, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "git lfs"));
    assert_int_equal(qvl_config_parse(&c, NULL, NULL, NULL, &err), QVL_E_ARG);
}

/* Parameter counts of the published models, from the byte totals of their files. */
static void published_shapes(void **state)
{
    static const struct {
        const char *name;
        uint64_t params, kv; /* bytes of one position in 16 bits */
        int n_layer, d_model, n_head, n_kv, tied, moe, depth, v_model, tap2;
    } models[] = {
        {"2b", 2127532032, 114688, 28, 2048, 16, 8, 1, 0, 24, 1024, 17},
        {"4B", 4437815808, 147456, 36, 2560, 32, 8, 1, 0, 24, 1024, 17},
        {"8b", 8767123696, 147456, 36, 4096, 32, 8, 0, 0, 27, 1152, 24},
        {"32b", 33357390064, 262144, 64, 5120, 64, 8, 0, 0, 27, 1152, 24},
        {"30b-a3b", 31070754032, 98304, 48, 2048, 32, 4, 0, 1, 27, 1152, 24},
        {"235b-a22b", 235670022896, 192512, 94, 4096, 64, 4, 0, 1, 27, 1152, 24},
    };
    (void)state;
    for (size_t i = 0; i < N(models); i++) {
        struct qvl_config c;
        uint64_t mapped, copied, params;
        qvl_err err;
        assert_int_equal(qvl_config_shape(&c, models[i].name, &err), 0);
        assert_int_equal(c.text.n_layer, models[i].n_layer);
        assert_int_equal(c.text.d_model, models[i].d_model);
        assert_int_equal(c.text.n_head, models[i].n_head);
        assert_int_equal(c.text.n_kv, models[i].n_kv);
        assert_int_equal(c.text.tied, models[i].tied);
        assert_int_equal(c.moe, models[i].moe);
        assert_int_equal(c.vision.depth, models[i].depth);
        assert_int_equal(c.vision.d_model, models[i].v_model);
        assert_int_equal(c.vision.tap[2], models[i].tap2);
        assert_int_equal(c.vision.d_out, c.text.d_model);
        assert_int_equal(2 * (c.text.rope_section[0] + c.text.rope_section[1] + c.text.rope_section[2]), c.text.d_head);
        assert_int_equal((uint64_t)c.text.n_layer * 2 * c.text.n_kv * c.text.d_head * 2, models[i].kv);
        assert_int_equal(qvl_weights_estimate(&c, QVL_DT_BF16, &mapped, &copied, &params), 0);
        assert_true(params == models[i].params);
        /* vectors are twice as wide in memory as in the file: together less than 0.1 % more than the file */
        assert_true(mapped + copied > 2 * params && mapped + copied < 2 * params + params / 500);
        qvl_config_free(&c);
    }
    struct qvl_config c;
    qvl_err err;
    assert_int_equal(qvl_config_shape(&c, "7b", &err), QVL_E_ARG);
    assert_int_equal(qvl_config_shape(&c, NULL, &err), QVL_E_ARG);
    assert_non_null(strstr(err.msg, "30b-a3b"));
}

/* ---------------------------------------------------------------- folders */

static char root[64];

static void put(const char *name, const char *text, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/qvl-config-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char cmd[128];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", root);
    return system(cmd);
}

static void folders(void **state)
{
    static const char pre[] = "{\"min_pixels\":10,\"max_pixels\":20}", gen[] = "{\"eos_token_id\":11}",
                      proc[] = "{\"image_processor\":{\"min_pixels\":30,\"max_pixels\":40}}", old[] = "{\"processor_class\":\"X\"}";
    struct qvl_config c;
    qvl_err err;
    (void)state;
    assert_int_equal(qvl_config_load(&c, "/no/such/folder", &err), QVL_E_NOTFOUND);
    assert_int_equal(qvl_config_load(&c, root, &err), QVL_E_NOTFOUND);
    assert_non_null(strstr(err.msg, "config.json"));
    put("config.json", dense, sizeof dense - 1);
    assert_int_equal(qvl_config_load(&c, root, &err), 0);
    assert_true(c.image.min_pixels == 65536);
    qvl_config_free(&c);
    put("preprocessor_config.json", pre, sizeof pre - 1);
    put("generation_config.json", gen, sizeof gen - 1);
    put("processor_config.json", old, sizeof old - 1);
    assert_int_equal(qvl_config_load(&c, root, &err), 0);
    assert_true(c.image.min_pixels == 10 && c.image.max_pixels == 20);
    assert_int_equal(c.gen.eos[0], 11);
    qvl_config_free(&c);
    put("processor_config.json", proc, sizeof proc - 1);
    assert_int_equal(qvl_config_load(&c, root, &err), 0);
    assert_true(c.image.min_pixels == 30 && c.image.max_pixels == 40);
    qvl_config_free(&c);
    put("config.json", dense, sizeof dense); /* with a NUL at the end */
    assert_int_equal(qvl_config_load(&c, root, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "NUL"));
    put("config.json", "{}", 2);
    assert_int_equal(qvl_config_load(&c, root, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, root)); /* which folder's config.json */
}

static void tiny_model(void **state)
{
    struct qvl_config c;
    qvl_err err;
    (void)state;
    assert_int_equal(qvl_config_load(&c, QVL_SOURCE_DIR "/models/tiny", &err), 0);
    assert_int_equal(c.text.n_layer, 6);
    assert_int_equal(c.text.d_head, 64);
    assert_int_equal(c.text.tied, 1);
    assert_int_equal(c.vision.n_tap, 3);
    assert_int_equal(c.vision.n_pos_side, 16);
    assert_int_equal(c.gen.n_eos, 2);
    assert_true(c.image.min_pixels == 9216 && c.image.max_pixels == 102400);
    qvl_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base_is_read),
        cmocka_unit_test(spellings_are_accepted),
        cmocka_unit_test(tying),
        cmocka_unit_test(other_values),
        cmocka_unit_test(every_rule_refuses),
        cmocka_unit_test(yarn_refusals),
        cmocka_unit_test(sparse_layers),
        cmocka_unit_test(generation),
        cmocka_unit_test(preprocessor),
        cmocka_unit_test(bad_json),
        cmocka_unit_test(published_shapes),
        cmocka_unit_test_setup_teardown(folders, make_root, remove_root),
        cmocka_unit_test(tiny_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
