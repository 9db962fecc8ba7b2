/* qvl run: known answers, every way of giving pictures and text, --json, traces, Ctrl-C, and what goes where. */
#include "spawn.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Output of a run must be `text` and a line feed, nothing else. */
static void expect_answer(struct run *r, const char *text)
{
    char expected[2048];
    expect_status(r, 0);
    snprintf(expected, sizeof expected, "%s\n", text);
    assert_string_equal(r->out, expected);
    run_free(r);
}

static void known_answers(void **state)
{
    static const struct {
        const char *name, *file;
    } examples[] = {{"one-shape", EXAMPLES "one-shape.png"}, {"three-shapes", EXAMPLES "three-shapes.png"},
                    {"photo", EXAMPLES "photo.jpg"},         {"rotated", EXAMPLES "rotated.jpg"},
                    {"sign", EXAMPLES "sign.png"},           {"tall", EXAMPLES "tall.png"}};
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
        for (size_t turn = 0; turn < 2; turn++) {
            struct run r = RUN(NULL, "run", MODEL, "--greedy", "--image", examples[i].file, "-p", example_prompt(examples[i].name, turn));
            expect_contains(r.err, "1 image ");
            expect_contains(r.err, " tok/s");
            expect_answer(&r, example_answer(examples[i].name, turn));
        }
}

static void several_pictures(void **state)
{
    (void)state;
    const char *q = example_prompt("before-after", 0), *a = example_answer("before-after", 0);
    struct run r = RUN(NULL, "run", MODEL, "-q", "--greedy", "--image", EXAMPLES "before.png", "--image", EXAMPLES "after.png", "-p", q);
    assert_string_equal(r.err, ""); /* quiet */
    expect_answer(&r, a);
    r = RUN(NULL, "run", "--image=" EXAMPLES "before.png", "-p", q, MODEL, "--greedy", "--image=" EXAMPLES "after.png");
    expect_answer(&r, a);
}

/* Paths in a messages file are relative to it, wherever the program is started. */
static void messages_file(void **state)
{
    char path[512], text[2048];
    (void)state;
    struct how elsewhere = {.dir = "/"};
    snprintf(path, sizeof path, "%s/messages.json", scratch());
    snprintf(text, sizeof text,
             "[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"before.png\"}, {\"type\": \"image_url\", "
             "\"image_url\": {\"url\": \"after.png\"}}, {\"type\": \"text\", \"text\": \"%s\"}]}]",
             example_prompt("before-after", 0));
    write_text(path, text);
    struct run r = RUN(&elsewhere, "run", MODEL, "--greedy", "--messages", path);
    expect_status(&r, 1); /* the pictures are not there */
    expect_contains(r.err, "before.png");
    assert_string_equal(r.out, "");
    run_free(&r);

    char *before = realpath(EXAMPLES "before.png", NULL), *after = realpath(EXAMPLES "after.png", NULL), link[1024];
    snprintf(link, sizeof link, "ln -sf '%s' '%s' '%s'", before, after, scratch());
    assert_int_equal(system(link), 0);
    free(before);
    free(after);
    r = RUN(&elsewhere, "run", MODEL, "--greedy", "--messages", path);
    expect_answer(&r, example_answer("before-after", 0));

    /* from standard input they are relative to the working folder */
    struct how piped = {.in = text, .dir = scratch()};
    r = RUN(&piped, "run", MODEL, "--greedy", "--messages", "-");
    expect_answer(&r, example_answer("before-after", 0));

    /* -p and --image make one more message */
    snprintf(text, sizeof text,
             "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}, {\"role\": \"assistant\", \"content\": \"Hello!\"}]}");
    write_text(path, text);
    r = RUN(NULL, "run", MODEL, "--greedy", "--messages", path, "--image", EXAMPLES "one-shape.png", "-p",
            example_prompt("one-shape", 1), "--json");
    expect_status(&r, 0);
    expect_contains(r.out, "\"images\": 1");
    run_free(&r);
}

