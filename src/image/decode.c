/* decode.c - encoded bytes -> upright RGB8: recognises the format, applies the limits, dispatches, orients. */
#include "image/image_internal.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct magic {
    const char *name;
    size_t offset, len;
    const char *bytes;
    qvl_image_decoder *decode; /* NULL: recognised so that the message can name it, but not decoded */
};

static const struct magic magics[] = {
    {"JPEG", 0, 3, "\xff\xd8\xff", qvl_jpeg_decode},
    {"PNG", 0, 8, "\x89PNG\r\n\x1a\n", qvl_png_decode},
    {"WebP", 8, 4, "WEBP", qvl_webp_decode}, /* after "RIFF" and a length, which libwebp checks */
    {"GIF", 0, 6, "GIF87a", qvl_gif_decode},
    {"GIF", 0, 6, "GIF89a", qvl_gif_decode},
    {"BMP", 0, 2, "BM", qvl_bmp_decode},
    {"TIFF", 0, 4, "II*\0", qvl_tiff_decode},
    {"TIFF", 0, 4, "MM\0*", qvl_tiff_decode},
    {"QOI", 0, 4, "qoif", qvl_qoi_decode},
    {"PNM", 0, 2, "P1", qvl_pnm_decode},
    {"PNM", 0, 2, "P2", qvl_pnm_decode},
    {"PNM", 0, 2, "P3", qvl_pnm_decode},
    {"PNM", 0, 2, "P4", qvl_pnm_decode},
    {"PNM", 0, 2, "P5", qvl_pnm_decode},
    {"PNM", 0, 2, "P6", qvl_pnm_decode},
    {"BigTIFF", 0, 4, "II+\0", NULL},
    {"BigTIFF", 0, 4, "MM\0+", NULL},
    {"JPEG XL", 0, 2, "\xff\x0a", NULL},
    {"JPEG XL", 4, 8, "JXL \r\n\x87\n", NULL},
    {"JPEG 2000", 0, 4, "\xff\x4f\xff\x51", NULL},
    {"JPEG 2000", 4, 8, "jP  \r\n\x87\n", NULL},
    {"Photoshop", 0, 4, "8BPS", NULL},
    {"PDF", 0, 5, "%PDF-", NULL},
    {"OpenEXR", 0, 4, "\x76\x2f\x31\x01", NULL},
    {"icon", 0, 4, "\0\0\1\0", NULL},
};

/* ISO base media files name what they hold in a list of brands. */
static const struct magic *sniff_brands(const uint8_t *data, size_t size)
{
    static const struct magic heif = {"HEIF", 0, 0, "", qvl_heif_decode}, video = {"an MP4 video", 0, 0, "", NULL};
    static const char brands[][5] = {"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "avif", "avis"};
    size_t box = qvl_be32(data);
    for (size_t at = 8; at + 4 <= size && at + 4 <= box; at += at == 8 ? 8 : 4) /* the second word is a version */
        for (size_t i = 0; i < QVL_COUNT(brands); i++)
            if (memcmp(data + at, brands[i], 4) == 0)
                return &heif;
    return &video;
}

static const struct magic *sniff(const uint8_t *data, size_t size)
{
    if (size >= 12 && memcmp(data + 4, "ftyp", 4) == 0)
        return sniff_brands(data, size);
    for (size_t i = 0; i < QVL_COUNT(magics); i++) {
        const struct magic *m = &magics[i];
        if (size >= m->offset + m->len && memcmp(data + m->offset, m->bytes, m->len) == 0)
            return m;
    }
    return NULL;
}

int qvl_image_check_size(const struct qvl_image_job *job, uint64_t w, uint64_t h)
{
    if (!w || !h)
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: picture size %llux%llu", job->what, (unsigned long long)w,
                        (unsigned long long)h);
    if (w > job->max_side || h > job->max_side)
        return qvl_fail(job->err, QVL_E_LIMIT, "%s: picture size %llux%llu, limit %u on a side", job->what,
                        (unsigned long long)w, (unsigned long long)h, job->max_side);
    if (w * h > job->max_pixels)
        return qvl_fail(job->err, QVL_E_LIMIT, "%s: picture size %llux%llu = %llu pixels, limit %llu", job->what,
                        (unsigned long long)w, (unsigned long long)h, (unsigned long long)(w * h),
                        (unsigned long long)job->max_pixels);
    return 0;
}

int qvl_image_alloc(struct qvl_image *out, const struct qvl_image_job *job, uint64_t w, uint64_t h)
{
    size_t bytes;
    QVL_TRY(qvl_image_check_size(job, w, h));
    if (qvl_mul_size(&bytes, (size_t)w * 3, (size_t)h))
        return qvl_fail(job->err, QVL_E_LIMIT, "%s: picture size %llux%llu is too large for this machine", job->what,
                        (unsigned long long)w, (unsigned long long)h);
    out->rgb = qvl_alloc(bytes, 1);
    if (!out->rgb)
        return qvl_fail_nomem(job->err, bytes, job->what);
    out->width = (uint32_t)w;
    out->height = (uint32_t)h;
    return 0;
}

int qvl_image_decode_job(struct qvl_image *out, const struct qvl_image_job *job)
{
    int orientation = 1;
    memset(out, 0, sizeof *out);
    if (!job->data || !job->size)
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: the picture file is empty", job->what);
    if (job->size > QVL_IMAGE_MAX_FILE)
        return qvl_fail(job->err, QVL_E_LIMIT, "%s: picture file of %zu bytes, limit %u", job->what, job->size,
                        QVL_IMAGE_MAX_FILE);
    if (job->alpha != QVL_ALPHA_WHITE && job->alpha != QVL_ALPHA_DROP)
        return qvl_fail(job->err, QVL_E_ARG, "%s: alpha: unknown mode %d", job->what, (int)job->alpha);

    const struct magic *m = sniff(job->data, job->size);
    if (!m)
        return qvl_fail(job->err, QVL_E_FORMAT,
                        "%s: not a picture: none of the known formats begins like this (JPEG, PNG, WebP, GIF, BMP, TIFF, "
                        "HEIC, AVIF, PNM, QOI)", job->what);
    if (!m->decode)
        return qvl_fail(job->err, QVL_E_UNSUPPORTED, "%s: found %s, which is not supported; convert to PNG or JPEG", job->what,
                        m->name);
    int rc = m->decode(out, &orientation, job);
    if (rc == 0)
        rc = qvl_image_orient(out, orientation, job->what, job->err);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}

int qvl_image_decode(struct qvl_image *out, const void *data, size_t size, qvl_alpha alpha, const char *what, qvl_err *err)
{
    struct qvl_image_job job = {.data = data, .size = size, .alpha = alpha, .max_side = QVL_IMAGE_MAX_SIDE,
                                .max_pixels = QVL_IMAGE_MAX_PIXELS, .what = what ? what : "picture", .err = err};
    return qvl_image_decode_job(out, &job);
}

void qvl_image_free(struct qvl_image *im)
{
    if (im) {
        qvl_mem_free(im->rgb);
        memset(im, 0, sizeof *im);
    }
}
