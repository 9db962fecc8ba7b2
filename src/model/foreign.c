/* foreign.c - see foreign.h. */
#include "model/foreign.h"

#include "formats/ggml_blocks.h"
#include "formats/nbits.h"

static size_t ggml_row_bytes(const struct qvl_mat *m)
{
    return (size_t)m->n_in / qvl_dtype_block_elems(m->type) * qvl_dtype_block_bytes(m->type);
}

void qvl_foreign_row(float *dst, const struct qvl_mat *m, int64_t row)
{
    if (qvl_dtype_is_nbits(m->type))
        qvl_nbits_row(dst, m->aux, row);
    else
        qvl_ggml_type_of(m->type)->to_f32(dst, (const unsigned char *)m->data + (size_t)row * ggml_row_bytes(m), m->n_in);
}

uint64_t qvl_foreign_bytes(const struct qvl_mat *m)
{
    return qvl_dtype_is_nbits(m->type) ? qvl_nbits_bytes(m->aux) : (uint64_t)m->n_out * ggml_row_bytes(m);
}
