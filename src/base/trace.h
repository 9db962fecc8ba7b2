/* trace.h - a place where the stages leave what they computed, by name (docs/traces.md).
 *
 * Rows of one name are appended in the order in which they are computed, so several pictures and several chunks of a
 * prompt become one tensor. A NULL trace is legal everywhere and costs one comparison. Not for use by several threads. */
#ifndef QVL_BASE_TRACE_H
#define QVL_BASE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/dtype.h"
#include "qvl.h"

struct qvl_trace_entry {
    char name[48];
    enum qvl_dtype type;     /* F32 or I32 */
    int rank;                /* 1: [rows]; 2: [rows][cols] */
    int64_t rows, cols;
    void *data;
    size_t cap;              /* bytes */
};

struct qvl_trace {
    struct qvl_trace_entry *entry;
    size_t n, cap;
    int failed;              /* out of memory: the trace is incomplete */
};

/* Appends rows x cols values (cols = 0: a rank-1 tensor of `rows` values). */
void qvl_trace_add(struct qvl_trace *t, enum qvl_dtype type, const void *data, int64_t rows, int64_t cols, const char *fmt, ...)
    QVL_PRINTF(6, 7);
const struct qvl_trace_entry *qvl_trace_find(const struct qvl_trace *t, const char *name);
void qvl_trace_free(struct qvl_trace *t);

#endif
