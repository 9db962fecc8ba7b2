/* convert_q8.h - matrices whose stored codes are q8's own: put in order, never quantised again. As convert_q4.h. */
#ifndef QVL_MODEL_CONVERT_Q8_H
#define QVL_MODEL_CONVERT_Q8_H

#include "formats/coded.h"
#include "kernels/quant.h"

/* 1 when the codes of this many bits are distances from the middle, in groups of a multiple of QVL_GROUP inputs or whole rows, with
 * scales inside the range of f16. *exact = 1 when all scales are f16 numbers. Reads all scales. */
int qvl_convert_coded_can(const struct qvl_coded *q, int bits, int *exact);
/* The same for a matrix of any type: 1 for 8-bit codes of QVL_DT_CODED. */
int qvl_convert_q8_can(const struct qvl_mat *m, int *exact);
/* Rows [row0, row1), packed, to `dst`, the place of row0; what rounding the scales costs is returned as by qvl_quant_pack. */
struct qvl_quant_error qvl_convert_q8(void *dst, const struct qvl_mat *m, int64_t row0, int64_t row1);

#endif
