/* pull.c - a repository → files chosen, described and fetched by a few threads, then the revision's reference.
 *
 * The caller's thread only watches: progress, rows of finished files, stopping. The first failure stops everybody; what is
 * on the disk by then is kept and taken up by the next call. */
#include "hub/pull.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/watch.h"

enum { DEFAULT_JOBS = 4, MAX_JOBS = 16, WATCH_MS = 10 };

void qvl_pull_params_default(qvl_pull_params *p) { *p = (qvl_pull_params){.struct_size = sizeof *p}; }

/* ---------------------------------------------------------------- which files */

/* As Python's fnmatch: "*" passes over slashes; a pattern that ends in "/" means everything below. */
static int matches(const char *path, const char *const *patterns, size_t n)
{
    char all[QVL_HUB_FILE];
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(patterns[i]);
        snprintf(all, sizeof all, "%s*", patterns[i]);
        if (fnmatch(len && patterns[i][len - 1] == '/' ? all : patterns[i], path, FNM_NOESCAPE) == 0)
            return 1;
    }
    return 0;
}

/* Small files that describe a model, in folders that are not other frameworks' copies of it. */
static int is_small(const char *path)
{
    static const char *const other[] = {"original/", "onnx/", "openvino/", "coreml/"};
    static const char *const tails[] = {".json", ".txt", ".jinja", ".model"};
    for (size_t i = 0; i < QVL_COUNT(other); i++)
        if (strncmp(path, other[i], strlen(other[i])) == 0)
            return 0;
    for (size_t i = 0; i < QVL_COUNT(tails); i++)
        if (*path != '.' && qvl_hub_ends(path, tails[i]))
            return 1;
    return 0;
}

static int any_ends(const struct qvl_listing *l, const char *tail)
{
    for (size_t i = 0; i < l->n; i++)
        if (qvl_hub_ends(l->files[i].path, tail))
            return 1;
    return 0;
}

static int choose_gguf(const struct qvl_pull_job *p, unsigned char *want, qvl_err *err)
{
    size_t n = p->listing.n;
    const char **paths = qvl_alloc(n ? n : 1, sizeof *paths);
    int text, mmproj;
    if (!paths)
        return qvl_fail_nomem(err, n * sizeof *paths, p->name.repo);
    for (size_t i = 0; i < n; i++)
        paths[i] = p->listing.files[i].path;
    int rc = qvl_hub_gguf_choose(paths, n, p->name.quant, want, &text, &mmproj, p->name.repo, err);
    qvl_mem_free(paths);
    return rc;
}

static int choose(const struct qvl_pull_job *p, const qvl_pull_params *q, unsigned char *want, qvl_err *err)
{
    const struct qvl_listing *l = &p->listing;
    const char *file = p->name.file;
    size_t len = strlen(file), n = 0;
    int gguf = !q->n_include && !len && (p->name.quant[0] || (any_ends(l, ".gguf") && !any_ends(l, ".safetensors")));
    memset(want, 0, l->n);
    if (gguf)
        QVL_TRY(choose_gguf(p, want, err));
    for (size_t i = 0; i < l->n; i++) {
        const char *path = l->files[i].path;
        if (q->n_include)
            want[i] = (unsigned char)matches(path, q->include, q->n_include);
        else if (len)
            want[i] = strncmp(path, file, len) == 0 && (!path[len] || path[len] == '/');
        else
            want[i] |= is_small(path) || (!gguf && qvl_hub_ends(path, ".safetensors") && strncmp(path, "original/", 9) != 0);
        want[i] = want[i] && !matches(path, q->exclude, q->n_exclude);
        n += want[i];
    }
    return n ? 0 : qvl_fail(err, QVL_E_NOTFOUND, "%s: none of its %zu files is wanted: name some with --include", p->name.repo, l->n);
}

static int make_items(struct qvl_pull_job *p, const qvl_pull_params *q, qvl_err *err)
{
    size_t n = p->listing.n;
    unsigned char *want = qvl_alloc(n ? n : 1, 1);
    p->items = qvl_calloc(n ? n : 1, sizeof *p->items);
    int rc = want && p->items ? choose(p, q, want, err) : qvl_fail_nomem(err, n * sizeof *p->items, p->name.repo);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (want[i])
            p->items[p->n++].file = &p->listing.files[i];
    qvl_mem_free(want);
    return rc;
}

