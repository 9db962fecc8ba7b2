#!/usr/bin/env python3
"""Write tests/data/quantised/: matrices in every format of quantised safetensors with the rows they stand for, and small models
with goldens of transformers computed from the dequantised weights.

    python make_quantised.py             everything (a minute)
    python make_quantised.py matrices    only matrices.safetensors
    python make_quantised.py NAME...     only these models

Needs compressed-tensors, bitsandbytes and mlx[cpu] beside the reference's packages. base.safetensors and the JSON files of base/
are shared by all models; NAME/quantised.safetensors holds what stands in the place of the first layer's matrices.
"""
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch

import golden
import quantisers as Q
from golden import write_safetensors
from make_goldens import COMMON, HEADS, MIN_GAP, ROOT
from random_models import make_config, make_weights, write_json, write_tokenizer

OUT = os.path.join(ROOT, "tests", "data", "quantised")


# ---------------------------------------------------------------- matrices

def make_matrices():
    rng = np.random.default_rng(17)
    tensors = {}

    def put(name, maker, n, k, **options):
        w = rng.standard_normal((n, k)).astype(np.float32) * 0.05
        parts, want = maker(w, **options)
        for suffix, t in parts.items():
            tensors[name + suffix] = t.contiguous()
        tensors[name + ".want"] = torch.from_numpy(np.ascontiguousarray(want, dtype=np.float32))

    put("awq", Q.awq, 16, 64)
    put("awq-row", Q.awq, 8, 40, group=-1)
    put("awq-sym", Q.awq, 8, 64, symmetric=True)
    for bits in (2, 3, 4, 8):
        put(f"gptq-{bits}", Q.gptq, 32, 64, bits=bits, symmetric=False)
    put("gptq-sym", Q.gptq, 8, 64)
    put("gptq-sym8", Q.gptq, 8, 64, bits=8, group=64)
    put("gptq-order", Q.gptq, 8, 96, symmetric=False, act_order=5)
    put("gptq2-order8", Q.gptq, 8, 64, bits=8, symmetric=False, act_order=6, v2=True)
    put("gptq2", Q.gptq, 8, 64, symmetric=False, v2=True, gidx_stored=False, group=-1)
    put("ct-4", Q.compressed, 9, 64)
    put("ct-4-zero", Q.compressed, 9, 64, symmetric=False, dtype=torch.float16)
    put("ct-4-row", Q.compressed, 8, 44, strategy="channel", dtype=torch.float32)
    put("ct-4-order", Q.compressed, 16, 64, symmetric=False, act_order=3)
    put("ct-3", Q.compressed, 5, 96, bits=3)
    put("ct-8", Q.compressed, 8, 64, bits=8)
    put("ct-8-zero-row", Q.compressed, 7, 50, bits=8, strategy="channel", symmetric=False, dtype=torch.float32)
    put("ct-int", Q.compressed, 8, 50, bits=8, strategy="channel", packed=False)
    put("ct-int-zero", Q.compressed, 8, 50, bits=8, strategy="channel", packed=False, symmetric=False, dtype=torch.float32)
    put("ct-int-group", Q.compressed, 8, 64, bits=8, packed=False)
    put("ct-fp8", Q.compressed, 8, 50, bits=8, kind="float", strategy="channel", packed=False)
    put("ct-fp8-one", Q.compressed, 8, 50, bits=8, kind="float", strategy="tensor", packed=False, dtype=torch.float32)
    put("ct-fp8-block", Q.compressed, 20, 18, bits=8, kind="float", strategy="block", block=[16, 16], packed=False)
    put("fp8", Q.fp8, 32, 48, block=(16, 16))
    put("fp8-f32", Q.fp8, 16, 32, block=(16, 16), dtype=torch.float32)
    put("nf4", Q.bnb4, 8, 72, nested=False)
    put("nf4-nested", Q.bnb4, 132, 64, nested=True, block=32)  # two nested blocks
    put("nf4-bf16", Q.bnb4, 8, 64, nested=True, storage=torch.bfloat16)
    put("fp4", Q.bnb4, 8, 72, kind="fp4", nested=True)
    put("int8", Q.bnb8, 8, 50)
    for bits in (2, 3, 4, 5, 6, 8):
        put(f"mlx-{bits}", Q.mlx, 5, 64, bits=bits)
    put("mlx-f16-64", Q.mlx, 5, 128, group=64, dtype="float16")
    put("mlx-f32-128", Q.mlx, 5, 128, group=128, dtype="float32")
    put("mlx-mxfp4", Q.mlx, 5, 64, mode="mxfp4")
    put("mlx-nvfp4", Q.mlx, 5, 64, mode="nvfp4", group=16)
    put("mlx-mxfp8", Q.mlx, 5, 64, mode="mxfp8", bits=8)
    write_safetensors(os.path.join(OUT, "matrices.safetensors"), dict(sorted(tensors.items())), {"format": "pt"})
    print(f"{sum(n.endswith('.want') for n in tensors)} matrices, {os.path.getsize(os.path.join(OUT, 'matrices.safetensors'))} bytes")


