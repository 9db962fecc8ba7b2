/* position.c - see position.h. Formulas: sections 5.2 and 5.3 of docs/model.md. */
#include "vision/position.h"

void qvl_patch_place(int64_t i, int grid_w, int merge, int *row, int *col)
{
    int64_t per_block = (int64_t)merge * merge, blocks_w = grid_w / merge;
    int64_t block = i / per_block, in = i % per_block;
    *row = (int)(block / blocks_w * merge + in / merge);
    *col = (int)(block % blocks_w * merge + in % merge);
}

/* y = row*(side-1)/(grid-1) in float32; y0 = trunc(y), y1 = min(y0+1, side-1). */
static void axis(int at, int grid, int side, int *lo, int *hi, float *frac)
{
    float y = grid > 1 ? (float)at * (float)(side - 1) / (float)(grid - 1) : 0.0f;
    *lo = (int)y;
    *hi = *lo + 1 < side ? *lo + 1 : side - 1;
    *frac = y - (float)*lo;
}

void qvl_position_bilinear(int row, int col, int grid_h, int grid_w, int side, int64_t index[4], float weight[4])
{
    int y0, y1, x0, x1;
    float dy, dx;
    axis(row, grid_h, side, &y0, &y1, &dy);
    axis(col, grid_w, side, &x0, &x1, &dx);
    index[0] = (int64_t)y0 * side + x0;
    index[1] = (int64_t)y0 * side + x1;
    index[2] = (int64_t)y1 * side + x0;
    index[3] = (int64_t)y1 * side + x1;
    weight[0] = (1 - dy) * (1 - dx);
    weight[1] = (1 - dy) * dx;
    weight[2] = dy * (1 - dx);
    weight[3] = dy * dx;
}
