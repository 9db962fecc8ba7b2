/* SHA-1 and SHA-256 against the vectors that NIST publishes for FIPS 180-4, and git's and sha256sum's names of small files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha.h"

static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
static const char four_blocks[] =
    "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";

static void expect(enum qvl_sha_kind kind, const void *data, size_t len, const char *want)
{
    char got[QVL_SHA_HEX];
    struct qvl_sha s;
    for (size_t step = 1; step <= len + 1; step = step < 70 ? step + 1 : step * 2) { /* in pieces of every size around a block */
        qvl_sha_init(&s, kind);
        for (size_t at = 0; at < len; at += step)
            qvl_sha_add(&s, (const char *)data + at, len - at < step ? len - at : step);
        qvl_sha_hex(&s, got);
        assert_string_equal(got, want);
    }
}

static void published_vectors(void **state)
{
    (void)state;
    expect(QVL_SHA1, "abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    expect(QVL_SHA1, "", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    expect(QVL_SHA1, two_blocks, 56, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    expect(QVL_SHA1, four_blocks, 112, "a49b2446a02c645bf419f995b67091253a04a259");
    expect(QVL_SHA256, "abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(QVL_SHA256, "", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(QVL_SHA256, two_blocks, 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect(QVL_SHA256, four_blocks, 112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

static void a_million_letters(void **state)
{
    char *a = malloc(1000000);
    (void)state;
    assert_non_null(a);
    memset(a, 'a', 1000000);
    for (int kind = QVL_SHA1; kind <= QVL_SHA256; kind++) {
        struct qvl_sha s;
        char got[QVL_SHA_HEX];
        qvl_sha_init(&s, (enum qvl_sha_kind)kind);
        qvl_sha_add(&s, a, 1000000);
        qvl_sha_hex(&s, got);
        assert_string_equal(got, kind == QVL_SHA1 ? "34aa973cd4c4daa4f61eeb2bdbad27316534016f"
                                                  : "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
    free(a);
}

/* `git hash-object` and `sha256sum` of a file with the line "hello". */
static void names_of_files(void **state)
{
    (void)state;
    expect(QVL_SHA1, "blob 6\0hello\n", 13, "ce013625030ba8dba906f756967f9e9ca394464a");
    expect(QVL_SHA1, "blob 0", 7, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    expect(QVL_SHA256, "hello\n", 6, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_vectors), cmocka_unit_test(a_million_letters),
                                       cmocka_unit_test(names_of_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