/* The number of prompt tokens tells what the conversation was. */
static long prompt_tokens(const struct how *how, const char *const *args)
{
    struct run r = run_how(how, args);
    expect_status(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL);
    assert_non_null(o);
    long n = (long)json_integer_value(json_object_get(json_object_get(o, "usage"), "prompt_tokens"));
    json_decref(o);
    run_free(&r);
    return n;
}
#define PROMPT_TOKENS(...) prompt_tokens(NULL, (const char *const[]){"run", MODEL, "--json", "-n", "1", __VA_ARGS__, NULL})

static void system_message(void **state)
{
    char with[512], without[512];
    (void)state;
    snprintf(with, sizeof with, "%s/with.json", scratch());
    snprintf(without, sizeof without, "%s/without.json", scratch());
    write_text(with, "[{\"role\":\"system\",\"content\":\"A very long system message that is replaced.\"},{\"role\":\"user\",\"content\":\"Hi\"}]");
    write_text(without, "[{\"role\":\"user\",\"content\":\"Hi\"}]");
    long none = PROMPT_TOKENS("-p", "Hi"), brief = PROMPT_TOKENS("-p", "Hi", "--system", "Be brief.");
    assert_true(brief > none);
    assert_int_equal(PROMPT_TOKENS("--messages", without), none);
    assert_int_equal(PROMPT_TOKENS("--messages", without, "--system", "Be brief."), brief);
    assert_int_equal(PROMPT_TOKENS("--messages", with, "--system", "Be brief."), brief);
    assert_true(PROMPT_TOKENS("--messages", with) > brief);
}

static void standard_input(void **state)
{
    size_t len;
    (void)state;
    char *png = read_whole(EXAMPLES "sign.png", &len);
    struct how picture = {.in = png, .in_len = len}, question = {.in = "How many shapes are there?\n"};
    struct run r = RUN(&picture, "run", MODEL, "--greedy", "--image", "-", "-p", example_prompt("sign", 3));
    expect_answer(&r, example_answer("sign", 3));
    r = RUN(&question, "run", MODEL, "--greedy", "--image", EXAMPLES "one-shape.png");
    expect_answer(&r, example_answer("one-shape", 1));
    r = RUN(&question, "run", MODEL, "--greedy", "--image", EXAMPLES "one-shape.png", "-p", "-");
    expect_answer(&r, example_answer("one-shape", 1));
    r = RUN(&picture, "run", MODEL, "--image", "-");
    expect_status(&r, 2); /* picture and question cannot both come from it */
    run_free(&r);
    r = RUN(&picture, "run", MODEL, "--image", "-", "-p", "-");
    expect_status(&r, 2);
    run_free(&r);
    free(png);
}

static void json_output(void **state)
{
    static const char *const numbers[] = {"images", "image_tokens", "prompt_tokens", "cached_tokens", "completion_tokens"};
    (void)state;
    struct run r = RUN(NULL, "run", MODEL, "--greedy", "--json", "--image", EXAMPLES "one-shape.png", "-p", example_prompt("one-shape", 0));
    expect_status(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "text")), example_answer("one-shape", 0));
    assert_string_equal(json_string_value(json_object_get(o, "finish_reason")), "stop");
    assert_string_equal(json_string_value(json_object_get(o, "model")), "tiny");
    assert_true(json_is_null(json_object_get(o, "reasoning")));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_true(json_is_integer(json_object_get(json_object_get(o, "usage"), numbers[i])));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "usage"), "images")), 1);
    assert_true(json_is_number(json_object_get(json_object_get(o, "timings"), "vision_ms")));
    json_decref(o);
    run_free(&r);
    r = RUN(NULL, "run", MODEL, "--json", "-p", "Hello", "-n", "2");
    expect_contains(r.out, "\"finish_reason\": \"length\"");
    expect_contains(r.out, "\"completion_tokens\": 2");
    run_free(&r);
    r = RUN(NULL, "run", MODEL, "--json", "-p", "Hello", "--image", "nope.png");
    expect_status(&r, 1);
    assert_string_equal(r.out, "");
    run_free(&r);
}

