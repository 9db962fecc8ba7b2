/* Safetensors: every rule of the format by a file built here byte by byte, folders with an index, files written by the
 * Python package, and what our own writer makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/sniff.h"
#include "formats/tensor_source.h"

#define DATA QVL_SOURCE_DIR "/tests/data/safetensors/"

/* A file in exactly as much memory as it has, so that overruns are seen. n_header: what the length field says. */
static unsigned char *file_bytes(const char *header, size_t header_len, uint64_t n_header, size_t n_data, size_t *size)
{
    *size = 8 + header_len + n_data;
    unsigned char *p = malloc(*size);
    assert_non_null(p);
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(n_header >> (8 * i));
    memcpy(p + 8, header, header_len);
    for (size_t i = 0; i < n_data; i++)
        p[8 + header_len + i] = (unsigned char)(i * 7 + 1);
    return p;
}

static int open_header(struct qvl_tensors **t, unsigned char **bytes, const char *header, size_t n_data, qvl_err *err)
{
    size_t size;
    *bytes = file_bytes(header, strlen(header), strlen(header), n_data, &size);
    *err = (qvl_err){0};
    return qvl_safetensors_open_memory(t, *bytes, size, "test", err);
}

struct refusal {
    const char *header;
    size_t n_data;
    int code;
    const char *message; /* must occur */
};

#define T(name, shape, a, b) "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #a "," #b "]}"

