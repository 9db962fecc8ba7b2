/* Names of models and where they lead: caches built by hand as the huggingface_hub client and Ollama lay them out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "hub/hub.h"

#define C1 "1111111111111111111111111111111111111111"
#define C2 "1122222222222222222222222222222222222222"
#define C3 "1122333333333333333333333333333333333333"

static char home[300];

static void shell(const char *command)
{
    char all[4096];
    snprintf(all, sizeof all, "cd '%s' && %s", home, command);
    if (system(all) != 0)
        fail_msg("failed: %s", all);
}

static void names(void **state)
{
    static const struct {
        const char *text, *repo, *rev, *file, *quant;
    } good[] = {
        {"Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-4B-Instruct", "", "", ""},
        {"gpt2", "gpt2", "", "", ""},
        {"a/b@main", "a/b", "main", "", ""},
        {"a/b@refs/pr/1", "a/b", "refs/pr/1", "", ""},
        {"a/b:Q4_K_M", "a/b", "", "", "Q4_K_M"},
        {"a/b:Q4_K_M@v1.0", "a/b", "v1.0", "", "Q4_K_M"},
        {"a/b@v1.0:Q4_K_M", "a/b", "v1.0", "", "Q4_K_M"},
        {"a/b/c.gguf", "a/b", "", "c.gguf", ""},
        {"a/b/c/d/@x", "a/b", "x", "c/d", ""},
        {"hf.co/a/b:Q8_0", "a/b", "", "", "Q8_0"},
        {"https://huggingface.co/a/b", "a/b", "", "", ""}};
    static const char *const bad[] = {"",       "/a/b",      "a/",     "/",         "../a",       "a/..",    "a--b/c", "a/b..c", "-a/b", ".a/b",
                                      "a/b-",   "a b/c",     "a/b@",   "a/b:",      "a/b@../c",   "a/b@-x",  "a/b@x//y", "a/b@/x",
                                      "a/b@x.", "a/b/../c",  "a/b//c", "a/b:c/d",   "a/b:..",     "a/b@a@b", "a/b@x~1",  "a\n/b",
                                      "a/b@x/.y", "a/b@x.lock", "https://", "https://huggingface.co"};
    struct qvl_hub_name n;
    qvl_err err;
    (void)state;
    for (size_t i = 0; i < QVL_COUNT(good); i++) {
        assert_int_equal(qvl_hub_name_parse(&n, good[i].text, NULL, &err), 0);
        assert_string_equal(n.repo, good[i].repo);
        assert_string_equal(n.rev, good[i].rev);
        assert_string_equal(n.file, good[i].file);
        assert_string_equal(n.quant, good[i].quant);
    }
    for (size_t i = 0; i < QVL_COUNT(bad); i++)
        if (qvl_hub_name_parse(&n, bad[i], NULL, &err) != QVL_E_ARG)
            fail_msg("\"%s\" is taken for a name", bad[i]);
    assert_int_equal(qvl_hub_name_parse(&n, "a/b", "v2", &err), 0);
    assert_string_equal(n.rev, "v2");
    assert_int_equal(qvl_hub_name_parse(&n, "a/b@v1", "v2", &err), QVL_E_ARG);
    char *text = calloc(1, 5000);
    assert_non_null(text);
    memset(text, 'a', 4999);
    for (int at = 1; at < 4; at++) { /* every part too long */
        memcpy(text, at == 1 ? "a/b@" : at == 2 ? "a/b:" : "a/b/", 4);
        assert_int_equal(qvl_hub_name_parse(&n, text, NULL, &err), QVL_E_ARG);
    }
    free(text);
}

