/* buf.h - a growable byte buffer that declares its maximum, for text and for files being built. */
#ifndef QVL_BASE_BUF_H
#define QVL_BASE_BUF_H

#include <stddef.h>

#include "base/compiler.h"

struct qvl_buf {
    char *data; /* always followed by a NUL once something was added; NULL while empty */
    size_t len, cap;
    size_t max; /* growing beyond is an error */
    int failed; /* set by the first failed append; later appends do nothing. Check once at the end. */
};

void qvl_buf_init(struct qvl_buf *b, size_t max);
void qvl_buf_free(struct qvl_buf *b);
/* All return 0, or -1 and set `failed`. */
int qvl_buf_add(struct qvl_buf *b, const void *data, size_t len);
int qvl_buf_puts(struct qvl_buf *b, const char *s);
int qvl_buf_putc(struct qvl_buf *b, int c);
int qvl_buf_printf(struct qvl_buf *b, const char *fmt, ...) QVL_PRINTF(2, 3);
/* Hands the memory (NUL-terminated, from qvl_alloc) to the caller and empties the buffer. NULL if failed. */
char *qvl_buf_take(struct qvl_buf *b, size_t *len);

#endif
