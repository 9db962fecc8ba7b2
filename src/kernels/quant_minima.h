/* quant_minima.h - what the minima of a q4m matrix add to a product, written once for all levels.
 *
 * The file that includes it defines, beside what quant_group.h asks for:
 *   qv_fma(a, b, c)   a*b + c, rounded once
 *   qv_half(p)        QV_LANES f16 numbers at p as f32 */
#ifndef QVL_KERNELS_QUANT_MINIMA_H
#define QVL_KERNELS_QUANT_MINIMA_H

#include "kernels/quant.h"

#ifndef QVL_INLINE
#define QVL_INLINE static inline
#define QVL_UNROLL
#endif

QVL_INLINE void minima_of(const struct qvl_quant_minima *g, const int m)
{
    for (int v = 0; v < g->n_panel; v++)
        for (int lane = 0; lane < QVL_PANEL_ROWS; lane += QV_LANES) {
            const unsigned char *w = (const unsigned char *)g->min + 2 * (v * g->panel_stride + lane);
            float *c = g->c + v * QVL_PANEL_ROWS + lane;
            qv acc[QVL_QUANT_GEMV_MAX];
            QVL_UNROLL
            for (int j = 0; j < m; j++)
                acc[j] = g->first ? qv_set(0) : qv_load(c + j * g->c_stride);
            for (int64_t i = 0; i < g->n_group; i++) {
                const qv x = qv_half(w + i * 2 * QVL_PANEL_ROWS);
                QVL_UNROLL
                for (int j = 0; j < m; j++)
                    acc[j] = qv_fma(x, qv_set(g->term[i * m + j]), acc[j]);
            }
            QVL_UNROLL
            for (int j = 0; j < m; j++)
                qv_store(c + j * g->c_stride, acc[j]);
        }
}

static void minima(const struct qvl_quant_minima *g)
{
    switch (g->m) {
    case 1: minima_of(g, 1); break;
    case 2: minima_of(g, 2); break;
    case 3: minima_of(g, 3); break;
    case 4: minima_of(g, 4); break;
    case 5: minima_of(g, 5); break;
    case 6: minima_of(g, 6); break;
    case 7: minima_of(g, 7); break;
    default: minima_of(g, 8); break;
    }
}

#endif
