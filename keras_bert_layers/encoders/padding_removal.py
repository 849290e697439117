"""Between `[batch, sequence, ...]` with padding and `[tokens, ...]` without.

All dense work of `BertEncoder` is done on the real tokens of the batch alone. XLA needs static shapes, so under XLA
the same functions keep the padding: then tokens are all of `batch * sequence`.
"""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def token_layout(mask: Any) -> dict[str, Any]:
    """Says where the tokens stand in the padded batch.

    Args:
        mask: bool `[batch, sequence]`, true on real tokens.

    Returns:
        A dict of tensors: `mask`, and without XLA `positions` (int32 `[tokens, 2]`: row and column of each token) and
        `index` (int32 `[batch, sequence]`: the number of the token that stands there; at padding that of some other).
    """
    # TensorFlow has no public way to ask whether XLA compiles this graph.
    if not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return {"mask": mask}
    # A batch without any real token is computed as it stands: nothing could be gathered from no token.
    real = mask | ~tf.reduce_any(mask)
    order = tf.cumsum(tf.reshape(tf.cast(real, "int32"), [-1]))
    return {
        "mask": mask,
        "positions": tf.cast(tf.where(real), "int32"),
        "index": tf.reshape(tf.maximum(order - 1, 0), tf.shape(mask)),
    }


def remove_padding(padded: Any, layout: dict[str, Any]) -> Any:
    """`[batch, sequence, ...]` -> `[tokens, ...]`."""
    if "positions" in layout:
        return tf.gather_nd(padded, layout["positions"])
    return tf.reshape(padded, [-1, *padded.shape[2:]])


def restore_padding(tokens: Any, layout: dict[str, Any]) -> Any:
    """`[tokens, ...]` -> `[batch, sequence, ...]`, with any values at padding."""
    if "index" in layout:
        return tf.gather(tokens, layout["index"])
    batch, sequence = tf.unstack(tf.shape(layout["mask"]))
    return tf.reshape(tokens, [batch, sequence, *tokens.shape[1:]])
