#!/usr/bin/env python3
"""Writes tests/data/text/template.json: conversations and the prompts that Jinja makes of them.

    python tools/reference/make_template_cases.py MODEL_FOLDER > tests/data/text/template.json

MODEL_FOLDER holds a chat_template.jinja with the Instruct semantics (the tiny model's); the Thinking one is thinking.jinja
beside this script. Both are run as transformers runs them (its environment, its tojson).
"""
import json
import random
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Wetter für <Ort> & \"Tag\" 'heute' 天气",
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}},
                    "required": ["city"], "additionalProperties": False}}},
    {"name": "calc", "zeta": 1, "alpha": [1, -2, 0, 3.0, 0.1, 1e20, 1e-7, 1e16, 123456789012345680.0, 5e-324, -0.0,
     9223372036854775807, True, False, None, {}, [], "", "\u0000\u0001\t\n\r\b\f\\/\"\u007f\u2028\U0001f642é"],
     "nested": {"a": {"b": {"c": [[[]]]}}}},
    {"type": "function", "function": {"name": "noop", "parameters": {}}},
]
TEXTS = ["", "Hi", "Describe this image.", "Ünïcödé 你好 🙂", " leading", "trailing \n", "\n\nlines\n\n", "<|im_end|>\n<|im_start|>system\n",
         "<|image_pad|>", "<tool_response>\nx\n</tool_response>", "<tool_response>only the start", "{{ not.jinja }} {% no %}",
         "a\\nb\tc", "<think>user</think>", "{\"json\": \"<é>\"}"]
ANSWERS = TEXTS + ["<think>\nreason\n</think>\n\nanswer", "<think>\n\n</think>\n\nempty", "no opening\n</think>\nanswer",
                   "<think>open only", "a<think>b</think>c<think>d</think>\n\ne", "<think>\n\n\nmany\n\n\n</think>\n\n\n\nlines\n\n",
                   "</think>", "<think></think>", "\nleading line", "x</think>\n", "<think>a<think>b\n</think>c"]
REASONS = [None, "", "Because.", "\n\nlines around\n\n", "two\nlines <é>", "<think>tags</think>", "\n"]
ARGS = [{}, {"city": "Zürich", "days": 2}, {"q": "<a href='x'>&amp;</a>"}, {"x": [1.5, None, True, {"y": "\n"}]},
        "{\"already\": \"text\"}", "not json <", "", [1, 2], 3, None, {"b": 1, "a": 2}]


def image(r):
    return r.choice([{"type": "image", "image": "a.png"}, {"type": "image_url", "image_url": {"url": "http://x/y.jpg"}},
                     {"type": "image_url", "image_url": "data:image/png;base64,AAAA"}, {"type": "image"},
                     {"image": "b.jpg"}, {"type": "image", "url": "file:///c.png", "detail": "high"}])


def parts(r, texts):
    out = []
    for _ in range(r.choice([0, 1, 1, 2, 2, 3, 5])):
        k = r.random()
        if k < 0.55:
            out.append({"type": "text", "text": r.choice(texts)})
        elif k < 0.9:
            out.append(image(r))
        else:
            out.append(r.choice([{"type": "video", "video": "v.mp4"}, {"video": "w.mkv"}]))
    return out


def content(r, texts, media=True):
    k = r.random()
    if k < 0.55:
        return r.choice(texts)
    if media or k < 0.8:
        return parts(r, texts)
    return None if k < 0.9 else [{"type": "text", "text": r.choice(texts)}]


def call(r):
    f = {"name": r.choice(["get_weather", "calc", "naïve"]), "arguments": r.choice(ARGS)}
    return f if r.random() < 0.3 else {"id": "call_1", "type": "function", "function": f}


def assistant(r):
    m = {"role": "assistant", "content": content(r, ANSWERS, media=r.random() < 0.2)}
    if r.random() < 0.4:
        m["reasoning_content"] = r.choice(REASONS)
    if r.random() < 0.4:
        m["tool_calls"] = [call(r) for _ in range(r.choice([0, 1, 1, 2, 3]))]
    if m["content"] is None and "tool_calls" in m and r.random() < 0.5:
        del m["content"]
    return m


def conversation(r):
    out = []
    if r.random() < 0.5:
        out.append({"role": "system", "content": content(r, TEXTS)})
    for _ in range(r.choice([0, 1, 1, 2, 2, 3, 4])):
        k = r.random()
        if k < 0.5:
            out.append({"role": "user", "content": content(r, TEXTS), "name": "someone"})
            if r.random() < 0.75:
                out.append(assistant(r))
        elif k < 0.75:
            out.append(assistant(r))
            out += [{"role": "tool", "tool_call_id": "call_1", "content": content(r, TEXTS)} for _ in range(r.randint(1, 3))]
            if r.random() < 0.5:
                out.append(assistant(r))
        elif k < 0.85:
            out.append({"role": "system", "content": content(r, TEXTS)})
        else:
            out.append({"role": "user", "content": "<tool_response>\n" + r.choice(TEXTS) + "\n</tool_response>"})
    return out or [{"role": "user", "content": "Hello"}]


def cases():
    im = {"type": "image", "image": "a.png"}
    yield {"messages": [{"role": "user", "content": [im, {"type": "text", "text": "Describe this image."}]}]}
    yield {"messages": [{"role": "system", "content": "You are a helpful assistant."},
                        {"role": "user", "content": [im, {"type": "text", "text": "A"}, im, {"type": "text", "text": "B"}]}],
           "add_vision_id": True}
    yield {"messages": [], "add_generation_prompt": True}
    yield {"messages": [], "tools": TOOLS, "add_generation_prompt": False}
    r = random.Random(7)
    for _ in range(115):
        q = {"messages": conversation(r)}
        if r.random() < 0.3:
            q["tools"] = r.sample(TOOLS, r.randint(0, len(TOOLS)))
        if r.random() < 0.5:
            q["add_generation_prompt"] = r.random() < 0.5
        if r.random() < 0.4:
            q["add_vision_id"] = True
        yield q


def render(template, q):
    return template.render(messages=q["messages"], tools=q.get("tools") or None,
                           add_generation_prompt=q.get("add_generation_prompt", True),
                           add_vision_id=q.get("add_vision_id", False))


def main():
    here = Path(__file__).parent
    instruct = _compile_jinja_template((Path(sys.argv[1]) / "chat_template.jinja").read_text())
    thinking = _compile_jinja_template((here / "thinking.jinja").read_text())
    out = [{"request": q, "instruct": render(instruct, q), "thinking": render(thinking, q)} for q in cases()]
    print("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in out) + "\n]")


if __name__ == "__main__":
    main()
