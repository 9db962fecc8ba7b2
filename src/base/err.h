/* err.h - the one failure convention: int, 0 or a negative QVL_E_... code, with a message for humans. */
#ifndef QVL_BASE_ERR_H
#define QVL_BASE_ERR_H

#include "base/compiler.h"
#include "qvl.h"

/* Fills err (may be NULL) and returns code. The message is one line; control characters in it are replaced, so names
 * from hostile files may be printed with %s. */
int qvl_fail(qvl_err *err, int code, const char *fmt, ...) QVL_PRINTF(3, 4);
/* The same with ": " and strerror(errnum) appended; chooses QVL_E_NOTFOUND for ENOENT/ENOTDIR, QVL_E_NOMEM for ENOMEM,
 * QVL_E_IO otherwise. */
int qvl_fail_errno(qvl_err *err, int errnum, const char *fmt, ...) QVL_PRINTF(3, 4);
/* Puts text in front of the message of a failure that is passed upwards; returns err->code (or code when err is NULL). */
int qvl_fail_prefix(qvl_err *err, int code, const char *fmt, ...) QVL_PRINTF(3, 4);
int qvl_fail_nomem(qvl_err *err, size_t bytes, const char *what);

/* Forwards a failure in one line. */
#define QVL_TRY(call)                  \
    do {                               \
        int qvl_rc_ = (call);          \
        if (QVL_UNLIKELY(qvl_rc_ < 0)) \
            return qvl_rc_;            \
    } while (0)
/* The same for functions with one clean-up label `done:` and an `int rc`. */
#define QVL_TRY_DONE(call)         \
    do {                           \
        rc = (call);               \
        if (QVL_UNLIKELY(rc < 0))  \
            goto done;             \
    } while (0)

#endif
