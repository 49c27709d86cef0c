"""The command that trains a model: its arguments, where its weights begin, the loop, checkpoints, and how long it will take."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from common.data import MODELS, RUNS
from common.export import load_onnx_weights
from common.loop import Run, seed_everything
from common.nets import channels_last

SAVE_MINUTES = 3.0
"""A checkpoint is written this often, so an interruption costs no more."""
TIMED = 10
"""Batches that are timed before the command says how long all will take."""

Learn = Callable[[np.random.Generator, Run], None]
"""Draws one batch and takes a training step on it, or several."""


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. `doc` is the command's help; the numbers are the defaults of its options.

    build: a network with random weights. begin: puts better first weights into it, where there are any. prepare: reads the data
    and gives what learns from one batch, given the number of samples in it. save_graph: exports averaged weights and returns by
    how much onnxruntime differs. watch: numbers for the log, or None. slow: the part of the network that learns at a lower rate.
    decay: of the average of the weights; weight_decay: of the optimiser. every: steps between two exports into the run's folder,
    each with a `watch`; log: between two lines of the log. prefix: of the network's weights in the exported graph.
    """

    name: str
    doc: str
    build: Callable[[], nn.Module]
    prepare: Callable[[int], Learn]
    save_graph: Callable[[nn.Module, Path], float]
    steps: int
    batch: int
    peak: float
    seed: int
    begin: Callable[[nn.Module], None] | None = None
    watch: Callable[[], Callable[[nn.Module], dict[str, object]]] | None = None
    slow: Callable[[nn.Module], nn.Module] | None = None
    decay: float = 0.995
    weight_decay: float = 1e-4
    every: int = 250
    log: int = 50
    prefix: str = ""

    @property
    def model(self) -> Path:
        return MODELS / self.name / "model.onnx"


def arguments(recipe: Recipe) -> argparse.Namespace:
    """The command line, the same for every model."""
    parser = argparse.ArgumentParser(description=recipe.doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=recipe.steps, help="training steps in all (%(default)s)")
    parser.add_argument("--batch", type=int, default=recipe.batch, help="samples in a step (%(default)s)")
    parser.add_argument("--peak", type=float, default=recipe.peak, help="highest learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=recipe.seed, help="of everything random (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="1 on a busy machine: two threads wait for each other (%(default)s)")
    parser.add_argument("--onnx", action="store_true", help="begin with the committed weights")
    parser.add_argument("--fresh", action="store_true", help="forget the checkpoint of an interrupted run")
    return parser.parse_args()


def train(recipe: Recipe) -> None:
    """The whole command. An interrupted run goes on from its checkpoint when the command is given again."""
    args = arguments(recipe)
    net = recipe.build()
    if args.onnx:
        load_onnx_weights(net, recipe.model, prefix=recipe.prefix)
    elif recipe.begin:
        recipe.begin(net)
    net = channels_last(net)
    run = Run(RUNS / recipe.name, net, args.steps, args.peak, resume=not args.fresh, weight_decay=recipe.weight_decay,
              decay=recipe.decay, slow=recipe.slow(net) if recipe.slow else None)
    rng = seed_everything(args.seed + run.step, args.threads)
    learn = recipe.prepare(args.batch)
    watch = recipe.watch() if recipe.watch else None
    first, begun, saved = run.step, time.monotonic(), time.monotonic()
    batches, told, watched, logged = 0, False, run.step, run.step
    while run.going:
        net.train()
        learn(rng, run)
        batches += 1
        if batches == TIMED and not told:
            told = True
            seconds = (time.monotonic() - begun) / (run.step - first)
            print(f"{recipe.name}: {run.steps - run.step} steps of {seconds:.2f} s: about "
                  f"{(run.steps - run.step) * seconds / 60:.0f} minutes on this machine as it is now", flush=True)
        if run.step - logged >= recipe.log or not run.unfinished:
            logged = run.step
            run.log()
        if run.step - watched >= recipe.every or not run.unfinished:
            watched = run.step
            recipe.save_graph(run.average.net, run.folder / "model.onnx")
            if watch:
                run.log(**watch(run.average.net))
        if time.monotonic() - saved > 60 * SAVE_MINUTES or not run.unfinished:
            saved = time.monotonic()
            run.save()
    if run.interrupted:
        run.save()
        print(f"stopped after step {run.step}; the same command goes on from there")
        return
    difference = recipe.save_graph(run.average.net, recipe.model)
    run.finish()
    print(f"exported {recipe.model}, {recipe.model.stat().st_size / 1e6:.2f} MB, onnxruntime differs by {difference:.1e}")


def plain_copy(build: Callable[[], nn.Module], net: nn.Module) -> nn.Module:
    """The same weights in the default memory format, ready to export."""
    plain = build()
    plain.load_state_dict(net.state_dict())
    return plain.eval()
