/* packed.c - rows of stored matrices → rows of packed ones, by all threads; and packed models in memory. See packed.h.
 *
 * Work goes in slabs of some megabytes: a slab is made by the whole team, then it is written or stays, and the memory of its
 * source is given back. */
#include "model/packed.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/half.h"
#include "base/mem.h"
#include "formats/coded.h"
#include "formats/nbits.h"
#include "model/convert_q4.h"
#include "model/convert_q8.h"
#include "model/foreign.h"
#include "model/packed_items.h"

enum { TASK_ROWS = 8 * QVL_PANEL_ROWS, SLAB_BYTES = 32 << 20 }; /* of a slab as f32 */

struct qvl_pack_job {
    const struct qvl_packing *p;
    const struct qvl_pack_item *it;
    const float *importance;
    int64_t slab;            /* rows, a multiple of TASK_ROWS */
    int in_order;            /* the matrix has the codes of its kind already */
    unsigned char *work;     /* [threads][work_bytes]: for packing, then rows_at: decoded rows of foreign matrices */
    size_t work_bytes, rows_at;
    struct qvl_quant_error *part; /* [tasks of a slab]: summed in order, so that the report does not depend on the threads */
    /* the slab at hand */
    int64_t row0, row1;
    unsigned char *dst;
};

int qvl_pack_tick(const struct qvl_packing *p, uint64_t bytes, qvl_err *err)
{
    return p->watch && qvl_watch_tick(p->watch, bytes) ? qvl_fail(err, QVL_E_CANCELLED, "cancelled while the weights were packed") : 0;
}

double qvl_pack_rms(const struct qvl_quant_error *e) { return e->norm > 0 ? sqrt(e->error / e->norm) : 0; }

static uint64_t stored_bytes(const struct qvl_mat *m)
{
    return qvl_dtype_is_foreign(m->type) ? qvl_foreign_bytes(m)
                                         : (uint64_t)m->n_out * (uint64_t)m->n_in * qvl_dtype_bits(m->type) / 8;
}

/* Rows [row, end) of a matrix of numbers. */
static struct qvl_mat rows_of(const struct qvl_mat *m, int64_t row, int64_t end)
{
    struct qvl_mat part = *m;
    size_t at = (size_t)(m->transposed ? row : row * m->stride) * (qvl_dtype_bits(m->type) / 8);
    part.data = (const unsigned char *)m->data + at;
    part.n_out = end - row;
    return part;
}

static struct qvl_quant_error pack_task(const struct qvl_pack_job *j, int64_t row, int64_t end, void *dst, unsigned char *work)
{
    const struct qvl_mat *m = j->it->mat;
    float *rows = (float *)(void *)(work + j->rows_at);
    if (j->in_order)
        return j->it->type == QVL_DT_Q4 ? qvl_convert_q4(dst, m, row, end) : qvl_convert_q8(dst, m, row, end);
    struct qvl_mat part = {.data = rows, .type = QVL_DT_F32, .n_out = end - row, .n_in = m->n_in, .stride = m->n_in};
    if (qvl_dtype_is_foreign(m->type))
        for (int64_t r = row; r < end; r++)
            qvl_foreign_row(rows + (r - row) * m->n_in, m, r);
    else
        part = rows_of(m, row, end);
    return qvl_quant_pack(dst, j->it->type, &part, 0, part.n_out, j->importance, j->p->kernels, work);
}

/* Rows that are kept, one after the other: blocks as numbers or as they are, numbers as they are. */
static void keep_task(const struct qvl_pack_job *j, int64_t row, int64_t end, void *dst, unsigned char *work)
{
    const struct qvl_mat *m = j->it->mat;
    size_t width = qvl_dtype_bits(j->it->type) / 8;
    if (qvl_dtype_is_ggml(j->it->type)) {
        memcpy(dst, (const unsigned char *)m->data + qvl_pack_rows_bytes(j->it, row), qvl_pack_rows_bytes(j->it, end - row));
        return;
    }
    for (int64_t r = row; r < end; r++) {
        unsigned char *out = (unsigned char *)dst + (size_t)((r - row) * m->n_in) * width;
        if (qvl_dtype_is_foreign(m->type)) {
            float *x = (float *)(void *)(work + j->rows_at);
            qvl_foreign_row(x, m, r);
            for (int64_t i = 0; i < m->n_in; i++) {
                uint16_t h = qvl_f32_to_bf16(x[i]);
                memcpy(out + (size_t)i * width, width == 2 ? (const void *)&h : (const void *)&x[i], width);
            }
        } else if (!m->transposed) {
            memcpy(out, (const unsigned char *)m->data + (size_t)(r * m->stride) * width, (size_t)m->n_in * width);
        } else {
            for (int64_t i = 0; i < m->n_in; i++)
                memcpy(out + (size_t)i * width, (const unsigned char *)m->data + (size_t)(i * m->stride + r) * width, width);
        }
    }
}

