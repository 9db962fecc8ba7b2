/* inline.h - compiler words for kernels: functions that become constants in their callers, loops that must vanish. */
#ifndef QVL_KERNELS_X86_INLINE_H
#define QVL_KERNELS_X86_INLINE_H

#define QVL_INLINE static inline __attribute__((always_inline))

/* In front of a loop of at most 16 rounds over registers: an array of vectors becomes registers only when every index is
 * a constant. */
#if defined(__clang__)
#define QVL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define QVL_UNROLL _Pragma("GCC unroll 16")
#endif

#endif
