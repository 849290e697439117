"""`BertPreprocessor` on SentencePiece and on MPNet's word pieces: rows, files, exports."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from tests.text.test_sentence_piece_tokenizer import (
    fast_tokenizer,  # noqa: F401 - fixtures
    saved,  # noqa: F401
    small_model,
    write_json,
)

transformers = pytest.importorskip("transformers", reason="the reference is transformers' tokenizers")

FIRST = ["hello new newer good", "", "a", "AAa 中文 good good good good (xyz)"]
SECOND = ["good", "a new", "", "hello hello hello hello"]
NAMES = {"input_ids": "input_word_ids", "attention_mask": "input_mask"}


@pytest.fixture
def directory(saved, tmp_path) -> pathlib.Path:  # noqa: F811
    path = pathlib.Path(shutil.copytree(saved, tmp_path / "checkpoint"))
    write_json(path / "config.json", {"model_type": "xlm-roberta", "max_position_embeddings": 34})
    return path


@pytest.mark.parametrize("length", [5, 8, 9, 24])
@pytest.mark.parametrize("texts", [(FIRST,), (FIRST, SECOND)], ids=["texts", "pairs"])
def test_rows_are_those_of_transformers(directory, fast_tokenizer, texts, length):  # noqa: F811
    preprocessor = kbl.BertPreprocessor.from_pretrained(
        directory, sequence_length=length, return_special_tokens_mask=True
    )
    ids = preprocessor(texts if len(texts) > 1 else texts[0])
    expected = fast_tokenizer(
        *texts, max_length=length, padding="max_length", truncation=True, return_special_tokens_mask=True
    )
    for theirs, ours in {**NAMES, "special_tokens_mask": "special_tokens_mask"}.items():
        assert ids[ours].numpy().tolist() == expected[theirs]
    assert not ids["input_type_ids"].numpy().any()


def test_words_and_offsets(directory, fast_tokenizer):  # noqa: F811
    preprocessor = kbl.BertPreprocessor.from_pretrained(
        directory, sequence_length=12, return_word_ids=True, return_offsets="characters", padding="longest"
    )
    words = [["hello", "newer", "中文"], ["good"]]
    ids = preprocessor(words)
    expected = fast_tokenizer(words, is_split_into_words=True, padding=True)
    assert ids["input_word_ids"].numpy().tolist() == expected["input_ids"]
    word_ids = [[-1 if word is None else word for word in expected.word_ids(row)] for row in range(2)]
    assert ids["word_ids"].numpy().tolist() == word_ids
    ids = preprocessor(("hello newer", "a"))
    assert ids["word_ids"].numpy().tolist() == [[-1, 0, 1, 1, -1, -1, 0, -1]]
    assert ids["offsets"].numpy()[0].tolist() == [[0, 0], [0, 5], [5, 9], [9, 11], [0, 0], [0, 0], [0, 1], [0, 0]]


def test_positions_begin_behind_those_of_padding(directory):
    """Of 34 rows XLM-R uses 32."""
    kbl.BertPreprocessor.from_pretrained(directory, sequence_length=32)
    with pytest.raises(ValueError, match="at most 32"):
        kbl.BertPreprocessor.from_pretrained(directory, sequence_length=33)


def test_a_tokenizer_brings_its_own_options():
    tokenizer = kbl.SentencePieceTokenizer(small_model().to_bytes(), pair_format="bert")
    preprocessor = kbl.BertPreprocessor(tokenizer, sequence_length=8)
    assert preprocessor(("a", "a"))["input_type_ids"].numpy().tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]
    with pytest.raises(ValueError, match="Received: lowercase=False"):
        kbl.BertPreprocessor(tokenizer, lowercase=False)
    with pytest.raises(ValueError, match="pair_format='xlnet'"):
        kbl.BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], pair_format="xlnet")
    with pytest.raises(ValueError, match="at least 5 for 2 segments"):
        kbl.BertPreprocessor(kbl.SentencePieceTokenizer(small_model().to_bytes()), sequence_length=4)(("a", "a"))


def test_keras_file(directory, tmp_path):
    text = keras.Input((), dtype="string")
    model = keras.Model(text, kbl.BertPreprocessor.from_pretrained(directory, sequence_length=8)(text))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected, ids = model(tf.constant(FIRST)), loaded(tf.constant(FIRST))
    for name in expected:
        np.testing.assert_array_equal(ids[name], expected[name])
    config = loaded.layers[-1].get_config()
    config["vocabulary"] = {**config["vocabulary"], "model": str(directory / "tokenizer.json")}
    with pytest.raises(ValueError, match="nothing was read"):
        kbl.BertPreprocessor.from_config(config)


def test_exports(tmp_path, saved_model_runner):
    """From C, through ALBERT's normalisation; one model for all signatures; and no text becomes a special token."""
    tokenizer = kbl.SentencePieceTokenizer(small_model().to_bytes(), albert_normalization={})
    preprocessor = kbl.BertPreprocessor(tokenizer, sequence_length=12, return_offsets="bytes")
    config = kbl.BertConfig(
        vocab_size=tokenizer.vocabulary_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    text = keras.Input((), dtype="string", name="text")
    encoder = kbl.BertEncoder(config, combine="mean")
    model = keras.Model(text, encoder(preprocessor(text))["encoder_outputs"])
    directory = tmp_path / "1"
    kbl.export_saved_model(model, directory, signatures=["tokens"], check=False)
    assert not kbl.serving.check(directory, run=False)
    card = json.loads((directory / "keras_bert_layers.json").read_text("utf-8"))
    assert card["vocabulary"]["size"] == tokenizer.vocabulary_size
    # TensorFlow writes what makes a resource twice, as a function for Python and in the graph that a server runs.
    assert (directory / "saved_model.pb").read_bytes().count("▁hello".encode()) == 2
    texts = [*map(str.encode, FIRST), b"<s> </s> a", b"\xff a", "``É'' \U000f1001".encode()]
    expected = preprocessor(texts)
    served, tokens = saved_model_runner.run_requests(
        directory, [(name, {"text": texts}) for name in ("serving_default", "tokens")]
    )
    np.testing.assert_allclose(next(iter(served.values())), model(tf.constant(texts)), atol=1e-5)
    np.testing.assert_array_equal(tokens["offsets"], expected["offsets"])
    # By itself.
    preprocessor.export(tmp_path / "preprocessor")
    loaded = tf.saved_model.load(str(tmp_path / "preprocessor"))
    np.testing.assert_array_equal(loaded(tf.constant(texts))["input_word_ids"], expected["input_word_ids"])


def test_pairs_without_type_ids(directory):
    """Where nothing says which token is of which text, nothing is guessed."""
    preprocessor = kbl.BertPreprocessor.from_pretrained(directory, sequence_length=12)
    config = kbl.BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(ValueError, match="texts as pairs, and a tokenizer with pair_format='roberta'"):
        kbl.analysis.contextuality(kbl.BertEncoder(config), preprocessor, (FIRST, SECOND))


def test_word_pieces_of_mpnet(tmp_path):
    names = {
        "pad_token": "<pad>",
        "unk_token": "[UNK]",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    tokens = [*names.values(), "hello", "new", "##er", "good", "a", "!"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    tokenizer = transformers.MPNetTokenizerFast(str(tmp_path / "vocab.txt"), **names)
    tokenizer.save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "mpnet", "max_position_embeddings": 514})
    reference = transformers.MPNetTokenizerFast.from_pretrained(tmp_path, split_special_tokens=True)
    for missing in (None, "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"):
        if missing:
            (tmp_path / missing).unlink()
        preprocessor = kbl.BertPreprocessor.from_pretrained(tmp_path, sequence_length=9)
        for texts in ((FIRST,), (FIRST, SECOND)):
            expected = reference(*texts, max_length=9, padding="max_length", truncation=True)
            ids = preprocessor(texts if len(texts) > 1 else texts[0])
            for theirs, ours in NAMES.items():
                assert ids[ours].numpy().tolist() == expected[theirs]
            assert not ids["input_type_ids"].numpy().any()
    assert preprocessor.get_config()["pair_format"] == "roberta"
    with pytest.raises(ValueError, match="at most 512"):
        kbl.BertPreprocessor.from_pretrained(tmp_path, sequence_length=513)
