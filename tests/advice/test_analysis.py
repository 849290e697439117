"""What the messages of the analysis say is done, and helps."""

import configparser
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers import analysis

from .advice import advice, refused, warned, welcome

TEXTS = ["a good film", "the plot was dull", "why", "what a bad book", "how bright", "not very good"]


def extras() -> dict[str, str]:
    """The packages of each extra, as the installation knows them."""
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(__file__).parents[2] / "setup.cfg")
    return dict(setup["options.extras_require"])


@advice("Choose one: texts[0], or for pairs (firsts[0], seconds[0]).")
def test_the_attention_of_several_texts(encoder, preprocessor):
    firsts, seconds = TEXTS[:2], TEXTS[2:4]
    with refused():
        analysis.attention_map(encoder, preprocessor, TEXTS)
    assert analysis.attention_map(encoder, preprocessor, TEXTS[0]).scores.shape[:2] == (2, 2)
    pair = analysis.attention_map(encoder, preprocessor, (firsts[0], seconds[0]))
    assert pair.scores.shape[:2] == (2, 2)


@advice("Give more texts, or a smaller `min_occurrences`.")
def test_rare_word_pieces(encoder, preprocessor):
    with warned():
        analysis.contextuality(encoder, preprocessor, ["why"])
    analysis.contextuality(encoder, preprocessor, ["why", "why not"], min_occurrences=2)
    analysis.contextuality(encoder, preprocessor, ["why"] * 5)


@advice("Give their numbers as a list.")
def test_encoders_of_different_depth(encoder, config, preprocessor):
    other = kbl.BertEncoder(config, num_hidden_layers=1)
    with refused():
        analysis.layer_similarity(encoder, preprocessor, TEXTS, layers="all", other=other)
    found = analysis.layer_similarity(encoder, preprocessor, TEXTS, layers=[0, 1], other=other)
    assert np.shape(found.cka) == (2, 2)


@advice(
    "Give both: layer_weights(encoder, preprocessor, texts).",
    "Make one with combine='weighted', or give the encoder itself: model.get_layer(...).",
)
def test_layer_weights(config, encoder, preprocessor):
    attention = kbl.BertEncoder(config, combine="attention", name="bert")
    with refused():
        analysis.layer_weights(attention)
    assert len(analysis.layer_weights(attention, preprocessor, TEXTS).weights) == 2
    with refused():
        analysis.layer_weights(encoder)
    weighted = kbl.BertEncoder(config, combine="weighted", name="first")
    assert len(analysis.layer_weights(weighted).weights) == 2
    text = keras.Input((), dtype="string")
    ids = preprocessor(text)
    second = kbl.BertEncoder(config, combine="weighted", name="second")
    model = keras.Model(text, [one(ids)["encoder_outputs"] for one in (weighted, second)])
    with refused():
        analysis.layer_weights(model)
    assert len(analysis.layer_weights(model.get_layer("second")).weights) == 2


@advice(
    "Leave `layers` and `combine` out.",
    "Give the LayerCombination that made them as `combine`.",
    "extract_embeddings(..., pooling='mean') makes the ones that go with the default.",
)
def test_neighbours(config, encoder, preprocessor):
    with refused():
        embeddings = analysis.extract_embeddings(encoder, preprocessor, TEXTS)
        analysis.neighbours(encoder, preprocessor, embeddings, ["why"])
    embeddings = analysis.extract_embeddings(encoder, preprocessor, TEXTS, pooling="mean")
    with refused():
        analysis.neighbours(encoder, preprocessor, embeddings, ["why"], layers=[1], combine="max")
    found = analysis.neighbours(encoder, preprocessor, embeddings, ["why"]).found
    assert found[0][0][0].number == TEXTS.index("why")
    combination = kbl.LayerCombination("weighted")
    arguments = {"pooling": "mean", "layers": "all", "combine": combination}
    embeddings = analysis.extract_embeddings(encoder, preprocessor, TEXTS, **arguments)
    with refused():
        analysis.neighbours(encoder, preprocessor, embeddings, ["why"])
    found = analysis.neighbours(encoder, preprocessor, embeddings, ["why"], combine=combination).found
    assert found[0][0][0].number == TEXTS.index("why")


