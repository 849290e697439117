"""The table "which layer for my task", on tasks whose answer is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_bert_layers import analysis
from keras_bert_layers.analysis.probe_layers import Probe, ProbeTable, cross_validate, interval

from .made_encoder import MadeEncoder, Reference


class ParityEncoder(MadeEncoder):
    """Layer 3 alone knows whether "good" comes an odd number of times, which no sum of word vectors tells."""

    good: int

    def run(self, token_ids, mask, segment_ids, collect, scores, training):
        import tensorflow as tf

        count = tf.reduce_sum(tf.cast(token_ids == self.good, "float32"), axis=1) % 2
        parity = 4 * count[:, None, None] * np.eye(self.hidden_size, dtype="float32")[0]

        def collect_with_parity(number, states):
            return collect(number, [state + parity for state in states] if number == 3 else states)

        return super().run(token_ids, mask, segment_ids, collect_with_parity, scores, training)


@pytest.fixture
def parity_encoder(made_encoder, vocabulary):
    encoder = ParityEncoder(made_encoder.tables)
    encoder.good = vocabulary.index("good")
    return encoder


@pytest.fixture(scope="module")
def parity_texts():
    random = np.random.default_rng(2)
    words = "the film book plot actor was dull".split()
    texts = []
    for _ in range(160):
        # Nine words, so that the length says nothing.
        count = random.integers(0, 8)
        texts.append(random.permutation([*["good"] * count, *random.choice(words, 9 - count)]).tolist())
    return texts, ["odd" if text.count("good") % 2 else "even" for text in texts]


def test_names_the_one_layer_that_solves_the_task(parity_encoder, preprocessor, parity_texts):
    texts, labels = parity_texts
    sentences = [" ".join(text) for text in texts]
    table = analysis.probe_layers(parity_encoder, preprocessor, sentences, labels, "all+embeddings")
    assert int(parity_encoder.texts_seen) == len(texts)
    assert table.best.name == table.cheapest.name == "layer 3"
    others = [probe for probe in table.probes if probe.mode is None and probe.name != "layer 3"]
    assert table.best.accuracy > 0.98
    assert all(probe.accuracy < 0.75 and probe.high < table.best.low for probe in others)
    assert [probe.name for probe in table.probes][5:] == [
        "mean of layers 1 to 4",
        "mean of layers 1, 4",
        "max of layers 1 to 4",
        "concat of layers 1 to 4",
    ]
    assert (table.examples, table.unit, table.classes) == (160, "texts", 2)
    assert table.majority == max(labels.count("odd"), labels.count("even")) / 160
    frame = table.to_dataframe()
    assert frame[frame.best].name.tolist() == frame[frame.cheapest].name.tolist() == ["layer 3"]
    assert frame.features.tolist() == [12] * 8 + [48]
    lines = str(table).split("\n")
    assert lines[0].startswith("160 texts, 2 classes, the most frequent 0.")
    assert [line.split("  ")[0] for line in lines[1:]] == [probe.name for probe in table.probes]
    assert [line for line in lines if line.endswith("  best and cheapest")] == [lines[4]]
    assert f"{table.best.accuracy:.3f} ({table.best.low:.3f} to {table.best.high:.3f})" in lines[4]


def test_words(parity_encoder, preprocessor, parity_texts):
    """Each word is labelled with the parity of its text and whether it is "good"; the last words are cut off."""
    texts = [[*text, "the", "the", "the", "the"] for text in parity_texts[0]]
    labels = [
        [f"{word == 'good'} {label}" for word in text] for text, label in zip(texts, parity_texts[1], strict=True)
    ]
    table = analysis.probe_layers(parity_encoder, preprocessor, texts, labels, [1, 3], [("concat", [1, 3])])
    assert table.unit == "words"
    assert table.examples == sum(min(len(text), 10) for text in texts)
    assert table.best.name == "layer 3"
    assert table.probes[0].accuracy < 0.8 < 0.98 < table.probes[1].accuracy
    with pytest.raises(ValueError, match=r"Received: 2 labels for texts\[\d+\], which has 13"):
        analysis.probe_layers(parity_encoder, preprocessor, texts, [["a", "b"]] * len(texts))
    with pytest.raises(TypeError, match="Labels of words expect texts that are lists of words"):
        analysis.probe_layers(parity_encoder, preprocessor, [" ".join(text) for text in texts], labels)


def test_accuracy_is_that_of_scikit_learn(made_encoder, preprocessor, texts):
    labels = ["good" in text for text in texts]
    combinations = [("mean", [1, 2]), ("max", [0, 3])]
    table = analysis.probe_layers(made_encoder, preprocessor, texts, labels, [2], combinations, folds=4, seed=3)
    states = Reference(made_encoder, preprocessor, texts).states
    expected = [
        [text[2].mean(0) for text in states],
        [text[1:3].mean(0).mean(0) for text in states],
        # Layers are combined before tokens are pooled, as an encoder does it.
        [text[[0, 3]].max(0).mean(0) for text in states],
    ]
    for probe, features in zip(table.probes, expected, strict=True):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        folds = StratifiedKFold(4, shuffle=True, random_state=3)
        scores = cross_val_score(model, np.array(features), labels, cv=folds)
        assert probe.accuracy == pytest.approx(scores.mean(), abs=1e-9)
        assert probe.low < probe.accuracy < probe.high


def draw(random, count, distance, words):
    """Two classes a known distance apart; `words` examples of one text share half of their variance."""
    targets = random.integers(0, 2, count)
    texts = np.arange(count) // words
    features = random.normal(size=(count, 10))
    if words > 1:
        features = (features + random.normal(size=(texts[-1] + 1, 10))[texts]) / np.sqrt(2)
    features[:, 0] += distance * (2 * targets - 1)
    return features, targets, texts


@pytest.mark.parametrize(("count", "distance", "words"), [(60, 0.8, 1), (150, 2.0, 1), (160, 1.0, 8)])
def test_intervals_cover_a_known_accuracy(count, distance, words):
    """The expected accuracy of a probe on new texts, in at least 90 of 100 repetitions; and are not boundless."""
    random = np.random.default_rng(0)
    unseen = draw(random, 20_000, distance, 1)
    known = []
    for _ in range(100):
        features, targets, _ = draw(random, count * 4 // 5, distance, words)
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, targets)
        known.append(model.score(*unseen[:2]))
    known = np.mean(known)
    covered, widths = 0, []
    for seed in range(100):
        accuracy, low, high = cross_validate(*draw(np.random.default_rng(seed), count, distance, words), seed=seed)
        assert low <= accuracy <= high
        covered += low <= known <= high
        widths.append(high - low)
    assert covered >= 90
    assert np.mean(widths) < 3.5 * 1.96 * np.sqrt(known * (1 - known) / count)


def test_interval_of_perfect_predictions_is_not_empty():
    accuracy, low, high = interval(np.ones(100), np.arange(100), 5)
    assert (accuracy, high) == (1.0, pytest.approx(1.0))
    assert 0.8 < low < 1
    # A hundred words of ten texts say less.
    assert interval(np.ones(100), np.arange(100) // 10, 5)[1] < low


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["a"] * 8}, r"at least two different labels. Received: labels that are all \['a'\]"),
        ({"labels": ["a", "b"]}, "Expected a label for each text. Received: 2 labels for 8 texts"),
        ({"folds": 9}, "`folds` from 2 to the number of texts, 8. Received: folds=9"),
        ({"combinations": [("weighted", "all")]}, r"with a mode of concat, sum.*Received: \('weighted', 'all'\)"),
        ({"layers": [7]}, "Expected layer numbers from 0"),
    ],
)
def test_refuses(made_encoder, preprocessor, arguments, message):
    arguments = {"labels": ["a", "b"] * 4, **arguments}
    with pytest.raises(ValueError, match=message):
        analysis.probe_layers(made_encoder, preprocessor, ["film", "book"] * 4, **arguments)


def test_prints_which_is_best_and_which_is_cheapest():
    probes = [
        Probe("layer 1", [1], None, 0.6, 0.5, 0.7, 1, 8),
        Probe("layer 2", [2], None, 0.85, 0.75, 0.9, 2, 8),
        Probe("layer 3", [3], None, 0.9, 0.8, 0.95, 3, 8),
    ]
    assert str(ProbeTable(probes, 1200, "texts", 2, 0.55)).split("\n") == [
        "1,200 texts, 2 classes, the most frequent 0.550",
        "layer 1  0.600 (0.500 to 0.700)",
        "layer 2  0.850 (0.750 to 0.900)  cheapest in the interval of the best",
        "layer 3  0.900 (0.800 to 0.950)  best",
    ]
