/* config_write.c - struct qvl_config → the three JSON files that qvl_config_parse reads, in the published spelling. For models
 * whose source keeps these things elsewhere (GGUF). */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/json.h"
#include "model/config.h"

/* The number with the fewest digits that is this float. */
static json_t *single(float x)
{
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, (double)x);
        double d = strtod(text, NULL);
        if (!((float)d < x) && !((float)d > x))
            return json_real(d);
    }
    return json_real((double)x);
}

/* Both take the reference; what fails is kept in b->failed, which is looked at in the end. */
static void put(struct qvl_buf *b, json_t *o, const char *key, json_t *v)
{
    if (!v || json_object_set_new(o, key, v))
        b->failed = 1;
}

static void push(struct qvl_buf *b, json_t *list, json_t *v)
{
    if (!v || json_array_append_new(list, v))
        b->failed = 1;
}

static void put_int(struct qvl_buf *b, json_t *o, const char *key, int v) { put(b, o, key, json_integer(v)); }

static json_t *ints(struct qvl_buf *b, const int *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        push(b, list, json_integer(v[i]));
    return list;
}

static json_t *floats(struct qvl_buf *b, const float *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        push(b, list, single(v[i]));
    return list;
}

/* Appends a finished object; takes the reference. */
static int dump(struct qvl_buf *b, json_t *root, qvl_err *err)
{
    int failed = b->failed || !root || qvl_json_dump_python(b, root) || qvl_buf_putc(b, '\n');
    json_decref(root);
    return failed ? qvl_fail_nomem(err, 4096, "a configuration") : 0;
}

static json_t *rope(struct qvl_buf *b, const struct qvl_text_config *t)
{
    json_t *o = json_object();
    put(b, o, "rope_type", json_string(t->rope_original ? "yarn" : "default"));
    put(b, o, "mrope_section", ints(b, t->rope_section, 3));
    put(b, o, "mrope_interleaved", json_true());
    if (t->rope_original) {
        put(b, o, "factor", json_real(t->rope_factor));
        put_int(b, o, "original_max_position_embeddings", t->rope_original);
    }
    return o;
}

static void put_experts(struct qvl_buf *b, json_t *o, const struct qvl_text_config *t)
{
    json_t *dense = json_array();
    for (int i = 0; i < t->n_layer; i++)
        if (!t->is_sparse[i])
            push(b, dense, json_integer(i));
    put_int(b, o, "num_experts", t->n_expert);
    put_int(b, o, "num_experts_per_tok", t->n_expert_used);
    put_int(b, o, "moe_intermediate_size", t->d_ff_expert);
    put_int(b, o, "decoder_sparse_step", 1);
    put(b, o, "mlp_only_layers", dense);
}

static json_t *text(struct qvl_buf *b, const struct qvl_config *c)
{
    const struct qvl_text_config *t = &c->text;
    json_t *o = json_object();
    put(b, o, "model_type", json_string(c->moe ? "qwen3_vl_moe_text" : "qwen3_vl_text"));
    put(b, o, "dtype", json_string("bfloat16"));
    put_int(b, o, "hidden_size", t->d_model);
    if (t->d_ff)
        put_int(b, o, "intermediate_size", t->d_ff);
    put_int(b, o, "num_hidden_layers", t->n_layer);
    put_int(b, o, "num_attention_heads", t->n_head);
    put_int(b, o, "num_key_value_heads", t->n_kv);
    put_int(b, o, "head_dim", t->d_head);
    put_int(b, o, "vocab_size", t->n_vocab);
    put_int(b, o, "max_position_embeddings", t->max_positions);
    put(b, o, "hidden_act", json_string("silu"));
    put(b, o, "rms_norm_eps", json_real(t->rms_eps));
    put(b, o, "rope_theta", json_real(t->rope_theta));
    put(b, o, "rope_scaling", rope(b, t));
    if (t->n_expert)
        put_experts(b, o, t);
    return o;
}

static json_t *vision(struct qvl_buf *b, const struct qvl_config *c)
{
    const struct qvl_vision_config *v = &c->vision;
    json_t *o = json_object();
    put(b, o, "model_type", json_string(c->moe ? "qwen3_vl_moe" : "qwen3_vl"));
    put_int(b, o, "depth", v->depth);
    put_int(b, o, "hidden_size", v->d_model);
    put_int(b, o, "intermediate_size", v->d_ff);
    put_int(b, o, "num_heads", v->n_head);
    put_int(b, o, "out_hidden_size", v->d_out);
    put_int(b, o, "num_position_embeddings", v->n_pos_side * v->n_pos_side);
    put_int(b, o, "in_channels", v->n_channel);
    put_int(b, o, "patch_size", v->patch);
    put_int(b, o, "temporal_patch_size", v->temporal_patch);
    put_int(b, o, "spatial_merge_size", v->merge);
    put(b, o, "deepstack_visual_indexes", ints(b, v->tap, v->n_tap));
    put(b, o, "hidden_act", json_string(v->act_tanh ? "gelu_pytorch_tanh" : "gelu"));
    return o;
}

int qvl_config_write(struct qvl_buf *b, const struct qvl_config *c, qvl_err *err)
{
    json_t *o = json_object(), *names = json_array();
    push(b, names, json_string(c->moe ? "Qwen3VLMoeForConditionalGeneration" : "Qwen3VLForConditionalGeneration"));
    put(b, o, "architectures", names);
    put(b, o, "model_type", json_string(c->moe ? "qwen3_vl_moe" : "qwen3_vl"));
    if (!c->text.tied_unsaid)
        put(b, o, "tie_word_embeddings", json_boolean(c->text.tied));
    put_int(b, o, "image_token_id", c->image_token);
    put_int(b, o, "video_token_id", c->video_token);
    put_int(b, o, "vision_start_token_id", c->vision_start_token);
    put_int(b, o, "vision_end_token_id", c->vision_end_token);
    put(b, o, "text_config", text(b, c));
    put(b, o, "vision_config", vision(b, c));
    return dump(b, o, err);
}

int qvl_config_write_generation(struct qvl_buf *b, const struct qvl_config *c, qvl_err *err)
{
    const struct qvl_generation_config *g = &c->gen;
    json_t *o = json_object();
    put(b, o, "do_sample", json_boolean(g->do_sample));
    put(b, o, "temperature", single(g->temperature));
    put(b, o, "top_p", single(g->top_p));
    put_int(b, o, "top_k", g->top_k);
    put(b, o, "min_p", single(g->min_p));
    put(b, o, "repetition_penalty", single(g->repetition_penalty));
    put(b, o, "eos_token_id", ints(b, g->eos, g->n_eos));
    return dump(b, o, err);
}

int qvl_config_write_preprocessor(struct qvl_buf *b, const struct qvl_config *c, qvl_err *err)
{
    json_t *o = json_object(), *size = json_object();
    put(b, size, "shortest_edge", json_integer((json_int_t)c->image.min_pixels));
    put(b, size, "longest_edge", json_integer((json_int_t)c->image.max_pixels));
    put(b, o, "image_processor_type", json_string("Qwen2VLImageProcessorFast"));
    put(b, o, "size", size);
    put_int(b, o, "patch_size", c->vision.patch);
    put_int(b, o, "temporal_patch_size", c->vision.temporal_patch);
    put_int(b, o, "merge_size", c->vision.merge);
    put(b, o, "image_mean", floats(b, c->image.mean, 3));
    put(b, o, "image_std", floats(b, c->image.std, 3));
    return dump(b, o, err);
}
