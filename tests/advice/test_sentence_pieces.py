"""What the messages about SentencePiece's models say is done, and helps."""

import json
import shutil

import keras
import pytest

import keras_bert_layers as kbl
from keras_bert_layers.serving.served_model import ServedModel
from keras_bert_layers.serving.signatures import SIGNATURES
from keras_bert_layers.text import sentence_piece_model
from keras_bert_layers.text.sentence_piece_tokenizer import SentencePieceTokenizer

from ..text.test_sentence_piece_tokenizer import small_model
from .advice import advice, refused, welcome


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "spiece.model"
    path.write_bytes(small_model().to_bytes())
    return path


@advice(
    'If they have other names, say them: special_tokens={"cls_token": "[CLS]"}; for XLM-R and CamemBERT use',
    "Take the files from one checkpoint.",
)
def test_names_of_special_tokens(path):
    model = small_model()
    model.pieces[0] = "[CLS]"
    path.write_bytes(model.to_bytes())
    with refused():
        SentencePieceTokenizer(path)
    with refused():
        SentencePieceTokenizer(path, special_tokens={"cls_token": "[CLS]", "unk_token": "▁a"})
    with welcome():
        tokenizer = SentencePieceTokenizer(path, special_tokens={"cls_token": "[CLS]"})
    assert tokenizer.cls_token_id == 0
    # XLM-R's own file, whose ids are shifted.
    model = small_model()
    order = [3, 0, 2, *range(4, len(model.pieces) - 1)]
    for key in ("pieces", "scores", "kinds"):
        setattr(model, key, [getattr(model, key)[number] for number in order])
    shifted = path.rename(path.with_name("sentencepiece.bpe.model"))
    shifted.write_bytes(model.to_bytes())
    with refused("for XLM-R and CamemBERT use"):
        SentencePieceTokenizer(shifted)
    assert SentencePieceTokenizer.from_pretrained(shifted.parent).pad_token_id == 1


@advice("Take the model that belongs to the weights.", "Make a new tokenizer from a model file that you trust.")
def test_models_that_are_none(path, monkeypatch):
    config = SentencePieceTokenizer(path).get_config()
    with refused():
        SentencePieceTokenizer.from_config(config | {"model": str(path)})
    assert SentencePieceTokenizer(path).get_config() == config
    copy = shutil.copy(path, path.with_name("large"))
    with monkeypatch.context() as patch:
        patch.setattr(sentence_piece_model, "_MAX_BYTES", len(path.read_bytes()))
        with open(copy, "ab") as file:
            file.write(b"x")
        with refused():
            SentencePieceTokenizer(copy)
        SentencePieceTokenizer(path)
    assert json.loads(json.dumps(config)) == config


@advice("Give them to the tokenizer.", "Leave it out of `signatures`.")
def test_a_tokenizer_in_place_of_a_vocabulary(path, encoder):
    with refused():
        kbl.BertPreprocessor(SentencePieceTokenizer(path), sequence_length=8, pair_format="roberta", lowercase=False)
    with welcome():
        tokenizer = SentencePieceTokenizer(path, pair_format="roberta", albert_normalization={"lowercase": False})
        preprocessor = kbl.BertPreprocessor(tokenizer, sequence_length=8)
    pair = [keras.Input((), dtype="string", name=name) for name in ("first", "second")]
    served = ServedModel(keras.Model(pair, encoder(preprocessor(tuple(pair)))["encoder_outputs"]))
    with refused():
        SIGNATURES["words"](served)
    assert [spec.dtype for spec in SIGNATURES["embed"](served).inputs.values()] == ["string"] * 2
