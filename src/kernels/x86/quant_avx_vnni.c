/* quant_avx_vnni.c - integer kinds with 256-bit dot products of bytes. */
#include "kernels/quant.h"
#include "kernels/x86/vec_avx2.h"

QVL_INLINE __m256i dots_begin(int32_t start) { return _mm256_set1_epi32(start); }
QVL_INLINE __m256i dots_q4(__m256i acc, __m256i u, __m256i x) { return _mm256_dpbusd_avx_epi32(acc, u, x); }
QVL_INLINE __m256i dots_end_q4(__m256i acc, int32_t start)
{
    (void)start;
    return acc;
}
QVL_INLINE __m256i q8_operand(__m256i u) { return u; }
QVL_INLINE __m256i dots_q8(__m256i acc, __m256i w, __m256i x) { return _mm256_dpbusd_avx_epi32(acc, w, x); }
QVL_INLINE __m256i dots_end_q8(__m256i acc) { return acc; }

#include "kernels/x86/quant_ymm.h"

static double probe(int64_t iterations)
{
    __m256i acc[12], a = _mm256_set1_epi8(1), b = a;
    QVL_UNROLL
    for (int i = 0; i < 12; i++) {
        acc[i] = _mm256_setzero_si256();
        __asm__("" : "+x"(acc[i])); /* otherwise all are known to be equal, and one is computed */
    }
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+x"(a), "+x"(b));
        QVL_UNROLL
        for (int i = 0; i < 12; i++)
            acc[i] = _mm256_dpbusd_avx_epi32(acc[i], a, b);
    }
    QVL_UNROLL
    for (int i = 0; i < 12; i++)
        __asm__ volatile("" : : "x"(acc[i]));
    return 12.0 * 64.0 * (double)iterations;
}

const struct qvl_quant_kernels qvl_quant_kernels_avx_vnni = {.name = "avx_vnni", QVL_QUANT_YMM, .probe = probe};
