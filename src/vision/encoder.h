/* encoder.h - the vision tower: patch rows -> features for the decoder.
 *
 * Section 5 of docs/model.md. One call encodes one picture; the patches of a picture attend to each other within one
 * temporal step only. */
#ifndef QVL_VISION_ENCODER_H
#define QVL_VISION_ENCODER_H

#include "base/arena.h"
#include "base/trace.h"
#include "base/watch.h"
#include "image/image.h"
#include "kernels/kernels.h"
#include "model/weights.h"

/* vision -> decoder. Rows are merged tokens in block order. */
struct qvl_vision_features {
    int64_t n_token;            /* grid_t * grid_h/merge * grid_w/merge */
    int d_out;                  /* = text d_model */
    int n_tap;
    float *main;                /* [n_token][d_out] f32 */
    float *tap[QVL_MAX_TAPS];   /* each [n_token][d_out] f32: added after decoder layers 0, 1, ... */
    void *mem;                  /* owns everything above */
    size_t bytes;
};
/* Room for n_token rows of every set; contents undefined. */
int qvl_vision_features_alloc(struct qvl_vision_features *f, const struct qvl_vision_config *c, int64_t n_token, qvl_err *err);
void qvl_vision_features_free(struct qvl_vision_features *f);

struct qvl_vision {             /* what all pictures share; borrowed */
    const struct qvl_vision_config *config;
    const struct qvl_vision_weights *weights;
    const struct qvl_kernels *kernels;
    enum qvl_arith arith;
    struct qvl_arena *work;     /* work memory kept from one picture to the next, the caller's to close; NULL: none is kept */
};

/* Memory that encoding n_patch patches (n_seg of them to a temporal step) takes while it runs, and that its features keep. */
int qvl_vision_bytes(const struct qvl_vision *v, int64_t n_patch, int64_t n_seg, int n_threads, size_t *work, size_t *features);

/* watch may be NULL; its done grows by depth+1. QVL_E_CANCELLED when it asked to stop. */
int qvl_vision_encode(struct qvl_vision_features *out, const struct qvl_vision *v, const struct qvl_patches *p,
                      struct qvl_pool *pool, struct qvl_watch *watch, struct qvl_trace *trace, qvl_err *err);

#endif
