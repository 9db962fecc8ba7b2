/* pages.c - anonymous mappings, with or without huge pages. */
#include "base/pages.h"

#include <sys/mman.h>

#include "base/err.h"

static int map(struct qvl_pages *p, size_t size, const char *what, qvl_err *err)
{
    *p = (struct qvl_pages){0};
    if (!size)
        return 0;
    void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        return qvl_fail_nomem(err, size, what);
    p->data = m;
    p->size = size;
    return 0;
}

int qvl_pages_open(struct qvl_pages *p, size_t size, const char *what, qvl_err *err)
{
    QVL_TRY(map(p, size, what, err));
#ifdef MADV_HUGEPAGE
    if (p->data)
        madvise(p->data, size, MADV_HUGEPAGE); /* advice: a refusal changes nothing but speed */
#endif
    return 0;
}

int qvl_pages_reserve(struct qvl_pages *p, size_t size, const char *what, qvl_err *err)
{
    QVL_TRY(map(p, size, what, err));
#ifdef MADV_NOHUGEPAGE
    if (p->data)
        madvise(p->data, size, MADV_NOHUGEPAGE);
#endif
    return 0;
}

void qvl_pages_close(struct qvl_pages *p)
{
    if (p->data)
        munmap(p->data, p->size);
    *p = (struct qvl_pages){0};
}
