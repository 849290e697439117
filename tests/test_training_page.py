"""The code of docs/training.md runs, and does what the page says."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
FREEZING, LORA, SEVERAL_LABELS, GOING_ON, SUBCLASSED, OUT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TEXTS = tf.constant(["a good film", "the plot was dull", "bright and very good", "what a bad, bad book!"])


@pytest.fixture
def names(vocabulary, tmp_path, monkeypatch):
    """What the page takes for granted."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(1)
    config = {"vocab_size": len(vocabulary), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config["intermediate_size"] = 32
    encoder = kbl.BertEncoder(config, layers="all+embeddings", combine="weighted", pooler=False)
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16)
    text = keras.Input((), dtype="string", name="text")
    features = encoder(preprocessor(text))
    sentence = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    return {**globals(), "encoder": encoder, "preprocessor": preprocessor, "text": text, "sentence": sentence}


def test_each_known_label_counts_once_and_unknown_ones_not(names):
    labels = np.array([[1, 0, -1], [-1, -1, -1], [0, -1, -1], [1, 1, 0]])
    names["dataset"] = tf.data.Dataset.from_tensor_slices((TEXTS, labels)).batch(4)
    exec(SEVERAL_LABELS, names)
    results = names["trained"].evaluate(names["dataset"].map(names["prepare"]), verbose=0, return_dict=True)
    scores = names["model"](TEXTS).numpy()
    losses = (np.logaddexp(0, scores) - scores * labels)[labels >= 0]
    right = ((scores > 0) == labels)[labels >= 0]
    np.testing.assert_allclose([results["loss"], results["binary_accuracy"]], [losses.mean(), right.mean()], rtol=1e-5)
    # A batch of which nothing is known.
    unknown = tf.data.Dataset.from_tensor_slices((TEXTS, np.full((4, 3), -1))).batch(4)
    before = [weight.numpy() for weight in names["model"].weights]
    names["trained"].compile("sgd", names["loss"])
    names["trained"].fit(unknown.map(names["prepare"]), verbose=0)
    for weight, value in zip(names["model"].weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize(
    ("freezing", "trained", "subclassed"), [(FREEZING, 4, False), (LORA, 8, True)], ids=["frozen", "lora, subclassed"]
)
def test_what_is_saved_goes_on_with_what_was_frozen(names, freezing, trained, subclassed):
    exec(freezing, names)
    if subclassed:
        exec(SUBCLASSED, names)
        model = names["Classifier"](names["preprocessor"], names["encoder"], 2)
    else:
        model = keras.Model(names["text"], keras.layers.Dense(2)(names["sentence"]))
    names["dataset"] = tf.data.Dataset.from_tensor_slices((TEXTS, [0, 1, 0, 1])).batch(4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    model.fit(names["dataset"], epochs=3, verbose=0)
    scores = model(TEXTS)
    names["model"] = model
    save, load, go_on = GOING_ON.strip().split("\n")
    exec(f"{save}\n{load}", names)
    loaded = names["model"]
    np.testing.assert_array_equal(loaded(TEXTS), scores)
    assert len(loaded.trainable_variables) == len(model.trainable_variables) == trained
    for value, variable in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(value, variable)
    before = {variable.path: variable.numpy() for variable in loaded.variables}
    exec(go_on, names)
    assert int(loaded.optimizer.iterations) == 6
    trainable = {variable.path for variable in loaded.trainable_variables}
    changed = {path for path in before if not np.array_equal(before[path], loaded_value(loaded, path))}
    assert changed == trainable | {path for path in changed if "seed" in path}


def loaded_value(model: keras.Model, path: str) -> np.ndarray:
    return next(variable.numpy() for variable in model.variables if variable.path == path)


def test_what_is_written_for_transformers_is_what_was_trained(names):
    exec(LORA, names)
    exec(SUBCLASSED, names)
    names["model"] = names["Classifier"](names["preprocessor"], names["encoder"], 2)
    for variable in names["encoder"].trainable_variables:
        variable.assign_add(keras.random.normal(variable.shape, stddev=0.1))
    trained = names["encoder"].hidden_states(names["preprocessor"](TEXTS))
    exec(OUT, names)
    preprocessor = kbl.BertPreprocessor.from_pretrained("tickets", sequence_length=16)
    np.testing.assert_allclose(names["encoder"].hidden_states(preprocessor(TEXTS))[0], trained[0], rtol=0, atol=1e-5)
