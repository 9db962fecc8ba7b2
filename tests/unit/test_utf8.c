/* test_utf8.c - decoding with replacement against Python's (tests/data/text/utf8.json) in every cut, and NFC against the
 * reference's normaliser (nfc.json). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "text/utf8.h"

static json_t *read_cases(const char *path)
{
    json_t *root;
    qvl_err err;
    if (qvl_json_read(&root, path, 1 << 24, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(json_array_size(root) > 100);
    return root;
}

static size_t from_hex(const json_t *v, unsigned char *out)
{
    const char *s = json_string_value(v);
    size_t n = strlen(s) / 2;
    for (size_t i = 0; i < n; i++) {
        char two[3] = {s[2 * i], s[2 * i + 1], 0};
        out[i] = (unsigned char)strtoul(two, NULL, 16);
    }
    return n;
}

/* Whole, byte by byte, and in two pieces cut at every place. */
static void check_bytes(const unsigned char *in, size_t n, const unsigned char *want, size_t n_want)
{
    char got[64];
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t used = qvl_utf8_next(in + i, n - i, &cp);
        assert_in_range(used, 1, n - i);
        len += qvl_utf8_put(got + len, cp);
        i += used;
    }
    assert_int_equal(len, n_want);
    assert_memory_equal(got, want, n_want);
    for (size_t cut = 0; cut <= n; cut++) {
        struct qvl_utf8_stream s = {0};
        len = qvl_utf8_push(&s, got, (const char *)in, cut);
        assert_true(len <= 3 * cut + 16);
        len += qvl_utf8_push(&s, got + len, (const char *)in + cut, n - cut);
        len += qvl_utf8_flush(&s, got + len);
        assert_int_equal(len, n_want);
        assert_memory_equal(got, want, n_want);
        assert_int_equal(qvl_utf8_flush(&s, got), 0);
    }
    struct qvl_utf8_stream s = {0};
    len = 0;
    for (size_t i = 0; i < n; i++)
        len += qvl_utf8_push(&s, got + len, (const char *)in + i, 1);
    len += qvl_utf8_flush(&s, got + len);
    assert_int_equal(len, n_want);
    assert_memory_equal(got, want, n_want);
}

static void replaces_as_python(void **state)
{
    (void)state;
    json_t *root = read_cases(QVL_SOURCE_DIR "/tests/data/text/utf8.json");
    for (size_t i = 0; i < json_array_size(root); i++) {
        unsigned char in[16], want[64];
        const json_t *row = json_array_get(root, i);
        size_t n = from_hex(json_array_get(row, 0), in), m = from_hex(json_array_get(row, 1), want);
        check_bytes(in, n, want, m);
    }
    json_decref(root);
}

/* Every code point there and back; the surrogates are three bad bytes each. */
static void every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char s[4];
        uint32_t back;
        size_t n = qvl_utf8_put(s, c), used = qvl_utf8_next((const unsigned char *)s, n, &back);
        int surrogate = c >= 0xd800 && c < 0xe000;
        assert_int_equal(used, surrogate ? 1 : n);
        assert_int_equal(back, surrogate ? QVL_UTF8_BAD : c);
    }
}

/* Complete characters are not held back. */
static void streams_promptly(void **state)
{
    (void)state;
    struct qvl_utf8_stream s = {0};
    char out[64];
    assert_int_equal(qvl_utf8_push(&s, out, "a\xf0\x9f", 3), 1);
    assert_int_equal(qvl_utf8_push(&s, out, "\x99", 1), 0);
    assert_int_equal(qvl_utf8_push(&s, out,
                                   "\x82"
                                   "b",
                                   2),
                     5);
    assert_memory_equal(out,
                        "\xf0\x9f\x99\x82"
                        "b",
                        5);
    assert_int_equal(qvl_utf8_push(&s, out,
                                   "\xe4\xbd"
                                   "A",
                                   3),
                     4);
    assert_memory_equal(out,
                        "\xef\xbf\xbd"
                        "A",
                        4);
}

