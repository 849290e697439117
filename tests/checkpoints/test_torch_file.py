"""Files of PyTorch without PyTorch: real ones, written ones, and those that would do harm."""

import collections
import io
import os
import pathlib
import pickle
import random
import struct
import tarfile
import zipfile

import ml_dtypes
import numpy as np
import pytest

from keras_bert_layers.checkpoints.torch_file import TorchFile

from .torch_writer import Tensor, save_torch, save_zip


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    return tmp_path / "pytorch_model.bin"


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("is_parameter", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_what_was_saved_is_read(path, legacy, is_parameter):
    tensors = {
        "half": numbers(3, 4).astype("float16"),
        "brain": numbers(2, 3).astype(ml_dtypes.bfloat16),
        "double": numbers(5).astype("float64"),
        "positions": np.arange(6).reshape(1, 6),
        "scalar": numbers(),
        "nothing": numbers(0, 3),
        "matrix": numbers(4, 5),
    }
    transposed = Tensor(numbers(4, 5), shape=(5, 4), strides=(1, 5))
    part = Tensor(numbers(4, 5), offset=5, shape=(2, 5), strides=(5, 1))
    state = collections.OrderedDict(**tensors, transposed=transposed, part=part, epoch=3)
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    save_torch(path, state, legacy, is_parameter)
    file = TorchFile(path)
    assert list(file.tensors) == [*tensors, "transposed", "part"]
    expected = {**tensors, "transposed": numbers(4, 5).T, "part": numbers(4, 5)[1:3]}
    for name, values in expected.items():
        assert file.shape_of(name) == values.shape
        read = file.read(name)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


def test_real_files(data_directory, path):
    folder = data_directory / "checkpoints"
    file = TorchFile(folder / "huggingface_bin_token_classifier" / "pytorch_model.bin")
    assert file.shape_of("bert.embeddings.word_embeddings.weight") == (402, 16)
    np.testing.assert_array_equal(file.read("bert.embeddings.position_ids"), np.arange(16)[None])
    np.testing.assert_array_equal(file.read("bert.embeddings.LayerNorm.weight"), np.ones(16))
    with tarfile.open(folder / "huggingface_bin_legacy" / "bert_test_fixture.tar.gz") as archive:
        path.write_bytes(archive.extractfile("pytorch_model.bin").read())
    file = TorchFile(path)
    assert len(file.tensors) == 47
    assert file.shape_of("bert.encoder.layer.0.attention.self.query.weight") == (12, 12)
    assert all(np.abs(file.read(name)).max() < 1 for name in file.tensors)


class Call:
    """Pickled as the call of something."""

    def __init__(self, function, *arguments) -> None:
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


MARKER = "PICKLE_WAS_RUN"
HARMFUL = {
    "os.system": lambda: Call(os.system, f"touch {MARKER}"),
    "eval": lambda: Call(eval, f"open({MARKER!r}, 'w')"),
    "exec": lambda: {"weights": Call(exec, f"open({MARKER!r}, 'w')")},
    "nested": lambda: collections.OrderedDict(a=[(Call(Call, os.system, "x"),)]),
    "getattr": lambda: Call(getattr, Call(__import__, "os"), "system"),
    "numpy": lambda: {"a": np.float64(1)},
    "class": lambda: {"a": pathlib.PurePosixPath("x")},
    "set": lambda: {"a": {1, 2}},
    "bytes": lambda: {"a": bytearray(b"x")},
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", HARMFUL)
@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_is_run(path, tmp_path, monkeypatch, name, protocol, legacy):
    monkeypatch.chdir(tmp_path)
    body = pickle.dumps(HARMFUL[name](), protocol)
    if legacy:
        start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(value, 2) for value in start) + body + pickle.dumps([], 2))
    else:
        save_zip(path, body, {})
    with pytest.raises(ValueError, match=r"Expected .*pytorch_model.bin to be .*Received: .*model.save_pretrained"):
        TorchFile(path)
    assert not os.path.exists(MARKER)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00lsR.", "'posix.system', which is none of"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "'os.system', which is none of"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.", "a _Name in the place of a dict"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "Received"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01R.", "a int in the place of a tuple"),
        (b"\x80\x02ccollections\nOrderedDict\n]}b.", "a list in the place of a dict"),
        (b"\x80\x02}K\x01R.", "a call of dict"),
        # A place of the memo, a string and a frame that would take all memory.
        (b"\x80\x02}r\xff\xff\xff\xff.", None),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "Received"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.", "Received"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", None),
        (b"\x80\x02" + b"(" * 1000 + b"t" * 1000 + b".", "Received"),
        # Tuples of the same tuples, whose hash takes 2 ** 100 steps.
        (b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 100 + b"K\x01s.", "keys are no names"),
        (b"\x80\x02}", "without an end|Received"),
        (b"", "Received"),
        (b"\x80\x02}}.", "Received"),
        (b"\x80\x02e.", "Received"),
        (b"\x80\x02h\x05.", "Received"),
        (b"\x80\x02\x82\x01.", "the operation EXT1"),
        (b"\x80\x02(iposix\nsystem\n.", "the operation INST"),
        (b"\x80\x02]K\x01Q.", "outside the pickle"),
    ],
)
def test_pickles_written_by_hand(path, body, message):
    save_zip(path, body, {})
    if message is None:
        assert TorchFile(path).tensors == {}
        return
    with pytest.raises(ValueError, match=message):
        TorchFile(path)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor(numbers(6), shape=(7,)), "up to number 6 of 6"),
        (Tensor(numbers(6), offset=1, shape=(6,)), "up to number 6 of 6"),
        (Tensor(numbers(6), offset=2**40, shape=()), "up to number 1099511627776 of 6"),
        (Tensor(numbers(6), shape=(2**40,), strides=(0,)), "lie over each other"),
        (Tensor(numbers(6), shape=(2**40, 2**20), strides=(0, 0)), "lie over each other"),
        (Tensor(numbers(6), shape=(2, 3), strides=(1, 1)), "lie over each other"),
        (Tensor(numbers(6), shape=(2, 3), strides=(2**60, 1)), "up to number"),
        (Tensor(numbers(6), shape=(2**63,), strides=(1,)), ""),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_outside_their_numbers(path, tensor, message, legacy):
    save_torch(path, {"good": numbers(2), "bad": tensor}, legacy)
    if not message:
        with pytest.raises(ValueError, match="described in another way"):
            TorchFile(path)
        return
    file = TorchFile(path)
    np.testing.assert_array_equal(file.read("good"), numbers(2))
    with pytest.raises(ValueError, match=rf"the weight 'bad' to lie in .*{message}"):
        file.read("bad")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((-1,), (1,), 0), ((2,), (-1,), 1), ((2,), (1,), -1), ((2.0,), (1,), 0), ((2,), (1, 1), 0), ((True,), (1,), 0)],
)
def test_sizes_that_are_none(path, shape, strides, offset):
    tensor = Tensor(numbers(6))
    tensor.arguments = offset, shape, strides
    save_torch(path, {"bad": tensor})
    with pytest.raises(ValueError, match="described in another way"):
        TorchFile(path)


