/* safetensors.h - what the single-file reader offers to the folder reader. The public side is tensor_source.h. */
#ifndef QVL_FORMATS_SAFETENSORS_H
#define QVL_FORMATS_SAFETENSORS_H

#include "formats/tensor_set.h"

/* Checks the bytes of f and appends its tensors to t. */
int qvl_st_add(struct qvl_tensors *t, struct qvl_tensor_file *f, qvl_err *err);
/* Maps the file and adds it. */
int qvl_st_add_path(struct qvl_tensors *t, const char *path, qvl_err *err);

#endif
