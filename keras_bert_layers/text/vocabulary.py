"""Vocabularies: their files, and what is one."""

import os
from collections.abc import Mapping, Sequence

from keras_bert_layers.checkpoints.json_file import read_text

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

# The largest vocabulary of a BERT is LaBSE's, with 501,153 tokens; beyond this one building takes minutes.
MOST_TOKENS = 1_000_000


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """Reads the tokens of a `vocab.txt`, one a line; a line's number is the token's id.

    Args:
        path: path of the file, UTF-8.

    Returns:
        The list of tokens, empty lines inside included. Those at the end are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, not UTF-8, or has over `MOST_TOKENS` lines.

    Example:

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "vocab.txt")
    ...     _ = path.write_text("[PAD]\\n[UNK]\\n")
    ...     read_vocabulary(path)
    ['[PAD]', '[UNK]']
    """
    if not os.path.exists(path) or os.path.isdir(path):
        raise FileNotFoundError(
            f"Expected a vocabulary file with one token a line. Received: vocabulary={os.fspath(path)!r}, and there is "
            "no such file. For a checkpoint's directory or repository id use `from_pretrained`."
        )
    return read_tokens(path)


def read_tokens(path: str | os.PathLike[str]) -> list[str]:
    """`read_vocabulary` of a checkpoint's own file; where it cannot be read, the error names it."""
    # As transformers reads it, which opens it as text; `str.splitlines` would split at tokens such as U+2028.
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    _check_number_of_tokens(text.count("\n") + 1, os.fspath(path))
    return text.split("\n")


def check_vocabulary(vocabulary: Sequence[str], special_tokens: dict[str, str], where: str) -> None:
    """Checks that a list of tokens is the vocabulary of a BERT.

    Args:
        vocabulary: the tokens.
        special_tokens: the names of the special tokens, under the keys of `SPECIAL_TOKENS`.
        where: what the message calls it: the file's name.

    Raises:
        ValueError: if it lacks a special token, or holds something that is not a token.

    Example:

    >>> check_vocabulary(["[PAD]", "[UNK]", "[CLS]"], SPECIAL_TOKENS, "vocab.txt")
    Traceback (most recent call last):
    ValueError: Expected vocab.txt to hold [PAD], [UNK], [CLS] and [SEP]. Received: vocabulary of 3 tokens ...
    """
    _check_number_of_tokens(len(vocabulary), where)
    others = [token for token in vocabulary if not isinstance(token, str)]
    if others:
        raise ValueError(
            f"Expected {where} to be a list of str. "
            f"Received: vocabulary with {len(others)} other items, the first of them {others[0]!r}."
        )
    required = [token for name, token in special_tokens.items() if name != "mask_token"]
    known = set(vocabulary)
    missing = [token for token in required if token not in known]
    if missing:
        raise ValueError(
            f"Expected {where} to hold {', '.join(required[:-1])} and {required[-1]}. Received: vocabulary of "
            f"{len(vocabulary)} tokens without {', '.join(missing)}. If they have other names, say them: "
            'special_tokens={"cls_token": "<s>"}, or a special_tokens_map.json beside the checkpoint.'
        )
    surrogates = [token for token in vocabulary if not token.isascii() and any("\ud800" <= c < "\ue000" for c in token)]
    if surrogates:
        raise ValueError(
            f"Expected {where} to hold tokens that UTF-8 can encode. "
            f"Received: vocabulary with lone surrogates, the first in {surrogates[0]!r}."
        )
    long = [token for token in vocabulary if len(token) > 64 and len(token.removeprefix("##").encode()) > 256]
    if long:
        raise ValueError(
            f"Expected {where} to hold tokens of at most 256 bytes of UTF-8. "
            f"Received: vocabulary with {len(long)} longer tokens, the first of them {long[0][:300]!r}."
        )


def _check_number_of_tokens(count: int, where: str) -> None:
    if count > MOST_TOKENS:
        raise ValueError(
            f"Expected {where} to hold at most {MOST_TOKENS:,} tokens. Received: vocabulary of {count:,} tokens. "
            "Take the vocabulary that belongs to the weights."
        )


def check_special_tokens(names: Mapping[str, str] | None) -> dict[str, str]:
    """Checks names of special tokens, and adds BERT's own for those that are not among them.

    Args:
        names: some of the keys of `SPECIAL_TOKENS` with other names, or None.

    Returns:
        A name for each key of `SPECIAL_TOKENS`.

    Raises:
        ValueError: for other keys, and for names that are not a token.

    Example:

    >>> check_special_tokens({"cls_token": "<s>"})["cls_token"]
    '<s>'
    """
    received = {} if names is None else names
    if (
        not isinstance(received, Mapping)
        or set(received) - set(SPECIAL_TOKENS)
        or not all(isinstance(token, str) and token.split() == [token] for token in received.values())
    ):
        raise ValueError(
            f"Expected `special_tokens` to give some of {', '.join(SPECIAL_TOKENS)} another name, a str without "
            f"white space. Received: special_tokens={names!r}."
        )
    return {**SPECIAL_TOKENS, **received}
