"""Every format of a directory gives the same weights, exactly, and real files of each load."""

import json
import logging
import pathlib
import shutil
import tarfile

import h5py
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import keras_bert_layers as kbl
from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint
from keras_bert_layers.checkpoints.name_table import NameTable
from keras_bert_layers.checkpoints.naming_scheme import GOOGLE, PYTORCH, TENSORFLOW

from .tiny_checkpoints import pytorch_tensors, write_checkpoint, write_config
from .torch_writer import save_torch

TENSORS = pytorch_tensors("bert.")


def in_scheme(scheme) -> dict[str, np.ndarray]:
    """The tiny BERT's weights by the names of TensorFlow."""
    theirs, table = NameTable(ARCHITECTURES["bert"], PYTORCH), NameTable(ARCHITECTURES["bert"], scheme)
    named = {theirs.ours(name.removeprefix("bert.")): values for name, values in TENSORS.items()}
    return {table.theirs(name): values.T if "/kernel" in f"/{name}" else values for name, values in named.items()}


def write_bin(directory: pathlib.Path) -> None:
    save_torch(directory / "pytorch_model.bin", TENSORS | {"bert.embeddings.position_ids": np.arange(16)[None]})


def write_legacy_bin(directory: pathlib.Path) -> None:
    save_torch(directory / "pytorch_model.bin", TENSORS, legacy=True)


def write_sharded_bin(directory: pathlib.Path) -> None:
    names = sorted(TENSORS)
    files = {f"pytorch_model-0000{number + 1}-of-00002.bin": names[number::2] for number in range(2)}
    for file, part in files.items():
        save_torch(directory / file, {name: TENSORS[name] for name in part})
    weight_map = {name: file for file, part in files.items() for name in part}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write_google(directory: pathlib.Path, prefix: str = "", file: str = "bert_model.ckpt") -> None:
    (directory / "config.json").rename(directory / "bert_config.json")
    weights = {f"{prefix}bert/{name}": values for name, values in in_scheme(GOOGLE).items()}
    # What an optimiser keeps, a counter, and a head.
    others = {f"{name}/adam_{slot}": np.ones_like(values) for name, values in weights.items() for slot in "mv"}
    others |= {"global_step": np.int64(3), "cls/squad/output_bias": np.ones(2)}
    save_tensorflow(directory / file, weights | others)


def save_tensorflow(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(values) for values in tensors.values()],
    )


def write_h5(directory: pathlib.Path) -> None:
    with h5py.File(directory / "tf_model.h5", "w") as file:
        for name, values in in_scheme(TENSORFLOW).items():
            file[f"bert/tf_bert_for_pre_training/bert/{name}:0"] = values
        file["mlm___cls/tf_bert_for_pre_training/mlm___cls/predictions/bias:0"] = np.ones(3, "float32")


FORMS = {
    "bin": write_bin,
    "legacy bin": write_legacy_bin,
    "sharded bin": write_sharded_bin,
    "h5": write_h5,
    "google": write_google,
    "google, trained on": lambda directory: write_google(directory, "model/", "model.ckpt-1200"),
}


def write(directory: pathlib.Path, form: str) -> pathlib.Path:
    write_config(directory)
    FORMS[form](directory)
    return directory


def assert_equal(found, expected) -> None:
    assert set(found) == set(expected)
    assert found.has_pooler
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_are_those_of_safetensors(tmp_path, form):
    expected = read_checkpoint(write_checkpoint(tmp_path / "safetensors", TENSORS))
    assert_equal(read_checkpoint(write(tmp_path / "other", form)), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_become_float32(tmp_path, dtype):
    tensors = {name: values.astype(getattr(ml_dtypes, dtype, dtype)) for name, values in TENSORS.items()}
    write_config(tmp_path)
    save_torch(tmp_path / "pytorch_model.bin", tensors)
    found = read_checkpoint(tmp_path)
    for name, values in read_checkpoint(write_checkpoint(tmp_path / "safetensors", tensors)).items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], values)


def test_the_first_of_several_formats_is_read_and_named(tmp_path, caplog):
    write_checkpoint(tmp_path, TENSORS)
    write_bin(tmp_path)
    write_h5(tmp_path)
    save_tensorflow(tmp_path / "bert_model.ckpt", {f"bert/{name}": v for name, v in in_scheme(GOOGLE).items()})
    expected = dict(read_checkpoint(tmp_path))
    for file in ("model.safetensors", "pytorch_model.bin", "tf_model.h5", "bert_model.ckpt.index"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert_equal(read_checkpoint(tmp_path), expected)
        assert file == "bert_model.ckpt.index" or f"several formats; {file} is read" in caplog.text
        # Whatever comes first is read, and where it is damaged nothing else is.
        whole = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(b"damaged" * 9)
        with pytest.raises(ValueError, match=file):
            read_checkpoint(tmp_path)
        (tmp_path / file).write_bytes(whole)
        (tmp_path / file).unlink()


def test_what_transformers_wrote(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=12, max_position_embeddings=16)
    model = transformers.TFBertForSequenceClassification(config)
    model(model.dummy_inputs)
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "tf_model.h5").exists()
    found = read_checkpoint(tmp_path)
    for name, values in read_checkpoint(model).items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("name", ["google_tiny", "huggingface_bin_token_classifier", "huggingface_bin_legacy"])
