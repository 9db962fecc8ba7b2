/* config.json, generation_config.json and preprocessor_config.json, separated by a line of "---"; the later ones may be
 * absent. What is accepted must be safe to compute with. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"
#include "model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
    if (!ok)
        abort();
}

static void check(const struct qvl_config *c)
{
    const struct qvl_text_config *t = &c->text;
    const struct qvl_vision_config *v = &c->vision;
    uint64_t mapped, copied, params;
    require(t->n_layer > 0 && t->n_layer <= 1024 && t->d_model > 0 && t->n_head > 0 && t->n_kv > 0 && t->n_head % t->n_kv == 0);
    require(t->d_head >= 4 && t->d_head <= 256 && t->d_head % 4 == 0 && t->n_vocab > 0 && t->max_positions > 0);
    require(isfinite(t->rope_theta) && t->rope_theta > 0 && isfinite(t->rms_eps) && t->rms_eps > 0);
    require(isfinite(t->rope_factor) && t->rope_factor >= 1 && (!(t->rope_factor > 1) || t->rope_original > 0));
    require(2 * (t->rope_section[0] + t->rope_section[1] + t->rope_section[2]) == t->d_head);
    require(v->depth > 0 && v->d_model > 0 && v->n_head > 0 && v->d_model % v->n_head == 0 && v->d_out == t->d_model);
    require(v->patch > 0 && v->merge > 0 && v->temporal_patch > 0 && v->n_channel == 3 && v->n_pos_side > 0);
    require(v->n_tap >= 0 && v->n_tap <= QVL_MAX_TAPS);
    for (int i = 0; i < v->n_tap; i++)
        require(v->tap[i] >= 0 && v->tap[i] < v->depth);
    require(c->moe == (t->n_expert > 0) && c->moe == (t->is_sparse != NULL) && t->n_expert_used <= t->n_expert);
    for (int i = 0; i < t->n_layer; i++)
        require((t->is_sparse && t->is_sparse[i]) || t->d_ff > 0);
    require(c->image_token >= 0 && c->image_token < t->n_vocab && c->video_token < t->n_vocab);
    require(c->image.min_pixels > 0 && c->image.min_pixels <= c->image.max_pixels);
    for (int i = 0; i < 3; i++)
        require(isfinite(c->image.mean[i]) && c->image.std[i] > 0);
    require(c->gen.n_eos >= 0 && c->gen.n_eos <= QVL_MAX_EOS && c->gen.top_k >= 0 && c->gen.repetition_penalty > 0);
    for (int i = 0; i < c->gen.n_eos; i++)
        require(c->gen.eos[i] >= 0 && c->gen.eos[i] < t->n_vocab);
    int rc = qvl_weights_estimate(c, QVL_DT_F32, &mapped, &copied, &params);
    require(rc == 0 ? params > 0 && mapped > 0 : rc == QVL_E_LIMIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *part[3] = {text, NULL, NULL};
    struct qvl_config c;
    qvl_err err = {0};
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    for (int i = 0; i < 2; i++) {
        char *cut = strstr(part[i], "\n---\n");
        if (!cut)
            break;
        *cut = 0;
        part[i + 1] = cut + 5;
    }
    int rc = qvl_config_parse(&c, part[0], part[1], part[2], &err);
    require(rc == err.code);
    if (rc)
        require(err.msg[0] != 0 && !c.text.is_sparse);
    else {
        check(&c);
        qvl_config_free(&c);
    }
    free(text);
    return 0;
}
