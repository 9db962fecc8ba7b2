/* feature_cache.c - encoded pictures in a folder, so that the same picture is not encoded twice by any program.
 *
 * One safetensors file a picture, named by a hash of the resized pixels, of the vision weights and of the arithmetic that made
 * it. The folder is kept below a number of bytes by removing the files that were not used for the longest time. A file that
 * cannot be read is as good as none: the cache never makes an answer fail. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "kernels/row8.h"

#define DEFAULT_BYTES ((uint64_t)2 << 30)
static const char ENDING[] = ".features.safetensors";

enum { SAMPLE = 4096 }; /* bytes of a matrix that are looked at, from its middle */

static void add_matrix(uint64_t h[2], const struct qvl_mat *m)
{
    size_t packed = m->type == QVL_DT_ROW8 ? qvl_row8_bytes(m->n_out, m->n_in) : 0,
        bytes = packed ? packed : (size_t)m->n_out * (size_t)m->n_in * qvl_dtype_bits(m->type) / 8, n = bytes < SAMPLE ? bytes : SAMPLE;
    qvl_hash128(h, (const char *)m->data + (bytes - n) / 2, n, h[0] ^ h[1] ^ bytes);
}

/* What the features depend on besides the pixels: samples of every matrix of the encoder, sizes, arithmetic. */
static uint64_t encoder_key(const struct qvl_model *m)
{
    const struct qvl_vision_weights *w = &m->weights.vision;
    const struct qvl_vision_config *c = &m->config.vision;
    uint64_t h[2] = {(uint64_t)m->arith_vision, (uint64_t)m->kernels->level};
    const float mean_std[6] = {m->config.image.mean[0], m->config.image.mean[1], m->config.image.mean[2],
                               m->config.image.std[0], m->config.image.std[1], m->config.image.std[2]};
    qvl_hash128(h, mean_std, sizeof mean_std, h[0] ^ h[1] << 8);
    add_matrix(h, &w->patch);
    add_matrix(h, &w->pos);
    for (int i = 0; i < c->depth; i++) {
        add_matrix(h, &w->blocks[i].qkv);
        add_matrix(h, &w->blocks[i].proj);
        add_matrix(h, &w->blocks[i].fc1);
        add_matrix(h, &w->blocks[i].fc2);
    }
    for (int k = -1; k < c->n_tap; k++) {
        const struct qvl_merger_weights *merger = k < 0 ? &w->merger : &w->tap[k];
        add_matrix(h, &merger->fc1);
        add_matrix(h, &merger->fc2);
    }
    return h[0];
}

/* From qvl_alloc; NULL: no memory. */
static char *path_of(const struct qvl_session *s, const struct qvl_media *m)
{
    char name[96];
    snprintf(name, sizeof name, "%016llx%016llx-%016llx%s", (unsigned long long)m->key[0], (unsigned long long)m->key[1],
             (unsigned long long)encoder_key(s->model), ENDING);
    return qvl_path_join(s->p.image_cache, name);
}

static void tensor_name(char name[32], int tap)
{
    if (tap < 0)
        snprintf(name, 32, "vision.output");
    else
        snprintf(name, 32, "vision.deepstack.%d", tap);
}

/* Copies the sets of a file into features of the right shape. Returns 0 when all are there. */
static int copy_sets(struct qvl_vision_features *f, const struct qvl_tensors *t)
{
    char name[32];
    for (int k = -1; k < f->n_tap; k++) {
        tensor_name(name, k);
        const struct qvl_tensor *set = qvl_tensors_find(t, name);
        if (!set || set->type != QVL_DT_F32 || set->rank != 2 || set->shape[0] != f->n_token || set->shape[1] != f->d_out)
            return -1;
        memcpy(k < 0 ? f->main : f->tap[k], set->data, set->bytes);
    }
    return 0;
}

int qvl_feature_cache_load(struct qvl_session *s, struct qvl_media *m)
{
    struct qvl_tensors *t = NULL;
    char *path = s->p.image_cache ? path_of(s, m) : NULL;
    int found = 0;
    if (path && qvl_file_exists(path) && qvl_safetensors_open(&t, path, NULL) == 0) {
        if (qvl_vision_features_alloc(&m->features, &s->model->config.vision, (int64_t)m->rows * m->cols, NULL) == 0) {
            found = copy_sets(&m->features, t) == 0;
            if (!found)
                qvl_vision_features_free(&m->features);
        }
        if (found)
            utimensat(AT_FDCWD, path, NULL, 0); /* used now: the last to be removed */
    }
    qvl_tensors_close(&t);
    qvl_mem_free(path);
    return found;
}

/* Bytes of the cached files in the folder; the one that was not used for the longest time is named in oldest (or ""). */
static uint64_t survey(DIR *d, char oldest[256])
{
    struct timespec when = {0};
    uint64_t total = 0;
    oldest[0] = 0;
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        size_t n = strlen(e->d_name), k = sizeof ENDING - 1;
        if (n <= k || n >= 256 || strcmp(e->d_name + n - k, ENDING) != 0 || fstatat(dirfd(d), e->d_name, &st, 0) != 0)
            continue;
        total += (uint64_t)st.st_size;
        if (!oldest[0] || st.st_mtim.tv_sec < when.tv_sec || (st.st_mtim.tv_sec == when.tv_sec && st.st_mtim.tv_nsec < when.tv_nsec)) {
            memcpy(oldest, e->d_name, n + 1);
            when = st.st_mtim;
        }
    }
    return total;
}

static void prune(const char *dir, uint64_t limit)
{
    char oldest[256];
    DIR *d = opendir(dir);
    while (d && survey(d, oldest) > limit && oldest[0] && unlinkat(dirfd(d), oldest, 0) == 0)
        continue;
    if (d)
        closedir(d);
}

void qvl_feature_cache_store(struct qvl_session *s, const struct qvl_media *m)
{
    const struct qvl_vision_features *f = &m->features;
    struct qvl_tensor t[QVL_MAX_TAPS + 1];
    char name[QVL_MAX_TAPS + 1][32];
    const struct qvl_tensor_meta meta = {"format", "qvl"};
    char *path = s->p.image_cache ? path_of(s, m) : NULL;
    uint64_t limit = s->p.image_cache_bytes ? s->p.image_cache_bytes : DEFAULT_BYTES;
    if (!path)
        return;
    for (int k = -1; k < f->n_tap; k++) {
        tensor_name(name[k + 1], k);
        t[k + 1] = (struct qvl_tensor){.name = name[k + 1], .data = k < 0 ? f->main : f->tap[k], .type = QVL_DT_F32, .type_name = "F32",
                                       .bytes = (size_t)f->n_token * (size_t)f->d_out * sizeof(float), .rank = 2,
                                       .shape = {f->n_token, f->d_out}};
    }
    mkdir(s->p.image_cache, 0777);
    if (f->bytes <= limit && qvl_safetensors_write(path, t, (size_t)f->n_tap + 1, &meta, 1, NULL) == 0)
        prune(s->p.image_cache, limit);
    qvl_mem_free(path);
}
