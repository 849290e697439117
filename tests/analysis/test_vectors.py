"""Vectors given out: extracted, projected, written for TensorBoard, and the nearest of them."""

import dataclasses
import warnings
from itertools import chain

import numpy as np
import pandas
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.projector import projector_plugin
from werkzeug.test import Client
from werkzeug.wrappers import Response

from keras_bert_layers import LayerCombination, SequencePooling, analysis
from keras_bert_layers.analysis import Embeddings

from .made_encoder import MadeEncoder, Reference


class TestExtractEmbeddings:
    def test_tokens(self, made_encoder, preprocessor, texts):
        embeddings = analysis.extract_embeddings(made_encoder, preprocessor, texts, layers=[4, 0])
        reference = Reference(made_encoder, preprocessor, texts)
        assert embeddings.layers == [4, 0]
        for vectors, states in zip(embeddings.vectors, reference.states, strict=True):
            np.testing.assert_allclose(vectors, states[[4, 0]], atol=1e-6)
        for text, tokens, offsets in zip(texts, embeddings.tokens, embeddings.offsets, strict=True):
            assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
            assert [text[start:end] for start, end in offsets[1:-1]] == tokens[1:-1]
        frame = embeddings.to_dataframe()
        row = frame[(frame.text == 5) & (frame.place == 2) & (frame.layer == 0)].iloc[0]
        assert row.token == texts[5][row.start : row.end]
        np.testing.assert_allclose(row.vector, reference.states[5][0, 2], atol=1e-6)

    def test_pooled(self, made_encoder, preprocessor, texts):
        embeddings = analysis.extract_embeddings(made_encoder, preprocessor, texts, pooling="mean")
        reference = Reference(made_encoder, preprocessor, texts)
        for row, layer in enumerate([1, 2, 3, 4]):
            vectors = [text[row] for text in embeddings.vectors]
            np.testing.assert_allclose(vectors, reference.means(layer), atol=1e-6)
        assert len(embeddings.to_dataframe()) == 4 * len(texts)

    @pytest.mark.parametrize("combine", ["mean", "max", "concat", "weighted"])
    def test_as_the_encoder_is_configured(self, made_encoder, preprocessor, texts, combine, tmp_path):
        """What the encoder itself gives, from an encoder without a combination too, and read from a file."""
        mode = LayerCombination("weighted", initial_weights=[1, 5]) if combine == "weighted" else combine
        encoder = MadeEncoder(made_encoder.tables, made_encoder.places, layers=[4, 1], combine=mode)
        outputs = encoder(preprocessor(texts))
        expected = SequencePooling("mean")(outputs["encoder_outputs"], mask=outputs["mask"])
        embeddings = analysis.extract_embeddings(encoder, preprocessor, texts, pooling="mean")
        assert isinstance(embeddings.vectors, np.ndarray)
        np.testing.assert_allclose(embeddings.vectors, expected, atol=1e-5)
        assert (embeddings.layers, embeddings.combine, embeddings.pooling) == ([4, 1], combine, "mean")
        asked = analysis.extract_embeddings(made_encoder, preprocessor, texts, [4, 1], "mean", combine=mode)
        np.testing.assert_allclose(asked.vectors, expected, atol=1e-5)
        tokens = analysis.extract_embeddings(encoder, preprocessor, texts)
        for vectors, states, mask in zip(tokens.vectors, outputs["encoder_outputs"], outputs["mask"], strict=True):
            np.testing.assert_allclose(vectors, states[mask], atol=1e-5)
        for kind in (embeddings, tokens):
            kind.save(tmp_path / "one.npz")
            loaded = Embeddings.load(tmp_path / "one.npz")
            assert repr(loaded) == repr(dataclasses.replace(kind, texts=None))
            for one, other in zip(loaded.vectors, kind.vectors, strict=True):
                np.testing.assert_array_equal(one, other)
        assert set(embeddings.to_dataframe().layer) == {f"{combine} of layers 4, 1"}

    def test_shapes_follow_layers(self, made_encoder, preprocessor, texts):
        """An int takes the axis of the layers away, as in NumPy; a list of one keeps it."""
        for layers, shape, token_shape in ((-1, (12,), ()), ([4], (1, 12), (1,)), ([2, 0], (2, 12), (2,))):
            pooled = analysis.extract_embeddings(made_encoder, preprocessor, texts, layers, "cls").vectors
            assert pooled.shape == (len(texts), *shape)
            tokens = analysis.extract_embeddings(made_encoder, preprocessor, texts[:1], layers).vectors[0]
            assert tokens.shape[:-2] == token_shape
            encoder = MadeEncoder(made_encoder.tables, made_encoder.places, layers=layers)
            own = analysis.extract_embeddings(encoder, preprocessor, texts, pooling="cls").vectors
            np.testing.assert_array_equal(own, pooled)
        stacked = MadeEncoder(made_encoder.tables, layers=[1, 2], combine="stack")
        assert analysis.extract_embeddings(stacked, preprocessor, ["a"], pooling="cls").vectors.shape == (1, 2, 12)

    def test_repr_is_one_short_line(self, made_encoder, preprocessor, texts):
        pooled = repr(analysis.extract_embeddings(made_encoder, preprocessor, texts, pooling="mean"))
        assert pooled.startswith(
            "Embeddings(layers=[1, 2, 3, 4], combine=None, pooling='mean', vectors=<float32 [300, 4, 12]>, tokens=<300 "
        )
        results = list(analysis.analyze(made_encoder, preprocessor, texts).values())
        results += [
            analysis.extract_embeddings(made_encoder, preprocessor, texts),
            analysis.attention_map(made_encoder, preprocessor, "a film"),
            analysis.project(made_encoder, preprocessor, texts),
            analysis.neighbours(made_encoder, preprocessor, texts, texts),
            analysis.probe_layers(made_encoder, preprocessor, texts, ["good" in text for text in texts], folds=2),
        ]
        for text in (pooled, *map(repr, results)):
            assert "\n" not in text
            assert len(text) < 400

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (
                {"combine": "average"},
                ValueError,
                "Expected `combine` to be None, one of stack.*Received: combine='average'",
            ),
            ({"pooling": "average"}, ValueError, "Expected `pooling` to be one of cls.*Received: pooling='average'"),
            ({"layers": 5}, ValueError, r"Expected layer numbers from 0"),
            (
                {"directory": "gs://bucket/vectors"},
                ValueError,
                "Received: directory='gs://bucket/vectors', which is a URL",
            ),
            ({"directory": 5}, TypeError, "Expected `directory` to be a path"),
            (
                {"layers": [1, 2], "combine": LayerCombination("weighted", initial_weights=[1, 2, 3])},
                ValueError,
                "Expected one initial weight for each of the 2 layers",
            ),
        ],
    )
    def test_refuses(self, made_encoder, preprocessor, arguments, error, message):
        with pytest.raises(error, match=message):
            analysis.extract_embeddings(made_encoder, preprocessor, ["a"], **arguments)
        assert int(made_encoder.texts_seen) == 0

    def test_refuses_other_files(self, made_encoder, preprocessor, tmp_path):
        np.savez(tmp_path / "other.npz", layers=np.arange(3))
        (tmp_path / "text.npz").write_text("vectors", encoding="utf-8")
        for name, arrays in (("other.npz", r"\['layers'\]"), ("text.npz", r"\[\]")):
            with pytest.raises(ValueError, match=rf"Embeddings.save.*: path=.*{name}', with the arrays {arrays}"):
                Embeddings.load(tmp_path / name)
        with pytest.raises(FileNotFoundError):
            Embeddings.load(tmp_path / "none.npz")
        with pytest.raises(ValueError, match="Received: path='gs://bucket/x', which is a URL"):
            analysis.extract_embeddings(made_encoder, preprocessor, ["a"]).save("gs://bucket/x")

    @pytest.mark.parametrize("pooling", [None, "max"])
    def test_files(self, made_encoder, preprocessor, texts, pooling, tmp_path):
        many = texts * 5
        paths = analysis.extract_embeddings(
            made_encoder, preprocessor, many, pooling=pooling, directory=tmp_path / "vectors"
        )
        assert [path.name for path in paths] == ["embeddings_000000.npz", "embeddings_000001.npz"]
        parts = [Embeddings.load(path) for path in paths]
        assert [len(part.vectors) for part in parts] == [1024, len(many) - 1024]
        memory = analysis.extract_embeddings(made_encoder, preprocessor, many, pooling=pooling)
        number = 0
        for part in parts:
            assert part.layers == memory.layers
            assert part.is_pooled == memory.is_pooled == (pooling is not None)
            for row, vectors in enumerate(part.vectors):
                np.testing.assert_array_equal(vectors, memory.vectors[number])
                assert part.tokens[row] == memory.tokens[number]
                np.testing.assert_array_equal(part.offsets[row], memory.offsets[number])
                number += 1
        with pytest.raises(FileExistsError):
            analysis.extract_embeddings(made_encoder, preprocessor, many, directory=tmp_path / "vectors")

    def test_nothing_half_written_stays(self, made_encoder, preprocessor, texts, tmp_path):
        with pytest.raises(TypeError, match=r"texts\[1500\] of type int"):
            analysis.extract_embeddings(
                made_encoder, preprocessor, iter([*texts * 5, 5]), directory=tmp_path / "vectors", pooling="cls"
            )
        assert list(tmp_path.iterdir()) == []


