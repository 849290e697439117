"""The files in which Hugging Face's tokenizers say what a tokenizer does: the way back from `tokenizer_settings`."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_layers.text.sentence_piece_model import CONTROL, UNKNOWN, UNUSED, USER_DEFINED, SentencePieceModel
from keras_bert_layers.text.sentence_piece_settings import SPACE, original_model
from keras_bert_layers.text.tokenizer import Tokenizer

# What the converters of transformers take off the score of a piece that no text is to have.
_PENALTY = 100


def word_piece_files(
    tokenizer: Tokenizer, words: Sequence[str], added_tokens: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, bytes]:
    """Writes down a tokenizer of word pieces.

    Args:
        tokenizer: the tokenizer.
        words: the tokens that words are split into, as `vocab.txt` has them.
        added_tokens: what is looked for in texts, with the fields of Hugging Face's `AddedToken`.
        settings: what `tokenizer_config.json` says, under Hugging Face's names.

    Returns:
        The contents of `vocab.txt`, `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`, by name.

    Raises:
        ValueError: for tokens that `vocab.txt` cannot hold.
    """
    wrong = [word for word in words if "\n" in word or "\r" in word] or ["" for word in words[-1:] if not word]
    if tokenizer.vocabulary_size > len(words):
        # transformers counts them once, and would give other ids to the tokens behind them.
        places = {word: number for number, word in enumerate(words)}
        wrong += [word for number, word in enumerate(words) if places[word] != number]
    if wrong:
        raise ValueError(
            "Expected tokens as `vocab.txt` has them, one a line: without line breaks, the last one not empty, and "
            f"where there are tokens behind them each once. Received: {wrong[0]!r}. No text becomes such a token, or "
            "the first of two alike: make the tokenizer with another one in its place."
        )
    is_roberta = tokenizer.pair_format == "roberta"
    added = [
        *_special(tokenizer),
        *({"id": tokenizer.token_to_id(token["content"]), **token} for token in added_tokens),
    ]
    processor = _template(tokenizer)
    if is_roberta:
        ends = {name: [token, tokenizer.token_to_id(token)] for name, token in _ends(tokenizer).items()}
        processor = {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}
    tokenizer_json = {
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings["tokenize_chinese_chars"],
            "strip_accents": settings["strip_accents"],
            "lowercase": settings["do_lower_case"],
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": processor,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.special_tokens["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: number for number, word in enumerate(words)},
        },
    }
    class_name = "MPNetTokenizer" if is_roberta else "BertTokenizer"
    return {
        "vocab.txt": "".join(f"{word}\n" for word in words).encode(),
        **_json_files(tokenizer, class_name, settings, tokenizer_json),
    }


def sentence_piece_files(
    tokenizer: Tokenizer,
    model: SentencePieceModel,
    albert_normalization: Mapping[str, bool] | None,
    settings: Mapping[str, Any],
) -> dict[str, bytes]:
    """Writes down a SentencePiece tokenizer.

    Args:
        tokenizer: the tokenizer.
        model: its model, whose pieces have the checkpoint's ids.
        albert_normalization: as in `SentencePieceTokenizer`.
        settings: what `tokenizer_config.json` says, under Hugging Face's names.

    Returns:
        The contents of `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`, by name; and of the
        model's file, with its own ids, where its ids are those of XLM-R, CamemBERT or ALBERT.
    """
    others = [
        # What is looked for before the rest is normalised would lose the space before it.
        _added_token(number, piece, normalized=kind == USER_DEFINED, special=kind == CONTROL)
        for number, (piece, kind) in enumerate(zip(model.pieces, model.kinds, strict=True))
        if kind in (CONTROL, USER_DEFINED) and piece not in tokenizer.special_tokens.values()
    ]
    normalizers: list[dict[str, Any]] = []
    if albert_normalization is not None:
        normalizers += [{"type": "Replace", "pattern": {"String": quote}, "content": '"'} for quote in ("``", "''")]
        if albert_normalization["strip_accents"]:
            normalizers += [{"type": "NFKD"}, {"type": "StripAccents"}]
        if albert_normalization["lowercase"]:
            normalizers.append({"type": "Lowercase"})
    if model.character_map:
        character_map = base64.b64encode(model.character_map).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": character_map})
    if model.remove_spaces:
        normalizers.append({"type": "Strip", "strip_left": False, "strip_right": True})
        normalizers.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE})
    # "always" would put a space behind every added token too, which SentencePiece does not.
    spaces = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first" if model.add_space else "never"}
    scores = (
        score - _PENALTY if kind == UNUSED else score for score, kind in zip(model.scores, model.kinds, strict=True)
    )
    tokenizer_json = {
        "added_tokens": sorted([*_special(tokenizer), *others], key=lambda token: token["id"]),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": spaces,
        "post_processor": _template(tokenizer),
        "decoder": spaces,
        "model": {
            "type": "Unigram",
            "unk_id": model.kinds.index(UNKNOWN),
            "vocab": [list(row) for row in zip(model.pieces, scores, strict=True)],
            "byte_fallback": False,
        },
    }
    if albert_normalization is not None:
        settings = {
            **settings,
            "do_lower_case": albert_normalization["lowercase"],
            "keep_accents": not albert_normalization["strip_accents"],
            "remove_space": True,
        }
    original = original_model(model, albert_normalization is not None, tokenizer.pair_format)
    if original is None:
        return _json_files(tokenizer, "PreTrainedTokenizerFast", settings, tokenizer_json)
    class_name, name, model = original
    return {name: model.to_bytes(), **_json_files(tokenizer, class_name, settings, tokenizer_json)}


def _special(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The special tokens as added tokens, each once."""
    contents = sorted(set(tokenizer.special_tokens.values()), key=tokenizer.token_to_id)
    return [_added_token(tokenizer.token_to_id(content), content) for content in contents]


