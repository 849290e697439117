"""The rows that attention works on, `[rows, heads, length, head_size]`: the way there and back."""

from typing import Any

import tensorflow as tf


class PaddedRows:
    """A row for each text of a batch whose tokens are all of `batch * sequence`.

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.
        num_heads: number of attention heads.

    Attributes:
        visible: bool, broadcastable to `[rows, heads, length, length]`: where a token may look.
    """

    def __init__(self, mask: Any, num_heads: int):
        self._mask = mask
        self._num_heads = num_heads
        self.visible = mask[:, None, None, :]

    def columns(self) -> Any:
        """Returns where the tokens of a row stand in their texts: int32 `[1, length]`."""
        return tf.range(tf.shape(self._mask)[1])[None]

    def split(self, tokens: Any) -> Any:
        """`[tokens, hidden]` -> `[rows, heads, length, head_size]`."""
        batch, sequence = tf.unstack(tf.shape(self._mask))
        head_size = tokens.shape[-1] // self._num_heads
        return tf.transpose(tf.reshape(tokens, [batch, sequence, self._num_heads, head_size]), [0, 2, 1, 3])

    def join(self, heads: Any) -> Any:
        """`[rows, heads, length, head_size]` -> `[tokens, hidden]`."""
        _, num_heads, _, head_size = heads.shape
        return tf.reshape(tf.transpose(heads, [0, 2, 1, 3]), [-1, num_heads * head_size])


class PackedRows:
    """Rows with room for the longest text, for a batch whose tokens are the real ones alone.

    Of the texts that are at most 1/k of the longest, k share a row, and see only their own: a batch of many short texts
    and a long one then costs little more than its real tokens. Each way is one gather, and so is its gradient, for
    every token stands in exactly one slot.

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.
        positions: int32 `[tokens, 2]`, text and column of each token.
        num_heads: number of attention heads.
        one_text_each: whether the rows are to be those of the batch, as attention scores are.

    Attributes:
        visible: bool `[rows, 1, length or 1, length]`: where a token may look.
    """

    def __init__(self, mask: Any, positions: Any, num_heads: int, one_text_each: bool = False):
        texts, columns = tf.unstack(positions, axis=1)
        numbers = tf.range(tf.size(texts))
        is_shared = tf.constant(False)
        if one_text_each:
            rows, length = tf.unstack(tf.shape(mask))
            slots = texts * length + columns
        else:
            lengths = tf.math.bincount(texts, minlength=tf.shape(mask)[0])
            length = tf.maximum(tf.reduce_max(lengths), 0)  # of no text the maximum is below
            sharing = length // tf.maximum(lengths, 1)
            # Texts that share with as many others follow each other, and every so many of them a row begins.
            order = tf.argsort(sharing, stable=True)
            sharing = tf.gather(sharing, order)
            turn = (tf.range(tf.size(order)) - tf.searchsorted(sharing, sharing)) % sharing
            begins = tf.cast(turn == 0, "int32")
            row, rows = tf.cumsum(begins) - 1, tf.reduce_sum(begins)
            is_shared = tf.reduce_any((turn > 0) & (tf.gather(lengths, order) > 0))
            starts = tf.gather(row * length + turn * (length // sharing), tf.argsort(order))
            slots = tf.gather(starts - tf.cumsum(lengths, exclusive=True), texts) + numbers
        token_of_slot = tf.reshape(tf.scatter_nd(slots[:, None], numbers, [rows * length]), [rows, length])
        owners = tf.reshape(tf.scatter_nd(slots[:, None], texts + 1, [rows * length]), [rows, length])
        is_filled = owners > 0
        # Where each row is one text, all its tokens see the same.
        queries = tf.cond(is_shared, lambda: owners, lambda: tf.reduce_max(owners, axis=1, keepdims=True))
        self._slots, self._columns, self._shape = slots, columns, [rows, length]
        row, column = (slots // length)[:, None], (slots % length)[:, None]
        heads = tf.range(num_heads)
        self.visible = ((queries[:, :, None] == owners[:, None, :]) & is_filled[:, None])[:, None]
        self._num_heads = num_heads
        # bool `[rows, 1, length, 1]`
        self._slot_is_filled = is_filled[:, None, :, None]
        # int32 `[rows, heads, length]`: what stands in the slot, as a row of the matrix `[tokens * heads, head_size]`;
        # any where nothing does.
        self._token_of_slot = token_of_slot[:, None, :] * num_heads + heads[:, None]
        # int32 `[tokens, heads]`: the way back, as a row of the matrix `[rows * heads * length, head_size]`.
        self._slot_of_token = (row * num_heads + heads) * length + column

    def columns(self) -> Any:
        """Returns where the tokens of a row stand in their texts: int32 `[rows, length]`, any in a slot without one."""
        rows, length = self._shape
        return tf.reshape(tf.scatter_nd(self._slots[:, None], self._columns, [rows * length]), [rows, length])

    def split(self, tokens: Any) -> Any:
        """`[tokens, hidden]` -> `[rows, heads, length, head_size]`."""
        head_size = tokens.shape[-1] // self._num_heads

        @tf.custom_gradient
        def split(tokens: Any) -> Any:
            # The gradient of a slot without a token is zero: no token's context depends on it.
            heads = _take(tokens, self._token_of_slot, head_size)
            return heads, lambda gradient: tf.reshape(_take(gradient, self._slot_of_token, head_size), tf.shape(tokens))

        return split(tokens)

    def join(self, heads: Any) -> Any:
        """`[rows, heads, length, head_size]` -> `[tokens, hidden]`."""
        _, num_heads, _, head_size = heads.shape

        @tf.custom_gradient
        def join(heads: Any) -> Any:
            def backwards(gradient: Any) -> Any:
                return tf.where(self._slot_is_filled, _take(gradient, self._token_of_slot, head_size), 0)

            return _take(heads, self._slot_of_token, head_size), backwards

        return tf.reshape(join(heads), [-1, num_heads * head_size])


def _take(values: Any, index: Any, head_size: int) -> Any:
    """The rows `index` of `values` as a matrix `[..., head_size]`."""
    return tf.gather(tf.reshape(values, [-1, head_size]), index)
