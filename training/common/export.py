"""torch -> ONNX and back. The files keep the parameters' own names, so a committed model.onnx is also a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

OPSET = 17
LARGE = 4096
"""Weights of this many numbers or more are stored as float16."""


def export_onnx(net: nn.Module, example: Tensor, path: Path, axes: dict[int, str] | None = None) -> float:
    """Writes `net` as one file with input `input` and output `output`; returns the largest difference to onnxruntime,
    which is that of weights rounded to float16.

    Batch norms stay separate nodes (onnxruntime folds them when it loads), so every torch name survives as an
    initialiser and `load_onnx_weights` can put it back. `axes` names the dynamic axes of the input (the batch, if not
    told); those but the channels are the output's too.
    """
    net = net.eval()
    axes = {0: "batch"} if axes is None else axes
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        net, (example,), str(path), input_names=["input"], output_names=["output"], opset_version=OPSET,
        dynamo=False, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
        dynamic_axes={"input": axes, "output": {a: n for a, n in axes.items() if a != 1}},
    )
    model = onnx.load(str(path))
    model.producer_name, model.producer_version = "aidant", ""
    store_half(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    with torch.no_grad():
        expected = net(example).numpy()
    given = session(path).run(None, {"input": example.numpy()})[0]
    return float(np.abs(given.astype(np.float32) - expected.astype(np.float32)).max())


def store_half(model: onnx.ModelProto) -> None:
    """Keeps large weights as float16 with a Cast to float32 after them, in place: half the file, the same speed.

    onnxruntime folds the casts when it loads. The initialisers keep their names.
    """
    graph = model.graph
    casts, renamed = [], {}
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < LARGE:
            continue
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), weight.name))
        renamed[weight.name] = f"{weight.name}/float32"
        casts.append(onnx.helper.make_node("Cast", [weight.name], [renamed[weight.name]], to=onnx.TensorProto.FLOAT))
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def session(path: Path, threads: int = 2) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU, configured as the server does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load_onnx_weights(net: nn.Module, path: Path, strict: bool = True, prefix: str = "") -> list[str]:
    """Copies the initialisers of `path` into the parameters and buffers of `net` of the same name (after `prefix`) and shape.

    Returns the names that were not found or differ in shape; with `strict` there may be none, apart from
    batch norms' step counters, which are not part of an inference graph.
    """
    stored = {i.name.removeprefix(prefix): numpy_helper.to_array(i) for i in onnx.load(str(path)).graph.initializer
              if i.name.startswith(prefix)}
    missing = []
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if name in stored and tuple(stored[name].shape) == tuple(tensor.shape):
                tensor.copy_(torch.from_numpy(stored[name].astype(np.float32)))
            else:
                missing.append(name)
    if strict and missing:
        raise ValueError(f"{path} lacks {', '.join(missing[:5])} ({len(missing)} in all)")
    return missing
