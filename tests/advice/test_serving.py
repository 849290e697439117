"""What the messages of the export, the check and the client say is done, and helps."""

import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers import serving

from ..encoders.tiny_encoders import quantize
from .advice import advice, refused, welcome
from .test_analysis import extras

NAMES = ("input_word_ids", "input_mask", "input_type_ids")


def export(model, directory, **options):
    options = {"check": False, "warmup": False} | options
    kbl.export_saved_model(model, directory, **options)
    return tf.saved_model.load(str(directory)).signatures


def text_model(preprocessor, encoder):
    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, encoder(preprocessor(text))["pooled_output"])


def ids_model(encoder, length=None, names=NAMES):
    inputs = {name: keras.Input((length,), dtype="int32", name=name) for name in names}
    return keras.Model(inputs, encoder(dict(zip(NAMES, inputs.values(), strict=True)))["pooled_output"])


@pytest.fixture(scope="module")
def model(preprocessor, encoder):
    return text_model(preprocessor, encoder)


@advice(
    'Put names into a list, as in ["embed"].',
    'Give a functional model for any other, as in signatures={"probabilities": keras.Model(...)}.',
    "Give the signature another name.",
    "Give them as in [1, 8, 32].",
    "Give fewer `length_buckets` or `batch_sizes`.",
)
def test_lists(model, tmp_path):
    pytest.importorskip("tensorflow_serving")
    with refused():
        export(model, tmp_path / "1", signatures="embed")
    with refused():
        export(model, tmp_path / "1", batch_sizes=[32, 8])
    with refused():
        export(model, tmp_path / "1", batch_sizes=list(range(1, 1100)), warmup=True)
    other = keras.Model(model.input, keras.layers.Softmax()(model.output))
    with refused():
        export(model, tmp_path / "1", signatures=["probabilities"])
    with refused():
        export(model, tmp_path / "1", signatures={"serving_default": other})
    assert "embed" in export(model, tmp_path / "1", signatures=["embed"], batch_sizes=[1, 8, 32])
    assert "probabilities" in export(model, tmp_path / "2", signatures={"probabilities": other})


@advice("Call it on keras.Input(...) tensors and make a functional model of the result.")
def test_a_subclassed_model(model, tmp_path):
    class Subclassed(keras.Model):
        def call(self, text):
            return model(text)

    subclassed = Subclassed()
    with refused():
        export(subclassed, tmp_path / "1")
    text = keras.Input((), dtype="string", name="text")
    export(keras.Model(text, subclassed(text)), tmp_path / "1")


@advice("TensorFlow Serving would not take this export, and nothing was written (check=False writes it all the same):")
def test_what_no_server_takes(tmp_path):
    class RunsPython(keras.layers.Layer):
        def call(self, values):
            return tf.ensure_shape(tf.py_function(lambda values: values, [values], "float32"), values.shape)

    values = keras.Input((2,), name="values")
    model = keras.Model(values, RunsPython(name="scores")(values))
    with refused():
        kbl.export_saved_model(model, tmp_path / "1", warmup=False)
    assert not (tmp_path / "1").exists()
    export(model, tmp_path / "1")
    assert (tmp_path / "1" / "saved_model.pb").exists()


@pytest.mark.slow
@advice(
    "Name the keras.Input tensors so; a model that takes texts needs no `preprocessor`.",
    "Give a preprocessor with sequence_length=",
    "or make the model on keras.Input((None,), dtype='int32').",
    "Give the layer itself, or leave out `inputs`.",
)
def test_a_preprocessor_and_a_model(encoder, preprocessor, vocabulary, model, tmp_path):
    def check(model, preprocessor, number, **options):
        signature = export(model, tmp_path / str(number), preprocessor=preprocessor, **options)["serving_default"]
        assert np.isfinite(next(iter(signature(text=tf.constant(["why"])).values()))).all()

    with refused():
        check(ids_model(encoder, names=("a", "b", "c")), preprocessor, 1)
    check(ids_model(encoder), preprocessor, 1)
    check(model, None, 2)
    with refused():
        check(ids_model(encoder, 8), preprocessor, 3)
    check(ids_model(encoder, 8), kbl.BertPreprocessor(vocabulary, sequence_length=8), 3)
    text = keras.Input((), dtype="string", name="text")
    functional = keras.Model(text, preprocessor(text))
    with refused():
        check(ids_model(encoder), functional, 4, inputs="pair")
    check(ids_model(encoder), functional, 4)
    with refused():
        check(model, None, 5, inputs="words")


@advice("Give them, as (32, 64, 128), or a preprocessor.")
def test_buckets_for_a_gpu(encoder, preprocessor, vocabulary, tmp_path):
    """The graph is made for a GPU and run without one elsewhere."""
    with refused():
        export(ids_model(encoder), tmp_path / "1", target="gpu")
    export(ids_model(encoder), tmp_path / "1", target="gpu", length_buckets=(8, 16))
    export(ids_model(encoder), tmp_path / "2", target="gpu", preprocessor=preprocessor)


