"""One function per format of quantised safetensors: a matrix [N][K] in f32 -> (tensors of the module by suffix, dequantised f32).

The dequantised values come from the published packages where these run on a CPU (compressed-tensors, transformers,
bitsandbytes, mlx), always with scales widened to f32. AWQ and GPTQ have no such package: their words are packed here and
taken apart again by another way (numpy's bits), as their packers document them.
"""
import numpy as np
import torch


def half(x):
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).to(torch.float16)


def words_along_last(codes, bits):
    """Little-endian bit streams along the last axis, as int32 words."""
    stream = (codes[..., None].astype(np.uint8) >> np.arange(bits, dtype=np.uint8)) & 1
    stream = stream.reshape(*codes.shape[:-1], -1)
    return np.packbits(stream, axis=-1, bitorder="little").view("<i4")


def affine(w, group, bits, symmetric, order=None):
    """Round to nearest in groups of inputs: codes [N][K], zeros and f16 scales [N][G], group of each input [K]."""
    n, k = w.shape
    group = k if group < 0 else group
    gidx = np.arange(k) // group
    if order is not None:  # act-order: inputs are sorted by importance, groups are made in that order
        inverse = np.empty(k, dtype=np.int64)
        inverse[order] = np.arange(k)
        gidx = inverse // group
    top = 2 ** bits - 1
    groups = gidx.max() + 1
    scales, zeros = np.zeros((n, groups), np.float32), np.zeros((n, groups), np.int64)
    for g in range(groups):
        part = w[:, gidx == g]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        if symmetric:
            scales[:, g] = np.maximum(-low, high) * 2 / top
            zeros[:, g] = 2 ** (bits - 1)
        else:
            scales[:, g] = (high - low) / top
            zeros[:, g] = np.clip(np.rint(-low / scales[:, g]), 1, top)
    scales = half(scales).float().numpy()
    codes = np.clip(np.rint(w / scales[:, gidx]) + zeros[:, gidx], 0, top).astype(np.int64)
    return codes, zeros, scales, gidx


def value(codes, zeros, scales, gidx):
    return ((codes - zeros[:, gidx]).astype(np.float32) * scales[:, gidx]).astype(np.float32)


