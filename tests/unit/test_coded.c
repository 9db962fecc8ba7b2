/* Quantised matrices of safetensors checkpoints: rows against those of the published packages, what is refused, and codes kept in q4
 * and q8. tests/data/quantised/matrices.safetensors holds CASE.<tensors> and CASE.want, [n_out][n_in] f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "formats/coded.h"
#include "kernels/quant.h"
#include "model/convert_q4.h"
#include "model/convert_q8.h"

enum kind { AWQ, GPTQ, PACKED, BYTES, SCALE_INV, BNB4, BNB8, MLX };

static const struct {
    const char *name;
    enum kind kind;
    int zero_add, block, group;
} cases[] = {
    {"awq", AWQ, 0, 0, 32},         {"awq-row", AWQ, 0, 0, -1},       {"awq-sym", AWQ, 0, 0, 0},
    {"gptq-2", GPTQ, 1, 0, 32},     {"gptq-3", GPTQ, 1, 0, 32},       {"gptq-4", GPTQ, 1, 0, 0},
    {"gptq-8", GPTQ, 1, 0, 32},     {"gptq-sym", GPTQ, 1, 0, 32},     {"gptq-sym8", GPTQ, 1, 0, 64},
    {"gptq-order", GPTQ, 1, 0, 32}, {"gptq2-order8", GPTQ, 0, 0, 32}, {"gptq2", GPTQ, 0, 0, -1},
    {"ct-4", PACKED, 0, 0, 32},     {"ct-4-zero", PACKED, 0, 0, 0},   {"ct-4-row", PACKED, 0, 0, 0},
    {"ct-4-order", PACKED, 0, 0, 32}, {"ct-3", PACKED, 0, 0, 32},     {"ct-8", PACKED, 0, 0, 32},
    {"ct-8-zero-row", PACKED, 0, 0, 0}, {"ct-int", BYTES, 0, 0, 0},   {"ct-int-zero", BYTES, 0, 0, 0},
    {"ct-int-group", BYTES, 0, 0, 32}, {"ct-fp8", BYTES, 0, 0, 0},    {"ct-fp8-one", BYTES, 0, 0, 0},
    {"ct-fp8-block", BYTES, 0, 16, 0}, {"fp8", SCALE_INV, 0, 16, 0},  {"fp8-f32", SCALE_INV, 0, 16, 0},
    {"nf4", BNB4, 0, 0, 0},         {"nf4-nested", BNB4, 0, 0, 0},    {"nf4-bf16", BNB4, 0, 0, 0},
    {"fp4", BNB4, 0, 0, 0},         {"int8", BNB8, 0, 0, 0},          {"mlx-2", MLX, 0, 0, 0},
    {"mlx-3", MLX, 0, 0, 0},        {"mlx-4", MLX, 0, 0, 0},          {"mlx-5", MLX, 0, 0, 0},
    {"mlx-6", MLX, 0, 0, 0},        {"mlx-8", MLX, 0, 0, 0},          {"mlx-f16-64", MLX, 0, 0, 0},
    {"mlx-f32-128", MLX, 0, 0, 0},  {"mlx-mxfp4", MLX, 0, 0, 0},      {"mlx-nvfp4", MLX, 0, 0, 0},
    {"mlx-mxfp8", MLX, 0, 0, 0},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static struct qvl_tensors *file;

static int open_file(void **state)
{
    (void)state;
    qvl_err err;
    return qvl_safetensors_open(&file, QVL_SOURCE_DIR "/tests/data/quantised/matrices.safetensors", &err);
}

static int close_file(void **state)
{
    (void)state;
    qvl_tensors_close(&file);
    return 0;
}

static const struct qvl_tensor *get(const char *name, const char *tail)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s", name, tail);
    return qvl_tensors_find(file, full);
}

typedef int (*reader_fn)(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err);

static reader_fn parts_of(struct qvl_coded_parts *p, size_t i)
{
    const char *s = cases[i].name;
    const struct qvl_tensor *want = get(s, ".want");
    if (!want)
        fail_msg("%s: not in the file", s);
    *p = (struct qvl_coded_parts){.n_out = want->shape[0], .n_in = want->shape[1], .what = s, .weight = get(s, ".weight"),
                                  .group = cases[i].group, .block = {cases[i].block, cases[i].block}, .zero_add = cases[i].zero_add};
    switch (cases[i].kind) {
    case AWQ: case GPTQ:
        p->weight = get(s, ".qweight");
        p->zeros = get(s, ".qzeros");
        p->scales = get(s, ".scales");
        p->groups = get(s, ".g_idx");
        return cases[i].kind == AWQ ? qvl_coded_awq : qvl_coded_gptq;
    case PACKED: case BYTES:
        p->scales = get(s, ".weight_scale");
        p->zeros = get(s, ".weight_zero_point");
        p->groups = get(s, ".weight_g_idx");
        p->shape = get(s, ".weight_shape");
        if (cases[i].kind == BYTES)
            return qvl_coded_bytes8;
        p->bits = s[3] - '0'; /* "ct-4..." */
        p->weight = get(s, ".weight_packed");
        return qvl_coded_packed;
    case SCALE_INV:
        p->block_only = 1;
        p->scales = get(s, ".weight_scale_inv");
        return qvl_coded_bytes8;
    case BNB4:
        p->scales = get(s, ".weight.absmax");
        p->map = get(s, ".weight.quant_map");
        p->nested = get(s, ".weight.nested_absmax");
        p->nested_map = get(s, ".weight.nested_quant_map");
        p->state = get(s, ".weight.quant_state.bitsandbytes__nf4");
        if (!p->state)
            p->state = get(s, ".weight.quant_state.bitsandbytes__fp4");
        return qvl_coded_bnb4;
    case BNB8:
        p->scales = get(s, ".SCB");
        p->state = get(s, ".weight_format");
        return qvl_coded_bnb8;
    case MLX: default:
        p->scales = get(s, ".scales");
        p->biases = get(s, ".biases");
        return qvl_coded_mlx;
    }
}

