/* coded_mlx.c - MLX: weight [N][K*bits/32] U32, each row one stream of bits; scales [N][K/g].
 *
 * Affine matrices have biases like their scales. Without biases scales are bytes and the shapes say the mode:
 *   mxfp4   4 bits (E2M1), groups of 32, scales E8M0
 *   nvfp4   4 bits (E2M1), groups of 16, scales E4M3
 *   mxfp8   8 bits (E4M3), groups of 32, scales E8M0 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "formats/coded_check.h"

static const float e2m1[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

static int affine(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    QVL_TRY(qvl_coded_floats(q, p, p->scales, p->n_out, q->n_group, err));
    const enum qvl_dtype type = q->scale_type;
    QVL_TRY(qvl_coded_floats(q, p, p->biases, p->n_out, q->n_group, err));
    if (q->scale_type != type)
        return qvl_coded_wrong(p, p->biases, "the scales' type", err);
    q->rule = QVL_CODED_BIASED;
    q->biases = p->biases->data;
    return 0;
}

static int microscaled(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    QVL_TRY(qvl_coded_matrix(p, p->scales, QVL_DT_U8, p->n_out, q->n_group, err));
    const int nv = q->bits == 4 && q->group == 16;
    if (!nv && ((q->bits != 4 && q->bits != 8) || q->group != 32))
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: %d bits in groups of %lld without biases, supported are mxfp4, nvfp4 and mxfp8",
                        p->weight->file, p->what, q->bits, (long long)q->group);
    q->rule = q->bits == 8 ? QVL_CODED_E4M3 : QVL_CODED_TABLE;
    q->scale_type = nv ? QVL_DT_F8_E4M3 : QVL_DT_F8_E8M0;
    memcpy(q->table, e2m1, sizeof e2m1);
    return 0;
}

int qvl_coded_mlx(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    QVL_TRY(qvl_coded_begin(q, p, "MLX", err));
    const struct qvl_tensor *w = p->weight, *s = p->scales;
    const int64_t k = p->n_in, words = w->rank == 2 ? w->shape[1] : 0, groups = s->rank == 2 ? s->shape[1] : 0;
    const int64_t bits = words > 0 && words <= k && words * 32 % k == 0 ? words * 32 / k : 0;
    char expected[96];
    if (bits < 2 || bits > 8 || bits == 7) {
        snprintf(expected, sizeof expected, "[%lld,%lld*bits/32] U32 of 2, 3, 4, 5, 6 or 8 bits", (long long)p->n_out, (long long)k);
        return qvl_coded_wrong(p, w, expected, err);
    }
    QVL_TRY(qvl_coded_matrix(p, w, QVL_DT_U32, p->n_out, p->bits ? k * p->bits / 32 : words, err));
    if (groups < 1 || k % groups || (p->group > 0 && k / groups != p->group)) {
        snprintf(expected, sizeof expected, "[%lld,G] with groups of %lld inputs%s", (long long)p->n_out,
                 (long long)(p->group > 0 ? p->group : k), p->group > 0 ? "" : " or a part of them");
        return qvl_coded_wrong(p, s, expected, err);
    }
    q->bits = (int)bits;
    q->n_group = groups;
    q->group = k / groups;
    q->codes = (struct qvl_lines){.data = w->data, .form = QVL_LINES_WORDS, .bits = q->bits, .line = words, .step = 1};
    q->scales = s->data;
    q->scale_row = groups;
    q->scale_step = 1;
    QVL_TRY(p->biases ? affine(q, p, err) : microscaled(q, p, err));
    qvl_coded_count(q, p);
    return 0;
}
