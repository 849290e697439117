"""BertPreprocessor against Hugging Face's tokenizer, in every place where it works."""

import inspect
import pathlib
import shutil
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.text.added_token import AddedToken
from keras_bert_layers.text.packing import kept_lengths
from tests.native.saved_model_runner import SavedModelRunner
from tests.text.test_bert_tokenizer import ALLOWED_OPS, op_types

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


@pytest.mark.parametrize("length", [4, 5, 9, 16, 50])
def test_pairs_as_the_reference(vocabulary, reference, length):
    random = np.random.default_rng(length)
    words = "the good bad film book zzz , .".split()
    first, second = ([" ".join(random.choice(words, random.integers(0, 30))) for _ in range(200)] for _ in range(2))
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=length, return_special_tokens_mask=True)
    assert_same(preprocessor((first, second)), reference(first, second, length))


def test_truncation_never_passes_the_room():
    first, second = np.meshgrid(np.arange(30), np.arange(30))
    for room in range(25):
        kept = kept_lengths([tf.constant(first.ravel()), tf.constant(second.ravel())], room)
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
        "truncation": "only_first",
        "padding": "longest",
        "pad_to_multiple_of": 2,
        "sequence_buckets": None,
        "return_special_tokens_mask": True,
        "return_offsets": "bytes",
        "return_word_ids": True,
        "long_documents": True,
        "added_tokens": [AddedToken("[E]", lstrip=True, special=True).__dict__],
        "special_tokens": {"mask_token": "film"},
        "pair_format": "roberta",
        "export_inputs": "words",
    }
    assert set(arguments) == set(inspect.signature(kbl.BertPreprocessor).parameters) - {"kwargs"}
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


@pytest.fixture(scope="module")
def exported(vocabulary, tmp_path_factory) -> pathlib.Path:
    """A preprocessor of rows of 16 tokens, exported and moved."""
    directory = tmp_path_factory.mktemp("exported")
    kbl.BertPreprocessor(vocabulary, sequence_length=16).export(directory / "made")
    return (directory / "made").rename(directory / "moved")


def test_export_runs_without_python(
    vocabulary, reference, exported, tmp_path: pathlib.Path, saved_model_runner: SavedModelRunner
):
    moved = shutil.copytree(exported, tmp_path / "copied")
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16, export_inputs="pair")
    ids = saved_model_runner.run(moved, {"text": TEXTS})
    for name, expected in reference(TEXTS).items():
        if name in NAMES:
            np.testing.assert_array_equal(ids[name], expected)
    with pytest.raises(FileExistsError, match="does not exist yet"):
        preprocessor.export(moved)
    with pytest.raises(ValueError, match="`inputs` to be text or pair. Received: inputs='words'"):
        preprocessor.export(moved, overwrite=True, inputs="words")
    # Its own is replaced.
    preprocessor.export(moved, overwrite=True)
    ids = saved_model_runner.run(moved, {"text_a": TEXTS, "text_b": TEXTS[::-1]})
    np.testing.assert_array_equal(ids["input_word_ids"], reference(TEXTS, TEXTS[::-1])["input_word_ids"])


@pytest.mark.parametrize(("form", "ranks"), [("pair", {"text_a": 1, "text_b": 1}), ("words", {"text": 2})])
def test_what_an_export_takes_is_said_once_and_kept(vocabulary, form, ranks, tmp_path):
    made = kbl.BertPreprocessor(vocabulary, sequence_length=16, export_inputs=form)
    # Whatever it was called on before.
    for texts in (("a film", "why?"), [["a", "film"]], "a film"):
        assert made(texts)["input_word_ids"].shape == (1, 16)
    preprocessor = kbl.BertPreprocessor.from_config(made.get_config())
    ids = {name: keras.Input((None,), dtype="int32", name=name) for name in NAMES}
    model = keras.Model(ids, keras.layers.Embedding(len(vocabulary), 2, name="vectors")(ids[NAMES[0]]))
    kbl.export_saved_model(model, tmp_path / "1", preprocessor=preprocessor, warmup=False, check=False)
    _, inputs = tf.saved_model.load(tmp_path / "1").signatures["serving_default"].structured_input_signature
    assert {name: spec.shape.rank for name, spec in inputs.items()} == ranks


