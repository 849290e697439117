"""What becomes of the layers of an encoder while they run.

A `LayerCollector` says what is wanted. Its `start()` gives a `LayerCollection`, which takes the layers one by one, of
the batch or of a half of it, and whose `result()` is a `CollectedLayers`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from keras_bert_layers.encoders.accumulator import Accumulator
from keras_bert_layers.layers.layer_combination import LayerCombination


class CollectedLayers(NamedTuple):
    """The result: layers that were kept, and combinations.

    Attributes:
        states: number of the layer -> `[..., hidden]`, of those that are kept.
        combined: a tensor for each combination.
    """

    states: dict[int, Any]
    combined: list[Any]


class LayerCollector:
    """Says which layers of an encoder are kept, and which are combined, while they run.

    A layer that is not kept need not be held once the next one has run.

    Args:
        last: the number of the encoder's last layer, which is always kept.
        keep: numbers of further layers to keep.
        combine: pairs of a built `LayerCombination` and the numbers of its layers, in their order.
        keep_scores: numbers of layers whose attention scores are kept too.
        training: bool, for the dropout of combinations.

    Attributes:
        attention_scores: number of the layer -> `[batch, heads, sequence, sequence]`, of those that came so far. Here
            and not in the result, for a layout unpacks all tensors of the result from `[tokens, ...]`.
    """

    def __init__(
        self,
        last: int,
        keep: Iterable[int] = (),
        combine: Iterable[tuple[LayerCombination, Sequence[int]]] = (),
        keep_scores: Iterable[int] = (),
        training: bool = False,
    ):
        self.keep = {last, *keep}
        self.combine = list(combine)
        self.keep_scores = set(keep_scores)
        self.training = training
        self.attention_scores: dict[int, Any] = {}

    def start(self) -> "LayerCollection":
        """Begins to collect the layers of the batch or, called twice, of each half of it."""
        return LayerCollection(self)


class LayerCollection:
    """Takes the layers while they run, as its `LayerCollector` says."""

    def __init__(self, collector: LayerCollector):
        self._collector = collector
        self._states: dict[int, Any] = {}
        self._accumulators = [
            (Accumulator(combination, len(layers), collector.training), layers)
            for combination, layers in collector.combine
        ]

    def take(self, number: int, states: Any, scores: Any = None) -> Any:
        """Takes a layer; they come from the lowest to the last.

        Args:
            number: the number of the layer.
            states: `[..., hidden]`, of one shape for all layers.
            scores: its attention scores `[batch, heads, sequence, sequence]`.

        Returns:
            The same states, to be given to the next layer: they come once they are combined.
        """
        collector = self._collector
        if number in collector.keep:
            self._states[number] = states
        if number in collector.keep_scores:
            collector.attention_scores[number] = scores
        for accumulator, layers in self._accumulators:
            for position, layer in enumerate(layers):
                if layer == number:
                    states = accumulator.add(position, states)
        return states

    def result(self) -> CollectedLayers:
        """Returns what was taken, once all layers came."""
        return CollectedLayers(self._states, [accumulator.result() for accumulator, _ in self._accumulators])
