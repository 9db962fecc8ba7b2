/* gguf_names.c - the lists behind gguf_names.h. Where two families of writers differ, llama.cpp's name comes first: it is the one
 * that is written. */
#include "model/gguf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

struct name_pair {
    const char *from, *to;
};

static const struct name_pair layer_names[] = {
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    {"attn_k_norm.weight", "self_attn.k_norm.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
    {"ffn_gate_inp.weight", "mlp.gate.weight"},
    {"ffn_gate_exps.weight", "mlp.switch_mlp.gate_proj.weight"},
    {"ffn_up_exps.weight", "mlp.switch_mlp.up_proj.weight"},
    {"ffn_down_exps.weight", "mlp.switch_mlp.down_proj.weight"},
};
static const struct name_pair text_names[] = {
    {"token_embd.weight", "language_model.embed_tokens.weight"},
    {"output_norm.weight", "language_model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};
static const struct name_pair block_names[] = {
    {"ln1", "norm1"}, {"ln2", "norm2"}, {"norm1", "norm1"}, {"norm2", "norm2"},
    {"attn_qkv", "attn.qkv"}, {"attn_out", "attn.proj"},
    {"ffn_up", "mlp.linear_fc1"}, {"ffn_down", "mlp.linear_fc2"},
    {"mlp.linear_fc1", "mlp.linear_fc1"}, {"mlp.linear_fc2", "mlp.linear_fc2"},
};
static const struct name_pair vision_names[] = {
    {"v.patch_embd", "patch_embed.proj"}, {"v.patch_embed", "patch_embed.proj"},
    {"v.position_embd", "pos_embed"}, {"v.pos_embed", "pos_embed"},
    {"v.post_ln", "merger.norm"}, {"mm.0", "merger.linear_fc1"}, {"mm.2", "merger.linear_fc2"},
    {"v.merger.norm", "merger.norm"}, {"v.merger.linear_fc1", "merger.linear_fc1"}, {"v.merger.linear_fc2", "merger.linear_fc2"},
};
static const struct name_pair tap_names[] = {
    {"norm", "norm"}, {"fc1", "linear_fc1"}, {"fc2", "linear_fc2"}, {"linear_fc1", "linear_fc1"}, {"linear_fc2", "linear_fc2"},
};

/* ---------------------------------------------------------------- both directions */

#define LIST(names) {names, QVL_COUNT(names)}
static const struct {
    const struct name_pair *v;
    size_t n;
} lists[QVL_GGUF_N_NAMES] = {
    [QVL_GGUF_TEXT] = LIST(text_names),   [QVL_GGUF_LAYER] = LIST(layer_names), [QVL_GGUF_VISION] = LIST(vision_names),
    [QVL_GGUF_BLOCK] = LIST(block_names), [QVL_GGUF_TAP] = LIST(tap_names),
};

const char *qvl_gguf_to_canonical(enum qvl_gguf_names list, const char *from, size_t len)
{
    for (size_t i = 0; i < lists[list].n; i++)
        if (strlen(lists[list].v[i].from) == len && memcmp(lists[list].v[i].from, from, len) == 0)
            return lists[list].v[i].to;
    return NULL;
}

static const char *from_canonical(enum qvl_gguf_names list, const char *to, size_t len)
{
    for (size_t i = 0; i < lists[list].n; i++)
        if (strlen(lists[list].v[i].to) == len && memcmp(lists[list].v[i].to, to, len) == 0)
            return lists[list].v[i].from;
    return NULL;
}

/* Behind `prefix` and a number: the number and what follows its dot. */
static const char *numbered(const char *s, const char *prefix, long *number)
{
    size_t n = strlen(prefix);
    char *end;
    if (strncmp(s, prefix, n) != 0)
        return NULL;
    *number = strtol(s + n, &end, 10);
    return *end == '.' ? end + 1 : NULL;
}

/* stem.suffix of the vision tower. */
static int vision_name(char *buf, size_t size, const char *name, const struct qvl_config *c)
{
    const char *dot = strrchr(name, '.'), *tail, *to;
    long n = 0;
    if (!dot)
        return 0;
    if ((tail = numbered(name, "visual.blocks.", &n)) != NULL) {
        to = from_canonical(QVL_GGUF_BLOCK, tail, (size_t)(dot - tail));
        return to ? snprintf(buf, size, "v.blk.%ld.%s%s", n, to, dot) : 0;
    }
    if ((tail = numbered(name, "visual.deepstack_merger_list.", &n)) != NULL) {
        to = from_canonical(QVL_GGUF_TAP, tail, (size_t)(dot - tail));
        return to && n >= 0 && n < c->vision.n_tap ? snprintf(buf, size, "v.deepstack.%d.%s%s", c->vision.tap[n], to, dot) : 0;
    }
    tail = name + strlen("visual.");
    to = from_canonical(QVL_GGUF_VISION, tail, (size_t)(dot - tail));
    return to ? snprintf(buf, size, "%s%s", to, dot) : 0;
}

int qvl_gguf_name_of(char *buf, size_t size, const char *canonical, const struct qvl_config *c)
{
    long n = 0;
    int len = 0;
    const char *tail = numbered(canonical, "language_model.layers.", &n), *to;
    if (strncmp(canonical, "visual.", strlen("visual.")) == 0) {
        len = vision_name(buf, size, canonical, c);
    } else if (tail) {
        to = from_canonical(QVL_GGUF_LAYER, tail, strlen(tail));
        len = to ? snprintf(buf, size, "blk.%ld.%s", n, to) : 0;
    } else {
        to = from_canonical(QVL_GGUF_TEXT, canonical, strlen(canonical));
        len = to ? snprintf(buf, size, "%s", to) : 0;
    }
    return len > 0 && (size_t)len < size;
}
