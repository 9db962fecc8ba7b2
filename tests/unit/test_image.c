/* test_image.c - every picture of tests/data/images against its index: size and bytes, or the error. Then limits,
 * messages and silence. */
#include "image_help.h"

#include <unistd.h>

#include "image/image_internal.h"

static int error_code(const char *name)
{
    static const struct {
        const char *name;
        int code;
    } codes[] = {{"FORMAT", QVL_E_FORMAT}, {"LIMIT", QVL_E_LIMIT}, {"UNSUPPORTED", QVL_E_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(name, codes[i].name) == 0)
            return codes[i].code;
    fail_msg("unknown error name %s", name);
    return 0;
}

static char *read_case(const json_t *o, const char *key, size_t *len)
{
    char name[512];
    snprintf(name, sizeof name, "tests/data/images/%s", help_str(o, key));
    return help_read(name, len);
}

/* Decodes a case that must succeed. The data are copied to memory of exactly their length, so that sanitizers see
 * reads beyond the end. */
static struct qvl_image decode_case(const json_t *o, qvl_alpha alpha)
{
    struct qvl_image im;
    qvl_err err = {0};
    size_t len;
    char *data = read_case(o, "file", &len);
    void *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, data, len);
    if (qvl_image_decode(&im, exact, len, alpha, help_str(o, "file"), &err) < 0)
        fail_msg("%s", err.msg);
    free(exact);
    qvl_mem_free(data);
    if (im.width != help_u32(json_object_get(o, "width")) || im.height != help_u32(json_object_get(o, "height")))
        fail_msg("%s: found %ux%u", help_str(o, "file"), im.width, im.height);
    return im;
}

static void check_bytes(const json_t *o, qvl_alpha alpha)
{
    char hex[65];
    struct qvl_image im = decode_case(o, alpha);
    const json_t *raw = json_object_get(o, "rgb");
    for (size_t i = 0; alpha == QVL_ALPHA_WHITE && i < json_array_size(raw); i++)
        if (im.rgb[i] != json_integer_value(json_array_get(raw, i)))
            fail_msg("%s: byte %zu: found %u, expected %u", help_str(o, "file"), i, im.rgb[i],
                     help_u32(json_array_get(raw, i)));
    help_sha256(hex, im.rgb, (size_t)im.width * im.height * 3);
    if (strcmp(hex, help_str(o, alpha == QVL_ALPHA_WHITE ? "sha256" : "sha256_drop")) != 0)
        fail_msg("%s: other bytes than the reference (alpha mode %d)", help_str(o, "file"), (int)alpha);
    qvl_image_free(&im);
}

/* Decoders of lossy kinds that need not agree to the last bit: mean absolute difference. */
static void check_near(const json_t *o)
{
    size_t len;
    double sum = 0, tolerance = json_number_value(json_object_get(o, "tolerance"));
    char *want = read_case(o, "rgb_file", &len);
    struct qvl_image im = decode_case(o, QVL_ALPHA_WHITE);
    assert_int_equal(len, (size_t)im.width * im.height * 3);
    for (size_t i = 0; i < len; i++)
        sum += abs(im.rgb[i] - (uint8_t)want[i]);
    if (!(sum / (double)len <= tolerance) || !(tolerance > 0))
        fail_msg("%s: mean difference %g, limit %g", help_str(o, "file"), sum / (double)len, tolerance);
    qvl_image_free(&im);
    qvl_mem_free(want);
}

static void check_refused(const json_t *o)
{
    struct qvl_image im;
    qvl_err err = {0};
    size_t len;
    const char *name = help_str(o, "file");
    char *data = read_case(o, "file", &len);
    int rc = qvl_image_decode(&im, data, len, QVL_ALPHA_WHITE, name, &err);
    if (rc != error_code(help_str(o, "error")) || err.code != rc || im.rgb || im.width || im.height)
        fail_msg("%s: code %d (%s), expected %s", name, rc, err.msg, help_str(o, "error"));
    if (strncmp(err.msg, name, strlen(name)) != 0)
        fail_msg("%s: the message does not begin with the name: %s", name, err.msg);
    qvl_mem_free(data);
}

