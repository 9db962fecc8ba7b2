/* position.h - where a patch is (row and column) and its share of the learned position table. */
#ifndef QVL_VISION_POSITION_H
#define QVL_VISION_POSITION_H

#include <stdint.h>

/* Row and column (in patches) of patch i of a grid of width grid_w in merge-block order, i within one temporal step:
 * blocks of merge x merge patches run row-major over the grid, patches row-major inside a block. */
void qvl_patch_place(int64_t i, int grid_w, int merge, int *row, int *col);

/* Bilinear look-up in the side x side position table with corners aligned: endpoints of the grid fall on endpoints of the
 * table. index[4] are table rows, weight[4] their shares. */
void qvl_position_bilinear(int row, int col, int grid_h, int grid_w, int side, int64_t index[4], float weight[4]);

#endif
