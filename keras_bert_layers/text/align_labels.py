from typing import Any

import numpy as np
import tensorflow as tf

TARGETS = ("words", "first_tokens", "tokens")


def align_labels(labels: Any, word_ids: Any, to: str = "words") -> tuple[tf.Tensor, tf.Tensor]:
    """Brings labels of words to where a model predicts them.

    Both results have the shape of `word_ids`, and are what `model.fit` takes as labels and sample weights:

    | to | for a model that predicts | a label stands |
    |---|---|---|
    | `"words"` | on words, after `WordPooling` | on place w, for the word w; the weights are its `word_mask` |
    | `"first_tokens"` | on tokens | on the first piece of each word (Devlin et al. 2019, section 5.3) |
    | `"tokens"` | on tokens | on every piece of each word |

    Elsewhere label and weight are 0: on special tokens and padding, and for words that truncation cut off or of which
    the tokenizer left nothing. A label below 0 stands for no label, as Hugging Face's -100: its weight is 0 too.

    Make the loss the mean over what has a label, with `reduction="mean_with_sample_weight"` of Keras's losses. Their
    default divides by all places that the model's mask keeps, with a label or not, which makes the loss too small, by a
    factor that changes from batch to batch.

    Predictions on tokens become predictions on words by `WordPooling("first")`, which takes scores as it takes states.

    Args:
        labels: the words' labels: a ragged integer tensor `[batch, (words)]`, a dense one that is padded with any
            numbers, or a list of lists.
        word_ids: integer tensor `[batch, sequence]`: the number of each token's word and -1 where there is none, as
            `BertPreprocessor` makes it. For pairs, whose words count from 0 in both texts, set those of the other text
            to -1 first.
        to: one of the above.

    Returns:
        The labels, int32 `[batch, sequence]`, and their weights, float32 `[batch, sequence]`, 1 or 0.

    Raises:
        ValueError: for an unknown `to`, and for labels or word ids that are not integers, or have another rank.
        tf.errors.InvalidArgumentError: for a row with fewer labels than words.

    Example:

    >>> word_ids = [[-1, 0, 1, 1, -1]]
    >>> [values.numpy().tolist() for values in align_labels([[5, 7]], word_ids)]
    [[[5, 7, 0, 0, 0]], [[1.0, 1.0, 0.0, 0.0, 0.0]]]
    >>> [values.numpy().tolist() for values in align_labels([[5, 7]], word_ids, to="first_tokens")]
    [[[0, 5, 7, 0, 0]], [[0.0, 1.0, 1.0, 0.0, 0.0]]]

    ```python
    def prepare(words, labels):
        ids = preprocessor(words)
        return ids, *align_labels(labels, ids["word_ids"])

    # The mean over the words that have a label.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile("adam", loss, weighted_metrics=["accuracy"])
    model.fit(dataset.ragged_batch(32).map(prepare))
    ```
    """
    if to not in TARGETS:
        raise ValueError(f"Expected `to` to be one of {', '.join(TARGETS)}. Received: to={to!r}.")
    if hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
    if isinstance(labels, np.ndarray) and labels.dtype == object:
        # Lists or arrays, from a column of a table.
        labels = labels.tolist()
    if isinstance(labels, (list, tuple)):
        for number, row in enumerate(labels):
            if row is None or (isinstance(row, (list, tuple)) and None in row):
                raise ValueError(
                    "align_labels expects `labels` to be integers [batch, words]. "
                    f"Received: None in labels[{number}]. Give -100 to a word without a label."
                )
        # Without any label in them TensorFlow would take lists for floats.
        dtype = None if any(np.size(row) for row in labels) else tf.int32
        labels = tf.ragged.constant(labels, dtype, ragged_rank=1)
    elif not isinstance(labels, tf.RaggedTensor):
        labels = tf.convert_to_tensor(labels)
    word_ids = tf.convert_to_tensor(word_ids)
    for name, value in (("labels", labels), ("word_ids", word_ids)):
        if not value.dtype.is_integer or value.shape.rank != 2:
            raise ValueError(
                f"align_labels expects `{name}` to be integers [batch, {'words' if name == 'labels' else 'sequence'}]. "
                f"Received: {name} of dtype {value.dtype.name} and shape {value.shape}."
            )
    if labels.shape[0] is not None and word_ids.shape[0] is not None and labels.shape[0] != word_ids.shape[0]:
        raise ValueError(
            "align_labels expects as many rows of labels as of word ids. "
            f"Received: {labels.shape[0]} of labels and {word_ids.shape[0]} of word ids."
        )
    labels, word_ids = tf.cast(labels, "int32"), tf.cast(word_ids, "int32")
    if isinstance(labels, tf.RaggedTensor):
        counts, labels = labels.row_lengths(), labels.to_tensor(-1)
    else:
        counts = tf.shape(labels)[1:]
    enough = tf.debugging.assert_less(
        word_ids,
        tf.cast(counts, "int32")[:, None],
        "align_labels expects a label for each word. Received: fewer labels than words. "
        "Are the labels those of other words than the preprocessor was given?",
    )
    with tf.control_dependencies([] if enough is None else [enough]):
        words = tf.shape(labels)[1]
    # One place more, for the tokens without a word.
    labels = tf.pad(labels, [[0, 0], [0, 1]], constant_values=-1)
    aligned = tf.gather(labels, tf.where(word_ids >= 0, word_ids, words), batch_dims=1)
    if to == "first_tokens":
        previous = tf.pad(word_ids[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
        aligned = tf.where(word_ids != previous, aligned, -1)
    elif to == "words":
        batch, sequence = tf.unstack(tf.shape(word_ids))
        valid = (word_ids >= 0) & (word_ids < sequence)
        segments = tf.where(valid, tf.range(batch)[:, None] * sequence + word_ids, -1)
        aligned = tf.math.unsorted_segment_max(aligned, segments, num_segments=batch * sequence)
        aligned = tf.reshape(aligned, [batch, sequence])
    aligned = tf.ensure_shape(aligned, word_ids.shape)
    return tf.maximum(aligned, 0), tf.cast(aligned >= 0, "float32")
