/* qvl tokenize and qvl inspect, from outside. Exact ids are the business of the tokenizer's own tests: here it is the way in
 * and out that counts, and that the special tokens have the ids which the model's files give them. */
#include "spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long special_id(const char *content)
{
    json_t *root = json_load_file(MODEL "/tokenizer.json", 0, NULL), *added = json_object_get(root, "added_tokens"), *t;
    size_t i;
    long id = -1;
    json_array_foreach(added, i, t) if (strcmp(json_string_value(json_object_get(t, "content")), content) == 0) id =
        (long)json_integer_value(json_object_get(t, "id"));
    json_decref(root);
    assert_true(id >= 0);
    return id;
}

static void round_trips(void **state)
{
    static const char *const texts[] = {"Hello, world!\n", "  two  blanks\t\r\n\r\n", "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80 e\xcc\x81?",
                                        "<|im_start|>user\nHi<|im_end|>\n", "1234567890", "", "\x01\x1b[31m\x7f"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (int plain = 0; plain < 2; plain++) {
            struct how text = {.in = texts[i]};
            struct run r = plain ? RUN(&text, "tokenize", MODEL, "--plain") : RUN(&text, "tokenize", MODEL);
            expect_status(&r, 0);
            json_t *list = json_loads(r.out, 0, NULL);
            assert_true(json_is_array(list));
            json_decref(list);
            assert_ptr_equal(strchr(r.out, '\n'), r.out + r.out_len - 1); /* one line */
            struct how ids = {.in = r.out};
            struct run back = RUN(&ids, "tokenize", MODEL, "--decode");
            expect_status(&back, 0);
            if (!strstr(texts[i], "\xcc\x81")) /* NFC joins the accent */
                assert_string_equal(back.out, texts[i]);
            else
                expect_contains(back.out, " \xc3\xa9?");
            run_free(&back);
            for (char *p = r.out; *p; p++) /* the same ids, separated by blanks only */
                if (*p == '[' || *p == ']' || *p == ',')
                    *p = ' ';
            back = RUN(&ids, "tokenize", MODEL, "--decode");
            expect_status(&back, 0);
            run_free(&back);
            run_free(&r);
        }
}

static void special_tokens(void **state)
{
    char expected[64];
    (void)state;
    struct how text = {.in = "<|im_end|>"};
    struct run r = RUN(&text, "tokenize", MODEL);
    snprintf(expected, sizeof expected, "[%ld]\n", special_id("<|im_end|>"));
    assert_string_equal(r.out, expected);
    struct how ids = {.in = r.out};
    struct run d = RUN(&ids, "tokenize", MODEL, "--decode", "--skip-special");
    expect_status(&d, 0);
    assert_string_equal(d.out, "");
    run_free(&d);
    run_free(&r);
    r = RUN(&text, "tokenize", MODEL, "--plain");
    snprintf(expected, sizeof expected, "%ld", special_id("<|im_end|>"));
    assert_null(strstr(r.out, expected));
    run_free(&r);
}

static void bad_ids(void **state)
{
    static const char *const bad[] = {"[1, 2", "1 2 x", "[1, 2,]", "[1] 2", "-1", "99999999", "99999999999999999999", "1.5", "[[1]]"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct how ids = {.in = bad[i]};
        struct run r = RUN(&ids, "tokenize", MODEL, "--decode");
        if (r.status != 1 || r.out_len || strncmp(r.err, "qvl: ", 5) != 0)
            fail_msg("\"%s\": status %d, %s%s", bad[i], r.status, r.out, r.err);
        run_free(&r);
    }
}

/* What the template itself says; nothing is added at the end. */
static void templates(void **state)
{
    char path[512], tools[512];
    (void)state;
    snprintf(path, sizeof path, "%s/t.json", scratch());
    snprintf(tools, sizeof tools, "%s/tools.json", scratch());
    write_text(path, "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi\"}]");
    write_text(tools, "[{\"type\":\"function\",\"function\":{\"name\":\"look_up\",\"parameters\":{}}}]");
    struct run r = RUN(NULL, "tokenize", MODEL, "--template", path);
    expect_status(&r, 0);
    assert_string_equal(r.out, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    run_free(&r);
    r = RUN(NULL, "tokenize", MODEL, "--template", path, "--no-generation-prompt");
    assert_string_equal(r.out, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    run_free(&r);
    r = RUN(NULL, "tokenize", MODEL, "--template", path, "--tools", tools);
    expect_contains(r.out, "look_up");
    expect_contains(r.out, "<tools>");
    run_free(&r);
    struct how piped = {.in = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"x.png\"},{\"type\":\"text\","
                              "\"text\":\"Hi\"}]}]}"};
    r = RUN(&piped, "tokenize", MODEL, "--template", "-", "--add-vision-id");
    assert_string_equal(r.out, "<|im_start|>user\nPicture 1: <|vision_start|><|image_pad|><|vision_end|>Hi<|im_end|>\n<|im_start|>assistant\n");
    run_free(&r);
    r = RUN(&piped, "tokenize", MODEL, "--template", "-", "--tools", "-");
    expect_status(&r, 2);
    run_free(&r);
    write_text(path, "{\"messages\": 3}");
    r = RUN(NULL, "tokenize", MODEL, "--template", path);
    expect_status(&r, 1);
    run_free(&r);
}

static void inspect(void **state)
{
    (void)state;
    struct run r = RUN(NULL, "inspect", MODEL, "--json");
    expect_status(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL), *config = json_load_file(MODEL "/config.json", 0, NULL);
    assert_true(json_is_object(o));
    assert_string_equal(json_string_value(json_object_get(o, "architecture")),
                        json_string_value(json_object_get(config, "model_type")));
    json_decref(config);
    json_decref(o);
    run_free(&r);
    r = RUN(NULL, "inspect", MODEL);
    expect_status(&r, 0);
    expect_contains(r.out, "qwen3_vl");
    expect_contains(r.out, "model.safetensors");
    run_free(&r);
    r = RUN(NULL, "inspect", MODEL "/model.safetensors");
    expect_status(&r, 0);
    expect_contains(r.out, "model.language_model.embed_tokens.weight");
    run_free(&r);
    r = RUN(NULL, "inspect", MODEL "/examples/photo.jpg");
    expect_status(&r, 4);
    run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(special_tokens), cmocka_unit_test(bad_ids),
                                       cmocka_unit_test(templates), cmocka_unit_test(inspect)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
