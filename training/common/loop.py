"""What every training loop needs: seeds, pausing, averaging of weights, the learning-rate curve, checkpoints."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

PAUSE_FILE = Path(os.environ.get("TRAIN_PAUSE_FILE", "PAUSE"))
"""While this file exists, training loops sleep; so a benchmark can have the machine for itself."""


SLOW = 0.25
"""Share of the learning rate for weights that were trained before."""


def seed_everything(seed: int, threads: int = 2) -> np.random.Generator:
    """Seeds Python, NumPy and torch; returns the NumPy generator that the data code draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    return np.random.default_rng(seed)


def wait_while_paused() -> None:
    """Sleeps as long as PAUSE_FILE exists."""
    while PAUSE_FILE.exists():
        time.sleep(1)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 50) -> float:
    """Linear warm-up, then a cosine to one percent of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Average:
    """Exponential moving average of the weights and of the batch-norm statistics; this is what gets exported."""

    def __init__(self, net: nn.Module, decay: float = 0.995) -> None:
        self.net = copy.deepcopy(net).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs.float(), 1 - decay)
            else:
                mine.copy_(theirs)


class Run:
    """Optimiser, averaging, log file and checkpoint of one training run in `folder`."""

    def __init__(self, folder: Path, net: nn.Module, steps: int, peak: float, resume: bool = False,
                 weight_decay: float = 1e-4, decay: float = 0.995, slow: nn.Module | None = None) -> None:
        """slow: the part of `net` that learns at SLOW of the rate, because it begins with weights worth keeping."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.net, self.steps, self.peak = folder, net, steps, peak
        kept = set() if slow is None else {id(p) for p in slow.parameters()}
        groups = [{"params": [p for p in net.parameters() if id(p) not in kept], "share": 1.0}]
        if slow is not None:
            groups.append({"params": list(slow.parameters()), "share": SLOW})
        self.optimiser = torch.optim.AdamW(groups, lr=peak, weight_decay=weight_decay)
        self.average = Average(net, decay)
        self.step, self.losses, self.started = 0, [], time.time()
        self.interrupted = False
        signal.signal(signal.SIGTERM, self.interrupt)
        signal.signal(signal.SIGINT, self.interrupt)
        checkpoint = folder / "checkpoint.pt"
        if resume and checkpoint.exists():
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            net.load_state_dict(state["net"])
            self.average.net.load_state_dict(state["average"])
            self.average.updates = state["step"]
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]

    def interrupt(self, *_: object) -> None:
        """Asked to stop: the loop ends after the step it is at."""
        self.interrupted = True

    @property
    def unfinished(self) -> bool:
        """True until all steps are done."""
        return self.step < self.steps

    @property
    def going(self) -> bool:
        """True until all steps are done or the process is told to stop; also where a paused run waits."""
        wait_while_paused()
        return self.unfinished and not self.interrupted

    def learn(self, loss: torch.Tensor) -> None:
        """One optimiser step on `loss`."""
        loss.backward()
        self.apply(float(loss.detach()))

    def apply(self, loss: float) -> None:
        """One optimiser step on the gradients that are there; `loss` is for the log."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["share"] * learning_rate(self.step, self.steps, self.peak)
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update(self.net)
        self.step += 1
        self.losses.append(loss)

    def log(self, **numbers: object) -> None:
        """One line of JSON to stdout and to log.jsonl: step, seconds, mean loss since the last line, and `numbers`."""
        line = {"step": self.step, "seconds": round(time.time() - self.started), **numbers}
        if self.losses:
            line["loss"] = round(float(np.mean(self.losses)), 4)
        self.losses = []
        print(json.dumps(line), flush=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Writes checkpoint.pt, whole or not at all."""
        state = {"net": self.net.state_dict(), "average": self.average.net.state_dict(),
                 "optimiser": self.optimiser.state_dict(), "step": self.step}
        torch.save(state, self.folder / "checkpoint.tmp")
        (self.folder / "checkpoint.tmp").replace(self.folder / "checkpoint.pt")

    def finish(self) -> None:
        """Puts the checkpoint aside, so that the next run begins anew."""
        (self.folder / "checkpoint.pt").replace(self.folder / "finished.pt")