static void read_case(struct qvl_coded *q, size_t i)
{
    struct qvl_coded_parts p;
    qvl_err err = {0};
    reader_fn read = parts_of(&p, i);
    if (read(q, &p, &err) != 0)
        fail_msg("%s: %s", cases[i].name, err.msg);
}

static size_t by_name(const char *name)
{
    size_t i = 0;
    while (i < N_CASES && strcmp(cases[i].name, name) != 0)
        i++;
    assert_true(i < N_CASES);
    return i;
}

/* -0 and 0 are the same weight; everything else by bits. */
static int same(float a, float b) { return a == b || !memcmp(&a, &b, 4); }

static void rows_are_those_of_the_packages(void **state)
{
    float row[256];
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        const float *want = get(cases[i].name, ".want")->data;
        struct qvl_coded q;
        read_case(&q, i);
        for (int64_t n = 0; n < q.n_out; n++) {
            qvl_coded_row(row, &q, n);
            for (int64_t k = 0; k < q.n_in; k++) {
                float w;
                memcpy(&w, want + n * q.n_in + k, 4);
                if (!same(row[k], w))
                    fail_msg("%s: weight %d, %d: found %.9g, expected %.9g", cases[i].name, (int)n, (int)k, (double)row[k], (double)w);
            }
        }
    }
}

static void a_part_of_the_rows_is_a_matrix(void **state)
{
    float row[256], whole[256];
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        struct qvl_coded q;
        read_case(&q, i);
        struct qvl_coded part = qvl_coded_rows(&q, 3, 2);
        for (int64_t n = 0; n < 2; n++) {
            qvl_coded_row(row, &part, n);
            qvl_coded_row(whole, &q, 3 + n);
            assert_memory_equal(row, whole, (size_t)q.n_in * sizeof *row);
        }
        assert_true(part.bytes > 0 && part.bytes < q.bytes);
    }
}

