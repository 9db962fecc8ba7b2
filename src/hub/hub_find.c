/* hub_find.c - a model argument → files on this machine. No network; a snapshot counts only when it is complete. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "formats/safetensors_index.h"
#include "hub/hub.h"

#define INDEX_NAME "model.safetensors.index.json"
enum { MAX_REF = 256, MAX_INDEX = 64 << 20, MAX_FILES = 4096, MAX_LEVELS = 4 };

void qvl_hub_found_free(struct qvl_hub_found *f)
{
    qvl_mem_free(f->path);
    qvl_mem_free(f->mmproj);
    qvl_mem_free(f->name);
    *f = (struct qvl_hub_found){0};
}

static char *join3(const char *a, const char *b, const char *c)
{
    char *ab = qvl_path_join(a, b), *abc = ab ? qvl_path_join(ab, c) : NULL;
    qvl_mem_free(ab);
    return abc;
}

/* Does dir/name lead to a regular file? A link whose blob is gone does not. */
static int has_file(const char *dir, const char *name)
{
    char *path = qvl_path_join(dir, name);
    int yes = path && qvl_file_exists(path);
    qvl_mem_free(path);
    return yes;
}

/* ---------------------------------------------------------------- files of a snapshot */

struct paths {
    char **v; /* relative to the snapshot */
    size_t n;
};

static void paths_free(struct paths *l)
{
    for (size_t i = 0; i < l->n; i++)
        qvl_mem_free(l->v[i]);
    qvl_mem_free(l->v);
    *l = (struct paths){0};
}

static int add_path(struct paths *l, const char *sub, const char *name, qvl_err *err)
{
    if (l->n == MAX_FILES)
        return qvl_fail(err, QVL_E_LIMIT, "%s: more than %d files", sub, MAX_FILES);
    char **v = qvl_realloc(l->v, l->n * sizeof *v, l->n + 1, sizeof *v);
    if (v)
        l->v = v;
    char *path = v ? qvl_path_join(sub, name) : NULL;
    if (!path)
        return qvl_fail_nomem(err, strlen(name), name);
    l->v[l->n++] = path;
    return 0;
}

/* Every file below root/sub; links that lead nowhere are files, too. */
static int list_files(struct paths *l, const char *root, const char *sub, int levels, qvl_err *err)
{
    char *dir = qvl_path_join(root, sub);
    DIR *d = dir ? opendir(*sub ? dir : root) : NULL;
    int rc = d ? 0 : qvl_fail_errno(err, dir ? errno : ENOMEM, "%s", root);
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *rel = qvl_path_join(sub, e->d_name), *full = rel ? qvl_path_join(root, rel) : NULL;
        if (!full)
            rc = qvl_fail_nomem(err, strlen(root), root);
        else if (!qvl_dir_exists(full))
            rc = add_path(l, sub, e->d_name, err);
        else if (levels > 1)
            rc = list_files(l, root, rel, levels - 1, err);
        qvl_mem_free(rel);
        qvl_mem_free(full);
    }
    if (d)
        closedir(d);
    qvl_mem_free(dir);
    return rc;
}

static int any_ends(const struct paths *l, const char *tail)
{
    for (size_t i = 0; i < l->n; i++)
        if (qvl_hub_ends(l->v[i], tail))
            return 1;
    return 0;
}

/* ---------------------------------------------------------------- is it all there */

static int incomplete(const struct qvl_hub_name *n, const char *dir, const char *missing, size_t others, qvl_err *err)
{
    char more[48] = "";
    if (others)
        snprintf(more, sizeof more, " (and %zu other%s)", others, others > 1 ? "s" : "");
    return qvl_fail(err, QVL_E_NOTFOUND, "%s: %s%s is missing in %.200s: qvl pull %s%s%s", n->repo, missing, more, dir, n->repo,
                    n->rev[0] ? "@" : "", n->rev);
}

/* Links of the snapshot that lead nowhere. */
static int check_links(const struct qvl_hub_name *n, const char *dir, const struct paths *l, qvl_err *err)
{
    const char *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < l->n; i++)
        if (!has_file(dir, l->v[i]) && (!count++ || strcmp(l->v[i], first) < 0))
            first = l->v[i];
    return count ? incomplete(n, dir, first, count - 1, err) : 0;
}

