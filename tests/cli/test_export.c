/* qvl export: files that run, what it says, and what it refuses. */
#include "spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[512];

static void files_that_run(void **state)
{
    char text[600], mmproj[640];
    (void)state;
    snprintf(dir, sizeof dir, "%s", scratch());
    snprintf(text, sizeof text, "%s/tiny-Q8_0.gguf", dir);
    snprintf(mmproj, sizeof mmproj, "%s/mmproj-tiny-F16.gguf", dir);
    struct run r = RUN(NULL, "export", MODEL, "--gguf", "-o", dir, "--type", "q8_0");
    expect_status(&r, 0);
    assert_string_equal(r.out, "");
    expect_contains(r.err, "tiny-Q8_0.gguf: 4.5 MB, relative error of the weights 0.6");
    expect_contains(r.err, "mmproj-tiny-F16.gguf: 5.7 MB\n");
    run_free(&r);
    r = RUN(NULL, "run", text, "--image", EXAMPLES "two-shapes.png", "-p", example_prompt("two-shapes", 0), "--greedy", "--quiet");
    expect_status(&r, 0);
    expect_contains(r.out, example_answer("two-shapes", 0));
    run_free(&r);
    r = RUN(NULL, "run", MODEL, "--vision", mmproj, "--text", text, "--image", EXAMPLES "two-shapes.png", "-p",
            example_prompt("two-shapes", 1), "--greedy", "--quiet");
    expect_status(&r, 0);
    expect_contains(r.out, example_answer("two-shapes", 1));
    run_free(&r);
    r = RUN(NULL, "export", MODEL, "--gguf", "-o", dir, "--type", "q8_0");
    expect_status(&r, 2);
    expect_contains(r.err, "exists (--force replaces it)");
    run_free(&r);
}

/* A folder that qvl pack made is a model like any other. */
static void from_a_packed_folder(void **state)
{
    char packed[600], text[640];
    (void)state;
    snprintf(packed, sizeof packed, "%s/packed", dir);
    snprintf(text, sizeof text, "%s/p-F32.gguf", dir);
    struct run r = RUN(NULL, "pack", MODEL, "-o", packed, "--precision", "q8");
    expect_status(&r, 0);
    run_free(&r);
    char prefix[600];
    snprintf(prefix, sizeof prefix, "%s/p", dir);
    r = RUN(NULL, "export", packed, "--gguf", "-o", prefix, "--type", "f32");
    expect_status(&r, 0);
    assert_null(strstr(r.err, "p-F32.gguf: 17 MB, relative error")); /* f32 holds what the packed weights stand for */
    run_free(&r);
    r = RUN(NULL, "run", text, "--image", EXAMPLES "two-shapes.png", "-p", example_prompt("two-shapes", 0), "--greedy", "--quiet");
    expect_status(&r, 0);
    expect_contains(r.out, example_answer("two-shapes", 0));
    run_free(&r);
}

static void as_json(void **state)
{
    (void)state;
    struct run r = RUN(NULL, "export", MODEL, "--gguf", "--output", dir, "--type", "q8_0", "--force", "--json");
    expect_status(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL), *text = json_object_get(o, "text");
    assert_non_null(strstr(json_string_value(json_object_get(text, "path")), "/tiny-Q8_0.gguf"));
    assert_true(json_integer_value(json_object_get(text, "bytes")) > 4000000);
    double loss = json_real_value(json_object_get(text, "relative_rms_error"));
    assert_true(loss > 1e-3 && loss < 1e-2);
    json_decref(o);
    run_free(&r);
}

static void refused(void **state)
{
    static const struct {
        int status;
        const char *says, *args[8];
    } cases[] = {
        {2, "--gguf", {"export", MODEL, "-o", "x"}},
        {2, "-o PATH", {"export", MODEL, "--gguf"}},
        {2, "expected one of F32, F16, BF16, Q8_0", {"export", MODEL, "--gguf", "-o", "/tmp/qvl-none", "--type", "q9"}},
        {4, "no such model", {"export", "/no/such/model", "--gguf", "-o", "/tmp/qvl-none"}},
        {1, "cannot create", {"export", MODEL, "--gguf", "-o", "/no/such/folder/x"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct run r = run_how(NULL, cases[i].args);
        expect_status(&r, cases[i].status);
        expect_contains(r.err, cases[i].says);
        run_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_that_run), cmocka_unit_test(from_a_packed_folder), cmocka_unit_test(as_json),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
