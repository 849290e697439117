"""What the messages about places to write to, and about Keras itself, say is done, and helps."""

import os
import pathlib
import shutil
import subprocess
import sys

import keras
import pytest

import keras_bert_layers as kbl

from .advice import advice, refused


@pytest.fixture
def write(preprocessor):
    """Something that writes a directory, in a second."""

    def write(directory, **options) -> None:
        words = keras.Input(shape=(None,), dtype="string")
        model = keras.Model(words, preprocessor(words))
        kbl.export_saved_model(model, directory, check=False, warmup=False, **options)
        assert (pathlib.Path(directory) / "saved_model.pb").exists()

    return write


@advice(
    "Give another name, or remove the file.",
    "Write the next version beside it, or replace it with overwrite=True.",
    "Give another directory, or remove this one yourself.",
    "Give another directory, or change who may write there.",
    "Remove the link, or give the directory itself.",
)
def test_what_stands_in_the_way(write, tmp_path):
    place, link = tmp_path / "1", tmp_path / "link"
    place.write_text("mine")
    with refused():
        write(place)
    with refused():
        write(place / "1")
    place.unlink()
    write(place)
    with refused():
        write(place)
    write(tmp_path / "2")
    write(place, overwrite=True)
    (place / "notes.txt").write_text("mine")
    with refused():
        write(place, overwrite=True)
    assert (place / "notes.txt").read_text() == "mine"
    shutil.rmtree(place)
    link.symlink_to(place)
    with refused():
        write(link)
    write(place)
    link.unlink()
    write(link)


@advice(
    "Bytes become a path with os.fsdecode(...).",
    "Give a local directory and copy it from or to that place",
    "Take NUL characters and halves of surrogate pairs out of it.",
)
def test_paths(write, tmp_path):
    with refused():
        write(os.fsencode(tmp_path / "1"))
    write(os.fsdecode(os.fsencode(tmp_path / "1")))
    with refused():
        write("gs://bucket/1")
    with refused():
        write(f"{tmp_path}/2\0")
    write(f"{tmp_path}/2\0".replace("\0", ""))


@advice(
    "Unset the variable (transformers finds tf_keras without it) and build models with `import keras`.",
    "Set the environment variable KERAS_BACKEND=tensorflow (or `backend` in ~/.keras/keras.json)",
    not_here="a fresh process each, whose messages are looked at here",
)
def test_the_environment(tmp_path):
    def imports(**variables) -> str:
        # transformers sets the first for its own process.
        unset = ("TF_USE_LEGACY_KERAS", "KERAS_BACKEND")
        environment = {name: value for name, value in os.environ.items() if name not in unset} | variables
        result = subprocess.run(
            [sys.executable, "-c", "import keras_bert_layers"], env=environment, capture_output=True, text=True
        )
        return result.stderr if result.returncode else ""

    assert "Unset the variable (transformers finds tf_keras without it)" in imports(TF_USE_LEGACY_KERAS="1")
    assert "Set the environment variable KERAS_BACKEND=tensorflow" in imports(KERAS_BACKEND="jax")
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    assert imports(KERAS_HOME=str(tmp_path)) == ""


@advice("Build the model with `import keras` (keras.Input, keras.Model).")
def test_a_legacy_model(preprocessor):
    legacy = pytest.importorskip("tf_keras")
    with refused():
        preprocessor(legacy.Input((), dtype="string"))
    text = keras.Input((), dtype="string")
    assert keras.Model(text, preprocessor(text)).count_params() == 0
