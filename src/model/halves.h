/* halves.h - the two halves of a model from two places: one set of tensors, and whether they fit each other. */
#ifndef QVL_MODEL_HALVES_H
#define QVL_MODEL_HALVES_H

#include "formats/tensor_source.h"
#include "model/config.h"

/* Views of the decoder's tensors of `text` and of the vision tower's of `vision`, told apart by canonical name; either may be NULL.
 * Both must outlive *out. Only what is used counts as the size of their files. */
int qvl_tensors_halves(struct qvl_tensors **out, const struct qvl_tensors *text, const struct qvl_tensors *vision, qvl_err *err);

/* Fails (QVL_E_FORMAT) where a half found elsewhere says something else than the configuration it is to run under. `where` names it. */
int qvl_config_agree_text(const struct qvl_config *c, const struct qvl_config *found, const char *where, qvl_err *err);
int qvl_config_agree_vision(const struct qvl_config *c, const struct qvl_config *found, const char *where, qvl_err *err);

#endif
