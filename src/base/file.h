/* file.h - reading files whole or by mapping, and replacing files without half-written states. */
#ifndef QVL_BASE_FILE_H
#define QVL_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "qvl.h"

/* A read-only mapping of a whole regular file. The file must not be truncated while it is mapped. */
struct qvl_map {
    const unsigned char *data; /* NULL when size = 0 */
    size_t size;
};
int qvl_map_open(struct qvl_map *m, const char *path, qvl_err *err);
void qvl_map_close(struct qvl_map *m);
/* Gives the memory of n bytes at p back to the system; they are read from the file again when they are needed. Returns 0 and
 * does nothing when they do not lie in the mapping. */
int qvl_map_release(const struct qvl_map *m, const void *p, size_t n);

/* Reads a regular file of at most max bytes; *data is NUL-terminated (the NUL is not counted) and freed by
 * qvl_mem_free. A path of "-" reads standard input. */
int qvl_file_read(char **data, size_t *len, const char *path, size_t max, qvl_err *err);
/* 1 if path names an existing regular file / folder. */
int qvl_file_exists(const char *path);
int qvl_dir_exists(const char *path);
/* dir + "/" + name (name alone when it is absolute or dir is NULL or empty); from qvl_alloc. NULL: no memory. */
char *qvl_path_join(const char *dir, const char *name);
/* Last component, trailing slashes ignored; borrowed from path. */
const char *qvl_path_base(const char *path);

/* The folder of a path, "." when it names none; from qvl_alloc. NULL: no memory. */
char *qvl_path_dir(const char *path);

/* Writes to "path.tmp-PID-..." and renames on commit, so that readers see the old file or the whole new one. What exists
 * and is not a regular file is refused. */
struct qvl_out {
    int fd;
    char *path, *tmp;
    uint64_t written; /* bytes so far */
};
int qvl_out_open(struct qvl_out *o, const char *path, qvl_err *err);
int qvl_out_write(struct qvl_out *o, const void *data, size_t len, qvl_err *err);
/* Fails (QVL_E_IO, with the numbers) when the disk has fewer than `bytes` free. */
int qvl_out_need(const struct qvl_out *o, uint64_t bytes, qvl_err *err);
/* Syncs, closes and renames. */
int qvl_out_commit(struct qvl_out *o, qvl_err *err);
/* Closes and removes the temporary file if it was not committed; always safe. */
void qvl_out_close(struct qvl_out *o);

#endif
