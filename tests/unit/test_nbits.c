/* Matrices in blocks of 4 and 8 bits: the rows that onnxruntime's operators give, refusals, rows of fused matrices, and q4 without
 * quantising again. */
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
#include "base/mem.h"
#include "formats/ggml_blocks.h"
#include "formats/nbits.h"
#include "formats/onnx.h"
#include "kernels/quant.h"
#include "model/convert_q4.h"
#include "model/foreign.h"
#include "model/onnx_roles.h"

#define OPS QVL_SOURCE_DIR "/tests/data/onnx/ops/"

/* The only weight in a graph of one operator. */
static struct qvl_onnx *open_case(const char *name, const struct qvl_tensor *want, struct qvl_onnx_found *f)
{
    char path[512];
    qvl_err err = {0};
    struct qvl_onnx *o = NULL;
    int n = 0;
    snprintf(path, sizeof path, OPS "%s.onnx", name);
    if (qvl_onnx_open(&o, path, &err) != 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < qvl_onnx_count(o); i++) {
        struct qvl_onnx_found one;
        if (qvl_onnx_look(&one, o, qvl_onnx_node(o, i), want->shape[0], want->shape[1], 0, &err) != 0)
            fail_msg("%s: %s", name, err.msg);
        if (!one.place.role)
            continue;
        *f = one;
        n++;
    }
    assert_int_equal(n, 1);
    assert_true(f->quantised);
    assert_int_equal(f->nbits.n_out, want->shape[0]);
    assert_int_equal(f->nbits.n_in, want->shape[1]);
    return o;
}

static int equal(const float *got, const struct qvl_tensor *want, int64_t row)
{
    size_t n = (size_t)want->shape[1];
    for (size_t k = 0; k < n; k++) {
        float w;
        uint16_t h;
        if (want->type == QVL_DT_F32) {
            memcpy(&w, (const char *)want->data + 4 * ((size_t)row * n + k), 4);
            if (memcmp(&w, &got[k], 4) != 0 && !(w == 0 && got[k] == 0))
                return 0;
        } else { /* onnxruntime's products in f16: ours are exact, and round to them */
            memcpy(&h, (const char *)want->data + 2 * ((size_t)row * n + k), 2);
            if (h != qvl_f32_to_f16(got[k]) && !(got[k] == 0 && (h & 0x7fff) == 0))
                return 0;
        }
    }
    return 1;
}

static void rows_are_onnxruntime_s(void **state)
{
    struct qvl_tensors *rows = NULL;
    qvl_err err = {0};
    size_t distinct = 0;
    (void)state;
    assert_int_equal(qvl_safetensors_open(&rows, OPS "rows.safetensors", &err), 0);
    assert_true(qvl_tensors_count(rows) >= 36);
    for (size_t i = 0; i < qvl_tensors_count(rows); i++) {
        const struct qvl_tensor *want = qvl_tensors_at(rows, i);
        struct qvl_onnx_found f = {0};
        struct qvl_onnx *o = open_case(want->name, want, &f);
        float *row = malloc((size_t)want->shape[1] * sizeof *row), first = 0;
        assert_non_null(row);
        for (int64_t r = 0; r < want->shape[0]; r++) {
            qvl_nbits_row(row, &f.nbits, r);
            if (!equal(row, want, r))
                fail_msg("%s: row %d differs", want->name, (int)r);
            distinct += row[0] != first;
            first = row[0];
            /* The same row as a matrix of its own, as parts of fused matrices are. */
            struct qvl_nbits one = qvl_nbits_rows(&f.nbits, r, 1);
            memset(row, 0, (size_t)want->shape[1] * sizeof *row);
            qvl_nbits_row(row, &one, 0);
            if (!equal(row, want, r))
                fail_msg("%s: row %d alone differs", want->name, (int)r);
        }
        free(row);
        qvl_onnx_close(&o);
    }
    assert_true(distinct > 100);
    qvl_tensors_close(&rows);
}

/* ---- shapes that do not fit ---- */

static struct qvl_tensor tensor(enum qvl_dtype type, const void *data, int rank, int64_t a, int64_t b, int64_t c)
{
    return (struct qvl_tensor){.name = "t", .file = "f", .data = data, .type = type, .type_name = qvl_dtype_name(type), .rank = rank,
                               .shape = {a, b, c}};
}

