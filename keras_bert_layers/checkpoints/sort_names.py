"""Which names in a checkpoint are those of the encoder's weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from keras_bert_layers.checkpoints.name_table import NameTable

# A constant that transformers stored with the weights for some years.
_NO_WEIGHTS = ("embeddings.position_ids",)

# What torch.compile, FSDP and activation checkpointing put into the name of each module that they wrap.
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclasses.dataclass(frozen=True)
class SortedNames:
    """The names in one checkpoint, sorted by what they are.

    Args:
        weights: The checkpoint's name of each weight of the encoder, by our name.
        unexpected: Names inside the encoder that the architecture does not have.
        others: Names outside the encoder, such as those of a classifier.
        transposed: Those of `weights` that are kernels stored as `[outputs, inputs]`, by our names.
    """

    weights: dict[str, str]
    unexpected: list[str]
    others: list[str]
    transposed: set[str] = dataclasses.field(default_factory=set)


def sort_names(names: Iterable[str], tables: Sequence[NameTable], source_name: str) -> SortedNames:
    """Sorts the names in a checkpoint, whatever stands before all of them.

    Args:
        names: The names in the checkpoint.
        tables: The `NameTable` of each naming scheme that it may have.
        source_name: What the error calls the checkpoint, such as the path of its directory.

    Returns:
        The `SortedNames`.

    Raises:
        ValueError: If two of the names mean one weight.

    Example:

    >>> from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
    >>> from keras_bert_layers.checkpoints.naming_scheme import PYTORCH
    >>> names = ["bert.pooler.dense.weight", "bert.encoder.scale", "classifier.bias"]
    >>> sort_names(names, [NameTable(ARCHITECTURES["bert"], PYTORCH)], "a checkpoint")
    SortedNames(weights={'pooler/kernel': 'bert.pooler.dense.weight'},
        unexpected=['bert.encoder.scale'], others=['classifier.bias'], transposed={'pooler/kernel'})
    """
    names = list(names)
    inner_names = [_inner_names(names, table, source_name) for table in tables]
    result = SortedNames({}, [], [])
    for name in names:
        found = [(table, inner[name]) for table, inner in zip(tables, inner_names, strict=True) if name in inner]
        if not found:
            result.others.append(name)
            continue
        table, inner = found[0]
        ours = table.ours(inner)
        if ours is None:
            result.unexpected.append(name)
        elif ours in result.weights:
            raise _two_names_error(result.weights[ours], name, source_name)
        else:
            result.weights[ours] = name
            if table.scheme.kernels_transposed and ours.endswith("/kernel"):
                result.transposed.add(ours)
    return result


def _inner_names(names: list[str], table: NameTable, source_name: str) -> dict[str, str]:
    """Finds the names that stand inside the encoder, and gives what each is there."""
    own_name, separator = table.architecture.prefix, table.scheme.separator
    inner = {}
    if separator == "/":
        # TensorFlow's variables have their model's name before the encoder's, which the user may have chosen freely.
        for name in names:
            before, own, rest = name.removesuffix(":0").rpartition(f"{own_name}/")
            if own and before[-1:] in ("", "/") and rest.partition("/")[0] in table.parts:
                inner[name] = rest
        return inner
    unwrapped = {name: _WRAPPERS.sub("", name) for name in names}
    prefix = _find_prefix(unwrapped, table, source_name)
    for name, short in unwrapped.items():
        rest = short.removeprefix(prefix)
        # Beside the parts of an encoder without a name of its own stand those of its heads.
        is_named = f".{prefix}".endswith(f".{own_name}.")
        is_inside = short.startswith(prefix) and (is_named or rest.partition(".")[0] in table.parts)
        if is_inside and rest not in _NO_WEIGHTS:
            inner[name] = rest
    return inner


def _find_prefix(unwrapped: dict[str, str], table: NameTable, source_name: str) -> str:
    """Finds what stands before PyTorch's names of the one encoder in a checkpoint: `bert.`, `module.`, nothing."""
    with_embeddings = {
        short.removesuffix(table.word_embeddings): name
        for name, short in unwrapped.items()
        if f".{short}".endswith(f".{table.word_embeddings}")
    }
    with_layers = {short.partition(table.first_layer)[0] for short in unwrapped.values() if table.first_layer in short}
    encoders = [prefix for prefix in with_embeddings if prefix in with_layers]
    if len(encoders) > 1:
        raise _two_names_error(with_embeddings[encoders[0]], with_embeddings[encoders[1]], source_name)
    if encoders or with_embeddings:
        return [*encoders, *with_embeddings][0]
    own_name = f"{table.architecture.prefix}."
    return own_name if any(short.startswith(own_name) for short in unwrapped.values()) else ""


def _two_names_error(first: str, second: str, source_name: str) -> ValueError:
    return ValueError(
        f"Each weight is expected once. Received: both {first!r} and {second!r} in {source_name}. "
        "Save only one BERT in a checkpoint."
    )
