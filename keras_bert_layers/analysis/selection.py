from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from keras_bert_layers.analysis.arguments import check_encoder, chosen_layers
from keras_bert_layers.layers.layer_combination import COMBINE_MODES, LayerCombination


class Selection(NamedTuple):
    """Which states are meant: those of several layers one by one, or one state of each token.

    Attributes:
        layers: numbers of the layers.
        combination: what makes one state of all of them; None for none.
        is_single: whether there is one state: of a combination, or of the one layer that an int names.
    """

    layers: list[int]
    combination: LayerCombination | None
    is_single: bool

    @property
    def mode(self) -> str | None:
        """The mode of the combination."""
        return None if self.combination is None else self.combination.mode

    @property
    def one_by_one(self) -> list[int]:
        """The layers whose states are taken as they are."""
        return self.layers if self.combination is None else []

    @property
    def combinations(self) -> list[tuple[LayerCombination, list[int]]]:
        """What `Wanted` takes."""
        return [] if self.combination is None else [(self.combination, self.layers)]


def chosen_states(
    encoder: Any, layers: int | str | Iterable[int] | None, combine: str | LayerCombination | None
) -> Selection:
    """Checks the encoder and returns which states are meant; what is None in both is as the encoder is made.

    Args:
        encoder: a `BertEncoder`, `HuggingFaceEncoder` or `TFHubEncoder`.
        layers: as in the encoders; None for those of the encoder.
        combine: as in the encoders; None for the encoder's own where `layers` is None too, else for none.

    Raises:
        TypeError, ValueError: as `chosen_layers`, and for what does not combine these layers.
    """
    check_encoder(encoder)
    if layers is None:
        layers, combine = encoder.layers, encoder.combination if combine is None else combine
    elif not isinstance(layers, (int, str)) and isinstance(layers, Iterable):
        layers = list(layers)
    numbers = chosen_layers(encoder, layers)
    if isinstance(combine, str) and combine in COMBINE_MODES:
        combine = LayerCombination(combine, dtype="float32")
    if combine is not None and not isinstance(combine, LayerCombination):
        raise ValueError(
            f"Expected `combine` to be None, one of {', '.join(COMBINE_MODES)}, or a LayerCombination. "
            f"Received: combine={combine!r}."
        )
    if combine is None or not combine.has_sequence_axis:
        return Selection(numbers, None, hasattr(layers, "__index__"))
    if not combine.built:
        combine.build([(None, None, encoder.hidden_size)] * len(numbers))
    combine.check_count(len(numbers))
    return Selection(numbers, combine, True)


def combination_name(mode: str, layers: Sequence[int]) -> str:
    """Such as `"mean of layers 3 to 6"`."""
    is_run = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    numbers = f"{layers[0]} to {layers[-1]}" if is_run else ", ".join(map(str, layers))
    return f"{mode} of layer{'s' if len(layers) > 1 else ''} {numbers}"
