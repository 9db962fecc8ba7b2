/* moe.h - the mixture-of-experts MLP of sparse layers. */
#ifndef QVL_DECODER_MOE_H
#define QVL_DECODER_MOE_H

#include "base/arena.h"
#include "decoder/moments.h"
#include "kernels/kernels.h"
#include "model/weights.h"

struct qvl_moe { /* work memory, shared by the team */
    float *router;      /* [n_tok][n_expert] logits, then probabilities */
    int32_t *chosen;    /* [n_tok][n_used] expert ids */
    float *share;       /* [n_tok][n_used] */
    int32_t *first;     /* [n_expert+1] where an expert's tokens begin in token/slot */
    int32_t *token;     /* [n_tok*n_used] tokens sorted by expert, ascending */
    float *token_share; /* [n_tok*n_used] */
    float *in;          /* [n_tok][d_model] rows gathered for one expert */
    float *gate, *up;   /* [n_tok][d_ff_expert] */
    float *out;         /* [n_tok][d_model] */
    struct qvl_moments *moments; /* of a calibration run, or NULL */
    int layer;          /* the one at hand, for them */
};

void qvl_moe_take(struct qvl_moe *m, struct qvl_arena *a, const struct qvl_text_config *c, int64_t n_tok);

/* x[n_tok][d_model] += sum over the chosen experts of share * expert(h). Contract of a team operation, ends with a barrier. */
void qvl_moe_run(const struct qvl_team *t, const struct qvl_kernels *k, enum qvl_arith arith, const struct qvl_text_config *c,
                 const struct qvl_layer_weights *w, struct qvl_moe *m, float *x, const float *h, int64_t n_tok,
                 const struct qvl_scratch *scratch);

#endif
