"""The code of docs/troubleshooting.md runs, and does what the page says."""

import pathlib
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

import keras_bert_layers as kbl

from .encoders.tiny_encoders import SIZES, make_tf_model, randomize, write_tfhub_encoder

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TFHUB_NAMES = ("input_word_ids", "input_mask", "input_type_ids")


def code_below(heading: str) -> list[str]:
    """The blocks of code between a line of the page and the next heading."""
    section = re.split(r"\n#+ ", PAGE[PAGE.index(heading) + len(heading) :])[0]
    return [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)]


def run(heading: str, **names):
    names |= {"keras": keras, "kbl": kbl}
    for code in code_below(heading):
        exec(code, names)
    return names


@pytest.fixture(scope="module")
def encoder():
    encoder = kbl.BertEncoder({**SIZES, "max_position_embeddings": 40}, combine="sum")
    encoder.build()
    randomize([weight for weight in encoder.weights if "seed" not in weight.path])
    return encoder


@pytest.fixture
def ids():
    values = np.array([[2, 7, 8, 3, 0, 0], [2, 9, 3, 0, 0, 0]], "int32")
    return {"input_word_ids": values, "input_mask": (values != 0).astype("int32"), "input_type_ids": 0 * values}


def test_texts(vocabulary):
    pandas = pytest.importorskip("pandas")
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=8)
    table = pandas.DataFrame({"text": ["why", None, "how"]})
    missing, surrogate, pairs = code_below("## Texts")
    names = {"table": table, "preprocessor": preprocessor, "text": "a \ud83d", "pairs": [("a", "b"), ("c", "d")]}
    with pytest.raises(TypeError, match=r"inputs\[1\]=.*, a missing value"):
        preprocessor(table["text"])
    exec(missing, names)
    assert names["ids"]["input_word_ids"].shape == (2, 8)
    exec(missing.replace("dropna", "").split("# or: ")[1], names)
    exec(surrogate, names)
    assert names["text"] == "a ?"
    exec(pairs, names)
    expected = preprocessor((["a", "c"], ["b", "d"]))["input_word_ids"]
    np.testing.assert_array_equal(names["ids"]["input_word_ids"], expected)


