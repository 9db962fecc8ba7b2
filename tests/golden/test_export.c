/* Models written as GGUF files: what is read back gives the reference's answers, writing it again gives the same bytes, and nothing is
 * left half-written. (tools/reference/check_llama_cpp.py runs the files in llama.cpp.) */
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

#include "formats/gguf.h"
#include "qvl.h"
#include "unit/quantised_help.h"

#define TINY QVL_SOURCE_DIR "/models/tiny"
#define MODELS QVL_SOURCE_DIR "/tests/golden/models/"
#define GOLDENS QVL_SOURCE_DIR "/tests/golden/"

static char scratch[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/qvl-export-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int files(int clear)
{
    int n = 0;
    DIR *d = opendir(scratch);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%.255s", scratch, e->d_name);
        if (e->d_name[0] == '.')
            continue;
        n++;
        if (clear)
            remove(path);
    }
    if (d)
        closedir(d);
    return n;
}

static int tear_down(void **state)
{
    (void)state;
    files(1);
    return rmdir(scratch);
}

struct ask {
    const char *path, *text, *out, *type, *mmproj_type;
    int force;
    qvl_progress_fn progress;
    void *ud;
};

static int export(const struct ask *a, qvl_export_result *r, qvl_err *err)
{
    qvl_model_params m;
    qvl_export_params p;
    char out[256];
    qvl_model_params_default(&m);
    qvl_export_params_default(&p);
    m.path = a->path;
    m.text = a->text;
    snprintf(out, sizeof out, "%s/%s", scratch, a->out);
    p.out = out;
    p.type = a->type;
    p.mmproj_type = a->mmproj_type;
    p.force = a->force;
    p.progress = a->progress;
    p.progress_ud = a->ud;
    *err = (qvl_err){0};
    if (r)
        *r = (qvl_export_result){.struct_size = sizeof *r};
    return qvl_export_gguf(&m, &p, r, err);
}

static void done(qvl_export_result *r)
{
    qvl_free(r->text_path);
    qvl_free(r->mmproj_path);
    *r = (qvl_export_result){.struct_size = sizeof *r};
}

static qvl_export_result exported(const struct ask *a)
{
    qvl_export_result r;
    qvl_err err;
    if (export(a, &r, &err))
        fail_msg("%s: %s", a->path, err.msg);
    return r;
}

static char *slurp(const char *path, size_t *n)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f || stat(path, &st) != 0)
        fail_msg("%s: cannot be opened", path);
    char *p = malloc((size_t)st.st_size + 1);
    assert_non_null(p);
    *n = fread(p, 1, (size_t)st.st_size, f);
    assert_int_equal(*n, st.st_size);
    fclose(f);
    return p;
}

static void same_bytes(const char *a, const char *b)
{
    size_t n, m;
    char *p = slurp(a, &n), *q = slurp(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(p, q, n);
    free(p);
    free(q);
}

static void on_row(void *ud, const qvl_verify_row *row)
{
    if (!row->pass)
        print_message("    %s: %s rel L2 %g, limit %g\n", (const char *)ud, row->name, row->rel_l2, row->limit);
}

static void verifies(const char *path, const char *mmproj, char *golden)
{
    qvl_model *m = NULL;
    qvl_model_params p;
    qvl_session_params sp;
    qvl_err err = {0};
    int passed = 0;
    qvl_model_params_default(&p);
    p.path = path;
    p.mmproj = mmproj;
    p.precision = QVL_PRECISION_F32;
    if (qvl_model_open(&m, &p, &err))
        fail_msg("%s", err.msg);
    qvl_model_info info = {.struct_size = sizeof info};
    assert_int_equal(qvl_model_get_info(m, &info, &err), 0);
    assert_string_equal(info.warnings, "");
    qvl_session_params_default(&sp);
    sp.n_ctx = 1024;
    if (qvl_verify(m, &sp, golden, on_row, golden, &passed, &err))
        fail_msg("%s: %s", golden, err.msg);
    qvl_model_close(&m);
    assert_int_equal(passed, 1);
}

/* From each kind of source: dense and sparse, tied and not, shards, GGUF in several forms. F32 holds all their values. */
static void written_models_give_the_references_answers(void **state)
{
    static const char *const names[] = {"sharded-bf16", "untied-f32", "moe-bf16", "gguf-kmix",
                                        "gguf-moe",     "gguf-single", "gguf-fused"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char model[512], golden[512];
        snprintf(model, sizeof model, "%s%s", MODELS, names[i]);
        snprintf(golden, sizeof golden, "%s%s/one.safetensors", GOLDENS, names[i]);
        qvl_export_result r = exported(&(struct ask){.path = model, .out = names[i], .type = "f32", .mmproj_type = "F32"});
        assert_true(!(r.text_loss > 0) && !(r.mmproj_loss > 0));
        verifies(r.text_path, r.mmproj_path, golden);
        done(&r);
        files(1);
    }
}

/* The same from AWQ, GPTQ, compressed-tensors, FP8, bitsandbytes and MLX. */
static void quantised_folders(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_QUANTISED; i++) {
        char dir[64], golden[512];
        make_quantised(dir, quantised_names[i], NULL);
        snprintf(golden, sizeof golden, QUANTISED "%s/one.safetensors", quantised_names[i]);
        qvl_export_result r = exported(&(struct ask){.path = dir, .out = quantised_names[i], .type = "f32", .mmproj_type = "f32"});
        assert_true(!(r.text_loss > 0) && !(r.mmproj_loss > 0));
        verifies(r.text_path, r.mmproj_path, golden);
        done(&r);
        files(1);
        remove_quantised(dir);
    }
}

