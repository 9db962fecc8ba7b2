/* packing.c - integer weights of a model: found in the cache folder, or made and kept there.
 *
 * The cache holds one packed file for each source, kind and format version. The key is a hash of the source files' real
 * paths, sizes, times and samples of their content; it stands in the file's name and in its metadata. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "model/vision_quant.h"

enum { SAMPLE = 65536, SAMPLES = 16 }; /* bytes and places looked at in each source file */

/* Adds what identifies a file to the buffer that is hashed. */
static int describe_file(struct qvl_buf *b, const char *path, qvl_err *err)
{
    struct qvl_map map;
    struct stat st;
    uint64_t h[2];
    char *real = realpath(path, NULL);
    if (!real || stat(real, &st) != 0) {
        free(real);
        return qvl_fail_errno(err, errno, "%s", path);
    }
    qvl_buf_printf(b, "%s %lld %lld.%09ld\n", real, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    free(real);
    QVL_TRY(qvl_map_open(&map, path, err));
    for (size_t i = 0; i < SAMPLES && map.size; i++) {
        size_t at = map.size / SAMPLES * i, n = map.size - at < SAMPLE ? map.size - at : SAMPLE;
        qvl_hash128(h, map.data + at, n, i);
        qvl_buf_printf(b, "%016llx%016llx\n", (unsigned long long)h[0], (unsigned long long)h[1]);
    }
    qvl_map_close(&map);
    return 0;
}

int qvl_model_key(char key[40], const struct qvl_model *m, const struct qvl_pack_options *o, const char *more, qvl_err *err)
{
    struct qvl_buf b;
    uint64_t h[2];
    const char *last = "";
    int rc = 0;
    qvl_buf_init(&b, 16u << 20);
    qvl_buf_printf(&b, "%s %d %d %d %s\n", QVL_PACK_VERSION, (int)o->text, (int)o->head, o->keep, more);
    for (size_t i = 0; i < qvl_tensors_count(m->tensors) && rc == 0; i++) {
        const char *file = qvl_tensors_at(m->tensors, i)->file;
        if (strcmp(file, last) != 0)
            rc = describe_file(&b, file, err);
        last = file;
    }
    if (rc == 0 && m->onnx.path) /* it says what the bytes of its external data mean */
        rc = describe_file(&b, m->onnx.path, err);
    for (int i = 0; i < m->n_quantised; i++) { /* what a configuration says of the meaning of bytes */
        const struct qvl_quant_config *q = &m->quantised[i].quant;
        qvl_buf_printf(&b, "%d %d %d %d %dx%d\n", (int)q->method, q->bits, q->group, q->zero_add, q->block[0], q->block[1]);
    }
    if (rc == 0 && b.failed)
        rc = qvl_fail_nomem(err, b.len, "the cache key");
    if (rc == 0) {
        qvl_hash128(h, b.data, b.len, 0);
        snprintf(key, 40, "%016llx%016llx", (unsigned long long)h[0], (unsigned long long)h[1]);
    }
    qvl_buf_free(&b);
    return rc;
}

void qvl_model_release(void *model, const void *p, size_t n)
{
    const struct qvl_model *m = model;
    const struct qvl_gguf *gguf[] = {m->gguf.text, m->gguf.vision, m->gguf_text.text, m->gguf_vision.vision};
    const struct qvl_onnx *onnx[] = {m->onnx.graph, m->onnx.embedding};
    qvl_tensors_release(m->tensors, p, n);
    for (int i = 0; i < m->n_held; i++)
        qvl_tensors_release(m->held[i], p, n);
    for (size_t i = 0; i < QVL_COUNT(gguf); i++)
        qvl_tensors_release(gguf[i] ? qvl_gguf_tensors(gguf[i]) : NULL, p, n);
    for (size_t i = 0; i < QVL_COUNT(onnx); i++)
        qvl_tensors_release(onnx[i] ? qvl_onnx_tensors(onnx[i]) : NULL, p, n);
}

enum qvl_dtype qvl_pack_default_head(enum qvl_dtype text) { return text; }

/* $XDG_CACHE_HOME/qvl or ~/.cache/qvl, made if need be; NULL when there is no place. From qvl_alloc. */
static char *cache_folder(void)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *base = xdg && xdg[0] == '/' ? qvl_strdup(xdg) : home && home[0] == '/' ? qvl_path_join(home, ".cache") : NULL;
    char *dir = base ? qvl_path_join(base, "qvl") : NULL;
    if (dir) {
        mkdir(base, 0777); /* exists already, or the next call fails */
        if (mkdir(dir, 0777) != 0 && !qvl_dir_exists(dir)) {
            qvl_mem_free(dir);
            dir = NULL;
        }
    }
    qvl_mem_free(base);
    return dir;
}

