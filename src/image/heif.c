/* heif.c - HEIC and AVIF stills through libheif: the primary picture, with the rotation, mirroring and cropping of the
 * file applied by libheif. An EXIF orientation inside such a file repeats those transforms and is not applied again.
 *
 * References: Pillow for AVIF, pillow-heif (which is libheif) for HEIC. They differ in how they enlarge chroma, so colours
 * of 8-bit AVIF are converted by yuv.c and all others by libheif. What remains is a few levels where libheif rounds twice.
 *
 * A known blemish: libde265 (and dav1d where libheif insists on it) write a line about some damaged files to stderr, and
 * libheif offers no way to stop them. */
#include "image/image_internal.h"

#include <string.h>

#include <libheif/heif.h>

#include "base/err.h"
#include "base/mem.h"
#include "image/yuv.h"

static int heif_fail(const struct qvl_image_job *job, struct heif_error e)
{
    int code = QVL_E_FORMAT;
    if (e.code == heif_error_Memory_allocation_error)
        code = e.subcode == heif_suberror_Security_limit_exceeded ? QVL_E_LIMIT : QVL_E_NOMEM;
    else if (e.code == heif_error_Unsupported_feature || e.code == heif_error_Unsupported_filetype ||
             e.code == heif_error_Color_profile_does_not_exist)
        code = QVL_E_UNSUPPORTED;
    return qvl_fail(job->err, code, "%s: HEIF: %s", job->what, e.message ? e.message : "unknown error");
}

static int copy_pixels(struct qvl_image *out, const struct heif_image *img, int has_alpha, const struct qvl_image_job *job)
{
    int pitch = 0, w = heif_image_get_width(img, heif_channel_interleaved),
        h = heif_image_get_height(img, heif_channel_interleaved);
    const uint8_t *p = heif_image_get_plane_readonly(img, heif_channel_interleaved, &pitch);
    if (!p || w < 1 || h < 1)
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: HEIF: no pixels", job->what);
    QVL_TRY(qvl_image_alloc(out, job, (uint64_t)w, (uint64_t)h));
    for (int y = 0; y < h; y++) {
        uint8_t *dst = out->rgb + (size_t)y * w * 3;
        if (has_alpha)
            qvl_alpha_rgba(dst, p + (size_t)y * pitch, (size_t)w, job->alpha);
        else
            memcpy(dst, p + (size_t)y * pitch, (size_t)w * 3);
    }
    return 0;
}

/* Chroma format that the AV1 configuration of the first colour picture declares: libheif would otherwise hand out chroma
 * that it has already upsampled. heif_chroma_undefined when there is none. Only the top-level `meta` box is searched. */
static enum heif_chroma av1_chroma(const struct qvl_image_job *job)
{
    const uint8_t *p = job->data, *end = p + job->size;
    while (end - p >= 8 && memcmp(p + 4, "meta", 4) != 0) {
        uint32_t n = qvl_be32(p);
        if (n < 8 || n > (size_t)(end - p))
            return heif_chroma_undefined;
        p += n;
    }
    if (end - p >= 8 && qvl_be32(p) <= (size_t)(end - p))
        end = p + qvl_be32(p);
    for (; end - p >= 8; p++)
        if (memcmp(p, "av1C", 4) == 0 && !(p[6] & 0x10)) /* not monochrome: that one is an alpha plane */
            return !(p[6] & 0x08) ? heif_chroma_444 : p[6] & 0x04 ? heif_chroma_420 : heif_chroma_422;
    return heif_chroma_undefined;
}

/* The conversion that the file declares; 0 when it says nothing or names a system that yuv.c does not know. */
static int find_matrix(struct qvl_yuv_matrix *m, const struct heif_image_handle *handle)
{
    struct heif_color_profile_nclx *nclx = NULL;
    int ok = 0;
    if (heif_image_handle_get_nclx_color_profile(handle, &nclx).code == heif_error_Ok && nclx)
        ok = qvl_yuv_init(m, (int)nclx->matrix_coefficients, nclx->full_range_flag);
    if (nclx)
        heif_nclx_color_profile_free(nclx);
    return ok;
}

/* Fills p from a decoded picture; 0 when it is not of the kind that yuv.c converts. */
static int find_planes(struct qvl_yuv_planes *p, const struct heif_image *img)
{
    static const enum heif_channel channels[3] = {heif_channel_Y, heif_channel_Cb, heif_channel_Cr};
    const enum heif_chroma chroma = heif_image_get_chroma_format(img);
    const uint8_t *plane[3];
    int pitch[3], w[3], h[3];
    if (heif_image_get_colorspace(img) != heif_colorspace_YCbCr ||
        (chroma != heif_chroma_420 && chroma != heif_chroma_422 && chroma != heif_chroma_444))
        return 0;
    for (int i = 0; i < 3; i++) {
        plane[i] = heif_image_get_plane_readonly(img, channels[i], &pitch[i]);
        w[i] = heif_image_get_width(img, channels[i]);
        h[i] = heif_image_get_height(img, channels[i]);
        if (!plane[i] || w[i] < 1 || h[i] < 1 || heif_image_get_bits_per_pixel_range(img, channels[i]) != 8)
            return 0;
    }
    *p = (struct qvl_yuv_planes){.y = plane[0],
                                 .u = plane[1],
                                 .v = plane[2],
                                 .pitch_y = (size_t)pitch[0],
                                 .pitch_u = (size_t)pitch[1],
                                 .pitch_v = (size_t)pitch[2],
                                 .width = (uint32_t)w[0],
                                 .height = (uint32_t)h[0],
                                 .sub_x = chroma != heif_chroma_444,
                                 .sub_y = chroma == heif_chroma_420};
    for (int i = 1; i < 3; i++)
        if (w[i] < (w[0] + p->sub_x) >> p->sub_x || h[i] < (h[0] + p->sub_y) >> p->sub_y)
            return 0;
    return 1;
}

