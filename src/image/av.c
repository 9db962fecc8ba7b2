/* av.c - BMP and TIFF stills through FFmpeg's decoders, without its file readers: the whole file is one packet.
 *
 * The pixel format is converted here, not by libswscale, so that each value is the one the file holds. TIFF: grey,
 * palette, RGB and CMYK in 8 bits (grey and RGB also in 16: grey scaled, RGB its high byte), uncompressed or with one of
 * the lossless compressions. YCbCr, CIE Lab, float samples, JPEG inside TIFF and the like are refused, not approximated. */
#include "image/image_internal.h"

#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavutil/log.h>

#include "base/err.h"
#include "base/mem.h"

enum { /* TIFF tags */
    TIFF_WIDTH = 256,
    TIFF_HEIGHT = 257,
    TIFF_COMPRESSION = 259,
    TIFF_PHOTOMETRIC = 262,
    TIFF_ORIENTATION = 274,
    TIFF_SAMPLES = 277,
    TIFF_TILE_WIDTH = 322,
    TIFF_EXTRA_SAMPLES = 338,
    TIFF_SAMPLE_FORMAT = 339
};

/* What the file's header says and FFmpeg does not hand over. */
struct still {
    const char *name;
    enum AVCodecID id;
    uint32_t width, height;
    enum { ALPHA_STRAIGHT, ALPHA_IGNORE, ALPHA_PREMULTIPLIED } alpha;
    int cmyk; /* RGBA samples are to be understood as CMYK */
};

static int av_refuse(const struct still *s, const struct qvl_image_job *job, const char *reason)
{
    return qvl_fail(job->err, QVL_E_UNSUPPORTED, "%s: %s: %s; convert to PNG", job->what, s->name, reason);
}

static uint8_t scale16(uint32_t v) { return (uint8_t)((v * 255 + 32895) >> 16); } /* v/257 rounded */

/* Undoes a premultiplication the way Pillow does. */
static void unpremultiply(uint8_t *rgba, size_t n)
{
    for (size_t i = 0; i < n; i++, rgba += 4) {
        uint32_t a = rgba[3];
        for (int c = 0; c < 3 && a && a != 255; c++) {
            uint32_t v = 255u * rgba[c] / a;
            rgba[c] = (uint8_t)(v > 255 ? 255 : v);
        }
    }
}

/* One row of a frame -> RGBA. Returns 0 for pixel formats that are not handled. */
static int row_to_rgba(uint8_t *dst, const AVFrame *f, int y)
{
    const uint8_t *s = f->data[0] + (ptrdiff_t)y * f->linesize[0];
    const int n = f->width;
    for (int i = 0; i < n; i++, dst += 4) {
        dst[3] = 255;
        switch (f->format) {
        case AV_PIX_FMT_GRAY8: dst[0] = dst[1] = dst[2] = s[i]; break;
        case AV_PIX_FMT_YA8:
            dst[0] = dst[1] = dst[2] = s[2 * i];
            dst[3] = s[2 * i + 1];
            break;
        case AV_PIX_FMT_MONOBLACK: dst[0] = dst[1] = dst[2] = (uint8_t)(-(s[i >> 3] >> (7 - (i & 7)) & 1)); break;
        case AV_PIX_FMT_MONOWHITE: dst[0] = dst[1] = dst[2] = (uint8_t)((s[i >> 3] >> (7 - (i & 7)) & 1) - 1); break;
        case AV_PIX_FMT_GRAY16LE: dst[0] = dst[1] = dst[2] = scale16(qvl_le16(s + 2 * i)); break;
        case AV_PIX_FMT_GRAY16BE: dst[0] = dst[1] = dst[2] = scale16(qvl_be16(s + 2 * i)); break;
        case AV_PIX_FMT_PAL8: {
            uint32_t argb;
            memcpy(&argb, f->data[1] + 4 * (size_t)s[i], 4);
            dst[0] = (uint8_t)(argb >> 16);
            dst[1] = (uint8_t)(argb >> 8);
            dst[2] = (uint8_t)argb;
            dst[3] = (uint8_t)(argb >> 24);
            break;
        }
        case AV_PIX_FMT_GBRP:
            for (int c = 0; c < 3; c++) /* planes G, B, R */
                dst[c] = f->data[(c + 2) % 3][(ptrdiff_t)y * f->linesize[(c + 2) % 3] + i];
            break;
        case AV_PIX_FMT_RGB24: memcpy(dst, s + 3 * i, 3); break;
        case AV_PIX_FMT_RGB0: memcpy(dst, s + 4 * i, 3); break;
        case AV_PIX_FMT_RGBA: memcpy(dst, s + 4 * i, 4); break;
        case AV_PIX_FMT_BGR24:
            dst[0] = s[3 * i + 2];
            dst[1] = s[3 * i + 1];
            dst[2] = s[3 * i];
            break;
        case AV_PIX_FMT_BGR0:
        case AV_PIX_FMT_BGRA:
            dst[0] = s[4 * i + 2];
            dst[1] = s[4 * i + 1];
            dst[2] = s[4 * i];
            if (f->format == AV_PIX_FMT_BGRA)
                dst[3] = s[4 * i + 3];
            break;
        case AV_PIX_FMT_RGB48LE:
        case AV_PIX_FMT_RGB48BE:
            for (int c = 0; c < 3; c++)
                dst[c] = s[6 * i + 2 * c + (f->format == AV_PIX_FMT_RGB48LE)];
            break;
        case AV_PIX_FMT_RGBA64LE:
        case AV_PIX_FMT_RGBA64BE:
            for (int c = 0; c < 4; c++)
                dst[c] = s[8 * i + 2 * c + (f->format == AV_PIX_FMT_RGBA64LE)];
            break;
        case AV_PIX_FMT_RGB555LE: {
            uint32_t v = qvl_le16(s + 2 * i);
            dst[0] = (uint8_t)((v >> 10 & 31) * 255 / 31);
            dst[1] = (uint8_t)((v >> 5 & 31) * 255 / 31);
            dst[2] = (uint8_t)((v & 31) * 255 / 31);
            break;
        }
        case AV_PIX_FMT_RGB565LE: {
            uint32_t v = qvl_le16(s + 2 * i);
            dst[0] = (uint8_t)((v >> 11) * 255 / 31);
            dst[1] = (uint8_t)((v >> 5 & 63) * 255 / 63);
            dst[2] = (uint8_t)((v & 31) * 255 / 31);
            break;
        }
        default: return 0;
        }
    }
    return 1;
}

