/* image.h - pictures: encoded bytes -> upright RGB8 -> resized RGB8 -> patch rows.
 *
 * Facts: sections 3.2 to 3.5 of the model notes (docs/model.md). Resizing is bit-equal to the reference's default
 * processor (torchvision's uint8 antialiased bicubic on a CPU). */
#ifndef QVL_IMAGE_IMAGE_H
#define QVL_IMAGE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "model/config.h"
#include "qvl.h"

struct qvl_image {
    uint8_t *rgb;      /* [height][width][3], from qvl_alloc */
    uint32_t width, height;
};

#define QVL_IMAGE_MAX_SIDE 65535u          /* px */
#define QVL_IMAGE_MAX_PIXELS (256u << 20)  /* of the encoded picture, checked before decoding allocates */
#define QVL_IMAGE_MAX_FILE (512u << 20)    /* bytes of a picture file */

/* Decodes JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC, AVIF, PNM and QOI (recognised by content, not by name): first frame,
 * EXIF orientation applied (XMP's where there is no EXIF), transparency as `alpha` says. `what` names the picture in
 * messages. The bytes are the reference's (Pillow's, then transformers' conversion to RGB):
 *
 *   JPEG   grey, YCbCr, RGB, CMYK, YCCK; baseline, progressive, arithmetic. 12 bits and lossless: unsupported.
 *   PNG    everything. 16-bit grey is scaled (v/257 rounded; Pillow clips it), other 16-bit kinds keep the high byte.
 *   WebP   lossy, lossless, alpha; of an animation the first frame on a transparent (or black) canvas.
 *   GIF    first frame; the canvas around it shows the transparent colour or the first palette entry.
 *   BMP    1 to 32 bits, run lengths; alpha only where the header has a mask for it.
 *   TIFF   grey, palette, RGB, CMYK of 8 bits, grey and RGB of 16 (as PNG); alpha straight or premultiplied; no compression,
 *          LZW, deflate, PackBits, CCITT. JPEG or tiles inside, float, YCbCr, Lab, BigTIFF: unsupported.
 *   AVIF   close to the reference, not equal: on the test pictures up to 4 levels in 6 (4:4:4) to 15 % (4:2:0) of the
 *          samples, because libheif 1.15 rounds twice. HEIC as libheif decodes it. More than 8 bits: libheif's colours.
 *   PNM    P1 to P6, values scaled to 255.  QOI  everything.
 *
 * gAMA, ICC profiles and background colours are ignored. A file that ends early is an error; so is any damage that the
 * format lets one notice, except where libjpeg repairs it. Damage behind the pixels is not looked at. Returns
 * QVL_E_FORMAT (damaged, not a picture), QVL_E_UNSUPPORTED, QVL_E_LIMIT or QVL_E_NOMEM; *out is then empty. */
int qvl_image_decode(struct qvl_image *out, const void *data, size_t size, qvl_alpha alpha, const char *what, qvl_err *err);
void qvl_image_free(struct qvl_image *im);

/* Target size (3.3): both sides multiples of patch*merge. Aspect ratios above 200:1 are QVL_E_LIMIT. min/max of 0 take the
 * configuration's: the caller, which has it, puts them in; here 0 is QVL_E_ARG. */
int qvl_smart_resize(uint32_t *out_w, uint32_t *out_h, uint32_t w, uint32_t h, uint32_t factor, uint64_t min_pixels,
                     uint64_t max_pixels, qvl_err *err);
/* Bit-exact resize; no work beyond a copy when the size is unchanged. Single-threaded. */
int qvl_image_resize(struct qvl_image *out, const struct qvl_image *in, uint32_t w, uint32_t h, qvl_err *err);

/* image -> vision: what the encoder reads. One value per picture (later: per video clip). */
struct qvl_patches {
    float *rows;          /* [n_patch][n_channel*temporal*patch*patch] f32 in merge-block order, from qvl_alloc;
                             may be NULL when only the sizes are wanted */
    int grid_t, grid_h, grid_w; /* patches; grid_h and grid_w are multiples of merge */
    int64_t n_patch;      /* grid_t*grid_h*grid_w */
    int n_elem;           /* values in a row */
};
static inline int64_t qvl_patches_tokens(const struct qvl_patches *p, int merge) { return p->n_patch / (merge * merge); }

/* Resized image (sides multiples of patch*merge) -> normalised patch rows (3.5), the frame repeated temporal_patch times. */
int qvl_patchify(struct qvl_patches *out, const struct qvl_image *im, const struct qvl_vision_config *v,
                 const struct qvl_image_config *c, qvl_err *err);
void qvl_patches_free(struct qvl_patches *p);

#endif