static void run_slab(void *ud, const struct qvl_team *t)
{
    struct qvl_pack_job *j = ud;
    unsigned char *work = j->work + (size_t)t->id * j->work_bytes;
    int64_t lo, hi;
    qvl_team_share(t, j->row1 - j->row0, TASK_ROWS, &lo, &hi);
    for (int64_t at = lo; at < hi; at += TASK_ROWS) {
        int64_t end = at + TASK_ROWS < hi ? at + TASK_ROWS : hi;
        unsigned char *dst = j->dst + qvl_pack_rows_bytes(j->it, at);
        if (qvl_pack_is(j->it->type))
            j->part[at / TASK_ROWS] = pack_task(j, j->row0 + at, j->row0 + end, dst, work);
        else
            keep_task(j, j->row0 + at, j->row0 + end, dst, work);
    }
}

/* The source of rows [row0, row1) is not needed any more. Of transposed matrices every row is everywhere: they go at the end. */
static void give_back(const struct qvl_pack_job *j, int64_t row0, int64_t row1)
{
    const struct qvl_mat *m = j->it->mat;
    const unsigned char *p = m->data;
    if (!j->p->release)
        return;
    if (m->transposed || m->aux) {
        const struct qvl_nbits *q = m->aux;
        const struct qvl_coded *c = m->aux;
        if (row1 < m->n_out)
            return;
        if (qvl_dtype_is_nbits(m->type))
            j->p->release(j->p->ud, q->codes + q->first * q->bits / 8, (size_t)(m->n_out * m->n_in) * (unsigned)q->bits / 8);
        else if (m->aux) /* fused ones are given back with their neighbours, which come back when they are read */
            j->p->release(j->p->ud, c->codes.data, (size_t)(m->n_out * m->n_in) * (unsigned)c->bits / 8);
        else
            j->p->release(j->p->ud, p, ((size_t)((m->n_in - 1) * m->stride + m->n_out)) * (qvl_dtype_bits(m->type) / 8));
        return;
    }
    size_t row = qvl_dtype_is_foreign(m->type) ? (size_t)(qvl_foreign_bytes(m) / (uint64_t)m->n_out)
                                               : (size_t)m->stride * (qvl_dtype_bits(m->type) / 8);
    size_t last = qvl_dtype_is_foreign(m->type) ? row : (size_t)m->n_in * (qvl_dtype_bits(m->type) / 8);
    j->p->release(j->p->ud, p + (size_t)row0 * row, (size_t)(row1 - row0 - 1) * row + last);
}

int64_t qvl_pack_job_rows(const struct qvl_pack_job *j) { return j->slab; }

size_t qvl_pack_job_run(struct qvl_pack_job *j, int64_t row0, int64_t row1, void *dst, struct qvl_quant_error *sum)
{
    j->row0 = row0;
    j->row1 = row1;
    j->dst = dst;
    qvl_pool_run(j->p->pool, run_slab, j);
    for (int64_t i = 0; qvl_pack_is(j->it->type) && i * TASK_ROWS < row1 - row0; i++) {
        sum->error += j->part[i].error;
        sum->norm += j->part[i].norm;
    }
    give_back(j, row0, row1);
    return qvl_pack_rows_bytes(j->it, row1 - row0);
}

int qvl_pack_job_open(struct qvl_pack_job **out, const struct qvl_packing *p, const struct qvl_pack_item *it, qvl_err *err)
{
    struct qvl_pack_job *j = *out = qvl_calloc(1, sizeof *j);
    size_t row = (size_t)it->n_in * sizeof(float);
    int exact;
    if (!j)
        return qvl_fail_nomem(err, sizeof *j, "packing");
    j->p = p;
    j->it = it;
    j->slab = (int64_t)qvl_round_up(SLAB_BYTES / row + 1, qvl_pool_size(p->pool) * TASK_ROWS); /* the same for every thread */
    if (j->slab > it->n_out)
        j->slab = (int64_t)qvl_round_up((size_t)it->n_out, TASK_ROWS);
    if (p->importance && qvl_pack_is(it->type))
        j->importance = p->importance(p->ud, it->name);
    j->in_order = (it->type == QVL_DT_Q4 && qvl_convert_q4_can(it->mat, &exact)) ||
                  (it->type == QVL_DT_Q8 && qvl_convert_q8_can(it->mat, &exact));
    j->rows_at = j->work_bytes = qvl_round_up(qvl_quant_work_bytes(it->n_in), QVL_ALIGN);
    if (qvl_dtype_is_foreign(it->mat->type))
        j->work_bytes += qvl_round_up((qvl_pack_is(it->type) ? (size_t)TASK_ROWS : 1) * row, QVL_ALIGN);
    j->work = qvl_alloc(qvl_pool_size(p->pool), j->work_bytes);
    j->part = qvl_calloc((size_t)(j->slab / TASK_ROWS), sizeof *j->part);
    return j->work && j->part ? 0 : qvl_fail_nomem(err, j->work_bytes, "packing");
}

