/* Packed folders: that they say what their source says, hold what they should, and that damaged or lying ones are refused. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/half.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "formats/tensor_source.h"
#include "model/gguf_model.h"
#include "quantised_help.h"
#include "session_help.h"

#define MODELS QVL_SOURCE_DIR "/tests/golden/models/"
#define ROOM QVL_BINARY_DIR "/packed-test"

static const char out_dir[] = ROOM "/out", trace_a[] = ROOM "/a.safetensors", trace_b[] = ROOM "/b.safetensors";

/* ---------------------------------------------------------------- help */

static void shell(const char *fmt, const char *a)
{
    char line[1024];
    snprintf(line, sizeof line, fmt, a);
    assert_int_equal(system(line), 0);
}

static int fresh(void **state)
{
    (void)state;
    shell("rm -rf '%s'", ROOM);
    return mkdir(ROOM, 0777);
}

static qvl_pack_params params(const char *path)
{
    qvl_pack_params p;
    qvl_pack_params_default(&p);
    p.path = path;
    p.out = out_dir;
    return p;
}

static qvl_pack_result pack(const qvl_pack_params *p)
{
    qvl_err err = {0};
    qvl_pack_result r = {.struct_size = sizeof r};
    if (qvl_pack(p, &r, &err) < 0)
        fail_msg("%s", err.msg);
    return r;
}

static void expect_refused(const qvl_pack_params *p, int code, const char *part)
{
    qvl_err err = {0};
    int rc = qvl_pack(p, NULL, &err);
    if (rc != code || !strstr(err.msg, part))
        fail_msg("found %d \"%s\", expected %d \"... %s ...\"", rc, err.msg, code, part);
}

static int open_rc(qvl_model **m, const char *path, const char *text, qvl_precision precision, qvl_err *err)
{
    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = path;
    p.text = text;
    p.precision = precision;
    p.no_cache = 1;
    return qvl_model_open(m, &p, err);
}

static qvl_model *open_both(const char *path, const char *text, qvl_precision precision)
{
    qvl_model *m = NULL;
    qvl_err err = {0};
    if (open_rc(&m, path, text, precision, &err) < 0)
        fail_msg("%s", err.msg);
    return m;
}

static qvl_model *open_model(const char *path, qvl_precision precision) { return open_both(path, NULL, precision); }

static void expect_closed(const char *path, int code, const char *part)
{
    qvl_model *m = NULL;
    qvl_err err = {0};
    int rc = open_rc(&m, path, NULL, QVL_PRECISION_AUTO, &err);
    if (rc != code || m || !strstr(err.msg, part))
        fail_msg("found %d \"%s\", expected %d \"... %s ...\"", rc, err.msg, code, part);
}

static char *whole_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *len = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*len + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *len, f), *len);
    fclose(f);
    return p;
}

static void expect_same_file(const char *a, const char *b)
{
    size_t na, nb;
    char *x = whole_file(a, &na), *y = whole_file(b, &nb);
    if (na != nb || memcmp(x, y, na) != 0)
        fail_msg("%s (%zu bytes) and %s (%zu bytes) differ", a, na, b, nb);
    free(x);
    free(y);
}

/* Every intermediate of a picture and a question, and the tokens that follow. */
static void trace(qvl_model *m, const char *path)
{
    qvl_session *s = open_session(m, 2, 0);
    qvl_gen_params g;
    qvl_result r;
    qvl_err err = {0};
    assert_int_equal(ask(s, PICTURE, "What is this?", &err), 0);
    qvl_gen_params_default(&g, NULL);
    g.max_tokens = 8;
    g.trace_path = path;
    if (qvl_session_generate(s, &g, &r, &err) < 0)
        fail_msg("%s", err.msg);
    qvl_session_close(&s);
}

/* ---------------------------------------------------------------- what is in the folder */

