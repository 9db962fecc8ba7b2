"""Grade a model on pictures it has not seen: the share of answers that are right to the letter, by kind of question.

The default asks an exported model folder through transformers' generate (float32, greedy). --fast takes a checkpoint
or a folder and makes one pass along the right answers: when every token is the most likely one, greedy decoding
writes exactly that answer. It asks whatever training asks and takes seconds instead of minutes.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tasks
from config import GRADE_SEED
from data import IGNORE, Maker
from model import Forward, load_tokenizer, load_weights, new_model, patchify
from reference import Reference, silence_deepstack
from scenes import Scene

SIZES = [
    (128, 128), (160, 128), (128, 160), (160, 160), (192, 160),
    (192, 192), (256, 192), (192, 256), (256, 256), (320, 192),
]
TOGETHER = 16           # questions that are decoded in one batch
EVERY = 4               # a sign on one scene of so many, a pair and a clip after another one


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, w) * max(0, h)
    areas = sum(max(0, q[2] - q[0]) * max(0, q[3] - q[1]) for q in (a, b))
    return shared / max(1, areas - shared)


def overlaps(said: str, right: str) -> list[float]:
    """For each box of the right answer, the overlap with the box of the same label that was given."""
    try:
        given = {x["label"]: [float(v) for v in x["bbox_2d"]] for x in json.loads(said)}
    except (ValueError, KeyError, TypeError):
        given = {}
    found = [(given.get(x["label"], []), x["bbox_2d"]) for x in json.loads(right)]
    return [overlap(a, b) if len(a) == 4 else 0.0 for a, b in found]


def scene_questions(rng: random.Random, scene: Scene, media) -> list:
    """(kind, media, question, answer): the fixed questions and one of each of the others that the scene allows."""
    asked = [
        (tasks.ASK_CAPTION[0], tasks.caption(scene.items, scene.bg)),
        (tasks.ASK_COUNT[0], tasks.how_many(len(scene.shapes), "shape")),
    ]
    if scene.items:
        asked += [(tasks.ASK_ALL_BOXES[0], tasks.boxes(scene.items)), tasks.ask_box(rng, scene)]
    if scene.sign:
        asked.append((tasks.ASK_TEXT[0], tasks.reading(scene.sign)))
    if scene.shapes:
        asked += [turn for ask in tasks.SHORT_ABOUT_SHAPES for turn in [ask(rng, scene)] if turn]
    return [(tasks.kind_of(q, a), media, q, a) for q, a in asked]


def held_out(scenes: int) -> list:
    rng = random.Random(GRADE_SEED)
    out = []
    for i in range(scenes):
        scene = Scene(rng, *rng.choice(SIZES), text=i % EVERY == 0)
        out += scene_questions(rng, scene, [("image", Image.fromarray(scene.draw()))])
        if i % EVERY == 1:
            scene = Scene(rng, 160, 160, n=2, text=False)
            change = tasks.make_change(rng, scene)
            if change:
                media = [("image", Image.fromarray(scene.draw(items))) for items in (scene.items, change[0])]
                out.append(("two pictures", media, tasks.ASK_CHANGE[0], change[1]))
            scene = Scene(rng, 128, 128, n=1, text=False)
            clip = tasks.make_clip(rng, scene, rng.choice([4, 6, 8]))
            if clip:
                items, o, direction = clip
                media = [("video", np.stack([scene.draw(x) for x in items]))]
                out.append(("video", media, tasks.ASK_MOVE[0].format(o.shape), tasks.movement(o, direction)))
    return sorted(out, key=lambda q: (q[0], len(q[3])))


def grade_exactly(args) -> tuple[dict, list]:
    reference = Reference(args.model, deepstack=not args.without_deepstack)
    questions, scores, wrong = held_out(args.scenes), collections.defaultdict(list), []
    for i in range(0, len(questions), TOGETHER):
        part = questions[i:i + TOGETHER]
        for (kind, _, question, right), said in zip(part, reference.ask([(m, q) for _, m, q, _ in part])):
            scores[kind].append(said == right)
            if kind.startswith("boxes") and "bbox_2d" in right:
                scores[kind + ": mean overlap"] += overlaps(said, right)
            if said != right:
                wrong.append((kind, question, right, said))
    return scores, wrong


def answers_of(labels: torch.Tensor) -> list[list[int]]:
    """Runs of neighbouring places that have a label."""
    runs: list[list[int]] = []
    for i in (labels != IGNORE).nonzero()[:, 0].tolist():
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


@torch.no_grad()
def grade_fast(args) -> tuple[dict, list]:
    tokenizer, special = load_tokenizer(args.tokenizer or args.model)
    model = new_model(special).eval()
    load_weights(model, None, args.model)
    if args.without_deepstack:
        silence_deepstack(model)
    passes, maker = Forward(model), Maker(tokenizer, special, GRADE_SEED)
    scores, wrong, done = collections.defaultdict(list), [], 0
    before_question = {special[t] for t in ("<|vision_end|>", "<|im_start|>", "<|im_end|>")}
    while done < args.scenes:
        b = maker.batch(8, 1.0)
        done += b.rows
        features, deepstack = passes.vision(patchify(b.frames), *passes.grid(b.width, b.height))
        hidden = passes.text(b.ids, b.positions, b.mask, b.where, features, deepstack)
        for ids, positions, labels, states in zip(b.ids.tolist(), b.positions[0].tolist(), b.labels, hidden):
            for run in answers_of(labels):
                end = run[0]
                while ids[end] != special["<|im_end|>"]:
                    end -= 1
                start = end
                while ids[start - 1] not in before_question:
                    start -= 1
                question = tokenizer.decode(ids[start:end]).removeprefix("user\n")
                said, right = passes.logits(states[run]).argmax(-1), labels[run]
                answer = tokenizer.decode(right.tolist())
                kind = tasks.kind_of(question, answer) if positions[start] > 1 else "small talk"
                scores[kind].append(bool((said == right).all()))
                if not scores[kind][-1]:
                    wrong.append((kind, question, answer, tokenizer.decode(said.tolist())))
    return scores, wrong


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=Path, help="exported folder; with --fast also a checkpoint")
    ap.add_argument("--scenes", type=int, default=300)
    ap.add_argument("--fast", action="store_true", help="one pass along the right answers")
    ap.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json, for a checkpoint")
    ap.add_argument("--without-deepstack", action="store_true", help="with the three DeepStack sets made zero")
    ap.add_argument("--show", type=int, default=0, metavar="N", help="print so many wrong answers of each kind")
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    scores, wrong = (grade_fast if args.fast else grade_exactly)(args)
    for kind, values in sorted(scores.items()):
        print(f"{kind:28} {100 * np.mean(values):5.1f} %   of {len(values)}")
    shown = collections.Counter()
    for kind, question, right, said in wrong:
        shown[kind] += 1
        if shown[kind] <= args.show:
            print(f"[{kind}] {question}\n   right {right}\n   said  {said}")


if __name__ == "__main__":
    main()
