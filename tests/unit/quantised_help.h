/* quantised_help.h - models of tests/data/quantised put together: base/ (and base-moe/) hold what all share, NAME/ what stands in the
 * place of the first layer's matrices. */
#ifndef QVL_TESTS_QUANTISED_HELP_H
#define QVL_TESTS_QUANTISED_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/tensor_source.h"
#include "model/weights.h"

#define QUANTISED QVL_SOURCE_DIR "/tests/data/quantised/"

static const char *const quantised_names[] = {"awq", "gptq-order", "gptq-sym", "gptq2-8", "ct-w4a16", "ct-w8a8", "ct-fp8",
                                              "fp8", "fp8-moe",    "bnb-nf4",  "bnb-int8", "mlx",     "mlx-moe"};
enum { N_QUANTISED = sizeof quantised_names / sizeof *quantised_names };

static const char *const quantised_files[] = {"config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json",
                                              "tokenizer_config.json", "chat_template.jinja", "model.safetensors", "quantize_config.json"};
enum { N_SHARED = 5 }; /* from the second on: links to base/ */

static inline void remove_quantised(const char *dir)
{
    char path[300];
    for (size_t i = 0; i < sizeof quantised_files / sizeof *quantised_files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, quantised_files[i]);
        unlink(path);
    }
    rmdir(dir);
}

struct quantised_change {
    const char *drop;       /* tensors whose names end so are left out */
    const char *from, *to;  /* in config.json, once; NULL: as it is */
    const struct qvl_tensor *extra; /* one more tensor, or NULL */
};

static inline int ends_so(const char *name, const char *tail)
{
    size_t n = strlen(name), m = tail ? strlen(tail) : 0;
    return m && n >= m && !strcmp(name + n - m, tail);
}

static inline void put_tensors(struct qvl_tensor *list, size_t *n, const struct qvl_tensors *t, int without_layers, const char *drop)
{
    size_t before = *n;
    for (size_t i = 0; i < qvl_tensors_count(t); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(t, i);
        char name[256], other[256];
        int taken = ends_so(x->name, drop) || (without_layers && strstr(x->name, "language_model.layers."));
        qvl_canonical_name(name, sizeof name, x->name);
        for (size_t k = 0; k < before && !taken; k++) {
            qvl_canonical_name(other, sizeof other, list[k].name);
            taken = !strcmp(name, other);
        }
        if (!taken)
            list[(*n)++] = *x;
    }
}

static inline void put_config(const char *dir, const char *name, const struct quantised_change *c)
{
    char path[300], *text, *at;
    size_t len;
    qvl_err err;
    snprintf(path, sizeof path, QUANTISED "%s/config.json", name);
    if (qvl_file_read(&text, &len, path, 1 << 20, &err) != 0)
        fail_msg("%s", err.msg);
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    at = c && c->from ? strstr(text, c->from) : NULL;
    if (c && c->from && !at)
        fail_msg("%s: no %s in config.json", name, c->from);
    if (at)
        fprintf(f, "%.*s%s%s", (int)(at - text), text, c->to, at + strlen(c->from));
    else
        fputs(text, f);
    fclose(f);
    qvl_mem_free(text);
}

/* A new folder, its name in dir[64]. */
static inline void make_quantised(char dir[64], const char *name, const struct quantised_change *c)
{
    static const char *const sources[] = {QUANTISED "%s/quantised.safetensors", QUANTISED "base-moe/rest.safetensors", QUANTISED "base/rest.safetensors"};
    struct qvl_tensors *t[3] = {NULL, NULL, NULL};
    struct qvl_tensor list[512];
    const struct qvl_tensor_meta meta = {"format", "pt"};
    size_t n = 0;
    char path[300], target[300];
    qvl_err err;
    int moe = ends_so(name, "-moe");
    snprintf(dir, 64, "/tmp/qvl-quantised-XXXXXX");
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 3; i++) {
        if (i == 1 && !moe)
            continue;
        snprintf(path, sizeof path, sources[i], name);
        if (qvl_safetensors_open(&t[i], path, &err) != 0)
            fail_msg("%s", err.msg);
        assert_true(n + qvl_tensors_count(t[i]) <= sizeof list / sizeof *list);
        put_tensors(list, &n, t[i], i == 2 && moe, c ? c->drop : NULL);
    }
    if (c && c->extra)
        list[n++] = *c->extra;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (qvl_safetensors_write(path, list, n, &meta, 1, &err) != 0)
        fail_msg("%s", err.msg);
    for (int i = 0; i < 3; i++)
        qvl_tensors_close(&t[i]);
    for (size_t i = 1; i <= N_SHARED; i++) {
        snprintf(target, sizeof target, QUANTISED "base/%s", quantised_files[i]);
        snprintf(path, sizeof path, "%s/%s", dir, quantised_files[i]);
        assert_int_equal(symlink(target, path), 0);
    }
    put_config(dir, name, c);
}

#endif
