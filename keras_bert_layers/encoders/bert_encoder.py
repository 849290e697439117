"""BERT, to be read from top to bottom: the embeddings, then the encoder, whose `run` is the whole computation.

One encoder layer is in `transformer_block.py`. What is not BERT stands behind a name in a file of its own:

- `token_layout.py` leaves the padding out: the layers see all texts of a batch as one matrix of tokens,
  `[tokens, hidden]`.
- `attention_rows.py` lays these tokens out in rows for attention, and back; one row may hold several short texts.
- `layer_calls.py` keeps training from computing what no gradient needs.
- `layer_collector.py` combines the layers while they run, so that their outputs need not all be held.
- `lora.py` trains a small change of the weights.
"""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint
from keras_bert_layers.encoders.layer_calls import layer_calls
from keras_bert_layers.encoders.layer_collector import LayerCollector
from keras_bert_layers.encoders.layer_normalization import LayerNormalization
from keras_bert_layers.encoders.layerwise_encoder import EncoderStates, LayerwiseEncoder, check_flags
from keras_bert_layers.encoders.lora import Embedding, freeze_all_but_lora, has_lora, merged_weight
from keras_bert_layers.encoders.relative_position_embeddings import RelativePositionEmbeddings
from keras_bert_layers.encoders.token_layout import choose_layout
from keras_bert_layers.encoders.transformer_block import TransformerBlock, dense, weight_initializer
from keras_bert_layers.keras_compatibility import variables_without_values
from keras_bert_layers.layers.layer_combination import LayerCombination