/* NAME-kind-key.safetensors in the cache folder; NULL when there is no such folder. */
static char *cache_path(const struct qvl_model *m, const char *key, const struct qvl_pack_options *o)
{
    char *dir = cache_folder(), *path = NULL;
    struct qvl_buf b;
    if (!dir)
        return NULL;
    qvl_buf_init(&b, 4096);
    qvl_buf_printf(&b, "%s/%.80s-%s-%.16s.safetensors", dir, m->name, o->text == QVL_DT_Q4 ? "q4" : "q8", key);
    path = qvl_buf_take(&b, NULL);
    qvl_mem_free(dir);
    return path;
}

static void warn(struct qvl_model *m, const char *what, const qvl_err *why)
{
    struct qvl_buf b;
    qvl_buf_init(&b, 65536);
    qvl_buf_printf(&b, "%s%s%s: %s", m->warnings ? m->warnings : "", m->warnings ? "\n" : "", what, why->msg);
    char *text = qvl_buf_take(&b, NULL);
    if (text) {
        qvl_mem_free(m->warnings);
        m->warnings = text;
    }
}

/* 1 when the cached file exists, belongs to the key and could be bound. A damaged one is made anew. */
static int use_cached(struct qvl_model *m, const char *path, const char *key, const struct qvl_pack_options *o)
{
    qvl_err err;
    if (!qvl_file_exists(path))
        return 0;
    int rc = qvl_safetensors_open(&m->packed, path, &err);
    const char *found = rc == 0 ? qvl_tensors_meta(m->packed, "qvl.key") : NULL;
    if (rc == 0 && found && strcmp(found, key) == 0 && qvl_pack_bind(&m->weights, &m->config, o, m->packed, &m->packed_bytes, &err) == 0)
        return 1;
    qvl_tensors_close(&m->packed);
    return 0;
}

static int pack(struct qvl_model *m, const char *path, const char *key, struct qvl_packing *p, qvl_err *err)
{
    const struct qvl_tensor_meta meta[] = {{"qvl.key", key}};
    qvl_err why = {0};
    if (path) {
        int rc = qvl_pack_write(path, meta, QVL_COUNT(meta), p, &why);
        if (rc == 0 && use_cached(m, path, key, &p->o))
            return 0;
        if (rc == QVL_E_CANCELLED || rc == QVL_E_NOMEM)
            return qvl_fail(err, rc, "%s", why.msg);
        warn(m, "packed weights could not be kept in the cache", &why);
        p->watch->done = 0;
    }
    QVL_TRY(qvl_pack_memory(&m->packed_pages, p, err));
    m->packed_bytes = p->packed_bytes;
    return 0;
}

int qvl_model_pack(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    struct qvl_watch watch = {.progress = p->progress, .ud = p->progress_ud, .stage = "pack"};
    struct qvl_packing work = {.w = &m->weights, .c = &m->config, .kernels = m->kernels, .watch = &watch,
                               .release = qvl_model_release, .ud = m};
    char key[40] = "", *path = NULL;
    int rc = 0;
    work.o.text = p->precision == QVL_PRECISION_Q4 ? QVL_DT_Q4 : QVL_DT_Q8;
    work.o.head = qvl_pack_default_head(work.o.text);
    work.o.keep = m->keep_codes;
    if (!p->no_cache) {
        QVL_TRY(qvl_model_key(key, m, &work.o, "", err));
        path = cache_path(m, key, &work.o);
    }
    if (!path || !use_cached(m, path, key, &work.o)) {
        rc = qvl_pack_bytes(&m->weights, &m->config, &work.o, 0, &watch.total, err);
        if (rc == 0)
            rc = qvl_pool_open(&work.pool, qvl_cpu_threads(), err);
        if (rc == 0)
            rc = pack(m, path, key, &work, err);
        if (rc == 0)
            m->pack_error = work.rms_error;
        qvl_pool_close(&work.pool);
    }
    qvl_mem_free(path);
    return rc;
}

int qvl_model_pack_vision(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    struct qvl_pool *pool = NULL;
    if (!p->no_memory_check)
        QVL_TRY(qvl_memory_check(qvl_vision_quant_bytes(&m->config.vision), "the vision encoder in q8",
                                 "use --vision-precision bf16, or try anyway with --no-memory-check", err));
    QVL_TRY(qvl_pool_open(&pool, qvl_cpu_threads(), err));
    int rc = qvl_vision_quantise(&m->vision_pages, &m->weights.vision, &m->config.vision, m->kernels, pool, err);
    qvl_pool_close(&pool);
    if (rc == 0) {
        m->vision_q8 = 1;
        m->weights.copied_bytes += qvl_vision_quant_bytes(&m->config.vision);
    }
    return rc;
}
