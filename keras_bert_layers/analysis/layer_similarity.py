import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import chosen_layers, make_pooling
from keras_bert_layers.analysis.batches import Batch
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOURS, MARKERS, draw_matrix, label_layers, new_figure, with_fonts
from keras_bert_layers.analysis.measure import Measure, run_measures
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.layers.sequence_pooling import SequencePooling

MINIBATCH = 256
# Examples that are shuffled together, for those of one batch are of one length.
BLOCK = 4 * MINIBATCH


@dataclasses.dataclass(repr=False)
class LayerSimilarity(Result):
    """Linear CKA between layers, as `layer_similarity` measures it.

    Attributes:
        layers, other_layers: numbers of the layers; both the same where there is one encoder.
        cka: `[layers, other layers]`; NaN where a layer has the same vector for all examples.
        examples: how many tokens or texts there were.
        unit: `"tokens"` or `"texts"`.
        two_encoders: whether `other_layers` are those of another encoder.
    """

    layers: list[int]
    other_layers: list[int]
    cka: np.ndarray
    examples: int
    unit: str
    two_encoders: bool

    def to_dataframe(self) -> Any:
        """A row for each layer, a column for each other layer."""
        pandas = import_optional("pandas", "pandas")
        frame = pandas.DataFrame(self.cka, index=self.layers, columns=self.other_layers)
        return frame.rename_axis(index="layer", columns="other_layer")

    def plot(self, first: str = "first encoder", second: str = "second encoder") -> Any:
        """The matrix, or of two encoders each layer with the same of the other; returns the matplotlib figure.

        Args:
            first, second: what to call the encoders, where there are two.
        """
        of = f"({self.examples:,} {self.unit})"
        unit = "linear CKA (1: equal up to rotation and scale)"
        if self.two_encoders:
            figure = new_figure(3.8, f"Each layer in two encoders, {first} and {second} {of}")
            axis = figure.subplots()
            same = np.diagonal(self.cka)
            axis.plot(range(len(same)), same, color=COLOURS[0], marker=MARKERS[0])
            for place, value in enumerate(same if len(same) <= 13 else ()):
                axis.annotate(f"{value:.3f}", (place, value), (0, 7), textcoords="offset points", ha="center")
            axis.margins(y=0.25)
            # There is room above 1 for the numbers alone.
            axis.set_yticks([tick for tick in axis.get_yticks() if tick < 1.0001])
            axis.grid(alpha=0.3)
            label_layers(axis, self.layers)
            axis.set_ylabel(unit)
            return with_fonts(figure)
        figure = new_figure(6.0, f"Linear CKA of layers {of}")
        axis = figure.subplots()
        image = draw_matrix(axis, self.cka, self.layers)
        axis.set_ylabel("layer")
        axis.set_xlabel("layer (0: embeddings)")
        figure.colorbar(image, ax=axis, label=unit)
        return figure


def layer_similarity(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    layers: int | str | Iterable[int] = "all",
    pooling: str | SequencePooling | None = "mean",
    other: Any = None,
) -> LayerSimilarity:
    r"""Measures how similar the layers of one encoder, or of two, represent the same texts: linear CKA.

    Kornblith et al. 2019, in the minibatch form of Nguyen et al. 2021 (section 3, equation 2), which is unbiased for
    any number of examples in a minibatch. For the vectors \(X_b, Y_b\) of the n examples of minibatch b in two layers,
    \(K = X_b X_b^\top\) and \(L = Y_b Y_b^\top\) with zeros on the diagonal (Song et al. 2012):

    \[\mathrm{HSIC}_1(K, L) = \frac{1}{n (n - 3)} \left(\mathrm{tr}(K L) + \frac{1^\top K 1 \; 1^\top L 1}{(n - 1)(n -
    2)} - \frac{2}{n - 2} 1^\top K L 1\right)\]

    \[\mathrm{CKA} = \frac{\sum_b \mathrm{HSIC}_1(K_b, L_b)}{\sqrt{\sum_b \mathrm{HSIC}_1(K_b, K_b)} \sqrt{\sum_b
    \mathrm{HSIC}_1(L_b, L_b)}}\]

    It is 1 for representations that are equal up to rotation, scale and shift, and around 0 (a little below too) for
    unrelated ones. Minibatches have 256 examples, drawn in random order from 1,024 at a time; what is left at the end
    makes smaller ones, and each counts by its number of examples. Sums are in float64.

    Args:
        encoder, preprocessor, texts, layers: as in `layer_differences`.
        pooling: how the vector of a text is made; None compares tokens.
        other: a second encoder, which gets the same ids: the same before fine-tuning, for example.

    Returns:
        A `LayerSimilarity`.

    Raises:
        TypeError, ValueError: for what is none of the above, and for fewer than four examples.

    Example:

    ```python
    before_and_after = kbl.analysis.layer_similarity(tuned_encoder, preprocessor, texts, other=encoder)
    ```
    """
    numbers = chosen_layers(encoder, layers)
    if other is not None:
        other_numbers = chosen_layers(other, layers, argument="other")
        if other_numbers != numbers:
            raise ValueError(
                "Expected `layers` to mean the same layers of both encoders. "
                f"Received: layers={layers!r}, which are {numbers} and {other_numbers}. Give their numbers as a list."
            )
    one = LayerSimilarityMeasure(numbers, None if pooling is None else make_pooling(pooling), other is not None)
    return run_measures(encoder, preprocessor, texts, numbers, [one], other)[0]