/* The same seed, the same text; threads do not matter; greedy is temperature 0. */
static void sampling(void **state)
{
    (void)state;
    const char *const a[] = {"run", MODEL, "-q", "-p", "Hello", "--temp", "3", "--seed", "11", "-n", "12", "-t", "1", NULL};
    const char *const b[] = {"run", MODEL, "-q", "-p", "Hello", "--temperature=3", "-s", "11", "--max_tokens", "12", "-t", "2", NULL};
    const char *const c[] = {"run", MODEL, "-q", "-p", "Hello", "--temp", "3", "--seed", "12", "-n", "12", NULL};
    struct run ra = run_how(NULL, a), rb = run_how(NULL, b), rc = run_how(NULL, c);
    expect_status(&ra, 0);
    assert_string_equal(ra.out, rb.out);
    assert_true(strcmp(ra.out, rc.out) != 0);
    run_free(&ra);
    run_free(&rb);
    run_free(&rc);
    ra = RUN(NULL, "run", MODEL, "-q", "-p", "Hello", "--greedy", "--temp", "3");
    rb = RUN(NULL, "run", MODEL, "-q", "-p", "Hello", "--temp", "0");
    assert_string_equal(ra.out, rb.out);
    run_free(&ra);
    run_free(&rb);
}

static void stop_texts(void **state)
{
    char stop[64], expected[1024];
    (void)state;
    const char *answer = example_answer("one-shape", 0), *at = strchr(answer, ' ');
    assert_non_null(at);
    at = strchr(at + 1, ' '); /* in front of the third word */
    assert_non_null(at);
    snprintf(stop, sizeof stop, "%.6s", at);
    struct run r = RUN(NULL, "run", MODEL, "--greedy", "--image", EXAMPLES "one-shape.png", "-p", example_prompt("one-shape", 0), "--stop",
                       "not in the text", "--stop", stop);
    snprintf(expected, sizeof expected, "%.*s", (int)(at - answer), answer);
    expect_answer(&r, expected);
}

static void verbose_and_trace(void **state)
{
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/trace.safetensors", scratch());
    struct run r = RUN(NULL, "run", MODEL, "-v", "--greedy", "--image", EXAMPLES "one-shape.png", "-p", example_prompt("one-shape", 0),
                       "--trace", path, "--threads", "2", "--context", "1k", "--precision", "f32", "--cpu", "ref");
    expect_contains(r.err, "precision vision f32 · text f32 · cpu level ref · 2 threads");
    expect_contains(r.err, "context 1024 of");
    expect_contains(r.err, "greedy");
    expect_answer(&r, example_answer("one-shape", 0));
    /* A trace is a golden: the program agrees with itself, whatever the instruction sets. */
    r = RUN(NULL, "verify", MODEL, path);
    expect_status(&r, 0);
    expect_contains(r.out, "text.layer.0");
    expect_contains(r.out, "1 of 1 goldens pass");
    run_free(&r);
}

/* What the prompt depends on beside the messages is in the trace; a sampled answer, which nobody could verify, is not. */
static void trace_of_tools_and_sampling(void **state)
{
    static const char talk[] = "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"" EXAMPLES
                               "one-shape.png\"}]}], \"tools\": [{\"name\": \"f\"}], \"add_vision_id\": true}";
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/tools.safetensors", scratch());
    for (int sampled = 0; sampled < 2; sampled++) {
        struct run r = RUN(&(struct how){.in = talk}, "run", MODEL, "-q", "--messages", "-", "--trace", path, "-n", "8", "--seed", "1", "--temperature",
                           sampled ? "3" : "0");
        expect_status(&r, 0);
        run_free(&r);
        r = RUN(NULL, "verify", MODEL, path);
        expect_status(&r, 0);
        expect_contains(r.out, "1 of 1 goldens pass");
        assert_int_equal(strstr(r.out, "generated_ids") == NULL, sampled);
        run_free(&r);
    }
}

