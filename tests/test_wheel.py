"""The wheel, built from the source distribution, works where there is nothing but it and what it says that it needs."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import venv

import pytest

ROOT = pathlib.Path(__file__).parents[1]
_USE = """
import importlib.util, pathlib, sys
import keras, numpy as np, tensorflow as tf
import keras_bert_layers as kbl

assert pathlib.Path(kbl.__file__).is_relative_to(sys.prefix), kbl.__file__
assert not any(importlib.util.find_spec(name) for name in ("transformers", "tensorflow_hub", "tf_keras", "sklearn"))
preprocessor = kbl.BertPreprocessor(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "caf", "##e"], sequence_length=8)
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
encoder = kbl.BertEncoder({"vocab_size": 7, **sizes}, combine="weighted")
text = keras.Input((), dtype="string", name="text")
ids = preprocessor(text)
vectors = kbl.SequencePooling("mean")(encoder(ids)["encoder_outputs"])
model = keras.Model(text, keras.layers.Dense(2, name="scores")(vectors))
# The table of Unicode and the list of the servers' operations are files of the package.
assert preprocessor("Café")["input_word_ids"].numpy()[0, :4].tolist() == [2, 5, 6, 3]
kbl.export_saved_model(model, "export/1", warmup=False)
served = tf.saved_model.load("export/1").signatures["serving_default"](text=tf.constant(["Café"]))["scores"]
np.testing.assert_allclose(served, model(tf.constant(["Café"])), atol=1e-5)
"""


def run(*command: object, cwd: pathlib.Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def link_requirements(distribution: importlib.metadata.Distribution, directory: pathlib.Path) -> set[str]:
    """Links what a distribution requires without extras, and what that requires; returns the names."""
    requirements = pytest.importorskip("packaging.requirements")
    linked: set[str] = set()
    unseen = [distribution]
    while unseen:
        for line in unseen.pop().requires or ():
            requirement = requirements.Requirement(line)
            if requirement.name in linked or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            linked.add(requirement.name)
            needed = importlib.metadata.distribution(requirement.name)
            unseen.append(needed)
            for top in {file.parts[0] for file in needed.files or ()} - {"..", "__pycache__"}:
                if not (directory / top).exists():
                    (directory / top).symlink_to(needed.locate_file(top))
    return linked


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment(tmp_path):
    pytest.importorskip("build")
    source = tmp_path / "source"
    others = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "tests", "benchmarks", "docs")
    shutil.copytree(ROOT, source, ignore=others)
    # The wheel comes from the source distribution, so that this is whole too.
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", source, cwd=tmp_path)
    shutil.rmtree(source)
    assert len(list((tmp_path / "dist").glob("*.tar.gz"))) == 1
    (wheel,) = (tmp_path / "dist").glob("*.whl")

    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (installed,) = importlib.metadata.distributions(name="keras-bert-layers", path=[str(site)])
    (tmp_path / "requirements").mkdir()
    assert "tensorflow-text" in link_requirements(installed, tmp_path / "requirements")
    (site / "requirements.pth").write_text(str(tmp_path / "requirements"), encoding="utf-8")

    run(python, "-W", "error::UserWarning", "-c", _USE, cwd=tmp_path)
    command_line = tmp_path / "env" / "bin" / "keras-bert-layers"
    assert "no errors" in run(command_line, "check", "export/1", cwd=tmp_path)
