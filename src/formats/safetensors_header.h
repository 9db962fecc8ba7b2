/* safetensors_header.h - the JSON header of a safetensors file as a list of entries; nothing about the data behind it. */
#ifndef QVL_FORMATS_SAFETENSORS_HEADER_H
#define QVL_FORMATS_SAFETENSORS_HEADER_H

#include "formats/tensor_source.h"

#define QVL_ST_MAX_HEADER 100000000u /* bytes: the reference reader's limit */
#define QVL_ST_MAX_TENSORS (1u << 20)
#define QVL_ST_MAX_META (1u << 16)
#define QVL_ST_MAX_NAME 4096u

struct qvl_st_entry {
    const char *name, *dtype;
    int rank;
    int64_t shape[QVL_MAX_RANK];
    uint64_t begin, end; /* data_offsets: relative to the end of the header */
};

struct qvl_st_header {
    struct qvl_st_entry *list; /* in file order */
    size_t n, cap;
    struct qvl_tensor_meta *meta;
    size_t n_meta, cap_meta;
    char *strings; /* what the pointers above point into */
};

/* Strict: UTF-8, plain decimal integers, exactly the three fields in each entry, no name or field twice (two tensors
 * of one name are found by the caller, who sorts them). On failure nothing is left to free. */
int qvl_st_header_parse(struct qvl_st_header *h, const unsigned char *text, size_t len, const char *file, qvl_err *err);
void qvl_st_header_free(struct qvl_st_header *h);

#endif
