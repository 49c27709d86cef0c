"""Small TIFF and BMP files of every kind, with the samples that Pillow, SimpleITK or OpenCV reads from them: test/golden/tiff_bmp/.

    python test/golden/make_tiff_bmp_golden.py test/golden/tiff_bmp

golden.json: for each file its size (x, y, pages), channels, and the samples (x fastest, then y, page, channel R, G, B),
without transparency. BMPs that Pillow does not write are built here by hand, and read back by Pillow where it can.
"""

import json
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from PIL import Image

rng = np.random.default_rng(7)
GREY = rng.integers(0, 256, (5, 7), dtype=np.uint8)
RGB = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
INDEX = rng.integers(0, 4, (5, 7), dtype=np.uint8)
PALETTE = [0, 0, 0, 200, 10, 20, 30, 220, 40, 250, 240, 60]

expected: dict[str, np.ndarray] = {}


def tiffs(folder: Path) -> None:
    def save(name: str, image: Image.Image, want: np.ndarray, **options) -> None:
        image.save(folder / name, **options)
        expected[name] = want

    for compression in ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        save(f"grey8_{compression}.tif", Image.fromarray(GREY), GREY, compression=compression)
    save("rgb8.tif", Image.fromarray(RGB), RGB)
    save("rgba8.tif", Image.fromarray(np.dstack([RGB, GREY])), RGB)
    bits = (GREY > 128).astype(np.uint8) * 255
    save("bits1.tif", Image.fromarray(bits).convert("1"), bits, compression="group4")
    deep = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
    save("grey16.tif", Image.fromarray(deep), deep)
    whole = rng.integers(-(2**20), 2**20, (5, 7), dtype=np.int32)
    save("int32.tif", Image.fromarray(whole, mode="I"), whole)
    real = rng.normal(0, 1000, (5, 7)).astype(np.float32)
    save("float32.tif", Image.fromarray(real), real)
    palette = Image.fromarray(INDEX, mode="P")
    palette.putpalette(PALETTE)
    save("palette.tif", palette, np.array(palette.convert("RGB")))
    # Grey whose 0 is white: libtiff's other way of saying black and white; every reader turns it.
    Image.fromarray(GREY).save(folder / "white_is_zero.tif", tiffinfo={262: 0})
    expected["white_is_zero.tif"] = np.array(Image.open(folder / "white_is_zero.tif"))

    def itk(name: str, array: np.ndarray) -> None:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / name))
        expected[name] = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name)))

    itk("int16.tif", rng.integers(-1024, 3000, (5, 7), dtype=np.int16))
    itk("int8.tif", rng.integers(-128, 128, (5, 7), dtype=np.int8))
    itk("stack16.tif", rng.integers(0, 65536, (3, 5, 7), dtype=np.uint16))
    itk("stack_int16.tif", rng.integers(-1024, 3000, (3, 5, 7), dtype=np.int16))
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[:3, :4].copy())]
    pages[0].save(folder / "odd_pages.tif", save_all=True, append_images=pages[1:])
    expected["odd_pages.tif"] = GREY
    big_endian = Image.fromarray(deep.astype(">u2"))
    save("big_endian16.tif", big_endian, deep)


def bmp(header: bytes, palette: bytes, pixels: bytes) -> bytes:
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


def info(width: int, height: int, bits: int, compression: int = 0, size: int = 40, colours: int = 0) -> bytes:
    return struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, 0, 2835, 2835, colours, 0)


def rows(array: np.ndarray) -> bytes:
    """Bytes of each row, padded to four, from the bottom up."""
    return b"".join(row.tobytes() + bytes(-len(row.tobytes()) % 4) for row in array[::-1])


