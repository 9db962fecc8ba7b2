/* gguf_parse.c - the bytes of one GGUF file -> metadata views and tensor views.
 *
 *   "GGUF" | u32 version | i64 n_tensors | i64 n_kv | n_kv x (string key, u32 type, value)
 *   | n_tensors x (string name, u32 rank, u64 ne[rank], u32 type, u64 offset) | padding | tensor data
 * A string is u64 length + bytes; a list is u32 element type, u64 count, elements. Counts are believed only as far as the
 * bytes behind them could hold them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/ggml_blocks.h"
#include "formats/gguf_file.h"
#include "formats/sniff.h"

enum {
    MAX_KV = 65536,          /* a healthy file has fewer than 100 */
    MAX_TENSORS = 65536,     /* the largest published model has about 1130 */
    MAX_KEY = 65535,
    MAX_NAME = 63,
    MAX_COUNT = 1 << 30,     /* bytes of a string, elements of a list */
    MAX_RANK = 4,
    MAX_ALIGNMENT = 1 << 20,
    DEFAULT_ALIGNMENT = 32,
    MIN_KV_BYTES = 8 + 1 + 4 + 1,
    MIN_INFO_BYTES = 8 + 1 + 4 + 4 + 8,
    VALUE_TEXT = 160         /* bytes of a value shown as text */
};

const struct qvl_gguf_type_row qvl_gguf_types[QVL_GGUF_N_TYPES] = {
    [QVL_GGUF_U8] = {"u8", 1},   [QVL_GGUF_I8] = {"i8", 1},   [QVL_GGUF_U16] = {"u16", 2},       [QVL_GGUF_I16] = {"i16", 2},
    [QVL_GGUF_U32] = {"u32", 4}, [QVL_GGUF_I32] = {"i32", 4}, [QVL_GGUF_F32] = {"f32", 4},       [QVL_GGUF_BOOL] = {"bool", 1},
    [QVL_GGUF_U64] = {"u64", 8}, [QVL_GGUF_I64] = {"i64", 8}, [QVL_GGUF_F64] = {"f64", 8},
    [QVL_GGUF_STRING] = {"string", 0}, [QVL_GGUF_ARRAY] = {"array", 0},
};

struct cursor {
    const unsigned char *p;
    size_t n, at;
    const char *file;
    qvl_err *err;
};

/* `what` says what was being read, for the message. */
static int take(struct cursor *c, size_t n, const unsigned char **out, const char *what)
{
    if (n > c->n - c->at)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: cut short at byte %zu: %s needs %zu bytes, there are %zu", c->file, c->at,
                        what, n, c->n - c->at);
    *out = c->p + c->at;
    c->at += n;
    return 0;
}

static int take_uint(struct cursor *c, unsigned bytes, uint64_t *out, const char *what)
{
    const unsigned char *p = NULL;
    QVL_TRY(take(c, bytes, &p, what));
    *out = 0;
    for (unsigned i = bytes; i-- > 0;)
        *out = *out << 8 | p[i];
    return 0;
}

static int take_u32(struct cursor *c, uint32_t *out, const char *what)
{
    uint64_t v;
    QVL_TRY(take_uint(c, 4, &v, what));
    *out = (uint32_t)v;
    return 0;
}

static int take_string(struct cursor *c, const unsigned char **s, size_t *len, const char *what)
{
    uint64_t n;
    QVL_TRY(take_uint(c, 8, &n, what));
    if (n > MAX_COUNT)
        return qvl_fail(c->err, QVL_E_LIMIT, "%s: %s: found a string of %" PRIu64 " bytes, the limit is %d", c->file, what,
                        n, MAX_COUNT);
    QVL_TRY(take(c, (size_t)n, s, what));
    *len = (size_t)n;
    return 0;
}

