"""Texts in any form go through the encoder once each, in memory that does not grow."""

import numpy as np
import pandas
import pytest
import tensorflow as tf

from keras_bert_layers import BertPreprocessor, TFHubPreprocessor, analysis
from keras_bert_layers.analysis.batches import TOKENS_PER_BATCH, run_batches
from keras_bert_layers.analysis.encoder_run import Wanted

from ..encoders.tiny_encoders import KINDS
from ..fresh_process import run_in_fresh_process
from ..tfhub_factory import make_tfhub_preprocessor
from .made_encoder import Reference


def batches_of(encoder, preprocessor, texts, **wanted):
    return list(run_batches(encoder, preprocessor, texts, [1], Wanted(tokens=True, **wanted)))


class TestBatches:
    def test_every_text_comes_once_with_its_states_and_little_padding(self, made_encoder, preprocessor, texts):
        many = texts * 8
        batches = batches_of(made_encoder, preprocessor, (text for text in many))
        assert int(made_encoder.texts_seen) == len(many)
        numbers = np.concatenate([batch.numbers for batch in batches])
        assert sorted(numbers) == list(range(len(many)))
        assert [text for batch in batches for text in batch.texts] == [many[number] for number in numbers]
        assert sum(batch.ends_window for batch in batches) == -(-len(many) // 1024)
        assert all(batch.mask.size <= TOKENS_PER_BATCH for batch in batches)
        real, padded = (sum(values) for values in zip(*((b.mask.sum(), b.mask.size) for b in batches), strict=True))
        # In the preprocessor's rows, all of 12 tokens, 72 % are real.
        assert real / padded > 0.85
        reference = Reference(made_encoder, preprocessor, texts)
        for batch in batches:
            expected = np.concatenate([reference.states[number % len(texts)][1] for number in batch.numbers])
            np.testing.assert_allclose(batch.states.tokens[0], expected, atol=1e-5)

    def test_special_tokens(self, made_encoder, preprocessor):
        pairs = (["good film", "", "film", ""], ["bad", "plot", "", ""])
        (batch,) = batches_of(made_encoder, preprocessor, pairs)
        rows = {
            int(number): row[mask] for number, row, mask in zip(batch.numbers, batch.special, batch.mask, strict=True)
        }
        assert rows[0].astype(int).tolist() == [1, 0, 0, 1, 0, 1]
        assert rows[1].astype(int).tolist() == [1, 1, 0, 1]
        assert rows[2].astype(int).tolist() == [1, 0, 1, 1]
        assert rows[3].astype(int).tolist() == [1, 1, 1]

    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda texts: iter(texts), None),
            (lambda texts: pandas.Series(texts, index=[7, 7, 9]), None),
            (lambda texts: np.array(texts), None),
            (lambda texts: np.array([text.encode() for text in texts], dtype=object), None),
            (lambda texts: tf.constant(texts), None),
            (lambda texts: tf.data.Dataset.from_tensor_slices(texts), None),
            (lambda texts: tf.data.Dataset.from_tensor_slices(texts).batch(2), None),
            (lambda texts: texts[0], 1),
            (lambda texts: [text.split() for text in texts], None),
            (lambda texts: pandas.Series([np.array(text.split()) for text in texts]), None),
            (lambda texts: (texts,), None),
        ],
        ids=[
            "iterator",
            "column",
            "numpy",
            "bytes",
            "tensor",
            "dataset",
            "batched dataset",
            "one str",
            "words",
            "column of words",
            "one segment",
        ],
    )
    def test_texts_in_any_form(self, made_encoder, preprocessor, make, expected):
        texts = ["good film", "a", "bad plot and dull book"]
        embeddings = analysis.extract_embeddings(made_encoder, preprocessor, make(texts))
        assert [tokens[1:-1] for tokens in embeddings.tokens] == [text.split() for text in texts[:expected]]

    def test_pairs(self, made_encoder, preprocessor):
        firsts, seconds = ["good", "bad"], ["film", "plot"]
        dataset = tf.data.Dataset.from_tensor_slices((firsts, seconds))
        columns = (pandas.Series(firsts), np.array(seconds))
        streams = (iter(firsts), iter(seconds))
        of_words = ([["good"], ["bad"]], [["film"], ["plot"]])
        for pairs in ((firsts, seconds), columns, streams, of_words, dataset, dataset.batch(2)):
            tokens = analysis.extract_embeddings(made_encoder, preprocessor, pairs).tokens
            assert tokens == ["[CLS] good [SEP] film [SEP]".split(), "[CLS] bad [SEP] plot [SEP]".split()]

    @pytest.mark.parametrize(
        ("texts", "error", "message"),
        [
            ([], ValueError, "Expected at least one text. Received: texts without any."),
            ([("b", "c")], TypeError, r"Received: the tuple texts\[0\]. To turn pairs into columns: tuple\(map\(list"),
            (
                ["a", ["b", "c"]],
                TypeError,
                r"of one kind.*Received: texts\[1\], which is not of the kind of texts\[0\]",
            ),
            (["a", 3], TypeError, r"Received: texts\[1\] of type int"),
            (iter(["a", 3]), TypeError, r"Received: texts\[1\] of type int"),
            (["a", None], TypeError, r"Received: texts\[1\]=None, a missing value"),
            (["a", float("nan")], TypeError, r"Received: texts\[1\]=nan, a missing value"),
            ((["a"], [None]), TypeError, r"Received: texts\[1\]\[0\]=None, a missing value"),
            ([["a", None]], TypeError, r"Received: texts\[0\]\[1\]=None, a missing value"),
            (pandas.Series(["a", None]), TypeError, r"Received: texts\[1\]=\w+, a missing value"),
            (pandas.DataFrame({"text": ["a"]}), TypeError, r"expects one column of texts.*Choose the column"),
            (np.array("a"), ValueError, r"Received: texts.shape=\(\)"),
            (tf.constant("a"), TypeError, "Received: texts of type EagerTensor"),
            ({"a": "b"}, TypeError, "Received: texts of type dict"),
            ({"a"}, TypeError, "Received: texts of type set"),
            (7, TypeError, "Received: texts of type int"),
            (
                (["a", "b"], ["c"]),
                ValueError,
                "as many second texts as first ones. Received: a tuple with 1 and 2 texts",
            ),
            ((iter("ab"), iter("c")), ValueError, "Received: a tuple with 1 and more texts"),
            (tf.data.Dataset.from_tensor_slices((["a"], [1])), TypeError, "Leave labels out with dataset.map"),
        ],
    )
    def test_refuses_other_texts(self, made_encoder, preprocessor, texts, error, message):
        with pytest.raises(error, match=message):
            batches_of(made_encoder, preprocessor, texts)

    def test_refuses_other_preprocessors(self, made_encoder):
        with pytest.raises(TypeError, match="Received: preprocessor of type function"):
            batches_of(made_encoder, lambda text: text, ["a"])


