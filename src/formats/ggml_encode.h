/* ggml_encode.h - f32 -> GGUF blocks, for the table in ggml_blocks.c. n is a multiple of the block; dst of any alignment.
 * Finite input gives the bits that the gguf Python package gives; other input gives some block. */
#ifndef QVL_FORMATS_GGML_ENCODE_H
#define QVL_FORMATS_GGML_ENCODE_H

#include <stdint.h>

void qvl_ggml_encode_f32(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_f16(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_bf16(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_q8_0(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_q4_0(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_q4_1(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_q5_0(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_q5_1(void *dst, const float *src, int64_t n);
/* Codes of our own choosing (ggml_encode_k.c): the format leaves it open. */
void qvl_ggml_encode_q4_k(void *dst, const float *src, int64_t n);
void qvl_ggml_encode_q6_k(void *dst, const float *src, int64_t n);

#endif
