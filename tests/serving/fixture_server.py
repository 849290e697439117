"""A fixture: what TensorFlow Serving answers, given by Python and TensorFlow over real sockets.

The gRPC half is the official servicer of tensorflow-serving-api; the REST half keeps the rules of TensorFlow Serving's
RESTful API (https://www.tensorflow.org/tfx/serving/api_rest): row and column form, base64, names of outputs left out
where there is one, errors as JSON. Neither half casts: another dtype or shape than the signature's is refused. It has
no batching, no version policy and no warm-up, and is no server for anybody.
"""

import argparse
import base64
import concurrent.futures
import json
import pathlib
import re
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

HTTP_STATUS = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503}
HTTP_STATUS |= {"RESOURCE_EXHAUSTED": 503, "DEADLINE_EXCEEDED": 504, "INTERNAL": 500, "PERMISSION_DENIED": 403}


class RefusedError(Exception):
    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class FixtureServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serves the SavedModel in a directory as version 1 of a model, for gRPC and REST.

    `fail_next` is a list of the codes with which the next requests fail, `delay` the seconds that each takes, and
    `batch_sizes` what came in.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        model: str = "model",
        label: str = "stable",
        grpc_port: int = 0,
        rest_port: int = 0,
        tls: tuple[bytes, bytes, ssl.SSLContext] | None = None,
    ):
        self.model, self.label = model, label
        self.load(directory)
        self.fail_next: list[str] = []
        self.delay = 0.0
        self.batch_sizes: list[int] = []
        self.lock = threading.Lock()

        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self.grpc_server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self.grpc_server)
        address = f"localhost:{grpc_port}"
        if tls is None:
            self.grpc_port = self.grpc_server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials([tls[:2]])
            self.grpc_port = self.grpc_server.add_secure_port(address, credentials)
        self.grpc_server.start()

        self.rest_server = ThreadingHTTPServer(("localhost", rest_port), _handler(self))
        if tls is not None:
            self.rest_server.socket = tls[2].wrap_socket(self.rest_server.socket, server_side=True)
        self.rest_port = self.rest_server.server_address[1]
        threading.Thread(target=self.rest_server.serve_forever, daemon=True).start()

    def load(self, directory: pathlib.Path) -> None:
        """Serves this directory from now on, as a server does that finds a new version."""
        self.loaded = tf.saved_model.load(str(directory))
        stored = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
        self.definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=stored.meta_graphs[0].signature_def)

    def stop(self) -> None:
        self.grpc_server.stop(None).wait()
        self.rest_server.shutdown()
        self.rest_server.server_close()

    def signature(self, name: str) -> Any:
        if name not in self.loaded.signatures:
            raise RefusedError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.loaded.signatures[name]

    def check_model(self, model: str, version: int | None, label: str | None) -> None:
        if model != self.model or version not in (None, 1) or label not in (None, "", self.label):
            raise RefusedError("NOT_FOUND", f"Servable not found for request: {model}")

    def run(self, name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        signature = self.signature(name)
        specs = signature.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise RefusedError("INVALID_ARGUMENT", f"input size does not match signature: {inputs}")
        for key, value in inputs.items():
            if tf.as_dtype(value.dtype) != specs[key].dtype or not specs[key].shape.is_compatible_with(value.shape):
                raise RefusedError("INVALID_ARGUMENT", f"Expects arg to be {specs[key]} but {value} is provided")
        with self.lock:
            self.batch_sizes.append(len(next(iter(inputs.values()))))
            code = self.fail_next.pop(0) if self.fail_next else None
        time.sleep(self.delay)
        if code:
            # As servers do, with what they were given.
            raise RefusedError(code, f"The fixture was told to fail on {inputs}")
        try:
            return signature(**{key: tf.constant(value) for key, value in inputs.items()})
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise RefusedError("INVALID_ARGUMENT", f"{error} {inputs}") from error

    def Predict(self, request, context):  # noqa: N802
        try:
            spec = request.model_spec
            self.check_model(spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label)
            name = spec.signature_name or "serving_default"
            inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
            outputs = self.run(name, inputs)
            response = predict_pb2.PredictResponse()
            response.model_spec.CopyFrom(spec)
            for key in request.output_filter or outputs:
                if key not in outputs:
                    raise RefusedError("INVALID_ARGUMENT", f"output tensor alias not found in signature: {key}")
                response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
            return response
        except RefusedError as refusal:
            context.abort(grpc.StatusCode[refusal.code], str(refusal))

    def GetModelMetadata(self, request, context):  # noqa: N802
        try:
            spec = request.model_spec
            self.check_model(spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label)
            if list(request.metadata_field) != ["signature_def"]:
                raise RefusedError("INVALID_ARGUMENT", f"Metadata field {request.metadata_field} is not supported")
        except RefusedError as refusal:
            context.abort(grpc.StatusCode[refusal.code], str(refusal))
        return self.metadata()

    def predict_json(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
            raise RefusedError("INVALID_ARGUMENT", "Request must have one of 'instances' and 'inputs'")
        name = request.get("signature_name", "serving_default")
        specs = self.signature(name).structured_input_signature[1]
        names = list(specs)
        if "inputs" in request:
            columns = request["inputs"]
            if not _is_object(columns):
                columns = {names[0]: columns}
        else:
            rows = request["instances"]
            if not isinstance(rows, list) or not rows:
                raise RefusedError("INVALID_ARGUMENT", "'instances' must be a list of at least one")
            if not all(_is_object(row) for row in rows):
                rows = [{names[0]: row} for row in rows]
            if len({tuple(sorted(row)) for row in rows}) != 1:
                raise RefusedError("INVALID_ARGUMENT", f"Not all instances have the same keys: {rows}")
            columns = {key: [row[key] for row in rows] for key in rows[0]}
        try:
            inputs = {key: _from_json(value, specs[key].dtype) for key, value in columns.items() if key in specs}
        except ValueError as error:
            raise RefusedError("INVALID_ARGUMENT", f"JSON Value: {columns} is not a tensor") from error
        if len(inputs) != len(columns):
            raise RefusedError("INVALID_ARGUMENT", f"input size does not match signature: {columns}")
        outputs = {key: _to_json(key, value) for key, value in self.run(name, inputs).items()}
        if "inputs" in request:
            return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
        if len(outputs) == 1:
            return {"predictions": next(iter(outputs.values()))}
        return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}

    def metadata(self) -> get_model_metadata_pb2.GetModelMetadataResponse:
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self.model
        response.model_spec.version.value = 1
        response.metadata["signature_def"].Pack(self.definitions)
        return response


def _is_object(value: Any) -> bool:
    """Of named tensors, which an object of base64 is not."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _from_json(value: Any, dtype: tf.DType) -> np.ndarray:
    """As the server reads JSON: whole numbers for integers, and no text for a number or the other way round."""

    def convert(item: Any) -> Any:
        if isinstance(item, list):
            return [convert(inner) for inner in item]
        if dtype == tf.string and isinstance(item, (str, dict)):
            return base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode()
        kinds = (int, float) if dtype.is_floating else (bool,) if dtype.is_bool else (int,)
        if dtype == tf.string or type(item) not in kinds:
            raise ValueError(f"{item} is no {dtype.name}")
        return item

    return np.array(convert(value), dtype.as_numpy_dtype)


def _to_json(name: str, value: tf.Tensor) -> Any:
    def convert(item: Any) -> Any:
        if isinstance(item, list):
            return [convert(inner) for inner in item]
        if isinstance(item, bytes):
            return {"b64": base64.b64encode(item).decode()} if name.endswith("_bytes") else item.decode()
        return item

    return convert(value.numpy().tolist())


def _handler(server: FixtureServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body in one piece, or the second waits 40 ms for the client to say that it has the first.
        wbufsize = -1
        path_form = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:predict)")

        def answer(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_request(self, action: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                match = self.path_form.fullmatch(self.path)
                if match is None or match[4] != action:
                    raise RefusedError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
                server.check_model(match[1], int(match[2]) if match[2] else None, match[3])
                if action == "/metadata":
                    answer = json_format.MessageToDict(server.metadata(), preserving_proto_field_name=True)
                    self.answer(200, answer)
                    return
                try:
                    request = json.loads(body)
                except ValueError:
                    raise RefusedError("INVALID_ARGUMENT", f"JSON Parse error: {body!r}") from None
                self.answer(200, server.predict_json(request))
            except RefusedError as refusal:
                self.answer(HTTP_STATUS[refusal.code], {"error": str(refusal)})
            except (BrokenPipeError, ConnectionResetError):
                # The client did not wait.
                self.close_connection = True

        def do_GET(self) -> None:
            self.handle_request("/metadata")

        def do_POST(self) -> None:
            self.handle_request(":predict")

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--rest-port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    arguments = parser.parse_args()
    fixture = FixtureServer(arguments.directory, grpc_port=arguments.grpc_port, rest_port=arguments.rest_port)
    fixture.delay = arguments.delay
    sys.stdout.write(json.dumps({"grpc": fixture.grpc_port, "http": fixture.rest_port}) + "\n")
    sys.stdout.flush()
    fixture.grpc_server.wait_for_termination()
