/* mem.c - checked sizes and the allocator. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#include "qvl.h"

static _Thread_local unsigned guard_depth;
static _Thread_local uint64_t guard_hits;

int qvl_mul_size(size_t *out, size_t a, size_t b)
{
    if (b && a > SIZE_MAX / b) {
        *out = 0;
        return -1;
    }
    *out = a * b;
    return 0;
}

int qvl_add_size(size_t *out, size_t a, size_t b)
{
    if (a > SIZE_MAX - b) {
        *out = 0;
        return -1;
    }
    *out = a + b;
    return 0;
}

static void check_guard(void)
{
    if (guard_depth) {
        guard_hits++;
        assert(guard_depth == 0); /* an allocation between two tokens */
    }
}

void *qvl_alloc(size_t n, size_t size)
{
    size_t bytes;
    check_guard();
    if (qvl_mul_size(&bytes, n, size) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = qvl_round_up(bytes ? bytes : 1, QVL_ALIGN);
    return aligned_alloc(QVL_ALIGN, bytes);
}

void *qvl_calloc(size_t n, size_t size)
{
    void *p = qvl_alloc(n, size);
    if (p)
        memset(p, 0, n * size);
    return p;
}

void *qvl_realloc(void *p, size_t old_bytes, size_t n, size_t size)
{
    void *q = qvl_alloc(n, size);
    if (!q)
        return NULL;
    if (p)
        memcpy(q, p, old_bytes < n * size ? old_bytes : n * size);
    free(p);
    return q;
}

void qvl_mem_free(void *p) { free(p); }

char *qvl_strndup(const char *s, size_t n)
{
    size_t bytes;
    if (qvl_add_size(&bytes, n, 1))
        return NULL;
    char *d = qvl_alloc(bytes, 1);
    if (!d)
        return NULL;
    if (n)
        memcpy(d, s, n);
    d[n] = 0;
    return d;
}

char *qvl_strdup(const char *s) { return qvl_strndup(s, strlen(s)); }

void qvl_alloc_guard_up(void) { guard_depth++; }
void qvl_alloc_guard_down(void) { guard_depth--; }
uint64_t qvl_alloc_guard_hits(void) { return guard_hits; }

void qvl_free(void *p) { free(p); }
