/* ref_matmul.c - the scalar truth of the matrix product: one dot product at a time, summed in double. */
#include <string.h>

#include "base/half.h"
#include "kernels/pack.h"

static double weight(const struct qvl_mat *w, int64_t row, int64_t col)
{
    int64_t i = w->transposed ? col * w->stride + row : row * w->stride + col;
    uint16_t h;
    float f;
    if (w->type == QVL_DT_F32) {
        memcpy(&f, (const unsigned char *)w->data + 4 * i, 4);
        return f;
    }
    memcpy(&h, (const unsigned char *)w->data + 2 * i, 2);
    return w->type == QVL_DT_F16 ? qvl_f16_to_f32(h) : qvl_bf16_to_f32(h);
}

static void gemv(const struct qvl_gemv *g)
{
    for (int64_t n = g->n0; n < g->n1; n++)
        for (int i = 0; i < g->m; i++) {
            const float *x = (const float *)g->x + i * g->x_stride;
            float *y = g->y + i * g->y_stride + n;
            double sum = 0;
            for (int64_t k = 0; k < g->w->n_in; k++)
                sum += x[k] * weight(g->w, n, k);
            if (g->bias)
                sum += g->bias[n];
            *y = (float)(g->add ? *y + sum : sum);
        }
}

static void store(const struct qvl_store *s)
{
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->n; j++) {
            float *y = s->y + i * s->y_stride + j, c = s->c[i * s->c_stride + j];
            if (s->bias)
                c += s->bias[j];
            *y = s->add ? *y + c : c;
        }
}

const struct qvl_matmul_kernels qvl_matmul_kernels_ref = {.store = store, .gemv = gemv};
