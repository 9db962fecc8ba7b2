/* gguf_rows.c - the bytes of an exported model's tensors, some rows at a time and by all threads: copied where the type stays, else
 * decoded to f32 and encoded again. What encoding costs is measured on the way. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/convert_q4.h"
#include "model/foreign.h"
#include "model/gguf_export.h"

enum { TASK_ROWS = 16 };
#define F16_MAX 65504.0f

struct writing {
    struct qvl_gguf_export *x;
    struct qvl_pool *pool;
    struct qvl_watch *watch;
    float *work;           /* [threads][2][TASK_ROWS][widest]: values, and what their codes stand for */
    size_t work_elems;     /* of one thread */
    struct qvl_quant_error *part; /* [tasks] of a call: summed in order, so that the report does not depend on the threads */
    size_t cap_part;
    /* of one call */
    const struct qvl_gguf_entry *e;
    const struct qvl_gguf_source *src;
    int64_t row, n;
    unsigned char *dst;
    int keeps;             /* codes go over as they are, into Q4_0; of the tensor's first call */
};

/* The matrix that row `row` of a tensor lies in, and the row's number there. */
static const struct qvl_mat *mat_of(const struct qvl_gguf_source *s, int64_t *row)
{
    const struct qvl_mat *m = s->mat + *row / s->mat->n_out;
    *row %= s->mat->n_out;
    return m;
}

static int is_copy(const struct qvl_mat *m, const struct qvl_ggml_type *t)
{
    return m->type == t->type && !m->transposed && m->stride == m->n_in;
}

static struct qvl_quant_error encode(const struct qvl_ggml_type *t, unsigned char *dst, const float *x, float *back, int64_t n)
{
    struct qvl_quant_error sum = {0};
    t->from_f32(dst, x, n);
    t->to_f32(back, dst, n);
    for (int64_t i = 0; i < n; i++) {
        double d = (double)back[i] - (double)x[i];
        sum.error += d * d;
        sum.norm += (double)x[i] * (double)x[i];
    }
    return sum;
}

/* Rows of one matrix, at most TASK_ROWS. */
static struct qvl_quant_error some_rows(const struct writing *g, unsigned char *dst, const struct qvl_mat *m, int64_t row, int64_t n,
                                        float *work)
{
    const struct qvl_gguf_entry *e = g->e;
    struct qvl_quant_error sum = {0};
    float *back = work + (size_t)n * (size_t)m->n_in;
    if (is_copy(m, e->type)) {
        memcpy(dst, (const unsigned char *)m->data + (size_t)row * e->row_bytes, (size_t)n * e->row_bytes);
        return sum;
    }
    for (int64_t r = 0; r < n && g->keeps; r++) {
        struct qvl_quant_error part = qvl_convert_to_q4_0(dst + (size_t)r * e->row_bytes, m, row + r);
        sum.error += part.error;
        sum.norm += part.norm;
    }
    if (g->keeps)
        return sum;
    qvl_mat_rows(work, m, row, n);
    return encode(e->type, dst, work, back, n * m->n_in);
}

static void rows_of_team(void *ud, const struct qvl_team *team)
{
    struct writing *g = ud;
    int64_t lo, hi;
    float *work = g->work + (size_t)team->id * g->work_elems;
    qvl_team_share(team, g->n, TASK_ROWS, &lo, &hi);
    for (int64_t at = lo; at < hi; at += TASK_ROWS) {
        struct qvl_quant_error *sum = &g->part[at / TASK_ROWS];
        *sum = (struct qvl_quant_error){0};
        int64_t end = at + TASK_ROWS < hi ? at + TASK_ROWS : hi, n;
        for (int64_t i = at; i < end; i += n) { /* a task may reach into the next expert */
            int64_t row = g->row + i;
            const struct qvl_mat *m = mat_of(g->src, &row);
            n = end - i < m->n_out - row ? end - i : m->n_out - row;
            struct qvl_quant_error part = some_rows(g, g->dst + (size_t)i * g->e->row_bytes, m, row, n, work);
            sum->error += part.error;
            sum->norm += part.norm;
        }
    }
}

