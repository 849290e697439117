import os
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.checkpoints.tfhub_saved_model import TFHubSavedModel, check_saved_source
from keras_bert_layers.encoders.adopted_variables import AdoptedVariables
from keras_bert_layers.encoders.layer_collector import LayerCollector
from keras_bert_layers.encoders.layerwise_encoder import EncoderStates, LayerwiseEncoder, check_flags
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.token_inputs import TFHUB_NAMES


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class TFHubEncoder(LayerwiseEncoder):
    """A text encoder of TensorFlow Hub, called as it is, which returns every layer.

    Takes any SavedModel with TF Hub's contract for transformer text encoders that has `encoder_outputs`, whatever its
    architecture. Its variables are this layer's weights: the same objects, not copies. It runs in its own dtype and its
    outputs are cast to this layer's. TF Hub encoders return no layer 0. For inputs and outputs see
    `EncoderContract`.

    A `.keras` file carries the graph, which is executable: it loads with `safe_mode=False` alone.

    Args:
        source: a directory, a URL handle, or what `tf.saved_model.load` returned.
        layers, combine: as in `BertEncoder`.
        pooler: False leaves `pooled_output` out and freezes the weights that only it uses.
        trainable: False freezes the encoder's weights and leaves the combination trainable.
        return_attention_scores: refused, for a SavedModel returns none.
        dtype: the dtype policy of the outputs.
        name: name of the layer.

    Raises:
        FileNotFoundError: if there is no SavedModel.
        ValueError: if it has no `encoder_outputs`, or attention scores are asked for.

    Example:

    ```python
    encoder = TFHubEncoder("https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4", layers="last4")
    ```
    """

    has_embeddings = False

    def __init__(
        self,
        source: Any,
        layers: int | str | Iterable[int] = "all",
        combine: str | LayerCombination | None = None,
        *,
        pooler: bool = True,
        trainable: bool = True,
        return_attention_scores: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ):
        super().__init__(dtype=dtype, name=name)
        check_flags(pooler=pooler)
        if return_attention_scores:
            raise ValueError(
                "A TF Hub encoder is a finished graph that does not return its attention scores. "
                "Received: return_attention_scores=True. Take the same BERT in Hugging Face's format: "
                "BertEncoder.from_pretrained(..., return_attention_scores=True)."
            )
        saved_model = source if isinstance(source, TFHubSavedModel) else TFHubSavedModel(source)
        # Kept out of TensorFlow's tracking of attributes, which would store its variables a second time in an export.
        object.__setattr__(self, "saved_model", saved_model)
        self._takes_training = True
        outputs = self._trace(source)
        self.num_layers = len(outputs["encoder_outputs"])
        self.hidden_size = outputs["encoder_outputs"][0].shape[-1]
        self.pooler_wanted = pooler
        self.has_pooler = pooler and "pooled_output" in outputs
        variables = saved_model.loaded.variables
        self.pretrained = AdoptedVariables(variables, self._used_outputs, name="pretrained")
        self.vocab_size = self.pretrained.rows("word_embeddings")
        self.type_vocab_size = self.pretrained.rows("(token_)?type_embeddings")
        self.max_positions = self.pretrained.rows("position_embeddings?")
        self.finish_init(layers, combine, trainable, return_attention_scores)

    def _trace(self, source: Any) -> dict[str, Any]:
        """Runs the encoder on symbolic ids, to see what it takes and gives."""
        if hasattr(self.saved_model.loaded, "bert_pack_inputs"):
            raise ValueError(
                "TFHubEncoder expects a text encoder. Received: a preprocessing model, which has `bert_pack_inputs`. "
                "Give it to TFHubPreprocessor, and here the encoder that it belongs to."
            )
        described = source if isinstance(source, (str, os.PathLike)) else type(source).__name__
        ids = tf.TensorSpec((None, None), "int32")
        for takes_training in (True, False):
            self._takes_training = takes_training
            try:
                outputs = tf.function(self._call_encoder).get_concrete_function(ids, ids, ids).structured_outputs
                break
            except (TypeError, ValueError) as error:
                if not takes_training:
                    raise ValueError(
                        f"TFHubEncoder expects a SavedModel that is called on a dict of {TFHUB_NAMES}, each int32 "
                        f"[batch, sequence]. Received: source={described!r}, which cannot be: {error}"
                    ) from error
        if not isinstance(outputs, dict) or not outputs.get("encoder_outputs"):
            received = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
            raise ValueError(
                "TFHubEncoder expects a SavedModel whose outputs have `encoder_outputs`, the list of its layers. "
                f"Received: source={described!r}, whose outputs are {received}. Versions 3 and later of TF Hub's "
                "BERT encoders have them; version 1 and 2 and sentence encoders do not."
            )
        return outputs

    @property
    def pretrained_layers(self) -> list[keras.layers.Layer]:
        return [self.pretrained]

    def run(
        self, token_ids: Any, mask: Any, segment_ids: Any, collector: LayerCollector, training: bool
    ) -> EncoderStates:
        outputs = self._call_encoder(token_ids, tf.cast(mask, "int32"), segment_ids, training)
        collection = collector.start()
        for number, states in enumerate(outputs["encoder_outputs"], start=1):
            collection.take(number, states)
        return self._zero_at_padding(collection.result(), mask, outputs.get("pooled_output"))

    def _call_encoder(self, token_ids: Any, mask: Any, segment_ids: Any, training: bool = False) -> dict[str, Any]:
        inputs = dict(zip(TFHUB_NAMES, (token_ids, mask, segment_ids), strict=True))
        if self._takes_training:
            return self.saved_model.loaded(inputs, training=training)
        return self.saved_model.loaded(inputs)

    def _used_outputs(self) -> list[tf.Tensor]:
        tokens = tf.constant([[1, 2, 3, 4]])
        outputs = self._call_encoder(tokens, tf.ones_like(tokens), tf.zeros_like(tokens))
        return [*outputs["encoder_outputs"], *([outputs["pooled_output"]] if self.has_pooler else [])]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "source": self.saved_model.get_config(), "pooler": self.pooler_wanted}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TFHubEncoder":
        check_saved_source(cls.__name__, config.get("source"))
        return super().from_config(config)