def _added_token(number: int, content: str, normalized: bool = False, special: bool = True) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": number, "content": content, **flags, "normalized": normalized, "special": special}


def _ends(tokenizer: Tokenizer) -> dict[str, str]:
    return {name: tokenizer.special_tokens[f"{name}_token"] for name in ("cls", "sep")}


def _template(tokenizer: Tokenizer) -> dict[str, Any]:
    ends, is_roberta = _ends(tokenizer), tokenizer.pair_format == "roberta"

    def special(name: str, type_id: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": ends[name], "type_id": type_id}}

    def text(name: str, type_id: int = 0) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": type_id}}

    type_id = 0 if is_roberta else 1
    single = [special("cls"), text("A"), special("sep")]
    between = [special("sep")] if is_roberta else []
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *between, text("B", type_id), special("sep", type_id)],
        "special_tokens": {
            token: {"id": token, "ids": [tokenizer.token_to_id(token)], "tokens": [token]} for token in ends.values()
        },
    }


def _json_files(
    tokenizer: Tokenizer, class_name: str, settings: Mapping[str, Any], tokenizer_json: Mapping[str, Any]
) -> dict[str, bytes]:
    names: dict[str, Any] = dict(tokenizer.special_tokens)
    if class_name != "BertTokenizer":
        # Its other classes have these two as well, and would add tokens for them.
        names |= {"bos_token": names["cls_token"], "eos_token": names["sep_token"]}
    # A mask token that nobody names would be added.
    named = {"mask_token": None, **names}
    more = [token["content"] for token in tokenizer_json["added_tokens"] if token["special"]]
    more = [content for content in more if content not in names.values()]
    if more:
        named["additional_special_tokens"] = names["additional_special_tokens"] = more
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer_json["added_tokens"]
    }
    files = {
        "tokenizer.json": {"version": "1.0", "truncation": None, "padding": None, **tokenizer_json},
        "tokenizer_config.json": {
            **settings,
            **named,
            "tokenizer_class": class_name,
            "added_tokens_decoder": added,
            "clean_up_tokenization_spaces": False,
        },
        "special_tokens_map.json": names,
    }
    return {
        name: f"{json.dumps(content, ensure_ascii=False, indent=None if name == 'tokenizer.json' else 2)}\n".encode()
        for name, content in files.items()
    }
