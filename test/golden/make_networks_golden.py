"""What MONAI's transforms and inferer give for models of several networks: test/golden/networks.

    python test/golden/make_networks_golden.py

needs monai, onnx, onnxruntime, nibabel and torch. Each case is a folder with config_aiaa.json and small networks of fixed
random weights as ONNX; MONAI prepares the image of this folder, SlidingWindowInferer runs each network through onnxruntime,
and MeanEnsembled, VoteEnsembled or the parts' own label maps, put over one another in order, make the answer.
"""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import onnxruntime as ort
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd, AsDiscreted, BoundingRect, Compose, EnsureChannelFirstd, Invertd, LoadImaged, MeanEnsembled, NormalizeIntensityd,
    ScaleIntensityRanged, Spacingd, SpatialCropd, VoteEnsembled,
)
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OUT = HERE / "networks"
IMAGE = HERE / "transform-ct.nii.gz"
HIDDEN = 4
WINDOW = [16, 20, 24]
LEVELS = (0.35, 0.75)
RANGE = {"a_min": -500, "a_max": 600, "b_min": 0, "b_max": 1, "clip": True}


def network(path, classes, seed, levels=LEVELS, pooled=False, overlapping=False):
    """conv 3, relu, conv 1: each class likes the neighbourhood's mean best at a level of its own, and some texture beside."""
    random = np.random.default_rng(seed)
    kernel = random.normal(0, 0.2, (HIDDEN, 1, 3, 3, 3))
    kernel[0], kernel[1] = 1 / 27, -1 / 27
    low, high = levels
    level = low + (high - low) * (np.arange(classes) + 0.5 + random.uniform(-0.2, 0.2, classes)) / classes
    mix = random.normal(0, 0.05 * (high - low), (classes, HIDDEN))
    mix[:, 0], mix[:, 1], bias = (4, -4, -4 * level) if overlapping else (2 * level, -2 * level, -(level**2))
    mix, bias = mix * 8, bias * 8

    def tensor(name, values):
        return numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "k1"], ["c1"], pads=[1] * 6),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2", "b2"], ["map" if pooled else "scores"]),
    ]
    if pooled:
        nodes += [helper.make_node("GlobalAveragePool", ["map"], ["mean"]), helper.make_node("Flatten", ["mean"], ["scores"])]
    axes = [] if pooled else ["d", "h", "w"]
    graph = helper.make_graph(
        nodes, "made",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, "d", "h", "w"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes, *axes])],
        [tensor("k1", kernel), tensor("k2", mix.reshape(classes, HIDDEN, 1, 1, 1)), tensor("b2", bias)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def predictor(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(x):
        return torch.from_numpy(session.run(None, {"image": np.ascontiguousarray(x.numpy())})[0])

    return run


def preparation(pixdim):
    return Compose([
        LoadImaged(keys="image"), EnsureChannelFirstd(keys="image"), Spacingd(keys="image", pixdim=pixdim, mode="bilinear"),
        ScaleIntensityRanged(keys="image", **RANGE),
    ])


def said(pixdim):
    """The same in a config."""
    return [
        {"name": "LoadImaged", "args": {"keys": "image"}},
        {"name": "EnsureChannelFirstd", "args": {"keys": "image"}},
        {"name": "Spacingd", "args": {"keys": "image", "pixdim": pixdim, "mode": "bilinear"}},
        {"name": "ScaleIntensityRanged", "args": {"keys": "image", **RANGE}},
    ]


def scores_of(path, image, window=WINDOW):
    inferer = SlidingWindowInferer(roi_size=window, sw_batch_size=2, overlap=0.25, mode="gaussian")
    out = inferer(image["image"][None], predictor(path))[0]
    return MetaTensor(torch.as_tensor(out)).copy_meta_from(image["image"])


def inverted(image, keys, pre):
    return Invertd(keys=keys, transform=pre, orig_keys="image", nearest_interp=False, to_tensor=True)(image)


def window_args(window=WINDOW):
    return {"scanning_window": True, "roi": window, "overlap": 0.25, "mode": "gaussian", "batch_size": 2}


PIXDIM = [2.5, 2.5, 4.0]
INVERT = {"name": "Invertd", "args": {"keys": "pred", "orig_keys": "image", "nearest_interp": False}}
ARGMAX = {"name": "AsDiscreted", "args": {"keys": "pred", "argmax": True}}
SOFTMAX = {"name": "Activationsd", "args": {"keys": "pred", "softmax": True}}
SIGMOID = {"name": "Activationsd", "args": {"keys": "pred", "sigmoid": True}}
HALF = {"name": "AsDiscreted", "args": {"keys": "pred", "threshold": 0.5}}
MERGE = {"name": "MergeChannelsd", "args": {"keys": "pred", "channels": [2, 1, 0], "values": [3, 2, 1]}}


def write(folder, config):
    (folder / "config_aiaa.json").write_text(json.dumps(config, indent=1) + "\n")


def save(name, labels):
    source = nib.load(IMAGE)
    data = np.asarray(labels).astype(np.uint8).reshape(source.shape)
    nib.save(nib.Nifti1Image(data, source.affine, dtype=np.uint8), OUT / f"{name}.nii.gz")
    print(name, np.round(np.bincount(data.ravel()) / data.size, 3))


def ensemble_case(name, classes, ensemble, post, count=3, overlapping=False):
    """Networks of one kind; `post` is the config's, in MONAI's words done here."""
    folder = OUT / name
    folder.mkdir(parents=True)
    paths = [folder / f"net{i}.onnx" for i in range(count)]
    for i, path in enumerate(paths):
        network(path, classes, 10 * len(name) + i, overlapping=overlapping)
    write(folder, {
        "version": "4", "type": "ensemble", "labels": [f"class {i}" for i in range(1, classes + overlapping)],
        "pre_transforms": said(PIXDIM),
        "inference": {
            "input": "image", "output": "pred", "args": window_args(), "networks": [path.name for path in paths], "ensemble": ensemble,
        },
        "post_transforms": post,
    })
    pre = preparation(PIXDIM)
    image = pre({"image": str(IMAGE)})
    keys = [f"pred{i}" for i in range(count)]
    for key, path in zip(keys, paths, strict=True):
        image[key] = scores_of(path, image)
    if ensemble["method"] == "vote":
        image = inverted(image, keys, pre)
        if overlapping:
            image = Activationsd(keys=keys, sigmoid=True)(image)
            image = AsDiscreted(keys=keys, threshold=0.5)(image)
            return save(name, merged(VoteEnsembled(keys=keys, output_key="pred")(image)["pred"]))
        image = AsDiscreted(keys=keys, argmax=True)(image)
        return save(name, VoteEnsembled(keys=keys, output_key="pred", num_classes=classes)(image)["pred"])
    if ensemble.get("of") == "probabilities":
        image = Activationsd(keys=keys, sigmoid=overlapping, softmax=not overlapping)(image)
    weights = ensemble.get("weights")
    image = MeanEnsembled(keys=keys, output_key="pred", weights=weights)(image)
    image["pred"] = MetaTensor(torch.as_tensor(image["pred"])).copy_meta_from(image["image"])
    image = inverted(image, ["pred"], pre)
    if not overlapping:
        return save(name, AsDiscreted(keys="pred", argmax=True)(image)["pred"])
    if ensemble.get("of") != "probabilities":
        image = Activationsd(keys="pred", sigmoid=True)(image)
    return save(name, merged(AsDiscreted(keys="pred", threshold=0.5)(image)["pred"]))


def merged(channels):
    """MergeChannelsd of the config: a later channel lies over an earlier one."""
    out = np.zeros(channels.shape[1:], np.uint8)
    for c, channel in enumerate(np.asarray(channels)):
        out[channel > 0] = c + 1
    return out


PARTS = [("organs", 3, {"1": 1, "2": 5}, (0.3, 0.7)), ("vessels", 2, {"1": 2}, (0.45, 0.8)), ("bones", 4, {"1": 3, "3": 4}, (0.4, 1.0))]
ROUGH = [6.0, 6.0, 6.0]
MARGIN = 7.5


def parts_case(name, first):
    """Parts of one label map; with `first`, in the box that a rough network at 6 mm finds, and 7.5 mm around it."""
    folder = OUT / name
    folder.mkdir(parents=True)
    for i, (part, classes, _, levels) in enumerate(PARTS):
        network(folder / f"{part}.onnx", classes, 70 + i, levels)
    inference = {
        "input": "image", "output": "pred", "args": window_args(),
        "label_maps": [{"network": f"{part}.onnx", "labels": labels} for part, _, labels, _ in PARTS],
    }
    rough = {}
    if first:
        network(folder / "rough.onnx", 2, 90, (0.2, 0.9))
        inference["first"] = {
            "networks": ["rough.onnx"], "crop_margin": MARGIN, "output": "rough", "pre_transforms": said(ROUGH), "args": window_args([12, 12, 12]),
            "post_transforms": [
                {"name": "Invertd", "args": {"keys": "rough", "orig_keys": "image", "nearest_interp": False}},
                {"name": "AsDiscreted", "args": {"keys": "rough", "argmax": True}},
            ],
        }
        pre = preparation(ROUGH)
        image = pre({"image": str(IMAGE)})
        image["pred"] = scores_of(folder / "rough.onnx", image, [12, 12, 12])
        found = AsDiscreted(keys="pred", argmax=True)(inverted(image, ["pred"], pre))["pred"]
        box = np.asarray(BoundingRect()(found))[0].reshape(3, 2)
        grow = np.ceil(MARGIN / np.asarray(nib.load(IMAGE).header.get_zooms()[:3])).astype(int)
        start = np.maximum(box[:, 0] - grow, 0)
        end = np.minimum(box[:, 1] + grow, found.shape[1:])
        print(name, "box", start, end, "of", found.shape[1:])
        rough = {"roi_start": start.tolist(), "roi_end": end.tolist()}
    write(folder, {
        "version": "4", "type": "segmentation", "labels": [f"part {i}" for i in range(1, 6)], "pre_transforms": said(PIXDIM),
        "inference": inference, "post_transforms": [INVERT, ARGMAX],
    })
    crop = [SpatialCropd(keys="image", **rough)] if first else []
    steps = preparation(PIXDIM).transforms
    pre = Compose([*steps[:2], *crop, *steps[2:]])
    image = pre({"image": str(IMAGE)})
    result = np.zeros(nib.load(IMAGE).shape, np.uint8)
    for part, _, labels, _ in PARTS:
        image["pred"] = scores_of(folder / f"{part}.onnx", image)
        own = np.asarray(AsDiscreted(keys="pred", argmax=True)(inverted(dict(image), ["pred"], pre))["pred"])[0]
        for label, final in labels.items():
            result[own == int(label)] = final
    save(name, result)


def classifier_case(name, ensemble):
    folder = OUT / name
    folder.mkdir(parents=True)
    paths = [folder / f"net{i}.onnx" for i in range(3)]
    for i, path in enumerate(paths):
        network(path, 3, 50 + i, pooled=True)
    of = ensemble.get("of") == "probabilities"
    write(folder, {
        "version": "4", "type": "ensemble", "labels": ["a", "b", "c"], "pre_transforms": said(PIXDIM),
        "inference": {
            "input": "image", "output": "pred", "networks": [path.name for path in paths], "ensemble": {"task": "classification", **ensemble},
        },
        "post_transforms": [SOFTMAX],
    })
    image = preparation(PIXDIM)({"image": str(IMAGE)})
    scores = torch.stack([predictor(path)(image["image"][None])[0] for path in paths])
    print(scores)
    if ensemble["method"] == "vote":
        answer = torch.nn.functional.one_hot(scores.argmax(1), 3).float().mean(0)
    else:
        answer = scores.softmax(1).mean(0) if of else scores.mean(0).softmax(0)
    return answer.tolist()


if __name__ == "__main__":
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    ensemble_case("mean_scores", 3, {"method": "mean"}, [INVERT, ARGMAX])
    ensemble_case("mean_weighted", 3, {"method": "mean", "of": "scores", "weights": [3, 1, 0.5]}, [INVERT, ARGMAX])
    ensemble_case(
        "mean_weighted_by_channel", 3, {"method": "mean", "weights": [[1, 2, 1], [0.5, 1, 3], [1, 1, 1]]}, [INVERT, ARGMAX],
    )
    ensemble_case("mean_probabilities", 3, {"method": "mean", "of": "probabilities"}, [SOFTMAX, INVERT, ARGMAX])
    ensemble_case(
        "mean_of_overlapping", 3, {"method": "mean", "of": "probabilities", "weights": [1, 2, 3]}, [SIGMOID, INVERT, HALF, MERGE], overlapping=True,
    )
    ensemble_case("vote_labels", 4, {"method": "vote"}, [INVERT, ARGMAX], count=4)
    ensemble_case("vote_masks", 3, {"method": "vote"}, [INVERT, SIGMOID, HALF, MERGE], count=4, overlapping=True)
    parts_case("parts", False)
    parts_case("parts_after_rough", True)
    scores = {
        name: classifier_case(name, ensemble)
        for name, ensemble in {
            "classifier_mean": {"method": "mean"},
            "classifier_probabilities": {"method": "mean", "of": "probabilities"},
            "classifier_vote": {"method": "vote"},
        }.items()
    }
    (OUT / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
