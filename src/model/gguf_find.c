/* gguf_find.c - which GGUF files of a folder make a model. Names only propose; the files' own metadata decide. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/gguf_parts.h"

enum { MAX_FILES = 4096, STEM = 256 };

struct names {
    char **v;
    size_t n;
};

static void names_free(struct names *l)
{
    for (size_t i = 0; i < l->n; i++)
        qvl_mem_free(l->v[i]);
    qvl_mem_free(l->v);
    *l = (struct names){0};
}

static int ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcasecmp(s + n - m, tail) == 0;
}

static int name_order(const void *a, const void *b)
{
    char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Paths of the folder's files that end in `tail`, sorted. */
static int list(struct names *l, const char *dir, const char *tail, qvl_err *err)
{
    DIR *d = opendir(dir);
    int rc = 0;
    *l = (struct names){0};
    if (!d)
        return qvl_fail_errno(err, errno, "%s", dir);
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (e->d_name[0] == '.' || !ends_with(e->d_name, tail))
            continue;
        if (l->n == MAX_FILES) {
            rc = qvl_fail(err, QVL_E_LIMIT, "%s: more than %d files", dir, MAX_FILES);
            break;
        }
        char **v = qvl_realloc(l->v, l->n * sizeof *v, l->n + 1, sizeof *v);
        if (v)
            l->v = v;
        char *path = v ? qvl_path_join(dir, e->d_name) : NULL;
        if (path)
            v[l->n++] = path;
        else
            rc = qvl_fail_nomem(err, strlen(dir), dir);
    }
    closedir(d);
    if (rc)
        names_free(l);
    else if (l->n)
        qsort(l->v, l->n, sizeof *l->v, name_order);
    return rc;
}

static int count(const char *dir, const char *tail)
{
    struct names l;
    qvl_err err;
    if (list(&l, dir, tail, &err))
        return 0;
    int n = (int)l.n;
    names_free(&l);
    return n;
}

int qvl_gguf_model_is(const char *path)
{
    if (!qvl_dir_exists(path))
        return qvl_gguf_is(path);
    char *config = qvl_path_join(path, "config.json");
    int safetensors = config && qvl_file_exists(config) && count(path, ".safetensors") > 0;
    qvl_mem_free(config);
    return !safetensors && count(path, ".gguf") > 0;
}

/* What a file says it is. */
struct look {
    int is_text;    /* something other than a vision file or an adapter, and not a later shard */
    int is_vision;
    int width;      /* of a vision file's output; 0 = not said */
    int type;       /* general.file_type */
};

static int look_at(struct look *k, const char *path, qvl_err *err)
{
    struct qvl_gguf *g;
    struct qvl_gguf_text arch, type;
    int shard;
    *k = (struct look){0};
    QVL_TRY(qvl_gguf_open_alone(&g, path, err));
    int rc = qvl_gguf_string(g, "general.architecture", &arch, err);
    if (rc == 0)
        rc = qvl_gguf_string(g, "general.type", &type, err);
    if (rc == 0)
        rc = qvl_gguf_i32(g, "split.no", 0, INT32_MAX, 0, &shard, err);
    if (rc == 0)
        rc = qvl_gguf_i32(g, "clip.vision.projection_dim", 1, INT32_MAX, 0, &k->width, err);
    if (rc == 0)
        rc = qvl_gguf_i32(g, "general.file_type", 0, INT32_MAX, -1, &k->type, err);
    if (rc == 0) {
        k->is_vision = qvl_gguf_text_is(arch, "clip");
        k->is_text = !k->is_vision && shard == 0 && (!type.s || qvl_gguf_text_is(type, "model"));
    }
    qvl_gguf_close(&g);
    return rc;
}

static int only_model(char **out, const char *dir, const struct names *l, qvl_err *err)
{
    const char *found = NULL;
    for (size_t i = 0; i < l->n; i++) {
        struct look k;
        QVL_TRY(look_at(&k, l->v[i], err));
        if (!k.is_text)
            continue;
        if (found)
            return qvl_fail(err, QVL_E_ARG, "%s: holds several models (%s and %s): name one of the files", dir,
                            qvl_path_base(found), qvl_path_base(l->v[i]));
        found = l->v[i];
    }
    if (!found)
        return qvl_fail(err, QVL_E_NOTFOUND, "%s: none of its %zu GGUF files is a text model", dir, l->n);
    *out = qvl_strdup(found);
    return *out ? 0 : qvl_fail_nomem(err, strlen(found), dir);
}

int qvl_gguf_find_text(char **out, const char *path, qvl_err *err)
{
    struct names l;
    *out = NULL;
    if (!qvl_dir_exists(path)) {
        *out = qvl_strdup(path);
        return *out ? 0 : qvl_fail_nomem(err, strlen(path), path);
    }
    QVL_TRY(list(&l, path, ".gguf", err));
    int rc = only_model(out, path, &l, err);
    names_free(&l);
    return rc;
}

