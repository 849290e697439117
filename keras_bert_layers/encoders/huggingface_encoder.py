import inspect
import os
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.encoders.adopted_variables import AdoptedVariables
from keras_bert_layers.encoders.layer_collector import LayerCollector
from keras_bert_layers.encoders.layerwise_encoder import EncoderStates, LayerwiseEncoder, check_flags
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.local_path import local_path

_ARCHITECTURES = ("Albert", "Bert", "DistilBert", "Electra", "Roberta")
# Model types that number their positions from behind the padding token's id.
_POSITIONS_BEHIND_PADDING = {
    "camembert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
}
# What a file may name: transformers' own TensorFlow encoders, alone or under one of its heads.
SAVABLE_CLASSES = {
    f"TF{architecture}{head}"
    for architecture in _ARCHITECTURES
    for head in (
        "Model",
        "ForMaskedLM",
        "ForMultipleChoice",
        "ForPreTraining",
        "ForQuestionAnswering",
        "ForSequenceClassification",
        "ForTokenClassification",
    )
}


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class HuggingFaceEncoder(LayerwiseEncoder):
    """A TensorFlow encoder of Hugging Face's transformers, called as it is, which returns every layer.

    The model's variables are this layer's weights: the same objects, not copies, so that training this layer trains
    the model. The model runs in its own dtype and its outputs are cast to this layer's. For inputs and outputs see
    `EncoderContract`.

    Args:
        tf_model: a `TFBertModel`, `TFDistilBertModel`, `TFAlbertModel`, `TFRobertaModel`, `TFElectraModel`, or another
            TensorFlow model of transformers that returns the states of every token in every layer, such as
            `TFBertForSequenceClassification`.
        layers, combine, return_attention_scores: as in `BertEncoder`.
        pooler: False leaves `pooled_output` out and freezes the weights that only it uses.
        trainable: False freezes the model's weights and leaves the combination trainable.
        dtype: the dtype policy of the outputs.
        name: name of the layer.

    Raises:
        TypeError: if `tf_model` is no TensorFlow model of transformers.
        ValueError: if its outputs are not those of a BERT (Funnel drops tokens; Longformer's attention scores are not
            between all tokens).

    Example:

    ```python
    from transformers import TFBertModel

    encoder = HuggingFaceEncoder(TFBertModel.from_pretrained("google-bert/bert-base-uncased"), layers="last4")
    ```
    """

    def __init__(
        self,
        tf_model: Any,
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
        if isinstance(tf_model, dict):
            tf_model = _make_model(tf_model)
        if not hasattr(tf_model, "main_input_name") or not hasattr(type(tf_model), "trainable_variables"):
            raise TypeError(
                "HuggingFaceEncoder expects a TensorFlow model of transformers, such as "
                "TFBertModel.from_pretrained(...). "
                f"Received: tf_model of type {type(tf_model).__module__}.{type(tf_model).__name__}. "
                "BertEncoder.from_pretrained(...) reads a directory or a repository id, and PyTorch's checkpoints in "
                "safetensors."
            )
        # Kept out of TensorFlow's tracking of attributes, which would store its variables a second time in an export.
        object.__setattr__(self, "tf_model", tf_model)
        config = tf_model.config
        self._arguments = inspect.signature(tf_model.call).parameters
        # DistilBERT has no segments, and RoBERTa has one for everything.
        self._takes_segments = "token_type_ids" in self._arguments and getattr(config, "type_vocab_size", 2) > 1
        self.pooler_wanted = pooler
        first = self._probe(return_attention_scores)
        self.num_layers = config.num_hidden_layers
        self.hidden_size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.has_pooler = pooler and first.get("pooler_output") is not None
        self.pretrained = AdoptedVariables(tf_model.variables, self._used_outputs, name="pretrained")
        self.vocab_size = getattr(config, "vocab_size", None)
        self.type_vocab_size = getattr(config, "type_vocab_size", None) if self._takes_segments else None
        self.max_positions = self.pretrained.rows("position_embeddings?")
        if self.max_positions is not None and config.model_type in _POSITIONS_BEHIND_PADDING:
            self.max_positions -= config.pad_token_id + 1
        self.finish_init(layers, combine, trainable, return_attention_scores)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **arguments: Any,
    ) -> "HuggingFaceEncoder":
        """Loads a checkpoint with transformers' `TFAutoModel` and wraps it.

        Args:
            source: a directory in Hugging Face's format or the id of a repository.
            revision, cache_dir, token, local_files_only: as in `BertEncoder.from_pretrained`.
            **arguments: those of the constructor but `tf_model`.

        Returns:
            The `HuggingFaceEncoder`.

        Raises:
            ImportError: without transformers < 4.55.
            FileNotFoundError, OSError: where there is no such checkpoint.
            ValueError: if `source` or `cache_dir` is a URL.
        """
        # Transformers would make the local directory gs:/bucket of a URL.
        source = os.fspath(local_path(source, "source"))
        if cache_dir is not None:
            cache_dir = os.fspath(local_path(cache_dir, "cache_dir"))
        transformers = _transformers()
        from huggingface_hub.utils import HFValidationError

        try:
            tf_model = transformers.TFAutoModel.from_pretrained(
                source,
                revision=revision or "main",
                cache_dir=cache_dir,
                token=token,
                local_files_only=local_files_only,
            )
        except (HFValidationError, OSError) as error:
            # Older versions of transformers wrap it.
            if not isinstance(error, HFValidationError) and not isinstance(error.__cause__, HFValidationError):
                raise
            raise FileNotFoundError(
                "Expected a directory or the id of a Hugging Face repository. "
                f"Received: source={source!r}, which is no directory and cannot be an id. Check the path."
            ) from error
        return cls(tf_model, **arguments)

    @property
    def pretrained_layers(self) -> list[keras.layers.Layer]:
        return [self.pretrained]

    def run(
        self, token_ids: Any, mask: Any, segment_ids: Any, collector: LayerCollector, training: bool
    ) -> EncoderStates:
        scores = bool(collector.keep_scores)
        outputs = self._call_model(token_ids, tf.cast(mask, "int32"), segment_ids, training, scores)
        attentions = [None, *(outputs["attentions"] if scores else [None] * self.num_layers)]
        collection = collector.start()
        for number, states in enumerate(outputs["hidden_states"]):
            collection.take(number, states, attentions[number])
        return self._zero_at_padding(collection.result(), mask, outputs.get("pooler_output"))

    def _probe(self, scores: bool) -> Any:
        """Runs the model on four tokens, to see whether its outputs are those of a BERT."""
        tokens = tf.constant([[1, 2, 3, 4]])
        name = type(self.tf_model).__name__
        instead = (
            f"Supported are encoders that keep every token in every layer, such as {', '.join(sorted(_ARCHITECTURES))}."
        )
        try:
            outputs = self._call_model(tokens, tf.ones_like(tokens), tf.zeros_like(tokens), scores=scores)
        except Exception as error:
            raise ValueError(
                "HuggingFaceEncoder expects a model that runs on `input_ids` and `attention_mask` of four tokens"
                f"{' and returns attention scores' if scores else ''}. Received: tf_model of type {name}, which "
                f"raises {type(error).__name__}. {instead}"
            ) from error
        states = outputs.get("hidden_states")
        if states is None:
            raise TypeError(
                "HuggingFaceEncoder expects a model that returns hidden states with output_hidden_states=True. "
                f"Received: tf_model of type {name}, whose outputs are {list(outputs)}. {instead}"
            )
        config = self.tf_model.config
        sizes: list[Any] = [
            getattr(config, size, None) for size in ("num_hidden_layers", "hidden_size", "num_attention_heads")
        ]
        shapes = [tuple(state.shape) for state in states]
        if shapes != [(1, 4, sizes[1])] * (1 + (sizes[0] or 0)):
            raise ValueError(
                "HuggingFaceEncoder expects the hidden states of the embeddings and of num_hidden_layers="
                f"{sizes[0]} layers, each [batch, sequence, hidden_size={sizes[1]}]. Received: tf_model of type "
                f"{name}, which gives {shapes} for one row of four tokens. {instead}"
            )
        if scores:
            shapes = [tuple(attention.shape) for attention in outputs.get("attentions") or ()]
            if shapes != [(1, sizes[2], 4, 4)] * sizes[0]:
                raise ValueError(
                    "HuggingFaceEncoder expects attention scores between all tokens, [batch, heads, sequence, "
                    f"sequence]. Received: return_attention_scores=True and tf_model of type {name}, which gives "
                    f"{shapes[:1]} for four tokens. Leave them out: return_attention_scores=False."
                )
        return outputs

    def _call_model(
        self, token_ids: Any, attention_mask: Any, segment_ids: Any, training: bool = False, scores: bool = False
    ) -> Any:
        inputs = {"input_ids": token_ids, "attention_mask": attention_mask}
        if self._takes_segments:
            inputs["token_type_ids"] = segment_ids
        return self.tf_model(
            inputs, output_hidden_states=True, output_attentions=scores, return_dict=True, training=training
        )

    def _used_outputs(self) -> list[tf.Tensor]:
        tokens = tf.constant([[1, 2, 3, 4]])
        outputs = self._call_model(tokens, tf.ones_like(tokens), tf.zeros_like(tokens))
        return [*outputs["hidden_states"], *([outputs["pooler_output"]] if self.has_pooler else [])]

    def get_config(self) -> dict[str, Any]:
        class_name = type(self.tf_model).__name__
        if class_name not in SAVABLE_CLASSES:
            raise ValueError(
                f"A HuggingFaceEncoder can be saved around one of {', '.join(sorted(SAVABLE_CLASSES))}. "
                f"Received: tf_model of class {class_name}. Export the model with "
                "keras_bert_layers.export_saved_model, or save its weights with model.save_weights(...)."
            )
        return {
            **super().get_config(),
            "tf_model": {"class_name": class_name, "config": self.tf_model.config.to_dict()},
            "pooler": self.pooler_wanted,
        }


