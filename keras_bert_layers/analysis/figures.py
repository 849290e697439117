"""How the figures look: 1,600 pixels wide, colours that everybody can tell apart, no global state of pyplot."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_bert_layers.analysis.optional_package import import_optional

# Okabe and Ito (2008), "Color Universal Design", without black and with yellow, which is pale, last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# One scale from dark to light, made for readers with and without colour blindness (Nunez et al. 2018).
COLOUR_MAP = "cividis"
_WIDTH = 8.0


def new_figure(height: float, title: str) -> Any:
    """Makes an empty figure, 8 inches wide: 1,600 pixels at 200 per inch, so that small print stays sharp.

    Args:
        height: in inches.
        title: what the figure compares.

    Returns:
        A `matplotlib.figure.Figure`, which no window shows.

    Raises:
        ImportError: without matplotlib.
    """
    figure = import_optional("matplotlib.figure", "matplotlib").Figure(
        figsize=(_WIDTH, height), dpi=200, layout="constrained"
    )
    figure.suptitle(title, fontsize=12)
    return figure


def label_layers(axis: Any, layers: Sequence[int], name: str = "layer (0: embeddings)") -> None:
    """Writes the numbers of the layers below an x axis whose places are 0, 1, 2, ..."""
    axis.set_xticks(range(len(layers)), [str(layer) for layer in layers])
    axis.set_xlabel(name)


def layer_name(layer: int | str) -> str:
    """What stands above a panel: of a layer, or of a combination that has its name."""
    if isinstance(layer, str):
        return layer
    return "embeddings" if layer == 0 else f"layer {layer}"


def draw_matrix(axis: Any, values: Any, layers: Sequence[int | str]) -> Any:
    """Draws a symmetrical matrix of layers as coloured cells, with its numbers where there is room for them.

    The diagonal, where every layer is compared with itself, stays empty, and the colours are for the other values.

    Args:
        axis: of a figure.
        values: `[layers, layers]`.
        layers: their numbers.

    Returns:
        The image, for a colour bar.
    """
    values = np.ma.masked_invalid(np.where(np.eye(len(layers), dtype=bool), np.nan, values))
    image = axis.imshow(values, cmap=COLOUR_MAP, aspect="auto")
    axis.set_facecolor("0.9")
    names = [str(layer) for layer in layers]
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    if len(names) <= 9:
        for row, column in zip(*np.nonzero(~values.mask), strict=True):
            colour = "black" if image.norm(values[row, column]) > 0.6 else "white"
            axis.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", color=colour, fontsize=8)
    return image


def with_fonts(figure: Any) -> Any:
    """Gives the texts of a figure a font that has their characters, where matplotlib's own has not.

    Args:
        figure: with all its texts.

    Returns:
        The figure. Where no installed font has a character, a warning says which.
    """
    font_manager = import_optional("matplotlib.font_manager", "matplotlib")
    texts = [text for text in figure.findobj(import_optional("matplotlib.text", "matplotlib").Text) if text.get_text()]
    if not texts:
        return figure
    own = font_manager.FontProperties(family=texts[0].get_fontfamily())
    first = _characters(font_manager.findfont(own))
    missing = {ord(one) for text in texts for one in text.get_text() if one.isprintable()} - first
    families: list[str] = []
    while missing:
        # The last resort draws a box with a number for every character.
        fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name}
        name = max(sorted(fonts), key=lambda name: len(missing & _characters(fonts[name])), default=None)
        found = missing & _characters(fonts[name]) if name is not None else set()
        if not found:
            shown = "".join(sorted(map(chr, missing))[:10])
            warnings.warn(
                f"No installed font has these characters: {shown}, and {own.get_name()} draws boxes for them. Install "
                "a font that has them, such as Noto Sans CJK for Chinese, Japanese and Korean, then in a new process "
                "matplotlib.font_manager.fontManager.addfont(path), or empty matplotlib.get_cachedir().",
                stacklevel=3,
            )
            break
        families.append(str(name))
        missing -= found
    if families:
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])
    return figure


@functools.lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(import_optional("matplotlib.ft2font", "matplotlib").FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        # A file that was removed since matplotlib listed it, or is not a font.
        return frozenset()
