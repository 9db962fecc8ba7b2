"""Writes tests/data/safetensors/*.safetensors with the Python package: what tests/unit/test_safetensors.c reads."""
import os
import numpy as np
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

out = os.path.join(os.path.dirname(__file__), "../../tests/data/safetensors")
os.makedirs(out, exist_ok=True)

save_file({
    "f32": torch.arange(6, dtype=torch.float32).reshape(2, 3) * 0.5 - 1,
    "bf16": torch.tensor([1, -2, 3.14159265], dtype=torch.bfloat16),
    "f16": torch.tensor([1, 65504], dtype=torch.float16),
    "i64": torch.tensor([-2**63, 7]),
    "bool": torch.tensor([True]),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 4),
    "é/\"x\"": torch.tensor([1, 2, 3], dtype=torch.uint8),
    "f8": torch.tensor([1, 2], dtype=torch.float8_e4m3fn),
}, os.path.join(out, "sample.safetensors"), metadata={"format": "pt", "note": "quote \" backslash \\ tab \t é 🐦"})

# Every width, one type each (of equal width the package sorts by type, we by name), one metadata entry (the package
# keeps several in no fixed order).
save_numpy({
    "b": np.arange(3, dtype=np.float32),
    "a": np.arange(5, dtype=np.uint8),
    "c.weight": np.arange(4, dtype=np.float64).reshape(2, 2),
    "d": np.arange(3, dtype=np.int16),
    "aa": np.arange(2, dtype=np.float32),
    "a.b": np.arange(1, dtype=np.uint8),
}, os.path.join(out, "plain.safetensors"), metadata={"format": "np"})
