/* yuv.c - 8-bit YCbCr planes (4:4:4, 4:2:2, 4:2:0) -> RGB8.
 *
 * The arithmetic of the reference's AVIF path, which is libyuv's: coefficients with 6 fraction bits, chroma upsampled
 * linearly (3:1 across, 9:3:3:1 in both directions). */
#include "image/yuv.h"

#include <math.h>

/* Red and blue weights of luma; the three systems in use. Returns 0 for any other matrix number (ITU-T H.273). */
static int luma_weights(int matrix, double *kr, double *kb)
{
    switch (matrix) {
    case 1: *kr = 0.2126, *kb = 0.0722; return 1; /* BT.709 */
    case 2:                                       /* not said */
    case 5:
    case 6: *kr = 0.299, *kb = 0.114; return 1;   /* BT.601 */
    case 9: *kr = 0.2627, *kb = 0.0593; return 1; /* BT.2020 */
    default: return 0;
    }
}

int qvl_yuv_init(struct qvl_yuv_matrix *m, int matrix, int full_range)
{
    double kr, kb;
    if (!luma_weights(matrix, &kr, &kb))
        return 0;
    double kg = 1 - kr - kb, scale = full_range ? 64 : 64 * 255.0 / 224;
    m->vr = (int)rint(2 * (1 - kr) * scale);
    m->ub = (int)rint(2 * (1 - kb) * scale);
    m->ug = (int)rint(2 * kb * (1 - kb) / kg * scale);
    m->vg = (int)rint(2 * kr * (1 - kr) / kg * scale);
    m->yg = full_range ? 16320 : 18997; /* 64*65536/257 times 1 or 1.164 */
    m->yb = full_range ? 32 : -1160;    /* 32 - 64*16*1.164 */
    return 1;
}

static uint8_t clip(int v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

/* Column of the sample that lends a quarter to pixel x; the outermost pixels take one sample alone. */
static uint32_t far_column(uint32_t x, uint32_t w)
{
    return x == 0 || x == w - 1 ? x >> 1 : x & 1 ? (x >> 1) + 1 : (x >> 1) - 1;
}

void qvl_yuv_row(uint8_t *dst, const struct qvl_yuv_planes *p, uint32_t y, const struct qvl_yuv_matrix *m)
{
    const uint32_t rows = p->sub_y ? (p->height + 1) / 2 : p->height;
    uint32_t near_row = p->sub_y ? y >> 1 : y, far_row = near_row;
    if (p->sub_y && y & 1)
        far_row = near_row + 1 < rows ? near_row + 1 : near_row;
    else if (p->sub_y && y)
        far_row = near_row - 1;
    const uint8_t *luma = p->y + y * p->pitch_y;
    const uint8_t *un = p->u + near_row * p->pitch_u, *uf = p->u + far_row * p->pitch_u;
    const uint8_t *vn = p->v + near_row * p->pitch_v, *vf = p->v + far_row * p->pitch_v;
    for (uint32_t x = 0; x < p->width; x++, dst += 3) {
        uint32_t a = p->sub_x ? x >> 1 : x, b = p->sub_x ? far_column(x, p->width) : x;
        int u = (9 * un[a] + 3 * un[b] + 3 * uf[a] + uf[b] + 8) >> 4;
        int v = (9 * vn[a] + 3 * vn[b] + 3 * vf[a] + vf[b] + 8) >> 4;
        int l = (int)(((uint32_t)luma[x] * 0x101u * (uint32_t)m->yg) >> 16) + m->yb;
        u -= 128;
        v -= 128;
        dst[0] = clip((l + v * m->vr) >> 6);
        dst[1] = clip((l - u * m->ug - v * m->vg) >> 6);
        dst[2] = clip((l + u * m->ub) >> 6);
    }
}
