/* GGUF reader: what is in a good file, every way of being bad, split files. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/gguf.h"
#include "unit/gguf_build.h"

/* Opens an exactly sized copy, so that reading beyond it is seen. */
static int open_bytes(struct qvl_gguf **g, const struct qvl_buf *b, size_t n, void **copy, qvl_err *err)
{
    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    memcpy(*copy, b->data, n);
    *err = (qvl_err){0};
    return qvl_gguf_open_memory(g, *copy, n, "t.gguf", err);
}

static void good(struct gguf *f)
{
    gguf_begin(f);
    gguf_text(f, "general.architecture", "qwen3vl");
    gguf_uint(f, "a.u8", U8, 200);
    gguf_uint(f, "a.i8", I8, 0xfe);
    gguf_uint(f, "a.u16", U16, 60000);
    gguf_uint(f, "a.i16", I16, 0xfffd);
    gguf_uint(f, "a.u32", U32, 4000000000u);
    gguf_uint(f, "a.i32", I32, 0xfffffffcu);
    gguf_uint(f, "a.u64", U64, 1ull << 40);
    gguf_uint(f, "a.i64", I64, (uint64_t)-5);
    gguf_uint(f, "a.huge", U64, UINT64_MAX);
    gguf_uint(f, "a.f64", F64, 0x3ff8000000000000u); /* 1.5 */
    gguf_f32(f, "a.f32", -0.25f);
    gguf_f32(f, "a.nan", NAN);
    gguf_uint(f, "a.yes", BOOL, 7);
    gguf_uint(f, "a.no", BOOL, 0);
    gguf_list(f, "l.i32", I32, 4);
    for (uint64_t i = 0; i < 4; i++)
        put(&f->kv, 24 - i, 4);
    gguf_list(f, "l.same", U32, 3);
    for (int i = 0; i < 3; i++)
        put(&f->kv, 9, 4);
    gguf_list(f, "l.bool", BOOL, 3);
    put(&f->kv, 0x000100, 3);
    gguf_list(f, "l.f32", F32, 2);
    put(&f->kv, 0x3f0000003f800000u, 8); /* 1, 0.5 */
    gguf_list(f, "l.str", STR, 3);
    put_str(&f->kv, "one", 3);
    put_str(&f->kv, "", 0);
    put_str(&f->kv, "t\0w", 3);
    gguf_list(f, "l.none", STR, 0);
    gguf_tensor(f, "f32", 0, 3, 2, 24);
    gguf_tensor(f, "q4_k", 12, 512, 2, 2 * 2 * 144);
    gguf_tensor(f, "iq3_s", 21, 256, 1, 110);
    gguf_info(f, "scalar", 0, NULL, 0, (f->data.len + 31) / 32 * 32);
    while (f->data.len % 32)
        qvl_buf_putc(&f->data, 0);
    put(&f->data, 0x3f800000, 4);
    gguf_end(f);
}

