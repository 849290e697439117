"""Damaged exports and cards through `kbl.serving.check`, which has findings and no exceptions."""

import pathlib
import random

import keras
import pytest

import keras_bert_layers as kbl

from .directories import Directory
from .harness import Case, run_cases
from .made_files import VOCABULARY
from .mutations import mutate_file

pytest.importorskip("tensorflow_serving")
pytestmark = pytest.mark.fuzz
NAME = "qzxv"
CARD = "keras_bert_layers.json"


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Directory:
    folder = tmp_path_factory.mktemp("exports")
    text = keras.Input((), dtype="string", name="text")
    config = kbl.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    features = kbl.BertEncoder(config, layers=-1, combine="sum", pooler=False)(
        kbl.BertPreprocessor(VOCABULARY, sequence_length=8)(text)
    )
    pooled = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    model = keras.Model(text, {"scores": keras.layers.Dense(2)(pooled)})
    kbl.export_saved_model(model, folder / "1", check=False)
    files = {
        str(file.relative_to(folder / "1")): file.read_bytes() for file in (folder / "1").rglob("*") if file.is_file()
    }
    (folder / NAME).mkdir()
    return Directory(folder / NAME / "1", files)


def findings(path: pathlib.Path) -> list[kbl.serving.Finding]:
    return kbl.serving.check(path, run=False)


def test_sound(directory):
    directory.restore()
    assert not [finding for finding in findings(directory.path) if finding.severity == "error"]


def run_damaged(directory: Directory, boundary: str, count: int, cards: bool) -> None:
    def make(random: random.Random) -> Case:
        directory.restore()
        others = [directory.path / other for other in directory.files]
        names = [CARD if cards else random.choice(sorted(directory.files)) for _ in range(random.choice((1, 1, 2)))]
        what = ", ".join(mutate_file(random, directory.dirty(name), others) for name in names)

        def run() -> None:
            before = directory.listing()
            found = findings(directory.path)
            assert directory.listing() == before, "something was written"
            assert all(finding.where and finding.problem and finding.fix and str(finding) for finding in found)

        # No error at all: a damaged export is a finding.
        return Case(what, run, ("",), ())

    run_cases(boundary, count, make)


def test_cards(directory):
    run_damaged(directory, "cards", 1500, cards=True)


def test_exports(directory):
    run_damaged(directory, "exports", 1500, cards=False)
