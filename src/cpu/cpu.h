/* cpu.h - what this machine offers: instruction levels, usable cores, free memory. */
#ifndef QVL_CPU_CPU_H
#define QVL_CPU_CPU_H

#include <stdint.h>

#include "qvl.h"

/* Levels are named bundles of instruction sets, better ones later. A machine may lack one that stands before its best:
 * AVX-VNNI and AVX-512 came in both orders. */
enum qvl_cpu_level {
    QVL_CPU_REF = 0,     /* portable C */
    QVL_CPU_AVX2,        /* AVX2, FMA, F16C, BMI2 */
    QVL_CPU_AVX_VNNI,    /* AVX2 and AVX-VNNI: dot products of bytes in 256 bits */
    QVL_CPU_AVX512,      /* AVX2 and AVX-512 F, BW, DQ, VL */
    QVL_CPU_AVX512_VNNI, /* AVX-512 with dot products of bytes */
    QVL_CPU_AVX512_BF16, /* AVX512_VNNI with dot products of bf16 */
    QVL_CPU_NEON_DOTPROD, /* 64-bit ARM with dot products of bytes */
    QVL_CPU_NEON_I8MM,    /* NEON_DOTPROD with matrix products of bytes */
    QVL_CPU_LEVELS
};

/* Can this machine run the level? cpuid, and xgetbv for what the operating system saves; on ARM the kernel's list. */
int qvl_cpu_has(enum qvl_cpu_level level);
/* The best level of this machine. */
enum qvl_cpu_level qvl_cpu_detect(void);
const char *qvl_cpu_level_name(enum qvl_cpu_level level);
/* Level by name; NULL or "auto" = the best. QVL_E_ARG for an unknown name, QVL_E_UNSUPPORTED when the machine lacks it. */
int qvl_cpu_level_parse(enum qvl_cpu_level *out, const char *name, qvl_err *err);
/* Threads worth starting: affinity mask limited by the cgroup (v1 and v2) CPU quota, at least 1. */
unsigned qvl_cpu_threads(void);

struct qvl_memory {
    uint64_t total;     /* of the machine or the cgroup, whichever is less */
    uint64_t available; /* can be had now without swapping: MemAvailable, and what the cgroup still allows
                           (its reclaimable file pages count as available) */
    const char *limit;  /* "machine" or "container" (cgroup): where `available` comes from */
};
/* Linux: /proc/meminfo and /sys/fs/cgroup (v2 and v1, every ancestor). Unknown numbers are UINT64_MAX. */
void qvl_memory_get(struct qvl_memory *out);

#endif
