"""MetaImage files, and NRRD with text or detached voxels, from ITK and by hand, and what SimpleITK reads from them.

    python test/golden/make_meta_golden.py test/golden/meta

golden.json: for each image its files (a header first), size, channels, RAS+ affine and voxels (x fastest, channel slowest).
"""

import gzip
import json
import sys
import zlib
from pathlib import Path

import nrrd
import numpy as np
import SimpleITK as sitk

TURNED = [0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0]
images: dict[str, list[str]] = {}


def made(array: np.ndarray, vector: bool = False) -> sitk.Image:
    image = sitk.GetImageFromArray(array, isVector=vector)
    if image.GetDimension() == 3:
        image.SetSpacing([0.75, 1.5, 2.5])
        image.SetOrigin([-31.5, 12.25, 5.0])
        image.SetDirection(TURNED)
    return image


def metas(folder: Path) -> None:
    count = np.arange(24).reshape(2, 3, 4)
    for dtype in ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]:
        sitk.WriteImage(made((count * 5).astype(dtype)), folder / f"{dtype}.mha")
        images[f"{dtype}.mha"] = [f"{dtype}.mha"]
    sitk.WriteImage(made(count.astype("uint16")), folder / "packed.mha", True)
    vector = np.arange(72).reshape(2, 3, 4, 3).astype("int16")
    sitk.WriteImage(made(vector, True), folder / "vector.mha")
    sitk.WriteImage(made(np.arange(12).reshape(3, 4).astype("uint8")), folder / "flat.mha")
    sitk.WriteImage(made(count.astype("int16")), folder / "pair.mhd")
    sitk.WriteImage(made(count.astype("int16")), folder / "packed_pair.mhd", True)
    for name in ["packed.mha", "vector.mha", "flat.mha"]:
        images[name] = [name]
    images["pair.mhd"] = ["pair.mhd", "pair.raw"]
    images["packed_pair.mhd"] = ["packed_pair.mhd", "packed_pair.zraw"]

    def hand(name: str, lines: list[str], payload: bytes = b"", *beside: str) -> None:
        head = ["ObjectType = Image", "NDims = 3", "DimSize = 4 3 2", *lines]
        (folder / name).write_bytes(("\n".join(head) + "\n").encode() + payload)
        images[name] = [name, *beside]

    place = ["TransformMatrix = 0 1 0 1 0 0 0 0 -1", "Offset = 1 2 3", "ElementSpacing = 0.5 2 3", "AnatomicalOrientation = ARS"]
    big = count.astype(">i2").tobytes()
    hand("big_endian.mha", ["BinaryDataByteOrderMSB = True", *place, "ElementType = MET_SHORT", "ElementDataFile = LOCAL"], big)
    text = " ".join(str(v) for v in (count.ravel() - 3)).encode() + b"\n"
    hand("text.mha", ["BinaryData = False", *place, "ElementType = MET_INT", "ElementDataFile = LOCAL"], text)
    old = ["BinaryData = True", "Rotation = 1 0 0 0 1 0 0 0 1", "Position = 7 8 9", "ElementSpacing = 1 2 3"]
    hand("old_words.mha", [*old, "ElementType = MET_UCHAR", "ElementDataFile = Local"], count.astype("u1").tobytes())
    zipped = zlib.compress(count.astype("<f4").tobytes())
    hand("packed_by_hand.mha", ["CompressedData = True", f"CompressedDataSize = {len(zipped)}", "ElementType = MET_FLOAT", "ElementDataFile = LOCAL"], zipped)
    (folder / "skip.raw").write_bytes(b"junk" + count.astype("u1").tobytes())
    hand("skip.mhd", ["HeaderSize = 4", "ElementType = MET_UCHAR", "ElementDataFile = skip.raw"], b"", "skip.raw")
    hand("last.mhd", ["HeaderSize = -1", "ElementType = MET_UCHAR", "ElementDataFile = skip.raw"], b"", "skip.raw")
    for i in (1, 2):
        (folder / f"slice{i:02}.raw").write_bytes(count[i - 1].astype("u1").tobytes())
    slices = ["slice01.raw", "slice02.raw"]
    hand("list.mhd", ["ElementType = MET_UCHAR", "ElementDataFile = LIST"], ("\n".join(slices) + "\n").encode(), *slices)
    hand("pattern.mhd", ["ElementType = MET_UCHAR", "ElementDataFile = slice%02d.raw 1 2 1"], b"", *slices)


