"""Makes small random pairs of the SAM family in the layouts that public exporters write, and the masks that each one's own
preparation and post-processing give around them:  python make_prompted_golden.py

The networks are random and tiny, so that the files are; their tensors have the names, ranks and sizes of the real exports. What
is around them follows the references: segment-anything's ResizeLongestSide (Pillow) and mask post-processing (torch),
EfficientSAM's example, MedSAM's scikit-image and LiteMedSAM's OpenCV resizing, SAM 2's transforms (torchvision's resize of a tensor, which is torch's). The decoder's
small masks follow the prompts, so that a mask lies where the clicks are.
Needs torch, onnx, onnxruntime, numpy, pillow, opencv-python-headless, scikit-image, nibabel.
"""
from __future__ import annotations

import json
from pathlib import Path

import cv2
import nibabel
import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import transform
from torch import Tensor, nn

HERE = Path(__file__).parent / "prompted"
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


class Encoder(nn.Module):
    """Patches of 16 pixels to `channels` features: 1024 -> 64 x 64, 256 -> 16 x 16 (or 64 x 64 with patches of 4)."""

    def __init__(self, seed: int, patch: int = 16, channels: int = 4, levels: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.patch, self.levels = patch, levels
        self.mix = nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        y = torch.tanh(self.mix(F.avg_pool2d(x, self.patch)))
        if not self.levels:
            return y
        return torch.tanh(self.mix(F.avg_pool2d(x, self.patch // 4)))[:, :2], torch.tanh(self.mix(F.avg_pool2d(x, self.patch // 2)))[:, :3], y


class Scaled(nn.Module):
    """An encoder that scales bytes itself: HWC of any size, padded (samexporter's --use-preprocess), or NCHW."""

    def __init__(self, inner: nn.Module, edge: int, batched: bool) -> None:
        super().__init__()
        self.inner, self.edge, self.batched = inner, edge, batched

    def forward(self, x: Tensor) -> Tensor:
        mean, std = torch.from_numpy(MEAN), torch.from_numpy(STD)
        if self.batched:
            return self.inner((x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        y = ((x - mean) / std).permute(2, 0, 1)
        h, w = y.shape[-2:]
        return self.inner(F.pad(y, (0, self.edge - w, 0, self.edge - h))[None])


class UnitScaled(nn.Module):
    """EfficientSAM's: pixels between 0 and 1, of any size, resized to its own."""

    def __init__(self, inner: nn.Module, edge: int) -> None:
        super().__init__()
        self.inner, self.edge = inner, edge

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(x, (self.edge, self.edge), mode="bilinear", align_corners=False)
        return self.inner((y - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))


class Decoder(nn.Module):
    """Blobs around points of label 1 minus those around points of label 0, plus what lies between the corners of a box, on a
    grid of four times the embedding, modulated by the embedding and the mask before; three masks, each with a score."""

    def __init__(self, seed: int, edge: int, grid: int, channels: int = 4) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.edge, self.grid = edge, grid
        self.mix = nn.Conv2d(channels, 3, 1)

    def small(self, embedding: Tensor, coords: Tensor, labels: Tensor, mask: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
        """coords (1, N, 2) in pixels of the encoder's picture -> (1, 3, grid, grid), (1, 3)."""
        place = (torch.arange(self.grid, dtype=torch.float32) + 0.5) * (self.edge / self.grid)
        at = coords + 0.5
        dx, dy = place[None, None] - at[..., 0:1], place[None, None] - at[..., 1:2]
        reach = (0.08 * self.edge) ** 2
        near = torch.exp(-(dy[..., :, None] ** 2 + dx[..., None, :] ** 2) / reach)
        pull = (near * ((labels == 1).float() - (labels == 0).float())[..., None, None]).sum(1, keepdim=True)
        first, last = (labels == 2).float()[..., None], (labels == 3).float()[..., None]
        softness = 0.01 * self.edge
        across = torch.sigmoid((dx * first).sum(1) / softness) * torch.sigmoid((-dx * last).sum(1) / softness)
        down = torch.sigmoid((dy * first).sum(1) / softness) * torch.sigmoid((-dy * last).sum(1) / softness)
        inside = (down[:, None, :, None] * across[:, None, None, :]) * first.amax(1)[:, None]
        noise = F.interpolate(self.mix(embedding), (self.grid, self.grid), mode="bilinear", align_corners=False)
        turn = torch.tensor([0.25, 0.4, 0.32]).view(1, 3, 1, 1)
        masks = 6 * (pull + inside - turn) + noise + 0.5 * has.view(-1, 1, 1, 1) * torch.tanh(mask)
        scores = torch.tanh(masks.mean((2, 3)) + torch.tensor([[0.1, 0.3, 0.2]]) * (1 + (labels == 1).float().sum(1, keepdim=True)))
        return masks, scores


class SamDecoder(Decoder):
    """segment-anything's export: enlarges the masks itself."""

    def forward(self, image_embeddings, point_coords, point_labels, mask_input, has_mask_input, orig_im_size):
        masks, scores = self.small(image_embeddings, point_coords, point_labels, mask_input, has_mask_input)
        large = F.interpolate(masks, (self.edge, self.edge), mode="bilinear", align_corners=False)
        scale = self.edge / orig_im_size.max()
        seen = torch.floor(scale * orig_im_size + 0.5).to(torch.int64)
        large = large[..., : seen[0], : seen[1]]
        size = orig_im_size.to(torch.int64)
        return F.interpolate(large, (size[0], size[1]), mode="bilinear", align_corners=False), scores, masks


class EfficientDecoder(Decoder):
    def forward(self, image_embeddings, batched_point_coords, batched_point_labels, orig_im_size):
        scale = torch.stack([self.edge / orig_im_size[1], self.edge / orig_im_size[0]])
        none = torch.zeros(1, 1, 1, 1)
        masks, scores = self.small(image_embeddings, batched_point_coords[:, 0] * scale, batched_point_labels[:, 0], none, torch.zeros(1))
        large = F.interpolate(masks, (orig_im_size[0], orig_im_size[1]), mode="bilinear", align_corners=False)
        return large[:, None], scores[:, None], masks


class Sam2Decoder(Decoder):
    def forward(self, image_embed, high_res_feats_0, high_res_feats_1, point_coords, point_labels, mask_input, has_mask_input):
        masks, scores = self.small(image_embed, point_coords, point_labels, mask_input, has_mask_input)
        return masks + high_res_feats_0.mean() + high_res_feats_1.mean(), scores


class BoxDecoder(Decoder):
    """LiteMedSAM and MedSAM, exported with a box of their own; one mask."""

    def forward(self, image_embeddings, boxes):
        coords = boxes.reshape(1, 2, 2)
        none = torch.zeros(1, 1, 1, 1)
        masks, scores = self.small(image_embeddings, coords, torch.tensor([[2.0, 3.0]]), none, torch.zeros(1))
        return masks[:, :1], scores[:, :1]


def save(net: nn.Module, example: tuple, path: Path, inputs: list[str], outputs: list[str], axes: dict) -> None:
    torch.onnx.export(net.eval(), example, str(path), input_names=inputs, output_names=outputs, opset_version=17, dynamo=False,
                      dynamic_axes=axes)
    model = onnx.load(str(path))
    model.producer_name, model.producer_version = "aidant-tests", ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, str(path))


def make_pairs() -> None:
    picture = torch.zeros(1, 3, 1024, 1024)
    points = (torch.zeros(1, 2, 2), torch.ones(1, 2))
    sam_inputs = ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"]
    sam_axes = {"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}}
    embedding = torch.zeros(1, 4, 64, 64)
    masks = (torch.zeros(1, 1, 256, 256), torch.zeros(1))
    size = torch.tensor([600.0, 1000.0])
    large = {"masks": {2: "h", 3: "w"}}
    scores = ["masks", "iou_predictions", "low_res_masks"]
    save(Encoder(1), (picture,), HERE / "sam_encoder.onnx", ["x"], ["image_embeddings"], {})
    save(SamDecoder(2, 1024, 256), (embedding, *points, *masks, size), HERE / "sam_decoder.onnx", sam_inputs, scores, {**sam_axes, **large})
    save(Scaled(Encoder(1), 1024, False), (torch.zeros(600, 1024, 3),), HERE / "sam_hwc_encoder.onnx", ["input_image"], ["image_embeddings"],
         {"input_image": {0: "image_height", 1: "image_width"}})
    save(Scaled(Encoder(1), 1024, True), (picture,), HERE / "sam_bytes_encoder.onnx", ["images"], ["embeddings"], {})
    save(UnitScaled(Encoder(3), 1024), (torch.zeros(1, 3, 60, 80),), HERE / "efficient_sam_encoder.onnx", ["batched_images"], ["image_embeddings"],
         {"batched_images": {0: "batch", 2: "height", 3: "width"}})
    save(EfficientDecoder(4, 1024, 256), (embedding, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2), torch.tensor([60, 80])),
         HERE / "efficient_sam_decoder.onnx", ["image_embeddings", "batched_point_coords", "batched_point_labels", "orig_im_size"],
         ["output_masks", "iou_predictions"], {"batched_point_coords": {1: "num_queries", 2: "num_points"},
         "batched_point_labels": {1: "num_queries", 2: "num_points"}, "output_masks": {3: "h", 4: "w"}})
    save(Encoder(5, levels=True), (picture,), HERE / "sam2_encoder.onnx", ["image"], ["high_res_feats_0", "high_res_feats_1", "image_embed"], {})
    save(Sam2Decoder(6, 1024, 256), (embedding, torch.zeros(1, 2, 256, 256), torch.zeros(1, 3, 128, 128), *points, *masks),
         HERE / "sam2_decoder.onnx",
         ["image_embed", "high_res_feats_0", "high_res_feats_1", "point_coords", "point_labels", "mask_input", "has_mask_input"],
         ["masks", "iou_predictions"], {"point_coords": {0: "num_labels", 1: "num_points"}, "point_labels": {0: "num_labels", 1: "num_points"},
                                        "mask_input": {0: "num_labels"}, "has_mask_input": {0: "num_labels"}})
    save(Encoder(7), (picture,), HERE / "medsam_encoder.onnx", ["image"], ["image_embeddings"], {})
    save(BoxDecoder(8, 1024, 256), (embedding, torch.tensor([[100.0, 100.0, 500.0, 600.0]])), HERE / "medsam_decoder.onnx",
         ["image_embeddings", "boxes"], ["low_res_masks", "iou_predictions"], {})
    save(Encoder(9, patch=4), (torch.zeros(1, 3, 256, 256),), HERE / "lite_medsam_encoder.onnx", ["image"], ["image_embeddings"], {})
    save(BoxDecoder(10, 256, 256), (embedding, torch.tensor([[[10.0, 10.0, 50.0, 60.0]]])), HERE / "lite_medsam_decoder.onnx",
         ["image_embeddings", "box"], ["low_res_masks", "iou_predictions"], {})


def run(name: str, **feeds) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(HERE / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def longest(picture: np.ndarray, edge: int) -> tuple[int, int]:
    scale = edge / max(picture.shape[:2])
    return int(picture.shape[0] * scale + 0.5), int(picture.shape[1] * scale + 0.5)


def pillow(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def grown(masks: np.ndarray, edge: int, seen: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    large = F.interpolate(torch.from_numpy(masks), (edge, edge), mode="bilinear", align_corners=False)[..., : seen[0], : seen[1]]
    return F.interpolate(large, shape, mode="bilinear", align_corners=False).numpy()


def sam(encoder: str, picture: np.ndarray, points, labels, box, previous):
    """segment-anything's predictor around its ONNX export, as its notebook has it."""
    shape = picture.shape[:2]
    seen = longest(picture, 1024)
    small = pillow(picture, seen).astype(np.float32)
    if encoder == "sam":
        x = np.zeros((1, 3, 1024, 1024), np.float32)
        x[0, :, : seen[0], : seen[1]] = ((small - MEAN) / STD).transpose(2, 0, 1)
        embedding = run("sam_encoder", x=x)[0]
    elif encoder == "sam_hwc":
        embedding = run("sam_hwc_encoder", input_image=small)[0]
    else:
        x = np.zeros((1, 3, 1024, 1024), np.float32)
        x[0, :, : seen[0], : seen[1]] = small.transpose(2, 0, 1)
        embedding = run("sam_bytes_encoder", images=x)[0]
    coords = [*points, *(([box[:2], box[2:]]) if box else [[0, 0]])]
    marks = [*labels, *([2, 3] if box else [-1])]
    coords = np.array([coords], np.float32) * np.array([seen[1] / shape[1], seen[0] / shape[0]], np.float32)
    if not box:
        coords[0, -1] = 0
    has = previous is not None
    outputs = run("sam_decoder", image_embeddings=embedding, point_coords=coords.astype(np.float32), point_labels=np.array([marks], np.float32),
                  mask_input=previous if has else np.zeros((1, 1, 256, 256), np.float32), has_mask_input=np.array([has], np.float32),
                  orig_im_size=np.array(shape, np.float32))
    best = int(outputs[1].argmax())
    return outputs[0][0, best] > 0, outputs[2][:, best : best + 1], float(outputs[1].max())


def efficient(picture: np.ndarray, points, labels, box, previous):
    shape = picture.shape[:2]
    embedding = run("efficient_sam_encoder", batched_images=picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)[0]
    coords = np.array([[[*points, *([box[:2], box[2:]] if box else [])]]], np.float32)
    marks = np.array([[[*labels, *([2, 3] if box else [])]]], np.float32)
    masks, scores, *_ = run("efficient_sam_decoder", image_embeddings=embedding, batched_point_coords=coords, batched_point_labels=marks,
                            orig_im_size=np.array(shape, np.int64))
    best = int(scores.argmax())
    return masks[0, 0, best] >= 0, None, float(scores.max())


def sam2(picture: np.ndarray, points, labels, box, previous):
    """SAM 2's image predictor: both sides to 1024 as floats, smoothed where they shrink."""
    shape = picture.shape[:2]
    x = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    x = F.interpolate(x, (1024, 1024), mode="bilinear", align_corners=False, antialias=True)
    x = ((x - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)).numpy()
    feats0, feats1, embed = run("sam2_encoder", image=x)
    coords = np.array([[*points, *([box[:2], box[2:]] if box else [])]], np.float32) * np.array([1024 / shape[1], 1024 / shape[0]], np.float32)
    marks = np.array([[*labels, *([2, 3] if box else [])]], np.float32)
    has = previous is not None
    masks, scores = run("sam2_decoder", image_embed=embed, high_res_feats_0=feats0, high_res_feats_1=feats1, point_coords=coords, point_labels=marks,
                        mask_input=previous if has else np.zeros((1, 1, 256, 256), np.float32), has_mask_input=np.array([has], np.float32))
    best = int(scores.argmax())
    large = F.interpolate(torch.from_numpy(masks), shape, mode="bilinear", align_corners=False).numpy()
    return large[0, best] > 0, masks[:, best : best + 1], float(scores.max())


def medsam(picture: np.ndarray, points, labels, box, previous):
    """MedSAM's inference script: both sides to 1024 by a cubic spline, between 0 and 1, a box in that frame."""
    shape = picture.shape[:2]
    small = transform.resize(picture, (1024, 1024), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    small = (small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)
    embedding = run("medsam_encoder", image=small.transpose(2, 0, 1)[None].astype(np.float32))[0]
    frame = np.array([box], np.float32) / np.array([shape[1], shape[0], shape[1], shape[0]], np.float32) * 1024
    logits, scores = run("medsam_decoder", image_embeddings=embedding, boxes=frame.astype(np.float32))
    found = F.interpolate(torch.sigmoid(torch.from_numpy(logits)), shape, mode="bilinear", align_corners=False).numpy()
    return found[0, 0] > 0.5, None, float(scores.max())


def lite_medsam(picture: np.ndarray, points, labels, box, previous):
    """LiteMedSAM's inference script: the longer side to 256 by area, between 0 and 1, padded; whole numbers for the box."""
    shape = picture.shape[:2]
    seen = longest(picture, 256)
    small = cv2.resize(picture, (seen[1], seen[0]), interpolation=cv2.INTER_AREA)
    small = (small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)
    x = np.zeros((1, 3, 256, 256), np.float32)
    x[0, :, : seen[0], : seen[1]] = small.transpose(2, 0, 1)
    embedding = run("lite_medsam_encoder", image=x)[0]
    frame = np.array([[[int(n * 256 / max(shape)) for n in box]]], np.float32)
    logits, scores = run("lite_medsam_decoder", image_embeddings=embedding, box=frame)
    return grown(logits, 256, seen, shape)[0, 0] > 0, None, float(scores.max())


WAYS = {
    "sam": lambda *a: sam("sam", *a),
    "sam_hwc": lambda *a: sam("sam_hwc", *a),
    "sam_bytes": lambda *a: sam("sam_bytes", *a),
    "efficient_sam": efficient,
    "sam2": sam2,
    "medsam": medsam,
    "lite_medsam": lite_medsam,
}


def make_images() -> dict[str, np.ndarray]:
    """As each is shown, rows by columns by red, green and blue; the files beside it."""
    random = np.random.default_rng(1)

    def blobs(height: int, width: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        planes = [np.sin(x / (9 + 4 * c) + c) * np.cos(y / (7 + 3 * c)) * 90 + 120 for c in range(3)]
        return np.clip(np.stack(planes, -1) + random.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)

    grey = blobs(90, 120)[..., 0]
    Image.fromarray(grey).save(HERE / "grey.png")
    colour = Image.fromarray(blobs(150, 96))
    colour.save(HERE / "colour.jpg", quality=90)
    ct = (np.stack([blobs(72, 100)[..., 0] for _ in range(3)], -1).astype(np.float32) * 6 - 700).astype(np.int16)
    volume = ct.transpose(1, 0, 2)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.8, 0.8, 3, 1])), HERE / "ct.nii.gz")
    turned = np.diag([-0.8, -0.8, 3, 1.0])
    turned[:3, 3] = [0.8 * 99, 0.8 * 71, 0]
    nibabel.save(nibabel.Nifti1Image(volume[::-1, ::-1], turned), HERE / "ct-turned.nii.gz")
    # level 40, width 400, as whole numbers
    shown = np.clip((ct[..., 1].astype(np.float32) - (40 - 200)) / 400 * 255, 0, 255).astype(np.uint8)
    tall = blobs(300, 40)[..., 1]
    Image.fromarray(tall).save(HERE / "tall.png")
    decoded = np.asarray(Image.open(HERE / "colour.jpg").convert("RGB"))
    three = lambda plane: np.repeat(plane[..., None], 3, -1)
    return {"grey.png": three(grey), "colour.jpg": decoded, "ct.nii.gz": three(shown), "ct-turned.nii.gz": three(shown[::-1, ::-1]),
            "tall.png": three(tall)}


PROMPTS = [
    {"foreground": [[0.4, 0.5]], "background": [], "box": None},
    {"foreground": [[0.4, 0.5], [0.6, 0.45]], "background": [[0.2, 0.2]], "box": None},
    {"foreground": [], "background": [], "box": [0.25, 0.3, 0.7, 0.65]},
    {"foreground": [[0.5, 0.5]], "background": [], "box": [0.25, 0.3, 0.7, 0.65]},
]


def packed(mask: np.ndarray) -> str:
    import base64
    import zlib

    return base64.b64encode(zlib.compress(np.packbits(mask.astype(np.uint8)).tobytes(), 9)).decode()


def main() -> None:
    HERE.mkdir(exist_ok=True)
    make_pairs()
    cases = []
    for name, picture in make_images().items():
        height, width = picture.shape[:2]
        place = lambda p: [int(p[0] * width), int(p[1] * height)]
        for way, answer in WAYS.items():
            for prompt in PROMPTS:
                box = [*place(prompt["box"][:2]), *place(prompt["box"][2:])] if prompt["box"] else None
                if "medsam" in way and (box is None or prompt["foreground"]):
                    continue
                fg, bg = ([place(p) for p in prompt[k]] for k in ("foreground", "background"))
                points, labels = [*fg, *bg], [1] * len(fg) + [0] * len(bg)
                mask, low, score = answer(picture, points, labels, box, None)
                case = {"pair": way, "image": name, "foreground": fg, "background": bg, "box": box, "mask": packed(mask), "score": score}
                if low is not None and name in ("ct.nii.gz", "colour.jpg") and len(points) == 1 and not box:
                    further = place([0.7, 0.6])
                    mask, _, score = answer(picture, [*points, further], [1, 0], box, low)
                    case["then"] = {"background": [further], "mask": packed(mask), "score": score}
                cases.append(case)
    (HERE / "cases.json").write_text(json.dumps(cases, separators=(",", ":")).replace('{"pair"', '\n{"pair"') + "\n")


if __name__ == "__main__":
    main()
