/* refine.h - the best logits of a packed head, computed again from the full-precision table.
 *
 * With tied weights the embedding stays in the checkpoint's type for looking up rows. A packed head then only has to find
 * the candidates: the few rows that can win are read from the table (64 x 5 KB for 4B, against the 400 MB that a head of 8 bits would
 * read), so that ranking and probabilities are those of the full-precision head where they matter. */
#ifndef QVL_DECODER_REFINE_H
#define QVL_DECODER_REFINE_H

#include "base/arena.h"
#include "kernels/kernels.h"

enum { QVL_REFINE_ROWS = 64 };

struct qvl_candidate {
    float logit;
    int32_t id;
};

struct qvl_refine {
    struct qvl_candidate *found; /* [threads][QVL_REFINE_ROWS]; the first of them gets the result */
    int32_t *n;                  /* [threads] */
};

/* Memory for a team of n_threads. */
void qvl_refine_take(struct qvl_refine *r, struct qvl_arena *a, int n_threads);
/* 1 when the head is packed, the table has numbers, and the head was made from it: rows of both are compared, since a checkpoint may
 * store a head of its own whatever its configuration says. */
int qvl_refine_can(const struct qvl_mat *head, const struct qvl_mat *table, const struct qvl_kernels *k);
/* Team operation: the QVL_REFINE_ROWS largest of logits[n_vocab] (equal ones: lower ids first) become h . table row, summed in f32.
 * Begins and ends with a barrier. The result depends on neither the team nor the level. */
void qvl_refine_run(const struct qvl_team *t, const struct qvl_kernels *k, struct qvl_refine *r, const struct qvl_mat *table,
                    float *logits, const float *h);

#endif
