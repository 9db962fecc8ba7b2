/* weights.h - the tensors of a checkpoint, bound by name to the places where the arithmetic needs them.
 *
 * Big matrices stay where they are mapped (F32, F16, BF16 or foreign blocks, any alignment). Vectors (norms, biases) are widened to f32 in memory of our own. Binding
 * checks exact type, rank and dimensions against the configuration once; afterwards code trusts them. */
#ifndef QVL_MODEL_WEIGHTS_H
#define QVL_MODEL_WEIGHTS_H

#include "base/watch.h"
#include "formats/tensor_source.h"
#include "kernels/kernels.h"
#include "model/config.h"

struct qvl_norm_weights {   /* LayerNorm; bias NULL for RMSNorm */
    const float *w, *b;
};

struct qvl_vision_block_weights {
    struct qvl_norm_weights norm1, norm2;
    struct qvl_mat qkv, proj, fc1, fc2;
    const float *qkv_b, *proj_b, *fc1_b, *fc2_b;
};

struct qvl_merger_weights {
    struct qvl_norm_weights norm;   /* main merger: [C]; DeepStack mergers: [merge^2 * C] */
    struct qvl_mat fc1, fc2;
    const float *fc1_b, *fc2_b;
};

struct qvl_vision_weights {
    struct qvl_mat patch;           /* [C][n_channel*temporal*patch*patch] in the element order of patch rows */
    const float *patch_b;
    struct qvl_mat pos;             /* [n_pos_side^2][C]: rows are looked up, not multiplied */
    struct qvl_vision_block_weights *blocks; /* [depth] */
    struct qvl_merger_weights merger, tap[QVL_MAX_TAPS];
};

struct qvl_layer_weights {
    const float *norm1, *norm2;     /* [d_model] */
    const float *q_norm, *k_norm;   /* [d_head] */
    struct qvl_mat q, k, v, o;
    struct qvl_mat gate, up, down;  /* dense layers */
    struct qvl_mat router;          /* sparse layers: [n_expert][d_model] */
    struct qvl_mat *e_gate, *e_up, *e_down; /* sparse layers: [n_expert], transposed or not as the file has them */
};

struct qvl_text_weights {
    struct qvl_mat embed;           /* [n_vocab][d_model]: rows are looked up */
    struct qvl_mat head;            /* [n_vocab][d_model]; = embed when tied */
    const float *norm;              /* [d_model] */
    struct qvl_layer_weights *layers; /* [n_layer] */
};

struct qvl_weights {
    struct qvl_vision_weights vision;
    struct qvl_text_weights text;
    uint64_t mapped_bytes;          /* used in place */
    uint64_t copied_bytes;          /* in memory of our own */
    uint64_t n_params;
    void *owned;                    /* bookkeeping of weights.c */
};

/* Binds every tensor that the configuration asks for. The source must outlive the weights.
 *
 * Names: every variant that qvl_canonical_name folds; two tensors that fold into one name are an error.
 * Head: a stored lm_head.weight is used even when the configuration ties it to the embedding (then both are equal, or
 * somebody trained it); without one a tied model uses the embedding.
 * Patch weight: [C][channel][t][y][x], or channels last (then copied into order; the former wins when both fit).
 * Experts of a layer: `experts.gate_up_proj` + `experts.down_proj` as published, [E][H][2F] and [E][F][H], or output
 * first, [E][2F][H] and [E][H][F]. When H = 2F or H = F one of the two fits both ways: the other one decides, and the
 * layouts are never mixed inside a layer. Also `experts.N.{gate,up,down}_proj.weight`, and
 * `switch_mlp.{gate,up,down}_proj.weight` [E][F][H] / [E][H][F]. */
int qvl_weights_bind(struct qvl_weights *w, const struct qvl_config *c, const struct qvl_tensors *t, qvl_err *err);
/* Random weights of the configuration's shapes in `type` (F32 or BF16; QVL_DT_Q4 or QVL_DT_Q8: the decoder's matrices packed,
 * everything else BF16), for measuring without a download. Norm weights
 * are 1, matrices are N(0, 1/n_in) from a fixed generator. Refuses through QVL_E_NOMEM. */
int qvl_weights_random(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype type, qvl_err *err);
/* Converts every foreign matrix (foreign.h) into F32 or BF16 memory of our own: those of the vision tower into `vision`, the others
 * into `text`. No kernel computes with blocks. */
int qvl_weights_widen(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype vision, enum qvl_dtype text,
                      const struct qvl_kernels *k, struct qvl_pool *pool, struct qvl_watch *watch, qvl_err *err);
/* The memory that takes; 0 when there are no blocks. */
uint64_t qvl_weights_widened_bytes(struct qvl_weights *w, const struct qvl_config *c, enum qvl_dtype vision, enum qvl_dtype text);
void qvl_weights_free(struct qvl_weights *w);
/* What binding noticed without failing (tensors that nothing uses ...), one a line; "" when nothing. */
const char *qvl_weights_warnings(const struct qvl_weights *w);

/* Bytes that binding this configuration maps and copies, computed without opening any tensor file; `type` is the
 * checkpoint's type. Assumes the published layout: no stored head when tied, patch weight in order. QVL_E_LIMIT when
 * the sizes overflow, QVL_E_ARG for a type without a width. */
int qvl_weights_estimate(const struct qvl_config *c, enum qvl_dtype type, uint64_t *mapped, uint64_t *copied, uint64_t *n_params);

/* Canonical name of a checkpoint tensor ("visual.blocks.0.norm1.weight", "language_model.layers.0...", "lm_head.weight")
 * into buf; cut when it does not fit. Names of no known form stay as they are. */
void qvl_canonical_name(char *buf, size_t size, const char *name);

#endif
