/* model_lora.c - the adapters that a model is opened with. */
#include <math.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/internal.h"

enum { MAX_ADAPTERS = 16 };

static int open_one(struct qvl_lora *l, const struct qvl_model *m, const qvl_adapter *a, qvl_err *err)
{
    struct qvl_hub_found found;
    if (!a->path || !*a->path)
        return qvl_fail(err, QVL_E_ARG, "lora: an adapter has no path");
    if (!isfinite(a->scale))
        return qvl_fail(err, QVL_E_ARG, "lora: %s: the scale is no finite number", a->path);
    QVL_TRY(qvl_hub_resolve(&found, a->path, NULL, 0, err));
    int rc = qvl_lora_open(l, found.path, a->scale, &m->config.text, err);
    qvl_hub_found_free(&found);
    return rc;
}

int qvl_model_lora(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    if (!p->n_lora)
        return 0;
    if (m->as_stored)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "an adapter is added while computing: it cannot be written into a model");
    if (!p->lora || p->n_lora > MAX_ADAPTERS)
        return qvl_fail(err, QVL_E_ARG, "lora: found %zu adapters, expected at most %d", p->n_lora, MAX_ADAPTERS);
    m->lora = qvl_calloc(p->n_lora, sizeof *m->lora);
    if (!m->lora)
        return qvl_fail_nomem(err, p->n_lora * sizeof *m->lora, "adapters");
    for (; m->n_lora < (int)p->n_lora; m->n_lora++)
        QVL_TRY(open_one(&m->lora[m->n_lora], m, &p->lora[m->n_lora], err));
    return 0;
}

void qvl_model_lora_close(struct qvl_model *m)
{
    while (m->n_lora)
        qvl_lora_close(&m->lora[--m->n_lora]);
    qvl_mem_free(m->lora);
    m->lora = NULL;
}

uint64_t qvl_model_lora_bytes(const struct qvl_model *m)
{
    uint64_t bytes = 0;
    for (int i = 0; i < m->n_lora; i++)
        bytes += m->lora[i].bytes;
    return bytes;
}