# ---------------------------------------------------------------- models

# Widths are multiples of 32, so that every format's groups fit.
BASE = dict(text=(64, 2, 2, 1, 32, 96, (6, 5, 5), 5000000.0), vision=(16, 2, 1, 24, 16, [0]), dtype="bfloat16", tied=True, seed=71)
MOE = dict(BASE, experts=(3, 2, 96, 1, [1], True), seed=72)  # layer 0 has experts, layer 1 is dense

CT_GROUP = dict(targets=["Linear"], input_activations=None, output_activations=None)


def ct_config(form, **weights):
    return {"quantization_config": dict(
        quant_method="compressed-tensors", format=form, quantization_status="compressed", ignore=["lm_head", "re:.*visual.*"],
        kv_cache_scheme=None, sparsity_config={}, transform_config={},
        config_groups={"group_0": dict(CT_GROUP, format=form, weights=dict(dict(
            num_bits=4, type="int", symmetric=True, strategy="group", group_size=32, block_structure=None, actorder=None,
            dynamic=False, observer="minmax", observer_kwargs={}), **weights))})}


def gptq_config(**options):
    return {"quantization_config": dict(dict(
        quant_method="gptq", bits=4, group_size=32, sym=True, desc_act=False, damp_percent=0.01, lm_head=False,
        checkpoint_format="gptq", pack_dtype="int32"), **options)}


