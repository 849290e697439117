from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class Tokenizer:
    """What the tokenizers share: a vocabulary, in which some tokens are special.

    This is all that `BertPreprocessor` asks of one. A subclass splits the texts, as `BertTokenizer` does.

    Args:
        vocabulary: the tokens; a token's place is its id. Of a token that is there twice the last id counts.
        special_tokens: the special tokens under Hugging Face's names, `{"pad_token": "[PAD]", ...}`. All but the
            `mask_token` are in the vocabulary.

    Attributes:
        pair_format: how two texts are put together: `"bert"`, `[CLS] a [SEP] b [SEP]` and the second of type 1; or
            `"roberta"`, `<s> a </s> </s> b </s>` and all of type 0.
        resource: what a module that is saved has to track beside its functions, or None.
    """

    pair_format = "bert"
    resource: Any = None

    def __init__(self, vocabulary: Sequence[str], special_tokens: Mapping[str, str]):
        self.vocabulary = vocabulary
        self._special_tokens = special_tokens
        self._ids = {token: i for i, token in enumerate(vocabulary)}

    def tokenize(self, text: Any, dtype: str | tf.DType = "int32") -> tf.RaggedTensor:
        """Splits texts `[batch]` into tokens, ragged `[batch, (tokens)]`; of ragged texts one dimension more."""
        raise NotImplementedError

    def tokenize_with_offsets(
        self, text: Any, unit: str = "bytes"
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Splits texts as `tokenize`, and says where in its text each token starts and ends."""
        raise NotImplementedError

    def word_ids(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Numbers the words of each text, whose tokens share their number."""
        raise NotImplementedError

    def huggingface_files(self, settings: Mapping[str, Any]) -> dict[str, bytes]:
        """Writes the tokenizer down as Hugging Face's does.

        Args:
            settings: what `tokenizer_config.json` is to say beside what the tokenizer knows.

        Returns:
            The contents of the files, by name.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, the vocabulary too."""
        raise NotImplementedError

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens; ids are below it."""
        return len(self.vocabulary)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens that the vocabulary has, under Hugging Face's names: `{"pad_token": "[PAD]", ...}`."""
        return {name: token for name, token in self._special_tokens.items() if token in self._ids}

    @property
    def pad_token_id(self) -> int:
        """The id of `[PAD]`."""
        return self._ids[self._special_tokens["pad_token"]]

    @property
    def unk_token_id(self) -> int:
        """The id of `[UNK]`."""
        return self._ids[self._special_tokens["unk_token"]]

    @property
    def cls_token_id(self) -> int:
        """The id of `[CLS]`."""
        return self._ids[self._special_tokens["cls_token"]]

    @property
    def sep_token_id(self) -> int:
        """The id of `[SEP]`."""
        return self._ids[self._special_tokens["sep_token"]]

    @property
    def mask_token_id(self) -> int | None:
        """The id of `[MASK]`, or None where the vocabulary has none."""
        return self._ids.get(self._special_tokens["mask_token"])

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token.

        Args:
            token: a token of the vocabulary, such as `"##ing"`.

        Returns:
            Its id.

        Raises:
            ValueError: if the vocabulary has no such token.

        Example:

        >>> Tokenizer(["[UNK]", "word"], {"unk_token": "[UNK]"}).token_to_id("word")
        1
        """
        if not isinstance(token, str) or token not in self._ids:
            raise ValueError(
                f"Expected a token of the vocabulary. Received: token={token!r}. "
                f"`unk_token_id` ({self.unk_token_id}) is the id of words that it lacks."
            )
        return self._ids[token]

    def id_to_token(self, token_id: int) -> str:
        """Returns the token that has an id.

        Args:
            token_id: an int from 0 to `vocabulary_size - 1`.

        Returns:
            The token.

        Raises:
            ValueError: if there is no such id.

        Example:

        >>> Tokenizer(["[UNK]", "word"], {"unk_token": "[UNK]"}).id_to_token(1)
        'word'
        """
        if not isinstance(token_id, (int, np.integer)) or not 0 <= token_id < len(self.vocabulary):
            raise ValueError(f"Expected an id from 0 to {len(self.vocabulary) - 1}. Received: token_id={token_id!r}.")
        return self.vocabulary[token_id]
