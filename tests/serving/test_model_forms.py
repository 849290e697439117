"""Models in the forms in which people write them: what comes in, what goes out, and what is inside."""

import json
import pathlib
import re
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.serving import Client
from tests.native.saved_model_runner import SavedModelRunner

TEXTS = ["a good film", "the plot was dull and the actor was bad", "", "WHY?"]
LABELS = ["bad", "gut", "très bon"]


def tiny(vocabulary: list[str], **options: Any) -> kbl.BertConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return kbl.BertConfig(**{"vocab_size": len(vocabulary), "max_position_embeddings": 16, **sizes, **options})


def pooled(vocabulary: list[str], texts: Any) -> Any:
    features = kbl.BertEncoder(tiny(vocabulary), combine="mean")(
        kbl.BertPreprocessor(vocabulary, sequence_length=12)(texts)
    )
    return kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])


def to_labels() -> keras.layers.Layer:
    return keras.layers.StringLookup(vocabulary=LABELS, num_oov_indices=0, invert=True)


@keras.saving.register_keras_serializable(package="tests")
class Upper(keras.layers.Layer):
    def call(self, inputs):
        return tf.strings.upper(inputs)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, "string")


def labelling_model(vocabulary: list[str]) -> keras.Model:
    """Strings made of numbers, of strings so made, and of the text itself; some in a model inside the model."""
    keras.utils.set_random_seed(2)
    vector = keras.Input((16,), name="vector")
    scores = keras.layers.Dense(len(LABELS), name="scores")(vector)
    label = to_labels()(keras.ops.argmax(scores, axis=-1))
    head = keras.Model(vector, {"label": label, "scores": scores})
    text = keras.Input((), dtype="string", name="text")
    answers = head(pooled(vocabulary, text))
    ranked = to_labels()(keras.ops.argsort(-answers["scores"], axis=-1))
    return keras.Model(
        text, {**answers, "ranked": ranked, "loud label": Upper()(answers["label"]), "loud_text": Upper()(text)}
    )


class Labelling(NamedTuple):
    """A model whose outputs are strings too, models on its graph, and the export of all of them."""

    model: keras.Model
    others: dict[str, keras.Model]
    directory: pathlib.Path


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def labelling(request, vocabulary, tmp_path_factory) -> Labelling:
    model = labelling_model(vocabulary)
    answers = model.output
    probabilities = keras.layers.Softmax(name="probabilities")(answers["scores"])
    best = to_labels()(keras.ops.argmax(probabilities, axis=-1))
    # Around the model, on an input of its own.
    own_text = keras.Input((), dtype="string", name="own")
    others = {
        "probabilities": keras.Model(model.input, probabilities),
        "best": keras.Model(model.input, {"label": best, "loud_text": answers["loud_text"]}),
        "scaled": keras.Model(own_text, keras.layers.Rescaling(2.0, name="scaled")(model(own_text)["scores"])),
        "halved": keras.Sequential(
            [
                keras.Input((), dtype="string"),
                keras.Model(model.input, answers["scores"]),
                keras.layers.Rescaling(0.5),
            ]
        ),
    }
    if request.param == "gpu":
        # XLA takes its time.
        others = {name: others[name] for name in ("probabilities", "best")}
    directory = tmp_path_factory.mktemp(request.param) / "1"
    options = {"length_buckets": [12]} if request.param == "gpu" else {}
    # XLA is asked for with a warning; the check runs the examples in a fresh process.
    options |= {"target": request.param, "check": request.param == "cpu"}
    signatures = {"ids": "ids", "vectors": "embed", **others}
    kbl.export_saved_model(model, directory, signatures=signatures, batch_sizes=[1, 4], **options)
    return Labelling(model, others, directory)


