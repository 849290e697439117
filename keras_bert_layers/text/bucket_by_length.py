from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_layers.token_inputs import MASK_NAMES, PADDING

MAX_SHAPES = 8


def bucket_by_length(
    dataset: tf.data.Dataset,
    tokens_per_batch: int,
    lengths: Sequence[int] | None = None,
    token_labels: bool = False,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Batches a dataset anew, so that texts of similar length come together and little of a batch is padding.

    A row goes to the first of the `lengths` that holds its tokens, and is cut to it. Batches of one length have
    `tokens_per_batch // length` rows, the last of them maybe fewer. That makes two shapes for each length (one with
    `drop_remainder`), the same ones in each epoch, and at most 8, each of which XLA compiles once. Every row comes
    exactly once in a pass.

    Args:
        dataset: batches of any size, as `dataset.map` with a preprocessor makes them: a dict with `input_mask` (or
            `attention_mask`), or a tuple whose first element is such a dict, `(ids, labels)` or `(ids, labels,
            weights)`. The mask says how long a row is. Of the dict, what the preprocessors make for each token is cut;
            other entries stay as they are. Shuffle before, prefetch after.
        tokens_per_batch: the largest number of tokens in a batch, rows times length, padding included.
        lengths: the lengths that batches are padded to, in ascending order, at most 4 (8 with `drop_remainder`). No row
            may be longer than the last. The default is an eighth, a quarter, a half and the whole of the sequence
            length, each rounded up to a multiple of 8.
        token_labels: whether labels and weights are those of the tokens, `[batch, sequence]` as `align_labels` makes
            them, and are cut too.
        drop_remainder: whether to leave out the last rows of each length where they fill no batch.

    Returns:
        The dataset, with elements of the same structure, `[rows, length]`.

    Raises:
        ValueError: for lengths or a budget that do not fit the dataset or each other.
        TypeError: for a dataset of anything else, and for anything else than a dataset.
        tf.errors.InvalidArgumentError: while iterating, for a row that is longer than the last length.

    Example:

    >>> mask = [[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]
    >>> dataset = tf.data.Dataset.from_tensors(({"input_word_ids": mask, "input_mask": mask}, [0, 1, 2]))
    >>> for ids, labels in bucket_by_length(dataset, tokens_per_batch=12, lengths=[3, 6]):
    ...     print(ids["input_word_ids"].shape, labels.numpy())
    (2, 3) [0 2]
    (1, 6) [1]

    ```python
    dataset = dataset.shuffle(10_000).batch(256).map(lambda text, label: (preprocessor(text), label))
    model.fit(kbl.bucket_by_length(dataset, tokens_per_batch=4096).prefetch(2))
    ```
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "bucket_by_length expects a tf.data.Dataset of batches. "
            f"Received: dataset of type {type(dataset).__name__}. Make one: "
            "tf.data.Dataset.from_tensor_slices((texts, labels)).batch(256).map(...) with a preprocessor."
        )
    for name, flag in (("token_labels", token_labels), ("drop_remainder", drop_remainder)):
        if not isinstance(flag, bool):
            raise TypeError(f"Expected `{name}` to be True or False. Received: {name}={flag!r}.")
    spec = dataset.element_spec
    ids_spec, *label_specs = spec if isinstance(spec, tuple) else (spec,)
    mask_name = next((name for name in MASK_NAMES if isinstance(ids_spec, dict) and name in ids_spec), None)
    if mask_name is None or ids_spec[mask_name].shape.rank != 2:
        raise TypeError(
            f"bucket_by_length expects a dataset of batches whose first element is a dict with one of {MASK_NAMES}, "
            f"[batch, sequence], as `dataset.batch(...).map(...)` with a preprocessor makes it. Received: {spec}."
        )
    sequence = ids_spec[mask_name].shape[1]
    lengths = _check_lengths(lengths, sequence, drop_remainder)
    if not _is_int(tokens_per_batch) or tokens_per_batch < lengths[-1]:
        raise ValueError(
            f"Expected `tokens_per_batch` to be an int that holds one row at least. Received: "
            f"tokens_per_batch={tokens_per_batch!r} "
            f"with rows of up to {lengths[-1]} tokens."
        )
    for label_spec in tf.nest.flatten(label_specs) if token_labels else ():
        if label_spec.shape.rank < 2 or {label_spec.shape[1], sequence} - {None} not in ({sequence}, set()):
            raise ValueError(
                f"With token_labels=True, bucket_by_length expects labels and weights [batch, {sequence}], as the "
                f"tokens. Received: {label_spec}."
            )

    def resize(element: tuple, resize_tensor: Any) -> tuple:
        """Applies `resize_tensor(tensor, padding)` to what is by token."""
        ids, *labels = element
        ids = {name: resize_tensor(value, PADDING[name]) if name in PADDING else value for name, value in ids.items()}
        if token_labels:
            labels = tf.nest.map_structure(lambda value: resize_tensor(value, 0), labels)
        return (ids, *labels)

    def widen(value: tf.Tensor, padding: int) -> tf.Tensor:
        missing = lengths[-1] - tf.shape(value)[1]
        paddings = [[0, 0], [0, tf.maximum(missing, 0)]] + [[0, 0]] * (value.shape.rank - 2)
        value = tf.pad(value, paddings, constant_values=tf.cast(padding, value.dtype))[:, : lengths[-1]]
        return tf.ensure_shape(value, [value.shape[0], lengths[-1], *value.shape[2:]])

    def prepare(*element: Any) -> tuple:
        mask = element[0][mask_name]
        columns = tf.range(1, tf.shape(mask)[1] + 1)
        row_lengths = tf.reduce_max(tf.where(tf.cast(mask, "bool"), columns, 0), axis=1)
        tf.debugging.assert_less_equal(
            row_lengths, lengths[-1], f"Expected no row of more than {lengths[-1]} tokens, the last of `lengths`."
        )
        buckets = tf.searchsorted(tf.constant(lengths), row_lengths, out_type=tf.int64)
        return buckets, resize(element, widen)

    def finish(buckets: tf.Tensor, element: tuple) -> Any:
        length = tf.constant(lengths)[buckets[0]]
        element = resize(element, lambda value, padding: value[:, :length])
        return element if isinstance(spec, tuple) else element[0]

    rows_per_batch = tf.constant([tokens_per_batch // length for length in lengths], "int64")
    # `bucket_by_sequence_length` is this with a function that finds each row's bucket, which takes 5 times as long as
    # all the rest: tf.data need not run one that only returns its argument.
    return (
        dataset.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .unbatch()
        .group_by_window(
            key_func=lambda bucket, element: bucket,
            reduce_func=lambda bucket, rows: rows.batch(rows_per_batch[bucket], drop_remainder),
            window_size_func=lambda bucket: rows_per_batch[bucket],
        )
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE)
    )


def default_lengths(sequence: int) -> list[int]:
    """An eighth, a quarter, a half and the whole of a sequence, each rounded up to a multiple of 8."""
    return sorted({min(sequence, -(-sequence // part // 8) * 8) for part in (8, 4, 2, 1)})


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_lengths(lengths: Sequence[int] | None, sequence: int | None, drop_remainder: bool) -> list[int]:
    if lengths is None:
        if sequence is None:
            raise ValueError(
                "bucket_by_length cannot choose `lengths` where the sequence length differs between batches. "
                "Received: lengths=None, and a mask of shape [batch, None]. Give lengths, as (32, 64, 128, 256)."
            )
        lengths = default_lengths(sequence)
    limit = MAX_SHAPES if drop_remainder else MAX_SHAPES // 2
    is_ints = isinstance(lengths, Iterable) and all(map(_is_int, lengths := list(lengths)))
    if not is_ints or not 1 <= len(lengths) <= limit or lengths != sorted(set(lengths)) or lengths[0] < 1:
        raise ValueError(
            f"Expected `lengths` to be 1 to {limit} positive numbers in ascending order, so that there are at most "
            f"{MAX_SHAPES} shapes (two for each length without drop_remainder=True). "
            f"Received: lengths={lengths}, drop_remainder={drop_remainder}."
        )
    lengths = [int(length) for length in lengths]
    if sequence is not None and lengths[-1] < sequence:
        raise ValueError(
            f"Expected the last of `lengths` to hold the rows of the dataset, {sequence} tokens. "
            f"Received: lengths={lengths}."
        )
    return lengths