static int check_shards(const struct qvl_hub_name *n, const char *dir, qvl_err *err)
{
    struct qvl_st_index x;
    char *path = qvl_path_join(dir, INDEX_NAME), *text = NULL;
    const char *first = NULL;
    size_t len, count = 0;
    int rc = path ? qvl_file_read(&text, &len, path, MAX_INDEX, err) : qvl_fail_nomem(err, strlen(dir), dir);
    if (rc == 0)
        rc = qvl_st_index_parse(&x, text, len, path, err);
    if (rc == 0) {
        for (size_t i = 0; i < x.n_shards; i++)
            if (!has_file(dir, x.shards[i]) && !count++)
                first = x.shards[i];
        if (count && !has_file(dir, "model.safetensors"))
            rc = incomplete(n, dir, first, count - 1, err);
        qvl_st_index_free(&x);
    }
    qvl_mem_free(text);
    qvl_mem_free(path);
    return rc;
}

static int check_snapshot(const struct qvl_hub_name *n, const char *dir, const struct paths *l, int need_weights, qvl_err *err)
{
    static const char *const small[] = {"config.json", "tokenizer.json"};
    QVL_TRY(check_links(n, dir, l, err));
    int is_onnx = has_file(dir, "genai_config.json"), is_adapter = has_file(dir, "adapter_config.json");
    for (size_t i = 0; i < QVL_COUNT(small); i++)
        if (!has_file(dir, small[i]) && !is_onnx && !is_adapter && !(i == 1 && has_file(dir, "vocab.json")))
            return incomplete(n, dir, small[i], 0, err);
    if (!need_weights || is_onnx)
        return 0;
    if (has_file(dir, INDEX_NAME))
        return check_shards(n, dir, err);
    return any_ends(l, ".safetensors") ? 0 : incomplete(n, dir, "model.safetensors", 0, err);
}

/* ---------------------------------------------------------------- revision → commit */

/* The only snapshot whose name begins so; *many = 1 when there are several. From qvl_alloc, or NULL. */
static char *snapshot_beginning(const char *folder, const char *prefix, int *many)
{
    char *dir = qvl_path_join(folder, "snapshots"), *found = NULL;
    DIR *d = dir ? opendir(dir) : NULL;
    *many = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!qvl_hub_is_hex(e->d_name, 40) || strncmp(e->d_name, prefix, strlen(prefix)) != 0)
            continue;
        *many = found != NULL;
        qvl_mem_free(found);
        found = *many ? NULL : qvl_strdup(e->d_name);
        if (*many)
            break;
    }
    if (d)
        closedir(d);
    qvl_mem_free(dir);
    return found;
}

static int read_ref(char **commit, const char *path, qvl_err *err)
{
    char *text;
    size_t len;
    QVL_TRY(qvl_file_read(&text, &len, path, MAX_REF, err));
    while (len && strchr(" \t\r\n", text[len - 1]))
        text[--len] = 0;
    if (qvl_hub_is_hex(text, 40)) {
        *commit = text;
        return 0;
    }
    qvl_mem_free(text);
    return qvl_fail(err, QVL_E_FORMAT, "%s: expected a commit of 40 hexadecimal digits", path);
}

static int is_prefix(const char *rev)
{
    size_t n = strlen(rev);
    return n >= 4 && n < 40 && qvl_hub_is_hex(rev, n);
}

/* The name of the snapshot folder; QVL_E_NOTFOUND when the revision was never fetched. */
static int find_commit(char **commit, const char *folder, const struct qvl_hub_name *n, qvl_err *err)
{
    const char *rev = n->rev[0] ? n->rev : "main";
    int many = 0, rc;
    *commit = NULL;
    if (qvl_hub_is_hex(rev, 40)) {
        *commit = qvl_strdup(rev);
        return *commit ? 0 : qvl_fail_nomem(err, 41, rev);
    }
    char *ref = join3(folder, "refs", rev);
    if (!ref)
        return qvl_fail_nomem(err, strlen(folder), folder);
    rc = qvl_file_exists(ref) ? read_ref(commit, ref, err) : 0;
    qvl_mem_free(ref);
    if (rc || *commit)
        return rc;
    if (is_prefix(rev))
        *commit = snapshot_beginning(folder, rev, &many);
    if (many)
        return qvl_fail(err, QVL_E_ARG, "%s: several snapshots begin with %s: write more of the commit", n->repo, rev);
    if (*commit)
        return 0;
    char *other = snapshot_beginning(folder, "", &many);
    rc = qvl_fail(err, QVL_E_NOTFOUND, "%s: revision %s is not in %.200s%s%.12s: qvl pull %s%s%s", n->repo, rev, folder,
                  other ? ", which has " : many ? ", which has others" : "", other ? other : "", n->repo, n->rev[0] ? "@" : "", n->rev);
    qvl_mem_free(other);
    return rc;
}

