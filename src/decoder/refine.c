/* refine.c - see refine.h. */
#include "decoder/refine.h"

#include <math.h>

#include "base/mem.h"
#include "kernels/quant.h"

enum { PIECE = 256, LANES = 16, SAMPLES = 16 };
#define ALIKE 0.9 /* 4 bits leave 0.995; heads of their own are far below */

void qvl_refine_take(struct qvl_refine *r, struct qvl_arena *a, int n_threads)
{
    r->found = qvl_arena_take(a, (size_t)n_threads * QVL_REFINE_ROWS, sizeof *r->found);
    r->n = qvl_arena_take(a, (size_t)n_threads, sizeof *r->n);
}

static int is_numbers(enum qvl_dtype t) { return t == QVL_DT_F32 || t == QVL_DT_BF16 || t == QVL_DT_F16; }

/* Cosine between a row of the head and its row of the table; 1 when both are zero. packed: room for a row. */
static double likeness(const struct qvl_mat *head, const struct qvl_mat *table, int64_t row, const struct qvl_kernels *k, float *packed,
                       float *number)
{
    const size_t width = table->type == QVL_DT_F32 ? 4 : 2;
    double ab = 0, aa = 0, bb = 0;
    qvl_quant_row(packed, head, row);
    k->to_f32(number, (const char *)table->data + (size_t)(row * table->stride) * width, table->type, table->n_in);
    for (int64_t i = 0; i < table->n_in; i++) {
        ab += (double)packed[i] * (double)number[i];
        aa += (double)packed[i] * (double)packed[i];
        bb += (double)number[i] * (double)number[i];
    }
    return aa + bb > 0 ? ab / sqrt(aa * bb) : 1;
}

int qvl_refine_can(const struct qvl_mat *head, const struct qvl_mat *table, const struct qvl_kernels *k)
{
    if (!qvl_dtype_is_packed(head->type) || !is_numbers(table->type) || table->transposed || table->n_out != head->n_out ||
        table->n_in != head->n_in || table->n_out < SAMPLES)
        return 0;
    float *work = qvl_alloc(2 * (size_t)table->n_in, sizeof *work);
    int same = work != NULL;
    for (int i = 0; i < SAMPLES && same; i++)
        same = likeness(head, table, table->n_out / SAMPLES * i, k, work, work + table->n_in) >= ALIKE;
    qvl_mem_free(work);
    return same;
}

static int worse(const struct qvl_candidate *a, const struct qvl_candidate *b)
{
    return a->logit < b->logit || (a->logit == b->logit && a->id > b->id);
}

/* The worst is at the root. */
static void sift_down(struct qvl_candidate *heap, int n, int i)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && worse(&heap[child + 1], &heap[child]))
            child++;
        if (!worse(&heap[child], &heap[i]))
            return;
        const struct qvl_candidate x = heap[i];
        heap[i] = heap[child];
        heap[child] = x;
    }
}

static void offer(struct qvl_candidate *heap, int32_t *n, struct qvl_candidate c)
{
    if (*n < QVL_REFINE_ROWS) {
        heap[(*n)++] = c;
        if (*n == QVL_REFINE_ROWS)
            for (int i = QVL_REFINE_ROWS / 2; i-- > 0;)
                sift_down(heap, QVL_REFINE_ROWS, i);
    } else if (worse(&heap[0], &c)) {
        heap[0] = c;
        sift_down(heap, QVL_REFINE_ROWS, 0);
    }
}

/* h . row of the table, in LANES sums that are added in order. */
static float dot(const struct qvl_kernels *k, const struct qvl_mat *table, int32_t id, const float *h)
{
    const size_t width = table->type == QVL_DT_F32 ? 4 : 2;
    const char *row = (const char *)table->data + (size_t)(id * table->stride) * width;
    float piece[PIECE], lane[LANES] = {0}, sum = 0;
    for (int64_t at = 0; at < table->n_in; at += PIECE) {
        const int64_t n = table->n_in - at < PIECE ? table->n_in - at : PIECE;
        k->to_f32(piece, row + (size_t)at * width, table->type, n);
        for (int64_t i = 0; i + LANES <= n; i += LANES)
            for (int j = 0; j < LANES; j++)
                lane[j] += piece[i + j] * h[at + i + j];
        for (int64_t i = n / LANES * LANES; i < n; i++)
            lane[i % LANES] += piece[i] * h[at + i];
    }
    for (int j = 0; j < LANES; j++)
        sum += lane[j];
    return sum;
}

void qvl_refine_run(const struct qvl_team *t, const struct qvl_kernels *k, struct qvl_refine *r, const struct qvl_mat *table,
                    float *logits, const float *h)
{
    int64_t lo, hi;
    struct qvl_candidate *own = r->found + t->id * QVL_REFINE_ROWS;
    qvl_team_barrier(t);
    qvl_team_share(t, table->n_out, 1, &lo, &hi);
    r->n[t->id] = 0;
    for (int64_t i = lo; i < hi; i++)
        if (r->n[t->id] < QVL_REFINE_ROWS ? logits[i] == logits[i] : logits[i] >= own[0].logit) /* never NaN */
            offer(own, &r->n[t->id], (struct qvl_candidate){logits[i], (int32_t)i});
    qvl_team_barrier(t);
    if (t->id == 0)
        for (int other = 1; other < t->n; other++)
            for (int32_t i = 0; i < r->n[other]; i++)
                offer(r->found, &r->n[0], r->found[other * QVL_REFINE_ROWS + i]);
    qvl_team_barrier(t);
    qvl_team_share(t, r->n[0], 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++)
        logits[r->found[i].id] = dot(k, table, r->found[i].id, h);
    qvl_team_barrier(t);
}
