/* gguf_write.c - GGUF, version 3, little-endian:
 *
 *   "GGUF", u32 3, u64 tensors, u64 keys | key, type, value ... | name, dimensions, type, offset ... | padding | data
 *
 * Tensors begin at multiples of 32 bytes, in the order in which they were described. */
#include "formats/gguf_write.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/gguf_file.h"

enum { ALIGNMENT = 32, CHUNK = 8 << 20, VERSION = 3 };
#define MAX_META ((size_t)1 << 30)

void qvl_gguf_writer_init(struct qvl_gguf_writer *w)
{
    *w = (struct qvl_gguf_writer){0};
    qvl_buf_init(&w->meta, MAX_META);
}

void qvl_gguf_writer_free(struct qvl_gguf_writer *w)
{
    qvl_buf_free(&w->meta);
    qvl_mem_free(w->list);
    *w = (struct qvl_gguf_writer){0};
}

/* ---------------------------------------------------------------- numbers and strings */

static void put_number(struct qvl_buf *b, uint64_t v, int bytes)
{
    char le[8];
    for (int i = 0; i < bytes; i++)
        le[i] = (char)(unsigned char)(v >> (8 * i) & 0xff);
    qvl_buf_add(b, le, (size_t)bytes);
}

static uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static void put_string(struct qvl_buf *b, const char *s, size_t len)
{
    put_number(b, len, 8);
    qvl_buf_add(b, s, len);
}

static struct qvl_buf *put_key(struct qvl_gguf_writer *w, const char *key, enum qvl_gguf_type type)
{
    w->n_meta++;
    put_string(&w->meta, key, strlen(key));
    put_number(&w->meta, type, 4);
    return &w->meta;
}

static struct qvl_buf *put_list(struct qvl_gguf_writer *w, const char *key, enum qvl_gguf_type type, size_t n)
{
    struct qvl_buf *b = put_key(w, key, QVL_GGUF_ARRAY);
    put_number(b, type, 4);
    put_number(b, n, 8);
    return b;
}

void qvl_gguf_put_u32(struct qvl_gguf_writer *w, const char *key, uint32_t v) { put_number(put_key(w, key, QVL_GGUF_U32), v, 4); }

void qvl_gguf_put_i32(struct qvl_gguf_writer *w, const char *key, int32_t v)
{
    put_number(put_key(w, key, QVL_GGUF_I32), (uint32_t)v, 4);
}

void qvl_gguf_put_f32(struct qvl_gguf_writer *w, const char *key, float v)
{
    put_number(put_key(w, key, QVL_GGUF_F32), bits_of(v), 4);
}

void qvl_gguf_put_bool(struct qvl_gguf_writer *w, const char *key, int v) { put_number(put_key(w, key, QVL_GGUF_BOOL), v != 0, 1); }

void qvl_gguf_put_text(struct qvl_gguf_writer *w, const char *key, const char *s, size_t len)
{
    put_string(put_key(w, key, QVL_GGUF_STRING), s, len);
}

void qvl_gguf_put_i32s(struct qvl_gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    struct qvl_buf *b = put_list(w, key, QVL_GGUF_I32, n);
    for (size_t i = 0; i < n; i++)
        put_number(b, (uint32_t)v[i], 4);
}

void qvl_gguf_put_f32s(struct qvl_gguf_writer *w, const char *key, const float *v, size_t n)
{
    struct qvl_buf *b = put_list(w, key, QVL_GGUF_F32, n);
    for (size_t i = 0; i < n; i++)
        put_number(b, bits_of(v[i]), 4);
}

void qvl_gguf_put_bools(struct qvl_gguf_writer *w, const char *key, const uint8_t *v, size_t n)
{
    struct qvl_buf *b = put_list(w, key, QVL_GGUF_BOOL, n);
    for (size_t i = 0; i < n; i++)
        put_number(b, v[i] != 0, 1);
}

void qvl_gguf_put_texts(struct qvl_gguf_writer *w, const char *key, size_t n) { put_list(w, key, QVL_GGUF_STRING, n); }

void qvl_gguf_put_next(struct qvl_gguf_writer *w, const char *s, size_t len) { put_string(&w->meta, s, len); }

/* ---------------------------------------------------------------- tensors */

static int wrong(const char *name, const char *what, qvl_err *err)
{
    return qvl_fail(err, QVL_E_ARG, "tensor %.80s: %s", name, what);
}

/* Rows and bytes; everything multiplied with checks. */
static int measure(struct qvl_gguf_entry *e, uint64_t *bytes, qvl_err *err)
{
    size_t n = 1, size;
    int64_t width = e->shape[e->rank - 1];
    for (int i = 0; i < e->rank; i++)
        if (e->shape[i] < 1)
            return wrong(e->name, "a dimension below 1", err);
    if (width % e->type->elems)
        return wrong(e->name, "rows are no whole blocks", err);
    for (int i = 0; i + 1 < e->rank; i++)
        if (qvl_mul_size(&n, n, (size_t)e->shape[i]))
            return wrong(e->name, "too large", err);
    if (qvl_mul_size(&e->row_bytes, (size_t)width / e->type->elems, e->type->bytes) || qvl_mul_size(&size, n, e->row_bytes) ||
        n > INT64_MAX || size > (size_t)INT64_MAX - ALIGNMENT)
        return wrong(e->name, "too large", err);
    e->n_row = (int64_t)n;
    *bytes = qvl_round_up(size, ALIGNMENT);
    return 0;
}

