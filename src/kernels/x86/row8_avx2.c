/* row8_avx2.c - 8-bit weights with row scales without dot-product instructions, as q8 in quant_avx2.c: signs move from weight to
 * activation, 2 * 127 * 127 fits 16 bits, and each step is widened at once. */
#include "kernels/row8.h"
#include "kernels/x86/vec_avx2.h"

QVL_INLINE __m256i dots_begin(int32_t start)
{
    (void)start;
    return _mm256_setzero_si256();
}
QVL_INLINE __m256i dots_operand(__m256i u) { return _mm256_xor_si256(u, _mm256_set1_epi8(-128)); }
QVL_INLINE __m256i dots(__m256i acc, __m256i w, __m256i x)
{
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    __asm__("" : "+x"(acc)); /* in this order: all products first would be kept on the stack */
    return acc;
}

#include "kernels/x86/row8_ymm.h"

const struct qvl_row8_kernels qvl_row8_kernels_avx2 = {.mr = MR, .nv = 1, .tile = tile};
