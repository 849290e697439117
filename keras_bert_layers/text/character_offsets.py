import tensorflow as tf


class CharacterOffsets:
    """Where the characters of texts are.

    Args:
        text: strings `[batch]`.
    """

    def __init__(self, text: tf.Tensor):
        codes, starts = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
        lengths = tf.cast(tf.strings.length(text), tf.int64)
        self._row_byte = tf.cumsum(lengths, exclusive=True)
        self._row_character = codes.row_starts()
        # Counted through all texts, a character ends where the next one starts.
        starts = starts.values + tf.gather(self._row_byte, starts.value_rowids())
        self._boundaries = tf.concat([starts, [tf.reduce_sum(lengths)]], axis=0)

    def at_byte(self, row: tf.Tensor, byte: tf.Tensor) -> tf.Tensor:
        """Returns the number, within its text, of the character that a byte belongs to."""
        byte += tf.gather(self._row_byte, row)
        found = tf.searchsorted(self._boundaries, byte, side="right", out_type=tf.int64)
        return found - 1 - tf.gather(self._row_character, row)

    def first_byte(self, row: tf.Tensor, character: tf.Tensor) -> tf.Tensor:
        """Returns the first byte, within its text, of a character."""
        boundary = tf.gather(self._boundaries, tf.gather(self._row_character, row) + character)
        return boundary - tf.gather(self._row_byte, row)
