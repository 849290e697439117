"""Which tokens of a batch `[batch, sequence]` the layers run on, as one matrix `[tokens, hidden]`.

A layout makes that matrix (`pack`), runs the layers on it with the rows that attention needs (`run`, which makes those
of `attention_rows.py`), and returns `[batch, sequence, hidden]` again (`unpack`, which `run` does too).

| layout | tokens are | for |
|---|---|---|
| `PaddedLayout` | all of `batch * sequence` | XLA, which needs static shapes |
| `HalvedLayout` | the real ones, of two halves of the batch | inference graphs on CPU, unless scores are asked for |
| `PackedLayout` | the real ones | everything else, such as training |
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_layers.encoders.attention_rows import PackedRows, PaddedRows
from keras_bert_layers.encoders.execution import is_cpu_inference_graph
from keras_bert_layers.keras_compatibility import compiled_by_xla


def choose_layout(mask: Any, training: bool, one_text_each: bool = False) -> "PaddedLayout | PackedLayout":
    """Returns the fastest layout for the executor that will run what is built now.

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.
        training: whether there will be a gradient.
        one_text_each: whether each row of attention is to be one text of the batch, `sequence` long, as in attention
            scores that are returned.
    """
    if not compiled_by_xla() and not one_text_each and is_cpu_inference_graph(training):
        return HalvedLayout(mask)
    return choose_whole_layout(mask, one_text_each)


def choose_whole_layout(mask: Any, one_text_each: bool = False) -> "PaddedLayout | PackedLayout":
    """Returns the layout as `choose_layout` does, but never one of halves."""
    return PaddedLayout(mask) if compiled_by_xla() else PackedLayout(mask, one_text_each)


class PaddedLayout:
    """Keeps the padding: tokens are all of `batch * sequence`.

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.

    Attributes:
        token_numbers: int32 `[batch, sequence]`, the number of the token that stands there, which is its row in
            `[tokens, hidden]`; at padding that of some other.
        is_static: whether the number of tokens follows from the shape of the mask alone.
    """

    is_static = True

    def __init__(self, mask: Any):
        self.mask = mask
        self.token_numbers = tf.reshape(tf.range(tf.size(mask)), tf.shape(mask))

    def pack(self, padded: Any) -> Any:
        """`[batch, sequence, ...]` -> `[tokens, ...]`."""
        return tf.reshape(padded, [-1, *padded.shape[2:]])

    def unpack(self, tokens: Any) -> Any:
        """`[tokens, hidden]` -> `[batch, sequence, hidden]`, zero at padding."""
        shape = tf.concat([tf.shape(self.mask), [tokens.shape[-1]]], axis=0)
        return tf.where(self.mask[..., None], tf.reshape(tokens, shape), 0)

    def run(self, layers: Callable[[Any, Any], Any], tokens: Any, num_heads: int) -> Any:
        """Runs layers on the tokens.

        Args:
            layers: called with `[tokens, hidden]` and the rows of attention (`PaddedRows` or `PackedRows`); returns
                any structure of tensors `[tokens, ...]`.
            tokens: `[tokens, hidden]`.
            num_heads: number of attention heads, for the rows.

        Returns:
            What `layers` returns, each tensor unpacked.
        """
        return tf.nest.map_structure(self.unpack, layers(tokens, PaddedRows(self.mask, num_heads)))


class PackedLayout:
    """Leaves the padding out: tokens are the real ones of the batch, in its order.

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.
        one_text_each: as in `choose_layout`.

    Attributes:
        token_numbers: as in `PaddedLayout`.
        positions: int32 `[tokens, 2]`, text and column of each token.
    """

    is_static = False

    def __init__(self, mask: Any, one_text_each: bool = False):
        # In a batch without any real token all count as real: from a matrix without rows nothing can be gathered.
        real = mask | ~tf.reduce_any(mask)
        order = tf.cumsum(tf.reshape(tf.cast(real, "int32"), [-1]))
        self.mask = mask
        self.positions = tf.cast(tf.where(real), "int32")
        self.token_numbers = tf.reshape(tf.maximum(order - 1, 0), tf.shape(mask))
        self._one_text_each = one_text_each

    def pack(self, padded: Any) -> Any:
        """`[batch, sequence, ...]` -> `[tokens, ...]`."""
        return tf.gather_nd(padded, self.positions)

    def unpack(self, tokens: Any) -> Any:
        """`[tokens, hidden]` -> `[batch, sequence, hidden]`, zero at padding."""
        return self._unpack(tokens)

    def run(self, layers: Callable[[Any, Any], Any], tokens: Any, num_heads: int) -> Any:
        """Runs layers on the tokens; see `PaddedLayout.run`."""
        rows = PackedRows(self.mask, self.positions, num_heads, self._one_text_each)
        return tf.nest.map_structure(self.unpack, layers(tokens, rows))

    def _unpack(self, *parts: Any) -> Any:
        """Parts `[tokens, hidden]`, whose tokens follow each other -> `[batch, sequence, hidden]`, zero at padding."""
        mask, hidden = self.mask, parts[0].shape[-1]
        shape = tf.concat([tf.shape(mask), [hidden]], axis=0)

        # The gradient is a gather, as in `PackedRows`.
        @tf.custom_gradient
        def unpack(*parts: Any) -> Any:
            counts = tf.stack([tf.shape(part)[0] for part in parts])

            def spread() -> Any:
                # A row of zeros, which padding takes, costs less than overwriting padding afterwards.
                with_zero = tf.concat([*parts, tf.zeros([1, hidden], parts[0].dtype)], axis=0)
                return tf.gather(with_zero, tf.where(mask, self.token_numbers, tf.reduce_sum(counts)))

            def backwards(gradient: Any) -> list[Any]:
                tokens = tf.gather_nd(tf.where(mask[..., None], gradient, 0), self.positions)
                return tf.split(tokens, counts, num=len(parts))

            has_no_padding = tf.reduce_all(mask)
            return tf.cond(has_no_padding, lambda: tf.reshape(tf.concat(parts, axis=0), shape), spread), backwards

        return unpack(*parts)


class HalvedLayout(PackedLayout):
    """A `PackedLayout` that runs the layers on two halves of the batch, which do not wait for each other.

    Threads of TensorFlow's executor that would wait for the last one in an operation of one half work on the other.
    """

    def run(self, layers: Callable[[Any, Any], Any], tokens: Any, num_heads: int) -> Any:
        """Runs layers on the tokens of each half; see `PaddedLayout.run`."""
        halves = [layers(half, PackedRows(mask, positions, num_heads)) for half, mask, positions in self.halves(tokens)]
        return tf.nest.map_structure(self._unpack, *halves)

    def halves(self, tokens: Any) -> Sequence[tuple[Any, Any, Any]]:
        """Splits the batch between two texts, so that about half of the tokens are on either side.

        Args:
            tokens: `[tokens, ...]`.

        Returns:
            For each half: its tokens, `mask` and `positions`. The first half is empty where the first text with tokens
            has more than half of them.
        """
        text_of_token = self.positions[:, 0]
        middle = tf.size(text_of_token) // 2
        # The second half begins with this text; as a sum, for an empty batch has no token in the middle.
        cut = tf.reduce_sum(text_of_token[middle : middle + 1])
        count = tf.math.count_nonzero(text_of_token < cut, dtype="int32")
        # Texts without tokens make no first half of their own.
        cut = tf.where(count > 0, cut, 0)
        return [
            (tokens[:count], self.mask[:cut], self.positions[:count]),
            (tokens[count:], self.mask[cut:], self.positions[count:] - [cut, 0]),
        ]
