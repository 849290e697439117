"""The names that transformers gives to BERT's weights, and ours."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

# `{}` is the layer's number: it counts from 0 in transformers and from 1 here.
PYTORCH_NAMES = {
    "embeddings.word_embeddings.weight": "embeddings/word_embeddings",
    "embeddings.position_embeddings.weight": "embeddings/position_embeddings",
    "embeddings.token_type_embeddings.weight": "embeddings/token_type_embeddings",
    "embeddings.LayerNorm.weight": "embeddings/layer_norm/gamma",
    "embeddings.LayerNorm.bias": "embeddings/layer_norm/beta",
    "embeddings.LayerNorm.gamma": "embeddings/layer_norm/gamma",
    "embeddings.LayerNorm.beta": "embeddings/layer_norm/beta",
    "encoder.layer.{}.attention.self.query.weight": "layer_{}/attention/query/kernel",
    "encoder.layer.{}.attention.self.query.bias": "layer_{}/attention/query/bias",
    "encoder.layer.{}.attention.self.key.weight": "layer_{}/attention/key/kernel",
    "encoder.layer.{}.attention.self.key.bias": "layer_{}/attention/key/bias",
    "encoder.layer.{}.attention.self.value.weight": "layer_{}/attention/value/kernel",
    "encoder.layer.{}.attention.self.value.bias": "layer_{}/attention/value/bias",
    "encoder.layer.{}.attention.output.dense.weight": "layer_{}/attention/output/kernel",
    "encoder.layer.{}.attention.output.dense.bias": "layer_{}/attention/output/bias",
    "encoder.layer.{}.attention.output.LayerNorm.weight": "layer_{}/attention/layer_norm/gamma",
    "encoder.layer.{}.attention.output.LayerNorm.bias": "layer_{}/attention/layer_norm/beta",
    "encoder.layer.{}.attention.output.LayerNorm.gamma": "layer_{}/attention/layer_norm/gamma",
    "encoder.layer.{}.attention.output.LayerNorm.beta": "layer_{}/attention/layer_norm/beta",
    "encoder.layer.{}.intermediate.dense.weight": "layer_{}/feed_forward/intermediate/kernel",
    "encoder.layer.{}.intermediate.dense.bias": "layer_{}/feed_forward/intermediate/bias",
    "encoder.layer.{}.output.dense.weight": "layer_{}/feed_forward/output/kernel",
    "encoder.layer.{}.output.dense.bias": "layer_{}/feed_forward/output/bias",
    "encoder.layer.{}.output.LayerNorm.weight": "layer_{}/feed_forward/layer_norm/gamma",
    "encoder.layer.{}.output.LayerNorm.bias": "layer_{}/feed_forward/layer_norm/beta",
    "encoder.layer.{}.output.LayerNorm.gamma": "layer_{}/feed_forward/layer_norm/gamma",
    "encoder.layer.{}.output.LayerNorm.beta": "layer_{}/feed_forward/layer_norm/beta",
    "pooler.dense.weight": "pooler/kernel",
    "pooler.dense.bias": "pooler/bias",
}

TENSORFLOW_NAMES = {
    "embeddings/word_embeddings/weight": "embeddings/word_embeddings",
    "embeddings/position_embeddings/embeddings": "embeddings/position_embeddings",
    "embeddings/token_type_embeddings/embeddings": "embeddings/token_type_embeddings",
    "embeddings/LayerNorm/gamma": "embeddings/layer_norm/gamma",
    "embeddings/LayerNorm/beta": "embeddings/layer_norm/beta",
    "encoder/layer_._{}/attention/self/query/kernel": "layer_{}/attention/query/kernel",
    "encoder/layer_._{}/attention/self/query/bias": "layer_{}/attention/query/bias",
    "encoder/layer_._{}/attention/self/key/kernel": "layer_{}/attention/key/kernel",
    "encoder/layer_._{}/attention/self/key/bias": "layer_{}/attention/key/bias",
    "encoder/layer_._{}/attention/self/value/kernel": "layer_{}/attention/value/kernel",
    "encoder/layer_._{}/attention/self/value/bias": "layer_{}/attention/value/bias",
    "encoder/layer_._{}/attention/output/dense/kernel": "layer_{}/attention/output/kernel",
    "encoder/layer_._{}/attention/output/dense/bias": "layer_{}/attention/output/bias",
    "encoder/layer_._{}/attention/output/LayerNorm/gamma": "layer_{}/attention/layer_norm/gamma",
    "encoder/layer_._{}/attention/output/LayerNorm/beta": "layer_{}/attention/layer_norm/beta",
    "encoder/layer_._{}/intermediate/dense/kernel": "layer_{}/feed_forward/intermediate/kernel",
    "encoder/layer_._{}/intermediate/dense/bias": "layer_{}/feed_forward/intermediate/bias",
    "encoder/layer_._{}/output/dense/kernel": "layer_{}/feed_forward/output/kernel",
    "encoder/layer_._{}/output/dense/bias": "layer_{}/feed_forward/output/bias",
    "encoder/layer_._{}/output/LayerNorm/gamma": "layer_{}/feed_forward/layer_norm/gamma",
    "encoder/layer_._{}/output/LayerNorm/beta": "layer_{}/feed_forward/layer_norm/beta",
    "pooler/dense/kernel": "pooler/kernel",
    "pooler/dense/bias": "pooler/bias",
}

# A constant that transformers stored with the weights for some years.
_NO_WEIGHTS = ("embeddings.position_ids",)

# What torch.compile, FSDP and activation checkpointing put into the name of each module that they wrap.
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PARTS = ("embeddings", "encoder", "pooler")
# Every BERT has these two, and what stands before them stands before all its names: `bert.`, `module.`, `0.auto_model.`
_WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
_FIRST_LAYER = "encoder.layer.0."
_PYTORCH_LAYER = re.compile(r"(?<=encoder\.layer\.)(?:0|[1-9][0-9]{0,3})(?=\.)")
_TENSORFLOW_LAYER = re.compile(r"(?<=encoder/layer_\._)(?:0|[1-9][0-9]{0,3})(?=/)")


@dataclasses.dataclass(frozen=True)
class SortedNames:
    """The names in one checkpoint, sorted by what they are.

    Args:
        weights: The checkpoint's name of each BERT weight, by our name.
        unexpected: Names inside the encoder that no BERT has.
        others: Names outside the encoder, such as those of a classifier.
    """

    weights: dict[str, str]
    unexpected: list[str]
    others: list[str]


def sort_names(names: Iterable[str], source_name: str) -> SortedNames:
    """Sorts the names in a checkpoint of transformers, PyTorch's or TensorFlow's, whatever stands before all of them.

    Args:
        names: The names in the checkpoint.
        source_name: What the error calls the checkpoint, such as the path of its directory.

    Returns:
        The `SortedNames`.

    Raises:
        ValueError: If two of the names mean one weight.

    Example:

    >>> sort_names(["bert.pooler.dense.weight", "bert.encoder.scale", "classifier.bias"], "a checkpoint")
    SortedNames(weights={'pooler/kernel': 'bert.pooler.dense.weight'},
        unexpected=['bert.encoder.scale'], others=['classifier.bias'])
    """
    names = list(names)
    prefix = _find_prefix(names, source_name)
    weights: dict[str, str] = {}
    unexpected, others = [], []
    for name in names:
        inside, canonical = _look_up(name, prefix)
        if canonical in weights:
            raise _two_names_error(weights[canonical], name, source_name)
        if canonical is not None:
            weights[canonical] = name
        elif inside:
            unexpected.append(name)
        else:
            others.append(name)
    return SortedNames(weights, unexpected, others)


def _find_prefix(names: list[str], source_name: str) -> str:
    """Finds what stands before PyTorch's names of the one BERT in a checkpoint."""
    unwrapped = {_WRAPPERS.sub("", name): name for name in names}
    with_embeddings = {
        name.removesuffix(_WORD_EMBEDDINGS): original
        for name, original in unwrapped.items()
        if name == _WORD_EMBEDDINGS or name.endswith(f".{_WORD_EMBEDDINGS}")
    }
    with_layers = {name.partition(_FIRST_LAYER)[0] for name in unwrapped if _FIRST_LAYER in name}
    berts = [prefix for prefix in with_embeddings if prefix in with_layers]
    if len(berts) > 1:
        raise _two_names_error(with_embeddings[berts[0]], with_embeddings[berts[1]], source_name)
    if berts or with_embeddings:
        return [*berts, *with_embeddings][0]
    return "bert." if any(name.startswith("bert.") for name in unwrapped) else ""


