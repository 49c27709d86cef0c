"""MONAI's UNet with random weights, as users export it: python make_networks.py FOLDER -> unet3.onnx, unet133.onnx."""

import sys
import warnings
from pathlib import Path

import torch
from monai.networks.nets import UNet

warnings.filterwarnings("ignore")
folder = Path(sys.argv[1])
torch.manual_seed(0)
for classes in (3, 133):
    path = folder / f"unet{classes}.onnx"
    if path.exists():
        continue
    net = UNet(spatial_dims=3, in_channels=1, out_channels=classes, channels=(16, 32, 64, 128), strides=(2, 2, 2)).eval()
    # slopes of a trained network differ, and are then kept one by one
    for i, slope in enumerate(p for name, p in net.named_parameters() if p.numel() == 1):
        slope.data.fill_(0.1 + 0.01 * i)
    free = {0: "n", 2: "d", 3: "h", 4: "w"}
    torch.onnx.export(
        net, torch.zeros(1, 1, 96, 96, 96), str(path), opset_version=17, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": free, "y": free}, dynamo=False,
    )
