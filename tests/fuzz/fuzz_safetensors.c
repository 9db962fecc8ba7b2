/* A safetensors file in memory. Whatever is accepted must keep its promises: every view inside the file, sizes that fit
 * the shape, and look-up by name that finds each tensor. (unit/test_format_corpus.c checks that the corpus files called
 * bad-... are refused and the good-... ones are not.) */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tensor_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_tensors *t = NULL;
    qvl_err err = {0};
    int rc = qvl_safetensors_open_memory(&t, data, size, "fuzz", &err);
    require((rc == 0) == (t != NULL) && rc == err.code);
    if (rc) {
        require(err.msg[0] != 0);
        return 0;
    }
    uint64_t sum = 0; /* every byte is touched, so that an address sanitizer sees them */
    uint64_t bytes = 0;
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        char text[256];
        require(qvl_tensors_find(t, x->name) == x);
        require(x->rank >= 0 && x->rank <= QVL_MAX_RANK);
        require(x->offset <= size && x->bytes <= size - x->offset);
        require(x->bytes == 0 || x->data == data + x->offset);
        bytes += x->bytes;
        uint64_t bits = qvl_dtype_bits(x->type);
        for (int k = 0; k < x->rank; k++)
            bits *= (uint64_t)x->shape[k];
        require(x->type == QVL_DT_UNKNOWN || bits == 8 * (uint64_t)x->bytes);
        for (size_t k = 0; k < x->bytes; k++)
            sum += ((const unsigned char *)x->data)[k];
        require(strlen(qvl_tensor_describe(x, text, sizeof text)) < sizeof text);
    }
    require(sum <= 255 * (uint64_t)size);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | data[i];
    require(bytes == size - 8 - n); /* no hole, no overlap */
    qvl_tensors_close(&t);
    return 0;
}
