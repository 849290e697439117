"""The README's Python code runs as it stands, with a local checkpoint in place of the downloads."""

import pathlib
import re

import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from .tfhub_factory import make_tfhub_encoder

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_the_code_of_the_readme(tiny_bert_directory, vocabulary, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    first_page, wrappers, serving = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    hub_encoder = make_tfhub_encoder(tmp_path / "hub", vocabulary, num_layers=4)
    monkeypatch.chdir(tmp_path)
    names: dict = {}

    def run(code: str) -> None:
        code = code.replace("google-bert/bert-base-uncased", str(tiny_bert_directory))
        exec(re.sub(r"https://tfhub\.dev/[\w/.-]+", str(hub_encoder), code), names)

    run(first_page)
    run(wrappers)
    assert isinstance(names["encoder"], kbl.TFHubEncoder)
    run(serving)
    scores = tf.saved_model.load("serving/sentiment/1").signatures["serving_default"](text=tf.constant(["a"]))
    assert scores["scores"].shape == (1, 2)
