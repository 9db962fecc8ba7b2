/* vision_quant.h - the fast mode of the vision encoder: the matrices of its blocks as 8-bit integers with a scale for each row
 * (kernels/row8.h).
 *
 * Patch embedding, position table and mergers keep their type: they are a twelfth of the work, and what they lose no later layer
 * makes good. Made at load, in memory: a few hundred million weights take a fraction of a second. */
#ifndef QVL_MODEL_VISION_QUANT_H
#define QVL_MODEL_VISION_QUANT_H

#include "base/pages.h"
#include "kernels/kernels.h"
#include "model/weights.h"

/* Bytes of the packed matrices; 0 on overflow. */
uint64_t qvl_vision_quant_bytes(const struct qvl_vision_config *c);
/* Packs them, all members of the pool working; w points into *pages afterwards, which must outlive it. Matrices that are stored as
 * blocks (foreign.h) must have been widened before. */
int qvl_vision_quantise(struct qvl_pages *pages, struct qvl_vision_weights *w, const struct qvl_vision_config *c,
                        const struct qvl_kernels *k, struct qvl_pool *pool, qvl_err *err);

#endif