def test_from_pretrained_reads_the_checkpoints_own_tokenizer(minilm_directory):
    transformers = pytest.importorskip("transformers")
    preprocessor = kbl.BertPreprocessor.from_pretrained(minilm_directory, sequence_length=32)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(minilm_directory, split_special_tokens=True)
    texts = ["Unaffordable Häuser, 3.5%!", "I can't believe it's [MASK]"]
    expected = tokenizer(texts, padding="max_length", max_length=32, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(preprocessor(texts)["input_word_ids"], expected)
    with pytest.raises(
        ValueError, match="at most 512, the number of positions .* Received: sequence_length=513. For longer"
    ):
        kbl.BertPreprocessor.from_pretrained(minilm_directory, sequence_length=513)
    with pytest.raises(ValueError, match="Received: sequence_length=2.$"):
        kbl.BertPreprocessor.from_pretrained(minilm_directory, sequence_length=2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sequence_length": 2}, ValueError, "at least 3, for .* Received: sequence_length=2"),
        ({"sequence_length": 12.0}, TypeError, "an int from 3. Received: sequence_length=12.0"),
        ({"sequence_length": True}, TypeError, "Received: sequence_length=True"),
        ({"vocabulary": ["[PAD]", "[UNK]", "word"]}, ValueError, r"\[CLS\]"),
        ({"vocabulary": "no/such/vocab.txt"}, FileNotFoundError, "no/such/vocab.txt"),
        ({"vocabulary": "."}, FileNotFoundError, "For a checkpoint's directory .* use `from_pretrained`"),
    ],
)
def test_wrong_arguments(vocabulary, arguments, error, message):
    with pytest.raises(error, match=message):
        kbl.BertPreprocessor(**{"vocabulary": vocabulary, **arguments})


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (3, TypeError, "Received: inputs of type int"),
        (tf.constant([1, 2]), TypeError, "expects strings. Received: inputs.dtype="),
        (tf.constant("scalar"), ValueError, r"batch of texts \[batch\] or .*Received: inputs.shape=\(\)"),
        (np.full((1, 1, 1), "a"), ValueError, r"or of words \[batch, words\]. Received: inputs.shape=\(1, 1, 1\)"),
        ((), ValueError, "Received: a tuple with no texts"),
        ((["a", "b"], ["c"]), ValueError, "Received: a tuple with 2 and 1 texts"),
        (["a", ("b", "c")], ValueError, r"pairs as a tuple of two lists.*Received: the tuple inputs\[1\] in a list"),
    ],
)
def test_wrong_inputs(vocabulary, inputs, error, message):
    with pytest.raises(error, match=message):
        kbl.BertPreprocessor(vocabulary)(inputs)


def test_symbolic_input_of_numbers(vocabulary):
    with pytest.raises(TypeError, match="keras.Input\\(shape=\\(\\), dtype='string'\\)"):
        kbl.BertPreprocessor(vocabulary)(keras.Input(shape=()))


WORDS = [["The", "film", "was", "good"], [], ["why?", "", "zzz,zz", "\u0301"], ["the"] * 20]


