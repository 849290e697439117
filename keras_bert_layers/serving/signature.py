import dataclasses
from collections.abc import Callable

import tensorflow as tf

from keras_bert_layers.serving.pruned_function import PrunedFunction, Tensors


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a signature takes, and how: texts become ids on the host, ids numbers, and numbers texts on the host again.

    Each part takes tensors by name and gives tensors by name. `tokenize` is traced already, for signatures share it.

    Attributes:
        inputs: for each input its `tf.TensorSpec`.
        tokenize: the inputs that are texts -> ids and what else belongs to each token.
        encode: the other inputs and what `tokenize` gives -> outputs.
        returned_as_is: what of `tokenize` is an output too.
        make_strings: the inputs that are texts, and what `encode` gives for it -> the outputs that are strings.
        for_strings: what of `encode` is for `make_strings` alone.
    """

    inputs: dict[str, tf.TensorSpec]
    tokenize: PrunedFunction | None = None
    encode: Callable[..., Tensors] | None = None
    returned_as_is: tuple[str, ...] = ()
    make_strings: Callable[..., Tensors] | None = None
    for_strings: tuple[str, ...] = ()
