/* Binding: the tiny model, its tensors under every name that tools give them, experts in every layout, and what must be
 * refused. Checkpoints are written by the test from a list of tensors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/half.h"
#include "model/weights.h"

#define TINY QVL_SOURCE_DIR "/models/tiny"
#define GOLDEN QVL_SOURCE_DIR "/tests/golden/models/"

static void canonical_names(void **state)
{
    static const struct {
        const char *name, *canonical;
    } rows[] = {
        /* published */
        {"model.visual.blocks.0.norm1.weight", "visual.blocks.0.norm1.weight"},
        {"model.language_model.layers.3.mlp.gate_proj.weight", "language_model.layers.3.mlp.gate_proj.weight"},
        {"model.language_model.embed_tokens.weight", "language_model.embed_tokens.weight"},
        {"lm_head.weight", "lm_head.weight"},
        /* inner class */
        {"visual.merger.norm.bias", "visual.merger.norm.bias"},
        {"language_model.norm.weight", "language_model.norm.weight"},
        /* before 4.52 */
        {"model.layers.3.self_attn.q_norm.weight", "language_model.layers.3.self_attn.q_norm.weight"},
        {"model.embed_tokens.weight", "language_model.embed_tokens.weight"},
        {"model.norm.weight", "language_model.norm.weight"},
        /* vLLM, SGLang */
        {"language_model.model.layers.0.input_layernorm.weight", "language_model.layers.0.input_layernorm.weight"},
        {"language_model.model.norm.weight", "language_model.norm.weight"},
        {"language_model.lm_head.weight", "lm_head.weight"},
        {"model.language_model.lm_head.weight", "lm_head.weight"},
        /* MLX */
        {"vision_tower.patch_embed.proj.weight", "visual.patch_embed.proj.weight"},
        {"model.vision_tower.pos_embed.weight", "visual.pos_embed.weight"},
        /* none of ours */
        {"model.other.weight", "model.other.weight"},
        {"transformer.h.0.attn.weight", "transformer.h.0.attn.weight"},
        {"modelvisual.x", "modelvisual.x"},
        {"model.", "model."},
        {"", ""},
    };
    char buf[128], small[8];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qvl_canonical_name(buf, sizeof buf, rows[i].name);
        assert_string_equal(buf, rows[i].canonical);
    }
    qvl_canonical_name(small, sizeof small, "model.visual.blocks");
    assert_string_equal(small, "visual.");
}

/* ---------------------------------------------------------------- a checkpoint that can be changed */

static char root[64], file[96];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/qvl-weights-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(file, sizeof file, "%s/m.safetensors", root);
    return 0;
}

static int remove_root(void **state)
{
    char cmd[128];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", root);
    return system(cmd);
}

#define MAX_TENSORS 512
struct checkpoint {
    struct qvl_config config;
    struct qvl_tensors *source; /* the views below borrow from it */
    struct qvl_tensor list[MAX_TENSORS];
    void *owned[MAX_TENSORS]; /* names and data made by the test */
    size_t n, n_owned;
};

static void *own(struct checkpoint *c, size_t size)
{
    void *p = calloc(size ? size : 1, 1);
    assert_non_null(p);
    assert_true(c->n_owned < MAX_TENSORS);
    return c->owned[c->n_owned++] = p;
}

static struct checkpoint *load(const char *dir)
{
    struct checkpoint *c = calloc(1, sizeof *c);
    qvl_err err;
    assert_non_null(c);
    if (qvl_config_load(&c->config, dir, &err) || qvl_safetensors_open(&c->source, dir, &err))
        fail_msg("%s", err.msg);
    c->n = qvl_tensors_count(c->source);
    assert_true(c->n < MAX_TENSORS / 2);
    for (size_t i = 0; i < c->n; i++)
        c->list[i] = *qvl_tensors_at(c->source, i);
    return c;
}

static void unload(struct checkpoint *c)
{
    for (size_t i = 0; i < c->n_owned; i++)
        free(c->owned[i]);
    qvl_tensors_close(&c->source);
    qvl_config_free(&c->config);
    free(c);
}

static struct qvl_tensor *find(struct checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->list[i].name, name))
            return &c->list[i];
    fail_msg("test: no tensor %s", name);
    return NULL;
}

static void drop(struct checkpoint *c, const char *name)
{
    *find(c, name) = c->list[c->n - 1];
    c->n--;
}

