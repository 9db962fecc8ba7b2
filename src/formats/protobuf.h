/* protobuf.h - a bounded reader of protobuf messages: fields one after the other, nothing copied, nothing allocated.
 *
 * Knows the wire format and no schema. Every length is checked against the enclosing message, nesting is limited, varints
 * have at most ten bytes, and groups (wire types 3 and 4) are refused: no file we read uses them. */
#ifndef QVL_FORMATS_PROTOBUF_H
#define QVL_FORMATS_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

#include "qvl.h"

#define QVL_PB_MAX_DEPTH 32

enum qvl_pb_wire { QVL_PB_VARINT = 0, QVL_PB_FIXED64 = 1, QVL_PB_BYTES = 2, QVL_PB_FIXED32 = 5 };

/* A message being read. */
struct qvl_pb {
    const unsigned char *at, *end;
    const unsigned char *begin; /* of the file, so that messages can say where */
    int depth;
    const char *file;           /* for messages */
};

struct qvl_pb_field {
    uint32_t number;
    enum qvl_pb_wire wire;
    uint64_t value;             /* varint, fixed64, fixed32 */
    const unsigned char *data;  /* QVL_PB_BYTES: the bytes */
    size_t size;
};

struct qvl_pb qvl_pb_open(const void *data, size_t size, const char *file);
/* 1 and the next field, 0 behind the last one, negative on damage. */
int qvl_pb_next(struct qvl_pb *m, struct qvl_pb_field *f, qvl_err *err);
/* The message inside a field. Fails for other wire types and when nested too deeply. */
int qvl_pb_enter(struct qvl_pb *inner, const struct qvl_pb *m, const struct qvl_pb_field *f, qvl_err *err);
/* Fails unless the field has this wire type. */
int qvl_pb_expect(const struct qvl_pb *m, const struct qvl_pb_field *f, enum qvl_pb_wire wire, qvl_err *err);

/* Values of a repeated number field, which writers store packed or one by one: call for each field of that number.
 * Elements of a packed field are read one after the other; a lone one comes once. */
struct qvl_pb_values {
    struct qvl_pb in;
    enum qvl_pb_wire wire;      /* of an element */
    int lone;                   /* 1: `value` is the only one */
    uint64_t value;
};
int qvl_pb_values(struct qvl_pb_values *v, const struct qvl_pb *m, const struct qvl_pb_field *f, enum qvl_pb_wire wire, qvl_err *err);
/* 1 and the next value, 0 behind the last one, negative on damage. */
int qvl_pb_value(struct qvl_pb_values *v, uint64_t *value, qvl_err *err);

#endif
