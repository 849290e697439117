"""WordPooling against a NumPy loop over Hugging Face's `word_ids()`, in every place where it works."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.layers.layer_combination import COMBINE_MODES
from keras_bert_layers.layers.word_pooling import WORD_POOLING_MODES, WordPooling
from keras_bert_layers.text.align_labels import align_labels
from tests.layer_test_case import LayerCase, run_config_test, run_layer_test, run_precision_test, run_xla_test
from tests.native.saved_model_runner import SavedModelRunner
from tests.word_reference import encode, load_tokenizer, read_wnut17

# The first row has no special tokens. The second: word 1 has no piece, the last is cut. The third: no word.
WORD_IDS = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [-1, 0, 2, 3, 3, 4, 4, -1],
        [-1, -1, -1, -1, -1, -1, -1, -1],
        [-1, 0, 0, 0, 1, 2, -1, -1],
    ],
    "int32",
)


def pool_by_loop(mode: str, states: np.ndarray, word_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One word after the other. `states` is `[batch, sequence, hidden]` or `[batch, K, sequence, hidden]`."""
    pooled = np.zeros(states.shape, "float32")
    mask = np.zeros(word_ids.shape, "bool")
    for row, ids in enumerate(word_ids):
        for word in set(ids.tolist()) - {-1}:
            pieces = states[row][..., np.flatnonzero(ids == word), :]
            mask[row, word] = True
            pooled[row, ..., word, :] = {
                "first": lambda pieces: pieces[..., 0, :],
                "last": lambda pieces: pieces[..., -1, :],
                "mean": lambda pieces: pieces.mean(axis=-2),
                "max": lambda pieces: pieces.max(axis=-2),
            }[mode](pieces)
    return pooled, mask


