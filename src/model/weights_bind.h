/* weights_bind.h - what weights.c shares with weights_experts.c while binding. */
#ifndef QVL_MODEL_WEIGHTS_BIND_H
#define QVL_MODEL_WEIGHTS_BIND_H

#include "model/weights_slots.h"

struct qvl_bind_name {
    const char *canonical;
    const struct qvl_tensor *tensor;
    int used;
};

struct qvl_binder {
    struct qvl_weights *w;
    const struct qvl_config *config;
    const struct qvl_tensors *source;
    struct qvl_bind_name *names; /* [n_names], sorted by canonical name */
    size_t n_names, n_used;
    char *strings;
    int checking;                /* first pass: nothing is written */
    float *vectors;              /* where the next vector goes */
    char first_missing[160];
    size_t n_missing;
    qvl_err *err;
};

/* Vectors start at multiples of 64 bytes. */
static inline size_t qvl_vector_elems(int64_t n) { return ((size_t)n + 15) / 16 * 16; }

/* NULL when there is none; otherwise it counts as used. */
const struct qvl_tensor *qvl_bind_find(struct qvl_binder *b, const char *canonical);
void qvl_bind_missing(struct qvl_binder *b, const char *canonical);
int qvl_bind_shape_is(const struct qvl_tensor *t, int rank, const int64_t *dims);
int qvl_bind_wrong_shape(struct qvl_binder *b, const struct qvl_tensor *t, int rank, const int64_t *dims);
/* Fails unless the type has elements that stand for themselves: BF16, F16 or F32. */
int qvl_bind_type(struct qvl_binder *b, const struct qvl_tensor *t);
/* The same for matrices, which may also be foreign (foreign.h). */
int qvl_bind_mat_type(struct qvl_binder *b, const struct qvl_tensor *t);
int qvl_bind_experts(struct qvl_binder *b, const struct qvl_slot *s);

#endif