static void quantisations(void **state)
{
    static const char *const paths[] = {"M-BF16.gguf",   "M-Q4_K_M.gguf",     "M-Q4_K_S.gguf", "M-UD-Q4_K_M.gguf", "README.md", "big/M-Q8_0-00002-of-00002.gguf",
                                        "big/M-Q8_0-00001-of-00002.gguf", "mmproj-BF16.gguf",  "mmproj-F16.gguf", "M.imatrix.gguf"};
    static const struct {
        const char *quant;
        int text;
        unsigned marks; /* bit i: paths[i] is chosen */
    } good[] = {{"", 1, 1u << 1 | 1u << 8},          {"q4_k_m", 1, 1u << 1 | 1u << 8}, {"BF16", 0, 1u << 0 | 1u << 8}, {"UD-Q4_K_M", 3, 1u << 3 | 1u << 8},
                {"Q8_0", 6, 3u << 5 | 1u << 8},      {"M-Q4_K_S.gguf", 2, 1u << 2 | 1u << 8}, {"K_S", 2, 1u << 2 | 1u << 8}};
    unsigned char chosen[QVL_COUNT(paths)];
    int text, mmproj;
    qvl_err err;
    (void)state;
    for (size_t i = 0; i < QVL_COUNT(good); i++) {
        assert_int_equal(qvl_hub_gguf_choose(paths, QVL_COUNT(paths), good[i].quant, chosen, &text, &mmproj, "a/b", &err), 0);
        assert_int_equal(text, good[i].text);
        assert_int_equal(mmproj, 8);
        for (size_t k = 0; k < QVL_COUNT(paths); k++)
            assert_int_equal(chosen[k], good[i].marks >> k & 1);
    }
    assert_int_equal(qvl_hub_gguf_choose(paths, QVL_COUNT(paths), "Q2_K", chosen, &text, &mmproj, "a/b", &err), QVL_E_NOTFOUND);
    assert_non_null(strstr(err.msg, "M-Q4_K_S.gguf"));
    const char *const two[] = {"a-Q5_0.gguf", "b-Q6_K.gguf"}, *const none[] = {"mmproj-F16.gguf"};
    assert_int_equal(qvl_hub_gguf_choose(two, 2, "", chosen, &text, &mmproj, "a/b", &err), QVL_E_ARG);
    assert_int_equal(qvl_hub_gguf_choose(two, 1, "", chosen, &text, &mmproj, "a/b", &err), 0);
    assert_int_equal(mmproj, -1);
    assert_int_equal(qvl_hub_gguf_choose(none, 1, "", chosen, &text, &mmproj, "a/b", &err), QVL_E_NOTFOUND);
}

/* Finds `text`, and expects the path to end so. */
static void expect(const char *text, const char *revision, const char *end)
{
    struct qvl_hub_found f;
    qvl_err err = {0};
    if (qvl_hub_resolve(&f, text, revision, 1, &err) != 0)
        fail_msg("%s: %s", text, err.msg);
    size_t n = strlen(f.path), m = strlen(end);
    if (n < m || strcmp(f.path + n - m, end) != 0)
        fail_msg("%s leads to %s, expected ...%s", text, f.path, end);
    qvl_hub_found_free(&f);
}

static void refuse(const char *text, const char *revision, int code, const char *part)
{
    struct qvl_hub_found f;
    qvl_err err = {0};
    assert_int_equal(qvl_hub_resolve(&f, text, revision, 1, &err), code);
    assert_null(f.path);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\" is not in: %s", part, err.msg);
}

/* Leaves what the next two tests look into. */
static void in_hub_cache(void **state)
{
    (void)state;
    shell("mkdir -p hf/hub/models--org--m/refs/refs/pr hf/hub/models--org--m/snapshots/" C1 " hf/hub/models--org--m/snapshots/" C2
          " hf/hub/models--org--m/blobs && cd hf/hub/models--org--m && printf " C1 " >refs/main && printf '" C2 "\\n' >refs/refs/pr/1 && "
          "printf '../x' >refs/bad && for c in " C1 " " C2 "; do echo x >snapshots/$c/config.json; echo x >snapshots/$c/tokenizer.json; done && "
          "echo x >blobs/b1 && ln -s ../../blobs/b1 snapshots/" C1 "/model.safetensors && mkdir snapshots/" C1 "/sub");
    expect("org/m", NULL, "/hf/hub/models--org--m/snapshots/" C1);
    expect("org/m", "main", "/snapshots/" C1);
    refuse("org/m@111", NULL, QVL_E_NOTFOUND, "revision 111 is not in"); /* too short for the beginning of a commit */
}