@advice(
    "Install it with: pip install {}, or everything that the analysis uses with: "
    "pip install 'keras-bert-layers[analysis]'.",
    "There is no progress bar without the package tqdm: pip install tqdm.",
    not_here="nothing is installed by a test",
)
def test_what_to_install():
    for package in ("matplotlib", "pandas", "scikit-learn", "tensorboard", "tqdm"):
        assert package in extras()["analysis"] + extras()["plot"]


@advice("BertEncoder(..., combine='weighted').")
def test_probes_of_what_is_learned(encoder, config, preprocessor):
    pytest.importorskip("sklearn")
    with refused():
        analysis.probe_layers(encoder, preprocessor, TEXTS, [0, 1] * 3, combinations=[("weighted", "all")], folds=2)
    states = kbl.BertEncoder(config, combine="weighted")(preprocessor(TEXTS))["encoder_outputs"]
    assert states.shape == (6, 12, 16)


@advice("Where several labels can hold of one text, ask for one of them at a time: [row[0] for row in labels]")
def test_several_labels_of_a_text(encoder, preprocessor):
    pytest.importorskip("sklearn")
    labels = [[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 0]]
    with refused():
        analysis.probe_layers(encoder, preprocessor, TEXTS, labels, folds=2)
    for column in (0, 1):
        analysis.probe_layers(encoder, preprocessor, TEXTS, [row[column] for row in labels], layers=[1], folds=2)


@advice(
    " without a label out, and its label too.",
    "Numbers on a scale become two classes with numpy.digitize(",
    ".astype(int).",
    ", ask for one of them at a time: [row[0] for row in ",
)
def test_labels_of_a_projection(encoder, preprocessor):
    pytest.importorskip("sklearn")

    def project(labels, texts=TEXTS):
        assert analysis.project(encoder, preprocessor, texts, labels, layers=[1]).layers == [1]

    labels = ["a", None, "b", "a", "b", "a"]
    with refused():
        project(labels)
    kept = [number for number, label in enumerate(labels) if label is not None]
    project([labels[number] for number in kept], [TEXTS[number] for number in kept])
    labels = [1.0, 4.5, 3.0, 2.0, 0.5, 2.5]
    with refused():
        project(labels)
    assert np.digitize(labels, [2.5]).tolist() == [0, 1, 1, 0, 0, 1]
    project(np.digitize(labels, [2.5]))
    project(np.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 2.0]).astype(int))
    labels = [[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 0]]
    with refused():
        project(labels)
    project([row[0] for row in labels])


@advice("Choose the column: table['label'].")
def test_a_table_of_labels(encoder, preprocessor):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    table = pandas.DataFrame({"label": ["a", "b"] * 3, "page": range(6)})
    with refused():
        analysis.project(encoder, preprocessor, TEXTS, table)
    assert analysis.project(encoder, preprocessor, TEXTS, table["label"], layers=[1]).labels == ["a", "b"] * 3


@advice("Join some of them, as in (firsts, [' '.join(pair) for pair in zip(seconds, thirds)]).")
def test_three_segments(encoder, preprocessor):
    firsts, seconds, thirds = TEXTS[:2], TEXTS[2:4], TEXTS[4:]
    with pytest.warns(UserWarning, match="3 segments"), refused():
        analysis.extract_embeddings(encoder, preprocessor, (firsts, seconds, thirds))
    joined = (firsts, [" ".join(pair) for pair in zip(seconds, thirds)])  # noqa: B905 - as the message writes it
    assert len(analysis.extract_embeddings(encoder, preprocessor, joined, pooling="mean").vectors) == 2


@advice(
    "Take the same BERT in Hugging Face's format: BertEncoder.from_pretrained(...).",
    "Select layers from 1 to ",
)
def test_scores_of_other_encoders(encoder_factory, encoder, preprocessor, minilm_directory):
    with refused():
        analysis.attention(encoder_factory("tfhub"), preprocessor, TEXTS)
    with refused():
        analysis.attention(encoder, preprocessor, TEXTS, layers="all+embeddings")
    other = kbl.BertEncoder.from_pretrained(minilm_directory, num_hidden_layers=1)
    analysis.attention(other, preprocessor, TEXTS, layers=[1])


