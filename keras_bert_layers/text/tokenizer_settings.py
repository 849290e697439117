"""Reads what a checkpoint says about its tokenizer, and refuses what `BertTokenizer` would not do in the same way."""

import glob
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_bert_layers.checkpoints.source import TOKENIZER_FILES, find_checkpoint, missing_files_error
from keras_bert_layers.checkpoints.tfhub_saved_model import find_saved_model
from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.sentence_piece_settings import read_sentence_piece_settings, uses_sentence_pieces
from keras_bert_layers.text.tokenizer_files import (
    GENERIC_TOKENIZERS,
    SPLIT_OUTSIDE,
    TokenizerFiles,
    token_content,
    typed_value,
)
from keras_bert_layers.text.vocabulary import SPECIAL_TOKENS, check_vocabulary, read_tokens, read_vocabulary

# Classes of transformers that split text as BERT does.
_BERT_TOKENIZERS = {
    f"{name}Tokenizer"
    for name in (
        *("Bert", "DistilBert", "Electra", "MPNet", "MobileBert", "ConvBert", "LayoutLM", "SqueezeBert", "Lxmert"),
        *("DPR", "DPRQuestionEncoder", "DPRContextEncoder", "DPRReader", "RetriBert"),
    )
}
# The model types for which transformers takes one of these classes where no file names one.
_BERT_MODEL_TYPES = {
    *("bert", "distilbert", "electra", "mpnet", "mobilebert", "convbert", "layoutlm", "squeezebert", "lxmert", "dpr"),
    *("ernie", "megatron-bert", "nezha", "qdqbert", "retribert", "visual_bert"),
}


# It has other special tokens, and two of them between two texts.
_MPNET = "MPNetTokenizer"
_TOKENS_OF_ROBERTA = 6
_MPNET_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "[UNK]",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
}


class TokenizerSettings(NamedTuple):
    """What a checkpoint says about its tokenizer.

    Attributes:
        arguments: arguments of `BertTokenizer`, among them `vocabulary` as a list of str.
        files: the JSON files that say it; None of a TF Hub encoder.
        is_sentence_piece: whether `arguments` are those of `SentencePieceTokenizer`.
    """

    arguments: dict[str, Any]
    files: TokenizerFiles | None
    is_sentence_piece: bool = False


def read_tokenizer_settings(source: Any, *, sentence_pieces: bool = False, **download: Any) -> TokenizerSettings:
    """Reads the vocabulary and the settings of a checkpoint's tokenizer.

    `config.json`, `tokenizer_config.json`, `tokenizer.json`, `special_tokens_map.json` and `added_tokens.json` are all
    read, as `BertTokenizerFast` of transformers reads them; where they contradict each other, none of them is guessed
    to be right. On case and accents `tokenizer_config.json` decides, with that class's defaults. Where there is none,
    `tokenizer.json` does; and where there is neither, as beside the checkpoints that Google released, a vocabulary in
    which no token has a capital letter is an uncased one. A TF Hub encoder says it itself.

    Args:
        source: a directory or Hugging Face repository id with a `vocab.txt` or `tokenizer.json`, or a TF Hub encoder:
            the loaded object, or the directory of its SavedModel.
        sentence_pieces: whether the tokenizer may be one of SentencePiece's.
        **download: `revision`, `cache_dir`, `token`, `local_files_only`, for `find_checkpoint`.

    Returns:
        The `TokenizerSettings`.

    Raises:
        FileNotFoundError: if there is no vocabulary.
        ValueError: if the tokenizer does what `BertTokenizer` does not, or a file is damaged or contradicts another.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = pathlib.Path(directory, "vocab.txt").write_text("[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\nword\\n")
    ...     read_tokenizer_settings(directory).arguments["vocabulary"]
    ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'word']
    """
    if hasattr(source, "vocab_file"):
        if not hasattr(source, "do_lower_case"):
            raise ValueError(
                "Expected a TF Hub BERT encoder to have `vocab_file` and `do_lower_case`. "
                f"Received: source={source!r}, which has no `do_lower_case`. Give `BertTokenizer` the vocabulary file "
                "and `lowercase=`."
            )
        path = source.vocab_file.asset_path.numpy().decode()
        arguments = {"vocabulary": read_vocabulary(path), "lowercase": bool(source.do_lower_case.numpy())}
        return TokenizerSettings(arguments, None)
    directory = find_checkpoint(source, TOKENIZER_FILES, **download)
    if (directory / "saved_model.pb").exists():
        return TokenizerSettings(_read_tfhub_settings(directory), None)
    files = TokenizerFiles(directory)
    if sentence_pieces and uses_sentence_pieces(files):
        return TokenizerSettings(read_sentence_piece_settings(source, **download), files, True)
    return TokenizerSettings(_read_huggingface_settings(files), files)


