/* onnx_tensor.c - TensorProto -> a checked view: of the model file, of an external file, or of a converted typed array. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/onnx_file.h"

enum {
    TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_FLOATS = 4, TENSOR_INT32S = 5, TENSOR_STRINGS = 6, TENSOR_INT64S = 7,
    TENSOR_RAW = 9, TENSOR_DOUBLES = 10, TENSOR_UINT64S = 11, TENSOR_EXTERNAL = 13, TENSOR_LOCATION = 14
};
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };

/* ONNX data types, by their numbers. `field`: where a typed array of it is kept. */
static const struct type_row {
    const char *name;
    enum qvl_dtype type;
    int field;
} types[] = {
    {"UNDEFINED", QVL_DT_UNKNOWN, 0},         {"FLOAT", QVL_DT_F32, TENSOR_FLOATS},      {"UINT8", QVL_DT_U8, TENSOR_INT32S},
    {"INT8", QVL_DT_I8, TENSOR_INT32S},       {"UINT16", QVL_DT_U16, TENSOR_INT32S},     {"INT16", QVL_DT_I16, TENSOR_INT32S},
    {"INT32", QVL_DT_I32, TENSOR_INT32S},     {"INT64", QVL_DT_I64, TENSOR_INT64S},      {"STRING", QVL_DT_UNKNOWN, 0},
    {"BOOL", QVL_DT_BOOL, TENSOR_INT32S},     {"FLOAT16", QVL_DT_F16, TENSOR_INT32S},    {"DOUBLE", QVL_DT_F64, TENSOR_DOUBLES},
    {"UINT32", QVL_DT_U32, TENSOR_UINT64S},   {"UINT64", QVL_DT_U64, TENSOR_UINT64S},    {"COMPLEX64", QVL_DT_C64, 0},
    {"COMPLEX128", QVL_DT_UNKNOWN, 0},        {"BFLOAT16", QVL_DT_BF16, TENSOR_INT32S},  {"FLOAT8E4M3FN", QVL_DT_F8_E4M3, TENSOR_INT32S},
    {"FLOAT8E4M3FNUZ", QVL_DT_F8_E4M3FNUZ, TENSOR_INT32S}, {"FLOAT8E5M2", QVL_DT_F8_E5M2, TENSOR_INT32S},
    {"FLOAT8E5M2FNUZ", QVL_DT_F8_E5M2FNUZ, TENSOR_INT32S}, {"UINT4", QVL_DT_U4, TENSOR_INT32S}, {"INT4", QVL_DT_I4, TENSOR_INT32S},
    {"FLOAT4E2M1", QVL_DT_F4, TENSOR_INT32S}, {"FLOAT8E8M0", QVL_DT_F8_E8M0, TENSOR_INT32S},
    {"UINT2", QVL_DT_UNKNOWN, 0},             {"INT2", QVL_DT_UNKNOWN, 0},
};

/* What the message says, before anything is believed. */
struct proto {
    struct qvl_tensor t;
    uint64_t data_type, data_location;
    const unsigned char *raw;
    size_t raw_size;
    int has_raw, typed;         /* typed: field number of the typed array, 0 = none */
    int n_external;             /* entries */
    struct qvl_pb_field location, offset, length;
};

static int is_key(const struct qvl_pb_field *f, const char *key)
{
    size_t n = strlen(key);
    return f->size == n && memcmp(f->data, key, n) == 0;
}

/* One entry of the external_data dictionary; unknown keys are ignored. */
static int read_entry(struct proto *p, const struct qvl_pb *m, const struct qvl_pb_field *field, qvl_err *err)
{
    struct qvl_pb in;
    struct qvl_pb_field f, key = {0}, value = {0}, *to = NULL;
    int rc;
    QVL_TRY(qvl_pb_enter(&in, m, field, err));
    while ((rc = qvl_pb_next(&in, &f, err)) > 0) {
        if (f.number != ENTRY_KEY && f.number != ENTRY_VALUE)
            continue;
        QVL_TRY(qvl_pb_expect(&in, &f, QVL_PB_BYTES, err));
        *(f.number == ENTRY_KEY ? &key : &value) = f;
    }
    QVL_TRY(rc);
    p->n_external++;
    if (is_key(&key, "location"))
        to = &p->location;
    else if (is_key(&key, "offset"))
        to = &p->offset;
    else if (is_key(&key, "length"))
        to = &p->length;
    if (!to)
        return 0;
    if (to->number)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: external_data: a key is given twice", p->t.file, p->t.name);
    *to = value;
    to->number = ENTRY_VALUE;
    return 0;
}