@pytest.mark.parametrize("to", ["words", "first_tokens", "tokens"])
def test_the_loss_of_a_tagger(encoder, to):
    """It is the mean by hand over the labelled places, which Keras's default is not."""
    word_ids = np.array([[-1, 0, 1, 1, 2, -1], [-1, 0, -1, -1, -1, -1]], "int32")
    token_ids = np.array([[2, 7, 8, 9, 10, 3], [2, 9, 3, 0, 0, 0]], "int32")
    values = {"input_word_ids": token_ids, "input_mask": (token_ids != 0).astype("int32"), "word_ids": word_ids}
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in values}
    states = encoder(inputs)["encoder_outputs"]
    if to == "words":
        states = kbl.WordPooling("first")(states, inputs["word_ids"])["word_outputs"]
    model = keras.Model(inputs, keras.layers.Dense(5)(states))
    run("### The loss of a tagger is too small", model=model)
    aligned, weights = (value.numpy() for value in kbl.align_labels([[3, -100, 1], [4]], word_ids, to))
    scores = model.predict(values, verbose=0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(aligned, scores).numpy()
    expected = losses[weights > 0].mean()

    def loss(weights):
        return model.evaluate(values, aligned, sample_weight=weights, verbose=0, return_dict=True)["loss"]

    assert abs(loss(weights) - expected) < 1e-5
    # Nothing in the batch has a label.
    assert loss(0 * weights) == 0
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert loss(weights) < 0.9 * expected


def test_a_key_without_an_input(encoder, ids):
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
    model = keras.Model(inputs, encoder(inputs)["pooled_output"])
    ids["a"] = np.zeros((2, 6, 2), "int32")
    with pytest.warns(UserWarning, match="The structure of `inputs`"), pytest.raises(ValueError, match="Invalid input"):
        model(ids)
    assert model(run('### "Invalid input shape', ids=ids, model=model)["ids"]).shape == (2, 16)


@pytest.mark.filterwarnings("ignore:Layer 'global_max_pooling1d.*does not support masking:UserWarning")
def test_a_maximum_over_tokens(encoder, ids):
    features = encoder(ids)
    vectors = run("### A text has another vector", features=features)["vectors"]
    states = features["encoder_outputs"].numpy()
    expected = [row[mask].max(axis=0) for row, mask in zip(states, features["mask"].numpy(), strict=True)]
    np.testing.assert_array_equal(vectors, expected)
    assert np.abs(keras.layers.GlobalMaxPooling1D()(features["encoder_outputs"]) - expected).max() > 0.1


@pytest.mark.parametrize("kind", ["bert", "huggingface"])
def test_weight_decay(kind, encoder):
    if kind == "huggingface":
        encoder = kbl.HuggingFaceEncoder(make_tf_model(), combine="sum")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
    model = keras.Model(inputs, encoder(inputs)["pooled_output"])
    variables = model.trainable_variables
    optimizer = run("### LayerNorm is decayed", model=model)["optimizer"]
    before = [variable.numpy() for variable in variables]
    optimizer.learning_rate = 1.0
    optimizer.apply([tf.zeros(variable.shape) for variable in variables], variables)
    decayed = []
    for variable, value in zip(variables, before, strict=True):
        if not np.array_equal(variable.numpy(), value):
            decayed.append(variable)
        variable.assign(value)
    # BERT's layer normalisations and biases are its vectors, and its kernels and embeddings have two axes or more.
    assert {variable.path for variable in decayed} == {v.path for v in variables if len(v.shape) > 1}
    assert len(decayed) > 10


def test_time_distributed(encoder):
    names = run('### "NotImplementedError" from `TimeDistributed', encoder=encoder)
    token_ids = np.zeros((2, 8, 32), "int32")
    token_ids[:, :, :3] = np.random.default_rng(0).integers(1, 30, (2, 8, 3))
    vectors = keras.Model(names["sentences"], names["vectors"])(token_ids)
    for row in range(2):
        features = encoder({"input_word_ids": token_ids[row, :, :3]})
        expected = features["encoder_outputs"].numpy().mean(axis=1)
        np.testing.assert_allclose(vectors[row], expected, atol=1e-5)


def test_three_segments(encoder, ids):
    ids["input_type_ids"] = np.array([[0, 0, 1, 2, 0, 0]] * 2, "int32")
    ids = run('### "Index out of range"', ids=ids)["ids"]
    assert np.all(np.isfinite(encoder(ids)["pooled_output"]))


def code_of(words: str) -> str:
    """The first block of code behind some words of the page."""
    return textwrap.dedent(re.findall(r"```python\n(.*?)```", PAGE[PAGE.index(words) :], re.DOTALL)[0])


def test_an_id_outside_its_table(encoder, ids):
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
    model = keras.Model(inputs, encoder(inputs)["pooled_output"])
    ids["input_word_ids"][1, 1] = 500
    model.compile("sgd", "mse", jit_compile=True)
    assert np.isnan(model.predict(ids, verbose=0)).any()
    exec(code_of("and without XLA there is an error"), {"model": model})
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected input_word_ids from 0 to 30\.(.|\n)*500"):
        model.predict(ids, verbose=0)
    ids["input_mask"][1, 1] = 0
    assert np.isfinite(model.predict(ids, verbose=0)).all()


def test_files_and_labels(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}", "utf-8-sig")
    exec(code_of("a byte order mark at its beginning"), {"path": path})
    assert path.read_bytes() == b"{}"
    names = {"numpy": np, "labels": [1.0, 4.5]}
    exec(code_of("Expected `labels` to be classes"), names)
    assert names["labels"].tolist() == [0, 1]


def test_wrapped_models_of_the_legacy_keras(tmp_path):
    """Keras 3 refuses them with the words of the page, and takes them wrapped."""
    hub = pytest.importorskip("tensorflow_hub")
    tf_model, directory = make_tf_model(), write_tfhub_encoder(tmp_path / "hub", num_layers=1)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
    with pytest.raises(ValueError, match="KerasTensor'> is not allowed"):
        tf_model(inputs["input_word_ids"])
    layer = hub.KerasLayer(str(directory))
    with pytest.raises(ValueError, match=r"Only instances of `keras.Layer` can be added to a Sequential model"):
        keras.Sequential([layer])
    with pytest.raises(ValueError, match="A KerasTensor is symbolic"):
        layer(inputs)
    for words in ("Wrap it; what it learned", "`hub.KerasLayer` is one too"):
        names = {"kbl": kbl, "tf_model": tf_model, "handle": directory}
        exec(code_of(words), names)
        assert names["encoder"](inputs)["encoder_outputs"].shape == (None, None, 16)


def test_the_operations_of_tf_text_are_there():
    for name in ("CaseFoldUTF8", "FastWordpieceTokenizeWithOffsets"):
        assert f"'{name}'" in PAGE
        assert op_def_registry.get(name) is not None


def test_texts_for_a_model(vocabulary, tmp_path):
    text = keras.Input((), dtype="string", name="text")
    states = kbl.BertPreprocessor(vocabulary, sequence_length=8)(text)["input_word_ids"]
    scores = keras.layers.Dense(2, name="scores")(keras.ops.cast(states, "float32"))
    model, texts = keras.Model(text, scores), ["a film", "why"]
    with pytest.raises(ValueError, match="Invalid dtype: str"):
        model.predict(np.array(texts), verbose=0)
    with pytest.raises(ValueError, match=r"Unrecognized data type: x=\['"):
        model.predict(texts, verbose=0)
    names = {"tf": tf, "kbl": kbl, "model": model, "texts": texts, "directory": tmp_path / "1"}
    exec(code_of("Keras takes no arrays of NumPy's str"), names)
    assert names["scores"].shape == (2, 2)
    small = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="scores")])
    small.export(tmp_path / "keras", verbose=False)
    exec(code_of("The served output is called `output_0`"), names)
    for directory, output in (("keras", "output_0"), ("1", "scores")):
        signature = tf.saved_model.load(tmp_path / directory).signatures["serving_default"]
        assert list(signature.structured_outputs) == [output]