@pytest.mark.slow
@advice(
    "Give the preprocessor of a model on ids to export_saved_model(..., preprocessor=...); without one, and with "
    "several, export only the signatures serving_default and ids.",
    "Export only serving_default, ids and tokenize, or a model on one of the encoders.",
    'Merge the windows: WindowedEncoder(..., merge="max_context").',
)
def test_signatures(encoder, config, preprocessor, vocabulary, tmp_path):
    with refused():
        export(ids_model(encoder), tmp_path / "1", signatures=["embed"])
    assert "embed" in export(ids_model(encoder), tmp_path / "1", signatures=["embed"], preprocessor=preprocessor)
    export(ids_model(encoder), tmp_path / "2", signatures=["serving_default", "ids"])
    text = keras.Input((), dtype="string", name="text")
    ids = preprocessor(text)
    two = keras.Model(text, [one(ids)["pooled_output"] for one in (encoder, kbl.BertEncoder(config, name="other"))])
    with refused():
        export(two, tmp_path / "3", signatures=["embed"])
    export(two, tmp_path / "3", signatures=["serving_default", "ids", "tokenize"])

    def windows(merge):
        long = kbl.BertPreprocessor(vocabulary, sequence_length=40)
        states = kbl.WindowedEncoder(encoder, 24, 4, merge=merge)(long(text))["encoder_outputs"]
        return keras.Model(text, states)

    with refused():
        export(windows(None), tmp_path / "4", signatures=["embed"])
    assert "embed" in export(windows("max_context"), tmp_path / "4", signatures=["embed"])


@pytest.mark.slow
@advice(
    "Load the same checkpoint with BertEncoder.from_pretrained(...).",
    "Export it without them, or export the model as it was before.",
)
def test_stored_weights(config, encoder_factory, tmp_path):
    with refused():
        export(ids_model(encoder_factory("tfhub", combine="mean")), tmp_path / "1", dtype="bfloat16")
    encoder = kbl.BertEncoder(config, combine="mean")
    quantized = ids_model(encoder)
    export(quantized, tmp_path / "1", dtype="bfloat16")
    quantize(quantized)
    with refused():
        export(quantized, tmp_path / "2", quantize="int8")
    export(quantized, tmp_path / "2")


@advice("Make both of one checkpoint.")
def test_a_preprocessor_of_another_checkpoint(vocabulary, encoder, preprocessor, tmp_path):
    with refused():
        export(text_model(kbl.BertPreprocessor([*vocabulary, "new"], sequence_length=12), encoder), tmp_path / "1")
    export(text_model(preprocessor, encoder), tmp_path / "1")


@advice("Copy the export here, into a folder of the same name, and check the copy.")
def test_an_export_elsewhere(model, tmp_path):
    with refused():
        serving.check("gs://bucket/model/1")
    export(model, tmp_path / "here" / "1")
    shutil.copytree(tmp_path / "here" / "1", tmp_path / "copy" / "1")
    errors = [finding for finding in serving.check(tmp_path / "copy" / "1", run=False) if finding.severity == "error"]
    assert not errors


@advice("Install them with: pip install 'keras-bert-layers[serving]'")
def test_without_the_packages_of_the_server(model, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("tensorflow_serving")] + ["tensorflow_serving"]:
        monkeypatch.setitem(sys.modules, name, None)
    with refused():
        export(model, tmp_path / "1", warmup=True)
    export(model, tmp_path / "1", warmup=False)
    assert "tensorflow-serving-api" in extras()["serving"]


@advice("Install it with: pip install 'keras-bert-layers[serving]'.", not_here="nothing is installed by a test")
def test_the_extra_of_the_client():
    assert all(package in extras()["serving"] for package in ("tensorflow-serving-api", "grpcio", "httpx"))


@advice(
    "TensorFlow Serving has gRPC at port 8500 and REST at 8501",
    "a path is made of `model` and `version`",
    "Leave one out.",
    "Put a single text into a list, and fill rows up.",
    "Give one item of each input for each item of the batch.",
    "Leave `outputs` out to see all of them.",
)
def test_the_client(model, tmp_path):
    pytest.importorskip("tensorflow_serving")
    from ..serving.fixture_server import FixtureServer

    export(model, tmp_path / "1", signatures=["serving_default", "ids"])
    server = FixtureServer(tmp_path / "1")
    try:
        with refused():
            serving.Client(f"http://localhost:{server.rest_port}/v1/models/model")
        with refused():
            serving.Client(f"http://localhost:{server.rest_port}", "model", version=1, label="stable")
        client = serving.Client(f"http://localhost:{server.rest_port}", "model", version=1)
        with refused():
            client.predict("why")
        client.predict(["why"])
        with refused():
            client.predict({"text": ["why", "how"], "other": ["a"]})
        client.predict({"text": ["why", "how"]})
        with refused():
            serving.Client(f"grpc://localhost:{server.grpc_port}", "model", outputs=["none"]).predict(["why"])
        with welcome():
            assert serving.Client(f"grpc://localhost:{server.grpc_port}", "model").predict(["why"])
    finally:
        server.stop()
