import json
import logging
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_bert_layers import BertEncoder
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint

from .tiny_checkpoints import pytorch_tensors, write_checkpoint, write_config, write_sharded_checkpoint


def assert_holds(checkpoint, tensors):
    """The weights of the checkpoint are these tensors; the pairs are written out here, apart from the tables."""
    weights = checkpoint
    np.testing.assert_array_equal(weights["embeddings/word_embeddings"], tensors["embeddings.word_embeddings.weight"])
    np.testing.assert_array_equal(weights["embeddings/layer_norm/gamma"], tensors["embeddings.LayerNorm.weight"])
    np.testing.assert_array_equal(weights["embeddings/layer_norm/beta"], tensors["embeddings.LayerNorm.bias"])
    for i in range(checkpoint.config.num_hidden_layers):
        theirs, ours = f"encoder.layer.{i}.", f"layer_{i + 1}/"
        for name in ("query", "key", "value"):
            np.testing.assert_array_equal(
                weights[f"{ours}attention/{name}/kernel"], tensors[f"{theirs}attention.self.{name}.weight"].T
            )
        for their_part, our_part in [
            ("attention.output.LayerNorm", "attention/layer_norm"),
            ("output.LayerNorm", "feed_forward/layer_norm"),
        ]:
            np.testing.assert_array_equal(weights[f"{ours}{our_part}/gamma"], tensors[f"{theirs}{their_part}.weight"])
            np.testing.assert_array_equal(weights[f"{ours}{our_part}/beta"], tensors[f"{theirs}{their_part}.bias"])
        for their_part, our_part in [
            ("attention.output.dense", "attention/output"),
            ("intermediate.dense", "feed_forward/intermediate"),
            ("output.dense", "feed_forward/output"),
        ]:
            np.testing.assert_array_equal(
                weights[f"{ours}{our_part}/kernel"], tensors[f"{theirs}{their_part}.weight"].T
            )
            np.testing.assert_array_equal(weights[f"{ours}{our_part}/bias"], tensors[f"{theirs}{their_part}.bias"])
    if checkpoint.has_pooler:
        np.testing.assert_array_equal(weights["pooler/kernel"], tensors["pooler.dense.weight"].T)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in weights.values())


@pytest.mark.parametrize("prefix", ["", "bert.", "module._orig_mod.bert.", "0.auto_model."])
@pytest.mark.parametrize(("scale", "shift"), [("weight", "bias"), ("gamma", "beta")])
@pytest.mark.parametrize("pooler", [True, False])
def test_each_way_of_naming(tmp_path, prefix, scale, shift, pooler):
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, pytorch_tensors(prefix, scale, shift, pooler)))
    assert checkpoint.has_pooler is pooler
    assert len(checkpoint) == 5 + 16 * 3 + 2 * pooler
    assert_holds(checkpoint, pytorch_tensors(pooler=pooler))


def test_a_sharded_checkpoint(tmp_path):
    tensors = pytorch_tensors()
    assert_holds(read_checkpoint(write_sharded_checkpoint(tmp_path, tensors)), tensors)


def test_one_file_comes_before_an_index(tmp_path):
    tensors = pytorch_tensors()
    write_sharded_checkpoint(tmp_path, pytorch_tensors(hidden_size=4))
    assert_holds(read_checkpoint(write_checkpoint(tmp_path, tensors)), tensors)


def test_what_transformers_writes_in_shards(tmp_path, tiny_tfbertmodel):
    tiny_tfbertmodel.save_pretrained(tmp_path, safe_serialization=True, max_shard_size="2KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    ours, theirs = read_checkpoint(tmp_path), read_checkpoint(tiny_tfbertmodel)
    assert ours.config == theirs.config
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_other_precisions_become_float32(tmp_path, dtype):
    tensors = {name: array.astype(dtype) for name, array in pytorch_tensors().items()}
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, tensors))
    assert_holds(checkpoint, {name: array.astype("float32") for name, array in tensors.items()})


def test_other_parts_of_a_model_are_named_in_a_debug_log(tmp_path, caplog):
    others = {
        "bert.embeddings.position_ids": np.arange(16),
        "cls.predictions.bias": np.zeros(30, "float32"),
        "classifier.weight": np.zeros((2, 8), "float32"),
        "qa_outputs.bias": np.zeros(2, "float32"),
        "crf.transitions": np.zeros((2, 2), "float32"),
    }
    with caplog.at_level(logging.DEBUG, logger="keras_bert_layers"):
        checkpoint = read_checkpoint(write_checkpoint(tmp_path, pytorch_tensors("bert.") | others))
    assert_holds(checkpoint, pytorch_tensors())
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert all(name in record.getMessage() for name in others)


