/* weights_widen.c - foreign matrices → f32 or bf16 in memory of our own.
 *
 * The way in which block types run when nothing computes with them directly. Bound matrices of other types stay as they are, and
 * so does an embedding that is no head: single rows of it are looked up (decoder.c). */
#include "base/err.h"
#include "base/mem.h"
#include "model/foreign.h"
#include "model/weights_slots.h"

struct widening {
    struct qvl_weights *w;
    const struct qvl_config *c;
    enum qvl_dtype vision, text;
    int counting;
    size_t bytes;           /* of the new memory */
    unsigned char *next;
    const struct qvl_kernels *k;
    struct qvl_pool *pool;
    struct qvl_watch *watch;
    float *rows;            /* [threads][widest]: one row each, f32 */
    int64_t widest;
    const struct qvl_mat *m; /* being converted to `to` at `next` */
    enum qvl_dtype to;
    const void *embed;      /* the embedding's data before it was converted: a tied head shares it */
    int overflow;
};

static void count(struct widening *x, const struct qvl_mat *m, enum qvl_dtype to)
{
    size_t n;
    if (qvl_mul_size(&n, (size_t)m->n_out * (qvl_dtype_bits(to) / 8), (size_t)m->n_in) ||
        qvl_add_size(&x->bytes, x->bytes, qvl_round_up(n, QVL_ALIGN)))
        x->overflow = 1;
    if (m->n_in > x->widest)
        x->widest = m->n_in;
}

/* A share of the rows of x->m. */
static void convert_rows(void *ud, const struct qvl_team *team)
{
    const struct widening *x = ud;
    const int64_t n = x->m->n_in;
    float *row = x->rows + team->id * x->widest;
    int64_t lo, hi;
    qvl_team_share(team, x->m->n_out, 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        if (x->to == QVL_DT_F32) {
            qvl_foreign_row((float *)(void *)x->next + r * n, x->m, r);
            continue;
        }
        qvl_foreign_row(row, x->m, r);
        x->k->to_bf16((uint16_t *)(void *)x->next + r * n, row, n);
    }
}

static int convert(struct widening *x, struct qvl_mat *m, enum qvl_dtype to)
{
    size_t n = (size_t)m->n_out * (size_t)m->n_in * (qvl_dtype_bits(to) / 8);
    x->w->mapped_bytes -= qvl_foreign_bytes(m);
    x->w->copied_bytes += n;
    x->m = m;
    x->to = to;
    qvl_pool_run(x->pool, convert_rows, x);
    *m = (struct qvl_mat){.data = x->next, .type = to, .n_out = m->n_out, .n_in = m->n_in, .stride = m->n_in};
    x->next += qvl_round_up(n, QVL_ALIGN);
    return qvl_watch_tick(x->watch, n);
}

/* Non-zero when the work should stop. */
static int one(struct widening *x, struct qvl_mat *m, enum qvl_dtype to)
{
    if (!qvl_dtype_is_foreign(m->type))
        return 0;
    if (!x->counting)
        return convert(x, m, to);
    count(x, m, to);
    return 0;
}

static int slot(void *ud, const struct qvl_slot *s)
{
    struct widening *x = ud;
    enum qvl_dtype to = s->name[0] == 'v' ? x->vision : x->text; /* "visual." */
    for (int64_t i = 0; s->kind == QVL_SLOT_EXPERTS && i < s->n_expert; i++)
        if (one(x, &s->layer->e_gate[i], to) || one(x, &s->layer->e_up[i], to) || one(x, &s->layer->e_down[i], to))
            return 1;
    if (s->kind == QVL_SLOT_HEAD && s->mat->data == x->embed) {
        *s->mat = x->w->text.embed;
        return 0;
    }
    if (s->mat == &x->w->text.embed && x->w->text.head.data != x->embed)
        return 0;
    return s->mat ? one(x, s->mat, to) : 0;
}

uint64_t qvl_weights_widened_bytes(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype vision, enum qvl_dtype text)
{
    struct widening x = {.w = w, .c = c, .vision = vision, .text = text, .counting = 1, .embed = w->text.embed.data};
    qvl_weights_each(w, c, slot, &x);
    return x.overflow ? UINT64_MAX : x.bytes;
}

int qvl_weights_widen(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype vision, enum qvl_dtype text,
                      const struct qvl_kernels *k, struct qvl_pool *pool, struct qvl_watch *watch, qvl_err *err)
{
    struct widening x = {.w = w, .c = c, .vision = vision, .text = text, .counting = 1, .embed = w->text.embed.data, .k = k, .pool = pool,
                         .watch = watch};
    struct qvl_weights_owned *o = w->owned;
    size_t row_elems;
    qvl_weights_each(w, c, slot, &x);
    if (x.overflow || qvl_mul_size(&row_elems, (size_t)x.widest, qvl_pool_size(pool)))
        return qvl_fail(err, QVL_E_LIMIT, "the converted matrices are too large");
    if (!x.bytes)
        return 0;
    if (QVL_NEVER(o->pages.data != NULL)) /* random weights have no blocks, and converted ones none left */
        return qvl_fail(err, QVL_E_STATE, "weights were converted before");
    QVL_TRY(qvl_pages_open(&o->pages, x.bytes, "converted weights", err));
    x.rows = qvl_alloc(row_elems, sizeof *x.rows);
    if (!x.rows)
        return qvl_fail_nomem(err, row_elems * sizeof *x.rows, "converted weights");
    x.counting = 0;
    x.next = o->pages.data;
    int stopped = qvl_weights_each(w, c, slot, &x);
    qvl_mem_free(x.rows);
    return stopped ? qvl_fail(err, QVL_E_CANCELLED, "cancelled while the weights were converted") : 0;
}
