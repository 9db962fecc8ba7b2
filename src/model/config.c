/* config.c - config.json → struct qvl_config, every number checked once.
 *
 * Limits are far above any published model and low enough that products of a few of them fit into 64 bits. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "formats/sniff.h"
#include "model/config_read.h"

#define MAX_FILE_BYTES (16u << 20)
#define MAX_LAYERS 1024
#define MAX_HEADS 1024
#define MAX_WIDTH (1 << 20)   /* hidden sizes */
#define MAX_FF (1 << 22)
#define MAX_VOCAB (1 << 24)
#define MAX_EXPERTS 4096
#define MAX_HEAD_DIM 256      /* the kernels' limit; they also want a multiple of 4 */

static int architecture(struct qvl_config *c, const struct qvl_fields *f)
{
    const json_t *list = qvl_field(f, "architectures");
    const char *type, *arch = NULL;
    int moe_by_type = -1, moe_by_arch = -1;
    QVL_TRY(qvl_field_string(f, "model_type", &type));
    if (list) {
        if (!json_is_array(list) || !(arch = json_string_value(json_array_get(list, 0))))
            return qvl_fail(f->err, QVL_E_FORMAT, "%s: architectures: expected a list with a name", f->name);
        if (!strcmp(arch, "Qwen3VLForConditionalGeneration") || !strcmp(arch, "Qwen3VLModel"))
            moe_by_arch = 0;
        else if (!strcmp(arch, "Qwen3VLMoeForConditionalGeneration") || !strcmp(arch, "Qwen3VLMoeModel"))
            moe_by_arch = 1;
        else
            return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: architectures: found %s, expected Qwen3VLForConditionalGeneration or "
                            "Qwen3VLMoeForConditionalGeneration", f->name, arch);
    }
    if (type) {
        moe_by_type = !strcmp(type, "qwen3_vl") ? 0 : !strcmp(type, "qwen3_vl_moe") ? 1 : -1;
        if (moe_by_type < 0)
            return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: model_type: found %s, expected qwen3_vl or qwen3_vl_moe", f->name,
                            type);
    }
    if (!arch && !type)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: neither architectures nor model_type is there", f->name);
    if (arch && type && moe_by_arch != moe_by_type)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: architectures says %s, but model_type says %s", f->name, arch, type);
    c->moe = arch ? moe_by_arch : moe_by_type;
    return 0;
}

/* The first of the fields that say how the checkpoint is quantised. */
static int quantised(struct qvl_config *c, const struct qvl_fields *f)
{
    static const char *const keys[] = {"quantization_config", "quantization", "compression_config"};
    for (size_t i = 0; i < QVL_COUNT(keys) && !c->quant.method; i++)
        if (qvl_field(f, keys[i]))
            QVL_TRY(qvl_quant_config_parse(&c->quant, qvl_field(f, keys[i]), f->name, keys[i], f->err));
    return 0;
}

/* The rotation is described in text_config itself, in rope_scaling (4.x) or in rope_parameters (5.x). */
struct rope {
    struct qvl_fields text, where[2]; /* rope_parameters, rope_scaling */
    char name[2][96];
};

static int rope_theta(const struct rope *r, double *theta)
{
    const struct qvl_fields *all[3] = {&r->text, &r->where[0], &r->where[1]};
    *theta = 0;
    for (int i = 0; i < 3; i++) {
        double v = 0;
        QVL_TRY(qvl_field_real(all[i], "rope_theta", 1, 1e30, &v));
        if (v > 0 && *theta > 0 && (v < *theta || v > *theta))
            return qvl_fail(all[i]->err, QVL_E_FORMAT, "%s: rope_theta: found %g, but %s says %g", all[i]->name, v,
                            r->text.name, *theta);
        if (v > 0)
            *theta = v;
    }
    if (*theta > 0)
        return 0;
    return qvl_fail(r->text.err, QVL_E_FORMAT, "%s: rope_theta: missing, also in rope_parameters and rope_scaling (it is not "
                    "guessed)", r->text.name);
}

