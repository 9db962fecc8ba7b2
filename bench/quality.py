"""What packing costs, on a model small enough to ask often: KL divergence, perplexity and right answers of each precision.

The tiny model is asked about pictures that neither its training nor the calibration saw (tools/tiny/grade.py). Each
conversation, the right answer at its end, goes once through the program with a trace; where the answer's tokens are
predicted, the logits are compared with those of float32 arithmetic on the same weights:
  KL         of the float32 distribution against the other one, in nats: mean, and 99th percentile over tokens
  same       share of tokens whose most likely one is float32's
  perplexity of the right answers
  right      share of answers of which every token is the most likely one, that is what greedy decoding would write
Needs numpy and what tools/tiny/requirements.txt lists. `make quality` runs it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/tiny"))
import grade  # noqa: E402
from scenes import Scene  # noqa: E402

CALIBRATION_SEED = 20260  # any but grade's: other scenes


def tensors(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Tensors of a trace (docs/traces.md)."""
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header, out = json.loads(data[8:8 + n]), {}
    for name in names:
        h = header[name]
        a, b = h["data_offsets"]
        out[name] = np.frombuffer(data[8 + n + a:8 + n + b], {"F32": "<f4", "I32": "<i4"}[h["dtype"]]).reshape(h["shape"])
    return out


def write_request(folder: Path, i: int, media, question: str, answer: str) -> list:
    """A conversation with the right answer at its end; its pictures are written beside it."""
    content = []
    for k, (_, picture) in enumerate(media):
        picture.save(folder / f"{i}-{k}.png")
        content.append({"type": "image", "image": f"{i}-{k}.png"})
    content.append({"type": "text", "text": question})
    talk = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    (folder / f"{i}.json").write_text(json.dumps(talk))
    return talk


def calibration(folder: Path, scenes: int) -> Path:
    from PIL import Image
    rng, lines, folder = random.Random(CALIBRATION_SEED), [], folder / "calibration"
    folder.mkdir()
    for i in range(scenes):
        scene = Scene(rng, *rng.choice(grade.SIZES), text=i % grade.EVERY == 0)
        for q in grade.scene_questions(rng, scene, [("image", Image.fromarray(scene.draw()))]):
            lines.append(json.dumps(write_request(folder, len(lines), *q[1:])))
    path = folder / "requests.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def special_ids(model: Path) -> tuple[int, int]:
    added = {t["content"]: t["id"] for t in json.loads((model / "tokenizer.json").read_text())["added_tokens"]}
    return added["<|im_start|>"], added["<|im_end|>"]


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def answer_logits(qvl: str, model: str, options: list[str], request: Path, ids: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities where the answer's tokens are predicted, and these tokens."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as out:
        subprocess.run([qvl, "run", model, "--messages", str(request), "--greedy", "-n", "1", "-t", "1", "-q", "--trace", out.name]
                       + options, check=True, stdout=subprocess.DEVNULL)
        t = tensors(Path(out.name), ("input_ids", "logits"))
    tokens = t["input_ids"]
    end = int(np.flatnonzero(tokens == ids[1])[-1])
    start = int(np.flatnonzero(tokens[:end] == ids[0])[-1]) + 3  # behind <|im_start|>assistant\n
    return log_softmax(t["logits"][start - 1:end]), tokens[start:end + 1]


def measure(args, row, requests: list[Path], ids, reference: list | None) -> tuple[dict, list]:
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        got = list(pool.map(lambda r: answer_logits(args.qvl, row[1], row[2], r, ids), requests))
    kl, same, nll, right = [], [], [], []
    for (p, _), (q, tokens) in zip(reference or got, got):
        kl += (np.exp(p) * (p - q)).sum(-1).tolist()
        same += (p.argmax(-1) == q.argmax(-1)).tolist()
        nll += (-q[np.arange(len(tokens)), tokens]).tolist()
        right.append(bool((q.argmax(-1) == tokens).all()))
    return {"tokens": len(kl), "kl": np.mean(kl), "kl99": np.percentile(kl, 99), "same": np.mean(same),
            "perplexity": np.exp(np.mean(nll)), "right": np.mean(right)}, got


def rows(args, folder: Path) -> list[tuple[str, str, list[str]]]:
    """Name, model, options."""
    model, calibrate = str(args.model), ["--calibrate", str(calibration(folder, args.calibration))]
    packs = [("q8", ["--precision", "q8"]), ("q4, head q4", ["--head", "q4"]), ("q4, head q8", ["--head", "q8"]),
             ("q4, head kept", ["--head", "bf16"]), ("q4 calibrated, head q4", ["--head", "q4"] + calibrate),
             ("q4 calibrated, head q8", ["--head", "q8"] + calibrate)]
    out = [("f32", model, ["--precision", "f32"]), ("bf16", model, ["--precision", "bf16"])]
    for i, (name, options) in enumerate(packs):
        subprocess.run([args.qvl, "pack", model, "-q", "-o", str(folder / f"pack{i}")] + options, check=True)
        out.append((name, str(folder / f"pack{i}"), []))
    gguf = folder / "gguf"
    subprocess.run([args.qvl, "export", model, "--gguf", "--type", "q4_0", "-q", "-o", f"{gguf}/"], check=True)
    return out + [("GGUF Q4_0 (largest value a group), in q4", str(gguf), ["--precision", "q4"])]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--qvl", default=str(ROOT / "build/qvl"))
    ap.add_argument("--model", type=Path, default=ROOT / "models/tiny")
    ap.add_argument("--scenes", type=int, default=40, help="held-out scenes, some ten questions each")
    ap.add_argument("--calibration", type=int, default=20, help="other scenes, for calibration")
    ap.add_argument("--jobs", type=int, default=2)
    args = ap.parse_args()
    ids = special_ids(args.model)
    with tempfile.TemporaryDirectory() as name:
        folder, requests, reference = Path(name), [], None
        questions = [q for q in grade.held_out(args.scenes) if all(kind == "image" for kind, _ in q[1])]
        for i, (_, media, question, answer) in enumerate(questions):
            write_request(folder, i, media, question, answer)
            requests.append(folder / f"{i}.json")
        print("| precision | KL mean | KL 99 % | same first token | perplexity | right |\n|---|---|---|---|---|---|")
        for row in rows(args, folder):
            r, got = measure(args, row, requests, ids, reference)
            reference = reference or got
            print(f"| {row[0]} | {r['kl']:.2e} | {r['kl99']:.2e} | {100 * r['same']:.2f} % | {r['perplexity']:.4f} | "
                  f"{100 * r['right']:.1f} % |", flush=True)
        print(f"\n{len(requests)} questions, {r['tokens']} answer tokens, {args.scenes} held-out scenes; calibration on "
              f"{args.calibration} others")


if __name__ == "__main__":
    main()
