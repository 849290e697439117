"""TensorFlow Serving's protocol buffers, of the package tensorflow-serving-api and beyond it."""

import functools
import importlib
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_PACKAGE = "keras_bert_layers.serving"
_FIELD = descriptor_pb2.FieldDescriptorProto
# The server's messages that tensorflow-serving-api leaves out, for their text form: field -> type, a list repeats.
_MESSAGES: dict[str, dict[str, Any]] = {
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": [_FIELD.TYPE_INT64],
        "pad_variable_length_inputs": _FIELD.TYPE_BOOL,
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
    },
    "PrometheusConfig": {"enable": _FIELD.TYPE_BOOL, "path": _FIELD.TYPE_STRING},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


def serving_api(module: str, or_else: str = "") -> Any:
    """A module of tensorflow-serving-api.

    Args:
        module: its name, as `"apis.predict_pb2"`.
        or_else: what else can be done where the package is missing, for the message.

    Raises:
        ImportError: if the package is not there, with the command that installs it.
    """
    try:
        return importlib.import_module(f"tensorflow_serving.{module}")
    except ImportError as error:
        raise ImportError(
            "TensorFlow Serving's protocol needs the packages tensorflow-serving-api and grpcio, which do not import "
            f"here ({error}). Install them with: pip install 'keras-bert-layers[serving]'{or_else}."
        ) from error


@functools.cache
def serving_message(name: str) -> Any:
    """The class of a message of the server's that tensorflow-serving-api leaves out.

    Args:
        name: `"BatchingParameters"` (session_bundle_config.proto) or `"MonitoringConfig"` (monitoring_config.proto).

    Example:

    >>> from google.protobuf import text_format
    >>> parameters = text_format.Parse("max_batch_size { value: 8 }", serving_message("BatchingParameters")())
    >>> parameters.max_batch_size.value
    8
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_bert_layers/serving.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, (field_name, kind) in enumerate(fields.items(), start=1):
            repeated, kind = (True, kind[0]) if isinstance(kind, list) else (False, kind)
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                field.type = _FIELD.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}" if kind in _MESSAGES else f".google.protobuf.{kind}"
            else:
                field.type = kind
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
