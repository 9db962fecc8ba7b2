/* onnx_parts.h - what the files around onnx_model.c share; fuzzing begins here, too. */
#ifndef QVL_MODEL_ONNX_PARTS_H
#define QVL_MODEL_ONNX_PARTS_H

#include "model/onnx_model.h"

/* ---- onnx_model.c */
/* Tensors from m->graph and m->embedding, which are open, and from `rest` (may be NULL). On failure m is still to be closed. */
int qvl_onnx_model_collect(struct qvl_onnx_model *m, const struct qvl_config *c, const struct qvl_tensors *rest, qvl_err *err);

/* ---- onnx_check.c */
/* Paths of the decoder's file and of the embedding's (NULL: none), from qvl_alloc, on failure too. */
int qvl_genai_files(const char *path, const struct qvl_text_config *c, char **decoder, char **embedding, qvl_err *err);
/* Attributes of norms, attention and rotation that the configuration knows as well. */
int qvl_onnx_check_node(const struct qvl_onnx *o, const struct qvl_onnx_node *n, const struct qvl_text_config *c, qvl_err *err);
/* The base of the rotation, from the tables in the file. */
int qvl_onnx_check_rotation(const struct qvl_onnx *o, const struct qvl_text_config *c, qvl_err *err);

#endif
