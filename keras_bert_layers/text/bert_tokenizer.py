"""BERT's own tokenizer as TensorFlow ops."""

import contextlib
import dataclasses
import functools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow_text.python.ops import whitespace_tokenizer

from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.added_token_search import OTHER_PRIVATE_CHARACTER, AddedTokenSearch, Back
from keras_bert_layers.text.tokenizer_settings import (
    SPECIAL_TOKENS,
    check_vocabulary,
    read_tokenizer_settings,
    read_vocabulary,
    replace_added_tokens,
)
from keras_bert_layers.text.unicode_normalization import (
    build_normalizer_model,
    normalization_table,
    punctuation_table,
    reordered_marks,
    unknown_letter,
)

MAX_CHARACTERS_PER_WORD = 100

# In the graph a token that was found in the text is one private-use character: BERT drops those from every text, so
# that no text can hold one by itself.
_FIRST_MARK, _MOST_MARKS = 0xF2000, 0xDF00
# One regular expression looks for all of them. From some 15,000 on RE2 is slower, and says so on stderr.
_MOST_CHARACTERS = 200_000
_ANY_MARK = r"[\x{F0000}-\x{FFFFD}]"

# The bitmap by which tf.text splits words: bit 32, the space, alone.
_ONLY_SPACE = b"\0\0\0\0\1"


