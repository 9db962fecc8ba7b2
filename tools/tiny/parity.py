"""Compare the batched forward pass of training with transformers itself, for a picture, a pair and a clip."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import Qwen3VLForConditionalGeneration

from config import MIX, TRAIN_SEED
from data import IGNORE, Batch, Maker
from model import PATCH, Forward, load_tokenizer, patchify

TOLERANCE = 1e-3


def transformers_logits(model, special: dict[str, int], b: Batch, ids: torch.Tensor) -> torch.Tensor:
    """Logits after the last of ids, which are the first conversation of the first row, alone."""
    units = b.units[0]
    pixels = patchify(b.frames[:units]).flatten(0, 1)
    grid = [units if b.kind == "video" else 1, b.height // PATCH, b.width // PATCH]
    if b.kind == "video":
        media = dict(pixel_values_videos=pixels, video_grid_thw=torch.tensor([grid]))
    else:
        media = dict(pixel_values=pixels, image_grid_thw=torch.tensor([grid] * units))
    types = (ids == special["<|image_pad|>"]).long() + 2 * (ids == special["<|video_pad|>"]).long()
    whole = torch.ones_like(ids)[None]
    out = model(input_ids=ids[None], attention_mask=whole, mm_token_type_ids=types[None], **media)
    return out.logits[0, -1]


@torch.no_grad()
def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("model", type=Path, help="exported folder")
    args = ap.parse_args()
    torch.set_num_threads(1)
    model = Qwen3VLForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer, special = load_tokenizer(args.model)
    passes, maker = Forward(model), Maker(tokenizer, special, TRAIN_SEED)
    left, worst = set(MIX), 0.0
    while left:
        b = maker.batch(4, 1.0)
        if b.kind not in left:
            continue
        left.remove(b.kind)
        features, deepstack = passes.vision(patchify(b.frames), *passes.grid(b.width, b.height))
        hidden = passes.text(b.ids, b.positions, b.mask, b.where, features, deepstack)
        last = int((b.labels[0] != IGNORE).nonzero()[0, 0])
        seen = b.mask[0, 0, last].nonzero()[:, 0]
        ours, theirs = passes.logits(hidden[0, last]), transformers_logits(model, special, b, b.ids[0, seen])
        difference = float((ours - theirs).abs().max())
        worst = max(worst, difference)
        print(f"{b.kind:6} largest difference {difference:.1e}, largest logit {float(theirs.abs().max()):.1f}")
    if worst > TOLERANCE:
        raise SystemExit("the two passes disagree")


if __name__ == "__main__":
    main()
