/* inspect_parts.h - what the files of qvl_inspect share. */
#ifndef QVL_ENGINE_INSPECT_PARTS_H
#define QVL_ENGINE_INSPECT_PARTS_H

#include "base/json.h"
#include "qvl.h"

/* A text from outside; what is not UTF-8 is replaced. */
json_t *qvl_inspect_text(const char *s);

/* inspect_onnx.c: an .onnx file or a folder of ONNX Runtime GenAI, described in *root. */
int qvl_inspect_onnx(json_t *root, const char *path, qvl_err *err);

#endif
