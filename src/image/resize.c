/* resize.c - target size of a picture, and RGB8 -> RGB8 bicubic resize.
 *
 * Bit-equal to torchvision's antialiased bicubic resize of uint8 tensors on a CPU: Keys cubic with a = -0.5, weights
 * computed in double, normalised, and rounded to int16 with as many fraction bits as the largest weight of the axis
 * allows; horizontal pass first, then vertical, with 8-bit samples between the passes. */
#include "image/image.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define MAX_RATIO 200.0 /* longer side : shorter side; the reference refuses more */
#define MAX_BITS  22    /* fraction bits of a weight: 255 * 2^22 * (sum of |weights|, below 1.5) fits 31 bits */

int qvl_smart_resize(uint32_t *out_w, uint32_t *out_h, uint32_t w, uint32_t h, uint32_t factor, uint64_t min_pixels,
                     uint64_t max_pixels, qvl_err *err)
{
    *out_w = *out_h = 0;
    if (!w || !h || !factor || !min_pixels || !max_pixels)
        return qvl_fail(err, QVL_E_ARG,
                        "image: size %ux%u, factor %u, min_pixels %llu, max_pixels %llu: all must be positive", w, h,
                        factor, (unsigned long long)min_pixels, (unsigned long long)max_pixels);
    double dw = w, dh = h, f = factor;
    double ratio = fmax(dw, dh) / fmin(dw, dh);
    if (ratio > MAX_RATIO)
        return qvl_fail(err, QVL_E_LIMIT, "image: %ux%u: aspect ratio %.4g:1, limit %g:1", w, h, ratio, MAX_RATIO);

    /* rint: halves go to the even multiple (400 -> 384). The area test uses the rounded sides, beta the original. */
    double hb = rint(dh / f) * f, wb = rint(dw / f) * f;
    if (hb * wb > (double)max_pixels) {
        double beta = sqrt(dh * dw / (double)max_pixels);
        hb = fmax(f, floor(dh / beta / f) * f);
        wb = fmax(f, floor(dw / beta / f) * f);
    } else if (hb * wb < (double)min_pixels) {
        double beta = sqrt((double)min_pixels / (dh * dw));
        hb = ceil(dh * beta / f) * f;
        wb = ceil(dw * beta / f) * f;
    }
    if (!(hb <= QVL_IMAGE_MAX_SIDE && wb <= QVL_IMAGE_MAX_SIDE))
        return qvl_fail(err, QVL_E_LIMIT, "image: %ux%u: target size %.0fx%.0f, limit %u on a side", w, h, wb, hb,
                        QVL_IMAGE_MAX_SIDE);
    *out_w = (uint32_t)wb;
    *out_h = (uint32_t)hb;
    return 0;
}

/* Weights of one axis: output o = sum over j < n[o] of k[o*stride+j] * input[lo[o]+j], in units of 2^-bits. */
struct axis {
    uint32_t *lo; /* [out] */
    uint32_t *n;  /* [out] */
    int16_t *k;   /* [out][stride] */
    size_t stride;
    int bits;
};

static void axis_free(struct axis *a)
{
    qvl_mem_free(a->lo);
    qvl_mem_free(a->n);
    qvl_mem_free(a->k);
    memset(a, 0, sizeof *a);
}

/* Keys cubic, a = -1/2. Factoring the power of two out changes no rounding. */
static double cubic(double x)
{
    x = fabs(x);
    if (x < 1.0)
        return (1.5 * x - 2.5) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
    return 0.0;
}

/* Weights of output o in double, normalised. Returns their number. */
static uint32_t weights_at(double *wt, uint32_t *lo, uint32_t o, double scale, double support, uint32_t in, size_t max_n)
{
    double centre = scale * (o + 0.5);
    double inv = scale >= 1.0 ? 1.0 / scale : 1.0;
    double a = trunc(centre - support + 0.5), b = trunc(centre + support + 0.5), total = 0;
    uint32_t first = a > 0 ? (uint32_t)a : 0, last = b < in ? (uint32_t)b : in;
    uint32_t n = last > first ? last - first : 0;
    if (n > max_n)
        n = (uint32_t)max_n;
    for (uint32_t j = 0; j < n; j++) {
        wt[j] = cubic(((double)(j + first) - centre + 0.5) * inv);
        total += wt[j];
    }
    for (uint32_t j = 0; j < n && total != 0.0; j++)
        wt[j] /= total;
    *lo = first;
    return n;
}