/* Parameters of YaRN beyond factor and original length must have the values that plain YaRN has. */
static int yarn(struct qvl_text_config *t, const struct qvl_fields *f)
{
    static const struct {
        const char *key;
        double plain;
    } extras[] = {{"beta_fast", 32}, {"beta_slow", 1}};
    static const char *const refused[] = {"attention_factor", "mscale", "mscale_all_dim"};
    int truncate;
    double factor = 0;
    QVL_TRY(qvl_field_real(f, "factor", 1, 1e6, &factor));
    if (!(factor > 0))
        return qvl_field_missing(f, "factor");
    QVL_TRY(qvl_field_i32(f, "original_max_position_embeddings", 1, INT32_MAX, QVL_REQUIRED, &t->rope_original));
    for (size_t i = 0; i < QVL_COUNT(extras); i++) {
        double v = extras[i].plain;
        QVL_TRY(qvl_field_real(f, extras[i].key, 0, 1e6, &v));
        if (v < extras[i].plain || v > extras[i].plain)
            return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: %s: found %g, only %g is supported", f->name, extras[i].key, v,
                            extras[i].plain);
    }
    for (size_t i = 0; i < QVL_COUNT(refused); i++)
        if (qvl_field(f, refused[i]))
            return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: %s: is not supported", f->name, refused[i]);
    QVL_TRY(qvl_field_bool(f, "truncate", 1, &truncate));
    if (!truncate)
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: truncate: found false, only true is supported", f->name);
    t->rope_factor = factor;
    if (!(factor > 1)) /* YaRN by one is no YaRN */
        t->rope_original = 0;
    return 0;
}

static int rope(struct qvl_text_config *t, const struct qvl_fields *text)
{
    struct rope r = {.text = *text};
    int n_section = -1, interleaved = 1;
    const char *type = NULL;
    const struct qvl_fields *typed = text;
    QVL_TRY(qvl_field_object(text, "rope_parameters", &r.where[0], r.name[0], sizeof r.name[0]));
    QVL_TRY(qvl_field_object(text, "rope_scaling", &r.where[1], r.name[1], sizeof r.name[1]));
    QVL_TRY(rope_theta(&r, &t->rope_theta));
    t->rope_factor = 1;
    for (int i = 0; i < 2; i++) {
        const struct qvl_fields *f = &r.where[i];
        double partial = 1;
        if (n_section < 0)
            QVL_TRY(qvl_field_ints(f, "mrope_section", 0, MAX_HEAD_DIM, 3, 0, t->rope_section, &n_section));
        if (interleaved)
            QVL_TRY(qvl_field_bool(f, "mrope_interleaved", 1, &interleaved));
        QVL_TRY(qvl_field_real(f, "partial_rotary_factor", 0, 1, &partial));
        if (partial < 1)
            return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: partial_rotary_factor: found %g, only 1 is supported", f->name,
                            partial);
        if (!type) {
            typed = f;
            QVL_TRY(qvl_field_string(f, "rope_type", &type));
            if (!type)
                QVL_TRY(qvl_field_string(f, "type", &type)); /* the older spelling */
        }
    }
    if (!interleaved)
        return qvl_fail(text->err, QVL_E_UNSUPPORTED, "%s: mrope_interleaved: found false, only true is supported", text->name);
    if (n_section < 0 && t->d_head == 128) { /* the model class has this default, for this head size only */
        t->rope_section[0] = 24;
        t->rope_section[1] = t->rope_section[2] = 20;
        n_section = 3;
    }
    if (n_section < 0)
        return qvl_field_missing(text, "rope_scaling: mrope_section");
    int sum = t->rope_section[0] + t->rope_section[1] + t->rope_section[2];
    if (n_section != 3 || 2 * sum != t->d_head)
        return qvl_fail(text->err, QVL_E_FORMAT, "%s: mrope_section: found %d values with the sum %d, expected 3 with the sum %d",
                        text->name, n_section, sum, t->d_head / 2);
    if (!type || !strcmp(type, "default") || !strcmp(type, "mrope"))
        return 0;
    if (!strcmp(type, "yarn"))
        return yarn(t, typed);
    return qvl_fail(text->err, QVL_E_UNSUPPORTED, "%s: rope_type: found %s, expected default or yarn", typed->name, type);
}

