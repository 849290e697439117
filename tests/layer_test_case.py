"""What every layer must do, as routines that a layer's own test fills with data (after KerasHub's `TestCase`).

A `LayerCase` says how a layer is made and what it is called on; each routine takes one:

- `run_layer_test`: eagerly, as a graph, compiled by XLA and in a functional model it gives the same; the symbolic
  outputs are as computed; rows do not depend on each other; every weight gets a gradient.
- `run_xla_test`: the same of several layers under XLA alone, compiled at once.
- `run_config_test`: each argument of the constructor survives `get_config`, in what the layer does.
- `run_precision_test`: 16-bit policies against float32.
- `run_saving_test`: a `.keras` file gives the same to the last bit in a process that has nothing else.
"""

import dataclasses
import inspect
import json
import pathlib
import pickle
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .fresh_process import run_in_fresh_process


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """A layer and what it is called on.

    Args:
        factory: the layer's class, or another function that makes the layer.
        arguments: of `factory`.
        inputs: the first argument of the call: an array, or lists, tuples and dicts of arrays. Arrays of str or object
            are texts.
        call_arguments: further arrays for the call, by name.
    """

    factory: Callable[..., keras.layers.Layer]
    arguments: Mapping[str, Any]
    inputs: Any
    call_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def make(self, **others: Any) -> keras.layers.Layer:
        """Makes the layer, always with the same random numbers."""
        keras.utils.set_random_seed(0)
        return self.factory(**{**self.arguments, **others})

    def changed(self, call_arguments: Mapping[str, Any] | None = None, **arguments: Any) -> "LayerCase":
        """The same case with other arguments of the constructor, and further ones of the call."""
        return dataclasses.replace(
            self,
            arguments={**self.arguments, **arguments},
            call_arguments={**self.call_arguments, **(call_arguments or {})},
        )

    @property
    def tensors(self) -> dict[str, Any]:
        """All tensors of the call, in the structure that `functional` takes."""
        structure = {"inputs": self.inputs, **self.call_arguments}
        return keras.tree.map_structure(as_tensor, structure)

    def call(self, layer: Callable[..., Any], training: bool = False) -> Any:
        return layer(**self.tensors, training=training)

    def functional(self, layer: keras.layers.Layer) -> keras.Model:
        """A functional model of the layer, called on `tensors`. The batch is left open."""
        tensors = self.tensors
        inputs = keras.tree.pack_sequence_as(
            tensors,
            [
                keras.Input(tensor.shape[1:], dtype=tensor.dtype.name, name="_".join(map(str, path)))
                for path, tensor in keras.tree.flatten_with_path(tensors)
            ],
        )
        return keras.Model(inputs, layer(**inputs))


def as_tensor(array: Any) -> tf.Tensor:
    return tf.constant(array, "string") if np.asarray(array).dtype.kind in "OSU" else tf.constant(array)


def flatten(outputs: Any) -> dict[str, np.ndarray]:
    """Structure of tensors -> one array for each place in it."""
    return {"/".join(map(str, path)): np.asarray(value) for path, value in keras.tree.flatten_with_path(outputs)}


def randomize(layer: keras.layers.Layer, seed: int = 1) -> None:
    """Moves every trainable weight, so that none has the value that it starts with."""
    random = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign_add(random.normal(0.0, 0.2, weight.shape))


def assert_close(outputs: Any, expected: Any, atol: float) -> None:
    """Every output has the structure, the dtype and, within `atol`, the numbers of the expected one."""
    outputs, expected = flatten(outputs), flatten(expected)
    assert set(outputs) == set(expected)
    for place, output in outputs.items():
        assert output.dtype == expected[place].dtype, place
        if is_float(output):
            np.testing.assert_allclose(widened(output), widened(expected[place]), rtol=0, atol=atol, err_msg=place)
        else:
            np.testing.assert_array_equal(output, expected[place], err_msg=place)


def is_float(array: np.ndarray) -> bool:
    return array.dtype.name in ("float16", "bfloat16", "float32", "float64")


def widened(array: np.ndarray) -> np.ndarray:
    return array.astype("float64") if is_float(array) else array


