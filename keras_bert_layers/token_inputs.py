"""The names of what encoders take for each token, in both families, and what stands at padding."""

import re
from collections.abc import Container

# Of ids, mask and type ids.
TFHUB_NAMES = ("input_word_ids", "input_mask", "input_type_ids")
HUGGINGFACE_NAMES = ("input_ids", "attention_mask", "token_type_ids")
MASK_NAMES = (TFHUB_NAMES[1], HUGGINGFACE_NAMES[1])

# Everything that a preprocessor makes for each token, with its value at padding.
PADDING = {
    **dict.fromkeys((*TFHUB_NAMES, *HUGGINGFACE_NAMES), 0),
    "offsets": 0,
    "word_ids": -1,
    "special_tokens_mask": 1,
}

_EXTRAS = re.compile(r"offsets|word_ids|special_tokens_mask|window_.*")


def family_of(inputs: Container[str]) -> tuple[str, str, str]:
    """Returns the family of names that a dict of inputs has: Hugging Face's or, unless `input_ids` is there, TF Hub's.

    Example:

    >>> family_of({"input_ids": ..., "offsets": ...})
    ('input_ids', 'attention_mask', 'token_type_ids')
    """
    return HUGGINGFACE_NAMES if HUGGINGFACE_NAMES[0] in inputs else TFHUB_NAMES


def is_extra(name: str) -> bool:
    """Whether a key is one that a preprocessor or a `WindowedEncoder` may add and that an encoder ignores.

    Example:

    >>> is_extra("window_mask"), is_extra("input_mask")
    (True, False)
    """
    return _EXTRAS.fullmatch(name) is not None