/* ---------------------------------------------------------------- what the repository has */

static int add_text(void *ud, const struct qvl_http_reply *r, const void *data, size_t len)
{
    (void)r;
    return qvl_buf_add(ud, data, len) ? QVL_E_LIMIT : 0;
}

static int read_listing(struct qvl_pull_job *p, struct qvl_http *h, qvl_err *err)
{
    struct qvl_buf url, text;
    struct qvl_http_reply r;
    qvl_buf_init(&url, QVL_HTTP_URL);
    qvl_buf_printf(&url, "%s/api/models/%s/revision/", p->env.endpoint, p->name.repo);
    qvl_http_escape(&url, p->rev, 0);
    qvl_buf_puts(&url, "?blobs=true");
    int rc = url.failed ? qvl_fail_nomem(err, QVL_HTTP_URL, p->name.repo) : 0;
    for (int tries = 1; rc == 0; tries++) { /* a broken listing is read anew, not gone on with */
        qvl_buf_init(&text, QVL_LISTING_MAX_BYTES);
        struct qvl_http_request q = {.url = url.data, .with_token = 1, .timeout_s = p->env.metadata_s, .sink = add_text, .ud = &text};
        rc = qvl_http_run(h, &q, &r, err);
        int passing = rc == QVL_E_IO || (rc == 0 && qvl_pull_passing(&r));
        if (passing && tries <= QVL_PULL_TRIES) {
            rc = qvl_pull_wait(p, tries, rc ? NULL : &r, err);
            qvl_buf_free(&text);
            continue;
        }
        if (rc == QVL_E_LIMIT && text.failed)
            rc = qvl_fail(err, QVL_E_LIMIT, "%s: its list of files is larger than %zu MB", p->name.repo, QVL_LISTING_MAX_BYTES >> 20);
        if (rc == 0 && r.status != 200)
            rc = qvl_pull_refused(p, &r, NULL, err);
        if (rc == 0)
            rc = qvl_listing_parse(&p->listing, text.data ? text.data : "", text.len, p->name.repo, err);
        qvl_buf_free(&text);
        break;
    }
    qvl_buf_free(&url);
    return rc;
}

/* ---------------------------------------------------------------- threads */

typedef int (*step_fn)(struct qvl_pull_job *p, struct qvl_pull_item *it, struct qvl_http *h, qvl_err *err);

struct worker {
    struct qvl_pull_job *p;
    step_fn step;
    pthread_t thread;
    atomic_int ended;
};

static void first_error(struct qvl_pull_job *p, const qvl_err *err)
{
    pthread_mutex_lock(&p->lock);
    if (!p->err.code)
        p->err = *err;
    pthread_mutex_unlock(&p->lock);
    atomic_store(&p->stop, 1);
}

static void *work(void *ud)
{
    struct worker *w = ud;
    struct qvl_pull_job *p = w->p;
    struct qvl_http *h = NULL;
    qvl_err err = {0};
    int rc = qvl_http_open(&h, &p->env, &p->stop, &err);
    for (size_t i; rc == 0 && !atomic_load(&p->stop) && (i = atomic_fetch_add(&p->next, 1)) < p->n;)
        rc = w->step(p, &p->items[i], h, &err);
    if (rc) {
        err.code = rc;
        first_error(p, &err);
    }
    qvl_http_close(&h);
    atomic_store(&w->ended, 1);
    return NULL;
}

static void tell(const qvl_pull_params *q, const struct qvl_pull_item *it, qvl_pull_status status)
{
    qvl_pull_row row = {.name = it->file->path, .bytes = it->size, .status = status};
    q->on_file(q->on_file_ud, &row);
}

/* Rows of files that ended since the last call. What workers write is read behind the flag that they set afterwards. */
static void tell_files(struct qvl_pull_job *p, const qvl_pull_params *q)
{
    for (size_t i = 0; q->on_file && i < p->n; i++) {
        struct qvl_pull_item *it = &p->items[i];
        if (!it->told && atomic_load(&it->done)) {
            it->told = 1;
            tell(q, it, it->status);
        } else if (!it->told && !it->told_waiting && atomic_load(&it->waiting)) {
            it->told_waiting = 1;
            tell(q, it, QVL_PULL_WAITING);
        }
    }
}

