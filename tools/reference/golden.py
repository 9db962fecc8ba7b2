#!/usr/bin/env python3
"""Write a golden: everything transformers computes for one prompt, stage by stage, in one safetensors file.

    python golden.py MODEL_DIR OUT.safetensors --messages FILE.json [options]
    qvl verify MODEL_DIR OUT.safetensors

MODEL_DIR is any Qwen3-VL folder (dense or mixture of experts). FILE.json holds a list of chat messages, for example

    [{"role": "user", "content": [{"type": "image", "image": "cat.jpg"}, {"type": "text", "text": "What is this?"}]}]

with picture files named relative to FILE.json. README.md beside this file lists the tensors and the options.
The model runs on the CPU in float32 with eager attention and decodes greedily without penalties, whatever its own
generation settings say, because that is the only mode in which two programs can be compared token by token.
"""
import argparse
import fnmatch
import json
import os
import struct
import sys

import numpy as np
import torch
import torchvision  # without it transformers quietly takes its Pillow processor, which rounds differently
import transformers
from PIL import Image, ImageOps
from transformers import AutoConfig, AutoProcessor, GenerationConfig

# Patterns of `--tensors`. `logits` keeps a row for each prompt token, `logits.last` only the one that predicts.
PRESETS = {
    "all": "*",
    "io": "input_ids,position_ids,rope_delta,pixel_values,grid_thw,vision.output,logits.last,generated_ids",
}


