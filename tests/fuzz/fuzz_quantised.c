/* A quantization_config on the first line, a safetensors file behind it: tensors of a quantised checkpoint for a fixed small
 * configuration with a dense and a sparse layer. Whatever is accepted must keep its promises: every row of every matrix can be
 * decoded, and packed where its codes can be kept. (unit/test_format_corpus.c checks that the corpus files called bad-... are
 * refused and the good-... ones are not.) */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "kernels/quant.h"
#include "model/convert_q4.h"
#include "model/convert_q8.h"
#include "model/foreign.h"
#include "model/quantised.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
    if (!ok)
        abort();
}

static void pack(const struct qvl_mat *m, enum qvl_dtype type)
{
    size_t bytes = qvl_quant_bytes(type, m->n_out, m->n_in);
    void *dst = malloc(bytes ? bytes : 1);
    require(dst && bytes);
    if (type == QVL_DT_Q4)
        qvl_convert_q4(dst, m, 0, m->n_out);
    else
        qvl_convert_q8(dst, m, 0, m->n_out);
    free(dst);
}

static void decode(const struct qvl_tensor *t)
{
    struct qvl_mat m = {.data = t->data, .type = t->type, .n_out = t->shape[0], .n_in = t->shape[1], .stride = t->shape[1], .aux = t->aux};
    float *row = malloc((size_t)m.n_in * sizeof *row);
    int exact;
    require(row != NULL && m.data != NULL && qvl_foreign_bytes(&m) == t->bytes);
    for (int64_t r = 0; r < m.n_out; r++)
        qvl_foreign_row(row, &m, r);
    free(row);
    if (qvl_convert_q4_can(&m, &exact))
        pack(&m, QVL_DT_Q4);
    if (qvl_convert_q8_can(&m, &exact))
        pack(&m, QVL_DT_Q8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t sparse[2] = {0, 1};
    struct qvl_config c = {.text = {.n_layer = 2, .d_model = 32, .n_head = 1, .n_kv = 1, .d_head = 32, .d_ff = 64, .n_vocab = 8, .n_expert = 2,
                                    .n_expert_used = 1, .d_ff_expert = 32, .is_sparse = sparse, .tied = 1},
                           .vision = {.depth = 1, .d_model = 8, .n_head = 1, .d_ff = 16, .d_out = 32, .patch = 2, .temporal_patch = 2,
                                      .merge = 2, .n_channel = 3, .n_pos_side = 2}};
    const uint8_t *line = memchr(data, '\n', size);
    struct qvl_tensors *source = NULL;
    struct qvl_quantised m;
    json_t *root = NULL;
    qvl_err err = {0};
    if (!line || qvl_json_parse(&root, (const char *)data, (size_t)(line - data), "fuzz", &err) != 0)
        return 0;
    int rc = qvl_quant_config_parse(&c.quant, root, "fuzz", "quantization_config", &err);
    require(rc == err.code && (rc == 0) == (err.msg[0] == 0) && (rc || c.quant.method));
    json_decref(root);
    size -= (size_t)(line + 1 - data);
    if (rc || qvl_safetensors_open_memory(&source, line + 1, size, "fuzz", &err) != 0)
        return 0;
    rc = qvl_quantised_open(&m, source, &c, &err);
    require(rc == err.code && (rc == 0 || err.msg[0] != 0) && (rc == 0) == (m.tensors != NULL));
    for (size_t i = 0; rc == 0 && i < qvl_tensors_count(m.tensors); i++) {
        const struct qvl_tensor *t = qvl_tensors_at(m.tensors, i);
        require((t->type == QVL_DT_CODED) == (t->aux != NULL));
        if (t->aux)
            decode(t);
    }
    qvl_quantised_close(&m);
    return 0;
}