/* ---------------------------------------------------------------- the name's files */

static int gguf_files(struct qvl_hub_found *f, const struct qvl_hub_name *n, const char *dir, const struct paths *l, qvl_err *err)
{
    const char **v = qvl_alloc(l->n ? l->n : 1, sizeof *v);
    unsigned char *chosen = qvl_alloc(l->n ? l->n : 1, 1);
    int text, mmproj, rc = 0;
    if (!v || !chosen)
        rc = qvl_fail_nomem(err, l->n * sizeof *v, dir);
    for (size_t i = 0; rc == 0 && i < l->n; i++)
        v[i] = l->v[i];
    if (rc == 0)
        rc = qvl_hub_gguf_choose(v, l->n, n->quant, chosen, &text, &mmproj, n->repo, err);
    for (size_t i = 0; rc == 0 && i < l->n; i++)
        if (chosen[i] && !has_file(dir, v[i]))
            rc = incomplete(n, dir, v[i], 0, err);
    if (rc == 0 && !(f->path = qvl_path_join(dir, v[text])))
        rc = qvl_fail_nomem(err, strlen(dir), dir);
    if (rc == 0 && mmproj >= 0 && !(f->mmproj = qvl_path_join(dir, v[mmproj])))
        rc = qvl_fail_nomem(err, strlen(dir), dir);
    qvl_mem_free(v);
    qvl_mem_free(chosen);
    return rc;
}

static int one_file(struct qvl_hub_found *f, const struct qvl_hub_name *n, const char *dir, qvl_err *err)
{
    f->path = qvl_path_join(dir, n->file);
    if (!f->path)
        return qvl_fail_nomem(err, strlen(dir), dir);
    return qvl_file_exists(f->path) || qvl_dir_exists(f->path) ? 0 : incomplete(n, dir, n->file, 0, err);
}

static int snapshot_files(struct qvl_hub_found *f, const struct qvl_hub_name *n, const char *dir, int need_weights, qvl_err *err)
{
    struct paths l = {0};
    int rc = list_files(&l, dir, "", MAX_LEVELS, err);
    if (rc == 0 && n->file[0])
        rc = one_file(f, n, dir, err);
    else if (rc == 0 && (n->quant[0] || (any_ends(&l, ".gguf") && !any_ends(&l, ".safetensors"))))
        rc = gguf_files(f, n, dir, &l, err);
    else if (rc == 0)
        rc = check_snapshot(n, dir, &l, need_weights, err);
    paths_free(&l);
    if (rc == 0 && !f->path && !(f->path = qvl_strdup(dir)))
        rc = qvl_fail_nomem(err, strlen(dir), dir);
    return rc;
}

/* `folder` is models--ORG--NAME. */
static int in_repo_folder(struct qvl_hub_found *f, const struct qvl_hub_name *n, const char *folder, int need_weights, qvl_err *err)
{
    char *commit = NULL, *dir = NULL;
    int rc = find_commit(&commit, folder, n, err);
    if (rc == 0 && !(dir = join3(folder, "snapshots", commit)))
        rc = qvl_fail_nomem(err, strlen(folder), folder);
    if (rc == 0 && !qvl_dir_exists(dir))
        rc = qvl_fail(err, QVL_E_NOTFOUND, "%s: there is no snapshot %.12s in %.200s: qvl pull %s%s%s", n->repo, commit, folder, n->repo,
                      n->rev[0] ? "@" : "", n->rev);
    if (rc == 0)
        rc = snapshot_files(f, n, dir, need_weights, err);
    if (rc == 0 && !(f->name = qvl_strdup(qvl_path_base(n->repo))))
        rc = qvl_fail_nomem(err, sizeof n->repo, n->repo);
    qvl_mem_free(commit);
    qvl_mem_free(dir);
    return rc;
}

