"""`Client` against the fixture server, over real sockets: gRPC and REST, waiting and `await`ed."""

import asyncio
import gzip
import importlib
import json
import resource
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers.serving import (
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    InvalidResponseError,
    ModelNotFoundError,
    ResponseTooLargeError,
    ServerUnavailableError,
    ServingError,
)

from ..fresh_process import PACKAGE_PARENT

for package in ("tensorflow_serving", "httpx"):
    pytest.importorskip(package)

from tensorflow.core.framework import types_pb2  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402

from .canned_server import CannedServer, grpc_metadata, rest_metadata  # noqa: E402
from .fixture_server import FixtureServer  # noqa: E402

TEXTS = [
    "a good film",
    "",
    "the plot was dull",
    "\x00",
    "[SEP] bad",
    "مرحبا 👍🏽",
    "a" * 1000,
    "why?",
    "it is",
    "##",
]
HOSTILE_BYTES = [b"\xff\xfe good", b"film\x00", b"", "é".encode()]


@pytest.fixture(scope="module")
def running(sound) -> Iterator[FixtureServer]:
    server = FixtureServer(sound)
    yield server
    server.stop()


@pytest.fixture
def server(running) -> FixtureServer:
    running.fail_next, running.delay, running.batch_sizes = [], 0.0, []
    return running


@pytest.fixture(params=["grpc", "http"])
def url(request, server) -> str:
    return address(request.param, server)


def address(scheme: str, server: FixtureServer) -> str:
    return f"{scheme}://localhost:{server.grpc_port if scheme.startswith('grpc') else server.rest_port}"


@pytest.fixture(params=["waiting", "awaited"])
def ask(request) -> Callable[..., dict[str, np.ndarray]]:
    """Makes a client, asks once and closes it."""

    def waiting(url: str, inputs: Any, **options: Any) -> dict[str, np.ndarray]:
        with Client(url, **options) as client:
            return client.predict(inputs)

    def awaited(url: str, inputs: Any, **options: Any) -> dict[str, np.ndarray]:
        async def call() -> dict[str, np.ndarray]:
            async with Client(url, **options) as client:
                return await client.predict_async(inputs)

        return asyncio.run(call())

    return waiting if request.param == "waiting" else awaited


def expected(server: FixtureServer, texts: list[str] | list[bytes]) -> dict[str, np.ndarray]:
    return server.loaded.signatures["serving_default"](text=tf.constant(texts))


