/* dtype.c - names and widths of element types, sizes of block types. */
#include "base/dtype.h"

#include <string.h>

#include "base/compiler.h"

static const struct {
    const char *name;
    unsigned bits;
} types[] = {
    [QVL_DT_UNKNOWN] = {"?", 0},
    [QVL_DT_BOOL] = {"BOOL", 8}, [QVL_DT_U8] = {"U8", 8}, [QVL_DT_I8] = {"I8", 8},
    [QVL_DT_F8_E5M2] = {"F8_E5M2", 8}, [QVL_DT_F8_E4M3] = {"F8_E4M3", 8}, [QVL_DT_F8_E8M0] = {"F8_E8M0", 8},
    [QVL_DT_I16] = {"I16", 16}, [QVL_DT_U16] = {"U16", 16}, [QVL_DT_F16] = {"F16", 16}, [QVL_DT_BF16] = {"BF16", 16},
    [QVL_DT_I32] = {"I32", 32}, [QVL_DT_U32] = {"U32", 32}, [QVL_DT_F32] = {"F32", 32},
    [QVL_DT_F64] = {"F64", 64}, [QVL_DT_I64] = {"I64", 64}, [QVL_DT_U64] = {"U64", 64}, [QVL_DT_C64] = {"C64", 64},
    [QVL_DT_F4] = {"F4", 4}, [QVL_DT_F6_E2M3] = {"F6_E2M3", 6}, [QVL_DT_F6_E3M2] = {"F6_E3M2", 6},
    [QVL_DT_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8}, [QVL_DT_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
};

static const struct {
    const char *name;
    unsigned elems, bytes;
} blocks[] = {
    [QVL_DT_GGML_Q4_0 - QVL_DT_GGML_FIRST] = {"Q4_0", 32, 18},     [QVL_DT_GGML_Q4_1 - QVL_DT_GGML_FIRST] = {"Q4_1", 32, 20},
    [QVL_DT_GGML_Q5_0 - QVL_DT_GGML_FIRST] = {"Q5_0", 32, 22},     [QVL_DT_GGML_Q5_1 - QVL_DT_GGML_FIRST] = {"Q5_1", 32, 24},
    [QVL_DT_GGML_Q8_0 - QVL_DT_GGML_FIRST] = {"Q8_0", 32, 34},     [QVL_DT_GGML_Q2_K - QVL_DT_GGML_FIRST] = {"Q2_K", 256, 84},
    [QVL_DT_GGML_Q3_K - QVL_DT_GGML_FIRST] = {"Q3_K", 256, 110},   [QVL_DT_GGML_Q4_K - QVL_DT_GGML_FIRST] = {"Q4_K", 256, 144},
    [QVL_DT_GGML_Q5_K - QVL_DT_GGML_FIRST] = {"Q5_K", 256, 176},   [QVL_DT_GGML_Q6_K - QVL_DT_GGML_FIRST] = {"Q6_K", 256, 210},
    [QVL_DT_GGML_IQ4_NL - QVL_DT_GGML_FIRST] = {"IQ4_NL", 32, 18}, [QVL_DT_GGML_IQ4_XS - QVL_DT_GGML_FIRST] = {"IQ4_XS", 256, 136},
    [QVL_DT_GGML_MXFP4 - QVL_DT_GGML_FIRST] = {"MXFP4", 32, 17},
};

static const struct {
    const char *name;
    unsigned bits;
} others[] = {
    [QVL_DT_U4 - QVL_DT_U4] = {"UINT4", 4}, [QVL_DT_I4 - QVL_DT_U4] = {"INT4", 4},
    [QVL_DT_NBITS4 - QVL_DT_U4] = {"4-bit blocks", 0}, [QVL_DT_NBITS8 - QVL_DT_U4] = {"8-bit blocks", 0},
    [QVL_DT_CODED - QVL_DT_U4] = {"quantised", 0},
};

unsigned qvl_dtype_block_elems(enum qvl_dtype t) { return qvl_dtype_is_ggml(t) ? blocks[t - QVL_DT_GGML_FIRST].elems : 0; }
unsigned qvl_dtype_block_bytes(enum qvl_dtype t) { return qvl_dtype_is_ggml(t) ? blocks[t - QVL_DT_GGML_FIRST].bytes : 0; }

const char *qvl_dtype_name(enum qvl_dtype t)
{
    if (qvl_dtype_is_ggml(t))
        return blocks[t - QVL_DT_GGML_FIRST].name;
    if (t >= QVL_DT_U4)
        return (size_t)(t - QVL_DT_U4) < QVL_COUNT(others) ? others[t - QVL_DT_U4].name : "?";
    return (size_t)t < QVL_COUNT(types) ? types[t].name : "?";
}

unsigned qvl_dtype_bits(enum qvl_dtype t)
{
    if (t >= QVL_DT_U4)
        return (size_t)(t - QVL_DT_U4) < QVL_COUNT(others) ? others[t - QVL_DT_U4].bits : 0;
    return (size_t)t < QVL_COUNT(types) ? types[t].bits : 0;
}

enum qvl_dtype qvl_dtype_from_name(const char *name)
{
    for (size_t i = 1; i < QVL_COUNT(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return (enum qvl_dtype)i;
    return QVL_DT_UNKNOWN;
}
