#!/usr/bin/env python3
"""Draws docs/demo.png: a picture and the terminal in which qvl answers questions about it. Needs Pillow and DejaVu fonts.

usage: demo_picture.py [PATH_OF_QVL]     (from the root of the repository)
"""
import subprocess
import sys
import textwrap

from PIL import Image, ImageDraw, ImageFont

MODEL, PICTURE = "models/tiny", "models/tiny/examples/three-shapes.png"
QUESTIONS = ["Describe this image.", "Locate all shapes and report bbox coordinates in JSON format."]
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf"
COLUMNS, LINE, MARGIN = 92, 24, 24
BACK, PLAIN, PROMPT, DIM = "#14171c", "#e6e6e6", "#7fd18a", "#8a93a0"


def run(qvl, question):
    done = subprocess.run([qvl, "run", MODEL, "--greedy", "--image", PICTURE, "-p", question],
                          capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr.strip()


def main():
    qvl = sys.argv[1] if len(sys.argv) > 1 else "build/qvl"
    lines = []
    for question in QUESTIONS:
        answer, closing = run(qvl, question)
        command = f'qvl run {MODEL} --image three-shapes.png -p "{question}"'
        lines += [("$ " + part if i == 0 else "  " + part, PROMPT) for i, part in enumerate(textwrap.wrap(command, COLUMNS - 2))]
        lines += [(part, PLAIN) for part in textwrap.wrap(answer, COLUMNS)]
        lines += [(closing, DIM), ("", PLAIN)]
    font = ImageFont.truetype(FONT, 16)
    width = int(font.getlength("x" * COLUMNS)) + 2 * MARGIN
    picture = Image.open(PICTURE).convert("RGB")
    height = max(len(lines) * LINE, picture.height) + 2 * MARGIN - LINE
    scale = (height - 2 * MARGIN) / picture.height
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.LANCZOS)
    out = Image.new("RGB", (width + picture.width + MARGIN, height), BACK)
    out.paste(picture, (MARGIN, MARGIN))
    draw = ImageDraw.Draw(out)
    for i, (text, colour) in enumerate(lines):
        draw.text((picture.width + 2 * MARGIN, MARGIN + i * LINE), text, font=font, fill=colour)
    out.save("docs/demo.png", optimize=True)


if __name__ == "__main__":
    main()
