"""The grammar of `layers=`: which hidden states of an encoder are meant."""

import operator
import re
from collections.abc import Iterable

import numpy as np

_GRAMMAR = (
    'an int, a list or a range of ints, or one of "all" (1 to L), "all+embeddings" (0 to L), "lastN" (as "last4"), '
    '"first_last" (1 and L), "a:b" (a Python slice over 0 to L)'
)


def select_layers(layers: int | str | Iterable[int], num_hidden_layers: int, embeddings: bool = True) -> list[int]:
    """Returns the numbers of the selected layers, in the order in which they were asked for.

    Layer 0 is the output of the embeddings, 1 to L are the encoder layers, and negative numbers count from the top
    (-1 is L). Order and repeats are kept as written.

    Args:
        layers: an int, a list or a range of ints, or one of `"all"` (1 to L), `"all+embeddings"` (0 to L), `"lastN"`
            (as `"last4"`), `"first_last"` (1 and L), `"a:b"` (a Python slice over 0 to L).
        num_hidden_layers: L, the number of layers that the encoder holds.
        embeddings: whether the encoder returns layer 0. TF Hub encoders do not.

    Returns:
        A list of at least one int, each from 0 to L (from 1 where `embeddings` is false).

    Raises:
        TypeError: if `layers` is of another type.
        ValueError: if the text is not one of the above, if nothing is selected, or if there is no such layer.

    Example:

    >>> select_layers("last4", 12)
    [9, 10, 11, 12]
    >>> select_layers([-1, 0, -1], 12)
    [12, 0, 12]
    >>> select_layers("-2:", 12)
    [11, 12]
    """
    top = num_hidden_layers
    if isinstance(layers, str):
        selected = _parse(layers, top)
    elif isinstance(layers, Iterable):
        selected = [_number(layer, layers, top) for layer in layers]
    else:
        selected = [_number(layers, layers, top)]
    if not selected:
        raise ValueError(
            f"Expected `layers` to select at least one layer of an encoder with layers 0 to {top}. "
            f"Received: layers={layers!r}, which selects none."
        )
    if not embeddings and 0 in selected:
        raise ValueError(
            f"Expected layers from 1 to {top}: this encoder does not return layer 0, the output of its embeddings (no "
            f"TF Hub encoder does). Received: layers={layers!r}. Choose among layers 1 to {top}, or take the same BERT "
            "in Hugging Face's format: BertEncoder.from_pretrained(...) has layer 0."
        )
    return selected


def _parse(text: str, top: int) -> list[int]:
    if text == "all":
        return list(range(1, top + 1))
    if text == "all+embeddings":
        return list(range(top + 1))
    if text == "first_last":
        return [1, top]
    if match := re.fullmatch(r"last([0-9]+)", text):
        count = int(match[1])
        if not 1 <= count <= top:
            raise ValueError(
                f'Expected "lastN" with N from 1 to {top}, the number of layers of this encoder. '
                f"Received: layers={text!r}."
            )
        return list(range(top - count + 1, top + 1))
    if match := re.fullmatch(r"(-?[0-9]*):(-?[0-9]*)", text):
        try:
            start, stop = (int(bound) if bound else None for bound in match.groups())
        except ValueError:
            pass
        else:
            return list(range(top + 1))[start:stop]
    raise ValueError(f"Expected `layers` to be {_GRAMMAR}. Received: layers={text!r}.")


def _number(layer: object, layers: object, top: int) -> int:
    if isinstance(layer, (bool, np.bool_)) or not hasattr(layer, "__index__"):
        raise TypeError(f"Expected `layers` to be {_GRAMMAR}. Received: layers={layers!r}.")
    number = operator.index(layer)
    if not -top - 1 <= number <= top:
        raise ValueError(
            f"Expected layer numbers from 0 (the embeddings) to {top}, or negative ones from -1 (layer {top}) to "
            f"{-top - 1} (layer 0). Received: layers={layers!r}."
        )
    return number % (top + 1)
