"""What MONAI's own evaluator answers for bundles of its model zoo: test/golden/zoo.

    python test/golden/make_zoo_golden.py ../shared/data               # the answers that the tests hold themselves to
    python test/golden/make_zoo_golden.py ../shared/data /tmp/zoo full # whole scans, to look at by hand

needs monai, pytorch-ignite, onnx, onnxruntime, nibabel and torch. For each bundle a small network of fixed random weights
with the bundle's channels and classes is written as ONNX, and the published config is run by MONAI's ConfigParser and
evaluator with that file as its network (through onnxruntime). Only what cannot be run anywhere else is replaced: the list
of images, the checkpoint, the devices, the writers, and the two classes of one bundle's own scripts. Label maps are kept as
.nii.gz on the grid of the image, scores as .json.
"""

import gzip
import json
import sys
import types
from pathlib import Path

import monai
import nibabel as nib
import numpy as np
import onnx
import onnxruntime as ort
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
DATA = Path(sys.argv[1])
OUT = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "zoo"
FULL = len(sys.argv) > 3 and sys.argv[3] == "full"
ONLY = sys.argv[4:]


def crop(name):
    return HERE / f"transform-{name}.nii.gz"


CT = DATA / "nifti/totalsegmentator/example_ct_sm.nii.gz" if FULL else crop("ct")
SECOND = DATA / "nifti/totalsegmentator/example_ct_sm_seg117.nii.gz" if FULL else crop("ct-labels")
MR = DATA / "nifti/msd_hippocampus/imagesTr/hippocampus_001.nii.gz" if FULL else crop("hippocampus")
FLAT = DATA / "nifti/qin_gbm/PGBM-001_t0_FLAIRreg.nii.gz" if FULL else crop("oblique")
STROKE = [DATA / f"nifti/stroke/{name}.nii.gz" for name in ["T1", "T2", "FLAIR", "T1"]]
COLOUR = DATA / "clicks2d/camelyon/0000_img.jpg"
GREY = DATA / "png/mednist/Hand/000000.jpeg"

# folder: files of the item's keys, channels, classes, dimensions (0 with no spatial ones: a classifier), intensities
BUNDLES = {
    "spleen_ct_segmentation": ({"image": CT}, 1, 2, 3, (0, 1)),
    "renalStructures_UNEST_segmentation": ({"image": CT}, 1, 4, 3, (0, 1)),
    "multi_organ_segmentation": ({"image": CT}, 1, 8, 3, (0.3, 0.8)),
    "pediatric_abdominal_ct_segmentation": ({"image": CT}, 1, 4, 3, (0, 1)),
    "wholeBody_ct_segmentation": ({"image": CT}, 1, 105, 3, (-0.8, 0.8)),
    "wholeBrainSeg_Large_UNEST_segmentation": ({"image": MR}, 1, 133, 3, (-1.5, 2.5)),
    "prostate_mri_anatomy": ({"image": MR}, 1, 3, 3, (-1.5, 2)),
    "ventricular_short_axis_3label": ({"image": FLAT}, 1, 4, 2, (0, 0.8)),
    "brats_mri_segmentation": ({"image": STROKE if FULL else [CT, SECOND, CT, SECOND]}, 4, 3, 3, (-0.5, 1.5)),
    "renalStructures_CECT_segmentation": ({"artery": CT, "vein": SECOND, "excret": CT, "label": SECOND}, 3, 6, 3, (0.3, 0.8)),
    "endoscopic_tool_segmentation": ({"image": COLOUR}, 3, 2, 2, (0, 1)),
    "breast_density_classification": ({"image": COLOUR}, 3, 4, 0, (0, 1)),
    "classification_template": ({"image": GREY, "label": GREY}, 1, 4, 0, (0, 1)),
}


