"""What the messages about writing Hugging Face's format say is done, and helps."""

import keras
import pytest

import keras_bert_layers as kbl

from ..checkpoints.test_save_pretrained import assert_read_back, make_encoder
from ..encoders.tiny_encoders import make_tf_model, quantize
from .advice import advice, refused, welcome


def save(model, directory, **options) -> None:
    with welcome():
        kbl.save_pretrained(model, directory, **options)


@advice(
    "Of several give the one that you mean; the model inside a HuggingFaceEncoder is written by its own",
    "Say whose is written: save_pretrained(..., preprocessor=preprocessor).",
)
def test_several_in_a_model(vocabulary, preprocessor, tmp_path):
    encoders = [make_encoder(name, {"vocab_size": len(vocabulary)}, pooler=False) for name in ("bert", "mpnet")]
    others = [preprocessor, kbl.BertPreprocessor(vocabulary, lowercase=False, sequence_length=12)]
    text = keras.Input((), dtype="string")
    ids = [other(text) for other in others]
    both = keras.Model(text, [encoder(part)["sequence_output"] for encoder, part in zip(encoders, ids, strict=True)])
    with refused():
        kbl.save_pretrained(both, tmp_path / "both")
    save(encoders[1], tmp_path / "second")
    assert_read_back(encoders[1], tmp_path / "second")
    one = keras.Model(text, [encoders[0](part)["sequence_output"] for part in ids])
    with refused():
        kbl.save_pretrained(one, tmp_path / "one")
    save(one, tmp_path / "one", preprocessor=others[1])
    assert not kbl.BertTokenizer.from_pretrained(tmp_path / "one").lowercase


def test_the_model_inside_a_huggingface_encoder(tmp_path):
    pytest.importorskip("transformers")
    encoder = kbl.HuggingFaceEncoder(make_tf_model())
    with refused("with 0 inside"):
        kbl.save_pretrained(encoder, tmp_path / "out")
    encoder.tf_model.save_pretrained(tmp_path / "out")
    assert kbl.BertEncoder.from_pretrained(tmp_path / "out").num_layers == 3


@pytest.mark.thorough
@advice("Write it before it is quantised; an export is quantised by export_saved_model(..., quantize=")
def test_a_quantised_encoder(tmp_path):
    encoder = make_encoder()
    ids = {name: keras.Input((None,), dtype="int32", name=name) for name in ("input_word_ids", "input_mask")}
    model = keras.Model(ids, encoder(ids)["sequence_output"])
    save(model, tmp_path / "before")
    kbl.export_saved_model(model, tmp_path / "1", quantize="int8", warmup=False, check=False)
    save(model, tmp_path / "after the export")
    quantize(model)
    with refused():
        kbl.save_pretrained(model, tmp_path / "after")


@advice("the encoder with all layers, or with those of whole groups.")
def test_groups_of_layers(tmp_path):
    sizes = {"num_hidden_layers": 6}
    with refused():
        kbl.save_pretrained(make_encoder("albert", sizes, num_hidden_layers=4), tmp_path / "4")
    for count in (3, 6):
        encoder = make_encoder("albert", sizes, num_hidden_layers=count)
        save(encoder, tmp_path / str(count))
        assert kbl.BertEncoder.from_pretrained(tmp_path / str(count)).num_layers == count


@advice("or the first of two alike: make the tokenizer with another one in its place.")
def test_tokens_that_a_file_cannot_hold(vocabulary, tmp_path):
    cases = [([*vocabulary, "a\nb"], []), ([*vocabulary, ""], []), ([vocabulary[-1], *vocabulary], ["new word"])]
    encoder = make_encoder()
    for number, (tokens, added) in enumerate(cases):
        with refused():
            kbl.save_pretrained(encoder, tmp_path / "no", kbl.BertTokenizer(tokens, added_tokens=added))
        wrong = 0 if added else -1
        tokens[wrong] = "[unused]"
        tokenizer = kbl.BertTokenizer(tokens, added_tokens=added)
        save(encoder, tmp_path / str(number), preprocessor=tokenizer)
