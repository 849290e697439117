"""Each measure against NumPy, written from the paper's formula, and on encoders whose answer is known."""

import itertools

import keras
import numpy as np
import pytest

from keras_bert_layers import BertPreprocessor, SequencePooling, TFHubEncoder, WindowedEncoder, analysis
from keras_bert_layers.analysis.analyze import MEASURES
from keras_bert_layers.analysis.batches import run_batches
from keras_bert_layers.analysis.contextuality import ContextualityMeasure
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.layer_similarity import LayerSimilarityMeasure

from .made_encoder import MadeEncoder, Reference

ALL = "all+embeddings"
LETTERS = BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], sequence_length=24)


def assert_close(actual, expected, atol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def cosine(one, other):
    return np.sum(one * other, -1) / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1))


class TestLayerDifferences:
    def test_equal_numpy(self, made_encoder, preprocessor, texts):
        result = analysis.layer_differences(made_encoder, preprocessor, texts, layers=[0, 3, 1, 4])
        reference = Reference(made_encoder, preprocessor, texts)
        assert result.layers == [0, 3, 1, 4]
        assert result.texts == len(texts)
        assert result.tokens == sum(map(len, reference.ids))
        for (i, one), (j, other) in itertools.product(enumerate(result.layers), repeat=2):
            for level, get in (("token", reference.tokens), ("sentence", reference.means)):
                first, second = get(one), get(other)
                norm = np.linalg.norm(first - second, axis=1).mean()
                assert_close(getattr(result, f"{level}_norm")[i, j], norm)
                assert_close(getattr(result, f"{level}_cosine")[i, j], cosine(first, second).mean())

    def test_vectors(self, made_encoder, preprocessor, texts):
        result = analysis.layer_differences(made_encoder, preprocessor, texts, ALL, return_vectors=True)
        reference = Reference(made_encoder, preprocessor, texts)
        for vectors, states in zip(result.vectors, reference.states, strict=True):
            assert_close(vectors, states[1:] - states[:-1])
        assert_close(result.sentence_vectors[:, 1], reference.means(2) - reference.means(1))
        assert analysis.layer_differences(made_encoder, preprocessor, texts[:2]).vectors is None

    def test_layers_that_differ_by_known_vectors(self, made_encoder, preprocessor, texts):
        """Layer k is layer 0 plus k times one vector of length 5; layers 0 and 1 of another encoder are the same."""
        step = np.zeros(12)
        step[:2] = 3, 4
        tables = np.stack([made_encoder.tables[0] + number * step for number in range(5)])
        result = analysis.layer_differences(MadeEncoder(tables), preprocessor, texts, ALL, return_vectors=True)
        numbers = np.arange(5)
        expected = 5 * np.abs(numbers[:, None] - numbers)
        assert_close(result.token_norm, expected)
        assert_close(result.sentence_norm, expected)
        assert_close(result.vectors[3], np.broadcast_to(step, result.vectors[3].shape))
        same = MadeEncoder(np.stack([tables[0]] * 3))
        result = analysis.layer_differences(same, preprocessor, texts, ALL)
        assert not result.token_norm.any()
        assert not result.sentence_norm.any()
        assert_close(result.token_cosine, 1)
        assert_close(result.sentence_cosine, 1)

    def test_pooling(self, made_encoder, preprocessor, texts):
        result = analysis.layer_differences(made_encoder, preprocessor, texts, [1, 2], pooling="cls")
        # [CLS] is the same everywhere.
        first, second = Reference(made_encoder, preprocessor, texts[:1]).states[0][1:3, 0]
        assert_close(result.sentence_norm[0, 1], np.linalg.norm(second - first))
        words = [text for text in texts if text]
        pooling = SequencePooling("mean", exclude_special_tokens=True)
        result = analysis.layer_differences(made_encoder, preprocessor, words, [1, 2], pooling)
        with pytest.raises(ValueError, match=r"Expected `pooling` to be one of cls, mean.*Received: pooling=None"):
            analysis.layer_differences(made_encoder, preprocessor, words, pooling=None)
        steps = [
            np.linalg.norm((states[2] - states[1])[1:-1].mean(0))
            for states in Reference(made_encoder, preprocessor, words).states
        ]
        assert_close(result.sentence_norm[0, 1], np.mean(steps))


def hsic_1(x, y):
    """Song et al. 2012, equation 5, as Nguyen et al. 2021 write it, in loops of sums over all indices."""
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    ones = np.ones(n)
    trace = np.trace(k @ l)
    middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return (trace + middle - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3))


