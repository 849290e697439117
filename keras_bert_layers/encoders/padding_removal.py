"""Between `[batch, sequence, ...]` with padding and `[tokens, ...]` without.

All dense work of `BertEncoder` is done on the real tokens of the batch alone. Only attention needs rows, and it makes
its own: several short texts share a row (`attention_layout`). Each way is one gather with an index that is computed
once for all layers, and so is its gradient, for every token stands in exactly one place.

XLA needs static shapes, so under XLA the same functions keep the padding: then tokens are all of `batch * sequence`.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from keras_bert_layers.keras_compatibility import onednn_is_on


def compiled_by_xla() -> bool:
    """Whether the graph under construction is one that XLA compiles."""
    if tf.executing_eagerly():
        return False
    # TensorFlow has no public way to ask.
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


@contextlib.contextmanager
def graph_for(target: str) -> Iterator[None]:
    """Graphs built inside are for `"cpu"` or `"gpu"`, whatever devices this machine has."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def run_by_cpu_executor(training: bool) -> bool:
    """Whether what is built now is an inference graph that TensorFlow's own executor runs on CPU."""
    if training or tf.executing_eagerly() or compiled_by_xla():
        return False
    target = _target.get()
    return not tf.config.list_physical_devices("GPU") if target is None else target == "cpu"


def run_with_onednn() -> bool:
    """Whether what is built now is to be fused by oneDNN: here if it is on, and in an export for CPU always.

    A server counts, and not the machine that makes the export (docs/processors.md).
    """
    return _target.get() == "cpu" or onednn_is_on()


def token_layout(mask: Any) -> dict[str, Any]:
    """Says where the tokens stand in the padded batch.

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.

    Returns:
        A dict of tensors: `mask`, `index` (int32 `[batch, sequence]`: the number of the token that stands there; at
        padding that of some other), and without XLA `positions` (int32 `[tokens, 2]`: row and column of each token).
    """
    if compiled_by_xla():
        return {"mask": mask, "index": tf.reshape(tf.range(tf.size(mask)), tf.shape(mask))}
    # A batch without any real token is computed as it stands: nothing could be gathered from no token.
    real = mask | ~tf.reduce_any(mask)
    order = tf.cumsum(tf.reshape(tf.cast(real, "int32"), [-1]))
    return {
        "mask": mask,
        "positions": tf.cast(tf.where(real), "int32"),
        "index": tf.reshape(tf.maximum(order - 1, 0), tf.shape(mask)),
    }


