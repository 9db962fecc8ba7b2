/* image_internal.h - what the decoders of src/image/ share. Nothing outside this folder and its tests includes it.
 *
 * Every decoder takes a job, checks the declared size against the job's limits before it allocates anything that
 * depends on that size, and leaves finished RGB8 (transparency already resolved) and the EXIF orientation. */
#ifndef QVL_IMAGE_IMAGE_INTERNAL_H
#define QVL_IMAGE_IMAGE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "image/image.h"

struct qvl_image_job {
    const uint8_t *data;
    size_t size;
    qvl_alpha alpha;
    uint32_t max_side;   /* px */
    uint64_t max_pixels; /* of the encoded picture */
    const char *what;    /* names the picture in messages */
    qvl_err *err;
};

/* One decoder: fills out (rgb NULL on failure) and *orientation (1..8, 1 = upright or already applied). */
typedef int qvl_image_decoder(struct qvl_image *out, int *orientation, const struct qvl_image_job *job);

qvl_image_decoder qvl_jpeg_decode;
qvl_image_decoder qvl_png_decode;
qvl_image_decoder qvl_webp_decode;
qvl_image_decoder qvl_heif_decode;
qvl_image_decoder qvl_gif_decode;
qvl_image_decoder qvl_bmp_decode;
qvl_image_decoder qvl_tiff_decode;
qvl_image_decoder qvl_pnm_decode;
qvl_image_decoder qvl_qoi_decode;

/* qvl_image_decode with limits of the caller's choice; the public function passes the constants of image.h. */
int qvl_image_decode_job(struct qvl_image *out, const struct qvl_image_job *job);

/* 0 when a declared size is within the job's limits. */
int qvl_image_check_size(const struct qvl_image_job *job, uint64_t w, uint64_t h);
/* Allocates [h][w][3] after qvl_image_check_size; contents are undefined. */
int qvl_image_alloc(struct qvl_image *out, const struct qvl_image_job *job, uint64_t w, uint64_t h);

/* n pixels RGBA or grey+alpha -> RGB: composited on white, or the stored colour. dst and src may not overlap. */
void qvl_alpha_rgba(uint8_t *dst, const uint8_t *src, size_t n, qvl_alpha alpha);
void qvl_alpha_ga(uint8_t *dst, const uint8_t *src, size_t n, qvl_alpha alpha);
void qvl_grey_to_rgb(uint8_t *dst, const uint8_t *grey, size_t n);
/* CMYK with 255 = full ink -> RGB. */
void qvl_cmyk_to_rgb(uint8_t *dst, const uint8_t *cmyk, size_t n);
/* Makes the picture upright: the transform that EXIF orientation 1..8 asks for. */
int qvl_image_orient(struct qvl_image *im, int orientation, const char *what, qvl_err *err);

/* First value of a SHORT or LONG tag in the first directory of a TIFF structure. Returns the value's place in the file,
 * 0 when it is not there (*value is then untouched). */
size_t qvl_tiff_tag(const uint8_t *tiff, size_t size, uint32_t tag, uint32_t *value);
/* 1 when the first directory and everything that it points to directly lie inside the file. */
int qvl_tiff_directory_whole(const uint8_t *tiff, size_t size);
/* Orientation 1..8 in an EXIF block (a TIFF structure, with or without the leading "Exif\0\0"); 1 for a senseless
 * value, 0 when it has none. */
int qvl_exif_orientation(const uint8_t *exif, size_t size);
/* Orientation of a whole file, 0 when nothing is said. */
int qvl_exif_from_jpeg(const uint8_t *data, size_t size);
int qvl_exif_from_png(const uint8_t *data, size_t size);
/* Orientation in a "Raw profile type exif" text: a name, a length and hexadecimal digits; 0 when it has none. */
int qvl_exif_from_hex(const char *text, size_t size);
/* Orientation in an XMP packet, 0 when it has none. */
int qvl_xmp_orientation(const uint8_t *xmp, size_t size);

static inline uint32_t qvl_be16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static inline uint32_t qvl_be32(const uint8_t *p) { return qvl_be16(p) << 16 | qvl_be16(p + 2); }
static inline uint32_t qvl_le16(const uint8_t *p) { return (uint32_t)p[1] << 8 | p[0]; }
static inline uint32_t qvl_le32(const uint8_t *p) { return qvl_le16(p + 2) << 16 | qvl_le16(p); }

#endif
