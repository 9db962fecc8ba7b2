/* ref_elem.c - the scalar truth of conversions, norms, rotation and activations. Computed in double, rounded once. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/pack.h"
#include "kernels/quant.h"
#include "kernels/row8.h"

static void to_f32(float *dst, const void *src, enum qvl_dtype type, int64_t n)
{
    const unsigned char *p = src;
    uint16_t h;
    if (type == QVL_DT_F32) {
        memcpy(dst, src, (size_t)n * 4);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy(&h, p + 2 * i, 2); /* mapped files promise no alignment */
        dst[i] = type == QVL_DT_F16 ? qvl_f16_to_f32(h) : qvl_bf16_to_f32(h);
    }
}

static void to_bf16(uint16_t *dst, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = qvl_f32_to_bf16(src[i]);
}

static void rmsnorm(float *y, const float *x, const float *w, int64_t n, float eps)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    double inv = 1 / sqrt(sum / (double)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(w[i] * (x[i] * inv));
}

static void layernorm(float *y, const float *x, const float *w, const float *b, int64_t n, float eps)
{
    double sum = 0, var = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean);
    double inv = 1 / sqrt(var / (double)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * inv * w[i] + b[i]);
}

static void rope(float *x, const float *cs, const float *sn, int64_t n)
{
    int64_t half = n / 2;
    for (int64_t d = 0; d < half; d++) {
        double a = x[d], b = x[d + half];
        x[d] = (float)(a * cs[d] - b * sn[d]);
        x[d + half] = (float)(b * cs[d] + a * sn[d]);
    }
}

static void silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(g[i] / (1 + exp(-(double)g[i])) * u[i]);
}

static void gelu_tanh(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double v = x[i];
        x[i] = (float)(0.5 * v * (1 + tanh(0.79788456080286535588 * (v + 0.044715 * v * v * v))));
    }
}

static void gelu_erf(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(x[i] * 0.5 * erfc(-(double)x[i] * 0.70710678118654752440));
}

static void add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

#define FLOATS                                                                                                        \
    .to_f32 = to_f32, .to_bf16 = to_bf16, .rmsnorm = rmsnorm, .layernorm = layernorm, .rope = rope,                   \
    .silu_mul = silu_mul, .gelu_tanh = gelu_tanh, .gelu_erf = gelu_erf, .add = add,                                   \
    .matmul = &qvl_matmul_kernels_ref, .probe = &qvl_probe_kernels_ref

const struct qvl_kernels qvl_kernels_ref = {.name = "ref", .level = QVL_CPU_REF, FLOATS, .attn = &qvl_attn_kernels_ref,
    .quant = &qvl_quant_kernels_ref, .row8 = &qvl_row8_kernels_ref};
#if defined(__aarch64__)
const struct qvl_kernels qvl_kernels_neon_dotprod = {
    .name = "neon_dotprod", .level = QVL_CPU_NEON_DOTPROD, FLOATS, .attn = &qvl_attn_kernels_neon_dotprod,
    .quant = &qvl_quant_kernels_neon_dotprod, .row8 = &qvl_row8_kernels_neon_dotprod};
const struct qvl_kernels qvl_kernels_neon_i8mm = {
    .name = "neon_i8mm", .level = QVL_CPU_NEON_I8MM, FLOATS, .attn = &qvl_attn_kernels_neon_dotprod,
    .quant = &qvl_quant_kernels_neon_i8mm, .row8 = &qvl_row8_kernels_neon_dotprod};
#endif