@pytest.fixture(scope="module")
def fast_tokenizer(vocabulary, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return transformers.BertTokenizerFast(str(file), do_lower_case=True, split_special_tokens=True)


def random_texts(seed: int, count: int, longest: int) -> list[str]:
    random = np.random.default_rng(seed)
    words = "the good bad film book zzz , . éa 中".split()
    return [" ".join(random.choice(words, random.integers(0, longest))) for _ in range(count)]


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
def test_each_truncation_as_the_reference(vocabulary, fast_tokenizer, truncation):
    """5,000 pairs of 0 to 300 words, to 128 tokens."""
    first, second = random_texts(1, 5000, 300), random_texts(2, 5000, 300)
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=128, truncation=truncation)
    ids = {name: value.numpy() for name, value in preprocessor((first, second)).items()}
    lengths = [preprocessor.tokenizer.tokenize(texts).row_lengths().numpy() for texts in (first, second)]
    cut = 0 if truncation == "only_first" else 1
    to_remove = lengths[0] + lengths[1] - 125
    # Where the segment is too short for what is to go, the reference raises; we cut it to nothing and then the other.
    raises = (truncation != "longest_first") & (to_remove > 0) & (lengths[cut] <= to_remove)
    np.testing.assert_array_equal(ids["input_mask"][raises].sum(1), np.minimum(128, lengths[1 - cut][raises] + 3))
    kept = np.flatnonzero(~raises)
    assert len(kept) > 1500
    expected = fast_tokenizer(
        [first[row] for row in kept],
        [second[row] for row in kept],
        truncation=truncation,
        max_length=128,
        padding="max_length",
        return_tensors="np",
    )
    for name, key in zip(NAMES, ("input_ids", "attention_mask", "token_type_ids"), strict=True):
        np.testing.assert_array_equal(ids[name][kept], expected[key])


def test_paddings(vocabulary):
    texts = ["the", "the " * 9, ""]

    def length(**options) -> int:
        return kbl.BertPreprocessor(vocabulary, sequence_length=32, **options)(texts)["input_word_ids"].shape[1]

    assert length() == 32
    assert length(padding="longest") == 11
    assert length(padding="longest", pad_to_multiple_of=8) == 16
    assert length(padding="longest", pad_to_multiple_of=24) == 24
    assert length(padding="longest", sequence_buckets=(4, 11, 32)) == 11
    assert length(padding="longest", sequence_buckets=(4, 10, 32)) == 32
    texts[1] = "the " * 90
    assert length(padding="longest") == length(padding="longest", pad_to_multiple_of=24) == 32
    texts.clear()
    assert length(padding="longest") == 2


def test_offsets_and_word_ids_as_the_reference(vocabulary, fast_tokenizer):
    first, second = ["The film, zzz.", "Éa!", ""], ["a good bad book 中", "", "why why"]
    for unit in ("characters", "bytes"):
        preprocessor = kbl.BertPreprocessor(
            vocabulary, sequence_length=16, return_offsets=unit, return_word_ids=True, return_special_tokens_mask=True
        )
        ids = preprocessor((first, second))
        assert ids["offsets"].shape == (3, 16, 2)
        expected = fast_tokenizer(first, second, padding="max_length", max_length=16, return_offsets_mapping=True)
        if unit == "characters":
            np.testing.assert_array_equal(ids["offsets"], expected["offset_mapping"])
        else:
            for row, text in enumerate(first):
                end = text.encode().index(b"m") + 1 if row == 0 else None
                if end:
                    start, stop = ids["offsets"][row, 2].numpy()
                    assert text.encode()[start:stop] == b"film"
            assert ids["offsets"][1, 1].numpy().tolist() == [0, 2]
        for row in range(3):
            words = [-1 if word is None else word for word in expected.word_ids(row)]
            assert ids["word_ids"][row].numpy().tolist() == words


def test_words_as_the_reference(vocabulary, fast_tokenizer):
    preprocessor = kbl.BertPreprocessor(
        vocabulary, sequence_length=12, return_word_ids=True, return_offsets="characters"
    )
    expected = fast_tokenizer(
        WORDS,
        is_split_into_words=True,
        padding="max_length",
        max_length=12,
        truncation=True,
        return_offsets_mapping=True,
    )
    longest = max(map(len, WORDS))
    dense = tf.constant([[*row, *[""] * (longest - len(row))] for row in WORDS])
    for form in (WORDS, tf.ragged.constant(WORDS), dense):
        ids = preprocessor(form)
        np.testing.assert_array_equal(ids["input_word_ids"], expected["input_ids"])
        np.testing.assert_array_equal(ids["input_mask"], expected["attention_mask"])
        np.testing.assert_array_equal(ids["offsets"], expected["offset_mapping"])
        for row in range(len(WORDS)):
            words = [-1 if word is None else word for word in expected.word_ids(row)]
            assert ids["word_ids"][row].numpy().tolist() == words
    words = keras.Input(shape=(None,), dtype="string")
    model = keras.Model(words, preprocessor(words))
    np.testing.assert_array_equal(model(dense)["input_word_ids"], expected["input_ids"])


