/* convert_q4.c - blocks of 4-bit codes (formats/nbits.h, formats/coded.h, GGUF's Q4_0) -> q4 panels (kernels/quant.h).
 *
 * A file has the codes of a row one after the other; q4 has those of 16 rows side by side, 8 inputs of a row in 32 bits:
 *   file   n0 n1 n2 n3 n4 n5 n6 n7     half bytes, low first
 *   q4     n0 n4 n1 n5 n2 n6 n3 n7 */
#include "model/convert_q4.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "formats/coded.h"
#include "formats/nbits.h"
#include "model/convert_q8.h"

enum { Q4_0_BYTES = 18 }; /* f16 scale, then 16 bytes: inputs 0..15 in their low halves, 16..31 in their high ones */

static const unsigned char *q4_0_block(const struct qvl_mat *m, int64_t row, int64_t k0)
{
    return (const unsigned char *)m->data + (size_t)((row * m->n_in + k0) / QVL_GROUP) * Q4_0_BYTES;
}

/* Q4_0 has q4's grid and its f16 scales; only infinities and NaN are left to the general way. */
static int q4_0_finite(const struct qvl_mat *m)
{
    const unsigned char *p = m->data;
    for (int64_t n = m->n_out * (m->n_in / QVL_GROUP); n > 0; n--, p += Q4_0_BYTES)
        if ((p[1] & 0x7c) == 0x7c)
            return 0;
    return 1;
}

int qvl_convert_q4_can(const struct qvl_mat *m, int *exact)
{
    const struct qvl_nbits *q = m->aux;
    if (m->type == QVL_DT_GGML_Q4_0)
        return *exact = q4_0_finite(m);
    if (m->type == QVL_DT_CODED)
        return qvl_convert_coded_can(m->aux, 4, exact);
    *exact = 0;
    if (m->type != QVL_DT_NBITS4 || q->block % QVL_GROUP || !qvl_nbits_symmetric(q))
        return 0;
    *exact = 1;
    for (int64_t n = 0; n < q->n_out; n++)
        for (int64_t b = 0; b < q->n_block; b++) {
            float s = qvl_nbits_scale(q, n, b);
            if (!(fabsf(s) <= 65504.0f))
                return *exact = 0;
            *exact &= qvl_f16_to_f32(qvl_f32_to_f16(s)) == s;
        }
    return 1;
}

int qvl_convert_q4m_can(const struct qvl_mat *m)
{
    const struct qvl_nbits *n = m->aux;
    const struct qvl_coded *c = m->aux;
    switch (m->type) {
    case QVL_DT_GGML_Q4_0: case QVL_DT_GGML_Q4_1: case QVL_DT_GGML_Q4_K: return 1;
    case QVL_DT_NBITS4: return n->block % QVL_GROUP == 0;
    case QVL_DT_CODED:
        return c->bits <= 4 && (c->rule == QVL_CODED_AFFINE || c->rule == QVL_CODED_BIASED) && !c->groups && !c->flat &&
               (c->group % QVL_GROUP == 0 || c->n_group == 1);
    default: return 0;
    }
}

/* The low 16 bits as four half bytes, each in the low half of its own byte. */
static uint32_t spread(uint32_t x)
{
    x = (x | x << 8) & 0x00ff00ffu;
    return (x | x << 4) & 0x0f0f0f0fu;
}

static uint32_t load32(const unsigned char *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static void read_coded(uint32_t words[QVL_GROUP / 8], const struct qvl_coded *q, int64_t row, int64_t k0)
{
    uint8_t code[QVL_GROUP];
    memset(code, 8, sizeof code);
    qvl_coded_codes(code, q, row, k0, q->n_in - k0 < QVL_GROUP ? q->n_in - k0 : QVL_GROUP);
    memset(words, 0, QVL_GROUP / 8 * sizeof *words);
    for (int i = 0; i < QVL_GROUP; i++)
        words[i / 8] |= (uint32_t)code[i] << (i % 8 * 4);
}

/* Codes of one group of a row, low half first, u = 8 behind the last input. */
static void read_codes(uint32_t words[QVL_GROUP / 8], const struct qvl_mat *m, int64_t row, int64_t k0)
{
    const struct qvl_nbits *q = m->aux;
    if (m->type == QVL_DT_CODED) {
        read_coded(words, m->aux, row, k0);
        return;
    }
    int64_t at = q->first + row * q->row + k0, n = q->n_in - k0 < QVL_GROUP ? q->n_in - k0 : QVL_GROUP;
    if (!q->is_signed && q->step == 1 && at % 2 == 0 && n == QVL_GROUP) {
        const unsigned char *p = q->codes + at / 2;
        for (int i = 0; i < QVL_GROUP / 8; i++, p += 4)
            words[i] = load32(p);
        return;
    }
    for (int i = 0; i < QVL_GROUP / 8; i++)
        words[i] = 0x88888888u;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)(qvl_nbits_code(q, row, k0 + i) + (q->is_signed ? 8 : 0));
        words[i / 8] ^= (u ^ 8u) << (i % 8 * 4);
    }
}

/* Sum of (u - 8)^2 over both halves of the bytes. */
static int energy(const unsigned char q[QVL_GROUP / 2])
{
    int sum = 0;
    for (int i = 0; i < QVL_GROUP / 2; i++) {
        int low = (q[i] & 15) - 8, high = (q[i] >> 4) - 8;
        sum += low * low + high * high;
    }
    return sum;
}

