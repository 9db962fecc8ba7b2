/* Blocks of GGUF files: the gguf package's bits, the published check vectors, random bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/ggml_blocks.h"
#include "formats/tensor_source.h"
#include "kernels/quant.h"
#include "model/convert_q4.h"

static struct qvl_tensors *cases;

static int open_cases(void **state)
{
    qvl_err err = {0};
    (void)state;
    return qvl_safetensors_open(&cases, QVL_SOURCE_DIR "/tests/data/gguf/blocks.safetensors", &err);
}

static int close_cases(void **state)
{
    (void)state;
    qvl_tensors_close(&cases);
    return 0;
}

static const struct qvl_tensor *find(const char *type, const char *part)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", type, part);
    return qvl_tensors_find(cases, name);
}

/* The same bits, any NaN standing for any other. */
static int same(float a, float b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, 4) == 0; }

static void decodes_bit_for_bit(void **state)
{
    static const uint32_t ids[] = {2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 39};
    (void)state;
    for (size_t k = 0; k < sizeof ids / sizeof *ids; k++) {
        const struct qvl_ggml_type *t = qvl_ggml_type_by_id(ids[k]);
        assert_non_null(t);
        const struct qvl_tensor *raw = find(t->name, "raw"), *want = find(t->name, "f32");
        assert_non_null(raw);
        assert_non_null(want);
        size_t n = want->bytes / 4, differ = 0, finite = 0;
        assert_int_equal(raw->bytes / t->bytes * t->elems, n);
        assert_true(n >= 1024);
        /* At every alignment of both sides that the file can have. */
        for (size_t shift = 0; shift < 4; shift++) {
            unsigned char *src = malloc(raw->bytes + shift);
            float *got = malloc(n * 4);
            assert_true(src && got);
            memcpy(src + shift, raw->data, raw->bytes);
            t->to_f32(got, src + shift, (int64_t)n);
            for (size_t i = 0; i < n; i++) {
                float w;
                memcpy(&w, (const char *)want->data + 4 * i, 4);
                differ += !same(got[i], w);
                finite += isfinite(w) != 0;
            }
            free(src);
            free(got);
        }
        if (differ)
            print_message("%s: %zu of %zu values differ\n", t->name, differ, 4 * n);
        assert_int_equal(differ, 0);
        assert_true(finite > 2 * n);
    }
}

static void encodes_bit_for_bit(void **state)
{
    static const uint32_t ids[] = {1, 2, 3, 6, 7, 8, 30};
    (void)state;
    for (size_t k = 0; k < sizeof ids / sizeof *ids; k++) {
        const struct qvl_ggml_type *t = qvl_ggml_type_by_id(ids[k]);
        const struct qvl_tensor *in = find(t->name, "in"), *want = find(t->name, "enc");
        assert_non_null(in);
        assert_non_null(want);
        size_t n = in->bytes / 4;
        float *x = malloc(in->bytes);
        unsigned char *got = malloc(want->bytes + 1);
        assert_true(x && got);
        memcpy(x, in->data, in->bytes);
        got[want->bytes] = 0xa5;
        assert_int_equal(n / t->elems * t->bytes, want->bytes);
        t->from_f32(got, x, (int64_t)n);
        if (memcmp(got, want->data, want->bytes) != 0)
            print_message("%s differs\n", t->name);
        assert_memory_equal(got, want->data, want->bytes);
        assert_int_equal(got[want->bytes], 0xa5);
        free(x);
        free(got);
    }
}

