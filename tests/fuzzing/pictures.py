"""Mutated pictures, and their shades."""

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.fuzzing.mutations import BLIND, INTERESTING, changed, put

_FORMS = (
    ("PNG", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("JPEG", ("L", "RGB", "CMYK")),
    ("GIF", ("L", "P", "RGB")),
    ("BMP", ("1", "L", "P", "RGB")),
    ("TIFF", ("1", "L", "RGB", "RGBA", "I;16", "I", "F")),
    ("WEBP", ("RGB", "RGBA")),
    ("PPM", ("1", "L", "RGB", "I")),
)
_OFTEN = ("PNG", "PNG", "PNG", "JPEG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def _picture(random: Random) -> tuple[str, bytes]:
    """A small picture in one of the formats and modes, now and then turned by its EXIF data or of several frames."""
    form = random.choice(_OFTEN)
    mode = random.choice(dict(_FORMS)[form])
    width, height = random.randint(1, 9), random.randint(1, 9)
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": "<u2", "I": "<i4", "F": "<f4"}[mode]
        most = 65535 if mode != "F" else 1
        values = [[random.randint(0, most) for _ in range(width)] for _ in range(height)]
        picture = Image.fromarray(np.array(values, dtype))
    else:
        source = Image.frombytes("RGBA", (width, height), random.randbytes(4 * width * height))
        picture = source.convert(mode)
    settings: dict[str, object] = {}
    if form in ("JPEG", "PNG", "WEBP", "TIFF") and random.random() < 0.2:
        exif = Image.Exif()
        exif[0x0112] = random.randint(1, 8)  # how the picture is turned
        exif[0x010E] = "a picture"
        settings["exif"] = exif
    if form in ("GIF", "WEBP") and random.random() < 0.3:
        settings |= {"save_all": True, "append_images": [picture.transpose(Image.Transpose.ROTATE_180)]}
    if form == "PNG" and mode in ("P", "L", "RGB") and random.random() < 0.3:
        settings["transparency"] = (1, 2, 3) if mode == "RGB" else 1
    if form == "TIFF" and mode not in ("I;16", "I", "F") and random.random() < 0.5:
        settings["compression"] = random.choice(("tiff_lzw", "tiff_adobe_deflate", "packbits"))
    stream = io.BytesIO()
    picture.save(stream, form, **settings)
    return f"{form} {mode}", stream.getvalue()


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG by kind, as far as their lengths lead."""
    found, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


_OTHERS = (
    (b"tEXt", b"Comment\0hello"),
    (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21))),
    (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"hello")),
    (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
    (b"gAMA", b"\0\0\0\0"),
    (b"tRNS", b"\0\0"),
    (b"acTL", b"\0\0\0\2\0\0\0\0"),
    (b"iCCP", b"icc\0\0" + zlib.compress(bytes(100))),
    (b"PLTE", b"\1\2\3" * 4),
    (b"IDAT", b""),
    (b"oUCH", b""),
    (b"OUCH", b"must be understood"),
    (b"IEND", b""),
)


def _change_chunk(random: Random, content: bytearray) -> str:
    """A chunk of a PNG is another, with the right checksum."""
    chunks = _chunks(bytes(content))
    if content[:4] != b"\x89PNG" or not chunks:
        return _change_header(random, content)
    number = random.randrange(len(chunks))
    kind, body = chunks[number]
    what = random.choice(("bytes", "bytes", "pixels", "pixels", "size", "depth", "removed", "again", "moved", "other"))
    if what == "bytes":
        new = bytearray(body)
        what = random.choice(BLIND)(random, new)
        chunks[number] = kind, bytes(new)
    elif what == "pixels":
        pixels = b"".join(body for kind, body in chunks if kind == b"IDAT")
        try:
            raw = bytearray(zlib.decompress(pixels))
        except zlib.error:
            return "no pixels to change"
        what = "pixels: " + random.choice(BLIND)(random, raw)
        first = next(i for i, (kind, _) in enumerate(chunks) if kind == b"IDAT")
        chunks = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
        chunks.insert(first, (b"IDAT", zlib.compress(raw)))
    elif what in ("size", "depth"):
        header = bytearray(chunks[0][1].ljust(13, b"\0"))
        if what == "size":
            value = random.choice((0, 1, 2, 3, 8, 10, *INTERESTING))
            struct.pack_into(">I", header, random.choice((0, 4)), value % 2**32)
        else:
            header[random.randrange(8, 13)] = random.choice((0, 1, 2, 3, 4, 6, 8, 16, 32, 255))
        chunks[0] = chunks[0][0], bytes(header)
        what += f" {header.hex(' ')}"
    elif what == "removed":
        del chunks[number]
    elif what == "again":
        chunks.insert(number, chunks[number])
    elif what == "moved":
        chunks.insert(random.randrange(len(chunks)), chunks.pop(number))
    else:
        chunks.insert(number, random.choice(_OTHERS))
        what = f"a chunk {chunks[number][0]!r} before it"
    content[:] = _png(chunks)
    return f"chunk {number} {kind!r}: {what}"


def _change_header(random: Random, content: bytearray) -> str:
    """A number near the beginning, where the sizes of a picture stand."""
    beginning = bytearray(content[:64])
    what = random.choice((*BLIND[:5],))(random, beginning)
    content[: min(64, len(content))] = beginning
    return f"beginning: {what}"


def picture_bomb(random: Random, path: Path) -> list[str]:
    """A picture of one colour that is small in its file and enormous in memory."""
    side = random.choice((5700, 9400, 12_000, 30_000))  # allowed; not; of which Pillow warns; which it refuses
    bits, mode = random.choice(((1, 0), (8, 6))) if side < 9000 else (1, 0)
    content, mutation = enormous_picture(side, bits=bits, mode=mode)
    path.write_bytes(content)
    return [mutation]


def enormous_picture(side: int, *, bits: int, mode: int) -> tuple[bytes, str]:
    """A PNG file of one colour, and what it is."""
    header = struct.pack(">2I5B", side, side, bits, mode, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(1 + (side * (32 if mode else 1) + 7) // 8)
    pixels = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    content = _png([(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")])
    return content, f"bomb of {side} × {side} pixels, {bits} bits, mode {mode}"


def mutate_picture(random: Random, path: Path) -> list[str]:
    form, content = _picture(random)
    done: list[str] = []
    # Numbers of 32 bits are no shades: their files may be refused as they are.
    if random.random() < 0.97 or form in ("TIFF I", "TIFF F"):
        done.append(form)
        content = changed(random, content, (*BLIND, *[_change_chunk] * 12), done)
    return put(random, path, content, done)


def picture_oracle(colour: bool):
    """The first frame by Pillow, upright, over white paper, in floating point."""

    def oracle(path: Path) -> np.ndarray:
        # Not by its path: what Pillow maps into memory, it scrambles where EXIF has it turned.
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            file.load()
            turned = file.getexif().get(0x0112)
            if file.mode.startswith("I"):  # 16 bits; Pillow widens those of PPM
                if file.format == "TIFF":
                    assert (file.tag_v2[258], file.tag_v2[262]) == ((16,), 1), "not 16 bits of which 0 is black"
                values = np.asarray(file).astype(np.float64)
                clear = values == file.info.get("transparency")
                values = np.where(clear, 1, values / 65535)[..., None].repeat(4, axis=-1)
                values[..., 3] = 1
            else:
                assert file.mode != "F", "floating point has no white"
                values = np.asarray(file.convert("RGBA")).astype(np.float64) / 255
        values = _upright(values, turned)
        shades = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
        return (shades if colour else shades @ (0.299, 0.587, 0.114)).astype(np.float32)

    return oracle


def _upright(values: np.ndarray, turned: object) -> np.ndarray:
    """EXIF's eight ways to store a picture: row 0 is its top, bottom, left or right."""
    if turned in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if turned in (2, 3, 6, 7):
        values = values[:, ::-1]
    if turned in (3, 4, 7, 8):
        values = values[::-1]
    return values
