/* gguf_write.h - writing GGUF files, version 3: metadata and tensors are described first, then the bytes of the tensors are asked
 * for, some rows at a time. Nothing here knows about a model. */
#ifndef QVL_FORMATS_GGUF_WRITE_H
#define QVL_FORMATS_GGUF_WRITE_H

#include "base/buf.h"
#include "base/file.h"
#include "formats/ggml_blocks.h"

#define QVL_GGUF_MAX_NAME 63 /* bytes of a tensor's name */
#define QVL_GGUF_MAX_DIMS 4

struct qvl_gguf_entry {
    char name[QVL_GGUF_MAX_NAME + 1];
    const struct qvl_ggml_type *type;
    int rank;
    int64_t shape[QVL_GGUF_MAX_DIMS]; /* row-major; the file has it in reverse */
    int64_t n_row;                    /* all dimensions but the last */
    size_t row_bytes;
    uint64_t offset;                  /* behind the start of the data */
};

struct qvl_gguf_writer {
    struct qvl_buf meta; /* the keys as the file has them */
    uint64_t n_meta;
    struct qvl_gguf_entry *list; /* in file order */
    size_t n, cap;
    uint64_t bytes;      /* of the data so far, padding included */
};

/* An empty file; qvl_gguf_writer_free is due in any case. */
void qvl_gguf_writer_init(struct qvl_gguf_writer *w);
void qvl_gguf_writer_free(struct qvl_gguf_writer *w);

/* Metadata. A failed allocation is noticed by qvl_gguf_write. Keys are the caller's own and must differ. */
void qvl_gguf_put_u32(struct qvl_gguf_writer *w, const char *key, uint32_t v);
void qvl_gguf_put_i32(struct qvl_gguf_writer *w, const char *key, int32_t v);
void qvl_gguf_put_f32(struct qvl_gguf_writer *w, const char *key, float v);
void qvl_gguf_put_bool(struct qvl_gguf_writer *w, const char *key, int v);
void qvl_gguf_put_text(struct qvl_gguf_writer *w, const char *key, const char *s, size_t len);
void qvl_gguf_put_i32s(struct qvl_gguf_writer *w, const char *key, const int32_t *v, size_t n);
void qvl_gguf_put_f32s(struct qvl_gguf_writer *w, const char *key, const float *v, size_t n);
void qvl_gguf_put_bools(struct qvl_gguf_writer *w, const char *key, const uint8_t *v, size_t n);
/* A list of n strings, which must follow one by one. */
void qvl_gguf_put_texts(struct qvl_gguf_writer *w, const char *key, size_t n);
void qvl_gguf_put_next(struct qvl_gguf_writer *w, const char *s, size_t len);

/* Adds a tensor; rows must be whole blocks of its type. Its place in the list is w->n - 1. */
int qvl_gguf_put_tensor(struct qvl_gguf_writer *w, const char *name, enum qvl_dtype type, int rank, const int64_t *shape,
                        qvl_err *err);

/* Size of the whole file. */
uint64_t qvl_gguf_writer_bytes(const struct qvl_gguf_writer *w);
/* Writes rows [row, row + n) of tensor w->list[i] to dst, in the tensor's type. */
typedef int (*qvl_gguf_fill_fn)(void *ud, size_t i, int64_t row, int64_t n, void *dst, qvl_err *err);
/* Everything to an opened file, which the caller commits. */
int qvl_gguf_write(const struct qvl_gguf_writer *w, struct qvl_out *out, qvl_gguf_fill_fn fill, void *ud, qvl_err *err);

#endif
