"""Reads what a checkpoint says about its SentencePiece tokenizer, and refuses what would not be done the same way."""

import base64
import os
import pathlib
from typing import Any, NamedTuple

from keras_bert_layers.checkpoints.source import (
    SENTENCE_PIECE_MODELS,
    TOKENIZER_FILES,
    WantedFiles,
    find_checkpoint,
    missing_files_error,
)
from keras_bert_layers.text.sentence_piece_model import (
    CONTROL,
    MAX_SCORE,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
)
from keras_bert_layers.text.tokenizer_files import GENERIC_TOKENIZERS, SPLIT_OUTSIDE, TokenizerFiles, typed_value

SPACE = "\u2581"
SENTENCE_PIECE_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
}
SENTENCE_PIECE_FILES = WantedFiles(
    required=((*SENTENCE_PIECE_MODELS, "tokenizer.json"),), optional=(*TOKENIZER_FILES.optional, *SENTENCE_PIECE_MODELS)
)


class _Family(NamedTuple):
    """Where the ids of a checkpoint's pieces begin, and what is done with texts.

    Args:
        before: tokens whose ids come before those of the model's pieces.
        skipped: how many of the model's own first pieces have no id.
        after: tokens whose ids come behind.
        special_tokens: names that are not XLM-R's.
        pair_format: as in `SentencePieceTokenizer`.
        is_albert: whether texts are normalised as ALBERT does it.
    """

    before: tuple[str, ...] = ()
    skipped: int = 0
    after: tuple[str, ...] = ()
    special_tokens: dict[str, str] = {}  # noqa: RUF012 - of a tuple, which nobody changes
    pair_format: str = "roberta"
    is_albert: bool = False


