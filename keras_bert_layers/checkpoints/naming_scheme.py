"""The ways in which frameworks name the weights of one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class NamingScheme:
    """How a framework makes a weight's name of its module's, and how it stores a kernel.

    Args:
        separator: What stands between the parts of a name.
        number: What stands before the number of a layer.
        weights: Our name of each kind of weight (`kernel`, `bias`, `gamma`, `beta`, `embeddings`) and theirs; "" where
            it has the module's own name. `word_embeddings` may differ from other embeddings.
        kernels_transposed: Whether kernels are stored as `[outputs, inputs]`.
        aliases: Older names of theirs, and those that took their place.

    Example:

    >>> PYTORCH.name("encoder.layer.{}.output.LayerNorm", "gamma")
    'encoder.layer.{}.output.LayerNorm.weight'
    >>> TENSORFLOW.name("encoder.layer.{}.output.LayerNorm", "gamma")
    'encoder/layer_._{}/output/LayerNorm/gamma'
    """

    separator: str
    number: str
    weights: Mapping[str, str]
    kernels_transposed: bool
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name(self, module: str, weight: str) -> str:
        """Gives the name of a weight.

        Args:
            module: Its module, as transformers' PyTorch models call it.
            weight: Our name of the weight inside the module.

        Returns:
            The scheme's name, below the model's own.
        """
        parts = module.split(".")
        if weight == "embeddings" and parts[-1] in self.weights:
            weight = parts[-1]
        path = parts[0]
        for part in [*parts[1:], *filter(None, [self.weights[weight]])]:
            path += (self.number if part == "{}" or part.isdigit() else self.separator) + part
        return path


# transformers' PyTorch models. TensorFlow's first releases called scale and shift gamma and beta, and so did the files
# that were converted from them.
PYTORCH = NamingScheme(
    separator=".",
    number=".",
    weights={"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "embeddings": "weight"},
    kernels_transposed=True,
    aliases={".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"},
)

# transformers' TensorFlow models.
TENSORFLOW = NamingScheme(
    separator="/",
    number="_._",
    weights={
        "kernel": "kernel",
        "bias": "bias",
        "gamma": "gamma",
        "beta": "beta",
        "embeddings": "embeddings",
        "word_embeddings": "weight",
    },
    kernels_transposed=False,
)

# Google's own checkpoints.
GOOGLE = NamingScheme(
    separator="/",
    number="_",
    weights={"kernel": "kernel", "bias": "bias", "gamma": "gamma", "beta": "beta", "embeddings": ""},
    kernels_transposed=False,
)
