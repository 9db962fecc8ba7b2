/* pull_file.c - one file of a download: asked for, locked, fetched or taken up again, checked, named, linked.
 *
 * blobs/ETAG.incomplete grows under the lock of ETAG; only bytes whose size and hash are right become blobs/ETAG. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "hub/pull.h"

enum { HASH_STEP = 1 << 18, LOCK_POLL_MS = 50 };

static uint64_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : QVL_SIZE_UNKNOWN;
}

int qvl_pull_folders(const char *path, int whole, qvl_err *err)
{
    char *s = qvl_strdup(path);
    int rc = s ? 0 : qvl_fail_nomem(err, strlen(path), path);
    for (char *slash = s; rc == 0 && slash;) {
        slash = strchr(slash + 1, '/');
        if (!slash && !whole)
            break;
        if (slash)
            *slash = 0;
        if (mkdir(s, 0777) != 0 && errno != EEXIST)
            rc = qvl_fail_errno(err, errno, "%s: cannot make the folder", s);
        if (slash)
            *slash = '/';
    }
    qvl_mem_free(s);
    return rc;
}

/* ---------------------------------------------------------------- what it is */

static int is_blob_name(const char *s) { return qvl_hub_safe_word(s) && strlen(s) < 200 && !qvl_hub_ends(s, ".incomplete"); }

static char *printf_path(const char *folder, const char *sub, const char *name, const char *tail)
{
    struct qvl_buf b;
    qvl_buf_init(&b, 8192);
    qvl_buf_printf(&b, "%s/%s%s%s", folder, sub, name, tail);
    return qvl_buf_take(&b, NULL);
}

