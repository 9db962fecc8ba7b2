/* quantised_kinds.c - the quantised matrices of a set, counted by how they are quantised. */
#include <stdio.h>
#include <string.h>

#include "model/quantised.h"

static const char *values_of(const struct qvl_coded *q)
{
    struct qvl_coded in_order = *q;
    in_order.groups = NULL;
    switch (q->rule) {
    case QVL_CODED_BIASED: return "biases";
    case QVL_CODED_TABLE: return "table";
    case QVL_CODED_E4M3: return "E4M3";
    case QVL_CODED_E5M2: return "E5M2";
    case QVL_CODED_BY_127: case QVL_CODED_AFFINE: default: break;
    }
    return qvl_coded_symmetric(&in_order) ? "symmetric" : "zero points";
}

static void describe(struct qvl_quantised_kind *k, const struct qvl_coded *q)
{
    *k = (struct qvl_quantised_kind){.bits = q->bits};
    if (q->row_block > 1)
        snprintf(k->group, sizeof k->group, "%d x %d", (int)q->row_block, (int)q->group);
    else if (q->flat || q->n_group > 1)
        snprintf(k->group, sizeof k->group, "%d", (int)q->group);
    else
        snprintf(k->group, sizeof k->group, "%s", q->scale_row ? "row" : "tensor");
    snprintf(k->values, sizeof k->values, "%s%s", values_of(q), q->groups ? " · act-order" : "");
}

size_t qvl_quantised_kinds(struct qvl_quantised_kind *out, size_t max, const struct qvl_tensors *t)
{
    size_t n = 0;
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        struct qvl_quantised_kind k;
        size_t at = 0;
        if (x->type != QVL_DT_CODED)
            continue;
        describe(&k, x->aux);
        while (at < n && (out[at].bits != k.bits || strcmp(out[at].group, k.group) != 0 || strcmp(out[at].values, k.values) != 0))
            at++;
        if (at == n && n < max)
            out[n++] = k;
        at = at < max ? at : max - 1;
        out[at].matrices++;
        out[at].bytes += x->bytes;
    }
    return n;
}
