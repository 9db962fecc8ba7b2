/* png.c - PNG (and the first image of an APNG) through libpng: every colour type, depth and interlacing -> RGB8.
 *
 * 16-bit grey is scaled (v/257 rounded); the other 16-bit kinds keep the high byte, as the reference does. gAMA, iCCP
 * and background colours are ignored. Damage in any chunk up to the end of the pixels is an error; what follows the
 * pixels (and a missing IEND) is not looked at, as in Pillow. */
#include "image/image_internal.h"

#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "base/err.h"
#include "base/mem.h"

#define HEADER_BYTES 33         /* signature and IHDR chunk */
#define MAX_TEXT     (4u << 20) /* bytes of one unpacked text chunk, unless the file itself is larger */
#define MAX_TEXTS    8          /* texts in a file; more are ignored */

static const char raw_profile[] = "Raw profile type exif";

struct png_reader {
    const struct qvl_image_job *job;
    size_t pos;
    png_structp png;
    png_infop info;
    uint8_t *buf;     /* one row, or the whole picture when interlaced, before transparency is resolved */
    size_t row_bytes;
    int channels;     /* after libpng's transforms: 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA */
    int code;
};

static void on_error(png_structp png, png_const_charp msg)
{
    struct png_reader *r = png_get_error_ptr(png);
    r->code = qvl_fail(r->job->err, QVL_E_FORMAT, "%s: PNG: %s", r->job->what, msg);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp msg)
{
    (void)png;
    (void)msg;
}

static void read_bytes(png_structp png, png_bytep to, size_t n)
{
    struct png_reader *r = png_get_io_ptr(png);
    if (n > r->job->size - r->pos)
        png_error(png, "the file ends early");
    memcpy(to, r->job->data + r->pos, n);
    r->pos += n;
}

/* The declared size, before libpng sees the file. */
static int check_header(const struct qvl_image_job *job)
{
    const uint8_t *p = job->data;
    if (job->size < HEADER_BYTES || qvl_be32(p + 8) != 13 || memcmp(p + 12, "IHDR", 4) != 0)
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: PNG: no valid IHDR chunk", job->what);
    return qvl_image_check_size(job, qvl_be32(p + 16), qvl_be32(p + 20));
}

/* Some programs keep EXIF in a compressed text; only for those files libpng is asked to unpack texts. */
static int has_raw_profile(const struct qvl_image_job *job)
{
    const uint8_t *p = job->data;
    for (size_t at = 8; job->size - at >= 12;) {
        const size_t len = qvl_be32(p + at);
        if (len > job->size - at - 12 || memcmp(p + at + 4, "IDAT", 4) == 0)
            return 0;
        if (memcmp(p + at + 5, "TXt", 3) == 0 && len > sizeof raw_profile &&
            memcmp(p + at + 8, raw_profile, sizeof raw_profile) == 0)
            return 1;
        at += 12 + len;
    }
    return 0;
}

static void configure(struct png_reader *r)
{
    /* Chunks that only inform are skipped unparsed, whatever their size (their checksums are still verified); tRNS is the
     * one that matters. */
    static const png_byte skip[] = "tEXt\0zTXt\0bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0"
                                   "sPLT\0sRGB\0sTER\0tIME";
    const int texts = has_raw_profile(r->job) ? 2 : 0;
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, skip + 5 * texts, (int)(sizeof skip / 5) - texts);
    png_set_user_limits(r->png, r->job->max_side, r->job->max_side);
    png_set_chunk_malloc_max(r->png, !texts ? 0 : r->job->size > MAX_TEXT ? r->job->size : MAX_TEXT);
    png_set_chunk_cache_max(r->png, MAX_TEXTS);
    png_set_crc_action(r->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
}

static void set_transforms(struct png_reader *r)
{
    int type = png_get_color_type(r->png, r->info), depth = png_get_bit_depth(r->png, r->info);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(r->png);
    else if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(r->png);
    if (png_get_valid(r->png, r->info, PNG_INFO_tRNS))
        png_set_tRNS_to_alpha(r->png);
    if (depth == 16 && type == PNG_COLOR_TYPE_GRAY)
        png_set_scale_16(r->png);
    else if (depth == 16)
        png_set_strip_16(r->png);
}

static void to_rgb(uint8_t *dst, const uint8_t *src, size_t n, int channels, qvl_alpha alpha)
{
    switch (channels) {
    case 1: qvl_grey_to_rgb(dst, src, n); break;
    case 2: qvl_alpha_ga(dst, src, n, alpha); break;
    case 3: memcpy(dst, src, n * 3); break;
    default: qvl_alpha_rgba(dst, src, n, alpha); break;
    }
}

static void read_rows(struct png_reader *r, struct qvl_image *out, int passes)
{
    const size_t pitch = (size_t)out->width * 3;
    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < out->height; y++) {
            uint8_t *row = r->buf + (passes > 1 ? y * r->row_bytes : 0);
            png_read_row(r->png, row, NULL);
            if (pass == passes - 1)
                to_rgb(out->rgb + y * pitch, row, out->width, r->channels, r->job->alpha);
        }
    }
}

/* eXIf and XMP chunks are found anywhere in the file, texts in front of the pixels. */
static int find_orientation(struct png_reader *r)
{
    png_textp text = NULL;
    int n = png_get_text(r->png, r->info, &text, NULL), found = qvl_exif_from_png(r->job->data, r->job->size);
    for (int i = 0; i < n && !found; i++)
        if (text[i].text && strcmp(text[i].key, raw_profile) == 0)
            found = qvl_exif_from_hex(text[i].text, text[i].text_length);
    return found ? found : 1;
}

int qvl_png_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    struct png_reader *r = NULL;
    size_t bytes;
    int rc = 0, passes;
    QVL_TRY(check_header(job));
    r = qvl_calloc(1, sizeof *r);
    if (!r)
        return qvl_fail_nomem(job->err, sizeof *r, job->what);
    r->job = job;
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    r->info = r->png ? png_create_info_struct(r->png) : NULL;
    if (!r->info) {
        rc = qvl_fail_nomem(job->err, sizeof *r, job->what);
        goto done;
    }
    if (setjmp(png_jmpbuf(r->png))) {
        rc = r->code;
        goto done;
    }
    configure(r);
    png_set_read_fn(r->png, r, read_bytes);
    png_read_info(r->png, r->info);
    set_transforms(r);
    passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    r->channels = png_get_channels(r->png, r->info);
    r->row_bytes = png_get_rowbytes(r->png, r->info);
    QVL_TRY_DONE(qvl_image_alloc(out, job, png_get_image_width(r->png, r->info), png_get_image_height(r->png, r->info)));
    if (png_get_bit_depth(r->png, r->info) != 8 || r->channels < 1 || r->channels > 4 ||
        r->row_bytes != (size_t)out->width * (size_t)r->channels ||
        qvl_mul_size(&bytes, r->row_bytes, passes > 1 ? out->height : 1)) {
        rc = qvl_fail(job->err, QVL_E_STATE, "%s: PNG: %d channels of %d bits after conversion", job->what, r->channels,
                      png_get_bit_depth(r->png, r->info));
        goto done;
    }
    r->buf = qvl_calloc(bytes, 1);
    if (!r->buf) {
        rc = qvl_fail_nomem(job->err, bytes, job->what);
        goto done;
    }
    read_rows(r, out, passes);
    *orientation = find_orientation(r);
done:
    png_destroy_read_struct(&r->png, &r->info, NULL);
    qvl_mem_free(r->buf);
    qvl_mem_free(r);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}
