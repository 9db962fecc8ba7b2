/* moe.c - router and experts; section 6.8 of docs/model.md.
 *
 *   p = softmax(W_r h);  S = the n_used largest p (ties: the lower id);  g = p[S] / sum p[S]
 *   x += sum over e in S, ascending, of g_e * W_down(silu(W_gate h) * W_up h)
 *
 * Tokens are sorted by expert so that each expert's matrices are read once for all tokens that chose it. */
#include "decoder/moe.h"

#include <math.h>
#include <string.h>

void qvl_moe_take(struct qvl_moe *m, struct qvl_arena *a, const struct qvl_text_config *c, int64_t n_tok)
{
    size_t n = (size_t)n_tok, pairs = n * (size_t)c->n_expert_used;
    m->router = qvl_arena_take(a, n, (size_t)c->n_expert * sizeof(float));
    m->chosen = qvl_arena_take(a, pairs, sizeof(int32_t));
    m->share = qvl_arena_take(a, pairs, sizeof(float));
    m->first = qvl_arena_take(a, (size_t)c->n_expert + 1, sizeof(int32_t));
    m->token = qvl_arena_take(a, pairs, sizeof(int32_t));
    m->token_share = qvl_arena_take(a, pairs, sizeof(float));
    m->in = qvl_arena_take(a, n, (size_t)c->d_model * sizeof(float));
    m->gate = qvl_arena_take(a, n, (size_t)c->d_ff_expert * sizeof(float));
    m->up = qvl_arena_take(a, n, (size_t)c->d_ff_expert * sizeof(float));
    m->out = qvl_arena_take(a, n, (size_t)c->d_model * sizeof(float));
}

/* Softmax over all experts in float32, then the n_used largest, renormalised. */
static void choose(float *p, int n, int n_used, int32_t *chosen, float *share)
{
    float top = p[0], sum = 0, kept = 0;
    for (int e = 1; e < n; e++)
        top = p[e] > top ? p[e] : top;
    for (int e = 0; e < n; e++) {
        p[e] = expf(p[e] - top);
        sum += p[e];
    }
    for (int e = 0; e < n; e++)
        p[e] /= sum;
    for (int j = 0; j < n_used; j++) {
        int best = -1;
        for (int e = 0; e < n; e++) {
            int taken = 0;
            for (int i = 0; i < j; i++)
                taken |= chosen[i] == e;
            if (!taken && (best < 0 || p[e] > p[best]))
                best = e;
        }
        chosen[j] = best;
        share[j] = p[best];
        kept += p[best];
    }
    for (int j = 0; j < n_used; j++)
        share[j] /= kept;
}

/* Counting sort of (token, slot) pairs by expert; tokens stay in ascending order. */
static void sort_by_expert(struct qvl_moe *m, int n_expert, int n_used, int64_t n_tok)
{
    int64_t pairs = n_tok * n_used;
    memset(m->first, 0, ((size_t)n_expert + 1) * sizeof *m->first);
    for (int64_t i = 0; i < pairs; i++)
        m->first[m->chosen[i] + 1]++;
    for (int e = 0; e < n_expert; e++)
        m->first[e + 1] += m->first[e];
    for (int64_t i = 0; i < pairs; i++) {
        int32_t at = m->first[m->chosen[i]]++;
        m->token[at] = (int32_t)(i / n_used);
        m->token_share[at] = m->share[i];
    }
    for (int e = n_expert; e > 0; e--) /* the loop above moved every beginning to its end */
        m->first[e] = m->first[e - 1];
    m->first[0] = 0;
}

static void matmul(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith arith, float *y, const float *x,
                   const struct qvl_mat *w, int64_t n_tok, const struct qvl_scratch *s)
{
    struct qvl_matmul op = {.y = y, .x = x, .w = w, .m = n_tok, .y_stride = w->n_out, .x_stride = w->n_in};
    qvl_matmul(t, k, arith, &op, s);
    qvl_team_barrier(t);
}

void qvl_moe_run(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith arith, const struct qvl_text_config *c,
                 const struct qvl_layer_weights *w, struct qvl_moe *m, float *x, const float *h, int64_t n_tok,
                 const struct qvl_scratch *scratch)
{
    int64_t D = c->d_model, F = c->d_ff_expert, lo, hi;
    int n_used = c->n_expert_used;
    matmul(t, k, QVL_ARITH_F32, m->router, h, &w->router, n_tok, scratch); /* a wrong choice costs more than the product */
    qvl_team_share(t, n_tok, 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++)
        choose(m->router + i * c->n_expert, c->n_expert, n_used, m->chosen + i * n_used, m->share + i * n_used);
    qvl_team_barrier(t);
    if (t->id == 0)
        sort_by_expert(m, c->n_expert, n_used, n_tok);
    qvl_team_barrier(t);
    for (int e = 0; e < c->n_expert; e++) {
        int64_t at = m->first[e], n = m->first[e + 1] - at;
        if (!n)
            continue;
        qvl_team_share(t, n, 1, &lo, &hi);
        for (int64_t i = lo; i < hi; i++)
            memcpy(m->in + i * D, h + m->token[at + i] * D, (size_t)D * sizeof(float));
        qvl_team_barrier(t);
        if (m->moments)
            qvl_moments_add(m->moments, t, m->layer, QVL_MOMENT_GATE_UP, e, m->in, n);
        const struct qvl_matmul pair[] = {{.y = m->gate, .x = m->in, .w = &w->e_gate[e], .m = n, .y_stride = F, .x_stride = D},
                                          {.y = m->up, .x = m->in, .w = &w->e_up[e], .m = n, .y_stride = F, .x_stride = D}};
        qvl_matmul_gated(t, k, arith, pair, scratch);
        qvl_team_barrier(t);
        if (m->moments)
            qvl_moments_add(m->moments, t, m->layer, QVL_MOMENT_DOWN, e, m->gate, n);
        matmul(t, k, arith, m->out, m->gate, &w->e_down[e], n, scratch);
        qvl_team_share(t, n, 1, &lo, &hi);
        for (int64_t i = lo; i < hi; i++) {
            float *row = x + m->token[at + i] * D, g = m->token_share[at + i];
            for (int64_t d = 0; d < D; d++)
                row[d] += g * m->out[i * D + d];
        }
        qvl_team_barrier(t);
    }
}
