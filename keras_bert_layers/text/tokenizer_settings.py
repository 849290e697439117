"""Reads what a checkpoint says about its tokenizer."""

import glob
import json
import os
import pathlib
from typing import Any

import tensorflow as tf

from keras_bert_layers.checkpoints.source import TOKENIZER_FILES, find_checkpoint, missing_files_error

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

# Classes of transformers that split text as BERT does. `None` and the generic class say nothing against it.
_BERT_TOKENIZERS = {
    f"{name}Tokenizer"
    for name in ("Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "LayoutLM", "SqueezeBert", "Lxmert", "DPR")
} | {"PreTrainedTokenizer", "TokenizersBackend"}


def read_tokenizer_settings(source: Any, **download: Any) -> dict[str, Any]:
    """Return the vocabulary and the settings of a checkpoint's tokenizer.

    Hugging Face's `tokenizer_config.json` decides, with the defaults that transformers' `BertTokenizerFast` has. Where
    there is none, `tokenizer.json` does; and where there is neither, as beside the checkpoints that Google released, a
    vocabulary in which no token has a capital letter is an uncased one. A TF Hub encoder says it itself.

    Args:
        source: A directory or Hugging Face repository id with a `vocab.txt` or `tokenizer.json`, or a TF Hub encoder:
            the loaded object, or the directory of its SavedModel.
        **download: `revision`, `cache_dir`, `token`, `local_files_only`, for `find_checkpoint`.

    Returns:
        A dict with `vocabulary` (list of str), `lowercase`, `strip_accents` and `tokenize_chinese_chars`.

    Raises:
        FileNotFoundError: If there is no vocabulary.
        ValueError: If the tokenizer is no BERT tokenizer, or has special or added tokens that a BERT tokenizer lacks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = pathlib.Path(directory, "vocab.txt").write_text("[UNK]\\nword\\n")
    ...     read_tokenizer_settings(directory)["vocabulary"]
    ['[UNK]', 'word']
    """
    if hasattr(source, "vocab_file"):
        if not hasattr(source, "do_lower_case"):
            raise ValueError(
                "A TF Hub BERT encoder is expected to have `vocab_file` and `do_lower_case`. "
                f"Received: source={source!r}, which has no `do_lower_case`. Give `BertTokenizer` the vocabulary file "
                "and `lowercase=`."
            )
        path = source.vocab_file.asset_path.numpy().decode()
        return {"vocabulary": read_vocabulary(path), "lowercase": bool(source.do_lower_case.numpy())}
    directory = find_checkpoint(source, TOKENIZER_FILES, **download)
    if (directory / "saved_model.pb").exists():
        return _read_tfhub_settings(directory)
    return _read_huggingface_settings(directory)


def read_vocabulary(path: str | os.PathLike) -> list[str]:
    """Return the tokens of a `vocab.txt`, one a line; a line's number is the token's id.

    Args:
        path: Path of the file, UTF-8.

    Returns:
        The list of tokens. Empty lines at the end are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not UTF-8.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "vocab.txt")
    ...     _ = path.write_text("[PAD]\\n[UNK]\\n")
    ...     read_vocabulary(path)
    ['[PAD]', '[UNK]']
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"A vocabulary file with one token a line is expected. Received: vocabulary={os.fspath(path)!r}, and there "
            "is no such file. For a checkpoint's directory or repository id use `from_pretrained`."
        )
    try:
        # Only line feeds end a line: vocabularies hold tokens such as U+2028, which `str.splitlines` would split at.
        with open(path, encoding="utf-8") as file:
            tokens = [line.rstrip("\n") for line in file]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"A vocabulary file is expected to be UTF-8. Received: vocabulary={os.fspath(path)!r}, {error}."
        ) from error
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens


def _read_tfhub_settings(directory: pathlib.Path) -> dict[str, Any]:
    vocabularies = glob.glob(os.path.join(glob.escape(str(directory)), "assets", "*vocab*.txt"))
    key = "do_lower_case/.ATTRIBUTES/VARIABLE_VALUE"
    # Its variables are a checkpoint: reading one of them is quicker than loading the model.
    variables = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    if len(vocabularies) != 1 or not variables.has_tensor(key):
        raise ValueError(
            "A TF Hub BERT encoder is expected to have one vocabulary among its assets and to say `do_lower_case`. "
            f"Received: source={str(directory)!r} with vocabularies={vocabularies} and "
            f"do_lower_case={'present' if variables.has_tensor(key) else 'missing'}. Give `BertTokenizer` the "
            "vocabulary file and `lowercase=`."
        )
    return {"vocabulary": read_vocabulary(vocabularies[0]), "lowercase": bool(variables.get_tensor(key))}


def _read_huggingface_settings(directory: pathlib.Path) -> dict[str, Any]:
    config = _read_json(directory / "tokenizer_config.json")
    _check_tokenizer(directory / "tokenizer_config.json", config)
    _check_special_tokens(directory / "special_tokens_map.json", _read_json(directory / "special_tokens_map.json"))
    fast = _read_json(directory / "tokenizer.json")
    if (directory / "vocab.txt").exists():
        vocabulary = read_vocabulary(directory / "vocab.txt")
    elif fast:
        vocabulary = _vocabulary_of_fast_tokenizer(directory / "tokenizer.json", fast)
    else:
        raise missing_files_error(f"The directory {directory}", ("vocab.txt", "tokenizer.json"), os.listdir(directory))
    _check_added_tokens(directory, config, fast, vocabulary)

    settings: dict[str, Any] = {"vocabulary": vocabulary}
    normalizer = fast.get("normalizer") or {}
    if "do_lower_case" in config or (config and not normalizer):
        settings["lowercase"] = config.get("do_lower_case", True)
        settings["strip_accents"] = config.get("strip_accents")
        settings["tokenize_chinese_chars"] = config.get("tokenize_chinese_chars", True)
    elif normalizer:
        settings["lowercase"] = normalizer.get("lowercase", True)
        settings["strip_accents"] = normalizer.get("strip_accents")
        settings["tokenize_chinese_chars"] = normalizer.get("handle_chinese_chars", True)
    else:
        words = (token for token in vocabulary if not token.startswith("["))
        settings["lowercase"] = all(word == word.lower() for word in words)
    return settings


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _check_tokenizer(path: pathlib.Path, config: dict[str, Any]) -> None:
    name = config.get("tokenizer_class")
    if name is not None and name.removesuffix("Fast") not in _BERT_TOKENIZERS:
        raise ValueError(
            f"A tokenizer that splits text as BERT's does is expected. Received: tokenizer_class={name!r} in {path}. "
            "Tokenise with transformers, and give the encoder the ids."
        )
    _check_special_tokens(path, config)


def _check_special_tokens(path: pathlib.Path, config: dict[str, Any]) -> None:
    for name, expected in SPECIAL_TOKENS.items():
        received = config.get(name, expected)
        if isinstance(received, dict):
            received = received.get("content")
        if received not in (expected, None):
            raise ValueError(f"BERT's special token {expected} is expected. Received: {name}={received!r} in {path}.")


def _vocabulary_of_fast_tokenizer(path: pathlib.Path, fast: dict[str, Any]) -> list[str]:
    model = fast.get("model", {})
    normalizer = (fast.get("normalizer") or {}).get("type")
    if (
        # Files of old versions do not name the model; only word pieces have a limit on a word's length.
        model.get("type", "WordPiece") != "WordPiece"
        or model.get("max_input_chars_per_word") != 100
        or model.get("continuing_subword_prefix", "##") != "##"
        or normalizer != "BertNormalizer"
    ):
        raise ValueError(
            "A `tokenizer.json` with BERT's normalizer and word pieces of at most 100 characters is expected. "
            f"Received: normalizer={normalizer!r} and model={ {k: v for k, v in model.items() if k != 'vocab'} } in "
            f"{path}. Tokenise with transformers, and give the encoder the ids."
        )
    ids = model["vocab"]
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"Ids from 0 on, without gaps, are expected. Received: {len(ids)} other ids in {path}.")
    return sorted(ids, key=ids.__getitem__)


def _check_added_tokens(
    directory: pathlib.Path, config: dict[str, Any], fast: dict[str, Any], vocabulary: list[str]
) -> None:
    """Refuse tokens that the reference would look for in the text before it splits it."""
    listed = [*config.get("added_tokens_decoder", {}).values(), *fast.get("added_tokens", [])]
    added = {token["content"] for token in listed if not token.get("special")}
    added |= {token["content"] for token in listed if token["content"] not in vocabulary}
    added |= set(_read_json(directory / "added_tokens.json")) - set(vocabulary)
    if added:
        raise ValueError(
            "A tokenizer whose tokens are all in its vocabulary is expected. "
            f"Received: added tokens {sorted(added)} in {directory}. Write them into `vocab.txt`, in place of "
            "[unused] tokens, to have them treated as word pieces."
        )
