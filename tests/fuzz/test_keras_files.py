"""Damaged `.keras` files through `keras.saving.load_model` in safe mode."""

import io
import json
import pathlib
import random
import sys
import zipfile
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from .harness import Case, run_cases
from .made_files import VOCABULARY
from .mutations import mutate_bytes, mutate_json

pytestmark = pytest.mark.fuzz
NAME = "qzxv"
OPENED: list[str] = []


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, bytes]:
    """Name of a member -> content, of a model with every kind of our layers that loads in safe mode."""
    text = keras.Input((), dtype="string", name="text")
    config = kbl.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    features = kbl.BertEncoder(config, combine=kbl.LayerCombination("weighted", layer_norm=True))(
        kbl.BertPreprocessor(VOCABULARY, sequence_length=8)(text)
    )
    pooled = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    file = tmp_path_factory.mktemp("saved") / "model.keras"
    keras.Model(text, keras.layers.Dense(2)(pooled)).save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def canary(tmp_path_factory) -> pathlib.Path:
    """A file that would pass for a vocabulary, and that nobody may open."""
    file = tmp_path_factory.mktemp("private") / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]) == str(file):
            OPENED.append(str(file))

    sys.addaudithook(hook)
    return file


def own_layers(value: Any) -> list[dict[str, Any]]:
    """The configurations of this package's objects, wherever they stand."""
    if isinstance(value, list):
        return [found for item in value for found in own_layers(item)]
    if not isinstance(value, dict):
        return []
    found = [found for item in value.values() for found in own_layers(item)]
    own = "keras_bert_layers" in str(value.get("registered_name") or value.get("module"))
    return [*found, value["config"]] if own and isinstance(value.get("config"), dict) else found


def zipped(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def test_configurations_of_our_layers(saved, canary, tmp_path):
    """A value of another kind is an error of a stated class, which Keras wraps; a path is data."""
    file = tmp_path / f"{NAME}.keras"

    def make(random: random.Random) -> Case:
        config = json.loads(saved["config.json"])
        target = random.choice(own_layers(config))
        changed, what = mutate_json(random, target)
        if random.random() < 0.15 and isinstance(changed, dict) and changed:
            key = random.choice(sorted(changed))
            changed[key], what = str(canary), f"{key} is the path of a file"
        target.clear()
        target.update(changed if isinstance(changed, dict) else {"name": changed})
        file.write_bytes(zipped({**saved, "config.json": json.dumps(config).encode()}))

        def run() -> None:
            OPENED.clear()
            try:
                model = keras.saving.load_model(file)
            finally:
                assert not OPENED, "a file that the configuration names was opened"
                assert {entry.name for entry in tmp_path.iterdir()} == {file.name}, "something was written"
            assert np.isfinite(model(tf.constant(["good films"]))).all()

        # Keras writes the configuration into its own message; others name the argument, as `this`.
        names = (NAME, "deserialize", "Bert", "DTypePolicy", "Layer", "layer", "vocabulary", "config", "weights", "`")
        return Case(what, run, names)

    run_cases("configurations in .keras files", 400, make)


def test_files(saved, tmp_path):
    """Keras reads the zip, so the class of the error is Keras's; a crash, a hang and a written file are not."""
    file = tmp_path / f"{NAME}.keras"

    def make(random: random.Random) -> Case:
        members, content = dict(saved), None
        if random.random() < 0.5:
            content, what = mutate_bytes(random, zipped(members))
        else:
            name = random.choice(sorted(members))
            members[name], what = mutate_bytes(random, members[name])
            what = f"{name}: {what}"
            if random.random() < 0.2:
                members[random.choice(("../../x", "/tmp/qzxv/x", "assets/../../x"))] = b"x"
        file.write_bytes(content if content is not None else zipped(members))

        def run() -> None:
            try:
                keras.saving.load_model(file)
            finally:
                assert {entry.name for entry in tmp_path.iterdir()} == {file.name}, "something was written"
                assert not pathlib.Path("/tmp/qzxv").exists(), "something was written"

        return Case(what, run, ("",), (Exception,))

    run_cases(".keras files", 300, make)
