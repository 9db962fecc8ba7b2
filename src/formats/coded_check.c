/* coded_check.c - see coded_check.h. */
#include "formats/coded_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/half.h"

int qvl_coded_wrong(const struct qvl_coded_parts *p, const struct qvl_tensor *t, const char *expected, qvl_err *err)
{
    char found[128];
    return qvl_fail(err, QVL_E_FORMAT, "%s: %s: tensor %s: found %s, expected %s", t->file, p->what, t->name,
                    qvl_tensor_describe(t, found, sizeof found), expected);
}

int64_t qvl_tensor_elems(const struct qvl_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] == 0)
            return 0;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i]; /* fits: the tensor's bytes do */
    return n;
}

int qvl_coded_begin(struct qvl_coded *q, const struct qvl_coded_parts *p, const char *name, qvl_err *err)
{
    *q = (struct qvl_coded){.name = name, .n_out = p->n_out, .n_in = p->n_in, .row_block = 1};
    if (!p->scales)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: quantised (%s), but its scales are missing", p->weight->file, p->what, name);
    if (p->n_out < 1 || p->n_out > QVL_CODED_MAX_ROWS || p->n_in < 1 || p->n_in > QVL_CODED_MAX_INPUTS)
        return qvl_fail(err, QVL_E_LIMIT, "%s: %s: matrix of %lld x %lld", p->weight->file, p->what, (long long)p->n_out,
                        (long long)p->n_in);
    return 0;
}

int qvl_coded_matrix(const struct qvl_coded_parts *p, const struct qvl_tensor *t, enum qvl_dtype type, int64_t rows, int64_t cols,
                     qvl_err *err)
{
    char expected[96];
    int fits = t->type == type || (type == QVL_DT_U32 && t->type == QVL_DT_I32);
    snprintf(expected, sizeof expected, "[%lld,%lld] %s", (long long)rows, (long long)cols,
             type == QVL_DT_U32 ? "I32" : qvl_dtype_name(type));
    if (fits && t->rank == 2 && t->shape[0] == rows && t->shape[1] == cols)
        return 0;
    return qvl_coded_wrong(p, t, expected, err);
}

static int all_finite(const struct qvl_tensor *t)
{
    const unsigned char *s = t->data;
    for (int64_t i = 0, n = qvl_tensor_elems(t); i < n; i++) {
        uint16_t h;
        uint32_t u;
        if (t->type == QVL_DT_F32) {
            memcpy(&u, s + 4 * i, 4);
            if ((u & 0x7f800000u) == 0x7f800000u)
                return 0;
            continue;
        }
        memcpy(&h, s + 2 * i, 2);
        if (t->type == QVL_DT_F16 ? (h & 0x7c00) == 0x7c00 : (h & 0x7f80) == 0x7f80)
            return 0;
    }
    return 1;
}

int qvl_coded_floats(struct qvl_coded *q, const struct qvl_coded_parts *p, const struct qvl_tensor *t, int64_t rows, int64_t cols,
                     qvl_err *err)
{
    char expected[96];
    snprintf(expected, sizeof expected, "[%lld,%lld] F32, F16 or BF16", (long long)rows, (long long)cols);
    if ((t->type != QVL_DT_F32 && t->type != QVL_DT_F16 && t->type != QVL_DT_BF16) || t->rank != 2 || t->shape[0] != rows ||
        t->shape[1] != cols)
        return qvl_coded_wrong(p, t, expected, err);
    if (!all_finite(t))
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: tensor %s: found infinity or NaN, expected finite numbers", t->file, p->what, t->name);
    q->scale_type = t->type;
    return 0;
}

int qvl_coded_groups(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    char expected[64];
    int in_order = 1;
    if (!p->groups)
        return 0;
    snprintf(expected, sizeof expected, "[%lld] I32", (long long)p->n_in);
    if (p->groups->type != QVL_DT_I32 || p->groups->rank != 1 || p->groups->shape[0] != p->n_in)
        return qvl_coded_wrong(p, p->groups, expected, err);
    for (int64_t k = 0; k < p->n_in; k++) {
        int32_t g;
        memcpy(&g, (const char *)p->groups->data + 4 * k, 4);
        if (g < 0 || g >= q->n_group)
            return qvl_fail(err, QVL_E_FORMAT, "%s: %s: tensor %s: found group %d, there are %lld", p->groups->file, p->what,
                            p->groups->name, (int)g, (long long)q->n_group);
        in_order = in_order && g == k / q->group;
    }
    q->groups = in_order ? NULL : p->groups->data;
    return 0;
}

void qvl_coded_count(struct qvl_coded *q, const struct qvl_coded_parts *p)
{
    const struct qvl_tensor *all[] = {p->weight, p->scales, p->zeros, p->biases, p->groups,
                                      p->shape,  p->map,    p->nested, p->nested_map, p->state};
    q->bytes = 0;
    for (size_t i = 0; i < QVL_COUNT(all); i++)
        q->bytes += all[i] ? all[i]->bytes : 0;
}
