import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from keras_bert_layers.serving.check.export import EXPORT_AGAIN, Export
from keras_bert_layers.serving.check.request_fault import request_fault
from keras_bert_layers.serving.export_files import CARD, SAVED_MODEL
from keras_bert_layers.serving.fresh_run import fresh_run


def check_golden(export: Export) -> None:
    golden = export.card.get("golden", {})
    if export.card and not golden:
        export.warning(
            CARD,
            "It has no golden example, and what the export answers was not checked.",
            EXPORT_AGAIN,
        )
    runs = []
    for name, example in golden.items():
        signature = export.signatures.get(name)
        where = f"{CARD}, golden example of {name}"
        try:
            inputs = {
                key: tf.make_tensor_proto(value, tf.as_dtype(signature.inputs[key].dtype) if signature else None)
                for key, value in example["inputs"].items()
            }
        except (TypeError, ValueError, KeyError, OverflowError):
            export.error(where, "Its inputs are not those of the signature.", EXPORT_AGAIN)
            continue
        if fault := request_fault(signature, name, inputs):
            export.error(where, fault, EXPORT_AGAIN)
        else:
            runs.append((name, inputs))
    if not runs or not export.may_run:
        return
    with tempfile.TemporaryDirectory() as work:
        try:
            results = fresh_run(export.directory, runs, work)
        except RuntimeError as error:
            export.error(
                SAVED_MODEL,
                f"It does not load in a process that has TensorFlow and tf.text alone: {error}.",
                "Fix what this error names, and export the model again.",
            )
            return
    for (name, inputs), result in zip(runs, results, strict=True):
        where = f"{CARD}, golden example of {name}"
        if isinstance(result, str):
            export.error(
                where,
                f"The signature fails on it with {result}.",
                "Load the export with tf.saved_model.load and run the example to see why.",
            )
            continue
        for key, fault in _differences(golden[name]["outputs"], result, inputs):
            export.error(f"{where}, output {key}", fault, "The export changed after it was made. Export it again.")


def _differences(
    expected: Mapping[str, Any], outputs: Mapping[str, np.ndarray], inputs: Mapping[str, tensor_pb2.TensorProto]
) -> Iterator[tuple[str, str]]:
    """The outputs that are not what they should be, and why."""
    batches = [tensor.tensor_shape.dim[0].size for tensor in inputs.values() if tensor.tensor_shape.dim]
    for key, value in outputs.items():
        if batches and value.shape[:1] != (batches[0],):
            yield key, f"Its first dimension is not the batch: {batches[0]} texts gave the shape {list(value.shape)}."
    for key, example in expected.items():
        if key not in outputs:
            yield key, "There is no such output."
        elif list(outputs[key].shape) != example["shape"]:
            yield key, f"Its shape is {list(outputs[key].shape)}, and was {example['shape']}."
        elif difference := _difference(outputs[key].reshape(-1)[:: example["stride"]], example):
            yield key, f"It differs from what the export answered when it was made {difference}."


def _difference(values: np.ndarray, example: Mapping[str, Any]) -> str | None:
    expected, is_text = example["values"], values.dtype.kind == "O"
    if any(isinstance(value, str) != is_text for value in expected):
        return "in kind: one is text, the other numbers"
    if is_text:
        same = [value.decode("utf-8", "replace") for value in values] == expected
        return None if same else "in text"
    numbers, wanted = values.astype("float64"), np.asarray(expected, "float64")
    # Infinite ones are equal, and have no distance.
    equal = (numbers == wanted) | (np.isnan(numbers) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        distance = np.where(equal, 0.0, np.abs(numbers - wanted))
    if (distance <= example["tolerance"]).all():
        return None
    return f"by {np.max(distance, initial=0.0):.2g}, and {example['tolerance']:.2g} is allowed"
