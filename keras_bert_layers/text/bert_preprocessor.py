import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.checkpoints.bert_config import CONFIG_FILES
from keras_bert_layers.checkpoints.source import TOKENIZER_FILES, find_checkpoint
from keras_bert_layers.text.bert_tokenizer import BertTokenizer
from keras_bert_layers.text.packing import pack
from keras_bert_layers.text.text_layer import TextLayer, check_sequence_length


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class BertPreprocessor(TextLayer):
    """Texts -> the ids that a BERT encoder takes, as a Keras layer.

    `[CLS] text [SEP]`, or `[CLS] first [SEP] second [SEP]` for pairs (Devlin et al. 2019, section 3), cut and padded to
    one length. A text too long is cut at its end; of a pair the longer text is cut first. Works inside a functional
    model, in `dataset.map`, eagerly, and exported. The vocabulary is inside the layer, its `.keras` file and its
    exports.

    Args:
        vocabulary: path of a `vocab.txt`, or the list of its tokens.
        lowercase, strip_accents, tokenize_chinese_chars, special_tokens_in_text: as in `BertTokenizer`.
        sequence_length: length of the rows, at least 3.
        return_special_tokens_mask: whether the output has `special_tokens_mask` too, for
            `SequencePooling(exclude_special_tokens=True)`.
        **kwargs: `name` of `keras.layers.Layer`.

    Call arguments:
        inputs: a str (a batch of one), a list of str, a NumPy array or a tensor `[batch]` of strings; or a tuple of two
            of these, the segments of pairs.

    Returns:
        A dict of int32 tensors `[batch, sequence_length]`: `input_word_ids`, `input_mask` (1 on real tokens) and
        `input_type_ids` (0 on the first segment, 1 on the second), and on request `special_tokens_mask` (1 on [CLS],
        [SEP] and padding).

    Raises:
        ValueError: for a sequence length below 3, a vocabulary without special tokens, inputs of another rank.
        TypeError: for inputs that are no text.

    Example:

    >>> preprocessor = BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "text"], sequence_length=6)
    >>> ids = preprocessor(["One text", "text"])
    >>> ids["input_word_ids"].numpy().tolist()
    [[2, 4, 5, 3, 0, 0], [2, 5, 3, 0, 0, 0]]
    >>> preprocessor(("one", "text"))["input_type_ids"].numpy().tolist()
    [[0, 0, 0, 1, 1, 0]]
    """

    def __init__(
        self,
        vocabulary: str | os.PathLike[str] | Sequence[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        special_tokens_in_text: bool = False,
        sequence_length: int = 128,
        return_special_tokens_mask: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.tokenizer = BertTokenizer(
            vocabulary, lowercase, strip_accents, tokenize_chinese_chars, special_tokens_in_text
        )
        self.sequence_length = check_sequence_length(sequence_length)
        self.return_special_tokens_mask = return_special_tokens_mask

    @classmethod
    def from_pretrained(
        cls,
        source: Any,
        sequence_length: int = 128,
        *,
        return_special_tokens_mask: bool = False,
        special_tokens_in_text: bool = False,
        name: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> "BertPreprocessor":
        """Makes a preprocessor with the tokenizer of a checkpoint.

        Args:
            source: a directory in Hugging Face's format, the id of a Hugging Face repository, or a TF Hub encoder
                (directory or loaded object), whose `vocab_file` and `do_lower_case` are read.
            sequence_length: length of the rows, from 3 to the checkpoint's number of positions.
            return_special_tokens_mask, special_tokens_in_text, name: as in the constructor.
            revision, cache_dir, token, local_files_only: as in `BertEncoder.from_pretrained`.

        Returns:
            The `BertPreprocessor`.

        Raises:
            FileNotFoundError, PermissionError, OSError: where the files are not to be had.
            ValueError: for a sequence length that the checkpoint has no positions for.

        Example:

        ```python
        preprocessor = BertPreprocessor.from_pretrained("google-bert/bert-base-uncased", sequence_length=128)
        ```
        """
        download: dict[str, Any] = {
            "revision": revision,
            "cache_dir": cache_dir,
            "token": token,
            "local_files_only": local_files_only,
        }
        check_sequence_length(sequence_length, limit=_number_of_positions(source, download))
        tokenizer = BertTokenizer.from_pretrained(source, **download)
        return cls(
            tokenizer.vocabulary,
            lowercase=tokenizer.lowercase,
            strip_accents=tokenizer.strip_accents,
            tokenize_chinese_chars=tokenizer.tokenize_chinese_chars,
            special_tokens_in_text=special_tokens_in_text,
            sequence_length=sequence_length,
            return_special_tokens_mask=return_special_tokens_mask,
            name=name,
        )

    def call(self, inputs: Any) -> dict[str, Any]:
        segments = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        tokenizer = self.tokenizer
        # Strings live on the host, also where the rest of a graph is placed on a GPU.
        with tf.device("CPU:0"):
            outputs = pack(
                [tokenizer.tokenize(segment) for segment in segments],
                self.sequence_length,
                tokenizer.cls_token_id,
                tokenizer.sep_token_id,
                tokenizer.pad_token_id,
            )
        if not self.return_special_tokens_mask:
            del outputs["special_tokens_mask"]
        return outputs

    def compute_output_spec(self, inputs: Any) -> dict[str, KerasTensor]:
        outputs = super().compute_output_spec(inputs)
        if self.return_special_tokens_mask:
            outputs["special_tokens_mask"] = KerasTensor(outputs["input_mask"].shape, "int32")
        return outputs

    def export(self, directory: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Writes the preprocessor as a SavedModel of its own, which needs no vocabulary file.

        Loaded with `tf.saved_model.load` (after `import tensorflow_text`, which brings its operations), it is called on
        a string tensor `[batch]`, or on a tuple of two if the layer was called on pairs. The signature
        `serving_default` has the input `text`, or `text_a` and `text_b`.

        Args:
            directory: where to write.
            overwrite: whether to replace `directory` where it exists.

        Raises:
            FileExistsError: if `directory` exists and `overwrite` is false.

        Example:

        ```python
        preprocessor.export("preprocessor")
        tf.saved_model.load("preprocessor")(tf.constant(["a text"]))
        ```
        """
        names = ["text"] if self.number_of_texts() == 1 else ["text_a", "text_b"]
        module = tf.Module()
        module.__call__ = tf.function(self.call)
        specs = [tf.TensorSpec([None], tf.string, name) for name in names]
        module.__call__.get_concrete_function(specs[0] if len(specs) == 1 else tuple(specs))

        def serve(**texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.call([texts[name] for name in names])

        signature = tf.function(serve).get_concrete_function(**dict(zip(names, specs, strict=True)))
        with atomic_directory(directory, overwrite) as work:
            tf.saved_model.save(module, os.fspath(work), signatures={"serving_default": signature})

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self.tokenizer.get_config(),
            "sequence_length": self.sequence_length,
            "return_special_tokens_mask": self.return_special_tokens_mask,
        }


def _number_of_positions(source: Any, download: dict[str, Any]) -> int | None:
    """The longest sequence that a checkpoint has positions for; None where it does not say."""
    if not isinstance(source, (str, os.PathLike)) or pathlib.Path(source, "saved_model.pb").is_file():
        return None
    directory = find_checkpoint(source, TOKENIZER_FILES, **download)
    for name in CONFIG_FILES:
        if (directory / name).is_file():
            return json.loads((directory / name).read_text(encoding="utf-8")).get("max_position_embeddings")
    return None