static void expect_as_source(const char *path, const char *text, qvl_precision precision)
{
    qvl_pack_params p = params(path);
    p.text = text;
    p.precision = precision;
    pack(&p);
    assert_true(qvl_model_is_packed(out_dir));
    qvl_model *a = open_both(path, text, precision), *b = open_model(out_dir, QVL_PRECISION_AUTO);
    qvl_model_info ia = {.struct_size = sizeof ia}, ib = ia;
    assert_int_equal(qvl_model_get_info(a, &ia, NULL), 0);
    assert_int_equal(qvl_model_get_info(b, &ib, NULL), 0);
    assert_string_equal(ia.precision, ib.precision);
    assert_int_equal(ia.packed_bytes, ib.packed_bytes);
    if (!strstr(path, "gguf")) /* those do not say whose a head is */
        assert_int_equal(ia.n_params, ib.n_params);
    assert_int_equal(ia.thinking, ib.thinking);
    assert_true(ib.pack_error == 0);
    trace(a, trace_a);
    trace(b, trace_b);
    expect_same_file(trace_a, trace_b);
    static const char said[] = "A <|im_end|> caf\xc3\xa9\n 12345 \xe4\xbd\xa0\xe5\xa5\xbd";
    for (int plain = 0; plain < 2; plain++) {
        int32_t *x, *y;
        size_t nx, ny;
        assert_int_equal(qvl_tokenize(a, said, sizeof said - 1, plain, &x, &nx, NULL), 0);
        assert_int_equal(qvl_tokenize(b, said, sizeof said - 1, plain, &y, &ny, NULL), 0);
        assert_int_equal(nx, ny);
        assert_memory_equal(x, y, nx * sizeof *x);
        qvl_free(x);
        qvl_free(y);
    }
    qvl_model_close(&a);
    qvl_model_close(&b);
    shell("rm -r '%s'", out_dir);
}

/* Dense and sparse, tied and not, bf16, f16, f32, shards, GGUF in one file, two and three. */
static void answers_as_the_source(void **state)
{
    static const char *const models[] = {TINY, MODELS "moe-bf16", MODELS "moe-mixed-f32", MODELS "taps-f16", MODELS "untied-f32",
                                         MODELS "sharded-bf16", MODELS "gguf-moe", MODELS "gguf-kmix", MODELS "gguf-single",
                                         MODELS "gguf-fused"};
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        expect_as_source(models[i], NULL, QVL_PRECISION_Q4);
        expect_as_source(models[i], NULL, QVL_PRECISION_Q8);
    }
}

/* Two halves become one folder. 4-bit codes are kept where they can be, blocks of 8 bits are not. */
static void hybrids(void **state)
{
    static const struct {
        const char *base, *text;
    } pairs[] = {{"sharded-bf16", "shared"}, {"untied-f32", "asym"}, {"untied-f32", "fused"}, {"untied-f32", "mixed"},
                 {"taps-f16", "f16"},        {"untied-f32", "qdq"}, {"taps-f16", "float"},   {"sharded-bf16", "slip"}};
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char path[512], text[512];
        snprintf(path, sizeof path, MODELS "%s", pairs[i].base);
        snprintf(text, sizeof text, QVL_SOURCE_DIR "/tests/data/onnx/%s", pairs[i].text);
        expect_as_source(path, text, QVL_PRECISION_Q4);
        expect_as_source(path, text, QVL_PRECISION_Q8);
    }
}

/* AWQ, GPTQ, compressed-tensors, FP8, bitsandbytes, MLX. */
static void quantised_folders(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_QUANTISED; i++) {
        char dir[64];
        make_quantised(dir, quantised_names[i], NULL);
        expect_as_source(dir, NULL, QVL_PRECISION_Q4);
        expect_as_source(dir, NULL, QVL_PRECISION_Q8);
        remove_quantised(dir);
    }
}

static const struct qvl_tensor *need(const struct qvl_tensors *t, const char *name)
{
    const struct qvl_tensor *x = qvl_tensors_find(t, name);
    if (!x)
        fail_msg("tensor %s is missing", name);
    return x;
}

/* Relative error of a packed matrix. Rounding to a grid of step d leaves d^2/12 in the mean: for normal weights and
 * groups of 32, whose largest is near 2.1 sigma, that is 2.1/8/sqrt(12) = 0.076 (q4) and 2.1/127/sqrt(12) = 0.0048 (q8). */
