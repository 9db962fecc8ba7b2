/* pixels.c - small conversions on decoded pixels: transparency, grey, CMYK, orientation. */
#include "image/image_internal.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

/* Pillow's alpha_composite over opaque white, for all (colour, alpha) pairs:
 * t = 64*(c*a + 255*(255-a)) + 128*64; result = ((t >> 8) + t) >> 8 >> 6, a division by 255 rounded to nearest. */
static inline uint8_t over_white(uint32_t c, uint32_t a)
{
    uint32_t t = (c * a + 255 * (255 - a) + 128) << 6;
    return (uint8_t)((((t >> 8) + t) >> 8) >> 6);
}

void qvl_alpha_rgba(uint8_t *dst, const uint8_t *src, size_t n, qvl_alpha alpha)
{
    for (size_t i = 0; i < n; i++, dst += 3, src += 4) {
        uint32_t a = alpha == QVL_ALPHA_DROP ? 255 : src[3];
        dst[0] = over_white(src[0], a);
        dst[1] = over_white(src[1], a);
        dst[2] = over_white(src[2], a);
    }
}

void qvl_alpha_ga(uint8_t *dst, const uint8_t *src, size_t n, qvl_alpha alpha)
{
    for (size_t i = 0; i < n; i++, dst += 3, src += 2)
        dst[0] = dst[1] = dst[2] = over_white(src[0], alpha == QVL_ALPHA_DROP ? 255 : src[1]);
}

void qvl_grey_to_rgb(uint8_t *dst, const uint8_t *grey, size_t n)
{
    for (size_t i = 0; i < n; i++, dst += 3)
        dst[0] = dst[1] = dst[2] = grey[i];
}

/* R = (255-K) - C*(255-K)/255, the quotient rounded to nearest. */
void qvl_cmyk_to_rgb(uint8_t *dst, const uint8_t *cmyk, size_t n)
{
    for (size_t i = 0; i < n; i++, dst += 3, cmyk += 4) {
        uint32_t nk = 255u - cmyk[3];
        for (int c = 0; c < 3; c++) {
            uint32_t t = cmyk[c] * nk + 128;
            dst[c] = (uint8_t)(nk - (((t >> 8) + t) >> 8));
        }
    }
}

static void swap_pixels(uint8_t *a, uint8_t *b)
{
    for (int c = 0; c < 3; c++) {
        uint8_t t = a[c];
        a[c] = b[c];
        b[c] = t;
    }
}

static void mirror_rows(struct qvl_image *im)
{
    for (uint32_t y = 0; y < im->height; y++) {
        uint8_t *row = im->rgb + (size_t)y * im->width * 3;
        for (uint32_t l = 0, r = im->width - 1; l < r; l++, r--)
            swap_pixels(row + (size_t)l * 3, row + (size_t)r * 3);
    }
}

static void flip_columns(struct qvl_image *im)
{
    size_t pitch = (size_t)im->width * 3;
    for (uint32_t t = 0, b = im->height - 1; t < b; t++, b--)
        for (size_t x = 0; x < pitch; x += 3)
            swap_pixels(im->rgb + t * pitch + x, im->rgb + b * pitch + x);
}

#define TILE 32u /* pixels: source rows and target rows of a tile stay in the first-level cache */

/* dst(y, x) = src(x, y): [h][w] -> [w][h]. */
static void transpose(uint8_t *dst, const uint8_t *src, uint32_t w, uint32_t h)
{
    for (uint32_t y0 = 0; y0 < h; y0 += TILE)
        for (uint32_t x0 = 0; x0 < w; x0 += TILE)
            for (uint32_t x = x0; x < w && x < x0 + TILE; x++)
                for (uint32_t y = y0; y < h && y < y0 + TILE; y++)
                    memcpy(dst + ((size_t)x * h + y) * 3, src + ((size_t)y * w + x) * 3, 3);
}

int qvl_image_orient(struct qvl_image *im, int orientation, const char *what, qvl_err *err)
{
    if (orientation >= 5 && orientation <= 8) {
        size_t bytes = (size_t)im->width * im->height * 3;
        uint8_t *rgb = qvl_alloc(bytes, 1);
        if (!rgb)
            return qvl_fail_nomem(err, bytes, what);
        transpose(rgb, im->rgb, im->width, im->height);
        qvl_mem_free(im->rgb);
        *im = (struct qvl_image){.rgb = rgb, .width = im->height, .height = im->width};
    }
    /* What remains after the transpose of 5..8: 6 turns clockwise = transpose + mirror, 8 = transpose + flip. */
    if (orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7)
        mirror_rows(im);
    if (orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8)
        flip_columns(im);
    return 0;
}
