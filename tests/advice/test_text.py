"""What the messages about texts, vocabularies and tokenizer files say is done, and helps."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from ..tfhub_factory import make_tfhub_encoder, make_tfhub_preprocessor
from .advice import advice, refused, warned, welcome

PAIRS = [("a good film", "why"), ("a book", "how")]


def rows(ids) -> list:
    return ids["input_word_ids"].numpy().tolist()


def edit(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


@advice("To turn pairs into columns: tuple(map(list, zip(*pairs)))")
def test_pairs(preprocessor):
    with refused():
        preprocessor(PAIRS)
    expected = preprocessor((["a good film", "a book"], ["why", "how"]))
    assert rows(preprocessor(eval("tuple(map(list, zip(*pairs)))", {"pairs": PAIRS}))) == rows(expected)


@advice("Choose the column: table['text']", "or column.fillna('') of pandas")
def test_a_table(preprocessor):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": ["why", None], "label": [0, 1]})
    with refused():
        preprocessor(table)
    with refused():
        preprocessor(table["text"])
    assert rows(preprocessor(table["text"].fillna(""))) == rows(preprocessor(["why", ""]))
    values = table["text"].tolist()
    code = "[value if isinstance(value, str) else '' for value in values]"
    assert rows(preprocessor(eval(code, {"values": values}))) == rows(preprocessor(["why", ""]))
    assert rows(preprocessor([value for value in values if isinstance(value, str)])) == rows(preprocessor(["why"]))


@advice("Replace it: text.encode('utf-8', 'replace').decode()", "Replace them: text.encode('utf-8', 'replace')")
def test_half_a_character(preprocessor):
    text = "why \ud83d"
    with refused():
        preprocessor([text])
    assert rows(preprocessor([text.encode("utf-8", "replace").decode()])) == rows(preprocessor(["why ?"]))
    tokenize = preprocessor.tokenizer.tokenize
    with refused():
        tokenize([text])
    assert tokenize([text.encode("utf-8", "replace")]).to_list() == tokenize(["why ?"]).to_list()


@advice("Make texts of numbers: [str(value) for value in values]", "Give str or bytes")
def test_numbers_as_texts(preprocessor):
    values = [7, 8]
    with refused():
        preprocessor(values)
    assert rows(preprocessor([str(value) for value in values])) == rows(preprocessor(["7", "8"]))
    with refused():
        preprocessor(["why", {"a": 1}])
    assert rows(preprocessor([b"why", "why"])) == rows(preprocessor(["why"] * 2))


@advice("Give a str, or a list of them.")
def test_no_batch(preprocessor):
    with refused():
        preprocessor(np.array("why"))
    assert rows(preprocessor("why")) == rows(preprocessor(["why"]))


@advice(
    "In a functional model: keras.Input(shape=(), dtype='string')", "and dataset.batch(...) before dataset.map(...)"
)
def test_symbolic_texts(preprocessor):
    with refused():
        preprocessor(keras.Input((), dtype="int32"))
    dataset = tf.data.Dataset.from_tensor_slices(["why", "how"])
    with refused():
        dataset.map(preprocessor)
    text = keras.Input(shape=(), dtype="string")
    model = keras.Model(text, preprocessor(text))
    expected = rows(preprocessor(["why", "how"]))
    assert rows(model(tf.constant(["why", "how"]))) == expected
    assert rows(next(iter(dataset.batch(2).map(preprocessor)))) == expected


@advice("join texts, or lower the ids before the encoder, ids['input_type_ids'] = keras.ops.minimum(")
def test_three_segments(preprocessor, encoder):
    texts = (["a good film"], ["why"], ["how"])
    with warned():
        ids = preprocessor(texts)
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoder(ids)
    exec("ids['input_type_ids'] = keras.ops.minimum(ids['input_type_ids'], 1)", {"ids": ids, "keras": keras})
    assert np.all(np.isfinite(encoder(ids)["pooled_output"]))
    with welcome():
        encoder(preprocessor((["a good film"], ["why how"])))


@advice("Make it longer, or give fewer segments.")
def test_no_room_for_segments(vocabulary):
    segments = (["a"], ["b"], ["c"])
    with refused():
        kbl.BertPreprocessor(vocabulary, sequence_length=4)(segments)
    kbl.BertPreprocessor(vocabulary, sequence_length=4)(["a"])
    with warned():
        assert kbl.BertPreprocessor(vocabulary, sequence_length=7)(segments)["input_word_ids"].shape == (1, 7)


@advice("For longer documents: long_documents=True and a WindowedEncoder.")
def test_longer_than_the_positions(tokenizer_directory):
    with refused():
        kbl.BertPreprocessor.from_pretrained(tokenizer_directory, sequence_length=600)
    preprocessor = kbl.BertPreprocessor.from_pretrained(tokenizer_directory, sequence_length=600, long_documents=True)
    ids = preprocessor(["a good film " * 190])
    config = kbl.BertConfig(
        vocab_size=len(preprocessor.tokenizer.vocabulary), hidden_size=4, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=4,
    )  # fmt: skip
    windows = kbl.WindowedEncoder(kbl.BertEncoder(config, combine="last"))
    assert windows(ids)["encoder_outputs"].shape == (1, 600, 4)


@advice("Add padding='longest'")
def test_padding(vocabulary):
    with refused():
        kbl.BertPreprocessor(vocabulary, pad_to_multiple_of=4)
    preprocessor = kbl.BertPreprocessor(vocabulary, pad_to_multiple_of=4, padding="longest")
    assert preprocessor(["a good film"])["input_word_ids"].shape == (1, 8)


@advice("Call the layer on a tuple of two, or make it with truncation='longest_first'")
def test_only_second(vocabulary):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=8, truncation="only_second")
    with refused():
        preprocessor(["why"])
    preprocessor((["why"], ["how"]))
    kbl.BertPreprocessor(vocabulary, sequence_length=8, truncation="longest_first")(["why"])


@advice("keras.Model(words, preprocessor(words)) with words = keras.Input(shape=(None,), dtype='string')")
def test_words_of_an_export(preprocessor, tmp_path):
    with refused():
        preprocessor.export(tmp_path / "words", inputs="words")
    words = keras.Input(shape=(None,), dtype="string")
    kbl.export_saved_model(keras.Model(words, preprocessor(words)), tmp_path / "words", check=False, warmup=False)
    signature = tf.saved_model.load(tmp_path / "words").signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    ids = signature(**{name: tf.constant([["a", "good"]])})["input_word_ids"]
    assert ids.numpy().tolist() == rows(preprocessor(["a good"]))


@advice("make a new layer from a vocabulary file that you trust")
def test_a_configuration_without_its_vocabulary(preprocessor, vocabulary, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    with refused():
        kbl.BertPreprocessor.from_config(preprocessor.get_config() | {"vocabulary": str(tmp_path / "vocab.txt")})
    assert rows(kbl.BertPreprocessor(tmp_path / "vocab.txt", sequence_length=12)(["why"])) == rows(
        preprocessor(["why"])
    )


@advice("Give it another name; its id and its row of the embeddings stay.")
@pytest.mark.parametrize("name", ["##ab", "\U000f0001"])
def test_an_added_token_of_a_bad_name(vocabulary, name):
    with refused():
        kbl.BertTokenizer(vocabulary, added_tokens=[name])
    tokenizer = kbl.BertTokenizer(vocabulary, added_tokens=["[new]"])
    assert tokenizer.tokenize(["[new]"]).to_list() == [[len(vocabulary)]]


@advice("Use normalized=False, or take the white space away.", "Use normalized=False.")
def test_normalised_added_tokens(vocabulary):
    for content in (" new ", "\u0301"):
        with refused():
            kbl.BertTokenizer(vocabulary, added_tokens=[{"content": content, "normalized": True}])
        kbl.BertTokenizer(vocabulary, added_tokens=[{"content": content, "normalized": False}])
    assert kbl.BertTokenizer(vocabulary, added_tokens=["new"]).tokenize(["new"]).to_list() == [[len(vocabulary)]]


@advice("Put it into a list.", "To find the model's own in texts use special_tokens_in_text=True", "Add fewer.")
def test_lists_of_added_tokens(vocabulary):
    with refused():
        kbl.BertTokenizer(vocabulary, added_tokens="new")
    kbl.BertTokenizer(vocabulary, added_tokens=["new"])
    with refused():
        kbl.BertTokenizer(vocabulary, added_tokens=["[SEP]"])
    tokenizer = kbl.BertTokenizer(vocabulary, special_tokens_in_text=True)
    assert tokenizer.tokenize(["[SEP]"]).to_list() == [[vocabulary.index("[SEP]")]]
    long = [f"{number:0250}" for number in range(801)]
    with refused():
        kbl.BertTokenizer(vocabulary, added_tokens=long)
    kbl.BertTokenizer(vocabulary, added_tokens=long[:2])


@advice(
    "Give lists of words as a RaggedTensor, and pick one column of a matrix of texts.",
    "is the id of words that it lacks",
)
def test_the_tokenizer_by_itself(vocabulary):
    tokenizer = kbl.BertTokenizer(vocabulary)
    matrix = tf.constant([["a", "good"], ["why", "how"]])
    with refused():
        tokenizer.tokenize(matrix)
    assert tokenizer.tokenize(matrix[:, 1]).to_list() == tokenizer.tokenize(["good", "how"]).to_list()
    words = tokenizer.tokenize(tf.RaggedTensor.from_tensor(matrix)).to_list()
    assert words[1][0] == [vocabulary.index("why")]
    with refused():
        tokenizer.token_to_id("nothing")
    assert tokenizer.tokenize(["é中"]).to_list()[0][-1] == tokenizer.unk_token_id


@advice(
    "Make one: tf.data.Dataset.from_tensor_slices((texts, labels)).batch(256).map(...) with a preprocessor.",
    "Give lengths, as (32, 64, 128, 256).",
)
def test_buckets(preprocessor, vocabulary):
    texts, labels = ["a good film", "why"] * 4, [0, 1] * 4
    with refused():
        kbl.bucket_by_length((texts, labels), 64)
    dataset = tf.data.Dataset.from_tensor_slices((texts, labels)).batch(256)
    buckets = kbl.bucket_by_length(dataset.map(lambda text, label: (preprocessor(text), label)), 64)
    assert sum(len(label) for _, label in buckets) == 8
    longest = kbl.BertPreprocessor(vocabulary, sequence_length=256, padding="longest")
    dataset = dataset.map(lambda text, label: (longest(text), label))
    with refused():
        kbl.bucket_by_length(dataset, 512)
    assert sum(len(label) for _, label in kbl.bucket_by_length(dataset, 512, lengths=(32, 64, 128, 256))) == 8


@pytest.mark.slow
@advice("Give the preprocessing model that belongs to the encoder, not the encoder.")
def test_an_encoder_as_preprocessor(encoder_factory, preprocessor, tmp_path):
    with refused():
        kbl.TFHubPreprocessor(encoder_factory.tfhub_directory)
    preprocessor.export(tmp_path / "preprocessor")
    assert kbl.TFHubPreprocessor(tmp_path / "preprocessor")(["a"])["input_word_ids"].shape == (1, 128)


@advice("Give `BertTokenizer` the vocabulary file and `lowercase=`.")
def test_a_hub_encoder_that_does_not_say_its_case(vocabulary, tmp_path):
    directory = make_tfhub_encoder(tmp_path / "hub", vocabulary, num_layers=1)
    shutil.copy(directory / "assets" / "vocab.txt", directory / "assets" / "other_vocab.txt")
    with refused():
        kbl.BertPreprocessor.from_pretrained(directory)
    assert kbl.BertTokenizer(directory / "assets" / "vocab.txt", lowercase=True).tokenize(["Why"]).to_list() == [
        [vocabulary.index("why")]
    ]
    loaded = tf.saved_model.load(directory)
    del loaded.do_lower_case
    with refused():
        kbl.BertPreprocessor.from_pretrained(loaded)


@advice("For a checkpoint's directory or repository id use `from_pretrained`.")
def test_a_directory_as_vocabulary(tokenizer_directory):
    with refused():
        kbl.BertTokenizer("google-bert/none-here")
    with refused():
        kbl.BertTokenizer(tokenizer_directory)
    kbl.BertTokenizer.from_pretrained(tokenizer_directory)


@advice('If they have other names, say them: special_tokens={"cls_token": "<s>"}, or a special_tokens_map.json')
def test_special_tokens_of_other_names(vocabulary, tmp_path):
    renamed = ["<s>" if token == "[CLS]" else token for token in vocabulary]
    (tmp_path / "vocab.txt").write_text("\n".join(renamed))
    with refused():
        kbl.BertPreprocessor(renamed)
    with refused():
        kbl.BertPreprocessor.from_pretrained(tmp_path)
    expected = kbl.BertPreprocessor(vocabulary)(["why"])
    assert rows(kbl.BertPreprocessor(renamed, special_tokens={"cls_token": "<s>"})(["why"])) == rows(expected)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"cls_token": "<s>"}))
    assert rows(kbl.BertPreprocessor.from_pretrained(tmp_path, sequence_length=128)(["why"])) == rows(expected)


@advice("Take the vocabulary that belongs to the weights.")
def test_a_vocabulary_without_end(vocabulary):
    with refused():
        kbl.BertTokenizer([*vocabulary, *map(str, range(2_000_000))])
    kbl.BertTokenizer(vocabulary)


FILES = {
    "Copy or download the file again.": [
        ("config.json", {"vocab_size": "many"}),
        ("config.json", {"max_position_embeddings": "many"}),
        ("tokenizer_config.json", {"tokenizer_class": 5}),
        ("added_tokens.json", {"[E11]": "x"}),
    ],
    "Take all files from one checkpoint.": [
        ("added_tokens.json", {"[E11]": 3}),
        ("added_tokens.json", {"[E12]": 3000}),
    ],
    "Take both files from one checkpoint": [
        ("special_tokens_map.json", {"cls_token": "[SEP]"}),
    ],
}


@advice(*FILES)
def test_tokenizer_files(tokenizer_directory):
    """The files of one checkpoint, whole, are what helps."""
    for part, changes in FILES.items():
        for file, values in changes:
            original = (tokenizer_directory / file).read_text("utf-8")
            edit(tokenizer_directory / file, **values)
            with refused(part):
                kbl.BertPreprocessor.from_pretrained(tokenizer_directory, sequence_length=8)
            (tokenizer_directory / file).write_text(original, "utf-8")
    with welcome():
        kbl.BertPreprocessor.from_pretrained(tokenizer_directory, sequence_length=8)


@advice("Put the vocab.txt of the checkpoint beside it.")
def test_a_tokenizer_json_with_gaps(tokenizer_directory, tmp_path):
    fast = tokenizer_directory / "tokenizer.json"
    content = json.loads(fast.read_text("utf-8"))
    # As where a token of the vocabulary was declared an added token later.
    number = content["model"]["vocab"].pop("film")
    content["added_tokens"].append(content["added_tokens"][0] | {"id": number, "content": "film", "special": False})
    fast.write_text(json.dumps(content))
    shutil.move(tokenizer_directory / "vocab.txt", tmp_path / "vocab.txt")
    with refused():
        kbl.BertPreprocessor.from_pretrained(tokenizer_directory, sequence_length=8)
    shutil.move(tmp_path / "vocab.txt", tokenizer_directory / "vocab.txt")
    kbl.BertPreprocessor.from_pretrained(tokenizer_directory, sequence_length=8)


@advice("Add them to its added_tokens.json, each with its id.")
def test_an_added_token_without_id(vocabulary, tmp_path):
    # A line that stands there twice: transformers counts it once.
    (tmp_path / "vocab.txt").write_text("\n".join([*vocabulary, "why"]))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["[E11]"]}))
    with refused():
        kbl.BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[E11]": len(vocabulary) + 1}))
    tokenizer = kbl.BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize(["[E11]"]).to_list() == [[len(vocabulary) + 1]]


@advice("Tokenise with transformers, and give the encoder the ids.")
def test_another_tokenizer(tokenizer_directory, encoder):
    edit(tokenizer_directory / "tokenizer_config.json", tokenizer_class="RobertaTokenizer")
    with refused():
        kbl.BertPreprocessor.from_pretrained(tokenizer_directory, sequence_length=8)
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_directory / "tokenizer.json"), pad_token="[PAD]"
    )
    ids = tokenizer(["a good film", "why"], padding=True, return_tensors="np")
    assert encoder(dict(ids))["encoder_outputs"].shape[:2] == ids["input_ids"].shape


@advice("Give it to TFHubPreprocessor, and here the encoder that it belongs to.")
def test_a_preprocessing_model_as_an_encoder(encoder_factory, vocabulary, tmp_path):
    directory = make_tfhub_preprocessor(tmp_path / "preprocessor", vocabulary)
    with refused():
        kbl.TFHubEncoder(directory)
    ids = kbl.TFHubPreprocessor(directory, sequence_length=8)(["a good film"])
    assert kbl.TFHubEncoder(encoder_factory.tfhub_directory)(ids)["mask"].shape == (1, 8)


@advice("Give -100 to a word without a label.")
def test_words_without_a_label():
    word_ids = np.array([[-1, 0, 1, -1]])
    with refused():
        kbl.align_labels([[1, None]], word_ids)
    labels, weights = kbl.align_labels([[1, -100]], word_ids)
    assert weights.numpy()[0, :2].tolist() == [1, 0]
    assert labels.numpy()[0, 0] == 1
