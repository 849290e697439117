"""What no function of the analysis can take is refused by all of them, before the encoder runs."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import BertPreprocessor, analysis

from .made_encoder import MadeEncoder

TEXTS = ["good film", "bad plot was", "a dull book", "the actor"]
WORDS = [text.split() for text in TEXTS]


@pytest.fixture(scope="module")
def encoder(vocabulary):
    return MadeEncoder(np.random.default_rng(0).normal(size=(3, len(vocabulary), 4)))


@pytest.fixture(scope="module")
def call(encoder, preprocessor, tmp_path_factory):
    """Calls any function by its name, with texts or labels that may be wrong."""

    def call(name, texts=TEXTS, labels=("x", "y", "x", "y"), **arguments):
        first = {
            # Its queries run first.
            "neighbours": [TEXTS, texts],
            "probe_layers": [texts, labels],
            "project": [texts, labels],
            "write_projector": [texts, tmp_path_factory.mktemp("projector") / "new", labels],
        }.get(name, [texts])
        return getattr(analysis, name)(encoder, preprocessor, *first, **arguments)

    return call


@pytest.fixture(autouse=True)
def nothing_ran(encoder):
    before = int(encoder.texts_seen)
    yield
    assert int(encoder.texts_seen) == before


@pytest.mark.parametrize(
    "name",
    [
        "analyze",
        "attention",
        "attention_map",
        "contextuality",
        "extract_embeddings",
        "layer_differences",
        "layer_similarity",
        "neighbours",
        "probe_layers",
        "project",
        "write_projector",
    ],
)
def test_texts(call, name):
    wrong = {
        "NoneType": None,
        "float": float("nan"),
        "type": str,
        r"ndarray|shape=\(\)": np.array("film"),
        "EagerTensor": tf.constant("film"),
        "dict": {"input_word_ids": np.array([[2, 5, 3]])},
        r"\w+\[0\]\[0\] of type int": [[2, 5, 3]],
        r"without any|0 texts|queries=\[\]": [],
        r"\w+\[0\]=None, a missing value": [None],
    }
    labels = None
    if name == "probe_layers":
        # Where there are texts it counts the labels first.
        labels, wrong = [*"xyxy"] * 2, {"NoneType": None, "float": float("nan"), r"texts\[0\]=None": [None] * 8}
    for message, texts in wrong.items():
        with pytest.raises((TypeError, ValueError), match=f"Received: .*({message})"):
            call(name, texts, labels)


@pytest.mark.parametrize("name", ["probe_layers", "project", "write_projector", "plot"])
def test_labels(call, name):
    embeddings = analysis.Embeddings([1], None, "mean", np.zeros((4, 1, 2)), [[]] * 4, None)
    for labels, message in (
        (tf.constant("x"), "Expected `labels` to be a list of str or of int.*Received: labels of type EagerTensor"),
        (np.array("x"), "Received: labels of type ndarray"),
        (["x"], "Expected a label for each text. Received: 1 labels for 4 texts"),
        (["x"] * 9, "Received: 9 labels for 4 texts"),
        ([0.0, 1.0, 0.0, 1.0], r"Expected `labels` to be classes.*Received: labels\[0\]=0.0, a float"),
        (["x", float("nan"), "x", "y"], r"Received: labels\[1\]=nan, which is missing"),
        (["x", "y", ["x", "y"], "x"], r"Received: labels\[2\]=\['x', 'y'\], which is several"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            embeddings.plot(labels) if name == "plot" else call(name, labels=labels)


@pytest.mark.parametrize("name", ["probe_layers", "project", "write_projector"])
def test_a_table_of_labels(call, name):
    """Which is no list of the names of its columns."""
    pandas = pytest.importorskip("pandas", reason="needs a table of pandas")
    for table in (pandas.DataFrame({"label": list("xyxy")}), pandas.DataFrame(np.eye(4, dtype=int))):
        with pytest.raises(TypeError, match=r"one column of labels.*of type DataFrame with shape \(4, \d\). Choose"):
            call(name, labels=table)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "Expected `labels` to be a list of str or of int, one for each text. Received: labels of type NoneType"),
        ([["x", "y"], None, ["x"] * 3, ["x"] * 2], r"one for each word. Received: labels\[1\] of type NoneType"),
        ([["x", "y"], [1, 2, 1], ["x"] * 3, ["x"] * 2], r"all str or all int. Received: labels\[2\]=1"),
        ([[], [], [], []], r"at least two different labels. Received: labels that are all \[\]"),
    ],
)
def test_labels_of_words(call, labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call("probe_layers", WORDS, labels, folds=2)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("layer_differences", {"return_vectors": "no"}, "`return_vectors` to be True or False. Received: .*='no'"),
        ("extract_embeddings", {"directory": "new", "overwrite": "no"}, "`overwrite` to be True or False"),
        ("project", {"pooling": np.array(["mean"])}, "Expected `pooling` to be one of cls"),
        ("analyze", {"measures": ["attention"], "layers": 0}, r"no attention scores. Received: layers=\[0\]"),
    ],
)
def test_options(call, name, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(name, **arguments)


def test_ids_that_the_encoder_has_no_embeddings_for(call, encoder, vocabulary, monkeypatch):
    monkeypatch.setattr(encoder, "type_vocab_size", 2)
    with (
        pytest.warns(UserWarning, match="3 segments"),
        pytest.raises(ValueError, match="most 2 segments.*of 3 segments"),
    ):
        call("extract_embeddings", (["a"], ["b"], ["film"]))
    monkeypatch.setattr(encoder, "vocab_size", len(vocabulary))
    other = BertPreprocessor([*vocabulary, "zebra"], sequence_length=8)
    with pytest.raises(ValueError, match=rf"ids below {len(vocabulary)}.*Received: the id {len(vocabulary)}. BertPre"):
        analysis.contextuality(encoder, other, ["a zebra"])


@pytest.mark.parametrize("arguments", [{"head": 1}, {"layer": 1, "head": "x"}, {"layer": 1, "head": 1.0}])
def test_heads(arguments):
    result = analysis.AttentionMap([1], ["a"], np.ones((1, 2, 1, 1)))
    with pytest.raises(ValueError, match=r"Expected `layer` to be one of \[1\] and `head` from 1 to 2. Received: "):
        result.plot(**arguments)