static void nfc_as_the_reference(void **state)
{
    (void)state;
    json_t *root = read_cases(QVL_SOURCE_DIR "/tests/data/text/nfc.json");
    struct qvl_cps in = {0}, out = {0};
    qvl_err err;
    for (size_t k = 0; k < json_array_size(root); k++) {
        const json_t *row = json_array_get(root, k), *want = json_array_get(row, 1);
        const char *s = json_string_value(json_array_get(row, 0));
        size_t n = json_string_length(json_array_get(row, 0)), len = 0;
        char text[4096];
        in.n = out.n = 0;
        assert_int_equal(qvl_cps_reserve(&in, n, &err), 0);
        for (size_t i = 0; i < n;)
            i += qvl_utf8_next((const unsigned char *)s + i, n - i, &in.cp[in.n++]);
        assert_int_equal(qvl_nfc(&out, in.cp, in.n, &err), 0);
        for (size_t i = 0; i < out.n; i++)
            len += qvl_utf8_put(text + len, out.cp[i]);
        if (len != json_string_length(want) || memcmp(text, json_string_value(want), len) != 0)
            fail_msg("case %zu", k);
        if (qvl_nfc_is_plain(in.cp, in.n))
            assert_true(len == n && memcmp(text, s, n) == 0);
    }
    qvl_cps_free(&in);
    qvl_cps_free(&out);
    json_decref(root);
}

/* A composed character takes the smallest tag of its parts, everything else keeps its own. */
static void tags_survive(void **state)
{
    (void)state;
    uint32_t in[] = {QVL_TAGGED('e', 2),   QVL_TAGGED(0x301, 1),  QVL_TAGGED('x', 2),
                     QVL_TAGGED(0x334, 0), QVL_TAGGED(0xac00, 1), QVL_TAGGED(0x11a8, 2)};
    uint32_t want[] = {QVL_TAGGED(0xe9, 1), QVL_TAGGED('x', 2), QVL_TAGGED(0x334, 0), QVL_TAGGED(0xac01, 1)};
    struct qvl_cps out = {0};
    qvl_err err;
    assert_int_equal(qvl_nfc(&out, in, 6, &err), 0);
    assert_int_equal(out.n, 4);
    assert_memory_equal(out.cp, want, sizeof want);
    qvl_cps_free(&out);
}

/* Spot values of the classes: Unicode 16 letters are letters, marks are none, \s is the 25 characters of White_Space. */
static void classes(void **state)
{
    (void)state;
    int spaces = 0;
    for (uint32_t c = 0; c < 0x110000; c++)
        spaces += (qvl_uc_lookup(c) & QVL_UC_SPACE) != 0;
    assert_int_equal(spaces, 25);
    const struct {
        uint32_t cp;
        unsigned is;
    } spot[] = {{'a', QVL_UC_LETTER},
                {'0', QVL_UC_NUMBER},
                {' ', QVL_UC_SPACE},
                {'_', 0},
                {0x1c, 0},
                {0x85, QVL_UC_SPACE},
                {0xaa, QVL_UC_LETTER},
                {0xb2, QVL_UC_NUMBER},
                {0x2160, QVL_UC_NUMBER},
                {0x4e00, QVL_UC_LETTER},
                {0x200b, 0},
                {0x180e, 0},
                {0x3000, QVL_UC_SPACE},
                {0x105c0, QVL_UC_LETTER},
                {0x1ccf0, QVL_UC_NUMBER},
                {0x1f600, 0},
                {0x2ebf0, QVL_UC_LETTER},
                {0x2ee5e, 0},
                {0x10ffff, 0},
                {0x3041, QVL_UC_LETTER}};
    for (size_t i = 0; i < sizeof spot / sizeof spot[0]; i++)
        assert_int_equal(qvl_uc_lookup(spot[i].cp) & ~(unsigned)QVL_UC_ACTIVE, spot[i].is);
    assert_true(qvl_uc_lookup(0x301) & QVL_UC_ACTIVE);
    assert_false(qvl_uc_lookup(0xe9) & QVL_UC_ACTIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_as_python),   cmocka_unit_test(every_code_point), cmocka_unit_test(streams_promptly),
        cmocka_unit_test(nfc_as_the_reference), cmocka_unit_test(tags_survive),     cmocka_unit_test(classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
