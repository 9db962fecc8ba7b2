"""Draw the example pictures of a model folder and store the model's answers to questions about them.

For each example several scenes are drawn and transformers (float32, eager, greedy) is asked about them. The scene with
the most answers that are right to the letter is kept, with those questions alone; of equals the one whose closest
decision is the clearest, so that other arithmetic gives the same words.

Writes MODEL/examples/NAME.png or NAME.jpg (a clip is a folder of frames), each with NAME.json: its files, and for
each turn the prompt and the answer.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from PIL import Image, ImageOps

import tasks
from config import EXAMPLE_SEED
from reference import FPS, Media, Reference
from scenes import Scene

JPEG_QUALITY = 92
TURNED = 6                      # EXIF orientation: turn clockwise by 90 degrees to show
ORIENTATION = 0x0112
FINALISTS = 3                   # scenes that are asked again, each question alone
TOGETHER = 16                   # questions that are decoded in one batch


@dataclass
class Candidate:
    write: Callable[[Path], list[str]]              # writes the files into a folder, returns their names
    load: Callable[[Path], Media]                   # reads them as transformers gets them
    turns: list[tasks.Turn]
    extra: dict


@dataclass(frozen=True)
class Still:
    file: str
    size: tuple[int, int]
    shapes: int
    sign: bool = False
    turned: bool = False
    noise: int = 0


STILLS = [
    Still("one-shape.png", (192, 192), 1),
    Still("two-shapes.png", (256, 192), 2, noise=2),
    Still("three-shapes.png", (256, 256), 3),
    Still("sign.png", (224, 160), 1, sign=True),
    Still("tall.png", (192, 256), 3),
    Still("photo.jpg", (256, 192), 2, noise=4),
    Still("rotated.jpg", (224, 160), 2, turned=True, noise=2),
]


def read_picture(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def first(rng: random.Random, ask: Callable, scene: Scene, tries: int = 20) -> list[tasks.Turn]:
    """One question of a kind, or none when the scene does not allow it."""
    return [turn for turn in (ask(rng, scene) for _ in range(tries)) if turn][:1]


def still(rng: random.Random, spec: Still) -> Candidate | None:
    scene = Scene(rng, *spec.size, n=spec.shapes, text=spec.sign)
    if len(scene.shapes) != spec.shapes or bool(scene.sign) != spec.sign:
        return None
    scene.noise = spec.noise
    picture = Image.fromarray(scene.draw())
    turns = [
        (tasks.ASK_CAPTION[0], tasks.caption(scene.items, scene.bg)),
        (tasks.ASK_COUNT[0], tasks.how_many(len(scene.shapes), "shape")),
        (tasks.ASK_ALL_BOXES[0], tasks.boxes(scene.items)),
    ]
    if scene.sign:
        turns.append((tasks.ASK_TEXT[0], tasks.reading(scene.sign)))
    for ask in (tasks.ask_color, tasks.ask_place, tasks.ask_exists, tasks.ask_relation):
        turns += first(rng, ask, scene)

    def write(folder: Path) -> list[str]:
        out = picture.transpose(Image.Transpose.ROTATE_90) if spec.turned else picture
        if spec.file.endswith("jpg"):
            exif = Image.Exif()
            exif[ORIENTATION] = TURNED if spec.turned else 1
            out.save(folder / spec.file, quality=JPEG_QUALITY, exif=exif)
        else:
            out.save(folder / spec.file)
        return [spec.file]

    return Candidate(write, lambda folder: [("image", read_picture(folder / spec.file))], turns, {})


def before_after(rng: random.Random) -> Candidate | None:
    scene = Scene(rng, 160, 160, n=2, text=False)
    scene.noise = 0
    change = tasks.make_change(rng, scene)
    if not change:
        return None
    items, answer = change
    pictures = {"before.png": scene.draw(), "after.png": scene.draw(items)}

    def write(folder: Path) -> list[str]:
        for file, picture in pictures.items():
            Image.fromarray(picture).save(folder / file)
        return list(pictures)

    def load(folder: Path) -> Media:
        return [("image", read_picture(folder / file)) for file in pictures]

    return Candidate(write, load, [(tasks.ASK_CHANGE[0], answer)], {})


def clip(rng: random.Random) -> Candidate | None:
    scene = Scene(rng, 128, 128, n=1, text=False)
    scene.noise = 0
    made = tasks.make_clip(rng, scene, 6)
    if not made:
        return None
    frames, o, direction = made
    pictures = [scene.draw(items) for items in frames]

    def write(folder: Path) -> list[str]:
        shutil.rmtree(folder / "clip", ignore_errors=True)
        (folder / "clip").mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / "clip" / f"{i:03}.png")
        return ["clip"]

    def load(folder: Path) -> Media:
        return [("video", np.stack([read_picture(p) for p in sorted((folder / "clip").iterdir())]))]

    turns = [(tasks.ASK_MOVE[0].format(o.shape), tasks.movement(o, direction))]
    return Candidate(write, load, turns, {"fps": FPS})


def ask_all(reference: Reference, questions: list[tuple[Media, str, str]]) -> list[bool]:
    """Whether each (media, question, answer) is answered to the letter; asked in batches of like length."""
    right = [False] * len(questions)
    order = sorted(range(len(questions)), key=lambda i: len(questions[i][2]))
    for at in range(0, len(order), TOGETHER):
        part = order[at:at + TOGETHER]
        said = reference.ask([questions[i][:2] for i in part])
        for i, answer in zip(part, said):
            right[i] = answer == questions[i][2]
    return right


def choose(reference: Reference, candidates: list[Candidate], scratch: Path) -> tuple[Candidate, float]:
    """The candidate with the most right answers, with those alone; of equals the one with the clearest answers."""
    media = []
    for c in candidates:
        c.write(scratch)
        media.append(c.load(scratch))
    flat = [(media[i], *turn) for i, c in enumerate(candidates) for turn in c.turns]
    right = iter(ask_all(reference, flat))
    for c in candidates:
        c.turns = [turn for turn in c.turns if next(right)]
    ranked = sorted(range(len(candidates)), key=lambda i: -len(candidates[i].turns))
    best = None
    for i in ranked[:FINALISTS]:
        c, kept, leads = candidates[i], [], []
        for question, answer in c.turns:
            said, lead = reference.ask_one(media[i], question)
            if said == answer:
                kept.append((question, answer))
                leads.append(lead)
        c.turns = kept
        score = len(kept), min(leads, default=0.0)
        if best is None or score > best[0]:
            best = score, c
    (_, lead), c = best
    return c, lead


def check(reference: Reference, folder: Path) -> None:
    """Ask everything again from the stored files."""
    for path in sorted(folder.glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        files = [folder / f for f in stored["files"]]
        if files[0].is_dir():
            media: Media = [("video", np.stack([read_picture(p) for p in sorted(files[0].iterdir())]))]
        else:
            media = [("image", read_picture(f)) for f in files]
        for turn in stored["turns"]:
            said, lead = reference.ask_one(media, turn["prompt"])
            if said != turn["answer"]:
                raise SystemExit(f"{path.name}: {turn['prompt']}\n  stored {turn['answer']}\n  given  {said}")
            print(f"{path.name:20} lead {lead:5.2f}  {turn['prompt']} {said}")


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=Path, help="exported folder")
    ap.add_argument("--tries", type=int, default=16, help="scenes to draw for each example")
    ap.add_argument("--seed", type=int, default=EXAMPLE_SEED)
    ap.add_argument("--check", action="store_true", help="only ask again and compare with the stored answers")
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    reference, folder = Reference(args.model), args.model / "examples"
    if args.check:
        return check(reference, folder)
    folder.mkdir(exist_ok=True)
    makers = {Path(s.file).stem: (lambda rng, s=s: still(rng, s)) for s in STILLS}
    makers |= {"before-after": before_after, "clip": clip}
    for name, make in makers.items():
        rng = random.Random(f"{args.seed} {name}")
        candidates = [c for c in (make(rng) for _ in range(args.tries)) if c]
        asked = max(len(c.turns) for c in candidates)
        with tempfile.TemporaryDirectory() as scratch:
            c, lead = choose(reference, candidates, Path(scratch))
        if not c.turns:
            raise SystemExit(f"{name}: no answer is right")
        turns = [{"prompt": question, "answer": answer} for question, answer in c.turns]
        content = {"files": c.write(folder), "turns": turns} | c.extra
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{name:14} {len(turns)} of at most {asked} answers, smallest lead {lead:.2f}", flush=True)


if __name__ == "__main__":
    main()
