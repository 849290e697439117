"""A server that answers whatever it is told to, over real sockets: no TensorFlow, no rules."""

import concurrent.futures
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2


def signature_definitions(**tensors: tuple[str, list[int]]) -> get_model_metadata_pb2.SignatureDefMap:
    """The signature `serving_default` from `text` to outputs of given dtypes and shapes."""
    definitions = get_model_metadata_pb2.SignatureDefMap()
    definition = definitions.signature_def["serving_default"]
    for side, name, dtype, shape in [
        (definition.inputs, "text", "DT_STRING", [-1]),
        *((definition.outputs, name, *form) for name, form in tensors.items()),
    ]:
        side[name].dtype = types_pb2.DataType.Value(dtype)
        for size in shape:
            side[name].tensor_shape.dim.add(size=size)
    return definitions


def rest_metadata(**tensors: tuple[str, list[int]]) -> dict[str, Any]:
    """What a server says of such a signature over REST."""
    signatures = json_format.MessageToDict(signature_definitions(**tensors), preserving_proto_field_name=True)
    return {"metadata": {"signature_def": signatures}}


def grpc_metadata(**tensors: tuple[str, list[int]]) -> bytes:
    """What a server says of such a signature over gRPC."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(signature_definitions(**tensors))
    return response.SerializeToString()


class CannedServer:
    """Answers `metadata` and `answer`, each JSON or bytes, under `url`; `requests` counts the calls for answers.

    Over HTTP an answer has `headers` too; with `drip` they come byte by byte, with that many seconds between.
    """

    def __init__(self, scheme: str):
        self.metadata: Any = None
        self.answer: Any = None
        self.headers: dict[str, str] = {}
        self.drip = 0.0
        self.requests = 0
        self.stopped = threading.Event()
        if scheme == "http":
            self.http = ThreadingHTTPServer(("localhost", 0), _handler(self))
            self.http.daemon_threads = True
            threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
            port, self._stop = self.http.server_address[1], self._stop_http
        else:
            self.grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
            self.grpc.add_generic_rpc_handlers([_GenericHandler(self)])
            port, self._stop = self.grpc.add_insecure_port("localhost:0"), lambda: self.grpc.stop(None).wait()
            self.grpc.start()
        self.url = f"{scheme}://localhost:{port}"

    def give(self, method: str) -> bytes:
        self.requests += method == "answer"
        content = getattr(self, method)
        return content if isinstance(content, bytes) else json.dumps(content).encode()

    def stop(self) -> None:
        self.stopped.set()
        self._stop()

    def _stop_http(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def _handler(server: CannedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            self.respond(server.give("metadata"), {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = server.give("answer")
            if server.drip:
                self.drip(server.drip)
            else:
                self.respond(body, server.headers)

        def respond(self, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def drip(self, seconds: float) -> None:
            self.close_connection = True
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not server.stopped.wait(seconds):
                    self.wfile.write(b"x")
                    self.wfile.flush()
            except OSError:
                # The client did not wait.
                return

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class _GenericHandler(grpc.GenericRpcHandler):
    def __init__(self, server: CannedServer):
        self.server = server

    def service(self, details: Any) -> Any:
        method = "metadata" if details.method.endswith("GetModelMetadata") else "answer"
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.server.give(method))
