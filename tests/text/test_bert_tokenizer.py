"""The tokenizer against Hugging Face's, and what it needs of TensorFlow."""

import importlib.util
import inspect
import json
import os
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.bert_tokenizer import BertTokenizer
from keras_bert_layers.text.unicode_normalization import (
    build_normalizer_model,
    normalization_table,
    space_bounds,
    word_bounds,
)
from keras_bert_layers.text.vocabulary import SPECIAL_TOKENS

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"

SMALL_VOCABULARY = (
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "un", "##known", "don", "t", "s", "do", "not"]
    + [chr(c) for c in range(0x21, 0x7F) if not chr(c).isupper() and chr(c) not in "st"]
    + [f"##{chr(c)}" for c in range(0x61, 0x7B)]
    + [
        "A",
        "##A",
        "é",
        "##é",
        "##\u0301",
        "中",
        "文",
        "##中",
        "，",
        "。",
        "ᄀ",
        "##ᅡ",
        "##ᆨ",
        "가",
        "ß",
        "##ß",
        "ǀ",
        "##ǀ",
    ]
)

# Every one is in TensorFlow 2.13 and tensorflow-text 2.12.1, which TensorFlow Serving 2.13 to 2.19 link.
ALLOWED_OPS = {
    *("AddV2", "All", "Any", "BitwiseAnd", "BroadcastTo", "Cast", "ConcatV2", "Const", "Cumsum", "DecodeRaw", "Equal"),
    *("ExpandDims", "Fill", "ReduceJoin", "ScatterNd", "StaticRegexFullMatch"),
    *("FloorMod", "LogicalNot", "LogicalOr", "LowerBound", "Minimum", "Substr", "UnicodeEncode", "ZerosLike"),
    *("GatherV2", "Greater", "GreaterEqual", "Identity", "Less", "LogicalAnd", "Max", "Maximum", "NoOp"),
    *("NotEqual", "Pack", "Placeholder", "Prod", "RaggedGather", "Range", "Reshape", "SelectV2", "Shape"),
    *("Size", "Squeeze", "StatelessIf", "StaticRegexReplace", "StridedSlice", "StringLength", "Sub", "Sum"),
    *("TensorScatterUpdate", "Tile", "UnicodeDecodeWithOffsets", "Unique", "UnsortedSegmentJoin"),
    *("UnsortedSegmentSum", "UpperBound", "Where"),
    *("FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "TFText>WhitespaceTokenizeWithOffsetsV2"),
}


def load_benchmark(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parity():
    pytest.importorskip("transformers", reason="the reference is transformers' BertTokenizerFast")
    return load_benchmark("tokenizer_parity")


@pytest.fixture(scope="module")
def small_tokenizer():
    return BertTokenizer(SMALL_VOCABULARY)


@pytest.fixture(scope="module")
def random_texts(parity):
    return parity.random_texts(2000, SMALL_VOCABULARY)


@pytest.fixture(scope="module")
def reference_of(parity, tmp_path_factory):
    """Makes the reference of a list of tokens."""

    def make(vocabulary, lowercase=True, **settings):
        path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
        path.write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
        return parity.reference_tokenizer(path, lowercase, **settings)

    return make


class TestTable:
    @pytest.mark.parametrize("strip_accents", [False, True])
    @pytest.mark.parametrize("lowercase", [False, True])
    def test_is_that_of_the_installed_tokenizers(self, lowercase, strip_accents):
        pytest.importorskip("tokenizers", reason="the table is taken from it")
        generator = load_benchmark("make_unicode_table")
        expected = generator.reference_mapping(lowercase, strip_accents, chinese=True)
        assert normalization_table(lowercase, strip_accents, tokenize_chinese_chars=True) == expected

    def test_neighbours_of_added_tokens(self):
        pytest.importorskip("tokenizers", reason="the ranges are taken from it")
        generator = load_benchmark("make_unicode_table")
        characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000][::17]
        characters += [chr(c) for c in [*range(0x100), *range(0x1FF0, 0x2070), *range(0x24B0, 0x24F0)]]
        spaces, word_parts = generator.neighbours_of_added_tokens(characters)
        codes = [ord(c) for c in characters]
        assert (np.searchsorted(space_bounds(), codes, side="right") % 2 == spaces).all()
        assert (np.searchsorted(word_bounds(), codes, side="right") % 2 == word_parts).all()

    def test_kernel_applies_it_to_every_code_point(self):
        table = normalization_table(lowercase=True, strip_accents=True, tokenize_chinese_chars=True)
        normalizer = tf_text.FastBertNormalizer(model_buffer=tf.constant(build_normalizer_model(table)))
        characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
        normalized = normalizer.normalize(tf.constant(characters)).numpy()
        assert [n.decode() for n in normalized] == [table.get(c, c) for c in characters]

    @pytest.mark.parametrize(
        "text",
        [b"\x80", b"\xc0\x80", b"\xc3", b"\xe4\xb8", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xff"],
    )
    def test_bytes_that_are_no_utf8_are_dropped(self, text):
        normalizer = tf_text.FastBertNormalizer(model_buffer=tf.constant(build_normalizer_model({"A": "a"})))
        assert normalizer.normalize(tf.constant([b"A" + text + b"b" + text])).numpy() == [b"ab"]

    def test_refuses_a_string_that_the_format_cannot_hold(self):
        with pytest.raises(ValueError, match="63 bytes"):
            build_normalizer_model({"A": "a" * 64})


@pytest.mark.parametrize("setting", range(5))
class TestRealVocabulariesEqualTheReference:
    @pytest.fixture
    def pair(self, setting, parity, data_directory):
        _, file, lowercase = parity.SETTINGS[setting]
        path = data_directory / "vocabularies" / file
        return BertTokenizer(path, lowercase=lowercase), parity.reference_tokenizer(path, lowercase)

    def test_code_points(self, pair, parity):
        tokenizer, reference = pair
        texts = parity.code_point_texts("a{}b", range(0x10000))
        assert parity.wrong_ids(tf.function(tokenizer.tokenize), reference, texts) == []

    def test_languages_with_offsets_word_ids_and_detokenize(self, pair, parity, data_directory):
        tokenizer, reference = pair
        lines = parity.real_lines(data_directory)
        languages = ["eng", "arb", "cmn_hans", "deu_1996", "ell_monotonic", "hin", "jpn", "kor", "tha", "tur", "vie"]
        texts = [line for language in languages for line in lines.get(language, [])[:60]]
        texts += [text[:300] for name in lines if name.startswith("xquad") for text in lines[name][:100]]
        assert parity.wrong_ids(tokenizer.tokenize, reference, texts) == []
        assert parity.wrong_offsets(tokenizer, reference, texts) == []
        ids = parity.reference_ids(reference, texts)
        decoded = [reference.decode(row, skip_special_tokens=False) for row in ids]
        assert [text.decode() for text in tokenizer.detokenize(tf.ragged.constant(ids, tf.int32)).numpy()] == decoded

    def test_random_strings_and_bytes(self, pair, parity):
        tokenizer, reference = pair
        texts = parity.random_texts(1000, tokenizer.vocabulary) + parity.random_bytes(500)
        assert parity.wrong_ids(tf.function(tokenizer.tokenize), reference, texts) == []


class TestSmallVocabulariesEqualTheReference:
    @pytest.mark.parametrize("tokenize_chinese_chars", [False, True])
    @pytest.mark.parametrize("strip_accents", [None, False, True])
    @pytest.mark.parametrize("lowercase", [False, True])
    def test_settings(self, lowercase, strip_accents, tokenize_chinese_chars, parity, reference_of, random_texts):
        settings = {"strip_accents": strip_accents, "tokenize_chinese_chars": tokenize_chinese_chars}
        tokenizer = BertTokenizer(SMALL_VOCABULARY, lowercase=lowercase, **settings)
        reference = reference_of(SMALL_VOCABULARY, lowercase, **settings)
        assert parity.wrong_ids(tf.function(tokenizer.tokenize), reference, random_texts) == []

    def test_random_vocabularies(self, parity, reference_of):
        generator = np.random.default_rng(0)
        alphabet = [*"aabbcdé中文,.#[]'ß가각ᄀ\u0301\u0323\u3000\u061dǀ𝔘😀", "##", "İ"]
        for _ in range(25):
            tokens = {
                "##" * int(generator.integers(2)) + "".join(generator.choice(alphabet, size=generator.integers(1, 5)))
                for _ in range(60)
            }
            vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(tokens)]
            texts = ["".join(generator.choice([*alphabet, " "], size=size)) for size in generator.integers(0, 12, 200)]
            lowercase = bool(generator.integers(2))
            tokenizer = BertTokenizer(vocabulary, lowercase=lowercase)
            assert parity.wrong_ids(tokenizer.tokenize, reference_of(vocabulary, lowercase), texts) == [], vocabulary

    def test_special_tokens_in_the_text(self, parity, reference_of, random_texts):
        texts = [*random_texts, "a[SEP]b [[MASK]]", "[SEP][SEP] [UNK]x", "\U000f0000[PAD]\U000f0001", "[sep] [SE P]"]
        texts = [text for text in texts if "\u302e" not in text and "\u302f" not in text]
        tokenizer = BertTokenizer(SMALL_VOCABULARY, special_tokens_in_text=True)
        reference = reference_of(SMALL_VOCABULARY, split_special_tokens=False)
        assert parity.wrong_ids(tf.function(tokenizer.tokenize), reference, texts) == []
        assert parity.wrong_offsets(tokenizer, reference, [t for t in texts if len(t) < 60]) == []

    @pytest.mark.parametrize("character", ["a", "é", "中", "ǀ", "😀", "a\u200d", "e\u0301", "가"])
    @pytest.mark.parametrize("length", [25, 33, 34, 50, 99, 100, 101, 134, 400])
    def test_long_words(self, character, length, parity, reference_of, small_tokenizer):
        texts = [character * length, f"a {character * length}, b", f"{'b' * 101} {character * length}"]
        reference = reference_of(SMALL_VOCABULARY)
        assert parity.wrong_ids(small_tokenizer.tokenize, reference, texts) == []
        assert parity.wrong_offsets(small_tokenizer, reference, texts) == []

    def test_rows_with_long_words_stay_in_their_place(self, small_tokenizer):
        rows = ["hello", "é" * 60, "", "world", "b" * 120, "é" * 70]
        ids = small_tokenizer.tokenize(rows).to_list()
        assert ids == [small_tokenizer.tokenize(row).to_list()[0] for row in rows]
        assert [len(row) for row in ids] == [1, 60, 0, 1, 1, 70]

    @pytest.mark.parametrize("text", ["", " ", "\t\n", "\u0301", "\u0301\u0301 \u0301", "\x00", "\ufffd", "\u200b"])
    def test_texts_without_words(self, text, small_tokenizer):
        assert small_tokenizer.tokenize([text, "hello", text]).to_list() == [
            [],
            [small_tokenizer.token_to_id("hello")],
            [],
        ]
        _, starts, ends = small_tokenizer.tokenize_with_offsets([text])
        assert starts.to_list() == ends.to_list() == [[]]

    def test_decode(self, reference_of, small_tokenizer):
        reference = reference_of(SMALL_VOCABULARY)
        generator = np.random.default_rng(0)
        rows = [generator.integers(0, len(SMALL_VOCABULARY), size).tolist() for size in generator.integers(0, 20, 300)]
        for skip in (False, True):
            expected = [reference.decode(row, skip_special_tokens=skip) for row in rows]
            texts = small_tokenizer.detokenize(tf.ragged.constant(rows, tf.int32), skip_special_tokens=skip)
            assert [text.decode() for text in texts.numpy()] == expected


class TestOffsets:
    def test_units(self, small_tokenizer):
        _, starts, ends = small_tokenizer.tokenize_with_offsets(["É中 don't"])
        assert (starts.to_list(), ends.to_list()) == ([[0, 2, 6, 9, 10]], [[2, 5, 9, 10, 11]])
        _, starts, ends = small_tokenizer.tokenize_with_offsets(["É中 don't"], unit="characters")
        assert (starts.to_list(), ends.to_list()) == ([[0, 1, 3, 6, 7]], [[1, 2, 6, 7, 8]])

    def test_bytes_that_are_no_utf8(self, small_tokenizer):
        text = b"\xff\xe4\xb8hello\x80 \xed\xa0\x80world\xf0"
        _, starts, ends = small_tokenizer.tokenize_with_offsets([text])
        pieces = [text[a:b] for a, b in zip(starts.to_list()[0], ends.to_list()[0], strict=True)]
        assert pieces == [b"hello", b"world"]

    @pytest.mark.parametrize(
        "first", [b"", "É中 hello".encode(), b"\xed\xa0\x80\xffhello\xf0\x80", b"\xc0\xaf \xe4\xb8 hello"]
    )
    def test_characters_count_as_python_counts_them(self, first, small_tokenizer):
        """In a batch of UTF-8 and in one with other bytes."""
        texts = [first, "中é world".encode(), b"hello"]
        _, starts, ends = small_tokenizer.tokenize_with_offsets(texts, unit="characters")
        for text, *places in zip(texts, starts.to_list(), ends.to_list(), strict=True):
            characters = text.decode("utf-8", "replace")
            found = [characters[start:end] for start, end in zip(*places, strict=True)]
            assert (
                found
                == "".join(c if c.isalpha() and c != "中" else f" {c} " for c in characters)
                .replace("\ufffd", "")
                .split()
            )

    def test_special_tokens(self):
        tokenizer = BertTokenizer(SMALL_VOCABULARY, special_tokens_in_text=True)
        ids, starts, ends = tokenizer.tokenize_with_offsets(["é[SEP]hello [MASK]"])
        assert [tokenizer.id_to_token(i) for i in ids.to_list()[0]] == ["e", "[SEP]", "hello", "[MASK]"]
        assert (starts.to_list(), ends.to_list()) == ([[0, 2, 7, 13]], [[2, 7, 12, 19]])


class TestInputs:
    @pytest.mark.parametrize(
        "text", ["hello world", ["hello world"], np.array(["hello world"]), np.array([b"hello world"], object)]
    )
    def test_texts_of_python_and_numpy(self, text, small_tokenizer):
        assert small_tokenizer.tokenize(text, dtype="string").to_list() == [[b"hello", b"world"]]

    def test_ragged_words(self, small_tokenizer):
        words = tf.ragged.constant([["hello", "don't"], [], [""]])
        assert small_tokenizer.tokenize(words, dtype="string").to_list() == [
            [[b"hello"], [b"don", b"'", b"t"]],
            [],
            [[]],
        ]
        ids, starts, _ = small_tokenizer.tokenize_with_offsets(words)
        assert ids.to_list() == small_tokenizer.tokenize(words).to_list()
        assert starts.to_list() == [[[0], [0, 3, 4]], [], [[]]]

    def test_no_texts(self, small_tokenizer):
        assert small_tokenizer.tokenize([]).shape == [0, None]
        assert small_tokenizer.tokenize_with_offsets(tf.constant([], tf.string))[1].shape == [0, None]
        assert small_tokenizer.detokenize(tf.zeros([0, 3], tf.int32)).shape == [0]

    def test_dtypes(self, small_tokenizer):
        assert small_tokenizer.tokenize("hello").dtype == tf.int32
        assert small_tokenizer.tokenize("hello", dtype=tf.int64).dtype == tf.int64
        for dtype in ("float32", "xx"):
            with pytest.raises(ValueError, match=rf"Received: dtype='{dtype}'"):
                small_tokenizer.tokenize("hello", dtype=dtype)

    def test_refuses_what_is_no_text(self, small_tokenizer):
        with pytest.raises(ValueError, match=r"Received: text of dtype='int32'"):
            small_tokenizer.tokenize([1, 2])
        with pytest.raises(ValueError, match=r"Received: text of shape=\(1, 1\)"):
            small_tokenizer.tokenize([["hello"]])
        with pytest.raises(ValueError, match=r"Received: unit='words'"):
            small_tokenizer.tokenize_with_offsets("hello", unit="words")
        for text in (None, [None], ["secret", None], ["secret", ["a"]], {"a": "secret"}, [{"secret"}], ["secret", 1]):
            for function in (small_tokenizer.tokenize, small_tokenizer.tokenize_with_offsets):
                with pytest.raises(ValueError, match=r"Expected texts .* Received: text of type") as caught:
                    function(text)
                assert "secret" not in str(caught.value)

    def test_a_masked_text_is_missing(self, small_tokenizer):
        with pytest.raises(ValueError, match="Expected texts"):
            small_tokenizer.tokenize(np.ma.array(["hello", "secret"], mask=[False, True]))

    def test_lone_surrogates(self, small_tokenizer):
        text = "hello \ud800 world"
        with pytest.raises(ValueError, match="a lone surrogate. Replace them") as caught:
            small_tokenizer.tokenize([text])
        assert "hello" not in str(caught.value)
        # What the message advises.
        assert small_tokenizer.tokenize([text.encode("utf-8", "replace")], dtype="string").to_list() == [
            [b"hello", b"?", b"world"]
        ]

    def test_detokenize_skips_ids_that_are_none(self, small_tokenizer):
        hello = small_tokenizer.token_to_id("hello")
        assert small_tokenizer.detokenize([[-1, hello, 10_000], []]).numpy().tolist() == [b"hello", b""]
        assert small_tokenizer.detokenize([hello, hello]).numpy() == b"hello hello"


class TestVocabulary:
    def test_ids_and_tokens(self, small_tokenizer):
        assert small_tokenizer.vocabulary_size == len(SMALL_VOCABULARY)
        assert small_tokenizer.special_tokens == {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        }
        assert [small_tokenizer.pad_token_id, small_tokenizer.unk_token_id, small_tokenizer.cls_token_id] == [0, 1, 2]
        assert [small_tokenizer.sep_token_id, small_tokenizer.mask_token_id] == [3, 4]
        assert BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]).mask_token_id is None
        with pytest.raises(ValueError, match=r"Received: token='nowhere'"):
            small_tokenizer.token_to_id("nowhere")
        with pytest.raises(ValueError, match=r"Received: token=\['hello'\]"):
            small_tokenizer.token_to_id(["hello"])
        for token_id in (-1, len(SMALL_VOCABULARY), "a", None, 1.5):
            with pytest.raises(ValueError, match=rf"Received: token_id={token_id!r}"):
                small_tokenizer.id_to_token(token_id)

    @pytest.mark.parametrize(
        ("vocabulary", "message"),
        [
            (["[PAD]", "[UNK]", "[CLS]"], r"Received: vocabulary of 3 tokens without \[SEP\]"),
            ([*SMALL_VOCABULARY, "\ud800"], r"lone surrogates, the first in '\\ud800'"),
            (None, "Received: vocabulary of type NoneType"),
            ({"[PAD]": 0}, "Received: vocabulary of type dict"),
            ([*SMALL_VOCABULARY, b"bytes"], r"1 other items, the first of them b'bytes'"),
            ([*SMALL_VOCABULARY, "x" * 300], r"1 longer tokens"),
        ],
    )
    def test_refuses_lists_that_are_no_vocabulary(self, vocabulary, message):
        with pytest.raises(ValueError, match=message):
            BertTokenizer(vocabulary)

    def test_files(self, tmp_path):
        path = tmp_path / "vocab.txt"
        with pytest.raises(FileNotFoundError, match=r"vocab\.txt"):
            BertTokenizer(path)
        path.write_text("\n".join([*SMALL_VOCABULARY, "\u2028", "\x85"]) + "\n\n", encoding="utf-8")
        assert BertTokenizer(str(path)).vocabulary == [*SMALL_VOCABULARY, "\u2028", "\x85"]
        path.write_bytes(b"[PAD]\n\xff\n")
        with pytest.raises(ValueError, match="UTF-8"):
            BertTokenizer(path)

    def test_repeated_and_blank_lines_as_the_reference(self, parity, reference_of, tmp_path):
        """The last line counts."""
        tokens = [*SMALL_VOCABULARY, "", "world", "", "hello", "##known", "", "[MASK]", "world"]
        reference = reference_of(tokens)
        path = tmp_path / "vocab.txt"
        path.write_bytes("\r\n".join(tokens).encode())
        tokenizer = BertTokenizer(path)
        texts = ["hello world unknown", "world  hello", *parity.random_texts(200, SMALL_VOCABULARY)]
        assert parity.wrong_ids(tokenizer.tokenize, reference, texts) == []
        assert parity.wrong_offsets(tokenizer, reference, texts[:50]) == []
        assert tokenizer.token_to_id("world") == reference.token_to_id("world") == len(tokens) - 1
        assert tokenizer.mask_token_id == reference.token_to_id("[MASK]")
        assert BertTokenizer(**tokenizer.get_config()).get_config() == tokenizer.get_config()

    def test_a_vocabulary_has_a_limit(self, tmp_path):
        path = tmp_path / "vocab.txt"
        path.write_bytes(b"[PAD]\n" * 1_000_001)
        for vocabulary in (path, ["[PAD]"] * 1_000_001):
            with pytest.raises(ValueError, match="at most 1,000,000 tokens. Received: vocabulary of 1,000,001 tokens"):
                BertTokenizer(vocabulary)

    def test_special_tokens_under_other_names(self, parity, tmp_path):
        names = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
        of = {SPECIAL_TOKENS[name]: token for name, token in names.items()}
        path = tmp_path / "vocab.txt"
        path.write_text("\n".join(of.get(token, token) for token in SMALL_VOCABULARY), encoding="utf-8")
        reference = parity.reference_tokenizer(path, True, **names)
        tokenizer = BertTokenizer(path, special_tokens=names)
        texts = ["<s> hello <unk> unknown</s>", "世 界", *parity.random_texts(200, SMALL_VOCABULARY)]
        assert parity.wrong_ids(tokenizer.tokenize, reference, texts) == []
        assert tokenizer.special_tokens == {**names, "mask_token": "[MASK]"}
        ids = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]
        assert ids == [0, 1, 2, 3]
        found = BertTokenizer(path, special_tokens=names, special_tokens_in_text=True)
        assert found.tokenize("<s>hello").to_list() == [[2, 5]]
        with pytest.raises(ValueError, match=r'say them: special_tokens={"cls_token": "<s>"}'):
            BertTokenizer(path)
        for wrong in ({"cls": "<s>"}, {"cls_token": 5}, {"cls_token": "a b"}, "<s>"):
            with pytest.raises(ValueError, match="Expected `special_tokens` to give some of pad_token"):
                BertTokenizer(path, special_tokens=wrong)

    def test_tokens_that_no_text_has(self, small_tokenizer):
        tokenizer = BertTokenizer([*SMALL_VOCABULARY, "", " ", "a b", "\0", "un\0", "##"])
        texts = ["hello unknown ## a b", "\0"]
        assert tokenizer.tokenize(texts).to_list() == small_tokenizer.tokenize(texts).to_list()

    def test_flags(self):
        with pytest.raises(ValueError, match=r"Received: lowercase=None"):
            BertTokenizer(SMALL_VOCABULARY, lowercase=None)
        with pytest.raises(ValueError, match=r"Received: strip_accents='yes'"):
            BertTokenizer(SMALL_VOCABULARY, strip_accents="yes")

    def test_warns_of_marks_that_the_reference_sorts(self):
        with pytest.warns(UserWarning, match=r"U\+1B44, U\+302E"):
            BertTokenizer([*SMALL_VOCABULARY, "##\u1b44", "##\u302e"])

    def test_config_has_every_argument_and_makes_an_equal_tokenizer(self):
        arguments = {
            "vocabulary": [*SMALL_VOCABULARY, "É"],
            "lowercase": False,
            "strip_accents": True,
            "tokenize_chinese_chars": False,
            "special_tokens_in_text": True,
            "added_tokens": [AddedToken("hello", single_word=True).__dict__],
            "special_tokens": {"mask_token": "w"},
            "pair_format": "roberta",
        }
        assert set(arguments) == set(inspect.signature(BertTokenizer).parameters)
        tokenizer = BertTokenizer(**arguments)
        config = json.loads(json.dumps(tokenizer.get_config()))
        assert config == arguments
        text = "É A 中文 [SEP] hello"
        assert BertTokenizer(**config).tokenize(text).to_list() == tokenizer.tokenize(text).to_list()