/* Which layers have experts: i is sparse when (i+1) % step == 0 and it is not listed in mlp_only_layers. */
static int experts(struct qvl_text_config *t, const struct qvl_fields *f)
{
    int only[MAX_LAYERS], n_only, dense = 0;
    QVL_TRY(qvl_field_i32(f, "num_experts", 1, MAX_EXPERTS, QVL_REQUIRED, &t->n_expert));
    QVL_TRY(qvl_field_i32(f, "num_experts_per_tok", 1, MAX_EXPERTS, QVL_REQUIRED, &t->n_expert_used));
    QVL_TRY(qvl_field_i32(f, "moe_intermediate_size", 1, MAX_FF, QVL_REQUIRED, &t->d_ff_expert));
    QVL_TRY(qvl_field_i32(f, "decoder_sparse_step", 1, MAX_LAYERS, 1, &t->sparse_step));
    QVL_TRY(qvl_field_ints(f, "mlp_only_layers", 0, t->n_layer - 1, MAX_LAYERS, 0, only, &n_only));
    if (t->n_expert_used > t->n_expert)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: num_experts_per_tok: found %d, but num_experts is %d", f->name,
                        t->n_expert_used, t->n_expert);
    t->norm_topk = 1;
    t->is_sparse = qvl_calloc((size_t)t->n_layer, 1);
    if (!t->is_sparse)
        return qvl_fail_nomem(f->err, (size_t)t->n_layer, "the list of sparse layers");
    for (int i = 0; i < t->n_layer; i++)
        t->is_sparse[i] = (i + 1) % t->sparse_step == 0;
    for (int i = 0; i < n_only; i++)
        t->is_sparse[only[i]] = 0;
    for (int i = 0; i < t->n_layer; i++)
        dense |= !t->is_sparse[i];
    return qvl_field_i32(f, "intermediate_size", 1, MAX_FF, dense ? QVL_REQUIRED : 0, &t->d_ff);
}

static int text_config(struct qvl_config *c, const struct qvl_fields *f)
{
    struct qvl_text_config *t = &c->text;
    const char *s;
    int bias;
    QVL_TRY(qvl_field_string(f, "model_type", &s));
    if (s && strcmp(s, c->moe ? "qwen3_vl_moe_text" : "qwen3_vl_text") != 0)
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: model_type: found %s, expected %s", f->name, s,
                        c->moe ? "qwen3_vl_moe_text" : "qwen3_vl_text");
    QVL_TRY(qvl_field_i32(f, "hidden_size", 1, MAX_WIDTH, QVL_REQUIRED, &t->d_model));
    QVL_TRY(qvl_field_i32(f, "num_hidden_layers", 1, MAX_LAYERS, QVL_REQUIRED, &t->n_layer));
    QVL_TRY(qvl_field_i32(f, "num_attention_heads", 1, MAX_HEADS, QVL_REQUIRED, &t->n_head));
    QVL_TRY(qvl_field_i32(f, "num_key_value_heads", 1, MAX_HEADS, QVL_REQUIRED, &t->n_kv));
    QVL_TRY(qvl_field_i32(f, "vocab_size", 1, MAX_VOCAB, QVL_REQUIRED, &t->n_vocab));
    QVL_TRY(qvl_field_i32(f, "max_position_embeddings", 1, INT32_MAX, QVL_REQUIRED, &t->max_positions));
    if (t->n_head % t->n_kv)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: num_key_value_heads: found %d, expected a divisor of num_attention_heads (%d)",
                        f->name, t->n_kv, t->n_head);
    if (!qvl_field(f, "head_dim") && t->d_model % t->n_head)
        return qvl_field_missing(f, "head_dim");
    QVL_TRY(qvl_field_i32(f, "head_dim", 1, MAX_HEAD_DIM, t->d_model / t->n_head, &t->d_head));
    if (t->d_head < 4 || t->d_head % 4 || t->d_head > MAX_HEAD_DIM)
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: head_dim: found %d, expected a multiple of 4 up to %d", f->name,
                        t->d_head, MAX_HEAD_DIM);
    t->rms_eps = 1e-6; /* the default of every release */
    QVL_TRY(qvl_field_real(f, "rms_norm_eps", 1e-30, 1, &t->rms_eps));
    QVL_TRY(qvl_field_string(f, "hidden_act", &s));
    if (s && strcmp(s, "silu") != 0)
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: hidden_act: found %s, expected silu", f->name, s);
    QVL_TRY(qvl_field_bool(f, "attention_bias", 0, &bias));
    if (bias)
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: attention_bias: found true, expected false", f->name);
    QVL_TRY(rope(t, f));
    if (c->moe)
        return experts(t, f);
    t->sparse_step = 1;
    return qvl_field_i32(f, "intermediate_size", 1, MAX_FF, QVL_REQUIRED, &t->d_ff);
}