def cka(x_batches, y_batches):
    def total(one, other):
        return sum(len(x) * hsic_1(x, y) for x, y in zip(one, other, strict=True))

    return total(x_batches, y_batches) / np.sqrt(total(x_batches, x_batches) * total(y_batches, y_batches))


class TestLayerSimilarity:
    def test_one_minibatch_equals_numpy(self, made_encoder, preprocessor, texts):
        result = analysis.layer_similarity(made_encoder, preprocessor, texts[:200], ALL)
        reference = Reference(made_encoder, preprocessor, texts[:200])
        expected = [[cka([reference.means(i)], [reference.means(j)]) for j in range(5)] for i in range(5)]
        assert_close(result.cka, expected)
        assert (result.examples, result.unit) == (200, "texts")
        tokens = analysis.layer_similarity(made_encoder, preprocessor, texts[:20], [1, 2], pooling=None)
        reference = Reference(made_encoder, preprocessor, texts[:20])
        assert_close(tokens.cka[0, 1], cka([reference.tokens(1)], [reference.tokens(2)]))
        assert (tokens.examples, tokens.unit) == (sum(map(len, reference.ids)), "tokens")

    def test_minibatches_equal_numpy(self):
        random = np.random.default_rng(0)
        batches = [random.normal(size=(size, 3, 6)) + 2 for size in (40, 40, 25)]
        measure = LayerSimilarityMeasure([0, 1, 2], SequencePooling("mean"))
        for batch in batches:
            measure._examples += len(batch)
            measure.add_minibatch(batch)
        expected = [[cka([b[:, i] for b in batches], [b[:, j] for b in batches]) for j in range(3)] for i in range(3)]
        assert_close(measure.result().cka, expected)

    def test_many_minibatches_estimate_the_whole(self, made_encoder, preprocessor, texts):
        """Of 1,800 texts the estimate from seven minibatches is near that of all at once."""
        many = texts * 6
        result = analysis.layer_similarity(made_encoder, preprocessor, many, [1, 2])
        reference = Reference(made_encoder, preprocessor, texts)
        whole = cka([np.tile(reference.means(1), (6, 1))], [np.tile(reference.means(2), (6, 1))])
        assert abs(result.cka[0, 1] - whole) < 0.02
        assert result.examples == len(many)

    def test_known_values(self, made_encoder, preprocessor, texts):
        random = np.random.default_rng(3)
        table = made_encoder.tables[0].astype("float64")
        rotation = np.linalg.qr(random.normal(size=(12, 12)))[0]
        other = random.normal(size=table.shape)
        tables = np.stack([table, table, 3 * table @ rotation + 7, other])
        result = analysis.layer_similarity(MadeEncoder(tables), preprocessor, texts, ALL)
        assert_close(result.cka[:3, :3], 1)
        assert np.all(result.cka[:3, 3] < 0.9)

    def test_two_encoders_of_other_widths(self, made_encoder, preprocessor, texts):
        wider = MadeEncoder(np.random.default_rng(9).normal(size=(5, made_encoder.tables.shape[1], 20)))
        result = analysis.layer_similarity(made_encoder, preprocessor, texts[:150], [1, 3, 4], other=wider)
        one, other = (Reference(encoder, preprocessor, texts[:150]) for encoder in (made_encoder, wider))
        expected = [[cka([one.means(i)], [other.means(j)]) for j in (1, 3, 4)] for i in (1, 3, 4)]
        assert_close(result.cka, expected)
        assert result.two_encoders
        itself = analysis.layer_similarity(made_encoder, preprocessor, texts[:150], [1, 3], other=made_encoder)
        assert_close(np.diagonal(itself.cka), 1)

    def test_refuses(self, made_encoder, preprocessor):
        with pytest.raises(ValueError, match="at least four examples. Received: 3 texts"):
            analysis.layer_similarity(made_encoder, preprocessor, ["a", "b", "c"])
        shallow = MadeEncoder(made_encoder.tables[:3])
        with pytest.raises(ValueError, match=r"same layers of both encoders. Received: layers='all', which are \[1, 2"):
            analysis.layer_similarity(made_encoder, preprocessor, ["a"] * 4, other=shallow)


