"""Every signature, on both targets, from the C program: the numbers of Keras, for hard texts."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from tests.hard_texts import hard_texts
from tests.native.saved_model_runner import SavedModelRunner

ALL = ("serving_default", "embed", "tokens", "layers", "words", "ids", "tokenize")
KINDS = ("texts", "pairs", "words", "windows")
TEXTS = hard_texts(200)
OTHERS = TEXTS[::-1]
ROWS = 100


class Case(NamedTuple):
    """A model, the same texts as it and as its preprocessor take them, and what belongs to them."""

    model: keras.Model
    encoder: Any
    preprocessor: kbl.BertPreprocessor
    served: dict[str, Any]
    texts: Any


def make_case(kind: str, vocabulary: list[str]) -> Case:
    keras.utils.set_random_seed(3)
    config = kbl.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    encoder: Any = kbl.BertEncoder(config, layers=[0, 2], combine="weighted")
    settings: dict[str, Any] = {"sequence_length": 24}
    text: Any = keras.Input(shape=(), dtype="string", name="text")
    served: dict[str, Any] = {"text": TEXTS}
    texts: Any = TEXTS
    if kind == "pairs":
        text = (text, keras.Input(shape=(), dtype="string", name="other"))
        served, texts = {"text_a": TEXTS, "text_b": OTHERS}, (TEXTS, OTHERS)
    elif kind == "words":
        text = keras.Input(shape=(None,), dtype="string", name="words")
        words = [line.split(b" ")[:12] for line in TEXTS]
        padded = np.array([row + [b""] * (12 - len(row)) for row in words], dtype=object)
        served = {"text": padded}
        texts = padded
    elif kind == "windows":
        encoder = kbl.WindowedEncoder(encoder, window=16, stride=4, max_windows=4)
        settings = {"sequence_length": encoder.max_tokens, "long_documents": True}
    preprocessor = kbl.BertPreprocessor(vocabulary, **settings)
    features = encoder(preprocessor(text))
    sentence = kbl.SequencePooling("mean", normalize=True)(features["encoder_outputs"], mask=features["mask"])
    model = keras.Model(text, keras.layers.Dense(4, name="scores")(sentence))
    return Case(model, encoder, preprocessor, served, texts)


def in_batches(values: Any, run: Any) -> dict[str, np.ndarray]:
    """Runs Keras on batches of `ROWS` and joins what comes out."""
    parts = []
    for i in range(0, len(TEXTS), ROWS):
        batch = tuple(v[i : i + ROWS] for v in values) if isinstance(values, tuple) else values[i : i + ROWS]
        parts.append(run(tuple(map(strings, batch)) if isinstance(batch, tuple) else strings(batch)))
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def strings(values: Any) -> tf.Tensor:
    return tf.constant(np.asarray(values, dtype=object), "string")


def by_keras(case: Case, kind: str) -> dict[str, dict[str, np.ndarray]]:
    """What each signature must give, made with the package's layers as a user would."""
    encoder, preprocessor = case.encoder, case.preprocessor
    detailed = kbl.BertPreprocessor.from_config(
        {**preprocessor.get_config(), "return_offsets": "characters", "return_word_ids": True}
    )

    def run(texts: Any) -> dict[str, Any]:
        ids = detailed(texts)
        features = encoder(ids)
        states, mask = features["encoder_outputs"], features["mask"]
        scores = case.model(texts)
        embedding = kbl.SequencePooling("mean", normalize=True)(states, mask=mask)
        layers = np.stack(encoder.hidden_states(ids, layers=[0, 2]), axis=1)
        extra = {"pairs": ["input_type_ids"], "words": ["word_ids"]}.get(kind, [])
        outputs = {
            "serving_default": {"scores": scores},
            "ids": {"scores": scores},
            "tokenize": preprocessor(texts),
            "embed": {"embedding": embedding},
            "layers": {"layers": layers, "mask": mask},
            "tokens": {"token_states": states, "mask": mask, **{key: ids[key] for key in ("offsets", *extra)}},
            "words": {},
        }
        for number, ending in enumerate(["_a", "_b"] if kind == "pairs" else [""]):
            numbers = tf.where(ids["input_type_ids"] == number, ids["word_ids"], -1) if ending else ids["word_ids"]
            words = kbl.WordPooling("mean")(states, numbers)
            outputs["words"][f"word_states{ending}"] = words["word_outputs"]
            outputs["words"][f"word_mask{ending}"] = words["word_mask"]
        return {f"{name} {key}": value for name, values in outputs.items() for key, value in values.items()}

    expected: dict[str, dict[str, np.ndarray]] = {name: {} for name in ALL}
    for place, value in in_batches(case.texts, run).items():
        name, key = place.split()
        expected[name][key] = value
    return expected


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        *(("cpu", kind) for kind in KINDS),
        ("gpu", "texts"),
        *(pytest.param("gpu", kind, marks=pytest.mark.slow) for kind in KINDS[1:]),
    ],
)
def test_every_signature_gives_the_numbers_of_keras(
    kind: str, target: str, vocabulary: list[str], tmp_path, saved_model_runner: SavedModelRunner
):
    case = make_case(kind, vocabulary)
    length = case.preprocessor.sequence_length
    options: dict[str, Any] = {"length_buckets": [8, length]} if target == "gpu" else {}
    options |= {"warmup": False, "check": False}
    kbl.export_saved_model(case.model, tmp_path / "1", signatures=ALL, target=target, batch_sizes=[1, ROWS], **options)
    # Tokenised by itself, and not by the export: what a client of `ids` sends.
    ids = in_batches(case.texts, case.preprocessor)
    requests = []
    for name in ALL:
        inputs = ids if name == "ids" else case.served
        for i in range(0, len(TEXTS), ROWS):
            requests.append((name, {key: value[i : i + ROWS] for key, value in inputs.items()}))
    answers = saved_model_runner.run_requests(tmp_path / "1", requests)
    by_name = by_keras(case, kind)
    for name in ALL:
        parts = [answer for (wanted, _), answer in zip(requests, answers, strict=True) if wanted == name]
        received = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        expected = by_name[name]
        assert received.keys() == expected.keys(), name
        for key, value in expected.items():
            assert received[key].dtype == value.dtype, (name, key)
            tolerance = (1e-5 if target == "cpu" else 2e-5) if value.dtype == np.float32 else 0
            np.testing.assert_allclose(received[key], value, atol=tolerance, rtol=0, err_msg=f"{name} {key}")
