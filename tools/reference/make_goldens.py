#!/usr/bin/env python3
"""Regenerate everything under tests/golden/: pictures, random models and traces.

    python make_goldens.py               everything (half a minute)
    python make_goldens.py tiny          only the traces of models/tiny (after its weights were replaced)
    python make_goldens.py moe-bf16 ...  only these random models and their traces

The traces of a model are written to tests/golden/MODEL/CASE.safetensors. The program prints for each the smallest gap
between the two best logits of the greedy path, and fails if one is so small that rounding could choose the other token.
"""
import os
import sys

import torch

import golden
from pictures import make_pictures
from random_models import MODELS, make_model

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
GOLDEN = os.path.join(ROOT, "tests", "golden")
MIN_GAP = 1e-3


def turn(role, *parts):
    """A message whose parts are text, or a picture when they end like a file name."""
    return {"role": role, "content": [
        {"type": "image", "image": p} if p.endswith((".png", ".jpg")) else {"type": "text", "text": p} for p in parts]}


def picture(name):
    """A name under tests/golden/images/, or one of the tiny model's examples, as seen from a folder of traces."""
    return "../../../models/tiny/examples/" + name[8:] if name.startswith("example/") else "../images/" + name


def user(*parts):
    return turn("user", *(picture(p) if p.endswith((".png", ".jpg")) else p for p in parts))


# What a golden keeps. Intermediates only where the prompt is short; the geometry cases need only what geometry decides.
FULL = "input_ids,position_ids,rope_delta,pixel_values,grid_thw,vision.*,text.*,logits.last,generated_ids"
PIXELS = "input_ids,position_ids,rope_delta,pixel_values,grid_thw,vision.output,logits.last,generated_ids"
HEADS = "input_ids,position_ids,rope_delta,grid_thw,logits.last,generated_ids"
LEAN = "input_ids,position_ids,rope_delta,grid_thw,vision.output,logits.last,generated_ids"

TALK = [
    {"role": "system", "content": "You look at pictures. Answer in one sentence."},
    user("square.png", "What is this?"),
    {"role": "assistant", "content": "There is one shape."},
    user("And here, é 漢字 🙂 12345?", "odd.png", " Compare\n\nboth."),
]
FORMATS = user("grey.png", "grey16.png", "palette.png", "cmyk.jpg", "progressive.jpg", "Which one is grey?")
DESCRIBE = "Describe this image."
# Long enough for a prompt to be taken in pieces whose borders fall inside pictures; one picture comes three times.
CROWD = [user("panorama.jpg", "1", "strip.png", "2", "odd.png", "3", "odd.png", "4", "rotated.jpg", "5", "strip.png", "6",
              "panorama.jpg", "7", "alpha.png", "8", "odd.png", "9", "square.png", "Which of these pictures are the same?"),
         turn("assistant", "The third, the fourth and the ninth. " * 6),
         user("strip.png", "panorama.jpg", "strip.png", "odd.png", "panorama.jpg", "And these?", "strip.png", "panorama.jpg",
              "odd.png", "rotated.jpg", "strip.png", "panorama.jpg", "Are there any more?")]

TOOLS = [
    user("odd.png", "Zoom in twice."),
    {"role": "assistant", "content": "Yes.", "tool_calls": [
        {"type": "function", "function": {"name": "zoom", "arguments": {"box": [1, 2.5, 300, 4], "why": "<é> & 'x'"}}},
        {"type": "function", "function": {"name": "zoom", "arguments": "{\"box\": [5,6,7,8]}"}}]},
    turn("tool", picture("square.png"), "first"),
    {"role": "tool", "content": "second"},
    user("Which is larger?"),
]

