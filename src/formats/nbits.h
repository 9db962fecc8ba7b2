/* nbits.h - weight-only quantised matrices of ONNX files: codes of 4 or 8 bits in blocks along the inputs, each with a scale
 * and perhaps a zero point.
 *
 *   w[n][k] = (code[n][k] - zero[n][b]) * scale[n][b],   b = k / block, or group[k]
 *
 * One description serves the operators that hold such matrices (MatMulNBits, GatherBlockQuantized, DequantizeLinear): they
 * differ in the order of codes, scales and zero points alone, which the strides say. Rows decode to the bits that
 * onnxruntime's operators give:
 *   packed zero point      (code - zero) * scale: the difference is exact, the product rounded once
 *   float zero point, or an order of groups    code * scale - zero * scale, each rounded */
#ifndef QVL_FORMATS_NBITS_H
#define QVL_FORMATS_NBITS_H

#include <stdint.h>

#include "formats/tensor_source.h"

#define QVL_NBITS_MAX_ROWS ((int64_t)1 << 28)
#define QVL_NBITS_MAX_INPUTS ((int64_t)1 << 24)
#define QVL_NBITS_MAX_BLOCK ((int64_t)1 << 24) /* beyond 256 nothing is usual, but "all of the row" occurs */

struct qvl_nbits {
    int bits;                        /* 4 or 8; 4: two codes in a byte, low half first, counted through the whole array */
    int is_signed;                   /* two's complement codes and zero points */
    int64_t n_out, n_in, block, n_block;
    const unsigned char *codes;      /* code (n, k) is number first + n*row + k*step of the array */
    int64_t first, row, step;
    const void *scales;              /* scale (n, b) is element scale_first + n*scale_row + b*scale_step */
    enum qvl_dtype scale_type;       /* F32, F16 or BF16; any alignment, also below */
    int64_t scale_first, scale_row, scale_step;
    const unsigned char *zeros;      /* packed like codes, NULL: default_zero */
    int64_t zero_first, zero_row, zero_step;
    int default_zero;
    const void *float_zeros;         /* elements like scales, of scale_type; NULL: none */
    const int32_t *groups;           /* [n_in] block of each input (any alignment), NULL: k / block */
};

/* The matrix of a MatMulNBits: tensors by input position, optional ones NULL. `what` names the node in messages. */
struct qvl_nbits_parts {
    const struct qvl_tensor *codes, *scales, *zeros, *groups;
    int64_t n_out, n_in, bits, block;
    const char *what;
};
int qvl_nbits_matmul(struct qvl_nbits *q, const struct qvl_nbits_parts *p, qvl_err *err);
/* The table of a GatherBlockQuantized (quantised along the last axis): codes are INT4, UINT4, or UINT8 holding codes of p->bits.
 * n_out and n_in of p are what the caller expects, 0 = as in the file. `wide` accepts rows that are longer than n_in, filled up
 * to whole blocks (a head that serves as a table). */
int qvl_nbits_gather(struct qvl_nbits *q, const struct qvl_nbits_parts *p, qvl_err *err);
/* The weight of a DequantizeLinear in blocks along axis 0: codes [n_in][n_out] of INT4, UINT4, INT8 or UINT8. */
int qvl_nbits_linear(struct qvl_nbits *q, const struct qvl_nbits_parts *p, qvl_err *err);

/* Rows [row0, row0 + n) as a matrix of their own. */
struct qvl_nbits qvl_nbits_rows(const struct qvl_nbits *q, int64_t row0, int64_t n);
/* Of codes, scales and zero points together. */
size_t qvl_nbits_bytes(const struct qvl_nbits *q);
/* One row as f32 [n_in]. */
void qvl_nbits_row(float *dst, const struct qvl_nbits *q, int64_t row);
/* A single code, and the scale of a block. */
int qvl_nbits_code(const struct qvl_nbits *q, int64_t row, int64_t k);
float qvl_nbits_scale(const struct qvl_nbits *q, int64_t row, int64_t b);
/* 1 if every zero point is the middle of unsigned codes (or 0 of signed ones), and blocks are in order. */
int qvl_nbits_symmetric(const struct qvl_nbits *q);

#endif
