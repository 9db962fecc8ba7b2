#!/usr/bin/env python3
"""Write an ONNX Runtime GenAI decoder (INT4, blocks of 32, symmetric, 8-bit activations) with random weights in the 4B shape,
cut to a few layers so that onnxruntime-genai's model builder fits in ordinary memory. For measuring speed only.

    make_onnx.py OUT --layers 9
"""
import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file

import make_model


def write_folder(path, layers):
    make_model.make_folder(path)
    t = dict(copy.deepcopy(make_model.TEXT), num_hidden_layers=layers, hidden_act="silu", tie_word_embeddings=True,
             model_type="qwen3_vl_text", attention_bias=False, torch_dtype="bfloat16", eos_token_id=151645, bos_token_id=151643)
    t["rope_scaling"].update(rope_type="default", mrope_interleaved=True)
    v = dict(make_model.VISION, depth=1, deepstack_visual_indexes=[0], hidden_size=64, intermediate_size=64, num_heads=1, in_channels=3,
             hidden_act="gelu_pytorch_tanh", model_type="qwen3_vl")
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as f:
        json.dump({"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "text_config": t, "vision_config": v,
                   "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652, "vision_end_token_id": 151653,
                   "tie_word_embeddings": True, "torch_dtype": "bfloat16"}, f)
    D, F, H = t["hidden_size"], t["intermediate_size"], t["head_dim"]
    Q, K, p = t["num_attention_heads"] * H, t["num_key_value_heads"] * H, "model.language_model."
    rng = torch.Generator().manual_seed(1)

    def matrix(rows, cols):
        return (torch.randn(rows, cols, generator=rng) * make_model.STD).to(torch.bfloat16)

    out = {p + "embed_tokens.weight": matrix(t["vocab_size"], D), p + "norm.weight": torch.ones(D, dtype=torch.bfloat16)}
    for i in range(layers):
        b = f"{p}layers.{i}."
        for name, n in (("input_layernorm", D), ("post_attention_layernorm", D), ("self_attn.q_norm", H), ("self_attn.k_norm", H)):
            out[b + name + ".weight"] = torch.ones(n, dtype=torch.bfloat16)
        for name, rows, cols in (("self_attn.q_proj", Q, D), ("self_attn.k_proj", K, D), ("self_attn.v_proj", K, D),
                                 ("self_attn.o_proj", D, Q), ("mlp.gate_proj", F, D), ("mlp.up_proj", F, D), ("mlp.down_proj", D, F)):
            out[b + name + ".weight"] = matrix(rows, cols)
    save_file(out, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(args.out))) as tmp:
        source, built = os.path.join(tmp, "hf"), os.path.join(tmp, "onnx")
        write_folder(source, args.layers)
        subprocess.run([sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", built, "-p", "int4", "-e", "cpu",
                        "-c", os.path.join(tmp, "cache"), "--extra_options", "block_size=32", "is_symmetric=true", "accuracy_level=4"],
                       check=True, env=dict(os.environ, HF_HUB_OFFLINE="1"), stdout=sys.stderr, cwd=tmp)
        path = os.path.join(built, "genai_config.json")
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = args.threads
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f, indent=1)
        shutil.rmtree(args.out, ignore_errors=True)
        shutil.move(built, args.out)


if __name__ == "__main__":
    main()