static int integer_sqrt(int n)
{
    int r = 0;
    while ((int64_t)(r + 1) * (r + 1) <= n)
        r++;
    return r;
}

static int taps(struct qvl_vision_config *v, const struct qvl_fields *f)
{
    const char *key = "deepstack_visual_indexes";
    QVL_TRY(qvl_field_ints(f, key, 0, v->depth - 1, QVL_MAX_TAPS, 0, v->tap, &v->n_tap));
    if (v->n_tap < 0)
        return qvl_field_missing(f, key);
    for (int i = 1; i < v->n_tap; i++) /* any order: the place in the list names the merger, the order of blocks the output */
        for (int j = 0; j < i; j++)
            if (v->tap[i] == v->tap[j])
                return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: found %d twice", f->name, key, v->tap[i]);
    return 0;
}

static int vision_config(struct qvl_config *c, const struct qvl_fields *f)
{
    struct qvl_vision_config *v = &c->vision;
    struct qvl_fields rope_fields;
    char rope_name[96];
    const char *act;
    double theta = 10000;
    int n_pos;
    QVL_TRY(qvl_field_i32(f, "depth", 1, MAX_LAYERS, QVL_REQUIRED, &v->depth));
    QVL_TRY(qvl_field_i32(f, "hidden_size", 1, MAX_WIDTH, QVL_REQUIRED, &v->d_model));
    QVL_TRY(qvl_field_i32(f, "num_heads", 1, MAX_HEADS, QVL_REQUIRED, &v->n_head));
    QVL_TRY(qvl_field_i32(f, "intermediate_size", 1, MAX_FF, QVL_REQUIRED, &v->d_ff));
    QVL_TRY(qvl_field_i32(f, "out_hidden_size", 1, MAX_WIDTH, QVL_REQUIRED, &v->d_out));
    QVL_TRY(qvl_field_i32(f, "num_position_embeddings", 1, MAX_VOCAB, QVL_REQUIRED, &n_pos));
    QVL_TRY(qvl_field_i32(f, "patch_size", 1, 256, 16, &v->patch)); /* these four: defaults of every release */
    QVL_TRY(qvl_field_i32(f, "temporal_patch_size", 1, 16, 2, &v->temporal_patch));
    QVL_TRY(qvl_field_i32(f, "spatial_merge_size", 1, 16, 2, &v->merge));
    QVL_TRY(qvl_field_i32(f, "in_channels", 1, 16, 3, &v->n_channel));
    if (v->n_channel != 3)
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: in_channels: found %d, expected 3", f->name, v->n_channel);
    int head = v->d_model / v->n_head;
    if (v->d_model % v->n_head || head % 4 || head > MAX_HEAD_DIM)
        return qvl_fail(f->err, v->d_model % v->n_head ? QVL_E_FORMAT : QVL_E_UNSUPPORTED,
                        "%s: num_heads: found %d heads for hidden_size %d, expected heads of a multiple of 4 up to %d", f->name,
                        v->n_head, v->d_model, MAX_HEAD_DIM);
    v->n_pos_side = integer_sqrt(n_pos);
    if (v->n_pos_side * v->n_pos_side != n_pos)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: num_position_embeddings: found %d, expected a square", f->name, n_pos);
    if (v->d_out != c->text.d_model)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: out_hidden_size: found %d, expected the text hidden_size %d", f->name,
                        v->d_out, c->text.d_model);
    QVL_TRY(taps(v, f));
    QVL_TRY(qvl_field_string(f, "hidden_act", &act));
    if (act && strcmp(act, "gelu_pytorch_tanh") != 0 && strcmp(act, "gelu") != 0)
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: hidden_act: found %s, expected gelu_pytorch_tanh or gelu", f->name, act);
    v->act_tanh = !act || strcmp(act, "gelu") != 0;
    QVL_TRY(qvl_field_object(f, "rope_parameters", &rope_fields, rope_name, sizeof rope_name));
    QVL_TRY(qvl_field_real(&rope_fields, "rope_theta", 1, 1e30, &theta));
    if (theta < 10000 || theta > 10000) /* a constant of the model class; 5.x files repeat it */
        return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: rope_theta: found %g, only 10000 is supported", rope_name, theta);
    return 0;
}

