#!/usr/bin/env python3
"""Write the small random Qwen3-VL checkpoints of tests/golden/models/. usage: random_models.py OUT_DIR [NAME...]

Each is a complete published-style folder (config, weights, tokenizer, processor settings) whose proportions differ from
every released size in the ways that break an engine with built-in assumptions: odd head counts and widths, an untied
head, f16 and f32 weights, shards, other special-token ids, unsorted DeepStack taps, mixed dense and expert layers.
Weights are drawn so that activations neither vanish nor explode, norms are not 1 and biases not 0; the same seed gives
the same bytes on every machine. The tokenizer is the tiny model's, cut to a few merges so that logits stay small.
"""
import json
import os
import sys

import numpy as np
import torch

from golden import write_safetensors

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.normpath(os.path.join(HERE, "..", "..", "models", "tiny"))
MERGES = 96  # learned merges kept; vocabulary = 256 bytes + MERGES + added tokens, then PADDING rows without a token
PADDING = 6

# Fields: text (hidden, layers, heads, kv heads, head dim, intermediate, mrope section, theta), vision (hidden, depth,
# heads, intermediate, position table entries, taps), dtype, and the oddities of the model.
MODELS = {
    # Published style; 3 query heads on 1 kv head, 3 * 48 != 48; a head of its own.
    "untied-f32": dict(
        text=(48, 2, 3, 1, 48, 72, (10, 8, 6), 5000000.0), vision=(24, 2, 3, 40, 36, [0]),
        dtype="float32", tied=False, seed=11),
    # Re-saved style; head dim 72 as in the large vision towers; taps out of order.
    "taps-f16": dict(
        text=(48, 3, 4, 2, 32, 72, (6, 5, 5), 10000.0), vision=(72, 3, 1, 76, 64, [2, 0]),
        dtype="float16", tied=True, style5=True, seed=21),
    # Three shards with an index; added tokens in another order; 20 values a vision head, 5 query heads on 1 kv head.
    "sharded-bf16": dict(
        text=(56, 3, 5, 1, 32, 88, (8, 4, 4), 1000000.0), vision=(40, 2, 2, 56, 100, [1]),
        dtype="bfloat16", tied=True, shards=3, permute=True, seed=31),
    # Experts in the published layout [experts, in, out].
    "moe-bf16": dict(
        text=(48, 3, 4, 2, 32, 64, (6, 6, 4), 5000000.0), vision=(32, 2, 2, 48, 36, [0, 1]),
        dtype="bfloat16", tied=False, experts=(8, 2, 20, 1, [], True), seed=41),
    # Every second layer has experts except layer 3; re-saved layout [experts, out, in]; norm_topk_prob says false.
    "moe-mixed-f32": dict(
        text=(40, 5, 4, 1, 24, 56, (5, 4, 3), 10000.0), vision=(16, 2, 1, 24, 16, [1, 0]),
        dtype="float32", tied=True, style5=True, experts=(6, 3, 16, 2, [3], False), seed=51),
}


def read_json(name):
    with open(os.path.join(TINY, name), encoding="utf-8") as f:
        return json.load(f)


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2, ensure_ascii=False, sort_keys=name != "tokenizer.json")
        f.write("\n")


def write_tokenizer(folder, spec):
    """The tiny model's tokenizer with its first MERGES merges; returns {added token: id}."""
    tok, conf = read_json("tokenizer.json"), read_json("tokenizer_config.json")
    base = 256 + MERGES
    tok["model"]["vocab"] = {t: i for t, i in tok["model"]["vocab"].items() if i < base}
    tok["model"]["merges"] = tok["model"]["merges"][:MERGES]
    added = tok["added_tokens"]
    order = np.random.default_rng(spec["seed"]).permutation(len(added)) if spec.get("permute") else range(len(added))
    for entry, place in zip(added, order):
        entry["id"] = base + int(place)
    added.sort(key=lambda e: e["id"])
    conf["added_tokens_decoder"] = {
        str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in added}
    write_json(folder, "tokenizer.json", tok)
    write_json(folder, "tokenizer_config.json", conf)
    with open(os.path.join(TINY, "chat_template.jinja"), encoding="utf-8") as f:
        template = f.read()
    with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8") as f:
        f.write(template)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        value = read_json(name)
        value["size"] = {"shortest_edge": 6144, "longest_edge": 40960 if name[0] == "p" else 163840}
        write_json(folder, name, value)
    return {e["content"]: e["id"] for e in added}