def test_outputs_that_are_texts(labelling, vocabulary, saved_model_runner: SavedModelRunner):
    expected = {name: np.asarray(value) for name, value in labelling.model(tf.constant(TEXTS)).items()}
    assert len(set(expected["label"])) > 1
    ids = kbl.BertPreprocessor(vocabulary, sequence_length=12)(TEXTS)
    ids = {name: ids[name] for name in ("input_word_ids", "input_mask", "input_type_ids")}
    by_text, by_ids, vectors = saved_model_runner.run_requests(
        labelling.directory, [("serving_default", {"text": TEXTS}), ("ids", ids), ("vectors", {"text": TEXTS})]
    )
    assert by_text.keys() == expected.keys()
    # Of ids nobody knows the text.
    assert by_ids.keys() == expected.keys() - {"loud_text"}
    assert vectors.keys() == {"embedding"}
    for answer in (by_text, by_ids):
        assert_same(answer, {name: expected[name] for name in answer})
    golden = json.loads((labelling.directory / "keras_bert_layers.json").read_text())["golden"]["serving_default"]
    assert set(golden["outputs"]["label"]["values"]) <= set(LABELS)


def test_signatures_that_are_functional_models(labelling, saved_model_runner: SavedModelRunner):
    requests = [(name, {"text": TEXTS}) for name in labelling.others]
    answers = saved_model_runner.run_requests(labelling.directory, requests)
    outputs = {
        "probabilities": {"probabilities"},
        "best": {"label", "loud_text"},
        "scaled": {"scaled"},
        "halved": {"rescaling"},
    }
    for (name, model), answer in zip(labelling.others.items(), answers, strict=True):
        expected = model(tf.constant(TEXTS))
        expected = expected if isinstance(expected, dict) else dict.fromkeys(answer, expected)
        assert {re.sub(r"_\d+$", "", key) for key in answer} == outputs[name]
        assert_same(answer, {key: np.asarray(value) for key, value in expected.items()})
    card = json.loads((labelling.directory / "keras_bert_layers.json").read_text())
    names = {"serving_default", "ids", "vectors", *labelling.others}
    assert set(card["signatures"]) == set(card["golden"]) == names
    assert card["golden"]["probabilities"]["outputs"]["probabilities"]["shape"] == [3, len(LABELS)]
    assert set(card["golden"]["best"]["outputs"]["label"]["values"]) <= set(LABELS)
    # All of them share the weights.
    stored = dict(tf.train.list_variables(str(labelling.directory / "variables" / "variables")))
    numbers = sum(np.prod(shape) for name, shape in stored.items() if "OBJECT_GRAPH" not in name)
    assert 0 < numbers <= sum(np.prod(weight.shape) for weight in labelling.model.weights)


