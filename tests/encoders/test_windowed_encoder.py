"""`WindowedEncoder` against a NumPy stitching of the same windows, each run alone through the wrapped encoder."""

import inspect
import warnings
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import (
    BertConfig,
    BertEncoder,
    BertPreprocessor,
    HuggingFaceEncoder,
    LayerCombination,
    TFHubEncoder,
    export_saved_model,
)
from keras_bert_layers.encoders.windowed_encoder import WindowedEncoder

from .tiny_encoders import (
    HUGGINGFACE_NAMES,
    KINDS,
    SIZES,
    TFHUB_NAMES,
    as_graph,
    assert_same,
    make_ids,
    make_tf_model,
    quantize,
    randomize,
    renamed,
    tensors,
    write_tfhub_encoder,
)
from .toy_encoder import ToyEncoder

POSITIONS = 128
# 2,000 word pieces in the first document; none, parts of one and just more than one window in the others.
LENGTHS = (2002, 0, 3, 128, 129, 300)
SEQUENCE = 2010
LONG = {"window": 128, "stride": 32, "max_windows": 32}
# Small windows for what does not depend on their size.
SMALL = {"window": 12, "stride": 4, "max_windows": 40}
SMALL_LENGTHS = (40, 0, 12, 13, 1, 5, 27)
MERGES = ("max_context", "mean", None)
ONE_LAYER = {**SIZES, "num_hidden_layers": 1}


def bert(positions=POSITIONS, seed=0, sizes=SIZES, **arguments):
    encoder = BertEncoder(BertConfig(**{**sizes, "max_position_embeddings": positions}), **arguments)
    encoder.build()
    randomize([weight for layer in encoder.pretrained_layers for weight in layer.weights], seed)
    return encoder


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes encoders with 128 positions: `make(kind, layers=..., combine=...)`. Those of one kind share weights."""
    wrapped = {}

    def make_encoder(kind, **arguments):
        if kind == "bert":
            return bert(**arguments)
        if kind not in wrapped:
            if kind == "huggingface":
                wrapped[kind] = make_tf_model(max_position_embeddings=POSITIONS)
            else:
                directory = write_tfhub_encoder(tmp_path_factory.mktemp("tfhub") / "e", max_positions=POSITIONS)
                wrapped[kind] = tf.saved_model.load(str(directory))
        return {"huggingface": HuggingFaceEncoder, "tfhub": TFHubEncoder}[kind](wrapped[kind], **arguments)

    return make_encoder


def cut(length, window, stride, max_windows, head=1):
    """The windows of a document, as lists of its columns; the first `head` ones stand in each."""
    if length <= head + 1:
        return [list(range(length))]
    pieces, windows = list(range(head, length - 1)), []
    room = window - head - 1
    start = 0
    while len(windows) < max_windows:
        windows.append([*range(head), *pieces[start : start + room], length - 1])
        if start + room >= len(pieces):
            break
        start += room - stride
    return windows


def run_squad_best(windows, column, head=1):
    """`_check_is_max_context` of the original run_squad.py: the window in which a piece has most context."""
    best_score, best = None, None
    for index, columns in enumerate(windows):
        start, length = columns[head], len(columns) - head - 1
        end = start + length - 1
        if not start <= column <= end:
            continue
        score = min(column - start, end - column) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best = score, index
    return best


def heads(ids, repeat_first_segment):
    """How many tokens of each document stand in each window."""
    in_second = (ids[TFHUB_NAMES[2]] > 0) & (ids[TFHUB_NAMES[1]] > 0)
    return [int(row.argmax()) if repeat_first_segment and row.any() else 1 for row in in_second]


def token_axis_last_but_one(name, encoder):
    return name == "encoder_outputs" and encoder.combination is not None and not encoder.combination.has_sequence_axis


def run_alone(encoder, ids, repeat_first_segment=False, **windows):
    """For each document the list of its windows, and for each of them its columns and the encoder's outputs."""
    run = as_graph(lambda values: {k: v for k, v in encoder(values).items() if k != "mask"})
    documents = []
    for row in range(len(ids[TFHUB_NAMES[0]])):
        places = np.flatnonzero(ids[TFHUB_NAMES[1]][row])
        length = places[-1] + 1 if len(places) else 0
        outputs = []
        for columns in cut(length, **windows, head=heads(ids, repeat_first_segment)[row]):
            # A document without any token runs as one masked token.
            taken = columns or [0]
            one = run({name: value[row : row + 1, taken] for name, value in ids.items()})
            outputs.append((columns, keras.tree.map_structure(lambda value: value.numpy()[0], one)))
        documents.append(outputs)
    return documents


def stitch(encoder, ids, merge, documents=None, **windows):
    """What a WindowedEncoder should give, one token at a time; `documents` are what `run_alone` gave."""
    batch, sequence = ids[TFHUB_NAMES[0]].shape
    documents = documents or run_alone(encoder, ids, **windows)
    mask = np.zeros((batch, sequence), bool)
    states = {}
    for row, outputs in enumerate(documents):
        all_columns = [columns for columns, _ in outputs]
        head = heads(ids, windows.get("repeat_first_segment", False))[row]
        is_cut = len(all_columns[-1]) > head + 1 and all_columns[-1][-2] < all_columns[-1][-1] - 1
        last = all_columns[-1][-2] if is_cut else max([-1, *all_columns[-1]])
        for column in range(last + 1):
            mask[row, column] = bool(ids[TFHUB_NAMES[1]][row, column])
            if merge == "mean":
                chosen = [index for index, columns in enumerate(all_columns) if column in columns]
            elif column < head:
                chosen = [0]
            elif column == all_columns[-1][-1]:
                chosen = [len(all_columns) - 1]
            else:
                chosen = [run_squad_best(all_columns, column, head)]
            for name in ("encoder_outputs", "sequence_output"):
                for number, value in enumerate(np.asarray(v) for v in tf.nest.flatten(outputs[0][1][name])):
                    width = value.shape[-1]
                    layers = value.shape[0] if value.ndim == 3 else 1
                    target = states.setdefault((name, number), np.zeros((batch, layers, sequence, width), "float32"))
                    taken = [
                        np.reshape(tf.nest.flatten(outputs[index][1][name])[number], (layers, -1, width))[
                            :, all_columns[index].index(column)
                        ]
                        for index in chosen
                    ]
                    if mask[row, column]:
                        target[row, :, column] = np.mean(taken, axis=0)
    result = {"mask": mask}
    for (name, _), value in states.items():
        stacked = token_axis_last_but_one(name, encoder)
        result.setdefault(name, []).append(value if stacked else value[:, 0])
    if encoder.has_pooler:
        pooled = [[one["pooled_output"] for _, one in outputs] for outputs in documents]
        result["pooled_output"] = np.stack([np.mean(p, 0) if merge == "mean" else p[0] for p in pooled])
    return result


