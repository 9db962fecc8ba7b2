/* kernels.c - which table belongs to which level. */
#include "kernels/kernels.h"

#include "kernels/pack.h"

const struct qvl_kernels *qvl_kernels_get(enum qvl_cpu_level level)
{
#if defined(__x86_64__)
    switch (level) {
    case QVL_CPU_AVX2: return &qvl_kernels_avx2;
    case QVL_CPU_AVX_VNNI: return &qvl_kernels_avx_vnni;
    case QVL_CPU_AVX512: return &qvl_kernels_avx512;
    case QVL_CPU_AVX512_VNNI: return &qvl_kernels_avx512_vnni;
    case QVL_CPU_AVX512_BF16: return &qvl_kernels_avx512_bf16;
    case QVL_CPU_REF:
    case QVL_CPU_NEON_DOTPROD:
    case QVL_CPU_NEON_I8MM:
    case QVL_CPU_LEVELS: break;
    }
#elif defined(__aarch64__)
    if (level == QVL_CPU_NEON_DOTPROD)
        return &qvl_kernels_neon_dotprod;
    if (level == QVL_CPU_NEON_I8MM)
        return &qvl_kernels_neon_i8mm;
#else
    (void)level;
#endif
    return &qvl_kernels_ref;
}