/* The words of the packers' documentation. */
static void orders_of_codes(void **state)
{
    static const unsigned char word[4] = {0x10, 0x32, 0x54, 0x76};
    static const struct {
        enum qvl_lines_form form;
        int codes[8];
    } want[] = {{QVL_LINES_WORDS, {0, 1, 2, 3, 4, 5, 6, 7}}, {QVL_LINES_AWQ, {0, 4, 1, 5, 2, 6, 3, 7}},
                {QVL_LINES_HIGH_FIRST, {1, 0, 3, 2, 5, 4, 7, 6}}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct qvl_coded q = {.bits = 4, .n_out = 1, .n_in = 8, .codes = {.data = word, .form = want[i].form, .bits = 4, .line = 1, .step = 1}};
        uint8_t codes[8];
        qvl_coded_codes(codes, &q, 0, 0, 8);
        for (int k = 0; k < 8; k++)
            assert_int_equal(codes[k], want[i].codes[k]);
    }
    static const unsigned char three[4] = {0x88, 0xc6, 0xfa, 0}, five[8] = {0xc1, 0x2c, 0x58, 0xf5, 0x27}, six[8] = {0x81, 0xb1, 0x40, 0x95, 0xf6, 0x91};
    static const int want5[8] = {1, 6, 11, 16, 21, 26, 31, 4}, want6[8] = {1, 6, 11, 16, 21, 26, 31, 36};
    for (int k = 0; k < 8; k++) {
        struct qvl_coded q = {.bits = 3, .n_out = 1, .n_in = 8, .codes = {.data = three, .bits = 3, .line = 2, .step = 1}};
        uint8_t code;
        qvl_coded_codes(&code, &q, 0, k, 1);
        assert_int_equal(code, k);
        q.codes.data = five;
        q.codes.bits = 5;
        qvl_coded_codes(&code, &q, 0, k, 1);
        assert_int_equal(code, want5[k]);
        q.codes.data = six;
        q.codes.bits = 6;
        qvl_coded_codes(&code, &q, 0, k, 1);
        assert_int_equal(code, want6[k]);
    }
}

static void numbers_of_eight_bits(void **state)
{
    static const struct {
        uint8_t x;
        float want;
    } e4m3[] = {{0x00, 0}, {0x01, 0.001953125f}, {0x07, 0.013671875f}, {0x08, 0.015625f}, {0x38, 1}, {0x40, 2}, {0x5a, 20}, {0x7e, 448}, {0xb8, -1}};
    (void)state;
    for (size_t i = 0; i < sizeof e4m3 / sizeof *e4m3; i++)
        assert_true(qvl_e4m3_to_f32(e4m3[i].x) == e4m3[i].want);
    assert_true(isnan(qvl_e4m3_to_f32(0x7f)) && isnan(qvl_e4m3_to_f32(0xff)));
    assert_true(qvl_e5m2_to_f32(0x3c) == 1 && qvl_e5m2_to_f32(0xc1) == -2.5f && isinf(qvl_e5m2_to_f32(0x7c)) && isnan(qvl_e5m2_to_f32(0x7f)));
    assert_true(qvl_e8m0_to_f32(127) == 1 && qvl_e8m0_to_f32(0) == 0x1p-127f && qvl_e8m0_to_f32(254) == 0x1p127f && isnan(qvl_e8m0_to_f32(255)));
}

/* The stored 15 of the first GPTQ format is 16. */
static void zero_point_behind_the_last_code(void **state)
{
    static const unsigned char codes[4] = {0}, zeros[4] = {0xff, 0xff, 0xff, 0xff};
    static const float one = 1;
    struct qvl_coded q = {.bits = 4, .n_out = 1, .n_in = 8, .group = 8, .n_group = 1, .row_block = 1, .scales = &one,
                          .scale_type = QVL_DT_F32, .zero_add = 1, .codes = {.data = codes, .bits = 4, .line = 1, .step = 1},
                          .zeros = {.data = zeros, .bits = 4, .line = 1, .step = 1}};
    float row[8];
    (void)state;
    qvl_coded_row(row, &q, 0);
    assert_true(row[0] == -16);
}

