"""Runs signatures in a Python of their own, with TensorFlow and tf.text, and without this package."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

TIMEOUT_SECONDS = 600

_PROGRAM = """
import base64, json, sys
sys.modules["keras_bert_layers"] = None
import tensorflow as tf
import tensorflow_text
from tensorflow.core.framework import tensor_pb2

def decode(data):
    tensor = tensor_pb2.TensorProto.FromString(base64.b64decode(data))
    return tf.convert_to_tensor(tf.make_ndarray(tensor), tf.as_dtype(tensor.dtype))

def encode(value):
    return base64.b64encode(tf.make_tensor_proto(value).SerializeToString()).decode()

request = json.load(sys.stdin)
loaded = tf.saved_model.load(request["directory"])
results = []
for run in request["runs"]:
    try:
        outputs = loaded.signatures[run["signature"]](**{name: decode(data) for name, data in run["inputs"].items()})
        results.append({name: encode(value) for name, value in outputs.items()})
    except Exception as error:
        # The message may hold the text.
        results.append(type(error).__name__)
with open(request["answer"], "w") as file:
    json.dump(results, file)
"""


def fresh_run(
    directory: str | os.PathLike[str], runs: Sequence[tuple[str, Mapping[str, tensor_pb2.TensorProto]]], work: str
) -> list[dict[str, np.ndarray] | str]:
    """Loads a SavedModel in a fresh process and runs its signatures.

    Args:
        directory: the SavedModel.
        runs: for each run the signature and its inputs.
        work: a directory for the files through which the processes talk.

    Returns:
        For each run its outputs, or the name of the exception that it ended with.

    Raises:
        RuntimeError: if the SavedModel does not load, with what TensorFlow said, or takes over ten minutes.
    """
    answer = os.path.join(work, "answer.json")
    request: dict[str, Any] = {
        "directory": os.path.abspath(directory),
        "answer": answer,
        "runs": [
            {
                "signature": signature,
                "inputs": {
                    name: base64.b64encode(tensor.SerializeToString()).decode() for name, tensor in inputs.items()
                },
            }
            for signature, inputs in runs
        ],
    }
    try:
        result = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=json.dumps(request),
            cwd=work,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer after {TIMEOUT_SECONDS} seconds") from error
    if result.returncode != 0:
        last = result.stderr.strip().splitlines()[-1:] or [f"exit status {result.returncode}"]
        raise RuntimeError(last[0])
    with open(answer, encoding="utf-8") as file:
        results = json.load(file)
    return [result if isinstance(result, str) else _decode(result) for result in results]


def _decode(outputs: dict[str, str]) -> dict[str, np.ndarray]:
    return {
        name: tf.make_ndarray(tensor_pb2.TensorProto.FromString(base64.b64decode(data)))
        for name, data in outputs.items()
    }
