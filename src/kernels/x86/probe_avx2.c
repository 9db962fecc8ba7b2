/* probe_avx2.c - probe loops with 256-bit vectors. */
#include "kernels/pack.h"
#include "kernels/x86/vec_avx2.h"

static uint64_t read_bytes(const void *p, size_t n)
{
    const char *s = p;
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < n; i += 128) {
        _mm_prefetch(s + i + 4096, _MM_HINT_T0);
        _mm_prefetch(s + i + 4160, _MM_HINT_T0);
        a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(const void *)(s + i)));
        b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(const void *)(s + i + 32)));
        a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(const void *)(s + i + 64)));
        b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(const void *)(s + i + 96)));
    }
    uint64_t v[4];
    _mm256_storeu_si256((__m256i *)(void *)v, _mm256_xor_si256(a, b));
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* 12 chains hide the latency; the empty asm keeps the loop from being folded. */
static double f32(int64_t iterations)
{
    __m256 acc[12], x = _mm256_set1_ps(1e-3f), y = x;
    QVL_UNROLL
    for (int i = 0; i < 12; i++) {
        acc[i] = _mm256_setzero_ps();
        __asm__ volatile("" : "+x"(acc[i])); /* or the compiler finds that all chains are equal */
    }
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+x"(x), "+x"(y));
        QVL_UNROLL
        for (int i = 0; i < 12; i++)
            acc[i] = _mm256_fmadd_ps(x, y, acc[i]);
    }
    QVL_UNROLL
    for (int i = 0; i < 12; i++)
        __asm__ volatile("" : : "x"(acc[i]));
    return 12.0 * 16.0 * (double)iterations;
}

const struct qvl_probe_kernels qvl_probe_kernels_avx2 = {.read = read_bytes, .f32 = f32};
