#!/usr/bin/env python3
"""Write tests/fuzz/corpus/fuzz_onnx/: small decoders that must be accepted (good-...) and files that must be refused (bad-...).

The configuration they are for stands in tests/fuzz/fuzz_onnx.c. External data is the file itself, so its offsets point
into the model.
"""
import copy
import os
import shutil

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
OUT = os.path.join(ROOT, "tests", "fuzz", "corpus", "fuzz_onnx")
V, H, HEADS, KV, HD, FF = 8, 32, 2, 1, 16, 48
EPS = 1e-6
rng = np.random.default_rng(3)


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, data):
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


class Model:
    """A graph being put together."""

    def __init__(self):
        self.nodes, self.tensors = [], []

    def tensor(self, name, array):
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def matmul(self, path, n, k, bits=4, block=32, zeros=False, **attrs):
        stem, blocks = path.strip("/").replace("/", ".") + ".MatMul.weight", -(-k // block)
        names = ["x", self.tensor(stem + f"_Q{bits}", rng.integers(0, 256, (n, blocks, block * bits // 8), dtype=np.uint8)),
                 self.tensor(stem + "_scales", rng.standard_normal((n, blocks)).astype(np.float32))]
        if zeros:
            names.append(self.tensor(stem + "_zero_points", rng.integers(0, 256, (n, -(-blocks * bits // 8)), dtype=np.uint8)))
        self.nodes.append(helper.make_node("MatMulNBits", names, [path + "/out"], name=f"{path}/MatMul_Q{bits}",
                                           domain="com.microsoft", K=k, N=n, bits=bits, block_size=block, **attrs))

    def float_matmul(self, path, n, k):
        name = self.tensor(path.strip("/").replace("/", ".") + ".MatMul.weight", rng.standard_normal((k, n)).astype(np.float16))
        self.nodes.append(helper.make_node("MatMul", ["x", name], [path + "/out"], name=path + "/MatMul"))

    def norm(self, path, n, skip=False, eps=EPS):
        name = self.tensor(path.strip("/").replace("/", ".") + ".weight", np.ones(n, np.float32))
        op, inputs = ("SkipSimplifiedLayerNormalization", ["x", "y", name]) if skip else ("SimplifiedLayerNormalization", ["x", name])
        self.nodes.append(helper.make_node(op, inputs, [path + "/out"], name=path + "/LayerNorm", epsilon=eps,
                                           **({"domain": "com.microsoft"} if skip else {})))

    def embed(self):
        name = self.tensor("model.embed_tokens.weight", rng.standard_normal((V, H)).astype(np.float32))
        self.nodes.append(helper.make_node("Gather", [name, "input_ids"], ["e"], name="/model/embed_tokens/Gather"))

    def quantised_embed(self):
        names = [self.tensor("model.embed_tokens.weight_Q4", rng.integers(0, 256, (V, H // 2), dtype=np.uint8)), "input_ids",
                 self.tensor("model.embed_tokens.weight_scales", rng.standard_normal((V, 2)).astype(np.float32))]
        self.nodes.append(helper.make_node("GatherBlockQuantized", names, ["e"], name="/model/embed_tokens/Gather_Q4",
                                           domain="com.microsoft", block_size=16, bits=4, gather_axis=0, quantize_axis=1))

    def proto(self):
        graph = helper.make_graph(self.nodes, "g", [helper.make_tensor_value_info("input_ids", T.INT64, None)],
                                  [helper.make_tensor_value_info("logits", T.FLOAT, None)], self.tensors)
        return helper.make_model(graph, ir_version=10, producer_name="qvl",
                                 opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)])


def piece(zeros=False, fused=False, layers=1):
    """As much of a decoder as the refusals are about: with nothing changed it is accepted."""
    m = Model()
    m.embed()
    for i in range(layers):
        p = f"/model/layers.{i}"
        m.norm(p + "/input_layernorm", H)
        if fused:
            m.matmul(p + "/attn/qkv_proj", (HEADS + 2 * KV) * HD, H)
            continue
        m.matmul(p + "/attn/q_proj", HEADS * HD, H, zeros=zeros)
        m.matmul(p + "/attn/k_proj", KV * HD, H)
        m.matmul(p + "/attn/o_proj", H, HEADS * HD)
        m.nodes.append(helper.make_node("GroupQueryAttention", ["q", "k", "v"], [p + "/a"], name=p + "/attn/GroupQueryAttention",
                                        domain="com.microsoft", num_heads=HEADS, kv_num_heads=KV))
    return m.proto()


def decoder(embed="embed", fused=False, linear=False, layers=1, **how):
    """A whole decoder. how: arguments of Model.matmul."""
    m = Model()
    if embed:
        getattr(m, embed)()
    for i in range(layers):
        p = f"/model/layers.{i}"
        m.norm(p + "/input_layernorm", H)
        if fused:
            m.matmul(p + "/attn/qkv_proj", (HEADS + 2 * KV) * HD, H, **how)
        else:
            m.matmul(p + "/attn/q_proj", HEADS * HD, H, **how)
            m.matmul(p + "/attn/k_proj", KV * HD, H, **how)
            m.matmul(p + "/attn/v_proj", KV * HD, H, **how)
        m.norm(p + "/attn/q_norm/layernorm", HD)
        m.norm(p + "/attn/k_norm/layernorm", HD)
        m.nodes.append(helper.make_node("GroupQueryAttention", ["q", "k", "v"], [p + "/a"], name=p + "/attn/GroupQueryAttention",
                                        domain="com.microsoft", num_heads=HEADS, kv_num_heads=KV))
        m.matmul(p + "/attn/o_proj", H, HEADS * HD, **how)
        m.norm(p + "/post_attention_layernorm", H, skip=True)
        if fused:
            m.matmul(p + "/mlp/gate_up_proj", 2 * FF, H, **how)
        else:
            m.matmul(p + "/mlp/gate_proj", FF, H, **how)
            m.matmul(p + "/mlp/up_proj", FF, H, **how)
        if linear:
            m.float_matmul(p + "/mlp/down_proj", H, FF)
        else:
            m.matmul(p + "/mlp/down_proj", H, FF, **how)
    m.norm(f"/model/layers.{layers}/final_norm_layernorm", H, skip=True)
    m.matmul("/lm_head", V, H, **how)
    return m.proto()


def find(proto, part):
    return next(t for t in proto.graph.initializer if part in t.name)


def node(proto, part):
    return next(n for n in proto.graph.node if part in n.name)


def set_attr(n, name, value):
    for a in n.attribute:
        if a.name == name:
            a.i = value
            return
    n.attribute.append(helper.make_attribute(name, value))


def external(t, location="data", offset=None, length=None):
    del t.external_data[:]
    t.ClearField("raw_data")
    t.data_location = 1
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            t.external_data.add(key=key, value=value)


def changed(change, **how):
    p = piece(**how)
    change(p)
    return p.SerializeToString()


def bad():
    """{name: bytes}"""
    whole = piece().SerializeToString()
    q = "layers.0.attn.q_proj.MatMul.weight"
    out = {
        "empty": b"", "text": b"version https://git-lfs.github.com/spec/v1\n", "no-graph": whole[:2],
        "varint-11": b"\x08" + b"\x80" * 10 + b"\x01", "varint-65-bits": b"\x08" + b"\xff" * 9 + b"\x02",
        "length-past-end": b"\x3a\x7f\x00", "length-huge": b"\x3a" + b"\xff" * 9 + b"\x01",
        "inner-length-past-outer": field(7, b"\x0a\x20abc"), "group": b"\x3b\x3c", "wire-7": b"\x3f", "field-0": b"\x02\x00",
        "two-graphs": whole + whole, "cut": whole[:len(whole) // 2], "wrong-wire": b"\x38\x01",
        "name-nul": changed(lambda p: setattr(node(p, "q_proj"), "name", "a\0b")),
        "name-long": changed(lambda p: setattr(node(p, "q_proj"), "name", "n" * 5000)),
        "tensor-twice": changed(lambda p: p.graph.initializer.append(copy.deepcopy(find(p, q)))),
        "tensor-nameless": changed(lambda p: setattr(find(p, q), "name", "")),
        "output-twice": changed(lambda p: p.graph.node.append(copy.deepcopy(node(p, "input_layernorm")))),
        "sparse": changed(lambda p: p.graph.sparse_initializer.add()),
        "negative-dim": changed(lambda p: find(p, q).dims.__setitem__(0, -1)),
        "dims-overflow": changed(lambda p: find(p, q).dims.extend([2 ** 40, 2 ** 40])),
        "dims-9": changed(lambda p: find(p, q).dims.extend([1] * 7)),
        "bytes-off-by-one": changed(lambda p: setattr(find(p, q), "raw_data", find(p, q).raw_data[:-1])),
        "raw-and-typed": changed(lambda p: find(p, q).int32_data.append(1)),
        "inline-and-external": changed(lambda p: setattr(find(p, q), "data_location", 1) or find(p, q).external_data.add(
            key="location", value="data")),
        "data-location-2": field(7, field(5, field(8, b"t") + b"\x70\x02")),
        "external-unnamed": changed(lambda p: external(find(p, q), None)),
        "external-past-end": changed(lambda p: external(find(p, q), offset="100000", length="512")),
        "external-offset-past-end-by-1": changed(lambda p: external(find(p, q), offset=str(len(whole) * 2), length="512")),
        "external-wrong-length": changed(lambda p: external(find(p, q), offset="0", length="511")),
        "external-overlap": changed(lambda p: external(find(p, q), offset="0", length="512") or external(
            find(p, "o_proj.MatMul.weight_Q4"), offset="8", length="512")),
        "weight-shape": changed(lambda p: (find(p, q).dims.__setitem__(0, 31), setattr(find(p, q), "raw_data", bytes(31 * 16)))),
        "zero-points-short": changed(lambda p: (find(p, q + "_zero").dims.__setitem__(0, 31),
                                                setattr(find(p, q + "_zero"), "raw_data", bytes(31))), zeros=True),
        "bits-3": changed(lambda p: set_attr(node(p, "q_proj"), "bits", 3)),
        "block-24": changed(lambda p: set_attr(node(p, "q_proj"), "block_size", 24)),
        "block-0": changed(lambda p: set_attr(node(p, "q_proj"), "block_size", 0)),
        "n-huge": changed(lambda p: set_attr(node(p, "q_proj"), "N", 2 ** 62)),
        "k-negative": changed(lambda p: set_attr(node(p, "q_proj"), "K", -32)),
        "prepacked": changed(lambda p: set_attr(node(p, "q_proj"), "weight_prepacked", 1)),
        "bias": changed(lambda p: node(p, "q_proj").input.extend(["", "", "model.layers.0.input_layernorm.weight"])),
        "role-twice": changed(lambda p: (setattr(find(p, "k_proj.MatMul.weight_Q4"), "name", "model.layers.0.attn.q_proj.again"),
                                         node(p, "k_proj").input.__setitem__(1, "model.layers.0.attn.q_proj.again"))),
        "layer-1-of-1": piece(layers=2).SerializeToString(),
        "epsilon": changed(lambda p: [setattr(a, "f", 1e-5) for a in node(p, "input_layernorm").attribute if a.name == "epsilon"]),
        "heads": changed(lambda p: set_attr(node(p, "GroupQueryAttention"), "num_heads", 4)),
        "other-operator": changed(lambda p: setattr(node(p, "q_proj"), "op_type", "MatMulBnb4")),
        "embedding-shape": changed(lambda p: (find(p, "embed_tokens").dims.__setitem__(0, 4),
                                              setattr(find(p, "embed_tokens"), "raw_data", bytes(4 * H * 4)))),
        "fused-rows": changed(lambda p: (set_attr(node(p, "qkv_proj"), "N", 48), [
            (find(p, x).dims.__setitem__(0, 48), setattr(find(p, x), "raw_data", bytes(48 * 16 if "Q4" in x else 48 * 4)))
            for x in ("qkv_proj.MatMul.weight_Q4", "qkv_proj.MatMul.weight_scales")]), fused=True),
    }
    for name, text in (("minus", "-1"), ("space", " 12"), ("hex", "0x10"), ("2-64", str(2 ** 64)), ("2-63", str(2 ** 63)), ("none", "")):
        out["external-offset-" + name] = changed(lambda p, text=text: external(find(p, q), offset=text, length="512"))
    for name, text in (("up", "../x"), ("root", "/etc/passwd"), ("empty", ""), ("folder", "a/b"), ("drive", "C:x"), ("dots", ".."),
                       ("backslash", "a\\b"), ("nul", "a\0b"), ("control", "a\nb")):
        out["external-location-" + name] = changed(lambda p, text=text: external(find(p, q), text, "0", "512"))
    return out


def typed():
    """The decoder with every tensor in typed arrays."""
    p = decoder()
    for i, t in enumerate(list(p.graph.initializer)):
        a = numpy_helper.to_array(t)
        p.graph.initializer[i].CopyFrom(helper.make_tensor(t.name, t.data_type, t.dims, a.reshape(-1)))
    return p.SerializeToString()


def good():
    out = {
        "piece": piece().SerializeToString(), "piece-zeros": piece(zeros=True).SerializeToString(),
        "piece-fused": piece(fused=True).SerializeToString(),
        "plain": decoder().SerializeToString(),
        "zeros": decoder(zeros=True, block=16).SerializeToString(),
        "eight": decoder(bits=8, zeros=True).SerializeToString(),
        "fused": decoder(fused=True).SerializeToString(),
        "table": decoder(embed="quantised_embed", linear=True).SerializeToString(),
        "no-embedding": decoder(embed=None).SerializeToString(),
        "typed": typed(),
        "external": changed(lambda p: external(find(p, "q_proj.MatMul.weight_Q4"), offset="100", length="512")),
        "external-shared": changed(lambda p: [external(find(p, x + ".MatMul.weight_Q4"), offset="64", length="512")
                                              for x in ("q_proj", "o_proj")]),
        "external-open-end": changed(lambda p: external(find(p, "q_proj.MatMul.weight_Q4"))),
    }
    p = decoder()
    p.graph.node.append(helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", T.INT64, [2], [1, -1])))
    p.graph.node[-1].doc_string = "x"
    out["constant"] = p.SerializeToString() + field(14, field(1, b"key") + field(2, b"value")) + b"\xa1\x06" + bytes(8)
    return out


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    for kind, files in (("good", good()), ("bad", bad())):
        for name, data in files.items():
            with open(os.path.join(OUT, f"{kind}-{name}"), "wb") as f:
                f.write(data)
    print(len(os.listdir(OUT)), "files,", sum(os.path.getsize(os.path.join(OUT, f)) for f in os.listdir(OUT)), "bytes; onnx",
          onnx.__version__)


if __name__ == "__main__":
    main()
