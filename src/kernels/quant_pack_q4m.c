/* quant_pack_q4m.c - weights that lie on a grid of 16 steps, found again.
 *
 * Files with 4-bit codes and a minimum or zero point (Q4_1, Q4_K, AWQ, GPTQ, MLX, ONNX) are read as the numbers they stand for.
 * The codes of a group use some range of k <= 15 steps, so that max - min = k*s: the widths (max - min)/k are tried until all
 * weights are whole steps. A grid of fewer steps than the file's, when that fits, has the same numbers. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/quant.h"

enum { STEPS = 15 };
#define ON_GRID 0.02f /* in steps: larger than any rounding of a file's own arithmetic, smaller than chance among 32 weights */

/* 1 when all weights of row r are whole multiples of `step` above `low`. */
static int on_grid(const struct qvl_quant_group *g, int n, int r, float low, float inverse)
{
    for (int i = 0; i < n; i++) {
        const float u = (g->x[i][r] - low) * inverse, d = u - nearbyintf(u);
        if (!(fabsf(d) <= ON_GRID))
            return 0;
    }
    return 1;
}

/* The smallest weight may have any code j with j + steps <= 15: the one whose minimum loses least by rounding. */
static float best_minimum(uint16_t *min, float low, float step, int steps)
{
    float least = INFINITY;
    for (int j = 0; j + steps <= STEPS; j++) {
        const float m = low - (float)j * step;
        const uint16_t h = qvl_f32_to_f16(m);
        const float loss = fabsf(qvl_f16_to_f32(h) - m);
        if (loss < least) {
            least = loss;
            *min = h;
        }
    }
    return least;
}

/* Number of steps and minimum; 0 steps when the weights lie on no grid. Largest number first: most groups use nearly all codes. A
 * group of few different weights fits several grids; the file's own is the one that f16 holds best. */
static int find_grid(const struct qvl_quant_group *g, int n, int r, float low, float high, uint16_t *min)
{
    float least = INFINITY;
    int best = 0;
    for (int k = STEPS; k > 0 && least > 1e-7f * (high - low); k--) {
        const float step = (high - low) / (float)k, rounded = fabsf(qvl_f16_to_f32(qvl_f32_to_f16(step)) - step) * (float)k;
        uint16_t m = 0;
        if (rounded >= least || !on_grid(g, n, r, low, 1 / step))
            continue;
        const float loss = rounded + best_minimum(&m, low, step, k);
        if (loss < least) {
            least = loss;
            best = k;
            *min = m;
        }
    }
    return best;
}

static float clamp_f16(float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; }

static void put_code(unsigned char *codes, int r, int i, unsigned u)
{
    unsigned char *p = codes + i / 8 * 64 + r * 4 + i % 4;
    *p = (unsigned char)(i / 4 % 2 ? (*p & 15) | u << 4 : (*p & 0xf0) | u);
}

static void pack_row(struct qvl_quant_group *g, int n, int r, uint16_t *min)
{
    float low = n ? g->x[0][r] : 0, high = low;
    int finite = 1;
    for (int i = 0; i < n; i++) {
        const float x = g->x[i][r];
        finite &= isfinite(x) != 0;
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    g->scale[r] = finite ? 0 : 0x7e00; /* NaN */
    *min = 0;
    if (!finite) {
        g->error = g->norm = NAN;
        return;
    }
    low = clamp_f16(low);
    high = clamp_f16(high);
    *min = qvl_f32_to_f16(low);
    const int steps = high > low ? find_grid(g, n, r, low, high, min) : 0;
    g->scale[r] = qvl_f32_to_f16((high - low) / (float)(steps ? steps : STEPS));
    const float s = qvl_f16_to_f32(g->scale[r]), m = qvl_f16_to_f32(*min);
    for (int i = 0; i < n; i++) {
        float u = s > 0 ? nearbyintf((g->x[i][r] - m) / s) : 0;
        u = u < 0 ? 0 : u > STEPS ? STEPS : u;
        put_code(g->codes, r, i, (unsigned)u);
        const double d = (double)g->x[i][r] - ((double)s * (double)u + (double)m), w = g->weighted ? (double)g->weight[i] : 1;
        g->error += w * d * d;
        g->norm += w * (double)g->x[i][r] * (double)g->x[i][r];
    }
}

void qvl_quant_pack_q4m(struct qvl_quant_group *g, int n, uint16_t *min)
{
    memset(g->codes, 0, QVL_GROUP * QVL_PANEL_ROWS / 2);
    g->error = g->norm = 0;
    for (int r = 0; r < QVL_PANEL_ROWS; r++)
        pack_row(g, n, r, &min[r]);
}
