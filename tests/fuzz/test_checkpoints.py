"""Damaged checkpoint directories through `BertEncoder.from_pretrained`."""

import dataclasses
import random

import numpy as np
import pytest
import safetensors.numpy

import keras_bert_layers as kbl

from .directories import Directory
from .harness import Case, run_cases
from .made_files import checkpoint_files
from .mutations import HOSTILE, mutate_file, mutate_json, safetensors_bytes, safetensors_parts

pytestmark = pytest.mark.fuzz
# A word that no sentence has.
NAME = "qzxv"


@pytest.fixture(scope="module")
def directories(tmp_path_factory) -> list[Directory]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return [Directory(folder / f"{NAME}{shards}", checkpoint_files(shards)) for shards in (False, True)]


def damage(random: random.Random, directory: Directory) -> str:
    """Changes one file, and now and then another."""
    done = []
    for _ in range(random.choice((1, 1, 1, 2))):
        name = random.choice([*directory.files, *(["config.json"] * 2)])
        file = directory.dirty(name)
        if name.endswith(".safetensors") and file.is_file() and random.random() < 0.6:
            try:
                header, data = safetensors_parts(file.read_bytes())
            except (ValueError, RecursionError):
                continue
            if random.random() < 0.2:
                values = np.frombuffer(data[: len(data) // 4 * 4], "float32").copy()
                values[random.randrange(len(values))] = random.choice((np.nan, np.inf, -np.inf))
                data, what = values.tobytes(), "a weight that is not finite"
            else:
                header, what = mutate_json(random, header)
            file.write_bytes(safetensors_bytes(header, data))
            done.append(f"{name}: {what}")
        else:
            done.append(mutate_file(random, file, [directory.path / other for other in directory.files]))
    return ", ".join(done)


def check_weights(directory: Directory, encoder: kbl.BertEncoder) -> None:
    """All that was loaded is in the files, as the safetensors package reads them, and finite."""
    stored = []
    for file in directory.path.glob("*.safetensors"):
        try:
            stored += safetensors.numpy.load_file(file).values()
        except KeyError:
            # A dtype that NumPy does not have.
            return
    for weight in encoder.weights:
        value = weight.numpy()
        assert np.isfinite(value).all(), f"{weight.path} is not finite"
        same = (other for other in stored if other.T.shape == value.shape or other.shape == value.shape)
        forms = ([other, other.T] if other.ndim == 2 else [other] for other in same)
        found = any(f.shape == value.shape and np.array_equal(f.astype("float32"), value) for fs in forms for f in fs)
        assert found, f"{weight.path} is in no file"


def test_encoders(directories):
    def make(random: random.Random) -> Case:
        directory = random.choice(directories)
        directory.restore()
        what = damage(random, directory)
        options = random.choice(({}, {}, {"layers": random.choice(("last4", 0, [1, 0]))}, {"num_hidden_layers": 1}))

        def run() -> None:
            before = directory.listing()
            try:
                encoder = kbl.BertEncoder.from_pretrained(directory.path, combine=None, **options)
            finally:
                assert directory.listing() == before, "something was written"
            check_weights(directory, encoder)

        return Case(f"{options} {what}", run, (NAME, *directory.files, *options))

    run_cases("checkpoints", 3000, make)


def test_configurations():
    """`BertConfig` and the encoder's own arguments, of any value."""
    sizes = {field.name: field.default for field in dataclasses.fields(kbl.BertConfig)}
    sizes |= {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 12, "max_position_embeddings": 16}
    arguments = {"layers": "all", "combine": "mean", "num_hidden_layers": None, "pooler": True, "trainable": True}
    arguments |= {"hidden_dropout": None, "attention_dropout": None, "return_attention_scores": False}

    def make(random: random.Random) -> Case:
        config, own = dict(sizes), dict(arguments)
        target = random.choice((config, config, own))
        name = random.choice(sorted(target))
        target[name] = random.choice(HOSTILE)
        # A model of that size may be meant.
        large = isinstance(target[name], (int, float)) and not 0 <= abs(target[name]) < 100

        def run() -> None:
            made = kbl.BertConfig(**config)
            if not large:
                kbl.BertEncoder(made, **own)

        return Case(f"{name}={str(target[name])[:50]!r}", run, (name, "LayerCombination"))

    run_cases("configurations", 1000, make)