int qvl_pull_place(struct qvl_pull_job *p, struct qvl_pull_item *it, qvl_err *err)
{
    struct stat st;
    it->blob = printf_path(p->folder, "blobs/", it->etag, "");
    it->part = printf_path(p->folder, "blobs/", it->etag, ".incomplete");
    it->link = printf_path(p->snapshot, "", it->file->path, "");
    if (!it->blob || !it->part || !it->link)
        return qvl_fail_nomem(err, strlen(p->folder), it->file->path);
    it->known = 1;
    /* where links are impossible, the file itself lies in the snapshot */
    int whole = lstat(it->link, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == it->size;
    it->present = !p->force && (whole || file_size(it->blob) == it->size);
    uint64_t part = file_size(it->part);
    atomic_store(&it->have, it->present ? it->size : part != QVL_SIZE_UNKNOWN && part <= it->size && !p->force ? part : 0);
    return 0;
}

/* The listing names most blobs already: what lies on the disk under that name need not be asked for. */
static int place_by_listing(struct qvl_pull_job *p, struct qvl_pull_item *it, qvl_err *err)
{
    const struct qvl_listing_file *f = it->file;
    const char *id = f->sha256[0] ? f->sha256 : f->git;
    if (!*id || f->size == QVL_SIZE_UNKNOWN || p->force)
        return 0;
    char *blob = printf_path(p->folder, "blobs/", id, "");
    int there = blob && file_size(blob) == f->size;
    qvl_mem_free(blob);
    if (!there)
        return 0;
    it->size = f->size;
    snprintf(it->etag, sizeof it->etag, "%s", id);
    return qvl_pull_place(p, it, err);
}

/* Fills what an earlier reply of the chain left open. A redirect's own ETag counts, its length does not. */
static void merge(struct qvl_http_reply *sum, const struct qvl_http_reply *r)
{
    if (!sum->commit[0])
        memcpy(sum->commit, r->commit, sizeof sum->commit);
    if (!sum->linked_etag[0])
        memcpy(sum->linked_etag, r->linked_etag, sizeof sum->linked_etag);
    if (!sum->etag[0])
        memcpy(sum->etag, r->etag, sizeof sum->etag);
    if (sum->linked_size == QVL_HTTP_UNKNOWN)
        sum->linked_size = r->linked_size;
    if (sum->length == QVL_HTTP_UNKNOWN && r->status == 200)
        sum->length = r->length;
}

static char *file_url(const struct qvl_pull_job *p, const char *path)
{
    struct qvl_buf b;
    qvl_buf_init(&b, QVL_HTTP_URL);
    qvl_buf_printf(&b, "%s/%s/resolve/%s/", p->env.endpoint, p->name.repo, p->listing.commit);
    qvl_http_escape(&b, path, 1);
    return qvl_buf_take(&b, NULL);
}

/* HEAD; only when the hub's own answer does not say enough is the redirect followed, too. */
static int ask(struct qvl_pull_job *p, struct qvl_pull_item *it, struct qvl_http *h, struct qvl_http_reply *sum, qvl_err *err)
{
    struct qvl_http_reply r;
    char *url = file_url(p, it->file->path);
    struct qvl_http_request q = {.url = url, .head = 1, .stay = 1, .with_token = 1, .timeout_s = p->env.metadata_s};
    int rc = url ? 0 : qvl_fail_nomem(err, QVL_HTTP_URL, it->file->path);
    *sum = (struct qvl_http_reply){.length = QVL_HTTP_UNKNOWN, .linked_size = QVL_HTTP_UNKNOWN};
    for (int round = 0; rc == 0 && round < 2; round++) {
        rc = qvl_pull_request(p, h, &q, &r, err);
        if (rc == 0 && r.status >= 400)
            rc = qvl_pull_refused(p, &r, it->file->path, err);
        if (rc == 0)
            merge(sum, &r);
        int enough = (sum->linked_etag[0] || sum->etag[0]) && (sum->linked_size != QVL_HTTP_UNKNOWN || it->file->size != QVL_SIZE_UNKNOWN);
        if (r.status == 200 || enough)
            break;
        q.stay = 0;
    }
    qvl_mem_free(url);
    return rc;
}

int qvl_pull_describe(struct qvl_pull_job *p, struct qvl_pull_item *it, struct qvl_http *h, qvl_err *err)
{
    const struct qvl_listing_file *f = it->file;
    struct qvl_http_reply r;
    QVL_TRY(place_by_listing(p, it, err));
    if (it->known)
        return 0;
    QVL_TRY(ask(p, it, h, &r, err));
    uint64_t told = r.linked_size != QVL_HTTP_UNKNOWN ? r.linked_size : r.length;
    const char *etag = r.linked_etag[0] ? r.linked_etag : r.etag[0] ? r.etag : f->sha256[0] ? f->sha256 : f->git;
    if (r.commit[0] && strcmp(r.commit, p->listing.commit) != 0)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: belongs to commit %s, expected %s", p->name.repo, f->path, r.commit, p->listing.commit);
    if (f->size != QVL_SIZE_UNKNOWN && told != QVL_HTTP_UNKNOWN && told != f->size)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %llu bytes, expected %llu as listed", p->name.repo, f->path,
                        (unsigned long long)told, (unsigned long long)f->size);
    it->size = told != QVL_HTTP_UNKNOWN ? told : f->size;
    if (it->size == QVL_SIZE_UNKNOWN || it->size > (uint64_t)1 << 50)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: the server does not tell its size", p->name.repo, f->path);
    if (!is_blob_name(etag))
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: ETag: found \"%.80s\", expected a hash", p->name.repo, f->path, etag);
    if (f->sha256[0] && qvl_hub_is_hex(etag, 64) && strcmp(etag, f->sha256) != 0)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: ETag %s is not the listed SHA-256 %s", p->name.repo, f->path, etag, f->sha256);
    snprintf(it->etag, sizeof it->etag, "%s", etag);
    return qvl_pull_place(p, it, err);
}

/* ---------------------------------------------------------------- lock */

