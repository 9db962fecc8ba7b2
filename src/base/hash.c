/* hash.c - two multiply-rotate lanes over 64-bit words, mixed at the end. */
#include "base/hash.h"

#include <string.h>

static uint64_t rotl(uint64_t x, int r) { return (x << r) | (x >> (64 - r)); }

/* Bijective finaliser: every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

void qvl_hash128(uint64_t out[2], const void *data, size_t len, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t a = seed ^ 0x9e3779b97f4a7c15u, b = seed ^ 0xc2b2ae3d27d4eb4fu;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t w = 0;
        memcpy(&w, p + i, len - i < 8 ? len - i : 8);
        a = rotl(a ^ mix(w), 27) * 0x9fb21c651e98df25u;
        b = rotl(b + w * 0xff51afd7ed558ccdu, 31) * 0xc4ceb9fe1a85ec53u + a;
    }
    out[0] = mix(a ^ len);
    out[1] = mix(b + len);
}
