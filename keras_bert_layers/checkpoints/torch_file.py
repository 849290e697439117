"""Reads what `torch.save` wrote, without PyTorch and without running anything that the file says."""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from keras_bert_layers.checkpoints.checkpoint_file import check_file

# The names and shapes of some 100,000 tensors.
_MAX_PICKLE_BYTES = 64 * 2**20
_MAX_ZIP_ENTRIES = 200_000
_MAX_RANK = 16
# How files of PyTorch before 1.6 begin: the pickled number 0x1950a86a20f9469cfc6c, and then the version 1001.
_LEGACY_START, _LEGACY_VERSION = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 1001

# Names that a file may have, and what they are.
_DICT, _TENSOR, _OLD_TENSOR, _PARAMETER = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter",
)
_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_NAMES = {_DICT, _TENSOR, _OLD_TENSOR, _PARAMETER, *_STORAGES}

_SAVE_AGAIN = (
    "Where you trust it and have PyTorch, save its weights alone: model.save_pretrained(directory), which writes "
    "model.safetensors, or torch.save(model.state_dict(), path)."
)


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name that stands for itself: nothing is imported."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Where the numbers of tensors lie: a part of the file."""

    dtype: str
    key: str
    size: int


@dataclasses.dataclass(frozen=True)
class TorchTensor:
    """A tensor as the file describes it.

    Args:
        storage: the key of its numbers in the file.
        dtype: NumPy's name of their type.
        offset: the place of its first number.
        shape: its shape.
        strides: how far apart its numbers are in each dimension.
        storage_size: how many numbers there are.
    """

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    storage_size: int


