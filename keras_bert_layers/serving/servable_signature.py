import re
from collections.abc import Callable, Mapping

import tensorflow as tf

from keras_bert_layers.encoders.execution import graph_for
from keras_bert_layers.serving.bucketed_function import BucketedFunction
from keras_bert_layers.serving.export_options import ExportOptions
from keras_bert_layers.serving.pruned_function import PrunedFunction, Tensors
from keras_bert_layers.serving.signature import Signature
from keras_bert_layers.serving.stored_weights import StoredWeights


class ServableSignature:
    """A signature as a server runs it: its parts, each traced by itself, as one function.

    Target "cpu" is one graph, where the encoder removes padding by itself. For target "gpu" strings stay on the host,
    and `encode` is a `BucketedFunction`.

    Args:
        signature: what to serve.
        options: the form in which it computes.
        weights: what it computes with.

    Attributes:
        inputs: for each input its `tf.TensorSpec`; of ids only those that an output depends on.
        function: the `tf.ConcreteFunction`.
        variables: the variables that it reads.
        resources: the handles of tables and the like that it reads.
    """

    def __init__(self, signature: Signature, options: ExportOptions, weights: StoredWeights):
        self._signature = signature
        self.inputs = signature.inputs
        texts = {name: spec for name, spec in signature.inputs.items() if spec.dtype == tf.string}
        self._tokenize = signature.tokenize
        self._encode: Callable[..., Tensors] | None = None
        self._make_strings: PrunedFunction | None = None
        traced = [self._tokenize] if self._tokenize else []
        encoded: Mapping[str, tf.TensorSpec] = {}
        if signature.encode:
            specs = {name: spec for name, spec in signature.inputs.items() if spec.dtype != tf.string}
            specs |= self._tokenize.outputs if self._tokenize else {}
            function = _for_target(signature.encode, options.target)
            pruned = PrunedFunction(function, specs, weights)
            traced.append(pruned)
            encoded = pruned.outputs
            self._encode = lambda **inputs: pruned(**{name: inputs[name] for name in pruned.inputs})
            if options.target == "gpu":
                self._encode = BucketedFunction(function, specs, encoded, options, weights)
            if not self._tokenize:
                # A client need not send what changes nothing.
                self.inputs = {name: spec for name, spec in signature.inputs.items() if name in pruned.inputs}
        if signature.make_strings:
            specs = texts | {name: encoded[name] for name in signature.for_strings}
            self._make_strings = PrunedFunction(_for_target(signature.make_strings, options.target), specs, weights)
            traced.append(self._make_strings)
        self.variables = [variable for function in traced for variable in function.variables]
        self.resources = [handle for function in traced for handle in function.resources]
        self.function = tf.function(self._serve, autograph=False).get_concrete_function(**self.inputs)

    def _serve(self, **inputs: tf.Tensor) -> Tensors:
        values = dict(inputs)
        if self._tokenize:
            # Strings have no place on a GPU, nor has anything that is done with them.
            with tf.device("CPU:0"):
                values |= self._tokenize(**{name: inputs[name] for name in self._tokenize.inputs})
        outputs = {name: values[name] for name in self._signature.returned_as_is}
        if self._encode:
            outputs |= self._encode(**values)
        if self._make_strings:
            with tf.device("CPU:0"):
                outputs |= self._make_strings(**{name: (outputs | values)[name] for name in self._make_strings.inputs})
            outputs = {name: output for name, output in outputs.items() if name not in self._signature.for_strings}
        return {name: tf.identity(_readable(output), _operation_name(name)) for name, output in outputs.items()}


def _for_target(function: Callable[..., Tensors], target: str) -> Callable[..., Tensors]:
    """Has a function be traced as the target computes, whatever devices this machine has."""

    def run(**inputs: tf.Tensor) -> Tensors:
        with graph_for(target):
            return {name: _readable(output) for name, output in function(**inputs).items()}

    return run


def _readable(tensor: tf.Tensor) -> tf.Tensor:
    # JSON has no 16-bit floats.
    return tf.cast(tensor, "float32") if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _operation_name(name: str) -> str | None:
    """The name of an output for its operation, where TensorFlow takes it for one."""
    return name if re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", name) else None