def random_states(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def word_case(mode: str, states=None) -> LayerCase:
    states = random_states(4, 8, 6) if states is None else states
    return LayerCase(WordPooling, {"mode": mode}, states, {"word_ids": WORD_IDS})


# For tests/layers/test_keras_files.py.
SAVED = {
    **{mode: word_case(mode) for mode in WORD_POOLING_MODES},
    "list": word_case("mean", [random_states(4, 8, 6)] * 2),
}


@pytest.mark.parametrize("mode", WORD_POOLING_MODES)
@pytest.mark.parametrize("form", ["tensor", "stack", "list"])
def test_the_four_modes_equal_a_loop(mode: str, form: str):
    states = random_states(4, 3, 8, 6)
    pooled, mask = pool_by_loop(mode, states, WORD_IDS)
    if form == "stack":
        inputs, expected = states, pooled
    elif form == "list":
        inputs, expected = [states[:, k] for k in range(3)], [pooled[:, k] for k in range(3)]
    else:
        inputs, expected = states[:, 0], pooled[:, 0]
    outputs = {"word_outputs": expected, "word_mask": mask}
    run_layer_test(word_case(mode, inputs), outputs, num_weights=0, xla=False, atol=1e-6)


def test_under_xla():
    states = random_states(4, 3, 8, 6)
    forms = (states[:, 0], states, [states[:, k] for k in range(3)])
    run_xla_test([word_case(mode, form) for mode in WORD_POOLING_MODES for form in forms], atol=1e-6)


def test_config_and_precision():
    run_config_test(word_case("mean"), {"mode": "max"}, inherited=("name", "dtype"))
    for mode in WORD_POOLING_MODES:
        run_precision_test(word_case(mode))


def test_half_precision_computes_in_float32_and_casts_at_the_end():
    layer = WordPooling("mean", dtype="mixed_float16")
    # float16 has only even numbers there: it would make 2048, 2048 and 2050 of these, and 2048 of their mean.
    outputs = layer(np.array([[[2049.0], [2049.0], [2050.0]]], "float32"), [[0, 0, 0]])["word_outputs"]
    assert outputs.dtype == tf.float16
    assert outputs[0, 0, 0] == 2050
    # The sum of these is past the largest float16.
    outputs = layer(np.full((1, 3, 1), 40000, "float16"), [[0, 0, 0]])["word_outputs"]
    assert outputs[0, 0, 0] == 40000


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_reach_the_pieces_that_were_pooled_and_no_others(jit_compile: bool):
    states = random_states(4, 2, 8, 3)
    upstream = random_states(4, 2, 8, 3)[..., ::-1].copy()
    for mode in WORD_POOLING_MODES:
        layer = WordPooling(mode)

        def gradient(values, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(values)
                loss = tf.reduce_sum(layer(values, WORD_IDS)["word_outputs"] * upstream)
            return tape.gradient(loss, values)

        actual = tf.function(gradient, jit_compile=jit_compile)(tf.constant(states))
        # Each pooling is linear around `states`: the loss's slope is what a step along one coordinate changes.
        expected = np.zeros_like(states)
        step = 1e-3
        for place in np.ndindex(states.shape):
            moved = states.copy()
            moved[place] += step
            row = slice(place[0], place[0] + 1)
            change = (
                pool_by_loop(mode, moved[row], WORD_IDS[row])[0] - pool_by_loop(mode, states[row], WORD_IDS[row])[0]
            )
            expected[place] = (change * upstream[row]).sum() / step
        np.testing.assert_allclose(actual, expected, atol=5e-3, err_msg=mode)


def test_what_stands_at_padding_never_counts():
    states = random_states(4, 8, 6)
    for bad in (np.nan, np.inf):
        spoilt = np.where((WORD_IDS < 0)[:, :, None], np.float32(bad), states)
        for mode in WORD_POOLING_MODES:
            layer = WordPooling(mode)
            with tf.GradientTape() as tape:
                values = tf.constant(spoilt)
                tape.watch(values)
                outputs = layer(values, WORD_IDS)["word_outputs"]
            np.testing.assert_array_equal(outputs, layer(states, WORD_IDS)["word_outputs"])
            assert np.all(np.isfinite(tape.gradient(outputs, values)))


def test_words_past_the_sequence_length_are_left_out():
    # Ten words of which nothing is left, and one that is.
    outputs = WordPooling("mean")(random_states(1, 4, 2), [[-1, 0, 10, -1]])
    assert outputs["word_mask"].numpy().tolist() == [[True, False, False, False]]


def test_a_number_beyond_int32_is_past_the_sequence_too():
    word_ids = np.array([[0, 2**32, 2**32 + 1, -1]])
    outputs = WordPooling("mean")(np.ones((1, 4, 3), "float32"), word_ids)
    np.testing.assert_array_equal(outputs["word_mask"], [[True, False, False, False]])


def test_the_word_mask_goes_on_to_later_layers():
    states, word_ids = keras.Input((None, 6)), keras.Input((None,), dtype="int32")
    words = WordPooling("first")(states, word_ids)["word_outputs"]
    sentence = kbl.SequencePooling("mean")(keras.layers.Dense(6, kernel_initializer="identity")(words))
    values = random_states(4, 8, 6)
    pooled, mask = pool_by_loop("first", values, WORD_IDS)
    expected = pooled.sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(keras.Model([states, word_ids], sentence)([values, WORD_IDS]), expected, atol=1e-6)


def test_a_tagger_trains_and_counts_the_words_that_are_there():
    token_ids = np.arange(WORD_IDS.size, dtype="int32").reshape(WORD_IDS.shape)
    labels = [[0, 1, 2, 3, 0, 1, 2, 3], [3, 1, 1, 2, 0, 3], [], [1, 2, 0]]
    dense, weights = align_labels(labels, WORD_IDS)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "word_ids")}
    states = keras.layers.Embedding(WORD_IDS.size, 16)(inputs["token_ids"])
    scores = keras.layers.Dense(4)(WordPooling("mean")(states, inputs["word_ids"])["word_outputs"])
    model = keras.Model(inputs, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"], jit_compile=True)
    rows = ({"token_ids": token_ids, "word_ids": WORD_IDS}, dense)
    without_weights, with_weights = (tf.data.Dataset.from_tensors(row) for row in (rows, (*rows, weights)))

    logits = np.asarray(model(rows[0]), "float64")
    there = [(row, word) for row, word in zip(*np.nonzero(pool_by_loop("first", logits, WORD_IDS)[1]), strict=True)]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = np.mean([-np.log(probabilities[row, word, labels[row][word]]) for row, word in there])
    right = np.mean([logits[row, word].argmax() == labels[row][word] for row, word in there])
    for dataset in (without_weights, with_weights):
        measured = model.evaluate(dataset, verbose=0, return_dict=True)
        assert measured["loss"] == pytest.approx(expected, abs=1e-5)
        assert measured["accuracy"] == pytest.approx(right, abs=1e-6)

    model.fit(with_weights, epochs=30, verbose=0)
    assert model.evaluate(with_weights, verbose=0, return_dict=True)["accuracy"] == 1.0


@pytest.fixture(scope="module")
def encoded(vocabulary: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    pytest.importorskip("transformers")
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    words = ["the film was brilliantly made !".split(), ["why", "", "not"], ["bright"] * 9, ["\u0301"]]
    return encode(load_tokenizer(file), words, 16)


@pytest.fixture(scope="module")
def config(vocabulary: list[str]) -> kbl.BertConfig:
    return kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64
    )


@pytest.mark.parametrize("combine", [None, *COMBINE_MODES])
def test_every_combine_mode(config: kbl.BertConfig, encoded: dict[str, np.ndarray], combine: str | None):
    features = kbl.BertEncoder(config, layers="last2", combine=combine)(encoded)["encoder_outputs"]
    words = WordPooling("mean")(features, encoded["word_ids"])["word_outputs"]
    assert isinstance(words, list) == (combine is None)
    for states, outputs in zip(keras.tree.flatten(features), keras.tree.flatten(words), strict=True):
        expected, _ = pool_by_loop("mean", states.numpy(), encoded["word_ids"])
        np.testing.assert_allclose(outputs, expected, atol=1e-5, rtol=0)


def make_model(config: kbl.BertConfig) -> keras.Model:
    """Its outputs are the token states and all poolings of them, in three forms."""
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name) for name in ("input_word_ids", "input_mask", "word_ids")
    }
    states = kbl.BertEncoder(config, layers="last2")(inputs)["encoder_outputs"]
    stack = kbl.LayerCombination("stack")(states)
    outputs: dict = {"tokens": stack}
    for mode in WORD_POOLING_MODES:
        pooling = WordPooling(mode)
        outputs[mode] = {
            "list": pooling(states, inputs["word_ids"]),
            "stack": pooling(stack, inputs["word_ids"]),
            "tensor": pooling(states[1], inputs["word_ids"]),
        }
    return keras.Model(inputs, outputs)


