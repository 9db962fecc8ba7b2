/* convert_q4.h - matrices whose stored codes are q4's own: put in order, never quantised again. */
#ifndef QVL_MODEL_CONVERT_Q4_H
#define QVL_MODEL_CONVERT_Q4_H

#include "kernels/quant.h"

/* 1 for GGUF's Q4_0 with finite scales, and for 4-bit codes in blocks of a multiple of QVL_GROUP inputs (or of whole rows), with
 * the middle as zero point everywhere and scales inside the range of f16. *exact = 1 when all scales are f16 numbers: then the
 * packed matrix has the very weights of m. Reads all scales. */
int qvl_convert_q4_can(const struct qvl_mat *m, int *exact);
/* Rows [row0, row1) of such a matrix, packed, to `dst`, the place of row0, with the rules of qvl_quant_pack for rows.
 * Codes stay, scales are rounded to f16: what that costs is returned as by qvl_quant_pack. */
struct qvl_quant_error qvl_convert_q4(void *dst, const struct qvl_mat *m, int64_t row0, int64_t row1);
/* Row `row` of such a matrix as blocks of GGUF's Q4_0, which have q4's grid and scales; n_in must be a multiple of QVL_GROUP. The same
 * is returned. */
struct qvl_quant_error qvl_convert_to_q4_0(void *dst, const struct qvl_mat *m, int64_t row);
/* 1 when the weights of every QVL_GROUP inputs lie on a grid of at most 16 steps, wherever it begins: codes of up to 4 bits with a
 * minimum or a zero point. Packing as QVL_DT_Q4M finds them again. Looks at the type, not at the weights. */
int qvl_convert_q4m_can(const struct qvl_mat *m);

#endif
