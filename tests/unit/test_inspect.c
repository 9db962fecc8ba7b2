/* qvl_inspect: the tiny model, tensor files, incomplete and damaged folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "qvl.h"

#define TINY QVL_SOURCE_DIR "/models/tiny"

static json_t *inspect(const char *path)
{
    char *text;
    qvl_err err;
    if (qvl_inspect(path, &text, &err))
        fail_msg("%s", err.msg);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    qvl_free(text);
    return root;
}

/* "text.width" */
static const json_t *at(const json_t *o, const char *path)
{
    char key[64];
    size_t n = strcspn(path, ".");
    snprintf(key, sizeof key, "%.*s", (int)n, path);
    const json_t *v = json_object_get(o, key);
    if (!v)
        fail_msg("no key %s", path);
    return path[n] ? at(v, path + n + 1) : v;
}

static json_int_t num(const json_t *o, const char *path)
{
    assert_true(json_is_integer(at(o, path)));
    return json_integer_value(at(o, path));
}

static const char *str(const json_t *o, const char *path)
{
    assert_true(json_is_string(at(o, path)));
    return json_string_value(at(o, path));
}

static long file_size(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (long)st.st_size;
}

static void tiny_model(void **state)
{
    json_t *o = inspect(TINY "/");
    (void)state;
    assert_string_equal(str(o, "name"), "tiny");
    assert_string_equal(str(o, "architecture"), "qwen3_vl");
    assert_true(json_is_false(at(o, "thinking")));
    assert_int_equal(num(o, "text.layers"), 6);
    assert_int_equal(num(o, "text.kv_heads"), 2);
    assert_int_equal(num(o, "vision.width"), 128);
    assert_int_equal(json_array_size(at(o, "vision.deepstack")), 3);
    assert_int_equal(num(o, "image.min_tokens"), 9216 / 1024);
    assert_int_equal(num(o, "image.max_tokens"), 102400 / 1024);
    assert_int_equal(num(o, "tokens.image"), 2412);
    assert_string_equal(str(o, "precision"), "BF16");
    /* bf16: two bytes each parameter; the vectors are copied as f32 */
    assert_int_equal(num(o, "parameters.total"), num(o, "parameters.vision") + num(o, "parameters.text"));
    const json_t *row = json_array_get(at(o, "types"), 0);
    assert_int_equal(num(row, "bytes"), 2 * num(o, "parameters.total"));
    assert_int_equal(num(row, "tensors"), num(o, "tensors"));
    assert_int_equal(num(o, "memory.weights_mapped_bytes") + num(o, "memory.weights_copied_bytes") / 2, num(row, "bytes"));
    assert_int_equal(num(o, "memory.kv_token_bf16_bytes"), 6 * 2 * 2 * 64 * 2); /* layers, k and v, heads, size, bytes */
    assert_int_equal(num(o, "memory.kv_token_f32_bytes"), 6 * 2 * 2 * 64 * 4);
    assert_int_equal(num(o, "memory.kv_token_int8_bytes"), 6 * 2 * 2 * (64 + 4));
    assert_int_equal(num(o, "memory.kv_context_bytes"), 4096 * num(o, "memory.kv_token_bf16_bytes"));
    assert_true(json_is_true(at(o, "memory.fits")));
    assert_int_equal(json_array_size(at(o, "missing")), 0);
    assert_int_equal(json_array_size(at(o, "warnings")), 0);
    assert_true(json_is_null(at(o, "problem")));
    int found = 0;
    for (size_t i = 0; i < json_array_size(at(o, "files")); i++) {
        const json_t *f = json_array_get(at(o, "files"), i);
        if (strcmp(str(f, "name"), "model.safetensors") == 0)
            found = num(f, "bytes") == file_size(TINY "/model.safetensors");
    }
    assert_true(found);
    json_decref(o);
}

static void mixture_and_shards(void **state)
{
    json_t *o = inspect(QVL_SOURCE_DIR "/tests/golden/models/moe-bf16");
    (void)state;
    assert_string_equal(str(o, "architecture"), "qwen3_vl_moe");
    assert_true(num(o, "text.experts") > 1);
    assert_true(json_is_false(at(o, "text.tied")));
    json_decref(o);
    o = inspect(QVL_SOURCE_DIR "/tests/golden/models/sharded-bf16");
    assert_true(json_is_null(at(o, "problem")));
    assert_null(json_object_get(at(o, "text"), "experts"));
    json_decref(o);
}