def media_parts(messages):
    """Yield every picture part of a conversation, in prompt order."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            if part.get("type") in ("video", "video_url") or "video" in part:
                raise SystemExit("videos are not supported by this program")
            if part.get("type") in ("image", "image_url") or "image" in part or "image_url" in part:
                yield part


def part_path(part):
    """The file name of a picture part: transformers' {"image": name} or OpenAI's {"image_url": {"url": name}}."""
    name = part.get("image", part.get("image_url"))
    return name["url"] if isinstance(name, dict) else name


def open_picture(path, alpha):
    """Decode to 8-bit RGB the way qvl does: EXIF orientation applied, first frame, transparency on white or dropped.

    `drop` is what transformers.image_utils.load_image does; `white` is what its processor does to an opened picture.
    16-bit grey is scaled (Pillow's own conversion clips at 255, which turns a scan white).
    """
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((grey * 2 + 257) // 514).clip(0, 255).astype(np.uint8))
    if alpha == "white" and image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    image = image.convert("RGB")
    image.info.pop("transparency", None)  # a transparent colour outlives the conversion, and the processor would paint it white
    return image


def build_inputs(processor, messages, folder, args):
    """Messages to model inputs: chat template, then the processor (pads multiplied, pictures cut into patches)."""
    pictures = [open_picture(os.path.join(folder, part_path(p)), args.alpha) for p in media_parts(messages)]
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=args.generation_prompt)
    kwargs = {}
    if pictures:
        size = dict(processor.image_processor.size)
        low, high = size["shortest_edge"], size["longest_edge"]  # pixel counts, whatever their names say
        kwargs = {"images": pictures, "size": {
            "shortest_edge": args.min_pixels or low, "longest_edge": args.max_pixels or high}}
    return processor(text=[prompt], return_tensors="pt", **kwargs)


class Recorder:
    """Copies of intermediate tensors, by the names of the trace format, taken from the first forward pass (prefill)."""

    def __init__(self, model, wanted):
        self.tensors, self.wanted, self.taps, self.hooks = {}, wanted, 0, []
        visual, text = model.model.visual, model.model.language_model
        self.on_input(visual.blocks[0], "vision.embed")
        for n, block in enumerate(visual.blocks):
            self.on_output(block, f"vision.block.{n}")
        for merger in visual.deepstack_merger_list:  # numbered as they run, which is the order the decoder adds them in
            self.hooks.append(merger.register_forward_hook(self.keep_tap))
        self.on_output(visual.merger, "vision.output")
        # The DeepStack rows are added between two layers, so a layer's result is what the next module receives.
        stages = list(text.layers) + [text.norm]
        for n, stage in enumerate(stages):
            self.on_input(stage, f"text.layer.{n - 1}" if n else "text.embed")
        self.on_output(text.norm, "text.norm")
        self.hooks.append(text.register_forward_pre_hook(self.keep_positions, with_kwargs=True))

    def close(self):
        for hook in self.hooks:
            hook.remove()

    def keep(self, name, tensor, force=False):
        """Store [rows, columns]: the batch dimension of 1 goes. Later passes (decoding) find the name taken."""
        if name not in self.tensors and (force or self.wanted(name)):
            self.tensors[name] = tensor.detach().to(torch.float32).reshape(-1, tensor.shape[-1]).numpy().copy()

    def on_output(self, module, name):
        force = name == "text.norm"  # the logits are computed from it
        self.hooks.append(module.register_forward_hook(
            lambda _m, _a, out: self.keep(name, out[0] if isinstance(out, tuple) else out, force)))

    def on_input(self, module, name):
        self.hooks.append(module.register_forward_pre_hook(
            lambda _m, a, kw: self.keep(name, a[0] if a else kw["hidden_states"]), with_kwargs=True))

    def keep_tap(self, _module, _args, out):
        self.keep(f"vision.deepstack.{self.taps}", out)
        self.taps += 1

    def keep_positions(self, _module, _args, kwargs):
        """[3, T] from the [3 or 4, 1, T] the decoder gets; with 4 the first row is the plain text position."""
        if "position_ids" not in self.tensors:
            positions = kwargs["position_ids"][-3:, 0].numpy().astype(np.int32)
            self.tensors["position_ids"] = positions.copy()
            self.tensors["rope_delta"] = np.array([positions.max() + 1 - positions.shape[1]], np.int32)


def load(folder, dtype):
    """The model and its processor. Eager attention and plain expert loops: the formulas, not their fused kernels."""
    options = {"dtype": dtype, "attn_implementation": "eager"}
    if AutoConfig.from_pretrained(folder).model_type == "qwen3_vl_moe":
        cls = transformers.Qwen3VLMoeForConditionalGeneration
        if int(transformers.__version__.split(".")[0]) >= 5:
            options["experts_implementation"] = "eager"
    else:
        cls = transformers.Qwen3VLForConditionalGeneration
    return cls.from_pretrained(folder, **options).eval(), AutoProcessor.from_pretrained(folder)


def greedy(model, inputs, n):
    """Plain greedy decoding of at most n tokens; returns the ids and the raw logits each was chosen from."""
    own = model.generation_config
    # Replaced as a whole: a config given to generate() would be completed from the model's, penalties included.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id, bos_token_id=own.bos_token_id)
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=n, output_logits=True, return_dict_in_generate=True)
    ids = out.sequences[0, inputs["input_ids"].shape[1]:]
    return ids.numpy().astype(np.int32), torch.cat(out.logits).to(torch.float32).numpy()


def run(model, processor, messages, folder, args):
    """One prompt through the model; returns {name: array} restricted to what args.tensors asks for."""
    patterns = PRESETS.get(args.tensors, args.tensors).split(",")

    def wanted(name):
        return any(fnmatch.fnmatchcase(name, p) for p in patterns)

    inputs = build_inputs(processor, messages, folder, args)
    recorder = Recorder(model, wanted)
    try:
        ids, step_logits = greedy(model, inputs, max(args.max_new_tokens, 1))
    finally:
        recorder.close()
    found = recorder.tensors
    found["input_ids"] = inputs["input_ids"][0].numpy().astype(np.int32)
    if "pixel_values" in inputs:
        found["pixel_values"] = inputs["pixel_values"].numpy()
        found["grid_thw"] = inputs["image_grid_thw"].numpy().astype(np.int32)
    if args.max_new_tokens:
        found["generated_ids"] = ids
        if args.generated_logits:
            found["generated_logits"] = step_logits
    result = {name: a for name, a in found.items() if wanted(name) or name == "generated_logits"}
    if wanted("logits"):
        with torch.no_grad():
            rows = torch.from_numpy(found["text.norm"]).to(model.lm_head.weight.dtype)
            result["logits"] = model.lm_head(rows).to(torch.float32).numpy()
    elif wanted("logits.last"):
        result["logits"] = step_logits[:1]
    for name, array in result.items():
        if not np.isfinite(array).all():
            raise SystemExit(f"{name}: not finite")
    top = np.sort(step_logits, axis=-1)[:, -2:]
    return {n: np.ascontiguousarray(a) for n, a in result.items()}, ids, float((top[:, 1] - top[:, 0]).min())


def relative_messages(messages, folder, out):
    """The messages again, with every picture named relative to the trace, so that both can be moved together."""
    messages = json.loads(json.dumps(messages))
    for part in media_parts(messages):
        name = os.path.relpath(os.path.join(folder, part_path(part)), os.path.dirname(os.path.abspath(out)))
        part.pop("image_url", None)
        part.update(type="image", image=name.replace(os.sep, "/"))
    return messages


def write_safetensors(path, tensors, metadata):
    """A safetensors file of torch tensors with everything in the order given: the same input makes the same bytes."""
    names = {torch.float32: "F32", torch.int32: "I32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
             torch.uint32: "U32", torch.uint8: "U8", torch.int8: "I8", torch.float8_e4m3fn: "F8_E4M3"}
    header, end = {"__metadata__": metadata}, 0
    for name, t in tensors.items():
        start, end = end, end + t.numel() * t.element_size()
        header[name] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for t in tensors.values():
            f.write(t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def write(path, tensors, messages, folder, args):
    meta = {
        "qvl.trace": "1",
        "reference": "transformers {}, torch {}, torchvision {}".format(
            *(module.__version__.split("+")[0] for module in (transformers, torch, torchvision))),
        "dtype": args.dtype,
        "messages": json.dumps(relative_messages(messages, folder, path), ensure_ascii=False),
        "max_new_tokens": str(args.max_new_tokens),
        "add_generation_prompt": "true" if args.generation_prompt else "false",
        "alpha": args.alpha,
    }
    for name in ("min_pixels", "max_pixels"):
        if getattr(args, name):
            meta[name] = str(getattr(args, name))
    write_safetensors(path, {name: torch.from_numpy(tensors[name]) for name in sorted(tensors)}, meta)


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", metavar="MODEL_DIR", help="folder with config.json, weights, tokenizer and processor files")
    p.add_argument("out", metavar="OUT.safetensors", help="trace to write")
    p.add_argument("--messages", required=True, metavar="FILE.json", help="list of chat messages")
    p.add_argument("--max-new-tokens", type=int, default=32, metavar="N", help="greedy continuation; 0 = none (default 32)")
    p.add_argument("--min-pixels", type=int, metavar="N", help="smallest resized picture, in pixels")
    p.add_argument("--max-pixels", type=int, metavar="N", help="largest resized picture, in pixels")
    p.add_argument("--no-generation-prompt", dest="generation_prompt", action="store_false",
                   help="do not append the opening of the assistant's turn")
    p.add_argument("--alpha", choices=("white", "drop"), default="white", help="what becomes of transparency")
    p.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="weights and arithmetic")
    p.add_argument("--tensors", default="all", metavar="all|io|LIST",
                   help="which tensors to keep: everything, inputs and outputs only, or comma-separated shell patterns "
                        "(default all; logits = a row per token, logits.last = the last row)")
    p.add_argument("--generated-logits", action="store_true", help="also keep the logits of every generated token")
    return p


def main():
    args = parser().parse_args()
    with open(args.messages, encoding="utf-8") as f:
        messages = json.load(f)
    folder = os.path.dirname(os.path.abspath(args.messages))
    model, processor = load(args.model, getattr(torch, args.dtype))
    tensors, ids, gap = run(model, processor, messages, folder, args)
    write(args.out, tensors, messages, folder, args)
    print(f"{args.out}: {len(tensors)} tensors, {os.path.getsize(args.out)} bytes, prompt {len(tensors.get('input_ids', []))}"
          f" tokens, {len(ids)} generated, smallest gap between the two best logits {gap:.4g}")
    print(processor.tokenizer.decode(ids, skip_special_tokens=False), file=sys.stderr)


if __name__ == "__main__":
    main()
