/* lora.h - a low-rank adapter in the PEFT layout (adapter_config.json, adapter_model.safetensors) for the text decoder.
 *
 *   y = W x + scale * B (A x),   scale = lora_alpha / r (or / sqrt(r)) times what the user says
 *
 * A and B stay where they are mapped. Adapters that change anything else (the vision encoder, experts, embeddings, biases, the base
 * weights themselves, directions as in DoRA) are refused, never half-applied. */
#ifndef QVL_MODEL_LORA_H
#define QVL_MODEL_LORA_H

#include <regex.h>

#include "formats/tensor_source.h"
#include "kernels/kernels.h"
#include "model/config.h"

enum qvl_lora_place {
    QVL_LORA_Q, QVL_LORA_K, QVL_LORA_V, QVL_LORA_O, QVL_LORA_GATE, QVL_LORA_UP, QVL_LORA_DOWN, QVL_LORA_PLACES
};

struct qvl_lora_pair {
    struct qvl_mat a;   /* [rank][n_in] */
    struct qvl_mat b;   /* [n_out][rank] */
    float scale;        /* 0: nothing is added here, and a and b may be empty */
};

struct qvl_lora {
    struct qvl_tensors *file;
    struct qvl_lora_pair *layers; /* [n_layer][QVL_LORA_PLACES] */
    struct qvl_lora_pair head;
    int64_t rank;       /* the largest */
    uint64_t bytes;     /* of the matrices */
};

/* dir: a folder with both files. scale multiplies the adapter's own; 0 leaves every pair out. On failure nothing is left to free. */
int qvl_lora_open(struct qvl_lora *l, const char *dir, double scale, const struct qvl_text_config *c, qvl_err *err);
void qvl_lora_close(struct qvl_lora *l);

/* adapter_config.json, as far as it bears on the numbers. */
struct qvl_lora_pattern {
    regex_t module;
    double value;
};
struct qvl_lora_config {
    double r, alpha;
    int rslora;
    struct qvl_lora_pattern *ranks, *alphas; /* in the order of the file: the first that matches a module's name counts */
    size_t n_ranks, n_alphas;
};
int qvl_lora_config_parse(struct qvl_lora_config *c, const char *text, size_t len, const char *what, qvl_err *err);
void qvl_lora_config_free(struct qvl_lora_config *c);
/* Rank and scale of a module by its full name ("model.language_model.layers.0.self_attn.q_proj"). */
void qvl_lora_config_of(const struct qvl_lora_config *c, const char *module, double *rank, double *scale);

#endif
