"""What ALBERT does to a text before SentencePiece's own normalisation."""

import functools
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any


@functools.lru_cache(maxsize=4)
def albert_table(lowercase: bool, strip_accents: bool) -> dict[str, str]:
    """Returns what ALBERT makes of every character that it changes.

    It is `preprocess_text` of ALBERT's own code and of transformers' `AlbertTokenizer`, but for its quotes: white space
    becomes a space, of which SentencePiece keeps one; accents go with compatibility decomposition (NFKD) and all that
    combines; letters become lower case one by one, so that a Greek word does not get
    the sigma that stands at ends of words.

    Args:
        lowercase: whether letters become lower case (`do_lower_case`).
        strip_accents: whether accents go (`keep_accents=False`).

    Returns:
        A dict of single characters to strings; a character that is absent stays as it is.

    Example:

    >>> table = albert_table(lowercase=True, strip_accents=True)
    >>> table["É"], table["ﬁ"], table["\\u3000"]
    ('e', 'fi', ' ')
    """
    table = {}
    for character in map(chr, range(sys.maxunicode + 1)):
        if "\ud800" <= character < "\ue000":
            continue
        made = " " if character.isspace() else character
        if strip_accents and not made.isascii():
            made = "".join(c for c in unicodedata.normalize("NFKD", made) if not unicodedata.combining(c))
        if lowercase:
            made = made.lower()
        if made != character:
            table[character] = made
    return table


def check_albert_normalization(options: Mapping[str, Any] | None) -> dict[str, bool] | None:
    """Checks the argument `albert_normalization`.

    Args:
        options: what was given.

    Returns:
        Both options, or None.

    Raises:
        ValueError: for anything else than `lowercase` and `strip_accents`, True or False.

    Example:

    >>> check_albert_normalization({"lowercase": False})
    {'lowercase': False, 'strip_accents': True}
    """
    if options is None:
        return None
    defaults = {"lowercase": True, "strip_accents": True}
    if (
        not isinstance(options, Mapping)
        or set(options) - set(defaults)
        or not all(isinstance(value, bool) for value in options.values())
    ):
        raise ValueError(
            "Expected `albert_normalization` to be None or to say lowercase and strip_accents, each True or False. "
            f"Received: albert_normalization={options!r}."
        )
    return {**defaults, **options}
