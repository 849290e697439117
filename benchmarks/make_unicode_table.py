"""Write keras_bert_layers/text/unicode_table.npz: what BERT's normalisation makes of every code point.

It also says what counts as a space and as part of a word beside an added token.

The reference is asked, not reimplemented: each of Unicode's 1,112,064 characters goes through `tokenizers`'
`BertNormalizer` and `BertPreTokenizer`, between two letters, under every setting. Run it again when `tokenizers`
changes what it does (tests/text/test_bert_tokenizer.py fails then):

    python benchmarks/make_unicode_table.py keras_bert_layers/text/unicode_table.npz
"""

import argparse
import unicodedata

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

CHARACTERS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
SETTINGS = {
    "keep_case": {"lowercase": False, "strip_accents": False},
    "strip_accents": {"lowercase": False, "strip_accents": True},
    "lowercase": {"lowercase": True, "strip_accents": False},
    "lowercase_strip_accents": {"lowercase": True, "strip_accents": True},
}


def reference_mapping(lowercase: bool, strip_accents: bool, chinese: bool) -> dict[str, str]:
    """Return what each changed character becomes, with spaces wherever the pre-tokenizer would split."""
    normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    mapping = {}
    for character in CHARACTERS:
        words = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str("a" + character + "a"))
        normalized = " ".join(word for word, _ in words)[1:-1]
        if normalized != character:
            mapping[character] = normalized
    return mapping


def reordered_marks(stripped: dict[str, str]) -> list[tuple[int, int]]:
    """Return (code point, combining class) of the marks that canonical reordering may move and that are kept."""
    decompose = normalizers.NFD().normalize_str

    def moves(first: str, second: str) -> bool:
        return decompose("a" + first + second) == "a" + second + first

    lowest, highest = "\u0334", "\u0345"
    return [
        (ord(c), unicodedata.combining(c))
        for c in CHARACTERS
        if stripped.get(c, c) != "" and decompose(c) == c and (moves(c, lowest) or moves(highest, c))
    ]


def neighbours_of_added_tokens(characters: list[str]) -> tuple[list[bool], list[bool]]:
    """Return which characters are spaces (`rstrip` takes them in) and which are parts of words (`single_word`)."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("R", rstrip=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("S", single_word=True, normalized=False)])
    stripped = tokenizer.encode_batch(["R" + character for character in characters])
    alone = tokenizer.encode_batch(["S" + character for character in characters])
    return [code.offsets[0] == (0, 2) for code in stripped], [code.ids[:1] != [2] for code in alone]


def bounds(characters: list[str], member: list[bool]) -> np.ndarray:
    """Return the code points at which ranges of members start and end, in turns."""
    flags = np.zeros(0x110001, np.int8)
    flags[[ord(c) for c, is_member in zip(characters, member, strict=True) if is_member]] = 1
    return np.flatnonzero(np.diff(flags, prepend=0)).astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="path of the .npz to write")
    output = parser.parse_args().output

    arrays = {}
    for name, setting in SETTINGS.items():
        plain = reference_mapping(**setting, chinese=False)
        spaced = reference_mapping(**setting, chinese=True)
        chinese = [c for c in CHARACTERS if plain.get(c, c) != spaced.get(c, c)]
        if any(spaced[c] != f" {plain.get(c, c)} " for c in chinese):
            raise AssertionError("A Chinese character is more than its plain form between two spaces.")
        code_points = np.array([ord(c) for c in chinese])
        starts = code_points[np.diff(code_points, prepend=-1) != 1]
        ends = code_points[np.diff(code_points, append=0x110000) != 1] + 1
        ranges = np.stack([starts, ends], axis=1).astype(np.int32)
        if not np.array_equal(arrays.setdefault("chinese_ranges", ranges), ranges):
            raise AssertionError("What counts as Chinese depends on case or accents.")
        if name == "strip_accents":
            arrays["reordered_marks"] = np.array(reordered_marks(plain), np.int32)
        # Differences of neighbouring code points are mostly 1, which is what deflate likes.
        arrays[f"{name}_steps"] = np.diff([ord(c) for c in plain], prepend=0).astype(np.int32)
        arrays[f"{name}_strings"] = np.frombuffer("\n".join(plain.values()).encode(), np.uint8)
        print(f"{name}: {len(plain)} characters change")
    spaces, word_parts = neighbours_of_added_tokens(CHARACTERS)
    arrays["space_bounds"] = bounds(CHARACTERS, spaces)
    arrays["word_bounds"] = bounds(CHARACTERS, word_parts)
    np.savez_compressed(output, **arrays)
    print(f"{output}: {len(arrays['chinese_ranges'])} ranges of Chinese characters")


if __name__ == "__main__":
    main()