static int tied(struct qvl_text_config *t, const struct qvl_fields *top, const struct qvl_fields *text)
{
    int a, b;
    t->tied_unsaid = !qvl_field(top, "tie_word_embeddings") && !qvl_field(text, "tie_word_embeddings");
    QVL_TRY(qvl_field_bool(top, "tie_word_embeddings", 0, &a));
    QVL_TRY(qvl_field_bool(text, "tie_word_embeddings", 0, &b));
    t->tied = a || b || t->tied_unsaid;
    return 0;
}

static int main_config(struct qvl_config *c, const json_t *root, const char *file, qvl_err *err)
{
    struct qvl_fields top = {.obj = root, .name = file, .err = err}, text, vision;
    char text_name[80], vision_name[80];
    int last;
    if (!json_is_object(root))
        return qvl_fail(err, QVL_E_FORMAT, "%s: expected a JSON object", file);
    QVL_TRY(architecture(c, &top));
    QVL_TRY(quantised(c, &top));
    QVL_TRY(qvl_field_object(&top, "text_config", &text, text_name, sizeof text_name));
    QVL_TRY(qvl_field_object(&top, "vision_config", &vision, vision_name, sizeof vision_name));
    if (!text.obj)
        return qvl_field_missing(&top, "text_config");
    if (!vision.obj)
        return qvl_field_missing(&top, "vision_config");
    QVL_TRY(quantised(c, &text));
    QVL_TRY(text_config(c, &text));
    QVL_TRY(vision_config(c, &vision));
    QVL_TRY(tied(&c->text, &top, &text));
    last = c->text.n_vocab - 1;
    QVL_TRY(qvl_field_i32(&top, "image_token_id", 0, last, QVL_REQUIRED, &c->image_token));
    QVL_TRY(qvl_field_i32(&top, "video_token_id", 0, last, QVL_REQUIRED, &c->video_token));
    QVL_TRY(qvl_field_i32(&top, "vision_start_token_id", 0, last, QVL_REQUIRED, &c->vision_start_token));
    QVL_TRY(qvl_field_i32(&top, "vision_end_token_id", 0, last, QVL_REQUIRED, &c->vision_end_token));
    if (c->image_token == c->video_token)
        return qvl_fail(err, QVL_E_FORMAT, "%s: video_token_id: found %d, which is image_token_id", file, c->video_token);
    return 0;
}

static int parse_one(json_t **out, const char *text, const char *what, qvl_err *err)
{
    *out = NULL;
    if (!text)
        return 0;
    int rc = qvl_json_parse(out, text, strlen(text), what, err);
    const char *hint = rc == QVL_E_FORMAT ? qvl_sniff(text, strlen(text)) : "";
    return *hint ? qvl_fail(err, rc, "%s: not JSON%s", what, hint) : rc;
}

