"""What nibabel reads from the odd NIfTI files of ../shared/data/robust: nifti_golden.json.

    python test/golden/make_nifti_golden.py ../shared/data/robust test/golden/nifti_golden.json

One entry for each file that nibabel reads as an image of real numbers: its shape, affine, and the voxels as minimum,
maximum and SHA-256 of their float64 bytes in Fortran order. NaN and infinite voxels are first replaced as Aidant replaces
them: by the least finite voxel of the channel, or 0 where that is greater. Files are told by content, as Aidant does:
they are unpacked here and handed to nibabel as bytes, so that a wrong name does not count. Voxels scaled by other than
whole numbers are rounded to float32 first, since Aidant keeps them so (float64 stays).
"""

import gzip
import hashlib
import json
import logging
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

logging.disable()
warnings.simplefilter("ignore")


def load(path: Path):
    if ".hdr" in path.name or ".img" in path.name:
        return nib.load(path)
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    image = (nib.Nifti2Image if raw[4:7] == b"n+2" else nib.Nifti1Image).from_bytes(raw)
    if 3000 <= image.header["intent_code"] < 3100:
        raise TypeError("CIFTI matrix")
    return image


def voxels(image) -> np.ndarray:
    data = np.asanyarray(image.dataobj)
    if data.dtype.names:
        return np.stack([data[name] for name in data.dtype.names], axis=-1)
    if data.dtype.kind not in "iuf":
        raise TypeError(f"{data.dtype} is not real")
    stored = image.get_data_dtype()
    slope, inter = image.dataobj.slope, image.dataobj.inter
    whole = stored.kind in "iu" and float(slope).is_integer() and float(inter).is_integer()
    if (slope, inter) != (1, 0) and not whole and stored != np.float64:
        data = data.astype(np.float32)
    return data


def main(folder: Path, target: Path) -> None:
    golden = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".tsv":
            continue
        name = path.relative_to(folder).as_posix()
        try:
            image = load(path)
            if not isinstance(image, nib.Nifti1Pair):
                raise TypeError(type(image).__name__)
            data = voxels(image)
            if data.size == 0:
                raise ValueError("no voxels")
        except Exception as error:  # whatever nibabel finds wrong, the file is no golden one
            print(f"{name}: {type(error).__name__}: {str(error)[:100]}")
            continue
        numbers = data.astype("<f8").ravel(order="F")
        for channel in np.split(numbers, max(1, numbers.size // int(np.prod(data.shape[:3])))):
            finite = np.isfinite(channel)
            channel[~finite] = min(0, channel[finite].min(initial=0))
        golden[name] = {
            "shape": list(data.shape),
            "affine": image.affine.ravel().tolist(),
            "min": float(numbers.min()),
            "max": float(numbers.max()),
            "sha256": hashlib.sha256(numbers.tobytes()).hexdigest(),
        }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden.items())
    target.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
