/* onnx.h - ONNX models: tensors as a set of checked views, and the nodes of the top graph. Nothing is executed, and
 * nothing here knows about a model.
 *
 * Tensors are the initialisers and the values of Constant nodes, wherever their bytes are: in the file, in typed arrays
 * (these are converted), or in an external file of the same folder. Subgraphs and functions are not looked at. */
#ifndef QVL_FORMATS_ONNX_H
#define QVL_FORMATS_ONNX_H

#include "formats/tensor_source.h"

#define QVL_ONNX_MAX_BYTES 0x7fffffffu /* of the model file itself: protobuf's own limit */
#define QVL_ONNX_MAX_NODES (1u << 20)
#define QVL_ONNX_MAX_TENSORS (1u << 20)
#define QVL_ONNX_MAX_NAMES (1u << 22)  /* inputs and outputs of all nodes */
#define QVL_ONNX_MAX_NAME 4096u
#define QVL_ONNX_MAX_INTS 8            /* values kept of a list attribute; longer lists keep their length only */

struct qvl_onnx_attr {
    const char *name;
    int64_t i;
    float f;
    int has_i, has_f;
    int n_ints;
    int64_t ints[QVL_ONNX_MAX_INTS];
};

struct qvl_onnx_node {
    const char *op, *domain, *name; /* "" when absent */
    const char *const *input, *const *output; /* "" for an omitted one */
    size_t n_input, n_output;
    const struct qvl_onnx_attr *attr;
    size_t n_attr;
};

struct qvl_onnx; /* immutable after open, safe to read from several threads */

/* Maps the model and its external files, which must not be shortened meanwhile (see qvl_safetensors_open). */
int qvl_onnx_open(struct qvl_onnx **out, const char *path, qvl_err *err);
/* The same to look at the graph alone: external files may be missing or too short, and tensors that would lie there have no data but
 * say file, offset and bytes all the same. Nothing else may be done with it. */
int qvl_onnx_open_listed(struct qvl_onnx **out, const char *path, qvl_err *err);
/* From memory (borrowed): every external file is `external`. For tests and fuzzing. */
int qvl_onnx_open_memory(struct qvl_onnx **out, const void *data, size_t size, const void *external, size_t external_size,
                         const char *what, qvl_err *err);
void qvl_onnx_close(struct qvl_onnx **o);

/* Element types are named as in ONNX ("FLOAT"); those without a type of ours, and strings, are QVL_DT_UNKNOWN. */
const struct qvl_tensors *qvl_onnx_tensors(const struct qvl_onnx *o);
size_t qvl_onnx_count(const struct qvl_onnx *o);
const struct qvl_onnx_node *qvl_onnx_node(const struct qvl_onnx *o, size_t i); /* in file order */
/* The node that computes this value; NULL for inputs of the graph and for tensors. */
const struct qvl_onnx_node *qvl_onnx_producer(const struct qvl_onnx *o, const char *value);
/* "" behind the last one. */
const char *qvl_onnx_input(const struct qvl_onnx_node *n, size_t i);
/* The tensor that is input i, NULL when it is computed or omitted. */
const struct qvl_tensor *qvl_onnx_input_tensor(const struct qvl_onnx *o, const struct qvl_onnx_node *n, size_t i);
const struct qvl_onnx_attr *qvl_onnx_attr(const struct qvl_onnx_node *n, const char *name);
int64_t qvl_onnx_attr_int(const struct qvl_onnx_node *n, const char *name, int64_t def);

/* 1 for a plain file name: no folder, drive, leading dot or control character. */
int qvl_onnx_plain_name(const char *name);

#endif