# case: (messages, options of golden.py)
COMMON = {
    "text": ([user("Hello! What can you do?")], dict(max_new_tokens=24, tensors="all")),
    "one": ([user("odd.png", DESCRIBE)], dict(max_new_tokens=24, tensors=FULL)),
    "rotated": ([user("rotated.jpg", DESCRIBE)], dict(max_new_tokens=8, tensors=LEAN)),
    "alpha": ([user("alpha.png", DESCRIBE)], dict(max_new_tokens=8, tensors=LEAN)),
    "two": ([user("First: ", "square.png", " second: ", "odd.png", " What changed?")], dict(max_new_tokens=24, tensors=LEAN)),
    "talk": (TALK, dict(max_new_tokens=24, tensors=LEAN)),
    "panorama": ([user("panorama.jpg", DESCRIBE)], dict(max_new_tokens=8, tensors=LEAN)),
    "strip": ([user("strip.png", DESCRIBE)], dict(max_new_tokens=8, tensors=LEAN)),
    "max-pixels": ([user("panorama.jpg", DESCRIBE)], dict(max_new_tokens=8, tensors=LEAN, max_pixels=9000)),
    "min-pixels": ([user("square.png", DESCRIBE)], dict(max_new_tokens=8, tensors=LEAN, min_pixels=20000)),
    "crowd": (CROWD, dict(max_new_tokens=16, tensors=HEADS)),
    "long": ([user("square.png", "Tell me a story about it.")],
             dict(max_new_tokens=48, tensors=LEAN, generated_logits=True)),
}
# The trained model answers sensibly, so its cases are the ones a reader can check by eye; and it is where the
# decoders and the resize are compared pixel by pixel.
TINY = {
    "text": COMMON["text"],
    "one": ([user("example/one-shape.png", DESCRIBE)], dict(max_new_tokens=32, tensors=FULL)),
    "photo": ([user("example/photo.jpg", DESCRIBE)], dict(max_new_tokens=48, tensors=LEAN, generated_logits=True)),
    "two": ([user("example/before.png", "example/after.png", "What changed between the two images?")],
            dict(max_new_tokens=32, tensors=LEAN)),
    "sign": ([user("example/sign.png", DESCRIBE), turn("assistant", "There is a large black cross on the left."),
              user("What does the sign say?")], dict(max_new_tokens=32, tensors=LEAN)),
    "boxes": ([user("example/one-shape.png", "Locate all shapes and report bbox coordinates in JSON format.")],
              dict(max_new_tokens=64, tensors=LEAN)),
    "upright": ([user("example/rotated.jpg", DESCRIBE)], dict(max_new_tokens=48, tensors=LEAN)),
    "odd": ([user("odd.png", DESCRIBE)], dict(max_new_tokens=32, tensors=PIXELS)),
    "rotated": ([user("rotated.jpg", DESCRIBE)], dict(max_new_tokens=16, tensors=PIXELS, max_pixels=7168)),
    "alpha": ([user("alpha.png", DESCRIBE)], dict(max_new_tokens=16, tensors=PIXELS, min_pixels=3072)),
    "alpha-drop": ([user("alpha.png", DESCRIBE)], dict(max_new_tokens=16, tensors=PIXELS, min_pixels=3072, alpha="drop")),
    "formats": ([FORMATS], dict(max_new_tokens=16, tensors=PIXELS, min_pixels=1024)),
    "strip": ([user("strip.png", DESCRIBE)], dict(max_new_tokens=16, tensors=LEAN)),
    "panorama": ([user("panorama.jpg", DESCRIBE)], dict(max_new_tokens=16, tensors=LEAN)),
    "talk": (TALK, dict(max_new_tokens=24, tensors=LEAN)),
    "tools": (TOOLS, dict(max_new_tokens=16, tensors=LEAN)),
    "crowd": COMMON["crowd"],
    "max-pixels": COMMON["max-pixels"],
    "min-pixels": COMMON["min-pixels"],
    "no-prompt": ([user("square.png", DESCRIBE)], dict(max_new_tokens=0, tensors=LEAN, no_generation_prompt=True)),
}


def make_traces(name, model_dir, cases):
    """Write every case of one model; returns the names of those whose greedy path passes a near tie."""
    folder, ties = os.path.join(GOLDEN, name), []
    os.makedirs(folder, exist_ok=True)
    model, processor = golden.load(model_dir, torch.float32)
    for case, (messages, options) in cases.items():
        path = os.path.join(folder, case + ".safetensors")
        argv = [model_dir, path, "--messages", "unused"]
        for option, value in options.items():
            argv += ["--" + option.replace("_", "-")] + ([] if value is True else [str(value)])
        args = golden.parser().parse_args(argv)
        tensors, ids, gap = golden.run(model, processor, messages, folder, args)
        golden.write(path, tensors, messages, folder, args)
        n = tensors["input_ids"].shape[0]
        text = processor.tokenizer.decode(ids, skip_special_tokens=False)
        print(f"{name + '/' + case:26} {os.path.getsize(path):8} bytes  T={n:3} new={len(ids):2} gap={gap:.4f} {text!r}",
              flush=True)
        if not gap > MIN_GAP:
            ties.append(f"{name}/{case}")
    return ties


def main():
    torch.set_num_threads(1)  # one order of summation, so that a rerun gives the same bytes
    chosen = sys.argv[1:] or ["tiny", *MODELS]
    make_pictures(os.path.join(GOLDEN, "images"))
    ties = []
    for name in chosen:
        if name == "tiny":
            ties += make_traces(name, os.path.join(ROOT, "models", "tiny"), TINY)
        else:
            ties += make_traces(name, make_model(os.path.join(GOLDEN, "models"), name), COMMON)
    if ties:
        raise SystemExit("near ties, choose another prompt or seed: " + " ".join(ties))


if __name__ == "__main__":
    main()
