import functools

import tensorflow as tf

# What is UTF-8 from end to end. (Of surrogates left in, RE2 would take encodings that are too long as well.)
_UTF8 = r"[^\x{D800}-\x{DFFF}]*"


class CharacterOffsets:
    """Where the characters of texts are.

    Args:
        text: strings `[batch]`.
    """

    def __init__(self, text: tf.Tensor):
        lengths = tf.cast(tf.strings.length(text), tf.int64)
        self._row_byte = tf.cumsum(lengths, exclusive=True)
        self._size = tf.reduce_sum(lengths)

        def begins_of_utf8() -> tf.Tensor:
            # Decoding takes as long as tokenising.
            bytes_of_all = tf.io.decode_raw(tf.strings.reduce_join(text), tf.uint8)
            return tf.bitwise.bitwise_and(bytes_of_all, 0b11000000) != 0b10000000

        def begins_of_others() -> tf.Tensor:
            _, starts = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
            starts = starts.values + tf.gather(self._row_byte, starts.value_rowids())
            return tf.scatter_nd(starts[:, tf.newaxis], tf.ones_like(starts, tf.int32), [self._size]) > 0

        is_utf8 = tf.reduce_all(tf.strings.regex_full_match(text, _UTF8))
        # Of each byte, counted through all texts, whether a character begins with it.
        self._begins = tf.cond(is_utf8, begins_of_utf8, begins_of_others)
        self._characters_before = tf.concat([[0], tf.cumsum(tf.cast(self._begins, tf.int32))], axis=0)

    def at_byte(self, row: tf.Tensor, byte: tf.Tensor) -> tf.Tensor:
        """Returns the number, within its text, of the character that a byte belongs to; int64."""
        row_byte = tf.gather(self._row_byte, row)
        return self._before(byte + row_byte + 1) - 1 - self._before(row_byte)

    def first_byte(self, row: tf.Tensor, character: tf.Tensor) -> tf.Tensor:
        """Returns the first byte, within its text, of a character, or its length for the one behind the last; int64."""
        row_byte = tf.gather(self._row_byte, row)
        return tf.gather(self._boundaries, self._before(row_byte) + character) - row_byte

    @functools.cached_property
    def _boundaries(self) -> tf.Tensor:
        # Counted through all texts, a character ends where the next one begins.
        return tf.concat([tf.where(self._begins)[:, 0], [self._size]], axis=0)

    def _before(self, byte: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self._characters_before, byte), tf.int64)
