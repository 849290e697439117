"""BERT's own tokenizer as TensorFlow ops."""

import contextlib
import dataclasses
import functools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_layers.keras_compatibility import split_at_spaces
from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.added_token_marks import AddedTokenMarks
from keras_bert_layers.text.added_token_search import OTHER_PRIVATE_CHARACTER
from keras_bert_layers.text.character_offsets import CharacterOffsets
from keras_bert_layers.text.huggingface_files import word_piece_files
from keras_bert_layers.text.normalizer import normalizer
from keras_bert_layers.text.packing import check_pair_format
from keras_bert_layers.text.string_tensor import string_tensor
from keras_bert_layers.text.tokenizer import Tokenizer
from keras_bert_layers.text.tokenizer_settings import read_tokenizer_settings, replace_added_tokens
from keras_bert_layers.text.unicode_normalization import (
    normalization_table,
    punctuation_table,
    reordered_marks,
    unknown_letter,
)
from keras_bert_layers.text.vocabulary import SPECIAL_TOKENS, check_special_tokens, check_vocabulary, read_vocabulary
from keras_bert_layers.text.word_piece_decoder import WordPieceDecoder

MAX_CHARACTERS_PER_WORD = 100


class BertTokenizer(Tokenizer):
    """Splits text into exactly the word pieces that a BERT checkpoint was trained with, in the TensorFlow graph.

    The ids are those of Hugging Face's `BertTokenizerFast(..., split_special_tokens=True)` (the `tokenizers` package)
    for every text: control characters vanish, white space, punctuation and Chinese characters end words, accents and
    case go if the checkpoint wants it, and each word becomes the longest word pieces from left to right, or one `[UNK]`
    if it has no such pieces or over 100 characters (Devlin et al., 2018, https://arxiv.org/abs/1810.04805). Bytes that
    are not UTF-8 count as U+FFFD, which BERT drops. It works eagerly, in `tf.data`, in a `tf.function` and in a Keras
    layer; a SavedModel holds the vocabulary as a constant.

    Args:
        vocabulary: path of a `vocab.txt`, or the list of its tokens. `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]` must be
            among them; `[MASK]` may be. Of a token that is there twice the last id counts, as in transformers.
        lowercase: whether the checkpoint is uncased.
        strip_accents: whether accents are dropped; None, the default, does as `lowercase` does.
        tokenize_chinese_chars: whether each Chinese character is a word of its own.
        special_tokens_in_text: whether "[SEP]" written in a text is the special token. By default it is plain text, so
            that no user can forge one.
        added_tokens: tokens that are looked for in the text before it is split, such as markers of entities ("[E11]")
            and new words, each a str or a mapping with the fields of Hugging Face's `AddedToken`: `content`,
            `single_word`, `lstrip`, `rstrip`, `normalized`, `special`. A str is one with the defaults, as for
            `add_tokens` of transformers. Those that the vocabulary lacks get the next ids, in their order. Special
            ones are found too, for that is what markers are made for: leave out of the list what no text shall hold.
        special_tokens: the names of the checkpoint's special tokens where they are not BERT's, as
            `{"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}`.
        pair_format: how `BertPreprocessor` puts two texts together: `"bert"`, `[CLS] a [SEP] b [SEP]` and the second of
            type 1; or `"roberta"`, as MPNet does it, `<s> a </s> </s> b </s>` and all of type 0.

    Raises:
        ValueError: if the vocabulary lacks a special token or holds something else than tokens, or an added token
            cannot be found as transformers would.
        FileNotFoundError: if `vocabulary` is a path and there is no such file.

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
        pair_format: str = "bert",
    ):
        where = "`vocabulary`"
        if isinstance(vocabulary, (str, os.PathLike)):
            where = os.fspath(vocabulary)
            vocabulary = read_vocabulary(vocabulary)
        elif isinstance(vocabulary, (Mapping, bytes)) or not isinstance(vocabulary, Iterable):
            raise ValueError(
                "Expected `vocabulary` to be a path or a list of str. "
                f"Received: vocabulary of type {type(vocabulary).__name__}."
            )
        special_tokens = check_special_tokens(special_tokens)
        self._added_tokens = AddedToken.from_values(added_tokens, special_tokens.values())
        self._words = list(vocabulary)
        check_vocabulary(self._words, {}, where)
        known = set(self._words)
        # Found in texts as a whole; a word cannot have them as pieces.
        appended = [token.content for token in self._added_tokens if token.content not in known]
        super().__init__(self._words + appended, special_tokens)
        check_vocabulary(self.vocabulary, special_tokens, where)
        self.lowercase = _check_flag("lowercase", lowercase)
        self.strip_accents = _check_flag("strip_accents", strip_accents, optional=True)
        self.tokenize_chinese_chars = _check_flag("tokenize_chinese_chars", tokenize_chinese_chars)
        self.special_tokens_in_text = _check_flag("special_tokens_in_text", special_tokens_in_text)
        self.pair_format = check_pair_format(pair_format)

        strips = lowercase if strip_accents is None else strip_accents
        if strips:
            _warn_of_reordered_marks(self.vocabulary)
        flags = (lowercase, strips, tokenize_chinese_chars)
        with tf.init_scope():
            self._marks = AddedTokenMarks(self._added_tokens, self.special_tokens, special_tokens_in_text, flags)
            marks = self._marks.characters
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
            characters, kept = frozenset().union(*words), tuple(marks.values())
            if self._marks.normalizes:
                self._normalizer = normalizer(punctuation_table, kept, known=characters)
            else:
                self._normalizer = normalizer(normalization_table, *flags, kept, known=characters)
            # tf.text counts a word's bytes, and 100 characters have at most 400.
            self._word_pieces = tf_text.FastWordpieceTokenizer(
                words,
                max_bytes_per_word=4 * MAX_CHARACTERS_PER_WORD,
                token_out_type=tf.int32,
                unknown_token=special_tokens["unk_token"],
                no_pretokenization=True,
            )
            self._text_pieces: Any = None
            if self._splits_at_spaces_only(characters):
                self._text_pieces = tf_text.FastWordpieceTokenizer(
                    words,
                    max_bytes_per_word=MAX_CHARACTERS_PER_WORD,
                    token_out_type=tf.int32,
                    unknown_token=special_tokens["unk_token"],
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
        """Makes the tokenizer that a checkpoint was trained with.

        Args:
            source: a directory or Hugging Face repository id with a `vocab.txt` or `tokenizer.json`, or a TF Hub
                encoder: the loaded object, or the directory of its SavedModel. Without a `tokenizer_config.json`, as
                beside Google's own checkpoints, a vocabulary without capital letters is taken for an uncased one.
            revision: branch, tag or commit of the repository.
            cache_dir: directory to download to, in place of Hugging Face's own cache.
            token: access token for the repository, in place of the environment variable `HF_TOKEN`.
            local_files_only: whether to use only what was downloaded before.
            special_tokens_in_text: whether "[SEP]" written in a text is the special token.
            added_tokens: what is looked for in the text, in place of the added tokens that the checkpoint's files
                list; an empty list finds none. Their ids stay, as those of word pieces. A checkpoint whose `vocab.txt`
                has "[E11]" in place of "[unused1]", and which lists no added tokens, needs `added_tokens=["[E11]"]`.

        Returns:
            The tokenizer.

        Raises:
            FileNotFoundError: if there is no such directory or repository, or it has no vocabulary.
            ValueError: if the checkpoint's tokenizer is not BERT's, its files contradict each other, or one of them is
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
        replace_added_tokens(settings.arguments, added_tokens)
        return cls(**settings.arguments, special_tokens_in_text=special_tokens_in_text)

    @property
    def added_tokens(self) -> list[dict[str, Any]]:
        """The tokens that are looked for in the text, with the fields of Hugging Face's `AddedToken`."""
        return [dataclasses.asdict(token) for token in self._added_tokens]

    def tokenize(self, text, dtype: str | tf.DType = "int32") -> tf.RaggedTensor:
        """Splits texts into word pieces.

        Args:
            text: strings: a str, a list, an array or a tensor of shape `[batch]`, or a RaggedTensor of texts, such as
                the words of sentences, each of which is tokenised by itself. A single string is a batch of one.
            dtype: `"int32"` or `"int64"` for ids, `"string"` for the tokens.

        Returns:
            A RaggedTensor of shape `[batch, (tokens)]`, with one more dimension than a ragged `text`.

        Raises:
            ValueError: if `text` is not of strings or has a shape other than `[]` and `[batch]`.

        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##known", "word"]
        >>> BertTokenizer(vocabulary).tokenize("unknown word", dtype="string").to_list()
        [[b'un', b'##known', b'word']]
        """
        with contextlib.suppress(TypeError):
            dtype = tf.as_dtype(dtype)
        if dtype not in (tf.int32, tf.int64, tf.string):
            received = getattr(dtype, "name", dtype)
            raise ValueError(f"Expected `dtype` to be int32, int64 or string. Received: dtype={received!r}.")
        text = string_tensor(text)
        if isinstance(text, tf.RaggedTensor):
            return text.with_flat_values(self.tokenize(text.flat_values, dtype))
        with tf.name_scope("tokenize"):
            marked, _ = self._marks(text)
            (ids,) = self._split(self._normalizer.normalize(marked))
            if dtype == tf.string:
                return ids.with_values(tf.gather(self._tokens, ids.values))
            return ids.with_values(tf.cast(ids.values, dtype))

    def tokenize_with_offsets(
        self, text, unit: str = "bytes"
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Splits texts into word pieces, and says which part of the original text each one is.

        `text[start:end]` is what became the token, with what normalisation dropped inside it. An accent that is a
        character of its own, at a token's end, is not part of it.

        Args:
            text: strings, as `tokenize` takes them.
            unit: `"bytes"` of UTF-8, or `"characters"` (code points), as Python and Hugging Face count.

        Returns:
            The ids, their starts and their ends (exclusive), RaggedTensors of shape `[batch, (tokens)]`, dtype int32.

        Raises:
            ValueError: if `text` is not of strings or has a shape other than `[]` and `[batch]`, or `unit` is neither.

        >>> tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ca", "##fe", "!"])
        >>> ids, starts, ends = tokenizer.tokenize_with_offsets("Café !")
        >>> ids.to_list(), starts.to_list(), ends.to_list()
        ([[4, 5, 6]], [[0, 2, 6]], [[2, 5, 7]])
        """
        if unit not in ("bytes", "characters"):
            raise ValueError(f"Expected `unit` to be bytes or characters. Received: unit={unit!r}.")
        text = string_tensor(text)
        if isinstance(text, tf.RaggedTensor):
            ids, starts, ends = self.tokenize_with_offsets(text.flat_values, unit)
            return text.with_flat_values(ids), text.with_flat_values(starts), text.with_flat_values(ends)
        with tf.name_scope("tokenize_with_offsets"):
            marked, backs = self._marks(text, with_offsets=True)
            normalized, sources = self._normalizer.normalize_with_offsets(marked)
            ids, starts, ends = self._split(normalized, with_offsets=True)
            row = ids.value_rowids()
            first = tf.gather(sources.row_starts(), row)
            # The kernel gives the byte of the text that each normalised byte comes from: any byte of its character.
            characters = CharacterOffsets(marked, row)
            starts = characters.at_byte(tf.gather(sources.values, first + starts.values))
            ends = characters.at_byte(tf.gather(sources.values, first + ends.values - 1)) + 1
            for back in reversed(backs):
                starts, ends = back(row, starts, ends)
                characters = CharacterOffsets(text, row)
            if unit == "bytes":
                starts, ends = characters.first_byte(starts), characters.first_byte(ends)
            return ids, ids.with_values(tf.cast(starts, tf.int32)), ids.with_values(tf.cast(ends, tf.int32))

    def word_ids(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Numbers the words of each text, as Hugging Face's `word_ids()` does.

        A word here is what ends at white space, punctuation or a Chinese character; its word pieces share its number.
        They can be told from the ids alone: all pieces of a word but the first begin with "##".

        Args:
            ids: what `tokenize` returns: a RaggedTensor of shape `[batch, (tokens)]`, int32 or int64.

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
        """Joins word pieces to texts.

        It is what `BertTokenizerFast.decode` returns, whose decoder also takes out the space before ".", "?", "!", ","
        and contractions (`clean_up_tokenization_spaces` is another such step of transformers, by default off, and not
        done here). Ids that the vocabulary lacks are skipped.

        Args:
            ids: a RaggedTensor or tensor of integers of shape `[batch, tokens]`, a nested list, or one text's ids.
            skip_special_tokens: whether to leave out `[CLS]`, `[SEP]`, `[PAD]`, `[UNK]`, `[MASK]` and added tokens that
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
        left_out = set()
        if skip_special_tokens:
            special = [token.content for token in self._added_tokens if token.special]
            left_out = {self._ids[token] for token in [*self.special_tokens.values(), *special]}
        with tf.name_scope("detokenize"):
            return self._decoder(ids, left_out)

    def huggingface_files(self, settings: Mapping[str, Any]) -> dict[str, bytes]:
        own = {
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
        }
        return word_piece_files(self, self._words, self.added_tokens, {**settings, **own})

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, the vocabulary as a list of tokens.

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
            "pair_format": self.pair_format,
        }

    def _splits_at_spaces_only(self, characters: frozenset[str]) -> bool:
        """Says whether tf.text's own search for the ends of words finds those that spaces mark already, and no more.

        It asks the Unicode tables that tf.text was built with, which are not the reference's. Normalised texts hold
        the vocabulary's characters and one letter for all others, so that it is enough to try these.
        """
        splitter = tf_text.FastWordpieceTokenizer(["[UNK]", "a"], token_out_type=tf.int32)
        tried = sorted(characters | {unknown_letter(characters)})
        normalized = self._normalizer.normalize(tf.constant([f"a{character}a" for character in tried]))
        words, _, _ = split_at_spaces(normalized)
        return bool(tf.reduce_all(splitter.tokenize(normalized).row_lengths() == words.row_lengths()))

    def _split(self, normalized: tf.Tensor, with_offsets: bool = False) -> list[tf.RaggedTensor]:
        """Splits texts in which spaces stand around every word, by a shorter way if no word is long.

        Returns:
            The ids and, `with_offsets`, the start and the end of each in `normalized`, in bytes, int64.
        """
        if self._text_pieces is None:
            pieces = self._split_words(normalized, with_offsets)
            row_splits, values = pieces[0].row_splits, [piece.values for piece in pieces]
        else:
            row_splits, *values = self._split_texts(normalized, with_offsets)
        if self._ids_of_words is not None:
            # Among the ids of words the marks have their own.
            values[0] = tf.gather(tf.constant(self._ids_of_words, tf.int32), values[0])
        return [tf.RaggedTensor.from_row_splits(value, row_splits, validate=False) for value in values]

    def _split_texts(self, normalized: tf.Tensor, with_offsets: bool) -> Sequence[tf.Tensor]:
        ids, starts, ends = self._text_pieces.tokenize_with_offsets(normalized)
        # A word of over 100 bytes came out as one [UNK], which is wrong if it has no more than 100 characters.
        is_long = ends.values - starts.values > MAX_CHARACTERS_PER_WORD
        pieces = [ids, starts, ends] if with_offsets else [ids]

        def split_rows_with_long_words() -> tuple[tf.Tensor, ...]:
            rows, _ = tf.unique(tf.boolean_mask(ids.value_rowids(), is_long))
            replacements = self._split_words(tf.gather(normalized, rows), with_offsets)
            count = ids.nrows()
            sources = tf.tensor_scatter_nd_update(
                tf.range(count), rows[:, tf.newaxis], count + tf.range(tf.size(rows, tf.int64))
            )
            both = [tf.concat(pair, axis=0) for pair in zip(pieces, replacements, strict=True)]
            results = [tf.gather(piece, sources) for piece in both]
            return results[0].row_splits, *(result.values for result in results)

        return tf.cond(
            tf.reduce_any(is_long),
            split_rows_with_long_words,
            lambda: (ids.row_splits, *(piece.values for piece in pieces)),
        )

    def _split_words(self, normalized: tf.Tensor, with_offsets: bool) -> list[tf.RaggedTensor]:
        words, word_starts, word_ends = split_at_spaces(normalized)
        is_long = tf.strings.length(words.values, unit="UTF8_CHAR") > MAX_CHARACTERS_PER_WORD
        pieces, starts, ends = self._word_pieces.tokenize_with_offsets(
            tf.where(is_long, self._special_tokens["unk_token"], words.values)
        )
        ids = tf.RaggedTensor.from_row_splits(
            pieces.values, tf.gather(pieces.row_splits, words.row_splits), validate=False
        )
        if not with_offsets:
            return [ids]
        word = pieces.value_rowids()
        start, end = tf.gather(word_starts, word), tf.gather(word_ends, word)
        # An unknown word is all of its word, too long ones included.
        ends = tf.where(ids.values == self.unk_token_id, end, start + ends.values)
        return [ids, ids.with_values(start + starts.values), ids.with_values(ends)]

    @functools.cached_property
    def _tokens(self) -> tf.Tensor:
        with tf.init_scope():
            return tf.constant(self.vocabulary)

    @functools.cached_property
    def _begins_word(self) -> tf.Tensor:
        with tf.init_scope():
            return tf.constant([0 if token.startswith("##") else 1 for token in self.vocabulary], tf.int32)

    @functools.cached_property
    def _decoder(self) -> WordPieceDecoder:
        return WordPieceDecoder(self.vocabulary)


def _can_be_in_a_word(token: str) -> bool:
    body = token.removeprefix("##")
    return body != "" and not any(character.isspace() or character == "\0" for character in body)


def _check_flag(name: str, value: Any, optional: bool = False) -> Any:
    if not isinstance(value, bool) and not (optional and value is None):
        expected = "True, False or None" if optional else "True or False"
        raise ValueError(f"Expected `{name}` to be {expected}. Received: {name}={value!r}.")
    return value


def _warn_of_reordered_marks(vocabulary: Sequence[str]) -> None:
    characters = set().union(*vocabulary)
    marks = {mark: order for mark, order in reordered_marks().items() if mark in characters}
    if len(set(marks.values())) > 1:
        names = ", ".join(f"U+{ord(mark):04X}" for mark in sorted(marks))
        warnings.warn(
            f"The vocabulary holds {names}: combining marks of different canonical classes that are not accents. "
            "Where two of them meet in a text, Hugging Face's tokenizer sorts them and this one keeps their order.",
            stacklevel=3,
        )