static int header(struct cursor *c, size_t *n_tensors, size_t *n_kv)
{
    const unsigned char *magic;
    uint32_t version;
    uint64_t nt, nk;
    if (c->n < 4 || memcmp(c->p, "GGUF", 4) != 0)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: not a GGUF file%s", c->file, qvl_sniff(c->p, c->n));
    QVL_TRY(take(c, 4, &magic, "the header"));
    QVL_TRY(take_u32(c, &version, "the header"));
    if (version && (version & 0xffff) == 0)
        return qvl_fail(c->err, QVL_E_UNSUPPORTED, "%s: a big-endian GGUF file is not supported", c->file);
    if (version != 2 && version != 3)
        return qvl_fail(c->err, QVL_E_UNSUPPORTED, "%s: GGUF version: found %" PRIu32 ", expected 2 or 3", c->file, version);
    QVL_TRY(take_uint(c, 8, &nt, "the header"));
    QVL_TRY(take_uint(c, 8, &nk, "the header"));
    if (nt > MAX_TENSORS)
        return qvl_fail(c->err, QVL_E_LIMIT, "%s: number of tensors: found %" PRId64 ", the limit is %d", c->file,
                        (int64_t)nt, MAX_TENSORS);
    if (nk > MAX_KV)
        return qvl_fail(c->err, QVL_E_LIMIT, "%s: number of keys: found %" PRId64 ", the limit is %d", c->file, (int64_t)nk,
                        MAX_KV);
    if (nk * MIN_KV_BYTES + nt * MIN_INFO_BYTES > c->n - c->at)
        return qvl_fail(c->err, QVL_E_FORMAT,
                        "%s: cut short: %" PRIu64 " keys and %" PRIu64 " tensors do not fit into %zu bytes", c->file, nk, nt,
                        c->n);
    *n_tensors = (size_t)nt;
    *n_kv = (size_t)nk;
    return 0;
}

/* ---------------------------------------------------------------- metadata */

/* A key or a tensor's name, as the file's strings will hold it. */
static int take_name(struct cursor *c, size_t max, const unsigned char **s, size_t *len, const char *what)
{
    QVL_TRY(take_string(c, s, len, what));
    if (!*len || *len > max)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: %s: found %zu bytes, allowed are 1 to %zu", c->file, what, *len, max);
    if (memchr(*s, 0, *len))
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: %s: found a NUL byte in \"%.64s\"", c->file, what, (const char *)*s);
    return 0;
}

static int take_list(struct cursor *c, struct qvl_gguf_value *v, const char *what)
{
    uint32_t type;
    uint64_t count;
    QVL_TRY(take_u32(c, &type, what));
    QVL_TRY(take_uint(c, 8, &count, what));
    if (type == QVL_GGUF_ARRAY || type >= QVL_GGUF_N_TYPES)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: %s: found a list of elements of type %" PRIu32 " (%s)", c->file, what, type,
                        type == QVL_GGUF_ARRAY ? "lists of lists are not supported" : "unknown");
    unsigned width = qvl_gguf_types[type].bytes;
    if (count > MAX_COUNT)
        return qvl_fail(c->err, QVL_E_LIMIT, "%s: %s: found a list of %" PRIu64 " elements, the limit is %d", c->file, what,
                        count, MAX_COUNT);
    v->type = (enum qvl_gguf_type)type;
    v->is_list = 1;
    v->count = (size_t)count;
    if (width) {
        v->bytes = v->count * width;
        return take(c, v->bytes, &v->data, what);
    }
    v->data = c->p + c->at;
    for (size_t i = 0; i < v->count; i++) {
        const unsigned char *s;
        size_t len;
        QVL_TRY(take_string(c, &s, &len, what));
    }
    v->bytes = (size_t)(c->p + c->at - v->data);
    return 0;
}

/* The key goes to *strings, which moves on. */
static int take_pair(struct cursor *c, struct qvl_gguf_value *v, char **strings)
{
    const unsigned char *key;
    size_t len;
    uint32_t type;
    *v = (struct qvl_gguf_value){0};
    QVL_TRY(take_name(c, MAX_KEY, &key, &len, "a key"));
    memcpy(*strings, key, len);
    v->key = *strings;
    *strings += len + 1;
    QVL_TRY(take_u32(c, &type, v->key));
    if (type >= QVL_GGUF_N_TYPES)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: %s: found type %" PRIu32 ", known are 0 to %d", c->file, v->key, type,
                        QVL_GGUF_N_TYPES - 1);
    if (type == QVL_GGUF_ARRAY)
        return take_list(c, v, v->key);
    v->type = (enum qvl_gguf_type)type;
    v->count = 1;
    if (type == QVL_GGUF_STRING)
        return take_string(c, &v->data, &v->bytes, v->key);
    v->bytes = qvl_gguf_types[type].bytes;
    return take(c, v->bytes, &v->data, v->key);
}