def make_config(spec, ids):
    hidden, layers, heads, kv, head_dim, inter, section, theta = spec["text"]
    c, depth, vheads, vinter, table, taps = spec["vision"]
    kind = "qwen3_vl_moe" if "experts" in spec else "qwen3_vl"
    vocab = 256 + MERGES + len(ids) + PADDING
    text = dict(
        attention_bias=False, attention_dropout=0.0, bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|im_end|>"],
        head_dim=head_dim, hidden_act="silu", hidden_size=hidden, initializer_range=0.02, intermediate_size=inter,
        max_position_embeddings=4096, model_type=kind + "_text", num_attention_heads=heads, num_hidden_layers=layers,
        num_key_value_heads=kv, rms_norm_eps=1e-6, use_cache=True, vocab_size=vocab)
    rope = dict(mrope_interleaved=True, mrope_section=list(section), rope_type="default")
    if "experts" in spec:
        n, top, moe_inter, step, dense, renormalise = spec["experts"]
        text.update(num_experts=n, num_experts_per_tok=top, moe_intermediate_size=moe_inter, decoder_sparse_step=step,
                    mlp_only_layers=dense, norm_topk_prob=renormalise)
    config = dict(
        architectures=["Qwen3VLMoeForConditionalGeneration" if "experts" in spec else "Qwen3VLForConditionalGeneration"],
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"], model_type=kind, text_config=text,
        tie_word_embeddings=spec["tied"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        vision_config=dict(
            deepstack_visual_indexes=taps, depth=depth, hidden_act="gelu_pytorch_tanh", hidden_size=c, in_channels=3,
            initializer_range=0.02, intermediate_size=vinter, model_type=kind, num_heads=vheads,
            num_position_embeddings=table, out_hidden_size=hidden, patch_size=16, spatial_merge_size=2,
            temporal_patch_size=2))
    if spec.get("style5"):  # what transformers 5.x writes back
        text.update(rope_parameters=dict(rope, rope_theta=theta), pad_token_id=None)
        config.update(dtype=spec["dtype"], transformers_version="5.24.0")
    else:
        text.update(rope_theta=theta, rope_scaling=rope, dtype=spec["dtype"])
        if spec["tied"]:
            text["tie_word_embeddings"] = True  # repeated here in the published tied models; 4.57 reads this one
        config["transformers_version"] = "4.57.0.dev0"
    return config


def silence(rows, config):
    """Keep tokens that mean nothing in an answer from winning: rows without a token get logit 0, the media pads almost.

    Not quite zero, so that features added to the pad's embedding instead of replacing it still show in a tied model.
    """
    rows[config["text_config"]["vocab_size"] - PADDING:] = 0
    rows[[config["image_token_id"], config["video_token_id"]]] *= 0.05


def make_weights(spec, config):
    """{name: float32 array} in file order. Gains keep every stream near unit size; logits spread by about 3."""
    rng = np.random.default_rng(spec["seed"])
    t, v = config["text_config"], config["vision_config"]
    hidden, c = t["hidden_size"], v["hidden_size"]
    out = {}

    def put(name, shape, std, mean=0.0):
        out[name] = (mean + std * rng.standard_normal(shape)).astype(np.float32)

    def linear(name, rows, columns, gain=1.0, bias=True):
        put(name + ".weight", (rows, columns), gain / columns ** 0.5)
        if bias:
            put(name + ".bias", (rows,), 0.1)

    def norm(name, size, mean=1.0, bias=True):
        put(name + ".weight", (size,), 0.2, mean)
        if bias:
            put(name + ".bias", (size,), 0.1)

    p = "model.visual."
    put(p + "patch_embed.proj.weight", (c, 3, 2, 16, 16), 2 / 1536 ** 0.5)
    put(p + "patch_embed.proj.bias", (c,), 0.1)
    put(p + "pos_embed.weight", (v["num_position_embeddings"], c), 0.5)
    for i in range(v["depth"]):
        b = f"{p}blocks.{i}."
        norm(b + "norm1", c)
        norm(b + "norm2", c)
        linear(b + "attn.qkv", 3 * c, c, 1.4)
        linear(b + "attn.proj", c, c)
        linear(b + "mlp.linear_fc1", v["intermediate_size"], c, 1.4)
        linear(b + "mlp.linear_fc2", c, v["intermediate_size"])
    mergers = [(p + "merger.", c)]
    mergers += [(f"{p}deepstack_merger_list.{k}.", 4 * c) for k in range(len(v["deepstack_visual_indexes"]))]
    for b, width in mergers:
        norm(b + "norm", width)
        linear(b + "linear_fc1", 4 * c, 4 * c, 1.4)
        linear(b + "linear_fc2", hidden, 4 * c)

    p = "model.language_model."
    scale = 3.0 / hidden ** 0.5 if spec["tied"] else 0.7
    put(p + "embed_tokens.weight", (t["vocab_size"], hidden), scale)
    if spec["tied"]:
        silence(out[p + "embed_tokens.weight"], config)
    q, kv, inter = (t[k] for k in ("num_attention_heads", "num_key_value_heads", "intermediate_size"))
    for i in range(t["num_hidden_layers"]):
        b = f"{p}layers.{i}."
        norm(b + "input_layernorm", hidden, bias=False)
        norm(b + "post_attention_layernorm", hidden, bias=False)
        linear(b + "self_attn.q_proj", q * t["head_dim"], hidden, bias=False)
        linear(b + "self_attn.k_proj", kv * t["head_dim"], hidden, bias=False)
        linear(b + "self_attn.v_proj", kv * t["head_dim"], hidden, 1.5, bias=False)
        linear(b + "self_attn.o_proj", hidden, q * t["head_dim"], 1.5, bias=False)
        norm(b + "self_attn.q_norm", t["head_dim"], 1.4, bias=False)
        norm(b + "self_attn.k_norm", t["head_dim"], 1.4, bias=False)
        if "experts" in spec and i not in t["mlp_only_layers"] and (i + 1) % t["decoder_sparse_step"] == 0:
            n, width = t["num_experts"], t["moe_intermediate_size"]
            linear(b + "mlp.gate", n, hidden, 1.5, bias=False)
            put(b + "mlp.experts.gate_up_proj", (n, hidden, 2 * width), 1.5 / hidden ** 0.5)
            put(b + "mlp.experts.down_proj", (n, width, hidden), 1.5 / width ** 0.5)
            if spec.get("style5"):
                for name in ("gate_up_proj", "down_proj"):
                    out[b + "mlp.experts." + name] = out[b + "mlp.experts." + name].transpose(0, 2, 1).copy()
        else:
            linear(b + "mlp.gate_proj", inter, hidden, 1.5, bias=False)
            linear(b + "mlp.up_proj", inter, hidden, bias=False)
            linear(b + "mlp.down_proj", hidden, inter, 1.5, bias=False)
    norm(p + "norm", hidden, bias=False)
    if not spec["tied"]:
        put("lm_head.weight", (t["vocab_size"], hidden), 3.0 / hidden ** 0.5)
        silence(out["lm_head.weight"], config)
    return dict(sorted(out.items()))


def write_weights(folder, weights, spec):
    dtype = getattr(torch, spec["dtype"])
    tensors = {name: torch.from_numpy(a).to(dtype) for name, a in weights.items()}
    shards = spec.get("shards", 1)
    if shards == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors, {"format": "pt"})
        return
    names, where = list(tensors), {}
    for k in range(shards):
        file = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        part = names[k * len(names) // shards:(k + 1) * len(names) // shards]
        write_safetensors(os.path.join(folder, file), {n: tensors[n] for n in part}, {"format": "pt"})
        where.update((n, file) for n in part)
    total = sum(x.numel() * x.element_size() for x in tensors.values())
    write_json(folder, "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def make_model(out_dir, name):
    spec, folder = MODELS[name], os.path.join(out_dir, name)
    os.makedirs(folder, exist_ok=True)
    ids = write_tokenizer(folder, spec)
    config = make_config(spec, ids)
    write_json(folder, "config.json", config)
    write_json(folder, "generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"], "do_sample": True, "temperature": 0.7,
        "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]]})
    write_weights(folder, make_weights(spec, config), spec)
    return folder


if __name__ == "__main__":
    for model_name in sys.argv[2:] or MODELS:
        print(make_model(sys.argv[1], model_name))