/* The hybrid of two published halves becomes one model. */
static void a_decoder_from_elsewhere(void **state)
{
    (void)state;
    qvl_export_result r = exported(&(struct ask){.path = MODELS "untied-f32", .text = QVL_SOURCE_DIR "/tests/data/onnx/asym", .out = "h",
                                                 .type = "f32", .mmproj_type = "f32"});
    verifies(r.text_path, r.mmproj_path, QVL_SOURCE_DIR "/tests/data/onnx/asym/one.safetensors");
    done(&r);
    files(1);
    /* 4-bit codes that Q4_0 has, too, are not quantised again: only scales are rounded, by up to 2^-12 */
    r = exported(&(struct ask){.path = MODELS "untied-f32", .text = QVL_SOURCE_DIR "/tests/data/onnx/qdq", .out = "k", .type = "q4_0"});
    if (!(r.text_loss < 3e-4))
        fail_msg("loss %g", r.text_loss);
    done(&r);
    files(1);
}

/* Names, weights, vocabulary, merges, template and ids: all of it comes back as it went out. */
static void writing_twice_gives_the_same_bytes(void **state)
{
    (void)state;
    qvl_export_result a = exported(&(struct ask){.path = TINY, .out = ""}), b;
    char expected[128];
    snprintf(expected, sizeof expected, "%s/tiny-BF16.gguf", scratch);
    assert_string_equal(a.text_path, expected);
    snprintf(expected, sizeof expected, "%s/mmproj-tiny-F16.gguf", scratch);
    assert_string_equal(a.mmproj_path, expected);
    verifies(scratch, NULL, GOLDENS "tiny/one.safetensors");
    b = exported(&(struct ask){.path = a.text_path, .out = "again", .mmproj_type = "auto"});
    snprintf(expected, sizeof expected, "%s/again-BF16.gguf", scratch);
    assert_string_equal(b.text_path, expected);
    same_bytes(a.text_path, b.text_path);
    same_bytes(a.mmproj_path, b.mmproj_path);
    done(&a);
    done(&b);
    files(1);
    /* quantised ones, whose blocks are copied */
    a = exported(&(struct ask){.path = MODELS "gguf-kmix", .out = "k"});
    b = exported(&(struct ask){.path = a.text_path, .out = "l.gguf"});
    snprintf(expected, sizeof expected, "%s/mmproj-l.gguf", scratch);
    assert_string_equal(b.mmproj_path, expected);
    same_bytes(a.text_path, b.text_path);
    same_bytes(a.mmproj_path, b.mmproj_path);
    done(&a);
    done(&b);
    files(1);
}

