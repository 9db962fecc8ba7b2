/* adapter_config.json: what comes through has ranks and scales that mean something for every name. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/lora.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"model.language_model.layers.0.self_attn.q_proj", "lm_head", ""};
    struct qvl_lora_config c;
    qvl_err err = {0};
    int rc = qvl_lora_config_parse(&c, (const char *)data, size, "fuzz", &err);
    if (rc != err.code || (rc && (c.ranks || c.alphas)))
        abort();
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++) {
        double rank, scale;
        qvl_lora_config_of(&c, names[i], &rank, &scale);
        if (!(rank >= 1 && rank <= 4096) || !(fabs(scale) <= 1e6))
            abort();
    }
    qvl_lora_config_free(&c);
    return 0;
}
