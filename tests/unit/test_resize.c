/* test_resize.c - target sizes and resized bytes against transformers and torchvision (tests/data/resize). */
#include "image_help.h"

static const struct {
    uint32_t factor;
    uint64_t min, max;
} settings[] = {
    {32, 65536, 16777216}, {28, 3136, 1003520}, {16, 9216, 102400}, {32, 256 * 1024, 1280 * 1024}, {48, 1, 1ull << 40}};

static uint32_t u16_at(const char *p) { return (uint32_t)(uint8_t)p[0] | (uint32_t)(uint8_t)p[1] << 8; }

static void sizes_of_reference(void **state)
{
    (void)state;
    size_t len = 0, refused = 0;
    char *data = help_read("tests/data/resize/smart_resize.bin", &len);
    assert_true(len == 50000);
    for (size_t i = 0; i < len; i += 10) {
        uint32_t w = u16_at(data + i), h = u16_at(data + i + 2), s = u16_at(data + i + 4), tw = 7, th = 7;
        qvl_err err = {0};
        assert_true(s < sizeof settings / sizeof *settings);
        int rc = qvl_smart_resize(&tw, &th, w, h, settings[s].factor, settings[s].min, settings[s].max, &err);
        uint32_t want_w = u16_at(data + i + 6), want_h = u16_at(data + i + 8);
        if (rc != (want_w ? 0 : QVL_E_LIMIT) || tw != want_w || th != want_h)
            fail_msg("%ux%u, setting %u: found %ux%u (%s), expected %ux%u", w, h, s, tw, th, err.msg, want_w, want_h);
        refused += !want_w;
    }
    assert_true(refused > 50 && refused < 2500); /* both kinds were there */
    qvl_mem_free(data);
}

/* The published table of worked sizes. */
static void worked_sizes(void **state)
{
    (void)state;
    static const uint32_t t[][4] = {{400, 300, 384, 288},     {640, 480, 640, 480},     {1920, 1080, 1920, 1088},
                                    {224, 224, 256, 256},     {1, 1, 256, 256},         {16, 16, 256, 256},
                                    {100, 100, 256, 256},     {720, 1280, 704, 1280},   {2480, 3508, 2496, 3520},
                                    {4096, 4096, 4096, 4096}, {8000, 6000, 4704, 3520}, {10, 2000, 32, 3648}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint32_t w = 0, h = 0;
        assert_int_equal(qvl_smart_resize(&w, &h, t[i][0], t[i][1], 32, 65536, 16777216, NULL), 0);
        assert_int_equal(w, t[i][2]);
        assert_int_equal(h, t[i][3]);
    }
}

static void refused_sizes(void **state)
{
    (void)state;
    uint32_t w, h;
    qvl_err err = {0};
    assert_int_equal(qvl_smart_resize(&w, &h, 200, 1, 32, 65536, 16777216, &err), 0);
    assert_int_equal(qvl_smart_resize(&w, &h, 201, 1, 32, 65536, 16777216, &err), QVL_E_LIMIT);
    assert_non_null(strstr(err.msg, "201"));
    assert_int_equal(qvl_smart_resize(&w, &h, 1, 201, 32, 65536, 16777216, &err), QVL_E_LIMIT);
    assert_int_equal(qvl_smart_resize(&w, &h, 0, 5, 32, 65536, 16777216, &err), QVL_E_ARG);
    assert_int_equal(qvl_smart_resize(&w, &h, 5, 0, 32, 65536, 16777216, &err), QVL_E_ARG);
    assert_int_equal(qvl_smart_resize(&w, &h, 5, 5, 0, 65536, 16777216, &err), QVL_E_ARG);
    assert_int_equal(qvl_smart_resize(&w, &h, 5, 5, 32, 0, 16777216, &err), QVL_E_ARG);
    assert_int_equal(qvl_smart_resize(&w, &h, 5, 5, 32, 65536, 0, &err), QVL_E_ARG);
    /* A minimum that would need more than the largest side. */
    assert_int_equal(qvl_smart_resize(&w, &h, 100, 100, 32, 1ull << 40, 1ull << 50, &err), QVL_E_LIMIT);
    assert_int_equal(qvl_smart_resize(&w, &h, 100, 100, 32, UINT64_MAX, UINT64_MAX, &err), QVL_E_LIMIT);
    assert_int_equal(w, 0);
}

static void bytes_of_reference(void **state)
{
    (void)state;
    json_t *list = help_cases("resize/resize.json"), *item;
    size_t i;
    json_array_foreach (list, i, item) {
        uint32_t d[4];
        for (size_t k = 0; k < 4; k++)
            d[k] = help_u32(json_array_get(item, k));
        const char *kind = json_string_value(json_array_get(item, 4)), *want = json_string_value(json_array_get(item, 5));
        struct qvl_image in = help_pattern(d[0], d[1], kind), out;
        char hex[65], before[65], after[65];
        qvl_err err = {0};
        help_sha256(before, in.rgb, (size_t)d[0] * d[1] * 3);
        if (qvl_image_resize(&out, &in, d[2], d[3], &err) < 0)
            fail_msg("%s", err.msg);
        help_sha256(hex, out.rgb, (size_t)d[2] * d[3] * 3);
        help_sha256(after, in.rgb, (size_t)d[0] * d[1] * 3);
        if (out.width != d[2] || out.height != d[3] || strcmp(hex, want) != 0)
            fail_msg("%ux%u -> %ux%u %s: other bytes than the reference", d[0], d[1], d[2], d[3], kind);
        assert_string_equal(before, after);
        qvl_image_free(&in);
        qvl_image_free(&out);
    }
    assert_true(i >= 60);
    json_decref(list);
}

static void constant_stays_constant(void **state)
{
    (void)state;
    static const uint8_t values[] = {0, 1, 127, 254, 255};
    for (size_t i = 0; i < sizeof values; i++) {
        struct qvl_image in = help_pattern(37, 23, "ramp"), out;
        memset(in.rgb, values[i], 37 * 23 * 3);
        assert_int_equal(qvl_image_resize(&out, &in, 64, 11, NULL), 0);
        for (size_t k = 0; k < 64 * 11 * 3; k++)
            assert_int_equal(out.rgb[k], values[i]);
        qvl_image_free(&in);
        qvl_image_free(&out);
    }
}

static void senseless_arguments(void **state)
{
    (void)state;
    struct qvl_image in = help_pattern(4, 4, "ramp"), out, none = {0};
    qvl_err err = {0};
    assert_int_equal(qvl_image_resize(&out, &in, 0, 4, &err), QVL_E_ARG);
    assert_int_equal(qvl_image_resize(&out, &in, 4, 0, &err), QVL_E_ARG);
    assert_int_equal(qvl_image_resize(&out, &none, 4, 4, &err), QVL_E_ARG);
    assert_null(out.rgb);
    qvl_image_free(&in);
    qvl_image_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_reference),      cmocka_unit_test(worked_sizes),
        cmocka_unit_test(refused_sizes),           cmocka_unit_test(bytes_of_reference),
        cmocka_unit_test(constant_stays_constant), cmocka_unit_test(senseless_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
