/* test_stopper.c - stop strings across piece borders: the result must not depend on how the text is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sample/sampler.h"

/* Sends text in pieces of the given sizes (the last one repeats); fills got, returns whether it stopped. */
static int run(const char *const *stop, size_t n_stop, const char *text, const size_t *size, size_t n_size, char *got)
{
    struct qvl_stopper s;
    qvl_err err;
    const char *out;
    size_t n, len = strlen(text), stopped = 0, o = 0, k = 0;
    assert_int_equal(qvl_stopper_init(&s, stop, n_stop, 64, &err), 0);
    qvl_alloc_guard_up();
    for (size_t i = 0; i < len && !stopped;) {
        size_t step = size[k < n_size ? k++ : n_size - 1];
        step = step < len - i ? step : len - i;
        int rc = qvl_stopper_push(&s, text + i, step, &out, &n);
        assert_in_range(rc, 0, 1);
        stopped = (size_t)rc;
        memcpy(got + o, out, n);
        o += n;
        i += step;
    }
    if (!stopped) {
        qvl_stopper_flush(&s, &out, &n);
        memcpy(got + o, out, n);
        o += n;
    }
    qvl_alloc_guard_down();
    got[o] = 0;
    qvl_stopper_free(&s);
    return (int)stopped;
}

static void check(const char *const *stop, size_t n_stop, const char *text, const char *expected, int stops)
{
    static const size_t cuts[][3] = {{1, 1, 1}, {2, 2, 2}, {3, 1, 2}, {1, 5, 3}, {7, 7, 7}, {64, 64, 64}};
    char got[256];
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_int_equal(run(stop, n_stop, text, cuts[i], 3, got), stops);
        assert_string_equal(got, expected);
    }
}

static void cases(void **state)
{
    (void)state;
    const char *end[] = {"END"}, *both[] = {"abc", "ab"}, *other[] = {"bcd", "c"}, *rep[] = {"aab"},
               *nest[] = {"xabc", "bc"}, *utf[] = {"\xc3\xa8"}, *one[] = {"\n"}, *self[] = {"abab"};
    check(end, 1, "hello END more", "hello ", 1);
    check(end, 1, "hello EN", "hello EN", 0);
    check(end, 1, "EEND", "E", 1);
    check(end, 1, "ENENEND", "ENEN", 1);
    check(end, 1, "END", "", 1);
    check(end, 1, "", "", 0);
    check(both, 2, "xxabcd", "xx", 1);
    check(other, 2, "abcd", "ab", 1);    /* "c" is complete first */
    check(nest, 2, "__xabc__", "__", 1); /* end together: the longer one */
    check(rep, 1, "aaaaab", "aaa", 1);
    check(self, 1, "abaabab", "aba", 1);
    check(utf, 1, "\xc3\xa9\xc3\xa8", "\xc3\xa9", 1);
    check(one, 1, "line\nnext", "line", 1);
    check(NULL, 0, "anything", "anything", 0);
}

/* Only what may be the beginning of a stop string is held back. */
static void withholds_little(void **state)
{
    (void)state;
    const char *stop[] = {"<|end|>", "<stop>"}, *out;
    struct qvl_stopper s;
    qvl_err err;
    size_t n;
    assert_int_equal(qvl_stopper_init(&s, stop, 2, 32, &err), 0);
    assert_int_equal(qvl_stopper_push(&s, "a < b <|en", 10, &out, &n), 0);
    assert_int_equal(n, 6);
    assert_memory_equal(out, "a < b ", 6);
    assert_int_equal(qvl_stopper_push(&s, "x<s", 3, &out, &n), 0);
    assert_int_equal(n, 5);
    assert_memory_equal(out, "<|enx", 5);
    qvl_stopper_flush(&s, &out, &n);
    assert_int_equal(n, 2);
    assert_memory_equal(out, "<s", 2);
    qvl_stopper_flush(&s, &out, &n);
    assert_int_equal(n, 0);
    qvl_stopper_free(&s);
}

/* Against a plain search in the whole text: the match that ends first, of those the longest. */
static void random_texts(void **state)
{
    (void)state;
    uint32_t x = 12345;
    for (int round = 0; round < 3000; round++) {
        char text[64], word[3][8], got[128], expected[64];
        const char *stop[3] = {word[0], word[1], word[2]};
        size_t cut[3], len = 0, best_end = SIZE_MAX, best = 0;
        for (size_t i = 0; i < 3; i++) {
            size_t n = 1 + (x = x * 1664525u + 1013904223u) / 0x40000000u + i;
            for (size_t k = 0; k < n; k++)
                word[i][k] = (char)('a' + ((x = x * 1664525u + 1013904223u) >> 31));
            word[i][n] = 0;
            cut[i] = 1 + ((x = x * 1664525u + 1013904223u) >> 29);
        }
        for (; len < 40; len++)
            text[len] = (char)('a' + ((x = x * 1664525u + 1013904223u) >> 31) * (len % 3 != 0) + 2 * (len % 7 == 0));
        text[len] = 0;
        for (size_t end = 1; end <= len && best_end == SIZE_MAX; end++)
            for (size_t i = 0; i < 3; i++) {
                size_t n = strlen(word[i]);
                if (n <= end && memcmp(text + end - n, word[i], n) == 0 && n > best) {
                    best = n;
                    best_end = end;
                }
            }
        strcpy(expected, text);
        if (best_end != SIZE_MAX)
            expected[best_end - best] = 0;
        assert_int_equal(run(stop, 3, text, cut, 3, got), best_end != SIZE_MAX);
        assert_string_equal(got, expected);
    }
}

static void limits(void **state)
{
    (void)state;
    struct qvl_stopper s;
    qvl_err err;
    const char *out, *empty[] = {"a", ""}, *null[] = {NULL}, *ok[] = {"abc"};
    size_t n;
    assert_int_equal(qvl_stopper_init(&s, empty, 2, 16, &err), QVL_E_ARG);
    assert_non_null(strstr(err.msg, "stop[1]"));
    assert_int_equal(qvl_stopper_init(&s, null, 1, 16, &err), QVL_E_ARG);
    assert_int_equal(qvl_stopper_init(&s, ok, 5000, 16, &err), QVL_E_LIMIT);
    assert_int_equal(qvl_stopper_init(&s, ok, 1, SIZE_MAX, &err), QVL_E_ARG);
    assert_int_equal(qvl_stopper_init(&s, ok, 1, 4, &err), 0);
    assert_int_equal(qvl_stopper_push(&s, "zzzzab", 6, &out, &n), 0); /* hold + max_piece fit */
    assert_int_equal(n, 4);
    assert_int_equal(qvl_stopper_push(&s, "zzzzz", 5, &out, &n), QVL_E_STATE);
    assert_int_equal(n, 0);
    qvl_stopper_free(&s);
    qvl_stopper_free(&s);
    qvl_stopper_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases),
        cmocka_unit_test(withholds_little),
        cmocka_unit_test(random_texts),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
