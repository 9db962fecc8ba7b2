/* Exit statuses of every class, one-line errors, help, environment, precedence. */
#include "spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ends with `status`, nothing on standard output, and exactly one line "qvl: ..." that holds `part` on standard error. */
static void refuse_how(const struct how *how, int status, const char *part, const char *const *args)
{
    struct run r = run_how(how, args);
    expect_status(&r, status);
    expect_contains(r.err, part);
    assert_string_equal(r.out, "");
    if (strncmp(r.err, "qvl: ", 5) != 0 || strchr(r.err, '\n') != r.err + r.err_len - 1)
        fail_msg("not one line of the program: %s", r.err);
    run_free(&r);
}
#define REFUSE(status, part, ...) refuse_how(NULL, (status), (part), (const char *const[]){__VA_ARGS__, NULL})
#define REFUSE_RUN(status, part, ...) REFUSE(status, part, "run", MODEL, "-p", "Hi", __VA_ARGS__)

static void usage_errors(void **state)
{
    (void)state;
    REFUSE(2, "unknown command", "frob");
    REFUSE(2, "did you mean tokenize", "tokenise");
    REFUSE(2, "MODEL is missing", "run", "-p", "Hi");
    REFUSE(2, "GOLDEN is missing", "verify", MODEL);
    REFUSE(2, "PATH is missing", "inspect");
    REFUSE(2, "unexpected argument", "run", MODEL, "photo.jpg", "-p", "Hi");
    REFUSE_RUN(2, "did you mean --temperature", "--temprature", "1");
    REFUSE_RUN(2, "did you mean --max-tokens", "--max_tokns=3");
    REFUSE_RUN(2, "unknown option -Z", "-Z");
    REFUSE_RUN(2, "missing", "--image");
    REFUSE_RUN(2, "missing", "--image", "--greedy");
    REFUSE_RUN(2, "missing", "-n");
    REFUSE_RUN(2, "takes no value", "--greedy=yes");
    REFUSE_RUN(2, "is empty", "--stop", "");
    REFUSE(2, "empty", "run", MODEL, "-p", "");
    REFUSE(2, "standard input is empty", "run", MODEL);
    REFUSE(2, "not both", "bench", MODEL, "--shape", "4b");
    REFUSE(2, "does not go with", "tokenize", MODEL, "--decode", "--plain");
    REFUSE(2, "need --template", "tokenize", MODEL, "--add-vision-id");
    REFUSE_RUN(2, "cpu level", "--cpu", "z80");
    REFUSE_RUN(2, "context", "--context", "100000000");
}

