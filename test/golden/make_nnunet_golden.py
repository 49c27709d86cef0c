"""What nnU-Net's own predictor answers for small made-up models: test/golden/nnunet.

    python test/golden/make_nnunet_golden.py

needs nnunetv2 2.8.1, onnx, onnxruntime and SimpleITK. Each case is a folder as nnU-Net's results folder has it, with a small network of
fixed random weights as ONNX where the checkpoint of each fold lies; nnUNetPredictor (step size 0.5, gaussian, CPU) runs it
through onnxruntime on an image of this folder. Images that are not here already are made beside the answers.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import SimpleITK as sitk
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OUT = HERE / "nnunet"
HIDDEN = 6
RESAMPLING = {"order_z": 0, "force_separate_z": None}


def network(path, channels, classes, dimensions, levels, seed, regions=False, previous=0):
    """conv 3, relu, conv 1: each class likes the neighbourhood's mean best at a level of its own, and some texture beside."""
    random = np.random.default_rng(seed)
    kernel = random.normal(0, 1 / (channels * 3 ** (dimensions / 2)), (HIDDEN, channels, *[3] * dimensions))
    mean = np.full((channels, *[3] * dimensions), 1 / (channels * 3**dimensions))
    # no network of a training is the same mirrored
    mean[(0, *[0] * dimensions)] *= 3
    mean[(0, *[2] * dimensions)] *= 0
    if previous:
        # the last channels are the labels of the stage before, each of which raises the level
        mean[:-previous] *= channels / (channels - previous)
        mean[-previous:] = 0
        mean[(slice(-previous, None), *[1] * dimensions)] = 0.5 * (levels[1] - levels[0]) / classes * np.arange(1, previous + 1)
        kernel[:, -previous:] *= 0.3
    kernel[0], kernel[1] = mean, -mean
    low, high = levels
    level = low + (high - low) * (np.arange(classes) + 0.5) / classes
    mix = random.normal(0, 0.15 * (high - low), (classes, HIDDEN))
    if regions:
        mix[:, 0], mix[:, 1], bias = 4, -4, -4 * level
    else:
        mix[:, 0], mix[:, 1], bias = 2 * level, -2 * level, -(level**2)
    mix, bias = mix * 4, bias * 4

    def tensor(name, values):
        return numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name)

    spatial = ["d", "h", "w"][-dimensions:]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "k1"], ["c1"], pads=[1] * 2 * dimensions),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "k2", "b2"], ["logits"]),
        ],
        "made",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *spatial])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes, *spatial])],
        [tensor("k1", kernel), tensor("k2", mix.reshape(classes, HIDDEN, *[1] * dimensions)), tensor("b2", bias)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


class Folds(torch.nn.Module):
    """The predictor loads each fold's weights in turn; here it is told which file to run."""

    def __init__(self, paths):
        super().__init__()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = [ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) for path in paths]
        self.fold = 0

    def load_state_dict(self, fold):
        self.fold = fold

    def forward(self, x):
        return torch.from_numpy(self.sessions[self.fold].run(None, {"image": x.numpy()})[0])


def plans(configuration, patch, spacing, schemes, *, use_mask=False, transpose=(0, 1, 2), properties=None, order=3):
    return {
        "dataset_name": "Dataset900_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [list(transpose).index(axis) for axis in range(3)],
        "configurations": {
            "base": {
                "preprocessor_name": "DefaultPreprocessor",
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, "order": order, **RESAMPLING},
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **RESAMPLING},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **RESAMPLING},
            },
            configuration: {
                "inherits_from": "base",
                "data_identifier": f"nnUNetPlans_{configuration}",
                "batch_size": 2,
                "patch_size": patch,
                "spacing": spacing,
                "normalization_schemes": schemes,
                "use_mask_for_norm": [use_mask] * len(schemes),
                "architecture": {"network_class_name": "none", "arch_kwargs": {}, "_kw_requires_import": []},
                "batch_dice": False,
            },
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(c): properties or {"mean": 0.0, "std": 1.0, "percentile_00_5": 0.0, "percentile_99_5": 1.0}
            for c in range(len(schemes))
        },
    }


CT = {"mean": 40.0, "std": 150.0, "percentile_00_5": -500.0, "percentile_99_5": 600.0, "median": 40.0, "min": -1024.0, "max": 2000.0}
FOUR = {"background": 0, "liver": 1, "spleen": 2, "kidney": 3}
IMAGES = {"ct": HERE / "transform-ct.nii.gz", "mr": HERE / "transform-hippocampus.nii.gz", "thick": HERE / "transform-oblique.nii.gz"}

