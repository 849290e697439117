"""BERT's text normalisation as a table that TensorFlow reads.

What happens to a character (dropped, made a space, lower-cased, stripped of its accents, set between spaces) depends on
that character alone, so all of BERT's normalisation is one map from characters to strings. `unicode_table.npz` holds
that map, taken from the `tokenizers` package by `benchmarks/make_unicode_table.py`. This module turns it into the
memory that tf.text's `FastBertNormalize` kernel reads: the kernel walks a trie of UTF-8 bytes and copies what it finds,
and it is only the trie shipped with tf.text that is not BERT's.
"""

import functools
import os

import flatbuffers
import numpy as np

TABLE_PATH = os.path.join(os.path.dirname(__file__), "unicode_table.npz")

# The code of a character that stays as it is, and the bit that every other code has (fast_bert_normalizer.h).
_UNCHANGED = 0
_CHANGED = 0x40000000
_REMOVED = _CHANGED
_LENGTH_BITS = 6


def normalization_table(
    lowercase: bool,
    strip_accents: bool,
    tokenize_chinese_chars: bool,
    kept: tuple[str, ...] = (),
    split_punctuation: bool = True,
) -> dict[str, str]:
    """Returns what BERT's normalisation makes of every character that it changes.

    A string that holds spaces says where words end: punctuation, and with `tokenize_chinese_chars` each Chinese
    character, comes out between two of them. The map is that of the `tokenizers` package's `BertNormalizer` followed
    by `BertPreTokenizer`.

    Args:
        lowercase: whether letters become lower case.
        strip_accents: whether characters are decomposed and their non-spacing marks dropped.
        tokenize_chinese_chars: whether each Chinese character is a word of its own.
        kept: characters that become words of their own, whatever the reference does to them.
        split_punctuation: False leaves out what `BertPreTokenizer` does, and with it the spaces around `kept`;
            `punctuation_table` does it then.

    Returns:
        A dict of single characters to strings; a character that is absent stays as it is.

    >>> table = normalization_table(lowercase=True, strip_accents=True, tokenize_chinese_chars=True)
    >>> table["É"], table["?"], table["\\u200d"], table["中"]
    ('e', ' ? ', '', ' 中 ')
    """
    name = {
        (False, False): "keep_case",
        (False, True): "strip_accents",
        (True, False): "lowercase",
        (True, True): "lowercase_strip_accents",
    }[bool(lowercase), bool(strip_accents)]
    with np.load(TABLE_PATH) as arrays:
        code_points = np.cumsum(arrays[f"{name}_steps"])
        strings = arrays[f"{name}_strings"].tobytes().decode().split("\n")
        chinese_ranges = arrays["chinese_ranges"].tolist()
    table = dict(zip(map(chr, code_points.tolist()), strings, strict=True))
    if not split_punctuation:
        table = {c: string.replace(" ", "") if string.strip() else string for c, string in table.items()}
    if tokenize_chinese_chars:
        for start, end in chinese_ranges:
            for character in map(chr, range(start, end)):
                table[character] = f" {table.get(character, character)} "
    table.update({character: f" {character} " if split_punctuation else character for character in kept})
    return table


