#!/usr/bin/env python3
"""Write the GGUF models of tests/golden/models/gguf-*, and traces of transformers with the same numbers.

    python make_gguf_models.py [NAME...]

Random weights as in random_models.py, stored in GGUF types; the traces in tests/golden/gguf-*/ are of a model with the
values that these types stand for, decoded by the gguf package.
"""
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
from gguf import GGMLQuantizationType as T

import gguf_export
import random_models
from golden import write_safetensors
from make_goldens import COMMON, GOLDEN, HEADS, LEAN, make_traces

CASES = {
    "text": (COMMON["text"][0], dict(max_new_tokens=16, tensors=HEADS + ",text.layer.*")),
    "one": (COMMON["one"][0], dict(max_new_tokens=16, tensors=LEAN)),
    "two": (COMMON["two"][0], dict(max_new_tokens=16, tensors=LEAN)),
}

# Every type that can be read, once: rows of 256 for the large blocks.
KMIX = {"blk.0.attn_q": T.Q4_K, "blk.0.attn_k": T.Q5_K, "blk.0.attn_v": T.Q6_K, "blk.0.attn_output": T.Q4_0,
        "blk.0.ffn_gate": T.Q4_K, "blk.0.ffn_up": T.Q3_K, "blk.0.ffn_down": T.Q6_K,
        "blk.1.attn_q": T.Q4_1, "blk.1.attn_k": T.IQ4_XS, "blk.1.attn_v": T.Q2_K, "blk.1.attn_output": T.Q5_1,
        "blk.1.ffn_gate": T.IQ4_NL, "blk.1.ffn_up": T.MXFP4, "blk.1.ffn_down": T.Q5_0, "token_embd": T.Q8_0}
EXPERTS = {"ffn_gate_exps": T.Q4_0, "ffn_up_exps": T.Q8_0, "ffn_down_exps": T.Q5_0}

SPECS = {
    # Dense, tied, every block type; vision file half F16, half Q8_0.
    "gguf-kmix": dict(text=(256, 2, 2, 1, 32, 256, (6, 5, 5), 5000000.0), vision=(32, 2, 2, 32, 36, [1]),
                      dtype="float32", tied=True, seed=61),
    # Experts in blocks, a head of its own, three shards; BF16 elsewhere.
    "gguf-moe": dict(text=(96, 2, 2, 1, 32, 64, (8, 4, 4), 1000000.0), vision=(16, 2, 1, 24, 16, [1]),
                     dtype="float32", tied=False, experts=(4, 2, 32, 1, [], True), seed=71),
    # The same kinds of tensors fused: q, k, v in one, gate and up of all experts in one.
    "gguf-fused": dict(text=(96, 1, 2, 1, 32, 64, (8, 4, 4), 1000000.0), vision=(16, 2, 1, 24, 16, [0]),
                       dtype="float32", tied=True, experts=(4, 2, 32, 1, [], True), seed=81),
    # One file in the early Ollama form: q, k, v of the vision tower apart and of different types; default sections.
    "gguf-single": dict(text=(64, 1, 1, 1, 128, 64, (24, 20, 20), 5000000.0), vision=(32, 1, 2, 32, 16, [0]),
                        dtype="float32", tied=True, seed=91),
}


def text_kind(name):
    def kmix(tensor, _):
        return KMIX[tensor.removesuffix(".weight")]

    def moe(tensor, _):
        return next((kind for part, kind in EXPERTS.items() if part in tensor), T.BF16)

    def fused(tensor, _):
        return T.Q4_0 if "exps" in tensor else T.Q8_0 if "qkv" in tensor else T.F16

    return {"gguf-kmix": kmix, "gguf-moe": moe, "gguf-fused": fused}[name]


def vision_kind(name):
    def f16(tensor, array):
        large = "attn_qkv" in tensor or "ffn_up" in tensor or "deepstack" in tensor or "mm.2" in tensor
        return T.Q8_0 if large and array.shape[-1] % 32 == 0 and array.ndim == 2 else T.F16

    def plain(tensor, array):
        if name == "gguf-moe":
            return T.F32 if "patch" in tensor else T.BF16
        return T.F16

    return f16 if name == "gguf-kmix" else plain


def single_kind(tensor, array):
    if "attn_v.weight" in tensor and tensor.startswith("v."):
        return T.Q8_0
    return T.F16


def write_gguf(name, folder, config, weights, target):
    rng = np.random.default_rng(SPECS[name]["seed"] + 1)
    if name == "gguf-single":
        return gguf_export.write_single(os.path.join(target, "model.gguf"), folder, config, weights, single_kind, rng)
    text = os.path.join(target, "Tiny-Q4_K_M.gguf")
    options = dict(file_type=32 if name == "gguf-moe" else 1, shards=14 if name == "gguf-moe" else 0, fuse=name == "gguf-fused")
    return gguf_export.write_pair(text, os.path.join(target, "mmproj-Tiny-F16.gguf"), folder, config, weights,
                                  text_kind(name), vision_kind(name), rng, **options)


def make(name):
    spec = SPECS[name]
    target = os.path.join(GOLDEN, "models", name)
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    with tempfile.TemporaryDirectory() as folder:
        random_models.MODELS[name] = spec
        folder = random_models.make_model(folder, name)
        config = gguf_export.read_json(folder, "config.json")
        weights = random_models.make_weights(spec, config)
        values = write_gguf(name, folder, config, weights, target)
        if set(values) != set(weights):
            raise SystemExit(f"{name}: not stored: {sorted(set(weights) ^ set(values))}")
        tensors = {n: torch.from_numpy(np.ascontiguousarray(values[n])) for n in weights}
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors, {"format": "pt"})
        shutil.rmtree(os.path.join(GOLDEN, name), ignore_errors=True)
        return make_traces(name, folder, CASES)


def main():
    torch.set_num_threads(1)
    ties = [t for name in sys.argv[1:] or SPECS for t in make(name)]
    if ties:
        raise SystemExit("near ties on the greedy path: " + ", ".join(ties))


if __name__ == "__main__":
    main()
