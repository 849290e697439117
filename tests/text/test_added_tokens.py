"""Added tokens against Hugging Face's tokenizers: found in the same places, with the same offsets."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.serving.server_operations import server_operations
from keras_bert_layers.text.bert_tokenizer import BertTokenizer
from tests.text.test_bert_tokenizer import ALLOWED_OPS, SMALL_VOCABULARY, load_benchmark, op_types

tokenizers = pytest.importorskip("tokenizers", reason="the reference is Hugging Face's tokenizers")

FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@pytest.fixture(scope="module")
def parity():
    pytest.importorskip("transformers", reason="the reference is transformers' BertTokenizerFast")
    return load_benchmark("tokenizer_parity")


@pytest.fixture(scope="module")
def vocabulary_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(SMALL_VOCABULARY) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def pair(parity, vocabulary_file):
    """Makes a tokenizer and its reference, which finds what is added and none of the model's special tokens."""

    def make(tokens, lowercase=True, **settings):
        reference = parity.reference_tokenizer(vocabulary_file, lowercase, **settings)
        for token in tokens:
            # Called special, it would not be found: `split_special_tokens` is for all special tokens.
            reference.add_tokens([token if isinstance(token, str) else tokenizers.AddedToken(**token)])
        return BertTokenizer(vocabulary_file, lowercase=lowercase, added_tokens=tokens, **settings), reference

    return make


def assert_equal(parity, tokenizer, reference, texts):
    assert parity.wrong_ids(tokenizer.tokenize, reference, texts) == []
    assert parity.wrong_offsets(tokenizer, reference, texts) == []


@pytest.mark.parametrize("seed", range(8))
def test_random_tokens_in_random_texts(seed, pair, parity):
    random = np.random.default_rng(seed)
    parts = [
        *"abAÉé_-[]19 中文.'\u200d\u00a0\t",
        "cool",
        "Token",
        "[E1",
        "E11]",
        "SEP",
        "Ⓐ",
        "e\u0301",
        "\u0301",
        "😀",
        "ß",
    ]

    def piece(longest):
        return "".join(random.choice(parts, random.integers(1, longest)))

    tokens = [{"content": "[E11]", "normalized": False, "special": False}, "cool-token", "New York"]
    while len(tokens) < 12:
        token = {"content": piece(4), **{name: bool(random.integers(2)) for name in FLAGS}}
        blank = token["content"].strip() != token["content"] or not token["content"].strip("\u0301\u200d")
        fits = token["content"].strip() and not (token["normalized"] and blank)
        if fits and token["content"] not in SMALL_VOCABULARY[:5]:
            tokens.append(token)
    contents = [token if isinstance(token, str) else token["content"] for token in tokens]
    tokens = [tokens[contents.index(content)] for content in dict.fromkeys(contents)]

    def part():
        kind = random.integers(6)
        if kind < 3:
            content = str(random.choice(contents))
            return content if kind else content.upper() if random.integers(2) else content.lower()
        return [" ", "  ", str(random.choice(["[SEP]", "hello", "unknown", "\U000f2000", "\x00"]))][kind - 3]

    texts = ["".join([part(), piece(3)][random.integers(2)] for _ in range(random.integers(0, 12))) for _ in range(300)]
    settings = {"strip_accents": [None, True, False][seed % 3], "tokenize_chinese_chars": seed % 4 != 3}
    assert_equal(parity, *pair(tokens, lowercase=seed % 2 == 0, **settings), texts)


def test_each_flag(pair, parity):
    texts = [
        "a[E]b [E] [E]\u2003b _[E] [E].",
        "[e][E ]\t[E]\n[E]",
        "x Cool-Tokens cool - token COOL-TOKEN",
        "",
        "hello",
    ]
    texts += [
        "ǅ[E]ǆ",
        "中[E]中 Cool-Token中",
        "[E][E][E]",
        "cooL-token " * 3,
        " [E]  \u0301",
        "é" * 120 + "[E]" + "b" * 101,
    ]
    for name in FLAGS:
        tokens = [{"content": "[E]", name: name != "normalized"}, {"content": "Cool-Token", name: True}]
        assert_equal(parity, *pair(tokens), texts)


