/* --lora as a user gives it: scales behind a colon, several, a name, mistakes. */
#include "spawn.h"

#include <stdio.h>
#include <string.h>

#define ADAPTED QVL_SOURCE_DIR "/tests/golden/models/untied-f32"
#define LORA QVL_SOURCE_DIR "/tests/golden/lora/"

static struct run ask(const char *one, const char *two)
{
    const char *args[] = {"run", ADAPTED, "-p", "Hello! What can you do?", "--greedy", "-q", "-n", "16", one ? "--lora" : NULL, one,
                          two ? "--lora" : NULL, two, NULL};
    struct run r = run_how(NULL, args);
    expect_status(&r, 0);
    return r;
}

static void answers(void **state)
{
    (void)state;
    struct run plain = ask(NULL, NULL), zero = ask(LORA "all:0", LORA "head:0.0"), one = ask(LORA "all", NULL), same = ask(LORA "all:1", NULL);
    assert_string_equal(plain.out, zero.out);
    assert_string_not_equal(plain.out, one.out);
    assert_string_equal(one.out, same.out);
    run_free(&plain);
    run_free(&zero);
    run_free(&one);
    run_free(&same);
}

static void verify_and_bench(void **state)
{
    (void)state;
    struct run r = RUN(NULL, "verify", ADAPTED, LORA "both-picture.safetensors", "--lora", LORA "all", "--lora=" LORA "head:-0.5", "-q");
    expect_status(&r, 0);
    run_free(&r);
    r = RUN(NULL, "verify", ADAPTED, LORA "both-picture.safetensors", "--lora", LORA "all", "-q");
    expect_status(&r, 1);
    run_free(&r);
    r = RUN(NULL, "bench", ADAPTED, "--lora", LORA "all", "--prompt", "16", "--prompt-depth", "0", "--depth", "16", "-n", "1", "--image", "64x64");
    expect_status(&r, 0);
    run_free(&r);
    r = RUN(NULL, "run", ADAPTED, "-p", "Hi", "-n", "1", "-v", "--lora", LORA "all");
    expect_status(&r, 0);
    expect_contains(r.err, "1 adapter");
    run_free(&r);
}

static void mistakes(void **state)
{
    (void)state;
    struct run r = RUN(NULL, "run", ADAPTED, "-p", "Hi", "--lora", "/nonexistent/adapter:0.5");
    expect_status(&r, 4);
    expect_contains(r.err, "/nonexistent/adapter: no such model");
    run_free(&r);
    r = RUN(NULL, "run", ADAPTED, "-p", "Hi", "--lora", LORA "all:much");
    expect_status(&r, 4);
    expect_contains(r.err, "all:much");
    run_free(&r);
    r = RUN(NULL, "run", MODEL, "-p", "Hi", "--lora", LORA "all");
    expect_status(&r, 4);
    expect_contains(r.err, "by the model and by adapter_config.json");
    run_free(&r);
    r = RUN(NULL, "bench", "--shape", "2b", "--lora", LORA "all");
    expect_status(&r, 2);
    run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers), cmocka_unit_test(verify_and_bench), cmocka_unit_test(mistakes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