/* FP8 experts are stored inputs first; E8M0 scales come as U8, too. */
static void inputs_first_and_powers_of_two(void **state)
{
    static const unsigned char codes[6] = {0x38, 0x40, 0xb8, 0x08, 0x01, 0x7e}, powers[4] = {127, 128, 126, 129};
    const struct qvl_tensor w = {.name = "w", .file = "f", .data = codes, .bytes = 6, .type = QVL_DT_F8_E4M3, .type_name = "F8_E4M3", .rank = 2, .shape = {3, 2}};
    const struct qvl_tensor s = {.name = "s", .file = "f", .data = powers, .bytes = 4, .type = QVL_DT_U8, .type_name = "U8", .rank = 2, .shape = {2, 2}};
    struct qvl_coded_parts p = {.weight = &w, .scales = &s, .n_out = 2, .n_in = 3, .block = {1, 2}, .input_first = 1, .what = "x"};
    struct qvl_coded q;
    qvl_err err;
    float row[3];
    (void)state;
    assert_int_equal(qvl_coded_bytes8(&q, &p, &err), 0);
    qvl_coded_row(row, &q, 1); /* column 1 of the codes: 2, 2^-6, 448; scales of output 1: 2^1 for inputs 0 and 1, 2^2 for input 2 */
    assert_true(row[0] == 4 && row[1] == 0x1p-5f && row[2] == 1792);
    qvl_coded_row(row, &q, 0);
    assert_true(row[0] == 1 && row[1] == -1 && row[2] == 0x1p-10f);
}

/* ---- codes in q4 and q8 ---- */

static void check_kept(const char *name, enum qvl_dtype type, int exact_wanted)
{
    struct qvl_coded q;
    int exact = -1;
    read_case(&q, by_name(name));
    struct qvl_mat m = {.data = q.codes.data, .type = QVL_DT_CODED, .n_out = q.n_out, .n_in = q.n_in, .stride = q.n_in, .aux = &q};
    int can = type == QVL_DT_Q4 ? qvl_convert_q4_can(&m, &exact) : qvl_convert_q8_can(&m, &exact);
    if (!can || exact != exact_wanted)
        fail_msg("%s: can %d, exact %d", name, can, exact);
    size_t bytes = qvl_quant_bytes(type, q.n_out, q.n_in);
    void *packed = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(packed);
    struct qvl_quant_error e = type == QVL_DT_Q4 ? qvl_convert_q4(packed, &m, 0, q.n_out) : qvl_convert_q8(packed, &m, 0, q.n_out);
    assert_true(exact ? e.error == 0 : e.error > 0 && e.error < 1e-6 * e.norm);
    struct qvl_mat p = {.data = packed, .type = type, .n_out = q.n_out, .n_in = q.n_in};
    double error = 0, norm = 0;
    for (int64_t n = 0; n < q.n_out; n++) {
        float want[256], got[256];
        qvl_coded_row(want, &q, n);
        qvl_quant_row(got, &p, n);
        for (int64_t k = 0; k < q.n_in; k++) {
            if (exact && want[k] != got[k])
                fail_msg("%s: weight %d, %d: %g instead of %g", name, (int)n, (int)k, (double)got[k], (double)want[k]);
            error += ((double)got[k] - (double)want[k]) * ((double)got[k] - (double)want[k]);
            norm += (double)want[k] * (double)want[k];
        }
    }
    assert_true(fabs(error - e.error) <= 1e-3 * e.error + 1e-12 * norm && fabs(norm - e.norm) <= 1e-4 * norm);
    free(packed);
}

static void codes_are_kept(void **state)
{
    (void)state;
    check_kept("gptq-sym", QVL_DT_Q4, 1);
    check_kept("awq-sym", QVL_DT_Q4, 1);
    check_kept("ct-4", QVL_DT_Q4, 1);
    check_kept("gptq-sym8", QVL_DT_Q8, 1);
    check_kept("ct-8", QVL_DT_Q8, 1);
    check_kept("ct-int", QVL_DT_Q8, 1);
    check_kept("ct-int-group", QVL_DT_Q8, 1);
    check_kept("int8", QVL_DT_Q8, 0); /* scales divided by 127 */
}

