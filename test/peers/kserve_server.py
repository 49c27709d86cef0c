"""KServe's own Python server with two models: `twice` doubles an FP32 or FP16 tensor, `index` adds 1 to an INT64 one."""
import sys

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer


class Function(Model):
    def __init__(self, name, datatype, function):
        super().__init__(name)
        self.datatype = datatype
        self.function = function
        self.ready = True

    async def get_input_types(self):
        return [{"name": "image", "datatype": self.datatype, "shape": [-1, 1, -1, -1, -1]}]

    async def get_output_types(self):
        return [{"name": "logits", "datatype": self.datatype, "shape": [-1, 1, -1, -1, -1]}]

    def predict(self, payload, headers=None, response_headers=None):
        values = self.function(payload.inputs[0].as_numpy())
        output = InferOutput("logits", list(values.shape), self.datatype)
        output.set_data_from_numpy(values, binary_data=True)
        return InferResponse(
            payload.id,
            self.name,
            [output],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start(
        [
            Function("twice", "FP32", lambda x: (2 * x).astype(np.float32)),
            Function("half", "FP16", lambda x: (2 * x).astype(np.float16)),
            Function("index", "INT64", lambda x: (x + 1).astype(np.int64)),
        ]
    )
