#!/usr/bin/env python3
"""Writes the tokenizer cases of tests/data/text: qwen.json (text -> ids of the real vocabulary), nfc.json and utf8.json.

    python tools/reference/make_text_cases.py tokenizer.json tests/data/text

Ids and NFC come from the `tokenizers` package, UTF-8 replacement from Python's own decoder. Long runs are written as
[text, count] instead of text; ids of long texts as [count, sum, hash], see fold().
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, normalizers

SCRIPTS = """The quick brown fox jumps over the lazy dog. It's 3.14159, isn't it?
Falsches Üben von Xylophonmusik quält jeden größeren Zwerg – »so« heißt’s.
Voix ambiguë d’un cœur qui, au zéphyr, préfère les jattes de kiwis.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia; ¿sí? ¡No!
À noite, vovô Kowalsky vê o ímã cair no pé do pinguim.
Pchnąć w tę łódź jeża lub ośm skrzyń fig.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Árvíztűrő tükörfúrógép.
Pijamalı hasta yağız şoföre çabucak güvendi. İıŞş
Do bạch kim rất quý nên sẽ dùng để lắp vô xương.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Жебракують філософи при ґанку церкви в Гадячі.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· ἀρχῇ ἦν ὁ λόγος.
დაფნა ვაშლის კამკამა წყალში.
Բոլոր մարդիկ ծնվում են ազատ։
נוסח הבדיקה: דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر. ٣٫١٤
ایک چھوٹا سا تجربہ، ٹھیک ہے؟ ۱۲۳
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का। १२३
আমি বাংলায় গান গাই। ১২৩ ড়ঢ়য়
யாமறிந்த மொழிகளிலே தமிழ்மொழி போல். ௧௨௩
తెలుగు భాష చాలా అందమైనది.
ಕನ್ನಡ ನಾಡು ನುಡಿ.
മലയാളം ഭാഷ.
සිංහල අකුරු.
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓
ພາສາລາວ ໑໒໓
မြန်မာဘာသာ စမ်းသပ်မှု။ ၁၂၃
ភាសាខ្មែរ ១២៣
བོད་སྐད་ཡིག །
አማርኛ ፊደል። ፩፪፫
ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ
ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ
いろはにほへと ちりぬるを。カタカナ、ガギグゲゴ（半角ｶﾞｷﾞ）
天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。１２３
키스의 고유조건은 입술끼리 만나야 하고. 각나닫
𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 𐍈𐌰𐌹𐌻 𓀀𓁐 𒀀𒁀 𞤀𞤁𞤂 𖹀𖹁 𑚀𑚁""".split("\n")
OTHER = ["Hello, world!", "<0.3 seconds>", "12345", "  two  spaces\n\nnl ", "你好，世界", "e\u0301", "🙂👍🏽", "I'M don't WE'LL",
         "<think>\n\n</think>\n\n", "½ ² ٣", "\r\n\r\n x", "a\u00a0b\u3000c", "def f(x):\n    return x+1\n", "user\n", "assistant\n",
         "system\n", "", " ", "\n", "\t", "\r", "\0", "a\0b", "'", "''", "'s'S'ſ'T'rE'Ve'LL'lL'd'x 's 'S", "it'S'll", "don'tt", "'re's",
         "a  b   c    d", "a \n b\n\n\nc \n\n d  \n", "   \n\n   \n x", "\n x", " \t\u00a0\u2003x", "\u0085x\u2028y\u2029z", "\x1c\x1d\x1e\x1f",
         "!!!\n\n??\r\n.", " !?", "  !?", "...\n", "foo_bar-baz.qux(x)[0]{y}", "https://example.org/a?b=c&d=%20#e",
         "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\t// ok\n}\n", "#include <stdio.h>\r\n\r\nint main(void)\r\n{\r\n}\r\n",
         "SELECT * FROM t WHERE a='b''c';", "{\"k\": [1, 2.5e-3, null, true]}", "x=1\n\n\n\n\ny=2", "👨‍👩‍👧‍👦🏳️‍🌈🇩🇪❤️", "ﬁ ﬀ Å Å Ω ﷺ",
         "\u1100\u1161\u11a8\u1100\u1161\uac00\u11a8\uac01\u11a8\uac00\u11a7", "q\u0307\u0323 q\u0323\u0307 \u1e9b\u0323", "\u0301abc", "x\u0345\u0301\u0300",
         "\u0958\u0959 \u2126\u212b \uf900\ufa0e \U0002f800", "\u0344\u0340\u0341\u0343", "\ufeffbom", "a\u200bb\u200dc\u2060d", "\u180e \u200b",
         "\U0010ffff\ufffe\uffff\ufdd0", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|><|im_start|>", "<|im_start", "<|im_end|",
         "<tool_call></tool_call><tool_response>x</tool_response>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", " <|im_end|> ",
         "e<|im_end|>\u0301", "<|vision_start|><|image_pad|><|vision_end|>", "<|IM_END|>", "a" * 1000, " " * 300, "\n" * 300, "ab" * 500, "=" * 300,
         "0" * 100, "é" * 300, "e\u0301" * 300, "🙂" * 100, "\u0301\u0323" * 40]
LONG = [["a", 100000], ["\n", 5000], ["ab ", 30000], ["你", 30000], ["é\u0323", 20000], ["<|im_end|>", 500], ["x\u0301\u0323\u0300", 5000],
        ["aA", 50000], ["123 ", 10000], ["-", 100000]]
RANGES = [(0x20, 0x7f)] * 8 + [(0, 0x20), (0xa0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x600, 0x800), (0x900, 0xe00), (0xe00, 0x1000),
          (0x1100, 0x1200), (0x1ab0, 0x1b00), (0x1c80, 0x1c90), (0x1dc0, 0x1e00), (0x1e00, 0x2000), (0x2000, 0x2070), (0x20d0, 0x2100),
          (0x2460, 0x2500), (0x3000, 0x3100), (0x4e00, 0x9fff), (0xa7c0, 0xa800), (0xac00, 0xad00), (0xf900, 0xfb00), (0x10d20, 0x10d90),
          (0x11380, 0x113d8), (0x16100, 0x16140), (0x1e5d0, 0x1e600), (0x1f300, 0x1faff), (0x2ebf0, 0x2ee60), (0x10000, 0x20000), (0, 0xd800),
          (0xe000, 0x110000)]


def random_text(r):
    out = []
    for _ in range(r.randint(1, r.choice([3, 8, 20]))):
        if r.random() < 0.4:
            out.append(r.choice(OTHER)[:12])
        else:
            a, b = r.choice(RANGES)
            out += [chr(c) for c in (r.randrange(a, b) for _ in range(r.randint(1, 4))) if not 0xD800 <= c < 0xE000]
    return "".join(out)


def fold(ids):
    h = 0
    for i in ids:
        h = (h * 1000003 + i) & 0xFFFFFFFF
    return [len(ids), sum(ids), h]


def dump(path, rows):
    path.write_text("[\n" + ",\n".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) for r in rows) + "\n]\n")


def marks(r):
    pool = [0x61, 0x65, 0x4f, 0xd4, 0x3b1, 0x1100, 0x1161, 0x11a8, 0xac00, 0xac01, 0x9c7, 0x9be, 0x9d7, 0xb47, 0xb3e, 0xcc6, 0xcc2, 0xcd5, 0x1025,
            0x102e, 0x3046, 0x3099, 0x212b, 0xf900, 0xfb1d, 0x11935, 0x11930, 0x1d157, 0x1d165, 0x1d160, 0x2adc, 0x226e]
    special = [0x300, 0x301, 0x302, 0x307, 0x308, 0x316, 0x323, 0x327, 0x328, 0x334, 0x338, 0x345, 0x35c, 0x5b0, 0x5bc, 0x64b, 0x651, 0x93c, 0x94d,
               0xe38, 0xf71, 0xf72, 0xf74, 0xf80, 0x1ab0, 0x1ac3, 0x1df8, 0x1dfa, 0x302a, 0x3099, 0x8d4, 0x8d3, 0xc3c, 0x10f46, 0x11046, 0x1e130,
               0x1e8d0]
    return "".join(chr(r.choice(special if r.random() < 0.6 else pool)) for _ in range(r.randint(1, 14)))


def main():
    tok, out = Tokenizer.from_file(sys.argv[1]), Path(sys.argv[2])
    r = random.Random(11)
    texts = SCRIPTS + OTHER + [random_text(r) for _ in range(850)]
    rows = [[t, tok.encode(t, add_special_tokens=False).ids] for t in texts]
    rows += [[[t, n], fold(tok.encode(t * n, add_special_tokens=False).ids)] for t, n in LONG]
    dump(out / "qwen.json", rows)
    nfc = normalizers.NFC()
    dump(out / "nfc.json", [[t, nfc.normalize_str(t)] for t in [marks(r) for _ in range(300)] + ["\u0301" * 50 + "\u0323" * 50 + "\u0334" * 50]])
    rows = []
    odd = [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4,
           0xf5, 0xf8, 0xff]
    for _ in range(1200):
        b = bytes(r.choice(odd) for _ in range(r.randint(1, 7)))
        rows.append([b.hex(), b.decode("utf-8", "replace").encode().hex()])
    dump(out / "utf8.json", rows)


main()
