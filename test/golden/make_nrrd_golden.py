"""NRRD files written by SimpleITK (ITK's NrrdIO) and what it reads from hand-made ones: test/golden/nrrd/.

    python test/golden/make_nrrd_golden.py test/golden/nrrd

golden.json: for each file the size, channels, RAS+ affine and voxels (x fastest, channel slowest).
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

TURNED = [0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0]


def write(folder: Path) -> None:
    def image(array, vector=False, direction=TURNED):
        made = sitk.GetImageFromArray(array, isVector=vector)
        made.SetSpacing([0.75, 1.5, 2.5])
        made.SetOrigin([-31.5, 12.25, 5.0])
        made.SetDirection(direction)
        return made

    count = np.arange(2 * 3 * 4)
    for dtype in ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]:
        array = (count * 5).reshape(2, 3, 4).astype(dtype)
        sitk.WriteImage(image(array), folder / f"itk_{dtype}.nrrd")
    sitk.WriteImage(image(count.reshape(2, 3, 4).astype("uint16")), folder / "itk_gzip.nrrd", True)
    vector = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3).astype("int16")
    sitk.WriteImage(image(vector, vector=True), folder / "itk_vector.nrrd")
    flat = sitk.GetImageFromArray(np.arange(12).reshape(3, 4).astype("uint8"))
    flat.SetSpacing([0.5, 2.0])
    flat.SetOrigin([3.0, 4.0])
    sitk.WriteImage(flat, folder / "itk_2d.nrrd")

    def hand(name, lines, payload):
        (folder / name).write_bytes(("NRRD0004\n" + "\n".join(lines) + "\n\n").encode() + payload)

    body = np.arange(24, dtype="<i2").tobytes()
    common = ["type: short", "dimension: 3", "sizes: 4 3 2", "endian: little", "encoding: raw"]
    place = ["space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (10,20,30)"]
    for space in ["right-anterior-superior", "RAS", "left-anterior-superior", "LAS", "LPS", "left-posterior-superior"]:
        hand(f"space_{space}.nrrd", [*common, f"space: {space}", *place], body)
    hand("space_dimension.nrrd", [*common, "space dimension: 3", *place], body)
    hand("spacings.nrrd", [*common, "spacings: 0.5 1.5 2.5"], body)
    hand("big_endian.nrrd", [line.replace("little", "big") for line in common], np.arange(24, dtype=">i2").tobytes())
    hand("gz.nrrd", [line.replace("raw", "gz") for line in common] + ["space: RAS", *place], gzip.compress(body))
    hand("keys.nrrd", ["# a comment", "DICOM_0008_0060:=CT", *common, "space: LPS", *place, "kinds: domain domain domain"], body)
    hand(
        "rgb.nrrd",
        ["type: uchar", "dimension: 3", "sizes: 3 4 2", "kinds: RGB-color domain domain", "encoding: raw", "spacings: nan 1 2"],
        bytes(range(24)),
    )
    hand(
        "channels_last.nrrd",
        [
            *["type: uchar", "dimension: 4", "sizes: 2 2 2 3", "kinds: domain domain domain list", "encoding: raw"],
            *["space: RAS", "space directions: (2,0,0) (0,3,0) (0,0,4) none", "space origin: (1,2,3)"],
        ],
        bytes(range(24)),
    )


def read(path: Path) -> dict:
    image = sitk.ReadImage(path)
    n = image.GetDimension()
    affine = np.eye(4)
    affine[:n, :n] = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    affine[:n, 3] = image.GetOrigin()
    affine[:2] *= -1
    data = sitk.GetArrayFromImage(image)
    channels = image.GetNumberOfComponentsPerPixel()
    if channels > 1:
        data = np.moveaxis(data, -1, 0)
    return {
        "size": (list(image.GetSize()) + [1])[:3],
        "channels": channels,
        "affine": [float(v) for v in affine.ravel()],
        "voxels": data.ravel().tolist(),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    write(target)
    golden = {path.name: read(path) for path in sorted(target.glob("*.nrrd"))}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden.items())
    (target / "golden.json").write_text("{\n" + lines + "\n}\n")
