import dataclasses
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import chosen_layers, is_int
from keras_bert_layers.analysis.batches import Batch
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOURS, MARKERS, label_layers, new_figure
from keras_bert_layers.analysis.measure import Measure, run_measures
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result


@dataclasses.dataclass(repr=False)
class Contextuality(Result):
    """How much a token's state depends on its text, as `contextuality` measures it.

    Attributes:
        layers: numbers of the K layers.
        self_similarity: `[K]`, NaN where no word piece occurs often enough.
        intra_sentence_similarity: `[K]`, NaN where no text has two tokens.
        anisotropy: `[K]`, the baseline of both: the cosine to expect of any two tokens; NaN where there are no two.
        norm: `[K]`, the mean Euclidean norm of a token's state; NaN where there is no token.
        tokens: how many there were, without [CLS] and [SEP].
        pieces: how many different word pieces the self-similarity is the mean of.
    """

    layers: list[int]
    self_similarity: np.ndarray
    intra_sentence_similarity: np.ndarray
    anisotropy: np.ndarray
    norm: np.ndarray
    tokens: int
    pieces: int

    def to_dataframe(self) -> Any:
        """One row for each layer; the columns `adjusted_...` are less the baseline."""
        return import_optional("pandas", "pandas").DataFrame(
            {
                "layer": self.layers,
                "self_similarity": self.self_similarity,
                "intra_sentence_similarity": self.intra_sentence_similarity,
                "anisotropy": self.anisotropy,
                "adjusted_self_similarity": self.self_similarity - self.anisotropy,
                "adjusted_intra_sentence_similarity": self.intra_sentence_similarity - self.anisotropy,
                "norm": self.norm,
            }
        )

    def plot(self) -> Any:
        """Similarities, the same less the baseline, and norms by layer; returns the matplotlib figure."""
        figure = new_figure(4.0, f"How much a token's state depends on its text ({self.tokens:,} tokens)")
        raw, adjusted, norm = figure.subplots(1, 3)
        places = range(len(self.layers))
        curves = (
            (self.self_similarity, "same word piece in different places"),
            (self.intra_sentence_similarity, "token and mean of its text"),
            (self.anisotropy, "any two tokens (baseline)"),
        )
        for number, (values, name) in enumerate(curves):
            style = {"color": COLOURS[number], "marker": MARKERS[number]}
            raw.plot(places, values, label=name, **style)
            if number < 2:
                adjusted.plot(places, values - self.anisotropy, **style)
        raw.set_title("Similarity", fontsize=10)
        adjusted.set_title("Similarity less the baseline", fontsize=10)
        for axis in (raw, adjusted):
            axis.set_ylabel("mean cosine")
        norm.plot(places, self.norm, color="black", marker="o")
        norm.set_title("Length of a token's state", fontsize=10)
        norm.set_ylabel("mean Euclidean norm")
        norm.set_ylim(bottom=0)
        for axis in (raw, adjusted, norm):
            label_layers(axis, self.layers)
            axis.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
        return figure


def contextuality(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    layers: int | str | Iterable[int] = "all",
    min_occurrences: int = 5,
    max_pieces: int = 1000,
) -> Contextuality:
    r"""Measures how much a token's state depends on its text (Ethayarajh 2019, section 3).

    For a word piece w that occurs n times, with the states \(h_1 \dots h_n\) and \(u_j = h_j / \lVert h_j \rVert\):

    \[\mathrm{SelfSim}(w) = \frac{1}{n (n - 1)} \sum_{j \ne k} \cos(h_j, h_k) = \frac{\lVert \sum_j u_j \rVert^2 -
    n}{n (n - 1)}\]

    and its mean over word pieces; for a text of n tokens with the mean state \(\bar h\)

    \[\mathrm{IntraSim} = \frac1n \sum_t \cos(\bar h, h_t)\]

    and its mean over texts; and as the baseline of both the anisotropy, the mean cosine of any two tokens, in the same
    closed form over all tokens (the paper samples 1,000 of them). [CLS] and [SEP] are left out.

    The paper's words are whole words that occur in five texts or more; here they are word pieces with
    `min_occurrences`, wherever they occur. So that memory stays bounded, `max_pieces` pieces are counted, chosen at
    random among all that occur (those with the smallest hash, so that each one's sum is complete).

    Args:
        encoder, preprocessor, texts, layers: as in `layer_differences`.
        min_occurrences: how often a word piece occurs that counts in the self-similarity; at least 2.
        max_pieces: how many different word pieces are looked at.

    Returns:
        A `Contextuality`.

    Raises:
        TypeError, ValueError: for what is none of the above.

    Example:

    ```python
    kbl.analysis.contextuality(encoder, preprocessor, texts, layers="all+embeddings").plot()
    ```
    """
    if not is_int(min_occurrences, 2) or not is_int(max_pieces, 1):
        raise ValueError(
            "Expected `min_occurrences` to be an int of at least 2 and `max_pieces` one of at least 1. "
            f"Received: min_occurrences={min_occurrences!r}, max_pieces={max_pieces!r}."
        )
    numbers = chosen_layers(encoder, layers)
    one = ContextualityMeasure(numbers, min_occurrences, max_pieces)
    return run_measures(encoder, preprocessor, texts, numbers, [one])[0]


