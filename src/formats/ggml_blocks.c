/* ggml_blocks.c - blocks of GGUF tensors -> f32, and the table of all types.
 *
 * Notation as in the comments of each decoder: d, m, dmin are f16; lo and hi the nibbles of a byte. All of the 32-element
 * types order nibbles the same way: elements 0..15 are the low nibbles of 16 bytes, elements 16..31 the high ones.
 * A scale is multiplied with a group's scale first, the result with the integer: that order fixes the bits of the result. */
#include "formats/ggml_blocks.h"

#include <string.h>

#include "base/compiler.h"
#include "base/half.h"
#include "formats/ggml_encode.h"

enum { QK = 32, QK_K = 256 };

static uint16_t get16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static float get_f16(const unsigned char *p) { return qvl_f16_to_f32(get16(p)); }

static void f32_to_f32(float *dst, const void *src, int64_t n) { memcpy(dst, src, (size_t)n * 4); }

static void f16_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = get_f16(p + 2 * i);
}

static void bf16_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = qvl_bf16_to_f32(get16(p + 2 * i));
}

/* ---------------------------------------------------------------- 32 elements */

/* 0:2 d, 2:32 signed bytes q.  x = q*d */
static void q8_0_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK; n -= QK, p += 34, dst += QK) {
        float d = get_f16(p);
        for (int i = 0; i < QK; i++)
            dst[i] = (float)(int8_t)p[2 + i] * d;
    }
}

/* 0:2 d, 2:16 nibbles.  x = d*(q - 8) */
static void q4_0_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK; n -= QK, p += 18, dst += QK) {
        float d = get_f16(p);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((p[2 + i] & 15) - 8);
            dst[i + 16] = d * (float)((p[2 + i] >> 4) - 8);
        }
    }
}

/* 0:2 d, 2:2 m, 4:16 nibbles.  x = d*q + m */
static void q4_1_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK; n -= QK, p += 20, dst += QK) {
        float d = get_f16(p), m = get_f16(p + 2);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)(p[4 + i] & 15) + m;
            dst[i + 16] = d * (float)(p[4 + i] >> 4) + m;
        }
    }
}

static uint32_t get32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* 0:2 d, 2:4 fifth bits, 6:16 nibbles.  x = d*(q - 16) */
static void q5_0_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK; n -= QK, p += 22, dst += QK) {
        float d = get_f16(p);
        uint32_t high = get32(p + 2);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((int)((p[6 + i] & 15u) | (high >> i & 1) << 4) - 16);
            dst[i + 16] = d * (float)((int)(p[6 + i] >> 4 | (high >> (i + 16) & 1) << 4) - 16);
        }
    }
}

/* 0:2 d, 2:2 m, 4:4 fifth bits, 8:16 nibbles.  x = d*q + m */
static void q5_1_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK; n -= QK, p += 24, dst += QK) {
        float d = get_f16(p), m = get_f16(p + 2);
        uint32_t high = get32(p + 4);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((p[8 + i] & 15u) | (high >> i & 1) << 4) + m;
            dst[i + 16] = d * (float)(p[8 + i] >> 4 | (high >> (i + 16) & 1) << 4) + m;
        }
    }
}

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* 0:2 d, 2:16 nibbles.  x = d*T[q] */
static void iq4_nl_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK; n -= QK, p += 18, dst += QK) {
        float d = get_f16(p);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)iq4_values[p[2 + i] & 15];
            dst[i + 16] = d * (float)iq4_values[p[2 + i] >> 4];
        }
    }
}

/* 0:1 exponent e, 1:16 nibbles.  x = 2^(e - 128) * T[q], T = twice the E2M1 values */
static void mxfp4_to_f32(float *dst, const void *src, int64_t n)
{
    static const int8_t values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    const unsigned char *p = src;
    for (; n >= QK; n -= QK, p += 17, dst += QK) {
        uint32_t bits = p[0] < 2 ? 0x200000u << p[0] : (uint32_t)(p[0] - 1) << 23;
        float d;
        memcpy(&d, &bits, 4);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)values[p[1 + i] & 15];
            dst[i + 16] = d * (float)values[p[1 + i] >> 4];
        }
    }
}

/* ---------------------------------------------------------------- 256 elements */

/* 0:16 scales (lo) and minima (hi) of 16 elements each, 16:64 two-bit q, 80:2 d, 82:2 dmin.  x = d*s*q - dmin*m
 * Both halves of a block: 32 bytes hold 128 elements, bits 2k and 2k+1 those of 32k .. 32k+31. */
