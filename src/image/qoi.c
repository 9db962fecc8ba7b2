/* qoi.c - the Quite OK Image format -> RGB8. FFmpeg's decoder does not notice files that end early. */
#include "image/image_internal.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define HEADER 14

struct qoi_reader {
    const uint8_t *p, *end;
    uint8_t px[4], seen[64][4];
    int run; /* how often px is to be repeated */
};

/* Advances to the next pixel; -1 at the end of the data. */
static int next_pixel(struct qoi_reader *r)
{
    if (r->run) {
        r->run--;
        return 0;
    }
    if (r->p >= r->end)
        return -1;
    const int b = *r->p++, need = b == 0xfe ? 3 : b == 0xff ? 4 : b >> 6 == 2 ? 1 : 0;
    if (r->end - r->p < need)
        return -1;
    if (b >= 0xfe) { /* values in full */
        memcpy(r->px, r->p, (size_t)need);
    } else if (b >> 6 == 0) { /* a pixel seen before */
        memcpy(r->px, r->seen[b], 4);
    } else if (b >> 6 == 1) { /* small differences */
        r->px[0] = (uint8_t)(r->px[0] + (b >> 4 & 3) - 2);
        r->px[1] = (uint8_t)(r->px[1] + (b >> 2 & 3) - 2);
        r->px[2] = (uint8_t)(r->px[2] + (b & 3) - 2);
    } else if (b >> 6 == 2) { /* difference of green, those of red and blue relative to it */
        int g = (b & 63) - 32, rb = *r->p;
        r->px[0] = (uint8_t)(r->px[0] + g - 8 + (rb >> 4));
        r->px[1] = (uint8_t)(r->px[1] + g);
        r->px[2] = (uint8_t)(r->px[2] + g - 8 + (rb & 15));
    } else { /* the same pixel 1 to 62 times */
        r->run = b & 63;
    }
    r->p += need;
    memcpy(r->seen[(r->px[0] * 3 + r->px[1] * 5 + r->px[2] * 7 + r->px[3] * 11) % 64], r->px, 4);
    return 0;
}

int qvl_qoi_decode(struct qvl_image *out, int *orientation, const struct qvl_image_job *job)
{
    struct qoi_reader r = {.p = job->data + HEADER, .end = job->data + job->size, .px = {0, 0, 0, 255}};
    *orientation = 1;
    if (job->size < HEADER || job->data[12] < 3 || job->data[12] > 4)
        return qvl_fail(job->err, QVL_E_FORMAT, "%s: QOI: bad header", job->what);
    QVL_TRY(qvl_image_alloc(out, job, qvl_be32(job->data + 4), qvl_be32(job->data + 8)));
    const qvl_alpha alpha = job->data[12] == 3 ? QVL_ALPHA_DROP : job->alpha;
    for (size_t i = 0, n = (size_t)out->width * out->height; i < n; i++) {
        if (next_pixel(&r) < 0) {
            qvl_image_free(out);
            return qvl_fail(job->err, QVL_E_FORMAT, "%s: QOI: the file ends early", job->what);
        }
        qvl_alpha_rgba(out->rgb + 3 * i, r.px, 1, alpha);
    }
    return 0;
}
