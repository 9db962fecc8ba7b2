/* qvl pull against a hub on this machine: the cache's layout, resuming, every fault a server or a link can have, the token,
 * two downloads at once, Ctrl-C; then commands that find the model by its name. */
#include "hub_server.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WEIGHTS = 300000, TEXT = 1024 };
#define REPO "org/model"
#define SNAPSHOT "models--org--model/snapshots/" HUB_COMMIT "/"

static char root[400], endpoint[64], weights_sha[65];
static struct hub *hub;
static int n_caches;

/* ---------------------------------------------------------------- helpers */

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    char command[4096];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

/* A cache of its own for each test. */
static const char *new_cache(void)
{
    static char path[500];
    snprintf(path, sizeof path, "%s/cache%d", scratch(), n_caches++);
    setenv("HF_HUB_CACHE", path, 1);
    hub_forget(hub);
    return path;
}

static struct run pull_how(const struct how *how, const char *repo, const char *option, const char *value)
{
    const char *args[] = {"pull", repo, option, value, NULL};
    return run_how(how, args);
}

static struct run pull(const char *repo) { return pull_how(NULL, repo, NULL, NULL); }

static void expect_pull(const char *repo)
{
    struct run r = pull(repo);
    expect_status(&r, 0);
    run_free(&r);
}

/* Fails with this status, and a message of one line that holds `part`; nothing on standard output. */
static void expect_refusal(const char *repo, int status, const char *part)
{
    struct run r = pull_how(NULL, repo, "-q", NULL);
    expect_status(&r, status);
    expect_contains(r.err, part);
    assert_string_equal(r.out, "");
    if (strncmp(r.err, "qvl: ", 5) != 0 || strchr(r.err, '\n') != r.err + r.err_len - 1)
        fail_msg("not one line of the program: %s", r.err);
    run_free(&r);
}

static char *in_cache(const char *name)
{
    static char path[4][1200];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", getenv("HF_HUB_CACHE"), name);
    return path[turn];
}

static int exists(const char *name)
{
    struct stat st;
    return lstat(in_cache(name), &st) == 0;
}