static void watch_workers(struct qvl_pull_job *p, const qvl_pull_params *q, struct qvl_watch *watch, struct worker *w, size_t n)
{
    for (size_t left = n; left;) {
        struct timespec t = {.tv_nsec = WATCH_MS * 1000000L};
        uint64_t have = 0;
        nanosleep(&t, NULL);
        left = 0;
        for (size_t i = 0; i < n; i++)
            left += !atomic_load(&w[i].ended);
        for (size_t i = 0; i < p->n; i++)
            have += atomic_load(&p->items[i].have);
        watch->done = have;
        if (watch->total && qvl_watch_tick(watch, 0))
            atomic_store(&p->stop, 1);
        tell_files(p, q);
    }
}

/* Every item through one step, by some threads. */
static int run_step(struct qvl_pull_job *p, const qvl_pull_params *q, step_fn step, struct qvl_watch *watch, qvl_err *err)
{
    struct worker w[MAX_JOBS];
    size_t wanted = q->n_jobs ? q->n_jobs : DEFAULT_JOBS, n = 0;
    wanted = wanted > MAX_JOBS ? MAX_JOBS : wanted;
    wanted = wanted > p->n ? p->n : wanted;
    atomic_store(&p->next, 0);
    for (; n < wanted; n++) {
        w[n].p = p;
        w[n].step = step;
        atomic_init(&w[n].ended, 0);
        if (pthread_create(&w[n].thread, NULL, work, &w[n]) != 0)
            break;
    }
    if (!n)
        return qvl_fail(err, QVL_E_NOMEM, "a thread for the download cannot be started");
    watch_workers(p, q, watch, w, n);
    for (size_t i = 0; i < n; i++)
        pthread_join(w[i].thread, NULL);
    tell_files(p, q);
    if (watch->stopped)
        return qvl_fail(err, QVL_E_CANCELLED, "cancelled; what is there is kept, and taken up by the next pull");
    return p->err.code ? qvl_fail(err, p->err.code, "%s", p->err.msg) : 0;
}

/* ---------------------------------------------------------------- the cache */

static int write_small(const char *path, const char *text, qvl_err *err)
{
    struct qvl_out o;
    QVL_TRY(qvl_out_open(&o, path, err));
    int rc = qvl_out_write(&o, text, strlen(text), err);
    if (rc == 0)
        rc = qvl_out_commit(&o, err);
    qvl_out_close(&o);
    return rc;
}

/* Backup programs leave folders with this file out. */
static void tag_cache(const struct qvl_pull_job *p)
{
    char *path = qvl_path_join(p->env.cache, "CACHEDIR.TAG");
    if (path && !qvl_file_exists(path))
        write_small(path, "Signature: 8a477f597d28d172789f06886806bc55\n"
                          "# This folder is a cache of models from a hub; see https://bford.info/cachedir/\n", NULL);
    qvl_mem_free(path);
}

static int make_cache(struct qvl_pull_job *p, qvl_err *err)
{
    char sub[64];
    if (!p->env.cache)
        return qvl_fail(err, QVL_E_ARG, "no folder for the cache: neither HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME nor HOME is set");
    snprintf(sub, sizeof sub, "snapshots/%s", p->listing.commit);
    p->folder = qvl_hub_repo_folder(&p->env, p->name.repo);
    p->snapshot = p->folder ? qvl_path_join(p->folder, sub) : NULL;
    if (!p->snapshot)
        return qvl_fail_nomem(err, strlen(p->env.cache), p->env.cache);
    QVL_TRY(qvl_pull_folders(p->snapshot, 1, err));
    tag_cache(p);
    return 0;
}