def replace_added_tokens(arguments: dict[str, Any], added_tokens: Iterable[Any] | None) -> None:
    """Puts other added tokens in the place of those that a checkpoint lists, whose ids stay.

    Args:
        arguments: of `TokenizerSettings`; they are changed.
        added_tokens: the tokens, or None to change nothing.

    Example:

    >>> arguments = {"vocabulary": ["word"], "added_tokens": [AddedToken("[E11]")]}
    >>> replace_added_tokens(arguments, [])
    >>> arguments
    {'vocabulary': ['word', '[E11]'], 'added_tokens': []}
    """
    if added_tokens is not None:
        vocabulary = arguments["vocabulary"]
        known = set(vocabulary)
        listed = (token.content for token in arguments.get("added_tokens", ()))
        arguments["vocabulary"] = vocabulary + [content for content in listed if content not in known]
        arguments["added_tokens"] = added_tokens


def _read_tfhub_settings(directory: pathlib.Path) -> dict[str, Any]:
    find_saved_model(directory)
    vocabularies = glob.glob(os.path.join(glob.escape(str(directory)), "assets", "*vocab*.txt"))
    key = "do_lower_case/.ATTRIBUTES/VARIABLE_VALUE"
    # Its variables are a checkpoint: reading one of them is quicker than loading the model.
    variables = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    if len(vocabularies) != 1 or not variables.has_tensor(key):
        raise ValueError(
            "Expected a TF Hub BERT encoder to have one vocabulary among its assets and to say `do_lower_case`. "
            f"Received: source={str(directory)!r} with vocabularies={vocabularies} and "
            f"do_lower_case={'present' if variables.has_tensor(key) else 'missing'}. Give `BertTokenizer` the "
            "vocabulary file and `lowercase=`."
        )
    return {"vocabulary": read_vocabulary(vocabularies[0]), "lowercase": bool(variables.get_tensor(key))}


def _read_huggingface_settings(files: TokenizerFiles) -> dict[str, Any]:
    directory = files.directory
    class_name = _tokenizer_class(files)
    special_tokens = files.special_tokens(_MPNET_TOKENS if class_name == _MPNET else SPECIAL_TOKENS)
    files.check_sides()
    vocabulary_path, fast_path = directory / "vocab.txt", files.path("tokenizer.json")
    fast = files["tokenizer.json"]
    lines = read_tokens(vocabulary_path) if os.path.lexists(vocabulary_path) else None
    has_fast = "tokenizer.json" in files
    if has_fast and lines and fast.get("normalizer") is None and class_name not in GENERIC_TOKENIZERS:
        # transformers cannot load such a file as the class that the checkpoint names, and falls back in the same way.
        warnings.warn(
            f"{fast_path} has no normalizer, and so is not the tokenizer of a BERT. {vocabulary_path} is used alone.",
            stacklevel=4,
        )
        has_fast, fast = False, {}
    if has_fast:
        _check_fast_tokenizer(files, special_tokens)
        ids = _fast_ids(files)
        vocabulary = _fast_vocabulary(fast_path, ids) if lines is None else lines
        if lines is not None:
            _check_same_ids(vocabulary_path, lines, fast_path, ids, files)
    elif lines is not None:
        vocabulary = lines
    else:
        raise missing_files_error(f"The directory {directory}", ("vocab.txt", "tokenizer.json"), os.listdir(directory))
    path = fast_path if lines is None else vocabulary_path
    added_tokens, appended = _added_tokens(files, fast, vocabulary, special_tokens)
    # The model's own are not added tokens here; they stand in the vocabulary, with those before them.
    own = [number for number, content in enumerate(appended, 1) if content in special_tokens.values()]
    vocabulary, appended = vocabulary + appended[: max(own, default=0)], appended[max(own, default=0) :]
    check_vocabulary(vocabulary, special_tokens, str(path))
    _compare_with_embeddings(files, len(vocabulary) + len(appended), path)
    order = {content: number for number, content in enumerate(appended)}
    added_tokens.sort(key=lambda token: order.get(token.content, -1))
    return {
        "vocabulary": vocabulary,
        **_normalization(files, fast, class_name, vocabulary),
        "added_tokens": added_tokens,
        "special_tokens": special_tokens,
        "pair_format": "roberta" if class_name == _MPNET or _is_roberta(fast) else "bert",
    }


