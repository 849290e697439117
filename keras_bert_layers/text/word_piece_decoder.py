from collections.abc import Collection, Sequence

import tensorflow as tf

# What tokenizers' `decoders.WordPiece(cleanup=True)` replaces. It looks at one token at a time, so that most of this
# never happens.
_CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class WordPieceDecoder:
    """Joins word pieces to texts.

    Args:
        vocabulary: the tokens.
    """

    def __init__(self, vocabulary: Sequence[str]):
        self._size = len(vocabulary)
        later = [token[2:] if token.startswith("##") else f" {token}" for token in vocabulary]
        with tf.init_scope():
            # What each token adds to a text as its first token, and as a later one.
            self._first = tf.constant(list(map(_clean_up, vocabulary)))
            self._later = tf.constant(list(map(_clean_up, later)))

    def __call__(self, ids: tf.RaggedTensor, left_out: Collection[int]) -> tf.Tensor:
        """Returns the texts `[batch]` of ids `[batch, (tokens)]`, without those `left_out` and unknown ones."""
        shown = (ids.values >= 0) & (ids.values < self._size)
        for token_id in left_out:
            shown &= ids.values != token_id
        ids = tf.ragged.boolean_mask(ids, ids.with_values(shown))
        row = ids.value_rowids()
        is_first = tf.range(tf.size(row, tf.int64)) == tf.gather(ids.row_starts(), row)
        pieces = tf.where(is_first, tf.gather(self._first, ids.values), tf.gather(self._later, ids.values))
        return tf.strings.reduce_join(ids.with_values(pieces), axis=-1)


def _clean_up(piece: str) -> str:
    for before, after in _CLEAN_UP:
        piece = piece.replace(before, after)
    return piece
