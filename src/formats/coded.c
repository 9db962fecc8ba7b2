/* coded.c - values of the matrices described in coded.h: codes, scales, rows. */
#include "formats/coded.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

enum { CHUNK = 256 }; /* codes taken out at once */

/* ---- numbers of 8 bits ---- */

/* Exponent and mantissa in the places they have in f32: only the bias differs, also for the smallest numbers (e = 0). */
float qvl_e4m3_to_f32(uint8_t x)
{
    uint32_t u = (uint32_t)(x & 0x7f) << 20;
    float f;
    memcpy(&f, &u, 4);
    f *= 0x1p120f;
    memcpy(&u, &f, 4);
    u = (x & 0x7f) == 0x7f ? 0x7fc00000u : u | (uint32_t)(x & 0x80) << 24;
    memcpy(&f, &u, 4);
    return f;
}

float qvl_e5m2_to_f32(uint8_t x) { return qvl_f16_to_f32((uint16_t)(x << 8)); }

float qvl_e8m0_to_f32(uint8_t x) { return x == 255 ? NAN : ldexpf(1, x - 127); }

/* ---- codes ---- */

static uint32_t word(const unsigned char *data, int64_t i)
{
    const unsigned char *p = data + 4 * i;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static unsigned code_at(const struct qvl_lines *l, int64_t i, int64_t j)
{
    static const unsigned char awq_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    if (l->form == QVL_LINES_BYTES)
        return l->data[i * l->line + j * l->step];
    if (l->form == QVL_LINES_HIGH_FIRST)
        return j & 1 ? l->data[j >> 1] & 15 : l->data[j >> 1] >> 4;
    if (l->form == QVL_LINES_AWQ)
        j = (j & ~(int64_t)7) | awq_place[j & 7];
    int64_t bit = j * l->bits, at = i * l->line + (bit >> 5) * l->step;
    int shift = (int)(bit & 31);
    uint32_t v = word(l->data, at) >> shift;
    if (shift + l->bits > 32) /* the code goes on in the next word */
        v |= word(l->data, at + l->step) << (32 - shift);
    return v & ((1u << l->bits) - 1);
}

void qvl_coded_codes(uint8_t *dst, const struct qvl_coded *q, int64_t row, int64_t k0, int64_t n)
{
    const struct qvl_lines *l = &q->codes;
    row += q->first_row;
    if (l->form == QVL_LINES_BYTES) {
        const unsigned char *p = l->data + row * l->line + k0 * l->step;
        for (int64_t i = 0; i < n; i++)
            dst[i] = p[i * l->step];
        return;
    }
    if (q->by_input) {
        for (int64_t i = 0; i < n; i++)
            dst[i] = (uint8_t)code_at(l, k0 + i, row);
        return;
    }
    if (q->flat) {
        k0 += row * q->n_in;
        row = 0;
    }
    for (int64_t i = 0; i < n; i++)
        dst[i] = (uint8_t)code_at(l, row, k0 + i);
}

/* ---- scales and zero points; rows count from first_row here ---- */

static float f32_at(const unsigned char *p, int64_t i)
{
    float f;
    memcpy(&f, p + 4 * i, 4);
    return f;
}

static float element(const void *base, enum qvl_dtype type, int64_t i)
{
    const unsigned char *p = base;
    uint16_t h;
    if (type == QVL_DT_F32)
        return f32_at(p, i);
    if (type == QVL_DT_F8_E8M0)
        return qvl_e8m0_to_f32(p[i]);
    if (type == QVL_DT_F8_E4M3)
        return qvl_e4m3_to_f32(p[i]);
    memcpy(&h, p + 2 * i, 2);
    return type == QVL_DT_BF16 ? qvl_bf16_to_f32(h) : qvl_f16_to_f32(h);
}

static float stored_scale(const struct qvl_coded *q, int64_t row, int64_t g)
{
    int64_t i = q->flat ? g : row / q->row_block * q->scale_row + g * q->scale_step;
    if (q->scale_type != QVL_DT_U8)
        return element(q->scales, q->scale_type, i);
    float v = f32_at(q->nested_map, ((const unsigned char *)q->scales)[i]) * f32_at(q->nested, i / q->nested_block);
    return v + q->nested_offset;
}

static int zero_point(const struct qvl_coded *q, int64_t row, int64_t g)
{
    if (!q->zeros.data)
        return q->zero;
    int v = (int)code_at(&q->zeros, g, row);
    return (q->zero_signed && v > 127 ? v - 256 : v) + q->zero_add;
}

float qvl_coded_scale(const struct qvl_coded *q, int64_t row, int64_t g)
{
    float s = stored_scale(q, row + q->first_row, g);
    return q->rule == QVL_CODED_BY_127 ? s * (1.0f / 127) : s;
}

int qvl_coded_symmetric(const struct qvl_coded *q)
{
    const int middle = q->is_signed ? 0 : 1 << (q->bits - 1);
    if (q->rule == QVL_CODED_BY_127)
        return 1;
    if (q->rule != QVL_CODED_AFFINE || q->groups || q->flat)
        return 0;
    if (!q->zeros.data)
        return q->zero == middle;
    for (int64_t n = 0; n < q->n_out; n++)
        for (int64_t g = 0; g < q->n_group; g++)
            if (zero_point(q, n + q->first_row, g) != middle)
                return 0;
    return 1;
}

/* ---- rows ---- */

/* n codes of one group, in place behind `raw`. */
static void values(float *dst, const uint8_t *raw, const struct qvl_coded *q, int64_t row, int64_t g, int64_t n)
{
    const float s = stored_scale(q, row, g);
    if (q->rule == QVL_CODED_AFFINE) {
        const int z = zero_point(q, row, g);
        for (int64_t i = 0; i < n; i++)
            dst[i] = (float)((q->is_signed ? (int)(int8_t)raw[i] : raw[i]) - z) * s;
    } else if (q->rule == QVL_CODED_BIASED) {
        const float b = element(q->biases, q->scale_type, row * q->scale_row + g * q->scale_step);
        for (int64_t i = 0; i < n; i++)
            dst[i] = (float)raw[i] * s + b;
    } else if (q->rule == QVL_CODED_TABLE) {
        for (int64_t i = 0; i < n; i++)
            dst[i] = q->table[raw[i] & 15] * s;
    } else if (q->rule == QVL_CODED_BY_127) {
        for (int64_t i = 0; i < n; i++)
            dst[i] = (float)(int8_t)raw[i] * s * (1.0f / 127);
    } else {
        for (int64_t i = 0; i < n; i++)
            dst[i] = (q->rule == QVL_CODED_E5M2 ? qvl_e5m2_to_f32(raw[i]) : qvl_e4m3_to_f32(raw[i])) * s;
    }
}

/* Group of input k of a row, and where the next one may begin. */
static int64_t group_at(const struct qvl_coded *q, int64_t row, int64_t k, int64_t *end)
{
    if (q->groups) {
        int32_t g;
        memcpy(&g, q->groups + 4 * k, 4);
        *end = k + 1;
        return g;
    }
    int64_t base = q->flat ? row * q->n_in : 0, g = (base + k) / q->group;
    *end = (g + 1) * q->group - base;
    return g;
}

void qvl_coded_row(float *dst, const struct qvl_coded *q, int64_t row)
{
    uint8_t raw[CHUNK];
    for (int64_t k0 = 0; k0 < q->n_in; k0 += CHUNK) {
        int64_t n = q->n_in - k0 < CHUNK ? q->n_in - k0 : CHUNK, end;
        qvl_coded_codes(raw, q, row, k0, n);
        for (int64_t k = k0; k < k0 + n; k = end) {
            int64_t g = group_at(q, row + q->first_row, k, &end);
            end = end < k0 + n ? end : k0 + n;
            values(dst + k, raw + (k - k0), q, row + q->first_row, g, end - k);
        }
    }
}

struct qvl_coded qvl_coded_rows(const struct qvl_coded *q, int64_t row0, int64_t n)
{
    struct qvl_coded part = *q;
    part.first_row += row0;
    part.n_out = n;
    part.bytes = q->bytes / (uint64_t)q->n_out * (uint64_t)n;
    return part;
}
