"""The first page's model over each encoder: train, save, load, export, and run without Python."""

import importlib.util
import pathlib
import shutil
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import keras_bert_layers as kbl

from .fresh_process import run_in_fresh_process
from .native.saved_model_runner import SavedModelRunner
from .tfhub_factory import make_tfhub_encoder, make_tfhub_preprocessor

TEXTS = ["a good film, very bright", "the plot was dull", "what a bad book!", "it is not good . . .", "bright", "zzz"]
OTHERS = ["why?", "the actor was good and the plot was bright", "how dull", "", "it is", "a good book"]
LABELS = [0, 1, 1, 1, 0, 1]
SIZES = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}


class Parts(NamedTuple):
    preprocessor: Any
    encoder: Any
    # The wrapped object's own variables, or the encoder's.
    variables: list


def bert_parts(directory: pathlib.Path, vocabulary: list[str]) -> Parts:
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=24)
    config = kbl.BertConfig(vocab_size=len(vocabulary), **SIZES)
    encoder = kbl.BertEncoder(config, layers="last2", combine="weighted", pooler=False)
    encoder.build()
    return Parts(preprocessor, encoder, [variable.value for variable in encoder.trainable_weights])


def huggingface_parts(directory: pathlib.Path, vocabulary: list[str]) -> Parts:
    import transformers

    config = transformers.BertConfig(vocab_size=len(vocabulary), **SIZES)
    tf_model = transformers.TFBertModel(config)
    tf_model.build_in_name_scope()
    tf_model.save_pretrained(directory, safe_serialization=True)
    encoder = kbl.HuggingFaceEncoder.from_pretrained(directory, layers="last2", combine="weighted", pooler=False)
    used = [v for v in encoder.tf_model.trainable_variables if "pooler" not in v.name]
    return Parts(kbl.BertPreprocessor(vocabulary, sequence_length=24), encoder, used)


def tfhub_parts(directory: pathlib.Path, vocabulary: list[str]) -> Parts:
    make_tfhub_encoder(directory / "encoder", vocabulary, hidden_size=96, num_heads=4)
    encoder = kbl.TFHubEncoder(directory / "encoder", layers="last2", combine="weighted", pooler=False)
    preprocessor = kbl.BertPreprocessor.from_pretrained(directory / "encoder", sequence_length=24)
    used = [v for v in encoder.saved_model.loaded.trainable_variables if "pooler" not in v.name]
    return Parts(preprocessor, encoder, used)


def tfhub_text_parts(directory: pathlib.Path, vocabulary: list[str]) -> Parts:
    make_tfhub_preprocessor(directory / "preprocessor", vocabulary)
    parts = tfhub_parts(directory, vocabulary)
    return parts._replace(preprocessor=kbl.TFHubPreprocessor(directory / "preprocessor", sequence_length=24))


def first_page_model(parts: Parts, pairs: bool) -> keras.Model:
    text = keras.Input(shape=(), dtype="string", name="question")
    other = keras.Input(shape=(), dtype="string", name="answer")
    inputs = (text, other) if pairs else text
    features = parts.encoder(parts.preprocessor(inputs))
    sentence = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(sentence))


# Single texts with a BertEncoder are the README's and the quickstart's.
CASES = {
    "bert, pairs": (bert_parts, True),
    "huggingface, texts": (huggingface_parts, False),
    "tfhub, texts": (tfhub_parts, False),
    "tfhub with its preprocessor, pairs": (tfhub_text_parts, True),
}
_LOAD_AND_CALL = """
import pathlib
import keras, numpy as np, tensorflow as tf, keras_bert_layers

texts, others = (tf.constant(column, "string") for column in np.load("texts.npy", allow_pickle=False))
for file in pathlib.Path().glob("*.keras"):
    model = keras.saving.load_model(file, safe_mode="tfhub" not in file.name)
    np.save(file.with_suffix(".npy"), model((texts, others) if "pairs" in file.name else texts))
"""


def test_from_text_to_a_served_model(vocabulary, tmp_path, saved_model_runner: SavedModelRunner) -> None:
    np.save(tmp_path / "texts.npy", np.array([TEXTS, OTHERS]))
    expected = {}
    for name, (make_parts, pairs) in CASES.items():
        if make_parts is huggingface_parts and importlib.util.find_spec("transformers") is None:
            continue
        keras.utils.set_random_seed(0)
        source = tmp_path / "source"
        source.mkdir()
        parts = make_parts(source, vocabulary)
        model = first_page_model(parts, pairs)
        inputs = (tf.constant(TEXTS), tf.constant(OTHERS)) if pairs else tf.constant(TEXTS)
        train(name, model, parts, inputs)
        expected[name] = model(inputs).numpy()
        model.save(tmp_path / f"{name}.keras")
        # `check` starts a process of its own, once.
        kbl.export_saved_model(model, tmp_path / name / "1", check=make_parts is bert_parts)
        if make_parts is bert_parts:
            model.export(tmp_path / "keras_export", verbose=False)
            keras_export = tf.saved_model.load(str(tmp_path / "keras_export"))
            np.testing.assert_allclose(keras_export.serve(inputs), expected[name], atol=1e-5, rtol=0)
        shutil.rmtree(source)
        moved = (tmp_path / name / "1").rename(tmp_path / "moved")
        served = saved_model_runner.run(moved, {"text_a": TEXTS, "text_b": OTHERS} if pairs else {"text": TEXTS})
        assert set(served) == {"scores"}, name
        np.testing.assert_allclose(served["scores"], expected[name], atol=1e-5, rtol=0, err_msg=name)
        stored = sum(file.stat().st_size for file in (moved / "variables").glob("variables.data*"))
        assert stored <= 1.02 * sum(4 * weight.numpy().size for weight in model.weights), name
        shutil.rmtree(moved)

    # All in one process, whose start takes most of the time.
    run_in_fresh_process(_LOAD_AND_CALL, cwd=tmp_path)
    for name, scores in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), scores, err_msg=name)


def train(name: str, model: keras.Model, parts: Parts, inputs: Any) -> None:
    dataset = tf.data.Dataset.from_tensor_slices((inputs, LABELS)).batch(6)
    before = [variable.numpy().copy() for variable in parts.variables]
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(dataset, epochs=3, shuffle=False, verbose=0).history["loss"]
    assert losses[2] < losses[0], name
    changed = [not np.array_equal(old, new.numpy()) for old, new in zip(before, parts.variables, strict=True)]
    assert all(changed), name
