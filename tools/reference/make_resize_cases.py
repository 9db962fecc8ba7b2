#!/usr/bin/env python3
"""Writes tests/data/resize/: what transformers and torchvision make of pictures that the tests generate themselves.

    smart_resize.bin  records of five little-endian uint16: width, height, setting, target width, target height (0, 0: refused)
    resize.json       [width, height, target width, target height, pattern, SHA-256 of the resized RGB bytes]
    patchify.json     settings, and the SHA-256 of pixel_values (float32, little-endian)
    pipeline.json     files of the repository -> grid and SHA-256 of pixel_values, from the file to the rows

    python tools/reference/make_resize_cases.py [OUT]        (needs torch, torchvision, transformers, Pillow)
"""
import hashlib
import json
import os
import struct
import sys

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from transformers.image_utils import load_image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
# factor, min_pixels, max_pixels; the order is the `setting` of smart_resize.bin
SETTINGS = [(32, 65536, 16777216), (28, 3136, 1003520), (16, 9216, 102400), (32, 256 * 1024, 1280 * 1024), (48, 1, 1 << 40)]


def noise(n, seed):
    """n bytes that a test can compute too: a 32-bit integer hash of the index."""
    x = np.arange(n, dtype=np.uint64) + seed * 0x9E3779B9
    x &= 0xFFFFFFFF
    for shift, mul in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x ^= x >> shift
        x = x * mul & 0xFFFFFFFF
    return ((x ^ x >> 16) >> 24).astype(np.uint8)


def pattern(w, h, kind):
    if kind == "noise":
        return noise(w * h * 3, w * 31 + h).reshape(h, w, 3)
    if kind == "extreme":
        return np.where(noise(w * h * 3, w + h) < 128, 0, 255).astype(np.uint8).reshape(h, w, 3)
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    return ((x * 5 + y * 3 + c * 40) & 255).astype(np.uint8)


def sha(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def smart_cases():
    rng = np.random.default_rng(42)
    worked = [(400, 300), (640, 480), (1920, 1080), (224, 224), (1, 1), (16, 16), (100, 100), (720, 1280), (2480, 3508), (4096, 4096),
              (8000, 6000), (10, 2000), (10, 2001), (2000, 10), (201, 1), (200, 1), (65535, 65535), (65535, 328), (48, 80), (304, 336)]
    out = b""
    for i in range(5000):
        w, h = worked[i] if i < len(worked) else (int(np.exp(rng.uniform(0, 11.09))), int(np.exp(rng.uniform(0, 11.09))))
        setting = 0 if i < len(worked) else int(rng.integers(len(SETTINGS)))
        if i % 3 == 0 and i >= len(worked):  # mostly ordinary photographs, and ties
            w, h = int(rng.integers(1, 300)) * 8, int(rng.integers(1, 300)) * 8
        try:
            th, tw = smart_resize(h, w, *SETTINGS[setting])
            assert max(tw, th) < 65536
        except ValueError:
            tw = th = 0
        out += struct.pack("<HHHHH", w, h, setting, tw, th)
    return out


def resize_cases():
    rng = np.random.default_rng(3)
    sizes = [(400, 300, 384, 288), (1, 1, 256, 256), (16, 16, 256, 256), (1, 200, 32, 3648), (200, 1, 3648, 32), (640, 480, 320, 481),
             (640, 480, 640, 96), (97, 480, 480, 480), (300, 7, 31, 900), (1000, 1000, 32, 32), (33, 77, 33, 78), (33, 77, 34, 77),
             (5000, 30, 32, 32), (1000, 999, 999, 1000), (50, 3000, 300, 288), (2, 2, 3, 3), (3, 2, 2, 3), (7, 5, 7, 5),
             (1920, 1080, 1920, 1088), (1024, 768, 1024, 768), (800, 600, 96, 64), (20, 20, 19, 21), (511, 513, 512, 512)]
    sizes += [tuple(int(np.exp(rng.uniform(0.7, 6.2))) for _ in range(4)) for _ in range(40)]
    out = []
    for i, (w, h, tw, th) in enumerate(sizes):
        kind = ("noise", "extreme", "ramp")[i % 3]
        t = torch.from_numpy(pattern(w, h, kind)).permute(2, 0, 1).contiguous()[None]
        r = F.resize(t, [th, tw], interpolation=F.InterpolationMode.BICUBIC, antialias=True)[0]
        out.append([w, h, tw, th, kind, sha(r.permute(1, 2, 0).numpy())])
    return out


def patchify_cases():
    clip_mean, clip_std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    out = []
    for w, h, patch, merge, temporal, mean, std in (
            (64, 96, 16, 2, 2, [0.5] * 3, [0.5] * 3), (128, 32, 16, 2, 2, clip_mean, clip_std), (56, 84, 14, 2, 2, [0.5, 0.4, 0.3], [0.5, 0.25, 0.123]),
            (48, 72, 8, 3, 3, [0.1, 0.2, 0.3], [0.7, 0.8, 0.9]), (24, 40, 8, 1, 1, [0, 0, 0], [1, 1, 1]), (32, 32, 4, 4, 2, [1, 1, 1], [0.2, 0.3, 0.4])):
        p = Qwen2VLImageProcessor(patch_size=patch, merge_size=merge, temporal_patch_size=temporal, image_mean=mean, image_std=std,
                                  do_resize=False)
        v = p(images=[torch.from_numpy(pattern(w, h, "noise")).permute(2, 0, 1)], return_tensors="pt")
        x = v["pixel_values"].numpy()
        out.append({"width": w, "height": h, "patch": patch, "merge": merge, "temporal": temporal, "mean": mean, "std": std,
                    "grid": v["image_grid_thw"][0].tolist(), "shape": list(x.shape), "sha256": sha(x)})
    return out


def pipeline_cases():
    out = []
    p = Qwen2VLImageProcessor.from_pretrained(os.path.join(ROOT, "models/tiny"))
    for f in ("photo.jpg", "rotated.jpg", "sign.png", "tall.png"):
        path = "models/tiny/examples/" + f
        v = p(images=[load_image(os.path.join(ROOT, path))], return_tensors="pt")
        out.append({"file": path, "patch": p.patch_size, "merge": p.merge_size, "temporal": p.temporal_patch_size, "mean": p.image_mean,
                    "std": p.image_std, "min_pixels": p.size["shortest_edge"], "max_pixels": p.size["longest_edge"],
                    "grid": v["image_grid_thw"][0].tolist(), "sha256": sha(v["pixel_values"].numpy())})
    return out


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests/data/resize")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "smart_resize.bin"), "wb") as f:
        f.write(smart_cases())
    for name, cases in (("resize", resize_cases()), ("patchify", patchify_cases()), ("pipeline", pipeline_cases())):
        with open(os.path.join(out, name + ".json"), "w") as f:
            f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