static double error_of(const struct qvl_tensor *packed, const struct qvl_tensor *source, enum qvl_dtype type)
{
    int64_t n_out = source->shape[0], n_in = source->shape[1];
    struct qvl_mat m = {.data = packed->data, .type = type, .n_out = n_out, .n_in = n_in, .stride = n_in};
    float *row = malloc((size_t)n_in * sizeof *row);
    const unsigned char *p = source->data;
    double error = 0, norm = 0;
    assert_non_null(row);
    assert_int_equal(source->type, QVL_DT_BF16);
    for (int64_t r = 0; r < n_out; r++) {
        qvl_quant_row(row, &m, r);
        for (int64_t i = 0; i < n_in; i++, p += 2) {
            uint16_t h;
            memcpy(&h, p, 2);
            double x = (double)qvl_bf16_to_f32(h), d = x - (double)row[i];
            error += d * d;
            norm += x * x;
        }
    }
    free(row);
    return sqrt(error / norm);
}

static void kept_and_packed_tensors(void **state)
{
    struct qvl_tensors *a, *b;
    size_t n_kept = 0, n_packed = 0;
    char name[160];
    (void)state;
    qvl_pack_params p = params(TINY);
    p.head = QVL_PRECISION_Q8;
    qvl_pack_result r = pack(&p);
    assert_int_equal(qvl_safetensors_open(&a, TINY, NULL), 0);
    assert_int_equal(qvl_safetensors_open(&b, out_dir, NULL), 0);
    assert_string_equal(qvl_tensors_meta(b, "qvl.text"), "q4");
    assert_string_equal(qvl_tensors_meta(b, "qvl.head"), "q8");
    uint64_t bytes = 0, packed = 0;
    for (size_t i = 0; i < qvl_tensors_count(b); i++)
        bytes += qvl_tensors_at(b, i)->bytes;
    assert_int_equal(bytes, r.file_bytes);
    for (size_t i = 0; i < qvl_tensors_count(a); i++) {
        const struct qvl_tensor *x = qvl_tensors_at(a, i);
        char canonical[128];
        qvl_canonical_name(canonical, sizeof canonical, x->name);
        snprintf(name, sizeof name, "%s.q4", canonical);
        const struct qvl_tensor *q = qvl_tensors_find(b, name);
        if (q) {
            double e = error_of(q, x, QVL_DT_Q4);
            if (!(e < 0.12) || !(e > 0.03))
                fail_msg("%s: relative error %g", name, e);
            n_packed++;
            packed += q->bytes;
            continue;
        }
        const struct qvl_tensor *k = need(b, canonical);
        if (k->type == x->type)
            assert_memory_equal(k->data, x->data, x->bytes);
        for (size_t j = 0; k->type != x->type && j < x->bytes / 2; j++) { /* vectors: f32, exactly */
            uint16_t h;
            float f;
            memcpy(&h, (const char *)x->data + 2 * j, 2);
            memcpy(&f, (const char *)k->data + 4 * j, 4);
            assert_int_equal(k->type, QVL_DT_F32);
            assert_true(f == qvl_bf16_to_f32(h));
        }
        n_kept++;
    }
    const struct qvl_tensor *head = need(b, "lm_head.weight.q8");
    double e = error_of(head, need(a, "model.language_model.embed_tokens.weight"), QVL_DT_Q8);
    assert_true(e < 0.01 && e > 0.001);
    assert_int_equal(packed + head->bytes, r.packed_bytes);
    assert_int_equal(n_packed, 6 * 7);
    assert_int_equal(n_packed + n_kept, qvl_tensors_count(a));
    qvl_tensors_close(&a);
    qvl_tensors_close(&b);
}