/* `names`: of the three files, for messages. */
static int parse_all(struct qvl_config *c, const char *const texts[3], const char *const names[3], qvl_err *err)
{
    json_t *roots[3] = {NULL, NULL, NULL};
    int rc = 0;
    *c = (struct qvl_config){0};
    for (int i = 0; i < 3; i++)
        QVL_TRY_DONE(parse_one(&roots[i], texts[i], names[i], err));
    QVL_TRY_DONE(main_config(c, roots[0], names[0], err));
    QVL_TRY_DONE(qvl_config_generation(c, roots[1], roots[0], err));
    QVL_TRY_DONE(qvl_config_preprocessor(c, roots[2], names[2], err));
done:
    for (int i = 0; i < 3; i++)
        json_decref(roots[i]);
    if (rc)
        qvl_config_free(c);
    return rc;
}

static const char *const file_names[4] = {"config.json", "generation_config.json", "preprocessor_config.json",
                                          "processor_config.json"};

int qvl_config_parse(struct qvl_config *c, const char *config, const char *generation, const char *preprocessor, qvl_err *err)
{
    const char *texts[3] = {config, generation, preprocessor};
    *c = (struct qvl_config){0};
    if (!config)
        return qvl_fail(err, QVL_E_ARG, "config.json: no text");
    return parse_all(c, texts, file_names, err);
}

/* Reads dir/name; an absent file gives NULL unless it is required. A NUL inside would cut the text short, so it is
 * refused here. */
static int read_text(char **out, const char *dir, const char *name, int required, qvl_err *err)
{
    size_t len;
    int rc = 0;
    *out = NULL;
    char *path = qvl_path_join(dir, name);
    if (!path)
        return qvl_fail_nomem(err, strlen(dir), dir);
    if (required || qvl_file_exists(path)) {
        rc = qvl_file_read(out, &len, path, MAX_FILE_BYTES, err);
        if (!rc && strlen(*out) != len)
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: a NUL byte inside%s", path, qvl_sniff(*out, len));
    }
    qvl_mem_free(path);
    return rc;
}

/* Quantisers' own files, where config.json does not say what they say. */
static int quant_files(struct qvl_config *c, const char *dir, qvl_err *err)
{
    static const char *const names[] = {"quantize_config.json", "quant_config.json"};
    for (size_t i = 0; i < QVL_COUNT(names) && !c->quant.method; i++) {
        char *text = NULL;
        json_t *root = NULL;
        int rc = read_text(&text, dir, names[i], 0, err);
        if (rc == 0)
            rc = parse_one(&root, text, names[i], err);
        if (rc == 0 && root)
            rc = qvl_quant_config_parse(&c->quant, root, names[i], NULL, err);
        json_decref(root);
        qvl_mem_free(text);
        QVL_TRY(rc);
    }
    return 0;
}

int qvl_config_load(struct qvl_config *c, const char *dir, qvl_err *err)
{
    char *texts[3] = {NULL, NULL, NULL};
    const char *names[3] = {file_names[0], file_names[1], file_names[3]};
    int rc;
    *c = (struct qvl_config){0};
    if (!dir || !qvl_dir_exists(dir))
        return qvl_fail(err, QVL_E_NOTFOUND, "%s: no such folder", dir ? dir : "(none)");
    QVL_TRY_DONE(read_text(&texts[0], dir, file_names[0], 1, err));
    QVL_TRY_DONE(read_text(&texts[1], dir, file_names[1], 0, err));
    QVL_TRY_DONE(read_text(&texts[2], dir, file_names[3], 0, err));
    /* transformers 5 moves the settings into processor_config.json and prefers them there; older files of that name
     * hold other things. */
    if (!texts[2] || !strstr(texts[2], "\"image_processor\"")) {
        qvl_mem_free(texts[2]);
        texts[2] = NULL;
        names[2] = file_names[2];
        QVL_TRY_DONE(read_text(&texts[2], dir, file_names[2], 0, err));
    }
    const char *given[3] = {texts[0], texts[1], texts[2]};
    rc = parse_all(c, given, names, err);
    if (rc == 0 && (rc = quant_files(c, dir, err)) != 0)
        qvl_config_free(c);
    if (rc)
        qvl_fail_prefix(err, rc, "%s: ", dir);
done:
    for (int i = 0; i < 3; i++)
        qvl_mem_free(texts[i]);
    return rc;
}

void qvl_config_free(struct qvl_config *c)
{
    qvl_mem_free(c->text.is_sparse);
    *c = (struct qvl_config){0};
}