/* Vectors worked out by hand from the layouts: bytes (73 i + 19) mod 256, d = 0.0625, m = 0.125. */
static void check_vectors(void **state)
{
    static const struct {
        uint32_t id;
        int d, m; /* offsets, -1 = none */
        float sample[8];
        double s, w;
    } v[] = {
        {8, 0, -1, {-5.6875f, -1.125f, -1.25f, 3.3125f, 7.75f}, 17, 607},
        {2, 0, -1, {-0.1875f, 0.375f, 0.25f, 0.125f, 0.375f}, -0.4375, -1.125},
        {3, 0, 2, {0.5625f, 0.125f, 1, 0.3125f, 0.5625f}, 18.6875, 313.1875},
        {6, 0, -1, {0.5625f, -0.875f, 0, 0.75f, 0.0625f}, -1.1875, -63.75},
        {7, 0, 2, {1.8125f, 1.375f, 1.25f, 1.4375f, 0.75f}, 30.9375, 476.0625},
        {20, 0, -1, {-2.1875f, 5.5625f, 3.3125f, 1.5625f, 5.5625f}, -3.9375, 19.4375},
        {39, -1, -1, {-2, 3, 1.5f, 3, -1}, 4, 108},
        {10, 80, 82, {0.4375f, -0.125f, 1.625f, -0.3125f, 0.5f, 0.1875f, -0.625f, 0.625f}, -47, -5900.9375},
        {11, 108, -1, {3.5625f, -4.75f, -3.75f, 0.6875f, -0.4375f, -4.6875f, 0, 0}, 38, 6833.75},
        {12, 0, 2, {6.9375f, 37.875f, 6.9375f, -4.5f, -3.9375f, 9, 8.375f, 7.5f}, 1731.5, 232662.5},
        {13, 0, 2, {61.9375f, 37.875f, 61.9375f, -4.5f, -3.9375f, -6.75f, 8.375f, 8.75f}, 5095.5, 685072.5},
        {14, 208, -1, {-53.4375f, 56.25f, 33.25f, 176.75f, 8.4375f, -37.1875f, -33.75f, 6.5f}, 768.75, 145677.25},
        {23, 0, -1, {-21.375f, 27.5625f, 19.6875f, 39.8125f, 0, 56.5f, -27.5625f, 13.8125f}, -1390, -309123.5625},
    };
    static const int at32[] = {0, 1, 15, 16, 31}, at256[] = {0, 1, 16, 33, 64, 100, 129, 255};
    (void)state;
    for (size_t k = 0; k < sizeof v / sizeof *v; k++) {
        const struct qvl_ggml_type *t = qvl_ggml_type_by_id(v[k].id);
        unsigned char b[256];
        float x[256];
        double s = 0, w = 0;
        for (uint32_t i = 0; i < t->bytes; i++)
            b[i] = (unsigned char)(73 * i + 19);
        if (v[k].d >= 0)
            memcpy(b + v[k].d, "\x00\x2c", 2);
        else
            b[0] = 127;
        if (v[k].m >= 0)
            memcpy(b + v[k].m, "\x00\x30", 2);
        t->to_f32(x, b, t->elems);
        for (uint32_t i = 0; i < t->elems; i++) {
            s += (double)x[i];
            w += (double)(i + 1) * (double)x[i];
        }
        for (int i = 0; i < (t->elems == 32 ? 5 : 8); i++)
            assert_true(same(x[t->elems == 32 ? at32[i] : at256[i]], v[k].sample[i]));
        assert_true(!(fabs(s - v[k].s) > 0) && !(fabs(w - v[k].w) > 0));
    }
}

/* Any bytes decode, within the block and into the row. */
static void random_bytes_never_trap(void **state)
{
    uint32_t r = 1;
    (void)state;
    for (uint32_t id = 0; id < 64; id++) {
        const struct qvl_ggml_type *t = qvl_ggml_type_by_id(id);
        if (!t || !t->to_f32)
            continue;
        for (int round = 0; round < 200; round++) {
            unsigned char *b = malloc(2 * t->bytes);
            float *x = malloc(2 * t->elems * sizeof *x);
            assert_true(b && x);
            for (uint32_t i = 0; i < 2 * t->bytes; i++)
                b[i] = (unsigned char)((r = r * 1664525 + 1013904223) >> 24);
            t->to_f32(x, b, 2 * (int64_t)t->elems);
            if (t->from_f32) { /* NaN and infinities among them */
                t->from_f32(b, x, 2 * (int64_t)t->elems);
                t->to_f32(x, b, 2 * (int64_t)t->elems);
            }
            free(b);
            free(x);
        }
    }
}

/* A Q4_0 matrix is put into q4 without losing a bit, whatever codes its groups use; rows and inputs do not fill panels. */
static void q4_0_is_q4(void **state)
{
    enum { ROWS = 37, IN = 96, BYTES = ROWS * IN / 32 * 18 };
    unsigned char b[BYTES];
    float want[IN], got[IN];
    uint32_t r = 5;
    int exact;
    (void)state;
    for (int i = 0; i < BYTES; i++) {
        b[i] = (unsigned char)((r = r * 1664525 + 1013904223) >> 24);
        if (i % 18 == 1) /* finite scales of either sign */
            b[i] = (unsigned char)((b[i] & 0x83) | 0x28);
        if (i % 18 > 1 && i / 18 % 3 == 0) /* groups that use the middle of the grid only */
            b[i] = (unsigned char)(0x77 + (b[i] & 0x11));
    }
    struct qvl_mat m = {.data = b, .type = QVL_DT_GGML_Q4_0, .n_out = ROWS, .n_in = IN, .stride = IN}, q = m;
    void *dst = qvl_calloc(qvl_quant_bytes(QVL_DT_Q4, ROWS, IN), 1);
    assert_non_null(dst);
    assert_int_equal(qvl_convert_q4_can(&m, &exact), 1);
    assert_int_equal(exact, 1);
    struct qvl_quant_error e = qvl_convert_q4(dst, &m, 0, 32);
    struct qvl_quant_error f = qvl_convert_q4((char *)dst + qvl_quant_bytes(QVL_DT_Q4, 32, IN), &m, 32, ROWS);
    assert_true(e.error + f.error == 0 && e.norm > 0);
    q.data = dst;
    q.type = QVL_DT_Q4;
    for (int row = 0; row < ROWS; row++) {
        qvl_ggml_type_of(QVL_DT_GGML_Q4_0)->to_f32(want, b + row * (IN / 32 * 18), IN);
        qvl_quant_row(got, &q, row);
        for (int i = 0; i < IN; i++)
            assert_true(got[i] == want[i] && want[i] == want[i]);
    }
    b[19] |= 0x7c; /* an infinite scale, or NaN, is nothing that q4 has */
    assert_int_equal(qvl_convert_q4_can(&m, &exact), 0);
    qvl_mem_free(dst);
}

