/* gif.c - the first frame of a GIF -> RGB8 on its canvas.
 *
 * Written here because the answer must be strict about damage and must agree with the reference on what surrounds a
 * frame that does not fill the canvas: the transparent colour when there is one, else the first palette entry (the
 * background index of the header is not used). A frame that reaches over the edge enlarges the canvas. */
#include "image/image_internal.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define MAX_CODES 4096 /* LZW table: 12 bits */

struct gif_reader {
    const uint8_t *p, *end;
    const struct qvl_image_job *job;
    uint8_t palette[256][4]; /* RGBA */
    int transparent;         /* index, -1 = none */
};

/* Where the pixels go. */
struct gif_frame {
    struct qvl_image *out;
    uint32_t left, top, width, height;
    int interlaced;
    uint32_t x, row;  /* next pixel; row counts in the order of the file */
};

static int gif_bad(const struct gif_reader *r, const char *reason)
{
    return qvl_fail(r->job->err, QVL_E_FORMAT, "%s: GIF: %s", r->job->what, reason);
}

static size_t left(const struct gif_reader *r) { return (size_t)(r->end - r->p); }

static int read_palette(struct gif_reader *r, uint32_t flags)
{
    uint32_t n = 2u << (flags & 7);
    if (left(r) < 3 * (size_t)n)
        return gif_bad(r, "the file ends inside a palette");
    for (uint32_t i = 0; i < 256; i++) /* entries that the file does not define are black */
        for (int c = 0; c < 3; c++)
            r->palette[i][c] = i < n ? r->p[3 * i + c] : 0;
    r->p += 3 * (size_t)n;
    return 0;
}

/* Skips sub-blocks up to and including the empty one. */
static int skip_blocks(struct gif_reader *r)
{
    for (;;) {
        if (!left(r) || left(r) < 1u + r->p[0])
            return gif_bad(r, "the file ends inside an extension");
        size_t n = r->p[0];
        r->p += 1 + n;
        if (!n)
            return 0;
    }
}

static int read_extension(struct gif_reader *r)
{
    if (left(r) < 2)
        return gif_bad(r, "the file ends inside an extension");
    int label = *r->p++;
    if (label == 0xf9 && left(r) >= 5 && r->p[0] >= 4)
        r->transparent = r->p[1] & 1 ? r->p[4] : -1;
    return skip_blocks(r);
}

/* Row of the picture for the n-th row of the file: eighths, the eighths between, quarters, halves. */
static uint32_t interlaced_row(uint32_t n, uint32_t h)
{
    static const uint32_t first[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};
    for (int pass = 0; pass < 4; pass++) {
        uint32_t rows = h > first[pass] ? (h - first[pass] + step[pass] - 1) / step[pass] : 0;
        if (n < rows)
            return first[pass] + n * step[pass];
        n -= rows;
    }
    return 0;
}

static int frame_done(const struct gif_frame *f) { return f->row >= f->height; }

static void put_pixel(struct gif_frame *f, const struct gif_reader *r, uint8_t index)
{
    uint32_t y = f->interlaced ? interlaced_row(f->row, f->height) : f->row;
    uint8_t *dst = f->out->rgb + ((size_t)(f->top + y) * f->out->width + f->left + f->x) * 3;
    qvl_alpha_rgba(dst, r->palette[index], 1, r->job->alpha);
    if (++f->x == f->width) {
        f->x = 0;
        f->row++;
    }
}

struct lzw {
    uint16_t prefix[MAX_CODES];
    uint8_t suffix[MAX_CODES], stack[MAX_CODES];
    uint32_t bits, n_bits; /* input not yet used */
    size_t block;          /* bytes left in the sub-block */
};

/* The next code of `width` bits; -1 at the end of the data. */
static int next_code(struct lzw *z, struct gif_reader *r, unsigned width)
{
    while (z->n_bits < width) {
        if (!z->block) {
            if (!left(r) || !r->p[0])
                return -1;
            z->block = *r->p++;
        }
        if (!left(r))
            return -1;
        z->bits |= (uint32_t)*r->p++ << z->n_bits;
        z->n_bits += 8;
        z->block--;
    }
    int code = (int)(z->bits & ((1u << width) - 1));
    z->bits >>= width;
    z->n_bits -= width;
    return code;
}

