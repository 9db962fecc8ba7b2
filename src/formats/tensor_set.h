/* tensor_set.h - the inside of struct qvl_tensors, for the readers of file formats only.
 *
 * A reader maps files, appends checked tensors, and calls qvl_tensors_index once. */
#ifndef QVL_FORMATS_TENSOR_SET_H
#define QVL_FORMATS_TENSOR_SET_H

#include "base/buf.h"
#include "base/file.h"
#include "formats/tensor_source.h"

struct qvl_tensor_file {
    char *path;
    struct qvl_map map;     /* closed with the set; for memory sources only `data` and `size` below count */
    const unsigned char *data;
    size_t size;
    char *strings;          /* names, type names and metadata of this file, NUL-terminated one after the other */
    struct qvl_tensor_meta *meta;
    size_t n_meta;
};

struct qvl_tensors {
    char *path;
    struct qvl_tensor_file *files;
    size_t n_files, cap_files;
    struct qvl_tensor *list; /* in file order */
    size_t n, cap;
    const struct qvl_tensor **by_name; /* [n], sorted; NULL until indexed */
    struct qvl_buf warnings;
};

/* An empty set; *out is NULL on failure. */
int qvl_tensors_new(struct qvl_tensors **out, const char *path, qvl_err *err);
/* Adds a file slot for path and returns it, NULL without memory. It is valid until the next call. */
struct qvl_tensor_file *qvl_tensors_add_file(struct qvl_tensors *t, const char *path);
/* Adds the files of another set (NULL: none) by name and size, for a set of views into what that one keeps open. */
int qvl_tensors_list_files(struct qvl_tensors *t, const struct qvl_tensors *from, qvl_err *err);
/* Makes room for n more tensors; appending them cannot fail afterwards. */
int qvl_tensors_reserve(struct qvl_tensors *t, size_t n, qvl_err *err);
/* Sorts by name; a name that occurs twice is an error. */
int qvl_tensors_index(struct qvl_tensors *t, qvl_err *err);
/* Adds a line to the warnings. Beyond a limit they are dropped. */
void qvl_tensors_warn(struct qvl_tensors *t, const char *fmt, ...) QVL_PRINTF(2, 3);

#endif
