/* GGUF files as they are written: every kind of key and tensors of odd sizes come back through the reader, and what the format has no
 * place for is refused. The bytes of a small file are also compared with the format description. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "formats/gguf.h"
#include "formats/gguf_write.h"

static const char path[] = "/tmp/qvl-gguf-write-test.gguf";

/* Byte k of tensor i is 7i + k. */
static int fill(void *ud, size_t i, int64_t row, int64_t n, void *dst, qvl_err *err)
{
    const struct qvl_gguf_writer *w = ud;
    unsigned char *p = dst;
    (void)err;
    for (size_t k = 0; k < (size_t)n * w->list[i].row_bytes; k++)
        p[k] = (unsigned char)(7 * i + (size_t)row * w->list[i].row_bytes + k);
    return 0;
}

static void write_it(struct qvl_gguf_writer *w)
{
    struct qvl_out out;
    qvl_err err;
    if (qvl_out_open(&out, path, &err) || qvl_gguf_write(w, &out, fill, w, &err) || qvl_out_commit(&out, &err))
        fail_msg("%s", err.msg);
    qvl_out_close(&out);
}

static void keys_and_tensors_come_back(void **state)
{
    static const int64_t vector[] = {5}, blocks[] = {3, 64}, cube[] = {2, 3, 5};
    struct qvl_gguf_writer w;
    struct qvl_gguf *g;
    struct qvl_gguf_text t;
    struct qvl_gguf_list list;
    qvl_err err;
    int i, n, ints[4];
    float reals[3];
    uint8_t bools[3];
    double real = 0;
    (void)state;
    qvl_gguf_writer_init(&w);
    qvl_gguf_put_u32(&w, "a.u32", 4000000000u);
    qvl_gguf_put_i32(&w, "a.i32", -5);
    qvl_gguf_put_f32(&w, "a.f32", 0.1f);
    qvl_gguf_put_bool(&w, "a.bool", 1);
    qvl_gguf_put_text(&w, "a.text", "x\0y", 3);
    qvl_gguf_put_i32s(&w, "a.i32s", (const int32_t[]){1, -2, 3}, 3);
    qvl_gguf_put_f32s(&w, "a.f32s", (const float[]){1, 0.5f, -0.25f}, 3);
    qvl_gguf_put_bools(&w, "a.bools", (const uint8_t[]){0, 1, 7}, 3);
    qvl_gguf_put_texts(&w, "a.texts", 2);
    qvl_gguf_put_next(&w, "", 0);
    qvl_gguf_put_next(&w, "two", 3);
    assert_int_equal(qvl_gguf_put_tensor(&w, "vector", QVL_DT_F32, 1, vector, &err), 0);
    assert_int_equal(qvl_gguf_put_tensor(&w, "blocks", QVL_DT_GGML_Q4_0, 2, blocks, &err), 0);
    assert_int_equal(qvl_gguf_put_tensor(&w, "cube", QVL_DT_F16, 3, cube, &err), 0);
    write_it(&w);
    struct qvl_map file;
    assert_int_equal(qvl_map_open(&file, path, &err), 0);
    assert_int_equal(file.size, qvl_gguf_writer_bytes(&w));
    assert_memory_equal(file.data, "GGUF\3\0\0\0\3\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0a.u32\4\0\0\0\x00\x28\x6b\xee", 45);
    qvl_map_close(&file);

    assert_int_equal(qvl_gguf_open(&g, path, &err), 0);
    int64_t big;
    assert_int_equal(qvl_gguf_int(g, "a.u32", 0, INT64_MAX, 0, &big, &err), 0);
    assert_int_equal(big, 4000000000);
    assert_int_equal(qvl_gguf_i32(g, "a.i32", -9, 9, 0, &i, &err), 0);
    assert_int_equal(i, -5);
    assert_int_equal(qvl_gguf_real(g, "a.f32", 0, 1, &real, &err), 0);
    assert_true(real == (double)0.1f);
    assert_int_equal(qvl_gguf_bool(g, "a.bool", 0, &i, &err), 0);
    assert_int_equal(i, 1);
    assert_int_equal(qvl_gguf_string(g, "a.text", &t, &err), 0);
    assert_true(t.len == 3 && !memcmp(t.s, "x\0y", 3));
    assert_int_equal(qvl_gguf_ints(g, "a.i32s", -9, 9, 4, ints, &n, &err), 0);
    assert_true(n == 3 && ints[1] == -2);
    assert_int_equal(qvl_gguf_reals(g, "a.f32s", -9, 9, 3, reals, &n, &err), 0);
    assert_true(n == 3 && reals[2] == -0.25f);
    assert_int_equal(qvl_gguf_bools(g, "a.bools", 3, bools, &n, &err), 0);
    assert_true(n == 3 && !bools[0] && bools[2] == 1);
    assert_int_equal(qvl_gguf_strings(g, "a.texts", &list, &err), 0);
    assert_true(qvl_gguf_next(&list, &t) && t.len == 0);
    assert_true(qvl_gguf_next(&list, &t) && qvl_gguf_text_is(t, "two") && !qvl_gguf_next(&list, &t));
    static const size_t bytes[] = {20, 3 * 2 * 18, 60}, offset[] = {0, 32, 32 + 128};
    uint64_t first = qvl_tensors_at(qvl_gguf_tensors(g), 0)->offset;
    for (size_t k = 0; k < 3; k++) {
        const struct qvl_tensor *x = qvl_tensors_at(qvl_gguf_tensors(g), k);
        assert_int_equal(x->bytes, bytes[k]);
        assert_int_equal(x->offset - first, offset[k]);
        for (size_t b = 0; b < x->bytes; b++)
            assert_int_equal(((const unsigned char *)x->data)[b], (7 * k + b) & 0xff);
    }
    assert_true(first % 32 == 0);
    const struct qvl_tensor *x = qvl_tensors_find(qvl_gguf_tensors(g), "cube");
    assert_true(x->rank == 3 && x->shape[0] == 2 && x->shape[1] == 3 && x->shape[2] == 5);
    qvl_gguf_close(&g);
    qvl_gguf_writer_free(&w);
    unlink(path);
}