def test_the_leftmost_and_then_the_longest(pair, parity):
    tokens = [{"content": content, "normalized": False} for content in ("ab", "abc", "bcd", "[SEP", "]x", "SEP", "a")]
    assert_equal(parity, *pair(tokens), ["abcd bcd", "abd", "[SEP]x SEP", "aab", "[SEP] [SE"])
    # Equal once normalised: the first one.
    assert_equal(parity, *pair(["Hello You", "hello you", "HELLO"]), ["hello you", "HELLO YOU hello"])


def test_tokens_of_the_vocabulary_keep_their_ids_and_stay_pieces(pair, parity):
    """A checkpoint that has them in place of `[unused1]` and the like."""
    tokens = [{"content": "un", "single_word": True}, "hello", {"content": "é", "normalized": False}]
    tokenizer, reference = pair(tokens)
    assert_equal(parity, tokenizer, reference, ["un unknown hellounknown", "É é hello", "un-un"])
    assert tokenizer.vocabulary == SMALL_VOCABULARY


def test_special_ones_are_found_and_skipped_in_decoding(vocabulary_file, parity):
    """As transformers finds them in its default, where `split_special_tokens` is off."""
    markers = ["[E11]", "[E12]"]
    reference = parity.reference_tokenizer(vocabulary_file, True, split_special_tokens=False)
    reference.add_special_tokens(markers)
    tokenizer = BertTokenizer(
        vocabulary_file, added_tokens=[{"content": marker, "special": True} for marker in markers]
    )
    texts = ["[E11] hello [E12]world", "[e11]", "[E11][E12][E1"]
    assert_equal(parity, tokenizer, reference, texts)
    ids = tokenizer.tokenize(texts)
    for skip in (False, True):
        expected = [reference.decode(row, skip_special_tokens=skip) for row in ids.to_list()]
        assert [text.decode() for text in tokenizer.detokenize(ids, skip_special_tokens=skip).numpy()] == expected
    # The model's own are not found, and those that are not asked for neither.
    assert 3 not in tokenizer.tokenize("[E11] [SEP]").to_list()[0]
    both = BertTokenizer(vocabulary_file, added_tokens=markers, special_tokens_in_text=True)
    reference = parity.reference_tokenizer(vocabulary_file, True, split_special_tokens=False)
    reference.add_tokens(markers)
    assert_equal(parity, both, reference, [*texts, "[SEP][E11][MASK] [UNK]"])


def test_bytes_that_are_no_utf8(pair, parity):
    tokenizer, reference = pair(
        [{"content": "[E]", "rstrip": True}, "cool-token", {"content": "é", "normalized": False}]
    )
    texts = [text + end for text in parity.random_bytes(100) for end in (b"[E] \x80cool-token\xff", b"\xc3\xa9[E]")]
    assert parity.wrong_ids(tokenizer.tokenize, reference, texts) == []
    _, starts, ends = tokenizer.tokenize_with_offsets([b"\xff[E] \x80Cool-Token\xe4\xb8!"])
    assert (starts.to_list(), ends.to_list()) == ([[1, 6, 18]], [[5, 16, 19]])


