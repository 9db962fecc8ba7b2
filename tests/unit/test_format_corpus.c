/* The corpora of the fuzz targets for file formats: good-... is accepted, bad-... refused with a message. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "formats/safetensors_index.h"
#include "formats/tensor_source.h"
#include "model/config.h"
#include "model/onnx_parts.h"
#include "model/quantised.h"

typedef int (*parse_fn)(char *data, size_t size, qvl_err *err);

static int parse_safetensors(char *data, size_t size, qvl_err *err)
{
    struct qvl_tensors *t;
    int rc = qvl_safetensors_open_memory(&t, data, size, "corpus", err);
    qvl_tensors_close(&t);
    return rc;
}

static int parse_index(char *data, size_t size, qvl_err *err)
{
    struct qvl_st_index x;
    int rc = qvl_st_index_parse(&x, data, size, "corpus", err);
    if (!rc)
        qvl_st_index_free(&x);
    return rc;
}

static int parse_config(char *data, size_t size, qvl_err *err)
{
    struct qvl_config c;
    char *part[3] = {data, NULL, NULL};
    (void)size;
    for (int i = 0; i < 2; i++) {
        char *cut = strstr(part[i], "\n---\n");
        if (!cut)
            break;
        *cut = 0;
        part[i + 1] = cut + 5;
    }
    int rc = qvl_config_parse(&c, part[0], part[1], part[2], err);
    qvl_config_free(&c);
    return rc;
}

/* As in fuzz/fuzz_onnx.c: external files are the model itself. */
static int parse_onnx(char *data, size_t size, qvl_err *err)
{
    struct qvl_config c = {.text = {.n_layer = 1, .d_model = 32, .n_head = 2, .n_kv = 1, .d_head = 16, .d_ff = 48, .n_vocab = 8,
                                    .rope_theta = 10000, .rope_section = {4, 2, 2}, .rope_factor = 1, .rms_eps = 1e-6, .tied = 1}};
    struct qvl_onnx_model m = {.path = qvl_strdup("corpus")};
    int rc = qvl_onnx_open_memory(&m.graph, data, size, data, size, "corpus", err);
    if (rc == 0)
        rc = qvl_onnx_model_collect(&m, &c, NULL, err);
    qvl_onnx_model_close(&m);
    return rc;
}

/* As in fuzz/fuzz_quantised.c: a configuration on a line, then the tensors. */
static int parse_quantised(char *data, size_t size, qvl_err *err)
{
    uint8_t sparse[2] = {0, 1};
    struct qvl_config c = {.text = {.n_layer = 2, .d_model = 32, .n_head = 1, .n_kv = 1, .d_head = 32, .d_ff = 64, .n_vocab = 8, .n_expert = 2,
                                    .n_expert_used = 1, .d_ff_expert = 32, .is_sparse = sparse, .tied = 1},
                           .vision = {.depth = 1, .d_model = 8, .n_head = 1, .d_ff = 16, .d_out = 32, .patch = 2, .temporal_patch = 2,
                                      .merge = 2, .n_channel = 3, .n_pos_side = 2}};
    const char *line = memchr(data, '\n', size);
    struct qvl_tensors *source;
    struct qvl_quantised m = {0};
    json_t *root = NULL;
    assert_non_null(line);
    int rc = qvl_json_parse(&root, data, (size_t)(line - data), "corpus", err);
    if (rc == 0)
        rc = qvl_quant_config_parse(&c.quant, root, "corpus", NULL, err);
    json_decref(root);
    if (rc == 0 && (rc = qvl_safetensors_open_memory(&source, line + 1, size - (size_t)(line + 1 - data), "corpus", err)) == 0)
        rc = qvl_quantised_open(&m, source, &c, err);
    qvl_quantised_close(&m);
    return rc;
}

static void check(const char *target, parse_fn parse)
{
    char dir[512], path[1024];
    int n_good = 0, n_bad = 0;
    const struct dirent *e;
    snprintf(dir, sizeof dir, "%s/tests/fuzz/corpus/%s", QVL_SOURCE_DIR, target);
    DIR *d = opendir(dir);
    if (!d)
        fail_msg("%s: no such folder", dir);
    while ((e = readdir(d)) != NULL) {
        char *data;
        size_t size;
        qvl_err err = {0};
        int good = !strncmp(e->d_name, "good", 4), bad = !strncmp(e->d_name, "bad", 3);
        if (!good && !bad)
            continue; /* found by fuzzing: either way is right */
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        assert_int_equal(qvl_file_read(&data, &size, path, 1 << 20, &err), 0);
        int rc = parse(data, size, &err);
        if ((rc == 0) != good || (bad && !err.msg[0]))
            fail_msg("%s: %d \"%s\"", path, rc, err.msg);
        qvl_mem_free(data);
        n_good += good;
        n_bad += bad;
    }
    closedir(d);
    assert_true(n_good >= 2 && n_bad >= 10);
}

static void safetensors(void **state)
{
    (void)state;
    check("fuzz_safetensors", parse_safetensors);
}

static void index_json(void **state)
{
    (void)state;
    check("fuzz_index", parse_index);
}

static void config_json(void **state)
{
    (void)state;
    check("fuzz_config", parse_config);
}

static void onnx(void **state)
{
    (void)state;
    check("fuzz_onnx", parse_onnx);
}

static void quantised(void **state)
{
    (void)state;
    check("fuzz_quantised", parse_quantised);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors),
        cmocka_unit_test(index_json),
        cmocka_unit_test(config_json),
        cmocka_unit_test(onnx),
        cmocka_unit_test(quantised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
