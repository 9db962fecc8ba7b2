/* mem.h - checked sizes and the only allocator of the library.
 *
 * Everything that the library itself allocates goes through here: 64-byte aligned, sizes multiplied with overflow
 * checks. A guard forbids allocation in the code that runs between two tokens: with the guard up an allocation
 * asserts in debug builds and is counted in all builds (tests read the count). */
#ifndef QVL_BASE_MEM_H
#define QVL_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

#define QVL_ALIGN 64

/* *out = a*b or a+b; returns 0, or -1 on overflow (then *out is 0). */
int qvl_mul_size(size_t *out, size_t a, size_t b) QVL_MUST_CHECK;
int qvl_add_size(size_t *out, size_t a, size_t b) QVL_MUST_CHECK;
static inline size_t qvl_round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

/* n*size bytes, uninitialised or zeroed; NULL when it overflows or there is no memory. n*size = 0 gives a valid pointer. */
void *qvl_alloc(size_t n, size_t size);
void *qvl_calloc(size_t n, size_t size);
/* Grows or shrinks memory from this allocator; old_bytes is what was asked for before. On failure p stays valid. */
void *qvl_realloc(void *p, size_t old_bytes, size_t n, size_t size);
void qvl_mem_free(void *p);
/* Copies n bytes and appends a NUL. */
char *qvl_strndup(const char *s, size_t n);
char *qvl_strdup(const char *s);

/* Guard for code that must not allocate; per thread, nests. qvl_alloc_guard_hits counts violations of this thread. */
void qvl_alloc_guard_up(void);
void qvl_alloc_guard_down(void);
uint64_t qvl_alloc_guard_hits(void);

#endif
