/* The chat on a pseudo-terminal: answers, pictures, commands, Ctrl-C. Expected answers are the examples' own. */
#include "spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHAT(p, separate, ...) pty_start((p), NULL, (separate), (const char *const[]){"run", MODEL, "--greedy", __VA_ARGS__ NULL})

static void line(struct pty *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(struct pty *p, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text - 1, fmt, ap);
    va_end(ap);
    strcat(text, "\r");
    pty_send(p, text);
}

static void finish(struct pty *p, int status)
{
    int got = pty_end(p);
    if (got != status)
        fail_msg("exit status %d, expected %d; the terminal showed: %s", got, status, p->seen);
    free(p->seen);
}

/* Two turns about one picture; the second finds the first in the cache. */
static void two_turns(void **state)
{
    struct pty p;
    (void)state;
    CHAT(&p, 0, );
    pty_expect(&p, "> ");
    line(&p, "/image %sone-shape.png", EXAMPLES);
    pty_expect(&p, "is added");
    line(&p, "%s", example_prompt("one-shape", 0));
    pty_expect(&p, example_answer("one-shape", 0));
    pty_expect(&p, "1 image ");
    pty_expect(&p, "tok/s");
    line(&p, "%s", example_prompt("one-shape", 1));
    pty_expect(&p, example_answer("one-shape", 1));
    size_t from = pty_expect(&p, "prompt ");
    pty_expect(&p, " cached)");
    unsigned all = 0, cached = 0;
    assert_int_equal(sscanf(p.seen + from, "prompt %u tokens (%u cached)", &all, &cached), 2);
    assert_true(cached > 20 && cached < all); /* the picture's tokens and the first turn */
    line(&p, "/stats");
    pty_expect(&p, "context: ");
    pty_expect(&p, "2 answers");
    line(&p, "/quit");
    finish(&p, 0);
}

/* Standard output holds the answers and nothing else; prompts and figures are on the terminal. */
static void answers_alone(void **state)
{
    struct pty p;
    char expected[1024];
    (void)state;
    CHAT(&p, 1, "--image", EXAMPLES "one-shape.png", );
    pty_expect(&p, "is added");
    line(&p, "%s", example_prompt("one-shape", 0));
    pty_expect(&p, "tok/s");
    line(&p, "/retry");
    pty_expect(&p, "tok/s");
    line(&p, "/quit");
    char *out = pty_stdout(&p);
    snprintf(expected, sizeof expected, "%s\n%s\n", example_answer("one-shape", 0), example_answer("one-shape", 0));
    assert_string_equal(out, expected);
    free(out);
    finish(&p, 0);
}

/* Paths as terminals paste them. */
static void dropped(void **state)
{
    struct pty p;
    char copy[512], url[1024];
    size_t len;
    (void)state;
    char *png = read_whole(EXAMPLES "one-shape.png", &len);
    snprintf(copy, sizeof copy, "%s/my shape.png", scratch());
    FILE *f = fopen(copy, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(png, 1, len, f), len);
    fclose(f);
    free(png);
    snprintf(url, sizeof url, "file://%s/my%%20shape.png", scratch());
    CHAT(&p, 0, );
    pty_expect(&p, "> ");
    line(&p, "'%s' %s", copy, example_prompt("one-shape", 0));
    pty_expect(&p, example_answer("one-shape", 0));
    pty_expect(&p, "1 image ");
    line(&p, "/clear");
    line(&p, "%s %s", url, example_prompt("one-shape", 0));
    pty_expect(&p, example_answer("one-shape", 0));
    pty_expect(&p, "prompt ");
    line(&p, "/clear");
    line(&p, "%s/my\\ shape.png ", scratch());
    pty_expect(&p, "is added");
    line(&p, "%s", example_prompt("one-shape", 1));
    pty_expect(&p, example_answer("one-shape", 1));
    pty_expect(&p, "> ");
    pty_send(&p, "\004");
    finish(&p, 0);
}

static void save_and_read_back(void **state)
{
    struct pty p;
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/talk.json", scratch());
    CHAT(&p, 0, "--system", "Be brief.", "--image", EXAMPLES "sign.png", );
    pty_expect(&p, "is added");
    line(&p, "%s", example_prompt("sign", 1));
    pty_expect(&p, "tok/s");
    line(&p, "/save %s", path);
    pty_expect(&p, "3 messages");
    pty_expect(&p, "> ");
    pty_send(&p, "\004");
    finish(&p, 0);
    json_t *list = json_load_file(path, 0, NULL);
    assert_int_equal(json_array_size(list), 3);
    static const char *const roles[] = {"system", "user", "assistant"};
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(json_string_value(json_object_get(json_array_get(list, i), "role")), roles[i]);
    json_decref(list);
    struct run r = RUN(NULL, "run", MODEL, "--greedy", "--messages", path, "-p", "How many shapes are there?", "--json");
    expect_status(&r, 0);
    expect_contains(r.out, "\"images\": 1");
    run_free(&r);
}

