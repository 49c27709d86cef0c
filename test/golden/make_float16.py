"""numpy's half-precision bit patterns of odd and random float32 values: writes float16.json beside this file."""
import json
from pathlib import Path

import numpy as np

rng = np.random.default_rng(7)
odd = [0.0, -0.0, 1.0, -1.0, 65504, 65519.99, 65520, 1e6, -1e6, 2**-14, 2**-15, 2**-24, 2**-25, 2**-25 * 1.0001,
       3 * 2**-25, 5 * 2**-25, 2049, 2051, 1 + 2**-11, 1 + 3 * 2**-11, 6.097e-5, 6.1e-5, np.inf, -np.inf, 1e-30]
random = rng.uniform(-1, 1, 150) * 10.0 ** rng.uniform(-9, 6, 150)
values = np.concatenate([np.array(odd), random]).astype(np.float32)
with np.errstate(over="ignore"):
    bits = values.astype(np.float16).view(np.uint16)
words = values.view(np.uint32)
Path(__file__).with_name("float16.json").write_text(json.dumps({"float32": words.tolist(), "float16": bits.tolist()}) + "\n")