def assert_same(answer: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert answer.keys() == expected.keys()
    for name, value in answer.items():
        if value.dtype == object:
            np.testing.assert_array_equal(value, expected[name])
        else:
            np.testing.assert_allclose(value, expected[name], atol=2e-5, rtol=0)


@pytest.mark.parametrize("labelling", ["cpu"], indirect=True)
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_outputs_that_are_texts_come_to_a_client(scheme, labelling):
    for package in ("tensorflow_serving", "httpx"):
        pytest.importorskip(package)
    from .fixture_server import FixtureServer

    server = FixtureServer(labelling.directory)
    try:
        port = server.grpc_port if scheme == "grpc" else server.rest_port
        with Client(f"{scheme}://localhost:{port}") as client:
            answer = client.predict(TEXTS)
        with Client(f"{scheme}://localhost:{port}", signature="best") as client:
            best = client.predict(TEXTS)
    finally:
        server.stop()
    expected = labelling.model(tf.constant(TEXTS))
    for name in ("label", "ranked", "loud label", "loud_text"):
        np.testing.assert_array_equal(answer[name], expected[name].numpy())
    for name in ("label", "loud_text"):
        np.testing.assert_array_equal(best[name], expected[name].numpy())


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_examples_have_the_shapes_of_the_inputs(target, vocabulary, tmp_path, saved_model_runner: SavedModelRunner):
    """`keras.Input((1,), dtype="string")`, as many tutorials write it, beside numbers of all kinds of shapes."""
    text = keras.Input((1,), dtype="string", name="text")
    extra = {
        "ages": keras.Input((3,), name="ages"),
        "grid": keras.Input((2, 5), name="grid", dtype="int32"),
        "flag": keras.Input((), name="flag", dtype="bool"),
    }
    flags = keras.ops.cast(extra["flag"], "float32")[:, None]
    numbers = [extra["ages"], keras.ops.cast(keras.layers.Flatten()(extra["grid"]), "float32"), flags]
    scores = keras.layers.Dense(2, name="scores")(keras.ops.concatenate([pooled(vocabulary, text), *numbers], axis=-1))
    model = keras.Model([text, *extra.values()], scores)
    kbl.export_saved_model(model, tmp_path / "1", target=target, batch_sizes=[1, 4], check=target == "cpu")
    generator = np.random.default_rng(0)
    inputs = {
        "text": np.array(TEXTS, dtype=object)[:, None],
        "ages": generator.normal(size=(4, 3)).astype("float32"),
        "grid": generator.integers(9, size=(4, 2, 5)).astype("int32"),
        "flag": np.array([True, False, True, True]),
    }
    served = saved_model_runner.run(tmp_path / "1", inputs)["scores"]
    expected = model([tf.constant(inputs[name]) for name in ("text", *extra)])
    np.testing.assert_allclose(served, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", [(None, 3), (None, None), (4,), (4, 3), (2, 1)], ids=str)
def test_examples_of_words_and_of_fixed_batches(shape, vocabulary, tmp_path):
    """What cannot be served by batches, but exported it can be."""
    text = keras.Input(batch_shape=shape, dtype="string", name="text")
    model = keras.Model(text, keras.layers.Dense(2, name="scores")(pooled(vocabulary, text)))
    kbl.export_saved_model(model, tmp_path / "1", dtype="bfloat16", check=False)
    card = json.loads((tmp_path / "1" / "keras_bert_layers.json").read_text())
    golden = card["golden"]["serving_default"]
    example = np.array(golden["inputs"]["text"], dtype=object)
    assert all(size in (None, found) for size, found in zip(shape, example.shape, strict=True))
    loaded = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    served = loaded(text=tf.constant(example))["scores"].numpy()
    np.testing.assert_allclose(served.reshape(-1), golden["outputs"]["scores"]["values"], atol=1e-4)
    np.testing.assert_allclose(served, model(tf.constant(example)), atol=5e-2)
    records = tf.data.TFRecordDataset(str(tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"))
    assert len(list(records)) == (3 if shape[0] is None else 1)


def test_names_that_are_no_arguments(vocabulary, tmp_path, saved_model_runner: SavedModelRunner):
    names = ["my price", "my_price", "user-id", "1abc", "class", "self", "text", "größe", "_x"]
    text = keras.Input((), dtype="string", name="the text")
    numbers = [keras.Input((1,), name=name) for name in names]
    vector = keras.ops.concatenate([pooled(vocabulary, text), *numbers], axis=-1)
    outputs = {name: keras.layers.Dense(1)(vector) for name in ["my scores", "class", "1st", "a/b", "größe"]}
    model = keras.Model([text, *numbers], outputs)
    with pytest.warns(UserWarning, match="'my price' leaves the export as 'my_price', .*'class' leaves .* 'class_'"):
        kbl.export_saved_model(model, tmp_path / "1")
    expected_names = ["my_price", "my_price_", "user_id", "input_1abc", "class_", "self_", "text_", "gr__e", "input_x"]
    values = {name: np.full((4, 1), number, "float32") for number, name in enumerate(expected_names)}
    served = saved_model_runner.run(tmp_path / "1", {"text": TEXTS, **values})
    expected = model([tf.constant(TEXTS), *map(tf.constant, values.values())])
    assert served.keys() == outputs.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(served[name], value, atol=1e-5, rtol=0)


@keras.saving.register_keras_serializable(package="tests")
class Priors(keras.layers.Layer):
    """A layer that has a weight and a table."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        keys = tf.constant([0, 1], "int64")
        initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant([0.5, 2.0]))
        self.table = tf.lookup.StaticHashTable(initializer, -1.0)
        self.scale = self.add_weight(shape=(2,), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale * self.table.lookup(tf.constant([0, 1], "int64"))


def test_tables_and_saved_models_inside_layers(vocabulary, tmp_path, saved_model_runner: SavedModelRunner):
    text = keras.Input((), dtype="string", name="text")
    first = keras.Model(text, Priors()(keras.layers.Dense(2)(pooled(vocabulary, text))))
    kbl.export_saved_model(first, tmp_path / "first", check=False, warmup=False)
    inner = keras.layers.TFSMLayer(str(tmp_path / "first"), call_endpoint="serving_default")
    (scores,) = inner(text).values()
    model = keras.Model(text, Priors(name="again")(scores))
    kbl.export_saved_model(model, tmp_path / "2")
    moved = (tmp_path / "2").rename(tmp_path / "moved")
    (tmp_path / "first").rename(tmp_path / "gone")
    served = saved_model_runner.run(moved, {"text": TEXTS})["again"]
    expected = np.asarray(first(tf.constant(TEXTS))) * [0.5, 2.0]
    np.testing.assert_allclose(served, expected, atol=1e-5, rtol=0)


def normalisations(directory: pathlib.Path) -> int:
    """Operations of the form that oneDNN makes one of, which only a processor takes."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph_def = SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions = graph_def.library.function
    return sum(node.op == "FusedBatchNormV3" for function in functions for node in function.node_def)


def test_the_form_of_the_graph_is_the_targets_and_not_the_machines(vocabulary, tmp_path, monkeypatch):
    text = keras.Input((), dtype="string", name="text")
    model = keras.Model(text, pooled(vocabulary, text))
    options = {"warmup": False, "check": False}
    list_devices = tf.config.list_physical_devices

    def with_gpu(kind=None):
        return ["a GPU"] if kind == "GPU" else list_devices(kind)

    found = {}
    for machine, function in [("without", list_devices), ("with", with_gpu)]:
        monkeypatch.setattr(tf.config, "list_physical_devices", function)
        for target in ("cpu", "gpu"):
            directory = tmp_path / f"{target}-{machine}"
            kbl.export_saved_model(model, directory, target=target, batch_sizes=[1], **options)
            found[target, machine] = normalisations(directory)
    # Embeddings and two layers, in halves.
    assert found["cpu", "without"] == found["cpu", "with"] > 4
    assert found["gpu", "without"] == found["gpu", "with"] == 0


@pytest.mark.parametrize(
    ("preprocessor", "encoder", "message"),
    [
        (
            {},
            {"vocab_size": 50},
            "with {tokens} tokens of the vocabulary, and BertEncoder '.*' with 50 word embeddings",
        ),
        (
            {"sequence_length": 17, "padding": "longest"},
            {},
            "with 17 tokens in a row, and .* with 16 position embeddings",
        ),
        ({}, {"type_vocab_size": 1}, "with 2 segments, and BertEncoder '.*' with 1 segment embeddings"),
        ({}, {"vocab_size": 128}, None),
    ],
)
def test_parts_that_do_not_belong_together(preprocessor, encoder, message, vocabulary, tmp_path):
    keras.backend.clear_session()
    config = tiny(vocabulary, **encoder)
    layer = kbl.BertPreprocessor(vocabulary, **{"sequence_length": 12, **preprocessor})
    texts = tuple(keras.Input((), dtype="string", name=name) for name in "ab")
    ids = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    on_texts = keras.Model(texts, kbl.BertEncoder(config)(layer(texts))["pooled_output"])
    on_ids = keras.Model(ids, kbl.BertEncoder(config)(ids)["pooled_output"])
    for model, options in ((on_texts, {}), (on_ids, {"preprocessor": layer, "inputs": "pair"})):
        options |= {"warmup": False, "check": False, "overwrite": True}
        if message is None:
            kbl.export_saved_model(model, tmp_path / "1", **options)
            continue
        with pytest.raises(ValueError, match=message.format(tokens=len(vocabulary)) + ".*Make both of one checkpoint"):
            kbl.export_saved_model(model, tmp_path / "1", **options)
        assert list(tmp_path.iterdir()) == []