def run_layer_test(
    case: LayerCase,
    expected: Any = None,
    num_weights: int | None = None,
    num_trainable_weights: int | None = None,
    independent_rows: bool = True,
    xla: bool = True,
    atol: float = 1e-5,
) -> keras.layers.Layer:
    """Tests that a layer gives one and the same result however it is called, and trains.

    Args:
        case: the layer.
        expected: its outputs, in their structure, with the weights that it starts with; None to leave that out.
        num_weights, num_trainable_weights: how many it has after the call.
        independent_rows: whether each row of the batch is to give alone what it gives among the others.
        xla: whether it is to run under XLA too.
        atol: how far results may differ.

    Returns:
        The layer, with other weights than it started with.
    """
    layer = case.make()
    outputs = case.call(layer)
    if expected is not None:
        assert_close(outputs, expected, atol)
    if num_weights is not None:
        assert len(layer.weights) == num_weights
    if num_trainable_weights is not None:
        assert len(layer.trainable_weights) == num_trainable_weights

    randomize(layer)
    outputs = case.call(layer)
    tensors = case.tensors
    assert_close(tf.function(lambda: layer(**tensors))(), outputs, atol)
    if xla:
        assert_close(tf.function(lambda values: layer(**values), jit_compile=True)(tensors), outputs, atol)

    model = case.functional(layer)
    assert_close(model(tensors), outputs, atol)
    symbolic = keras.tree.flatten(model.output)
    for spec, output in zip(symbolic, keras.tree.flatten(outputs), strict=True):
        assert spec.dtype == output.dtype.name
        assert len(spec.shape) == len(output.shape)
        assert all(size in (None, actual) for size, actual in zip(spec.shape, output.shape, strict=True))
        assert spec.shape[0] is None

    if independent_rows:
        for row in range(keras.tree.flatten(tensors)[0].shape[0]):
            alone = layer(**keras.tree.map_structure(lambda value, row=row: value[row : row + 1], tensors))
            assert_close(alone, keras.tree.map_structure(lambda value, row=row: value[row : row + 1], outputs), atol)

    with tf.GradientTape() as tape:
        floats = [output for output in keras.tree.flatten(case.call(layer)) if output.dtype.is_floating]
        # Squared, for the sum of a softmax does not depend on its weights.
        loss = tf.add_n([tf.reduce_sum(tf.square(tf.cast(output, "float32"))) for output in floats] or [0.0])
    for weight, gradient in zip(
        layer.trainable_weights,
        tape.gradient(loss, [weight.value for weight in layer.trainable_weights]),
        strict=True,
    ):
        assert gradient is not None, weight.path
        gradient = tf.convert_to_tensor(gradient)  # That of an embedding is sparse.
        assert np.all(np.isfinite(gradient)), weight.path
        assert np.any(gradient), weight.path
    return layer


def run_xla_test(cases: Iterable[LayerCase], atol: float = 1e-5) -> None:
    """Tests that layers give under XLA what they give eagerly; all in one compilation, which takes most of the time."""
    calls = [(case.make(), case.tensors) for case in cases]
    for layer, tensors in calls:
        layer(**tensors)
        randomize(layer)
    compiled = tf.function(
        lambda inputs: [layer(**tensors) for (layer, _), tensors in zip(calls, inputs, strict=True)], jit_compile=True
    )
    for (layer, tensors), outputs in zip(calls, compiled([tensors for _, tensors in calls]), strict=True):
        assert_close(outputs, layer(**tensors), atol)


def run_config_test(
    case: LayerCase,
    variants: Mapping[str, Any],
    inherited: Iterable[str] = ("name", "dtype", "trainable"),
    safe_mode: bool = True,
    unseen: Iterable[str] = ("name",),
) -> None:
    """Tests that `get_config` holds every argument of the constructor, and that each does after it what it did before.

    Args:
        case: the layer.
        variants: for every argument of the constructor a value that changes what the layer does; or a `LayerCase`,
            where other arguments must change with it.
        inherited: those of Keras's own arguments that a constructor with `**kwargs` takes.
        safe_mode: whether the layer comes back in Keras's safe mode.
        unseen: attributes that outputs do not show.
    """
    base = case.make()
    before = _observe(case, base)
    parameters = list(inspect.signature(type(base).__init__).parameters.values())[1:]
    names = {parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD}
    variants = dict(variants)
    if len(names) < len(parameters):
        keras_variants = {"name": "another_name", "dtype": "mixed_bfloat16", "trainable": False}
        names |= set(inherited)
        variants = {name: keras_variants[name] for name in inherited} | variants
    assert set(variants) == names, f"no variant, or no argument: {sorted(set(variants) ^ names)}"
    assert names <= set(base.get_config()), f"not in get_config: {sorted(names - set(base.get_config()))}"

    for name, value in variants.items():
        variant = value if isinstance(value, LayerCase) else case.changed(**{name: value})
        layer = variant.make()
        observed = _observe(variant, layer)
        if name in unseen:
            assert getattr(layer, name) == variant.arguments[name]
        elif variant is value:
            # Against the same with this one argument as it was.
            without = {**variant.arguments, **case.arguments}
            if name not in case.arguments:
                del without[name]
            others = dataclasses.replace(case, arguments=without, inputs=variant.inputs)
            assert not _equal(observed, _observe(others, others.make())), f"{name} changes nothing"
        else:
            assert not _equal(observed, before), f"{name} changes nothing"
        # As a `.keras` file does it.
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
        keras.utils.set_random_seed(0)
        again = keras.saving.deserialize_keras_object(config, safe_mode=safe_mode)
        assert again.name == layer.name
        assert _equal(_observe(variant, again), observed), f"{name} does not survive get_config"


