"""Writers for picture files that Pillow does not write: odd depths, odd headers, deliberately wrong fields."""
import struct
import zlib

import numpy as np


def png_chunk(kind, body, crc=None):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)


def png_rows(a, depth):
    """[h][w][c] samples -> filtered rows (filter 0)."""
    h, w, c = a.shape
    flat = a.reshape(h, w * c)
    if depth == 16:
        body = flat.astype(">u2").view(np.uint8).reshape(h, -1)
    elif depth == 8:
        body = flat.astype(np.uint8)
    else:
        bits = (flat[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        body = np.packbits(bits.reshape(h, -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + r.tobytes() for r in body)


def png(a, depth, color, before=b"", interlace=0, after=b"", idat=None, size=None):
    """PNG from [h][w][channels] samples; `before` and `after` are whole chunks around the pixels."""
    h, w, _ = a.shape
    if interlace:
        steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        raw = b"".join(png_rows(a[y::dy, x::dx], depth) for x, y, dx, dy in steps if a[y::dy, x::dx].size)
    else:
        raw = png_rows(a, depth)
    sw, sh = size or (w, h)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", sw, sh, depth, color, 0, 0, interlace)) + before + \
        png_chunk(b"IDAT", zlib.compress(raw, 9) if idat is None else idat) + after + png_chunk(b"IEND", b"")


def lzw_clear_codes(indices, bits):
    """GIF LZW that never grows its table: a clear code in front of every few literals."""
    clear, acc, n, out = 1 << bits, 0, 0, bytearray()
    codes = []
    for i, v in enumerate(indices):
        if i % ((1 << bits) - 2) == 0:
            codes.append(clear)
        codes.append(v)
    codes.append(clear + 1)
    for c in codes:
        acc |= c << n
        n += bits + 1
        while n >= 8:
            out.append(acc & 255)
            acc >>= 8
            n -= 8
    if n:
        out.append(acc & 255)
    blocks = b"".join(bytes([len(out[i:i + 255])]) + bytes(out[i:i + 255]) for i in range(0, len(out), 255))
    return bytes([bits]) + blocks + b"\0"


def gif_frame(a, left=0, top=0, transparent=None, local=None, interlace=False, disposal=0):
    h, w = a.shape
    out = b""
    if transparent is not None or disposal:
        out += b"!\xf9\4" + bytes([(transparent is not None) | disposal << 2, 5, 0, transparent or 0, 0])
    flags = (0x80 | (len(local) // 3 - 1).bit_length() - 1 if local else 0) | (0x40 if interlace else 0)
    out += b"," + struct.pack("<HHHHB", left, top, w, h, flags) + (local or b"")
    rows = [*range(0, h, 8), *range(4, h, 8), *range(2, h, 4), *range(1, h, 2)] if interlace else range(h)
    return out + lzw_clear_codes([int(v) for r in rows for v in a[r]], 4)


GIF_PALETTE = bytes((i * 37 + c * 91) & 255 for i in range(16) for c in range(3))


def gif(frames, w, h, background=0, palette=GIF_PALETTE, version=b"GIF89a", trailer=b";"):
    flags = 0x70 | (0x83 if palette else 0)
    return version + struct.pack("<HHBBB", w, h, flags, background, 0) + (palette or b"") + b"".join(frames) + trailer


def bmp(rows, w, h, bits, compression=0, palette=b"", masks=b"", header=40, colors=0):
    """`rows` are encoded bottom-up (top-down for negative h) and padded."""
    if header == 12:
        info = struct.pack("<IHHHH", 12, w, h, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, w, h, 1, bits, compression, len(rows), 2835, 2835, colors, 0)
        if header > 40:
            info = (info + masks).ljust(header, b"\0")
            masks = b""
    off = 14 + len(info) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", off + len(rows), 0, 0, off) + info + masks + palette + rows


def padded(rows):
    return b"".join(r + b"\0" * (-len(r) % 4) for r in rows)


def tiff_planar(rgb):
    """One strip per colour."""
    h, w, _ = rgb.shape
    t = tiff_tags(w, h, 8, 2, 3, t284=(3, [2]))
    t[273], t[279] = (4, [8 + i * w * h for i in range(3)]), (4, [w * h] * 3)
    return tiff(rgb.transpose(2, 0, 1).tobytes(), t)


def tiff_tiled(rgb, size=16):
    h, w, _ = rgb.shape
    rows, cols = -(-h // size), -(-w // size)
    full = np.zeros((rows * size, cols * size, 3), np.uint8)
    full[:h, :w] = rgb
    data = full.reshape(rows, size, cols, size, 3).transpose(0, 2, 1, 3, 4).tobytes()
    n, each = rows * cols, size * size * 3
    t = tiff_tags(w, h, 8, 2, 3, t322=(3, [size]), t323=(3, [size]), t324=(4, [8 + i * each for i in range(n)]), t325=(4, [each] * n))
    del t[278]
    return tiff(data, t, strips=False)


def tiff(a, tags, big=False, strips=True):
    """Uncompressed one-strip TIFF; a is the byte string of the strip, tags {number: (type, values)}."""
    o = ">" if big else "<"
    tags = dict(tags)
    strip_at = 8
    if strips:
        tags.setdefault(273, (4, [strip_at]))
        tags.setdefault(279, (4, [len(a)]))
    ifd_at = strip_at + len(a) + len(a) % 2
    extra_at = ifd_at + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for t in sorted(tags):
        kind, values = tags[t]
        fmt = {3: "H", 4: "I", 5: "I"}[kind]
        body = struct.pack(o + fmt * len(values), *values)
        count = len(values) // (2 if kind == 5 else 1)
        if len(body) > 4:
            entries += struct.pack(o + "HHII", t, kind, count, extra_at + len(extra))
            extra += body
        else:
            entries += struct.pack(o + "HHI", t, kind, count) + body.ljust(4, b"\0")
    return (b"MM\0*" if big else b"II*\0") + struct.pack(o + "I", ifd_at) + a.ljust(ifd_at - 8, b"\0") + \
        struct.pack(o + "H", len(tags)) + entries + b"\0\0\0\0" + extra


def tiff_tags(w, h, bits, photometric, samples=1, **more):
    t = {256: (4, [w]), 257: (4, [h]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [photometric]), 277: (3, [samples]),
         278: (4, [h])}
    t.update({int(k[1:]): v for k, v in more.items()})
    return t


def with_app1(jpeg, body):
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]




def qoi(a):
    """QOI of plain RGB(A) chunks only."""
    h, w, ch = a.shape
    body = b"".join((b"\xfe" if ch == 3 else b"\xff") + p.tobytes() for p in a.reshape(-1, ch))
    return b"qoif" + struct.pack(">IIBB", w, h, ch, 0) + body + bytes(7) + b"\1"
