"""SentencePiece's unigram tokenizer, with the ids of XLM-R, CamemBERT and ALBERT, as TensorFlow ops."""

import base64
import dataclasses
import functools
import inspect
import os
import weakref
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.added_token_search import OTHER_PRIVATE_CHARACTER, AddedTokenSearch
from keras_bert_layers.text.albert_normalization import albert_table, check_albert_normalization
from keras_bert_layers.text.character_offsets import CharacterOffsets
from keras_bert_layers.text.huggingface_files import sentence_piece_files
from keras_bert_layers.text.normalizer import normalizer
from keras_bert_layers.text.packing import check_pair_format
from keras_bert_layers.text.sentence_piece_model import CONTROL, UNKNOWN, SentencePieceModel
from keras_bert_layers.text.sentence_piece_settings import (
    SENTENCE_PIECE_TOKENS,
    SPACE,
    read_sentence_piece_settings,
)
from keras_bert_layers.text.string_tensor import string_tensor
from keras_bert_layers.text.tokenizer import Tokenizer

# What ALBERT turns into a ".
_QUOTES = ("``", "''")
# Among these are the characters with which `AddedTokenSearch` marks what it found.
_PRIVATE = r"[\x{F0000}-\x{FFFFD}]"

# All tokenizers with one model share it: with 250,000 pieces it takes a second to load.
_loaded: "weakref.WeakValueDictionary[bytes, tf_text.SentencepieceTokenizer]" = weakref.WeakValueDictionary()


