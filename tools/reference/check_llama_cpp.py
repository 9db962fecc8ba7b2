#!/usr/bin/env python3
"""Compare qvl with llama.cpp on the same GGUF files: token ids, logits, greedy answers, picture features.

    python check_llama_cpp.py [--qvl build/qvl] [--model models/tiny] [--types f32,f16,...] [--quantise Q4_0,Q4_K,...] [--keep DIR]

Files are written by `qvl export --gguf`, and (--quantise) by llama.cpp's own quantiser from qvl's F32 file. Both programs run each
file on text prompts and, with the mmproj, on example pictures. llama.cpp multiplies quantised weights with activations rounded to 8
bits, F16 ones with activations rounded to f16, so the logits of a type agree as far as that goes: qvl runs in f32. Exit status 77
when llama-cpp-python (with its libmtmd) or numpy is not installed.
"""
import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import llama_cpp as L
    from llama_cpp import mtmd_cpp as M
except (ImportError, OSError) as e:
    print(f"check_llama_cpp: skipped: {e}")
    sys.exit(77)

TEXTS = ["Hello", "What is the color of the square?", "Count to ten.", "Is there a green circle in the picture?",
         "Describe this image.", "def f(x):\n    return x + 1", "\u00dcber den Wolken \u2013 \u4f60\u597d \U0001f600"]
PICTURES = [("one-shape.png", "Describe this image."), ("two-shapes.png", "How many shapes are there?"),
            ("tall.png", "What is the shape at the top?"), ("three-shapes.png", "Describe this image."),
            ("photo.jpg", "Describe this image.")]
# Relative L2 of the logits that rounded activations explain, measured on the tiny model with some room.
LIMITS = {"F32": 2e-4, "F16": 6e-3, "BF16": 4e-2}
LIMIT = 0.15


def read_trace(path):
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        head, data = json.loads(f.read(n)), f.read()
    kinds = {"F32": np.float32, "I32": np.int32}
    return {name: np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], kinds[t["dtype"]]).reshape(t["shape"])
            for name, t in head.items() if name != "__metadata__"}


def rel(a, b):
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b.astype(np.float64)))


class Qvl:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def run(self, *args):
        r = subprocess.run([self.program, *args], capture_output=True)
        if r.returncode:
            raise SystemExit(f"qvl {' '.join(args)}: {r.stderr.decode()}")
        return r.stdout

    def trace(self, model, mmproj, content, n):
        messages, out = os.path.join(self.folder, "m.json"), os.path.join(self.folder, "t.safetensors")
        with open(messages, "w", encoding="utf-8") as f:
            json.dump([{"role": "user", "content": content}], f)
        self.run("run", model, "--mmproj", mmproj, "--messages", messages, "--greedy", "-n", str(n), "--precision", "f32",
                 "--no-draft", "--quiet", "--trace", out)
        return read_trace(out), self.run("tokenize", model, "--template", messages).decode()


