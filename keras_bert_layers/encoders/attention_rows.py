"""How tokens `[tokens, hidden]` are laid out for attention, `[rows, heads, length, head_size]`, and brought back.

A row is what attention computes with at once: `length` slots, each of which holds a token or is empty. A token's column
is its place in its own text `[batch, sequence]`, whatever slot it is in.
"""

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

    Texts that are at most 1/k as long as the longest share a row, k at a time, and their tokens see only their own
    text: a batch of many short texts and a long one then costs little more than its real tokens. The way into the rows
    is one gather, and so are the way back and both gradients, since every token is in exactly one slot. (TensorFlow's
    own gradient of a gather must allow for tokens that were taken twice, and adds.)

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.
        positions: int32 `[tokens, 2]`, text and column of each token.
        num_heads: number of attention heads.
        one_text_each: whether each row is to be one text of the batch, `sequence` long, as in attention scores that
            are returned.

    Attributes:
        visible: bool `[rows, 1, length or 1, length]`: where a token may look.
    """

    def __init__(self, mask: Any, positions: Any, num_heads: int, one_text_each: bool = False):
        texts, columns = tf.unstack(positions, axis=1)
        token_numbers = tf.range(tf.size(texts))
        is_shared = tf.constant(False)
        if one_text_each:
            rows, length = tf.unstack(tf.shape(mask))
            slots = texts * length + columns
        else:
            lengths = tf.math.bincount(texts, minlength=tf.shape(mask)[0])
            length = tf.maximum(tf.reduce_max(lengths), 0)  # the maximum of no lengths is negative
            # For each text, how many of its length fit into a row. Sorted by that, texts with the same number follow
            # each other, and a row begins after every so many; `turn` counts the texts of a row from 0.
            sharing = length // tf.maximum(lengths, 1)
            order = tf.argsort(sharing, stable=True)
            sharing = tf.gather(sharing, order)
            turn = (tf.range(tf.size(order)) - tf.searchsorted(sharing, sharing)) % sharing
            begins = tf.cast(turn == 0, "int32")
            row_of_text, rows = tf.cumsum(begins) - 1, tf.reduce_sum(begins)
            is_shared = tf.reduce_any((turn > 0) & (tf.gather(lengths, order) > 0))
            # The slot of each text's first token, the texts in the order of the batch again.
            starts = tf.gather(row_of_text * length + turn * (length // sharing), tf.argsort(order))
            slots = tf.gather(starts - tf.cumsum(lengths, exclusive=True), texts) + token_numbers
        token_of_slot = tf.reshape(tf.scatter_nd(slots[:, None], token_numbers, [rows * length]), [rows, length])
        # The text in each slot, counted from 1; 0 is an empty slot.
        owners = tf.reshape(tf.scatter_nd(slots[:, None], texts + 1, [rows * length]), [rows, length])
        is_filled = owners > 0
        # Where no row is shared, all tokens of a row see the same, and one line of the mask does for all.
        queries = tf.cond(is_shared, lambda: owners, lambda: tf.reduce_max(owners, axis=1, keepdims=True))
        self._slots, self._columns, self._shape = slots, columns, [rows, length]
        row, column = (slots // length)[:, None], (slots % length)[:, None]
        heads = tf.range(num_heads)
        self.visible = ((queries[:, :, None] == owners[:, None, :]) & is_filled[:, None])[:, None]
        self._num_heads = num_heads
        # bool `[rows, 1, length, 1]`
        self._slot_is_filled = is_filled[:, None, :, None]
        # int32 `[rows, heads, length]`: what is in the slot, as an index into `[tokens * heads, head_size]`; for an
        # empty slot, any.
        self._token_of_slot = token_of_slot[:, None, :] * num_heads + heads[:, None]
        # int32 `[tokens, heads]`: the way back, as an index into `[rows * heads * length, head_size]`.
        self._slot_of_token = (row * num_heads + heads) * length + column

    def columns(self) -> Any:
        """Returns where the tokens of a row stand in their texts: int32 `[rows, length]`, any in an empty slot."""
        rows, length = self._shape
        return tf.reshape(tf.scatter_nd(self._slots[:, None], self._columns, [rows * length]), [rows, length])

    def split(self, tokens: Any) -> Any:
        """`[tokens, hidden]` -> `[rows, heads, length, head_size]`."""
        head_size = tokens.shape[-1] // self._num_heads

        @tf.custom_gradient
        def split(tokens: Any) -> Any:
            # The gradient of an empty slot is zero and need not be looked at: no token's context depends on it.
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
    """Takes `values` for a matrix `[..., head_size]` and returns its rows `index`."""
    return tf.gather(tf.reshape(values, [-1, head_size]), index)
