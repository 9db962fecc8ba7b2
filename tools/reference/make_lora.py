#!/usr/bin/env python3
"""Random low-rank adapters for the small models of tests/golden/models, saved by PEFT, and traces of the adapted models.

    python make_lora.py

writes tests/golden/lora/ADAPTER/ and tests/golden/lora/TRACE.safetensors again. Needs peft (0.21.2) and accelerate beside
requirements.txt.
"""
import json
import os
import shutil
import types

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import golden
from make_goldens import GOLDEN, MIN_GAP, user

OUT = os.path.join(GOLDEN, "lora")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

# adapter: (model, type of the saved matrices, configuration)
ADAPTERS = {
    "all": ("untied-f32", torch.float32, dict(r=4, lora_alpha=8, target_modules=ATTENTION + MLP)),
    "head": ("untied-f32", torch.float16, dict(r=2, lora_alpha=3, target_modules=["o_proj", "lm_head"])),
    "patterns": ("sharded-bf16", torch.bfloat16, dict(
        r=3, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"],
        rank_pattern={"q_proj": 5, r"layers\.[12]\.mlp\.down_proj": 2},
        alpha_pattern={"model.language_model.layers.0.self_attn.v_proj": 1.5, ".*o_proj": 1, "proj": 7})),
    "experts": ("moe-bf16", torch.bfloat16, dict(r=4, lora_alpha=4, target_modules=ATTENTION)),
    "mixed": ("moe-mixed-f32", torch.float32, dict(r=2, lora_alpha=4, target_modules=["q_proj"] + MLP)),
}

TEXT = [user("Hello! What can you do?")]
PICTURE = [user("First: ", "square.png", " second: ", "odd.png", " What changed?")]
# trace: (messages, [(adapter, weight)]); tokens chosen so that no two logits come close (MIN_GAP)
TRACES = {
    "all-text": (TEXT, [("all", 1)], 24),
    "all-picture": (PICTURE, [("all", 1)], 16),
    "all-half": (TEXT, [("all", 0.5)], 16),
    "head-text": (TEXT, [("head", 1)], 16),
    "both-picture": (PICTURE, [("all", 1), ("head", -0.5)], 16),
    "patterns-picture": (PICTURE, [("patterns", 1)], 16),
    "experts-picture": (PICTURE, [("experts", 1)], 16),
    "mixed-text": (TEXT, [("mixed", 1)], 16),
}


def make_adapter(name, seed):
    model_name, dtype, options = ADAPTERS[name]
    model, _ = golden.load(os.path.join(GOLDEN, "models", model_name), torch.float32)
    model = get_peft_model(model, LoraConfig(lora_dropout=0.1, bias="none", **options))
    generator = torch.Generator().manual_seed(seed)
    for key, p in model.named_parameters():
        if "lora_" in key:
            p.data = torch.randn(p.shape, generator=generator) * (1 / p.shape[1] ** 0.5 if "lora_A" in key else 0.3)
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_model.safetensors")
    tensors = {k: t.to(dtype) for k, t in load_file(path).items()}
    if name == "head":  # the spelling of checkpoints before transformers 4.52, and the name of the adapter left in
        tensors = {k.replace("model.language_model.layers", "model.layers").replace(".weight", ".default.weight"): t
                   for k, t in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)
    config = os.path.join(folder, "adapter_config.json")
    with open(config, encoding="utf-8") as f:
        c = json.load(f)
    c["base_model_name_or_path"] = model_name
    c["target_modules"] = sorted(c["target_modules"])
    with open(config, "w", encoding="utf-8") as f:
        json.dump(c, f, indent=1, sort_keys=True)
        f.write("\n")


def peft_folder(name, scratch):
    """The adapter in the spelling that this PEFT expects."""
    folder = os.path.join(scratch, name)
    shutil.copytree(os.path.join(OUT, name), folder, dirs_exist_ok=True)
    path = os.path.join(folder, "adapter_model.safetensors")
    save_file({k.replace("base_model.model.model.layers", "base_model.model.model.language_model.layers").replace(".default.", "."):
               t.float() for k, t in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


def adapted(adapters, scratch):
    model, processor = golden.load(os.path.join(GOLDEN, "models", ADAPTERS[adapters[0][0]][0]), torch.float32)
    for i, (name, _) in enumerate(adapters):
        folder = peft_folder(name, scratch)
        if i == 0:
            model = PeftModel.from_pretrained(model, folder, adapter_name=name)
        else:
            model.load_adapter(folder, adapter_name=name)
    model.base_model.set_adapter([name for name, _ in adapters])
    touched = 0
    for module in model.modules():
        for name, weight in adapters:
            if isinstance(getattr(module, "scaling", None), dict) and name in module.scaling:  # attention has a number of that name
                module.scaling[name] *= weight
                touched += 1
    assert touched
    return model.base_model.model.eval(), processor


def main():
    import tempfile
    os.makedirs(OUT, exist_ok=True)
    for seed, name in enumerate(ADAPTERS):
        make_adapter(name, 100 + seed)
    for name, (messages, adapters, n) in TRACES.items():
        with tempfile.TemporaryDirectory() as scratch:
            model, processor = adapted(adapters, scratch)
        args = types.SimpleNamespace(max_new_tokens=n, tensors="input_ids,position_ids,text.layer.*,logits.last,generated_ids", alpha="white",
                                     min_pixels=None, max_pixels=None, generation_prompt=True, generated_logits=False, dtype="float32")
        tensors, ids, gap = golden.run(model, processor, messages, OUT, args)
        golden.write(os.path.join(OUT, name + ".safetensors"), tensors, messages, OUT, args)
        print(f"{name}: {len(ids)} generated, gap {gap:.4g}")
        if gap < MIN_GAP:
            raise SystemExit(f"{name}: two logits are too close")


if __name__ == "__main__":
    main()
