"""Requests over TensorFlow Serving's REST interface."""

import asyncio
import base64
import itertools
import json
import math
import socket
import ssl
import threading
import time
import urllib.parse
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2

from keras_bert_layers.serving.served_signature import ServedSignature
from keras_bert_layers.serving.serving_error import (
    ResponseTooLargeError,
    invalid_response,
    serving_error,
)

# HTTP's codes, as the server and what may stand before it give them.
_CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "UNAVAILABLE", 502: "UNAVAILABLE", 503: "UNAVAILABLE"}
_CODES |= {403: "PERMISSION_DENIED", 501: "UNIMPLEMENTED", 504: "DEADLINE_EXCEEDED"}
# What JSON's own names for them become; a number that is too large is infinite too, and another object.
_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# The limit is on what came: compressed, a small answer would unpack to any size.
_HEADERS = {"Accept-Encoding": "identity", "Content-Type": "application/json"}


class RestTransport:
    """Sends one batch at a time, and turns HTTP's statuses into `ServingError`s.

    Texts go as base64, so that any bytes arrive as they are. The server's JSON has neither the name of a single output
    nor dtypes; both are in the signature.

    Args:
        url: scheme, host and port.
        root_certificates: the authorities to trust, in PEM, None for the machine's own.
        model, version, label, signature, outputs, max_response_bytes, where: as in `GrpcTransport`.
    """

    def __init__(
        self,
        url: str,
        root_certificates: bytes | None,
        model: str,
        version: int | None,
        label: str | None,
        signature: str,
        outputs: Sequence[str] | None,
        max_response_bytes: int,
        where: str,
    ):
        try:
            import httpx
        except ImportError as error:
            raise ImportError(
                "A client over HTTP needs the package httpx. Install it with: pip install 'keras-bert-layers[serving]'."
            ) from error
        self._httpx = httpx
        self.signature, self.outputs, self.where = signature, outputs, where
        self.max_response_bytes = max_response_bytes
        self._url = f"{url}/v1/models/{urllib.parse.quote(model, safe='')}"
        if version is not None:
            self._url += f"/versions/{version}"
        if label is not None:
            self._url += f"/labels/{urllib.parse.quote(label, safe='')}"
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise ValueError(f"Expected `url` to name a host. Received: url={url!r}.") from error
        self._verify: Any = False
        if url.startswith("https"):
            # Made once: reading the machine's own takes longer than a request.
            self._verify = httpx.create_ssl_context()
            if root_certificates is not None:
                self._verify = ssl.create_default_context(cadata=root_certificates.decode())
        # Of calls that are over; each call has one for itself.
        self._idle: list[_Connection] = []
        # A client belongs to the event loop that it was made in.
        self._async_clients: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def learn(self, timeout: float) -> ServedSignature:
        """Asks for the signature."""
        return self._read_metadata(self._request("GET", "/metadata", None, timeout))

    async def learn_async(self, timeout: float) -> ServedSignature:
        """As `learn`, for `await`."""
        return self._read_metadata(await self._request_async("GET", "/metadata", None, timeout))

    def send(self, inputs: Mapping[str, np.ndarray], signature: ServedSignature, timeout: float) -> dict[str, Any]:
        """Sends a batch, as `signature` takes it, and waits for its outputs."""
        return self._arrays(self._request("POST", ":predict", self._body(inputs), timeout), signature, inputs)

    async def send_async(
        self, inputs: Mapping[str, np.ndarray], signature: ServedSignature, timeout: float
    ) -> dict[str, Any]:
        """As `send`, for `await`."""
        answer = await self._request_async("POST", ":predict", self._body(inputs), timeout)
        return self._arrays(answer, signature, inputs)

    def close(self) -> None:
        """Closes the connections of `send`."""
        while self._idle:
            self._idle.pop().client.close()

    async def close_async(self) -> None:
        """Closes the connection of `send_async`."""
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _request(self, method: str, path: str, body: bytes | None, timeout: float) -> Any:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _Connection(self._httpx.Client(verify=self._verify, headers=_HEADERS))
        deadline = time.monotonic() + timeout
        # httpx limits each read alone, and a server may send byte after byte.
        watch = threading.Timer(timeout, connection.interrupt)
        watch.daemon = True
        watch.start()
        content, late = bytearray(), False
        try:
            with connection.client.stream(
                method, self._url + path, content=body, timeout=timeout, extensions={"trace": connection.trace}
            ) as response:
                self._check_encoding(response)
                for chunk in response.iter_raw():
                    self._add(content, chunk)
            late = time.monotonic() >= deadline
            if not late:
                return self._decode(response.status_code, content)
        except self._httpx.HTTPError as error:
            late = isinstance(error, self._httpx.TimeoutException) or time.monotonic() >= deadline
        finally:
            watch.cancel()
            self._idle.append(connection)
        # Outside, so that the request is no part of it.
        raise serving_error("DEADLINE_EXCEEDED" if late else "UNAVAILABLE", self.where)

    async def _request_async(self, method: str, path: str, body: bytes | None, timeout: float) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._async_clients:
            self._async_clients[loop] = self._httpx.AsyncClient(verify=self._verify, headers=_HEADERS)
        client, content = self._async_clients[loop], bytearray()

        async def receive() -> int:
            async with client.stream(method, self._url + path, content=body, timeout=timeout) as response:
                self._check_encoding(response)
                async for chunk in response.aiter_raw():
                    self._add(content, chunk)
                return response.status_code

        try:
            return self._decode(await asyncio.wait_for(receive(), timeout), content)
        except (self._httpx.TimeoutException, asyncio.TimeoutError):
            code = "DEADLINE_EXCEEDED"
        except self._httpx.HTTPError:
            code = "UNAVAILABLE"
        raise serving_error(code, self.where)

    def _check_encoding(self, response: Any) -> None:
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise invalid_response(self.where, "an answer that is compressed, which was not asked for")

    def _add(self, content: bytearray, chunk: bytes) -> None:
        content += chunk
        if len(content) > self.max_response_bytes:
            raise serving_error("RESOURCE_EXHAUSTED", self.where, ResponseTooLargeError)

    def _decode(self, status: int, content: bytearray) -> Any:
        if status != 200:
            raise serving_error(_CODES.get(status, "INTERNAL"), self.where)
        try:
            answer = json.loads(content, parse_constant=_CONSTANTS.__getitem__)
        except (ValueError, RecursionError):
            # The parser's error shows what it read.
            answer = None
        if not isinstance(answer, dict):
            raise invalid_response(self.where, "an answer that is no JSON object")
        return answer

    def _body(self, inputs: Mapping[str, np.ndarray]) -> bytes:
        columns = {name: _as_json(value.tolist()) for name, value in inputs.items()}
        return json.dumps({"signature_name": self.signature, "inputs": columns}).encode()

    def _read_metadata(self, answer: dict[str, Any]) -> ServedSignature:
        signatures: Any = answer
        for key in ("metadata", "signature_def", "signature_def"):
            signatures = signatures.get(key) if isinstance(signatures, dict) else None
        if not isinstance(signatures, dict):
            raise invalid_response(self.where, "metadata that describe no signature")
        if self.signature not in signatures:
            raise serving_error("NOT_FOUND", self.where)
        definition = meta_graph_pb2.SignatureDef()
        try:
            json_format.ParseDict(signatures[self.signature], definition, ignore_unknown_fields=True)
        except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError, SystemError):
            # The last is protobuf's on half of a surrogate pair.
            definition.Clear()
        return ServedSignature.from_message(definition, self.where, self.outputs)

    def _arrays(
        self, answer: dict[str, Any], signature: ServedSignature, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        outputs = answer.get("outputs")
        if len(signature.outputs) == 1:
            outputs = {next(iter(signature.outputs)): outputs}
        signature.check_names(outputs if isinstance(outputs, dict) else (), signature.outputs)
        assert isinstance(outputs, dict)
        rows = len(next(iter(inputs.values())))
        return {name: self._array(outputs[name], name, signature, rows) for name in self.outputs or signature.outputs}

    def _array(self, value: Any, name: str, signature: ServedSignature, rows: int) -> np.ndarray:
        dtype = signature.outputs[name].dtype
        flat, shape = _flatten(value)
        if 0 in shape and signature.outputs[name].shape.rank is not None:
            # Where an axis is empty, JSON has none of those after it.
            shape += [size or 0 for size in signature.outputs[name].shape.as_list()[len(shape) :]]
        try:
            array = _values(flat, dtype)
        except (ValueError, TypeError, OverflowError):
            # Of NumPy and base64, which show what they read.
            array = None
        signature.check_output(name, None if array is None else dtype, shape, rows)
        assert array is not None
        return array.reshape(shape)


class _Connection:
    """A client of httpx for one call at a time, and the socket that it reads from."""

    def __init__(self, client: Any):
        self.client = client
        self._socket: socket.socket | None = None

    def trace(self, event: str, information: dict[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = information["return_value"].get_extra_info("socket")

    def interrupt(self) -> None:
        """Ends whatever the call waits for."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                # Closed by the other side, and then nobody waits.
                return


def _as_json(value: Any) -> Any:
    """Nested lists, whose bytes are objects of base64."""
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _flatten(value: Any) -> tuple[list[Any], list[int]]:
    """The values of nested lists, and their shape; lists of different lengths stay among the values."""
    flat, shape = [value], []
    while flat and isinstance(flat[0], list):
        lengths = {len(item) if isinstance(item, list) else None for item in flat}
        if len(lengths) != 1:
            break
        shape.append(len(flat[0]))
        flat = list(itertools.chain.from_iterable(flat))
    return flat, shape


def _values(flat: list[Any], dtype: tf.DType) -> np.ndarray:
    """Values of JSON as an array of a dtype.

    Raises:
        ValueError, TypeError, OverflowError: for values that are not of the dtype.
    """
    if dtype == tf.string:
        array = np.empty(len(flat), object)
        array[:] = [_bytes(value) for value in flat]
        return array
    numpy_dtype = np.dtype(dtype.as_numpy_dtype)
    types = {bool} if dtype.is_bool else {int} if dtype.is_integer else {int, float} if dtype.is_floating else set()
    if not set(map(type, flat)) <= types:
        raise ValueError(f"values that are no {numpy_dtype}")
    if dtype.is_integer and flat and not dtype.min <= min(flat) <= max(flat) <= dtype.max:
        raise ValueError(f"numbers that {numpy_dtype} does not hold")
    if not dtype.is_floating:
        return np.array(flat, numpy_dtype)
    with np.errstate(over="ignore"):
        array = np.array(flat, np.float64).astype(numpy_dtype)
    if any(not any(flat[i] is known for known in _CONSTANTS.values()) for i in np.flatnonzero(np.isinf(array))):
        raise ValueError(f"numbers that {numpy_dtype} does not hold")
    return array


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        if list(value) != ["b64"]:
            raise ValueError("an object that is no base64")
        return base64.b64decode(value["b64"], validate=True)
    if not isinstance(value, str):
        raise TypeError("a value that is no text")
    return value.encode()
