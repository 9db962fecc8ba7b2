/* safetensors_write.c - tensors, in memory or made on the way → a safetensors file.
 *
 * The widest types come first, then names in byte order, so every tensor starts at a multiple of its own width; the
 * header is padded with spaces so that the data starts at a multiple of 8. With a larger alignment whole multiples of it
 * come in front of everything else. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "formats/safetensors_header.h"

/* A tensor with its place in the order. */
struct place {
    const struct qvl_tensor *t;
    int odd; /* not a multiple of the alignment */
};

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    unsigned wx = qvl_dtype_bits(x->t->type), wy = qvl_dtype_bits(y->t->type);
    if (x->odd != y->odd)
        return x->odd - y->odd;
    return wx != wy ? (wx < wy) - (wx > wy) : strcmp(x->t->name, y->t->name);
}

/* The caller's arguments: shape times type must be the number of bytes. */
static int check(const struct qvl_tensor *t, int streamed, const char *path, qvl_err *err)
{
    size_t bits = qvl_dtype_bits(t->type);
    char text[160];
    int bad = !bits || t->rank < 0 || t->rank > QVL_MAX_RANK;
    for (int i = 0; i < t->rank && !bad; i++)
        bad = t->shape[i] < 0 || (uint64_t)t->shape[i] > SIZE_MAX || qvl_mul_size(&bits, bits, (size_t)t->shape[i]);
    if (bad)
        return qvl_fail(err, QVL_E_ARG, "%s: tensor %s: its type or shape cannot be written", path, t->name);
    if (bits % 8 || bits / 8 != t->bytes || (t->bytes && !t->data && !streamed))
        return qvl_fail(err, QVL_E_ARG, "%s: tensor %s: found %zu bytes, expected %zu for %s", path, t->name, t->bytes, bits / 8,
                        qvl_tensor_describe(t, text, sizeof text));
    if (!strcmp(t->name, "__metadata__") || strlen(t->name) > QVL_ST_MAX_NAME)
        return qvl_fail(err, QVL_E_ARG, "%s: tensor %.64s: the name cannot be written", path, t->name);
    return 0;
}

static void put_meta(struct qvl_buf *b, const struct qvl_tensor_meta *meta, size_t n)
{
    qvl_buf_puts(b, "\"__metadata__\":{");
    for (size_t i = 0; i < n; i++) {
        if (i)
            qvl_buf_putc(b, ',');
        qvl_json_quote(b, meta[i].key, strlen(meta[i].key));
        qvl_buf_putc(b, ':');
        qvl_json_quote(b, meta[i].value, strlen(meta[i].value));
    }
    qvl_buf_putc(b, '}');
}

static void put_entry(struct qvl_buf *b, const struct qvl_tensor *t, uint64_t at)
{
    qvl_json_quote(b, t->name, strlen(t->name));
    qvl_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", qvl_dtype_name(t->type));
    for (int i = 0; i < t->rank; i++)
        qvl_buf_printf(b, "%s%" PRId64, i ? "," : "", t->shape[i]);
    qvl_buf_printf(b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t->bytes);
}

/* 8 bytes for the length, then the header with its padding. *total: bytes behind it. */
static int header(struct qvl_buf *b, uint64_t *total, const struct place *order, size_t n, const struct qvl_tensor_meta *meta,
                  size_t n_meta, size_t align, const char *path, qvl_err *err)
{
    uint64_t at = 0;
    qvl_buf_add(b, "\0\0\0\0\0\0\0\0", 8);
    qvl_buf_putc(b, '{');
    if (n_meta)
        put_meta(b, meta, n_meta);
    for (size_t i = 0; i < n; i++) {
        if (i || n_meta)
            qvl_buf_putc(b, ',');
        put_entry(b, order[i].t, at);
        if (order[i].t->bytes > (uint64_t)INT64_MAX - at)
            return qvl_fail(err, QVL_E_LIMIT, "%s: the tensors are too large for one file", path);
        at += order[i].t->bytes;
    }
    *total = at;
    qvl_buf_putc(b, '}');
    while (!b->failed && b->len % align)
        qvl_buf_putc(b, ' ');
    if (b->failed)
        return b->len > b->max / 2 ? qvl_fail(err, QVL_E_LIMIT, "%s: the header is above the limit of %u bytes", path,
                                              QVL_ST_MAX_HEADER)
                                   : qvl_fail_nomem(err, b->len * 2, "a safetensors header");
    for (unsigned i = 0; i < 8; i++)
        b->data[i] = (char)(unsigned char)((uint64_t)(b->len - 8) >> (8 * i) & 0xff);
    return 0;
}

