"""Writes the corpora of fuzz_safetensors, fuzz_index and fuzz_config: good seeds and files that must be rejected."""
import json
import os
import struct

top = os.path.join(os.path.dirname(__file__), "../..")
corpus = os.path.join(top, "tests/fuzz/corpus")


def put(target, name, data):
    os.makedirs(os.path.join(corpus, target), exist_ok=True)
    with open(os.path.join(corpus, target, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def st(header, n_data, n=None):
    h = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(h) if n is None else n) + h + bytes(range(n_data))


def entry(name, shape, b, e, dtype="F32"):
    return '"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}' % (name, dtype, json.dumps(shape), b, e)


A = entry("a", [1], 0, 4)
safetensors = {
    "good-empty": st("{}", 0),
    "good-padded": st("{%s}   " % A, 4),
    "good-meta": st('{"__metadata__":{"format":"pt","k\\u00e9\\ud83d\\ude00":"v"},%s}' % A, 4),
    "good-types": st("{%s,%s,%s,%s}" % (entry("d", [1], 0, 8, "F64"), entry("h", [2, 2], 8, 16, "BF16"),
                                        entry("z", [0, 3], 16, 16, "I8"), entry("q", [4], 16, 18, "F4")), 18),
    "good-unknown-type": st("{%s}" % entry("a", [3], 0, 5, "F9_NEW"), 5),
    "good-scalar-rank8": st("{%s,%s}" % (entry("s", [], 0, 1, "U8"), entry("r", [1] * 8, 1, 2, "BOOL")), 2),
    "bad-length-max": st("{}", 0, 2**64 - 1),
    "bad-length-file": st("{}", 0, 10),
    "bad-length-zero": st("{}", 0, 0),
    "bad-short": b"\x02\0\0",
    "bad-trailing": st("{}", 1),
    "bad-brackets": st('{"a":{"shape":' + "[" * 4000, 0),
    "bad-braces": st("{" * 4000, 0),
    "bad-wrap": st("{%s}" % entry("a", [4294967296, 4294967296], 0, 0), 0),
    "bad-reversed": st("{%s}" % entry("a", [1], 4, 0), 4),
    "bad-past-end": st("{%s}" % entry("a", [5], 0, 5, "U8"), 4),
    "bad-overlap": st("{%s,%s}" % (A, entry("b", [1], 0, 4)), 4),
    "bad-hole": st("{%s,%s}" % (A, entry("b", [1], 5, 9)), 9),
    "bad-duplicate": st("{%s,%s}" % (A, entry("a", [1], 4, 8)), 8),
    "bad-nul": st("{%s}" % entry("a\\u0000", [1], 0, 4), 4),
    "bad-meta-number": st('{"__metadata__":{"a":1}}', 0),
    "bad-bom": st(b"\xef\xbb\xbf{}", 0),
    "bad-overlong": st(b'{"\xc0\xaf":{}}', 0),
    "bad-surrogate": st('{"\\ud800":{}}', 0),
    "bad-exponent": st('{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}', 1),
    "bad-rank9": st("{%s}" % entry("a", [1] * 9, 0, 4), 4),
    "bad-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "bad-zip": b"PK\x03\x04" + bytes(40),
    "bad-html": b"<!DOCTYPE html><html></html>",
}
for name, data in safetensors.items():
    put("fuzz_safetensors", name, data)

index = {
    "good": '{"metadata":{"total_size":1},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"}}',
    "good-float-size": '{"metadata":{"total_size":1.5},"weight_map":{"a":"m.safetensors"}}',
    "bad-path": '{"weight_map":{"a":"../../etc/passwd"}}',
    "bad-absolute": '{"weight_map":{"a":"/etc/passwd"}}',
    "bad-backslash": '{"weight_map":{"a":"x\\\\y"}}',
    "bad-hidden": '{"weight_map":{"a":".x"}}',
    "bad-nul": '{"weight_map":{"a":"x\\u0000y"}}',
    "bad-nul-key": '{"weight_map":{"a\\u0000":"x"}}',
    "bad-number": '{"weight_map":{"a":1}}',
    "bad-empty": '{"weight_map":{}}',
    "bad-duplicate": '{"weight_map":{"a":"x","a":"y"}}',
    "bad-missing": "{}",
    "bad-deep": '{"weight_map":' + "[" * 3000,
}
for name, data in index.items():
    put("fuzz_index", name, data)

golden = os.path.join(top, "tests/golden/models")
tiny = os.path.join(top, "models/tiny")


def text(folder, name):
    with open(os.path.join(folder, name)) as f:
        return json.dumps(json.load(f), separators=(",", ":"))


files = ("config.json", "generation_config.json", "preprocessor_config.json")
for name, folder in (("tiny", tiny), ("moe", os.path.join(golden, "moe-mixed-f32")), ("untied", os.path.join(golden, "untied-f32"))):
    put("fuzz_config", "good-" + name, "\n---\n".join(text(folder, f) for f in files))
base = json.loads(text(tiny, "config.json"))


def config(name, change):
    c = json.loads(json.dumps(base))
    change(c, c["text_config"], c["vision_config"])
    put("fuzz_config", name, json.dumps(c, separators=(",", ":")))


config("good-yarn", lambda c, t, v: t["rope_scaling"].update(rope_type="yarn", factor=2.0, original_max_position_embeddings=4096))
config("good-parameters", lambda c, t, v: (t.pop("rope_theta"), t.update(rope_parameters=dict(t.pop("rope_scaling"), rope_theta=1e4))))
config("bad-theta", lambda c, t, v: t.pop("rope_theta"))
config("bad-layers", lambda c, t, v: t.update(num_hidden_layers=2**40))
config("bad-negative", lambda c, t, v: t.update(hidden_size=-1))
config("bad-heads", lambda c, t, v: t.update(num_key_value_heads=3))
config("bad-section", lambda c, t, v: t["rope_scaling"].update(mrope_section=[1, 2, 3]))
config("bad-taps", lambda c, t, v: v.update(deepstack_visual_indexes=[5, 6]))
config("bad-token", lambda c, t, v: c.update(image_token_id=2**31))
config("bad-architecture", lambda c, t, v: c.update(architectures=["GPT2LMHeadModel"]))
config("bad-types", lambda c, t, v: c.update(text_config=[], vision_config="x"))
put("fuzz_config", "bad-deep", '{"a":' * 3000)
put("fuzz_config", "bad-generation", text(tiny, "config.json") + '\n---\n{"eos_token_id":[1,2,"x"]}')
put("fuzz_config", "bad-preprocessor", text(tiny, "config.json") + '\n---\n{}\n---\n{"size":{"shortest_edge":9,"longest_edge":4}}')
