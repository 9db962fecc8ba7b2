/* pnm.c - portable bitmaps, P1 to P6: text and binary, any maximum value -> RGB8.
 *
 * Values are scaled to v*255/max, rounded to nearest; a bitmap's 1 is black. */
#include "image/image_internal.h"

#include "base/err.h"
#include "base/mem.h"

struct pnm_reader {
    const uint8_t *p, *end;
};

static int is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next decimal number, comments skipped; -1 when there is none or it exceeds max. `digits` bounds its length
 * (text bitmaps need no space between their digits). */
static int64_t next_number(struct pnm_reader *r, uint32_t max, int digits)
{
    while (r->p < r->end && (is_space(*r->p) || *r->p == '#')) {
        if (*r->p++ == '#')
            while (r->p < r->end && *r->p != '\n' && *r->p != '\r')
                r->p++;
    }
    int64_t v = 0;
    int n = 0;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9' && n < digits; r->p++, n++) {
        v = v * 10 + (*r->p - '0');
        if (v > max)
            return -1;
    }
    return n ? v : -1;
}

static uint8_t scale(uint32_t v, uint32_t max) { return (uint8_t)((2 * 255 * (uint64_t)v + max) / (2 * (uint64_t)max)); }

/* One sample; -1 at the end of the data, and for text above the maximum (binary values there count as the maximum, as
 * in Pillow). */
static int next_sample(struct pnm_reader *r, int kind, uint32_t max)
{
    int64_t v;
    if (kind <= 3) {
        v = next_number(r, max, kind == 1 ? 1 : 9);
    } else if (max < 256) {
        v = r->p < r->end ? *r->p++ : -1;
    } else if (r->end - r->p >= 2) {
        v = qvl_be16(r->p);
        r->p += 2;
    } else {
        v = -1;
    }
    if (v < 0)
        return -1;
    if (v > max)
        v = max;
    return kind == 1 ? (v ? 0 : 255) : scale((uint32_t)v, max);
}

static int read_pixels(struct qvl_image *out, struct pnm_reader *r, int kind, uint32_t max)
{
    for (uint32_t y = 0; y < out->height; y++) {
        uint8_t *dst = out->rgb + (size_t)y * out->width * 3;
        for (uint32_t x = 0; x < out->width; x++, dst += 3) {
            int v;
            if (kind == 4) { /* eight pixels in a byte, rows padded to whole bytes */
                if (r->p >= r->end)
                    return -1;
                v = *r->p >> (7 - x % 8) & 1 ? 0 : 255;
                if (x % 8 == 7 || x + 1 == out->width)
                    r->p++;
                dst[0] = dst[1] = dst[2] = (uint8_t)v;
                continue;
            }
            for (int c = 0; c < 3; c++) {
                if ((c == 0 || kind % 3 == 0) && (v = next_sample(r, kind, max)) < 0)
                    return -1;
                dst[c] = (uint8_t)v;
            }
        }
    }
    return 0;
}

int qvl_pnm_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    struct pnm_reader r = {job->data + 2, job->data + job->size};
    const int kind = job->data[1] - '0'; /* 1 2 3: text bitmap, grey, RGB; 4 5 6: the same in binary */
    *orientation = 1;
    int64_t w = next_number(&r, UINT32_MAX, 10), h = next_number(&r, UINT32_MAX, 10);
    int64_t max = kind == 1 || kind == 4 ? 1 : next_number(&r, 65535, 5);
    if (w < 0 || h < 0 || max < 1 || (kind >= 4 && (r.p >= r.end || !is_space(*r.p++))))
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: PNM: bad header", job->what);
    QVL_TRY(qvl_image_alloc(out, job, (uint64_t)w, (uint64_t)h));
    if (read_pixels(out, &r, kind, (uint32_t)max) < 0) {
        qvl_image_free(out);
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: PNM: the file ends early or holds a value above its maximum",
                        job->what);
    }
    return 0;
}
