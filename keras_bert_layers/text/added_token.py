import dataclasses
from collections.abc import Collection, Iterable, Mapping
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
                f"Expected an added token to be a str that holds more than white space. Received: {self.content!r}."
            )
        for name in ("single_word", "lstrip", "rstrip", "normalized", "special"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"Expected `{name}` of the added token {self.content!r} to be True or False. "
                    f"Received: {name}={getattr(self, name)!r}."
                )
        if self.content.startswith("##"):
            raise ValueError(
                'Expected an added token not to begin with "##", which marks the later pieces of a word. '
                f"Received: {self.content!r}. Give it another name; its id and its row of the embeddings stay."
            )
        if any(_FIRST_RESERVED <= c <= _LAST_RESERVED or "\ud800" <= c <= "\udfff" or c == "\0" for c in self.content):
            raise ValueError(
                "Expected an added token to hold characters of texts, not NUL, lone surrogates or private-use "
                f"characters from U+F0000 on. Received: {self.content!r}. Give it another name; its id and its row of "
                "the embeddings stay."
            )
        if self.normalized and self.content != self.content.strip():
            raise ValueError(
                "Expected an added token that is looked for in normalised text to begin and end with other "
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

        Example:

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
                "Expected an added token to be a str, or a mapping with `content` and, where they are not the "
                f"defaults, {', '.join(sorted(fields - {'content'}))}. Received: {received}."
            )
        return cls(**value)

    @classmethod
    def from_values(cls, values: Any, special_tokens: Collection[str]) -> list["AddedToken"]:
        """Makes a list of them, each of which is there once.

        Args:
            values: an iterable of what `from_value` takes, or None for none.
            special_tokens: the model's own special tokens, which may not be among them.

        Raises:
            ValueError: for anything else.
        """
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, (Iterable, type(None))):
            raise ValueError(
                f"Expected `added_tokens` to be a list of tokens. Received: added_tokens={values!r}. "
                "Put it into a list."
            )
        tokens = [cls.from_value(value) for value in values or ()]
        contents = [token.content for token in tokens]
        own = set(contents).intersection(special_tokens)
        if own:
            raise ValueError(
                f"Expected added tokens beside the model's own special tokens. Received: {', '.join(sorted(own))} "
                "among the added tokens. To find the model's own in texts use special_tokens_in_text=True."
            )
        if len(set(contents)) != len(contents):
            repeated = next(content for content in contents if contents.count(content) > 1)
            raise ValueError(f"Expected each added token once. Received: {repeated!r} twice.")
        return tokens