static void expect_same(const char *name, const char *served)
{
    size_t n, m;
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", root, served);
    char *a = read_whole(in_cache(name), &n), *b = read_whole(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

static void expect_model(void) { expect_same(SNAPSHOT "model.safetensors", REPO "/model.safetensors"); }

/* How often a file's content was asked for; range of the last time. */
static int asked(const char *file, int store, char range[64])
{
    const struct hub_request *q;
    size_t n = hub_requests(hub, &q);
    int times = 0;
    for (size_t i = 0; i < n; i++)
        if (q[i].store == store && strcmp(q[i].method, "GET") == 0 && strstr(q[i].path, file)) {
            times++;
            if (range)
                snprintf(range, 64, "%s", q[i].range);
        }
    return times;
}

static char *part_path(void)
{
    char name[200];
    snprintf(name, sizeof name, "models--org--model/blobs/%s.incomplete", weights_sha);
    return in_cache(name);
}

/* What an earlier download left: the first n bytes, the first of them changed by `flip`. */
static void leave_part(size_t n, int flip)
{
    char path[600];
    snprintf(path, sizeof path, "%s/" REPO "/model.safetensors", root);
    char *data = read_whole(path, NULL);
    data[0] ^= (char)flip;
    shell("mkdir -p '%s/models--org--model/blobs'", getenv("HF_HUB_CACHE"));
    FILE *f = fopen(part_path(), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    free(data);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void make_repositories(void)
{
    char path[700], *data = malloc(WEIGHTS);
    uint32_t x = 12345;
    assert_non_null(data);
    for (size_t i = 0; i < WEIGHTS; i++)
        data[i] = (char)((x = x * 1664525u + 1013904223u) >> 24);
    snprintf(root, sizeof root, "%s/hub", scratch());
    shell("mkdir -p '%s/" REPO "/nested/deep' '%s/" REPO "/onnx' '%s/" REPO "/original' '%s/org/gguf'", root, root, root, root);
    shell("cd '%s/" REPO "' && printf '{}\\n' >config.json && printf 'hello\\n' >nested/deep/extra.json && : >empty.txt && echo x >weights.bin && "
          "echo x >onnx/model.onnx && echo '{}' >onnx/config.json && echo '{}' >original/params.json && echo x >picture.png", root);
    shell("cd '%s/org/gguf' && for f in M-Q4_K_M M-Q8_0 M-BF16-00001-of-00002 M-BF16-00002-of-00002 mmproj-M-F16 mmproj-M-Q8_0; do "
          "echo GGUF$f >$f.gguf; done; echo '{}' >config.json", root);
    snprintf(path, sizeof path, "%s/" REPO "/model.safetensors", root);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, WEIGHTS, f), WEIGHTS);
    assert_int_equal(fclose(f), 0);
    free(data);
    snprintf(path, sizeof path, "sha256sum <'%s/" REPO "/model.safetensors'", root);
    f = popen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%64s", weights_sha), 1);
    pclose(f);
}

/* ---------------------------------------------------------------- layout and choice */

static void expect_link(const char *name, const char *target)
{
    char got[400] = "";
    assert_true(readlink(in_cache(name), got, sizeof got - 1) > 0);
    assert_string_equal(got, target);
}

static void layout_of_the_cache(void **state)
{
    char want[600], *ref;
    const struct hub_request *q;
    (void)state;
    const char *cache = new_cache();
    struct run r = pull(REPO);
    expect_status(&r, 0);
    snprintf(want, sizeof want, "%s/models--org--model/snapshots/" HUB_COMMIT "\n", cache);
    assert_string_equal(r.out, want);
    expect_contains(r.err, "model.safetensors  300 KB");
    run_free(&r);
    snprintf(want, sizeof want, "../../blobs/%s", weights_sha);
    expect_link(SNAPSHOT "model.safetensors", want);
    expect_link(SNAPSHOT "config.json", "../../blobs/0967ef424bce6791893e9a57bb952f80fd536e93"); /* git hash-object of "{}\n" */
    expect_link(SNAPSHOT "nested/deep/extra.json", "../../../../blobs/ce013625030ba8dba906f756967f9e9ca394464a");
    expect_link(SNAPSHOT "empty.txt", "../../blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    expect_model();
    expect_same(SNAPSHOT "nested/deep/extra.json", REPO "/nested/deep/extra.json");
    ref = read_whole(in_cache("models--org--model/refs/main"), NULL);
    assert_string_equal(ref, HUB_COMMIT);
    free(ref);
    assert_true(exists("CACHEDIR.TAG"));
    assert_false(exists(SNAPSHOT "weights.bin"));
    assert_false(exists(SNAPSHOT "picture.png"));
    assert_false(exists(SNAPSHOT "onnx"));
    assert_false(exists(SNAPSHOT "original"));
    hub_forget(hub);
    r = pull(REPO); /* everything is there: the list is all that is asked for */
    expect_status(&r, 0);
    expect_contains(r.err, "all 4 files are present");
    run_free(&r);
    assert_int_equal(hub_requests(hub, &q), 1);
    shell("rm '%s'", in_cache(SNAPSHOT "config.json")); /* only the link is gone */
    expect_pull(REPO);
    assert_true(exists(SNAPSHOT "config.json"));
    assert_int_equal(asked("config.json", 0, NULL), 0);
    r = pull_how(NULL, REPO, "--force", NULL);
    expect_status(&r, 0);
    run_free(&r);
    assert_int_equal(asked("model.safetensors", 1, NULL), 1);
    expect_model();
}

static void chosen_files(void **state)
{
    (void)state;
    new_cache();
    struct run r = RUN(NULL, "pull", REPO, "--include", "*.bin", "--include", "onnx/", "--exclude", "*.json");
    expect_status(&r, 0);
    run_free(&r);
    assert_true(exists(SNAPSHOT "weights.bin"));
    assert_true(exists(SNAPSHOT "onnx/model.onnx"));
    assert_false(exists(SNAPSHOT "onnx/config.json"));
    assert_false(exists(SNAPSHOT "config.json"));
    r = RUN(NULL, "pull", REPO, "--include", "*.xyz");
    expect_status(&r, 4);
    run_free(&r);
    expect_pull("org/gguf:q8_0");
    assert_true(exists("models--org--gguf/snapshots/" HUB_COMMIT "/M-Q8_0.gguf"));
    assert_true(exists("models--org--gguf/snapshots/" HUB_COMMIT "/mmproj-M-F16.gguf"));
    assert_true(exists("models--org--gguf/snapshots/" HUB_COMMIT "/config.json"));
    assert_false(exists("models--org--gguf/snapshots/" HUB_COMMIT "/M-Q4_K_M.gguf"));
    assert_false(exists("models--org--gguf/snapshots/" HUB_COMMIT "/mmproj-M-Q8_0.gguf"));
    expect_pull("org/gguf:BF16");
    assert_true(exists("models--org--gguf/snapshots/" HUB_COMMIT "/M-BF16-00002-of-00002.gguf"));
    expect_pull("org/gguf"); /* Q4_K_M when nobody says */
    assert_true(exists("models--org--gguf/snapshots/" HUB_COMMIT "/M-Q4_K_M.gguf"));
    expect_refusal("org/gguf:Q2_K", 4, "M-Q8_0.gguf");
}

static void revisions(void **state)
{
    char *ref;
    (void)state;
    new_cache();
    struct run r = pull_how(NULL, REPO, "--revision", "refs/pr/1");
    expect_status(&r, 0);
    run_free(&r);
    ref = read_whole(in_cache("models--org--model/refs/refs/pr/1"), NULL);
    assert_string_equal(ref, HUB_COMMIT);
    free(ref);
    expect_pull(REPO "@v1.0");
    assert_true(exists("models--org--model/refs/v1.0"));
    expect_pull(REPO "@" HUB_COMMIT);
    assert_false(exists("models--org--model/refs/" HUB_COMMIT)); /* a commit needs no reference */
    expect_refusal(REPO "@nope", 4, "has no revision \"nope\"");
    expect_refusal(REPO "@../../x", 2, "behind \"@\"");
    expect_refusal("org/model/../../etc", 2, "cannot be a file");
    expect_refusal("org--model/x", 2, "no name of a repository");
}

static void output_as_json(void **state)
{
    (void)state;
    new_cache();
    struct run r = pull_how(NULL, REPO, "--json", NULL);
    expect_status(&r, 0);
    json_t *o = json_loads(r.out, 0, NULL), *f;
    assert_non_null(o);
    assert_int_equal(json_array_size(json_object_get(o, "files")), 4);
    assert_int_equal(json_integer_value(json_object_get(o, "fetched_bytes")), WEIGHTS + 9);
    f = json_array_get(json_object_get(o, "files"), 0);
    assert_string_equal(json_string_value(json_object_get(f, "status")), "fetched");
    json_decref(o);
    run_free(&r);
}

/* ---------------------------------------------------------------- the token */

static void token_stays_at_home(void **state)
{
    const struct hub_request *q;
    int with = 0, store = 0;
    (void)state;
    new_cache();
    struct how how = {.env = {"HF_TOKEN= hf_secret \n"}};
    struct run r = pull_how(&how, REPO, NULL, NULL);
    expect_status(&r, 0);
    assert_null(strstr(r.err, "hf_secret"));
    run_free(&r);
    size_t n = hub_requests(hub, &q);
    for (size_t i = 0; i < n; i++) {
        store += q[i].store;
        with += strcmp(q[i].authorization, "Bearer hf_secret") == 0;
        assert_string_equal(q[i].authorization, q[i].store ? "" : "Bearer hf_secret");
    }
    assert_true(store > 0 && with > 0);
}

static void token_from_files(void **state)
{
    const struct hub_request *q;
    char path[500], variable[600];
    (void)state;
    new_cache();
    snprintf(path, sizeof path, "%s/hf_home/token", scratch());
    shell("mkdir -p '%s/hf_home'", scratch());
    write_text(path, "hf_of_file\n");
    expect_pull(REPO);
    assert_true(hub_requests(hub, &q) > 0);
    assert_string_equal(q[0].authorization, "Bearer hf_of_file");
    new_cache();
    struct how forbidden = {.env = {"HF_HUB_DISABLE_IMPLICIT_TOKEN=1"}};
    struct run r = pull_how(&forbidden, REPO, NULL, NULL);
    expect_status(&r, 0);
    run_free(&r);
    assert_true(hub_requests(hub, &q) > 0);
    assert_string_equal(q[0].authorization, "");
    unlink(path);
    snprintf(path, sizeof path, "%s/elsewhere", scratch());
    snprintf(variable, sizeof variable, "HF_TOKEN_PATH=%s", path);
    write_text(path, "two words");
    struct how bad = {.env = {variable}};
    r = pull_how(&bad, REPO, NULL, NULL);
    expect_status(&r, 2);
    expect_contains(r.err, "is not a token");
    assert_null(strstr(r.err, "two words"));
    run_free(&r);
}

/* ---------------------------------------------------------------- broken links, wrong servers */

static void rule(struct hub_rule r) { hub_set_rule(hub, 0, &r); }

static void cut_connection(void **state)
{
    char range[64];
    (void)state;
    new_cache();
    rule((struct hub_rule){.repo = REPO, .file = "model.safetensors", .fault = HUB_CUT, .times = 2, .store_only = 1});
    expect_pull(REPO);
    assert_int_equal(asked("model.safetensors", 1, range), 3);
    assert_string_equal(range, "bytes=225000-"); /* half, then half of the rest */
    expect_model();
    new_cache();
    rule((struct hub_rule){.fault = HUB_CUT, .repo = REPO, .times = 1}); /* the list of files itself: read anew */
    expect_pull(REPO);
}

static void takes_up_where_it_ended(void **state)
{
    char range[64];
    (void)state;
    new_cache();
    leave_part(100000, 0);
    struct run r = pull(REPO);
    expect_status(&r, 0);
    expect_contains(r.err, "resumed");
    run_free(&r);
    assert_int_equal(asked("model.safetensors", 1, range), 1);
    assert_string_equal(range, "bytes=100000-");
    expect_model();
    assert_int_not_equal(access(part_path(), F_OK), 0);
    new_cache();
    leave_part(WEIGHTS, 0); /* all there, only not yet checked and named */
    expect_pull(REPO);
    assert_int_equal(asked("model.safetensors", 1, NULL), 0);
    expect_model();
    new_cache();
    leave_part(100000, 1); /* what is there proves wrong: once more from the beginning */
    expect_pull(REPO);
    assert_int_equal(asked("model.safetensors", 1, range), 2);
    assert_string_equal(range, "");
    expect_model();
    new_cache();
    leave_part(WEIGHTS, 0);
    shell("echo more >>'%s'", part_path()); /* longer than the file can be */
    expect_pull(REPO);
    expect_model();
}

static void servers_without_ranges(void **state)
{
    (void)state;
    new_cache();
    leave_part(100000, 0);
    rule((struct hub_rule){.repo = REPO, .file = "model.safetensors", .fault = HUB_IGNORE_RANGE, .times = -1, .store_only = 1});
    expect_pull(REPO);
    expect_model();
    new_cache();
    leave_part(100000, 0);
    rule((struct hub_rule){.repo = REPO, .file = "model.safetensors", .fault = HUB_WRONG_RANGE, .times = 1, .store_only = 1});
    expect_pull(REPO);
    expect_model();
}

/* Nothing of a file that proves wrong stays. */
static void wrong_content(void **state)
{
    (void)state;
    new_cache();
    rule((struct hub_rule){.repo = REPO, .file = "model.safetensors", .fault = HUB_FLIP, .times = -1, .store_only = 1});
    expect_refusal(REPO, 1, "SHA-256");
    assert_false(exists(SNAPSHOT "model.safetensors"));
    assert_int_not_equal(access(part_path(), F_OK), 0);
    assert_false(exists("models--org--model/refs/main"));
    new_cache();
    rule((struct hub_rule){.repo = REPO, .file = "config.json", .fault = HUB_FLIP, .times = -1});
    expect_refusal(REPO, 1, "git hash");
    assert_false(exists(SNAPSHOT "config.json"));
    new_cache();
    rule((struct hub_rule){.repo = REPO, .file = "model.safetensors", .fault = HUB_LONGER, .times = -1, .store_only = 1});
    expect_refusal(REPO, 1, "sends 300010 bytes, expected 300000");
    new_cache();
    rule((struct hub_rule){.repo = REPO, .file = "model.safetensors", .fault = HUB_ENDLESS, .times = -1, .store_only = 1});
    expect_refusal(REPO, 1, "more than the 300000 bytes");
    assert_false(exists(SNAPSHOT "model.safetensors"));
}

static void silence_ends_a_try(void **state)
{
    (void)state;
    new_cache();
    rule((struct hub_rule){.repo = REPO, .file = "model.safetensors", .fault = HUB_STALL, .times = 1, .store_only = 1});
    double start = seconds();
    expect_pull(REPO); /* HF_HUB_DOWNLOAD_TIMEOUT=1 */
    assert_true(seconds() - start < 20);
    assert_int_equal(asked("model.safetensors", 1, NULL), 2);
    expect_model();
}

static void passing_failures(void **state)
{
    (void)state;
    new_cache();
    const struct hub_rule three[] = {
        {.repo = REPO, .fault = HUB_STATUS, .status = 503, .times = 1},
        {.repo = REPO, .file = "config.json", .fault = HUB_STATUS, .status = 500, .times = 1},
        {.repo = REPO, .file = "model.safetensors", .fault = HUB_STATUS, .status = 403, .times = 1, .store_only = 1}};
    for (size_t i = 0; i < 3; i++)
        hub_set_rule(hub, i, &three[i]);
    expect_pull(REPO); /* the store's 403: its address ran out, the hub gives a new one */
    assert_int_equal(asked("model.safetensors", 0, NULL), 2);
    expect_model();
    new_cache();
    rule((struct hub_rule){.repo = REPO, .fault = HUB_STATUS, .status = 429, .times = 1, .headers = "Retry-After: 2\r\n"});
    double start = seconds();
    expect_pull(REPO);
    assert_true(seconds() - start >= 2);
    new_cache();
    rule((struct hub_rule){.repo = REPO, .fault = HUB_STATUS, .status = 429, .times = -1, .headers = "RateLimit: \"api\";r=0;t=3600\r\n"});
    expect_refusal(REPO, 1, "wait 60 min");
}

static void refusals(void **state)
{
    (void)state;
    new_cache();
    expect_refusal("org/none", 4, "not found, or private (status 401)");
    expect_refusal("org/none", 4, "hf_home/token");
    struct how how = {.env = {"HF_TOKEN=hf_x"}};
    struct run r = pull_how(&how, "org/none", NULL, NULL);
    expect_status(&r, 4);
    expect_contains(r.err, "there is no such repository");
    run_free(&r);
    rule((struct hub_rule){.repo = REPO, .fault = HUB_STATUS, .status = 403, .times = -1, .headers = "X-Error-Code: GatedRepo\r\n"});
    expect_refusal(REPO, 1, "accept the conditions at http://127.0.0.1");
    rule((struct hub_rule){.repo = REPO, .fault = HUB_STATUS, .status = 401, .times = -1});
    r = pull_how(&how, REPO, NULL, NULL);
    expect_status(&r, 1);
    expect_contains(r.err, "the token is not accepted");
    run_free(&r);
    rule((struct hub_rule){.repo = REPO, .file = "config.json", .fault = HUB_STATUS, .status = 404, .times = -1});
    expect_refusal(REPO, 4, "config.json: the server has no such file");
    rule((struct hub_rule){.repo = REPO, .fault = HUB_STATUS, .status = 418, .times = -1,
                           .headers = "X-Error-Message: tea \033[31m only\r\n"});
    expect_refusal(REPO, 1, "status 418: tea [31m only");
    struct how offline = {.env = {"HF_HUB_OFFLINE=1"}};
    hub_forget(hub);
    r = pull_how(&offline, REPO, NULL, NULL);
    expect_status(&r, 1);
    expect_contains(r.err, "HF_HUB_OFFLINE");
    run_free(&r);
    const struct hub_request *q;
    assert_int_equal(hub_requests(hub, &q), 0);
    struct how nowhere = {.env = {"HF_ENDPOINT=ftp://127.0.0.1"}};
    r = pull_how(&nowhere, REPO, NULL, NULL);
    expect_status(&r, 2);
    expect_contains(r.err, "HF_ENDPOINT");
    run_free(&r);
}

static void redirects(void **state)
{
    static char loop[200]; /* the server reads it */
    (void)state;
    new_cache();
    rule((struct hub_rule){.repo = REPO, .file = "config.json", .fault = HUB_STATUS, .status = 302, .times = -1,
                           .headers = "Location: file:///etc/passwd\r\n"});
    expect_refusal(REPO, 1, "expected https");
    snprintf(loop, sizeof loop, "Location: /" REPO "/resolve/" HUB_COMMIT "/config.json\r\n");
    rule((struct hub_rule){.repo = REPO, .file = "config.json", .fault = HUB_STATUS, .status = 302, .times = -1, .headers = loop});
    expect_refusal(REPO, 1, "redirects");
    assert_false(exists(SNAPSHOT "config.json"));
}

static void hostile_lists(void **state)
{
#define LIST(siblings) "{\"sha\": \"" HUB_COMMIT "\", \"siblings\": [" siblings "]}"
    static const char *const lists[] = {
        LIST("{\"rfilename\": \"../../x.json\"}"),
        LIST("{\"rfilename\": \"/etc/x.json\"}"),
        LIST("{\"rfilename\": \"a//x.json\"}"),
        LIST("{\"rfilename\": \"a/./x.json\"}"),
        LIST("{\"rfilename\": \"a\\\\..\\\\x.json\"}"),
        LIST("{\"rfilename\": \"a\\u0000/x.json\"}"),
        LIST("{\"rfilename\": \"\"}"),
        LIST("{\"rfilename\": 7}"),
        LIST("{\"rfilename\": \"x.json\", \"size\": -1}"),
        LIST("{\"rfilename\": \"x.json\", \"size\": 9223372036854775807}"),
        LIST("{\"rfilename\": \"x.json\", \"size\": 1.5}"),
        LIST("{\"rfilename\": \"x.json\", \"lfs\": {\"sha256\": \"../../../x\"}}"),
        LIST("{\"rfilename\": \"x.json\"}, {\"rfilename\": \"x.json\"}"),
        "{\"sha\": \"../../../../x\", \"siblings\": []}",
        "{\"sha\": \"" HUB_COMMIT "\"}",
        "[]", "", "<html>"};
    (void)state;
    new_cache();
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        hub_set_listing(hub, REPO, lists[i]);
        struct run r = pull(REPO);
        if (r.status != 1)
            fail_msg("status %d for %s; %s", r.status, lists[i], r.err);
        run_free(&r);
        assert_false(exists("models--org--model")); /* nothing was made */
    }
    hub_set_listing(hub, REPO, LIST("{\"rfilename\": \"x.json\", \"size\": 3}"));
    struct hub_rule x = {.repo = REPO, .file = "x.json", .fault = HUB_STATUS, .status = 200, .times = -1,
                         .headers = "X-Linked-Etag: \"../../../x\"\r\nX-Linked-Size: 3\r\n"};
    rule(x);
    expect_refusal(REPO, 1, "ETag");
    x.headers = "X-Linked-Etag: \"abc\"\r\nX-Linked-Size: 4\r\n";
    rule(x);
    expect_refusal(REPO, 1, "expected 3 as listed");
    x.headers = "X-Repo-Commit: 1123456789abcdef0123456789abcdef01234567\r\nX-Linked-Etag: \"abc\"\r\n";
    rule(x);
    expect_refusal(REPO, 1, "belongs to commit 1123");
    hub_set_listing(hub, REPO, LIST("{\"rfilename\": \"x.json\", \"size\": 1125899906842624}"));
    x.headers = "X-Linked-Etag: \"abc\"\r\nX-Linked-Size: 1125899906842624\r\n";
    rule(x);
    expect_refusal(REPO, 1, "are free in"); /* a million gigabytes */
    hub_set_listing(hub, NULL, NULL);
#undef LIST
}

/* The disk does not take it: the limit on file sizes stands for a full one. */
static void write_failure(void **state)
{
    struct rlimit old, small = {.rlim_cur = 100000};
    (void)state;
    new_cache();
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct run r = pull(REPO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    expect_status(&r, 1);
    expect_contains(r.err, "cannot write");
    run_free(&r);
    assert_false(exists(SNAPSHOT "model.safetensors"));
    assert_int_equal(asked("model.safetensors", 1, NULL), 1); /* trying again would not make room */
    expect_pull(REPO); /* what was written is taken up */
    expect_model();
}

static void *pull_thread(void *ud)
{
    struct run *r = ud;
    *r = pull(REPO);
    return NULL;
}

static void two_at_once(void **state)
{
    pthread_t thread;
    struct run other;
    (void)state;
    new_cache();
    scratch();
    hub_set_rate(hub, 300000);
    assert_int_equal(pthread_create(&thread, NULL, pull_thread, &other), 0);
    struct run r = pull(REPO);
    pthread_join(thread, NULL);
    hub_set_rate(hub, 0);
    expect_status(&r, 0);
    expect_status(&other, 0);
    assert_int_equal(asked("model.safetensors", 1, NULL), 1);
    expect_model();
    run_free(&r);
    run_free(&other);
}

static void interrupted(void **state)
{
    struct pty p;
    struct stat st;
    (void)state;
    new_cache();
    hub_set_rate(hub, 100000);
    pty_start(&p, NULL, 0, (const char *const[]){"pull", REPO, NULL});
    pty_expect(&p, "downloading");
    pty_expect(&p, "KB/s");
    pty_send(&p, "\003");
    pty_expect(&p, "what is there is kept");
    assert_int_equal(pty_end(&p), 130);
    free(p.seen);
    hub_set_rate(hub, 0);
    assert_int_equal(stat(part_path(), &st), 0);
    assert_true(st.st_size > 0 && st.st_size < WEIGHTS);
    hub_forget(hub);
    char range[64];
    expect_pull(REPO);
    assert_int_equal(asked("model.safetensors", 1, range), 1);
    assert_int_equal(strncmp(range, "bytes=", 6), 0);
    expect_model();
}

/* ---------------------------------------------------------------- models by name */

static void runs_by_name(void **state)
{
    (void)state;
    shell("mkdir -p '%s/org' && cp -r " MODEL " '%s/org/tiny'", root, root);
    new_cache();
    struct run r = RUN(NULL, "run", "org/tiny", "-p", example_prompt("three-shapes", 0), "-q");
    expect_status(&r, 4);
    expect_contains(r.err, "qvl pull org/tiny");
    expect_contains(r.err, getenv("HF_HUB_CACHE"));
    run_free(&r);
    expect_pull("org/tiny");
    r = RUN(NULL, "run", "org/tiny", "-p", example_prompt("three-shapes", 0), "--image", EXAMPLES "three-shapes.png", "--greedy", "-q");
    expect_status(&r, 0);
    expect_contains(r.out, example_answer("three-shapes", 0));
    run_free(&r);
    r = RUN(NULL, "inspect", "org/tiny", "--json", "--revision", "0123456");
    expect_status(&r, 0);
    expect_contains(r.out, "\"name\": \"tiny\"");
    run_free(&r);
    struct how named = {.env = {"QVL_MODEL=org/tiny", "HF_HUB_OFFLINE=1"}, .in = "Hello"};
    r = RUN(&named, "tokenize");
    expect_status(&r, 0);
    run_free(&r);
    r = RUN(NULL, "verify", "org/tiny", "tests/golden/tiny/one.safetensors", "-q");
    expect_status(&r, 0);
    run_free(&r);
    r = RUN(NULL, "run", MODEL, "-p", "Hi", "--revision", "main");
    expect_status(&r, 2);
    run_free(&r);
    shell("rm '%s'", in_cache("models--org--tiny/snapshots/" HUB_COMMIT "/model.safetensors"));
    r = RUN(NULL, "run", "org/tiny", "-p", "Hi", "-q");
    expect_status(&r, 4);
    expect_contains(r.err, "model.safetensors is missing in");
    expect_contains(r.err, "qvl pull org/tiny");
    run_free(&r);
    r = RUN(&named, "tokenize"); /* needs no weights */
    expect_status(&r, 0);
    run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_of_the_cache),    cmocka_unit_test(chosen_files),     cmocka_unit_test(revisions),
        cmocka_unit_test(output_as_json),         cmocka_unit_test(token_stays_at_home), cmocka_unit_test(token_from_files),
        cmocka_unit_test(cut_connection),         cmocka_unit_test(takes_up_where_it_ended), cmocka_unit_test(servers_without_ranges),
        cmocka_unit_test(wrong_content),          cmocka_unit_test(silence_ends_a_try), cmocka_unit_test(passing_failures),
        cmocka_unit_test(refusals),               cmocka_unit_test(redirects),        cmocka_unit_test(hostile_lists),
        cmocka_unit_test(write_failure),          cmocka_unit_test(two_at_once),      cmocka_unit_test(interrupted),
        cmocka_unit_test(runs_by_name),
    };
    static const char *const cleared[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
                                          "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DISABLE_SYMLINKS", "http_proxy", "HTTP_PROXY",
                                          "all_proxy", "ALL_PROXY"};
    char home[500];
    for (size_t i = 0; i < sizeof cleared / sizeof *cleared; i++)
        unsetenv(cleared[i]);
    make_repositories();
    hub = hub_start(root);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", hub_port(hub));
    snprintf(home, sizeof home, "%s/hf_home", scratch());
    setenv("HF_ENDPOINT", endpoint, 1);
    setenv("HF_HOME", home, 1);
    setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1", 1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    hub_stop(hub);
    return failed;
}
