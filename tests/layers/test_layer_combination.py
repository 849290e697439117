"""`LayerCombination` against NumPy, and `"weighted"` against AllenNLP's formula."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import LayerCombination
from keras_bert_layers.layers.layer_combination import COMBINE_MODES

from ..layer_test_case import (
    LayerCase,
    run_config_test,
    run_layer_test,
    run_precision_test,
    run_xla_test,
)

BATCH, SEQUENCE, HIDDEN, K = 3, 5, 8, 4
WEIGHTS = [3.0, 1.0, 0.5, 2.0]
OPTIONS = {
    "plain": {},
    "layer_norm": {"layer_norm": True},
    "initial_weights": {"initial_weights": WEIGHTS},
    "temperature": {"initial_weights": WEIGHTS, "temperature": 4.0},
    "dropout": {"dropout": 0.3},
    "all": {"layer_norm": True, "dropout": 0.3, "initial_weights": WEIGHTS, "temperature": 0.5},
}


def make_states(shape=(BATCH, SEQUENCE, HIDDEN), count=K, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(i, 1.0 + i, shape).astype("float32") for i in range(count)]


def softmax(values, axis=-1):
    exponentials = np.exp(values - np.max(values, axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def scalar_mix(states, w, gamma, layer_norm=False):
    """AllenNLP's ScalarMix in NumPy; `layer_norm` per token, where AllenNLP takes the whole batch."""
    normed_weights = softmax(np.asarray(w, "float64"))
    pieces = []
    for weight, state in zip(normed_weights, np.asarray(states, "float64"), strict=True):
        if layer_norm:
            mean = state.mean(axis=-1, keepdims=True)
            variance = ((state - mean) ** 2).mean(axis=-1, keepdims=True)
            state = (state - mean) / np.sqrt(variance + 1e-12)
        pieces.append(weight * state)
    return gamma * sum(pieces)


def attention(states, query):
    stacked = np.stack(states, axis=-2).astype("float64")
    weights = softmax(stacked @ query / np.sqrt(stacked.shape[-1]))
    return (weights[..., np.newaxis] * stacked).sum(axis=-2)


# A row for each mode, as it starts: with equal weights and a query of zeros.
IN_NUMPY = {
    "stack": functools.partial(np.stack, axis=1),
    "concat": functools.partial(np.concatenate, axis=-1),
    "sum": functools.partial(np.sum, axis=0),
    "mean": functools.partial(np.mean, axis=0),
    "max": functools.partial(np.max, axis=0),
    "last": lambda states: states[-1],
    "weighted": functools.partial(np.mean, axis=0),
    "attention": functools.partial(np.mean, axis=0),
}
NUM_WEIGHTS = {"weighted": 2, "attention": 1}
SHAPES = [(BATCH, SEQUENCE, HIDDEN), (BATCH, HIDDEN), (BATCH, 2, SEQUENCE, HIDDEN)]


def has_sequence_axis(mode):
    return IN_NUMPY[mode](make_states()).shape[:2] == (BATCH, SEQUENCE)


def case(mode, states=None, **options):
    return LayerCase(LayerCombination, {"mode": mode, **options}, make_states() if states is None else states)


# For tests/layers/test_keras_files.py.
SAVED = {
    **{mode: case(mode) for mode in COMBINE_MODES},
    **{f"weighted_{name}": case("weighted", **options) for name, options in OPTIONS.items()},
    "frozen": case("weighted", initial_weights=WEIGHTS, trainable=False),
    "bfloat16": case("weighted", dtype="mixed_bfloat16", initial_weights=WEIGHTS),
}


def set_weights(layer, count=K, seed=3):
    """Random weights, as after training; returns them."""
    random = np.random.default_rng(seed)
    w, gamma = random.normal(size=count).astype("float32"), np.float32(1.7)
    layer.set_weights([w, gamma, *layer.get_weights()[2:]])
    return w, gamma


