/* Base layer: sizes, buffers, arenas, JSON in Python's spelling, files, traces. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/dtype.h"
#include "base/err.h"
#include "base/file.h"
#include "base/half.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/pages.h"
#include "base/trace.h"
#include "base/watch.h"

static void sizes_are_checked(void **state)
{
    size_t r;
    (void)state;
    assert_int_equal(qvl_mul_size(&r, SIZE_MAX / 2, 3), -1);
    assert_int_equal(r, 0);
    assert_int_equal(qvl_mul_size(&r, 6, 7), 0);
    assert_int_equal(r, 42);
    assert_int_equal(qvl_add_size(&r, SIZE_MAX, 1), -1);
    assert_null(qvl_alloc(SIZE_MAX, 2));
    assert_null(qvl_alloc(SIZE_MAX - 8, 1));
    void *p = qvl_alloc(0, 8);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % QVL_ALIGN, 0);
    qvl_mem_free(p);
}

static void buffer_keeps_its_maximum(void **state)
{
    struct qvl_buf b;
    size_t len;
    (void)state;
    qvl_buf_init(&b, 10);
    assert_int_equal(qvl_buf_puts(&b, "12345"), 0);
    assert_int_equal(qvl_buf_printf(&b, "%d", 678), 0);
    assert_int_equal(qvl_buf_puts(&b, "abc"), -1);
    assert_int_equal(qvl_buf_puts(&b, "9"), -1); /* failed stays failed */
    assert_null(qvl_buf_take(&b, &len));
    qvl_buf_init(&b, 10);
    qvl_buf_add(&b, "\0x", 2);
    char *s = qvl_buf_take(&b, &len);
    assert_int_equal(len, 2);
    assert_memory_equal(s, "\0x", 3);
    qvl_mem_free(s);
}

static void arena_counts_what_it_hands_out(void **state)
{
    struct qvl_arena a = {0};
    (void)state;
    assert_null(qvl_arena_take(&a, 100, 1));
    assert_null(qvl_arena_take(&a, 3, 8));
    size_t need = a.used;
    assert_int_equal(a.overflow, 0);
    assert_int_equal(qvl_arena_open(&a, need, NULL), 0);
    unsigned char *p = qvl_arena_take(&a, 100, 1), *q = qvl_arena_take(&a, 3, 8);
    assert_non_null(p);
    assert_non_null(q);
    assert_true(q >= p + 100);
    assert_int_equal((uintptr_t)q % QVL_ALIGN, 0);
    memset(p, 1, 100);
    memset(q, 2, 24);
    assert_int_equal(a.used, need);
    assert_null(qvl_arena_take(&a, 1, 1));
    assert_int_equal(a.overflow, 1);
    qvl_arena_close(&a);
    assert_null(qvl_arena_take(&a, SIZE_MAX / 2, 4));
    assert_int_equal(a.overflow, 1);
}

static void json_is_written_like_python(void **state)
{
    /* left: any JSON; right: what json.dumps(json.loads(left), ensure_ascii=False) prints */
    static const char *const cases[][2] = {
        {"{\"b\":1,\"a\":[1,2,{}],\"c\":[]}", "{\"b\": 1, \"a\": [1, 2, {}], \"c\": []}"},
        {"[1.0,0.1,1e5,1e15,1e16,1.5e-5,0.0001,-2.50,123456789.125]",
         "[1.0, 0.1, 100000.0, 1000000000000000.0, 1e+16, 1.5e-05, 0.0001, -2.5, 123456789.125]"},
        {"[1e22,1.7976931348623157e308,5e-324,0.30000000000000004,-0.0]",
         "[1e+22, 1.7976931348623157e+308, 5e-324, 0.30000000000000004, -0.0]"},
        {"[true,false,null]", "[true, false, null]"},
        {"[\"\\u00e9\\u4f60 <&'\\/\\u001f\\u007f\\n\\t\\\"\\\\\"]", "[\"é你 <&'/\\u001f\x7f\\n\\t\\\"\\\\\"]"},
        {"[9007199254740993,-1]", "[9007199254740993, -1]"},
    };
    (void)state;
    for (size_t i = 0; i < QVL_COUNT(cases); i++) {
        json_t *v;
        struct qvl_buf b;
        assert_int_equal(qvl_json_parse(&v, cases[i][0], strlen(cases[i][0]), "case", NULL), 0);
        qvl_buf_init(&b, 4096);
        qvl_json_dump_python(&b, v);
        assert_string_equal(b.data, cases[i][1]);
        qvl_buf_free(&b);
        json_decref(v);
    }
    qvl_err e;
    json_t *v;
    assert_int_equal(qvl_json_parse(&v, "{\"a\":1,\"a\":2}", 13, "twice.json", &e), QVL_E_FORMAT);
    assert_non_null(strstr(e.msg, "twice.json"));
}