/* ---------------------------------------------------------------- the vision file */

/* Letters and digits of a file's name without "mmproj" and the type: files of one model have the same. */
static void stem(char buf[STEM], const char *path)
{
    static const char *const drop[] = {"mmproj", "bf16", "f16", "fp16", "f32", "q8_0", ".gguf"};
    const char *s = qvl_path_base(path);
    size_t n = 0;
    while (*s && n + 1 < STEM) {
        size_t skip = 0;
        for (size_t i = 0; i < QVL_COUNT(drop) && !skip; i++)
            if (strncasecmp(s, drop[i], strlen(drop[i])) == 0)
                skip = strlen(drop[i]);
        if (!skip && isalnum((unsigned char)*s))
            buf[n++] = (char)tolower((unsigned char)*s);
        s += skip ? skip : 1;
    }
    buf[n] = 0;
}

static int contains(const char *s, const char *word)
{
    for (size_t n = strlen(word); *s; s++)
        if (strncasecmp(s, word, n) == 0)
            return 1;
    return 0;
}

/* F16 first, as most text models come with it; then the other full precisions, Q8_0, the rest. */
static int preference(int file_type)
{
    static const int order[] = {1, 32, 0, 7};
    for (int i = 0; i < (int)QVL_COUNT(order); i++)
        if (order[i] == file_type)
            return i;
    return (int)QVL_COUNT(order);
}

struct choice {
    const char *path;
    int preference;
    char stem[STEM];
};

/* Of two files with different stems the one that the text file's name begins with; 0 = neither. */
static int better_stem(const struct choice *a, const struct choice *b, const char *text)
{
    size_t na = strlen(a->stem), nb = strlen(b->stem);
    int fa = na && strncmp(text, a->stem, na) == 0, fb = nb && strncmp(text, b->stem, nb) == 0;
    if (fa && fb)
        return na > nb ? 1 : -1;
    return fa - fb;
}

static int choose(char **out, const struct names *l, const char *text_path, int d_model, qvl_err *err)
{
    struct choice best = {0}, c;
    const char *rival = NULL; /* of another stem, and nothing tells which is right */
    char text[STEM];
    qvl_err first = {0}, *damaged = NULL;
    stem(text, text_path);
    for (size_t i = 0; i < l->n; i++) {
        struct look k;
        qvl_err e = {0};
        if (!contains(qvl_path_base(l->v[i]), "mmproj"))
            continue;
        if (look_at(&k, l->v[i], &e)) {
            if (!damaged)
                first = e;
            damaged = &first;
            continue;
        }
        if (!k.is_vision || k.width != d_model)
            continue;
        c = (struct choice){.path = l->v[i], .preference = preference(k.type)};
        stem(c.stem, c.path);
        int same = best.path && strcmp(best.stem, c.stem) == 0, order = best.path && !same ? better_stem(&c, &best, text) : 0;
        if (!best.path || order > 0 || (same && c.preference < best.preference)) {
            if (order > 0)
                rival = NULL;
            best = c;
        } else if (!same && order == 0) {
            rival = c.path;
        }
    }
    if (rival)
        return qvl_fail(err, QVL_E_ARG, "%s: both %s and %s could be its vision half: name one with --mmproj", text_path,
                        qvl_path_base(best.path), qvl_path_base(rival));
    if (!best.path && damaged)
        return qvl_fail(err, damaged->code, "%s", damaged->msg);
    *out = best.path ? qvl_strdup(best.path) : NULL;
    return best.path && !*out ? qvl_fail_nomem(err, strlen(best.path), best.path) : 0;
}

int qvl_gguf_find_mmproj(char **out, const char *text_path, int d_model, qvl_err *err)
{
    struct names l;
    const char *base = qvl_path_base(text_path);
    char *dir = base == text_path ? qvl_strdup(".") : qvl_strndup(text_path, (size_t)(base - text_path));
    *out = NULL;
    if (!dir)
        return qvl_fail_nomem(err, strlen(text_path), text_path);
    int rc = list(&l, dir, ".gguf", err);
    if (rc == 0) {
        rc = choose(out, &l, text_path, d_model, err);
        names_free(&l);
    }
    qvl_mem_free(dir);
    return rc;
}

int qvl_gguf_find_vision(char **out, const char *path, int d_model, qvl_err *err)
{
    struct names l;
    *out = NULL;
    if (!qvl_dir_exists(path)) {
        *out = qvl_strdup(path);
        return *out ? 0 : qvl_fail_nomem(err, strlen(path), path);
    }
    QVL_TRY(list(&l, path, ".gguf", err));
    int rc = choose(out, &l, path, d_model, err);
    if (rc == 0 && !*out)
        rc = qvl_fail(err, QVL_E_NOTFOUND, "%s: none of its %zu GGUF files is the vision half (mmproj) of a model of width %d", path, l.n,
                      d_model);
    names_free(&l);
    return rc;
}
