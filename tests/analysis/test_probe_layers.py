"""The table "which layer for my task", on tasks whose answer is known."""

import types

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_bert_layers import analysis
from keras_bert_layers.analysis.probe_layers import Probe, ProbeTable, compare, cross_validate, interval

from .made_encoder import MadeEncoder, Reference


class ParityEncoder(MadeEncoder):
    """Layer 3 alone knows whether "good" comes an odd number of times, which no sum of word vectors tells."""

    good: int

    def run(self, token_ids, mask, segment_ids, collector, training):
        import tensorflow as tf

        count = tf.reduce_sum(tf.cast(token_ids == self.good, "float32"), axis=1) % 2
        parity = 4 * count[:, None, None] * np.eye(self.hidden_size, dtype="float32")[0]
        collected = collector.start()

        def take(number, states, scores=None):
            return collected.take(number, states + parity if number == 3 else states, scores)

        with_parity = types.SimpleNamespace(take=take, result=collected.result)
        given = types.SimpleNamespace(start=lambda: with_parity, keep_scores=collector.keep_scores)
        return super().run(token_ids, mask, segment_ids, given, training)


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
    with pytest.raises(TypeError, match="several labels can hold of one text, ask for one of them at a time"):
        analysis.probe_layers(parity_encoder, preprocessor, [" ".join(text) for text in texts], labels)
    with pytest.raises(TypeError, match=r"Received: labels\[1\]\[2\]=None, which is missing"):
        analysis.probe_layers(parity_encoder, preprocessor, texts, [labels[0], [*labels[1][:2], None], *labels[2:]])


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
    """The expected accuracy of a probe on new texts, in at least 45 of 50 repetitions; and are not boundless."""
    random = np.random.default_rng(0)
    unseen = draw(random, 20_000, distance, 1)
    known = []
    for _ in range(50):
        features, targets, _ = draw(random, count * 4 // 5, distance, words)
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, targets)
        known.append(model.score(*unseen[:2]))
    known = np.mean(known)
    covered, widths = 0, []
    for seed in range(50):
        features, targets, of_texts = draw(np.random.default_rng(seed), count, distance, words)
        right = cross_validate(features, targets, of_texts, seed=seed)
        accuracy, low, high = interval(right, of_texts, 5)
        assert low <= accuracy <= high
        covered += low <= known <= high
        widths.append(high - low)
    assert covered >= 45
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
        ({"combinations": "mean"}, r"`combinations` to be a list of pairs \(mode, layers\).*Received: 'mean'"),
        ({"combinations": 5}, r"`combinations` to be a list of pairs \(mode, layers\).*Received: 5"),
        ({"seed": "x"}, "Expected `seed` to be an int from 0.*Received: seed='x'"),
        (
            {"labels": ["a"] * 3 + ["b"] * 3 + ["c"] * 2},
            "2 to the number of the most frequent label, 3. Received: folds=5",
        ),
        ({"labels": "abababab"}, "Received: labels of type str"),
        ({"labels": ["a", None] * 4}, r"Received: labels\[1\]=None, which is missing"),
        ({"labels": [0.2, 3.8] * 4}, r"`labels` to be classes.*Received: labels\[0\]=0.2, a float.*numpy.digitize"),
        ({"labels": np.array([0.2, np.nan] * 4)}, r"Received: labels\[0\]=0.2, a float"),
        (
            {"labels": [[0, 1]] * 7 + [[0, 0]]},
            r"several, for a text that is not split into words.*\[row\[0\] for row in",
        ),
        ({"labels": np.eye(8, 3, dtype=int)}, r"several, for a text that is not split into words"),
    ],
)
def test_refuses(made_encoder, preprocessor, arguments, message):
    arguments = {"labels": ["a", "b"] * 4, **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        analysis.probe_layers(made_encoder, preprocessor, ["film", "book"] * 4, **arguments)


def test_what_the_messages_on_labels_advise(made_encoder, preprocessor, texts):
    """Scores that are cut into classes, classes that stand there as floats, one of several labels at a time."""
    scores = np.random.default_rng(0).uniform(0, 5, len(texts))
    several = [[int("good" in text), int("film" in text)] for text in texts]
    for labels in (
        np.digitize(scores, [2.5]),
        np.asarray([float(row[0]) for row in several]).astype(int),
        [row[0] for row in several],
        [row[1] for row in several],
    ):
        table = analysis.probe_layers(made_encoder, preprocessor, texts, labels, [1], [], folds=2)
        assert (table.classes, table.examples) == (2, len(texts))
    pairs = analysis.probe_layers(made_encoder, preprocessor, (texts, texts), labels, [1], [], folds=2)
    assert pairs.examples == len(texts)


@pytest.mark.filterwarnings("ignore:The least populated class in y:UserWarning")
def test_a_label_that_only_one_text_has(made_encoder, preprocessor):
    """Where it is in the test part, nothing but the other label can be learned."""
    table = analysis.probe_layers(made_encoder, preprocessor, ["film"] * 7 + ["book"], [0] * 7 + [1], [1], [], folds=4)
    assert table.probes[0].accuracy == 7 / 8


class TestCompare:
    """The best probe against another, on the same texts."""

    @pytest.mark.parametrize(("ahead", "behind", "both"), [(20, 7, 90), (25, 12, 83), (3, 0, 0), (0, 0, 40), (5, 5, 9)])
    def test_one_label_for_each_text_is_mcnemars_exact_test(self, ahead, behind, both):
        best = np.array([1] * ahead + [0] * behind + [1] * both, dtype=float)
        other = np.array([0] * ahead + [1] * behind + [1] * both, dtype=float)
        p_value = compare(best, other, np.arange(len(best)))
        expected = binomtest(ahead, ahead + behind, alternative="greater").pvalue if ahead + behind else 1.0
        assert p_value == pytest.approx(expected, abs=1e-12)

    def test_words_of_one_text_count_together(self):
        random = np.random.default_rng(0)
        groups = np.sort(random.integers(0, 14, 120))
        groups = np.unique(groups, return_inverse=True)[1]
        best, other = random.integers(0, 2, (2, 120)).astype(float)
        differences = np.bincount(groups, best - other)

        def total(values, axis):
            return np.sum(values, axis=axis)

        expected = permutation_test(
            (differences,),
            total,
            permutation_type="samples",
            alternative="greater",
            n_resamples=np.inf,
            vectorized=True,
        )
        assert compare(best, other, groups) == pytest.approx(expected.pvalue, abs=1e-12)

    def test_cheapest_is_not_significantly_below_the_best(self):
        """Layer 2 is in the wide interval of the best, and yet behind it in 20 texts and ahead in 7."""
        p_value = compare(*np.array([[1.0] * 20 + [0] * 7 + [1] * 93, [0] * 20 + [1] * 100]), np.arange(120))
        probes = [
            Probe("layer 2", [2], None, 0.767, 0.6, 0.85, 2, 8, p_value),
            Probe("layer 3", [3], None, 0.85, 0.75, 0.9, 3, 8, 0.3),
            Probe("layer 4", [4], None, 0.875, 0.75, 0.93, 4, 8, 1.0),
        ]
        table = ProbeTable(probes, 120, "texts", 2, 0.55)
        assert (table.best.name, table.cheapest.name) == ("layer 4", "layer 3")

    def test_table_holds_the_comparison_of_its_own_predictions(self, made_encoder, preprocessor, texts):
        labels = ["good" in text for text in texts]
        table = analysis.probe_layers(made_encoder, preprocessor, texts, labels, [1, 2, 3], [], folds=4, seed=3)
        means = [Reference(made_encoder, preprocessor, texts).means(layer) for layer in (1, 2, 3)]
        right = []
        for features in means:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            folds = StratifiedKFold(4, shuffle=True, random_state=3)
            right.append(cross_val_predict(model, features, labels, cv=folds) == labels)
        best = right[[probe.name for probe in table.probes].index(table.best.name)]
        for probe, one in zip(table.probes, right, strict=True):
            ahead, behind = int(np.sum(best & ~one)), int(np.sum(one & ~best))
            expected = binomtest(ahead, ahead + behind, alternative="greater").pvalue if ahead + behind else 1.0
            assert probe.p_value == pytest.approx(expected, abs=1e-9)
        assert table.best.p_value == 1.0


def test_prints_which_is_best_and_which_is_cheapest():
    probes = [
        Probe("layer 1", [1], None, 0.6, 0.5, 0.7, 1, 8, 0.0001),
        Probe("layer 2", [2], None, 0.85, 0.75, 0.9, 2, 8, 0.05),
        Probe("layer 3", [3], None, 0.9, 0.8, 0.95, 3, 8, 1.0),
    ]
    assert str(ProbeTable(probes, 1200, "texts", 2, 0.55)).split("\n") == [
        "1,200 texts, 2 classes, the most frequent 0.550",
        "layer 1  0.600 (0.500 to 0.700)  p 0.000",
        "layer 2  0.850 (0.750 to 0.900)  p 0.050  cheapest that is not significantly below the best",
        "layer 3  0.900 (0.800 to 0.950)  p 1.000  best",
    ]