def test_real_checkpoints(data_directory, tmp_path, name):
    directory = pathlib.Path(shutil.copytree(data_directory / "checkpoints" / name, tmp_path / name))
    for archive in directory.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            content = tar.extractfile("pytorch_model.bin").read()
        (directory / "pytorch_model.bin").write_bytes(content)
    encoder = kbl.BertEncoder.from_pretrained(directory, combine="mean")
    outputs = encoder({"input_ids": np.array([[2, 5, 3]])})
    assert np.isfinite(outputs["encoder_outputs"]).all()
    if name == "google_tiny":
        reader = tf.train.load_checkpoint(str(directory / "bert_model.ckpt"))
        expected = reader.get_tensor("bert/encoder/layer_1/attention/self/query/kernel")
        np.testing.assert_array_equal(read_checkpoint(directory)["layer_2/attention/query/kernel"], expected)


# What is refused.


def test_whole_numbers_as_weights(tmp_path):
    write_config(tmp_path)
    name = "bert.pooler.dense.weight"
    save_torch(tmp_path / "pytorch_model.bin", TENSORS | {name: np.ones((8, 8), "int64")})
    with pytest.raises(ValueError, match="floating-point numbers. Received: 'bert.pooler.dense.weight' as int64"):
        read_checkpoint(tmp_path)


def test_a_tensor_outside_the_file_is_refused_when_it_is_a_weight(tmp_path):
    from .torch_writer import Tensor

    write_config(tmp_path)
    save_torch(tmp_path / "pytorch_model.bin", TENSORS | {"bert.pooler.dense.bias": Tensor(np.ones(4), shape=(8,))})
    with pytest.raises(ValueError, match=r"the weight 'bert.pooler.dense.bias' to lie in"):
        read_checkpoint(tmp_path)


def test_shards_that_are_missing(tmp_path):
    write(tmp_path, "sharded bin")
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"without pytorch_model-00002-of-00002.bin"):
        read_checkpoint(tmp_path)


def test_checkpoints_of_tensorflow(tmp_path):
    write(tmp_path, "google")
    shutil.copy(tmp_path / "bert_model.ckpt.index", tmp_path / "bert_model.ckpt-7.index")
    with pytest.raises(ValueError, match=r"Expected one checkpoint .*bert_model.ckpt-7.index, bert_model.ckpt.index"):
        read_checkpoint(tmp_path)
    (tmp_path / "bert_model.ckpt-7.index").unlink()
    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    for content in (whole[:100], b"", None):
        data.unlink()
        if content is not None:
            data.write_bytes(content)
        with pytest.raises((ValueError, OSError), match=r"bert_model.ckpt"):
            dict(read_checkpoint(tmp_path))
        data.write_bytes(whole)


@pytest.mark.parametrize("kind", ["external", "virtual", "compressed", "link", "no file"])
def test_files_of_hdf5(tmp_path, kind):
    """Of an HDF5 file only what stands in itself is read."""
    write(tmp_path, "h5")
    path, secret = tmp_path / "tf_model.h5", tmp_path / "secret"
    secret.write_bytes(bytes(64))
    name = "bert/tf_bert_for_pre_training/bert/pooler/dense/bias:0"
    if kind == "no file":
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    else:
        with h5py.File(path, "r+") as file:
            del file[name]
            if kind == "external":
                file.create_dataset(name, (8,), "float32", external=[(str(secret), 0, 32)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout((8,), "float32")
                layout[:] = h5py.VirtualSource(str(secret), "w", (8,))
                file.create_virtual_dataset(name, layout)
            elif kind == "compressed":
                file.create_dataset(name, data=np.zeros(8, "float32"), compression="gzip")
            else:
                file[name] = h5py.ExternalLink(str(secret), "w")
    with pytest.raises(ValueError, match=r"tf_model.h5 to be .*Received|Received:\n  1 missing:\n    pooler/bias"):
        kbl.BertEncoder.from_pretrained(tmp_path)


def test_two_weights_of_one_name(tmp_path):
    write(tmp_path, "sharded bin")
    index = json.loads((tmp_path / "pytorch_model.bin.index.json").read_text())
    name = next(name for name, file in index["weight_map"].items() if "00001" in file)
    other = {n: TENSORS[n] for n, file in index["weight_map"].items() if "00002" in file}
    save_torch(tmp_path / "pytorch_model-00002-of-00002.bin", other | {name: TENSORS[name]})
    with pytest.raises(ValueError, match=r"twice in"):
        read_checkpoint(tmp_path)


def test_safetensors_beside_a_bin(tmp_path):
    """Both forms of half precision too."""
    write_config(tmp_path)
    save_file(TENSORS, tmp_path / "model.safetensors")
    save_torch(tmp_path / "pytorch_model.bin", {"something": np.ones(2)})
    assert len(read_checkpoint(tmp_path)) == len(TENSORS)