/* Packed weights in the cache folder whose list of tensors is damaged are made anew, from weights that are still whole. */
static void damaged_cache(void **state)
{
    static const char name[] = "\"lm_head.weight.q8\"";
    char folder[512], env[600], path[1100] = "";
    struct how how = {.env = {env}};
    (void)state;
    snprintf(folder, sizeof folder, "%s/cache/qvl", scratch());
    snprintf(env, sizeof env, "XDG_CACHE_HOME=%s/cache", scratch());
    for (int damaged = 0; damaged < 2; damaged++) {
        struct run r = RUN(&how, "run", MODEL, "-q", "--greedy", "--precision", "q8", "-p", "Hello");
        expect_status(&r, 0);
        assert_non_null(strstr(r.out, "Show me a picture"));
        run_free(&r);
        DIR *d = opendir(folder);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));)
            if (e->d_name[0] != '.')
                snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        closedir(d);
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        char *text = calloc(1, 1 << 20);
        assert_non_null(text);
        size_t n = fread(text, 1, (1 << 20) - 1, f), at = 0;
        while (at + sizeof name < n && memcmp(text + at, name, sizeof name - 1) != 0)
            at++;
        free(text);
        assert_true(at + sizeof name < n);
        assert_int_equal(fseek(f, (long)at + 1, SEEK_SET), 0);
        assert_int_equal(fputc('X', f), 'X');
        assert_int_equal(fclose(f), 0);
    }
    unlink(path);
    rmdir(folder);
    *strrchr(folder, '/') = 0;
    rmdir(folder);
}

/* Pixels: fewer pixels, fewer tokens; the three spellings agree. */
static void pixel_sizes(void **state)
{
    (void)state;
#define WITH(size) PROMPT_TOKENS("-p", "Hi", "--image", EXAMPLES "three-shapes.png", "--max-pixels", size)
    long all = PROMPT_TOKENS("-p", "Hi", "--image", EXAMPLES "three-shapes.png"), small = WITH("128x128");
    assert_true(small < all);
    assert_int_equal(WITH("16384"), small);
    assert_int_equal(WITH("16.384k"), small);
    assert_int_equal(WITH("0.016384M"), small);
    assert_true(PROMPT_TOKENS("-p", "Hi", "--image", EXAMPLES "three-shapes.png", "--add-vision-id") > all);
#undef WITH
}

/* A reward for tokens that the answer has makes it go on until the context is full, some seconds. */
#define ENDLESS "run", MODEL, "-p", "Hello there", "--greedy", "--frequency-penalty", "-100", "-t", "1"

static void ctrl_c(void **state)
{
    (void)state;
    struct how once = {.signal_after_ms = 100};
    struct run r = RUN(&once, ENDLESS);
    expect_status(&r, 130);
    assert_true(r.out_len > 1);
    assert_int_equal(r.out[r.out_len - 1], '\n');
    expect_contains(r.err, "cancelled");
    run_free(&r);
}

/* Its text comes only at the end: the signal is sent while it is made. */
static void ctrl_c_json(void **state)
{
    struct pty p;
    (void)state;
    pty_start(&p, NULL, 1, (const char *const[]){ENDLESS, "--json", "-v", NULL});
    pty_expect(&p, "greedy");
    for (volatile int i = 0; i < 100000000; i++)
        ;
    pty_send(&p, "\003");
    char *out = pty_stdout(&p);
    json_t *o = json_loads(out, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "finish_reason")), "cancelled");
    json_decref(o);
    free(out);
    assert_int_equal(pty_end(&p), 130);
    free(p.seen);
}

static void output_fails(void **state)
{
    (void)state;
    struct how full = {.stdout_path = "/dev/full"}, closed = {.close_stdout = 1};
    const char *const answer[] = {"run", MODEL, "-p", "Hello", NULL}, *const json[] = {"run", MODEL, "-p", "Hello", "--json", NULL},
               *const help[] = {"run", "--help", NULL}, *const ids[] = {"tokenize", MODEL, NULL};
    const char *const *all[] = {answer, json, help, ids};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct run r = run_how(&full, all[i]);
        expect_status(&r, 1);
        expect_contains(r.err, "qvl: standard output: ");
        run_free(&r);
        r = run_how(&closed, all[i]);
        expect_status(&r, 1);
        expect_contains(r.err, "qvl: standard output: ");
        run_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),     cmocka_unit_test(several_pictures), cmocka_unit_test(messages_file),
        cmocka_unit_test(system_message),    cmocka_unit_test(standard_input),   cmocka_unit_test(json_output),
        cmocka_unit_test(sampling),          cmocka_unit_test(stop_texts),       cmocka_unit_test(verbose_and_trace),
        cmocka_unit_test(trace_of_tools_and_sampling), cmocka_unit_test(damaged_cache),
        cmocka_unit_test(pixel_sizes),       cmocka_unit_test(ctrl_c),           cmocka_unit_test(ctrl_c_json),
        cmocka_unit_test(output_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