# The classes of transformers, without "Fast".
_FAMILIES = {
    "XLMRobertaTokenizer": _Family(before=("<s>", "<pad>", "</s>", "<unk>"), skipped=3, after=("<mask>",)),
    "CamembertTokenizer": _Family(
        before=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"), skipped=1, after=("<mask>",)
    ),
    "AlbertTokenizer": _Family(
        special_tokens={"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
        pair_format="bert",
        is_albert=True,
    ),
}
# The class that transformers takes where no file names one.
_CLASSES = {
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "albert": "AlbertTokenizer",
    "sentencepiece.bpe.model": "XLMRobertaTokenizer",
    "spiece.model": "AlbertTokenizer",
}


def read_sentence_piece_settings(source: str | os.PathLike[str], **download: Any) -> dict[str, Any]:
    """Reads the model and the settings of a checkpoint's SentencePiece tokenizer.

    Args:
        source: a directory or Hugging Face repository id with a `sentencepiece.bpe.model`, a `spiece.model` or a
            `tokenizer.json`. SentencePiece's own file comes first, and is what the weights were trained with.
        **download: `revision`, `cache_dir`, `token`, `local_files_only`, for `find_checkpoint`.

    Returns:
        A dict of arguments of `SentencePieceTokenizer`.

    Raises:
        FileNotFoundError: if there is none of these files.
        ValueError: if the tokenizer does something else, or a file is damaged or contradicts another.
    """
    directory = find_checkpoint(source, SENTENCE_PIECE_FILES, **download)
    files = TokenizerFiles(directory)
    class_name = _class(files)
    files.check_sides()
    path = model_file(directory)
    if path is None and "tokenizer.json" not in files:
        names = (*SENTENCE_PIECE_MODELS, "tokenizer.json")
        raise missing_files_error(f"The directory {directory}", names, os.listdir(directory))
    if class_name is None and "tokenizer.json" not in files:
        assert path is not None
        raise ValueError(
            f"Expected {directory} to say by tokenizer_class or model_type which ids the pieces of {path.name} have. "
            f"Received: neither, and no tokenizer.json. {SPLIT_OUTSIDE}"
        )
    fast = _read_fast(files) if "tokenizer.json" in files else None
    family = _FAMILIES[class_name] if class_name else (fast.family if fast else _Family())
    special_tokens = files.special_tokens({**SENTENCE_PIECE_TOKENS, **family.special_tokens})
    if path is not None and class_name is not None:
        model = _with_the_ids_of(family, SentencePieceModel.from_file(path), path)
        if fast is not None:
            _check_same_pieces(path, model.pieces, files.path("tokenizer.json"), fast.model.pieces)
    else:
        assert fast is not None
        model = fast.model
    for number, piece in enumerate(model.pieces):
        if family.is_albert and len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            # As ALBERT does it, whose numbers lose the comma behind them.
            model.kinds[number] = UNUSED
        elif model.kinds[number] == NORMAL and piece.startswith("<") and piece.endswith(">NOTUSED"):
            model.kinds[number] = CONTROL
    _refuse_added_tokens(files, model, set(special_tokens.values()))
    return {
        "model": model,
        "special_tokens": special_tokens,
        "albert_normalization": _albert_normalization(files, fast) if family.is_albert else None,
        "pair_format": family.pair_format,
    }


def uses_sentence_pieces(files: TokenizerFiles) -> bool:
    """Says whether a checkpoint's tokenizer is one of SentencePiece's, and not one of word pieces.

    Args:
        files: the checkpoint's files.
    """
    for name in ("tokenizer_config.json", files.config):
        class_name = (files.get(name, "tokenizer_class", str, null=True) or "").removesuffix("Fast")
        if class_name and class_name not in GENERIC_TOKENIZERS:
            return class_name in _FAMILIES
    model = files["tokenizer.json"].get("model")
    if isinstance(model, dict) and "type" in model:
        return model["type"] == "Unigram"
    return model_file(files.directory) is not None and not os.path.lexists(files.directory / "vocab.txt")


def model_file(directory: pathlib.Path) -> pathlib.Path | None:
    """Returns SentencePiece's model in a checkpoint's directory, or None where there is none."""
    return next((directory / name for name in SENTENCE_PIECE_MODELS if os.path.lexists(directory / name)), None)


def _class(files: TokenizerFiles) -> str | None:
    """The key of `_FAMILIES` that the checkpoint is of; None where only `tokenizer.json` knows it."""
    for name in ("tokenizer_config.json", files.config):
        class_name = files.get(name, "tokenizer_class", str, null=True)
        if class_name is not None:
            class_name = class_name.removesuffix("Fast")
            if class_name in _FAMILIES:
                return class_name
            if class_name not in GENERIC_TOKENIZERS:
                raise ValueError(
                    f"Expected a SentencePiece tokenizer that is one of {', '.join(_FAMILIES)}. "
                    f"Received: tokenizer_class={class_name!r} in {files.path(name)}. {SPLIT_OUTSIDE}"
                )
            return None
    model_type = files.get(files.config, "model_type", str, null=True)
    path = model_file(files.directory)
    return _CLASSES.get(model_type or "") or _CLASSES.get(path.name if path else "")


def _with_the_ids_of(family: _Family, model: SentencePieceModel, path: pathlib.Path) -> SentencePieceModel:
    """Puts the pieces of a model where the checkpoint has them."""
    if not family.before:
        return model
    if model.kinds[: family.skipped] != [UNKNOWN, CONTROL, CONTROL][: family.skipped]:
        raise ValueError(
            f"Expected {path} to begin with <unk>, <s> and </s>, as XLM-R's and CamemBERT's do. "
            f"Received: {model.pieces[:3]}. {SPLIT_OUTSIDE}"
        )
    unknown = model.pieces[0]
    before = [token if token != "<unk>" else unknown for token in family.before]
    added = len(before), len(family.after)
    shifted = SentencePieceModel(
        [*before, *model.pieces[family.skipped :], *family.after],
        [0.0] * added[0] + model.scores[family.skipped :] + [0.0] * added[1],
        [CONTROL] * added[0] + model.kinds[family.skipped :] + [CONTROL] * added[1],
        model.character_map,
        model.add_space,
        model.remove_spaces,
    )
    shifted.kinds[before.index(unknown)] = UNKNOWN
    shifted.check(str(path))
    return shifted


def original_model(
    model: SentencePieceModel, is_albert: bool, pair_format: str
) -> tuple[str, str, SentencePieceModel] | None:
    """Gives a model's pieces the places back that they have in SentencePiece's own file.

    Args:
        model: the model, whose pieces have the checkpoint's ids.
        is_albert: whether texts are normalised as ALBERT does it.
        pair_format: as in `SentencePieceTokenizer`.

    Returns:
        The class of transformers, the file's name, and the model in it; None where the ids are of no class.
    """
    for class_name, family in _FAMILIES.items():
        first, last = len(family.before), len(model.pieces) - len(family.after)
        is_family = (family.pair_format, family.is_albert) == (pair_format, is_albert)
        if is_family and (*model.pieces[:first], *model.pieces[last:]) == (*family.before, *family.after):
            skipped = family.skipped
            original = SentencePieceModel(
                ["<unk>", "<s>", "</s>"][:skipped] + model.pieces[first:last],
                [0.0] * skipped + model.scores[first:last],
                [UNKNOWN, CONTROL, CONTROL][:skipped] + model.kinds[first:last],
                model.character_map,
                model.add_space,
                model.remove_spaces,
            )
            return class_name, SENTENCE_PIECE_MODELS[1 if is_albert else 0], original
    return None


class _Fast(NamedTuple):
    """What `tokenizer.json` says."""

    model: SentencePieceModel
    family: _Family
    albert_normalization: dict[str, bool] | None


def _read_fast(files: TokenizerFiles) -> _Fast:
    """Reads a `tokenizer.json` that does what SentencePiece does; anything else is refused."""
    path = files.path("tokenizer.json")
    parts = ("model", "normalizer", "pre_tokenizer", "post_processor")
    found = {part: files.get("tokenizer.json", part, dict, {}, null=True) for part in parts}
    normalizers = _flat(found["normalizer"], "normalizers")
    character_map, albert = _character_map(path, normalizers)
    pair_format = _pair_format(found["post_processor"])
    add_space = _adds_space(_flat(found["pre_tokenizer"], "pretokenizers"))
    model = found["model"]
    expected = {
        "model": model.get("type", "Unigram") == "Unigram" and not model.get("byte_fallback"),
        "normalizer": character_map is not None,
        "pre_tokenizer": add_space is not None,
        "post_processor": pair_format is not None,
    }
    wrong = [part for part, is_known in expected.items() if not is_known]
    if wrong:
        shown = {part: {k: v for k, v in found[part].items() if k != "vocab"} or None for part in wrong}
        raise ValueError(
            "Expected a `tokenizer.json` that does what SentencePiece's unigram tokenizer does: a Unigram model "
            "without byte fallback, Precompiled (behind ALBERT's own steps) and Metaspace, and the special tokens of "
            f"XLM-R or ALBERT around the text. Received: "
            f"{str(', '.join(f'{part}={content}' for part, content in shown.items()))[:2000]} in {path}. "
            f"{SPLIT_OUTSIDE}"
        )
    assert character_map is not None
    assert add_space is not None
    assert pair_format is not None
    vocabulary = typed_value(path, model, "vocab", list, [], null=False)
    unknown = model.get("unk_id")
    if not all(
        isinstance(row, list)
        and len(row) == 2
        and isinstance(row[0], str)
        and isinstance(row[1], (int, float))
        and abs(row[1]) < MAX_SCORE
        for row in vocabulary
    ) or not (isinstance(unknown, int) and not isinstance(unknown, bool) and 0 <= unknown < len(vocabulary)):
        raise ValueError(
            f"Expected {path} to have a list of pieces with their scores as `vocab` and the place of one of them as "
            f"`unk_id`. Received: something else, with unk_id={str(unknown)[:100]}. Copy or download the file again."
        )
    kinds = [NORMAL] * len(vocabulary)
    places = {row[0]: number for number, row in enumerate(vocabulary)}
    for token in files.get("tokenizer.json", "added_tokens", list, []):
        if isinstance(token, dict) and isinstance(token.get("content"), str) and token["content"] in places:
            kinds[places[token["content"]]] = CONTROL if token.get("special") else USER_DEFINED
    kinds[unknown] = UNKNOWN
    family = _FAMILIES["AlbertTokenizer"] if albert is not None else _Family()
    read = SentencePieceModel(
        [row[0] for row in vocabulary], [float(row[1]) for row in vocabulary], kinds, character_map, add_space
    )
    read.check(str(path))
    return _Fast(read, family._replace(pair_format=pair_format), albert)


def _flat(part: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The steps of a part of `tokenizer.json`, one of which may be a sequence of others."""
    steps = part.get(key) if part.get("type") == "Sequence" else [part] if part else []
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _character_map(path: pathlib.Path, steps: list[dict[str, Any]]) -> tuple[bytes | None, dict[str, bool] | None]:
    """SentencePiece's character map in the normalizer, None where there are others, and what ALBERT does before it."""
    steps = list(steps)
    quotes = [{"type": "Replace", "pattern": {"String": quote}, "content": '"'} for quote in ("``", "''")]
    albert = None
    if steps[:2] == quotes:
        albert = {"lowercase": False, "strip_accents": False}
        del steps[:2]
        if [step.get("type") for step in steps[:2]] == ["NFKD", "StripAccents"]:
            albert["strip_accents"] = True
            del steps[:2]
        if [step.get("type") for step in steps[:1]] == ["Lowercase"]:
            albert["lowercase"] = True
            del steps[:1]
    character_map = b""
    if steps and steps[0].get("type") == "Precompiled":
        try:
            character_map = base64.b64decode(steps[0].get("precompiled_charsmap") or "", validate=True)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Expected {path} to have `precompiled_charsmap` in base 64. Received: something else ({error}). "
                "Copy or download the file again."
            ) from error
        del steps[:1]
    # What SentencePiece does with spaces, in other words.
    spaces = ({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content} for content in (" ", SPACE))
    known = [*spaces, {"type": "Strip", "strip_left": False, "strip_right": True}]
    return (character_map, albert) if all(step in known for step in steps) else (None, None)


def _adds_space(steps: list[dict[str, Any]]) -> bool | None:
    """Whether the pre-tokenizer is SentencePiece's and puts a space before a text; None where it is another."""
    if steps and steps[0].get("type") == "WhitespaceSplit":
        steps = steps[1:]
    if len(steps) != 1 or steps[0].get("type") != "Metaspace" or steps[0].get("replacement", SPACE) != SPACE:
        return None
    scheme = steps[0].get("prepend_scheme")
    if scheme is None:
        return bool(steps[0].get("add_prefix_space", True))
    return {"always": True, "first": True, "never": False}.get(scheme) if isinstance(scheme, str) else None


def _pair_format(processor: dict[str, Any]) -> str | None:
    """How the post-processor puts pairs together; None where it does something else."""
    if processor.get("type") == "RobertaProcessing":
        return "roberta"
    pair = processor.get("pair")
    if processor.get("type") != "TemplateProcessing" or not isinstance(pair, list):
        return None
    pieces = [next(iter(piece.items())) for piece in pair if isinstance(piece, dict) and piece]
    if len(pieces) != len(pair) or not all(isinstance(value, dict) for _, value in pieces):
        return None
    form = [(value.get("id") if kind == "Sequence" else kind, value.get("type_id")) for kind, value in pieces]
    special = "SpecialToken"
    first = [(special, 0), ("A", 0), (special, 0)]
    return {
        (*first, (special, 0), ("B", 0), (special, 0)): "roberta",
        (*first, (special, 0), ("B", 1), (special, 1)): "roberta",
        (*first, ("B", 1), (special, 1)): "bert",
    }.get(tuple(form))


def _check_same_pieces(path: pathlib.Path, pieces: list[str], fast_path: pathlib.Path, others: list[str]) -> None:
    # Tokens behind the model's are looked at with the added tokens.
    for number, (piece, other) in enumerate(zip(pieces, others, strict=False)):
        if piece != other:
            raise ValueError(
                "Expected the same ids in both files. "
                f"Received: {number} for {piece!r} by {path} and for {other!r} by {fast_path}. "
                "Take both files from one checkpoint."
            )


def _refuse_added_tokens(files: TokenizerFiles, model: SentencePieceModel, special_tokens: set[str]) -> None:
    """Refuses tokens that transformers looks for in texts and SentencePiece does not."""
    listed: dict[str, str] = {}
    for name, key in (("tokenizer.json", "added_tokens"), ("tokenizer_config.json", "added_tokens_decoder")):
        values = files.get(name, key, list if key == "added_tokens" else dict, [] if key == "added_tokens" else {})
        for value in values if isinstance(values, list) else values.values():
            content = value.get("content") if isinstance(value, dict) else value
            listed[str(content)] = name
    for content in files["added_tokens.json"]:
        listed[content] = "added_tokens.json"
    own = {piece for piece, kind in zip(model.pieces, model.kinds, strict=True) if kind in (UNKNOWN, USER_DEFINED)}
    own |= special_tokens | {piece for piece, kind in zip(model.pieces, model.kinds, strict=True) if kind == CONTROL}
    others = [content for content in listed if content not in own]
    if others:
        raise ValueError(
            "Expected a SentencePiece tokenizer without added tokens, which are not looked for in texts. Received: "
            f"{', '.join(map(repr, others[:20]))} in {files.path(listed[others[0]])}. {SPLIT_OUTSIDE}"
        )


def _albert_normalization(files: TokenizerFiles, fast: _Fast | None) -> dict[str, bool]:
    name = "tokenizer_config.json"
    if name not in files and fast is not None and fast.albert_normalization is not None:
        return fast.albert_normalization
    if not files.get(name, "remove_space", bool, True):
        raise ValueError(
            f"Expected ALBERT's tokenizer to remove spaces. Received: remove_space=False in {files.path(name)}. "
            f"{SPLIT_OUTSIDE}"
        )
    return {
        "lowercase": files.get(name, "do_lower_case", bool, True),
        "strip_accents": not files.get(name, "keep_accents", bool, False),
    }
