/* probe_avx512.c - probe loops with 512-bit vectors. */
#include "kernels/pack.h"
#include "kernels/x86/vec_avx512.h"

static uint64_t read_bytes(const void *p, size_t n)
{
    const char *s = p;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < n; i += 256) {
        _mm_prefetch(s + i + 4096, _MM_HINT_T0);
        _mm_prefetch(s + i + 4160, _MM_HINT_T0);
        _mm_prefetch(s + i + 4224, _MM_HINT_T0);
        _mm_prefetch(s + i + 4288, _MM_HINT_T0);
        a = _mm512_xor_si512(a, _mm512_loadu_si512(s + i));
        b = _mm512_xor_si512(b, _mm512_loadu_si512(s + i + 64));
        c = _mm512_xor_si512(c, _mm512_loadu_si512(s + i + 128));
        d = _mm512_xor_si512(d, _mm512_loadu_si512(s + i + 192));
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
}

/* 16 chains hide the latency; the empty asm keeps the loop from being folded. */
static double f32(int64_t iterations)
{
    __m512 acc[16], x = _mm512_set1_ps(1e-3f), y = _mm512_set1_ps(1e-3f);
    QVL_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = _mm512_setzero_ps();
        __asm__ volatile("" : "+v"(acc[i])); /* or the compiler finds that all chains are equal */
    }
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+v"(x), "+v"(y));
        QVL_UNROLL
        for (int i = 0; i < 16; i++)
            acc[i] = _mm512_fmadd_ps(x, y, acc[i]);
    }
    QVL_UNROLL
    for (int i = 0; i < 16; i++)
        __asm__ volatile("" : : "v"(acc[i]));
    return 16.0 * 32.0 * (double)iterations;
}

const struct qvl_probe_kernels qvl_probe_kernels_avx512 = {.read = read_bytes, .f32 = f32};
