/* unicode.c - classes of code points and canonical composition (NFC; Unicode Standard Annex 15).
 *
 * tagged code points -> segments that begin with a code point that never joins what stands before it
 *                    -> decompose, sort marks by combining class, compose -> tagged code points */
#include "text/unicode.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum {
    S_BASE = 0xac00,
    L_BASE = 0x1100,
    V_BASE = 0x1161,
    T_BASE = 0x11a7,
    L_N = 19,
    V_N = 21,
    T_N = 28,
    S_N = L_N * V_N * T_N
};

/* Value of the last range that starts at or before cp. The first range starts at 0. */
static unsigned range_value(const uint32_t *t, size_t n, uint32_t cp)
{
    size_t lo = 0;
    while (n > 1) {
        size_t half = n / 2;
        if (t[lo + half] >> 8 <= cp)
            lo += half;
        n -= half;
    }
    return t[lo] & 0xff;
}

unsigned qvl_uc_lookup(uint32_t cp)
{
    if (cp < 0x80) { /* ASCII without the search: most text is that */
        if ((cp | 0x20) - 'a' < 26)
            return QVL_UC_LETTER;
        if (cp - '0' < 10)
            return QVL_UC_NUMBER;
        return cp == ' ' || cp - 9 < 5 ? QVL_UC_SPACE : 0;
    }
    return range_value(qvl_uc_class, qvl_uc_class_n, cp);
}

static unsigned combining_class(uint32_t cp)
{
    return cp < 0x300 ? 0 : range_value(qvl_uc_ccc, qvl_uc_ccc_n, cp);
}

int qvl_cps_reserve(struct qvl_cps *c, size_t more, qvl_err *err)
{
    size_t need;
    if (qvl_add_size(&need, c->n, more))
        return qvl_fail_nomem(err, SIZE_MAX, "text");
    if (need <= c->cap)
        return 0;
    size_t cap = c->cap < 64 ? 64 : c->cap + c->cap / 2;
    if (cap < need)
        cap = need;
    uint32_t *p = qvl_realloc(c->cp, c->n * sizeof *p, cap, sizeof *p);
    if (!p)
        return qvl_fail_nomem(err, cap * sizeof *p, "text");
    c->cp = p;
    c->cap = cap;
    return 0;
}

void qvl_cps_free(struct qvl_cps *c)
{
    qvl_mem_free(c->cp);
    *c = (struct qvl_cps){0};
}

