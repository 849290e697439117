import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from keras_bert_layers.serving.saved_graph import node_name
from keras_bert_layers.serving.stored_weights import StoredWeights

# The only operations with side effects that are kept: checks, which `tf.debugging` makes as If operations.
_CHECKS = ("Assert", "If")


Tensors = dict[str, tf.Tensor]


class PrunedFunction:
    """A traced function without the operations that its outputs do not need.

    TensorFlow keeps all that was traced, and a SavedModel with it all weights that were read: those of an encoder's
    layers above the highest one in use, of its pooler, of outputs that a signature does not have. Here the operations
    that the outputs depend on are copied to where the function is called, which must be inside another `tf.function`.

    Args:
        function: what to trace: tensors by keyword -> a dict of tensors.
        specs: for each keyword its `tf.TensorSpec`.
        weights: what the function is to compute with, in place of its layers' own weights.
        jit_compile: whether XLA will compile the call, which has layers keep their padding.

    Attributes:
        inputs: the keywords that the outputs depend on.
        outputs: for each output its `tf.TensorSpec`.
        variables: the variables that the outputs depend on.
        resources: the handles of tables and the like that the outputs depend on.
    """

    def __init__(
        self,
        function: Callable[..., Tensors],
        specs: Mapping[str, tf.TensorSpec],
        weights: StoredWeights | None = None,
        jit_compile: bool = False,
    ):
        def run(**inputs: tf.Tensor) -> Tensors:
            with weights.substituted() if weights else contextlib.nullcontext():
                return function(**inputs)

        traced = tf.function(run, jit_compile=jit_compile or None, autograph=False)
        concrete = traced.get_concrete_function(**specs)
        # TensorFlow forgets the functions inside (branches and loops) when what was traced is gone.
        self._traced = concrete
        graph = concrete.graph
        self._graph_def = graph.as_graph_def()
        if weights:
            weights.gather_before_cast(self._graph_def)
        checks = [f"^{operation.name}" for operation in graph.control_outputs if operation.type in _CHECKS]
        results = {name: tensor.name for name, tensor in concrete.structured_outputs.items()}
        returned = {tensor.op.name for tensor in concrete.structured_outputs.values()}
        for node in self._graph_def.node:
            # Nobody trains an export, and a custom gradient may need tensors that are left out here.
            node.attr.pop("_gradient_op_type", None)
            if node.name in returned:
                # TensorFlow ties what a function returns to everything with effects, reads of variables among them.
                inputs = [name for name in node.input if not name.startswith("^")]
                node.input[:] = inputs + checks
        kept = _reachable(self._graph_def, list(results.values()))
        self._results = results
        # The inputs come in the order of the sorted keywords, the captures after them.
        placeholders = zip(sorted(specs), graph.inputs[: len(specs)], strict=True)
        self._placeholders = {keyword: tensor.op.name for keyword, tensor in placeholders if tensor.op.name in kept}
        self._captures = [(outer, inner.op.name) for outer, inner in graph.captures if inner.op.name in kept]
        given = {*self._placeholders.values(), *(name for _, name in self._captures)}
        nodes = [node for node in self._graph_def.node if node.name in kept - given]
        del self._graph_def.node[:]
        self._graph_def.node.extend(nodes)
        self.inputs = list(self._placeholders)
        self.outputs = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
            for name, tensor in concrete.structured_outputs.items()
        }
        handles = {id(outer) for outer, _ in self._captures}
        self.variables = [variable for variable in concrete.variables if id(variable.handle) in handles]
        handles -= {id(variable.handle) for variable in self.variables}
        self.resources = [outer for outer, _ in self._captures if id(outer) in handles and outer.dtype == tf.resource]

    def __call__(self, **inputs: tf.Tensor) -> Tensors:
        graph = tf.compat.v1.get_default_graph()
        input_map = {name: inputs[keyword] for keyword, name in self._placeholders.items()}
        input_map |= {name: graph.capture(outer) for outer, name in self._captures}
        tensors = tf.graph_util.import_graph_def(
            self._graph_def, input_map=input_map, return_elements=list(self._results.values())
        )
        for name, tensor in zip(self.outputs, tensors, strict=True):
            tensor.set_shape(self.outputs[name].shape)
        return dict(zip(self.outputs, tensors, strict=True))


def _reachable(graph_def: Any, results: list[str]) -> set[str]:
    """The names of the operations that the results depend on."""
    inputs = {node.name: node.input for node in graph_def.node}
    found: set[str] = set()
    unseen = list(results)
    while unseen:
        name = node_name(unseen.pop())
        if name not in found:
            found.add(name)
            unseen += inputs[name]
    return found