@advice("BertPreprocessor.from_pretrained(...) makes the one that belongs to a checkpoint.")
def test_a_tokenizer_as_preprocessor(encoder, preprocessor, minilm_directory):
    with refused():
        analysis.extract_embeddings(encoder, preprocessor.tokenizer, TEXTS)
    other = kbl.BertEncoder.from_pretrained(minilm_directory, num_hidden_layers=1, combine="last")
    own = kbl.BertPreprocessor.from_pretrained(minilm_directory, sequence_length=12)
    assert analysis.extract_embeddings(other, own, TEXTS, pooling="mean").vectors[0].shape[-1] == 384


@advice("Leave labels out with dataset.map(lambda text, label: text).")
def test_a_dataset_with_labels(encoder, preprocessor):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, [0, 1] * 3))
    with refused():
        analysis.extract_embeddings(encoder, preprocessor, dataset, pooling="mean")
    dataset = dataset.map(lambda text, label: text)
    assert len(analysis.extract_embeddings(encoder, preprocessor, dataset, pooling="mean").vectors) == 6


@advice("To turn pairs into columns: tuple(map(list, zip(*pairs))).")
def test_pairs(encoder, preprocessor):
    pairs = list(zip(TEXTS[:3], TEXTS[3:], strict=True))
    with refused():
        analysis.extract_embeddings(encoder, preprocessor, pairs, pooling="mean")
    columns = tuple(map(list, zip(*pairs)))  # noqa: B905 - as the message writes it
    assert len(analysis.extract_embeddings(encoder, preprocessor, columns, pooling="mean").vectors) == 3


@advice(
    "Give the encoder that it wraps, `encoder.encoder`, and a preprocessor made without long_documents=True",
    "Give the encoder in the model: model.get_layer(...).",
    "BertEncoder.from_pretrained(...) makes one.",
)
def test_what_is_no_encoder(encoder, preprocessor, minilm_directory):
    def extract(encoder):
        return analysis.extract_embeddings(encoder, preprocessor, TEXTS, pooling="mean")

    expected = extract(encoder).vectors
    windows = kbl.WindowedEncoder(encoder, 24, 4)
    with refused():
        extract(windows)
    np.testing.assert_array_equal(extract(windows.encoder).vectors, expected)
    text = keras.Input((), dtype="string")
    model = keras.Model(text, encoder(preprocessor(text))["encoder_outputs"])
    with refused():
        extract(model)
    np.testing.assert_array_equal(extract(model.get_layer(encoder.name)).vectors, expected)
    with refused():
        extract(str(minilm_directory))
    extract(kbl.BertEncoder.from_pretrained(minilm_directory, num_hidden_layers=1, combine="last"))


@advice("Install a font that has them, such as Noto Sans CJK")
def test_characters_without_a_font(encoder, preprocessor, monkeypatch, tmp_path):
    """A font made here in place of Noto's, which is large."""
    manager = pytest.importorskip("matplotlib.font_manager").fontManager
    pytest.importorskip("fontTools")
    from ..analysis.made_font import make_font

    monkeypatch.setattr(manager, "ttflist", [font for font in manager.ttflist if font.name.startswith("DejaVu")])
    similarity = analysis.layer_similarity(encoder, preprocessor, TEXTS, other=encoder)
    with warned():
        similarity.plot("天", "a")
    make_font(tmp_path / "made.ttf", "天")
    manager.addfont(tmp_path / "made.ttf")
    with welcome():
        similarity.plot("天", "a")


@advice("Give another name, or remove it yourself.")
def test_embeddings_where_something_else_stands(encoder, preprocessor, tmp_path):
    embeddings = analysis.extract_embeddings(encoder, preprocessor, TEXTS[:1])
    place = tmp_path / "vectors.npz"
    place.write_text("mine")
    with refused():
        embeddings.save(place)
    assert place.read_text() == "mine"
    embeddings.save(tmp_path / "others.npz")
    place.unlink()
    embeddings.save(place)
    assert analysis.Embeddings.load(place).tokens == embeddings.tokens
