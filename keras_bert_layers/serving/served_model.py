import functools
import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.keras_compatibility import functional_model, operation_of
from keras_bert_layers.serving.join_preprocessor import join_preprocessor
from keras_bert_layers.serving.model_steps import Step, is_string, makes_strings, model_steps, run_steps, steps_to
from keras_bert_layers.serving.pruned_function import PrunedFunction, Tensors
from keras_bert_layers.text.text_preprocessor import TextPreprocessor
from keras_bert_layers.token_inputs import HUGGINGFACE_NAMES, PADDING, TFHUB_NAMES


class ServedModel:
    """A functional model whose parts run by themselves, with the names that an export gives to its tensors.

    Args:
        model: on texts or on ids.
        preprocessor, inputs: as `export_saved_model` takes them.

    Attributes:
        model: from texts, where there is a preprocessor.
        inputs, outputs: name -> KerasTensor.
        text_inputs: those of the inputs that are strings.
        host_outputs: what is made of texts and is no text, by the key that a preprocessor gives it.
        string_outputs: those of the outputs that are texts, or are made of texts that the model makes.
        string_sources: what these are made of.
        steps: all of the model, in order.
        dense_steps: those that neither take texts nor follow the making of one.
        preprocessors, encoders: the steps that call one.
    """

    def __init__(
        self, model: keras.Model, preprocessor: TextPreprocessor | keras.Model | None = None, inputs: str | None = None
    ):
        model = functional_model(model) or model
        output_names = _output_names(model)
        if preprocessor is not None:
            model = join_preprocessor(preprocessor, model, inputs)
        self.model = model
        self.inputs = dict(zip(_input_names(model), model.inputs, strict=True))
        self.outputs = dict(zip(output_names, model.outputs, strict=True))
        self.text_inputs = {name: tensor for name, tensor in self.inputs.items() if is_string(tensor)}
        self.steps = model_steps(model)
        self.dense_steps: list[Step] = []
        host_steps: list[Step] = []
        string_steps: list[Step] = []
        made: set[int] = set()
        for step in self.steps:
            if makes_strings(step) or not made.isdisjoint(map(id, step.inputs)):
                string_steps.append(step)
                made.update(map(id, step.outputs))
            else:
                (host_steps if any(map(is_string, step.inputs)) else self.dense_steps).append(step)
        self.host_outputs = _host_outputs(host_steps)
        self.string_outputs = {name: x for name, x in self.outputs.items() if id(x) in made or is_string(x)}
        needed = steps_to(string_steps, self.string_outputs.values())
        sources = {id(x): x for step in needed for x in step.inputs if id(x) not in made and not is_string(x)}
        self.string_sources = {f"string_source_{i}": tensor for i, tensor in enumerate(sources.values())}
        self.preprocessors = [step for step in host_steps if isinstance(step.operation, TextPreprocessor)]
        self.encoders = [step for step in self.dense_steps if isinstance(step.operation, EncoderContract)]

    @property
    def sequence_length(self) -> int | None:
        """The longest row in tokens; None for a model on ids of any length."""
        if self.preprocessors:
            return max(step.operation.sequence_length for step in self.preprocessors)
        names = (TFHUB_NAMES[0], HUGGINGFACE_NAMES[0])
        return next((tensor.shape[1] for name, tensor in self.inputs.items() if name in names), None)

    @functools.cached_property
    def tokenize(self) -> PrunedFunction:
        """The text inputs -> the host outputs."""
        return PrunedFunction(lambda **texts: self.run(self.host_outputs, texts), specs(self.text_inputs))

    def values(self, wanted: Iterable[KerasTensor], given: Tensors) -> dict[int, Any]:
        """The values of tensors, and of all that is made on the way, by the `id` of each.

        Args:
            wanted: what is to be made. What cannot be made of the tensors that are given is left out.
            given: tensors with the names of inputs, host outputs or string sources.
        """
        values: dict[int, Any] = {
            id(tensor): given[name]
            for tensors in (self.inputs, self.host_outputs, self.string_sources)
            for name, tensor in tensors.items()
            if name in given
        }
        run_steps(steps_to(self.steps, wanted, values), values)
        return values

    def run(self, wanted: dict[str, KerasTensor], given: Tensors) -> Tensors:
        """The values of tensors, all of which can be made of what is given, by name."""
        values = self.values(wanted.values(), given)
        return {name: values[id(tensor)] for name, tensor in wanted.items()}


def specs(tensors: Mapping[str, KerasTensor]) -> dict[str, tf.TensorSpec]:
    """The specifications of tensors, with their names."""
    return {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in tensors.items()}


def token_key(name: str) -> str | None:
    """The key that a preprocessor gives to what has one entry for each token; None for other names.

    Example:

    >>> token_key("input_mask"), token_key("input_mask_2"), token_key("input_mask_of_mine")
    ('input_mask', 'input_mask', None)
    """
    # With several preprocessors, the name of what one makes ends in its number.
    key = re.sub(r"_\d+$", "", name)
    return key if key in PADDING else None


def _output_names(model: keras.Model) -> list[str]:
    """One name for each of the model's outputs, in their flat order."""
    names = []
    for path, tensor in keras.tree.flatten_with_path(model.output):
        operation = operation_of(tensor)
        if path and isinstance(path[0], str):
            names.append("_".join(map(str, path)))
        elif isinstance(operation, EncoderContract):
            # An encoder names its tensors by their keys.
            names.append(tensor.name)
        else:
            names.append(operation.name)
    return [f"{name}_{names[:i].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _input_names(model: keras.Model) -> list[str]:
    texts = [number for number, tensor in enumerate(model.inputs) if is_string(tensor)]
    letters = zip("abcdefghijklmnopqrstuvwxyz", texts, strict=False)
    names = {number: "text" if len(texts) == 1 else f"text_{letter}" for letter, number in letters}
    for number, tensor in enumerate(model.inputs):
        if number not in names:
            name = _argument_name(tensor.name)
            while name in names.values():
                name += "_"
            names[number] = name
    return [names[number] for number in range(len(names))]


def _argument_name(name: str) -> str:
    """The name of an input as a signature can have it, in which it is the argument of a function."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not name[0].isalpha():
        name = f"input_{name.lstrip('_')}"
    return f"{name}_" if keyword.iskeyword(name) or name == "self" else name


def _host_outputs(host_steps: list[Step]) -> dict[str, KerasTensor]:
    outputs = {}
    several = sum(isinstance(step.operation, TextPreprocessor) for step in host_steps) > 1
    for number, step in enumerate(host_steps):
        if isinstance(step.operation, TextPreprocessor):
            spec = step.operation.compute_output_spec(*step.arguments.args)
            keys = [".".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(spec)]
        else:
            keys = [f"{getattr(step.operation, 'name', 'value')}_{i}" for i in range(len(step.outputs))]
        for key, tensor in zip(keys, step.outputs, strict=True):
            if not is_string(tensor):
                outputs[f"{key}_{number}" if several else key] = tensor
    return outputs
