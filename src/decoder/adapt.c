/* adapt.c - see adapt.h. The sums of a product are those of the product without adapters, followed by one addition for each
 * adapter; A and B multiply in the same order for any number of tokens, so that beside packed weights results do not depend on
 * how a prompt is cut. */
#include "decoder/adapt.h"

#include <assert.h>

enum { MOST = 3 };

void qvl_adapt_init(struct qvl_adapt *a, const struct qvl_lora *list, int n, int n_layer)
{
    *a = (struct qvl_adapt){.list = list, .n = n, .n_layer = n_layer};
    for (int i = 0; i < n; i++)
        a->rank = list[i].rank > a->rank ? list[i].rank : a->rank;
}

void qvl_adapt_take(struct qvl_adapt *a, struct qvl_arena *arena, int64_t n_tok)
{
    if (a->n)
        a->low = qvl_arena_take(arena, (size_t)n_tok * MOST, (size_t)a->rank * sizeof *a->low);
}

size_t qvl_adapt_scratch(const struct qvl_adapt *a, const struct qvl_text_config *c, const struct qvl_kernels *k, int64_t n_tok, int n_threads)
{
    int64_t Q = (int64_t)c->n_head * c->d_head, widest = c->d_ff > c->d_model ? c->d_ff : c->d_model;
    if (!a->n)
        return 0;
    widest = Q > widest ? Q : widest;
    widest = a->rank > widest ? a->rank : widest; /* A reads the width of the model, B the rank */
    return qvl_matmul_scratch(k, QVL_ARITH_F32, n_tok, widest, widest, n_threads);
}

static const struct qvl_lora_pair *pair_of(const struct qvl_adapt *a, int i, int layer, enum qvl_lora_place place)
{
    const struct qvl_lora *l = &a->list[i];
    const struct qvl_lora_pair *p = layer == a->n_layer ? &l->head : &l->layers[layer * QVL_LORA_PLACES + (int)place];
    return p->scale != 0 ? p : NULL;
}

int qvl_adapt_has(const struct qvl_adapt *a, int layer, enum qvl_lora_place place)
{
    for (int i = 0; i < a->n; i++)
        if (pair_of(a, i, layer, place))
            return 1;
    return 0;
}

static void product(const struct qvl_team *t, const struct qvl_kernels *k, float *y, const float *x, const struct qvl_mat *w, int64_t m, int add,
                    const struct qvl_scratch *s)
{
    struct qvl_matmul op = {.y = y, .x = x, .w = w, .m = m, .y_stride = w->n_out, .x_stride = w->n_in, .add = add,
                            .uniform = 1};
    qvl_matmul(t, k, QVL_ARITH_F32, &op, s);
}

void qvl_adapt_run(const struct qvl_team *t, const struct qvl_kernels *k, const struct qvl_adapt *a, int layer, const struct qvl_adapt_to *to,
                   int n_to, const float *x, int64_t n_tok, const struct qvl_scratch *s)
{
    assert(n_to <= MOST);
    for (int i = 0; i < a->n; i++) {
        const struct qvl_lora_pair *pair[MOST];
        int64_t lo, hi;
        int any = 0;
        for (int j = 0; j < n_to; j++) {
            pair[j] = pair_of(a, i, layer, to[j].place);
            any |= pair[j] != NULL;
            if (pair[j])
                product(t, k, a->low + j * n_tok * a->rank, x, &pair[j]->a, n_tok, 0, s);
        }
        if (!any)
            continue;
        qvl_team_barrier(t);
        qvl_team_share(t, n_tok, 1, &lo, &hi);
        for (int j = 0; j < n_to; j++)
            for (int64_t e = pair[j] ? lo * pair[j]->a.n_out : 0; pair[j] && e < hi * pair[j]->a.n_out; e++)
                a->low[j * n_tok * a->rank + e] *= pair[j]->scale;
        qvl_team_barrier(t);
        for (int j = 0; j < n_to; j++)
            if (pair[j])
                product(t, k, to[j].y, a->low + j * n_tok * a->rank, &pair[j]->b, n_tok, 1, s);
        qvl_team_barrier(t);
    }
}