static void bad_numbers(void **state)
{
    static const char *const bad[][2] = {
        {"--max-tokens", "-1"},    {"--max-tokens", "1.5"},   {"--max-tokens", "99999999999999999999"}, {"--max-tokens", "4294967296"},
        {"--max-tokens", ""},      {"--max-tokens", "ten"},   {"--temperature", "nan"},                 {"--temperature", "inf"},
        {"--temperature", "-1"},   {"--temperature", "1e99"}, {"--temperature", "0x1"},                 {"--temperature", " 1"},
        {"--top-p", "1.01"},       {"--top-k", "3000000000"}, {"--min-p", "-0.1"},                      {"--repetition-penalty", "0"},
        {"--seed", "-1"},          {"--seed", "1e3"},         {"--threads", "1025"},                    {"--threads", "-2"},
        {"--max-pixels", "0"},     {"--max-pixels", "10x"},   {"--max-pixels", "x10"},                  {"--max-pixels", "0x10"},
        {"--max-pixels", "2G"},    {"--alpha", "black"},      {"--precision", "f16"},                   {"--context", "-5"},
        {"--presence-penalty", "1,5"}, {"--max-pixels", "99999999999999999999999x2"}, {"--context", "18446744073709551615k"}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSE_RUN(2, bad[i][0], bad[i][0], bad[i][1]);
}

/* Lists of bench: what is no list, and what every form of the rows says. */
static void bench_lists(void **state)
{
    static const char *const bad[][2] = {{"--depth", "1,,2"},     {"--depth", ","},   {"--depth", "262145"}, {"--prompt", "0"},
                                         {"--image", "100"},      {"--image", "0x9"}, {"--image", "9x70000"}, {"--prompt", "1,x"},
                                         {"--prompt-depth", "-1"}, {"--prompt", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"}};
    static const char *const form[] = {"table", "md", "csv"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSE(2, bad[i][0], "bench", MODEL, bad[i][0], bad[i][1]);
    struct run r = run_how(NULL, (const char *const[]){"bench", MODEL, "--threads", "1", "--image", "64x64,96x32", "--prompt", "4,8",
                                                       "--prompt-depth", "0,16", "--depth", "32", "-n", "3", "--json", NULL});
    static const char *const part[] = {"int8 probe", "64x64, f32", "96x32, f32", "4 tokens, f32", "8 tokens behind 16, f32",
                                       "at 32 positions, f32", "8 tokens in one", "peak memory", "spread"};
    expect_status(&r, 0);
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        expect_contains(r.out, part[k]);
    if (strstr(r.out, "4 tokens behind"))
        fail_msg("only the longest prompt is measured at a depth: %s", r.out);
    run_free(&r);
    for (size_t i = 0; i < sizeof form / sizeof *form; i++) {
        r = run_how(NULL, (const char *const[]){"bench", MODEL, "--threads", "1", "--image", "none", "--prompt", "none", "--depth", "none",
                                                "--format", form[i], NULL});
        expect_status(&r, 0);
        expect_contains(r.out, "spread");
        expect_contains(r.out, "int8 probe");
        if (strstr(r.out, "decode") || strstr(r.out, "prefill") || strstr(r.out, "picture"))
            fail_msg("nothing was asked for: %s", r.out);
        run_free(&r);
    }
}

static void later_versions(void **state)
{
    static const char *const names[] = {"--video", "--fps", "--device"};
    static const char *const commands[] = {"serve", "batch"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        REFUSE_RUN(2, "not in this version", names[i], "x");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        REFUSE(2, "not in this version", commands[i], MODEL);
    REFUSE_RUN(2, "one of", "--precision", "q5");
    REFUSE_RUN(2, "one of", "--vision-precision", "q4");
}

static void broken_models(void **state)
{
    char dir[300], command[1024];
    (void)state;
    REFUSE(4, "/nonexistent/model", "run", "/nonexistent/model", "-p", "Hi");
    REFUSE(4, "config.json", "run", MODEL "/config.json", "-p", "Hi");
    REFUSE(4, "", "run", MODEL "/examples", "-p", "Hi");
    REFUSE(4, "/nonexistent/model", "tokenize", "/nonexistent/model");
    REFUSE(4, "/nonexistent/model", "verify", "/nonexistent/model", "x.safetensors");
    REFUSE(4, "/nonexistent/model", "inspect", "/nonexistent/model");
    snprintf(dir, sizeof dir, "%s/broken", scratch());
    snprintf(command, sizeof command, "cp -r %s %s && printf '{' > %s/config.json", MODEL, dir, dir);
    assert_int_equal(system(command), 0);
    REFUSE(4, "config.json", "run", dir, "-p", "Hi");
}

static void bad_files(void **state)
{
    char path[512];
    (void)state;
    REFUSE_RUN(1, "nope.png", "--image", "nope.png");
    REFUSE_RUN(1, "/tmp", "--image", "/tmp");
    REFUSE_RUN(1, "config.json", "--image", MODEL "/config.json");
    REFUSE(1, "nope.json", "run", MODEL, "--messages", "nope.json");
    snprintf(path, sizeof path, "%s/bad.json", scratch());
    write_text(path, "[{\"role\": \"user\"");
    REFUSE(1, "bad.json", "run", MODEL, "--messages", path);
    write_text(path, "[{\"role\": \"wizard\", \"content\": \"Hi\"}]");
    REFUSE(1, "wizard", "run", MODEL, "--messages", path);
    REFUSE_RUN(1, "/nonexistent/t", "--trace", "/nonexistent/t.safetensors", "-q", "--json");
}

/* A copy of the tiny model whose configuration allows two thousand million tokens: their cache fits nowhere. */
static void not_enough_memory(void **state)
{
    char dir[300], command[1024];
    (void)state;
    snprintf(dir, sizeof dir, "%s/long", scratch());
    snprintf(command, sizeof command,
             "cp -r %s %s && sed -i 's/\"max_position_embeddings\": *[0-9]*/\"max_position_embeddings\": 2000000000/' %s/config.json",
             MODEL, dir, dir);
    assert_int_equal(system(command), 0);
    REFUSE(3, "available", "run", dir, "-p", "Hi", "--context", "2000000000");
    struct run r = RUN(NULL, "run", dir, "-p", "Hi", "-q", "-n", "2"); /* without the wish it runs */
    expect_status(&r, 0);
    run_free(&r);
}

static void environment(void **state)
{
    (void)state;
    struct how model = {.env = {"QVL_MODEL=" MODEL}};
    struct run r = RUN(&model, "run", "-p", "Hello", "-n", "3");
    expect_status(&r, 0);
    run_free(&r);
    r = RUN(&model, "verify", "tests/golden/tiny/one.safetensors", "-q");
    expect_status(&r, 0);
    run_free(&r);
    r = RUN(&model, "verify", MODEL, "tests/golden/tiny/one.safetensors", "-q");
    expect_status(&r, 0);
    run_free(&r);
    refuse_how(&model, 2, "GOLDEN is missing", (const char *const[]){"verify", NULL});
    struct how settings = {.env = {"QVL_MODEL=/nonexistent", "QVL_THREADS=1", "QVL_CPU=ref", "QVL_PRECISION=bf16", "QVL_CONTEXT=512"}};
    r = RUN(&settings, "run", MODEL, "-p", "Hello", "-n", "3", "-v");
    expect_status(&r, 0);
    expect_contains(r.err, "text bf16 · cpu level ref · 1 thread");
    expect_contains(r.err, "context 512 of");
    run_free(&r);
    r = RUN(&settings, "run", MODEL, "-p", "Hello", "-n", "3", "-v", "--threads=2", "--precision", "f32", "-c", "256");
    expect_status(&r, 0);
    expect_contains(r.err, "text f32 · cpu level ref · 2 threads");
    expect_contains(r.err, "context 256 of");
    run_free(&r);
    struct how bad = {.env = {"QVL_THREADS=many"}};
    refuse_how(&bad, 2, "QVL_THREADS", (const char *const[]){"run", MODEL, "-p", "Hello", NULL});
    r = RUN(&bad, "run", MODEL, "-p", "Hello", "-n", "1", "-t1");
    expect_status(&r, 0); /* the option beats it, so nobody reads it */
    run_free(&r);
}

static void help_and_version(void **state)
{
    static const char *const commands[] = {"run", "verify", "tokenize", "inspect", "bench", "pull"};
    (void)state;
    struct run r = RUN(NULL, "--version");
    expect_status(&r, 0);
    assert_int_equal(strncmp(r.out, "qvl ", 4), 0);
    run_free(&r);
    r = RUN(NULL, "--help");
    expect_status(&r, 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        expect_contains(r.out, commands[i]);
        struct run a = RUN(NULL, "help", commands[i]), b = RUN(NULL, commands[i], "--help"), c = RUN(NULL, commands[i], "-h");
        expect_status(&a, 0);
        expect_contains(a.out, "Examples:");
        assert_string_equal(a.err, "");
        assert_string_equal(a.out, b.out);
        assert_string_equal(a.out, c.out);
        run_free(&a);
        run_free(&b);
        run_free(&c);
    }
    run_free(&r);
    r = RUN(NULL, "help", "frob");
    expect_status(&r, 2);
    run_free(&r);
    const char *const nothing[] = {NULL};
    r = run_how(NULL, nothing);
    expect_status(&r, 2);
    run_free(&r);
}

/* Spellings: long, short, joined, underscores, older names, "--". */
static void spellings(void **state)
{
    static const char *const forms[][3] = {{"--max-tokens", "2"},    {"--max_tokens=2"}, {"-n", "2"},         {"-n2"},
                                           {"--max_length", "2"},    {"-qn2"},           {"--max-new-tokens", "2"}};
    (void)state;
    struct run first = RUN(NULL, "run", MODEL, "-p", "Hello", "-q", "-n", "2");
    expect_status(&first, 0);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const char *args[8] = {"run", "-p", "Hello", "-q", MODEL, forms[i][0], forms[i][1], NULL};
        struct run r = run_how(NULL, args);
        expect_status(&r, 0);
        assert_string_equal(r.out, first.out);
        run_free(&r);
    }
    struct run r = RUN(NULL, "run", "-p", "Hello", "-q", "-n", "2", "--", MODEL);
    assert_string_equal(r.out, first.out);
    run_free(&r);
    r = RUN(NULL, "run", "-p", "Hello", "-n", "2", "--", MODEL, "-q");
    expect_status(&r, 2);
    run_free(&r);
    r = RUN(NULL, "run", "--prompt=Hello", "-q", "-n=2", MODEL);
    assert_string_equal(r.out, first.out);
    run_free(&r);
    run_free(&first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage_errors),  cmocka_unit_test(bad_numbers),       cmocka_unit_test(bench_lists),
        cmocka_unit_test(later_versions),
        cmocka_unit_test(broken_models), cmocka_unit_test(bad_files),         cmocka_unit_test(not_enough_memory),
        cmocka_unit_test(environment),   cmocka_unit_test(help_and_version),  cmocka_unit_test(spellings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