class LayerSimilarityMeasure(Measure):
    """Sums of the HSIC of all pairs of layers over minibatches."""

    def __init__(self, layers: list[int], pooling: SequencePooling | None, two_encoders: bool = False):
        self.layers = layers
        self.wanted = Wanted(tokens=pooling is None, pooling=pooling)
        self.two_encoders = two_encoders
        # Of the layers of both encoders, one after the other.
        count = len(layers) * (2 if two_encoders else 1)
        self._sums = np.zeros((count, count))
        self._held: list[np.ndarray] = []
        self._examples = 0
        self._random = np.random.default_rng(0)

    def update(self, batch: Batch) -> None:
        states = [batch.states, *([batch.other] if batch.other is not None else [])]
        vectors = [layer for one in states for layer in (one.tokens if self.wanted.tokens else one.vectors)]
        self._examples += len(vectors[0])
        # Two encoders may differ in width.
        width = max(layer.shape[1] for layer in vectors)
        self._held.append(np.stack([np.pad(layer, ((0, 0), (0, width - layer.shape[1]))) for layer in vectors], axis=1))
        if sum(map(len, self._held)) >= BLOCK:
            held = self._shuffled()
            used = len(held) // MINIBATCH * MINIBATCH
            for start in range(0, used, MINIBATCH):
                self.add_minibatch(held[start : start + MINIBATCH])
            self._held = [held[used:].copy()]

    def _shuffled(self) -> np.ndarray:
        held = np.concatenate(self._held)
        return held[self._random.permutation(len(held))]

    def add_minibatch(self, examples: np.ndarray) -> None:
        """Adds `[n, layers, hidden]` to the sums."""
        self._sums += len(examples) * hsic(np.moveaxis(examples, 1, 0))

    def result(self) -> LayerSimilarity:
        if self._examples < 4:
            raise ValueError(
                "Expected at least four examples. "
                f"Received: {self._examples} {'tokens' if self.wanted.tokens else 'texts'}. The unbiased CKA is not "
                "defined for fewer."
            )
        held = self._shuffled() if self._held else np.zeros(0)
        # In parts of much the same size.
        for part in np.array_split(held, -(-len(held) // MINIBATCH)) if len(held) else ():
            if len(part) >= 4:
                self.add_minibatch(part)
        scale = np.sqrt(np.diagonal(self._sums))
        with np.errstate(divide="ignore", invalid="ignore"):
            cka = self._sums / scale[:, None] / scale
        count = len(self.layers)
        return LayerSimilarity(
            layers=self.layers,
            other_layers=self.layers,
            cka=cka[:count, -count:],
            examples=self._examples,
            unit="tokens" if self.wanted.tokens else "texts",
            two_encoders=self.two_encoders,
        )


def hsic(layers: np.ndarray) -> np.ndarray:
    """HSIC_1 of all pairs of layers in one minibatch: `[layers, n, hidden]` -> `[layers, layers]`, float64."""
    states = layers.astype("float64")
    # Changes nothing but the rounding: BERT's vectors have a large mean.
    states -= states.mean(axis=1, keepdims=True)
    grams = states @ np.swapaxes(states, 1, 2)
    n = grams.shape[1]
    grams[:, range(n), range(n)] = 0
    flat, sums = grams.reshape(len(grams), -1), grams.sum(axis=2)
    totals = sums.sum(axis=1)
    return (flat @ flat.T + np.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (sums @ sums.T)) / (
        n * (n - 3)
    )
