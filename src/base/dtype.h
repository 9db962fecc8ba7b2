/* dtype.h - element types of tensors in files and of matrices in memory. */
#ifndef QVL_BASE_DTYPE_H
#define QVL_BASE_DTYPE_H

#include <stddef.h>

enum qvl_dtype {
    QVL_DT_UNKNOWN = 0, /* a name that this version does not know: an error only when such a tensor is needed */
    QVL_DT_BOOL, QVL_DT_U8, QVL_DT_I8, QVL_DT_F8_E5M2, QVL_DT_F8_E4M3, QVL_DT_F8_E8M0,
    QVL_DT_I16, QVL_DT_U16, QVL_DT_F16, QVL_DT_BF16,
    QVL_DT_I32, QVL_DT_U32, QVL_DT_F32,
    QVL_DT_F64, QVL_DT_I64, QVL_DT_U64, QVL_DT_C64,
    QVL_DT_F4, QVL_DT_F6_E2M3, QVL_DT_F6_E3M2, QVL_DT_F8_E4M3FNUZ, QVL_DT_F8_E5M2FNUZ,
    /* In memory only: packed integer kinds of kernels/quant.h. No name, no width of one element. */
    QVL_DT_Q4, QVL_DT_Q4M, QVL_DT_Q8,
    QVL_DT_ROW8, /* kernels/row8.h */
    /* Blocks of GGUF files, decoded by formats/ggml_blocks.h. No safetensors name, no width of one element. */
    QVL_DT_GGML_Q4_0, QVL_DT_GGML_Q4_1, QVL_DT_GGML_Q5_0, QVL_DT_GGML_Q5_1, QVL_DT_GGML_Q8_0,
    QVL_DT_GGML_Q2_K, QVL_DT_GGML_Q3_K, QVL_DT_GGML_Q4_K, QVL_DT_GGML_Q5_K, QVL_DT_GGML_Q6_K,
    QVL_DT_GGML_IQ4_NL, QVL_DT_GGML_IQ4_XS, QVL_DT_GGML_MXFP4,
    QVL_DT_GGML_FIRST = QVL_DT_GGML_Q4_0, QVL_DT_GGML_LAST = QVL_DT_GGML_MXFP4,
    /* Of ONNX files only: two in a byte, low half first. No safetensors name. */
    QVL_DT_U4, QVL_DT_I4,
    /* In memory only: weight-only quantised matrices of ONNX files, described by a struct qvl_nbits (formats/nbits.h). */
    QVL_DT_NBITS4, QVL_DT_NBITS8,
    /* In memory only: quantised matrices of safetensors checkpoints, described by a struct qvl_coded (formats/coded.h). */
    QVL_DT_CODED
};

/* The safetensors name ("BF16"), or the GGUF one ("Q4_K"); "?" for QVL_DT_UNKNOWN. */
const char *qvl_dtype_name(enum qvl_dtype t);
/* QVL_DT_UNKNOWN when the name is not in the safetensors list. */
enum qvl_dtype qvl_dtype_from_name(const char *name);
/* Width of one element in bits; 0 for QVL_DT_UNKNOWN and for types made of blocks. */
unsigned qvl_dtype_bits(enum qvl_dtype t);

static inline int qvl_dtype_is_nbits(enum qvl_dtype t) { return t == QVL_DT_NBITS4 || t == QVL_DT_NBITS8; }
/* The GGUF block types. Their rows are whole blocks of consecutive elements. */
static inline int qvl_dtype_is_ggml(enum qvl_dtype t) { return t >= QVL_DT_GGML_FIRST && t <= QVL_DT_GGML_LAST; }
/* Elements and bytes of one block; 0 for other types. */
unsigned qvl_dtype_block_elems(enum qvl_dtype t);
unsigned qvl_dtype_block_bytes(enum qvl_dtype t);

#endif