class ContextualityMeasure(Measure):
    """Sums of unit vectors: of all tokens, and of each of a bounded number of word pieces."""

    wanted = Wanted(tokens=True)

    def __init__(self, layers: list[int], min_occurrences: int = 5, max_pieces: int = 1000):
        self.layers = layers
        self.min_occurrences = min_occurrences
        self.max_pieces = max_pieces
        self._tokens = self._texts = 0
        self._norms = np.zeros(len(layers))
        self._intra = np.zeros(len(layers))
        self._units = [np.zeros(0)] * len(layers)
        # The kept pieces: id -> row of `_sums` [pieces, layers, hidden] and `_counts`.
        self._rows: dict[int, int] = {}
        self._sums = np.zeros(0)
        self._counts = np.zeros(max_pieces, "int64")

    def update(self, batch: Batch) -> None:
        is_word = batch.mask & ~batch.special
        inside = is_word[batch.mask]
        if not inside.any():
            return
        pieces = batch.ids["input_word_ids"][is_word]
        if not self._tokens:
            hidden = batch.states.tokens[0].shape[1]
            self._units = [np.zeros(hidden) for _ in self.layers]
            self._sums = np.zeros((self.max_pieces, len(self.layers), hidden))
        rows = self._admit(pieces)
        kept = np.flatnonzero(rows >= 0)
        kept = kept[np.argsort(rows[kept], kind="stable")]
        changed, starts = np.unique(rows[kept], return_index=True)
        self._counts[changed] += np.diff([*starts, len(kept)])
        lengths = is_word.sum(axis=1)
        several = lengths > 1
        beginnings = np.cumsum(lengths) - lengths
        owner = np.repeat(np.arange(len(lengths)), lengths)
        for layer, tokens in enumerate(batch.states.tokens):
            states = tokens[inside].astype("float64")
            norms = np.linalg.norm(states, axis=1, keepdims=True)
            units = np.divide(states, norms, out=np.zeros_like(states), where=norms > 0)
            self._norms[layer] += norms.sum()
            self._units[layer] += units.sum(axis=0)
            if len(kept):
                self._sums[changed, layer] += np.add.reduceat(units[kept], starts, axis=0)
            means = np.add.reduceat(states, beginnings[lengths > 0], axis=0)
            means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-300)
            full = np.zeros((len(lengths), states.shape[1]))
            full[lengths > 0] = means
            cosines = np.einsum("nh,nh->n", units, full[owner])
            by_text = np.bincount(owner, cosines, minlength=len(lengths)) / np.maximum(lengths, 1)
            self._intra[layer] += by_text[several].sum()
        self._tokens += len(pieces)
        self._texts += int(several.sum())

    def _admit(self, pieces: np.ndarray) -> np.ndarray:
        """Keeps the `max_pieces` word pieces with the smallest hashes; returns the row of each token's, or -1."""
        found = np.unique(pieces)
        candidates = sorted({*self._rows, *found.tolist()}, key=_hash)[: self.max_pieces]
        chosen = set(candidates)
        for piece in [piece for piece in self._rows if piece not in chosen]:
            row = self._rows.pop(piece)
            self._sums[row], self._counts[row] = 0, 0
        free = sorted(set(range(self.max_pieces)) - set(self._rows.values()), reverse=True)
        for piece in candidates:
            if piece not in self._rows:
                self._rows[piece] = free.pop()
        rows = np.array([self._rows.get(piece, -1) for piece in found.tolist()])
        return rows[np.searchsorted(found, pieces)]

    def result(self) -> Contextuality:
        often = self._counts >= self.min_occurrences
        self_similarity = np.full(len(self.layers), np.nan)
        anisotropy = np.full(len(self.layers), np.nan)
        if often.any():
            counts = self._counts[often].astype("float64")[:, None]
            squares = np.square(self._sums[often]).sum(axis=2)
            self_similarity = ((squares - counts) / (counts * (counts - 1))).mean(axis=0)
        else:
            warnings.warn(
                f"No word piece occurs {self.min_occurrences} times, so that there is no self-similarity. Give more "
                "texts, or a smaller `min_occurrences`.",
                stacklevel=2,
            )
        if self._tokens > 1:
            squares = np.array([np.square(units).sum() for units in self._units])
            anisotropy = (squares - self._tokens) / (self._tokens * (self._tokens - 1))
        return Contextuality(
            layers=self.layers,
            self_similarity=self_similarity,
            intra_sentence_similarity=self._intra / self._texts if self._texts else np.full(len(self.layers), np.nan),
            anisotropy=anisotropy,
            norm=self._norms / self._tokens if self._tokens else np.full(len(self.layers), np.nan),
            tokens=self._tokens,
            pieces=int(often.sum()),
        )


def _hash(piece: int) -> int:
    """Mixes the bits of an id (the finalizer of SplitMix64), so that the smallest ones are a random choice."""
    value = (piece + 0x9E3779B97F4A7C15) & (2**64 - 1)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return value ^ (value >> 31)
