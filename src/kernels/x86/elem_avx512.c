/* elem_avx512.c - conversions, norms, rotation and activations with AVX-512.
 *
 * Norms sum in 32 lanes of f32: a lane adds n/32 values, so the error of the sum stays near the rounding of one
 * addition for the row lengths of these models. Tails use masks. */
#include <string.h>

#include "kernels/pack.h"
#include "kernels/quant.h"
#include "kernels/row8.h"
#include "kernels/x86/vec_avx512.h"

static void to_f32(float *dst, const void *src, enum qvl_dtype type, int64_t n)
{
    if (type == QVL_DT_F32)
        memcpy(dst, src, (size_t)n * 4);
    else if (type == QVL_DT_BF16)
        for (int64_t i = 0; i < n; i += 16)
            _mm512_mask_storeu_ps(dst + i, lanes16(n - i), load16(src, i, QVL_DT_BF16, lanes16(n - i)));
    else
        for (int64_t i = 0; i < n; i += 16)
            _mm512_mask_storeu_ps(dst + i, lanes16(n - i), load16(src, i, QVL_DT_F16, lanes16(n - i)));
}

static void to_bf16(uint16_t *dst, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes16(n - i);
        _mm256_mask_storeu_epi16(dst + i, m, _mm512_cvtepi32_epi16(round_bf16_u32(_mm512_maskz_loadu_ps(m, src + i))));
    }
}

/* Sum of f(x[i]): a expression of v, with the lanes beyond n excluded through the mask m. */
#define ROW_SUM(sum, expr)                                                                                            \
    do {                                                                                                              \
        __m512 s0_ = _mm512_setzero_ps(), s1_ = s0_;                                                                  \
        int64_t i_ = 0;                                                                                               \
        for (; i_ + 32 <= n; i_ += 32) {                                                                              \
            __m512 v = _mm512_loadu_ps(x + i_);                                                                       \
            s0_ = _mm512_add_ps(s0_, (expr));                                                                         \
            v = _mm512_loadu_ps(x + i_ + 16);                                                                         \
            s1_ = _mm512_add_ps(s1_, (expr));                                                                         \
        }                                                                                                             \
        for (; i_ < n; i_ += 16) {                                                                                    \
            __mmask16 m_ = lanes16(n - i_);                                                                           \
            __m512 v = _mm512_maskz_loadu_ps(m_, x + i_);                                                             \
            s0_ = _mm512_mask_add_ps(s0_, m_, s0_, (expr));                                                           \
        }                                                                                                             \
        (sum) = _mm512_reduce_add_ps(_mm512_add_ps(s0_, s1_));                                                        \
    } while (0)

static void rmsnorm(float *y, const float *x, const float *w, int64_t n, float eps)
{
    float sum;
    ROW_SUM(sum, _mm512_mul_ps(v, v));
    float root = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(sum / (float)n + eps)));
    __m512 inv = _mm512_set1_ps(1.0f / root);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes16(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), inv);
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, w + i), v));
    }
}

static void layernorm(float *y, const float *x, const float *w, const float *b, int64_t n, float eps)
{
    float sum;
    ROW_SUM(sum, v);
    __m512 mean = _mm512_set1_ps(sum / (float)n);
    ROW_SUM(sum, _mm512_mul_ps(_mm512_sub_ps(v, mean), _mm512_sub_ps(v, mean)));
    float root = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(sum / (float)n + eps)));
    __m512 inv = _mm512_set1_ps(1.0f / root);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes16(n - i);
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), inv);
        _mm512_mask_storeu_ps(y + i, m,
                              _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(m, w + i), _mm512_maskz_loadu_ps(m, b + i)));
    }
}

