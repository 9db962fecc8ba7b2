"""The small pictures of tests/golden/images/: one for each way in which decoding or resizing can go wrong."""
import os

import numpy as np
from PIL import Image, ImageDraw


def scene(width, height, seed):
    """Gradient, noise and hard edges: a wrong filter, a shift of one pixel or a swapped channel all change it a lot."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 127 + 90 * np.sin((x + 2 * y) / 9)], -1)
    base += rng.normal(0, 6, base.shape)
    image = Image.fromarray(base.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x0, y0 = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = (int(v) for v in rng.integers(6, 40, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw.rectangle([x0, y0, x0 + w, y0 + h], fill=colour) if rng.random() < 0.5 else draw.ellipse(
            [x0, y0, x0 + w, y0 + h], fill=colour)
    return image


def make_pictures(folder):
    os.makedirs(folder, exist_ok=True)

    def save(image, name, **options):
        image.save(os.path.join(folder, name), **options)

    save(scene(117, 83, 1), "odd.png", optimize=True)  # no side is a multiple of 32
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to display: stored 100x70, seen 70x100
    save(scene(100, 70, 2), "rotated.jpg", quality=88, exif=exif)
    alpha = scene(80, 60, 3).convert("RGBA")
    alpha.putalpha(Image.fromarray((np.mgrid[0:60, 0:80][1] * 255 // 79).astype(np.uint8)))
    save(alpha, "alpha.png", optimize=True)
    save(scene(400, 80, 4), "panorama.jpg", quality=85, subsampling=0)
    save(scene(3, 200, 5), "strip.png", optimize=True)
    save(scene(64, 64, 6), "square.png", optimize=True)  # not resized
    # One merged token each: source formats, not sizes.
    save(scene(32, 32, 7).convert("L"), "grey.png")
    grey = np.asarray(scene(32, 32, 8).convert("L")).astype(np.uint16) * 251 + 17
    save(Image.fromarray(grey), "grey16.png")
    palette = scene(32, 32, 9).quantize(16)
    save(palette, "palette.png", transparency=bytes([0, 128] + [255] * 14))
    save(scene(32, 32, 10).convert("CMYK"), "cmyk.jpg", quality=90)
    save(scene(32, 32, 11), "progressive.jpg", quality=80, progressive=True)
