/* quantised.h - a quantised safetensors checkpoint → tensors that can be bound (weights.h): every quantised matrix of the model as
 * one tensor of QVL_DT_CODED under its canonical name, everything else as it is.
 *
 * A matrix is quantised when its tensors are: lists of names in the configuration are not looked at. Experts come out one by
 * one, whether the file has them so, stacked ("switch_mlp"), or gate and up in one ("experts.gate_up_proj"). */
#ifndef QVL_MODEL_QUANTISED_H
#define QVL_MODEL_QUANTISED_H

#include "formats/coded.h"
#include "model/config.h"

struct qvl_coded_item;

struct qvl_quantised {
    struct qvl_tensors *source;   /* as in the files; owned */
    struct qvl_tensors *tensors;  /* views into source and items */
    struct qvl_coded_item *items; /* names and descriptions */
    struct qvl_quant_config quant; /* what the configuration said */
};

/* Takes `source` over, also on failure. c->quant says the method. */
int qvl_quantised_open(struct qvl_quantised *m, struct qvl_tensors *source, const struct qvl_config *c, qvl_err *err);
void qvl_quantised_close(struct qvl_quantised *m);

/* Matrices that are quantised in the same way. */
struct qvl_quantised_kind {
    int bits;
    char group[16];      /* inputs that share a scale: "128", "row", "tensor", "128 x 128" (a block of rows and inputs) */
    char values[32];     /* "symmetric", "zero points", "biases", "table", "E4M3" ...; " · act-order" behind it */
    uint64_t matrices, bytes;
};
/* Fills out[max] in the order of the set and returns how many there are; the last one counts all further kinds. */
size_t qvl_quantised_kinds(struct qvl_quantised_kind *out, size_t max, const struct qvl_tensors *t);

/* Refuses a checkpoint whose tensors are quantised although its configuration says nothing of it. */
int qvl_quantised_check_none(const struct qvl_tensors *t, qvl_err *err);

#endif
