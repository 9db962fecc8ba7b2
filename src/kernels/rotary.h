/* rotary.h - angles of rotary position embeddings, rounded the way the reference rounds them. */
#ifndef QVL_KERNELS_ROTARY_H
#define QVL_KERNELS_ROTARY_H

/* inv[k] = 1 / theta^(2k/dim), k < dim/2: exponent, power and reciprocal each rounded to float32. */
void qvl_rotary_frequencies(float *inv, int dim, double theta);

/* cs[i*n_freq + k] = cos(i * inv[k]), sn the sine, for positions i < n_pos; n_freq = dim/2. */
void qvl_rotary_table(float *cs, float *sn, int n_pos, int dim, double theta);

/* YaRN: frequencies whose wavelength exceeds the original context are divided by `factor`, fast ones are kept, with a linear
 * ramp between (32 and 1 rotations over the original context). Returns the factor that cos and sin are multiplied by:
 * 0.1*ln(factor) + 1. */
float qvl_rotary_yarn(float *inv, int dim, double theta, double factor, int original);

#endif
