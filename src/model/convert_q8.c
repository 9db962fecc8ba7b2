/* convert_q8.c - 8-bit codes (formats/coded.h) -> q8 panels (kernels/quant.h): in vector i of a group, 32-bit lane r holds inputs
 * 4i..4i+3 of row r as distance from the middle + 128. */
#include "model/convert_q8.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"

int qvl_convert_coded_can(const struct qvl_coded *q, int bits, int *exact)
{
    *exact = 0;
    if (q->bits != bits || q->rule == QVL_CODED_TABLE || q->groups || q->flat || (q->group % QVL_GROUP && q->n_group != 1) ||
        !qvl_coded_symmetric(q))
        return 0;
    *exact = q->rule == QVL_CODED_AFFINE; /* the other rule rounds twice */
    for (int64_t n = 0; n < q->n_out; n++)
        for (int64_t g = 0; g < q->n_group; g++) {
            float s = qvl_coded_scale(q, n, g);
            if (!(fabsf(s) <= 65504.0f))
                return *exact = 0;
            *exact &= qvl_f16_to_f32(qvl_f32_to_f16(s)) == s;
        }
    return 1;
}

int qvl_convert_q8_can(const struct qvl_mat *m, int *exact)
{
    *exact = 0;
    return m->type == QVL_DT_CODED && qvl_convert_coded_can(m->aux, 8, exact);
}

/* One group of one row into its lane of a unit; half 0 or 1. */
static void convert_group(unsigned char *unit, const struct qvl_coded *q, int64_t row, int lane, int half, int64_t k0,
                          struct qvl_quant_error *sum)
{
    uint8_t code[QVL_GROUP];
    int64_t n = q->n_in - k0 < QVL_GROUP ? q->n_in - k0 : QVL_GROUP, energy = 0;
    float s = qvl_coded_scale(q, row, k0 / q->group);
    uint16_t h = qvl_f32_to_f16(s);
    double d = (double)s - (double)qvl_f16_to_f32(h);
    qvl_coded_codes(code, q, row, k0, n);
    for (int64_t i = 0; i < n; i++) {
        if (q->is_signed)
            code[i] ^= 128;
        energy += (code[i] - 128) * (code[i] - 128);
        unit[half * 512 + i / 4 * 64 + lane * 4 + i % 4] = code[i];
    }
    memcpy(unit + 1024 + half * 32 + lane * 2, &h, 2);
    sum->error += d * d * (double)energy;
    sum->norm += (double)s * (double)s * (double)energy;
}

struct qvl_quant_error qvl_convert_q8(void *dst, const struct qvl_mat *m, int64_t row0, int64_t row1)
{
    const int64_t n_units = (m->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    struct qvl_quant_error sum = {0};
    assert(row0 % QVL_PANEL_ROWS == 0 && (row1 % QVL_PANEL_ROWS == 0 || row1 == m->n_out) && row1 <= m->n_out);
    for (int64_t row = row0; row < row1; row += QVL_PANEL_ROWS) {
        unsigned char *unit = (unsigned char *)dst + (size_t)((row - row0) / QVL_PANEL_ROWS * n_units) * QVL_Q8_UNIT_BYTES;
        int rows = (int)(row1 - row < QVL_PANEL_ROWS ? row1 - row : QVL_PANEL_ROWS);
        for (int64_t u = 0; u < n_units; u++, unit += QVL_Q8_UNIT_BYTES) {
            memset(unit, 128, 1024); /* what lies outside of the matrix */
            memset(unit + 1024, 0, QVL_Q8_UNIT_BYTES - 1024);
            for (int i = 0; i < 2 * rows; i++) {
                int64_t k0 = u * QVL_UNIT_INPUTS + (i & 1) * QVL_GROUP;
                if (k0 < m->n_in)
                    convert_group(unit, m->aux, row + i / 2, i / 2, i & 1, k0, &sum);
            }
        }
    }
    return sum;
}