class TestContextuality:
    @pytest.mark.parametrize("min_occurrences", [2, 30])
    def test_equals_numpy(self, made_encoder, preprocessor, texts, min_occurrences):
        result = analysis.contextuality(made_encoder, preprocessor, texts, ALL, min_occurrences)
        reference = Reference(made_encoder, preprocessor, texts)
        pieces = np.concatenate([ids[1:-1] for ids in reference.ids])
        often = [piece for piece in set(pieces) if np.sum(pieces == piece) >= min_occurrences]
        assert 0 < len(often) == result.pieces
        assert result.tokens == len(pieces)
        for layer in range(5):
            states = np.concatenate([states[layer, 1:-1] for states in reference.states])
            similarities = []
            for piece in often:
                same = states[pieces == piece]
                first, second = np.triu_indices(len(same), 1)
                similarities.append(cosine(same[first], same[second]).mean())
            assert_close(result.self_similarity[layer], np.mean(similarities))
            intra = [cosine(s[layer, 1:-1], s[layer, 1:-1].mean(0)).mean() for s in reference.states if s.shape[1] > 3]
            assert_close(result.intra_sentence_similarity[layer], np.mean(intra))
            unit = states / np.linalg.norm(states, axis=1, keepdims=True)
            off_diagonal = ~np.eye(len(unit), dtype=bool)
            assert_close(result.anisotropy[layer], (unit @ unit.T)[off_diagonal].mean())
            assert_close(result.norm[layer], np.linalg.norm(states, axis=1).mean())

    def test_known_values(self, made_encoder, preprocessor, texts):
        """Without places a piece is the same everywhere; with one vector for all tokens everything is the same."""
        one_vector = np.ones_like(made_encoder.tables[:1])
        encoder = MadeEncoder(np.concatenate([made_encoder.tables[:1], one_vector]))
        result = analysis.contextuality(encoder, preprocessor, texts, ALL)
        assert_close(result.self_similarity, 1)
        assert result.anisotropy[0] < 0.9
        assert_close(result.anisotropy[1], 1)
        assert_close(result.intra_sentence_similarity[1], 1)

    def test_memory_is_bounded_and_the_sums_of_what_is_kept_complete(self, made_encoder, preprocessor, texts):
        whole = ContextualityMeasure([0, 1], 2)
        bounded = ContextualityMeasure([0, 1], 2, max_pieces=7)
        for batch in run_batches(made_encoder, preprocessor, texts, [0, 1], Wanted(tokens=True)):
            whole.update(batch)
            bounded.update(batch)
        assert len(whole._rows) > len(bounded._rows) == 7
        assert bounded._sums.shape[0] == 7
        for piece, row in bounded._rows.items():
            assert bounded._counts[row] == whole._counts[whole._rows[piece]]
            assert_close(bounded._sums[row], whole._sums[whole._rows[piece]])

    def test_no_word_often_enough(self, made_encoder, preprocessor):
        with pytest.warns(UserWarning, match="No word piece occurs 5 times"):
            result = analysis.contextuality(made_encoder, preprocessor, ["good film", ""])
        assert np.isnan(result.self_similarity).all()
        assert np.isfinite(result.anisotropy).all()
        for wrong in (1, "5", 2.5, None):
            with pytest.raises(ValueError, match=f"Received: min_occurrences={wrong!r}"):
                analysis.contextuality(made_encoder, preprocessor, ["a"], min_occurrences=wrong)