static void commits_and_damage(void **state)
{
    (void)state;
    expect("org/m@1111", NULL, "/snapshots/" C1);
    expect("org/m@" C1, NULL, "/snapshots/" C1);
    expect("org/m/sub", NULL, "/snapshots/" C1 "/sub");
    expect("org/m/config.json", NULL, "/snapshots/" C1 "/config.json");
    refuse("org/m@2222", NULL, QVL_E_NOTFOUND, "qvl pull org/m@2222");
    refuse("org/m@bad", NULL, QVL_E_FORMAT, "refs/bad");
    refuse("org/m@v9", NULL, QVL_E_NOTFOUND, "revision v9 is not in");
    refuse("org/m@refs/pr/1", NULL, QVL_E_NOTFOUND, "model.safetensors is missing");
    refuse("org/m/nope.gguf", NULL, QVL_E_NOTFOUND, "nope.gguf is missing");
    refuse("org/other", NULL, QVL_E_NOTFOUND, "qvl pull org/other");
    refuse("org/other", NULL, QVL_E_NOTFOUND, "/hf/hub");
    refuse("/nonexistent/x", NULL, QVL_E_NOTFOUND, "/nonexistent/x: no such model");
    refuse("org/m@../x", NULL, QVL_E_ARG, "behind \"@\"");
    shell("printf '{\"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\", \"b\": \"model-00002-of-00002.safetensors\"}}' "
          ">hf/hub/models--org--m/snapshots/" C2 "/model.safetensors.index.json && "
          "echo x >hf/hub/models--org--m/snapshots/" C2 "/model-00001-of-00002.safetensors");
    refuse("org/m@" C2, NULL, QVL_E_NOTFOUND, "model-00002-of-00002.safetensors is missing");
    refuse("org/m@" C2, NULL, QVL_E_NOTFOUND, "qvl pull org/m@" C2);
    shell("mkdir hf/hub/models--org--m/snapshots/" C3);
    refuse("org/m@1122", NULL, QVL_E_ARG, "several snapshots begin with 1122");
    shell("rm hf/hub/models--org--m/blobs/b1"); /* the link leads nowhere */
    refuse("org/m", NULL, QVL_E_NOTFOUND, "model.safetensors is missing");
    shell("echo x >hf/hub/models--org--m/blobs/b1 && rm hf/hub/models--org--m/snapshots/" C1 "/tokenizer.json");
    refuse("org/m", NULL, QVL_E_NOTFOUND, "tokenizer.json is missing");
    shell("echo x >hf/hub/models--org--m/snapshots/" C1 "/tokenizer.json");
}

static void folders_of_the_cache(void **state)
{
    char path[500];
    (void)state;
    snprintf(path, sizeof path, "%s/hf/hub/models--org--m", home);
    expect(path, NULL, "/snapshots/" C1);
    expect(path, "1111", "/snapshots/" C1);
    snprintf(path, sizeof path, "%s/hf/hub", home);
    expect(path, NULL, "/hf/hub");
    refuse(path, "main", QVL_E_ARG, "is a path");
}

static void gguf_repository(void **state)
{
    struct qvl_hub_found f;
    qvl_err err;
    (void)state;
    shell("mkdir -p hf/hub/models--org--g/refs hf/hub/models--org--g/snapshots/" C1 "/big && cd hf/hub/models--org--g && printf " C1 " >refs/main && "
          "cd snapshots/" C1 " && for f in M-Q8_0.gguf M-Q4_K_M.gguf mmproj-M-F16.gguf big/M-F32-00001-of-00002.gguf; do echo x >$f; done && "
          "ln -s nowhere big/M-F32-00002-of-00002.gguf");
    assert_int_equal(qvl_hub_resolve(&f, "org/g", NULL, 1, &err), 0);
    assert_non_null(strstr(f.path, "/M-Q4_K_M.gguf"));
    assert_non_null(strstr(f.mmproj, "/mmproj-M-F16.gguf"));
    assert_string_equal(f.name, "g");
    qvl_hub_found_free(&f);
    expect("org/g:q8_0", NULL, "/M-Q8_0.gguf");
    expect("org/g/M-Q8_0.gguf", NULL, "/M-Q8_0.gguf");
    refuse("org/g:F32", NULL, QVL_E_NOTFOUND, "big/M-F32-00002-of-00002.gguf is missing");
    refuse("org/g:Q3_K", NULL, QVL_E_NOTFOUND, "no file is named Q3_K");
}