def _observe(case: LayerCase, layer: keras.layers.Layer) -> dict[str, Any]:
    outputs = {"inference": case.call(layer), "training": case.call(layer, training=True)}
    return {
        "outputs": flatten(outputs),
        "weights": flatten([weight.value for weight in layer.weights if weight.dtype != "uint32"]),
        "trainable": {"layer": layer.trainable} | {str(i): w.trainable for i, w in enumerate(layer.weights)},
        "dtypes": {"policy": layer.dtype_policy.name} | {str(i): w.dtype for i, w in enumerate(layer.weights)},
    }


def _equal(first: Any, second: Any) -> bool:
    """Equality to the last bit, where NaN equals NaN."""
    if isinstance(first, dict):
        return set(first) == set(second) and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, np.ndarray):
        if first.dtype != second.dtype or first.shape != second.shape:
            return False
        return first.tolist() == second.tolist() if first.dtype == object else first.tobytes() == second.tobytes()
    return first == second


def run_precision_test(
    case: LayerCase, policies: Iterable[str] = ("mixed_bfloat16", "mixed_float16"), tolerance: float = 2e-2
) -> None:
    """Tests 16-bit policies: each output's norm of the difference to float32 is at most `tolerance` of its norm."""
    reference = case.make(dtype="float32")
    case.call(reference)
    randomize(reference)
    expected = flatten(case.call(reference))
    for policy in policies:
        layer = case.make(dtype=policy)
        case.call(layer)
        layer.set_weights(reference.get_weights())
        outputs = flatten(case.call(layer))
        assert set(outputs) == set(expected)
        for place, output in outputs.items():
            if not is_float(expected[place]):
                assert output.dtype == expected[place].dtype, place
                np.testing.assert_array_equal(output, expected[place])
                continue
            assert output.dtype.name == keras.DTypePolicy(policy).compute_dtype, place
            assert np.all(np.isfinite(widened(output))), place
            difference = np.linalg.norm((widened(output) - widened(expected[place])).ravel())
            assert difference <= tolerance * np.linalg.norm(widened(expected[place]).ravel()), (policy, place)
        assert {weight.dtype for weight in layer.trainable_weights} <= {"float32"}


_LOAD_AND_CALL = """
import pathlib, pickle, sys

safe_mode, *blocked = sys.argv[1:]
for name in blocked:
    sys.modules[name] = None  # Importing it raises ImportError, as if it was not installed.
import keras, numpy as np, tensorflow as tf, keras_bert_layers

for file in sorted(pathlib.Path().glob("*.keras")):
    model = keras.saving.load_model(file, safe_mode=safe_mode == "True")
    tensors = pickle.loads(file.with_suffix(".tensors").read_bytes())
    outputs = model(keras.tree.map_structure(tf.constant, tensors))
    result = {
        "outputs": keras.tree.map_structure(np.asarray, outputs),
        "trainable": [weight.trainable for weight in model.weights],
    }
    file.with_suffix(".result").write_bytes(pickle.dumps(result))
"""


def run_saving_test(
    cases: Mapping[str, LayerCase],
    directory: pathlib.Path,
    safe_mode: bool = True,
    blocked_imports: Iterable[str] = (),
    delete: Iterable[pathlib.Path] = (),
) -> None:
    """Tests that `.keras` files give the same to the last bit in a fresh process, where nothing else is left.

    Args:
        cases: the layers by name, all for one process, for its start takes most of the time.
        directory: an empty directory.
        safe_mode: of `keras.saving.load_model`.
        blocked_imports: packages that the process is not to have.
        delete: files and directories that the layers were made from, deleted before loading.
    """
    written, elsewhere = directory / "written", directory / "elsewhere"
    written.mkdir()
    expected = {}
    for name, case in cases.items():
        layer = case.make()
        model = case.functional(layer)
        randomize(layer)
        expected[name] = (flatten(model(case.tensors)), [weight.trainable for weight in model.weights])
        model.save(written / f"{name}.keras")
        tensors = keras.tree.map_structure(lambda tensor: tensor.numpy(), case.tensors)
        (written / f"{name}.tensors").write_bytes(pickle.dumps(tensors))
    written.rename(elsewhere)
    for path in delete:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_in_fresh_process(_LOAD_AND_CALL, str(safe_mode), *blocked_imports, cwd=elsewhere)
    for name, (outputs, trainable) in expected.items():
        result = pickle.loads((elsewhere / f"{name}.result").read_bytes())
        assert _equal(flatten(result["outputs"]), outputs), name
        assert result["trainable"] == trainable, name
