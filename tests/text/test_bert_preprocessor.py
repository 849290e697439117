"""BertPreprocessor against Hugging Face's tokenizer, in every place where it works."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.text.packing import truncated_lengths
from tests.native.saved_model_runner import SavedModelRunner

NAMES = ("input_word_ids", "input_mask", "input_type_ids")
TEXTS = [
    "The film was good.",
    "",
    "a bad, bad, bad book! why?",
    "[SEP] is text",
    "Ça va? 中文，全角ＡＢＣ",
    "the " * 40,
    "\x00 \t \u0301",
]


@pytest.fixture(scope="module")
def reference(vocabulary: list[str], tmp_path_factory: pytest.TempPathFactory):
    """Hugging Face's tokenizer of the same vocabulary: texts -> ids in TF Hub's names."""
    transformers = pytest.importorskip("transformers")
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(file), do_lower_case=True, split_special_tokens=True)

    def encode(first, second=None, length=16):
        encoded = tokenizer(
            first,
            second,
            padding="max_length",
            truncation="longest_first",
            max_length=length,
            return_tensors="np",
            return_special_tokens_mask=True,
        )
        keys = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask")
        return dict(zip((*NAMES, "special_tokens_mask"), (encoded[key] for key in keys), strict=True))

    return encode


def assert_same(ids, expected) -> None:
    for name, value in ids.items():
        assert value.dtype == tf.int32
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_texts_as_the_reference(vocabulary, reference):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16, return_special_tokens_mask=True)
    ids = preprocessor(TEXTS)
    assert set(ids) == {*NAMES, "special_tokens_mask"}
    assert_same(ids, reference(TEXTS))


@pytest.mark.parametrize("length", [3, 4, 5, 9, 16, 50])
def test_pairs_as_the_reference(vocabulary, reference, length):
    random = np.random.default_rng(length)
    words = "the good bad film book zzz , .".split()
    first, second = ([" ".join(random.choice(words, random.integers(0, 30))) for _ in range(200)] for _ in range(2))
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=length, return_special_tokens_mask=True)
    if length == 3:
        # The reference cannot cut a pair to nothing; three places hold the special tokens alone.
        ids = preprocessor((first, second))
        assert ids["input_word_ids"].numpy().tolist() == [[2, 3, 3]] * 200
    else:
        assert_same(preprocessor((first, second)), reference(first, second, length))


def test_truncation_never_passes_the_room():
    first, second = np.meshgrid(np.arange(30), np.arange(30))
    for room in range(25):
        kept = truncated_lengths(tf.constant(first.ravel()), tf.constant(second.ravel()), room)
        total = kept[0].numpy() + kept[1].numpy()
        np.testing.assert_array_equal(total, np.minimum(first.ravel() + second.ravel(), room))


def test_every_form_of_a_text(vocabulary, reference):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16)
    one, many = reference(["a film"]), reference(["a film", "why?"])
    assert_same(preprocessor("a film"), one)
    assert_same(preprocessor(b"a film"), one)
    texts = ["a film", "why?"]
    for form in (texts, np.array(texts), np.array(texts, dtype=object), np.array(texts, dtype="S"), tf.constant(texts)):
        assert_same(preprocessor(form), many)
    pair = reference(["a film"], ["why?"])
    assert_same(preprocessor(("a film", "why?")), pair)
    assert_same(preprocessor((["a film"], np.array(["why?"]))), pair)
    assert_same(preprocessor([tf.constant(["a film"]), tf.constant(["why?"])]), pair)
    assert preprocessor([])["input_word_ids"].shape == (0, 16)


def test_in_a_dataset_and_in_a_functional_model(vocabulary, reference):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16)
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, range(len(TEXTS)))).batch(4)
    batches = list(dataset.map(lambda text, label: (preprocessor(text), label)))
    assert_same({name: tf.concat([ids[name] for ids, _ in batches], 0) for name in NAMES}, reference(TEXTS))

    text = keras.Input(shape=(), dtype="string")
    outputs = preprocessor(text)
    assert {name: (value.shape, value.dtype) for name, value in outputs.items()} == dict.fromkeys(
        NAMES, ((None, 16), "int32")
    )
    model = keras.Model(text, outputs)
    assert_same(model(tf.constant(TEXTS)), reference(TEXTS))
    assert_same(keras.models.clone_model(model)(tf.constant(TEXTS)), reference(TEXTS))


def test_get_config_holds_every_argument(vocabulary):
    arguments = {
        "vocabulary": vocabulary,
        "lowercase": False,
        "strip_accents": True,
        "tokenize_chinese_chars": False,
        "special_tokens_in_text": True,
        "sequence_length": 7,
        "return_special_tokens_mask": True,
    }
    preprocessor = kbl.BertPreprocessor(**arguments, name="ids")
    config = preprocessor.get_config()
    assert {name: config[name] for name in arguments} == arguments
    twin = kbl.BertPreprocessor.from_config(config)
    assert twin.name == "ids"
    texts = ["Théâtre [SEP] 中文 the"]
    np.testing.assert_array_equal(twin(texts)["input_word_ids"], preprocessor(texts)["input_word_ids"])
    assert (twin(texts)["input_word_ids"].numpy() == 3).sum() == 2


def test_keras_file_without_the_vocabulary_file(vocabulary, reference, tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(vocabulary), encoding="utf-8")
    text = keras.Input(shape=(), dtype="string")
    model = keras.Model(text, kbl.BertPreprocessor(file, sequence_length=16)(text))
    model.save(tmp_path / "ids.keras")
    file.unlink()
    assert_same(keras.saving.load_model(tmp_path / "ids.keras")(tf.constant(TEXTS)), reference(TEXTS))


def test_export_runs_without_python(
    vocabulary, reference, tmp_path: pathlib.Path, saved_model_runner: SavedModelRunner
):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16)
    preprocessor.export(tmp_path / "preprocessor")
    moved = (tmp_path / "preprocessor").rename(tmp_path / "moved")
    ids = saved_model_runner.run(moved, {"text": TEXTS})
    for name, expected in reference(TEXTS).items():
        if name in NAMES:
            np.testing.assert_array_equal(ids[name], expected)
    with pytest.raises(FileExistsError, match="does not exist yet"):
        preprocessor.export(moved)

    pairs = kbl.BertPreprocessor(vocabulary, sequence_length=16)
    pairs(("a", "b"))
    pairs.export(tmp_path / "pairs")
    ids = saved_model_runner.run(tmp_path / "pairs", {"text_a": TEXTS, "text_b": TEXTS[::-1]})
    np.testing.assert_array_equal(ids["input_word_ids"], reference(TEXTS, TEXTS[::-1])["input_word_ids"])


def test_from_pretrained_reads_the_checkpoints_own_tokenizer(minilm_directory):
    transformers = pytest.importorskip("transformers")
    preprocessor = kbl.BertPreprocessor.from_pretrained(minilm_directory, sequence_length=32)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(minilm_directory, split_special_tokens=True)
    texts = ["Unaffordable Häuser, 3.5%!", "I can't believe it's [MASK]"]
    expected = tokenizer(texts, padding="max_length", max_length=32, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(preprocessor(texts)["input_word_ids"], expected)
    with pytest.raises(ValueError, match="at most 512, the number of positions .* Received: sequence_length=513"):
        kbl.BertPreprocessor.from_pretrained(minilm_directory, sequence_length=513)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sequence_length": 2}, ValueError, "at least 3, for .* Received: sequence_length=2"),
        ({"sequence_length": 12.0}, TypeError, "an int from 3. Received: sequence_length=12.0"),
        ({"sequence_length": True}, TypeError, "Received: sequence_length=True"),
        ({"vocabulary": ["[PAD]", "[UNK]", "word"]}, ValueError, r"\[CLS\]"),
        ({"vocabulary": "no/such/vocab.txt"}, FileNotFoundError, "no/such/vocab.txt"),
    ],
)
def test_wrong_arguments(vocabulary, arguments, error, message):
    with pytest.raises(error, match=message):
        kbl.BertPreprocessor(**{"vocabulary": vocabulary, **arguments})


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (3, TypeError, "Received: inputs of type int"),
        (["text", 3], TypeError, "Received: 3 of type int among them"),
        (tf.constant([1, 2]), TypeError, "expects strings. Received: inputs.dtype="),
        (tf.constant("scalar"), ValueError, r"batch of texts \[batch\]. Received: inputs.shape=\(\)"),
        ([["a", "b"]], ValueError, r"Received: inputs.shape=\(1, 2\)"),
        (("a", "b", "c"), ValueError, "Received: a tuple of 3"),
        ((["a", "b"], ["c"]), ValueError, "as many second texts as first ones. Received: 2 and 1 texts"),
    ],
)
def test_wrong_inputs(vocabulary, inputs, error, message):
    with pytest.raises(error, match=message):
        kbl.BertPreprocessor(vocabulary)(inputs)


def test_symbolic_input_of_numbers(vocabulary):
    with pytest.raises(TypeError, match="keras.Input\\(shape=\\(\\), dtype='string'\\)"):
        kbl.BertPreprocessor(vocabulary)(keras.Input(shape=()))
