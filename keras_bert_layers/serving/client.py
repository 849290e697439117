import asyncio
import math
import numbers
import os
import pathlib
import random
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_bert_layers.serving.grpc_transport import GrpcTransport
from keras_bert_layers.serving.rest_transport import RestTransport
from keras_bert_layers.serving.served_signature import ServedSignature
from keras_bert_layers.serving.server_limits import MAX_MESSAGE_BYTES
from keras_bert_layers.serving.serving_error import (
    InvalidRequestError,
    InvalidResponseError,
    ServerUnavailableError,
    invalid_response,
    serving_error,
)

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.1, 5.0
# Of one `predict_async`; more would only fill the server's queue.
BATCHES_AT_ONCE = 8
# Eleven days; sockets count in milliseconds of 32 bits.
LONGEST_TIMEOUT_SECONDS = 1e6


class Client:
    """Sends texts to TensorFlow Serving and returns what the exported model makes of them.

    Long lists are sent in batches. A server that is not there, full or restarting (gRPC's UNAVAILABLE and
    RESOURCE_EXHAUSTED, HTTP's 429, 502 and 503) is asked again, after a random time of up to 0.1, 0.2, 0.4 ... 5
    seconds ("full jitter": Brooker, 2015, Exponential Backoff and Jitter); all other errors are final. Errors name the
    server, the model and the status, and never a text. Threads and event loops may share a client.

    The first call asks the server for the signature. Inputs are cast to its dtypes where they hold every value; names,
    dtypes and shapes of each answer are compared with it, and rows with those that were sent. Where something does not
    fit, the signature is asked for again, since a new version may be there, and the batch sent once more if it changed.
    Compressed answers are refused. NaN and infinity are values like others, for the model may give them.

    Args:
        url: `grpc://host:8500`, `http://host:8501`, or with TLS `grpcs://` and `https://`.
        model: what the server calls the model.
        version: a version of it; by default the latest.
        label: the label of a version, as `"canary"`, in place of `version`.
        signature: the signature to run.
        outputs: the outputs wanted; by default all of them.
        batch_size: the largest batch to send: the largest of the export's allowed batch sizes.
        timeout: seconds that a call may take, all its batches and tries together.
        retries: how often to ask again for one batch.
        max_response_bytes: the longest answer to one batch; gRPC's own limit is 4 MB.
        root_certificates: for TLS, a PEM file of the authorities to trust; by default the well-known ones.

    Raises:
        ValueError: for a URL of another kind, with a path or a password, `version` and `label` at once, and for
            arguments of other types or out of their range.
        ImportError: if tensorflow-serving-api, grpcio or httpx is missing, with the command that installs them.

    Example:

    ```python
    client = kbl.serving.Client("grpc://localhost:8500", model="sentiment")
    client.predict(["a good film", "a dull plot"])["scores"]  # [2, classes]
    ```
    """

    def __init__(
        self,
        url: str,
        model: str = "model",
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "serving_default",
        outputs: Sequence[str] | None = None,
        batch_size: int = 32,
        timeout: float = 30.0,
        retries: int = 5,
        max_response_bytes: int = MAX_MESSAGE_BYTES,
        root_certificates: str | os.PathLike[str] | None = None,
    ):
        scheme, address = _read_url(url)
        for name, text in (("model", model), ("signature", signature), ("label", "x" if label is None else label)):
            _check_name(name, text)
        if version is not None and label is not None:
            raise ValueError(
                f"Expected `version` or `label`. Received: version={version!r}, label={label!r}. Leave one out."
            )
        for name, number, least, most in (
            ("version", 0 if version is None else version, 0, 2**63 - 1),
            ("batch_size", batch_size, 1, math.inf),
            ("retries", retries, 0, math.inf),
            ("max_response_bytes", max_response_bytes, 1, 2**31 - 1),
        ):
            whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
            if not whole or not least <= number <= most:
                at_most = "" if most == math.inf else f" and at most {most}"
                raise ValueError(
                    f"Expected `{name}` to be an int of at least {least}{at_most}. Received: {name}={number!r}."
                )
        if outputs is not None:
            if isinstance(outputs, (str, bytes)) or not isinstance(outputs, Sequence) or not outputs:
                raise ValueError(
                    f"Expected `outputs` to be a list of names, or None for all. Received: outputs={outputs!r}."
                )
            for output in outputs:
                _check_name("outputs", output)
        self.batch_size, self.timeout, self.retries = batch_size, _check_timeout(timeout), retries
        self._where = f"{scheme}://{address}, model {model!r}, signature {signature!r}"
        roots = None if root_certificates is None else _read_certificates(root_certificates)
        asked = (roots, model, version, label, signature, outputs, max_response_bytes, self._where)
        self._transport: GrpcTransport | RestTransport
        if scheme.startswith("grpc"):
            self._transport = GrpcTransport(address, scheme == "grpcs", *asked)
        else:
            self._transport = RestTransport(f"{scheme}://{address}", *asked)
        self._signature: ServedSignature | None = None

    def predict(self, inputs: Any, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Runs the signature on texts.

        Args:
            inputs: a list, array or pandas Series of str or bytes, for the input `text`; or a dict from the
                signature's inputs to lists or arrays `[batch, ...]`.
            timeout: seconds, in place of the client's.

        Returns:
            For each output an array `[batch, ...]` of the signature's dtype. Strings, as the names of classes, are
            bytes in an array of objects, as TensorFlow has them: `[name.decode() for name in answer["label"]]`. Where
            batches came back with different lengths of sequence, the shorter are filled up with zeros, or with `b""`.

        Raises:
            ServingError: of the class that says what happened.
            ValueError: for inputs of different lengths, or none, and for what is no text among texts.
        """
        deadline = self._deadline(timeout)
        return self._join([self._send(batch, deadline) for batch in self._split(inputs)])

    async def predict_async(self, inputs: Any, timeout: float | None = None) -> dict[str, np.ndarray]:
        """As `predict`, for `await`; up to 8 batches are under way at once."""
        deadline = self._deadline(timeout)
        places = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def send(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            async with places:
                return await self._send_async(batch, deadline)

        sent = [asyncio.ensure_future(send(batch)) for batch in self._split(inputs)]
        try:
            return self._join(await asyncio.gather(*sent))
        finally:
            for task in sent:
                task.cancel()

    def close(self) -> None:
        """Closes the connection of `predict`; a later call opens another."""
        self._transport.close()

    async def close_async(self) -> None:
        """Closes the connection of `predict_async`; a later call opens another."""
        await self._transport.close_async()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def _send(self, batch: Mapping[str, np.ndarray], deadline: float) -> dict[str, np.ndarray]:
        for delay in self._delays():
            try:
                return self._ask(batch, deadline)
            except ServerUnavailableError:
                if delay is None or time.monotonic() + delay > deadline:
                    raise
            time.sleep(delay)
        raise AssertionError("the last delay is None")

    async def _send_async(self, batch: Mapping[str, np.ndarray], deadline: float) -> dict[str, np.ndarray]:
        for delay in self._delays():
            try:
                return await self._ask_async(batch, deadline)
            except ServerUnavailableError:
                if delay is None or time.monotonic() + delay > deadline:
                    raise
            await asyncio.sleep(delay)
        raise AssertionError("the last delay is None")

    def _ask(self, batch: Mapping[str, np.ndarray], deadline: float) -> dict[str, np.ndarray]:
        known, failure = self._signature, None
        if known is not None:
            try:
                return self._transport.send(known.cast(batch), known, self._remaining(deadline))
            except (InvalidRequestError, InvalidResponseError) as error:
                failure = error
        learned = self._signature = self._transport.learn(self._remaining(deadline))
        if failure is not None and learned == known:
            raise failure
        return self._transport.send(learned.cast(batch), learned, self._remaining(deadline))

    async def _ask_async(self, batch: Mapping[str, np.ndarray], deadline: float) -> dict[str, np.ndarray]:
        known, failure = self._signature, None
        if known is not None:
            try:
                return await self._transport.send_async(known.cast(batch), known, self._remaining(deadline))
            except (InvalidRequestError, InvalidResponseError) as error:
                failure = error
        learned = self._signature = await self._transport.learn_async(self._remaining(deadline))
        if failure is not None and learned == known:
            raise failure
        return await self._transport.send_async(learned.cast(batch), learned, self._remaining(deadline))

    def _delays(self) -> Iterator[float | None]:
        """Seconds to wait after each try that may be followed by another, then None."""
        for retry in range(self.retries):
            yield random.uniform(0, min(FIRST_DELAY_SECONDS * 2**retry, LONGEST_DELAY_SECONDS))
        yield None

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else _check_timeout(timeout))

    def _remaining(self, deadline: float) -> float:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise serving_error("DEADLINE_EXCEEDED", self._where)
        return remaining

    def _split(self, inputs: Any) -> list[dict[str, np.ndarray]]:
        if not isinstance(inputs, Mapping):
            inputs = {"text": inputs}
        arrays = {name: _as_input(name, value) for name, value in inputs.items()}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1 or not all(lengths.values()):
            raise ValueError(
                "Expected inputs that have one length, of at least 1. "
                f"Received: inputs of the lengths {lengths}. Give one item of each input for each item of the batch."
            )
        length = next(iter(lengths.values()))
        return [
            {name: array[start : start + self.batch_size] for name, array in arrays.items()}
            for start in range(0, length, self.batch_size)
        ]

    def _join(self, batches: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        # All of one version fit its signature; another may have come while they were sent.
        forms = [{(name, array.ndim, array.dtype) for name, array in batch.items()} for batch in batches]
        if any(form != forms[0] for form in forms):
            raise invalid_response(self._where, "batches whose outputs differ in name, rank or dtype")
        joined = {}
        for name, first in batches[0].items():
            arrays = [batch[name] for batch in batches]
            if len({array.shape[1:] for array in arrays}) > 1:
                longest = np.max([array.shape[1:] for array in arrays], axis=0)
                arrays = [_fill(array, longest) for array in arrays]
            joined[name] = np.concatenate(arrays) if len(arrays) > 1 else first
        return joined


def _read_url(url: Any) -> tuple[str, str]:
    """Scheme and `host:port`."""
    received = f"url of type {type(url).__name__}"
    if isinstance(url, str):
        scheme, _, rest = url.partition("://")
        match = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?/?", rest, re.ASCII)
        if "@" in url:
            received = "url with a user name or password"
        elif scheme not in ("grpc", "grpcs", "http", "https"):
            received = f"url with the scheme {scheme!r}" if rest else "url without a scheme"
        elif match is None or not 0 < int(match[2] or 1) < 2**16:
            received = "url with something else than a host and a port"
        else:
            return scheme, rest.rstrip("/")
    # Not the URL itself, which may hold a password.
    raise ValueError(
        "Expected `url` to be grpc://host:port, grpcs://, http:// or https://, and nothing after it. "
        f"Received: {received}. TensorFlow Serving has gRPC at port 8500 and REST at 8501, and asks for no password; a "
        "path is made of `model` and `version`."
    )


def _check_name(argument: str, name: Any) -> None:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"Expected `{argument}` to be a name, as a str. Received: {argument}={name!r}.")


def _check_timeout(timeout: Any) -> float:
    number = isinstance(timeout, numbers.Real) and not isinstance(timeout, bool)
    if not number or not 0 < timeout <= LONGEST_TIMEOUT_SECONDS:
        raise ValueError(
            f"Expected `timeout` to be a number of seconds above 0 and at most {LONGEST_TIMEOUT_SECONDS:.0f}. "
            f"Received: timeout={timeout!r}."
        )
    return float(timeout)


def _read_certificates(path: str | os.PathLike[str]) -> bytes:
    file = pathlib.Path(path)
    if not file.is_file():
        raise ValueError(f"Expected `root_certificates` to be a PEM file. Received: root_certificates={str(file)!r}.")
    # Comments may be in any encoding.
    content = file.read_bytes().decode("ascii", "ignore")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"Expected `root_certificates` to hold certificates in PEM. Received: root_certificates={str(file)!r}."
        ) from error
    return content.encode()


def _as_input(name: str, value: Any) -> np.ndarray:
    """An array `[batch, ...]`; text as bytes in an array of objects."""
    if not isinstance(name, str):
        raise ValueError(f"Expected names of inputs as str. Received: a name of type {type(name).__name__}.")
    array = None
    if not isinstance(value, (str, bytes)):
        # NumPy's own arrays of bytes drop trailing NULs, and those of mixed lists make texts of numbers.
        own = isinstance(value, np.ndarray)
        try:
            array = np.array(value, dtype=object) if not own and _first(value) is not None else np.asarray(value)
            if array.dtype.kind in "US" and not own:
                array = np.array(value, dtype=object)
        except ValueError:
            array = None
    if array is None or array.ndim == 0:
        raise ValueError(
            f"Expected a list for the input {name!r}, one item for each of the batch, rows of the same length. "
            f"Received: {name} of type {type(value).__name__}. Put a single text into a list, and fill rows up."
        )
    if array.dtype.kind in "OUS":
        flat = [_encode(name, place, item) for place, item in enumerate(array.reshape(-1).tolist())]
        array = np.fromiter(flat, object, len(flat)).reshape(array.shape)
    return array


def _first(value: Any) -> str | bytes | None:
    while isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        value = value[0]
    return value if isinstance(value, (str, bytes)) else None


def _encode(name: str, place: int, item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    received = f"an item of type {type(item).__name__}, number {place}. Give str or bytes, and rows of the same length."
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError:
            # It holds the text.
            received = (
                f"half of a surrogate pair in item number {place}, which is no character. "
                'Give text.encode("utf-8", "replace").'
            )
    raise ValueError(f"Expected text for the input {name!r}. Received: {received}")


def _fill(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A batch, filled up after its end to the shape of the longest."""
    filled = np.full((len(array), *shape), b"" if array.dtype == object else 0, array.dtype)
    filled[tuple(map(slice, array.shape))] = array
    return filled
