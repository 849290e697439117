import functools

import tensorflow as tf

# What is UTF-8 from end to end. (Of surrogates left in, RE2 would take encodings that are too long as well.)
_UTF8 = r"[^\x{D800}-\x{DFFF}]*"


class CharacterOffsets:
    """Where pieces of texts stand, in characters.

    Args:
        text: strings `[batch]`.
        row: the text of each piece, integers `[pieces]`.
    """

    def __init__(self, text: tf.Tensor, row: tf.Tensor):
        lengths = tf.cast(tf.strings.length(text), tf.int64)
        first_bytes = tf.cumsum(lengths, exclusive=True)
        self._size = tf.reduce_sum(lengths)

        def begins_of_utf8() -> tf.Tensor:
            # Decoding takes as long as tokenising.
            bytes_of_all = tf.io.decode_raw(tf.strings.reduce_join(text), tf.uint8)
            return tf.bitwise.bitwise_and(bytes_of_all, 0b11000000) != 0b10000000

        def begins_of_others() -> tf.Tensor:
            _, starts = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
            starts = starts.values + tf.gather(first_bytes, starts.value_rowids())
            return tf.scatter_nd(starts[:, tf.newaxis], tf.ones_like(starts, tf.int32), [self._size]) > 0

        is_utf8 = tf.reduce_all(tf.strings.regex_full_match(text, _UTF8))
        # Of each byte, counted through all texts, whether a character begins with it, and how many before it.
        self._begins = tf.cond(is_utf8, begins_of_utf8, begins_of_others)
        self._characters_before = tf.concat([[0], tf.cumsum(tf.cast(self._begins, tf.int32))], axis=0)
        self._text_byte = tf.gather(first_bytes, row)
        self._text_character = tf.cast(tf.gather(tf.gather(self._characters_before, first_bytes), row), tf.int64)

    def at_byte(self, byte: tf.Tensor) -> tf.Tensor:
        """Returns the number of the character that a byte of each text belongs to; int64 `[pieces]`."""
        characters = tf.gather(self._characters_before, byte + self._text_byte + 1)
        return tf.cast(characters, tf.int64) - 1 - self._text_character

    def first_byte(self, character: tf.Tensor) -> tf.Tensor:
        """Returns the first byte of a character of each text, and for one behind the last the length; int64."""
        return tf.gather(self._boundaries, self._text_character + character) - self._text_byte

    @functools.cached_property
    def _boundaries(self) -> tf.Tensor:
        # Counted through all texts, a character ends where the next one begins.
        return tf.concat([tf.where(self._begins)[:, 0], [self._size]], axis=0)