static void every_case(void **state)
{
    (void)state;
    size_t i, ok = 0, near_enough = 0, refused = 0;
    json_t *list = help_cases("images/index.json"), *o;
    json_array_foreach (list, i, o) {
        if (json_object_get(o, "error")) {
            check_refused(o);
            refused++;
        } else if (json_object_get(o, "rgb_file")) {
            check_near(o);
            near_enough++;
        } else {
            check_bytes(o, QVL_ALPHA_WHITE);
            check_bytes(o, QVL_ALPHA_DROP);
            ok++;
        }
    }
    assert_true(ok >= 180 && near_enough >= 7 && refused >= 90);
    json_decref(list);
}

/* Truncation anywhere is an error or, at the very end, still the whole picture; never another picture. */
static void every_prefix(void **state)
{
    (void)state;
    static const char *const names[] = {"420.jpg",
                                        "grey_progressive.jpg",
                                        "palette4_interlaced.png",
                                        "color6_8.png",
                                        "alpha_lossy.webp",
                                        "lossless.webp",
                                        "offset_transparent.gif",
                                        "palette8.bmp",
                                        "rgb_le.tif",
                                        "packed.qoi",
                                        "p3.ppm",
                                        "rle8.bmp",
                                        "rgb_tiff_lzw.tif",
                                        "rgb_packbits.tif",
                                        "rgb_tiff_adobe_deflate.tif",
                                        "bilevel_g4.tif"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[256];
        struct qvl_image whole, part;
        size_t len, accepted = 0;
        snprintf(name, sizeof name, "tests/data/images/%s", names[i]);
        char *data = help_read(name, &len);
        assert_int_equal(qvl_image_decode(&whole, data, len, QVL_ALPHA_WHITE, name, NULL), 0);
        for (size_t n = 0; n < len; n++) {
            char *cut = malloc(n ? n : 1);
            assert_non_null(cut);
            memcpy(cut, data, n);
            if (qvl_image_decode(&part, cut, n, QVL_ALPHA_WHITE, name, NULL) == 0) {
                accepted++;
                if (part.width != whole.width || part.height != whole.height ||
                    memcmp(part.rgb, whole.rgb, (size_t)whole.width * whole.height * 3) != 0)
                    fail_msg("%s: the first %zu of %zu bytes give another picture", names[i], n, len);
                qvl_image_free(&part);
            }
            free(cut);
        }
        if (accepted > 200) /* a directory behind the pixels, a text ending ... */
            fail_msg("%s: %zu prefixes accepted", names[i], accepted);
        qvl_image_free(&whole);
        qvl_mem_free(data);
    }
}

static void limits_of_a_job(void **state)
{
    (void)state;
    qvl_err err = {0};
    size_t len;
    char *data = help_read("tests/data/images/420.jpg", &len); /* 45x31 */
    struct qvl_image im;
    struct qvl_image_job job = {
        .data = (uint8_t *)data, .size = len, .max_side = 45, .max_pixels = 45 * 31, .what = "x.jpg", .err = &err};
    assert_int_equal(qvl_image_decode_job(&im, &job), 0);
    qvl_image_free(&im);
    job.max_pixels--;
    assert_int_equal(qvl_image_decode_job(&im, &job), QVL_E_LIMIT);
    assert_non_null(strstr(err.msg, "x.jpg"));
    assert_non_null(strstr(err.msg, "45x31"));
    assert_non_null(strstr(err.msg, "1394"));
    job.max_pixels++;
    job.max_side--;
    assert_int_equal(qvl_image_decode_job(&im, &job), QVL_E_LIMIT);
    assert_non_null(strstr(err.msg, "limit 44"));
    qvl_mem_free(data);
}