class TestFromPretrained:
    @pytest.fixture
    def directory(self, tmp_path):
        (tmp_path / "vocab.txt").write_text("\n".join(SMALL_VOCABULARY) + "\n", encoding="utf-8")
        return tmp_path

    @staticmethod
    def write_json(path, content):
        path.write_text(json.dumps(content), encoding="utf-8")

    def test_tokenizer_config_decides(self, directory):
        config = {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}
        self.write_json(directory / "tokenizer_config.json", config)
        tokenizer = BertTokenizer.from_pretrained(directory)
        assert (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars) == (False, True, False)

    def test_defaults_are_those_of_transformers(self, directory):
        self.write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizerFast"})
        tokenizer = BertTokenizer.from_pretrained(directory, special_tokens_in_text=True)
        assert (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars) == (True, None, True)
        assert tokenizer.special_tokens_in_text

    def test_without_a_config_capital_letters_decide(self, directory, tmp_path):
        assert not BertTokenizer.from_pretrained(directory).lowercase
        lower = [token for token in SMALL_VOCABULARY if token.startswith("[") or token == token.lower()]
        (directory / "vocab.txt").write_text("\n".join(lower), encoding="utf-8")
        assert BertTokenizer.from_pretrained(str(directory)).lowercase

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"}, "tokenizer_class='RobertaTokenizer'"),
            ("tokenizer_config.json", {"unk_token": "<unk>"}, r"Expected .*vocab\.txt to hold \[PAD\], <unk>"),
            ("special_tokens_map.json", {"cls_token": {"content": "<s>"}}, "tokens without <s>"),
            ("added_tokens.json", {"[NEW]": 30522}, r"the id 30522 for '\[NEW\]'"),
            ("tokenizer_config.json", {"added_tokens_decoder": {"7": {"content": "hello"}}}, "the id 7 for 'hello'"),
        ],
    )
    def test_refuses_other_tokenizers(self, file, content, message, directory):
        self.write_json(directory / file, content)
        with pytest.raises(ValueError, match=message):
            BertTokenizer.from_pretrained(directory)

    def test_tokenizer_json_alone(self, parity, reference_of, tmp_path):
        reference = reference_of(SMALL_VOCABULARY, lowercase=False)
        reference.save(str(tmp_path / "tokenizer.json"))
        tokenizer = BertTokenizer.from_pretrained(tmp_path)
        assert tokenizer.vocabulary == SMALL_VOCABULARY
        assert not tokenizer.lowercase
        content = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
        content["normalizer"] = {"type": "Lowercase"}
        self.write_json(tmp_path / "tokenizer.json", content)
        with pytest.raises(ValueError, match="normalizer={'type': 'Lowercase'} in"):
            BertTokenizer.from_pretrained(tmp_path)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"vocab\.txt or tokenizer\.json"):
            BertTokenizer.from_pretrained(tmp_path)

    def test_tfhub_encoder(self, data_directory):
        directory = data_directory / "checkpoints" / "tfhub_bert_tiny" / "encoder"
        from_directory = BertTokenizer.from_pretrained(directory)
        from_object = BertTokenizer.from_pretrained(tf.saved_model.load(str(directory)))
        assert from_directory.get_config() == from_object.get_config()
        assert from_directory.lowercase
        assert from_directory.vocabulary_size == 3598

    def test_tfhub_preprocessor_says_no_case(self, data_directory):
        with pytest.raises(ValueError, match="do_lower_case=missing"):
            BertTokenizer.from_pretrained(data_directory / "checkpoints" / "tfhub_bert_tiny" / "preprocess")

    def test_a_tfhub_encoder_whose_variables_are_a_pipe(self, tmp_path):
        (tmp_path / "variables").mkdir()
        (tmp_path / "saved_model.pb").write_bytes(b"graph")
        os.mkfifo(tmp_path / "variables" / "variables.index")
        with pytest.raises(ValueError, match=r"variables.index is expected to be a file. Received: a pipe"):
            BertTokenizer.from_pretrained(tmp_path)

    def test_real_model(self, minilm_directory):
        tokenizer = BertTokenizer.from_pretrained(minilm_directory)
        assert tokenizer.lowercase
        assert tokenizer.tokenize("Hello, wörld!").to_list() == [[7592, 1010, 2088, 999]]


