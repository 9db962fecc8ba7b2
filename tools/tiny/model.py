"""The network: transformers' own Qwen3-VL with a batched forward pass for training, and the auxiliary heads.

transformers runs pictures of many sizes one after the other. In training all pictures of a batch have one size, so
`Forward` runs the same modules, with the same numbers, as plain batched tensor code that torch.compile likes.
`parity.py` compares the two.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch._dynamo
import torch.fx.experimental._config
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from config import CHARS, COLORS, GRID, SHAPES, VISION, model_config

PATCH, MERGE, FRAMES = VISION["patch_size"], VISION["spatial_merge_size"], VISION["temporal_patch_size"]
BLOCK = PATCH * MERGE


def load_tokenizer(folder: str | Path) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer of a folder, and the ids of its special tokens."""
    path = Path(folder) / "tokenizer.json"
    added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    return Tokenizer.from_file(str(path)), {t["content"]: t["id"] for t in added}


def new_model(special: dict[str, int], seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """A model with fresh weights: matrices by fan-in, those that end a residual branch halved."""
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(model_config(special)).float()
    branch_ends = ("o_proj.weight", "down_proj.weight", "attn.proj.weight", "linear_fc2.weight")
    for name, p in model.named_parameters():
        if p.dim() >= 2 and "embed" not in name:
            torch.nn.init.normal_(p, 0, (0.5 if name.endswith(branch_ends) else 1.0) / math.sqrt(p[0].numel()))
    return model


# ---- checkpoints -------------------------------------------------------------------------------------------

def load_weights(model, aux: "AuxHeads | None", path: str | Path) -> None:
    """Weights from a checkpoint file (its averaged weights, if any) or from an exported folder."""
    path = Path(path)
    if path.is_dir():
        weights = {k: v.float() for k, v in load_file(path / "model.safetensors").items()}
        missing, unknown = model.load_state_dict(weights, strict=False)
        if unknown or any(k != "lm_head.weight" for k in missing):
            raise SystemExit(f"{path}: not this model: missing {missing}, unknown {unknown}")
        return
    saved = torch.load(path)
    model.load_state_dict(saved.get("average") or saved["model"])
    if aux is not None and "aux" in saved:
        aux.load_state_dict(saved["aux"])


def save_checkpoint(path: Path, **parts) -> None:
    """Written beside its place and renamed, so an interrupted run leaves the older checkpoint whole."""
    partial = path.with_suffix(".partial")
    torch.save(parts, partial)
    partial.replace(path)


# ---- forward pass ------------------------------------------------------------------------------------------

def patchify(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 2, height, width, 3] to float32 [n, patches, 1536].

    Rows are in merge-block order, the columns of a row in the order (channel, frame, y, x).
    """
    n, _, height, width, _ = frames.shape
    x = frames.float().div_(127.5).sub_(1)
    x = x.view(n, FRAMES, height // BLOCK, MERGE, PATCH, width // BLOCK, MERGE, PATCH, 3)
    x = x.permute(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return x.reshape(n, (height // PATCH) * (width // PATCH), 3 * FRAMES * PATCH * PATCH)


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


class Forward:
    """Batched forward passes of a Qwen3VLForConditionalGeneration over pictures of one size."""

    def __init__(self, model: Qwen3VLForConditionalGeneration):
        self.visual, self.decoder = model.model.visual, model.model.language_model
        self._grids: dict[tuple[int, int], tuple] = {}

    def grid(self, width: int, height: int) -> tuple[torch.Tensor, ...]:
        """What depends on the picture's size alone: position table indices and weights, rotary cos and sin."""
        if (width, height) not in self._grids:
            thw = torch.tensor([[1, height // PATCH, width // PATCH]])
            indices, weights = get_vision_interpolation_indices_and_weights(
                thw, num_grid_per_side=self.visual.num_grid_per_side, mode="bilinear", align_corners=True,
                spatial_merge_size=MERGE, kwargs={},
            )
            cos, sin = self.visual.rotary_pos_emb(torch.zeros(1), get_vision_position_ids(thw, MERGE, kwargs={}))
            self._grids[width, height] = indices, weights, cos, sin
        return self._grids[width, height]

    def vision(self, patches, indices, weights, cos, sin) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features [n * cells, d] and the DeepStack sets of n pictures (or pairs of frames)."""
        v, embed = self.visual, self.visual.patch_embed.proj
        x = F.linear(patches, embed.weight.flatten(1), embed.bias)
        x = x + (v.pos_embed(indices) * weights[:, :, None]).sum(1).to(x.dtype)
        n, length, width = x.shape
        deepstack = []
        for i, block in enumerate(v.blocks):
            qkv = block.attn.qkv(block.norm1(x)).view(n, length, 3, -1, cos.shape[-1]).permute(2, 0, 3, 1, 4)
            q, k = (qkv[j].float() * cos + rotate_half(qkv[j].float()) * sin for j in (0, 1))
            o = F.scaled_dot_product_attention(q.to(qkv.dtype), k.to(qkv.dtype), qkv[2])
            x = x + block.attn.proj(o.transpose(1, 2).reshape(n, length, width))
            x = x + block.mlp(block.norm2(x))
            if i in v.deepstack_visual_indexes:
                merger = v.deepstack_merger_list[v.deepstack_visual_indexes.index(i)]
                deepstack.append(merger(x.reshape(n * length, width)))
        return v.merger(x.reshape(n * length, width)), deepstack

    def text(self, ids, positions, mask, where, features, deepstack) -> torch.Tensor:
        """Hidden states of ids [b, t] at positions [3, b, t]; mask [b, 1, t, t] is true where a token may look;
        `where` holds the flat places of the visual tokens, in the order of the features."""
        d = self.decoder
        b, t = ids.shape
        x = d.embed_tokens(ids)
        width = x.shape[-1]
        x = x.reshape(b * t, width).index_put((where,), features.to(x.dtype)).view(b, t, width)
        cos, sin = (z[:, None] for z in d.rotary_emb(x.float(), positions))
        for i, layer in enumerate(d.layers):
            a, h = layer.self_attn, layer.input_layernorm(x)
            q = a.q_norm(a.q_proj(h).view(b, t, -1, a.head_dim)).transpose(1, 2)
            k = a.k_norm(a.k_proj(h).view(b, t, -1, a.head_dim)).transpose(1, 2)
            v = a.v_proj(h).view(b, t, -1, a.head_dim).transpose(1, 2)
            q, k = ((z.float() * cos + rotate_half(z.float()) * sin).to(v.dtype) for z in (q, k))
            shared = a.num_key_value_groups
            k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
            o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = x + a.o_proj(o.transpose(1, 2).reshape(b, t, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            if i < len(deepstack):
                x = x.reshape(b * t, width).index_add(0, where, deepstack[i].to(x.dtype)).view(b, t, width)
        return d.norm(x)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self.decoder.embed_tokens.weight)


def compile_for_any_size() -> None:
    """Settings of torch.compile for batches whose sizes always change: sizes that happen to be equal once are not
    taken to be equal always, and the few variants that are compiled for small and large batches are all kept."""
    torch.fx.experimental._config.use_duck_shape = False
    torch._dynamo.config.recompile_limit = 32


# ---- auxiliary heads ---------------------------------------------------------------------------------------

class AuxHeads(torch.nn.Module):
    """Training aid, dropped at export: linear heads on the features and on every DeepStack set that tell what each
    merged cell shows."""

    PARTS = {
        "kind": len(SHAPES) + 2, "color": len(COLORS) + 1, "box": 4 * (GRID + 1), "center": 1, "chars": len(CHARS),
    }

    def __init__(self):
        super().__init__()
        width, sets = VISION["out_hidden_size"], 1 + len(VISION["deepstack_visual_indexes"])
        self.heads = torch.nn.ModuleList(torch.nn.Linear(width, sum(self.PARTS.values())) for _ in range(sets))

    def split(self, i: int, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.heads[i](features.float()).split(list(self.PARTS.values()), -1)

    def loss(self, sets: list[torch.Tensor], targets: tuple[torch.Tensor, ...]) -> torch.Tensor:
        kind, color, box, center, chars = targets
        thing, lettered = (kind > 0).float(), chars.amax(-1)
        total = 0.0
        for i, features in enumerate(sets):
            k, c, b, m, w = self.split(i, features)
            lines = F.cross_entropy(b.reshape(-1, GRID + 1), box.reshape(-1), reduction="none").view(-1, 4).sum(-1)
            total = total + F.cross_entropy(k, kind) + F.cross_entropy(c, color)
            total = total + 0.3 * (lines * thing).sum() / thing.sum().clamp(min=1)
            total = total + F.binary_cross_entropy_with_logits(m[:, 0], center)
            letters = F.binary_cross_entropy_with_logits(w, chars, reduction="none").sum(-1)
            total = total + 0.5 * (letters * lettered).sum() / lettered.sum().clamp(min=1)
            total = total + 0.5 * (letters * (1 - lettered)).mean()
        return total / len(sets)
