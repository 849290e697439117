"""Every result draws a figure with a title and labelled axes, 1,600 pixels wide, that no window shows."""

import dataclasses
import io
import sys
import warnings

import matplotlib
import matplotlib.font_manager
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.decomposition import PCA

from keras_bert_layers import LayerCombination, analysis
from keras_bert_layers.analysis.analyze import MEASURES
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.progress_bar import progress_bar

from ..fresh_process import run_in_fresh_process
from .made_encoder import MadeEncoder, Reference
from .made_font import make_font

ALL = "all+embeddings"


def results(encoder, preprocessor, texts, factory):
    """Name -> result, of every function."""
    texts = texts[:60]
    labels = [f"label {number % 9}" for number in range(60)]
    found = analysis.analyze(encoder, preprocessor, texts, [*MEASURES], ALL)
    found["two encoders"] = dataclasses.replace(found["layer_similarity"], two_encoders=True)
    found["attention_map"] = analysis.attention_map(encoder, preprocessor, "good film")
    found["probe_layers"] = analysis.probe_layers(encoder, preprocessor, texts, labels, folds=2)
    found["project"] = analysis.project(encoder, preprocessor, texts, labels, ALL)
    found["project without labels"] = analysis.project(encoder, preprocessor, texts)
    found["neighbours"] = analysis.neighbours(encoder, preprocessor, texts, ["a film"], layers=ALL)
    found["embeddings"] = analysis.extract_embeddings(encoder, preprocessor, texts, ALL)
    weighted = factory("bert", combine=LayerCombination("weighted", initial_weights=[1, 2, 3]))
    found["layer_weights"] = analysis.layer_weights(weighted)
    return found


def test_all(made_encoder, preprocessor, texts, encoder_factory):
    before = {name: repr(value) for name, value in matplotlib.rcParams.items()}
    sys.modules.pop("matplotlib.pyplot", None)
    for name, result in results(made_encoder, preprocessor, texts, encoder_factory).items():
        figures = [result.plot()]
        if name == "attention_map":
            figures += [result.plot(layer=2, head=1), result.plot(layer=2)]
        for figure in figures:
            assert isinstance(figure, matplotlib.figure.Figure), name
            canvas = FigureCanvasAgg(figure)
            figure.draw_without_rendering()
            assert canvas.get_width_height()[0] == 1600, name
            assert len(figure.get_suptitle()) > 20, name
            shown = [axis for axis in figure.axes if axis.axison and axis.get_label() != "<colorbar>"]
            for axis in shown:
                of_sheet = name == "attention_map" and len(shown) > 1
                assert of_sheet or (axis.get_xlabel() and (axis.get_ylabel() or name == "probe_layers")), name
            # Nothing is cut off.
            box = figure.get_tightbbox(canvas.get_renderer())
            assert -0.01 <= box.x0 < box.x1 <= 8.01, name
            assert -0.01 <= box.y0 < box.y1 <= figure.get_figheight() + 0.01, name
        assert len(result.to_dataframe()) > 0, name
    assert "matplotlib.pyplot" not in sys.modules
    assert {name: repr(value) for name, value in matplotlib.rcParams.items()} == before


def images(figure):
    """The values and the limits of the colours of each matrix in a figure."""
    return [(image.get_array(), image.norm.vmin, image.norm.vmax) for axis in figure.axes for image in axis.images]


