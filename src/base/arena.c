/* arena.c - see arena.h. Under AddressSanitizer the gaps between pieces are poisoned. */
#include "base/arena.h"

#include <sys/mman.h>

#include "base/err.h"
#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define QVL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QVL_ASAN 1
#endif
#endif

#ifdef QVL_ASAN
#include <sanitizer/asan_interface.h>
#define RED_ZONE 64
#else
#define RED_ZONE 0
#endif

#define HUGE_PAGE ((size_t)2 << 20)

void *qvl_arena_take(struct qvl_arena *a, size_t n, size_t size)
{
    size_t bytes, total;
    if (qvl_mul_size(&bytes, n, size) || bytes > SIZE_MAX / 4 ||
        qvl_add_size(&total, a->used, qvl_round_up(bytes, QVL_ALIGN) + RED_ZONE)) {
        a->overflow = 1;
        return NULL;
    }
    size_t at = a->used;
    a->used = total;
    if (!a->base)
        return NULL;
    if (total > a->size) {
        a->overflow = 1;
        return NULL;
    }
#ifdef QVL_ASAN
    ASAN_POISON_MEMORY_REGION(a->base + at + bytes, total - at - bytes);
#endif
    return a->base + at;
}

/* Advice for large arenas: fewer faults when the memory is used for the first time. */
static void prefer_huge_pages(unsigned char *base, size_t size)
{
#ifdef MADV_HUGEPAGE
    uintptr_t first = ((uintptr_t)base + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, last = ((uintptr_t)base + size) / HUGE_PAGE * HUGE_PAGE;
    if (last > first)
        madvise((void *)first, last - first, MADV_HUGEPAGE);
#else
    (void)base;
    (void)size;
#endif
}

int qvl_arena_open(struct qvl_arena *a, size_t size, qvl_err *err)
{
    *a = (struct qvl_arena){0};
    a->base = qvl_alloc(size, 1);
    if (!a->base)
        return qvl_fail_nomem(err, size, "work memory");
    a->size = size;
    prefer_huge_pages(a->base, size);
    return 0;
}

int qvl_arena_renew(struct qvl_arena *a, size_t size, qvl_err *err)
{
    if (!a->base || a->size < size) {
        qvl_arena_close(a);
        return qvl_arena_open(a, size, err);
    }
#ifdef QVL_ASAN
    ASAN_UNPOISON_MEMORY_REGION(a->base, a->size);
#endif
    a->used = 0;
    a->overflow = 0;
    return 0;
}

void qvl_arena_close(struct qvl_arena *a)
{
#ifdef QVL_ASAN
    if (a->base)
        ASAN_UNPOISON_MEMORY_REGION(a->base, a->size);
#endif
    qvl_mem_free(a->base);
    *a = (struct qvl_arena){0};
}