static void other_codes_are_not_kept(void **state)
{
    static const char *const names[] = {"awq", "gptq-order", "gptq-2", "ct-4-zero", "gptq-8", "nf4", "mlx-4", "mlx-8", "fp8", "ct-int-zero"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct qvl_coded q;
        int exact;
        read_case(&q, by_name(names[i]));
        struct qvl_mat m = {.data = q.codes.data, .type = QVL_DT_CODED, .n_out = q.n_out, .n_in = q.n_in, .aux = &q};
        assert_false(qvl_convert_q4_can(&m, &exact));
        assert_false(qvl_convert_q8_can(&m, &exact));
    }
}

/* ---- refusals ---- */

static void must_fail(const char *what, size_t i, struct qvl_coded_parts *p, reader_fn read, const char *text)
{
    struct qvl_coded q;
    qvl_err err = {0};
    int rc = read(&q, p, &err);
    if (rc == 0 || !strstr(err.msg, text))
        fail_msg("%s, %s: %d \"%s\", expected \"%s\"", cases[i].name, what, rc, err.msg, text);
}

/* Every tensor of every case in turn is missing, of another type, of a lying shape. */
static void parts_that_do_not_fit(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        for (size_t at = 0; at < 10; at++) {
            struct qvl_coded_parts p;
            reader_fn read = parts_of(&p, i);
            const struct qvl_tensor **all[] = {&p.weight, &p.scales, &p.zeros, &p.biases, &p.groups, &p.shape, &p.map, &p.nested, &p.nested_map, &p.state};
            if (!*all[at])
                continue;
            struct qvl_tensor t = **all[at];
            int by_bytes = cases[i].kind == BNB4 || cases[i].kind == BNB8; /* shapes there are free, numbers of elements are not */
            *all[at] = &t;
            t.type = QVL_DT_BOOL;
            t.type_name = "BOOL";
            if (cases[i].kind != BNB4 || at) /* codes there may be stored as any type */
                must_fail("type", i, &p, read, "");
            t = *(t.name ? get(t.name, "") : NULL);
            if (t.rank && t.shape[t.rank - 1] > 1) {
                t.shape[t.rank - 1]--;
                t.bytes -= t.bytes / (size_t)(t.shape[t.rank - 1] + 1);
                must_fail("short", i, &p, read, "");
                t = *get(t.name, "");
            }
            if (t.rank == 2 && !by_bytes && t.shape[0] > 1) {
                t.shape[0]++;
                must_fail("long", i, &p, read, "");
                t = *get(t.name, "");
            }
            if (t.rank < 2 && !by_bytes && t.bytes > 1) {
                t.rank = 3;
                t.shape[1] = t.shape[2] = 1;
                must_fail("rank", i, &p, read, "");
                t = *get(t.name, "");
            }
            if (at == 1) {
                *all[at] = NULL;
                must_fail("missing", i, &p, read, "scales are missing");
            }
        }
    }
}

static void sizes_that_do_not_fit(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        struct qvl_coded_parts p;
        reader_fn read = parts_of(&p, i);
        p.n_in += 8;
        must_fail("n_in", i, &p, read, "");
        p.n_in -= 8;
        p.n_out += 8;
        must_fail("n_out", i, &p, read, "");
        p.n_out = ((int64_t)1 << 40);
        must_fail("huge", i, &p, read, "matrix of");
        p.n_out = 0;
        must_fail("empty", i, &p, read, "matrix of");
    }
}

static void groups_out_of_range(void **state)
{
    static const int32_t bad[] = {-1, 3, INT32_MIN, INT32_MAX};
    (void)state;
    for (size_t b = 0; b < 4; b++) {
        struct qvl_coded_parts p;
        int32_t g[96];
        size_t i = by_name("gptq-order");
        reader_fn read = parts_of(&p, i);
        struct qvl_tensor t = *p.groups;
        memcpy(g, t.data, sizeof g);
        g[95] = bad[b];
        t.data = g;
        p.groups = &t;
        must_fail("g_idx", i, &p, read, "found group");
    }
}

