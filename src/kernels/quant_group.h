/* quant_group.h - packing of one group of 16 rows, written once for all levels.
 *
 * The file that includes it defines, for vectors of QV_LANES rows (a divisor of 16):
 *   qv, qvi                                    f32 and int32 lanes
 *   qv_set qv_load qv_store qv_mul qv_add qv_sub qv_div
 *   qv_min(a, b) = a < b ? a : b,  qv_max(a, b) = a > b ? a : b        (b when either is NaN)
 *   qv_pick(a, b, x, y) = a > b ? x : y
 *   qvi_from(qv) nearest even, qvi_or, qvi_shl(v, bits), qvi_store
 * Lanes never meet and every operation is rounded once (no fused ones), so the bytes are equal at all levels.
 *
 * Values are divided by the element of largest magnitude first, so that the candidates are the same constants for all
 * rows and nothing overflows. A candidate c is a reciprocal scale: integers q = clamp(round(c*x)). The best scale for
 * given integers is s = A/B, A = sum w x q, B = sum w q^2, and leaves the error sum w x^2 - A^2/B: the search maximises
 * A^2/B. The scale is then rounded to f16, the integers are chosen again for it, and the result competes with the plain
 * choice max/-8, so that the search can never be worse than that. */
#ifndef QVL_KERNELS_QUANT_GROUP_H
#define QVL_KERNELS_QUANT_GROUP_H

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/quant.h"

#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds |v| < 2^22 to an integer, nearest even */
#define TINY        0x1p-30f    /* the smallest f16 is 2^-24: nothing below half of that times 1/8 is representable */
#define F16_MAX     65504.0f

/* Scale of one row after rounding to f16: r in units of the largest element, c its reciprocal. */
struct step {
    float r[QVL_PANEL_ROWS], c[QVL_PANEL_ROWS];
    uint16_t half[QVL_PANEL_ROWS];
};

static inline qv quantised(qv x, qv c, float lo, float hi)
{
    qv v = qv_min(qv_max(qv_mul(x, c), qv_set(lo)), qv_set(hi));
    return qv_sub(qv_add(v, qv_set(ROUND_MAGIC)), qv_set(ROUND_MAGIC));
}

/* peak: the element of largest magnitude, 0 for a group that counts as zero, NaN when an element is not finite. */
static inline void find_peak(float *peak, float (*x)[QVL_PANEL_ROWS])
{
    float hi[QVL_PANEL_ROWS], lo[QVL_PANEL_ROWS], bad[QVL_PANEL_ROWS];
    for (int l = 0; l < QVL_PANEL_ROWS; l += QV_LANES) {
        qv a = qv_load(x[0] + l), h = a, b = a, n = qv_sub(a, a);
        for (int i = 1; i < QVL_GROUP; i++) {
            qv v = qv_load(x[i] + l);
            h = qv_max(v, h);
            b = qv_min(v, b);
            n = qv_add(n, qv_sub(v, v)); /* NaN from the first infinity or NaN on */
        }
        qv_store(hi + l, h);
        qv_store(lo + l, b);
        qv_store(bad + l, n);
    }
    for (int l = 0; l < QVL_PANEL_ROWS; l++) {
        float p = hi[l] >= -lo[l] ? hi[l] : lo[l];
        peak[l] = isnan(bad[l]) ? NAN : fabsf(p) < TINY ? 0 : p;
    }
}

/* x /= peak in place, and norm = sum w x^2 afterwards. */
static inline void normalise(struct qvl_quant_group *g, const float *unit, float *norm)
{
    float inverse[QVL_PANEL_ROWS];
    for (int l = 0; l < QVL_PANEL_ROWS; l++)
        inverse[l] = 1 / unit[l];
    for (int l = 0; l < QVL_PANEL_ROWS; l += QV_LANES) {
        qv f = qv_load(inverse + l), n = qv_set(0);
        for (int i = 0; i < QVL_GROUP; i++) {
            qv v = qv_mul(qv_load(g->x[i] + l), f), wv = g->weighted ? qv_mul(v, qv_set(g->weight[i])) : v;
            qv_store(g->x[i] + l, v);
            n = qv_add(n, qv_mul(wv, v));
        }
        qv_store(norm + l, n);
    }
}