def assert_stitched(outputs, expected, atol=1e-5):
    np.testing.assert_array_equal(outputs["mask"], expected["mask"])
    assert np.asarray(outputs["mask"]).dtype == bool
    for name in ("encoder_outputs", "sequence_output"):
        for value, wanted in zip(tf.nest.flatten(outputs[name]), expected[name], strict=True):
            assert_same(value, wanted, atol)
    assert ("pooled_output" in outputs) == ("pooled_output" in expected)
    if "pooled_output" in expected:
        # Of a document without any token, an encoder's pooled output is what it happens to be.
        real = expected["mask"].any(1)
        assert_same(np.asarray(outputs["pooled_output"])[real], expected["pooled_output"][real], atol)


def flat(outputs):
    return [outputs[name] for name in sorted(outputs) if name != "encoder_outputs"] + tf.nest.flatten(
        outputs["encoder_outputs"]
    )


def assert_equal(first, second, atol=0):
    assert sorted(first) == sorted(second)
    for a, b in zip(flat(first), flat(second), strict=True):
        assert np.shape(a) == np.shape(b)
        assert_same(a, b, atol)


def symbolic_ids(names=TFHUB_NAMES, sequence=None):
    return {name: keras.Input((sequence,), dtype="int32", name=name) for name in names}


def functional(encoder, sequence=None):
    inputs = symbolic_ids(sequence=sequence)
    return keras.Model(inputs, encoder(inputs))


