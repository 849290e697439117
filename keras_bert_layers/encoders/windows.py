"""Which windows a batch of documents is cut into, and how their states are merged; see `WindowedEncoder`."""

import dataclasses
import warnings
from typing import Any

import tensorflow as tf
from keras import ops

from keras_bert_layers.encoders.token_layout import PackedLayout, PaddedLayout, choose_whole_layout
from keras_bert_layers.token_inputs import TFHUB_NAMES

_FAR = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows of a batch of documents: a batch of `rows` windows of `width` slots, one slot for each token.

    Attributes:
        layout: of `exists`: where the rows stand in `[batch, windows]`.
        exists: bool `[batch, windows]`.
        columns: int32 `[rows, width]`, the column of the document whose token stands in the slot.
        tokens: int32 `[rows, width]`, the same as a number in the flattened `[batch * sequence]`.
        filled: bool `[rows, width]`, true where a token of the document stands, false at padding.
        kept: bool `[batch, sequence]`, the mask of the document without what no window reaches.
        lengths: int32 `[batch, 1]`, of the part of the document that the windows hold.
        counts: int32 `[batch, 1]`, the number of windows.
        heads: the number of tokens that each window repeats at its start: 1, or int32 `[batch, 1]`.
        steps: columns from the start of one window to that of the next; an int, or int32 `[batch, 1]`.
    """

    cutting: "WindowCutting"
    layout: PaddedLayout | PackedLayout
    exists: Any
    columns: Any
    tokens: Any
    filled: Any
    kept: Any
    lengths: Any
    counts: Any
    heads: Any
    steps: Any

    @property
    def rows(self) -> Any:
        """int32 `[batch, windows]`, the number of the row; that of some other where the window does not exist."""
        return self.layout.token_numbers

    def inputs(self, token_ids: Any, mask: Any, segment_ids: Any) -> dict[str, Any]:
        """The encoder's inputs of the documents, `[batch, sequence]` -> those of the windows, `[rows, width]`."""

        def gather(values: Any) -> Any:
            return tf.gather(tf.reshape(values, [-1]), self.tokens)

        values = (gather(token_ids), gather(mask) & self.filled, gather(segment_ids))
        return dict(zip(TFHUB_NAMES, values, strict=True))

    def spread(self, values: Any) -> Any:
        """`[rows, ...]` -> `[batch, windows, ...]`, zero or False at windows that do not exist."""
        spread = tf.gather(values, self.rows)
        exists = tf.reshape(self.exists, [*tf.unstack(tf.shape(self.exists)), *[1] * (len(spread.shape) - 2)])
        return tf.where(exists, spread, tf.zeros([], spread.dtype))

    def merge_tokens(self, states: Any, merge: str) -> Any:
        """`[rows, width, hidden]` -> `[batch, sequence, hidden]`, zero at padding."""
        hidden, shape = states.shape[-1], tf.shape(self.kept)
        states = tf.reshape(states, [-1, hidden])
        if merge == "mean":
            tokens = tf.reshape(tf.where(self.filled, self.tokens, -1), [-1])
            states = _segment_mean(states, tokens, tf.reduce_prod(shape))
            merged = tf.reshape(states, [shape[0], shape[1], hidden])
        else:
            merged = tf.gather(states, self._slots_of_most_context())
        return tf.where(self.kept[..., None], merged, 0)

    def merge_rows(self, vectors: Any, merge: str) -> Any:
        """`[rows, hidden]` -> `[batch, hidden]`."""
        if merge == "max_context":
            return tf.gather(vectors, self.rows[:, 0])
        batch = tf.shape(self.exists)[0]
        documents = tf.where(self.exists, tf.range(batch)[:, None], -1)
        return _segment_mean(vectors, self.layout.pack(documents), batch)

    def _slots_of_most_context(self) -> Any:
        """The slot in the flattened `[rows * width]` that each token's state is taken from; int32 `[batch, sequence]`.

        At padding it is any slot.
        """
        cutting, heads, steps = self.cutting, self.heads, self.steps
        pieces, last_piece = cutting.window - 1 - heads, self.lengths - 2
        column = tf.range(tf.shape(self.kept)[1])
        last_window = tf.minimum(tf.maximum(column - heads, 0) // steps, self.counts - 1)
        # The windows that a piece may stand in, in their order.
        overlap = cutting.max_windows
        if cutting.repeat_first_segment:
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
        best = tf.where(column > last_piece, self.counts - 1, best)
        best = tf.where(column < self.heads, 0, best)
        width = tf.shape(self.columns)[1]
        return tf.gather(self.rows, best, batch_dims=1) * width + tf.clip_by_value(
            column - best * self.steps, 0, width - 1
        )


@dataclasses.dataclass(frozen=True)
class WindowCutting:
    """How documents are cut: the arguments of `WindowedEncoder` that say so."""

    window: int
    stride: int
    max_windows: int
    repeat_first_segment: bool

    @property
    def step(self) -> int:
        """Columns from the start of one window to that of the next."""
        return self.window - 2 - self.stride

    def longest(self, steps: Any) -> Any:
        """The length of the longest document that is not cut, with its [CLS] and [SEP]."""
        return self.window + (self.max_windows - 1) * steps

    @property
    def what_is_cut(self) -> str:
        return (
            f"which is what {self.max_windows} windows of {self.window} that share {self.stride} hold; the tokens past "
            "them are masked out. Raise `max_windows` to keep them"
        )

    def number_of_windows(self, length: Any, step: Any) -> Any:
        """Windows that documents of `length` tokens need, at most `max_windows`; ints or int tensors."""
        minimum, maximum = (min, max) if isinstance(length, int) else (tf.minimum, tf.maximum)
        return minimum(1 - (self.window - maximum(length, self.window)) // step, self.max_windows)

    def most_windows(self, sequence: Any) -> Any:
        """Windows that a document in rows of `sequence` tokens may need."""
        # Where the first segments fill the windows, each brings one more token of the second.
        return self.number_of_windows(sequence, 1 if self.repeat_first_segment else self.step)

    def heads_and_steps(self, mask: Any, segment_ids: Any) -> tuple[Any, Any]:
        """`Windows.heads` and `Windows.steps`. In Keras's operations, for `compute_mask` is given symbols too."""
        if not self.repeat_first_segment:
            return 1, self.step
        place = ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1)
        in_second = ops.logical_and(mask, segment_ids > 0)
        first_of_second = ops.min(ops.where(in_second, place, _FAR), axis=1, keepdims=True)
        heads = ops.where(first_of_second < _FAR, first_of_second - 1, 1)
        return heads, ops.maximum(self.step + 1 - heads, 1)

    def kept(self, mask: Any, segment_ids: Any) -> Any:
        """The mask without what no window reaches. In Keras's operations, for `compute_mask` is given symbols too."""
        never_cut = self.window if self.repeat_first_segment else self.longest(self.step)
        if mask.shape[1] is not None and mask.shape[1] <= never_cut:
            return mask
        place = ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1)
        lengths = ops.max(ops.where(mask, place, 0), axis=1, keepdims=True)
        longest = self.longest(self.heads_and_steps(mask, segment_ids)[1])
        # Of a document that is cut, the last place that the windows hold belongs to the [SEP] of its last window.
        return ops.logical_and(mask, ops.logical_or(place < longest, lengths <= longest))

    def cut(self, mask: Any, segment_ids: Any, is_merged: bool) -> Windows:
        """Cuts the documents.

        Args:
            mask: bool `[batch, sequence]`, true on real tokens.
            segment_ids: int32 `[batch, sequence]`.
            is_merged: whether the outputs will not have the windows' width, which can then be that of the widest one.
        """
        batch = tf.shape(mask)[0]
        sequence = tf.shape(mask)[1] if mask.shape[1] is None else mask.shape[1]
        # A document ends with its last real token; the mask may have holes before.
        full_lengths = tf.reduce_max(tf.where(mask, tf.range(1, sequence + 1), 0), axis=1, keepdims=True)
        heads, steps = self.heads_and_steps(mask, segment_ids)
        if self.repeat_first_segment:
            full_lengths = self._check_heads(heads, full_lengths)
        longest = self.longest(steps)
        lengths = tf.minimum(full_lengths, longest)
        if tf.executing_eagerly():
            too_long = int(tf.reduce_sum(tf.cast(full_lengths > longest, "int32")))
            if too_long:
                warnings.warn(
                    f"{too_long} of {int(batch)} documents have more than {int(tf.reduce_min(longest))} tokens and are "
                    f"cut, {self.what_is_cut}.",
                    stacklevel=2,
                )
        counts = self.number_of_windows(lengths, steps)
        numbers = tf.range(self.most_windows(sequence))
        starts, exists = numbers * steps, numbers < counts
        layout = choose_whole_layout(exists)
        sizes = tf.where(exists, tf.minimum(lengths - starts, self.window), 0)
        is_static = isinstance(sequence, int)
        width = min(sequence, self.window) if is_static else tf.minimum(sequence, self.window)
        if is_merged and not layout.is_static and not (is_static and sequence <= self.window):
            # Of longer rows, only as many columns as any window fills. XLA wants to know the shape beforehand.
            width = tf.where(sequence > self.window, tf.maximum(tf.reduce_max(sizes), 1), width)

        def per_row(values: Any) -> Any:
            return layout.pack(tf.broadcast_to(values, tf.shape(exists)))[:, None]

        slots, row_sizes = tf.range(width), per_row(sizes)
        columns = tf.minimum(per_row(starts) + slots, sequence - 1)
        columns = tf.where(slots < (per_row(heads) if self.repeat_first_segment else heads), slots, columns)
        columns = tf.where(slots == row_sizes - 1, per_row(full_lengths) - 1, columns)
        return Windows(
            cutting=self,
            layout=layout,
            exists=exists,
            columns=columns,
            tokens=per_row(tf.range(batch)[:, None]) * sequence + columns,
            filled=slots < row_sizes,
            kept=tf.convert_to_tensor(self.kept(mask, segment_ids)),
            lengths=lengths,
            counts=counts,
            heads=heads,
            steps=steps,
        )

    def _check_heads(self, heads: Any, lengths: Any) -> Any:
        """Returns the lengths, of documents whose first segment has room in the windows that they need."""
        room = self.step
        has_room = tf.debugging.assert_less_equal(
            tf.where(lengths > self.window, heads, 1),
            room,
            f"With repeat_first_segment=True, WindowedEncoder expects first segments of at most {room} tokens, with "
            f"[CLS] and [SEP], in pairs of more than {self.window}: windows of {self.window} that share {self.stride} "
            "have no room for longer ones. Shorten the first texts, or lower `stride`.",
        )
        with tf.control_dependencies([] if has_room is None else [has_room]):
            return tf.identity(lengths)


def _segment_mean(values: Any, segments: Any, count: Any) -> Any:
    """The mean of the rows of each segment, in float32 and cast once; those of segment -1 are left out."""
    total = tf.math.unsorted_segment_sum(tf.cast(values, "float32"), segments, count)
    number = tf.math.unsorted_segment_sum(tf.ones_like(segments, "float32"), segments, count)
    return tf.cast(total / tf.maximum(number, 1.0)[:, None], values.dtype)