static void put(unsigned char *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(x >> (8 * i));
}

static float scale_of(const struct qvl_mat *m, int64_t row, int64_t k0)
{
    const struct qvl_nbits *q = m->aux;
    const struct qvl_coded *c = m->aux;
    if (m->type == QVL_DT_CODED)
        return qvl_coded_scale(c, row, k0 / c->group);
    return qvl_nbits_scale(q, row, k0 / q->block);
}

/* One group of one row into its lane of a unit; half 0 or 1. */
static void convert_group(unsigned char *unit, const struct qvl_mat *m, int64_t row, int lane, int half, int64_t k0,
                          struct qvl_quant_error *sum)
{
    uint32_t words[QVL_GROUP / 8];
    unsigned char q[QVL_GROUP / 2], *dst = unit + half * 256 + lane * 4;
    float s = scale_of(m, row, k0);
    uint16_t h = qvl_f32_to_f16(s);
    double d = (double)s - (double)qvl_f16_to_f32(h);
    read_codes(words, m, row, k0);
    for (int i = 0; i < QVL_GROUP / 8; i++) {
        put(q + 4 * i, spread(words[i] & 0xffffu) | spread(words[i] >> 16) << 4);
        memcpy(dst + i * 64, q + 4 * i, 4);
    }
    memcpy(unit + 512 + half * 32 + lane * 2, &h, 2);
    int e = energy(q);
    sum->error += d * d * e;
    sum->norm += (double)s * (double)s * e;
}

/* The same for Q4_0, whose halves of bytes are sixteen inputs apart: four of inputs k..k+3 and four of k+4..k+7 make a word. Its
 * scale is q4's. */
static void convert_q4_0(unsigned char *unit, const unsigned char *block, int lane, int half, struct qvl_quant_error *sum)
{
    const unsigned char *qs = block + 2;
    unsigned char *dst = unit + half * 256 + lane * 4;
    for (int i = 0; i < 2; i++) {
        uint32_t a = load32(qs + 8 * i), b = load32(qs + 8 * i + 4);
        put(dst + i * 64, (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4);
        put(dst + (i + 2) * 64, (a >> 4 & 0x0f0f0f0fu) | (b & 0xf0f0f0f0u));
    }
    memcpy(unit + 512 + half * 32 + lane * 2, block, 2);
    float s = qvl_f16_to_f32((uint16_t)(block[0] | block[1] << 8));
    sum->norm += (double)s * (double)s * energy(qs);
}

struct qvl_quant_error qvl_convert_q4(void *dst, const struct qvl_mat *m, int64_t row0, int64_t row1)
{
    const int64_t n_units = (m->n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS;
    struct qvl_quant_error sum = {0};
    assert(row0 % QVL_PANEL_ROWS == 0 && (row1 % QVL_PANEL_ROWS == 0 || row1 == m->n_out) && row1 <= m->n_out);
    for (int64_t row = row0; row < row1; row += QVL_PANEL_ROWS) {
        unsigned char *unit = (unsigned char *)dst + (size_t)((row - row0) / QVL_PANEL_ROWS * n_units) * QVL_Q4_UNIT_BYTES;
        int rows = (int)(row1 - row < QVL_PANEL_ROWS ? row1 - row : QVL_PANEL_ROWS);
        for (int64_t k0 = 0; k0 < n_units * QVL_UNIT_INPUTS; k0 += QVL_GROUP) {
            int half = (int)(k0 / QVL_GROUP % 2);
            if (!half) { /* what lies outside of the matrix */
                memset(unit, 0x88, 512);
                memset(unit + 512, 0, QVL_Q4_UNIT_BYTES - 512);
            }
            for (int r = 0; r < rows && k0 < m->n_in; r++)
                if (m->type == QVL_DT_GGML_Q4_0)
                    convert_q4_0(unit, q4_0_block(m, row + r, k0), r, half, &sum);
                else
                    convert_group(unit, m, row + r, r, half, k0, &sum);
            if (half)
                unit += QVL_Q4_UNIT_BYTES;
        }
    }
    return sum;
}

struct qvl_quant_error qvl_convert_to_q4_0(void *dst, const struct qvl_mat *m, int64_t row)
{
    struct qvl_quant_error sum = {0};
    unsigned char *block = dst;
    assert(m->n_in % QVL_GROUP == 0 && m->type != QVL_DT_GGML_Q4_0);
    for (int64_t k0 = 0; k0 < m->n_in; k0 += QVL_GROUP, block += Q4_0_BYTES) {
        uint32_t words[QVL_GROUP / 8];
        float s = scale_of(m, row, k0);
        uint16_t h = qvl_f32_to_f16(s);
        double d = (double)s - (double)qvl_f16_to_f32(h);
        read_codes(words, m, row, k0);
        block[0] = (unsigned char)h;
        block[1] = (unsigned char)(h >> 8);
        for (int i = 0; i < QVL_GROUP / 2; i++)
            block[2 + i] = (unsigned char)((words[i / 8] >> (i % 8 * 4) & 15) | (words[2 + i / 8] >> (i % 8 * 4) & 15) << 4);
        int e = energy(block + 2);
        sum.error += d * d * e;
        sum.norm += (double)s * (double)s * e;
    }
    return sum;
}
