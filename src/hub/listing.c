/* listing.c - JSON from a server nobody vouches for: every name and number is checked before anything uses it. */
#include "hub/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "hub/hub.h"

enum { MAX_FILES = 100000 };
#define MAX_SIZE ((uint64_t)1 << 50) /* of one file: a thousand times the largest model's whole weight */

static const char *text_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    const char *s = json_string_value(v);
    return s && strlen(s) == json_string_length(v) ? s : NULL;
}

/* Absent and null are unknown; anything but a number that a file can have is an error. */
static int take_size(uint64_t *out, const json_t *o, const char *what, const char *path, qvl_err *err)
{
    const json_t *v = json_object_get(o, "size");
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > MAX_SIZE)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: size: expected a whole number of bytes up to 2^50", what, path);
    *out = (uint64_t)json_integer_value(v);
    return 0;
}

static int take_file(struct qvl_listing_file *f, const json_t *o, const char *what, qvl_err *err)
{
    const char *path = text_of(o, "rfilename"), *git = text_of(o, "blobId");
    const json_t *lfs = json_object_get(o, "lfs");
    if (!path || !qvl_hub_safe_path(path))
        return qvl_fail(err, QVL_E_FORMAT, "%s: the server names a file \"%.200s\", which does not stay in its folder", what,
                        path ? path : "(no text)");
    *f = (struct qvl_listing_file){.size = QVL_SIZE_UNKNOWN};
    QVL_TRY(take_size(&f->size, o, what, path, err));
    if (json_is_object(lfs)) {
        const char *sha = text_of(lfs, "sha256");
        sha = sha ? sha : text_of(lfs, "oid");
        if (!sha || !qvl_hub_is_hex(sha, 64))
            return qvl_fail(err, QVL_E_FORMAT, "%s: %s: lfs.sha256: expected 64 hexadecimal digits", what, path);
        snprintf(f->sha256, sizeof f->sha256, "%s", sha);
        QVL_TRY(take_size(&f->size, lfs, what, path, err));
    }
    if (git && qvl_hub_is_hex(git, 40))
        snprintf(f->git, sizeof f->git, "%s", git);
    f->path = qvl_strdup(path);
    return f->path ? 0 : qvl_fail_nomem(err, strlen(path), what);
}

static int path_order(const void *a, const void *b)
{
    const struct qvl_listing_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static int take_files(struct qvl_listing *l, const json_t *list, const char *what, qvl_err *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > MAX_FILES)
        return qvl_fail(err, QVL_E_FORMAT, "%s: siblings: expected a list of at most %d files", what, MAX_FILES);
    l->files = qvl_calloc(n ? n : 1, sizeof *l->files);
    if (!l->files)
        return qvl_fail_nomem(err, n * sizeof *l->files, what);
    for (; l->n < n; l->n++)
        QVL_TRY(take_file(&l->files[l->n], json_array_get(list, l->n), what, err));
    qsort(l->files, n, sizeof *l->files, path_order);
    for (size_t i = 1; i < n; i++)
        if (strcmp(l->files[i - 1].path, l->files[i].path) == 0)
            return qvl_fail(err, QVL_E_FORMAT, "%s: siblings: %s is listed twice", what, l->files[i].path);
    return 0;
}

int qvl_listing_parse(struct qvl_listing *l, const char *text, size_t len, const char *what, qvl_err *err)
{
    json_t *root = NULL;
    *l = (struct qvl_listing){0};
    int rc = len > QVL_LISTING_MAX_BYTES ? qvl_fail(err, QVL_E_LIMIT, "%s: a description of %zu bytes", what, len)
                                         : qvl_json_parse(&root, text, len, what, err);
    const char *commit = text_of(root, "sha");
    if (rc == 0 && (!commit || !qvl_hub_is_hex(commit, 40)))
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: sha: found %.60s, expected a commit of 40 hexadecimal digits", what, commit ? commit : "none");
    if (rc == 0) {
        snprintf(l->commit, sizeof l->commit, "%s", commit);
        rc = take_files(l, json_object_get(root, "siblings"), what, err);
    }
    json_decref(root);
    if (rc)
        qvl_listing_free(l);
    return rc;
}

void qvl_listing_free(struct qvl_listing *l)
{
    for (size_t i = 0; i < l->n; i++) /* one that failed has no path yet */
        qvl_mem_free(l->files[i].path);
    qvl_mem_free(l->files);
    *l = (struct qvl_listing){0};
}
