import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import KerasTensor, ops

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.encoders.layerwise_encoder import LayerwiseEncoder
from keras_bert_layers.encoders.token_layout import PackedLayout, PaddedLayout, choose_whole_layout
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.token_inputs import HUGGINGFACE_NAMES, TFHUB_NAMES, family_of

MERGES = ("max_context", "mean", None)
_FAR = 2**31 - 1


class Windows(NamedTuple):
    """The windows of a batch of documents: a batch of `rows` windows of `width` slots, one slot for each token.

    Attributes:
        layout: of `exists`: where the rows stand in `[batch, windows]`.
        exists: bool `[batch, windows]`.
        rows: int32 `[batch, windows]`, the number of the row; that of some other where the window does not exist.
        columns: int32 `[rows, width]`, the column of the document whose token stands in the slot.
        tokens: int32 `[rows, width]`, the same as a number in the flattened `[batch * sequence]`.
        filled: bool `[rows, width]`, true where a token of the document stands, false at padding.
        kept: bool `[batch, sequence]`, the mask of the document without what no window reaches.
        lengths: int32 `[batch, 1]`, of the part of the document that the windows hold.
        counts: int32 `[batch, 1]`, the number of windows.
        heads: the number of tokens that each window repeats at its start: 1, or int32 `[batch, 1]`.
        steps: columns from the start of one window to that of the next; an int, or int32 `[batch, 1]`.
    """

    layout: PaddedLayout | PackedLayout
    exists: Any
    rows: Any
    columns: Any
    tokens: Any
    filled: Any
    kept: Any
    lengths: Any
    counts: Any
    heads: Any
    steps: Any


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
        return self.window + (self.max_windows - 1) * self._step

    @property
    def pretrained_layers(self) -> list[keras.layers.Layer]:
        return self.encoder.pretrained_layers

    # Properties, for Keras would take attributes for sublayers of this layer, beside those of the encoder.
    @property
    def combine(self) -> str | LayerCombination | None:  # type: ignore[override]
        """How the wrapped encoder combines its layers."""
        return self.encoder.combine

    @property
    def combination(self) -> LayerCombination | None:  # type: ignore[override]
        """The wrapped encoder's `LayerCombination`, or None."""
        return self.encoder.combination

    @property
    def _step(self) -> int:
        """Columns from the start of one window to that of the next."""
        return self.window - 2 - self.stride

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        token_ids, mask, segment_ids = self._standardize(inputs)
        windows = self._cut(mask, segment_ids)
        outputs = self.encoder(_window_inputs(windows, token_ids, mask, segment_ids), training=training)
        if self.merge is None:
            outputs = {
                **outputs,
                "window_mask": windows.exists,
                "window_positions": tf.where(outputs["mask"], windows.columns, 0),
            }
            return {
                key: value if key == "window_mask" else keras.tree.map_structure(lambda x: _spread(x, windows), value)
                for key, value in outputs.items()
            }
        merged: dict[str, Any] = {
            "sequence_output": self._merge_tokens(outputs["sequence_output"], windows),
            "mask": windows.kept,
        }
        states = outputs["encoder_outputs"]
        if isinstance(states, (list, tuple)):
            merged["encoder_outputs"] = [self._merge_tokens(state, windows) for state in states]
        elif len(states.shape) == 4:
            layers = [self._merge_tokens(state, windows) for state in tf.unstack(states, axis=1)]
            merged["encoder_outputs"] = tf.stack(layers, axis=1)
        else:
            merged["encoder_outputs"] = self._merge_tokens(states, windows)
        if self.has_pooler:
            merged["pooled_output"] = self._merge_rows(outputs["pooled_output"], windows)
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
        windows = self._cut(mask, segment_ids)
        window_inputs = _window_inputs(windows, token_ids, mask, segment_ids)
        states = self.encoder.hidden_states(window_inputs, layers, training)
        merge = _spread if self.merge is None else self._merge_tokens
        return [merge(state, windows) for state in states]

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
                    f"Documents of more than {self.max_tokens} tokens will be cut, {self._what_is_cut()}. "
                    f"Received: {name}.shape={tuple(value.shape)}.",
                    stacklevel=4,
                )
                break
        return checked

    def _segment_ids(self, inputs: dict[str, Any]) -> Any:
        return inputs.get(TFHUB_NAMES[2], inputs.get(HUGGINGFACE_NAMES[2]))

    def _what_is_cut(self) -> str:
        return (
            f"which is what {self.max_windows} windows of {self.window} that share {self.stride} hold; the tokens past "
            "them are masked out. Raise `max_windows` to keep them"
        )

    def _number_of_windows(self, length: Any, step: Any) -> Any:
        """Windows that documents of `length` tokens need, at most `max_windows`; ints or int tensors."""
        minimum, maximum = (min, max) if isinstance(length, int) else (tf.minimum, tf.maximum)
        return minimum(1 - (self.window - maximum(length, self.window)) // step, self.max_windows)

    def _most_windows(self, sequence: Any) -> Any:
        """Windows that a document in rows of `sequence` tokens may need."""
        # Where the first segments fill the windows, each brings one more token of the second.
        return self._number_of_windows(sequence, 1 if self.repeat_first_segment else self._step)

    def _heads_and_steps(self, mask: Any, segment_ids: Any) -> tuple[Any, Any]:
        """`Windows.heads` and `Windows.steps`. In Keras's operations, for `compute_mask` is given symbols too."""
        if not self.repeat_first_segment:
            return 1, self._step
        place = ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1)
        in_second = ops.logical_and(mask, segment_ids > 0)
        first_of_second = ops.min(ops.where(in_second, place, _FAR), axis=1, keepdims=True)
        heads = ops.where(first_of_second < _FAR, first_of_second - 1, 1)
        return heads, ops.maximum(self._step + 1 - heads, 1)

    def _kept(self, mask: Any, segment_ids: Any) -> Any:
        """The mask without what no window reaches. In Keras's operations, for `compute_mask` is given symbols too."""
        never_cut = self.window if self.repeat_first_segment else self.max_tokens
        if mask.shape[1] is not None and mask.shape[1] <= never_cut:
            return mask
        place = ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1)
        lengths = ops.max(ops.where(mask, place, 0), axis=1, keepdims=True)
        longest = self._longest(self._heads_and_steps(mask, segment_ids)[1])
        # Of a document that is cut, the last place that the windows hold belongs to the [SEP] of its last window.
        return ops.logical_and(mask, ops.logical_or(place < longest, lengths <= longest))

    def _longest(self, steps: Any) -> Any:
        return self.window + (self.max_windows - 1) * steps

    def _cut(self, mask: Any, segment_ids: Any) -> Windows:
        batch = tf.shape(mask)[0]
        sequence = tf.shape(mask)[1] if mask.shape[1] is None else mask.shape[1]
        # A document ends with its last real token; the mask may have holes before.
        full_lengths = tf.reduce_max(tf.where(mask, tf.range(1, sequence + 1), 0), axis=1, keepdims=True)
        heads, steps = self._heads_and_steps(mask, segment_ids)
        if self.repeat_first_segment:
            full_lengths = self._check_heads(heads, full_lengths)
        longest = self._longest(steps)
        lengths = tf.minimum(full_lengths, longest)
        if tf.executing_eagerly():
            too_long = int(tf.reduce_sum(tf.cast(full_lengths > longest, "int32")))
            if too_long:
                warnings.warn(
                    f"{too_long} of {int(batch)} documents have more than {int(tf.reduce_min(longest))} tokens and are "
                    f"cut, {self._what_is_cut()}.",
                    stacklevel=2,
                )
        counts = self._number_of_windows(lengths, steps)
        numbers = tf.range(self._most_windows(sequence))
        starts, exists = numbers * steps, numbers < counts
        layout = choose_whole_layout(exists)
        sizes = tf.where(exists, tf.minimum(lengths - starts, self.window), 0)
        is_static = isinstance(sequence, int)
        width = min(sequence, self.window) if is_static else tf.minimum(sequence, self.window)
        if self.merge is not None and not layout.is_static and not (is_static and sequence <= self.window):
            # Of longer rows, only as many columns as any window fills. XLA wants to know the shape beforehand.
            width = tf.where(sequence > self.window, tf.maximum(tf.reduce_max(sizes), 1), width)

        def per_row(values: Any) -> Any:
            return layout.pack(tf.broadcast_to(values, tf.shape(exists)))[:, None]

        slots, row_sizes = tf.range(width), per_row(sizes)
        columns = tf.minimum(per_row(starts) + slots, sequence - 1)
        columns = tf.where(slots < (per_row(heads) if self.repeat_first_segment else heads), slots, columns)
        columns = tf.where(slots == row_sizes - 1, per_row(full_lengths) - 1, columns)
        tokens = per_row(tf.range(batch)[:, None]) * sequence + columns
        kept, filled = tf.convert_to_tensor(self._kept(mask, segment_ids)), slots < row_sizes
        return Windows(
            layout, exists, layout.token_numbers, columns, tokens, filled, kept, lengths, counts, heads, steps
        )

    def _check_heads(self, heads: Any, lengths: Any) -> Any:
        """Returns the lengths, of documents whose first segment has room in the windows that they need."""
        room = self._step
        has_room = tf.debugging.assert_less_equal(
            tf.where(lengths > self.window, heads, 1),
            room,
            f"With repeat_first_segment=True, WindowedEncoder expects first segments of at most {room} tokens, with "
            f"[CLS] and [SEP], in pairs of more than {self.window}: windows of {self.window} that share {self.stride} "
            "have no room for longer ones. Shorten the first texts, or lower `stride`.",
        )
        with tf.control_dependencies([] if has_room is None else [has_room]):
            return tf.identity(lengths)

    def _merge_tokens(self, states: Any, windows: Windows) -> Any:
        """`[rows, width, hidden]` -> `[batch, sequence, hidden]`, zero at padding."""
        hidden, shape = states.shape[-1], tf.shape(windows.kept)
        states = tf.reshape(states, [-1, hidden])
        if self.merge == "mean":
            tokens = tf.reshape(tf.where(windows.filled, windows.tokens, -1), [-1])
            states = _segment_mean(states, tokens, tf.reduce_prod(shape))
            merged = tf.reshape(states, [shape[0], shape[1], hidden])
        else:
            merged = tf.gather(states, self._slots_of_most_context(windows))
        return tf.where(windows.kept[..., None], merged, 0)

    def _slots_of_most_context(self, windows: Windows) -> Any:
        """The slot in the flattened `[rows * width]` that each token's state is taken from; int32 `[batch, sequence]`.

        At padding it is any slot.
        """
        heads, steps = windows.heads, windows.steps
        pieces, last_piece = self.window - 1 - heads, windows.lengths - 2
        column = tf.range(tf.shape(windows.kept)[1])
        last_window = tf.minimum(tf.maximum(column - heads, 0) // steps, windows.counts - 1)
        # The windows that a piece may stand in, in their order.
        overlap = self.max_windows
        if self.repeat_first_segment:
            heads, steps, pieces = heads[..., None], steps[..., None], pieces[..., None]
        else:
            overlap = min(-(-pieces // steps), overlap)
        candidates = last_window[..., None] + tf.range(1 - overlap, 1)
        first = candidates * steps + heads
        last = tf.minimum(first + pieces - 1, last_piece[..., None])
        left, right = column[:, None] - first, last - column[:, None]
        # 100 times the score of run_squad.py, in integers. `argmax` takes the first of equal ones.
        score = 100 * tf.minimum(left, right) + (last - first + 1)
        score = tf.where((candidates >= 0) & (left >= 0) & (right >= 0), score, -1)
        best = last_window + (1 - overlap) + tf.argmax(score, axis=-1, output_type="int32")
        best = tf.where(column > last_piece, windows.counts - 1, best)
        best = tf.where(column < windows.heads, 0, best)
        width = tf.shape(windows.columns)[1]
        return tf.gather(windows.rows, best, batch_dims=1) * width + tf.clip_by_value(
            column - best * windows.steps, 0, width - 1
        )

    def _merge_rows(self, vectors: Any, windows: Windows) -> Any:
        """`[rows, hidden]` -> `[batch, hidden]`."""
        if self.merge == "max_context":
            return tf.gather(vectors, windows.rows[:, 0])
        batch = tf.shape(windows.exists)[0]
        documents = tf.where(windows.exists, tf.range(batch)[:, None], -1)
        return _segment_mean(vectors, windows.layout.pack(documents), batch)

    def compute_mask(self, inputs: dict[str, Any], previous_mask: Any = None) -> dict[str, Any] | None:  # type: ignore[override]
        if self.merge is None:
            # Keras takes axis 1 for the sequence, and here it is the window.
            return None
        kept = self._kept(self._mask(inputs), self._segment_ids(inputs))
        return self.encoder.compute_mask({TFHUB_NAMES[0]: kept, TFHUB_NAMES[1]: kept})

    def compute_output_spec(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        if self.merge is not None:
            outputs = self.encoder.compute_output_spec(inputs)
            # As `compute_mask` has it, but taken from the output, or its operations would be nodes of the user's model.
            for state in keras.tree.flatten([outputs["sequence_output"], outputs["encoder_outputs"]]):
                if len(state.shape) == 3:
                    state._keras_mask = outputs["mask"]
            return outputs
        names = family_of(inputs)
        batch, sequence = inputs[names[0]].shape
        width = None if sequence is None else min(sequence, self.window)
        count = None if sequence is None else self._most_windows(sequence)
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


def _window_inputs(windows: Windows, token_ids: Any, mask: Any, segment_ids: Any) -> dict[str, Any]:
    def gather(values: Any) -> Any:
        return tf.gather(tf.reshape(values, [-1]), windows.tokens)

    values = (gather(token_ids), gather(mask) & windows.filled, gather(segment_ids))
    return dict(zip(TFHUB_NAMES, values, strict=True))


def _spread(values: Any, windows: Windows) -> Any:
    """`[rows, ...]` -> `[batch, windows, ...]`, zero or False at windows that do not exist."""
    spread = tf.gather(values, windows.rows)
    exists = tf.reshape(windows.exists, [*tf.unstack(tf.shape(windows.exists)), *[1] * (len(spread.shape) - 2)])
    return tf.where(exists, spread, tf.zeros([], spread.dtype))


def _segment_mean(values: Any, segments: Any, count: Any) -> Any:
    """The mean of the rows of each segment, in float32 and cast once; those of segment -1 are left out."""
    total = tf.math.unsorted_segment_sum(tf.cast(values, "float32"), segments, count)
    number = tf.math.unsorted_segment_sum(tf.ones_like(segments, "float32"), segments, count)
    return tf.cast(total / tf.maximum(number, 1.0)[:, None], values.dtype)
