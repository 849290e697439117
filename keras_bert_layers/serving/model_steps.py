"""A functional model as the list of its steps, so that an export can begin and end in the middle of it."""

from collections.abc import Container, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.keras_compatibility import functional_model, functional_nodes


class Step(NamedTuple):
    """One call of a layer; or, without an operation, the hand-over of a tensor to or from a model inside the model."""

    operation: Any
    arguments: Any
    inputs: list[KerasTensor]
    outputs: list[KerasTensor]


def check_functional(name: str, model: Any) -> None:
    """Checks that a model has inputs and outputs of its own.

    Raises:
        ValueError: if not, with the name of the argument.
    """
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            f"Expected `{name}` to be a functional model, keras.Model(inputs, outputs). "
            f"Received: {name} of class {type(model).__name__}, without inputs and outputs of its own. "
            "Call it on keras.Input(...) tensors and make a functional model of the result."
        )


def model_steps(model: keras.Model) -> list[Step]:
    """The steps of a functional model in their order; a model inside, called once, is taken apart too."""
    nodes = functional_nodes(model)
    steps = []
    for node in nodes:
        inner = functional_model(node.operation)
        calls = sum(other.operation is node.operation for other in nodes)
        if inner is not None and calls == 1 and _can_be_taken_apart(inner, node):
            steps += _hand_over(node.input_tensors, inner.inputs)
            steps += model_steps(inner)
            steps += _hand_over(inner.outputs, node.outputs)
        else:
            steps.append(Step(node.operation, node.arguments, node.input_tensors, node.outputs))
    return steps


def steps_to(steps: Sequence[Step], tensors: Iterable[KerasTensor], known: Container[int] = ()) -> list[Step]:
    """The steps that tensors need; `known` holds the `id` of each tensor that need not be made."""
    wanted = {id(tensor) for tensor in tensors}
    needed = []
    for step in reversed(steps):
        if any(id(output) in wanted and id(output) not in known for output in step.outputs):
            needed.append(step)
            wanted.update(map(id, step.inputs))
    return needed[::-1]


def run_steps(steps: Iterable[Step], values: dict[int, Any]) -> None:
    """Runs what can be run; `values` maps the `id` of each known KerasTensor to its value, and gets the others."""
    for step in steps:
        if all(id(output) in values for output in step.outputs) or any(id(x) not in values for x in step.inputs):
            continue
        if step.operation is None:
            outputs = [
                values[id(x)] if x.dtype == y.dtype else keras.ops.cast(values[id(x)], y.dtype)
                for x, y in zip(step.inputs, step.outputs, strict=True)
            ]
        else:
            outputs = keras.tree.flatten(call_step(step, values))
        for tensor, value in zip(step.outputs, outputs, strict=True):
            values.setdefault(id(tensor), value)


def call_step(step: Step, values: dict[int, Any]) -> Any:
    """What the operation of a step returns, in its own structure."""
    arguments, keyword_arguments = step.arguments.fill_in(values)
    return step.operation(*arguments, **keyword_arguments)


def _hand_over(tensors: Iterable[KerasTensor], others: Iterable[KerasTensor]) -> list[Step]:
    # One by one, for some may be strings and some not.
    return [Step(None, None, [x], [y]) for x, y in zip(tensors, others, strict=True)]


def _can_be_taken_apart(inner: Any, node: Any) -> bool:
    arguments = node.arguments
    return (
        len(arguments.args) == 1
        and not any(isinstance(value, KerasTensor) for value in keras.tree.flatten(arguments.kwargs))
        and [x.name for x in keras.tree.flatten(inner.input)] == [x.name for x in inner.inputs]
        and _same_structure(arguments.args[0], inner.input)
        and all(len(x.shape) == len(y.shape) for x, y in zip(node.input_tensors, inner.inputs, strict=True))
    )


def _same_structure(first: Any, second: Any) -> bool:
    try:
        keras.tree.assert_same_structure(first, second)
    except (TypeError, ValueError):
        return False
    return True


def makes_strings(step: Step) -> bool:
    """Whether strings come out where none went in, such as the names of classes."""
    # Of what it looks up, Keras 3 says that it is int64.
    looked_up = isinstance(step.operation, keras.layers.StringLookup) and step.operation.invert
    return (looked_up or any(map(is_string, step.outputs))) and not any(map(is_string, step.inputs))


def is_string(tensor: KerasTensor) -> bool:
    return tf.as_dtype(tensor.dtype) == tf.string
