"""A trained nnU-Net v2 as a zip that Aidant takes: plans.json, dataset.json and an ONNX file for each fold.

    python nnunet_to_zip.py nnUNet_results/Dataset501_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres liver.zip
    curl -X PUT http://127.0.0.1:5000/admin/model/liver -F data=@liver.zip

Runs in the Python environment in which the model was trained (nnU-Net v2 and the `onnx` package; `pip install onnx`), on a CPU.
Of a cascade (3d_cascade_fullres) the first stage, trained beside it, goes into the same zip; `--previous FOLDER` names another.
`--folds 0 1 2` takes some of the folds, `--checkpoint checkpoint_best.pth` another checkpoint. Each exported network is run
once beside the original through onnxruntime, where that is installed, and the largest difference is printed.
"""

from __future__ import annotations

import argparse
import inspect
import json
import tempfile
import zipfile
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

OPSET = 17
TOO_FAR = "the difference to onnxruntime is larger than rounding explains; the file is not written"


def folds_in(folder: Path, checkpoint: str) -> list[str]:
    """The folds that have this checkpoint, as nnU-Net numbers them; 'all' where nothing else was trained."""
    found = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}"))
    numbered = [fold for fold in found if fold != "all"]
    if not found:
        raise SystemExit(f"{folder} has no fold with a {checkpoint}")
    return numbered or found


def export(network: torch.nn.Module, channels: int, patch: list[int], path: Path) -> float | None:
    """Writes [n, channels, *patch] -> [n, classes, *patch]; the largest difference to onnxruntime, or None without it."""
    network.eval()
    torch.manual_seed(0)
    example = torch.randn(1, channels, *patch)
    # newer versions of torch have another exporter, which older ones do not know
    plain = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        network, (example,), str(path), input_names=["image"], output_names=["logits"], opset_version=OPSET,
        dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}}, **plain,
    )
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = torch.from_numpy(session.run(None, {"image": example.numpy()})[0])
    with torch.no_grad():
        expected = network(example)
    if (given - expected).abs().max() > 1e-2 * max(1.0, float(expected.abs().max())):
        raise SystemExit(TOO_FAR)
    return float((given - expected).abs().max())


def previous_folder(folder: Path, previous: str) -> Path:
    """Where the first stage of a cascade was trained: beside the second, by the same trainer if there are several."""
    trainer, plans, _ = folder.name.split("__")
    beside = sorted(path for path in folder.parent.glob(f"*__{plans}__{previous}") if path.is_dir())
    same = [path for path in beside if path.name.startswith(f"{trainer}__")]
    found = same or beside
    if len(found) != 1:
        told = "not trained" if not found else f"trained {len(found)} times"
        raise SystemExit(f"{folder.name} reads the label maps of {previous}, which is {told} beside it: "
                         "name its folder with --previous")
    return found[0]


def write_configuration(archive: zipfile.ZipFile, folder: Path, folds: list[str] | None, checkpoint: str) -> str | None:
    """Adds a trained configuration to the archive; the name of the stage before it, if it is the second of a cascade."""
    folds = folds or folds_in(folder, checkpoint)
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(
        str(folder), [fold if fold == "all" else int(fold) for fold in folds], checkpoint
    )
    configuration = predictor.configuration_manager
    # of a cascade, with a channel for each label of the stage before
    channels = determine_num_input_channels(predictor.plans_manager, configuration, predictor.dataset_json)
    name = folder.name.split("__")[-1]
    axes = predictor.allowed_mirroring_axes
    said = {
        "trainer": predictor.trainer_name,
        "configuration": name,
        "inference_allowed_mirroring_axes": None if axes is None else list(axes),
    }
    inside = f"{folder.parent.name}/{folder.name}"
    for file in ["plans.json", "dataset.json", "dataset_fingerprint.json"]:
        if (folder / file).exists():
            archive.write(folder / file, f"{inside}/{file}")
    archive.writestr(f"{inside}/nnunet_export.json", json.dumps(said, indent=1))
    with tempfile.TemporaryDirectory() as work:
        for fold, weights in zip(folds, predictor.list_of_parameters, strict=True):
            predictor.network.load_state_dict(weights)
            path = Path(work) / "model.onnx"
            difference = export(predictor.network, channels, list(configuration.patch_size), path)
            archive.write(path, f"{inside}/fold_{fold}/model.onnx")
            path.unlink()
            told = "not compared, onnxruntime is not installed" if difference is None else f"differs by {difference:.1e}"
            print(f"{name}, fold {fold}: {told}")
    print(f"{archive.filename}: {len(folds)} folds of {folder.name}")
    return configuration.previous_stage_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="<trainer>__<plans>__<configuration> in nnUNet_results")
    parser.add_argument("zip", type=Path, help="the archive to write")
    parser.add_argument("--folds", nargs="+", help="as in fold_<...>; all that were trained, if not told")
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--previous", type=Path, help="of a cascade, the folder of its first stage, if it is not the one beside")
    given = parser.parse_args()
    folder = given.folder.resolve()
    with zipfile.ZipFile(given.zip, "w", zipfile.ZIP_DEFLATED) as archive:
        previous = write_configuration(archive, folder, given.folds, given.checkpoint)
        if previous is not None:
            first = given.previous.resolve() if given.previous else previous_folder(folder, previous)
            write_configuration(archive, first, given.folds, given.checkpoint)


if __name__ == "__main__":
    main()