def bit_fields(words, bits, count):
    """The other way: each code out of the bits of its stream, least significant first. words [...][W] int32."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    stream = stream[..., :count * bits].reshape(*stream.shape[:-1], count, bits)
    return (stream.astype(np.int64) << np.arange(bits)).sum(-1)


def awq(w, group=32, symmetric=False):
    codes, zeros, scales, gidx = affine(w, group, 4, symmetric)
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # AutoAWQ: half byte i of a word holds column order[i]

    def pack(x):
        x = x.reshape(x.shape[0], -1, 8)
        word = np.zeros(x.shape[:2], np.uint32)
        for i, column in enumerate(order):
            word |= x[:, :, column].astype(np.uint32) << np.uint32(4 * i)
        return word.view(np.int32)

    def unpack(words):  # by bits, then AutoAWQ's reverse order
        flat = bit_fields(words[:, :, None], 4, 8)
        return flat[:, :, [0, 4, 1, 5, 2, 6, 3, 7]].reshape(words.shape[0], -1)

    qweight, qzeros = pack(codes.T), pack(zeros.T)
    dequantised = value(unpack(qweight).T, unpack(qzeros).T, scales, gidx)
    assert (dequantised == value(codes, zeros, scales, gidx)).all()
    return {".qweight": torch.from_numpy(qweight), ".qzeros": torch.from_numpy(qzeros),
            ".scales": half(scales.T)}, dequantised


def gptq(w, bits=4, group=32, symmetric=True, act_order=None, v2=False, gidx_stored=True):
    order = None if act_order is None else np.random.default_rng(act_order).permutation(w.shape[1])
    codes, zeros, scales, gidx = affine(w, group, bits, symmetric, order)
    stored = zeros if v2 else zeros - 1
    qweight = np.ascontiguousarray(words_along_last(codes, bits).T)
    qzeros = words_along_last(np.ascontiguousarray(stored.T), bits)
    n, k = w.shape
    back = bit_fields(np.ascontiguousarray(qweight.T), bits, k)
    zero = bit_fields(qzeros, bits, n).T + (0 if v2 else 1)
    dequantised = value(back, zero, scales, gidx)
    assert (dequantised == value(codes, zeros, scales, gidx)).all()
    tensors = {".qweight": torch.from_numpy(qweight), ".qzeros": torch.from_numpy(qzeros), ".scales": half(scales.T)}
    if gidx_stored:
        tensors[".g_idx"] = torch.from_numpy(gidx.astype(np.int32))
    return tensors, dequantised


def compressed(w, bits=4, kind="int", strategy="group", group=32, symmetric=True, packed=True, dtype=torch.bfloat16, block=None,
               act_order=None):
    from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    args = QuantizationArgs(num_bits=bits, type=kind, strategy=strategy, symmetric=symmetric,
                            group_size=group if strategy == "group" else None, block_structure=block)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    n, k = w.shape
    x = torch.from_numpy(w)
    if act_order is not None:  # weight_g_idx: columns are put in order of their groups, quantised, and put back
        gidx = np.random.default_rng(act_order).permutation(np.arange(k) // group)
        perm = np.argsort(gidx, kind="stable")
        x = x[:, perm]
    rows, columns = {"tensor": (1, 1), "channel": (n, 1), "group": (n, k // group)}.get(strategy, (0, 0))
    if strategy == "block":
        rows, columns = -(-n // block[0]), -(-k // block[1])
        grid = torch.zeros(rows * block[0], columns * block[1])
        grid[:n, :k] = x
        parts = grid.reshape(rows, block[0], columns, block[1]).permute(0, 2, 1, 3).reshape(rows, columns, -1)
    else:
        parts = x.reshape(1, 1, -1) if strategy == "tensor" else x.reshape(rows, columns, -1)
    top = 448.0 if kind == "float" else 2 ** (bits - 1) - 1
    zero = None
    if symmetric:
        scale = parts.abs().amax(-1) / top
    else:
        low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
        scale = (high - low) / (2 ** bits - 1)
        zero = (torch.round(-low / scale) - 2 ** (bits - 1)).to(torch.int8)
    scale = scale.to(dtype)
    state = {"weight": x, "weight_scale": scale.float()}
    if zero is not None:
        state["weight_zero_point"] = zero
    packer = PackedQuantizationCompressor if packed else NaiveQuantizationCompressor
    out = packer.compress(state, scheme)
    dequantised = packer.decompress({key: v.clone() for key, v in out.items()}, scheme)["weight"].float()
    out["weight_scale"] = scale if strategy != "tensor" else scale.reshape(1)
    if act_order is not None:
        back = np.argsort(perm)
        dequantised = dequantised[:, back]
        codes = bit_fields(out["weight_packed"].numpy(), bits, k)[:, back]
        out["weight_packed"] = torch.from_numpy(words_along_last(codes, bits).copy())
        out["weight_g_idx"] = torch.from_numpy(gidx.astype(np.int32))
    return {"." + key: v for key, v in out.items()}, dequantised.numpy()


def fp8(w, block=(32, 32), dtype=torch.bfloat16):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    n, k = w.shape
    rows, columns = n // block[0], k // block[1]
    parts = torch.from_numpy(w).reshape(rows, block[0], columns, block[1])
    scale = (parts.abs().amax((1, 3)) / 448).to(dtype)
    codes = (parts / scale.float()[:, None, :, None]).reshape(n, k).to(torch.float8_e4m3fn)
    dequantised = Fp8Dequantize(None)._dequantize_one(codes, scale, output_dtype=torch.float32)
    return {".weight": codes, ".weight_scale_inv": scale}, dequantised.numpy()


def bnb4(w, kind="nf4", nested=True, block=64, storage=None):
    import bitsandbytes.functional as F

    q, state = F.quantize_4bit(torch.from_numpy(w), blocksize=block, compress_statistics=nested, quant_type=kind,
                               **({"quant_storage": storage} if storage else {}))
    tensors = {".weight." + key: v for key, v in state.as_dict(packed=True).items()}
    # Blocks run through the flattened matrix. 0.50's AVX-512 kernel begins a new one with each row; asked for rows of one block
    # it agrees with the package's generic code, which is also what its CUDA kernels do.
    assert w.size % block == 0
    state.shape = torch.Size((w.size // block, block))
    return {".weight": q, **tensors}, F.dequantize_4bit(q, state).reshape(w.shape).numpy()


def bnb8(w):
    import bitsandbytes.functional as F

    codes, scb, _ = F.int8_vectorwise_quant(torch.from_numpy(w).half())
    return {".weight": codes, ".SCB": scb, ".weight_format": torch.tensor(0, dtype=torch.uint8)}, \
        F.int8_vectorwise_dequant(codes, scb).numpy()


def mlx(w, bits=4, group=32, mode="affine", dtype="bfloat16"):
    import mlx.core as mx

    x = mx.array(w).astype(getattr(mx, dtype))
    parts = mx.quantize(x, group_size=group, bits=bits, mode=mode)
    tensors = {".weight": torch.from_numpy(np.array(parts[0]))}
    if mode == "affine":
        wide = [p.astype(mx.float32) for p in parts[1:]]
        torch_type = getattr(torch, dtype)
        tensors[".scales"], tensors[".biases"] = (torch.from_numpy(np.array(p)).to(torch_type) for p in wide)
        dequantised = mx.dequantize(parts[0], *wide, group_size=group, bits=bits)
    else:  # products of few bits: exact in bf16
        tensors[".scales"] = torch.from_numpy(np.array(parts[1]))
        dequantised = mx.dequantize(parts[0], parts[1], None, group_size=group, bits=bits, mode=mode).astype(mx.float32)
    return tensors, np.array(dequantised)