def test_three_segments(vocabulary):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=12)
    with pytest.warns(
        UserWarning, match=r"3 segments get the type ids 0 to 2\. .* keras.ops.minimum\(ids\['input_"
    ) as seen:
        ids = preprocessor((["a " * 9, "a"], ["b", "b"], ["c " * 9, "c"]))
    assert seen[0].filename == __file__
    a, b, c = (vocabulary.index(letter) for letter in "abc")
    assert ids["input_word_ids"].numpy().tolist() == [
        [2, a, a, a, a, 3, b, 3, c, c, c, 3],
        [2, a, 3, b, 3, c, 3, 0, 0, 0, 0, 0],
    ]
    assert ids["input_type_ids"].numpy().tolist() == [
        [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2],
        [0, 0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0],
    ]


@pytest.mark.filterwarnings("ignore:3 segments get:UserWarning")
def test_the_way_out_of_the_warning_of_types(vocabulary):
    text = keras.Input((), dtype="string")
    with pytest.warns(UserWarning, match="3 segments"):
        ids = kbl.BertPreprocessor(vocabulary, sequence_length=12)((text, text, text))
    ids["input_type_ids"] = keras.ops.minimum(ids["input_type_ids"], 1)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    encoder = kbl.BertEncoder({**sizes, "vocab_size": len(vocabulary)}, combine="sum")
    assert keras.Model(text, encoder(ids)["pooled_output"])(tf.constant(["a"])).shape == (1, 8)


