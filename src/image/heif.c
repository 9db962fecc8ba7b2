/* heif.c - HEIC and AVIF stills through libheif: the primary picture, with the rotation, mirroring and cropping of the
 * file applied by libheif. An EXIF orientation inside such a file repeats those transforms and is not applied again. */
#include "image/image_internal.h"

#include <string.h>

#include <libheif/heif.h>

#include "base/err.h"
#include "base/mem.h"

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
    int pitch = 0, w = heif_image_get_width(img, heif_channel_interleaved), h = heif_image_get_height(img, heif_channel_interleaved);
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

int qvl_heif_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    struct heif_image_handle *handle = NULL;
    struct heif_image *img = NULL;
    struct heif_decoding_options *options = NULL;
    struct heif_error e;
    int rc = 0, has_alpha = 0;
    struct heif_context *ctx = heif_context_alloc();
    *orientation = 1;
    if (!ctx)
        return qvl_fail_nomem(job->err, job->size, job->what);
    heif_context_set_maximum_image_size_limit(ctx, (int)job->max_side);
    e = heif_context_read_from_memory_without_copy(ctx, job->data, job->size, NULL);
    if (e.code == heif_error_Ok)
        e = heif_context_get_primary_image_handle(ctx, &handle);
    if (e.code != heif_error_Ok) {
        rc = heif_fail(job, e);
        goto done;
    }
    QVL_TRY_DONE(qvl_image_check_size(job, (uint64_t)heif_image_handle_get_width(handle),
                                      (uint64_t)heif_image_handle_get_height(handle)));
    has_alpha = heif_image_handle_has_alpha_channel(handle);
    options = heif_decoding_options_alloc();
    if (!options) {
        rc = qvl_fail_nomem(job->err, sizeof *options, job->what);
        goto done;
    }
    options->convert_hdr_to_8bit = 1;
    e = heif_decode_image(handle, &img, heif_colorspace_RGB,
                          has_alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, options);
    rc = e.code == heif_error_Ok ? copy_pixels(out, img, has_alpha, job) : heif_fail(job, e);
done:
    heif_image_release(img);
    if (options)
        heif_decoding_options_free(options);
    heif_image_handle_release(handle);
    heif_context_free(ctx);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}
