"""`SequencePooling` against NumPy, row by row."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import LayerCombination, SequencePooling
from keras_bert_layers.layers.sequence_pooling import POOLING_MODES

from ..layer_test_case import LayerCase, run_config_test, run_layer_test, run_precision_test, run_xla_test

HIDDEN = 6
# All tokens, some, one, holes, none.
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]], dtype=bool)
SPECIAL = np.array([[1, 0, 0, 0, 1], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
STATES = np.random.default_rng(0).normal(0.5, 2.0, (*MASK.shape, HIDDEN)).astype("float32")
STACKED = np.random.default_rng(1).normal(0.5, 2.0, (len(MASK), 3, MASK.shape[1], HIDDEN)).astype("float32")
QUERY = np.random.default_rng(2).normal(size=HIDDEN).astype("float32")
OTHER_MODES = [mode for mode in POOLING_MODES if mode != "cls"]


def pool(states, mask, mode, query=None, normalize=False):
    """One sequence `[sequence, hidden]` in NumPy, from the tokens that the mask keeps and no others."""
    tokens = states[mask].astype("float64")
    if mode == "cls":
        pooled = states[0].astype("float64") * mask[0]
    elif not len(tokens):
        pooled = np.zeros(states.shape[-1])
    elif mode == "mean":
        pooled = tokens.mean(axis=0)
    elif mode == "max":
        pooled = tokens.max(axis=0)
    elif mode == "mean_sqrt_length":
        pooled = tokens.sum(axis=0) / np.sqrt(len(tokens))
    elif mode == "weighted_mean":
        pooled = np.average(tokens, axis=0, weights=1 + np.flatnonzero(mask))
    elif mode == "last_token":
        pooled = tokens[-1]
    else:
        scores = np.zeros(len(tokens)) if query is None else tokens @ query / np.sqrt(states.shape[-1])
        weights = np.exp(scores - scores.max())
        pooled = (weights / weights.sum()) @ tokens
    norm = np.linalg.norm(pooled)
    return pooled / norm if normalize and norm else pooled


def pool_batch(mode, states=STATES, mask=MASK, special=None, **options):
    kept = mask if special is None else mask & ~special
    if states.ndim == 4:
        rows = [[pool(layer, row, mode, **options) for layer in stack] for stack, row in zip(states, kept, strict=True)]
    else:
        rows = [pool(state, row, mode, **options) for state, row in zip(states, kept, strict=True)]
    return np.array(rows, "float32")


def case(mode, states=STATES, **options):
    call_arguments = {"mask": MASK}
    if options.get("exclude_special_tokens"):
        call_arguments["special_tokens_mask"] = SPECIAL
    return LayerCase(SequencePooling, {"mode": mode, **options}, states, call_arguments)


# For tests/layers/test_keras_files.py.
SAVED = {
    **{mode: case(mode) for mode in POOLING_MODES},
    **{f"{mode}_normalized": case(mode, STACKED, normalize=True) for mode in POOLING_MODES},
    **{f"{mode}_words": case(mode, exclude_special_tokens=True) for mode in OTHER_MODES},
    "frozen": case("attention", trainable=False),
    "float16": case("attention", dtype="mixed_float16"),
}


def with_query(mode, **options):
    layer = SequencePooling(mode, **options)
    layer.build((None, None, HIDDEN))
    layer.set_weights([QUERY] if mode == "attention" else [])
    return layer, QUERY if mode == "attention" else None


def masked(states, mask):
    """The states with Keras's implicit mask."""
    states = tf.constant(states)
    states._keras_mask = tf.constant(mask)
    return states


