/* weights_slots.h - the list of tensors a configuration asks for: written once, walked by binding, estimating and
 * random filling. */
#ifndef QVL_MODEL_WEIGHTS_SLOTS_H
#define QVL_MODEL_WEIGHTS_SLOTS_H

#include "base/pages.h"
#include "model/weights.h"

enum qvl_slot_kind {
    QVL_SLOT_MAT,     /* [n_out][n_in] matrix at mat */
    QVL_SLOT_VEC,     /* [n_out] vector at vec, f32 */
    QVL_SLOT_PATCH,   /* patch weight: a matrix in the file's five dimensions */
    QVL_SLOT_HEAD,    /* lm_head.weight: may be absent when tied */
    QVL_SLOT_EXPERTS  /* all experts of a layer: n_expert x (gate, up [n_out][n_in] and down [n_in][n_out]) */
};

struct qvl_slot {
    enum qvl_slot_kind kind;
    const char *name;        /* canonical; for experts everything up to "mlp." inclusive */
    int64_t n_out, n_in, n_expert;
    int ones;                /* vectors: a norm's weight */
    struct qvl_mat *mat;
    const float **vec;
    struct qvl_layer_weights *layer; /* experts: e_gate, e_up, e_down are [n_expert] */
};

typedef int (*qvl_slot_fn)(void *ud, const struct qvl_slot *slot);

/* Calls fn for every tensor of the configuration in a fixed order; stops at the first non-zero result and returns it.
 * w may be NULL: then the destinations are NULL, too. Otherwise its blocks, layers and experts are allocated. */
int qvl_weights_each(struct qvl_weights *w, const struct qvl_config *c, qvl_slot_fn fn, void *ud);

/* What weights.c allocates besides the tensors, and how it is given back. */
struct qvl_weights_owned {
    struct qvl_vision_block_weights *blocks;
    struct qvl_layer_weights *layers;
    struct qvl_mat *experts; /* [sparse layers][3][n_expert] */
    float *vectors;
    void *patch;             /* reordered patch weight, or NULL */
    struct qvl_pages pages;  /* random weights, all in one */
    char *warnings;
};

/* Allocates w->owned, blocks, layers and experts, all zero. On failure qvl_weights_free is still due. */
int qvl_weights_alloc(struct qvl_weights *w, const struct qvl_config *c, qvl_err *err);

#endif
