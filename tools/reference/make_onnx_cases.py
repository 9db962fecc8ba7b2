#!/usr/bin/env python3
"""Write tests/data/onnx/: text decoders exported by onnxruntime-genai's model builder, and goldens of transformers with the
same numbers; and small graphs of one operator with the rows that onnxruntime gives for them.

    python make_onnx_cases.py            everything (three minutes)
    python make_onnx_cases.py ops        only the operators
    python make_onnx_cases.py NAME...    only these exports

Needs onnx, onnxruntime and onnxruntime-genai beside the reference's packages. The weights of a golden's model are what
onnxruntime's own operators make of the exported tensors, so that nothing of qvl's reading is in the expectation.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import golden
from golden import write_safetensors
from make_goldens import COMMON, HEADS, LEAN, MIN_GAP, ROOT

OUT = os.path.join(ROOT, "tests", "data", "onnx")
MODELS = os.path.join(ROOT, "tests", "golden", "models")
FILES = ("genai_config.json", "model.onnx", "model.onnx.data")
ort.set_default_logger_severity(4)

# name: (model of tests/golden/models, precision, execution provider, options of the builder)
EXPORTS = {
    # The builder's default: one table for embedding and head, rows filled up to whole blocks.
    "shared": ("sharded-bf16", "int4", "cpu", "block_size=32 is_symmetric=true"),
    # Zero points everywhere, blocks longer than some rows, a quantised table beside a head of its own.
    "asym": ("untied-f32", "int4", "cpu", "block_size=128 is_symmetric=false op_types_to_quantize=MatMul/Gather"),
    # Gate and up in one matrix, other names, blocks of 16.
    "fused": ("untied-f32", "int4", "cpu", "block_size=16 algo_config=rtn fuse_qkv=true fuse_mlp_gate_up=true"),
    # Some matrices in 8 bits.
    "mixed": ("untied-f32", "int4", "cpu",
              "block_size=32 is_symmetric=false matmul_mixed_precision=last_matmul:int8,mixed_layers:int8"),
    # Scales and norms in f16; no embedding in the file.
    "f16": ("taps-f16", "int4", "cuda", "block_size=32 is_symmetric=true exclude_embeds=true"),
    # DequantizeLinear in front of MatMul.
    "qdq": ("untied-f32", "int4", "cpu", "block_size=32 use_qdq=true is_symmetric=false"),
    # Nothing quantised: matrices stored transposed, the embedding a transposed head.
    "float": ("taps-f16", "fp16", "cuda", "shared_embeddings=true"),
    # Asymmetric and tied: the builder's look-up in the float head, which onnxruntime itself refuses.
    "slip": ("sharded-bf16", "int4", "cpu", "block_size=32 is_symmetric=false"),
}
CASES = {
    "text": (COMMON["text"][0], dict(max_new_tokens=16, tensors=HEADS + ",text.layer.*")),
    "one": (COMMON["one"][0], dict(max_new_tokens=16, tensors=LEAN)),
    "two": (COMMON["two"][0], dict(max_new_tokens=8, tensors=HEADS)),
}


def evaluate(nodes, tensors, feeds, outputs):
    """Run a graph of these nodes in onnxruntime; outputs are {name: element type}."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()],
        [helper.make_tensor_value_info(k, t, None) for k, t in outputs.items()], tensors)
    model = helper.make_model(graph, ir_version=10,
                              opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)])
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


# ---------------------------------------------------------------- exports

