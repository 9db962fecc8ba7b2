/* Calibration: moments against arithmetic, and that scales chosen by them lose less where it matters. */
#include "base/mem.h"
#include "decoder/moments.h"
#include "engine/calibrate.h"
#include "session_help.h"

struct job {
    struct qvl_moments *m;
    const float *x;
    int64_t n;
};

static void add(void *ud, const struct qvl_team *t)
{
    struct job *j = ud;
    qvl_moments_add(j->m, t, 1, QVL_MOMENT_DOWN, 0, j->x, j->n);
}

/* The mean square of every channel plus their average; other places stay empty; any number of threads. */
static void means(void **state)
{
    enum { F = 40, N = 7 };
    struct qvl_text_config c = {.n_layer = 2, .d_model = 32, .n_head = 2, .d_head = 16, .d_ff = F};
    float x[N * F];
    uint64_t hash[2][2];
    (void)state;
    for (int i = 0; i < N * F; i++)
        x[i] = (float)(i % 13 - 6) * (float)(i % F);
    for (int round = 0; round < 2; round++) {
        struct qvl_moments *m = NULL;
        struct qvl_pool *pool = NULL;
        assert_int_equal(qvl_moments_open(&m, &c, NULL), 0);
        assert_int_equal(qvl_pool_open(&pool, round ? 3 : 1, NULL), 0);
        struct job j = {m, x, 3};
        qvl_pool_run(pool, add, &j);
        j = (struct job){m, x + 3 * F, N - 3};
        qvl_pool_run(pool, add, &j);
        double want[F] = {0}, all = 0;
        for (int i = 0; i < N * F; i++) {
            want[i % F] += (double)x[i] * (double)x[i] / N;
            all += (double)x[i] * (double)x[i] / N / F;
        }
        const float *got = qvl_moments_of(m, "language_model.layers.1.mlp.down_proj.weight");
        assert_non_null(got);
        for (int k = 0; k < F; k++)
            if (!(fabs((double)got[k] - want[k] - all) <= 1e-6 * (want[k] + all)))
                fail_msg("channel %d: %g, expected %g", k, (double)got[k], want[k] + all);
        static const char *const none[] = {"language_model.layers.0.mlp.down_proj.weight", "language_model.layers.1.mlp.up_proj.weight",
                                           "language_model.layers.1.self_attn.q_proj.weight", "lm_head.weight", "visual.pos_embed.weight",
                                           "language_model.layers.2.mlp.down_proj.weight", "language_model.layers.1.mlp.experts.1.up_proj.weight",
                                           "language_model.layers.-1.mlp.down_proj.weight"};
        for (size_t i = 0; i < sizeof none / sizeof *none; i++)
            assert_null(qvl_moments_of(m, none[i]));
        qvl_moments_hash(m, hash[round]);
        qvl_pool_close(&pool);
        qvl_moments_close(&m);
    }
    assert_memory_equal(hash[0], hash[1], sizeof hash[0]);
}

/* sum over rows and inputs of importance * (w - packed)^2 */
static double weighted_error(const struct qvl_mat *w, const float *importance, int use)
{
    const struct qvl_kernels *k = qvl_kernels_get(QVL_CPU_REF);
    void *packed = qvl_alloc(qvl_quant_bytes(QVL_DT_Q4, w->n_out, w->n_in), 1), *work = qvl_alloc(qvl_quant_work_bytes(w->n_in), 1);
    float *row = malloc((size_t)w->n_in * sizeof *row), *from = malloc((size_t)w->n_in * sizeof *from);
    double sum = 0;
    assert_true(packed && work && row && from);
    qvl_quant_pack(packed, QVL_DT_Q4, w, 0, w->n_out, use ? importance : NULL, k, work);
    struct qvl_mat q = {.data = packed, .type = QVL_DT_Q4, .n_out = w->n_out, .n_in = w->n_in, .stride = w->n_in};
    for (int64_t r = 0; r < w->n_out; r++) {
        qvl_quant_row(row, &q, r);
        k->to_f32(from, (const char *)w->data + (size_t)(r * w->stride) * 2, w->type, w->n_in);
        for (int64_t i = 0; i < w->n_in; i++)
            sum += (double)importance[i] * ((double)from[i] - (double)row[i]) * ((double)from[i] - (double)row[i]);
    }
    qvl_mem_free(packed);
    qvl_mem_free(work);
    free(row);
    free(from);
    return sum;
}