def _transformers() -> Any:
    try:
        import transformers

        transformers.TFAutoModel.from_pretrained  # noqa: B018 - a placeholder that raises where TensorFlow's classes are gone
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "HuggingFaceEncoder needs transformers with its TensorFlow classes, and they do not import here "
            f"({error}). Install them with: pip install 'keras-bert-layers[huggingface]' (transformers < 4.55 and "
            "tf-keras). BertEncoder needs neither."
        ) from error
    return transformers


def _make_model(serialized: dict[str, Any]) -> Any:
    class_name = serialized.get("class_name")
    if not isinstance(class_name, str) or class_name not in SAVABLE_CLASSES:
        raise ValueError(
            "A saved HuggingFaceEncoder is expected to name one of transformers' classes "
            f"{', '.join(sorted(SAVABLE_CLASSES))}. Received: class_name={class_name!r}. The file was not written by "
            "this package; nothing of it was run."
        )
    model_class = getattr(_transformers(), class_name)
    try:
        return model_class(model_class.config_class.from_dict(serialized["config"]))
    # Transformers raises errors of many classes.
    except Exception as error:
        raise ValueError(
            f"A saved HuggingFaceEncoder is expected to hold a configuration that transformers' {class_name} takes. "
            f"Received: one at which it raises {type(error).__name__}. The file is damaged or of another version."
        ) from error
