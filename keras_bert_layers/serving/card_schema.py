"""What a card may hold, in one table, so that whoever reads one can trust it."""

import hashlib
import json
import math
import pathlib
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import tensorflow as tf

FORMAT = 1
# Real cards have a hundredth of it.
MAX_BYTES = 16 * 1024 * 1024
_MAX_RANK = 8


class _Is(NamedTuple):
    """A value of the card."""

    expected: str
    holds: Callable[[Any], bool]


def _is_int(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**31


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**64)


def _is_ascending(value: Any) -> bool:
    return isinstance(value, list) and all(_is_int(x, 1) for x in value) and value == sorted(set(value))


def _is_dtype(value: Any) -> bool:
    try:
        return isinstance(value, str) and tf.as_dtype(value).name == value
    except TypeError:
        return False


def _shape(value: Any, rank: int = 0) -> list[int] | None:
    """The shape of nested lists; None where they are ragged, too deep or hold anything but numbers and texts."""
    if isinstance(value, str) or _is_number(value):
        return []
    if not isinstance(value, list) or rank == _MAX_RANK:
        return None
    shapes = [_shape(item, rank + 1) for item in value]
    if any(shape is None or shape != shapes[0] for shape in shapes):
        return None
    return [len(value), *(shapes[0] or [] if shapes else [])]


def _is_output(value: Any) -> bool:
    """Whether an example's output holds as many values as its shape and stride say, all of one kind."""
    count = -(-math.prod(value["shape"]) // value["stride"])
    values = value["values"]
    return len(values) == count and len({isinstance(x, str) for x in values}) <= 1


_TEXT = _Is("a text", lambda value: isinstance(value, str))
_COUNT = _Is("an int of at least 1", lambda value: _is_int(value, 1))
_SIZE = _Is("an int of at least 0", lambda value: _is_int(value, 0))
_NUMBER = _Is("a number", _is_number)
_ASCENDING = _Is("a list of ascending ints, from 1", _is_ascending)
_OBJECT = _Is("an object", lambda value: isinstance(value, dict))
_SPEC = {"dtype": _Is("the name of a dtype", _is_dtype), "shape": [(_SIZE,)]}

# A list holds one kind of value, a tuple's value may be null, an object with `...` has any names, and in the others all
# names must be there but those with a question mark. What is not named here, a later version may have added.
_CARD: dict[Any, Any] = {
    "target?": _Is("cpu or gpu", lambda value: value in ("cpu", "gpu")),
    "dtype?": _TEXT,
    "quantize?": (_TEXT,),
    "loss_against_float32?": (_OBJECT,),
    "versions?": {...: (_TEXT,)},
    "encoders?": [{"name": _TEXT, "class": _TEXT}],
    "vocabulary?": ({"size": _COUNT, "sha256": _TEXT},),
    "tokenizer?": (_OBJECT,),
    "sequence_length?": (_COUNT,),
    "length_buckets?": (_ASCENDING,),
    "allowed_batch_sizes?": _ASCENDING,
    "signatures?": {...: {"inputs": {...: _SPEC}, "outputs": {...: _SPEC}}},
    "golden?": {
        ...: {
            "inputs": {...: _Is("lists of one shape, of numbers and texts", lambda value: _shape(value) is not None)},
            "outputs": {
                ...: {
                    "shape": [_SIZE],
                    "stride": _COUNT,
                    "tolerance": _NUMBER,
                    "values": [_Is("a number or a text", lambda value: isinstance(value, str) or _is_number(value))],
                }
            },
        }
    },
    "ops?": [_TEXT],
}
_OUTPUT = _Is("as many values as its shape and stride say, all numbers or all texts", _is_output)


def vocabulary_sha256(tokens: Iterable[str]) -> str:
    """The digest by which a card knows a vocabulary: of its tokens, joined by newlines."""
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def read_card(path: pathlib.Path) -> dict[str, Any]:
    """Reads a card of the format that this version writes.

    Args:
        path: of the file.

    Returns:
        The card; what stands in it is of the types and in the ranges of the schema.

    Raises:
        ValueError: for anything else, with a sentence on what is wrong with it.
        OSError: where it cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"The card has {path.stat().st_size} bytes, and no card has over {MAX_BYTES}.")
    try:
        return _checked(path.read_bytes())
    except RecursionError as error:
        raise ValueError("The card is nested too deep for a card.") from error


def _checked(content: bytes) -> dict[str, Any]:
    try:
        card = json.loads(content)
    except ValueError as error:
        raise ValueError("The card is not JSON, so that nobody can tell what this export is.") from error
    if not isinstance(card, dict):
        raise ValueError(f"The card is not a JSON object but a {type(card).__name__}.")
    if type(card.get("format")) is not int or card["format"] != FORMAT:
        raise ValueError(
            f"Its format is {reprlib.repr(card.get('format'))}, and this version of keras_bert_layers reads {FORMAT}: "
            "the export was not compared with it."
        )
    fault = _fault(card, _CARD, "")
    golden: dict[str, Any] = {} if fault else card.get("golden", {})
    for name, example in golden.items():
        fault = fault or _fault(example["outputs"], {...: _OUTPUT}, f"golden.{name}.outputs")
    if fault:
        raise ValueError(f"{fault} The export was not compared with it.")
    try:
        json.dumps(card, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("The card holds half a character (a lone surrogate), which no text has.") from error
    return card


def _fault(value: Any, schema: Any, path: str) -> str | None:
    """The first place where a value is not as the schema says, as a sentence."""
    if isinstance(schema, _Is):
        return None if schema.holds(value) else _sentence(path, value, schema.expected)
    if isinstance(schema, tuple):
        return None if value is None else _fault(value, schema[0], path)
    if isinstance(schema, list):
        if not isinstance(value, list):
            return _sentence(path, value, "a list")
        return next(filter(None, (_fault(x, schema[0], f"{path}[{i}]") for i, x in enumerate(value))), None)
    if not isinstance(value, dict):
        return _sentence(path, value, "an object")
    if ... in schema:
        return next(filter(None, (_fault(x, schema[...], f"{path}.{name}") for name, x in value.items())), None)
    for key, inner in schema.items():
        name = key.removesuffix("?")
        where = f"{path}.{name}".removeprefix(".")
        if name in value:
            if fault := _fault(value[name], inner, where):
                return fault
        elif name == key:
            return f"Its {where} is missing."
    return None


def _sentence(path: str, value: Any, expected: str) -> str:
    return f"Its {path} is {reprlib.repr(value)}, and {expected} is expected."
