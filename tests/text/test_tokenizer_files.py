"""The files that say what a checkpoint's tokenizer is: read as transformers reads them, or refused by name."""

import json
import os
import pathlib
import shutil

import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.text.bert_tokenizer import BertTokenizer
from tests.text.test_bert_tokenizer import SMALL_VOCABULARY, load_benchmark

transformers = pytest.importorskip("transformers", reason="the reference is transformers' BertTokenizerFast")

JSON_FILES = ["config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"]
TEXTS = ["[E11] hello Cool-Token [E12]world", "cool-tokens [sep] unknown", "É中文 don't", "[E 11]"]
LOADERS = [BertTokenizer.from_pretrained, kbl.BertPreprocessor.from_pretrained]


def write_json(path: pathlib.Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_json(path: pathlib.Path, *keys: str, value: object) -> None:
    content = json.loads(path.read_text("utf-8"))
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    write_json(path, content)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """What transformers writes for a tokenizer with markers and a new word, with both forms of added tokens."""
    path = tmp_path_factory.mktemp("saved")
    vocabulary = path / "vocab.txt"
    vocabulary.write_text("\n".join(SMALL_VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(vocabulary))
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E11]", "[E12]"]})
    tokenizer.add_tokens(["cool-token"])
    tokenizer.save_pretrained(path)
    write_json(path / "added_tokens.json", tokenizer.get_added_vocab())
    write_json(
        path / "config.json", {"model_type": "bert", "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    )
    return path


@pytest.fixture
def directory(saved, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def assert_as_transformers(directory: pathlib.Path) -> BertTokenizer:
    reference = transformers.BertTokenizerFast.from_pretrained(directory).backend_tokenizer
    tokenizer = BertTokenizer.from_pretrained(directory)
    parity = load_benchmark("tokenizer_parity")
    assert parity.wrong_ids(tokenizer.tokenize, reference, TEXTS) == []
    assert parity.wrong_offsets(tokenizer, reference, TEXTS) == []
    return tokenizer


@pytest.mark.parametrize(
    "kept",
    [
        {"vocab.txt", *JSON_FILES},
        {"vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"},
        {"tokenizer.json", "tokenizer_config.json"},
        {"vocab.txt", "tokenizer_config.json"},
        {"vocab.txt", "added_tokens.json", "special_tokens_map.json", "plain tokenizer_config.json"},
        {"vocab.txt", "tokenizer_config.json", "generic tokenizer.json"},
    ],
    ids=lambda kept: "-".join(sorted(kept)),
)
def test_added_tokens_come_from_whichever_file_has_them(directory, kept):
    if "plain tokenizer_config.json" in kept:
        write_json(directory / "tokenizer_config.json", {"do_lower_case": True})
    for name in ["vocab.txt", *JSON_FILES[1:]]:
        if not any(name in keep for keep in kept):
            (directory / name).unlink()
    tokenizer = assert_as_transformers(directory)
    assert tokenizer.vocabulary_size == len(SMALL_VOCABULARY) + 3
    assert tokenizer.vocabulary == [*SMALL_VOCABULARY, "[E11]", "[E12]", "cool-token"]
    assert {token["content"] for token in tokenizer.added_tokens} == {"[E11]", "[E12]", "cool-token"}
    # A list takes their place, and the ids stay.
    none = kbl.BertPreprocessor.from_pretrained(directory, sequence_length=16, added_tokens=[])
    assert none.tokenizer.vocabulary == tokenizer.vocabulary
    assert tokenizer.token_to_id("[E11]") not in none("[E11]")["input_word_ids"].numpy()


def test_markers_in_place_of_unused_tokens(tmp_path):
    """Nothing says that they are to be found, and transformers does not find them either."""
    tokens = [*SMALL_VOCABULARY, "[E11]", "cool-token"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    write_json(tmp_path / "tokenizer_config.json", {"do_lower_case": True})
    assert assert_as_transformers(tmp_path).added_tokens == []
    preprocessor = kbl.BertPreprocessor.from_pretrained(
        tmp_path, sequence_length=8, added_tokens=["[E11]", "cool-token"]
    )
    ids = preprocessor("[E11]Cool-Token")["input_word_ids"].numpy().tolist()
    assert ids == [[2, len(tokens) - 2, len(tokens) - 1, 3, 0, 0, 0, 0]]
    # The file says it as well.
    write_json(tmp_path / "added_tokens.json", {"[E11]": len(tokens) - 2, "cool-token": len(tokens) - 1})
    assert len(assert_as_transformers(tmp_path).added_tokens) == 2


def test_other_names_of_special_tokens(tmp_path):
    names = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    (tmp_path / "vocab.txt").write_text("\n".join([*names.values(), *SMALL_VOCABULARY[5:]]), encoding="utf-8")
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"), **names).save_pretrained(tmp_path)
    for name in ("all", "tokenizer_config.json", "tokenizer.json"):
        if name != "all":
            (tmp_path / name).unlink()
        reference = transformers.BertTokenizerFast.from_pretrained(tmp_path, split_special_tokens=True)
        preprocessor = kbl.BertPreprocessor.from_pretrained(tmp_path, sequence_length=16)
        ids = preprocessor(["hello ß</s>", "[CLS] é"])["input_word_ids"]
        expected = reference(["hello ß</s>", "[CLS] é"], padding="max_length", max_length=16)["input_ids"]
        # Without tokenizer_config.json the vocabulary says that it is cased.
        assert ids.numpy().tolist() == expected or name != "all"


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("config.json", ["tokenizer_class"], "BertJapaneseTokenizer", "tokenizer_class='BertJapaneseTokenizer' in"),
        ("tokenizer_config.json", ["tokenizer_class"], "RobertaTokenizer", "tokenizer_class='RobertaTokenizer' in"),
        ("tokenizer_config.json", ["word_tokenizer_type"], "mecab", "word_tokenizer_type='mecab' in"),
        ("config.json", ["subword_tokenizer_type"], "character", "subword_tokenizer_type='character' in"),
        ("tokenizer_config.json", ["padding_side"], "left", "padding_side='left' in"),
        ("tokenizer_config.json", ["truncation_side"], "left", "truncation_side='left' in"),
        ("tokenizer.json", ["padding"], {"direction": "Left"}, "padding.direction='Left' in"),
        ("tokenizer.json", ["pre_tokenizer"], {"type": "Whitespace"}, "pre_tokenizer={'type': 'Whitespace'} in"),
        (
            "tokenizer.json",
            ["normalizer", "clean_text"],
            False,
            "normalizer={'type': 'BertNormalizer', 'clean_text': F",
        ),
        ("tokenizer.json", ["normalizer", "type"], "Lowercase", "normalizer={'type': 'Lowercase'"),
        ("tokenizer.json", ["model", "unk_token"], "hello", "model=.*'unk_token': 'hello'"),
        ("tokenizer.json", ["model", "type"], "BPE", "model={'type': 'BPE'"),
        ("tokenizer.json", ["model", "max_input_chars_per_word"], 50, "'max_input_chars_per_word': 50"),
        ("tokenizer.json", ["model", "continuing_subword_prefix"], "@@", "'continuing_subword_prefix': '@@'"),
        ("tokenizer.json", ["post_processor"], None, "post_processor=None in"),
        ("tokenizer.json", ["post_processor", "pair"], [], "post_processor={'type': 'TemplateProcessing'"),
        ("tokenizer.json", ["decoder"], {"type": "ByteLevel"}, "decoder={'type': 'ByteLevel'} in"),
        ("tokenizer.json", ["model", "vocab", "hello"], 6, r"'(hello|world)' with the id . in .*vocab\.txt and"),
        ("special_tokens_map.json", ["cls_token"], "hello", "cls_token='.CLS.' in .* and cls_token='hello' in"),
        ("added_tokens.json", ["[E11]"], 500, r"Expected one id .*500 for '\[E11\]'"),
        ("added_tokens.json", ["new"], 500, "the id 500 for 'new'"),
        ("tokenizer_config.json", ["added_tokens_decoder", "7"], {"content": "[E11]"}, "Expected the same of an"),
        ("tokenizer.json", ["added_tokens"], [{"content": "##x", "id": 9}], "The added tokens in .* begin with"),
    ],
)
def test_what_is_refused_by_name(directory, load, file, keys, value, message):
    edit_json(directory / file, *keys, value=value)
    with pytest.raises(ValueError, match=message) as caught:
        load(directory)
    assert file in str(caught.value)


def test_a_model_type_says_which_tokenizer_where_no_class_is_named(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(SMALL_VOCABULARY), encoding="utf-8")
    write_json(tmp_path / "config.json", {"model_type": "bert-japanese"})
    for load in LOADERS:
        with pytest.raises(ValueError, match=r"model_type='bert-japanese' in .*config\.json, and no tokenizer_class"):
            load(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "somebodys_bert", "tokenizer_class": "BertTokenizerFast"})
    assert BertTokenizer.from_pretrained(tmp_path).vocabulary == SMALL_VOCABULARY


DAMAGES = {
    "git_lfs": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "empty": lambda path: path.write_bytes(b""),
    "byte_order_mark": lambda path: path.write_bytes(b"\xef\xbb\xbf{}"),
    "no_utf8": lambda path: path.write_bytes(b'{"\xff": 1}'),
    "fifo": os.mkfifo,
    "directory": pathlib.Path.mkdir,
    "no_json": lambda path: path.write_text("{"),
    "list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "deep": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "deep_object": lambda path: path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000),
}


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["vocab.txt", *JSON_FILES])
def test_damage_is_named(directory, file, damage, load):
    path = directory / file
    path.unlink()
    DAMAGES[damage](path)
    with pytest.raises(ValueError, match=file):
        load(directory)


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("config.json", ["vocab_size"]),
        ("config.json", ["model_type"]),
        ("config.json", ["tokenizer_class"]),
        ("tokenizer_config.json", ["tokenizer_class"]),
        ("tokenizer_config.json", ["do_lower_case"]),
        ("tokenizer_config.json", ["strip_accents"]),
        ("tokenizer_config.json", ["tokenize_chinese_chars"]),
        ("tokenizer_config.json", ["added_tokens_decoder"]),
        ("tokenizer_config.json", ["added_tokens_decoder", "0"]),
        ("tokenizer_config.json", ["added_tokens_decoder", "0", "content"]),
        ("tokenizer_config.json", ["added_tokens_decoder", "x"]),
        ("tokenizer_config.json", ["pad_token"]),
        ("tokenizer_config.json", ["additional_special_tokens"]),
        ("special_tokens_map.json", ["pad_token"]),
        ("special_tokens_map.json", ["additional_special_tokens"]),
        ("added_tokens.json", ["[E11]"]),
        ("tokenizer.json", ["model"]),
        ("tokenizer.json", ["model", "vocab"]),
        ("tokenizer.json", ["model", "vocab", "hello"]),
        ("tokenizer.json", ["normalizer"]),
        ("tokenizer.json", ["pre_tokenizer"]),
        ("tokenizer.json", ["post_processor"]),
        ("tokenizer.json", ["decoder"]),
        ("tokenizer.json", ["padding"]),
        ("tokenizer.json", ["added_tokens"]),
    ],
)
def test_wrong_types_are_named(directory, file, keys):
    original = (directory / file).read_text("utf-8")
    for value in (5.5, [5], {"a": 5}, "text", True):
        (directory / file).write_text(original, "utf-8")
        content = json.loads(original)
        for key in keys[:-1]:
            content = content[key]
        if type(content.get(keys[-1])) is type(value) or (value == "text" and "token" in keys[-1]):
            continue
        edit_json(directory / file, *keys, value=value)
        if (keys[-1], type(value)) in (("strip_accents", bool), ("padding", dict)):
            # It is null in the file, and may be this.
            continue
        with pytest.raises(ValueError, match=file):
            BertTokenizer.from_pretrained(directory)


