"""Ask an exported model through transformers: float32, eager attention, greedy. These are the answers that count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

Media = list[tuple[str, "Image.Image | np.ndarray"]]        # ("image", picture) or ("video", uint8 [frames, h, w, 3])
FPS = 2.0                                                   # of the clips
MAX_TOKENS = 256


class Reference:
    def __init__(self, folder: Path, deepstack: bool = True):
        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        self.model = Qwen3VLForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        if not deepstack:
            silence_deepstack(self.model)

    def _inputs(self, questions: list[tuple[Media, str]]):
        texts, images, clips = [], [], []
        for media, question in questions:
            content = [{"type": kind, kind: item} for kind, item in media] + [{"type": "text", "text": question}]
            message = [{"role": "user", "content": content}]
            texts.append(self.processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
            images += [item for kind, item in media if kind == "image"]
            clips += [item for kind, item in media if kind == "video"]
        more = {}
        if images:
            more["images"] = images
        if clips:
            known = [dict(fps=FPS, total_num_frames=len(c), frames_indices=list(range(len(c)))) for c in clips]
            more.update(videos=clips, do_sample_frames=False, video_metadata=known)
        return self.processor(text=texts, padding=len(texts) > 1, return_tensors="pt", **more)

    @torch.no_grad()
    def ask(self, questions: list[tuple[Media, str]]) -> list[str]:
        """One answer for each (media, question), decoded together."""
        inputs = self._inputs(questions)
        out = self.model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        return self.processor.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)

    @torch.no_grad()
    def ask_one(self, media: Media, question: str) -> tuple[str, float]:
        """The answer decoded alone, and the smallest lead of a chosen token's logit over the next best."""
        inputs = self._inputs([(media, question)])
        out = self.model.generate(
            **inputs, max_new_tokens=MAX_TOKENS, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        lead = min(float(-top.diff()) for top in (step[0].topk(2).values for step in out.logits))
        said = out.sequences[0, inputs["input_ids"].shape[1]:]
        return self.processor.tokenizer.decode(said, skip_special_tokens=True), lead


def silence_deepstack(model) -> None:
    """Make the three DeepStack sets zero, to see what the model owes to them."""
    for merger in model.model.visual.deepstack_merger_list:
        torch.nn.init.zeros_(merger.linear_fc2.weight)
        torch.nn.init.zeros_(merger.linear_fc2.bias)