static int frame_to_rgb(struct qvl_image *out, const AVFrame *f, const struct still *s, const struct qvl_image_job *job)
{
    QVL_TRY(qvl_image_alloc(out, job, (uint64_t)f->width, (uint64_t)f->height));
    uint8_t *rgba = qvl_alloc(out->width, 4);
    if (!rgba)
        return qvl_fail_nomem(job->err, (size_t)out->width * 4, job->what);
    int rc = 0;
    for (int y = 0; y < f->height; y++) {
        if (!row_to_rgba(rgba, f, y)) {
            rc = av_refuse(s, job, "this kind of pixels is not supported");
            break;
        }
        if (s->cmyk) {
            qvl_cmyk_to_rgb(out->rgb + (size_t)y * out->width * 3, rgba, out->width);
            continue;
        }
        if (s->alpha == ALPHA_PREMULTIPLIED)
            unpremultiply(rgba, out->width);
        qvl_alpha_rgba(out->rgb + (size_t)y * out->width * 3, rgba, out->width,
                       s->alpha == ALPHA_IGNORE ? QVL_ALPHA_DROP : job->alpha);
    }
    qvl_mem_free(rgba);
    return rc;
}

static int decode_packet(AVFrame *f, AVCodecContext *ctx, AVPacket *pkt, const struct still *s,
                         const struct qvl_image_job *job)
{
    int r = avcodec_send_packet(ctx, pkt);
    if (r >= 0)
        r = avcodec_send_packet(ctx, NULL);
    if (r >= 0)
        r = avcodec_receive_frame(ctx, f);
    if (r == AVERROR(ENOMEM))
        return qvl_fail_nomem(job->err, (size_t)s->width * s->height * 4, job->what);
    if (r == AVERROR_PATCHWELCOME || r == AVERROR(ENOSYS))
        return av_refuse(s, job, "this variant is not supported");
    if (r < 0 || f->decode_error_flags || (f->flags & AV_FRAME_FLAG_CORRUPT))
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: %s: the file is damaged or ends early", job->what, s->name);
    if ((uint32_t)f->width != s->width || (uint32_t)f->height != s->height)
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: %s: header says %ux%u, found %dx%d", job->what, s->name, s->width,
                        s->height, f->width, f->height);
    return 0;
}

/* Rewrites the first directory of our copy of the file: keeps only the tags that describe the pixels. Told to be strict
 * about damaged pixels (AV_EF_EXPLODE), FFmpeg is strict about tags that it does not know, too. With `cmyk` FFmpeg is to
 * believe in RGBA, since its own conversion rounds differently from the reference's. The directory is whole. */
