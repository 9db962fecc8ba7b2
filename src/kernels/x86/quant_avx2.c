/* quant_avx2.c - integer kinds without dot-product instructions: vpmaddubsw adds two products of an unsigned and a signed
 * byte to 16 bits, saturating.
 *   q4   a lane sums the 16 products of its pairs in a group: 16 * 15 * 127 = 30480 fits, one group and no more.
 *   q8   255 * 127 * 2 would saturate, so signs are moved from weight to activation: |w| * (x sign w) = w x, and
 *        2 * 128 * 127 = 32512 fits; each step is widened at once. The sum is signed already and needs no start. */
#include "kernels/quant.h"
#include "kernels/x86/vec_avx2.h"

QVL_INLINE __m256i dots_begin(int32_t start)
{
    (void)start;
    return _mm256_setzero_si256();
}
/* gcc would otherwise compute all products first and add them in a tree, with most of them on the stack. */
QVL_INLINE __m256i in_order(__m256i acc)
{
    __asm__("" : "+x"(acc));
    return acc;
}
QVL_INLINE __m256i dots_q4(__m256i acc, __m256i u, __m256i x)
{
    return in_order(_mm256_add_epi16(acc, _mm256_maddubs_epi16(u, x)));
}
QVL_INLINE __m256i dots_end_q4(__m256i acc, int32_t start)
{
    return _mm256_add_epi32(_mm256_madd_epi16(acc, _mm256_set1_epi16(1)), _mm256_set1_epi32(start));
}
QVL_INLINE __m256i q8_operand(__m256i u) { return _mm256_xor_si256(u, _mm256_set1_epi8(-128)); }
QVL_INLINE __m256i dots_q8(__m256i acc, __m256i w, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return in_order(_mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
}
QVL_INLINE __m256i dots_end_q8(__m256i acc) { return acc; }

#include "kernels/x86/quant_ymm.h"

/* A multiply of bytes and the addition that it cannot do without: what the q4 product is made of. */
static double probe(int64_t iterations)
{
    __m256i acc[12], a = _mm256_set1_epi8(1), b = a;
    QVL_UNROLL
    for (int i = 0; i < 12; i++) {
        acc[i] = _mm256_setzero_si256();
        __asm__("" : "+x"(acc[i])); /* otherwise all are known to be equal, and one is computed */
    }
    for (int64_t n = 0; n < iterations; n++)
        QVL_UNROLL
        for (int i = 0; i < 12; i++) {
            __asm__ volatile("" : "+x"(a), "+x"(b));
            acc[i] = _mm256_add_epi16(acc[i], _mm256_maddubs_epi16(a, b));
        }
    QVL_UNROLL
    for (int i = 0; i < 12; i++)
        __asm__ volatile("" : : "x"(acc[i]));
    return 12.0 * 64.0 * (double)iterations;
}

const struct qvl_quant_kernels qvl_quant_kernels_avx2 = {.name = "avx2", QVL_QUANT_YMM, .probe = probe};
