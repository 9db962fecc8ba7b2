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
    QVL_DT_Q4, QVL_DT_Q8
};

/* The safetensors name ("BF16"), "?" for QVL_DT_UNKNOWN. */
const char *qvl_dtype_name(enum qvl_dtype t);
/* QVL_DT_UNKNOWN when the name is not in the safetensors list. */
enum qvl_dtype qvl_dtype_from_name(const char *name);
/* Width of one element in bits; 0 for QVL_DT_UNKNOWN. */
unsigned qvl_dtype_bits(enum qvl_dtype t);

#endif