def _tokenizer_class(files: TokenizerFiles) -> str:
    """Returns the name of transformers' class, without "Fast", that the checkpoint is loaded as."""
    named = []
    for name in ("tokenizer_config.json", files.config):
        class_name = files.get(name, "tokenizer_class", str, null=True)
        if class_name is not None:
            named.append(class_name.removesuffix("Fast"))
            if named[-1] not in _BERT_TOKENIZERS | GENERIC_TOKENIZERS:
                raise ValueError(
                    "Expected a tokenizer that splits text as BERT's does. "
                    f"Received: tokenizer_class={class_name!r} in {files.path(name)}. {SPLIT_OUTSIDE}"
                )
        for key, expected in (("word_tokenizer_type", "basic"), ("subword_tokenizer_type", "wordpiece")):
            received = files[name].get(key)
            if received not in (None, expected):
                raise ValueError(
                    f"Expected a tokenizer that splits text as BERT's does, with {key}={expected!r} if any. "
                    f"Received: {key}={received!r} in {files.path(name)}. {SPLIT_OUTSIDE}"
                )
    model_type = files.get(files.config, "model_type", str, null=True)
    if not named and model_type is not None and model_type not in _BERT_MODEL_TYPES:
        raise ValueError(
            "Expected a model whose tokenizer splits text as BERT's does. Received: "
            f"model_type={model_type!r} in {files.path(files.config)}, and no tokenizer_class. {SPLIT_OUTSIDE}"
        )
    return named[0] if named else _MPNET if model_type == "mpnet" else "BertTokenizer"


def _check_fast_tokenizer(files: TokenizerFiles, special_tokens: dict[str, str]) -> None:
    """Refuses a `tokenizer.json` that gives other ids than BERT's."""
    path = files.path("tokenizer.json")
    parts = ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    found = {part: files.get("tokenizer.json", part, dict, {}, null=True) for part in parts}
    cls, sep = special_tokens["cls_token"], special_tokens["sep_token"]
    model = found["model"]
    expected = {
        # Files of old versions do not name the model; only word pieces have a limit on a word's length.
        "model": (
            model.get("type", "WordPiece") == "WordPiece"
            and model.get("max_input_chars_per_word") == 100
            and model.get("continuing_subword_prefix", "##") == "##"
            and model.get("unk_token", special_tokens["unk_token"]) == special_tokens["unk_token"]
        ),
        "normalizer": (
            found["normalizer"].get("type") == "BertNormalizer" and found["normalizer"].get("clean_text", True) is True
        ),
        "pre_tokenizer": found["pre_tokenizer"].get("type") == "BertPreTokenizer",
        "post_processor": _puts_between(found["post_processor"], cls, sep),
        "decoder": found["decoder"].get("type") == "WordPiece" and found["decoder"].get("prefix", "##") == "##",
    }
    wrong = [part for part, is_bert in expected.items() if not is_bert]
    if wrong:
        shown = {part: {k: v for k, v in found[part].items() if k != "vocab"} or None for part in wrong}
        raise ValueError(
            "Expected a `tokenizer.json` that does what BERT's tokenizer does: words of at most 100 characters "
            f"with unk_token={special_tokens['unk_token']!r}, BertNormalizer with clean_text, BertPreTokenizer, and "
            f"{cls} and {sep} around the text. Received: "
            f"{', '.join(f'{part}={content}' for part, content in shown.items())} in {path}. {SPLIT_OUTSIDE}"
        )


def _is_roberta(fast: dict[str, Any]) -> bool:
    """Says whether a `tokenizer.json` puts two separators between two texts."""
    processor = fast.get("post_processor") or {}
    return processor.get("type") == "RobertaProcessing" or len(processor.get("pair") or ()) == _TOKENS_OF_ROBERTA


