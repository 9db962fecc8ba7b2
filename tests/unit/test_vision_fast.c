/* The fast mode of the vision encoder (8-bit weights in its blocks) against f32, and threads of its own for the encoder. */
#include "session_help.h"

#include "engine/internal.h"

static const char *const pictures[] = {
    TINY "/examples/one-shape.png", TINY "/examples/three-shapes.png", TINY "/examples/photo.jpg", TINY "/examples/sign.png",
    TINY "/examples/tall.png",      TINY "/examples/before.png",       TINY "/examples/rotated.jpg",
};

static qvl_model *open_with(qvl_precision precision, qvl_precision vision, const char *cpu)
{
    qvl_model_params p = tiny_params(precision);
    p.vision_precision = vision;
    p.cpu = cpu;
    return must_open(&p);
}

/* The features of a picture, main set and taps one after the other. */
static float *encode(qvl_model *m, const char *picture, unsigned threads, unsigned vision_threads, size_t *rows, size_t *width)
{
    qvl_session_params p;
    qvl_session *s = NULL;
    qvl_err err = {0};
    int encoded = 0;
    qvl_session_params_default(&p);
    p.n_ctx = 1024;
    p.n_threads = threads;
    p.n_threads_vision = vision_threads;
    if (qvl_session_open(&s, m, &p, &err) < 0 || ask(s, picture, "?", &err) < 0 ||
        qvl_media_encode(s, s->media[0], NULL, NULL, &encoded, &err) < 0)
        fail_msg("%s: %s", picture, err.msg);
    const struct qvl_vision_features *f = &s->media[0]->features;
    assert_int_equal(encoded, 1);
    *rows = (size_t)f->n_token * (size_t)(1 + f->n_tap);
    *width = (size_t)f->d_out;
    assert_int_equal(f->bytes, *rows * *width * sizeof(float));
    float *copy = malloc(f->bytes);
    memcpy(copy, f->mem, f->bytes);
    qvl_session_close(&s);
    return copy;
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

/* The gate: rows of the final and the deep sets keep a mean cosine of 0.999 to those of f32, and none falls below 0.99. */
static void stays_close_to_f32(void **state)
{
    (void)state;
    qvl_model *exact = open_with(QVL_PRECISION_F32, QVL_PRECISION_AUTO, NULL), *fast = open_with(QVL_PRECISION_F32, QVL_PRECISION_Q8, NULL);
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        size_t rows, width, rows2, width2;
        float *a = encode(exact, pictures[i], 1, 0, &rows, &width), *b = encode(fast, pictures[i], 2, 0, &rows2, &width2);
        double sum = 0, worst = 1;
        assert_int_equal(rows, rows2);
        assert_int_equal(width, width2);
        assert_true(memcmp(a, b, rows * width * sizeof *a) != 0); /* it is another arithmetic */
        for (size_t r = 0; r < rows; r++) {
            double c = cosine(a + r * width, b + r * width, width);
            sum += c;
            worst = c >= worst ? worst : c; /* NaN becomes the worst */
        }
        if (!(sum / (double)rows >= 0.999) || !(worst >= 0.99))
            fail_msg("%s: mean cosine %.6f, worst %.6f", pictures[i], sum / (double)rows, worst);
        free(a);
        free(b);
    }
    qvl_model_close(&exact);
    qvl_model_close(&fast);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    static const qvl_precision kinds[] = {QVL_PRECISION_F32, QVL_PRECISION_BF16, QVL_PRECISION_Q8};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        qvl_model *m = open_with(QVL_PRECISION_F32, kinds[k], NULL);
        size_t rows, width;
        float *one = encode(m, TINY "/examples/photo.jpg", 1, 0, &rows, &width);
        for (unsigned t = 2; t <= 5; t++) {
            float *more = encode(m, TINY "/examples/photo.jpg", 1, t, &rows, &width);
            assert_memory_equal(one, more, rows * width * sizeof *one);
            free(more);
        }
        free(one);
        qvl_model_close(&m);
    }
}

static void says_what_it_is(void **state)
{
    (void)state;
    qvl_model *m = open_with(QVL_PRECISION_F32, QVL_PRECISION_Q8, NULL);
    qvl_model_info info = {.struct_size = sizeof info};
    qvl_err err = {0};
    assert_int_equal(qvl_model_get_info(m, &info, &err), 0);
    assert_non_null(strstr(info.precision, "vision q8"));
    assert_non_null(strstr(info.precision, "text f32"));
    qvl_model_close(&m);

    qvl_model_params p;
    qvl_model_params_default(&p);
    p.path = TINY;
    p.vision_precision = QVL_PRECISION_Q4;
    assert_int_equal(qvl_model_open(&m, &p, &err), QVL_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "q8"));
    p.vision_precision = QVL_PRECISION_AUTO; /* q8 for the text alone never makes the encoder fast */
    p.precision = QVL_PRECISION_Q8;
    p.no_cache = 1;
    assert_int_equal(qvl_model_open(&m, &p, &err), 0);
    assert_int_equal(qvl_model_get_info(m, &info, &err), 0);
    assert_non_null(strstr(info.precision, "vision bf16"));
    qvl_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_close_to_f32),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(says_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