/* Rounds scales (in units of `unit`) to f16. */
static inline void round_scales(struct step *s, const float *scale, const float *unit, const float *peak)
{
    for (int l = 0; l < QVL_PANEL_ROWS; l++) {
        float v = scale[l] * unit[l];
        v = v > F16_MAX ? F16_MAX : v < -F16_MAX ? -F16_MAX : v;
        uint16_t h = qvl_f32_to_f16(v);
        if (!(h & 0x7fff)) /* the smallest scale is never worse than zero */
            h |= 1;
        if (isnan(peak[l]))
            h = 0x7e00;
        else if (peak[l] == 0) /* the group is zero */
            h = 0;
        s->half[l] = h;
        s->r[l] = h && h != 0x7e00 ? qvl_f16_to_f32(h) / unit[l] : 0;
        s->c[l] = h && h != 0x7e00 ? 1 / s->r[l] : 0;
    }
}

/* error = sum w (x - r q)^2. */
static inline void measure(float *error, const struct qvl_quant_group *g, const struct step *s, float lo, float hi)
{
    for (int l = 0; l < QVL_PANEL_ROWS; l += QV_LANES) {
        qv r = qv_load(s->r + l), c = qv_load(s->c + l), e = qv_set(0);
        for (int i = 0; i < QVL_GROUP; i++) {
            qv x = qv_load(g->x[i] + l), d = qv_sub(x, qv_mul(r, quantised(x, c, lo, hi)));
            qv wd = g->weighted ? qv_mul(d, qv_set(g->weight[i])) : d;
            e = qv_add(e, qv_mul(wd, d));
        }
        qv_store(error + l, e);
    }
}

static inline void totals(struct qvl_quant_group *g, const float *unit, const float *peak, const float *error,
                          const float *norm)
{
    g->error = g->norm = 0;
    for (int l = 0; l < QVL_PANEL_ROWS; l++) {
        double u2 = isnan(peak[l]) ? (double)NAN : (double)unit[l] * unit[l];
        g->error += u2 * error[l];
        g->norm += u2 * norm[l];
    }
}

/* Best least-squares scale over the candidates, two at a time so that x is read half as often. These 24 leave an error 0.1 %
 * above that of 400 (docs/perf-log.md). */
static inline void search(float *scale, const struct qvl_quant_group *g)
{
    static const float candidates[][2] = {
        {-7.0f, -7.3f}, {-7.6f, -7.9f}, {-8.2f, -8.5f}, {-8.8f, -9.1f}, {-9.4f, -9.7f}, {-10.0f, -10.3f},
        {-10.6f, -10.9f}, {-11.2f, 6.4f}, {6.85f, 7.3f}, {7.75f, 8.2f}, {8.65f, 9.1f}, {9.55f, 10.0f},
    };
    for (int l = 0; l < QVL_PANEL_ROWS; l += QV_LANES) {
        qv best = qv_set(-1), best_a = qv_set(-8), best_b = qv_set(64);
        for (size_t j = 0; j < sizeof candidates / sizeof *candidates; j++) {
            qv c0 = qv_set(candidates[j][0]), c1 = qv_set(candidates[j][1]);
            qv a0 = qv_set(0), a1 = a0, b0 = a0, b1 = a0;
            for (int i = 0; i < QVL_GROUP; i++) {
                qv x = qv_load(g->x[i] + l), q0 = quantised(x, c0, -8, 7), q1 = quantised(x, c1, -8, 7);
                qv w0 = q0, w1 = q1;
                if (g->weighted) {
                    qv w = qv_set(g->weight[i]);
                    w0 = qv_mul(w, q0);
                    w1 = qv_mul(w, q1);
                }
                a0 = qv_add(a0, qv_mul(w0, x));
                a1 = qv_add(a1, qv_mul(w1, x));
                b0 = qv_add(b0, qv_mul(w0, q0));
                b1 = qv_add(b1, qv_mul(w1, q1));
            }
            qv s0 = qv_div(qv_mul(a0, a0), b0), s1 = qv_div(qv_mul(a1, a1), b1);
            best_a = qv_pick(s0, best, a0, best_a);
            best_b = qv_pick(s0, best, b0, best_b);
            best = qv_pick(s0, best, s0, best);
            best_a = qv_pick(s1, best, a1, best_a);
            best_b = qv_pick(s1, best, b1, best_b);
            best = qv_pick(s1, best, s1, best);
        }
        qv_store(scale + l, qv_div(best_a, best_b));
    }
}