static int convert_planes(struct qvl_image *out, const struct heif_image *img, const struct qvl_yuv_planes *p,
                          const struct qvl_yuv_matrix *m, int has_alpha, const struct qvl_image_job *job)
{
    int pitch = 0;
    const uint8_t *alpha = has_alpha ? heif_image_get_plane_readonly(img, heif_channel_Alpha, &pitch) : NULL;
    QVL_TRY(qvl_image_alloc(out, job, p->width, p->height));
    for (uint32_t y = 0; y < p->height; y++) {
        uint8_t *dst = out->rgb + (size_t)y * p->width * 3;
        qvl_yuv_row(dst, p, y, m);
        for (uint32_t x = 0; alpha && job->alpha == QVL_ALPHA_WHITE && x < p->width; x++) {
            uint8_t rgba[4] = {dst[3 * x], dst[3 * x + 1], dst[3 * x + 2], alpha[(size_t)y * (size_t)pitch + x]};
            qvl_alpha_rgba(dst + 3 * x, rgba, 1, job->alpha);
        }
    }
    return 0;
}

/* An alpha plane that can be used as it is: 8 bits, the size of the picture. */
static int alpha_fits(const struct heif_image *img, const struct qvl_yuv_planes *p)
{
    return heif_image_has_channel(img, heif_channel_Alpha) &&
           heif_image_get_bits_per_pixel_range(img, heif_channel_Alpha) == 8 &&
           heif_image_get_width(img, heif_channel_Alpha) == (int)p->width &&
           heif_image_get_height(img, heif_channel_Alpha) == (int)p->height;
}

static int decode_as_rgb(struct qvl_image *out, const struct heif_image_handle *handle, int has_alpha,
                         const struct heif_decoding_options *options, const struct qvl_image_job *job)
{
    struct heif_image *img = NULL;
    struct heif_error e = heif_decode_image(handle, &img, heif_colorspace_RGB,
                                            has_alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, options);
    int rc = e.code == heif_error_Ok ? copy_pixels(out, img, has_alpha, job) : heif_fail(job, e);
    heif_image_release(img);
    return rc;
}

static int decode_handle(struct qvl_image *out, const struct heif_image_handle *handle,
                         const struct heif_decoding_options *options, const struct qvl_image_job *job)
{
    struct heif_image *img = NULL;
    struct qvl_yuv_planes planes;
    struct qvl_yuv_matrix matrix;
    const int has_alpha = heif_image_handle_has_alpha_channel(handle);
    const enum heif_chroma chroma = av1_chroma(job);
    if (chroma == heif_chroma_undefined || heif_image_handle_get_luma_bits_per_pixel(handle) != 8 ||
        !find_matrix(&matrix, handle))
        return decode_as_rgb(out, handle, has_alpha, options, job);
    struct heif_error e = heif_decode_image(handle, &img, heif_colorspace_YCbCr, chroma, options);
    int rc;
    if (e.code != heif_error_Ok)
        rc = heif_fail(job, e);
    else if (find_planes(&planes, img) && (!has_alpha || alpha_fits(img, &planes)))
        rc = convert_planes(out, img, &planes, &matrix, has_alpha, job);
    else /* grey, ... */
        rc = decode_as_rgb(out, handle, has_alpha, options, job);
    heif_image_release(img);
    return rc;
}

int qvl_heif_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    struct heif_image_handle *handle = NULL;
    struct heif_decoding_options *options = NULL;
    int rc = 0;
    struct heif_context *ctx = heif_context_alloc();
    *orientation = 1;
    if (!ctx)
        return qvl_fail_nomem(job->err, job->size, job->what);
    heif_context_set_maximum_image_size_limit(ctx, (int)job->max_side);
    struct heif_error e = heif_context_read_from_memory_without_copy(ctx, job->data, job->size, NULL);
    if (e.code == heif_error_Ok)
        e = heif_context_get_primary_image_handle(ctx, &handle);
    if (e.code != heif_error_Ok) {
        rc = heif_fail(job, e);
        goto done;
    }
    QVL_TRY_DONE(qvl_image_check_size(job, (uint64_t)heif_image_handle_get_width(handle),
                                      (uint64_t)heif_image_handle_get_height(handle)));
    options = heif_decoding_options_alloc();
    if (!options) {
        rc = qvl_fail_nomem(job->err, sizeof *options, job->what);
        goto done;
    }
    options->convert_hdr_to_8bit = 1;
#if LIBHEIF_HAVE_VERSION(1, 15, 0)
    options->decoder_id = "aom"; /* for AV1; the other decoder, dav1d, prints about damaged files to stderr */
#endif
    rc = decode_handle(out, handle, options, job);
done:
    if (options)
        heif_decoding_options_free(options);
    heif_image_handle_release(handle);
    heif_context_free(ctx);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}
