"""Word pieces of the segments of a text -> one row: `[CLS] a [SEP]`, `[CLS] a [SEP] b [SEP]`, and so on."""

import tensorflow as tf

TRUNCATIONS = ("longest_first", "only_first", "only_second")
# How many tokens stand between two segments.
PAIR_FORMATS = {"bert": 1, "roberta": 2}


def check_pair_format(pair_format: str) -> str:
    """Checks the argument `pair_format` of a tokenizer, and returns it.

    Raises:
        ValueError: for anything but one of `PAIR_FORMATS`.

    Example:

    >>> check_pair_format("roberta")
    'roberta'
    """
    if not isinstance(pair_format, str) or pair_format not in PAIR_FORMATS:
        raise ValueError(
            f"Expected `pair_format` to be {' or '.join(PAIR_FORMATS)}. Received: pair_format={pair_format!r}."
        )
    return pair_format


def check_room(segments: int, sequence_length: int | tf.Tensor, separators: int = 1) -> int | tf.Tensor:
    """Checks that no segment is always cut to nothing, but in a pair in 4 tokens, where the reference does it too.

    Args:
        segments: the number of segments.
        sequence_length: the longest row.
        separators: the number of tokens between two segments.

    Returns:
        `sequence_length`.

    Raises:
        ValueError: where a row is too short; for a tensor, `tf.errors.InvalidArgumentError` when it runs.
    """
    needed = 2 + separators * (segments - 1) + (1 if segments <= 2 else segments)
    expected = (
        f"Expected `sequence_length` to be at least {needed} for {segments} segments: [CLS], word pieces, and a [SEP] "
        "after each segment."
    )
    if isinstance(sequence_length, int):
        if sequence_length < needed:
            raise ValueError(
                f"{expected} Received: sequence_length={sequence_length}. Make it longer, or give fewer segments."
            )
        return sequence_length
    enough = tf.debugging.assert_greater_equal(sequence_length, needed, expected)
    with tf.control_dependencies([] if enough is None else [enough]):
        return tf.identity(sequence_length)


def kept_lengths(lengths: list[tf.Tensor], room: int | tf.Tensor, truncation: str = "longest_first") -> list[tf.Tensor]:
    """Says how much of each segment is kept, so that all fit.

    For one or two segments equal to Hugging Face's `tokenizers`. With `"longest_first"` the shorter text of a pair is
    kept whole where it fits into its half; else each gets half, and the odd place goes to the second, or to the first
    where that is the longer. More than two segments get the same number of places each, as far as they need them; what
    is left over goes to the first ones. `"only_first"` and `"only_second"` cut that segment alone; where it is cut to
    nothing and the rest is still too long (there the reference raises), the others are cut like `"longest_first"`.

    Args:
        lengths: integer tensors `[batch]`, the numbers of word pieces of each segment.
        room: places for all of them.
        truncation: one of `TRUNCATIONS`.

    Returns:
        Integer tensors `[batch]`, whose sum is at most `room`.

    Example:

    >>> first, second = tf.constant([2, 9]), tf.constant([9, 9])
    >>> [kept.numpy().tolist() for kept in kept_lengths([first, second], room=7)]
    [[2, 3], [5, 4]]
    >>> [kept.numpy().tolist() for kept in kept_lengths([first, second], room=10, truncation="only_second")]
    [[2, 9], [8, 1]]
    """
    places = tf.cast(room, lengths[0].dtype)
    if truncation != "longest_first":
        cut = 0 if truncation == "only_first" else 1
        others = tf.add_n([length for number, length in enumerate(lengths) if number != cut] or [0 * lengths[0]])
        lengths = list(lengths)
        lengths[cut] = tf.clip_by_value(places - others, 0, lengths[cut])
    if len(lengths) == 1:
        return [tf.minimum(lengths[0], places)]
    if len(lengths) == 2:
        return _kept_of_a_pair(lengths[0], lengths[1], places)
    stacked = tf.stack(lengths, axis=1)
    levels = tf.range(places + 1)
    filled = tf.reduce_sum(tf.minimum(stacked[:, :, None], levels), axis=1)
    level = tf.reduce_sum(tf.cast(filled <= places, places.dtype), axis=1, keepdims=True) - 1
    kept = tf.minimum(stacked, level)
    left = places - tf.reduce_sum(kept, axis=1, keepdims=True)
    wants_more = tf.cast(stacked > level, places.dtype)
    kept += tf.where(tf.cumsum(wants_more, axis=1) <= left, wants_more, 0)
    return tf.unstack(kept, axis=1, num=len(lengths))


