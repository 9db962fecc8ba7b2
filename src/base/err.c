/* err.c - building the one-line message of a failure. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void clean(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

int qvl_fail(qvl_err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        clean(err->msg);
        err->code = code;
    }
    return code;
}

int qvl_fail_errno(qvl_err *err, int errnum, const char *fmt, ...)
{
    int code = errnum == ENOENT || errnum == ENOTDIR ? QVL_E_NOTFOUND : errnum == ENOMEM ? QVL_E_NOMEM : QVL_E_IO;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        char reason[128];
        reason[0] = 0;
        if (strerror_r(errnum, reason, sizeof reason) != 0)
            snprintf(reason, sizeof reason, "error %d", errnum);
        size_t n = strlen(err->msg);
        snprintf(err->msg + n, sizeof err->msg - n, ": %s", reason);
        clean(err->msg);
        err->code = code;
    }
    return code;
}

int qvl_fail_prefix(qvl_err *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    char old[sizeof err->msg];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    size_t n = strlen(err->msg), m = strlen(old);
    if (m > sizeof err->msg - 1 - n)
        m = sizeof err->msg - 1 - n;
    memcpy(err->msg + n, old, m);
    err->msg[n + m] = 0;
    clean(err->msg);
    return err->code;
}

int qvl_fail_nomem(qvl_err *err, size_t bytes, const char *what)
{
    return qvl_fail(err, QVL_E_NOMEM, "out of memory: %zu bytes for %s", bytes, what);
}

const char *qvl_strerror(int code)
{
    switch (code) {
    case QVL_OK: return "success";
    case QVL_E_NOMEM: return "not enough memory";
    case QVL_E_IO: return "input/output error";
    case QVL_E_FORMAT: return "damaged or contradictory data";
    case QVL_E_UNSUPPORTED: return "not supported";
    case QVL_E_LIMIT: return "limit exceeded";
    case QVL_E_ARG: return "invalid argument";
    case QVL_E_CANCELLED: return "cancelled";
    case QVL_E_STATE: return "wrong state";
    case QVL_E_NOTFOUND: return "not found";
    default: return "unknown error";
    }
}