def test_reading_is_lazy_and_layers_above_are_never_read(tmp_path, monkeypatch):
    import safetensors

    read = []

    class Recorder:
        def __init__(self, *args, **kwargs):
            self.handle = real_safe_open(*args, **kwargs)

        def __getattr__(self, name):
            return getattr(self.handle, name)

        def get_tensor(self, name):
            read.append(name)
            return self.handle.get_tensor(name)

    real_safe_open = safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", Recorder)
    write_checkpoint(tmp_path, pytorch_tensors())
    checkpoint = read_checkpoint(tmp_path)
    assert "embeddings/word_embeddings" in checkpoint
    assert read == []
    assert checkpoint["layer_1/attention/query/bias"].shape == (8,)
    assert read == ["encoder.layer.0.attention.self.query.bias"]
    read.clear()
    BertEncoder.from_pretrained(tmp_path, num_hidden_layers=2)
    assert len(read) == 5 + 16 * 2
    assert not [name for name in read if name.startswith(("encoder.layer.2", "pooler"))]


def test_the_real_checkpoint_without_pooler(data_directory):
    from safetensors.numpy import load_file

    directory = data_directory / "checkpoints" / "huggingface_tiny_no_pooler"
    checkpoint = read_checkpoint(directory)
    assert not checkpoint.has_pooler
    assert checkpoint.config.num_hidden_layers == 2
    assert_holds(checkpoint, load_file(directory / "model.safetensors"))


def test_no_weights_file(tmp_path):
    write_config(tmp_path)
    (tmp_path / "vocab.txt").touch()
    expected = (
        r"expected to hold model.safetensors or model.safetensors.index.json or pytorch_model.bin or .*tf_model.h5 or "
        r"bert_model.ckpt.index. Received: config.json, vocab.txt. Give"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("file", "way_out"),
    [
        ("pytorch_model-00001-of-00002.bin", r"AutoModel \(needs PyTorch\): `model = AutoModel.from_pretrained"),
        (
            "tf_model-00001-of-00002.h5",
            r"TFAutoModel: `model = TFAutoModel.from_pretrained",
        ),
    ],
)
def test_weights_in_another_format_get_a_way_out(tmp_path, file, way_out):
    write_config(tmp_path)
    (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError, match=f"Its weights are only in {file}. Save it once more .*{way_out}"):
        read_checkpoint(tmp_path)


def test_a_git_lfs_pointer(tmp_path):
    write_config(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match=r"model.safetensors is expected.*Git LFS pointer.*git lfs pull"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("size", [5, 200, -1])
def test_a_truncated_file(tmp_path, size):
    file = write_checkpoint(tmp_path, pytorch_tensors()) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model.safetensors is expected to be a complete safetensors file.*truncated"):
        read_checkpoint(tmp_path)


def test_a_corrupt_file(tmp_path):
    file = write_checkpoint(tmp_path, pytorch_tensors()) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[8:20] = b"\xff" * 12
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated or corrupt \(.*\). Copy or download it again"):
        read_checkpoint(tmp_path)


def test_a_missing_shard(tmp_path):
    write_sharded_checkpoint(tmp_path, pytorch_tensors())
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"Received: a directory without model-00002-of-00003.safetensors."):
        read_checkpoint(tmp_path)


def test_an_index_that_leaves_the_directory(tmp_path):
    save_file(pytorch_tensors(), tmp_path / "secret.safetensors")
    write_config(tmp_path / "inner")
    index = {"weight_map": {"embeddings.LayerNorm.weight": "../secret.safetensors"}}
    (tmp_path / "inner" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"files in its own directory. Received: '../secret.safetensors'"):
        read_checkpoint(tmp_path / "inner")


