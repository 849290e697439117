"""What an export is called by, what is in it, and what happens when it cannot be written."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from tests.native.saved_model_runner import SavedModelRunner

TEXTS = ["a good film", "the plot was dull and the actor was bad", ""]
OTHERS = ["why?", "", "it is not"]


@pytest.fixture(scope="module")
def config(vocabulary: list[str]) -> kbl.BertConfig:
    return kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )


@pytest.fixture(scope="module")
def numbers_model() -> keras.Model:
    """Without texts and without an encoder, for what concerns neither."""
    numbers = keras.Input((2,), name="numbers")
    return keras.Model(numbers, keras.layers.Dense(3, name="scores")(numbers))


@pytest.fixture
def preprocessor(vocabulary: list[str]) -> kbl.BertPreprocessor:
    return kbl.BertPreprocessor(vocabulary, sequence_length=16)


def text_model(preprocessor: kbl.BertPreprocessor, encoder: kbl.BertEncoder, key: str) -> keras.Model:
    text = keras.Input(shape=(), dtype="string", name="anything")
    return keras.Model(text, encoder(preprocessor(text))[key])


def ids_model(encoder: kbl.BertEncoder, names: tuple[str, ...], length: int | None = None) -> keras.Model:
    inputs = {name: keras.Input((length,), dtype="int32", name=name) for name in names}
    pooled = kbl.SequencePooling("mean")(encoder(inputs)["encoder_outputs"])
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(pooled))


def signature(directory: pathlib.Path) -> tuple[dict[str, tf.TensorSpec], dict[str, tf.TensorSpec]]:
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    return serve.structured_input_signature[1], serve.structured_outputs


def stored_bytes(directory: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in (directory / "variables").glob("variables.data*"))


def test_a_list_of_layers_leaves_with_numbers(config, preprocessor, tmp_path, saved_model_runner: SavedModelRunner):
    encoder = kbl.BertEncoder(config, layers=[0, 2, 1])
    model = text_model(preprocessor, encoder, "encoder_outputs")
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    served = saved_model_runner.run(tmp_path / "1", {"text": TEXTS})
    assert set(served) == {"encoder_outputs_0", "encoder_outputs_1", "encoder_outputs_2"}
    expected = encoder.hidden_states(preprocessor(TEXTS), layers=[0, 2, 1])
    for number, states in enumerate(expected):
        np.testing.assert_allclose(served[f"encoder_outputs_{number}"], states, atol=1e-5, rtol=0)


def test_all_outputs_of_an_encoder_leave_under_their_keys(config, preprocessor, tmp_path):
    text = keras.Input(shape=(), dtype="string", name="text")
    encoder = kbl.BertEncoder(config, combine="stack", return_attention_scores=True)
    kbl.export_saved_model(keras.Model(text, encoder(preprocessor(text))), tmp_path / "1", check=False)
    _, outputs = signature(tmp_path / "1")
    assert {name: (tuple(spec.shape), spec.dtype.name) for name, spec in outputs.items()} == {
        "encoder_outputs": ((None, 2, 16, 16), "float32"),
        "sequence_output": ((None, 16, 16), "float32"),
        "pooled_output": ((None, 16), "float32"),
        "mask": ((None, 16), "bool"),
        "attention_scores": ((None, 2, 2, 16, 16), "float32"),
    }


def test_single_tensors_keep_the_encoders_name_and_two_heads_keep_theirs(config, preprocessor, tmp_path):
    text = keras.Input(shape=(), dtype="string")
    pooled = kbl.BertEncoder(config)(preprocessor(text))["pooled_output"]
    heads = [keras.layers.Dense(2, name="topic")(pooled), keras.layers.Dense(1, name="tone")(pooled)]
    shared = keras.layers.Dense(2, name="head")
    signatures = {"heads": keras.Model(text, heads), "shared": keras.Model(text, [shared(pooled), shared(-pooled)])}
    model = keras.Model(text, pooled)
    kbl.export_saved_model(model, tmp_path / "1", signatures=signatures, warmup=False, check=False)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert {name: set(one.structured_outputs) for name, one in served.items()} == {
        "serving_default": {"pooled_output"},
        "heads": {"topic", "tone"},
        "shared": {"head_0", "head_1"},
    }


def test_pairs_and_other_inputs(config, preprocessor, tmp_path, saved_model_runner: SavedModelRunner):
    first, second = (keras.Input(shape=(), dtype="string", name=name) for name in ("z_first", "a_second"))
    age = keras.Input((1,), name="age")
    pooled = kbl.BertEncoder(config)(preprocessor((first, second)))["pooled_output"]
    model = keras.Model(
        [first, age, second], keras.layers.Dense(2, name="scores")(keras.ops.concatenate([pooled, age], axis=-1))
    )
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    ages = np.array([[1.0], [20.0], [300.0]], "float32")
    served = saved_model_runner.run(tmp_path / "1", {"text_a": TEXTS, "text_b": OTHERS, "age": ages})
    expected = model.predict([tf.constant(TEXTS), ages, tf.constant(OTHERS)], verbose=0)
    np.testing.assert_allclose(served["scores"], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "names",
    [
        ("input_word_ids", "input_mask", "input_type_ids"),
        ("input_ids", "attention_mask", "token_type_ids"),
        ("input_ids", "attention_mask"),
    ],
)
def test_a_model_on_ids_joins_its_preprocessor(names, config, preprocessor, tmp_path, saved_model_runner):
    model = ids_model(kbl.BertEncoder(config, combine="mean"), names)
    ids = preprocessor((TEXTS, OTHERS))
    values = [ids[key] for key in ("input_word_ids", "input_mask", "input_type_ids")]
    expected = model.predict(dict(zip(names, values, strict=False)), verbose=0)

    probabilities = keras.Model(model.inputs, keras.layers.Softmax(name="probabilities")(model.output))
    options = {"signatures": {"probabilities": probabilities, "ids": "ids"}, "inputs": "pair", "check": False}
    kbl.export_saved_model(model, tmp_path / "1", preprocessor=preprocessor, **options)
    texts = {"text_a": TEXTS, "text_b": OTHERS}
    made = dict(zip(("input_word_ids", "input_mask", "input_type_ids")[: len(names)], values, strict=False))
    by_text, by_ids, softmax = saved_model_runner.run_requests(
        tmp_path / "1", [("serving_default", texts), ("ids", made), ("probabilities", texts)]
    )
    np.testing.assert_allclose(by_text["scores"], expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(by_ids["scores"], expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(softmax["probabilities"], tf.nn.softmax(expected), atol=1e-5, rtol=0)


def test_a_model_on_ids_keeps_its_names(config, preprocessor, tmp_path, saved_model_runner: SavedModelRunner):
    names = ("input_ids", "attention_mask")
    model = ids_model(kbl.BertEncoder(config, combine="mean"), names)
    ids = preprocessor(TEXTS)
    inputs = {"input_ids": ids["input_word_ids"], "attention_mask": ids["input_mask"]}
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    served = saved_model_runner.run(tmp_path / "1", inputs)
    np.testing.assert_allclose(served["scores"], model.predict(inputs, verbose=0), atol=1e-5, rtol=0)


def test_a_tagger_on_ids_joins_a_preprocessor_of_words(config, vocabulary, tmp_path, saved_model_runner):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16, return_word_ids=True)
    ids = preprocessor([["the", "dark", "film"], ["plot"]])
    names = ("input_word_ids", "input_mask", "input_type_ids", "word_ids")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    states = kbl.BertEncoder(config, combine="mean", pooler=False)(inputs)["encoder_outputs"]
    words = kbl.WordPooling("first")(states, inputs["word_ids"])["word_outputs"]
    model = keras.Model(inputs, keras.layers.Dense(3, name="tags")(words))
    expected = model.predict({name: ids[name] for name in names}, verbose=0)

    options = {"inputs": "words", "signatures": ["words"], "check": False}
    kbl.export_saved_model(model, tmp_path / "1", preprocessor=preprocessor, **options)
    text = np.array([[b"the", b"dark", b"film"], [b"plot", b"", b""]], dtype=object)
    served = saved_model_runner.run(tmp_path / "1", {"text": text})
    np.testing.assert_allclose(served["tags"], expected, atol=1e-5, rtol=0)
    pooled = saved_model_runner.run(tmp_path / "1", {"text": text}, "words")
    np.testing.assert_array_equal(pooled["word_mask"].sum(axis=1), [3, 1])


def test_what_an_export_takes_does_not_hang_on_past_calls(config, preprocessor, tmp_path):
    model = ids_model(kbl.BertEncoder(config, combine="mean"), ("input_word_ids", "input_mask"))
    preprocessor(("one", "two"))
    preprocessor([["one"], ["two", "three"]])
    kbl.export_saved_model(model, tmp_path / "1", preprocessor=preprocessor, warmup=False, check=False)
    assert {name: spec.shape.rank for name, spec in signature(tmp_path / "1")[0].items()} == {"text": 1}
    texts = [keras.Input(shape=(), dtype="string"), keras.Input(shape=(), dtype="string")]
    pairs = keras.Model(texts, preprocessor(tuple(texts)))
    kbl.export_saved_model(model, tmp_path / "2", preprocessor=pairs, warmup=False, check=False)
    assert set(signature(tmp_path / "2")[0]) == {"text_a", "text_b"}
    for options, message in [
        ({"preprocessor": preprocessor, "inputs": "pairs"}, "`inputs` to be one of text, pair, words. Received"),
        ({"preprocessor": pairs, "inputs": "pair"}, "a BertPreprocessor, or a functional model.*leave out `inputs`"),
        ({"inputs": "pair"}, "what `preprocessor` takes. Received: inputs='pair' without a preprocessor"),
    ]:
        with pytest.raises(ValueError, match=message):
            kbl.export_saved_model(model, tmp_path / "3", **options, warmup=False, check=False)


def test_fewer_layers_are_fewer_bytes(tmp_path):
    config = kbl.BertConfig(
        vocab_size=90, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128
    )
    encoder = kbl.BertEncoder(config, layers=[1, 2], combine="mean", num_hidden_layers=2)
    model = ids_model(encoder, ("input_word_ids",))
    kbl.export_saved_model(model, tmp_path / "1", warmup=False, check=False)
    embeddings = sum(weight.numpy().size for weight in encoder.embeddings.weights)
    layer = sum(weight.numpy().size for weight in encoder.transformer_layers[0].weights)
    assert len(encoder.transformer_layers) == 2
    assert 4 * (embeddings + 2 * layer) <= stored_bytes(tmp_path / "1") <= 1.02 * 4 * (embeddings + 2 * layer)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_half_precision_leaves_as_float32(policy, config, preprocessor, tmp_path, saved_model_runner):
    encoder = kbl.BertEncoder(config, combine="mean", dtype=policy)
    model = text_model(preprocessor, encoder, "encoder_outputs")
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    served = saved_model_runner.run(tmp_path / "1", {"text": TEXTS})["encoder_outputs"]
    assert served.dtype == np.float32
    expected = np.asarray(model(tf.constant(TEXTS)), "float32")
    assert np.linalg.norm(served - expected) <= 2e-2 * np.linalg.norm(expected)


def test_an_existing_directory_is_kept_unless_overwrite(numbers_model, tmp_path):
    model = numbers_model
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mine").write_text("keep")
    with pytest.raises(FileExistsError, match="does not exist yet. Received: directory=.*overwrite=True"):
        kbl.export_saved_model(model, tmp_path / "1", check=False)
    assert (tmp_path / "1" / "mine").read_text() == "keep"
    with pytest.raises(FileExistsError, match="it holds 'mine', which is not written here, and is kept"):
        kbl.export_saved_model(model, tmp_path / "1", overwrite=True, check=False)
    assert (tmp_path / "1" / "mine").read_text() == "keep"
    (tmp_path / "1" / "mine").unlink()
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    before = (tmp_path / "1").stat().st_ino
    kbl.export_saved_model(model, tmp_path / "1", overwrite=True, check=False)
    assert (tmp_path / "1").stat().st_ino != before
    assert (tmp_path / "1" / "saved_model.pb").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


def test_a_failed_export_leaves_the_old_version_and_nothing_else(numbers_model, tmp_path, monkeypatch):
    model = numbers_model
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    before = (tmp_path / "1" / "saved_model.pb").read_bytes()
    save = tf.saved_model.save

    def dies_halfway(*args, **kwargs):
        save(*args, **kwargs)
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", dies_halfway)
    with pytest.raises(OSError, match="disk full"):
        kbl.export_saved_model(model, tmp_path / "1", overwrite=True, check=False)
    with pytest.raises(OSError, match="disk full"):
        kbl.export_saved_model(model, tmp_path / "2", check=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "saved_model.pb").read_bytes() == before


def test_what_cannot_be_exported(config, preprocessor, tmp_path):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    for model in (Subclassed(), keras.Sequential([keras.layers.Dense(2)]), None):
        name = type(model).__name__
        with pytest.raises(ValueError, match=f"`model` to be a functional model.*Received: model of class {name}"):
            kbl.export_saved_model(model, tmp_path / "1", check=False)
    encoder = kbl.BertEncoder(config, combine="mean")
    with pytest.raises(ValueError, match="a model on ids whose inputs are named .*with the inputs .*anything"):
        kbl.export_saved_model(
            text_model(preprocessor, encoder, "encoder_outputs"), tmp_path / "1", preprocessor, check=False
        )
    with pytest.raises(ValueError, match="of 8 tokens, and the preprocessor makes 16.*sequence_length=8"):
        kbl.export_saved_model(ids_model(encoder, ("input_ids",), 8), tmp_path / "1", preprocessor, check=False)
    assert list(tmp_path.iterdir()) == []


def test_a_long_document_from_text_to_windows(vocabulary, tmp_path, saved_model_runner: SavedModelRunner):
    config = kbl.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    encoder = kbl.WindowedEncoder(kbl.BertEncoder(config, combine="mean"), window=32, stride=8, max_windows=4)
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=encoder.max_tokens, long_documents=True)
    texts = ["the plot was dull and " * 15, "a good film"]
    model = text_model(preprocessor, encoder, "encoder_outputs")
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    served = saved_model_runner.run(tmp_path / "1", {"text": texts})["encoder_outputs"]
    assert served.shape == (2, encoder.max_tokens, 32)
    # 75 pieces between [CLS] and [SEP], none without states.
    assert np.abs(served[0]).max(axis=-1).astype(bool).tolist() == [True] * 77 + [False] * (encoder.max_tokens - 77)
    np.testing.assert_allclose(served, model.predict(tf.constant(texts), verbose=0), atol=1e-5, rtol=0)
    alone = encoder.encoder(kbl.BertPreprocessor(vocabulary, sequence_length=32)(texts[1]))["encoder_outputs"]
    np.testing.assert_allclose(served[1, :5], alone[0, :5], atol=1e-5, rtol=0)


def test_what_a_server_would_refuse_is_not_written(numbers_model, tmp_path):
    """The check runs by default, sees the export before it is moved, and names the way out."""
    # The batch last: a server that batches requests would cut the answers wrongly.
    model = keras.Model(numbers_model.input, keras.ops.transpose(numbers_model.output))
    with pytest.raises(ValueError, match="would not take this export, and nothing was written.*check=False.*\n.*batch"):
        kbl.export_saved_model(model, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    assert (tmp_path / "1" / "saved_model.pb").is_file()


def test_what_a_server_takes_with_care_is_warned_of(config, preprocessor, tmp_path):
    model = text_model(preprocessor, kbl.BertEncoder(config, combine="mean"), "encoder_outputs")
    # Not "warning: ", which Python prints before it.
    with pytest.warns(UserWarning, match=r"^(?!warning).*xla_gpu_compilation_enabled"):
        kbl.export_saved_model(model, tmp_path / "1", target="gpu", batch_sizes=[1])
