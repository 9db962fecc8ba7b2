#!/usr/bin/env python3
"""Write tests/fuzz/corpus/fuzz_gguf/: small GGUF files, good-... and bad-..., for the fuzz target and its replay."""
import os
import struct
import tempfile

import numpy as np
from gguf import GGUFEndian, GGMLQuantizationType as T, GGUFValueType as V, GGUFWriter, quantize

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
OUT = os.path.join(ROOT, "tests", "fuzz", "corpus", "fuzz_gguf")
TOKENS = ["a", "b", "ab", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>"]


def text_model(w, moe=False):
    a = "qwen3vlmoe" if moe else "qwen3vl"
    for name, value in {"block_count": 1, "context_length": 64, "embedding_length": 32, "feed_forward_length": 32,
                        "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 16,
                        "attention.value_length": 16, "n_deepstack_layers": 1, **(
                            {"expert_count": 2, "expert_used_count": 1, "expert_feed_forward_length": 32} if moe else {})}.items():
        w.add_key_value(f"{a}.{name}", value, V.UINT32)
    w.add_key_value(f"{a}.rope.freq_base", 1e4, V.FLOAT32)
    w.add_key_value(f"{a}.attention.layer_norm_rms_epsilon", 1e-6, V.FLOAT32)
    w.add_key_value(f"{a}.rope.dimension_sections", [4, 2, 2, 0], V.ARRAY, V.INT32)
    w.add_key_value("tokenizer.ggml.tokens", TOKENS, V.ARRAY, V.STRING)
    w.add_key_value("tokenizer.ggml.token_type", [1, 1, 1, 3, 3, 3, 3, 3], V.ARRAY, V.INT32)
    w.add_key_value("tokenizer.ggml.merges", ["a b"], V.ARRAY, V.STRING)
    w.add_key_value("tokenizer.ggml.eos_token_id", 7, V.UINT32)
    w.add_key_value("general.sampling.temp", 0.5, V.FLOAT32)
    w.add_tensor("token_embd.weight", quantize(np.ones((8, 32), np.float32), T.Q4_0), raw_dtype=T.Q4_0)
    w.add_tensor("blk.0.attn_norm.weight", np.ones(32, np.float32))
    if moe:
        w.add_tensor("blk.0.ffn_gate_inp.weight", np.ones((2, 32), np.float32))


def vision_model(w):
    w.add_key_value("clip.projector_type", "qwen3vl_merger", V.STRING)
    for name, value in {"block_count": 2, "embedding_length": 32, "feed_forward_length": 48, "attention.head_count": 2,
                        "patch_size": 16, "projection_dim": 64, "image_size": 64, "spatial_merge_size": 2}.items():
        w.add_key_value("clip.vision." + name, value, V.UINT32)
    w.add_key_value("clip.vision.is_deepstack_layers", [False, True], V.ARRAY, V.BOOL)
    w.add_key_value("clip.vision.image_mean", [0.5] * 3, V.ARRAY, V.FLOAT32)
    w.add_tensor("v.position_embd.weight", np.ones((16, 32), np.float32))


def types(w):
    rng = np.random.default_rng(1)
    for kind, row in ((T.Q2_K, 84), (T.Q3_K, 110), (T.Q4_K, 144), (T.Q5_K, 176), (T.Q6_K, 210), (T.IQ4_XS, 136), (T.IQ4_NL, 144),
                      (T.MXFP4, 136), (T.Q5_1, 192), (T.IQ3_S, 110)):
        w.add_tensor(kind.name, rng.integers(0, 256, (1, row), dtype=np.uint8), raw_dtype=kind)


def build(arch, fill, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.gguf")
        w = GGUFWriter(path, arch, **options)
        fill(w)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        with open(path, "rb") as f:
            return f.read()


def main():
    os.makedirs(OUT, exist_ok=True)
    text = build("qwen3vl", text_model)
    files = {
        "good-text": text, "good-moe": build("qwen3vlmoe", lambda w: text_model(w, True)), "good-vision": build("clip", vision_model),
        "good-types": build("qwen3vl", types), "good-empty": struct.pack("<4sIQQ", b"GGUF", 2, 0, 0),
        "good-aligned": build("clip", lambda w: (w.add_custom_alignment(256), vision_model(w))),
        "bad-empty": b"", "bad-magic": b"GGML" + text[4:], "bad-version": text[:4] + struct.pack("<I", 1) + text[8:],
        "bad-endian": build("qwen3vl", types, endianess=GGUFEndian.BIG),
        "bad-counts": text[:8] + struct.pack("<QQ", 1 << 63, 1 << 40) + text[24:],
        "bad-cut-keys": text[:100], "bad-cut-infos": text[:text.index(b"blk.0.attn_norm") + 10], "bad-cut-data": text[:-100],
        "bad-string": text.replace(struct.pack("<Q", 7) + b"qwen3vl", struct.pack("<Q", 1 << 62) + b"qwen3vl", 1),
        "bad-list": text.replace(struct.pack("<IQ", 8, 1) + struct.pack("<Q", 3) + b"a b", struct.pack("<IQ", 8, 1 << 29) +
                                 struct.pack("<Q", 3) + b"a b", 1),
        "bad-type": text.replace(b"attn_norm.weight" + struct.pack("<IQI", 1, 32, 0), b"attn_norm.weight" +
                                 struct.pack("<IQI", 1, 32, 38), 1),
        "bad-offset": text.replace(b"attn_norm.weight" + struct.pack("<IQIQ", 1, 32, 0, 160), b"attn_norm.weight" +
                                   struct.pack("<IQIQ", 1, 32, 0, 128), 1),
        "bad-shape": text.replace(b"attn_norm.weight" + struct.pack("<IQ", 1, 32), b"attn_norm.weight" +
                                  struct.pack("<IQ", 1, 1 << 62), 1),
    }
    for name, data in files.items():
        if name.startswith("bad-") and data == text:
            raise SystemExit(f"{name}: nothing was changed")
        with open(os.path.join(OUT, name + ".gguf"), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
