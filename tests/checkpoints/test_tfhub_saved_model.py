import base64
import contextlib
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import tarfile
import threading
import warnings
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import TFHubEncoder, TFHubPreprocessor
from keras_bert_layers.checkpoints.tfhub_saved_model import find_saved_model, load_saved_model

from ..tfhub_factory import make_tfhub_encoder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_tfhub_encoder(tmp_path_factory.mktemp("tfhub") / "encoder", num_layers=1)


@pytest.fixture(scope="module")
def config(original):
    return TFHubEncoder(original).get_config()


@pytest.fixture
def directory(original, tmp_path):
    return shutil.copytree(original, tmp_path / "encoder")


def repacked(config, compression=zipfile.ZIP_DEFLATED, **changes):
    """The zip file of a configuration with other entries; None leaves one out."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(config["source"]["saved_model"]))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()} | changes
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            if content is not None:
                archive.writestr(name, content)
    return {"saved_model": base64.b64encode(buffer.getvalue()).decode()}


def with_tensor(config, **changes):
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(config["source"]["saved_model"]))) as archive:
        tensors = json.loads(archive.read("tensors.json"))
    weight = next(tensor for tensor in tensors if tensor["value"] is None)
    weight.update(changes)
    return repacked(config, **{"tensors.json": json.dumps(tensors)})


def a_zero_many_times(shape):
    proto = tf.make_tensor_proto(0.0, shape=[1])
    proto.tensor_shape.dim[0].size = shape
    return base64.b64encode(proto.SerializeToString()).decode()


@pytest.mark.parametrize(
    "make_source",
    [
        lambda config: {},
        lambda config: {"saved_model": None},
        lambda config: {"saved_model": ""},
        lambda config: {"saved_model": "ä"},
        lambda config: {"saved_model": "!" + config["source"]["saved_model"]},
        lambda config: {"saved_model": base64.b64encode(b"no zip file").decode()},
        lambda config: {"saved_model": config["source"]["saved_model"][:4000]},
        lambda config: repacked(config, **{"tensors.json": None}),
        lambda config: repacked(config, **{"tensors.json": "{"}),
        lambda config: repacked(config, **{"tensors.json": "[" * 100_000}),
        lambda config: repacked(config, **{"tensors.json": "[1]"}),
        lambda config: repacked(config, **{"tensors.json": "[]"}),
        lambda config: repacked(config, **{"saved_model.pb": None}),
        lambda config: repacked(config, **{"saved_model.pb": "no graph"}),
        lambda config: repacked(config, zipfile.ZIP_LZMA),
        lambda config: repacked(config, **{f"assets/{number}": "" for number in range(1000)}),
        lambda config: repacked(config, **{"assets/zeros": bytes(100 * 2**20)}),
        lambda config: with_tensor(config, shape=[10**12]),
        lambda config: with_tensor(config, shape=[-(10**12)]),
        lambda config: with_tensor(config, shape=None),
        lambda config: with_tensor(config, dtype="resource"),
        lambda config: with_tensor(config, value=a_zero_many_times(10**11)),
        lambda config: with_tensor(config, value="AAAA"),
        lambda config: with_tensor(config, key=5),
    ],
)
def test_what_is_no_packed_saved_model_is_one_clear_error(config, make_source):
    with pytest.raises(
        ValueError, match=r"(?s)Expected a saved TF Hub layer to carry .* Received: saved_model=.*Save the"
    ):
        TFHubEncoder.from_config({**config, "source": make_source(config)})


def test_other_entries_of_the_zip_are_not_unpacked(config):
    source = repacked(config, **{"variables/variables.index": "x", "../evil": "x", "assets/../../evil": "x"})
    encoder = TFHubEncoder.from_config({**config, "source": source})
    unpacked = pathlib.Path(encoder.saved_model._directory.name)
    assert not [
        path for path in (*unpacked.rglob("evil"), *unpacked.parent.glob("evil")) if path.parent != unpacked / "assets"
    ]


@pytest.mark.parametrize("layer", [TFHubEncoder, TFHubPreprocessor])
def test_a_saved_configuration_names_no_place_to_load_from(original, config, layer):
    for source in (str(original), "https://tfhub.dev/someone/bert/4", None):
        message = rf"configuration of a {layer.__name__} to carry its SavedModel.* Received: source=.*\(source\)"
        with pytest.raises(ValueError, match=message):
            layer.from_config({**config, "source": source})


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nothing")])
@pytest.mark.parametrize(
    "file",
    [
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets/vocab.txt",
    ],
)
def test_what_stands_in_place_of_a_file_is_named(directory, file, make):
    (directory / file).unlink()
    make(directory / file)
    with pytest.raises((FileNotFoundError, ValueError), match=f"{directory / file} is expected to be a file. Received"):
        TFHubEncoder(directory)


def test_variables_that_claim_more_than_there_is(directory):
    data = directory / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"variables.index is expected to list .*Received: variables of .*and files of"
    ):
        TFHubEncoder(directory)


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.index"])
def test_a_damaged_saved_model_is_named(directory, file):
    (directory / file).write_bytes(b"no such file")
    with pytest.raises(ValueError, match=f"{directory} is expected to hold a SavedModel that TensorFlow can load. Rec"):
        TFHubEncoder(directory)


def test_weights_that_are_not_finite_are_warned_of(original, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = load_saved_model(original)
    loaded.variables[0].assign(np.full(loaded.variables[0].shape, np.nan))
    tf.saved_model.save(loaded, str(tmp_path / "encoder"))
    with pytest.warns(UserWarning, match=r"NaN or infinite numbers in word_embeddings/embeddings:0 of the SavedModel "):
        TFHubEncoder(tmp_path / "encoder")


@pytest.mark.parametrize("source", ["gs://bucket/bert/1", "s3://bucket/bert", "file:///bert"])
def test_a_url_of_another_kind(source):
    with pytest.raises(
        ValueError, match=r"Expected `source` to be a path on this machine.*by its URL, which begins wit"
    ):
        find_saved_model(source)


@contextlib.contextmanager
def serve(directory):
    """A server that has one model in TF Hub's compressed format."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(directory, ".")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/someone/bert/4?tf-hub-format=compressed" else 404)
            self.end_headers()
            self.wfile.write(buffer.getvalue())

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_handle_without_a_connection_and_its_way_out(original, tmp_path, monkeypatch):
    tensorflow_hub = pytest.importorskip("tensorflow_hub", reason="tensorflow_hub is not installed")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(original) as url:
        handle = f"{url}/someone/bert/4"
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "empty"))
        with pytest.raises(OSError, match=r"URL handle of TensorFlow Hub that .*Received: '.*other', .*404"):
            find_saved_model(f"{url}/other")
    with pytest.raises(OSError, match=r"URL handle .*Connection refused.*TFHUB_CACHE_DIR") as caught:
        find_saved_model(handle)
    advice = re.search(r"tensorflow_hub\.resolve\('(.*)'\)", str(caught.value)).group(1)
    assert advice == handle
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with serve(original) as url:
        handle = f"{url}/someone/bert/4"
        downloaded = tensorflow_hub.resolve(handle)
    # The server is gone; the directory and the cache serve.
    assert find_saved_model(downloaded) == find_saved_model(handle) == pathlib.Path(downloaded)
