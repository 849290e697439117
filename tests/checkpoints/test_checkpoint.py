import ast
import dataclasses
import pathlib
import sys

import pytest

import keras_bert_layers.checkpoints
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint
from keras_bert_layers.checkpoints.weight_names import expected_shapes

from .tiny_checkpoints import pytorch_tensors, write_checkpoint


@pytest.fixture
def directory(tmp_path):
    return write_checkpoint(tmp_path / "bert", pytorch_tensors())


def test_names_and_shapes_are_the_expected_ones(directory):
    for path in (directory, str(directory)):
        checkpoint = read_checkpoint(path)
        shapes = {name: array.shape for name, array in checkpoint.weights.items()}
        assert list(shapes.items()) == list(expected_shapes(checkpoint.config, pooler=True).items())
        assert checkpoint.source == str(directory)


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_fewer_layers_and_no_pooler(directory, layers, pooler):
    checkpoint = read_checkpoint(directory, num_hidden_layers=layers, pooler=pooler)
    assert checkpoint.config.num_hidden_layers == 3
    # The pooler was trained on the last layer and is read with it alone.
    has_pooler = pooler and layers == 3
    assert checkpoint.has_pooler is has_pooler
    kept = dataclasses.replace(checkpoint.config, num_hidden_layers=layers)
    assert list(checkpoint.weights) == list(expected_shapes(kept, has_pooler))


@pytest.mark.parametrize("layers", [0, -1, 4, 1.0, True, "1"])
def test_a_wrong_number_of_layers(directory, layers):
    message = (
        f"an integer from 1 to 3, the number of layers in .*, or None for all. Received: num_hidden_layers={layers!r}"
    )
    with pytest.raises(ValueError, match=message):
        read_checkpoint(directory, num_hidden_layers=layers)


@pytest.mark.parametrize("source", [None, 3, {"config": {}}])
def test_a_source_of_another_type(source):
    with pytest.raises(
        TypeError, match=r"a TFBertModel in memory is expected. Received: source=.* of type .*HuggingFace"
    ):
        read_checkpoint(source)


def test_the_folder_imports_no_optional_package_and_no_other_part_of_this_one():
    # tensorflow only for SavedModels: safetensors and huggingface_hub are imported where they are used.
    allowed = {*sys.stdlib_module_names, "numpy", "tensorflow"}
    ours = ("keras_bert_layers.checkpoints.", "keras_bert_layers.local_path")
    (folder,) = keras_bert_layers.checkpoints.__path__
    files = list(pathlib.Path(folder).glob("*.py"))
    assert files
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                assert module.split(".")[0] in allowed or module.startswith(ours), file