/* Nothing that fails ends the chat. */
static void failures(void **state)
{
    struct pty p;
    (void)state;
    CHAT(&p, 0, "--max-tokens", "4", );
    pty_expect(&p, "> ");
    line(&p, "/image /nonexistent/picture.png");
    pty_expect(&p, "qvl: ");
    line(&p, "/image " MODEL "/config.json");
    pty_expect(&p, "qvl: ");
    line(&p, "/retry");
    pty_expect(&p, "no message to answer");
    line(&p, "/save %s", scratch()); /* a device would be replaced, so only files may be */
    pty_expect(&p, "is not a regular file");
    line(&p, "/save /nonexistent/dir/x.json");
    pty_expect(&p, "No such file");
    line(&p, "/nonsense");
    pty_expect(&p, "unknown command");
    line(&p, "/image");
    pty_expect(&p, "missing");
    line(&p, "/help");
    pty_expect(&p, "/system TEXT");
    line(&p, "Hello");
    pty_expect(&p, "tokens");
    line(&p, "/system Answer in one word.");
    pty_expect(&p, "system message is set");
    line(&p, "/save %s/sys.json", scratch());
    pty_expect(&p, "3 messages");
    line(&p, "/clear");
    line(&p, "/save %s/sys.json", scratch());
    pty_expect(&p, "1 messages");
    line(&p, "/system");
    pty_expect(&p, "no system message");
    line(&p, "/quit");
    finish(&p, 0);
}

static void several_lines(void **state)
{
    struct pty p;
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/block.json", scratch());
    CHAT(&p, 0, "--max-tokens", "2", );
    pty_expect(&p, "> ");
    line(&p, "\"\"\"first");
    pty_expect(&p, "... ");
    line(&p, "/second");
    pty_expect(&p, "... ");
    line(&p, "third\"\"\"");
    pty_expect(&p, "prompt ");
    line(&p, "/save %s", path);
    pty_expect(&p, "2 messages");
    line(&p, "/quit");
    finish(&p, 0);
    json_t *list = json_load_file(path, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "content")), "first\n/second\nthird");
    json_decref(list);
}

/* A reward for tokens that the answer has: the first one is said again and again until the context is full. */
static void start_long_answer(struct pty *p)
{
    CHAT(p, 0, "--frequency-penalty", "-100", "--threads", "1", );
    pty_expect(p, "> ");
    line(p, "%s", "Hello there");
}

/* Ctrl-C stops the answer, not the chat; at the prompt the second one leaves. */
static void ctrl_c(void **state)
{
    struct pty p;
    (void)state;
    start_long_answer(&p);
    pty_expect(&p, "there\r\n"); /* the echo */
    usleep(300 * 1000);
    pty_send(&p, "\003");
    pty_expect(&p, "cancelled");
    pty_expect(&p, "> ");
    pty_send(&p, "half a line\003");
    pty_expect(&p, "Ctrl-C again");
    pty_expect(&p, "> ");
    line(&p, "/stats");
    pty_expect(&p, "context: ");
    pty_expect(&p, "> ");
    pty_send(&p, "\003");
    pty_expect(&p, "Ctrl-C again");
    pty_send(&p, "\003");
    finish(&p, 130);
}

static void history_is_kept(void **state)
{
    struct pty p;
    char path[512];
    struct stat st;
    (void)state;
    CHAT(&p, 0, "--max-tokens", "2", );
    pty_expect(&p, "> ");
    line(&p, "a question to remember");
    pty_expect(&p, "prompt ");
    pty_expect(&p, "> ");
    line(&p, "/quit");
    finish(&p, 0);
    snprintf(path, sizeof path, "%s/qvl/history", scratch());
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    CHAT(&p, 0, "--max-tokens", "2", );
    pty_expect(&p, "> ");
    pty_send(&p, "\033[A\033[A"); /* up, up: behind /quit */
    pty_expect(&p, "a question to remember");
    pty_send(&p, "\r");
    pty_expect(&p, "prompt ");
    line(&p, "/quit");
    finish(&p, 0);
}

/* Control characters in the model's text must not reach a terminal: a system message cannot make the tiny model say them,
 * so the text comes through --decode, which takes the same way out. */
static void no_escapes(void **state)
{
    struct pty p;
    struct run r;
    (void)state;
    struct how text = {.in = "a\033[31mb\302\233c\007d\n"};
    r = RUN(&text, "tokenize", MODEL);
    expect_status(&r, 0);
    char path[512];
    snprintf(path, sizeof path, "%s/ids", scratch());
    write_text(path, r.out);
    struct how piped = {.in = r.out};
    struct run raw = RUN(&piped, "tokenize", MODEL, "--decode");
    assert_string_equal(raw.out, text.in);
    run_free(&raw);
    run_free(&r);
    pty_start(&p, NULL, 0, (const char *const[]){"tokenize", MODEL, "--decode", NULL});
    char *ids = read_whole(path, NULL);
    ids[strcspn(ids, "\n")] = 0;
    usleep(200 * 1000);
    line(&p, "%s", ids);
    pty_expect(&p, "]"); /* the echo of the input */
    pty_send(&p, "\004\004");
    pty_expect(&p, "a[31mbcd");
    free(ids);
    finish(&p, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_turns),     cmocka_unit_test(answers_alone),      cmocka_unit_test(dropped),
        cmocka_unit_test(failures),      cmocka_unit_test(save_and_read_back), cmocka_unit_test(several_lines),
        cmocka_unit_test(ctrl_c),        cmocka_unit_test(history_is_kept),    cmocka_unit_test(no_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