def export(name):
    """The builder's files for one entry, in tests/data/onnx/NAME/."""
    base, precision, provider, options = EXPORTS[name]
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with tempfile.TemporaryDirectory() as tmp:
        source, built = os.path.join(tmp, "hf"), os.path.join(tmp, "onnx")
        shutil.copytree(os.path.join(MODELS, base), source)
        path = os.path.join(source, "config.json")
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        config["text_config"]["max_position_embeddings"] = 8  # rows of the rotation tables in the file
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        subprocess.run([sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", built, "-p", precision,
                        "-e", provider, "-c", os.path.join(tmp, "cache"), "--extra_options", *options.split()],
                       check=True, env=dict(os.environ, HF_HUB_OFFLINE="1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       cwd=tmp)
        for file in FILES:
            shutil.copyfile(os.path.join(built, file), os.path.join(folder, file))
    return os.path.join(MODELS, base), folder


class Graph:
    """Weights of an exported graph by the path of the node that uses them."""

    def __init__(self, folder):
        self.graph = onnx.load(os.path.join(folder, "model.onnx")).graph
        self.tensors = {t.name: t for t in self.graph.initializer}
        self.made_by = {o: n for n in self.graph.node for o in n.output}

    def as_float(self, name):
        return numpy_helper.to_array(self.tensors[name]).astype(np.float32)

    def inputs_as_float(self, names):
        """Tensors for a graph in f32: numbers widened, codes as they are."""
        out = []
        for name in names:
            t = self.tensors[name]
            wide = t.data_type in (T.FLOAT16, T.BFLOAT16)
            out.append(numpy_helper.from_array(self.as_float(name), name) if wide else t)
        return out

    def matrix(self, node):
        """[N][K] of a MatMul of any kind."""
        if node.op_type == "MatMulNBits":
            attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute} | {"accuracy_level": 0}
            copy = helper.make_node("MatMulNBits", ["A", *node.input[1:]], ["Y"], domain="com.microsoft", **attrs)
            tensors = self.inputs_as_float([i for i in node.input[1:] if i])
            return evaluate([copy], tensors, {"A": np.eye(attrs["K"], dtype=np.float32)}, {"Y": T.FLOAT})[0].T
        if node.input[1] in self.tensors:
            return self.as_float(node.input[1]).T
        linear = self.made_by[node.input[1]]
        return evaluate([linear], self.inputs_as_float(linear.input), {}, {linear.output[0]: T.FLOAT})[0].T

    def table(self, vocab, hidden):
        """[vocab][hidden] of the embedding; None when the graph has none."""
        for node in self.graph.node:
            if node.op_type not in ("Gather", "GatherBlockQuantized") or "embed_tokens" not in node.name:
                continue
            if node.input[0] in self.tensors and node.op_type == "Gather":
                return self.as_float(node.input[0])
            made = self.made_by.get(node.input[0])
            if made is not None and self.tensors[made.input[0]].data_type in (T.FLOAT, T.FLOAT16):
                return self.as_float(made.input[0]).T
            names = [i for k, i in enumerate(node.input) if i and k != 1]
            tensors = self.inputs_as_float(names[1:])
            if made is not None:
                codes = numpy_helper.to_array(self.tensors[made.input[0]]).reshape(vocab, -1)
                tensors.append(numpy_helper.from_array(codes, node.input[0]))
            else:
                tensors.append(self.tensors[node.input[0]])
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[1], copy.output[0] = "ids", "Y"
            return evaluate([copy], tensors, {"ids": np.arange(vocab, dtype=np.int64)}, {"Y": T.FLOAT})[0][:, :hidden]
        return None

    def state(self, config):
        """The state dict of transformers' model, without its vision half."""
        t, state = config.text_config, {}
        prefix = "model.language_model."
        for node in self.graph.node:
            path = node.name.strip("/").split("/")
            if "MatMul" in node.op_type and (node.op_type == "MatMulNBits" or path[-1].startswith("MatMul")):
                w = self.matrix(node)
                if path[0] == "lm_head":
                    state["lm_head.weight"] = w
                    continue
                layer, part, which = path[1].split(".")[1], path[2], path[3]
                stem = f"{prefix}layers.{layer}.{'self_attn' if part == 'attn' else part}."
                if which == "gate_up_proj":
                    state[stem + "gate_proj.weight"], state[stem + "up_proj.weight"] = np.split(w, 2)
                elif which == "qkv_proj":
                    q, kv = t.num_attention_heads * t.head_dim, t.num_key_value_heads * t.head_dim
                    for k, part_w in zip("qkv", np.split(w, [q, q + kv])):
                        state[f"{stem}{k}_proj.weight"] = part_w
                else:
                    state[f"{stem}{which}.weight"] = w
            elif "LayerNorm" in node.op_type:
                at = 2 if node.op_type.startswith("Skip") else 1
                layer, which = path[1].split(".")[1], path[3] if path[2] == "attn" else path[2]
                stem = f"{prefix}layers.{layer}." + ("self_attn." if path[2] == "attn" else "")
                name = prefix + "norm.weight" if which == "final_norm_layernorm" else f"{stem}{which}.weight"
                state[name] = self.as_float(node.input[at])
        table = self.table(t.vocab_size, t.hidden_size)
        if table is not None:
            state[prefix + "embed_tokens.weight"] = table
        return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}