# name: (spec, what config.json says, quantiser, its options, dtype of scales and names follows from the quantiser)
MODELS = {
    "awq": (BASE, {"quantization_config": dict(quant_method="awq", bits=4, group_size=32, version="gemm", zero_point=True,
                                               modules_to_not_convert=["visual"])}, Q.awq, {}),
    "gptq-order": (BASE, gptq_config(sym=False, desc_act=True), Q.gptq, dict(symmetric=False, act_order=9)),
    "gptq-sym": (BASE, gptq_config(), Q.gptq, {}),
    "gptq2-8": (BASE, gptq_config(bits=8, checkpoint_format="gptq_v2", sym=False), Q.gptq, dict(bits=8, v2=True, symmetric=False)),
    "ct-w4a16": (BASE, ct_config("pack-quantized", symmetric=False), Q.compressed, dict(symmetric=False)),
    "ct-w8a8": (BASE, ct_config("int-quantized", num_bits=8, strategy="channel", group_size=None), Q.compressed,
                dict(bits=8, strategy="channel", packed=False)),
    "ct-fp8": (BASE, ct_config("float-quantized", num_bits=8, type="float", strategy="channel", group_size=None), Q.compressed,
               dict(bits=8, kind="float", strategy="channel", packed=False)),
    "fp8": (BASE, {"quantization_config": dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic",
                                               weight_block_size=[32, 32], modules_to_not_convert=["lm_head", "model.visual"])},
            Q.fp8, {}),
    "fp8-moe": (MOE, {"quantization_config": dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic",
                                                  weight_block_size=[32, 32])}, Q.fp8, {}),
    "bnb-nf4": (BASE, {"quantization_config": dict(quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False,
                                                   bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                                   bnb_4bit_compute_dtype="bfloat16", llm_int8_skip_modules=["lm_head"])},
                Q.bnb4, {}),
    "bnb-int8": (BASE, {"quantization_config": dict(quant_method="bitsandbytes", load_in_4bit=False, load_in_8bit=True)}, Q.bnb8, {}),
    "mlx": (BASE, {"quantization": dict(group_size=32, bits=4), "quantization_config": dict(group_size=32, bits=4)}, Q.mlx, {}),
    "mlx-moe": (MOE, {"quantization": dict(group_size=32, bits=4, **{
        "language_model.model.layers.0.self_attn.o_proj": dict(group_size=32, bits=6),
        "language_model.model.layers.0.mlp.gate": dict(group_size=32, bits=8)})}, Q.mlx, {}),
}
CASES = {
    "text": (COMMON["text"][0], dict(max_new_tokens=8, tensors=HEADS)),
    "one": (COMMON["one"][0], dict(max_new_tokens=8, tensors=HEADS)),
}


def base_weights(spec):
    with tempfile.TemporaryDirectory() as tmp:
        ids = write_tokenizer(tmp, spec)
    config = make_config(spec, ids)
    weights = make_weights(spec, config)
    if spec is MOE:  # the layers are its own, the rest is the other base's
        weights.update({k: v for k, v in make_weights(BASE, make_config(BASE, ids)).items() if ".layers." not in k})
    return config, {k: torch.from_numpy(v).to(torch.bfloat16) for k, v in weights.items()}


def in_first_layer(name):
    return name.startswith("model.language_model.layers.0.") and (name.endswith("_proj.weight") or "mlp.experts." in name)


def quantise(name, spec, weights):
    """(tensors of the checkpoint that replace matrices, {name in HF: dequantised f32})."""
    _, _, maker, options = MODELS[name]
    stored, plain = {}, {}
    mlx = maker is Q.mlx

    def put(stem, w, **more):
        parts, want = maker(np.ascontiguousarray(w), **dict(options, **more))
        for suffix, t in parts.items():
            stored[stem + suffix] = t.contiguous()
        return torch.from_numpy(np.ascontiguousarray(want))

    for full, t in weights.items():
        w = t.float().numpy()
        stem = full[:-len(".weight")] if full.endswith(".weight") else full
        if mlx:
            stem = stem.replace("model.language_model.", "language_model.model.")
        bits = {"o_proj": 6, "mlp.gate": 8}.get(next((e for e in ("o_proj", "mlp.gate") if name == "mlx-moe" and stem.endswith(e)), ""))
        more = {"bits": bits} if bits else {}
        if in_first_layer(full) and w.ndim == 2 or mlx and ("layers.0.mlp.gate.weight" in full or "embed_tokens" in full):
            plain[full] = put(stem, w, **more)
        elif in_first_layer(full) and maker is Q.fp8:  # fused, as published: [experts][in][out]
            each = [Q.fp8(np.ascontiguousarray(e)) for e in w]
            stored[full] = torch.stack([p[".weight"] for p, _ in each])
            stored[full + "_scale_inv"] = torch.stack([p[".weight_scale_inv"] for p, _ in each])
            plain[full] = torch.from_numpy(np.stack([d for _, d in each]))
        elif in_first_layer(full):  # MLX: [experts][out][in], gate and up apart
            prefix = stem.replace("mlp.experts.", "mlp.switch_mlp.")
            halves = np.split(w, 2, axis=2) if full.endswith("gate_up_proj") else [w]
            names = ["gate_proj", "up_proj"] if len(halves) == 2 else ["down_proj"]
            out = []
            for half, which in zip(halves, names):
                each = [Q.mlx(np.ascontiguousarray(e.T)) for e in half]
                for suffix in each[0][0]:
                    stored[prefix.rsplit(".", 1)[0] + "." + which + suffix] = torch.stack([p[suffix] for p, _ in each])
                out.append(np.stack([d.T for _, d in each]))
            plain[full] = torch.from_numpy(np.ascontiguousarray(np.concatenate(out, axis=2)))
    if name == "bnb-nf4":  # bitsandbytes quantises the vision tower, too
        full = "model.visual.blocks.0.attn.qkv.weight"
        plain[full] = put(full[:-len(".weight")], weights[full].float().numpy())
    if name == "mlx":  # channels last in the vision tower
        full = "model.visual.patch_embed.proj.weight"
        stored["vision_tower.patch_embed.proj.weight"] = weights[full].permute(0, 2, 3, 4, 1).contiguous()
        plain[full] = weights[full].float()
    return stored, plain