static int read_dims(struct proto *p, const struct qvl_pb *m, const struct qvl_pb_field *f, qvl_err *err)
{
    struct qvl_pb_values v;
    uint64_t dim;
    int rc;
    QVL_TRY(qvl_pb_values(&v, m, f, QVL_PB_VARINT, err));
    while ((rc = qvl_pb_value(&v, &dim, err)) > 0) {
        if (p->t.rank == QVL_MAX_RANK)
            return qvl_fail(err, QVL_E_LIMIT, "%s: tensor %s: more than %d dimensions", p->t.file, p->t.name, QVL_MAX_RANK);
        if (dim > INT64_MAX)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: negative dimension", p->t.file, p->t.name);
        p->t.shape[p->t.rank++] = (int64_t)dim;
    }
    return rc;
}

static int read_proto(struct proto *p, struct qvl_pb m, qvl_err *err)
{
    struct qvl_pb_field f;
    int rc;
    while ((rc = qvl_pb_next(&m, &f, err)) > 0) {
        switch (f.number) {
        case TENSOR_DIMS: QVL_TRY(read_dims(p, &m, &f, err)); break;
        case TENSOR_TYPE:
            QVL_TRY(qvl_pb_expect(&m, &f, QVL_PB_VARINT, err));
            p->data_type = f.value;
            break;
        case TENSOR_LOCATION:
            QVL_TRY(qvl_pb_expect(&m, &f, QVL_PB_VARINT, err));
            p->data_location = f.value;
            break;
        case TENSOR_RAW:
            QVL_TRY(qvl_pb_expect(&m, &f, QVL_PB_BYTES, err));
            p->raw = f.data;
            p->raw_size = f.size;
            p->has_raw = 1;
            break;
        case TENSOR_FLOATS: case TENSOR_INT32S: case TENSOR_INT64S: case TENSOR_DOUBLES: case TENSOR_UINT64S: case TENSOR_STRINGS:
            if (f.wire == QVL_PB_BYTES && f.size == 0)
                break; /* an empty packed array is no array */
            if (p->typed && p->typed != (int)f.number)
                return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: typed data of two types", p->t.file, p->t.name);
            p->typed = (int)f.number;
            break;
        case TENSOR_EXTERNAL: QVL_TRY(read_entry(p, &m, &f, err)); break;
        default: break;
        }
    }
    return rc;
}

/* Decimal digits alone, below 2^63. */
static int read_number(const struct proto *p, const struct qvl_pb_field *f, const char *key, uint64_t *out, qvl_err *err)
{
    uint64_t v = 0;
    int good = f->size > 0 && f->size <= 19;
    for (size_t i = 0; good && i < f->size; i++) {
        good = f->data[i] >= '0' && f->data[i] <= '9';
        v = v * 10 + (uint64_t)(f->data[i] - '0'); /* 19 digits fit */
    }
    if (!good || v > INT64_MAX)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: external_data: %s: found \"%.*s\", expected decimal digits", p->t.file,
                        p->t.name, key, f->size < 40 ? (int)f->size : 40, f->size ? (const char *)f->data : "");
    *out = v;
    return 0;
}

int qvl_onnx_plain_name(const char *name)
{
    if (!*name || *name == '.')
        return 0;
    for (const char *s = name; *s; s++)
        if (*s == '/' || *s == '\\' || *s == ':' || (unsigned char)*s < 0x20 || *s == 0x7f)
            return 0;
    return 1;
}

/* The external file of a location, mapped once. */
static int external_file(struct qvl_onnx *o, const char *name, struct qvl_tensor_file **out, qvl_err *err)
{
    char *path = qvl_path_join(o->folder, name);
    struct qvl_tensor_file *f = NULL;
    int rc = 0;
    if (!path)
        return qvl_fail_nomem(err, strlen(name), "file name");
    for (size_t i = 1; i < o->tensors->n_files && !f; i++)
        if (!strcmp(o->tensors->files[i].path, path))
            f = &o->tensors->files[i];
    if (!f) {
        f = qvl_tensors_add_file(o->tensors, path);
        if (!f)
            rc = qvl_fail_nomem(err, sizeof *f, "file");
        else if (o->folder && !(o->listed && !qvl_file_exists(path)))
            rc = qvl_map_open(&f->map, path, err);
        if (rc == 0) {
            f->data = o->folder ? f->map.data : o->external;
            f->size = o->folder ? f->map.size : o->external_size;
        }
    }
    qvl_mem_free(path);
    *out = f;
    return rc;
}

