/* vision_quant.c - block matrices of the vision encoder, f32 or bf16 → 8-bit rows in memory. */
#include "model/vision_quant.h"

#include "base/err.h"
#include "base/mem.h"
#include "kernels/row8.h"

enum { PER_BLOCK = 4, ROWS_AT_ONCE = 8 * QVL_PANEL_ROWS };

/* Matrix i of block b, and its shape. */
static struct qvl_mat *matrix(struct qvl_vision_block_weights *b, int i)
{
    struct qvl_mat *const m[PER_BLOCK] = {&b->qkv, &b->proj, &b->fc1, &b->fc2};
    return m[i];
}

static size_t block_bytes(const struct qvl_vision_config *c)
{
    const int64_t C = c->d_model, F = c->d_ff, shape[PER_BLOCK][2] = {{3 * C, C}, {C, C}, {F, C}, {C, F}};
    size_t sum = 0;
    for (int i = 0; i < PER_BLOCK; i++) {
        size_t one = qvl_row8_bytes(shape[i][0], shape[i][1]);
        if (!one || qvl_add_size(&sum, sum, qvl_round_up(one, QVL_ALIGN)))
            return 0;
    }
    return sum;
}

uint64_t qvl_vision_quant_bytes(const struct qvl_vision_config *c)
{
    size_t all;
    return qvl_mul_size(&all, block_bytes(c), (size_t)c->depth) ? 0 : all;
}

struct job {
    struct qvl_vision_weights *w;
    const struct qvl_vision_config *c;
    const struct qvl_kernels *k;
    unsigned char *dst;
    size_t block;            /* bytes of one block's matrices */
    unsigned char *work;     /* [threads][work_bytes] */
    size_t work_bytes;
};

/* Rows of every matrix are shared out; the matrices themselves change only afterwards. */
static void pack(void *ud, const struct qvl_team *t)
{
    const struct job *j = ud;
    for (int b = 0; b < j->c->depth; b++) {
        unsigned char *dst = j->dst + (size_t)b * j->block;
        for (int i = 0; i < PER_BLOCK; i++) {
            const struct qvl_mat *m = matrix(&j->w->blocks[b], i);
            int64_t lo, hi;
            qvl_team_share(t, m->n_out, ROWS_AT_ONCE, &lo, &hi);
            if (lo < hi)
                qvl_row8_pack(dst, m, lo, hi, j->k, (float *)(void *)(j->work + (size_t)t->id * j->work_bytes));
            dst += qvl_round_up(qvl_row8_bytes(m->n_out, m->n_in), QVL_ALIGN);
        }
    }
}

static void point(const struct job *j)
{
    for (int b = 0; b < j->c->depth; b++) {
        unsigned char *dst = j->dst + (size_t)b * j->block;
        for (int i = 0; i < PER_BLOCK; i++) {
            struct qvl_mat *m = matrix(&j->w->blocks[b], i);
            *m = (struct qvl_mat){.data = dst, .type = QVL_DT_ROW8, .n_out = m->n_out, .n_in = m->n_in, .stride = m->n_in};
            dst += qvl_round_up(qvl_row8_bytes(m->n_out, m->n_in), QVL_ALIGN);
        }
    }
}

int qvl_vision_quantise(struct qvl_pages *pages, struct qvl_vision_weights *w, const struct qvl_vision_config *c,
                        const struct qvl_kernels *k, struct qvl_pool *pool, qvl_err *err)
{
    const int64_t widest = c->d_ff > c->d_model ? c->d_ff : c->d_model;
    struct job j = {.w = w, .c = c, .k = k, .block = block_bytes(c),
                    .work_bytes = qvl_round_up((size_t)widest * sizeof(float), QVL_ALIGN)};
    uint64_t bytes = qvl_vision_quant_bytes(c);
    if (!bytes)
        return qvl_fail(err, QVL_E_LIMIT, "vision encoder in 8 bits: the size overflows");
    QVL_TRY(qvl_pages_open(pages, bytes, "the vision encoder in 8 bits", err));
    j.dst = pages->data;
    j.work = qvl_alloc(qvl_pool_size(pool), j.work_bytes);
    if (!j.work) {
        qvl_pages_close(pages);
        return qvl_fail_nomem(err, j.work_bytes * qvl_pool_size(pool), "packing the vision encoder");
    }
    qvl_pool_run(pool, pack, &j);
    point(&j);
    qvl_mem_free(j.work);
    return 0;
}
