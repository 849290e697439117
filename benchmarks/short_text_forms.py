"""Why does one short text take so long? The 72 matmuls of BERT-base on 32 tokens, in every form there is.

    python benchmarks/short_text_forms.py

Dense layers alone, with bias, GELU and residuals: no attention, no normalisation, float32.
"""

import io
import math
import statistics

import numpy as np
import onnxruntime
import tensorflow as tf
import torch
from measure import report, seconds_in_turns

TOKENS, LAYERS, HIDDEN, INTERMEDIATE = 32, 12, 768, 3072
SHAPES = [(HIDDEN, HIDDEN)] * 4 + [(HIDDEN, INTERMEDIATE), (INTERMEDIATE, HIDDEN)]


def blocks(product, gelu, tokens, weights):
    """The dense layers of all blocks, where `product(tokens, weight)` adds the bias."""
    for query, key, value, output, intermediate, back in weights:
        context = product(tokens, query) + product(tokens, key) + product(tokens, value)
        tokens = product(context, output) + tokens
        tokens = product(gelu(product(tokens, intermediate)), back) + tokens
    return tokens


def tensorflow_forms(arrays):
    def fused(tokens, weight):
        return tf.nn.bias_add(tf.matmul(tokens, weight), bias(weight, 1))

    def sliced(tokens, weight):
        # Rows of a weight are a part of its memory, so that nothing is copied.
        rows = weight.shape[0] // 2
        weight = tf.convert_to_tensor(weight)
        first, second = (tokens[:, part] @ weight[part] for part in (slice(rows), slice(rows, None)))
        return first + second + bias(weight, 1)

    def bias(weight, axis):
        return biases[weight.shape[axis]]

    forms = {
        "TensorFlow, as BertEncoder does it: fused": (fused, arrays),
        "TensorFlow, not fused": (lambda tokens, weight: tokens @ weight + 0.5 * bias(weight, 1), arrays),
        "TensorFlow, each matmul as two on half of the weight's rows": (sliced, arrays),
        "TensorFlow, weights stored transposed": (
            lambda tokens, weight: tf.nn.bias_add(tf.matmul(tokens, weight, transpose_b=True), bias(weight, 0)),
            [[array.T.copy() for array in block] for block in arrays],
        ),
        "TensorFlow, BatchMatMul": (
            lambda tokens, weight: tf.matmul(tokens[None], weight[None])[0] + bias(weight, 1),
            arrays,
        ),
        "TensorFlow, constants, which oneDNN packs once": (fused, None),
        "TensorFlow, XLA": (fused, arrays),
    }
    biases = {size: tf.Variable(tf.zeros(size)) for size in (HIDDEN, INTERMEDIATE)}
    variables = {id(arrays): [[tf.Variable(array) for array in block] for block in arrays]}
    constants = [[tf.constant(array) for array in block] for block in arrays]
    tokens = tf.constant(np.random.default_rng(1).normal(size=(TOKENS, HIDDEN)).astype("float32"))
    functions = {}
    for name, (product, values) in forms.items():
        if values is not None and id(values) not in variables:
            variables[id(values)] = [[tf.Variable(array) for array in block] for block in values]
        weights = constants if values is None else variables[id(values)]

        @tf.function(
            input_signature=[tf.TensorSpec([TOKENS if "XLA" in name else None, HIDDEN])],
            jit_compile="XLA" in name,
            autograph=False,
        )
        def run(tokens, product=product, weights=weights):
            return blocks(product, lambda x: tf.nn.gelu(x, approximate=False), tokens, weights)

        functions[name] = lambda run=run: run(tokens).numpy()
    return functions


def pytorch_form(arrays):
    weights = [[torch.from_numpy(array.T.copy()) for array in block] for block in arrays]
    biases = {size: torch.zeros(size) for size in (HIDDEN, INTERMEDIATE)}
    tokens = torch.randn(TOKENS, HIDDEN)

    def product(tokens, weight):
        return torch.nn.functional.linear(tokens, weight, biases[weight.shape[0]])

    def run():
        with torch.inference_mode():
            return blocks(product, torch.nn.functional.gelu, tokens, weights)

    return run


def onnxruntime_form(arrays):
    class Blocks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = [[torch.nn.Linear(*array.shape) for array in block] for block in arrays]
            self.all = torch.nn.ModuleList(layer for block in self.weights for layer in block)

        def forward(self, tokens):
            return blocks(lambda tokens, layer: layer(tokens), torch.nn.functional.gelu, tokens, self.weights)

    file = io.BytesIO()
    torch.onnx.export(Blocks(), (torch.zeros(TOKENS, HIDDEN),), file, input_names=["tokens"], dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    tokens = np.random.default_rng(1).normal(size=(TOKENS, HIDDEN)).astype("float32")
    return lambda: session.run(None, {"tokens": tokens})


def main():
    generator = np.random.default_rng(0)
    arrays = [
        [(generator.normal(size=shape) / math.sqrt(shape[0])).astype("float32") for shape in SHAPES]
        for _ in range(LAYERS)
    ]
    functions = {
        **tensorflow_forms(arrays),
        "PyTorch": pytorch_form(arrays),
        "ONNX Runtime": onnxruntime_form(arrays),
    }
    times = {name: statistics.median(seconds) for name, seconds in seconds_in_turns(functions, 15).items()}
    flops = 2 * TOKENS * LAYERS * sum(rows * columns for rows, columns in SHAPES)
    rows = [
        {"form": name, "ms": f"{1e3 * seconds:.1f}", "GFLOP/s": round(flops / seconds / 1e9)}
        for name, seconds in times.items()
    ]
    report("short_text_forms", rows)


if __name__ == "__main__":
    main()