class TestSuccess:
    @pytest.mark.parametrize("texts", [TEXTS, HOSTILE_BYTES], ids=["str", "bytes"])
    def test_answers_are_those_of_the_model(self, texts, url, ask, server):
        answers = ask(url, texts)
        assert set(answers) == {"embedding", "scores"}
        for name, value in expected(server, texts).items():
            assert answers[name].dtype == np.float32
            np.testing.assert_allclose(answers[name], value, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("version", [{}, {"version": 1}, {"label": "stable"}])
    def test_versions_labels_and_chosen_outputs(self, version, url, ask, server):
        answers = ask(url, TEXTS, outputs=["scores"], **version)
        assert set(answers) == {"scores"}
        np.testing.assert_allclose(answers["scores"], expected(server, TEXTS)["scores"], atol=1e-6, rtol=0)

    def test_long_lists_go_in_batches(self, url, ask, server):
        answers = ask(url, TEXTS, batch_size=4)
        assert sorted(server.batch_sizes) == [2, 4, 4]
        np.testing.assert_allclose(answers["scores"], expected(server, TEXTS)["scores"], atol=1e-5, rtol=0)

    def test_threads_share_a_client(self, url, server):
        with Client(url) as client:
            answers: dict[int, Any] = {}

            def work(number: int) -> None:
                answers[number] = client.predict([TEXTS[number]])["scores"]

            threads = [threading.Thread(target=work, args=(number,)) for number in range(len(TEXTS))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for number, text in enumerate(TEXTS):
            np.testing.assert_allclose(answers[number], expected(server, [text])["scores"], atol=1e-6, rtol=0)

    def test_one_output_strings_and_lengths_that_differ(self, tmp_path, ask):
        """REST leaves out the name of a single output; batches may come back with different lengths."""

        class Words(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
            def lengths(self, text):
                return {"lengths": tf.strings.length(tf.strings.split(text).to_tensor())}

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
            def echo(self, text):
                return {"echo_bytes": text, "upper": tf.strings.upper(text, encoding="")}

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
            def split(self, text):
                return {"words": tf.strings.split(text).to_tensor()}

            @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, "ids")])
            def double(self, ids):
                return {"doubled": tf.cast(2 * ids, tf.int64)}

        module = Words()
        signatures = {"serving_default": module.lengths}
        signatures |= {"echo": module.echo, "split": module.split, "double": module.double}
        tf.saved_model.save(module, str(tmp_path / "1"), signatures=signatures)
        words = FixtureServer(tmp_path / "1")
        try:
            for scheme in ("grpc", "http"):
                answer = ask(address(scheme, words), ["a bb ccc", "d"], batch_size=1)
                assert {name: value.tolist() for name, value in answer.items()} == {"lengths": [[1, 2, 3], [1, 0, 0]]}
                assert answer["lengths"].dtype == np.int32
                answer = ask(address(scheme, words), {"text": ["a", b"b"]}, signature="echo")
                assert answer["echo_bytes"].tolist() == [b"a", b"b"]
                assert answer["upper"].tolist() == [b"A", b"B"]
                assert answer["upper"].dtype == object
                answer = ask(address(scheme, words), ["a b", "c"], signature="split", batch_size=1)
                assert answer["words"].tolist() == [[b"a", b"b"], [b"c", b""]]
                # Python's and NumPy's numbers are 64 bits wide.
                for ids in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.uint8)):
                    answer = ask(address(scheme, words), {"ids": ids}, signature="double")
                    np.testing.assert_array_equal(answer["doubled"], [[2, 4], [6, 8]])
                    assert answer["doubled"].dtype == np.int64
                for ids in ([[2**31]], [[1.0]], [["1"]], [1]):
                    with pytest.raises(InvalidRequestError, match=r"Expected the input 'ids' as int32 \[None, None\]"):
                        ask(address(scheme, words), {"ids": ids}, signature="double")
        finally:
            words.stop()


