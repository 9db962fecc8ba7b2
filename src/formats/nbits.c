/* nbits.c - see nbits.h: tensors of an operator -> a checked description -> rows of f32. */
#include "formats/nbits.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/half.h"
#include "base/mem.h"

/* ---- checking ---- */

static int wrong(const struct qvl_nbits_parts *p, const char *part, const struct qvl_tensor *t, const char *expected, qvl_err *err)
{
    char found[128];
    return qvl_fail(err, QVL_E_FORMAT, "%s: %s: %s %s: found %s, expected %s", t->file, p->what, part, t->name,
                    qvl_tensor_describe(t, found, sizeof found), expected);
}

/* Number of elements; the product fits, since the tensor's bytes do. */
static int64_t elems(const struct qvl_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] == 0)
            return 0;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

static int is_float(enum qvl_dtype t) { return t == QVL_DT_F32 || t == QVL_DT_F16 || t == QVL_DT_BF16; }

static int check_sizes(const struct qvl_nbits_parts *p, qvl_err *err)
{
    const char *file = p->codes->file;
    if (p->n_out < 1 || p->n_out > QVL_NBITS_MAX_ROWS || p->n_in < 1 || p->n_in > QVL_NBITS_MAX_INPUTS)
        return qvl_fail(err, QVL_E_LIMIT, "%s: %s: matrix of %lld x %lld", file, p->what, (long long)p->n_out, (long long)p->n_in);
    if (p->bits != 4 && p->bits != 8)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: %lld bits a weight, supported are 4 and 8", file, p->what, (long long)p->bits);
    if (p->block < 16 || p->block > QVL_NBITS_MAX_BLOCK || (p->block & (p->block - 1)))
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: block_size: found %lld, expected a power of two from 16 on", file, p->what,
                        (long long)p->block);
    return 0;
}

/* Scales of n elements, or of as many in rows. */
static int take_scales(struct qvl_nbits *q, const struct qvl_nbits_parts *p, int64_t n, qvl_err *err)
{
    char expected[96];
    snprintf(expected, sizeof expected, "%lld values of FLOAT, FLOAT16 or BFLOAT16", (long long)n);
    if (!is_float(p->scales->type) || elems(p->scales) != n)
        return wrong(p, "scales", p->scales, expected, err);
    q->scales = p->scales->data;
    q->scale_type = p->scales->type;
    return 0;
}

static int take_groups(struct qvl_nbits *q, const struct qvl_nbits_parts *p, qvl_err *err)
{
    char expected[96];
    snprintf(expected, sizeof expected, "%lld values of INT32", (long long)p->n_in);
    if (p->groups->type != QVL_DT_I32 || elems(p->groups) != p->n_in)
        return wrong(p, "g_idx", p->groups, expected, err);
    for (int64_t k = 0; k < p->n_in; k++) {
        int32_t g;
        memcpy(&g, (const char *)p->groups->data + 4 * k, 4);
        if (g < 0 || g >= q->n_block)
            return qvl_fail(err, QVL_E_FORMAT, "%s: %s: g_idx: found block %d, there are %lld", p->groups->file, p->what, (int)g,
                            (long long)q->n_block);
    }
    q->groups = p->groups->data;
    return 0;
}

int qvl_nbits_matmul(struct qvl_nbits *q, const struct qvl_nbits_parts *p, qvl_err *err)
{
    char expected[96];
    QVL_TRY(check_sizes(p, err));
    int64_t n_block = (p->n_in + p->block - 1) / p->block, per_byte = 8 / p->bits, zero_bytes = (n_block + per_byte - 1) / per_byte;
    int64_t bytes;
    /* With block <= 2^24, inputs <= 2^24 and rows <= 2^28 no product below overflows. */
    bytes = p->n_out * n_block * (p->block / per_byte);
    *q = (struct qvl_nbits){.bits = (int)p->bits, .n_out = p->n_out, .n_in = p->n_in, .block = p->block, .n_block = n_block,
                            .codes = p->codes->data, .row = n_block * p->block, .step = 1, .scale_row = n_block, .scale_step = 1,
                            .default_zero = 1 << (p->bits - 1)};
    snprintf(expected, sizeof expected, "%lld bytes of UINT8", (long long)bytes);
    if (p->codes->type != QVL_DT_U8 || elems(p->codes) != bytes)
        return wrong(p, "weight", p->codes, expected, err);
    QVL_TRY(take_scales(q, p, p->n_out * n_block, err));
    if (p->zeros && is_float(p->zeros->type)) {
        snprintf(expected, sizeof expected, "%lld values of the scales' type", (long long)(p->n_out * n_block));
        if (p->zeros->type != q->scale_type || elems(p->zeros) != p->n_out * n_block)
            return wrong(p, "zero_points", p->zeros, expected, err);
        q->float_zeros = p->zeros->data;
    } else if (p->zeros) {
        snprintf(expected, sizeof expected, "%lld bytes of UINT8", (long long)(p->n_out * zero_bytes));
        if (p->zeros->type != QVL_DT_U8 || elems(p->zeros) != p->n_out * zero_bytes)
            return wrong(p, "zero_points", p->zeros, expected, err);
        q->zeros = p->zeros->data;
        q->zero_row = zero_bytes * per_byte; /* each row starts on a byte */
        q->zero_step = 1;
    }
    return p->groups ? take_groups(q, p, err) : 0;
}

