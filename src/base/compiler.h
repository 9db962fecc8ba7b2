/* compiler.h - the only place outside kernels/<arch>/ where compiler extensions live. */
#ifndef QVL_BASE_COMPILER_H
#define QVL_BASE_COMPILER_H

#include <assert.h>

#if defined(__GNUC__)
#define QVL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define QVL_UNUSED __attribute__((unused))
#define QVL_LIKELY(x) __builtin_expect(!!(x), 1)
#define QVL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define QVL_MUST_CHECK __attribute__((warn_unused_result))
#else
#define QVL_PRINTF(fmt, args)
#define QVL_UNUSED
#define QVL_LIKELY(x) (x)
#define QVL_UNLIKELY(x) (x)
#define QVL_MUST_CHECK
#endif

#define QVL_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Believed impossible, but not provable here: asserts in debug builds, and in release builds is an ordinary
 * condition that the caller turns into QVL_E_STATE. */
#ifdef NDEBUG
#define QVL_NEVER(c) QVL_UNLIKELY(c)
#else
#define QVL_NEVER(c) (assert(!(c)), 0)
#endif

#endif