def _puts_between(processor: dict[str, Any], cls: str, sep: str) -> bool:
    """Whether a post-processor makes `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]`, or two [SEP] between the texts."""
    if processor.get("type") in ("BertProcessing", "RobertaProcessing"):
        ends = [processor.get("cls"), processor.get("sep")]
        return [end[:1] if isinstance(end, list) else None for end in ends] == [[cls], [sep]]

    def template(*pieces: tuple[str, str, int]) -> list[dict[str, Any]]:
        return [{kind: {"id": name, "type_id": type_id}} for kind, name, type_id in pieces]

    first = (("SpecialToken", cls, 0), ("Sequence", "A", 0), ("SpecialToken", sep, 0))
    second = (("Sequence", "B", 1), ("SpecialToken", sep, 1))
    return (
        processor.get("type") == "TemplateProcessing"
        and processor.get("single") == template(*first)
        and processor.get("pair") in (template(*first, *second), template(*first, first[-1], *second))
    )


def _fast_ids(files: TokenizerFiles) -> dict[str, int]:
    path = files.path("tokenizer.json")
    ids = typed_value(path, files["tokenizer.json"]["model"], "vocab", dict, {}, null=False)
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in ids.values()):
        raise ValueError(
            f"Expected {path} to have a whole number for each token of `vocab`. Received: something else. "
            "Copy or download the file again."
        )
    return ids


def _fast_vocabulary(path: pathlib.Path, ids: dict[str, int]) -> list[str]:
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(
            f"Expected ids from 0 on, without gaps. Received: {len(ids)} other ids in {path}. "
            "Put the vocab.txt of the checkpoint beside it."
        )
    return sorted(ids, key=ids.__getitem__)


def _check_same_ids(
    vocabulary_path: pathlib.Path, lines: list[str], fast_path: pathlib.Path, ids: dict[str, int], files: TokenizerFiles
) -> None:
    # Of a repeated line the last counts; nobody finds an empty token.
    numbers = {token: number for number, token in enumerate(lines) if token}
    added = {
        token["content"]: token.get("id")
        for token in files.get("tokenizer.json", "added_tokens", list, [])
        if isinstance(token, dict) and isinstance(token.get("content"), str)
    }
    for token in numbers.keys() | ids.keys():
        first, second = numbers.get(token), ids.get(token, added.get(token))
        if token and first != second:
            raise ValueError(
                "Expected the same ids in both files. "
                f"Received: {token!r} with the id {first} in {vocabulary_path} and {second} in {fast_path}. "
                "Take both files from one checkpoint; transformers believes tokenizer.json."
            )


def _added_tokens(
    files: TokenizerFiles, fast: dict[str, Any], vocabulary: list[str], special_tokens: dict[str, str]
) -> tuple[list[AddedToken], list[str]]:
    """Returns the tokens that are looked for in texts, and those that stand behind the vocabulary."""
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokens: dict[str, AddedToken] = {}
    ids: dict[str, int] = {}

    def note(path: pathlib.Path, value: Any, number: Any) -> None:
        try:
            if isinstance(value, str):
                raise ValueError(f"Expected each to be an object. Received: {value!r}.")
            token = AddedToken.from_value(value)
        except ValueError as error:
            raise ValueError(f"The added tokens in {path} cannot be used. {error}") from error
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(
                f"Expected {path} to have a whole number as the id of each added token. "
                f"Received: {number!r} for {token.content!r}. Copy or download the file again."
            )
        if tokens.setdefault(token.content, token) != token and token.content not in special_tokens.values():
            raise ValueError(
                "Expected the same of an added token in all files. "
                f"Received: {tokens[token.content]} and, in {path}, {token}. Take all files from one checkpoint."
            )
        if ids.setdefault(token.content, number) != number:
            raise ValueError(
                f"Expected one id for each added token. Received: {ids[token.content]} and, in {path}, {number} for "
                f"{token.content!r}. Take all files from one checkpoint."
            )

    config_path, fast_path = files.path("tokenizer_config.json"), files.path("tokenizer.json")
    for value in files.get("tokenizer.json", "added_tokens", list, []) if fast else []:
        number = value.get("id") if isinstance(value, dict) else None
        note(fast_path, {k: v for k, v in value.items() if k != "id"} if isinstance(value, dict) else value, number)
    for key, value in files.get("tokenizer_config.json", "added_tokens_decoder", dict, {}).items():
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if k != "__type"}
        note(config_path, value, int(key) if key.isascii() and key.isdigit() and len(key) < 10 else key)
    named = _named_special_tokens(files)
    for content, number in files["added_tokens.json"].items():
        is_special = content in named or content in special_tokens.values()
        value = tokens.get(content) or {"content": content, "special": is_special}
        note(files.path("added_tokens.json"), value, number)
    without_id = [content for content in named if content not in tokens and content not in special_tokens.values()]
    tokens |= {content: AddedToken(content, special=True) for content in without_id}

    _check_ids(files, ids, numbers, len(vocabulary))
    behind = sorted((number, content) for content, number in ids.items() if content not in numbers)
    appended = [content for _, content in behind]
    unknown = [content for content in without_id if content not in numbers]
    # transformers would first give ids to special tokens that are missing, and counts repeated lines once.
    missing = set(special_tokens.values()) - set(vocabulary) - set(appended)
    if unknown and (missing or len(numbers) != len(vocabulary)):
        raise ValueError(
            f"Expected an id for each added token. Received: {', '.join(unknown)} in {files.directory} without one. "
            "Add them to its added_tokens.json, each with its id."
        )
    own = set(special_tokens.values())
    return [token for content, token in tokens.items() if content not in own], appended + unknown


