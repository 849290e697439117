"""The names and shapes of BERT's weights, in which every reader ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from keras_bert_layers.checkpoints.bert_config import BertConfig

Shape = tuple[int, ...]

_NAMES_PER_LIST = 10
_NAME_LENGTH = 200

# Our name of a weight in an encoder layer.
LAYER = re.compile(r"layer_([0-9]{1,4})/")


def expected_shapes(config: BertConfig, pooler: bool) -> dict[str, Shape]:
    """Lists the weights of a BERT, in the order in which the model uses them.

    Kernels are `[inputs, outputs]`, as Keras has them. Layers count from 1, since layer 0 is the embeddings' output.

    Args:
        config: The `BertConfig`.
        pooler: Whether the pooler's weights are among them.

    Returns:
        A dictionary of shapes by name.

    Example:

    >>> shapes = expected_shapes(BertConfig(), pooler=True)
    >>> shapes["embeddings/word_embeddings"], shapes["layer_12/feed_forward/intermediate/kernel"]
    ((30522, 768), (768, 3072))
    """
    hidden, intermediate = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {
        "embeddings/word_embeddings": (config.vocab_size, hidden),
        "embeddings/position_embeddings": (config.max_position_embeddings, hidden),
        "embeddings/token_type_embeddings": (config.type_vocab_size, hidden),
        "embeddings/layer_norm/gamma": (hidden,),
        "embeddings/layer_norm/beta": (hidden,),
    }
    layer: dict[str, Shape] = {
        "attention/query/kernel": (hidden, hidden),
        "attention/query/bias": (hidden,),
        "attention/key/kernel": (hidden, hidden),
        "attention/key/bias": (hidden,),
        "attention/value/kernel": (hidden, hidden),
        "attention/value/bias": (hidden,),
        "attention/output/kernel": (hidden, hidden),
        "attention/output/bias": (hidden,),
        "attention/layer_norm/gamma": (hidden,),
        "attention/layer_norm/beta": (hidden,),
        "feed_forward/intermediate/kernel": (hidden, intermediate),
        "feed_forward/intermediate/bias": (intermediate,),
        "feed_forward/output/kernel": (intermediate, hidden),
        "feed_forward/output/bias": (hidden,),
        "feed_forward/layer_norm/gamma": (hidden,),
        "feed_forward/layer_norm/beta": (hidden,),
    }
    for number in range(1, config.num_hidden_layers + 1):
        shapes.update({f"layer_{number}/{name}": shape for name, shape in layer.items()})
    if pooler:
        shapes.update({"pooler/kernel": (hidden, hidden), "pooler/bias": (hidden,)})
    return shapes


def check_weights(
    found_shapes: Mapping[str, Shape], config: BertConfig, pooler: bool, source_name: str, others: Sequence[str] = ()
) -> None:
    """Checks that a source holds exactly the weights that its configuration asks for.

    Args:
        found_shapes: Shapes by name, as the source has them.
        config: The `BertConfig`.
        pooler: Whether the pooler's weights are among them.
        source_name: What the error calls the source, such as the path of the file.
        others: Names in the source that belong to no BERT, which help to see what it is.

    Raises:
        ValueError: If there are fewer layers than the configuration says, or weights are missing, unexpected or of
            another shape; one message lists them all.

    Example:

    >>> config = BertConfig(num_hidden_layers=1)
    >>> check_weights(expected_shapes(config, pooler=True), config, True, "model.safetensors")
    """
    start = f"The weights in {source_name} are expected to be those of the BERT that its configuration describes. "
    end = "\nTake the configuration and the weights from the same BERT checkpoint."
    layers = {match.group(1) for name in found_shapes if (match := LAYER.match(name))}
    # Before a name is made of each layer that the configuration claims.
    if len(layers) < config.num_hidden_layers:
        raise ValueError(
            f"{start}Received: num_hidden_layers={config.num_hidden_layers} in the configuration, and weights of "
            f"{len(layers)} layers.{_list('of other parts', others)}{end}"
        )
    expected = expected_shapes(config, pooler)
    missing = [name for name in expected if name not in found_shapes]
    unexpected = [name for name in found_shapes if name not in expected]
    misshapen = [
        f"{name} {list(found_shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found_shapes and tuple(found_shapes[name]) != tuple(shape)
    ]
    if missing or unexpected or misshapen:
        raise ValueError(
            f"{start}Received:{_list('missing', missing)}{_list('unexpected', unexpected)}"
            f"{_list('of another shape', misshapen)}{_list('of other parts', others) if missing else ''}{end}"
        )


def _list(title: str, entries: Iterable[str]) -> str:
    entries = list(entries)
    if not entries:
        return ""
    shown = "".join(f"\n    {entry[:_NAME_LENGTH]}" for entry in entries[:_NAMES_PER_LIST])
    rest = len(entries) - _NAMES_PER_LIST
    return f"\n  {len(entries)} {title}:{shown}" + (f"\n    ... and {rest} more" if rest > 0 else "")
