/* coded_compressed.c - compressed-tensors (packed words, bytes) and block FP8.
 *
 * Packed: weight_packed [N][ceil(K*bits/32)], each row one dense stream of bits of code + 2^(bits-1); weight_shape {N, K};
 * weight_zero_point, when asymmetric, packed the same way along N: [ceil(N*bits/32)][G].
 * Bytes: weight [N][K] of I8, F8_E4M3 or F8_E5M2. What a scale is for follows from its shape:
 *   [], [1], [1,1]  the tensor     [N], [N,1]  a row     [ceil(N/bn)][ceil(K/bk)]  a block     [N][G]  a group of K/G inputs */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "formats/coded_check.h"

/* A scale tensor as two dimensions, whatever its rank; 0 when it has more. */
static int flatten(struct qvl_tensor *out, const struct qvl_tensor *t)
{
    *out = *t;
    if (t->rank > 2)
        return 0;
    out->shape[0] = t->rank ? t->shape[0] : 1;
    out->shape[1] = t->rank == 2 ? t->shape[1] : 1;
    out->rank = 2;
    return 1;
}

static int scale_type(struct qvl_coded *q, const struct qvl_coded_parts *p, const struct qvl_tensor *s, qvl_err *err)
{
    if (s->type == QVL_DT_F8_E8M0 || (s->type == QVL_DT_U8 && q->rule != QVL_CODED_AFFINE)) {
        q->scale_type = QVL_DT_F8_E8M0;
        return 0;
    }
    return qvl_coded_floats(q, p, s, s->shape[0], s->shape[1], err);
}

/* Takes scales of any of the shapes above. */
static int take_scales(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    struct qvl_tensor s;
    char expected[128];
    const int64_t n = p->n_out, k = p->n_in, bn = p->block[0], bk = p->block[1];
    int ok = flatten(&s, p->scales), only = p->block_only && bn > 0;
    const int64_t rows = s.shape[p->input_first && ok ? 1 : 0], cols = ok ? s.shape[p->input_first ? 0 : 1] : 0;
    q->group = k;
    q->n_group = 1;
    if (ok && bn > 0 && rows == qvl_ceil_div(n, bn) && cols == qvl_ceil_div(k, bk)) {
        q->row_block = bn;
        q->group = bk;
        q->n_group = cols;
        q->scale_row = p->input_first ? 1 : cols;
        q->scale_step = p->input_first ? rows : 1;
    } else if (ok && !only && rows == n && cols > 0 && k % cols == 0 && !p->input_first && (p->group <= 0 || k / cols == p->group)) {
        q->group = k / cols;
        q->n_group = cols;
        q->scale_row = cols;
        q->scale_step = 1;
    } else if (!ok || only || rows != 1 || cols != 1) {
        snprintf(expected, sizeof expected, "one scale for the tensor, a row, or a %s of this [%lld,%lld] matrix",
                 bn > 0 ? "block" : "group", (long long)n, (long long)k);
        return qvl_coded_wrong(p, p->scales, expected, err);
    }
    QVL_TRY(scale_type(q, p, &s, err));
    q->scales = p->scales->data;
    return 0;
}

