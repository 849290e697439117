"""The card, the warm-up requests and the batching parameters."""

import hashlib
import json
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from tests.native.saved_model_runner import SavedModelRunner


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def export(request, vocabulary, tmp_path_factory):
    """Two signatures for XLA, which takes its time; more, of each kind one, for the processor."""
    config = kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    texts = [keras.Input(shape=(), dtype="string", name=name) for name in ("first", "second")]
    encoder = kbl.BertEncoder(config, layers=[1, 2], combine="weighted", name="bert")
    features = encoder(kbl.BertPreprocessor(vocabulary, sequence_length=16, lowercase=False)(tuple(texts)))
    model = keras.Model(texts, kbl.SequencePooling("mean", name="vector")(features["encoder_outputs"]))
    directory = tmp_path_factory.mktemp(request.param) / "1"
    signatures = ("words", "ids", "tokenize") if request.param == "cpu" else ("ids",)
    kbl.export_saved_model(
        model, directory, signatures=signatures, target=request.param, batch_sizes=[1, 4], check=False
    )
    return request.param, directory


def read_warmup(directory):
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    file = directory / "assets.extra" / "tf_serving_warmup_requests"
    return [
        PredictionLog.FromString(record.numpy()).predict_log.request for record in tf.data.TFRecordDataset(str(file))
    ]


def test_the_card(export, vocabulary):
    target, directory = export
    card = json.loads((directory / "keras_bert_layers.json").read_text(encoding="utf-8"))
    assert card["format"] == 1
    assert card["versions"]["tensorflow"] == tf.__version__
    assert (card["target"], card["dtype"], card["quantize"], card["loss_against_float32"]) == (
        target, "float32", None, None,
    )  # fmt: skip
    assert card["encoders"] == [
        {
            "name": "bert",
            "class": "BertEncoder",
            "layers": [1, 2],
            "combine": "weighted",
            "hidden_size": 32,
            "num_layers": 2,
        }
    ]
    sha256 = hashlib.sha256("\n".join(vocabulary).encode()).hexdigest()
    assert card["vocabulary"] == {"size": len(vocabulary), "sha256": sha256}
    assert card["tokenizer"]["lowercase"] is False
    assert (card["sequence_length"], card["allowed_batch_sizes"]) == (16, [1, 4])
    assert card["length_buckets"] == (None if target == "cpu" else [8, 16])
    assert card["signatures"]["serving_default"] == {
        "inputs": {"text_a": {"dtype": "string", "shape": [None]}, "text_b": {"dtype": "string", "shape": [None]}},
        "outputs": {"vector": {"dtype": "float32", "shape": [None, 32]}},
    }
    loaded = tf.saved_model.load(str(directory))
    assert set(card["signatures"]) == set(card["golden"]) == set(loaded.signatures)
    assert {"MatMul", "VarHandleOp", "ReadVariableOp"} <= set(card["ops"])
    assert card["ops"] == sorted(set(card["ops"]))


def test_the_golden_examples_come_from_c_too(export, saved_model_runner: SavedModelRunner):
    _, directory = export
    card = json.loads((directory / "keras_bert_layers.json").read_text(encoding="utf-8"))
    requests = []
    for name, golden in card["golden"].items():
        specs = card["signatures"][name]["inputs"]
        requests.append(
            (name, {key: tf.constant(value, specs[key]["dtype"]) for key, value in golden["inputs"].items()})
        )
    answers = saved_model_runner.run_requests(directory, requests)
    for (name, _), answer in zip(requests, answers, strict=True):
        assert answer.keys() == card["golden"][name]["outputs"].keys()
        for key, expected in card["golden"][name]["outputs"].items():
            assert list(answer[key].shape) == expected["shape"]
            values = answer[key].reshape(-1)[:: expected["stride"]]
            np.testing.assert_allclose(values, expected["values"], atol=expected["tolerance"], rtol=0)


