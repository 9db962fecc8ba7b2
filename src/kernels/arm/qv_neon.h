/* qv_neon.h - the vectors that quant_group.h, quant_minima.h and attn_int8.h ask for, in 128 bits. */
#ifndef QVL_KERNELS_ARM_QV_NEON_H
#define QVL_KERNELS_ARM_QV_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#define QVL_INLINE static inline __attribute__((always_inline))

#define QV_LANES 4
typedef float32x4_t qv;
typedef int32x4_t qvi;
QVL_INLINE qv qv_set(float a) { return vdupq_n_f32(a); }
QVL_INLINE qv qv_load(const float *p) { return vld1q_f32(p); }
QVL_INLINE void qv_store(float *p, qv v) { vst1q_f32(p, v); }
QVL_INLINE qv qv_mul(qv a, qv b) { return vmulq_f32(a, b); }
QVL_INLINE qv qv_add(qv a, qv b) { return vaddq_f32(a, b); }
QVL_INLINE qv qv_sub(qv a, qv b) { return vsubq_f32(a, b); }
QVL_INLINE qv qv_div(qv a, qv b) { return vdivq_f32(a, b); }
QVL_INLINE qv qv_fma(qv a, qv b, qv c) { return vfmaq_f32(c, a, b); }
QVL_INLINE qv qv_min(qv a, qv b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
QVL_INLINE qv qv_max(qv a, qv b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
QVL_INLINE qv qv_pick(qv a, qv b, qv x, qv y) { return vbslq_f32(vcgtq_f32(a, b), x, y); }
QVL_INLINE qv qv_rint(qv a) { return vrndnq_f32(a); }
QVL_INLINE qv qv_pow2(qv n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
QVL_INLINE qv qv_from_ints(const float *p) { return vcvtq_f32_s32(vreinterpretq_s32_f32(vld1q_f32(p))); }
QVL_INLINE qv qv_half(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
QVL_INLINE qvi qvi_from(qv v) { return vcvtnq_s32_f32(v); }
QVL_INLINE qvi qvi_zero(void) { return vdupq_n_s32(0); }
QVL_INLINE qvi qvi_max(qvi a, qvi b) { return vmaxq_s32(a, b); }
QVL_INLINE qvi qvi_or(qvi a, qvi b) { return vorrq_s32(a, b); }
QVL_INLINE qvi qvi_shl(qvi a, int bits) { return vshlq_s32(a, vdupq_n_s32(bits)); }
QVL_INLINE void qvi_store(void *p, qvi v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
QVL_INLINE qvi qvi_bits(qv v) { return vandq_s32(vreinterpretq_s32_f32(v), vdupq_n_s32(0x7fffffff)); }

#endif
