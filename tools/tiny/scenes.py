"""Drawn pictures: coloured shapes and short signs on plain, graded or patterned backgrounds.

A scene is drawn at its final size; each shape has its own mask, drawn four times larger and reduced, so edges are
smooth and a picture costs about a millisecond. Boxes lie on the grid of config.GRID lines, words such as "small" or
"at the top" have clear margins, and no two things are equally far to the left: every answer has one right form.
"""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from config import BACKGROUNDS, CHARS, COLORS, FONTS, GRID, MERGED, PLACES, SHAPES, SIDES, TEXT_SHARE, WORDS

OVERSAMPLE = 4
SMOOTH = Image.Resampling.BILINEAR
NOISE = np.random.default_rng(1).normal(0, 1, 1 << 20).astype(np.float32)
CAN_TURN = ("square", "triangle", "star", "cross", "heart")
VISIBLE = 130        # least distance (sum over the channels) of a colour from the background
READABLE = 200       # the same for a sign
INK = 300            # the same for the ink on a sign's plate


@dataclass
class Item:
    """One thing in a picture. Boxes are (left, top, right, bottom)."""

    kind: str                               # "shape" or "text"
    color: str                              # name; of the plate when there is one
    shape: str                              # one of SHAPES, or "text"
    rgb: tuple[int, int, int]               # of the ink
    size: str = ""                          # "small", "" or "large"
    side: int = 0                           # nominal side of a shape in pixels
    word: str = ""
    plate: tuple[int, int, int] | None = None
    mask: Image.Image | None = None
    box: tuple[int, int, int, int] = (0, 0, 0, 0)           # pixels
    steps: tuple[int, int, int, int] = (0, 0, 0, 0)         # grid lines
    cx: float = 0.0                                         # centre, as a share of width and height
    cy: float = 0.0
    place: str = ""

    @property
    def label(self) -> str:
        return f'text "{self.word}"' if self.kind == "text" else f"{self.color} {self.shape}"

    @property
    def box1000(self) -> list[int]:
        return [k * 1000 // GRID for k in self.steps]


# ---- masks -------------------------------------------------------------------------------------------------

def _outline(shape: str, c: float, r: float, angle: float) -> list[tuple[float, float]]:
    """Corners of a shape around (c, c) that fits a circle or box of radius r."""
    if shape == "square":
        k = r * 0.98 / (abs(math.cos(angle)) + abs(math.sin(angle)))
        return [(c - k, c - k), (c + k, c - k), (c + k, c + k), (c - k, c + k)]
    if shape == "triangle":
        return [(c, c - r), (c + r * 0.9, c + r * 0.72), (c - r * 0.9, c + r * 0.72)]
    if shape == "star":
        radius = [r if i % 2 == 0 else r * 0.42 for i in range(10)]
        return [(c + q * math.sin(i * math.pi / 5), c - q * math.cos(i * math.pi / 5)) for i, q in enumerate(radius)]
    if shape == "cross":
        t, q = r * 0.33, r * 0.94
        top = [(-t, -q), (t, -q), (t, -t), (q, -t), (q, t), (t, t)]
        return [(c + x, c + y) for x, y in top] + [(c - x, c - y) for x, y in top]
    points = []                                                                         # heart
    for i in range(40):
        t = i * math.pi / 20
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((c + r * math.sin(t) ** 3, c - r * 0.06 * y - r * 0.1))
    return points


def shape_mask(shape: str, side: int, angle: float = 0.0) -> Image.Image:
    """Smooth 8-bit mask of a shape in a box of side x side pixels, turned by angle degrees and cropped."""
    n = OVERSAMPLE * side
    mask = Image.new("L", (n, n), 0)
    draw = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        draw.ellipse([1, 1, n - 2, n - 2], fill=255)
        if shape == "ring":
            w = n * 0.2
            draw.ellipse([w, w, n - w, n - w], fill=0)
    else:
        c, a = n / 2, math.radians(angle)
        corners = [(x - c, y - c) for x, y in _outline(shape, c, c - 1, a)]
        turned = [
            (c + x * math.cos(a) - y * math.sin(a), c + x * math.sin(a) + y * math.cos(a)) for x, y in corners
        ]
        draw.polygon(turned, fill=255)
    mask = mask.reduce(OVERSAMPLE)
    return mask.crop(mask.getbbox())


@functools.cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(name, size)              # Pillow looks in the system's font folders


def text_mask(rng: random.Random, word: str, width: float, height: float) -> Image.Image:
    """Mask of a word in a random font, about height pixels high and not wider than width."""
    name, size = rng.choice(FONTS), max(8, int(height * 1.3))
    while True:
        font = _font(name, size)
        left, top, right, bottom = font.getbbox(word)
        if right - left <= width or size <= 8:
            break
        size = max(8, int(size * 0.9 * min(1, width / (right - left) + 0.1)))
    mask = Image.new("L", (right - left + 2, bottom - top + 2), 0)
    ImageDraw.Draw(mask).text((1 - left, 1 - top), word, font=font, fill=255)
    return mask.crop(mask.getbbox())


# ---- backgrounds, colours and places -----------------------------------------------------------------------

def background(rng: random.Random, name: str, width: int, height: int) -> np.ndarray:
    """float32 [height, width, 3]: plain, a soft gradient, stripes or checks."""
    base = np.array(BACKGROUNDS[name], np.float32) + rng.uniform(-6, 6)
    kind = rng.random()
    shade = np.zeros((height, width), np.float32)
    if 0.45 <= kind < 0.75:
        t = rng.uniform(0, 2 * math.pi)
        slope = np.linspace(-1, 1, width)[None] * math.cos(t) + np.linspace(-1, 1, height)[:, None] * math.sin(t)
        shade = slope * rng.uniform(5, 14)
    elif kind >= 0.75:
        period, depth = rng.choice([8, 12, 16, 24]), rng.uniform(4, 10)
        x, y = np.arange(width)[None] // period, np.arange(height)[:, None] // period
        cell = [x + 0 * y, y + 0 * x, x + y][rng.randrange(3)] % 2
        shade = (cell * 2 - 1) * depth
    return (base + shade[:, :, None]).astype(np.float32)


def place_name(cx: float, cy: float) -> str:
    return PLACES[min(2, int(cy * 3))][min(2, int(cx * 3))]


def clear_of_thirds(v: float, margin: float = 0.02) -> bool:
    return min(abs(v - 1 / 3), abs(v - 2 / 3)) > margin


def differ(a: tuple, b: tuple, least: int = VISIBLE) -> bool:
    return sum(abs(x - y) for x, y in zip(a, b)) > least


# ---- scenes ------------------------------------------------------------------------------------------------

class Scene:
    """A random picture of `width` x `height`; `items` are sorted from left to right."""

    def __init__(self, rng: random.Random, width: int, height: int, n: int | None = None, text: bool | None = None):
        self.rng, self.width, self.height = rng, width, height
        self.bg = rng.choice(list(BACKGROUNDS))
        self.noise = rng.choice([0, 0, 2, 4, 7])
        self.items: list[Item] = []
        self.backdrop = background(rng, self.bg, width, height)
        area = width * height
        most = 3 if area < 128 * 128 else 4 if area < 160 * 160 else 5
        n = min(most, rng.choice([1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5]) if n is None else n)
        if rng.random() < TEXT_SHARE if text is None else text:
            self._add_text()
            n = min(n, rng.choice([0, 1, 1, 2, 2, 3]))
        alike = rng.random()                    # some scenes repeat one shape or one colour
        for _ in range(n):
            self.add_shape(alike) or self.add_shape(alike)
        self.items.sort(key=lambda o: (o.cx, o.cy))

    @property
    def shapes(self) -> list[Item]:
        return [o for o in self.items if o.kind == "shape"]

    @property
    def sign(self) -> Item | None:
        return next((o for o in self.items if o.kind == "text"), None)

    # -- placing

    def _is_free(self, box: tuple[int, int, int, int], gap: int = 3) -> bool:
        left, top, right, bottom = box
        return all(
            right + gap <= o.box[0] or o.box[2] + gap <= left or bottom + gap <= o.box[1] or o.box[3] + gap <= top
            for o in self.items
        )

    def grid_size(self, w: int, h: int) -> tuple[int, int]:
        """Width and height in grid steps that change the size and the proportions of a w x h mask least."""
        unit_w, unit_h = self.width / GRID, self.height / GRID
        near_w, near_h = int(w / unit_w), int(h / unit_h)

        def cost(k: tuple[int, int]) -> float:
            a, b = math.log(k[0] * unit_w / w), math.log(k[1] * unit_h / h)
            return abs(a) + abs(b) + 3 * abs(a - b)

        wide, high = range(max(2, near_w - 1), near_w + 3), range(max(2, near_h - 1), near_h + 3)
        return min(((x, y) for x in wide for y in high), key=cost)

    def put(self, item: Item, mask: Image.Image, tries: int = 40) -> bool:
        """Find a place for the item; its mask is stretched to the grid."""
        kw, kh = self.grid_size(*mask.size)
        if kw > GRID or kh > GRID:
            return False
        edge_x, edge_y = int(kw <= GRID - 2), int(kh <= GRID - 2)
        for _ in range(tries):
            kx = self.rng.randint(edge_x, GRID - kw - edge_x)
            ky = self.rng.randint(edge_y, GRID - kh - edge_y)
            steps = kx, ky, kx + kw, ky + kh
            box = tuple(round(k * side / GRID) for k, side in zip(steps, (self.width, self.height) * 2))
            cx, cy = (kx + kw / 2) / GRID, (ky + kh / 2) / GRID
            if not clear_of_thirds(cx) or not clear_of_thirds(cy) or not self._is_free(box):
                continue
            if any(abs(cx - o.cx) < 0.04 for o in self.items):
                continue
            item.mask = mask.resize((box[2] - box[0], box[3] - box[1]), SMOOTH)
            item.steps, item.box, item.cx, item.cy, item.place = steps, box, cx, cy, place_name(cx, cy)
            self.items.append(item)
            return True
        return False

    def _new_name(self, alike: float) -> tuple[str, str]:
        """Colour and shape of a new item; no two items of a scene share both."""
        shapes = self.shapes
        used = {(o.color, o.shape) for o in shapes}
        colors = [c for c in COLORS if differ(COLORS[c], BACKGROUNDS[self.bg])]
        while True:
            color, shape = self.rng.choice(colors), self.rng.choice(SHAPES)
            if shapes and alike < 0.2:
                shape = shapes[0].shape
            elif shapes and alike < 0.3:
                color = shapes[0].color
            if (color, shape) not in used:
                return color, shape
            alike = 1.0

    def add_shape(self, alike: float = 1.0) -> bool:
        rng, short = self.rng, min(self.width, self.height)
        color, shape = self._new_name(alike)
        size = rng.choice(["small", "", "", "large"])
        side = max(18, round(short * rng.choice(SIDES[size]) / GRID))
        rgb = tuple(int(min(255, max(0, v + rng.uniform(-10, 10)))) for v in COLORS[color])
        angle = rng.uniform(-14, 14) if shape in CAN_TURN and rng.random() < 0.6 else 0
        mask = shape_mask(shape, side, angle)
        grow = side / max(mask.size)
        mask = mask.resize((round(mask.width * grow), round(mask.height * grow)), SMOOTH)
        kw, kh = self.grid_size(*mask.size)
        drawn = max(kw * self.width, kh * self.height) / short          # grid steps after stretching
        if not {"small": drawn <= 4.35, "": 4.75 <= drawn <= 6.6, "large": drawn >= 7.4}[size]:
            return False
        return self.put(Item("shape", color, shape, rgb, size, side), mask)

    def _add_text(self) -> bool:
        rng = self.rng
        number = rng.randint(0, 999) if rng.random() < 0.8 else rng.randint(0, 9)
        word = rng.choice(WORDS) if rng.random() < 0.65 else str(number)
        color = rng.choice([c for c in COLORS if differ(COLORS[c], BACKGROUNDS[self.bg], READABLE)])
        height = max(14, min(self.width, self.height) * rng.uniform(0.13, 0.26))
        mask = text_mask(rng, word, self.width * 0.8, height)
        item = Item("text", color, "text", COLORS[color], word=word)
        if rng.random() < 0.6:                                          # on a plate
            pad = max(4, mask.height // 3)
            plate = Image.new("L", (mask.width + 2 * pad, mask.height + 2 * pad), 0)
            plate.paste(mask, (pad, pad))
            ink = rng.choice([k for k in ("white", "black", "yellow") if differ(COLORS[k], COLORS[color], INK)])
            item.plate, item.rgb, mask = COLORS[color], COLORS[ink], plate
        return self.put(item, mask)

    # -- showing

    def draw(self, items: list[Item] | None = None) -> np.ndarray:
        """uint8 [height, width, 3]; fresh noise at each call."""
        image = self.backdrop.copy()
        for o in self.items if items is None else items:
            left, top, right, bottom = o.box
            part = image[top:bottom, left:right]
            if o.plate:
                part[:] = o.plate
            part += (np.array(o.rgb, np.float32) - part) * (np.asarray(o.mask, np.float32)[:, :, None] / 255)
        if self.noise:
            k = self.rng.randrange(NOISE.size - image.size)
            image += NOISE[k:k + image.size].reshape(image.shape) * self.noise
        return np.clip(image, 0, 255).astype(np.uint8)

    def cell_targets(self) -> tuple[np.ndarray, ...]:
        """What each merged cell shows, for the auxiliary heads: shape (0 none, last text), colour (0 none), the
        grid lines of the box, whether the centre is here, and which characters."""
        rows, cols = self.height // MERGED, self.width // MERGED
        best = np.full((rows, cols), 0.06, np.float32)      # covered share of the thing that owns the cell
        kind, color = np.zeros((rows, cols), np.int64), np.zeros((rows, cols), np.int64)
        box = np.zeros((rows, cols, 4), np.int64)
        center = np.zeros((rows, cols), np.float32)
        chars = np.zeros((rows, cols, len(CHARS)), np.float32)
        for o in self.items:
            left, top, right, bottom = o.box
            c1, r1, c2, r2 = left // MERGED, top // MERGED, -(-right // MERGED), -(-bottom // MERGED)
            ink = np.zeros(((r2 - r1) * MERGED, (c2 - c1) * MERGED), np.float32)
            solid = 1.0 if o.kind == "text" else np.asarray(o.mask, np.float32) / 255
            ink[top - r1 * MERGED:bottom - r1 * MERGED, left - c1 * MERGED:right - c1 * MERGED] = solid
            cover = ink.reshape(r2 - r1, MERGED, c2 - c1, MERGED).mean((1, 3))
            r, c = min(rows - 1, int(o.cy * rows)), min(cols - 1, int(o.cx * cols))
            center[r, c] = 1
            cover[r - r1, c - c1] += 0.3
            mine = cover > best[r1:r2, c1:c2]
            best[r1:r2, c1:c2][mine] = cover[mine]
            kind[r1:r2, c1:c2][mine] = len(SHAPES) + 1 if o.kind == "text" else 1 + SHAPES.index(o.shape)
            color[r1:r2, c1:c2][mine] = 1 + list(COLORS).index(o.color)
            box[r1:r2, c1:c2][mine] = o.steps
            if o.kind == "text":
                pad = 0 if o.plate is None else max(4, (bottom - top) // 5)
                pitch = (right - left - 2 * pad) / len(o.word)
                for i, char in enumerate(o.word):
                    c = min(cols - 1, int((left + pad + (i + 0.5) * pitch) / MERGED))
                    chars[r, c, CHARS.index(char)] = 1
        return kind, color, box, center, chars

    # -- changes and movement

    def with_color(self, item: Item, color: str) -> Item:
        return replace(item, color=color, rgb=COLORS[color])

    def with_shape(self, item: Item, shape: str) -> Item:
        return replace(item, shape=shape, mask=shape_mask(shape, item.side).resize(item.mask.size, SMOOTH))

    def moved(self, item: Item) -> Item | None:
        """A copy somewhere else among the other items, in a place with another name."""
        before = self.items
        self.items = [o for o in before if o is not item]
        copy = replace(item)
        found = self.put(copy, item.mask)
        self.items = before
        return copy if found and copy.place != item.place else None

    def grown(self) -> Item | None:
        """One more shape, not added to this scene."""
        before = self.items
        self.items = list(before)
        new = self.items[-1] if self.add_shape() else None
        self.items = before
        return new