static void q2_k_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK_K; n -= QK_K, p += 84, dst += QK_K) {
        float d = get_f16(p + 80), dmin = get_f16(p + 82);
        for (int g = 0; g < 16; g++) { /* 16 elements */
            const unsigned char *q = p + 16 + 32 * (g / 8) + 16 * (g % 2);
            int shift = 2 * (g % 8 / 2);
            float s = d * (float)(p[g] & 15), m = dmin * (float)(p[g] >> 4);
            for (int i = 0; i < 16; i++)
                dst[16 * g + i] = s * (float)(q[i] >> shift & 3) - m;
        }
    }
}

/* 0:32 third bits, 32:64 two low bits as in Q2_K, 96:12 sixteen 6-bit scales, 108:2 d.  x = d*s*q, q = -4..3
 * Third bit of 32-element group j: bit j of 32 bytes; set means "do not subtract 4". */
static void q3_k_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK_K; n -= QK_K, p += 110, dst += QK_K) {
        const unsigned char *c = p + 96;
        float d = get_f16(p + 108);
        for (int g = 0; g < 16; g++) {
            int low = g < 8 ? c[g] & 15 : c[g - 8] >> 4, high = c[8 + g % 4] >> 2 * (g / 4) & 3;
            const unsigned char *q = p + 32 + 32 * (g / 8) + 16 * (g % 2), *h = p + 16 * (g % 2);
            int shift = 2 * (g % 8 / 2);
            float s = d * (float)((low | high << 4) - 32);
            for (int i = 0; i < 16; i++)
                dst[16 * g + i] = s * (float)((q[i] >> shift & 3) - (h[i] >> g / 2 & 1 ? 0 : 4));
        }
    }
}

/* Scale and minimum of 32-element group g, 6 bits each, packed into 12 bytes. */
static void scale_min(const unsigned char *c, int g, int *scale, int *min)
{
    if (g < 4) {
        *scale = c[g] & 63;
        *min = c[g + 4] & 63;
    } else {
        *scale = (c[g + 4] & 15) | c[g - 4] >> 6 << 4;
        *min = c[g + 4] >> 4 | c[g] >> 6 << 4;
    }
}

/* 0:2 d, 2:2 dmin, 4:12 scales and minima, 16:128 nibbles.  x = d*s*q - dmin*m
 * 32 bytes hold two groups of 32: first the low nibbles, then the high ones. */
static void q4_k_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK_K; n -= QK_K, p += 144, dst += QK_K) {
        float d = get_f16(p), dmin = get_f16(p + 2);
        for (int g = 0; g < 8; g++) {
            const unsigned char *q = p + 16 + 32 * (g / 2);
            int scale, min, shift = g % 2 * 4;
            scale_min(p + 4, g, &scale, &min);
            float s = d * (float)scale, m = dmin * (float)min;
            for (int i = 0; i < 32; i++)
                dst[32 * g + i] = s * (float)(q[i] >> shift & 15) - m;
        }
    }
}

/* Q4_K with 16:32 fifth bits (bit g of byte i belongs to element i of group g) in front of the nibbles at 48. */
static void q5_k_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK_K; n -= QK_K, p += 176, dst += QK_K) {
        float d = get_f16(p), dmin = get_f16(p + 2);
        for (int g = 0; g < 8; g++) {
            const unsigned char *q = p + 48 + 32 * (g / 2), *h = p + 16;
            int scale, min, shift = g % 2 * 4;
            scale_min(p + 4, g, &scale, &min);
            float s = d * (float)scale, m = dmin * (float)min;
            for (int i = 0; i < 32; i++)
                dst[32 * g + i] = s * (float)((q[i] >> shift & 15) | (h[i] >> g & 1) << 4) - m;
        }
    }
}

/* 0:128 low nibbles, 128:64 two high bits, 192:16 signed scales of 16 elements, 208:2 d.  x = d*s*(q - 32)
 * Half of a block, 32-element group k of it: nibbles in 32 bytes at 32*(k%2), low for k < 2; high bits 2k of 32 bytes. */
static void q6_k_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK_K; n -= QK_K, p += 210, dst += QK_K) {
        float d = get_f16(p + 208);
        for (int g = 0; g < 16; g++) {
            int half = g / 8, k = g % 8 / 2;
            const unsigned char *l = p + 64 * half + 32 * (k % 2) + 16 * (g % 2), *h = p + 128 + 32 * half + 16 * (g % 2);
            float s = d * (float)(int8_t)p[192 + g];
            for (int i = 0; i < 16; i++)
                dst[16 * g + i] = s * (float)(((k < 2 ? l[i] & 15 : l[i] >> 4) | (h[i] >> 2 * k & 3) << 4) - 32);
        }
    }
}