static void tensor_file(void **state)
{
    const char *path = QVL_SOURCE_DIR "/tests/data/safetensors/sample.safetensors";
    json_t *o = inspect(path);
    (void)state;
    assert_int_equal(num(o, "file_bytes"), file_size(path));
    assert_int_equal(num(o, "tensor_count"), 9);
    assert_int_equal(num(o, "parameters"), 6 + 3 + 2 + 2 + 1 + 1 + 0 + 3 + 2);
    assert_string_equal(str(o, "metadata.format"), "pt");
    const json_t *t = at(o, "tensors");
    assert_int_equal(json_array_size(t), 9);
    json_int_t end = 0, bytes = 0;
    for (size_t i = 0; i < 9; i++) {
        const json_t *x = json_array_get(t, i);
        bytes += num(x, "bytes");
        if (num(x, "offset") + num(x, "bytes") > end)
            end = num(x, "offset") + num(x, "bytes");
        if (strcmp(str(x, "name"), "f32") == 0) {
            assert_string_equal(str(x, "type"), "F32");
            assert_int_equal(json_integer_value(json_array_get(at(x, "shape"), 1)), 3);
        }
    }
    assert_int_equal(end, file_size(path));
    assert_int_equal(bytes, 6 * 4 + 3 * 2 + 2 * 2 + 2 * 8 + 1 + 4 + 0 + 3 + 2);
    json_decref(o);
}

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/qvl-inspect-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char cmd[128];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", root);
    return system(cmd);
}

static void shell(const char *fmt)
{
    char cmd[512];
    snprintf(cmd, sizeof cmd, "cd '%s' && %s", root, fmt);
    assert_int_equal(system(cmd), 0);
}

static int fails(const char *path, const char *message)
{
    char *text = NULL;
    qvl_err err = {0};
    int rc = qvl_inspect(path, &text, &err);
    assert_null(text);
    assert_int_equal(rc, err.code);
    if (!strstr(err.msg, message))
        fail_msg("found \"%s\", expected \"%s\"", err.msg, message);
    return rc;
}

static void incomplete_folders(void **state)
{
    (void)state;
    assert_int_equal(fails(root, "config.json"), QVL_E_NOTFOUND);
    assert_int_equal(fails("/no/such/path", "/no/such/path"), QVL_E_NOTFOUND);
    assert_int_equal(fails("", "empty"), QVL_E_ARG);
    /* tensors alone are listed */
    shell("cp " TINY "/model.safetensors .");
    json_t *o = inspect(root);
    assert_int_equal(num(o, "tensor_count"), 167);
    json_decref(o);
    /* with config.json it is a model that lacks its companions */
    shell("cp " TINY "/config.json .");
    o = inspect(root);
    assert_int_equal(json_array_size(at(o, "missing")), 5);
    assert_true(json_is_null(at(o, "problem")));
    json_int_t mapped = num(o, "memory.weights_mapped_bytes");
    json_decref(o);
    /* the configuration alone: the estimate says the same */
    shell("rm model.safetensors");
    o = inspect(root);
    assert_non_null(strstr(str(o, "problem"), "no weights"));
    assert_int_equal(num(o, "memory.weights_mapped_bytes"), mapped);
    assert_int_equal(num(o, "parameters.total"), 6966656);
    json_decref(o);
    /* damaged weights are an error */
    shell("head -c 1000000 " TINY "/model.safetensors > model.safetensors");
    assert_int_equal(fails(root, "model.safetensors"), QVL_E_FORMAT);
    shell("echo '<html>' > config.json");
    assert_int_equal(fails(root, "web page"), QVL_E_FORMAT);
}

#define MODELS QVL_SOURCE_DIR "/tests/golden/models/"
#define ONNX QVL_SOURCE_DIR "/tests/data/onnx/"

static const json_t *row(const json_t *o, const char *list, size_t i)
{
    const json_t *v = json_array_get(at(o, list), i);
    if (!v)
        fail_msg("no %s[%zu]", list, i);
    return v;
}

/* The decoder of untied-f32: 2 layers, width 48, 3 and 1 heads of 48, 72 wide inside, 384 tokens. */
static void onnx_folders(void **state)
{
    enum { LAYER = 2 * 144 * 48 + 2 * 48 * 48 + 3 * 72 * 48, TABLE = 384 * 48 };
    json_t *o = inspect(ONNX "mixed");
    json_int_t weights = 0, matrices = 0;
    (void)state;
    assert_string_equal(str(o, "format"), "onnx");
    assert_int_equal(num(o, "decoder.layers"), 2);
    assert_int_equal(num(o, "decoder.vocabulary"), 384);
    for (size_t i = 0; i < json_array_size(at(o, "quantised")); i++) {
        const json_t *r = row(o, "quantised", i);
        assert_string_equal(str(r, "operator"), "MatMulNBits");
        assert_string_equal(str(r, "block"), "32");
        assert_string_equal(str(r, "zero_points"), "codes");
        weights += num(r, "weights");
        matrices += num(r, "matrices");
    }
    assert_int_equal(matrices, 2 * 7 + 1);
    assert_int_equal(weights, 2 * LAYER + TABLE);
    assert_int_equal(num(o, "graph.weights"), weights + TABLE);
    assert_int_equal(num(o, "memory.packed_q8_bytes"), num(o, "graph.weights") / 32 * 34);
    assert_int_equal(num(o, "memory.kv_token_bf16_bytes"), 2 * 2 * 48 * 2);
    assert_int_equal(json_array_size(at(o, "missing")), 0);
    assert_string_equal(str(row(o, "files", 1), "state"), "complete");
    assert_int_equal(num(row(o, "files", 1), "needed_bytes"), file_size(ONNX "mixed/model.onnx.data"));
    json_decref(o);
    o = inspect(ONNX "shared");
    assert_string_equal(str(row(o, "quantised", 0), "zero_points"), "none");
    json_decref(o);
}

