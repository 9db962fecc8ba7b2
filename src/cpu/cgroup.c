/* cgroup.c - memory and CPU limits of control groups, versions 1 and 2.
 *
 * /proc/self/cgroup names the group of this process in each hierarchy, /proc/self/mountinfo says where the hierarchy is
 * mounted and which group its mount point shows (a container often sees its own group as the root, while the path in
 * /proc/self/cgroup is that of the host). Every ancestor up to the mount point can limit, so all are asked. */
#include "cpu/cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096

struct group {
    int version;           /* 2, 1, or 0 = not found */
    size_t mount_len;      /* dir[0..mount_len) is the mount point with the root prefix */
    char dir[PATH_BYTES];  /* directory of the group */
};

/* Opens root/path. NULL if missing or too long. */
static FILE *open_at(const char *root, const char *path)
{
    char full[2 * PATH_BYTES];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n < 0 || (size_t)n >= sizeof full ? NULL : fopen(full, "re");
}

/* Number at s; 0 on success. "max" and out-of-range numbers are UINT64_MAX. */
static int parse_u64(const char *s, uint64_t *out)
{
    while (*s == ' ' || *s == '\t')
        s++;
    if (!strncmp(s, "max", 3)) {
        *out = UINT64_MAX;
        return 0;
    }
    if (*s < '0' || *s > '9')
        return -1;
    char *end;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return errno && errno != ERANGE ? -1 : 0;
}

/* First line of dir/name. 0 on success. */
static int read_line(const char *dir, const char *name, char *line, int size)
{
    char path[PATH_BYTES + 64];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = n < 0 || (size_t)n >= sizeof path ? NULL : fopen(path, "re");
    if (!f)
        return -1;
    int ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok ? 0 : -1;
}

static int read_u64(const char *dir, const char *name, uint64_t *out)
{
    char line[64];
    return read_line(dir, name, line, sizeof line) ? -1 : parse_u64(line, out);
}

/* Does the comma-separated list hold the word? */
static int has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *s = list; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL)
        if (!strncmp(s, word, n) && (s[n] == 0 || s[n] == ',' || s[n] == '\n'))
            return 1;
    return 0;
}

/* Path of this process in the hierarchy of `controller` (version 1), or in the unified one (controller ""). 0: found. */
static int own_path(const char *root, const char *controller, char *path)
{
    FILE *f = open_at(root, "/proc/self/cgroup");
    char line[PATH_BYTES];
    int found = -1;
    if (!f)
        return -1;
    while (found && fgets(line, sizeof line, f)) {
        char *list = strchr(line, ':'), *name = list ? strchr(list + 1, ':') : NULL;
        if (!name)
            continue;
        *name++ = 0;
        list++;
        name[strcspn(name, "\n")] = 0;
        if (*controller ? has_word(list, controller) : !*list) {
            memcpy(path, name, strlen(name) + 1);
            found = 0;
        }
    }
    fclose(f);
    return found;
}

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
    char *d = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *d++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *d++ = *s;
        }
    }
    *d = 0;
}

/* Mount point and the group it shows, of a "cgroup2" file system or of the "cgroup" one with the controller. 0: found. */
static int find_mount(const char *root, const char *controller, char *point, char *shows)
{
    FILE *f = open_at(root, "/proc/self/mountinfo");
    char line[2 * PATH_BYTES];
    int found = -1;
    if (!f)
        return -1;
    /* 36 35 98:0 /shown/root /mount/point rw,noatime master:1 - cgroup cgroup rw,memory */
    while (found && fgets(line, sizeof line, f)) {
        char *tail = strstr(line, " - "), *save, *field[5];
        int n = 0;
        if (!tail)
            continue;
        *tail = 0;
        for (char *s = strtok_r(line, " ", &save); s && n < 5; s = strtok_r(NULL, " ", &save))
            field[n++] = s;
        char *type = strtok_r(tail + 3, " ", &save), *source = strtok_r(NULL, " ", &save),
             *options = strtok_r(NULL, " \n", &save);
        if (n < 5 || !type || !source || strlen(field[3]) >= PATH_BYTES || strlen(field[4]) >= PATH_BYTES)
            continue;
        if (*controller ? !strcmp(type, "cgroup") && options && has_word(options, controller) : !strcmp(type, "cgroup2")) {
            unescape(field[3]);
            unescape(field[4]);
            memcpy(shows, field[3], strlen(field[3]) + 1);
            memcpy(point, field[4], strlen(field[4]) + 1);
            found = 0;
        }
    }
    fclose(f);
    return found;
}

/* Finds the group in the hierarchy of the controller (version 1) or in the unified hierarchy (controller ""). */
static int find_group(const char *root, const char *controller, struct group *g)
{
    char path[PATH_BYTES], point[PATH_BYTES], shows[PATH_BYTES];
    g->version = 0;
    if (own_path(root, controller, path))
        return -1;
    if (find_mount(root, controller, point, shows)) {
        snprintf(point, sizeof point, "/sys/fs/cgroup%s%s", *controller ? "/" : "", controller);
        memcpy(shows, "/", 2);
    }
    /* Path below the mount point. One outside of what the mount shows cannot be reached: then the mount point itself,
     * which is the nearest visible group, has to do. */
    const char *below = path;
    size_t n = strlen(shows);
    while (n && shows[n - 1] == '/')
        n--;
    if (strncmp(path, shows, n) || (path[n] && path[n] != '/') || strstr(path, "/.."))
        below = "";
    else
        below = path + n;
    int len = snprintf(g->dir, sizeof g->dir, "%s%s", root, point);
    if (len < 0 || (size_t)len >= sizeof g->dir)
        return -1;
    g->mount_len = (size_t)len;
    if (strcmp(below, "/"))
        len += snprintf(g->dir + len, sizeof g->dir - g->mount_len, "%s", below);
    if ((size_t)len >= sizeof g->dir)
        return -1;
    g->version = *controller ? 1 : 2;
    return 0;
}

