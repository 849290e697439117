"""What each signature of an export takes, computes and gives."""

import dataclasses
import keyword
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.layers.sequence_pooling import SequencePooling
from keras_bert_layers.layers.word_pooling import WordPooling
from keras_bert_layers.serving.model_steps import Step, is_string, makes_strings, model_steps, run_steps
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor
from keras_bert_layers.text.text_preprocessor import TextPreprocessor
from keras_bert_layers.token_inputs import HUGGINGFACE_NAMES, TFHUB_NAMES

SIGNATURES = ("serving_default", "embed", "tokens", "layers", "words", "ids", "tokenize")

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass
class Signature:
    """A signature in parts: what is done with texts, on the host, what is done with ids, and what gives texts again.

    Attributes:
        name: one of `SIGNATURES`.
        inputs: for each input its `tf.TensorSpec`.
        tokenize: the inputs that are texts -> ids and what else belongs to each token.
        encode: the other inputs and what `tokenize` makes -> outputs.
        returned_as_is: what of `tokenize` is an output too.
        make_strings: inputs that are texts, and what `encode` makes for it -> the outputs that are strings.
        for_strings: what of `encode` is for `make_strings` alone.
    """

    name: str
    inputs: dict[str, tf.TensorSpec]
    tokenize: Callable[..., Tensors] | None
    encode: Callable[..., Tensors] | None
    returned_as_is: tuple[str, ...] = ()
    make_strings: Callable[..., Tensors] | None = None
    for_strings: tuple[str, ...] = ()