/* The variables, the more special first. */
static void environment(void **state)
{
    static const struct {
        const char *name, *value, *cache;
    } steps[] = {{"HOME", "/h", "/h/.cache/huggingface/hub"}, {"XDG_CACHE_HOME", "/x", "/x/huggingface/hub"}, {"HF_HOME", "~/hf", "/h/hf/hub"},
                 {"HUGGINGFACE_HUB_CACHE", "/old", "/old"},   {"HF_HUB_CACHE", "${HOME}/$XDG_CACHE_HOME$NONE", "/h//x$NONE"}};
    struct qvl_hub_env e;
    qvl_err err;
    char old_home[600], old_hf[600];
    (void)state;
    snprintf(old_home, sizeof old_home, "%s", getenv("HOME"));
    snprintf(old_hf, sizeof old_hf, "%s", getenv("HF_HOME"));
    unsetenv("HOME");
    unsetenv("HF_HOME");
    assert_int_equal(qvl_hub_env_read(&e, 1, &err), 0);
    assert_null(e.cache);
    assert_string_equal(e.endpoint, "https://huggingface.co");
    qvl_hub_env_free(&e);
    for (size_t i = 0; i < QVL_COUNT(steps); i++) {
        setenv(steps[i].name, steps[i].value, 1);
        assert_int_equal(qvl_hub_env_read(&e, 1, &err), 0);
        assert_string_equal(e.cache, steps[i].cache);
        assert_null(e.offline);
        qvl_hub_env_free(&e);
    }
    for (size_t i = 0; i < QVL_COUNT(steps); i++)
        unsetenv(steps[i].name);
    setenv("HF_ENDPOINT", "http://mirror//", 1);
    setenv("TRANSFORMERS_OFFLINE", "yes", 1);
    setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.5", 1);
    setenv("HF_HUB_ETAG_TIMEOUT", "many", 1);
    setenv("HUGGING_FACE_HUB_TOKEN", " hf_old\n", 1);
    assert_int_equal(qvl_hub_env_read(&e, 1, &err), 0);
    assert_string_equal(e.endpoint, "http://mirror");
    assert_string_equal(e.offline, "TRANSFORMERS_OFFLINE");
    assert_string_equal(e.token, "hf_old");
    assert_int_equal(e.download_s, 1);
    assert_int_equal(e.metadata_s, 10);
    qvl_hub_env_free(&e);
    setenv("HF_TOKEN", "hf_new", 1);
    assert_int_equal(qvl_hub_env_read(&e, 1, &err), 0);
    assert_string_equal(e.token, "hf_new");
    qvl_hub_env_free(&e);
    setenv("HF_TOKEN", "hf\r\nX-Header: 1", 1);
    assert_int_equal(qvl_hub_env_read(&e, 1, &err), QVL_E_ARG);
    assert_null(strstr(err.msg, "Header")); /* what might be a secret is not shown */
    assert_int_equal(qvl_hub_env_read(&e, 0, &err), 0);
    assert_null(e.token);
    qvl_hub_env_free(&e);
    static const char *const set[] = {"HF_ENDPOINT", "TRANSFORMERS_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT",
                                      "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN"};
    for (size_t i = 0; i < QVL_COUNT(set); i++)
        unsetenv(set[i]);
    setenv("HOME", old_home, 1);
    setenv("HF_HOME", old_hf, 1);
}

