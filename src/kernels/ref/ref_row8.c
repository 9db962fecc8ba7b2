/* ref_row8.c - the scalar truth of 8-bit weights with row scales. */
#include <math.h>

#include "kernels/row8.h"

enum { MR = 2 };

static void tile(float *c, const struct qvl_row8_tile *t)
{
    for (int j = 0; j < MR; j++)
        for (int r = 0; r < QVL_PANEL_ROWS; r++) {
            int32_t d = 0;
            float *o = c + j * QVL_PANEL_ROWS + r;
            for (int64_t i = 0; i < t->n4; i++)
                for (int e = 0; e < 4; e++)
                    d += (t->w[(i * QVL_PANEL_ROWS + r) * 4 + e] - 128) * t->x[(i * MR + j) * 4 + e];
            *o = fmaf(t->scale[j], (float)d, t->first ? 0 : *o);
            if (t->last)
                *o *= t->last[r];
        }
}

const struct qvl_row8_kernels qvl_row8_kernels_ref = {.mr = MR, .nv = 1, .tile = tile};
