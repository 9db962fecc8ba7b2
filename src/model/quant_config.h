/* quant_config.h - how a checkpoint says that it is quantised: quantization_config, quantization, or quantize_config.json. */
#ifndef QVL_MODEL_QUANT_CONFIG_H
#define QVL_MODEL_QUANT_CONFIG_H

#include "base/json.h"

enum qvl_quant_method {
    QVL_QUANT_NONE = 0,
    QVL_QUANT_AWQ, QVL_QUANT_GPTQ, QVL_QUANT_COMPRESSED, QVL_QUANT_FP8, QVL_QUANT_BNB, QVL_QUANT_MLX
};

struct qvl_quant_config {
    enum qvl_quant_method method;
    char format[32];     /* "gemm", "gptq_v2", "pack-quantized", "nf4" ...; "" when nothing is said */
    int bits, group;     /* of all modules; 0: not said, or different ones: then shapes decide. group -1: whole rows */
    int zero_add;        /* GPTQ: 1 when stored zero points are less one */
    int desc_act;        /* GPTQ, compressed-tensors: inputs are grouped in an order of their own */
    int block[2];        /* FP8; 0: none */
};

/* "AWQ", "GPTQ", ...; "none". */
const char *qvl_quant_method_name(enum qvl_quant_method m);
/* From one such object; `file` and `field` name it in messages. What is not supported is QVL_E_UNSUPPORTED and named. */
int qvl_quant_config_parse(struct qvl_quant_config *q, const json_t *object, const char *file, const char *field, qvl_err *err);

#endif
