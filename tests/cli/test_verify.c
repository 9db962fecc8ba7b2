/* qvl verify: goldens of the reference pass; a golden that was changed fails and says where. */
#include "spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN(name) QVL_SOURCE_DIR "/tests/golden/tiny/" name ".safetensors"

static void passes(void **state)
{
    (void)state;
    struct run r = RUN(NULL, "verify", MODEL, GOLDEN("one"), GOLDEN("text"), GOLDEN("two"));
    expect_status(&r, 0);
    expect_contains(r.out, "vision.output");
    expect_contains(r.out, "% bit-equal");
    expect_contains(r.out, "tokens equal");
    expect_contains(r.out, "PASS");
    assert_null(strstr(r.out, "FAIL"));
    expect_contains(r.out, "\n3 of 3 goldens pass\n");
    run_free(&r);
    r = RUN(NULL, "verify", MODEL, GOLDEN("one"), GOLDEN("two"), "--quiet");
    expect_status(&r, 0);
    assert_string_equal(r.out, "2 of 2 goldens pass\n");
    run_free(&r);
    r = RUN(NULL, "verify", MODEL, GOLDEN("one"), "--precision", "bf16", "--cpu", "ref", "--threads", "1");
    expect_status(&r, 0);
    expect_contains(r.out, "1.50e-02"); /* the limits of bf16 */
    run_free(&r);
}

static void as_json(void **state)
{
    (void)state;
    struct run r = RUN(NULL, "verify", MODEL, GOLDEN("one"), "--json");
    expect_status(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL);
    assert_non_null(o);
    assert_int_equal(json_integer_value(json_object_get(o, "passed")), 1);
    assert_int_equal(json_integer_value(json_object_get(o, "total")), 1);
    json_t *golden = json_array_get(json_object_get(o, "goldens"), 0), *row;
    assert_true(json_is_true(json_object_get(golden, "pass")));
    size_t i, logits = 0;
    json_array_foreach(json_object_get(golden, "tensors"), i, row)
    {
        assert_string_equal(json_string_value(json_object_get(row, "verdict")), "PASS");
        if (strcmp(json_string_value(json_object_get(row, "tensor")), "logits") == 0) {
            double l2 = json_number_value(json_object_get(row, "rel_l2"));
            assert_true(l2 > 0 && l2 <= 1e-4);
            logits++;
        }
    }
    assert_int_equal(logits, 1);
    json_decref(o);
    run_free(&r);
}

/* Copies a golden and changes the bytes of one tensor. */
static void change(const char *to, const char *tensor)
{
    size_t len, at = 0;
    char *file = read_whole(GOLDEN("one"), &len), key[64];
    json_error_t e;
    for (int i = 0; i < 8; i++)
        at |= (size_t)(unsigned char)file[i] << (8 * i);
    json_t *head = json_loadb(file + 8, at, JSON_DISABLE_EOF_CHECK, &e);
    assert_non_null(head);
    snprintf(key, sizeof key, "%s", tensor);
    json_t *offsets = json_object_get(json_object_get(head, key), "data_offsets");
    assert_non_null(offsets);
    size_t from = (size_t)json_integer_value(json_array_get(offsets, 0)) + 8 + at;
    file[from + 3] = (char)(file[from + 3] ^ 0x04); /* a high bit of the first value */
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, len, f), len);
    fclose(f);
    json_decref(head);
    free(file);
}

/* The copy lies elsewhere: its picture's path has to lead there, too. */
static void place_pictures(void)
{
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p %s/a/b/c && mkdir -p %s/models && ln -sfn %s %s/models/tiny", scratch(), scratch(), MODEL,
             scratch());
    assert_int_equal(system(command), 0);
}

static void fails(void **state)
{
    static const char *const tensors[] = {"vision.output", "text.layer.2", "logits", "generated_ids", "pixel_values", "position_ids"};
    char path[512], line[128];
    (void)state;
    place_pictures();
    snprintf(path, sizeof path, "%s/a/b/c/changed.safetensors", scratch());
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        change(path, tensors[i]);
        struct run r = RUN(NULL, "verify", MODEL, path, GOLDEN("two"), "-q");
        expect_status(&r, 1);
        snprintf(line, sizeof line, "\n  %s ", tensors[i]);
        expect_contains(r.out, line);
        expect_contains(r.out, "FAIL");
        assert_null(strstr(r.out, "PASS"));
        expect_contains(r.out, "\n1 of 2 goldens pass\n");
        run_free(&r);
    }
}

static void unreadable(void **state)
{
    (void)state;
    struct run r = RUN(NULL, "verify", MODEL, "nope.safetensors", GOLDEN("text"), "-q");
    expect_status(&r, 1);
    expect_contains(r.err, "nope.safetensors");
    expect_contains(r.out, "1 of 2 goldens pass");
    run_free(&r);
    r = RUN(NULL, "verify", MODEL, MODEL "/model.safetensors", "--json");
    expect_status(&r, 1);
    expect_contains(r.out, "not a trace");
    run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(passes), cmocka_unit_test(as_json), cmocka_unit_test(fails),
                                       cmocka_unit_test(unreadable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
