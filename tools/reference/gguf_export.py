"""A Qwen3-VL folder as GGUF files, with the names, keys and types that llama.cpp's converter (or an early Ollama) writes.

`weights` maps published names to float32 arrays. `kinds` is a function of the GGUF name and the array that gives the
tensor's type; what converters always keep in F32 is F32 whatever it says. Each writer returns {published name: the
float32 values that the file's tensor stands for}, from which a reference model with the same numbers can be made.
"""
import json
import os

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, GGUFValueType as V, GGUFWriter, dequantize, quantize

ENCODABLE = (T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0)
# Offsets of the f16 scales of the other types, and how much larger the one of the minimum must be for a mean near zero.
SCALES = {T.Q2_K: (80, 82, 1.5), T.Q3_K: (108, None, 0), T.Q4_K: (0, 2, 7.5), T.Q5_K: (0, 2, 15.5), T.Q6_K: (208, None, 0),
          T.IQ4_NL: (0, None, 0), T.IQ4_XS: (0, None, 0), T.MXFP4: (None, None, 0)}


def random_blocks(kind, shape, std, rng):
    """Blocks of a type that has no encoder here: random codes under scales that give about this spread."""
    elems, size = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (int(np.prod(shape)) // elems, size), dtype=np.uint8)
    at, at_min, ratio = SCALES[kind]

    def set_scale(d):
        if kind == T.MXFP4:
            raw[:, 0] = 127 + round(float(np.log2(d)))
            return
        d = d * rng.uniform(0.7, 1.3, len(raw))
        raw[:, at:at + 2] = d.astype(np.float16).view(np.uint8).reshape(-1, 2)
        if at_min is not None:
            raw[:, at_min:at_min + 2] = (d * ratio).astype(np.float16).view(np.uint8).reshape(-1, 2)

    set_scale(2.0 ** -4)
    spread = dequantize(raw, kind).std() * 2.0 ** 4
    set_scale(std / spread)
    return raw.reshape(*shape[:-1], shape[-1] // elems * size)


class File:
    """A GGUF file being written, and what its tensors stand for."""

    def __init__(self, arch, kinds, rng):
        self.writer_args, self.kinds, self.rng = arch, kinds, rng
        self.keys, self.tensors, self.values = [], [], {}

    def key(self, name, value, kind, sub=None):
        self.keys.append((name, value, kind, sub))

    def tensor(self, name, array):
        """Returns the float32 values that the stored tensor stands for."""
        array = np.ascontiguousarray(array, dtype=np.float32)
        forced = array.ndim == 1 or not name.endswith((".weight", ".1")) or name.endswith("norm.weight") \
            or "gate_inp" in name or "position_embd" in name
        kind = T.F32 if forced else self.kinds(name, array)
        if kind == T.F32:
            self.tensors.append((name, array, None))
            return array
        elems = GGML_QUANT_SIZES[kind][0]
        if array.shape[-1] % elems:
            raise SystemExit(f"{name}: rows of {array.shape[-1]} are no whole blocks of {kind.name}")
        if kind in ENCODABLE:
            raw = quantize(array, kind)
            raw = raw.view(np.uint8) if kind != T.F16 else raw
        else:
            raw = random_blocks(kind, array.shape, array.std(), self.rng)
        self.tensors.append((name, raw, kind))
        if kind == T.F16:
            return raw.astype(np.float32)
        return dequantize(raw.view(np.uint8), kind).reshape(array.shape).astype(np.float32)

    def write(self, path, shards=0):
        w = GGUFWriter(path, self.writer_args, split_max_tensors=shards)
        for name, value, kind, sub in self.keys:
            w.add_key_value(name, value, kind, sub)
        for name, array, kind in self.tensors:
            w.add_tensor(name, array, raw_dtype=kind if kind not in (None, T.F16) else None)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()


def read_json(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return json.load(f)


def tokenizer_keys(f, folder, config):
    tok = read_json(folder, "tokenizer.json")
    n = config["text_config"]["vocab_size"]
    tokens, kinds = [f"[PAD{i}]" for i in range(n)], [5] * n
    for text, i in tok["model"]["vocab"].items():
        tokens[i], kinds[i] = text, 1
    for a in tok["added_tokens"]:
        control = a["special"] or (a["content"].startswith("<|") and a["content"].endswith("|>"))
        tokens[a["id"]], kinds[a["id"]] = a["content"], 3 if control else 4
    merges = [m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]]
    f.key("tokenizer.ggml.model", "gpt2", V.STRING)
    f.key("tokenizer.ggml.pre", "qwen2", V.STRING)
    f.key("tokenizer.ggml.tokens", tokens, V.ARRAY, V.STRING)
    f.key("tokenizer.ggml.token_type", kinds, V.ARRAY, V.INT32)
    f.key("tokenizer.ggml.merges", merges, V.ARRAY, V.STRING)
    ids = {a["content"]: a["id"] for a in tok["added_tokens"]}
    f.key("tokenizer.ggml.eos_token_id", ids["<|im_end|>"], V.UINT32)
    f.key("tokenizer.ggml.padding_token_id", ids["<|endoftext|>"], V.UINT32)
    f.key("tokenizer.ggml.bos_token_id", ids["<|endoftext|>"], V.UINT32)
    f.key("tokenizer.ggml.add_bos_token", False, V.BOOL)
    with open(os.path.join(folder, "chat_template.jinja"), encoding="utf-8") as t:
        f.key("tokenizer.chat_template", t.read(), V.STRING)


def text_keys(f, arch, folder, config, sections=True):
    t = config["text_config"]
    rope = t.get("rope_parameters") or dict(t["rope_scaling"], rope_theta=t["rope_theta"])
    f.key("general.type", "model", V.STRING)
    f.key("general.name", os.path.basename(folder), V.STRING)
    gen = read_json(folder, "generation_config.json")
    for name, key, kind in (("top_k", "top_k", V.INT32), ("top_p", "top_p", V.FLOAT32), ("temperature", "temp", V.FLOAT32)):
        if name in gen:
            f.key("general.sampling." + key, gen[name], kind)
    u32 = {"block_count": t["num_hidden_layers"], "context_length": t["max_position_embeddings"],
           "embedding_length": t["hidden_size"], "feed_forward_length": t["intermediate_size"],
           "attention.head_count": t["num_attention_heads"], "attention.head_count_kv": t["num_key_value_heads"],
           "attention.key_length": t["head_dim"], "attention.value_length": t["head_dim"]}
    if "num_experts" in t:
        u32.update(expert_count=t["num_experts"], expert_used_count=t["num_experts_per_tok"],
                   expert_feed_forward_length=t["moe_intermediate_size"])
    if sections:
        u32["n_deepstack_layers"] = len(config["vision_config"]["deepstack_visual_indexes"])
        f.key(f"{arch}.rope.dimension_sections", [*rope["mrope_section"], 0], V.ARRAY, V.INT32)
    for name, value in u32.items():
        f.key(f"{arch}.{name}", value, V.UINT32)
    f.key(f"{arch}.rope.freq_base", rope["rope_theta"], V.FLOAT32)
    f.key(f"{arch}.attention.layer_norm_rms_epsilon", t["rms_norm_eps"], V.FLOAT32)
    f.key("general.quantization_version", 2, V.UINT32)
    tokenizer_keys(f, folder, config)


LAYER = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp"}


def text_tensors(f, weights, fuse=False):
    """fuse: q, k, v in one tensor, and gate and up of all experts in one, as recent converters can."""
    out, p = {}, "model.language_model."
    for name, a in weights.items():
        if name == "lm_head.weight":
            out[name] = f.tensor("output.weight", a)
        elif name == p + "embed_tokens.weight":
            out[name] = f.tensor("token_embd.weight", a)
        elif name == p + "norm.weight":
            out[name] = f.tensor("output_norm.weight", a)
        elif name.startswith(p + "layers."):
            n, tail = name[len(p) + 7:].split(".", 1)
            if tail == "mlp.experts.gate_up_proj":  # [E, H, 2F] -> two of [E, F, H]
                half = a.shape[-1] // 2
                both = a.transpose(0, 2, 1)
                if fuse:
                    both = f.tensor(f"blk.{n}.ffn_gate_up_exps.weight", both)
                else:
                    both = np.concatenate([f.tensor(f"blk.{n}.ffn_gate_exps.weight", both[:, :half]),
                                           f.tensor(f"blk.{n}.ffn_up_exps.weight", both[:, half:])], 1)
                out[name] = both.transpose(0, 2, 1).copy()
            elif tail == "mlp.experts.down_proj":
                out[name] = f.tensor(f"blk.{n}.ffn_down_exps.weight", a.transpose(0, 2, 1)).transpose(0, 2, 1).copy()
            elif fuse and tail in ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"):
                if tail == "self_attn.q_proj.weight":
                    names = [name.replace("q_proj", x + "_proj") for x in "qkv"]
                    rows = f.tensor(f"blk.{n}.attn_qkv.weight", np.concatenate([weights[x] for x in names]))
                    cuts = np.cumsum([len(weights[x]) for x in names])[:-1]
                    out.update(zip(names, np.split(rows, cuts)))
            else:
                stem, suffix = tail.rsplit(".", 1)
                out[name] = f.tensor(f"blk.{n}.{LAYER[stem]}.{suffix}", a)
    return out


def vision_keys(f, prefix, folder, config, names):
    v, pre = config["vision_config"], read_json(folder, "preprocessor_config.json")
    side = round(v["num_position_embeddings"] ** 0.5)
    f.key(f"{prefix}.image_size", side * v["patch_size"], V.UINT32) if names == "llama" else None
    for name, value in {"patch_size": v["patch_size"], "embedding_length": v["hidden_size"],
                        "feed_forward_length": v["intermediate_size"], "block_count": v["depth"],
                        "attention.head_count": v["num_heads"], "spatial_merge_size": v["spatial_merge_size"]}.items():
        if names == "llama" or name != "feed_forward_length":
            f.key(f"{prefix}.{name}", value, V.UINT32)
    f.key(f"{prefix}.attention.layer_norm_epsilon", 1e-6, V.FLOAT32)
    low, high = pre["size"]["shortest_edge"], pre["size"]["longest_edge"]
    f.key(f"{prefix}." + ("image_min_pixels" if names == "llama" else "shortest_edge"), low, V.UINT32)
    f.key(f"{prefix}." + ("image_max_pixels" if names == "llama" else "longest_edge"), high, V.UINT32)
    f.key(f"{prefix}.image_mean", pre["image_mean"], V.ARRAY, V.FLOAT32)
    f.key(f"{prefix}.image_std", pre["image_std"], V.ARRAY, V.FLOAT32)
    taps = v["deepstack_visual_indexes"]
    if names == "llama":
        f.key(f"{prefix}.projection_dim", config["text_config"]["hidden_size"], V.UINT32)
        f.key(f"{prefix}.is_deepstack_layers", [i in taps for i in range(v["depth"])], V.ARRAY, V.BOOL)
    else:
        f.key(f"{prefix}.deepstack_visual_indexes", taps, V.ARRAY, V.INT32)
        f.key(f"{prefix}.num_channels", 3, V.UINT32)
        f.key(f"{prefix}.temporal_patch_size", 2, V.UINT32)
        f.key(f"{prefix}.rope.freq_base", 10000.0, V.FLOAT32)


LLAMA_BLOCK = {"norm1": "ln1", "norm2": "ln2", "attn.qkv": "attn_qkv", "attn.proj": "attn_out", "mlp.linear_fc1": "ffn_up",
               "mlp.linear_fc2": "ffn_down"}
LLAMA_MERGER = {"norm": "v.post_ln", "linear_fc1": "mm.0", "linear_fc2": "mm.2"}
LLAMA_TAP = {"norm": "norm", "linear_fc1": "fc1", "linear_fc2": "fc2"}


def vision_tensors(f, weights, config, names):
    """names: "llama", or "ollama" for the single-file form (q, k, v apart, the patch weight in one)."""
    out, p, taps = {}, "model.visual.", config["vision_config"]["deepstack_visual_indexes"]
    for name, a in weights.items():
        if not name.startswith(p):
            continue
        tail = name[len(p):]
        stem, suffix = tail.rsplit(".", 1)
        if stem == "patch_embed.proj":
            new = "v.patch_embd" if names == "llama" else "v.patch_embed"
            if suffix == "bias":
                out[name] = f.tensor(new + ".bias", a)
            elif names == "llama":
                out[name] = np.stack([f.tensor(new + ".weight", a[:, :, 0]), f.tensor(new + ".weight.1", a[:, :, 1])], 2)
            else:
                out[name] = f.tensor(new + ".weight", a.reshape(-1, *a.shape[2:])).reshape(a.shape)
        elif stem == "pos_embed":
            out[name] = f.tensor("v.position_embd.weight" if names == "llama" else "v.pos_embed.weight", a)
        elif stem.startswith("blocks."):
            _, n, part = stem.split(".", 2)
            if part == "attn.qkv" and names == "ollama":
                parts = [f.tensor(f"v.blk.{n}.attn_{x}.{suffix}", rows) for x, rows in zip("qkv", np.split(a, 3))]
                out[name] = np.concatenate(parts)
            else:
                part = LLAMA_BLOCK[part] if names == "llama" or part == "attn.proj" else part
                out[name] = f.tensor(f"v.blk.{n}.{part}.{suffix}", a)
        elif stem.startswith("merger."):
            part = stem[len("merger."):]
            out[name] = f.tensor((LLAMA_MERGER[part] if names == "llama" else "v.merger." + part) + "." + suffix, a)
        else:
            _, k, part = stem.split(".", 2)
            new = f"v.deepstack.{taps[int(k)]}.{LLAMA_TAP[part]}" if names == "llama" else f"v.deepstack_merger.{k}.{part}"
            out[name] = f.tensor(f"{new}.{suffix}", a)
    return out


def write_pair(text_path, mmproj_path, folder, config, weights, text_kinds, vision_kinds, rng, file_type, shards=0, fuse=False):
    arch = "qwen3vlmoe" if "num_experts" in config["text_config"] else "qwen3vl"
    f = File(arch, text_kinds, rng)
    text_keys(f, arch, folder, config)
    out = text_tensors(f, weights, fuse)
    f.write(text_path, shards)
    f = File("clip", vision_kinds, rng)
    f.key("general.type", "mmproj", V.STRING)
    f.key("general.file_type", file_type, V.UINT32)
    f.key("clip.has_vision_encoder", True, V.BOOL)
    f.key("clip.projector_type", "qwen3vl_merger", V.STRING)
    f.key("clip.use_gelu", True, V.BOOL)
    vision_keys(f, "clip.vision", folder, config, "llama")
    out.update(vision_tensors(f, weights, config, "llama"))
    f.write(mmproj_path)
    return out


def write_single(path, folder, config, weights, kinds, rng):
    f = File("qwen3vl", kinds, rng)
    text_keys(f, "qwen3vl", folder, config, sections=False)
    vision_keys(f, "qwen3vl.vision", folder, config, "ollama")
    out = text_tensors(f, weights)
    out.update(vision_tensors(f, weights, config, "ollama"))
    f.write(path)
    return out
