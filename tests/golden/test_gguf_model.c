/* GGUF models through the public interface: how they are found, that all forms agree with each other and with the folder they
 * were made from, and what is refused. (test_golden.c compares their numbers with the reference at every level.) */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "qvl.h"

#define MODELS QVL_SOURCE_DIR "/tests/golden/models/"
#define KMIX_TEXT MODELS "gguf-kmix/Tiny-Q4_K_M.gguf"
#define KMIX_VISION MODELS "gguf-kmix/mmproj-Tiny-F16.gguf"

static char scratch[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/qvl-gguf-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static void clear(void)
{
    DIR *d = opendir(scratch);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%.255s", scratch, e->d_name);
        if (e->d_name[0] != '.')
            remove(path);
    }
    if (d)
        closedir(d);
}

static int tear_down(void **state)
{
    (void)state;
    clear();
    return rmdir(scratch);
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *p = malloc(1 << 20);
    assert_true(f && p);
    *n = fread(p, 1, 1 << 20, f);
    assert_true(*n > 0 && *n < 1 << 20);
    fclose(f);
    return p;
}

static void put_file(const char *name, const char *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void copy_file(const char *from, const char *name)
{
    size_t n;
    char *p = slurp(from, &n);
    put_file(name, p, n);
    free(p);
}

/* A copy in which the first occurrence of a pattern is replaced by as many bytes. */
static void patch_file(const char *from, const char *name, const char *find, const char *with, size_t len)
{
    size_t n, i = 0;
    char *p = slurp(from, &n);
    while (i + len <= n && memcmp(p + i, find, len) != 0)
        i++;
    assert_true(i + len <= n);
    memcpy(p + i, with, len);
    put_file(name, p, n);
    free(p);
}

static int open_model(qvl_model **m, const char *path, const char *mmproj, int no_weights, qvl_err *err)
{
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = path;
    p.mmproj = mmproj;
    p.no_weights = no_weights;
    p.precision = QVL_PRECISION_F32;
    *err = (qvl_err){0};
    return qvl_model_open(m, &p, err);
}

static int open_scratch(qvl_model **m, const char *name, const char *mmproj, qvl_err *err)
{
    char path[256], proj[256];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    snprintf(proj, sizeof proj, "%s/%s", scratch, mmproj ? mmproj : "");
    return open_model(m, path, mmproj ? proj : NULL, 0, err);
}

static void refused(const char *name, const char *mmproj, int code, const char *says)
{
    qvl_model *m = NULL;
    qvl_err err;
    int rc = open_scratch(&m, name, mmproj, &err);
    if (rc != code || !strstr(err.msg, says))
        print_message("%s: %d: %s (expected %d: %s)\n", name, rc, err.msg, code, says);
    assert_int_equal(rc, code);
    assert_non_null(strstr(err.msg, says));
    assert_null(m);
}

static void on_row(void *ud, const qvl_verify_row *row)
{
    if (!row->pass && !(row->limit != row->limit))
        print_message("    %s: rel L2 %g, limit %g\n", row->name, row->rel_l2, row->limit);
    (void)ud;
}

static void verifies(const char *path, const char *mmproj, const char *golden)
{
    qvl_model *m;
    qvl_session_params p;
    qvl_err err;
    int passed = 0;
    qvl_session_params_default(&p);
    p.n_ctx = 512;
    if (open_model(&m, path, mmproj, 0, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(qvl_verify(m, &p, golden, on_row, NULL, &passed, &err), 0);
    assert_int_equal(passed, 1);
    qvl_model_close(&m);
}

/* A file, a folder, any shard, a vision file from elsewhere, one file for both. */
static void ways_to_name_a_model(void **state)
{
    char text[256], vision[256];
    (void)state;
    verifies(KMIX_TEXT, NULL, QVL_SOURCE_DIR "/tests/golden/gguf-kmix/one.safetensors");
    verifies(MODELS "gguf-moe/Tiny-Q4_K_M-00002-of-00002.gguf", NULL, QVL_SOURCE_DIR "/tests/golden/gguf-moe/one.safetensors");
    verifies(MODELS "gguf-single/model.gguf", NULL, QVL_SOURCE_DIR "/tests/golden/gguf-single/one.safetensors");
    snprintf(text, sizeof text, "%s/model.bin", scratch); /* names of text files do not matter */
    snprintf(vision, sizeof vision, "%s/eyes", scratch);
    copy_file(KMIX_TEXT, "model.bin");
    copy_file(KMIX_VISION, "eyes");
    verifies(text, vision, QVL_SOURCE_DIR "/tests/golden/gguf-kmix/one.safetensors");
    clear();
}

/* The file's type, a u32 behind its key: lets one vision file stand for several. */
static void vision_of_type(const char *name, char type)
{
    char find[] = "general.file_type\x04\0\0\0\x01\0\0\0", with[sizeof find];
    memcpy(with, find, sizeof find);
    with[sizeof find - 5] = type;
    patch_file(KMIX_VISION, name, find, with, sizeof find - 1);
}

static void finding_the_vision_half(void **state)
{
    qvl_model *m;
    qvl_err err;
    (void)state;
    copy_file(KMIX_TEXT, "Tiny-Q4_0.gguf");
    refused("Tiny-Q4_0.gguf", NULL, QVL_E_NOTFOUND, "--mmproj");
    copy_file(MODELS "gguf-moe/mmproj-Tiny-F16.gguf", "mmproj-Tiny-F16.gguf"); /* of another width */
    refused("Tiny-Q4_0.gguf", NULL, QVL_E_NOTFOUND, "--mmproj");
    refused("Tiny-Q4_0.gguf", "mmproj-Tiny-F16.gguf", QVL_E_FORMAT, "projection_dim: found 96");
    vision_of_type("mmproj-tiny-bf16.gguf", 32);
    assert_int_equal(open_scratch(&m, "Tiny-Q4_0.gguf", NULL, &err), 0);
    qvl_model_close(&m);
    vision_of_type("mmproj-Other-F16.gguf", 1); /* the name that the text file's begins with wins */
    assert_int_equal(open_scratch(&m, "Tiny-Q4_0.gguf", NULL, &err), 0);
    qvl_model_close(&m);
    copy_file(KMIX_TEXT, "Big-Q4_0.gguf");
    refused("Big-Q4_0.gguf", NULL, QVL_E_ARG, "both");
    assert_int_equal(open_scratch(&m, "Big-Q4_0.gguf", "mmproj-Other-F16.gguf", &err), 0);
    qvl_model_close(&m);
    refused("", NULL, QVL_E_ARG, "several models (Big-Q4_0.gguf and Tiny-Q4_0.gguf)");
    clear();
    copy_file(KMIX_VISION, "mmproj-F16.gguf");
    refused("", NULL, QVL_E_NOTFOUND, "none of its 1 GGUF files is a text model");
    refused("mmproj-F16.gguf", NULL, QVL_E_UNSUPPORTED, "vision half");
    clear();
}

static void contradictions(void **state)
{
    (void)state;
    copy_file(KMIX_VISION, "mmproj-F16.gguf");
    patch_file(KMIX_TEXT, "a.gguf", "\x07\0\0\0\0\0\0\0qwen3vl", "\x07\0\0\0\0\0\0\0llama70", 15);
    refused("a.gguf", NULL, QVL_E_UNSUPPORTED, "found llama70, expected qwen3vl or qwen3vlmoe");
    patch_file(KMIX_TEXT, "a.gguf", "n_deepstack_layers\x04\0\0\0\x01", "n_deepstack_layers\x04\0\0\0\x03", 23);
    refused("a.gguf", NULL, QVL_E_FORMAT, "n_deepstack_layers: found 3");
    patch_file(KMIX_TEXT, "a.gguf", "blk.1.attn_k.weight", "blk.1.attn_x.weight", 19);
    refused("a.gguf", NULL, QVL_E_FORMAT, "layers.1.self_attn.k_proj.weight: missing");
    patch_file(KMIX_TEXT, "a.gguf", "blk.1.attn_k.weight", "blk.2.attn_k.weight", 19);
    refused("a.gguf", NULL, QVL_E_FORMAT, "block_count says 2 layers");
    patch_file(KMIX_TEXT, "a.gguf", "blk.1.attn_k.weight", "blk.1.attn_kq.scale", 19);
    refused("a.gguf", NULL, QVL_E_UNSUPPORTED, "would change the result");
    patch_file(KMIX_TEXT, "a.gguf", "block_count\x04\0\0\0\x02", "block_count\x04\0\0\0\x01", 16);
    refused("a.gguf", NULL, QVL_E_FORMAT, "block_count says 1 layers");
    patch_file(KMIX_TEXT, "a.gguf", "key_length\x04\0\0\0\x20", "key_length\x04\0\0\0\x10", 15);
    refused("a.gguf", NULL, QVL_E_FORMAT, "value_length: found 32");
    patch_file(KMIX_TEXT, "a.gguf", "rope.freq_base", "rope.fraq_base", 14);
    refused("a.gguf", NULL, QVL_E_FORMAT, "qwen3vl.rope.freq_base: missing");
    patch_file(KMIX_TEXT, "a.gguf", "token_type\x09\0\0\0\x05", "token_tipe\x09\0\0\0\x05", 15);
    patch_file(KMIX_TEXT, "b.gguf", "ggml.pre\x08\0\0\0\x05\0\0\0\0\0\0\0qwen2", "ggml.pre\x08\0\0\0\x05\0\0\0\0\0\0\0llama", 25);
    refused("b.gguf", NULL, QVL_E_UNSUPPORTED, "tokenizer.ggml.pre: found llama");
    patch_file(KMIX_TEXT, "b.gguf", "<|image_pad|>", "<|imago_pad|>", 13);
    refused("b.gguf", NULL, QVL_E_FORMAT, "no <|image_pad|>");
    patch_file(KMIX_VISION, "v.gguf", "qwen3vl_merger", "qwen2vl_merger", 14);
    refused("a.gguf", "v.gguf", QVL_E_UNSUPPORTED, "found qwen2vl_merger, expected qwen3vl_merger");
    patch_file(KMIX_VISION, "v.gguf", "v.patch_embd.weight.1", "v.patch_embd.weight.2", 21);
    refused("a.gguf", "v.gguf", QVL_E_FORMAT, "v.patch_embd.weight.1: missing");
    patch_file(KMIX_VISION, "v.gguf", "v.blk.1.attn_qkv.bias", "v.blk.1.attn_kqv.bias", 21);
    refused("a.gguf", "v.gguf", QVL_E_UNSUPPORTED, "v.blk.1.attn_kqv.bias: it would change the result");
    patch_file(KMIX_VISION, "v.gguf", "image_size\x04\0\0\0\x60", "image_size\x04\0\0\0\x61", 15);
    refused("a.gguf", "v.gguf", QVL_E_FORMAT, "image_size: found 97");
    refused("a.gguf", "a.gguf", QVL_E_FORMAT, "expected clip");
    clear();
}

/* The tokenizer and the template are those of the folder that the file was made from; settings come from metadata. */
static void same_text_side_as_the_folder(void **state)
{
    static const char *const texts[] = {"Hello! What can you do?",       "<|im_start|>user\nx<|im_end|>",
                                        "é 漢字 🙂 12345\r\n\n  x", "<think>a</think>",
                                        "e\xcc\x81 don't I'LL",          ""};
    static const char json[] =
        "[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"x.png\"},{\"type\":\"text\",\"text\":\"Hi\"}]}]";
    qvl_model *a, *b;
    qvl_err err;
    (void)state;
    assert_int_equal(open_model(&a, MODELS "untied-f32", NULL, 1, &err), 0); /* its tokenizer is the same one */
    copy_file(KMIX_TEXT, "t.gguf");
    char path[256];
    snprintf(path, sizeof path, "%s/t.gguf", scratch);
    assert_int_equal(open_model(&b, path, NULL, 1, &err), 0); /* no vision half is needed for this */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (int plain = 0; plain < 2; plain++) {
            int32_t *x, *y;
            size_t nx, ny;
            assert_int_equal(qvl_tokenize(a, texts[i], strlen(texts[i]), plain, &x, &nx, &err), 0);
            assert_int_equal(qvl_tokenize(b, texts[i], strlen(texts[i]), plain, &y, &ny, &err), 0);
            assert_int_equal(nx, ny);
            assert_true(!nx || memcmp(x, y, nx * sizeof *x) == 0);
            qvl_free(x);
            qvl_free(y);
        }
    char *ta, *tb;
    size_t na, nb;
    assert_int_equal(qvl_render(a, json, strlen(json), &ta, &na, &err), 0);
    assert_int_equal(qvl_render(b, json, strlen(json), &tb, &nb, &err), 0);
    assert_int_equal(na, nb);
    assert_memory_equal(ta, tb, na);
    qvl_free(ta);
    qvl_free(tb);
    qvl_gen_params g;
    qvl_gen_params_default(&g, b);
    assert_int_equal(g.greedy, 0);
    assert_int_equal(g.top_k, 20);
    assert_true(fabs((double)g.top_p - 0.8) < 1e-6 && fabs((double)g.temperature - 0.7) < 1e-6);
    qvl_model_close(&a);
    qvl_model_close(&b);
    clear();
}

static void sizes_are_told(void **state)
{
    qvl_model *m;
    qvl_model_info info = {.struct_size = sizeof info};
    qvl_err err;
    (void)state;
    assert_int_equal(open_model(&m, MODELS "gguf-kmix", NULL, 0, &err), 0);
    assert_int_equal(qvl_model_get_info(m, &info, &err), 0);
    assert_int_equal(info.n_layer, 2);
    assert_int_equal(info.d_model, 256);
    assert_int_equal(info.v_depth, 2);
    assert_int_equal(info.max_context, 4096);
    /* All block matrices have become f32: 2 layers of q k v o gate up down, and the embedding. */
    assert_true(info.copied_bytes >= 4 * (2 * (64 * 256 + 2 * 32 * 256 + 256 * 64 + 3 * 256 * 256) + 384 * 256));
    assert_true(info.weight_bytes > 0 && info.weight_bytes < 500000);
    qvl_model_close(&m);
}

static void keep_logits(void *ud, const qvl_verify_row *row)
{
    if (strcmp(row->name, "logits") == 0)
        *(double *)ud = row->rel_l2;
}

/* Block matrices become q8 and q4 without a detour through whole matrices of numbers; q8 is close to the file's own values. */
static void packed(void **state)
{
    static const char *const names[] = {"gguf-kmix", "gguf-moe", "gguf-fused"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int q4 = 0; q4 < 2; q4++) {
            char model[256], golden[256];
            qvl_model *m;
            qvl_model_params p;
            qvl_session_params sp;
            qvl_model_info info = {.struct_size = sizeof info};
            qvl_err err = {0};
            double logits = NAN;
            int ok;
            snprintf(model, sizeof model, "%s%s", MODELS, names[i]);
            snprintf(golden, sizeof golden, "%s/tests/golden/%s/one.safetensors", QVL_SOURCE_DIR, names[i]);
            qvl_model_params_default(&p);
            p.path = model;
            p.precision = q4 ? QVL_PRECISION_Q4 : QVL_PRECISION_Q8;
            p.no_cache = 1;
            if (qvl_model_open(&m, &p, &err))
                fail_msg("%s: %s", model, err.msg);
            assert_int_equal(qvl_model_get_info(m, &info, &err), 0);
            assert_true(info.weight_bytes < 1 << 20); /* what is replaced no longer counts, and never less than nothing is left */
            qvl_session_params_default(&sp);
            sp.n_ctx = 512;
            assert_int_equal(qvl_verify(m, &sp, golden, keep_logits, &logits, &ok, &err), 0);
            print_message("%s %s: logits off by %.4f\n", names[i], q4 ? "q4" : "q8", logits);
            assert_true(logits < (q4 ? 0.7 : 0.1)); /* q4 of random weights is coarse: only nonsense is excluded */
            qvl_model_close(&m);
        }
}

/* A folder is described as a model, a file by its keys and tensors. */
static void inspected(void **state)
{
    static const char *const in_folder[] = {"\"format\": \"gguf\"", "\"architecture\": \"qwen3_vl\"",
                                            "\"layers\": 2",        "\"precision\": \"mixed\"",
                                            "\"type\": \"Q4_K\"",   "\"problem\": null",
                                            "mmproj-Tiny-F16.gguf", "\"thinking\": false"};
    static const char *const in_file[] = {"\"format\": \"gguf\"", "\"clip.projector_type\": \"qwen3vl_merger\"",
                                          "\"name\": \"v.patch_embd.weight.1\"",
                                          "\"clip.vision.is_deepstack_layers\": \"bool[2]: false, true\""};
    char *json;
    qvl_err err;
    (void)state;
    assert_int_equal(qvl_inspect(MODELS "gguf-kmix", &json, &err), 0);
    for (size_t i = 0; i < sizeof in_folder / sizeof *in_folder; i++)
        assert_non_null(strstr(json, in_folder[i]));
    qvl_free(json);
    assert_int_equal(qvl_inspect(KMIX_VISION, &json, &err), 0);
    for (size_t i = 0; i < sizeof in_file / sizeof *in_file; i++)
        assert_non_null(strstr(json, in_file[i]));
    qvl_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ways_to_name_a_model), cmocka_unit_test(finding_the_vision_half),      cmocka_unit_test(contradictions),
        cmocka_unit_test(sizes_are_told),       cmocka_unit_test(same_text_side_as_the_folder),
        cmocka_unit_test(inspected),            cmocka_unit_test(packed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
