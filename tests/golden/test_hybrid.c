/* Models of two halves from two places: every pairing gives the answers of the whole model, a half that is not used need not be there,
 * and what does not fit is refused. The GGUF halves are written here, in types that hold all values. */
#include <dirent.h>
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
#define GOLDENS QVL_SOURCE_DIR "/tests/golden/"

static char scratch[64];

static const char *in(char buf[512], const char *name)
{
    snprintf(buf, 512, "%s/%s", scratch, name);
    return buf;
}

/* Removes a folder of files and folders of files. */
static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512];
        struct stat st;
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%.200s/%.255s", dir, e->d_name);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            remove_tree(path);
        else
            remove(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

static void copy_file(const char *from, const char *to)
{
    FILE *a = fopen(from, "rb"), *b = fopen(to, "wb");
    char buf[65536];
    size_t n;
    assert_true(a && b);
    while ((n = fread(buf, 1, sizeof buf, a)) > 0)
        assert_int_equal(fwrite(buf, 1, n, b), n);
    fclose(a);
    assert_int_equal(fclose(b), 0);
}

/* A folder with the files of another, but for those whose name contains `without`. */
static void copy_folder(const char *from, const char *name, const char *without)
{
    char to[512], a[512], b[800];
    mkdir(in(to, name), 0777);
    DIR *d = opendir(from);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || strstr(e->d_name, without))
            continue;
        snprintf(a, sizeof a, "%.200s/%.255s", from, e->d_name);
        snprintf(b, sizeof b, "%s/%.255s", to, e->d_name);
        copy_file(a, b);
    }
    closedir(d);
}

static void export(const char *model, const char *name)
{
    qvl_model_params m;
    qvl_export_params p;
    qvl_err err;
    char out[512];
    qvl_model_params_default(&m);
    qvl_export_params_default(&p);
    m.path = model;
    p.out = in(out, name);
    p.type = p.mmproj_type = "f32";
    if (qvl_export_gguf(&m, &p, NULL, &err))
        fail_msg("%s: %s", model, err.msg);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/qvl-hybrid-XXXXXX");
    if (!mkdtemp(scratch))
        return -1;
    export(MODELS "untied-f32", "u");
    export(MODELS "sharded-bf16", "s");
    export(MODELS "moe-bf16", "moe");
    copy_folder(MODELS "untied-f32", "bare", ".safetensors");
    copy_folder(MODELS "sharded-bf16", "half", "model-00001-of");
    copy_folder(MODELS "sharded-bf16", "other-half", "model-00003-of");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(scratch);
    return 0;
}

struct halves {
    const char *path, *text, *vision, *golden; /* a name without "/" is one of the scratch folder */
};

static const char *resolve(char buf[512], const char *name) { return !name || name[0] == '/' ? name : in(buf, name); }

static int open_halves(qvl_model **m, const struct halves *h, qvl_err *err)
{
    qvl_model_params p;
    char a[512], b[512], c[512];
    qvl_model_params_default(&p);
    p.path = resolve(a, h->path);
    p.text = resolve(b, h->text);
    p.vision = resolve(c, h->vision);
    p.precision = QVL_PRECISION_F32;
    *m = NULL;
    *err = (qvl_err){0};
    return qvl_model_open(m, &p, err);
}

static void on_row(void *ud, const qvl_verify_row *row)
{
    if (!row->pass)
        print_message("    %s: rel L2 %g, limit %g\n", row->name, row->rel_l2, row->limit);
    ++*(int *)ud;
}

