"""A small export with everything that `check` and the client look at, and the tools to damage it."""

import json
import pathlib
from typing import Any

import keras
import tensorflow as tf

import keras_bert_layers as kbl

SEQUENCE_LENGTH = 16
ALLOWED_BATCH_SIZES = [1, 4]


def make_export(directory: pathlib.Path, vocabulary: list[str], **options: Any) -> keras.Model:
    """Exports a small model of two outputs.

    `options` are the preprocessor's.
    """
    config = kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=SEQUENCE_LENGTH, **options)
    text = keras.Input((), dtype="string", name="text")
    features = kbl.BertEncoder(config, combine="mean")(preprocessor(text))
    pooled = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    scores = keras.layers.Dense(3, name="scores")(pooled)
    model = keras.Model(text, {"embedding": pooled, "scores": scores})
    kbl.export_saved_model(model, directory, batch_sizes=ALLOWED_BATCH_SIZES, check=False)
    return model


def change_card(directory: pathlib.Path, **changes: Any) -> None:
    path = directory / "keras_bert_layers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_batching(directory: pathlib.Path, sizes: list[int]) -> None:
    lines = [f"max_batch_size {{ value: {sizes[-1]} }}", "num_batch_threads { value: 2 }"]
    lines += [f"allowed_batch_sizes: {size}" for size in sizes]
    (directory / "batching_params.pbtxt").write_text("\n".join(lines))


def warmup_record(inputs: dict[str, Any], signature: str = "serving_default") -> bytes:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


def write_warmup(directory: pathlib.Path, records: list[bytes]) -> None:
    (directory / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / "assets.extra/tf_serving_warmup_requests")) as writer:
        for record in records:
            writer.write(record)
