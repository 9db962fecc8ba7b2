/* safetensors_index.h - model.safetensors.index.json: which tensor is in which file of the folder. */
#ifndef QVL_FORMATS_SAFETENSORS_INDEX_H
#define QVL_FORMATS_SAFETENSORS_INDEX_H

#include "base/json.h"

struct qvl_st_index {
    json_t *root, *map;  /* map: {tensor: file}, borrowed from root */
    const char **shards; /* [n_shards] distinct file names, sorted; borrowed from root */
    size_t n_shards;
};

/* File names are plain names of the same folder; "total_size" is not looked at. On failure nothing is left to free. */
int qvl_st_index_parse(struct qvl_st_index *x, const char *text, size_t len, const char *what, qvl_err *err);
void qvl_st_index_free(struct qvl_st_index *x);

#endif