class BertEmbeddings(keras.layers.Layer):
    """Layer 0 of BERT: LayerNorm of the sum of word, position and segment embeddings (Devlin et al. 2019, figure 2).

    Where they are narrower than the layers (ALBERT, ELECTRA), a dense layer then brings them to the layers' width.

    Call arguments:
        token_ids, position_ids, segment_ids: int32 `[tokens]`.

    Returns:
        `[tokens, hidden]`.
    """

    def __init__(self, config: BertConfig, hidden_dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = config.embedding_size or config.hidden_size
        self.word_embeddings = self._embedding(config.vocab_size, config, "word_embeddings")
        self.position_embeddings = self._embedding(config.max_position_embeddings, config, "position_embeddings")
        self.token_type_embeddings: Embedding | None = None
        if config.type_vocab_size:
            self.token_type_embeddings = self._embedding(config.type_vocab_size, config, "token_type_embeddings")
        # MPNet's: no part of the sum, but of every layer's attention (`relative_bias`).
        self.relative_position_embeddings: RelativePositionEmbeddings | None = None
        if config.relative_attention_num_buckets:
            self.relative_position_embeddings = RelativePositionEmbeddings(
                config, dtype=self.dtype_policy, name="relative_position_embeddings"
            )
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps, dtype=self.dtype_policy, name="layer_norm")
        self.dropout = keras.layers.Dropout(hidden_dropout, dtype=self.dtype_policy, name="dropout")
        self.projection: keras.layers.Layer | None = None
        if config.embedding_size:
            self.projection = dense(config.hidden_size, config, "projection", self.dtype_policy)

    def _embedding(self, rows: int, config: BertConfig, name: str) -> Embedding:
        return Embedding(rows, self.width, weight_initializer(config), dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Any) -> None:
        for layer in (
            self.word_embeddings,
            self.position_embeddings,
            self.token_type_embeddings,
            self.relative_position_embeddings,
        ):
            if layer is not None:
                layer.build((None,))
        self.layer_norm.build((None, self.width))
        if self.projection is not None:
            self.projection.build((None, self.width))

    def call(self, token_ids: Any, position_ids: Any, segment_ids: Any, training: bool = False) -> Any:
        embedded = self.word_embeddings(token_ids)
        if self.token_type_embeddings is not None:
            embedded += self.token_type_embeddings(segment_ids)
        embedded = self.layer_norm(embedded + self.position_embeddings(position_ids), training=training)
        embedded = self.dropout(embedded, training=training)
        return embedded if self.projection is None else self.projection(embedded)

    def relative_bias(self, rows: Any) -> Any:
        """Returns what every layer of MPNet adds to its attention logits in these rows; None for all other models."""
        return None if self.relative_position_embeddings is None else self.relative_position_embeddings(rows.columns())


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class BertEncoder(LayerwiseEncoder):
    """BERT (Devlin et al. 2019) as a Keras layer that returns every layer.

    Equal to Hugging Face's `TFBertModel` on the same weights, to 1e-5 on all real tokens in every layer. Padding costs
    no dense work: that is done on the real tokens alone. For inputs and outputs see `EncoderContract`.

    Args:
        config: a `BertConfig`, or a dict of its fields. The encoder starts from random weights; `from_pretrained`
            reads a checkpoint.
        layers: the layers that `encoder_outputs` holds: an int, a list or a range of ints, or one of `"all"` (1 to L),
            `"all+embeddings"` (0 to L), `"lastN"` (as `"last4"`), `"first_last"`, `"a:b"` (a slice over 0 to L). Layer
            0 is the output of the embeddings; negative numbers count from the top.
        combine: how they are combined: None (a list), `"stack"`, `"concat"`, `"sum"`, `"mean"`, `"max"`, `"last"`,
            `"weighted"`, `"attention"`, or a `LayerCombination` with options.
        num_hidden_layers: keep only this many of the first layers; None keeps all. With fewer than all there is no
            pooled output, since the pooler was trained on the last layer.
        hidden_dropout: dropout rate of the embeddings and of both parts of each layer; None takes the configuration's.
        attention_dropout: dropout rate of the attention's softmax; None takes the configuration's.
        pooler: whether there is a `pooled_output`. Without one, a `fit` that would not use it does not warn of missing
            gradients.
        trainable: False freezes the pretrained weights and leaves the combination trainable. (Keras's attribute
            `encoder.trainable = False` freezes the combination too; `enable_lora` trains a small change of the
            pretrained weights.) The layers below the lowest trained one run as in inference: without dropout, and
            keeping nothing for a gradient.
        return_attention_scores: whether the outputs have `attention_scores`.
        recompute: whether training keeps only the input of each layer and computes the rest again for the gradient:
            less memory for more time.
        dtype: a dtype policy, such as `"mixed_bfloat16"`.
        name: name of the layer.

    Attributes:
        transformer_layers: the encoder layers 1 to L; `transformer_layers[0].trainable = False` freezes layer 1.
        combination: the `LayerCombination`, or None.

    Raises:
        ValueError: for unknown layers, modes and configurations that it cannot run.

    Example:

    >>> config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    ...                     intermediate_size=32)
    >>> encoder = BertEncoder(config, layers="all+embeddings", combine="concat")
    >>> outputs = encoder({"input_word_ids": [[2, 7, 3, 0]], "input_mask": [[1, 1, 1, 0]]})
    >>> outputs["encoder_outputs"].shape, outputs["pooled_output"].shape
    (TensorShape([1, 4, 48]), TensorShape([1, 16]))
    """

    def __init__(
        self,
        config: BertConfig | dict[str, Any],
        layers: int | str | Iterable[int] = "all",
        combine: str | LayerCombination | None = None,
        *,
        num_hidden_layers: int | None = None,
        hidden_dropout: float | None = None,
        attention_dropout: float | None = None,
        pooler: bool = True,
        trainable: bool = True,
        return_attention_scores: bool = False,
        recompute: bool = False,
        dtype: Any = None,
        name: str | None = None,
    ):
        super().__init__(dtype=dtype, name=name)
        config = BertConfig.from_dict(config) if isinstance(config, dict) else config
        if not isinstance(config, BertConfig):
            raise TypeError(
                f"Expected `config` to be a BertConfig or a dict of its fields. Received: config={config!r}. "
                "A checkpoint is read by BertEncoder.from_pretrained(...)."
            )
        self.config = config
        self.num_hidden_layers = num_hidden_layers
        self.num_layers = config.num_hidden_layers if num_hidden_layers is None else num_hidden_layers
        is_number = isinstance(self.num_layers, int) and not isinstance(self.num_layers, bool)
        if not is_number or not 1 <= self.num_layers <= config.num_hidden_layers:
            raise ValueError(
                f"Expected `num_hidden_layers` from 1 to {config.num_hidden_layers}, the number of layers of the "
                f"configuration. Received: num_hidden_layers={num_hidden_layers!r}."
            )
        self.hidden_size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.hidden_dropout = hidden_dropout
        self.attention_dropout = attention_dropout
        for argument, rate in (("hidden_dropout", hidden_dropout), ("attention_dropout", attention_dropout)):
            is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
            if rate is not None and not (is_number and 0 <= rate < 1):
                raise ValueError(
                    f"Expected `{argument}` to be at least 0 and below 1, or None for the configuration's. "
                    f"Received: {argument}={rate!r}."
                )
        dropout_rates = (
            config.hidden_dropout_prob if hidden_dropout is None else hidden_dropout,
            config.attention_probs_dropout_prob if attention_dropout is None else attention_dropout,
        )
        check_flags(pooler=pooler, recompute=recompute)
        # What ids are checked against. A model without segment embeddings ignores segment ids: None, any will do.
        self.vocab_size, self.type_vocab_size = config.vocab_size, config.type_vocab_size or None
        self.max_positions = config.max_position_embeddings - config.position_offset
        policy = self.dtype_policy
        self.embeddings = BertEmbeddings(config, dropout_rates[0], dtype=policy, name="embeddings")
        # In ALBERT several layers share their weights: these layers are one and the same block.
        block_numbers = [config.block_of(layer) for layer in range(1, self.num_layers + 1)]
        blocks = {
            number: TransformerBlock(config, *dropout_rates, dtype=policy, name=f"layer_{number}")
            for number in dict.fromkeys(block_numbers)
        }
        self.transformer_layers = [blocks[number] for number in block_numbers]
        self.recompute = recompute
        # What was asked for, for `get_config`; whether there is one depends on the layers too.
        self.pooler_wanted = pooler
        self.has_pooler = pooler and self.num_layers == config.num_hidden_layers
        if self.has_pooler:
            self.pooler = dense(config.hidden_size, config, "pooler", policy, activation="tanh")
        self.finish_init(layers, combine, trainable, return_attention_scores)

    @classmethod
    def from_pretrained(
        cls,
        source: Any,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **arguments: Any,
    ) -> "BertEncoder":
        """Makes an encoder with the configuration and the weights of a checkpoint.

        Args:
            source: a directory in Hugging Face's format, the id of a Hugging Face repository, or a TensorFlow model of
                transformers in memory, whose weights are copied, of one of the types that `BertConfig` knows: BERT,
                DistilBERT, ELECTRA, MPNet, RoBERTa, XLM-R, CamemBERT, ALBERT.
            revision: branch, tag or commit of the repository.
            cache_dir: directory to download to, in place of Hugging Face's own cache.
            token: access token for the repository, in place of the environment variable `HF_TOKEN`.
            local_files_only: use only what was downloaded before.
            **arguments: those of the constructor but `config`. Layers above `num_hidden_layers` are not read, and where
                the checkpoint has no pooler there is none.

        Returns:
            The `BertEncoder`, built.

        Raises:
            FileNotFoundError, NotADirectoryError, PermissionError, OSError: if the files cannot be found or downloaded.
            ValueError: if they are not a BERT that this class can run, or their weights do not fit.

        Example:

        ```python
        encoder = BertEncoder.from_pretrained("google-bert/bert-base-uncased", layers="last4", combine="weighted")
        ```
        """
        checkpoint = read_checkpoint(
            source,
            num_hidden_layers=arguments.get("num_hidden_layers"),
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        if not checkpoint.has_pooler:
            arguments["pooler"] = False
        # Until `check` has found the stored shapes to be those of the configuration, the variables take no memory.
        # Range 0 starts them as zeros: to draw random numbers takes a second for BERT-base, and they are overwritten.
        with variables_without_values():
            encoder = cls(dataclasses.replace(checkpoint.config, initializer_range=0.0), **arguments)
            encoder.config = checkpoint.config
            pretrained = encoder._pretrained_variables()
            checkpoint.check({name: tuple(variable.shape) for name, variable in pretrained.items()})
        for weight_name, variable in pretrained.items():
            variable.assign(checkpoint[weight_name])
        return encoder

    def pretrained_weights(self) -> dict[str, np.ndarray]:
        """Gives the weights of BERT by the names that they have in every checkpoint here.

        Returns:
            float32 arrays, kernels `[inputs, outputs]`, under names such as `layer_3/attention/query/kernel`. What LoRA
            learned is added to the weights that it changes.

        Raises:
            ValueError: if the encoder is quantised.

        Example:

        >>> config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        ...                     intermediate_size=32)
        >>> BertEncoder(config).pretrained_weights()["embeddings/word_embeddings"].shape
        (100, 16)
        """
        inside = self._sublayers()
        modes = {layer.dtype_policy.quantization_mode for layer in inside.values()} - {None}
        if modes:
            raise ValueError(
                f"Expected an encoder whose weights are floating-point numbers. Received: {self.name!r}, quantised to "
                f"{', '.join(sorted(modes))}. Write it before it is quantised; an export is "
                'quantised by export_saved_model(..., quantize="int8"), which leaves the model as it is.'
            )
        weights = {
            name: keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
            for name, variable in self._pretrained_variables().items()
            if "/lora_" not in name
        }
        for path, layer in inside.items():
            if getattr(layer, "lora_enabled", False):
                weights[path if path in weights else f"{path}/kernel"] = merged_weight(layer)
        return weights

    def _pretrained_variables(self) -> dict[str, keras.Variable]:
        return {
            # A Keras Embedding calls its weight `embeddings`, below the layer's own name.
            variable.path.removeprefix(f"{self.path}/").removesuffix("/embeddings"): variable
            for layer in self.pretrained_layers
            for variable in layer.weights
        }

    @property
    def pretrained_layers(self) -> list[keras.layers.Layer]:
        # Each block once, however many of ALBERT's layers it is.
        blocks = dict.fromkeys(self.transformer_layers)
        return [self.embeddings, *blocks, *([self.pooler] if self.has_pooler else [])]

    def run(
        self, token_ids: Any, mask: Any, segment_ids: Any, collector: LayerCollector, training: bool
    ) -> EncoderStates:
        # Attention scores are returned `[batch, heads, sequence, sequence]`: then every text has a row of its own.
        layout = choose_layout(mask, training, one_text_each=bool(collector.keep_scores))
        call_embeddings, *layers = layer_calls(
            [self.embeddings, *self.transformer_layers],
            training,
            # Layers that are computed again return no scores.
            recompute=self.recompute and not collector.keep_scores,
        )

        # Called by `layout.run`: once, or once for each half of the batch.
        def run_layers(tokens: Any, rows: Any) -> Any:
            collection = collector.start()
            # `take` returns the same tokens, but the next layer then waits until they are combined.
            tokens = collection.take(0, tokens)
            bias = self.embeddings.relative_bias(rows)
            for number, call_layer in enumerate(layers, start=1):
                tokens, scores = call_layer(tokens, rows=rows, bias=bias)
                tokens = collection.take(number, tokens, scores)
            return collection.result()

        ids = (token_ids, self._position_ids(token_ids, mask), segment_ids)
        # From `[batch, sequence]` to `[tokens]`; what `layout.run` returns is `[batch, sequence, hidden]` again.
        tokens = call_embeddings(*map(layout.pack, ids))
        states, combined = layout.run(run_layers, tokens, self.num_heads)
        # The first token is [CLS].
        pooled_output = self.pooler(states[self.num_layers][:, 0]) if self.has_pooler else None
        return EncoderStates(states, combined, pooled_output)

    def _position_ids(self, token_ids: Any, mask: Any) -> Any:
        if self.config.position_offset:
            # As RoBERTa numbers them: only real tokens count, and padding has the number before the first.
            is_real = tf.cast(mask, "int32")
            return tf.cumsum(is_real, axis=1) * is_real + self.config.position_offset - 1
        return tf.zeros_like(token_ids) + tf.range(tf.shape(token_ids)[1])

    def enable_lora(self, rank: int) -> None:
        r"""Freezes the pretrained weights and lets training learn a low-rank change of them (Hu et al. 2021).

        The query and value kernels \(W\) of every layer become \(W + A B\) with A `[hidden, rank]` and B
        `[rank, hidden]`; B is zero at first. These and the combination train, also in an encoder that was made with
        `trainable=False`. `.keras` files keep A and B beside \(W\), and files without LoRA can be loaded too. Compile
        the model after this call.

        Args:
            rank: the number of columns of A, such as 8.

        Raises:
            ValueError: if `rank` is no number from 1 to the hidden size, or LoRA is on already.

        Example:

        >>> config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        ...                     intermediate_size=32)
        >>> encoder = BertEncoder(config, layers=-1)
        >>> encoder.enable_lora(4)
        >>> [weight.name for weight in encoder.trainable_weights]
        ['lora_kernel_a', 'lora_kernel_b', 'lora_kernel_a', 'lora_kernel_b', 'lora_kernel_a', ...]
        """
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= self.hidden_size:
            raise ValueError(
                f"Expected `rank` to be an integer from 1 to {self.hidden_size}, the hidden size. "
                f"Received: rank={rank!r}."
            )
        if has_lora(self):
            raise ValueError(
                f"Expected an encoder without LoRA. Received: {self.name!r}, which has it. Make another encoder for "
                "another rank."
            )
        for block in dict.fromkeys(self.transformer_layers):
            for layer in (block.attention.query, block.attention.value):
                layer.enable_lora(rank)
        if not self.trainable:  # type: ignore[has-type]
            self.trainable = True
        freeze_all_but_lora(self.pretrained_layers)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "trainable" and value and has_lora(self):
            # Thawed after training the head alone, say: LoRA trains again, and the pretrained weights stay frozen.
            freeze_all_but_lora(self.pretrained_layers)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": dataclasses.asdict(self.config),
            "num_hidden_layers": self.num_hidden_layers,
            "hidden_dropout": self.hidden_dropout,
            "attention_dropout": self.attention_dropout,
            "pooler": self.pooler_wanted,
            "recompute": self.recompute,
        }
