"""What `overwrite=True` replaces: what the same function wrote."""

import numpy as np
import pytest

from keras_bert_layers import analysis


def extract(encoder, preprocessor, directory, **options):
    analysis.extract_embeddings(encoder, preprocessor, ["a", "b"], directory=directory, pooling="mean", **options)


def project(encoder, preprocessor, directory, **options):
    analysis.write_projector(encoder, preprocessor, ["a", "b"], directory, ["one", "two"], **options)


@pytest.mark.parametrize("write", [extract, project])
def test_only_its_own(write, made_encoder, preprocessor, tmp_path):
    write(made_encoder, preprocessor, tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").rglob("*") if "tfevents" not in path.name)
    write(made_encoder, preprocessor, tmp_path / "out", overwrite=True)
    after = sorted(path.name for path in (tmp_path / "out").rglob("*") if "tfevents" not in path.name)
    assert before == after
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds 'thesis.txt', which is not written here, and is kept"):
        write(made_encoder, preprocessor, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_file_is_replaced_by_its_own_kind_alone(made_encoder, preprocessor, tmp_path, monkeypatch):
    first, second = (
        analysis.extract_embeddings(made_encoder, preprocessor, texts, pooling="mean") for texts in (["a"], ["a", "b"])
    )
    first.save(tmp_path / "new" / "vectors.npz")
    second.save(tmp_path / "new" / "vectors.npz")
    assert len(analysis.Embeddings.load(tmp_path / "new" / "vectors.npz").vectors) == 2
    (tmp_path / "thesis.txt").write_text("mine")
    np.savez(tmp_path / "others.npz", vectors=[1])
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    for path in [*before, tmp_path / "new"]:
        with pytest.raises(FileExistsError, match="which is something else, and is kept. Give another name"):
            first.save(path)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    # What fails leaves the older file whole, and nothing beside it.
    monkeypatch.setattr(np, "savez", lambda file, **_: file.write(b"half") / 0)
    with pytest.raises(ZeroDivisionError):
        first.save(tmp_path / "new" / "vectors.npz")
    assert len(analysis.Embeddings.load(tmp_path / "new" / "vectors.npz").vectors) == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["vectors.npz"]