class TestFailures:
    def test_deadline(self, url, ask, server):
        server.delay = 1.0
        start = time.monotonic()
        with pytest.raises(DeadlineExceededError, match=r"status=DEADLINE_EXCEEDED\. Give the call a longer `timeout`"):
            ask(url, TEXTS, timeout=0.3)
        assert time.monotonic() - start < 0.9
        time.sleep(1.0)  # Until the fixture is done with it.

    def test_deadline_of_all_batches_together(self, url, server):
        server.delay = 0.2
        with Client(url, batch_size=1) as client, pytest.raises(DeadlineExceededError):
            client.predict(TEXTS, timeout=0.7)
        assert len(server.batch_sizes) <= 4

    @pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
    def test_retriable_errors_are_tried_again(self, code, url, ask, server):
        server.fail_next = [code, code]
        answers = ask(url, TEXTS)
        assert len(server.batch_sizes) == 3
        np.testing.assert_allclose(answers["scores"], expected(server, TEXTS)["scores"], atol=1e-6, rtol=0)

    def test_but_not_for_ever(self, url, ask, server):
        server.fail_next = ["UNAVAILABLE"] * 9
        with pytest.raises(ServerUnavailableError, match=r"status=UNAVAILABLE\. Is it running"):
            ask(url, TEXTS, retries=2)
        assert len(server.batch_sizes) == 3

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("INVALID_ARGUMENT", InvalidRequestError),
            ("FAILED_PRECONDITION", InvalidRequestError),
            ("INTERNAL", ServingError),
            ("PERMISSION_DENIED", ServingError),
            ("DEADLINE_EXCEEDED", DeadlineExceededError),
        ],
    )
    def test_final_errors_are_not(self, code, error, url, ask, server):
        server.fail_next = [code] * 9
        with pytest.raises(error) as caught:
            ask(url, TEXTS)
        assert type(caught.value) is error
        assert len(server.batch_sizes) == 1

    @pytest.mark.parametrize("options", [{"model": "other"}, {"version": 7}, {"label": "canary"}])
    def test_unknown_models(self, options, url, ask, server):
        with pytest.raises(ModelNotFoundError, match="Compare `model`, `version`, `label`"):
            ask(url, TEXTS, **options)

    @pytest.mark.parametrize(
        ("inputs", "options", "message"),
        [
            ({"x": ["a"]}, {}, r"inputs named \['text'\], .* Received: inputs named \['x'\]"),
            ({"text": [1.5]}, {}, r"the input 'text' as string \[None\], .* Received: text.dtype=float64"),
            ({"text": [["a", "b"]]}, {}, r"Received: text.shape=\(1, 2\)"),
            (["a"], {"outputs": ["other"]}, r"Received: outputs=\['other'\]"),
        ],
    )
    def test_wrong_inputs(self, inputs, options, message, url, ask, server):
        with pytest.raises(InvalidRequestError, match=message):
            ask(url, inputs, **options)
        assert server.batch_sizes == []

    def test_oversized_responses(self, url, ask, server):
        with pytest.raises(ResponseTooLargeError, match="raise `max_response_bytes`"):
            ask(url, TEXTS * 20, max_response_bytes=5000, batch_size=200)
        assert len(server.batch_sizes) == 1
        assert len(ask(url, TEXTS * 20, max_response_bytes=200_000, batch_size=200)["scores"]) == 200

    @pytest.mark.parametrize("scheme", ["grpc", "http"])
    def test_no_server(self, scheme, ask):
        with pytest.raises(ServerUnavailableError):
            ask(f"{scheme}://localhost:1", TEXTS, retries=1)


