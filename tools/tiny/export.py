"""Write a checkpoint as a model folder in the published layout of Qwen3-VL."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from config import ROPE, ROPE_THETA, SIDE_MAX, SIDE_MIN, model_config
from model import load_tokenizer, load_weights, new_model

TEXT_KEYS = """attention_bias attention_dropout bos_token_id eos_token_id head_dim hidden_act hidden_size
    initializer_range intermediate_size max_position_embeddings num_attention_heads num_hidden_layers
    num_key_value_heads rms_norm_eps use_cache vocab_size""".split()
VISION_KEYS = """deepstack_visual_indexes depth hidden_act hidden_size in_channels initializer_range intermediate_size
    num_heads num_position_embeddings out_hidden_size patch_size spatial_merge_size temporal_patch_size""".split()
FRAMES_MAX = 8
LAYOUT_VERSION = "4.57.0.dev0"          # the transformers version that the published files name


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True), encoding="utf-8")


def write_weights(checkpoint: Path, special: dict[str, int], dest: Path) -> None:
    """bf16, without the output matrix that is tied to the embedding."""
    model = new_model(special)
    load_weights(model, None, checkpoint)
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, dest / "model.safetensors", metadata={"format": "pt"})


def write_config(special: dict[str, int], dest: Path) -> None:
    config = model_config(special)
    text = {k: getattr(config.text_config, k) for k in TEXT_KEYS}
    text.update(
        dtype="bfloat16", model_type="qwen3_vl_text", tie_word_embeddings=True,
        rope_theta=ROPE_THETA, rope_scaling=ROPE,
    )
    vision = {k: getattr(config.vision_config, k) for k in VISION_KEYS}
    vision["model_type"] = "qwen3_vl"
    write_json(dest / "config.json", dict(
        architectures=["Qwen3VLForConditionalGeneration"], model_type="qwen3_vl", tie_word_embeddings=True,
        image_token_id=special["<|image_pad|>"], video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"], vision_end_token_id=special["<|vision_end|>"],
        transformers_version=LAYOUT_VERSION, text_config=text, vision_config=vision,
    ))
    end, pad = special["<|im_end|>"], special["<|endoftext|>"]
    write_json(dest / "generation_config.json", dict(
        bos_token_id=pad, pad_token_id=pad, eos_token_id=[end, pad], do_sample=False,
    ))


def write_processors(dest: Path) -> None:
    least, most = SIDE_MIN * SIDE_MIN, SIDE_MAX * SIDE_MAX
    common = dict(
        patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        processor_class="Qwen3VLProcessor",
    )
    write_json(dest / "preprocessor_config.json", dict(
        common, image_processor_type="Qwen2VLImageProcessorFast", size=dict(shortest_edge=least, longest_edge=most),
    ))
    write_json(dest / "video_preprocessor_config.json", dict(
        common, video_processor_type="Qwen3VLVideoProcessor",
        size=dict(shortest_edge=least, longest_edge=most * FRAMES_MAX),
    ))


def write_tokenizer(source: Path, full_config: Path, template: Path, dest: Path) -> None:
    """tokenizer.json without indentation; the full tokenizer's settings with the new ids; the chat template."""
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    (dest / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=0), encoding="utf-8")
    config = json.loads(full_config.read_text(encoding="utf-8"))
    kept = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    config["added_tokens_decoder"] = {str(t["id"]): {k: t[k] for k in kept} for t in tokenizer["added_tokens"]}
    config["model_max_length"] = 8192
    config.pop("chat_template", None)
    write_json(dest / "tokenizer_config.json", config)
    shutil.copyfile(template, dest / "chat_template.jinja")


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("checkpoint", type=Path)
    ap.add_argument("dest", type=Path, help="folder to write")
    ap.add_argument("--tokenizer", type=Path, required=True, help="folder with the small tokenizer.json")
    ap.add_argument("--full-config", type=Path, required=True, help="tokenizer_config.json of the full tokenizer")
    ap.add_argument("--template", type=Path, default=Path(__file__).with_name("chat_template.jinja"))
    args = ap.parse_args()
    args.dest.mkdir(parents=True, exist_ok=True)
    _, special = load_tokenizer(args.tokenizer)
    write_weights(args.checkpoint, special, args.dest)
    write_config(special, args.dest)
    write_processors(args.dest)
    write_tokenizer(args.tokenizer, args.full_config, args.template, args.dest)
    print(f"{sum(f.stat().st_size for f in args.dest.iterdir() if f.is_file()) / 1e6:.1f} MB in {args.dest}")


if __name__ == "__main__":
    main()