def _look_up(name: str, prefix: str) -> tuple[bool, str | None]:
    """Says whether a name lies inside the encoder, and which weight it is."""
    if "/" in name:
        # TFBertModel puts its own name before `bert/`, which the user may have chosen freely.
        before, bert, inner = name.removesuffix(":0").rpartition("bert/")
        inside = bool(bert) and before[-1:] in ("", "/") and inner.split("/", 1)[0] in _PARTS
        table, layer = TENSORFLOW_NAMES, _TENSORFLOW_LAYER
    else:
        unwrapped = _WRAPPERS.sub("", name)
        inner = unwrapped.removeprefix(prefix)
        # Beside the parts of a BERT without a name of its own stand those of its heads.
        inside = unwrapped.startswith(prefix) and (inner.split(".", 1)[0] in _PARTS or prefix.endswith("bert."))
        table, layer = PYTORCH_NAMES, _PYTORCH_LAYER
    if not inside or inner in _NO_WEIGHTS:
        return False, None
    number = layer.search(inner)
    if number is None:
        return True, table.get(inner)
    template = table.get(layer.sub("{}", inner))
    return True, template and template.format(int(number.group()) + 1)


def _two_names_error(first: str, second: str, source_name: str) -> ValueError:
    return ValueError(
        f"Each weight is expected once. Received: both {first!r} and {second!r} in {source_name}. "
        "Save only one BERT in a checkpoint."
    )