static void write_lines(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"" PICTURE "\"},{\"type\":\"text\",\"text\":\"Describe this "
               "image.\"}]},{\"role\":\"assistant\",\"content\":\"There is one shape.\"}]\n\n"
               "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}\n{\"text\":\"A red circle <|im_end|> at the top.\"}\n");
    fclose(f);
}

/* The tiny model's own inputs: every matrix loses less of what it contributes. */
static void lower_weighted_error(void **state)
{
    static const char path[] = QVL_BINARY_DIR "/calibration.jsonl";
    (void)state;
    write_lines(path);
    qvl_model *m = open_tiny(QVL_PRECISION_F32);
    struct qvl_calibrated c, again;
    struct qvl_watch watch = {.stage = "calibrate"};
    qvl_session_params sp;
    qvl_err err = {0};
    qvl_session_params_default(&sp);
    sp.n_threads = 1;
    if (qvl_calibrate(&c, m, path, &sp, &watch, &err) < 0)
        fail_msg("%s", err.msg);
    sp.n_threads = 2;
    assert_int_equal(qvl_calibrate(&again, m, path, &sp, &watch, &err), 0);
    assert_int_equal(c.n_requests, 3);
    assert_true(c.n_tokens > 60);
    uint64_t a[2], b[2];
    qvl_moments_hash(c.moments, a);
    qvl_moments_hash(again.moments, b);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 6; i++) {
        const struct qvl_layer_weights *l = &m->weights.text.layers[i];
        const struct qvl_mat *mats[] = {&l->q, &l->o, &l->up, &l->down};
        static const char *const tails[] = {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"};
        for (size_t k = 0; k < 4; k++) {
            char name[96];
            snprintf(name, sizeof name, "language_model.layers.%d.%s.weight", i, tails[k]);
            const float *importance = qvl_moments_of(c.moments, name);
            assert_non_null(importance);
            double plain = weighted_error(mats[k], importance, 0), weighted = weighted_error(mats[k], importance, 1);
            if (!(weighted < plain))
                fail_msg("%s: %g with importance, %g without", name, weighted, plain);
        }
    }
    assert_non_null(qvl_moments_of(c.moments, "lm_head.weight"));
    qvl_moments_close(&c.moments);
    qvl_moments_close(&again.moments);
    qvl_model_close(&m);
}

static void bad_files(void **state)
{
    static const char *const text[] = {"", "\n \n", "{\"text\": 1}\n", "{\n", "[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"none.png\"}]}]\n"};
    static const char *const part[] = {"holds no request", "holds no request", "line 1", "line 1", "none.png"};
    static const char path[] = QVL_BINARY_DIR "/bad.jsonl";
    (void)state;
    qvl_pack_params p;
    qvl_pack_params_default(&p);
    p.path = TINY;
    p.out = QVL_BINARY_DIR "/never";
    p.calibrate = path;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        qvl_err err = {0};
        FILE *f = fopen(path, "w");
        assert_true(f && fputs(text[i], f) >= 0);
        fclose(f);
        assert_true(qvl_pack(&p, NULL, &err) < 0);
        if (!strstr(err.msg, part[i]))
            fail_msg("found \"%s\", expected \"... %s ...\"", err.msg, part[i]);
        f = fopen(p.out, "r");
        assert_null(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(means), cmocka_unit_test(lower_weighted_error), cmocka_unit_test(bad_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
