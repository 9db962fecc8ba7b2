/* onnx_roles.h - which matrix or norm of the decoder a node of an ONNX graph holds, and where its numbers are. */
#ifndef QVL_MODEL_ONNX_ROLES_H
#define QVL_MODEL_ONNX_ROLES_H

#include "formats/nbits.h"
#include "formats/onnx.h"

enum qvl_onnx_role {
    QVL_ONNX_NONE,
    /* matrices */
    QVL_ONNX_EMBED, QVL_ONNX_HEAD, QVL_ONNX_Q, QVL_ONNX_K, QVL_ONNX_V, QVL_ONNX_O, QVL_ONNX_QKV, QVL_ONNX_GATE, QVL_ONNX_UP,
    QVL_ONNX_GATE_UP, QVL_ONNX_DOWN,
    /* vectors */
    QVL_ONNX_NORM, QVL_ONNX_NORM1, QVL_ONNX_NORM2, QVL_ONNX_Q_NORM, QVL_ONNX_K_NORM
};

struct qvl_onnx_place {
    enum qvl_onnx_role role;
    int layer; /* of the model's layers; 0 for the others */
};

static inline int qvl_onnx_role_is_vector(enum qvl_onnx_role r) { return r >= QVL_ONNX_NORM; }

/* From the name of a tensor ("model.layers.3.attn.q_proj.MatMul.weight_Q4") or of a node ("/model/layers.3/attn/q_proj/MatMul_Q4"):
 * what stands behind the role does not matter. */
struct qvl_onnx_place qvl_onnx_place_of(const char *name);

/* Where the numbers of a role are. */
struct qvl_onnx_found {
    struct qvl_onnx_place place;
    const struct qvl_tensor *tensor; /* codes, or the numbers themselves */
    int quantised;
    struct qvl_nbits nbits;          /* quantised */
    int transposed;                  /* otherwise: the tensor is [n_in][n_out] */
};

/* Looks at one node. place.role stays QVL_ONNX_NONE when it holds none. Operators and attributes that change what a weight means
 * and that are not understood are errors. n_vocab and d_model are what an embedding table must have; any_table: a look-up
 * in a table of that shape is the embedding, whatever its name (files of embeddings alone). */
int qvl_onnx_look(struct qvl_onnx_found *f, const struct qvl_onnx *o, const struct qvl_onnx_node *n, int64_t n_vocab, int64_t d_model,
                  int any_table, qvl_err *err);

#endif
