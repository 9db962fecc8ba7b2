/* file.c - files in: mapped or read whole; files out: written aside, synced, renamed. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static int open_regular(const char *path, int *fd, size_t *size, qvl_err *err)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return qvl_fail_errno(err, errno, "%s: cannot open", path);
    int rc = 0;
    if (fstat(*fd, &st) != 0)
        rc = qvl_fail_errno(err, errno, "%s: cannot stat", path);
    else if (!S_ISREG(st.st_mode))
        rc = qvl_fail(err, QVL_E_IO, "%s: is not a regular file", path);
    else if (st.st_size < 0 || (uint64_t)st.st_size > SIZE_MAX / 2)
        rc = qvl_fail(err, QVL_E_LIMIT, "%s: size cannot be mapped", path);
    if (rc) {
        close(*fd);
        *fd = -1;
        return rc;
    }
    *size = (size_t)st.st_size;
    return 0;
}

int qvl_map_open(struct qvl_map *m, const char *path, qvl_err *err)
{
    int fd;
    size_t size = 0;
    *m = (struct qvl_map){0};
    QVL_TRY(open_regular(path, &fd, &size, err));
    if (size) {
        void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            int e = errno;
            close(fd);
            return qvl_fail_errno(err, e, "%s: cannot map %zu bytes", path, size);
        }
        m->data = p;
        m->size = size;
    }
    close(fd);
    return 0;
}

void qvl_map_close(struct qvl_map *m)
{
    if (m->data) {
        void *p;
        memcpy(&p, &m->data, sizeof p);
        munmap(p, m->size);
    }
    *m = (struct qvl_map){0};
}

int qvl_map_release(const struct qvl_map *m, const void *p, size_t n)
{
    uintptr_t base = (uintptr_t)m->data, at = (uintptr_t)p;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!m->data || at < base || at - base > m->size || n > m->size - (at - base))
        return 0;
    size_t first = (size_t)(at - base) / page * page; /* pages shared with neighbours come back when they are touched */
    void *q;
    const unsigned char *from = m->data + first;
    memcpy(&q, &from, sizeof q);
    madvise(q, (size_t)(at - base) - first + n, MADV_DONTNEED); /* advice: a refusal costs memory, nothing else */
    return 1;
}

