/* packed.c - walks the text matrices of a model and packs, writes or binds each; see packed.h. */
#include "model/packed.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/convert_q4.h"
#include "model/convert_q8.h"
#include "model/foreign.h"
#include "model/weights_slots.h"

/* One matrix of the decoder. */
struct item {
    char name[128];        /* of the packed tensor */
    enum qvl_dtype type;
    int64_t n_out, n_in;
    size_t bytes;
    struct qvl_mat *mat;   /* NULL in a dry walk */
};

struct list {
    const struct qvl_pack_options *o;
    const struct qvl_weights *w;
    struct item *item;     /* NULL: only count */
    size_t n;
    uint64_t bytes;
    qvl_err *err;
};

static const char *suffix(enum qvl_dtype t) { return t == QVL_DT_Q4 ? "q4" : "q8"; }
static size_t unit_bytes(enum qvl_dtype t) { return t == QVL_DT_Q4 ? QVL_Q4_UNIT_BYTES : QVL_Q8_UNIT_BYTES; }

static int add(struct list *l, const char *name, const char *middle, enum qvl_dtype type, int64_t n_out, int64_t n_in, struct qvl_mat *mat)
{
    size_t bytes = qvl_quant_bytes(type, n_out, n_in);
    if (!bytes)
        return qvl_fail(l->err, QVL_E_LIMIT, "matrix %s%s: packed size overflows", name, middle);
    if (l->item) {
        struct item *it = &l->item[l->n];
        *it = (struct item){.type = type, .n_out = n_out, .n_in = n_in, .bytes = bytes, .mat = mat};
        snprintf(it->name, sizeof it->name, "%s%s.%s", name, middle, suffix(type));
    }
    l->n++;
    l->bytes += bytes;
    return 0;
}

static int add_experts(struct list *l, const struct qvl_slot *s)
{
    char middle[64];
    for (int64_t e = 0; e < s->n_expert; e++) {
        struct qvl_layer_weights *w = s->layer;
        snprintf(middle, sizeof middle, "experts.%d.gate_proj.weight", (int)e);
        QVL_TRY(add(l, s->name, middle, l->o->text, s->n_out, s->n_in, w ? &w->e_gate[e] : NULL));
        snprintf(middle, sizeof middle, "experts.%d.up_proj.weight", (int)e);
        QVL_TRY(add(l, s->name, middle, l->o->text, s->n_out, s->n_in, w ? &w->e_up[e] : NULL));
        snprintf(middle, sizeof middle, "experts.%d.down_proj.weight", (int)e);
        QVL_TRY(add(l, s->name, middle, l->o->text, s->n_in, s->n_out, w ? &w->e_down[e] : NULL));
    }
    return 0;
}

static int visit(void *ud, const struct qvl_slot *s)
{
    struct list *l = ud;
    size_t n = strlen(s->name);
    if (s->kind == QVL_SLOT_HEAD)
        return add(l, s->name, "", l->o->head, s->n_out, s->n_in, s->mat);
    if (strncmp(s->name, "language_model.layers.", 22) != 0)
        return 0;
    if (s->kind == QVL_SLOT_EXPERTS)
        return add_experts(l, s);
    /* The router decides, with few weights, where a token goes: it keeps its type. */
    if (s->kind != QVL_SLOT_MAT || (n > 16 && strcmp(s->name + n - 16, ".mlp.gate.weight") == 0))
        return 0;
    return add(l, s->name, "", l->o->text, s->n_out, s->n_in, s->mat);
}

/* All matrices of the decoder in a fixed order; l->item is from qvl_alloc. */
static int collect(struct list *l, struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o, qvl_err *err)
{
    *l = (struct list){.o = o, .err = err};
    if ((o->text != QVL_DT_Q4 && o->text != QVL_DT_Q8) || (o->head != QVL_DT_Q4 && o->head != QVL_DT_Q8))
        return qvl_fail(err, QVL_E_ARG, "packing: the kinds are q4 and q8");
    QVL_TRY(qvl_weights_each(NULL, c, visit, l));
    size_t n = l->n;
    l->item = qvl_alloc(n, sizeof *l->item);
    if (!l->item)
        return qvl_fail_nomem(err, n * sizeof *l->item, "the list of matrices");
    l->n = 0;
    l->bytes = 0;
    return qvl_weights_each(w, c, visit, l);
}

int qvl_pack_bytes(const struct qvl_config *c, const struct qvl_pack_options *o, uint64_t *bytes, qvl_err *err)
{
    struct list l = {.o = o, .err = err};
    QVL_TRY(qvl_weights_each(NULL, c, visit, &l));
    *bytes = l.bytes;
    return 0;
}

/* ---- packing one matrix with all threads ---- */

enum { PANELS_AT_ONCE = 8 }; /* a task is 128 rows */

struct job {
    void *dst;
    const struct item *it;
    const struct qvl_kernels *k;
    unsigned char *work;     /* [threads][work_bytes] */
    size_t work_bytes;
    size_t rows_at;          /* where decoded rows of foreign matrices are in it */
    int in_order;            /* the matrix has the codes of its kind already */
    struct qvl_quant_error *part; /* [tasks]: summed in order, so that the report does not depend on the threads */
};

