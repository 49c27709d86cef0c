"""Trains models/deepgrow_2d/model.onnx.

    python -m deepgrow_2d.train              from ImageNet's weights of the backbone; goes on where it was interrupted
    python -m deepgrow_2d.train --onnx       from the committed weights

The encoder sees each batch once, the decoder answers it for several rounds: a first click, then corrections of its own errors
(1903.08205), mostly with its last answer as the previous mask. All rounds together are one training step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.backbone import load_imagenet
from common.clicks import add_clicks, centre_click, followed, guidance_batch, loose_click
from common.command import Learn, Recipe, plain_copy, train
from common.export import export_onnx
from common.loop import Run
from common.metrics import centre_line_dice, sigmoid_dice_bce
from deepgrow_2d.cards import load_cards
from deepgrow_2d.data import Batch, Samples
from deepgrow_2d.evaluate import aside_cases, evaluate, held_out_pictures
from deepgrow_2d.network import SIZE, Served, TwoPart

ROUNDS = ((1, 1), (1, 4), (0, 5))
"""Fewest and most clicks added before each round; with none the decoder improves its own answer, as in the closer look."""
AXES = {0: "batch", 1: "channels", 2: "rows", 3: "columns"}
SMALL, FINE = 160, 0.92
"""Edge of the training pictures until this share of the steps is done; SIZE afterwards."""


def gradients(rng: np.random.Generator, net: TwoPart, batch: Batch) -> float:
    """Gradients of all rounds on one batch; returns the mean loss."""
    image = batch.image.contiguous(memory_format=torch.channels_last)
    target = torch.from_numpy(batch.masks)[:, None].float()
    size = batch.masks.shape[1:]
    features = net.encoder(image)
    seen = features.detach().requires_grad_()
    foreground: list[list[tuple[int, ...]]] = [[] for _ in batch.masks]
    background: list[list[tuple[int, ...]]] = [[] for _ in batch.masks]
    previous = torch.zeros_like(target)
    total = 0.0
    for number, (few, many) in enumerate(ROUNDS):
        for i, truth in enumerate(batch.masks):
            if number == 0:
                foreground[i].append(centre_click(truth) if rng.random() < 0.75 else loose_click(rng, truth))
            else:
                add_clicks(rng, previous[i, 0].numpy() > 0.5, truth, int(rng.integers(few, many + 1)), foreground[i], background[i])
        clicks = guidance_batch(size, foreground, background)
        seen_before = followed(rng, previous)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net.decoder(image, seen, clicks, seen_before)
        loss = sigmoid_dice_bce(logits, target, 1 + 3 * clicks.sum(1, keepdim=True))
        if batch.thin.any():
            thin = torch.from_numpy(batch.thin)
            loss = loss + centre_line_dice(logits[thin], target[thin]).sum() / len(thin)
        (loss / len(ROUNDS)).backward()
        previous = torch.sigmoid(logits.detach().float())
        total += float(loss.detach()) / len(ROUNDS)
    features.backward(seen.grad)
    return total


def example() -> Tensor:
    """An input with one click, to trace and check the export with."""
    torch.manual_seed(0)
    x = torch.zeros(1, 5, SIZE, SIZE)
    x[:, :3] = torch.randn(SIZE, SIZE)
    x[:, 3:] = guidance_batch((SIZE, SIZE), [[(90, 120)]], [[(30, 200)]])
    return x


def begin(net: TwoPart) -> None:
    """ImageNet's weights for the backbone."""
    load_imagenet(net.encoder.backbone)


def prepare(count: int) -> Learn:
    samples = Samples(load_cards())

    def learn(rng: np.random.Generator, run: Run) -> None:
        late = run.step >= FINE * run.steps
        batch = samples.batch(rng, max(2, count * 2 // 3) if late else count, SIZE if late else SMALL)
        run.apply(gradients(rng, run.net, batch))

    return learn


def watch() -> Callable[[torch.nn.Module], dict[str, object]]:
    """Dice of the pictures kept aside and of the held-out ones, by source."""
    aside, held_out = aside_cases(), held_out_pictures(3)

    def numbers(net: torch.nn.Module) -> dict[str, object]:
        network = torch_network(plain_copy(Served, net))
        return {"aside": evaluate(network, aside, (1, 3, 5))["all"], "held_out": evaluate(network, held_out, (1, 3, 5))}

    return numbers


def save_graph(net: torch.nn.Module, path: Path) -> float:
    return export_onnx(plain_copy(Served, net), example(), path, AXES)


def torch_network(net: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The network as a function of arrays, for `evaluate`."""

    @torch.no_grad()
    def network(x: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(x)).numpy()

    return network


RECIPE = Recipe(
    "deepgrow_2d", __doc__, TwoPart, prepare, save_graph, steps=1800, batch=6, peak=1.2e-3, seed=31,
    begin=begin, watch=watch, slow=lambda net: net.encoder.backbone, decay=0.998, every=1000)

if __name__ == "__main__":
    train(RECIPE)