static void halves_convert_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = qvl_bf16_to_f32((uint16_t)h);
        if (f == f)
            assert_int_equal(qvl_f32_to_bf16(f), h);
        float g = qvl_f16_to_f32((uint16_t)h);
        uint32_t exp = (h >> 10) & 31, mant = h & 1023;
        double want = exp == 0 ? ldexp(mant, -24) : ldexp(1024.0 + mant, (int)exp - 25);
        if (exp != 31)
            assert_true((double)g == (h & 0x8000 ? -want : want));
        else
            assert_true(mant ? g != g : isinf(g));
    }
    assert_int_equal(qvl_f32_to_bf16(1.00390625f), 0x3f80); /* tie to even, down */
    assert_int_equal(qvl_f32_to_bf16(1.01171875f), 0x3f82); /* tie to even, up */
    assert_int_equal(qvl_f32_to_bf16(3.4e38f), 0x7f80);     /* rounds to infinity */
}

static void errors_are_one_line(void **state)
{
    qvl_err e;
    (void)state;
    assert_int_equal(qvl_fail(&e, QVL_E_FORMAT, "bad\nname \x1b[31m"), QVL_E_FORMAT);
    assert_string_equal(e.msg, "bad?name ?[31m");
    assert_int_equal(qvl_fail_prefix(&e, e.code, "file %d: ", 7), QVL_E_FORMAT);
    assert_string_equal(e.msg, "file 7: bad?name ?[31m");
    char longname[2000];
    memset(longname, 'x', sizeof longname - 1);
    longname[sizeof longname - 1] = 0;
    qvl_fail(&e, QVL_E_IO, "%s", longname);
    assert_int_equal(qvl_fail_prefix(&e, e.code, "p: "), QVL_E_IO);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    assert_int_equal(qvl_fail_errno(&e, 2, "gone"), QVL_E_NOTFOUND);
    assert_int_equal(qvl_fail(NULL, QVL_E_ARG, "nobody listens"), QVL_E_ARG);
    for (int c = -20; c <= 1; c++)
        assert_non_null(qvl_strerror(c));
}

static void files_are_replaced_whole(void **state)
{
    char path[] = "/tmp/qvl-test-XXXXXX", *data;
    size_t len;
    struct qvl_out o;
    struct qvl_map m;
    qvl_err e;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "old", 3), 3);
    close(fd);
    assert_int_equal(qvl_out_open(&o, path, &e), 0);
    assert_int_equal(qvl_out_write(&o, "newer", 5, &e), 0);
    qvl_out_close(&o); /* not committed: the old file stays, no rest is left */
    assert_int_equal(qvl_file_read(&data, &len, path, 100, &e), 0);
    assert_string_equal(data, "old");
    qvl_mem_free(data);
    assert_int_equal(qvl_out_open(&o, path, &e), 0);
    assert_int_equal(qvl_out_write(&o, "newer", 5, &e), 0);
    assert_int_equal(qvl_out_commit(&o, &e), 0);
    qvl_out_close(&o);
    assert_int_equal(qvl_map_open(&m, path, &e), 0);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "newer", 5);
    qvl_map_close(&m);
    assert_int_equal(qvl_file_read(&data, &len, path, 4, &e), QVL_E_LIMIT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(qvl_file_read(&data, &len, path, 4, &e), QVL_E_NOTFOUND);
    assert_int_equal(qvl_file_read(&data, &len, "/tmp", 4, &e), QVL_E_IO);
    assert_int_equal(qvl_map_open(&m, "/dev/null", &e), QVL_E_IO);
    assert_int_equal(qvl_out_open(&o, "/nonexistent/dir/file", &e), QVL_E_NOTFOUND);
    assert_int_equal(qvl_out_open(&o, "/tmp", &e), QVL_E_ARG);
    assert_int_equal(qvl_out_open(&o, "/dev/null", &e), QVL_E_ARG); /* or root would lose the device */
    assert_string_equal(qvl_path_base("/a/b/c//"), "c//");
    assert_string_equal(qvl_path_base("c"), "c");
    char *p = qvl_path_join("dir", "name");
    assert_string_equal(p, "dir/name");
    qvl_mem_free(p);
    p = qvl_path_join("dir/", "/abs");
    assert_string_equal(p, "/abs");
    qvl_mem_free(p);
}

