"""The first page's model over each encoder: train, save, load, export, and run without Python."""

import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

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
    # Gone before anything is loaded again.
    directory: pathlib.Path
    safe_mode: bool


def bert_parts(directory: pathlib.Path, vocabulary: list[str]) -> Parts:
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=24)
    config = kbl.BertConfig(vocab_size=len(vocabulary), **SIZES)
    encoder = kbl.BertEncoder(config, layers="last2", combine="weighted", pooler=False)
    encoder.build()
    return Parts(preprocessor, encoder, [variable.value for variable in encoder.trainable_weights], directory, True)


def huggingface_parts(directory: pathlib.Path, vocabulary: list[str]) -> Parts:
    transformers = pytest.importorskip("transformers", reason="needs transformers < 4.55")
    config = transformers.BertConfig(vocab_size=len(vocabulary), **SIZES)
    tf_model = transformers.TFBertModel(config)
    tf_model.build_in_name_scope()
    tf_model.save_pretrained(directory, safe_serialization=True)
    encoder = kbl.HuggingFaceEncoder.from_pretrained(directory, layers="last2", combine="weighted", pooler=False)
    used = [v for v in encoder.tf_model.trainable_variables if "pooler" not in v.name]
    return Parts(kbl.BertPreprocessor(vocabulary, sequence_length=24), encoder, used, directory, True)


def tfhub_parts(directory: pathlib.Path, vocabulary: list[str]) -> Parts:
    make_tfhub_encoder(directory / "encoder", vocabulary, hidden_size=96, num_heads=4)
    encoder = kbl.TFHubEncoder(directory / "encoder", layers="last2", combine="weighted", pooler=False)
    preprocessor = kbl.BertPreprocessor.from_pretrained(directory / "encoder", sequence_length=24)
    used = [v for v in encoder.saved_model.loaded.trainable_variables if "pooler" not in v.name]
    return Parts(preprocessor, encoder, used, directory, False)


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


def predict_in_a_fresh_process(path: pathlib.Path, safe_mode: bool, inputs: Any, directory: pathlib.Path) -> np.ndarray:
    """Loads a `.keras` file where nothing of this process is left but the package."""
    program = (
        "import sys, keras, numpy as np, tensorflow as tf, keras_bert_layers\n"
        "path, safe_mode, texts, scores = sys.argv[1:]\n"
        "model = keras.saving.load_model(path, safe_mode=safe_mode == 'True')\n"
        "texts = [tf.constant(column, 'string') for column in np.load(texts, allow_pickle=False)]\n"
        "inputs = tuple(texts) if len(texts) > 1 else texts[0]\n"
        "np.save(scores, model.predict(inputs, verbose=0))\n"
    )
    texts, scores = directory / "texts.npy", directory / "scores.npy"
    np.save(texts, np.array([column.numpy().astype("U") for column in tf.nest.flatten(inputs)]))
    package = str(pathlib.Path(kbl.__file__).parents[1])
    # transformers sets TF_USE_LEGACY_KERAS for its own process.
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    result = subprocess.run(
        [sys.executable, "-c", program, str(path), str(safe_mode), str(texts), str(scores)],
        cwd=directory,
        env={**environment, "PYTHONPATH": package},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return np.load(scores)


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
@pytest.mark.parametrize("make_parts", [bert_parts, huggingface_parts, tfhub_parts, tfhub_text_parts])
def test_from_text_to_a_served_model(
    make_parts: Any, pairs: bool, vocabulary: list[str], tmp_path: pathlib.Path, saved_model_runner: SavedModelRunner
) -> None:
    keras.utils.set_random_seed(0)
    source = tmp_path / "source"
    source.mkdir()
    parts = make_parts(source, vocabulary)
    model = first_page_model(parts, pairs)
    inputs = (tf.constant(TEXTS), tf.constant(OTHERS)) if pairs else tf.constant(TEXTS)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, LABELS)).batch(6)

    before = [variable.numpy().copy() for variable in parts.variables]
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(dataset, epochs=3, shuffle=False, verbose=0).history["loss"]
    assert losses[2] < losses[0]
    changed = [not np.array_equal(old, new.numpy()) for old, new in zip(before, parts.variables, strict=True)]
    assert all(changed)

    scores = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    # `check` starts a process of its own, once.
    kbl.export_saved_model(model, tmp_path / "export" / "1", check=make_parts is bert_parts)
    model.export(tmp_path / "keras_export", verbose=False)
    shutil.rmtree(source)

    reloaded = predict_in_a_fresh_process(tmp_path / "model.keras", parts.safe_mode, inputs, tmp_path)
    np.testing.assert_array_equal(reloaded, scores)

    moved = (tmp_path / "export" / "1").rename(tmp_path / "moved")
    texts = {"text_a": TEXTS, "text_b": OTHERS} if pairs else {"text": TEXTS}
    served = saved_model_runner.run(moved, texts)
    assert set(served) == {"scores"}
    np.testing.assert_allclose(served["scores"], scores, atol=1e-5, rtol=0)
    stored = sum(file.stat().st_size for file in (moved / "variables").glob("variables.data*"))
    assert stored <= 1.02 * sum(4 * weight.numpy().size for weight in model.weights)

    keras_export = tf.saved_model.load(str(tmp_path / "keras_export"))
    np.testing.assert_allclose(keras_export.serve(inputs), scores, atol=1e-5, rtol=0)
