"""From a model to TensorFlow Serving: export, check, client."""

from keras_bert_layers.serving.check import check
from keras_bert_layers.serving.client import Client
from keras_bert_layers.serving.export_saved_model import export_saved_model
from keras_bert_layers.serving.finding import Finding
from keras_bert_layers.serving.serving_error import (
    DeadlineExceededError,
    InvalidRequestError,
    InvalidResponseError,
    ModelNotFoundError,
    ResponseTooLargeError,
    ServerUnavailableError,
    ServingError,
)

__all__ = [
    "Client",
    "DeadlineExceededError",
    "Finding",
    "InvalidRequestError",
    "InvalidResponseError",
    "ModelNotFoundError",
    "ResponseTooLargeError",
    "ServerUnavailableError",
    "ServingError",
    "check",
    "export_saved_model",
]
