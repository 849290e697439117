"""bucket_by_length: every row once, within the budget, in few shapes, as it came."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.text.align_labels import align_labels
from keras_bert_layers.text.bucket_by_length import bucket_by_length

SEQUENCE = 64


def make_rows(count: int = 700, sequence: int = SEQUENCE, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows as the preprocessor makes them. Each begins with its number, and its label is its number too."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(random.geometric(0.06, count) + 1, sequence)
    lengths[:4] = [2, sequence, sequence // 8, sequence // 8 + 1]
    mask = np.arange(sequence) < lengths[:, None]
    ids = np.where(mask, random.integers(1, 1000, mask.shape), 0)
    numbers = np.arange(count)
    ids[:, 0] = numbers
    names = {
        "input_word_ids": ids,
        "input_mask": mask,
        "input_type_ids": mask & (np.arange(sequence) > 5),
        "word_ids": np.where(mask, np.arange(sequence) // 2, -1),
        "special_tokens_mask": ~mask,
        "offsets": np.where(mask[:, :, None], np.arange(sequence)[:, None] + [0, 1], 0),
    }
    return {name: value.astype("int32") for name, value in names.items()}, numbers.astype("int32")


def make_dataset(*components, batch: int = 50) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(components if len(components) > 1 else components[0]).batch(batch)


def row_lengths(ids: dict[str, np.ndarray]) -> np.ndarray:
    return ids["input_mask"].sum(axis=1)


def shapes_of(dataset: tf.data.Dataset) -> collections.Counter:
    return collections.Counter(tuple(ids["input_word_ids"].shape) for ids, *_ in dataset)


@pytest.mark.parametrize(("tokens_per_batch", "lengths"), [(512, None), (1000, None), (64, [9, 64]), (300, [64])])
def test_every_row_once_within_the_budget_in_few_shapes(tokens_per_batch: int, lengths: list[int] | None):
    rows, numbers = make_rows()
    dataset = bucket_by_length(make_dataset(rows, numbers), tokens_per_batch, lengths)
    allowed = [8, 16, 32, 64] if lengths is None else lengths
    seen, shapes = [], set()
    for ids, labels in dataset:
        batch, length = ids["input_word_ids"].shape
        shapes.add((batch, length))
        assert length in allowed
        assert batch * length <= tokens_per_batch
        np.testing.assert_array_equal(ids["input_word_ids"][:, 0], labels)
        seen += labels.numpy().tolist()
        # The shortest length that holds the row, and nothing of it lost or changed.
        own_lengths = row_lengths(rows)[labels]
        shorter = max((other for other in allowed if other < length), default=0)
        assert np.all((own_lengths <= length) & (own_lengths > shorter))
        assert set(ids) == set(rows)
        for name, value in ids.items():
            assert value.dtype == tf.int32
            np.testing.assert_array_equal(value, rows[name][labels][:, :length], err_msg=name)
    assert sorted(seen) == list(range(len(numbers)))
    assert len(shapes) <= 2 * len(allowed) <= 8
    full = {(tokens_per_batch // length, length) for length in allowed}
    # But for the rest at the end of each, batches are as large as the budget allows.
    assert sum(shape not in full for shape in shapes_of(dataset).elements()) <= len(allowed)


def test_shapes_stay_the_same_when_rows_are_shuffled_anew():
    rows, numbers = make_rows()
    dataset = tf.data.Dataset.from_tensor_slices((rows, numbers)).shuffle(1000, seed=1).batch(50)
    dataset = bucket_by_length(dataset, 500)
    assert shapes_of(dataset) == shapes_of(dataset)
    assert next(iter(dataset))[1].numpy().tolist() != next(iter(dataset))[1].numpy().tolist()


def test_drop_remainder_gives_one_shape_for_each_length():
    rows, numbers = make_rows()
    lengths = [8, 16, 24, 32, 40, 48, 56, 64]
    dataset = bucket_by_length(make_dataset(rows, numbers), 256, lengths, drop_remainder=True)
    assert set(shapes_of(dataset)) <= {(256 // length, length) for length in lengths}
    labels = [label for _, batch in dataset for label in batch.numpy().tolist()]
    assert len(labels) == len(set(labels))
    assert len(numbers) - len(labels) == sum(
        (np.digitize(row_lengths(rows), lengths, right=True) == bucket).sum() % (256 // length)
        for bucket, length in enumerate(lengths)
    )


def test_labels_of_tokens_are_cut_too_and_others_are_not():
    rows, numbers = make_rows(200)
    labels, weights = (value.numpy() for value in align_labels(np.arange(64)[None].repeat(200, 0), rows["word_ids"]))
    for ids, cut_labels, cut_weights in bucket_by_length(make_dataset(rows, labels, weights), 512, token_labels=True):
        places, length = ids["input_word_ids"][:, 0].numpy(), ids["input_word_ids"].shape[1]
        np.testing.assert_array_equal(cut_labels, labels[places, :length])
        np.testing.assert_array_equal(cut_weights, weights[places, :length])
        assert not weights[places, length:].any()
    # One of 64 classes each, as many as tokens, and a weight for each row.
    one_hot = np.eye(200, 64, dtype="float32")
    weights = numbers.astype("float32")
    for ids, whole_labels, row_weights in bucket_by_length(make_dataset(rows, one_hot, weights), 512):
        places = ids["input_word_ids"][:, 0].numpy()
        np.testing.assert_array_equal(whole_labels, one_hot[places])
        np.testing.assert_array_equal(row_weights, places)


def test_dicts_alone_other_entries_and_labels_in_a_dict():
    rows, numbers = make_rows(100)
    (only_ids,) = {type(element) for element in bucket_by_length(make_dataset(rows), 512)}
    assert only_ids is dict
    rows["age"] = numbers
    rows["features"] = np.tile(numbers[:, None], (1, SEQUENCE))
    heads = {"tags": rows["word_ids"], "topic": numbers}
    with pytest.raises(ValueError, match="labels and weights"):
        bucket_by_length(make_dataset(rows, heads), 512, token_labels=True)
    for ids, labels in bucket_by_length(make_dataset(rows, heads), 512):
        np.testing.assert_array_equal(ids["age"], labels["topic"])
        np.testing.assert_array_equal(ids["features"], rows["features"][labels["topic"]])
        np.testing.assert_array_equal(labels["tags"], heads["tags"][labels["topic"]])


def test_names_of_hugging_face_and_a_mask_of_bools():
    rows, numbers = make_rows(100)
    renamed = {"input_ids": rows["input_word_ids"], "attention_mask": rows["input_mask"].astype(bool)}
    labels = []
    for ids, batch in bucket_by_length(make_dataset(renamed, numbers), 512):
        assert ids["attention_mask"].dtype == tf.bool
        np.testing.assert_array_equal(ids["input_ids"], renamed["input_ids"][batch][:, : ids["input_ids"].shape[1]])
        labels += batch.numpy().tolist()
    assert sorted(labels) == list(range(100))


def test_batches_of_different_lengths_are_padded():
    rows, numbers = make_rows(300)
    order = np.argsort(row_lengths(rows), kind="stable")

    def batches():
        for places in np.array_split(order, 10):
            longest = row_lengths(rows)[places].max()
            yield {name: value[places, :longest] for name, value in rows.items()}, numbers[places]

    spec = {name: tf.TensorSpec([None, None, *value.shape[2:]], "int32") for name, value in rows.items()}
    dataset = tf.data.Dataset.from_generator(batches, output_signature=(spec, tf.TensorSpec([None], "int32")))
    seen = []
    for ids, labels in bucket_by_length(dataset, 512, [16, 64]):
        length = ids["input_word_ids"].shape[1]
        assert length in (16, 64)
        for name, value in ids.items():
            np.testing.assert_array_equal(value, rows[name][labels][:, :length], err_msg=name)
        seen += labels.numpy().tolist()
    assert sorted(seen) == list(range(300))
    with pytest.raises(ValueError, match="Received: lengths=None, and a mask of shape"):
        bucket_by_length(dataset, 512)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no row of more than 32 tokens"):
        list(bucket_by_length(dataset, 512, [16, 32]))


def test_rows_without_any_token_and_gaps_in_the_mask():
    mask = np.zeros((3, 16), "int32")
    mask[1, [0, 7]] = 1
    mask[2, [0, 8]] = 1
    dataset = make_dataset({"input_word_ids": mask, "input_mask": mask}, np.arange(3))
    batches = {ids["input_mask"].shape[1]: labels.numpy().tolist() for ids, labels in bucket_by_length(dataset, 64)}
    assert batches == {8: [0, 1], 16: [2]}


@pytest.mark.parametrize(
    ("sequence", "lengths"), [(128, {16, 32, 64, 128}), (512, {64, 128, 256, 512}), (50, {8, 16, 32, 50}), (3, {3})]
)
def test_lengths_by_default(sequence: int, lengths: set[int]):
    rows, numbers = make_rows(100, sequence)
    mask = np.arange(sequence) < np.linspace(1, sequence, 100)[:, None]
    dataset = make_dataset({**rows, "input_mask": mask.astype("int32")}, numbers)
    assert {length for _, length in shapes_of(bucket_by_length(dataset, 1024))} == lengths


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_it_trains_from_texts_with_xla(vocabulary: list[str]):
    """The preprocessor in `dataset.map`, buckets, and a model that XLA compiles."""
    texts = ["good film", "the book was very dull and the plot was bad ! why ? why ?", "bright"] * 20
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16)
    dataset = tf.data.Dataset.from_tensor_slices((texts, [1, 0, 1] * 20)).shuffle(60, seed=0).batch(16)
    dataset = dataset.map(lambda text, label: (preprocessor(text), label))
    dataset = bucket_by_length(dataset, 64, [8, 16]).prefetch(2)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in dataset.element_spec[0]}
    states = keras.layers.Embedding(len(vocabulary), 16)(inputs["input_word_ids"])
    sentence = kbl.SequencePooling("mean")(states, mask=inputs["input_mask"])
    model = keras.Model(inputs, keras.layers.Dense(2)(sentence))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"], jit_compile=True)
    model.fit(dataset, epochs=5, verbose=0)
    assert model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"] == 1.0


def test_errors_say_what_was_given():
    rows, numbers = make_rows(8)
    dataset = make_dataset(rows, numbers)
    with pytest.raises(ValueError, match="Received: tokens_per_batch=63 with rows of up to 64 tokens"):
        bucket_by_length(dataset, 63)
    for tokens in ("640", 640.5, None):
        with pytest.raises(ValueError, match="to be an int that holds one row at least. Received: tokens_per_batch="):
            bucket_by_length(dataset, tokens)
    for wrong in (None, [rows], rows):
        with pytest.raises(TypeError, match=r"a tf.data.Dataset of batches. Received: dataset of type"):
            bucket_by_length(wrong, 640)
    for flag in ("token_labels", "drop_remainder"):
        with pytest.raises(TypeError, match=f"`{flag}` to be True or False. Received: {flag}='no'"):
            bucket_by_length(dataset, 640, **{flag: "no"})
    for lengths in (64, "64", [16.5, 64], ["a", 64], [], [16, 16, 64], [32, 16, 64], [0, 64], [8, 16, 24, 32, 64]):
        with pytest.raises(ValueError, match="Received: lengths="):
            bucket_by_length(dataset, 640, lengths)
    with pytest.raises(ValueError, match="1 to 8 positive numbers"):
        bucket_by_length(dataset, 640, range(8, 80, 8), drop_remainder=True)
    with pytest.raises(ValueError, match=r"the rows of the dataset, 64 tokens. Received: lengths=\[16, 32\]"):
        bucket_by_length(dataset, 640, [16, 32])
    with pytest.raises(ValueError, match=r"labels and weights \[batch, 64\]"):
        bucket_by_length(dataset, 640, token_labels=True)
    with pytest.raises(ValueError, match=r"labels and weights \[batch, 64\]"):
        bucket_by_length(make_dataset(rows, np.zeros((8, 5))), 640, token_labels=True)
    texts = tf.data.Dataset.from_tensors((["a text"], [0]))
    for wrong in (texts, dataset.unbatch(), dataset.map(lambda ids, label: (label, ids))):
        with pytest.raises(TypeError, match="whose first element is a dict with one of"):
            bucket_by_length(wrong, 640)
