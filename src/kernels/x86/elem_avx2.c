/* elem_avx2.c - conversions, norms, rotation and activations with AVX2. Norms sum in 16 lanes of f32. */
#include "kernels/pack.h"
#include "kernels/quant.h"
#include "kernels/row8.h"
#include "kernels/x86/vec_avx2.h"

#define F32(p, n) load8_n(p, n, QVL_DT_F32)

static void to_f32(float *dst, const void *src, enum qvl_dtype type, int64_t n)
{
    if (type == QVL_DT_F32)
        memcpy(dst, src, (size_t)n * 4);
    else if (type == QVL_DT_BF16)
        for (int64_t i = 0; i < n; i += 8)
            store8_n(dst + i, n - i, load8_n((const uint16_t *)src + i, n - i, QVL_DT_BF16));
    else
        for (int64_t i = 0; i < n; i += 8)
            store8_n(dst + i, n - i, load8_n((const uint16_t *)src + i, n - i, QVL_DT_F16));
}

static void to_bf16(uint16_t *dst, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        __m256i u = round_bf16_u32(F32(src + i, n - i));
        __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
        if (n - i >= 8) {
            _mm_storeu_si128((__m128i *)(void *)(dst + i), h);
        } else {
            uint16_t buf[8];
            _mm_storeu_si128((__m128i *)(void *)buf, h);
            memcpy(dst + i, buf, (size_t)(n - i) * 2);
        }
    }
}

/* Sum over the row of an expression of v; lanes beyond n see v = skip, which must make it zero. */
#define ROW_SUM(sum, expr, skip)                                                                                      \
    do {                                                                                                              \
        __m256 s0_ = _mm256_setzero_ps(), s1_ = s0_;                                                                  \
        int64_t i_ = 0;                                                                                               \
        for (; i_ + 16 <= n; i_ += 16) {                                                                              \
            __m256 v = _mm256_loadu_ps(x + i_);                                                                       \
            s0_ = _mm256_add_ps(s0_, (expr));                                                                         \
            v = _mm256_loadu_ps(x + i_ + 8);                                                                          \
            s1_ = _mm256_add_ps(s1_, (expr));                                                                         \
        }                                                                                                             \
        for (; i_ < n; i_ += 8) {                                                                                     \
            float tail_[8];                                                                                           \
            _mm256_storeu_ps(tail_, (skip));                                                                          \
            memcpy(tail_, x + i_, (size_t)(n - i_ < 8 ? n - i_ : 8) * 4);                                             \
            __m256 v = _mm256_loadu_ps(tail_);                                                                        \
            s0_ = _mm256_add_ps(s0_, (expr));                                                                         \
        }                                                                                                             \
        (sum) = sum8(_mm256_add_ps(s0_, s1_));                                                                        \
    } while (0)

static __m256 inverse_root(float mean_square, float eps)
{
    return _mm256_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean_square + eps))));
}

static void rmsnorm(float *y, const float *x, const float *w, int64_t n, float eps)
{
    float sum;
    ROW_SUM(sum, _mm256_mul_ps(v, v), _mm256_setzero_ps());
    __m256 inv = inverse_root(sum / (float)n, eps);
    for (int64_t i = 0; i < n; i += 8)
        store8_n(y + i, n - i, _mm256_mul_ps(F32(w + i, n - i), _mm256_mul_ps(F32(x + i, n - i), inv)));
}

static void layernorm(float *y, const float *x, const float *w, const float *b, int64_t n, float eps)
{
    float sum;
    ROW_SUM(sum, v, _mm256_setzero_ps());
    __m256 mean = _mm256_set1_ps(sum / (float)n);
    ROW_SUM(sum, _mm256_mul_ps(_mm256_sub_ps(v, mean), _mm256_sub_ps(v, mean)), mean);
    __m256 inv = inverse_root(sum / (float)n, eps);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_sub_ps(F32(x + i, n - i), mean), inv);
        store8_n(y + i, n - i, _mm256_fmadd_ps(v, F32(w + i, n - i), F32(b + i, n - i)));
    }
}