class TestModes:
    @pytest.mark.parametrize("states", [STATES, STACKED], ids=["rank 3", "rank 4"])
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_as_numpy(self, mode, normalize, states):
        count = int(mode == "attention")
        run_layer_test(
            case(mode, states, normalize=normalize),
            expected=pool_batch(mode, states, normalize=normalize),
            num_weights=count,
            num_trainable_weights=count,
            xla=False,
        )

    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("mode", OTHER_MODES)
    def test_without_special_tokens(self, mode, normalize):
        run_layer_test(
            case(mode, normalize=normalize, exclude_special_tokens=True),
            expected=pool_batch(mode, special=SPECIAL, normalize=normalize),
            xla=False,
        )

    def test_under_xla(self):
        modes = itertools.product(POOLING_MODES, [False, True])
        cases = [case(mode, states, normalize=normalize) for mode, normalize in modes for states in (STATES, STACKED)]
        run_xla_test(cases + [case(mode, exclude_special_tokens=True) for mode in OTHER_MODES])

    @pytest.mark.parametrize("states", [STATES, STACKED], ids=["rank 3", "rank 4"])
    def test_attention_with_a_query(self, states):
        layer, query = with_query("attention")
        np.testing.assert_allclose(layer(states, mask=MASK), pool_batch("attention", states, query=query), atol=1e-5)

    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_normalized_rows_have_length_one_or_zero(self, mode):
        lengths = np.linalg.norm(SequencePooling(mode, normalize=True)(STATES, mask=MASK), axis=-1)
        np.testing.assert_allclose(lengths, MASK.any(axis=-1), atol=1e-6)

    @pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf, 1e30])
    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_what_stands_at_padding_never_matters(self, mode, padding):
        layer, _ = with_query(mode)
        states = np.where(MASK[..., np.newaxis], STATES, np.float32(padding))
        with tf.GradientTape() as tape:
            tensor = tf.constant(states)
            tape.watch(tensor)
            output = layer(tensor, mask=MASK)
            loss = tf.reduce_sum(tf.square(output))
        np.testing.assert_array_equal(output, layer(STATES, mask=MASK))
        gradient = tape.gradient(loss, tensor).numpy()
        assert np.all(np.isfinite(gradient))
        assert not gradient[~MASK].any()

    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_independent_of_padding_and_batch(self, mode):
        layer, _ = with_query(mode)
        output = layer(STATES, mask=MASK)
        alone = layer(STATES[1:2, :3], mask=MASK[1:2, :3])
        np.testing.assert_allclose(alone[0], output[1], atol=1e-6)

    def test_max_of_negative_states(self):
        output = SequencePooling("max")(-np.abs(STATES) - 1, mask=MASK)
        assert np.all(output[:4] <= -1)
        np.testing.assert_array_equal(output[4], 0)


class TestMasks:
    @pytest.mark.parametrize(
        "form", ["bool", "int32", "int64", "float32", "float64", "list", "ints", "tensor", "tuple"]
    )
    @pytest.mark.parametrize("special", [False, True])
    def test_forms(self, form, special):
        def formed(mask):
            forms = {
                "list": mask.tolist(),
                "ints": mask.astype(int).tolist(),
                "tuple": tuple(map(tuple, mask.tolist())),
                "tensor": tf.constant(mask),
            }
            return forms[form] if form in forms else mask.astype(form)

        layer = SequencePooling("mean", exclude_special_tokens=special)
        masks = {"mask": formed(MASK), **({"special_tokens_mask": formed(SPECIAL)} if special else {})}
        expected = pool_batch("mean", special=SPECIAL if special else None)
        np.testing.assert_allclose(layer(STATES, **masks), expected, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("special", [False, True])
    def test_implicit_mask(self, special, dtype):
        layer = SequencePooling("mean", exclude_special_tokens=special, dtype=dtype)
        others = {"special_tokens_mask": SPECIAL} if special else {}
        output = layer(masked(STATES, MASK), **others)
        np.testing.assert_array_equal(output, layer(STATES, mask=MASK, **others))

    def test_explicit_mask_comes_first(self):
        output = SequencePooling("mean")(masked(STATES, ~MASK), mask=MASK)
        np.testing.assert_allclose(output, pool_batch("mean"), atol=1e-6)

    @pytest.mark.parametrize("special", [False, True])
    def test_implicit_mask_in_a_functional_model(self, special):
        """Through a standard layer and a LayerCombination, which pass it on; with a layer before that takes several."""
        inputs = {"ids": keras.Input((None,), dtype="int32", name="ids")}
        others = {}
        if special:
            others = {"special_tokens_mask": keras.Input((None,), dtype="int32", name="special")}
            inputs["special"] = others["special_tokens_mask"]
        embedded = keras.layers.Embedding(9, HIDDEN, mask_zero=True)(inputs["ids"])
        states = LayerCombination("mean")([embedded, keras.layers.Dropout(0.5)(embedded)])
        pooled = SequencePooling("mean", exclude_special_tokens=special)(states, **others)
        model = keras.Model(inputs, [pooled, embedded])
        data = {"ids": np.where(MASK, np.arange(1, 6), 0)}
        if special:
            data["special"] = SPECIAL.astype("int32")
        output, states = model(data)
        expected = pool_batch("mean", states.numpy(), special=SPECIAL if special else None)
        np.testing.assert_allclose(output, expected, atol=1e-6)
        np.testing.assert_allclose(model.predict(data, verbose=0)[0], expected, atol=1e-6)

    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_ends_the_mask_so_that_fit_works(self, mode):
        """With a mask on the output Keras applies it to the loss, and `fit` dies."""
        ids = keras.Input((None,), dtype="int32")
        states = keras.layers.Embedding(9, HIDDEN, mask_zero=True)(ids)
        pooled = SequencePooling(mode)(states)
        assert getattr(pooled, "_keras_mask", None) is None
        model = keras.Model(ids, pooled)
        model.compile("sgd", "mse")
        data = np.where(MASK, np.arange(1, 6), 0)
        before = model.get_weights()
        loss = model.train_on_batch(data, np.ones((5, HIDDEN)))
        # Every row counts, the one without any token too.
        expected = np.mean((pool_batch(mode, before[0][data]) - 1) ** 2)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert getattr(model(data), "_keras_mask", None) is None
        assert any(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))

    def test_unknown_sizes(self):
        for shape, expected in [((None, HIDDEN), (None, HIDDEN)), ((3, None, HIDDEN), (None, 3, HIDDEN))]:
            output = SequencePooling("mean")(keras.Input(shape), mask=keras.Input((None,), dtype="bool"))
            assert output.shape == expected


