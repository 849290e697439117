"""The two ways to train give one result, and `fit` takes what the README says it takes."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

TEXTS = ["a good film", "the plot was dull", "bright and very good", "what a bad, bad book!"] * 2
LABELS = np.array([0, 1, 0, 1] * 2)
NAMES = ("input_word_ids", "input_mask", "input_type_ids")


def make_model(
    vocabulary: list[str], on_texts: bool, dropout: float | None
) -> tuple[keras.Model, kbl.BertPreprocessor]:
    keras.utils.set_random_seed(7)
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16)
    config = kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
    )
    encoder = kbl.BertEncoder(
        config,
        layers="all+embeddings",
        combine="weighted",
        hidden_dropout=dropout,
        attention_dropout=dropout,
        pooler=False,
    )
    text = keras.Input(shape=(), dtype="string", name="text")
    ids = {name: keras.Input((16,), dtype="int32", name=name) for name in NAMES}
    features = encoder(preprocessor(text) if on_texts else ids)
    sentence = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    return keras.Model(text if on_texts else ids, keras.layers.Dense(2, name="scores")(sentence)), preprocessor


def losses(model: keras.Model, dataset: tf.data.Dataset, jit_compile: bool) -> list[float]:
    model.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    with warnings.catch_warnings():
        # No warning about gradients, masks or input structures.
        warnings.simplefilter("error", UserWarning)
        return model.fit(dataset, epochs=3, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_texts_in_the_model_and_ids_from_the_dataset_train_alike(vocabulary, jit_compile):
    # XLA draws other random numbers: dropout 0 there.
    dropout = 0.0 if jit_compile else None
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(8)
    model, _ = make_model(vocabulary, on_texts=True, dropout=dropout)
    with_texts = losses(model, dataset, jit_compile=False)
    model, preprocessor = make_model(vocabulary, on_texts=False, dropout=dropout)
    with_ids = losses(model, dataset.map(lambda text, label: (preprocessor(text), label)), jit_compile)
    assert with_texts[2] < with_texts[0]
    np.testing.assert_allclose(with_ids, with_texts, atol=1e-5, rtol=0)


def test_texts_in_the_model_turn_xla_off_and_ids_leave_it_on(vocabulary):
    model, _ = make_model(vocabulary, on_texts=False, dropout=None)
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=True)
    assert model.jit_compile
    model, _ = make_model(vocabulary, on_texts=True, dropout=None)
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=True)
    assert not model.jit_compile


def test_the_readmes_forms_of_a_list_of_texts(vocabulary):
    model, _ = make_model(vocabulary, on_texts=True, dropout=None)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    texts = np.array(TEXTS, dtype=object)
    model.fit(tf.constant(TEXTS), LABELS, verbose=0)
    model.fit(texts, LABELS, verbose=0)
    scores = model.predict(tf.constant(TEXTS), verbose=0)
    np.testing.assert_allclose(model.predict(texts, verbose=0), scores, atol=1e-6)
    np.testing.assert_allclose(model(tf.constant(TEXTS)), scores, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_without_nan(vocabulary, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model, _ = make_model(vocabulary, on_texts=True, dropout=None)
    finally:
        keras.config.set_dtype_policy("float32")
    history = losses(model, tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(8).repeat(5), jit_compile=False)
    assert np.all(np.isfinite(history))
    assert history[-1] < history[0]
    assert all(np.all(np.isfinite(np.asarray(weight, "float32"))) for weight in model.weights)
