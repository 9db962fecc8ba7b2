/* adapt.h - what low-rank adapters add to the decoder's products: y += scale * B (A x), in f32 whatever the products around it. */
#ifndef QVL_DECODER_ADAPT_H
#define QVL_DECODER_ADAPT_H

#include "base/arena.h"
#include "model/lora.h"

struct qvl_adapt {
    const struct qvl_lora *list; /* [n] in the order in which they are added; borrowed */
    int n, n_layer;
    int64_t rank;                /* the largest of all */
    float *low;                  /* [3][n_tok][rank]: A x of up to three products */
};

/* One product that may be adapted. */
struct qvl_adapt_to {
    enum qvl_lora_place place;
    float *y;                    /* [n_tok][n_out] */
};

void qvl_adapt_init(struct qvl_adapt *a, const struct qvl_lora *list, int n, int n_layer);
void qvl_adapt_take(struct qvl_adapt *a, struct qvl_arena *arena, int64_t n_tok);
size_t qvl_adapt_scratch(const struct qvl_adapt *a, const struct qvl_text_config *c, const struct qvl_kernels *k, int64_t n_tok, int n_threads);
/* 1 if some adapter changes this product; layer n_layer is the head, whatever the place. */
int qvl_adapt_has(const struct qvl_adapt *a, int layer, enum qvl_lora_place place);
/* Adds to up to three products of the same x[n_tok][n_in], whose own results are complete for everybody. Contract of a team
 * operation; does nothing without adapters there, else ends with a barrier. */
void qvl_adapt_run(const struct qvl_team *t, const struct qvl_kernels *k, const struct qvl_adapt *a, int layer, const struct qvl_adapt_to *to,
                   int n_to, const float *x, int64_t n_tok, const struct qvl_scratch *s);

#endif
