/* tensor_set.c - the set of tensor views that every file format fills: storage, look-up by name, warnings. */
#include "formats/tensor_set.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define MAX_WARNING_BYTES (64u << 10)

int qvl_tensors_new(struct qvl_tensors **out, const char *path, qvl_err *err)
{
    struct qvl_tensors *t = qvl_calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return qvl_fail_nomem(err, sizeof *t, path);
    qvl_buf_init(&t->warnings, MAX_WARNING_BYTES);
    t->path = qvl_strdup(path);
    if (!t->path) {
        qvl_tensors_close(&t);
        return qvl_fail_nomem(err, strlen(path), path);
    }
    *out = t;
    return 0;
}

void qvl_tensors_close(struct qvl_tensors **tp)
{
    if (!tp || !*tp)
        return;
    struct qvl_tensors *t = *tp;
    for (size_t i = 0; i < t->n_files; i++) {
        struct qvl_tensor_file *f = &t->files[i];
        qvl_map_close(&f->map);
        qvl_mem_free(f->path);
        qvl_mem_free(f->strings);
        qvl_mem_free(f->meta);
    }
    qvl_mem_free(t->files);
    qvl_mem_free(t->list);
    qvl_mem_free(t->by_name);
    qvl_mem_free(t->path);
    qvl_buf_free(&t->warnings);
    qvl_mem_free(t);
    *tp = NULL;
}

void qvl_tensors_release(const struct qvl_tensors *t, const void *p, size_t n)
{
    for (size_t i = 0; t && i < t->n_files; i++)
        if (qvl_map_release(&t->files[i].map, p, n))
            return;
}

/* Room for one more, growing geometrically. Returns the new array, NULL without memory (then the old one stays). */
static void *grown(void *p, size_t *cap, size_t need, size_t size)
{
    size_t n = *cap ? *cap : 8;
    while (n < need)
        if (qvl_mul_size(&n, n, 2))
            return NULL;
    void *q = qvl_realloc(p, *cap * size, n, size);
    if (q)
        *cap = n;
    return q;
}

struct qvl_tensor_file *qvl_tensors_add_file(struct qvl_tensors *t, const char *path)
{
    if (t->n_files == t->cap_files) {
        struct qvl_tensor_file *q = grown(t->files, &t->cap_files, t->n_files + 1, sizeof *q);
        if (!q)
            return NULL;
        t->files = q;
    }
    struct qvl_tensor_file *f = &t->files[t->n_files];
    *f = (struct qvl_tensor_file){0};
    f->path = qvl_strdup(path);
    if (!f->path)
        return NULL;
    t->n_files++;
    return f;
}

int qvl_tensors_list_files(struct qvl_tensors *t, const struct qvl_tensors *from, qvl_err *err)
{
    const char *path;
    uint64_t bytes;
    for (size_t i = 0; from && (path = qvl_tensors_file(from, i, &bytes)) != NULL; i++) {
        struct qvl_tensor_file *f = qvl_tensors_add_file(t, path);
        if (!f)
            return qvl_fail_nomem(err, strlen(path), path);
        f->size = (size_t)bytes;
    }
    return 0;
}

int qvl_tensors_reserve(struct qvl_tensors *t, size_t n, qvl_err *err)
{
    size_t need;
    if (qvl_add_size(&need, t->n, n))
        return qvl_fail(err, QVL_E_LIMIT, "%s: too many tensors", t->path);
    if (need <= t->cap)
        return 0;
    struct qvl_tensor *q = grown(t->list, &t->cap, need, sizeof *q);
    if (!q)
        return qvl_fail_nomem(err, need, "the list of tensors");
    t->list = q;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct qvl_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

int qvl_tensors_index(struct qvl_tensors *t, qvl_err *err)
{
    qvl_mem_free(t->by_name);
    t->by_name = qvl_alloc(t->n, sizeof *t->by_name);
    if (!t->by_name)
        return qvl_fail_nomem(err, t->n * sizeof *t->by_name, "the index of tensors");
    for (size_t i = 0; i < t->n; i++)
        t->by_name[i] = &t->list[i];
    qsort(t->by_name, t->n, sizeof *t->by_name, by_name);
    for (size_t i = 1; i < t->n; i++) {
        const struct qvl_tensor *a = t->by_name[i - 1], *b = t->by_name[i];
        if (strcmp(a->name, b->name) != 0)
            continue;
        if (a->file == b->file)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: found twice", a->file, a->name);
        return qvl_fail(err, QVL_E_FORMAT, "tensor %s: found in %s and in %s", a->name, a->file, b->file);
    }
    return 0;
}

void qvl_tensors_warn(struct qvl_tensors *t, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    for (char *s = line; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
    size_t len = strlen(line);
    if (t->warnings.len + len + 2 > MAX_WARNING_BYTES)
        return;
    if (t->warnings.len)
        qvl_buf_putc(&t->warnings, '\n');
    qvl_buf_add(&t->warnings, line, len);
}

size_t qvl_tensors_count(const struct qvl_tensors *t) { return t->n; }

const struct qvl_tensor *qvl_tensors_at(const struct qvl_tensors *t, size_t i) { return i < t->n ? &t->list[i] : NULL; }

const struct qvl_tensor *qvl_tensors_find(const struct qvl_tensors *t, const char *name)
{
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(name, t->by_name[mid]->name);
        if (c == 0)
            return t->by_name[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const char *qvl_tensors_meta_at(const struct qvl_tensors *t, size_t i, const char **value)
{
    if (value)
        *value = NULL;
    if (!t->n_files || i >= t->files[0].n_meta)
        return NULL;
    if (value)
        *value = t->files[0].meta[i].value;
    return t->files[0].meta[i].key;
}

const char *qvl_tensors_meta(const struct qvl_tensors *t, const char *key)
{
    const char *k, *value;
    for (size_t i = 0; (k = qvl_tensors_meta_at(t, i, &value)) != NULL; i++)
        if (strcmp(k, key) == 0)
            return value;
    return NULL;
}

const char *qvl_tensors_path(const struct qvl_tensors *t) { return t->path; }

const char *qvl_tensors_file(const struct qvl_tensors *t, size_t i, uint64_t *bytes)
{
    if (bytes)
        *bytes = i < t->n_files ? t->files[i].size : 0;
    return i < t->n_files ? t->files[i].path : NULL;
}

uint64_t qvl_tensors_bytes(const struct qvl_tensors *t)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->n_files; i++)
        sum += t->files[i].size;
    return sum;
}

const char *qvl_tensors_warnings(const struct qvl_tensors *t) { return t->warnings.len ? t->warnings.data : ""; }

const char *qvl_tensor_describe(const struct qvl_tensor *t, char *buf, size_t size)
{
    size_t n = 0;
    if (!size)
        return buf;
    buf[0] = 0;
    for (int i = 0; i < t->rank && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%" PRId64, i ? "," : "[", t->shape[i]);
    if (n < size)
        snprintf(buf + n, size - n, "%s] %s", t->rank ? "" : "[", t->type_name ? t->type_name : qvl_dtype_name(t->type));
    return buf;
}
