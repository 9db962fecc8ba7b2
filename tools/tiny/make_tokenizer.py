"""Cut the Qwen tokenizer down to what the tiny model needs.

Kept are the 256 bytes, the first merges, every merge that a sample of the training texts uses (with the merges it is
built from), and all special tokens, which get new ids after the ordinary ones. Text like the sample is split exactly
as the full tokenizer splits it; any other text still has tokens, only more of them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

import tasks
from config import BACKGROUNDS, COLORS, SHAPES, WORDS
from scenes import Scene

FIRST_MERGES = 1500
BYTES = 256
SEED = 5
OTHER_TEXT = (
    "system\nuser\nassistant\nYou are a helpful assistant. <12.5 seconds> Picture 1: Video 1: "
    "The red circle moves to the left right up down."
)


def sample(scenes: int) -> Iterator[str]:
    """Texts as in training."""
    rng = random.Random(SEED)
    sides = [128, 192, 256]
    for _ in range(scenes):
        for turns in tasks.conversations(rng, Scene(rng, rng.choice(sides), rng.choice(sides))):
            for turn in turns:
                yield from turn
        change = tasks.make_change(rng, Scene(rng, 192, 192))
        if change:
            yield change[1]
    for questions, answer in tasks.SMALL_TALK:
        yield from (*questions, answer)
    for word in [*WORDS, *COLORS, *SHAPES, *BACKGROUNDS]:
        for form in (word, word.lower(), word.capitalize()):
            yield from (form, " " + form, '"' + form)
    yield from (*tasks.ASK_CHANGE, *tasks.ASK_MOVE, *tasks.ASK_CLIP, OTHER_TEXT)


def cut(full: dict, used: set[str]) -> dict:
    """The tokenizer.json of the full tokenizer with the used merges alone."""
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in full["model"]["merges"]]
    made_by: dict[str, tuple[str, str]] = {}
    for merge in merges:
        made_by.setdefault("".join(merge), merge)
    needed, todo = set(), list(used)
    while todo:
        merge = made_by.get(todo.pop())
        if merge and merge not in needed:
            needed.add(merge)
            todo += merge
    kept = [m for i, m in enumerate(merges) if i < FIRST_MERGES or m in needed]
    vocabulary = {t: i for t, i in sorted(full["model"]["vocab"].items(), key=lambda x: x[1]) if i < BYTES}
    for merge in kept:
        vocabulary.setdefault("".join(merge), len(vocabulary))
    special = sorted(full["added_tokens"], key=lambda t: t["id"])
    added = [dict(t, id=len(vocabulary) + i) for i, t in enumerate(special)]
    model = dict(full["model"], vocab=vocabulary, merges=[list(m) for m in kept])
    return dict(full, model=model, added_tokens=added)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("full", type=Path, help="tokenizer.json of the full tokenizer")
    ap.add_argument("out", type=Path, help="folder for the small tokenizer.json")
    ap.add_argument("--scenes", type=int, default=4000, help="scenes whose texts are sampled")
    args = ap.parse_args()
    full = Tokenizer.from_file(str(args.full))
    used = {token for text in sample(args.scenes) for token in full.encode(text).tokens}
    small = cut(json.loads(args.full.read_text(encoding="utf-8")), used)
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / "tokenizer.json"
    target.write_text(json.dumps(small, ensure_ascii=False, indent=1), encoding="utf-8")
    ordinary, special = len(small["model"]["vocab"]), len(small["added_tokens"])
    print(f"{len(small['model']['merges'])} merges; {ordinary} ordinary and {special} special tokens")
    checked = Tokenizer.from_file(str(target))
    unlike = sum(checked.encode(t).tokens != full.encode(t).tokens for t in sample(300))
    print(f"texts that are split differently from the full tokenizer: {unlike}")


if __name__ == "__main__":
    main()