@pytest.mark.parametrize(
    ("kind", "pairs"), [("bert", False), *((kind, True) for kind in KINDS)], ids=lambda value: str(value)
)
def test_every_function_on_every_encoder(encoder_factory, kind, pairs, tmp_path):
    """Empty strings and documents over the model's length among the texts; 24 positions, 3 layers of 16."""
    encoder = encoder_factory(kind)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    preprocessor = BertPreprocessor(vocabulary, sequence_length=24)
    texts = ["a b c", "", "d e f g a", " ".join("abcdefghij" * 6), "b", "a a", "c d e f", "x y z a b c"] * 2
    labels = ["first", "second"] * 8
    texts = (texts, texts[3:] + texts[:3]) if pairs else texts
    layers = [0, 1, 3] if encoder.has_embeddings else [1, 2, 3]

    embeddings = analysis.extract_embeddings(encoder, preprocessor, texts, layers)
    ids = preprocessor(texts)
    expected = [state.numpy() for state in encoder.hidden_states(ids, layers)]
    for row, (vectors, tokens) in enumerate(zip(embeddings.vectors, embeddings.tokens, strict=True)):
        length = int(ids["input_mask"][row].numpy().sum())
        assert len(tokens) == length <= 24
        for states, layer in zip(vectors, expected, strict=True):
            np.testing.assert_allclose(states, layer[row, :length], atol=1e-5)
    assert max(map(len, embeddings.tokens)) == 24

    names = ["layer_differences", "layer_similarity", "contextuality", *(["attention"] if kind != "tfhub" else [])]
    for name, result in analysis.analyze(encoder, preprocessor, texts, names, layers).items():
        arrays = [value for value in vars(result).values() if isinstance(value, np.ndarray)]
        assert arrays, name
        assert all(np.isfinite(array).all() for array in arrays), name
        assert len(result.to_dataframe()) > 0
    probes = analysis.probe_layers(encoder, preprocessor, texts, labels, layers, folds=2)
    assert [probe.layers for probe in probes.probes[:3]] == [[layer] for layer in layers]
    assert analysis.project(encoder, preprocessor, texts, labels, layers).points.shape == (3, 16, 2)
    queries = (texts[0][:2], texts[1][:2]) if pairs else texts[:2]
    nearest = analysis.neighbours(encoder, preprocessor, texts, queries, 3, layers)
    assert all(one[0].cosine > 0.9999 for by_query in nearest.found for one in by_query)
    analysis.write_projector(encoder, preprocessor, texts, tmp_path / "projector", labels, layers)
    assert sorted(path.name for path in (tmp_path / "projector").iterdir()) == [f"layer_{n:02d}" for n in layers]
    if not encoder.has_embeddings:
        with pytest.raises(ValueError, match="does not return layer 0"):
            analysis.contextuality(encoder, preprocessor, texts, "all+embeddings")