def bmps(folder: Path) -> None:
    def save(name: str, image: Image.Image) -> None:
        image.save(folder / name)
        expected[name] = np.array(Image.open(folder / name).convert(image.mode if image.mode in "L" else "RGB"))

    def build(name: str, data: bytes, want: np.ndarray) -> None:
        (folder / name).write_bytes(data)
        expected[name] = want

    save("grey8.bmp", Image.fromarray(GREY))
    save("rgb24.bmp", Image.fromarray(RGB))
    bits = (GREY > 128).astype(np.uint8) * 255
    Image.fromarray(bits).convert("1").save(folder / "bits1.bmp")
    expected["bits1.bmp"] = bits
    colours = np.array(PALETTE, np.uint8).reshape(-1, 3)
    four = b"".join(bytes([*c[::-1], 0]) for c in colours)
    seen = colours[INDEX]
    palette = Image.fromarray(INDEX, mode="P")
    palette.putpalette(PALETTE)
    palette.save(folder / "palette8.bmp")
    expected["palette8.bmp"] = seen
    nibbles = np.zeros((5, 4), np.uint8)
    for x in range(7):
        nibbles[:, x // 2] |= INDEX[:, x] << (4 if x % 2 == 0 else 0)
    build("palette4.bmp", bmp(info(7, 5, 4, colours=4), four, rows(nibbles)), seen)
    old = struct.pack("<IHHHH", 12, 7, 5, 1, 8)
    three = b"".join(bytes(c[::-1]) for c in np.vstack([colours, np.zeros((252, 3), np.uint8)]))
    build("os2.bmp", bmp(old, three, rows(INDEX)), seen)
    build("top_down24.bmp", bmp(info(7, -5, 24), b"", rows(RGB[::-1, :, ::-1])), RGB)
    wide = np.dstack([RGB[..., ::-1], GREY])
    build("rgb32.bmp", bmp(info(7, 5, 32), b"", rows(wide)), RGB)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    v5 = info(7, 5, 32, 3, size=124) + masks + bytes(124 - 56)
    build("rgba32_v5.bmp", bmp(v5, b"", rows(wide)), RGB)
    five = (RGB >> 3).astype(np.uint16)
    packed = (five[..., 0] << 10) | (five[..., 1] << 5) | five[..., 2]
    spread = np.floor(five.astype(float) * 255 / 31 + 0.5).astype(np.uint8)
    build("rgb555.bmp", bmp(info(7, 5, 16), b"", rows(packed)), spread)
    six = (five[..., 0] << 11) | ((RGB[..., 1] >> 2).astype(np.uint16) << 5) | five[..., 2]
    spread6 = spread.copy()
    spread6[..., 1] = np.floor((RGB[..., 1] >> 2).astype(float) * 255 / 63 + 0.5)
    build("rgb565.bmp", bmp(info(7, 5, 16, 3), struct.pack("<III", 0xF800, 0x7E0, 0x1F), rows(six)), spread6)
    # Runs, an end of line, literal pixels and their padding, a jump of two to the right and one up, the end. Pillow wants
    # no jumps; OpenCV reads all of it.
    run8 = [3, 1, 4, 2, 0, 0, 0, 5, 3, 2, 1, 0, 3, 0, 0, 0, 0, 2, 2, 1, 2, 1, 0, 0, 7, 3, 0, 1]
    run4 = [5, 0x12, 0, 0, 0, 5, 0x32, 0x10, 0x30, 0, 0, 0, 7, 0x30, 0, 0, 7, 0x11, 0, 0, 7, 0x22, 0, 1]
    for name, bits, compression, run in [("rle8.bmp", 8, 1, run8), ("rle4.bmp", 4, 2, run4)]:
        data = bmp(info(7, 5, bits, compression, colours=4), four, bytes(run))
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        build(name, data, cv2.cvtColor(read, cv2.COLOR_BGR2RGB))


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    tiffs(folder)
    bmps(folder)
    golden = {}
    for name, array in sorted(expected.items()):
        colour = array.ndim == 3 and array.shape[-1] == 3 and "stack" not in name
        planes = np.moveaxis(array, -1, 0) if colour else array[None]
        size = [array.shape[-2] if colour else array.shape[-1], array.shape[0 if colour or array.ndim == 2 else 1]]
        pages = array.shape[0] if not colour and array.ndim == 3 else 1
        golden[name] = {"size": [*size, pages], "channels": len(planes), "samples": planes.ravel().tolist()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden.items())
    (folder / "golden.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
