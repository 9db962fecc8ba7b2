/* ggml_blocks.h - the tensor types of GGUF files: ids, sizes, and conversion from and to f32.
 *
 * A row is a whole number of blocks of consecutive elements. Decoding gives the bits that the gguf Python package gives;
 * any bytes are valid input (non-finite scales give non-finite values). */
#ifndef QVL_FORMATS_GGML_BLOCKS_H
#define QVL_FORMATS_GGML_BLOCKS_H

#include <stdint.h>

#include "base/dtype.h"

struct qvl_ggml_type {
    uint32_t id;         /* as files store it */
    const char *name;    /* "Q4_K" */
    enum qvl_dtype type; /* QVL_DT_UNKNOWN: the size is known, so files can be checked and listed, but there is no decoder */
    uint32_t elems, bytes; /* of one block */
    /* n is a multiple of elems; pointers may have any alignment on the side of the file. NULL where there is none. */
    void (*to_f32)(float *dst, const void *src, int64_t n);
    void (*from_f32)(void *dst, const float *src, int64_t n);
};

/* NULL for ids that are unknown, were removed, or belong to a fork. */
const struct qvl_ggml_type *qvl_ggml_type_by_id(uint32_t id);
/* NULL for types that GGUF files cannot hold. */
const struct qvl_ggml_type *qvl_ggml_type_of(enum qvl_dtype type);

#endif