/* Foreign rows are decoded in front of packing, as a matrix of their own. */
static struct qvl_quant_error pack_blocks(const struct job *j, int64_t row, int64_t end, float *rows, void *work)
{
    const struct qvl_mat *m = j->it->mat;
    struct qvl_mat part = {.data = rows, .type = QVL_DT_F32, .n_out = end - row, .n_in = m->n_in, .stride = m->n_in};
    for (int64_t r = row; r < end; r++)
        qvl_foreign_row(rows + (r - row) * m->n_in, m, r);
    size_t units = ((size_t)m->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    unsigned char *dst = (unsigned char *)j->dst + (size_t)row / QVL_PANEL_ROWS * units * unit_bytes(j->it->type);
    return qvl_quant_pack(dst, j->it->type, &part, 0, part.n_out, NULL, j->k, work);
}

static void pack_rows(void *ud, const struct qvl_team *t)
{
    struct job *j = ud;
    int64_t step = (int64_t)PANELS_AT_ONCE * QVL_PANEL_ROWS, lo, hi;
    unsigned char *work = j->work + (size_t)t->id * j->work_bytes;
    qvl_team_share(t, j->it->n_out, step, &lo, &hi);
    for (int64_t row = lo; row < hi; row += step) {
        int64_t end = row + step < hi ? row + step : hi;
        if (j->in_order)
            j->part[row / step] = j->it->type == QVL_DT_Q4 ? qvl_convert_q4(j->dst, j->it->mat, row, end)
                                                           : qvl_convert_q8(j->dst, j->it->mat, row, end);
        else if (qvl_dtype_is_foreign(j->it->mat->type))
            j->part[row / step] = pack_blocks(j, row, end, (float *)(void *)(work + j->rows_at), work);
        else
            j->part[row / step] = qvl_quant_pack(j->dst, j->it->type, j->it->mat, row, end, NULL, j->k, work);
    }
}

static int pack_one(struct job *j, struct qvl_pool *pool, struct qvl_quant_error *sum, qvl_err *err)
{
    size_t tasks = ((size_t)j->it->n_out + (size_t)PANELS_AT_ONCE * QVL_PANEL_ROWS - 1) / ((size_t)PANELS_AT_ONCE * QVL_PANEL_ROWS);
    j->rows_at = j->work_bytes = qvl_round_up(qvl_quant_work_bytes(j->it->n_in), QVL_ALIGN);
    if (qvl_dtype_is_foreign(j->it->mat->type))
        j->work_bytes += qvl_round_up((size_t)PANELS_AT_ONCE * QVL_PANEL_ROWS * (size_t)j->it->n_in * sizeof(float), QVL_ALIGN);
    int exact;
    j->in_order = j->it->type == QVL_DT_Q4 ? qvl_convert_q4_can(j->it->mat, &exact) : qvl_convert_q8_can(j->it->mat, &exact);
    j->work = qvl_alloc(qvl_pool_size(pool), j->work_bytes);
    j->part = qvl_calloc(tasks, sizeof *j->part);
    int rc = 0;
    if (!j->work || !j->part)
        rc = qvl_fail_nomem(err, j->work_bytes, "packing");
    else
        qvl_pool_run(pool, pack_rows, j);
    for (size_t i = 0; rc == 0 && i < tasks; i++) {
        sum->error += j->part[i].error;
        sum->norm += j->part[i].norm;
    }
    qvl_mem_free(j->work);
    qvl_mem_free(j->part);
    return rc;
}

static int watched(struct qvl_watch *watch, uint64_t bytes, qvl_err *err)
{
    return qvl_watch_tick(watch, bytes) ? qvl_fail(err, QVL_E_CANCELLED, "cancelled while the weights were packed") : 0;
}

static double rms(const struct qvl_quant_error *e) { return e->norm > 0 ? sqrt(e->error / e->norm) : 0; }

static uint64_t stored_bytes(const struct qvl_mat *m)
{
    return qvl_dtype_is_foreign(m->type) ? qvl_foreign_bytes(m)
                                         : (uint64_t)m->n_out * (uint64_t)m->n_in * qvl_dtype_bits(m->type) / 8;
}

/* Puts a packed matrix in the place of the one it was made from, which then no longer counts as used. */
static void replace(struct qvl_weights *w, const struct item *it, const void *data)
{
    if (it->mat->data != w->text.embed.data) /* a tied head: its rows are still looked up */
        w->mapped_bytes -= stored_bytes(it->mat);
    *it->mat = (struct qvl_mat){.data = data, .type = it->type, .n_out = it->n_out, .n_in = it->n_in, .stride = it->n_in};
}

int qvl_pack_memory(struct qvl_pages *pages, struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o,
                    const struct qvl_kernels *k, struct qvl_pool *pool, struct qvl_watch *watch, struct qvl_pack_report *report,
                    qvl_err *err)
{
    struct list l;
    struct qvl_quant_error sum = {0};
    *pages = (struct qvl_pages){0};
    int rc = collect(&l, w, c, o, err);
    if (rc == 0)
        rc = qvl_pages_open(pages, l.bytes, "packed weights", err);
    unsigned char *at = pages->data;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        struct job j = {.dst = at, .it = &l.item[i], .k = k};
        rc = pack_one(&j, pool, &sum, err);
        at += l.item[i].bytes;
        if (rc == 0)
            rc = watched(watch, l.item[i].bytes, err);
    }
    at = pages->data;
    for (size_t i = 0; rc == 0 && i < l.n; i++) { /* only now: a tied head is packed from the embedding it shares */
        replace(w, &l.item[i], at);
        at += l.item[i].bytes;
    }
    if (rc == 0)
        w->copied_bytes += l.bytes;
    if (rc == 0 && report)
        *report = (struct qvl_pack_report){.packed_bytes = l.bytes, .rms_error = rms(&sum)};
    if (rc < 0)
        qvl_pages_close(pages);
    qvl_mem_free(l.item);
    return rc;
}

