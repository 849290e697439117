"""The names and shapes of BERT's weights, in which every reader ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keras_bert_layers.checkpoints.bert_config import BertConfig

Shape = tuple[int, ...]

_NAMES_PER_LIST = 10


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


def check_weights(found_shapes: Mapping[str, Shape], expected: Mapping[str, Shape], source_name: str) -> None:
    """Checks that a source holds exactly the weights that its configuration asks for.

    Args:
        found_shapes: Shapes by name, as the source has them.
        expected: Shapes by name, from `expected_shapes`.
        source_name: What the error calls the source, such as the path of the file.

    Raises:
        ValueError: If weights are missing, unexpected or of another shape; one message lists them all.

    Example:

    >>> check_weights({"pooler/bias": (8,)}, {"pooler/bias": (8,)}, "model.safetensors")
    """
    missing = [name for name in expected if name not in found_shapes]
    unexpected = [name for name in found_shapes if name not in expected]
    misshapen = [
        f"{name} {list(found_shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found_shapes and tuple(found_shapes[name]) != tuple(shape)
    ]
    if missing or unexpected or misshapen:
        raise ValueError(
            f"The weights in {source_name} are expected to be those of the BERT that its configuration describes. "
            f"Received:{_list('missing', missing)}{_list('unexpected', unexpected)}"
            f"{_list('of another shape', misshapen)}"
            "\nTake the configuration and the weights from the same BERT checkpoint."
        )


def _list(title: str, entries: Iterable[str]) -> str:
    entries = list(entries)
    if not entries:
        return ""
    shown = "".join(f"\n    {entry}" for entry in entries[:_NAMES_PER_LIST])
    rest = len(entries) - _NAMES_PER_LIST
    return f"\n  {len(entries)} {title}:{shown}" + (f"\n    ... and {rest} more" if rest > 0 else "")