def test_tfhub_preprocessor(encoder_factory, tmp_path):
    """It says neither offsets nor words, and its vocabulary is in its graph."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    directory = make_tfhub_preprocessor(tmp_path / "preprocessor", vocabulary)
    tfhub = TFHubPreprocessor(directory, sequence_length=16)
    encoder = encoder_factory("tfhub")
    one = analysis.extract_embeddings(encoder, tfhub, ["a b", ""])
    other = analysis.extract_embeddings(encoder, BertPreprocessor(vocabulary, sequence_length=16), ["a b", ""])
    for first, second in zip(one.vectors, other.vectors, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    assert one.tokens == [["2", "5", "6", "3"], ["2", "3"]]
    assert one.offsets is None
    with pytest.raises(TypeError, match="Expected a BertPreprocessor: only that says which word"):
        analysis.neighbours(encoder, tfhub, ["a b"], [("a", "a")], pooling=None)


def test_documents_longer_than_the_encoder_are_refused(encoder_factory):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    preprocessor = BertPreprocessor(vocabulary, sequence_length=64, long_documents=True)
    with pytest.raises(ValueError, match="positions for 24 tokens. Received: a sequence of 52"):
        analysis.contextuality(encoder_factory("bert"), preprocessor, [" ".join("abcde" * 10)])


_MEMORY = """
import json, resource, sys
import numpy as np
import keras_bert_layers as kbl

words = [f"word{number}" for number in range(5000)]
preprocessor = kbl.BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words], sequence_length=64)
config = kbl.BertConfig(vocab_size=5004, hidden_size=128, num_hidden_layers=4, num_attention_heads=2,
                        intermediate_size=256)
encoder = kbl.BertEncoder(config)

def texts(count):
    random = np.random.default_rng(0)
    for _ in range(count):
        yield " ".join(words[number] for number in random.zipf(1.3, random.integers(0, 40)) % 5000)

peaks = []
for count in (1000, int(sys.argv[1])):
    kbl.analysis.analyze(encoder, preprocessor, texts(count),
        ["layer_differences", "layer_similarity", "contextuality", "attention"], "all+embeddings")
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path):
    """The peak of 50,000 texts is within 300 MB of that of 1,000."""
    printed = run_in_fresh_process(_MEMORY, "50000", cwd=tmp_path).stdout
    few, many = map(float, printed.strip("[]\n ").split(","))
    assert many - few < 300, f"{few:.0f} MB for 1,000 texts, {many:.0f} MB for 50,000"
