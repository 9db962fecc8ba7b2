/* arena.h - one block of memory, sized before use, handed out in 64-byte aligned pieces.
 *
 * Used in two passes with the same code: an arena whose base is NULL only counts (every qvl_arena_take returns NULL and
 * `used` grows), so that the size is known before the first byte is allocated. */
#ifndef QVL_BASE_ARENA_H
#define QVL_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "qvl.h"

struct qvl_arena {
    unsigned char *base; /* NULL: counting pass */
    size_t size;         /* bytes behind base */
    size_t used;         /* bytes handed out, including alignment and red zones */
    int overflow;        /* a size overflowed, or more was taken than there is */
};

/* Takes n*size bytes. Returns NULL in the counting pass and when it does not fit (then overflow is set). */
void *qvl_arena_take(struct qvl_arena *a, size_t n, size_t size);
/* Allocates the memory that a counting pass asked for; contents are undefined. */
int qvl_arena_open(struct qvl_arena *a, size_t size, qvl_err *err);
/* The same for an arena that may hold memory already: keeps it, all given back, when it suffices. A virtual machine may need longer to
 * hand out new pages than the work in them takes. */
int qvl_arena_renew(struct qvl_arena *a, size_t size, qvl_err *err);
void qvl_arena_close(struct qvl_arena *a);

#endif
