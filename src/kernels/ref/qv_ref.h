/* qv_ref.h - the vectors that quant_group.h, quant_minima.h and attn_int8.h ask for, as single numbers. */
#ifndef QVL_KERNELS_REF_QV_REF_H
#define QVL_KERNELS_REF_QV_REF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

#define QV_LANES 1
typedef float qv;
typedef uint32_t qvi;
static inline qv qv_set(float a) { return a; }
static inline qv qv_load(const float *p) { return *p; }
static inline void qv_store(float *p, qv v) { *p = v; }
static inline qv qv_mul(qv a, qv b) { return a * b; }
static inline qv qv_add(qv a, qv b) { return a + b; }
static inline qv qv_sub(qv a, qv b) { return a - b; }
static inline qv qv_div(qv a, qv b) { return a / b; }
static inline qv qv_fma(qv a, qv b, qv c) { return fmaf(a, b, c); }
static inline qv qv_min(qv a, qv b) { return a < b ? a : b; }
static inline qv qv_max(qv a, qv b) { return a > b ? a : b; }
static inline qv qv_pick(qv a, qv b, qv x, qv y) { return a > b ? x : y; }
static inline qv qv_rint(qv a) { return rintf(a); }
static inline qv qv_pow2(qv n) { return n >= -126 && n <= 0 ? ldexpf(1, (int)n) : 1; }
static inline qv qv_from_ints(const float *p)
{
    int32_t i;
    memcpy(&i, p, 4);
    return (float)i;
}
static inline qv qv_half(const void *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return qvl_f16_to_f32(h);
}
static inline qvi qvi_from(qv v) { return (qvi)(int32_t)lrintf(v); }
static inline qvi qvi_zero(void) { return 0; }
static inline qvi qvi_max(qvi a, qvi b) { return a > b ? a : b; } /* of bits without a sign */
static inline qvi qvi_or(qvi a, qvi b) { return a | b; }
static inline qvi qvi_shl(qvi a, int bits) { return a << bits; }
static inline void qvi_store(void *p, qvi v)
{
    unsigned char b[4] = {(unsigned char)v, (unsigned char)(v >> 8), (unsigned char)(v >> 16), (unsigned char)(v >> 24)};
    memcpy(p, b, 4);
}
static inline qvi qvi_bits(qv v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    return u & 0x7fffffffu;
}

#endif
