/* config_shape.c - the shapes of the published models, for measuring without a download. */
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"
#include "model/config_read.h"

struct shape {
    const char *name;
    int d_model, n_layer, n_head, n_kv, d_ff, tied, n_expert, n_expert_used, d_ff_expert;
    int v_depth, v_model, v_ff, tap[3];
};

static const struct shape shapes[] = {
    {"2b", 2048, 28, 16, 8, 6144, 1, 0, 0, 0, 24, 1024, 4096, {5, 11, 17}},
    {"4b", 2560, 36, 32, 8, 9728, 1, 0, 0, 0, 24, 1024, 4096, {5, 11, 17}},
    {"8b", 4096, 36, 32, 8, 12288, 0, 0, 0, 0, 27, 1152, 4304, {8, 16, 24}},
    {"32b", 5120, 64, 64, 8, 25600, 0, 0, 0, 0, 27, 1152, 4304, {8, 16, 24}},
    {"30b-a3b", 2048, 48, 32, 4, 6144, 0, 128, 8, 768, 27, 1152, 4304, {8, 16, 24}},
    {"235b-a22b", 4096, 94, 64, 4, 12288, 0, 128, 8, 1536, 27, 1152, 4304, {8, 16, 24}},
};

static int fill(struct qvl_config *c, const struct shape *s, qvl_err *err)
{
    c->text = (struct qvl_text_config){
        .n_layer = s->n_layer, .d_model = s->d_model, .n_head = s->n_head, .n_kv = s->n_kv, .d_head = 128, .d_ff = s->d_ff,
        .n_vocab = 151936, .max_positions = 262144, .rope_theta = 5e6, .rope_section = {24, 20, 20}, .rope_factor = 1,
        .rms_eps = 1e-6, .tied = s->tied, .n_expert = s->n_expert, .n_expert_used = s->n_expert_used,
        .d_ff_expert = s->d_ff_expert, .norm_topk = s->n_expert != 0, .sparse_step = 1};
    c->vision = (struct qvl_vision_config){
        .depth = s->v_depth, .d_model = s->v_model, .n_head = 16, .d_ff = s->v_ff, .d_out = s->d_model, .patch = 16,
        .temporal_patch = 2, .merge = 2, .n_channel = 3, .n_pos_side = 48, .n_tap = 3,
        .tap = {s->tap[0], s->tap[1], s->tap[2]}, .act_tanh = 1};
    c->gen = (struct qvl_generation_config){.do_sample = 1, .temperature = 0.7f, .top_p = 0.8f, .repetition_penalty = 1,
                                            .top_k = 20, .n_eos = 2, .eos = {151645, 151643}};
    qvl_config_image_default(&c->image);
    c->image_token = 151655;
    c->video_token = 151656;
    c->vision_start_token = 151652;
    c->vision_end_token = 151653;
    c->moe = s->n_expert != 0;
    if (!c->moe)
        return 0;
    c->text.is_sparse = qvl_alloc((size_t)s->n_layer, 1);
    if (!c->text.is_sparse)
        return qvl_fail_nomem(err, (size_t)s->n_layer, "the list of sparse layers");
    for (int i = 0; i < s->n_layer; i++)
        c->text.is_sparse[i] = 1;
    return 0;
}

int qvl_config_shape(struct qvl_config *c, const char *shape, qvl_err *err)
{
    *c = (struct qvl_config){0};
    for (size_t i = 0; shape && i < QVL_COUNT(shapes); i++)
        if (strcasecmp(shape, shapes[i].name) == 0)
            return fill(c, &shapes[i], err);
    return qvl_fail(err, QVL_E_ARG, "shape: found %s, expected 2b, 4b, 8b, 32b, 30b-a3b or 235b-a22b", shape ? shape : "none");
}
