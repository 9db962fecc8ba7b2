#!/usr/bin/env python3
"""Write a model of the published 4B shape with random weights, for measuring speed only:

    OUT/qwen3vl-4b-q4_0.gguf      text, every matrix and the tied head in Q4_0 (4.5 bits a weight)
    OUT/mmproj-bf16.gguf          vision encoder in BF16
    OUT/f16/mmproj-f16.gguf       the same numbers in F16, which llama.cpp runs by other kernels
    OUT/qwen3vl-4b-q4_0-N.gguf    with --layers N: the text with N layers only, to stand beside make_onnx.py

Dense layers do the same work whatever the numbers are; these are small enough to stay finite through all layers.
"""
import argparse
import json
import lzma
import os
import shutil
import sys

import numpy as np
from gguf import GGMLQuantizationType as T, GGUFValueType as V, GGUFWriter

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tools", "reference"))
import gguf_export  # noqa: E402

TEXT = dict(num_hidden_layers=36, hidden_size=2560, intermediate_size=9728, num_attention_heads=32, num_key_value_heads=8,
            head_dim=128, vocab_size=151936, max_position_embeddings=262144, rms_norm_eps=1e-6, rope_theta=5000000.0,
            rope_scaling=dict(mrope_section=[24, 20, 20]))
VISION = dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, out_hidden_size=2560, patch_size=16,
              spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=2304, deepstack_visual_indexes=[5, 11, 17])
STD = 0.02