static void every_pairing(void **state)
{
    static const struct halves all[] = {
        {MODELS "untied-f32", "u-F32.gguf", NULL, "untied-f32"},
        {MODELS "untied-f32", NULL, "mmproj-u-F32.gguf", "untied-f32"},
        {MODELS "untied-f32", "u-F32.gguf", "mmproj-u-F32.gguf", "untied-f32"},
        {"bare", "u-F32.gguf", "mmproj-u-F32.gguf", "untied-f32"},
        {"bare", MODELS "untied-f32", "mmproj-u-F32.gguf", "untied-f32"},
        {"bare", "u-F32.gguf", MODELS "untied-f32", "untied-f32"},
        {"bare", QVL_SOURCE_DIR "/tests/data/onnx/asym", "mmproj-u-F32.gguf", "../data/onnx/asym"},
        {"u-F32.gguf", NULL, MODELS "untied-f32", "untied-f32"},
        {"u-F32.gguf", NULL, "mmproj-u-F32.gguf", "untied-f32"},
        {"u-F32.gguf", MODELS "untied-f32", NULL, "untied-f32"},
        {"u-F32.gguf", QVL_SOURCE_DIR "/tests/data/onnx/asym", MODELS "untied-f32", "../data/onnx/asym"},
        {MODELS "moe-bf16", "moe-F32.gguf", NULL, "moe-bf16"},
        {"moe-F32.gguf", NULL, MODELS "moe-bf16", "moe-bf16"},
        {MODELS "gguf-kmix", MODELS "gguf-kmix/Tiny-Q4_K_M.gguf", MODELS "gguf-kmix", "gguf-kmix"},
        {MODELS "gguf-single/model.gguf", NULL, MODELS "gguf-single/model.gguf", "gguf-single"},
        {"half", "s-F32.gguf", NULL, "sharded-bf16"}, /* shards of the other half are missing */
        {"other-half", NULL, "mmproj-s-F32.gguf", "sharded-bf16"},
        {"half", "other-half", NULL, "sharded-bf16"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        qvl_model *m;
        qvl_session_params sp;
        qvl_err err;
        char golden[512];
        int passed = 0, rows = 0;
        if (open_halves(&m, &all[i], &err))
            fail_msg("%zu: %s: %s", i, all[i].path, err.msg);
        qvl_model_info info = {.struct_size = sizeof info};
        assert_int_equal(qvl_model_get_info(m, &info, NULL), 0);
        assert_string_equal(info.warnings, "");
        qvl_session_params_default(&sp);
        sp.n_ctx = 512;
        snprintf(golden, sizeof golden, GOLDENS "%s/one.safetensors", all[i].golden);
        if (qvl_verify(m, &sp, golden, on_row, &rows, &passed, &err))
            fail_msg("%zu: %s", i, err.msg);
        qvl_model_close(&m);
        if (!passed || rows < 4)
            fail_msg("%zu: %s does not pass", i, all[i].path);
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    static const struct {
        struct halves h;
        int code;
        const char *says;
    } all[] = {
        {{MODELS "untied-f32", "s-F32.gguf", NULL, NULL}, QVL_E_FORMAT, "but the model's configuration has"},
        {{MODELS "untied-f32", MODELS "sharded-bf16", NULL, NULL}, QVL_E_FORMAT, "but the model's configuration has"},
        {{MODELS "untied-f32", NULL, "mmproj-moe-F32.gguf", NULL}, QVL_E_FORMAT, "but the model's configuration has"},
        {{MODELS "untied-f32", NULL, MODELS "sharded-bf16", NULL}, QVL_E_FORMAT, "but the model's configuration has"},
        {{"u-F32.gguf", NULL, MODELS "moe-bf16", NULL}, QVL_E_FORMAT, "n_deepstack_layers: found 1"},
        {{MODELS "untied-f32", "mmproj-u-F32.gguf", NULL, NULL}, QVL_E_UNSUPPORTED, "is the vision half of a model"},
        {{MODELS "untied-f32", NULL, "u-F32.gguf", NULL}, QVL_E_FORMAT, "expected clip"},
        {{MODELS "untied-f32", "nothing", NULL, NULL}, QVL_E_NOTFOUND, "no such text decoder"},
        {{MODELS "untied-f32", NULL, "nothing", NULL}, QVL_E_NOTFOUND, "no such vision encoder"},
        {{"u-F32.gguf", NULL, "nothing", NULL}, QVL_E_NOTFOUND, "no such vision encoder"},
        {{MODELS "untied-f32", QVL_SOURCE_DIR "/README.md", NULL, NULL}, QVL_E_UNSUPPORTED, "a text decoder from elsewhere is"},
        {{MODELS "untied-f32", NULL, QVL_SOURCE_DIR "/docs", NULL}, QVL_E_UNSUPPORTED, "a vision encoder from elsewhere is"},
        {{"bare", "u-F32.gguf", NULL, NULL}, QVL_E_NOTFOUND, "no weights"},
        {{"bare", MODELS "untied-f32", "bare", NULL}, QVL_E_NOTFOUND, "no weights"},
        {{"half", NULL, NULL, NULL}, QVL_E_NOTFOUND, "which is missing"},
        {{"half", NULL, "mmproj-s-F32.gguf", NULL}, QVL_E_FORMAT, "missing"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        qvl_model *m;
        qvl_err err;
        int rc = open_halves(&m, &all[i].h, &err);
        if (rc != all[i].code || !strstr(err.msg, all[i].says))
            fail_msg("%zu: found %d: %s", i, rc, err.msg);
        assert_null(m);
    }
    qvl_model *m = NULL;
    qvl_model_params p;
    qvl_err err;
    char a[512], b[512];
    qvl_model_params_default(&p);
    p.path = in(a, "u-F32.gguf");
    p.mmproj = p.vision = in(b, "mmproj-u-F32.gguf");
    assert_int_equal(qvl_model_open(&m, &p, &err), QVL_E_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_pairing), cmocka_unit_test(what_does_not_fit_is_refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
