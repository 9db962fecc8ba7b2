/* probe_avx512_bf16.c - probe loops at the level with bf16 dot products; the others are those of AVX-512. */
#include "kernels/pack.h"
#include "kernels/x86/vec_avx512.h"

static uint64_t read_bytes(const void *p, size_t n) { return qvl_probe_kernels_avx512.read(p, n); }
static double f32(int64_t iterations) { return qvl_probe_kernels_avx512.f32(iterations); }

static double bf16(int64_t iterations)
{
    __m512 acc[16];
    __m512i x = _mm512_set1_epi16(0x3a83), y = x; /* 1e-3 */
    QVL_UNROLL
    for (int i = 0; i < 16; i++) {
        acc[i] = _mm512_setzero_ps();
        __asm__ volatile("" : "+v"(acc[i])); /* or the compiler finds that all chains are equal */
    }
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+v"(x), "+v"(y));
        QVL_UNROLL
        for (int i = 0; i < 16; i++)
            acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)x, (__m512bh)y);
    }
    QVL_UNROLL
    for (int i = 0; i < 16; i++)
        __asm__ volatile("" : : "v"(acc[i]));
    return 16.0 * 64.0 * (double)iterations;
}

const struct qvl_probe_kernels qvl_probe_kernels_avx512_bf16 = {.read = read_bytes, .f32 = f32, .bf16 = bf16};