static void ollama(void **state)
{
#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define LAYER(type, hash, size) "{\"mediaType\": \"application/vnd.ollama.image." type "\", \"digest\": \"sha256:" hash "\", \"size\": " size "}"
    struct qvl_hub_found f;
    qvl_err err;
    char path[500];
    (void)state;
    shell("d=.ollama/models/manifests/registry.ollama.ai && mkdir -p $d/library/qwen3-vl $d/me/tuned .ollama/models/blobs && "
          "echo text >.ollama/models/blobs/sha256-" A64 " && echo eye >.ollama/models/blobs/sha256-" B64 " && "
          "echo '{\"layers\": [" LAYER("model", A64, "5") ", " LAYER("license", B64, "4") ", " LAYER("projector", B64, "4") "]}' "
          ">$d/library/qwen3-vl/4b && cp $d/library/qwen3-vl/4b $d/me/tuned/latest && "
          "echo '{\"layers\": [" LAYER("model", A64, "6") "]}' >$d/library/qwen3-vl/short && "
          "echo '{\"layers\": [" LAYER("model", "../x", "6") "]}' >$d/library/qwen3-vl/hostile && "
          "echo '{\"layers\": [" LAYER("adapter", A64, "5") "]}' >$d/library/qwen3-vl/adapter && "
          "echo '{\"layers\": []}' >$d/library/qwen3-vl/empty");
    assert_int_equal(qvl_hub_resolve(&f, "qwen3-vl:4b", NULL, 1, &err), 0);
    assert_non_null(strstr(f.path, "/blobs/sha256-" A64));
    assert_non_null(strstr(f.mmproj, "/blobs/sha256-" B64));
    assert_string_equal(f.name, "qwen3-vl:4b");
    qvl_hub_found_free(&f);
    expect("me/tuned", NULL, "/blobs/sha256-" A64);
    expect("registry.ollama.ai/library/qwen3-vl:4b", NULL, "/blobs/sha256-" A64);
    snprintf(path, sizeof path, "%s/.ollama/models/manifests/registry.ollama.ai/library/qwen3-vl/4b", home);
    expect(path, NULL, "/blobs/sha256-" A64);
    refuse("qwen3-vl", NULL, QVL_E_NOTFOUND, ".ollama/models");
    refuse("qwen3-vl:short", NULL, QVL_E_FORMAT, "found 5 bytes, expected 6");
    refuse("qwen3-vl:hostile", NULL, QVL_E_FORMAT, "digest");
    refuse("qwen3-vl:adapter", NULL, QVL_E_UNSUPPORTED, "adapter");
    refuse("qwen3-vl:empty", NULL, QVL_E_FORMAT, "none is a model");
    shell("rm .ollama/models/blobs/sha256-" B64);
    refuse("qwen3-vl:4b", NULL, QVL_E_NOTFOUND, "is missing");
    snprintf(path, sizeof path, "%s/elsewhere", home);
    setenv("OLLAMA_MODELS", path, 1);
    refuse("me/tuned", NULL, QVL_E_NOTFOUND, "no such model");
    unsetenv("OLLAMA_MODELS");
}

static void public_function(void **state)
{
    char *path, *mmproj;
    qvl_err err;
    (void)state;
    assert_int_equal(qvl_hub_find("org/m", "main", &path, &mmproj, &err), 0);
    assert_non_null(strstr(path, C1));
    assert_null(mmproj);
    qvl_free(path);
    assert_int_equal(qvl_hub_find("org/none", NULL, &path, NULL, &err), QVL_E_NOTFOUND);
    assert_int_equal(qvl_hub_find(NULL, NULL, &path, NULL, &err), QVL_E_ARG);
    assert_int_equal(qvl_hub_find("org/none", NULL, &path, NULL, NULL), QVL_E_NOTFOUND);
}

int main(void)
{
    static const char *const cleared[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
                                          "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT",
                                          "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "OLLAMA_MODELS"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),         cmocka_unit_test(quantisations), cmocka_unit_test(in_hub_cache), cmocka_unit_test(commits_and_damage),
        cmocka_unit_test(folders_of_the_cache), cmocka_unit_test(gguf_repository), cmocka_unit_test(environment), cmocka_unit_test(ollama),
        cmocka_unit_test(public_function)};
    char hf[400];
    for (size_t i = 0; i < QVL_COUNT(cleared); i++)
        unsetenv(cleared[i]);
    snprintf(home, sizeof home, "%s/hub-XXXXXX", QVL_BINARY_DIR);
    if (!mkdtemp(home))
        return 1;
    snprintf(hf, sizeof hf, "%s/hf", home);
    setenv("HOME", home, 1);
    setenv("HF_HOME", hf, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