class TestProject:
    def test_equals_scikit_learn(self, made_encoder, preprocessor, texts):
        labels = ["good" in text for text in texts]
        projection = analysis.project(made_encoder, preprocessor, texts, labels, layers=[2, 3])
        reference = Reference(made_encoder, preprocessor, texts)
        for layer, points, explained in zip([2, 3], projection.points, projection.explained, strict=True):
            means = reference.means(layer)
            centred = means - means.mean(0)
            variances = np.linalg.eigvalsh(centred.T @ centred)[::-1]
            np.testing.assert_allclose(explained, variances[:2] / variances.sum(), atol=1e-6)
            np.testing.assert_allclose(np.abs(points), np.abs(PCA(2).fit_transform(means)), atol=1e-5)
        frame = projection.to_dataframe()
        assert frame.label[: len(texts)].tolist() == labels

    def test_each_layer_points_the_way_of_the_one_before(self, made_encoder, preprocessor, texts):
        """Layers of opposite sign, which have the same points."""
        table = made_encoder.tables[0]
        encoder = MadeEncoder(np.stack([table, -table, table, -2 * table]))
        points = analysis.project(encoder, preprocessor, texts, layers="all+embeddings").points
        for layer, factor in ((1, 1), (2, 1), (3, 2)):
            np.testing.assert_allclose(points[layer], factor * points[0], atol=1e-4)

    def test_texts_that_are_all_alike(self, made_encoder, preprocessor):
        """They have no variance, and no warning comes of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            projection = analysis.project(made_encoder, preprocessor, ["a film"] * 4)
        assert not projection.explained.any()
        assert np.abs(projection.points).max() < 1e-5

    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (["x"], ValueError, "Expected a label for each text. Received: 1 labels for 2 texts"),
            ("xy", TypeError, "`labels` to be a list of str or of int.*Received: labels of type str"),
            (7, TypeError, "Received: labels of type int"),
            ({"x": 1, "y": 2}, TypeError, "Received: labels of type dict"),
            (["x", None], TypeError, r"Received: labels\[1\]=None, which is missing"),
            (pandas.Series([1, pandas.NA]), TypeError, r"Received: labels\[1\]=<NA>, which is missing"),
            ([1.0, float("nan")], TypeError, r"Received: labels\[0\]=1.0, a float"),
            (["x", float("nan")], TypeError, r"Received: labels\[1\]=nan, which is missing"),
            (["x", 1], TypeError, r"all str or all int. Received: labels\[1\]=1 of type int, and labels\[0\]='x'"),
            ([["x"], ["y"]], TypeError, r"Received: labels\[0\]=\['x'\], which is several.*row\[0\] for row in"),
        ],
    )
    def test_refuses_labels_before_any_work(self, made_encoder, preprocessor, labels, error, message):
        with pytest.raises(error, match=message):
            analysis.project(made_encoder, preprocessor, ["a", "b"], labels)
        assert int(made_encoder.texts_seen) == 0

    @pytest.mark.parametrize(
        "labels", [np.array([3, 4]), tf.constant([3, 4]), pandas.Series([3, 4], index=[5, 5]), iter([3, 4])]
    )
    def test_labels_in_any_form(self, made_encoder, preprocessor, labels):
        assert analysis.project(made_encoder, preprocessor, ["a", "b"], labels).labels == [3, 4]

    def test_refuses(self, made_encoder, preprocessor):
        with pytest.raises(ValueError, match="at least two texts. Received: 1"):
            analysis.project(made_encoder, preprocessor, ["a"])


class TestProjector:
    def serve(self, directory) -> Client:
        """TensorBoard's own plugin on a directory."""
        multiplexer = plugin_event_multiplexer.EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(directory))
        multiplexer.Reload()
        context = base_plugin.TBContext(
            logdir=str(directory), data_provider=data_provider.MultiplexerDataProvider(multiplexer, str(directory))
        )
        apps = projector_plugin.ProjectorPlugin(context).get_plugin_apps()
        return {route: Client(app, Response) for route, app in apps.items()}

    @pytest.mark.parametrize("labelled", [True, False])
    def test_tensorboard_reads_it(self, made_encoder, preprocessor, texts, labelled, tmp_path):
        labels = [f"label\t{number % 3}" for number in range(len(texts))]
        directory = analysis.write_projector(
            made_encoder, preprocessor, texts, tmp_path / "logs", labels if labelled else None, [0, 3]
        )
        client = self.serve(directory)
        assert sorted(client["/runs"].get("/runs").json) == ["layer_00", "layer_03"]
        reference = Reference(made_encoder, preprocessor, texts)
        embeddings = analysis.extract_embeddings(made_encoder, preprocessor, texts, [0, 3], pooling="mean")
        for row, layer in enumerate([0, 3]):
            run = f"layer_{layer:02d}"
            config = client["/info"].get(f"/info?run={run}").json["embeddings"]
            assert [one["tensorName"] for one in config] == [run]
            assert config[0]["tensorShape"] == [len(texts), 12]
            data = client["/tensor"].get(f"/tensor?run={run}&name={run}").data
            tensor = np.frombuffer(data, "float32").reshape(config[0]["tensorShape"])
            np.testing.assert_array_equal(tensor, [text[row] for text in embeddings.vectors])
            np.testing.assert_allclose(tensor, reference.means(layer), atol=1e-5)
            lines = client["/metadata"].get(f"/metadata?run={run}&name={run}").text.splitlines()
            expected = [text or "(empty)" for text in texts]
            if labelled:
                assert lines.pop(0) == "text\tlabel"
                labels = [label.replace("\t", " ") for label in labels]
                expected = [f"{text}\t{label}" for text, label in zip(expected, labels, strict=True)]
            assert lines == expected

    def test_many_texts_in_their_order(self, made_encoder, preprocessor, texts, tmp_path):
        many = (texts * 4, ["film\ngood"] * len(texts * 4))
        directory = analysis.write_projector(made_encoder, preprocessor, many, tmp_path / "logs", layers=1)
        lines = (directory / "layer_01" / "metadata.tsv").read_text(encoding="utf-8").splitlines()
        assert lines == [" ".join(f"{text} | film good".split()) for text in many[0]]
        tensors = np.loadtxt(directory / "layer_01" / "tensors.tsv")
        np.testing.assert_allclose(tensors, Reference(made_encoder, preprocessor, many).means(1), atol=1e-5)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"directory": "gs://bucket/logs"}, "Received: directory='gs://bucket/logs', which is a URL"),
            ({"directory": None}, "Expected `directory` to be a path"),
            (
                {"directory": "logs", "labels": "ab"},
                "`labels` to be a list of str or of int.*Received: labels of type str",
            ),
        ],
    )
    def test_refuses(self, made_encoder, preprocessor, arguments, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises((TypeError, ValueError), match=message):
            analysis.write_projector(made_encoder, preprocessor, ["a", "b"], **arguments)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("labels", "message"), [(["x"], "Received: 1 labels for 2 texts"), (["x"] * 9, "9 labels for 2 texts")]
    )
    def test_nothing_half_written_stays(self, made_encoder, preprocessor, labels, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            analysis.write_projector(made_encoder, preprocessor, iter(["a", "b"]), tmp_path / "logs", labels)
        assert list(tmp_path.iterdir()) == []


class TestNeighbours:
    def test_texts_equal_brute_force(self, made_encoder, preprocessor, texts):
        many = texts * 4
        queries = ["good film", "the plot was dull", texts[0]]
        result = analysis.neighbours(made_encoder, preprocessor, many, queries, 7, layers=[0, 2])
        reference = Reference(made_encoder, preprocessor, many)
        asked = Reference(made_encoder, preprocessor, queries)
        for row, layer in enumerate([0, 2]):
            vectors, wanted = reference.means(layer), asked.means(layer)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
            for found, cosines in zip(result.found[row], wanted @ vectors.T, strict=True):
                assert len(found) == 7
                np.testing.assert_allclose([one.cosine for one in found], np.sort(cosines)[::-1][:7], atol=1e-6)
                for one in found:
                    assert one.text == many[one.number]
                    assert (one.word, one.word_number) == (None, -1)
                    np.testing.assert_allclose(one.cosine, cosines[one.number], atol=1e-6)
                # Each text comes four times: the first ones first.
                assert [one.number for one in found[:4]] == sorted(one.number for one in found[:4])
        assert result.found[0][2][0].number == 0
        frame = result.to_dataframe()
        assert frame[(frame.layer == 2) & (frame["query"] == queries[1])]["rank"].tolist() == list(range(1, 8))

    @pytest.mark.parametrize("combine", [None, "mean", "concat", "weighted"])
    def test_of_embeddings(self, made_encoder, preprocessor, texts, combine, tmp_path):
        """The texts are not embedded again, and what is found is what is found with the texts."""
        mode = LayerCombination("weighted", initial_weights=[1, 5]) if combine == "weighted" else combine
        encoder = MadeEncoder(made_encoder.tables, made_encoder.places, layers=[4, 1], combine=mode)
        queries = ["good film", texts[7]]
        expected = analysis.neighbours(encoder, preprocessor, texts, queries, 7)
        corpus = analysis.extract_embeddings(encoder, preprocessor, texts, pooling="mean")
        seen = int(encoder.texts_seen)
        result = analysis.neighbours(encoder, preprocessor, corpus, queries, 7)
        assert int(encoder.texts_seen) - seen == len(queries)
        assert result.layers == expected.layers == ([4, 1] if combine is None else [f"{combine} of layers 4, 1"])
        for one, other in zip(chain(*result.found), chain(*expected.found), strict=True):
            assert [near[:4] for near in one] == [near[:4] for near in other]
            np.testing.assert_allclose([near.cosine for near in one], [near.cosine for near in other], atol=1e-6)
        # By brute force: the vectors themselves are what the test of extract_embeddings compares.
        vectors = corpus.by_layer[-1].astype("float64")
        cosines = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[7])
        np.testing.assert_allclose([near.cosine for near in result.found[-1][1]], np.sort(cosines)[::-1][:7], atol=1e-6)
        assert len(result.to_dataframe()) == 7 * 2 * len(result.layers)
        corpus.save(tmp_path / "corpus.npz")
        read = analysis.neighbours(encoder, preprocessor, Embeddings.load(tmp_path / "corpus.npz"), queries, 7)
        assert [near.number for near in read.found[0][0]] == [near.number for near in result.found[0][0]]
        assert {near.text for near in read.found[0][0]} == {None}

    def test_of_embeddings_of_layers_that_the_encoder_does_not_select(self, made_encoder, preprocessor, texts):
        for arguments in ({"layers": [0, 3]}, {"layers": "last2", "combine": "max"}):
            corpus = analysis.extract_embeddings(made_encoder, preprocessor, texts, pooling="mean", **arguments)
            result = analysis.neighbours(made_encoder, preprocessor, corpus, texts[3:5], 1)
            expected = analysis.neighbours(made_encoder, preprocessor, texts, texts[3:5], 1, **arguments)
            assert result.layers == expected.layers
            np.testing.assert_allclose(
                [near.cosine for by_query in chain(*result.found) for near in by_query], 1, atol=1e-6
            )

    @pytest.mark.parametrize(
        ("made", "asked", "message"),
        [
            ({"pooling": None}, {}, "Received: pooling='mean' with embeddings of pooling=None. extract_embeddings"),
            ({"pooling": "cls"}, {}, "Received: pooling='mean' with embeddings of pooling='cls'"),
            ({"pooling": "mean"}, {"pooling": None}, "Received: pooling=None with embeddings of pooling='mean'"),
            (
                {"pooling": SequencePooling("mean", exclude_special_tokens=True)},
                {},
                "Received: pooling='mean' with embeddings of pooling='mean without special tokens'",
            ),
            ({"pooling": "mean"}, {"layers": [1]}, r"made: layers=\[1, 2, 3, 4\].*Received: layers=\[1\]"),
            ({"pooling": "mean", "combine": "mean"}, {"combine": "max"}, "Received: .*combine='max', vectors of 12"),
            (
                {"pooling": "mean", "combine": LayerCombination("weighted", initial_weights=[1, 2, 3, 4])},
                {},
                "Give the LayerCombination that made them as `combine`",
            ),
        ],
    )
    def test_refuses_other_embeddings(self, made_encoder, preprocessor, made, asked, message):
        corpus = analysis.extract_embeddings(made_encoder, preprocessor, ["a", "film"], **made)
        with pytest.raises(ValueError, match=message):
            analysis.neighbours(made_encoder, preprocessor, corpus, ["a"], **asked)

    def test_words_equal_brute_force(self, made_encoder, preprocessor):
        """Words of several pieces too, with the spelling that they have in the text."""
        texts = ["Good film, dull PLOT", "the plottt was good", "", "xyz film"]
        queries = [("A good plot", "PLOT"), ("xyz of film", "xyz")]
        result = analysis.neighbours(made_encoder, preprocessor, texts, queries, 4, [1, 3], pooling=None)
        words = [["Good", "film", ",", "dull", "PLOT"], ["the", "plottt", "was", "good"], [], ["xyz", "film"]]
        pieces = [[1, 1, 1, 1, 1], [1, 3, 1, 1], [], [3, 1]]
        reference, asked = (Reference(made_encoder, preprocessor, some) for some in (texts, [q for q, _ in queries]))
        wanted = [asked.states[0][:, 3], asked.states[1][:, 1:4].mean(1)]
        for row, layer in enumerate([1, 3]):
            items = []
            for number, (names, lengths) in enumerate(zip(words, pieces, strict=True)):
                ends = np.cumsum([1, *lengths])
                for place, name in enumerate(names):
                    state = reference.states[number][layer, ends[place] : ends[place + 1]].mean(0)
                    items.append((number, place, name, state / np.linalg.norm(state)))
            for query, found in zip(wanted, result.found[row], strict=True):
                unit = query[layer] / np.linalg.norm(query[layer])
                expected = sorted(items, key=lambda item: -item[3] @ unit)[:4]
                assert [one[:2] for one in found] == [item[:2] for item in expected]
                assert [one.word for one in found] == [item[2] for item in expected]
                np.testing.assert_allclose([one.cosine for one in found], [i[3] @ unit for i in expected], atol=1e-6)

    def test_words_of_pairs(self, made_encoder, preprocessor):
        texts = (["good film", ""], ["bad plot", "film was bad"])
        result = analysis.neighbours(
            made_encoder, preprocessor, texts, [(("good film", "bad plot"), "plot")], 20, 2, pooling=None
        )
        found = sorted((one.number, one.word_number, one.word) for one in result.found[0][0])
        expected = [(0, 0, "good"), (0, 1, "film"), (0, 2, "bad"), (0, 3, "plot")]
        assert found == [*expected, (1, 0, "film"), (1, 1, "was"), (1, 2, "bad")]
        assert result.found[0][0][0][:2] == (0, 3)
        split = tuple([text.split() for text in segment] for segment in texts)
        query = ((["good", "film"], ["bad", "plot"]), "plot")
        again = analysis.neighbours(made_encoder, preprocessor, split, [query], 20, 2, pooling=None).found[0][0]
        assert [(one[:2], one.word) for one in again] == [(one[:2], one.word) for one in result.found[0][0]]

    @pytest.mark.parametrize(
        ("queries", "pooling", "error", "message"),
        [
            ([], "mean", ValueError, "at least one query"),
            (["film"], None, TypeError, r"a query is a tuple \(text, word\). Received: queries=\['film'\]"),
            (7, None, TypeError, r"Received: queries=\[7\]"),
            ([("good film", 3)], None, TypeError, r"Received: queries="),
            (["a", None], "mean", TypeError, r"Received: queries\[1\]=None, a missing value"),
            ([("good film", "plot")], None, ValueError, r"Received: 'plot', and the text has \['good', 'film'\]"),
        ],
    )
    def test_refuses(self, made_encoder, preprocessor, queries, pooling, error, message):
        with pytest.raises(error, match=message):
            analysis.neighbours(made_encoder, preprocessor, ["a"], queries, pooling=pooling)

    @pytest.mark.parametrize("count", [0, 2.5, "3", True, None])
    def test_refuses_counts(self, made_encoder, preprocessor, count):
        with pytest.raises(ValueError, match=f"`count` to be an int of at least 1. Received: count={count!r}"):
            analysis.neighbours(made_encoder, preprocessor, ["a"], ["a"], count)
