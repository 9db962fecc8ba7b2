"""onnxruntime-genai as a process that measures when told to; the protocol of llama_worker.py."""
import argparse
import json
import os
import sys
import time

import onnxruntime_genai as og


class Worker:
    def __init__(self, args):
        self.model = og.Model(args.model)
        with open(os.path.join(args.model, "genai_config.json"), encoding="utf-8") as f:
            self.vocab = json.load(f)["model"]["vocab_size"]

    def generator(self, length, n):
        params = og.GeneratorParams(self.model)
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = og.Generator(self.model, params)
        start = time.perf_counter()
        generator.append_tokens([i * 2654435761 % self.vocab for i in range(n)])
        return generator, (time.perf_counter() - start) * 1e3

    def decode(self, depth, n):
        generator, _ = self.generator(depth + n + 1, depth)
        generator.generate_next_token()
        ms = []
        for _ in range(n):
            start = time.perf_counter()
            generator.generate_next_token()
            ms.append((time.perf_counter() - start) * 1e3)
        return ms

    def prefill(self, n):
        return [self.generator(n + 1, n)[1]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    args = parser.parse_args()
    w = Worker(args)
    print(json.dumps({"version": og.__version__}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(w, command.pop("do"))(**command)), flush=True)


if __name__ == "__main__":
    main()