static int by_key(const void *a, const void *b)
{
    const struct qvl_gguf_value *x = a, *y = b;
    return strcmp(x->key, y->key);
}

static int check_keys(struct cursor *c, struct qvl_gguf_value *kv, size_t n)
{
    if (n)
        qsort(kv, n, sizeof *kv, by_key);
    for (size_t i = 1; i < n; i++)
        if (strcmp(kv[i - 1].key, kv[i].key) == 0)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: %s: found twice", c->file, kv[i].key);
    return 0;
}

static int alignment(struct cursor *c, const struct qvl_gguf_value *kv, size_t n, size_t *out)
{
    *out = DEFAULT_ALIGNMENT;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *p = kv[i].data;
        if (strcmp(kv[i].key, "general.alignment") != 0)
            continue;
        if (kv[i].is_list || kv[i].type != QVL_GGUF_U32)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: general.alignment: found %s%s, expected u32", c->file,
                            kv[i].is_list ? "a list of " : "", qvl_gguf_types[kv[i].type].name);
        *out = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
        if (!*out || (*out & (*out - 1)) || *out > MAX_ALIGNMENT)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: general.alignment: found %zu, expected a power of two up to %d",
                            c->file, *out, MAX_ALIGNMENT);
    }
    return 0;
}

/* ---------------------------------------------------------------- tensors */

/* Type and size of a tensor whose shape stands. */
static int measure(struct cursor *c, struct qvl_tensor *t, uint32_t id)
{
    const struct qvl_ggml_type *type = qvl_ggml_type_by_id(id);
    size_t n = 1, row = t->rank ? (size_t)t->shape[t->rank - 1] : 1;
    if (!type) {
        const char *why = (id >= 4 && id <= 5) || (id >= 31 && id <= 38) ? "it was removed from the format"
                        : (id >= 97 && id <= 399) ? "a fork-specific type" : "unknown";
        return qvl_fail(c->err, QVL_E_UNSUPPORTED, "%s: tensor %s: type %" PRIu32 " is not supported (%s)", c->file, t->name,
                        id, why);
    }
    t->type = type->type;
    t->type_name = type->name;
    if (row % type->elems)
        return qvl_fail(c->err, QVL_E_FORMAT,
                        "%s: tensor %s: found rows of %zu elements, expected a multiple of %" PRIu32 " for %s", c->file,
                        t->name, row, type->elems, type->name);
    for (int i = 0; i < t->rank; i++)
        if (qvl_mul_size(&n, n, (size_t)t->shape[i]))
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: the number of elements overflows", c->file, t->name);
    if (qvl_mul_size(&t->bytes, n / type->elems, type->bytes))
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: the number of bytes overflows", c->file, t->name);
    return 0;
}

static int take_info(struct cursor *c, struct qvl_tensor *t, char **strings)
{
    const unsigned char *name;
    size_t len;
    uint32_t rank, id;
    *t = (struct qvl_tensor){.file = c->file};
    QVL_TRY(take_name(c, MAX_NAME, &name, &len, "a tensor's name"));
    memcpy(*strings, name, len);
    t->name = *strings;
    *strings += len + 1;
    QVL_TRY(take_u32(c, &rank, t->name));
    if (rank > MAX_RANK)
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: found %" PRIu32 " dimensions, at most %d are allowed", c->file,
                        t->name, rank, MAX_RANK);
    t->rank = (int)rank;
    for (int i = t->rank; i-- > 0;) { /* the fastest dimension comes first in the file */
        uint64_t ne;
        QVL_TRY(take_uint(c, 8, &ne, t->name));
        if (!ne || ne > INT64_MAX)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: found a dimension of %" PRId64, c->file, t->name, (int64_t)ne);
        t->shape[i] = (int64_t)ne;
    }
    QVL_TRY(take_u32(c, &id, t->name));
    QVL_TRY(take_uint(c, 8, &t->offset, t->name)); /* from the start of the data, until place() */
    return measure(c, t, id);
}

/* Tensors follow each other in the order of the list, each at a multiple of the alignment: every reader insists on it, and it
 * leaves neither holes nor overlaps. The last one's padding may be missing. */
