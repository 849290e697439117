"""The names of an architecture's weights in one naming scheme, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from keras_bert_layers.checkpoints.architectures import Architecture
from keras_bert_layers.checkpoints.naming_scheme import NamingScheme

_NUMBER = re.compile(r"0|[1-9][0-9]{0,3}")
_OUR_NUMBER = re.compile(r"(?<=layer_)[1-9][0-9]{0,3}(?=/)")


class NameTable:
    """A bijection between the names of one naming scheme and ours.

    Ours are the paths of `BertEncoder`'s variables below its own name, such as `layer_3/attention/query/kernel`.

    Args:
        architecture: The `Architecture`.
        scheme: The `NamingScheme`.

    Example:

    >>> from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
    >>> from keras_bert_layers.checkpoints.naming_scheme import PYTORCH
    >>> table = NameTable(ARCHITECTURES["bert"], PYTORCH)
    >>> table.ours("encoder.layer.2.attention.self.query.weight")
    'layer_3/attention/query/kernel'
    >>> table.theirs("layer_3/attention/query/kernel")
    'encoder.layer.2.attention.self.query.weight'
    """

    def __init__(self, architecture: Architecture, scheme: NamingScheme) -> None:
        self.architecture = architecture
        self.scheme = scheme
        self._theirs = {
            ours: scheme.name(module, weight)
            for module, our_module in architecture.modules.items()
            for ours, weight in _weights(our_module).items()
        }
        self._ours = {theirs: ours for ours, theirs in self._theirs.items()}
        #: What every checkpoint of the architecture has, and what its first layer begins with.
        self.word_embeddings = self._theirs["embeddings/word_embeddings"]
        self._before_number = self._theirs["layer_{}/attention/query/kernel"].partition("{}")[0]
        self.first_layer = f"{self._before_number}0{scheme.separator}"
        #: The outermost modules.
        self.parts = {name.partition(scheme.separator)[0] for name in self._ours}

    @property
    def names(self) -> Mapping[str, str]:
        """Their names by ours, with `{}` for the layer's number."""
        return self._theirs

    def ours(self, name: str) -> str | None:
        """Gives our name of a weight.

        Args:
            name: Their name, below the model's own.

        Returns:
            Ours, or None where no weight of the architecture has that name.
        """
        for old, new in self.scheme.aliases.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        if not name.startswith(self._before_number):
            return self._ours.get(name)
        number, separator, rest = name.removeprefix(self._before_number).partition(self.scheme.separator)
        template = self._ours.get(f"{self._before_number}{{}}{separator}{rest}")
        if template is None or not _NUMBER.fullmatch(number):
            return None
        return template.format(int(number) + 1)

    def theirs(self, name: str) -> str:
        """Gives their name of a weight.

        Args:
            name: Ours.

        Returns:
            Theirs, below the model's own name.

        Raises:
            KeyError: If the architecture has no such weight.
        """
        number = _OUR_NUMBER.search(name)
        if number is None:
            return self._theirs[name]
        return self._theirs[_OUR_NUMBER.sub("{}", name)].format(int(number.group()) - 1)


def _weights(module: str) -> dict[str, str]:
    """Our names of a module's weights, and what each is in it."""
    if module.endswith("_embeddings"):
        return {module: "embeddings"}
    kinds = ("gamma", "beta") if module.endswith("layer_norm") else ("kernel", "bias")
    return {f"{module}/{kind}": kind for kind in kinds}
