/* jpeg.c - JPEG through libjpeg-turbo with its defaults (accurate integer DCT, smooth chroma upsampling, block
 * smoothing of unfinished progressive files): what Pillow uses, so the bytes agree.
 *
 * Grey, YCbCr, RGB, CMYK and YCCK. A file that ends early is an error; damage in the middle that libjpeg repairs is
 * not, as in Pillow. */
#include "image/image_internal.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "base/err.h"
#include "base/mem.h"

#define MAX_SCANS 1000 /* of a progressive file: real ones have about ten, each costs a pass over the whole picture */

/* Everything that is needed after a longjmp lives here, not in locals. The error manager comes first so that libjpeg's
 * pointer to it is a pointer to this. */
struct jpeg_reader {
    struct jpeg_error_mgr mgr;
    jmp_buf env;
    struct jpeg_decompress_struct d;
    struct jpeg_progress_mgr progress;
    const struct qvl_image_job *job;
    uint8_t *row; /* one row of grey or CMYK */
    int code;
};

static void fail_with_message(j_common_ptr info)
{
    struct jpeg_reader *r = (struct jpeg_reader *)info->err;
    char msg[JMSG_LENGTH_MAX];
    r->mgr.format_message(info, msg);
    switch (r->mgr.msg_code) {
    case JERR_OUT_OF_MEMORY: r->code = QVL_E_NOMEM; break;
    case JERR_NO_BACKING_STORE: /* the memory limit set below */
    case JERR_IMAGE_TOO_BIG: r->code = QVL_E_LIMIT; break;
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_SOF_UNSUPPORTED:
    case JERR_CONVERSION_NOTIMPL: r->code = QVL_E_UNSUPPORTED; break;
    default: r->code = QVL_E_FORMAT; break;
    }
    qvl_fail(r->job->err, r->code, "%s: JPEG: %s", r->job->what, msg);
    longjmp(r->env, 1);
}

/* Negative levels are warnings. One of them says that the data ended and libjpeg invented the rest. */
static void on_message(j_common_ptr info, int level)
{
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF)
        fail_with_message(info);
}

static void no_output(j_common_ptr info) { (void)info; }

static void limit_scans(j_common_ptr info)
{
    struct jpeg_reader *r = (struct jpeg_reader *)info->err;
    if (r->d.input_scan_number > MAX_SCANS) {
        r->code = qvl_fail(r->job->err, QVL_E_LIMIT, "%s: JPEG: more than %d scans", r->job->what, MAX_SCANS);
        longjmp(r->env, 1);
    }
}

static int choose_colours(struct jpeg_reader *r)
{
    switch (r->d.num_components) {
    case 1: r->d.out_color_space = JCS_GRAYSCALE; return 0;
    case 3: r->d.out_color_space = JCS_RGB; return 0;
    case 4: r->d.out_color_space = JCS_CMYK; return 0;
    default:
        return qvl_fail(r->job->err, QVL_E_UNSUPPORTED, "%s: JPEG: %d colour components, expected 1, 3 or 4", r->job->what,
                        r->d.num_components);
    }
}

/* Multi-scan files keep all coefficients: at most 4 components of 2 bytes per pixel of the picture padded to whole
 * blocks. Beyond that and some room for tables libjpeg gives up instead of taking more. */
static long memory_limit(uint64_t w, uint64_t h) { return (long)(10 * (w + 64) * (h + 64) + (16u << 20)); }

static void read_rows(struct jpeg_reader *r, struct qvl_image *out)
{
    const size_t w = out->width;
    while (r->d.output_scanline < r->d.output_height) {
        uint8_t *dst = out->rgb + (size_t)r->d.output_scanline * w * 3;
        JSAMPROW row = r->d.out_color_space == JCS_RGB ? dst : r->row;
        jpeg_read_scanlines(&r->d, &row, 1);
        if (r->d.out_color_space == JCS_GRAYSCALE) {
            qvl_grey_to_rgb(dst, row, w);
        } else if (r->d.out_color_space == JCS_CMYK) {
            for (size_t i = 0; i < w * 4; i++) /* Adobe's convention, which all writers follow: 255 = no ink */
                row[i] = (uint8_t)(255 - row[i]);
            qvl_cmyk_to_rgb(dst, row, w);
        }
    }
}

int qvl_jpeg_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    struct jpeg_reader *r = qvl_calloc(1, sizeof *r);
    int rc = 0;
    if (!r)
        return qvl_fail_nomem(job->err, sizeof *r, job->what);
    r->job = job;
    r->d.err = jpeg_std_error(&r->mgr);
    r->mgr.error_exit = fail_with_message;
    r->mgr.emit_message = on_message;
    r->mgr.output_message = no_output;
    if (setjmp(r->env)) {
        rc = r->code;
        goto done;
    }
    jpeg_create_decompress(&r->d);
    r->progress.progress_monitor = limit_scans;
    r->d.progress = &r->progress;
    jpeg_mem_src(&r->d, job->data, (unsigned long)job->size);
    jpeg_read_header(&r->d, TRUE);
    QVL_TRY_DONE(qvl_image_check_size(job, r->d.image_width, r->d.image_height));
    QVL_TRY_DONE(choose_colours(r));
    r->d.mem->max_memory_to_use = memory_limit(r->d.image_width, r->d.image_height);
    jpeg_start_decompress(&r->d);
    QVL_TRY_DONE(qvl_image_alloc(out, job, r->d.output_width, r->d.output_height));
    r->row = qvl_alloc(out->width, 4);
    if (!r->row) {
        rc = qvl_fail_nomem(job->err, (size_t)out->width * 4, job->what);
        goto done;
    }
    read_rows(r, out);
    jpeg_finish_decompress(&r->d);
    int found = qvl_exif_from_jpeg(job->data, job->size);
    *orientation = found ? found : 1;
done:
    jpeg_destroy_decompress(&r->d);
    qvl_mem_free(r->row);
    qvl_mem_free(r);
    if (rc < 0)
        qvl_image_free(out);
    return rc;
}