def test_a_server_that_dies_in_the_middle(sound):
    """And comes back: what was asked of the one is answered by the other. `test_no_server` is the case without."""
    command = [sys.executable, "-m", "tests.serving.fixture_server", str(sound), "--delay", "30"]
    process = subprocess.Popen(
        command, cwd=PACKAGE_PARENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        ports = json.loads(process.stdout.readline())

        async def die_and_come_back() -> FixtureServer:
            await asyncio.sleep(1.0)
            process.kill()
            process.wait()
            await asyncio.sleep(0.3)
            return FixtureServer(sound, grpc_port=ports["grpc"], rest_port=ports["http"])

        async def call() -> list[Any]:
            options: dict[str, Any] = {"retries": 20, "timeout": 25}
            async with (
                Client(f"grpc://localhost:{ports['grpc']}", **options) as one,
                Client(f"http://localhost:{ports['http']}", **options) as two,
            ):
                asked = (one.predict_async(TEXTS), two.predict_async(TEXTS))
                return await asyncio.gather(*asked, die_and_come_back())

        one, two, server = asyncio.run(call())
        assert server.batch_sizes == [len(TEXTS)] * 2
        server.stop()
        for answers in (one, two):
            np.testing.assert_allclose(answers["scores"], expected(server, TEXTS)["scores"], atol=1e-6, rtol=0)
    finally:
        process.kill()
        process.wait()


def test_tls(sound, tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "roots.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    server = FixtureServer(sound, tls=(certificate.private_key_pem.bytes(), chain, context))
    try:
        for scheme in ("grpcs", "https"):
            with Client(address(scheme, server), root_certificates=tmp_path / "roots.pem") as client:
                assert len(client.predict(TEXTS)["scores"]) == len(TEXTS)
            # Whom nobody vouches for.
            with Client(address(scheme, server), retries=0) as client, pytest.raises(ServerUnavailableError):
                client.predict(TEXTS, timeout=5)
    finally:
        server.stop()


class TestArguments:
    @pytest.mark.parametrize(
        ("url", "options", "message"),
        [
            ("localhost:8500", {}, r"Expected `url` to be grpc://host:port"),
            ("ftp://localhost", {}, r"Received: url with the scheme 'ftp'"),
            *(
                (f"{scheme}://{userinfo}@host", {}, r"Received: url with a user name or password")
                for scheme in ("http", "grpc", "secret")
                for userinfo in ("user:secret", ":secret", "secret", "secret@more")
            ),
            *(
                (f"http://{rest}", {}, r"Received: url with something else than a host and a port")
                for rest in (
                    "a/secret",
                    "a?secret",
                    "a#secret",
                    "a:secret",
                    "a:0",
                    "a:99999",
                    ":1",
                    "",
                    "a b",
                    "[::1",
                    "a\\",
                )
            ),
            ("http://999.1.1.1", {}, r"Expected `url` to name a host"),
            (b"http://localhost", {}, r"url of type bytes"),
            ("grpc://localhost:1", {"version": 1, "label": "x"}, r"version=1, label='x'\. Leave one out"),
            *(
                ("grpc://localhost:1", {name: value}, rf"Expected `{name}` .* Received: {name}=")
                for name, values in {
                    "batch_size": (0, 1.5, True, "8", None),
                    "timeout": (0, -1, float("nan"), float("inf"), "3", None, True),
                    "retries": (-1, 0.5, None),
                    "max_response_bytes": (0, 1e6, 2**31),
                    "version": ("../..", -1, 1.0, 2**63),
                    "label": (5, "", "\ud800"),
                    "model": (None, "", "a\r\nb"),
                    "signature": (None, "", 5),
                    "outputs": ("scores", 5, [], [5], [""]),
                    "root_certificates": ("/nowhere", __file__),
                }.items()
                for value in values
            ),
        ],
    )
    def test_of_the_client(self, url, options, message):
        with pytest.raises(ValueError, match=message) as caught:
            Client(url, **options)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ("a text", "Expected a list for the input 'text'"),
            ([], "of at least 1"),
            ({"text_a": ["a"], "text_b": ["b", "c"]}, "lengths {'text_a': 1, 'text_b': 2}"),
            (["a", 1], "an item of type int, number 1"),
            ([1, "secret"], "an item of type int, number 0"),
            (["secret", None], "an item of type NoneType, number 1"),
            ([None, "secret"], "an item of type NoneType, number 0"),
            (np.array(["secret", float("nan")], object), "an item of type float, number 1"),
            ([["secret"], ["a", "b"]], "an item of type list, number 0"),
            ({"ids": [[1, 2], [3]]}, "rows of the same length"),
            ({1: ["a"]}, "a name of type int"),
            ({"secret"}, "Expected a list for the input 'text'"),
            (np.array("secret"), "Expected a list for the input 'text'"),
            (["a", "secret \ud800"], "half of a surrogate pair in item number 1"),
        ],
    )
    def test_of_a_call(self, inputs, message):
        with pytest.raises(ValueError, match=message) as caught:
            Client("grpc://localhost:1").predict(inputs)
        error: BaseException | None = caught.value
        while error is not None:
            assert "secret" not in str(error) + repr(error.args)
            error = error.__cause__ or error.__context__

    def test_time_of_a_call(self):
        with pytest.raises(ValueError, match="Received: timeout=nan"):
            Client("grpc://localhost:1").predict(["a"], timeout=float("nan"))

    def test_what_to_give_for_surrogates_works(self, server):
        with Client(address("grpc", server)) as client:
            assert len(client.predict(["a \ud800".encode("utf-8", "replace")])["scores"]) == 1

    def test_series(self, server):
        pandas = pytest.importorskip("pandas")
        with Client(address("http", server)) as client:
            answers = client.predict(pandas.Series(TEXTS, index=reversed(range(len(TEXTS)))))
        np.testing.assert_allclose(answers["scores"], expected(server, TEXTS)["scores"], atol=1e-5, rtol=0)

    @pytest.mark.parametrize(("url", "package"), [("grpc://a:1", "tensorflow_serving.apis"), ("http://a:1", "httpx")])
    def test_missing_packages_are_named(self, url, package, monkeypatch):
        monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=r"pip install 'keras-bert-layers\[serving\]'"):
            Client(url)


