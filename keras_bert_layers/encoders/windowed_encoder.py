import warnings
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.encoders.layerwise_encoder import LayerwiseEncoder
from keras_bert_layers.encoders.windows import WindowCutting
from keras_bert_layers.keras_compatibility import set_implicit_mask
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.token_inputs import HUGGINGFACE_NAMES, TFHUB_NAMES, family_of

MERGES = ("max_context", "mean", None)


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class WindowedEncoder(EncoderContract):
    r"""Runs an encoder on documents that are longer than its positions, in overlapping windows, and joins the states.

    A document is one row `[CLS] w_1 ... w_n [SEP]`, padded at its end, of any length
    (`BertPreprocessor(..., long_documents=True)` makes them). Window \(k = 0, 1, \dots\) is

    \([CLS]\; w_{ks+1} \dots w_{ks+m}\; [SEP]\) with \(m = \mathrm{window} - 2\) and \(s = m - \mathrm{stride}\)

    up to the first window that reaches \(w_n\); its [CLS] and [SEP] are the row's own. All windows of the batch that
    exist run as one batch of `encoder`, whose outputs, layers already combined, are then merged:

    | merge | state of a piece | [CLS] | [SEP] | `pooled_output` |
    |---|---|---|---|---|
    | `"max_context"` | that of the window in which it has most context | first window | last window | first window |
    | `"mean"` | mean over the windows that it stands in | mean over all | mean over all | mean over all |
    | `None` | one row per window, nothing merged | | | |

    Most context is, as in the original `run_squad.py` (Devlin et al. 2019, `_check_is_max_context`), the largest
    \(\min(\mathrm{left}, \mathrm{right}) + 0.01 \, \mathrm{length}\), where left and right count the pieces of the
    window on both sides of the piece and length all of them; of equal windows it is the first.

    A document that fits one window gives what `encoder` gives. One that is longer than `max_windows` windows hold
    (`max_tokens`) is cut: pieces past the last window, and with them the document's own [SEP], are zero in the outputs
    and False in `mask`. An eager call warns of it, and a functional model when it is built on inputs so long.

    Inputs and outputs are those of `EncoderContract`, for any layers and any combination of `encoder`. With
    `merge=None` all outputs have the window as second axis, `sequence_output` being `[batch, windows, width, hidden]`
    and `mask` `[batch, windows, width]`, with as many windows as the padded length needs (at most `max_windows`) and
    width the smaller of `window` and the padded length. There are two more, and no implicit masks:

    | key | shape | what |
    |---|---|---|
    | `window_mask` | `[batch, windows]` bool | true on windows that exist; a document has at least one |
    | `window_positions` | `[batch, windows, width]` int32 | the document's column of each token; 0 at padding |

    Type ids go with their tokens. A pair is cut as one run of pieces. With `repeat_first_segment=True` its second
    segment alone is cut, and the first stands in each window, as for questions (Devlin et al. 2019, section 4.2):

    \([CLS]\; q_1 \dots q_a\; [SEP]\; c_{ks+1} \dots c_{ks+m}\; [SEP]\) with \(m = \mathrm{window} - a - 3\)

    and \(s = m - \mathrm{stride}\) for each pair: the windows of Hugging Face's tokenizers with
    `truncation="only_second", return_overflowing_tokens=True` and the same stride. The first segment ends where the
    type ids, which are then required, are no longer 0; it is merged as [CLS] is. Texts without a second segment are
    cut as above.

    Args:
        encoder: a `BertEncoder`, `HuggingFaceEncoder` or `TFHubEncoder`.
        window: tokens of a window, with its [CLS] and [SEP]; not more than the encoder's positions.
        stride: pieces that two neighbouring windows share, less than `window - 2`.
        max_windows: the number of windows after which a document is cut.
        merge: `"max_context"`, `"mean"` or None.
        repeat_first_segment: whether each window of a pair begins with its first segment.
        name: name of the layer.

    Attributes:
        encoder: the encoder, whose weights are this layer's.
        max_tokens: the length of the longest document that is not cut, with its [CLS] and [SEP]. Of a pair whose first
            segment is repeated, that is `max_windows - 1` less for each token of it.

    Raises:
        TypeError: if `encoder` is none of the three, or `repeat_first_segment` no bool.
        ValueError: if `window` has no room in the encoder's positions, for impossible `stride` and `max_windows`, an
            unknown `merge`, or merged attention scores; in a call with `repeat_first_segment`, without type ids.
        tf.errors.InvalidArgumentError: if a pair needs several windows and its first segment leaves no room in them.

    Example:

    >>> from keras_bert_layers import BertConfig, BertEncoder
    >>> config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    ...                     intermediate_size=32, max_position_embeddings=8)
    >>> encoder = WindowedEncoder(BertEncoder(config, combine="mean"), window=8, stride=2)
    >>> encoder.max_tokens
    68
    >>> outputs = encoder({"input_ids": [[2, *range(10, 30), 3]]})
    >>> outputs["encoder_outputs"].shape, outputs["pooled_output"].shape
    (TensorShape([1, 22, 16]), TensorShape([1, 16]))
    """

    def __init__(
        self,
        encoder: LayerwiseEncoder,
        window: int = 512,
        stride: int = 128,
        max_windows: int = 16,
        merge: str | None = "max_context",
        repeat_first_segment: bool = False,
        name: str | None = None,
    ):
        if not isinstance(encoder, LayerwiseEncoder):
            raise TypeError(
                "WindowedEncoder expects a BertEncoder, a HuggingFaceEncoder or a TFHubEncoder. "
                f"Received: encoder of type {type(encoder).__module__}.{type(encoder).__name__}."
            )
        super().__init__(dtype=encoder.dtype_policy, name=name)
        if not _is_int(window) or window < 3:
            raise ValueError(
                "Expected `window` to be an integer of at least 3: [CLS], a piece and [SEP]. "
                f"Received: window={window!r}."
            )
        positions = encoder.max_positions
        if positions is not None and window > positions:
            raise ValueError(
                f"Expected `window` to be at most {positions}: the encoder has no more positions. "
                f"Received: window={window!r}."
            )
        if not _is_int(stride) or not 0 <= stride < window - 2:
            raise ValueError(
                f"Expected `stride`, the pieces that two windows share, to be an integer from 0 to {window - 3}: a "
                f"window has {window - 2} pieces beside [CLS] and [SEP], and one at least must be new. "
                f"Received: stride={stride!r}, window={window!r}."
            )
        if not _is_int(max_windows) or max_windows < 1:
            raise ValueError(
                f"Expected `max_windows` to be an integer of at least 1. Received: max_windows={max_windows!r}."
            )
        if merge not in MERGES:
            raise ValueError(f'Expected `merge` to be "max_context", "mean" or None. Received: merge={merge!r}.')
        if encoder.return_attention_scores and merge is not None:
            raise ValueError(
                "Attention scores are between the tokens of one window, and two tokens of a document may share none or "
                f"several, so that they cannot be merged. Received: merge={merge!r} and an encoder with "
                "return_attention_scores=True. Give merge=None for the scores of each window, or an encoder without."
            )
        if not isinstance(repeat_first_segment, bool):
            raise TypeError(
                "Expected `repeat_first_segment` to be True or False. "
                f"Received: repeat_first_segment={repeat_first_segment!r}."
            )
        self.encoder = encoder
        self.window = window
        self.stride = stride
        self.max_windows = max_windows
        self._cutting = WindowCutting(window, stride, max_windows, repeat_first_segment)
        self.merge = merge
        self.repeat_first_segment = repeat_first_segment
        self.num_layers = encoder.num_layers
        self.hidden_size = encoder.hidden_size
        self.has_embeddings = encoder.has_embeddings
        self.has_pooler = encoder.has_pooler
        self.vocab_size, self.type_vocab_size = encoder.vocab_size, encoder.type_vocab_size
        self.layers = encoder.layers
        self.selected_layers = encoder.selected_layers
        self.return_attention_scores = encoder.return_attention_scores
        if encoder.return_attention_scores:
            self.num_heads = encoder.num_heads
        self.built = True

    @property
    def max_tokens(self) -> int:
        """The length of the longest document that is not cut, with its [CLS] and [SEP]."""
        return self._cutting.longest(self._cutting.step)

    @property
    def pretrained_layers(self) -> list[keras.layers.Layer]:
        return self.encoder.pretrained_layers

    # Properties, for Keras would take attributes for sublayers of this layer, beside those of the encoder.
    @property
    def combine(self) -> str | LayerCombination | None:
        """How the wrapped encoder combines its layers."""
        return self.encoder.combine

    @property
    def combination(self) -> LayerCombination | None:  # type: ignore[override]
        """The wrapped encoder's `LayerCombination`, or None."""
        return self.encoder.combination

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        token_ids, mask, segment_ids = self._standardize(inputs)
        windows = self._cutting.cut(mask, segment_ids, is_merged=self.merge is not None)
        outputs = self.encoder(windows.inputs(token_ids, mask, segment_ids), training=training)
        if self.merge is None:
            outputs = {
                **outputs,
                "window_mask": windows.exists,
                "window_positions": tf.where(outputs["mask"], windows.columns, 0),
            }
            return {
                key: value if key == "window_mask" else keras.tree.map_structure(windows.spread, value)
                for key, value in outputs.items()
            }
        merged: dict[str, Any] = {
            "sequence_output": windows.merge_tokens(outputs["sequence_output"], self.merge),
            "mask": windows.kept,
        }
        states = outputs["encoder_outputs"]
        if isinstance(states, (list, tuple)):
            merged["encoder_outputs"] = [windows.merge_tokens(state, self.merge) for state in states]
        elif self.combination is not None and not self.combination.has_sequence_axis:
            layers = [windows.merge_tokens(state, self.merge) for state in tf.unstack(states, axis=1)]
            merged["encoder_outputs"] = tf.stack(layers, axis=1)
        else:
            merged["encoder_outputs"] = windows.merge_tokens(states, self.merge)
        if self.has_pooler:
            merged["pooled_output"] = windows.merge_rows(outputs["pooled_output"], self.merge)
        return merged

    def hidden_states(self, inputs: Any, layers: int | str | Iterable[int] = "all", training: bool = False) -> list:
        """Returns the states of any layers, merged, whatever the encoder's constructor selected.

        Args:
            inputs, layers, training: as in `LayerwiseEncoder.hidden_states`.

        Returns:
            A list of tensors `[batch, sequence, hidden]`, or with `merge=None` `[batch, windows, width, hidden]`.

        Raises:
            ValueError: as `LayerwiseEncoder.hidden_states`.
        """
        inputs = self._check_inputs(inputs)
        if any(isinstance(value, KerasTensor) for value in inputs.values()):
            # Which the encoder refuses.
            return self.encoder.hidden_states(inputs, layers, training)
        token_ids, mask, segment_ids = self._standardize(inputs)
        windows = self._cutting.cut(mask, segment_ids, is_merged=self.merge is not None)
        window_inputs = windows.inputs(token_ids, mask, segment_ids)
        states = self.encoder.hidden_states(window_inputs, layers, training)
        if self.merge is None:
            return [windows.spread(state) for state in states]
        return [windows.merge_tokens(state, self.merge) for state in states]

    def _check_inputs(self, inputs: Any) -> dict[str, Any]:
        checked = super()._check_inputs(inputs)
        if self.repeat_first_segment and not {TFHUB_NAMES[2], HUGGINGFACE_NAMES[2]} & set(checked):
            raise ValueError(
                f"With repeat_first_segment=True, WindowedEncoder expects type ids, which say where the first segment "
                f"ends. Received: keys={sorted(inputs)}. Add {TFHUB_NAMES[2]!r} or {HUGGINGFACE_NAMES[2]!r}."
            )
        for name, value in checked.items():
            length = value.shape[1]
            if isinstance(value, KerasTensor) and length is not None and length > self.max_tokens:
                warnings.warn(
                    f"Documents of more than {self.max_tokens} tokens will be cut, {self._cutting.what_is_cut}. "
                    f"Received: {name}.shape={tuple(value.shape)}.",
                    stacklevel=4,
                )
                break
        return checked

    def _segment_ids(self, inputs: dict[str, Any]) -> Any:
        return inputs.get(TFHUB_NAMES[2], inputs.get(HUGGINGFACE_NAMES[2]))

    def compute_mask(self, inputs: dict[str, Any], previous_mask: Any = None) -> dict[str, Any] | None:  # type: ignore[override]
        if self.merge is None:
            # Keras takes axis 1 for the sequence, and here it is the window.
            return None
        kept = self._cutting.kept(self._mask(inputs), self._segment_ids(inputs))
        return self.encoder.compute_mask({TFHUB_NAMES[0]: kept, TFHUB_NAMES[1]: kept})

    def compute_output_spec(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        if self.merge is not None:
            outputs = self.encoder.compute_output_spec(inputs)
            # As `compute_mask` has it, but taken from the output, or its operations would be nodes of the user's model.
            for state in keras.tree.flatten([outputs["sequence_output"], outputs["encoder_outputs"]]):
                if len(state.shape) == 3:
                    set_implicit_mask(state, outputs["mask"])
            return outputs
        names = family_of(inputs)
        batch, sequence = inputs[names[0]].shape
        width = None if sequence is None else min(sequence, self.window)
        count = None if sequence is None else self._cutting.most_windows(sequence)
        outputs = self.encoder.compute_output_spec({TFHUB_NAMES[0]: KerasTensor((batch, width), "int32")})
        outputs["window_mask"] = KerasTensor((batch,), "bool", name="window_mask")
        outputs["window_positions"] = KerasTensor((batch, width), "int32", name="window_positions")
        return keras.tree.map_structure(
            lambda x: KerasTensor((batch, count, *x.shape[1:]), x.dtype, name=x.name), outputs
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "window": self.window,
            "stride": self.stride,
            "max_windows": self.max_windows,
            "merge": self.merge,
            "repeat_first_segment": self.repeat_first_segment,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WindowedEncoder":
        config = dict(config)
        trainable = config.pop("trainable", True)
        config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
        encoder = cls(**config)
        if not trainable:
            encoder.trainable = False
        return encoder


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
