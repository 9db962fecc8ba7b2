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

/* The register tile of an attention block for so many rows: name6, name4 or name2. */
#define BY_ROWS(rows, name, ...)  \
    do {                          \
        if ((rows) > 4)           \
            name##6(__VA_ARGS__); \
        else if ((rows) > 2)      \
            name##4(__VA_ARGS__); \
        else                      \
            name##2(__VA_ARGS__); \
    } while (0)

/* Rows of the first of the two register tiles of an attention block. Even, because a tile computes even numbers of rows: an
 * odd one would share a row with the second tile, which both would add to the sums. 7 and 8 rows go as 4 + the rest. */
QVL_INLINE int attn_first(int rows) { return rows <= 6 ? rows : (rows + 3) / 4 * 2; }

#endif
