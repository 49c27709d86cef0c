"""The same segmentation in MONAI with onnxruntime: prints [{"total": ms, "bare": ms}, ...], one entry a run after a warm-up."""

import json
import os
import sys
import time

import monai.transforms as mt
import nibabel as nib
import numpy as np
import onnxruntime
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference

case, image, model, runs, folder = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
torch.set_num_threads(2)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
options.enable_mem_pattern = False
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
bare = 0.0


def network(x):
    global bare
    feed = {name: np.ascontiguousarray(x.numpy())}
    start = time.perf_counter()
    out = session.run(None, feed)[0]
    bare += time.perf_counter() - start
    return torch.from_numpy(out)


pre = mt.Compose(
    [
        mt.LoadImaged(keys="image"),
        mt.EnsureChannelFirstd(keys="image"),
        *[getattr(mt, step)(keys="image", **args) for step, args in case["pre"]],
    ]
)
argmax = mt.AsDiscreted(keys="pred", argmax=True)
invert = mt.Invertd(keys="pred", transform=pre, orig_keys="image", nearest_interp=True)
timings = []
for run in range(runs + 1):
    bare = 0.0
    start = time.perf_counter()
    with torch.no_grad():
        item = pre({"image": image})
        x = item["image"].as_tensor()[None]
        window = case.get("window")
        if window:
            out = sliding_window_inference(
                x, window["roi"], window["batch_size"], network, overlap=window["overlap"], mode=window["mode"]
            )
        else:
            out = network(x)
        item["pred"] = MetaTensor(out[0], meta=item["image"].meta, applied_operations=item["image"].applied_operations)
        label = invert(argmax(item))["pred"]
        nib.save(
            nib.Nifti1Image(label[0].numpy().astype(np.uint8), nib.load(image).affine), os.path.join(folder, "monai.nii.gz")
        )
    if run > 0:
        timings.append({"total": (time.perf_counter() - start) * 1000, "bare": bare * 1000})
print(json.dumps(timings))