def test_positions_of_a_wrong_type(directory):
    for value in ("512", 0, True, [1]):
        edit_json(directory / "config.json", "max_position_embeddings", value=value)
        with pytest.raises(ValueError, match=r"Expected .*config\.json to have .* `max_position_embeddings`"):
            kbl.BertPreprocessor.from_pretrained(directory)


def test_a_vocabulary_larger_than_the_embeddings_is_said(directory):
    edit_json(directory / "config.json", "vocab_size", value=20)
    with pytest.warns(UserWarning, match=r"vocab\.txt to have at most .*tokens, and vocab_size=20 in .*config\.json"):
        BertTokenizer.from_pretrained(directory)


def test_a_vocabulary_without_special_tokens_is_named(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\n[MASK]\n")
    for load in (BertTokenizer.from_pretrained, lambda path: BertTokenizer(path / "vocab.txt")):
        with pytest.raises(ValueError, match=r"Expected .*vocab\.txt to hold \[PAD\], .*without \[CLS\]"):
            load(tmp_path)


@pytest.mark.filterwarnings("ignore:.*no normalizer", "ignore:.*rows of embeddings")
@pytest.mark.parametrize("name", ["google_tiny", "huggingface_bin_token_classifier", "huggingface_tiny_no_pooler"])
def test_real_checkpoints_load(name, data_directory):
    directory = data_directory / "checkpoints" / name
    tokenizer = kbl.BertPreprocessor.from_pretrained(directory, sequence_length=16).tokenizer
    reference = transformers.BertTokenizerFast(str(directory / "vocab.txt"), do_lower_case=tokenizer.lowercase)
    texts = ["A text about [CLS], 12 Words.", "Κ α ΛΜ"]
    expected = reference(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.tokenize(tf.constant(texts)).to_list() == expected or name == "google_tiny"
    assert tokenizer.added_tokens == []