static struct qvl_tensor *add(struct checkpoint *c, const char *name, enum qvl_dtype type, int rank, const int64_t *shape)
{
    struct qvl_tensor *t = &c->list[c->n++];
    char *copy = own(c, strlen(name) + 1);
    strcpy(copy, name);
    *t = (struct qvl_tensor){.name = copy, .type = type, .rank = rank, .bytes = qvl_dtype_bits(type) / 8};
    for (int i = 0; i < rank; i++)
        t->bytes *= (size_t)(t->shape[i] = shape[i]);
    t->data = own(c, t->bytes);
    return t;
}

/* Writes the list and binds it. On success the caller closes both. */
static int bind(struct checkpoint *c, struct qvl_tensors **t, struct qvl_weights *w, qvl_err *err)
{
    *err = (qvl_err){0};
    *t = NULL;
    if (qvl_safetensors_write(file, c->list, c->n, NULL, 0, err) || qvl_safetensors_open(t, file, err))
        fail_msg("%s", err->msg);
    int rc = qvl_weights_bind(w, &c->config, *t, err);
    if (rc) {
        assert_null(w->owned);
        assert_int_equal(rc, err->code);
        qvl_tensors_close(t);
    }
    return rc;
}

static void refuse(struct checkpoint *c, int code, const char *message)
{
    struct qvl_weights w;
    struct qvl_tensors *t;
    qvl_err err;
    int rc = bind(c, &t, &w, &err);
    if (rc != code || !strstr(err.msg, message))
        fail_msg("found %d \"%s\", expected %d \"%s\"", rc, err.msg, code, message);
    unload(c);
}

/* ---------------------------------------------------------------- the tiny model */

static float value(const struct qvl_mat *m, int64_t out, int64_t in)
{
    int64_t at = m->transposed ? in * m->stride + out : out * m->stride + in;
    const char *p = m->data;
    uint16_t h;
    float f;
    if (m->type == QVL_DT_F32) {
        memcpy(&f, p + 4 * at, 4);
        return f;
    }
    memcpy(&h, p + 2 * at, 2);
    return m->type == QVL_DT_BF16 ? qvl_bf16_to_f32(h) : qvl_f16_to_f32(h);
}

static void check_mat(const struct qvl_tensors *t, const char *name, const struct qvl_mat *m)
{
    const struct qvl_tensor *x = qvl_tensors_find(t, name);
    assert_non_null(x);
    assert_ptr_equal(m->data, x->data); /* used where it is mapped */
    assert_int_equal(m->type, x->type);
    assert_int_equal(m->transposed, 0);
    assert_int_equal(m->n_out, x->shape[0]);
    assert_int_equal(m->n_out * m->n_in * qvl_dtype_bits(x->type) / 8, x->bytes);
    assert_int_equal(m->stride, m->n_in);
}

static void check_vec(const struct qvl_tensors *t, const char *name, const float *v)
{
    const struct qvl_tensor *x = qvl_tensors_find(t, name);
    struct qvl_mat m = {.data = x->data, .type = x->type, .n_out = 1, .n_in = x->shape[0], .stride = x->shape[0]};
    assert_int_equal((uintptr_t)v % 64, 0);
    for (int64_t i = 0; i < x->shape[0]; i++)
        assert_true(v[i] == value(&m, 0, i));
}