static void prune_tiff(uint8_t *p, int cmyk)
{
    static const uint16_t keep[] = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320};
    const int big = p[0] == 'M';
    const size_t ifd = big ? qvl_be32(p + 4) : qvl_le32(p + 4);
    const uint32_t n = big ? qvl_be16(p + ifd) : qvl_le16(p + ifd);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *from = p + ifd + 2 + (size_t)i * 12, *to = p + ifd + 2 + (size_t)kept * 12;
        const uint32_t tag = big ? qvl_be16(from) : qvl_le16(from);
        size_t k = 0;
        while (k < QVL_COUNT(keep) && keep[k] != tag)
            k++;
        if (k == QVL_COUNT(keep))
            continue;
        memmove(to, from, 12);
        if (tag == TIFF_PHOTOMETRIC && cmyk)
            to[8 + big] = 2;
        kept++;
    }
    p[ifd + !big] = (uint8_t)(kept >> 8);
    p[ifd + big] = (uint8_t)kept;
    if (kept < n) /* no further directory */
        memset(p + ifd + 2 + (size_t)kept * 12, 0, 4);
}

static int decode_still(struct qvl_image *out, const struct still *s, const struct qvl_image_job *job)
{
    int rc = 0;
    AVCodecContext *ctx = NULL;
    AVPacket *pkt = NULL;
    AVFrame *f = NULL;
    QVL_TRY(qvl_image_check_size(job, s->width, s->height));
    /* FFmpeg's log level is a global of that library, and its default prints to stderr, also from contexts that a
     * decoder creates inside. A library may not print, so it is turned off for the whole process. */
    if (av_log_get_level() != AV_LOG_QUIET)
        av_log_set_level(AV_LOG_QUIET);
    const AVCodec *codec = avcodec_find_decoder(s->id);
    if (!codec)
        return av_refuse(s, job, "the installed FFmpeg has no decoder for it");
    ctx = avcodec_alloc_context3(codec);
    pkt = av_packet_alloc();
    f = av_frame_alloc();
    if (!ctx || !pkt || !f || av_new_packet(pkt, (int)job->size) < 0) {
        rc = qvl_fail_nomem(job->err, job->size, job->what);
        goto done;
    }
    memcpy(pkt->data, job->data, job->size);
    if (s->id == AV_CODEC_ID_TIFF)
        prune_tiff(pkt->data, s->cmyk);
    ctx->thread_count = 1;
    ctx->max_pixels = (int64_t)job->max_pixels;
    ctx->err_recognition = AV_EF_EXPLODE | AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
    if (avcodec_open2(ctx, codec, NULL) < 0) {
        rc = av_refuse(s, job, "the installed FFmpeg cannot decode it");
        goto done;
    }
    rc = decode_packet(f, ctx, pkt, s, job);
    if (rc == 0)
        rc = frame_to_rgb(out, f, s, job);
done:
    av_frame_free(&f);
    av_packet_free(&pkt);
    avcodec_free_context(&ctx);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}

static int too_short(const struct qvl_image_job *job, const char *name)
{
    return qvl_fail(job->err, QVL_E_FORMAT, "%s: %s: the file ends inside its header", job->what, name);
}

/* Walks over run-length data; 0 when they end before the picture or its end marker. */
static int rle_whole(const uint8_t *p, size_t n, uint64_t w, uint64_t h, int nibbles)
{
    uint64_t x = 0, y = 0;
    for (size_t i = 0; i + 2 <= n && y < h;) {
        uint32_t count = p[i], v = p[i + 1];
        i += 2;
        if (count) {
            x += count;
        } else if (v == 0) { /* end of the row */
            x = 0;
            y++;
        } else if (v == 1) { /* end of the picture */
            return 1;
        } else if (v == 2) { /* move */
            if (i + 2 > n)
                return 0;
            x += p[i];
            y += p[i + 1];
            i += 2;
        } else { /* v values as they are, padded to 16 bits */
            size_t bytes = nibbles ? (v + 1) / 2 : v;
            bytes += bytes & 1;
            if (bytes > n - i)
                return 0;
            i += bytes;
            x += v;
        }
        if (y + 1 == h && x >= w)
            return 1;
    }
    return y >= h;
}

/* FFmpeg takes rows that are missing for rows without padding, and leaves what run-length data do not reach; so it is
 * checked here that the pixels are there. */
