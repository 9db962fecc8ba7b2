/* gguf_file.h - one GGUF file inside the reader: gguf_parse.c fills it, gguf.c joins shards, gguf_meta.c reads values. */
#ifndef QVL_FORMATS_GGUF_FILE_H
#define QVL_FORMATS_GGUF_FILE_H

#include "formats/gguf.h"
#include "formats/tensor_set.h"

enum qvl_gguf_type {
    QVL_GGUF_U8, QVL_GGUF_I8, QVL_GGUF_U16, QVL_GGUF_I16, QVL_GGUF_U32, QVL_GGUF_I32, QVL_GGUF_F32, QVL_GGUF_BOOL,
    QVL_GGUF_STRING, QVL_GGUF_ARRAY, QVL_GGUF_U64, QVL_GGUF_I64, QVL_GGUF_F64,
    QVL_GGUF_N_TYPES
};

struct qvl_gguf_value {
    const char *key;           /* in the strings of the file */
    enum qvl_gguf_type type;   /* of the element for lists */
    int is_list;
    size_t count;              /* elements; 1 when it is no list */
    const unsigned char *data; /* first byte of the (first) value; of a string itself: behind its length */
    size_t bytes;              /* of all elements; of a string: its length */
};

struct qvl_gguf {
    struct qvl_tensors *tensors;
    struct qvl_gguf_value *kv; /* [n_kv] of the first shard, sorted by key */
    size_t n_kv;
};

extern const struct qvl_gguf_type_row {
    const char *name;
    unsigned bytes; /* 0: strings and lists */
} qvl_gguf_types[QVL_GGUF_N_TYPES];

/* Checks the bytes of f (a file of t), appends its tensors to t, and hands out its metadata, sorted (freed by the caller,
 * also when it fails). */
int qvl_gguf_parse(struct qvl_tensors *t, struct qvl_tensor_file *f, struct qvl_gguf_value **kv, size_t *n_kv, qvl_err *err);
const struct qvl_gguf_value *qvl_gguf_find(const struct qvl_gguf *g, const char *key);
/* A value as text, cut with "..." where it does not fit; returns its length. */
size_t qvl_gguf_value_text(const struct qvl_gguf_value *v, char *buf, size_t size);

#endif