static void trace_appends_rows(void **state)
{
    struct qvl_trace t = {0};
    float a[6] = {1, 2, 3, 4, 5, 6};
    int32_t one = 7;
    (void)state;
    qvl_trace_add(NULL, QVL_DT_F32, a, 1, 2, "nothing");
    qvl_trace_add(&t, QVL_DT_F32, a, 2, 2, "x.%d", 1);
    qvl_trace_add(&t, QVL_DT_I32, &one, 1, 0, "n");
    qvl_trace_add(&t, QVL_DT_F32, a + 4, 1, 2, "x.1");
    const struct qvl_trace_entry *e = qvl_trace_find(&t, "x.1");
    assert_int_equal(e->rows, 3);
    assert_int_equal(e->cols, 2);
    assert_memory_equal(e->data, a, sizeof a);
    assert_int_equal(qvl_trace_find(&t, "n")->rank, 1);
    assert_null(qvl_trace_find(&t, "y"));
    qvl_trace_free(&t);
}

static int count_calls(void *ud, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    (void)done;
    (void)total;
    return ++*(int *)ud >= 2;
}

static void watch_stops(void **state)
{
    atomic_int cancel;
    int calls = 0;
    (void)state;
    atomic_init(&cancel, 0);
    struct qvl_watch w = {.cancel = &cancel, .total = 10};
    assert_int_equal(qvl_watch_tick(&w, 1), 0);
    atomic_store(&cancel, 1);
    assert_int_equal(qvl_watch_tick(&w, 1), 1);
    struct qvl_watch v = {.progress = count_calls, .ud = &calls, .stage = "x", .total = 1000};
    assert_int_equal(qvl_watch_tick(&v, 1), 0);
    for (int i = 0; i < 100; i++) /* within 50 ms: not asked again */
        qvl_watch_tick(&v, 1);
    assert_true(calls <= 2);
    assert_int_equal(qvl_watch_tick(&v, 1000), 1);
    assert_int_equal(qvl_watch_tick(NULL, 1), 0);
}

static void hashes_differ(void **state)
{
    unsigned char data[100];
    uint64_t a[2], b[2];
    (void)state;
    memset(data, 0, sizeof data);
    qvl_hash128(a, data, sizeof data, 1);
    qvl_hash128(b, data, sizeof data - 1, 1); /* zero padding must not hide the length */
    assert_memory_not_equal(a, b, sizeof a);
    qvl_hash128(b, data, sizeof data, 2);
    assert_memory_not_equal(a, b, sizeof a);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] ^= 1;
        qvl_hash128(b, data, sizeof data, 1);
        assert_int_not_equal(a[0], b[0]);
        assert_int_not_equal(a[1], b[1]);
        data[i] ^= 1;
    }
}

static void dtypes_have_names(void **state)
{
    (void)state;
    for (int t = 1; t <= QVL_DT_F8_E5M2FNUZ; t++) {
        assert_int_equal(qvl_dtype_from_name(qvl_dtype_name((enum qvl_dtype)t)), t);
        assert_true(qvl_dtype_bits((enum qvl_dtype)t) > 0);
    }
    assert_int_equal(qvl_dtype_from_name("BF17"), QVL_DT_UNKNOWN);
    struct qvl_pages p;
    assert_int_equal(qvl_pages_open(&p, 1 << 20, "test", NULL), 0);
    assert_int_equal(((char *)p.data)[12345], 0);
    qvl_pages_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked), cmocka_unit_test(buffer_keeps_its_maximum),
        cmocka_unit_test(arena_counts_what_it_hands_out), cmocka_unit_test(json_is_written_like_python),
        cmocka_unit_test(halves_convert_exactly), cmocka_unit_test(errors_are_one_line),
        cmocka_unit_test(files_are_replaced_whole), cmocka_unit_test(trace_appends_rows),
        cmocka_unit_test(watch_stops), cmocka_unit_test(hashes_differ), cmocka_unit_test(dtypes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
