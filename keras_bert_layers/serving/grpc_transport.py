"""Requests over gRPC, to the server's PredictionService."""

import asyncio
import contextlib
import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_bert_layers.serving.served_signature import ServedSignature
from keras_bert_layers.serving.serving_error import (
    ResponseTooLargeError,
    ServingError,
    invalid_response,
    serving_error,
)
from keras_bert_layers.serving.serving_messages import serving_api

# The field of a `TensorProto` that holds the values; `int_val` for all other dtypes.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.string: "string_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
}


class GrpcTransport:
    """Sends one batch at a time, and turns gRPC's statuses into `ServingError`s.

    Args:
        address: host and port.
        secure: whether to speak TLS.
        root_certificates: the authorities to trust, in PEM, None for gRPC's own.
        model: what the server calls the model.
        version, label: which version of it.
        signature: which signature.
        outputs: which outputs, None for all.
        max_response_bytes: the longest answer.
        where: URL and model, for errors.
    """

    def __init__(
        self,
        address: str,
        secure: bool,
        root_certificates: bytes | None,
        model: str,
        version: int | None,
        label: str | None,
        signature: str,
        outputs: Sequence[str] | None,
        max_response_bytes: int,
        where: str,
    ):
        self._messages = serving_api("apis.predict_pb2")
        self._metadata_messages = serving_api("apis.get_model_metadata_pb2")
        self._service = serving_api("apis.prediction_service_pb2_grpc")
        import grpc

        self._grpc = grpc
        self.address, self.where = address, where
        self._request = self._messages.PredictRequest(output_filter=outputs or [])
        self._request.model_spec.name = model
        self._request.model_spec.signature_name = signature
        if version is not None:
            self._request.model_spec.version.value = version
        if label is not None:
            self._request.model_spec.version_label = label
        self._options = [
            ("grpc.max_receive_message_length", max_response_bytes),
            ("grpc.max_send_message_length", -1),
            # Identity alone: the limit above is on what came, not on what it unpacks to.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            # All addresses that the name has, not the first of them alone.
            ("grpc.lb_policy_name", "round_robin"),
            # `Client` tries again by itself, and counts.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        self._credentials = None
        if secure:
            self._credentials = grpc.ssl_channel_credentials(root_certificates)
        self._channel: Any = None
        # A channel belongs to the event loop that it was made in.
        self._async_channels: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def _new_channel(self, module: Any) -> Any:
        if self._credentials is None:
            return module.insecure_channel(self.address, self._options)
        return module.secure_channel(self.address, self._credentials, self._options)

    def learn(self, timeout: float) -> ServedSignature:
        """Asks for the signature."""
        return self._signature(self._call("GetModelMetadata", self._metadata_request(), timeout))

    async def learn_async(self, timeout: float) -> ServedSignature:
        """As `learn`, for `await`."""
        return self._signature(await self._call_async("GetModelMetadata", self._metadata_request(), timeout))

    def send(self, inputs: Mapping[str, np.ndarray], signature: ServedSignature, timeout: float) -> dict[str, Any]:
        """Sends a batch, as `signature` takes it, and waits for its outputs."""
        return self._arrays(self._call("Predict", self._message(inputs), timeout), signature, inputs)

    async def send_async(
        self, inputs: Mapping[str, np.ndarray], signature: ServedSignature, timeout: float
    ) -> dict[str, Any]:
        """As `send`, for `await`."""
        return self._arrays(await self._call_async("Predict", self._message(inputs), timeout), signature, inputs)

    def _call(self, method: str, request: Any, timeout: float) -> Any:
        if self._channel is None:
            self._channel = self._new_channel(self._grpc)
        stub = self._service.PredictionServiceStub(self._channel)
        try:
            return getattr(stub, method)(request, timeout=timeout)
        except self._grpc.RpcError as error:
            failure = self._failure(error)
        # Outside, so that gRPC's error, whose message may hold the text, is no part of this one.
        raise failure

    async def _call_async(self, method: str, request: Any, timeout: float) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._async_channels:
            self._async_channels[loop] = self._new_channel(self._grpc.aio)
        stub = self._service.PredictionServiceStub(self._async_channels[loop])
        try:
            return await getattr(stub, method)(request, timeout=timeout)
        except self._grpc.RpcError as error:
            failure = self._failure(error)
        raise failure

    def close(self) -> None:
        """Closes the connection of `send`."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def close_async(self) -> None:
        """Closes the connection of `send_async`."""
        channel = self._async_channels.pop(asyncio.get_running_loop(), None)
        if channel is not None:
            await channel.close()

    def _message(self, inputs: Mapping[str, np.ndarray]) -> Any:
        request = self._messages.PredictRequest()
        request.CopyFrom(self._request)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    def _metadata_request(self) -> Any:
        request = self._metadata_messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.CopyFrom(self._request.model_spec)
        return request

    def _signature(self, response: Any) -> ServedSignature:
        known, signatures = False, self._metadata_messages.SignatureDefMap()
        with contextlib.suppress(DecodeError):
            known = response.metadata["signature_def"].Unpack(signatures)
        if not known:
            raise invalid_response(self.where, "metadata that describe no signature")
        name = self._request.model_spec.signature_name
        if name not in signatures.signature_def:
            raise serving_error("NOT_FOUND", self.where)
        return ServedSignature.from_message(signatures.signature_def[name], self.where, self._request.output_filter)

    def _arrays(
        self, response: Any, signature: ServedSignature, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        signature.check_names(response.outputs, self._request.output_filter or signature.outputs)
        rows = len(next(iter(inputs.values())))
        return {name: self._array(name, tensor, signature, rows) for name, tensor in response.outputs.items()}

    def _array(self, name: str, tensor: Any, signature: ServedSignature, rows: int) -> np.ndarray:
        dtype = signature.outputs[name].dtype
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        signature.check_output(name, dtype if tensor.dtype == dtype.as_datatype_enum else None, shape, rows)
        size = math.prod(shape)
        # `make_ndarray` would repeat the last of too few values, as often as the shape says.
        if tensor.tensor_content:
            fits = len(tensor.tensor_content) == size * dtype.size and dtype != tf.string
        else:
            fits = len(getattr(tensor, _FIELDS.get(dtype, "int_val"))) == size
        if fits:
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                return tf.make_ndarray(tensor)
        raise invalid_response(self.where, f"an output of shape {shape} with values for another")

    def _failure(self, error: Any) -> ServingError:
        # What the client itself refuses has the code of a server that is full, and would be refused again.
        if error.code().name == "RESOURCE_EXHAUSTED" and "larger than max" in (error.details() or ""):
            return serving_error(error.code().name, self.where, ResponseTooLargeError)
        return serving_error(error.code().name, self.where)
