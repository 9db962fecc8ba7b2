/* media.c - the pictures of a conversation: from a name or bytes to resized pixels, from there to features.
 *
 * A picture is decoded and resized when it is added, so that a bad one fails early. Features are made when a prompt needs
 * them; those of old pictures are dropped when many are held, since the KV cache usually makes them unnecessary. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/internal.h"

#define FEATURES_KEPT ((size_t)256 << 20) /* bytes of features held beyond those of the current prompt */
#define WORK_KEPT ((size_t)256 << 20)     /* most bytes of work memory that wait for the next picture */

static void media_free(struct qvl_media *m)
{
    if (!m)
        return;
    qvl_vision_features_free(&m->features);
    qvl_image_free(&m->image);
    qvl_mem_free(m->source);
    qvl_mem_free(m);
}

void qvl_media_free_all(struct qvl_session *s)
{
    for (size_t i = 0; i < s->n_media; i++)
        media_free(s->media[i]);
    qvl_mem_free(s->media);
    s->media = NULL;
    s->n_media = 0;
}

void qvl_media_sweep(struct qvl_session *s)
{
    for (size_t i = 0; i < s->n_media; i++) {
        int used = 0;
        for (size_t k = 0; k < s->chat.n && !used; k++)
            for (size_t j = 0; j < s->chat.msg[k].n_items; j++)
                used |= s->chat.msg[k].items[j].kind != QVL_ITEM_TEXT && s->chat.msg[k].items[j].media == (int)i;
        if (!used) {
            media_free(s->media[i]);
            s->media[i] = NULL;
        }
    }
}

/* Takes ownership of m. */
static int store(struct qvl_session *s, struct qvl_media *m, int *index, qvl_err *err)
{
    size_t i = 0;
    while (i < s->n_media && s->media[i])
        i++;
    if (i == s->n_media) {
        void *p = qvl_realloc(s->media, s->n_media * sizeof *s->media, s->n_media + 1, sizeof *s->media);
        if (!p) {
            media_free(m);
            return qvl_fail_nomem(err, (s->n_media + 1) * sizeof *s->media, "pictures");
        }
        s->media = p;
        s->n_media++;
    }
    s->media[i] = m;
    *index = (int)i;
    return 0;
}

/* Resizes `full` into m and names its content. */
static int prepare(const struct qvl_session *s, struct qvl_media *m, const struct qvl_image *full, const char *what, qvl_err *err)
{
    const struct qvl_vision_config *v = &s->model->config.vision;
    uint32_t w, h, factor = (uint32_t)(v->patch * v->merge);
    int rc = qvl_smart_resize(&w, &h, full->width, full->height, factor, s->p.min_pixels, s->p.max_pixels, err);
    if (rc == 0)
        rc = qvl_image_resize(&m->image, full, w, h, err);
    if (rc < 0)
        return qvl_fail_prefix(err, rc, "%s: ", what);
    m->rows = (int)(h / factor);
    m->cols = (int)(w / factor);
    qvl_hash128(m->key, m->image.rgb, (size_t)w * h * 3, ((uint64_t)w << 32) | h);
    return 0;
}

static int base64_value(int c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

static int base64_decode(char **data, size_t *len, const char *s, const char *what, qvl_err *err)
{
    size_t n = strlen(s), out = 0;
    unsigned acc = 0, bits = 0;
    char *d = qvl_alloc(n / 4 * 3 + 4, 1);
    if (!d)
        return qvl_fail_nomem(err, n, what);
    for (size_t i = 0; i < n; i++) {
        int v = base64_value((unsigned char)s[i]);
        if (s[i] == '=' || isspace((unsigned char)s[i]))
            continue;
        if (v < 0) {
            qvl_mem_free(d);
            return qvl_fail(err, QVL_E_FORMAT, "%s: byte %zu is not base64", what, i);
        }
        acc = (acc << 6 | (unsigned)v) & 0xffffffu;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            d[out++] = (char)(acc >> bits & 0xff);
        }
    }
    *data = d;
    *len = out;
    return 0;
}

/* file://[host]/path with %XX -> path, from qvl_alloc. */
static char *file_url_path(const char *url)
{
    const char *p = url + 7;
    if (strncmp(p, "localhost/", 10) == 0)
        p += 9;
    char *out = qvl_alloc(strlen(p) + 1, 1), *d = out;
    for (; out && *p; p++) {
        unsigned v;
        if (*p == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]) && sscanf(p + 1, "%2x", &v) == 1) {
            *d++ = (char)v;
            p += 2;
        } else {
            *d++ = *p;
        }
    }
    if (out)
        *d = 0;
    return out;
}

/* The bytes behind a name: a path, "-", file://... or data:...;base64,... */
static int fetch(char **data, size_t *len, const char *source, const char *base_dir, qvl_err *err)
{
    char *path;
    if (strncmp(source, "data:", 5) == 0) {
        const char *comma = strchr(source, ',');
        if (!comma || comma - source < 7 || strncmp(comma - 7, ";base64", 7) != 0)
            return qvl_fail(err, QVL_E_UNSUPPORTED, "picture: a data: URL without ;base64");
        return base64_decode(data, len, comma + 1, "picture in a data: URL", err);
    }
    if (strncmp(source, "http://", 7) == 0 || strncmp(source, "https://", 8) == 0)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%.200s: pictures are not downloaded; give a file or a data: URL", source);
    if (strcmp(source, "-") == 0)
        path = qvl_strdup(source);
    else if (strncmp(source, "file://", 7) == 0)
        path = file_url_path(source);
    else
        path = qvl_path_join(base_dir, source);
    if (!path)
        return qvl_fail_nomem(err, strlen(source), "picture path");
    int rc = qvl_file_read(data, len, path, QVL_IMAGE_MAX_FILE, err);
    qvl_mem_free(path);
    return rc;
}