/* Appends the full canonical decomposition of one tagged code point: at most 4 code points. */
static int decompose(struct qvl_cps *d, uint32_t x, qvl_err *err)
{
    uint32_t cp = QVL_CP(x), tag = QVL_TAG(x);
    QVL_TRY(qvl_cps_reserve(d, 4, err));
    if (cp - S_BASE < S_N) {
        uint32_t s = cp - S_BASE, t = s % T_N;
        d->cp[d->n++] = QVL_TAGGED(L_BASE + s / (V_N * T_N), tag);
        d->cp[d->n++] = QVL_TAGGED(V_BASE + s % (V_N * T_N) / T_N, tag);
        if (t)
            d->cp[d->n++] = QVL_TAGGED(T_BASE + t, tag);
        return 0;
    }
    size_t lo = 0, hi = qvl_uc_decomp_n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (qvl_uc_decomp[mid].cp < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (cp < 0xc0 || lo == qvl_uc_decomp_n || qvl_uc_decomp[lo].cp != cp) {
        d->cp[d->n++] = x;
        return 0;
    }
    for (size_t i = 0; i < qvl_uc_decomp[lo].n; i++)
        d->cp[d->n++] = QVL_TAGGED(qvl_uc_pool[qvl_uc_decomp[lo].at + i], tag);
    return 0;
}

/* The composition of a pair, 0 if it has none. */
static uint32_t compose_pair(uint32_t a, uint32_t b)
{
    if (a - L_BASE < L_N && b - V_BASE < V_N)
        return S_BASE + ((a - L_BASE) * V_N + (b - V_BASE)) * T_N;
    if (a - S_BASE < S_N && (a - S_BASE) % T_N == 0 && b > T_BASE && b < T_BASE + T_N)
        return a + (b - T_BASE);
    size_t lo = 0, hi = qvl_uc_comp_n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct qvl_uc_comp *m = &qvl_uc_comp[mid];
        if (m->a < a || (m->a == a && m->b < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < qvl_uc_comp_n && qvl_uc_comp[lo].a == a && qvl_uc_comp[lo].b == b ? qvl_uc_comp[lo].c : 0;
}

/* Stable sort of a run of marks by combining class: insertion for the usual two or three, counting for the rest.
 * tmp has room for n. */
static void sort_marks(uint32_t *m, size_t n, uint32_t *tmp)
{
    if (n <= 8) {
        for (size_t i = 1; i < n; i++) {
            uint32_t x = m[i];
            unsigned k = combining_class(QVL_CP(x));
            size_t j = i;
            for (; j > 0 && combining_class(QVL_CP(m[j - 1])) > k; j--)
                m[j] = m[j - 1];
            m[j] = x;
        }
        return;
    }
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++)
        at[combining_class(QVL_CP(m[i])) + 1]++;
    for (size_t k = 1; k < 257; k++)
        at[k] += at[k - 1];
    for (size_t i = 0; i < n; i++)
        tmp[at[combining_class(QVL_CP(m[i]))]++] = m[i];
    memcpy(m, tmp, n * sizeof *m);
}

/* Composes a decomposed, sorted segment in place; returns its new length. */
static size_t compose(uint32_t *d, size_t n)
{
    size_t o = 0, starter = SIZE_MAX;
    unsigned last = 0; /* class of what was written after the starter; 0 = nothing was */
    for (size_t i = 0; i < n; i++) {
        uint32_t x = d[i], c = 0;
        unsigned k = combining_class(QVL_CP(x));
        /* Blocked when something of the same or a higher class, or a starter, stands in between. */
        if (starter != SIZE_MAX && (last < k || o == starter + 1))
            c = compose_pair(QVL_CP(d[starter]), QVL_CP(x));
        if (c) {
            uint32_t tag = QVL_TAG(d[starter]) < QVL_TAG(x) ? QVL_TAG(d[starter]) : QVL_TAG(x);
            d[starter] = QVL_TAGGED(c, tag);
            continue;
        }
        if (k == 0)
            starter = o;
        last = k;
        d[o++] = x;
    }
    return o;
}

/* Normalises in[0..n), a segment, onto out; work is scratch. */
static int segment(struct qvl_cps *out, struct qvl_cps *work, const uint32_t *in, size_t n, qvl_err *err)
{
    size_t start = out->n;
    for (size_t i = 0; i < n; i++)
        QVL_TRY(decompose(out, in[i], err));
    uint32_t *d = out->cp + start;
    size_t len = out->n - start;
    for (size_t i = 0; i < len;) {
        size_t j = i;
        while (j < len && combining_class(QVL_CP(d[j])))
            j++;
        if (j - i > 1) {
            work->n = 0;
            QVL_TRY(qvl_cps_reserve(work, j - i, err));
            sort_marks(d + i, j - i, work->cp);
        }
        i = j + 1;
    }
    out->n = start + compose(d, len);
    return 0;
}

static int is_active(uint32_t x)
{
    return QVL_CP(x) >= 0x300 && (qvl_uc_lookup(QVL_CP(x)) & QVL_UC_ACTIVE);
}

int qvl_nfc_is_plain(const uint32_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_active(in[i]))
            return 0;
    return 1;
}

int qvl_nfc(struct qvl_cps *out, const uint32_t *in, size_t n, qvl_err *err)
{
    struct qvl_cps work = {0};
    int rc = qvl_cps_reserve(out, n, err);
    size_t i = 0;
    while (rc == 0 && i < n) {
        size_t j = i + 1;
        while (j < n && is_active(in[j]))
            j++;
        if (j == i + 1 && !is_active(in[i])) {
            rc = qvl_cps_reserve(out, 1, err);
            if (rc == 0)
                out->cp[out->n++] = in[i];
        } else {
            rc = segment(out, &work, in + i, j - i, err);
        }
        i = j;
    }
    qvl_cps_free(&work);
    return rc;
}
