"""Ids, masks and segment ids through all three encoders and an exported `ids` signature."""

import pathlib
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from ..encoders.tiny_encoders import SIZES, EncoderFactory
from ..tfhub_factory import make_tfhub_encoder
from .harness import Case, run_cases
from .made_files import VOCABULARY

pytestmark = pytest.mark.fuzz
POSITIONS, VOCABULARY_SIZE, TYPES = SIZES["max_position_embeddings"], SIZES["vocab_size"], 2
NAMES = ("input_word_ids", "input_mask", "input_type_ids")
Outputs = Callable[[dict[str, Any]], np.ndarray]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, Outputs]:
    """Name -> what gives the last layer for a dict of inputs."""
    folder = tmp_path_factory.mktemp("encoders")
    factory = EncoderFactory(make_tfhub_encoder(folder / "hub", max_positions=POSITIONS))
    found: dict[str, Outputs] = {}
    for kind in ("bert", "huggingface", "tfhub"):
        encoder = factory(kind, layers=-1, combine="sum")
        found[kind] = lambda inputs, encoder=encoder: encoder(inputs)["encoder_outputs"].numpy()
    found["ids signature"] = exported(folder / "1")
    return found


def exported(directory: pathlib.Path) -> Outputs:
    preprocessor = kbl.BertPreprocessor([*VOCABULARY, "more"], sequence_length=POSITIONS)
    text = keras.Input((), dtype="string", name="text")
    states = kbl.BertEncoder(kbl.BertConfig(**SIZES), layers=-1, combine="sum")(preprocessor(text))["encoder_outputs"]
    model = keras.Model(text, {"states": states})
    kbl.export_saved_model(model, directory, signatures=("serving_default", "ids"), warmup=False, check=False)
    loaded = tf.saved_model.load(str(directory))
    signature = loaded.signatures["ids"]

    def run(inputs: dict[str, Any]) -> np.ndarray:
        assert loaded is not None
        # A signature takes all of its inputs, as tensors.
        ids = tf.convert_to_tensor(inputs["input_word_ids"])
        full = {"input_mask": tf.ones_like(ids), "input_type_ids": tf.zeros_like(ids), **inputs}
        return signature(**{name: tf.convert_to_tensor(value) for name, value in full.items()})["states"].numpy()

    return run


def make_inputs(random: random.Random) -> tuple[dict[str, Any], bool | None, str]:
    """Inputs, whether they are right (None where either will do), and what was done to them."""
    batch, length = random.choice((1, 1, 2, 3)), random.choice((1, 2, 5, 8, POSITIONS))
    numbers = np.random.default_rng(random.randrange(2**32))
    mask = (np.arange(length)[None] < numbers.integers(1, length + 1, (batch, 1))).astype("int32")
    inputs: dict[str, Any] = {
        "input_word_ids": numbers.integers(0, VOCABULARY_SIZE, (batch, length), "int32"),
        "input_mask": mask,
        "input_type_ids": numbers.integers(0, TYPES, (batch, length), "int32"),
    }
    kind = random.choice(
        "none none none id id type wide dtype rank mask_shape mask_rows type_shape long empty hole values nan".split()
    )
    place = (random.randrange(batch), random.randrange(length))
    right: bool | None = True
    if kind == "id":
        inputs["input_word_ids"][place] = random.choice((-1, -7, VOCABULARY_SIZE, 2**31 - 1, -(2**31)))
        right = False if mask[place] else None
    elif kind == "type":
        inputs["input_type_ids"][place] = random.choice((-1, TYPES, 2**31 - 1))
        right = False if mask[place] else None
    elif kind == "wide":
        name = random.choice(("input_word_ids", "input_type_ids"))
        inputs[name] = inputs[name].astype("int64")
        inputs[name][place] += random.choice((2**32, -(2**32), 2**40))
        right = False if mask[place] else None
    elif kind == "dtype":
        name = random.choice(NAMES)
        dtype = random.choice(("int64", "uint8", "int8", "float32", "float64", "bool", "str", "complex64"))
        inputs[name] = inputs[name].astype(dtype)
        right = None if dtype not in ("str", "complex64") else False
    elif kind == "rank":
        name = random.choice(NAMES)
        inputs[name] = random.choice((inputs[name][0, 0], inputs[name][0], inputs[name][None], inputs[name][..., None]))
        right = False
    elif kind in ("mask_shape", "type_shape"):
        name = "input_mask" if kind == "mask_shape" else "input_type_ids"
        other = length + random.choice((-1, 1, 3))
        inputs[name] = np.ones((batch, other), "int32")
        right = False
    elif kind == "mask_rows":
        inputs[random.choice(NAMES)] = np.ones((batch + 1, length), "int32")
        right = False
    elif kind == "long":
        length = POSITIONS + random.choice((1, 2, 40))
        inputs = {name: np.ones((batch, length), "int32") for name in NAMES}
        right = False
    elif kind == "empty":
        shape = random.choice(((0, length), (batch, 0), (0, 0)))
        inputs = {name: np.ones(shape, "int32") for name in NAMES}
        right = None
    elif kind == "hole":
        inputs["input_mask"] = numbers.integers(0, 2, (batch, length), "int32")
    elif kind == "values":
        inputs["input_mask"][place] = random.choice((2, -1, 100))
        right = None
    elif kind == "nan":
        inputs["input_word_ids"] = inputs["input_word_ids"].astype("float32")
        inputs["input_word_ids"][place] = random.choice((np.nan, np.inf, 0.5))
        right = False if mask[place] else None
    if right and random.random() < 0.3:
        del inputs[random.choice(("input_mask", "input_type_ids"))]
    return inputs, right, kind


@pytest.mark.parametrize("name", ["bert", "huggingface", "tfhub", "ids signature"])
def test_ids(name, encoders):
    outputs = encoders[name]

    def make(random: random.Random) -> Case:
        inputs, right, kind = make_inputs(random)
        row = random.random()

        def run() -> None:
            found = outputs(inputs)
            assert right is not False, "answered"
            ids = np.asarray(inputs["input_word_ids"])
            assert found.shape == (*ids.shape, SIZES["hidden_size"])
            assert np.isfinite(found).all(), "not finite"
            if right and ids.size:
                mask = np.asarray(inputs.get("input_mask", np.ones_like(ids))).astype(bool)
                assert not found[~mask].any(), "not zero at padding"
                one = int(row * len(ids))
                alone = outputs({key: value[one : one + 1] for key, value in inputs.items()})
                np.testing.assert_allclose(alone, found[one : one + 1], atol=1e-5, rtol=0)

        forms = {key: f"{np.asarray(value).dtype}{np.shape(value)}" for key, value in inputs.items()}
        errors = (ValueError, TypeError, tf.errors.InvalidArgumentError)
        names = (*NAMES, "input_ids", "mask", "sequence")
        if name == "ids signature":
            # TensorFlow's own, for dtypes and ranks that a signature does not take.
            names += ("" if kind == "rank" else "was expected to be a", "Value for attr 'T'")
        return Case(f"{kind} {forms}", run, names, errors)

    run_cases(f"{name} ids", 750, make)