class TestAttention:
    def test_equals_numpy(self, made_encoder, preprocessor, texts):
        pairs = (texts[:-1], texts[1:])
        for some in (texts, pairs):
            result = analysis.attention(made_encoder, preprocessor, some, layers=[2, 4])
            reference = Reference(made_encoder, preprocessor, some)
            rows = {name: [] for name in ("entropy", "distance", "to_cls", "to_sep", "to_itself")}
            for ids, scores in zip(reference.ids, reference.scores, strict=True):
                p = scores[[2, 4]]
                places = np.arange(len(ids))
                rows["entropy"].append(-(p * np.log(p)).sum(-1))
                rows["distance"].append((p * np.abs(places[:, None] - places)).sum(-1))
                rows["to_cls"].append(p[..., 0])
                rows["to_sep"].append(p[..., ids == 3].sum(-1))
                rows["to_itself"].append(np.diagonal(p, axis1=2, axis2=3))
            for name, values in rows.items():
                assert_close(getattr(result, name), np.concatenate(values, axis=-1).mean(-1))

    def test_known_values(self, made_encoder, preprocessor, texts):
        made_encoder.logits[:, 0] = 0
        made_encoder.logits[:, 1] = -1e4
        made_encoder.logits[:, 1, :, 2] = 0
        same_length = [text for text in texts if len(text.split()) > 11]
        result = analysis.attention(made_encoder, preprocessor, same_length)
        # All twelve tokens alike, and [CLS] alone.
        assert_close(result.entropy[:, 0], np.log(12))
        assert_close(result.to_itself[:, 0], 1 / 12)
        assert_close(result.entropy[:, 1], 0)
        assert_close(result.to_cls[:, 1], 1)
        assert_close(result.distance[:, 1], 11 / 2)

    def test_map(self, made_encoder, preprocessor):
        for text in ("good film", (["good film"], ["bad plot"]), ("good film", "bad plot")):
            result = analysis.attention_map(made_encoder, preprocessor, text, [3, 1])
            reference = Reference(made_encoder, preprocessor, text)
            assert_close(result.scores, reference.scores[0][[3, 1]])
        assert result.tokens == "[CLS] good film [SEP] bad plot [SEP]".split()
        frame = result.to_dataframe()
        row = frame[
            (frame.layer == 1) & (frame["head"] == 2) & (frame.from_token == "film") & (frame.to_token == "plot")
        ]
        assert_close(row.attention, reference.scores[0][1, 1, 2, 5])
        for several, count in ((["a", "b"], 2), (iter(["a", "b"]), 2), (["a"] * 2000, 2000)):
            with pytest.raises(ValueError, match=f"Expected one text. Received: {count} texts. Choose one: texts"):
                analysis.attention_map(made_encoder, preprocessor, several)
        with pytest.raises(ValueError, match=r"one of \[3, 1\] and `head` from 1 to 2. Received: layer=3, head=3"):
            result.plot(layer=3, head=3)

    def test_refuses_what_has_no_scores(self, encoder_factory, made_encoder, preprocessor):
        tfhub = encoder_factory("tfhub")
        assert isinstance(tfhub, TFHubEncoder)
        for function in (analysis.attention, analysis.attention_map):
            with pytest.raises(ValueError, match="a TF Hub encoder is a finished graph that does not return"):
                function(tfhub, preprocessor, ["a"])
            with pytest.raises(ValueError, match="Layer 0 is the output of the embeddings and has no attention"):
                function(made_encoder, preprocessor, ["a"], layers=ALL)
        with pytest.raises(ValueError, match="a TF Hub encoder"):
            analysis.analyze(tfhub, preprocessor, ["a"], ["attention"])


class TestAnalyze:
    def test_one_pass_gives_what_each_function_gives(self, made_encoder, preprocessor, texts):
        names = [*MEASURES]
        before = int(made_encoder.texts_seen)
        results = analysis.analyze(made_encoder, preprocessor, texts, names, ALL)
        assert int(made_encoder.texts_seen) - before == len(texts)
        for name in names:
            layers = ALL if name != "attention" else "all"
            alone = getattr(analysis, name)(made_encoder, preprocessor, texts, layers)
            for field, value in vars(results[name]).items():
                expected = getattr(alone, field)
                if isinstance(value, np.ndarray):
                    # Batches of attention are smaller, so that sums have another order.
                    assert_close(value, expected, atol=1e-6 if name != "layer_similarity" else 0.02)
                else:
                    assert value == expected

    @pytest.mark.parametrize("measures", ["attention", [], ["attention", "norms"], None, 5, [["attention"]]])
    def test_refuses_unknown_measures(self, made_encoder, preprocessor, measures):
        with pytest.raises(ValueError, match="Expected `measures` to be a list of names among layer_differences"):
            analysis.analyze(made_encoder, preprocessor, ["a"], measures)


def test_only_encoders(made_encoder, encoder_factory, preprocessor):
    for function in (analysis.contextuality, analysis.extract_embeddings, analysis.probe_layers, analysis.neighbours):
        more = [["x", "y"]] if function in (analysis.probe_layers, analysis.neighbours) else []
        with pytest.raises(TypeError, match="`encoder` to be a BertEncoder.*: encoder of type str. BertEncoder.fr"):
            function("bert", preprocessor, ["a", "b"], *more)
        with pytest.raises(TypeError, match="`preprocessor` to be a BertPreprocessor.*: preprocessor of type NoneType"):
            function(
                made_encoder, None, ["a", "b"], *more, **({"folds": 2} if function is analysis.probe_layers else {})
            )
    with pytest.raises(TypeError, match="`other` to be a BertEncoder.* Received: other of type int"):
        analysis.layer_similarity(made_encoder, preprocessor, ["a"], other=5)
    with pytest.raises(TypeError, match=r"Received: encoder of type Sequential. Give the encoder in the model"):
        analysis.project(keras.Sequential(), preprocessor, ["a"])
    windowed = WindowedEncoder(encoder_factory("bert"), window=10, stride=2)
    with pytest.raises(TypeError, match=r"Received: encoder of type WindowedEncoder. Give the encoder that it wraps"):
        analysis.layer_differences(windowed, preprocessor, ["a"])
    # What the message says works.
    assert analysis.layer_differences(windowed.encoder, LETTERS, ["a " * 40]).tokens == 24