/* Where a tensor of an incomplete file would be. */
static int take_place(struct proto *p, const struct qvl_tensor_file *f, uint64_t offset, qvl_err *err)
{
    struct qvl_tensor *t = &p->t;
    if (offset > INT64_MAX / 2 || t->bytes > INT64_MAX / 2)
        return qvl_fail(err, QVL_E_LIMIT, "%s: tensor %s: external_data: too large", t->file, t->name);
    t->file = f->path;
    t->offset = offset;
    t->data = NULL;
    return 0;
}

static int take_external(struct qvl_onnx *o, struct proto *p, int known, qvl_err *err)
{
    struct qvl_tensor *t = &p->t;
    struct qvl_tensor_file *f = NULL;
    uint64_t offset = 0, length;
    char name[256];
    if (p->has_raw || p->typed)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: has external and inline data", t->file, t->name);
    if (!p->location.number)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: external_data: location is missing", t->file, t->name);
    size_t n = p->location.size;
    if (n && n < sizeof name)
        memcpy(name, p->location.data, n);
    name[n < sizeof name ? n : 0] = 0;
    if (strlen(name) != n || !qvl_onnx_plain_name(name))
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: external_data: location: found \"%s\", expected the name of a file in the folder",
                        t->file, t->name, name);
    if (p->offset.number)
        QVL_TRY(read_number(p, &p->offset, "offset", &offset, err));
    QVL_TRY(external_file(o, name, &f, err));
    if (o->listed && (offset > f->size || t->bytes > f->size - offset))
        return take_place(p, f, offset, err);
    if (offset > f->size)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: begins at byte %llu of %s, which has %zu bytes", t->file, t->name,
                        (unsigned long long)offset, f->path, f->size);
    length = f->size - offset;
    if (p->length.number)
        QVL_TRY(read_number(p, &p->length, "length", &length, err));
    else if (known && length > t->bytes)
        length = t->bytes; /* "to the end of the file": more may follow there */
    if (length > f->size - offset)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: %llu bytes from byte %llu of %s, which has %zu bytes", t->file, t->name,
                        (unsigned long long)length, (unsigned long long)offset, f->path, f->size);
    if (!known)
        t->bytes = (size_t)length;
    if (length != t->bytes)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: external_data: found %llu bytes, expected %zu", t->file, t->name,
                        (unsigned long long)length, t->bytes);
    t->file = f->path;
    t->offset = offset;
    t->data = t->bytes ? f->data + offset : NULL;
    return 0;
}

static int keep(struct qvl_onnx *o, void *p)
{
    if (o->n_owned == o->cap_owned) {
        size_t cap = o->cap_owned ? 2 * o->cap_owned : 16;
        void **q = qvl_realloc(o->owned, o->cap_owned * sizeof *q, cap, sizeof *q);
        if (!q)
            return -1;
        o->owned = q;
        o->cap_owned = cap;
    }
    o->owned[o->n_owned++] = p;
    return 0;
}

/* A typed array: one varint or fixed number an element (of 4-bit types: a byte). */
static int take_typed(struct qvl_onnx *o, struct proto *p, struct qvl_pb m, const struct type_row *row, qvl_err *err)
{
    struct qvl_tensor *t = &p->t;
    size_t width = qvl_dtype_bits(row->type) < 8 ? 1 : qvl_dtype_bits(row->type) / 8, at = 0;
    enum qvl_pb_wire wire = row->field == TENSOR_FLOATS ? QVL_PB_FIXED32 : row->field == TENSOR_DOUBLES ? QVL_PB_FIXED64 : QVL_PB_VARINT;
    struct qvl_pb_field f;
    int rc;
    if (p->typed != row->field)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: %s data in field %d", t->file, t->name, row->name, p->typed);
    if (t->bytes / width > (size_t)(m.end - m.at)) /* each element takes at least a byte of the message */
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: fewer values than its shape asks for", t->file, t->name);
    unsigned char *data = qvl_alloc(t->bytes, 1);
    if (!data || keep(o, data)) {
        qvl_mem_free(data);
        return qvl_fail_nomem(err, t->bytes, t->name);
    }
    while ((rc = qvl_pb_next(&m, &f, err)) > 0) {
        struct qvl_pb_values v;
        uint64_t value;
        if ((int)f.number != row->field)
            continue;
        QVL_TRY(qvl_pb_values(&v, &m, &f, wire, err));
        while ((rc = qvl_pb_value(&v, &value, err)) > 0) {
            if (at == t->bytes)
                return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: more values than its shape asks for", t->file, t->name);
            for (size_t i = 0; i < width; i++)
                data[at++] = (unsigned char)(value >> (8 * i));
        }
        QVL_TRY(rc);
    }
    QVL_TRY(rc);
    if (at != t->bytes)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: fewer values than its shape asks for", t->file, t->name);
    t->data = data;
    return 0;
}