def test_warm_up_covers_every_signature_bucket_and_batch(export, saved_model_runner: SavedModelRunner):
    _, directory = export
    requests = read_warmup(directory)
    card = json.loads((directory / "keras_bert_layers.json").read_text(encoding="utf-8"))
    lengths = card["length_buckets"] or [16]
    tensors = [(r.model_spec.signature_name, {k: tf.make_ndarray(v) for k, v in r.inputs.items()}) for r in requests]
    assert len(tensors) == len(card["signatures"]) * len(lengths) * 2
    saved_model_runner.run_requests(directory, tensors)
    # How many tokens they make, counted by the tokenizer of the export.
    preprocessor = kbl.BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], sequence_length=16)
    covered = set()
    for name, inputs in tensors:
        if "text_a" in inputs:
            ids = preprocessor((tf.constant(inputs["text_a"]), tf.constant(inputs["text_b"])))
            longest = int(tf.reduce_max(tf.reduce_sum(ids["input_mask"], axis=1)))
        else:
            longest = int(inputs["input_mask"].sum(axis=1).max())
        bucket = next(length for length in lengths if longest <= length)
        covered.add((name, bucket, len(next(iter(inputs.values())))))
    assert covered == {(name, length, rows) for name in card["signatures"] for length in lengths for rows in (1, 4)}


def test_batching_parameters(export):
    text = (export[1] / "batching_params.pbtxt").read_text()
    assert re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.MULTILINE) == ["1", "4"]
    # The server refuses any other than the last of the allowed.
    assert re.search(r"^max_batch_size \{ value: 4 \}$", text, re.MULTILINE)


def test_without_the_package_of_the_server(tmp_path, monkeypatch):
    numbers = keras.Input((8,), name="numbers")
    model = keras.Model(numbers, keras.layers.Dense(2)(numbers))
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.prediction_log_pb2", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-bert-layers\[serving\]', or export with warmup=False"):
        kbl.export_saved_model(model, tmp_path / "1", check=False)
    kbl.export_saved_model(model, tmp_path / "1", warmup=False, check=False)
    assert not (tmp_path / "1" / "assets.extra").exists()


def test_what_cannot_be_had(vocabulary, tmp_path):
    config = kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    text = keras.Input(shape=(), dtype="string", name="text")
    ids = kbl.BertPreprocessor(vocabulary, sequence_length=16)(text)
    encoders = [kbl.BertEncoder(config, name=name) for name in ("one", "two")]
    one = keras.Model(text, encoders[0](ids)["pooled_output"])
    both = keras.Model(text, [encoder(ids)["pooled_output"] for encoder in encoders])
    word_ids = keras.Input((None,), dtype="int32", name="input_word_ids")
    on_ids = keras.Model(word_ids, encoders[0]({"input_word_ids": word_ids})["pooled_output"])
    for model, options, message in [
        (one, {"signatures": ["vectors"]}, "`signatures` to be among serving_default, embed.*with 'vectors'"),
        (one, {"signatures": {"ids": "vectors"}}, "`signatures` to be among serving_default, embed.*with 'vectors'"),
        (one, {"signatures": {"scores": encoders[0]}}, r"`signatures\['scores'\]` to be a functional model"),
        (one, {"signatures": {"serving_default": both}}, "leave serving_default to `model`.*another name"),
        (one, {"target": "tpu"}, "`target` to be cpu or gpu. Received: target='tpu'"),
        (one, {"batch_sizes": [8, 1]}, "`batch_sizes` to be positive ints in ascending order"),
        (one, {"length_buckets": [8, 16]}, '`length_buckets` is for target="gpu"'),
        (one, {"target": "gpu", "length_buckets": [8]}, "the last of `length_buckets` to be 16"),
        (one, {"target": "gpu", "batch_sizes": list(range(1, 600))}, "at most 1000 warm-up requests"),
        (both, {"signatures": ["embed"]}, "one encoder that is called once. Received: a model with 2: "),
        (on_ids, {"signatures": ["embed"]}, "takes texts and expects a model with one preprocessor.*with 0"),
        (on_ids, {"target": "gpu"}, "cannot choose `length_buckets` for a model on ids of any length"),
    ]:
        with pytest.raises(ValueError, match=message):
            kbl.export_saved_model(model, tmp_path / "1", **options, check=False)
    for signatures in ("embed", None, [1], {1: one}):
        with pytest.raises(TypeError, match="`signatures` to be a list of names, or a dict of names and functional"):
            kbl.export_saved_model(one, tmp_path / "1", signatures=signatures, check=False)
    assert list(tmp_path.iterdir()) == []
