/* cpu.c - instruction levels and usable cores. Limits of control groups are in cgroup.c. */
#define _GNU_SOURCE /* sched_getaffinity, cpu_set_t */
#include "cpu/cpu.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "cpu/cgroup.h"

static const char *const level_names[QVL_CPU_LEVELS] = {"ref", "avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16",
                                                        "neon_dotprod", "neon_i8mm"};

#if defined(__x86_64__)
#include <cpuid.h>

#define BIT(reg, n) (((reg) >> (n)) & 1u)

/* Register state that the operating system saves: without it the instructions fault or lose values. */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Bit l: the machine has level l. */
static unsigned levels(void)
{
    unsigned a, b, c, d, c1, b7, c7, a71 = 0, set = 1u << QVL_CPU_REF;
    if (__get_cpuid_max(0, NULL) < 7 || !__get_cpuid(1, &a, &b, &c1, &d) || !BIT(c1, 27)) /* OSXSAVE */
        return set;
    uint64_t state = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d))
        return set;
    if (a >= 1 && __get_cpuid_count(7, 1, &a71, &b, &c, &d) == 0)
        a71 = 0;
    int avx2 = (state & 0x6) == 0x6 && BIT(c1, 28) && BIT(c1, 12) && BIT(c1, 29) /* AVX, FMA, F16C */
               && BIT(b7, 5) && BIT(b7, 8);                                      /* AVX2, BMI2 */
    int avx512 = avx2 && (state & 0xe6) == 0xe6 && BIT(b7, 16) && BIT(b7, 17) && BIT(b7, 30) && BIT(b7, 31); /* F DQ BW VL */
    int vnni512 = avx512 && BIT(c7, 11);
    set |= (unsigned)avx2 << QVL_CPU_AVX2 | (unsigned)(avx2 && BIT(a71, 4)) << QVL_CPU_AVX_VNNI;
    set |= (unsigned)avx512 << QVL_CPU_AVX512 | (unsigned)vnni512 << QVL_CPU_AVX512_VNNI;
    return set | (unsigned)(vnni512 && BIT(a71, 5)) << QVL_CPU_AVX512_BF16;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

static unsigned levels(void)
{
    const unsigned long asimddp = 1ul << 20, i8mm = 1ul << 13; /* HWCAP_ASIMDDP, HWCAP2_I8MM */
    const unsigned dotprod = (getauxval(AT_HWCAP) & asimddp) != 0, matrix = dotprod && (getauxval(AT_HWCAP2) & i8mm) != 0;
    return 1u << QVL_CPU_REF | dotprod << QVL_CPU_NEON_DOTPROD | matrix << QVL_CPU_NEON_I8MM;
}
#else
static unsigned levels(void) { return 1u << QVL_CPU_REF; }
#endif

int qvl_cpu_has(enum qvl_cpu_level level)
{
    return (unsigned)level < QVL_CPU_LEVELS && (levels() >> level & 1u);
}

enum qvl_cpu_level qvl_cpu_detect(void)
{
    unsigned set = levels(), best = QVL_CPU_LEVELS - 1;
    while (!(set >> best & 1u))
        best--;
    return (enum qvl_cpu_level)best;
}

const char *qvl_cpu_level_name(enum qvl_cpu_level level)
{
    return (unsigned)level < QVL_CPU_LEVELS ? level_names[level] : "?";
}

int qvl_cpu_level_parse(enum qvl_cpu_level *out, const char *name, qvl_err *err)
{
    enum qvl_cpu_level best = qvl_cpu_detect();
    *out = best;
    if (!name || !strcmp(name, "auto"))
        return 0;
    for (int i = 0; i < QVL_CPU_LEVELS; i++) {
        if (strcmp(name, level_names[i]))
            continue;
        if (!qvl_cpu_has((enum qvl_cpu_level)i))
            return qvl_fail(err, QVL_E_UNSUPPORTED, "cpu level: found %s, which this machine lacks; its best is %s", name,
                            level_names[best]);
        *out = (enum qvl_cpu_level)i;
        return 0;
    }
    return qvl_fail(
        err, QVL_E_ARG,
        "cpu level: found '%s', expected auto, ref, avx2, avx_vnni, avx512, avx512_vnni, avx512_bf16, neon_dotprod or neon_i8mm", name);
}

/* CPUs in the affinity mask; the mask of a large machine may be longer than cpu_set_t. */
static unsigned affinity_cpus(void)
{
    for (int bits = CPU_SETSIZE; bits <= 1 << 20; bits *= 2) {
        size_t size = CPU_ALLOC_SIZE(bits);
        cpu_set_t *set = qvl_calloc(1, size);
        if (!set)
            return 0;
        int rc = sched_getaffinity(0, size, set), too_small = rc && errno == EINVAL;
        unsigned n = rc ? 0 : (unsigned)CPU_COUNT_S(size, set);
        qvl_mem_free(set);
        if (!too_small)
            return n;
    }
    return 0;
}

unsigned qvl_cpu_threads(void)
{
    unsigned n = affinity_cpus();
    if (!n) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        n = online > 0 ? (unsigned)online : 1;
    }
    uint32_t quota = qvl_cgroup_cpus("");
    if (quota < n)
        n = quota;
    return n ? n : 1;
}

void qvl_memory_get(struct qvl_memory *out) { qvl_memory_read("", out); }