SECRET = "my-secret-text-42"
METADATA = {"scores": ("DT_FLOAT", [-1, 2])}
DEEP = b"[" * 100_000 + b"]" * 100_000


def refused(server: CannedServer) -> None:
    """Three texts get an `InvalidResponseError`, without a text in it, whether waited for or `await`ed."""

    async def call() -> None:
        async with Client(server.url, retries=0) as client:
            await client.predict_async([SECRET] * 3, timeout=5)

    def wait() -> None:
        with Client(server.url, retries=0) as client:
            client.predict([SECRET] * 3, timeout=5)

    for ask in (wait, lambda: asyncio.run(call())):
        with pytest.raises(InvalidResponseError) as caught:
            ask()
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in str(error) + repr(error.args)
            error = error.__cause__ or error.__context__


@pytest.fixture(scope="module")
def canned() -> Iterator[CannedServer]:
    server = CannedServer("http")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def canned_grpc() -> Iterator[CannedServer]:
    server = CannedServer("grpc")
    yield server
    server.stop()


class TestAnswersThatAreNone:
    """A server, or what stands before one, that says anything; the right form is answered, all else is an error."""

    def test_the_right_ones(self, canned):
        for form, values, dtype in [
            (("DT_FLOAT", [-1, 2]), [[1, 2.5], [0.1, -0.0], [1e-50, 3e38]], np.float32),
            (("DT_INT64", [-1]), [2**53 + 1, -(2**63), 0], np.int64),
            (("DT_BOOL", [-1]), [True, False, True], np.bool_),
            (("DT_FLOAT", [-1, -1, 2]), [[], [], []], np.float32),
            (("DT_FLOAT", [-1]), [float("nan"), float("inf"), -float("inf")], np.float32),
            (("DT_STRING", [-1]), ["pos", {"b64": "bmVn"}, "\u00e9"], object),
        ]:
            canned.metadata, canned.answer = rest_metadata(output=form), {"outputs": values}
            with Client(canned.url) as client:
                answer = client.predict(["a"] * 3)["output"]
            assert answer.dtype == dtype
            if dtype is object:
                assert answer.tolist() == [b"pos", b"neg", "\u00e9".encode()]
            elif values == [[], [], []]:
                assert answer.shape == (3, 0, 2)
            else:
                np.testing.assert_array_equal(answer, np.array(values, dtype))

    @pytest.mark.parametrize(
        "outputs",
        [
            [[SECRET, 1.0]] * 3,
            [[1.0, 2.0]] * 2,
            [[1.0, 2.0]] * 4,
            [[1.0, 2.0, 3.0]] * 3,
            [1.0] * 3,
            [[[1.0, 2.0]]] * 3,
            [[1.0, 2.0], [1.0], [1.0, 2.0]],
            [[1.0, 2.0], 1.0, [1.0, 2.0]],
            [[1.0, None]] * 3,
            [[1.0, True]] * 3,
            [["1.0", "2.0"]] * 3,
            [[1e39, 1.0]] * 3,
            [[10**400, 1]] * 3,
            [{"b64": "YQ=="}] * 3,
            [[[], []]] * 3,
            {"scores": [[1.0, 2.0]] * 3},
            {SECRET: [[1.0, 2.0]] * 3},
            SECRET,
            None,
            [],
            {},
        ],
        ids=lambda value: json.dumps(value)[:20],
    )
    def test_outputs_of_another_form(self, outputs, canned):
        canned.metadata, canned.answer = rest_metadata(**METADATA), {"outputs": outputs}
        refused(canned)

    @pytest.mark.parametrize(
        ("form", "values"),
        [
            (("DT_INT32", [-1]), [2**31, 0, 0]),
            (("DT_INT32", [-1]), [1.0, 2.0, 3.0]),
            (("DT_INT32", [-1]), [True, 1, 2]),
            (("DT_UINT8", [-1]), [-1, 0, 0]),
            (("DT_BOOL", [-1]), [0, 1, 0]),
            (("DT_STRING", [-1]), [1, "a", "b"]),
            (("DT_STRING", [-1]), [{"b64": SECRET}, "a", "b"]),
            (("DT_STRING", [-1]), [{"b64": 5}, "a", "b"]),
            (("DT_STRING", [-1]), [{"x": SECRET}, "a", "b"]),
            (("DT_STRING", [-1]), ["\ud800" + SECRET, "a", "b"]),
            (("DT_VARIANT", [-1]), [1, 2, 3]),
            (("DT_COMPLEX64", [-1]), [1, 2, 3]),
        ],
    )
    def test_values_of_another_dtype(self, form, values, canned):
        canned.metadata, canned.answer = rest_metadata(output=form), {"outputs": values}
        refused(canned)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"null",
            b"[]",
            b"5",
            b'"my-secret-text-42"',
            b"{}",
            DEEP,
            b'{"outputs": ' + DEEP + b"}",
            b'{"outputs": [[1e999, 1.0], [1.0, 1.0], [1.0, 1.0]]}',
            b'{"outputs": ' + b"9" * 5000 + b"}",
            b"\xff\xfe my-secret-text-42",
            b'{"outputs": [[1.0, 2.0], my-secret-text-42]}',
        ],
        ids=lambda value: str(value[:20]),
    )
    @pytest.mark.parametrize("part", ["metadata", "answer"])
    def test_bodies_of_another_form(self, part, content, canned):
        canned.metadata, canned.answer = rest_metadata(**METADATA), {"outputs": [[1.0, 2.0]] * 3}
        setattr(canned, part, content)
        refused(canned)

    @pytest.mark.parametrize(
        "signature",
        [
            None,
            [],
            SECRET,
            {},
            {"inputs": {"text": {"dtype": "DT_STRING"}}},
            {"inputs": {"text": SECRET}, "outputs": {"x": SECRET}},
            {"inputs": {"text": {"dtype": 1e9}}, "outputs": {"x": {"dtype": SECRET}}},
            {"inputs": {"text": {"dtype": "DT_STRING"}}, "outputs": {"x": {"dtype": "\ud800"}}},
            {
                "inputs": {"text": {"dtype": "DT_STRING"}},
                "outputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": SECRET}]}}},
            },
            {
                "inputs": {"text": {"dtype": "DT_STRING"}},
                "outputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-5"}]}}},
            },
        ],
        ids=lambda value: json.dumps(value)[:30],
    )
    def test_metadata_of_another_form(self, signature, canned):
        canned.metadata = {"metadata": {"signature_def": {"signature_def": {"serving_default": signature}}}}
        refused(canned)

    @pytest.mark.parametrize("awaited", [False, True])
    def test_headers_that_drip(self, awaited, canned):
        canned.metadata, canned.answer, canned.drip = rest_metadata(**METADATA), None, 0.05
        client = Client(canned.url, timeout=0.5)
        start = time.monotonic()
        try:
            with pytest.raises(DeadlineExceededError):
                asyncio.run(client.predict_async(["a"])) if awaited else client.predict(["a"])
        finally:
            canned.drip = 0.0
        assert time.monotonic() - start < 1.5
        canned.answer = {"outputs": [[1.0, 2.0]]}
        assert client.predict(["a"])["scores"].tolist() == [[1.0, 2.0]]

    def test_compressed_answers(self, canned):
        """100 MB in 0.4: what is not asked for is not unpacked."""
        canned.metadata, canned.headers = rest_metadata(**METADATA), {"Content-Encoding": "gzip"}
        canned.answer = gzip.compress(b" " * 100_000_000, compresslevel=1)
        assert len(canned.answer) < 2**20
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            refused(canned)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000
        finally:
            canned.headers = {}

    @pytest.mark.parametrize(
        ("form", "change"),
        [
            (("DT_FLOAT", [-1, 2]), {"tensor_shape": [2, 2], "float_val": [0.0] * 4}),
            (("DT_FLOAT", [-1, 2]), {"tensor_shape": [4, 2], "float_val": [0.0] * 8}),
            (("DT_FLOAT", [-1, 2]), {"tensor_shape": [3, 3], "float_val": [0.0] * 9}),
            (("DT_FLOAT", [-1, 2]), {"tensor_shape": [], "float_val": [0.0]}),
            (("DT_FLOAT", [-1, -1]), {"tensor_shape": [3, 10**12], "float_val": [0.0]}),
            (("DT_FLOAT", [-1, -1]), {"tensor_shape": [3, -1], "float_val": [0.0] * 3}),
            (("DT_FLOAT", [-1, -1]), {"tensor_shape": [3, 2], "tensor_content": b"\0" * 23}),
            (("DT_FLOAT", [-1, -1]), {"tensor_shape": [3, 2]}),
            (("DT_FLOAT", [-1]), {"dtype": "DT_DOUBLE", "tensor_shape": [3], "double_val": [0.0] * 3}),
            (("DT_FLOAT", [-1]), {"dtype": "DT_INVALID", "tensor_shape": [3]}),
            (("DT_INT8", [-1]), {"dtype": "DT_INT8", "tensor_shape": [3], "int_val": [1000, 0, 0]}),
            (("DT_STRING", [-1]), {"dtype": "DT_STRING", "tensor_shape": [3], "string_val": [SECRET.encode()]}),
            (("DT_STRING", [-1]), {"dtype": "DT_STRING", "tensor_shape": [3], "tensor_content": b"abc"}),
            (("DT_VARIANT", [-1]), {"dtype": "DT_VARIANT", "tensor_shape": [3]}),
            (("DT_FLOAT", [-1]), None),
        ],
        ids=str,
    )
    def test_tensors_of_another_form(self, form, change, canned_grpc):
        canned_grpc.metadata = grpc_metadata(output=form)
        response = predict_pb2.PredictResponse()
        if change is not None:
            tensor = response.outputs["output"]
            fields = {"dtype": "DT_FLOAT", **change}
            tensor.dtype = types_pb2.DataType.Value(fields.pop("dtype"))
            for size in fields.pop("tensor_shape"):
                tensor.tensor_shape.dim.add(size=size)
            for field, values in fields.items():
                if isinstance(values, bytes):
                    setattr(tensor, field, values)
                else:
                    getattr(tensor, field).extend(values)
        canned_grpc.answer = response.SerializeToString()
        refused(canned_grpc)

    def test_answers_with_other_outputs_over_grpc(self, canned_grpc):
        canned_grpc.metadata = grpc_metadata(**METADATA)
        response = predict_pb2.PredictResponse()
        for name in ("scores", SECRET):
            response.outputs[name].CopyFrom(tf.make_tensor_proto(np.zeros([3, 2], np.float32)))
        canned_grpc.answer = response.SerializeToString()
        refused(canned_grpc)
        del response.outputs[SECRET]
        canned_grpc.answer = response.SerializeToString()
        with Client(canned_grpc.url) as client:
            assert client.predict(["a"] * 3)["scores"].tolist() == [[0.0, 0.0]] * 3

    @pytest.mark.parametrize("metadata", [b"", b"\n\x03abc", grpc_metadata(**METADATA)[:-3]])
    def test_metadata_of_another_form_over_grpc(self, metadata, canned_grpc):
        canned_grpc.metadata = metadata
        with pytest.raises(ServingError), Client(canned_grpc.url) as client:
            client.predict(["a"])

    @pytest.mark.parametrize("scheme", ["grpc", "http"])
    def test_a_new_version_is_learned(self, scheme, canned, canned_grpc):
        """Another output, dtype and shape under the same name, between two calls of one client."""
        server = canned if scheme == "http" else canned_grpc

        def serve(**tensors: tuple[str, np.ndarray]) -> None:
            forms = {name: (dtype, [-1, *values.shape[1:]]) for name, (dtype, values) in tensors.items()}
            if scheme == "http":
                outputs = {name: values.tolist() for name, (_, values) in tensors.items()}
                server.metadata = rest_metadata(**forms)
                server.answer = {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
            else:
                response = predict_pb2.PredictResponse()
                for name, (_, values) in tensors.items():
                    response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
                server.metadata, server.answer = grpc_metadata(**forms), response.SerializeToString()

        with Client(server.url) as client:
            for tensors in (
                {"scores": ("DT_FLOAT", np.ones([2, 3], np.float32))},
                {"scores": ("DT_INT64", np.ones([2, 1], np.int64))},
                {"scores": ("DT_FLOAT", np.ones([2, 2], np.float32)), "more": ("DT_INT32", np.ones([2], np.int32))},
                {"other": ("DT_FLOAT", np.ones([2, 2], np.float32))},
            ):
                serve(**tensors)
                before = server.requests
                answers = client.predict(["a", "b"])
                assert server.requests - before <= 2
                for name, (_, values) in tensors.items():
                    np.testing.assert_array_equal(answers[name], values)
                    assert answers[name].dtype == values.dtype
                before = server.requests
                client.predict(["a", "b"])
                assert server.requests - before == 1


class TestTheFixture:
    """That it keeps the rules of TensorFlow Serving's REST interface."""

    def post(self, server: FixtureServer, request: Any, path: str = "/v1/models/model:predict") -> tuple[int, Any]:
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        try:
            with urllib.request.urlopen(f"http://localhost:{server.rest_port}{path}", data) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def test_row_form(self, server):
        status, answer = self.post(server, {"instances": ["a good film", {"b64": "YSBnb29kIGZpbG0="}]})
        assert status == 200
        first, second = answer["predictions"]
        np.testing.assert_allclose(second["scores"], first["scores"], atol=1e-6)
        assert set(first) == {"embedding", "scores"}
        assert len(first["scores"]) == 3
        _, named = self.post(server, {"instances": [{"text": "a good film"}]})
        np.testing.assert_allclose(named["predictions"][0]["scores"], first["scores"], atol=1e-6)

    def test_column_form(self, server):
        _, plain = self.post(server, {"inputs": ["a good film"]})
        _, named = self.post(server, {"inputs": {"text": ["a good film"]}, "signature_name": "serving_default"})
        assert plain == named
        assert np.shape(plain["outputs"]["scores"]) == (1, 3)

    @pytest.mark.parametrize(
        ("request_", "path", "status"),
        [
            (b"{", "/v1/models/model:predict", 400),
            ({}, "/v1/models/model:predict", 400),
            ({"inputs": ["a"], "instances": ["a"]}, "/v1/models/model:predict", 400),
            ({"instances": [{"text": "a"}, {"x": "a"}]}, "/v1/models/model:predict", 400),
            ({"inputs": ["a"], "signature_name": "other"}, "/v1/models/model:predict", 400),
            ({"inputs": ["a"]}, "/v1/models/other:predict", 404),
            ({"inputs": ["a"]}, "/v1/models/model/versions/2:predict", 404),
            ({"inputs": ["a"]}, "/v1/model:predict", 400),
        ],
    )
    def test_errors(self, request_, path, status, server):
        found, answer = self.post(server, request_, path)
        assert found == status
        assert set(answer) == {"error"}


def test_a_list_of_texts_for_an_input_of_one_column():
    """As `keras.Input((1,), dtype="string")` takes it."""
    server = CannedServer("http")
    server.metadata = rest_metadata(scores=("DT_FLOAT", [-1, 2]))
    server.answer = {"outputs": [[1.0, 2.0], [3.0, 4.0]]}
    text = server.metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["text"]
    text["tensor_shape"]["dim"].append({"size": "1"})
    try:
        with Client(server.url, model="model") as client:
            for texts in (["a", "b"], [["a"], ["b"]]):
                np.testing.assert_array_equal(client.predict(texts)["scores"], [[1, 2], [3, 4]])
            with pytest.raises(InvalidRequestError, match=r"\[None, 1\].*Received: text.shape=\(1, 2\)"):
                client.predict([["a", "b"]])
    finally:
        server.stop()
