"""What is written is opened by transformers with equal outputs, and read back bit for bit."""

import dataclasses
import inspect
import json
import pathlib
import re
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_bert_layers as kbl
from keras_bert_layers.cli import main
from keras_bert_layers.text.sentence_piece_model import CONTROL, UNKNOWN, UNUSED, SentencePieceModel

from ..encoders.test_architectures import CASES
from ..encoders.tiny_encoders import HUGGINGFACE_NAMES, SIZES, make_ids, randomize, renamed
from ..text.test_sentence_piece_tokenizer import TEXTS, small_model

transformers = pytest.importorskip("transformers", reason="the reference is transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "é", "中", "!", "", "Ab", "ab", "<s>", "</s>"]


def make_encoder(model_type: str = "bert", sizes: dict | None = None, **options) -> kbl.BertEncoder:
    config = {**SIZES, **CASES[model_type][1], **(sizes or {})}
    if model_type == "distilbert":
        del config["type_vocab_size"]
    encoder = kbl.BertEncoder(kbl.BertConfig.from_dict({"model_type": model_type, **config}), **options)
    randomize(encoder.weights)
    return encoder


def assert_read_back(encoder: kbl.BertEncoder, source: Any) -> kbl.BertEncoder:
    again = kbl.BertEncoder.from_pretrained(source)
    assert again.config == encoder.config
    expected, read = encoder.pretrained_weights(), again.pretrained_weights()
    assert list(read) == list(expected)
    for name in expected:
        assert np.array_equal(read[name], expected[name]), name
    return again


@pytest.mark.parametrize("model_type", CASES)
def test_transformers_opens_it(model_type, tmp_path):
    encoder = make_encoder(model_type, pooler=model_type not in ("distilbert", "electra"))
    kbl.save_pretrained(encoder, tmp_path / "out")
    theirs = getattr(transformers, CASES[model_type][0]).from_pretrained(tmp_path / "out")
    auto = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert auto.architectures == [type(theirs).__name__.removeprefix("TF")]
    ids = make_ids()
    padding = theirs.config.pad_token_id
    token_ids = np.where(ids["input_word_ids"] == padding, 5, ids["input_word_ids"])
    ids["input_word_ids"] = np.where(ids["input_mask"], token_ids, padding)
    if encoder.config.type_vocab_size == 1:
        ids["input_type_ids"] *= 0
    known = [name for name in HUGGINGFACE_NAMES if name in inspect.signature(theirs.call).parameters]
    named = renamed(ids, HUGGINGFACE_NAMES)
    expected = theirs({name: named[name] for name in known}, output_hidden_states=True)
    mask = ids["input_mask"].astype(bool)
    states = encoder.hidden_states(ids, "all+embeddings")
    for state, other in zip(states, expected.hidden_states, strict=True):
        np.testing.assert_allclose(state.numpy()[mask], other.numpy()[mask], rtol=0, atol=1e-5)
    if encoder.has_pooler:
        np.testing.assert_allclose(encoder(ids)["pooled_output"], expected.pooler_output, rtol=0, atol=1e-5)
    assert_read_back(encoder, theirs)
    assert_read_back(encoder, tmp_path / "out")


def test_a_pooler_that_the_architecture_lacks_is_left_out(tmp_path):
    with pytest.warns(UserWarning, match="left out, since models of type distilbert have none"):
        kbl.save_pretrained(make_encoder("distilbert"), tmp_path / "out")
    assert not kbl.BertEncoder.from_pretrained(tmp_path / "out").has_pooler


def test_lora_is_merged(tmp_path):
    encoder = make_encoder(combine="sum")
    before = encoder.pretrained_weights()
    encoder.enable_lora(2)
    encoder.transformer_layers[0].feed_forward.intermediate.enable_lora(2)
    encoder.embeddings.word_embeddings.enable_lora(2)
    randomize([weight for weight in encoder.weights if weight.name.startswith("lora_")], seed=1)
    ids = make_ids()
    kbl.save_pretrained(encoder, tmp_path / "out")
    again = assert_read_back(encoder, tmp_path / "out")
    np.testing.assert_allclose(again.hidden_states(ids)[-1], encoder.hidden_states(ids)[-1], rtol=0, atol=1e-5)
    changed = {name for name, values in again.pretrained_weights().items() if not np.array_equal(values, before[name])}
    numbers = range(1, 4)
    kernels = {f"layer_{number}/attention/{part}/kernel" for number in numbers for part in ("query", "value")}
    assert changed == kernels | {"layer_1/feed_forward/intermediate/kernel", "embeddings/word_embeddings"}


def test_fewer_layers(tmp_path):
    encoder = make_encoder("albert", {"num_hidden_layers": 4}, num_hidden_layers=2, name="first")
    kbl.save_pretrained(encoder, tmp_path / "out")
    again = kbl.BertEncoder.from_pretrained(tmp_path / "out")
    assert (again.num_layers, again.config.num_hidden_groups, again.has_pooler) == (2, 1, False)
    np.testing.assert_array_equal(again.hidden_states(make_ids())[-1], encoder.hidden_states(make_ids())[-1])


def test_half_precision_weights_are_read_back(tmp_path):
    encoder = make_encoder(dtype="bfloat16")
    kbl.save_pretrained(encoder, tmp_path / "out")
    assert_read_back(encoder, tmp_path / "out")


def test_the_encoder_and_the_tokenizer_of_a_model(tmp_path):
    encoder, preprocessor = make_encoder(), kbl.BertPreprocessor(WORDS, sequence_length=8)
    text = keras.Input((), dtype="string")
    inner = keras.Model(text, kbl.WindowedEncoder(encoder, window=8, stride=2)(preprocessor(text))["pooled_output"])
    model = keras.Model(text, keras.layers.Dense(2)(inner(text)))
    kbl.save_pretrained(model, tmp_path / "out")
    assert_read_back(encoder, tmp_path / "out")
    assert kbl.BertTokenizer.from_pretrained(tmp_path / "out").get_config() == preprocessor.tokenizer.get_config()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert len(again.weights) == len(model.weights)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False, "strip_accents": True, "tokenize_chinese_chars": False},
        {"added_tokens": [{"content": "ab", "single_word": True}, {"content": "[E1]", "special": True}, "new word"]},
        {"pair_format": "roberta", "special_tokens": {"cls_token": "<s>", "sep_token": "</s>"}},
    ],
)
def test_word_pieces(options, tmp_path):
    tokenizer = kbl.BertTokenizer(WORDS, **options)
    kbl.save_pretrained(make_encoder(), tmp_path, preprocessor=tokenizer)
    assert kbl.BertTokenizer.from_pretrained(tmp_path).get_config() == tokenizer.get_config()
    preprocessor = kbl.BertPreprocessor(tokenizer, sequence_length=24)
    texts = ["Ab é中! a", "[E1]Éb new wordab ab", "", "AB ab abab"]
    pairs = preprocessor((texts, texts[::-1]))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    slow = transformers.AutoTokenizer.from_pretrained(tmp_path, use_fast=False)
    assert theirs.is_fast
    if not options:
        own = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"))
        assert theirs.backend_tokenizer.to_str() == own.backend_tokenizer.to_str()
    assert theirs.model_max_length == SIZES["max_position_embeddings"]
    assert len(theirs) == len(tokenizer.vocabulary)
    # Only the fast one of transformers finds added tokens as ours does.
    for alike in (theirs,) if "added_tokens" in options else (theirs, slow):
        encoded = alike(texts, texts[::-1], padding="max_length", max_length=24, truncation=True)
        assert encoded["input_ids"] == pairs["input_word_ids"].numpy().tolist()
    # Without the files that say it twice.
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).unlink()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert fast(texts, texts[::-1])["input_ids"] == [
        row[:count]
        for row, count in zip(pairs["input_word_ids"].numpy().tolist(), pairs["input_mask"].numpy().sum(1), strict=True)
    ]