static int axis_init(struct axis *a, uint32_t in, uint32_t out, qvl_err *err)
{
    double scale = (double)in / (double)out, support = scale >= 1.0 ? 2.0 * scale : 2.0, wmax = 0;
    a->stride = (size_t)ceil(support) * 2 + 1;
    a->lo = qvl_alloc(out, sizeof *a->lo);
    a->n = qvl_alloc(out, sizeof *a->n);
    size_t n_weights = 0;
    int overflow = qvl_mul_size(&n_weights, out, a->stride);
    double *wt = overflow ? NULL : qvl_alloc(n_weights, sizeof *wt);
    a->k = overflow ? NULL : qvl_alloc(n_weights, sizeof *a->k);
    if (!a->lo || !a->n || !a->k || !wt) {
        qvl_mem_free(wt);
        return qvl_fail_nomem(err, n_weights * sizeof *wt, "resize weights");
    }
    for (uint32_t o = 0; o < out; o++) {
        double *w = wt + o * a->stride;
        a->n[o] = weights_at(w, &a->lo[o], o, scale, support, in, a->stride);
        for (uint32_t j = 0; j < a->n[o]; j++)
            wmax = fmax(wmax, w[j]);
    }
    a->bits = 0;
    while (a->bits < MAX_BITS && (int)(0.5 + wmax * (double)(1 << (a->bits + 1))) < 1 << 15)
        a->bits++;
    for (uint32_t o = 0; o < out; o++) {
        for (uint32_t j = 0; j < a->n[o]; j++) {
            double v = wt[o * a->stride + j] * (double)(1 << a->bits);
            a->k[o * a->stride + j] = (int16_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
    }
    qvl_mem_free(wt);
    return 0;
}

static inline uint8_t clip8(int32_t v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

/* One row: src [.][3] -> dst [out][3]. */
static void row_horizontal(uint8_t *dst, const uint8_t *src, const struct axis *a, uint32_t out)
{
    const int32_t half = a->bits ? 1 << (a->bits - 1) : 0;
    for (uint32_t o = 0; o < out; o++) {
        const uint8_t *s = src + (size_t)a->lo[o] * 3;
        const int16_t *k = a->k + o * a->stride;
        int32_t r = half, g = half, b = half;
        for (uint32_t j = 0; j < a->n[o]; j++, s += 3) {
            r += k[j] * s[0];
            g += k[j] * s[1];
            b += k[j] * s[2];
        }
        dst[o * 3] = clip8(r >> a->bits);
        dst[o * 3 + 1] = clip8(g >> a->bits);
        dst[o * 3 + 2] = clip8(b >> a->bits);
    }
}

#define BLOCK 512 /* samples of a row summed at once: the int32 sums stay in the first-level cache */

/* One output row of n samples: weighted sum of n_tap rows that begin at src and lie `pitch` bytes apart. */
static void row_vertical(uint8_t *restrict dst, const uint8_t *restrict src, size_t pitch, const int16_t *k, uint32_t n_tap,
                         int bits, size_t n)
{
    int32_t acc[BLOCK];
    for (size_t x0 = 0; x0 < n; x0 += BLOCK) {
        size_t len = n - x0 < BLOCK ? n - x0 : BLOCK;
        const uint8_t *s = src + x0;
        for (size_t x = 0; x < len; x++)
            acc[x] = bits ? 1 << (bits - 1) : 0;
        uint32_t j = 0;
        for (; j + 4 <= n_tap; j += 4, s += 4 * pitch) {
            const uint8_t *s1 = s + pitch, *s2 = s1 + pitch, *s3 = s2 + pitch;
            const int16_t k0 = k[j], k1 = k[j + 1], k2 = k[j + 2], k3 = k[j + 3];
            for (size_t x = 0; x < len; x++)
                acc[x] += k0 * s[x] + k1 * s1[x] + k2 * s2[x] + k3 * s3[x];
        }
        for (; j < n_tap; j++, s += pitch) {
            const int16_t k0 = k[j];
            for (size_t x = 0; x < len; x++)
                acc[x] += k0 * s[x];
        }
        for (size_t x = 0; x < len; x++)
            dst[x0 + x] = clip8(acc[x] >> bits);
    }
}

static int alloc_rgb(struct qvl_image *im, uint32_t w, uint32_t h, qvl_err *err)
{
    size_t row, bytes;
    if (qvl_mul_size(&row, w, 3) || qvl_mul_size(&bytes, row, h))
        return qvl_fail(err, QVL_E_LIMIT, "image: %ux%u is too large for this machine", w, h);
    im->rgb = qvl_alloc(bytes, 1);
    if (!im->rgb)
        return qvl_fail_nomem(err, bytes, "resized image");
    im->width = w;
    im->height = h;
    return 0;
}

int qvl_image_resize(struct qvl_image *out, const struct qvl_image *in, uint32_t w, uint32_t h, qvl_err *err)
{
    struct axis ax = {0}, ay = {0};
    struct qvl_image mid = {0};
    int rc = 0;
    memset(out, 0, sizeof *out);
    if (!in->rgb || !in->width || !in->height || !w || !h)
        return qvl_fail(err, QVL_E_ARG, "image: resize from %ux%u to %ux%u", in->width, in->height, w, h);
    const uint8_t *src = in->rgb;
    size_t pitch = (size_t)w * 3;

    if (w == in->width && h == in->height) {
        QVL_TRY(alloc_rgb(out, w, h, err));
        memcpy(out->rgb, in->rgb, pitch * h);
        return 0;
    }
    if (w != in->width) {
        QVL_TRY_DONE(axis_init(&ax, in->width, w, err));
        struct qvl_image *to = h == in->height ? out : &mid;
        QVL_TRY_DONE(alloc_rgb(to, w, in->height, err));
        for (uint32_t y = 0; y < in->height; y++)
            row_horizontal(to->rgb + y * pitch, in->rgb + (size_t)y * in->width * 3, &ax, w);
        src = to->rgb;
    }
    if (h != in->height) {
        QVL_TRY_DONE(axis_init(&ay, in->height, h, err));
        QVL_TRY_DONE(alloc_rgb(out, w, h, err));
        for (uint32_t y = 0; y < h; y++)
            row_vertical(out->rgb + y * pitch, src + ay.lo[y] * pitch, pitch, ay.k + y * ay.stride, ay.n[y], ay.bits, pitch);
    }
done:
    axis_free(&ax);
    axis_free(&ay);
    qvl_image_free(&mid);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}