/* 0:2 d, 2:2 two high bits of each scale, 4:4 four low bits, 8:128 nibbles.  x = d*(s - 32)*T[q], groups of 32 */
static void iq4_xs_to_f32(float *dst, const void *src, int64_t n)
{
    const unsigned char *p = src;
    for (; n >= QK_K; n -= QK_K, p += 136, dst += QK_K) {
        float d = get_f16(p);
        unsigned high = get16(p + 2);
        for (int g = 0; g < 8; g++) {
            int scale = (p[4 + g / 2] >> 4 * (g % 2) & 15) | (int)(high >> 2 * g & 3) << 4;
            float s = d * (float)(scale - 32);
            for (int i = 0; i < 16; i++) {
                dst[32 * g + i] = s * (float)iq4_values[p[8 + 16 * g + i] & 15];
                dst[32 * g + i + 16] = s * (float)iq4_values[p[8 + 16 * g + i] >> 4];
            }
        }
    }
}

/* ---------------------------------------------------------------- the table */

#define BLOCKS(id, name, elems, bytes, to, from) {id, #name, QVL_DT_GGML_##name, elems, bytes, to, from}
#define SIZE_ONLY(id, name, elems, bytes) {id, #name, QVL_DT_UNKNOWN, elems, bytes, NULL, NULL}

static const struct qvl_ggml_type types[] = {
    {0, "F32", QVL_DT_F32, 1, 4, f32_to_f32, qvl_ggml_encode_f32},
    {1, "F16", QVL_DT_F16, 1, 2, f16_to_f32, qvl_ggml_encode_f16},
    {30, "BF16", QVL_DT_BF16, 1, 2, bf16_to_f32, qvl_ggml_encode_bf16},
    BLOCKS(2, Q4_0, 32, 18, q4_0_to_f32, qvl_ggml_encode_q4_0),
    BLOCKS(3, Q4_1, 32, 20, q4_1_to_f32, qvl_ggml_encode_q4_1),
    BLOCKS(6, Q5_0, 32, 22, q5_0_to_f32, qvl_ggml_encode_q5_0),
    BLOCKS(7, Q5_1, 32, 24, q5_1_to_f32, qvl_ggml_encode_q5_1),
    BLOCKS(8, Q8_0, 32, 34, q8_0_to_f32, qvl_ggml_encode_q8_0),
    BLOCKS(10, Q2_K, 256, 84, q2_k_to_f32, NULL),
    BLOCKS(11, Q3_K, 256, 110, q3_k_to_f32, NULL),
    BLOCKS(12, Q4_K, 256, 144, q4_k_to_f32, qvl_ggml_encode_q4_k),
    BLOCKS(13, Q5_K, 256, 176, q5_k_to_f32, NULL),
    BLOCKS(14, Q6_K, 256, 210, q6_k_to_f32, qvl_ggml_encode_q6_k),
    BLOCKS(20, IQ4_NL, 32, 18, iq4_nl_to_f32, NULL),
    BLOCKS(23, IQ4_XS, 256, 136, iq4_xs_to_f32, NULL),
    BLOCKS(39, MXFP4, 32, 17, mxfp4_to_f32, NULL),
    SIZE_ONLY(16, IQ2_XXS, 256, 66), SIZE_ONLY(17, IQ2_XS, 256, 74), SIZE_ONLY(18, IQ3_XXS, 256, 98),
    SIZE_ONLY(19, IQ1_S, 256, 50), SIZE_ONLY(21, IQ3_S, 256, 110), SIZE_ONLY(22, IQ2_S, 256, 82),
    SIZE_ONLY(29, IQ1_M, 256, 56), SIZE_ONLY(34, TQ1_0, 256, 54), SIZE_ONLY(35, TQ2_0, 256, 66),
    SIZE_ONLY(40, NVFP4, 64, 36), SIZE_ONLY(41, Q1_0, 128, 18),
    {24, "I8", QVL_DT_I8, 1, 1, NULL, NULL}, {25, "I16", QVL_DT_I16, 1, 2, NULL, NULL},
    {26, "I32", QVL_DT_I32, 1, 4, NULL, NULL}, {27, "I64", QVL_DT_I64, 1, 8, NULL, NULL},
    {28, "F64", QVL_DT_F64, 1, 8, NULL, NULL},
};

const struct qvl_ggml_type *qvl_ggml_type_by_id(uint32_t id)
{
    for (size_t i = 0; i < QVL_COUNT(types); i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

const struct qvl_ggml_type *qvl_ggml_type_of(enum qvl_dtype type)
{
    for (size_t i = 0; i < QVL_COUNT(types); i++)
        if (types[i].type == type && type != QVL_DT_UNKNOWN)
            return &types[i];
    return NULL;
}