def punctuation_table(kept: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns what `BertPreTokenizer` does to text that is normalised: punctuation comes out between two spaces.

    Args:
        kept: more characters that become words of their own.

    >>> punctuation_table()["?"]
    ' ? '
    """
    table = normalization_table(lowercase=False, strip_accents=False, tokenize_chinese_chars=False)
    return {c: f" {c} " for c in [*(c for c, string in table.items() if string == f" {c} "), *kept]}


@functools.cache
def space_bounds() -> list[int]:
    """Returns the code points at which ranges of white space start and end, in turns, for `AddedToken`.

    >>> space_bounds()[:4]
    [9, 14, 32, 33]
    """
    with np.load(TABLE_PATH) as arrays:
        return arrays["space_bounds"].tolist()


@functools.cache
def word_bounds() -> list[int]:
    """Returns the code points at which ranges of characters of words start and end, in turns, for `AddedToken`.

    >>> word_bounds()[:4]
    [48, 58, 65, 91]
    """
    with np.load(TABLE_PATH) as arrays:
        return arrays["word_bounds"].tolist()


def reordered_marks() -> dict[str, int]:
    """Returns the combining marks that outlive the stripping of accents, with their canonical combining classes.

    Stripping accents decomposes the text first, and decomposing (Unicode Standard Annex 15) sorts neighbouring marks
    by this class. It is the one step of BERT's normalisation that looks at more than one character.

    >>> reordered_marks()["\\u1b44"]
    9
    """
    with np.load(TABLE_PATH) as arrays:
        return {chr(code_point): combining_class for code_point, combining_class in arrays["reordered_marks"].tolist()}


def unknown_letter(known: frozenset[str]) -> str:
    """Returns the letter that stands for all characters that a vocabulary lacks.

    A word that has one of them is unknown, whichever it is.

    Args:
        known: the characters that the vocabulary has.

    Returns:
        A letter that is not among them.

    >>> f"U+{ord(unknown_letter(frozenset('abc'))):04X}"
    'U+01C0'
    """
    return next(c for c in map(chr, range(0x1C0, 0x110000)) if c.isalpha() and c not in known)


def build_normalizer_model(table: dict[str, str], known: frozenset[str] | None = None) -> np.ndarray:
    """Returns the model buffer with which tf.text's `FastBertNormalize` op applies `table`.

    Bytes that are not UTF-8 are dropped, like the U+FFFD that a decoder puts in their place. The format is that of
    tf.text's `fast_bert_normalizer_model.fbs`, unchanged since the op came with tf.text 2.11.

    Args:
        table: a dict of single characters to what they become, at most 63 bytes of UTF-8 each.
        known: the characters that a vocabulary has. Each other one comes out as `unknown_letter(known)`. None, the
            default, keeps all.

    Returns:
        An array of shape `[bytes]` and dtype uint8.

    >>> build_normalizer_model({"A": "a"}).dtype
    dtype('uint8')
    """
    strings = list(table.values())
    code_of = np.full(0x110000, _UNCHANGED, np.uint32)
    if known is None:
        pool, codes = _encode_strings(strings)
    else:
        letter = unknown_letter(known)
        pool, codes = _encode_strings([letter, *_replace_unknown(strings, known, letter)])
        code_of[:], codes = codes[0], codes[1:]
        code_of[[ord(c) for c in known | {" "}]] = _UNCHANGED
    code_of[0xD800:0xE000] = _REMOVED
    code_of[np.fromiter(map(ord, table), np.int64, len(table))] = codes
    # Without names: the fields are those of the schema, in its order.
    builder = flatbuffers.Builder(0)
    pool_vector = builder.CreateByteVector(pool)
    trie_vector = builder.CreateNumpyVector(_build_trie(code_of))
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(1, trie_vector, 0)
    builder.PrependInt32Slot(2, int(code_of[0]), 0)
    builder.PrependUOffsetTRelativeSlot(3, pool_vector, 0)
    builder.Finish(builder.EndObject())
    return np.frombuffer(builder.Output(), np.uint8)


def _replace_unknown(strings: list[str], known: frozenset[str], letter: str) -> list[str]:
    """Puts `letter` in the place of each character that is not known, in all strings at once: there are 200,000."""
    is_known = np.zeros(0x110000, bool)
    is_known[[ord(c) for c in known | {" ", "\n"}]] = True
    characters = np.frombuffer("\n".join(strings).encode("utf-32-le"), np.uint32)
    characters = np.where(is_known[characters], characters, np.uint32(ord(letter)))
    return characters.tobytes().decode("utf-32-le").split("\n")


def _encode_strings(strings: list[str]) -> tuple[bytes, np.ndarray]:
    """Puts each distinct string into one pool of bytes; returns it and, per string, the code that says where."""
    pool = bytearray()
    code_of: dict[str, int] = {"": _REMOVED}
    for string in dict.fromkeys(strings):
        if string:
            encoded = string.encode()
            if len(encoded) >= 1 << _LENGTH_BITS:
                raise ValueError(
                    "Expected `table` to make at most 63 bytes of UTF-8 of a character. "
                    f"Received: a character that becomes {string!r}."
                )
            code_of[string] = _CHANGED | len(pool) << _LENGTH_BITS | len(encoded)
            pool += encoded
    return bytes(pool), np.fromiter(map(code_of.__getitem__, strings), np.uint32, len(strings))


def _build_trie(code_of: np.ndarray) -> np.ndarray:
    """Builds the darts-clone trie that leads from a character's UTF-8 bytes to its code.

    A unit of the trie is `offset << 10 | has_value << 8 | label`. From the unit at position p, byte b leads to position
    `p ^ offset ^ b` if the unit there has the label b, and byte 0 leads to the value. Here the children of a unit are a
    block of 64, one for each continuation byte, at `base + 0x80` for a base that ends in 0x00 or 0x40: then
    `base ^ b` is right for each of them, and position `base` is free for what becomes of a character that breaks off.

    Args:
        code_of: shape `[0x110000]`: the code of each code point, 0 for those that the trie need not hold.

    Returns:
        The units, an array of shape `[units]` and dtype uint32.
    """
    # Encodings longer than needed and beyond U+10FFFF are held too, as removed, since ICU before version 60 steps over
    # such bytes as over one character.
    two_bytes = code_of[:0x800].copy()
    two_bytes[:0x80] = _REMOVED
    three_bytes = code_of[:0x10000].copy()
    three_bytes[:0x800] = _REMOVED
    four_bytes = np.full(0x140000, _REMOVED, np.uint32)
    four_bytes[0x10000:0x110000] = code_of[0x10000:]

    # Blocks that are equal are stored once: most are all "removed" or all "unchanged".
    rows = np.concatenate([two_bytes, three_bytes, four_bytes]).reshape(-1, 64)
    last_blocks, last_index = _unique_rows(rows)
    after_two, after_three, after_four = np.split(last_index, [0x800 // 64, (0x800 + 0x10000) // 64])
    third_blocks, third_index = _unique_rows(after_four.reshape(-1, 64))
    third_index = third_index.reshape(-1, 64) + len(last_blocks)
    second_blocks = np.concatenate([after_three.reshape(-1, 64), third_index])

    root = 0x100
    block_count = len(last_blocks) + len(third_blocks) + len(second_blocks)
    base = 0x200 + np.arange(block_count) // 2 * 0x100 + np.arange(block_count) % 2 * 0x40
    # Those of ASCII are in none of the blocks.
    codes = np.unique(np.append(last_blocks, code_of[:0x80]))
    codes = codes[codes != _UNCHANGED]
    first_value = 0x200 + -(-block_count // 2) * 0x100
    # Whole pages of 256, so that no byte leads out of the array.
    units = np.zeros(-(-(first_value + len(codes)) // 0x100) * 0x100, np.uint32)
    units[0] = root << 10
    units[base] = 1 << 31 | _REMOVED
    units[first_value : first_value + len(codes)] = 1 << 31 | codes

    def link(positions, labels, targets):
        units[positions] = (positions ^ targets) << 10 | 1 << 8 | labels

    def link_to_values(positions, labels, codes_there):
        held = codes_there != _UNCHANGED
        link(positions[held], labels[held], first_value + np.searchsorted(codes, codes_there[held]))

    labels = np.arange(0x80, 0xC0) + np.zeros((block_count, 1), np.int64)
    positions = base[:, np.newaxis] + labels
    last, third, second = np.split(np.arange(block_count), [len(last_blocks), len(last_blocks) + len(third_blocks)])
    link_to_values(positions[last], labels[last], last_blocks)
    link(positions[third], labels[third], base[third_blocks])
    link(positions[second], labels[second], base[second_blocks])
    first = np.arange(0x100)
    after_first = np.concatenate([after_two, second])
    leads = first[0xC0 : 0xC0 + len(after_first)]
    alone = np.where(first < 0x80, code_of[:0x100], np.uint32(_REMOVED))
    link_to_values(root + first[1:], first[1:], alone[1:])
    link(root + leads, leads, base[after_first])
    return units


def _unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct rows and, for each row, which of them it is; quicker than `np.unique`, which sorts."""
    numbers: dict[bytes, int] = {}
    index = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows])
    return np.frombuffer(b"".join(numbers), rows.dtype).reshape(len(numbers), -1), index
