"""Trains models/deepgrow_2d/model.onnx.

    python -m deepgrow_2d.train              from scratch
    python -m deepgrow_2d.train --resume     from the checkpoint of an interrupted run
    python -m deepgrow_2d.train --onnx       from the committed weights

Each batch is used for several rounds: a first click, then corrections of the network's own errors (1903.08205), and
every round is a training step (as in 2312.07381).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from common.bank import held_out_scans, training_scans
from common.clicks import centre_click, correction, guidance_batch, loose_click, loose_correction
from common.data import MODELS, RUNS
from common.export import export_onnx, load_onnx_weights
from common.interactive import ClickNet
from common.loop import Run, seed_everything
from common.metrics import sigmoid_dice_bce
from common.nets import channels_last
from deepgrow_2d.data import Samples
from deepgrow_2d.evaluate import cases_of, evaluate
from deepgrow_2d.predict import SIZE

WIDTHS = (32, 64, 128, 160)
MODEL = MODELS / "deepgrow_2d" / "model.onnx"
ROUNDS = (1, 1, 2, 4)
"""Clicks added before each round: 1, then 2, 4 and 8 in all."""


def build() -> ClickNet:
    """(N, 3, 256, 256) z-scored image, foreground, background -> (N, 1, 256, 256) logits."""
    return ClickNet(2, WIDTHS)


def add_clicks(rng: np.random.Generator, guess: np.ndarray, truth: np.ndarray, count: int,
               foreground: list[tuple[int, ...]], background: list[tuple[int, ...]]) -> None:
    """Adds up to `count` corrections of one sample to its click lists, in place; guess and truth are masks (*S)."""
    for number in range(count):
        careful = number == 0 and rng.random() < 0.7
        click = correction(guess, truth) if careful else loose_correction(rng, guess, truth)
        if click is None:
            return
        (foreground if click[1] else background).append(click[0])


def example() -> Tensor:
    """An input with one click, to trace and check the export with."""
    torch.manual_seed(0)
    x = torch.zeros(1, 3, SIZE, SIZE)
    x[:, 0] = torch.randn(SIZE, SIZE)
    x[:, 1:] = guidance_batch((SIZE, SIZE), [[(90, 120)]], [[(30, 200)]])
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--peak", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()
    rng = seed_everything(args.seed, args.threads)
    net = channels_last(build(), 2)
    if args.onnx:
        load_onnx_weights(net, MODEL)
    samples = Samples(training_scans())
    watched = cases_of(held_out_scans(), each=4, seed=1)
    run = Run(RUNS / "deepgrow_2d", net, args.steps, args.peak, resume=args.resume)
    size = (args.size, args.size)
    while run.going:
        image, masks = samples.batch(rng, args.batch, args.size)
        target = torch.from_numpy(masks)[:, None].float()
        foreground = [[centre_click(m) if rng.random() < 0.75 else loose_click(rng, m)] for m in masks]
        background: list[list[tuple[int, ...]]] = [[] for _ in masks]
        guesses = np.zeros_like(masks)
        net.train()
        for number, count in enumerate(ROUNDS):
            if number:
                for i, truth in enumerate(masks):
                    add_clicks(rng, guesses[i], truth, count, foreground[i], background[i])
            clicks = guidance_batch(size, foreground, background)
            x = torch.cat([image, clicks], 1).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(x)
            run.learn(sigmoid_dice_bce(logits, target, 1 + 3 * clicks.sum(1, keepdim=True)))
            guesses = (logits[:, 0] > 0).numpy()
            if run.due(100):
                run.log()
            if run.due(1000):
                run.save()
                export_onnx(plain_copy(run.average.net), example(), RUNS / "deepgrow_2d" / "model.onnx")
                run.log(**evaluate(torch_network(run.average.net), watched, (1, 2, 5)))
    difference = export_onnx(plain_copy(run.average.net), example(), MODEL)
    print(f"exported {MODEL}, {MODEL.stat().st_size / 1e6:.2f} MB, onnxruntime differs by {difference:.1e}")


def torch_network(net: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The network as a function of arrays, for `evaluate`."""

    @torch.no_grad()
    def network(x: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(x)).numpy()

    return network


def plain_copy(net: torch.nn.Module) -> ClickNet:
    """The same weights in the default memory format, ready to export."""
    plain = build()
    plain.load_state_dict(net.state_dict())
    return plain.eval()


if __name__ == "__main__":
    main()
