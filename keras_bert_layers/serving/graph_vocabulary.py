"""The vocabulary of an export, read back from the word-piece models that its graph holds as constants."""

import struct
from collections.abc import Iterable

import flatbuffers
import numpy as np
from flatbuffers.table import Table

# Fields of tf.text's FastWordpieceTokenizerConfig, in the order of its schema.
_TRIE, _SUFFIX_INDICATOR, _UNKNOWN_TOKEN, _END_TO_END = 0, 5, 6, 10
# Where no token begins with ##, tf.text makes a place for it by this one, which stands for the unknown token.
_NO_SUFFIXES = b"##\x11"
# In bytes: tf.text takes no token that is longer than 255.
_LONGEST = 1024


def graph_vocabulary(constants: Iterable[bytes]) -> list[str] | None:
    """The tokens of the first constant that is a word-piece model, in the order of their ids.

    tf.text keeps them in a double array (Yata et al., 2007, as the library darts-clone lays it out): from node `p` the
    byte `b` leads to `p ^ offset(p) ^ b` if that node's label is `b`, and a node's value stands at `p ^ offset(p)`.

    Args:
        constants: what the graph's constants of bytes hold.

    Returns:
        The tokens, or None where no constant is a word-piece model.

    Example:

    >>> import tensorflow_text as tf_text
    >>> tokenizer = tf_text.FastWordpieceTokenizer(["[UNK]", "one", "##s", "é"], no_pretokenization=True)
    >>> graph_vocabulary([b"something else", tokenizer._model.numpy().tobytes()])
    ['[UNK]', 'one', '##s', 'é']
    """
    for constant in constants:
        if (trie := _trie(constant)) is not None:
            try:
                return _tokens(trie)
            except (IndexError, ValueError):
                # A damaged model.
                return None
    return None


def _trie(constant: bytes) -> np.ndarray | None:
    """The double array of a word-piece model that does not split texts: that of one that does lacks punctuation."""
    try:
        (root,) = struct.unpack_from("<I", constant)
        table = Table(constant, root)
        offsets = [table.Offset(4 + 2 * field) for field in (_TRIE, _SUFFIX_INDICATOR, _UNKNOWN_TOKEN, _END_TO_END)]
        if not all(offsets[:3]):
            return None
        if table.String(root + offsets[1]) != b"##":
            return None
        table.String(root + offsets[2]).decode()
        if offsets[3] and table.Get(flatbuffers.number_types.BoolFlags, root + offsets[3]):
            return None
        start, length = table.Vector(offsets[0]), table.VectorLen(offsets[0])
        return np.frombuffer(constant, "<u4", length, start)
    except (ValueError, IndexError, TypeError, OverflowError, struct.error):
        # Bytes of something else.
        return None


def _tokens(trie: np.ndarray) -> list[str]:
    found: dict[int, bytes] = {}
    labels = np.arange(1, 256, dtype=np.uint32)
    pending = [(0, b"")]
    visited = {0}
    while pending:
        node, prefix = pending.pop()
        unit = int(trie[node])
        base = node ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6))
        if unit >> 8 & 1:
            # The id, and in the lowest byte the token's length.
            number = int(trie[base]) >> 8 & 0x3FFFFF
            if prefix != _NO_SUFFIXES or number not in found:
                found[number] = prefix
        children = base ^ labels
        inside = children < len(trie)
        matching = labels[inside][trie[children[inside]] & 0x800000FF == labels[inside]]
        for label in matching.tolist():
            child = int(base ^ label)
            if child in visited or len(prefix) == _LONGEST:
                raise ValueError("a broken trie, which goes in circles or is deeper than any token is long")
            visited.add(child)
            pending.append((child, prefix + bytes([label])))
    return [found[number].decode("utf-8", "replace") for number in sorted(found)]