static int place(struct cursor *c, struct qvl_tensor *list, size_t n, size_t align)
{
    size_t start, want = 0;
    if (qvl_add_size(&start, c->at, align - 1))
        return qvl_fail(c->err, QVL_E_FORMAT, "%s: the data offset overflows", c->file);
    start &= ~(align - 1);
    for (size_t i = 0; i < n; i++) {
        struct qvl_tensor *t = &list[i];
        size_t left;
        if (t->offset != want)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: found at offset %" PRIu64 ", expected %zu", c->file,
                            t->name, t->offset, want);
        left = start <= c->n && want <= c->n - start ? c->n - start - want : 0;
        if (t->bytes > left)
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: needs %zu bytes, %zu are left (the file is cut short?)",
                            c->file, t->name, t->bytes, left);
        t->offset = start + want;
        t->data = c->p + t->offset;
        want += t->bytes; /* inside the file; rounding up cannot overflow, either, or there is no next tensor */
        if (qvl_add_size(&want, want, align - 1))
            return qvl_fail(c->err, QVL_E_FORMAT, "%s: tensor %s: ends beyond any file", c->file, t->name);
        want &= ~(align - 1);
    }
    return 0;
}

/* ---------------------------------------------------------------- one file */

/* Values as text behind each other, for those who only list them. */
static int describe(struct qvl_tensor_file *f, const struct qvl_gguf_value *kv, size_t n, char *strings, qvl_err *err)
{
    f->meta = qvl_alloc(n, sizeof *f->meta);
    if (!f->meta)
        return qvl_fail_nomem(err, n * sizeof *f->meta, f->path);
    for (size_t i = 0; i < n; i++) {
        f->meta[i] = (struct qvl_tensor_meta){.key = kv[i].key, .value = strings};
        strings += qvl_gguf_value_text(&kv[i], strings, VALUE_TEXT) + 1;
    }
    f->n_meta = n;
    return 0;
}

/* Everything behind the header, once the names have found room. */
static int body(struct cursor *c, struct qvl_tensors *t, struct qvl_tensor_file *f, struct qvl_gguf_value *kv, size_t n_kv,
                size_t n_tensors)
{
    char *strings = f->strings;
    size_t align;
    for (size_t i = 0; i < n_kv; i++)
        QVL_TRY(take_pair(c, &kv[i], &strings));
    QVL_TRY(check_keys(c, kv, n_kv));
    QVL_TRY(alignment(c, kv, n_kv, &align));
    QVL_TRY(qvl_tensors_reserve(t, n_tensors, c->err));
    struct qvl_tensor *list = t->list ? t->list + t->n : NULL; /* NULL: a file without tensors */
    for (size_t i = 0; i < n_tensors; i++)
        QVL_TRY(take_info(c, &list[i], &strings));
    QVL_TRY(place(c, list, n_tensors, align));
    t->n += n_tensors;
    return describe(f, kv, n_kv, strings, c->err);
}

/* An upper limit of the bytes of names, keys and value texts: names are at most as long as in the file. */
static size_t names_bytes(const struct cursor *c, size_t n_kv, size_t n_tensors)
{
    size_t keys = n_kv * ((size_t)MAX_KEY + 1), rest = c->n - c->at;
    return (keys < rest ? keys : rest) + n_tensors * (MAX_NAME + 1) + n_kv * (VALUE_TEXT + 1);
}

int qvl_gguf_parse(struct qvl_tensors *t, struct qvl_tensor_file *f, struct qvl_gguf_value **kv, size_t *n_kv, qvl_err *err)
{
    struct cursor c = {.p = f->data, .n = f->size, .file = f->path, .err = err};
    size_t n_tensors = 0, bytes;
    *kv = NULL;
    *n_kv = 0;
    QVL_TRY(header(&c, &n_tensors, n_kv));
    bytes = names_bytes(&c, *n_kv, n_tensors);
    f->strings = qvl_calloc(bytes, 1);
    *kv = qvl_alloc(*n_kv, sizeof **kv);
    if (!f->strings || !*kv)
        return qvl_fail_nomem(err, bytes + *n_kv * sizeof **kv, f->path);
    return body(&c, t, f, *kv, *n_kv, n_tensors);
}
