"""The sound files that are damaged: a checkpoint of 1 layer of 8 and 30 tokens, in both forms, and its tokenizer."""

import json
import pathlib

from safetensors.numpy import save

from ..checkpoints.tiny_checkpoints import SIZES, pytorch_tensors

LETTERS = "abcdefghij"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", ",", "##s", "é"]
VOCABULARY += [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
SPECIAL_TOKENS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
SPECIAL_TOKENS |= {"mask_token": "[MASK]"}

_CONFIG = {"model_type": "bert", "architectures": ["BertModel"], **SIZES, "num_hidden_layers": 1, "hidden_act": "gelu"}
_CONFIG |= {"layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pad_token_id": 0}


def checkpoint_files(shards: bool) -> dict[str, bytes]:
    """Configuration and weights."""
    tensors = pytorch_tensors(num_hidden_layers=1)
    files = {"config.json": json.dumps(_CONFIG).encode()}
    if not shards:
        return files | {"model.safetensors": save(tensors, metadata={"format": "pt"})}
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {tensor: names[number % 2] for number, tensor in enumerate(tensors)}
    for name in names:
        files[name] = save({key: tensors[key] for key, file in weight_map.items() if file == name})
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}


def tokenizer_files() -> dict[str, bytes]:
    """All files that say what a tokenizer is, as transformers writes them, and the configuration."""
    special = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, token in enumerate(VOCABULARY[:5])
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {
                token: {"id": token, "ids": [VOCABULARY.index(token)], "tokens": [token]}
                for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: number for number, token in enumerate(VOCABULARY)},
        },
    }
    settings = {
        **SPECIAL_TOKENS,
        "added_tokens_decoder": {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in special},
        "do_lower_case": True,
        "do_basic_tokenize": True,
        "never_split": None,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": 16,
        "tokenizer_class": "BertTokenizer",
    }
    values = {
        "config.json": _CONFIG,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": settings,
        "special_tokens_map.json": SPECIAL_TOKENS,
        "added_tokens.json": {"[MASK]": 4},
    }
    files = {name: json.dumps(value).encode() for name, value in values.items()}
    return files | {"vocab.txt": "".join(f"{token}\n" for token in VOCABULARY).encode()}


def write_files(directory: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory
