/* safetensors.c - one .safetensors file, mapped or in memory → checked tensor views.
 *
 *   u64 N (little-endian) | N bytes of JSON | data
 *
 * The checks run in a fixed order: size and length of the header, its text (safetensors_header.c), duplicate names,
 * each entry's bytes against shape x type, and at last that the entries cover the data without hole or overlap.
 * Folders of several files are the business of safetensors_folder.c. */
#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/safetensors_header.h"
#include "formats/sniff.h"
#include "formats/tensor_set.h"

/* Rule 1: N fits into the file and under the limit. */
static int header_length(const unsigned char *data, size_t size, const char *file, size_t *n, qvl_err *err)
{
    if (size < 8)
        return qvl_fail(err, QVL_E_FORMAT, "%s: found %zu bytes, a safetensors file has at least 8%s", file, size,
                        qvl_sniff(data, size));
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | data[i];
    if (v > size - 8)
        return qvl_fail(err, QVL_E_FORMAT, "%s: header length: found %" PRIu64 ", the file has %zu bytes%s", file, v, size,
                        qvl_sniff(data, size));
    if (v > QVL_ST_MAX_HEADER)
        return qvl_fail(err, QVL_E_LIMIT, "%s: header length: found %" PRIu64 ", the limit is %u%s", file, v, QVL_ST_MAX_HEADER,
                        qvl_sniff(data, size));
    if (v < 2)
        return qvl_fail(err, QVL_E_FORMAT, "%s: header length: found %" PRIu64 ", at least 2 expected%s", file, v,
                        qvl_sniff(data, size));
    if (data[8] != '{')
        return qvl_fail(err, QVL_E_FORMAT, "%s: header: found byte 0x%02x, expected '{'%s", file, data[8], qvl_sniff(data, size));
    *n = (size_t)v;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct qvl_st_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct qvl_st_entry *const *pa = a, *const *pb = b, *x = *pa, *y = *pb;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Rule 6 for one entry. A type we do not know has no width to check against; it is refused when it is needed. */
static int check_bytes(const struct qvl_st_entry *e, const char *file, qvl_err *err)
{
    size_t bits = 1;
    int overflow = 0;
    for (int i = 0; i < e->rank; i++)
        if ((uint64_t)e->shape[i] > SIZE_MAX || qvl_mul_size(&bits, bits, (size_t)e->shape[i]))
            overflow = 1; /* stays an error when a later dimension is 0, as in the reference reader */
    unsigned width = qvl_dtype_bits(qvl_dtype_from_name(e->dtype));
    if (width && qvl_mul_size(&bits, bits, width))
        overflow = 1;
    if (overflow)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: the number of elements overflows", file, e->name);
    if (e->end < e->begin)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: data_offsets are reversed: [%" PRIu64 ",%" PRIu64 "]", file, e->name,
                        e->begin, e->end);
    if (!width)
        return 0;
    if (bits % 8)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: %zu bits of %s are not whole bytes", file, e->name, bits, e->dtype);
    if (e->end - e->begin != bits / 8) {
        struct qvl_tensor t = {.type_name = e->dtype, .rank = e->rank};
        char text[160];
        memcpy(t.shape, e->shape, sizeof t.shape);
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: found %" PRIu64 " bytes, expected %zu for %s", file, e->name,
                        e->end - e->begin, bits / 8, qvl_tensor_describe(&t, text, sizeof text));
    }
    return 0;
}

/* Rules 4 (names), 6, 7 and 8. `order` has room for one pointer an entry. */
static int check_entries(const struct qvl_st_header *h, const struct qvl_st_entry **order, uint64_t data_size, const char *file,
                         qvl_err *err)
{
    for (size_t i = 0; i < h->n; i++)
        order[i] = &h->list[i];
    qsort(order, h->n, sizeof *order, by_name);
    for (size_t i = 1; i < h->n; i++)
        if (strcmp(order[i - 1]->name, order[i]->name) == 0)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: found twice", file, order[i]->name);
    for (size_t i = 0; i < h->n; i++)
        QVL_TRY(check_bytes(&h->list[i], file, err));
    qsort(order, h->n, sizeof *order, by_place);
    uint64_t at = 0;
    for (size_t i = 0; i < h->n; i++) {
        const struct qvl_st_entry *e = order[i];
        if (e->begin != at)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: begins at %" PRIu64 ", %" PRIu64 " expected (%s)", file, e->name,
                            e->begin, at, e->begin < at ? "it overlaps another tensor" : "there is a hole");
        at = e->end;
        if (at > data_size)
            return qvl_fail(err, QVL_E_FORMAT,
                            "%s: tensor %s: ends at %" PRIu64 ", but the data has %" PRIu64 " bytes (the file is cut short?)",
                            file, e->name, at, data_size);
    }
    if (at != data_size)
        return qvl_fail(err, QVL_E_FORMAT, "%s: the tensors end at %" PRIu64 ", but the data has %" PRIu64 " bytes", file, at,
                        data_size);
    return 0;
}

