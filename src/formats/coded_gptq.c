/* coded_gptq.c - AWQ (GEMM order) and GPTQ: words packed along the outputs or the inputs, scales and zero points a group.
 *
 *          qweight           qzeros              scales   g_idx
 *   AWQ    [K][N/8]          [G][N/8]            [G][N]   -       4 bits; eight outputs of a word in the order 0 2 4 6 1 3 5 7
 *   GPTQ   [K*bits/32][N]    [G][N*bits/32]      [G][N]   [K]     column n is one stream of bits; 3-bit codes cross words
 * The first GPTQ format stores zero points less one (zero_add). The one that says 15 there means 16. */
#include <stdio.h>

#include "base/err.h"
#include "formats/coded_check.h"

/* Groups from the rows of the scales; they must agree with what the configuration says. */
static int take_groups(struct qvl_coded *q, const struct qvl_coded_parts *p, int ragged, qvl_err *err)
{
    const int64_t k = p->n_in, rows = p->scales->rank == 2 ? p->scales->shape[0] : 0;
    char expected[96];
    q->n_group = rows;
    q->group = p->group > 0 ? p->group : p->group < 0 || rows < 1 ? k : qvl_ceil_div(k, rows);
    if ((!ragged && k % q->group) || rows < 1 || qvl_ceil_div(k, q->group) != rows) {
        snprintf(expected, sizeof expected, "[%lld,%lld] (groups of %lld inputs of %lld)", (long long)qvl_ceil_div(k, q->group),
                 (long long)p->n_out, (long long)q->group, (long long)k);
        return qvl_coded_wrong(p, p->scales, expected, err);
    }
    QVL_TRY(qvl_coded_floats(q, p, p->scales, q->n_group, p->n_out, err));
    q->scales = p->scales->data;
    q->scale_row = 1;
    q->scale_step = p->n_out;
    return 0;
}

static int take_zeros(struct qvl_coded *q, const struct qvl_coded_parts *p, enum qvl_lines_form form, qvl_err *err)
{
    if (!p->zeros)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: quantised (%s), but its qzeros are missing", p->weight->file, p->what, q->name);
    const int64_t words = p->n_out * q->bits / 32;
    QVL_TRY(qvl_coded_matrix(p, p->zeros, QVL_DT_U32, q->n_group, words, err));
    q->zeros = (struct qvl_lines){.data = p->zeros->data, .form = form, .bits = q->bits, .line = words, .step = 1};
    q->zero_add = p->zero_add;
    return 0;
}

int qvl_coded_awq(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    QVL_TRY(qvl_coded_begin(q, p, "AWQ", err));
    if (p->bits && p->bits != 4)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: AWQ of %lld bits, supported are 4", p->weight->file, p->what, (long long)p->bits);
    if (p->n_out % 8)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: AWQ of %lld outputs, expected a multiple of 8", p->weight->file, p->what,
                        (long long)p->n_out);
    q->bits = 4;
    QVL_TRY(qvl_coded_matrix(p, p->weight, QVL_DT_U32, p->n_in, p->n_out / 8, err));
    q->codes = (struct qvl_lines){.data = p->weight->data, .form = QVL_LINES_AWQ, .bits = 4, .line = p->n_out / 8, .step = 1};
    q->by_input = 1;
    QVL_TRY(take_groups(q, p, 0, err));
    QVL_TRY(take_zeros(q, p, QVL_LINES_AWQ, err));
    qvl_coded_count(q, p);
    return 0;
}

int qvl_coded_gptq(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    QVL_TRY(qvl_coded_begin(q, p, "GPTQ", err));
    const int64_t rows = p->weight->rank == 2 ? p->weight->shape[0] : 0;
    const int64_t bits = rows > 0 && rows <= p->n_in && rows * 32 % p->n_in == 0 ? rows * 32 / p->n_in : 0;
    if ((bits != 2 && bits != 3 && bits != 4 && bits != 8) || (p->bits && bits != p->bits)) {
        char expected[96];
        if (p->bits)
            snprintf(expected, sizeof expected, "[%lld,%lld] I32 (%lld bits)", (long long)(p->n_in * p->bits / 32), (long long)p->n_out,
                     (long long)p->bits);
        else
            snprintf(expected, sizeof expected, "[%lld*bits/32,%lld] I32 of 2, 3, 4 or 8 bits", (long long)p->n_in, (long long)p->n_out);
        return qvl_coded_wrong(p, p->weight, expected, err);
    }
    if (p->n_out * bits % 32)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: %lld outputs of %lld bits do not fill words", p->weight->file, p->what,
                        (long long)p->n_out, (long long)bits);
    q->bits = (int)bits;
    QVL_TRY(qvl_coded_matrix(p, p->weight, QVL_DT_U32, rows, p->n_out, err));
    q->codes = (struct qvl_lines){.data = p->weight->data, .form = QVL_LINES_WORDS, .bits = q->bits, .line = 1, .step = p->n_out};
    QVL_TRY(take_groups(q, p, 1, err));
    QVL_TRY(take_zeros(q, p, QVL_LINES_WORDS, err));
    QVL_TRY(qvl_coded_groups(q, p, err));
    qvl_coded_count(q, p);
    return 0;
}