def nrrds(folder: Path) -> None:
    count = np.arange(24).reshape(2, 3, 4)

    def hand(name: str, lines: list[str], payload: bytes = b"", *beside: str) -> None:
        head = ["NRRD0004", "dimension: 3", "sizes: 4 3 2", "space: left-posterior-superior",
                "space directions: (0.5,0,0) (0,2,0) (0,0,3)", "space origin: (1,2,3)", *lines]
        (folder / name).write_bytes(("\n".join(head) + "\n").encode() + payload)
        images[name] = [name, *beside]

    text = " ".join(str(v) for v in (count.ravel() * 1.5 - 3)).encode() + b"\n"
    hand("ascii.nrrd", ["type: float", "encoding: ascii", ""], text)
    hexed = count.astype("<u2").tobytes().hex()
    folded = "\n".join(hexed[i : i + 20] for i in range(0, len(hexed), 20)).encode() + b"\n"
    hand("hex.nrrd", ["type: ushort", "endian: little", "encoding: hex", ""], folded)
    (folder / "beside.raw").write_bytes(count.astype(">i2").tobytes())
    hand("beside.nhdr", ["type: short", "endian: big", "encoding: raw", "data file: beside.raw"], b"", "beside.raw")
    (folder / "beside.raw.gz").write_bytes(gzip.compress(count.astype("<i4").tobytes(), mtime=0))
    hand("beside_gz.nhdr", ["type: int", "endian: little", "encoding: gzip", "data file: beside.raw.gz"], b"", "beside.raw.gz")
    (folder / "lines.raw").write_bytes(b"one\ntwo\nxyz" + count.astype("u1").tobytes())
    hand("lines.nhdr", ["type: uchar", "encoding: raw", "line skip: 2", "byte skip: 3", "data file: lines.raw"], b"", "lines.raw")
    hand("end.nhdr", ["type: uchar", "encoding: raw", "byte skip: -1", "data file: lines.raw"], b"", "lines.raw")
    slices = ["slice01.raw", "slice02.raw"]
    hand("list.nhdr", ["type: uchar", "encoding: raw", "data file: LIST"], ("\n".join(slices) + "\n").encode(), *slices)
    hand("pattern.nhdr", ["type: uchar", "encoding: raw", "data file: slice%02d.raw 1 2 1"], b"", *slices)
    for name in ["ascii.nrrd", "beside.nhdr", "beside_gz.nhdr", "end.nhdr"]:
        read, _ = nrrd.read(str(folder / name))
        assert np.array_equal(read.T, sitk.GetArrayFromImage(sitk.ReadImage(folder / name))), name


def read(path: Path) -> dict:
    image = sitk.ReadImage(path)
    data = sitk.GetArrayFromImage(image)
    n = image.GetDimension()
    affine = np.eye(4)
    affine[:n, :n] = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    affine[:n, 3] = image.GetOrigin()
    affine[:2] *= -1
    channels = image.GetNumberOfComponentsPerPixel()
    if channels > 1:
        data = np.moveaxis(data, -1, 0)
    size = [*image.GetSize(), 1][:3]
    return dict(files=images[path.name], size=size, channels=channels, affine=(affine + 0.0).ravel().tolist(), voxels=data.ravel().tolist())


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    metas(folder)
    nrrds(folder)
    golden = {name: read(folder / name) for name in sorted(images)}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden.items())
    (folder / "golden.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
