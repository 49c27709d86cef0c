"""
Inference servers as they are deployed, with networks that behave and networks that do not: `engine_peer.py triton|kserve PORT
MODEL.onnx FICKLE`. Triton comes from the PyPI package nvidia-pytriton, KServe's Python server from kserve. The output of `fickle`
is called FICKLE.

Says `asked` on standard output when `slow` has a request in hand.
"""
import asyncio
import sys
import time

import numpy as np
import onnxruntime

SLOW_SECONDS = 600


def network_of(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"input": image})[0]


def labels_of(image):
    return (image > 0.5).astype(np.uint8)


def failing(image):
    """A trial on zeros passes, as it does with a model that fails later."""
    if image.any():
        raise ValueError("/srv/secret/model.pt: CUDA error on gpu-node-7")
    return labels_of(image)


def flat(image):
    """Answers without the axis of its batch."""
    return labels_of(image) if not image.any() else labels_of(image)[0]


def told(image):
    if image.any():
        print("asked", flush=True)
    return SLOW_SECONDS if image.any() else 0


def serve_triton(port, functions, outputs):
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    def slow(image):
        time.sleep(told(image))
        return labels_of(image)

    def bind(name, function):
        output = outputs.get(name, "output")
        triton.bind(
            model_name=name,
            infer_func=lambda requests: [
                {output: function(request.data["input"])} for request in requests
            ],
            inputs=[Tensor(name="input", dtype=np.float32, shape=(-1, 1, -1, -1, -1))],
            outputs=[Tensor(name=output, dtype=np.uint8, shape=(-1, 1, -1, -1, -1))],
            config=ModelConfig(batching=False),
        )

    config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as triton:
        for name, function in {**functions, "slow": slow}.items():
            bind(name, function)
        triton.serve()


def serve_kserve(port, functions, outputs):
    from kserve import InferOutput, InferResponse, Model, ModelServer

    class Function(Model):
        def __init__(self, name, function):
            super().__init__(name)
            self.function = function
            self.output = outputs.get(name, "output")
            self.ready = True

        async def get_input_types(self):
            return [{"name": "input", "datatype": "FP32", "shape": [-1, 1, -1, -1, -1]}]

        async def get_output_types(self):
            return [{"name": self.output, "datatype": "UINT8", "shape": [-1, 1, -1, -1, -1]}]

        async def predict(self, payload, headers=None, response_headers=None):
            values = self.function(payload.inputs[0].as_numpy())
            if asyncio.iscoroutine(values):
                values = await values
            output = InferOutput(self.output, list(values.shape), "UINT8")
            output.set_data_from_numpy(np.ascontiguousarray(values), binary_data=True)
            return InferResponse(
                payload.id,
                self.name,
                [output],
                use_binary_outputs=payload.use_binary_outputs,
                requested_outputs=payload.request_outputs,
            )

    async def slow(image):
        await asyncio.sleep(told(image))
        return labels_of(image)

    models = [Function(name, function) for name, function in {**functions, "slow": slow}.items()]
    ModelServer(http_port=port, enable_grpc=False, workers=1).start(models)


if __name__ == "__main__":
    kind, port, onnx, fickle = sys.argv[1:]
    functions = {"network": network_of(onnx), "failing": failing, "flat": flat, "fickle": labels_of}
    {"triton": serve_triton, "kserve": serve_kserve}[kind](int(port), functions, {"fickle": fickle})
