/* probe.h - what this machine can do at best: the limits that measured speeds are shares of. */
#ifndef QVL_KERNELS_PROBE_H
#define QVL_KERNELS_PROBE_H

#include "kernels/kernels.h"

/* Each runs for about 0.1 s on all members of the pool and returns the best of several rounds. Not for use inside
 * qvl_pool_run. */

/* Streaming read of memory larger than any cache, 1e9 bytes per second; 0 when there is no memory for it. */
double qvl_probe_read_gbs(struct qvl_pool *pool, const struct qvl_kernels *k);
/* Independent fused multiply-adds in f32, 1e9 operations (two per multiply-add) per second. */
double qvl_probe_f32_gflops(struct qvl_pool *pool, const struct qvl_kernels *k);
/* The same with bf16 dot products; 0 when the level has none. */
double qvl_probe_bf16_gflops(struct qvl_pool *pool, const struct qvl_kernels *k);
/* Dot products of bytes (or what the level has instead), 1e9 operations per second. */
double qvl_probe_int8_gops(struct qvl_pool *pool, const struct qvl_kernels *k);

#endif
