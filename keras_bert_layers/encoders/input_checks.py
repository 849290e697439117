"""Checks of what is only known when an encoder runs: open shapes, and ids. They stand in the graph and so in exports.

XLA leaves assertions out; see `EncoderContract` for what happens there.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def check_shapes(values: Mapping[str, Any], max_positions: int | None) -> dict[str, Any]:
    """Checks that tensors whose shapes are open have one shape, with as many columns as there are positions.

    Args:
        values: name -> integer tensor `[batch, sequence]`; the first are the token ids.
        max_positions: the longest sequence, or None.

    Returns:
        The same tensors, which depend on the check.

    Raises:
        tf.errors.InvalidArgumentError: when it runs.
    """
    if all(value.shape.is_fully_defined() for value in values.values()):
        return dict(values)
    shapes = tf.stack([tf.shape(value) for value in values.values()])
    length = shapes[0, 1]
    is_right = tf.reduce_all(shapes == shapes[0]) & (length >= 1)
    longest = ""
    if max_positions is not None:
        is_right &= length <= max_positions
        longest = f" and at most {max_positions}, its number of positions"
    expected = (
        f"Expected {', '.join(values)} of one shape [batch, sequence], with rows of at least one token{longest}. "
        "Received: their shapes, in this order:"
    )
    way_out = "Pad the rows of all inputs to one length. For longer documents there is WindowedEncoder."
    return _after(
        _require(is_right, lambda: [tf.debugging.Assert(is_right, [expected, shapes, way_out], summarize=6)]), values
    )


def out_of_range(ids: Any, mask: Any, limit: int) -> Any:
    """Where ids on real tokens are negative or not below `limit`: bool `[batch, sequence]`."""
    # Negative numbers are the largest unsigned ones.
    return mask & (tf.bitcast(ids, "uint32") >= limit)


def check_ids(values: Mapping[str, Any], mask: Any, limits: Mapping[str, int | None]) -> dict[str, Any]:
    """Checks that ids stand in their tables of embeddings, on real tokens.

    Args:
        values: name -> int32 `[batch, sequence]`.
        mask: bool `[batch, sequence]`.
        limits: name -> the number of rows of its table, or None.

    Returns:
        The same tensors, which depend on the check.

    Raises:
        tf.errors.InvalidArgumentError: when it runs; it names the input and the position of the first wrong id.
    """
    known = {name: limit for name, limit in limits.items() if name in values and limit is not None}
    if not known:
        return dict(values)
    wrong = {name: out_of_range(values[name], mask, limit) for name, limit in known.items()}
    any_wrong = tf.reduce_any(tf.stack(list(wrong.values())))

    def report() -> list[Any]:
        return [
            tf.debugging.Assert(
                ~tf.reduce_any(places),
                [
                    f"Expected {name} from 0 to {known[name] - 1}. Received:",
                    tf.boolean_mask(values[name], places)[:1],
                    "in row and column",
                    tf.cast(tf.where(places)[:1], "int32"),
                    "Are these ids of the checkpoint's own tokenizer?",
                ],
            )
            for name, places in wrong.items()
        ]

    return _after(_require(~any_wrong, report), values)


def _require(condition: Any, report: Any) -> Any:
    """Runs the assertions of `report`, and computes what they say, only where the condition does not hold."""

    def fail() -> Any:
        with tf.control_dependencies([assertion for assertion in report() if assertion is not None]):
            return tf.constant(False)

    return tf.cond(condition, lambda: tf.constant(True), fail)


def _after(checked: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    with tf.control_dependencies([checked]):
        return {name: tf.identity(value) for name, value in values.items()}