def saved_sentence_piece(tokenizer: kbl.SentencePieceTokenizer, directory: pathlib.Path) -> Any:
    """Writes the tokenizer, and gives it as transformers opens it from `tokenizer.json`."""
    kbl.save_pretrained(make_encoder("xlm-roberta"), directory, preprocessor=tokenizer)
    assert kbl.SentencePieceTokenizer.from_pretrained(directory).get_config() == tokenizer.get_config()
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))


ALBERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


@pytest.mark.parametrize(
    ("file", "class_name", "options"),
    [
        ("sentencepiece.bpe.model", "XLMRobertaTokenizer", {}),
        ("sentencepiece.bpe.model", "CamembertTokenizer", {}),
        (
            "spiece.model",
            "AlbertTokenizer",
            {
                "special_tokens": ALBERT,
                "albert_normalization": {"lowercase": True, "strip_accents": False},
                "pair_format": "bert",
            },
        ),
        (None, "PreTrainedTokenizerFast", {"pair_format": "bert"}),
    ],
)
def test_sentence_pieces(file, class_name, options, tmp_path):
    model = small_model()
    before = {"CamembertTokenizer": ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]}
    if class_name in before:
        own = before[class_name]
        model.pieces[:4] = own
        model.kinds[4:4] = [CONTROL, CONTROL, CONTROL]
        model.scores[:0] = [0.0, 0.0, 0.0]
    if file == "spiece.model":
        model.pieces = [
            {"<s>": "[CLS]", "</s>": "[SEP]", "<mask>": "[MASK]"}.get(piece, piece) for piece in model.pieces
        ]
        model.kinds[model.pieces.index("▁9,")] = UNUSED
    tokenizer = kbl.SentencePieceTokenizer(model, **options)
    fast = saved_sentence_piece(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert config["tokenizer_class"] == class_name
    assert sorted(path.name for path in tmp_path.glob("*.model")) == ([file] if file else [])
    # Special tokens written in a text are such, and what looks like SentencePiece's space is one, for transformers.
    texts = [text for text in TEXTS if "<s>" not in text and "▁" not in text]
    if class_name == "AlbertTokenizer":
        # Its converter's penalty for numbers with a comma is below that of unknown characters, and quotes that it has
        # replaced are no beginning of a text.
        texts = [text for text in texts if "9," not in text and not text.startswith("``")]
    pairs = kbl.BertPreprocessor(tokenizer, sequence_length=700)((texts, texts[::-1]))
    lengths = pairs["input_mask"].numpy().sum(axis=1)
    expected = [row[:length] for row, length in zip(pairs["input_word_ids"].numpy().tolist(), lengths, strict=True)]
    encoded = fast(texts, texts[::-1])
    assert encoded["input_ids"] == expected
    types = [row[:length] for row, length in zip(pairs["input_type_ids"].numpy().tolist(), lengths, strict=True)]
    assert encoded["token_type_ids"] == types
    if file:
        # SentencePiece's own file alone says the same.
        (tmp_path / "tokenizer.json").unlink()
        assert kbl.SentencePieceTokenizer.from_pretrained(tmp_path).get_config() == tokenizer.get_config()
        assert SentencePieceModel.from_file(tmp_path / file).kinds.count(UNKNOWN) == 1


def test_only_its_own_directories_are_replaced(tmp_path):
    first, second = make_encoder(), make_encoder("mpnet")
    kbl.save_pretrained(first, tmp_path / "out", preprocessor=kbl.BertTokenizer(WORDS))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        kbl.save_pretrained(second, tmp_path / "out")
    kbl.save_pretrained(second, tmp_path / "out", overwrite=True)
    assert_read_back(second, tmp_path / "out")
    assert not (tmp_path / "out" / "vocab.txt").exists()
    (tmp_path / "out" / "save_pretrained.json").unlink()
    with pytest.raises(FileExistsError, match=r"has no save_pretrained\.json, and is kept"):
        kbl.save_pretrained(first, tmp_path / "out", overwrite=True)
    assert_read_back(second, tmp_path / "out")


@pytest.mark.parametrize(
    ("model_type", "sizes", "options", "message"),
    [
        ("roberta", {"position_offset": 3}, {}, "position_offset=2. Received: position_offset=3"),
        ("mpnet", {"relative_attention_num_buckets": None}, {}, "Received: relative_attention_num_buckets=None"),
        ("albert", {"num_hidden_groups": None}, {}, "Received: num_hidden_groups=None"),
        (
            "albert",
            {"num_hidden_layers": 6},
            {"num_hidden_layers": 4},
            "Received: num_hidden_layers=4 of 6, in 2 groups",
        ),
    ],
)
def test_what_the_format_cannot_say_is_refused(model_type, sizes, options, message, tmp_path):
    encoder = make_encoder(model_type, sizes, **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        kbl.save_pretrained(encoder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_converts(data_directory, tmp_path):
    source, out = data_directory / "checkpoints" / "google_tiny", tmp_path / "out"

    def convert(*options: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["convert", str(source), str(out), *options])
        return result.exit_code, result.output

    assert convert() == (0, "")
    assert_read_back(kbl.BertEncoder.from_pretrained(source), out)
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    text = "The café's 中文 reviewers, unbelievably!"
    ids = kbl.BertTokenizer.from_pretrained(source).tokenize(text).to_list()[0]
    assert theirs(text, add_special_tokens=False)["input_ids"] == ids
    code, output = convert("--no-tokenizer")
    assert code == 1
    assert output.startswith("Error: Expected a directory that does not exist yet.")
    assert convert("--no-tokenizer", "--overwrite") == (0, "")
    assert not (out / "vocab.txt").exists()


def test_distilberts_epsilon_is_written_into_transformers(tmp_path):
    """It takes no notice of the key, and neither may a checkpoint's encoder."""
    encoder = make_encoder("distilbert", {"layer_norm_eps": 1e-2}, pooler=False)
    kbl.save_pretrained(encoder, tmp_path / "out")
    theirs = transformers.TFDistilBertModel.from_pretrained(tmp_path / "out")
    theirs.config.layer_norm_eps = 1e-2
    again, ids = kbl.BertEncoder.from_pretrained(theirs), np.array([[5, 6, 7]])
    np.testing.assert_allclose(again({"input_ids": ids})["sequence_output"], theirs(ids)[0], rtol=0, atol=1e-5)
    other = kbl.BertEncoder(dataclasses.replace(encoder.config, layer_norm_eps=1e-2), pooler=False)
    with pytest.raises(ValueError, match="layer_norm_eps=1e-12. Received: layer_norm_eps=0.01"):
        kbl.save_pretrained(other, tmp_path / "other")