def test_a_weight_in_two_shards(tmp_path):
    write_sharded_checkpoint(tmp_path, pytorch_tensors(), shards=2)
    name = "embeddings.LayerNorm.weight"
    for number in (1, 2):
        save_file({name: np.zeros(8, "float32")}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    with pytest.raises(ValueError, match=f"in one file. Received: '{name}' twice .*model-00002-of-00002.safetensors"):
        read_checkpoint(tmp_path)


def test_one_weight_under_two_names(tmp_path):
    write_checkpoint(tmp_path, pytorch_tensors() | pytorch_tensors("bert."))
    with pytest.raises(ValueError, match=r"expected once. Received: both 'bert\..*' and '.*' in "):
        read_checkpoint(tmp_path)


def test_heads_that_are_called_as_parts_of_bert(tmp_path):
    heads = {
        "pooler.dense.weight": np.zeros((2, 8), "float32"),
        "pooler.dense.bias": np.zeros(2, "float32"),
        "encoder.layer.0.output.dense.weight": np.zeros((2, 8), "float32"),
        "embeddings.extra": np.zeros(2, "float32"),
    }
    assert_holds(read_checkpoint(write_checkpoint(tmp_path, pytorch_tensors("bert.") | heads)), pytorch_tensors())


@pytest.mark.parametrize(
    ("value", "dtype"), [(np.nan, "float32"), (np.inf, "float16"), (-np.inf, ml_dtypes.bfloat16), (1e300, "float64")]
)
def test_numbers_that_are_not_finite(tmp_path, value, dtype):
    tensors = {name: array.astype(dtype) for name, array in pytorch_tensors().items()}
    name = "encoder.layer.1.output.dense.weight"
    tensors[name][3, 5] = value
    write_checkpoint(tmp_path, tensors)
    message = rf"Received: 1 of 96 numbers NaN or infinite \(in float32\) in the weight '{name}' in .*model.safetensors"
    with pytest.raises(ValueError, match=message):
        dict(read_checkpoint(tmp_path))
    # Of a layer that is left out nothing is read.
    BertEncoder.from_pretrained(tmp_path, num_hidden_layers=1)


def test_finite_numbers_whose_sum_is_not(tmp_path):
    tensors = pytorch_tensors() | {"embeddings.LayerNorm.bias": np.full(8, 3e38, "float32")}
    assert_holds(read_checkpoint(write_checkpoint(tmp_path, tensors)), tensors)


def test_quantised_weights(tmp_path):
    tensors = pytorch_tensors()
    name = "encoder.layer.0.attention.self.query.weight"
    write_checkpoint(tmp_path, tensors | {name: tensors[name].astype("int8")})
    with pytest.raises(
        ValueError, match=rf"floating-point numbers are expected.*Received: '{name}' as I8 in .*model.safetensors"
    ):
        read_checkpoint(tmp_path)


def test_weights_that_do_not_fit_the_configuration(tmp_path):
    tensors = pytorch_tensors("bert.", type_vocab_size=1, num_hidden_layers=4)
    del tensors["bert.pooler.dense.bias"]
    tensors["bert.embeddings.scale"] = np.ones(1, "float32")
    write_checkpoint(tmp_path, tensors, intermediate_size=11)
    with pytest.raises(ValueError, match=f"The weights in {tmp_path} are expected") as caught:
        BertEncoder.from_pretrained(tmp_path)
    message = str(caught.value)
    assert "1 missing:\n    pooler/bias\n" in message
    assert "17 unexpected:" in message
    assert "10 of another shape:" in message
    assert "embeddings/token_type_embeddings [1, 8] instead of [2, 8]" in message
    assert "layer_1/feed_forward/intermediate/kernel [8, 12] instead of [8, 11]" in message


@pytest.mark.parametrize("layers", [4, 1000])
def test_more_layers_in_the_configuration_than_in_the_file(tmp_path, layers):
    write_checkpoint(tmp_path, pytorch_tensors() | {"my.head": np.ones(1)}, num_hidden_layers=layers)
    with pytest.raises(ValueError, match=f"The weights in {tmp_path} are expected") as caught:
        read_checkpoint(tmp_path)
    assert f"num_hidden_layers={layers} in the configuration, and weights of 3 layers." in str(caught.value)
    assert "1 of other parts:\n    my.head\n" in str(caught.value)
    # The layers that are there can be had.
    assert BertEncoder.from_pretrained(tmp_path, num_hidden_layers=3).num_layers == 3


def test_names_that_no_bert_has_are_shown(tmp_path):
    tensors = {f"backbone.{name}".replace("encoder.layer", "blocks"): a for name, a in pytorch_tensors().items()}
    with pytest.raises(ValueError, match="weights of 0 layers") as caught:
        read_checkpoint(write_checkpoint(tmp_path, tensors))
    assert "48 of other parts:\n    backbone.blocks.0.attention" in str(caught.value)


def test_a_header_of_more_names_than_any_model_has(tmp_path):
    write_config(tmp_path)
    entry = '"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(entry % number for number in range(300_000)) + "}").encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"safetensors file with a header of at most 16,777,216 bytes. Received: a"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("nothing")])
@pytest.mark.parametrize(
    "file",
    ["config.json", "model.safetensors", "model.safetensors.index.json", "model-00002-of-00003.safetensors"],
)
def test_what_stands_in_place_of_a_file_is_named(tmp_path, file, make):
    write_sharded_checkpoint(tmp_path, pytorch_tensors())
    (tmp_path / file).unlink(missing_ok=True)
    make(tmp_path / file)
    with pytest.raises((FileNotFoundError, ValueError), match=f"{tmp_path / file} is expected to be a file. Received"):
        read_checkpoint(tmp_path)


def test_relative_positions_are_refused_before_the_weights_are_looked_for(tmp_path):
    write_config(tmp_path, position_embedding_type="relative_key")
    with pytest.raises(ValueError, match=r"config.json cannot be used.*position_embedding_type='relative_key'"):
        read_checkpoint(tmp_path)
