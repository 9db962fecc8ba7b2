/* An ONNX model in memory, whose external files are the same bytes, as the decoder of a fixed small configuration. Whatever is
 * accepted must keep its promises: views inside the file, and every row of every matrix can be decoded. (unit/
 * test_format_corpus.c checks that the corpus files called bad-... are refused and the good-... ones are not.) */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/tensor_set.h"
#include "model/foreign.h"
#include "model/onnx_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
    if (!ok)
        abort();
}

/* Reads every byte, so that an address sanitizer sees it. */
static void touch(const struct qvl_tensor *t)
{
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < t->bytes && !t->aux; i++)
        sum = (unsigned char)(sum + ((const unsigned char *)t->data)[i]);
}

static void decode(const struct qvl_tensor *t)
{
    struct qvl_mat m = {.data = t->data, .type = t->type, .n_out = t->shape[0], .n_in = t->shape[1], .aux = t->aux};
    if (m.n_out * m.n_in > 1 << 20)
        return;
    float *row = malloc((size_t)m.n_in * sizeof *row);
    require(row != NULL);
    for (int64_t r = 0; r < m.n_out; r++)
        qvl_foreign_row(row, &m, r);
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_config c = {.text = {.n_layer = 1, .d_model = 32, .n_head = 2, .n_kv = 1, .d_head = 16, .d_ff = 48, .n_vocab = 8,
                                    .max_positions = 64, .rope_theta = 10000, .rope_section = {4, 2, 2}, .rope_factor = 1, .rms_eps = 1e-6,
                                    .tied = size % 2 == 0}};
    struct qvl_onnx_model m = {0};
    qvl_err err = {0};
    int rc = qvl_onnx_open_memory(&m.graph, data, size, data, size, "fuzz", &err);
    require((rc == 0) == (m.graph != NULL) && rc == err.code && (rc == 0 || err.msg[0] != 0));
    if (rc)
        return 0;
    const struct qvl_tensors *t = qvl_onnx_tensors(m.graph);
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        require(qvl_tensors_find(t, x->name) == x && x->rank >= 0 && x->rank <= QVL_MAX_RANK && (x->bytes == 0 || x->data));
        touch(x);
    }
    m.path = qvl_strdup("fuzz");
    rc = m.path ? qvl_onnx_model_collect(&m, &c, NULL, &err) : QVL_E_NOMEM;
    require(rc == err.code && (rc == 0 || err.msg[0] != 0));
    for (size_t i = 0; rc == 0 && i < qvl_tensors_count(m.tensors); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(m.tensors, i);
        require(qvl_dtype_is_nbits(x->type) == (x->aux != NULL));
        if (x->aux)
            decode(x);
        else if (!x->transposed)
            touch(x);
    }
    qvl_onnx_model_close(&m);
    return 0;
}
