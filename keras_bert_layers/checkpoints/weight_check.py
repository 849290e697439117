"""Whether the weights in a checkpoint are those of the encoder that its configuration describes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

Shape = tuple[int, ...]

_NAMES_PER_LIST = 10
_NAME_LENGTH = 200
_LAYER = re.compile(r"layer_([0-9]{1,4})/")

_START = "The weights in {} are expected to be those of the BERT that its configuration describes. "
_END = "\nTake the configuration and the weights from the same BERT checkpoint."


def check_layers(names: Iterable[str], num_layers: int, source_name: str, others: Sequence[str]) -> None:
    """Checks that a source holds as many layers as are asked of it, before anything is made of each.

    Args:
        names: Our names of its weights.
        num_layers: How many layers it has to hold.
        source_name: What the error calls the source, such as the path of the file.
        others: Names in the source that are none of the encoder's, which help to see what it is.

    Raises:
        ValueError: If it holds fewer.

    Example:

    >>> check_layers(["layer_1/attention/query/bias", "layer_2/attention/query/bias"], 2, "model.safetensors", [])
    """
    found = {match.group(1) for name in names if (match := _LAYER.match(name))}
    if len(found) < num_layers:
        raise ValueError(
            f"{_START.format(source_name)}Received: num_hidden_layers={num_layers} in the configuration, and weights "
            f"of {len(found)} layers.{_list('of other parts', others)}{_END}"
        )


def check_weights(
    found: Mapping[str, Shape], expected: Mapping[str, Shape], num_blocks: int, source_name: str, others: Sequence[str]
) -> None:
    """Checks that a source holds exactly the weights of an encoder.

    Args:
        found: Shapes by our names, as the source has them.
        expected: Shapes by name, as the encoder has them. It may have fewer layers than the source, and no pooler.
        num_blocks: How many layers with weights of their own the source's configuration says it has.
        source_name: What the error calls the source, such as the path of the file.
        others: Names in the source that are none of the encoder's, which help to see what it is.

    Raises:
        ValueError: If weights are missing, unexpected or of another shape; one message lists them all.

    Example:

    >>> check_weights({"pooler/bias": (8,)}, {"pooler/bias": (8,)}, 0, "model.safetensors", [])
    """
    left_out = {"pooler", *(f"layer_{number}" for number in range(1, num_blocks + 1))}
    left_out -= {name.partition("/")[0] for name in expected}
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected and name.partition("/")[0] not in left_out]
    misshapen = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if missing or unexpected or misshapen:
        raise ValueError(
            f"{_START.format(source_name)}Received:{_list('missing', missing)}{_list('unexpected', unexpected)}"
            f"{_list('of another shape', misshapen)}{_list('of other parts', others) if missing else ''}{_END}"
        )


def _list(title: str, entries: Iterable[str]) -> str:
    entries = list(entries)
    if not entries:
        return ""
    shown = "".join(f"\n    {entry[:_NAME_LENGTH]}" for entry in entries[:_NAMES_PER_LIST])
    rest = len(entries) - _NAMES_PER_LIST
    return f"\n  {len(entries)} {title}:{shown}" + (f"\n    ... and {rest} more" if rest > 0 else "")