static void refused(void **state)
{
    static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567890123"; /* 64 */
    static const struct {
        const char *name;
        enum qvl_dtype type;
        int rank;
        int64_t shape[5];
    } cases[] = {{"t", QVL_DT_GGML_Q4_0, 2, {2, 48}}, {"t", QVL_DT_F32, 2, {0, 4}}, {"t", QVL_DT_F32, 1, {-1}},
                 {"t", QVL_DT_F32, 0, {0}},           {"t", QVL_DT_F32, 5, {1, 1, 1, 1, 1}}, {"t", QVL_DT_BOOL, 1, {4}},
                 {long_name, QVL_DT_F32, 1, {4}},     {"t", QVL_DT_F32, 3, {INT64_MAX / 2, 1 << 20, 1 << 20}},
                 {"t", QVL_DT_F32, 2, {INT64_MAX / 4, 8}}};
    struct qvl_gguf_writer w;
    (void)state;
    qvl_gguf_writer_init(&w);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qvl_err err = {0};
        if (qvl_gguf_put_tensor(&w, cases[i].name, cases[i].type, cases[i].rank, cases[i].shape, &err) != QVL_E_ARG || !err.msg[0])
            fail_msg("case %zu", i);
        assert_int_equal(w.n, 0);
    }
    static const int64_t half[] = {1 << 30, INT64_MAX / ((int64_t)1 << 32)}; /* two of them are too much for one file */
    qvl_err err;
    assert_int_equal(qvl_gguf_put_tensor(&w, "a", QVL_DT_F32, 2, half, &err), 0);
    assert_int_equal(qvl_gguf_put_tensor(&w, "b", QVL_DT_F32, 2, half, &err), QVL_E_ARG);
    qvl_gguf_writer_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_and_tensors_come_back), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