class ServedModel:
    """A functional model as its signatures see it.

    Args:
        model: on texts or on ids.
        output_names: for each of its outputs the name.
    """

    def __init__(self, model: keras.Model, output_names: Sequence[str]):
        self.model = model
        self.steps = model_steps(model)
        self.inputs = dict(zip(_input_names(model), model.inputs, strict=True))
        self.outputs = dict(zip(output_names, model.outputs, strict=True))
        # What takes texts, what computes with their ids, and what makes strings of that and goes on with them.
        self.host_steps: list[Step] = []
        self.dense_steps: list[Step] = []
        self.last_steps: list[Step] = []
        last: set[int] = set()
        for step in self.steps:
            if makes_strings(step) or not last.isdisjoint(map(id, step.inputs)):
                self.last_steps.append(step)
                last.update(map(id, step.outputs))
            else:
                (self.host_steps if any(map(is_string, step.inputs)) else self.dense_steps).append(step)
        self.last_outputs = {name: x for name, x in self.outputs.items() if id(x) in last or is_string(x)}
        borders = {id(x): x for step in self.last_steps for x in step.inputs if id(x) not in last and not is_string(x)}
        self.borders = {f"border_{i}": tensor for i, tensor in enumerate(borders.values())}
        self.text_names = [name for name, tensor in self.inputs.items() if is_string(tensor)]
        self.preprocessors = [step for step in self.host_steps if isinstance(step.operation, TextPreprocessor)]
        self.encoders = [step for step in self.dense_steps if isinstance(step.operation, EncoderContract)]
        self.host_outputs = _host_output_names(self.host_steps)

    @property
    def sequence_length(self) -> int | None:
        """The longest row in tokens; None for a model on ids of any length."""
        if self.preprocessors:
            return max(step.operation.sequence_length for step in self.preprocessors)
        names = (TFHUB_NAMES[0], HUGGINGFACE_NAMES[0])
        return next((tensor.shape[1] for name, tensor in self.inputs.items() if name in names), None)

    @property
    def encoder(self) -> EncoderContract:
        """The one encoder."""
        return self.encoders[0].operation

    def signature(self, name: str) -> Signature:
        """One of `SIGNATURES`.

        Raises:
            ValueError: for another name, and where the model is not one that can have it.
        """
        if name not in SIGNATURES:
            raise ValueError(
                f"Expected `signatures` to be among {', '.join(SIGNATURES)}. Received: signatures with {name!r}."
            )
        if name == "serving_default":
            return self._signature(name, self._outputs)
        if name == "ids":
            return dataclasses.replace(self._signature(name, self._outputs), inputs=self._ids_specs(), tokenize=None)
        if len(self.preprocessors) != 1:
            raise ValueError(
                f"The signature {name!r} takes texts and expects a model with one preprocessor that is called once. "
                f"Received: a model with {len(self.preprocessors)}. Give the preprocessor of a model on ids to "
                "export_saved_model(..., preprocessor=...); without one, and with several, export only the "
                "signatures serving_default and ids."
            )
        if name == "tokenize":
            return Signature(name, self._text_specs(), self._tokenize, None, tuple(self.host_outputs.values()))
        if len(self.encoders) != 1:
            raise ValueError(
                f"The signature {name!r} expects a model with one encoder that is called once. Received: a model with "
                f"{len(self.encoders)}: {[step.operation.name for step in self.encoders]}. Export only "
                "serving_default, ids and tokenize, or a model on one of the encoders."
            )
        if name == "embed":
            return self._signature(name, self._embedding, self._text_specs())
        if name == "layers":
            return self._signature(name, self._layers, self._text_specs())
        return self._token_signature(name)

    def _signature(
        self, name: str, encode: Callable[..., Tensors], inputs: dict[str, tf.TensorSpec] | None = None
    ) -> Signature:
        tokenize = self._tokenize if self.text_names else None
        signature = Signature(name, self._specs(self.inputs) if inputs is None else inputs, tokenize, encode)
        if encode == self._outputs and self.last_outputs:
            signature.make_strings, signature.for_strings = self._make_strings, tuple(self.borders)
            if not self.borders and len(self.last_outputs) == len(self.outputs):
                signature.encode = None
        return signature

    def _token_signature(self, name: str) -> Signature:
        """`tokens` and `words`, which need more of the preprocessor than the model asks of it."""
        preprocessor = self.preprocessors[0].operation
        if not isinstance(preprocessor, BertPreprocessor):
            raise ValueError(
                f"The signature {name!r} expects a BertPreprocessor, which knows where tokens and words stand. "
                f"Received: a preprocessor of class {type(preprocessor).__name__}."
            )
        texts = keras.tree.flatten(self.preprocessors[0].arguments.args)
        pairs, words = len(texts) > 1, len(texts[0].shape) == 2
        if pairs and preprocessor.tokenizer.pair_format == "roberta":
            raise ValueError(
                f"The signature {name!r} expects pairs whose texts have type ids of their own. Received: a tokenizer "
                "with pair_format='roberta', which gives both type 0. Leave it out of `signatures`."
            )
        wanted: dict[str, Any] = {"return_offsets": preprocessor.return_offsets or "characters"}
        returned_as_is = ["offsets"]
        if name == "words" or words:
            wanted["return_word_ids"] = True
        if name == "tokens":
            returned_as_is += (["input_type_ids"] if pairs else []) + (["word_ids"] if words else [])
        else:
            returned_as_is = []
            wanted["return_offsets"] = preprocessor.return_offsets
        detailed_preprocessor = BertPreprocessor.from_config({**preprocessor.get_config(), **wanted})

        def tokenize(**inputs: tf.Tensor) -> Tensors:
            values = self._values(inputs)
            run_steps([step for step in self.host_steps if step is not self.preprocessors[0]], values)
            arguments, _ = self.preprocessors[0].arguments.fill_in(values)
            return detailed_preprocessor(*arguments)

        encode = self._tokens if name == "tokens" else self._words(pairs)
        return Signature(name, self._text_specs(), tokenize, encode, tuple(returned_as_is))

    # What is computed. Each function takes what it needs by name and leaves the rest.

    def _tokenize(self, **inputs: tf.Tensor) -> Tensors:
        values = self._values(inputs)
        run_steps(self.host_steps, values)
        return {name: values[tensor] for tensor, name in self.host_outputs.items()}

    def _outputs(self, **inputs: tf.Tensor) -> Tensors:
        values = self._values(inputs)
        run_steps(self.dense_steps, values)
        wanted = {name: tensor for name, tensor in self.outputs.items() if name not in self.last_outputs} | self.borders
        return {name: values[id(tensor)] for name, tensor in wanted.items()}

    def _make_strings(self, **inputs: tf.Tensor) -> Tensors:
        values = self._values(inputs)
        values |= {id(tensor): inputs[name] for name, tensor in self.borders.items() if name in inputs}
        run_steps([*self.host_steps, *self.last_steps], values)
        # Of ids alone nothing is known that is made of the text itself.
        return {name: values[id(tensor)] for name, tensor in self.last_outputs.items() if id(tensor) in values}

    def _embedding(self, **inputs: tf.Tensor) -> Tensors:
        values = self._values(inputs)
        poolings = [step for step in self.dense_steps if isinstance(step.operation, SequencePooling)]
        if len(poolings) == 1 and len(poolings[0].outputs[0].shape) == 2:
            run_steps(self.dense_steps, values)
            return {"embedding": values[id(poolings[0].outputs[0])]}
        states, mask = self._states(inputs)
        return {"embedding": SequencePooling("mean")(states, mask=mask)}

    def _tokens(self, **inputs: tf.Tensor) -> Tensors:
        states, mask = self._states(inputs)
        return {"token_states": states, "mask": mask}

    def _words(self, pairs: bool) -> Callable[..., Tensors]:
        layers = [step.operation for step in self.dense_steps if isinstance(step.operation, WordPooling)]
        pooling = WordPooling(layers[0].mode if len(layers) == 1 else "mean")

        def compute(**inputs: tf.Tensor) -> Tensors:
            states, _ = self._states(inputs)
            # Looked up, not taken out: the model may have them as an input.
            word_ids = inputs["word_ids"]
            if not pairs:
                words = pooling(states, word_ids)
                return {"word_states": words["word_outputs"], "word_mask": words["word_mask"]}
            outputs = {}
            for number, letter in enumerate("ab"):
                words = pooling(states, tf.where(inputs["input_type_ids"] == number, word_ids, -1))
                outputs[f"word_states_{letter}"] = words["word_outputs"]
                outputs[f"word_mask_{letter}"] = words["word_mask"]
            return outputs

        return compute

    def _layers(self, **inputs: tf.Tensor) -> Tensors:
        values = self._values(inputs)
        run_steps(self._steps_before_encoder(), values)
        arguments, _ = self.encoders[0].arguments.fill_in(values)
        states = self.encoder.hidden_states(arguments[0], self.encoder.selected_layers)
        mask = run_encoder(self.encoders[0], values)["mask"]
        return {"layers": tf.stack(states, axis=1), "mask": mask}

    def _states(self, inputs: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoder's token states `[batch, sequence, hidden]`, several layers as their mean, and the mask."""
        values = self._values(inputs)
        run_steps(self._steps_before_encoder(), values)
        outputs = run_encoder(self.encoders[0], values)
        states = outputs["encoder_outputs"]
        if isinstance(states, (list, tuple)):
            states = states[0] if len(states) == 1 else tf.add_n(list(states)) / len(states)
        elif self.encoder.combination is not None and not self.encoder.combination.has_sequence_axis:
            states = tf.reduce_mean(states, axis=1)
        if len(states.shape) != 3:
            raise ValueError(
                "The signatures embed, tokens and words expect an encoder that gives one row of states for each text. "
                f"Received: encoder_outputs of shape {tuple(states.shape)}. Merge the windows: "
                'WindowedEncoder(..., merge="max_context").'
            )
        return states, outputs["mask"]

    def _steps_before_encoder(self) -> list[Step]:
        return self.dense_steps[: self.dense_steps.index(self.encoders[0])]

    # Names and shapes.

    def _values(self, inputs: Tensors) -> dict[int, Any]:
        """`id` of a KerasTensor -> its value, for inputs of the model and for what the host's half has made."""
        values = {id(tensor): inputs[name] for name, tensor in self.inputs.items() if name in inputs}
        return values | {tensor: inputs[name] for tensor, name in self.host_outputs.items() if name in inputs}

    def _specs(self, tensors: dict[str, KerasTensor]) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in tensors.items()}

    def _text_specs(self) -> dict[str, tf.TensorSpec]:
        return self._specs({name: self.inputs[name] for name in self.text_names})

    def _ids_specs(self) -> dict[str, tf.TensorSpec]:
        others = {name: tensor for name, tensor in self.inputs.items() if name not in self.text_names}
        by_id = {id(tensor): tensor for step in self.host_steps for tensor in step.outputs}
        return self._specs({name: by_id[key] for key, name in self.host_outputs.items()} | others)


def run_encoder(step: Step, values: dict[int, Any]) -> dict[str, Any]:
    """The encoder's outputs as it gives them, a dict."""
    arguments, keyword_arguments = step.arguments.fill_in(values)
    return step.operation(*arguments, **keyword_arguments)


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


def _host_output_names(host_steps: list[Step]) -> dict[int, str]:
    """`id` of each KerasTensor that leaves the host's half -> a name: a preprocessor's key."""
    names: dict[int, str] = {}
    several = sum(isinstance(step.operation, TextPreprocessor) for step in host_steps) > 1
    for number, step in enumerate(host_steps):
        if isinstance(step.operation, TextPreprocessor):
            spec = step.operation.compute_output_spec(*step.arguments.args)
            keys = [".".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(spec)]
        else:
            keys = [f"{getattr(step.operation, 'name', 'value')}_{i}" for i in range(len(step.outputs))]
        for key, tensor in zip(keys, step.outputs, strict=True):
            if not is_string(tensor):
                names[id(tensor)] = f"{key}_{number}" if several else key
    return names
