/* tensor_source.h - a set of named, checked tensor views, whatever file format they come from.
 *
 * A source owns the mapped files; views borrow from it. Everything about a view is checked when the source is opened:
 * the bytes lie inside the file and their number equals shape x type. Nothing here knows about a model. */
#ifndef QVL_FORMATS_TENSOR_SOURCE_H
#define QVL_FORMATS_TENSOR_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "qvl.h"

#define QVL_MAX_RANK 8

struct qvl_tensor {
    const char *name;      /* as in the file; borrowed from the source */
    const void *data;      /* borrowed; any alignment; NULL for zero elements */
    size_t bytes;
    enum qvl_dtype type;
    const char *type_name; /* as in the file, also for types unknown to us */
    int rank;              /* 0 = scalar */
    int64_t shape[QVL_MAX_RANK];
    const char *file;      /* for messages: the path it was opened by; borrowed from the source */
    uint64_t offset;       /* of the first byte, from the start of that file */
    int64_t transposed;    /* 0, or: data is stored [shape[1]][transposed], and this is the matrix of the first shape[0] columns */
    const void *aux;       /* QVL_DT_NBITS...: the struct qvl_nbits that describes it, QVL_DT_CODED: the struct qvl_coded; borrowed from
                            * the source. Else NULL */
};

struct qvl_tensors; /* immutable after open, safe to read from several threads */

/* Opens a .safetensors file, or a folder: model.safetensors.index.json with its shards (when all of them exist), else
 * model.safetensors, else the only *.safetensors file in it. A folder without any is QVL_E_NOTFOUND.
 *
 * The files stay mapped: whoever shortens one meanwhile makes reading it a bus error, which is not handled. Replacing
 * a file by rename is harmless. */
int qvl_safetensors_open(struct qvl_tensors **out, const char *path, qvl_err *err);
/* The same, but shards that the index names may be missing as long as one is there: of a model of which only a half is wanted. */
int qvl_safetensors_open_some(struct qvl_tensors **out, const char *path, qvl_err *err);
/* The same from memory (the bytes are borrowed): for tests and fuzzing. `what` names the source in messages. */
int qvl_safetensors_open_memory(struct qvl_tensors **out, const void *data, size_t size, const char *what, qvl_err *err);
void qvl_tensors_close(struct qvl_tensors **t);
/* Gives the memory of bytes that lie in a file mapped by the set back to the system (qvl_map_release); others stay. */
void qvl_tensors_release(const struct qvl_tensors *t, const void *p, size_t n);

size_t qvl_tensors_count(const struct qvl_tensors *t);
const struct qvl_tensor *qvl_tensors_at(const struct qvl_tensors *t, size_t i); /* in file order */
/* NULL when there is none of that name. Logarithmic or better. */
const struct qvl_tensor *qvl_tensors_find(const struct qvl_tensors *t, const char *name);
/* Value of a __metadata__ entry (of the first file), or NULL. */
const char *qvl_tensors_meta(const struct qvl_tensors *t, const char *key);
/* The i-th of all __metadata__ entries of the first file, in file order; NULL behind the last one. */
const char *qvl_tensors_meta_at(const struct qvl_tensors *t, size_t i, const char **value);
/* The path (or `what`) it was opened by. */
const char *qvl_tensors_path(const struct qvl_tensors *t);
/* The i-th file with its size; NULL behind the last one. */
const char *qvl_tensors_file(const struct qvl_tensors *t, size_t i, uint64_t *bytes);
/* Total size of the mapped files. */
uint64_t qvl_tensors_bytes(const struct qvl_tensors *t);
/* Warnings that do not stop loading (tensors missing from the index ...), one a line; "" when none. */
const char *qvl_tensors_warnings(const struct qvl_tensors *t);

/* "[3,2,16] BF16" into buf; returns buf. */
const char *qvl_tensor_describe(const struct qvl_tensor *t, char *buf, size_t size);

/* Writes a safetensors file (formats.md: widest type first, then by name; metadata first; padded header) by way of a
 * temporary name. Entries may be given in any order. */
struct qvl_tensor_meta {
    const char *key, *value;
};
int qvl_safetensors_write(const char *path, const struct qvl_tensor *tensors, size_t n, const struct qvl_tensor_meta *meta,
                          size_t n_meta, qvl_err *err);
/* The same for tensors that are not in memory: where data is NULL, put writes t->bytes bytes with qvl_out_write when their turn
 * comes. The data begins at a multiple of `align`, a multiple of 8, and tensors of whole multiples of it come first, so that they
 * lie at such places, too. */
struct qvl_out;
typedef int (*qvl_tensor_put_fn)(void *ud, const struct qvl_tensor *t, struct qvl_out *out, qvl_err *err);
int qvl_safetensors_write_streamed(const char *path, const struct qvl_tensor *tensors, size_t n, const struct qvl_tensor_meta *meta,
                                   size_t n_meta, size_t align, qvl_tensor_put_fn put, void *ud, qvl_err *err);

#endif
