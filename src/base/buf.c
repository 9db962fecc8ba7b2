/* buf.c - growable byte buffer. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void qvl_buf_init(struct qvl_buf *b, size_t max) { *b = (struct qvl_buf){.max = max}; }

void qvl_buf_free(struct qvl_buf *b)
{
    qvl_mem_free(b->data);
    *b = (struct qvl_buf){.max = b->max};
}

static int reserve(struct qvl_buf *b, size_t more)
{
    if (b->failed)
        return -1;
    if (more > b->max - b->len) {
        b->failed = 1;
        return -1;
    }
    size_t need = b->len + more + 1;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *p = qvl_realloc(b->data, b->len, cap, 1);
    if (!p) {
        b->failed = 1;
        return -1;
    }
    b->data = p;
    b->cap = cap;
    return 0;
}

int qvl_buf_add(struct qvl_buf *b, const void *data, size_t len)
{
    if (reserve(b, len))
        return -1;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
    return 0;
}

int qvl_buf_puts(struct qvl_buf *b, const char *s) { return qvl_buf_add(b, s, strlen(s)); }

int qvl_buf_putc(struct qvl_buf *b, int c)
{
    char ch = (char)c;
    return qvl_buf_add(b, &ch, 1);
}

int qvl_buf_printf(struct qvl_buf *b, const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || reserve(b, (size_t)n)) {
        b->failed = 1;
        va_end(ap2);
        return -1;
    }
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
    b->len += (size_t)n;
    return 0;
}

char *qvl_buf_take(struct qvl_buf *b, size_t *len)
{
    if (len)
        *len = 0;
    if (b->failed || (!b->data && reserve(b, 0))) {
        qvl_buf_free(b);
        return NULL;
    }
    b->data[b->len] = 0;
    char *p = b->data;
    if (len)
        *len = b->len;
    *b = (struct qvl_buf){.max = b->max};
    return p;
}