class TorchFile:
    """The tensors in a file of `torch.save`: a dict of them, in the zip form or in that of PyTorch before 1.6.

    The pickle inside is interpreted here: it can make dicts, lists, tuples, numbers, strings and descriptions of
    tensors, and nothing else. What it says of sizes is compared with the file before anything is made.

    Args:
        path: the file.

    Attributes:
        tensors: the tensors by name.

    Raises:
        FileNotFoundError, PermissionError, OSError: if there is no such file or it cannot be read.
        ValueError: if it is something else, damaged, or names anything but tensors.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        check_file(self.path)
        self._size = self.path.stat().st_size
        # Key -> where its numbers begin, and how many bytes they have.
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with self.path.open("rb") as file:
                if file.read(4) == b"PK\x03\x04":
                    contents = self._read_zip(file)
                else:
                    file.seek(0)
                    contents = self._read_legacy(file)
        except (
            *(ValueError, LookupError, OverflowError, NotImplementedError, EOFError),
            *(struct.error, zipfile.BadZipFile),
        ) as error:
            # A number of any length can stand in the place of a name.
            reason = str(error)[:500]
            raise ValueError(
                f"Expected {self.path} to be a file of weights that torch.save wrote. Received: {reason}. {_SAVE_AGAIN}"
            ) from error
        self.tensors: dict[str, TorchTensor] = {
            name: value for name, value in contents.items() if isinstance(value, TorchTensor)
        }

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Checks what the file says of a tensor, and gives its shape.

        Args:
            name: one of `tensors`.

        Returns:
            The shape.

        Raises:
            ValueError: if the tensor does not lie in the file, or its numbers lie over each other.
        """
        tensor = self.tensors[name]
        reason = self._problem(tensor)
        if reason:
            raise ValueError(
                f"Expected the weight {name!r} to lie in {self.path}. Received: {reason}. The file is damaged, or made "
                "to harm: copy or download it again from where you trust."
            )
        return tensor.shape

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor.

        Args:
            name: one of `tensors`.

        Returns:
            An array of the tensor's shape and type.

        Raises:
            ValueError: as `shape_of`.
        """
        shape = self.shape_of(name)
        tensor = self.tensors[name]
        dtype = _dtype(tensor.dtype)
        start, _ = self._places[tensor.storage]
        if 0 in shape:
            return np.zeros(shape, dtype)
        numbers = np.memmap(self.path, dtype, "r", start, (tensor.storage_size,))
        strides = [stride * dtype.itemsize if n > 1 else 0 for stride, n in zip(tensor.strides, shape, strict=True)]
        return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, strides, writeable=False)

    def _problem(self, tensor: TorchTensor) -> str | None:
        place = self._places.get(tensor.storage)
        if place is None:
            return f"no numbers with the key {tensor.storage[:100]!r}"
        start, size = place
        itemsize = _dtype(tensor.dtype).itemsize
        if tensor.storage_size * itemsize != size or start + size > self._size:
            return f"{size} bytes for {tensor.storage_size} numbers of type {tensor.dtype}"
        if 0 in tensor.shape:
            return None
        last = tensor.offset
        # Of dimensions of one number the stride means nothing.
        dimensions = sorted((s, n) for s, n in zip(tensor.strides, tensor.shape, strict=True) if n > 1)
        reach = 0
        for stride, length in dimensions:
            if stride <= reach:
                return f"strides {tensor.strides} with which its numbers lie over each other"
            reach += stride * (length - 1)
        last += reach
        if last >= tensor.storage_size:
            return f"a tensor up to number {last} of {tensor.storage_size}"
        return None

    def _read_zip(self, file: BinaryIO) -> dict[str, Any]:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        names = {entry.filename: entry for entry in entries}
        if len(names) != len(entries) or len(entries) > _MAX_ZIP_ENTRIES:
            raise ValueError(f"a zip file with {len(entries)} entries, {len(names)} of which have names of their own")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"a zip file with {len(pickles)} entries data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        for entry in entries:
            if not entry.filename.startswith(root):
                continue
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"the compressed entry {entry.filename[:100]!r}, which torch.save does not write")
            self._places[entry.filename] = self._data_of(file, entry), entry.file_size
        order = self._places.pop(f"{root}byteorder", None)
        if order is not None and self._bytes(file, *order) != b"little":
            raise ValueError("numbers that are not little-endian")
        contents = _interpret(io.BytesIO(self._bytes(file, *self._places.pop(pickles[0]))), {})
        prefix = f"{root}data/"
        self._places = {
            name.removeprefix(prefix): place for name, place in self._places.items() if name.startswith(prefix)
        }
        return _weights(contents)

    def _data_of(self, file: BinaryIO, entry: zipfile.ZipInfo) -> int:
        """Where an entry's bytes begin: behind its own header, whose length the zip file's directory does not say."""
        file.seek(min(max(entry.header_offset, 0), self._size))
        header = file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise ValueError(f"no entry where {entry.filename[:100]!r} should be")
        name_length, extra_length = struct.unpack_from("<HH", header, 26)
        start = entry.header_offset + 30 + name_length + extra_length
        if not 0 <= start <= self._size - entry.file_size:
            raise ValueError(f"the entry {entry.filename[:100]!r}, which does not lie in the file")
        return start

    def _bytes(self, file: BinaryIO, start: int, size: int) -> bytes:
        if size > _MAX_PICKLE_BYTES:
            raise ValueError(f"a pickle of {size:,} bytes, where {_MAX_PICKLE_BYTES:,} are the most")
        file.seek(start)
        return file.read(size)

    def _read_legacy(self, file: BinaryIO) -> dict[str, Any]:
        if file.read(len(_LEGACY_START)) != _LEGACY_START:
            raise ValueError("neither a zip file nor the form before PyTorch 1.6")
        storages: dict[str, _Storage] = {}
        # Read at once, for a pickle may say that a string is longer than all memory.
        pickles = io.BytesIO(file.read(_MAX_PICKLE_BYTES))
        version, system, contents, keys = (_interpret(pickles, storages) for _ in range(4))
        if version != _LEGACY_VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("a version or an order of bytes that is not read")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("no list of what is stored")
        # Behind the pickles: of each storage the number of its numbers, and these.
        place = len(_LEGACY_START) + pickles.tell()
        for key in keys:
            file.seek(place)
            (count,) = struct.unpack("<q", file.read(8))
            size = count * _dtype(storages[key].dtype).itemsize
            if not 0 <= size <= self._size - place - 8:
                raise ValueError(f"the storage {key[:100]!r} of {count} numbers, which is longer than the file")
            self._places[key] = place + 8, size
            place += 8 + size
        return _weights(contents)


def _weights(contents: Any) -> dict[str, Any]:
    if not isinstance(contents, dict):
        raise ValueError(f"a {type(contents).__name__} in the place of a dict of tensors")
    return contents


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        # NumPy knows no bfloat16 before this import.
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<")


def _interpret(file: io.BytesIO, storages: dict[str, _Storage]) -> Any:
    """Does what one pickle says, as far as it is known to be harmless, and notes the storages that it names."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        if name == "STOP":
            (result,) = stack
            return result
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _ARGUMENTS:
            stack.append(argument)
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_name(argument.split(" ") if name == "GLOBAL" else _pop(stack, 2)))
        elif name in _TUPLES:
            stack.append(tuple(_pop(stack, _TUPLES[name])))
        elif name in ("TUPLE", "LIST", "APPENDS", "SETITEMS"):
            items = _pop(stack, len(stack) - marks.pop())
            if name in ("TUPLE", "LIST"):
                stack.append(tuple(items) if name == "TUPLE" else items)
            elif name == "APPENDS":
                _of(list, stack[-1]).extend(items)
            else:
                _set_items(stack[-1], items)
        elif name == "APPEND":
            (item,) = _pop(stack, 1)
            _of(list, stack[-1]).append(item)
        elif name == "SETITEM":
            items = _pop(stack, 2)
            _set_items(stack[-1], items)
        elif name == "BINPERSID":
            (described,) = _pop(stack, 1)
            stack.append(_storage(described))
            storages[stack[-1].key] = stack[-1]
        elif name == "REDUCE":
            called, arguments = _pop(stack, 2)
            stack.append(_call(called, arguments))
        elif name == "BUILD":
            # The attributes of a dict of weights, such as its `_metadata`.
            _pop(stack, 1)
            _of(dict, stack[-1])
        else:
            raise ValueError(f"a pickle with the operation {name}, which weights do not need")
    raise ValueError("a pickle without an end")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_ARGUMENTS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    # Strings of Python 2.
    *("BINSTRING", "SHORT_BINSTRING"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _pop(stack: list[Any], count: int) -> list[Any]:
    if not 0 <= count <= len(stack):
        raise ValueError("a pickle that takes more than there is")
    items = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return items


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a pickle with a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def _set_items(target: Any, items: list[Any]) -> None:
    names = items[::2]
    # Other keys could take forever to compare.
    if len(items) % 2 or not all(isinstance(name, (str, int)) for name in names):
        raise ValueError("a dict whose keys are no names")
    _of(dict, target).update(zip(names, items[1::2], strict=True))


def _name(words: Any) -> _Name:
    name = ".".join(map(str, words)) if all(isinstance(word, str) for word in words) else "no name"
    if name not in _NAMES:
        raise ValueError(
            f"the name {name[:200]!r}, which is none of {', '.join(sorted(_NAMES - _STORAGES.keys()))} and of torch's "
            "storages; nothing of the file was run"
        )
    return _Name(name)


def _storage(described: Any) -> _Storage:
    if (
        not isinstance(described, tuple)
        or len(described) not in (5, 6)
        or described[0] != "storage"
        or not isinstance(described[1], _Name)
        or described[1].name not in _STORAGES
        or not isinstance(described[2], str)
        or not _is_size(described[4])
        or (len(described) == 6 and described[5] is not None)
    ):
        raise ValueError("an object outside the pickle that is no storage of a tensor, or a view of one")
    return _Storage(_STORAGES[described[1].name], described[2], described[4])


def _call(called: Any, arguments: Any) -> Any:
    name = called.name if isinstance(called, _Name) else type(called).__name__
    if name not in (_DICT, _TENSOR, _OLD_TENSOR, _PARAMETER):
        raise ValueError(f"a call of {name}")
    _of(tuple, arguments)
    if name == _DICT:
        items: dict[str, Any] = {}
        for pair in _of(list, arguments[0]) if arguments else []:
            _set_items(items, list(pair) if isinstance(pair, (list, tuple)) and len(pair) == 2 else [None])
        return items
    if name == _PARAMETER:
        return _of(TorchTensor, arguments[0])
    storage, offset, shape, strides = arguments[:4]
    if (
        not isinstance(storage, _Storage)
        or not _is_size(offset)
        or not isinstance(shape, tuple)
        or not isinstance(strides, tuple)
        or len(shape) != len(strides)
        or len(shape) > _MAX_RANK
        or not all(map(_is_size, (*shape, *strides)))
    ):
        raise ValueError("a tensor that is described in another way")
    return TorchTensor(storage.key, storage.dtype, offset, shape, strides, storage.size)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62
