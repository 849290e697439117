import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import chosen_layers
from keras_bert_layers.analysis.batches import Batch
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOUR_MAP, COLOURS, MARKERS, label_layers, new_figure
from keras_bert_layers.analysis.measure import Measure, run_measures
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result

# Statistic -> (title, unit).
STATISTICS = {
    "entropy": ("Entropy of the attention", "nats"),
    "distance": ("Mean distance", "tokens"),
    "to_cls": ("Attention to [CLS]", "share, 0 to 1"),
    "to_sep": ("Attention to [SEP]", "share, 0 to 1"),
    "to_itself": ("Attention to itself", "share, 0 to 1"),
}


@dataclasses.dataclass(repr=False)
class Attention(Result):
    """What each attention head looks at, as `attention` measures it.

    Attributes:
        layers: numbers of the K layers.
        entropy: `[K, heads]`, in nats: 0 where a head looks at one token, log n where at all n alike.
        distance: `[K, heads]`, in tokens.
        to_cls, to_sep, to_itself: `[K, heads]`, shares of the attention from 0 to 1.
        tokens: how many there were.
    """

    layers: list[int]
    entropy: np.ndarray
    distance: np.ndarray
    to_cls: np.ndarray
    to_sep: np.ndarray
    to_itself: np.ndarray
    tokens: int

    def to_dataframe(self) -> Any:
        """One row for each layer and head; heads count from 1."""
        heads = self.entropy.shape[1]
        return import_optional("pandas", "pandas").DataFrame(
            {
                "layer": np.repeat(self.layers, heads),
                "head": np.tile(np.arange(1, heads + 1), len(self.layers)),
                **{name: getattr(self, name).ravel() for name in STATISTICS},
            }
        )

    def plot(self) -> Any:
        """One matrix of layers and heads for each statistic; returns the matplotlib figure."""
        figure = new_figure(6.5, f"What each attention head looks at (means over {self.tokens:,} tokens)")
        axes = figure.subplots(2, 3).ravel()
        heads = self.entropy.shape[1]
        # Every other number where there is no room for all.
        places = range(0, heads, 1 if heads <= 8 else 2)
        for axis, (name, (title, unit)) in zip(axes, STATISTICS.items(), strict=False):
            values = getattr(self, name)
            axis.set_title(title, fontsize=10)
            # The colours are for what most heads do: a few extreme ones would take them all.
            low, high = np.percentile(values, (3, 97))
            image = axis.imshow(values, cmap=COLOUR_MAP, vmin=low, vmax=high, aspect="auto")
            axis.set_xticks(places, [str(place + 1) for place in places])
            axis.set_yticks(range(len(self.layers)), [str(layer) for layer in self.layers])
            axis.set_xlabel("head")
            axis.set_ylabel("layer")
            figure.colorbar(image, ax=axis, label=unit, extend="both")
        means = axes[-1]
        means.set_title("Mean of a layer's heads", fontsize=10)
        for number, name in enumerate(("to_cls", "to_sep", "to_itself")):
            style = {"color": COLOURS[number], "marker": MARKERS[number]}
            means.plot(getattr(self, name).mean(axis=1), label=STATISTICS[name][0].removeprefix("Attention "), **style)
        means.margins(y=0.45)
        means.set_ylim(bottom=0)
        means.set_ylabel("share, 0 to 1")
        means.grid(alpha=0.3)
        means.legend(fontsize=8, loc="upper right")
        label_layers(means, self.layers, "layer")
        return figure


def attention(encoder: Any, preprocessor: Any, texts: Any, layers: int | str | Iterable[int] = "all") -> Attention:
    r"""Measures what each attention head of each layer looks at (after Clark et al. 2019, section 3).

    For the attention \(p_1 \dots p_n\) of the token at place t over the n tokens of its text: the entropy
    \(-\sum_s p_s \ln p_s\), the distance \(\sum_s p_s |t - s|\), and its mass on [CLS], on all [SEP] and on t itself;
    each the mean over all real tokens of all texts, [CLS] and [SEP] among them.

    Args:
        encoder: a `BertEncoder` or a `HuggingFaceEncoder`, made with or without `return_attention_scores`.
        preprocessor, texts: as in `layer_differences`.
        layers: as in the encoders, without layer 0.

    Returns:
        An `Attention`.

    Raises:
        TypeError, ValueError: for what is none of the above, and for a `TFHubEncoder`, which returns no scores.

    Example:

    ```python
    kbl.analysis.attention(encoder, preprocessor, texts).plot()
    ```
    """
    numbers = chosen_layers(encoder, layers, scores=True)
    return run_measures(encoder, preprocessor, texts, numbers, [AttentionMeasure(numbers)])[0]


class AttentionMeasure(Measure):
    """Sums over tokens, for each layer and head."""

    wanted = Wanted(scores=True)

    def __init__(self, layers: list[int]):
        self.layers = layers
        self._sums: dict[str, np.ndarray] = {}
        self._tokens = 0

    def update(self, batch: Batch) -> None:
        length = batch.mask.shape[1]
        places = np.arange(length)
        distances = np.abs(places[:, None] - places).astype("float32")
        separators = batch.special.copy()
        separators[:, 0] = False
        real = batch.mask[:, None, :]
        for row, scores in enumerate(batch.states.scores):
            scores = scores * batch.mask[:, None, None, :]
            by_token = {
                "entropy": -np.einsum("bhts,bhts->bht", scores, np.log(np.where(scores > 0, scores, 1))),
                "distance": np.einsum("bhts,ts->bht", scores, distances),
                "to_cls": scores[..., 0],
                "to_sep": np.einsum("bhts,bs->bht", scores, separators.astype("float32")),
                "to_itself": np.diagonal(scores, axis1=2, axis2=3),
            }
            for name, values in by_token.items():
                if name not in self._sums:
                    self._sums[name] = np.zeros((len(self.layers), scores.shape[1]))
                self._sums[name][row] += np.where(real, values, 0).sum(axis=(0, 2), dtype="float64")
        self._tokens += int(batch.mask.sum())

    def result(self) -> Attention:
        means = {name: sums / self._tokens for name, sums in self._sums.items()}
        return Attention(layers=self.layers, tokens=self._tokens, **means)