def halves(tokens: Any, layout: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Splits a batch between two texts, so that about half of the tokens are on either side.

    Args:
        tokens: `[tokens, ...]`.
        layout: of `token_layout`, without XLA.

    Returns:
        Two pairs of tokens and their `mask` and `positions`. The first has no texts where one text has the first half
        of all tokens.
    """
    mask, positions = layout["mask"], layout["positions"]
    texts = positions[:, 0]
    middle = tf.size(texts) // 2
    text = tf.reduce_sum(texts[middle : middle + 1])  # the sum, for there may be no token
    count = tf.math.count_nonzero(texts < text, dtype="int32")
    text = tf.where(count > 0, text, 0)  # texts without tokens stay with the others
    return [
        (tokens[:count], {"mask": mask[:text], "positions": positions[:count]}),
        (tokens[count:], {"mask": mask[text:], "positions": positions[count:] - [text, 0]}),
    ]


def attention_layout(layout: dict[str, Any], num_heads: int, rows_are_texts: bool) -> dict[str, Any]:
    """Adds to a `token_layout` the rows that attention works on.

    A row has room for the longest text. Of the texts that are at most 1/k of that, k share a row, and see only
    their own: a batch of many short texts and a long one then costs little more than its real tokens.

    Args:
        layout: of `token_layout`.
        num_heads: number of attention heads.
        rows_are_texts: whether the rows are to be those of the batch, as the attention scores are.

    Returns:
        `layout` with `visible` (bool `[rows, 1, length or 1, length]`: where a token may look), and without XLA `slots`
        (int32 `[rows, heads, length]`: what stands there, as a row of the matrix `[tokens * heads, head_size]`; any
        where nothing does), `occupied` (bool `[rows, 1, length, 1]`: whether something does) and `places` (int32
        `[tokens, heads]`: the way back, as a row of the matrix `[rows * heads * length, head_size]`).
    """
    mask = layout["mask"]
    if "positions" not in layout:
        return {**layout, "visible": mask[:, None, None, :]}
    texts, columns = tf.unstack(layout["positions"], axis=1)
    numbers = tf.range(tf.size(texts))
    shared = tf.constant(False)
    if rows_are_texts:
        rows, length = tf.unstack(tf.shape(mask))
        places = texts * length + columns
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
        shared = tf.reduce_any((turn > 0) & (tf.gather(lengths, order) > 0))
        starts = tf.gather(row * length + turn * (length // sharing), tf.argsort(order))
        places = tf.gather(starts - tf.cumsum(lengths, exclusive=True), texts) + numbers
    tokens = tf.reshape(tf.scatter_nd(places[:, None], numbers, [rows * length]), [rows, length])
    owners = tf.reshape(tf.scatter_nd(places[:, None], texts + 1, [rows * length]), [rows, length])
    occupied = owners > 0
    # Where each row is one text, all its tokens see the same.
    queries = tf.cond(shared, lambda: owners, lambda: tf.reduce_max(owners, axis=1, keepdims=True))
    row, column = (places // length)[:, None], (places % length)[:, None]
    heads = tf.range(num_heads)
    return {
        **layout,
        "visible": ((queries[:, :, None] == owners[:, None, :]) & occupied[:, None])[:, None],
        "occupied": occupied[:, None, :, None],
        "slots": tokens[:, None, :] * num_heads + heads[:, None],
        "places": (row * num_heads + heads) * length + column,
    }


def remove_padding(padded: Any, layout: dict[str, Any]) -> Any:
    """`[batch, sequence, ...]` -> `[tokens, ...]`."""
    if "positions" in layout:
        return tf.gather_nd(padded, layout["positions"])
    return tf.reshape(padded, [-1, *padded.shape[2:]])


def restore_padding(parts: list[Any], layout: dict[str, Any]) -> Any:
    """A list of `[tokens, hidden]`, whose tokens follow each other -> `[batch, sequence, hidden]`, zero at padding."""
    mask, hidden = layout["mask"], parts[0].shape[-1]
    shape = tf.concat([tf.shape(mask), [hidden]], axis=0)
    if "positions" not in layout:
        return tf.where(mask[..., None], tf.reshape(parts[0], shape), 0)

    @tf.custom_gradient
    def restore(*parts: Any) -> Any:
        counts = tf.stack([tf.shape(part)[0] for part in parts])

        def spread() -> Any:
            # A row of zeros for padding costs less than to overwrite padding afterwards.
            with_zero = tf.concat([*parts, tf.zeros([1, hidden], parts[0].dtype)], axis=0)
            return tf.gather(with_zero, tf.where(mask, layout["index"], tf.reduce_sum(counts)))

        def backwards(gradient: Any) -> list[Any]:
            tokens = tf.gather_nd(tf.where(mask[..., None], gradient, 0), layout["positions"])
            return tf.split(tokens, counts, num=len(parts))

        without_padding = tf.reduce_all(mask)
        return tf.cond(without_padding, lambda: tf.reshape(tf.concat(parts, axis=0), shape), spread), backwards

    return restore(*parts)


def first_tokens(tokens: Any, layout: dict[str, Any]) -> Any:
    """`[tokens, hidden]` -> `[batch, hidden]`: what stands in column 0, zero where that is padding."""
    return tf.where(layout["mask"][:, :1], tf.gather(tokens, layout["index"][:, 0]), 0)


def split_heads(tokens: Any, layout: dict[str, Any], num_heads: int) -> Any:
    """`[tokens, hidden]` -> `[rows, heads, length, head_size]` of an `attention_layout`."""
    head_size = tokens.shape[-1] // num_heads
    if "slots" not in layout:
        batch, sequence = tf.unstack(tf.shape(layout["mask"]))
        return tf.transpose(tf.reshape(tokens, [batch, sequence, num_heads, head_size]), [0, 2, 1, 3])

    @tf.custom_gradient
    def split(tokens: Any) -> Any:
        # The gradient of a place without a token is zero: no token's context depends on it.
        heads = _take(tokens, layout["slots"], head_size)
        return heads, lambda gradient: tf.reshape(_take(gradient, layout["places"], head_size), tf.shape(tokens))

    return split(tokens)


def join_heads(heads: Any, layout: dict[str, Any]) -> Any:
    """`[rows, heads, length, head_size]` -> `[tokens, heads, head_size]`."""
    _, num_heads, _, head_size = heads.shape
    if "places" not in layout:
        return tf.reshape(tf.transpose(heads, [0, 2, 1, 3]), [-1, num_heads, head_size])

    @tf.custom_gradient
    def join(heads: Any) -> Any:
        def backwards(gradient: Any) -> Any:
            return tf.where(layout["occupied"], _take(gradient, layout["slots"], head_size), 0)

        return _take(heads, layout["places"], head_size), backwards

    return join(heads)


def _take(values: Any, index: Any, head_size: int) -> Any:
    """The rows `index` of `values` as a matrix `[..., head_size]`."""
    return tf.gather(tf.reshape(values, [-1, head_size]), index)