def test_in_a_keras_file_an_export_and_servers(pair, tmp_path):
    tokens = [{"content": "[E11]", "special": True, "lstrip": True}, {"content": "Cool-Token", "single_word": True}]
    tokenizer, reference = pair([{**tokens[0], "special": False, "normalized": False}, tokens[1]])
    preprocessor = kbl.BertPreprocessor(
        SMALL_VOCABULARY, sequence_length=10, added_tokens=tokens, return_offsets="characters", return_word_ids=True
    )
    texts = tf.constant(["un [E11]known cool-token!", "cool-tokens"])
    text = keras.Input((), dtype="string")
    model = keras.Model(text, preprocessor(text))
    expected = model(texts)
    assert expected["input_word_ids"][0, 1:6].numpy().tolist() == reference.encode("un [E11]known cool-token!").ids[1:6]
    assert expected["offsets"][0, 2].numpy().tolist() == [2, 8]
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    json.dumps(preprocessor.get_config())
    spec = tf.TensorSpec([None], tf.string)
    module = tf.Module()
    module.serve = tf.function(preprocessor.call, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    exported = tf.saved_model.load(str(tmp_path / "saved"))
    for values in (reloaded(texts), exported.serve(texts)):
        for name, value in expected.items():
            np.testing.assert_array_equal(values[name], value)
    used = op_types(tokenizer.tokenize, spec) | op_types(tokenizer.tokenize_with_offsets, spec)
    assert used <= ALLOWED_OPS
    # What the list allows for them, every server has.
    for server in ("2.13", "2.14", "2.15", "2.16", "2.17", "2.18", "2.19", "2.20"):
        assert used <= set(server_operations(server))


def test_without_them_the_graph_is_what_it_was(vocabulary_file):
    spec = tf.TensorSpec([None], tf.string)
    new = {"FloorMod", "StaticRegexReplace", "Substr", "UnicodeEncode"}
    tokenizer = BertTokenizer(vocabulary_file, added_tokens=[])
    assert not op_types(tokenizer.tokenize, spec) & (new | {"UnicodeDecodeWithOffsets"})
    assert not op_types(tokenizer.tokenize_with_offsets, spec) & new


@pytest.mark.parametrize(
    ("tokens", "message", "way_out"),
    [
        (["##x"], r"not to begin with \"##\"", ["x"]),
        ([" "], "a str that holds more than white space. Received: ' '", []),
        ([5], "a str, or a mapping with `content`.*Received: 5", []),
        ([{"content": "a", "id": 7}], r"Received: a mapping with the keys \['content', 'id'\]", [{"content": "a"}]),
        ([{"content": "a", "lstrip": 1}], "Received: lstrip=1", [{"content": "a", "lstrip": True}]),
        ([" a"], "Received: ' a' with normalized=True. Use", [{"content": " a", "normalized": False}]),
        (
            ["\u200d"],
            r"'\\u200d' with normalized=True. Use normalized=False",
            [{"content": "\u200d", "normalized": False}],
        ),
        (["\U000f2000"], "private-use characters from", ["x"]),
        (["\ud800"], "lone surrogates", ["x"]),
        (["a", "a"], "'a' twice", ["a"]),
        (["[SEP]"], r"Received: \[SEP\] among the added tokens. .* use special_tokens_in_text=True", []),
        ("[E11]", r"Received: added_tokens='\[E11\]'. Put it into a list", ["[E11]"]),
        (None, None, None),
    ],
)
def test_refused_by_name(tokens, message, way_out, vocabulary_file):
    if message is None:
        assert BertTokenizer(vocabulary_file, added_tokens=tokens).added_tokens == []
        return
    with pytest.raises(ValueError, match=message):
        BertTokenizer(vocabulary_file, added_tokens=tokens)
    assert len(BertTokenizer(vocabulary_file, added_tokens=way_out).added_tokens) == len(way_out)


def test_many_tokens_and_their_limit(vocabulary_file):
    size = len(SMALL_VOCABULARY)
    many = BertTokenizer(vocabulary_file, added_tokens=[f"t-{i}" for i in range(2000)])
    assert many.tokenize("hello t-1999 t-20").to_list() == [[5, size + 1999, size + 20]]
    tokens = [f"{i}-{i * 7919}-{i * 104729}" for i in range(10_000)]
    with pytest.raises(ValueError, match=r"at most 200,000 characters .* Received: 10,00. tokens .* Add fewer"):
        BertTokenizer(vocabulary_file, added_tokens=tokens)