static void onnx_files_that_are_not_there(void **state)
{
    (void)state;
    shell("cp " ONNX "mixed/model.onnx .");
    char path[128];
    snprintf(path, sizeof path, "%s/model.onnx", root);
    json_t *o = inspect(path);
    assert_string_equal(str(row(o, "files", 1), "state"), "missing");
    assert_int_equal(num(row(o, "files", 1), "needed_bytes"), file_size(ONNX "mixed/model.onnx.data"));
    assert_string_equal(json_string_value(row(o, "missing", 0)), "model.onnx.data");
    assert_string_equal(json_string_value(row(o, "missing", 1)), "genai_config.json");
    assert_int_equal(num(o, "graph.nodes"), 55);
    json_decref(o);
    shell("head -c 1000 " ONNX "mixed/model.onnx.data > model.onnx.data && cp " ONNX "mixed/genai_config.json .");
    o = inspect(root);
    assert_string_equal(str(row(o, "files", 1), "state"), "incomplete");
    assert_int_equal(num(row(o, "files", 1), "bytes"), 1000);
    assert_int_equal(json_array_size(at(o, "missing")), 1);
    json_decref(o);
    shell("head -c 1000 " ONNX "mixed/model.onnx > model.onnx");
    assert_int_equal(fails(path, "model.onnx"), QVL_E_FORMAT);
}

/* Halves and shards of GGUF models say what they are and what they lack. */
static void gguf_files(void **state)
{
    char path[128];
    json_t *o = inspect(MODELS "gguf-kmix/Tiny-Q4_K_M.gguf");
    (void)state;
    assert_string_equal(str(o, "kind"), "text decoder");
    assert_string_equal(str(o, "vision_file"), "mmproj-Tiny-F16.gguf");
    assert_int_equal(num(o, "text.layers"), 2);
    assert_int_equal(json_array_size(at(o, "missing")), 0);
    assert_true(num(o, "memory.needed_bytes") > num(o, "memory.kv_context_bytes"));
    json_decref(o);
    o = inspect(MODELS "gguf-kmix/mmproj-Tiny-F16.gguf");
    assert_string_equal(str(o, "kind"), "vision encoder (mmproj)");
    assert_int_equal(num(o, "vision.layers"), 2);
    assert_int_equal(num(o, "text_width"), 256);
    json_decref(o);
    o = inspect(MODELS "gguf-single/model.gguf");
    assert_string_equal(str(o, "kind"), "text decoder and vision encoder in one file");
    json_decref(o);
    o = inspect(MODELS "gguf-moe/Tiny-Q4_K_M-00002-of-00002.gguf"); /* the configuration is in the first */
    assert_int_equal(num(o, "shards"), 2);
    assert_int_equal(num(o, "text.experts"), 4);
    json_decref(o);
    shell("cp " MODELS "gguf-moe/Tiny-Q4_K_M-00002-of-00002.gguf . && cp " MODELS "gguf-kmix/Tiny-Q4_K_M.gguf alone.gguf");
    snprintf(path, sizeof path, "%s/Tiny-Q4_K_M-00002-of-00002.gguf", root);
    o = inspect(path);
    assert_string_equal(json_string_value(row(o, "missing", 0)), "Tiny-Q4_K_M-00001-of-00002.gguf");
    assert_true(num(o, "tensor_count") > 0);
    json_decref(o);
    snprintf(path, sizeof path, "%s/alone.gguf", root);
    o = inspect(path);
    assert_true(json_is_null(at(o, "vision_file")));
    assert_int_equal(json_array_size(at(o, "missing")), 1);
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_model),
        cmocka_unit_test(mixture_and_shards),
        cmocka_unit_test(tensor_file),
        cmocka_unit_test_setup_teardown(incomplete_folders, make_root, remove_root),
        cmocka_unit_test(onnx_folders),
        cmocka_unit_test_setup_teardown(onnx_files_that_are_not_there, make_root, remove_root),
        cmocka_unit_test_setup_teardown(gguf_files, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
