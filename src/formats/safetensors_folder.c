/* safetensors_folder.c - a path → the set of tensors behind it: a single file, a folder with an index and shards, or a
 * folder with one file.
 *
 * The index is a list of names and files; what the files hold is checked against it in both directions. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "formats/safetensors.h"
#include "formats/safetensors_index.h"
#include "formats/sniff.h"

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"
#define MAX_INDEX_BYTES (64u << 20)
#define MAX_SHARDS 4096

static int string_order(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* A plain file name: whoever wrote the index must not be able to point outside the folder. */
static int plain_name(const char *s)
{
    if (!*s || *s == '.' || strlen(s) > 255 || strstr(s, ".."))
        return 0;
    for (; *s; s++)
        if (*s == '/' || *s == '\\' || *s == ':' || (unsigned char)*s < 0x20 || *s == 0x7f)
            return 0;
    return 1;
}

int qvl_st_index_parse(struct qvl_st_index *x, const char *text, size_t len, const char *what, qvl_err *err)
{
    json_t *map, *value;
    const char *key;
    size_t n = 0;
    int rc;
    *x = (struct qvl_st_index){0};
    QVL_TRY_DONE(qvl_json_parse(&x->root, text, len, what, err));
    map = json_object_get(x->root, "weight_map");
    if (!json_is_object(map) || !json_object_size(map)) {
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: weight_map: missing, empty or not an object%s", what, qvl_sniff(text, len));
        goto done;
    }
    x->map = map;
    x->shards = qvl_alloc(json_object_size(map), sizeof *x->shards);
    if (!x->shards) {
        rc = qvl_fail_nomem(err, json_object_size(map) * sizeof *x->shards, what);
        goto done;
    }
    json_object_foreach(map, key, value) {
        const char *file = json_string_value(value);
        if (!file || strlen(file) != json_string_length(value) || !plain_name(file)) {
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: weight_map: tensor %s: found %s, expected a plain file name", what, key,
                          file ? file : "no string");
            goto done;
        }
        x->shards[n++] = file;
    }
    qsort(x->shards, n, sizeof *x->shards, string_order);
    for (size_t i = 0; i < n; i++)
        if (!x->n_shards || strcmp(x->shards[x->n_shards - 1], x->shards[i]) != 0)
            x->shards[x->n_shards++] = x->shards[i];
    if (x->n_shards > MAX_SHARDS)
        rc = qvl_fail(err, QVL_E_LIMIT, "%s: weight_map: %zu files, the limit is %d", what, x->n_shards, MAX_SHARDS);
done:
    if (rc)
        qvl_st_index_free(x);
    return rc;
}

void qvl_st_index_free(struct qvl_st_index *x)
{
    json_decref(x->root);
    qvl_mem_free(x->shards);
    *x = (struct qvl_st_index){0};
}

/* Sets *missing to the first file that is not there, or to NULL. */
static int first_missing(const struct qvl_st_index *x, const char *dir, const char **missing, qvl_err *err)
{
    *missing = NULL;
    for (size_t i = 0; i < x->n_shards && !*missing; i++) {
        char *path = qvl_path_join(dir, x->shards[i]);
        if (!path)
            return qvl_fail_nomem(err, strlen(dir), dir);
        if (!qvl_file_exists(path))
            *missing = x->shards[i];
        qvl_mem_free(path);
    }
    return 0;
}

static int exists_in(const char *dir, const char *name)
{
    char *path = qvl_path_join(dir, name);
    int yes = path && qvl_file_exists(path);
    qvl_mem_free(path);
    return yes;
}

/* Every mapped tensor is in its file; tensors that the index does not know are worth a warning. some: files may be missing. */
static int check_index(struct qvl_tensors *t, const struct qvl_st_index *x, const char *dir, int some, qvl_err *err)
{
    size_t absent = 0;
    const char *key;
    json_t *value;
    json_object_foreach(x->map, key, value) {
        const char *file = json_string_value(value);
        const struct qvl_tensor *found = qvl_tensors_find(t, key);
        if (!found && some && !exists_in(dir, file)) {
            absent++;
            continue;
        }
        if (!found)
            return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: not found, but the index says it is here", file, key);
        if (strcmp(qvl_path_base(found->file), file) != 0)
            return qvl_fail(err, QVL_E_FORMAT, "tensor %s: found in %s, but the index says %s", key, found->file, file);
    }
    size_t extra = t->n + absent - json_object_size(x->map);
    for (size_t i = 0; i < t->n && extra; i++) {
        if (json_object_get(x->map, t->list[i].name))
            continue;
        qvl_tensors_warn(t, "%s: tensor %s is not in the index%s", t->list[i].file, t->list[i].name,
                         extra > 1 ? ", and others are not either" : "");
        break;
    }
    return 0;
}

static int add_name(struct qvl_tensors *t, const char *dir, const char *name, qvl_err *err)
{
    char *path = qvl_path_join(dir, name);
    if (!path)
        return qvl_fail_nomem(err, strlen(dir), dir);
    int rc = qvl_st_add_path(t, path, err);
    qvl_mem_free(path);
    return rc;
}

