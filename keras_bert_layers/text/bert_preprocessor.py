import inspect
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.text.bert_tokenizer import BertTokenizer
from keras_bert_layers.text.packing import PAIR_FORMATS, TRUNCATIONS, bucket_length, check_room, pack, pad
from keras_bert_layers.text.preprocessor_module import PreprocessorModule
from keras_bert_layers.text.sentence_piece_tokenizer import SentencePieceTokenizer
from keras_bert_layers.text.text_preprocessor import TextPreprocessor, check_sequence_length
from keras_bert_layers.text.tokenizer import Tokenizer
from keras_bert_layers.text.tokenizer_settings import read_tokenizer_settings, replace_added_tokens
from keras_bert_layers.token_inputs import TFHUB_NAMES

# The first tells an export of this class from other SavedModels.
_EXPORTED_FILES = ("bert_preprocessor.json", "saved_model.pb", "fingerprint.pb", "variables/variables.*", "assets/*")


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class BertPreprocessor(TextPreprocessor):
    """Texts -> the ids that a BERT encoder takes, as a Keras layer.

    `[CLS] text [SEP]`, or `[CLS] first [SEP] second [SEP]` for pairs (Devlin et al. 2019, section 3), cut and padded:
    ids, type ids and mask are those of Hugging Face's `BertTokenizerFast(..., split_special_tokens=True)`. Works inside
    a functional model, in `dataset.map`, eagerly, and exported. The vocabulary is inside the layer, its `.keras` file
    and its exports.

    Args:
        vocabulary: path of a `vocab.txt`, or the list of its tokens; or a tokenizer, a `BertTokenizer` or a
            `SentencePieceTokenizer`, which has its own options.
        lowercase, strip_accents, tokenize_chinese_chars, special_tokens_in_text: as in `BertTokenizer`.
        sequence_length: the longest row, at least 3; for more than two segments, at least 1 and 2 for each.
        truncation: what is cut of a pair that is too long: `"longest_first"` (of more than two segments too),
            `"only_first"` or `"only_second"`.
        padding: `"max_length"`, rows of `sequence_length`; or `"longest"`, rows as long as the longest of the batch.
        pad_to_multiple_of: with `"longest"`: round that up to a multiple, at most to `sequence_length`.
        sequence_buckets: with `"longest"`: round that up to the next of these ascending lengths, the last of which is
            `sequence_length`, so that XLA compiles few shapes.
        return_special_tokens_mask: whether the output has `special_tokens_mask`, for
            `SequencePooling(exclude_special_tokens=True)`.
        return_offsets: `"bytes"` or `"characters"`: the output has `offsets`, where each token stands in its text; of
            words, in its word. None leaves them out.
        return_word_ids: whether the output has `word_ids`, for `WordPooling`.
        long_documents: whether `sequence_length` may be longer than the checkpoint's positions, for `WindowedEncoder`.
        added_tokens, special_tokens, pair_format: as in `BertTokenizer`: what is looked for in the text before it is
            split, such as markers of entities, other names of the special tokens, and whether pairs are put together
            as MPNet and XLM-R do it: `<s> first </s> </s> second </s>`, all of type 0.
        export_inputs: what an export takes: `"text"`, `"pair"`, or `"words"` of texts that are split into words. A call
            takes all of them.
        **kwargs: `name` of `keras.layers.Layer`.

    Call arguments:
        inputs: a str (a batch of one), a list of str, a NumPy array, a column of pandas or a tensor `[batch]` of
            strings; or a tuple of these, the segments of pairs. Texts that are split into words already: a list of
            lists, a ragged tensor `[batch, (words)]`, or a tensor `[batch, words]` filled up with empty strings.

    Returns:
        A dict of int32 tensors `[batch, tokens]`: `input_word_ids`, `input_mask` (1 on real tokens) and
        `input_type_ids` (the number of the segment, from 0), and on request `special_tokens_mask` (1 on [CLS], [SEP]
        and padding), `word_ids` (the number of the word in its segment, -1 on special tokens) and `offsets`
        `[batch, tokens, 2]` (start and end, 0 on special tokens).

    Raises:
        ValueError: for a sequence length below 3, or too short for so many segments; a vocabulary without special
            tokens, options that do not go together, inputs of another rank, lone surrogates.
        TypeError: for inputs that are not texts, None and NaN among them.

    Example:

    >>> preprocessor = BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "text"], sequence_length=6)
    >>> ids = preprocessor(["One text", "text"])
    >>> ids["input_word_ids"].numpy().tolist()
    [[2, 4, 5, 3, 0, 0], [2, 5, 3, 0, 0, 0]]
    >>> preprocessor(("one", "text"))["input_type_ids"].numpy().tolist()
    [[0, 0, 0, 1, 1, 0]]
    """

    takes_words = True

    def __init__(
        self,
        vocabulary: str | os.PathLike[str] | Sequence[str] | Tokenizer,
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        special_tokens_in_text: bool = False,
        sequence_length: int = 128,
        truncation: str = "longest_first",
        padding: str = "max_length",
        pad_to_multiple_of: int | None = None,
        sequence_buckets: Sequence[int] | None = None,
        return_special_tokens_mask: bool = False,
        return_offsets: str | None = None,
        return_word_ids: bool = False,
        long_documents: bool = False,
        added_tokens: Iterable[str | Mapping[str, Any]] | None = None,
        special_tokens: Mapping[str, str] | None = None,
        pair_format: str = "bert",
        export_inputs: str = "text",
        **kwargs: Any,
    ):
        super().__init__(sequence_length=sequence_length, export_inputs=export_inputs, **kwargs)
        options: dict[str, Any] = {
            "lowercase": lowercase,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": tokenize_chinese_chars,
            "special_tokens_in_text": special_tokens_in_text,
            "added_tokens": added_tokens,
            "special_tokens": special_tokens,
            "pair_format": pair_format,
        }
        self.tokenizer: Tokenizer
        if isinstance(vocabulary, Tokenizer):
            _refuse_options_beside_tokenizer(vocabulary, options)
            self.tokenizer = vocabulary
        else:
            self.tokenizer = BertTokenizer(vocabulary, **options)
        # For whatever is saved with this layer.
        self._resource = self.tokenizer.resource
        self.separators = PAIR_FORMATS[self.tokenizer.pair_format]
        if truncation not in TRUNCATIONS:
            raise ValueError(
                f"Expected `truncation` to be one of {', '.join(TRUNCATIONS)}. Received: truncation={truncation!r}."
            )
        if return_offsets not in (None, "bytes", "characters"):
            raise ValueError(
                "Expected `return_offsets` to be None, bytes or characters. "
                f"Received: return_offsets={return_offsets!r}."
            )
        flags = {
            "return_special_tokens_mask": return_special_tokens_mask,
            "return_word_ids": return_word_ids,
            "long_documents": long_documents,
        }
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise TypeError(f"Expected `{name}` to be True or False. Received: {name}={flag!r}.")
        self.truncation = truncation
        self.padding = padding
        self.pad_to_multiple_of, self.sequence_buckets = _check_rounding(
            padding, pad_to_multiple_of, sequence_buckets, self.sequence_length
        )
        self.return_special_tokens_mask = return_special_tokens_mask
        self.return_offsets = return_offsets
        self.return_word_ids = return_word_ids
        self.long_documents = long_documents

    @classmethod
    def from_pretrained(
        cls,
        source: Any,
        *,
        sequence_length: int = 128,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **arguments: Any,
    ) -> "BertPreprocessor":
        """Makes a preprocessor with the tokenizer of a checkpoint.

        Args:
            source: a directory in Hugging Face's format, the id of a Hugging Face repository, or a TF Hub encoder
                (directory or loaded object), whose `vocab_file` and `do_lower_case` are read. Word pieces and
                SentencePiece are told apart by the checkpoint.
            sequence_length: the longest row, from 3 to the checkpoint's number of positions (beyond it with
                `long_documents=True`).
            revision, cache_dir, token, local_files_only: as in `BertEncoder.from_pretrained`.
            **arguments: the other arguments of the constructor, but those that the checkpoint's tokenizer sets. Of
                these `added_tokens` may be given, which takes the place of those that the checkpoint lists.

        Returns:
            The `BertPreprocessor`.

        Raises:
            FileNotFoundError, PermissionError, OSError: if the files cannot be found or downloaded.
            ValueError: for a sequence length that the checkpoint has no positions for.

        Example:

        ```python
        preprocessor = BertPreprocessor.from_pretrained("google-bert/bert-base-uncased", sequence_length=128)
        ```
        """
        settings = read_tokenizer_settings(
            source,
            sentence_pieces=True,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        if settings.files is not None and not arguments.get("long_documents", False):
            check_sequence_length(sequence_length, settings.files.max_positions())
        if settings.is_sentence_piece:
            tokenizer = SentencePieceTokenizer(**settings.arguments)
            return cls(tokenizer, sequence_length=sequence_length, **arguments)
        replace_added_tokens(settings.arguments, arguments.pop("added_tokens", None))
        return cls(**settings.arguments, sequence_length=sequence_length, **arguments)

    def with_arguments(self, **arguments: Any) -> "BertPreprocessor":
        """Returns a preprocessor with the same tokenizer, which takes a while to make, and other arguments.

        Args:
            **arguments: those of the constructor that are to differ, but for the tokenizer's.

        Example:

        >>> preprocessor = BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "text"], sequence_length=6)
        >>> preprocessor.with_arguments(padding="longest")(["text"])["input_word_ids"].shape
        TensorShape([1, 3])
        """
        of_tokenizer = {"vocabulary", *self.tokenizer.get_config()}
        config = {name: value for name, value in self.get_config().items() if name not in of_tokenizer}
        return type(self)(self.tokenizer, **{**config, **arguments})

    def call(self, inputs: Any) -> dict[str, Any]:
        texts = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        if self.truncation == "only_second" and len(texts) == 1:
            raise ValueError(
                "truncation='only_second' expects pairs. Received: one text. Call the layer on a tuple of two, or make "
                "it with truncation='longest_first'."
            )
        # Strings live on the host, also where the rest of a graph is placed on a GPU.
        with tf.device("CPU:0"):
            return self.pack_segments([self._features(text) for text in texts], self.sequence_length)

    def _features(self, texts: tf.Tensor | tf.RaggedTensor) -> dict[str, tf.RaggedTensor]:
        """Texts, or words of texts -> what is known of each word piece, ragged `[batch, (word pieces)]`."""
        if isinstance(texts, tf.Tensor) and texts.shape.rank == 2:
            texts = tf.RaggedTensor.from_tensor(texts)
        if self.return_offsets is None:
            features = {"ids": self.tokenizer.tokenize(texts)}
        else:
            ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts, unit=self.return_offsets)
            features = {"ids": ids, "starts": starts, "ends": ends}
        if isinstance(texts, tf.RaggedTensor):
            ids = features["ids"]
            word_numbers = tf.ragged.range(tf.cast(texts.row_lengths(), tf.int32)).values
            features["word_ids"] = ids.with_flat_values(tf.gather(word_numbers, ids.values.value_rowids()))
            return {name: feature.merge_dims(1, 2) for name, feature in features.items()}
        if self.return_word_ids:
            features["word_ids"] = self.tokenizer.word_ids(features["ids"])
        return features

    def pack_segments(
        self, segments: list[dict[str, tf.RaggedTensor]], sequence_length: int | tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Cuts, joins and pads word pieces, the second half of a call.

        Args:
            segments: for each segment `ids` and what else is returned of its word pieces (`starts`, `ends`,
                `word_ids`), ragged int32 `[batch, (word pieces)]`.
            sequence_length: the longest row.

        Returns:
            As a call.

        Raises:
            ValueError, tf.errors.InvalidArgumentError: where the rows have no room for the segments.
        """
        sequence_length = check_room(len(segments), sequence_length, self.separators)
        tokenizer = self.tokenizer
        special_values = {"ids": (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)}
        if self.return_offsets is not None:
            special_values |= {"starts": (0, 0, 0), "ends": (0, 0, 0)}
        if self.return_word_ids:
            special_values["word_ids"] = (-1, -1, -1)
        room = sequence_length - 2 - self.separators * (len(segments) - 1)
        packed, ends = pack(segments, room, self.truncation, special_values, self.separators)
        length = sequence_length
        if self.padding == "longest":
            # Of a batch without texts.
            shortest = 2 + self.separators * (len(segments) - 1)
            longest = tf.cast(tf.reduce_max(tf.concat([ends[-1] + 1, [shortest]], 0)), tf.int32)
            if self.sequence_buckets is not None:
                longest = bucket_length(longest, tuple(self.sequence_buckets))
            elif self.pad_to_multiple_of is not None:
                longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
            length = tf.minimum(longest, sequence_length)
        padded = pad(packed, ends, length, special_values, self.separators)
        types = padded["type_ids"] if self.separators == 1 else tf.zeros_like(padded["ids"])
        outputs = dict(zip(TFHUB_NAMES, (padded["ids"], padded["mask"], types), strict=True))
        if self.return_special_tokens_mask:
            outputs["special_tokens_mask"] = padded["special_tokens_mask"]
        if self.return_word_ids:
            outputs["word_ids"] = padded["word_ids"]
        if self.return_offsets is not None:
            outputs["offsets"] = tf.stack([padded["starts"], padded["ends"]], axis=-1)
        return outputs

    def compute_output_spec(self, inputs: Any) -> dict[str, KerasTensor]:
        batch = keras.tree.flatten(inputs)[0].shape[0]
        shape = (batch, self.sequence_length if self.padding == "max_length" else None)
        names = [*TFHUB_NAMES]
        names += ["special_tokens_mask"] if self.return_special_tokens_mask else []
        names += ["word_ids"] if self.return_word_ids else []
        outputs = {name: KerasTensor(shape, "int32") for name in names}
        if self.return_offsets is not None:
            outputs["offsets"] = KerasTensor((*shape, 2), "int32")
        return outputs

    def export(self, directory: str | os.PathLike[str], overwrite: bool = False, inputs: str | None = None) -> None:
        """Writes the preprocessor as a SavedModel of its own, which needs no vocabulary file.

        It keeps TF Hub's contract for text preprocessors and so works with any TF Hub BERT encoder. Loaded with
        `tf.saved_model.load` (after `import tensorflow_text`, which brings its operations) it has

        - the call on a string tensor `[batch]`, or for pairs on a tuple of two: ids as here;
        - `tokenize(texts)`: ids, ragged int32 `[batch, (words), (word pieces)]`;
        - `tokenize.get_special_tokens_dict()`: `vocab_size` and the ids of the special tokens;
        - `tokenize_with_offsets(texts)`: the ids and, in bytes of the text, their starts and ends (int64);
        - `bert_pack_inputs(segments, seq_length=n)`: a list of one or two of what `tokenize` returns -> ids;

        and the signature `serving_default` with the input `text`, or `text_a` and `text_b`.

        Args:
            directory: where to write.
            overwrite: whether to replace what an earlier call wrote there. Anything else is kept.
            inputs: `"text"` or `"pair"`; None is `export_inputs` of the constructor.

        Raises:
            FileExistsError: if `directory` exists and `overwrite` is false, or it is not of an earlier call.
            ValueError: for other `inputs`.

        Example:

        ```python
        preprocessor.export("preprocessor")
        tf.saved_model.load("preprocessor")(tf.constant(["a text"]))
        ```
        """
        inputs = self.export_inputs if inputs is None else inputs
        if inputs not in ("text", "pair"):
            raise ValueError(
                f"Expected `inputs` to be text or pair. Received: inputs={inputs!r}. Words go through "
                "export_saved_model: keras.Model(words, preprocessor(words)) with words = "
                "keras.Input(shape=(None,), dtype='string')."
            )
        with atomic_directory(directory, overwrite, _EXPORTED_FILES) as work:
            module = PreprocessorModule(self, inputs == "pair")
            tf.saved_model.save(module, os.fspath(work), signatures={"serving_default": module.serve})
            settings = {key: value for key, value in self.get_config().items() if key not in ("vocabulary", "dtype")}
            (work / _EXPORTED_FILES[0]).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

    def get_config(self) -> dict[str, Any]:
        config = self.tokenizer.get_config()
        return {
            **super().get_config(),
            **(config if isinstance(self.tokenizer, BertTokenizer) else {"vocabulary": config}),
            "truncation": self.truncation,
            "padding": self.padding,
            "pad_to_multiple_of": self.pad_to_multiple_of,
            "sequence_buckets": self.sequence_buckets,
            "return_special_tokens_mask": self.return_special_tokens_mask,
            "return_offsets": self.return_offsets,
            "return_word_ids": self.return_word_ids,
            "long_documents": self.long_documents,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BertPreprocessor":
        vocabulary = config.get("vocabulary")
        if isinstance(vocabulary, Mapping) and "model" in vocabulary:
            return super().from_config({**config, "vocabulary": SentencePieceTokenizer.from_config(vocabulary)})
        # A path would be opened, and the file's lines would travel on in whatever is saved next.
        if not isinstance(vocabulary, (list, tuple)):
            raise ValueError(
                f"Expected the saved configuration of a {cls.__name__} to hold its vocabulary as a list of tokens. "
                f"Received: vocabulary of type {type(vocabulary).__name__}, and nothing was read. {cls.__name__} did "
                "not write this configuration; make a new layer from a vocabulary file that you trust."
            )
        return super().from_config(config)


def _refuse_options_beside_tokenizer(tokenizer: Tokenizer, options: dict[str, Any]) -> None:
    defaults, own = inspect.signature(BertPreprocessor.__init__).parameters, tokenizer.get_config()
    given = {
        name: value
        for name, value in options.items()
        if value != defaults[name].default and value != own.get(name, defaults[name].default)
    }
    if given:
        raise ValueError(
            "Expected a tokenizer without options beside it, since it has its own. Received: "
            f"{', '.join(f'{name}={value!r}' for name, value in given.items())}. Give them to the tokenizer."
        )


def _check_rounding(
    padding: str, multiple: int | None, buckets: Sequence[int] | None, sequence_length: int
) -> tuple[int | None, list[int] | None]:
    if padding not in ("max_length", "longest"):
        raise ValueError(f"Expected `padding` to be max_length or longest. Received: padding={padding!r}.")
    if padding == "max_length" and (multiple is not None or buckets is not None):
        raise ValueError(
            "Expected `pad_to_multiple_of` and `sequence_buckets`, which round up the longest row of a batch, with "
            f"padding='longest' alone. Received: padding='max_length', pad_to_multiple_of={multiple!r}, "
            f"sequence_buckets={buckets!r}. Add padding='longest'."
        )
    if multiple is not None:
        is_int = isinstance(multiple, (int, np.integer)) and not isinstance(multiple, bool)
        if not is_int or multiple < 1 or buckets is not None:
            raise ValueError(
                "Expected `pad_to_multiple_of` to be a positive int, without `sequence_buckets`. "
                f"Received: pad_to_multiple_of={multiple!r}, sequence_buckets={buckets!r}."
            )
        return int(multiple), None
    if buckets is None:
        return None, None
    expected = "Expected `sequence_buckets` to be ascending lengths that end in `sequence_length`"
    if isinstance(buckets, str) or not isinstance(buckets, Iterable):
        raise TypeError(f"{expected}, as (64, 128). Received: sequence_buckets={buckets!r}.")
    lengths = [check_sequence_length(length, name="sequence_buckets") for length in buckets]
    if lengths != sorted(set(lengths)) or lengths[-1:] != [sequence_length]:
        raise ValueError(f"{expected}. Received: sequence_buckets={lengths!r}, sequence_length={sequence_length}.")
    return None, lengths
