/* test_patchify.c - patch rows against transformers: bit-equal, for several geometries and normalisations, and from the
 * picture file to the rows. */
#include "image_help.h"

static void rows_of_reference(void **state)
{
    (void)state;
    json_t *list = help_cases("resize/patchify.json"), *o;
    size_t i;
    json_array_foreach (list, i, o) {
        struct qvl_vision_config v;
        struct qvl_image_config c;
        struct qvl_patches p;
        qvl_err err = {0};
        help_configs(&v, &c, o);
        struct qvl_image im =
            help_pattern(help_u32(json_object_get(o, "width")), help_u32(json_object_get(o, "height")), "noise");
        if (qvl_patchify(&p, &im, &v, &c, &err) < 0)
            fail_msg("%s", err.msg);
        const json_t *shape = json_object_get(o, "shape");
        assert_int_equal(p.n_patch, json_integer_value(json_array_get(shape, 0)));
        assert_int_equal(p.n_elem, json_integer_value(json_array_get(shape, 1)));
        assert_int_equal(qvl_patches_tokens(&p, v.merge), p.n_patch / (v.merge * v.merge));
        help_check_rows(&p, o);
        qvl_patches_free(&p);
        assert_null(p.rows);
        qvl_image_free(&im);
    }
    assert_true(i >= 6);
    json_decref(list);
}

/* The order of rows and elements, from its definition: every pixel has its own value per channel. */
static void order_by_definition(void **state)
{
    (void)state;
    enum { P = 2, M = 2, T = 2, W = 8, H = 12, GW = W / P, GH = H / P, N_ELEM = 3 * T * P * P };
    struct qvl_vision_config v = {.patch = P, .merge = M, .temporal_patch = T, .n_channel = 3};
    struct qvl_image_config c = {.mean = {0, 0, 0}, .std = {1, 1, 1}};
    struct qvl_image im = help_pattern(W, H, "noise");
    struct qvl_patches p;
    assert_int_equal(qvl_patchify(&p, &im, &v, &c, NULL), 0);
    assert_int_equal(p.n_patch, GH * GW);
    assert_int_equal(p.n_elem, N_ELEM);
    int row = 0;
    for (int bh = 0; bh < GH / M; bh++)
        for (int bw = 0; bw < GW / M; bw++)
            for (int k = 0; k < M * M; k++, row++)
                for (int e = 0; e < N_ELEM; e++) {
                    int x = e % P, y = e / P % P, ch = e / (P * P * T);
                    int py = (bh * M + k / M) * P + y, px = (bw * M + k % M) * P + x;
                    float want = (float)im.rgb[(py * W + px) * 3 + ch] / 255.0f;
                    assert_true(p.rows[row * N_ELEM + e] == want);
                }
    qvl_patches_free(&p);
    qvl_image_free(&im);
}

static void file_to_rows(void **state)
{
    (void)state;
    json_t *list = help_cases("resize/pipeline.json"), *o;
    size_t i;
    json_array_foreach (list, i, o) {
        struct qvl_vision_config v;
        struct qvl_image_config c;
        struct qvl_image im, resized;
        struct qvl_patches p;
        qvl_err err = {0};
        size_t len;
        uint32_t w, h;
        const char *name = help_str(o, "file");
        char *data = help_read(name, &len);
        help_configs(&v, &c, o);
        if (qvl_image_decode(&im, data, len, QVL_ALPHA_WHITE, name, &err) < 0 ||
            qvl_smart_resize(&w, &h, im.width, im.height, (uint32_t)(v.patch * v.merge),
                             (uint64_t)json_integer_value(json_object_get(o, "min_pixels")),
                             (uint64_t)json_integer_value(json_object_get(o, "max_pixels")), &err) < 0 ||
            qvl_image_resize(&resized, &im, w, h, &err) < 0 || qvl_patchify(&p, &resized, &v, &c, &err) < 0)
            fail_msg("%s", err.msg);
        help_check_rows(&p, o);
        qvl_patches_free(&p);
        qvl_image_free(&resized);
        qvl_image_free(&im);
        qvl_mem_free(data);
    }
    json_decref(list);
}

static void refused(void **state)
{
    (void)state;
    struct qvl_vision_config v = {.patch = 16, .merge = 2, .temporal_patch = 2, .n_channel = 3}, bad;
    struct qvl_image_config c = {.mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}};
    struct qvl_image im = help_pattern(64, 32, "ramp"), odd = help_pattern(48, 32, "ramp");
    struct qvl_patches p;
    qvl_err err = {0};
    assert_int_equal(qvl_patchify(&p, &odd, &v, &c, &err), QVL_E_ARG);
    assert_null(p.rows);
    bad = v, bad.n_channel = 1;
    assert_int_equal(qvl_patchify(&p, &im, &bad, &c, &err), QVL_E_UNSUPPORTED);
    bad = v, bad.patch = 0;
    assert_int_equal(qvl_patchify(&p, &im, &bad, &c, &err), QVL_E_UNSUPPORTED);
    bad = v, bad.merge = -1;
    assert_int_equal(qvl_patchify(&p, &im, &bad, &c, &err), QVL_E_UNSUPPORTED);
    c.std[1] = 0;
    assert_int_equal(qvl_patchify(&p, &im, &v, &c, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "image_std"));
    qvl_image_free(&im);
    qvl_image_free(&odd);
    qvl_patches_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_of_reference), cmocka_unit_test(order_by_definition),
                                       cmocka_unit_test(file_to_rows), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