def _kept_of_a_pair(first: tf.Tensor, second: tf.Tensor, room: tf.Tensor) -> list[tf.Tensor]:
    shorter, longer = tf.minimum(first, second), tf.maximum(first, second)
    kept_longer = tf.minimum(longer, tf.where(shorter > room, shorter, tf.maximum(shorter, room - shorter)))
    both_cut = tf.minimum(shorter, room) + kept_longer > room
    kept_shorter = tf.where(both_cut, room // 2, shorter)
    kept_longer = tf.where(both_cut, room - room // 2, kept_longer)
    fits = first + second <= room
    return [
        tf.where(fits, first, tf.where(first > second, kept_longer, kept_shorter)),
        tf.where(fits, second, tf.where(first > second, kept_shorter, kept_longer)),
    ]


def pack(
    segments: list[dict[str, tf.RaggedTensor]],
    room: int | tf.Tensor,
    truncation: str,
    special_values: dict[str, tuple[int, int, int]],
    separators: int = 1,
) -> tuple[dict[str, tf.RaggedTensor], list[tf.Tensor]]:
    """Cuts the segments of each text and puts them together between special tokens.

    Args:
        segments: for each segment its features, ragged int32 `[batch, (word pieces)]`: `ids` and others of that shape.
        room: places for word pieces.
        truncation: one of `TRUNCATIONS`.
        special_values: for each feature its value at [CLS], at [SEP] and at padding.
        separators: how many [SEP] stand between two segments.

    Returns:
        The features, ragged int32 `[batch, (tokens)]`, and the column of each segment's first [SEP], integers
        `[batch]`.
    """
    lengths = kept_lengths([segment["ids"].row_lengths() for segment in segments], room, truncation)
    if len(segments) == 1:
        segments = [{name: feature[:, :room] for name, feature in segments[0].items()}]
    else:
        kept = [
            tf.ragged.range(segment["ids"].row_lengths()) < length[:, None]
            for segment, length in zip(segments, lengths, strict=True)
        ]
        segments = [
            {name: tf.ragged.boolean_mask(feature, mask) for name, feature in segment.items()}
            for segment, mask in zip(segments, kept, strict=True)
        ]
    batch = segments[0]["ids"].nrows()
    packed = {}
    for name, (cls, sep, _) in special_values.items():
        parts: list[tf.Tensor | tf.RaggedTensor] = [tf.fill([batch, 1], cls)]
        for number, segment in enumerate(segments, start=1):
            parts += [segment[name], tf.fill([batch, separators if number < len(segments) else 1], sep)]
        packed[name] = tf.concat(parts, axis=1)
    places = tf.cumsum(tf.stack(lengths, axis=1) + separators, axis=1)
    ends = tf.unstack(places if separators == 1 else places + 1 - separators, axis=1, num=len(lengths))
    return packed, ends


def pad(
    packed: dict[str, tf.RaggedTensor],
    ends: list[tf.Tensor],
    length: int | tf.Tensor,
    special_values: dict[str, tuple[int, int, int]],
    separators: int = 1,
) -> dict[str, tf.Tensor]:
    """Pads what `pack` returned, and says what stands where.

    Args:
        packed, ends: what `pack` returned.
        length: the length of the rows.
        special_values, separators: as for `pack`.

    Returns:
        int32 tensors `[batch, length]`: the features, `mask` (1 on real tokens), `type_ids` (the number of the segment)
        and `special_tokens_mask` (1 on [CLS], [SEP] and padding, as Hugging Face's).
    """
    columns = tf.range(tf.cast(length, ends[0].dtype))[None, :]
    real = columns <= ends[-1][:, None]
    special = (columns == 0) | ~real
    type_ids = tf.zeros_like(real, tf.int32)
    for number, end in enumerate(ends):
        special |= columns == end[:, None]
        if number + 1 < len(ends):
            if separators > 1:
                special |= (columns > end[:, None]) & (columns < end[:, None] + separators)
            type_ids += tf.cast(real & (columns > end[:, None]), tf.int32)
    shape = [None, length] if isinstance(length, int) else tf.stack([-1, length])
    return {
        **{name: feature.to_tensor(special_values[name][2], shape=shape) for name, feature in packed.items()},
        "mask": tf.cast(real, tf.int32),
        "type_ids": type_ids,
        "special_tokens_mask": tf.cast(special, tf.int32),
    }


def bucket_length(longest: tf.Tensor, buckets: tuple[int, ...]) -> tf.Tensor:
    """Returns the smallest of the ascending `buckets` that holds `longest` tokens; int32 scalar.

    Example:

    >>> int(bucket_length(tf.constant(33), (32, 64, 128)))
    64
    """
    bucket = tf.searchsorted(tf.constant(buckets), [tf.cast(longest, tf.int32)], side="left")[0]
    return tf.gather(tf.constant(buckets), tf.minimum(bucket, len(buckets) - 1))
