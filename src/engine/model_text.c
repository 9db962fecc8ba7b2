/* model_text.c - what a quantised decoder is best computed in. */
#include "base/compiler.h"
#include "engine/internal.h"
#include "model/convert_q4.h"
#include "model/foreign.h"

qvl_precision qvl_model_text_precision(const struct qvl_model *m)
{
    const int n = m->config.text.n_layer, some[] = {0, n / 2, n - 1}; /* exports treat first and last layers differently, or all alike */
    int foreign = 0, few_bits = 0, all = 0;
    for (int i = 0; i < 3; i++) {
        const struct qvl_layer_weights *l = &m->weights.text.layers[some[i]];
        const int sparse = l->e_gate != NULL;
        const struct qvl_mat *mats[] = {&l->q, &l->k, &l->v, &l->o, sparse ? l->e_gate : &l->gate, sparse ? l->e_up : &l->up,
                                        sparse ? l->e_down : &l->down};
        for (size_t k = 0; k < QVL_COUNT(mats); k++) {
            foreign |= qvl_dtype_is_foreign(mats[k]->type);
            few_bits += qvl_convert_q4m_can(mats[k]);
            all++;
        }
    }
    /* Mixtures are q4 with the larger codes kept in q8 (qvl_pack_options.keep). */
    return !foreign ? QVL_PRECISION_AUTO : 2 * few_bits >= all ? QVL_PRECISION_Q4 : QVL_PRECISION_Q8;
}