class TestZeroRows:
    @pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_zeros_and_finite_gradients(self, mode, normalize, dtype):
        """A row without any token, and one whose only token is zeros."""
        layer = SequencePooling(mode, normalize=normalize, dtype=dtype)
        states = tf.cast(np.concatenate([STATES[-1:], np.zeros_like(STATES[:1]), STATES[:1]]), layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(states)
            output = layer(states, mask=MASK[[4, 2, 0]])
            loss = tf.reduce_sum(tf.cast(output, "float32") * np.arange(1.0, 1 + HIDDEN, dtype="float32"))
        np.testing.assert_array_equal(output[:2], 0)
        assert np.any(output[2])
        gradient, *others = tape.gradient(loss, [states, *(weight.value for weight in layer.weights)])
        for value in (gradient, *others):
            assert np.all(np.isfinite(np.asarray(value, "float32")))
        assert not np.any(gradient[0])
        assert np.abs(np.asarray(gradient, "float32")).max() < 100

    def test_everything_special(self):
        layer = SequencePooling("mean", exclude_special_tokens=True)
        np.testing.assert_array_equal(layer(STATES, mask=MASK, special_tokens_mask=np.ones_like(MASK)), 0)


class TestPrecision:
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_near_float32(self, mode, normalize):
        run_precision_test(case(mode, normalize=normalize))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_casts_once_at_the_end(self, mode, dtype):
        low = keras.DTypePolicy(dtype).compute_dtype
        for states in (STATES, tf.cast(STATES, low)):
            exact = SequencePooling(mode)(tf.cast(states, "float32"), mask=MASK)
            output = SequencePooling(mode, dtype=dtype)(states, mask=MASK)
            assert output.dtype == low
            np.testing.assert_array_equal(output, tf.cast(exact, low))

    @pytest.mark.parametrize("mode", POOLING_MODES)
    @pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "mixed_bfloat16"])
    def test_long_sequences_of_large_states(self, mode, dtype):
        """The sum of 512 tokens near 300 and the square of each are more than float16 holds."""
        low = keras.DTypePolicy(dtype).compute_dtype
        states = np.random.default_rng(0).normal(300.0, 20.0, (2, 512, HIDDEN)).astype("float32")
        states = np.asarray(tf.cast(tf.cast(states, low), "float32"))
        mask = np.arange(512) < np.array([[512], [400]])
        for normalize in (False, True):
            layer = SequencePooling(mode, normalize=normalize, dtype=dtype)
            output = np.asarray(tf.cast(layer(tf.cast(states, low), mask=mask), "float64"))
            expected = pool_batch(mode, states, mask, normalize=normalize)
            np.testing.assert_allclose(output, expected, rtol=1e-3 if low == "float16" else 1e-2)

    @pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
    def test_small_numbers_are_not_zero_in_float16(self, dtype):
        """KerasHub adds 1e-9 to the count, which is 0 in float16: a row without tokens is NaN there."""
        states = tf.constant(np.full((2, 3, HIDDEN), 1e-4), "float16")
        mask = np.array([[1, 1, 0], [0, 0, 0]])
        mean = SequencePooling("mean", dtype=dtype)(states, mask=mask)
        np.testing.assert_array_equal(mean[0], states[0, 0])
        np.testing.assert_array_equal(mean[1], 0)
        # The square of 1e-4 is 0 in float16.
        unit = SequencePooling("mean", normalize=True, dtype=dtype)(states, mask=mask)
        np.testing.assert_allclose(unit[0], 1 / np.sqrt(HIDDEN), rtol=1e-3)
        np.testing.assert_array_equal(unit[1], 0)


