/* weights_widen.c - foreign matrices → f32 or bf16 in memory of our own.
 *
 * The way in which block types run when nothing computes with them directly. Bound matrices of other types stay as they are, and
 * so does an embedding that is no head: single rows of it are looked up (decoder.c). */
#include "base/err.h"
#include "base/half.h"
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
    float *row;             /* one row, f32 */
    int64_t widest;
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

static void convert(struct widening *x, struct qvl_mat *m, enum qvl_dtype to)
{
    size_t n = (size_t)m->n_out * (size_t)m->n_in * (qvl_dtype_bits(to) / 8);
    unsigned char *dst = x->next;
    x->w->mapped_bytes -= qvl_foreign_bytes(m);
    x->w->copied_bytes += n;
    for (int64_t r = 0; r < m->n_out; r++) {
        if (to == QVL_DT_F32) {
            qvl_foreign_row((float *)(void *)dst, m, r);
            dst += 4 * m->n_in;
            continue;
        }
        uint16_t *half = (uint16_t *)(void *)dst;
        qvl_foreign_row(x->row, m, r);
        for (int64_t i = 0; i < m->n_in; i++)
            half[i] = qvl_f32_to_bf16(x->row[i]);
        dst += 2 * m->n_in;
    }
    *m = (struct qvl_mat){.data = x->next, .type = to, .n_out = m->n_out, .n_in = m->n_in, .stride = m->n_in};
    x->next += qvl_round_up(n, QVL_ALIGN);
}

static void one(struct widening *x, struct qvl_mat *m, enum qvl_dtype to)
{
    if (!qvl_dtype_is_foreign(m->type))
        return;
    if (x->counting)
        count(x, m, to);
    else
        convert(x, m, to);
}

static int slot(void *ud, const struct qvl_slot *s)
{
    struct widening *x = ud;
    enum qvl_dtype to = s->name[0] == 'v' ? x->vision : x->text; /* "visual." */
    for (int64_t i = 0; s->kind == QVL_SLOT_EXPERTS && i < s->n_expert; i++) {
        one(x, &s->layer->e_gate[i], to);
        one(x, &s->layer->e_up[i], to);
        one(x, &s->layer->e_down[i], to);
    }
    if (s->kind == QVL_SLOT_HEAD && s->mat->data == x->embed) {
        *s->mat = x->w->text.embed;
        return 0;
    }
    if (s->mat == &x->w->text.embed && x->w->text.head.data != x->embed)
        return 0;
    if (s->mat)
        one(x, s->mat, to);
    return 0;
}

uint64_t qvl_weights_widened_bytes(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype vision, enum qvl_dtype text)
{
    struct widening x = {.w = w, .c = c, .vision = vision, .text = text, .counting = 1, .embed = w->text.embed.data};
    qvl_weights_each(w, c, slot, &x);
    return x.overflow ? UINT64_MAX : x.bytes;
}

int qvl_weights_widen(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype vision, enum qvl_dtype text, qvl_err *err)
{
    struct widening x = {.w = w, .c = c, .vision = vision, .text = text, .counting = 1, .embed = w->text.embed.data};
    struct qvl_weights_owned *o = w->owned;
    qvl_weights_each(w, c, slot, &x);
    if (x.overflow)
        return qvl_fail(err, QVL_E_LIMIT, "the converted matrices are too large");
    if (!x.bytes)
        return 0;
    if (QVL_NEVER(o->pages.data != NULL)) /* random weights have no blocks, and converted ones none left */
        return qvl_fail(err, QVL_E_STATE, "weights were converted before");
    QVL_TRY(qvl_pages_open(&o->pages, x.bytes, "converted weights", err));
    x.row = qvl_alloc((size_t)x.widest, sizeof *x.row);
    if (!x.row)
        return qvl_fail_nomem(err, (size_t)x.widest * sizeof *x.row, "converted weights");
    x.counting = 0;
    x.next = o->pages.data;
    qvl_weights_each(w, c, slot, &x);
    qvl_mem_free(x.row);
    return 0;
}
