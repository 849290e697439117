import ast
import contextlib
import pathlib
import sys

import keras
import pytest
import tensorflow as tf

import keras_bert_layers.checkpoints
from keras_bert_layers import BertEncoder
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint
from keras_bert_layers.keras_compatibility import variables_without_values

from .tiny_checkpoints import expected_shapes, pytorch_tensors, write_checkpoint


@pytest.fixture
def directory(tmp_path):
    return write_checkpoint(tmp_path / "bert", pytorch_tensors())


def test_names_and_shapes_are_the_encoders(directory):
    for path in (directory, str(directory)):
        checkpoint = read_checkpoint(path)
        assert checkpoint.source == str(directory)
        encoder = BertEncoder(checkpoint.config)
        assert len(checkpoint) == len(encoder.weights)
        checkpoint.check(expected_shapes(encoder))


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_fewer_layers_and_no_pooler(directory, layers, pooler):
    checkpoint = read_checkpoint(directory, num_hidden_layers=layers)
    assert checkpoint.config.num_hidden_layers == 3
    encoder = BertEncoder(checkpoint.config, num_hidden_layers=layers, pooler=pooler)
    # The pooler was trained on the last layer and stands on it alone.
    assert encoder.has_pooler == (pooler and layers == 3)
    checkpoint.check(expected_shapes(encoder))


@pytest.mark.parametrize("layers", [0, -1, 4, 1.0, True, "1"])
def test_a_wrong_number_of_layers(directory, layers):
    message = f"from 1 to 3, the number of layers of the configuration. Received: num_hidden_layers={layers!r}"
    with pytest.raises(ValueError, match=message):
        BertEncoder.from_pretrained(directory, num_hidden_layers=layers)


@pytest.mark.parametrize(
    ("size", "value"), [("vocab_size", 2**31 - 1), ("max_position_embeddings", 2**31 - 1), ("hidden_size", 2**30)]
)
def test_a_claimed_size_is_compared_before_there_is_memory_for_it(tmp_path, size, value):
    write_checkpoint(tmp_path, pytorch_tensors(), **{size: value})
    with pytest.raises(ValueError, match=rf"(?s)instead of \[.*{value}.*\nTake the configuration and the weights from"):
        BertEncoder.from_pretrained(tmp_path)


def test_variables_of_a_block_that_fails_never_get_their_values():
    made = []

    def start(shape, dtype):
        made.append(shape)
        return tf.zeros(shape, dtype)

    with contextlib.suppress(InterruptedError), variables_without_values():
        keras.Variable(start, shape=(2, 3))
        raise InterruptedError
    with variables_without_values():
        variable = keras.Variable(start, shape=(4,))
        assert made == []
    assert made == [(4,)]
    assert variable.numpy().shape == (4,)


def test_what_was_read_frozen_trains_once_thawed(directory):
    encoder = BertEncoder.from_pretrained(directory, trainable=False)
    encoder.trainable = True
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder({"input_ids": [[1, 2, 3]]})["pooled_output"])
    assert all(gradient is not None for gradient in tape.gradient(loss, encoder.trainable_variables))


@pytest.mark.parametrize("source", [None, 3, {"config": {}}])
def test_a_source_of_another_type(source):
    with pytest.raises(
        TypeError, match=r"a TFBertModel in memory is expected. Received: source=.* of type .*HuggingFace"
    ):
        read_checkpoint(source)


def test_the_folder_imports_no_optional_package_and_no_other_part_of_this_one():
    # tensorflow only for SavedModels: safetensors and huggingface_hub are imported where they are used.
    allowed = {*sys.stdlib_module_names, "numpy", "tensorflow"}
    foundation = ("atomic_directory", "keras_compatibility", "local_path")
    ours = ("keras_bert_layers.checkpoints.", *(f"keras_bert_layers.{module}" for module in foundation))
    (folder,) = keras_bert_layers.checkpoints.__path__
    files = list(pathlib.Path(folder).rglob("*.py"))
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
