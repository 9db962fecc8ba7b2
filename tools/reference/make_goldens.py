#!/usr/bin/env python3
"""Regenerate everything under tests/golden/: pictures, random models and traces.

    python make_goldens.py            everything
    python make_goldens.py tiny       only the traces of models/tiny (after its weights were replaced)
"""
import json
import os
import sys

import torch

import golden

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
GOLDEN = os.path.join(ROOT, "tests", "golden")
TINY = os.path.join(ROOT, "models", "tiny")


def user(*parts):
    """A user turn: names ending in a picture suffix are pictures, everything else is text."""
    return {"role": "user", "content": [
        {"type": "image", "image": p} if p.endswith((".png", ".jpg")) else {"type": "text", "text": p} for p in parts]}


# name: messages, then options of golden.py. File names are relative to the folder of the trace.
EXAMPLES = "../../../models/tiny/examples/"
TINY_CASES = {
    "text": ([user("Hello! What can you do?")], {"max_new_tokens": 24, "tensors": "all"}),
    "one": ([user(EXAMPLES + "one-shape.png", "Describe this image.")], {"max_new_tokens": 32, "tensors": "all"}),
    "two": ([user(EXAMPLES + "before.png", EXAMPLES + "after.png", "What changed between the two images?")],
            {"max_new_tokens": 32, "tensors": "io"}),
}


def make(folder, model_dir, cases):
    os.makedirs(folder, exist_ok=True)
    model, processor = golden.load(model_dir, torch.float32)
    for name, (messages, options) in cases.items():
        path = os.path.join(folder, name + ".safetensors")
        argv = [model_dir, path, "--messages", "-"]
        for option, value in options.items():
            flag = "--" + option.replace("_", "-")
            argv += [flag] if value is True else [flag, str(value)]
        args = golden.parser().parse_args(argv)
        tensors, ids, gap = golden.run(model, processor, messages, folder, args)
        golden.write(path, tensors, messages, folder, args)
        text = processor.tokenizer.decode(ids, skip_special_tokens=False)
        n = tensors["input_ids"].shape[0]
        print(f"{os.path.relpath(path, ROOT):45} {os.path.getsize(path):9} bytes  T={n:4} gap={gap:.4f} {text!r}", flush=True)


def main():
    torch.set_num_threads(1)  # one order of summation, so that a rerun gives the same bytes
    make(os.path.join(GOLDEN, "tiny"), TINY, TINY_CASES)


if __name__ == "__main__":
    main()