def make_model(name):
    spec, said, _, _ = MODELS[name]
    config, weights = base_weights(spec)
    folder, ties = os.path.join(OUT, name), []
    os.makedirs(folder, exist_ok=True)
    stored, plain = quantise(name, spec, weights)
    write_safetensors(os.path.join(folder, "quantised.safetensors"), dict(sorted(stored.items())),
                      {"format": "mlx" if name.startswith("mlx") else "pt"})
    write_json(folder, "config.json", dict(config, **said))
    with tempfile.TemporaryDirectory() as tmp:
        write_tokenizer(tmp, spec)
        write_json(tmp, "config.json", config)
        shutil.copyfile(os.path.join(OUT, "base", "generation_config.json"), os.path.join(tmp, "generation_config.json"))
        write_safetensors(os.path.join(tmp, "model.safetensors"), {k: plain.get(k, v.float()) for k, v in weights.items()},
                          {"format": "pt"})
        model, processor = golden.load(tmp, torch.float32)
        for case, (messages, options) in CASES.items():
            messages = json.loads(json.dumps(messages).replace("../images/", "../../../golden/images/"))
            path = os.path.join(folder, case + ".safetensors")
            argv = [tmp, path, "--messages", "unused"]
            for option, v in options.items():
                argv += ["--" + option.replace("_", "-"), str(v)]
            args = golden.parser().parse_args(argv)
            tensors, ids, gap = golden.run(model, processor, messages, folder, args)
            golden.write(path, tensors, messages, folder, args)
            print(f"{name + '/' + case:20} {os.path.getsize(path):7} bytes  gap={gap:.4f} {ids}", flush=True)
            if not gap > MIN_GAP:
                ties.append(f"{name}/{case}")
    return ties


def make_bases():
    """What the models share: everything but the first layer's matrices."""
    for folder, spec in (("base", BASE), ("base-moe", MOE)):
        path = os.path.join(OUT, folder)
        os.makedirs(path, exist_ok=True)
        if spec is BASE:
            ids = write_tokenizer(path, spec)
            os.remove(os.path.join(path, "video_preprocessor_config.json"))
            write_json(path, "generation_config.json", {"do_sample": False, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]]})
        _, weights = base_weights(spec)
        keep = {k: v for k, v in weights.items() if not in_first_layer(k)}
        if spec is MOE:
            keep = {k: v for k, v in keep.items() if ".layers." in k}
        write_safetensors(os.path.join(path, "rest.safetensors"), keep, {"format": "pt"})


def main():
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    chosen = sys.argv[1:] or ["matrices", *MODELS]
    ties = []
    make_bases()
    for name in chosen:
        ties += (make_matrices() or []) if name == "matrices" else make_model(name)
    if ties:
        raise SystemExit("near ties, choose another seed: " + " ".join(ties))


if __name__ == "__main__":
    main()
