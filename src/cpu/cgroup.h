/* cgroup.h - limits that a control group (container, service unit) puts on this process. */
#ifndef QVL_CPU_CGROUP_H
#define QVL_CPU_CGROUP_H

#include <stdint.h>

#include "cpu/cpu.h"

/* All three read files below `root`, "" in production and a made-up tree in tests: root/proc/self/cgroup,
 * root/proc/self/mountinfo, root/proc/meminfo and the mounts that mountinfo names (without mountinfo the usual
 * /sys/fs/cgroup ones). Missing and malformed files count as "no limit". */

/* What qvl_memory_get returns. */
void qvl_memory_read(const char *root, struct qvl_memory *out);
/* Whole CPUs allowed by the tightest quota of the group and its ancestors, rounded up; UINT32_MAX without a limit. */
uint32_t qvl_cgroup_cpus(const char *root);

#endif