class TestStitching:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_document_of_2000_pieces(self, kind, make):
        """All tokens have states, which are those of their windows run one by one; in the graph as eagerly."""
        encoder = make(kind, layers=[3, 1])
        # What is merged is the same for all kinds.
        lengths = LENGTHS if kind == "bert" else (300, 0, 129)
        ids = make_ids(lengths, SEQUENCE if kind == "bert" else 310)
        documents = run_alone(encoder, ids, **LONG)
        for merge in ("max_context", "mean"):
            windowed = WindowedEncoder(encoder, merge=merge, **LONG)
            expected = stitch(encoder, ids, merge, documents)
            assert expected["mask"].sum(1).tolist() == list(lengths)
            outputs = windowed(ids)
            assert_stitched(outputs, expected)
            assert np.all(np.any(outputs["sequence_output"].numpy()[0, : lengths[0]], axis=-1))
            assert not outputs["sequence_output"].numpy()[~expected["mask"]].any()
            if kind == "bert":
                # The graphs of the others run in `TestExport`.
                assert_stitched(as_graph(lambda values, windowed=windowed: windowed(values))(ids), expected)

    @pytest.mark.parametrize(
        "combine",
        ["stack", "concat", "max", "last", "attention", LayerCombination("weighted", layer_norm=True)],
        ids=lambda combine: getattr(combine, "mode", combine),
    )
    def test_each_combination(self, combine):
        encoder = bert(layers=[0, 3, 1], combine=combine, pooler=False)
        if encoder.combination.weights:
            randomize(encoder.combination.weights, 5)
        ids = make_ids(SMALL_LENGTHS, 42)
        documents = run_alone(encoder, ids, **SMALL)
        for merge in ("max_context", "mean"):
            outputs = WindowedEncoder(encoder, merge=merge, **SMALL)(ids)
            assert_stitched(outputs, stitch(encoder, ids, merge, documents, **SMALL))

    @pytest.mark.parametrize(("window", "stride"), [(3, 0), (4, 1), (7, 4), (12, 0), (12, 5), (12, 9), (24, 17)])
    def test_each_size_of_windows(self, window, stride):
        """Layer 0 depends on a token and its place in the window alone, and so tells where each state came from."""
        encoder = bert(layers=0, sizes=ONE_LAYER, pooler=False)
        ids = make_ids((0, 1, 2, 3, 4, 12, 13, 14, 21, 22, 23, 24, 31, 45), 45)
        windows = {"window": window, "stride": stride, "max_windows": 100}
        documents = run_alone(encoder, ids, **windows)
        for merge in ("max_context", "mean"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outputs = WindowedEncoder(encoder, merge=merge, **windows)(ids)
            assert_stitched(outputs, stitch(encoder, ids, merge, documents, **windows))

    def test_a_short_last_window_loses_to_a_long_one(self):
        """What the 0.01 * length of run_squad.py does."""
        encoder = bert(positions=256, layers=0, sizes=ONE_LAYER, pooler=False)
        windows = {"window": 252, "stride": 100, "max_windows": 9}
        # Pieces 1 to 250 and 151 to 298. Left and right alone would give piece 201 to the second: 50 to 49.
        assert [run_squad_best(cut(300, **windows), column) for column in (200, 201, 202)] == [0, 0, 1]
        ids = make_ids((300, 299, 270), 300)
        outputs = WindowedEncoder(encoder, **windows)(ids)
        assert_stitched(outputs, stitch(encoder, ids, "max_context", **windows))

    def test_padding_is_trimmed_to_the_longest_document(self):
        """With long padding, and with no token at all."""
        encoder = bert(layers=[2])
        for lengths in ((5, 9, 2), (40, 3)):
            ids = make_ids(lengths, 200)
            outputs = WindowedEncoder(encoder, **SMALL)(ids)
            assert_stitched(outputs, stitch(encoder, ids, "max_context", **SMALL))
        for merge in MERGES:
            outputs = WindowedEncoder(encoder, merge=merge, **SMALL)(make_ids((0, 0), 200))
            assert not np.any(outputs["mask"])
            assert not np.any(outputs["sequence_output"])
            assert np.all(np.isfinite(outputs["pooled_output"]))

    def test_a_mask_with_holes(self):
        encoder = bert(layers=[2])
        ids = make_ids((40, 30, 9), 42)
        ids["input_mask"] *= np.random.default_rng(1).integers(0, 4, (3, 42)) > 0
        ids["input_mask"][:, 0] = 1
        outputs = WindowedEncoder(encoder, merge="mean", **SMALL)(ids)
        assert_stitched(outputs, stitch(encoder, ids, "mean", **SMALL))

    @pytest.mark.parametrize(
        ("merge", "sequence"), [("max_context", None), ("max_context", 42), ("mean", 42), (None, None)]
    )
    def test_xla(self, merge, sequence):
        windowed = WindowedEncoder(bert(layers=[1, 0], combine="stack", sizes=ONE_LAYER), merge=merge, **SMALL)
        ids = make_ids(SMALL_LENGTHS, 42)
        specs = {name: tf.TensorSpec((None, sequence), tf.int32) for name in TFHUB_NAMES}
        compiled = tf.function(lambda values: windowed(values), input_signature=[specs], jit_compile=True)
        assert_equal(compiled(tensors(ids)), windowed(ids), 1e-5)

    def test_only_windows_that_exist_are_computed(self):
        seen = []

        class Seeing(BertEncoder):
            def call(self, inputs, training=False):
                seen.append(tuple(inputs["input_word_ids"].shape))
                return super().call(inputs, training=training)

        encoder = Seeing(BertConfig(**{**SIZES, "max_position_embeddings": POSITIONS}))
        for merge in MERGES:
            WindowedEncoder(encoder, merge=merge, **SMALL)(make_ids(SMALL_LENGTHS, 42))
        windows = sum(len(cut(length, **SMALL)) for length in SMALL_LENGTHS)
        WindowedEncoder(encoder, **SMALL)(make_ids((5, 7), 42))
        assert seen == [(windows, 12)] * 3 + [(2, 7)]

    def test_hidden_states(self):
        encoder = bert(layers=1, combine="sum")
        ids = make_ids(SMALL_LENGTHS, 42)
        windowed = WindowedEncoder(encoder, **SMALL)
        states = windowed.hidden_states(ids, [3, 0, 1])
        again = WindowedEncoder(encoder_with(encoder, layers=[3, 0, 1]), **SMALL)(ids)["encoder_outputs"]
        for state, expected in zip(states, again, strict=True):
            assert_same(state, expected, 1e-6)
        assert len(windowed.hidden_states(ids)) == 3
        rows = WindowedEncoder(encoder, merge=None, **SMALL)
        assert_same(rows.hidden_states(ids, 1)[0], rows(ids)["encoder_outputs"], 1e-6)
        first, second = (windowed.hidden_states(ids, 3, training=True)[0] for _ in "ab")
        assert np.abs(first - second).max() > 1e-3
        with pytest.raises(ValueError, match=r"cannot be part of a functional model.*Received: symbolic inputs"):
            windowed.hidden_states(symbolic_ids())


def encoder_with(encoder, **arguments):
    other = bert(**arguments)
    for layer, like in zip(other.pretrained_layers, encoder.pretrained_layers, strict=True):
        layer.set_weights(like.get_weights())
    return other


def pair_ids(pairs, sequence, seed=0):
    """Random ids of pairs of so many pieces, `[CLS] first [SEP] second [SEP]`; of single texts where that is None."""
    lengths = [first + 2 + (0 if second is None else second + 1) for first, second in pairs]
    ids = make_ids(lengths, sequence, seed=seed)
    starts = [[sequence if second is None else first + 2] for first, second in pairs]
    ids["input_type_ids"] = ((np.arange(sequence) >= np.array(starts)) & (ids["input_mask"] > 0)).astype("int32")
    return ids


class TestRepeatedFirstSegment:
    # Beside the longest first segment a window has one new piece.
    PAIRS = ((3, 40), (0, 30), (6, 12), (2, None), (20, None), (3, 4), (5, 0))
    WINDOWS: ClassVar = {"window": 12, "stride": 2, "max_windows": 40, "repeat_first_segment": True}

    def test_is_the_encoder_on_each_window(self):
        encoder = bert(layers=[1, 0], sizes=ONE_LAYER)
        ids = pair_ids(self.PAIRS, 50)
        documents = run_alone(encoder, ids, **self.WINDOWS)
        assert [len(windows) for windows in documents] == [10, 4, 10, 1, 3, 1, 1]
        for merge in ("max_context", "mean"):
            windowed = WindowedEncoder(encoder, merge=merge, **self.WINDOWS)
            expected = stitch(encoder, ids, merge, documents, **self.WINDOWS)
            outputs = windowed(ids)
            assert_stitched(outputs, expected)
            np.testing.assert_array_equal(outputs["sequence_output"]._keras_mask, expected["mask"])
            assert_stitched(as_graph(lambda values, windowed=windowed: windowed(values))(ids), expected)

    @pytest.mark.parametrize(("window", "stride"), [(12, 0), (12, 5), (24, 14), (16, 1)])
    def test_each_size_of_windows(self, window, stride):
        encoder = bert(layers=0, sizes=ONE_LAYER, pooler=False)
        windows = {"window": window, "stride": stride, "max_windows": 100, "repeat_first_segment": True}
        longest = window - 2 - stride - 2
        ids = pair_ids([(first, second) for first in {0, 1, longest} for second in (0, 1, 5, 9, 40)], 70)
        documents = run_alone(encoder, ids, **windows)
        for merge in ("max_context", "mean"):
            outputs = WindowedEncoder(encoder, merge=merge, **windows)(ids)
            assert_stitched(outputs, stitch(encoder, ids, merge, documents, **windows))

    def test_single_texts_are_cut_as_without(self):
        encoder = bert(layers=[1], sizes=ONE_LAYER)
        ids = pair_ids([(40, None), (3, None), (11, None)], 42)
        for merge in MERGES:
            windows = {"window": 12, "stride": 4, "merge": merge}
            first = WindowedEncoder(encoder, repeat_first_segment=True, **windows)(ids)
            second = WindowedEncoder(encoder, **windows)(ids)
            counts = second["window_mask"].shape[1] if merge is None else None
            assert_equal({key: first[key][:, :counts] for key in first if key != "encoder_outputs"} | {
                "encoder_outputs": [state[:, :counts] for state in first["encoder_outputs"]]
            }, second, 1e-6)  # fmt: skip

    def test_windows_are_those_of_hugging_faces_tokenizer(self, vocabulary, tmp_path):
        """Question answering over 512 tokens: ids, type ids, mask and offsets of each window."""
        transformers = pytest.importorskip("transformers")
        (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
        tokenizer = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"), split_special_tokens=True)
        random = np.random.default_rng(3)

        def text(count):
            return " ".join(random.choice("the good bad film book zzz , . bookish plot".split(), count))

        questions = ["why was the film good ?", "", "how bright " * 6, "what ?", "the plot"]
        contexts = [text(900), text(600), text(300), text(20), ""]
        preprocessor = BertPreprocessor(
            vocabulary, sequence_length=2048, padding="longest", long_documents=True, return_offsets="characters"
        )
        ids = preprocessor((questions, contexts))
        sizes = {**SIZES, "vocab_size": len(vocabulary), "num_hidden_layers": 1, "max_position_embeddings": 96}
        encoder = BertEncoder(BertConfig(**sizes), layers=0, pooler=False)
        windowed = WindowedEncoder(encoder, 96, 32, max_windows=100, merge=None, repeat_first_segment=True)
        outputs = windowed(ids)
        expected = tokenizer(
            questions,
            contexts,
            truncation="only_second",
            max_length=96,
            stride=32,
            padding="max_length",
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_tensors="np",
        )
        assert len(expected["input_ids"]) > 30
        exists, mask = outputs["window_mask"].numpy(), outputs["mask"].numpy()
        np.testing.assert_array_equal(np.nonzero(exists)[0], expected["overflow_to_sample_mapping"])
        np.testing.assert_array_equal(mask[exists], expected["attention_mask"])
        for name, key in (
            ("input_word_ids", "input_ids"), ("input_type_ids", "token_type_ids"), ("offsets", "offset_mapping")
        ):  # fmt: skip
            values = ids[name].numpy()[np.arange(5)[:, None, None], outputs["window_positions"]]
            values = np.where(mask[..., None] if name == "offsets" else mask, values, 0)
            np.testing.assert_array_equal(values[exists], expected[key])

    @pytest.mark.parametrize(("merge", "sequence"), [("max_context", None), (None, 50)])
    def test_xla_and_shapes(self, merge, sequence):
        ids = pair_ids(self.PAIRS[:3], 50)
        specs = {name: tf.TensorSpec((None, sequence), tf.int32) for name in TFHUB_NAMES}
        encoder = bert(layers=[1], combine="sum", sizes=ONE_LAYER)
        windowed = WindowedEncoder(encoder, merge=merge, **{**self.WINDOWS, "max_windows": 11})
        outputs = windowed(ids)
        compiled = tf.function(lambda values: windowed(values), input_signature=[specs], jit_compile=True)
        assert_equal(compiled(tensors(ids)), outputs, 1e-5)
        symbolic = functional(windowed, sequence).output
        for name, output in outputs.items():
            sizes = zip(symbolic[name].shape, output.shape, strict=True)
            assert all(size in (None, actual) for size, actual in sizes), name

    def test_what_is_cut(self):
        """Three windows hold 12 + 2 * (12 - 1 - 5 - 2) tokens of the first pair and more of the second."""
        encoder = bert(layers=[1], sizes=ONE_LAYER)
        windows = {**self.WINDOWS, "max_windows": 3}
        ids = pair_ids([(3, 40), (0, 40), (3, 12), (5, None)], 60)
        for merge in ("max_context", "mean"):
            windowed = WindowedEncoder(encoder, merge=merge, **windows)
            with pytest.warns(UserWarning, match="2 of 4 documents have more than 20 tokens and are cut"):
                outputs = windowed(ids)
            assert outputs["mask"].numpy().sum(1).tolist() == [19, 25, 18, 7]
            assert_stitched(outputs, stitch(encoder, ids, merge, **windows))
            np.testing.assert_array_equal(outputs["sequence_output"]._keras_mask, outputs["mask"])

    def test_a_first_segment_without_room_in_the_windows(self):
        windowed = WindowedEncoder(bert(layers=0, sizes=ONE_LAYER), **self.WINDOWS)
        for run in (windowed, as_graph(lambda values: windowed(values))):
            with pytest.raises(tf.errors.InvalidArgumentError, match="first segments of at most 8 tokens, with .CLS."):
                run(pair_ids([(3, 4), (7, 3)], 20))
            run(pair_ids([(6, 20)], 40))
            # It has room where the whole pair stands in one window.
            run(pair_ids([(3, 4), (7, 2)], 20))

    def test_type_ids_are_required(self):
        windowed = WindowedEncoder(bert(sizes=ONE_LAYER), **self.WINDOWS)
        with pytest.raises(ValueError, match=r"expects type ids.*Received: keys=\['input_ids'\]. Add"):
            windowed({"input_ids": np.ones((1, 20), "int32")})
        ids = pair_ids([(3, 40)], 50)
        assert_equal(windowed(renamed(ids, HUGGINGFACE_NAMES)), windowed(ids))

    @pytest.mark.parametrize("value", [1, "yes", None])
    def test_is_a_flag(self, value):
        with pytest.raises(TypeError, match=r"`repeat_first_segment` to be True or False. Received: repeat_first_"):
            WindowedEncoder(bert(), 12, 2, repeat_first_segment=value)


class TestOneWindow:
    @pytest.mark.parametrize(
        ("kind", "merge"),
        [("bert", "max_context"), ("bert", "mean"), ("huggingface", "max_context"), ("tfhub", "mean")],
    )
    def test_is_what_the_encoder_gives(self, kind, merge, make):
        encoder = make(kind, layers=[1, 3])
        windowed = WindowedEncoder(encoder, window=20, stride=3, merge=merge)
        for sequence in (20, 13):
            ids = make_ids((13, 0, 9, 1, 2), sequence)
            assert_equal(windowed(ids), encoder(ids))
        if kind == "bert" and merge == "mean":
            assert_equal(as_graph(lambda x: windowed(x))(ids), as_graph(lambda x: encoder(x))(ids))

    @pytest.mark.parametrize("merge", ["max_context", "mean"])
    def test_in_long_padding(self, merge):
        encoder = bert(layers=[1, 3])
        ids = make_ids((13, 20, 9, 1, 2), 90)
        outputs = WindowedEncoder(encoder, window=20, stride=3, merge=merge)(ids)
        expected = encoder({name: value[:, :20] for name, value in ids.items()})
        assert_same(outputs["pooled_output"], expected["pooled_output"], 0)
        assert_same(outputs["sequence_output"][:, :20], expected["sequence_output"], 0)
        assert not np.any(outputs["sequence_output"][:, 20:])

    def test_unmerged(self):
        encoder = bert(layers=[1, 3], combine="stack", return_attention_scores=True)
        ids = make_ids((13, 0, 9), 15)
        outputs = WindowedEncoder(encoder, window=20, stride=3, merge=None)(ids)
        expected = encoder(ids)
        assert np.all(outputs.pop("window_mask"))
        np.testing.assert_array_equal(outputs.pop("window_positions")[:, 0], np.arange(15) * ids["input_mask"])
        assert_equal({name: value[:, 0] for name, value in outputs.items()}, expected)


class TestUnmerged:
    @pytest.mark.parametrize("combine", [None, "stack", "concat"])
    def test_one_row_per_window(self, combine):
        encoder = bert(layers=[3, 1], combine=combine, return_attention_scores=True)
        ids = make_ids(SMALL_LENGTHS, 42)
        outputs = WindowedEncoder(encoder, merge=None, **SMALL)(ids)
        documents = run_alone(encoder, ids, **SMALL)
        count = len(cut(42, **SMALL))
        shape = (7, count, 12)
        assert outputs["mask"].shape == outputs["window_positions"].shape == shape
        assert outputs["window_mask"].shape == shape[:2]
        assert outputs["sequence_output"].shape == (*shape, 16)
        assert outputs["pooled_output"].shape == (7, count, 16)
        assert outputs["attention_scores"].shape == (7, count, 2, 2, 12, 12)
        states = tf.nest.flatten(outputs["encoder_outputs"])
        tail = {None: (12, 16), "stack": (2, 12, 16), "concat": (12, 32)}[combine]
        assert [state.shape for state in states] == [(7, count, *tail)] * (2 if combine is None else 1)
        values = {name: outputs[name].numpy() for name in outputs if name != "encoder_outputs"}
        for row, windows in enumerate(documents):
            assert values["window_mask"][row].tolist() == [number < len(windows) for number in range(count)]
            for number in range(count):
                columns, expected = windows[number] if number < len(windows) else ([], None)
                size = len(columns)
                np.testing.assert_array_equal(values["mask"][row, number], np.arange(12) < size)
                np.testing.assert_array_equal(values["window_positions"][row, number], columns + [0] * (12 - size))
                if not size:
                    assert not any(np.any(state[row, number]) for state in states)
                    assert not values["attention_scores"][row, number].any()
                    continue
                assert_same(values["sequence_output"][row, number, :size], expected["sequence_output"])
                assert_same(values["pooled_output"][row, number], expected["pooled_output"])
                assert_same(values["attention_scores"][row, number][..., :size, :size], expected["attention_scores"])
                for state, wanted in zip(states, tf.nest.flatten(expected["encoder_outputs"]), strict=True):
                    assert_same(state[row, number][..., :size, :], wanted)
                    assert not np.any(state[row, number][..., size:, :])

    @pytest.mark.parametrize("kind", ["huggingface", "tfhub"])
    def test_of_the_other_encoders(self, kind, make):
        encoder = make(kind, layers=[3])
        ids = make_ids((40, 0, 13), 42)
        outputs = WindowedEncoder(encoder, merge=None, **SMALL)(ids)
        for row, windows in enumerate(run_alone(encoder, ids, **SMALL)):
            for number, (columns, expected) in enumerate(windows):
                size = len(columns)
                state = outputs["encoder_outputs"][0][row, number]
                assert_same(state[:size], expected["encoder_outputs"][0][:size])
                assert not np.any(state[size:])

    @pytest.mark.filterwarnings("ignore:Documents of more than 24 tokens will be cut:UserWarning")
    def test_the_number_of_windows_does_not_depend_on_the_other_documents(self):
        windowed = WindowedEncoder(bert(), window=12, stride=4, max_windows=3, merge=None)
        for sequence, count in ((5, 1), (12, 1), (13, 2), (18, 2), (19, 3), (24, 3), (60, 3)):
            outputs = windowed(make_ids((5, 2), sequence))
            assert outputs["sequence_output"].shape == (2, count, min(12, sequence), 16)
            assert functional(windowed, sequence).output["sequence_output"].shape[1:3] == (count, min(12, sequence))

    def test_ids_of_the_windows(self):
        """`window_positions` brings back what the preprocessor gave to each token, such as offsets."""
        ids = make_ids((40, 20), 42)
        outputs = WindowedEncoder(bert(layers=0), merge=None, **SMALL)(ids)
        positions, mask = outputs["window_positions"].numpy(), outputs["mask"].numpy()
        tokens = np.take_along_axis(ids["input_word_ids"][:, None], positions, axis=-1)
        for row, length in enumerate((40, 20)):
            assert sorted(set(positions[row][mask[row]])) == list(range(length))
            for number, columns in enumerate(cut(length, **SMALL)):
                expected = ids["input_word_ids"][row, columns]
                np.testing.assert_array_equal(tokens[row, number, : len(columns)], expected)


class TestTooLong:
    WINDOWS: ClassVar = {"window": 12, "stride": 4, "max_windows": 3}

    def test_is_cut_with_a_warning(self):
        encoder = bert(layers=[1], sizes=ONE_LAYER)
        ids = make_ids((40, 24, 25, 3, 100), 100)
        for merge in ("max_context", "mean"):
            windowed = WindowedEncoder(encoder, merge=merge, **self.WINDOWS)
            assert windowed.max_tokens == 24
            with pytest.warns(
                UserWarning, match=r"3 of 5 documents have more than 24 tokens and are cut.*max_windows"
            ) as seen:
                outputs = windowed(ids)
            assert len(seen) == 1
            # 10 + 6 + 6 pieces after [CLS]; the [SEP] of a document that is cut belongs to no token that is left.
            assert outputs["mask"].numpy().sum(1).tolist() == [23, 24, 23, 3, 23]
            assert_stitched(outputs, stitch(encoder, ids, merge, **self.WINDOWS))
            np.testing.assert_array_equal(outputs["sequence_output"]._keras_mask, outputs["mask"])
        graph = as_graph(lambda values: windowed(values))(ids)
        assert_equal(graph, outputs, 1e-5)

    def test_what_is_cut_changes_nothing(self):
        windowed = WindowedEncoder(bert(), **self.WINDOWS)
        ids = make_ids((40,), 40)
        other = dict(ids, input_word_ids=np.where(np.isin(np.arange(40), range(23, 39)), 7, ids["input_word_ids"]))
        with pytest.warns(UserWarning, match="1 of 1 documents"):
            assert_equal(windowed(ids), windowed(other))

    def test_unmerged(self):
        windowed = WindowedEncoder(bert(), merge=None, **self.WINDOWS)
        with pytest.warns(UserWarning, match="1 of 2 documents"):
            outputs = windowed(make_ids((40, 24), 40))
        assert outputs["window_positions"].numpy()[:, 2].tolist() == [
            [0, *range(13, 23), 39],
            [0, *range(13, 23), 23],
        ]
        assert np.all(outputs["mask"])

    def test_long_padding_is_no_reason_to_warn(self, recwarn):
        windowed = WindowedEncoder(bert(), **self.WINDOWS)
        windowed(make_ids((24, 3), 100))
        functional(windowed)
        functional(windowed, 24)
        assert not [w for w in recwarn if "cut" in str(w.message)]

    def test_a_model_on_longer_inputs(self):
        windowed = WindowedEncoder(bert(), **self.WINDOWS)
        with pytest.warns(UserWarning, match=r"more than 24 tokens will be cut.*Received: input_word_ids.shape=.*25\)"):
            functional(windowed, 25)

    def test_one_window(self):
        windowed = WindowedEncoder(bert(layers=[3]), window=12, stride=4, max_windows=1)
        assert windowed.max_tokens == 12
        ids = make_ids((40, 12), 40)
        with pytest.warns(UserWarning, match="1 of 2 documents"):
            outputs = windowed(ids)
        assert outputs["mask"].numpy().sum(1).tolist() == [11, 12]
        assert_stitched(outputs, stitch(windowed.encoder, ids, "max_context", window=12, stride=4, max_windows=1))


class TestContract:
    @pytest.mark.parametrize("merge", MERGES)
    @pytest.mark.parametrize("combine", [None, "stack", "concat"])
    @pytest.mark.parametrize("sequence", [None, 42])
    def test_symbolic_outputs_are_as_computed(self, sequence, combine, merge):
        encoder = ToyEncoder(
            layers="last2", combine=combine, dtype="mixed_bfloat16", return_attention_scores=merge is None
        )
        model = functional(WindowedEncoder(encoder, merge=merge, **SMALL), sequence)
        ids = make_ids((9, 3), sequence or 42)
        symbolic, outputs = model.output, model(ids)
        assert sorted(symbolic) == sorted(outputs)
        for expected, output in zip(keras.tree.flatten(symbolic), keras.tree.flatten(outputs), strict=True):
            assert expected.dtype == output.dtype.name
            assert len(expected.shape) == len(output.shape)
            assert all(size in (None, actual) for size, actual in zip(expected.shape, output.shape, strict=True))
            if sequence:
                assert None not in expected.shape[1:]

    def test_graph_shapes_are_static_where_they_can_be(self):
        for merge in MERGES:
            windowed = WindowedEncoder(bert(combine="stack", sizes=ONE_LAYER), merge=merge, **SMALL)
            specs = {name: tf.TensorSpec((None, 42), tf.int32) for name in TFHUB_NAMES}
            graph = tf.function(lambda values, windowed=windowed: windowed(values)).get_concrete_function(specs)
            expected = functional(windowed, 42).output
            for name, output in graph.structured_outputs.items():
                if merge is not None:
                    assert tuple(output.shape)[1:] == expected[name].shape[1:], name
                assert output.shape[-1] == expected[name].shape[-1], name

    def test_names_and_defaults(self):
        encoder = bert(layers=[1])
        windowed = WindowedEncoder(encoder, **SMALL)
        ids = make_ids((42, 42), 42)
        assert_equal(windowed(renamed(ids, HUGGINGFACE_NAMES)), windowed(ids))
        assert_equal(windowed({**ids, "offsets": tf.zeros((2, 42, 2), tf.int32), "window_rows": None}), windowed(ids))
        zeros = np.zeros_like(ids["input_type_ids"])
        assert_equal(windowed({"input_ids": ids["input_word_ids"]}), windowed({**ids, "input_type_ids": zeros}))
        assert np.abs(windowed(ids)["sequence_output"] - windowed({**ids, "input_type_ids": zeros})["sequence_output"])[
            :, 20
        ].max() > (1e-3)

    def test_what_it_tells_of_the_encoder(self):
        encoder = bert(layers="last2", combine="weighted", return_attention_scores=True)
        windowed = WindowedEncoder(encoder, merge=None, **SMALL)
        for name in (
            "num_layers", "hidden_size", "num_heads", "has_embeddings", "has_pooler", "layers", "selected_layers",
            "combine", "combination", "return_attention_scores", "compute_dtype", "pretrained_layers",
        ):  # fmt: skip
            assert getattr(windowed, name) == getattr(encoder, name), name
        assert len(windowed.weights) == len(encoder.weights)
        assert windowed.count_params() == encoder.count_params()

    def test_without_pooler(self):
        assert "pooled_output" not in WindowedEncoder(bert(pooler=False), **SMALL)(make_ids((40,), 42))
        assert "pooled_output" not in functional(WindowedEncoder(bert(pooler=False), **SMALL)).output

    @pytest.mark.parametrize("merge", ["max_context", "mean"])
    def test_bfloat16(self, merge):
        encoder = bert(layers=[3])
        half = bert(layers=[3], dtype="mixed_bfloat16")
        ids = make_ids(SMALL_LENGTHS, 42)
        expected = WindowedEncoder(encoder, merge=merge, **SMALL)(ids)
        outputs = WindowedEncoder(half, merge=merge, **SMALL)(ids)
        for name in ("sequence_output", "pooled_output"):
            assert outputs[name].dtype == tf.bfloat16
            difference = np.linalg.norm(tf.cast(outputs[name], "float32") - expected[name])
            assert difference < 2e-2 * np.linalg.norm(expected[name])

    @pytest.mark.parametrize("combine", [None, "sum", "stack"])
    def test_implicit_masks(self, combine):
        ids = make_ids(SMALL_LENGTHS, 42)
        outputs = WindowedEncoder(bert(combine=combine), **SMALL)(ids)
        states = tf.nest.flatten(outputs["encoder_outputs"])
        for state in [outputs["sequence_output"], *([] if combine == "stack" else states)]:
            np.testing.assert_array_equal(state._keras_mask, ids["input_mask"])
        if combine == "stack":
            assert getattr(states[0], "_keras_mask", None) is None
        for name in ("pooled_output", "mask"):
            assert getattr(outputs[name], "_keras_mask", None) is None
        outputs = WindowedEncoder(bert(combine=combine), merge=None, **SMALL)(ids)
        assert all(getattr(output, "_keras_mask", None) is None for output in flat(outputs))

    @pytest.mark.parametrize("sequence", [None, 42])
    def test_standard_layers_respect_padding_and_what_is_cut(self, sequence):
        windowed = WindowedEncoder(bert(combine="sum"), window=12, stride=4, max_windows=3)
        inputs = symbolic_ids(sequence=sequence)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pooled = keras.layers.GlobalAveragePooling1D()(windowed(inputs)["encoder_outputs"])
            model = keras.Model(inputs, pooled)
            ids = make_ids((40, 13, 5), 42)
            outputs = windowed(ids)
            states = outputs["encoder_outputs"].numpy()
            assert_same(model(ids), states.sum(1) / np.array([[23], [13], [5]]))
        # The mask is the encoder's output and adds nothing to the user's model.
        assert len(model.operations) == 3 + 1 + 1

    def test_inputs_are_checked_as_the_encoders(self):
        windowed = WindowedEncoder(bert(), **SMALL)
        with pytest.raises(ValueError, match=r"WindowedEncoder expects a dict of integer tensors.*Received: inputs of"):
            windowed([[1, 2]])
        with pytest.raises(ValueError, match=r"WindowedEncoder expects the keys.*Received: keys=\['ids'\]"):
            windowed({"ids": np.ones((1, 3), int)})
        with pytest.raises(ValueError, match=r"WindowedEncoder expects inputs of one shape"):
            windowed({"input_ids": np.ones((1, 3), int), "attention_mask": np.ones((1, 4), int)})


class TestErrors:
    @pytest.mark.parametrize("encoder", [None, "bert", keras.layers.Dense(3)])
    def test_encoder(self, encoder):
        with pytest.raises(
            TypeError, match=r"expects a BertEncoder, a HuggingFaceEncoder or a TFHubEncoder\. Received:"
        ):
            WindowedEncoder(encoder)

    def test_windows_of_windows(self):
        with pytest.raises(TypeError, match=r"Received: encoder of type .*WindowedEncoder"):
            WindowedEncoder(WindowedEncoder(bert(), **SMALL), **SMALL)

    @pytest.mark.parametrize("window", [2, 0, -5, 12.0, True, None])
    def test_window(self, window):
        with pytest.raises(ValueError, match=r"`window` to be an integer of at least 3.*Received: window="):
            WindowedEncoder(bert(), window=window, stride=0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_positions(self, kind, make):
        encoder = make(kind)
        with pytest.raises(ValueError, match=r"`window` to be at most 128: .*Received: window=129\."):
            WindowedEncoder(encoder, window=129)
        with pytest.raises(ValueError, match=r"Received: window=512\."):
            WindowedEncoder(encoder)
        assert WindowedEncoder(encoder, window=128, stride=3).max_tokens == 128 + 15 * 123

    def test_positions_of_an_encoder_that_is_not_built(self):
        with pytest.raises(ValueError, match=r"`window` to be at most 24: .*Received: window=512\."):
            WindowedEncoder(BertEncoder(SIZES))

    def test_positions_of_roberta_start_behind_the_padding(self):
        encoder = HuggingFaceEncoder(make_tf_model("TFRobertaModel", max_position_embeddings=24, type_vocab_size=1))
        with pytest.raises(ValueError, match=r"`window` to be at most 22: "):
            WindowedEncoder(encoder, window=23, stride=3)
        ids = {"input_ids": make_ids((40,), 40)["input_word_ids"] % 20 + 5}
        assert WindowedEncoder(encoder, window=22, stride=3)(ids)["sequence_output"].shape == (1, 40, 16)

    @pytest.mark.parametrize("stride", [-1, 10, 128, 3.0, False, None])
    def test_stride(self, stride):
        with pytest.raises(ValueError, match=r"`stride`, .* from 0 to 9.*Received: stride=.*, window=12\."):
            WindowedEncoder(bert(), window=12, stride=stride)

    @pytest.mark.parametrize("max_windows", [0, -1, 1.5, True, None])
    def test_max_windows(self, max_windows):
        with pytest.raises(ValueError, match=r"`max_windows` to be an integer of at least 1\. Received: max_windows="):
            WindowedEncoder(bert(), window=12, stride=3, max_windows=max_windows)

    @pytest.mark.parametrize("merge", ["max", "none", True, 1])
    def test_merge(self, merge):
        with pytest.raises(ValueError, match=r'`merge` to be "max_context", "mean" or None\. Received: merge='):
            WindowedEncoder(bert(), window=12, stride=3, merge=merge)

    @pytest.mark.parametrize("merge", ["max_context", "mean"])
    def test_attention_scores(self, merge):
        with pytest.raises(ValueError, match=r"scores are between the tokens of one window.*Give merge=None"):
            WindowedEncoder(bert(return_attention_scores=True), merge=merge, **SMALL)


class TestTraining:
    @pytest.mark.parametrize(
        ("kind", "merge"), [*[("bert", merge) for merge in MERGES], ("huggingface", "max_context"), ("tfhub", "mean")]
    )
    def test_every_weight_has_a_gradient(self, kind, merge, make):
        windowed = WindowedEncoder(make(kind, combine="weighted"), merge=merge, **SMALL)
        ids = make_ids((40, 0, 12, 5), 42)
        with tf.GradientTape() as tape:
            outputs = windowed(ids)
            # A random direction: the sum of a LayerNorm's outputs has no gradient.
            total = sum(
                tf.reduce_sum(outputs[name] * tf.random.stateless_normal(outputs[name].shape, (0, 1)))
                for name in ("encoder_outputs", "pooled_output")
            )
        weights = windowed.trainable_weights
        gradients = tape.gradient(total, [weight.value for weight in weights])
        assert len(weights) > 40
        for weight, gradient in zip(weights, gradients, strict=True):
            assert gradient is not None, weight.path
            gradient = tf.convert_to_tensor(gradient).numpy()
            assert np.all(np.isfinite(gradient))
            assert np.any(gradient), weight.path

    def test_gradients_are_those_of_the_windows(self):
        """Of the mean of two windows that share all but one piece, by hand."""
        encoder = bert(layers=[3])
        windowed = WindowedEncoder(encoder, window=12, stride=9, merge="mean")
        ids = make_ids((13,), 13)
        windows = {name: np.stack([value[0, columns] for columns in cut(13, 12, 9, 9)]) for name, value in ids.items()}
        direction = np.random.default_rng(0).normal(size=(1, 13, 16)).astype("float32")
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(windowed(ids)["sequence_output"] * direction)
        weights = [weight.value for layer in encoder.pretrained_layers[:-1] for weight in layer.trainable_weights]
        gradients = tape.gradient(total, weights)
        with tf.GradientTape() as tape:
            first, second = tf.unstack(encoder(windows)["sequence_output"])
            first = tf.concat([first[:1], first[1:2], first[2:11] / 2 + second[1:10] / 2, second[10:]], axis=0)
            first = tf.concat([first[:1] / 2 + second[:1] / 2, first[1:11], first[11:12], first[12:]], axis=0)
            ends = tf.unstack(encoder(windows)["sequence_output"])
            merged = tf.concat([first[:12], (ends[0][-1:] + ends[1][-1:]) / 2], axis=0)
            total = tf.reduce_sum(merged * direction[0])
        for gradient, expected in zip(gradients, tape.gradient(total, weights), strict=True):
            assert_same(tf.convert_to_tensor(gradient), tf.convert_to_tensor(expected), 1e-4)

    def test_fit(self, recwarn):
        encoder = bert(combine="weighted", hidden_dropout=0.0, attention_dropout=0.0)
        windowed = WindowedEncoder(encoder, **SMALL)
        inputs = symbolic_ids()
        outputs = windowed(inputs)
        features = keras.layers.GlobalAveragePooling1D()(outputs["encoder_outputs"])
        scores = keras.layers.Dense(1)(keras.layers.concatenate([features, outputs["pooled_output"]]))
        model = keras.Model(inputs, scores)
        model.compile(keras.optimizers.SGD(0.02), "mse")
        before = {weight.path: weight.numpy() for weight in windowed.trainable_weights}
        ids, targets = make_ids((40, 30, 12, 5), 42), np.arange(4.0)
        losses = model.fit(ids, targets, batch_size=4, epochs=5, verbose=0).history["loss"]
        assert losses[-1] < 0.9 * losses[0]
        assert not [str(w.message) for w in recwarn if "radient" in str(w.message)]
        still = [
            w.path for w in windowed.trainable_weights if np.array_equal(w, before[w.path]) and "key" not in w.path
        ]
        assert still == []

    def test_freezing(self):
        encoder = bert(combine="weighted", trainable=False)
        windowed = WindowedEncoder(encoder, **SMALL)
        assert [weight.name for weight in windowed.trainable_weights] == ["w", "gamma"]
        windowed.trainable = False
        assert not windowed.trainable_weights
        windowed.trainable = True
        assert len(windowed.trainable_weights) == len(windowed.weights) - sum(
            "seed" in w.path for w in windowed.weights
        )

    def test_dropout_only_when_training(self):
        windowed = WindowedEncoder(bert(sizes=ONE_LAYER), **SMALL)
        ids = make_ids((40,), 42)
        plain = windowed(ids)["sequence_output"]
        assert_same(windowed(ids, training=False)["sequence_output"], plain, 0)
        assert np.abs(windowed(ids, training=True)["sequence_output"] - plain).max() > 1e-2
        model = functional(windowed)
        assert_same(tf.function(model)(tensors(ids))["sequence_output"], plain)
        assert np.abs(model(tensors(ids), training=True)["sequence_output"] - plain).max() > 1e-2


class TestSaving:
    @pytest.mark.parametrize("kind", KINDS)
    def test_keras_file(self, kind, make, tmp_path):
        encoder = make(kind, layers=[1, 3], combine=LayerCombination("weighted", layer_norm=True), trainable=False)
        windowed = WindowedEncoder(encoder, merge="mean", name="windows", **SMALL)
        inputs = symbolic_ids()
        outputs = windowed(inputs)
        features = keras.layers.GlobalAveragePooling1D()(outputs["encoder_outputs"])
        model = keras.Model(inputs, keras.layers.concatenate([features, outputs["pooled_output"]]))
        randomize(windowed.combination.weights, 3)
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=kind != "tfhub")
        ids = make_ids((40, 0, 12, 5), 42)
        np.testing.assert_array_equal(again(ids), model(ids))
        layer = again.get_layer("windows")
        assert {name: value for name, value in layer.get_config().items() if name != "encoder"} == {
            "name": "windows", "trainable": True, "merge": "mean", "repeat_first_segment": False, **SMALL,
        }  # fmt: skip
        assert [weight.name for weight in layer.trainable_weights] == ["w", "gamma"]

    def test_each_argument_is_in_the_config(self):
        arguments = {
            "window": 12, "stride": 5, "max_windows": 7, "merge": None, "repeat_first_segment": True, "name": "other"
        }  # fmt: skip
        windowed = WindowedEncoder(bert(layers=[2]), **arguments)
        config = windowed.get_config()
        assert set(config) == {*inspect.signature(WindowedEncoder).parameters, "trainable"}
        again = WindowedEncoder.from_config(config)
        assert {name: getattr(again, name) for name in arguments} == arguments
        assert again.encoder.layers == [2]
        windowed.trainable = False
        again = WindowedEncoder.from_config(windowed.get_config())
        assert not again.trainable
        assert not again.trainable_weights

    def test_clone_model(self):
        model = functional(WindowedEncoder(bert(layers=[1]), **SMALL))
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        ids = make_ids((40, 3), 42)
        assert_equal(clone(ids), model(ids))

    def test_quantized(self, tmp_path):
        encoder = bert(sizes=ONE_LAYER)
        model = functional(WindowedEncoder(encoder, **SMALL))
        ids = make_ids((40, 3), 42)
        plain = model(ids)["sequence_output"]
        quantize(model)
        expected = model(ids)
        assert np.any(expected["sequence_output"] != plain)
        model.save(tmp_path / "m.keras")
        assert_equal(keras.saving.load_model(tmp_path / "m.keras")(ids), expected)


class TestExport:
    """The C program gives the numbers of the Keras model."""

    def check(self, windowed, ids, tmp_path, runner):
        model = functional(windowed)
        export_saved_model(model, tmp_path / "1", check=False)
        served = runner.run(tmp_path / "1", ids)
        outputs = windowed(ids)
        states = outputs.pop("encoder_outputs")
        outputs.update({f"encoder_outputs_{i}": state for i, state in enumerate(states)})
        assert sorted(served) == sorted(outputs)
        for name, value in served.items():
            assert_same(value, outputs[name])
        return {**served, "encoder_outputs": [served[f"encoder_outputs_{i}"] for i in range(len(states))]}

    @pytest.mark.parametrize("kind", ["bert", pytest.param("huggingface", marks=pytest.mark.slow), "tfhub"])
    def test_merged(self, kind, make, tmp_path, saved_model_runner):
        encoder = make(kind, layers=[3, 1])
        # No document without tokens: its pooled output is what it happens to be.
        ids = make_ids((2002, 1, 129), SEQUENCE)
        merge = "mean" if kind == "huggingface" else "max_context"
        served = self.check(WindowedEncoder(encoder, merge=merge, **LONG), ids, tmp_path, saved_model_runner)
        assert_stitched(served, stitch(encoder, ids, merge, **LONG))

    def test_unmerged(self, tmp_path, saved_model_runner):
        encoder = bert(layers=[1, 0], sizes=ONE_LAYER)
        windowed = WindowedEncoder(encoder, merge=None, repeat_first_segment=True, **SMALL)
        ids = pair_ids([(38, None), (3, 20), (0, None), (5, 4)], 42)
        served = self.check(windowed, ids, tmp_path, saved_model_runner)
        assert served["window_mask"].sum(1).tolist() == [6, 8, 1, 1]