class TestModes:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_as_numpy(self, mode, shape):
        states = make_states(shape)
        run_layer_test(
            case(mode, states),
            expected=IN_NUMPY[mode](states).astype("float32"),
            num_weights=NUM_WEIGHTS.get(mode, 0),
            num_trainable_weights=NUM_WEIGHTS.get(mode, 0),
            xla=False,
        )

    def test_under_xla(self):
        run_xla_test([case(mode, make_states(shape)) for mode in COMBINE_MODES for shape in SHAPES])

    @pytest.mark.filterwarnings("error:.*softmax")
    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_one_layer(self, mode):
        states = make_states(count=1)
        np.testing.assert_allclose(LayerCombination(mode)(states), IN_NUMPY[mode](states), atol=1e-6)

    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_a_tuple_is_a_list(self, mode):
        layer = LayerCombination(mode)
        np.testing.assert_array_equal(layer(tuple(make_states())), layer(make_states()))

    @pytest.mark.parametrize("mode", ["sum", "mean", "weighted"])
    def test_a_sum_is_made_of_additions_that_wait_for_nothing(self, mode):
        """What an encoder does so that its executor drops the states early is not for a user's own list."""
        layer, states = LayerCombination(mode), make_states()
        layer(states)
        operations = tf.function(lambda: layer(states)).get_concrete_function().graph.get_operations()
        additions = [operation for operation in operations if operation.type == "AddV2"]
        assert len(additions) == K - 1
        assert not any(addition.control_inputs for addition in additions)
        assert not {"Sub", "Neg"} & {operation.type for operation in operations}

    def test_attention_with_a_query(self):
        states = make_states()
        layer = LayerCombination("attention")
        layer.build([(None, None, HIDDEN)] * K)
        query = np.random.default_rng(1).normal(size=HIDDEN).astype("float32")
        layer.set_weights([query])
        np.testing.assert_allclose(layer(states), attention(states, query), atol=1e-5)
        # Each token has its own weights, at whatever rank.
        tokens = [state.reshape(-1, HIDDEN) for state in states]
        np.testing.assert_allclose(layer(tokens), attention(tokens, query), atol=1e-5)

    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_independent_of_the_batch(self, mode):
        options = {"layer_norm": True} if mode == "weighted" else {}
        states = make_states()
        layer = LayerCombination(mode, **options)
        output = np.asarray(layer(states))
        others = [state.copy() for state in states]
        for state in others:
            state[1:] *= 1000.0
            state[0, 1:] -= 77.0
        changed = np.asarray(layer(others))
        token = (0, 0) if has_sequence_axis(mode) else (0, slice(None), 0)
        np.testing.assert_array_equal(changed[token], output[token])
        alone = np.asarray(layer([state[:1, :1] for state in states]))
        np.testing.assert_allclose(alone[token], output[token], atol=1e-6)