static void rope(float *x, const float *cs, const float *sn, int64_t n)
{
    int64_t half = n / 2;
    for (int64_t i = 0; i < half; i += 16) {
        __mmask16 m = lanes16(half - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + half + i);
        __m512 c = _mm512_maskz_loadu_ps(m, cs + i), s = _mm512_maskz_loadu_ps(m, sn + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, m, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

/* v / (1 + exp(-t)) */
QVL_INLINE __m512 times_sigmoid(__m512 v, __m512 t)
{
    __m512 e = exp16(_mm512_sub_ps(_mm512_setzero_ps(), t));
    return _mm512_div_ps(v, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

static void silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes16(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, g + i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(times_sigmoid(v, v), _mm512_maskz_loadu_ps(m, u + i)));
    }
}

/* 0.5x(1 + tanh t) = x / (1 + exp(-2t)) */
static void gelu_tanh(float *x, int64_t n)
{
    const __m512 c1 = _mm512_set1_ps(1.5957691216057308f), c3 = _mm512_set1_ps(1.5957691216057308f * 0.044715f);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes16(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        __m512 t = _mm512_mul_ps(v, _mm512_fmadd_ps(_mm512_mul_ps(v, v), c3, c1));
        _mm512_mask_storeu_ps(x + i, m, times_sigmoid(v, t));
    }
}

/* Phi(-a) = exp(-a^2/2) G(1/(1 + a/4)) for a = |x|; G minimax of degree 9 for a <= 14 (1.4e-8), where the rest is 0 in
 * f32. The negative side keeps its relative accuracy. */
static void gelu_erf(float *x, int64_t n)
{
    static const float g[10] = {-2.1600211766781285e-05f, 0.10022900253534317f,  0.09482023119926453f, 0.12156806141138077f,
                                -0.02038443274796009f,    0.3044876456260681f,   -0.33347025513648987f, 0.39500224590301514f,
                                -0.19617769122123718f,    0.033946793526411057f};
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes16(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i), a = _mm512_abs_ps(v);
        __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(a, _mm512_set1_ps(0.25f), one)), p = _mm512_set1_ps(g[9]);
        QVL_UNROLL
        for (int j = 8; j >= 0; j--)
            p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(g[j]));
        __m512 q = _mm512_mul_ps(p, exp16(_mm512_mul_ps(_mm512_mul_ps(a, a), _mm512_set1_ps(-0.5f))));
        __m512 phi = _mm512_mask_sub_ps(q, _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ), one, q);
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(v, phi));
    }
}

static void add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = lanes16(n - i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_add_ps(_mm512_maskz_loadu_ps(m, y + i), _mm512_maskz_loadu_ps(m, x + i)));
    }
}

#define ELEMENTS                                                                                                      \
    .to_f32 = to_f32, .to_bf16 = to_bf16, .rmsnorm = rmsnorm, .layernorm = layernorm, .rope = rope,                   \
    .silu_mul = silu_mul, .gelu_tanh = gelu_tanh, .gelu_erf = gelu_erf, .add = add

const struct qvl_kernels qvl_kernels_avx512 = {
    .name = "avx512",
    .level = QVL_CPU_AVX512,
    ELEMENTS,
    .matmul = &qvl_matmul_kernels_avx512,
    .attn = &qvl_attn_kernels_avx512,
    .quant = &qvl_quant_kernels_avx2,
    .row8 = &qvl_row8_kernels_avx2,
    .probe = &qvl_probe_kernels_avx512,
};
const struct qvl_kernels qvl_kernels_avx512_vnni = {
    .name = "avx512_vnni",
    .level = QVL_CPU_AVX512_VNNI,
    ELEMENTS,
    .matmul = &qvl_matmul_kernels_avx512,
    .attn = &qvl_attn_kernels_avx512_vnni,
    .quant = &qvl_quant_kernels_avx512_vnni,
    .row8 = &qvl_row8_kernels_avx512_vnni,
    .probe = &qvl_probe_kernels_avx512,
};
const struct qvl_kernels qvl_kernels_avx512_bf16 = {
    .name = "avx512_bf16",
    .level = QVL_CPU_AVX512_BF16,
    ELEMENTS,
    .matmul = &qvl_matmul_kernels_avx512_bf16,
    .attn = &qvl_attn_kernels_avx512_bf16,
    .quant = &qvl_quant_kernels_avx512_vnni,
    .row8 = &qvl_row8_kernels_avx512_vnni,
    .probe = &qvl_probe_kernels_avx512_bf16,
};