class TestWhatTheFiguresShow:
    def test_two_encoders_are_one_line(self, made_encoder, preprocessor, texts):
        other = MadeEncoder(made_encoder.tables + 0.3 * made_encoder.tables[::-1])
        result = analysis.layer_similarity(made_encoder, preprocessor, texts[:60], other=other)
        (axis,) = result.plot("before", "after").axes
        (line,) = axis.lines
        np.testing.assert_array_equal(line.get_ydata(), np.diagonal(result.cka))
        assert not axis.images
        assert [text.get_text() for text in axis.texts] == [f"{value:.3f}" for value in np.diagonal(result.cka)]

    def test_colours_are_for_what_differs(self, made_encoder, preprocessor, texts):
        """No cell for a layer beside itself, and both ends of the scale are values that are shown."""
        differences = analysis.layer_differences(made_encoder, preprocessor, texts[:60], ALL)
        similarity = analysis.layer_similarity(made_encoder, preprocessor, texts[:60], ALL)
        nearest = analysis.neighbours(made_encoder, preprocessor, texts[:60], texts[:9], layers=ALL)
        shown = [(result, one) for result in (differences, similarity, nearest) for one in images(result.plot())]
        assert len(shown) == 4
        for result, (values, low, high) in shown:
            assert values.shape == (5, 5)
            np.testing.assert_array_equal(values.mask, np.eye(5, dtype=bool), repr(result))
            assert (low, high) == (values.min(), values.max())
        attention = analysis.attention(made_encoder, preprocessor, texts[:60])
        attention.distance[0, 0] = 1000
        figure = attention.plot()
        matrices = images(figure)
        assert len(matrices) == 5
        for values, low, high in matrices:
            assert values.min() <= low < high <= max(values.max(), 1)
        assert matrices[1][2] < 1000, "one head does not take all the colours"
        # The place of a sixth matrix is not empty.
        means = next(axis for axis in figure.axes if axis.lines)
        np.testing.assert_allclose(means.lines[0].get_ydata(), attention.to_cls.mean(1))

    def test_one_layer(self, made_encoder, preprocessor, texts):
        """There is nothing beside itself to compare, and no warning comes of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            measures = ["layer_differences", "layer_similarity", "attention"]
            results = list(analysis.analyze(made_encoder, preprocessor, texts[:9], measures, 2).values())
            results.append(analysis.neighbours(made_encoder, preprocessor, texts[:9], "a", layers=2))
            results.append(analysis.layer_similarity(made_encoder, preprocessor, ["a"] * 9))
            for result in results:
                result.plot().draw_without_rendering()

    def test_embeddings_with_labels(self, made_encoder, preprocessor, texts):
        labels = [len(text.split()) % 2 for text in texts]
        embeddings = analysis.extract_embeddings(
            made_encoder, preprocessor, texts, "last2", pooling="mean", combine="mean"
        )
        figure = embeddings.plot(labels)
        (axis,) = figure.axes
        assert axis.get_title() == "mean of layers 3, 4"
        states = Reference(made_encoder, preprocessor, texts).states
        expected = PCA(2).fit_transform([text[3:].mean(axis=(0, 1)) for text in states])
        for group in axis.collections:
            points = expected[np.array(labels) == int(group.get_label())]
            np.testing.assert_allclose(np.abs(group.get_offsets()), np.abs(points), atol=1e-4)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1"]
        with pytest.raises(ValueError, match="Received: 1 labels for 300 texts"):
            embeddings.plot(["x"])


class TestFonts:
    def test_picks_one_that_has_the_characters(self, tmp_path, monkeypatch):
        """On a machine that has matplotlib's own fonts and two more."""
        fonts = [font for font in matplotlib.font_manager.fontManager.ttflist if font.name.startswith("DejaVu")]
        monkeypatch.setattr(matplotlib.font_manager.fontManager, "ttflist", fonts)
        for name, characters in (("Few", "天"), ("Many", "天气")):
            make_font(tmp_path / f"{name}.ttf", characters)
            matplotlib.font_manager.fontManager.addfont(tmp_path / f"{name}.ttf")
        attention = analysis.AttentionMap([2], ["[CLS]", "天", "气", "a", "[SEP]"], np.full((1, 2, 5, 5), 0.2))
        embeddings = analysis.Embeddings([1], None, "mean", np.arange(6.0).reshape(2, 1, 3) ** 2, [["a"], ["b"]], None)
        similarity = analysis.LayerSimilarity([1, 2], [1, 2], np.eye(2), 4, "texts", True)
        with warnings.catch_warnings():
            # matplotlib warns of each character that it has no glyph for.
            warnings.simplefilter("error")
            for figure in (
                attention.plot(layer=2),
                embeddings.plot(["天", "气"]),
                similarity.plot("天", "气"),
            ):
                figure.savefig(io.BytesIO())
                texts = [text for text in figure.findobj(matplotlib.text.Text) if {*"天气"} & {*text.get_text()}]
                assert {tuple(text.get_fontfamily()) for text in texts} == {("sans-serif", "Many")}
        with pytest.warns(UserWarning, match="No installed font has these characters: 脑, and DejaVu Sans draws"):
            embeddings.plot(["天", "脑"])

    def test_text_that_the_own_font_has_keeps_it(self):
        figure = analysis.AttentionMap([2], ["good", "film"], np.full((1, 2, 2, 2), 0.5)).plot(layer=2)
        assert {tuple(text.get_fontfamily()) for text in figure.findobj(matplotlib.text.Text)} == {("sans-serif",)}


_WITHOUT = """
import sys
for name in ("matplotlib", "pandas", "sklearn", "tensorboard", "tqdm"):
    sys.modules[name] = None  # Importing it raises ImportError, as if it was not installed.
import numpy as np
import keras_bert_layers as kbl

config = kbl.BertConfig(vocab_size=6, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
encoder = kbl.BertEncoder(config, combine="weighted")
preprocessor = kbl.BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad"], sequence_length=8)
result = kbl.analysis.layer_differences(encoder, preprocessor, ["good", "bad", "good bad"])
for act in (
    result.plot,
    result.to_dataframe,
    lambda: kbl.analysis.project(encoder, preprocessor, ["good", "bad"]),
    lambda: kbl.analysis.probe_layers(encoder, preprocessor, ["good", "bad"], [0, 1]),
    lambda: kbl.analysis.LayerWeightsRecorder("logs"),
):
    try:
        act()
    except ImportError as error:
        print(error)
"""


def test_without_the_optional_packages(tmp_path):
    lines = run_in_fresh_process(_WITHOUT, cwd=tmp_path).stdout.splitlines()
    packages = ["matplotlib", "pandas", "scikit-learn", "scikit-learn", "tensorboard"]
    assert len(lines) == len(packages)
    for line, package in zip(lines, packages, strict=True):
        assert line.startswith(f"This needs the package {package}, which does not import here")
        assert f"pip install {package}, or" in line
        assert "pip install 'keras-bert-layers[analysis]'" in line


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestProgressBar:
    def test_on_a_terminal_alone(self, made_encoder, preprocessor, texts, monkeypatch):
        for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
            monkeypatch.setattr(sys, "stderr", stream)
            analysis.extract_embeddings(made_encoder, preprocessor, texts)
            assert ("300/300" in stream.getvalue()) == shown

    def test_says_on_a_terminal_what_it_lacks(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        for stream, shown in ((Terminal(), 1), (io.StringIO(), 0)):
            monkeypatch.setattr(sys, "stderr", stream)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with progress_bar(3, "text") as bar:
                    bar.update(3)
            assert [str(one.message) for one in caught] == [
                "There is no progress bar without the package tqdm: pip install tqdm."
            ] * shown


def test_import_optional():
    assert import_optional("numpy", "numpy") is np
    with pytest.raises(ImportError, match="pip install nothing"):
        import_optional("no_such_module", "nothing")