class TestWeighted:
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
    def test_is_allennlps_scalar_mix(self, options):
        states = make_states()
        layer = LayerCombination("weighted", **options)
        layer(states)
        w, gamma = set_weights(layer)
        expected = scalar_mix(states, w / options.get("temperature", 1.0), gamma, options.get("layer_norm", False))
        np.testing.assert_allclose(layer(states), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        np.testing.assert_allclose(layer.layer_weights, softmax(w / options.get("temperature", 1.0)), atol=1e-6)

    @pytest.mark.parametrize("temperature", [0.25, 1.0, 10.0])
    def test_starts_with_the_initial_weights_at_any_temperature(self, temperature):
        states = make_states()
        layer = LayerCombination("weighted", initial_weights=WEIGHTS, temperature=temperature)
        expected = np.average(states, axis=0, weights=WEIGHTS)
        np.testing.assert_allclose(layer(states), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        np.testing.assert_allclose(layer.layer_weights, np.array(WEIGHTS) / sum(WEIGHTS), atol=1e-6)
        assert float(layer.gamma) == 1.0

    def test_temperature_keeps_the_weights_alike(self):
        def spread(temperature):
            layer = LayerCombination("weighted", temperature=temperature)
            layer(make_states())
            set_weights(layer)
            return np.ptp(layer.layer_weights)

        assert spread(10.0) < spread(1.0) < spread(0.3)

    @pytest.mark.parametrize("weights", [np.array(WEIGHTS), tuple(WEIGHTS), [3, 1, 1, 2]])
    def test_initial_weights_in_any_form(self, weights):
        layer = LayerCombination("weighted", initial_weights=weights)
        layer(make_states())
        np.testing.assert_allclose(layer.layer_weights, np.array(weights) / np.sum(weights), atol=1e-6)
        assert layer.get_config()["initial_weights"] == [float(weight) for weight in weights]

    def test_layer_norm_of_a_constant_token_is_zero(self):
        output = LayerCombination("weighted", layer_norm=True)([np.full((1, 2, HIDDEN), 5.0, "float32")] * 2)
        np.testing.assert_array_equal(output, 0.0)

    def test_layer_weights_need_weights(self):
        with pytest.raises(AttributeError, match=r'Expected a LayerCombination\("weighted"\).*Received: mode=\'mean\''):
            _ = LayerCombination("mean").layer_weights
        with pytest.raises(AttributeError, match="built=False"):
            _ = LayerCombination("weighted").layer_weights

    def test_fixed_weighted_mean(self):
        states = make_states()
        layer = LayerCombination("weighted", initial_weights=WEIGHTS, trainable=False)
        inputs = [keras.Input((SEQUENCE, HIDDEN)) for _ in states]
        model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(states, np.ones((BATCH, SEQUENCE, 1)), verbose=0)
        assert layer.trainable_weights == []
        expected = np.average(states, axis=0, weights=WEIGHTS)
        np.testing.assert_allclose(layer(states), expected, rtol=0, atol=1e-6 * np.abs(expected).max())

    def test_fit_moves_the_weights(self):
        states = make_states()
        layer = LayerCombination("weighted")
        inputs = [keras.Input((SEQUENCE, HIDDEN)) for _ in states]
        model = keras.Model(inputs, layer(inputs))
        model.compile(keras.optimizers.Adam(0.1), "mse")
        batch = (tuple(states), states[2])
        model.fit(tf.data.Dataset.from_tensors(batch).repeat(100), shuffle=False, verbose=0)
        assert np.argmax(layer.layer_weights) == 2
        assert layer.layer_weights[2] > 0.9


class TestDropout:
    def test_in_training_only(self):
        states = make_states()
        layer = LayerCombination("weighted", dropout=0.5)
        without = LayerCombination("weighted")
        for training in (False, None):
            np.testing.assert_array_equal(layer(states, training=training), without(states))
        draws = [np.asarray(layer(states, training=True)) for _ in range(20)]
        assert len({draw.tobytes() for draw in draws}) > 3

    def test_drops_each_layer_as_often_as_it_should(self):
        keras.utils.set_random_seed(0)
        rate, draws = 0.3, 3000
        layer = LayerCombination("weighted", dropout=rate)
        # State k is a unit vector, so that the output is the weights themselves.
        states = [row.reshape(1, 1, K) for row in np.eye(K, dtype="float32")]
        layer(states)
        draw = tf.function(lambda: tf.map_fn(lambda _: layer(states, training=True)[0, 0], tf.zeros(draws)))
        weights = draw().numpy()
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
        # The layers that are left share the weight; where all are dropped, all do.
        counts = np.round(1 / weights.max(axis=-1)).astype(int)
        np.testing.assert_allclose(weights, np.where(weights > 0, 1 / counts[:, np.newaxis], 0.0), atol=1e-5)
        all_dropped = rate**K
        tolerance = 5 * np.sqrt(rate * (1 - rate) / draws)
        np.testing.assert_allclose((weights == 0).mean(axis=0), rate - all_dropped, atol=tolerance)
        # Independently of each other.
        both = ((weights[:, 0] == 0) & (weights[:, 1] == 0)).mean()
        assert abs(both - (rate**2 - all_dropped)) < tolerance

    def test_the_remaining_layers_keep_their_proportions(self):
        layer = LayerCombination("weighted", dropout=0.5, initial_weights=WEIGHTS)
        states = [row.reshape(1, 1, K) for row in np.eye(K, dtype="float32")]
        for _ in range(20):
            weights = np.asarray(layer(states, training=True))[0, 0]
            kept = np.array(WEIGHTS) * (weights > 0)
            if not np.allclose(weights, 1 / K):  # All were dropped.
                np.testing.assert_allclose(weights, kept / kept.sum(), atol=1e-5)

    @pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
    def test_all_dropped_is_the_mean(self, dtype):
        layer = LayerCombination("weighted", dropout=0.999999, initial_weights=WEIGHTS, dtype=dtype)
        states = make_states()
        with tf.GradientTape() as tape:
            output = layer(states, training=True)
            loss = tf.reduce_sum(tf.square(tf.cast(output, "float32")))
        np.testing.assert_allclose(np.asarray(output, "float32"), np.mean(states, axis=0), atol=0.05)
        for gradient in tape.gradient(loss, [layer.w.value, layer.gamma.value]):
            assert np.all(np.isfinite(gradient))

    def test_in_fit(self):
        layer = LayerCombination("weighted", dropout=0.5)
        inputs = [keras.Input((SEQUENCE, HIDDEN)) for _ in range(K)]
        model = keras.Model(inputs, layer(inputs))
        model.compile("sgd", "mse")
        states = make_states()
        assert np.all(np.isfinite([model.train_on_batch(states, states[0]) for _ in range(3)]))
        assert len({model.evaluate(states, states[0], verbose=0) for _ in range(3)}) == 1


class TestPrecision:
    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_near_float32(self, mode):
        run_precision_test(case(mode))

    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
    def test_weighted_near_float32(self, options):
        run_precision_test(case("weighted", **options))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_casts_once_at_the_end(self, mode, dtype):
        """The float32 result rounded once, to the last bit: from 16-bit states, and from float32 ones too."""
        low = keras.DTypePolicy(dtype).compute_dtype
        for states in (make_states(), [tf.cast(state, low) for state in make_states()]):
            exact = LayerCombination(mode)([tf.cast(state, "float32") for state in states])
            output = LayerCombination(mode, dtype=dtype)(states)
            assert output.dtype == low
            np.testing.assert_array_equal(output, tf.cast(exact, low))

    def test_no_overflow_on_the_way(self):
        """70,000 is more than float16 holds, as is the sum of two times 60,000; their means are not."""
        mean = LayerCombination("mean", dtype="mixed_float16")
        half = tf.fill((1, 2), tf.constant(60000.0, "float16"))
        np.testing.assert_array_equal(mean([half, half]), half)
        np.testing.assert_array_equal(mean([np.full((1, 2), 70000.0, "float32"), np.zeros((1, 2), "float32")]), 35008.0)
        normed = LayerCombination("weighted", layer_norm=True, dtype="mixed_float16")
        state = tf.constant([[30000.0, -30000.0]], "float16")
        np.testing.assert_array_equal(normed([state, state]), [[1.0, -1.0]])


class TestMasks:
    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_implicit_mask_passes_through(self, mode):
        ids = np.array([[1, 2, 0], [3, 0, 0]])
        embedding = keras.layers.Embedding(5, HIDDEN, mask_zero=True)
        layer = LayerCombination(mode)
        output = layer([embedding(ids), embedding(ids)])
        inputs = keras.Input((None,), dtype="int32")
        symbolic = layer([embedding(inputs), embedding(inputs)])
        assert layer.has_sequence_axis == has_sequence_axis(mode)
        if not layer.has_sequence_axis:
            assert getattr(output, "_keras_mask", None) is None
            assert getattr(symbolic, "_keras_mask", None) is None
        else:
            np.testing.assert_array_equal(output._keras_mask, ids > 0)
            assert symbolic._keras_mask is not None
            np.testing.assert_array_equal(keras.Model(inputs, symbolic)(ids)._keras_mask, ids > 0)

    def test_from_whichever_state_has_one(self):
        ids = np.array([[1, 2, 0]])
        masked = keras.layers.Embedding(5, HIDDEN, mask_zero=True)(ids)
        output = LayerCombination("sum")([np.ones((1, 3, HIDDEN), "float32"), masked])
        np.testing.assert_array_equal(output._keras_mask, ids > 0)

    def test_no_mask_stays_no_mask(self):
        assert getattr(LayerCombination("sum")(make_states()), "_keras_mask", None) is None


class TestAlone:
    def test_mixes_the_layers_of_any_model(self):
        """A learned mix of hidden Dense layers, which have nothing to do with BERT."""
        inputs = keras.Input((6,))
        hidden, states = inputs, []
        for _ in range(3):
            hidden = keras.layers.Dense(HIDDEN, activation="tanh")(hidden)
            states.append(hidden)
        layer = LayerCombination("attention")
        model = keras.Model(inputs, keras.layers.Dense(1)(layer(states)))
        assert layer.output.shape == (None, HIDDEN)
        model.compile("adam", "mse")
        features = np.random.default_rng(0).normal(size=(16, 6))
        model.fit(features, features[:, 0], epochs=2, verbose=0)
        assert np.any(layer.query.numpy())

    @pytest.mark.parametrize("mode", COMBINE_MODES)
    def test_unknown_sizes_of_symbolic_inputs(self, mode):
        inputs = [keras.Input((None, HIDDEN)) for _ in range(2)]
        unknown = {BATCH: None, SEQUENCE: None}
        expected = tuple(unknown.get(size, size) for size in IN_NUMPY[mode](make_states(count=2)).shape)
        assert LayerCombination(mode)(inputs).shape == expected

    def test_integers_are_taken(self):
        output = LayerCombination("mean")([np.array([[1, 2]]), np.array([[2, 4]])])
        assert output.dtype == "float32"
        np.testing.assert_array_equal(output, [[1.5, 3.0]])


class TestSaving:
    def test_get_config(self):
        run_config_test(
            case("weighted", layer_norm=False),
            {
                "mode": "attention",
                "layer_norm": True,
                "dropout": 0.5,
                "initial_weights": WEIGHTS,
                # Of equal weights there is nothing to see.
                "temperature": LayerCase(
                    LayerCombination,
                    {"mode": "weighted", "initial_weights": WEIGHTS, "temperature": 3.0},
                    make_states(),
                ),
            },
        )

    def test_temperature_survives_get_config(self):
        """It changes nothing before training, so that `run_config_test` cannot see it."""
        layer = LayerCombination("weighted", temperature=3.0)
        again = LayerCombination.from_config(layer.get_config())
        for one in (layer, again):
            one(make_states())
            set_weights(one)
        np.testing.assert_array_equal(again(make_states()), layer(make_states()))
        plain = LayerCombination("weighted")
        plain(make_states())
        set_weights(plain)
        assert np.abs(plain(make_states()) - layer(make_states())).max() > 0.1

    def test_clone_model(self):
        inputs = [keras.Input((SEQUENCE, HIDDEN)) for _ in range(K)]
        model = keras.Model(inputs, LayerCombination("weighted", temperature=2.0, initial_weights=WEIGHTS)(inputs))
        clone = keras.models.clone_model(model)
        np.testing.assert_array_equal(clone(make_states()), model(make_states()))


class TestErrors:
    def test_options_are_given_by_name(self):
        with pytest.raises(TypeError, match="positional argument"):
            LayerCombination("weighted", True)

    @pytest.mark.parametrize("mode", ["weighted", "mean"])
    @pytest.mark.parametrize("value", ["no", 1, None])
    def test_layer_norm_is_a_flag(self, value, mode):
        with pytest.raises(TypeError, match=r"`layer_norm` to be True or False\. Received: layer_norm="):
            LayerCombination(mode, layer_norm=value)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mode": "average"}, r"`mode` to be one of stack, concat, .*attention\. Received: mode='average'"),
            ({"mode": None}, r"`mode` to be one of.*Received: mode=None"),
            (
                {"mode": "mean", "dropout": 0.1},
                r'belong to mode "weighted" alone\. Received: mode=\'mean\', dropout=0.1',
            ),
            (
                {"mode": "attention", "layer_norm": True, "temperature": 2.0},
                r"Received: mode='attention', layer_norm=True, temperature=2.0\. Leave them out",
            ),
            ({"mode": "sum", "initial_weights": np.ones(2)}, r"Received: mode='sum', initial_weights=\[1.0, 1.0\]"),
            ({"mode": "weighted", "dropout": 1.0}, r"`dropout` to be at least 0 and below 1\. Received: dropout=1.0"),
            ({"mode": "weighted", "dropout": -0.1}, r"Received: dropout=-0.1"),
            ({"mode": "weighted", "dropout": None}, r"Received: dropout=None"),
            ({"mode": "weighted", "dropout": float("nan")}, r"Received: dropout=nan"),
            ({"mode": "weighted", "initial_weights": "12"}, r"Received: initial_weights='12'"),
            ({"mode": "weighted", "temperature": 0}, r"`temperature` to be positive\. Received: temperature=0"),
            ({"mode": "weighted", "temperature": -1.0}, r"Received: temperature=-1.0"),
            ({"mode": "weighted", "temperature": float("inf")}, r"Received: temperature=inf"),
            ({"mode": "weighted", "temperature": "high"}, r"Received: temperature='high'"),
            (
                {"mode": "weighted", "initial_weights": [1.0, 0.0]},
                r"positive numbers, one for each layer\. Received: initial_weights=\[1.0, 0.0\]\. To leave a layer out",
            ),
            ({"mode": "weighted", "initial_weights": [1, -1]}, r"Received: initial_weights=\[1, -1\]"),
            ({"mode": "weighted", "initial_weights": [float("nan")]}, r"Received: initial_weights=\[nan\]"),
            ({"mode": "weighted", "initial_weights": 3}, r"Received: initial_weights=3"),
            ({"mode": "weighted", "initial_weights": []}, r"Received: initial_weights=\[\]"),
            ({"mode": "weighted", "initial_weights": ["a"]}, r"Received: initial_weights=\['a'\]"),
        ],
    )
    def test_of_the_constructor(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            LayerCombination(**arguments)

    def test_number_of_initial_weights(self):
        with pytest.raises(
            ValueError, match=r"one initial weight for each of the 4 layers\. Received: initial_weights="
        ):
            LayerCombination("weighted", initial_weights=[1, 2])(make_states())

    def test_another_number_of_layers_later(self):
        layer = LayerCombination("weighted")
        layer(make_states())
        with pytest.raises(ValueError, match=r"a weight for each of 4 layers\. Received: 3 layers"):
            layer(make_states(count=3))

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (np.ones((2, 3)), r"a list of at least one tensor, one for each layer\. Received: inputs=array"),
            ([], r"at least one tensor.*Received: inputs=\[\]"),
            ({"a": np.ones((2, 3))}, r"a list of at least one tensor.*Received: inputs=\{'a'"),
            ([[1.0], [2.0]], r"a list of tensors or arrays.*Received: a list with \[1.0\] of type list in it"),
            ([np.ones((2, 3)), None], r"Received: a list with None of type NoneType"),
            ([np.ones((2, 3)), np.ones((2, 4))], r"tensors of one shape\. Received: shapes=\[\(2, 3\), \(2, 4\)\]"),
            ([np.ones((2, 3)), np.ones((1, 3))], r"Received: shapes=\[\(2, 3\), \(1, 3\)\]"),
            ([np.ones((2, 3)), np.ones((2, 1, 3))], r"Received: shapes=\[\(2, 3\), \(2, 1, 3\)\]"),
        ],
    )
    def test_of_inputs(self, inputs, message):
        with pytest.raises(ValueError, match=message):
            LayerCombination("mean")(inputs)

    def test_of_symbolic_shapes(self):
        with pytest.raises(ValueError, match=r"Received: shapes=\[\(None, 5, 8\), \(None, 6, 8\)\]"):
            LayerCombination("mean")([keras.Input((5, 8)), keras.Input((6, 8))])