/* A head that is kept: not stored twice when it is the embedding, and used in its own type. */
static void kept_head(void **state)
{
    static const char *const path[] = {TINY, MODELS "untied-f32"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct qvl_tensors *t;
        qvl_pack_params p = params(path[i]);
        p.head = QVL_PRECISION_BF16;
        p.force = 1;
        pack(&p);
        assert_int_equal(qvl_safetensors_open(&t, out_dir, NULL), 0);
        assert_string_equal(qvl_tensors_meta(t, "qvl.head"), "bf16");
        const struct qvl_tensor *head = qvl_tensors_find(t, "lm_head.weight");
        assert_int_equal(head != NULL, i);
        assert_true(!head || head->type == QVL_DT_F32);
        qvl_tensors_close(&t);
        qvl_model *m = open_model(out_dir, QVL_PRECISION_Q4);
        qvl_model_info info = {.struct_size = sizeof info};
        assert_int_equal(qvl_model_get_info(m, &info, NULL), 0);
        assert_non_null(strstr(info.precision, "head bf16"));
        trace(m, trace_a);
        qvl_model_close(&m);
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    qvl_pack_params p = params(MODELS "moe-mixed-f32");
    p.n_threads = 1;
    pack(&p);
    shell("mv '%s/model.safetensors' " ROOM "/one", out_dir);
    shell("rm -r '%s'", out_dir);
    p.n_threads = 3;
    pack(&p);
    expect_same_file(ROOM "/one", ROOM "/out/model.safetensors");
}

/* ---------------------------------------------------------------- configurations of other files */

static void expect_same_config(const struct qvl_config *a, const struct qvl_config *b)
{
    struct qvl_config x = *a, y = *b;
    if (a->text.is_sparse) {
        assert_non_null(b->text.is_sparse);
        assert_memory_equal(a->text.is_sparse, b->text.is_sparse, (size_t)a->text.n_layer);
    } else {
        assert_null(b->text.is_sparse);
    }
    x.text.is_sparse = y.text.is_sparse = NULL;
    x.text.sparse_step = y.text.sparse_step = 1; /* said by the list */
    assert_memory_equal(&x.text, &y.text, sizeof x.text);
    assert_memory_equal(&x.vision, &y.vision, sizeof x.vision);
    assert_memory_equal(&x.image, &y.image, sizeof x.image);
    assert_memory_equal(&x.gen, &y.gen, sizeof x.gen);
    assert_int_equal(x.image_token, y.image_token);
    assert_int_equal(x.video_token, y.video_token);
    assert_int_equal(x.vision_start_token, y.vision_start_token);
    assert_int_equal(x.vision_end_token, y.vision_end_token);
    assert_int_equal(x.moe, y.moe);
}

static void write_and_read(const struct qvl_config *c)
{
    struct qvl_buf b[3];
    struct qvl_config back;
    qvl_err err = {0};
    for (int i = 0; i < 3; i++)
        qvl_buf_init(&b[i], 1 << 20);
    assert_int_equal(qvl_config_write(&b[0], c, &err), 0);
    assert_int_equal(qvl_config_write_generation(&b[1], c, &err), 0);
    assert_int_equal(qvl_config_write_preprocessor(&b[2], c, &err), 0);
    if (qvl_config_parse(&back, b[0].data, b[1].data, b[2].data, &err) < 0)
        fail_msg("%s", err.msg);
    expect_same_config(c, &back);
    qvl_config_free(&back);
    for (int i = 0; i < 3; i++)
        qvl_buf_free(&b[i]);
}

static void configurations_come_back(void **state)
{
    static const char *const shapes[] = {"2b", "4b", "8b", "32b", "30b-a3b", "235b-a22b"};
    static const char *const models[] = {"gguf-moe", "gguf-kmix", "gguf-single", "gguf-fused"};
    struct qvl_config c;
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        assert_int_equal(qvl_config_shape(&c, shapes[i], NULL), 0);
        write_and_read(&c);
        qvl_config_free(&c);
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[512];
        struct qvl_gguf_model m;
        snprintf(path, sizeof path, MODELS "%s", models[i]);
        assert_int_equal(qvl_gguf_model_open(&m, path, NULL, 0, NULL), 0);
        m.config.gen.temperature = 0.7f;
        m.config.gen.min_p = 0.05f;
        m.config.text.rms_eps = (double)1e-6f; /* of a float in the file */
        write_and_read(&m.config);
        m.config.text.rope_factor = 4;
        m.config.text.rope_original = 32768;
        write_and_read(&m.config);
        qvl_gguf_model_close(&m);
    }
}

/* ---------------------------------------------------------------- refusals */

