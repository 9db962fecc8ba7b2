/* onnx_parts.h - what onnx_check.c does for onnx_model.c: genai_config.json, and where the graph must agree with the
 * configuration. */
#ifndef QVL_MODEL_ONNX_PARTS_H
#define QVL_MODEL_ONNX_PARTS_H

#include "formats/onnx.h"
#include "model/config.h"

/* Paths of the decoder's file and of the embedding's (NULL: none), from qvl_alloc, on failure too. */
int qvl_genai_files(const char *path, const struct qvl_text_config *c, char **decoder, char **embedding, qvl_err *err);
/* Attributes of norms, attention and rotation that the configuration knows as well. */
int qvl_onnx_check_node(const struct qvl_onnx *o, const struct qvl_onnx_node *n, const struct qvl_text_config *c, qvl_err *err);
/* The base of the rotation, from the tables in the file. */
int qvl_onnx_check_rotation(const struct qvl_onnx *o, const struct qvl_text_config *c, qvl_err *err);

#endif
