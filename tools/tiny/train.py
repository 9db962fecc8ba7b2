"""Train the whole model: the loss is on answers, and on the auxiliary heads that keep the tower seeing.

The schedule (learning rate, picture sizes) follows the progress from 0 to 1, which is the share of
--minutes gone by, or of --steps done when that is given (then a run can be repeated exactly). The weights are
averaged over the last part; checkpoints carry both, and everything that reads a checkpoint takes the average.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import os
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from config import TRAIN_SEED
from data import IGNORE, Batch, Maker
from model import (
    AuxHeads, Forward, compile_for_any_size, load_tokenizer, load_weights, new_model, patchify, save_checkpoint,
)

WARM_UP = 50                    # steps
LAST_LR = 0.02                  # share of the highest
AUX_WEIGHT = 1.0                # with less, the answers' gradient soon spoils what the tower has learned
AVERAGE_FROM, DECAY = 0.7, 0.99
LOG_EVERY, SAVE_SECONDS = 100, 180


def draw_batches(queue, tokenizer: Path, seed: int, rows: int, clock, steps: int | None) -> None:
    """Worker: batches without end, for the progress on the shared clock or, in a run of steps, their own number."""
    torch.set_num_threads(1)
    os.nice(5)
    maker = Maker(*load_tokenizer(tokenizer), seed)
    for n in itertools.count():
        queue.put(maker.batch(rows, n / steps if steps else clock.value))


def learning_rate(highest: float, step: int, progress: float, hold: float) -> float:
    fall = max(0.0, progress - hold) / (1 - hold)
    return highest * min(1, (step + 1) / WARM_UP) * (LAST_LR + (1 - LAST_LR) * 0.5 * (1 + math.cos(math.pi * fall)))


def first_picture(b: Batch, features: torch.Tensor) -> torch.Tensor:
    """Of features of one picture or a pair for each row: those of the first picture, which has cell targets."""
    return features.view(b.rows, b.units[0], -1, features.shape[-1])[:, 0].flatten(0, 1)


class Average:
    """Exponential mean of a model's weights; until it begins it follows the weights."""

    def __init__(self, model: torch.nn.Module):
        self.model = model
        self.weights = {k: v.clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        for name, value in self.model.state_dict().items():
            self.weights[name].lerp_(value, 1 - decay)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", type=Path, help="checkpoint to write")
    ap.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    ap.add_argument("--start", type=Path, help="model folder or checkpoint whose weights to continue with")
    length = ap.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=240)
    length.add_argument("--steps", type=int)
    ap.add_argument("--rows", type=int, default=10, help="pictures of 160 x 160 in a batch; fewer when larger")
    ap.add_argument("--lr", type=float, default=1.5e-3, help="highest learning rate")
    ap.add_argument("--seed", type=int, default=TRAIN_SEED)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--vision-lr", type=float, default=0.3, help="learning rate of the tower, as a share of --lr")
    ap.add_argument("--hold", type=float, default=0.2, help="progress at which the learning rate begins to fall")
    ap.add_argument("--f32", action="store_true", help="no bfloat16 in matrix products")
    args = ap.parse_args()

    torch.set_num_threads(args.threads)
    _, special = load_tokenizer(args.tokenizer)
    model, aux = new_model(special, args.seed), AuxHeads()
    if args.start:
        load_weights(model, aux, args.start)
    passes = Forward(model)

    def answer_logits(answers, *row):
        return passes.logits(passes.text(*row).flatten(0, 1)[answers])

    compile_for_any_size()
    vision = torch.compile(passes.vision, dynamic=True)
    decode = torch.compile(answer_logits, dynamic=True)
    groups = []
    for part, share in ((model.model.visual, args.vision_lr), (model.model.language_model, 1.0), (aux, 1.0)):
        matrices = [p for p in part.parameters() if p.dim() >= 2]
        others = [p for p in part.parameters() if p.dim() < 2]
        groups.append(dict(params=matrices, weight_decay=0.0 if part is aux else 0.05, share=share))
        groups.append(dict(params=others, weight_decay=0.0, share=share))
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.97), fused=True)
    average = Average(model)
    clock, queue = mp.Value("d", 0.0), mp.Queue(6)
    drawing = queue, args.tokenizer, args.seed, args.rows, clock, args.steps
    worker = mp.Process(target=draw_batches, args=drawing, daemon=True)
    worker.start()

    def save(progress: float) -> None:
        save_checkpoint(
            args.out, model=model.state_dict(), average=average.weights, aux=aux.state_dict(), progress=progress
        )

    history = collections.defaultdict(list)
    began = saved = time.time()
    step = seen = 0
    while True:
        progress = step / args.steps if args.steps else (time.time() - began) / (args.minutes * 60)
        if progress >= 1:
            break
        clock.value = progress
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * learning_rate(args.lr, step, progress, args.hold)
        b: Batch = queue.get()
        labels = b.labels.flatten()
        answers = (labels != IGNORE).nonzero()[:, 0]
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.f32):
            features, deepstack = vision(patchify(b.frames), *passes.grid(b.width, b.height))
            logits = decode(answers, b.ids, b.positions, b.mask, b.where, features, deepstack)
        loss = answer_loss = F.cross_entropy(logits.float(), labels[answers])
        if b.cells is not None:
            loss = answer_loss + AUX_WEIGHT * aux.loss([first_picture(b, x) for x in (features, *deepstack)], b.cells)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        average.update(DECAY if progress > AVERAGE_FROM else 0.0)
        step, seen = step + 1, seen + len(b.frames)
        history[b.kind].append(answer_loss.item())
        if step % LOG_EVERY == 0:
            minutes = (time.time() - began) / 60
            means = " ".join(f"{kind} {sum(x) / len(x):.3f}" for kind, x in sorted(history.items()))
            speed = f"{seen / minutes / 60:.1f} pictures/s"
            print(f"{minutes:6.1f} min, progress {progress:.3f}, step {step}, {speed}; {means}", flush=True)
            history.clear()
        if time.time() - saved > SAVE_SECONDS:
            saved = time.time()
            save(progress)
    save(1.0)
    worker.kill()


if __name__ == "__main__":
    main()