def _named_special_tokens(files: TokenizerFiles) -> list[str]:
    """Returns what the files name as special tokens beside those of a BERT."""
    named: list[str | None] = []
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = files.path(name)
        for key in ("bos_token", "eos_token"):
            named.append(token_content(path, key, files[name].get(key)))
        extra = files.get(name, "extra_special_tokens", dict, {}, null=True)
        more = [*files.get(name, "additional_special_tokens", list, [], null=True), *extra.values()]
        named += [token_content(path, "additional_special_tokens", value) for value in more]
    return list(dict.fromkeys(token for token in named if token is not None))


def _check_ids(files: TokenizerFiles, ids: dict[str, int], numbers: dict[str, int], size: int) -> None:
    """Refuses ids that are not those which transformers gives: the vocabulary's own, or the next ones behind it."""
    behind = sorted((number, content) for content, number in ids.items() if content not in numbers)
    expected = numbers | {content: size + place for place, (_, content) in enumerate(behind)}
    wrong = next((content for content, number in ids.items() if number != expected[content]), None)
    if wrong is not None:
        raise ValueError(
            "Expected added tokens to have the ids of the vocabulary, or the next ones behind its "
            f"{size} tokens. Received: the id {ids[wrong]} for {wrong!r} in {files.directory}, where {expected[wrong]} "
            f"is expected, in one of {', '.join(sorted(files.contents))}. Take all files from one checkpoint."
        )


def _compare_with_embeddings(files: TokenizerFiles, count: int, path: pathlib.Path) -> None:
    rows = files.get(files.config, "vocab_size", int, null=True)
    if rows is not None and count > rows:
        # No error: checkpoints in use have such vocabularies, and texts without those tokens are right.
        warnings.warn(
            f"Expected {path} to have at most as many tokens as there are rows of embeddings. Received: {count} "
            f"tokens, and vocab_size={rows} in {files.path(files.config)}. A text with a token from id {rows} on fails "
            "in the encoder.",
            stacklevel=5,
        )


def _normalization(
    files: TokenizerFiles, fast: dict[str, Any], class_name: str, vocabulary: Iterable[str]
) -> dict[str, bool | None]:
    name = "tokenizer_config.json"
    normalizer = fast.get("normalizer")
    if normalizer and (class_name in GENERIC_TOKENIZERS or name not in files):
        path = files.path("tokenizer.json")
        values = [typed_value(path, normalizer, "lowercase", bool, True, null=False)]
        values.append(typed_value(path, normalizer, "strip_accents", bool, None, null=True))
        values.append(typed_value(path, normalizer, "handle_chinese_chars", bool, True, null=False))
    elif name in files:
        values = [files.get(name, "do_lower_case", bool, True), files.get(name, "strip_accents", bool, None, null=True)]
        values.append(files.get(name, "tokenize_chinese_chars", bool, True))
    else:
        words = (token for token in vocabulary if not token.startswith("["))
        values = [all(word == word.lower() for word in words), None, True]
    return dict(zip(("lowercase", "strip_accents", "tokenize_chinese_chars"), values, strict=True))
