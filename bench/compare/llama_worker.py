"""llama.cpp, by the ctypes binding of llama-cpp-python, as a process that measures when told to.

Each line on standard input is a JSON command, each line on standard output its answer: milliseconds, one for each repetition.
Contexts stay open between commands, so that rounds of both engines can alternate.
"""
import argparse
import ctypes
import json
import os
import sys
import time

os.environ.setdefault("GGML_LOG_LEVEL", "error")
import llama_cpp as L  # noqa: E402
import llama_cpp.mtmd_cpp as M  # noqa: E402
import numpy as np  # noqa: E402

CHUNK = 512
FLASH = {"off": L.LLAMA_FLASH_ATTN_TYPE_DISABLED, "on": L.LLAMA_FLASH_ATTN_TYPE_ENABLED}


@L.llama_log_callback
def silent(level, text, user):
    if level >= 4:
        sys.stderr.write(text.decode("utf-8", "replace"))


class Worker:
    def __init__(self, args):
        L.llama_log_set(silent, ctypes.c_void_p(0))
        M.mtmd_log_set(silent, ctypes.c_void_p(0))
        L.llama_backend_init()
        p = L.llama_model_default_params()
        p.n_gpu_layers = 0
        self.threads, self.path = args.threads, args.model
        self.model = L.llama_model_load_from_file(args.model.encode(), p)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {args.model}")
        self.vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))
        self.contexts = {}  # (n_ctx, flash) -> [context, positions filled]
        self.pictures = {}

    def context(self, n_ctx, flash):
        key = (n_ctx, flash)
        if key not in self.contexts:
            p = L.llama_context_default_params()
            p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = n_ctx, CHUNK, CHUNK, 1
            p.n_threads = p.n_threads_batch = self.threads
            p.flash_attn_type = FLASH[flash]
            p.no_perf = True
            ctx = L.llama_init_from_model(self.model, p)
            if not ctx:
                raise SystemExit("llama.cpp cannot open a context")
            self.contexts[key] = [ctx, 0]
        return self.contexts[key]

    def close(self, n_ctx, flash):
        c = self.contexts.pop((n_ctx, flash), None)
        if c:
            L.llama_free(c[0])

    def step(self, ctx, first, n):
        tokens = (L.llama_token * n)(*[(first + i) * 2654435761 % self.vocab for i in range(n)])
        start = time.perf_counter()
        if L.llama_decode(ctx, L.llama_batch_get_one(tokens, n)) != 0:
            raise SystemExit("llama_decode failed")
        L.llama_synchronize(ctx)
        return (time.perf_counter() - start) * 1e3

    def at(self, c, depth):
        """Brings a context to `depth` positions."""
        if c[1] > depth:
            L.llama_memory_seq_rm(L.llama_get_memory(c[0]), 0, depth, -1)
        while c[1] < depth:
            n = min(CHUNK, depth - c[1])
            self.step(c[0], c[1], n)
            c[1] += n
        c[1] = depth

    def decode(self, n_ctx, flash, depth, n):
        c, ms = self.context(n_ctx, flash), []
        self.at(c, depth)
        for _ in range(n):
            ms.append(self.step(c[0], c[1], 1))
            c[1] += 1
        self.at(c, depth)
        return ms

    def prefill(self, n_ctx, flash, depth, n):
        c, total = self.context(n_ctx, flash), 0.0
        self.at(c, depth)
        while c[1] < depth + n:
            m = min(CHUNK, depth + n - c[1])
            total += self.step(c[0], c[1], m)
            c[1] += m
        self.at(c, depth)
        return [total]

    def vision(self, mmproj, width, height):
        key = (mmproj, width, height)
        if mmproj not in self.pictures:
            p = M.mtmd_context_params_default()
            p.use_gpu, p.n_threads, p.warmup, p.print_timings = False, self.threads, False, False
            ctx = M.mtmd_init_from_file(mmproj.encode(), self.model, p)
            if not ctx:
                raise SystemExit(f"llama.cpp cannot load {mmproj}")
            self.pictures[mmproj] = ctx
        ctx = self.pictures[mmproj]
        if key not in self.pictures:
            data = np.random.default_rng(1).integers(0, 256, width * height * 3, dtype=np.uint8)
            bitmap = M.mtmd_bitmap_init(width, height, data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
            chunks = M.mtmd_input_chunks_init()
            prompt = M.mtmd_default_marker()
            text = M.mtmd_input_text(text=prompt, text_len=len(prompt), add_special=False, parse_special=True)
            bitmaps = (M.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if M.mtmd_tokenize(ctx, chunks, ctypes.byref(text), bitmaps, 1) != 0:
                raise SystemExit("mtmd_tokenize failed")
            parts = [M.mtmd_input_chunks_get(chunks, i) for i in range(M.mtmd_input_chunks_size(chunks))]
            image = [c for c in parts if M.mtmd_input_chunk_get_type(c) == M.MTMD_INPUT_CHUNK_TYPE_IMAGE]
            if len(image) != 1:
                raise SystemExit(f"{len(image)} image chunks")
            self.pictures[key] = image[0]
        start = time.perf_counter()
        if M.mtmd_encode_chunk(ctx, self.pictures[key]) != 0:
            raise SystemExit("mtmd_encode_chunk failed")
        ms = (time.perf_counter() - start) * 1e3
        return [ms, M.mtmd_input_chunk_get_n_tokens(self.pictures[key])]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")  # the library prints, too
    os.dup2(2, 1)
    w = Worker(args)
    print(json.dumps({"version": L.__version__ if hasattr(L, "__version__") else "", "system": L.llama_print_system_info().decode()}),
          file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        print(json.dumps(getattr(w, name)(**command)), file=answers, flush=True)


if __name__ == "__main__":
    main()