static void rope(float *x, const float *cs, const float *sn, int64_t n)
{
    int64_t half = n / 2;
    for (int64_t i = 0; i < half; i += 8) {
        int64_t k = half - i;
        __m256 a = F32(x + i, k), b = F32(x + half + i, k), c = F32(cs + i, k), s = F32(sn + i, k);
        store8_n(x + i, k, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        store8_n(x + half + i, k, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
}

/* v / (1 + exp(-t)) */
QVL_INLINE __m256 times_sigmoid(__m256 v, __m256 t)
{
    return _mm256_div_ps(v, _mm256_add_ps(_mm256_set1_ps(1.0f), exp8(_mm256_sub_ps(_mm256_setzero_ps(), t))));
}

static void silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = F32(g + i, n - i);
        store8_n(y + i, n - i, _mm256_mul_ps(times_sigmoid(v, v), F32(u + i, n - i)));
    }
}

/* 0.5x(1 + tanh t) = x / (1 + exp(-2t)) */
static void gelu_tanh(float *x, int64_t n)
{
    const __m256 c1 = _mm256_set1_ps(1.5957691216057308f), c3 = _mm256_set1_ps(1.5957691216057308f * 0.044715f);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = F32(x + i, n - i);
        store8_n(x + i, n - i, times_sigmoid(v, _mm256_mul_ps(v, _mm256_fmadd_ps(_mm256_mul_ps(v, v), c3, c1))));
    }
}

/* Phi(-a) = exp(-a^2/2) G(1/(1 + a/4)): see elem_avx512.c. */
static void gelu_erf(float *x, int64_t n)
{
    static const float g[10] = {-2.1600211766781285e-05f, 0.10022900253534317f,  0.09482023119926453f, 0.12156806141138077f,
                                -0.02038443274796009f,    0.3044876456260681f,   -0.33347025513648987f, 0.39500224590301514f,
                                -0.19617769122123718f,    0.033946793526411057f};
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = F32(x + i, n - i), a = _mm256_andnot_ps(sign, v);
        __m256 t = _mm256_div_ps(one, _mm256_fmadd_ps(a, _mm256_set1_ps(0.25f), one)), p = _mm256_set1_ps(g[9]);
        QVL_UNROLL
        for (int j = 8; j >= 0; j--)
            p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(g[j]));
        __m256 q = _mm256_mul_ps(p, exp8(_mm256_mul_ps(_mm256_mul_ps(a, a), _mm256_set1_ps(-0.5f))));
        __m256 phi = _mm256_blendv_ps(q, _mm256_sub_ps(one, q), _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ));
        store8_n(x + i, n - i, _mm256_mul_ps(v, phi));
    }
}

static void add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8)
        store8_n(y + i, n - i, _mm256_add_ps(F32(y + i, n - i), F32(x + i, n - i)));
}

#define FLOATS                                                                                                        \
    .to_f32 = to_f32, .to_bf16 = to_bf16, .rmsnorm = rmsnorm, .layernorm = layernorm, .rope = rope,                   \
    .silu_mul = silu_mul, .gelu_tanh = gelu_tanh, .gelu_erf = gelu_erf, .add = add,                                   \
    .matmul = &qvl_matmul_kernels_avx2, .probe = &qvl_probe_kernels_avx2

const struct qvl_kernels qvl_kernels_avx2 = {
    .name = "avx2", .level = QVL_CPU_AVX2, FLOATS, .attn = &qvl_attn_kernels_avx2,
    .quant = &qvl_quant_kernels_avx2, .row8 = &qvl_row8_kernels_avx2};
const struct qvl_kernels qvl_kernels_avx_vnni = {
    .name = "avx_vnni", .level = QVL_CPU_AVX_VNNI, FLOATS, .attn = &qvl_attn_kernels_avx_vnni,
    .quant = &qvl_quant_kernels_avx_vnni, .row8 = &qvl_row8_kernels_avx_vnni};