# case: images, trainer, configuration, plans, labels, regions_class_order, folds, levels of the classes, mirroring asked for
CASES = {
    "ct_own_grid": dict(
        images=["ct"], configuration="3d_fullres", patch=[16, 24, 20], spacing="own", schemes=["CTNormalization"], properties=CT,
        labels=FOUR, levels=(-0.7, 1.3),
    ),
    "ct_cubic": dict(
        images=["ct"], configuration="3d_fullres", patch=[16, 24, 20], spacing=[2.2, 4.1, 2.6], schemes=["CTNormalization"],
        properties=CT, labels=FOUR, levels=(-0.7, 1.3),
    ),
    "thick_slices": dict(
        images=["thick"], configuration="3d_fullres", patch=[8, 24, 24], spacing=[5.0, 1.0, 0.9],
        schemes=["ZScoreNormalization"], labels=FOUR, levels=(-1.5, 2),
    ),
    "mr_crop_mask": dict(
        images=["masked"], configuration="3d_fullres", patch=[20, 64, 24], spacing=[1.2, 1.0, 0.9],
        schemes=["ZScoreNormalization"], use_mask=True, labels={**FOUR, "ignore": 4}, levels=(-1.5, 2),
    ),
    "two_d": dict(
        images=["ct"], configuration="2d", patch=[20, 32], spacing=[2.6, 3.7], schemes=["CTNormalization"], properties=CT,
        labels=FOUR, levels=(-0.7, 1.3),
    ),
    "regions": dict(
        images=["mr"], configuration="3d_fullres", patch=[20, 24, 24], spacing="own", schemes=["RescaleTo01Normalization"],
        labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}, regions_class_order=[1, 2, 3],
        levels=(0.2, 0.6),
    ),
    "folds": dict(
        images=["mr"], configuration="3d_fullres", patch=[16, 24, 24], spacing="own", schemes=["ZScoreNormalization"], labels=FOUR,
        levels=(-1.5, 2), folds=3,
    ),
    "mirroring": dict(
        images=["mr"], trainer="nnUNetTrainer", configuration="3d_fullres", patch=[16, 24, 24], spacing="own",
        schemes=["ZScoreNormalization"], labels=FOUR, levels=(-1.5, 2), mirror=(0, 1, 2),
    ),
    "channels": dict(
        images=["mr", "second"], configuration="3d_fullres", patch=[24, 16, 20], spacing=[1.0, 1.2, 1.0],
        schemes=["ZScoreNormalization", "RescaleTo01Normalization"], labels=FOUR, levels=(-0.6, 1.2), transpose=(2, 0, 1),
    ),
    "lowres": dict(
        images=["ct"], configuration="3d_lowres", patch=[12, 16, 16], spacing=[4.4, 8.2, 5.2], schemes=["CTNormalization"],
        properties=CT, labels=FOUR, levels=(-0.7, 1.3),
    ),
}


CASCADES = {
    # the first stage at half the resolution, and the second, which reads its label map
    "cascade": dict(
        images=["ct"], labels=FOUR, levels=(-0.7, 1.3), folds=2, schemes=["CTNormalization"], properties=CT,
        stages={"3d_lowres": ([12, 16, 16], [4.4, 8.2, 5.2]), "3d_cascade_fullres": ([16, 24, 20], [2.2, 4.1, 2.6])},
    ),
    "cascade_thick": dict(
        images=["thick"], labels={**FOUR, "ignore": 4}, levels=(-1.5, 2), folds=1, schemes=["ZScoreNormalization"],
        stages={"3d_lowres": ([8, 16, 16], [6.5, 2.0, 1.9]), "3d_cascade_fullres": ([8, 24, 24], [5.0, 1.0, 0.9])},
    ),
}