def test_storages_that_the_file_does_not_hold(path):
    save_torch(path, {"w": numbers(6)})
    with zipfile.ZipFile(path) as archive:
        body = archive.read("archive/data.pkl")
    for storages, message in (({}, "no numbers with the key '0'"), ({"0": b"1234"}, "4 bytes for 6 numbers")):
        save_zip(path, body, storages)
        with pytest.raises(ValueError, match=message):
            TorchFile(path).shape_of("w")
    save_zip(path, body, {"0": bytes(24)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="the compressed entry"):
        TorchFile(path)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", b"}.")
        archive.writestr("b/data.pkl", b"}.")
    path.write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="2 entries data.pkl"):
        TorchFile(path)


def test_damaged_files(path):
    for content, message in ((b"x" * 100, "neither a zip file nor"), (b"PK\x03\x04" + bytes(100), "Received")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            TorchFile(path)
    chance = random.Random(7)
    for legacy in (False, True):
        save_torch(path, {"w": numbers(3, 4), "b": numbers(4)}, legacy)
        whole = path.read_bytes()
        for number in range(400):
            damaged = bytearray(whole)
            if number % 4 == 0:
                del damaged[chance.randrange(len(whole)) :]
            for _ in range(number % 4):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            path.write_bytes(damaged)
            try:
                file = TorchFile(path)
                for name in file.tensors:
                    assert file.read(name).size < 100
            except ValueError as error:
                assert "xpected" in str(error)  # noqa: PT017 - most are refused, some are not


def test_other_orders_of_bytes_and_views(path):
    save_torch(path, {"w": numbers(6)}, legacy=True)
    path.write_bytes(path.read_bytes().replace(b"little_endianq\x01\x88", b"little_endianq\x01\x89"))
    with pytest.raises(ValueError, match="an order of bytes"):
        TorchFile(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"}.")
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(ValueError, match="not little-endian"):
        TorchFile(path)
    save_torch(path, {"w": numbers(6)}, legacy=True)
    content = path.read_bytes()
    (count,) = struct.unpack_from("<q", content, len(content) - 32)
    assert count == 6
    path.write_bytes(content[:-32] + struct.pack("<q", 2**40) + content[-24:])
    with pytest.raises(ValueError, match="longer than the file"):
        TorchFile(path)