static void refuses_what_does_not_fit(void **state)
{
    static const unsigned char bytes[4096];
    static const int32_t order[64] = {[63] = 2};
    qvl_err err = {0};
    struct qvl_nbits q;
    const struct qvl_tensor codes = tensor(QVL_DT_U8, bytes, 3, 4, 2, 16), scales = tensor(QVL_DT_F32, bytes, 2, 4, 2, 0);
    const struct qvl_tensor short_codes = tensor(QVL_DT_U8, bytes, 1, 127, 0, 0), signed_codes = tensor(QVL_DT_I8, bytes, 3, 4, 2, 16);
    const struct qvl_tensor short_scales = tensor(QVL_DT_F32, bytes, 1, 7, 0, 0), int_scales = tensor(QVL_DT_I32, bytes, 2, 4, 2, 0);
    const struct qvl_tensor zeros = tensor(QVL_DT_U8, bytes, 2, 4, 1, 0), short_zeros = tensor(QVL_DT_U8, bytes, 1, 3, 0, 0);
    const struct qvl_tensor half_zeros = tensor(QVL_DT_F16, bytes, 2, 4, 2, 0), groups = tensor(QVL_DT_I32, order, 1, 64, 0, 0);
    const struct qvl_nbits_parts good = {.codes = &codes, .scales = &scales, .n_out = 4, .n_in = 64, .bits = 4, .block = 32, .what = "n"};
    struct qvl_nbits_parts p;
    (void)state;
    assert_int_equal(qvl_nbits_matmul(&q, &good, &err), 0);
    p = good, p.zeros = &zeros;
    assert_int_equal(qvl_nbits_matmul(&q, &p, &err), 0);
#define REFUSED(code, change)                                                  \
    do {                                                                       \
        p = good, change;                                                      \
        err = (qvl_err){0};                                                    \
        assert_int_equal(qvl_nbits_matmul(&q, &p, &err), code);                \
        assert_true(strlen(err.msg) > 10);                                     \
    } while (0)
    REFUSED(QVL_E_FORMAT, p.codes = &short_codes);
    REFUSED(QVL_E_FORMAT, p.codes = &signed_codes);
    REFUSED(QVL_E_FORMAT, p.scales = &short_scales);
    REFUSED(QVL_E_FORMAT, p.scales = &int_scales);
    REFUSED(QVL_E_FORMAT, p.zeros = &short_zeros);
    REFUSED(QVL_E_FORMAT, p.zeros = &half_zeros);
    REFUSED(QVL_E_FORMAT, p.groups = &scales);
    REFUSED(QVL_E_FORMAT, p.groups = &groups); /* block 2 of 0 and 1 */
    REFUSED(QVL_E_FORMAT, p.n_out = 5);
    REFUSED(QVL_E_FORMAT, p.n_in = 65);
    REFUSED(QVL_E_UNSUPPORTED, p.bits = 3);
    REFUSED(QVL_E_UNSUPPORTED, p.bits = 2);
    REFUSED(QVL_E_UNSUPPORTED, p.bits = -4);
    REFUSED(QVL_E_FORMAT, p.block = 24);
    REFUSED(QVL_E_FORMAT, p.block = 8);
    REFUSED(QVL_E_FORMAT, p.block = 0);
    REFUSED(QVL_E_FORMAT, p.block = INT64_MIN);
    REFUSED(QVL_E_LIMIT, p.n_out = 0);
    REFUSED(QVL_E_LIMIT, p.n_in = -1);
    REFUSED(QVL_E_LIMIT, p.n_out = INT64_MAX);
    REFUSED(QVL_E_LIMIT, p.n_in = INT64_MAX);
#undef REFUSED
}

/* ---- q4 in order ---- */

enum { ROWS = 37, INPUTS = 170, BLOCKS32 = 6 };

struct source {
    unsigned char codes[ROWS * BLOCKS32 * 16];
    float scales[ROWS * BLOCKS32];
    unsigned char zeros[ROWS * BLOCKS32];
    struct qvl_nbits q;
    struct qvl_mat m;
};

/* Random codes and scales of either sign; exact: scales are f16 numbers. */
static void fill(struct source *s, int64_t block, int exact)
{
    uint32_t x = 12345;
    int64_t n_block = (INPUTS + block - 1) / block;
    for (size_t i = 0; i < sizeof s->codes; i++)
        s->codes[i] = (unsigned char)((x = x * 1664525u + 1013904223u) >> 24);
    for (size_t i = 0; i < ROWS * BLOCKS32; i++) {
        x = x * 1664525u + 1013904223u;
        s->scales[i] = ((float)(x >> 8) / 8388608.0f - 1.0f) * 0.05f;
        if (exact)
            s->scales[i] = qvl_f16_to_f32(qvl_f32_to_f16(s->scales[i]));
    }
    memset(s->zeros, 0x88, sizeof s->zeros);
    s->q = (struct qvl_nbits){.bits = 4, .n_out = ROWS, .n_in = INPUTS, .block = block, .n_block = n_block, .codes = s->codes,
                              .row = n_block * block, .step = 1, .scales = s->scales, .scale_type = QVL_DT_F32, .scale_row = n_block,
                              .scale_step = 1, .default_zero = 8};
    s->m = (struct qvl_mat){.data = s->codes, .type = QVL_DT_NBITS4, .n_out = ROWS, .n_in = INPUTS, .stride = INPUTS, .aux = &s->q};
}