static void precisions_of_a_packed_model(void **state)
{
    qvl_err err = {0};
    qvl_model *m = NULL;
    (void)state;
    qvl_pack_params p = params(TINY);
    pack(&p);
    static const qvl_precision wrong[] = {QVL_PRECISION_F32, QVL_PRECISION_BF16, QVL_PRECISION_Q8};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(open_rc(&m, out_dir, NULL, wrong[i], &err), QVL_E_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "is packed to q4"));
    }
    qvl_model_params mp;
    qvl_model_params_default(&mp);
    mp.path = out_dir;
    mp.text = MODELS "moe-bf16";
    assert_int_equal(qvl_model_open(&m, &mp, &err), QVL_E_ARG);
    assert_non_null(strstr(err.msg, "packed as a whole"));
    qvl_pack_params again = params(out_dir);
    again.out = ROOM "/twice";
    expect_refused(&again, QVL_E_ARG, "is packed already");
    assert_int_not_equal(access(again.out, F_OK), 0);
    p.precision = QVL_PRECISION_F32;
    expect_refused(&p, QVL_E_ARG, "q4 or q8");
    p.precision = QVL_PRECISION_Q4;
    p.head = QVL_PRECISION_F32;
    expect_refused(&p, QVL_E_ARG, "head");
    p = params(ROOM "/nowhere");
    expect_refused(&p, QVL_E_NOTFOUND, "no such model");
}

static size_t entries(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void places(void **state)
{
    qvl_err err = {0};
    (void)state;
    qvl_pack_params p = params(MODELS "moe-bf16");
    assert_int_equal(mkdir(out_dir, 0777), 0);
    pack(&p); /* an empty folder will do */
    expect_refused(&p, QVL_E_ARG, "not empty");
    shell("touch '%s/mine.txt' " ROOM "/out/vocab.json", out_dir);
    p.path = MODELS "gguf-moe";
    p.force = 1;
    pack(&p); /* over what was packed; a file of ours that the new one has not goes, another stays */
    assert_int_equal(access(ROOM "/out/mine.txt", F_OK), 0);
    assert_int_not_equal(access(ROOM "/out/vocab.json", F_OK), 0);
    qvl_model *m = open_model(out_dir, QVL_PRECISION_Q4);
    qvl_model_close(&m);
    p.out = ROOM "/out/mine.txt";
    expect_refused(&p, QVL_E_ARG, "not a folder");
    p.out = ROOM "/no/such/place";
    expect_refused(&p, QVL_E_NOTFOUND, "cannot create");
    shell("cp -r " MODELS "moe-bf16 '%s'", ROOM "/model");
    p.path = p.out = ROOM "/model"; /* onto itself */
    expect_refused(&p, QVL_E_ARG, "holds another model");
    p.path = TINY; /* or onto another one */
    expect_refused(&p, QVL_E_ARG, "holds another model");
    shell("mv '%s/model.safetensors' " ROOM "/model.gguf; rm -r " ROOM "/model; mkdir " ROOM "/model; mv " ROOM "/model.gguf " ROOM "/model/",
          ROOM "/model");
    expect_refused(&p, QVL_E_ARG, "holds another model");
    p.out = ROOM "/slash///";
    assert_int_equal(qvl_pack(&p, NULL, &err), 0);
    assert_int_equal(access(ROOM "/slash/config.json", F_OK), 0);
    assert_int_equal(entries(ROOM), 3); /* out, model, slash: no stage anywhere */
}

struct stop_after {
    int calls, left;
};

static int stop(void *ud, const char *stage, uint64_t done, uint64_t total)
{
    struct stop_after *s = ud;
    assert_string_equal(stage, "pack");
    assert_true(done <= total);
    s->calls++;
    return s->left-- == 0;
}

/* Stopped at any moment: nothing is there. The last report says that everything was done. */
static void cancelled(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) { /* a small model is done in two reports: the first, and the last */
        struct stop_after s = {.left = k};
        qvl_pack_params p = params(TINY);
        p.progress = stop;
        p.progress_ud = &s;
        expect_refused(&p, QVL_E_CANCELLED, "cancelled");
        assert_int_equal(entries(ROOM), 0);
    }
}

/* ---------------------------------------------------------------- damaged and lying files */

struct parts {
    struct qvl_tensors *file;
    struct qvl_tensor t[512];
    struct qvl_tensor_meta meta[16];
    size_t n, n_meta;
};

