import re
from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.unicode_normalization import space_bounds, word_bounds

OTHER_PRIVATE_CHARACTER = chr(0xF1000)
_START, _END = chr(0xF1001), chr(0xF1002)

# (row, start, end) of pieces, in characters -> their start and end in the text that was searched.
Back = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class AddedTokenSearch:
    """Finds added tokens in texts and puts one private-use character in the place of each.

    What is found is what the `tokenizers` package finds: of all contents the leftmost, and of those the longest; then
    `single_word` discards some, without looking again at the text that they cover.

    Args:
        tokens: the tokens.
        contents: what to look for, for each token. Of equal ones the first counts.
        marks: for each token the character that takes its place, or "" where it is to stay as it is.
    """

    def __init__(self, tokens: Sequence[AddedToken], contents: Sequence[str], marks: Sequence[str]):
        rows: dict[str, tuple[AddedToken, str]] = {}
        for token, content, mark in zip(tokens, contents, marks, strict=True):
            rows.setdefault(content, (token, mark))
        self._contents = list(rows)
        self._tokens = [token for token, _ in rows.values()]
        self._marks = [ord(mark) if mark else 0 for _, mark in rows.values()]
        # Of alternatives that start in one place RE2 takes the one that is written first.
        self._pattern = "|".join(map(re.escape, sorted(self._contents, key=len, reverse=True)))

    def __call__(self, text: tf.Tensor) -> tuple[tf.Tensor, Back]:
        """Return the texts `[batch]` with marks in them, and the function that leads characters of these back."""
        delimited = tf.strings.regex_replace(text, self._pattern, rf"{_START}\0{_END}")
        characters, first_bytes = tf.strings.unicode_decode_with_offsets(delimited, "UTF-8")
        codes = characters.values
        begins, finishes = codes == ord(_START), codes == ord(_END)
        is_text = ~(begins | finishes)
        # Counted through all texts, as they were before the delimiters.
        count = tf.concat([[0], tf.cumsum(tf.cast(is_text, tf.int64))], 0)
        row_bounds = tf.gather(count, characters.row_splits)
        starts, ends = tf.boolean_mask(count[:-1], begins), tf.boolean_mask(count[:-1], finishes)
        rows = tf.boolean_mask(characters.value_rowids(), begins)
        codes = tf.boolean_mask(codes, is_text)

        first_byte = tf.boolean_mask(first_bytes.values, begins) + len(_START.encode())
        length = tf.boolean_mask(first_bytes.values, finishes) - first_byte
        found = tf.strings.substr(tf.gather(delimited, rows), first_byte, length)
        token = tf.where(found[:, tf.newaxis] == tf.constant(self._contents))[:, 1]
        row_start, row_end = tf.gather(row_bounds, rows), tf.gather(row_bounds, rows + 1)
        kept = self._kept(token, codes, starts, ends, row_start, row_end)
        token, starts, ends, row_start, row_end = (
            tf.boolean_mask(values, kept) for values in (token, starts, ends, row_start, row_end)
        )
        first, last = self._with_white_space(token, codes, starts, ends, row_start, row_end)

        place = tf.range(tf.size(codes, tf.int64))
        # One more, since `tf.searchsorted` refuses an empty list.
        beyond = [tf.size(codes, tf.int64)]
        covers = tf.searchsorted(tf.concat([first, beyond], 0), place, side="right")
        covers -= tf.searchsorted(tf.concat([last, beyond], 0), place, side="right")
        ones = tf.ones_like(starts, tf.int32)
        stays = (covers == 0) | (tf.tensor_scatter_nd_update(tf.zeros_like(codes), starts[:, tf.newaxis], ones) == 1)
        marked_bounds = tf.gather(tf.concat([[0], tf.cumsum(tf.cast(stays, tf.int64))], 0), row_bounds)

        def marked_values(values: tf.Tensor, at_marks: tf.Tensor) -> tf.Tensor:
            return tf.boolean_mask(tf.tensor_scatter_nd_update(values, starts[:, tf.newaxis], at_marks), stays)

        codes = marked_values(codes, tf.gather(tf.constant(self._marks, tf.int32), token))
        marked = tf.RaggedTensor.from_row_splits(codes, marked_bounds, validate=False)
        first_of, last_of = marked_values(place, first), marked_values(place + 1, last)

        def back(row: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            before, text_start = tf.gather(marked_bounds, row), tf.gather(row_bounds, row)
            return (
                tf.gather(first_of, before + start) - text_start,
                tf.gather(last_of, before + end - 1) - text_start,
            )

        return tf.strings.unicode_encode(marked, "UTF-8"), back

    def _kept(self, token, codes, starts, ends, row_start, row_end) -> tf.Tensor:
        kept = tf.gather(tf.constant([mark != 0 for mark in self._marks]), token)
        single = [found.single_word for found in self._tokens]
        if any(single):
            # Behind the last character stands one that is part of no word.
            codes = tf.concat([codes, [0]], 0)
            nothing = tf.size(codes, tf.int64) - 1
            before = tf.gather(codes, tf.where(starts > row_start, starts - 1, nothing))
            after = tf.gather(codes, tf.where(ends < row_end, ends, nothing))
            is_joined = _is_within(before, word_bounds()) | _is_within(after, word_bounds())
            kept &= ~(tf.gather(tf.constant(single), token) & is_joined)
        return kept

    def _with_white_space(self, token, codes, starts, ends, row_start, row_end) -> tuple[tf.Tensor, tf.Tensor]:
        """Move the starts of tokens that take white space before them, and the ends of those that take it behind."""
        left, right = [found.lstrip for found in self._tokens], [found.rstrip for found in self._tokens]
        if not any(left) and not any(right):
            return starts, ends
        others = tf.where(~_is_within(codes, space_bounds()))[:, 0]
        others = tf.concat([others, [tf.size(codes, tf.int64)]], 0)
        bounded = tf.concat([[-1], others], 0)
        next_other = tf.gather(bounded, tf.searchsorted(others, ends, out_type=tf.int64) + 1)
        previous_other = tf.gather(bounded, tf.searchsorted(others, starts, out_type=tf.int64))
        last = tf.where(tf.gather(tf.constant(right), token), tf.minimum(next_other, row_end), ends)
        # White space that the token before has taken is gone.
        free = tf.maximum(tf.concat([[0], last], 0)[:-1], row_start)
        first = tf.where(tf.gather(tf.constant(left), token), tf.maximum(previous_other + 1, free), starts)
        return first, last


def _is_within(codes: tf.Tensor, bounds: Sequence[int]) -> tf.Tensor:
    """Say which code points are in the ranges that start and end, in turns, at `bounds`."""
    return tf.searchsorted(tf.constant(bounds, tf.int32), codes, side="right") % 2 == 1