struct fill {
    const struct list *l;
    const struct qvl_kernels *k;
    struct qvl_pool *pool;
    struct qvl_watch *watch;
    struct qvl_quant_error sum;
};

static int fill_tensor(void *ud, const struct qvl_tensor *t, void *dst, qvl_err *err)
{
    struct fill *f = ud;
    size_t i = 0;
    while (i < f->l->n && strcmp(f->l->item[i].name, t->name) != 0)
        i++;
    if (QVL_NEVER(i == f->l->n))
        return qvl_fail(err, QVL_E_STATE, "packing: tensor %s is not in the list", t->name);
    struct job j = {.dst = dst, .it = &f->l->item[i], .k = f->k};
    QVL_TRY(pack_one(&j, f->pool, &f->sum, err));
    return watched(f->watch, f->l->item[i].bytes, err);
}

static struct qvl_tensor describe(const struct item *it)
{
    int64_t panels = (it->n_out + QVL_PANEL_ROWS - 1) / QVL_PANEL_ROWS, units = (it->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    return (struct qvl_tensor){.name = it->name, .bytes = it->bytes, .type = QVL_DT_U8, .type_name = "U8", .rank = 3,
                               .shape = {panels, units, (int64_t)unit_bytes(it->type)}};
}

int qvl_pack_write(const char *path, const char *key, const struct qvl_weights *w, const struct qvl_config *c,
                   const struct qvl_pack_options *o, const struct qvl_kernels *k, struct qvl_pool *pool, struct qvl_watch *watch,
                   struct qvl_pack_report *report, qvl_err *err)
{
    struct list l;
    struct qvl_weights source = *w; /* the walk hands out places to write to; here they are only read */
    struct qvl_tensor *tensors = NULL;
    const struct qvl_tensor_meta meta[] = {{"format", "qvl"}, {"qvl.pack", QVL_PACK_VERSION}, {"qvl.layout", "x86-lane4"},
                                           {"qvl.group", "32"}, {"qvl.key", key}};
    int rc = collect(&l, &source, c, o, err);
    struct fill f = {.l = &l, .k = k, .pool = pool, .watch = watch};
    if (rc == 0 && !(tensors = qvl_calloc(l.n, sizeof *tensors)))
        rc = qvl_fail_nomem(err, l.n * sizeof *tensors, "the list of tensors");
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        tensors[i] = describe(&l.item[i]);
    if (rc == 0)
        rc = qvl_safetensors_write_filled(path, tensors, l.n, meta, QVL_COUNT(meta), QVL_ALIGN, fill_tensor, &f, err);
    if (rc == 0 && report)
        *report = (struct qvl_pack_report){.packed_bytes = l.bytes, .rms_error = rms(&f.sum)};
    qvl_mem_free(tensors);
    qvl_mem_free(l.item);
    return rc;
}

int qvl_pack_bind(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o, const struct qvl_tensors *t,
                  qvl_err *err)
{
    struct list l;
    int rc = collect(&l, w, c, o, err);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const struct qvl_tensor *found = qvl_tensors_find(t, l.item[i].name);
        struct qvl_tensor want = describe(&l.item[i]);
        char a[96], b[96];
        if (!found)
            rc = qvl_fail(err, QVL_E_FORMAT, "packed weights: tensor %s is missing", l.item[i].name);
        else if (found->type != QVL_DT_U8 || found->rank != 3 || memcmp(found->shape, want.shape, 3 * sizeof want.shape[0]) != 0)
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: found %s, expected %s", found->file, found->name,
                          qvl_tensor_describe(found, a, sizeof a), qvl_tensor_describe(&want, b, sizeof b));
    }
    for (size_t i = 0; rc == 0 && i < l.n; i++) /* only now: after a failure the weights are as they were */
        replace(w, &l.item[i], qvl_tensors_find(t, l.item[i].name)->data);
    if (rc == 0)
        w->mapped_bytes += l.bytes;
    qvl_mem_free(l.item);
    return rc;
}
