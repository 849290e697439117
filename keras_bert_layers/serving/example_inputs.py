"""Inputs of our own: for golden examples, for warm-up, and to measure what a smaller export loses."""

import math

import numpy as np
import tensorflow as tf

from keras_bert_layers.serving.served_model import token_key
from keras_bert_layers.token_inputs import MASK_NAMES

# None is a user's text. They mix lengths, scripts and what tokenizers are known to get wrong.
TEXTS = [
    "A bright day in May.",
    "Der Zug nach Köln fährt um 8:15 Uhr ab Gleis 3.",
    "今天天气很好,我们去公园吧。",
    "",
    "The price rose from $1,200 to $1,350.50 (12.5%) within a week.",
    "Why did nobody answer the letter that I sent last month? I asked twice, and I still do not know.",
    "¿Dónde está la biblioteca?",
    "Поезд опаздывает на двадцать минут.",
    "An umbrella stands in the corner, and nobody remembers whose it is.",
    "HELLO!!! this is NOT a [SEP] token :-)",
    "Le café était fermé; nous sommes rentrés à pied.",
    "It is not good.",
    "Water boils at 100 °C at sea level and at about 93 °C in La Paz.",
    "A film about two brothers, a boat and a very long winter.",
    "שלום עולם",
    "See chapter 4.2, e.g. the paragraph on errors, and write to nobody@example.com.",
]
GOLDEN_ROWS = 3


def rows_of(specs: dict[str, tf.TensorSpec], rows: int) -> int:
    """`rows`, or what the inputs of a signature have where their batch is fixed."""
    return next((spec.shape[0] for spec in specs.values() if spec.shape.rank and spec.shape[0] is not None), rows)


def example_inputs(specs: dict[str, tf.TensorSpec], rows: int) -> dict[str, np.ndarray]:
    """Values for the inputs of a signature, `rows` of them: the texts above, small ids, zeros for all else.

    They have the shape of each input, where that is fixed.
    """
    rows = rows_of(specs, rows)
    # The second text of a pair is another than the first.
    return {
        name: _strings(spec, rows, [*TEXTS[1:], TEXTS[0]] if name.endswith("_b") else TEXTS)
        if spec.dtype == tf.string
        else _numbers(name, spec, rows, 8)
        for name, spec in specs.items()
    }


def inputs_of_length(specs: dict[str, tf.TensorSpec], rows: int, tokens: int) -> dict[str, np.ndarray]:
    """Values for the inputs of a signature whose rows have `tokens` tokens, with [CLS] and [SEP]."""
    rows = rows_of(specs, rows)
    texts = sum(spec.dtype == tf.string for spec in specs.values())
    # One letter is one token in any vocabulary, be it [UNK].
    text = " ".join(["a"] * max(1, (tokens - 1) // max(1, texts) - 1))
    return {
        name: _strings(spec, rows, [text]) if spec.dtype == tf.string else _numbers(name, spec, rows, tokens)
        for name, spec in specs.items()
    }


def _strings(spec: tf.TensorSpec, rows: int, texts: list[str]) -> np.ndarray:
    """The texts in turn; where there is more than one axis, their words along the last."""
    if spec.shape.rank < 2:
        values = [texts[row % len(texts)] for row in range(rows)]
        return np.array(values if spec.shape.rank else values[0], dtype=object)
    outer = [rows, *(2 if size is None else size for size in spec.shape[1:-1])]
    split = [texts[number % len(texts)].split() for number in range(math.prod(outer))]
    width = spec.shape[-1]
    if width is None:
        width = max(1, *map(len, split))
    # Words that have no place of their own share the last: the whole text where there is one place.
    split = [[*words[: width - 1], " ".join(words[width - 1 :])] if len(words) > width else words for words in split]
    rows_of_words = [words + [""] * (width - len(words)) for words in split]
    return np.array(rows_of_words, dtype=object).reshape([*outer, width])


def _numbers(name: str, spec: tf.TensorSpec, rows: int, tokens: int) -> np.ndarray:
    shape = [rows, *(tokens if size is None else size for size in spec.shape[1:])] if spec.shape.rank else []
    value = np.zeros(shape, spec.dtype.as_numpy_dtype)
    key = token_key(name)
    if key and len(shape) > 1:
        real = min(tokens, shape[1])
        if key in MASK_NAMES:
            value[:, :real] = 1
        elif key in ("input_word_ids", "input_ids"):
            value[:, :real] = 1 + np.arange(real) % 3
        elif key == "word_ids":
            value[:] = -1
            value[:, 1 : real - 1] = np.arange(max(0, real - 2))
    return value