class BertTokenizer:
    """Splits text into exactly the word pieces that a BERT checkpoint was trained with, in the TensorFlow graph.

    The ids are those of Hugging Face's `BertTokenizerFast(..., split_special_tokens=True)` (the `tokenizers` package)
    for every text: control characters vanish, white space, punctuation and Chinese characters end words, accents and
    case go if the checkpoint wants it, and each word becomes the longest word pieces from left to right, or one `[UNK]`
    if it has no such pieces or over 100 characters (Devlin et al., 2018, https://arxiv.org/abs/1810.04805). Bytes that
    are no UTF-8 count as U+FFFD, which BERT drops. It works eagerly, in `tf.data`, in a `tf.function` and in a Keras
    layer; a SavedModel holds the vocabulary as a constant.

    Args:
        vocabulary: Path of a `vocab.txt`, or the list of its tokens. `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]` must be
            among them; `[MASK]` may be. Of a token that is there twice the last id counts, as in transformers.
        lowercase: Whether the checkpoint is uncased.
        strip_accents: Whether accents are dropped; None, the default, does as `lowercase` does.
        tokenize_chinese_chars: Whether each Chinese character is a word of its own.
        special_tokens_in_text: Whether "[SEP]" written in a text is the special token. By default it is plain text, so
            that no user can forge one.
        added_tokens: Tokens that are looked for in the text before it is split, such as markers of entities ("[E11]")
            and new words, each a str or a mapping with the fields of Hugging Face's `AddedToken`: `content`,
            `single_word`, `lstrip`, `rstrip`, `normalized`, `special`. A str is one with the defaults, as for
            `add_tokens` of transformers. Those that the vocabulary lacks get the next ids, in their order. Special
            ones are found too, for that is what markers are made for: leave out of the list what no text shall hold.
        special_tokens: The names of the checkpoint's special tokens where they are not BERT's, as
            `{"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}`.

    Raises:
        ValueError: If the vocabulary lacks a special token or holds something else than tokens, or an added token
            cannot be found as transformers would.
        FileNotFoundError: If `vocabulary` is a path and there is no such file.

    >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "token", "##izer", "exact", "!"]
    >>> tokenizer = BertTokenizer(vocabulary)
    >>> tokenizer.tokenize(["Exact tokenizer!", "other"]).to_list()
    [[6, 4, 5, 7], [1]]
    >>> tokenizer = BertTokenizer(vocabulary, added_tokens=["[E11]"])
    >>> tokenizer.tokenize("[E11]token").to_list(), tokenizer.id_to_token(8)
    ([[8, 4]], '[E11]')
    """

    def __init__(
        self,
        vocabulary: str | os.PathLike | Sequence[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        special_tokens_in_text: bool = False,
        added_tokens: Iterable[str | Mapping[str, Any]] | None = None,
        special_tokens: Mapping[str, str] | None = None,
    ):
        where = "`vocabulary`"
        if isinstance(vocabulary, (str, os.PathLike)):
            where = os.fspath(vocabulary)
            vocabulary = read_vocabulary(vocabulary)
        elif isinstance(vocabulary, (Mapping, bytes)) or not isinstance(vocabulary, Iterable):
            raise ValueError(
                "`vocabulary` is expected to be a path or a list of str. "
                f"Received: vocabulary of type {type(vocabulary).__name__}."
            )
        self._special_tokens = _check_special_tokens(special_tokens)
        self._added_tokens = _check_added_tokens(added_tokens, self._special_tokens)
        self._words = list(vocabulary)
        check_vocabulary(self._words, {}, where)
        known = set(self._words)
        # Found in texts as a whole; a word cannot have them as pieces.
        self.vocabulary = self._words + [token.content for token in self._added_tokens if token.content not in known]
        check_vocabulary(self.vocabulary, self._special_tokens, where)
        _check_flag("lowercase", lowercase)
        _check_flag("strip_accents", strip_accents, optional=True)
        _check_flag("tokenize_chinese_chars", tokenize_chinese_chars)
        _check_flag("special_tokens_in_text", special_tokens_in_text)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.special_tokens_in_text = special_tokens_in_text
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}

        strips = lowercase if strip_accents is None else strip_accents
        if strips:
            _warn_of_reordered_marks(self.vocabulary)
        marks = self._marks_of_tokens_in_text()
        # Tokens that no word can have, over which tf.text stumbles, and those whose id counts no more, give way to
        # others that no word can have. One more gives its trie a letter where the vocabulary has none.
        words = [
            word if _can_be_in_a_word(word) and self._ids[word] == i else f"[[{i}]]"
            for i, word in enumerate(self._words)
        ]
        words += [OTHER_PRIVATE_CHARACTER, *marks.values()]
        self._ids_of_words = None
        if marks:
            self._ids_of_words = [*range(len(self._words)), self.unk_token_id, *(self._ids[t] for t in marks)]
        characters = frozenset().union(*words)
        flags = (lowercase, strips, tokenize_chinese_chars)
        kept = tuple(marks.values())
        with tf.init_scope():
            self._raw_search: AddedTokenSearch | None = None
            self._normalized_search: AddedTokenSearch | None = None
            self._bert_normalizer: Any = None
            if self._added_tokens or marks:
                self._raw_search = self._search(marks, normalized=False)
            if any(token.normalized for token in self._added_tokens):
                self._bert_normalizer = _normalizer(normalization_table(*flags, kept, split_punctuation=False))
                self._normalized_search = self._search(marks, normalized=True)
                table = punctuation_table(kept)
            else:
                table = normalization_table(*flags, kept)
            self._normalizer = _normalizer(table, characters)
            # tf.text counts a word's bytes, and 100 characters have at most 400.
            self._word_pieces = tf_text.FastWordpieceTokenizer(
                words,
                max_bytes_per_word=4 * MAX_CHARACTERS_PER_WORD,
                token_out_type=tf.int32,
                unknown_token=self._special_tokens["unk_token"],
                no_pretokenization=True,
            )
            self._text_pieces = None
            if self._splits_at_spaces_only(characters):
                self._text_pieces = tf_text.FastWordpieceTokenizer(
                    words,
                    max_bytes_per_word=MAX_CHARACTERS_PER_WORD,
                    token_out_type=tf.int32,
                    unknown_token=self._special_tokens["unk_token"],
                )

    @classmethod
    def from_pretrained(
        cls,
        source: Any,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        special_tokens_in_text: bool = False,
        added_tokens: Iterable[str | Mapping[str, Any]] | None = None,
    ) -> "BertTokenizer":
        """Make the tokenizer that a checkpoint was trained with.

        Args:
            source: A directory or Hugging Face repository id with a `vocab.txt` or `tokenizer.json`, or a TF Hub
                encoder: the loaded object, or the directory of its SavedModel. Without a `tokenizer_config.json`, as
                beside Google's own checkpoints, a vocabulary without capital letters is taken for an uncased one.
            revision: Branch, tag or commit of the repository.
            cache_dir: Directory to download to, in place of Hugging Face's own cache.
            token: Access token for the repository, in place of the environment variable `HF_TOKEN`.
            local_files_only: Whether to use only what was downloaded before.
            special_tokens_in_text: Whether "[SEP]" written in a text is the special token.
            added_tokens: What is looked for in the text, in place of the added tokens that the checkpoint's files
                list; an empty list finds none. Their ids stay, as those of word pieces. A checkpoint whose `vocab.txt`
                has "[E11]" in place of "[unused1]", and which lists no added tokens, needs `added_tokens=["[E11]"]`.

        Returns:
            The tokenizer.

        Raises:
            FileNotFoundError: If there is no such directory or repository, or it has no vocabulary.
            ValueError: If the checkpoint's tokenizer is not BERT's, its files contradict each other, or one of them is
                damaged.

        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with open(os.path.join(directory, "vocab.txt"), "w") as file:
        ...         _ = file.write("[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\nParis\\n")
        ...     BertTokenizer.from_pretrained(directory).lowercase
        False
        """
        settings = read_tokenizer_settings(
            source, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        replace_added_tokens(settings, added_tokens)
        return cls(**settings, special_tokens_in_text=special_tokens_in_text)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens; ids are below it."""
        return len(self.vocabulary)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens that the vocabulary has, under Hugging Face's names: `{"pad_token": "[PAD]", ...}`."""
        return {name: token for name, token in self._special_tokens.items() if token in self._ids}

    @property
    def added_tokens(self) -> list[dict[str, Any]]:
        """The tokens that are looked for in the text, with the fields of Hugging Face's `AddedToken`."""
        return [dataclasses.asdict(token) for token in self._added_tokens]

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
        """Return the id of a token.

        Args:
            token: A token of the vocabulary, such as `"##ing"`.

        Returns:
            Its id.

        Raises:
            ValueError: If the vocabulary has no such token.

        >>> BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "word"]).token_to_id("word")
        4
        """
        if not isinstance(token, str) or token not in self._ids:
            raise ValueError(
                f"A token of the vocabulary is expected. Received: token={token!r}. "
                f"`unk_token_id` ({self.unk_token_id}) is the id of words that it lacks."
            )
        return self._ids[token]

    def id_to_token(self, token_id: int) -> str:
        """Return the token that has an id.

        Args:
            token_id: An int from 0 to `vocabulary_size - 1`.

        Returns:
            The token.

        Raises:
            ValueError: If there is no such id.

        >>> BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "word"]).id_to_token(4)
        'word'
        """
        if not isinstance(token_id, (int, np.integer)) or not 0 <= token_id < len(self.vocabulary):
            raise ValueError(
                f"An id from 0 to {len(self.vocabulary) - 1} is expected. Received: token_id={token_id!r}."
            )
        return self.vocabulary[token_id]

    def tokenize(self, text, dtype: str | tf.DType = "int32") -> tf.RaggedTensor:
        """Split texts into word pieces.

        Args:
            text: Strings: a str, a list, an array or a tensor of shape `[batch]`, or a RaggedTensor of texts, such as
                the words of sentences, each of which is tokenised by itself. A single string is a batch of one.
            dtype: `"int32"` or `"int64"` for ids, `"string"` for the tokens.

        Returns:
            A RaggedTensor of shape `[batch, (tokens)]`, with one more dimension than a ragged `text`.

        Raises:
            ValueError: If `text` is not of strings or has a shape other than `[]` and `[batch]`.

        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##known", "word"]
        >>> BertTokenizer(vocabulary).tokenize("unknown word", dtype="string").to_list()
        [[b'un', b'##known', b'word']]
        """
        with contextlib.suppress(TypeError):
            dtype = tf.as_dtype(dtype)
        if dtype not in (tf.int32, tf.int64, tf.string):
            received = getattr(dtype, "name", dtype)
            raise ValueError(f"One of int32, int64 and string is expected. Received: dtype={received!r}.")
        text = _as_strings(text)
        if isinstance(text, tf.RaggedTensor):
            return text.with_flat_values(self.tokenize(text.flat_values, dtype))
        with tf.name_scope("tokenize"):
            marked, _ = self._mark_tokens(text)
            ids = self._tokenize_normalized(self._normalizer.normalize(marked))
            if dtype == tf.string:
                return ids.with_values(tf.gather(self._tokens, ids.values))
            return ids.with_values(tf.cast(ids.values, dtype))

    def tokenize_with_offsets(
        self, text, unit: str = "bytes"
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Split texts into word pieces, and say which part of the original text each one is.

        `text[start:end]` is what became the token, with what normalisation dropped inside it. An accent that is a
        character of its own, at a token's end, is not part of it.

        Args:
            text: Strings, as `tokenize` takes them.
            unit: `"bytes"` of UTF-8, or `"characters"` (code points), as Python and Hugging Face count.

        Returns:
            The ids, their starts and their ends (exclusive), RaggedTensors of shape `[batch, (tokens)]`, dtype int32.

        Raises:
            ValueError: If `text` is not of strings or has a shape other than `[]` and `[batch]`, or `unit` is neither.

        >>> tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ca", "##fe", "!"])
        >>> ids, starts, ends = tokenizer.tokenize_with_offsets("Café !")
        >>> ids.to_list(), starts.to_list(), ends.to_list()
        ([[4, 5, 6]], [[0, 2, 6]], [[2, 5, 7]])
        """
        if unit not in ("bytes", "characters"):
            raise ValueError(f"'bytes' or 'characters' is expected. Received: unit={unit!r}.")
        text = _as_strings(text)
        if isinstance(text, tf.RaggedTensor):
            ids, starts, ends = self.tokenize_with_offsets(text.flat_values, unit)
            return text.with_flat_values(ids), text.with_flat_values(starts), text.with_flat_values(ends)
        with tf.name_scope("tokenize_with_offsets"):
            marked, backs = self._mark_tokens(text, with_offsets=True)
            normalized, sources = self._normalizer.normalize_with_offsets(marked)
            words, word_starts, word_ends = _split_words(normalized)
            pieces, piece_starts, piece_ends = self._word_pieces.tokenize_with_offsets(
                self._without_long_words(words.values)
            )
            ids = self._real_ids(_join_words(pieces, words))

            # Where the piece is in the normalised text. An unknown word is all of its word, too long ones included.
            word = pieces.value_rowids()
            is_unknown = ids.values == self.unk_token_id
            row = ids.value_rowids()
            first_byte = tf.gather(sources.row_starts(), row) + tf.gather(word_starts, word)
            start_byte = first_byte + piece_starts.values
            last_byte = (
                first_byte + tf.where(is_unknown, tf.gather(word_ends - word_starts, word), piece_ends.values) - 1
            )

            # The kernel gives the byte of the text that each normalised byte comes from: any byte of its character.
            characters = _Characters(marked)
            starts = characters.at_byte(row, tf.gather(sources.values, start_byte))
            ends = characters.at_byte(row, tf.gather(sources.values, last_byte)) + 1
            for back in reversed(backs):
                starts, ends = back(row, starts, ends)
                characters = _Characters(text)
            if unit == "bytes":
                starts, ends = characters.first_byte(row, starts), characters.first_byte(row, ends)
            return ids, ids.with_values(tf.cast(starts, tf.int32)), ids.with_values(tf.cast(ends, tf.int32))

    def word_ids(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Number the words of each text, as Hugging Face's `word_ids()` does.

        A word here is what ends at white space, punctuation or a Chinese character; its word pieces share its number.
        They can be told from the ids alone: all pieces of a word but the first begin with "##".

        Args:
            ids: What `tokenize` gives: a RaggedTensor of shape `[batch, (tokens)]`, int32 or int64.

        Returns:
            A RaggedTensor of the same shape, dtype int32, counting from 0 in each text.

        >>> tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##known", "word"])
        >>> tokenizer.word_ids(tokenizer.tokenize("unknown word")).to_list()
        [[0, 0, 1]]
        """
        with tf.name_scope("word_ids"):
            words_so_far = tf.cumsum(tf.gather(self._begins_word, ids.values))
            words_before_text = tf.gather(tf.concat([[0], words_so_far], 0), ids.row_starts())
            return ids.with_values(words_so_far - tf.gather(words_before_text, ids.value_rowids()) - 1)

    def detokenize(self, ids, skip_special_tokens: bool = False) -> tf.Tensor:
        """Join word pieces to texts.

        It is what `BertTokenizerFast.decode` gives, whose decoder also takes out the space before ".", "?", "!", ","
        and contractions (`clean_up_tokenization_spaces` is another such step of transformers, by default off, and not
        done here). Ids that the vocabulary lacks are skipped.

        Args:
            ids: A RaggedTensor or tensor of integers of shape `[batch, tokens]`, a nested list, or one text's ids.
            skip_special_tokens: Whether to leave out `[CLS]`, `[SEP]`, `[PAD]`, `[UNK]`, `[MASK]` and added tokens that
                are special.

        Returns:
            A string tensor of shape `[batch]`, or `[]` for one text's ids.

        >>> tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##known", "word", "."])
        >>> tokenizer.detokenize([[2, 4, 5, 6, 7, 3]], skip_special_tokens=True).numpy()
        array([b'unknown word.'], dtype=object)
        """
        if not isinstance(ids, (tf.Tensor, tf.RaggedTensor)):
            ids = tf.ragged.constant(ids, dtype=tf.int32)
        if ids.shape.rank == 1:
            return self.detokenize(ids[tf.newaxis], skip_special_tokens)[0]
        if isinstance(ids, tf.Tensor):
            ids = tf.RaggedTensor.from_tensor(ids)
        with tf.name_scope("detokenize"):
            shown = (ids.values >= 0) & (ids.values < len(self.vocabulary))
            if skip_special_tokens:
                special = [token.content for token in self._added_tokens if token.special]
                for token in [*self.special_tokens.values(), *special]:
                    shown &= ids.values != self._ids[token]
            ids = tf.ragged.boolean_mask(ids, ids.with_values(shown))
            row = ids.value_rowids()
            is_first = tf.range(tf.size(row, tf.int64)) == tf.gather(ids.row_starts(), row)
            first, later = self._decoded_tokens
            pieces = tf.where(is_first, tf.gather(first, ids.values), tf.gather(later, ids.values))
            return tf.strings.reduce_join(ids.with_values(pieces), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the vocabulary as a list of tokens.

        Returns:
            A dict that JSON can hold; `BertTokenizer(**config)` is the same tokenizer.

        >>> tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], lowercase=False)
        >>> BertTokenizer(**tokenizer.get_config()).lowercase
        False
        """
        return {
            "vocabulary": list(self._words),
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "special_tokens_in_text": self.special_tokens_in_text,
            "added_tokens": self.added_tokens,
            "special_tokens": {
                name: token for name, token in self._special_tokens.items() if token != SPECIAL_TOKENS[name]
            },
        }

    def _splits_at_spaces_only(self, characters: frozenset[str]) -> bool:
        """Say whether tf.text's own search for the ends of words finds those that spaces mark already, and no more.

        It asks the Unicode tables that tf.text was built with, which are not the reference's. Normalised texts hold
        the vocabulary's characters and one letter for all others, so that it is enough to try these.
        """
        splitter = tf_text.FastWordpieceTokenizer(["[UNK]", "a"], token_out_type=tf.int32)
        tried = sorted(characters | {unknown_letter(characters)})
        normalized = self._normalizer.normalize(tf.constant([f"a{character}a" for character in tried]))
        words, _, _ = _split_words(normalized)
        return bool(tf.reduce_all(splitter.tokenize(normalized).row_lengths() == words.row_lengths()))

    def _tokenize_normalized(self, normalized: tf.Tensor) -> tf.RaggedTensor:
        """Tokenise texts in which spaces stand around every word, by a shorter way if no word is long."""
        if self._text_pieces is None:
            return self._real_ids(self._tokenize_words(normalized))
        ids, starts, ends = self._text_pieces.tokenize_with_offsets(normalized)
        # A word of over 100 bytes came out as one [UNK], which is wrong if it has no more than 100 characters.
        is_long = ends.values - starts.values > MAX_CHARACTERS_PER_WORD

        def tokenize_rows_with_long_words():
            rows, _ = tf.unique(tf.boolean_mask(ids.value_rowids(), is_long))
            replacements = self._tokenize_words(tf.gather(normalized, rows))
            count = ids.nrows()
            sources = tf.tensor_scatter_nd_update(
                tf.range(count), rows[:, tf.newaxis], count + tf.range(replacements.nrows())
            )
            result = tf.gather(tf.concat([ids, replacements], axis=0), sources)
            return result.values, result.row_splits

        values, row_splits = tf.cond(
            tf.reduce_any(is_long), tokenize_rows_with_long_words, lambda: (ids.values, ids.row_splits)
        )
        return self._real_ids(tf.RaggedTensor.from_row_splits(values, row_splits, validate=False))

    def _tokenize_words(self, normalized: tf.Tensor) -> tf.RaggedTensor:
        words, _, _ = _split_words(normalized)
        return _join_words(self._word_pieces.tokenize(self._without_long_words(words.values)), words)

    def _without_long_words(self, words: tf.Tensor) -> tf.Tensor:
        is_long = tf.strings.length(words, unit="UTF8_CHAR") > MAX_CHARACTERS_PER_WORD
        return tf.where(is_long, self._special_tokens["unk_token"], words)

    def _marks_of_tokens_in_text(self) -> dict[str, str]:
        """Return the tokens that are looked for in texts, each with the character that stands for it in the graph."""
        tokens = [token.content for token in self._added_tokens]
        if self.special_tokens_in_text:
            tokens += self.special_tokens.values()
        tokens = list(dict.fromkeys(tokens))
        if len(tokens) > _MOST_MARKS:
            raise ValueError(f"At most {_MOST_MARKS} added tokens are expected. Received: {len(tokens)} of them.")
        return {token: chr(_FIRST_MARK + i) for i, token in enumerate(tokens)}

    def _search(self, marks: dict[str, str], normalized: bool) -> AddedTokenSearch:
        """Return what finds the tokens that are looked for in texts as they are, or in normalised ones."""
        # Special tokens that are not looked for cover the text that they stand in, all the same.
        own = [] if normalized else [AddedToken(token, special=True) for token in self.special_tokens.values()]
        tokens = [*own, *(token for token in self._added_tokens if token.normalized == normalized)]
        # Hugging Face's order, which decides between contents that are equal once they are normalised.
        tokens.sort(key=lambda token: not token.special)
        contents = [token.content for token in tokens]
        if normalized:
            contents = [content.decode() for content in self._bert_normalizer.normalize(tf.constant(contents)).numpy()]
            for token, content in zip(tokens, contents, strict=True):
                if not content.strip():
                    raise ValueError(
                        "An added token is expected to leave something when it is normalised. "
                        f"Received: {token.content!r} with normalized=True. Use normalized=False."
                    )
        characters = sum(map(len, contents))
        if characters > _MOST_CHARACTERS:
            raise ValueError(
                f"Added tokens of at most {_MOST_CHARACTERS:,} characters together are expected. "
                f"Received: {len(tokens):,} tokens of {characters:,} characters. Add fewer."
            )
        return AddedTokenSearch(tokens, contents, [marks.get(token.content, "") for token in tokens])

    def _mark_tokens(self, text: tf.Tensor, with_offsets: bool = False) -> tuple[tf.Tensor, list[Back]]:
        """Put a character in the place of each token that is looked for; normalise where some are looked for then."""
        if self._raw_search is None:
            return text, []
        text = tf.strings.regex_replace(text, _ANY_MARK, OTHER_PRIVATE_CHARACTER)
        text, back = self._raw_search(text)
        backs = [back]
        if self._normalized_search is not None:
            if with_offsets:
                normalized, sources = self._bert_normalizer.normalize_with_offsets(text)
                backs.append(functools.partial(_before_normalization, text, normalized, sources))
                text = normalized
            else:
                text = self._bert_normalizer.normalize(text)
            text, back = self._normalized_search(text)
            backs.append(back)
        return text, backs

    def _real_ids(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Return the ids of the vocabulary for the ids of words, among which the marks have their own."""
        if self._ids_of_words is None:
            return ids
        return ids.with_values(tf.gather(tf.constant(self._ids_of_words, tf.int32), ids.values))

    @functools.cached_property
    def _tokens(self) -> tf.Tensor:
        with tf.init_scope():
            return tf.constant(self.vocabulary)

    @functools.cached_property
    def _begins_word(self) -> tf.Tensor:
        with tf.init_scope():
            return tf.constant([0 if token.startswith("##") else 1 for token in self.vocabulary], tf.int32)

    @functools.cached_property
    def _decoded_tokens(self) -> tuple[tf.Tensor, tf.Tensor]:
        """What each token adds to a text as its first token, and as a later one."""
        later = [token[2:] if token.startswith("##") else f" {token}" for token in self.vocabulary]
        with tf.init_scope():
            return tf.constant(list(map(_clean_up, self.vocabulary))), tf.constant(list(map(_clean_up, later)))


class _Characters:
    """Where the characters of texts are.

    Args:
        text: Shape `[batch]`, strings.
    """

    def __init__(self, text: tf.Tensor):
        self.codes, starts = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
        lengths = tf.cast(tf.strings.length(text), tf.int64)
        self.row_byte = tf.cumsum(lengths, exclusive=True)
        self.row_character = self.codes.row_starts()
        # Counted through all texts, a character ends where the next one starts.
        starts = starts.values + tf.gather(self.row_byte, starts.value_rowids())
        self.boundaries = tf.concat([starts, [tf.reduce_sum(lengths)]], axis=0)

    def at_byte(self, row: tf.Tensor, byte: tf.Tensor) -> tf.Tensor:
        """Return the number, within its text, of the character that has a byte."""
        found = tf.searchsorted(self.boundaries, byte + tf.gather(self.row_byte, row), side="right", out_type=tf.int64)
        return found - 1 - tf.gather(self.row_character, row)

    def first_byte(self, row: tf.Tensor, character: tf.Tensor) -> tf.Tensor:
        """Return the first byte, within its text, of a character."""
        boundary = tf.gather(self.boundaries, tf.gather(self.row_character, row) + character)
        return boundary - tf.gather(self.row_byte, row)


def _normalizer(table: dict[str, str], known: frozenset[str] | None = None) -> tf_text.FastBertNormalizer:
    return tf_text.FastBertNormalizer(model_buffer=tf.constant(build_normalizer_model(table, known)))


def _before_normalization(text, normalized, sources, row, starts, ends) -> tuple[tf.Tensor, tf.Tensor]:
    """Lead characters of a normalised text back to those of the text."""
    before, after = _Characters(text), _Characters(normalized)
    first = tf.gather(sources.row_starts(), row)
    start_byte, last_byte = after.first_byte(row, starts), after.first_byte(row, ends) - 1
    return (
        before.at_byte(row, tf.gather(sources.values, first + start_byte)),
        before.at_byte(row, tf.gather(sources.values, first + last_byte)) + 1,
    )


def _can_be_in_a_word(token: str) -> bool:
    body = token.removeprefix("##")
    return body != "" and not any(character.isspace() or character == "\0" for character in body)


def _split_words(normalized: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
    """Return the words between spaces `[batch, (words)]`, and each word's start and end in bytes `[all words]`."""
    # `tf_text.WhitespaceTokenizer` puts a dozen assertions around this op, which take longer than the op.
    op = whitespace_tokenizer.gen_whitespace_tokenizer_v2.tf_text_whitespace_tokenize_with_offsets_v2
    words, row_splits, starts, ends = op(input_values=normalized, input_config=_ONLY_SPACE)
    words = tf.RaggedTensor.from_row_splits(words, row_splits, validate=False)
    return words, tf.cast(starts, tf.int64), tf.cast(ends, tf.int64)


def _join_words(pieces: tf.RaggedTensor, words: tf.RaggedTensor) -> tf.RaggedTensor:
    """Return the pieces of all words `[words, (pieces)]` as the pieces of texts `[batch, (pieces)]`."""
    return tf.RaggedTensor.from_row_splits(
        pieces.values, tf.gather(pieces.row_splits, words.row_splits), validate=False
    )


def _clean_up(piece: str) -> str:
    # tokenizers' decoders.WordPiece(cleanup=True) looks at one token at a time, so that most of this never happens.
    for before, after in (
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ):
        piece = piece.replace(before, after)
    return piece


def _as_strings(text: Any) -> tf.Tensor | tf.RaggedTensor:
    if isinstance(text, np.ma.MaskedArray):
        # None where the mask hides a value.
        text = text.tolist()
    if not isinstance(text, (tf.Tensor, tf.RaggedTensor)):
        try:
            # An empty list has no dtype of its own.
            text = tf.convert_to_tensor(text, tf.string if isinstance(text, (list, tuple)) and not text else None)
        except (TypeError, ValueError):
            # What TensorFlow says of it may quote the texts.
            reason = ", which holds something else or lists of several lengths"
            items = text if isinstance(text, (list, tuple, np.ndarray)) else [text]
            if any("\ud800" <= c <= "\udfff" for item in items if isinstance(item, str) for c in item):
                reason = ", which holds a lone surrogate. Replace them: text.encode('utf-8', 'replace')"
            elif items is not text:
                reason = ""
            raise ValueError(
                "Texts are expected as a str, or a list, an array or a tensor of str. "
                f"Received: text of type {type(text).__name__}{reason}."
            ) from None
    if text.dtype != tf.string:
        raise ValueError(f"Texts are expected to be strings. Received: text of dtype={text.dtype.name!r}.")
    if isinstance(text, tf.RaggedTensor):
        return text
    if text.shape.rank == 0:
        return text[tf.newaxis]
    if text.shape.rank != 1:
        raise ValueError(
            f"Texts are expected in shape [] or [batch]. Received: text of shape={text.shape}. "
            "Give lists of words as a RaggedTensor, and pick one column of a matrix of texts."
        )
    return text


def _check_special_tokens(names: Mapping[str, str] | None) -> dict[str, str]:
    received = {} if names is None else names
    if (
        not isinstance(received, Mapping)
        or set(received) - set(SPECIAL_TOKENS)
        or not all(isinstance(token, str) and token.split() == [token] for token in received.values())
    ):
        raise ValueError(
            f"`special_tokens` is expected to give some of {', '.join(SPECIAL_TOKENS)} another name, a str without "
            f"white space. Received: special_tokens={names!r}."
        )
    return {**SPECIAL_TOKENS, **received}


def _check_added_tokens(tokens: Iterable[Any] | None, special_tokens: dict[str, str]) -> list[AddedToken]:
    if isinstance(tokens, (str, bytes, Mapping)) or not isinstance(tokens, (Iterable, type(None))):
        raise ValueError(
            f"`added_tokens` is expected to be a list of tokens. Received: added_tokens={tokens!r}. Put it into a list."
        )
    tokens = [AddedToken.from_value(token) for token in tokens or ()]
    contents = [token.content for token in tokens]
    own = set(contents) & set(special_tokens.values())
    if own:
        raise ValueError(
            f"Added tokens are expected beside the model's own special tokens. Received: {', '.join(sorted(own))} "
            "among the added tokens. To find the model's own in texts use special_tokens_in_text=True."
        )
    if len(set(contents)) != len(contents):
        repeated = next(content for content in contents if contents.count(content) > 1)
        raise ValueError(f"Each added token is expected once. Received: {repeated!r} twice.")
    return tokens


def _check_flag(name: str, value: Any, optional: bool = False) -> None:
    if not isinstance(value, bool) and not (optional and value is None):
        expected = "True, False or None" if optional else "True or False"
        raise ValueError(f"`{name}` is expected to be {expected}. Received: {name}={value!r}.")


def _warn_of_reordered_marks(vocabulary: list[str]) -> None:
    characters = set().union(*vocabulary)
    marks = {mark: order for mark, order in reordered_marks().items() if mark in characters}
    if len(set(marks.values())) > 1:
        names = ", ".join(f"U+{ord(mark):04X}" for mark in sorted(marks))
        warnings.warn(
            f"The vocabulary holds {names}: combining marks of different canonical classes that are no accents. "
            "Where two of them meet in a text, Hugging Face's tokenizer sorts them and this one keeps their order.",
            stacklevel=3,
        )
