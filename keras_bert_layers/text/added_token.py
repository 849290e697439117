import dataclasses
from collections.abc import Mapping
from typing import Any

# Characters that stand for tokens inside a graph. BERT drops them from every text.
_FIRST_RESERVED, _LAST_RESERVED = "\U000f0000", "\U000ffffd"


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is looked for in the text before the text is split, as `AddedToken` of Hugging Face's tokenizers.

    Args:
        content: what is looked for.
        single_word: whether it counts only where no letter, digit or underscore touches it.
        lstrip: whether white space before it belongs to it. That changes its offsets and no ids.
        rstrip: the same of white space behind it.
        normalized: whether the normalised content is looked for in the normalised text, so that in an uncased
            checkpoint "Cool-Token" is "cool-token"; else it must stand there as it is. None: where it is not `special`.
        special: whether `detokenize(..., skip_special_tokens=True)` leaves it out.

    Raises:
        ValueError: for a content that no text can have, or that cannot be told from word pieces.

    Example:

    >>> AddedToken("[E11]", special=True).normalized
    False
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    def __post_init__(self) -> None:
        if self.normalized is None:
            object.__setattr__(self, "normalized", not self.special)
        if not isinstance(self.content, str) or not self.content.strip():
            raise ValueError(
                f"An added token is expected to be a str that holds more than white space. Received: {self.content!r}."
            )
        for name in ("single_word", "lstrip", "rstrip", "normalized", "special"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"`{name}` of the added token {self.content!r} is expected to be True or False. "
                    f"Received: {name}={getattr(self, name)!r}."
                )
        if self.content.startswith("##"):
            raise ValueError(
                'An added token is expected not to begin with "##", which marks the later pieces of a word. '
                f"Received: {self.content!r}. Give it another name; its id and its row of the embeddings stay."
            )
        if any(_FIRST_RESERVED <= c <= _LAST_RESERVED or "\ud800" <= c <= "\udfff" or c == "\0" for c in self.content):
            raise ValueError(
                "An added token is expected to hold characters of texts, not NUL, lone surrogates or private-use "
                f"characters from U+F0000 on. Received: {self.content!r}. Give it another name; its id and its row of "
                "the embeddings stay."
            )
        if self.normalized and self.content != self.content.strip():
            raise ValueError(
                "An added token that is looked for in normalised text is expected to begin and end with other "
                f"characters than white space. Received: {self.content!r} with normalized=True. "
                "Use normalized=False, or take the white space away."
            )

    @classmethod
    def from_value(cls, value: Any) -> "AddedToken":
        """Makes one of a str, or of a mapping with the fields of this class, as in `tokenizer.json`.

        Args:
            value: a str, which is looked for in normalised text; a mapping; or an `AddedToken`.

        Returns:
            The `AddedToken`.

        Raises:
            ValueError: for anything else.

        >>> AddedToken.from_value({"content": "[E11]", "special": True}) == AddedToken("[E11]", special=True)
        True
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        fields = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(value, Mapping) or "content" not in value or set(value) - fields:
            received = f"a mapping with the keys {list(value)}" if isinstance(value, Mapping) else repr(value)
            raise ValueError(
                "An added token is expected to be a str, or a mapping with `content` and, where they are not the "
                f"defaults, {', '.join(sorted(fields - {'content'}))}. Received: {received}."
            )
        return cls(**value)
