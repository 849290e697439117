"""What lies beside the graph for TensorFlow Serving: warm-up requests and batching parameters."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_layers.serving.example_inputs import inputs_of_length, rows_of
from keras_bert_layers.serving.server_limits import MAX_WARMUP_RECORDS
from keras_bert_layers.serving.serving_messages import serving_api


def prediction_log_class() -> Any:
    """TensorFlow Serving's message for one warm-up request.

    Raises:
        ImportError: without tensorflow-serving-api.
    """
    return serving_api("apis.prediction_log_pb2", or_else=", or export with warmup=False").PredictionLog


def check_warmup_size(signatures: int, lengths: int, batch_sizes: int) -> None:
    """Checks that a server takes as many requests as `write_warmup` will write.

    Raises:
        ValueError: for more.
    """
    requests = signatures * lengths * batch_sizes
    if requests > MAX_WARMUP_RECORDS:
        raise ValueError(
            f"TensorFlow Serving takes at most {MAX_WARMUP_RECORDS} warm-up requests. "
            f"Received: {signatures} signatures, {lengths} lengths and {batch_sizes} batch sizes, which "
            f"make {requests}. Give fewer `length_buckets` or `batch_sizes`."
        )


def write_warmup(
    path: pathlib.Path,
    signatures: Mapping[str, dict[str, tf.TensorSpec]],
    lengths: Sequence[int],
    batch_sizes: Sequence[int],
) -> None:
    """Writes one request for each signature, length and batch size as a TFRecord file.

    Args:
        path: of the file; its folder is made.
        signatures: name -> its inputs.
        lengths: in tokens.
        batch_sizes: in rows.

    Raises:
        ImportError: without tensorflow-serving-api.
    """
    prediction_log = prediction_log_class()
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, specs in signatures.items():
            for length in lengths:
                for rows in dict.fromkeys(rows_of(specs, size) for size in batch_sizes):
                    log = prediction_log()
                    request = log.predict_log.request
                    request.model_spec.signature_name = name
                    for key, value in inputs_of_length(specs, rows, length).items():
                        request.inputs[key].CopyFrom(tf.make_tensor_proto(value, specs[key].dtype))
                    writer.write(log.SerializeToString())


def write_batching_parameters(path: pathlib.Path, batch_sizes: Sequence[int]) -> None:
    """Writes the server's `BatchingParameters`: batches of the allowed sizes, filled within a millisecond."""
    lines = [
        f"max_batch_size {{ value: {batch_sizes[-1]} }}",
        "batch_timeout_micros { value: 1000 }",
        "max_enqueued_batches { value: 100 }",
        *(f"allowed_batch_sizes: {size}" for size in batch_sizes),
        # Clients may send rows of ids, or of words, of different lengths.
        "pad_variable_length_inputs: true",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
