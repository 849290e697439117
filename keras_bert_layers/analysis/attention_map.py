import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import chosen_layers, is_int
from keras_bert_layers.analysis.batches import run_batches, token_strings
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOUR_MAP, new_figure, with_fonts
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.analysis.texts import count_texts


@dataclasses.dataclass(repr=False)
class AttentionMap(Result):
    """The attention of one text, as `attention_map` returns it.

    Attributes:
        layers: numbers of the K layers.
        tokens: the text's n tokens.
        scores: `[K, heads, n, n]`: of each token (third axis) over all tokens (fourth axis).
    """

    layers: list[int]
    tokens: list[str]
    scores: np.ndarray

    def to_dataframe(self) -> Any:
        """One row for each layer, head and pair of tokens; heads and places count from 1 and from 0."""
        layers, heads, count, _ = self.scores.shape
        layer, head, place, other = np.indices((layers, heads, count, count)).reshape(4, -1)
        tokens = np.array(self.tokens)
        return import_optional("pandas", "pandas").DataFrame(
            {
                "layer": np.array(self.layers)[layer],
                "head": head + 1,
                "from_place": place,
                "from_token": tokens[place],
                "to_place": other,
                "to_token": tokens[other],
                "attention": self.scores.ravel(),
            }
        )

    def plot(self, layer: int | None = None, head: int | None = None) -> Any:
        """Draws one head, or the sheet of all; returns the matplotlib figure.

        Args:
            layer: number of the layer; None draws the sheet of all layers and heads.
            head: number of the head of `layer`, from 1; None draws the mean of the layer's heads.
        """
        if layer is None and head is None:
            return self._plot_sheet()
        if layer not in self.layers or (head is not None and not (is_int(head, 1) and head <= self.scores.shape[1])):
            raise ValueError(
                f"Expected `layer` to be one of {self.layers} and `head` from 1 to {self.scores.shape[1]}. "
                f"Received: layer={layer!r}, head={head!r}."
            )
        scores = self.scores[self.layers.index(layer)]
        scores = scores.mean(axis=0) if head is None else scores[head - 1]
        what = "mean of all heads" if head is None else f"head {head}"
        figure = new_figure(6.8, f"Attention in layer {layer}, {what}")
        axis = figure.subplots()
        image = axis.imshow(scores, cmap=COLOUR_MAP, norm=_square_root(float(scores.max())))
        # Small where there are many, down to what can still be read.
        size = max(6, min(10, 320 / len(self.tokens)))
        axis.set_xticks(range(len(self.tokens)), self.tokens, rotation=90, fontsize=size)
        axis.set_yticks(range(len(self.tokens)), self.tokens, fontsize=size)
        axis.set_xlabel("token looked at")
        axis.set_ylabel("token that looks")
        figure.colorbar(image, ax=axis, label="attention (share; each row sums to 1)")
        return with_fonts(figure)

    def _plot_sheet(self) -> Any:
        layers, heads = self.scores.shape[:2]
        figure = new_figure(
            max(2.5, 0.9 + 7.0 * layers / heads), f"Attention of all layers and heads ({len(self.tokens)} tokens)"
        )
        axes = figure.subplots(layers, heads, squeeze=False)
        for row in range(layers):
            for column in range(heads):
                axis = axes[row, column]
                image = axis.imshow(self.scores[row, column], cmap=COLOUR_MAP, norm=_square_root(1.0))
                axis.set_xticks([])
                axis.set_yticks([])
                if row == 0:
                    axis.set_title(str(column + 1), fontsize=9)
                if column == 0:
                    axis.set_ylabel(str(self.layers[row]), fontsize=9, rotation=0, va="center", labelpad=8)
        figure.supxlabel("head above; in each: token looked at, from left to right", fontsize=10)
        figure.supylabel("layer; in each: token that looks, from above", fontsize=10)
        figure.colorbar(image, ax=axes, label="attention (share)", fraction=0.03)
        return figure


def attention_map(
    encoder: Any, preprocessor: Any, texts: Any, layers: int | str | Iterable[int] = "all"
) -> AttentionMap:
    """Returns the attention of every layer and head for one text, to look at.

    Args:
        encoder, preprocessor: as in `attention`.
        texts: one text: a str, or a tuple of two for a pair; or an iterable that holds one.
        layers: as in the encoders, without layer 0.

    Returns:
        An `AttentionMap`, whose `plot(layer, head)` draws one head with the tokens on both axes, and whose `plot()`
        draws the sheet of all layers and heads.

    Raises:
        TypeError, ValueError: as `attention`, and for more than one text.

    Example:

    ```python
    kbl.analysis.attention_map(encoder, preprocessor, "The cat sat on the mat.").plot(layer=3, head=5)
    ```
    """
    numbers = chosen_layers(encoder, layers, scores=True)
    count = count_texts(texts)
    if count is None or count < 2:
        batch = next(run_batches(encoder, preprocessor, texts, numbers, Wanted(scores=True)))
        count = len(batch.texts) if batch.ends_window else None
    if count != 1:
        raise ValueError(
            f"Expected one text. Received: {'several' if count is None else count} texts. Choose one: "
            "texts[0], or for pairs (firsts[0], seconds[0])."
        )
    return AttentionMap(
        layers=numbers,
        tokens=token_strings(preprocessor, batch.ids["input_word_ids"][0]),
        scores=np.stack(batch.states.scores)[:, 0],
    )


def _square_root(high: float) -> Any:
    """Colours by the root of the share, for most shares are small."""
    return import_optional("matplotlib.colors", "matplotlib").PowerNorm(0.5, 0.0, high)
