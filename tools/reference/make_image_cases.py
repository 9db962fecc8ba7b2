#!/usr/bin/env python3
"""Writes tests/data/images/: small encoded pictures of every kind and what the reference makes of them.

Expected pixels come from Pillow (orientation by ImageOps.exif_transpose, transparency by transformers' convert_to_rgb);
where the project deliberately differs from Pillow, or Pillow cannot read a kind, they come from arithmetic on the samples
that were encoded, and the case says so. Rejected files carry the name of the expected error.

    python tools/reference/make_image_cases.py [OUT]        (needs Pillow, numpy, transformers, pillow-heif;
    and the programs cjpeg and jpegtran of libjpeg-turbo)
"""
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from transformers.image_transforms import convert_to_rgb

from image_writers import *  # noqa: F403 - a toolbox of this script

warnings.simplefilter("ignore")


# ---------------------------------------------------------------- pictures

def scene(w, h, channels=3, seed=0):
    """A smooth gradient with an edge and some noise: chroma, ringing and rounding all show."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    planes = [255 * x / max(w - 1, 1), 255 * y / max(h - 1, 1), 255 * ((x // 5 + y // 7) % 2), 40 + 215 * (x + y) / (w + h)]
    a = np.stack(planes[:channels], -1) + rng.normal(0, 12, (h, w, channels))
    return np.clip(np.rint(a), 0, 255).astype(np.uint8)


def save(img, fmt, **kw):
    b = io.BytesIO()
    if isinstance(img, np.ndarray):
        img = Image.fromarray(img[..., 0] if img.ndim == 3 and img.shape[2] == 1 else img)
    img.save(b, fmt, **kw)
    return b.getvalue()


def exif_block(orientation, big=False, kind=3):
    o = ">" if big else "<"
    value = struct.pack(o + "HH", orientation, 0) if kind == 3 else struct.pack(o + "I", orientation)
    return (b"MM\0*" if big else b"II*\0") + struct.pack(o + "IH", 8, 1) + struct.pack(o + "HHI", 0x112, kind, 1) + value + \
        struct.pack(o + "I", 0)


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


# ---------------------------------------------------------------- expectations

def reference(data, drop):
    im = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if not drop:
        return convert_to_rgb(im, return_numpy=True)
    return np.array(im.convert("RGBA").convert("RGB") if "transparency" in im.info or "A" in im.mode else im.convert("RGB"))


def over_white(c, a):
    """8-bit alpha over white, rounded to nearest."""
    c, a = c.astype(np.int64), a.astype(np.int64)
    return ((c * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)


class Cases:
    def __init__(self):
        self.list = []

    def ok(self, name, data, rgb=None, drop=None, note=None):
        """rgb: expected pixels when Pillow is not the judge."""
        if rgb is None:
            rgb = reference(data, False)
            drop = reference(data, True) if drop is None else drop
        drop = rgb if drop is None else drop
        e = {"file": name, "width": rgb.shape[1], "height": rgb.shape[0], "sha256": hashlib.sha256(rgb.tobytes()).hexdigest(),
             "sha256_drop": hashlib.sha256(drop.tobytes()).hexdigest()}
        if rgb.size <= 48:
            e["rgb"] = rgb.reshape(-1).tolist()
        if note:
            e["note"] = note
        self.list.append((name, data, e, rgb, drop))

    def near(self, name, data, rgb=None, tolerance=0.3):
        """Lossy kinds whose bytes depend on the decoder: mean absolute difference to the reference's."""
        rgb = reference(data, False) if rgb is None else rgb
        e = {"file": name, "width": rgb.shape[1], "height": rgb.shape[0], "rgb_file": name + ".rgb", "tolerance": tolerance}
        self.list.append((name, data, e, rgb, rgb))

    def bad(self, name, data, error, note=None):
        e = {"file": name, "error": error}
        if note:
            e["note"] = note
        self.list.append((name, data, e, None, None))


# ---------------------------------------------------------------- cases

