/* foreign.h - matrices in the formats of other programs' files: GGUF blocks, blocks of 4 and 8 bits from ONNX, and
 * quantised safetensors. No kernel multiplies by them: they are widened (weights.h) or packed (packed.h) first, by rows. */
#ifndef QVL_MODEL_FOREIGN_H
#define QVL_MODEL_FOREIGN_H

#include "base/dtype.h"
#include "kernels/kernels.h"

static inline int qvl_dtype_is_foreign(enum qvl_dtype t) { return qvl_dtype_is_ggml(t) || qvl_dtype_is_nbits(t) || t == QVL_DT_CODED; }

/* Row `row` as f32 [n_in]. */
void qvl_foreign_row(float *dst, const struct qvl_mat *m, int64_t row);
/* Rows [row, row + n) of a matrix as it was bound (foreign, packed, F32, F16 or BF16; transposed or not) as f32 [n][n_in]. */
void qvl_mat_rows(float *dst, const struct qvl_mat *m, int64_t row, int64_t n);
/* What the matrix takes in its file. */
uint64_t qvl_foreign_bytes(const struct qvl_mat *m);

#endif