/* All sizes are known: is there room for what is not yet on the disk? */
static int check_space(const struct qvl_pull_job *p, uint64_t *total, qvl_err *err)
{
    struct statvfs fs;
    uint64_t need = 0;
    *total = 0;
    for (size_t i = 0; i < p->n; i++) { /* sizes are below 2^50, items below 2^17 */
        *total += p->items[i].size;
        need += p->items[i].size - atomic_load(&p->items[i].have);
    }
    if (statvfs(p->folder, &fs) != 0)
        return 0; /* writing will tell */
    double room = (double)fs.f_bavail * (double)fs.f_frsize;
    if ((double)need <= room)
        return 0;
    return qvl_fail(err, QVL_E_LIMIT, "%s: %.2f GB are to be written, %.2f GB are free in %s", p->name.repo, (double)need / 1e9, room / 1e9,
                    p->env.cache);
}

/* refs/REVISION holds the commit; a revision with slashes has folders of its own. */
static int write_ref(const struct qvl_pull_job *p, qvl_err *err)
{
    char name[QVL_HUB_REV + 8];
    if (qvl_hub_is_hex(p->rev, 40))
        return 0;
    snprintf(name, sizeof name, "refs/%s", p->rev);
    char *path = qvl_path_join(p->folder, name);
    if (!path)
        return qvl_fail_nomem(err, sizeof name, name);
    int rc = qvl_pull_folders(path, 0, err);
    if (rc == 0)
        rc = write_small(path, p->listing.commit, err);
    qvl_mem_free(path);
    return rc;
}

/* ---------------------------------------------------------------- all of it */

static int pull(struct qvl_pull_job *p, const qvl_pull_params *q, qvl_err *err)
{
    struct qvl_http *h = NULL;
    struct qvl_watch watch = {.progress = q->progress, .ud = q->progress_ud, .stage = "pull"};
    QVL_TRY(qvl_hub_name_parse(&p->name, q->repo, q->revision, err));
    p->rev = p->name.rev[0] ? p->name.rev : "main";
    QVL_TRY(qvl_hub_env_read(&p->env, 1, err));
    if (p->env.offline)
        return qvl_fail(err, QVL_E_STATE, "%s: %s forbids the network", q->repo, p->env.offline);
    QVL_TRY(qvl_http_open(&h, &p->env, &p->stop, err));
    int rc = read_listing(p, h, err);
    qvl_http_close(&h);
    QVL_TRY(rc);
    QVL_TRY(make_items(p, q, err));
    QVL_TRY(make_cache(p, err));
    QVL_TRY(run_step(p, q, qvl_pull_describe, &watch, err));
    QVL_TRY(check_space(p, &watch.total, err));
    QVL_TRY(run_step(p, q, qvl_pull_fetch, &watch, err));
    return write_ref(p, err);
}

int qvl_pull(const qvl_pull_params *params, char **folder, qvl_err *err)
{
    qvl_pull_params q;
    if (folder)
        *folder = NULL;
    qvl_pull_params_default(&q);
    if (!params || params->struct_size < sizeof(size_t) || params->struct_size > 4096)
        return qvl_fail(err, QVL_E_ARG, "qvl_pull: params are missing, or struct_size is not set: use qvl_pull_params_default first");
    memcpy(&q, params, params->struct_size < sizeof q ? params->struct_size : sizeof q);
    if (!q.repo || !*q.repo || (q.n_include && !q.include) || (q.n_exclude && !q.exclude))
        return qvl_fail(err, QVL_E_ARG, "qvl_pull: no repository, or a list without its strings");
    struct qvl_pull_job *p = qvl_calloc(1, sizeof *p);
    qvl_err own = {0}; /* messages are needed inside also when the caller wants none */
    if (!p)
        return qvl_fail_nomem(err, sizeof *p, "a download");
    pthread_mutex_init(&p->lock, NULL);
    p->force = q.force;
    int rc = pull(p, &q, err ? err : &own);
    if (rc == 0 && folder) {
        *folder = p->snapshot;
        p->snapshot = NULL;
    }
    for (size_t i = 0; i < p->n; i++) {
        qvl_mem_free(p->items[i].blob);
        qvl_mem_free(p->items[i].part);
        qvl_mem_free(p->items[i].link);
    }
    qvl_mem_free(p->items);
    qvl_mem_free(p->folder);
    qvl_mem_free(p->snapshot);
    qvl_listing_free(&p->listing);
    qvl_hub_env_free(&p->env);
    pthread_mutex_destroy(&p->lock);
    qvl_mem_free(p);
    return rc;
}