/* Row r of a frame is line y of channel ch of output o: [o][ch][y], of a matrix with columns [ch][frame][y][x]. */
static void patch_rows(const struct writing *g, int64_t row, int64_t n, unsigned char *dst)
{
    const struct qvl_mat *m = g->src->mat;
    const int64_t side = g->e->shape[3], lines = g->e->shape[1] * side;
    for (int64_t i = 0; i < n; i++, row++, dst += g->e->row_bytes) {
        int64_t ch = row / side % g->e->shape[1], y = row % side;
        if (i == 0 || row % lines == 0)
            qvl_mat_rows(g->work, m, row / lines, 1);
        g->e->type->from_f32(dst, g->work + ((ch * 2 + g->src->frame) * side + y) * side, side);
    }
}

static int reserve(struct writing *g, int64_t n, qvl_err *err)
{
    size_t tasks = (size_t)(n + TASK_ROWS - 1) / TASK_ROWS;
    if (tasks <= g->cap_part)
        return 0;
    qvl_mem_free(g->part);
    g->part = qvl_alloc(tasks, sizeof *g->part);
    g->cap_part = g->part ? tasks : 0;
    return g->part ? 0 : qvl_fail_nomem(err, tasks * sizeof *g->part, "writing a GGUF file");
}

static int keeps(const struct writing *g)
{
    int yes = g->e->type->type == QVL_DT_GGML_Q4_0 && g->src->mat && g->src->n_mat > 0;
    for (int64_t i = 0; yes && i < g->src->n_mat; i++)
        yes = qvl_gguf_export_keeps(&g->src->mat[i]);
    return yes;
}

static int matrix_rows(struct writing *g, qvl_err *err)
{
    QVL_TRY(reserve(g, g->n, err));
    qvl_pool_run(g->pool, rows_of_team, g);
    for (int64_t i = 0; i * TASK_ROWS < g->n; i++) {
        g->x->loss.error += g->part[i].error;
        g->x->loss.norm += g->part[i].norm;
    }
    if (isfinite(g->x->loss.error))
        return 0;
    return qvl_fail(err, QVL_E_LIMIT, "tensor %s: has values that are not finite, or beyond what %s can hold (%g): use another type",
                    g->e->name, g->e->type->name, (double)F16_MAX);
}

static int fill(void *ud, size_t i, int64_t row, int64_t n, void *dst, qvl_err *err)
{
    struct writing *g = ud;
    g->e = &g->x->w.list[i];
    g->src = &g->x->source[i];
    g->row = row;
    g->n = n;
    g->dst = dst;
    if (row == 0)
        g->keeps = keeps(g);
    if (g->src->vec)
        memcpy(dst, g->src->vec, g->e->row_bytes);
    else if (g->src->frame >= 0)
        patch_rows(g, row, n, dst);
    else
        QVL_TRY(matrix_rows(g, err));
    return qvl_watch_tick(g->watch, (uint64_t)n * g->e->row_bytes) ? qvl_fail(err, QVL_E_CANCELLED, "cancelled while a model was written")
                                                                    : 0;
}

int qvl_gguf_export_write(struct qvl_gguf_export *x, struct qvl_out *out, struct qvl_pool *pool, struct qvl_watch *watch, qvl_err *err)
{
    struct writing g = {.x = x, .pool = pool, .watch = watch};
    size_t widest = 1;
    for (size_t i = 0; i < x->w.n; i++) {
        const struct qvl_mat *m = x->source[i].mat;
        widest = m && (size_t)m->n_in > widest ? (size_t)m->n_in : widest;
    }
    if (qvl_mul_size(&g.work_elems, widest, 2 * TASK_ROWS))
        return qvl_fail(err, QVL_E_LIMIT, "rows of %zu values are too wide", widest);
    g.work = qvl_alloc(qvl_pool_size(pool), g.work_elems * sizeof *g.work);
    int rc = g.work ? qvl_gguf_write(&x->w, out, fill, &g, err) : qvl_fail_nomem(err, g.work_elems * sizeof *g.work, "writing a GGUF file");
    qvl_mem_free(g.work);
    qvl_mem_free(g.part);
    return rc;
}
