"""What `overwrite=True` replaces: what the same function wrote."""

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