static void exact_blocks_become_the_very_same_weights(void **state)
{
    static struct source s;
    static const int64_t blocks[] = {32, 64};
    float want[INPUTS], got[INPUTS];
    int exact;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fill(&s, blocks[i], 1);
        assert_true(qvl_convert_q4_can(&s.m, &exact));
        assert_true(exact);
        size_t bytes = qvl_quant_bytes(QVL_DT_Q4, ROWS, INPUTS);
        unsigned char *packed = malloc(bytes), *again = malloc(bytes);
        assert_true(packed && again);
        memset(packed, 0x5a, bytes);
        memset(again, 0xa5, bytes);
        struct qvl_quant_error a = qvl_convert_q4(packed, &s.m, 0, 16);
        struct qvl_quant_error b = qvl_convert_q4(packed + qvl_quant_bytes(QVL_DT_Q4, 16, INPUTS), &s.m, 16, ROWS);
        assert_true(a.error == 0 && b.error == 0 && a.norm > 0 && b.norm > 0);
        qvl_convert_q4(again, &s.m, 0, ROWS);
        assert_memory_equal(packed, again, bytes); /* every byte is written */
        struct qvl_mat p = {.data = packed, .type = QVL_DT_Q4, .n_out = ROWS, .n_in = INPUTS, .stride = INPUTS};
        for (int64_t r = 0; r < ROWS; r++) {
            qvl_foreign_row(want, &s.m, r);
            qvl_quant_row(got, &p, r);
            for (int k = 0; k < INPUTS; k++)
                assert_true(got[k] == want[k]);
        }
        /* What lies outside of the matrix: codes 8; scales 0 for whole groups. The last panel has 5 rows, the last unit 42 inputs. */
        const unsigned char *unit = packed + bytes - QVL_Q4_UNIT_BYTES;
        for (int v = 0; v < 8; v++)
            for (int lane = 5; lane < 16; lane++)
                for (int k = 0; k < 4; k++)
                    assert_int_equal(unit[v * 64 + lane * 4 + k], 0x88);
        for (int k = 0; k < 4; k++) /* inputs behind the 42nd in row 0: vectors 6 and 7 of the second group */
            assert_int_equal(unit[256 + 2 * 64 + k], 0x88);
        for (int lane = 5; lane < 16; lane++)
            assert_int_equal(unit[512 + 32 + 2 * lane] | unit[512 + 33 + 2 * lane], 0);
        free(packed);
        free(again);
    }
}

/* The same codes as blocks of GGUF's Q4_0, and these in q4's order: all three stand for the same weights. */
static void q4_0_has_the_same_codes(void **state)
{
    enum { WHOLE = 160 };
    static struct source s;
    static const int64_t blocks[] = {32, 64};
    static unsigned char q4_0[ROWS * WHOLE / 32 * 18];
    float want[INPUTS], got[INPUTS];
    int exact;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fill(&s, blocks[i], 1);
        s.q.n_in = s.m.n_in = s.m.stride = WHOLE;
        memset(q4_0, 0x5a, sizeof q4_0);
        for (int64_t r = 0; r < ROWS; r++) {
            struct qvl_quant_error e = qvl_convert_to_q4_0(q4_0 + r * (WHOLE / 32 * 18), &s.m, r);
            assert_true(e.error == 0 && e.norm > 0);
            qvl_foreign_row(want, &s.m, r);
            qvl_ggml_type_of(QVL_DT_GGML_Q4_0)->to_f32(got, q4_0 + r * (WHOLE / 32 * 18), WHOLE);
            for (int k = 0; k < WHOLE; k++)
                assert_true(got[k] == want[k]);
        }
        struct qvl_mat m = {.data = q4_0, .type = QVL_DT_GGML_Q4_0, .n_out = ROWS, .n_in = WHOLE, .stride = WHOLE};
        unsigned char *packed = malloc(qvl_quant_bytes(QVL_DT_Q4, ROWS, WHOLE));
        assert_non_null(packed);
        assert_true(qvl_convert_q4_can(&m, &exact) && exact);
        struct qvl_quant_error a = qvl_convert_q4(packed, &m, 0, ROWS), b = {0};
        struct qvl_mat p = {.data = packed, .type = QVL_DT_Q4, .n_out = ROWS, .n_in = WHOLE, .stride = WHOLE};
        for (int64_t r = 0; r < ROWS; r++) {
            qvl_foreign_row(want, &m, r);
            qvl_quant_row(got, &p, r);
            for (int k = 0; k < WHOLE; k++) {
                assert_true(got[k] == want[k]);
                b.norm += (double)want[k] * (double)want[k];
            }
        }
        assert_true(a.error == 0 && fabs(a.norm - b.norm) <= 1e-6 * b.norm);
        free(packed);
    }
}