static void tiny_is_bound(void **state)
{
    struct qvl_config c;
    struct qvl_tensors *t;
    struct qvl_weights w;
    qvl_err err;
    uint64_t mapped, copied, params, file_elems = 0;
    (void)state;
    assert_int_equal(qvl_config_load(&c, TINY, &err), 0);
    assert_int_equal(qvl_safetensors_open(&t, TINY, &err), 0);
    if (qvl_weights_bind(&w, &c, t, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < qvl_tensors_count(t); i++)
        file_elems += qvl_tensors_at(t, i)->bytes / 2; /* all bf16 */
    assert_int_equal(w.n_params, file_elems);
    assert_int_equal(qvl_weights_estimate(&c, QVL_DT_BF16, &mapped, &copied, &params), 0);
    assert_int_equal(w.mapped_bytes, mapped);
    assert_int_equal(w.copied_bytes, copied);
    assert_int_equal(w.n_params, params);
    assert_string_equal(qvl_weights_warnings(&w), "");
    check_mat(t, "model.visual.patch_embed.proj.weight", &w.vision.patch);
    assert_int_equal(w.vision.patch.n_in, 3 * 2 * 16 * 16);
    check_vec(t, "model.visual.patch_embed.proj.bias", w.vision.patch_b);
    check_mat(t, "model.visual.pos_embed.weight", &w.vision.pos);
    check_vec(t, "model.visual.blocks.5.norm1.weight", w.vision.blocks[5].norm1.w);
    check_vec(t, "model.visual.blocks.5.norm2.bias", w.vision.blocks[5].norm2.b);
    check_mat(t, "model.visual.blocks.3.attn.qkv.weight", &w.vision.blocks[3].qkv);
    check_vec(t, "model.visual.blocks.3.attn.qkv.bias", w.vision.blocks[3].qkv_b);
    check_mat(t, "model.visual.blocks.0.attn.proj.weight", &w.vision.blocks[0].proj);
    check_vec(t, "model.visual.blocks.0.attn.proj.bias", w.vision.blocks[0].proj_b);
    check_mat(t, "model.visual.blocks.4.mlp.linear_fc1.weight", &w.vision.blocks[4].fc1);
    check_vec(t, "model.visual.blocks.4.mlp.linear_fc1.bias", w.vision.blocks[4].fc1_b);
    check_mat(t, "model.visual.blocks.4.mlp.linear_fc2.weight", &w.vision.blocks[4].fc2);
    check_vec(t, "model.visual.blocks.4.mlp.linear_fc2.bias", w.vision.blocks[4].fc2_b);
    check_vec(t, "model.visual.merger.norm.weight", w.vision.merger.norm.w);
    check_mat(t, "model.visual.merger.linear_fc1.weight", &w.vision.merger.fc1);
    check_mat(t, "model.visual.merger.linear_fc2.weight", &w.vision.merger.fc2);
    check_vec(t, "model.visual.merger.linear_fc2.bias", w.vision.merger.fc2_b);
    check_vec(t, "model.visual.deepstack_merger_list.2.norm.weight", w.vision.tap[2].norm.w);
    check_vec(t, "model.visual.deepstack_merger_list.1.norm.bias", w.vision.tap[1].norm.b);
    check_mat(t, "model.visual.deepstack_merger_list.1.linear_fc2.weight", &w.vision.tap[1].fc2);
    check_mat(t, "model.language_model.embed_tokens.weight", &w.text.embed);
    assert_memory_equal(&w.text.head, &w.text.embed, sizeof w.text.head); /* tied */
    check_vec(t, "model.language_model.norm.weight", w.text.norm);
    const struct qvl_layer_weights *l = &w.text.layers[5];
    check_vec(t, "model.language_model.layers.5.input_layernorm.weight", l->norm1);
    check_vec(t, "model.language_model.layers.5.post_attention_layernorm.weight", l->norm2);
    check_vec(t, "model.language_model.layers.5.self_attn.q_norm.weight", l->q_norm);
    check_vec(t, "model.language_model.layers.5.self_attn.k_norm.weight", l->k_norm);
    check_mat(t, "model.language_model.layers.5.self_attn.q_proj.weight", &l->q);
    check_mat(t, "model.language_model.layers.5.self_attn.k_proj.weight", &l->k);
    check_mat(t, "model.language_model.layers.5.self_attn.v_proj.weight", &l->v);
    check_mat(t, "model.language_model.layers.5.self_attn.o_proj.weight", &l->o);
    check_mat(t, "model.language_model.layers.5.mlp.gate_proj.weight", &l->gate);
    check_mat(t, "model.language_model.layers.5.mlp.up_proj.weight", &l->up);
    check_mat(t, "model.language_model.layers.5.mlp.down_proj.weight", &l->down);
    assert_null(l->e_gate);
    qvl_weights_free(&w);
    qvl_tensors_close(&t);
    qvl_config_free(&c);
}

/* Every model of the goldens: the estimate is what binding reports, whatever the type. */
static void estimates_hold(void **state)
{
    static const char *const names[] = {TINY, GOLDEN "moe-bf16", GOLDEN "moe-mixed-f32", GOLDEN "sharded-bf16", GOLDEN "taps-f16",
                                        GOLDEN "untied-f32"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct checkpoint *c = load(names[i]);
        struct qvl_weights w;
        uint64_t mapped, copied, params;
        qvl_err err;
        if (qvl_weights_bind(&w, &c->config, c->source, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(qvl_weights_estimate(&c->config, w.text.embed.type, &mapped, &copied, &params), 0);
        assert_int_equal(w.mapped_bytes, mapped);
        assert_int_equal(w.copied_bytes, copied);
        assert_int_equal(w.n_params, params);
        qvl_weights_free(&w);
        unload(c);
    }
}

/* Each row of the table of names: prefixes for the vision tower, the text layers and the head. */
static void name_variants(void **state)
{
    static const char *const rows[][3] = {
        {"model.visual.", "model.language_model.", "lm_head."},
        {"visual.", "language_model.", "lm_head."},
        {"visual.", "model.", "lm_head."},
        {"visual.", "language_model.model.", "language_model.lm_head."},
        {"model.visual.", "model.", "lm_head."},
        {"vision_tower.", "language_model.model.", "language_model.lm_head."},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct checkpoint *c = load(GOLDEN "untied-f32");
        struct qvl_tensors *t;
        struct qvl_weights w;
        qvl_err err;
        for (size_t k = 0; k < c->n; k++) {
            static const char *const old[3] = {"model.visual.", "model.language_model.", "lm_head."};
            int which = 0;
            while (which < 3 && strncmp(c->list[k].name, old[which], strlen(old[which])) != 0)
                which++;
            assert_true(which < 3);
            const char *tail = c->list[k].name + strlen(old[which]);
            char *name = own(c, 256);
            snprintf(name, 256, "%s%s", rows[i][which], tail);
            c->list[k].name = name;
        }
        if (bind(c, &t, &w, &err))
            fail_msg("%s: %s", rows[i][0], err.msg);
        assert_string_equal(qvl_weights_warnings(&w), "");
        assert_ptr_not_equal(w.text.head.data, w.text.embed.data);
        qvl_weights_free(&w);
        qvl_tensors_close(&t);
        unload(c);
    }
}

static void heads(void **state)
{
    struct qvl_tensors *t;
    struct qvl_weights w;
    qvl_err err;
    (void)state;
    struct checkpoint *c = load(GOLDEN "untied-f32");
    drop(c, "lm_head.weight");
    assert_int_equal(bind(c, &t, &w, &err), QVL_E_FORMAT);
    assert_non_null(strstr(err.msg, "lm_head.weight: missing, and tie_word_embeddings is false (1 missing"));
    c->config.text.tied = c->config.text.tied_unsaid = 1; /* no file speaks of it: the embedding is the head */
    assert_int_equal(bind(c, &t, &w, &err), 0);
    assert_ptr_equal(w.text.head.data, w.text.embed.data);
    qvl_weights_free(&w);
    qvl_tensors_close(&t);
    unload(c);
    /* tied by the configuration, and stored all the same: the stored one */
    c = load(GOLDEN "untied-f32");
    c->config.text.tied = 1;
    assert_int_equal(bind(c, &t, &w, &err), 0);
    check_mat(t, "lm_head.weight", &w.text.head);
    assert_string_equal(qvl_weights_warnings(&w), "");
    qvl_weights_free(&w);
    qvl_tensors_close(&t);
    find(c, "lm_head.weight")->shape[0] /= 2; /* a wrong head is refused even when it is tied */
    find(c, "lm_head.weight")->bytes /= 2;
    refuse(c, QVL_E_FORMAT, "lm_head.weight: found");
}

static void missing_and_wrong(void **state)
{
    struct checkpoint *c;
    struct qvl_tensor *x;
    (void)state;
    c = load(TINY);
    drop(c, "model.language_model.layers.2.self_attn.k_norm.weight");
    refuse(c, QVL_E_FORMAT, "tensor model.language_model.layers.2.self_attn.k_norm.weight: missing (1 missing");
    c = load(TINY);
    drop(c, "model.visual.merger.norm.bias");
    drop(c, "model.language_model.layers.2.mlp.up_proj.weight");
    drop(c, "model.language_model.norm.weight");
    refuse(c, QVL_E_FORMAT, "tensor model.visual.merger.norm.bias: missing (3 missing in all, 164 of the checkpoint's 164");
    c = load(TINY);
    c->n = 0;
    refuse(c, QVL_E_FORMAT, "model.visual.patch_embed.proj.weight: missing (167 missing in all");
    /* right number of elements, wrong shape */
    c = load(TINY);
    x = find(c, "model.language_model.layers.0.self_attn.k_proj.weight");
    x->shape[0] = 256, x->shape[1] = 128;
    refuse(c, QVL_E_FORMAT, "layers.0.self_attn.k_proj.weight: found [256,128] BF16, expected [128,256] BF16");
    c = load(TINY);
    x = find(c, "model.language_model.layers.0.input_layernorm.weight");
    x->rank = 2, x->shape[1] = 1;
    refuse(c, QVL_E_FORMAT, "input_layernorm.weight: found [256,1] BF16, expected [256] BF16");
    c = load(TINY);
    x = find(c, "model.visual.deepstack_merger_list.0.norm.weight"); /* [4C], and the main merger [C] */
    x->shape[0] = 128, x->bytes = 256;
    refuse(c, QVL_E_FORMAT, "deepstack_merger_list.0.norm.weight: found [128] BF16, expected [512] BF16");
    c = load(TINY);
    c->config.text.n_vocab++;
    refuse(c, QVL_E_FORMAT, "embed_tokens.weight: found [2432,256] BF16, expected [2433,256] BF16");
    /* types */
    c = load(TINY);
    drop(c, "model.language_model.norm.weight");
    add(c, "model.language_model.norm.weight", QVL_DT_F64, 1, (int64_t[]){256});
    refuse(c, QVL_E_UNSUPPORTED, "model.language_model.norm.weight: found [256] F64, expected the type BF16, F16 or F32");
    c = load(TINY);
    drop(c, "model.language_model.layers.1.mlp.down_proj.weight");
    add(c, "model.language_model.layers.1.mlp.down_proj.weight", QVL_DT_F8_E4M3, 2, (int64_t[]){256, 512});
    refuse(c, QVL_E_UNSUPPORTED, "down_proj.weight: found [256,512] F8_E4M3");
    /* two spellings of one tensor */
    c = load(TINY);
    add(c, "visual.merger.norm.bias", QVL_DT_BF16, 1, (int64_t[]){128});
    refuse(c, QVL_E_FORMAT, "model.visual.merger.norm.bias");
    c = load(TINY);
    c->config.text.d_ff = 1 << 22; /* large, but every product is checked against the file before memory is taken */
    refuse(c, QVL_E_FORMAT, "gate_proj.weight: found [512,256] BF16");
}

static void extra_tensors_warn(void **state)
{
    struct checkpoint *c = load(TINY);
    struct qvl_tensors *t;
    struct qvl_weights w;
    qvl_err err;
    (void)state;
    add(c, "model.visual.rotary_pos_emb.inv_freq", QVL_DT_F32, 1, (int64_t[]){16});
    add(c, "model.language_model.rotary_emb.inv_freq", QVL_DT_F32, 1, (int64_t[]){16});
    add(c, "optimizer.step", QVL_DT_I64, 0, NULL);
    assert_int_equal(bind(c, &t, &w, &err), 0);
    assert_non_null(strstr(qvl_weights_warnings(&w), "2 tensors"));
    qvl_weights_free(&w);
    qvl_tensors_close(&t);
    unload(c);
}

/* Every type of vector and matrix, side by side in one file. */
static void mixed_types(void **state)
{
    static const uint16_t half[2] = {0x3e00, 0xc400}; /* f16: 1.5, -4 */
    struct checkpoint *c = load(TINY);
    struct qvl_tensors *t;
    struct qvl_weights w;
    qvl_err err;
    (void)state;
    drop(c, "model.language_model.norm.weight");
    add(c, "model.language_model.norm.weight", QVL_DT_F16, 1, (int64_t[]){256});
    memcpy(c->owned[c->n_owned - 1], half, 4);
    drop(c, "model.visual.patch_embed.proj.bias");
    add(c, "model.visual.patch_embed.proj.bias", QVL_DT_F32, 1, (int64_t[]){128});
    ((float *)c->owned[c->n_owned - 1])[127] = 0.1f;
    drop(c, "model.language_model.layers.0.mlp.up_proj.weight");
    add(c, "model.language_model.layers.0.mlp.up_proj.weight", QVL_DT_F32, 2, (int64_t[]){512, 256});
    assert_int_equal(bind(c, &t, &w, &err), 0);
    assert_true(w.text.norm[0] == 1.5f && w.text.norm[1] == -4.0f);
    assert_true(w.vision.patch_b[127] == 0.1f);
    assert_int_equal(w.text.layers[0].up.type, QVL_DT_F32);
    assert_int_equal(w.text.layers[0].gate.type, QVL_DT_BF16);
    qvl_weights_free(&w);
    qvl_tensors_close(&t);
    unload(c);
}

static void patch_with_channels_last(void **state)
{
    struct checkpoint *c = load(TINY);
    struct qvl_tensors *t;
    struct qvl_weights w;
    uint64_t mapped, copied, params;
    qvl_err err;
    (void)state;
    struct qvl_tensor old = *find(c, "model.visual.patch_embed.proj.weight");
    drop(c, old.name);
    struct qvl_tensor *x = add(c, "vision_tower.patch_embed.proj.weight", QVL_DT_BF16, 5, (int64_t[]){128, 2, 16, 16, 3});
    const uint16_t *src = old.data;
    uint16_t *dst = c->owned[c->n_owned - 1];
    assert_ptr_equal(x->data, dst);
    for (int i = 0; i < 128; i++)
        for (int ch = 0; ch < 3; ch++)
            for (int s = 0; s < 512; s++)
                dst[(i * 512 + s) * 3 + ch] = src[(i * 3 + ch) * 512 + s];
    assert_int_equal(bind(c, &t, &w, &err), 0);
    assert_memory_equal(w.vision.patch.data, old.data, old.bytes);
    assert_int_equal(w.vision.patch.stride, 1536);
    qvl_weights_estimate(&c->config, QVL_DT_BF16, &mapped, &copied, &params);
    assert_int_equal(w.mapped_bytes, mapped - old.bytes);
    assert_int_equal(w.copied_bytes, copied + old.bytes);
    qvl_weights_free(&w);
    qvl_tensors_close(&t);
    x->shape[4] = 1, x->shape[1] = 6;
    refuse(c, QVL_E_FORMAT, "found [128,6,16,16,1] BF16, expected [128,3,2,16,16]");
}

/* ---------------------------------------------------------------- experts */

/* Replaces the experts of every layer by the same numbers in another layout. */
enum layout { PUBLISHED, OUTPUT_FIRST, STACKED, SINGLE };

static uint16_t number(int layer, int64_t e, int which, int64_t out, int64_t in) /* a bf16 for each place */
{
    return (uint16_t)(0x3c00 + ((layer * 31 + e * 7 + which * 101 + out * 13 + in * 17) & 0x3ff));
}

static void fill_experts(struct checkpoint *c, int i, enum layout layout)
{
    const struct qvl_text_config *t = &c->config.text;
    int64_t E = t->n_expert, H = t->d_model, F = t->d_ff_expert;
    char name[160];
    uint16_t *p = NULL;
    if (layout == PUBLISHED || layout == OUTPUT_FIRST) {
        int in_first = layout == PUBLISHED;
        snprintf(name, sizeof name, "model.language_model.layers.%d.mlp.experts.gate_up_proj", i);
        add(c, name, QVL_DT_BF16, 3, in_first ? (int64_t[]){E, H, 2 * F} : (int64_t[]){E, 2 * F, H});
        p = c->owned[c->n_owned - 1];
        for (int64_t e = 0; e < E; e++)
            for (int64_t a = 0; a < (in_first ? H : 2 * F); a++)
                for (int64_t b = 0; b < (in_first ? 2 * F : H); b++) {
                    int64_t out = in_first ? b : a, in = in_first ? a : b;
                    *p++ = number(i, e, out >= F, out % F, in);
                }
        snprintf(name, sizeof name, "model.language_model.layers.%d.mlp.experts.down_proj", i);
        add(c, name, QVL_DT_BF16, 3, in_first ? (int64_t[]){E, F, H} : (int64_t[]){E, H, F});
        p = c->owned[c->n_owned - 1];
        for (int64_t e = 0; e < E; e++)
            for (int64_t a = 0; a < (in_first ? F : H); a++)
                for (int64_t b = 0; b < (in_first ? H : F); b++)
                    *p++ = number(i, e, 2, in_first ? b : a, in_first ? a : b);
        return;
    }
    static const char *const which[3] = {"gate_proj", "up_proj", "down_proj"};
    for (int k = 0; k < 3; k++) {
        int64_t rows = k == 2 ? H : F, cols = k == 2 ? F : H;
        if (layout == STACKED) {
            snprintf(name, sizeof name, "language_model.model.layers.%d.mlp.switch_mlp.%s.weight", i, which[k]);
            add(c, name, QVL_DT_BF16, 3, (int64_t[]){E, rows, cols});
            p = c->owned[c->n_owned - 1];
        }
        for (int64_t e = 0; e < E; e++) {
            if (layout == SINGLE) {
                snprintf(name, sizeof name, "model.language_model.layers.%d.mlp.experts.%d.%s.weight", i, (int)e, which[k]);
                add(c, name, QVL_DT_BF16, 2, (int64_t[]){rows, cols});
                p = c->owned[c->n_owned - 1];
            }
            for (int64_t out = 0; out < rows; out++)
                for (int64_t in = 0; in < cols; in++)
                    *p++ = number(i, e, k, out, in);
        }
    }
}

static void drop_experts(struct checkpoint *c)
{
    for (size_t k = 0; k < c->n;)
        if (strstr(c->list[k].name, ".experts."))
            c->list[k] = c->list[--c->n];
        else
            k++;
}

/* All numbers of all experts through the bound matrices. d_ff_expert 0: as configured; other values make the shapes of
 * one tensor ambiguous. */
static void check_layout(enum layout layout, int64_t d_ff_expert)
{
    struct checkpoint *c = load(GOLDEN "moe-bf16");
    const struct qvl_text_config *t = &c->config.text;
    struct qvl_tensors *src;
    struct qvl_weights w;
    uint64_t mapped, copied, params;
    qvl_err err;
    drop_experts(c);
    if (d_ff_expert)
        c->config.text.d_ff_expert = (int)d_ff_expert;
    for (int i = 0; i < t->n_layer; i++)
        if (t->is_sparse[i])
            fill_experts(c, i, layout);
    if (bind(c, &src, &w, &err))
        fail_msg("layout %d, F %d: %s", (int)layout, t->d_ff_expert, err.msg);
    for (int i = 0; i < t->n_layer; i++) {
        const struct qvl_layer_weights *l = &w.text.layers[i];
        if (!t->is_sparse[i])
            continue;
        assert_int_equal(l->router.n_out, t->n_expert);
        for (int e = 0; e < t->n_expert; e++) {
            const struct qvl_mat *m[3] = {&l->e_gate[e], &l->e_up[e], &l->e_down[e]};
            for (int k = 0; k < 3; k++) {
                assert_int_equal(m[k]->n_out, k == 2 ? t->d_model : t->d_ff_expert);
                assert_int_equal(m[k]->n_in, k == 2 ? t->d_ff_expert : t->d_model);
                assert_int_equal(m[k]->transposed, layout == PUBLISHED);
                for (int64_t out = 0; out < m[k]->n_out; out++)
                    for (int64_t in = 0; in < m[k]->n_in; in++)
                        assert_true(value(m[k], out, in) == qvl_bf16_to_f32(number(i, e, k, out, in)));
            }
        }
    }
    qvl_weights_estimate(&c->config, QVL_DT_BF16, &mapped, &copied, &params);
    assert_int_equal(w.mapped_bytes, mapped);
    assert_int_equal(w.n_params, params);
    assert_string_equal(qvl_weights_warnings(&w), "");
    qvl_weights_free(&w);
    qvl_tensors_close(&src);
    unload(c);
}

static void expert_layouts(void **state)
{
    struct checkpoint *c = load(GOLDEN "moe-bf16");
    int64_t h = c->config.text.d_model;
    (void)state;
    unload(c);
    assert_int_equal(h % 2, 0);
    for (int layout = PUBLISHED; layout <= SINGLE; layout++)
        check_layout((enum layout)layout, 0);
    check_layout(PUBLISHED, h / 2); /* gate_up is square: down decides */
    check_layout(OUTPUT_FIRST, h / 2);
    check_layout(PUBLISHED, h); /* down is square: gate_up decides */
    check_layout(OUTPUT_FIRST, h);
}

static void expert_refusals(void **state)
{
    struct checkpoint *c = load(GOLDEN "moe-bf16");
    struct qvl_tensor *x;
    (void)state;
    int first = 0;
    while (!c->config.text.is_sparse[first])
        first++;
    char name[160];
    snprintf(name, sizeof name, "model.language_model.layers.%d.mlp.experts.down_proj", first);
    drop(c, name);
    refuse(c, QVL_E_FORMAT, "mlp.experts.down_proj: missing (1 missing");
    c = load(GOLDEN "moe-bf16");
    x = find(c, name);
    int64_t swap = x->shape[1]; /* the layouts of one layer must agree */
    x->shape[1] = x->shape[2];
    x->shape[2] = swap;
    refuse(c, QVL_E_FORMAT, "mlp.experts.down_proj: found");
    c = load(GOLDEN "moe-bf16");
    drop_experts(c);
    refuse(c, QVL_E_FORMAT, "mlp.experts.gate_up_proj: missing");
    c = load(GOLDEN "moe-bf16");
    c->config.text.n_expert++;
    refuse(c, QVL_E_FORMAT, "mlp.gate.weight: found");
    c = load(GOLDEN "moe-bf16");
    drop_experts(c);
    for (int i = 0; i < c->config.text.n_layer; i++)
        if (c->config.text.is_sparse[i])
            fill_experts(c, i, SINGLE);
    snprintf(name, sizeof name, "model.language_model.layers.%d.mlp.experts.1.up_proj.weight", first);
    drop(c, name);
    refuse(c, QVL_E_FORMAT, "mlp.experts.1.up_proj.weight: missing (1 missing");
}

/* ---------------------------------------------------------------- random weights */

static void random_weights(void **state)
{
    static const char *const names[] = {TINY, GOLDEN "moe-bf16", GOLDEN "untied-f32"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (int k = 0; k < 2; k++) {
            enum qvl_dtype type = k ? QVL_DT_F32 : QVL_DT_BF16;
            struct checkpoint *c = load(names[i]);
            const struct qvl_text_config *t = &c->config.text;
            struct qvl_weights a, b;
            uint64_t mapped, copied, params;
            qvl_err err;
            double sum = 0, square = 0;
            assert_int_equal(qvl_weights_random(&a, &c->config, type, &err), 0);
            assert_int_equal(qvl_weights_random(&b, &c->config, type, &err), 0);
            qvl_weights_estimate(&c->config, type, &mapped, &copied, &params);
            assert_int_equal(a.n_params, params);
            assert_int_equal(a.mapped_bytes, 0);
            assert_true(a.copied_bytes >= mapped + copied && a.copied_bytes < mapped + copied + 64 * 4096);
            const struct qvl_mat *m = &a.text.embed;
            assert_int_equal(m->n_out, t->n_vocab);
            assert_memory_equal(m->data, b.text.embed.data, (size_t)(m->n_out * m->n_in) * qvl_dtype_bits(type) / 8);
            for (int64_t r = 0; r < m->n_out; r++)
                for (int64_t j = 0; j < m->n_in; j++) {
                    double v = value(m, r, j);
                    sum += v;
                    square += v * v;
                }
            double n = (double)(m->n_out * m->n_in), sd = 1 / sqrt((double)m->n_in);
            assert_true(fabs(sum / n) < 6 * sd / sqrt(n));               /* mean 0 */
            assert_true(fabs(square / n * (double)m->n_in - 1) < 9 / sqrt(n) + 0.004); /* variance 1/n_in; bf16 rounds */
            assert_true(a.text.norm[0] == 1.0f && a.vision.tap[0].norm.b[0] == 0.0f && a.vision.patch_b[1] == 0.0f);
            assert_true(a.vision.blocks[0].norm1.w[0] == 1.0f && a.vision.blocks[0].qkv_b[0] == 0.0f);
            assert_int_equal(a.text.head.data == a.text.embed.data, t->tied);
            for (int l = 0; l < t->n_layer && t->is_sparse; l++)
                if (t->is_sparse[l]) {
                    const struct qvl_layer_weights *w = &a.text.layers[l];
                    assert_int_equal(w->e_up[1].n_out, t->d_ff_expert);
                    assert_true(value(&w->e_up[1], 0, 0) != value(&w->e_gate[1], 0, 0));
                    assert_true(value(&w->e_down[t->n_expert - 1], t->d_model - 1, t->d_ff_expert - 1) != 0);
                }
            qvl_weights_free(&a);
            qvl_weights_free(&b);
            unload(c);
        }
    }
}

static void random_refusals(void **state)
{
    struct qvl_config c;
    struct qvl_weights w;
    qvl_err err;
    (void)state;
    assert_int_equal(qvl_config_shape(&c, "235b-a22b", &err), 0);
    assert_int_equal(qvl_weights_random(&w, &c, QVL_DT_F16, &err), QVL_E_ARG);
    c.text.n_expert = 4096; /* some 15 TB */
    assert_int_equal(qvl_weights_random(&w, &c, QVL_DT_BF16, &err), QVL_E_NOMEM);
    assert_non_null(strstr(err.msg, "available"));
    assert_null(w.owned);
    qvl_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical_names),
        cmocka_unit_test(tiny_is_bound),
        cmocka_unit_test(estimates_hold),
        cmocka_unit_test_setup_teardown(name_variants, make_root, remove_root),
        cmocka_unit_test_setup_teardown(heads, make_root, remove_root),
        cmocka_unit_test_setup_teardown(missing_and_wrong, make_root, remove_root),
        cmocka_unit_test_setup_teardown(extra_tensors_warn, make_root, remove_root),
        cmocka_unit_test_setup_teardown(mixed_types, make_root, remove_root),
        cmocka_unit_test_setup_teardown(patch_with_channels_last, make_root, remove_root),
        cmocka_unit_test_setup_teardown(expert_layouts, make_root, remove_root),
        cmocka_unit_test_setup_teardown(expert_refusals, make_root, remove_root),
        cmocka_unit_test(random_weights),
        cmocka_unit_test(random_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