static void take_apart(struct parts *x)
{
    const char *key, *value;
    assert_int_equal(qvl_safetensors_open(&x->file, ROOM "/good.safetensors", NULL), 0);
    x->n = qvl_tensors_count(x->file);
    assert_true(x->n < 500);
    for (size_t i = 0; i < x->n; i++)
        x->t[i] = *qvl_tensors_at(x->file, i);
    for (x->n_meta = 0; (key = qvl_tensors_meta_at(x->file, x->n_meta, &value)) != NULL; x->n_meta++)
        x->meta[x->n_meta] = (struct qvl_tensor_meta){key, value};
}

/* Writes the parts in the folder's file and expects that it is refused. */
static void expect_bad(struct parts *x, int code, const char *part)
{
    qvl_err err = {0};
    if (qvl_safetensors_write_streamed(ROOM "/out/model.safetensors", x->t, x->n, x->meta, x->n_meta, 64, NULL, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    qvl_tensors_close(&x->file);
    expect_closed(out_dir, code, part);
    char *json = NULL;
    assert_int_equal(qvl_inspect(out_dir, &json, &err), code);
    assert_non_null(strstr(err.msg, part));
}

static size_t index_of(const struct parts *x, const char *name)
{
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->t[i].name, name) == 0)
            return i;
    fail_msg("%s is missing", name);
    return 0;
}

static void lies(void **state)
{
    static const struct {
        const char *key, *value, *part;
    } wrong[] = {{"qvl.pack", "2", "qvl.pack: found 2, expected 1"},
                 {"qvl.layout", "arm-mmla", "qvl.layout: found arm-mmla, expected x86-lane4"},
                 {"qvl.group", "64", "qvl.group: found 64, expected 32"},
                 {"qvl.holds", "text", "qvl.holds: found text, expected all"},
                 {"qvl.text", "q5", "qvl.text: found q5, expected q4 or q8"},
                 {"qvl.head", "", "qvl.head: found , expected q4 or q8 or bf16"},
                 {"qvl.table", "x", "qvl.table: found x, expected stored or decoded"}};
    static const char matrix[] = "language_model.layers.3.mlp.down_proj.weight.q4";
    static const uint64_t odd;
    struct parts x;
    (void)state;
    qvl_pack_params p = params(TINY);
    pack(&p);
    shell("cp '%s/model.safetensors' " ROOM "/good.safetensors", out_dir);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        take_apart(&x);
        for (size_t k = 0; k < x.n_meta; k++)
            if (strcmp(x.meta[k].key, wrong[i].key) == 0)
                x.meta[k].value = wrong[i].value;
        expect_bad(&x, QVL_E_UNSUPPORTED, wrong[i].part);
    }
    take_apart(&x); /* says q8, is q4 */
    for (size_t k = 0; k < x.n_meta; k++)
        if (strcmp(x.meta[k].key, "qvl.text") == 0)
            x.meta[k].value = "q8";
    expect_bad(&x, QVL_E_FORMAT, "weight.q8: missing, but the file says it is packed");
    take_apart(&x); /* nothing about packing: a checkpoint without a decoder */
    x.n_meta = 0;
    expect_bad(&x, QVL_E_FORMAT, "missing");
    take_apart(&x);
    x.t[index_of(&x, matrix)] = x.t[--x.n];
    expect_bad(&x, QVL_E_FORMAT, "layers.3.mlp.down_proj.weight.q4: missing");
    take_apart(&x); /* the same bytes in another shape */
    struct qvl_tensor *t = &x.t[index_of(&x, matrix)];
    t->shape[0] /= 2;
    t->shape[1] *= 2;
    expect_bad(&x, QVL_E_FORMAT, "layers.3.mlp.down_proj.weight.q4: found [8,16,576] U8, expected [16,8,576] U8");
    take_apart(&x); /* and as another type */
    t = &x.t[index_of(&x, matrix)];
    t->type = QVL_DT_I8;
    expect_bad(&x, QVL_E_FORMAT, "I8, expected");
    take_apart(&x); /* a tensor that is not packed */
    x.t[index_of(&x, "visual.pos_embed.weight")] = x.t[--x.n];
    expect_bad(&x, QVL_E_FORMAT, "visual.pos_embed.weight: missing");
    take_apart(&x); /* 8 bytes in front: every matrix lies where kernels cannot read it */
    x.t[x.n++] = (struct qvl_tensor){.name = "a", .data = &odd, .bytes = 8, .type = QVL_DT_U64, .rank = 1, .shape = {1}};
    qvl_err err = {0};
    assert_int_equal(qvl_safetensors_write(ROOM "/out/model.safetensors", x.t, x.n, x.meta, x.n_meta, &err), 0);
    qvl_tensors_close(&x.file);
    expect_closed(out_dir, QVL_E_FORMAT, "expected a multiple of 64");
    take_apart(&x); /* and the good one is good */
    assert_int_equal(qvl_safetensors_write_streamed(ROOM "/out/model.safetensors", x.t, x.n, x.meta, x.n_meta, 64, NULL, NULL, &err), 0);
    qvl_tensors_close(&x.file);
    qvl_model *m = open_model(out_dir, QVL_PRECISION_AUTO);
    qvl_model_close(&m);
}

