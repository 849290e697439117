import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import chosen_layers, make_pooling
from keras_bert_layers.analysis.batches import Batch
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOURS, MARKERS, draw_matrix, new_figure
from keras_bert_layers.analysis.measure import Measure, run_measures
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.encoders.layerwise_encoder import check_flags
from keras_bert_layers.layers.sequence_pooling import SequencePooling


@dataclasses.dataclass(repr=False)
class LayerDifferences(Result):
    """How far layers are from each other, as `layer_differences` measures it.

    Attributes:
        layers: numbers of the K layers.
        token_norm, token_cosine: `[K, K]`, means over all real tokens.
        sentence_norm, sentence_cosine: `[K, K]`, means over all texts.
        tokens, texts: how many there were.
        vectors: on request, for each text the differences of neighbouring layers `[K - 1, tokens, hidden]`.
        sentence_vectors: on request, `[texts, K - 1, hidden]`.
    """

    layers: list[int]
    token_norm: np.ndarray
    token_cosine: np.ndarray
    sentence_norm: np.ndarray
    sentence_cosine: np.ndarray
    tokens: int
    texts: int
    vectors: list[np.ndarray] | None = None
    sentence_vectors: np.ndarray | None = None

    def to_dataframe(self) -> Any:
        """One row for each pair of layers."""
        rows = [
            {
                "layer": self.layers[first],
                "other_layer": self.layers[second],
                "neighbours": second == first + 1,
                "token_norm": self.token_norm[first, second],
                "token_cosine": self.token_cosine[first, second],
                "sentence_norm": self.sentence_norm[first, second],
                "sentence_cosine": self.sentence_cosine[first, second],
            }
            for first, second in itertools.combinations(range(len(self.layers)), 2)
        ]
        return import_optional("pandas", "pandas").DataFrame(rows)

    def plot(self) -> Any:
        """Neighbouring layers as lines, and all pairs as a matrix; returns the matplotlib figure."""
        figure = new_figure(6.6, f"How far layers are from each other ({self.tokens:,} tokens of {self.texts:,} texts)")
        (norm, cosine), (norms, cosines) = figure.subplots(2, 2)
        names = [f"{first}–{second}" for first, second in itertools.pairwise(self.layers)]
        for axis, token, sentence in (
            (norm, self.token_norm, self.sentence_norm),
            (cosine, self.token_cosine, self.sentence_cosine),
        ):
            for values, name, number in ((token, "tokens", 0), (sentence, "texts", 1)):
                steps = np.diagonal(values, offset=1)
                axis.plot(range(len(steps)), steps, color=COLOURS[number], marker=MARKERS[number], label=name)
            axis.set_xticks(range(len(names)), names, rotation=0 if len(names) <= 7 else 60)
            axis.set_xlabel("neighbouring layers")
            axis.grid(alpha=0.3)
        norm.set_title("Norm of the difference", fontsize=10)
        norm.set_ylabel("Euclidean norm")
        norm.set_ylim(bottom=0)
        norm.legend()
        cosine.set_title("Cosine of both layers' vectors", fontsize=10)
        cosine.set_ylabel("cosine (1: same direction)")
        for axis, values, title, unit in (
            (norms, self.token_norm, "All pairs, tokens: norm of the difference", "Euclidean norm"),
            (cosines, self.token_cosine, "All pairs, tokens: cosine", "cosine"),
        ):
            image = draw_matrix(axis, values, self.layers)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("layer (0: embeddings)")
            axis.set_ylabel("layer")
            figure.colorbar(image, ax=axis, label=unit)
        return figure


