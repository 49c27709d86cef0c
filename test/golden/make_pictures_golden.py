"""Small PNG and JPEG files of every kind, with the samples OpenCV reads from them: test/golden/pictures/.

    python test/golden/make_pictures_golden.py test/golden/pictures

golden.json: for each file width, height, channels and the samples (x fastest, then y, then channel: R, G, B).
Transparency is dropped, EXIF rotation not applied, colour profiles ignored.
"""

import io
import json
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms


def png16rgb(array: np.ndarray) -> bytes:
    ok, data = cv2.imencode(".png", cv2.cvtColor(array, cv2.COLOR_RGB2BGR))
    assert ok
    return data.tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    deep = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
    deep_rgb = rng.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    y, x = np.mgrid[0:24, 0:32]
    smooth = np.stack([x * 8, y * 10, 255 - x * 4 - y * 4], -1).clip(0, 255).astype(np.uint8)

    expected: dict[str, np.ndarray] = {}

    def save(name: str, image: Image.Image, want: np.ndarray, **options) -> None:
        image.save(folder / name, **options)
        expected[name] = want

    save("grey8.png", Image.fromarray(grey), grey)
    save("grey16.png", Image.fromarray(deep), deep)
    save("rgb8.png", Image.fromarray(rgb), rgb)
    save("rgba8.png", Image.fromarray(np.dstack([rgb, alpha])), rgb)
    save("grey_alpha8.png", Image.fromarray(np.dstack([grey, alpha])), grey)
    bits = (grey > 128).astype(np.uint8) * 255
    save("bits1.png", Image.fromarray(bits).convert("1"), bits)
    palette = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    save("palette.png", palette, np.array(palette.convert("RGB")))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    save("icc.png", Image.fromarray(rgb), rgb, icc_profile=srgb)
    (folder / "rgb16.png").write_bytes(png16rgb(deep_rgb))
    expected["rgb16.png"] = deep_rgb
    plain = (folder / "grey8.png").read_bytes()
    (folder / "gamma.png").write_bytes(plain[:33] + chunk(b"gAMA", struct.pack(">I", 100000)) + plain[33:])
    expected["gamma.png"] = grey

    def jpeg(name: str, image: Image.Image, **options) -> None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95, **options)
        (folder / name).write_bytes(buffer.getvalue())
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        data = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), flags)
        expected[name] = data if data.ndim == 2 else cv2.cvtColor(data, cv2.COLOR_BGR2RGB)

    jpeg("grey.jpg", Image.fromarray(smooth[..., 0]))
    jpeg("rgb.jpg", Image.fromarray(smooth), subsampling=0)
    jpeg("progressive.jpg", Image.fromarray(smooth), subsampling=0, progressive=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg("exif_rotated.jpg", Image.fromarray(smooth), subsampling=0, exif=exif)

    golden = {}
    for name, array in sorted(expected.items()):
        planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        golden[name] = {
            "width": array.shape[1],
            "height": array.shape[0],
            "channels": len(planes),
            "samples": planes.ravel().tolist(),
        }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden.items())
    (folder / "golden.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