static inline void store_q4(struct qvl_quant_group *g, const struct step *s)
{
    for (int l = 0; l < QVL_PANEL_ROWS; l += QV_LANES) {
        qv c = qv_load(s->c + l), eight = qv_set(8);
        for (int i = 0; i < QVL_GROUP / 8; i++) {
            qvi word = qvi_from(qv_set(0));
            for (int b = 0; b < 4; b++) {
                qvi lo = qvi_from(qv_add(quantised(qv_load(g->x[8 * i + b] + l), c, -8, 7), eight));
                qvi hi = qvi_from(qv_add(quantised(qv_load(g->x[8 * i + 4 + b] + l), c, -8, 7), eight));
                word = qvi_or(word, qvi_or(qvi_shl(lo, 8 * b), qvi_shl(hi, 8 * b + 4)));
            }
            qvi_store((char *)g->codes + i * 64 + l * 4, word);
        }
    }
}

static void pack_q4(struct qvl_quant_group *g)
{
    float peak[QVL_PANEL_ROWS], unit[QVL_PANEL_ROWS], norm[QVL_PANEL_ROWS], scale[QVL_PANEL_ROWS], e0[QVL_PANEL_ROWS],
        e1[QVL_PANEL_ROWS];
    struct step plain, best;
    find_peak(peak, g->x);
    for (int l = 0; l < QVL_PANEL_ROWS; l++)
        unit[l] = isnan(peak[l]) || peak[l] == 0 ? 1 : peak[l];
    normalise(g, unit, norm);
    search(scale, g);
    round_scales(&best, scale, unit, peak);
    for (int l = 0; l < QVL_PANEL_ROWS; l++)
        scale[l] = -0.125f;
    round_scales(&plain, scale, unit, peak);
    measure(e0, g, &plain, -8, 7);
    measure(e1, g, &best, -8, 7);
    for (int l = 0; l < QVL_PANEL_ROWS; l++)
        if (!(e1[l] <= e0[l])) {
            best.half[l] = plain.half[l];
            best.c[l] = plain.c[l];
            e1[l] = e0[l];
        }
    store_q4(g, &best);
    memcpy(g->scale, best.half, sizeof g->scale);
    totals(g, unit, peak, e1, norm);
}

static void pack_q8(struct qvl_quant_group *g)
{
    float peak[QVL_PANEL_ROWS], unit[QVL_PANEL_ROWS], norm[QVL_PANEL_ROWS], scale[QVL_PANEL_ROWS], error[QVL_PANEL_ROWS];
    struct step s;
    find_peak(peak, g->x);
    for (int l = 0; l < QVL_PANEL_ROWS; l++) {
        unit[l] = isnan(peak[l]) || peak[l] == 0 ? 1 : fabsf(peak[l]);
        scale[l] = 1 / 127.0f;
    }
    normalise(g, unit, norm);
    round_scales(&s, scale, unit, peak);
    measure(error, g, &s, -127, 127);
    for (int l = 0; l < QVL_PANEL_ROWS; l += QV_LANES) {
        qv c = qv_load(s.c + l), offset = qv_set(128);
        for (int i = 0; i < QVL_GROUP / 4; i++) {
            qvi word = qvi_from(qv_set(0));
            for (int b = 0; b < 4; b++)
                word = qvi_or(
                    word, qvi_shl(qvi_from(qv_add(quantised(qv_load(g->x[4 * i + b] + l), c, -127, 127), offset)), 8 * b));
            qvi_store((char *)g->codes + i * 64 + l * 4, word);
        }
    }
    memcpy(g->scale, s.half, sizeof g->scale);
    totals(g, unit, peak, error, norm);
}

#endif