def make_export(name):
    base, folder = export(name)
    model, processor = golden.load(base, torch.float32)
    state = Graph(folder).state(model.config)
    if "lm_head.weight" in state:  # an embedding and a head of different numbers: untie them
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    missing, unexpected = model.load_state_dict(state, strict=False)
    text = [m for m in missing if "visual" not in m and not (EXPORTS[name][3].find("exclude_embeds") >= 0 and "embed" in m)]
    if text or unexpected:
        raise SystemExit(f"{name}: missing {text}, unexpected {unexpected}")
    ties = []
    for case, (messages, options) in CASES.items():
        path = os.path.join(folder, case + ".safetensors")
        argv = [base, path, "--messages", "unused"]
        for option, value in options.items():
            argv += ["--" + option.replace("_", "-"), str(value)]
        args = golden.parser().parse_args(argv)
        tensors, ids, gap = golden.run(model, processor, messages, MODELS, args)  # pictures are named as seen from there
        golden.write(path, tensors, messages, MODELS, args)
        print(f"{name + '/' + case:16} {os.path.getsize(path):7} bytes  T={tensors['input_ids'].shape[0]:3} new={len(ids)} "
              f"gap={gap:.4f} of the model files {sum(os.path.getsize(os.path.join(folder, f)) for f in FILES)}", flush=True)
        if not gap > MIN_GAP:
            ties.append(f"{name}/{case}")
    return ties


# ---------------------------------------------------------------- operators

def packed(codes, bits):
    """Codes of a flat array as bytes, low half first."""
    codes = codes.astype(np.int64) & (2 ** bits - 1)
    if bits == 8:
        return codes.astype(np.uint8)
    flat = np.append(codes, [0]) if codes.size % 2 else codes
    return (flat[0::2] | flat[1::2] << 4).astype(np.uint8)


def raw_tensor(name, kind, dims, data):
    t = onnx.TensorProto()
    t.name, t.data_type, t.raw_data = name, kind, data.tobytes()
    t.dims.extend(dims)
    return t


def save(name, node, tensors, feed):
    """A graph of one node with the given tensors; feed is the input that is not among them."""
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(feed, T.FLOAT, None)] if feed else [],
                              [helper.make_tensor_value_info("Y", T.FLOAT, None)], tensors)
    model = helper.make_model(graph, ir_version=10,
                              opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)])
    with open(os.path.join(OUT, "ops", name + ".onnx"), "wb") as f:
        f.write(model.SerializeToString(deterministic=True))


