"""Train the vision tower alone, driven by the auxiliary heads: ten times as many pictures a second as joint training.

The language learns little from a tower that cannot see, so this comes before the long joint run.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp

from config import GRID, SIZES, TRAIN_SEED
from data import SMALL, stack_cells
from model import (
    AuxHeads, Forward, compile_for_any_size, load_tokenizer, load_weights, new_model, patchify, save_checkpoint,
)
from scenes import Scene

PIXELS = 40 * 128 * 128         # of one batch
TEXT_SHARE = 0.6                # more signs than in joint training: letters are the hardest to see
WARM_UP = 100                   # steps
LAST_LR = 0.05                  # share of the highest
LOG_EVERY, SAVE_EVERY = 100, 400


def draw_batches(queue, seed: int) -> None:
    """Worker: (frames, targets, size) without end."""
    torch.set_num_threads(1)
    rng = random.Random(seed)
    small = [s for s in SIZES if s[0] * s[1] <= SMALL]
    while True:
        width, height = rng.choice(small if rng.random() < 0.8 else SIZES)
        n = max(6, PIXELS // (width * height))
        scenes = [Scene(rng, width, height, text=rng.random() < TEXT_SHARE) for _ in range(n)]
        frames = torch.from_numpy(np.stack([np.stack([p, p]) for p in (s.draw() for s in scenes)]))
        queue.put((frames, stack_cells([s.cell_targets() for s in scenes]), (width, height)))


@torch.no_grad()
def describe(aux: AuxHeads, features: torch.Tensor, targets: tuple[torch.Tensor, ...]) -> str:
    """How well the head on the main output does on one batch."""
    kind, color, box, _, chars = targets
    k, c, b, _, w = aux.split(0, features)
    thing, letter = kind > 0, chars > 0
    right = (b.reshape(-1, 4, GRID + 1).argmax(-1) == box).all(-1)
    parts = {"kind": k.argmax(-1) == kind, "color": c.argmax(-1) == color, "box": right}
    shown = [f"{name} {hits[thing].float().mean():.3f}" for name, hits in parts.items()]
    if letter.any():
        shown.append(f"characters {(w[letter] > 0).float().mean():.3f}")
    return " ".join(shown)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("start", type=Path, help="model folder or checkpoint whose weights to continue with")
    ap.add_argument("out", type=Path, help="checkpoint to write")
    ap.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    ap.add_argument("--minutes", type=float, default=20)
    ap.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    ap.add_argument("--seed", type=int, default=TRAIN_SEED)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    _, special = load_tokenizer(args.tokenizer)
    model, aux = new_model(special, args.seed), AuxHeads()
    load_weights(model, aux, args.start)
    passes = Forward(model)
    compile_for_any_size()
    vision = torch.compile(passes.vision, dynamic=True)
    trained = [*model.model.visual.parameters(), *aux.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.03, fused=True)
    queue = mp.Queue(8)
    worker = mp.Process(target=draw_batches, args=(queue, args.seed), daemon=True)
    worker.start()

    losses, step, seen, began = [], 0, 0, None
    while True:
        frames, targets, (width, height) = queue.get()
        began = began or time.time()
        progress = (time.time() - began) / (args.minutes * 60)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / WARM_UP) * (1 - (1 - LAST_LR) * progress)
        with torch.autocast("cpu", torch.bfloat16):
            features, deepstack = vision(patchify(frames), *passes.grid(width, height))
        loss = aux.loss([features, *deepstack], targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + len(frames)
        losses.append(loss.item())
        if step % LOG_EVERY == 0:
            minutes = (time.time() - began) / 60
            speed = f"{minutes:5.1f} min, step {step}, {seen / minutes / 60:.0f} pictures/s"
            print(f"{speed}, loss {np.mean(losses):.3f}; {describe(aux, features, targets)}", flush=True)
            losses = []
        if step % SAVE_EVERY == 0:
            save_checkpoint(args.out, model=model.state_dict(), aux=aux.state_dict())
    save_checkpoint(args.out, model=model.state_dict(), aux=aux.state_dict())
    worker.kill()


if __name__ == "__main__":
    main()
