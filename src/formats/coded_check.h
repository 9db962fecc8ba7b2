/* coded_check.h - what the readers of coded matrices (coded.h) share: checks of one tensor, with messages. */
#ifndef QVL_FORMATS_CODED_CHECK_H
#define QVL_FORMATS_CODED_CHECK_H

#include "formats/coded.h"

static inline int64_t qvl_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* "FILE: MODULE: tensor NAME: found [2,3] I32, expected ..." */
int qvl_coded_wrong(const struct qvl_coded_parts *p, const struct qvl_tensor *t, const char *expected, qvl_err *err);
/* Starts a description: sizes inside the limits, weight and scales there (else they are named as missing). */
int qvl_coded_begin(struct qvl_coded *q, const struct qvl_coded_parts *p, const char *name, qvl_err *err);
/* The tensor has this type and two dimensions. type QVL_DT_U32 takes I32, too: words are words. */
int qvl_coded_matrix(const struct qvl_coded_parts *p, const struct qvl_tensor *t, enum qvl_dtype type, int64_t rows, int64_t cols,
                     qvl_err *err);
/* F32, F16 or BF16, of two dimensions, all finite. Sets scale_type. */
int qvl_coded_floats(struct qvl_coded *q, const struct qvl_coded_parts *p, const struct qvl_tensor *t, int64_t rows, int64_t cols,
                     qvl_err *err);
/* groups: [n_in] I32 inside [0, n_group); left out when it says what k / group says. */
int qvl_coded_groups(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);
int64_t qvl_tensor_elems(const struct qvl_tensor *t);
/* Sums the bytes of all tensors. */
void qvl_coded_count(struct qvl_coded *q, const struct qvl_coded_parts *p);

#endif