def layer_differences(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    layers: int | str | Iterable[int] = "all",
    pooling: str | SequencePooling = "mean",
    return_vectors: bool = False,
) -> LayerDifferences:
    r"""Measures how far layers are from each other: what a layer changes, and how much all layers differ.

    For the states \(h_i\) and \(h_j\) of one token, or the pooled vectors of one text, in two layers: the means of
    \(\lVert h_j - h_i \rVert_2\) and of \(h_i \cdot h_j / (\lVert h_i \rVert \lVert h_j \rVert)\), for all pairs of the
    chosen layers. Neighbours are those that stand beside each other in `layers`.

    Args:
        encoder: a `BertEncoder`, `HuggingFaceEncoder` or `TFHubEncoder`.
        preprocessor: a `BertPreprocessor` or a `TFHubPreprocessor`.
        texts: a list, a pandas Series or another iterable of str; for pairs a tuple of two of them, as a preprocessor
            takes it, `(questions, answers)`; or a `tf.data.Dataset` of strings or of tuples of strings.
        layers: as in the encoders.
        pooling: how the vector of a text is made: a mode of `SequencePooling`, or such a layer.
        return_vectors: whether to keep the differences of neighbouring layers themselves. They take memory for every
            token.

    Returns:
        A `LayerDifferences`.

    Raises:
        TypeError, ValueError: for what is none of the above.

    Example:

    ```python
    differences = kbl.analysis.layer_differences(encoder, preprocessor, texts, layers="all+embeddings")
    differences.plot().savefig("differences.png")
    ```
    """
    numbers = chosen_layers(encoder, layers)
    check_flags(return_vectors=return_vectors)
    one = LayerDifferencesMeasure(numbers, make_pooling(pooling), return_vectors)
    return run_measures(encoder, preprocessor, texts, numbers, [one])[0]


class LayerDifferencesMeasure(Measure):
    """Sums of norms and cosines over tokens and texts, in float64."""

    def __init__(self, layers: list[int], pooling: SequencePooling, return_vectors: bool = False):
        self.layers = layers
        self.wanted = Wanted(tokens=True, pooling=pooling)
        shape = (len(layers), len(layers))
        self._sums = {name: np.zeros(shape) for name in ("token_norm", "token_cosine")}
        self._sums |= {name: np.zeros(shape) for name in ("sentence_norm", "sentence_cosine")}
        self._tokens = self._texts = 0
        self._vectors: dict[int, tuple[np.ndarray, np.ndarray]] | None = {} if return_vectors else None

    def update(self, batch: Batch) -> None:
        for level, states in (("token", batch.states.tokens), ("sentence", batch.states.vectors)):
            norms = [np.linalg.norm(state, axis=1) for state in states]
            for first, second in itertools.combinations_with_replacement(range(len(states)), 2):
                difference = np.linalg.norm(states[second] - states[first], axis=1)
                products = norms[first] * norms[second]
                dots = np.einsum("nh,nh->n", states[first], states[second])
                cosines = np.divide(dots, products, out=np.zeros_like(dots), where=products > 0)
                for name, values in ((f"{level}_norm", difference), (f"{level}_cosine", cosines)):
                    self._sums[name][first, second] += values.sum(dtype="float64")
        self._tokens += len(batch.states.tokens[0])
        self._texts += len(batch.texts)
        if self._vectors is not None:
            ends = np.cumsum(batch.mask.sum(axis=1))[:-1]
            token_steps = np.diff(np.stack(batch.states.tokens), axis=0)
            sentence_steps = np.diff(np.stack(batch.states.vectors, axis=1), axis=1)
            for number, tokens, sentence in zip(
                batch.numbers, np.split(token_steps, ends, axis=1), sentence_steps, strict=True
            ):
                self._vectors[int(number)] = (tokens, sentence)

    def result(self) -> LayerDifferences:
        means = {
            name: sums / (self._tokens if name.startswith("token") else self._texts)
            for name, sums in self._sums.items()
        }
        # Both halves of the symmetrical matrices.
        means = {name: np.triu(values) + np.triu(values, 1).T for name, values in means.items()}
        kept = None if self._vectors is None else [self._vectors[number] for number in sorted(self._vectors)]
        return LayerDifferences(
            layers=self.layers,
            **means,
            tokens=self._tokens,
            texts=self._texts,
            vectors=None if kept is None else [tokens for tokens, _ in kept],
            sentence_vectors=None if kept is None else np.stack([sentence for _, sentence in kept]),
        )
