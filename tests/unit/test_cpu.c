/* Levels, and limits of control groups read from made-up /proc and /sys trees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/cgroup.h"
#include "cpu/cpu.h"

static char root[64];
static char made[64][1024]; /* files and folders below root, in the order of making */
static int n_made;

static int make_root(void **state)
{
    (void)state;
    n_made = 0;
    snprintf(root, sizeof root, "/tmp/qvl-test-cpu-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    while (n_made)
        remove(made[--n_made]);
    return remove(root);
}

static void remember(const char *path)
{
    assert_true(n_made < 64);
    snprintf(made[n_made++], sizeof made[0], "%s", path);
}

/* Writes root/path, making its folders. */
static void put(const char *path, const char *text)
{
    char full[1024];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *s = full + strlen(root) + 1; (s = strchr(s, '/')) != NULL; *s++ = '/') {
        *s = 0;
        if (!mkdir(full, 0700))
            remember(full);
    }
    if (access(full, F_OK))
        remember(full);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

#define GIB ((uint64_t)1 << 30)
#define MEMINFO "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\nBuffers: 0 kB\n"
#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

static struct qvl_memory memory(void)
{
    struct qvl_memory m;
    qvl_memory_read(root, &m);
    return m;
}

static void test_nothing(void **state)
{
    (void)state;
    struct qvl_memory m = memory();
    assert_true(m.total == UINT64_MAX && m.available == UINT64_MAX);
    assert_string_equal(m.limit, "machine");
    assert_true(qvl_cgroup_cpus(root) == UINT32_MAX);
}

static void test_machine_only(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    struct qvl_memory m = memory();
    assert_true(m.total == 16 * GIB);
    assert_true(m.available == 8 * GIB);
    assert_string_equal(m.limit, "machine");
}

static void test_old_meminfo(void **state)
{
    (void)state;
    put("/proc/meminfo", "MemTotal: 1024 kB\nMemFree: 512 kB\n");
    assert_true(memory().available == 512 * 1024);
}

static void test_v2_limit(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    put("/proc/self/cgroup", "0::/user/app\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/user/app/memory.max", "4294967296\n");
    put("/sys/fs/cgroup/user/app/memory.current", "3221225472\n");
    put("/sys/fs/cgroup/user/app/memory.stat", "anon 1\ninactive_file 1073741824\nactive_file 536870912\nfile 9\n");
    put("/sys/fs/cgroup/user/app/cpu.max", "150000 100000\n");
    struct qvl_memory m = memory();
    assert_true(m.total == 4 * GIB);
    assert_true(m.available == 4 * GIB - (3 * GIB - GIB - GIB / 2)); /* file pages count as available */
    assert_string_equal(m.limit, "container");
    assert_int_equal(qvl_cgroup_cpus(root), 2); /* 1.5, rounded up */
}

static void test_v2_max_and_ancestor(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    put("/proc/self/cgroup", "0::/a/b/c\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/a/memory.max", "2147483648\n");
    put("/sys/fs/cgroup/a/memory.current", "1073741824\n");
    put("/sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    struct qvl_memory m = memory();
    assert_true(m.total == 2 * GIB);
    assert_true(m.available == GIB);
    assert_int_equal(qvl_cgroup_cpus(root), 1);
}

/* A limit above what the machine has does not change the answer. */
static void test_v2_loose(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/memory.max", "1099511627776\n");
    put("/sys/fs/cgroup/memory.current", "0\n");
    struct qvl_memory m = memory();
    assert_true(m.total == 16 * GIB && m.available == 8 * GIB);
    assert_string_equal(m.limit, "machine");
}

/* More used than allowed (the limit was lowered): nothing is left, no wrap-around. */
static void test_v2_over(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/memory.max", "1000\n");
    put("/sys/fs/cgroup/memory.current", "5000\n");
    assert_true(memory().available == 0);
    put("/sys/fs/cgroup/memory.max", "0\n");
    assert_true(memory().total == 0);
}

/* A container that sees its own group at the mount point, while /proc/self/cgroup has the path of the host. */
static void test_v2_bind_mount(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    put("/proc/self/cgroup", "0::/docker/0123abc/inner\n");
    put("/proc/self/mountinfo", "30 23 0:26 /docker/0123abc /my\\040cgroups ro - cgroup2 cgroup rw\n");
    put("/my cgroups/inner/memory.max", "max\n");
    put("/my cgroups/memory.max", "1073741824\n");
    put("/my cgroups/memory.current", "0\n");
    assert_true(memory().available == GIB);
    /* A path outside of the mount: the mount point is the nearest visible group. */
    put("/proc/self/cgroup", "0::/docker/0123abcdef\n");
    assert_true(memory().available == GIB);
    put("/proc/self/cgroup", "0::/../other\n");
    assert_true(memory().available == GIB);
}

static void test_v1(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    put("/proc/self/cgroup", "12:cpu,cpuacct:/job/7\n5:memory:/job/7\n1:name=systemd:/x\n");
    put("/proc/self/mountinfo", "33 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                                "34 23 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/memory/job/7/memory.limit_in_bytes", "9223372036854771712\n"); /* unlimited */
    put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3221225472\n");
    put("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "2147483648\n");
    put("/sys/fs/cgroup/memory/job/memory.stat", "inactive_file 5\ntotal_inactive_file 1073741824\ntotal_active_file 0\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/7/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/7/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    struct qvl_memory m = memory();
    assert_true(m.total == 3 * GIB);
    assert_true(m.available == 2 * GIB);
    assert_string_equal(m.limit, "container");
    assert_int_equal(qvl_cgroup_cpus(root), 3);
}

/* Without mountinfo the usual mount points are tried. */
static void test_default_mounts(void **state)
{
    (void)state;
    put("/proc/meminfo", MEMINFO);
    put("/proc/self/cgroup", "0::/s\n");
    put("/sys/fs/cgroup/s/memory.max", "1073741824\n");
    assert_true(memory().available == GIB);
}

static void test_garbage(void **state)
{
    (void)state;
    put("/proc/meminfo", "MemTotal: many kB\nMemAvailable:\n\n");
    put("/proc/self/cgroup", "0\n::\nnonsense\n0::/g\n");
    put("/proc/self/mountinfo", "x\n - \n1 2 3 - cgroup2\n" V2_MOUNT);
    put("/sys/fs/cgroup/g/memory.max", "lots\n");
    put("/sys/fs/cgroup/g/cpu.max", "\n");
    put("/sys/fs/cgroup/cpu.max", "0 0\n");
    struct qvl_memory m = memory();
    assert_true(m.total == UINT64_MAX && m.available == UINT64_MAX);
    assert_true(qvl_cgroup_cpus(root) == UINT32_MAX);
}

static void test_this_machine(void **state)
{
    (void)state;
    struct qvl_memory m;
    qvl_memory_get(&m);
    assert_true(m.available <= m.total);
    assert_true(m.available > 0);
    long online = sysconf(_SC_NPROCESSORS_CONF);
    unsigned n = qvl_cpu_threads();
    assert_true(n >= 1 && n <= (unsigned long)online);
}

static void test_levels(void **state)
{
    (void)state;
    qvl_err err;
    enum qvl_cpu_level level, best = qvl_cpu_detect();
    assert_int_equal(qvl_cpu_level_parse(&level, NULL, &err), 0);
    assert_int_equal(level, best);
    assert_int_equal(qvl_cpu_level_parse(&level, "auto", NULL), 0);
    assert_int_equal(level, best);
    assert_true(qvl_cpu_has(QVL_CPU_REF) && qvl_cpu_has(best));
    assert_false(qvl_cpu_has(QVL_CPU_LEVELS));
    for (int i = (int)best + 1; i < QVL_CPU_LEVELS; i++)
        assert_false(qvl_cpu_has((enum qvl_cpu_level)i));
    for (int i = 0; i < QVL_CPU_LEVELS; i++) {
        const char *name = qvl_cpu_level_name((enum qvl_cpu_level)i);
        int rc = qvl_cpu_level_parse(&level, name, &err);
        if (qvl_cpu_has((enum qvl_cpu_level)i)) {
            assert_int_equal(rc, 0);
            assert_int_equal(level, i);
        } else {
            assert_int_equal(rc, QVL_E_UNSUPPORTED);
            assert_non_null(strstr(err.msg, name));
        }
    }
    assert_int_equal(qvl_cpu_level_parse(&level, "avx9", &err), QVL_E_ARG);
    assert_non_null(strstr(err.msg, "avx9"));
    assert_int_equal(qvl_cpu_level_parse(&level, "", &err), QVL_E_ARG);
    assert_string_equal(qvl_cpu_level_name((enum qvl_cpu_level)99), "?");
    /* The kernel's own opinion, where it can be had. */
    FILE *f = fopen("/proc/cpuinfo", "r");
    static char text[1 << 16];
    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = 0;
        fclose(f);
        if (strstr(text, "flags")) {
            assert_int_equal(best >= QVL_CPU_AVX2, strstr(text, " avx2 ") && strstr(text, " fma ") &&
                                                       strstr(text, " f16c ") && strstr(text, " bmi2 "));
            assert_int_equal(qvl_cpu_has(QVL_CPU_AVX512_BF16),
                             qvl_cpu_has(QVL_CPU_AVX512_VNNI) && strstr(text, " avx512_bf16 "));
            assert_int_equal(qvl_cpu_has(QVL_CPU_AVX512_VNNI), qvl_cpu_has(QVL_CPU_AVX512) && strstr(text, " avx512_vnni "));
            assert_int_equal(qvl_cpu_has(QVL_CPU_AVX_VNNI), qvl_cpu_has(QVL_CPU_AVX2) && strstr(text, " avx_vnni "));
        }
    }
}

#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ROOT(test_nothing),
        IN_ROOT(test_machine_only),
        IN_ROOT(test_old_meminfo),
        IN_ROOT(test_v2_limit),
        IN_ROOT(test_v2_loose),
        IN_ROOT(test_v2_over),
        IN_ROOT(test_v2_bind_mount),
        IN_ROOT(test_v2_max_and_ancestor),
        IN_ROOT(test_v1),
        IN_ROOT(test_garbage),
        IN_ROOT(test_default_mounts),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