@pytest.mark.parametrize(("segments", "shortest"), [(2, 4), (3, 7), (12, 25)])
def test_segments_that_have_no_room(vocabulary, segments, shortest):
    """Nothing of some texts would be left; a model says so when it is made."""
    texts = (["the film"],) * segments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for inputs in (texts, tuple(keras.Input((), dtype="string") for _ in texts)):
            with pytest.raises(
                ValueError, match=f"at least {shortest} for {segments} segments.*sequence_length={shortest - 1}"
            ):
                kbl.BertPreprocessor(vocabulary, sequence_length=shortest - 1)(inputs)
        ids = kbl.BertPreprocessor(vocabulary, sequence_length=shortest)(texts)["input_word_ids"].numpy()[0]
    assert np.count_nonzero(ids == vocabulary.index("[SEP]")) == segments
    assert np.count_nonzero(ids == vocabulary.index("the")) == (1 if segments == 2 else segments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": "none"}, "Received: truncation='none'"),
        ({"padding": "shortest"}, "Received: padding='shortest'"),
        ({"pad_to_multiple_of": 8}, "Add padding='longest'"),
        ({"padding": "longest", "pad_to_multiple_of": 0}, "Received: pad_to_multiple_of=0"),
        ({"padding": "longest", "sequence_buckets": (64, 32, 128)}, "ascending lengths that end in `sequence_length`"),
        (
            {"padding": "longest", "sequence_buckets": (32, 64)},
            r"Received: sequence_buckets=\[32, 64\], sequence_length=128",
        ),
        ({"return_offsets": "words"}, "Received: return_offsets='words'"),
        ({"padding": "longest", "pad_to_multiple_of": "x"}, "a positive int, .* Received: pad_to_multiple_of='x'"),
        ({"padding": "longest", "pad_to_multiple_of": 1.5}, "a positive int, .* Received: pad_to_multiple_of=1.5"),
        ({"padding": "longest", "pad_to_multiple_of": True}, "a positive int, .* Received: pad_to_multiple_of=True"),
        ({"padding": "longest", "sequence_buckets": 8}, "as .64, 128.. Received: sequence_buckets=8"),
        ({"padding": "longest", "sequence_buckets": "8"}, "Received: sequence_buckets='8'"),
        ({"padding": "longest", "sequence_buckets": ("x", 128)}, "`sequence_buckets` to be an int.*='x'"),
        ({"return_word_ids": "yes"}, "`return_word_ids` to be True or False. Received: return_word_ids='yes'"),
        ({"return_special_tokens_mask": 1}, "Received: return_special_tokens_mask=1"),
        ({"long_documents": None}, "Received: long_documents=None"),
    ],
)
def test_wrong_options(vocabulary, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        kbl.BertPreprocessor(vocabulary, **options)


def test_only_second_wants_pairs(vocabulary):
    with pytest.raises(ValueError, match="expects pairs. Received: one text"):
        kbl.BertPreprocessor(vocabulary, truncation="only_second")("text")


def test_long_documents_pass_the_checkpoints_limit(minilm_directory):
    preprocessor = kbl.BertPreprocessor.from_pretrained(minilm_directory, sequence_length=2048, long_documents=True)
    assert preprocessor("word " * 1500)["input_mask"].numpy().sum() == 1502


def test_the_export_keeps_tfhubs_contract(vocabulary, fast_tokenizer, exported):
    """Call by call what a TF Hub preprocessing model offers."""
    loaded = tf.saved_model.load(exported)
    texts = ["The film, zzz.", "", "Éa"]
    tokens = loaded.tokenize(tf.constant(texts))
    assert tokens.dtype == tf.int32
    assert tokens.ragged_rank == 2
    special = loaded.tokenize.get_special_tokens_dict()
    assert all(value.dtype == tf.int32 and value.shape == () for value in special.values())
    ids, starts, ends = loaded.tokenize_with_offsets(tf.constant(texts))
    assert ids.to_list() == tokens.to_list()
    assert starts.dtype == ends.dtype == tf.int64
    assert starts.ragged_rank == 2
    packed = loaded.bert_pack_inputs([tokens], seq_length=tf.constant(16))
    call = loaded(tf.constant(texts))
    for name, value in call.items():
        assert value.dtype == tf.int32
        np.testing.assert_array_equal(value, packed[name])
    flat = tokens.merge_dims(1, 2)
    pair = loaded.bert_pack_inputs([flat, flat], seq_length=tf.constant(9))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 4 for 2 segments"):
        loaded.bert_pack_inputs([flat, flat], seq_length=tf.constant(3))

    expected = fast_tokenizer(texts, add_special_tokens=False)
    assert flat.to_list() == expected["input_ids"]
    assert [[len(word) for word in text] for text in tokens.to_list()] == [[1, 1, 1, 3, 1], [], [2]]
    assert {name: int(value) for name, value in special.items()} == {
        "vocab_size": len(vocabulary),
        "start_of_sequence_id": 2,
        "end_of_segment_id": 3,
        "padding_id": 0,
        "mask_id": 4,
    }
    assert starts.to_list()[0] == [[0], [4], [8], [10, 11, 12], [13]]
    assert ends.to_list()[2] == [[2, 3]]
    expected = fast_tokenizer(texts, texts, truncation=True, max_length=9, padding="max_length")
    np.testing.assert_array_equal(pair["input_word_ids"], expected["input_ids"])
    expected = fast_tokenizer(texts, padding="max_length", max_length=16)
    np.testing.assert_array_equal(call["input_word_ids"], expected["input_ids"])


# What cutting, joining and padding add to the tokenizer's operations; TensorFlow Serving has them all since 2.13.
PACKING_OPS = set(
    "AddN All Assert DenseBincount FloorDiv If LessEqual LogicalNot LogicalOr LowerBound Minimum Mul Neg RaggedRange "
    "RaggedTensorToTensor Transpose Unpack UnsortedSegmentMax ZerosLike".split()
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"truncation": "only_first", "padding": "longest", "pad_to_multiple_of": 4},
        {
            "return_offsets": "bytes",
            "return_word_ids": True,
            "return_special_tokens_mask": True,
            "padding": "longest",
            "sequence_buckets": (8, 16),
        },
    ],
)
def test_ops_are_those_that_servers_have(vocabulary, options):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16, **options)
    texts, words = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.string)
    for signature in (texts, (texts, texts), (texts, texts, texts), words, (words, words)):
        assert op_types(preprocessor.call, signature) <= ALLOWED_OPS | PACKING_OPS
