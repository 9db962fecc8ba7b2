/* protobuf.c - see protobuf.h. Bytes -> (field number, wire type, value). */
#include "formats/protobuf.h"

#include "base/err.h"

#define MAX_NUMBER ((1u << 29) - 1)

struct qvl_pb qvl_pb_open(const void *data, size_t size, const char *file)
{
    const unsigned char *p = data;
    return (struct qvl_pb){.at = p, .end = p ? p + size : p, .begin = p, .file = file};
}

static int damaged(const struct qvl_pb *m, const char *what, qvl_err *err)
{
    return qvl_fail(err, QVL_E_FORMAT, "%s: protobuf: %s at byte %zu", m->file, what, (size_t)(m->at - m->begin));
}

static int varint(struct qvl_pb *m, uint64_t *out, qvl_err *err)
{
    uint64_t v = 0;
    for (int i = 0; i < 10; i++) {
        if (m->at == m->end)
            return damaged(m, "the message ends inside a number", err);
        unsigned b = *m->at++;
        if (i == 9 && b > 1)
            return damaged(m, "number of more than 64 bits", err);
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) {
            *out = v;
            return 0;
        }
    }
    return damaged(m, "number of more than 10 bytes", err); /* not reached: the tenth byte is at most 1 */
}

/* Little-endian number of n bytes. */
static int fixed(struct qvl_pb *m, int n, uint64_t *out, qvl_err *err)
{
    uint64_t v = 0;
    if (m->end - m->at < n)
        return damaged(m, "the message ends inside a number", err);
    for (int i = 0; i < n; i++)
        v |= (uint64_t)m->at[i] << (8 * i);
    m->at += n;
    *out = v;
    return 0;
}

static int bytes(struct qvl_pb *m, struct qvl_pb_field *f, qvl_err *err)
{
    QVL_TRY(varint(m, &f->value, err));
    if (f->value > (uint64_t)(m->end - m->at))
        return damaged(m, "length beyond the end of the enclosing message", err);
    f->size = (size_t)f->value;
    f->data = m->at;
    m->at += f->size;
    return 0;
}

int qvl_pb_next(struct qvl_pb *m, struct qvl_pb_field *f, qvl_err *err)
{
    uint64_t key;
    *f = (struct qvl_pb_field){0};
    if (m->at == m->end)
        return 0;
    QVL_TRY(varint(m, &key, err));
    if (key >> 3 == 0 || key >> 3 > MAX_NUMBER)
        return damaged(m, "field number out of range", err);
    f->number = (uint32_t)(key >> 3);
    switch (key & 7) {
    case QVL_PB_VARINT: QVL_TRY(varint(m, &f->value, err)); break;
    case QVL_PB_FIXED64: QVL_TRY(fixed(m, 8, &f->value, err)); break;
    case QVL_PB_FIXED32: QVL_TRY(fixed(m, 4, &f->value, err)); break;
    case QVL_PB_BYTES: QVL_TRY(bytes(m, f, err)); break;
    case 3: case 4: return damaged(m, "group (a wire type that is not supported)", err);
    default: return damaged(m, "unknown wire type", err);
    }
    f->wire = (enum qvl_pb_wire)(key & 7);
    return 1;
}

int qvl_pb_expect(const struct qvl_pb *m, const struct qvl_pb_field *f, enum qvl_pb_wire wire, qvl_err *err)
{
    if (f->wire == wire)
        return 0;
    return qvl_fail(err, QVL_E_FORMAT, "%s: protobuf: field %u before byte %zu: found wire type %d, expected %d", m->file, f->number,
                    (size_t)(m->at - m->begin), (int)f->wire, (int)wire);
}

int qvl_pb_enter(struct qvl_pb *inner, const struct qvl_pb *m, const struct qvl_pb_field *f, qvl_err *err)
{
    QVL_TRY(qvl_pb_expect(m, f, QVL_PB_BYTES, err));
    if (m->depth >= QVL_PB_MAX_DEPTH)
        return qvl_fail(err, QVL_E_LIMIT, "%s: protobuf: more than %d messages inside each other", m->file, QVL_PB_MAX_DEPTH);
    *inner = (struct qvl_pb){.at = f->data, .end = f->data + f->size, .begin = m->begin, .depth = m->depth + 1, .file = m->file};
    return 0;
}

int qvl_pb_values(struct qvl_pb_values *v, const struct qvl_pb *m, const struct qvl_pb_field *f, enum qvl_pb_wire wire, qvl_err *err)
{
    *v = (struct qvl_pb_values){.wire = wire};
    if (f->wire == QVL_PB_BYTES)
        return qvl_pb_enter(&v->in, m, f, err);
    QVL_TRY(qvl_pb_expect(m, f, wire, err));
    v->lone = 1;
    v->value = f->value;
    return 0;
}

int qvl_pb_value(struct qvl_pb_values *v, uint64_t *value, qvl_err *err)
{
    if (v->lone) {
        v->lone = 0;
        *value = v->value;
        return 1;
    }
    if (v->in.at == v->in.end)
        return 0;
    if (v->wire == QVL_PB_VARINT)
        QVL_TRY(varint(&v->in, value, err));
    else
        QVL_TRY(fixed(&v->in, v->wire == QVL_PB_FIXED64 ? 8 : 4, value, err));
    return 1;
}
