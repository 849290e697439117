"""No text of a user appears in logs, errors, or in what lies beside the graph."""

import asyncio
import io
import logging
import shutil
import traceback

import pytest
import tensorflow as tf

from keras_bert_layers.serving import Client, ServingError, check

from .export_factory import change_card, warmup_record, write_warmup

for package in ("tensorflow_serving", "httpx"):
    pytest.importorskip(package)

from .fixture_server import FixtureServer  # noqa: E402

MARKER = "Zxqv-the-users-own-words-Qvxz"


@pytest.fixture
def log() -> io.StringIO:
    """All that any logger says, at any level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_client(scheme, sound, log, capfd):
    """The fixture repeats the text in its errors, as servers do."""
    server = FixtureServer(sound)
    port = server.grpc_port if scheme == "grpc" else server.rest_port
    said = []

    def fail(client: Client, inputs, code: str | None, awaited: bool) -> None:
        server.fail_next = [code] * 2 if code else []
        ask = (lambda: asyncio.run(client.predict_async(inputs))) if awaited else (lambda: client.predict(inputs))
        with pytest.raises((ServingError, ValueError)) as caught:
            ask()
        said.append("".join(traceback.format_exception(caught.value)))
        error = caught.value
        while error is not None:
            said.extend([str(error), repr(error), repr(error.args)])
            error = error.__cause__ or error.__context__

    try:
        with Client(f"{scheme}://localhost:{port}", retries=1) as client:
            for awaited in (False, True):
                assert len(client.predict([MARKER])["scores"]) == 1
                for code in ("INVALID_ARGUMENT", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"):
                    fail(client, [MARKER], code, awaited)
                fail(client, {"x": [MARKER]}, None, awaited)
                fail(client, [[MARKER, 1]], None, awaited)
                fail(client, MARKER, None, awaited)
    finally:
        server.stop()
    captured = capfd.readouterr()
    assert len(said) >= 28
    # The programmer's own line in a traceback holds the name of the variable, not its value.
    assert not [text for text in [*said, log.getvalue(), captured.out, captured.err] if MARKER in text]


def test_check(tmp_path, sound, log, capfd):
    """Warm-up records may hold real texts; a broken one is named by its number."""
    shutil.copytree(sound, tmp_path / "1")
    change_card(tmp_path / "1", golden={})
    found = []
    for record in (
        warmup_record({"text": tf.constant([[MARKER]])}),
        warmup_record({"x": tf.constant([MARKER])}),
        MARKER.encode(),
    ):
        write_warmup(tmp_path / "1", [record])
        findings = check(tmp_path / "1")
        assert any("record 1" in finding.where for finding in findings)
        found.extend(map(str, findings))
    captured = capfd.readouterr()
    assert not [text for text in [*found, log.getvalue(), captured.out, captured.err] if MARKER in text]
    # What was asked of an export leaves nothing in it.
    tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](text=tf.constant([MARKER]))
    write_warmup(tmp_path / "1", [])
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and MARKER.encode() in file.read_bytes()]