int qvl_gguf_put_tensor(struct qvl_gguf_writer *w, const char *name, enum qvl_dtype type, int rank, const int64_t *shape,
                        qvl_err *err)
{
    struct qvl_gguf_entry e = {.type = qvl_ggml_type_of(type), .rank = rank, .offset = w->bytes};
    uint64_t bytes = 0;
    if (strlen(name) > QVL_GGUF_MAX_NAME || rank < 1 || rank > QVL_GGUF_MAX_DIMS)
        return wrong(name, "the file format has no place for it", err);
    snprintf(e.name, sizeof e.name, "%s", name);
    if (!e.type)
        return wrong(name, "the file format has no such type", err);
    memcpy(e.shape, shape, (size_t)rank * sizeof *shape);
    QVL_TRY(measure(&e, &bytes, err));
    if (bytes > (uint64_t)INT64_MAX - w->bytes)
        return wrong(name, "too large", err);
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        struct qvl_gguf_entry *p = qvl_realloc(w->list, w->n * sizeof *p, cap, sizeof *p);
        if (!p)
            return qvl_fail_nomem(err, cap * sizeof *p, "the list of tensors");
        w->list = p;
        w->cap = cap;
    }
    w->list[w->n++] = e;
    w->bytes += bytes;
    return 0;
}

/* Everything in front of the data, its padding included. */
static int head(const struct qvl_gguf_writer *w, struct qvl_buf *b, qvl_err *err)
{
    qvl_buf_add(b, "GGUF", 4);
    put_number(b, VERSION, 4);
    put_number(b, w->n, 8);
    put_number(b, w->n_meta, 8);
    if (w->meta.len)
        qvl_buf_add(b, w->meta.data, w->meta.len);
    for (size_t i = 0; i < w->n; i++) {
        const struct qvl_gguf_entry *e = &w->list[i];
        put_string(b, e->name, strlen(e->name));
        put_number(b, (uint64_t)e->rank, 4);
        for (int d = e->rank; d-- > 0;)
            put_number(b, (uint64_t)e->shape[d], 8);
        put_number(b, e->type->id, 4);
        put_number(b, e->offset, 8);
    }
    while (!b->failed && b->len % ALIGNMENT)
        qvl_buf_putc(b, 0);
    return b->failed || w->meta.failed ? qvl_fail_nomem(err, w->meta.len, "the metadata of a GGUF file") : 0;
}

uint64_t qvl_gguf_writer_bytes(const struct qvl_gguf_writer *w)
{
    uint64_t n = 24 + w->meta.len;
    for (size_t i = 0; i < w->n; i++)
        n += 8 + strlen(w->list[i].name) + 4 + 8 * (uint64_t)w->list[i].rank + 4 + 8;
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + w->bytes;
}

static int write_tensor(const struct qvl_gguf_writer *w, size_t i, struct qvl_out *out, void *room, size_t room_bytes,
                        qvl_gguf_fill_fn fill, void *ud, qvl_err *err)
{
    static const char zeros[ALIGNMENT];
    const struct qvl_gguf_entry *e = &w->list[i];
    int64_t step = (int64_t)(room_bytes / e->row_bytes);
    for (int64_t row = 0; row < e->n_row; row += step) {
        int64_t n = e->n_row - row < step ? e->n_row - row : step;
        QVL_TRY(fill(ud, i, row, n, room, err));
        QVL_TRY(qvl_out_write(out, room, (size_t)n * e->row_bytes, err));
    }
    size_t over = (size_t)e->n_row * e->row_bytes % ALIGNMENT;
    return over ? qvl_out_write(out, zeros, ALIGNMENT - over, err) : 0;
}

int qvl_gguf_write(const struct qvl_gguf_writer *w, struct qvl_out *out, qvl_gguf_fill_fn fill, void *ud, qvl_err *err)
{
    struct qvl_buf b;
    size_t room_bytes = CHUNK;
    for (size_t i = 0; i < w->n; i++)
        if (w->list[i].row_bytes > room_bytes)
            room_bytes = w->list[i].row_bytes;
    qvl_buf_init(&b, 2 * MAX_META);
    void *room = qvl_alloc(room_bytes, 1);
    int rc = room ? head(w, &b, err) : qvl_fail_nomem(err, room_bytes, "writing a GGUF file");
    if (rc == 0)
        rc = qvl_out_write(out, b.data, b.len, err);
    for (size_t i = 0; i < w->n && rc == 0; i++)
        rc = write_tensor(w, i, out, room, room_bytes, fill, ud, err);
    qvl_buf_free(&b);
    qvl_mem_free(room);
    return rc;
}
