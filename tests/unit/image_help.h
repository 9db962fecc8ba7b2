/* image_help.h - what the picture tests share: SHA-256 (FIPS 180-4), patterns that the reference script generates too. */
#ifndef QVL_TESTS_IMAGE_HELP_H
#define QVL_TESTS_IMAGE_HELP_H

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "image/image.h"

static inline uint32_t help_rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

static inline void help_sha_block(uint32_t s[8], const uint8_t *p)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (help_rotr(w[i - 15], 7) ^ help_rotr(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (help_rotr(w[i - 2], 17) ^ help_rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(v, s, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t a = v[7] + (help_rotr(v[4], 6) ^ help_rotr(v[4], 11) ^ help_rotr(v[4], 25)) +
                     ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
        uint32_t b = (help_rotr(v[0], 2) ^ help_rotr(v[0], 13) ^ help_rotr(v[0], 22)) +
                     ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += a;
        v[0] = a + b;
    }
    for (int i = 0; i < 8; i++)
        s[i] += v[i];
}

/* Hexadecimal digest of n bytes. */
static inline void help_sha256(char hex[65], const void *data, size_t n)
{
    uint32_t s[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const uint8_t *p = data;
    uint8_t tail[128] = {0};
    size_t full = n / 64 * 64, rest = n - full, len = rest < 56 ? 64 : 128;
    for (size_t i = 0; i < full; i += 64)
        help_sha_block(s, p + i);
    if (rest)
        memcpy(tail, p + full, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        tail[len - 1 - (size_t)i] = (uint8_t)((uint64_t)n * 8 >> 8 * i);
    for (size_t i = 0; i < len; i += 64)
        help_sha_block(s, tail + i);
    for (int i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", s[i]);
}

static inline uint8_t help_noise(uint32_t i, uint32_t seed)
{
    uint32_t x = i + seed * 0x9E3779B9u;
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return (uint8_t)((x ^ x >> 16) >> 24);
}

/* The patterns of tools/reference/make_resize_cases.py. */
static inline struct qvl_image help_pattern(uint32_t w, uint32_t h, const char *kind)
{
    struct qvl_image im = {qvl_alloc((size_t)w * h, 3), w, h};
    assert_non_null(im.rgb);
    for (uint32_t i = 0; i < w * h * 3; i++) {
        uint32_t c = i % 3, x = i / 3 % w, y = i / 3 / w;
        if (strcmp(kind, "noise") == 0)
            im.rgb[i] = help_noise(i, w * 31 + h);
        else if (strcmp(kind, "extreme") == 0)
            im.rgb[i] = help_noise(i, w + h) < 128 ? 0 : 255;
        else
            im.rgb[i] = (uint8_t)(x * 5 + y * 3 + c * 40);
    }
    return im;
}

/* A list of test cases; the caller drops it with json_decref. */
static inline json_t *help_cases(const char *file)
{
    char path[1024];
    json_error_t e;
    snprintf(path, sizeof path, "%s/tests/data/%s", QVL_SOURCE_DIR, file);
    json_t *list = json_load_file(path, 0, &e);
    if (!list)
        fail_msg("%s: %s", path, e.text);
    assert_true(json_is_array(list) && json_array_size(list) > 0);
    return list;
}

static inline uint32_t help_u32(const json_t *item) { return (uint32_t)json_integer_value(item); }
static inline const char *help_str(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

/* A file below the source folder. */
static inline char *help_read(const char *name, size_t *len)
{
    char path[1024], *data = NULL;
    qvl_err err = {0};
    snprintf(path, sizeof path, "%s/%s", QVL_SOURCE_DIR, name);
    if (qvl_file_read(&data, len, path, QVL_IMAGE_MAX_FILE, &err) < 0)
        fail_msg("%s", err.msg);
    return data;
}

static inline void help_configs(struct qvl_vision_config *v, struct qvl_image_config *c, const json_t *o)
{
    memset(v, 0, sizeof *v);
    memset(c, 0, sizeof *c);
    v->n_channel = 3;
    v->patch = (int)help_u32(json_object_get(o, "patch"));
    v->merge = (int)help_u32(json_object_get(o, "merge"));
    v->temporal_patch = (int)help_u32(json_object_get(o, "temporal"));
    for (size_t i = 0; i < 3; i++) {
        c->mean[i] = (float)json_number_value(json_array_get(json_object_get(o, "mean"), i));
        c->std[i] = (float)json_number_value(json_array_get(json_object_get(o, "std"), i));
    }
}

static inline void help_check_rows(const struct qvl_patches *p, const json_t *o)
{
    char hex[65];
    const json_t *grid = json_object_get(o, "grid");
    assert_int_equal(p->grid_t, help_u32(json_array_get(grid, 0)));
    assert_int_equal(p->grid_h, help_u32(json_array_get(grid, 1)));
    assert_int_equal(p->grid_w, help_u32(json_array_get(grid, 2)));
    assert_int_equal(p->n_patch, p->grid_t * p->grid_h * p->grid_w);
    help_sha256(hex, p->rows, (size_t)p->n_patch * (size_t)p->n_elem * sizeof(float));
    assert_string_equal(hex, help_str(o, "sha256"));
}

#endif