class Llama:
    def __init__(self, path, mmproj):
        mp, cp = L.llama_model_default_params(), L.llama_context_default_params()
        mp.n_gpu_layers, mp.use_mmap = 0, True
        cp.n_ctx, cp.n_batch, cp.n_ubatch, cp.n_threads, cp.n_threads_batch = 2048, 2048, 2048, 2, 2
        cp.type_k = cp.type_v = 0  # F32
        cp.flash_attn_type = 0
        self.model = L.llama_model_load_from_file(path.encode(), mp)
        if not self.model:
            raise SystemExit(f"llama.cpp does not load {path}")
        self.vocab, self.ctx = L.llama_model_get_vocab(self.model), L.llama_init_from_model(self.model, cp)
        self.n_vocab, self.n_embd = L.llama_vocab_n_tokens(self.vocab), L.llama_model_n_embd(self.model)
        self.mtmd = None
        if mmproj:
            vp = M.mtmd_context_params_default()
            vp.use_gpu, vp.n_threads, vp.warmup, vp.print_timings = False, 2, False, False
            self.mtmd = M.mtmd_init_from_file(mmproj.encode(), self.model, vp)
            if not self.mtmd:
                raise SystemExit(f"llama.cpp does not load {mmproj}")

    def close(self):
        if self.mtmd:
            M.mtmd_free(self.mtmd)
        L.llama_free(self.ctx)
        L.llama_model_free(self.model)

    def clear(self):
        L.llama_memory_clear(L.llama_get_memory(self.ctx), True)

    def tokenize(self, text):
        raw = text.encode()
        out = (L.llama_token * (len(raw) + 16))()
        n = L.llama_tokenize(self.vocab, raw, len(raw), out, len(out), False, True)
        return list(out[:n])

    def logits(self):
        return np.array(np.ctypeslib.as_array(L.llama_get_logits_ith(self.ctx, -1), (self.n_vocab,)))

    def feed(self, ids):
        tokens = (L.llama_token * len(ids))(*ids)  # the batch only points to it
        if L.llama_decode(self.ctx, L.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit("llama_decode failed")

    def greedy(self, n):
        """Logits of the prompt's last position, and the ids that follow."""
        first, ids = self.logits(), []
        logits = first
        while len(ids) < n:
            ids.append(int(logits.argmax()))
            if L.llama_vocab_is_eog(self.vocab, ids[-1]) or len(ids) == n:
                break
            self.feed(ids[-1:])
            logits = self.logits()
        return first, ids

    def picture(self, prompt, width, height, rgb, n):
        """The same with a picture; also its features [tokens][(1 + levels) * width]."""
        marker = M.mtmd_default_marker()
        raw = prompt.encode().replace(b"<|vision_start|><|image_pad|><|vision_end|>", marker)
        assert marker in raw
        text = M.mtmd_input_text(raw, len(raw), False, True)
        bitmap = M.mtmd_bitmap_init(width, height, (ctypes.c_uint8 * len(rgb)).from_buffer_copy(rgb))
        chunks = M.mtmd_input_chunks_init()
        bitmaps = (M.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if M.mtmd_tokenize(self.mtmd, chunks, ctypes.byref(text), bitmaps, 1):
            raise SystemExit("mtmd_tokenize failed")
        features, grid = None, None
        for i in range(M.mtmd_input_chunks_size(chunks)):
            c = M.mtmd_input_chunks_get(chunks, i)
            if M.mtmd_input_chunk_get_type(c) == M.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                t = M.mtmd_input_chunk_get_tokens_image(c)
                grid = (M.mtmd_image_tokens_get_nx(t), M.mtmd_image_tokens_get_ny(t))
                if M.mtmd_encode_chunk(self.mtmd, c):
                    raise SystemExit("mtmd_encode_chunk failed")
                n_tok = M.mtmd_input_chunk_get_n_tokens(c)
                features = np.array(np.ctypeslib.as_array(M.mtmd_get_output_embd(self.mtmd),
                                                          (n_tok, L.llama_model_n_embd_inp(self.model))))
        self.clear()
        past = L.llama_pos(0)
        if M.mtmd_helper_eval_chunks(self.mtmd, self.ctx, chunks, 0, 0, 2048, True, ctypes.byref(past)):
            raise SystemExit("mtmd_helper_eval_chunks failed")
        out = self.greedy(n)
        M.mtmd_input_chunks_free(chunks)
        M.mtmd_bitmap_free(bitmap)
        return (*out, features, grid)


def tied(logits, a, b, error):
    """Both choices are as good as equal, given how far the logits are apart."""
    return abs(float(logits[a] - logits[b])) <= 4 * error * float(np.linalg.norm(logits)) / len(logits) ** 0.5


class Report:
    def __init__(self):
        self.bad, self.n, self.rows = 0, 0, []

    def compare(self, name, ours, our_ids, theirs, their_ids, limit):
        """Returns the relative distance of the logits."""
        self.n += 1
        d, notes = rel(ours, theirs), []
        if not d <= limit:
            notes.append(f"logits differ by {d:.3g}, limit {limit:g}")
        a, b = int(ours.argmax()), int(theirs.argmax())
        if a != b and not tied(theirs, a, b, d):
            notes.append(f"top-1 {a} and {b}")
        n = next((i for i, (x, y) in enumerate(zip(our_ids, their_ids)) if x != y), min(len(our_ids), len(their_ids)))
        equal = n == len(our_ids) == len(their_ids)
        if notes:
            self.bad += 1
            print(f"FAIL {name}: {'; '.join(notes)}")
        self.rows.append((d, a == b, equal))
        return d

    def close(self, label):
        d = [r[0] for r in self.rows]
        print(f"{label:28} {len(d):3} prompts  logits {np.median(d):.1e} (worst {max(d):.1e})  top-1 {sum(r[1] for r in self.rows)}"
              f"  same answer {sum(r[2] for r in self.rows)}", flush=True)
        self.rows = []


def rgb_of(path):
    from PIL import Image, ImageOps
    im = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return im.width, im.height, im.tobytes()


def check_text(report, qvl, llama, model, mmproj, label, limit, n):
    for text in TEXTS:
        trace, prompt = qvl.trace(model, mmproj, text, n)
        ids = llama.tokenize(prompt)
        if ids != list(trace["input_ids"]):
            report.bad += 1
            print(f"FAIL {label}: {text!r}: token ids differ")
            continue
        llama.clear()
        llama.feed(ids)
        theirs, their_ids = llama.greedy(n)
        report.compare(f"{label} {text!r}", trace["logits"][-1], list(trace["generated_ids"]), theirs, their_ids, limit)
    report.close(label + " text")


def check_pictures(report, qvl, llama, model, mmproj, label, limit, examples, n):
    for file, text in PICTURES:
        path = os.path.join(examples, file)
        trace, prompt = qvl.trace(model, mmproj, [{"type": "image", "image": path}, {"type": "text", "text": text}], n)
        theirs, their_ids, features, grid = llama.picture(prompt, *rgb_of(path), n)
        ours = [trace["vision.output"]] + [trace[f"vision.deepstack.{k}"] for k in range(64) if f"vision.deepstack.{k}" in trace]
        t, h, w = trace["grid_thw"][0]
        if (w // 2, h // 2) != grid:
            print(f"note {label}: {file}: grid {w // 2}x{h // 2}, llama.cpp {grid[0]}x{grid[1]}: not compared")
            continue
        seen = rel(np.concatenate(ours, 1), features)
        d = report.compare(f"{label} {file}", trace["logits"][-1], list(trace["generated_ids"]), theirs, their_ids, limit)
        print(f"     {label}: {file}: {w // 2}x{h // 2} tokens, features {seen:.1e}, logits {d:.1e}")
    report.close(label + " pictures")


def check_resized(qvl, llama, model, mmproj, label, examples, folder, n):
    """Both programs resize, each in its own way: how far that takes them apart is told, not judged."""
    from PIL import Image
    for width, height in ((250, 190), (170, 201), (243, 243)):
        path = os.path.join(folder, f"cut-{width}x{height}.png")
        Image.open(os.path.join(examples, "two-shapes.png")).convert("RGB").resize((width, height), Image.NEAREST).save(path)
        text = "Describe this image."
        trace, prompt = qvl.trace(model, mmproj, [{"type": "image", "image": path}, {"type": "text", "text": text}], n)
        theirs, their_ids, features, grid = llama.picture(prompt, *rgb_of(path), n)
        ours = [trace["vision.output"]] + [trace[f"vision.deepstack.{k}"] for k in range(64) if f"vision.deepstack.{k}" in trace]
        _, h, w = trace["grid_thw"][0]
        same = (w // 2, h // 2) == grid
        print(f"     {label}: {width}x{height} resized: {w // 2}x{h // 2} tokens, llama.cpp {grid[0]}x{grid[1]}, features "
              f"{rel(np.concatenate(ours, 1), features) if same else float('nan'):.1e}, logits {rel(trace['logits'][-1], theirs):.1e}, "
              f"{'the same answer' if list(trace['generated_ids']) == their_ids else 'another answer'}")


def quantise(source, target, kind):
    p = L.llama_model_quantize_default_params()
    p.ftype, p.nthread, p.pure = getattr(L, "LLAMA_FTYPE_MOSTLY_" + kind), 2, False
    return L.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(p)) == 0


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    a = argparse.ArgumentParser()
    a.add_argument("--qvl", default=os.path.join(root, "build", "qvl"))
    a.add_argument("--model", default=os.path.join(root, "models", "tiny"))
    a.add_argument("--types", default="f32,f16,bf16,q8_0,q6_k,q5_1,q5_0,q4_k,q4_1,q4_0")
    a.add_argument("--quantise", default="")
    a.add_argument("--keep", default=None)
    a.add_argument("-n", type=int, default=24)
    o = a.parse_args()
    quiet = L.llama_log_callback(lambda level, text, ud: None)
    L.llama_log_set(quiet, None)
    M.mtmd_log_set(quiet, None)
    M.mtmd_helper_log_set(quiet, None)
    L.llama_backend_init()
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        folder, qvl = o.keep or scratch, Qvl(o.qvl, scratch)
        os.makedirs(folder, exist_ok=True)
        name = os.path.basename(os.path.normpath(o.model))
        examples = os.path.join(root, "models", "tiny", "examples")
        jobs = []
        for t in filter(None, o.types.split(",")):
            vision = "f32" if t == "f32" else "bf16" if t == "bf16" else "f16"
            qvl.run("export", o.model, "--gguf", "--type", t, "--mmproj-type", vision, "--force", "-o", folder)
            jobs.append((t.upper(), os.path.join(folder, f"{name}-{t.upper()}.gguf"),
                         os.path.join(folder, f"mmproj-{name}-{vision.upper()}.gguf")))
        if o.quantise:
            qvl.run("export", o.model, "--gguf", "--type", "f32", "--mmproj-type", "f32", "--force", "-o", folder)
            source = os.path.join(folder, f"{name}-F32.gguf")
            for kind in o.quantise.split(","):
                target = os.path.join(folder, f"llama-{kind}.gguf")
                if not quantise(source, target, kind):
                    print(f"note {kind}: llama.cpp does not quantise this model to it")
                    continue
                jobs.append(("llama.cpp " + kind, target, os.path.join(folder, f"mmproj-{name}-F32.gguf")))
        for label, model, mmproj in jobs:
            llama = Llama(model, mmproj)
            limit = LIMITS.get(label, LIMIT)
            check_text(report, qvl, llama, model, mmproj, label, limit, o.n)
            check_pictures(report, qvl, llama, model, mmproj, label, max(limit, 2e-2), examples, o.n)
            if label == "F32":
                check_resized(qvl, llama, model, mmproj, label, examples, scratch, o.n)
            llama.close()
    print(f"{report.n} comparisons, {report.bad} failed")
    return 1 if report.bad or not report.n else 0


if __name__ == "__main__":
    sys.exit(main())