int qvl_nbits_gather(struct qvl_nbits *q, const struct qvl_nbits_parts *given, qvl_err *err)
{
    struct qvl_nbits_parts copy = *given, *p = &copy;
    const struct qvl_tensor *t = p->codes;
    char expected[96];
    int bytes = t->type == QVL_DT_U8; /* packed codes, whose number the shape does not say */
    if ((!bytes && t->type != QVL_DT_U4 && t->type != QVL_DT_I4) || t->rank != 2)
        return wrong(p, "data", t, "two dimensions of UINT8, UINT4 or INT4", err);
    if (!bytes)
        p->bits = 4;
    p->n_out = t->shape[0];
    p->n_in = t->shape[1];
    QVL_TRY(check_sizes(p, err));
    int64_t per_byte = 8 / p->bits, n_block, zero_row;
    if (bytes)
        p->n_in *= per_byte;
    n_block = (p->n_in + p->block - 1) / p->block;
    *q = (struct qvl_nbits){.bits = (int)p->bits, .is_signed = t->type == QVL_DT_I4, .n_out = p->n_out, .n_in = p->n_in,
                            .block = p->block, .n_block = n_block, .codes = t->data, .row = p->n_in, .step = 1,
                            .scale_row = n_block, .scale_step = 1, .default_zero = bytes ? 1 << (p->bits - 1) : 0};
    QVL_TRY(take_scales(q, p, p->n_out * n_block, err));
    if (!p->zeros)
        return 0;
    zero_row = bytes ? (n_block + per_byte - 1) / per_byte : n_block;
    snprintf(expected, sizeof expected, "%lld values of the data's type", (long long)(p->n_out * zero_row));
    if (p->zeros->type != t->type || elems(p->zeros) != p->n_out * zero_row)
        return wrong(p, "zero_points", p->zeros, expected, err);
    q->zeros = p->zeros->data;
    q->zero_row = bytes ? zero_row * per_byte : n_block; /* 4-bit tensors are packed through row ends */
    q->zero_step = 1;
    return 0;
}

int qvl_nbits_linear(struct qvl_nbits *q, const struct qvl_nbits_parts *given, qvl_err *err)
{
    struct qvl_nbits_parts copy = *given, *p = &copy;
    const struct qvl_tensor *t = p->codes;
    int four = t->type == QVL_DT_U4 || t->type == QVL_DT_I4;
    char expected[96];
    if ((!four && t->type != QVL_DT_U8 && t->type != QVL_DT_I8) || t->rank != 2)
        return wrong(p, "weight", t, "two dimensions of INT4, UINT4, INT8 or UINT8", err);
    p->bits = four ? 4 : 8;
    p->n_in = t->shape[0];
    p->n_out = t->shape[1];
    QVL_TRY(check_sizes(p, err));
    int64_t n_block = (p->n_in + p->block - 1) / p->block;
    *q = (struct qvl_nbits){.bits = (int)p->bits, .is_signed = t->type == QVL_DT_I4 || t->type == QVL_DT_I8, .n_out = p->n_out,
                            .n_in = p->n_in, .block = p->block, .n_block = n_block, .codes = t->data, .row = 1, .step = p->n_out,
                            .scale_row = 1, .scale_step = p->n_out};
    QVL_TRY(take_scales(q, p, p->n_out * n_block, err));
    if (!p->zeros)
        return 0;
    snprintf(expected, sizeof expected, "%lld values of the weight's type", (long long)(p->n_out * n_block));
    if (p->zeros->type != t->type || elems(p->zeros) != p->n_out * n_block)
        return wrong(p, "zero_points", p->zeros, expected, err);
    q->zeros = p->zeros->data;
    q->zero_row = 1;
    q->zero_step = p->n_out;
    return 0;
}

/* ---- values ---- */

struct qvl_nbits qvl_nbits_rows(const struct qvl_nbits *q, int64_t row0, int64_t n)
{
    struct qvl_nbits part = *q;
    part.n_out = n;
    part.first += row0 * q->row;
    part.scale_first += row0 * q->scale_row;
    part.zero_first += row0 * q->zero_row;
    return part;
}

