"""A server that answers anything to `kbl.serving.Client`."""

import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

for package in ("tensorflow_serving", "httpx"):
    pytest.importorskip(package)

from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2  # noqa: E402

from keras_bert_layers.serving import Client, ServingError  # noqa: E402

from ..serving.canned_server import CannedServer, grpc_metadata, rest_metadata  # noqa: E402
from .harness import Case, run_cases  # noqa: E402
from .mutations import DEEP, dump, mutate_bytes, mutate_json  # noqa: E402

pytestmark = pytest.mark.fuzz
SECRET = "my-secret-text-42"
TEXTS = [SECRET, f"{SECRET} again", ""]
OUTPUTS = {
    "scores": ("DT_FLOAT", np.array([[0.5, -1.0], [2.0, 1e-3], [0.0, 3.0]], np.float32)),
    "ids": ("DT_INT32", np.array([[1], [2], [3]], np.int32)),
    "kept": ("DT_BOOL", np.array([True, False, True])),
    "label": ("DT_STRING", np.array([b"pos", b"neg", b"pos"], object)),
}
FORMS = {name: (dtype, [-1, *values.shape[1:]]) for name, (dtype, values) in OUTPUTS.items()}


@pytest.fixture(params=["http", "grpc"])
def server(request) -> Iterator[CannedServer]:
    # It logs each message that it cannot read, without what is in it.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    server = CannedServer(request.param)
    yield server
    server.stop()


def mutate_message(random: random.Random, message: Any) -> tuple[bytes, str]:
    """Another message: the tensors' own fields, or bytes."""
    if isinstance(message, predict_pb2.PredictResponse) and random.random() < 0.7:
        tensor = message.outputs[random.choice(sorted(message.outputs))]
        kind = random.choice("dtype shape shape content values name echo".split())
        if kind == "dtype":
            tensor.dtype = random.choice((0, 1, 2, 3, 7, 9, 10, 19, 21, 9999))
        elif kind == "shape":
            del tensor.tensor_shape.dim[random.randrange(len(tensor.tensor_shape.dim) + 1) :]
            for _ in range(random.choice((0, 1, 2))):
                tensor.tensor_shape.dim.add(size=random.choice((-1, -5, 0, 1, 2, 3, 4, 10**9, 2**62)))
        elif kind == "content":
            tensor.tensor_content = random.randbytes(random.choice((1, 3, 6, 12, 24, 25)))
        elif kind == "values":
            tensor.float_val.extend([random.random()] * random.choice((1, 6, 7)))
            tensor.int_val.extend([random.randrange(-(2**31), 2**31)])
        elif kind == "echo":
            tensor.string_val.append(SECRET.encode())
        else:
            message.outputs[random.choice(("", "x", SECRET))].CopyFrom(tensor)
        return message.SerializeToString(), kind
    return mutate_bytes(random, message.SerializeToString())


def message_of(name: str) -> Any:
    if name == "metadata":
        return get_model_metadata_pb2.GetModelMetadataResponse.FromString(grpc_metadata(**FORMS))
    response = predict_pb2.PredictResponse()
    for output, (_, values) in OUTPUTS.items():
        response.outputs[output].CopyFrom(tf.make_tensor_proto(values))
    return response


def value_of(name: str) -> Any:
    if name == "metadata":
        return rest_metadata(**FORMS)
    values = {output: values for output, (_, values) in OUTPUTS.items()}
    return {
        "outputs": {
            key: value.astype(str).tolist() if key == "label" else value.tolist() for key, value in values.items()
        }
    }


def test_answers(server):
    scheme = server.url.split(":")[0]

    def content_of(random: random.Random, name: str, damaged: bool) -> tuple[bytes, str]:
        if scheme == "grpc":
            message = message_of(name)
            return mutate_message(random, message) if damaged else (message.SerializeToString(), "")
        value = value_of(name)
        if not damaged:
            return dump(value), ""
        if random.random() < 0.02:
            return DEEP.encode(), "deep"
        if random.random() < 0.7:
            value, what = mutate_json(random, value)
            content = dump(value)
            if random.random() < 0.2:
                content, what = content.replace(b'"pos"', dump(SECRET)), f"{what}, with the text in it"
            return content, what
        return mutate_bytes(random, dump(value))

    client: list[Client] = []

    def make(random: random.Random) -> Case:
        part = random.choice(("metadata", "answer", "answer"))
        done = []
        for name in ("metadata", "answer"):
            content, what = content_of(random, name, damaged=name == part)
            setattr(server, name, content)
            done.append(what)
        # Some have learned of the server before, some have not.
        if not client or random.random() < 0.3 or part == "metadata":
            for old in client:
                old.close()
            client[:] = [Client(server.url, retries=0, timeout=10)]

        def run() -> None:
            try:
                found = client[0].predict(TEXTS)
            except ServingError as error:
                told: BaseException | None = error
                while told is not None:
                    assert SECRET not in str(told) + repr(told.args), "the text is in the error"
                    told = told.__cause__ or told.__context__
                raise
            assert all(len(value) == len(TEXTS) for value in found.values()), "rows"
            if part == "answer":
                assert set(found) == set(OUTPUTS), "outputs"
                for name, (_, values) in OUTPUTS.items():
                    assert found[name].dtype == values.dtype, "dtype"
                    assert found[name].shape == values.shape, "shape"
                if scheme == "http":
                    said = json.loads(server.answer)["outputs"]
                    np.testing.assert_array_equal(found["scores"], np.array(said["scores"], np.float32))
                    np.testing.assert_array_equal(found["ids"], np.array(said["ids"]))

        return Case(f"{part}: {''.join(done)}", run, (server.url,), (ServingError,))

    try:
        run_cases(f"answers over {scheme}", 2500, make)
    finally:
        for old in client:
            old.close()
