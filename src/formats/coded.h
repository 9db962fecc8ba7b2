/* coded.h - quantised matrices of safetensors checkpoints: AWQ, GPTQ, compressed-tensors, FP8, bitsandbytes, MLX.
 *
 * One description serves them all, since they differ in the place of a code and in few rules for its value:
 *   affine    w = (code - zero) * scale         AWQ, GPTQ, compressed-tensors: the difference is exact, the product rounded once
 *   biased    w = code * scale + bias           MLX: product and sum are rounded
 *   table     w = table[code] * scale           bitsandbytes nf4 and fp4, MLX mxfp4 and nvfp4
 *   number    w = number(code) * scale          FP8: E4M3, E5M2
 *   by 127    w = code * scale * (1/127)        bitsandbytes int8: both products are rounded
 * All in float32, whatever the type of the scales: it is the published formula evaluated in f32. Nothing here knows a model. */
#ifndef QVL_FORMATS_CODED_H
#define QVL_FORMATS_CODED_H

#include <stdint.h>

#include "formats/tensor_source.h"

#define QVL_CODED_MAX_ROWS ((int64_t)1 << 28)
#define QVL_CODED_MAX_INPUTS ((int64_t)1 << 24)

enum qvl_lines_form {
    QVL_LINES_WORDS,     /* little-endian streams of bits in 32-bit words: code j of line i begins at bit j*bits of the words
                          * i*line, i*line + step, i*line + 2*step ... */
    QVL_LINES_AWQ,       /* the same with eight codes of four bits a word in the order 0 2 4 6 1 3 5 7 */
    QVL_LINES_BYTES,     /* one byte each, at i*line + j*step */
    QVL_LINES_HIGH_FIRST /* one line, two codes of four bits in a byte, the first one in the high half */
};

struct qvl_lines {
    const unsigned char *data; /* any alignment; NULL: none */
    enum qvl_lines_form form;
    int bits;
    int64_t line, step;
};

enum qvl_coded_rule { QVL_CODED_AFFINE, QVL_CODED_BIASED, QVL_CODED_TABLE, QVL_CODED_E4M3, QVL_CODED_E5M2, QVL_CODED_BY_127 };

struct qvl_coded {
    enum qvl_coded_rule rule;
    const char *name;            /* of the format, for people: "AWQ" */
    int bits, is_signed;         /* signed: two's complement codes of 8 bits */
    int64_t n_out, n_in, first_row; /* row n of the matrix is row first_row + n of what is described below */
    int64_t group, n_group;      /* group of input k: groups[k], or k / group */
    int by_input, flat;          /* lines of codes are inputs; flat: one line, groups counted through row ends */
    struct qvl_lines codes;
    const void *scales;          /* scale (n, g) is element n / row_block * scale_row + g * scale_step */
    enum qvl_dtype scale_type;   /* F32 F16 BF16 F8_E8M0 F8_E4M3; U8: codes of nested_map, times nested, plus nested_offset */
    int64_t scale_row, scale_step, row_block;
    struct qvl_lines zeros;      /* line g, code n; without data: zero */
    int zero, zero_add, zero_signed;
    const void *biases;          /* like scales, of scale_type */
    const unsigned char *groups; /* [n_in] int32 of any alignment, or NULL */
    const unsigned char *nested, *nested_map; /* f32 [n/nested_block], f32 [256] */
    int64_t nested_block;
    float nested_offset;
    float table[16];
    uint64_t bytes;              /* of all its tensors */
};

/* The tensors of one matrix; what a format does not have is NULL. A leading axis of experts is taken off before. */
struct qvl_coded_parts {
    const struct qvl_tensor *weight, *scales, *zeros, *biases, *groups, *shape;
    const struct qvl_tensor *map, *nested, *nested_map, *state; /* bitsandbytes */
    int64_t n_out, n_in;   /* what the model expects */
    int64_t bits, group;   /* what the configuration says; 0: nothing, then shapes decide. group -1: the whole row */
    int64_t block[2];      /* FP8: rows and inputs that share a scale; 0: nothing is said */
    int block_only;        /* where a block is said no other scales are right */
    int zero_add;          /* GPTQ: added to stored zero points */
    int input_first;       /* FP8: stored [n_in][n_out] */
    const char *what;      /* the module's name, for messages */
};

/* Each checks types, shapes and values against each other and fills *q, which borrows the tensors' bytes. */
int qvl_coded_awq(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);
int qvl_coded_gptq(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);
/* compressed-tensors' pack-quantized: weight = weight_packed. */
int qvl_coded_packed(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);
/* I8, F8_E4M3 or F8_E5M2 weights with a scale a tensor, row, block or group: int-quantized, float-quantized, naive-quantized,
 * and fp8's weight_scale_inv. */
int qvl_coded_bytes8(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);
int qvl_coded_bnb4(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);
int qvl_coded_bnb8(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);
int qvl_coded_mlx(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);

/* Rows [row0, row0 + n) as a matrix of their own. */
struct qvl_coded qvl_coded_rows(const struct qvl_coded *q, int64_t row0, int64_t n);
/* One row as f32 [n_in]. */
void qvl_coded_row(float *dst, const struct qvl_coded *q, int64_t row);
/* Codes of inputs [k0, k0 + n) of a row as stored; signed ones as their two's complement. */
void qvl_coded_codes(uint8_t *dst, const struct qvl_coded *q, int64_t row, int64_t k0, int64_t n);
/* What a code's distance from the middle is multiplied by (affine and by-127 matrices with groups in order). */
float qvl_coded_scale(const struct qvl_coded *q, int64_t row, int64_t g);
/* 1 if all weights are scale times the distance of a code from the middle of its range (0 for signed ones), with groups in order. */
int qvl_coded_symmetric(const struct qvl_coded *q);
/* E4M3 without infinities, E5M2, and powers of two. */
float qvl_e4m3_to_f32(uint8_t x);
float qvl_e5m2_to_f32(uint8_t x);
float qvl_e8m0_to_f32(uint8_t x);

#endif