int qvl_media_add(struct qvl_session *s, const char *source, const char *base_dir, const void *data, size_t len, int *index,
                  qvl_err *err)
{
    struct qvl_image full = {0};
    struct qvl_media *m = qvl_calloc(1, sizeof *m);
    char *bytes = NULL;
    const char *what = strncmp(source, "data:", 5) == 0 ? "picture in a data: URL" : strcmp(source, "-") == 0 ? "standard input" : source;
    int rc = 0;
    if (!m || !(m->source = qvl_strdup(source))) {
        rc = qvl_fail_nomem(err, sizeof *m, "picture");
        goto done;
    }
    if (!data) {
        QVL_TRY_DONE(fetch(&bytes, &len, source, base_dir, err));
        data = bytes;
    }
    QVL_TRY_DONE(qvl_image_decode(&full, data, len, s->p.alpha, what, err));
    QVL_TRY_DONE(prepare(s, m, &full, what, err));
    rc = store(s, m, index, err);
    m = NULL;
done:
    qvl_image_free(&full);
    qvl_mem_free(bytes);
    media_free(m);
    return rc;
}

int qvl_media_add_rgb(struct qvl_session *s, const uint8_t *rgb, uint32_t w, uint32_t h, int *index, qvl_err *err)
{
    if (!rgb || !w || !h || w > QVL_IMAGE_MAX_SIDE || h > QVL_IMAGE_MAX_SIDE || (uint64_t)w * h > QVL_IMAGE_MAX_PIXELS)
        return qvl_fail(err, QVL_E_LIMIT, "RGB picture: size %ux%u, limits are %u a side and %u pixels", w, h, QVL_IMAGE_MAX_SIDE,
                        QVL_IMAGE_MAX_PIXELS);
    struct qvl_media *m = qvl_calloc(1, sizeof *m);
    size_t bytes = (size_t)w * h * 3;
    struct qvl_image full = {.rgb = qvl_alloc(bytes, 1), .width = w, .height = h};
    int rc = 0;
    if (!m || !full.rgb || !(m->source = qvl_strdup("(RGB data)"))) {
        rc = qvl_fail_nomem(err, bytes, "picture");
        goto done;
    }
    memcpy(full.rgb, rgb, bytes);
    QVL_TRY_DONE(prepare(s, m, &full, "RGB picture", err));
    rc = store(s, m, index, err);
    m = NULL;
done:
    qvl_image_free(&full);
    media_free(m);
    return rc;
}

/* Drops features that were not used since `before`, oldest first, until at most FEATURES_KEPT bytes are held. */
static void drop_old_features(struct qvl_session *s, uint64_t before)
{
    for (;;) {
        size_t held = 0;
        struct qvl_media *oldest = NULL;
        for (size_t i = 0; i < s->n_media; i++) {
            struct qvl_media *m = s->media[i];
            if (!m || !m->features.mem)
                continue;
            held += m->features.bytes;
            if (m->used < before && (!oldest || m->used < oldest->used))
                oldest = m;
        }
        if (held <= FEATURES_KEPT || !oldest)
            return;
        qvl_vision_features_free(&oldest->features);
    }
}

int qvl_media_encode(struct qvl_session *s, struct qvl_media *m, struct qvl_watch *watch, struct qvl_trace *trace, int *encoded,
                     qvl_err *err)
{
    const struct qvl_model *model = s->model;
    struct qvl_vision v = {.config = &model->config.vision, .weights = &model->weights.vision, .kernels = model->kernels,
                           .arith = model->arith_vision, .work = &s->vision_work};
    struct qvl_patches patches = {0};
    struct qvl_pool *pool = s->vision_pool ? s->vision_pool : s->pool;
    m->used = s->clock;
    *encoded = 0;
    if (m->features.mem && !trace)
        return 0;
    qvl_vision_features_free(&m->features);
    drop_old_features(s, s->clock);
    if (!trace && qvl_feature_cache_load(s, m))
        return 0;
    *encoded = 1;
    int64_t n_patch = (int64_t)m->rows * m->cols * v.config->merge * v.config->merge;
    size_t work, features, rows = (size_t)n_patch * (size_t)(v.config->n_channel * v.config->temporal_patch * v.config->patch *
                                                             v.config->patch) * sizeof(float);
    if (qvl_vision_bytes(&v, n_patch, n_patch, (int)qvl_pool_size(pool), &work, &features) < 0)
        return qvl_fail(err, QVL_E_LIMIT, "%s: %lld patches are too many", m->source, (long long)n_patch);
    if (!s->p.no_memory_check)
        QVL_TRY(qvl_memory_check((uint64_t)work + features + rows, "encoding the picture", "lower --max-pixels", err));
    int rc = qvl_patchify(&patches, &m->image, v.config, &model->config.image, err);
    if (rc == 0) {
        int32_t grid[3] = {patches.grid_t, patches.grid_h, patches.grid_w};
        qvl_trace_add(trace, QVL_DT_F32, patches.rows, patches.n_patch, patches.n_elem, "pixel_values");
        qvl_trace_add(trace, QVL_DT_I32, grid, 1, 3, "grid_thw");
        rc = qvl_vision_encode(&m->features, &v, &patches, pool, watch, trace, err);
    }
    if (s->vision_work.size > WORK_KEPT)
        qvl_arena_close(&s->vision_work);
    qvl_patches_free(&patches);
    if (rc == 0)
        qvl_feature_cache_store(s, m);
    return rc;
}