static const struct refusal refusals[] = {
    /* header text */
    {"[]", 0, QVL_E_FORMAT, "expected '{'"},
    {" {}", 0, QVL_E_FORMAT, "expected '{'"},
    {"\xef\xbb\xbf{}", 0, QVL_E_FORMAT, "expected '{'"},
    {"{", 0, QVL_E_FORMAT, "at least 2"},
    {"{ ", 0, QVL_E_FORMAT, "ends early"},
    {"{}x", 0, QVL_E_FORMAT, "behind the last brace"},
    {"{}{}", 0, QVL_E_FORMAT, "behind the last brace"},
    {"{\"a\"}", 0, QVL_E_FORMAT, "':'"},
    {"{\"a\":[]}", 0, QVL_E_FORMAT, "'{' of a tensor"},
    {"{\"a\":null}", 0, QVL_E_FORMAT, "'{' of a tensor"},
    {"{" T("a", "[1]", 0, 4) ",}", 4, QVL_E_FORMAT, "name of a tensor"},
    {"{" T("a", "[1]", 0, 4), 4, QVL_E_FORMAT, "ends early"},
    {"{'a':1}", 0, QVL_E_FORMAT, "name of a tensor"},
    {"{a:1}", 0, QVL_E_FORMAT, "name of a tensor"},
    {"{/**/}", 0, QVL_E_FORMAT, "name of a tensor"},
    /* strings */
    {"{\"a", 0, QVL_E_FORMAT, "end of a string"},
    {"{\"a\\", 0, QVL_E_FORMAT, "escape"},
    {"{" T("a\\x", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "escape"},
    {"{" T("\xc0\xaf", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "UTF-8"},         /* overlong */
    {"{" T("\xe0\x80\x80", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "UTF-8"},     /* overlong */
    {"{" T("\xed\xa0\x80", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "UTF-8"},     /* surrogate */
    {"{" T("\xf4\x90\x80\x80", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "UTF-8"}, /* above U+10FFFF */
    {"{" T("\xff", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "UTF-8"},
    {"{\"\xe2\x82", 0, QVL_E_FORMAT, "UTF-8"}, /* cut inside a character */
    {"{" T("a\nb", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "control character"},
    {"{" T("a\\u0000b", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "\\u0000"},
    {"{" T("\\ud800", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "surrogate"},
    {"{" T("\\udc00", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "surrogate"},
    {"{" T("\\ud800\\u0041", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "surrogate"},
    {"{" T("\\u12g4", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "hexadecimal"},
    /* integers */
    {"{" T("a", "[1e3]", 0, 4) "}", 4, QVL_E_FORMAT, "',' or ']'"},
    {"{" T("a", "[-1]", 0, 4) "}", 4, QVL_E_FORMAT, "plain integer"},
    {"{" T("a", "[+1]", 0, 4) "}", 4, QVL_E_FORMAT, "plain integer"},
    {"{" T("a", "[1.0]", 0, 4) "}", 4, QVL_E_FORMAT, "',' or ']'"},
    {"{" T("a", "[true]", 0, 4) "}", 4, QVL_E_FORMAT, "plain integer"},
    {"{" T("a", "[\"1\"]", 0, 4) "}", 4, QVL_E_FORMAT, "plain integer"},
    {"{" T("a", "[01]", 0, 4) "}", 4, QVL_E_FORMAT, "leading zeros"},
    {"{" T("a", "[1,]", 0, 4) "}", 4, QVL_E_FORMAT, "plain integer"},
    {"{" T("a", "[1 1]", 0, 4) "}", 4, QVL_E_FORMAT, "',' or ']'"},
    {"{" T("a", "[[1]]", 0, 4) "}", 4, QVL_E_FORMAT, "plain integer"},
    {"{" T("a", "[9223372036854775808]", 0, 4) "}", 4, QVL_E_FORMAT, "below 2^63"},
    {"{" T("a", "[18446744073709551617]", 0, 4) "}", 4, QVL_E_FORMAT, "below 2^63"},
    {"{" T("a", "[1]", 0, -4) "}", 4, QVL_E_FORMAT, "plain integer"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, QVL_E_FORMAT, "','"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, QVL_E_FORMAT, "']'"},
    {"{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, QVL_E_FORMAT, "name of a type"},
    /* duplicates and fields */
    {"{" T("a", "[1]", 0, 4) "," T("b", "[1]", 4, 8) "," T("a", "[1]", 8, 12) "}", 12, QVL_E_FORMAT, "tensor a: found twice"},
    {"{" T("a", "[1]", 0, 4) "," T("\\u0061", "[1]", 4, 8) "}", 8, QVL_E_FORMAT, "tensor a: found twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, QVL_E_FORMAT, "dtype found twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4, QVL_E_FORMAT, "shape found twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, QVL_E_FORMAT, "__metadata__ found twice"},
    {"{\"__metadata__\":{\"k\":\"1\",\"x\":\"2\",\"k\":\"1\"}}", 0, QVL_E_FORMAT, "key k found twice"},
    {"{\"__metadata__\":{\"k\":1}}", 0, QVL_E_FORMAT, "string in __metadata__"},
    {"{\"__metadata__\":{\"k\":{\"a\":\"b\"}}}", 0, QVL_E_FORMAT, "string in __metadata__"},
    {"{\"__metadata__\":null}", 0, QVL_E_FORMAT, "'{' of __metadata__"},
    {"{\"a\":{}}", 0, QVL_E_FORMAT, "dtype is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, QVL_E_FORMAT, "data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, QVL_E_FORMAT, "shape is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, QVL_E_FORMAT, "unknown field 'more'"},
    /* bytes against shape and type */
    {"{" T("a", "[4294967296,4294967296]", 0, 0) "}", 0, QVL_E_FORMAT, "overflows"},
    {"{" T("a", "[4294967296,4294967296,0]", 0, 0) "}", 0, QVL_E_FORMAT, "overflows"},
    {"{" T("a", "[9223372036854775807]", 0, 0) "}", 0, QVL_E_FORMAT, "overflows"},
    {"{" T("a", "[2]", 0, 4) "}", 4, QVL_E_FORMAT, "tensor a: found 4 bytes, expected 8 for [2] F32"},
    {"{" T("a", "[]", 0, 8) "}", 8, QVL_E_FORMAT, "expected 4 for [] F32"},
    {"{" T("a", "[0]", 0, 4) "}", 4, QVL_E_FORMAT, "expected 0"},
    {"{" T("a", "[1]", 4, 0) "}", 4, QVL_E_FORMAT, "reversed"},
    {"{\"a\":{\"dtype\":\"NEW\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, QVL_E_FORMAT, "reversed"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, QVL_E_FORMAT, "whole bytes"},
    {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, QVL_E_FORMAT, "whole bytes"},
    {"{" T("a", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, QVL_E_LIMIT, "dimensions"},
    /* layout */
    {"{" T("a", "[1]", 0, 4) "," T("b", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "overlaps"},
    {"{" T("a", "[2]", 0, 8) "," T("b", "[1]", 4, 8) "}", 8, QVL_E_FORMAT, "overlaps"},
    {"{" T("a", "[1]", 0, 4) "," T("b", "[1]", 5, 9) "}", 9, QVL_E_FORMAT, "hole"},
    {"{" T("a", "[1]", 1, 5) "}", 5, QVL_E_FORMAT, "hole"},
    {"{" T("z", "[0]", 2, 2) "," T("a", "[1]", 0, 4) "}", 4, QVL_E_FORMAT, "overlaps"},
    {"{" T("a", "[1]", 0, 4) "}", 3, QVL_E_FORMAT, "ends at 4, but the data has 3"},
    {"{" T("a", "[1]", 0, 4) "}", 5, QVL_E_FORMAT, "end at 4, but the data has 5"},
    {"{}", 1, QVL_E_FORMAT, "end at 0, but the data has 1"},
    {"{\"__metadata__\":{}}", 8, QVL_E_FORMAT, "end at 0"},
};

static void every_rule_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        struct qvl_tensors *t = (void *)1;
        unsigned char *bytes;
        qvl_err err;
        int rc = open_header(&t, &bytes, r->header, r->n_data, &err);
        free(bytes);
        if (rc != r->code || err.code != rc || !strstr(err.msg, r->message) || t)
            fail_msg("%s + %zu bytes: %d \"%s\", expected %d \"...%s...\"", r->header, r->n_data, rc, err.msg, r->code,
                     r->message);
        assert_non_null(strstr(err.msg, "test")); /* the file's name */
    }
}

static void lengths(void **state)
{
    static const struct {
        uint64_t n;
        int code;
    } cases[] = {{UINT64_MAX, QVL_E_FORMAT}, {UINT64_MAX - 7, QVL_E_FORMAT}, {10, QVL_E_FORMAT}, {3, QVL_E_FORMAT},
                 {0, QVL_E_FORMAT},          {1, QVL_E_FORMAT},              {2, 0},             {UINT64_C(1) << 63, QVL_E_FORMAT}};
    struct qvl_tensors *t;
    qvl_err err;
    size_t size;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char *p = file_bytes("{}", 2, cases[i].n, 0, &size);
        assert_int_equal(qvl_safetensors_open_memory(&t, p, size, "test", &err), cases[i].code);
        if (cases[i].code == 0)
            assert_int_equal(qvl_tensors_count(t), 0);
        qvl_tensors_close(&t);
        free(p);
    }
    for (size = 0; size < 8; size++)
        assert_int_equal(qvl_safetensors_open_memory(&t, "\0\0\0\0\0\0\0", size, "test", &err), QVL_E_FORMAT);
    /* One byte above the limit, and the file really has it. */
    size_t big = 100000001;
    unsigned char *p = malloc(8 + big);
    assert_non_null(p);
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)((uint64_t)big >> (8 * i));
    memset(p + 8, '[', big);
    assert_int_equal(qvl_safetensors_open_memory(&t, p, 8 + big, "test", &err), QVL_E_LIMIT);
    /* At the limit: an object that opens and opens. */
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)((uint64_t)(big - 1) >> (8 * i));
    memcpy(p + 8, "{\"a\":{\"shape\":[", 15);
    assert_int_equal(qvl_safetensors_open_memory(&t, p, 7 + big, "test", &err), QVL_E_FORMAT);
    free(p);
}

static void good_files(void **state)
{
    struct qvl_tensors *t;
    unsigned char *bytes;
    char text[64];
    qvl_err err;
    (void)state;
    /* Fields in any order, space anywhere, empty name, scalar, zero dimensions, data not in the order of names. */
    const char *h = "{ \"b\" : {\"data_offsets\":[4,6], \"shape\":[ 1 ],\t\"dtype\":\"BF16\"},\n"
                    "\"__metadata__\":{\"format\":\"pt\",\"n\":\"\\u00e9\\ud83d\\ude00\\n\"},"
                    "\"\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                    "\"z\":{\"dtype\":\"F64\",\"shape\":[3,0,5],\"data_offsets\":[6,6]},"
                    "\"future\":{\"dtype\":\"F2_X\",\"shape\":[7,9],\"data_offsets\":[6,9]},"
                    "\"h\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[9,12]}}   \r\n\t ";
    assert_int_equal(open_header(&t, &bytes, h, 12, &err), 0);
    assert_int_equal(qvl_tensors_count(t), 5);
    const struct qvl_tensor *b = qvl_tensors_find(t, "b");
    assert_ptr_equal(b, qvl_tensors_at(t, 0));
    assert_int_equal(b->type, QVL_DT_BF16);
    assert_int_equal(b->bytes, 2);
    assert_ptr_equal(b->data, bytes + 8 + strlen(h) + 4);
    assert_int_equal(b->offset, 8 + strlen(h) + 4);
    assert_string_equal(qvl_tensor_describe(b, text, sizeof text), "[1] BF16");
    const struct qvl_tensor *scalar = qvl_tensors_find(t, "");
    assert_non_null(scalar);
    assert_int_equal(scalar->rank, 0);
    assert_string_equal(qvl_tensor_describe(scalar, text, sizeof text), "[] F32");
    const struct qvl_tensor *zero = qvl_tensors_find(t, "z");
    assert_int_equal(zero->bytes, 0);
    assert_null(zero->data);
    assert_string_equal(qvl_tensor_describe(zero, text, sizeof text), "[3,0,5] F64");
    assert_string_equal(qvl_tensor_describe(zero, text, 5), "[3,0");
    const struct qvl_tensor *future = qvl_tensors_find(t, "future");
    assert_int_equal(future->type, QVL_DT_UNKNOWN);
    assert_string_equal(future->type_name, "F2_X");
    assert_int_equal(qvl_tensors_find(t, "h")->type, QVL_DT_F4);
    assert_null(qvl_tensors_find(t, "absent"));
    assert_null(qvl_tensors_at(t, 5));
    assert_string_equal(qvl_tensors_meta(t, "format"), "pt");
    assert_string_equal(qvl_tensors_meta(t, "n"), "\xc3\xa9\xf0\x9f\x98\x80\n");
    assert_null(qvl_tensors_meta(t, "b"));
    assert_string_equal(qvl_tensors_warnings(t), "");
    assert_int_equal(qvl_tensors_bytes(t), 8 + strlen(h) + 12);
    qvl_tensors_close(&t);
    assert_null(t);
    qvl_tensors_close(&t);
    qvl_tensors_close(NULL);
    free(bytes);
}

static void name_limits(void **state)
{
    static const struct {
        size_t len;
        int code;
    } cases[] = {{4096, 0}, {4097, QVL_E_LIMIT}, {1 << 20, QVL_E_LIMIT}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct qvl_tensors *t;
        unsigned char *bytes;
        qvl_err err;
        char *h = malloc(cases[i].len + 100);
        assert_non_null(h);
        strcpy(h, "{\"");
        memset(h + 2, 'n', cases[i].len);
        strcpy(h + 2 + cases[i].len, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        assert_int_equal(open_header(&t, &bytes, h, 0, &err), cases[i].code);
        qvl_tensors_close(&t);
        free(bytes);
        free(h);
    }
}

/* Thousands of tensors, looked up by name, in well under a second. */
static void many_tensors(void **state)
{
    enum { N = 50000 };
    struct qvl_tensors *t;
    unsigned char *bytes;
    qvl_err err;
    char name[32];
    size_t len = 0;
    char *h = malloc((size_t)N * 80 + 16);
    (void)state;
    assert_non_null(h);
    h[len++] = '{';
    for (int i = 0; i < N; i++) /* a permutation, so that neither names nor places are in order */
        len += (size_t)sprintf(h + len, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "",
                               i * 7919 % N, i, i + 1);
    strcpy(h + len, "}");
    assert_int_equal(open_header(&t, &bytes, h, N, &err), 0);
    assert_int_equal(qvl_tensors_count(t), N);
    for (int i = 0; i < N; i++) {
        sprintf(name, "t%d", i * 7919 % N);
        const struct qvl_tensor *x = qvl_tensors_find(t, name);
        assert_non_null(x);
        assert_int_equal(*(const unsigned char *)x->data, (unsigned char)(i * 7 + 1));
    }
    qvl_tensors_close(&t);
    free(bytes);
    free(h);
}

static void other_files_are_named(void **state)
{
    static const struct {
        const char *data;
        size_t n;
        const char *message;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 60, "git lfs pull"},
        {"<!DOCTYPE html><html><body>404</body></html>", 44, "web page"},
        {"\n\n <HTML><body>Not found</body></HTML>", 38, "web page"},
        {"PK\3\4\x14\0\0\0\0\0\0\0", 12, "zip archive"},
        {"\x80\2}q\0(X\1\0\0\0a", 12, "pickle"},
        {"GGUF\3\0\0\0\0\0\0\0", 12, "GGUF"},
        {"\x93NUMPY\1\0v\0{'descr'", 17, "NumPy"},
        {"", 0, "empty"},
    };
    struct qvl_tensors *t;
    qvl_err err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(qvl_safetensors_open_memory(&t, cases[i].data, cases[i].n, "test", &err), QVL_E_FORMAT);
        if (!strstr(err.msg, cases[i].message))
            fail_msg("found \"%s\", expected \"%s\"", err.msg, cases[i].message);
    }
    assert_string_equal(qvl_sniff("{}", 2), "");
}

/* ---------------------------------------------------------------- folders */

static char root[64], path_buf[8][256];

static const char *in_root(const char *name)
{
    static unsigned turn;
    char *p = path_buf[turn++ % 8];
    snprintf(p, 256, "%s/%s", root, name);
    return p;
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_root(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void put_tensors(const char *name, const char *header, size_t n_data)
{
    size_t size;
    unsigned char *p = file_bytes(header, strlen(header), strlen(header), n_data, &size);
    put(name, p, size);
    free(p);
}

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/qvl-safetensors-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char cmd[128];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", root);
    return system(cmd);
}

#define INDEX "model.safetensors.index.json"
#define S1 "{" T("a", "[1]", 0, 4) "," T("b", "[1]", 4, 8) "}"
#define S2 "{" T("c", "[1]", 0, 4) "}"

static int open_root(struct qvl_tensors **t, const char *index, qvl_err *err)
{
    *err = (qvl_err){0};
    if (index)
        put(INDEX, index, strlen(index));
    return qvl_safetensors_open(t, root, err);
}

static void shards(void **state)
{
    struct qvl_tensors *t;
    qvl_err err;
    uint64_t size;
    (void)state;
    put_tensors("x-1.safetensors", S1, 8);
    put_tensors("x-2.safetensors", S2, 4);
    assert_int_equal(open_root(&t, "{\"metadata\":{\"total_size\":1.5e300},\"weight_map\":{\"c\":\"x-2.safetensors\","
                                   "\"a\":\"x-1.safetensors\",\"b\":\"x-1.safetensors\"}}", &err), 0);
    assert_int_equal(qvl_tensors_count(t), 3);
    assert_string_equal(qvl_tensors_find(t, "c")->file, in_root("x-2.safetensors"));
    assert_int_equal(*(const unsigned char *)qvl_tensors_find(t, "b")->data, 4 * 7 + 1);
    assert_string_equal(qvl_tensors_warnings(t), "");
    assert_string_equal(qvl_tensors_file(t, 0, &size), in_root("x-1.safetensors"));
    assert_int_equal(size, 8 + strlen(S1) + 8);
    assert_null(qvl_tensors_file(t, 2, NULL));
    assert_int_equal(qvl_tensors_bytes(t), 16 + strlen(S1) + strlen(S2) + 12);
    qvl_tensors_close(&t);
    /* present, but not mapped: a warning */
    assert_int_equal(open_root(&t, "{\"weight_map\":{\"c\":\"x-2.safetensors\",\"a\":\"x-1.safetensors\"}}", &err), 0);
    assert_non_null(strstr(qvl_tensors_warnings(t), "tensor b"));
    assert_int_equal(qvl_tensors_count(t), 3);
    qvl_tensors_close(&t);
}

static void bad_indexes(void **state)
{
    static const struct {
        const char *index;
        int code;
        const char *message;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"q\":\"x-2.safetensors\"}}", QVL_E_FORMAT, "tensor q: not found"},
        {"{\"weight_map\":{\"a\":\"x-2.safetensors\",\"b\":\"x-1.safetensors\"}}", QVL_E_FORMAT, "index says x-2.safetensors"},
        {"{\"weight_map\":{\"a\":\"x-3.safetensors\"}}", QVL_E_NOTFOUND, "x-3.safetensors, which is missing"},
        {"{\"weight_map\":{\"a\":\"../../etc/passwd\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"sub/x-1.safetensors\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"sub\\\\x-1.safetensors\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\".hidden\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"c:x\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"x\\u0000y\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"\"}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":1}}", QVL_E_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"x-1.safetensors\",\"a\":\"x-2.safetensors\"}}", QVL_E_FORMAT, "duplicate"},
        {"{\"weight_map\":{}}", QVL_E_FORMAT, "weight_map"},
        {"{\"weight_map\":[]}", QVL_E_FORMAT, "weight_map"},
        {"{}", QVL_E_FORMAT, "weight_map"},
        {"[]", QVL_E_FORMAT, "weight_map"},
        {"", QVL_E_FORMAT, INDEX},
        {"{\"weight_map\":{\"a\":\"x-1.safetensors\"}} x", QVL_E_FORMAT, INDEX},
    };
    struct qvl_tensors *t;
    qvl_err err;
    (void)state;
    put_tensors("x-1.safetensors", S1, 8);
    put_tensors("x-2.safetensors", S2, 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = open_root(&t, cases[i].index, &err);
        if (rc != cases[i].code || !strstr(err.msg, cases[i].message))
            fail_msg("%s: %d \"%s\", expected %d \"%s\"", cases[i].index, rc, err.msg, cases[i].code, cases[i].message);
        assert_null(t);
    }
    put_tensors("x-2.safetensors", "{" T("b", "[1]", 0, 4) "," T("c", "[1]", 4, 8) "}", 8);
    assert_int_equal(open_root(&t, "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-1.safetensors\","
                                   "\"c\":\"x-2.safetensors\"}}", &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "tensor b: found in"));
    put_tensors("x-2.safetensors", S2, 3); /* cut short */
    assert_int_equal(open_root(&t, NULL, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "x-2.safetensors"));
}

static void folders_without_an_index(void **state)
{
    struct qvl_tensors *t;
    qvl_err err;
    (void)state;
    assert_int_equal(open_root(&t, NULL, &err), QVL_E_NOTFOUND);
    assert_non_null(strstr(err.msg, "model.safetensors"));
    assert_non_null(strstr(err.msg, INDEX));
    put("pytorch_model.bin", "", 0);
    assert_int_equal(open_root(&t, NULL, &err), QVL_E_NOTFOUND);
    assert_non_null(strstr(err.msg, "PyTorch"));
    put_tensors("other.safetensors", S1, 8);
    put("._other.safetensors", "junk", 4); /* what some archivers leave behind */
    assert_int_equal(open_root(&t, NULL, &err), 0);
    assert_int_equal(qvl_tensors_count(t), 2);
    qvl_tensors_close(&t);
    put_tensors("second.safetensors", S2, 4);
    assert_int_equal(open_root(&t, NULL, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "several"));
    put_tensors("model.safetensors", S2, 4);
    assert_int_equal(open_root(&t, NULL, &err), 0);
    assert_int_equal(qvl_tensors_count(t), 1);
    qvl_tensors_close(&t);
    /* an index whose files are not all there gives way to the single file */
    assert_int_equal(open_root(&t, "{\"weight_map\":{\"a\":\"gone.safetensors\"}}", &err), 0);
    assert_non_null(qvl_tensors_find(t, "c"));
    assert_non_null(strstr(qvl_tensors_warnings(t), "gone.safetensors"));
    qvl_tensors_close(&t);
    /* one that is complete has precedence */
    assert_int_equal(open_root(&t, "{\"weight_map\":{\"a\":\"other.safetensors\",\"b\":\"other.safetensors\"}}", &err), 0);
    assert_null(qvl_tensors_find(t, "c"));
    qvl_tensors_close(&t);
    assert_int_equal(qvl_safetensors_open(&t, in_root("nothing"), &err), QVL_E_NOTFOUND);
    assert_int_equal(qvl_safetensors_open(&t, "", &err), QVL_E_ARG);
    assert_int_equal(mkfifo(in_root("pipe.safetensors"), 0600), 0);
    assert_int_equal(qvl_safetensors_open(&t, in_root("pipe.safetensors"), &err), QVL_E_IO);
}

/* ---------------------------------------------------------------- Python's files, and ours */

/* tests/data/safetensors/sample.safetensors: see tools/reference/make_safetensors.py for the formulas. */
static void written_by_python(void **state)
{
    struct qvl_tensors *t;
    qvl_err err;
    (void)state;
    assert_int_equal(qvl_safetensors_open(&t, DATA "sample.safetensors", &err), 0);
    assert_int_equal(qvl_tensors_count(t), 9);
    assert_string_equal(qvl_tensors_meta(t, "format"), "pt");
    assert_string_equal(qvl_tensors_meta(t, "note"), "quote \" backslash \\ tab \t \xc3\xa9 \xf0\x9f\x90\xa6");
    const struct qvl_tensor *f = qvl_tensors_find(t, "f32");
    assert_int_equal(f->rank, 2);
    assert_int_equal(f->shape[0], 2);
    assert_int_equal(f->shape[1], 3);
    for (int i = 0; i < 6; i++) {
        float v;
        memcpy(&v, (const char *)f->data + 4 * i, 4);
        assert_true(v == (float)i * 0.5f - 1.0f);
    }
    const uint16_t bf16[3] = {0x3f80, 0xc000, 0x4049}; /* 1, -2, pi */
    assert_memory_equal(qvl_tensors_find(t, "bf16")->data, bf16, 6);
    const uint16_t f16[2] = {0x3c00, 0x7bff}; /* 1, 65504 */
    assert_memory_equal(qvl_tensors_find(t, "f16")->data, f16, 4);
    const int64_t i64[2] = {INT64_MIN, 7};
    assert_memory_equal(qvl_tensors_find(t, "i64")->data, i64, 16);
    assert_int_equal(*(const unsigned char *)qvl_tensors_find(t, "bool")->data, 1);
    assert_int_equal(qvl_tensors_find(t, "scalar")->rank, 0);
    assert_int_equal(qvl_tensors_find(t, "empty")->bytes, 0);
    assert_int_equal(qvl_tensors_find(t, "\xc3\xa9/\"x\"")->type, QVL_DT_U8);
    assert_int_equal(qvl_tensors_find(t, "f8")->type, QVL_DT_F8_E4M3);
    qvl_tensors_close(&t);
}

/* Read a file of Python's, write it again: the bytes must be the same. */
static void writer_gives_pythons_bytes(void **state)
{
    struct qvl_tensor list[16];
    struct qvl_tensors *t;
    struct qvl_map a, b;
    qvl_err err;
    (void)state;
    const char *out = in_root("copy.safetensors");
    assert_int_equal(qvl_safetensors_open(&t, DATA "plain.safetensors", &err), 0);
    size_t n = qvl_tensors_count(t);
    assert_int_equal(n, 6);
    for (size_t i = 0; i < n; i++)
        list[n - 1 - i] = *qvl_tensors_at(t, i);
    struct qvl_tensor_meta meta = {"format", "np"};
    assert_int_equal(qvl_safetensors_write(out, list, n, &meta, 1, &err), 0);
    assert_int_equal(qvl_map_open(&a, DATA "plain.safetensors", &err), 0);
    assert_int_equal(qvl_map_open(&b, out, &err), 0);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    qvl_map_close(&a);
    qvl_map_close(&b);
    qvl_tensors_close(&t);
}

static void writer_escapes_and_refuses(void **state)
{
    static const float v[2] = {1, 2};
    struct qvl_tensor one = {.name = "a\"\\\n\x01\x7f \xc3\xa9", .data = v, .bytes = 8, .type = QVL_DT_F32, .rank = 1, .shape = {2}};
    struct qvl_tensor_meta meta[2] = {{"k\"", "v\\\t"}, {"", ""}};
    struct qvl_tensors *t;
    qvl_err err;
    (void)state;
    const char *out = in_root("w.safetensors");
    assert_int_equal(qvl_safetensors_write(out, &one, 1, meta, 2, &err), 0);
    assert_int_equal(qvl_safetensors_open(&t, out, &err), 0);
    assert_non_null(qvl_tensors_find(t, one.name));
    assert_memory_equal(qvl_tensors_find(t, one.name)->data, v, 8);
    assert_int_equal(qvl_tensors_find(t, one.name)->offset % 8, 0);
    assert_string_equal(qvl_tensors_meta(t, "k\""), "v\\\t");
    assert_string_equal(qvl_tensors_meta(t, ""), "");
    qvl_tensors_close(&t);
    assert_int_equal(qvl_safetensors_write(out, NULL, 0, NULL, 0, &err), 0); /* an empty set is legal */
    assert_int_equal(qvl_safetensors_open(&t, out, &err), 0);
    assert_int_equal(qvl_tensors_count(t), 0);
    qvl_tensors_close(&t);
    struct qvl_tensor bad = one;
    bad.bytes = 4;
    assert_int_equal(qvl_safetensors_write(out, &bad, 1, NULL, 0, &err), QVL_E_ARG);
    bad = one;
    bad.type = QVL_DT_UNKNOWN;
    assert_int_equal(qvl_safetensors_write(out, &bad, 1, NULL, 0, &err), QVL_E_ARG);
    bad = one;
    bad.shape[0] = -2;
    assert_int_equal(qvl_safetensors_write(out, &bad, 1, NULL, 0, &err), QVL_E_ARG);
    bad = one;
    bad.name = "__metadata__";
    assert_int_equal(qvl_safetensors_write(out, &bad, 1, NULL, 0, &err), QVL_E_ARG);
    bad.name = "\xff";
    assert_int_equal(qvl_safetensors_write(out, &bad, 1, NULL, 0, &err), QVL_E_ARG);
    struct qvl_tensor twice[2] = {one, one};
    assert_int_equal(qvl_safetensors_write(out, twice, 2, NULL, 0, &err), QVL_E_ARG);
    assert_int_equal(qvl_safetensors_write(in_root("no/such/folder"), &one, 1, NULL, 0, &err), QVL_E_NOTFOUND);
    assert_int_equal(qvl_safetensors_open(&t, out, &err), 0); /* the refusals left the old file alone */
    qvl_tensors_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_refuses),
        cmocka_unit_test(lengths),
        cmocka_unit_test(good_files),
        cmocka_unit_test(name_limits),
        cmocka_unit_test(many_tensors),
        cmocka_unit_test(other_files_are_named),
        cmocka_unit_test_setup_teardown(shards, make_root, remove_root),
        cmocka_unit_test_setup_teardown(bad_indexes, make_root, remove_root),
        cmocka_unit_test_setup_teardown(folders_without_an_index, make_root, remove_root),
        cmocka_unit_test(written_by_python),
        cmocka_unit_test_setup_teardown(writer_gives_pythons_bytes, make_root, remove_root),
        cmocka_unit_test_setup_teardown(writer_escapes_and_refuses, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
