/* hash.h - 128-bit hash of bytes, to recognise equal pictures. Not for use against an attacker. */
#ifndef QVL_BASE_HASH_H
#define QVL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

void qvl_hash128(uint64_t out[2], const void *data, size_t len, uint64_t seed);

#endif
