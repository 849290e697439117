from typing import Any

import tensorflow as tf
from keras import ops

from keras_bert_layers.layers.layer_combination import LayerCombination


class Accumulator:
    """Combines states as they come: a mode that reduces them (a sum, a maximum) holds one tensor and not all states.

    Args:
        combination: a built layer.
        count: how many states there will be.
        training: bool, for dropout.
    """

    def __init__(self, combination: LayerCombination, count: int, training: bool):
        self._mode = combination.start(count, training)
        self._dtype = combination.compute_dtype
        self._terms: list[Any] = [None] * count
        self._total: Any = None

    def add(self, position: int, state: Any) -> Any:
        """Takes the state of the layer at `position` in the list of layers; each position once, in any order.

        Returns:
            The same state, to be given to the next layer: it comes once it is combined.
        """
        term = self._mode.term(position, ops.cast(state, "float32"))
        reduce = self._mode.reduce
        if reduce is None:
            self._terms[position] = term
            return state
        if reduce is ops.add:
            # Subtracted, for the graph optimiser joins additions into one, which holds all states until the last came.
            self._total = -term if self._total is None else self._total - term
        else:
            self._total = term if self._total is None else reduce(self._total, term)
        # The next layer is to wait: an executor that has enough to do puts the sums off, and so holds all states.
        with tf.control_dependencies([self._total]):
            return tf.identity(state)

    def result(self) -> Any:
        """Returns the combined states, in the compute dtype of the combination."""
        reduce = self._mode.reduce
        terms = self._terms if reduce is None else -self._total if reduce is ops.add else self._total
        return ops.cast(self._mode.finish(terms), self._dtype)
