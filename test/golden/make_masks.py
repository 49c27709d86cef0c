"""Palette PNGs as labelling tools write them, labels being indices: test/golden/masks/.

    python test/golden/make_masks.py test/golden/masks

8 x 1 pixels of the indices 0 1 2 3 1 0 0 3, and of 0 1 0 0 1 0 0 0 in white_first.png, 0 1 0 1 1 0 0 1 in bits1.png.
Pillow reads all of them back as these indices; index 2 is black like the background.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

PALETTE = [0, 0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 220]
LABELS = [0, 1, 2, 3, 1, 0, 0, 3]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)

    def save(name: str, labels: list[int], palette: list[int], **options) -> None:
        image = Image.fromarray(np.array([labels], np.uint8), mode="P")
        image.putpalette(palette)
        image.save(folder / name, **options)

    save("bits8.png", LABELS, PALETTE + [0] * (768 - len(PALETTE)), bits=8)
    save("bits4.png", LABELS, PALETTE, bits=4, transparency=0)
    save("bits2.png", LABELS, PALETTE, bits=2)
    save("bits1.png", [0, 1, 0, 1, 1, 0, 0, 1], PALETTE[:6], bits=1)
    save("white_first.png", [0, 1, 0, 0, 1, 0, 0, 0], [255, 255, 255, 0, 0, 0], bits=8)
    # Adam7: of 8 x 1 pixels pass 1 has x = 0, pass 2 x = 4, pass 4 x = 2 and 6, pass 6 the odd ones.
    rows = [LABELS[0:1], LABELS[4:5], LABELS[2::4], LABELS[1::2]]
    body = b"".join(b"\0" + bytes(row) for row in rows)
    header = struct.pack(">IIBBBBB", 8, 1, 8, 3, 0, 0, 1)
    parts = [(b"IHDR", header), (b"PLTE", bytes(PALETTE)), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)
    (folder / "interlaced.png").write_bytes(data)
    for name in ["bits8", "bits4", "bits2", "interlaced"]:
        assert np.array(Image.open(folder / f"{name}.png")).tolist() == [LABELS], name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