static void group_sizes_and_bits(void **state)
{
    struct qvl_coded_parts p;
    reader_fn read;
    (void)state;
    size_t i = by_name("awq");
    read = parts_of(&p, i);
    p.group = 48;
    must_fail("group", i, &p, read, "groups of 48");
    p.group = 16;
    must_fail("group", i, &p, read, "groups of 16");
    p.group = 32;
    p.bits = 8;
    must_fail("bits", i, &p, read, "AWQ of 8 bits");
    i = by_name("gptq-sym");
    read = parts_of(&p, i);
    p.bits = 8;
    must_fail("bits", i, &p, read, "(8 bits)");
    i = by_name("ct-4");
    read = parts_of(&p, i);
    p.bits = 8;
    must_fail("bits", i, &p, read, "expected [9,16] I32");
    p.bits = 11;
    must_fail("bits", i, &p, read, "11 bits");
}

static void scales_that_are_no_numbers(void **state)
{
    static const char *const names[] = {"awq", "gptq-sym", "ct-4", "ct-4-row", "mlx-4", "fp8"};
    (void)state;
    for (size_t c = 0; c < sizeof names / sizeof *names; c++) {
        unsigned char copy[4096];
        struct qvl_coded_parts p;
        size_t i = by_name(names[c]);
        reader_fn read = parts_of(&p, i);
        struct qvl_tensor t = *p.scales;
        assert_true(t.bytes <= sizeof copy);
        memcpy(copy, t.data, t.bytes);
        memset(copy + t.bytes - 4, 0xff, 4);
        t.data = copy;
        p.scales = &t;
        must_fail("NaN", i, &p, read, "NaN");
    }
}

static void states_of_bitsandbytes(void **state)
{
    static const struct {
        const char *json, *text;
    } bad[] = {
        {"", "quant_state"}, {"[]", "blocksize"}, {"{\"blocksize\":64", "quant_state"}, {"{\"blocksize\":0,\"shape\":[8,72]}", "blocksize"},
        {"{\"blocksize\":-64,\"shape\":[8,72]}", "blocksize"}, {"{\"blocksize\":64}", "shape"}, {"{\"blocksize\":64,\"shape\":[72,8]}", "shape"},
        {"{\"blocksize\":64,\"shape\":[8,72,1]}", "shape"}, {"{\"blocksize\":32,\"shape\":[8,72]}", "expected 18 values"},
        {"{\"blocksize\":64,\"shape\":[8,72]}", "nested_blocksize"},
        {"{\"blocksize\":64,\"shape\":[8,72],\"nested_blocksize\":256}", "nested_offset"},
        {"{\"blocksize\":64,\"shape\":[8,72],\"nested_blocksize\":4,\"nested_offset\":1}", "expected 3 values"},
    };
    (void)state;
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        struct qvl_coded_parts p;
        size_t i = by_name(strstr(bad[b].text, "18") ? "nf4" : "fp4");
        reader_fn read = parts_of(&p, i);
        struct qvl_tensor t = *p.state;
        t.data = bad[b].json;
        t.bytes = strlen(bad[b].json);
        t.shape[0] = (int64_t)t.bytes;
        p.state = &t;
        must_fail(bad[b].json, i, &p, read, bad[b].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_those_of_the_packages),
        cmocka_unit_test(a_part_of_the_rows_is_a_matrix),
        cmocka_unit_test(orders_of_codes),
        cmocka_unit_test(numbers_of_eight_bits),
        cmocka_unit_test(zero_point_behind_the_last_code),
        cmocka_unit_test(inputs_first_and_powers_of_two),
        cmocka_unit_test(codes_are_kept),
        cmocka_unit_test(other_codes_are_not_kept),
        cmocka_unit_test(parts_that_do_not_fit),
        cmocka_unit_test(sizes_that_do_not_fit),
        cmocka_unit_test(groups_out_of_range),
        cmocka_unit_test(group_sizes_and_bits),
        cmocka_unit_test(scales_that_are_no_numbers),
        cmocka_unit_test(states_of_bitsandbytes),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}
