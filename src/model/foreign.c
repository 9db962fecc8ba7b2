/* foreign.c - see foreign.h. */
#include "model/foreign.h"

#include <string.h>

#include "base/half.h"
#include "formats/coded.h"
#include "formats/ggml_blocks.h"
#include "formats/nbits.h"
#include "kernels/quant.h"

static size_t ggml_row_bytes(const struct qvl_mat *m)
{
    return (size_t)m->n_in / qvl_dtype_block_elems(m->type) * qvl_dtype_block_bytes(m->type);
}

void qvl_foreign_row(float *dst, const struct qvl_mat *m, int64_t row)
{
    if (qvl_dtype_is_nbits(m->type))
        qvl_nbits_row(dst, m->aux, row);
    else if (m->type == QVL_DT_CODED)
        qvl_coded_row(dst, m->aux, row);
    else
        qvl_ggml_type_of(m->type)->to_f32(dst, (const unsigned char *)m->data + (size_t)row * ggml_row_bytes(m), m->n_in);
}

static float element(const unsigned char *p, enum qvl_dtype type)
{
    uint16_t h;
    float f;
    if (type == QVL_DT_F32) {
        memcpy(&f, p, sizeof f);
        return f;
    }
    memcpy(&h, p, sizeof h);
    return type == QVL_DT_F16 ? qvl_f16_to_f32(h) : qvl_bf16_to_f32(h);
}

void qvl_mat_rows(float *dst, const struct qvl_mat *m, int64_t row, int64_t n)
{
    const unsigned char *p = m->data;
    const size_t width = qvl_dtype_bits(m->type) / 8;
    if (qvl_dtype_is_foreign(m->type) || qvl_dtype_is_packed(m->type)) {
        for (int64_t r = 0; r < n; r++)
            if (qvl_dtype_is_packed(m->type))
                qvl_quant_row(dst + r * m->n_in, m, row + r);
            else
                qvl_foreign_row(dst + r * m->n_in, m, row + r);
        return;
    }
    if (!m->transposed) {
        for (int64_t r = 0; r < n; r++)
            qvl_ggml_type_of(m->type)->to_f32(dst + r * m->n_in, p + (size_t)((row + r) * m->stride) * width, m->n_in);
        return;
    }
    for (int64_t i = 0; i < m->n_in; i++) /* neighbouring rows lie side by side in the file */
        for (int64_t r = 0; r < n; r++)
            dst[r * m->n_in + i] = element(p + (size_t)(i * m->stride + row + r) * width, m->type);
}

uint64_t qvl_foreign_bytes(const struct qvl_mat *m)
{
    if (m->type == QVL_DT_CODED)
        return ((const struct qvl_coded *)m->aux)->bytes;
    return qvl_dtype_is_nbits(m->type) ? qvl_nbits_bytes(m->aux) : (uint64_t)m->n_out * ggml_row_bytes(m);
}
