/* quant_pack.c - full-precision matrices to the integer kinds of quant.h, and single rows back. */
#include <assert.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "kernels/quant.h"

/* Work memory: one unit of 16 rows, as read and by inputs; one group for the level; one group of importance. */
struct pack_work {
    float rows[QVL_PANEL_ROWS][QVL_UNIT_INPUTS];
    struct qvl_quant_group group;
};

static int64_t units_of(int64_t n_in) { return (n_in + QVL_UNIT_INPUTS - 1) / QVL_UNIT_INPUTS; }

static size_t unit_bytes(enum qvl_dtype type)
{
    return type == QVL_DT_Q4 || type == QVL_DT_Q4M ? QVL_Q4_UNIT_BYTES : type == QVL_DT_Q8 ? QVL_Q8_UNIT_BYTES : 0;
}

/* Bytes of the vectors of one group; its scales follow those of both groups. */
static size_t group_bytes(enum qvl_dtype type) { return type == QVL_DT_Q8 ? 512 : 256; }

size_t qvl_quant_bytes(enum qvl_dtype type, int64_t n_out, int64_t n_in)
{
    size_t n, panels, units, unit = unit_bytes(type);
    if (!unit || n_out < 0 || n_in < 0 || n_out > INT64_MAX - QVL_PANEL_ROWS || n_in > INT64_MAX - QVL_UNIT_INPUTS)
        return 0;
    panels = (size_t)((n_out + QVL_PANEL_ROWS - 1) / QVL_PANEL_ROWS);
    units = (size_t)units_of(n_in);
    if (type == QVL_DT_Q4M)
        unit += QVL_Q4M_MIN_BYTES;
    return qvl_mul_size(&n, panels, units) || qvl_mul_size(&n, n, unit) || n > PTRDIFF_MAX ? 0 : n;
}

size_t qvl_quant_work_bytes(int64_t n_in)
{
    (void)n_in;
    return qvl_round_up(sizeof(struct pack_work), QVL_ALIGN);
}

/* Inputs k0 .. k0+n of up to 16 rows to g->x, the rest zero. */
static void read_group(struct qvl_quant_group *g, struct pack_work *work, const struct qvl_mat *w,
                       const struct qvl_kernels *k, int64_t row, int64_t rows, int64_t k0)
{
    const size_t size = w->type == QVL_DT_F32 ? 4 : 2;
    const char *data = w->data;
    const int64_t n = w->n_in - k0 < QVL_GROUP ? w->n_in - k0 : QVL_GROUP;
    if (rows < QVL_PANEL_ROWS || n < QVL_GROUP)
        memset(g->x, 0, sizeof g->x);
    if (w->transposed) {
        for (int64_t i = 0; i < n; i++)
            k->to_f32(g->x[i], data + (size_t)((k0 + i) * w->stride + row) * size, w->type, rows);
        return;
    }
    if (k0 % QVL_UNIT_INPUTS == 0) { /* both groups of a unit are read at once */
        int64_t both = w->n_in - k0 < QVL_UNIT_INPUTS ? w->n_in - k0 : QVL_UNIT_INPUTS;
        for (int64_t r = 0; r < rows; r++)
            k->to_f32(work->rows[r], data + (size_t)((row + r) * w->stride + k0) * size, w->type, both);
    }
    const int64_t first = k0 % QVL_UNIT_INPUTS;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++)
            g->x[i][r] = work->rows[r][first + i];
}

/* Importance of a group, scaled to a largest of 1; returns the factor that was divided out. */
static double read_importance(struct qvl_quant_group *g, const float *importance, int64_t k0, int64_t n_in)
{
    const int64_t n = n_in - k0 < QVL_GROUP ? n_in - k0 : QVL_GROUP;
    float largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = importance[k0 + i] > largest ? importance[k0 + i] : largest;
    g->weighted = largest > 0; /* otherwise nothing matters: any choice will do */
    memset(g->weight, 0, sizeof g->weight);
    for (int64_t i = 0; i < n && g->weighted; i++)
        g->weight[i] = importance[k0 + i] / largest;
    return largest;
}

static void put_group(unsigned char *unit, enum qvl_dtype type, int half, const struct qvl_quant_group *g)
{
    unsigned char *scale = unit + 2 * group_bytes(type) + half * 2 * QVL_PANEL_ROWS;
    memcpy(scale, g->scale, sizeof g->scale);
}