static int read_pixels(struct gif_frame *f, struct gif_reader *r, struct lzw *z)
{
    unsigned min = left(r) ? *r->p++ : 0, width = min + 1;
    if (min < 1 || min > 8)
        return gif_bad(r, "bad code size");
    const int clear = 1 << min;
    int next = clear + 2, prev = -1;
    uint8_t first = 0; /* of the previous string */
    while (!frame_done(f)) {
        int code = next_code(z, r, width), at = code, n = 0;
        if (code < 0 || code == clear + 1)
            return gif_bad(r, "the picture data end early");
        if (code == clear) {
            next = clear + 2;
            width = min + 1;
            prev = -1;
            continue;
        }
        if (code > next || (prev < 0 && code >= clear) || (code == next && next >= MAX_CODES))
            return gif_bad(r, "damaged picture data");
        if (code == next) { /* the string being defined: the previous one and its own first pixel */
            z->stack[n++] = first;
            at = prev;
        }
        for (; at >= clear + 2; at = z->prefix[at])
            z->stack[n++] = z->suffix[at];
        first = (uint8_t)at;
        z->stack[n++] = first;
        if (prev >= 0 && next < MAX_CODES) {
            z->prefix[next] = (uint16_t)prev;
            z->suffix[next] = first;
            if (++next == 1 << width && width < 12)
                width++;
        }
        prev = code;
        while (n && !frame_done(f))
            put_pixel(f, r, z->stack[--n]);
    }
    return 0;
}

static int read_frame(struct qvl_image *out, struct gif_reader *r, uint32_t w, uint32_t h)
{
    if (left(r) < 9)
        return gif_bad(r, "the file ends inside a frame header");
    const uint32_t flags = r->p[8];
    struct gif_frame f = {
        out, qvl_le16(r->p), qvl_le16(r->p + 2), qvl_le16(r->p + 4), qvl_le16(r->p + 6), (flags & 0x40) != 0, 0, 0};
    r->p += 9;
    if (!f.width || !f.height)
        return gif_bad(r, "the first frame is empty");
    if (flags & 0x80)
        QVL_TRY(read_palette(r, flags));
    if (r->transparent >= 0)
        r->palette[r->transparent][3] = 0;
    w = f.left + f.width > w ? f.left + f.width : w;
    h = f.top + f.height > h ? f.top + f.height : h;
    QVL_TRY(qvl_image_alloc(out, r->job, w, h));
    uint8_t rgb[3];
    qvl_alpha_rgba(rgb, r->palette[r->transparent >= 0 ? r->transparent : 0], 1, r->job->alpha);
    for (size_t i = 0; i < (size_t)w * h; i++)
        memcpy(out->rgb + 3 * i, rgb, 3);
    struct lzw *z = qvl_calloc(1, sizeof *z);
    if (!z)
        return qvl_fail_nomem(r->job->err, sizeof *z, r->job->what);
    int rc = read_pixels(&f, r, z);
    qvl_mem_free(z);
    return rc;
}

int qvl_gif_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    struct gif_reader r = {.p = job->data, .end = job->data + job->size, .job = job, .transparent = -1};
    *orientation = 1;
    if (job->size < 13)
        return gif_bad(&r, "the file ends inside its header");
    const uint32_t w = qvl_le16(r.p + 6), h = qvl_le16(r.p + 8), flags = r.p[10];
    for (int i = 0; i < 256; i++) /* without any palette: grey */
        memcpy(r.palette[i], (uint8_t[4]){(uint8_t)i, (uint8_t)i, (uint8_t)i, 255}, 4);
    r.p += 13;
    if (flags & 0x80)
        QVL_TRY(read_palette(&r, flags));
    while (left(&r)) {
        int kind = *r.p++;
        if (kind == ';')
            break;
        if (kind == '!')
            QVL_TRY(read_extension(&r));
        if (kind == ',') {
            int rc = read_frame(out, &r, w, h);
            if (rc < 0)
                qvl_image_free(out);
            return rc;
        }
    }
    return gif_bad(&r, "no frame");
}