static void metadata(void **state)
{
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"a.u8", 200}, {"a.i8", -2}, {"a.u16", 60000}, {"a.i16", -3}, {"a.u32", 4000000000}, {"a.i32", -4},
                {"a.u64", INT64_C(1) << 40}, {"a.i64", -5}, {"l.same", 9}, {"absent", 77}};
    struct gguf f;
    struct qvl_gguf *g;
    qvl_err err;
    void *copy;
    (void)state;
    good(&f);
    assert_int_equal(open_bytes(&g, &f.out, f.out.len, &copy, &err), 0);
    int64_t v;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        assert_int_equal(qvl_gguf_int(g, ints[i].key, INT64_MIN, INT64_MAX, 77, &v, &err), 0);
        assert_int_equal(v, ints[i].value);
    }
    /* limits, types, absence */
    assert_int_equal(qvl_gguf_int(g, "a.u8", 0, 199, 0, &v, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "t.gguf: a.u8: found 200, expected 0 to 199"));
    assert_int_equal(qvl_gguf_int(g, "a.huge", 0, INT64_MAX, 0, &v, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_int(g, "a.f32", 0, 9, 0, &v, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_int(g, "a.yes", 0, 9, 0, &v, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_int(g, "l.i32", 0, 99, 0, &v, &err), QVL_E_UNSUPPORTED); /* differs by layer */
    assert_int_equal(qvl_gguf_int(g, "l.none", 0, 99, 0, &v, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_int(g, "absent", 0, 9, QVL_GGUF_REQUIRED, &v, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "absent: missing"));

    double x = 3;
    assert_int_equal(qvl_gguf_real(g, "a.f64", 0, 2, &x, &err), 0);
    assert_true(x == 1.5);
    assert_int_equal(qvl_gguf_real(g, "a.f32", -1, 2, &x, &err), 0);
    assert_true(x == -0.25);
    assert_int_equal(qvl_gguf_real(g, "absent", -1, 2, &x, &err), 0);
    assert_true(x == -0.25);
    assert_int_equal(qvl_gguf_real(g, "a.nan", -1e300, 1e300, &x, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_real(g, "a.u8", 0, 999, &x, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_real(g, "l.f32", 0, 999, &x, &err), QVL_E_FORMAT);

    int b, n, list[4];
    float reals[2];
    uint8_t flags[3];
    assert_int_equal(qvl_gguf_bool(g, "a.yes", 0, &b, &err), 0);
    assert_int_equal(b, 1);
    assert_int_equal(qvl_gguf_bool(g, "a.no", 1, &b, &err), 0);
    assert_int_equal(b, 0);
    assert_int_equal(qvl_gguf_bool(g, "a.u8", 0, &b, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_ints(g, "l.i32", 0, 24, 4, list, &n, &err), 0);
    assert_int_equal(n, 4);
    assert_int_equal(list[3], 21);
    assert_int_equal(qvl_gguf_ints(g, "l.i32", 0, 24, 3, list, &n, &err), QVL_E_LIMIT);
    assert_int_equal(qvl_gguf_ints(g, "l.i32", 0, 23, 4, list, &n, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_ints(g, "a.u8", 0, 24, 4, list, &n, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_ints(g, "absent", 0, 24, 4, list, &n, &err), 0);
    assert_int_equal(n, -1);
    assert_int_equal(qvl_gguf_reals(g, "l.f32", 0, 1, 2, reals, &n, &err), 0);
    assert_true(n == 2 && reals[0] == 1 && reals[1] == 0.5f);
    assert_int_equal(qvl_gguf_bools(g, "l.bool", 3, flags, &n, &err), 0);
    assert_true(n == 3 && !flags[0] && flags[1] && !flags[2]);
    assert_int_equal(qvl_gguf_bools(g, "l.i32", 4, flags, &n, &err), QVL_E_FORMAT);

    struct qvl_gguf_text t;
    struct qvl_gguf_list strings;
    assert_int_equal(qvl_gguf_string(g, "general.architecture", &t, &err), 0);
    assert_true(qvl_gguf_text_is(t, "qwen3vl") && !qvl_gguf_text_is(t, "qwen3v"));
    assert_int_equal(qvl_gguf_string(g, "l.str", &t, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_strings(g, "l.str", &strings, &err), 0);
    assert_int_equal(strings.left, 3);
    assert_true(qvl_gguf_next(&strings, &t) && qvl_gguf_text_is(t, "one"));
    assert_true(qvl_gguf_next(&strings, &t) && t.len == 0);
    assert_true(qvl_gguf_next(&strings, &t) && t.len == 3 && memcmp(t.s, "t\0w", 3) == 0);
    assert_false(qvl_gguf_next(&strings, &t));
    assert_int_equal(qvl_gguf_strings(g, "l.i32", &strings, &err), QVL_E_FORMAT);
    assert_int_equal(qvl_gguf_strings(g, "absent", &strings, &err), 0);
    assert_null(strings.at);
    assert_string_equal(qvl_tensors_meta(qvl_gguf_tensors(g), "l.i32"), "i32[4]: 24, 23, 22, 21");
    assert_string_equal(qvl_tensors_meta(qvl_gguf_tensors(g), "general.architecture"), "qwen3vl");
    assert_string_equal(qvl_tensors_meta(qvl_gguf_tensors(g), "l.str"), "string[3]");
    qvl_gguf_close(&g);
    free(copy);
    gguf_free(&f);
}

static void tensors(void **state)
{
    struct gguf f;
    struct qvl_gguf *g;
    qvl_err err;
    void *copy;
    (void)state;
    good(&f);
    assert_int_equal(open_bytes(&g, &f.out, f.out.len, &copy, &err), 0);
    const struct qvl_tensors *set = qvl_gguf_tensors(g);
    assert_int_equal(qvl_tensors_count(set), 4);
    const struct qvl_tensor *t = qvl_tensors_find(set, "f32");
    assert_true(t && t->type == QVL_DT_F32 && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3 && t->bytes == 24);
    assert_true((const char *)t->data == (const char *)copy + t->offset && t->offset % 32 == 0);
    t = qvl_tensors_find(set, "q4_k");
    assert_true(t && t->type == QVL_DT_GGML_Q4_K && t->shape[0] == 2 && t->shape[1] == 512 && t->bytes == 576);
    for (size_t i = 0; i < t->bytes; i++)
        assert_int_equal(((const unsigned char *)t->data)[i], i & 255);
    t = qvl_tensors_find(set, "iq3_s"); /* listed, though nothing can decode it */
    assert_true(t && t->type == QVL_DT_UNKNOWN && strcmp(t->type_name, "IQ3_S") == 0 && t->bytes == 110);
    t = qvl_tensors_find(set, "scalar");
    assert_true(t && t->rank == 0 && t->bytes == 4 && memcmp(t->data, "\0\0\x80\x3f", 4) == 0);
    qvl_gguf_close(&g);
    free(copy);
    gguf_free(&f);
}

/* A file cut anywhere is refused, and nothing behind the cut is read. */
static void cut_anywhere(void **state)
{
    struct gguf f;
    (void)state;
    good(&f);
    for (size_t n = 0; n < f.out.len; n++) {
        struct qvl_gguf *g = NULL;
        qvl_err err;
        void *copy;
        int rc = open_bytes(&g, &f.out, n, &copy, &err);
        if (rc != QVL_E_FORMAT)
            print_message("cut at %zu of %zu: %d %s\n", n, f.out.len, rc, err.msg);
        assert_int_equal(rc, QVL_E_FORMAT);
        assert_null(g);
        assert_true(err.msg[0]);
        free(copy);
    }
    gguf_free(&f);
}

/* ---------------------------------------------------------------- bad files */

static const uint64_t ne4[5] = {32, 1, 1, 1, 1};

static void bad_magic(struct gguf *f) { gguf_end(f); memcpy(f->out.data, "GGUX", 4); }
static void bad_version_1(struct gguf *f) { f->version = 1; }
static void bad_version_4(struct gguf *f) { f->version = 4; }
static void bad_big_endian(struct gguf *f) { f->version = 0x03000000; }
static void bad_n_kv(struct gguf *f) { f->n_kv = UINT64_MAX; }
static void bad_n_tensors(struct gguf *f) { f->n_tensors = UINT64_MAX; }
static void bad_many_kv(struct gguf *f) { f->n_kv = 65536; }
static void bad_key_length(struct gguf *f) { put(&f->kv, 1ull << 63, 8); f->n_kv++; }
static void bad_key_empty(struct gguf *f) { gguf_uint(f, "", U8, 1); }
static void bad_key_nul(struct gguf *f) { put_str(&f->kv, "a\0b", 3); put(&f->kv, U8, 4); put(&f->kv, 1, 1); f->n_kv++; }
static void bad_key_twice(struct gguf *f) { gguf_text(f, "general.architecture", "llama"); }
static void bad_value_type(struct gguf *f) { gguf_key(f, "k", 13); put(&f->kv, 0, 8); }
static void bad_huge_list(struct gguf *f) { gguf_list(f, "k", F64, 1ull << 61); }
static void bad_long_list(struct gguf *f) { gguf_list(f, "k", U8, 1000); }
static void bad_string_list(struct gguf *f) { gguf_list(f, "k", STR, 1000); }
static void bad_string_in_list(struct gguf *f) { gguf_list(f, "k", STR, 1); put(&f->kv, UINT64_MAX, 8); }
static void bad_nested(struct gguf *f) { gguf_list(f, "k", ARR, 1); put(&f->kv, U8, 4); put(&f->kv, 0, 8); }
static void bad_list_type(struct gguf *f) { gguf_list(f, "k", 13, 0); }
static void bad_align_0(struct gguf *f) { gguf_uint(f, "general.alignment", U32, 0); }
static void bad_align_3(struct gguf *f) { gguf_uint(f, "general.alignment", U32, 3); }
static void bad_align_u64(struct gguf *f) { gguf_uint(f, "general.alignment", U64, 32); }
static void bad_align_huge(struct gguf *f) { gguf_uint(f, "general.alignment", U32, 1u << 31); }
static void bad_rank(struct gguf *f) { gguf_info(f, "t", 5, ne4, 0, 0); }
static void bad_ne_0(struct gguf *f) { gguf_tensor(f, "t", 0, 0, 4, 0); put(&f->data, 0, 8); }
static void bad_ne_negative(struct gguf *f) { gguf_tensor(f, "t", 0, (uint64_t)-32, 1, 64); }
static void bad_ne_overflow(struct gguf *f) { gguf_tensor(f, "t", 0, 1ull << 32, 1ull << 32, 64); }
static void bad_bytes_overflow(struct gguf *f) { gguf_tensor(f, "t", 28, 1ull << 31, 1ull << 31, 64); }
static void bad_blocks(struct gguf *f) { gguf_tensor(f, "t", 12, 100, 1, 144); }
static void bad_offset_unaligned(struct gguf *f)
{
    gguf_info(f, "t", 1, ne4, 0, 8);
    put(&f->data, 0, 8);
    qvl_buf_printf(&f->data, "%200d", 1);
}
static void bad_offset_hole(struct gguf *f) { gguf_info(f, "t", 1, ne4, 0, 32); qvl_buf_printf(&f->data, "%300d", 1); }
static void bad_overlap(struct gguf *f)
{
    gguf_info(f, "t", 1, ne4, 0, 0);
    gguf_info(f, "u", 1, ne4, 0, 0);
    qvl_buf_printf(&f->data, "%300d", 1);
}
static void bad_end(struct gguf *f) { gguf_tensor(f, "t", 0, 32, 1, 127); }
static void bad_offset_end(struct gguf *f) { gguf_info(f, "t", 1, ne4, 0, UINT64_MAX - 31); put(&f->data, 0, 8); }
static void bad_type_4(struct gguf *f) { gguf_tensor(f, "t", 4, 32, 1, 20); }
static void bad_type_31(struct gguf *f) { gguf_tensor(f, "t", 31, 32, 1, 20); }
static void bad_type_999(struct gguf *f) { gguf_tensor(f, "t", 999, 32, 1, 20); }
static void bad_type_fork(struct gguf *f) { gguf_tensor(f, "t", 137, 32, 1, 20); }
static void bad_name_twice(struct gguf *f) { gguf_tensor(f, "t", 0, 32, 1, 128); gguf_tensor(f, "t", 0, 32, 1, 128); }
static void bad_name_long(struct gguf *f) { char s[65]; memset(s, 'n', 64); s[64] = 0; gguf_tensor(f, s, 0, 32, 1, 128); }
static void bad_name_empty(struct gguf *f) { gguf_tensor(f, "", 0, 32, 1, 128); }
static void bad_split_no(struct gguf *f) { gguf_uint(f, "split.count", U16, 2); gguf_uint(f, "split.no", U16, 2); }
static void bad_split_count(struct gguf *f) { gguf_uint(f, "split.count", U16, 60000); }

static void refuses(void **state)
{
    static const struct {
        void (*make)(struct gguf *f);
        int code;
        const char *says;
    } cases[] = {
        {bad_magic, QVL_E_FORMAT, "not a GGUF file"},
        {bad_version_1, QVL_E_UNSUPPORTED, "version: found 1"},
        {bad_version_4, QVL_E_UNSUPPORTED, "version: found 4"},
        {bad_big_endian, QVL_E_UNSUPPORTED, "big-endian"},
        {bad_n_kv, QVL_E_LIMIT, "number of keys: found -1"},
        {bad_n_tensors, QVL_E_LIMIT, "number of tensors: found -1"},
        {bad_many_kv, QVL_E_FORMAT, "do not fit"},
        {bad_key_length, QVL_E_LIMIT, "string of 9223372036854775808 bytes"},
        {bad_key_empty, QVL_E_FORMAT, "found 0 bytes"},
        {bad_key_nul, QVL_E_FORMAT, "NUL"},
        {bad_key_twice, QVL_E_FORMAT, "general.architecture: found twice"},
        {bad_value_type, QVL_E_FORMAT, "type 13"},
        {bad_huge_list, QVL_E_LIMIT, "elements"},
        {bad_long_list, QVL_E_FORMAT, "cut short"},
        {bad_string_list, QVL_E_FORMAT, "cut short"},
        {bad_string_in_list, QVL_E_LIMIT, "string of"},
        {bad_nested, QVL_E_FORMAT, "lists of lists"},
        {bad_list_type, QVL_E_FORMAT, "type 13"},
        {bad_align_0, QVL_E_FORMAT, "alignment: found 0"},
        {bad_align_3, QVL_E_FORMAT, "alignment: found 3"},
        {bad_align_u64, QVL_E_FORMAT, "alignment: found u64"},
        {bad_align_huge, QVL_E_FORMAT, "alignment"},
        {bad_rank, QVL_E_FORMAT, "5 dimensions"},
        {bad_ne_0, QVL_E_FORMAT, "dimension of 0"},
        {bad_ne_negative, QVL_E_FORMAT, "dimension of -32"},
        {bad_ne_overflow, QVL_E_FORMAT, "overflows"},
        {bad_bytes_overflow, QVL_E_FORMAT, "overflows"},
        {bad_blocks, QVL_E_FORMAT, "rows of 100 elements, expected a multiple of 256"},
        {bad_offset_unaligned, QVL_E_FORMAT, "offset 8, expected 0"},
        {bad_offset_hole, QVL_E_FORMAT, "offset 32, expected 0"},
        {bad_overlap, QVL_E_FORMAT, "offset 0, expected 128"},
        {bad_end, QVL_E_FORMAT, "needs 128 bytes, 127 are left"},
        {bad_offset_end, QVL_E_FORMAT, "expected 0"},
        {bad_type_4, QVL_E_UNSUPPORTED, "tensor t: type 4 is not supported (it was removed"},
        {bad_type_31, QVL_E_UNSUPPORTED, "type 31 is not supported (it was removed"},
        {bad_type_999, QVL_E_UNSUPPORTED, "type 999 is not supported (unknown"},
        {bad_type_fork, QVL_E_UNSUPPORTED, "fork-specific"},
        {bad_name_twice, QVL_E_FORMAT, "tensor t: found twice"},
        {bad_name_long, QVL_E_FORMAT, "64 bytes"},
        {bad_name_empty, QVL_E_FORMAT, "0 bytes"},
        {bad_split_no, QVL_E_FORMAT, "split.no"},
        {bad_split_count, QVL_E_FORMAT, "split.count"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gguf f;
        struct qvl_gguf *g = NULL;
        qvl_err err;
        void *copy;
        gguf_begin(&f);
        gguf_text(&f, "general.architecture", "qwen3vl");
        cases[i].make(&f);
        if (!f.out.len)
            gguf_end(&f);
        int rc = open_bytes(&g, &f.out, f.out.len, &copy, &err);
        if (rc != cases[i].code || !strstr(err.msg, cases[i].says))
            print_message("case %zu: %d: %s (expected %d: %s)\n", i, rc, err.msg, cases[i].code, cases[i].says);
        assert_int_equal(rc, cases[i].code);
        assert_non_null(strstr(err.msg, cases[i].says));
        assert_null(g);
        free(copy);
        gguf_free(&f);
    }
}

/* ---------------------------------------------------------------- shards */

static char folder[64];

static void write_shard(const char *name, int no, int count, int total, const char *tensor)
{
    char path[128];
    struct gguf f;
    gguf_begin(&f);
    if (no == 0)
        gguf_text(&f, "general.architecture", "qwen3vl");
    gguf_uint(&f, "split.no", U16, (uint64_t)no);
    gguf_uint(&f, "split.count", U16, (uint64_t)count);
    gguf_uint(&f, "split.tensors.count", I32, (uint64_t)total);
    if (tensor)
        gguf_tensor(&f, tensor, 0, 32, 1, 128);
    gguf_end(&f);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(f.out.data, 1, f.out.len, out), f.out.len);
    assert_int_equal(fclose(out), 0);
    gguf_free(&f);
}

static int open_shard(struct qvl_gguf **g, const char *name, qvl_err *err)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    *err = (qvl_err){0};
    return qvl_gguf_open(g, path, err);
}

static void remove_shard(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    remove(path);
}

static void split_files(void **state)
{
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
    struct qvl_gguf *g;
    qvl_err err;
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/qvl-gguf-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_shard(names[0], 0, 3, 2, NULL); /* the first may hold no tensors */
    write_shard(names[1], 1, 3, 2, "a");
    write_shard(names[2], 2, 3, 2, "b");
    for (int i = 0; i < 3; i++) { /* any of them stands for all */
        struct qvl_gguf_text t;
        assert_int_equal(open_shard(&g, names[i], &err), 0);
        assert_int_equal(qvl_tensors_count(qvl_gguf_tensors(g)), 2);
        assert_non_null(qvl_tensors_find(qvl_gguf_tensors(g), "b"));
        assert_int_equal(qvl_gguf_string(g, "general.architecture", &t, &err), 0);
        assert_true(qvl_gguf_text_is(t, "qwen3vl"));
        qvl_gguf_close(&g);
    }
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, names[1]);
    assert_int_equal(qvl_gguf_open_alone(&g, path, &err), 0);
    assert_int_equal(qvl_tensors_count(qvl_gguf_tensors(g)), 1);
    qvl_gguf_close(&g);

    write_shard(names[2], 2, 3, 2, "a"); /* the same name twice */
    assert_int_equal(open_shard(&g, names[0], &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "tensor a: found in"));
    write_shard(names[2], 1, 3, 2, "b"); /* of another place */
    assert_int_equal(open_shard(&g, names[0], &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "says it is shard 2 of 3, expected 3 of 3"));
    write_shard(names[2], 2, 4, 2, "b"); /* of another model */
    assert_int_equal(open_shard(&g, names[0], &err), QVL_E_FORMAT);
    write_shard(names[2], 2, 3, 2, NULL); /* too few tensors */
    assert_int_equal(open_shard(&g, names[0], &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "split.tensors.count: found 2"));
    remove_shard(names[2]);
    assert_int_equal(open_shard(&g, names[0], &err), QVL_E_NOTFOUND);
    assert_non_null(strstr(err.msg, names[2]));
    remove_shard(names[0]);
    assert_int_equal(open_shard(&g, names[1], &err), QVL_E_NOTFOUND);
    write_shard("other.gguf", 0, 3, 2, NULL); /* a name that does not lead to the others */
    assert_int_equal(open_shard(&g, "other.gguf", &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "-00001-of-00003.gguf"));
    assert_int_equal(open_shard(&g, "none.gguf", &err), QVL_E_NOTFOUND);
    remove_shard(names[1]);
    remove_shard("other.gguf");
    assert_int_equal(rmdir(folder), 0);
}

/* The gguf package's own files. */
static void files_of_the_package(void **state)
{
    static const char *const names[] = {"gguf-kmix/Tiny-Q4_K_M.gguf", "gguf-kmix/mmproj-Tiny-F16.gguf",
                                        "gguf-moe/Tiny-Q4_K_M-00001-of-00002.gguf", "gguf-single/model.gguf"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        struct qvl_gguf *g;
        qvl_err err = {0};
        snprintf(path, sizeof path, "%s/tests/golden/models/%s", QVL_SOURCE_DIR, names[i]);
        assert_int_equal(qvl_gguf_is(path), 1);
        assert_int_equal(qvl_gguf_open(&g, path, &err), 0);
        assert_true(qvl_tensors_count(qvl_gguf_tensors(g)) > 20);
        qvl_gguf_close(&g);
    }
    assert_int_equal(qvl_gguf_is(QVL_SOURCE_DIR "/tests/golden/models"), 0);
    assert_int_equal(qvl_gguf_is(QVL_SOURCE_DIR "/CMakeLists.txt"), 0);
}

/* The corpus of the fuzz target: good-... is accepted, bad-... refused. */
static void corpus(void **state)
{
    const char *dir = QVL_SOURCE_DIR "/tests/fuzz/corpus/fuzz_gguf";
    int n_good = 0, n_bad = 0;
    DIR *d = opendir(dir);
    (void)state;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        struct qvl_gguf *g;
        qvl_err err = {0};
        int is_good = strncmp(e->d_name, "good-", 5) == 0;
        if (!is_good && strncmp(e->d_name, "bad-", 4) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%.200s", dir, e->d_name);
        int rc = qvl_gguf_open(&g, path, &err);
        if ((rc == 0) != is_good)
            print_message("%s: %s\n", e->d_name, rc ? err.msg : "accepted");
        assert_int_equal(rc == 0, is_good);
        n_good += is_good;
        n_bad += !is_good;
        qvl_gguf_close(&g);
    }
    closedir(d);
    assert_true(n_good >= 6 && n_bad >= 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata), cmocka_unit_test(tensors),     cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(refuses),  cmocka_unit_test(split_files), cmocka_unit_test(files_of_the_package),
        cmocka_unit_test(corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