/* *fd = -1 where the file system has no locks: then there is nothing to wait for. */
static int take_lock(struct qvl_pull_job *p, struct qvl_pull_item *it, int *fd, qvl_err *err)
{
    char *sub = printf_path(p->env.cache, ".locks/", qvl_path_base(p->folder), "/"), *path = sub ? printf_path(sub, "", it->etag, ".lock") : NULL;
    int rc = path ? qvl_pull_folders(path, 0, err) : qvl_fail_nomem(err, strlen(p->folder), "a lock");
    *fd = -1;
    if (rc == 0 && (*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0)
        rc = qvl_fail_errno(err, errno, "%s: cannot make the lock", path);
    while (rc == 0 && flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        struct timespec t = {.tv_nsec = LOCK_POLL_MS * 1000000L};
        if (errno != EWOULDBLOCK && errno != EINTR)
            break;
        atomic_store(&it->waiting, 1);
        if (atomic_load(&p->stop))
            rc = qvl_fail(err, QVL_E_CANCELLED, "cancelled");
        nanosleep(&t, NULL);
    }
    qvl_mem_free(sub);
    qvl_mem_free(path);
    if (rc && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

/* ---------------------------------------------------------------- bytes */

struct fetch {
    struct qvl_pull_job *p;
    struct qvl_pull_item *it;
    qvl_err *err;
    int fd;
    uint64_t at;          /* bytes in the file, all of them in the hash */
    uint64_t most;        /* the largest `at` there was: whether a try gained anything */
    struct qvl_sha sha;
    const char *want;     /* hexadecimal digest, or NULL when nothing is known to check by */
    int began;            /* the running reply's head was looked at */
    int bad_range;        /* the server's ranges are wrong: begin at 0 */
};

/* What the content is checked by: the listed hash, else the blob's name when it is one. git hashes "blob SIZE\0" in front. */
static void start_hash(struct fetch *f)
{
    const struct qvl_listing_file *l = f->it->file;
    const char *etag = f->it->etag;
    const char *sha256 = l->sha256[0] ? l->sha256 : qvl_hub_is_hex(etag, 64) ? etag : NULL;
    const char *git = sha256 ? NULL : qvl_hub_is_hex(etag, 40) ? etag : l->git[0] ? l->git : NULL;
    char head[40];
    f->want = sha256 ? sha256 : git;
    qvl_sha_init(&f->sha, git ? QVL_SHA1 : QVL_SHA256);
    if (git)
        qvl_sha_add(&f->sha, head, (size_t)snprintf(head, sizeof head, "blob %llu", (unsigned long long)f->it->size) + 1);
}

static int restart(struct fetch *f, qvl_err *err)
{
    if (ftruncate(f->fd, 0) != 0)
        return qvl_fail_errno(err, errno, "%s: cannot be emptied", f->it->part);
    f->at = 0;
    atomic_store(&f->it->have, 0);
    start_hash(f);
    return 0;
}

/* In front of the first piece of a body: is it the piece that was asked for? */
static int begin_body(struct fetch *f, const struct qvl_http_reply *r)
{
    const struct qvl_pull_item *it = f->it;
    f->began = 1;
    if (r->status == 206) {
        f->bad_range = r->range_from != f->at || (r->range_total != QVL_HTTP_UNKNOWN && r->range_total != it->size);
        return f->bad_range;
    }
    if (r->length != QVL_HTTP_UNKNOWN && r->length != it->size)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: the server sends %llu bytes, expected %llu", f->p->name.repo, it->file->path,
                        (unsigned long long)r->length, (unsigned long long)it->size);
    return f->at ? restart(f, f->err) : 0; /* 200: the whole file, whatever the wish was */
}

static int take_bytes(void *ud, const struct qvl_http_reply *r, const void *data, size_t len)
{
    struct fetch *f = ud;
    const char *p = data;
    int rc = f->began ? 0 : begin_body(f, r);
    if (rc)
        return rc;
    if (len > f->it->size - f->at)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: the server sends more than the %llu bytes expected", f->p->name.repo,
                        f->it->file->path, (unsigned long long)f->it->size);
    while (len) {
        ssize_t n = pwrite(f->fd, p, len, (off_t)f->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            qvl_fail_errno(f->err, errno, "%s: cannot write", f->it->part);
            return QVL_E_STATE; /* not QVL_E_IO: another try would not make room */
        }
        qvl_sha_add(&f->sha, p, (size_t)n);
        p += n;
        len -= (size_t)n;
        f->at += (uint64_t)n;
    }
    atomic_store(&f->it->have, f->at);
    return 0;
}

/* Takes up what an earlier download left: hashed, the file goes on behind it. */
static int take_up(struct fetch *f, qvl_err *err)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return qvl_fail(err, QVL_E_IO, "%s: is not a regular file", f->it->part);
    if (f->p->force || (uint64_t)st.st_size > f->it->size)
        return restart(f, err);
    char *piece = qvl_alloc(HASH_STEP, 1);
    int rc = piece ? 0 : qvl_fail_nomem(err, HASH_STEP, "a download");
    for (ssize_t n = 1; rc == 0 && n > 0;) {
        n = pread(f->fd, piece, HASH_STEP, (off_t)f->at);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n < 0)
            rc = qvl_fail_errno(err, errno, "%s: cannot read", f->it->part);
        else
            qvl_sha_add(&f->sha, piece, (size_t)n), f->at += (uint64_t)n;
        if (atomic_load(&f->p->stop))
            rc = qvl_fail(err, QVL_E_CANCELLED, "cancelled");
    }
    qvl_mem_free(piece);
    atomic_store(&f->it->have, f->at);
    return rc;
}