def run_by_keras(model: keras.Model, ids: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"_".join(map(str, path)): value.numpy() for path, value in keras.tree.flatten_with_path(model(ids))}


def assert_poolings_equal_the_loop(outputs: dict[str, np.ndarray], word_ids: np.ndarray) -> None:
    for mode in WORD_POOLING_MODES:
        expected, mask = pool_by_loop(mode, outputs["tokens"], word_ids)
        for form in ("list", "stack", "tensor"):
            np.testing.assert_array_equal(outputs[f"{mode}_{form}_word_mask"], mask)
        pooled = {
            "stack_word_outputs": expected,
            "tensor_word_outputs": expected[:, 1],
            "list_word_outputs_0": expected[:, 0],
            "list_word_outputs_1": expected[:, 1],
        }
        for name, value in pooled.items():
            np.testing.assert_allclose(outputs[f"{mode}_{name}"], value, atol=1e-5, rtol=0)


def test_an_export_gives_the_same_from_c(
    config: kbl.BertConfig,
    encoded: dict[str, np.ndarray],
    tmp_path: pathlib.Path,
    saved_model_runner: SavedModelRunner,
):
    model = make_model(config)
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    other = {name: value[1:2, :7] for name, value in encoded.items()}
    for batch, outputs in zip(
        (encoded, other), saved_model_runner.run_batches(tmp_path / "1", [encoded, other]), strict=True
    ):
        assert_poolings_equal_the_loop(outputs, batch["word_ids"])
        by_keras = run_by_keras(model, batch)
        assert set(outputs) == set(by_keras)
        for name, value in by_keras.items():
            np.testing.assert_allclose(outputs[name], value, atol=1e-5, rtol=0, err_msg=name)


def test_text_to_words_in_one_export(
    config: kbl.BertConfig, vocabulary: list[str], tmp_path: pathlib.Path, saved_model_runner: SavedModelRunner
):
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16, return_word_ids=True)
    text = keras.Input((), dtype="string", name="text")
    ids = preprocessor(text)
    states = kbl.BertEncoder(config, combine="mean")(ids)["encoder_outputs"]
    model = keras.Model(text, WordPooling("max")(states, ids["word_ids"]))
    kbl.export_saved_model(model, tmp_path / "1", check=False)
    texts = ["the film was dully made!", "", "why not?"]
    outputs = saved_model_runner.run(tmp_path / "1", {"text": texts})
    assert outputs["word_mask"].sum(axis=1).tolist() == [6, 0, 3]
    np.testing.assert_allclose(outputs["word_outputs"], model(tf.constant(texts))["word_outputs"], atol=1e-5)


def test_wnut17_as_words_and_as_text(data_directory: pathlib.Path):
    pytest.importorskip("transformers")
    file = data_directory / "vocabularies" / "bert-base-cased.vocab.txt"
    tokenizer = load_tokenizer(file, lowercase=False)
    sentences, _ = read_wnut17(data_directory, 1000)
    assert len(sentences) == 1000
    batches = [encode(tokenizer, texts, 40) for texts in (sentences, [" ".join(words) for words in sentences])]
    assert batches[0]["word_ids"].max() < batches[1]["word_ids"].max()
    config = kbl.BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    model = make_model(config)
    for ids in batches:
        assert_poolings_equal_the_loop(run_by_keras(model, ids), ids["word_ids"])


@pytest.mark.parametrize(
    ("states", "word_ids", "message"),
    [
        (np.zeros((2, 5, 4)), np.zeros((2, 5)), "word_ids of dtype float"),
        (np.zeros((2, 5, 4)), np.zeros((2, 5, 1), "int32"), r"shape \(2, 5, 1\)"),
        (np.zeros((2, 5, 4)), np.zeros((2, 4), "int32"), r"shape \(2, 5, 4\), word ids of shape \(2, 4\)"),
        (np.zeros((2, 4)), np.zeros((2, 4), "int32"), r"Received: inputs of shape \(2, 4\)"),
        ([np.zeros((2, 3, 5, 4))], np.zeros((2, 5), "int32"), r"Received: inputs of shape \[\(2, 3, 5, 4\)\]"),
        ([], np.zeros((2, 5), "int32"), r"Received: inputs=\[\]"),
        ({"encoder_outputs": np.zeros((2, 5, 4))}, np.zeros((2, 5), "int32"), "features\\['encoder_outputs'\\]"),
    ],
)
def test_errors_say_what_was_given(states, word_ids, message: str):
    with pytest.raises(ValueError, match=message):
        WordPooling("mean")(states, word_ids)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="Received: mode='middle'"):
        WordPooling("middle")