static void arguments(void **state)
{
    (void)state;
    qvl_err err = {0};
    struct qvl_image im;
    assert_int_equal(qvl_image_decode(&im, NULL, 0, QVL_ALPHA_WHITE, "nothing", &err), QVL_E_FORMAT);
    assert_int_equal(qvl_image_decode(&im, NULL, 100, QVL_ALPHA_WHITE, "nothing", &err), QVL_E_FORMAT);
    assert_int_equal(qvl_image_decode(&im, "x", 1, (qvl_alpha)9, "nothing", &err), QVL_E_ARG);
    assert_int_equal(qvl_image_decode(&im, "x", 1, QVL_ALPHA_WHITE, NULL, NULL), QVL_E_FORMAT);
    assert_int_equal(qvl_image_decode(&im, "x", (size_t)QVL_IMAGE_MAX_FILE + 1, QVL_ALPHA_WHITE, "big", &err), QVL_E_LIMIT);
    assert_non_null(strstr(err.msg, "536870912"));
}

/* libpng's own limits refuse chunks of 8 MB; a private chunk of any size is none of our business. */
static void large_private_chunk(void **state)
{
    (void)state;
    const size_t n = 9u << 20, head = 33; /* signature and IHDR */
    size_t len;
    char *data = help_read("tests/data/images/1x1.png", &len);
    uint8_t *big = calloc(len + n + 12, 1), *chunk = big + head;
    assert_non_null(big);
    memcpy(big, data, head);
    memcpy(chunk + 4, "prVt", 4);
    for (int i = 0; i < 4; i++)
        chunk[i] = (uint8_t)(n >> (24 - 8 * i));
    uint32_t crc = 0xffffffffu;
    for (size_t i = 4; i < 8 + n; i++) {
        crc ^= chunk[i];
        for (int b = 0; b < 8; b++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    for (int i = 0; i < 4; i++)
        chunk[8 + n + (size_t)i] = (uint8_t)(~crc >> (24 - 8 * i));
    memcpy(chunk + 12 + n, data + head, len - head);
    struct qvl_image im;
    qvl_err err = {0};
    if (qvl_image_decode(&im, big, len + n + 12, QVL_ALPHA_WHITE, "big.png", &err) < 0)
        fail_msg("%s", err.msg);
    assert_memory_equal(im.rgb, ((uint8_t[]){1, 2, 3}), 3);
    qvl_image_free(&im);
    free(big);
    qvl_mem_free(data);
}

/* The library may not print: neither may the libraries that it uses. */
static void silence(void **state)
{
    (void)state;
    size_t i;
    json_t *list = help_cases("images/index.json"), *o;
    FILE *catch = tmpfile();
    assert_non_null(catch);
    fflush(stdout);
    fflush(stderr);
    int out = dup(1), err = dup(2);
    assert_true(out >= 0 && err >= 0 && dup2(fileno(catch), 1) == 1 && dup2(fileno(catch), 2) == 2);
    json_array_foreach (list, i, o) {
        struct qvl_image im;
        size_t len;
        char *data = read_case(o, "file", &len);
        if (qvl_image_decode(&im, data, len, QVL_ALPHA_WHITE, "x", NULL) == 0)
            qvl_image_free(&im);
        qvl_mem_free(data);
    }
    fflush(stdout);
    fflush(stderr);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    assert_int_equal(lseek(fileno(catch), 0, SEEK_END), 0);
    fclose(catch);
    json_decref(list);
}

/* The digest that all comparisons rest on. */
static void digest(void **state)
{
    (void)state;
    char hex[65], text[57] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    help_sha256(hex, "abc", 3);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    help_sha256(hex, text, 56);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(digest),       cmocka_unit_test(every_case),
                                       cmocka_unit_test(every_prefix), cmocka_unit_test(limits_of_a_job),
                                       cmocka_unit_test(arguments),    cmocka_unit_test(silence),
                                       cmocka_unit_test(large_private_chunk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
