#!/usr/bin/env python3
"""Write tests/fuzz/corpus/fuzz_quantised/: files that must be accepted (good-...) and refused (bad-...).

A file is a quantization_config on one line and a safetensors file; the model's sizes stand in tests/fuzz/fuzz_quantised.c.
"""
import json
import os
import shutil
import tempfile

import numpy as np
import torch

import quantisers as Q
from golden import write_safetensors
from make_goldens import ROOT

OUT = os.path.join(ROOT, "tests", "fuzz", "corpus", "fuzz_quantised")
K, V = "model.language_model.layers.0.self_attn.k_proj", "model.visual.blocks.0.attn.proj"
EXPERTS = "model.language_model.layers.1.mlp."
rng = np.random.default_rng(23)

AWQ = dict(quant_method="awq", bits=4, group_size=16, version="gemm")
GPTQ = dict(quant_method="gptq", bits=4, group_size=16, desc_act=True)
FP8 = dict(quant_method="fp8", fmt="e4m3", weight_block_size=[16, 16])
BNB = dict(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4")
MLX = dict(group_size=32, bits=4)


def compressed(form, **weights):
    return dict(quant_method="compressed-tensors", format=form, config_groups={"a": dict(weights=dict(
        dict(num_bits=4, type="int", strategy="group", group_size=16), **weights))})


def matrix(n=32, k=32):
    return rng.standard_normal((n, k)).astype(np.float32)


def module(maker, stem=K, n=32, k=32, **options):
    return {stem + s: t.contiguous() for s, t in maker(matrix(n, k), **options)[0].items()}


def put(name, said, tensors, raw=None):
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "t")
        write_safetensors(path, tensors, {"format": "pt"})
        with open(path, "rb") as f:
            body = f.read()
    with open(os.path.join(OUT, name), "wb") as f:
        f.write((raw or json.dumps(said)).encode() + b"\n" + body)


