/* trace.c - named intermediates in memory. */
#include "base/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static struct qvl_trace_entry *slot(struct qvl_trace *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->entry[i].name, name) == 0)
            return &t->entry[i];
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        void *p = qvl_realloc(t->entry, t->n * sizeof *t->entry, cap, sizeof *t->entry);
        if (!p)
            return NULL;
        t->entry = p;
        t->cap = cap;
    }
    struct qvl_trace_entry *e = &t->entry[t->n++];
    *e = (struct qvl_trace_entry){0};
    snprintf(e->name, sizeof e->name, "%s", name);
    return e;
}

void qvl_trace_add(struct qvl_trace *t, enum qvl_dtype type, const void *data, int64_t rows, int64_t cols, const char *fmt, ...)
{
    char name[48];
    if (!t || t->failed)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    struct qvl_trace_entry *e = slot(t, name);
    if (!e) {
        t->failed = 1;
        return;
    }
    size_t width = qvl_dtype_bits(type) / 8;
    size_t old = (size_t)e->rows * (size_t)(e->cols ? e->cols : 1) * width;
    size_t more = (size_t)rows * (size_t)(cols ? cols : 1) * width;
    if (old + more > e->cap) {
        size_t cap = e->cap * 2 > old + more ? e->cap * 2 : old + more;
        void *p = qvl_realloc(e->data, old, cap, 1);
        if (!p) {
            t->failed = 1;
            return;
        }
        e->data = p;
        e->cap = cap;
    }
    if (more)
        memcpy((char *)e->data + old, data, more);
    e->type = type;
    e->rank = cols ? 2 : 1;
    e->rows += rows;
    e->cols = cols;
}

const struct qvl_trace_entry *qvl_trace_find(const struct qvl_trace *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->entry[i].name, name) == 0)
            return &t->entry[i];
    return NULL;
}

void qvl_trace_free(struct qvl_trace *t)
{
    for (size_t i = 0; i < t->n; i++)
        qvl_mem_free(t->entry[i].data);
    qvl_mem_free(t->entry);
    *t = (struct qvl_trace){0};
}
