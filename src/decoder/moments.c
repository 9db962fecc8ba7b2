/* moments.c - see moments.h. */
#include "decoder/moments.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

#define SHARE 1.0 /* of the average channel that every channel gets; measured in docs/perf-log.md, Quality */

struct spot { /* one input of a layer, or of an expert in it */
    double *sum; /* [width] of squares */
    int64_t width, count;
};

struct qvl_moments {
    int n_layer, n_expert; /* n_expert: spots a layer has for each place of its MLP, at least 1 */
    size_t n_spot, n_sum;
    struct spot *spot;     /* [n_layer][2 + 2*n_expert], then the head's */
    double *sum;
    float *mean;           /* [widest], what qvl_moments_of hands out */
};

static size_t index_of(const struct qvl_moments *m, int layer, enum qvl_moment_place place, int expert)
{
    size_t first = (size_t)layer * (2 + 2 * (size_t)m->n_expert);
    if (layer == m->n_layer)
        return first;
    return first + (place < QVL_MOMENT_GATE_UP ? (size_t)place : 2 + 2 * (size_t)expert + (place == QVL_MOMENT_DOWN));
}

/* Widths of all spots; those of a dense layer in a sparse model use the first expert's place. */
static void set_widths(struct qvl_moments *m, const struct qvl_text_config *c)
{
    for (int i = 0; i < m->n_layer; i++) {
        int sparse = c->is_sparse && c->is_sparse[i];
        m->spot[index_of(m, i, QVL_MOMENT_QKV, 0)].width = c->d_model;
        m->spot[index_of(m, i, QVL_MOMENT_O, 0)].width = (int64_t)c->n_head * c->d_head;
        for (int e = 0; e < (sparse ? m->n_expert : 1); e++) {
            m->spot[index_of(m, i, QVL_MOMENT_GATE_UP, e)].width = c->d_model;
            m->spot[index_of(m, i, QVL_MOMENT_DOWN, e)].width = sparse ? c->d_ff_expert : c->d_ff;
        }
    }
    m->spot[index_of(m, m->n_layer, QVL_MOMENT_QKV, 0)].width = c->d_model;
}

int qvl_moments_open(struct qvl_moments **out, const struct qvl_text_config *c, qvl_err *err)
{
    struct qvl_moments *m = *out = qvl_calloc(1, sizeof *m);
    int64_t widest = 0;
    if (!m)
        return qvl_fail_nomem(err, sizeof *m, "calibration");
    m->n_layer = c->n_layer;
    m->n_expert = c->n_expert ? c->n_expert : 1;
    m->n_spot = (size_t)m->n_layer * (2 + 2 * (size_t)m->n_expert) + 1;
    m->spot = qvl_calloc(m->n_spot, sizeof *m->spot);
    if (m->spot)
        set_widths(m, c);
    for (size_t i = 0; m->spot && i < m->n_spot; i++) {
        m->n_sum += (size_t)m->spot[i].width;
        widest = m->spot[i].width > widest ? m->spot[i].width : widest;
    }
    m->sum = qvl_calloc(m->n_sum, sizeof *m->sum);
    m->mean = qvl_alloc((size_t)widest, sizeof *m->mean);
    if (!m->spot || !m->sum || !m->mean) {
        qvl_moments_close(out);
        return qvl_fail_nomem(err, 0, "calibration");
    }
    double *next = m->sum;
    for (size_t i = 0; i < m->n_spot; i++) {
        m->spot[i].sum = next;
        next += m->spot[i].width;
    }
    return 0;
}

void qvl_moments_close(struct qvl_moments **m)
{
    if (!*m)
        return;
    qvl_mem_free((*m)->spot);
    qvl_mem_free((*m)->sum);
    qvl_mem_free((*m)->mean);
    qvl_mem_free(*m);
    *m = NULL;
}

void qvl_moments_add(struct qvl_moments *m, const struct qvl_team *t, int layer, enum qvl_moment_place place, int expert, const float *x,
                     int64_t n)
{
    struct spot *s = &m->spot[index_of(m, layer, place, expert)];
    int64_t lo, hi;
    qvl_team_share(t, s->width, 16, &lo, &hi);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = lo; k < hi; k++)
            s->sum[k] += (double)x[i * s->width + k] * (double)x[i * s->width + k];
    if (t->id == 0)
        s->count += n;
}

/* The spot of a matrix; NULL when the name is none of ours. */
static const struct spot *find(const struct qvl_moments *m, const char *name)
{
    static const struct {
        const char *tail;
        enum qvl_moment_place place;
    } tails[] = {{"self_attn.q_proj.weight", QVL_MOMENT_QKV}, {"self_attn.k_proj.weight", QVL_MOMENT_QKV},
                 {"self_attn.v_proj.weight", QVL_MOMENT_QKV}, {"self_attn.o_proj.weight", QVL_MOMENT_O},
                 {"gate_proj.weight", QVL_MOMENT_GATE_UP},    {"up_proj.weight", QVL_MOMENT_GATE_UP},
                 {"down_proj.weight", QVL_MOMENT_DOWN}};
    int layer, at = 0, expert = 0, more = 0;
    if (strcmp(name, "lm_head.weight") == 0)
        return &m->spot[m->n_spot - 1];
    if (sscanf(name, "language_model.layers.%d.%n", &layer, &at) != 1 || !at || layer < 0 || layer >= m->n_layer)
        return NULL;
    if (strncmp(name + at, "mlp.", 4) == 0)
        at += 4;
    if (sscanf(name + at, "experts.%d.%n", &expert, &more) == 1 && more)
        at += more;
    for (size_t i = 0; i < QVL_COUNT(tails) && expert >= 0 && expert < m->n_expert; i++)
        if (strcmp(name + at, tails[i].tail) == 0)
            return &m->spot[index_of(m, layer, tails[i].place, expert)];
    return NULL;
}

const float *qvl_moments_of(struct qvl_moments *m, const char *name)
{
    const struct spot *s = find(m, name);
    if (!s || !s->count)
        return NULL;
    double all = 0;
    for (int64_t i = 0; i < s->width; i++)
        all += s->sum[i];
    for (int64_t i = 0; i < s->width; i++) /* a run is a sample: channels it hardly used are not given up */
        m->mean[i] = (float)((s->sum[i] + SHARE * all / (double)s->width) / (double)s->count);
    return m->mean;
}

void qvl_moments_hash(const struct qvl_moments *m, uint64_t out[2]) { qvl_hash128(out, m->sum, m->n_sum * sizeof *m->sum, 1); }