/* "models--ORG--NAME" → "ORG/NAME"; 0 when it is something else. */
static int repo_of_folder(struct qvl_hub_name *n, const char *path)
{
    const char *base = qvl_path_base(path);
    char text[QVL_HUB_REPO];
    if (strncmp(base, "models--", 8) != 0 || strlen(base + 8) >= sizeof text)
        return 0;
    snprintf(text, sizeof text, "%s", base + 8);
    text[strcspn(text, "/")] = 0;
    char *dashes = strstr(text, "--");
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    return qvl_hub_name_parse(n, text, NULL, NULL) == 0;
}

/* A path that exists. */
static int existing(struct qvl_hub_found *f, const char *path, const char *revision, int need_weights, qvl_err *err)
{
    struct qvl_hub_name n;
    int is_dir = qvl_dir_exists(path);
    if (is_dir && repo_of_folder(&n, path)) {
        snprintf(n.rev, sizeof n.rev, "%s", revision ? revision : "");
        return in_repo_folder(f, &n, path, need_weights, err);
    }
    if (revision && *revision)
        return qvl_fail(err, QVL_E_ARG, "%s: is a path; a revision goes with the name of a repository", path);
    if (!is_dir && strstr(path, "/manifests/")) {
        int rc = qvl_ollama_manifest(f, path, err);
        if (rc)
            return rc < 0 ? rc : 0;
    }
    f->path = qvl_strdup(path);
    return f->path ? 0 : qvl_fail_nomem(err, strlen(path), path);
}

static int not_found(const char *text, const struct qvl_hub_name *n, const struct qvl_hub_env *e, const char *ollama, qvl_err *err)
{
    char pull[2 * QVL_HUB_REPO + QVL_HUB_REV + 8];
    snprintf(pull, sizeof pull, "%s%s%s%s%s", n->repo, n->quant[0] ? ":" : "", n->quant, n->rev[0] ? "@" : "", n->rev);
    return qvl_fail(err, QVL_E_NOTFOUND, "%s: no such file or folder, and no such model in %.120s%s%.80s; to download it: qvl pull %s", text,
                    e->cache ? e->cache : "the hub cache (HOME is not set)", *ollama ? " or " : "", ollama,
                    strchr(n->repo, '/') ? pull : "ORG/NAME");
}

static int by_name(struct qvl_hub_found *f, const char *text, const struct qvl_hub_name *n, int need_weights, qvl_err *err)
{
    struct qvl_hub_env e;
    char looked[256] = "";
    char *folder = NULL;
    QVL_TRY(qvl_hub_env_read(&e, 0, err));
    int rc = e.cache && !(folder = qvl_hub_repo_folder(&e, n->repo)) ? qvl_fail_nomem(err, sizeof n->repo, n->repo) : 0;
    if (rc == 0 && folder && qvl_dir_exists(folder)) {
        rc = in_repo_folder(f, n, folder, need_weights, err);
    } else if (rc == 0) {
        rc = qvl_ollama_find(f, text, looked, sizeof looked, err);
        rc = rc == 1 ? 0 : rc < 0 ? rc : not_found(text, n, &e, looked, err);
    }
    qvl_mem_free(folder);
    qvl_hub_env_free(&e);
    return rc;
}

int qvl_hub_resolve(struct qvl_hub_found *f, const char *text, const char *revision, int need_weights, qvl_err *err)
{
    struct qvl_hub_name n;
    *f = (struct qvl_hub_found){0};
    int rc;
    if (qvl_file_exists(text) || qvl_dir_exists(text))
        rc = existing(f, text, revision, need_weights, err);
    else if ((rc = qvl_hub_name_parse(&n, text, revision, err)) == 0)
        rc = by_name(f, text, &n, need_weights, err);
    else if (!n.repo[0]) /* it looks like a path */
        rc = qvl_fail(err, QVL_E_NOTFOUND, "%s: no such model", text);
    if (rc)
        qvl_hub_found_free(f);
    return rc;
}

int qvl_hub_find(const char *name, const char *revision, char **path, char **mmproj, qvl_err *err)
{
    struct qvl_hub_found f;
    if (!name || !*name || !path)
        return qvl_fail(err, QVL_E_ARG, "qvl_hub_find: name or path is missing");
    *path = NULL;
    if (mmproj)
        *mmproj = NULL;
    QVL_TRY(qvl_hub_resolve(&f, name, revision, 1, err));
    *path = f.path;
    f.path = NULL;
    if (mmproj) {
        *mmproj = f.mmproj;
        f.mmproj = NULL;
    }
    qvl_hub_found_free(&f);
    return 0;
}