def op_types(function, *signature):
    """Returns the types of all ops of a function, those of the functions that it calls included."""
    graph = tf.function(function, autograph=False).get_concrete_function(*signature).graph.as_graph_def()
    nodes = [*graph.node, *(node for called in graph.library.function for node in called.node_def)]
    return {node.op for node in nodes}


class TestGraph:
    texts = tf.TensorSpec([None], tf.string)
    ids = tf.RaggedTensorSpec([None, None], tf.int32)

    @pytest.mark.parametrize("special_tokens_in_text", [False, True])
    def test_ops_are_those_that_servers_have(self, special_tokens_in_text):
        tokenizer = BertTokenizer(SMALL_VOCABULARY, special_tokens_in_text=special_tokens_in_text)
        assert op_types(tokenizer.tokenize, self.texts) <= ALLOWED_OPS
        assert op_types(lambda text: tokenizer.tokenize(text, dtype="string"), self.texts) <= ALLOWED_OPS
        assert op_types(tokenizer.tokenize_with_offsets, self.texts) <= ALLOWED_OPS
        assert op_types(tokenizer.word_ids, self.ids) <= ALLOWED_OPS
        assert op_types(lambda ids: tokenizer.detokenize(ids, skip_special_tokens=True), self.ids) <= ALLOWED_OPS

    def test_op_list_notices_a_round_robin_trimmer(self, small_tokenizer):
        def tokenize_and_trim(text):
            return tf_text.RoundRobinTrimmer(8).trim([small_tokenizer.tokenize(text)])

        assert not op_types(tokenize_and_trim, self.texts) <= ALLOWED_OPS

    def test_nothing_raises(self, small_tokenizer):
        assert not op_types(small_tokenizer.tokenize, self.texts) & {"Assert", "CheckNumerics"}
        assert not op_types(small_tokenizer.tokenize_with_offsets, self.texts) & {"Assert", "CheckNumerics"}

    def test_saved_model_needs_no_vocabulary_file(self, tmp_path):
        path = tmp_path / "vocab.txt"
        path.write_text("\n".join(SMALL_VOCABULARY), encoding="utf-8")
        tokenizer = BertTokenizer(path)
        module = tf.Module()
        module.tokenize = tf.function(tokenizer.tokenize, input_signature=[self.texts])
        module.tokenize_with_offsets = tf.function(tokenizer.tokenize_with_offsets, input_signature=[self.texts])
        module.detokenize = tf.function(tokenizer.detokenize, input_signature=[self.ids])
        tf.saved_model.save(module, str(tmp_path / "saved"))
        path.unlink()
        assert list((tmp_path / "saved" / "assets").iterdir()) == []
        loaded = tf.saved_model.load(str(tmp_path / "saved"))
        texts = tf.constant(["Hello, wörld 中文", "é" * 60, ""])
        ids = tokenizer.tokenize(texts)
        assert loaded.tokenize(texts).to_list() == ids.to_list()
        for ours, theirs in zip(
            tokenizer.tokenize_with_offsets(texts), loaded.tokenize_with_offsets(texts), strict=True
        ):
            assert ours.to_list() == theirs.to_list()
        assert loaded.detokenize(ids).numpy().tolist() == tokenizer.detokenize(ids).numpy().tolist()

    def test_dataset(self, small_tokenizer):
        texts = ["hello", "wörld", "é" * 60, "", "don't"]
        dataset = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(small_tokenizer.tokenize)
        rows = [row for batch in dataset for row in batch.to_list()]
        assert rows == small_tokenizer.tokenize(texts).to_list()

    def test_keras_layer_that_makes_it_while_traced(self):
        class Tokens(keras.layers.Layer):
            def build(self, _):
                self.tokenizer = BertTokenizer(SMALL_VOCABULARY)

            def call(self, text):
                return self.tokenizer.tokenize(text).to_tensor(shape=[None, 4])

            def compute_output_spec(self, text):
                return keras.KerasTensor((None, 4), "int32")

        text = keras.Input((), dtype="string")
        model = keras.Model(text, Tokens()(text))
        expected = BertTokenizer(SMALL_VOCABULARY).tokenize(["hello wörld"]).to_tensor(shape=[None, 4])
        np.testing.assert_array_equal(model.predict(tf.constant(["hello wörld"]), verbose=0), expected)

    def test_word_ids_start_anew_in_each_text(self, small_tokenizer):
        ids = small_tokenizer.tokenize(["unknown hello", "", "don't unknown"])
        assert small_tokenizer.word_ids(ids).to_list() == [[0, 0, 1], [], [0, 1, 2, 3, 3]]