void qvl_pack_job_close(struct qvl_pack_job **j)
{
    if (!*j)
        return;
    qvl_mem_free((*j)->work);
    qvl_mem_free((*j)->part);
    qvl_mem_free(*j);
    *j = NULL;
}

/* ---- packed weights in use ---- */

/* Puts a packed matrix in the place of the one it was made from, which then no longer counts as used. */
static void replace(struct qvl_weights *w, const struct qvl_pack_item *it, const void *data)
{
    if (it->mat->data != w->text.embed.data) /* a tied head: its rows are still looked up */
        w->mapped_bytes -= stored_bytes(it->mat);
    *it->mat = (struct qvl_mat){.data = data, .type = it->type, .n_out = it->n_out, .n_in = it->n_in, .stride = it->n_in};
}

uint64_t qvl_pack_replaced_bytes(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o)
{
    struct qvl_pack_list l;
    uint64_t bytes = 0;
    int rc = qvl_pack_collect(&l, w, c, o, 0, NULL);
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        if (l.item[i].mat->data != w->text.embed.data)
            bytes += stored_bytes(l.item[i].mat);
    qvl_mem_free(l.item);
    return bytes;
}

static int pack_into(struct qvl_packing *p, const struct qvl_pack_item *it, unsigned char *dst, struct qvl_quant_error *sum, qvl_err *err)
{
    struct qvl_pack_job *j = NULL;
    int rc = qvl_pack_job_open(&j, p, it, err);
    for (int64_t row = 0, end; rc == 0 && row < it->n_out; row = end) {
        end = row + qvl_pack_job_rows(j) < it->n_out ? row + qvl_pack_job_rows(j) : it->n_out;
        size_t n = qvl_pack_job_run(j, row, end, dst, sum);
        dst += n;
        rc = qvl_pack_tick(p, n, err);
    }
    qvl_pack_job_close(&j);
    return rc;
}

int qvl_pack_memory(struct qvl_pages *pages, struct qvl_packing *p, qvl_err *err)
{
    struct qvl_pack_list l;
    struct qvl_quant_error sum = {0};
    *pages = (struct qvl_pages){0};
    int rc = qvl_pack_collect(&l, p->w, p->c, &p->o, 0, err);
    if (rc == 0)
        qvl_pack_choose(&l, &p->o);
    if (rc == 0)
        rc = qvl_pages_open(pages, l.bytes, "packed weights", err);
    unsigned char *at = pages->data;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        rc = pack_into(p, &l.item[i], at, &sum, err);
        at += l.item[i].bytes;
    }
    at = pages->data;
    for (size_t i = 0; rc == 0 && i < l.n; i++) { /* only now: a tied head is packed from the embedding it shares */
        replace(p->w, &l.item[i], at);
        at += l.item[i].bytes;
    }
    if (rc == 0)
        p->w->copied_bytes += l.bytes;
    p->packed_bytes = l.bytes;
    p->rms_error = qvl_pack_rms(&sum);
    if (rc < 0)
        qvl_pages_close(pages);
    qvl_mem_free(l.item);
    return rc;
}

int qvl_pack_bind(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_pack_options *o, const struct qvl_tensors *t,
                  uint64_t *packed_bytes, qvl_err *err)
{
    struct qvl_pack_list l;
    char name[QVL_PACK_FILE_NAME];
    int rc = qvl_pack_collect(&l, w, c, o, 0, err);
    if (rc == 0)
        qvl_pack_as_stored(&l, t);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        struct qvl_tensor want = qvl_pack_tensor(&l.item[i], name);
        rc = qvl_pack_check(qvl_tensors_find(t, name), &want, qvl_tensors_path(t), err);
    }
    for (size_t i = 0; rc == 0 && i < l.n; i++) { /* only now: after a failure the weights are as they were */
        qvl_pack_tensor(&l.item[i], name);
        replace(w, &l.item[i], qvl_tensors_find(t, name)->data);
    }
    if (rc == 0)
        w->mapped_bytes += l.bytes;
    *packed_bytes = l.bytes;
    qvl_mem_free(l.item);
    return rc;
}
