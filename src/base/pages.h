/* pages.h - large zeroed memory straight from the operating system: costs nothing until it is touched. */
#ifndef QVL_BASE_PAGES_H
#define QVL_BASE_PAGES_H

#include <stddef.h>

#include "qvl.h"

struct qvl_pages {
    void *data; /* page-aligned, zeroed */
    size_t size;
};
/* In huge pages where they can be had: for what is used whole. */
int qvl_pages_open(struct qvl_pages *p, size_t size, const char *what, qvl_err *err);
/* In small pages: for many ranges that each fill up from their beginning. A huge page would be zeroed for the first byte of each. */
int qvl_pages_reserve(struct qvl_pages *p, size_t size, const char *what, qvl_err *err);
void qvl_pages_close(struct qvl_pages *p);

#endif