def cascade_answer(name, case, seed):
    files = [IMAGES[image] for image in case["images"]]
    image, properties = SimpleITKIO().read_images([str(file) for file in files])
    trainer = "nnUNetTrainerNoMirroring"
    said = None
    for configuration, (patch, spacing) in case["stages"].items():
        own = plans(configuration, patch, spacing, case["schemes"], properties=case.get("properties"))
        said = said or own
        said["configurations"][configuration] = own["configurations"][configuration]
    first, second = case["stages"]
    said["configurations"][first]["next_stage"] = second
    said["configurations"][second]["previous_stage"] = first
    dataset = {
        "channel_names": {str(c): scheme for c, scheme in enumerate(case["schemes"])}, "labels": case["labels"], "numTraining": 1,
        "file_ending": ".nii.gz", "name": "Dataset900_Made",
    }
    classes = len([label for label in case["labels"] if label != "ignore"])
    found = None
    for stage, configuration in enumerate([first, second]):
        folder = OUT / name / f"{trainer}__nnUNetPlans__{configuration}"
        paths = [folder / f"fold_{fold}" / "model.onnx" for fold in range(case["folds"])]
        previous = stage * (classes - 1)
        for fold, path in enumerate(paths):
            network(path, len(case["schemes"]) + previous, classes, 3, case["levels"], seed + 100 * fold + 1000 * stage, previous=previous)
        (folder / "plans.json").write_text(json.dumps(said, indent=1) + "\n")
        (folder / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n")
        manager = PlansManager(said)
        predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
        predictor.manual_initialization(
            Folds(paths), manager, manager.get_configuration(configuration), list(range(len(paths))), dataset, trainer, None
        )
        found = predictor.predict_single_npy_array(image, properties, None if found is None else found[None].astype(np.float32), None, False)
        print(f"{name} {configuration}: shares of the labels {np.round(np.bincount(found.ravel().astype(int)) / found.size, 3)}")
        result = sitk.GetImageFromArray(found.astype(np.uint8))
        result.CopyInformation(sitk.ReadImage(str(files[0])))
        sitk.WriteImage(result, str(OUT / f"{name}{'_lowres' if stage == 0 else ''}.nii.gz"), True)
    return {"images": case["images"], "tta": False, "resampled": True}


def make_images():
    """An MR in a rim of zeros with a hole of zeros in it, and a second channel of the MR."""
    image = sitk.ReadImage(str(IMAGES["mr"]), sitk.sitkFloat32)
    voxels = sitk.GetArrayFromImage(image)
    voxels /= voxels.max()
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in voxels.shape], indexing="ij")
    radius = z**2 + y**2 + x**2
    masked = np.where((radius < 0.8) & (radius > 0.02), voxels + 0.1, 0)
    for name, array in {"masked": masked, "second": np.sqrt(voxels)[::-1]}.items():
        made = sitk.GetImageFromArray(np.round(np.ascontiguousarray(array) * 1000).astype(np.int16))
        made.CopyInformation(image)
        IMAGES[name] = OUT / f"{name}.nii.gz"
        sitk.WriteImage(made, str(IMAGES[name]), True)


def answer(name, case, seed):
    files = [IMAGES[image] for image in case["images"]]
    image, properties = SimpleITKIO().read_images([str(file) for file in files])
    configuration = case["configuration"]
    dimensions = len(case["patch"])
    transpose = case.get("transpose", (0, 1, 2))
    own = [float(properties["spacing"][axis]) for axis in transpose]
    said = plans(
        configuration, case["patch"], own if case["spacing"] == "own" else case["spacing"], case["schemes"],
        use_mask=case.get("use_mask", False), transpose=transpose, properties=case.get("properties"),
    )
    regions = case.get("regions_class_order")
    dataset = {
        "channel_names": {str(c): "CT" if "CT" in scheme else "MR" for c, scheme in enumerate(case["schemes"])},
        "labels": case["labels"], "numTraining": 1, "file_ending": ".nii.gz", "name": "Dataset900_Made",
        **({"regions_class_order": regions} if regions else {}),
    }
    trainer = case.get("trainer", "nnUNetTrainerNoMirroring")
    folder = OUT / name / f"{trainer}__nnUNetPlans__{configuration}"
    classes = len(regions) if regions else len([label for label in case["labels"] if label != "ignore"])
    paths = [folder / f"fold_{fold}" / "model.onnx" for fold in range(case.get("folds", 1))]
    for fold, path in enumerate(paths):
        network(path, len(case["schemes"]), classes, dimensions, case["levels"], seed + 100 * fold, bool(regions))
    (folder / "plans.json").write_text(json.dumps(said, indent=1) + "\n")
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n")

    manager = PlansManager(said)
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring="mirror" in case, allow_tqdm=False)
    predictor.manual_initialization(
        Folds(paths), manager, manager.get_configuration(configuration), list(range(len(paths))), dataset, trainer,
        case.get("mirror"),
    )
    labels = predictor.predict_single_npy_array(image, properties, None, None, False)
    result = sitk.GetImageFromArray(labels.astype(np.uint8))
    result.CopyInformation(sitk.ReadImage(str(files[0])))
    sitk.WriteImage(result, str(OUT / f"{name}.nii.gz"), True)
    shares = np.bincount(labels.ravel().astype(int)) / labels.size
    print(f"{name}: {image.shape}, shares of the labels {np.round(shares, 3)}")
    return {"images": case["images"], "tta": "mirror" in case, "resampled": case["spacing"] != "own"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    make_images()
    asked = {name: answer(name, case, 40 + i) for i, (name, case) in enumerate(CASES.items())}
    for i, (name, case) in enumerate(CASCADES.items()):
        asked[name] = cascade_answer(name, case, 80 + i)
    (OUT / "asked.json").write_text(json.dumps(asked, indent=1) + "\n")
