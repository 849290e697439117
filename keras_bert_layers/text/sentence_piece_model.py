"""SentencePiece's model file, which is a protocol buffer, read without its package and checked before it is used."""

import dataclasses
import os
import pathlib
import struct
from collections.abc import Iterator

import numpy as np

from keras_bert_layers.checkpoints.checkpoint_file import check_file
from keras_bert_layers.text.vocabulary import MOST_TOKENS

# What a piece is (sentencepiece_model.proto, `SentencePiece.Type`). A control piece is never found in a text.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# XLM-R's, with 250,000 pieces, has 5 MB.
_MAX_BYTES = 64 * 2**20
_MAX_PIECE_BYTES = 256
MAX_SCORE = 1e30

# Fields of the protocol buffer.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE, _SCORE, _KIND = 1, 2, 3
_MODEL_TYPE, _SPACE_AS_SUFFIX, _BYTE_FALLBACK, _UNKNOWN_ID, _UNKNOWN_PIECE = 3, 24, 35, 40, 45
_CHARACTER_MAP, _ADD_SPACE, _REMOVE_SPACES, _ESCAPE_SPACES = 2, 3, 4, 5
_UNIGRAM = 1
_MODEL_TYPES = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}

# Types of the wire format: an integer, 8 bytes, bytes with their length before them, 4 bytes.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclasses.dataclass
class SentencePieceModel:
    """A unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959): its pieces, and how a text is normalised.

    Args:
        pieces: the pieces, whose places in the list are their ids.
        scores: of each piece its log probability.
        kinds: of each piece what it is: `NORMAL`, `UNKNOWN` (one of them), `CONTROL`, `USER_DEFINED` or `UNUSED`.
        character_map: SentencePiece's `precompiled_charsmap`: a double-array trie and the strings that it leads to.
            Empty where texts stay as they are.
        add_space: whether a text begins with a space that it does not have (`add_dummy_prefix`).
        remove_spaces: whether spaces at the ends go, and of several spaces one stays (`remove_extra_whitespaces`).

    Example:

    >>> model = SentencePieceModel(["<unk>", "\u2581a"], [0.0, -1.0], [UNKNOWN, NORMAL])
    >>> SentencePieceModel.from_bytes(model.to_bytes(), "the model").pieces
    ['<unk>', '\u2581a']
    """

    pieces: list[str]
    scores: list[float]
    kinds: list[int]
    character_map: bytes = b""
    add_space: bool = True
    remove_spaces: bool = True

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "SentencePieceModel":
        """Reads a model file.

        Args:
            path: the file.

        Returns:
            The model.

        Raises:
            FileNotFoundError, PermissionError: if there is no such file, or this account may not read it.
            ValueError: as `from_bytes`; if it is too large.
        """
        path = pathlib.Path(path)
        check_file(path)
        with path.open("rb") as file:
            return cls.from_bytes(file.read(_MAX_BYTES + 1), str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "SentencePieceModel":
        """Reads a serialised model.

        Args:
            data: the protocol buffer `ModelProto`.
            where: what messages call it: the file's name.

        Returns:
            The model.

        Raises:
            ValueError: if it is damaged, no unigram model, or does what is not supported here.
        """
        if len(data) > _MAX_BYTES:
            raise ValueError(
                f"Expected {where} to be a SentencePiece model of at most {_MAX_BYTES:,} bytes. Received: more. "
                "Take the model that belongs to the weights."
            )
        pieces: list[str] = []
        scores: list[float] = []
        kinds: list[int] = []
        trainer: dict[int, int | bytes] = {_MODEL_TYPE: _UNIGRAM}
        normalizer: dict[int, int | bytes] = {}
        try:
            for number, value in _fields(data):
                if number == _PIECES:
                    piece: dict[int, int | bytes] = {_PIECE: b"", _SCORE: b"\0\0\0\0", _KIND: NORMAL}
                    piece |= dict(_fields(_bytes(value)))
                    pieces.append(_bytes(piece[_PIECE]).decode("utf-8"))
                    scores.append(struct.unpack("<f", _bytes(piece[_SCORE]))[0])
                    kinds.append(_int(piece[_KIND]))
                    if len(pieces) > MOST_TOKENS:
                        raise ValueError(f"more than {MOST_TOKENS:,} pieces")
                elif number == _TRAINER:
                    trainer |= dict(_fields(_bytes(value)))
                elif number == _NORMALIZER:
                    normalizer |= dict(_fields(_bytes(value)))
            character_map = _bytes(normalizer.get(_CHARACTER_MAP, b""))
            add_space, remove_spaces, escape = (
                bool(_int(normalizer.get(name, 1))) for name in (_ADD_SPACE, _REMOVE_SPACES, _ESCAPE_SPACES)
            )
            model_type, suffix, fallback = (
                _int(trainer.get(name, 0)) for name in (_MODEL_TYPE, _SPACE_AS_SUFFIX, _BYTE_FALLBACK)
            )
        except (ValueError, IndexError, struct.error) as error:
            raise ValueError(
                f"Expected {where} to be a SentencePiece model. Received: one that cannot be read ({error}). "
                "Copy or download it again."
            ) from error
        if model_type != _UNIGRAM or suffix or fallback or BYTE in kinds or not escape:
            received = {
                "model_type": _MODEL_TYPES.get(model_type, model_type),
                "treat_whitespace_as_suffix": bool(suffix),
                "byte_fallback": bool(fallback) or BYTE in kinds,
                "escape_whitespaces": escape,
            }
            raise ValueError(
                f"Expected {where} to be a unigram model, as of XLM-R and ALBERT, with spaces before the words and "
                f"without byte fallback. Received: {', '.join(f'{name}={value}' for name, value in received.items())}. "
                "Tokenise with transformers, and give the encoder the ids."
            )
        model = cls(pieces, scores, kinds, character_map, add_space, remove_spaces)
        model.check(where)
        return model

    def check(self, where: str) -> None:
        """Refuses what SentencePiece would fail on, or read beyond its memory with.

        Args:
            where: what messages call the model.

        Raises:
            ValueError: if pieces are empty or repeated, scores are not finite, the number of unknown pieces is not one,
                or the character map leads out of itself.
        """
        problem = self._problem_of_pieces() or _problem_of_character_map(self.character_map)
        if problem:
            raise ValueError(
                f"Expected {where} to be a SentencePiece model. Received: {problem}. Copy or download it again."
            )

    def _problem_of_pieces(self) -> str | None:
        if not 0 < len(self.pieces) <= MOST_TOKENS:
            return f"{len(self.pieces):,} pieces, where 1 to {MOST_TOKENS:,} can be"
        if self.kinds.count(UNKNOWN) != 1:
            return f"{self.kinds.count(UNKNOWN)} pieces for what is unknown, where 1 is to be"
        if not NORMAL <= min(self.kinds) <= max(self.kinds) <= UNUSED:
            return "a piece of an unknown type"
        if not {NORMAL, USER_DEFINED} & set(self.kinds):
            return "no piece that a text can have"
        if len(set(self.pieces)) != len(self.pieces):
            return "a piece that is there twice"
        if not all(abs(score) < MAX_SCORE for score in self.scores):
            return "a score that is no number of 4 bytes"
        for piece in self.pieces:
            # JSON can hold lone surrogates.
            size = len(piece.encode("utf-8", "surrogatepass"))
            if not 0 < size <= _MAX_PIECE_BYTES or any(c == "\0" or "\ud800" <= c <= "\udfff" for c in piece):
                return (
                    f"the piece {piece[:300]!r}, which is empty, longer than {_MAX_PIECE_BYTES} bytes of UTF-8, or "
                    "has a NUL or a lone surrogate"
                )
        return None

    def to_bytes(self) -> bytes:
        """Writes the model as the protocol buffer that SentencePiece reads.

        Returns:
            The serialised `ModelProto`.
        """
        parts = []
        for piece, score, kind in zip(self.pieces, self.scores, self.kinds, strict=True):
            encoded = piece.encode()
            content = _tag(_PIECE, _BYTES) + _varint(len(encoded)) + encoded
            content += _tag(_SCORE, _FIXED32) + struct.pack("<f", score)
            if kind != NORMAL:
                content += _tag(_KIND, _VARINT) + _varint(kind)
            parts.append(_tag(_PIECES, _BYTES) + _varint(len(content)) + content)
        unknown = self.kinds.index(UNKNOWN)
        trainer = _tag(_MODEL_TYPE, _VARINT) + _varint(_UNIGRAM) + _tag(_UNKNOWN_ID, _VARINT) + _varint(unknown)
        trainer += _message(_UNKNOWN_PIECE, self.pieces[unknown].encode())
        normalizer = _message(_CHARACTER_MAP, self.character_map)
        for number, flag in ((_ADD_SPACE, self.add_space), (_REMOVE_SPACES, self.remove_spaces)):
            normalizer += _tag(number, _VARINT) + _varint(int(flag))
        return b"".join([*parts, _message(_TRAINER, trainer), _message(_NORMALIZER, normalizer)])


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and the value of each field of a message: an int, or the bytes of anything else."""
    place, size = 0, len(data)
    while place < size:
        tag, place = _read_varint(data, place)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, place = _read_varint(data, place)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, place = _read_varint(data, place)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"a field of the wire type {wire_type}")
        if length > size - place:
            raise ValueError("it ends within a field")
        yield number, data[place : place + length]
        place += length


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = data[place]
    if value < 0x80:
        return value, place + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        place += 1
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
    raise ValueError("an integer of more than 10 bytes")


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("an integer in the place of bytes")
    return value


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes in the place of an integer")
    return value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _message(number: int, content: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(content)) + content


def _problem_of_character_map(character_map: bytes) -> str | None:
    """Says where the trie would lead SentencePiece, which follows it without looking, out of its memory.

    The trie is darts-clone's: unit `p` has an offset, and the byte `b` leads to unit `p ^ offset ^ b`; a unit with the
    bit 8 has a value at `p ^ offset`: the place in the strings behind the trie of what its key becomes, up to a NUL.
    """
    if not character_map:
        return None
    size = int.from_bytes(character_map[:4], "little")
    strings = character_map[4 + size :]
    if size % 1024 or not 0 < size < len(character_map) - 4 or strings[-1]:
        return "a character map of another form"
    units = np.frombuffer(character_map, "<u4", size // 4, 4)
    numbers = np.arange(len(units), dtype=np.int64)
    shift = (units & 1 << 9) >> 6
    target = numbers ^ (units.astype(np.int64) >> 10 << shift)
    # A unit that holds a value is no place on a way; the first one is, whatever it holds.
    is_way = units >> 31 == 0
    is_way[0] = True
    if (target[is_way] | 0xFF).max() >= len(units):
        return "a character map that leads out of itself"
    values = units[target[is_way & (units >> 8 & 1 == 1)]] & 0x7FFFFFFF
    if values.size and values.max() >= len(strings):
        return "a character map that leads behind its end"
    return None