/* One request. *passing = 1: it ended early, for a reason that may pass. */
static int try_once(struct fetch *f, struct qvl_http *h, const char *url, int *passing, struct qvl_http_reply *r, qvl_err *err)
{
    struct qvl_http_request q = {.url = url, .from = f->at, .with_token = 1, .timeout_s = f->p->env.download_s, .sink = take_bytes, .ud = f};
    *passing = 0;
    f->began = f->bad_range = 0;
    f->err = err;
    int rc = qvl_http_run(h, &q, r, err);
    if (rc == QVL_E_IO) {
        *passing = 1;
        r->status = 0;
        return 0;
    }
    if (rc)
        return rc == QVL_E_STATE ? QVL_E_IO : rc;
    if (r->status == 200 || r->status == 206) {
        if (f->bad_range)
            QVL_TRY(restart(f, err));
        *passing = f->at < f->it->size;
        return *passing ? qvl_fail(err, QVL_E_IO, "%s: the connection was cut", r->host), 0 : 0;
    }
    if (r->status == 416) { /* what is there does not fit the server's file */
        *passing = 1;
        qvl_pull_refused(f->p, r, f->it->file->path, err);
        return restart(f, err);
    }
    *passing = qvl_pull_passing(r) || (r->foreign && r->status >= 400); /* addresses of a store run out: the hub gives new ones */
    int refused = qvl_pull_refused(f->p, r, f->it->file->path, err);
    return *passing ? 0 : refused;
}

static int fetch_all(struct fetch *f, struct qvl_http *h, qvl_err *err)
{
    char *url = file_url(f->p, f->it->file->path);
    struct qvl_http_reply r;
    int rc = url ? 0 : qvl_fail_nomem(err, QVL_HTTP_URL, f->it->file->path), passing;
    for (int failed = 0; rc == 0 && f->at < f->it->size;) {
        rc = try_once(f, h, url, &passing, &r, err);
        if (rc || !passing)
            continue;
        failed = f->at > f->most ? 1 : failed + 1;
        f->most = f->at > f->most ? f->at : f->most;
        if (failed > QVL_PULL_TRIES)
            rc = qvl_fail_prefix(err, err->code, "%s: gave up after %d tries, what is there is kept: ", f->it->file->path, failed);
        else
            rc = qvl_pull_wait(f->p, failed, r.status ? &r : NULL, err);
    }
    qvl_mem_free(url);
    return rc;
}

/* 1: right. 0: wrong, err filled. */
static int hash_fits(struct fetch *f, qvl_err *err)
{
    char got[QVL_SHA_HEX];
    qvl_sha_hex(&f->sha, got);
    if (!f->want || strcmp(got, f->want) == 0)
        return 1;
    qvl_fail(err, QVL_E_FORMAT, "%s: %s: the content's %s is %s, expected %s: it is thrown away", f->p->name.repo, f->it->file->path,
             f->sha.kind == QVL_SHA1 ? "git hash" : "SHA-256", got, f->want);
    return 0;
}

