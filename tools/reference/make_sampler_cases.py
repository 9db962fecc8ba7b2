#!/usr/bin/env python3
"""Writes tests/data/text/sampler.json: scores after the logits processors of transformers.

    python tools/reference/make_sampler_cases.py > tests/data/text/sampler.json

A case has either "logits" (float32 bit patterns) or "lcg": [n, seed, shift, scale]: n values of a linear congruential
generator, see lcg(). "seen" are the input ids. "kept" lists [id, score bits] of what is left, or [count, hash] when that
is long, see fold(). Where top-p keeps some of several equal scores, which of them depends on the reference's unstable sort: such
cases are marked "ties" and give [count, sum of score bits].
"""
import json
import random
import sys

import numpy as np
import torch
from transformers import (MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper,
                          TopPLogitsWarper)


def lcg(n, seed, shift, scale):
    """((x >> shift) - half) / half * scale: exact in float32 for scale a power of two; a large shift makes ties."""
    x, out = seed, np.empty(n, np.float32)
    half = 1 << (31 - shift)
    for i in range(n):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = ((x >> shift) - half) / half * scale
    return out


def process(logits, p, seen):
    ids = torch.tensor([seen], dtype=torch.long)
    s = torch.from_numpy(logits.copy())[None]
    if p.get("repetition_penalty", 1.0) != 1.0:
        s = RepetitionPenaltyLogitsProcessor(p["repetition_penalty"])(ids, s)
    if p.get("temperature", 1.0) != 1.0:
        s = TemperatureLogitsWarper(p["temperature"])(ids, s)
    if p.get("top_k", 0):
        s = TopKLogitsWarper(p["top_k"])(ids, s)
    before = s
    if p.get("top_p", 1.0) < 1.0:
        s = TopPLogitsWarper(p["top_p"])(ids, s)
    if p.get("min_p", 0.0):
        s = MinPLogitsWarper(p["min_p"])(ids, s)
    return s[0].numpy(), before[0].numpy()


def ties(before, s):
    return bool(np.intersect1d(before[s == -np.inf], before[s > -np.inf]).size)


def fold(kept):
    h = 0
    for i, b in kept:
        h = ((h * 1000003 + i) * 1000003 + b) & 0xFFFFFFFF
    return [len(kept), h]


def case(logits, p, seen, spec):
    s, before = process(logits, p, seen or [0])
    kept = [[int(i), int(s[i:i + 1].view(np.uint32)[0])] for i in np.flatnonzero(s > -np.inf)]
    out = dict(spec, params=p, seen=seen, kept=kept if len(kept) <= 60 else fold(kept))
    if ties(before, s):
        out.update(ties=True, kept=[len(kept), sum(b for _, b in kept)])
    return out


def random_params(r):
    p = {}
    if r.random() < 0.5:
        p["temperature"] = r.choice([0.1, 0.5, 0.7, 1.0, 1.3, 2.0])
    if r.random() < 0.5:
        p["top_k"] = r.choice([1, 2, 3, 5, 20, 40, 100, 100000])
    if r.random() < 0.5:
        p["top_p"] = r.choice([0.0, 0.05, 0.3, 0.5, 0.8, 0.9, 0.95, 0.999])
    if r.random() < 0.4:
        p["min_p"] = r.choice([0.01, 0.05, 0.1, 0.5, 1.0])
    if r.random() < 0.5:
        p["repetition_penalty"] = r.choice([1.05, 1.1, 1.5, 0.8, 2.0])
    return p


def main():
    r = random.Random(3)
    rows = []
    f = np.float32
    handmade = [
        (np.log(np.array([0.5, 0.3, 0.2], f)), {"top_p": 0.75}), (np.log(np.array([0.5, 0.25, 0.25], f)), {"top_p": 0.5}),
        (np.log(np.array([0.4, 0.3, 0.2, 0.1], f)), {"top_p": 0.65}), (np.array([1, 1, 1, 1], f), {"top_p": 0.5}),
        (np.array([1, 1, 1, 1], f), {"top_p": 0.6}), (np.array([1, 1, 1, 1], f), {"top_p": 0.0}), (np.array([1, 1, 1, 1], f), {"top_k": 2}),
        (np.array([3, 1, 2, 2, 2, 0], f), {"top_k": 2}), (np.array([3, 1, 2, 2, 2, 0], f), {"top_k": 2, "top_p": 0.7}),
        (np.array([0, -1, 1, -np.inf, 2], f), {"top_k": 4}), (np.array([0, -1, 1, -np.inf, 2], f), {"top_p": 0.9}),
        (np.array([5, -5, 0, 0], f), {"repetition_penalty": 2.0}), (np.array([0, 0, 0], f), {"min_p": 1.0}),
        (np.array([10, 0, -10], f), {"min_p": 0.01}), (np.array([2, 2, 1], f), {"min_p": 1.0, "temperature": 0.5}),
        (np.array([1.5], f), {"top_p": 0.1, "min_p": 0.5, "top_k": 1})]
    for logits, p in handmade:
        rows.append(case(logits, p, [0, 1] if len(logits) > 1 else [0], {"logits": [int(x) for x in logits.view(np.uint32)]}))
    for _ in range(220):
        spec = [r.choice([2, 5, 17, 50, 300]), r.randrange(1 << 32), r.choice([8, 8, 26, 28]), r.choice([1, 4, 8, 16])]
        seen = sorted({r.randrange(spec[0]) for _ in range(r.randint(1, 10))})
        rows.append(case(lcg(*spec), random_params(r), seen, {"lcg": spec}))
    for p in [{"temperature": 0.7, "top_k": 20, "top_p": 0.8}, {"temperature": 1.0, "top_k": 40}, {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
              {"top_p": 0.9}, {"top_p": 0.3, "temperature": 0.5}, {"min_p": 0.05}, {"repetition_penalty": 1.05, "top_k": 50, "temperature": 0.7},
              {"repetition_penalty": 1.3, "top_p": 0.5, "min_p": 0.1, "top_k": 1000}, {"top_k": 151935}]:
        for shift, scale in ((8, 16), (22, 16)):
            spec = [151936, r.randrange(1 << 32), shift, scale]
            seen = sorted({r.randrange(spec[0]) for _ in range(200)})
            rows.append(case(lcg(*spec), p, seen, {"lcg": spec}))
    print("[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in rows) + "\n]")
    print(len(rows), "cases,", sum("ties" in x for x in rows), "with ties", file=sys.stderr)


main()
