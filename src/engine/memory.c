/* memory.c - asking before taking: how much is needed against what there is. */
#include <stdio.h>
#include <sys/resource.h>

#include "base/err.h"
#include "cpu/cpu.h"
#include "engine/internal.h"

const char *qvl_human_bytes(char *buf, size_t size, uint64_t bytes)
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 999.5 && u + 1 < QVL_COUNT(unit)) {
        v /= 1000;
        u++;
    }
    snprintf(buf, size, u == 0 || v >= 99.95 ? "%.0f %s" : "%.1f %s", v, unit[u]);
    return buf;
}

int qvl_memory_check(uint64_t need, const char *what, const char *advice, qvl_err *err)
{
    struct qvl_memory m;
    char a[32], b[32], c[32];
    qvl_memory_get(&m);
    if (m.available == UINT64_MAX || need <= m.available)
        return 0;
    return qvl_fail(err, QVL_E_NOMEM, "%s needs %s, of the %s's %s only %s are available; %s", what,
                    qvl_human_bytes(a, sizeof a, need), m.limit, qvl_human_bytes(c, sizeof c, m.total),
                    qvl_human_bytes(b, sizeof b, m.available), advice);
}

uint64_t qvl_peak_memory(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0 || u.ru_maxrss < 0)
        return 0;
    return (uint64_t)u.ru_maxrss * 1024; /* Linux counts in kilobytes */
}
