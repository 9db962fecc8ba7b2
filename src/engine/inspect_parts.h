/* inspect_parts.h - what the files of qvl_inspect share. */
#ifndef QVL_ENGINE_INSPECT_PARTS_H
#define QVL_ENGINE_INSPECT_PARTS_H

#include "base/json.h"
#include "qvl.h"

/* Building with jansson: a failure is remembered and reported once. */
struct builder {
    int failed;
    qvl_err *err;
};

/* After a failure nothing is touched any more: obj may be what could not be put somewhere, and is gone. */
static inline void put(struct builder *b, json_t *obj, const char *key, json_t *value)
{
    if (b->failed)
        json_decref(value);
    else if (json_object_set_new(obj, key, value))
        b->failed = 1;
}

static inline void push(struct builder *b, json_t *list, json_t *value)
{
    if (b->failed)
        json_decref(value);
    else if (json_array_append_new(list, value))
        b->failed = 1;
}

static inline json_t *number(uint64_t v) { return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v); }

/* A text from outside; what is not UTF-8 is replaced. */
json_t *qvl_inspect_text(const char *s);

/* inspect_onnx.c: an .onnx file or a folder of ONNX Runtime GenAI, described in *root. */
int qvl_inspect_onnx(json_t *root, const char *path, qvl_err *err);

#endif
