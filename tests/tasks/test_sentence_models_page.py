"""The code of docs/sentence-models.md runs as it stands, with a tiny model in place of the downloads."""

import pathlib
import re

import keras_bert_layers as kbl

from .sentence_models import HIDDEN, Module, write_sentence_model

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "sentence-models.md"


def test_the_code_of_the_page(tiny_bert_directory, tmp_path, monkeypatch):
    chain = [Module("Pooling", {"embedding_dimension": HIDDEN, "pooling_mode": "mean"}), Module("Normalize")]
    directory = write_sentence_model(tmp_path / "model", tiny_bert_directory, chain)
    monkeypatch.chdir(tmp_path)
    # What an export is, others test.
    exported = {}
    monkeypatch.setattr(kbl, "export_saved_model", lambda model, path, **options: exported.update({path: options}))
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(re.sub(r'"(sentence-transformers|intfloat)/[\w-]+"', repr(str(directory)), code), names)
    assert names["vectors"].shape == (2, HIDDEN)
    assert exported["serving/minilm/1"] == {}
    assert set(exported["serving/e5/1"]["signatures"]) == {"embed", "embed_query", "embed_document"}