size_t qvl_nbits_bytes(const struct qvl_nbits *q)
{
    size_t blocks = (size_t)q->n_out * (size_t)q->n_block, scales = blocks * (q->scale_type == QVL_DT_F32 ? 4 : 2);
    size_t zeros = q->zeros ? blocks * (size_t)q->bits / 8 : q->float_zeros ? scales : 0;
    return (size_t)q->n_out * (size_t)q->n_in * (size_t)q->bits / 8 + scales + zeros;
}

static int number(const unsigned char *p, int bits, int is_signed, int64_t i)
{
    int v = bits == 8 ? p[i] : (p[i >> 1] >> (4 * (i & 1))) & 15;
    return is_signed && v >> (bits - 1) ? v - (1 << bits) : v;
}

static float element(const void *base, enum qvl_dtype type, int64_t i)
{
    const unsigned char *p = base;
    uint16_t h;
    float f;
    if (type == QVL_DT_F32) {
        memcpy(&f, p + 4 * i, 4);
        return f;
    }
    memcpy(&h, p + 2 * i, 2);
    return type == QVL_DT_BF16 ? qvl_bf16_to_f32(h) : qvl_f16_to_f32(h);
}

int qvl_nbits_code(const struct qvl_nbits *q, int64_t row, int64_t k)
{
    return number(q->codes, q->bits, q->is_signed, q->first + row * q->row + k * q->step);
}

float qvl_nbits_scale(const struct qvl_nbits *q, int64_t row, int64_t b)
{
    return element(q->scales, q->scale_type, q->scale_first + row * q->scale_row + b * q->scale_step);
}

static int packed_zero(const struct qvl_nbits *q, int64_t row, int64_t b)
{
    return q->zeros ? number(q->zeros, q->bits, q->is_signed, q->zero_first + row * q->zero_row + b * q->zero_step) : q->default_zero;
}

static float zero_of(const struct qvl_nbits *q, int64_t row, int64_t b)
{
    if (q->float_zeros)
        return element(q->float_zeros, q->scale_type, q->scale_first + row * q->scale_row + b * q->scale_step);
    return (float)packed_zero(q, row, b);
}

/* Inputs k0 <= k < k1 of one block with whole bytes: the usual layout, without a multiplication for each address. */
static void row_of_bytes(float *dst, const struct qvl_nbits *q, int64_t row, int64_t k0, int64_t k1, int zero, float scale)
{
    const unsigned char *p = q->codes + ((q->first + row * q->row + k0) * q->bits >> 3);
    if (q->bits == 8) {
        for (int64_t k = k0; k < k1; k++)
            dst[k] = (float)(*p++ - zero) * scale;
        return;
    }
    for (int64_t k = k0; k < k1; k += 2, p++) {
        dst[k] = (float)((*p & 15) - zero) * scale;
        if (k + 1 < k1)
            dst[k + 1] = (float)((*p >> 4) - zero) * scale;
    }
}

void qvl_nbits_row(float *dst, const struct qvl_nbits *q, int64_t row)
{
    int plain = !q->is_signed && q->step == 1 && (q->bits == 8 || (q->first + row * q->row) % 2 == 0);
    for (int64_t k = 0; k < q->n_in && q->groups; k++) {
        int32_t b;
        memcpy(&b, (const char *)q->groups + 4 * k, 4);
        float s = qvl_nbits_scale(q, row, b), z = zero_of(q, row, b) * s;
        dst[k] = (float)qvl_nbits_code(q, row, k) * s - z;
    }
    for (int64_t b = 0; b < q->n_block && !q->groups; b++) {
        int64_t k0 = b * q->block, k1 = k0 + q->block < q->n_in ? k0 + q->block : q->n_in;
        float s = qvl_nbits_scale(q, row, b);
        if (q->float_zeros) {
            float z = zero_of(q, row, b) * s;
            for (int64_t k = k0; k < k1; k++)
                dst[k] = (float)qvl_nbits_code(q, row, k) * s - z;
            continue;
        }
        int zero = packed_zero(q, row, b);
        if (plain)
            row_of_bytes(dst, q, row, k0, k1, zero, s);
        else
            for (int64_t k = k0; k < k1; k++)
                dst[k] = (float)(qvl_nbits_code(q, row, k) - zero) * s;
    }
}

int qvl_nbits_symmetric(const struct qvl_nbits *q)
{
    int middle = q->is_signed ? 0 : 1 << (q->bits - 1);
    if (q->float_zeros || q->groups || (!q->zeros && q->default_zero != middle))
        return 0;
    for (int64_t n = 0; n < q->n_out && q->zeros; n++)
        for (int64_t b = 0; b < q->n_block; b++)
            if (packed_zero(q, n, b) != middle)
                return 0;
    return 1;
}