/* Names and metadata may come from anywhere (file names, for one): what the reader would refuse is not written. */
static int can_be_read(const struct qvl_buf *b, const char *path, qvl_err *err)
{
    struct qvl_st_header h;
    int rc = qvl_st_header_parse(&h, (const unsigned char *)b->data + 8, b->len - 8, path, err);
    if (rc == QVL_E_NOMEM)
        return rc;
    if (rc)
        return qvl_fail(err, QVL_E_ARG, "%s: a name or a metadata text is not UTF-8", path);
    qvl_st_header_free(&h);
    return 0;
}

static int write_data(struct qvl_out *out, const struct qvl_tensor *t, qvl_tensor_put_fn put, void *ud, qvl_err *err)
{
    uint64_t before = out->written;
    if (t->data || !t->bytes)
        return qvl_out_write(out, t->data, t->bytes, err);
    QVL_TRY(put(ud, t, out, err));
    return QVL_NEVER(out->written - before != t->bytes)
               ? qvl_fail(err, QVL_E_STATE, "%s: tensor %s: wrote another number of bytes than its shape says", out->path, t->name)
               : 0;
}

/* The tensors in the order of the file. */
static int arrange(struct place *order, const struct qvl_tensor *tensors, size_t n, size_t align, int streamed, const char *path,
                   qvl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        QVL_TRY(check(&tensors[i], streamed, path, err));
        order[i] = (struct place){.t = &tensors[i], .odd = align > 8 && tensors[i].bytes % align != 0};
    }
    qsort(order, n, sizeof *order, by_place);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(order[i - 1].t->name, order[i].t->name))
            return qvl_fail(err, QVL_E_ARG, "%s: tensor %s: given twice", path, order[i].t->name);
    return 0;
}

int qvl_safetensors_write_streamed(const char *path, const struct qvl_tensor *tensors, size_t n, const struct qvl_tensor_meta *meta,
                                   size_t n_meta, size_t align, qvl_tensor_put_fn put, void *ud, qvl_err *err)
{
    struct place *order = qvl_alloc(n, sizeof *order);
    struct qvl_out out = {.fd = -1};
    struct qvl_buf b;
    uint64_t total = 0;
    int rc = 0;
    qvl_buf_init(&b, (size_t)QVL_ST_MAX_HEADER + 8);
    if (!order)
        return qvl_fail_nomem(err, n * sizeof *order, path);
    QVL_TRY_DONE(arrange(order, tensors, n, align, put != NULL, path, err));
    QVL_TRY_DONE(header(&b, &total, order, n, meta, n_meta, align, path, err));
    QVL_TRY_DONE(can_be_read(&b, path, err));
    QVL_TRY_DONE(qvl_out_open(&out, path, err));
    QVL_TRY_DONE(qvl_out_need(&out, b.len + total, err));
    QVL_TRY_DONE(qvl_out_write(&out, b.data, b.len, err));
    for (size_t i = 0; i < n; i++)
        QVL_TRY_DONE(write_data(&out, order[i].t, put, ud, err));
    rc = qvl_out_commit(&out, err);
done:
    qvl_out_close(&out);
    qvl_buf_free(&b);
    qvl_mem_free(order);
    return rc;
}

int qvl_safetensors_write(const char *path, const struct qvl_tensor *tensors, size_t n, const struct qvl_tensor_meta *meta,
                          size_t n_meta, qvl_err *err)
{
    return qvl_safetensors_write_streamed(path, tensors, n, meta, n_meta, 8, NULL, NULL, err);
}