def matmul_case(rng, name, bits, block, n, k, zeros=None, half=False, groups=False, rank2=False, typed=False):
    blocks = -(-k // block)
    b = rng.integers(0, 256, (n, blocks, block * bits // 8), dtype=np.uint8)
    scales = (rng.standard_normal((n, blocks)) * 0.1).astype(np.float16 if half else np.float32)
    tensors = [numpy_helper.from_array(b, "lm_head.MatMul.weight_Q4"), numpy_helper.from_array(scales, "scales")]
    names = ["A", "lm_head.MatMul.weight_Q4", "scales"]
    z = None
    if zeros == "packed":
        z = rng.integers(0, 256, (n, -(-blocks * bits // 8)), dtype=np.uint8)
    elif zeros == "float":
        z = (rng.standard_normal((n, blocks)) * 3 + 8).astype(scales.dtype)
    if z is not None:
        tensors.append(numpy_helper.from_array(z, "zeros"))
        names.append("zeros")
    order = rng.integers(0, blocks, k).astype(np.int32)
    if groups:
        tensors.append(numpy_helper.from_array(order, "g_idx"))
        names += [""] * (4 - len(names)) + ["g_idx"]
    attrs = dict(K=k, N=n, bits=bits, block_size=block, accuracy_level=0)
    node = helper.make_node("MatMulNBits", names, ["Y"], name="/lm_head/MatMul_Q4", domain="com.microsoft", **attrs)
    if groups and z is not None:  # onnxruntime leaves zero points out when there is an order; the operator's text does not
        codes = b.reshape(n, -1) if bits == 8 else np.stack([b & 15, b >> 4], -1).reshape(n, -1)
        zc = z if bits == 8 else np.stack([z & 15, z >> 4], -1).reshape(n, -1)[:, :blocks]
        s, zz = scales[:, order].astype(np.float32), zc[:, order].astype(np.float32)
        rows = codes[:, :k].astype(np.float32) * s - zz * s
    else:
        eye = np.eye(k, dtype=scales.dtype)
        rows = evaluate([node], tensors, {"A": eye}, {"Y": T.FLOAT16 if half else T.FLOAT})[0].T
    if rank2:  # shapes of older files, which this onnxruntime no longer takes: bytes in rows, the others in one dimension
        flat = [numpy_helper.to_array(t) for t in tensors]
        tensors = [numpy_helper.from_array(a.reshape((n, -1) if i == 0 else -1), t.name) for i, (a, t) in enumerate(zip(flat, tensors))]
    if typed:  # the same numbers in typed arrays of the protobuf
        tensors = [helper.make_tensor(t.name, t.data_type, t.dims, numpy_helper.to_array(t).reshape(-1)) for t in tensors]
    save(name, node, tensors, "A")
    return np.ascontiguousarray(rows)


def gather_case(rng, name, kind, bits, block, v, h, zeros):
    blocks = -(-h // block)
    signed = kind == T.INT4
    low, high = (-8, 8) if signed else (0, 2 ** bits)
    codes = rng.integers(low, high, v * h)
    scales = (rng.standard_normal((v, blocks)) * 0.1).astype(np.float32)
    table = "model.embed_tokens.weight_Q4"
    if kind == T.UINT8:
        tensors = [numpy_helper.from_array(packed(codes, bits).reshape(v, -1), table)]
        per_row = -(-blocks * bits // 8) * 8 // bits
    else:
        tensors = [raw_tensor(table, kind, [v, h], packed(codes, 4))]
        per_row = blocks
    tensors.append(numpy_helper.from_array(scales, "scales"))
    names = [table, "ids", "scales"]
    if zeros:
        z = packed(rng.integers(low, high, v * per_row), bits)
        tensors.append(numpy_helper.from_array(z.reshape(v, -1), "zeros") if kind == T.UINT8 else raw_tensor("zeros", kind, [v, blocks], z))
        names.append("zeros")
    attrs = dict(gather_axis=0, quantize_axis=1, block_size=block, **({"bits": bits} if kind == T.UINT8 else {}))
    node = helper.make_node("GatherBlockQuantized", names, ["Y"], name="/model/embed_tokens/Gather_Q4", domain="com.microsoft", **attrs)
    rows = evaluate([node], tensors, {"ids": np.arange(v, dtype=np.int64)}, {"Y": T.FLOAT})[0]
    save(name, node, tensors, None)
    return np.ascontiguousarray(rows)


def linear_case(rng, name, kind, block, n, k, zeros):
    """DequantizeLinear -> MatMul; codes [k][n]."""
    bits, signed = (8 if kind in (T.INT8, T.UINT8) else 4), kind in (T.INT4, T.INT8)
    low, high = (-2 ** (bits - 1), 2 ** (bits - 1)) if signed else (0, 2 ** bits)
    blocks = -(-k // block)
    stem = "lm_head.MatMul.weight_DQ_Q4"
    tensors = [raw_tensor(stem, kind, [k, n], packed(rng.integers(low, high, k * n), bits)),
               numpy_helper.from_array((rng.standard_normal((blocks, n)) * 0.1).astype(np.float32), "scales")]
    names = [stem, "scales"]
    if zeros:
        tensors.append(raw_tensor("zeros", kind, [blocks, n], packed(rng.integers(low, high, blocks * n), bits)))
        names.append("zeros")
    linear = helper.make_node("DequantizeLinear", names, ["W"], name="/lm_head/MatMul_DQ_Q4", axis=0, block_size=block)
    rows = evaluate([linear], tensors, {}, {"W": T.FLOAT})[0].T
    product = helper.make_node("MatMul", ["A", "W"], ["Y"], name="/lm_head/MatMul_matmul_Q4")
    graph = helper.make_graph([linear, product], "g", [helper.make_tensor_value_info("A", T.FLOAT, None)],
                              [helper.make_tensor_value_info("Y", T.FLOAT, None)], tensors)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])
    with open(os.path.join(OUT, "ops", name + ".onnx"), "wb") as f:
        f.write(model.SerializeToString(deterministic=True))
    return np.ascontiguousarray(rows)


def make_ops():
    rng = np.random.default_rng(7)
    shutil.rmtree(os.path.join(OUT, "ops"), ignore_errors=True)
    os.makedirs(os.path.join(OUT, "ops"))
    want = {}

    def put(name, maker, *args, **kw):
        want[name] = torch.from_numpy(maker(rng, name, *args, **kw))

    for block in (16, 32, 64, 128, 256):
        put(f"sym4-{block}", matmul_case, 4, block, 5, 300 if block < 256 else 520)
        put(f"zero4-{block}", matmul_case, 4, block, 5, 310, zeros="packed")
    put("sym8-32", matmul_case, 8, 32, 5, 100)
    put("zero8-64", matmul_case, 8, 64, 5, 150, zeros="packed")
    put("float4-32", matmul_case, 4, 32, 5, 100, zeros="float")
    put("half4-32", matmul_case, 4, 32, 5, 96, half=True)
    put("half8-32", matmul_case, 8, 32, 5, 96, half=True)
    put("order4-32", matmul_case, 4, 32, 5, 100, groups=True)
    put("order4-32-zero", matmul_case, 4, 32, 5, 100, groups=True, zeros="packed")
    put("flat4-32", matmul_case, 4, 32, 5, 100, zeros="packed", rank2=True)
    put("typed4-32", matmul_case, 4, 32, 5, 100, zeros="packed", typed=True)
    put("short4-128", matmul_case, 4, 128, 5, 20)
    for kind, name in ((T.INT4, "i4"), (T.UINT4, "u4")):
        put(f"table-{name}", gather_case, kind, 4, 16, 6, 48, False)
        put(f"table-{name}-zero", gather_case, kind, 4, 16, 7, 80, True)
    put("table-u8-4", gather_case, T.UINT8, 4, 32, 6, 64, False)
    put("table-u8-4-zero", gather_case, T.UINT8, 4, 16, 6, 48, True)
    put("table-u8-8", gather_case, T.UINT8, 8, 16, 6, 48, False)
    put("table-u8-8-zero", gather_case, T.UINT8, 8, 16, 6, 48, True)
    for kind, name in ((T.INT4, "i4"), (T.UINT4, "u4"), (T.INT8, "i8"), (T.UINT8, "u8")):
        put(f"linear-{name}", linear_case, kind, 16, 5, 40, False)
        put(f"linear-{name}-zero", linear_case, kind, 32, 6, 80, True)
    write_safetensors(os.path.join(OUT, "ops", "rows.safetensors"), want, {"reference": f"onnxruntime {ort.__version__}"})
    print(f"{len(want)} operators")


def main():
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or ["ops", *EXPORTS]
    ties = []
    for name in chosen:
        ties += (make_ops() or []) if name == "ops" else make_export(name)
    if ties:
        raise SystemExit("near ties, choose another prompt or options: " + " ".join(ties))


if __name__ == "__main__":
    main()
