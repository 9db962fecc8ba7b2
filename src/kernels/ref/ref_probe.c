/* ref_probe.c - portable loops for the probes: what plain C reaches. */
#include <string.h>

#include "kernels/pack.h"

static uint64_t read_bytes(const void *p, size_t n)
{
    const unsigned char *s = p;
    uint64_t a = 0, b = 0, v[2];
    for (size_t i = 0; i < n; i += 16) {
        memcpy(v, s + i, 16);
        a ^= v[0];
        b ^= v[1];
    }
    return a ^ b;
}

static double f32(int64_t iterations)
{
    float a[8] = {0}, b = 0.5f;
    for (int64_t i = 0; i < iterations; i++)
        for (int j = 0; j < 8; j++)
            a[j] = a[j] * b + 1.0f;
    volatile float sink = a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
    (void)sink;
    return 16.0 * (double)iterations;
}

const struct qvl_probe_kernels qvl_probe_kernels_ref = {.read = read_bytes, .f32 = f32};