int qvl_coded_packed(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    int64_t dims[2] = {0, 0};
    char expected[96];
    QVL_TRY(qvl_coded_begin(q, p, "compressed-tensors", err));
    const struct qvl_tensor *w = p->weight, *s = p->shape;
    const int64_t words = w->rank == 2 ? w->shape[1] : 0;
    int64_t bits = p->bits ? p->bits : words * 32 / p->n_in;
    if (bits < 2 || bits > 8)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: %lld bits a weight, supported are 2 to 8", w->file, p->what, (long long)bits);
    q->bits = (int)bits;
    if (s) {
        int wide = s->type == QVL_DT_I64;
        if ((!wide && s->type != QVL_DT_I32) || s->rank != 1 || s->shape[0] != 2)
            return qvl_coded_wrong(p, s, "[2] I64 or I32", err);
        for (int i = 0; i < 2; i++) {
            int32_t narrow;
            if (wide)
                memcpy(&dims[i], (const char *)s->data + 8 * i, 8);
            else {
                memcpy(&narrow, (const char *)s->data + 4 * i, 4);
                dims[i] = narrow;
            }
        }
        if (dims[0] != p->n_out || dims[1] != p->n_in)
            return qvl_fail(err, QVL_E_FORMAT, "%s: %s: tensor %s: says [%lld,%lld], expected [%lld,%lld]", s->file, p->what, s->name,
                            (long long)dims[0], (long long)dims[1], (long long)p->n_out, (long long)p->n_in);
    }
    QVL_TRY(qvl_coded_matrix(p, w, QVL_DT_U32, p->n_out, qvl_ceil_div(p->n_in * bits, 32), err));
    q->codes = (struct qvl_lines){.data = w->data, .form = QVL_LINES_WORDS, .bits = q->bits, .line = words, .step = 1};
    q->zero = 1 << (bits - 1);
    QVL_TRY(take_scales(q, p, err));
    if (p->zeros) {
        const int64_t zero_words = qvl_ceil_div(p->n_out * bits, 32);
        if (!q->scale_row) {
            snprintf(expected, sizeof expected, "none beside a single scale");
            return qvl_coded_wrong(p, p->zeros, expected, err);
        }
        QVL_TRY(qvl_coded_matrix(p, p->zeros, QVL_DT_U32, zero_words, q->n_group, err));
        q->zeros = (struct qvl_lines){.data = p->zeros->data, .form = QVL_LINES_WORDS, .bits = q->bits, .line = 1, .step = q->n_group};
    }
    QVL_TRY(qvl_coded_groups(q, p, err));
    qvl_coded_count(q, p);
    return 0;
}

int qvl_coded_bytes8(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    const struct qvl_tensor *w = p->weight;
    const int64_t n = p->n_out, k = p->n_in;
    char expected[96];
    QVL_TRY(qvl_coded_begin(q, p, w->type == QVL_DT_I8 ? "int8" : "FP8", err));
    q->rule = w->type == QVL_DT_F8_E4M3 ? QVL_CODED_E4M3 : w->type == QVL_DT_F8_E5M2 ? QVL_CODED_E5M2 : QVL_CODED_AFFINE;
    if (q->rule == QVL_CODED_AFFINE && w->type != QVL_DT_I8)
        return qvl_coded_wrong(p, w, "I8, F8_E4M3 or F8_E5M2", err);
    QVL_TRY(qvl_coded_matrix(p, w, w->type, p->input_first ? k : n, p->input_first ? n : k, err));
    q->bits = 8;
    q->is_signed = w->type == QVL_DT_I8;
    q->codes = (struct qvl_lines){.data = w->data, .form = QVL_LINES_BYTES, .bits = 8, .line = p->input_first ? 1 : k,
                                  .step = p->input_first ? n : 1};
    QVL_TRY(take_scales(q, p, err));
    if (p->zeros) {
        struct qvl_tensor z, s;
        int same = flatten(&z, p->zeros) && flatten(&s, p->scales) && z.shape[0] == s.shape[0] && z.shape[1] == s.shape[1];
        if (w->type != QVL_DT_I8 || p->zeros->type != QVL_DT_I8 || !same || q->row_block != 1) {
            snprintf(expected, sizeof expected, "I8 of the scales' shape beside I8 weights");
            return qvl_coded_wrong(p, p->zeros, expected, err);
        }
        q->zeros = (struct qvl_lines){.data = p->zeros->data, .form = QVL_LINES_BYTES, .bits = 8, .line = q->scale_step,
                                      .step = q->scale_row};
        q->zero_signed = 1;
    }
    QVL_TRY(qvl_coded_groups(q, p, err));
    qvl_coded_count(q, p);
    return 0;
}
