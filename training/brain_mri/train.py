"""Trains models/brain_mri/model.onnx.

    python -m brain_mri.train              from scratch
    python -m brain_mri.train --resume     from the checkpoint of an interrupted run
    python -m brain_mri.train --onnx       from the committed weights
"""

from __future__ import annotations

import argparse

import torch

from brain_mri.data import CLASSES, PATCH, Painter, head_maps
from common.data import MODELS, RUNS
from common.export import export_onnx, load_onnx_weights
from common.loop import Run, seed_everything
from common.metrics import softmax_dice_ce
from common.nets import UNet, channels_last

WIDTHS = (16, 32, 64, 96)
MODEL = MODELS / "brain_mri" / "model.onnx"
AXES = {0: "batch", 2: "x", 3: "y", 4: "z"}
"""The network is fully convolutional: any size divisible by 8."""


def build() -> UNet:
    """(N, 1, X, Y, Z) z-scored, 2 mm -> (N, 17, X, Y, Z) logits."""
    return UNet(3, 1, 1 + len(CLASSES), WIDTHS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    rng = seed_everything(args.seed, args.threads)
    net = channels_last(build(), 3)
    if args.onnx:
        load_onnx_weights(net, MODEL)
    painter = Painter(head_maps(False))
    run = Run(RUNS / "brain_mri", net, args.steps, args.peak, resume=args.resume, decay=0.99)
    while run.going:
        drawn = [painter.sample(rng) for _ in range(args.batch)]
        x, target = torch.cat([d[0] for d in drawn]), torch.cat([d[1] for d in drawn])
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(x.contiguous(memory_format=torch.channels_last_3d))
        run.learn(softmax_dice_ce(logits, target))
        if run.due(25):
            run.log()
        if run.due(100):
            run.save()
            export_onnx(plain_copy(run.average.net), torch.randn(1, 1, *(PATCH,) * 3), RUNS / "brain_mri" / "model.onnx", AXES)
    difference = export_onnx(plain_copy(run.average.net), torch.randn(1, 1, *(PATCH,) * 3), MODEL, AXES)
    print(f"exported {MODEL}, {MODEL.stat().st_size / 1e6:.2f} MB, onnxruntime differs by {difference:.1e}")


def plain_copy(net: torch.nn.Module) -> UNet:
    """The same weights in the default memory format, ready to export."""
    plain = build()
    plain.load_state_dict(net.state_dict())
    return plain.eval()


if __name__ == "__main__":
    main()