/* Rows that are no whole blocks, the head, and what it costs: 4 bits cost some percent, 8 bits less than one. */
static void smaller_types(void **state)
{
    static const struct {
        const char *type, *main, *head;
        double least, most;
    } cases[] = {{"q4_0", "Q4_0", "Q8_0", 0.03, 0.12}, {"q4_1", "Q4_1", "Q8_0", 0.03, 0.12}, {"q5_0", "Q5_0", "Q8_0", 0.015, 0.06},
                 {"q5_1", "Q5_1", "Q8_0", 0.015, 0.06}, {"q4_k", "Q4_K", "Q8_0", 0.03, 0.09},
                 {"q6_k", "Q6_K", "Q8_0", 0.006, 0.03}, {"Q8_0", "Q8_0", "Q8_0", 0.001, 0.01}, {"f16", "F16", "F16", 0, 1e-5}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qvl_export_result r = exported(&(struct ask){.path = TINY, .out = cases[i].type, .type = cases[i].type, .mmproj_type = "q8_0"});
        struct qvl_gguf *g;
        qvl_err err;
        if (!(r.text_loss >= cases[i].least && r.text_loss <= cases[i].most))
            fail_msg("%s: loss %g", cases[i].type, r.text_loss);
        assert_int_equal(qvl_gguf_open(&g, r.text_path, &err), 0);
        const struct qvl_tensors *t = qvl_gguf_tensors(g);
        assert_string_equal(qvl_tensors_find(t, "blk.0.ffn_up.weight")->type_name, cases[i].main);
        assert_string_equal(qvl_tensors_find(t, "blk.5.attn_v.weight")->type_name, cases[i].main);
        assert_string_equal(qvl_tensors_find(t, "token_embd.weight")->type_name, cases[i].head);
        assert_string_equal(qvl_tensors_find(t, "blk.0.attn_norm.weight")->type_name, "F32");
        assert_null(qvl_tensors_find(t, "output.weight"));
        qvl_gguf_close(&g);
        assert_true(r.mmproj_loss > 0.001 && r.mmproj_loss < 0.01);
        done(&r);
        files(1);
    }
}

static void fails(const struct ask *a, int code, const char *says)
{
    qvl_export_result r;
    qvl_err err;
    int before = files(0), rc = export(a, &r, &err);
    if (rc != code || !strstr(err.msg, says))
        print_message("found %d: %s\n", rc, err.msg);
    assert_int_equal(rc, code);
    assert_non_null(strstr(err.msg, says));
    assert_null(r.text_path);
    assert_int_equal(files(0), before);
}

static int stop_late(void *ud, const char *stage, uint64_t n, uint64_t total)
{
    return !strcmp(stage, "write") && n > total / 10 * 9 && ++*(int *)ud;
}

static void nothing_is_half_written(void **state)
{
    int calls = 0;
    (void)state;
    fails(&(struct ask){.path = TINY, .out = "x", .progress = stop_late, .ud = &calls}, QVL_E_CANCELLED, "cancelled");
    assert_true(calls > 0);
    assert_int_equal(files(0), 0);
    fails(&(struct ask){.path = TINY, .out = "missing/x"}, QVL_E_NOTFOUND, "cannot create");
    fails(&(struct ask){.path = TINY, .out = "x", .type = "q4_k_m"}, QVL_E_ARG, "found q4_k_m, expected one of");
    fails(&(struct ask){.path = TINY, .out = "x", .mmproj_type = "q4_0"}, QVL_E_ARG, "mmproj type");
    fails(&(struct ask){.path = MODELS "moe-mixed-f32", .out = "x"}, QVL_E_UNSUPPORTED, "ascending order only");
    fails(&(struct ask){.path = TINY "/nothing", .out = "x"}, QVL_E_NOTFOUND, "no such model");
}

static void files_that_exist(void **state)
{
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/mmproj-x-F16.gguf", scratch);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("mine", f);
    fclose(f);
    fails(&(struct ask){.path = TINY, .out = "x"}, QVL_E_ARG, "exists (--force replaces it)");
    qvl_export_result r = exported(&(struct ask){.path = TINY, .out = "x", .force = 1});
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, (off_t)r.mmproj_bytes);
    assert_int_equal(stat(r.text_path, &st), 0);
    assert_int_equal(st.st_size, (off_t)r.text_bytes);
    done(&r);
    files(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_models_give_the_references_answers), cmocka_unit_test(quantised_folders),
        cmocka_unit_test(a_decoder_from_elsewhere),
        cmocka_unit_test(writing_twice_gives_the_same_bytes),         cmocka_unit_test(smaller_types),
        cmocka_unit_test(nothing_is_half_written),                    cmocka_unit_test(files_that_exist),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