/* Bytes from the shape; *known = 0 for types without a width. */
static int measure(struct proto *p, int *known, qvl_err *err)
{
    struct qvl_tensor *t = &p->t;
    size_t n = 1, bits = qvl_dtype_bits(t->type), odd;
    *known = bits != 0;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] == 0)
            n = 0;
    for (int i = 0; i < t->rank && n; i++)
        if (qvl_mul_size(&n, n, (size_t)t->shape[i]))
            return qvl_fail(err, QVL_E_LIMIT, "%s: tensor %s: the shape overflows", t->file, t->name);
    odd = n % 8 * bits;
    if (qvl_mul_size(&n, n / 8, bits) || qvl_add_size(&n, n, (odd + 7) / 8))
        return qvl_fail(err, QVL_E_LIMIT, "%s: tensor %s: the shape overflows", t->file, t->name);
    t->bytes = n;
    return 0;
}

int qvl_onnx_add_tensor(struct qvl_onnx *o, struct qvl_pb m, const char *name, qvl_err *err)
{
    struct proto p = {.t = {.name = name, .file = m.file, .type_name = "UNKNOWN"}};
    int known;
    QVL_TRY(read_proto(&p, m, err));
    const struct type_row *row = p.data_type < QVL_COUNT(types) ? &types[p.data_type] : NULL;
    if (row) {
        p.t.type = row->type;
        p.t.type_name = row->name;
    }
    QVL_TRY(measure(&p, &known, err));
    if (p.data_location > 1)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: data_location %llu", p.t.file, name, (unsigned long long)p.data_location);
    if (p.data_location == 1) {
        QVL_TRY(take_external(o, &p, known, err));
    } else if (p.has_raw) {
        if (p.typed)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: has raw and typed data", p.t.file, name);
        if (known && p.raw_size != p.t.bytes)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: found %zu bytes, expected %zu", p.t.file, name, p.raw_size, p.t.bytes);
        p.t.bytes = p.raw_size;
        p.t.data = p.t.bytes ? p.raw : NULL;
        p.t.offset = (uint64_t)(p.raw - m.begin);
    } else if (known && row->field && p.t.bytes) {
        QVL_TRY(take_typed(o, &p, m, row, err));
    } else {
        if (p.t.bytes) /* a type we have no use for */
            p.t.type = QVL_DT_UNKNOWN;
        p.t.bytes = 0;
    }
    struct qvl_tensors *t = o->tensors;
    t->list[t->n++] = p.t;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct qvl_tensor *const *x = a, *const *y = b;
    int c = strcmp((*x)->file, (*y)->file);
    if (c)
        return c;
    if ((*x)->offset != (*y)->offset)
        return (*x)->offset < (*y)->offset ? -1 : 1;
    return (*x)->bytes < (*y)->bytes ? -1 : (*x)->bytes > (*y)->bytes;
}

int qvl_onnx_check_overlap(const struct qvl_onnx *o, qvl_err *err)
{
    const struct qvl_tensors *t = o->tensors;
    const char *model = t->files[0].path;
    const struct qvl_tensor **list = qvl_alloc(t->n, sizeof *list);
    size_t n = 0;
    int rc = 0;
    if (!list)
        return qvl_fail_nomem(err, t->n * sizeof *list, "the list of tensors");
    for (size_t i = 0; i < t->n; i++)
        if (t->list[i].file != model && t->list[i].bytes)
            list[n++] = &t->list[i];
    qsort(list, n, sizeof *list, by_place);
    for (size_t i = 1; i < n && rc == 0; i++) {
        const struct qvl_tensor *a = list[i - 1], *b = list[i];
        if (a->file == b->file && b->offset - a->offset < a->bytes && (a->offset != b->offset || a->bytes != b->bytes))
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: tensors %s and %s overlap", a->file, a->name, b->name);
    }
    qvl_mem_free(list);
    return rc;
}
