/* gguf.c - opening a GGUF file with all its shards.
 *
 * A split file is PREFIX-00001-of-00003.gguf and so on; each shard has a header, tensors and its own data. The first one holds
 * the model's metadata, the others only split.no (from 0), split.count and split.tensors.count. */
#include "formats/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/gguf_file.h"

#define MAX_SHARDS 1024

struct shard {
    int no, count, n_tensors; /* split.*; count <= 1: not split. n_tensors: of all shards */
};

void qvl_gguf_close(struct qvl_gguf **g)
{
    if (!g || !*g)
        return;
    qvl_tensors_close(&(*g)->tensors);
    qvl_mem_free((*g)->kv);
    qvl_mem_free(*g);
    *g = NULL;
}

const struct qvl_tensors *qvl_gguf_tensors(const struct qvl_gguf *g) { return g->tensors; }
const char *qvl_gguf_path(const struct qvl_gguf *g) { return g->tensors->n_files ? g->tensors->files[0].path : g->tensors->path; }

static int begin(struct qvl_gguf **out, const char *path, qvl_err *err)
{
    struct qvl_gguf *g = *out = qvl_calloc(1, sizeof *g);
    if (!g)
        return qvl_fail_nomem(err, sizeof *g, path);
    return qvl_tensors_new(&g->tensors, path, err);
}

/* Parses a file into the set. Its metadata becomes that of the whole when there is none yet; *s is what it says about its place. */
static int add(struct qvl_gguf *g, struct qvl_tensor_file *f, struct shard *s, qvl_err *err)
{
    struct qvl_gguf one = {.tensors = g->tensors};
    int rc = qvl_gguf_parse(g->tensors, f, &one.kv, &one.n_kv, err);
    if (rc == 0)
        rc = qvl_gguf_i32(&one, "split.count", 0, MAX_SHARDS, 0, &s->count, err);
    if (rc == 0)
        rc = qvl_gguf_i32(&one, "split.no", 0, MAX_SHARDS - 1, 0, &s->no, err);
    if (rc == 0)
        rc = qvl_gguf_i32(&one, "split.tensors.count", 0, INT32_MAX, -1, &s->n_tensors, err);
    if (rc == 0 && s->count > 1 && s->no >= s->count)
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: split.no: found %d, but split.count is %d", f->path, s->no, s->count);
    if (rc < 0 || g->kv) {
        qvl_mem_free(one.kv);
        return rc;
    }
    g->kv = one.kv;
    g->n_kv = one.n_kv;
    return 0;
}

static int add_path(struct qvl_gguf *g, const char *path, struct shard *s, qvl_err *err)
{
    struct qvl_tensor_file *f = qvl_tensors_add_file(g->tensors, path);
    if (!f)
        return qvl_fail_nomem(err, strlen(path), path);
    QVL_TRY(qvl_map_open(&f->map, path, err));
    f->data = f->map.data;
    f->size = f->map.size;
    return add(g, f, s, err);
}

/* The path of shard `no`, made from that of `s`, whose name must end as its numbers say. */
static int shard_path(char **out, const char *path, const struct shard *s, int no, qvl_err *err)
{
    char tail[40];
    size_t n = strlen(path);
    snprintf(tail, sizeof tail, "-%05d-of-%05d.gguf", s->no + 1, s->count);
    if (n <= strlen(tail) || strcmp(path + n - strlen(tail), tail) != 0)
        return qvl_fail(err, QVL_E_FORMAT,
                        "%s: is shard %d of %d, but its name does not end in %s, so the others cannot be found", path,
                        s->no + 1, s->count, tail);
    *out = qvl_strdup(path);
    if (!*out)
        return qvl_fail_nomem(err, n, path);
    snprintf(tail, sizeof tail, "-%05d-of-%05d.gguf", no + 1, s->count); /* the same length: counts have four digits at most */
    memcpy(*out + n - strlen(tail), tail, strlen(tail));
    return 0;
}

static int add_shards(struct qvl_gguf *g, const char *path, const struct shard *first, qvl_err *err)
{
    for (int i = 1; i < first->count; i++) {
        struct shard s;
        char *name;
        QVL_TRY(shard_path(&name, path, first, i, err));
        int rc = add_path(g, name, &s, err);
        if (rc == 0 && (s.no != i || s.count != first->count))
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: says it is shard %d of %d, expected %d of %d", name, s.no + 1, s.count,
                          i + 1, first->count);
        else if (rc == QVL_E_NOTFOUND)
            rc = qvl_fail(err, rc, "%s: the model is split into %d files, and this one is missing", name, first->count);
        qvl_mem_free(name);
        QVL_TRY(rc);
    }
    if (first->n_tensors >= 0 && (size_t)first->n_tensors != g->tensors->n)
        return qvl_fail(err, QVL_E_FORMAT, "%s: split.tensors.count: found %d, but the %d shards hold %zu tensors", path,
                        first->n_tensors, first->count, g->tensors->n);
    return 0;
}

static int open_path(struct qvl_gguf **out, const char *path, int alone, qvl_err *err)
{
    struct qvl_gguf *g = NULL;
    struct shard s = {0};
    char *first = NULL;
    int rc;
    *out = NULL;
    QVL_TRY_DONE(begin(&g, path, err));
    QVL_TRY_DONE(add_path(g, path, &s, err));
    if (!alone && s.count > 1 && s.no > 0) { /* begin again where the metadata is */
        QVL_TRY_DONE(shard_path(&first, path, &s, 0, err));
        qvl_gguf_close(&g);
        QVL_TRY_DONE(begin(&g, first, err));
        rc = add_path(g, first, &s, err);
        if (rc == QVL_E_NOTFOUND)
            rc = qvl_fail(err, rc, "%s: the first file of the split model is missing", first);
        else if (rc == 0 && s.no != 0)
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: says it is shard %d of %d, expected the first", first, s.no + 1, s.count);
        if (rc < 0)
            goto done;
        path = first;
    }
    if (!alone && s.count > 1)
        QVL_TRY_DONE(add_shards(g, path, &s, err));
    QVL_TRY_DONE(qvl_tensors_index(g->tensors, err));
    *out = g;
    g = NULL;
done:
    qvl_mem_free(first);
    qvl_gguf_close(&g);
    return rc;
}

int qvl_gguf_open(struct qvl_gguf **out, const char *path, qvl_err *err) { return open_path(out, path, 0, err); }
int qvl_gguf_open_alone(struct qvl_gguf **out, const char *path, qvl_err *err) { return open_path(out, path, 1, err); }

int qvl_gguf_open_memory(struct qvl_gguf **out, const void *data, size_t size, const char *what, qvl_err *err)
{
    struct qvl_gguf *g = NULL;
    struct qvl_tensor_file *f;
    struct shard s;
    int rc;
    *out = NULL;
    QVL_TRY_DONE(begin(&g, what, err));
    f = qvl_tensors_add_file(g->tensors, what);
    if (!f) {
        rc = qvl_fail_nomem(err, strlen(what), what);
        goto done;
    }
    f->data = data;
    f->size = size;
    QVL_TRY_DONE(add(g, f, &s, err));
    QVL_TRY_DONE(qvl_tensors_index(g->tensors, err));
    *out = g;
    g = NULL;
done:
    qvl_gguf_close(&g);
    return rc;
}

int qvl_gguf_is(const char *path)
{
    char magic[4];
    FILE *f = qvl_file_exists(path) ? fopen(path, "rb") : NULL;
    if (!f)
        return 0;
    int is = fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4) == 0;
    fclose(f);
    return is;
}