/* Goes to the parent group; 0 when there is none. */
static int go_up(struct group *g)
{
    size_t n = strlen(g->dir);
    if (n <= g->mount_len)
        return 0;
    while (n > g->mount_len && g->dir[n - 1] != '/')
        n--;
    while (n > g->mount_len && g->dir[n - 1] == '/')
        n--;
    g->dir[n] = 0;
    return 1;
}

/* Bytes of cached file pages, which the kernel gives back before it refuses memory. */
static uint64_t reclaimable(const struct group *g)
{
    char path[PATH_BYTES + 64], line[256];
    const char *active = g->version == 2 ? "active_file " : "total_active_file ";
    const char *inactive = g->version == 2 ? "inactive_file " : "total_inactive_file ";
    uint64_t sum = 0, v;
    int n = snprintf(path, sizeof path, "%s/memory.stat", g->dir);
    FILE *f = n < 0 || (size_t)n >= sizeof path ? NULL : fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        const char *s = !strncmp(line, active, strlen(active))       ? line + strlen(active)
                        : !strncmp(line, inactive, strlen(inactive)) ? line + strlen(inactive)
                                                                     : NULL;
        if (s && !parse_u64(s, &v) && v < UINT64_MAX - sum)
            sum += v;
    }
    fclose(f);
    return sum;
}

/* Lowers *total and *available to what the group and its ancestors allow. */
static void apply_memory(struct group *g, uint64_t *total, uint64_t *available)
{
    do {
        uint64_t max, used = 0;
        if (read_u64(g->dir, g->version == 2 ? "memory.max" : "memory.limit_in_bytes", &max))
            continue;
        if (max > (uint64_t)1 << 62) /* "max"; version 1 says 2^63 less a page */
            continue;
        read_u64(g->dir, g->version == 2 ? "memory.current" : "memory.usage_in_bytes", &used);
        uint64_t back = reclaimable(g);
        used = used > back ? used - back : 0;
        uint64_t left = max > used ? max - used : 0;
        if (max < *total)
            *total = max;
        if (left < *available)
            *available = left;
    } while (go_up(g));
}

void qvl_memory_read(const char *root, struct qvl_memory *out)
{
    char line[256];
    uint64_t v, free_kb = UINT64_MAX;
    *out = (struct qvl_memory){.total = UINT64_MAX, .available = UINT64_MAX, .limit = "machine"};
    FILE *f = open_at(root, "/proc/meminfo");
    if (f) {
        while (fgets(line, sizeof line, f)) {
            if (!strncmp(line, "MemTotal:", 9) && !parse_u64(line + 9, &v) && v < UINT64_MAX / 1024)
                out->total = v * 1024;
            else if (!strncmp(line, "MemAvailable:", 13) && !parse_u64(line + 13, &v) && v < UINT64_MAX / 1024)
                out->available = v * 1024;
            else if (!strncmp(line, "MemFree:", 8) && !parse_u64(line + 8, &v) && v < UINT64_MAX / 1024)
                free_kb = v;
        }
        fclose(f);
    }
    if (out->available == UINT64_MAX && free_kb != UINT64_MAX) /* kernels before 3.14 */
        out->available = free_kb * 1024;
    uint64_t total = UINT64_MAX, available = UINT64_MAX;
    struct group g;
    if (!find_group(root, "", &g))
        apply_memory(&g, &total, &available);
    if (!find_group(root, "memory", &g))
        apply_memory(&g, &total, &available);
    if (total < out->total)
        out->total = total;
    if (available < out->available) {
        out->available = available;
        out->limit = "container";
    }
}

/* CPUs that one group allows, rounded up; UINT32_MAX without a limit. */
static uint32_t group_cpus(const struct group *g)
{
    char line[64];
    uint64_t quota, period = 100000;
    if (g->version == 2) { /* "max 100000" or "150000 100000" */
        if (read_line(g->dir, "cpu.max", line, sizeof line) || parse_u64(line, &quota))
            return UINT32_MAX;
        const char *second = strchr(line, ' ');
        if (second)
            parse_u64(second, &period);
    } else if (read_u64(g->dir, "cpu.cfs_quota_us", &quota) || read_u64(g->dir, "cpu.cfs_period_us", &period)) {
        return UINT32_MAX; /* -1, which does not parse as unsigned, is "no limit" */
    }
    if (quota == UINT64_MAX || !quota || !period)
        return UINT32_MAX;
    uint64_t n = quota / period + (quota % period != 0);
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

uint32_t qvl_cgroup_cpus(const char *root)
{
    uint32_t least = UINT32_MAX;
    static const char *const hierarchy[] = {"", "cpu"};
    for (int i = 0; i < 2; i++) {
        struct group g;
        if (find_group(root, hierarchy[i], &g))
            continue;
        do {
            uint32_t n = group_cpus(&g);
            least = n < least ? n : least;
        } while (go_up(&g));
    }
    return least;
}