static int read_all(int fd, char **data, size_t *len, size_t hint, size_t max, const char *path, qvl_err *err)
{
    size_t cap = hint + 1, n = 0;
    char *p = qvl_alloc(cap, 1);
    if (!p)
        return qvl_fail_nomem(err, cap, path);
    for (;;) {
        if (n + 1 >= cap) {
            if (n > max) {
                qvl_mem_free(p);
                return qvl_fail(err, QVL_E_LIMIT, "%s: larger than the limit of %zu bytes", path, max);
            }
            char *q = qvl_realloc(p, n, cap * 2, 1);
            if (!q) {
                qvl_mem_free(p);
                return qvl_fail_nomem(err, cap * 2, path);
            }
            p = q;
            cap *= 2;
        }
        ssize_t got = read(fd, p + n, cap - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int e = errno;
            qvl_mem_free(p);
            return qvl_fail_errno(err, e, "%s: cannot read", path);
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    if (n > max) {
        qvl_mem_free(p);
        return qvl_fail(err, QVL_E_LIMIT, "%s: larger than the limit of %zu bytes", path, max);
    }
    p[n] = 0;
    *data = p;
    *len = n;
    return 0;
}

int qvl_file_read(char **data, size_t *len, const char *path, size_t max, qvl_err *err)
{
    int fd;
    size_t size = 0;
    *data = NULL;
    *len = 0;
    if (strcmp(path, "-") == 0)
        return read_all(STDIN_FILENO, data, len, 65536, max, "standard input", err);
    QVL_TRY(open_regular(path, &fd, &size, err));
    if (size > max) {
        close(fd);
        return qvl_fail(err, QVL_E_LIMIT, "%s: %zu bytes, the limit is %zu", path, size, max);
    }
    int rc = read_all(fd, data, len, size + 1, max, path, err);
    close(fd);
    return rc;
}

int qvl_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int qvl_dir_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *qvl_path_join(const char *dir, const char *name)
{
    if (!dir || !*dir || name[0] == '/')
        return qvl_strdup(name);
    size_t a = strlen(dir), b = strlen(name);
    int slash = dir[a - 1] != '/';
    char *p = qvl_alloc(a + b + 2, 1);
    if (!p)
        return NULL;
    memcpy(p, dir, a);
    if (slash)
        p[a++] = '/';
    memcpy(p + a, name, b + 1);
    return p;
}

const char *qvl_path_base(const char *path)
{
    const char *base = path;
    for (const char *s = path; *s; s++)
        if (*s == '/' && s[1] && s[1] != '/')
            base = s + 1;
    return base;
}

char *qvl_path_dir(const char *path)
{
    const char *base = qvl_path_base(path);
    return base == path ? qvl_strdup(".") : qvl_strndup(path, (size_t)(base - path));
}

int qvl_out_open(struct qvl_out *o, const char *path, qvl_err *err)
{
    struct stat st;
    *o = (struct qvl_out){.fd = -1};
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) /* renaming onto a device would replace it */
        return qvl_fail(err, QVL_E_ARG, "%s: exists and is not a regular file", path);
    size_t n = strlen(path) + 64;
    o->path = qvl_strdup(path);
    o->tmp = qvl_alloc(n, 1);
    if (!o->path || !o->tmp) {
        qvl_out_close(o);
        return qvl_fail_nomem(err, n, path);
    }
    snprintf(o->tmp, n, "%s.tmp-%ld-%lx", path, (long)getpid(), (unsigned long)(uintptr_t)o); /* one for each writing thread */
    unlink(o->tmp); /* of a process that died */
    o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        int rc = qvl_fail_errno(err, errno, "%s: cannot create", path);
        qvl_mem_free(o->tmp);
        o->tmp = NULL;
        qvl_out_close(o);
        return rc;
    }
    return 0;
}

int qvl_out_write(struct qvl_out *o, const void *data, size_t len, qvl_err *err)
{
    const char *p = data;
    while (len) {
        ssize_t n = write(o->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return qvl_fail_errno(err, errno, "%s: cannot write", o->path);
        p += n;
        len -= (size_t)n;
        o->written += (uint64_t)n;
    }
    return 0;
}

int qvl_out_need(const struct qvl_out *o, uint64_t bytes, qvl_err *err)
{
    struct statvfs fs;
    if (fstatvfs(o->fd, &fs) != 0) /* then writing will tell */
        return 0;
    uint64_t unit = fs.f_frsize ? fs.f_frsize : 1, room = fs.f_bavail > UINT64_MAX / unit ? UINT64_MAX : fs.f_bavail * unit;
    return bytes <= room ? 0
                         : qvl_fail(err, QVL_E_IO, "%s: needs %.1f GB of disk, and %.1f GB are free", o->path, (double)bytes / 1e9,
                                    (double)room / 1e9);
}

int qvl_out_commit(struct qvl_out *o, qvl_err *err)
{
    if (fsync(o->fd) != 0 && errno != EINVAL && errno != EROFS)
        return qvl_fail_errno(err, errno, "%s: cannot sync", o->path);
    int fd = o->fd;
    o->fd = -1;
    if (close(fd) != 0)
        return qvl_fail_errno(err, errno, "%s: cannot close", o->path);
    if (rename(o->tmp, o->path) != 0)
        return qvl_fail_errno(err, errno, "%s: cannot rename", o->path);
    qvl_mem_free(o->tmp);
    o->tmp = NULL;
    return 0;
}

void qvl_out_close(struct qvl_out *o)
{
    if (o->fd >= 0)
        close(o->fd);
    if (o->tmp)
        unlink(o->tmp);
    qvl_mem_free(o->tmp);
    qvl_mem_free(o->path);
    *o = (struct qvl_out){.fd = -1};
}
