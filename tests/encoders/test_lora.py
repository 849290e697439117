"""`BertEncoder.enable_lora`, and what Keras's own `enable_lora` on sublayers leaves behind."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from .test_layerwise_encoder import fit_model
from .tiny_encoders import SIZES, make_ids, quantize

LENGTHS = (6, 9, 1, 4)
IDS = make_ids(LENGTHS)
LABELS = np.arange(4.0)


def make(**arguments):
    return kbl.BertEncoder(kbl.BertConfig(**SIZES, initializer_range=0.3), **{"combine": "weighted", **arguments})


def compiled(model):
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    return model


def encoder_of(model):
    return next(layer for layer in model.layers if isinstance(layer, kbl.BertEncoder))


def by_name(weights):
    return {weight.path: np.asarray(weight.value) for weight in weights}


def trainable(encoder):
    return [weight.path for weight in encoder.trainable_weights]


def assert_comes_back(model, path):
    """With its weights, what is frozen and the state of its optimiser: both go on alike."""
    model.save(path)
    again = keras.saving.load_model(path)
    assert trainable(again) == trainable(model)
    for loaded, saved in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(loaded, saved)
    for loaded, saved in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(loaded, saved)
    np.testing.assert_array_equal(again(IDS), model(IDS))
    assert np.any(encoder_of(again).get_config()["lora"])
    before = by_name(again.trainable_weights)
    again.train_on_batch(IDS, LABELS)
    assert all(np.any(weight != before[path]) for path, weight in by_name(again.trainable_weights).items())
    return again


@pytest.mark.parametrize(
    "arguments",
    [{}, {"trainable": False, "recompute": True}, {"dtype": "mixed_bfloat16"}],
    ids=["thawed", "frozen, recompute", "bfloat16"],
)
def test_trains_the_matrices_and_comes_back(arguments, tmp_path):
    encoder = make(**arguments)
    before_lora = encoder(IDS)["encoder_outputs"]
    encoder.enable_lora(2)
    np.testing.assert_array_equal(encoder(IDS)["encoder_outputs"], before_lora)
    names = [weight.name for weight in encoder.trainable_weights]
    assert names == ["lora_kernel_a", "lora_kernel_b"] * 6 + ["w", "gamma"]
    model = compiled(fit_model(encoder))
    before = by_name(encoder.weights)
    for _ in range(3):
        model.train_on_batch(IDS, LABELS)
    changed = [path for path, weight in by_name(encoder.weights).items() if np.any(weight != before[path])]
    assert changed
    assert set(changed) <= set(trainable(encoder))
    assert sum("lora" in path for path in changed) == 12
    assert_comes_back(model, tmp_path / "m.keras")


def test_of_a_quantised_encoder(tmp_path):
    model = fit_model(make())
    quantize(model)
    encoder_of(model).enable_lora(2)
    compiled(model).train_on_batch(IDS, LABELS)
    assert_comes_back(model, tmp_path / "m.keras")


def test_of_keras_on_single_sublayers(tmp_path):
    encoder = make(trainable=False)
    encoder.transformer_layers[1].feed_forward.intermediate.enable_lora(3, lora_alpha=6)
    encoder.embeddings.word_embeddings.enable_lora(2)
    model = compiled(fit_model(encoder))
    assert sum("lora" in path for path in trainable(encoder)) == 4
    for _ in range(2):
        model.train_on_batch(IDS, LABELS)
    again = encoder_of(assert_comes_back(model, tmp_path / "m.keras"))
    assert again.transformer_layers[1].feed_forward.intermediate.lora_alpha == 6


def test_a_time_with_the_head_alone():
    encoder = make()
    encoder.enable_lora(2)
    expected = trainable(encoder)
    encoder.trainable = False
    assert trainable(encoder) == []
    encoder.trainable = True
    assert trainable(encoder) == expected
    wholly_frozen = make()
    wholly_frozen.trainable = False
    wholly_frozen.enable_lora(2)
    assert len(trainable(wholly_frozen)) == len(expected)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")
def test_weights_files_of_models_with_and_without_it(tmp_path):
    plain, lora = (compiled(fit_model(make(name="encoder"))) for _ in range(2))
    encoder_of(lora).enable_lora(2)
    compiled(lora)
    for _ in range(2):
        lora.train_on_batch(IDS, LABELS)
    learned = lora(IDS)
    lora.save_weights(tmp_path / "lora.weights.h5")
    plain.save_weights(tmp_path / "plain.weights.h5")
    before = plain(IDS)
    lora.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(lora(IDS), before)
    start = by_name(lora.trainable_weights)
    for _ in range(2):
        lora.train_on_batch(IDS, LABELS)
    assert all(np.any(weight != start[path]) for path, weight in by_name(lora.trainable_weights).items())
    lora.load_weights(tmp_path / "lora.weights.h5")
    np.testing.assert_array_equal(lora(IDS), learned)
    # A model without LoRA has learned the same.
    plain.load_weights(tmp_path / "lora.weights.h5")
    np.testing.assert_allclose(plain(IDS), learned, rtol=0, atol=1e-5)
    assert np.abs(learned - before).max() > 1e-3


def test_is_exported(tmp_path):
    model = compiled(fit_model(make()))
    encoder_of(model).enable_lora(2)
    compiled(model)
    before = model(IDS)
    for _ in range(3):
        model.train_on_batch(IDS, LABELS)
    expected = model(IDS)
    assert np.abs(expected - before).max() > 1e-3
    kbl.export_saved_model(model, tmp_path / "1", check=False, warmup=False)
    run = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    (scores,) = run(**{name: tf.constant(value) for name, value in IDS.items()}).values()
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 17, 2.0, True, "8", None])
def test_wrong_rank(rank):
    with pytest.raises(ValueError, match=r"`rank` to be an integer from 1 to 16, the hidden size\. Received: rank="):
        make().enable_lora(rank)


def test_twice():
    encoder = make(name="mine")
    encoder.enable_lora(2)
    with pytest.raises(ValueError, match=r"an encoder without LoRA\. Received: 'mine'"):
        encoder.enable_lora(4)