class SentencePieceTokenizer(Tokenizer):
    r"""Splits text into the pieces of a SentencePiece unigram model, in the TensorFlow graph.

    The ids are those of the `sentencepiece` package on the same model, for every text: of all ways to cut the
    normalised text into pieces the one whose sum of scores is the highest (Kudo 2018,
    https://arxiv.org/abs/1804.10959). It works eagerly, in `tf.data`, in a `tf.function` and in a Keras layer; the
    model is inside the graph and inside the layer's configuration. No text becomes a special token: "</s>" written in
    a text is four characters.

    A SavedModel of one's own must track what holds the model: `module.resource = tokenizer.resource`.

    Args:
        model: path of a model file whose pieces have the checkpoint's ids, as ALBERT's `spiece.model`; or its bytes.
            Or a `SentencePieceModel`. `from_pretrained` reads XLM-R's and CamemBERT's, whose ids are shifted.
        special_tokens: the names of the special tokens that are not XLM-R's (`<s>`, `</s>`, `<pad>`, `<unk>`,
            `<mask>`), as `{"cls_token": "[CLS]"}`.
        albert_normalization: what ALBERT does before SentencePiece's own normalisation: `{"lowercase": True,
            "strip_accents": True}`, both of which are the defaults. White space becomes spaces, and \`\` and '' become
            ". None does nothing.
        pair_format: how two texts are put together: `"roberta"`, `<s> a </s> </s> b </s>` and all of type 0; or
            `"bert"`, `[CLS] a [SEP] b [SEP]` and the second of type 1.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, no unigram model, or lacks a special token.

    Example:

    >>> from keras_bert_layers.text.sentence_piece_model import NORMAL
    >>> pieces = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL, "<pad>": CONTROL, "▁new": NORMAL, "er": NORMAL}
    >>> model = SentencePieceModel(list(pieces), [0.0, 0.0, 0.0, 0.0, -1.0, -2.0], list(pieces.values()))
    >>> tokenizer = SentencePieceTokenizer(model.to_bytes())
    >>> tokenizer.tokenize(["new newer", "old"]).to_list()
    [[4, 4, 5], [0]]
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | SentencePieceModel,
        special_tokens: Mapping[str, str] | None = None,
        albert_normalization: Mapping[str, bool] | None = None,
        pair_format: str = "roberta",
    ):
        if isinstance(model, SentencePieceModel):
            where, read = "`model`", dataclasses.replace(model, kinds=list(model.kinds))
            read.check(where)
        elif isinstance(model, bytes):
            where, read = "`model`", SentencePieceModel.from_bytes(model, "`model`")
        elif isinstance(model, (str, os.PathLike)):
            where, read = os.fspath(model), SentencePieceModel.from_file(model)
        else:
            raise ValueError(
                f"Expected `model` to be the path of a SentencePiece model, or its bytes. "
                f"Received: model of type {type(model).__name__}."
            )
        self.pair_format = check_pair_format(pair_format)
        self.albert_normalization = check_albert_normalization(albert_normalization)
        super().__init__(read.pieces, _check_special_tokens(special_tokens, read, where))
        for token in self.special_tokens.values():
            if read.kinds[self._ids[token]] != UNKNOWN:
                # Or a text could hold it.
                read.kinds[self._ids[token]] = CONTROL
        self._model = read.to_bytes()
        self.resource = _load(self._model, where)
        self._quotes: Any = None
        self._normalizer: Any = None
        if self.albert_normalization is not None:
            with tf.init_scope():
                self._normalizer = normalizer(albert_table, *self.albert_normalization.values())
                self._quotes = AddedTokenSearch([AddedToken(quote) for quote in _QUOTES], _QUOTES, ['"', '"'])

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> "SentencePieceTokenizer":
        """Makes the tokenizer that a checkpoint was trained with.

        Args:
            source: a directory or Hugging Face repository id with a `sentencepiece.bpe.model` (XLM-R, CamemBERT), a
                `spiece.model` (ALBERT), or a `tokenizer.json` alone.
            revision: branch, tag or commit of the repository.
            cache_dir: directory to download to, in place of Hugging Face's own cache.
            token: access token for the repository, in place of the environment variable `HF_TOKEN`.
            local_files_only: whether to use only what was downloaded before.

        Returns:
            The tokenizer.

        Raises:
            FileNotFoundError: if there is no such directory or repository, or it has no such file.
            ValueError: if the checkpoint's tokenizer is another one, its files contradict each other, or one of them is
                damaged.
        """
        settings = read_sentence_piece_settings(
            source, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        return cls(**settings)

    def tokenize(self, text: Any, dtype: str | tf.DType = "int32") -> tf.RaggedTensor:
        """Splits texts into pieces.

        Args:
            text: strings: a str, a list, an array or a tensor of shape `[batch]`, or a RaggedTensor of texts, such as
                the words of sentences, each of which is tokenised by itself. A single string is a batch of one.
            dtype: `"int32"` or `"int64"` for ids, `"string"` for the tokens.

        Returns:
            A RaggedTensor of shape `[batch, (tokens)]`, with one more dimension than a ragged `text`.

        Raises:
            ValueError: if `text` is not of strings or has a shape other than `[]` and `[batch]`.
        """
        text = string_tensor(text)
        if dtype not in ("int32", "int64", "string", tf.int32, tf.int64, tf.string):
            raise ValueError(f"Expected one of int32, int64 and string. Received: dtype={dtype!r}.")
        if isinstance(text, tf.RaggedTensor):
            return text.with_flat_values(self.tokenize(text.flat_values, dtype))
        with tf.name_scope("tokenize"):
            if self._normalizer is not None:
                text = tf.strings.regex_replace(_valid(text), "|".join(_QUOTES), '"')
                text = self._normalizer.normalize(text)
            ids = self.resource.tokenize(text)
            if tf.as_dtype(dtype) == tf.string:
                return ids.with_values(tf.gather(self._tokens, ids.values))
            return ids.with_values(tf.cast(ids.values, dtype))

    def tokenize_with_offsets(
        self, text: Any, unit: str = "bytes"
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Splits texts into pieces, and says which part of the original text each one is.

        `text[start:end]` is what became the token, as SentencePiece says it: the first token of a word begins with the
        space before it, and the space that SentencePiece puts before a text is no part of it.

        Args:
            text: strings, as `tokenize` takes them.
            unit: `"bytes"` of UTF-8, or `"characters"` (code points), as Python counts.

        Returns:
            The ids, their starts and their ends (exclusive), RaggedTensors of shape `[batch, (tokens)]`, dtype int32.

        Raises:
            ValueError: if `text` is not of strings or has a shape other than `[]` and `[batch]`, or `unit` is neither.
        """
        if unit not in ("bytes", "characters"):
            raise ValueError(f"Expected `unit` to be bytes or characters. Received: unit={unit!r}.")
        text = string_tensor(text)
        if isinstance(text, tf.RaggedTensor):
            ids, starts, ends = self.tokenize_with_offsets(text.flat_values, unit)
            return text.with_flat_values(ids), text.with_flat_values(starts), text.with_flat_values(ends)
        with tf.name_scope("tokenize_with_offsets"):
            if self._normalizer is None and unit == "bytes":
                return self.resource.tokenize_with_offsets(text)
            marked, normalized = text, text
            if self._normalizer is not None:
                marked, back = self._quotes(tf.strings.regex_replace(_valid(text), _PRIVATE, OTHER_PRIVATE_CHARACTER))
                normalized, sources = self._normalizer.normalize_with_offsets(marked)
            ids, starts, ends = self.resource.tokenize_with_offsets(normalized)
            row = ids.value_rowids()
            first, last = tf.cast(starts.values, tf.int64), tf.cast(ends.values, tf.int64) - 1
            # The space before a text, where it is a token, is none of its characters.
            is_empty = last < first
            last = tf.maximum(first, last)
            if self._normalizer is not None:
                row_start = tf.gather(sources.row_starts(), row)
                first, last = (tf.gather(sources.values, row_start + place) for place in (first, last))
            characters = CharacterOffsets(marked, row)
            start, end = characters.at_byte(first), characters.at_byte(last) + 1
            if self._normalizer is not None:
                start, end = back(row, start, end)
                characters = CharacterOffsets(text, row)
            end = tf.where(is_empty, start, end)
            if unit == "bytes":
                start, end = characters.first_byte(start), characters.first_byte(end)
            return ids, *(ids.with_values(tf.cast(places, tf.int32)) for places in (start, end))

    def word_ids(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Numbers the words of each text: what stands between spaces.

        They can be told from the ids alone: the first piece of a word begins with "▁". Chinese, Japanese and Thai have
        no spaces, and a sentence of them is one word.

        Args:
            ids: what `tokenize` returns: a RaggedTensor of shape `[batch, (tokens)]`, int32 or int64.

        Returns:
            A RaggedTensor of the same shape, dtype int32, counting from 0 in each text.
        """
        with tf.name_scope("word_ids"):
            row, place = ids.value_rowids(), tf.range(tf.size(ids.values, tf.int64))
            is_first = place == tf.gather(ids.row_starts(), row)
            begins = tf.gather(self._begins_word, ids.values) | is_first
            words_so_far = tf.cumsum(tf.cast(begins, tf.int32))
            words_before_text = tf.gather(tf.concat([[0], words_so_far], 0), ids.row_starts())
            return ids.with_values(words_so_far - tf.gather(words_before_text, row) - 1)

    def huggingface_files(self, settings: Mapping[str, Any]) -> dict[str, bytes]:
        model = SentencePieceModel.from_bytes(self._model, "the tokenizer's model")
        return sentence_piece_files(self, model, self.albert_normalization, settings)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, the model in base 64.

        Returns:
            A dict that JSON can hold, for `from_config`.
        """
        return {
            "model": base64.b64encode(self._model).decode(),
            "special_tokens": {
                name: token for name, token in self._special_tokens.items() if token != SENTENCE_PIECE_TOKENS[name]
            },
            "albert_normalization": self.albert_normalization and dict(self.albert_normalization),
            "pair_format": self.pair_format,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SentencePieceTokenizer":
        """Makes the tokenizer that `get_config` described; no file is read.

        Args:
            config: what `get_config` returned.

        Raises:
            ValueError: if its model is not in base 64, or as the constructor.
        """
        try:
            model = base64.b64decode(config["model"], validate=True)
            if set(config) - set(inspect.signature(cls).parameters):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                "Expected the configuration of a SentencePieceTokenizer to hold its model in base 64. "
                f"Received: {', '.join(sorted(map(str, config)))}, with model of type "
                f"{type(config.get('model')).__name__}, and nothing was read. "
                "Make a new tokenizer from a model file that you trust."
            ) from None
        return cls(**{**config, "model": model})

    @functools.cached_property
    def _tokens(self) -> tf.Tensor:
        with tf.init_scope():
            return tf.constant(self.vocabulary)

    @functools.cached_property
    def _begins_word(self) -> tf.Tensor:
        with tf.init_scope():
            return tf.constant([token.startswith(SPACE) for token in self.vocabulary])


def _load(model: bytes, where: str) -> tf_text.SentencepieceTokenizer:
    loaded = _loaded.get(model)
    if loaded is None:
        try:
            with tf.init_scope():
                loaded = tf_text.SentencepieceTokenizer(model=model, out_type=tf.int32)
        except tf.errors.OpError as error:
            raise ValueError(
                f"Expected {where} to be a model that SentencePiece can load. Received: one that it refuses "
                f"({error.message}). Copy or download it again."
            ) from error
        _loaded[model] = loaded
    return loaded


def _valid(text: tf.Tensor) -> tf.Tensor:
    """Puts U+FFFD in the place of bytes that are no UTF-8, where the next step would drop them."""
    return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", replace_control_characters=False)


def _check_special_tokens(names: Mapping[str, str] | None, model: SentencePieceModel, where: str) -> dict[str, str]:
    received = {} if names is None else names
    if (
        not isinstance(received, Mapping)
        or set(received) - set(SENTENCE_PIECE_TOKENS)
        or not all(isinstance(token, str) for token in received.values())
    ):
        raise ValueError(
            f"Expected `special_tokens` to give some of {', '.join(SENTENCE_PIECE_TOKENS)} another name, a str. "
            f"Received: special_tokens={names!r}."
        )
    special_tokens = {**SENTENCE_PIECE_TOKENS, **received}
    required = [token for name, token in special_tokens.items() if name != "mask_token"]
    missing = set(required) - set(model.pieces)
    if missing:
        raise ValueError(
            f"Expected {where} to hold {', '.join(required[:-1])} and {required[-1]}. Received: a model of "
            f"{len(model.pieces)} pieces without {', '.join(sorted(missing))}. If they have other names, say them: "
            'special_tokens={"cls_token": "[CLS]"}; for XLM-R and CamemBERT use `from_pretrained`.'
        )
    unknown = model.pieces[model.kinds.index(UNKNOWN)]
    if special_tokens["unk_token"] != unknown:
        raise ValueError(
            f"Expected `unk_token` to be what {where} has for unknown text. Received: "
            f"unk_token={special_tokens['unk_token']!r}, where the model has {unknown!r}. "
            f"Take the files from one checkpoint."
        )
    return special_tokens