/* The partial file becomes the blob. Bytes of an earlier download that prove wrong get one fresh start. */
static int fetch_blob(struct fetch *f, struct qvl_http *h, qvl_err *err)
{
    struct qvl_pull_item *it = f->it;
    start_hash(f);
    QVL_TRY(take_up(f, err));
    uint64_t resumed = f->at;
    it->status = resumed ? QVL_PULL_RESUMED : QVL_PULL_FETCHED;
    f->most = resumed;
    QVL_TRY(fetch_all(f, h, err));
    if (!hash_fits(f, err)) {
        if (!resumed)
            return unlink(it->part), QVL_E_FORMAT;
        it->status = QVL_PULL_FETCHED;
        f->most = 0;
        QVL_TRY(restart(f, err));
        QVL_TRY(fetch_all(f, h, err));
        if (!hash_fits(f, err))
            return unlink(it->part), QVL_E_FORMAT;
    }
    if (fsync(f->fd) != 0 && errno != EINVAL && errno != EROFS)
        return qvl_fail_errno(err, errno, "%s: cannot sync", it->part);
    if (rename(it->part, it->blob) != 0)
        return qvl_fail_errno(err, errno, "%s: cannot rename", it->blob);
    return 0;
}

/* ---------------------------------------------------------------- link */

/* "../../blobs/ETAG" seen from snapshots/COMMIT, one "../" more for each folder of the file. */
static char *link_target(const struct qvl_pull_item *it)
{
    struct qvl_buf b;
    qvl_buf_init(&b, 8192);
    for (const char *s = it->file->path; (s = strchr(s, '/')); s++)
        qvl_buf_puts(&b, "../");
    qvl_buf_printf(&b, "../../blobs/%s", it->etag);
    return qvl_buf_take(&b, NULL);
}

static int link_is(const char *path, const char *target)
{
    char now[1024];
    ssize_t n = readlink(path, now, sizeof now);
    return n >= 0 && (size_t)n == strlen(target) && memcmp(now, target, (size_t)n) == 0;
}

/* Puts the file into the snapshot: a link made aside and renamed; where there are no links, the file itself. */
static int put_link(struct qvl_pull_job *p, struct qvl_pull_item *it, qvl_err *err)
{
    struct stat st;
    char tail[64];
    snprintf(tail, sizeof tail, ".tmp-%ld-%zu", (long)getpid(), (size_t)(it - p->items));
    char *target = link_target(it), *tmp = printf_path(p->folder, "snapshots/", p->listing.commit, tail);
    int rc = target && tmp ? qvl_pull_folders(it->link, 0, err) : qvl_fail_nomem(err, strlen(it->link), it->link);
    int whole = lstat(it->link, &st) == 0 && S_ISREG(st.st_mode) && file_size(it->blob) == QVL_SIZE_UNKNOWN;
    if (rc == 0 && !whole && !link_is(it->link, target)) {
        int linked = !p->env.no_symlinks && (unlink(tmp), symlink(target, tmp)) == 0;
        if (rename(linked ? tmp : it->blob, it->link) != 0)
            rc = qvl_fail_errno(err, errno, "%s: cannot be put in place", it->link);
        if (rc && linked)
            unlink(tmp);
    }
    qvl_mem_free(target);
    qvl_mem_free(tmp);
    return rc;
}

int qvl_pull_fetch(struct qvl_pull_job *p, struct qvl_pull_item *it, struct qvl_http *h, qvl_err *err)
{
    int lock = -1, rc = qvl_pull_folders(it->blob, 0, err);
    if (rc == 0 && !it->present) {
        rc = take_lock(p, it, &lock, err);
        it->present = rc == 0 && !p->force && file_size(it->blob) == it->size; /* somebody else may have been faster */
    }
    if (rc == 0 && it->present) {
        it->status = QVL_PULL_PRESENT;
    } else if (rc == 0) {
        struct fetch f = {.p = p, .it = it};
        f.fd = open(it->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        rc = f.fd < 0 ? qvl_fail_errno(err, errno, "%s: cannot open", it->part) : fetch_blob(&f, h, err);
        if (f.fd >= 0 && close(f.fd) != 0 && rc == 0)
            rc = qvl_fail_errno(err, errno, "%s: cannot close", it->blob);
    }
    if (rc == 0)
        rc = put_link(p, it, err);
    if (lock >= 0)
        close(lock);
    if (rc == 0) {
        atomic_store(&it->have, it->size);
        atomic_store(&it->done, 1);
    }
    return rc;
}