def jpeg_cases(c):
    a = scene(45, 31)
    base = save(a, "JPEG", quality=85)
    for name, s in (("444", 0), ("422", 1), ("420", 2)):
        c.ok(f"{name}.jpg", save(a, "JPEG", quality=80, subsampling=s))
        c.ok(f"{name}_progressive.jpg", save(a, "JPEG", quality=80, subsampling=s, progressive=True))
    c.ok("440.jpg", cjpeg(a, "-sample", "1x2"))
    c.ok("411.jpg", cjpeg(a, "-sample", "4x1"))
    c.ok("arithmetic.jpg", cjpeg(a, "-arithmetic"))
    c.ok("410.jpg", cjpeg(a, "-sample", "4x2"))
    c.ok("optimised.jpg", save(a, "JPEG", quality=30, optimize=True))
    c.ok("restart.jpg", save(a, "JPEG", quality=75, restart_marker_rows=1))
    c.ok("q100.jpg", save(a, "JPEG", quality=100))
    c.ok("grey.jpg", save(scene(33, 20, 1), "JPEG", quality=90))
    c.ok("grey_progressive.jpg", save(scene(33, 20, 1), "JPEG", quality=90, progressive=True))
    c.ok("rgb_adobe.jpg", save(a, "JPEG", quality=90, keep_rgb=True))
    cmyk = save(Image.fromarray(scene(40, 24, 4), "CMYK"), "JPEG", quality=92)
    c.ok("cmyk.jpg", cmyk)
    at = cmyk.index(b"Adobe")
    c.ok("ycck.jpg", cmyk[:at + 11] + b"\2" + cmyk[at + 12:], note="the same data declared as YCCK")
    c.ok("cmyk_no_adobe.jpg", cmyk[:at - 4] + cmyk[at + 12:])
    for w, h in ((1, 1), (1, 40), (40, 1), (7, 9), (16, 16), (17, 17)):
        c.ok(f"{w}x{h}.jpg", save(scene(w, h), "JPEG", quality=85))
    small = save(scene(11, 6), "JPEG", quality=95)
    for o in range(0, 10):
        c.ok(f"exif{o}.jpg", with_app1(small, b"Exif\0\0" + exif_block(o, big=o % 2 == 1)))
    c.ok("exif6_long.jpg", with_app1(small, b"Exif\0\0" + exif_block(6, kind=4)))
    c.ok("exif_garbage.jpg", with_app1(small, b"Exif\0\0II*\0\xff\xff\xff\x7f"), reference(small, False))
    c.ok("xmp6.jpg", with_app1(small, b"http://ns.adobe.com/xap/1.0/\0" + (XMP % 6).encode()))
    c.ok("exif_beats_xmp.jpg", with_app1(with_app1(small, b"http://ns.adobe.com/xap/1.0/\0" + (XMP % 6).encode()),
                                         b"Exif\0\0" + exif_block(3)))
    c.ok("trailing.jpg", base + b"rubbish after the end" * 3)
    c.ok("fill_bytes.jpg", base[:2] + b"\xff\xff" + base[2:])
    sos = base.index(b"\xff\xda")
    hurt = bytearray(base)
    for i in range(sos + 60, sos + 70):
        hurt[i] ^= 0x15
    c.ok("damaged_scan.jpg", bytes(hurt), note="libjpeg repairs it")
    c.ok("eoi_inside.jpg", base[:sos + 200] + b"\xff\xd9", note="a complete file whose scan stops early: the rest is grey")
    for n in (3, 20, sos, sos + 14, sos + 100, len(base) // 2, len(base) - 20, len(base) - 2):
        c.bad(f"truncated_{n}.jpg", base[:n], "FORMAT")
    prog = save(a, "JPEG", quality=80, progressive=True)
    for n in (len(prog) // 3, len(prog) * 4 // 5, len(prog) - 2):
        c.bad(f"truncated_progressive_{n}.jpg", prog[:n], "FORMAT")
    sof = base.index(b"\xff\xc0")
    c.bad("zero_width.jpg", base[:sof + 7] + b"\0\0" + base[sof + 9:], "FORMAT")
    c.bad("zero_height.jpg", base[:sof + 5] + b"\0\0" + base[sof + 7:], "FORMAT")
    c.bad("60000.jpg", base[:sof + 5] + struct.pack(">HH", 60000, 60000) + base[sof + 9:], "LIMIT")
    c.ok("enlarged.jpg", base[:sof + 5] + struct.pack(">HH", 200, 150) + base[sof + 9:], note="declared larger than its data: the rest is grey")
    c.bad("precision12.jpg", base[:sof + 4] + b"\x0c" + base[sof + 5:], "UNSUPPORTED")
    c.bad("lossless.jpg", base[:sof + 1] + b"\xc3" + base[sof + 2:], "UNSUPPORTED")


def cjpeg(a, *options):
    """Kinds that Pillow has no name for; cjpeg is libjpeg-turbo's own tool."""
    ppm = save(a, "PPM")
    return subprocess.run(["cjpeg", "-quality", "85", *options], input=ppm, stdout=subprocess.PIPE, check=True).stdout


def png_cases(c):
    rng = np.random.default_rng(5)
    w, h = 19, 13
    for depth in (1, 2, 4, 8, 16):
        grey = rng.integers(0, 1 << depth, (h, w, 1))
        exp = np.rint(grey * 255.0 / ((1 << depth) - 1)).astype(np.uint8).repeat(3, 2)
        for i in (0, 1):
            c.ok(f"grey{depth}{'_interlaced' * i}.png", png(grey, depth, 0, interlace=i), exp,
                 note="16-bit grey is scaled, v/257 rounded" if depth == 16 else None)
        key = int(grey[3, 4, 0])
        exp_key = np.where(grey == key, 255, exp).astype(np.uint8)
        c.ok(f"grey{depth}_trns.png", png(grey, depth, 0, png_chunk(b"tRNS", struct.pack(">H", key))), exp_key, exp)
    for depth in (1, 2, 4, 8):
        n = 1 << depth
        pal = rng.integers(0, 256, (n, 3)).astype(np.uint8)
        idx = rng.integers(0, n, (h, w, 1))
        plte = png_chunk(b"PLTE", pal.tobytes())
        for i in (0, 1):
            c.ok(f"palette{depth}{'_interlaced' * i}.png", png(idx, depth, 3, plte, i), pal[idx[..., 0]])
        alpha = rng.integers(0, 256, n).astype(np.uint8)
        full = np.full(n, 255, np.uint8)
        full[:n - 1] = alpha[:n - 1]
        rgb = pal[idx[..., 0]]
        c.ok(f"palette{depth}_trns.png", png(idx, depth, 3, plte + png_chunk(b"tRNS", alpha[:n - 1].tobytes())),
             over_white(rgb, full[idx]), rgb)
    for depth in (8, 16):
        hi = 1 << depth
        for color, ch in ((2, 3), (4, 2), (6, 4)):
            a = rng.integers(0, hi, (h, w, ch))
            for i in (0, 1):
                c.ok(f"color{color}_{depth}{'_interlaced' * i}.png", png(a, depth, color, interlace=i))
        a = rng.integers(0, hi, (h, w, 3))
        a[2:5, 3:9] = a[2, 3]
        exp = (a >> (depth - 8)).astype(np.uint8)
        trns = png_chunk(b"tRNS", struct.pack(">HHH", *map(int, a[2, 3])))
        c.ok(f"rgb{depth}_trns.png", png(a, depth, 2, trns), np.where((a == a[2, 3]).all(-1, keepdims=True), 255, exp).astype(np.uint8),
             exp)
    s = np.arange(65536)
    pairs = np.stack([s & 255, 255 - (s & 255), s & 85, s >> 8], -1).reshape(256, 256, 4)
    c.ok("alpha_all_pairs.png", save(pairs.astype(np.uint8), "PNG", optimize=True), note="every colour with every alpha")
    rgb = scene(9, 6)
    for o in range(1, 9):
        c.ok(f"exif{o}.png", png(rgb, 8, 2, png_chunk(b"eXIf", exif_block(o, o % 2 == 0))))
    c.ok("exif_after_pixels.png", png(rgb, 8, 2, after=png_chunk(b"eXIf", exif_block(6))))
    c.ok("xmp8.png", png(rgb, 8, 2, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + (XMP % 8).encode())))
    raw = b"\nexif\n      32\n" + (b"Exif\0\0" + exif_block(6)).hex().encode() + b"\n"
    c.ok("exif_raw_profile.png", png(rgb, 8, 2, png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))))
    c.ok("gamma.png", png(rgb, 8, 2, png_chunk(b"gAMA", struct.pack(">I", 100000)) + png_chunk(b"bKGD", struct.pack(">HHH", 9, 9, 9))))
    c.ok("icc.png", png(rgb, 8, 2, png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"not a profile"))))
    b = io.BytesIO()
    Image.fromarray(rgb).save(b, "PNG", save_all=True, append_images=[Image.fromarray(255 - rgb)])
    c.ok("animated.png", b.getvalue())
    good = save(scene(30, 20), "PNG")
    parts = zlib.compress(png_rows(scene(30, 20), 8), 9)
    n = len(parts) // 3
    c.ok("split_idat.png", png(scene(30, 20), 8, 2, idat=parts[:n], after=png_chunk(b"IDAT", parts[n:2 * n]) + png_chunk(b"IDAT", b"") +
                               png_chunk(b"IDAT", parts[2 * n:])))
    c.ok("no_iend.png", good[:-12])
    c.ok("trailing.png", good + b"rubbish" * 9)
    c.ok("1x1.png", png(np.array([[[1, 2, 3]]]), 8, 2))
    c.ok("1x1_transparent.png", png(np.array([[[1, 2, 3, 0]]]), 8, 6))
    for k in (4, 8, 20, 33, 40, len(good) // 2, len(good) - 40, len(good) - 17):
        c.bad(f"truncated_{k}.png", good[:k], "FORMAT")
    at = good.index(b"IDAT") + 4
    for name, pos in (("ihdr", 23), ("idat", at + 30), ("idat_crc", len(good) - 14)):
        hurt = bytearray(good)
        hurt[pos] ^= 1
        c.bad(f"damaged_{name}.png", bytes(hurt), "FORMAT")
    c.bad("zlib_damaged.png", png(rgb, 8, 2, idat=zlib.compress(b"\0" * 2000)[:-9] + b"123456789"), "FORMAT")
    c.bad("adler_wrong.png", png(rgb, 8, 2, idat=zlib.compress(png_rows(rgb, 8))[:-4] + b"\1\2\3\4"), "FORMAT")
    c.bad("rows_missing.png", png(rgb, 8, 2, idat=zlib.compress(png_rows(rgb[:4], 8))), "FORMAT")
    c.bad("zero_width.png", png(rgb, 8, 2, size=(0, 6)), "FORMAT")
    c.bad("zero_height.png", png(rgb, 8, 2, size=(9, 0)), "FORMAT")
    c.bad("60000x60000.png", png(rgb, 8, 2, size=(60000, 60000)), "LIMIT")
    c.bad("70000x1.png", png(rgb, 8, 2, size=(70000, 1)), "LIMIT")
    c.bad("negative.png", png(rgb, 8, 2, size=(0xffffffff, 0xffffffff)), "LIMIT")
    c.bad("no_palette.png", png(np.zeros((4, 4, 1), int), 8, 3), "FORMAT")
    c.bad("depth3.png", png(np.zeros((4, 4, 1), int), 8, 0)[:24] + b"\3" + png(np.zeros((4, 4, 1), int), 8, 0)[25:], "FORMAT")
    c.bad("no_idat.png", good[:33] + png_chunk(b"IEND", b""), "FORMAT")


def webp_cases(c):
    a, t = scene(41, 27), scene(41, 27, 4)
    c.ok("lossy.webp", save(a, "WEBP", quality=70))
    c.ok("lossless.webp", save(a, "WEBP", lossless=True))
    c.ok("alpha_lossy.webp", save(t, "WEBP", quality=70), note="with a lossy alpha channel")
    c.ok("alpha_lossless.webp", save(t, "WEBP", lossless=True, exact=True))
    c.ok("1x1.webp", save(scene(1, 1), "WEBP", lossless=True))
    for o in range(1, 9):
        c.ok(f"exif{o}.webp", save(scene(9, 6), "WEBP", lossless=True, exif=b"Exif\0\0" + exif_block(o)))
    c.ok("xmp5.webp", save(scene(9, 6), "WEBP", lossless=True, xmp=(XMP % 5).encode()))
    frames = [Image.fromarray(scene(24, 16, 4, s)) for s in (1, 2)]
    b = io.BytesIO()
    frames[0].save(b, "WEBP", save_all=True, append_images=frames[1:], lossless=True, exact=True)
    anim = b.getvalue()
    c.ok("animated.webp", anim)
    b = io.BytesIO()
    opaque = [Image.fromarray(scene(24, 16, 3, s)) for s in (1, 2)]
    opaque[0].save(b, "WEBP", save_all=True, append_images=opaque[1:], lossless=True)
    c.ok("animated_opaque.webp", b.getvalue())
    at = anim.index(b"ANMF")
    grown = bytearray(anim)
    grown[24:30] = (39).to_bytes(3, "little") + (29).to_bytes(3, "little")
    grown[at + 8:at + 14] = (3).to_bytes(3, "little") + (5).to_bytes(3, "little")
    c.ok("animated_offset.webp", bytes(grown), note="canvas 40x30, first frame at (6, 10)")
    grown[20] &= ~0x10
    c.ok("animated_offset_no_alpha.webp", bytes(grown), note="the same without the alpha flag")
    good = save(a, "WEBP", quality=70)
    for n in (11, 20, 30, len(good) // 2, len(good) - 2):
        c.bad(f"truncated_{n}.webp", good[:n], "FORMAT")
    hurt = bytearray(save(a, "WEBP", lossless=True))
    hurt[40:60] = b"\xff" * 20
    c.bad("damaged.webp", bytes(hurt), "FORMAT")
    c.bad("no_frames.webp", b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10), "FORMAT")


def gif_cases(c):
    rng = np.random.default_rng(7)
    a = rng.integers(0, 16, (14, 22)).astype(np.uint8)
    small = rng.integers(0, 16, (6, 9)).astype(np.uint8)
    c.ok("plain.gif", gif([gif_frame(a)], 22, 14))
    c.ok("gif87a.gif", gif([gif_frame(a)], 22, 14, version=b"GIF87a"))
    c.ok("pillow.gif", save(Image.fromarray(scene(50, 40)).quantize(60), "GIF"))
    c.ok("grey.gif", save(scene(40, 30, 1), "GIF"))
    c.ok("interlaced.gif", gif([gif_frame(a, interlace=True)], 22, 14))
    c.ok("transparent.gif", gif([gif_frame(a, transparent=3)], 22, 14))
    c.ok("local_palette.gif", gif([gif_frame(a, local=GIF_PALETTE[::-1])], 22, 14))
    c.ok("only_local_palette.gif", gif([gif_frame(a, local=GIF_PALETTE[::-1])], 22, 14, palette=None))
    c.ok("local_transparent.gif", gif([gif_frame(a, local=GIF_PALETTE[::-1], transparent=7)], 22, 14))
    c.ok("animated.gif", gif([gif_frame(a), gif_frame(small, 3, 4, transparent=2)], 22, 14))
    c.ok("offset.gif", gif([gif_frame(small, 5, 7)], 22, 14, background=6))
    c.ok("offset_background0.gif", gif([gif_frame(small, 5, 7)], 22, 14))
    c.ok("offset_transparent.gif", gif([gif_frame(small, 5, 7, transparent=3)], 22, 14, background=6))
    c.ok("palette_short.gif", gif([gif_frame(a, local=GIF_PALETTE[:24])], 22, 14), note="indices beyond the palette")
    c.ok("comment.gif", gif([b"!\xfe\5hello\0", b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0", gif_frame(a)], 22, 14))
    c.ok("no_trailer.gif", gif([gif_frame(a)], 22, 14, trailer=b""))
    good = gif([gif_frame(a)], 22, 14)
    c.bad("no_frames.gif", gif([], 22, 14), "FORMAT")
    c.bad("header_only.gif", good[:13], "FORMAT")
    for n in (8, 40, 70, len(good) // 2, len(good) - 30):
        c.bad(f"truncated_{n}.gif", good[:n], "FORMAT")
    c.ok("zero_width.gif", gif([gif_frame(a)], 0, 0), note="the canvas grows to the frame")
    c.ok("frame_over_edge.gif", gif([gif_frame(a, 3, 2)], 22, 14))
    c.ok("no_palette.gif", gif([gif_frame(a)], 22, 14, palette=None))
    c.bad("empty_frame.gif", gif([gif_frame(a)], 22, 14).replace(struct.pack("<HHHH", 0, 0, 22, 14), bytes(8)), "FORMAT")
    c.bad("65535x65535.gif", gif([gif_frame(a)], 65535, 65535), "LIMIT")


def bmp_cases(c):
    rng = np.random.default_rng(8)
    w, h = 13, 9
    for bits in (1, 4, 8):
        n = 1 << bits
        idx = rng.integers(0, n, (h, w, 1))
        pal = b"".join(bytes(rng.integers(0, 256, 3).astype(np.uint8)) + b"\0" for _ in range(n))
        rows = png_rows(idx[::-1], bits)
        pitch = len(rows) // h
        body = padded([rows[i * pitch + 1:(i + 1) * pitch] for i in range(h)])
        c.ok(f"palette{bits}.bmp", bmp(body, w, h, bits, palette=pal))
        if bits == 8:
            c.ok("top_down.bmp", bmp(padded([idx[i].astype(np.uint8).tobytes() for i in range(h)]), w, -h, 8, palette=pal))
            pal3 = b"".join(pal[i * 4:i * 4 + 3] for i in range(n))
            c.ok("os2.bmp", bmp(body, w, h, 8, palette=pal3, header=12))
            rle = b"".join(b"".join(b"\1" + bytes([int(v)]) for v in idx[h - 1 - i, :, 0]) + b"\0\0" for i in range(h)) + b"\0\1"
            c.ok("rle8.bmp", bmp(rle, w, h, 8, 1, palette=pal))
            few = pal[:4 * 40]
            c.ok("palette_short.bmp", bmp(padded([(idx[i, :, 0] % 40).astype(np.uint8).tobytes() for i in range(h)]), w, h, 8, palette=few,
                                          colors=40))
    rgb = scene(w, h)
    good = save(rgb, "BMP")
    c.ok("rgb24.bmp", good)
    rows32 = np.concatenate([rgb[::-1, :, ::-1], rng.integers(0, 256, (h, w, 1)).astype(np.uint8)], 2)
    c.ok("rgb32.bmp", bmp(rows32.tobytes(), w, h, 32), note="the fourth byte is not alpha")
    c.ok("rgba_masks.bmp", bmp(rows32.tobytes(), w, h, 32, 3, masks=struct.pack("<IIII", 0xff0000, 0xff00, 0xff, 0xff000000), header=108))
    c.ok("rgbx_masks.bmp", bmp(rows32.tobytes(), w, h, 32, 3, masks=struct.pack("<III", 0xff0000, 0xff00, 0xff)))
    v16 = rng.integers(0, 1 << 15, (h, w)).astype("<u2")
    c.ok("rgb555.bmp", bmp(padded([r.tobytes() for r in v16]), w, h, 16))
    v16 = rng.integers(0, 1 << 16, (h, w)).astype("<u2")
    c.ok("rgb565.bmp", bmp(padded([r.tobytes() for r in v16]), w, h, 16, 3, masks=struct.pack("<III", 0xf800, 0x7e0, 0x1f)))
    for n in (10, 26, 54, len(good) // 2, len(good) - 10):
        c.bad(f"truncated_{n}.bmp", good[:n], "FORMAT")
    c.bad("zero_width.bmp", bmp(b"", 0, 9, 24), "FORMAT")
    c.bad("60000x60000.bmp", bmp(b"", 60000, 60000, 24), "LIMIT")
    c.bad("min_height.bmp", bmp(b"", 10, -2147483648, 24), "LIMIT")


def tiff_cases(c):
    rng = np.random.default_rng(9)
    w, h = 21, 12
    rgb, grey = scene(w, h), scene(w, h, 1)
    for comp in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        c.ok(f"rgb_{comp}.tif", save(rgb, "TIFF", compression=comp))
    c.ok("grey.tif", save(grey, "TIFF"))
    c.ok("palette.tif", save(Image.fromarray(rgb).quantize(30), "TIFF"))
    c.ok("bilevel.tif", save(Image.fromarray(grey[..., 0]).convert("1"), "TIFF"))
    c.ok("bilevel_g4.tif", save(Image.fromarray(grey[..., 0]).convert("1"), "TIFF", compression="group4"))
    c.ok("rgba.tif", save(scene(w, h, 4), "TIFF"))
    for o in range(1, 9):
        c.ok(f"orientation{o}.tif", save(scene(9, 6), "TIFF", tiffinfo={274: o}))
    for big in (False, True):
        e = "be" if big else "le"
        c.ok(f"rgb_{e}.tif", tiff(rgb.tobytes(), tiff_tags(w, h, 8, 2, 3), big))
        c.ok(f"min_is_white_{e}.tif", tiff(grey.tobytes(), tiff_tags(w, h, 8, 0), big))
        g16 = rng.integers(0, 65536, (h, w)).astype(">u2" if big else "<u2")
        c.ok(f"grey16_{e}.tif", tiff(g16.tobytes(), tiff_tags(w, h, 16, 1), big), np.rint(g16 / 257.0).astype(np.uint8)[..., None].repeat(3, 2),
             note="16-bit grey is scaled, v/257 rounded")
        r16 = rng.integers(0, 65536, (h, w, 3)).astype(">u2" if big else "<u2")
        c.ok(f"rgb16_{e}.tif", tiff(r16.tobytes(), tiff_tags(w, h, 16, 2, 3), big), (r16 >> 8).astype(np.uint8), note="high byte")
    a = scene(w, h, 4)
    pre = a.copy()
    pre[..., :3] = (a[..., :3].astype(int) * a[..., 3:] + 127) // 255
    c.ok("alpha_straight.tif", tiff(a.tobytes(), tiff_tags(w, h, 8, 2, 4, t338=(3, [2]))))
    c.ok("alpha_premultiplied.tif", tiff(pre.tobytes(), tiff_tags(w, h, 8, 2, 4, t338=(3, [1]))))
    c.ok("alpha_unspecified.tif", tiff(a.tobytes(), tiff_tags(w, h, 8, 2, 4, t338=(3, [0]))))
    b = io.BytesIO()
    Image.fromarray(rgb).save(b, "TIFF", save_all=True, append_images=[Image.fromarray(255 - rgb)])
    c.ok("two_pages.tif", b.getvalue())
    c.ok("strips.tif", save(scene(60, 90), "TIFF", compression="tiff_lzw", tiffinfo={278: 8}))
    c.ok("predictor.tif", save(rgb, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}))
    cm = Image.fromarray(scene(w, h, 4), "CMYK")
    c.bad("jpeg_inside.tif", save(rgb, "TIFF", compression="jpeg"), "UNSUPPORTED")
    c.ok("cmyk.tif", save(cm, "TIFF"))
    c.ok("planar.tif", tiff_planar(rgb))
    c.bad("tiled.tif", tiff_tiled(scene(37, 21)), "UNSUPPORTED")
    hurt = bytearray(save(rgb, "TIFF", compression="tiff_lzw"))
    hurt[40:60] = b"\xff" * 20
    c.bad("damaged_lzw.tif", bytes(hurt), "FORMAT")
    hurt = bytearray(save(rgb, "TIFF", compression="tiff_adobe_deflate"))
    hurt[60:64] = b"\xff" * 4
    c.bad("damaged_deflate.tif", bytes(hurt), "FORMAT")
    c.bad("ycbcr.tif", tiff(rgb.tobytes(), tiff_tags(w, h, 8, 6, 3)), "UNSUPPORTED")
    c.bad("lab.tif", tiff(rgb.tobytes(), tiff_tags(w, h, 8, 8, 3)), "UNSUPPORTED")
    good = save(rgb, "TIFF", compression="raw")
    first = tiff(rgb.tobytes(), tiff_tags(w, h, 8, 2, 3))
    for n in (6, 8, 100, len(first) // 2):
        c.bad(f"truncated_{n}.tif", first[:n], "FORMAT")
    front = good[:len(good) - 100]
    c.bad("truncated_strip.tif", front, "FORMAT")
    c.bad("zero_width.tif", tiff(rgb.tobytes(), tiff_tags(0, h, 8, 2, 3)), "FORMAT")
    c.bad("60000x60000.tif", tiff(rgb.tobytes(), tiff_tags(60000, 60000, 8, 2, 3)), "LIMIT")
    c.bad("float.tif", save(Image.fromarray(grey[..., 0]).convert("F"), "TIFF"), "UNSUPPORTED")
    c.bad("big.tif", b"II+\0\x08\0\0\0" + bytes(24), "UNSUPPORTED")


def other_cases(c):
    import pillow_heif
    rng = np.random.default_rng(10)
    w, h = 12, 7
    rgb, grey, bit = scene(w, h), scene(w, h, 1), rng.integers(0, 2, (h, w))
    c.ok("p6.ppm", save(rgb, "PPM"))
    c.ok("p5.pgm", save(grey, "PPM"))
    c.ok("p4.pbm", save(Image.fromarray(grey[..., 0]).convert("1"), "PPM"))
    text = lambda a: "\n".join(" ".join(map(str, r)) for r in a.reshape(h, -1))
    c.ok("p3.ppm", f"P3 # comment\n{w} {h}\n# another\n255\n{text(rgb)}\n".encode())
    c.ok("p2.pgm", f"P2\n{w} {h}\n255\n{text(grey)}\n".encode())
    c.ok("p1.pbm", f"P1\n{w} {h}\n{text(bit)}\n".encode())
    c.ok("p1_dense.pbm", f"P1\n{w} {h}\n{text(bit).replace(' ', '')}\n".encode())
    c.ok("p5_max100.pgm", b"P5\n%d %d\n100\n" % (w, h) + (grey // 3).tobytes())
    g16 = rng.integers(0, 65536, (h, w)).astype(">u2")
    c.ok("p5_16.pgm", b"P5\n%d %d\n65535\n" % (w, h) + g16.tobytes(), np.rint(g16 / 257.0).astype(np.uint8)[..., None].repeat(3, 2),
         note="16-bit grey is scaled")
    c.bad("p6_short.ppm", save(rgb, "PPM")[:-1], "FORMAT")
    c.ok("p5_above_max.pgm", b"P5\n2 1\n100\n\x64\x65")
    c.bad("p2_above_max.pgm", b"P2\n2 1\n100\n100 101\n", "FORMAT")
    c.bad("p6_zero.ppm", b"P6\n0 5\n255\n", "FORMAT")
    c.bad("p6_60000.ppm", b"P6\n60000 60000\n255\n", "LIMIT")
    c.bad("p6_header.ppm", b"P6\n6 ", "FORMAT")
    c.ok("rgb.qoi", qoi(rgb), rgb)
    a = scene(w, h, 4)
    c.ok("rgba.qoi", qoi(a), over_white(a[..., :3], a[..., 3:]), a[..., :3])
    flat = np.asarray(Image.fromarray(scene(40, 30)).filter(ImageFilter.GaussianBlur(3)).quantize(200).convert("RGB"))
    c.ok("packed.qoi", save(flat, "QOI"))
    c.ok("packed_alpha.qoi", save(np.concatenate([flat, flat[..., :1]], 2), "QOI"))
    c.bad("truncated.qoi", qoi(rgb)[:60], "FORMAT")
    c.bad("60000.qoi", b"qoif" + struct.pack(">IIBB", 60000, 60000, 3, 0) + bytes(16), "LIMIT")

    smooth = np.asarray(Image.fromarray(scene(8, 6)).resize((64, 48), Image.BICUBIC))
    for name, kw in (("444.avif", {"subsampling": "4:4:4"}), ("420.avif", {"subsampling": "4:2:0"}), ("422.avif", {"subsampling": "4:2:2"})):
        c.near(name, save(smooth, "AVIF", quality=90, speed=10, **kw))
    c.ok("grey.avif", save(smooth[..., :1], "AVIF", quality=90, speed=10))
    al = np.concatenate([smooth, smooth[..., :1]], 2)
    c.near("alpha.avif", save(al, "AVIF", quality=100, subsampling="4:4:4", speed=10))
    for o in (6, 7):
        c.near(f"exif{o}.avif", save(smooth, "AVIF", quality=90, subsampling="4:4:4", speed=10, exif=b"Exif\0\0" + exif_block(o)))
    good = save(smooth, "AVIF", quality=50, speed=10)
    for n in (10, 100, len(good) // 2):
        c.bad(f"truncated_{n}.avif", good[:n], "FORMAT")

    def heic(a, **kw):
        b = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(a)).save(b, quality=90, **kw)
        return b.getvalue()
    for name, chroma in (("444.heic", 444), ("420.heic", 420)):
        good = heic(smooth, chroma=chroma)
        c.near(name, good, np.asarray(pillow_heif.open_heif(io.BytesIO(good)).to_pillow().convert("RGB")))
    turned = heic(smooth, exif=b"Exif\0\0" + exif_block(6))
    c.near("exif6.heic", turned, np.asarray(pillow_heif.open_heif(io.BytesIO(turned)).to_pillow().convert("RGB")))
    c.bad("truncated.heic", good[:len(good) // 2], "FORMAT")
    c.bad("video.mp4", struct.pack(">I", 24) + b"ftypisom" + bytes(4) + b"isommp42" + bytes(50), "UNSUPPORTED")
    c.bad("empty.png", b"", "FORMAT")
    c.bad("one_byte.jpg", b"\xff", "FORMAT")
    c.bad("text.jpg", b"This is not a picture.\n" * 20, "FORMAT")
    c.bad("html.png", b"<!DOCTYPE html><html><body>404</body></html>", "FORMAT")
    c.bad("random.bin", np.random.default_rng(1).integers(0, 256, 3000).astype(np.uint8).tobytes(), "FORMAT")
    c.bad("zeros.bin", bytes(2000), "FORMAT")
    c.bad("document.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "UNSUPPORTED")
    c.bad("codestream.j2k", save(smooth, "JPEG2000", no_jp2=True)[:300], "UNSUPPORTED")
    c.bad("photo.jxl", b"\xff\x0a" + bytes(60), "UNSUPPORTED")


def build():
    c = Cases()
    for f in (jpeg_cases, png_cases, webp_cases, gif_cases, bmp_cases, tiff_cases, other_cases):
        f(c)
    names = [e[0] for e in c.list]
    assert len(names) == len(set(names)), "duplicate names"
    return c.list


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../../tests/data/images")
    os.makedirs(out, exist_ok=True)
    index = []
    for name, data, entry, rgb, _ in build():
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)
        if "rgb_file" in entry:
            with open(os.path.join(out, entry["rgb_file"]), "wb") as f:
                f.write(rgb.tobytes())
        index.append(entry)
    with open(os.path.join(out, "index.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in index) + "\n]\n")


if __name__ == "__main__":
    main()