struct qvl_quant_error qvl_quant_pack(void *dst, enum qvl_dtype type, const struct qvl_mat *w, int64_t row0, int64_t row1,
                                      const float *importance, const struct qvl_kernels *k, void *work_mem)
{
    struct pack_work *work = work_mem;
    struct qvl_quant_group *g = &work->group;
    struct qvl_quant_error total = {0};
    const size_t unit = unit_bytes(type);
    const int64_t n_units = units_of(w->n_in);
    assert(row0 % QVL_PANEL_ROWS == 0 && (row1 % QVL_PANEL_ROWS == 0 || row1 == w->n_out) && row1 <= w->n_out);
    for (int64_t row = row0; row < row1; row += QVL_PANEL_ROWS) {
        unsigned char *out = (unsigned char *)dst + (size_t)(row / QVL_PANEL_ROWS) * qvl_quant_panel_bytes(type, w->n_in);
        unsigned char *minima = out + (size_t)n_units * unit; /* q4m */
        const int64_t rows = row1 - row < QVL_PANEL_ROWS ? row1 - row : QVL_PANEL_ROWS;
        for (int64_t u = 0; u < n_units; u++, out += unit)
            for (int half = 0; half < 2; half++) {
                const int64_t k0 = u * QVL_UNIT_INPUTS + half * QVL_GROUP;
                double factor = 1;
                g->weighted = 0;
                g->codes = out + (size_t)half * group_bytes(type);
                if (k0 < w->n_in) {
                    read_group(g, work, w, k, row, rows, k0);
                    if (importance)
                        factor = read_importance(g, importance, k0, w->n_in);
                } else {
                    memset(g->x, 0, sizeof g->x);
                }
                if (type == QVL_DT_Q4M) {
                    uint16_t min[QVL_PANEL_ROWS];
                    const int64_t left = w->n_in - k0;
                    qvl_quant_pack_q4m(g, (int)(left <= 0 ? 0 : left < QVL_GROUP ? left : QVL_GROUP), min);
                    memcpy(minima + (size_t)(u * 2 + half) * sizeof min, min, sizeof min);
                } else {
                    k->quant->pack_group[type == QVL_DT_Q8](g);
                }
                put_group(out, type, half, g);
                total.error += g->error * factor;
                total.norm += g->norm * factor;
            }
    }
    return total;
}

void qvl_quant_row(float *dst, const struct qvl_mat *packed, int64_t row)
{
    const enum qvl_dtype type = packed->type;
    const int64_t n_units = units_of(packed->n_in);
    const size_t unit = unit_bytes(type), bytes = group_bytes(type);
    const unsigned char *p = (const unsigned char *)packed->data + (size_t)(row / QVL_PANEL_ROWS) * qvl_quant_panel_bytes(type, packed->n_in);
    const size_t r = (size_t)(row % QVL_PANEL_ROWS);
    for (int64_t k0 = 0; k0 < packed->n_in; k0 += QVL_GROUP) {
        const size_t half = (size_t)(k0 / QVL_GROUP % 2);
        const unsigned char *q = p + (size_t)(k0 / QVL_UNIT_INPUTS) * unit + half * bytes + r * 4;
        const int64_t n = packed->n_in - k0 < QVL_GROUP ? packed->n_in - k0 : QVL_GROUP;
        uint16_t h;
        memcpy(&h, p + (size_t)(k0 / QVL_UNIT_INPUTS) * unit + 2 * bytes + half * 32 + r * 2, 2);
        const float s = qvl_f16_to_f32(h);
        float m = 0;
        if (type == QVL_DT_Q4M) {
            memcpy(&h, p + (size_t)n_units * unit + ((size_t)(k0 / QVL_GROUP) * QVL_PANEL_ROWS + r) * 2, 2);
            m = qvl_f16_to_f32(h);
        }
        for (int64_t i = 0; i < n; i++) {
            int v;
            if (type == QVL_DT_Q8)
                v = q[i / 4 * 64 + i % 4] - 128;
            else
                v = (q[i / 8 * 64 + i % 4] >> (i / 4 % 2 * 4) & 15) - (type == QVL_DT_Q4 ? 8 : 0);
            dst[k0 + i] = type == QVL_DT_Q4M ? s * (float)v + m : s * (float)v;
        }
    }
}
