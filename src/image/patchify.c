/* patchify.c - resized RGB8 -> normalised patch rows.
 *
 * in   [gh*P][gw*P][3] u8, gh and gw multiples of M (the merge size)
 * out  [gh*gw][3*T*P*P] f32, row ((by*(gw/M) + bx)*M + iy)*M + ix for patch (by*M+iy, bx*M+ix),
 *      element ((c*T + t)*P + y)*P + x, the same for every t.
 *
 * A value is (u8 - mean*255) / (std*255), each operation rounded to float32: the form into which the reference fuses
 * rescaling and normalisation. Only 256 inputs exist per channel, so they come from a table. */
#include "image/image.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static int build_table(float table[3][256], const struct qvl_image_config *c, qvl_err *err)
{
    for (int ch = 0; ch < 3; ch++) {
        float mean = c->mean[ch] * 255.0f, std = c->std[ch] * 255.0f;
        if (!isfinite(mean) || !isfinite(std) || std == 0.0f)
            return qvl_fail(err, QVL_E_FORMAT, "preprocessor_config.json: channel %d: image_mean %g, image_std %g", ch,
                            (double)c->mean[ch], (double)c->std[ch]);
        for (int i = 0; i < 256; i++)
            table[ch][i] = ((float)i - mean) / std;
    }
    return 0;
}

/* One patch whose top left pixel is src: dst [3][T][P][P]. */
static void patch_row(float *dst, const uint8_t *src, size_t pitch, int p, int t, float table[3][256])
{
    size_t area = (size_t)p * p;
    for (int ch = 0; ch < 3; ch++) {
        float *first = dst;
        for (int y = 0; y < p; y++) {
            const uint8_t *s = src + y * pitch + ch;
            for (int x = 0; x < p; x++, s += 3)
                *dst++ = table[ch][*s];
        }
        for (int i = 1; i < t; i++, dst += area)
            memcpy(dst, first, area * sizeof *dst);
    }
}

int qvl_patchify(struct qvl_patches *out, const struct qvl_image *im, const struct qvl_vision_config *v,
                 const struct qvl_image_config *c, qvl_err *err)
{
    float table[3][256];
    memset(out, 0, sizeof *out);
    if (v->n_channel != 3)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "vision_config: in_channels: found %d, expected 3", v->n_channel);
    if (v->patch < 1 || v->patch > 1024 || v->merge < 1 || v->merge > 64 || v->temporal_patch < 1 || v->temporal_patch > 64)
        return qvl_fail(err, QVL_E_UNSUPPORTED,
                        "vision_config: patch_size %d, spatial_merge_size %d, temporal_patch_size %d", v->patch, v->merge,
                        v->temporal_patch);
    uint32_t block = (uint32_t)(v->patch * v->merge);
    if (!im->rgb || !im->width || !im->height || im->width % block || im->height % block)
        return qvl_fail(err, QVL_E_ARG, "image: %ux%u: sides must be multiples of %u", im->width, im->height, block);
    QVL_TRY(build_table(table, c, err));

    const int p = v->patch, m = v->merge, t = v->temporal_patch;
    const uint32_t gh = im->height / (uint32_t)p, gw = im->width / (uint32_t)p;
    size_t n_patch, n_elem = (size_t)3 * t * p * p, total;
    if (qvl_mul_size(&n_patch, gh, gw) || qvl_mul_size(&total, n_patch, n_elem))
        return qvl_fail(err, QVL_E_LIMIT, "image: %ux%u: too many patches", im->width, im->height);
    out->rows = qvl_alloc(total, sizeof *out->rows);
    if (!out->rows)
        return qvl_fail_nomem(err, total <= SIZE_MAX / sizeof(float) ? total * sizeof(float) : SIZE_MAX, "patch rows");
    out->grid_t = 1;
    out->grid_h = (int)gh;
    out->grid_w = (int)gw;
    out->n_patch = (int64_t)n_patch;
    out->n_elem = (int)n_elem;

    const size_t pitch = (size_t)im->width * 3;
    float *dst = out->rows;
    for (uint32_t by = 0; by < gh; by += (uint32_t)m)
        for (uint32_t bx = 0; bx < gw; bx += (uint32_t)m)
            for (uint32_t iy = 0; iy < (uint32_t)m; iy++)
                for (uint32_t ix = 0; ix < (uint32_t)m; ix++, dst += n_elem)
                    patch_row(dst, im->rgb + (size_t)(by + iy) * p * pitch + (size_t)(bx + ix) * p * 3, pitch, p, t, table);
    return 0;
}

void qvl_patches_free(struct qvl_patches *p)
{
    if (p) {
        qvl_mem_free(p->rows);
        memset(p, 0, sizeof *p);
    }
}
