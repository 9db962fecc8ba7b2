"""Training rows: the media once, then several conversations about it that do not see each other.

Mask and positions make each conversation the sequence it would be alone, so the costly visual tokens are shared.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

import tasks
from config import MERGED, MIX, ROW_BUDGET, SIZES, SYSTEM_SHARE
from scenes import Scene

IGNORE = -100
SMALL, SMALLER = 192 * 192, 160 * 160       # areas


@dataclass
class Sample:
    """Media and conversations, before they are laid out as a row."""

    frames: list[tuple[np.ndarray, np.ndarray]]     # pairs of frames; a picture is a pair of itself
    stamps: list[float | None]                      # seconds, for a clip
    pad: str                                        # "image" or "video"
    talks: list[list[tasks.Turn]]
    cells: tuple[np.ndarray, ...] | None            # targets of the auxiliary heads for the first picture
    aside: list[tasks.Turn] | None = None           # a conversation without the picture


@dataclass
class Batch:
    kind: str
    width: int
    height: int
    units: list[int]            # visual units (pictures, or pairs of frames) of each row
    frames: torch.Tensor        # uint8 [sum of units, 2, height, width, 3]
    ids: torch.Tensor           # [rows, tokens]
    positions: torch.Tensor     # [3, rows, tokens]
    labels: torch.Tensor        # [rows, tokens], the next token where it belongs to an answer, else IGNORE
    mask: torch.Tensor          # bool [rows, 1, tokens, tokens]
    where: torch.Tensor         # flat places of the visual tokens
    cells: tuple[torch.Tensor, ...] | None

    @property
    def rows(self) -> int:
        return self.ids.shape[0]


def stack_cells(cells: list[tuple[np.ndarray, ...]]) -> tuple[torch.Tensor, ...]:
    """Targets of many pictures of one size, one row for each cell."""
    return tuple(torch.from_numpy(np.stack(part)).flatten(0, 2) for part in zip(*cells))


class Maker:
    """Draws batches; the same seed gives the same batches."""

    def __init__(self, tokenizer: Tokenizer, special: dict[str, int], seed: int):
        self.special, self.rng = special, random.Random(seed)
        self.encode = functools.lru_cache(50_000)(lambda s: tuple(tokenizer.encode(s).ids))

    # -- tokens

    def _open(self, role: str) -> list[int]:
        return [self.special["<|im_start|>"], *self.encode(role + "\n")]

    def _close(self) -> list[int]:
        return [self.special["<|im_end|>"], *self.encode("\n")]

    def _talk(self, turns: list[tasks.Turn], opened: bool) -> tuple[list[int], list[bool]]:
        """Tokens, and whether each belongs to an answer; `opened`: the first user turn has begun already."""
        ids: list[int] = []
        answer: list[bool] = []
        for n, (question, reply) in enumerate(turns):
            head = [] if opened and n == 0 else self._open("user")
            head = head + [*self.encode(question), *self._close(), *self._open("assistant")]
            tail = [*self.encode(reply), self.special["<|im_end|>"]]
            gap = list(self.encode("\n")) if n + 1 < len(turns) else []
            ids += head + tail + gap
            answer += [False] * len(head) + [True] * len(tail) + [False] * len(gap)
        return ids, answer

    def _media(self, s: Sample, width: int, height: int) -> tuple[list[int], list[list[int]], list[int], int]:
        """The opened user turn with its media: ids, positions, places of the pads, next free position."""
        rows, cols = height // MERGED, width // MERGED
        ids = []
        if self.rng.random() < SYSTEM_SHARE:
            ids += [*self._open("system"), *self.encode(self.rng.choice(tasks.SYSTEM)), *self._close()]
        ids += self._open("user")
        positions = [[i] * 3 for i in range(len(ids))]
        pads, at = [], len(ids)
        for stamp in s.stamps:
            before = [] if stamp is None else list(self.encode(f"<{stamp:.1f} seconds>"))
            before.append(self.special["<|vision_start|>"])
            positions += [[at + i] * 3 for i in range(len(before))]
            at += len(before)
            ids += before
            pads += range(len(ids), len(ids) + rows * cols)
            ids += [self.special[f"<|{s.pad}_pad|>"]] * (rows * cols)
            positions += [[at, at + i // cols, at + i % cols] for i in range(rows * cols)]
            at += max(rows, cols)
            ids.append(self.special["<|vision_end|>"])
            positions.append([at] * 3)
            at += 1
        return ids, positions, pads, at

    # -- samples

    def _image(self, width: int, height: int) -> Sample:
        scene = Scene(self.rng, width, height)
        picture = scene.draw()
        aside = [tasks.small_talk(self.rng)] if self.rng.random() < 0.12 else None
        talks = tasks.conversations(self.rng, scene)
        return Sample([(picture, picture)], [None], "image", talks, scene.cell_targets(), aside)

    def _simple_scene(self, width: int, height: int) -> Scene:
        n = self.rng.choice([1, 1, 2, 2, 2, 3, 3, 4])
        return Scene(self.rng, width, height, n=n, text=self.rng.random() < 0.12)

    def _pair(self, width: int, height: int, describe: bool) -> Sample:
        while True:
            scene = self._simple_scene(width, height)
            change = tasks.make_change(self.rng, scene)
            if change:
                break
        items, answer = change
        first, second = scene.draw(), scene.draw(items)
        talks = [[(self.rng.choice(tasks.ASK_CHANGE), answer)]]
        if describe:
            after = sorted(items, key=lambda o: (o.cx, o.cy))
            which, shown = self.rng.choice([("first", scene.items), ("second", after)])
            talks.append([(tasks.ASK_ONE_OF_TWO.format(which), tasks.caption(shown, scene.bg))])
        return Sample([(first, first), (second, second)], [None, None], "image", talks, scene.cell_targets())

    def _clip(self, width: int, height: int) -> Sample:
        n = self.rng.choice([4, 6, 8])
        while True:
            scene = self._simple_scene(width, height)
            clip = tasks.make_clip(self.rng, scene, n)
            if clip:
                break
        items, mover, direction = clip
        pictures = [scene.draw(x) for x in items]
        fps = self.rng.choice([1.0, 2.0, 4.0])
        pairs = [(pictures[i], pictures[i + 1]) for i in range(0, n, 2)]
        stamps = [(i + 0.5) / fps for i in range(0, n, 2)]
        return Sample(pairs, stamps, "video", tasks.ask_clip(self.rng, scene, mover, direction), None)

    # -- batches

    def batch(self, rows: int, progress: float) -> Batch:
        """About `rows` rows of one kind and picture size; pictures grow while progress goes from 0 to 1."""
        rng = self.rng
        kind = rng.choices(list(MIX), list(MIX.values()))[0] if progress > 0.02 else "image"
        top = 192 if progress < 0.35 else 256 if progress < 0.6 else 320
        if kind == "image":
            small = rng.random() < 0.4
            sizes = [s for s in SIZES if (s[0] * s[1] <= SMALL if small else max(s) <= top)]
            describe = False
        else:
            limit = SMALLER if rng.random() < 0.8 else SMALL
            sizes = [s for s in SIZES if s[0] * s[1] <= limit]
            describe = kind == "pair" and rng.random() < 0.3
            rows = rows if describe else 2 * rows                   # short rows
        width, height = rng.choice(sizes)
        rows = max(4, int(rows * min(1.6, SMALLER / (width * height))))
        make = {"image": self._image, "video": self._clip, "pair": lambda w, h: self._pair(w, h, describe)}[kind]
        return self._lay_out([make(width, height) for _ in range(rows)], kind, width, height)

    def _lay_out(self, samples: list[Sample], kind: str, width: int, height: int) -> Batch:
        laid = []
        for s in samples:
            ids, positions, pads, at = self._media(s, width, height)
            talks = []                                              # (ids, answer flags, first position, sees media)
            used = 0
            for turns in s.talks:
                tokens, answer = self._talk(turns, opened=True)
                if used + len(tokens) <= ROW_BUDGET or not talks:
                    talks.append((tokens, answer, at, True))
                    used += len(tokens)
            if s.aside:
                talks.append((*self._talk(s.aside, opened=False), 0, False))
            laid.append((ids, positions, pads, talks))

        rows = len(laid)
        longest = max(len(ids) + sum(len(t[0]) for t in talks) for ids, _, _, talks in laid)
        length = -(-longest // 8) * 8
        ids, labels = np.zeros((rows, length), np.int64), np.full((rows, length), IGNORE, np.int64)
        positions = np.zeros((3, rows, length), np.int64)
        talk_of = np.full((rows, length), -2, np.int32)             # -1: the media, -2: padding
        sees = np.zeros((rows, length), bool)
        where = []
        for r, (head, head_positions, pads, talks) in enumerate(laid):
            at = len(head)
            ids[r, :at], positions[:, r, :at], talk_of[r, :at] = head, np.array(head_positions).T, -1
            sees[r, :at] = True
            where += [r * length + i for i in pads]
            for k, (tokens, answer, first, sighted) in enumerate(talks):
                part = slice(at, at + len(tokens))
                ids[r, part], talk_of[r, part], sees[r, part] = tokens, k, sighted
                positions[:, r, part] = np.arange(first, first + len(tokens))
                following = np.array(tokens[1:] + [IGNORE])
                following[~np.array(answer[1:] + [False])] = IGNORE
                labels[r, part] = following
                at += len(tokens)
        order = np.arange(length)
        same = talk_of[:, :, None] == talk_of[:, None, :]
        media = (talk_of[:, None, :] == -1) & sees[:, :, None]
        mask = (same | media) & (order[None, :, None] >= order[None, None, :])

        frames = np.stack([np.stack(unit) for s in samples for unit in s.frames])
        cells = stack_cells([s.cells for s in samples]) if samples[0].cells else None
        tensor = torch.from_numpy
        return Batch(
            kind, width, height, [len(s.frames) for s in samples], tensor(frames), tensor(ids), tensor(positions),
            tensor(labels), tensor(mask)[:, None], torch.tensor(where), cells,
        )