/* The metadata's keys; there are few, but a hostile file may have many. */
static int meta_by_key(const void *a, const void *b)
{
    const struct qvl_tensor_meta *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static int check_meta(const struct qvl_st_header *h, const char *file, qvl_err *err)
{
    int rc = 0;
    if (h->n_meta < 2)
        return 0;
    const struct qvl_tensor_meta **order = qvl_alloc(h->n_meta, sizeof *order);
    if (!order)
        return qvl_fail_nomem(err, h->n_meta * sizeof *order, file);
    for (size_t i = 0; i < h->n_meta; i++)
        order[i] = &h->meta[i];
    qsort(order, h->n_meta, sizeof *order, meta_by_key);
    for (size_t i = 1; i < h->n_meta && !rc; i++)
        if (strcmp(order[i - 1]->key, order[i]->key) == 0)
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: __metadata__: key %s found twice", file, order[i]->key);
    qvl_mem_free(order);
    return rc;
}

int qvl_st_add(struct qvl_tensors *t, struct qvl_tensor_file *f, qvl_err *err)
{
    struct qvl_st_header h = {0};
    const struct qvl_st_entry **order = NULL;
    size_t n = 0;
    int rc;
    QVL_TRY(header_length(f->data, f->size, f->path, &n, err));
    QVL_TRY(qvl_st_header_parse(&h, f->data + 8, n, f->path, err));
    QVL_TRY_DONE(check_meta(&h, f->path, err));
    order = qvl_alloc(h.n, sizeof *order);
    if (!order) {
        rc = qvl_fail_nomem(err, h.n * sizeof *order, f->path);
        goto done;
    }
    QVL_TRY_DONE(check_entries(&h, order, f->size - 8 - n, f->path, err));
    QVL_TRY_DONE(qvl_tensors_reserve(t, h.n, err));
    for (size_t i = 0; i < h.n; i++) {
        const struct qvl_st_entry *e = &h.list[i];
        struct qvl_tensor *d = &t->list[t->n++];
        *d = (struct qvl_tensor){.name = e->name, .bytes = (size_t)(e->end - e->begin), .type = qvl_dtype_from_name(e->dtype),
                                 .type_name = e->dtype, .rank = e->rank, .file = f->path, .offset = 8 + n + e->begin};
        memcpy(d->shape, e->shape, sizeof d->shape);
        d->data = d->bytes ? f->data + d->offset : NULL;
    }
    f->strings = h.strings; /* the views point into them */
    f->meta = h.meta;
    f->n_meta = h.n_meta;
    h.strings = NULL;
    h.meta = NULL;
done:
    qvl_mem_free(order);
    qvl_st_header_free(&h);
    return rc;
}

int qvl_st_add_path(struct qvl_tensors *t, const char *path, qvl_err *err)
{
    struct qvl_tensor_file *f = qvl_tensors_add_file(t, path);
    if (!f)
        return qvl_fail_nomem(err, strlen(path), path);
    QVL_TRY(qvl_map_open(&f->map, path, err));
    f->data = f->map.data;
    f->size = f->map.size;
    return qvl_st_add(t, f, err);
}

int qvl_safetensors_open_memory(struct qvl_tensors **out, const void *data, size_t size, const char *what, qvl_err *err)
{
    struct qvl_tensors *t = NULL;
    struct qvl_tensor_file *f;
    int rc;
    *out = NULL;
    QVL_TRY_DONE(qvl_tensors_new(&t, what, err));
    f = qvl_tensors_add_file(t, what);
    if (!f) {
        rc = qvl_fail_nomem(err, strlen(what), what);
        goto done;
    }
    f->data = data;
    f->size = size;
    QVL_TRY_DONE(qvl_st_add(t, f, err));
    QVL_TRY_DONE(qvl_tensors_index(t, err));
    *out = t;
    t = NULL;
done:
    qvl_tensors_close(&t);
    return rc;
}
