from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.checkpoints.tfhub_saved_model import TFHubSavedModel, check_saved_source
from keras_bert_layers.text.text_preprocessor import TextPreprocessor
from keras_bert_layers.token_inputs import TFHUB_NAMES


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class TFHubPreprocessor(TextPreprocessor):
    """A text preprocessing model of TensorFlow Hub as a Keras layer, for those who need that very one.

    It runs the SavedModel's own `tokenize` and `bert_pack_inputs`. Its ids are those of its own tokenizer: for BERT,
    `BertPreprocessor` is exact where tf.text's tokenizer is not. Models made by Model Garden trim with tf.text's
    `RoundRobinTrimmer`, whose operation TensorFlow Serving has from 2.20 on.

    A `.keras` file carries the graph, which is executable: it loads with `safe_mode=False` alone.

    Args:
        source: a directory, a URL handle, or what `tf.saved_model.load` returned.
        sequence_length: length of the rows, at least 3.
        export_inputs: what an export takes, `"text"` or `"pair"`.
        **kwargs: `name` of `keras.layers.Layer`.

    Call arguments:
        inputs: as of `BertPreprocessor`.

    Returns:
        A dict of int32 tensors `[batch, sequence_length]`: `input_word_ids`, `input_mask` and `input_type_ids`.

    Raises:
        FileNotFoundError: if there is no SavedModel.
        ValueError: if it has no `tokenize` and `bert_pack_inputs`.

    Example:

    ```python
    preprocessor = TFHubPreprocessor("https://tfhub.dev/tensorflow/bert_en_uncased_preprocess/3", sequence_length=64)
    ```
    """

    def __init__(self, source: Any, *, sequence_length: int = 128, export_inputs: str = "text", **kwargs: Any):
        super().__init__(sequence_length=sequence_length, export_inputs=export_inputs, **kwargs)
        saved_model = source if isinstance(source, TFHubSavedModel) else TFHubSavedModel(source)
        missing = [name for name in ("tokenize", "bert_pack_inputs") if not hasattr(saved_model.loaded, name)]
        if missing:
            raise ValueError(
                "TFHubPreprocessor expects a SavedModel with TF Hub's contract for text preprocessors, which has "
                f"`tokenize` and `bert_pack_inputs`. Received: one without {' and '.join(missing)}. "
                "Give the preprocessing model that belongs to the encoder, not the encoder."
            )
        self.saved_model = saved_model
        # Tracked, so that an export copies its vocabulary.
        self.loaded = saved_model.loaded

    def call(self, inputs: Any) -> dict[str, Any]:
        segments = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        with tf.device("CPU:0"):
            tokens = [self.loaded.tokenize(segment) for segment in segments]
            outputs = self.loaded.bert_pack_inputs(tokens, seq_length=tf.constant(self.sequence_length))
            return {name: tf.ensure_shape(outputs[name], (None, self.sequence_length)) for name in TFHUB_NAMES}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "source": self.saved_model.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TFHubPreprocessor":
        check_saved_source(cls.__name__, config.get("source"))
        return super().from_config(config)
