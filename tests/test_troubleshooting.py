"""The code of docs/troubleshooting.md runs, and does what the page says."""

import pathlib
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from .encoders.tiny_encoders import SIZES, make_tf_model, randomize

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
