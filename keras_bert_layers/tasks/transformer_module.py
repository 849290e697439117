"""The module `Transformer` of sentence-transformers: its tokenizer and its encoder."""

import os
from collections.abc import Iterable
from typing import Any

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.formats import CHECKPOINT_FILES
from keras_bert_layers.checkpoints.json_file import read_json_object
from keras_bert_layers.checkpoints.source import TOKENIZER_FILES, WantedFiles
from keras_bert_layers.encoders.bert_encoder import BertEncoder
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.tasks.model_folder import ModelFolder
from keras_bert_layers.tasks.module_settings import read_settings, unsupported
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor
from keras_bert_layers.text.bert_tokenizer import BertTokenizer

# The first is today's; the others were written for models of one kind each.
_SETTINGS_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_ADAPTER_FILE = "adapter_config.json"
_FILES = WantedFiles(required=CHECKPOINT_FILES.required[:1], optional=(*_SETTINGS_FILES, _ADAPTER_FILE))
_LAST_STATE = {"method": "forward", "method_output_name": "last_hidden_state"}
# Keys with the one value that they may have, or None for any.
_SETTINGS: dict[str, Any] = {
    "max_seq_length": None,
    "do_lower_case": None,
    # How it is computed, but not what.
    "unpad_inputs": None,
    "model_args": None,
    "model_kwargs": None,
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": _LAST_STATE},
}
_HARMLESS_ARGUMENTS = {"add_pooling_layer", "attn_implementation", "dtype", "torch_dtype"}


class TransformerModule:
    """A tokenizer and an encoder, as a folder of sentence-transformers describes them.

    Args:
        model_folder: the model.
        path: the module's folder in it.

    Attributes:
        folder: where its files are.
        config: the `BertConfig`.
    """

    def __init__(self, model_folder: ModelFolder, path: str):
        self.folder = model_folder.folder(path, _FILES)
        if os.path.lexists(self.folder / _ADAPTER_FILE):
            raise ValueError(
                f"Expected a transformer with all its weights in {self.folder}. Received: {_ADAPTER_FILE}, a change of "
                "the weights of another model. Merge it with PEFT: model.merge_and_unload(), then "
                "model.save_pretrained(directory)."
            )
        self.config = BertConfig.from_file(self.folder)
        self._settings_file = self.folder / next(
            (name for name in _SETTINGS_FILES if os.path.lexists(self.folder / name)), _SETTINGS_FILES[0]
        )
        self._settings = self._read_settings()
        # The weights are downloaded last.
        model_folder.folder(path, TOKENIZER_FILES, CHECKPOINT_FILES)

    def _read_settings(self) -> dict[str, Any]:
        settings = read_settings(self._settings_file, _SETTINGS, default={})
        for key, expected in _SETTINGS.items():
            if expected is not None and settings.get(key) not in (None, expected):
                raise unsupported(self._settings_file, key, settings[key], f"{key}={expected!r}")
        for key in ("model_args", "model_kwargs"):
            others = set(settings.get(key) or {}) - _HARMLESS_ARGUMENTS
            if others:
                raise unsupported(self._settings_file, key, settings[key], f"no arguments but {_HARMLESS_ARGUMENTS}")
        return settings

    def preprocessor(self) -> BertPreprocessor:
        """Makes the preprocessor, whose rows are as long as the longest of a batch."""
        preprocessor = BertPreprocessor.from_pretrained(
            self.folder, sequence_length=self._sequence_length(), padding="longest"
        )
        tokenizer = preprocessor.tokenizer
        lowercases = isinstance(tokenizer, BertTokenizer) and tokenizer.get_config()["lowercase"]
        if self._settings.get("do_lower_case") and not lowercases:
            raise ValueError(
                f"Expected do_lower_case=false in {self._settings_file} beside a tokenizer that keeps case. Received: "
                "do_lower_case=true. Set it to false there, and give the model texts in lower case: "
                "tf.strings.lower(texts, 'utf-8')."
            )
        return preprocessor

    def _sequence_length(self) -> int:
        """The longest text in tokens: what the settings say, or else the tokenizer; never beyond the positions."""
        tokenizer_file = self.folder / "tokenizer_config.json"
        length = self._settings.get("max_seq_length")
        key, file = "max_seq_length", self._settings_file
        if length is None and os.path.lexists(tokenizer_file):
            key, file = "model_max_length", tokenizer_file
            length = read_json_object(file).get(key)
        positions = self.config.max_position_embeddings - self.config.position_offset
        if length is None:
            return positions
        if isinstance(length, bool) or not isinstance(length, (int, float)) or not length >= 3:
            raise ValueError(
                f"Expected {file} to have a whole number from 3 as `{key}`. Received: {key}={length!r}. "
                "Copy or download the file again."
            )
        return int(min(length, positions))

    def encoder(self, layers: int | Iterable[int], combine: str | LayerCombination, **arguments: Any) -> BertEncoder:
        """Makes the encoder; the arguments are those of `BertEncoder`."""
        return BertEncoder.from_pretrained(self.folder, layers=layers, combine=combine, pooler=False, **arguments)