/* *used = 1 when the index was there and complete; or, with `some`, when any of its files is there. */
static int try_index(struct qvl_tensors *t, const char *dir, const char *index_path, int have_single, int some, int *used, qvl_err *err)
{
    struct qvl_st_index x = {0};
    char *text = NULL;
    const char *missing;
    size_t len;
    int rc;
    *used = 0;
    QVL_TRY(qvl_file_read(&text, &len, index_path, MAX_INDEX_BYTES, err));
    QVL_TRY_DONE(qvl_st_index_parse(&x, text, len, index_path, err));
    QVL_TRY_DONE(first_missing(&x, dir, &missing, err));
    for (size_t i = 0; missing && some && i < x.n_shards; i++)
        if (exists_in(dir, x.shards[i]))
            missing = NULL;
    if (missing) {
        if (have_single)
            qvl_tensors_warn(t, "%s: the file %s is missing, %s is used instead", index_path, missing, SINGLE_NAME);
        else
            rc = qvl_fail(err, QVL_E_NOTFOUND, "%s: the index names the file %s, which is missing", dir, missing);
        goto done;
    }
    for (size_t i = 0; i < x.n_shards; i++)
        if (!some || exists_in(dir, x.shards[i]))
            QVL_TRY_DONE(add_name(t, dir, x.shards[i], err));
    QVL_TRY_DONE(qvl_tensors_index(t, err));
    QVL_TRY_DONE(check_index(t, &x, dir, some, err));
    *used = 1;
done:
    qvl_st_index_free(&x);
    qvl_mem_free(text);
    return rc;
}

static int ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Looks through the folder for the only *.safetensors file, and for what else may explain its absence. */
static int only_file(const char *dir, char *name, size_t size, qvl_err *err)
{
    const char *hint = "";
    const struct dirent *e;
    size_t n = 0;
    int rc = 0;
    DIR *d = opendir(dir);
    if (!d)
        return qvl_fail_errno(err, errno, "%s: cannot open the folder", dir);
    while ((e = readdir(d)) != NULL) {
        const char *s = e->d_name;
        if (*s == '.')
            continue;
        if (ends_with(s, ".gguf"))
            hint = "; it has GGUF files";
        else if (ends_with(s, ".onnx"))
            hint = "; it has ONNX files";
        else if (ends_with(s, ".bin") || ends_with(s, ".pth") || ends_with(s, ".pt"))
            hint = "; it has PyTorch files: convert them to safetensors";
        if (!ends_with(s, ".safetensors"))
            continue;
        if (n++) { /* readdir has no order: name the smaller one first */
            const char *a = strcmp(name, s) < 0 ? name : s, *b = a == s ? name : s;
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: several safetensors files (%s, %s, ...) and no %s", dir, a, b, INDEX_NAME);
            break;
        }
        snprintf(name, size, "%s", s);
    }
    closedir(d);
    if (!rc && !n)
        rc = qvl_fail(err, QVL_E_NOTFOUND, "%s: no weights: looked for %s, %s and any *.safetensors%s", dir, INDEX_NAME,
                      SINGLE_NAME, hint);
    return rc;
}

static int open_folder(struct qvl_tensors *t, const char *dir, int some, qvl_err *err)
{
    char name[256];
    int used = 0, rc = 0;
    char *index = qvl_path_join(dir, INDEX_NAME), *single = qvl_path_join(dir, SINGLE_NAME);
    if (!index || !single) {
        rc = qvl_fail_nomem(err, strlen(dir), dir);
        goto done;
    }
    int have_single = qvl_file_exists(single);
    if (qvl_file_exists(index))
        QVL_TRY_DONE(try_index(t, dir, index, have_single, some, &used, err));
    if (used)
        goto done;
    if (have_single) {
        QVL_TRY_DONE(qvl_st_add_path(t, single, err));
    } else {
        QVL_TRY_DONE(only_file(dir, name, sizeof name, err));
        QVL_TRY_DONE(add_name(t, dir, name, err));
    }
    rc = qvl_tensors_index(t, err);
done:
    qvl_mem_free(index);
    qvl_mem_free(single);
    return rc;
}

static int open_path(struct qvl_tensors **out, const char *path, int some, qvl_err *err)
{
    struct qvl_tensors *t = NULL;
    int rc;
    *out = NULL;
    if (!path || !*path)
        return qvl_fail(err, QVL_E_ARG, "no path of a model was given");
    QVL_TRY_DONE(qvl_tensors_new(&t, path, err));
    if (qvl_dir_exists(path)) {
        QVL_TRY_DONE(open_folder(t, path, some, err));
    } else {
        QVL_TRY_DONE(qvl_st_add_path(t, path, err));
        QVL_TRY_DONE(qvl_tensors_index(t, err));
    }
    if (t->warnings.failed) {
        rc = qvl_fail_nomem(err, t->warnings.len, "warnings");
        goto done;
    }
    *out = t;
    t = NULL;
done:
    qvl_tensors_close(&t);
    return rc;
}

int qvl_safetensors_open(struct qvl_tensors **out, const char *path, qvl_err *err) { return open_path(out, path, 0, err); }

int qvl_safetensors_open_some(struct qvl_tensors **out, const char *path, qvl_err *err) { return open_path(out, path, 1, err); }
