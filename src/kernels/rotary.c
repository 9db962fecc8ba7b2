/* rotary.c - frequencies and tables of rotary embeddings. */
#include "kernels/rotary.h"

#include <math.h>
#include <stddef.h>

static float frequency(int k, int dim, double theta)
{
    float e = (float)(2 * k) / (float)dim;
    return 1.0f / (float)pow(theta, (double)e);
}

void qvl_rotary_frequencies(float *inv, int dim, double theta)
{
    for (int k = 0; k < dim / 2; k++)
        inv[k] = frequency(k, dim, theta);
}

void qvl_rotary_table(float *cs, float *sn, int n_pos, int dim, double theta)
{
    int n_freq = dim / 2;
    for (int k = 0; k < n_freq; k++) {
        float inv = frequency(k, dim, theta);
        for (int i = 0; i < n_pos; i++) {
            float angle = (float)i * inv;
            cs[(ptrdiff_t)i * n_freq + k] = cosf(angle);
            sn[(ptrdiff_t)i * n_freq + k] = sinf(angle);
        }
    }
}

/* Index of the frequency that makes `rotations` turns over the original context. */
static double turning_index(double rotations, int dim, double theta, int original)
{
    const double two_pi = 6.283185307179586;
    return dim * log(original / (rotations * two_pi)) / (2 * log(theta));
}

float qvl_rotary_yarn(float *inv, int dim, double theta, double factor, int original)
{
    double low = floor(turning_index(32, dim, theta, original)), high = ceil(turning_index(1, dim, theta, original));
    if (low < 0)
        low = 0;
    if (high > dim - 1)
        high = dim - 1;
    if (high == low)
        high += 0.001;
    for (int k = 0; k < dim / 2; k++) {
        double ramp = (k - low) / (high - low), keep = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
        float f = frequency(k, dim, theta);
        inv[k] = (float)((double)f / factor * (1 - keep) + (double)f * keep);
    }
    return factor <= 1 ? 1.0f : (float)(0.1 * log(factor) + 1);
}
