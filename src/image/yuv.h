/* yuv.h - YCbCr -> RGB for pictures whose decoder hands out planes. */
#ifndef QVL_IMAGE_YUV_H
#define QVL_IMAGE_YUV_H

#include <stddef.h>
#include <stdint.h>

struct qvl_yuv_planes {
    const uint8_t *y, *u, *v;         /* y [height][width]; u and v halved (rounded up) where sub_x, sub_y say so */
    size_t pitch_y, pitch_u, pitch_v; /* bytes from row to row */
    uint32_t width, height;
    int sub_x, sub_y;                 /* 1: half as many chroma samples in that direction */
};

struct qvl_yuv_matrix {
    int yg, yb, ub, ug, vg, vr; /* 6 fraction bits; yg 16 + 6 of the product with y*257 */
};

/* matrix: number in ITU-T H.273. Returns 0 for systems that are not supported. */
int qvl_yuv_init(struct qvl_yuv_matrix *m, int matrix, int full_range);
/* Row y -> dst [width][3]. */
void qvl_yuv_row(uint8_t *dst, const struct qvl_yuv_planes *p, uint32_t y, const struct qvl_yuv_matrix *m);

#endif