static void cut_short(void **state)
{
    size_t len;
    (void)state;
    qvl_pack_params p = params(MODELS "moe-bf16");
    pack(&p);
    char *data = whole_file(ROOM "/out/model.safetensors", &len);
    const size_t at[] = {0, 4, 8, 100, len / 3, len / 2, len - 64, len - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        FILE *f = fopen(ROOM "/out/model.safetensors", "wb");
        assert_true(f && fwrite(data, 1, at[i], f) == at[i]);
        fclose(f);
        expect_closed(out_dir, QVL_E_FORMAT, "model.safetensors");
    }
    free(data);
    assert_int_equal(unlink(ROOM "/out/model.safetensors"), 0);
    expect_closed(out_dir, QVL_E_NOTFOUND, "");
}

/* A file of every kind of block (tools/reference/make_gguf_models.py): each matrix becomes what has its codes. */
static void blocks_keep_their_codes(void **state)
{
    static const char *const want[][2] = {/* how it is stored there, and the suffix when nobody asks for a kind */
        {"layers.0.self_attn.q_proj.weight", "q4m"},   /* Q4_K */
        {"layers.0.self_attn.k_proj.weight", "q8"},    /* Q5_K */
        {"layers.0.self_attn.v_proj.weight", "q8"},    /* Q6_K */
        {"layers.0.self_attn.o_proj.weight", "q4"},    /* Q4_0 */
        {"layers.0.mlp.gate_proj.weight", "q4m"},      /* Q4_K */
        {"layers.1.self_attn.q_proj.weight", "q4m"},   /* Q4_1 */
        {"layers.1.mlp.gate_proj.weight", "q8"},       /* IQ4_NL: 4 bits, but no even steps */
    };
    qvl_pack_params p = params(MODELS "gguf-kmix/Tiny-Q4_K_M.gguf");
    (void)state;
    for (int asked = 0; asked < 2; asked++) {
        struct qvl_tensors *t;
        qvl_err err = {0};
        char name[128];
        p.precision = asked ? QVL_PRECISION_Q4 : QVL_PRECISION_AUTO;
        p.force = asked;
        qvl_pack_result r = pack(&p);
        if (qvl_safetensors_open(&t, out_dir, &err) < 0)
            fail_msg("%s", err.msg);
        for (size_t i = 0; i < QVL_COUNT(want); i++) {
            snprintf(name, sizeof name, "language_model.%s.%s", want[i][0], asked && !strcmp(want[i][1], "q8") ? "q4" : want[i][1]);
            need(t, name);
        }
        qvl_tensors_close(&t);
        /* 8 bits leave 0.0048 of normal weights (see error_of), kept codes what f16 rounds; 4 bits 0.076. */
        if (asked ? !(r.error > 0.03 && r.error < 0.09) : !(r.error > 1e-4 && r.error < 0.0055))
            fail_msg("relative error %g", r.error);
    }
}

#define TEST(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_as_the_source), TEST(hybrids), TEST(quantised_folders), TEST(kept_and_packed_tensors), TEST(kept_head), TEST(threads_do_not_matter),
        TEST(configurations_come_back), TEST(precisions_of_a_packed_model), TEST(places), TEST(cancelled), TEST(lies),
        TEST(cut_short), TEST(blocks_keep_their_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