static void other_scales_are_rounded_and_the_loss_is_told(void **state)
{
    static struct source s;
    float want[INPUTS], got[INPUTS];
    int exact;
    double error = 0, norm = 0;
    (void)state;
    fill(&s, 32, 0);
    assert_true(qvl_convert_q4_can(&s.m, &exact));
    assert_false(exact);
    unsigned char *packed = malloc(qvl_quant_bytes(QVL_DT_Q4, ROWS, INPUTS));
    assert_non_null(packed);
    struct qvl_quant_error e = qvl_convert_q4(packed, &s.m, 0, ROWS);
    struct qvl_mat p = {.data = packed, .type = QVL_DT_Q4, .n_out = ROWS, .n_in = INPUTS, .stride = INPUTS};
    for (int64_t r = 0; r < ROWS; r++) {
        qvl_foreign_row(want, &s.m, r);
        qvl_quant_row(got, &p, r);
        for (int k = 0; k < INPUTS; k++) {
            error += ((double)got[k] - (double)want[k]) * ((double)got[k] - (double)want[k]);
            norm += (double)want[k] * (double)want[k];
        }
    }
    assert_true(fabs(e.error - error) <= 1e-3 * error && fabs(e.norm - norm) <= 1e-5 * norm);
    assert_true(sqrt(e.error / e.norm) < 3e-4 && e.error > 0);
    free(packed);
}

static void other_blocks_are_not_q4_s(void **state)
{
    static struct source s;
    int exact;
    (void)state;
    fill(&s, 32, 1);
    s.q.zeros = s.zeros;
    s.q.zero_row = BLOCKS32;
    s.q.zero_step = 1;
    assert_true(qvl_convert_q4_can(&s.m, &exact)); /* zero points that are 8 throughout */
    s.zeros[17] = 0x78;
    assert_false(qvl_convert_q4_can(&s.m, &exact));
    fill(&s, 32, 1);
    s.scales[ROWS * BLOCKS32 - 1] = 65520;
    assert_false(qvl_convert_q4_can(&s.m, &exact));
    s.scales[ROWS * BLOCKS32 - 1] = NAN;
    assert_false(qvl_convert_q4_can(&s.m, &exact));
    fill(&s, 32, 1);
    s.q.block = 16;
    assert_false(qvl_convert_q4_can(&s.m, &exact));
    fill(&s, 32, 1);
    s.m.type = QVL_DT_NBITS8;
    assert_false(qvl_convert_q4_can(&s.m, &exact));
}

/* INT4 codes stored [n_in][n_out], as DequantizeLinear has them. */
static void transposed_signed_codes_are_put_in_order_too(void **state)
{
    static unsigned char codes[(32 * 6 + 1) / 2];
    static const float scales[6] = {0.5f, -0.25f, 2, 1, 0.125f, -4};
    struct qvl_nbits q = {.bits = 4, .is_signed = 1, .n_out = 6, .n_in = 32, .block = 32, .n_block = 1, .codes = codes, .row = 1, .step = 6,
                          .scales = scales, .scale_type = QVL_DT_F32, .scale_row = 1, .scale_step = 6};
    struct qvl_mat m = {.data = codes, .type = QVL_DT_NBITS4, .n_out = 6, .n_in = 32, .stride = 32, .aux = &q};
    unsigned char *packed = malloc(qvl_quant_bytes(QVL_DT_Q4, 6, 32));
    float want[32], got[32];
    int exact;
    (void)state;
    assert_non_null(packed);
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (unsigned char)(i * 37 + 11);
    assert_true(qvl_convert_q4_can(&m, &exact) && exact);
    qvl_convert_q4(packed, &m, 0, 6);
    struct qvl_mat p = {.data = packed, .type = QVL_DT_Q4, .n_out = 6, .n_in = 32, .stride = 32};
    for (int64_t r = 0; r < 6; r++) {
        qvl_foreign_row(want, &m, r);
        qvl_quant_row(got, &p, r);
        for (int k = 0; k < 32; k++) {
            int nibble = codes[(k * 6 + r) / 2] >> (4 * ((k * 6 + r) % 2)) & 15;
            assert_true(want[k] == (float)(nibble > 7 ? nibble - 16 : nibble) * scales[r]);
            assert_true(got[k] == want[k]);
        }
    }
    free(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_onnxruntime_s),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(exact_blocks_become_the_very_same_weights),
        cmocka_unit_test(q4_0_has_the_same_codes),
        cmocka_unit_test(other_scales_are_rounded_and_the_loss_is_told),
        cmocka_unit_test(other_blocks_are_not_q4_s),
        cmocka_unit_test(transposed_signed_codes_are_put_in_order_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
