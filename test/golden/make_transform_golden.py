"""Known answers of MONAI 1.6 for the transforms and the sliding window: test/golden/transforms.json and transform-*.nii.gz.

    python test/golden/make_transform_golden.py ../shared/data

needs monai, nibabel, scikit-image, torch and numpy. The volumes are crops of real scans: a hippocampus MRI, a CT at 3 mm
with its label map, and an oblique, anisotropic brain MRI. Of each result its shape, its affine, every STRIDE-th value (in
C order) and its sum are kept; of label maps also the voxels of each label.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, Invertd
import monai.apps.nuclick.transforms as nuclick
import monai.transforms as mt

HERE = Path(__file__).parent
STRIDE = 131
DATA = Path(sys.argv[1])

CROPS = {
    "hippocampus": ("nifti/msd_hippocampus/imagesTr/hippocampus_001.nii.gz", (slice(4, 34), slice(6, 42), slice(3, 31)), np.int16),
    "ct": ("nifti/totalsegmentator/example_ct.nii.gz", (slice(40, 74), slice(30, 58), slice(40, 66)), np.int16),
    "ct-labels": ("nifti/totalsegmentator/example_ct_seg117.nii.gz", (slice(40, 74), slice(30, 58), slice(40, 66)), np.uint8),
    "oblique": ("nifti/qin_gbm/PGBM-001_t0_FLAIRreg.nii.gz", (slice(90, 130), slice(100, 134), slice(4, 16)), np.int16),
}


def write_crops():
    for name, (path, box, dtype) in CROPS.items():
        image = nib.load(DATA / path)
        data = np.asarray(image.dataobj)[box]
        if dtype == np.int16 and np.abs(data).max() > 32767:
            data = data / np.abs(data).max() * 32767
        affine = image.affine.copy()
        affine[:3, 3] = image.affine[:3, :3] @ [s.start for s in box] + image.affine[:3, 3]
        out = nib.Nifti1Image(np.round(data).astype(dtype), affine)
        out.set_sform(affine, 1)
        out.set_qform(affine, 1)
        nib.save(out, HERE / f"transform-{name}.nii.gz")


LOAD = [("LoadImaged", {}), ("EnsureChannelFirstd", {})]

# name, crop, transforms after loading
CASES = [
    *[(f"Orientationd {codes}", "oblique", [("Orientationd", {"axcodes": codes})]) for codes in ["RAS", "LPS", "LIA", "PIR", "SLA"]],
    ("Orientationd closest canonical", "ct", [("Orientationd", {"axcodes": None, "as_closest_canonical": True})]),
    ("Spacingd down", "ct", [("Spacingd", {"pixdim": [4, 4.5, 5]})]),
    ("Spacingd up", "hippocampus", [("Spacingd", {"pixdim": [0.7, 0.8, 0.9], "mode": "bilinear"})]),
    ("Spacingd nearest", "ct-labels", [("Spacingd", {"pixdim": [2, 2, 2.3], "mode": "nearest"})]),
    ("Spacingd oblique", "oblique", [("Spacingd", {"pixdim": [1.5, 1.5, 3]})]),
    ("Spacingd zeros outside", "ct", [("Spacingd", {"pixdim": [2.2, 2.2, 2.2], "padding_mode": "zeros"})]),
    ("Spacingd one number, kept axis", "oblique", [("Spacingd", {"pixdim": [2, -1, 4]})]),
    ("Spacingd diagonal", "oblique", [("Spacingd", {"pixdim": [2, 2, 4], "diagonal": True})]),
    ("Spacingd min and max", "oblique", [("Spacingd", {"pixdim": [2, 2, 2], "min_pixdim": [0.5, 0.5, 0.5], "max_pixdim": [3, 3, 3]})]),
    ("Orientationd then Spacingd", "oblique", [("Orientationd", {"axcodes": "RAS"}), ("Spacingd", {"pixdim": [1, 1, 2]})]),
    ("Spacingd label map nearest, half-way", "ct-labels", [("Spacingd", {"pixdim": [6, 6, 6], "mode": "nearest"})]),
    *[
        (f"Resized {mode}{' aligned' if aligned else ''}", "ct", [("Resized", {"spatial_size": [25, 40, 13], "mode": mode, **({"align_corners": True} if aligned else {})})])
        for mode, aligned in [("area", False), ("nearest", False), ("nearest-exact", False), ("trilinear", False), ("trilinear", True)]
    ],
    ("Resized longest", "hippocampus", [("Resized", {"spatial_size": 24, "size_mode": "longest", "mode": "trilinear"})]),
    ("Resized keeps an axis", "hippocampus", [("Resized", {"spatial_size": [20, -1, 20], "mode": "area"})]),
    ("Zoomd", "hippocampus", [("Zoomd", {"zoom": [0.8, 1.2, 0.7], "mode": "trilinear", "keep_size": False})]),
    ("ScaleIntensityd", "ct", [("ScaleIntensityd", {})]),
    ("ScaleIntensityd range", "ct", [("ScaleIntensityd", {"minv": -1.0, "maxv": 3.0})]),
    ("ScaleIntensityd factor", "ct", [("ScaleIntensityd", {"minv": None, "maxv": None, "factor": 0.5})]),
    ("ScaleIntensityRanged", "ct", [("ScaleIntensityRanged", {"a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True})]),
    ("ScaleIntensityRanged unclipped", "ct", [("ScaleIntensityRanged", {"a_min": -100, "a_max": 300, "b_min": -1, "b_max": 1, "clip": False})]),
    ("ScaleIntensityRanged without target", "ct", [("ScaleIntensityRanged", {"a_min": -100, "a_max": 300, "b_min": None, "b_max": None})]),
    ("ScaleIntensityRangePercentilesd", "hippocampus", [("ScaleIntensityRangePercentilesd", {"lower": 2, "upper": 98, "b_min": 0, "b_max": 1, "clip": True})]),
    ("ScaleIntensityRangePercentilesd relative", "ct", [("ScaleIntensityRangePercentilesd", {"lower": 5.5, "upper": 93.25, "b_min": -1, "b_max": 2, "relative": True})]),
    ("NormalizeIntensityd", "hippocampus", [("NormalizeIntensityd", {})]),
    ("NormalizeIntensityd nonzero", "ct", [("NormalizeIntensityd", {"nonzero": True, "channel_wise": True})]),
    ("NormalizeIntensityd given", "ct", [("NormalizeIntensityd", {"subtrahend": 208, "divisor": 388})]),
    ("ShiftIntensityd", "ct", [("ShiftIntensityd", {"offset": 12.5})]),
    ("ThresholdIntensityd", "ct", [("ThresholdIntensityd", {"threshold": 40, "above": True, "cval": -7})]),
    ("ThresholdIntensityd below", "ct", [("ThresholdIntensityd", {"threshold": 40, "above": False, "cval": 9})]),
    ("GaussianSmoothd", "hippocampus", [("GaussianSmoothd", {"sigma": [1.5, 0.8, 1.0]})]),
    ("CropForegroundd", "ct", [("CropForegroundd", {"source_key": "image", "margin": [2, 1, 0], "threshold": 120})]),
    ("CropForegroundd divisible", "ct", [("CropForegroundd", {"source_key": "image", "margin": 1, "k_divisible": [8, 4, 16], "threshold": 120})]),
    ("CropForegroundd allow_smaller", "ct", [("CropForegroundd", {"source_key": "image", "margin": 9, "allow_smaller": True, "threshold": 120})]),
    ("SpatialPadd", "ct", [("SpatialPadd", {"spatial_size": [41, 20, 30]})]),
    ("SpatialPadd end", "ct", [("SpatialPadd", {"spatial_size": [41, 33, -1], "method": "end", "value": -5})]),
    ("DivisiblePadd", "ct", [("DivisiblePadd", {"k": [16, 8, 5]})]),
    ("BorderPadd", "ct", [("BorderPadd", {"spatial_border": [1, 2, 3]})]),
    ("BorderPadd pairs", "ct", [("BorderPadd", {"spatial_border": [1, 2, 3, 4, 5, 0]})]),
    ("CenterSpatialCropd", "ct", [("CenterSpatialCropd", {"roi_size": [11, 60, -1]})]),
    ("CenterSpatialCropd even", "ct", [("CenterSpatialCropd", {"roi_size": [12, 13, 7]})]),
    ("SpatialCropd centre", "ct", [("SpatialCropd", {"roi_center": [10, 12, 3], "roi_size": [9, 8, 12]})]),
    ("SpatialCropd ends", "ct", [("SpatialCropd", {"roi_start": [3, 4, 5], "roi_end": [20, 99, 15]})]),
    ("CropForegroundd select_fn", "ct", [("CropForegroundd", {"source_key": "image", "select_fn": "lambda x: x > 120.5"})]),
    ("CropForegroundd margin at the edge", "ct", [("CropForegroundd", {"source_key": "image", "margin": 6, "mode": "edge", "threshold": 120})]),
    *[(f"SpatialPadd {mode}", "ct", [("SpatialPadd", {"spatial_size": [41, 40, 37], "mode": mode})]) for mode in ["edge", "reflect", "symmetric", "wrap", "replicate", "circular"]],
    ("DivisiblePadd reflect end", "ct", [("DivisiblePadd", {"k": 16, "mode": "reflect", "method": "end"})]),
    ("BorderPadd edge", "ct", [("BorderPadd", {"spatial_border": [1, 2, 3], "mode": "edge"})]),
    ("ResizeWithPadOrCropd", "ct", [("ResizeWithPadOrCropd", {"spatial_size": [40, 20, 27]})]),
    ("ResizeWithPadOrCropd edge, end", "ct", [("ResizeWithPadOrCropd", {"spatial_size": [21, 33, -1], "mode": "edge", "method": "end"})]),
    ("ClipIntensityPercentilesd", "ct", [("ClipIntensityPercentilesd", {"lower": 3.5, "upper": 97})]),
    ("ClipIntensityPercentilesd one side", "hippocampus", [("ClipIntensityPercentilesd", {"lower": None, "upper": 90, "channel_wise": True})]),
    ("ClipIntensityPercentilesd soft", "ct", [("ScaleIntensityd", {}), ("ClipIntensityPercentilesd", {"lower": 10, "upper": 80, "sharpness_factor": 20})]),
    ("HistogramNormalized", "hippocampus", [("HistogramNormalized", {})]),
    ("HistogramNormalized few bins", "ct", [("HistogramNormalized", {"num_bins": 16, "min": -1, "max": 3})]),
    ("SignalFillEmptyd", "ct", [("SignalFillEmptyd", {"replacement": 4})]),
    ("RepeatChanneld", "ct", [("RepeatChanneld", {"repeats": 3})]),
    ("CopyItemsd and ConcatItemsd", "ct", [("CopyItemsd", {"names": ["a", "b"], "times": 2}), ("ShiftIntensityd", {"keys": ["a"], "offset": 5.0}), ("ConcatItemsd", {"keys": ["b", "a", "image"], "name": "image"})]),
    ("MeanEnsembled", "ct", [("CopyItemsd", {"names": ["a"]}), ("ScaleIntensityd", {"keys": ["a"]}), ("MeanEnsembled", {"keys": ["image", "a"], "output_key": "image"})]),
    ("MeanEnsembled weighted", "ct", [("CopyItemsd", {"names": ["a"]}), ("ShiftIntensityd", {"keys": ["a"], "offset": 40.0}), ("MeanEnsembled", {"keys": ["image", "a"], "output_key": "image", "weights": [1, 3]})]),
    ("VoteEnsembled", "ct-labels", [("CopyItemsd", {"names": ["a", "b"], "times": 2}), ("LabelFilterd", {"keys": ["a"], "applied_labels": [1, 5]}), ("VoteEnsembled", {"keys": ["image", "a", "b"], "output_key": "image", "num_classes": 118})]),
    ("VoteEnsembled tie", "ct-labels", [("CopyItemsd", {"names": ["a"]}), ("LabelFilterd", {"keys": ["a"], "applied_labels": [1, 5]}), ("VoteEnsembled", {"keys": ["image", "a"], "output_key": "image", "num_classes": 118})]),
    ("ResampleToMatchd", "oblique", [("CopyItemsd", {"names": ["a"]}), ("Spacingd", {"keys": ["a"], "pixdim": [1.5, 1.5, 5]}), ("ResampleToMatchd", {"key_dst": "a", "padding_mode": "zeros"})]),
    ("Lambdad of a scan", "ct", [("Lambdad", {"func": "lambda x: torch.where(x > 100, x * 0.5, -1)"})]),
    ("Lambdad channels", "ct", [("RepeatChanneld", {"repeats": 3}), ("Lambdad", {"func": "lambda x: x[1:] + 2 ** 3"})]),
    ("Lambdad softmax", "ct", [("CopyItemsd", {"names": ["a"]}), ("ScaleIntensityd", {"keys": ["image", "a"]}), ("ShiftIntensityd", {"keys": ["a"], "offset": 0.2}), ("ConcatItemsd", {"keys": ["image", "a"], "name": "image"}), ("Lambdad", {"func": "lambda x: torch.softmax(x, dim=0)"})]),
    ("Lambdad logic", "ct-labels", [("Lambdad", {"func": "lambda x: ((x > 90) & ~(x == 92)) * 3"})]),
    ("Spacingd cubic", "ct", [("Spacingd", {"pixdim": [2.1, 3.7, 4.5], "mode": 3})]),
    ("Spacingd cubic, oblique", "oblique", [("Spacingd", {"pixdim": [1.5, 1.5, 3], "mode": 3})]),
    ("Spacingd cubic, zeros outside", "ct", [("Spacingd", {"pixdim": [2.2, 2.2, 2.2], "mode": 3, "padding_mode": "zeros"})]),
    ("Spacingd order 2", "hippocampus", [("Spacingd", {"pixdim": [0.7, 0.8, 1.3], "mode": 2})]),
    ("Spacingd order 4", "hippocampus", [("Spacingd", {"pixdim": [0.7, 0.8, 1.3], "mode": 4})]),
    ("Spacingd order 5", "ct", [("Spacingd", {"pixdim": [2.5, 2.5, 4], "mode": 5, "padding_mode": "zeros"})]),
    *[(f"SpatialPadd {mode}", "ct", [("SpatialPadd", {"spatial_size": [41, 40, 37], "mode": mode})]) for mode in ["minimum", "maximum", "mean", "median", "linear_ramp"]],
    ("CropForegroundd cut on one side, wrapped on another", "ct", [("CropForegroundd", {"source_key": "image", "margin": [0, 9, 0], "mode": "wrap", "threshold": 160})]),
    ("Zoomd keeps the size", "hippocampus", [("Zoomd", {"zoom": [0.8, 1.2, 0.7], "mode": "trilinear"})]),
    ("Zoomd keeps the size, constant", "hippocampus", [("Zoomd", {"zoom": 0.8, "mode": "area", "padding_mode": "constant"})]),
    ("ScaleIntensityRanged whole numbers", "ct", [("ScaleIntensityRanged", {"a_min": -57, "a_max": 164, "b_min": 0, "b_max": 255, "clip": True, "dtype": "uint8"})]),
    ("AddLabelAsGuidanced of a picture", "ct", [("SpatialCropd", {"roi_start": [0, 0, 9], "roi_end": [34, 28, 10]}), ("SqueezeDimd", {"dim": -1}), ("CopyItemsd", {"names": ["label"]}), ("ThresholdIntensityd", {"keys": ["label"], "threshold": 120}), ("AddLabelAsGuidanced", {"source": "label"})]),
    ("SelectItemsd", "ct", [("CopyItemsd", {"names": ["a"]}), ("SelectItemsd", {"keys": ["image"]}), ("ShiftIntensityd", {"keys": ["image", "a"], "offset": 2.0, "allow_missing_keys": True})]),
    ("RemoveSmallObjectsd by measure and pixdim", "ct-labels", [("LabelToMaskd", {"select_labels": [92, 93, 94, 95, 96, 97, 100]}), ("RemoveSmallObjectsd", {"min_size": 100, "by_measure": True, "pixdim": [1.0, 1.0, 2.0]})]),
    ("Flipd", "oblique", [("Flipd", {"spatial_axis": [0, 2]})]),
    ("Flipd all", "oblique", [("Flipd", {})]),
    *[(f"Rotate90d {k}", "oblique", [("Rotate90d", {"k": k, "spatial_axes": [0, 2]})]) for k in [1, 2, 3]],
    ("Rotate90d plane", "ct", [("Rotate90d", {"k": 1})]),
    (
        "a whole preparation",
        "oblique",
        [
            ("Orientationd", {"axcodes": "RAS"}),
            ("Spacingd", {"pixdim": [1.2, 1.2, 4], "mode": "bilinear"}),
            ("NormalizeIntensityd", {"nonzero": True}),
            ("DivisiblePadd", {"k": 16}),
        ],
    ),
    # label maps
    ("KeepLargestConnectedComponentd", "ct-labels", [("KeepLargestConnectedComponentd", {})]),
    ("KeepLargestConnectedComponentd faces", "ct-labels", [("KeepLargestConnectedComponentd", {"connectivity": 1, "applied_labels": [92, 93, 100, 101]})]),
    ("KeepLargestConnectedComponentd together", "ct-labels", [("KeepLargestConnectedComponentd", {"independent": False, "connectivity": 1})]),
    ("KeepLargestConnectedComponentd two", "ct-labels", [("KeepLargestConnectedComponentd", {"num_components": 2, "connectivity": 2})]),
    ("FillHolesd", "ct-labels", [("FillHolesd", {})]),
    ("FillHolesd faces", "ct-labels", [("FillHolesd", {"connectivity": 1})]),
    ("RemoveSmallObjectsd of a mask", "ct-labels", [("LabelToMaskd", {"select_labels": [92, 93, 94, 95, 96, 97, 100]}), ("RemoveSmallObjectsd", {"min_size": 30})]),
    ("RemoveSmallObjectsd by measure", "ct-labels", [("LabelToMaskd", {"select_labels": [92, 93, 94, 95, 96, 97, 100]}), ("RemoveSmallObjectsd", {"min_size": 900, "by_measure": True, "connectivity": 3})]),
    ("RemoveSmallObjectsd together", "ct-labels", [("RemoveSmallObjectsd", {"min_size": 200, "independent_channels": False})]),
    ("LabelFilterd", "ct-labels", [("LabelFilterd", {"applied_labels": [1, 5, 51, 92]})]),
    ("MapLabelValued", "ct-labels", [("MapLabelValued", {"orig_labels": [1, 5, 51], "target_labels": [7, 1, 200]})]),
]

# transforms whose way back is taken by a label map: a threshold of the prepared image
INVERSES = [
    ("Orientationd", "oblique", [("Orientationd", {"axcodes": "PIR"})]),
    ("Spacingd", "ct", [("Spacingd", {"pixdim": [2.1, 2.2, 1.9]})]),
    ("Spacingd down", "ct", [("Spacingd", {"pixdim": [4.6, 5.1, 4.1]})]),
    ("oblique Spacingd", "oblique", [("Spacingd", {"pixdim": [1.08, 1.2, 2.65]})]),
    ("Resized", "ct", [("Resized", {"spatial_size": [25, 40, 13], "mode": "trilinear"})]),
    ("CropForegroundd", "ct", [("CropForegroundd", {"source_key": "image", "margin": [2, 1, 0], "threshold": 120})]),
    ("SpatialPadd and CenterSpatialCropd", "ct", [("SpatialPadd", {"spatial_size": [41, 20, 30]}), ("CenterSpatialCropd", {"roi_size": [20, 20, 20]})]),
    ("a whole preparation", "oblique", [("Orientationd", {"axcodes": "RAS"}), ("Spacingd", {"pixdim": [1.2, 1.2, 4]}), ("DivisiblePadd", {"k": 16}), ("Flipd", {"spatial_axis": [1]}), ("Rotate90d", {"k": 1, "spatial_axes": [0, 1]})]),
]

# size, roi, overlap, blend, batch
WINDOWS = [
    ([34, 28, 26], [16, 16, 16], 0.25, "constant", 1),
    ([34, 28, 26], [16, 16, 16], 0.25, "gaussian", 4),
    ([34, 28, 26], [16, 12, 20], 0.5, "gaussian", 3),
    ([34, 28, 26], [40, 16, 26], 0.25, "gaussian", 2),
    ([34, 28, 26], [40, 33, 27], 0.25, "constant", 1),
    ([34, 28, 26], [20, 20, 20], 0.6, "constant", 5),
]


def python_args(name, args):
    args = {"keys": ["image"], **args}
    threshold = args.pop("threshold", None) if name == "CropForegroundd" else None
    if threshold is not None:
        args["select_fn"] = lambda x: x > threshold
    for function in ["func", "select_fn"]:
        if isinstance(args.get(function), str):
            args[function] = eval(args[function], {"torch": torch})
    return args


def build(steps):
    return Compose([(getattr(mt, name, None) or getattr(nuclick, name))(**python_args(name, args)) for name, args in steps])


def summary(array, affine=None, labels=False):
    array = np.asarray(array, dtype=np.float64)
    flat = array.reshape(-1)
    out = {"shape": list(array.shape), "sum": float(flat.sum()), "samples": [float(f"{v:.7g}") for v in flat[::STRIDE]]}
    if affine is not None:
        out["affine"] = [float(v) for v in np.asarray(affine, dtype=np.float64).reshape(-1)]
    if labels:
        values, counts = np.unique(flat, return_counts=True)
        out["counts"] = {str(int(v)): int(c) for v, c in zip(values, counts)}
    return out


def volume(crop):
    return {"image": str(HERE / f"transform-{crop}.nii.gz")}


def threshold_of(data):
    return float(np.round(np.percentile(np.asarray(data), 70)) + 0.37)


def predictor(x):
    """Three channels that depend on the voxel and on its place in the window, so that blending shows."""
    n, _, a, b, c = x.shape
    i = torch.arange(a, dtype=torch.float32).reshape(-1, 1, 1)
    j = torch.arange(b, dtype=torch.float32).reshape(1, -1, 1)
    k = torch.arange(c, dtype=torch.float32).reshape(1, 1, -1)
    ramp = i * 3 + j * 2 - k
    return torch.cat([x * 0.5 + ramp, -x * 0.25 + 40 - ramp, x * 0.1 + ramp * 0.5], dim=1)


def main():
    write_crops()
    golden = {"stride": STRIDE, "cases": [], "inverses": [], "windows": []}
    for name, crop, steps in CASES:
        out = build([*LOAD, *steps])(volume(crop))["image"]
        # a picture is a volume of one slice, whose affine MONAI does not keep
        shown = (out[..., None], None) if out.ndim == 3 else (out, out.affine)
        golden["cases"].append({"name": name, "crop": crop, "steps": steps, **summary(*shown, crop == "ct-labels")})
    for name, crop, steps in INVERSES:
        chain = build([*LOAD, *steps])
        item = chain(volume(crop))
        at = threshold_of(item["image"])
        item["pred"] = MetaTensor((item["image"] > at).float(), meta=item["image"].meta, applied_operations=item["image"].applied_operations)
        back = Invertd(keys="pred", transform=chain, orig_keys="image", nearest_interp=True)(item)["pred"]
        golden["inverses"].append({"name": name, "crop": crop, "steps": steps, "threshold": at, **summary(back, None, True)})
    image = np.asarray(nib.load(HERE / "transform-ct.nii.gz").dataobj).astype(np.float32)
    for size, roi, overlap, blend, batch in WINDOWS:
        x = torch.from_numpy(image)[None, None]
        assert list(x.shape[2:]) == size
        out = sliding_window_inference(x, roi, batch, predictor, overlap=overlap, mode=blend)[0]
        golden["windows"].append(
            {
                "roi": roi,
                "overlap": overlap,
                "blend": blend,
                "batch": batch,
                "scores": summary(out),
                "labels": summary(out.argmax(0), None, True),
            }
        )
    (HERE / "transforms.json").write_text(json.dumps(golden))


main()
