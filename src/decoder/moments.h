/* moments.h - mean squares of what each matrix of the decoder is multiplied by, channel by channel, over a calibration run: how much
 * an error in a column of weights matters.
 *
 * A decoder that has none (the rule) pays one comparison a layer. Sums do not depend on the number of threads: columns are split. */
#ifndef QVL_DECODER_MOMENTS_H
#define QVL_DECODER_MOMENTS_H

#include "cpu/pool.h"
#include "model/config.h"

/* Inputs that are told apart: q, k and v share theirs, so do gate and up. */
enum qvl_moment_place { QVL_MOMENT_QKV, QVL_MOMENT_O, QVL_MOMENT_GATE_UP, QVL_MOMENT_DOWN, QVL_MOMENT_PLACES };

struct qvl_moments;

int qvl_moments_open(struct qvl_moments **out, const struct qvl_text_config *c, qvl_err *err);
void qvl_moments_close(struct qvl_moments **m);
/* Team operation without a barrier: adds rows x[n][width], rows one behind the other. expert: of sparse layers, else 0. A layer of
 * n_layer is the head (place QVL_MOMENT_QKV). */
void qvl_moments_add(struct qvl_moments *m, const struct qvl_team *t, int layer, enum qvl_moment_place place, int expert, const float *x,
                     int64_t n);
/* The means for the matrix of a canonical name, [n_in]; NULL for other names, and for an expert that saw no token. Borrowed; not
 * to be mixed with qvl_moments_add. */
const float *qvl_moments_of(struct qvl_moments *m, const char *name);
/* Hash of everything that was seen. */
void qvl_moments_hash(const struct qvl_moments *m, uint64_t out[2]);

#endif