def changed(tensors, suffix, how):
    """The tensors with one of them replaced, or left out when `how` gives None."""
    out = {}
    for name, t in tensors.items():
        t = how(t) if name.endswith(suffix) else t
        if t is not None:
            out[name] = t
    return out


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    awq = module(Q.awq, group=16)
    gptq = module(Q.gptq, group=16, act_order=1, symmetric=False)
    packed = module(Q.compressed, group=16, symmetric=False)
    int8 = module(Q.compressed, bits=8, strategy="channel", packed=False)
    fp8 = module(Q.fp8, block=(16, 16))
    nf4, bnb8 = module(Q.bnb4, stem=V, n=8, k=8), module(Q.bnb8)
    mlx = module(Q.mlx)
    said_packed, said_int = compressed("pack-quantized"), compressed("int-quantized", num_bits=8, strategy="channel")
    put("good-awq", AWQ, awq)
    put("good-gptq", GPTQ, gptq)
    put("good-gptq-sym", dict(GPTQ, group_size=32), module(Q.gptq, group=32))
    put("good-gptq-3", dict(GPTQ, bits=3), module(Q.gptq, bits=3, group=16, symmetric=False))
    put("good-packed", said_packed, packed)
    put("good-int8", said_int, int8)
    put("good-fp8", FP8, fp8)
    put("good-nf4", BNB, nf4)
    put("good-bnb8", dict(BNB, load_in_4bit=False, load_in_8bit=True), bnb8)
    put("good-mlx", MLX, mlx)
    put("good-mlx-mxfp8", dict(MLX, mode="mxfp8", bits=8), module(Q.mlx, bits=8, mode="mxfp8"))
    stack = {}
    for which in ("gate_proj", "up_proj", "down_proj"):
        each = [Q.mlx(matrix())[0] for _ in range(2)]
        stack.update({f"{EXPERTS}switch_mlp.{which}{s}": torch.stack([e[s] for e in each]) for s in each[0]})
    put("good-mlx-experts", MLX, stack)
    fused = {}
    for which, n, k in (("gate_up_proj", 32, 64), ("down_proj", 32, 32)):
        each = [Q.fp8(matrix(n, k), block=(16, 16))[0] for _ in range(2)]
        fused[f"{EXPERTS}experts.{which}"] = torch.stack([e[".weight"] for e in each])
        fused[f"{EXPERTS}experts.{which}_scale_inv"] = torch.stack([e[".weight_scale_inv"] for e in each])
    put("good-fp8-experts", FP8, fused)
    put("good-plain", AWQ, {K + ".weight": torch.zeros(2, 2)})  # says it, has nothing quantised: a warning

    put("bad-method", dict(AWQ, quant_method="hqq"), awq)
    put("bad-config", None, awq, raw="[]")
    put("bad-config-json", None, awq, raw='{"quant_method":')
    put("bad-awq-bits", dict(AWQ, bits=8), awq)
    put("bad-awq-version", dict(AWQ, version="gemv"), awq)
    put("bad-awq-group", dict(AWQ, group_size=12), awq)
    put("bad-awq-group-huge", dict(AWQ, group_size=2**62), awq)
    put("bad-awq-zeros", AWQ, changed(awq, ".qzeros", lambda t: None))
    put("bad-awq-scales", AWQ, changed(awq, ".scales", lambda t: t[:, :16]))
    put("bad-awq-nan", AWQ, changed(awq, ".scales", lambda t: t * float("nan")))
    put("bad-awq-empty", AWQ, changed(awq, ".scales", lambda t: t[:0]))
    put("bad-awq-as-gptq", GPTQ, awq)
    put("bad-awq-beside", AWQ, dict(awq, **{K + ".weight": torch.zeros(32, 32)}))
    put("bad-awq-twice", AWQ, dict(awq, **{"language_model.model." + K[21:] + ".qweight": awq[K + ".qweight"]}))
    put("bad-awq-bias", AWQ, dict(awq, **{K + ".bias": torch.ones(32)}))
    for name, value in (("low", -1), ("high", 2), ("far", 2**31 - 1)):
        g = gptq[K + ".g_idx"].clone()
        g[7] = value
        put("bad-gptq-order-" + name, GPTQ, changed(gptq, ".g_idx", lambda t, g=g: g))
    put("bad-gptq-order-short", GPTQ, changed(gptq, ".g_idx", lambda t: t[:31]))
    put("bad-gptq-rows", GPTQ, changed(gptq, ".qweight", lambda t: t[:3]))
    put("bad-gptq-none", GPTQ, changed(gptq, ".qweight", lambda t: t[:0]))
    put("bad-gptq-flat", GPTQ, changed(gptq, ".qweight", lambda t: t.reshape(-1)))
    put("bad-packed-shape", said_packed, changed(packed, ".weight_shape", lambda t: torch.tensor([32, 2**40])))
    put("bad-packed-zeros", said_packed, changed(packed, ".weight_zero_point", lambda t: t[:2]))
    put("bad-packed-bits", compressed("pack-quantized", num_bits=32), packed)
    put("bad-int8-scales", said_int, changed(int8, ".weight_scale", lambda t: t[:16]))
    put("bad-fp8-block", dict(FP8, weight_block_size=[8, 16]), fp8)
    put("bad-fp8-block-zero", dict(FP8, weight_block_size=[0, 16]), fp8)
    put("bad-fp8-experts", FP8, changed(fused, "experts.down_proj_scale_inv", lambda t: t[:1]))
    for name, text in (("list", "[1]"), ("zero", '{"blocksize":0,"shape":[8,8]}'), ("huge", '{"blocksize":9999999999,"shape":[8,8]}'),
                       ("shape", '{"blocksize":64,"shape":[8,9]}'), ("cut", '{"blocksize":64,"sh')):
        state = torch.tensor(list(text.encode()), dtype=torch.uint8)
        put("bad-nf4-" + name, BNB, changed(nf4, "bitsandbytes__nf4", lambda t, s=state: s))
    put("bad-nf4-map", BNB, changed(nf4, ".quant_map", lambda t: t[:15] if t.numel() == 16 else t))
    put("bad-nf4-nested", BNB, changed(nf4, ".nested_quant_map", lambda t: t[:255]))
    put("bad-bnb8", dict(BNB), changed(bnb8, ".SCB", lambda t: t[:31]))
    put("bad-bnb8-format", dict(BNB), changed(bnb8, ".weight_format", lambda t: torch.tensor(1, dtype=torch.uint8)))
    put("bad-mlx-groups", MLX, changed(mlx, ".scales", lambda t: t.expand(32, 3)))
    put("bad-mlx-biases", MLX, changed(mlx, ".biases", lambda t: t[:31]))
    put("bad-mlx-words", MLX, changed(mlx, ".weight", lambda t: t[:, :3]))
    put("bad-mlx-experts", MLX, changed(stack, "up_proj.scales", lambda t: t[:1]))
    print(len(os.listdir(OUT)), "files")


if __name__ == "__main__":
    main()