def make_network(path, channels, classes, dimensions, levels, seed):
    """conv 3, relu, conv 1: scores that follow the image; a classifier averages them over it."""
    random = np.random.default_rng(seed)
    spatial = dimensions or 2
    hidden = 6
    overlapping = "brats" in path.name or "CECT" in path.name
    # Each class likes the neighbourhood's mean best at a level of its own, and some of its texture beside; where classes
    # overlap, each is there above its level.
    low, high = levels
    level = low + (high - low) * (random.permutation(classes) + 0.5) / classes
    mean = np.full((channels, *[3] * spatial), 1 / (channels * 3**spatial))
    mean[0] *= 1.4
    kernel = random.normal(0, 1 / (channels * 3 ** (spatial / 2)), (hidden, channels, *[3] * spatial))
    kernel[0], kernel[1] = mean, -mean
    step = (high - low) / classes
    out = random.normal(0, 0.3 * step * step, (classes, hidden))
    out[:, 0] += 4 if overlapping else 2 * level
    out[:, 1] -= 4 if overlapping else 2 * level
    weights = {
        "w1": kernel,
        "b1": np.where(np.arange(hidden) < 2, 0, random.normal(0, 0.1, hidden)),
        "w2": out.reshape(classes, hidden, *[1] * spatial),
        "b2": -4 * level if overlapping else -level * level,
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["a"], pads=[1] * 2 * spatial),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2", "b2"], ["scores"]),
    ]
    axes = ["d", "h", "w"][-spatial:]
    output = ["n", classes, *axes]
    if dimensions == 0:
        nodes.append(helper.make_node("GlobalAveragePool", ["scores"], ["pooled"]))
        nodes.append(helper.make_node("Flatten", ["pooled"], ["pred"]))
        output = ["n", classes]
    else:
        nodes.append(helper.make_node("Identity", ["scores"], ["pred"]))
    graph = helper.make_graph(
        nodes,
        "zoo",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *axes])],
        [helper.make_tensor_value_info("pred", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


class OnnxNetwork(torch.nn.Module):
    def __init__(self, path):
        super().__init__()
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def forward(self, x):
        out = torch.from_numpy(self.session.run(None, {"image": np.ascontiguousarray(x.cpu().numpy())})[0])
        # as torch's own networks do, or Invertd would find nothing to invert
        return MetaTensor(out).copy_meta_from(x) if isinstance(x, MetaTensor) else out


class ConcatImages(MapTransform, InvertibleTransform):
    """Joins channels, as the README of the configs describes the bundle's own class."""

    def __init__(self, keys_merge, keys_out):
        super().__init__(keys_merge)
        self.out = keys_out

    def __call__(self, data):
        return {**data, self.out: torch.cat([torch.as_tensor(data[key]) for key in self.keys])}

    def inverse(self, data):
        return data


class MergeClassesd(MapTransform):
    """Each voxel the first of its classes above the background, as the README of the configs describes it."""

    def __call__(self, data):
        pred = data["pred"]
        merged = torch.zeros_like(pred[:1])
        for value in range(pred.shape[0] - 1, 0, -1):
            merged = torch.where(pred[value : value + 1] > 0, value, merged)
        return {**data, "pred": merged}


def run(folder, files, network):
    config = next(path for path in [folder / "configs/inference.json", folder / "configs/inference.yaml"] if path.exists())
    parser = ConfigParser()
    parser.read_config(str(config))
    parser["imports"] = ["$import os", "$import glob"]
    parser["network_def"] = {"_target_": "zoo_network.OnnxNetwork", "path": str(network)}
    parser["network"] = "$@network_def"
    parser["device"] = "$torch.device('cpu')"
    parser["dataset"]["_target_"] = "Dataset"
    for key in ["cache_rate", "num_workers"]:
        parser["dataset"].pop(key, None)
    item = {key: [str(f) for f in value] if isinstance(value, list) else str(value) for key, value in files.items()}
    parser["dataset"]["data"] = [item]
    parser["dataloader"]["num_workers"] = 0
    parser["dataloader"]["batch_size"] = 1
    evaluator = parser["evaluator"]
    evaluator["val_handlers"] = None
    evaluator["amp"] = False
    for key in ["key_val_metric", "additional_metrics"]:
        evaluator.pop(key, None)
    steps = parser["postprocessing"]["transforms"]
    parser["postprocessing"]["transforms"] = [step for step in steps if not step["_target_"].startswith("Save")]
    # scores are told before a classifier's winner is picked
    if "classification" in folder.name:
        kept = parser["postprocessing"]["transforms"]
        parser["postprocessing"]["transforms"] = [step for step in kept if step["_target_"] == "Activationsd"]
    # By nearest voxel is right where labels are restored; see the README of the configs.
    if folder.name == "prostate_mri_anatomy":
        for step in parser["postprocessing"]["transforms"]:
            if step["_target_"] == "Invertd":
                step["nearest_interp"] = True
    made = parser.get_parsed_content("evaluator")
    made.run()
    return made.state.output[0]["pred"]


def place(path):
    """From the shared data, or from this folder."""
    return f"golden/{path.name}" if path.parent == HERE else str(path.relative_to(DATA))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    asked = {
        name: {
            "files": {key: [place(f) for f in value] if isinstance(value, list) else place(value) for key, value in row[0].items()},
            "classes": row[2],
        }
        for name, row in BUNDLES.items()
    }
    (OUT / "asked.json").write_text(json.dumps(asked, indent=1) + "\n")
    modules = {"zoo_network": {"OnnxNetwork": OnnxNetwork}}
    modules["scripts"] = {}
    modules["scripts.my_transforms"] = {"ConcatImages": ConcatImages, "MergeClassesd": MergeClassesd}
    for name, content in modules.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
        if "." in name:
            setattr(sys.modules["scripts"], name.split(".")[1], sys.modules[name])
        for key, value in content.items():
            value.__module__ = name
            setattr(sys.modules[name], key, value)
    for seed, (name, (files, channels, classes, dimensions, levels)) in enumerate(BUNDLES.items()):
        if ONLY and name not in ONLY:
            continue
        network = OUT / f"{name}.onnx"
        make_network(network, channels, classes, dimensions, levels, seed + 7)
        pred = np.asarray(run(DATA / "zoo" / name, files, network))
        first = next(iter(files.values()))
        first = first[0] if isinstance(first, list) else first
        if dimensions == 0:
            (OUT / f"{name}.json").write_text(json.dumps([float(v) for v in pred.reshape(-1)]) + "\n")
        else:
            labels = pred[0] if pred.shape[0] == 1 else pred.argmax(0)
            assert np.array_equal(labels, np.round(labels))
            affine = nib.load(first).affine if first.name.endswith(".nii.gz") else np.eye(4)
            image = nib.Nifti1Image(labels.astype(np.uint8), affine)
            (OUT / f"{name}.nii.gz").write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))
        print(name, pred.shape, np.unique(pred)[:12] if dimensions else pred.reshape(-1), monai.__version__, flush=True)


main()
