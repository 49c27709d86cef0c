"""Known answers of MONAI's deepgrow app for the click transforms: test/golden/deepgrow.json and deepgrow-*.nii.gz.

    python test/golden/make_deepgrow_golden.py ../shared/data

needs monai, nibabel and numpy. The volumes are crops of a real CT, once as stored and once with its axes flipped and its
voxels taken as anisotropic. Of the network's input every 37th value is kept (C order), of label maps one bit a voxel.
"""

import base64
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.apps.deepgrow.transforms import (
    AddGuidanceFromPointsd,
    AddGuidanceSignald,
    Fetch2DSliced,
    ResizeGuidanced,
    RestoreLabeld,
    SpatialCropGuidanced,
)
from monai.data import MetaTensor
from monai.transforms import Resized, Spacing

HERE = Path(__file__).parent


STRIDE = 37


def sampled(array):
    values = np.ascontiguousarray(array, dtype=np.float32).ravel()[::STRIDE]
    return {"shape": list(array.shape), "samples": [float(f"{v:.6g}") for v in values]}


def bits(array):
    mask = np.ascontiguousarray(np.asarray(array) > 0)
    return {"shape": list(mask.shape), "bits": base64.b64encode(np.packbits(mask).tobytes()).decode()}


def volumes(data):
    source = nib.load(Path(data) / "nifti/totalsegmentator/example_ct_sm.nii.gz")
    start = [n // 2 - h for n, h in zip(source.shape, (20, 18, 6))]
    crop = np.asarray(source.dataobj)[tuple(slice(s, s + 2 * h) for s, h in zip(start, (20, 18, 6)))].astype(np.int16)
    plain = nib.Nifti1Image(crop, np.diag([1.5, 1.5, 1.5, 1]))
    flipped = nib.Nifti1Image(
        np.ascontiguousarray(crop[::-1, :, ::-1]),
        np.array([[-0.8, 0, 0, 10], [0, 1.3, 0, -20], [0, 0, -5, 30], [0, 0, 0, 1.0]]),
    )
    return {"plain": plain, "flipped": flipped}


def label_on(image):
    """A label map with structure on the network's grid: a function of the first channel alone."""
    return (image[:1] > np.median(image[:1])).astype(np.float32)


def run(image, dimensions, foreground, background, spatial_size, size, sigma=2.0, spacing=True):
    array = np.moveaxis(np.asarray(image.dataobj, dtype=np.float32), -1, 0)
    if spacing:
        tensor = Spacing(pixdim=[1.0, 1.0], mode="bilinear")(MetaTensor(array, affine=image.affine))
        array = np.asarray(tensor)
    d = {
        "image": array,
        "image_meta_dict": {
            "spatial_shape": np.array(image.shape),
            "affine": image.affine,
            "original_affine": image.affine,
        },
        "foreground": foreground,
        "background": background,
    }
    steps = {}
    d = AddGuidanceFromPointsd(ref_image="image", guidance="guidance", spatial_dims=dimensions)(d)
    steps["points"] = [g.tolist() if hasattr(g, "tolist") else g for g in d["guidance"]]
    if dimensions == 2:
        d = Fetch2DSliced(keys="image", guidance="guidance")(d)
    d["image"] = d["image"][None]
    d = SpatialCropGuidanced(keys="image", guidance="guidance", spatial_size=spatial_size)(d)
    d["image"] = np.asarray(d["image"])
    steps["cropped"] = {"shape": list(d["image"].shape), "guidance": d["guidance"]}
    d = Resized(keys="image", spatial_size=size, mode="area")(d)
    d["image"] = np.asarray(d["image"])
    d = ResizeGuidanced(guidance="guidance", ref_image="image")(d)
    steps["resized"] = d["guidance"]
    d["image"] = (d["image"] - 208) / 388
    d = AddGuidanceSignald(image="image", guidance="guidance", sigma=sigma)(d)
    d["pred"] = label_on(np.asarray(d["image"]))
    steps["input"] = sampled(d["image"])
    steps["label"] = bits(d["pred"])
    d = RestoreLabeld(keys="pred", ref_image="image", mode="nearest")(d)
    steps["restored"] = bits(d["pred"])
    return steps


def main():
    made = volumes(sys.argv[1])
    cases = []
    for name, image in made.items():
        nib.save(image, HERE / f"deepgrow-{name}.nii.gz")
        clicks = [
            ("one click", [[20, 18, 6]], []),
            ("clicks both ways", [[12, 9, 4], [14, 12, 4]], [[30, 20, 4]]),
            ("background alone", [], [[3, 33, 2]]),
            ("a click in the corner", [[0, 0, 0]], []),
            ("clicks far apart", [[1, 2, 7], [38, 34, 7]], [[20, 2, 7]]),
        ]
        for title, fg, bg in clicks:
            for dims, spatial, size in [(2, [32, 32], [24, 24]), (3, [24, 24], [16, 24, 24])]:
                case = {
                    "name": f"{name}, {dims}-D, {title}",
                    "volume": name,
                    "dimensions": dims,
                    "foreground": fg,
                    "background": bg,
                    "spatial_size": spatial,
                    "size": size,
                }
                case.update(run(image, dims, fg, bg, spatial, size))
                cases.append(case)
    (HERE / "deepgrow.json").write_text(json.dumps(cases, separators=(",", ":"), default=lambda v: np.asarray(v).tolist()))


main()