/* Sum of twelve uniform numbers: close to a normal distribution of this spread. */
static float normal(uint32_t *r, float spread)
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (float)((*r = *r * 1664525 + 1013904223) >> 8) / 16777216.0f;
    return (sum - 6) * spread;
}

static double loss(enum qvl_dtype type, const float *x, int n)
{
    static unsigned char b[1 << 16];
    static float y[1 << 14];
    const struct qvl_ggml_type *t = qvl_ggml_type_of(type);
    double error = 0, norm = 0;
    assert_true(n <= 1 << 14 && (size_t)n / t->elems * t->bytes <= sizeof b);
    memset(b, 0x5a, sizeof b);
    t->from_f32(b, x, n);
    t->to_f32(y, b, n);
    for (int i = 0; i < n; i++) {
        error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        norm += (double)x[i] * (double)x[i];
    }
    return norm > 0 ? sqrt(error / norm) : error;
}

/* The K types have no reference for their codes. They must be worth their bits: better than the plain types of as many, finer steps
 * than a group's range asks for, and exact where the format can be. */
static void k_types_are_worth_their_bits(void **state)
{
    static float x[1 << 14];
    const int n = 1 << 14;
    uint32_t r = 7;
    (void)state;
    for (int i = 0; i < n; i++)
        x[i] = normal(&r, 0.02f * (float)(1 + i / 512 % 5));
    double q4_k = loss(QVL_DT_GGML_Q4_K, x, n), q6_k = loss(QVL_DT_GGML_Q6_K, x, n);
    double q4_0 = loss(QVL_DT_GGML_Q4_0, x, n), q4_1 = loss(QVL_DT_GGML_Q4_1, x, n), q5_1 = loss(QVL_DT_GGML_Q5_1, x, n);
    if (!(q4_k < q4_1 && q4_k < 0.9 * q4_0 && q4_k < 0.08) || !(q6_k < 0.6 * q5_1 && q6_k < 0.02))
        fail_msg("Q4_K %g, Q6_K %g; Q4_0 %g, Q4_1 %g, Q5_1 %g", q4_k, q6_k, q4_0, q4_1, q5_1);
    for (int i = 0; i < n; i++) /* a grid that both have: 15 steps upwards, and 32 on either side of 0 */
        x[i] = (float)(i % 32 < 16 ? i % 16 : 15 - i % 16) * 0.25f;
    assert_true(loss(QVL_DT_GGML_Q4_K, x, n) < 2e-3);
    for (int i = 0; i < n; i++)
        x[i] = (float)(i % 64 - 32) * 0.25f;
    assert_true(loss(QVL_DT_GGML_Q6_K, x, n) < 1e-2);
    memset(x, 0, sizeof x);
    assert_true(loss(QVL_DT_GGML_Q4_K, x, n) == 0 && loss(QVL_DT_GGML_Q6_K, x, n) == 0);
    for (int i = 0; i < n; i++) /* nothing but a minimum; and what is too small for an f16 scale */
        x[i] = -3;
    assert_true(loss(QVL_DT_GGML_Q4_K, x, n) < 1e-3);
    for (int i = 0; i < n; i++)
        x[i] = normal(&r, 1e-38f);
    assert_true(loss(QVL_DT_GGML_Q4_K, x, n) <= 1 && loss(QVL_DT_GGML_Q6_K, x, n) <= 1);
}

/* The two tables of sizes, and what is not in them. */
static void sizes_agree(void **state)
{
    (void)state;
    for (int i = QVL_DT_GGML_FIRST; i <= QVL_DT_GGML_LAST; i++) {
        enum qvl_dtype d = (enum qvl_dtype)i;
        const struct qvl_ggml_type *t = qvl_ggml_type_of(d);
        assert_non_null(t);
        assert_int_equal(t->elems, qvl_dtype_block_elems(d));
        assert_int_equal(t->bytes, qvl_dtype_block_bytes(d));
        assert_string_equal(t->name, qvl_dtype_name(d));
        assert_int_equal(qvl_dtype_from_name(t->name), QVL_DT_UNKNOWN); /* no such type in safetensors */
        assert_int_equal(qvl_dtype_bits(d), 0);
    }
    static const uint32_t unknown[] = {4, 5, 9, 15, 31, 32, 33, 36, 37, 38, 42, 97, 133, 202, 999, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_null(qvl_ggml_type_by_id(unknown[i]));
    assert_null(qvl_ggml_type_of(QVL_DT_UNKNOWN));
    assert_null(qvl_ggml_type_of(QVL_DT_BOOL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_bit_for_bit),   cmocka_unit_test(encodes_bit_for_bit), cmocka_unit_test(check_vectors),
        cmocka_unit_test(random_bytes_never_trap), cmocka_unit_test(sizes_agree), cmocka_unit_test(q4_0_is_q4),
        cmocka_unit_test(k_types_are_worth_their_bits),
    };
    return cmocka_run_group_tests(tests, open_cases, close_cases);
}
