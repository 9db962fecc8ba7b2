/* onnx_file.h - the inside of struct qvl_onnx: onnx.c opens and looks up, onnx_parse.c reads the graph, onnx_tensor.c the
 * tensors. */
#ifndef QVL_FORMATS_ONNX_FILE_H
#define QVL_FORMATS_ONNX_FILE_H

#include "formats/onnx.h"
#include "formats/protobuf.h"
#include "formats/tensor_set.h"

struct qvl_onnx {
    struct qvl_tensors *tensors;       /* files[0] is the model, the others are external */
    char *folder;                      /* of the model; NULL in memory */
    int listed;                        /* external files may be missing or short: their tensors have no data */
    const void *external;              /* in memory: every external file */
    size_t external_size;
    struct qvl_onnx_node *nodes;
    size_t n_nodes;
    const char **names;                /* inputs and outputs of all nodes */
    struct qvl_onnx_attr *attrs;
    struct qvl_onnx_output *outputs;   /* sorted by name */
    size_t n_outputs;
    void **owned;                      /* converted typed arrays */
    size_t n_owned, cap_owned;
};

struct qvl_onnx_output {
    const char *name;
    const struct qvl_onnx_node *node;
};

/* Reads the model in files[0] of o->tensors; fills everything but the index of names. */
int qvl_onnx_parse(struct qvl_onnx *o, qvl_err *err);
/* A TensorProto → one more entry of o->tensors, for which there is room. `name` outlives o. */
int qvl_onnx_add_tensor(struct qvl_onnx *o, struct qvl_pb m, const char *name, qvl_err *err);
/* External tensors may be the same bytes, but must not overlap otherwise. */
int qvl_onnx_check_overlap(const struct qvl_onnx *o, qvl_err *err);

#endif