static int bmp_whole(const struct qvl_image_job *job, uint64_t w, uint64_t h, uint32_t bits, uint32_t compression)
{
    const uint64_t at = qvl_le32(job->data + 10);
    if (at > job->size)
        return 0;
    if (compression == 1 || compression == 2)
        return rle_whole(job->data + at, job->size - (size_t)at, w, h, compression == 2);
    return (compression != 0 && compression != 3 && compression != 6) || (w * bits + 31) / 32 * 4 * h <= job->size - at;
}

int qvl_bmp_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    *orientation = 1;
    const uint8_t *p = job->data;
    if (job->size < 26)
        return too_short(job, "BMP");
    struct still s = {.name = "BMP", .id = AV_CODEC_ID_BMP, .alpha = ALPHA_IGNORE};
    uint32_t bits, compression = 0;
    if (qvl_le32(p + 14) == 12) { /* OS/2 1.x header */
        s.width = qvl_le16(p + 18);
        s.height = qvl_le16(p + 20);
        bits = qvl_le16(p + 24);
    } else if (job->size < 54) {
        return too_short(job, "BMP");
    } else {
        bits = qvl_le16(p + 28);
        compression = qvl_le32(p + 30);
        s.width = qvl_le32(p + 18);
        s.height = qvl_le32(p + 22);
        if (s.height >> 31) /* negative: rows from top to bottom */
            s.height = 0u - s.height;
        /* The fourth byte of a pixel is alpha only where a mask says so (headers of 56 bytes and more have that mask). */
        if (job->size >= 70 && qvl_le32(p + 14) >= 56 && (compression == 3 || compression == 6) && qvl_le32(p + 66))
            s.alpha = ALPHA_STRAIGHT;
    }
    QVL_TRY(qvl_image_check_size(job, s.width, s.height));
    if (!bmp_whole(job, s.width, s.height, bits, compression))
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: BMP: the file ends early", job->what);
    return decode_still(out, &s, job);
}

/* Refuses what FFmpeg would decode with colours of its own choice, or not at all. */
static int check_tiff(struct still *s, const struct qvl_image_job *job)
{
    uint32_t v = 0, samples = 1;
    if (qvl_tiff_tag(job->data, job->size, TIFF_COMPRESSION, &v) && v != 1 && v != 2 && v != 3 && v != 4 && v != 5 &&
        v != 8 && v != 32773 && v != 32946) /* none, CCITT (3), LZW, deflate, PackBits, deflate */
        return av_refuse(s, job,
                         v == 6 || v == 7 ? "JPEG inside TIFF is not supported" : "this compression is not supported");
    if (qvl_tiff_tag(job->data, job->size, TIFF_SAMPLE_FORMAT, &v) && v != 1)
        return av_refuse(s, job, "only unsigned integer samples are supported");
    if (qvl_tiff_tag(job->data, job->size, TIFF_TILE_WIDTH, &v)) /* FFmpeg knows tiles in raw photographs only */
        return av_refuse(s, job, "tiles are not supported");
    qvl_tiff_tag(job->data, job->size, TIFF_SAMPLES, &samples);
    v = 1;
    qvl_tiff_tag(job->data, job->size, TIFF_PHOTOMETRIC, &v);
    if (v == 5) {
        if (samples != 4)
            return av_refuse(s, job, "inks other than CMYK are not supported");
        s->cmyk = 1;
    } else if (v > 3) {
        return av_refuse(s, job, "these colours (YCbCr, Lab, ...) are not supported");
    }
    return 0;
}

int qvl_tiff_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    uint32_t v = 0;
    struct still s = {.name = "TIFF", .id = AV_CODEC_ID_TIFF, .alpha = ALPHA_IGNORE};
    if (!qvl_tiff_tag(job->data, job->size, TIFF_WIDTH, &s.width) ||
        !qvl_tiff_tag(job->data, job->size, TIFF_HEIGHT, &s.height))
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: TIFF: no picture size in the first directory", job->what);
    QVL_TRY(qvl_image_check_size(job, s.width, s.height));
    if (!qvl_tiff_directory_whole(job->data, job->size)) /* FFmpeg would make do with half a table of strips */
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: TIFF: the file ends inside its directory", job->what);
    QVL_TRY(check_tiff(&s, job));
    if (qvl_tiff_tag(job->data, job->size, TIFF_EXTRA_SAMPLES, &v))
        s.alpha = v == 1 ? ALPHA_PREMULTIPLIED : v == 2 ? ALPHA_STRAIGHT : ALPHA_IGNORE;
    if (qvl_tiff_tag(job->data, job->size, TIFF_ORIENTATION, &v) && v >= 1 && v <= 8)
        *orientation = (int)v;
    return decode_still(out, &s, job);
}