class TestSaving:
    def test_get_config(self):
        base = case("mean")
        run_config_test(
            base,
            {
                "mode": "max",
                "exclude_special_tokens": base.changed(
                    exclude_special_tokens=True, call_arguments={"special_tokens_mask": SPECIAL}
                ),
                "normalize": True,
            },
        )


class TestErrors:
    def test_options_are_given_by_name(self):
        with pytest.raises(TypeError, match="positional argument"):
            SequencePooling("mean", True)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"mode": "sum"},
                r"one of cls, mean, max, mean_sqrt_length, weighted_mean, last_token, attention\. Received: mode='sum'",
            ),
            ({"mode": None}, r"`mode` to be one of.*Received: mode=None"),
            (
                {"mode": "cls", "exclude_special_tokens": True},
                r"cannot exclude it\. Received: mode='cls', exclude_special_tokens=True\. Choose another mode",
            ),
        ],
    )
    def test_of_the_constructor(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SequencePooling(**arguments)

    @pytest.mark.parametrize(
        ("inputs", "received"),
        [([STATES], "list"), ((STATES, STATES), "tuple"), ({"encoder_outputs": STATES}, "dict"), (None, "NoneType")],
    )
    def test_of_what_is_no_tensor(self, inputs, received):
        with pytest.raises(
            ValueError, match=rf"expects one tensor.*Received: inputs of type {received}\. Give it features"
        ):
            SequencePooling("mean")(inputs, mask=MASK)

    @pytest.mark.parametrize("shape", [(HIDDEN,), (5, HIDDEN), (1, 2, 3, 5, HIDDEN)])
    def test_of_rank(self, shape):
        with pytest.raises(ValueError, match=r"or \[batch, K, sequence, hidden\].*Received: inputs.shape=\("):
            SequencePooling("mean")(np.ones(shape, "float32"), mask=MASK)

    @pytest.mark.parametrize("states", [STATES, keras.KerasTensor((None, 5, HIDDEN))], ids=["eager", "symbolic"])
    @pytest.mark.parametrize("mode", POOLING_MODES)
    def test_without_any_mask(self, mode, states):
        with pytest.raises(
            ValueError, match=r"must know which tokens are real\. Received: mask=None.*Pass mask=features\['mask'\]"
        ):
            SequencePooling(mode)(states)

    @pytest.mark.parametrize(
        "mask", [MASK[0], MASK[:1], MASK[:, :3], MASK[..., np.newaxis], np.broadcast_to(MASK[:, None], (5, 3, 5))]
    )
    def test_of_the_shape_of_a_mask(self, mask):
        for states in (STATES, STACKED):
            with pytest.raises(ValueError, match=r"`mask` to be \[batch, sequence\]\. Received: mask.shape=\("):
                SequencePooling("mean")(states, mask=mask)
            with pytest.raises(ValueError, match=r"`mask` to be \[batch, sequence\]"):
                SequencePooling("mean")(masked(states, mask))
            with pytest.raises(ValueError, match=r"`special_tokens_mask` to be \[batch, sequence\]"):
                SequencePooling("mean", exclude_special_tokens=True)(states, mask=MASK, special_tokens_mask=mask)

    @pytest.mark.parametrize("name", ["exclude_special_tokens", "normalize"])
    @pytest.mark.parametrize("value", ["no", 1, None])
    def test_of_flags(self, name, value):
        with pytest.raises(TypeError, match=rf"`{name}` to be True or False\. Received: {name}="):
            SequencePooling("mean", **{name: value})

    @pytest.mark.parametrize("excluded", [False, True])
    def test_of_the_special_tokens_mask(self, excluded):
        given = {} if excluded else {"special_tokens_mask": SPECIAL}
        message = (
            rf"`special_tokens_mask` with exclude_special_tokens=True, and only then\. (?s:.)*"
            rf"Received: exclude_special_tokens={excluded}(?s:.)*return_special_tokens_mask=True"
        )
        with pytest.raises(ValueError, match=message):
            SequencePooling("mean", exclude_special_tokens=excluded)(STATES, mask=MASK, **given)
