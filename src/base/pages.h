/* pages.h - large zeroed memory straight from the operating system: costs nothing until it is touched. */
#ifndef QVL_BASE_PAGES_H
#define QVL_BASE_PAGES_H

#include <stddef.h>

#include "qvl.h"

struct qvl_pages {
    void *data; /* page-aligned, zeroed */
    size_t size;
};
int qvl_pages_open(struct qvl_pages *p, size_t size, const char *what, qvl_err *err);
void qvl_pages_close(struct qvl_pages *p);

#endif
