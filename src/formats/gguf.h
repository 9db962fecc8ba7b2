/* gguf.h - GGUF files, versions 2 and 3: metadata by key, and tensors as a set of checked views.
 *
 * Everything is checked when a file is opened: counts and lengths against the bytes that are there, duplicate keys and
 * names, and each tensor's bytes against shape x type and place. Nothing here knows about a model. */
#ifndef QVL_FORMATS_GGUF_H
#define QVL_FORMATS_GGUF_H

#include "formats/tensor_source.h"

struct qvl_gguf; /* immutable after open, safe to read from several threads */

/* Maps a file. One shard of a split file stands for all of them: the metadata is the first shard's. Files must not be
 * shortened while they are mapped (see qvl_safetensors_open). */
int qvl_gguf_open(struct qvl_gguf **out, const char *path, qvl_err *err);
/* This file alone, even if it is one shard of several: for looking at what is in a folder. */
int qvl_gguf_open_alone(struct qvl_gguf **out, const char *path, qvl_err *err);
/* The same from memory (the bytes are borrowed): for tests and fuzzing. */
int qvl_gguf_open_memory(struct qvl_gguf **out, const void *data, size_t size, const char *what, qvl_err *err);
void qvl_gguf_close(struct qvl_gguf **g);

/* Shapes are row-major: a file's dimensions in reverse. Types without a decoder are QVL_DT_UNKNOWN with their name in
 * type_name. The set's metadata are all keys with their values as text, long ones shortened. */
const struct qvl_tensors *qvl_gguf_tensors(const struct qvl_gguf *g);
const char *qvl_gguf_path(const struct qvl_gguf *g); /* of the first shard */
/* 1 if the file begins like GGUF; 0 also when it cannot be read. */
int qvl_gguf_is(const char *path);

/* ---------------------------------------------------------------- metadata
 * An absent key gives the default; a key of another type, or a value outside the limits, is an error that names file and
 * key. Strings and lists are views into the file; strings may hold NULs and are not terminated. */

#define QVL_GGUF_REQUIRED INT64_MIN /* as a default: absence is an error */

struct qvl_gguf_text {
    const char *s; /* NULL when absent */
    size_t len;
};
/* Strings one after the other. */
struct qvl_gguf_list {
    const unsigned char *at, *end;
    size_t left; /* strings not read yet */
};

int qvl_gguf_has(const struct qvl_gguf *g, const char *key);
/* Any integer type; also a list of equal integers (values given by layer). */
int qvl_gguf_int(const struct qvl_gguf *g, const char *key, int64_t lo, int64_t hi, int64_t def, int64_t *out, qvl_err *err);
int qvl_gguf_i32(const struct qvl_gguf *g, const char *key, int lo, int hi, int64_t def, int *out, qvl_err *err);
/* f32 or f64, finite; absent: *out stays as it is. */
int qvl_gguf_real(const struct qvl_gguf *g, const char *key, double lo, double hi, double *out, qvl_err *err);
int qvl_gguf_bool(const struct qvl_gguf *g, const char *key, int def, int *out, qvl_err *err);
int qvl_gguf_string(const struct qvl_gguf *g, const char *key, struct qvl_gguf_text *out, qvl_err *err);
/* Lists of at most max elements; *n = -1 when absent. */
int qvl_gguf_ints(const struct qvl_gguf *g, const char *key, int lo, int hi, int max, int *out, int *n, qvl_err *err);
int qvl_gguf_reals(const struct qvl_gguf *g, const char *key, double lo, double hi, int max, float *out, int *n, qvl_err *err);
int qvl_gguf_bools(const struct qvl_gguf *g, const char *key, int max, uint8_t *out, int *n, qvl_err *err);
/* *list is empty and at is NULL when absent. */
int qvl_gguf_strings(const struct qvl_gguf *g, const char *key, struct qvl_gguf_list *list, qvl_err *err);
/* 1 and the next string, 0 behind the last one. */
int qvl_gguf_next(struct qvl_gguf_list *list, struct qvl_gguf_text *out);
/* "file: key: missing" */
int qvl_gguf_missing(const struct qvl_gguf *g, const char *key, qvl_err *err);
int qvl_gguf_text_is(struct qvl_gguf_text t, const char *s);

#endif
