import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.added_token_search import OTHER_PRIVATE_CHARACTER, AddedTokenSearch, Back
from keras_bert_layers.text.character_offsets import CharacterOffsets
from keras_bert_layers.text.normalizer import normalizer
from keras_bert_layers.text.unicode_normalization import normalization_table

_FIRST_MARK, _MOST_MARKS = 0xF2000, 0xDF00
_ANY_MARK = r"[\x{F0000}-\x{FFFFD}]"
# One regular expression looks for all of them. From some 15,000 on RE2 is slower, and says so on stderr.
_MOST_CHARACTERS = 200_000


class AddedTokenMarks:
    """Puts one private-use character in the place of each token that is looked for in texts.

    BERT drops those characters from every text, so that no text can hold one by itself.

    Args:
        added_tokens: the tokens that are looked for.
        special_tokens: the model's own special tokens.
        special_tokens_in_text: whether these are looked for too.
        flags: `lowercase`, `strip_accents` and `tokenize_chinese_chars`, as of `normalization_table`.

    Attributes:
        characters: the tokens that are looked for, each with its character.
        normalizes: whether some are looked for in normalised text, and what comes out is normalised, but for the spaces
            around punctuation.

    Raises:
        ValueError: for too many tokens, and for those that normalising leaves nothing of.
    """

    def __init__(
        self,
        added_tokens: Sequence[AddedToken],
        special_tokens: Mapping[str, str],
        special_tokens_in_text: bool,
        flags: tuple[bool, bool, bool],
    ):
        tokens = [token.content for token in added_tokens]
        if special_tokens_in_text:
            tokens += special_tokens.values()
        tokens = list(dict.fromkeys(tokens))
        if len(tokens) > _MOST_MARKS:
            raise ValueError(f"Expected at most {_MOST_MARKS} added tokens. Received: {len(tokens)} of them.")
        self.characters = {token: chr(_FIRST_MARK + i) for i, token in enumerate(tokens)}
        self.normalizes = any(token.normalized for token in added_tokens)
        self._raw_search: AddedTokenSearch | None = None
        if tokens:
            # Special tokens that are not looked for cover the text that they stand in, all the same.
            own = [AddedToken(token, special=True) for token in special_tokens.values()]
            self._raw_search = self._search([*own, *(token for token in added_tokens if not token.normalized)])
        if self.normalizes:
            kept = tuple(self.characters.values())
            self._normalizer: Any = normalizer(normalization_table, *flags, kept, False)
            self._normalized_search = self._search([token for token in added_tokens if token.normalized])

    def __call__(self, text: tf.Tensor, with_offsets: bool = False) -> tuple[tf.Tensor, list[Back]]:
        """Returns texts `[batch]` with the characters in them, and what leads back to `text`, step by step."""
        if self._raw_search is None:
            return text, []
        text, back = self._raw_search(tf.strings.regex_replace(text, _ANY_MARK, OTHER_PRIVATE_CHARACTER))
        backs = [back]
        if self.normalizes:
            if with_offsets:
                normalized, sources = self._normalizer.normalize_with_offsets(text)
                backs.append(functools.partial(_before_normalization, text, normalized, sources))
                text = normalized
            else:
                text = self._normalizer.normalize(text)
            text, back = self._normalized_search(text)
            backs.append(back)
        return text, backs

    def _search(self, tokens: list[AddedToken]) -> AddedTokenSearch:
        # Hugging Face's order, which decides between contents that are equal once they are normalised.
        tokens = sorted(tokens, key=lambda token: not token.special)
        contents = [token.content for token in tokens]
        if tokens and tokens[0].normalized:
            contents = [content.decode() for content in self._normalizer.normalize(tf.constant(contents)).numpy()]
            for token, content in zip(tokens, contents, strict=True):
                if not content.strip():
                    raise ValueError(
                        "Expected an added token to leave something when it is normalised. "
                        f"Received: {token.content!r} with normalized=True. Use normalized=False."
                    )
        characters = sum(map(len, contents))
        if characters > _MOST_CHARACTERS:
            raise ValueError(
                f"Expected added tokens of at most {_MOST_CHARACTERS:,} characters together. "
                f"Received: {len(tokens):,} tokens of {characters:,} characters. Add fewer."
            )
        return AddedTokenSearch(tokens, contents, [self.characters.get(token.content, "") for token in tokens])


def _before_normalization(
    text: tf.Tensor,
    normalized: tf.Tensor,
    sources: tf.RaggedTensor,
    row: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Leads characters of a normalised text back to those of the text."""
    before, after = CharacterOffsets(text, row), CharacterOffsets(normalized, row)
    first = tf.gather(sources.row_starts(), row)
    start_byte, last_byte = after.first_byte(starts), after.first_byte(ends) - 1
    return (
        before.at_byte(tf.gather(sources.values, first + start_byte)),
        before.at_byte(tf.gather(sources.values, first + last_byte)) + 1,
    )
