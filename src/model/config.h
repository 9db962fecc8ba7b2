/* config.h - config.json, generation_config.json and preprocessor_config.json, checked and in one place. */
#ifndef QVL_MODEL_CONFIG_H
#define QVL_MODEL_CONFIG_H

#include <stdint.h>

#include "base/buf.h"
#include "model/quant_config.h"
#include "qvl.h"

#define QVL_MAX_TAPS 16  /* DeepStack taps */
#define QVL_MAX_EOS 16

struct qvl_text_config {
    int n_layer, d_model, n_head, n_kv, d_head, d_ff, n_vocab; /* d_ff: of dense layers; may be 0 when there are none */
    int max_positions;
    double rope_theta;
    int rope_section[3];    /* T, H, W; their sum is d_head/2 */
    double rope_factor;     /* 1, or the factor of YaRN (then rope_original > 0) */
    int rope_original;
    double rms_eps;
    int tied;               /* head = embedding, unless the checkpoint stores a head all the same */
    int tied_unsaid;        /* no file says it: then tied = 1, and a stored head decides */
    /* mixture of experts; n_expert = 0 for dense models */
    int n_expert, n_expert_used, d_ff_expert;
    int norm_topk;          /* always 1: the reference renormalises whatever norm_topk_prob says */
    int sparse_step;        /* layer i is sparse when n_expert > 0, (i+1) % sparse_step == 0 and it is not in mlp_only */
    uint8_t *is_sparse;     /* [n_layer] 0/1, or NULL for dense models; owned */
};

struct qvl_vision_config {
    int depth, d_model, n_head, d_ff, d_out; /* d_out = text d_model */
    int patch, temporal_patch, merge, n_channel;
    int n_pos_side;         /* sqrt(num_position_embeddings) */
    int n_tap, tap[QVL_MAX_TAPS]; /* deepstack_visual_indexes, in the order of the file */
    int act_tanh;           /* 1 gelu_pytorch_tanh, 0 erf gelu ("gelu") in the blocks */
};

struct qvl_image_config {   /* preprocessor_config.json */
    uint64_t min_pixels, max_pixels;
    float mean[3], std[3];
};

struct qvl_generation_config {
    int do_sample;
    float temperature, top_p, min_p, repetition_penalty;
    int top_k;
    int n_eos, eos[QVL_MAX_EOS]; /* from generation_config, else config */
};

struct qvl_config {
    struct qvl_text_config text;
    struct qvl_vision_config vision;
    struct qvl_image_config image;
    struct qvl_generation_config gen;
    int image_token, video_token, vision_start_token, vision_end_token;
    int moe;                /* the _moe architecture */
    struct qvl_quant_config quant;
};

/* Reads the files of a model folder. Only config.json is indispensable. Messages name file and field.
 *
 * Accepted: the published files and what transformers 5 writes (rope_parameters, processor_config.json). What has no
 * safe default and is absent is an error, above all rope_theta, whose class default changed between releases. Without
 * generation_config.json answers are greedy and end at config.json's eos_token_id. Methods of quantisation that are not
 * supported (quant_config.h), unknown architectures and rotations other than "default" and plain YaRN are QVL_E_UNSUPPORTED. */
int qvl_config_load(struct qvl_config *c, const char *dir, qvl_err *err);
/* From texts in memory (NULL = absent): for tests and fuzzing. `preprocessor` may also be a processor_config.json. On
 * failure there is nothing to free. */
int qvl_config_parse(struct qvl_config *c, const char *config, const char *generation, const char *preprocessor, qvl_err *err);
void qvl_config_free(struct qvl_config *c);

/* The texts of config.json, generation_config.json and preprocessor_config.json that qvl_config_parse makes the same of. */
int qvl_config_write(struct qvl_buf *b, const struct qvl_config *c, qvl_err *err);
int qvl_config_write_generation(struct qvl_buf *b, const struct qvl_config *c, qvl_err *err);
int qvl_config_write_preprocessor(struct qvl_buf *b, const struct qvl_config *c, qvl_err *err);

/* The published shapes: "2b", "4b", "8b", "32b", "30b-a3b", "235b-a22b" (in any case). QVL_E_ARG for other names. */
int qvl_config_shape(struct qvl_config *c, const char *shape, qvl_err *err);

#endif
