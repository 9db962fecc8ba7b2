#!/usr/bin/env python3
"""Write tests/data/gguf/blocks.safetensors: what the gguf package makes of blocks, and of floats.

    python make_gguf_cases.py

For each block type T the file holds T.raw (bytes of a few blocks: random ones, and encoded rows) and T.f32 (decoded);
for each type the package can encode also T.in (floats) and T.enc (bytes).
"""
import os

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, dequantize, quantize
from safetensors.numpy import save_file

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
DECODED = (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.MXFP4)
ENCODED = (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.F16, T.BF16)
# Where the f16 scales are, so that most random blocks get a sensible size of number.
SCALES = {T.Q4_0: (0,), T.Q4_1: (0, 2), T.Q5_0: (0,), T.Q5_1: (0, 2), T.Q8_0: (0,), T.Q2_K: (80, 82), T.Q3_K: (108,),
          T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_NL: (0,), T.IQ4_XS: (0,), T.MXFP4: ()}


def random_blocks(rng, kind):
    """Blocks with ordinary scales, with random bytes for scales (infinities and NaN happen), and with extreme bytes."""
    elems, size = GGML_QUANT_SIZES[kind]
    n = 48 if elems == 32 else 9
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for i in range(n * 2 // 3):
        for at in SCALES[kind]:
            raw[i, at:at + 2] = np.array([rng.normal() * 10.0 ** rng.uniform(-5, 1)], np.float16).view(np.uint8)
    raw[n - 2], raw[n - 1] = 0, 255
    if kind == T.MXFP4:
        raw[:6, 0] = 0, 1, 2, 127, 254, 255
    return raw


def main():
    rng = np.random.default_rng(2024)
    out = {}
    for kind in DECODED:
        raw = random_blocks(rng, kind)
        with np.errstate(all="ignore"):
            out[f"{kind.name}.raw"] = raw
            out[f"{kind.name}.f32"] = dequantize(raw, kind).reshape(-1).astype(np.float32)
    for kind in ENCODED:
        x = (rng.standard_normal((24, 32)) * 10.0 ** rng.uniform(-6, 3, (24, 1))).astype(np.float32)
        x[0], x[1], x[2] = 0, 1.5, -0.25
        x[3, ::2], x[3, 1::2] = 1, -1
        out[f"{kind.name}.in"] = x
        out[f"{kind.name}.enc"] = quantize(x, kind).view(np.uint8).reshape(-1).copy()
    folder = os.path.join(ROOT, "tests", "data", "gguf")
    os.makedirs(folder, exist_ok=True)
    save_file(out, os.path.join(folder, "blocks.safetensors"), {"reference": "gguf package"})


if __name__ == "__main__":
    main()
