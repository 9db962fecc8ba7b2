/* webp.c - WebP through libwebp: lossy, lossless, with alpha; of an animation the first frame on its canvas.
 *
 * The canvas around a frame that does not fill it is transparent black; in files that declare no transparency it is
 * black and an alpha channel of the frame is ignored, as in the reference. A file that ends early is an error. */
#include "image/image_internal.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "base/err.h"
#include "base/mem.h"

static int bad_data(const struct qvl_image_job *job, const char *reason)
{
    return qvl_fail(job->err, QVL_E_FORMAT, "%s: WebP: %s", job->what, reason);
}

/* RGBA of the frame, [height][width][4] from qvl_alloc. */
static int decode_rgba(uint8_t **rgba, const WebPIterator *it, const struct qvl_image_job *job)
{
    size_t pitch = (size_t)it->width * 4, bytes;
    if (qvl_mul_size(&bytes, pitch, (size_t)it->height))
        return qvl_fail_nomem(job->err, SIZE_MAX, job->what);
    *rgba = qvl_alloc(bytes, 1);
    if (!*rgba)
        return qvl_fail_nomem(job->err, bytes, job->what);
    if (!WebPDecodeRGBAInto(it->fragment.bytes, it->fragment.size, *rgba, bytes, (int)pitch))
        return bad_data(job, "damaged picture data");
    return 0;
}

static int decode_frame(struct qvl_image *out, const WebPIterator *it, int has_alpha, const struct qvl_image_job *job)
{
    WebPBitstreamFeatures f;
    const size_t pitch = (size_t)out->width * 3;
    const int whole = it->x_offset == 0 && it->y_offset == 0 && (uint32_t)it->width == out->width &&
                      (uint32_t)it->height == out->height;
    if (WebPGetFeatures(it->fragment.bytes, it->fragment.size, &f) != VP8_STATUS_OK || f.width != it->width ||
        f.height != it->height || it->x_offset < 0 || it->y_offset < 0 ||
        (uint64_t)it->x_offset + (uint64_t)it->width > out->width ||
        (uint64_t)it->y_offset + (uint64_t)it->height > out->height)
        return bad_data(job, "the first frame contradicts its canvas");
    if (whole && !(has_alpha && f.has_alpha)) {
        if (!WebPDecodeRGBInto(it->fragment.bytes, it->fragment.size, out->rgb, pitch * out->height, (int)pitch))
            return bad_data(job, "damaged picture data");
        return 0;
    }
    uint8_t *rgba = NULL;
    int rc = decode_rgba(&rgba, it, job);
    if (rc == 0) {
        memset(out->rgb, has_alpha && job->alpha == QVL_ALPHA_WHITE ? 255 : 0, pitch * out->height);
        for (int y = 0; y < it->height; y++)
            qvl_alpha_rgba(out->rgb + (size_t)(y + it->y_offset) * pitch + (size_t)it->x_offset * 3,
                           rgba + (size_t)y * it->width * 4, (size_t)it->width, has_alpha ? job->alpha : QVL_ALPHA_DROP);
    }
    qvl_mem_free(rgba);
    return rc;
}

static int find_orientation(const WebPDemuxer *demux)
{
    WebPChunkIterator c;
    int orientation = 0;
    if (WebPDemuxGetChunk(demux, "EXIF", 1, &c)) {
        orientation = qvl_exif_orientation(c.chunk.bytes, c.chunk.size);
        WebPDemuxReleaseChunkIterator(&c);
    }
    if (!orientation && WebPDemuxGetChunk(demux, "XMP ", 1, &c)) {
        orientation = qvl_xmp_orientation(c.chunk.bytes, c.chunk.size);
        WebPDemuxReleaseChunkIterator(&c);
    }
    return orientation ? orientation : 1;
}

int qvl_webp_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    WebPData data = {job->data, job->size};
    WebPIterator it;
    int rc;
    WebPDemuxer *demux = WebPDemux(&data); /* NULL unless the whole file is there */
    if (!demux)
        return bad_data(job, "the file is damaged or ends early");
    memset(&it, 0, sizeof it);
    int has_alpha = (WebPDemuxGetI(demux, WEBP_FF_FORMAT_FLAGS) & ALPHA_FLAG) != 0;
    rc = qvl_image_alloc(out, job, WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH), WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT));
    if (rc == 0)
        rc = WebPDemuxGetFrame(demux, 1, &it) ? decode_frame(out, &it, has_alpha, job) : bad_data(job, "no frame");
    if (rc == 0)
        *orientation = find_orientation(demux);
    WebPDemuxReleaseIterator(&it);
    WebPDemuxDelete(demux);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}
