#!/usr/bin/env python3
"""qvl beside llama.cpp (and onnxruntime-genai) on this machine: the same 4B-shaped weights (make_model.py), the same bits a weight, the same threads.

    compare.py MODELS [--qvl build/qvl] [--threads 2] [--rounds 5] [--quick] [--json FILE]

Rounds alternate between the engines (A B A B ...); a row gives the median of the ratios of the rounds and their range, and
qvl's share of what the machine can do, probed in the same process and minute. llama.cpp runs in the better of its two
attention modes, which a pilot at 2048 positions chooses, and with the better of its F16 and BF16 vision encoders.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DECODED = 32
PAUSE = 0.3  # lets the other engine's spinning threads fall asleep


class Worker:
    """Another engine in a process of its own."""

    def __init__(self, script, *args):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, script), *args], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.script = script
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.script} ended with status {self.process.wait()}")
        return json.loads(line)

    def __call__(self, do, **command):
        self.process.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Qvl:
    def __init__(self, program, model, threads, extra=()):
        self.base = [program, "bench", model, "--precision", "q4", "--threads", str(threads), "--json", *extra]

    def __call__(self, name, *options, match=""):
        """Rows of one bench run whose name is `name`."""
        out = subprocess.run([*self.base, *options], check=True, stdout=subprocess.PIPE, text=True).stdout
        return [r for r in json.loads(out)["rows"] if r["name"] == name and match in r["what"]]


NONE = {"--image": "none", "--prompt": "none", "--prompt-depth": "0", "--depth": "none"}


def options(**given):
    flags = dict(NONE, **{"--" + k.replace("_", "-"): str(v) for k, v in given.items()})
    return [x for pair in flags.items() for x in pair]


class Table:
    def __init__(self, rounds, only):
        self.rounds, self.only, self.rows = rounds, re.compile(only), []

    def measure(self, name, theirs, ours, must="", rounds=None):
        """theirs() and ours() return milliseconds; ours() also the share and what it is a share of."""
        if not self.only.search(name):
            return
        pairs = []
        for i in range(rounds or self.rounds):
            a = theirs()
            time.sleep(PAUSE)
            b, share, of = ours()
            time.sleep(PAUSE)
            pairs.append((a, b, share, of))
            print(f"  {name}, round {i + 1}: other {a:.1f} ms, qvl {b:.1f} ms, {a / b:.2f}x", file=sys.stderr)
        ratios = sorted(a / b for a, b, _, _ in pairs)
        row = {"name": name, "other_ms": statistics.median(a for a, *_ in pairs), "qvl_ms": statistics.median(b for _, b, *_ in pairs),
               "ratio": statistics.median(ratios), "low": ratios[0], "high": ratios[-1],
               "share": statistics.median(s for _, _, s, _ in pairs), "of": pairs[0][3], "goal": must}
        self.rows.append(row)
        print("  " + line(row), file=sys.stderr)


HEAD = "| | other engine | qvl | ratio (range) | goal | share of the machine's limit |\n|---|---:|---:|---|---|---|"


def line(r):
    unit = lambda ms: f"{ms / 1e3:.2f} s" if ms >= 1000 else f"{ms:.1f} ms"  # noqa: E731
    share = f"{100 * r['share']:.0f} % of {r['of']}" if r["share"] is not None else ""
    return (f"| {r['name']} | {unit(r['other_ms'])} | {unit(r['qvl_ms'])} | **{r['ratio']:.2f}x** ({r['low']:.2f}-{r['high']:.2f}) | "
            f"{r['goal']} | {share} |")


def speed(table, llama, qvl, args):
    best = {}

    def decode(depth, n_ctx, flash, qvl=qvl):
        def theirs():
            return statistics.median(llama("decode", n_ctx=n_ctx, flash=flash, depth=depth, n=DECODED))

        def ours():
            r = qvl("decode", *options(depth=depth, decode=DECODED))[0]
            return 1e3 / r["value"], r["share"], r["of"]
        return theirs, ours

    def prefill(n, depth, n_ctx, flash):
        def theirs():
            return llama("prefill", n_ctx=n_ctx, flash=flash, depth=depth, n=n)[0]

        def ours():
            r = qvl("prefill", *options(prompt=n, prompt_depth=depth))[0]
            return n / r["value"] * 1e3, r["share"], r["of"]
        return theirs, ours

    for flash in ("on", "off"):
        best[flash] = statistics.median(llama("decode", n_ctx=2560, flash=flash, depth=2048, n=16))
        llama("close", n_ctx=2560, flash=flash)
    flash = min(best, key=best.get)
    print(f"  attention of llama.cpp: fused on {best['on']:.1f} ms, off {best['off']:.1f} ms a token at 2048 positions", file=sys.stderr)
    table.note = f"llama.cpp's fused attention {flash} (a token at 2048 positions: on {best['on']:.1f} ms, off {best['off']:.1f} ms)"
    table.measure("decode at 128 positions", *decode(128, 1536, flash), must="1.5x")
    table.measure("decode at 1024 positions", *decode(1024, 1536, flash), must="1.8x")
    table.measure("prompt of 512 tokens", *prefill(512, 0, 1536, flash), must="2.4x")
    llama("close", n_ctx=1536, flash=flash)
    if not args.quick:
        table.measure("512 tokens behind 3584", *prefill(512, 3584, 8448, flash), must="3.5x", rounds=min(args.rounds, 3))
        table.measure("decode at 8192 positions", *decode(8192, 8448, flash), must="2.5x")
        int8 = Qvl(args.qvl, os.path.join(args.models, "qwen3vl-4b-q4_0.gguf"), args.threads)
        table.measure("decode at 8192 positions, qvl's cache in int8", *decode(8192, 8448, flash, int8))
        llama("close", n_ctx=8448, flash=flash)


def vision(table, llama, qvl, args):
    kinds = {"bf16": os.path.join(args.models, "mmproj-bf16.gguf"), "f16": os.path.join(args.models, "f16", "mmproj-f16.gguf")}
    sizes = [(384, 288, "1.5x"), (1024, 768, "3x")] + ([] if args.quick else [(1920, 1088, "3.8x")])
    for w, h, must in sizes:  # whole multiples of 32: both engines encode just these patches
        want = w // 32 * (h // 32)
        pilot = {}
        for kind, path in kinds.items():
            pilot[kind], tokens = llama("vision", mmproj=path, width=w, height=h)
            if tokens != want:
                raise SystemExit(f"llama.cpp made {tokens} tokens of {w}x{h}, expected {want}")
        kind = min(pilot, key=pilot.get)

        def theirs():
            return llama("vision", mmproj=kinds[kind], width=w, height=h)[0]

        def ours():
            r = qvl("picture", *options(image=f"{w}x{h}"))[0]
            return r["value"] * 1e3, r["share"], r["of"]
        table.measure(f"picture {w}x{h} (llama.cpp: {kind})", theirs, ours, must=must, rounds=args.rounds if w < 1500 else min(args.rounds, 3))


def onnx(table, args):
    """The first layers alone, in both engines."""
    folders = [f for f in sorted(os.listdir(args.models)) if f.startswith("onnx-")]
    if not folders:
        raise SystemExit("no onnx-N folder: run make_onnx.py first")
    n = folders[0].split("-")[1]
    qvl = Qvl(args.qvl, os.path.join(args.models, f"qwen3vl-4b-q4_0-{n}.gguf"), args.threads)
    qvl("load", *options())
    ort = Worker("ort_worker.py", os.path.join(args.models, folders[0]))
    for depth in (128, 1024):
        def ours():
            r = qvl("decode", *options(depth=depth, decode=DECODED))[0]
            return 1e3 / r["value"], r["share"], r["of"]
        table.measure(f"ONNX Runtime GenAI, {n} layers: decode at {depth} positions",
                      lambda: statistics.median(ort("decode", depth=depth, n=DECODED)), ours)

    def ours_prefill():
        r = qvl("prefill", *options(prompt=512))[0]
        return 512 / r["value"] * 1e3, r["share"], r["of"]
    table.measure(f"ONNX Runtime GenAI, {n} layers: prompt of 512 tokens", lambda: ort("prefill", n=512)[0], ours_prefill)
    ort.close()
    return f"onnxruntime-genai {ort.about['version']} (8-bit activations)"


def own(qvl, args):
    """What needs no other engine: steps of several tokens, start, memory."""
    rows = [f"| {r['what']} against one token | {r['value']:.2f}x the time |" for r in qvl("step", *options(depth=128, decode=DECODED))]
    text = os.path.join(args.models, "qwen3vl-4b-q4_0.gguf")
    run = [args.qvl, "run", text, "--precision", "q4", "--threads", str(args.threads), "--greedy", "-n", "1", "-q", "-p", "Hi"]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    times = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    rows.append(f"| start to the end of a one-token answer, warm page cache | {statistics.median(times):.2f} s |")
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "picture.ppm")
        with open(picture, "wb") as f:
            f.write(b"P6 1024 768 255\n" + bytes(range(256)) * (1024 * 768 * 3 // 256))
        out = subprocess.run(["/usr/bin/time", "-v", args.qvl, "run", text, "--precision", "q4", "--threads", str(args.threads), "--greedy",
                              "--context", "4096", "-n", "16", "-q", "-p", "Describe this.", "--image", picture], check=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
        peak = next(int(x.rsplit(":", 1)[1]) for x in out.splitlines() if "Maximum resident" in x)
    rows.append(f"| peak resident memory, 4096 positions, one picture of 1024x768 | {peak * 1024 / 1e9:.2f} GB |")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", help="folder written by make_model.py")
    parser.add_argument("--qvl", default=os.path.join(os.path.dirname(os.path.dirname(HERE)), "build", "qvl"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes: 8192 positions, depth 3584, 1920x1088")
    parser.add_argument("--only", default="text,vision,own", help="of text,vision,own,onnx")
    parser.add_argument("--rows", default="", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument("--json", help="also write the rows to this file")
    args = parser.parse_args()
    model = os.path.join(args.models, "qwen3vl-4b-q4_0.gguf")
    qvl = Qvl(args.qvl, model, args.threads, ("--kv", "bf16"))
    qvl("load", *options())  # converts, once
    table = Table(args.rounds, args.rows)
    table.note = ""
    only = args.only.split(",")
    about = []
    if "text" in only or "vision" in only:
        llama = Worker("llama_worker.py", model, "--threads", str(args.threads))
        about.append(f"llama-cpp-python {llama.about['version']}, built for this CPU ({llama.about['system'].strip()})")
        if "text" in only:
            speed(table, llama, qvl, args)
        if "vision" in only:
            vision(table, llama, qvl, args)
        llama.close()
    if "onnx" in only:
        about.append(onnx(table, args))
    print(f"{'; '.join(about)}; {args.threads} threads, {args.rounds} rounds. {table.note}\n")
    print(HEAD)
    for r in table.rows:
        print(line(r))
    if "own" in only:
        print("\n| qvl alone | |\n|---|---|")
        print("\n".join(own(qvl, args)))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"about": about, "rows": table.rows}, f, indent=1)


if __name__ == "__main__":
    main()