class Random(gguf_export.File):
    """Tensors by shape alone; matrices of `kind`, the rest F32."""

    def __init__(self, arch, kind, rng):
        super().__init__(arch, None, rng)
        self.kind = kind

    def matrix(self, name, *shape, kind=None):
        kind = self.kind if kind is None else kind
        n = int(np.prod(shape))
        if kind == T.Q4_0:
            raw = np.frombuffer(self.rng.bytes(n // 32 * 18), np.uint8).reshape(-1, 18).copy()
            scale = self.rng.uniform(0.8, 1.2, len(raw)) * STD / 4.6  # codes of -8..7 spread by 4.6
            raw[:, :2] = scale.astype(np.float16).view(np.uint8).reshape(-1, 2)
            self.tensors.append((name, raw.reshape(*shape[:-1], shape[-1] // 32 * 18), kind))
            return
        values = self.rng.standard_normal(n, dtype=np.float32).reshape(shape) * np.float32(STD)
        if kind == T.BF16:
            raw = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
            self.tensors.append((name, raw, kind))
        else:
            self.tensors.append((name, values.astype(np.float16 if kind == T.F16 else np.float32), None))

    def vector(self, name, n, value):
        self.tensors.append((name, np.full(n, value, np.float32), None))

    def write(self, path, shards=0):
        super().write(path + ".part", shards)
        os.replace(path + ".part", path)


def make_folder(path):
    """Configuration, tokenizer and template, as gguf_export wants them."""
    os.makedirs(path, exist_ok=True)
    for name in ("chat_template.jinja", "generation_config.json"):
        shutil.copy(os.path.join(ROOT, "models", "tiny", name), path)
    with open(os.path.join(path, "preprocessor_config.json"), "w", encoding="utf-8") as f:
        json.dump({"size": {"shortest_edge": 65536, "longest_edge": 16777216}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, f)
    with lzma.open(os.path.join(ROOT, "tests", "data", "qwen-tokenizer", "tokenizer.json.xz")) as f, \
            open(os.path.join(path, "tokenizer.json"), "wb") as out:
        shutil.copyfileobj(f, out)


def write_text(path, folder, config, kind, rng):
    t = config["text_config"]
    D, F, Q, K = t["hidden_size"], t["intermediate_size"], t["num_attention_heads"] * t["head_dim"], \
        t["num_key_value_heads"] * t["head_dim"]
    f = Random("qwen3vl", kind, rng)
    gguf_export.text_keys(f, "qwen3vl", folder, config)
    f.key("general.file_type", 2, V.UINT32)
    f.matrix("token_embd.weight", t["vocab_size"], D)
    f.vector("output_norm.weight", D, 1)
    for i in range(t["num_hidden_layers"]):
        b = f"blk.{i}."
        for name, n in (("attn_norm", D), ("ffn_norm", D), ("attn_q_norm", t["head_dim"]), ("attn_k_norm", t["head_dim"])):
            f.vector(b + name + ".weight", n, 1)
        for name, rows, cols in (("attn_q", Q, D), ("attn_k", K, D), ("attn_v", K, D), ("attn_output", D, Q), ("ffn_gate", F, D),
                                 ("ffn_up", F, D), ("ffn_down", D, F)):
            f.matrix(b + name + ".weight", rows, cols)
    f.write(path)


def write_vision(path, folder, config, kind, rng):
    v = config["vision_config"]
    D, F, M = v["hidden_size"], v["intermediate_size"], v["hidden_size"] * v["spatial_merge_size"] ** 2
    f = Random("clip", kind, rng)
    f.key("general.type", "mmproj", V.STRING)
    f.key("general.file_type", 32 if kind == T.BF16 else 1, V.UINT32)
    f.key("clip.has_vision_encoder", True, V.BOOL)
    f.key("clip.projector_type", "qwen3vl_merger", V.STRING)
    f.key("clip.use_gelu", True, V.BOOL)
    gguf_export.vision_keys(f, "clip.vision", folder, config, "llama")
    for suffix in ("", ".1"):  # llama.cpp's convolution takes these in F16 or F32 only
        f.matrix("v.patch_embd.weight" + suffix, D, 3, v["patch_size"], v["patch_size"], kind=T.F16 if kind == T.F16 else T.F32)
    f.vector("v.patch_embd.bias", D, 0)
    f.matrix("v.position_embd.weight", v["num_position_embeddings"], D, kind=T.F32)
    for i in range(v["depth"]):
        b = f"v.blk.{i}."
        for name, rows, cols in (("attn_qkv", 3 * D, D), ("attn_out", D, D), ("ffn_up", F, D), ("ffn_down", D, F)):
            f.matrix(b + name + ".weight", rows, cols)
            f.vector(b + name + ".bias", rows, 0)
        for name in ("ln1", "ln2"):
            f.vector(b + name + ".weight", D, 1)
            f.vector(b + name + ".bias", D, 0)
    merger = [("v.post_ln", "mm.0", "mm.2", D)]
    merger += [(f"v.deepstack.{i}.norm", f"v.deepstack.{i}.fc1", f"v.deepstack.{i}.fc2", M) for i in v["deepstack_visual_indexes"]]
    for norm, fc1, fc2, width in merger:
        f.vector(norm + ".weight", width, 1)
        f.vector(norm + ".bias", width, 0)
        for name, rows in ((fc1, M), (fc2, v["out_hidden_size"])):
            f.matrix(name + ".weight", rows, M)
            f.vector(name + ".bias", rows, 0)
    f.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, help="only so many text layers, in OUT/qwen3vl-4b-q4_0-N.gguf, and no pictures")
    args = parser.parse_args()
    os.makedirs(os.path.join(args.out, "f16"), exist_ok=True)
    folder = os.path.join(args.out, "qwen3vl-4b")
    make_folder(folder)
    config = {"text_config": TEXT, "vision_config": VISION}
    files = (("qwen3vl-4b-q4_0.gguf", write_text, T.Q4_0), ("mmproj-bf16.gguf", write_vision, T.BF16),
             ("f16/mmproj-f16.gguf", write_vision, T.F16))
    if args.layers:
        TEXT["num_hidden_layers"] = args.layers
        files = ((f"qwen3vl-4b-q4_0-{args.layers}.gguf", write_text, T.Q4_0),)
    for path, write, kind in files:
        path = os.path.join(args.out, path)
        if not os.path.exists(path):
            write(path, folder, config, kind, np.random.default_rng(1))
            print(path, os.path.getsize(path), file=sys.stderr)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
