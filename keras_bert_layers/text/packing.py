"""Word pieces of one or two segments -> one row of ids: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`."""

import tensorflow as tf


def truncated_lengths(first: tf.Tensor, second: tf.Tensor, room: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Says how much of each text of a pair is kept: the longest is cut first, until both fit.

    Equal to truncation `"longest_first"` of Hugging Face's `tokenizers`: the shorter text is kept whole where it fits
    into its half; else each gets half, and the odd place goes to the second, or to the first where that is the longer.

    Args:
        first, second: integer `[batch]`, numbers of word pieces.
        room: places for both.

    Returns:
        Two integer tensors `[batch]`, whose sum is at most `room`.

    Example:

    >>> [lengths.numpy().tolist() for lengths in truncated_lengths(tf.constant([2, 9]), tf.constant([9, 9]), room=7)]
    [[2, 3], [5, 4]]
    """
    shorter, longer = tf.minimum(first, second), tf.maximum(first, second)
    half = tf.cast(room // 2, shorter.dtype)
    room = tf.cast(room, shorter.dtype)
    kept_longer = tf.minimum(longer, tf.where(shorter > room, shorter, tf.maximum(shorter, room - shorter)))
    both_cut = tf.minimum(shorter, room) + kept_longer > room
    kept_shorter = tf.where(both_cut, half, shorter)
    kept_longer = tf.where(both_cut, room - half, kept_longer)
    fits = first + second <= room
    kept_first = tf.where(first > second, kept_longer, kept_shorter)
    kept_second = tf.where(first > second, kept_shorter, kept_longer)
    return tf.where(fits, first, kept_first), tf.where(fits, second, kept_second)


def pack(
    segments: list[tf.RaggedTensor], sequence_length: int, cls_id: int, sep_id: int, pad_id: int
) -> dict[str, tf.Tensor]:
    """Puts the segments of each row together, cuts and pads them.

    Args:
        segments: one or two ragged int32 tensors `[batch, (word pieces)]`.
        sequence_length: the length of the rows.
        cls_id, sep_id, pad_id: ids of the special tokens.

    Returns:
        `input_word_ids`, `input_mask`, `input_type_ids` and `special_tokens_mask`, each int32
        `[batch, sequence_length]`. The last is 1 on [CLS], [SEP] and padding, as Hugging Face's.
    """
    room = sequence_length - 1 - len(segments)
    if len(segments) == 1:
        segments = [segments[0][:, :room]]
    else:
        lengths = truncated_lengths(segments[0].row_lengths(), segments[1].row_lengths(), room)
        segments = [_first(segment, length) for segment, length in zip(segments, lengths, strict=True)]
    batch = segments[0].nrows()
    sep = tf.fill([batch, 1], sep_id)
    ids = [tf.fill([batch, 1], cls_id)]
    for segment in segments:
        ids += [segment, sep]
    word_ids = tf.concat(ids, axis=1)
    lengths = word_ids.row_lengths()
    columns = tf.range(sequence_length, dtype=lengths.dtype)[None, :]
    # [SEP] ends each segment; what stands after the first one belongs to the second.
    first_end = 1 + segments[0].row_lengths()[:, None]
    mask = columns < lengths[:, None]
    special = (columns == 0) | (columns == first_end) | (columns >= lengths[:, None] - 1)
    return {
        "input_word_ids": word_ids.to_tensor(pad_id, shape=[None, sequence_length]),
        "input_mask": tf.cast(mask, tf.int32),
        "input_type_ids": tf.cast(mask & (columns > first_end), tf.int32),
        "special_tokens_mask": tf.cast(special, tf.int32),
    }


def _first(segment: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """The first `lengths[i]` values of each row i."""
    positions = tf.ragged.range(segment.row_lengths())
    return tf.ragged.boolean_mask(segment, positions < tf.cast(lengths, positions.dtype)[:, None])
