import json

import pytest

from keras_bert_layers.checkpoints.shard_index import read_shard_names


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/x.safetensors", "a/../../x", "..\\x", "C:\\x", "C:x", "..", "x" * 5000, 1, None, {}]
)
def test_a_path_that_leaves_the_directory_is_refused(tmp_path, name):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": name}}))
    with pytest.raises(ValueError, match=r"index.json is expected to name files in its own directory. Received: "):
        read_shard_names(index)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": "x"}'])
def test_what_is_no_index_is_refused(tmp_path, content):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(ValueError, match=r"index.json is expected to be the index of a sharded checkpoint"):
        read_shard_names(index)
